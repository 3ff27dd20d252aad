"""Checks for the exercises of chapter 11, Sampling, and the score."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Normal

from companion.page.exercises import Values, bisect, draws, exercise, expect_close, same_function

X_T, NOISE = draws(2, 4, 3)
MEAN, VAR = 0.7, 0.3  # of the data of two exercises
POINTS = torch.linspace(-2, 2, 5, dtype=torch.double)[:, None]


def _score(x: Tensor, sigma: float) -> Tensor:
    """The score of that data with added noise."""
    return (MEAN - x) / (VAR + sigma**2)


def _score_of_flow(x_u: Tensor, u: float) -> Tensor:
    """The score at time u of the straight line from that data to noise."""
    return ((1 - u) * MEAN - x_u) / ((1 - u) ** 2 * VAR + u**2)


@same_function(
    "ddim-step",
    [(X_T, NOISE, 0.1, 0.5), (X_T, NOISE, 0.5, 0.9), (NOISE, X_T, 0.3, 1.0)],
    hint="First the image that x_t and the noise imply, then both mixed for the next time.",
    remark="the last step, to no noise at all, gives the image",
)
def check_ddim_step(x_t: Tensor, noise: Tensor, alpha_bar: float, alpha_bar_next: float) -> Tensor:
    """Check `ddim_step` in the coordinates of a straight step."""
    before, after = (1 / alpha_bar - 1) ** 0.5, (1 / alpha_bar_next - 1) ** 0.5
    return alpha_bar_next**0.5 * (x_t / alpha_bar**0.5 + (after - before) * noise)


@same_function(
    "renewed",
    [(1.0, 0.1, 0.5), (0.5, 0.4, 0.9), (0.2, 0.001, 0.1)],
    hint="What is the variance of the posterior for a step from one of these times to the other?",
    remark="nothing at all with eta = 0",
)
def check_fresh_noise(eta: float, alpha_bar: float, alpha_bar_next: float) -> float:
    """Check `fresh_noise` by the conditional variance of two times."""
    # Given the image: the covariance of x_next and x_t, and the variance of x_next given x_t.
    cov = (alpha_bar / alpha_bar_next) ** 0.5 * (1 - alpha_bar_next)
    return eta * (1 - alpha_bar_next - cov**2 / (1 - alpha_bar)) ** 0.5


@same_function(
    "push",
    [(0.25, 0.5), (4.0, 0.1), (0.01, 0.9)],
    hint="Divide what is left in the DDPM by what is left in DDIM.",
    remark="a correlation, so never above 1",
)
def check_smaller_by(lam: float, alpha_bar: float) -> float:
    """Check `smaller_by` by the two slopes."""
    cov, var = alpha_bar**0.5 * lam, alpha_bar * lam + 1 - alpha_bar
    return (cov / var) / (lam / var) ** 0.5


@same_function(
    "two-noises",
    [(_score, POINTS, 0.9), (_score, POINTS, 0.5), (_score, POINTS, 0.05)],
    hint="Divide x_t by the factor of the image; how much noise is then added to it?",
    remark="one model serves both",
)
def check_diffusion_score(_: Callable[..., Tensor], x_t: Tensor, alpha_bar: float) -> Tensor:
    """Check `diffusion_score` on Gaussian data."""
    x = x_t.clone().requires_grad_()
    p = Normal(alpha_bar**0.5 * MEAN, (alpha_bar * VAR + 1 - alpha_bar) ** 0.5)
    (gradient,) = torch.autograd.grad(p.log_prob(x).sum(), x)
    return gradient


@exercise("small-step")
def check_small_step(answer: Values) -> str:
    """Check the step size by letting the variance settle, for steps on both sides."""

    def settles_below(h: float) -> bool:
        variance = 0.01
        for _ in range(20_000):
            variance = (1 - h / 0.02) ** 2 * variance + h
        return variance < 0.0101

    hint = "The variance settles at s^2 / (1 - h / 4 s^2); s is a standard deviation."
    expect_close(answer, bisect(settles_below, 0.0, 0.01), hint, rtol=1e-3)
    return "small detail needs small steps"


@same_function(
    "velocity",
    [(POINTS, u, _score_of_flow(POINTS, u)) for u in (0.1, 0.5, 0.9)],
    hint="The mean of the noise is -u times the score; x follows from x_u and the noise.",
    remark="the same denoiser once more",
)
def check_velocity_from_score(x_u: Tensor, u: float, _: Tensor) -> Tensor:
    """Check `velocity_from_score(x_u, u, score)` by regression, on Gaussian data."""
    # noise - x has the mean -MEAN, and this covariance with x_u.
    slope = (u - (1 - u) * VAR) / ((1 - u) ** 2 * VAR + u**2)
    return -MEAN + slope * (x_u - (1 - u) * MEAN)
