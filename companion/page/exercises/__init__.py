"""Self-checking exercises: one module per chapter, with one check function per exercise, built from the parts here.

    @right_number("dct-error", hint="Average over pixels before you average over images.", remark="small")
    def check_dct_error():
        return 0.0123

    @same_function("square", [(2.0,), (-3.0,)], hint="Multiply x by itself.", remark="never negative")
    def check_square(x):
        return abs(x) ** 2  # another way than the one that the exercise asks for

The reader calls `check_dct_error(answer)` or `check_square(function)` and reads one line: correct, not answered
yet, or not yet with a hint. For a right number the page of the book has fields, too. The exercise has a name in lower
case with hyphens, as the page calls it. The hint is one or two sentences towards the answer, shown when it differs; the
remark is what the check says of a right answer.
"""

import copy
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ParamSpec

import torch
from torch import Tensor

from companion.page.verify import Values

P = ParamSpec("P")


class NotYet(AssertionError):
    """An answer that is not right yet; the message says what differs and gives a hint, not the solution."""

    def _render_traceback_(self) -> list[str]:
        # IPython asks for this: a reader who is nearly there needs the hint, not our stack.
        return [f"Not yet. {self}"]


class _Unanswered(Exception):
    """A stub was called: the reader has not written an answer."""


def exercise(name: str) -> Callable[[Callable[P, str | None]], Callable[P, None]]:
    """Turn a function of the reader's answers, which expects things and may return a closing remark, into a check.

    The check prints `correct: name` and the remark. While an answer is still `...` or None it prints
    `not answered yet: name`, so a notebook with open exercises runs to its end. It computes on the CPU.

    Raises:
        NotYet: from the check, if an expectation fails.
    """

    def decorate(expectations: Callable[P, str | None]) -> Callable[P, None]:
        @functools.wraps(expectations)
        def check(*args: P.args, **kwargs: P.kwargs) -> None:
            try:
                if any(_is_open(answer) for answer in (*args, *kwargs.values())):
                    raise _Unanswered
                with torch.device("cpu"):
                    remark = expectations(*args, **kwargs)
            except _Unanswered:
                print(f"not answered yet: {name}")
            except NotYet as error:
                raise NotYet(f"{name}: {error}") from None
            else:
                print(f"correct: {name}" + (f", {remark}" if remark else ""))

        return check

    return decorate


@dataclass(frozen=True)
class Right:
    """The right numbers of an exercise, how far each of an answer may be off, and what the check then says."""

    numbers: Tensor
    tolerances: Tensor
    hint: str
    remark: str


def right_number(
    name: str, *, hint: str, remark: str, rtol: float = 1e-4, each: bool = False
) -> Callable[[Callable[[], Values]], Callable[[Any], None]]:
    """Turn a function without arguments into the check that an answer has its numbers; `check.right()` is a `Right`.

    They may differ by `rtol` of the largest magnitude or, with `each`, of their own, and by 1e-9 always.
    """

    def decorate(numbers: Callable[[], Values]) -> Callable[[Any], None]:
        @functools.cache
        def right() -> Right:
            expected = double(numbers())
            size = expected.abs() if each else expected.abs().max().expand(expected.shape)
            return Right(expected, (rtol * size).clamp(min=1e-9), hint, remark)

        def check(answer: Values) -> str:
            _expect_within(answer, right().numbers, right().tolerances, hint)
            return remark

        check.__doc__, check.__name__ = numbers.__doc__, numbers.__name__
        made = exercise(name)(check)
        made.right = right  # type: ignore[attr-defined]
        return made

    return decorate


def same_function(
    name: str, inputs: Sequence[tuple[Any, ...]], *, hint: str, remark: str
) -> Callable[[Callable[..., Any]], Callable[[Any], None]]:
    """Turn a function into the check that the reader's function agrees with it on all `inputs`, tuples of arguments."""

    def decorate(reference: Callable[..., Any]) -> Callable[[Any], None]:
        def check(function: Callable[..., Any]) -> str:
            expect_function(function, reference, inputs, hint)
            return remark

        check.__doc__, check.__name__ = reference.__doc__, reference.__name__
        return exercise(name)(check)

    return decorate


def expect_close(answer: Values, expected: Values, hint: str, *, rtol: float = 1e-4) -> None:
    """Expect numbers that agree with the expected ones, of the same shape.

    They may differ by `rtol` of the largest expected magnitude, and by 1e-9 always.

    Raises:
        NotYet: naming the first thing that differs: type, shape, finiteness, sign or size; then the hint.
    """
    right = torch.as_tensor(expected).detach().cpu().double()
    _expect_within(answer, right, (rtol * right.abs().max()).clamp(min=1e-9), hint)


def _expect_within(answer: Values, right: Tensor, tolerance: Tensor, hint: str) -> None:
    try:
        left = torch.as_tensor(answer).detach().cpu()
        if left.is_complex():  # double() would drop the imaginary part
            raise TypeError
        left = left.double()
    except (TypeError, ValueError, RuntimeError):
        raise NotYet(
            f"the answer should be a real number or a tensor of them, not {type(answer).__name__}. {hint}"
        ) from None
    if left.shape != right.shape:
        raise NotYet(
            f"the answer has shape {tuple(left.shape)}, and {tuple(right.shape)} is expected. {hint}"
        )
    if not left.isfinite().all():
        raise NotYet(f"the answer holds a value that is not finite. {hint}")
    wrong = (left - right).abs() > tolerance
    if wrong.any():
        raise NotYet(f"{_difference(left, right, wrong, tolerance)}. {hint}")


def expect_function(
    function: Callable[..., Any],
    reference: Callable[..., Any],
    inputs: Sequence[tuple[Any, ...]],
    hint: str,
) -> None:
    """Expect a function that agrees with a reference, which is never shown, on every tuple of arguments.

    A stub (one that returns `...` or None, or raises NotImplementedError) counts as not answered. Each function gets
    its own copy of the arguments.

    Raises:
        NotYet: naming the arguments' position in `inputs` where the results differ; then the hint.
        ValueError: if `inputs` is empty.
    """
    if not inputs:
        raise ValueError("inputs must hold at least one tuple of arguments; none was given")
    if not callable(function):
        raise NotYet(f"the answer should be a function, not {type(function).__name__}. {hint}")
    for number, arguments in enumerate(inputs, 1):
        try:
            answer = function(*copy.deepcopy(arguments))
        except NotImplementedError:
            raise _Unanswered from None
        if _is_open(answer):
            raise _Unanswered
        try:
            expect_close(answer, reference(*copy.deepcopy(arguments)), hint)
        except NotYet as error:
            raise NotYet(f"on test input {number} of {len(inputs)}, {error}") from None


def expect(condition: bool | Tensor, hint: str) -> None:
    """Expect a condition on the answer, such as a bound that a trained model has to reach.

    Raises:
        NotYet: with the hint, if the condition is false.
    """
    if not bool(condition):
        raise NotYet(hint)


def _is_open(answer: object) -> bool:
    if isinstance(answer, (list, tuple)):
        return any(_is_open(part) for part in answer)
    return answer is None or answer is ...


def _difference(left: Tensor, right: Tensor, wrong: Tensor, tolerance: Tensor) -> str:
    """What differs, as far as it can be said without giving the solution away."""
    if bool(((left + right).abs() <= tolerance).all()):
        return "the size is right, but the sign is not"
    if left.dim():
        return f"{int(wrong.sum())} of {wrong.numel()} values differ from what is expected"
    return f"{left.item():.4g} is too {'large' if left > right else 'small'}"


def double(values: Values) -> Tensor:
    """Numbers as a tensor in double precision, on the CPU."""
    return torch.tensor(values, dtype=torch.double, device="cpu")


def draws(*shape: int) -> Tensor:
    """Standard normal draws in double precision, on the CPU, the same at every call."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*shape, generator=generator, dtype=torch.double, device="cpu")


def bisect(is_left: Callable[[float], bool], low: float, high: float) -> float:
    """The place between low and high where a property of all smaller numbers ends."""
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if is_left(middle) else (low, middle)
    return low
