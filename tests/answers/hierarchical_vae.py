"""Right answers to the exercises of chapter 8, by other ways than the chapter's, and plausible wrong ones."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from companion.page.exercises import hierarchical_vae as exercises


def by_precisions(r: float, x: float, z_2: float) -> tuple[float, float]:
    below, above = 1 / (1 - r**2), r**2 / (1 - r**2)
    return (below * r * x + above * z_2 / r) / (below + above), 1 / (below + above)


def by_moments(a: float, s2: float, b: float, o: float, v: float, m: float, V: float) -> float:
    # E (b z + o - a z)^2 from the first two moments of z.
    k = b - a
    square = k**2 * (V + m**2) + 2 * k * o * m + o**2
    return (math.log(s2 / v) + (v + square) / s2 - 1) / 2


def by_entropies(a: float, s2: float, b: float, o: float, v: float, m: float, V: float) -> float:
    # Cross-entropy less entropy, with all second moments written out.
    Z = V + m**2
    square = b * b * Z + 2 * b * o * m + o * o - 2 * a * b * Z - 2 * a * o * m + a * a * Z
    cross = (math.log(2 * math.pi * s2) + (v + square) / s2) / 2
    return cross - math.log(2 * math.pi * math.e * v) / 2


def floor_by_where(kl: Tensor, free: float) -> Tensor:
    mean = kl.mean(0)
    return torch.where(mean < free, free, mean).sum()


RIGHT: list[tuple[Callable[..., None], Any]] = [
    (exercises.check_product, (2, 0.3333)),
    (exercises.check_peaked, math.sqrt(math.log(9 / 3)) / 2),
    (exercises.check_turned_around, by_precisions),
    (exercises.check_level_price, by_moments),
    (exercises.check_level_price, by_entropies),
    (exercises.check_charged, floor_by_where),
    (exercises.check_tempered_variance, lambda a, s2, t_1, t_2: s2 * t_1**2 + a**2 * t_2**2),
    (exercises.check_message, lambda x, z_2, c, s0: torch.tensor([x - c * z_2, s0**-1])),
]
WRONG: list[tuple[Callable[..., None], Any]] = [
    (exercises.check_product, (2.0, 3.0)),
    (exercises.check_product, (1.5, 0.75)),
    (exercises.check_peaked, math.log(3) / 4),
    (exercises.check_peaked, (math.log(9) / 4) ** 0.5),
    (exercises.check_turned_around, lambda r, x, z_2: ((r * x + z_2 / r) / 2, (1 - r**2) / 2)),
    (exercises.check_turned_around, lambda r, x, z_2: (by_precisions(r, x, z_2)[0], 1 - r**2)),
    (exercises.check_level_price, lambda a, s2, b, o, v, m, V: by_moments(a, s2, b, o, v, m, 0.0)),
    (exercises.check_level_price, lambda a, s2, b, o, v, m, V: by_moments(b, v, a, o, s2, m, V)),
    (exercises.check_charged, lambda kl, free: kl.clamp(min=free).mean(0).sum()),
    (exercises.check_charged, lambda kl, free: kl.sum(1).mean().clamp(min=free)),
    (exercises.check_tempered_variance, lambda a, s2, t_1, t_2: a**2 * t_2 + t_1 * s2),
    (exercises.check_tempered_variance, lambda a, s2, t_1, t_2: t_1**2 * (a**2 * t_2**2 + s2)),
    (exercises.check_message, lambda x, z_2, c, s0: (x, 1 / s0)),
    (exercises.check_message, lambda x, z_2, c, s0: (x - c * z_2, 1 / s0**2)),
    (exercises.check_message, lambda x, z_2, c, s0: (x - c * z_2, s0)),
]
