"""What a notebook folds, and the title that it puts there."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from the_book import BOOK

from bookkit.authoring import cell_syntax, chapter_rules, labels, notebook_folds, notebooks

FIXTURE = labels.Book(Path(__file__).parent / "fixtures" / "book")
MOST_OPEN_CELLS, MOST_OPEN_LINES = 60, 250

each_chapter = pytest.mark.parametrize("page", BOOK.notebooks(), ids=lambda page: page.docname)


def made(code: str, role: str | None, text: str = "", figure: str = "") -> nbformat.NotebookNode:
    """A cell of code with its role, and perhaps what it printed or the label of its figure; without a role, text."""
    if role is None:
        return new_markdown_cell(code)
    outputs = [new_output("stream", name="stdout", text=text)] if text else []
    named = {"mystnb": {"figure": {"name": figure}}} if figure else {}
    return new_code_cell(code, outputs=outputs, metadata={**named, "tags": [role] if role else []})


def titles(*found: tuple) -> list[str]:
    """The title of each code cell of a small notebook, nothing where it stays open."""
    cells = [made(*each) for each in found]
    kinds = [(cell.cell_type, cell.source, cell.metadata) for cell in cells]
    notebook = new_notebook(cells=cells)
    notebook_folds.fold(FIXTURE, labels.Page("page", 1, Path("page.py"), kinds), notebook)
    first = [cell.source.partition("\n")[0] for cell in chapter_rules.code_cells(notebook)]
    return [line.removeprefix("# @title ") if "@title" in line else "" for line in first]


CHECK = ('verify("eq-gauss", s, 1)', "check", "verified eq-gauss: exact\n")
HELD = ("print('a is b:', c)", "held", "a is b: True\n")


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([("import torch", "unseen")], ["Imports"]),
        ([("# set-up", "setup")], ["Set-up: run this cell first"]),
        ([CHECK], ["Code for the check of (1.2)"]),
        ([("s = 1", "serves"), CHECK], ["Preparation for the check of (1.2)", "Code for the check of (1.2)"]),
        ([("plots.bars({})", "figure", "", "fig-square")], ["Code for Fig. 1.1"]),
        ([("plots.bars({})", "figure")], ["Code for this figure"]),
        ([("y = 1", "serves"), ("plots.bars(y)", "figure")], ["Preparation for this figure", "Code for this figure"]),
        ([("print(1)", "numbers", "1\n")], ["Code for these numbers"]),
        ([("c = 1", "serves"), HELD], ["Preparation for this check", "Check: a is b"]),
        (
            [("{solution-start} ex", None), ("1", "numbers", "1\n"), ("{solution-end}", None), ("f", "")],
            ["Solution", ""],
        ),
        (
            [("{depth-start} a\n:::", None), ("f = 1", ""), CHECK, ("{depth-end}", None), ("f", "")],
            ["Depth", "Code for the check of (1.2)", ""],
        ),
        ([("def f():\n    return 1", "")], [""]),
        ([("show(f)", "shown", "f\n")], [""]),
        ([("answer = ...\ncheck(answer)", "answer", "not answered yet\n")], [""]),
    ],
)  # fmt: skip
def test_the_title_says_what_a_folded_cell_does(cells: list[tuple], expected: list[str]) -> None:
    assert titles(*cells) == expected


def test_both_marks_are_set_and_the_code_is_kept() -> None:
    cell = new_code_cell("import torch", metadata={"tags": ["unseen"]})
    page = labels.Page("page", 1, Path("page.py"), [("code", cell.source, {})])
    notebook_folds.fold(FIXTURE, page, new_notebook(cells=[cell]))
    marks = {"tags": ["unseen"], "jupyter": {"source_hidden": True}, "cellView": "form"}
    assert cell.metadata == marks and cell_syntax.untitled(cell.source) == "import torch"


@each_chapter
def test_a_stored_notebook_shows_what_one_reads(page: labels.Page) -> None:
    cells = chapter_rules.code_cells(nbformat.read(notebooks.path_of(BOOK, page), 4))
    shown = [cell for cell in cells if "cellView" not in cell.metadata]
    assert len(shown) <= MOST_OPEN_CELLS
    lines = [line for cell in shown for line in cell.source.splitlines() if line.strip()]
    assert len(lines) <= MOST_OPEN_LINES
