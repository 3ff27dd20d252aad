"""The checks of chapter 2: a plausible wrong answer gets a hint, a right one a line, an open one no error."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from companion.exercises import NotYet
from companion.exercises import kl_divergence as exercises


def bernoulli(a: Tensor, b: Tensor) -> Tensor:
    return torch.xlogy(a, a / b) + torch.xlogy(1 - a, (1 - a) / (1 - b))


def information(joint: Tensor) -> Tensor:
    entropies = [-torch.xlogy(p, p).sum() for p in (joint.sum(0), joint.sum(1), joint)]
    return entropies[0] + entropies[1] - entropies[2]


RIGHT: list[tuple[Callable[..., None], Any]] = [
    (exercises.check_bernoulli, bernoulli),
    (exercises.check_triangle, [0.1, 0.3, 0.6]),
    (exercises.check_exponential, lambda a, b: torch.tensor(math.log(a / b) + b / a - 1)),
    (exercises.check_mutual_information, information),
    (exercises.check_repeated_draws, 1.5),
    (exercises.check_best_diagonal, lambda cov: cov.det() / cov.diagonal().flip(0)),
]
WRONG: list[tuple[Callable[..., None], Any]] = [
    (exercises.check_bernoulli, lambda a, b: bernoulli(b, a)),
    (exercises.check_bernoulli, lambda a, b: a * (a / b).log() + (1 - a) * ((1 - a) / (1 - b)).log()),
    (exercises.check_triangle, [0.1, 0.9, 0.5]),
    (exercises.check_triangle, [0.0, 0.5, 1.0]),
    (exercises.check_exponential, lambda a, b: torch.tensor(math.log(b / a) + a / b - 1)),
    (exercises.check_mutual_information, lambda joint: -information(joint)),
    (exercises.check_repeated_draws, 0.03),
    (exercises.check_best_diagonal, lambda cov: cov.diagonal()),
]


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass(check: Callable[..., None], answer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    check(answer)
    assert capsys.readouterr().out.startswith("correct: ")


@pytest.mark.parametrize(("check", "answer"), WRONG)
def test_plausible_wrong_answers_get_a_hint(check: Callable[..., None], answer: Any) -> None:
    with pytest.raises(NotYet):
        check(answer)


@pytest.mark.parametrize("check", [check for check, _ in RIGHT])
def test_open_answers_are_no_error(check: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    check(...)
    assert capsys.readouterr().out.startswith("not answered yet: ")
