"""Right answers to the exercises of chapter 10, by other ways than the chapter's, and plausible wrong ones."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from companion.page.exercises import ddpm_training as exercises


def from_the_end(n: int, m: int) -> int:
    width = 1 + 2 * m  # at half the side
    width = 2 * width + 1
    return width + 2 * n


def with_einsum(
    network: Callable[[Tensor, Tensor], Tensor], x: Tensor, noise: Tensor, kept: Tensor
) -> Tensor:
    off = network(kept.sqrt() * x + (1 - kept).sqrt() * noise, kept) - noise
    return torch.einsum("bd,bd->b", off, off)


def forgotten_root(
    network: Callable[[Tensor, Tensor], Tensor], x: Tensor, noise: Tensor, kept: Tensor
) -> Tensor:
    return (noise - network(kept * x + (1 - kept) * noise, kept)).square().sum(1)


def mean_over_dims(
    network: Callable[[Tensor, Tensor], Tensor], x: Tensor, noise: Tensor, kept: Tensor
) -> Tensor:
    return with_einsum(network, x, noise, kept) / x.shape[1]


def by_explained_share(delta: float, lam: float, kept: Tensor, weights: Tensor) -> Tensor:
    return delta**2 * weights @ (1 - kept * lam / (kept * lam + 1 - kept))


RIGHT: list[tuple[Callable[..., None], Any]] = [
    (exercises.check_width_seen, from_the_end),
    (exercises.check_training_loss, with_einsum),
    (exercises.check_weight_of_noise, lambda kept: 1 / kept - 1),
    (exercises.check_forget, 46050),
    (
        exercises.check_bits_from_density,
        lambda elbo, D: (math.log(255 / 2) - elbo / D) / math.log(2),
    ),
    (exercises.check_price, by_explained_share),
]
WRONG: list[tuple[Callable[..., None], Any]] = [
    (exercises.check_width_seen, lambda n, m: 2 * (n + 1 + m) + 1),
    (exercises.check_width_seen, lambda n, m: 2 * (n + 2 * m) + 1),
    (exercises.check_training_loss, forgotten_root),
    (exercises.check_training_loss, mean_over_dims),
    (exercises.check_weight_of_noise, lambda kept: kept / (1 - kept)),
    (exercises.check_weight_of_noise, lambda kept: 1 / kept),
    (exercises.check_weight_of_noise, lambda kept: ((1 - kept) / kept) ** 0.5),
    (exercises.check_forget, 46049),
    (exercises.check_forget, 10_000),
    (exercises.check_bits_from_density, lambda elbo, D: -elbo / D / math.log(2)),
    (exercises.check_bits_from_density, lambda elbo, D: -elbo / D / math.log(2) + 8),
    (
        exercises.check_bits_from_density,
        lambda elbo, D: -elbo / D / math.log(2) - math.log2(255 / 2),
    ),
    (exercises.check_price, lambda delta, lam, kept, w: (w * delta**2).sum()),
    (
        exercises.check_price,
        lambda delta, lam, kept, w: (w * delta**2 * kept * lam / (kept * lam + 1 - kept)).sum(),
    ),
    (
        exercises.check_price,
        lambda delta, lam, kept, w: (w * delta * (1 - kept) / (kept * lam + 1 - kept)).sum(),
    ),
]
