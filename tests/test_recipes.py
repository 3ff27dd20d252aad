"""Tests of companion.zoo.recipes and what they are made of: every recipe trains, on data of its own splits."""

import pytest
import torch

from companion.data import SCENE_FACTORS, render_scenes, scenes
from companion.training import fit
from companion.zoo import sources
from companion.zoo.architectures import codes, decoded, told
from companion.zoo.measures import squared_error_of_drawings
from companion.zoo.recipes import RECIPES, cosine, recipe, relaxing, warming
from companion.zoo.sources import DIGITS


def examples_like(recipe, num):
    """Random examples of the shape and the values that the recipe's data have, and labels if it wants them."""
    levels = 17 if recipe.data == DIGITS else 256
    images = torch.randint(levels, (num, *recipe.data.x_shape)) / (levels - 1)
    x = recipe.prepare(images)
    labels = torch.rand(num, 5) if recipe.data.label_shape else torch.arange(num)
    return (x, labels) if recipe.labels else (x,)


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains(name, unchecked):
    recipe = RECIPES[name]
    torch.manual_seed(0)
    model, examples = recipe.model(), examples_like(recipe, 3)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr / 10, fused=True)

    def loss(model, *examples):
        torch.manual_seed(1)  # the same noise at every step, so that few steps show it
        return recipe.loss(model, *examples, **recipe.options(1.0))

    losses = [step.loss for step in fit(model, loss, [examples] * 6, optimizer)]
    assert min(losses[1:]) < losses[0]
    with torch.no_grad():
        values = recipe.metric(model, *examples)
    assert values.shape == (3,) and values.isfinite().all()


def test_an_unknown_name_is_answered_with_the_known_ones():
    assert recipe("ae-mnist") is RECIPES["ae-mnist"]
    with pytest.raises(ValueError, match="name must be one of ae-mnist, .*; 'ae' was given"):
        recipe("ae")


def test_texts_of_measures_name_the_number_of_samples():
    assert str(RECIPES["vae-mnist"].metric).endswith("in nats, estimated by L_100")
    assert not any("{" in str(each.metric) for each in RECIPES.values())


def test_restore_undoes_prepare():
    x = torch.rand(2, 1, 28, 28)
    for name in ("ddpm-mnist", "ddpm-mnist-joint", "ae-mnist"):
        each = RECIPES[name]
        torch.testing.assert_close(each.restore(each.prepare(x)), x)
    points = torch.randn(5, 2)
    toy = RECIPES["ddpm-toy2d"]
    torch.testing.assert_close(toy.restore(toy.prepare(points)), points)
    assert codes(x).shape == (2, 16) and decoded(codes(x)).shape == x.shape


def test_schedules_of_rates_and_weights():
    assert (cosine(0.0), cosine(0.5), cosine(1.0)) == pytest.approx((1, 0.505, 0.01))
    assert [relaxing(p)["beta"] for p in (0.0, 0.35, 0.7, 1.0)] == pytest.approx([100, 10, 1, 1])
    assert [warming(p)["beta"] for p in (0.0, 0.15, 0.3, 1.0)] == pytest.approx([0, 0.5, 1, 1])
    assert [warming(p)["free_nats"] for p in (0.0, 0.49, 0.5, 1.0)] == [1, 1, 0, 0]


def test_toys_are_two_samples_and_leave_random_numbers_alone():
    state = torch.get_rng_state()
    (train,), (test,) = (RECIPES["ddpm-toy2d"].examples(split) for split in ("train", "test"))
    assert train.shape == (50_000, 2) and test.shape == (10_000, 2)
    assert not torch.isin(test[:, 0], train[:, 0]).all()
    assert torch.equal(state, torch.get_rng_state())


def test_scenes_are_two_samples(monkeypatch):
    asked, scenes = [], sources.scenes

    def few(num, seed, device):
        asked.append(num)
        return scenes(20, seed, device)

    monkeypatch.setattr(sources, "scenes", few)
    (train,), (test,) = (RECIPES["vae-scenes"].examples(split) for split in ("train", "test"))
    assert asked == [20_000, 2_000]
    assert train.shape == test.shape == (20, 3, 32, 32)
    assert not any((train == one).flatten(1).all(1).any() for one in test)
    images, factors = RECIPES["ddpm-scenes"].examples("train")
    assert asked[-1] == 60_000 and torch.equal(images, train)
    torch.testing.assert_close(render_scenes(factors), images)


def test_networks_are_told_factors_from_minus_1_to_1():
    low, high = torch.tensor(list(SCENE_FACTORS.values())).T
    given = told(torch.stack([low, (low + high) / 2, high]))
    torch.testing.assert_close(given, torch.tensor([[-1.0], [0.0], [1.0]]).expand(3, 5))


def test_a_drawing_is_scored_against_the_scene_of_its_causes(unchecked):
    images, factors, _ = scenes(3, seed=2)
    x = 2 * images - 1

    class Knows(torch.nn.Module):
        """A denoiser that draws the scene it is told."""

        def forward(self, x_t, t, label):
            torch.testing.assert_close(label, told(factors))
            return x

    model = RECIPES["ddpm-scenes"].model()
    model.denoiser = Knows()
    assert squared_error_of_drawings(model, x, factors).abs().max() < 1e-6
    other = squared_error_of_drawings(model, x.flip(0), factors)
    torch.testing.assert_close(other, (images - images.flip(0)).square().flatten(1).sum(1))
