"""Right answers to the exercises of chapter 6, by other ways than the chapter's, and plausible wrong ones."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from companion.page.exercises import vae_training as exercises


def by_cross_entropy(mean: Tensor) -> Tensor:
    return F.binary_cross_entropy(mean, mean, reduction="sum")


RIGHT: list[tuple[Callable[..., None], Any]] = [
    (exercises.check_collapsed_loss, by_cross_entropy),
    (
        exercises.check_weight,
        lambda step, steps, final: final if step >= steps else final * step / steps,
    ),
    (exercises.check_k_bound, lambda log_w: torch.logsumexp(log_w - math.log(len(log_w)), 0)),
    (exercises.check_bits, 0.1597),
    (
        exercises.check_count_active,
        lambda means, threshold: int((means.std(0) ** 2 > threshold).sum()),
    ),
    (exercises.check_draw_spread, lambda mean: (mean - mean**2).sum()),
]
WRONG: list[tuple[Callable[..., None], Any]] = [
    (exercises.check_collapsed_loss, lambda mean: F.binary_cross_entropy(mean, mean)),
    (exercises.check_collapsed_loss, lambda mean: -torch.xlogy(mean, mean).sum()),
    (exercises.check_weight, lambda step, steps, final: final * step / steps),
    (exercises.check_weight, lambda step, steps, final: min(1.0, step / steps)),
    (exercises.check_k_bound, lambda log_w: log_w.mean(0)),
    (exercises.check_k_bound, lambda log_w: log_w.exp().mean(0).log()),
    (exercises.check_bits, 86.8 / 784),
    (exercises.check_bits, 86.8 / math.log(2)),
    (exercises.check_count_active, lambda means, threshold: (means.std(0) > threshold).sum()),
    (
        exercises.check_count_active,
        lambda means, threshold: (means.square().mean(0) > threshold).sum(),
    ),
    (exercises.check_draw_spread, lambda mean: (mean * (1 - mean)).sqrt().sum()),
    (exercises.check_draw_spread, lambda mean: (mean * (1 - mean)).mean()),
]
