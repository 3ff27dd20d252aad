"""Right answers to the exercises of chapter 2, by other ways than the chapter's, and plausible wrong ones."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from companion.page.exercises import kl_divergence as exercises


def bernoulli(a: Tensor, b: Tensor) -> Tensor:
    return torch.xlogy(a, a / b) + torch.xlogy(1 - a, (1 - a) / (1 - b))


def information(joint: Tensor) -> Tensor:
    entropies = [-torch.xlogy(p, p).sum() for p in (joint.sum(0), joint.sum(1), joint)]
    return entropies[0] + entropies[1] - entropies[2]


RIGHT: list[tuple[Callable[..., None], Any]] = [
    (exercises.check_bernoulli, bernoulli),
    (exercises.check_triangle, [0.1, 0.3, 0.6]),
    (exercises.check_triangle, (0, 0.3, 0.6)),
    (exercises.check_triangle, torch.tensor([0.9, 0.5, 0.2])),
    (exercises.check_exponential, lambda a, b: torch.tensor(math.log(a / b) + b / a - 1)),
    (exercises.check_exponential, lambda a, b: math.log(a) - math.log(b) + b / a - 1),
    (exercises.check_mutual_information, information),
    (exercises.check_repeated_draws, 1.5),
    (exercises.check_best_isotropic, lambda cov: 1 / (1 / torch.linalg.eigvalsh(cov)).mean()),
    (exercises.check_best_isotropic, lambda cov: len(cov) / np.trace(np.linalg.inv(cov.numpy()))),
]
WRONG: list[tuple[Callable[..., None], Any]] = [
    (exercises.check_bernoulli, lambda a, b: bernoulli(b, a)),
    (
        exercises.check_bernoulli,
        lambda a, b: a * (a / b).log() + (1 - a) * ((1 - a) / (1 - b)).log(),
    ),
    (exercises.check_triangle, [0.1, 0.9, 0.5]),
    (exercises.check_triangle, [0.0, 0.5, 1.0]),
    (exercises.check_triangle, [0.1, 0.3]),
    (exercises.check_triangle, [-0.1, 0.3, 0.6]),
    (exercises.check_triangle, "0.1, 0.3, 0.6"),
    (exercises.check_triangle, lambda a, b: a),
    (exercises.check_triangle, 0.3),
    (exercises.check_exponential, lambda a, b: torch.tensor(math.log(b / a) + a / b - 1)),
    (exercises.check_exponential, lambda a, b: math.log(a / b) + b / a),
    (exercises.check_mutual_information, lambda joint: -information(joint)),
    (exercises.check_repeated_draws, 0.03),
    (exercises.check_best_isotropic, lambda cov: cov.trace() / len(cov)),
    (exercises.check_best_isotropic, lambda cov: 1 / cov.inverse().trace()),
    (exercises.check_best_isotropic, lambda cov: 1 / cov.inverse().diagonal()),
]
