"""Tests of companion.zoo.yardstick: real digits are near and recognized, spoiled ones are far and not."""

import pytest
import torch
from torch import Tensor

from companion.data import binarize, blurred, load, rejects, shifted, with_contrast
from companion.data.rejects import is_spoiled, ways_to_spoil
from companion.metrics import Estimate, jackknife
from companion.networks.classifier import DigitClassifier
from companion.zoo.records import reference
from companion.zoo.yardstick import (
    Unrecognized,
    digit_distance,
    digit_features,
    excess_of_votes,
    feature_distance,
    no_digit_votes,
    real_digit_distance,
    unrecognized,
)


def test_the_record_is_that_of_test_digits() -> None:
    real = real_digit_distance()
    assert 0 < real.value < 2 and 0 < real.standard_error < 0.5


def test_real_digits_are_near_and_spoiled_ones_far() -> None:
    test = load("mnist", "test")
    if test.name != "mnist":
        pytest.skip("the yardstick is that of MNIST, which is not here")
    torch.manual_seed(0)
    real = test.images[torch.randperm(len(test.images))[:1000]]
    near, far = digit_distance(real), digit_distance(rejects(real))
    assert abs(near.value - real_digit_distance().value) < 4 * near.standard_error
    assert far.value > near.value + 10 * far.standard_error
    assert feature_distance(digit_features(real)) == near


@pytest.fixture(scope="module")
def digits() -> Tensor:
    test = load("mnist", "test")
    if test.name != "mnist":
        pytest.skip("the judges are those of MNIST, which is not here")
    return test.images[::10]


@pytest.fixture(scope="module")
def untouched(digits: Tensor) -> Tensor:
    return no_digit_votes(digits).mean(1)


TREATMENTS = {
    "shifted by a quarter": lambda x: shifted(x, torch.full((len(x), 2), 0.25)),
    "shifted by a half": lambda x: shifted(x, torch.full((len(x), 2), 0.5)),
    "blurred by 0.5": lambda x: blurred(x, torch.full((len(x),), 0.5)),
    "blurred by 0.8": lambda x: blurred(x, torch.full((len(x),), 0.8)),
    "contrast 0.7": lambda x: with_contrast(x, torch.full((len(x),), 0.7), torch.zeros(len(x))),
    "contrast 1.3": lambda x: with_contrast(x, torch.full((len(x),), 1.3), torch.zeros(len(x))),
    "grayer by 0.7": lambda x: with_contrast(x, *torch.tensor([[0.7], [0.5]]).expand(2, len(x))),
    "binarized": binarize,
}


@pytest.mark.parametrize("name", TREATMENTS)
def test_a_treated_digit_is_still_a_digit_to_both_judges(
    name: str, digits: Tensor, untouched: Tensor
) -> None:
    torch.manual_seed(0)
    missed = no_digit_votes(TREATMENTS[name](digits)).mean(1)
    assert bool((missed <= 2 * untouched).all()), (missed, untouched)


@pytest.mark.parametrize("width", [0.0, 0.5])
def test_each_way_to_spoil_is_seen_by_both_judges_sharp_and_blurred(
    width: float, digits: Tensor
) -> None:
    torch.manual_seed(0)
    x = digits[::2]
    for name, spoiled in ways_to_spoil(x).items():
        kept = spoiled[is_spoiled(spoiled, x)]
        seen = no_digit_votes(blurred(kept, torch.full((len(kept),), width))).mean(1)
        assert bool((seen >= 0.9).all()), (name, seen)


def test_shares_are_in_excess_over_real_digits_and_ordered_by_both_judges(digits: Tensor) -> None:
    torch.manual_seed(0)
    real, spoiled = unrecognized(digits), unrecognized(rejects(digits[::2]))
    assert abs(real.value) < 4 * real.standard_error and len(real.each) == 2
    assert spoiled.value > 0.9 and real.below(spoiled) and not spoiled.below(real)
    assert unrecognized(digits[:9], digits[:9]).value == 0


def test_an_order_needs_both_judges() -> None:
    def of(*shares: float) -> Unrecognized:
        each = tuple(Estimate(share, 0.01) for share in shares)
        return Unrecognized(sum(shares) / 2, 0.01, each)

    assert of(0.1, 0.2).below(of(0.2, 0.3))
    assert not of(0.1, 0.2).below(of(0.3, 0.2)) and not of(0.1, 0.2).below(of(0.11, 0.21))


def test_votes_become_a_share_with_a_binomial_error() -> None:
    votes = torch.tensor([[1.0, 0, 0, 0], [1, 1, 0, 0]], dtype=torch.double)
    found = excess_of_votes(votes, torch.zeros(2, 4, dtype=torch.double))
    assert [e.value for e in found.each] == [0.25, 0.5] and found.value == 0.375
    assert found.each[1].standard_error == pytest.approx(0.25)


def test_a_reference_holds_moments_and_the_baseline() -> None:
    judge = DigitClassifier(num_features=4).eval()
    train, test = torch.rand(300, 1, 28, 28), torch.rand(100, 1, 28, 28)
    found, values, metric = reference(judge, train, test, size=40)
    features = judge.features(train).detach().double()
    assert torch.allclose(found["mean"], features.mean(0))
    assert torch.allclose(found["root"].T @ found["root"], torch.cov(features.T), atol=1e-10)
    assert len(values) == 2 and found["real"].shape == (2,) and "40 test digits" in metric
    assert found["real"][1] > 0 and jackknife(lambda x: 1.0, test).standard_error == 0
