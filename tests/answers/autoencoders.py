"""Right answers to the exercises of chapter 1, by other ways than the chapter's, and plausible wrong ones."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from companion.autoencoder import dct_matrix
from companion.page.exercises import autoencoders as exercises


def kept_energy(x: Tensor, keep: int) -> Tensor:
    C = dct_matrix(x.shape[-1])
    return (C[:keep] @ x @ C[:keep].T).square().sum((1, 2, 3)) / x.square().sum((1, 2, 3))


def sigmoid_penalty(W: Tensor, x: Tensor) -> Tensor:
    g = torch.sigmoid(x @ W.T)
    return (g * (1 - g)).square() @ W.square().sum(1)


RIGHT: list[tuple[Callable[..., None], Any]] = [
    (exercises.check_kept_energy, kept_energy),
    (exercises.check_best_constant, [2.0, 1.0]),
    (exercises.check_projection_loss, lambda S, U: S.trace() - (U.T @ S @ U).trace()),
    (exercises.check_gaussian_denoiser, lambda x, m, v, s: (v * x + s * m) / (v + s)),
    (exercises.check_sigmoid_jacobian, sigmoid_penalty),
]
WRONG: list[tuple[Callable[..., None], Any]] = [
    (exercises.check_kept_energy, lambda x, keep: 1 - kept_energy(x, keep)),
    (exercises.check_best_constant, [1.0, 2.0]),
    (exercises.check_projection_loss, lambda S, U: (U.T @ S @ U).trace()),
    (exercises.check_gaussian_denoiser, lambda x, m, v, s: (s * x + v * m) / (v + s)),
    (exercises.check_sigmoid_jacobian, lambda W, x: sigmoid_penalty(W, x).sqrt()),
]
