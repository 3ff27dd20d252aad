"""Checks for the exercises of chapter 7, Latent space."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal, kl_divergence

from companion.page.exercises import Values, exercise, expect_close, expect_function


@exercise("chord-minimum")
def check_shrinking(shrinking: Callable[[Tensor], Any]) -> str:
    """Check `shrinking(t)`, the length on a chord relative to that at its ends."""

    def reference(t: Tensor) -> Tensor:
        return (1 - 2 * t + 2 * t**2).sqrt()

    hint = "The variances of the two parts add up; a length is the root of that."
    cases = [(torch.tensor(t, dtype=torch.double),) for t in (0.0, 0.2, 0.5, 0.9)]
    expect_function(shrinking, reference, cases, hint)
    return "in the middle of the line 29 percent are missing"


@exercise("arc")
def check_arc(arc: Callable[[Tensor, Tensor, float], Any]) -> str:
    """Check `arc(z_0, z_1, t)` by its weights: 1 and 0 at an end, of unit length always."""
    start, end = torch.eye(2, dtype=torch.double).unbind()
    hint = "The squares of the two weights must add up to one, and the arc end in z_1."
    expect_function(arc, lambda z_0, z_1, t: z_0, [(start, end, 0.0)], hint)
    expect_function(arc, lambda z_0, z_1, t: z_1, [(start, end, 1.0)], hint)
    skew = torch.stack([start, 0.6 * start + 0.8 * end])
    for t in (0.3, 0.7):
        weights = torch.as_tensor(arc(start, end, t))
        expect_close(weights.square().sum(), 1.0, hint)
        # The weights must not depend on the two draws, or the law is no longer normal.
        expect_close(arc(skew[0], skew[1], t), weights @ skew, hint)
    return "every point of the way has the law of its ends"


@exercise("information")
def check_information(answer: Values) -> str:
    """Check the nats of a correlation of 0.95, and the correlation of one nat."""
    hint = "Minus half the logarithm of one minus the square; then solve for rho."
    expect_close(answer, [-0.5 * math.log(0.0975), 0.92987], hint, rtol=2e-3)
    return "a nat wants a correlation above 0.9"


@exercise("gap")
def check_gap(gap: Callable[[Tensor, float], Any]) -> str:
    """Check `gap(information, entropy)` against the two largest of each column."""

    def reference(information: Tensor, entropy: float) -> Tensor:
        best, second = information.topk(2, dim=0).values
        return (best - second) / entropy

    generator = torch.Generator().manual_seed(0)
    table = torch.rand(6, 4, generator=generator, dtype=torch.double)
    hint = "Best less second best of each cause; the rows are latents."
    expect_function(gap, reference, [(table, 3.0), (table.T, 1.0)], hint)
    return "one where a single latent tells everything"


@exercise("turn")
def check_turn_price(turn_price: Callable[[float, float, float], Any]) -> str:
    """Check `turn_price(a, b, angle)` with a divergence of two normal laws."""

    def reference(a: float, b: float, angle: float) -> Tensor:
        c, s = math.cos(angle), math.sin(angle)
        turn = torch.tensor([[c, -s], [s, c]], dtype=torch.double)
        variances = torch.tensor([a, b], dtype=torch.double)
        P = turn @ torch.diag(1 / variances) @ turn.T
        zero = torch.zeros(2, dtype=torch.double)
        best = MultivariateNormal(zero, torch.diag(1 / P.diagonal()))
        return kl_divergence(best, MultivariateNormal(zero, precision_matrix=P))

    hint = "Half of: the logs of the diagonal of the precision matrix, less its log det."
    cases = [(1.0, 0.1, 0.4), (0.2, 3.0, math.pi / 4), (0.01, 0.5, 2.0)]
    expect_function(turn_price, reference, cases, hint)
    # Relative errors want another number than zero to compare with.
    expect_close(1 + torch.as_tensor(turn_price(0.3, 0.3, 0.7)), 1.0, hint)
    return "free for equal variances, dear for unequal ones"


@exercise("middle")
def check_deviations(deviations: Callable[[float], Any]) -> str:
    """Check `deviations(d)`, from the origin to the mean surprise."""

    def reference(d: float) -> Tensor:
        return torch.tensor(d / 2, dtype=torch.double).sqrt()

    hint = "The mean lies d/2 above the least, and the variance is d/2."
    expect_function(deviations, reference, [(2.0,), (50.0,), (784.0,)], hint)
    return "twenty of them for 784 numbers"
