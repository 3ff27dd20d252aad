"""Right answers to the exercises of chapter 5, by other ways than the chapter's, and plausible wrong ones."""

import math
from collections.abc import Callable
from typing import Any

import torch

from companion.page.exercises import gaussian_toys as exercises

RIGHT: list[tuple[Callable[..., None], Any]] = [
    (exercises.check_best_t, lambda s, sigma: math.sqrt(s**2 / (sigma**2 + s**2))),
    (exercises.check_best_t, lambda s, sigma: torch.sqrt(1 / (1 + sigma**2 / s**2))),
    (exercises.check_price, [392, 1 / math.sqrt(392)]),
    (exercises.check_price, (392, 0.0505)),
    (exercises.check_threshold, lambda pi, m: m / 2 - math.log((1 - pi) / pi) / m),
    (exercises.check_threshold, lambda pi, m: m / 2 - (torch.log1p(-pi) - torch.log(pi)) / m),
    (exercises.check_water, [0.5 * math.log(8) + 0.5 * math.log(2), 1.25]),
    (
        exercises.check_alive,
        lambda eigenvalues, s2, beta: sum(1 for e in eigenvalues if e > beta * s2),
    ),
    (exercises.check_hidden, lambda D, weight: 0.5 * D * weight),
]
WRONG: list[tuple[Callable[..., None], Any]] = [
    (exercises.check_best_t, lambda s, sigma: s / sigma),
    (exercises.check_best_t, lambda s, sigma: s**2 / (sigma**2 + s**2)),
    (exercises.check_price, [784, 1 / math.sqrt(392)]),
    (exercises.check_price, [392, 2 / 784]),
    (exercises.check_price, [392, 0.0507]),
    (exercises.check_price, 392),
    (exercises.check_price, [392, 0.0505, 1]),
    (exercises.check_threshold, lambda pi, m: m / 2 + math.log(pi / (1 - pi))),
    (exercises.check_threshold, lambda pi, m: m / 2 - math.log(pi / (1 - pi)) / m),
    (exercises.check_water, [math.log(4), 1.5]),
    (exercises.check_water, [2, 1.25]),
    (exercises.check_alive, lambda eigenvalues, s2, beta: (eigenvalues > s2).sum()),
    (exercises.check_alive, lambda eigenvalues, s2, beta: (beta * eigenvalues > s2).sum()),
    (exercises.check_hidden, lambda D, weight: D / 2),
    (exercises.check_hidden, lambda D, weight: D * weight),
]
