"""Exercises whose answer is a number, or a few, are checked in the page: a field for each, right or wrong, the hint.

What is right and how exactly comes from the exercise's own check in `companion.page.exercises`, which is called here
and asked what it expects. `answers.js` compares; without scripts there is no field.
"""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from types import ModuleType
from typing import Any
from unittest.mock import patch

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

OPEN = re.compile(r"^answer = \.\.\.\nexercises\.(\w+)\(answer\)$")
IMPORT = re.compile(r"^from (companion\.page\.exercises) import (\w+) as exercises$", re.MULTILINE)


@dataclass(frozen=True)
class Question:
    """What a check expects of each number of an answer, how far it may be off, and what the check then says."""

    values: list[float]
    tolerances: list[float]
    shape: list[int]
    hint: str
    remark: str


class _Asked(Exception):
    """The first expectation was met: the answer's form is known."""


def question(check: Callable[..., None]) -> Question | None:
    """What a check of numbers expects; None for one that expects something else, or that takes more than an answer.

    The check is called with a stand-in for `expect_close`, which writes down what it is asked.
    """
    import torch  # here, for an extension of Sphinx touches all that is in memory when the build begins

    from companion.page import exercises

    ask: Callable[..., Any] = check.__wrapped__  # type: ignore[attr-defined]
    module = importlib.import_module(check.__module__)
    if not hasattr(module, "expect_close"):
        return None
    asked: list[tuple[Any, str, float]] = []

    def first(answer: Any, expected: Any, hint: str, *, rtol: float = 1e-4) -> None:
        asked.append((torch.as_tensor(expected, dtype=torch.double), hint, rtol))
        raise _Asked

    def each(answer: Any, expected: Any, hint: str, *, rtol: float = 1e-4) -> None:
        exercises.expect_close(answer, expected, hint, rtol=rtol)
        asked.append((torch.as_tensor(expected, dtype=torch.double), hint, rtol))

    try:
        with patch.object(module, "expect_close", first):
            ask(0.0)
    except (_Asked, exercises.NotYet, TypeError, AttributeError):
        pass
    if len(asked) != 1:
        return None
    ((answer, hint, _),) = asked
    asked.clear()
    with patch.object(module, "expect_close", each):
        remark = ask(answer)
    tolerances = torch.full((answer.numel(),), torch.inf, dtype=torch.double)
    alone = 0  # expectations of one of several numbers come in the order of the answer
    for expected, _, rtol in asked:
        allowed = max(rtol * expected.abs().max().item(), 1e-9)
        if expected.shape == answer.shape:
            tolerances.clamp_(max=allowed)
        else:
            tolerances[alone] = min(tolerances[alone].item(), allowed)
            alone += 1
    return Question(
        answer.flatten().tolist(), tolerances.tolist(), list(answer.shape), hint, remark or ""
    )


def form(asked: Question, name: str) -> str:
    """The fields of a question, which `answers.js` shows."""
    data = {name: value for name, value in vars(asked).items() if name != "shape"}
    columns = asked.shape[-1] if len(asked.shape) > 1 else len(asked.values)
    single = len(asked.values) == 1
    fields = []
    for at in range(len(asked.values)):
        words = "Your answer" if single else f"Number {at + 1}"
        if len(asked.shape) > 1:
            words = f"Row {at // columns + 1}, column {at % columns + 1}"
        fields.append(
            f'<input type="text" inputmode="text" autocomplete="off" spellcheck="false" size="9" '
            f'aria-label="{words}">'
        )
    rows = [" ".join(fields[i : i + columns]) for i in range(0, len(fields), columns)]
    lead = "Your answer" if single else f"Your {len(asked.values)} numbers"
    return (
        f'<form class="book-answer" id="answer-{name}" hidden data-answer="{escape(json.dumps(data))}">'
        f"<span>{lead}:</span> <span>{'<br>'.join(rows)}</span> "
        '<button type="submit">Check</button> <output role="status"></output></form>'
    )


class Asking(SphinxPostTransform):
    """Puts the fields above the cell for an answer that is a number."""

    default_priority = 640  # before folding, which takes the cells apart
    formats = ("html",)

    def run(self, **_: object) -> None:
        module: ModuleType | None = None
        for box in list(self.document.findall(nodes.container)):
            if box.get("nb_element") != "cell_code":
                continue
            code = next((c.astext() for c in box.findall(nodes.literal_block)), "")
            if found := IMPORT.search(code):
                module = importlib.import_module(".".join(found.groups()))
            if module is not None and (found := OPEN.search(code.strip())):
                asked = question(getattr(module, found[1]))
                if asked is not None:
                    name = found[1].removeprefix("check_").replace("_", "-")
                    html = form(asked, name)
                    box.parent.insert(box.parent.index(box), nodes.raw("", html, format="html"))


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the transform."""
    app.add_post_transform(Asking)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
