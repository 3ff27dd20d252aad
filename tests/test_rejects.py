"""Tests of companion.data.rejects: what is spoiled, and that each image is."""

import torch
from bad_input import refused

from companion.data import load, rejects
from companion.data.rejects import is_spoiled, ways_to_spoil


def test_every_image_is_changed_by_a_good_part_of_its_ink() -> None:
    x = load("digits", "test").images
    spoiled = rejects(x)
    assert spoiled.shape == x.shape and spoiled.dtype == x.dtype
    assert spoiled.min() >= 0 and spoiled.max() <= 1
    changed = (spoiled - x).abs().flatten(1).sum(1) / x.flatten(1).sum(1)
    laid_over = (spoiled == torch.maximum(x, x.roll(1, 0))).flatten(1).all(1)
    assert bool((changed[~laid_over] > 0.4).all())
    assert 0 < laid_over.double().mean() < 0.5


def test_each_way_spoils_some_and_none_passes_for_the_image_before() -> None:
    x = load("digits", "test").images
    ways = ways_to_spoil(x)
    assert set(ways) == {"pasted", "added", "mirrored", "erased", "warped", "overlaid"}
    assert all(is_spoiled(each, x).any() for each in ways.values())
    assert not is_spoiled(x, x).any() and not is_spoiled(x.roll(1, 0), x).any()


def test_the_ways_to_spoil_differ_and_follow_the_seed() -> None:
    x = load("digits", "test").images[:2].repeat(50, 1, 1, 1)
    torch.manual_seed(1)
    first = rejects(x)
    assert len(first[::2].flatten(1).unique(dim=0)) > 10
    torch.manual_seed(1)
    assert torch.equal(rejects(x), first)


test_bad_input = refused("rejects")
