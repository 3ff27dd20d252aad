"""Checks for the exercises of chapter 3, The ELBO."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import LogNormal, Normal, kl_divergence

from companion.page.exercises import Values, exercise, expect_close, expect_function


@exercise("elbo-closed-form")
def check_bound(bound: Callable[[Tensor, Tensor, Tensor], Tensor]) -> str:
    """Check `bound(x, m, v)`, the ELBO of z ~ N(0, 1), x | z ~ N(z, 1) for q = N(m, v)."""

    def reference(x: Tensor, m: Tensor, v: Tensor) -> Tensor:
        q, posterior = Normal(m, v.sqrt()), Normal(x / 2, 0.5**0.5)
        return Normal(0.0, 2**0.5).log_prob(x) - kl_divergence(q, posterior)

    x, m, v = torch.tensor([[0.3, -1.2], [0.5, 0.1], [0.8, 0.2]], dtype=torch.double)
    hint = "Take the mean of the log-likelihood first, then subtract the divergence."
    expect_function(bound, reference, [(x, m, v), (x, x / 2, 0 * v + 0.5)], hint)
    return "and at the posterior it is log p(x)"


@exercise("gap-of-shift")
def check_shift(answer: Values) -> str:
    """Check the gap for a guess of the right variance whose mean is 0.5 off."""
    variance = 0.5 / (1.3**2 + 0.5)
    hint = "The gap is the divergence of two normal laws of equal variance."
    expect_close(answer, 0.25 / (2 * variance), hint)
    return "it does not depend on x"


@exercise("narrow-guess")
def check_narrow(answer: Values) -> str:
    """Check the ratio of variances below which importance weights vary infinitely."""
    expect_close(answer, 0.5, "When does the integral of p(z | x)^2 / q(z) converge?")
    return "so a guess should rather be too wide"


@exercise("autoregressive-size")
def check_counts(counts: Callable[[int], Any]) -> str:
    """Check `counts(D)`: free numbers of the pixel-by-pixel model, and of a full table."""

    def reference(n: int) -> Tensor:
        return torch.tensor([n + n * (n - 1) / 2, 2**n - 1])

    hint = "Count the entries below the diagonal and the biases; probabilities add to one."
    expect_function(counts, reference, [(1,), (2,), (10,)], hint)
    return "64 pixels need 2,080 numbers instead of 10 to the 19"


@exercise("log-normal-flow")
def check_log_normal(log_density: Callable[[Tensor], Tensor]) -> str:
    """Check `log_density(x)`, that of exp(z) for standard normal z."""
    x = torch.tensor([0.1, 1.0, 3.5], dtype=torch.double)
    hint = "log p_z at log x, plus the log of the derivative of log x."
    law = LogNormal(torch.tensor(0.0, dtype=torch.double), 1.0)
    expect_function(log_density, law.log_prob, [(x,)], hint)
    return "a flow in one dimension"


@exercise("e-step")
def check_e_step(responsibilities: Callable[[Tensor], Tensor]) -> str:
    """Check `responsibilities(points) -> (num, 2)` for the mixture of the exercise."""
    points = torch.tensor([-2.0, 0.0, 0.8, 2.5], dtype=torch.double)

    def reference(points: Tensor) -> Tensor:
        first = 0.3 * torch.exp(-0.5 * (points + 1) ** 2)
        second = 0.7 * torch.exp(-0.5 * ((points - 2) / 0.5) ** 2) / 0.5
        both = torch.stack([first, second], 1) / math.sqrt(2 * math.pi)
        return both / both.sum(1, keepdim=True)

    hint = "Weight times density of each component, divided by their sum."
    expect_function(responsibilities, reference, [(points,)], hint)
    return "each row adds up to one"
