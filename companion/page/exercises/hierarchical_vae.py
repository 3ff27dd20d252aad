"""Checks for the exercises of chapter 8, Hierarchical VAEs."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from companion.page.exercises import Values, exercise, expect_close, expect_function


@exercise("product")
def check_product(answer: Values) -> str:
    """Check mean and variance of N(0, 1) times N(3, 1/2)."""
    hint = "Add the precisions, 1 and 2; the mean moves by the message's share of them."
    expect_close(answer, [2.0, 1 / 3], hint, rtol=2e-3)
    return "narrower than both"


@exercise("peaked")
def check_peaked(answer: Values) -> str:
    """Check the standard deviation that makes the kurtosis 9."""
    hint = "Three times that of a normal law is 9; solve for s, not for its square."
    expect_close(answer, 0.52407, hint, rtol=2e-3)
    return "widths that typically vary by a factor of 1.7, up or down, are enough"


@exercise("turn-around")
def check_turned_around(turned_around: Callable[..., Any]) -> str:
    """Check `turned_around(r, x, z_2)` by conditioning a joint normal law."""

    def reference(r: float, x: float, z_2: float) -> Tensor:
        # Given x, the pair (z_1, z_2) is normal; v is the noise of each step.
        v = 1 - r**2
        cov = torch.tensor([[v, r * v], [r * v, r**2 * v + v]], dtype=torch.double)
        slope = cov[0, 1] / cov[1, 1]
        mean = r * x + slope * (z_2 - r**2 * x)
        return torch.stack([mean, cov[0, 0] - slope * cov[0, 1]])

    hint = "A product of two normal laws in z_1: one from x, one from z_2."
    cases = [(0.9, 1.3, -0.4), (0.3, -2.0, 1.1), (0.99, 0.5, 0.7)]
    expect_function(turned_around, reference, cases, hint)
    return "the mean leans on both neighbors alike"


@exercise("level-price")
def check_level_price(level_price: Callable[..., Any]) -> str:
    """Check `level_price(a, s2, b, o, v, m, V)` by quadrature over z_2."""
    nodes = torch.linspace(-12, 12, 4001, dtype=torch.double)
    weights = Normal(0.0, 1.0).log_prob(nodes).exp()

    def reference(*values: float) -> Tensor:
        a, s2, b, o, v, m, V = torch.tensor(values, dtype=torch.double)
        z_2 = m + V.sqrt() * nodes
        q, p = Normal(b * z_2 + o, v.sqrt()), Normal(a * z_2, s2.sqrt())
        return torch.trapezoid(weights * kl_divergence(q, p), nodes)

    hint = "The variance of z_2 counts too, times the square of the difference of slopes."
    cases = [
        (0.9, 0.3, 0.4, 0.2, 0.1, 0.7, 0.5),
        (-0.5, 1.2, 0.8, -1.0, 2.0, -0.3, 2.5),
        # Nearly nothing to pay; not exactly, since a relative tolerance of zero is none.
        (0.7, 0.4, 0.7, 0.1, 0.4, 5.0, 1.0),
    ]
    expect_function(level_price, reference, cases, hint)
    return "nothing where q takes over slope and variance of p"


@exercise("charged")
def check_charged(charged: Callable[[Tensor, float], Any]) -> str:
    """Check `charged(kl, free)` against a loop over the levels."""

    def reference(kl: Tensor, free: float) -> Tensor:
        return torch.tensor(sum(max(level.mean().item(), free) for level in kl.T))

    generator = torch.Generator().manual_seed(0)
    kl = torch.rand(50, 4, generator=generator, dtype=torch.double)
    kl = kl * torch.tensor([10.0, 3.0, 1.5, 0.01], dtype=torch.double)
    hint = "Mean over the batch first, then the floor, then the sum over levels."
    expect_function(charged, reference, [(kl, 0.0), (kl, 1.0), (kl, 20.0)], hint)
    return "a dead level is charged as if it were alive"


@exercise("two-dials")
def check_tempered_variance(tempered_variance: Callable[..., Any]) -> str:
    """Check `tempered_variance(a, s2, tau_1, tau_2)` with a matrix of the two noises."""

    def reference(a: float, s2: float, tau_1: float, tau_2: float) -> Tensor:
        row = torch.tensor([a * tau_2, math.sqrt(s2) * tau_1], dtype=torch.double)
        return row @ row

    hint = "A temperature scales the standard deviation of its own level's noise."
    cases = [(0.8, 0.3, 0.5, 1.0), (0.8, 0.3, 1.0, 0.5), (-1.5, 2.0, 0.0, 1.3)]
    expect_function(tempered_variance, reference, cases, hint)
    return "the upper dial acts through the slope"


@exercise("repair")
def check_message(message: Callable[..., Any]) -> str:
    """Check `message(x, z_2, c, s0)` by the slope and the curvature of log p(x | z_1, z_2)."""

    def reference(x: float, z_2: float, c: float, s0: float) -> Tensor:
        def log_likelihood(z_1: float) -> float:
            return -((x - z_1 - c * z_2) ** 2) / (2 * s0)

        # The function is a parabola, so differences of any width are exact.
        low, middle, high = (log_likelihood(z) for z in (-1.0, 0.0, 1.0))
        precision = 2 * middle - low - high
        return torch.tensor([(high - low) / 2 / precision, precision])

    hint = "Read the density of x as a function of z_1: where is its maximum?"
    cases = [(1.0, 0.5, 1.0, 0.09), (-0.7, 2.0, -0.5, 1.5), (0.3, -1.0, 0.0, 0.4)]
    expect_function(message, reference, cases, hint)
    return "what z_2 explains, z_1 need not"
