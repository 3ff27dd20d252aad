"""Checks for the exercises of chapter 3, The ELBO."""

import math

import torch
from torch import Tensor
from torch.distributions import LogNormal, Normal, kl_divergence

from companion.page.exercises import double, right_number, same_function

X, M, VAR = double([[0.3, -1.2], [0.5, 0.1], [0.8, 0.2]])


@same_function(
    "elbo-closed-form",
    [(X, M, VAR), (X, X / 2, 0 * VAR + 0.5)],
    hint="Take the mean of the log-likelihood first, then subtract the KL divergence.",
    remark="and at the posterior it is log p(x)",
)
def check_bound(x: Tensor, m: Tensor, v: Tensor) -> Tensor:
    """Check `bound(x, m, v)`, the ELBO of z ~ N(0, 1), x | z ~ N(z, 1) for q = N(m, v)."""
    q, posterior = Normal(m, v.sqrt()), Normal(x / 2, 0.5**0.5)
    return Normal(0.0, 2**0.5).log_prob(x) - kl_divergence(q, posterior)


@right_number(
    "gap-of-shift",
    hint="The gap is the KL divergence of two Gaussians of equal variance.",
    remark="it does not depend on x",
)
def check_shift() -> float:
    """Check the gap for a q of the right variance whose mean is 0.5 off."""
    variance = 0.5 / (1.3**2 + 0.5)
    return 0.25 / (2 * variance)


@right_number(
    "narrow-guess",
    hint="When does the integral of p(z | x)^2 / q(z) converge?",
    remark="so q should rather be too wide than too narrow",
)
def check_narrow() -> float:
    """Check the ratio of variances below which importance weights have no finite variance."""
    return 0.5


@same_function(
    "autoregressive-size",
    [(1,), (2,), (10,)],
    hint="Count the entries below the diagonal and the biases; probabilities add to one.",
    remark="64 pixels need 2,080 numbers instead of 10 to the 19",
)
def check_counts(n: int) -> list[float]:
    """Check `counts(D)`: free numbers of the pixel-by-pixel model, and of a full table."""
    return [n + n * (n - 1) / 2, 2**n - 1]


@same_function(
    "log-normal-flow",
    [(double([0.1, 1.0, 3.5]),)],
    hint="log p_z at log x, plus the log of the derivative of log x.",
    remark="a flow in one dimension",
)
def check_log_normal(x: Tensor) -> Tensor:
    """Check `log_density(x)`, that of exp(z) for standard normal z."""
    return LogNormal(double(0.0), 1.0).log_prob(x)


@same_function(
    "e-step",
    [(double([-2.0, 0.0, 0.8, 2.5]),)],
    hint="Weight times density of each component, divided by their sum.",
    remark="each row adds up to one",
)
def check_e_step(points: Tensor) -> Tensor:
    """Check `responsibilities(points) -> (num, 2)` for the mixture of the exercise."""
    first = 0.3 * torch.exp(-0.5 * (points + 1) ** 2)
    second = 0.7 * torch.exp(-0.5 * ((points - 2) / 0.5) ** 2) / 0.5
    both = torch.stack([first, second], 1) / math.sqrt(2 * math.pi)
    return both / both.sum(1, keepdim=True)
