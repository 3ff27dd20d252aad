"""MNIST, Fashion-MNIST, CIFAR-10 and scikit-learn's digits as tensors; every file is checked before it is used."""

import gzip
import hashlib
import itertools
import os
import tarfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from companion import checks


class _Source(NamedTuple):
    """Where a data set comes from, and the SHA-256 of what is downloaded and of what is read."""

    folder: str  # under a data folder, as torchvision lays it out
    url: str
    archives: dict[str, str]
    files: dict[str, str]


# Several independent projects agree on the digests. No digest of Fashion-MNIST's unpacked files is
# published, so they are compared with what the archives beside them hold. The files of CIFAR-10
# are pickles: none is opened before it is checked.
_SOURCES = {
    "mnist": _Source(
        "MNIST/raw",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        {
            "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        },
        {
            "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        },
    ),
    "fashion_mnist": _Source(
        "FashionMNIST/raw",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        {
            "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        },
        {},
    ),
    "cifar10": _Source(
        "cifar-10-batches-py",
        "https://www.cs.toronto.edu/~kriz/",
        {
            "cifar-10-python.tar.gz": "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
        },
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
_NAMES = (*_SOURCES, "digits")

# How long to wait for an answer, and for a silent download to go on, in seconds.
_ANSWER_TIMEOUT, _STALL_TIMEOUT = 5.0, 15.0

# Data sets that this process has replaced by the digits: one line says it, and the other split is replaced as well.
_replaced: set[str] = set()


@dataclass(frozen=True)
class Images:
    """Images with their labels.

    Attributes:
        images: gray levels or colors in [0, 1].
        labels: the class of each image, counted from 0.
        name: the data set that was really loaded, "digits" when that replaced another one.

    Book: chapter 1.
    """

    images: Float[Tensor, "num channels height width"]
    labels: Int[Tensor, " num"]
    name: str


class Copy(NamedTuple):
    """What is known about a data set on this machine: its folder, whether every file is right, and if not, why.

    Book: chapter 1.
    """

    name: str
    folder: Path | None
    verified: bool
    note: str


def load(
    name: str,
    split: str = "train",
    *,
    fallback: bool = True,
    device: torch.device | str | None = None,
) -> Images:
    """Return a data set as tensors on the device.

    It looks for the files, laid out as torchvision does, in the folder $COMPANION_DATA, if set, and in the user's cache
    ($COMPANION_CACHE, if set), and else downloads them into the cache. Every file is compared with its SHA-256 before
    it is read; a copy of Fashion-MNIST needs its .gz files beside the unpacked ones for that.

    Args:
        name: "mnist" and "fashion_mnist" (60,000 + 10,000 of 1x28x28), "cifar10" (50,000 + 10,000 of 3x32x32), or
            "digits" (1,442 + 355 of 1x8x8, bundled with scikit-learn; every fifth of a class is in the test split).
        split: "train" or "test".
        fallback: whether, with neither a copy nor a network, "digits" may stand in for the first two names: enlarged to
            28x28 and shifted nine ways, 12,978 + 3,195 images. One printed line says so.
        device: where the tensors shall live; by default torch's default device.

    Raises:
        ValueError: if the name or the split is unknown, or a file, found or downloaded, is not the published one.
        FileNotFoundError: if there is neither a copy nor a network, and no fallback.
        OSError: if the cache cannot be written.

    Book: chapter 1.
    """
    checks.one_of(_NAMES, name=name)
    checks.one_of(("train", "test"), split=split)
    checks.instance(bool, fallback=fallback)
    device = checks.device(device)
    fallback = fallback and name in ("mnist", "fashion_mnist")
    folder, bundled = find(name), name == "digits"
    if folder is None and not bundled and not (fallback and name in _replaced):
        try:
            folder = _download(name)
        except ConnectionError as error:
            text = f"no copy of {name} in {_places(name)} and {error}"
            if not fallback:
                advice = "set COMPANION_DATA to a folder that torchvision has filled, or connect and try again"
                raise FileNotFoundError(f"{text}; {advice}") from error
            _replaced.add(name)
            text += "; using scikit-learn's 1,797 handwritten digits at 28x28 instead"
            print(f"data: {text}; statements about {name} need not hold for them")
    with torch.device("cpu"):  # files, NumPy and scikit-learn are there
        if folder is None:
            images, labels = _digits(split) if bundled else _shifted_digits(split)
            return Images(images.to(device), labels.to(device), "digits")
        _check_files(name, folder)
        pixels, labels = _read(name, folder, split)
    return Images(pixels.to(device).float() / 255, labels.to(device), name)


def binarize(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Draw black-and-white images: a pixel is 1 with its gray level as probability.

    Drawn anew for every batch of a training, this is dynamic binarization.

    Raises:
        TypeError: if x holds integers.
        ValueError: if x has values outside [0, 1].

    Source: Salakhutdinov & Murray 2008; Burda et al. 2016, section 5.1. Book: chapter 4.
    """
    checks.floating(x=x)
    if checks.reads_at_once(x):  # it is called at each step of a training
        checks.within(0, 1, x=x)
    # On a CPU, torch.bernoulli takes three times as long.
    return (torch.rand_like(x) < x).to(x.dtype)


def to_symmetric(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Images on [0, 1], moved to [-1, 1], where diffusion models have them. Book: chapter 9."""
    checks.floating(x=x)
    if checks.reads_at_once(x):
        checks.within(0, 1, x=x)
    return 2 * x - 1


def to_unit(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Images on [-1, 1], moved to [0, 1]; what a sampler leaves outside is cut off. Book: chapter 9."""
    checks.floating(x=x)
    return (x / 2 + 0.5).clamp(0, 1)


def find(name: str) -> Path | None:
    """Return the folder that holds all files of a data set, whatever is in them, or None.

    $COMPANION_DATA comes first, then the cache. "digits" is part of scikit-learn and has no folder.

    Raises:
        ValueError: if the name is unknown.

    Book: chapter 1.
    """
    checks.one_of(_NAMES, name=name)
    if name == "digits":
        return None
    folders = (data_dir(), cache_dir())
    return next((f for f in folders if f is not None and not _missing(name, f)), None)


def describe() -> list[Copy]:
    """Return, for each data set, where it was found and whether every file is the published one; downloads nothing.

    Book: chapter 1.
    """
    copies = []
    for name in _NAMES:
        folder = find(name)
        note, verified = "bundled with scikit-learn" if name == "digits" else "verified", True
        if folder is None and name != "digits":
            note, verified = f"no copy in {_places(name)}; load downloads it", False
        elif folder is not None:
            try:
                _check_files(name, folder)
            except (ValueError, OSError) as error:
                note, verified = str(error), False
        copies.append(Copy(name, folder, verified, note))
    return copies


def _folder_in(variable: str) -> Path | None:
    """The folder that a variable of the environment names; None if it is not set."""
    given = os.environ.get(variable)
    try:
        return Path(given).expanduser() if given else None
    except RuntimeError as error:
        raise ValueError(f"{variable} must name a folder; {given!r} was given: {error}") from None


def data_dir() -> Path | None:
    """The folder $COMPANION_DATA, which may not exist; None if the variable is not set."""
    return _folder_in("COMPANION_DATA")


def cache_dir() -> Path:
    """The folder that downloads are kept in: $COMPANION_CACHE, else the user's cache folder; it may not exist.

    Book: chapter 1.
    """
    from platformdirs import user_cache_path

    return _folder_in("COMPANION_CACHE") or user_cache_path("companion")


def _missing(name: str, root: Path) -> list[str]:
    """The files of a data set that a folder lacks."""
    source = _SOURCES[name]
    names = source.files or {*source.archives, *(file[:-3] for file in source.archives)}
    return [file for file in sorted(names) if not os.path.isfile(root / source.folder / file)]


def _places(name: str) -> str:
    """Where a copy was looked for, and what is missing in the folder that the user has set."""
    given, cache = data_dir(), f"the cache {cache_dir()}"
    if given is None:
        return cache
    lacks = _missing(name, given)[0] if os.path.isdir(given) else "everything, being no folder"
    return f"$COMPANION_DATA, {given} (it lacks {lacks}), or in {cache}"


def _check_files(name: str, root: Path) -> None:
    """Raise ValueError, naming the file, unless every file is the published one."""
    source = _SOURCES[name]
    folder, expected = root / source.folder, dict(source.files)
    if not expected:
        for archive, digest in source.archives.items():
            _check_file(folder / archive, digest)
            expected[archive[:-3]] = _digest(folder / archive, unpack=True)
    for file, digest in expected.items():
        _check_file(folder / file, digest)


def _check_file(path: Path, expected: str) -> None:
    """Raise ValueError unless the file has the expected SHA-256."""
    found = _digest(path)
    if found != expected:
        raise ValueError(
            f"{path} is truncated or altered and is not used: its SHA-256 must be {expected}, but its "
            f"{path.stat().st_size:,} bytes have {found}; delete the file to have it downloaded again"
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
    # Here, for it takes as long to import as torch itself.
    from torchvision.datasets import CIFAR10, MNIST, FashionMNIST

    kind = {"mnist": MNIST, "fashion_mnist": FashionMNIST, "cifar10": CIFAR10}[name]
    data_set: Any = kind(str(folder), train=split == "train")
    labels = torch.as_tensor(data_set.targets)
    if name == "cifar10":
        return torch.from_numpy(data_set.data).permute(0, 3, 1, 2).contiguous(), labels
    return data_set.data[:, None], labels


def _download(name: str) -> Path:
    """Download a data set into the cache and return that folder; a file is put there only when it has been checked.

    Raises:
        ConnectionError: if the network cannot be reached; its text goes on from "no copy in ... and ...".
        ValueError: if a downloaded file is not the published one.
        OSError: if the cache cannot be written.
    """
    import pooch
    import requests

    source, target = _SOURCES[name], cache_dir()
    try:
        # One question first, for a download is tried several times.
        requests.head(source.url + next(iter(source.archives)), timeout=_ANSWER_TIMEOUT)
    except requests.RequestException as error:
        raise ConnectionError("no network") from error
    print(f"data: downloading {name}, for no copy is in {_places(name)}", flush=True)
    registry = {file: f"sha256:{digest}" for file, digest in source.archives.items()}
    store = pooch.create(target / source.folder, source.url, registry=registry, retry_if_failed=2)
    downloader = pooch.HTTPDownloader(timeout=(_ANSWER_TIMEOUT, _STALL_TIMEOUT))
    for file in registry:
        try:
            _unpack(Path(store.fetch(file, downloader=downloader)))
        except requests.RequestException as error:
            reason = " ".join(str(error).split())[:150]
            raise ConnectionError(f"its download failed ({reason})") from error
        except ValueError as error:
            text = (
                f"{source.url}{file} is truncated or altered and was dropped: its SHA-256 must be"
            )
            raise ValueError(f"{text} {source.archives[file]}") from error
    return target


def _unpack(archive: Path) -> None:
    """Put the files of an archive beside it, each at once."""
    if archive.name.endswith(".tar.gz"):
        with tarfile.open(archive) as tar:
            members = [(Path(member.name).name, tar.extractfile(member)) for member in tar]
            contents = {name: file.read() for name, file in members if file is not None}
    else:
        contents = {archive.stem: gzip.decompress(archive.read_bytes())}
    for name, content in contents.items():
        unfinished = archive.with_name(f".{name}.tmp")
        unfinished.write_bytes(content)
        unfinished.replace(archive.with_name(name))


def _digits(split: str) -> tuple[Float[Tensor, "num 1 8 8"], Int[Tensor, " num"]]:
    """Return scikit-learn's digits; every fifth example of each class belongs to the test split."""
    from sklearn.datasets import load_digits

    bundle = load_digits()
    labels = torch.from_numpy(bundle.target).long()
    rank = torch.empty_like(labels)  # the place of an example in its class, from 0
    for label in labels.unique():
        rank[labels == label] = torch.arange(int((labels == label).sum()))
    chosen = (rank % 5 == 4) == (split == "test")
    images = torch.from_numpy(bundle.images).float() / 16
    return images[chosen, None], labels[chosen]


def _shifted_digits(split: str) -> tuple[Float[Tensor, "num 1 28 28"], Int[Tensor, " num"]]:
    """Return the digits enlarged to 24x24 on 28x28 black pixels, shifted by -2, 0 or 2 pixels both ways.

    They have 256 gray levels. The unshifted ones come first. All shifts of a digit are in its split, not in the other.
    """
    images, labels = _digits(split)
    large = F.pad((255 * F.interpolate(images, size=24, mode="bilinear")).round() / 255, [2] * 4)
    shifts = list(itertools.product((0, -2, 2), repeat=2))  # down and to the right
    # The frame is two pixels wide, so nothing but black wraps around.
    shifted = torch.cat([large.roll(shift, dims=(2, 3)) for shift in shifts])
    return shifted, labels.repeat(len(shifts))
