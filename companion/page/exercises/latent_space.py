"""Checks for the exercises of chapter 7, Latent space."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from companion.page.exercises import (
    double,
    draws,
    exercise,
    expect_close,
    expect_function,
    right_number,
    same_function,
)

TABLE = draws(6, 4).abs()


@same_function(
    "chord-minimum",
    [(double(t),) for t in (0.0, 0.2, 0.5, 0.9)],
    hint="The variances of the two parts add up; a length is the root of that.",
    remark="in the middle of the line it is 29 percent shorter",
)
def check_shrinking(t: Tensor) -> Tensor:
    """Check `shrinking(t)`, the length on a chord relative to that at its ends."""
    return (1 - 2 * t + 2 * t**2).sqrt()


@exercise("arc")
def check_arc(arc: Callable[[Tensor, Tensor, float], Any]) -> str:
    """Check `arc(z_0, z_1, t)` by its weights: 1 and 0 at an end, of unit length always."""
    start, end = torch.eye(2, dtype=torch.double).unbind()
    hint = "The squares of the two weights must add up to one, and the arc end in z_1."
    ends = [(start, end, 0.0), (start, end, 1.0)]
    expect_function(arc, lambda z_0, z_1, t: z_1 if t else z_0, ends, hint)
    skew = torch.stack([start, 0.6 * start + 0.8 * end])
    for t in (0.3, 0.7):
        weights = torch.as_tensor(arc(start, end, t))
        expect_close(weights.square().sum(), 1.0, hint)
        # The weights must not depend on the two draws, or their distribution is no longer normal.
        expect_close(arc(skew[0], skew[1], t), weights @ skew, hint)
    return "every point of the path has the distribution of its ends"


@right_number(
    "information",
    hint="Minus half the logarithm of one minus the square; then solve for rho.",
    remark="one nat needs a correlation above 0.9",
    rtol=2e-3,
)
def check_information() -> list[float]:
    """Check the nats of a correlation of 0.95, and the correlation of one nat."""
    return [-0.5 * math.log(0.0975), 0.92987]


@same_function(
    "gap",
    [(TABLE, 3.0), (TABLE.T, 1.0)],
    hint="The best latent of each cause less the second best; the rows are latents.",
    remark="one where a single latent has all the information",
)
def check_gap(information: Tensor, entropy: float) -> Tensor:
    """Check `gap(information, entropy)` against the two largest of each column."""
    best, second = information.topk(2, dim=0).values
    return (best - second) / entropy


@same_function(
    "turn",
    [(1.0, 0.1, 0.4), (0.2, 3.0, math.pi / 4), (0.01, 0.5, 2.0), (0.3, 0.3, 0.7)],
    hint="Half of: the logs of the diagonal of the precision matrix, less its log det.",
    remark="zero for equal variances, and larger the more they differ",
)
def check_turn_price(a: float, b: float, angle: float) -> Tensor:
    """Check `turn_price(a, b, angle)` with the KL divergence of two Gaussians."""
    c, s = math.cos(angle), math.sin(angle)
    turn = double([[c, -s], [s, c]])
    P = turn @ torch.diag(1 / double([a, b])) @ turn.T
    zero = torch.zeros(2, dtype=torch.double)
    best = MultivariateNormal(zero, torch.diag(1 / P.diagonal()))
    return kl_divergence(best, MultivariateNormal(zero, precision_matrix=P))


@same_function(
    "middle",
    [(2.0,), (50.0,), (784.0,)],
    hint="The mean lies d/2 above the least, and the variance is d/2.",
    remark="twenty of them in 784 dimensions",
)
def check_deviations(d: float) -> float:
    """Check `deviations(d)`, from the origin to the mean of the negative log-density."""
    return math.sqrt(d / 2)
