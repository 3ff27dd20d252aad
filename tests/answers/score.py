"""Right answers to the exercises of chapter 12, by other ways than the chapter's, and plausible wrong ones."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from companion.page.exercises import score as exercises

Network = Callable[[Tensor], Tensor]


def by_noise(score: Callable[..., Tensor], x_t: Tensor, alpha_bar: float) -> Tensor:
    sigma = (1 / alpha_bar - 1) ** 0.5
    noise = -sigma * score(x_t / alpha_bar**0.5, sigma)
    return -noise / (1 - alpha_bar) ** 0.5


def by_noise_and_picture(x_u: Tensor, u: float, score: Tensor) -> Tensor:
    noise = -u * score
    return noise - (x_u - u * noise) / (1 - u)


def flow_and_langevin(x: Tensor, score: Tensor, eta: float) -> Tensor:
    return (x + score) / 2 + eta**2 * score / 2


def by_linear_estimate(F: Network, x_noisy: Tensor, sigma: float, of_data: float) -> Tensor:
    best_linear = x_noisy / (1 + (sigma / of_data) ** 2)
    error = (1 / sigma**2 + 1 / of_data**2) ** -0.5
    return best_linear + error * F(x_noisy * (of_data**2 + sigma**2) ** -0.5)


def by_image(velocity: Callable[..., Tensor], x_t: Tensor, alpha_bar: float) -> Tensor:
    u = 1 / (1 + (alpha_bar / (1 - alpha_bar)) ** 0.5)
    x_u = (u**2 + (1 - u) ** 2) ** 0.5 * x_t
    x_hat = x_u - u * velocity(x_u, u)
    return (x_t - alpha_bar**0.5 * x_hat) / (1 - alpha_bar) ** 0.5


def not_rescaled(velocity: Callable[..., Tensor], x_t: Tensor, alpha_bar: float) -> Tensor:
    u = 1 / (1 + (alpha_bar / (1 - alpha_bar)) ** 0.5)
    return x_t + (1 - u) * velocity(x_t, u)


def at_noise_scale(velocity: Callable[..., Tensor], x_t: Tensor, alpha_bar: float) -> Tensor:
    u, c = (1 - alpha_bar) ** 0.5, 1 / (alpha_bar**0.5 + (1 - alpha_bar) ** 0.5)
    return c * x_t + (1 - u) * velocity(c * x_t, u)


def of_image(velocity: Callable[..., Tensor], x_t: Tensor, alpha_bar: float) -> Tensor:
    c = 1 / (alpha_bar**0.5 + (1 - alpha_bar) ** 0.5)
    u = c * (1 - alpha_bar) ** 0.5
    return c * x_t - u * velocity(c * x_t, u)


def of_variance_1(F: Network, x_noisy: Tensor, sigma: float, of_data: float) -> Tensor:
    size = (1 + sigma**2) ** 0.5
    return x_noisy / size**2 + sigma / size * F(x_noisy / size)


def of_noise(F: Network, x_noisy: Tensor, sigma: float, of_data: float) -> Tensor:
    return x_noisy + sigma * F(x_noisy / (of_data**2 + sigma**2) ** 0.5)


RIGHT: list[tuple[Callable[..., None], Any]] = [
    (exercises.check_diffusion_score, by_noise),
    (exercises.check_small_step, 0.04 / 101),
    (exercises.check_reverse_drift, flow_and_langevin),
    (exercises.check_velocity_from_score, by_noise_and_picture),
    (exercises.check_noise_from_velocity, by_image),
    (exercises.check_preconditioned_estimate, by_linear_estimate),
]
WRONG: list[tuple[Callable[..., None], Any]] = [
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
    (exercises.check_reverse_drift, lambda x, score, eta: x / 2 + score),
    (exercises.check_reverse_drift, lambda x, score, eta: x / 2 + (1 + eta) / 2 * score),
    (exercises.check_velocity_from_score, lambda x_u, u, score: -(x_u + u**2 * score) / (1 - u)),
    (exercises.check_velocity_from_score, lambda x_u, u, score: (x_u + u * score) / (1 - u)),
    (exercises.check_velocity_from_score, lambda x_u, u, score: -score - x_u),
    (exercises.check_noise_from_velocity, not_rescaled),
    (exercises.check_noise_from_velocity, at_noise_scale),
    (exercises.check_noise_from_velocity, of_image),
    (exercises.check_preconditioned_estimate, of_variance_1),
    (exercises.check_preconditioned_estimate, of_noise),
]
