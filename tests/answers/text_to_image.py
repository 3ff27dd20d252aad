"""Right answers to the exercises of chapter 14, by other ways than the chapter's, and plausible wrong ones."""

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

from companion.page.exercises import text_to_image as exercises


def by_sums(q: Tensor, k: Tensor, v: Tensor, is_word: Tensor) -> Tensor:
    weights = (q @ k.T / q.shape[1] ** 0.5).exp() * is_word
    return weights @ v / weights.sum(1, keepdim=True)


def masked_too_late(q: Tensor, k: Tensor, v: Tensor, is_word: Tensor) -> Tensor:
    return ((q @ k.T / q.shape[1] ** 0.5).softmax(1) * is_word) @ v


def without_root(q: Tensor, k: Tensor, v: Tensor, is_word: Tensor) -> Tensor:
    return (q @ k[is_word].T).softmax(1) @ v[is_word]


RIGHT: list[tuple[Callable[..., None], Any]] = [
    (exercises.check_attend, by_sums),
    (exercises.check_first_stage_noise, 0.0316),
    (exercises.check_sentence_nats, math.log(6 * 2 * 3 * 4 * 2 * 2 * 2) + math.log(24) / 2),
    (exercises.check_short_sentences, 0.467),
    (
        exercises.check_both,
        lambda x_0, x_1, x_2, kappa: kappa * (x_1 + x_2) + (1 - 2 * kappa) * x_0,
    ),
]
WRONG: list[tuple[Callable[..., None], Any]] = [
    (exercises.check_attend, masked_too_late),
    (exercises.check_attend, without_root),
    (exercises.check_first_stage_noise, 0.001),
    (exercises.check_first_stage_noise, 0.0447),
    (exercises.check_sentence_nats, math.log(8064)),
    (exercises.check_sentence_nats, math.log2(6 * 2 * 3 * 4 * 2 * 2 * 2) + math.log2(24) / 2),
    (exercises.check_short_sentences, 720_000 * 8 * 0.9 * 0.1**7),
    (exercises.check_short_sentences, 720_000 * 0.9 * 0.9 * 0.1**7),
    (exercises.check_both, lambda x_0, x_1, x_2, kappa: x_0 + kappa * ((x_1 + x_2) / 2 - x_0)),
    (exercises.check_both, lambda x_0, x_1, x_2, kappa: x_1 + kappa * (x_2 - x_0)),
]
