"""Checks for the exercises of chapter 8, Hierarchical VAEs."""

import math

import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from companion.page.exercises import double, draws, right_number, same_function

KL = draws(50, 4).square() * double([10.0, 3.0, 1.5, 0.01])


@right_number(
    "product",
    hint="Add the precisions, 1 and 2; the mean moves by the message's share of them.",
    remark="narrower than both",
    rtol=2e-3,
)
def check_product() -> list[float]:
    """Check mean and variance of N(0, 1) times N(3, 1/2)."""
    return [2.0, 1 / 3]


@right_number(
    "peaked",
    hint="Three times that of a Gaussian is 9; solve for s, not for its square.",
    remark="then the width of z_1 typically varies by a factor of 1.7, up or down",
    rtol=2e-3,
)
def check_peaked() -> float:
    """Check the standard deviation that makes the kurtosis 9."""
    return 0.52407


@same_function(
    "turn-around",
    [(0.9, 1.3, -0.4), (0.3, -2.0, 1.1), (0.99, 0.5, 0.7)],
    hint="A product of two Gaussian densities in z_1: one from x, one from z_2.",
    remark="the mean weighs both neighbors equally",
)
def check_turned_around(r: float, x: float, z_2: float) -> Tensor:
    """Check `turned_around(r, x, z_2)` by conditioning a joint Gaussian."""
    # Given x, the pair (z_1, z_2) is Gaussian; v is the noise variance of each step.
    v = 1 - r**2
    cov = double([[v, r * v], [r * v, r**2 * v + v]])
    slope = cov[0, 1] / cov[1, 1]
    mean = r * x + slope * (z_2 - r**2 * x)
    return torch.stack([mean, cov[0, 0] - slope * cov[0, 1]])


@same_function(
    "level-price",
    [
        (0.9, 0.3, 0.4, 0.2, 0.1, 0.7, 0.5),
        (-0.5, 1.2, 0.8, -1.0, 2.0, -0.3, 2.5),
        (0.7, 0.4, 0.7, 0.1, 0.4, 5.0, 1.0),  # nearly nothing to pay
    ],
    hint="The variance of z_2 counts too, times the square of the difference of slopes.",
    remark="zero if q and p agree for every z_2",
)
def check_level_price(*values: float) -> Tensor:
    """Check `level_price(a, s2, b, o, v, m, V)` by quadrature over z_2."""
    a, s2, b, o, v, m, V = double(values)
    nodes = torch.linspace(-12, 12, 4001, dtype=torch.double)
    z_2, weights = m + V.sqrt() * nodes, Normal(0.0, 1.0).log_prob(nodes).exp()
    q, p = Normal(b * z_2 + o, v.sqrt()), Normal(a * z_2, s2.sqrt())
    return torch.trapezoid(weights * kl_divergence(q, p), nodes)


@same_function(
    "charged",
    [(KL, 0.0), (KL, 1.0), (KL, 20.0)],
    hint="Mean over the batch first, then the floor, then the sum over levels.",
    remark="an inactive level is charged as if it were active",
)
def check_charged(kl: Tensor, free: float) -> float:
    """Check `charged(kl, free)` against a loop over the levels."""
    return sum(max(level.mean().item(), free) for level in kl.T)


@same_function(
    "two-dials",
    [(0.8, 0.3, 0.5, 1.0), (0.8, 0.3, 1.0, 0.5), (-1.5, 2.0, 0.0, 1.3)],
    hint="A temperature scales the standard deviation of its own level's noise.",
    remark="the upper temperature acts through the slope",
)
def check_tempered_variance(a: float, s2: float, tau_1: float, tau_2: float) -> Tensor:
    """Check `tempered_variance(a, s2, tau_1, tau_2)` with a matrix of the two noises."""
    row = double([a * tau_2, math.sqrt(s2) * tau_1])
    return row @ row


@same_function(
    "repair",
    [(1.0, 0.5, 1.0, 0.09), (-0.7, 2.0, -0.5, 1.5), (0.3, -1.0, 0.0, 0.4)],
    hint="Read the density of x as a function of z_1: where is its maximum?",
    remark="the message subtracts what z_2 explains",
)
def check_message(x: float, z_2: float, c: float, s0: float) -> list[float]:
    """Check `message(x, z_2, c, s0)` by the slope and the curvature of log p(x | z_1, z_2)."""
    # The function is a parabola, so differences of any width are exact.
    low, middle, high = (-((x - z_1 - c * z_2) ** 2) / (2 * s0) for z_1 in (-1.0, 0.0, 1.0))
    precision = 2 * middle - low - high
    return [(high - low) / 2 / precision, precision]
