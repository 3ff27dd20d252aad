"""Right answers to the exercises of chapter 13, by other ways than the chapter's, and plausible wrong ones."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from companion.page.exercises import diffusion_priors as exercises


def by_scores(conditional: Tensor, unconditional: Tensor, alpha_bar: float) -> Tensor:
    score_y, score = (-noise / (1 - alpha_bar) ** 0.5 for noise in (conditional, unconditional))
    return score_y - score


def by_inverse(x_hat: Tensor, C: Tensor, i: int, y: float, var: float) -> Tensor:
    A = torch.eye(len(x_hat)).to(x_hat)[[i]]
    return x_hat + (C @ A.T / (A @ C @ A.T + var)).squeeze(1) * (y - x_hat[i])


def only_that_one(x_hat: Tensor, C: Tensor, i: int, y: float, var: float) -> Tensor:
    moved = x_hat.clone()
    moved[i] += C[i, i] / (C[i, i] + var) * (y - x_hat[i])
    return moved


RIGHT: list[tuple[Callable[..., None], Any]] = [
    (exercises.check_classifier_gradient, by_scores),
    (exercises.check_not_this, lambda x_y, x_n, kappa: kappa * x_y - (kappa - 1) * x_n),
    (exercises.check_scale, 1 + math.log2(10)),
    (exercises.check_after_one_pixel, by_inverse),
    (exercises.check_share_that_misses, lambda nats: -math.expm1(-nats)),
]
WRONG: list[tuple[Callable[..., None], Any]] = [
    (exercises.check_classifier_gradient, lambda e_y, e, alpha_bar: e_y - e),
    (
        exercises.check_classifier_gradient,
        lambda e_y, e, alpha_bar: (e_y - e) / (1 - alpha_bar) ** 0.5,
    ),
    (exercises.check_classifier_gradient, lambda e_y, e, alpha_bar: (e - e_y) / (1 - alpha_bar)),
    (exercises.check_not_this, lambda x_y, x_n, kappa: x_y + kappa * (x_y - x_n)),
    (exercises.check_not_this, lambda x_y, x_n, kappa: x_y - kappa * x_n),
    (exercises.check_not_this, lambda x_y, x_n, kappa: x_y + (kappa - 1) * (x_n - x_y)),
    (exercises.check_scale, math.log2(10)),
    (exercises.check_scale, 19.0),
    (exercises.check_scale, 2.0),
    (exercises.check_after_one_pixel, only_that_one),
    (exercises.check_after_one_pixel, lambda x, C, i, y, var: x + C[:, i] / var * (y - x[i])),
    (exercises.check_after_one_pixel, lambda x, C, i, y, var: x + C[:, i] / C[i, i] * (y - x[i])),
    (exercises.check_share_that_misses, lambda nats: math.exp(-nats)),
    (exercises.check_share_that_misses, lambda nats: 1 - 2**-nats),
    (exercises.check_share_that_misses, lambda nats: nats / (1 + nats)),
]
