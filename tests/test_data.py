"""Tests of companion.data: files are checked, nothing is lost, batches can be resumed. No test needs a network."""

import errno
import gzip
import hashlib
import http.server
import io
import pickle
import re
import socket
import tarfile
import threading
from itertools import islice, product
from pathlib import Path

import numpy as np
import pytest
import requests
import torch
from bad_input import refused

from companion import data
from companion.data import Batches, images

KINDS = ("images-idx3-ubyte", "labels-idx1-ubyte")
MNIST_FILES = [f"{split}-{kind}" for split in ("train", "t10k") for kind in KINDS]


def no_answer(*args, **kwargs):
    raise requests.ConnectionError


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """A data folder and a cache that only this test sees; nothing is replaced yet, and there is no network."""
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("COMPANION_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COMPANION_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(images, "_replaced", set())
    monkeypatch.setattr(requests, "head", no_answer)
    return tmp_path / "data", tmp_path / "cache"


def idx_files(seed=0):
    """Return the four files of a tiny data set in MNIST's format, with the pixels and labels that are in them."""
    random = np.random.default_rng(seed)
    files, pixels, labels = {}, {}, {}
    for split, num in (("train", 6), ("t10k", 3)):
        pixels[split] = random.integers(0, 256, (num, 28, 28), np.uint8)
        labels[split] = random.integers(0, 10, num, np.uint8)
        for kind, code, values in (("images", 3, pixels[split]), ("labels", 1, labels[split])):
            head = bytes([0, 0, 8, code]) + b"".join(n.to_bytes(4, "big") for n in values.shape)
            files[f"{split}-{kind}-idx{code}-ubyte"] = head + values.tobytes()
    return files, pixels, labels


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def digests(files):
    return {file: hashlib.sha256(content).hexdigest() for file, content in files.items()}


def publish(monkeypatch, name, folder, files, archives=None, url="http://127.0.0.1:9/"):
    """Make these files the published ones."""
    source = images._Source(folder, url, digests(archives or {"none": b""}), digests(files))
    monkeypatch.setitem(images._SOURCES, name, source)


def packed(files):
    return {f"{name}.gz": gzip.compress(content) for name, content in files.items()}


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A mirror on this machine: the folder it serves, its address, and what was asked of it."""
    folder, asked = tmp_path / "mirror", []
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, form, *args):
            asked.append(args[0])

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        for proxy in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.delenv(proxy, raising=False)
            monkeypatch.delenv(proxy.upper(), raising=False)
        yield folder, f"http://127.0.0.1:{running.server_port}/", asked
        running.shutdown()


# What is loaded


def test_mnist_equals_the_bytes_of_the_files():
    folder = data.find("mnist")
    if folder is None:
        pytest.skip("no copy of MNIST; set COMPANION_DATA to a folder that holds MNIST/raw")
    for split, prefix, num in (("train", "train", 60_000), ("test", "t10k", 10_000)):
        loaded, raw = data.load("mnist", split), folder / "MNIST" / "raw"
        pixels = np.fromfile(raw / f"{prefix}-images-idx3-ubyte", np.uint8, offset=16)
        labels = np.fromfile(raw / f"{prefix}-labels-idx1-ubyte", np.uint8, offset=8)
        assert loaded.name == "mnist"
        assert loaded.images.dtype == torch.float32
        assert torch.equal(loaded.images, torch.from_numpy(pixels).view(num, 1, 28, 28) / 255)
        assert loaded.labels.dtype == torch.int64
        assert np.array_equal(loaded.labels.numpy(), labels)
        assert loaded.images.min() == 0
        assert loaded.images.max() == 1


def test_files_in_mnists_format_are_read_as_they_are(folders, monkeypatch):
    files, pixels, labels = idx_files()
    publish(monkeypatch, "mnist", "MNIST/raw", files)
    write(folders[0] / "MNIST" / "raw", files)
    for split, prefix in (("train", "train"), ("test", "t10k")):
        loaded = data.load("mnist", split)
        assert torch.equal(loaded.images, torch.from_numpy(pixels[prefix])[:, None] / 255)
        assert torch.equal(loaded.labels, torch.from_numpy(labels[prefix]).long())


def test_cifar10_keeps_channels_first(folders, monkeypatch):
    random = np.random.default_rng(0)
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    pixels = random.integers(0, 256, (6, 2, 3072), np.uint8)
    batches = {name: {"data": x, "labels": [1, 7]} for name, x in zip(names, pixels)}
    files = {name: pickle.dumps(batch) for name, batch in batches.items()}
    files["batches.meta"] = pickle.dumps({"label_names": list("abcdefghij")})
    publish(monkeypatch, "cifar10", "cifar-10-batches-py", files)
    write(folders[0] / "cifar-10-batches-py", files)
    from torchvision.datasets import CIFAR10 as kind

    md5 = [[name, hashlib.md5(content).hexdigest()] for name, content in files.items()]
    monkeypatch.setattr(kind, "train_list", md5[:5])
    monkeypatch.setattr(kind, "test_list", md5[5:6])
    meta = {"filename": md5[6][0], "key": "label_names", "md5": md5[6][1]}
    monkeypatch.setattr(kind, "meta", meta)
    loaded = data.load("cifar10")
    expected = torch.from_numpy(pixels[:5].reshape(10, 3, 32, 32))
    assert torch.equal(loaded.images, expected / 255)
    assert loaded.labels.tolist() == [1, 7] * 5
    files["test_batch"] += b"."
    write(folders[0] / "cifar-10-batches-py", files)
    with pytest.raises(ValueError, match="test_batch is truncated or altered"):
        data.load("cifar10")


def test_data_folder_comes_before_the_cache_and_an_empty_variable_counts_as_unset(
    folders, monkeypatch
):
    files, _, _ = idx_files()
    publish(monkeypatch, "mnist", "MNIST/raw", files)
    assert data.find("mnist") is None
    write(folders[1] / "MNIST" / "raw", files)
    assert data.find("mnist") == folders[1]
    write(folders[0] / "MNIST" / "raw", files)
    assert data.find("mnist") == folders[0]
    monkeypatch.setenv("COMPANION_DATA", "")
    assert data.find("mnist") == folders[1]
    (folders[1] / "MNIST" / "raw" / MNIST_FILES[3]).unlink()
    assert data.find("mnist") is None


def test_cache_dir(monkeypatch, tmp_path):
    monkeypatch.setenv("COMPANION_CACHE", str(tmp_path / "cache"))
    assert data.cache_dir() == tmp_path / "cache"
    monkeypatch.setenv("COMPANION_CACHE", "~/elsewhere")
    assert data.cache_dir() == Path.home() / "elsewhere"
    monkeypatch.setenv("COMPANION_CACHE", "")
    own = data.cache_dir()
    assert own.name == "companion" and own.is_absolute()
    monkeypatch.delenv("COMPANION_CACHE")
    assert data.cache_dir() == own


@pytest.mark.parametrize(("split", "num"), [("train", 1442), ("test", 355)])
def test_digits_are_those_of_scikit_learn(split, num):
    loaded = data.load("digits", split)
    assert loaded.images.shape == (num, 1, 8, 8)
    assert loaded.images.min() == 0
    assert loaded.images.max() == 1
    share = torch.bincount(loaded.labels) / num
    assert share.min() > 0.09
    assert share.max() < 0.11


def test_digits_splits_are_disjoint_and_complete():
    from sklearn.datasets import load_digits

    def rows(loaded):
        return {
            (int(label), (16 * image).byte().numpy().tobytes())
            for image, label in zip(loaded.images, loaded.labels)
        }

    train, test = rows(data.load("digits", "train")), rows(data.load("digits", "test"))
    bundle = load_digits()
    assert not train & test
    assert train | test == {
        (int(label), image.astype(np.uint8).tobytes())
        for image, label in zip(bundle.images, bundle.target)
    }


# What is refused


@pytest.mark.parametrize("file", MNIST_FILES)
@pytest.mark.parametrize(
    "damage",
    [lambda content: content[:-1], lambda content: content[:-1] + bytes([content[-1] ^ 1])],
)
def test_a_truncated_or_altered_file_is_refused_and_kept(folders, monkeypatch, file, damage):
    files, _, _ = idx_files()
    publish(monkeypatch, "mnist", "MNIST/raw", files)
    raw = folders[0] / "MNIST" / "raw"
    write(raw, files)
    data.load("mnist")  # so that a remembered digest would be noticed
    bad = damage(files[file])
    (raw / file).write_bytes(bad)
    with pytest.raises(ValueError, match="is truncated or altered") as refusal:
        data.load("mnist")
    hashes = digests({"good": files[file], "bad": bad}).values()
    assert all(part in str(refusal.value) for part in (str(raw / file), *hashes))
    assert (raw / file).read_bytes() == bad


def test_fashion_mnist_is_checked_through_its_archives(folders, monkeypatch):
    files, pixels, _ = idx_files()
    archives = packed(files)
    publish(monkeypatch, "fashion_mnist", "FashionMNIST/raw", {}, archives)
    raw = folders[0] / "FashionMNIST" / "raw"
    write(raw, files)
    # Without the archives there is nothing to check the files by.
    assert data.find("fashion_mnist") is None
    write(raw, archives)
    expected = torch.from_numpy(pixels["train"])[:, None] / 255
    assert torch.equal(data.load("fashion_mnist").images, expected)
    altered = bytearray(files["train-images-idx3-ubyte"])
    altered[100] ^= 1
    (raw / "train-images-idx3-ubyte").write_bytes(altered)
    with pytest.raises(ValueError, match="train-images-idx3-ubyte is truncated or altered"):
        data.load("fashion_mnist")
    write(raw, files)
    write(raw, {"t10k-labels-idx1-ubyte.gz": b"no archive"})
    with pytest.raises(ValueError, match=r"t10k-labels-idx1-ubyte\.gz is truncated or altered"):
        data.load("fashion_mnist")


def test_describe_tells_what_is_there_and_whether_it_is_right(folders, monkeypatch):
    files, _, _ = idx_files()
    publish(monkeypatch, "mnist", "MNIST/raw", files)
    write(folders[0] / "MNIST" / "raw", files)
    before = {copy.name: copy for copy in data.describe()}
    assert list(before) == ["mnist", "fashion_mnist", "cifar10", "digits"]
    assert before["mnist"] == data.Copy("mnist", folders[0], True, "verified")
    assert before["cifar10"][1:3] == (None, False)
    assert before["digits"] == data.Copy("digits", None, True, "bundled with scikit-learn")
    write(folders[0] / "MNIST" / "raw", {MNIST_FILES[1]: files[MNIST_FILES[1]][:-2]})
    after = data.describe()[0]
    assert after[1:3] == (folders[0], False)
    assert "train-labels-idx1-ubyte is truncated or altered" in after.note


# Downloads, and their failure


@pytest.fixture
def online(folders, server, monkeypatch):
    """The four files of MNIST, published and served; nothing else is there yet."""
    monkeypatch.undo()
    monkeypatch.setenv("COMPANION_DATA", str(folders[0]))
    monkeypatch.setenv("COMPANION_CACHE", str(folders[1]))
    monkeypatch.setattr(images, "_replaced", set())
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between two tries
    files, pixels, _ = idx_files()
    publish(monkeypatch, "mnist", "MNIST/raw", files, packed(files), server[1])
    write(server[0], packed(files))
    return server, files, pixels


def test_a_download_goes_into_the_cache_and_is_used_again(folders, online, capsys):
    (_, _, asked), files, pixels = online
    for _ in range(2):
        loaded = data.load("mnist").images
        assert torch.equal(loaded, torch.from_numpy(pixels["train"])[:, None] / 255)
    assert [line.split()[0] for line in asked] == ["HEAD"] + 4 * ["GET"]
    assert data.find("mnist") == folders[1]
    raw = folders[1] / "MNIST" / "raw"
    assert {path.name for path in raw.iterdir()} == {*files, *packed(files)}
    places = (
        f"$COMPANION_DATA, {folders[0]} (it lacks {MNIST_FILES[2]}), or in the cache {folders[1]}"
    )
    line = f"data: downloading mnist, for no copy is in {places}\n"
    assert capsys.readouterr().out == line


def test_an_archive_of_many_files_is_unpacked(folders, online, server, monkeypatch):
    files = {f"data_batch_{i}": bytes([i]) * 10 for i in range(1, 6)}
    packed_up = io.BytesIO()
    with tarfile.open(fileobj=packed_up, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    archive = {"cifar-10-python.tar.gz": packed_up.getvalue()}
    publish(monkeypatch, "cifar10", "cifar-10-batches-py", files, archive, server[1])
    write(server[0], archive)
    folder = images._download("cifar10") / "cifar-10-batches-py"
    assert {name: (folder / name).read_bytes() for name in files} == files


def test_an_altered_download_is_refused_and_the_old_files_are_kept(folders, online):
    (mirror, url, _), files, _ = online
    old = {name: files[name] for name in MNIST_FILES[:3]}  # one is missing, so a download is due
    raw = folders[1] / "MNIST" / "raw"
    write(raw, old)
    (mirror / f"{MNIST_FILES[0]}.gz").write_bytes(gzip.compress(files[MNIST_FILES[0]][:-100]))
    sentence = f"{MNIST_FILES[0]}.gz is truncated or altered and was dropped: its SHA-256 must be"
    with pytest.raises(ValueError, match=url + sentence):
        data.load("mnist")
    assert {path.name: path.read_bytes() for path in raw.iterdir()} == old


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_without_a_network_digits_stand_in_and_one_line_says_so(folders, capsys, name):
    train, test = data.load(name), data.load(name, "test")
    data.load(name)
    out, err = capsys.readouterr()
    places = f"$COMPANION_DATA, {folders[0]} (it lacks t10k-images-idx3-ubyte[.gz]*), or in the cache {folders[1]}"
    assert err == "" and re.fullmatch(
        f"data: no copy of {name} in {re.escape(places).replace(re.escape('[.gz]*'), '[.gz]*')} and no network; "
        "using scikit-learn's 1,797 handwritten digits at 28x28 instead; "
        f"statements about {name} need not hold for them\n",
        out,
    )
    for loaded, num in ((train, 9 * 1442), (test, 9 * 355)):
        assert loaded.name == "digits"
        assert loaded.images.shape == (num, 1, 28, 28)
        assert loaded.images.min() == 0
        assert loaded.images.max() <= 1
        assert loaded.labels.shape == (num,)


def test_stand_in_digits_are_shifts_of_their_own_split(folders):
    for split in ("train", "test"):
        small, large = data.load("digits", split), data.load("mnist", split)
        shifted = large.images.unflatten(0, (9, -1))
        assert torch.equal(large.labels, small.labels.repeat(9))
        levels = 255 * large.images
        assert torch.allclose(levels, levels.round(), rtol=0, atol=1e-4)
        # Each 3 x 3 block of the enlarged digit is centered on the pixel that it came from.
        nearest = (255 * small.images).round() / 255
        assert torch.allclose(shifted[0][:, :, 3:27:3, 3:27:3], nearest, atol=1e-6)
        mass = shifted.sum((3, 4))
        # Nothing is pushed over the edge.
        assert torch.allclose(mass, mass[:1].expand_as(mass), rtol=1e-5)
        places = torch.stack([shifted.sum(side) @ torch.arange(28.0) for side in (3, 4)], -1)
        moved = (places / mass[..., None] - places[:1] / mass[:1, ..., None]).squeeze(2)
        assert torch.allclose(moved, moved[:, :1].expand_as(moved), atol=1e-3)
        steps = {tuple(pair) for pair in moved[:, 0].round().int().tolist()}
        assert steps == {*product((-2, 0, 2), repeat=2)}


def test_without_a_network_or_a_fallback_one_sentence_says_what_to_do(folders):
    for name, fallback in (("mnist", False), ("fashion_mnist", False), ("cifar10", True)):
        sentence = f"no copy of {name} in .* and no network; set COMPANION_DATA"
        with pytest.raises(FileNotFoundError, match=sentence):
            data.load(name, fallback=fallback)


def test_a_failed_download_falls_back_with_the_reason(folders, online, capsys):
    (mirror, _, _), _, _ = online
    (mirror / f"{MNIST_FILES[2]}.gz").unlink()
    assert data.load("mnist").name == "digits"
    line = capsys.readouterr().out.splitlines()[-1]
    assert "and its download failed (404 Client Error" in line and "; using scikit-learn's" in line
    with pytest.raises(FileNotFoundError, match="its download failed"):
        data.load("mnist", fallback=False)


def test_a_full_disk_is_not_taken_for_a_missing_network(online, monkeypatch):
    def fail(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(images, "_unpack", fail)
    with pytest.raises(OSError, match="No space left on device"):
        data.load("mnist")


def test_a_silent_network_is_given_up_soon(folders, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("COMPANION_DATA", str(folders[0]))
    monkeypatch.setenv("COMPANION_CACHE", str(folders[1]))
    monkeypatch.setattr(images, "_ANSWER_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes calls and never answers
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        publish(monkeypatch, "mnist", "MNIST/raw", idx_files()[0], url=url)
        with pytest.raises(
            FileNotFoundError, match="no network"
        ):  # otherwise it waits until the tests give up
            data.load("mnist", fallback=False)


@pytest.mark.parametrize("kind", ["missing", "file", "half"])
def test_a_data_folder_that_lacks_files_is_named(folders, monkeypatch, kind):
    files, _, _ = idx_files()
    publish(monkeypatch, "mnist", "MNIST/raw", files)
    lacks = "everything, being no folder"
    if kind == "half":
        write(folders[0] / "MNIST" / "raw", {name: files[name] for name in MNIST_FILES[:3]})
        lacks = MNIST_FILES[3]
    else:
        folders[0].rmdir()
        if kind == "file":
            folders[0].touch()
    where = f" in $COMPANION_DATA, {folders[0]} (it lacks {lacks}), or in the"
    assert data.describe()[0].note.startswith(f"no copy{where}")
    with pytest.raises(FileNotFoundError, match=re.escape(f"no copy of mnist{where}")):
        data.load("mnist", fallback=False)


# Batches


def test_an_epoch_gives_every_example_once_with_its_label():
    x = torch.arange(10.0)[:, None].expand(10, 3)
    batches = Batches(x, torch.arange(10), batch_size=4, num_epochs=3)
    given = list(batches)
    assert len(given) == len(batches) == 9
    assert [len(pair[0]) for pair in given] == [4, 4, 2] * 3
    assert all(torch.equal(a[:, 0], b.float()) for a, b in given)
    orders = [torch.cat([b for _, b in given[3 * i : 3 * i + 3]]) for i in range(3)]
    assert all(torch.equal(order.sort().values, torch.arange(10)) for order in orders)
    assert not torch.equal(orders[0], orders[1])
    assert list(batches) == []  # all are given


def test_the_shuffle_depends_on_the_whole_seed_and_on_nothing_else():
    x = torch.arange(100)

    def first(seed):
        return next(iter(Batches(x, batch_size=100, seed=seed)))

    state = torch.get_rng_state()
    one = first(1)
    torch.rand(3)
    assert torch.equal(first(1), one)
    torch.set_rng_state(state)
    assert torch.equal(torch.get_rng_state(), state)
    others = [first(seed) for seed in (0, 2, 1 + 2**32, 1 + 2**40)]
    assert not any(torch.equal(one, other) for other in others)
    list(Batches(x, batch_size=7))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("stop", [0, 1, 3, 4, 7, 12])
def test_a_run_goes_on_where_it_stopped(stop):
    x = torch.randn(10, 2, generator=torch.Generator().manual_seed(0))
    whole = list(Batches(x, batch_size=3, num_epochs=3, seed=5))
    first = Batches(x, batch_size=3, num_epochs=3, seed=5)
    begun = list(islice(first, stop))
    assert first.step == stop
    second = Batches(x, batch_size=3, num_epochs=3, seed=5)
    second.load_state_dict(first.state_dict())
    rest = list(second)
    assert len(begun) + len(rest) == len(whole) == 12
    assert all(torch.equal(a, b) for a, b in zip(begun + rest, whole))


def test_foreign_states_are_refused():
    batches = Batches(torch.zeros(10), batch_size=3, num_epochs=2)
    state = batches.state_dict()
    assert state == {"step": 0, "seed": 0, "batch_size": 3, "num_examples": 10}
    changes = [("seed", 1), ("batch_size", 4), ("num_examples", 9), ("step", 9), ("step", -1)]
    for name, value in [*changes, ("extra", 0)]:
        with pytest.raises(ValueError, match="state"):
            batches.load_state_dict({**state, name: value})
    batches.load_state_dict({**state, "step": 8})
    assert list(batches) == []


def test_binarize_draws_each_pixel_with_its_gray_level():
    x = torch.tensor([0.0, 0.25, 0.9, 1.0]).expand(40_000, 4)
    drawn = data.binarize(x)
    assert drawn.dtype == x.dtype and set(drawn.unique().tolist()) == {0.0, 1.0}
    mean = drawn.mean(0)
    # 0 and 1 stay as they are.
    assert ((mean - x[0]).abs() <= 5 * (x[0] * (1 - x[0]) / len(x)).sqrt()).all()
    assert not torch.equal(drawn, data.binarize(x))
    assert data.binarize(x.double()).dtype == torch.double
    assert data.binarize(torch.empty(0, 1, 28, 28)).shape == (0, 1, 28, 28)


def test_images_go_to_the_symmetric_range_and_back():
    x = torch.tensor([0.0, 0.25, 1.0])
    assert data.to_symmetric(x).tolist() == [-1.0, -0.5, 1.0]
    assert torch.equal(data.to_unit(data.to_symmetric(x)), x)
    beyond = torch.tensor([-1.5, 3.0])  # as samplers may leave it
    assert data.to_unit(beyond).tolist() == [0.0, 1.0]


test_bad_input = refused("data")
