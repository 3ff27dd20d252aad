"""Checks for the exercises of chapter 12, The score."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Normal

from companion.page.exercises import bisect, right_number, same_function

MEAN, VAR = 0.7, 0.3  # of the data of three exercises
POINTS = torch.linspace(-2, 2, 5, dtype=torch.double, device="cpu")[:, None]


def _score(x: Tensor, sigma: float) -> Tensor:
    """The score of that data with added noise."""
    return (MEAN - x) / (VAR + sigma**2)


def _score_of_flow(x_u: Tensor, u: float) -> Tensor:
    """The score at time u of the straight line from that data to noise."""
    return ((1 - u) * MEAN - x_u) / ((1 - u) ** 2 * VAR + u**2)


def _velocity(x_u: Tensor, u: float) -> Tensor:
    """E[noise - x | x_u] for that data, by regression."""
    # noise - x has the mean -MEAN, and this covariance with x_u.
    slope = (u - (1 - u) * VAR) / ((1 - u) ** 2 * VAR + u**2)
    return -MEAN + slope * (x_u - (1 - u) * MEAN)


def _var(alpha_bar: float) -> float:
    """Variance of x_t for that data."""
    return alpha_bar * VAR + 1 - alpha_bar


@same_function(
    "two-noises",
    [(_score, POINTS, 0.9), (_score, POINTS, 0.5), (_score, POINTS, 0.05)],
    hint="Divide x_t by the factor of the image; how much noise is then added to it?",
    remark="one model serves both",
)
def check_diffusion_score(_: Callable[..., Tensor], x_t: Tensor, alpha_bar: float) -> Tensor:
    """Check `diffusion_score` on Gaussian data."""
    x = x_t.clone().requires_grad_()
    p = Normal(alpha_bar**0.5 * MEAN, _var(alpha_bar) ** 0.5)
    (gradient,) = torch.autograd.grad(p.log_prob(x).sum(), x)
    return gradient


@right_number(
    "small-step",
    hint="The variance settles at s^2 / (1 - h / 4 s^2); s is a standard deviation.",
    remark="small detail needs small steps",
    rtol=1e-3,
)
def check_small_step() -> float:
    """Check the step size by letting the variance settle, for steps on both sides."""

    def settles_below(h: float) -> bool:
        variance = 0.01
        for _ in range(20_000):
            variance = (1 - h / 0.02) ** 2 * variance + h
        return variance < 0.0101

    return bisect(settles_below, 0.0, 0.01)


@same_function(
    "reverse-drift",
    [
        (POINTS, -POINTS / _var(alpha_bar), eta)
        for alpha_bar, eta in ((0.1, 0.0), (0.5, 0.5), (0.9, 1.0))
    ],
    hint="Half of x, half of the score, and as much of the score again as the noise takes away.",
    remark="with eta = 0 it is the velocity of the probability flow",
)
def check_reverse_drift(x: Tensor, score: Tensor, eta: float) -> Tensor:
    """Check `reverse_drift(x, score, eta)` on centered Gaussian data, by the growth of the variance."""
    var = -(x / score)[0]  # of x_t, a linear drift a x has d(var)/dr = 2 a var + eta^2
    return (var - 1 - eta**2) / (2 * var) * x  # and var = 1 - (1 - VAR) e^r grows by var - 1


@same_function(
    "velocity",
    [(POINTS, u, _score_of_flow(POINTS, u)) for u in (0.1, 0.5, 0.9)],
    hint="The mean of the noise is -u times the score; x follows from x_u and the noise.",
    remark="the same denoiser once more",
)
def check_velocity_from_score(x_u: Tensor, u: float, _: Tensor) -> Tensor:
    """Check `velocity_from_score(x_u, u, score)` by regression, on Gaussian data."""
    return _velocity(x_u, u)


@same_function(
    "flow-network",
    [(_velocity, POINTS, alpha_bar) for alpha_bar in (0.05, 0.5, 0.9)],
    hint="x_u = c x_t, where 1 / c is the sum of the factors of image and noise; u / c is that of the noise.",
    remark="a network trained by flow matching works in every sampler of chapter 11",
)
def check_noise_from_velocity(
    _: Callable[[Tensor, float], Tensor], x_t: Tensor, alpha_bar: float
) -> Tensor:
    """Check `noise_from_velocity(velocity, x_t, alpha_bar)` by regression, on Gaussian data."""
    return (1 - alpha_bar) ** 0.5 / _var(alpha_bar) * (x_t - alpha_bar**0.5 * MEAN)


@same_function(
    "preconditioned",
    [
        (torch.tanh, POINTS, 0.3, 0.5),
        (torch.sin, POINTS, 2.0, 0.5),
        (torch.zeros_like, POINTS, 1.0, 2.0),
    ],
    hint="The network is given x_noisy over its standard deviation; its answer has variance 1.",
    remark="the rest is the best linear estimate",
)
def check_preconditioned_estimate(
    F: Callable[[Tensor], Tensor], x_noisy: Tensor, sigma: float, of_data: float
) -> Tensor:
    """Check `preconditioned_estimate(F, x_noisy, sigma, of_data)` as v-prediction for data over `of_data`."""
    alpha_bar = 1 / (1 + (sigma / of_data) ** 2)
    x_t = alpha_bar**0.5 * x_noisy / of_data
    return of_data * (alpha_bar**0.5 * x_t + (1 - alpha_bar) ** 0.5 * F(x_t))
