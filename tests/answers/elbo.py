"""Right answers to the exercises of chapter 3, by other ways than the chapter's, and plausible wrong ones."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from companion.page.exercises import elbo as exercises


def bound(x: Tensor, m: Tensor, v: Tensor) -> Tensor:
    likelihood = -0.5 * math.log(2 * math.pi) - 0.5 * ((x - m) ** 2 + v)
    return likelihood - 0.5 * (v + m**2 - 1 - v.log())


def without_trace(x: Tensor, m: Tensor, v: Tensor) -> Tensor:
    return bound(x, m, v) + 0.5 * v


def responsibilities(points: Tensor) -> Tensor:
    odds = 0.3 / 1.4 * torch.exp(2 * (points - 2) ** 2 - 0.5 * (points + 1) ** 2)
    return torch.stack([odds / (1 + odds), 1 / (1 + odds)], 1)


RIGHT: list[tuple[Callable[..., None], Any]] = [
    (exercises.check_bound, bound),
    (exercises.check_shift, 0.5475),
    (exercises.check_narrow, 0.5),
    (exercises.check_counts, lambda n: (n * (n + 1) // 2, 2**n - 1)),
    (
        exercises.check_log_normal,
        lambda x: -x.log() - 0.5 * x.log() ** 2 - 0.5 * math.log(2 * math.pi),
    ),
    (exercises.check_e_step, responsibilities),
]
WRONG: list[tuple[Callable[..., None], Any]] = [
    (exercises.check_bound, without_trace),
    (exercises.check_shift, 0.125),
    (exercises.check_narrow, 2.0),
    (exercises.check_counts, lambda n: (n * n + n, 2**n)),
    (exercises.check_log_normal, lambda x: -0.5 * x.log() ** 2 - 0.5 * math.log(2 * math.pi)),
    (exercises.check_e_step, lambda points: responsibilities(points).flip(1)),
]
