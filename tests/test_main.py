import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial

import pytest
import torch

from companion import __main__ as command_line
from companion import __version__
from companion.__main__ import main
from companion.autoencoder import mlp_autoencoder, reconstruction_loss
from companion.data import binarize, load
from companion.ddpm import image_ddpm
from companion.elbo import elbo_loss
from companion.networks.unet import UNet
from companion.schedule import linear_schedule
from companion.vae import mlp_vae
from companion.zoo import checkpoints
from companion.zoo import experiments as records
from companion.zoo.checkpoints import check_weights, load_record, load_weights
from companion.zoo.recipes import RECIPES, Recipe, cosine, minus_log_likelihood, relaxing, warming


def tiny():
    """An autoencoder of the 8x8 digits that come with scikit-learn."""
    return mlp_autoencoder(latent_dim=4, hidden=16, image_shape=(1, 8, 8))


def noisy_loss(model, x):
    """Random, so that a resumed training shows whether its random numbers were restored."""
    return reconstruction_loss(model, x + 0.1 * torch.randn_like(x))


def tiny_vae():
    return mlp_vae(latent_dim=2, hidden=(8,), image_shape=(1, 8, 8))


RECIPE = Recipe("digits", tiny, noisy_loss, epochs=3, batch_size=64, lr=0.01)
BINARY = Recipe(
    "digits",
    tiny_vae,
    elbo_loss,
    minus_log_likelihood,
    epochs=2,
    batch_size=64,
    prepare=binarize,
    schedule=cosine,
)


@pytest.fixture(autouse=True)
def recipe(monkeypatch):
    """A recipe of a second, on the CPU, where runs repeat bit for bit."""
    monkeypatch.setitem(RECIPES, "tiny", RECIPE)
    monkeypatch.setitem(RECIPES, "binary", BINARY)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("COMPANION_SCALE", raising=False)


@pytest.fixture
def no_data(monkeypatch, tmp_path):
    """A machine without copies of the data sets and without a network."""
    monkeypatch.setenv("COMPANION_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COMPANION_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("companion.data.images._any_answers", lambda urls: False)


def test_training_writes_weights_with_a_true_card(tmp_path, capsys):
    assert main(["train", "tiny", "--out", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert re.findall(r"epoch (\d) of 3", out) == ["1", "2", "3"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.json", "tiny.safetensors"]
    model = tiny()
    card = load_weights("tiny", model, tmp_path)
    x = load("digits", "test").images
    errors = torch.stack([(model(one[None]) - one).square().sum() for one in x]).detach().double()
    assert card.metric_value == pytest.approx(errors.mean().item(), rel=1e-5)
    assert card.metric_se == pytest.approx((errors.var() / len(x)).sqrt().item(), rel=1e-5)
    # Predicting the mean picture is what a decoder without a code could do.
    constant = (x - load("digits").images.mean(0)).flatten(1).square().sum(1).mean()
    assert card.metric_value < 0.9 * constant
    assert (card.data, card.scale, card.seed) == ("digits", "small", 0)
    assert card.command == "python -m companion train tiny"
    assert card.num_parameters == 64 * 16 + 16 + 16 * 4 + 4 + 4 * 16 + 16 + 16 * 64 + 64
    assert f"{card.metric_value:.3f}" in out


def test_the_command_of_the_card_names_the_epochs_and_the_weights_repeat(tmp_path):
    for folder in ("one", "two"):
        assert main(["train", "tiny", "--epochs", "1", "--out", str(tmp_path / folder)]) == 0
    cards = [check_weights("tiny", tmp_path / folder) for folder in ("one", "two")]
    assert cards[0].command == "python -m companion train tiny --epochs 1"
    assert cards[0].sha256 == cards[1].sha256
    assert main(["train", "tiny", "--epochs", "2", "--out", str(tmp_path / "two")]) == 0
    assert check_weights("tiny", tmp_path / "two").sha256 != cards[0].sha256


KILLED = """
import os, sys
sys.path[:0] = [sys.argv[1]]
import torch
torch.set_num_threads(int(sys.argv[3]))
from test_main import RECIPE, RECIPES, main
RECIPES["tiny"] = RECIPE
sys.exit(main(["train", "tiny", "--out", sys.argv[2], "--save-every", "0"]))
"""


def test_a_killed_training_resumes_and_gives_the_same_weights(tmp_path, capsys):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [
        sys.executable,
        "-u",
        "-c",
        KILLED,
        os.path.dirname(__file__),
        str(killed),
        str(torch.get_num_threads()),
    ]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        while "epoch 1" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert (killed / "tiny.run.safetensors").exists() and not (killed / "tiny.json").exists()

    assert main(["train", "tiny", "--out", str(killed)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ") and "continue it with --resume, or delete it" in err

    (killed / ".tiny.run.safetensors.tmp").write_bytes(
        b"what a writer leaves that is killed in the middle"
    )
    assert main(["train", "tiny", "--out", str(killed), "--resume"]) == 0
    start = re.search(r"tiny: step (\d+) of 69 on ", capsys.readouterr().out)
    assert start is not None and 22 <= int(start[1]) < 69
    assert main(["train", "tiny", "--out", str(whole)]) == 0
    assert check_weights("tiny", killed).sha256 == check_weights("tiny", whole).sha256
    assert sorted(path.name for path in killed.iterdir()) == ["tiny.json", "tiny.safetensors"]


def test_a_stopped_training_on_drawn_pictures_resumes_bit_for_bit(tmp_path, monkeypatch, capsys):
    calls = 0

    def stops_once(model, x):
        nonlocal calls
        calls += 1
        if calls == 31:
            raise KeyboardInterrupt
        return elbo_loss(model, x)

    monkeypatch.setitem(RECIPES, "binary", replace(BINARY, loss=stops_once))
    command = ["train", "binary", "--out", str(tmp_path / "stopped"), "--save-every", "0"]
    assert main(command) == 130
    assert main([*command, "--resume"]) == 0
    assert "binary: step 30 of 46 on" in capsys.readouterr().out
    assert main(["train", "binary", "--out", str(tmp_path / "whole")]) == 0
    cards = [check_weights("binary", tmp_path / folder) for folder in ("stopped", "whole")]
    assert cards[0].sha256 == cards[1].sha256
    assert cards[0].metric_value == cards[1].metric_value


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

    averaged = replace(RECIPE, loss=loss, metric=metric, labels=True, ema=0.9)
    monkeypatch.setitem(RECIPES, "tiny", averaged)
    stopped, whole, last = (tmp_path / name for name in ("stopped", "whole", "last"))
    command, stop = ["train", "tiny", "--save-every", "0", "--out"], True
    assert main([*command, str(stopped)]) == 130
    stop = False
    assert main([*command, str(stopped), "--resume"]) == 0
    assert main([*command, str(whole)]) == 0
    assert check_weights("tiny", stopped).sha256 == check_weights("tiny", whole).sha256
    monkeypatch.setitem(RECIPES, "tiny", replace(averaged, ema=None))
    assert main([*command, str(last)]) == 0
    assert check_weights("tiny", last).sha256 != check_weights("tiny", whole).sha256


def test_toys_are_two_samples_and_leave_random_numbers_alone():
    recipe = RECIPES["ddpm-toy2d"]
    state = torch.get_rng_state()
    (train,), (test,) = (
        command_line._examples(recipe, "train"),
        command_line._examples(recipe, "test"),
    )
    assert train.shape == (50_000, 2) and test.shape == (10_000, 2)
    assert not torch.isin(test[:, 0], train[:, 0]).all()
    assert torch.equal(state, torch.get_rng_state())


def test_a_random_measurement_starts_from_the_recipe_s_seed(tmp_path):
    assert main(["train", "binary", "--epochs", "1", "--out", str(tmp_path)]) == 0
    model = tiny_vae()
    card = load_weights("binary", model, tmp_path)
    torch.manual_seed(0)
    x = binarize(load("digits", "test").images)
    assert minus_log_likelihood(model, x).double().mean().item() == pytest.approx(
        card.metric_value, abs=1e-4
    )


def test_every_step_has_the_learning_rate_of_the_schedule(tmp_path, monkeypatch):
    rates = []

    class Adam(torch.optim.Adam):
        def step(self, *arguments):
            rates.append(self.param_groups[0]["lr"])
            return super().step(*arguments)

    monkeypatch.setattr(torch.optim, "Adam", Adam)
    monkeypatch.setitem(RECIPES, "tiny", replace(RECIPE, schedule=cosine))
    assert main(["train", "tiny", "--epochs", "2", "--out", str(tmp_path)]) == 0
    assert rates == pytest.approx([0.01 * cosine(step / 46) for step in range(46)])
    assert (cosine(0.0), cosine(0.5), cosine(1.0)) == pytest.approx((1, 0.505, 0.01))
    rates.clear()
    monkeypatch.setitem(RECIPES, "tiny", RECIPE)
    assert main(["train", "tiny", "--epochs", "1", "--out", str(tmp_path)]) == 0
    assert set(rates) == {0.01}


def test_every_step_has_the_weight_of_the_divergence(tmp_path, monkeypatch):
    weights = []

    def loss(model, x, beta):
        weights.append(beta)
        return reconstruction_loss(model, x)

    monkeypatch.setitem(
        RECIPES, "tiny", replace(RECIPE, loss=loss, options=lambda progress: {"beta": 2 * progress})
    )
    assert main(["train", "tiny", "--epochs", "2", "--out", str(tmp_path)]) == 0
    assert weights == pytest.approx([2 * step / 46 for step in range(46)])
    assert [relaxing(p)["beta"] for p in (0.0, 0.35, 0.7, 1.0)] == pytest.approx([100, 10, 1, 1])
    assert [warming(p)["beta"] for p in (0.0, 0.15, 0.3, 1.0)] == pytest.approx([0, 0.5, 1, 1])
    assert [warming(p)["free_nats"] for p in (0.0, 0.49, 0.5, 1.0)] == [1, 1, 0, 0]


def test_scenes_are_two_samples():
    recipe = RECIPES["vae-scenes"]
    (train,), (test,) = (
        command_line._examples(recipe, "train"),
        command_line._examples(recipe, "test"),
    )
    assert train.shape == (20_000, 3, 32, 32) and test.shape == (2_000, 3, 32, 32)
    assert not any((train == one).flatten(1).all(1).any() for one in test[:3])


def test_a_training_can_start_from_shipped_weights(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(checkpoints, "WEIGHTS", tmp_path)
    monkeypatch.setitem(RECIPES, "more", replace(RECIPE, start="tiny", lr=0.0, epochs=1))
    assert main(["train", "more", "--out", str(tmp_path)]) == 1
    assert "name must be one of the weights []; 'tiny' was given" in capsys.readouterr().err
    assert main(["train", "tiny", "--epochs", "1", "--out", str(tmp_path)]) == 0
    assert main(["train", "more", "--out", str(tmp_path)]) == 0
    assert check_weights("more").sha256 == check_weights("tiny").sha256


def test_a_record_holds_samples_and_the_errors_at_every_time(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(checkpoints, "WEIGHTS", tmp_path)
    schedule = linear_schedule(12, 0.01, 0.5)
    recipe = RECIPES["ddpm-digits"]
    few = replace(
        recipe,
        model=lambda: image_ddpm(UNet((1, 8, 8), 8, (1,), blocks=1), schedule, levels=17),
        epochs=2,
    )
    monkeypatch.setitem(RECIPES, "ddpm-digits", few)
    assert main(["train", "ddpm-digits", "--out", str(tmp_path)]) == 0
    assert (
        main(["record", "ddpm-digits", "--num", "130", "--examples", "50", "--out", str(tmp_path)])
        == 0
    )
    record, card = load_record("ddpm-digits-record", tmp_path)
    assert record["samples"].shape == (130, 1, 8, 8) and record["samples"].dtype == torch.uint8
    assert record["samples"].float().std() > 10
    error, spread = record["noise_error"], record["noise_error_se"]
    assert error.shape == spread.shape == (13,) and error[0] == spread[0] == 0
    assert bool((error[1:] > 0).all()) and bool((spread[1:] < error[1:]).all())
    assert card.command == "python -m companion record ddpm-digits --num 130 --examples 50"
    assert card.metric_value == pytest.approx(error[1:].mean().item())
    assert card.name in checkpoints.weight_names() and card.num_parameters == 0
    # The estimate does no worse than none, "the noise is 0", at any time, and better in the middle.
    assert error.max() < 1.1 and error[6] < 0.5


def test_few_steps_leave_the_features_of_every_sampler(tmp_path, monkeypatch, capsys):
    schedule = linear_schedule(12, 0.01, 0.5)
    few = replace(
        RECIPES["ddpm-mnist"],
        model=lambda: image_ddpm(UNet((1, 28, 28), 4, (1, 1), blocks=1), schedule),
        data="mnist",
    )
    monkeypatch.setitem(RECIPES, "ddpm-mnist", few)
    monkeypatch.setattr(records, "NUM_STEPS", (2, 5))
    card = replace(check_weights("classifier-mnist"), name="ddpm-mnist")
    checkpoints.save_weights(few.model(), "ddpm-mnist", card, tmp_path)
    command = [
        "steps",
        "ddpm-mnist",
        "--num",
        "7",
        "--weights",
        str(tmp_path),
        "--out",
        str(tmp_path),
    ]
    assert main(command) == 0
    record, card = load_record("ddpm-mnist-steps-record", tmp_path)
    kinds = ("ddim", "dpm-solver", "beta-tilde", "beta")
    assert set(record) == {f"{kind} {steps}" for kind in kinds for steps in (2, 5)}
    assert all(
        features.shape == (7, 64) and features.isfinite().all() for features in record.values()
    )
    assert not torch.equal(record["ddim 2"], record["ddim 5"])
    assert not torch.equal(record["beta 5"], record["beta-tilde 5"])
    assert 0.1 < card.metric_value <= 1


def test_the_first_test_examples_alone_can_be_measured(monkeypatch):
    model = BINARY.model().eval()
    few = replace(BINARY, metric=lambda model, x: x.flatten(1).sum(1), num_test=30)
    some, all_of_them = (
        command_line._evaluate(model, recipe) for recipe in (few, replace(few, num_test=None))
    )
    assert len(some) == 30 < len(all_of_them)
    assert torch.equal(some, all_of_them[:30])


def test_guidance_leaves_the_features_of_every_scale(tmp_path, monkeypatch, capsys):
    schedule = linear_schedule(30, 0.01, 0.3)
    network = partial(UNet, (1, 28, 28), 4, (1, 1), blocks=1, num_classes=10)
    classes = replace(RECIPES["ddpm-mnist-classes"], model=lambda: image_ddpm(network(), schedule))
    monkeypatch.setitem(RECIPES, "ddpm-mnist-classes", classes)
    monkeypatch.setattr(records, "SCALES", (0.0, 1.0, 4.0))
    model = classes.model()
    for parameter in model.parameters():  # some start at zero, and then no class makes a difference
        torch.nn.init.normal_(parameter, std=0.3)
    card = replace(check_weights("classifier-mnist"), name="ddpm-mnist-classes")
    checkpoints.save_weights(model, "ddpm-mnist-classes", card, tmp_path)
    command = [
        "guide",
        "ddpm-mnist-classes",
        "--num",
        "20",
        "--weights",
        str(tmp_path),
        "--out",
        str(tmp_path),
    ]
    assert main(command) == 0
    record, card = load_record("ddpm-mnist-classes-guidance-record", tmp_path)
    assert record["label"].tolist() == 2 * [*range(10)] and record["scale"].tolist() == [0, 1, 4]
    assert record["features"].shape == (3, 20, 64) and record["samples"].shape == (3, 20, 1, 28, 28)
    pair = record["samples"][:, [3, 13]].flatten(2) / 255  # both of class 3
    assert torch.allclose(record["spread"][:, 3], pair.var(1).sum(1), rtol=0.02)
    # Told no class, examples 0 and 10 differ by their noise alone; told one, the picture follows the class.
    assert not torch.equal(record["samples"][0], record["samples"][1])
    assert not torch.equal(record["samples"][1], record["samples"][2])
    assert main([*command[:3], "19", *command[4:]]) == 1
    assert "num must be at least 20" in capsys.readouterr().err
    assert (
        0 <= card.metric_value <= 1
        and card.command == "python -m companion guide ddpm-mnist-classes --num 20"
    )


def test_shipped_weights_are_measured_again(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(checkpoints, "WEIGHTS", tmp_path)
    text = "minus log p(x), estimated by L_100"
    monkeypatch.setitem(RECIPES, "binary", replace(BINARY, metric_text=text))
    assert main(["train", "binary", "--epochs", "1", "--out", str(tmp_path)]) == 0
    before = check_weights("binary")
    assert main(["evaluate", "binary"]) == 0
    line = f"{before.metric_value:.3f} +- {before.metric_se:.3f}"
    assert capsys.readouterr().out.endswith(f"binary: {text}: {line}\n")

    out = tmp_path / "measured"
    assert main(["evaluate", "binary", "--samples", "1000", "--out", str(out)]) == 0
    after = check_weights("binary", out)
    assert after.metric == "minus log p(x), estimated by L_1000"
    assert after.metric_value < before.metric_value
    assert (
        replace(after, metric=text, metric_value=before.metric_value, metric_se=before.metric_se)
        == before
    )


def test_the_values_of_single_examples_are_kept_for_paired_comparisons(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(checkpoints, "WEIGHTS", tmp_path)
    assert main(["train", "binary", "--epochs", "1", "--out", str(tmp_path)]) == 0
    assert main(["evaluate", "binary", "--samples", "3", "--values"]) == 1
    assert "--values needs a folder to write to" in capsys.readouterr().err
    assert main(["evaluate", "binary", "--samples", "3", "--values", "--out", str(tmp_path)]) == 0
    record, card = load_record("binary-record", tmp_path)
    assert record["values"].shape == (355,) and record["values"].std() > 0.5
    assert record["values"].mean().item() == pytest.approx(
        check_weights("binary").metric_value, rel=1e-5
    )
    assert card.command == "python -m companion evaluate binary --values --samples 3"
    monkeypatch.setattr(checkpoints, "WEIGHTS", tmp_path / "none")
    command = ["evaluate", "binary", "--samples", "3", "--values", "--out", str(tmp_path / "again")]
    assert main(command) == 1
    assert "name must be one of the weights []" in capsys.readouterr().err
    assert main([*command, "--weights", str(tmp_path)]) == 0
    again, card = load_record("binary-record", tmp_path / "again")
    assert torch.equal(again["values"], record["values"])
    assert (
        card.command
        == f"python -m companion evaluate binary --values --samples 3 --weights {tmp_path.name}"
    )


def test_samples_fit_only_a_likelihood(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(checkpoints, "WEIGHTS", tmp_path)
    assert main(["evaluate", "tiny", "--samples", "5"]) == 1
    assert (
        "--samples fits recipes that measure log p(x); tiny measures the squared error"
        in capsys.readouterr().err
    )
    assert main(["evaluate", "tiny"]) == 1
    assert "name must be one of the weights []; 'tiny' was given" in capsys.readouterr().err


def test_resume_without_a_stopped_training_starts_at_the_beginning(tmp_path, capsys):
    assert main(["train", "tiny", "--epochs", "1", "--out", str(tmp_path), "--resume"]) == 0
    assert "tiny: step 0 of 23 " in capsys.readouterr().out


def test_no_other_data_stand_in_for_the_recipe_s(no_data, tmp_path, capsys):
    assert main(["train", "ae-mnist", "--out", str(tmp_path / "out")]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: no copy of mnist") and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_training_that_diverges_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(
        RECIPES, "bad", Recipe("digits", tiny, lambda model, x: noisy_loss(model, x) * float("inf"))
    )
    assert main(["train", "bad", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "error: the mean loss must be finite; at step 1 it is inf\n"


def test_a_folder_that_cannot_be_made_is_noticed_before_the_training(tmp_path, capsys):
    (tmp_path / "file").write_text("no folder")
    assert main(["train", "tiny", "--out", str(tmp_path / "file")]) == 1
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and "file" in err


def test_control_c_ends_with_one_line_and_the_status_of_a_signal(tmp_path, monkeypatch, capsys):
    def interrupt(model, x):
        raise KeyboardInterrupt

    monkeypatch.setitem(RECIPES, "stopped", Recipe("digits", tiny, interrupt))
    assert main(["train", "stopped", "--out", str(tmp_path)]) == 130
    assert (
        capsys.readouterr().err
        == "stopped; a training continues from its last save with --resume\n"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: COMMAND"),
        (["train", "nonsense"], "invalid choice: 'nonsense' (choose from 'ae-mnist'"),
        (
            ["train", "tiny", "--epochs", "0"],
            "argument --epochs: must be a positive integer; '0' was given",
        ),
        (["train", "tiny", "--epochs", "1.5"], "must be a positive integer; '1.5' was given"),
        (
            ["train", "tiny", "--save-every", "-1"],
            "must be a number of seconds, not negative; '-1' was given",
        ),
        (
            ["train", "tiny", "--save-every", "nan"],
            "must be a number of seconds, not negative; 'nan' was given",
        ),
        (
            ["train", "tiny", "--save-every", "often"],
            "must be a number of seconds, not negative; 'often' was given",
        ),
    ],
)
def test_wrong_arguments(arguments, message, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert message.replace("'", "") in capsys.readouterr().err.replace("'", "")


def examples_like(recipe):
    """Eight random examples of the shape and the values that the recipe's data have, and labels if it wants them."""
    shape = {"mnist": (1, 28, 28), "digits": (1, 8, 8), "mixture": (2,)}.get(
        recipe.data, (3, 32, 32)
    )
    levels = 17 if recipe.data == "digits" else 256
    x = recipe.prepare(torch.randint(levels, (8, *shape)) / (levels - 1))
    return (x, torch.arange(8)) if recipe.labels else (x,)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains(name):
    recipe = RECIPES[name]
    torch.manual_seed(0)
    model, examples = recipe.model(), examples_like(recipe)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr, fused=True)
    with torch.no_grad():
        before = recipe.metric(model, *examples).mean().item()
    loss = partial(recipe.loss, **recipe.options(1.0))
    for _ in command_line.fit(model, loss, [examples] * 20, optimizer):
        pass
    with torch.no_grad():
        assert recipe.metric(model, *examples).shape == (8,)
        assert recipe.metric(model, *examples).mean().item() < before


def test_data_lists_every_set_and_downloads_only_when_asked(no_data, capsys):
    assert main(["data"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == ["mnist", "fashion_mnist", "cifar10", "digits"]
    assert main(["data", "--download", "mnist"]) == 1
    assert "no copy of mnist" in capsys.readouterr().err
    assert main(["data", "--download", "digits"]) == 0
    assert main(["data", "--download", "imagenet"]) == 1
    assert "name must be one of mnist" in capsys.readouterr().err


def test_doctor_describes_the_installation(no_data, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("COMPANION_SCALE", "full")
    monkeypatch.setattr(checkpoints, "WEIGHTS", tmp_path / "weights")
    assert main(["train", "tiny", "--epochs", "1", "--out", str(tmp_path / "weights")]) == 0
    capsys.readouterr()
    assert main(["doctor"]) == 0
    report = dict(
        re.split(r":\s+", line, maxsplit=1) for line in capsys.readouterr().out.splitlines()
    )
    assert report["companion"].startswith(__version__)
    assert report["python"].startswith(".".join(map(str, sys.version_info[:3])))
    assert (
        report["torch"] == torch.__version__.split("+")[0] or report["torch"] == torch.__version__
    )
    assert report["scale"] == "full"
    assert report["device"].endswith(f"{torch.get_num_threads()} threads")
    assert report["bfloat16"] in ("yes", "no")
    assert "no copy" in report["data mnist"]
    assert report["weights tiny"].startswith("verified")


def test_doctor_fails_on_an_altered_weight(no_data, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(checkpoints, "WEIGHTS", tmp_path)
    main(["train", "tiny", "--epochs", "1", "--out", str(tmp_path)])
    blob = bytearray((tmp_path / "tiny.safetensors").read_bytes())
    blob[-1] ^= 1
    (tmp_path / "tiny.safetensors").write_bytes(blob)
    assert main(["doctor"]) == 1
    assert (
        "weights tiny:            REFUSED: the weights 'tiny' must have the checksum"
        in capsys.readouterr().out
    )


def test_doctor_fails_on_altered_data(no_data, monkeypatch, tmp_path, capsys):
    from companion.data.images import _files

    for file in _files("mnist"):
        (tmp_path / "data" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / file).write_bytes(b"not mnist")
    assert main(["doctor"]) == 1
    assert "truncated or altered" in capsys.readouterr().out


def test_the_commit_is_that_of_the_checkout(monkeypatch, tmp_path):
    def git(*arguments):
        identity = [
            "-c",
            "user.name=n",
            "-c",
            "user.email=e@example.org",
            "-c",
            "commit.gpgsign=false",
        ]
        done = subprocess.run(
            ["git", *identity, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    module = tmp_path / "companion" / "__main__.py"
    module.parent.mkdir()
    module.write_text("")
    monkeypatch.setattr(command_line, "__file__", str(module))
    assert command_line._commit() == "unknown"
    git("init")
    assert command_line._commit() == "unknown"  # a copy that happens to lie in somebody's checkout
    git("add", "companion")
    git("commit", "-m", "first")
    assert command_line._commit() == git("rev-parse", "HEAD")
    (tmp_path / "notes").write_text("not tracked")
    assert command_line._commit() == git("rev-parse", "HEAD")
    module.write_text("changed")
    assert command_line._commit() == git("rev-parse", "HEAD") + "-dirty"


def test_runs_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "companion", "--help"], capture_output=True, text=True, check=True
    )
    for name in ("data", "doctor", "train"):
        assert name in done.stdout
