"""The checks of chapter 1: a plausible wrong answer gets a hint, a right one a line, an open one no error."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from companion.autoencoder import dct_matrix, mlp_autoencoder
from companion.exercises import NotYet
from companion.exercises import autoencoders as exercises


def kept_energy(x: Tensor, keep: int) -> Tensor:
    C = dct_matrix(x.shape[-1])
    return (C[:keep] @ x @ C[:keep].T).square().sum((1, 2, 3)) / x.square().sum((1, 2, 3))


def sigmoid_penalty(W: Tensor, x: Tensor) -> Tensor:
    g = torch.sigmoid(x @ W.T)
    return (g * (1 - g)).square() @ W.square().sum(1)


RIGHT: list[tuple[Callable[..., None], Any]] = [
    (exercises.check_kept_energy, kept_energy),
    (exercises.check_best_constant, [2.0, 1.0]),
    (exercises.check_projection_loss, lambda S, U: S.trace() - (U.T @ S @ U).trace()),
    (exercises.check_gaussian_denoiser, lambda x, m, v, s: (v * x + s * m) / (v + s)),
    (exercises.check_sigmoid_jacobian, sigmoid_penalty),
]
WRONG: list[tuple[Callable[..., None], Any]] = [
    (exercises.check_kept_energy, lambda x, keep: 1 - kept_energy(x, keep)),
    (exercises.check_best_constant, [1.0, 2.0]),
    (exercises.check_projection_loss, lambda S, U: (U.T @ S @ U).trace()),
    (exercises.check_gaussian_denoiser, lambda x, m, v, s: (s * x + v * m) / (v + s)),
    (exercises.check_sigmoid_jacobian, lambda W, x: sigmoid_penalty(W, x).sqrt()),
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


def test_happy_anomaly_wants_a_strange_picture_and_a_small_error() -> None:
    torch.manual_seed(0)
    model = mlp_autoencoder(hidden=8)
    with torch.no_grad():
        mean = model(torch.zeros(1, 1, 28, 28))  # an untrained decoder gives about the same gray everywhere
    digits = torch.rand(200, 1, 28, 28)
    exercises.check_happy_anomaly(mean, model, digits)
    with pytest.raises(NotYet, match="too close to a digit"):
        exercises.check_happy_anomaly(digits[:1], model, digits)
    with pytest.raises(NotYet, match="above that of the easiest"):
        exercises.check_happy_anomaly((torch.rand(1, 1, 28, 28) > 0.5).float(), model, digits)
