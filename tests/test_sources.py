"""Tests of companion.zoo.sources: what a source says of its examples is true, and its splits are two samples."""

import pytest
import torch

from companion.data import render_scenes
from companion.zoo import sources
from companion.zoo.recipes import RECIPES
from companion.zoo.sources import DIGITS, LANDSCAPES, MIXTURE, SCENES, Toy

each_source = pytest.mark.parametrize(
    "source", [DIGITS, MIXTURE, SCENES, LANDSCAPES], ids=lambda source: source.name
)


@each_source
def test_examples_are_as_many_and_as_large_as_the_source_says(source, monkeypatch):
    render, draw = sources.scenes, sources.landscapes

    def few(num, seed, device):
        assert num == SCENES.num
        x, factors, _ = render(1, seed, device)
        return x.expand(num, -1, -1, -1), factors.expand(num, -1)

    def fewer(num, *settings):
        return [part.expand(num, *part[0].shape) for part in draw(1, *settings)]

    monkeypatch.setattr(sources, "scenes", few)
    monkeypatch.setattr(sources, "landscapes", fewer)
    x, *labels = source.examples("train")
    assert x.shape == (source.num, *source.x_shape) and x.dtype == torch.float32
    assert [(label.shape, label.dtype) for label in labels] == (
        [] if isinstance(source, Toy) else [((source.num, *source.label_shape), source.label_dtype)]
    )


def test_every_recipe_has_the_labels_that_its_source_has():
    assert not any(each.labels and isinstance(each.data, Toy) for each in RECIPES.values())


def test_toys_are_two_samples_and_leave_random_numbers_alone():
    state = torch.get_rng_state()
    (train,), (test,) = (MIXTURE.examples(split) for split in ("train", "test"))
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


@each_source
def test_there_is_no_third_split(source):
    with pytest.raises(ValueError, match="split must be one of train, test; 'valid' was given"):
        source.examples("valid")
