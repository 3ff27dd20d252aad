"""What the page knows of an exercise's answer: the right ones of tests/answers are right, the wrong ones wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html import unescape
from typing import Any

import pytest
import torch
from test_chapter_exercises import RIGHT, WRONG
from the_book import BOOK

from bookkit.site import answer_fields
from companion.page.exercises import NotYet, right_number

Check = Callable[..., None]


def numbers(pairs: list[tuple[Check, Any]]) -> list[tuple[Check, torch.Tensor]]:
    """The pairs of a check that the page can ask, and an answer of as many numbers as it has fields."""
    found = []
    for check, answer in pairs:
        if hasattr(check, "right"):
            given = torch.as_tensor(answer, dtype=torch.double).flatten()
            found += [(check, given)] if len(given) == check.right().numbers.numel() else []
    return found


def is_right(check: Check, answer: torch.Tensor) -> bool:
    """What `answers.js` says of the numbers in the fields."""
    form = answer_fields.form(check.right(), "a")  # type: ignore[attr-defined]
    asked = json.loads(unescape(re.findall('data-answer="([^"]*)"', form)[0]))
    assert asked["hint"] and asked["remark"] and form.count("<input") == len(asked["values"])
    offs = [abs(a - b) for a, b in zip(answer.tolist(), asked["values"], strict=True)]
    return all(off <= allowed for off, allowed in zip(offs, asked["tolerances"], strict=True))


@pytest.mark.parametrize(("check", "answer"), numbers(RIGHT))
def test_right_numbers_are_right(check: Check, answer: torch.Tensor) -> None:
    assert is_right(check, answer)


@pytest.mark.parametrize(("check", "answer"), numbers(WRONG))
def test_plausible_wrong_numbers_are_wrong(check: Check, answer: torch.Tensor) -> None:
    assert not is_right(check, answer)


def test_every_exercise_with_a_field_for_numbers_is_asked_in_its_chapter() -> None:
    """The chapters have as many open answers of numbers as there are checks that the page can ask."""
    asked = {check for check, _ in RIGHT if hasattr(check, "right")}
    cells = [cell for page in BOOK.notebooks() for cell in page.cells]
    code = [text.strip() for kind, text, _ in cells if kind == "code"]
    names = [found[1] for text in code if (found := answer_fields.OPEN.search(text))]
    assert len(asked) >= 15
    assert {check.__name__ for check in asked} <= set(names)


@right_number("two-scales", hint="A <hint>.", remark="well done", rtol=1e-3, each=True)
def check_two_scales() -> list[float]:
    """Check numbers of two sizes, each to a thousandth of its own."""
    return [1000.0, -0.5]


@right_number("root", hint="A hint.", remark="", rtol=1e-3)
def check_matrix() -> list[list[float]]:
    """Check a matrix, each number to a thousandth of the largest."""
    return [[2.0, 0.0], [1.0, 2.0]]


def test_a_number_may_be_off_by_a_part_of_the_largest_or_of_itself() -> None:
    for check, tolerances in (
        (check_two_scales, [1.0, 5e-4]),
        (check_matrix, [[2e-3, 2e-3], [2e-3, 2e-3]]),
    ):
        right = check.right()  # type: ignore[attr-defined]
        torch.testing.assert_close(right.tolerances, torch.tensor(tolerances).double())
        check(right.numbers + 0.99 * right.tolerances)
        for at in range(right.numbers.numel()):
            off = torch.zeros_like(right.numbers)
            off.view(-1)[at] = 1.01 * right.tolerances.view(-1)[at]
            with pytest.raises(NotYet, match="values differ from what is expected. A"):
                check(right.numbers + off)
    with pytest.raises(NotYet, match=r"shape \(1,\), and \(2,\)"):
        check_two_scales([1000.0])


def test_a_matrix_has_a_row_of_fields_for_each_row() -> None:
    html = answer_fields.form(check_matrix.right(), "root")  # type: ignore[attr-defined]
    assert html.count("<input") == 4 and html.count("<br>") == 1
    assert 'aria-label="Row 2, column 1"' in html and " hidden " in html
    pair = answer_fields.form(check_two_scales.right(), "pair")  # type: ignore[attr-defined]
    assert 'aria-label="Number 2"' in pair and "<hint>" not in pair and "<br>" not in pair
