"""Right answers to the exercises of chapter 7, by other ways than the chapter's, and plausible wrong ones."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from companion.page.exercises import latent_space as exercises


def slerp(z_0: Tensor, z_1: Tensor, t: float) -> Tensor:
    omega = torch.acos(torch.nn.functional.cosine_similarity(z_0, z_1, dim=0))
    return (torch.sin((1 - t) * omega) * z_0 + torch.sin(t * omega) * z_1) / omega.sin()


def by_topk(information: Tensor, entropy: float) -> Tensor:
    ordered = information.sort(dim=0).values
    return (ordered[-1] - ordered[-2]) / entropy


def by_sine(a: float, b: float, angle: float) -> float:
    # det of the diagonal over det of the matrix is 1 + (sin cos)^2 (a - b)^2 / (a b).
    return 0.5 * math.log1p((math.sin(2 * angle) * (a - b)) ** 2 / (4 * a * b))


RIGHT: list[tuple[Callable[..., None], Any]] = [
    (exercises.check_shrinking, lambda t: (1 - 2 * t * (1 - t)) ** 0.5),
    (exercises.check_arc, lambda z_0, z_1, t: (1 - t) ** 0.5 * z_0 + t**0.5 * z_1),
    (exercises.check_information, (1.164, 0.93)),
    (exercises.check_gap, by_topk),
    (exercises.check_turn_price, by_sine),
    (exercises.check_deviations, lambda d: math.sqrt(d) / math.sqrt(2)),
]
WRONG: list[tuple[Callable[..., None], Any]] = [
    (exercises.check_shrinking, lambda t: 1 - 2 * t + 2 * t**2),
    (exercises.check_shrinking, lambda t: 1.0 + 0 * t),
    (exercises.check_arc, lambda z_0, z_1, t: (1 - t) * z_0 + t * z_1),
    (exercises.check_arc, lambda z_0, z_1, t: math.cos(t) * z_0 + math.sin(t) * z_1),
    (exercises.check_arc, slerp),
    (exercises.check_information, (-0.5 * math.log(1 - 0.95), 0.93)),
    (exercises.check_information, (-0.5 * math.log2(1 - 0.95**2), 0.93)),
    (exercises.check_gap, lambda information, entropy: by_topk(information.T, entropy)),
    (exercises.check_gap, lambda information, entropy: by_topk(information, 1.0)),
    (exercises.check_turn_price, lambda a, b, angle: 2 * by_sine(a, b, angle)),
    (exercises.check_turn_price, lambda a, b, angle: by_sine(1.0, b, angle)),
    (exercises.check_deviations, lambda d: d / 2),
    (exercises.check_deviations, lambda d: torch.tensor(2 / d).sqrt()),
]
