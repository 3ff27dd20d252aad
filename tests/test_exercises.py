"""The machinery of the exercises: right, open and wrong answers are told apart, and the line is stable."""

import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell

from companion.page.exercises import (
    NotYet,
    bisect,
    exercise,
    expect,
    expect_close,
    expect_function,
    same_function,
)


@exercise("two-thirds")
def check_number(answer):
    """Check a number."""
    expect_close(answer, 2 / 3, hint="Divide.")
    return "it is what is left"


@same_function(
    "square",
    [(torch.tensor([1.0, -2.0]),), (3.0,)],
    hint="Multiply x by itself.",
    remark="positive",
)
def check_square(x):
    """Check a function."""
    return x**2


def test_right_answer_prints_one_line(capsys):
    check_number(0.66667)
    check_square(lambda x: x * x)
    lines = ["correct: two-thirds, it is what is left", "correct: square, positive"]
    assert capsys.readouterr().out.splitlines() == lines


@pytest.mark.parametrize("answer", [..., None, (1.0, ...), [None]])
def test_open_answer_is_no_failure(answer, capsys):
    check_number(answer)
    assert capsys.readouterr().out == "not answered yet: two-thirds\n"


def unwritten(x): ...


def unwritten_as_ellipsis(x):
    return ...


def not_implemented(x):
    raise NotImplementedError


@pytest.mark.parametrize("stub", [unwritten, unwritten_as_ellipsis, not_implemented])
def test_stub_is_an_open_answer(stub, capsys):
    check_square(stub)
    assert capsys.readouterr().out == "not answered yet: square\n"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (0.6, "0.6 is too small"),
        (0.7, "0.7 is too large"),
        (-2 / 3, "the sign is not"),
        (torch.tensor([2 / 3]), r"shape \(1,\), and \(\)"),
        (float("nan"), "not finite"),
        ("two thirds", "not str"),
        (torch.tensor(2 / 3 + 1j), "should be a real number"),
    ],
)
def test_wrong_number_gets_what_differs_and_the_hint_but_not_the_solution(answer, says, capsys):
    with pytest.raises(NotYet, match=f"two-thirds: .*{says}.*Divide") as error:
        check_number(answer)
    assert "0.666" not in str(error.value)
    assert capsys.readouterr().out == ""


def test_wrong_function_is_told_on_which_input():
    with pytest.raises(NotYet, match="on test input 1 of 2, 1 of 2 values differ"):
        check_square(lambda x: x * abs(x))
    with pytest.raises(NotYet, match="on test input 2 of 2, 9.5 is too large"):
        check_square(lambda x: x * x if torch.is_tensor(x) else x * x + 0.5)
    with pytest.raises(NotYet, match="should be a function, not int"):
        check_square(3)


def test_function_cannot_spoil_the_input_of_the_reference():
    def in_place(x):
        return x.mul_(x) if torch.is_tensor(x) else x * x

    check_square(in_place)


def test_error_of_the_readers_own_code_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        check_square(lambda x: 1 / 0)


def test_an_expected_zero_is_met_but_for_rounding():
    expect_close(1e-10, 0.0, "zero")
    with pytest.raises(NotYet, match="too large"):
        expect_close(1e-8, 0.0, "zero")


def test_the_check_of_a_function_is_described():
    assert (check_square.__name__, check_square.__doc__) == ("check_square", "Check a function.")


def test_bisection_finds_where_a_property_ends():
    assert bisect(lambda x: x**2 < 2, 0.0, 4.0) == pytest.approx(2**0.5)


def test_expect_takes_conditions():
    expect(torch.tensor(1.0) < 2, "smaller")
    with pytest.raises(NotYet, match="smaller"):
        expect(torch.tensor(3.0) < 2, "smaller")
    with pytest.raises(ValueError, match="inputs"):
        expect_function(abs, abs, [], "none")


def test_notebook_shows_the_hint_without_our_stack(capsys):
    shell = InteractiveShell.instance()
    try:
        shell.user_ns["check"] = check_number
        shell.run_cell("check(0.1)")
    finally:
        InteractiveShell.clear_instance()
    shown = "".join(capsys.readouterr())
    assert "Not yet. two-thirds: 0.1 is too small. Divide." in shown
    assert "Traceback" not in shown and "exercises/__init__" not in shown
