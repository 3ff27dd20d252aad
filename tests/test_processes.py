"""Tests of companion.zoo.processes: two processes train like one, and the end of one ends the other."""

import json
import os
import re
import socket
import sys
import time
from dataclasses import replace
from datetime import timedelta
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch
from children import Child
from PIL import Image
from tiny_recipes import BINARY, CHAINS, RECIPE, card, recipes, small_ddpm, tiny_vae

from companion import runtime
from companion.ddpm import Ddpm
from companion.masked import MaskedDiffusion
from companion.zoo import sample, train
from companion.zoo.checkpoints import at_once
from companion.zoo.drawing import Wish, drawing, in_parts
from companion.zoo.processes import DRAWS, Processes, _WholeDraws, together
from companion.zoo.recipes import RECIPES
from companion.zoo.records import record
from companion.zoo.weights import load_record, read_card, save_weights

__all__ = ["recipes"]


def part(function, rows, num, *batch):
    """What the process of these rows computes."""
    with _WholeDraws(rows, num):
        return function(*(tensor[rows] for tensor in batch))


# Where examples of a batch depend on each other by more than their noise: an average over the batch in a
# normalization or in free bits, times that are spread over the batch, and images that are mixed.
COUPLED = {
    *("hvae-mnist", "hvae2-mnist", "hvae1-mnist", "iw-hvae-mnist", "iw1-hvae-mnist"),
    *("conv-hvae-mnist", "conv-hvae-cifar10", "iw-conv-hvae-mnist", "masked-mnist"),
    *("ddpm-mnist-joint", "ddpm-mnist-long", "ddpm-mnist-longer", "guide-mnist", "ddpm-scenes"),
    *("classifier-mnist", "judge-mnist", "residual-judge-mnist", "reader-landscapes"),
    *("vae-landscapes", "text-scenes", "text-scenes-64"),
}
# The K draws of a chain are one long batch, which no row of the others can be told from: other noise, as random.
ONE_LONG_BATCH = {"iw-hvae-mnist", "iw-conv-hvae-mnist"}


@pytest.mark.parametrize("name", sorted(RECIPES.keys() - {"tiny", "binary"}))
def test_the_noise_of_an_example_depends_on_its_place_in_the_batch(name, unchecked):
    chosen, num = RECIPES[name], 5
    model = chosen.model()
    x = torch.randint(256, (num, *chosen.data.x_shape)) / 255
    labels = torch.randint(2, (num, *chosen.data.label_shape), dtype=chosen.data.label_dtype)
    batch = (x, labels) if chosen.labels else (x,)

    def loss(x, *labels):
        return chosen.loss(model, chosen.prepare(x), *labels, **chosen.options(0.2)).detach()

    def values(evaluate):
        torch.manual_seed(3)
        return evaluate(), torch.get_rng_state()

    loss(*batch)  # what is loaded at the first call draws numbers, too
    whole, after = values(lambda: loss(*batch))
    for rows in (slice(0, 2), slice(2, 5)):
        mine, ends = values(partial(part, loss, rows, num, *batch))
        assert torch.equal(ends, after) == (name not in ONE_LONG_BATCH)
        if name.removesuffix("-2") not in COUPLED:
            torch.testing.assert_close(mine, whole[rows], rtol=1e-4, atol=1e-3)
        else:
            assert mine.shape == whole[rows].shape and mine.isfinite().all()


@pytest.mark.parametrize("name", CHAINS)
def test_the_noise_of_a_drawn_example_depends_on_its_place_in_the_batch(name, unchecked):
    model, num = RECIPES[name].model().eval(), 5
    if isinstance(model, MaskedDiffusion):  # of a thousand steps each is like the next
        model = MaskedDiffusion(model.network, (1, 28, 28), num_steps=12)
    sampler, batch, _ = drawing(
        model, Wish(name, num, *((3, "beta") if isinstance(model, Ddpm) else ()))
    )
    draw = partial(in_parts, at_once, sampler)
    torch.manual_seed(3)
    whole, after = draw(batch), torch.get_rng_state()
    for rows in (slice(0, 2), slice(2, 5)):
        torch.manual_seed(3)
        mine = part(draw, rows, num, batch)
        assert torch.equal(torch.get_rng_state(), after)
        torch.testing.assert_close(mine, whole[rows], rtol=1e-4, atol=1e-4)


def test_draws_of_every_kind_are_those_of_the_whole_batch():
    p = torch.rand(7, 3)
    kinds = {
        torch.rand: lambda x: torch.rand(len(x), 2) + torch.rand((4, len(x)))[0][:, None],
        torch.randn: lambda x: torch.randn(len(x), 2, device="cpu"),
        torch.rand_like: torch.rand_like,
        torch.randn_like: torch.randn_like,
        torch.normal: lambda x: torch.normal(x, 1 + x),
        torch.randint: lambda x: torch.randint(3, 9, (len(x),)),
        torch.multinomial: lambda x: torch.multinomial(torch.ones(5), len(x), replacement=True),
        torch.bernoulli: torch.bernoulli,
        torch.Tensor.normal_: lambda x: (
            torch.distributions.Normal(x, 1.0).rsample((4,)).movedim(1, 0)
        ),
        torch.Tensor.exponential_: lambda x: torch.empty_like(x).exponential_(),
        torch.nn.functional.dropout: torch.nn.functional.dropout,
    }
    assert set(kinds) == DRAWS
    for name, draw in kinds.items():
        torch.manual_seed(1)
        whole = draw(p)
        for rows in (slice(0, 2), slice(2, 7)):
            torch.manual_seed(1)
            assert torch.equal(part(draw, rows, 7, p), whole[rows]), name
    with _WholeDraws(slice(0, 2), 7):
        torch.manual_seed(1)
        assert torch.rand(3).equal(torch.rand(3, generator=torch.Generator().manual_seed(1)))


# Two of these share one training. The recipes are those of the tests; the first argument is a line of Python.
SCRIPT = """
import os, signal, sys
from dataclasses import replace
sys.path[:0] = [sys.argv[1]]
import torch
torch.set_num_threads(1)
torch.cuda.is_available = lambda: False
from companion.__main__ import main
from tiny_recipes import BINARY, RECIPE, RECIPES, noisy_loss
RECIPES.update(tiny=RECIPE, binary=BINARY)
exec(sys.argv[2])
sys.exit(main(sys.argv[3:]))
"""

DIES = """
calls = []
def loss(model, x):
    calls.append(1)
    if len(calls) == 30 and os.environ['RANK'] == '1':
        os.kill(os.getpid(), signal.{})
    return noisy_loss(model, x)
RECIPES['tiny'] = replace(RECIPE, loss=loss)
"""


def launch(size, *arguments, code=""):
    """Start processes as a launcher does, and return their exit codes, outputs and errors."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size)}
    common = {**os.environ, **place, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    given = (SCRIPT, os.path.dirname(__file__), code, *arguments)
    ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(size)]
    started = [Child(*given, env=common | rank) for rank in ranks]
    ends: list[float] = []

    def wait(child):
        said = child.wait()
        ends.append(time.monotonic())
        return said

    with ThreadPool(size) as pool:
        found = pool.map(wait, started)
    assert ends[-1] - ends[0] < 60  # no process outlives another by more than a minute
    # Where a machine has no name, torch's log says so.
    return [(end, out, re.sub(r"(?m)^\[W.*\n", "", err)) for end, out, err in found]


def losses(folder, name="tiny"):
    lines = (folder / f"{name}.jsonl").read_text().splitlines()
    return {line["step"]: line["loss"] for line in map(json.loads, lines)}


def parameters(folder, name="tiny"):
    return safetensors.torch.load_file(folder / f"{name}.safetensors")


def assert_alike(folder, other, name="tiny"):
    """The same losses and weights, but for the order of sums; the weights are rounded to float16."""
    assert losses(folder, name) == pytest.approx(losses(other, name), rel=1e-4)
    one, two = parameters(folder, name), parameters(other, name)
    assert all(torch.allclose(one[key], two[key], rtol=1e-2, atol=1e-3) for key in one)
    values = [read_card(name, where).metric_value for where in (folder, other)]
    assert values[0] == pytest.approx(values[1], rel=1e-3)


accelerate = pytest.mark.skipif(
    not any((Path(folder) / "accelerate").is_dir() for folder in sys.path),
    reason="several processes need the package accelerate",
)


@accelerate
@pytest.mark.parametrize("name", ["tiny", "binary"])
def test_two_processes_train_like_one(tmp_path, name):
    train(name, tmp_path / "one", log_every=1)
    found = launch(2, "train", name, "--out", tmp_path / "two", "--log-every", "1")
    assert [code for code, _, _ in found] == [0, 0], found
    # Torch 2.9 says of each process, for itself, that it is connected.
    first, second = (re.sub(r"\[Gloo\] .*\n", "", said) for _, said, _ in found)
    assert "2 processes, small scale" in first and second == ""
    assert_alike(tmp_path / "one", tmp_path / "two", name)
    other = replace({"tiny": RECIPE, "binary": BINARY}[name], seed=1)
    RECIPES[name] = other
    train(name, tmp_path / "other", log_every=1)
    one, other = (losses(tmp_path / folder, name)[20] for folder in ("one", "other"))
    assert one != pytest.approx(other, rel=1e-3)


@accelerate
@pytest.mark.parametrize(
    ("number", "codes", "sizes"), [("SIGTERM", [130, 130], [2, 1]), ("SIGKILL", [1, -9], [1, 2])]
)
def test_one_of_two_ends_and_any_number_of_processes_goes_on(tmp_path, number, codes, sizes):
    train("tiny", tmp_path / "whole", log_every=1)
    out, options = tmp_path / "out", ("--log-every", "1", "--save-every", "0")
    found = launch(2, "train", "tiny", "--out", out, *options, code=DIES.format(number))
    assert [code for code, _, _ in found] == codes, found
    stopped = "tiny: saved after step 30 of 69; with --resume it goes on from its last save\n"
    lost = "error: another process of this computation ended, or no longer answers; what was .*\n"
    assert re.fullmatch(stopped if number == "SIGTERM" else lost, found[0][2])
    size, last = sizes
    code = DIES.format("SIGTERM").replace("== 30 and os.environ['RANK'] == '1'", "== 11")
    found = launch(size, "train", "tiny", "--out", out, *options, "--resume", code=code)
    assert {code for code, _, _ in found} == {130}
    assert re.search(r"tiny: step (29|30) of 69 on", found[0][1])
    found = launch(last, "train", "tiny", "--out", out, *options, "--resume")
    assert {code for code, _, _ in found} == {0}, found
    assert_alike(tmp_path / "whole", out)


@accelerate
def test_accelerate_launches_them(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    arguments = ["--multi_gpu", "--num_processes", "2", "--main_process_port", "0", script]
    arguments += [os.path.dirname(__file__), "", "train", "tiny", "--epochs", "1"]
    code, out, err = Child(
        "import runpy; runpy.run_module('accelerate.commands.launch', run_name='__main__')",
        *arguments, "--out", tmp_path, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
    ).wait()  # fmt: skip
    assert code == 0, err
    assert "2 processes, small scale" in out
    train("tiny", tmp_path / "one", epochs=1)
    assert_alike(tmp_path / "one", tmp_path)


@accelerate
@pytest.mark.parametrize(("name", "share"), [("tiny", 1e-4), ("binary", 0.5)])
def test_two_processes_measure_like_one(tmp_path, name, share):
    card = train(name, tmp_path, epochs=1)
    arguments = ("evaluate", name, "--folder", tmp_path, "--out", tmp_path / "two")
    found = launch(2, *arguments)
    assert [code for code, _, _ in found] == [0, 0], found
    two = read_card(name, tmp_path / "two")
    # An estimate of log p(x) draws for a few examples at a time, and so other noise in each process.
    assert two.metric_value == pytest.approx(card.metric_value, abs=share * card.metric_se)
    assert two.metric_se == pytest.approx(card.metric_se, rel=share)


# In parts of three, of which the last has fewer examples than there are processes. Only the first may write.
DRAWS_OF_TWO = """
from companion.zoo import drawing, records
from tiny_recipes import small_ddpm
RECIPES['ddpm-digits'] = replace(RECIPES['ddpm-digits'], model=small_ddpm)
drawing.CHUNK = 3
if os.environ['RANK'] == '1':
    import torchvision
    torchvision.utils.save_image = records.save_tensors = None
noise_errors, calls = records.noise_errors, []
def dies(*arguments):
    calls.append(1)
    if len(calls) == 3 and os.environ['RANK'] == '1' and {number}:
        os.kill(os.getpid(), {number})
    return noise_errors(*arguments)
records.noise_errors = dies
"""


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """A folder with the weights of models that generate, drawn from in parts of three."""
    few = replace(RECIPES["ddpm-digits"], model=small_ddpm)
    monkeypatch.setitem(RECIPES, "ddpm-digits", few)
    monkeypatch.setattr("companion.zoo.drawing.CHUNK", 3)
    for name, model in {"binary": tiny_vae(), "ddpm-digits": small_ddpm()}.items():
        save_weights(model, card(name), tmp_path / "drawn")
    return tmp_path / "drawn"


@accelerate
@pytest.mark.parametrize(
    ("name", "options"), [("ddpm-digits", (4, "beta")), ("binary", (None, None))]
)
def test_two_processes_draw_like_one(drawn, tmp_path, name, options):
    one, two = tmp_path / "one.png", tmp_path / "two.png"
    sample(name, 7, *options, folder=drawn, out=one)
    arguments = ["sample", name, "--num", "7", "--folder", drawn, "--out", two]
    steps, sampler = options
    arguments += ["--steps", steps, "--sampler", sampler] if sampler else []
    found = launch(2, *arguments, code=DRAWS_OF_TWO.format(number=0))
    assert [code for code, _, _ in found] == [0, 0], found
    assert "drew 7 examples of shape (1, 8, 8)" in found[0][1]
    levels = [np.asarray(Image.open(path)).astype(int) for path in (one, two)]
    assert np.abs(levels[0] - levels[1]).max() <= 1 and levels[0].std() > 10


@accelerate
@pytest.mark.parametrize(
    ("number", "codes"), [("signal.SIGTERM", [130, 130]), ("signal.SIGKILL", [1, -9])]
)
def test_one_of_two_ends_a_record_and_one_process_finishes_it(drawn, tmp_path, number, codes):
    record("ddpm-digits", num=7, examples=20, folder=drawn, out=tmp_path / "one")
    out = tmp_path / "two"
    arguments = ("record", "ddpm-digits", "--num", "7", "--examples", "20", "--folder", drawn)
    found = launch(2, *arguments, "--out", out, code=DRAWS_OF_TWO.format(number=number))
    assert [code for code, _, _ in found] == codes, found
    saved = number == "signal.SIGTERM"
    said = "stopped after part 3; with --resume it goes on from its last save\n"
    assert found[0][2] == said if saved else "another process of this" in found[0][2]
    assert (out / "ddpm-digits-samples.run").exists() == saved
    record("ddpm-digits", num=7, examples=20, folder=drawn, out=out, resume=saved)
    one, two = (load_record("ddpm-digits-samples", path)[0] for path in (tmp_path / "one", out))
    assert (one["samples"].int() - two["samples"].int()).abs().max() <= 1
    torch.testing.assert_close(one["noise_error"], two["noise_error"], rtol=1e-4, atol=0)


@accelerate
def test_a_batch_that_is_too_small_for_the_processes_is_refused(tmp_path):
    found = launch(3, "train", "tiny", "--out", tmp_path / "out", "--batch-size", "2")
    asked = "batch_size must leave an example for each of the 3 processes"
    sentence = f"error: {asked}; the smallest batch has 2\n"
    assert [(code, err) for code, _, err in found] == [(1, sentence)] * 3
    assert not (tmp_path / "out").exists()


def test_several_processes_without_accelerate_get_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ValueError, match="several processes need the package accelerate; the"):
        train("tiny", tmp_path)


@accelerate
@pytest.mark.parametrize(("device", "longest"), [("cpu", 3600), ("cuda", 50)])
def test_a_lost_gpu_is_missed_within_a_minute_and_a_slow_cpu_is_waited_for(
    monkeypatch, device, longest
):
    import accelerate

    given, met = {}, []

    def state(**options):
        given.update(options)
        ranks = {"process_index": 1, "num_processes": 2, "local_process_index": 1}
        return SimpleNamespace(**ranks, wait_for_everyone=lambda: met.append("all"))

    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(accelerate, "PartialState", state)
    monkeypatch.setattr(runtime, "device", lambda: torch.device(device))
    processes = Processes()
    assert given == {"cpu": device == "cpu", "timeout": timedelta(seconds=longest)}
    assert (processes.rank, processes.size) == (1, 2)
    assert met == ["all"]  # none ends while another still connects to it
    assert processes.devices == (None if device == "cpu" else [1])


def test_the_share_of_each_process():
    processes = Processes()
    processes.size = 3
    found = []
    for processes.rank in range(3):
        found += range(100)[processes.rows(100)]
    assert found == list(range(100))


def test_errors_of_another_kind_keep_their_words():
    with pytest.raises(RuntimeError, match="shapes differ"), together():
        raise RuntimeError("shapes differ")
    ended = pytest.raises(ConnectionError, match="another process of this computation ended")
    with ended, together():
        raise RuntimeError("[gloo/transport/tcp/pair.cc:534] Connection closed by peer")
