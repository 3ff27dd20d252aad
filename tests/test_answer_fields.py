"""What the page knows of an exercise's answer: the right ones of tests/answers are right, the wrong ones wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_chapter_exercises import RIGHT, WRONG
from the_book import BOOK

from bookkit.site import answer_fields
from companion.page.exercises import autoencoders, exercise, expect_close

Check = Callable[..., None]
CHECKS = [*(check for check, _ in RIGHT), autoencoders.check_happy_anomaly]


def numbers(pairs: list[tuple[Check, Any]]) -> list[tuple[Check, list[float]]]:
    """The pairs of a check that the page can ask, and an answer of as many numbers as it has fields."""
    found = []
    for check, answer in pairs:
        if asked := answer_fields.question(check):
            given = torch.as_tensor(answer, dtype=torch.double).flatten().tolist()
            found += [(check, given)] if len(given) == len(asked.values) else []
    return found


def is_right(check: Check, answer: list[float]) -> bool:
    asked = answer_fields.question(check)
    assert asked is not None and len(asked.values) == len(asked.tolerances)
    offs = [abs(a - b) for a, b in zip(answer, asked.values, strict=True)]
    return all(off <= allowed for off, allowed in zip(offs, asked.tolerances, strict=True))


@pytest.mark.parametrize(("check", "answer"), numbers(RIGHT))
def test_right_numbers_are_right(check: Check, answer: list[float]) -> None:
    assert is_right(check, answer)
    asked = answer_fields.question(check)
    assert asked is not None and asked.hint and asked.remark


@pytest.mark.parametrize(("check", "answer"), numbers(WRONG))
def test_plausible_wrong_numbers_are_wrong(check: Check, answer: list[float]) -> None:
    assert not is_right(check, answer)


def test_every_exercise_with_a_field_for_numbers_is_asked_in_its_chapter() -> None:
    """The chapters have as many open answers of numbers as there are checks that the page can ask."""
    asked = {check for check, _ in RIGHT if answer_fields.question(check)}
    code = [
        text.strip() for page in BOOK.notebooks() for kind, text, _ in page.cells if kind == "code"
    ]
    names = [found[1] for text in code if (found := answer_fields.OPEN.search(text))]
    assert len(asked) >= 15
    assert {check.__name__ for check in asked} <= set(names)


@exercise("two-scales")
def check_two_scales(answer: Any) -> str:
    """Check numbers of two sizes, each to a thousandth of its own."""
    expect_close(answer, [1000.0, -0.5], "A hint.", rtol=1.0)
    for number, expected in zip(torch.as_tensor(answer), [1000.0, -0.5], strict=True):
        expect_close(number, expected, "A hint.", rtol=1e-3)
    return "well done"


def test_each_number_has_the_tolerance_of_its_own_expectation() -> None:
    asked = answer_fields.question(check_two_scales)
    assert asked is not None
    assert (asked.values, asked.shape) == ([1000.0, -0.5], [2])
    assert asked.tolerances == pytest.approx([1.0, 5e-4])
    assert (asked.hint, asked.remark) == ("A hint.", "well done")


@pytest.mark.parametrize(
    "name", ["check_triangle", "check_arc", "check_happy_anomaly", "check_bound"]
)
def test_what_is_no_number_gets_no_field(name: str) -> None:
    (check,) = {check for check in CHECKS if check.__name__ == name}
    assert answer_fields.question(check) is None


def test_a_matrix_has_a_row_of_fields_for_each_row() -> None:
    asked = answer_fields.Question([2, 0, 1, 2], [1e-4] * 4, [2, 2], "A <hint>", "")
    html = answer_fields.form(asked, "root")
    assert html.count("<input") == 4 and html.count("<br>") == 1
    assert 'aria-label="Row 2, column 1"' in html and "<hint>" not in html
    assert " hidden " in html
