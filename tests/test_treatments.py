"""Tests of companion.data.treatments, by torchvision's blur and by what must stay as it is."""

import torch
from bad_input import refused
from torchvision.transforms.functional import gaussian_blur

from companion.data import blurred, load, shifted, treated, with_contrast

X = load("digits", "test").images[:6]


def all_of(value: float) -> torch.Tensor:
    return torch.full((len(X),), value)


def test_whole_pixels_are_moved_as_they_are_and_halves_are_means() -> None:
    moved = shifted(X, torch.tensor([[2.0, -1.0]]).expand(len(X), 2))
    assert torch.equal(moved[..., 2:, :-1], X[..., :-2, 1:])
    assert not moved[..., :2, :].any() and not moved[..., -1].any()
    half = shifted(X, torch.tensor([[0.5, 0.0]]).expand(len(X), 2))
    assert torch.allclose(half[..., 1:, :], (X[..., 1:, :] + X[..., :-1, :]) / 2)
    assert torch.equal(shifted(X, torch.zeros(len(X), 2)), X)


def test_the_blur_is_that_of_torchvision_inside() -> None:
    wide = torch.nn.functional.pad(X, (8, 8, 8, 8))
    theirs = gaussian_blur(wide, [15, 15], [0.8, 0.8])[..., 8:-8, 8:-8]
    assert torch.allclose(blurred(X, all_of(0.8)), theirs, atol=1e-5)
    assert torch.allclose(blurred(X, all_of(0.0)), X)


def test_contrast_keeps_its_gray_level_and_the_range() -> None:
    less = with_contrast(X, all_of(0.5), all_of(0.0))
    assert torch.allclose(less, X / 2)
    more = with_contrast(X, all_of(3.0), all_of(0.5))
    assert more.min() == 0 and more.max() == 1
    same = with_contrast(X, all_of(1.0), all_of(0.3))
    assert torch.equal(same.round(decimals=5), X.round(decimals=5))


def test_some_images_stay_as_they_are_and_some_are_black_and_white() -> None:
    many = X[:1].repeat(400, 1, 1, 1)
    after = treated(many)
    assert after.shape == many.shape and after.min() >= 0 and after.max() <= 1
    same = (after == many).flatten(1).all(1).double().mean()
    binary = ((after == 0) | (after == 1)).flatten(1).all(1).double().mean()
    assert 0.05 < same < 0.2 and 0.1 < binary < 0.3


test_bad_input = refused("treatments")
