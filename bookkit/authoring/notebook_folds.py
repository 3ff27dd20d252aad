"""What the page of a chapter folds, its notebook folds too, in JupyterLab and in Colab.

A folded cell has the marks of both and, as its first line, a title that says what the cell does: Colab shows it in
place of the code, JupyterLab shows the first line of what it folds. Roles come from the page, numbers from the book.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from nbformat import NotebookNode

from bookkit.authoring import roles
from bookkit.authoring.cell_syntax import TITLE
from bookkit.authoring.labels import Book, Page, figure

BOX = re.compile(r"\{(solution|depth)-(start|end)\}")
# Exercises wait for an answer where the page folds them, and a call of `show` is shorter than a title.
FOLDED = {roles.UNSEEN, roles.FIGURE, roles.NUMBERS, roles.CHECK, roles.HELD, roles.SERVES}


def fold(book: Book, page: Page, notebook: NotebookNode) -> None:
    """Folds the cells of a notebook that has outputs but no folds yet."""
    cells, boxes = roles.cells_of(notebook), boxed(page)
    for index, cell in cells.items():
        if cell.role in FOLDED or index in boxes:
            words = title(book, page, cells, cell, boxes.get(index, ""))
            folded = notebook.cells[index]
            folded.source = f"{TITLE}{words}\n{folded.source}"
            folded.metadata.update(jupyter={"source_hidden": True}, cellView="form")


def boxed(page: Page) -> dict[int, str]:
    """The cells in the folded boxes of a page, "solution" or "depth"."""
    found, box = {}, ""
    for index, (kind, source, _) in enumerate(page.cells):
        if kind == "markdown":
            for name, end in BOX.findall(source):
                box = name if end == "start" else ""
        elif box:
            found[index] = box
    return found


def title(
    book: Book, page: Page, cells: Mapping[int, roles.Cell], cell: roles.Cell, box: str
) -> str:
    """What a folded cell does, in a few words."""
    if box == "solution" or cell.role not in FOLDED:
        return box.capitalize()
    if cell.role == roles.UNSEEN:
        return "Set-up: run this cell first" if "setup" in cell.tags else "Imports"
    if cell.role == roles.HELD:
        return f"Check: {roles.summary_of(roles.statements(cell.text))}"
    host, verb = cells[cell.host], "Code" if cell.host == cell.index else "Preparation"
    if host.role == roles.CHECK:
        labels = dict.fromkeys(label for label, _ in roles.VERIFIED.findall(host.text))
        numbers = [f"({book.places[label].number})" for label in labels if label in book.places]
        return f"{verb} for the check of {', '.join(numbers)}"
    if host.role == roles.FIGURE:
        name = figure(page.cells[host.index][2]).get("name")
        number = book.places[name].number if name in book.places else ""
        return f"{verb} for Fig. {number}" if number else f"{verb} for this figure"
    return f"{verb} for {'these numbers' if host.role == roles.NUMBERS else 'this check'}"
