"""Checks for the exercises of chapter 9, The diffusion ELBO."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from companion.page.exercises import Values, exercise, expect_close, expect_function


@exercise("how-many-steps")
def check_how_many_steps(answer: Values) -> str:
    """Check the first t with 0.98^t below 0.01, by multiplying."""
    kept, steps = 1.0, 0
    while kept >= 0.01:
        kept, steps = 0.98 * kept, steps + 1
    hint = "Each step keeps 0.98 of the variance; how often until 0.01 is passed?"
    expect_close(answer, float(steps), hint)
    return "the share falls exponentially"


@exercise("from-time-to-time")
def check_covariance(covariance: Callable[[float, float], Any]) -> str:
    """Check `covariance(kept_s, kept_t)` by writing both noises in independent parts."""

    def reference(kept_s: float, kept_t: float) -> Tensor:
        kept = torch.tensor([kept_s, kept_t], dtype=torch.double)
        step = kept[1] / kept[0]
        early = torch.stack([(1 - kept[0]).sqrt(), torch.zeros_like(step)])
        late = torch.stack([step.sqrt() * early[0], (1 - step).sqrt()])
        return early @ late

    hint = "x_t is a multiple of x_s and noise that is new; only the former counts."
    cases = [(0.9, 0.5), (0.4, 0.1), (0.99, 0.98)]
    expect_function(covariance, reference, cases, hint)
    return "the later noise contains the earlier one"


@exercise("v-to-noise")
def check_noise_from_v(noise_from_v: Callable[[Tensor, Tensor, float], Any]) -> str:
    """Check `noise_from_v(x_t, v, kept)` by solving two equations for x and the noise."""

    def reference(x_t: Tensor, v: Tensor, kept: float) -> Tensor:
        signal, spread = kept**0.5, (1 - kept) ** 0.5
        equations = torch.tensor([[signal, spread], [-spread, signal]]).double()
        return torch.linalg.solve(equations, torch.stack([x_t, v]))[1]

    generator = torch.Generator().manual_seed(0)
    x_t, v = torch.randn(2, 5, generator=generator, dtype=torch.double)
    hint = "Two equations, for x_t and for v, with two unknowns: eliminate x."
    expect_function(noise_from_v, reference, [(x_t, v, 0.3), (v, x_t, 0.95)], hint)
    return "no division, so it works at both ends of time"


@exercise("denoising-term")
def check_denoising_term(denoising_term: Callable[[float, float, float], Any]) -> str:
    """Check `denoising_term(error, before, now)` by a divergence of two normal laws."""

    def reference(*values: float) -> Tensor:
        error, before, now = torch.tensor(values, dtype=torch.double)
        beta = 1 - now / before
        std = (beta * (1 - before) / (1 - now)).sqrt()
        shift = before.sqrt() * beta / (1 - now) * error.sqrt()
        return kl_divergence(Normal(shift, std), Normal(torch.zeros_like(std), std))

    hint = "With equal variances only the means cost; look for the SNR of both times."
    cases = [(2.0, 0.8, 0.7), (0.3, 0.2, 0.1), (10.0, 0.999, 0.99)]
    expect_function(denoising_term, reference, cases, hint)
    return "no schedule but two signal-to-noise ratios"


@exercise("one-big-step")
def check_one_step_gap(one_step_gap: Callable[[float, float], Any]) -> str:
    """Check `one_step_gap(a, lam)` by the law of x_1 over all data."""

    def reference(a: float, lam: float) -> Tensor:
        variance = torch.tensor(a * lam + 1 - a, dtype=torch.double)
        return kl_divergence(Normal(0.0, variance.sqrt()), Normal(0.0, 1.0))

    hint = "The decoder is right, so compare the law of x_1 over all data with N(0, 1)."
    cases = [(0.5, 0.25), (0.9, 4.0), (0.1, 9.0)]
    expect_function(one_step_gap, reference, cases, hint)
    return "all of it is the hole between the aggregate posterior and the prior"


@exercise("better-times")
def check_estimate_variance(estimate_variance: Callable[[Tensor, Tensor], Any]) -> str:
    """Check `estimate_variance(terms, p)` by going through all times."""

    def reference(terms: Tensor, p: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.double)
        for term, q in zip(terms, p, strict=True):
            total = total + q * (term / q - terms.sum()) ** 2
        return total

    terms = torch.tensor([-9.0, -3.0, -1.5, -0.5], dtype=torch.double)
    even = torch.full((4,), 0.25, dtype=torch.double)
    other = torch.tensor([0.5, 0.3, 0.1, 0.1], dtype=torch.double)
    hint = "Divide by p_t; then mean square less squared mean, both weighted by p."
    expect_function(estimate_variance, reference, [(terms, even), (terms, other)], hint)
    return "draw often what counts much"
