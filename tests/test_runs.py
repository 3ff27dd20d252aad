"""Tests of companion.zoo.runs: trainings that repeat, stop, resume and refuse, and measurements of weights."""

import json
import os
import re
import signal
import threading
from dataclasses import replace

import pytest
import torch
from children import Child
from filelock import FileLock
from tiny_recipes import BINARY, RECIPE, card, no_data, noisy_loss, recipes, tiny, tiny_vae

from companion.autoencoder import reconstruction_loss
from companion.data import binarize, load
from companion.elbo import elbo_loss
from companion.zoo import evaluate, train, weights
from companion.zoo.measures import Measure, negative_log_likelihood
from companion.zoo.recipes import RECIPES, Recipe, cosine
from companion.zoo.runs import _evaluate
from companion.zoo.sources import DIGITS, Toy
from companion.zoo.weights import load_record, load_weights, read_card, save_weights

__all__ = ["no_data", "recipes"]


def files(folder):
    """The names of its files; where TensorBoard is installed, it has a folder there, too."""
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def steps_of(log):
    return [json.loads(line)["step"] for line in log.read_text().splitlines()]


def test_training_writes_weights_with_a_true_card(tmp_path, capsys):
    card = train("tiny", tmp_path)
    assert re.findall(r"epoch (\d) of 3", capsys.readouterr().out) == ["1", "2", "3"]
    assert files(tmp_path) == ["tiny.json", "tiny.jsonl", "tiny.safetensors"]
    model = tiny()
    assert load_weights("tiny", model, tmp_path) == card
    x = load("digits", "test").images
    errors = torch.stack([(model(one[None]) - one).square().sum() for one in x]).detach().double()
    assert card.metric_value == pytest.approx(errors.mean().item(), rel=1e-5)
    assert card.metric_se == pytest.approx((errors.var() / len(x)).sqrt().item(), rel=1e-5)
    # Predicting the mean image is what a decoder without a code could do.
    constant = (x - load("digits").images.mean(0)).flatten(1).square().sum(1).mean()
    assert card.metric_value < 0.9 * constant
    assert (card.data, card.scale, card.seed) == ("digits", "small", 0)
    assert card.command == "python -m companion train tiny"
    assert card.num_parameters == 64 * 16 + 16 + 16 * 4 + 4 + 4 * 16 + 16 + 16 * 64 + 64
    assert str(card).startswith(f"tiny: {RECIPE.metric}: {card.metric_value:.3f} +- ")


def test_the_command_of_the_card_names_the_epochs_and_the_weights_repeat(tmp_path):
    cards = [train("tiny", tmp_path / folder, epochs=1) for folder in ("one", "two")]
    assert cards[0].command == "python -m companion train tiny --epochs 1"
    assert cards[0].sha256 == cards[1].sha256
    assert train("tiny", tmp_path / "more", epochs=2).sha256 != cards[0].sha256


STOPPED = """
import os, sys
sys.path[:0] = [sys.argv[1]]
import torch
torch.set_num_threads(int(sys.argv[3]))
from dataclasses import replace
from tiny_recipes import RECIPE, RECIPES, noisy_loss
from companion.__main__ import main
calls = []
def loss(model, x):
    calls.append(1)
    if len(calls) == 30:
        os.kill(os.getpid(), int(sys.argv[5]))
    return noisy_loss(model, x)
RECIPES["tiny"] = replace(RECIPE, loss=loss)
sys.exit(main(["train", "tiny", "--out", sys.argv[2], "--save-every", sys.argv[4]]))
"""


@pytest.mark.parametrize(
    ("number", "save_every", "status", "step"),
    [
        (signal.SIGKILL, "0", -9, 29),
        (signal.SIGTERM, "1000", 130, 30),
        (signal.SIGINT, "1000", 130, 30),
    ],
)
def test_a_training_that_is_stopped_resumes_and_gives_the_same_weights(
    tmp_path, capsys, number, save_every, status, step
):
    stopped, whole = tmp_path / "stopped", tmp_path / "whole"
    threads = str(torch.get_num_threads())
    arguments = (os.path.dirname(__file__), stopped, threads, save_every, int(number))
    code, _, err = Child(STOPPED, *arguments, env={**os.environ, "CUDA_VISIBLE_DEVICES": ""}).wait()
    assert code == status
    said = "tiny: saved after step 30 of 69; with --resume it goes on from its last save"
    assert number == signal.SIGKILL or err == f"{said}\n"
    assert (stopped / "tiny.run").exists() and not (stopped / "tiny.json").exists()

    with pytest.raises(ValueError, match="tiny.run is an unfinished training; continue it with"):
        train("tiny", stopped)
    (stopped / ".tiny.run.tmp").write_bytes(b"what a writer leaves that is killed in the middle")
    capsys.readouterr()
    train("tiny", stopped, resume=True)
    assert f"tiny: step {step} of 69 on " in capsys.readouterr().out
    assert read_card("tiny", stopped).sha256 == train("tiny", whole).sha256
    assert files(stopped) == ["tiny.json", "tiny.jsonl", "tiny.safetensors"]
    logs = [steps_of(folder / "tiny.jsonl") for folder in (stopped, whole)]
    assert logs[0] == logs[1] == [23, 46, 69]


def test_a_training_that_is_stopped_while_it_is_measured_repeats_nothing(tmp_path, monkeypatch):
    steps, parts = [], []

    def loss(model, x):
        steps.append(len(x))
        return noisy_loss(model, x)

    def metric(model, x):
        parts.append(len(x))
        if len(parts) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return noisy_loss(model, x)

    measured = replace(RECIPE, loss=loss, metric=Measure(metric, "m"), epochs=1)
    long = torch.rand(2500, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(Recipe, "examples", lambda self, split: (long,))
    monkeypatch.setitem(RECIPES, "tiny", measured)
    with pytest.raises(KeyboardInterrupt, match="stopped after part 2; with --resume it goes on"):
        train("tiny", tmp_path / "stopped")
    assert files(tmp_path / "stopped") == ["tiny-test.run", "tiny.jsonl", "tiny.run"]
    stopped = train("tiny", tmp_path / "stopped", resume=True)
    assert len(steps) == 40 and parts == [1000, 1000, 500]
    assert files(tmp_path / "stopped") == ["tiny.json", "tiny.jsonl", "tiny.safetensors"]
    (tmp_path / "tiny-test.run").write_bytes(b"of a training whose file was deleted")
    whole = train("tiny", tmp_path)
    assert (stopped.sha256, stopped.metric_value) == (whole.sha256, whole.metric_value)


def test_a_stopped_training_on_drawn_images_resumes_bit_for_bit(tmp_path, monkeypatch, capsys):
    calls = 0

    def stops_once(model, x):
        nonlocal calls
        calls += 1
        if calls == 31:
            raise KeyboardInterrupt
        return elbo_loss(model, x)

    monkeypatch.setitem(RECIPES, "binary", replace(BINARY, loss=stops_once))
    with pytest.raises(KeyboardInterrupt):
        train("binary", tmp_path / "stopped", save_every=0)
    stopped = train("binary", tmp_path / "stopped", resume=True)
    assert "binary: step 30 of 46 on" in capsys.readouterr().out
    whole = train("binary", tmp_path / "whole")
    assert (stopped.sha256, stopped.metric_value) == (whole.sha256, whole.metric_value)


def test_a_stopped_training_with_an_average_stores_the_average(tmp_path, monkeypatch):
    losses = []

    def loss(model, x, label):
        assert label.shape == (len(x),) and label.dtype == torch.int64
        if stop and len(losses) == 30:
            raise KeyboardInterrupt
        losses.append(1)
        return noisy_loss(model, x)

    def metric(model, x, label):
        assert label.shape == (len(x),)
        return reconstruction_loss(model, x)

    averaged = replace(RECIPE, loss=loss, metric=Measure(metric, "m"), labels=True, ema=0.9)
    monkeypatch.setitem(RECIPES, "tiny", averaged)
    stop = True
    with pytest.raises(KeyboardInterrupt):
        train("tiny", tmp_path / "stopped", save_every=0)
    stop = False
    stopped = train("tiny", tmp_path / "stopped", resume=True)
    whole = train("tiny", tmp_path / "whole")
    assert stopped.sha256 == whole.sha256
    monkeypatch.setitem(RECIPES, "tiny", replace(averaged, ema=None))
    assert train("tiny", tmp_path / "last").sha256 != whole.sha256


def test_a_changed_recipe_is_not_resumed(tmp_path, monkeypatch):
    def stops(model, x):
        raise KeyboardInterrupt

    (tmp_path / "tiny.run").write_bytes(begun(tmp_path / "begun", monkeypatch))
    changes = {"lr": 0.1, "batch_size": 32, "seed": 1, "epochs": 4, "data": Toy("rings", (2,), 100)}
    for field, value in changes.items():
        monkeypatch.setitem(RECIPES, "tiny", replace(RECIPE, **{field: value}, loss=stops))
        was, now = (getattr(each, "name", each) for each in (getattr(RECIPE, field), value))
        said = f"the {field} it was begun with, {was}; it is {now} now"
        with pytest.raises(ValueError, match=said):
            train("tiny", tmp_path, resume=True)


def test_another_recipe_s_training_is_not_resumed_and_another_commit_is_named(
    tmp_path, monkeypatch, capsys
):
    (tmp_path / "twin.run").write_bytes(begun(tmp_path / "begun", monkeypatch))
    monkeypatch.setitem(RECIPES, "twin", RECIPE)
    with pytest.raises(ValueError, match="the recipe it was begun with, tiny; it is twin now"):
        train("twin", tmp_path, resume=True)
    monkeypatch.setattr("companion.runtime.commit", lambda: "fedcba")
    train("tiny", tmp_path / "begun", resume=True)
    assert re.search("begun at commit [^,]*, continued at fedcba\n", capsys.readouterr().out)


def begun(folder, monkeypatch):
    """The bytes of a training of `tiny` that was stopped after two steps."""
    calls = []

    def stops(model, x):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return noisy_loss(model, x)

    monkeypatch.setitem(RECIPES, "tiny", replace(RECIPE, loss=stops))
    with pytest.raises(KeyboardInterrupt):
        train("tiny", folder, save_every=0)
    monkeypatch.setitem(RECIPES, "tiny", RECIPE)
    return (folder / "tiny.run").read_bytes()


def test_what_a_folder_holds_decides_whether_a_training_starts(tmp_path):
    with pytest.raises(ValueError, match="resume needs an unfinished training; .* none of tiny"):
        train("tiny", tmp_path, resume=True)
    train("tiny", tmp_path, epochs=1)
    with pytest.raises(ValueError, match="holds weights of tiny; delete them, or choose another"):
        train("tiny", tmp_path, epochs=1)
    with FileLock(tmp_path / ".binary.lock"), pytest.raises(ValueError, match="another training"):
        train("binary", tmp_path)


def test_a_training_in_a_thread_leaves_signals_alone(tmp_path):
    cards = []
    thread = threading.Thread(target=lambda: cards.append(train("tiny", tmp_path, epochs=1)))
    thread.start()
    thread.join()
    assert cards[0].name == "tiny"


def test_every_step_has_the_learning_rate_of_the_schedule(tmp_path, monkeypatch):
    rates = []

    class Adam(torch.optim.Adam):
        def step(self, *arguments):
            rates.append(self.param_groups[0]["lr"])
            return super().step(*arguments)

    monkeypatch.setattr(torch.optim, "Adam", Adam)
    monkeypatch.setitem(RECIPES, "tiny", replace(RECIPE, schedule=cosine))
    train("tiny", tmp_path / "cosine", epochs=2)
    assert rates == pytest.approx([0.01 * cosine(step / 46) for step in range(46)])
    rates.clear()
    monkeypatch.setitem(RECIPES, "tiny", RECIPE)
    train("tiny", tmp_path / "constant", epochs=1)
    assert set(rates) == {0.01}


def test_every_step_has_the_options_of_its_place(tmp_path, monkeypatch):
    weights = []

    def loss(model, x, beta):
        weights.append(beta)
        return reconstruction_loss(model, x)

    rising = replace(RECIPE, loss=loss, options=lambda progress: {"beta": 2 * progress})
    monkeypatch.setitem(RECIPES, "tiny", rising)
    train("tiny", tmp_path, epochs=2)
    assert weights == pytest.approx([2 * step / 46 for step in range(46)])


@pytest.mark.parametrize("shipped", [True, False])
def test_a_training_starts_from_weights_that_are_shipped_or_in_its_folder(
    tmp_path, monkeypatch, shipped
):
    (tmp_path / "home").mkdir()
    monkeypatch.setattr(weights, "WEIGHTS", tmp_path / "home")
    monkeypatch.setitem(RECIPES, "more", replace(RECIPE, start="tiny", lr=0.0, epochs=1))
    with pytest.raises(ValueError, match=r"starts from tiny; train that first, into the same"):
        train("more", tmp_path / "out")
    sha256 = train("tiny", tmp_path / ("home" if shipped else "out"), epochs=1).sha256
    assert train("more", tmp_path / "out").sha256 == sha256


def test_a_training_logs_loss_rate_and_speed(tmp_path, monkeypatch):
    monkeypatch.setitem(RECIPES, "tiny", replace(RECIPE, schedule=cosine))
    train("tiny", tmp_path, epochs=2, log_every=10)
    lines = [json.loads(line) for line in (tmp_path / "tiny.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20, 23, 30, 40, 46]
    names = ["step", "images", "loss", "lr", "epoch", "seconds", "images_per_second"]
    assert all(list(line) == names for line in lines)
    assert [line["images"] for line in lines[1:4]] == [1280, 1442, 1442 + 7 * 64]
    assert lines[2]["lr"] == pytest.approx(0.01 * cosine(22 / 46))
    assert lines[0]["loss"] > lines[-1]["loss"] and lines[2]["epoch"] == 1
    seconds = [line["seconds"] for line in lines]
    assert seconds == sorted(seconds)
    assert all(line["images_per_second"] > 0 for line in lines)  # test_logs.py has the formula


def test_settings_that_differ_from_the_recipe_s_are_on_the_card(tmp_path):
    card = train("tiny", tmp_path, 1, batch_size=32, lr=0.02, seed=3)
    options = "--epochs 1 --batch-size 32 --lr 0.02 --seed 3"
    assert card.command == f"python -m companion train tiny {options}" and card.seed == 3
    assert steps_of(tmp_path / "tiny.jsonl") == [46]
    same = train("tiny", tmp_path / "same", 1, batch_size=64, lr=0.01, seed=0)
    assert same.command == "python -m companion train tiny --epochs 1"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1; 0 was given"),
        ({"lr": 0.0}, "lr must be positive"),
        ({"seed": -1}, "seed must be at least 0; -1 was given"),
        ({"log_every": 0}, "log_every must be at least 1; 0 was given"),
        ({"name": "tyni"}, "name must be one of ae-mnist, .*; 'tyni' was given"),
        ({"epochs": 0}, "epochs must be at least 1; 0 was given"),
        ({"epochs": 10**20}, r"epochs must be below 2\^64; 1" + 20 * "0" + " was given"),
        ({"save_every": -1.0}, "save_every must not be negative"),
        ({"save_every": float("nan")}, "save_every must not be negative"),
    ],
)
def test_bad_settings_of_a_training_are_refused(tmp_path, given, message):
    with pytest.raises(ValueError, match=message):
        train(**{"name": "tiny", "out": tmp_path / "out"} | given)
    assert not (tmp_path / "out").exists()


def test_no_other_data_stand_in_for_the_recipe_s(no_data, tmp_path, capsys):
    with pytest.raises(FileNotFoundError, match="no copy of mnist"):
        train("ae-mnist", tmp_path / "out")
    assert capsys.readouterr().out == "" and not (tmp_path / "out").exists()


def test_a_training_that_diverges_says_so(tmp_path, monkeypatch):
    bad = Recipe(DIGITS, tiny, lambda model, x: noisy_loss(model, x) * float("inf"))
    monkeypatch.setitem(RECIPES, "bad", bad)
    with pytest.raises(FloatingPointError, match="the mean loss must be finite; at step 1 it is"):
        train("bad", tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", [train, evaluate])
def test_a_folder_that_cannot_be_written_is_noticed_before_the_work(tmp_path, capsys, call):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match=r"out must be a folder that can be written; .*file is none"):
        call("tiny", out=tmp_path / "file")
    assert capsys.readouterr().out == ""


def test_a_random_measurement_starts_from_the_recipe_s_seed(tmp_path):
    card = train("binary", tmp_path, epochs=1)
    model = tiny_vae()
    load_weights("binary", model, tmp_path)
    torch.manual_seed(0)
    x = binarize(load("digits", "test").images)
    again = negative_log_likelihood(model, x, 100).double().mean().item()
    assert again == pytest.approx(card.metric_value, abs=1e-4)


def test_the_first_test_examples_alone_can_be_measured():
    model = BINARY.model().eval()
    few = replace(BINARY, metric=Measure(lambda model, x: x.flatten(1).sum(1), "m"), num_test=30)
    some, all_of_them = (_evaluate(model, r) for r in (few, replace(few, num_test=None)))
    assert len(some) == 30 < len(all_of_them)
    assert torch.equal(some, all_of_them[:30])


def test_shipped_weights_are_measured_again(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "WEIGHTS", tmp_path)
    before = train("binary", tmp_path, epochs=1)
    assert evaluate("binary") == before
    out = tmp_path / "measured"
    after = evaluate("binary", samples=1000, out=out)
    assert after == read_card("binary", out)
    assert after.metric == "minus log p(x), estimated by L_1000"
    assert after.metric_value < before.metric_value
    names = ("metric", "metric_value", "metric_se")
    assert replace(after, **{name: getattr(before, name) for name in names}) == before


def test_the_values_of_single_examples_are_kept_for_paired_comparisons(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "WEIGHTS", tmp_path)
    train("binary", tmp_path, epochs=1)
    with pytest.raises(ValueError, match="values are written to the folder out; none was given"):
        evaluate("binary", samples=3, values=True)
    card = evaluate("binary", samples=3, values=True, out=tmp_path)
    found, of_record = load_record("binary-values")
    assert found["values"].shape == (355,) and found["values"].std() > 0.5
    assert found["values"].mean().item() == pytest.approx(card.metric_value, rel=1e-5)
    assert (of_record.model, of_record.metric_value) == ("binary", card.metric_value)
    command = "python -m companion evaluate binary --values --samples 3 --out"
    assert of_record.command == f"{command} {tmp_path.name}"
    monkeypatch.setattr(weights, "WEIGHTS", tmp_path / "none")
    out = tmp_path / "again"
    with pytest.raises(ValueError, match="folder must be a folder of weights; .*none is none"):
        evaluate("binary", samples=3, values=True, out=out)
    evaluate("binary", samples=3, folder=tmp_path, values=True, out=out)
    again, of_record = load_record("binary-values", out)
    assert torch.equal(again["values"], found["values"])
    assert of_record.command == f"{command} again --folder {tmp_path.name}"


def test_samples_fit_only_an_estimate_of_the_likelihood(tmp_path):
    with pytest.raises(ValueError, match=r"samples belong to an estimate of log p\(x\); tiny is"):
        evaluate("tiny", samples=5)
    with pytest.raises(ValueError, match="samples must be at least 1; 0 was given"):
        evaluate("binary", samples=0)
    with pytest.raises(ValueError, match=r"one of the weights \[.*\]; 'tiny' was given"):
        evaluate("tiny")
    save_weights(tiny(), card("tiny"), tmp_path)
    assert evaluate("tiny", folder=tmp_path).metric == str(RECIPE.metric)


def test_a_measurement_that_is_stopped_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "WEIGHTS", tmp_path / "weights")
    train("binary", tmp_path / "weights", epochs=1)
    out, calls = tmp_path / "out", []

    def metric(model, x, num_samples):
        calls.append(len(x))
        if calls[0] == 0 and len(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return negative_log_likelihood(model, x, num_samples)

    measured = replace(BINARY, metric=Measure(metric, "L_{num_samples}", 5))
    long = torch.rand(2500, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(Recipe, "examples", lambda self, split: (long,))
    monkeypatch.setitem(RECIPES, "binary", measured)
    whole = evaluate("binary", out=out, values=True)
    values = load_record("binary-values", out)[0]["values"]
    assert calls == [1000, 1000, 500]
    calls[:] = [0]
    with pytest.raises(KeyboardInterrupt, match="stopped after part 2"):
        evaluate("binary", out=out, values=True)
    assert (out / "binary-values.run").exists()
    with pytest.raises(ValueError, match="binary-values.run is unfinished; continue it with"):
        evaluate("binary", out=out, values=True)
    with pytest.raises(ValueError, match="be continued with the metric it was begun with"):
        evaluate("binary", samples=6, out=out, resume=True)
    assert evaluate("binary", out=out, values=True, resume=True) == whole
    assert calls == [0, 1000, 1000, 500]
    assert torch.equal(load_record("binary-values", out)[0]["values"], values)
    assert not (out / "binary-values.run").exists()
    with pytest.raises(ValueError, match="resume needs an unfinished computation; there is no"):
        evaluate("binary", resume=True)
