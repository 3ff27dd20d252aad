"""What each code cell of a chapter is for its page, by a tag: content, or machinery that serves a figure or a check.

A cell without one of these tags stands on the page with its code and its output. What the tags do, AUTHORING.md says.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import nbformat

from bookkit.authoring import cell_syntax

VERIFIED = re.compile(r"^verified (\S+): (.+)$", re.MULTILINE)
HOLDS = re.compile(r"^(.+): True$")
UNANSWERED = re.compile(r"^not answered yet", re.MULTILINE)

OPEN = ""
UNSEEN, SHOWN = "unseen", "shown"  # nowhere; nowhere, what `show` shows stays
FIGURE, NUMBERS = "figure", "numbers"  # into a fold below the output
CHECK = "check"  # into a badge at the equation
HELD, ANSWER = "held", "answer"  # into a fold together with the output
SERVES = "serves"  # into the fold of the next cell that has one
WITH_FOLD = {FIGURE, NUMBERS, CHECK, HELD, ANSWER}
ROLES = {UNSEEN, SHOWN, SERVES, *WITH_FOLD}


@dataclass(frozen=True)
class Cell:
    """A code cell: its tags, what it printed, its role, and the cell that holds its code."""

    index: int
    source: str
    tags: set[str]
    text: str
    role: str
    host: int


def cells_of(notebook: nbformat.NotebookNode) -> dict[int, Cell]:
    """The code cells of a stored notebook, by their index.

    Raises:
        ValueError: if a cell serves no other.
    """
    found, host = {}, None
    for index, cell in reversed(list(enumerate(notebook.cells))):
        if cell.cell_type != "code":
            continue
        tags = set(cell.metadata.get("tags", []))
        role = UNSEEN if "setup" in tags else next(iter(tags & ROLES), OPEN)
        if role in WITH_FOLD:
            host = index
        if role == SERVES and host is None:
            raise ValueError(f"cell {index} has the tag {SERVES}, but no cell with a fold follows")
        text = "".join(output.get("text", "") for output in cell.outputs)
        at = host if role == SERVES and host is not None else index
        source = cell_syntax.untitled(cell.source)
        found[index] = Cell(index, source, tags, text, role, at)
    return dict(sorted(found.items()))


@dataclass(frozen=True)
class Verified:
    """A printed line of `verify`, with the two expressions that were compared where the code names them."""

    text: str
    sides: tuple[str, ...]
    cell: Cell


def verified(found: Iterable[Cell]) -> dict[str, list[Verified]]:
    """What was checked about each equation; a line that a loop prints again and again counts once."""
    lines: dict[str, list[Verified]] = defaultdict(list)
    for cell in found:
        sides: dict[str, list[tuple[str, ...]]] = defaultdict(list)
        for call in cell_syntax.calls(cell.source, "verify"):
            label = call.args[0] if call.args else None
            if isinstance(label, ast.Constant) and len(call.args) > 2:
                compared = tuple(ast.unparse(side) for side in call.args[1:3])
                sides[str(label.value)].append(compared)
        for label, text in VERIFIED.findall(cell.text):
            known = sides[label]
            line = Verified(text, (known.pop(0) if len(known) > 1 else (known or [()])[0]), cell)
            lines[label] += [line] if line not in lines[label] else []
    return lines


def left_over(text: str) -> str:
    """What a cell with a check printed besides: tables and numbers, not that something holds."""
    lines = text.splitlines()
    return "\n".join(line for line in lines if not (VERIFIED.match(line) or HOLDS.match(line)))


def statements(text: str) -> list[str]:
    """The printed statements that hold, without the word that says so."""
    return [found[1].strip() for line in text.splitlines() if (found := HOLDS.match(line))]


def summary_of(claims: Sequence[str]) -> str:
    """One line for the statements that a cell found to hold."""
    line = "; ".join(claims)
    return line if len(line) < 90 else f"{claims[0]}; {len(claims) - 1} more"
