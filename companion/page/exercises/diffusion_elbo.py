"""Checks for the exercises of chapter 9, The diffusion ELBO."""

import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from companion.page.exercises import double, draws, right_number, same_function

X_T, V = draws(2, 5)
TERMS = double([-9.0, -3.0, -1.5, -0.5])


@right_number(
    "how-many-steps",
    hint="Each step keeps 0.98 of the variance; how many steps until it is below 0.01?",
    remark="the share falls exponentially",
)
def check_how_many_steps() -> float:
    """Check the first t with 0.98^t below 0.01, by multiplying."""
    alpha_bar, steps = 1.0, 0
    while alpha_bar >= 0.01:
        alpha_bar, steps = 0.98 * alpha_bar, steps + 1
    return float(steps)


@same_function(
    "from-time-to-time",
    [(0.9, 0.5), (0.4, 0.1), (0.99, 0.98)],
    hint="x_t is a multiple of x_s plus new noise; only the multiple of x_s counts.",
    remark="the later noise contains the earlier one",
)
def check_covariance(alpha_bar_s: float, alpha_bar_t: float) -> Tensor:
    """Check `covariance` by writing both noises in independent parts."""
    alpha = alpha_bar_t / alpha_bar_s
    early = double([(1 - alpha_bar_s) ** 0.5, 0.0])
    late = alpha**0.5 * early + double([0.0, (1 - alpha) ** 0.5])
    return early @ late


@same_function(
    "v-to-noise",
    [(X_T, V, 0.3), (V, X_T, 0.95)],
    hint="Two equations, for x_t and for v, with two unknowns: eliminate x.",
    remark="no division, so it works at both ends of time",
)
def check_noise_from_v(x_t: Tensor, v: Tensor, alpha_bar: float) -> Tensor:
    """Check `noise_from_v` by solving two equations for x and the noise."""
    signal, noise_std = alpha_bar**0.5, (1 - alpha_bar) ** 0.5
    equations = double([[signal, noise_std], [-noise_std, signal]])
    return torch.linalg.solve(equations, torch.stack([x_t, v]))[1]


@same_function(
    "denoising-term",
    [(2.0, 0.8, 0.7), (0.3, 0.2, 0.1), (10.0, 0.999, 0.99)],
    hint="With equal variances only the means cost; look for the SNR of both times.",
    remark="of the schedule it needs two signal-to-noise ratios only",
)
def check_denoising_term(error: float, before: float, now: float) -> Tensor:
    """Check `denoising_term(error, before, now)` by the KL divergence of two Gaussians."""
    beta = 1 - now / before
    std = double(beta * (1 - before) / (1 - now)).sqrt()
    shift = before**0.5 * beta / (1 - now) * error**0.5
    return kl_divergence(Normal(shift, std), Normal(0.0, std))


@same_function(
    "one-big-step",
    [(0.5, 0.25), (0.9, 4.0), (0.1, 9.0)],
    hint="The decoder is right, so compare the distribution of x_1 over all data with N(0, 1).",
    remark="it is the KL divergence of the aggregate posterior from the prior",
)
def check_one_step_gap(a: float, lam: float) -> Tensor:
    """Check `one_step_gap(a, lam)` by the distribution of x_1 over all data."""
    return kl_divergence(Normal(0.0, double(a * lam + 1 - a).sqrt()), Normal(0.0, 1.0))


@same_function(
    "better-times",
    [(TERMS, double([0.25, 0.25, 0.25, 0.25])), (TERMS, double([0.5, 0.3, 0.1, 0.1]))],
    hint="Divide by p_t; then mean square less squared mean, both weighted by p.",
    remark="large terms should be drawn more often",
)
def check_estimate_variance(terms: Tensor, p: Tensor) -> Tensor:
    """Check `estimate_variance(terms, p)` by going through all times."""
    total = double(0.0)
    for term, q in zip(terms, p, strict=True):
        total = total + q * (term / q - terms.sum()) ** 2
    return total
