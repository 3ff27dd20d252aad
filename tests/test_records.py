"""Tests of companion.zoo.records: what a record holds, from small models."""

import os
import signal
import time
from dataclasses import replace
from functools import partial

import pytest
import torch
from tiny_recipes import card, recipes, small_ddpm

from companion import runtime
from companion.ddpm import Ddpm, image_ddpm, noise_errors
from companion.flows import Flow
from companion.networks.unet import UNet
from companion.schedule import cosine_schedule, linear_schedule
from companion.zoo import comparisons, records, train, weights
from companion.zoo.comparisons import compare_scales, compare_spacings, compare_steps
from companion.zoo.pretrained import pretrained
from companion.zoo.recipes import RECIPES
from companion.zoo.records import record
from companion.zoo.weights import RecordCard, card_names, load_record, save_weights

__all__ = ["recipes"]


def test_samples_come_with_the_errors_at_every_time(tmp_path, monkeypatch, unchecked):
    monkeypatch.setattr(weights, "WEIGHTS", tmp_path)
    schedule = linear_schedule(12, 0.01, 0.5)
    few = replace(
        RECIPES["ddpm-digits"],
        model=lambda: image_ddpm(UNet((1, 8, 8), 8, (1,), blocks=1), schedule, levels=17),
        epochs=2,
    )
    monkeypatch.setitem(RECIPES, "ddpm-digits", few)
    train("ddpm-digits", tmp_path)
    monkeypatch.setattr(runtime, "autocast", partial(torch.autocast, "cpu", torch.bfloat16))
    written = record("ddpm-digits", num=130, examples=50, out=tmp_path)
    found, card = load_record("ddpm-digits-samples", tmp_path)
    assert card == written and card_names(RecordCard) == ["ddpm-digits-samples"]
    assert found["samples"].shape == (130, 1, 8, 8) and found["samples"].dtype == torch.uint8
    assert found["samples"].float().std() > 10
    error, standard_error = found["noise_error"], found["noise_error_se"]
    assert error.shape == standard_error.shape == (13,) and error[0] == standard_error[0] == 0
    assert bool((error[1:] > 0).all()) and bool((standard_error[1:] < error[1:]).all())
    command = "python -m companion record ddpm-digits --kind samples --num 130 --examples 50"
    assert card.command == command and card.model == "ddpm-digits"
    assert card.metric_value == pytest.approx(error[1:].mean().item())
    # Samples may be drawn in bfloat16, but errors are measured in float32.
    x = few.prepare(few.examples("test")[0][:50])
    model = pretrained("ddpm-digits", tmp_path)
    assert isinstance(model, Ddpm)
    torch.manual_seed(few.seed)
    with torch.no_grad():
        again = torch.cat([noise_errors(model, x, [t]) for t in range(1, 13)]).double().mean(1)
    torch.testing.assert_close(error[1:], again, rtol=1e-5, atol=0)
    # The estimate does no worse than none, "the noise is 0", at any time, and better in the middle.
    assert error.max() < 1.1 and error[6] < 0.5


@pytest.mark.parametrize("kind", ["steps", "guidance", "times"])
def test_a_record_of_each_kind_has_a_name_of_its_own(tmp_path, monkeypatch, unchecked, kind):
    monkeypatch.setattr(comparisons, "compare_steps", partial(compare_steps, num_steps=(2,)))
    monkeypatch.setattr(comparisons, "compare_scales", partial(compare_scales, scales=(0.0, 1.0)))
    network = partial(UNet, (1, 28, 28), 4, (1, 1), blocks=1, num_classes=10)
    schedule = linear_schedule(120, 0.001, 0.1)
    few = replace(RECIPES["ddpm-mnist-joint"], model=lambda: image_ddpm(network(), schedule))
    monkeypatch.setitem(RECIPES, "ddpm-mnist-joint", few)
    save_weights(few.model(), card("ddpm-mnist-joint"), tmp_path)
    written = record("ddpm-mnist-joint", kind, num=20, folder=tmp_path, out=tmp_path)
    assert written.name == f"ddpm-mnist-joint-{kind}" and written.model == "ddpm-mnist-joint"
    command = f"python -m companion record ddpm-mnist-joint --kind {kind} --num 20"
    assert written.command == command
    if kind == "steps":  # its noise is that of the seed, whatever was loaded before
        found, _ = load_record(written.name, tmp_path)
        model, judge = pretrained("ddpm-mnist-joint", tmp_path), pretrained("classifier-mnist")
        torch.manual_seed(few.seed)
        again = compare_steps(model, judge, 20, num_steps=(2,)).tensors
        assert all(torch.equal(found[way], drawn) for way, drawn in again.items())


def test_bits_are_measured_in_finer_steps(tmp_path, monkeypatch, unchecked):
    schedule, network = cosine_schedule(20), partial(UNet, (1, 8, 8), 4, (1,), blocks=1)
    few = replace(RECIPES["ddpm-digits"], model=lambda: image_ddpm(network(), schedule, levels=256))
    monkeypatch.setitem(RECIPES, "ddpm-digits", few)
    save_weights(few.model(), card("ddpm-digits"), tmp_path)
    written = record("ddpm-digits", "bits", num=30, folder=tmp_path, out=tmp_path)
    values = load_record(written.name, tmp_path)[0]["finer"]
    assert len(values) == 30 and "in finer steps" in written.metric
    assert abs(float(values.mean()) - written.metric_value) < 1e-4 and 1 < written.metric_value < 30


def test_a_record_of_spacings_is_one_of_all_trainings(tmp_path, monkeypatch, unchecked):
    monkeypatch.setattr(comparisons, "compare_spacings", partial(compare_spacings, num_steps=(2,)))
    network = partial(UNet, (1, 8, 8), 4, (1,), blocks=1)
    models = {
        "ddpm-digits": lambda: image_ddpm(network(), linear_schedule(100, 0.001, 0.1), levels=17),
        "flow-digits": lambda: Flow(network(), (1, 8, 8)),
    }
    for name, model in models.items():
        monkeypatch.setitem(RECIPES, name, replace(RECIPES[name], model=model))
        for part in "012":
            save_weights(model(), card(name), tmp_path / "runs" / part)
    runs = tmp_path / "runs"
    written = record("flow-digits", "spacing", num=20, folder=runs, out=tmp_path)
    command = "python -m companion record flow-digits --kind spacing --num 20 --folder runs"
    assert written.command == command and written.name == "flow-digits-spacing"
    found, again = load_record("flow-digits-spacing", tmp_path)
    assert again == written and found["flow, Heun"].shape == (2, 3, 1, 2)
    for name, kind in (("ddpm-digits", "spacing"), ("flow-digits", "samples")):
        with pytest.raises(ValueError, match="kind '.*' needs a .*; '.*' is none"):
            record(name, kind, folder=runs / "0" if kind == "samples" else runs, out=tmp_path)


def test_guidance_needs_classes(tmp_path, monkeypatch, unchecked):
    network, schedule = partial(UNet, (1, 28, 28), 4, (1, 1), blocks=1), linear_schedule(120)
    few = replace(RECIPES["ddpm-mnist"], model=lambda: image_ddpm(network(), schedule))
    monkeypatch.setitem(RECIPES, "ddpm-mnist", few)
    save_weights(few.model(), card("ddpm-mnist"), tmp_path)
    with pytest.raises(ValueError, match="needs .* digits and their classes; 'ddpm-mnist' is none"):
        record("ddpm-mnist", "guidance", folder=tmp_path, out=tmp_path)


@pytest.mark.parametrize(
    ("name", "kind", "needed"),
    [
        ("vae-mnist", "samples", "images"),
        ("ddpm-toy2d", "samples", "images"),
        ("ddpm-digits", "scenes", "scenes"),
        ("ddpm-digits", "steps", "digits"),
    ],
)
def test_a_model_that_cannot_be_measured_so_is_refused(tmp_path, name, kind, needed):
    message = f"kind '{kind}' needs a diffusion model of {needed}; '{name}' is none"
    with pytest.raises(ValueError, match=message):
        record(name, kind, out=tmp_path)


def test_a_record_that_goes_on_counts_the_minutes_of_its_parts(tmp_path, monkeypatch, unchecked):
    few = replace(RECIPES["ddpm-digits"], model=small_ddpm)
    monkeypatch.setitem(RECIPES, "ddpm-digits", few)
    save_weights(few.model(), card("ddpm-digits"), tmp_path)
    clock, calls = [0.0], []

    def a_minute(*arguments):
        clock[0] += 60
        calls.append(1)
        if len(calls) == 5:
            os.kill(os.getpid(), signal.SIGTERM)
        return noise_errors(*arguments)

    monkeypatch.setattr(records, "noise_errors", a_minute)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    draw = partial(record, "ddpm-digits", num=2, examples=3, folder=tmp_path, out=tmp_path)
    with pytest.raises(KeyboardInterrupt, match="stopped after part 5"):
        draw()
    clock[0] += 1e6  # nobody works
    assert draw(resume=True).minutes == len(calls) == 12
