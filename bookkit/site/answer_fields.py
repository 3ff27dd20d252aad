"""Exercises whose answer is a number, or a few, are checked in the page: a field for each, right or wrong, the hint.

What is right the exercise declares, `right_number` in `companion.page.exercises`. `answers.js` compares; without
scripts there is no field.
"""

from __future__ import annotations

import importlib
import json
import re
from html import escape
from types import ModuleType
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

# torch is large, and an extension of Sphinx touches all that is in memory when the build begins.
if TYPE_CHECKING:
    from companion.page.exercises import Right

OPEN = re.compile(r"^answer = \.\.\.\nexercises\.(\w+)\(answer\)$")
IMPORT = re.compile(r"^from (companion\.page\.exercises) import (\w+) as exercises$", re.MULTILINE)


def form(right: Right, name: str) -> str:
    """The fields for the numbers of an answer, which `answers.js` shows."""
    data = {
        "values": right.numbers.flatten().tolist(),
        "tolerances": right.tolerances.flatten().tolist(),
        "hint": right.hint,
        "remark": right.remark,
    }
    num, single = right.numbers.numel(), right.numbers.numel() == 1
    is_matrix = right.numbers.dim() > 1
    columns = right.numbers.shape[-1] if is_matrix else num
    fields = []
    for at in range(num):
        words = "Your answer" if single else f"Number {at + 1}"
        if is_matrix:
            words = f"Row {at // columns + 1}, column {at % columns + 1}"
        fields.append(
            f'<input type="text" inputmode="text" autocomplete="off" spellcheck="false" size="9" '
            f'aria-label="{words}">'
        )
    rows = [" ".join(fields[i : i + columns]) for i in range(0, num, columns)]
    lead = "Your answer" if single else f"Your {num} numbers"
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
            found = OPEN.search(code.strip())
            check: Any = getattr(module, found[1]) if module and found else None
            if found and hasattr(check, "right"):
                name = found[1].removeprefix("check_").replace("_", "-")
                html = form(check.right(), name)
                box.parent.insert(box.parent.index(box), nodes.raw("", html, format="html"))


def setup(app: Sphinx) -> None:
    app.add_post_transform(Asking)
