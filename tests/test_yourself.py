"""Tests of companion.zoo.yourself: what a training costs by count, the short one, the switch to its weights."""

import math
import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from tiny_recipes import RECIPE, recipes, tiny

from companion.flows import Flow
from companion.mean_flows import MeanFlow
from companion.networks.unet import UNet
from companion.zoo import pretrained
from companion.zoo.architectures import _shipped
from companion.zoo.recipes import RECIPES
from companion.zoo.weights import card_names, read_card
from companion.zoo.yourself import _draw, cost, train_it, use

__all__ = ["recipes"]


def test_the_operations_of_a_perceptron_are_counted_as_on_paper():
    found = cost("tiny")
    layers = [64 * 16, 16 * 4, 4 * 16, 16 * 64]
    # Forward, and backward for weights and for inputs, but for the gradient of the images; a step has 64.
    assert found.operations == 2 * (3 * sum(layers) - layers[0]) * 64
    assert found.num_parameters == sum(layers) + 16 + 4 + 16 + 64
    assert found.num_steps == 3 * 23
    data, state = 1442 * 64, 4 * found.num_parameters
    assert 4 * (data + state) < found.memory < 4 * (data + state) + 64 * 4 * 1000
    # Too small for arithmetic to count: its operations are only started.
    assert found.t4_minutes == found.num_steps * found.launches * 1e-5 / 60
    assert found.short_steps == 69


def test_a_recipe_says_how_many_scenes_there_are():
    assert cost("ddpm-scenes").num_steps == 16 * 938  # 60,000 in batches of 64
    assert cost("vae-scenes").num_steps == 30 * 200


def test_large_models_cost_arithmetic_and_their_short_training_is_short():
    large = cost("ddpm-cifar10")
    seconds = large.num_steps * large.operations / (8.1e12 / 3)
    assert large.t4_minutes == pytest.approx(seconds / 60)
    assert large.short_steps == 10
    assert "a T4 at full scale: about " in str(large) and "counted and not measured" in str(large)
    # The third in forward mode, the last with attributes in place of classes.
    names = ("ae-mnist", "hvae-mnist", "mean-flow-digits", "text-scenes")
    assert all(10 <= cost(name).short_steps <= 500 for name in names)


def test_what_a_recipe_loads_is_not_counted():
    _shipped.cache_clear()
    first = cost("ldm-mnist")
    assert _shipped.cache_info().misses == 1
    assert cost("ldm-mnist") == first
    assert _shipped.cache_info().misses == 1


def test_scenes_are_counted_by_their_recipe_with_their_causes_as_labels():
    found = cost("ddpm-scenes")
    assert found.num_steps == 16 * math.ceil(60_000 / found.batch_size)
    assert found.operations > cost("ddpm-mnist").operations


def test_the_page_on_running_tells_what_is_counted_and_what_the_cards_say():
    page = Path(__file__).parents[1] / "book" / "running.md"
    rows = re.findall(r"\| (\d+) \| `(.*)` \| (.*) \| (.*) \| (.*) \|", page.read_text("utf8"))
    assert [int(row[0]) for row in rows] == [1, 6, 7, 8, 10]
    for _, name, *told in rows:
        found, card = cost(name), read_card(name)
        operations = f"{found.num_steps * found.operations:.1e}"
        assert told == [operations, f"{card.minutes:.1f}", f"{found.t4_minutes:.1f}"]
        assert card.device.startswith("CPU") and card.device.endswith(" 1 threads")
    row = r"\| `(.*)` \| (.*) million \| (\d\.\de.*) \| (.*) \|"
    rows = re.findall(row, page.read_text("utf8"))
    for name, *told in rows:
        found = cost(name)
        numbers = (found.num_parameters / 1e6, found.t4_minutes / 60)
        assert told[::2] == [f"{number:.1f}" for number in numbers]
        assert told[1] == f"{found.num_steps * found.operations:.1e}"
    assert len(rows) == 4 and not {row[0] for row in rows} & set(card_names())


def test_a_short_training_is_the_recipe_s_own_and_disturbs_no_random_numbers(monkeypatch):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    found = list(train_it("tiny", "full"))
    assert torch.equal(torch.get_rng_state(), before)
    assert [progress.step for progress in found][-1] == found[-1].num_steps == 69
    assert 20 <= len(found) <= 24
    losses = found[-1].losses
    assert len(losses) == 69 and losses[-1] < losses[0]
    images = found[-1].draw()
    assert images.shape == (8, 1, 8, 8) and images.min() >= 0 and images.max() <= 1
    monkeypatch.setattr("companion.zoo.yourself.SHORT", 0)
    rates = []
    watched = replace(RECIPE, schedule=lambda share: rates.append(share) or 1.0)
    monkeypatch.setitem(RECIPES, "tiny", watched)
    *_, last = train_it("tiny", "small")
    assert last.num_steps == last.step == 10
    assert rates[:10] == [step / 10 for step in range(10)]


def test_an_average_of_the_weights_is_what_is_returned(monkeypatch):
    monkeypatch.setitem(RECIPES, "tiny", replace(RECIPE, ema=0.5, epochs=1))
    *_, last = train_it("tiny")
    assert type(last.model) is type(tiny()) and not hasattr(last.model, "module")


def test_a_diffusion_model_and_a_vae_draw_and_points_are_no_images():
    for name, shape in (("ddpm-digits", (8, 1, 8, 8)), ("binary", (8, 1, 8, 8))):
        model = RECIPES[name].model()
        x = _draw(RECIPES[name], model, torch.zeros(8, 1, 8, 8))
        assert x.shape == shape and model.training
    scenes = RECIPES["vae-scenes"]
    model = scenes.model()
    torch.nn.init.constant_(model.decoder[-1].bias, 2.0)  # a Gaussian's mean knows no bounds
    assert _draw(scenes, model, torch.zeros(8, 3, 32, 32)).max() == 1
    points = RECIPES["ddpm-toy2d"]
    assert _draw(points, points.model(), torch.zeros(8, 2)) is None
    judge = RECIPES["classifier-mnist"]
    assert _draw(judge, judge.model(), torch.zeros(8, 1, 28, 28)) is None


@pytest.mark.parametrize("name", ["flow-digits", "mean-flow-digits"])
def test_a_flow_shows_what_it_draws_while_it_learns(name, monkeypatch):
    network = partial(UNet, (1, 8, 8), 8, (1,), blocks=1)
    model, more = (Flow, {}) if name == "flow-digits" else (MeanFlow, {"num_factors": 1})
    small = replace(
        RECIPES[name], model=lambda: model(network(**more), (1, 8, 8)), epochs=1, batch_size=256
    )
    monkeypatch.setitem(RECIPES, name, small)
    *_, before, last = train_it(name, "full")
    images = last.draw()
    assert images.shape == (8, 1, 8, 8) and 0 <= images.min() < images.max() <= 1
    assert torch.equal(images, last.draw())  # the same noise each time
    assert last.step == before.step + 1 == 6


def test_the_switch_gives_copies_of_your_weights_until_it_is_put_back():
    shipped = pretrained("vae-mnist")
    mine = RECIPES["vae-mnist"].model()
    try:
        use("vae-mnist", mine)
        found = pretrained("vae-mnist")
        assert found is not mine and not found.training
        assert all(map(torch.equal, found.state_dict().values(), mine.state_dict().values()))
        assert not any(parameter.requires_grad for parameter in found.parameters())
    finally:
        use("vae-mnist", None)
    again = pretrained("vae-mnist")
    assert all(map(torch.equal, again.state_dict().values(), shipped.state_dict().values()))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: train_it("tyni"), "name must be one of .*; 'tyni' was given"),
        (lambda: train_it("tiny", "huge"), "scale must be 'small' or 'full'; 'huge' was given"),
        (lambda: cost("tyni"), "name must be one of .*; 'tyni' was given"),
        (lambda: use("tyni", None), "name must be one of .*; 'tyni' was given"),
        (lambda: use("vae-mnist", tiny()), "the weights of this model do not fit the model: Vae"),
    ],
)
def test_bad_input_gets_one_sentence(call, message):
    with pytest.raises(ValueError, match=message):
        call()
