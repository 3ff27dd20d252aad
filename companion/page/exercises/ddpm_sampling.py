"""Checks for the exercises of chapter 11, Sampling."""

import math
from itertools import pairwise

import torch
from torch import Tensor

from companion.page.exercises import draws, same_function

X_T, NOISE = draws(2, 4, 3)


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
    "even-angle",
    [(2,), (5,), (50,)],
    hint="The slope of a step is the cosine of the difference of two angles.",
    remark="half of the missing variance comes back with twice the steps",
)
def check_variance_of_samples(S: int) -> float:
    """Check `variance_of_samples(S)` by the recursion of the variance."""
    angles = torch.linspace(math.pi / 2, 0, S + 1, dtype=torch.double)
    variance = 1.0
    for now, then in pairwise(angles):
        x_hat = now.cos()  # over x_t
        noise = (1 - now.cos() * x_hat) / now.sin()
        variance *= float(then.cos() * x_hat + then.sin() * noise) ** 2
    return variance


@same_function(
    "second-order",
    [(X_T, NOISE, -3.0, -1.0, 2.0), (NOISE, X_T, 0.0, 0.5, 0.75), (X_T, X_T, -1.0, 1.0, 5.0)],
    hint="Draw a straight line through the two estimates, over the log signal-to-noise ratio.",
    remark="an estimate that does not change is kept",
)
def check_extrapolated(
    x_hat_before: Tensor, x_hat_now: Tensor, before: float, now: float, after: float
) -> Tensor:
    """Check `extrapolated` by the straight line through both estimates."""
    middle = (now + after) / 2
    return torch.lerp(x_hat_before, x_hat_now, (middle - before) / (now - before))
