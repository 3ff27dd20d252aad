"""Right answers to the exercises of chapter 11, by other ways than the chapter's, and plausible wrong ones."""

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


def by_noise(score: Callable[..., Tensor], x_t: Tensor, alpha_bar: float) -> Tensor:
    sigma = (1 / alpha_bar - 1) ** 0.5
    noise = -sigma * score(x_t / alpha_bar**0.5, sigma)
    return -noise / (1 - alpha_bar) ** 0.5


def by_noise_and_picture(x_u: Tensor, u: float, score: Tensor) -> Tensor:
    noise = -u * score
    return noise - (x_u - u * noise) / (1 - u)


RIGHT: list[tuple[Callable[..., None], Any]] = [
    (exercises.check_ddim_step, by_difference),
    (exercises.check_fresh_noise, lambda eta, a, b: eta * ((1 - b) / (1 - a) * (b - a) / b) ** 0.5),
    (
        exercises.check_smaller_by,
        lambda lam, alpha_bar: (1 + (1 - alpha_bar) / (alpha_bar * lam)) ** -0.5,
    ),
    (exercises.check_diffusion_score, by_noise),
    (exercises.check_small_step, 0.04 / 101),
    (exercises.check_velocity_from_score, by_noise_and_picture),
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
    (exercises.check_diffusion_score, lambda score, x, alpha_bar: score(x, (1 - alpha_bar) ** 0.5)),
    (
        exercises.check_diffusion_score,
        lambda score, x, alpha_bar: score(x / alpha_bar**0.5, (1 / alpha_bar - 1) ** 0.5),
    ),
    (
        exercises.check_diffusion_score,
        lambda score, x, alpha_bar: score(x / alpha_bar**0.5, 1 / alpha_bar - 1) / alpha_bar**0.5,
    ),
    (exercises.check_small_step, 4e-4),
    (exercises.check_small_step, 4 * 0.1 * (1 - 1 / 1.01)),
    (exercises.check_velocity_from_score, lambda x_u, u, score: -(x_u + u**2 * score) / (1 - u)),
    (exercises.check_velocity_from_score, lambda x_u, u, score: (x_u + u * score) / (1 - u)),
    (exercises.check_velocity_from_score, lambda x_u, u, score: -score - x_u),
]
