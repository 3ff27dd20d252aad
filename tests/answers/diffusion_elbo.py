"""Right answers to the exercises of chapter 9, by other ways than the chapter's, and plausible wrong ones."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from companion.page.exercises import diffusion_elbo as exercises


def by_variance_of_a_difference(kept_s: float, kept_t: float) -> float:
    # Var(x_t - a x_s) = 1 - a^2 is the new noise; solve for the covariance.
    a = math.sqrt(kept_t / kept_s)
    return ((1 - kept_t) + a**2 * (1 - kept_s) - (1 - a**2)) / (2 * a)


def through_x(x_t: Tensor, v: Tensor, kept: float) -> Tensor:
    x = math.sqrt(kept) * x_t - math.sqrt(1 - kept) * v
    return (x_t - math.sqrt(kept) * x) / math.sqrt(1 - kept)


def by_weights(error: float, before: float, now: float) -> float:
    beta = 1 - now / before
    c = math.sqrt(before) * beta / (1 - now)
    return c**2 * error / (2 * beta * (1 - before) / (1 - now))


def by_entropies(a: float, lam: float) -> float:
    v = 1 + a * (lam - 1)
    return (v - math.log(v)) / 2 - 0.5


RIGHT: list[tuple[Callable[..., None], Any]] = [
    (exercises.check_how_many_steps, 228),
    (exercises.check_covariance, by_variance_of_a_difference),
    (exercises.check_noise_from_v, through_x),
    (exercises.check_denoising_term, by_weights),
    (exercises.check_one_step_gap, by_entropies),
    (
        exercises.check_estimate_variance,
        lambda terms, p: (p * (terms / p - terms.sum()) ** 2).sum(),
    ),
]
WRONG: list[tuple[Callable[..., None], Any]] = [
    (exercises.check_how_many_steps, 227),
    (exercises.check_how_many_steps, 227.95),
    (exercises.check_how_many_steps, 456),
    (exercises.check_covariance, lambda s, t: math.sqrt(t / s)),
    (exercises.check_covariance, lambda s, t: t / s * (1 - s)),
    (exercises.check_covariance, lambda s, t: math.sqrt((1 - s) * (1 - t))),
    (exercises.check_noise_from_v, lambda x_t, v, kept: (1 - kept) ** 0.5 * x_t - kept**0.5 * v),
    (exercises.check_noise_from_v, lambda x_t, v, kept: kept**0.5 * x_t - (1 - kept) ** 0.5 * v),
    (exercises.check_denoising_term, lambda e, s, t: (s / (1 - s) - t / (1 - t)) * e),
    (exercises.check_denoising_term, lambda e, s, t: (t / (1 - t) - s / (1 - s)) * e / 2),
    (exercises.check_denoising_term, lambda e, s, t: (s - t) * e / 2),
    (exercises.check_one_step_gap, lambda a, lam: (a * lam - a - math.log(1 - a)) / 2),
    (exercises.check_one_step_gap, lambda a, lam: 0.0),
    (exercises.check_estimate_variance, lambda terms, p: (terms**2 / p).sum()),
    (
        exercises.check_estimate_variance,
        lambda terms, p: torch.tensor(len(terms)) ** 2 * terms.var(),
    ),
]
