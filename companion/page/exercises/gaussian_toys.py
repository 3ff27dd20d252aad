"""Checks for the exercises of chapter 5, Gaussian toy examples."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from companion.page.exercises import Values, exercise, expect_close, expect_function


@exercise("best-encoder-noise")
def check_best_t(best_t: Callable[[Tensor, Tensor], Any]) -> str:
    """Check `best_t(s, sigma)`, which maximizes the toy's bound for a given s."""

    def reference(s: Tensor, sigma: Tensor) -> Tensor:
        # The positive root of d/t - d t (1 + sigma^2 / s^2), by the precisions.
        return (1 + (sigma / s) ** 2).rsqrt()

    hint = "Only three terms depend on t: its square twice, and its logarithm."
    cases = _scalars((0.5, 1.7), (1.0, 1.0), (3.0, 0.2))
    expect_function(best_t, reference, cases, hint)
    return "the standard deviation of the model's posterior"


@exercise("stopping-price")
def check_price(answer: Values) -> str:
    """Check the nats lost at t = 1 in 784 dimensions, and the t that loses one nat."""
    hint = "On the ridge the bound is log p(x) - d t^2 / 2."
    right = [392.0, math.sqrt(2 / 784)]
    # Two real numbers; the rest is said of each, for they differ in size.
    expect_close(answer, right, hint, rtol=1e3)
    for number, expected in zip(torch.as_tensor(answer), right, strict=True):
        expect_close(number, expected, hint, rtol=1e-3)
    return "one nat needs noises twenty times smaller"


@exercise("map-threshold")
def check_threshold(threshold: Callable[[Tensor, Tensor], Any]) -> str:
    """Check `threshold(pi, m)`, from where on the second component is more probable."""

    def reference(pi: Tensor, m: Tensor) -> Tensor:
        return (m**2 / 2 - (1 / pi - 1).log()) / m

    hint = "Set pi exp(-x^2 / 2) equal to (1 - pi) exp(-(x - m)^2 / 2)."
    cases = _scalars((0.9, 1.0), (0.8, 2.0), (0.3, 0.5))
    expect_function(threshold, reference, cases, hint)
    return "it lies beyond both means if the weights differ enough"


@exercise("water")
def check_water(answer: Values) -> str:
    """Check the total rate and distortion of variances 4, 1, 0.25 at level 0.5."""
    hint = "What lies below the level costs nothing and stays as error."
    expect_close(answer, [math.log(4), 1.25], hint)
    return "two bits, two latents alive, one dead"


@exercise("alive")
def check_alive(num_alive: Callable[[Tensor, float, float], Any]) -> str:
    """Check `num_alive(eigenvalues, s2, beta)`, the number of active latents."""
    eigenvalues = torch.tensor([4.0, 2.0, 0.5, 0.3], dtype=torch.double)

    def reference(eigenvalues: Tensor, s2: float, beta: float) -> Tensor:
        rates = (eigenvalues / (beta * s2)).log().clamp(min=0)
        return torch.count_nonzero(rates)

    hint = "The weight multiplies the water level."
    cases = [(eigenvalues, 0.4, beta) for beta in (0.5, 1.0, 2.0, 6.0, 20.0)]
    expect_function(num_alive, reference, cases, hint)
    return "a large weight kills the weakest first"


@exercise("hidden-sigma")
def check_hidden(hidden_variance: Callable[[int, float], Any]) -> str:
    """Check `hidden_variance(D, kl_weight)`, the decoder's variance in a mean square."""

    def reference(D: int, kl_weight: float) -> Tensor:
        return torch.tensor(1 / (2 / (D * kl_weight)))

    hint = "Divide by the weight, then compare with square / (2 variance)."
    cases = [(784, 1.0), (784, 1 / 784), (10, 0.3)]
    expect_function(hidden_variance, reference, cases, hint)
    return "look for it in every program you read"


def _scalars(*cases: tuple[float, ...]) -> list[tuple[Tensor, ...]]:
    """Arguments that the functions of `math` and those of `torch` both take."""
    return [tuple(torch.tensor(n, dtype=torch.double) for n in case) for case in cases]
