"""Checks for the exercises of chapter 11, Sampling, and the score."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal

from companion.page.exercises import Values, exercise, expect_close, expect_function


@exercise("ddim-step")
def check_ddim_step(ddim_step: Callable[[Tensor, Tensor, float, float], Any]) -> str:
    """Check `ddim_step(x_t, noise, kept, kept_next)` in the coordinates of a straight step."""

    def reference(x_t: Tensor, noise: Tensor, kept: float, kept_next: float) -> Tensor:
        before, after = (1 / kept - 1) ** 0.5, (1 / kept_next - 1) ** 0.5
        return kept_next**0.5 * (x_t / kept**0.5 + (after - before) * noise)

    generator = torch.Generator().manual_seed(0)
    x_t, noise = torch.randn(2, 4, 3, generator=generator, dtype=torch.double)
    hint = "First the picture that x_t and the noise imply, then both mixed for the next time."
    cases = [(x_t, noise, 0.1, 0.5), (x_t, noise, 0.5, 0.9), (noise, x_t, 0.3, 1.0)]
    expect_function(ddim_step, reference, cases, hint)
    return "the last step, to kept_next = 1, gives the picture"


@exercise("renewed")
def check_fresh_noise(fresh_noise: Callable[[float, float, float], Any]) -> str:
    """Check `fresh_noise(eta, kept, kept_next)` by the conditional variance of two times."""

    def reference(eta: float, kept: float, kept_next: float) -> Tensor:
        # Given the picture: the covariance of x_next and x_t, and what x_t leaves open.
        cov = (kept / kept_next) ** 0.5 * (1 - kept_next)
        left = 1 - kept_next - cov**2 / (1 - kept)
        return torch.tensor(eta * left**0.5, dtype=torch.double)

    hint = "What is the variance of the posterior for a step from one of these times to the other?"
    cases = [(1.0, 0.1, 0.5), (0.5, 0.4, 0.9), (0.2, 0.001, 0.1)]
    expect_function(fresh_noise, reference, cases, hint)
    return "nothing at all with eta = 0"


@exercise("push")
def check_smaller_by(smaller_by: Callable[[float, float], Any]) -> str:
    """Check `smaller_by(lam, kept)` by the two slopes."""

    def reference(lam: float, kept: float) -> Tensor:
        joint = torch.tensor(
            [[lam, kept**0.5 * lam], [kept**0.5 * lam, kept * lam + 1 - kept]], dtype=torch.double
        )
        regression = joint[0, 1] / joint[1, 1]
        return regression / (joint[0, 0] / joint[1, 1]).sqrt()

    hint = "Divide what is left in the DDPM by what is left in DDIM."
    expect_function(smaller_by, reference, [(0.25, 0.5), (4.0, 0.1), (0.01, 0.9)], hint)
    return "a correlation, so never above 1"


@exercise("two-noises")
def check_diffusion_score(
    diffusion_score: Callable[[Callable[..., Tensor], Tensor, float], Any],
) -> str:
    """Check `diffusion_score(score, x_t, kept)` on normal data."""
    mean, var = 0.7, 0.3

    def score(x: Tensor, sigma: float) -> Tensor:
        return (mean - x) / (var + sigma**2)

    def reference(_: Any, x_t: Tensor, kept: float) -> Tensor:
        x = x_t.clone().requires_grad_()
        law = Normal(kept**0.5 * mean, (kept * var + 1 - kept) ** 0.5)
        (gradient,) = torch.autograd.grad(law.log_prob(x).sum(), x)
        return gradient

    x_t = torch.linspace(-2, 2, 5, dtype=torch.double)[:, None]
    hint = "Divide x_t by the factor of the picture; how much noise is then added to it?"
    cases = [(score, x_t, 0.9), (score, x_t, 0.5), (score, x_t, 0.05)]
    expect_function(diffusion_score, reference, cases, hint)
    return "one model serves both"


@exercise("small-step")
def check_small_step(answer: Values) -> str:
    """Check the step size by letting the variance settle, for steps on both sides."""

    def settled(h: float) -> float:
        W = 0.01
        for _ in range(20_000):
            W = (1 - h / 0.02) ** 2 * W + h
        return W

    low, high = 0.0, 0.01
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if settled(middle) < 0.0101 else (low, middle)
    hint = "The variance settles at s^2 / (1 - h / 4 s^2); s is a standard deviation."
    expect_close(answer, low, hint, rtol=1e-3)
    return "small detail needs small steps"


@exercise("velocity")
def check_velocity_from_score(velocity_from_score: Callable[[Tensor, float, Tensor], Any]) -> str:
    """Check `velocity_from_score(x_u, u, score)` by regression, on normal data."""
    mean, var = 0.7, 0.3

    def score(x_u: Tensor, u: float) -> Tensor:
        return ((1 - u) * mean - x_u) / ((1 - u) ** 2 * var + u**2)

    def reference(x_u: Tensor, u: float, _: Tensor) -> Tensor:
        # noise - x has the mean -mean, and this covariance with x_u.
        slope = (u - (1 - u) * var) / ((1 - u) ** 2 * var + u**2)
        return -mean + slope * (x_u - (1 - u) * mean)

    x_u = torch.linspace(-2, 2, 5, dtype=torch.double)[:, None]
    hint = "The mean of the noise is -u times the score; x follows from x_u and the noise."
    cases = [(x_u, u, score(x_u, u)) for u in (0.1, 0.5, 0.9)]
    expect_function(velocity_from_score, reference, cases, hint)
    return "the same denoiser once more"
