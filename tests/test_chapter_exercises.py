"""The checks of the chapters: a plausible wrong answer gets a hint, a right one a line, an open one no error."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from companion.autoencoder import mlp_autoencoder
from companion.page.exercises import NotYet
from companion.page.exercises import autoencoders as exercises

ANSWERS = Path(__file__).parent / "answers"
CHAPTERS = [
    importlib.import_module(f"answers.{file.stem}") for file in sorted(ANSWERS.glob("*.py"))
]
RIGHT = [pair for chapter in CHAPTERS for pair in chapter.RIGHT]
WRONG = [pair for chapter in CHAPTERS for pair in chapter.WRONG]


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_right_answers_pass(
    check: Callable[..., None], answer: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    check(answer)
    assert capsys.readouterr().out.startswith("correct: ")


@pytest.mark.parametrize(("check", "answer"), WRONG)
def test_plausible_wrong_answers_get_a_hint(check: Callable[..., None], answer: Any) -> None:
    with pytest.raises(NotYet):
        check(answer)


@pytest.mark.parametrize("check", dict.fromkeys(check for check, _ in RIGHT))
def test_open_answers_are_no_error(
    check: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    check(...)
    assert capsys.readouterr().out.startswith("not answered yet: ")


def test_happy_anomaly_wants_a_strange_picture_and_a_small_error() -> None:
    model = mlp_autoencoder(hidden=8)
    with torch.no_grad():
        mean = model(
            torch.zeros(1, 1, 28, 28)
        )  # an untrained decoder gives about the same gray everywhere
    digits = torch.rand(200, 1, 28, 28)
    exercises.check_happy_anomaly(mean, model, digits)
    with pytest.raises(NotYet, match="too close to a digit"):
        exercises.check_happy_anomaly(digits[:1], model, digits)
    with pytest.raises(NotYet, match="above that of the easiest"):
        exercises.check_happy_anomaly((torch.rand(1, 1, 28, 28) > 0.5).float(), model, digits)
