"""MNIST, Fashion-MNIST, CIFAR-10 and scikit-learn's digits as tensors; every file is checked before it is used."""

import gzip
import hashlib
import http.client
import os
import queue
import socket
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

# The folder of each data set, as torchvision lays it out under a data folder, and the SHA-256 of its files.
# - mnist: the four IDX files as they unpack from the originals.
# - fashion_mnist: the four archives, as in the checksum file of TensorFlow Datasets. No digest of the unpacked files is
#   published, so those are compared with what the archives hold.
# - cifar10: the unpacked batches, on whose digests several independent projects agree. They are pickles: a found one is
#   never opened before it is checked, a downloaded one is opened once by torchvision, which checks its MD5 before.
_PUBLISHED = {
    "mnist": (
        "MNIST/raw",
        {
            "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
    ),
    "fashion_mnist": (
        "FashionMNIST/raw",
        {
            "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        },
    ),
    "cifar10": (
        "cifar-10-batches-py",
        {
            "data_batch_1": "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd",
            "data_batch_2": "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8",
            "data_batch_3": "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9",
            "data_batch_4": "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b",
            "data_batch_5": "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154",
            "test_batch": "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831",
            "batches.meta": "f962466ef690d46b226450fb9aadc74ba4bc64a76aa526b5827fe4bc5c7125cb",
        },
    ),
}
_NAMES = (*_PUBLISHED, "digits")
_SPLITS = ("train", "test")

# Answer of a mirror, and silence in the middle of a download, in seconds, after which we say that there is no network.
_ANSWER_TIMEOUT, _STALL_TIMEOUT = 5.0, 15.0

# Data sets that this process has replaced by the digits: one line says it, and the other split is replaced as well.
_replaced: set[str] = set()


@dataclass(frozen=True)
class Images:
    """Pictures with their labels.

    Attributes:
        images: gray levels or colors in [0, 1].
        labels: the class of each picture, counted from 0.
        name: the data set that was really loaded, "digits" when that replaced another one.
    """

    images: Float[Tensor, "num channels height width"]
    labels: Int[Tensor, " num"]
    name: str


class Copy(NamedTuple):
    """What is known about a data set on this machine: its folder, whether every file is right, and if not, why."""

    name: str
    folder: Path | None
    verified: bool
    note: str


def load(
    name: str, split: str = "train", *, fallback: bool = True, device: torch.device | str = "cpu"
) -> Images:
    """Return a data set as tensors on the device.

    Looks for the files, laid out as torchvision does, in the folder $COMPANION_DATA, if set, and in the user's cache
    ($COMPANION_CACHE, if set), and else downloads them through torchvision into the cache. Every file is compared with
    its SHA-256 before it is read; a copy of Fashion-MNIST needs its .gz files beside the unpacked ones for that.

    Args:
        name: "mnist" and "fashion_mnist" (60,000 + 10,000 of 1x28x28), "cifar10" (50,000 + 10,000 of 3x32x32), or
            "digits" (1,442 + 355 of 1x8x8, bundled with scikit-learn; every fifth of a class is in the test split).
        split: "train" or "test".
        fallback: whether, with neither a copy nor a network, "digits" may stand in for the first two names: enlarged to
            28x28 and shifted nine ways, 12,978 + 3,195 pictures. One printed line says so.
        device: where the tensors shall live.

    Raises:
        ValueError: if the name or the split is unknown, or a file, found or downloaded, is not the published one.
        FileNotFoundError: if there is neither a copy nor a network, and no fallback.
    """
    if name not in _NAMES:
        raise ValueError(f"name must be one of {', '.join(_NAMES)}; {name!r} was given")
    if split not in _SPLITS:
        raise ValueError(f"split must be one of {', '.join(_SPLITS)}; {split!r} was given")
    if name == "digits":
        images, labels = _digits(split)
        return Images(images.to(device), labels.to(device), "digits")
    fallback = fallback and name in ("mnist", "fashion_mnist")
    folder = find(name)
    if folder is None and not (fallback and name in _replaced):
        try:
            folder = _download(name)
        except ConnectionError as error:
            if not fallback:
                raise FileNotFoundError(_no_copy(name, error)) from error
            _replaced.add(name)
            digits = "scikit-learn's 1,797 handwritten digits at 28x28"
            print(f"data: no copy of {name} and {error}; using {digits} instead")
    if folder is None:
        images, labels = _shifted_digits(split)
        return Images(images.to(device), labels.to(device), "digits")
    _check_files(name, folder)
    pixels, labels = _read(name, folder, split)
    return Images(pixels.to(device).float() / 255, labels.to(device), name)


def binarize(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Draw black-and-white pictures: a pixel is 1 with its gray level as probability.

    Drawn anew for every batch of a training, this is dynamic binarization.

    Raises:
        ValueError: if x has values outside [0, 1].

    Source: Salakhutdinov & Murray 2008; Burda et al. 2016, section 5.1.
    """
    low, high = x.aminmax()
    if not (low >= 0 and high <= 1):
        raise ValueError(f"x must lie in [0, 1]; {low:.4g} to {high:.4g} was given")
    # On a CPU, torch.bernoulli takes three times as long.
    return (torch.rand_like(x) < x).to(x.dtype)


def find(name: str) -> Path | None:
    """Return the folder that holds all files of a data set, whatever is in them, or None.

    $COMPANION_DATA comes first, then the cache. "digits" is part of scikit-learn and has no folder.

    Raises:
        ValueError: if the name is unknown.
    """
    if name not in _NAMES:
        raise ValueError(f"name must be one of {', '.join(_NAMES)}; {name!r} was given")
    if name == "digits":
        return None
    given = os.environ.get("COMPANION_DATA")
    for folder in ([Path(given).expanduser()] if given else []) + [cache_dir()]:
        if all((folder / file).is_file() for file in _files(name)):
            return folder
    return None


def describe() -> list[Copy]:
    """Return, for each data set, where it was found and whether every file is the published one; downloads nothing."""
    copies = []
    for name in _NAMES:
        folder = find(name)
        note, verified = "verified", True
        if name == "digits":
            note = "bundled with scikit-learn"
        elif folder is None:
            note, verified = "no copy; load downloads it", False
        else:
            try:
                _check_files(name, folder)
            except ValueError as error:
                note, verified = str(error), False
        copies.append(Copy(name, folder, verified, note))
    return copies


def cache_dir() -> Path:
    """The folder that downloads are kept in: $COMPANION_CACHE, else the user's cache folder; it may not exist."""
    from platformdirs import user_cache_path

    given = os.environ.get("COMPANION_CACHE", "")
    return Path(given).expanduser() if given else user_cache_path("companion")


def _files(name: str) -> list[str]:
    """Return the paths of all files of a data set that we need, relative to its folder."""
    folder, digests = _PUBLISHED[name]
    return [
        f"{folder}/{file}"
        for file in sorted({*digests, *(file.removesuffix(".gz") for file in digests)})
    ]


def _check_files(
    name: str, root: Path, advice: str = "delete the file to have it downloaded again"
) -> None:
    """Raise ValueError, naming the file, unless every file is the published one."""
    folder, digests = _PUBLISHED[name]
    for file, expected in digests.items():
        path = root / folder / file
        _check_file(path, expected, advice)
        if file.endswith(".gz"):
            _check_file(path.with_suffix(""), _digest(path, unpack=True), advice)


def _check_file(path: Path, expected: str, advice: str) -> None:
    """Raise ValueError unless the file has the expected SHA-256."""
    found = _digest(path)
    if found != expected:
        raise ValueError(
            f"{path} is truncated or altered and is not used: its SHA-256 must be {expected}, but its "
            f"{path.stat().st_size:,} bytes have {found}; {advice}"
        )


def _digest(path: Path, unpack: bool = False) -> str:
    """Return the SHA-256 of a file, or of what a .gz file holds, remembered for as long as the file does not change."""
    stat = path.stat()
    return _digest_of_state(path, stat.st_size, stat.st_mtime_ns, unpack)


@cache
def _digest_of_state(path: Path, _size: int, _mtime_ns: int, unpack: bool) -> str:
    with gzip.open(path) if unpack else path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(name: str, folder: Path, split: str) -> tuple[Tensor, Tensor]:
    """Read checked files: bytes of shape (num, channels, height, width) and labels."""
    data_set = _torchvision_class(name)(str(folder), train=split == "train", download=False)
    labels = torch.as_tensor(data_set.targets)
    if name == "cifar10":
        return torch.from_numpy(data_set.data).permute(0, 3, 1, 2).contiguous(), labels
    return data_set.data[:, None], labels


def _torchvision_class(name: str) -> Any:
    """Return torchvision's class for a data set, imported only now: it takes as long to import as torch itself."""
    from torchvision import datasets

    return {
        "mnist": datasets.MNIST,
        "fashion_mnist": datasets.FashionMNIST,
        "cifar10": datasets.CIFAR10,
    }[name]


def _download(name: str) -> Path:
    """Download a data set into the cache and return that folder; a file is put there only when it has been checked.

    Raises:
        ConnectionError: if the network, or the mirrors, cannot be reached; its text goes on from "no copy and ...".
        ValueError: if a downloaded file is not the published one.
    """
    kind = _torchvision_class(name)
    mirrors = (
        [kind.url]
        if name == "cifar10"
        else [mirror + kind.resources[0][0] for mirror in kind.mirrors]
    )
    if not _any_answers(mirrors):
        raise ConnectionError("no network")
    target = cache_dir()
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target, prefix=".download-") as temporary:
        try:
            with _socket_timeout(_STALL_TIMEOUT):
                kind(temporary, train=True, download=True)
        # A full disk or a folder without permission is an OSError too, but none of these: it passes as it is.
        except (
            urllib.error.URLError,
            TimeoutError,
            ConnectionError,
            http.client.HTTPException,
            RuntimeError,
        ) as error:
            reason = " ".join(str(error).split())
            raise ConnectionError(f"its download failed ({reason[:150]})") from error
        _check_files(
            name,
            Path(temporary),
            "it came from the network and was dropped, and the cache is as it was",
        )
        for file in _files(name):
            (target / file).parent.mkdir(parents=True, exist_ok=True)
            (Path(temporary) / file).replace(target / file)
    return target


def _any_answers(urls: list[str]) -> bool:
    """Return whether a server answers within a few seconds."""
    answers: queue.Queue[bool] = queue.Queue()

    def ask(url: str) -> None:
        try:
            urllib.request.urlopen(
                urllib.request.Request(url, method="HEAD"), timeout=_ANSWER_TIMEOUT
            ).close()
            answers.put(True)
        except urllib.error.HTTPError:
            # An answer all the same; the download itself will say what is wrong.
            answers.put(True)
        except (OSError, http.client.HTTPException):
            answers.put(False)

    # Threads, since looking up a name has no time limit of its own.
    for url in urls:
        threading.Thread(target=ask, args=(url,), daemon=True).start()
    with suppress(queue.Empty):
        return any(answers.get(timeout=_ANSWER_TIMEOUT) for _ in urls)
    return False


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Limit how long a connection may be silent: torchvision sets no limit itself."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _no_copy(name: str, error: Exception) -> str:
    """Say in one sentence that a data set cannot be had."""
    return (
        f"no copy of {name} in $COMPANION_DATA or in the cache {cache_dir()}, and {error}; "
        "set COMPANION_DATA to a folder that torchvision has filled, or connect and try again"
    )


def _digits(split: str) -> tuple[Float[Tensor, "num 1 8 8"], Int[Tensor, " num"]]:
    """Return scikit-learn's digits; every fifth example of each class belongs to the test split."""
    from sklearn.datasets import load_digits

    bundle = load_digits()
    labels = torch.from_numpy(bundle.target).long()
    rank = torch.empty_like(labels)  # the how-manieth of its class an example is
    for label in labels.unique():
        rank[labels == label] = torch.arange(int((labels == label).sum()))
    chosen = (rank % 5 == 4) == (split == "test")
    images = torch.from_numpy(bundle.images).float() / 16
    return images[chosen, None], labels[chosen]


def _shifted_digits(split: str) -> tuple[Float[Tensor, "num 1 28 28"], Int[Tensor, " num"]]:
    """Return the digits enlarged to 24x24 on 28x28 black pixels, shifted by -2, 0 or 2 pixels both ways.

    The unshifted ones come first. All shifts of a digit are in its split, so that nothing of the test is trained on.
    """
    images, labels = _digits(split)
    large = F.pad(F.interpolate(images, size=24, mode="bilinear"), [2, 2, 2, 2])
    shifts = sorted(
        ((down, right) for down in (-2, 0, 2) for right in (-2, 0, 2)),
        key=lambda shift: shift != (0, 0),
    )
    # The frame is two pixels wide, so nothing but black wraps around.
    return torch.cat([large.roll(shift, dims=(2, 3)) for shift in shifts]), labels.repeat(
        len(shifts)
    )
