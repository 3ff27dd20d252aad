"""Tests of the mutants: what is changed, one thing at a time, and which tests meet a change first."""

from __future__ import annotations

import ast

import pytest

from bookkit.quality import mutants

SOURCE = '''\
Values: TypeAlias = "list[float] | None"


def half(x: float = 1.0, *, floor: int = 0) -> float:
    """Half of x."""
    if x < floor:
        raise ValueError(f"x is {x + 1}")
    return max(x / 2, floor)
'''


def statements(source: str) -> set[str]:
    return {ast.unparse(node) for node in ast.walk(ast.parse(source)) if isinstance(node, ast.stmt)}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("a + b", {"a - b"}),
        ("a // b", {"a * b"}),
        ("a <= b", {"a < b"}),
        ("not a", {"a"}),
        ("True", {"False"}),
        ("3", {"4"}),
        ("0.5", {"1.0"}),
        ("0.0", {"1.0"}),
        ("'a'", set()),
        ("a if b else c", {"a if not b else c"}),
        ("x.sum(1)", {"x.mean(1)"}),
        ("x.abs()", {"x"}),
        ("f(a, b=1)", {"f(a)"}),
    ],
)
def test_what_may_stand_in_place_of_an_expression(old: str, new: set[str]) -> None:
    node = ast.parse(old, mode="eval").body
    found = {ast.unparse(ast.fix_missing_locations(n)) for n in mutants.replacements(node)}
    assert found == new


def test_a_mutant_differs_in_one_statement_and_leaves_annotations_and_errors_alone() -> None:
    found = list(mutants.mutants("toy", SOURCE, 100, 0))
    changed = {mutant.old: mutant.new for mutant, _, _ in found}
    assert changed["x < floor"] == "x <= floor" and changed["x / 2"] == "x * 2"
    assert not {"x + 1", "float | None"} & set(changed)
    for mutant, statement, text in found:
        new = statements(text) - statements(SOURCE)
        assert new and statement in text and mutant.function == "half"
    # The sample depends on seed and module alone, and a larger one begins with it.
    again = list(mutants.mutants("toy", SOURCE, 3, 0))
    assert [m for m, _, _ in again] == [m for m, _, _ in found[:3]]
    other = list(mutants.mutants("toy", SOURCE, 100, 1))
    assert [m for m, _, _ in other] != [m for m, _, _ in found]


def test_a_statement_with_a_body_is_changed_in_its_head() -> None:
    (function,) = ast.parse(SOURCE).body[1:]
    assert mutants.rows_of(function) == (4, 4)
    assert mutants.rows_of(function.body[1]) == (6, 6)  # type: ignore[attr-defined]
    assert mutants.rows_of(function.body[2]) == (8, 8)  # type: ignore[attr-defined]


def test_tests_of_the_module_come_first_and_then_the_fastest() -> None:
    mutant = mutants.Mutant("vae", 3, 4, "f", "a", "b")
    own, slow, fast = "tests/test_vae.py::a", "tests/test_metrics.py::b", "tests/test_metrics.py::c"
    foreign = "tests/test_score.py::d"
    seconds = {own: 9.0, slow: 5.0, fast: 1.0, foreign: 0.1}
    lines = {3: [slow, own], 4: [fast, foreign], 5: [foreign]}
    assert mutants.tests_of(mutant, lines, seconds) == [own, fast, slow]
    at_import = {3: [""]}
    assert mutants.tests_of(mutant, at_import, seconds) == [own, fast, slow]


def test_every_reason_names_a_module_of_the_table() -> None:
    reasons = mutants.explained()
    assert {module for module, _, _ in reasons} <= set(mutants.AROUND)
    assert all(reasons.values())
