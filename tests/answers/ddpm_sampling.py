"""Right answers to the exercises of chapter 11, by other ways than the chapter's, and plausible wrong ones."""

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from companion.page.exercises import ddpm_sampling as exercises


def by_difference(x_t: Tensor, noise: Tensor, alpha_bar: float, alpha_bar_next: float) -> Tensor:
    scale = (alpha_bar_next / alpha_bar) ** 0.5
    return scale * x_t + ((1 - alpha_bar_next) ** 0.5 - scale * (1 - alpha_bar) ** 0.5) * noise


def mean_of_ddpm(x_t: Tensor, noise: Tensor, alpha_bar: float, alpha_bar_next: float) -> Tensor:
    alpha = alpha_bar / alpha_bar_next
    return (x_t - (1 - alpha) / (1 - alpha_bar) ** 0.5 * noise) / alpha**0.5


def rooted(x_t: Tensor, noise: Tensor, alpha_bar: float, alpha_bar_next: float) -> Tensor:
    x_hat = (x_t - (1 - alpha_bar) * noise) / alpha_bar
    return alpha_bar_next * x_hat + (1 - alpha_bar_next) * noise


def from_zero(S: int) -> float:
    return math.cos(math.pi / (2 * S)) ** (2 * S)


def through_zero(
    x_before: Tensor, x_now: Tensor, before: float, now: float, after: float
) -> Tensor:
    slope = (x_now - x_before) / (now - before)
    return x_before + slope * ((now + after) / 2 - before)


RIGHT: list[tuple[Callable[..., None], Any]] = [
    (exercises.check_ddim_step, by_difference),
    (exercises.check_fresh_noise, lambda eta, a, b: eta * ((1 - b) / (1 - a) * (b - a) / b) ** 0.5),
    (
        exercises.check_smaller_by,
        lambda lam, alpha_bar: (1 + (1 - alpha_bar) / (alpha_bar * lam)) ** -0.5,
    ),
    (exercises.check_variance_of_samples, from_zero),
    (exercises.check_extrapolated, through_zero),
]
WRONG: list[tuple[Callable[..., None], Any]] = [
    (exercises.check_ddim_step, mean_of_ddpm),
    (exercises.check_ddim_step, rooted),
    (exercises.check_fresh_noise, lambda eta, a, b: eta * (1 - a / b) ** 0.5),
    (exercises.check_fresh_noise, lambda eta, a, b: eta * (1 - b) / (1 - a) * (b - a) / b),
    (exercises.check_fresh_noise, lambda eta, a, b: (eta * (1 - b) / (1 - a) * (b - a) / b) ** 0.5),
    (
        exercises.check_smaller_by,
        lambda lam, alpha_bar: alpha_bar * lam / (alpha_bar * lam + 1 - alpha_bar),
    ),
    (
        exercises.check_smaller_by,
        lambda lam, alpha_bar: (lam / (alpha_bar * lam + 1 - alpha_bar)) ** 0.5,
    ),
    (
        exercises.check_smaller_by,
        lambda lam, alpha_bar: (1 + (1 - alpha_bar) / (alpha_bar * lam)) ** 0.5,
    ),
    (exercises.check_variance_of_samples, lambda S: math.cos(math.pi / (2 * S)) ** S),
    (exercises.check_variance_of_samples, lambda S: 1 - math.pi**2 / (4 * S)),
    (exercises.check_extrapolated, lambda a, b, before, now, after: b),
    (
        exercises.check_extrapolated,
        lambda a, b, before, now, after: b + (after - now) / (now - before) * (b - a),
    ),
    (
        exercises.check_extrapolated,
        lambda a, b, before, now, after: b + (now - before) / (2 * (after - now)) * (b - a),
    ),
]
