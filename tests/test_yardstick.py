"""Tests of companion.zoo.yardstick: real digits are near, spoiled ones are far and refused."""

import pytest
import torch

from companion.data import load, rejects
from companion.metrics import jackknife
from companion.networks.classifier import DigitClassifier
from companion.zoo.experiments import reference
from companion.zoo.yardstick import (
    digit_distance,
    digit_features,
    feature_distance,
    real_digit_distance,
    refused,
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
    assert refused(real).value < 0.06 and refused(rejects(real)).value > 0.85


def test_a_reference_holds_moments_and_the_baseline() -> None:
    torch.manual_seed(0)
    judge = DigitClassifier(num_features=4).eval()
    train, test = torch.rand(300, 1, 28, 28), torch.rand(100, 1, 28, 28)
    found, values, metric = reference(judge, train, test, size=40)
    features = judge.features(train).detach().double()
    assert torch.allclose(found["mean"], features.mean(0))
    assert torch.allclose(found["root"].T @ found["root"], torch.cov(features.T), atol=1e-10)
    assert len(values) == 2 and found["real"].shape == (2,) and "40 test digits" in metric
    assert found["real"][1] > 0 and jackknife(lambda x: 1.0, test).standard_error == 0
