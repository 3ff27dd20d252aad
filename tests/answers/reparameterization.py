"""Right answers to the exercises of chapter 4, by other ways than the chapter's, and plausible wrong ones."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from companion.page.exercises import reparameterization as exercises

RIGHT: list[tuple[Callable[..., None], Any]] = [
    (exercises.check_cube, lambda mu, sigma: torch.stack([3 * (mu**2 + sigma**2), 6 * mu * sigma])),
    (exercises.check_waiting_time, lambda u, rate: -(1 - u).log() / rate),
    (exercises.check_root, torch.linalg.cholesky(torch.tensor([[4.0, 2.0], [2.0, 5.0]]))),
    (exercises.check_baseline, lambda mu, sigma: mu * (mu**2 + 9 * sigma**2)),
    (exercises.check_factor, lambda K: (K - 1) / K),
    (exercises.check_coin, lambda z, f, pi: f * (z - pi) / (pi * (1 - pi))),
]
WRONG: list[tuple[Callable[..., None], Any]] = [
    (exercises.check_cube, lambda mu, sigma: (3 * mu**2, 6 * mu * sigma)),
    (exercises.check_cube, lambda mu, sigma: (3 * mu**2 + 3 * sigma**2, 3 * mu)),
    (exercises.check_waiting_time, lambda u, rate: -u.log() / rate),
    (exercises.check_waiting_time, lambda u, rate: -np.log1p(-u.numpy()) / rate.numpy()),
    (exercises.check_waiting_time, lambda u, rate: -torch.log1p(-u) / rate.detach()),
    (exercises.check_root, [[4, 2], [2, 5]]),
    (exercises.check_root, [[2, 1], [0, 2]]),
    (exercises.check_baseline, lambda mu, sigma: mu**3 + 3 * mu * sigma**2),
    (exercises.check_factor, lambda K: 1 / K),
    (exercises.check_factor, lambda K: 1.0),
    (exercises.check_coin, lambda z, f, pi: f * (z / pi + (1 - z) / (1 - pi))),
]
