"""Tests of companion.zoo.recipes and what they are made of: every recipe trains, on data of its own splits."""

import pytest
import torch

from companion.training import fit
from companion.zoo.architectures import codes, decoded
from companion.zoo.recipes import RECIPES, cosine, recipe, relaxing, warming
from companion.zoo.sources import DIGITS


def examples_like(recipe, num):
    """Random examples of the shape and the values that the recipe's data have, and labels if it wants them."""
    levels = 17 if recipe.data == DIGITS else 256
    images = torch.randint(levels, (num, *recipe.data.x_shape)) / (levels - 1)
    x = recipe.prepare(images)
    labels = torch.randint(2, (num, *recipe.data.label_shape), dtype=recipe.data.label_dtype)
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
