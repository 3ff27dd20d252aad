"""Checks for the exercises of chapter 5, Gaussian toy examples."""

import math

import torch
from torch import Tensor

from companion.page.exercises import double, right_number, same_function

EIGENVALUES = double([4.0, 2.0, 0.5, 0.3])


def _scalars(*cases: tuple[float, ...]) -> list[tuple[Tensor, ...]]:
    """Arguments that the functions of `math` and those of `torch` both take."""
    return [tuple(map(double, case)) for case in cases]


@same_function(
    "best-encoder-noise",
    _scalars((0.5, 1.7), (1.0, 1.0), (3.0, 0.2)),
    hint="Only three terms depend on t: its square twice, and its logarithm.",
    remark="the standard deviation of the model's posterior",
)
def check_best_t(s: Tensor, sigma: Tensor) -> Tensor:
    """Check `best_t(s, sigma)`, which maximizes the toy's bound for a given s."""
    # The positive root of d/t - d t (1 + sigma^2 / s^2), by the precisions.
    return (1 + (sigma / s) ** 2).rsqrt()


@right_number(
    "stopping-price",
    hint="On the ridge the bound is log p(x) - d t^2 / 2.",
    remark="one nat needs noises twenty times smaller",
    rtol=1e-3,
    each=True,
)
def check_price() -> list[float]:
    """Check the nats lost at t = 1 in 784 dimensions, and the t that loses one nat."""
    return [392.0, math.sqrt(2 / 784)]


@same_function(
    "map-threshold",
    _scalars((0.9, 1.0), (0.8, 2.0), (0.3, 0.5)),
    hint="Set pi exp(-x^2 / 2) equal to (1 - pi) exp(-(x - m)^2 / 2).",
    remark="it lies beyond both means if the weights differ enough",
)
def check_threshold(pi: Tensor, m: Tensor) -> Tensor:
    """Check `threshold(pi, m)`, from where on the second component is more probable."""
    return (m**2 / 2 - (1 / pi - 1).log()) / m


@right_number(
    "water",
    hint="What lies below the level costs nothing and stays as error.",
    remark="two bits, two active latents, one collapsed",
)
def check_water() -> list[float]:
    """Check the total rate and distortion of variances 4, 1, 0.25 at level 0.5."""
    return [math.log(4), 1.25]


@same_function(
    "alive",
    [(EIGENVALUES, 0.4, beta) for beta in (0.5, 1.0, 2.0, 6.0, 20.0)],
    hint="The weight multiplies the water level.",
    remark="a large weight collapses the latents with the smallest eigenvalues first",
)
def check_alive(eigenvalues: Tensor, s2: float, beta: float) -> Tensor:
    """Check `num_alive(eigenvalues, s2, beta)`, the number of active latents."""
    return torch.count_nonzero((eigenvalues / (beta * s2)).log().clamp(min=0))


@same_function(
    "hidden-sigma",
    [(784, 1.0), (784, 1 / 784), (10, 0.3)],
    hint="Divide by the weight, then compare with square / (2 variance).",
    remark="look for it in every program you read",
)
def check_hidden(D: int, kl_weight: float) -> float:
    """Check `hidden_variance(D, kl_weight)`, the decoder's variance in a mean square."""
    return 1 / (2 / (D * kl_weight))
