"""What a stored notebook must be: functions of its cells and of the whole, which yield what is wrong."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable, Iterator

from nbformat import NotebookNode

from bookkit.authoring import roles
from bookkit.authoring.cell_syntax import calls, python, untitled
from bookkit.authoring.labels import CLAIM, DEFINITION, Book, Page, checks_of, figure, verify_calls

COMPARED = "nbval-check-output"
COLUMNS = "columns"  # prints a table: bookkit/site/printed_tables.py
TAGS = {
    "setup",
    COMPARED,
    "mnist",  # compared only where MNIST is: notebooks/conftest.py
    "hide-input",  # of the set-up cell, for other readers of notebooks
    *roles.ROLES,
    COLUMNS,
}
IMPORTS = {"companion", "torch", "torchvision", "numpy", "matplotlib"}  # what Colab has, and ours
MAX_LINES, MAX_CLASS_LINES = 30, 12
MIN_ALT = 15
MIN_COMPARED = 0.7
FALLBACK = re.compile(r"^data: no copy of ", re.MULTILINE)  # companion.data without the real data
LOCAL = re.compile(
    r"(?<![\w:/.])/(?:home|root|tmp|work|mnt|Users|content|usr|var|opt)/[\w.]|site-packages"
    r"|ipykernel_\d|\b0x[0-9a-f]{6,}\b|\.venv/"
)


def tags(cell: NotebookNode) -> set[str]:
    """The tags of a cell."""
    return set(cell.metadata.get("tags", []))


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The code cells of a notebook, in order."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def contents(cell: NotebookNode) -> list[dict]:
    """What the outputs of a cell show, by MIME type; nothing for streams and errors."""
    return [output.get("data", {}) for output in cell.outputs]


def texts(cell: NotebookNode) -> Iterator[str]:
    """All text among the outputs of a cell, embedded pictures left out."""
    for output in cell.outputs:
        yield output.get("text", "")
        for mime in ("text/plain", "text/markdown", "text/html"):
            text = "".join(output.get("data", {}).get(mime, ""))
            yield re.sub(r"data:image/[^\"']*", "", text)


def is_picture(data: dict) -> bool:
    """Whether an output is a picture or HTML that holds one."""
    html = "".join(data.get("text/html", ""))
    return "<img" in html or any(mime.startswith("image/") for mime in data)


def pictures(cell: NotebookNode) -> int:
    """How many outputs are pictures that need an alt text; HTML brings its own."""
    return sum(is_picture(data) for data in contents(cell) if "text/html" not in data)


def prints(cell: NotebookNode) -> bool:
    """Whether a cell's outputs are text, and not a picture or a slider."""
    shown = contents(cell)
    streams = any(output.output_type == "stream" for output in cell.outputs)
    return not any(map(is_picture, shown)) and (streams or any(shown))


def printed(cell: NotebookNode) -> str:
    """What a cell printed."""
    return "".join(output.get("text", "") for output in cell.outputs)


def holds(text: str) -> bool:
    """Whether a text has nothing but statements that hold."""
    return bool(text) and all(map(roles.HOLDS.match, text.splitlines()))


# What a cell must be for its role, and what is said of one that is not.
FITS: dict[str, tuple[Callable[[NotebookNode], bool], str]] = {
    roles.UNSEEN: (lambda cell: not cell.outputs, "has output"),
    roles.SERVES: (lambda cell: not cell.outputs, "has output"),
    roles.SHOWN: (lambda cell: bool(calls(cell.source, "show")), "does not call show"),
    roles.FIGURE: (lambda cell: any(map(is_picture, contents(cell))), "shows no picture"),
    roles.NUMBERS: (lambda cell: bool(cell.outputs), "has no output"),
    roles.CHECK: (lambda cell: bool(roles.VERIFIED.search(printed(cell))), "verifies nothing"),
    roles.HELD: (lambda cell: holds(printed(cell)), "prints more than what is True"),
    roles.ANSWER: (lambda cell: bool(roles.UNANSWERED.search(printed(cell))), "is answered"),
}


def of_a_cell(cell: NotebookNode) -> Iterator[str]:
    """What is wrong with a code cell."""
    if cell.source.strip() and not cell.execution_count:
        yield "was not executed"
    if unknown := tags(cell) - TAGS:
        yield f"tag {', '.join(sorted(unknown))} is not allowed"
    if len(given := sorted(tags(cell) & roles.ROLES)) > 1:
        yield f"tags {', '.join(given)} exclude each other"
    for role in given:
        fits, text = FITS[role]
        if not fits(cell):
            yield f"has the tag {role}, but {text}"
    yield from _of_the_code(cell)
    yield from _of_the_outputs(cell)
    yield from _of_the_picture(cell)


def _of_the_code(cell: NotebookNode) -> Iterator[str]:
    """It is short, asks for what Colab has, and leaves checks that are compared."""
    lines = [line for line in untitled(cell.source).splitlines() if line.strip()]
    if len(lines) > MAX_LINES and "setup" not in tags(cell):
        yield f"has {len(lines)} non-blank lines; {MAX_LINES} are the limit"
    for node in ast.walk(python(cell.source)):
        names: list[str] = []
        if isinstance(node, ast.ClassDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > MAX_CLASS_LINES:
                yield f"class {node.name} has {length} lines; move it to companion"
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "."]
        for name in names:
            if name.split(".")[0] not in IMPORTS | sys.stdlib_module_names:
                yield f"imports {name}; allowed is what Colab has, and companion"
    if verify_calls(cell.source) and COMPARED not in tags(cell):
        yield f"calls verify, so it needs the tag {COMPARED}"


def _of_the_outputs(cell: NotebookNode) -> Iterator[str]:
    """They hold no error, no warning, and nothing of this machine or of stand-in data."""
    for output in cell.outputs:
        if output.output_type == "error":
            yield f"an error is stored: {output.ename}"
        if output.output_type == "stream" and output.name == "stderr":
            yield f"writes to stderr: {output.text.strip().splitlines()[-1][:100]!r}"
    for text in texts(cell):
        if FALLBACK.search(text):
            yield "was run on the fallback data; run it where the data set can be had"
        if found := LOCAL.search(text):
            around = text[max(0, found.start() - 20) : found.end() + 20]
            yield f"prints something of this machine: {around!r}"


def _of_the_picture(cell: NotebookNode) -> Iterator[str]:
    """There is one at most, with an alt text that says what is seen; a caption has a picture."""
    alt = ((cell.metadata.get("mystnb") or {}).get("image") or {}).get("alt", "")
    if (number := pictures(cell)) > 1:
        yield f"shows {number} pictures; one alt text fits one picture, so split the cell"
    if number and len(alt) < MIN_ALT:
        yield f"shows a picture whose alt text has {len(alt)} characters of {MIN_ALT}"
    if alt and not any(map(is_picture, contents(cell))):
        yield "has an alt text but shows no picture"
    if figure(cell.metadata).get("caption") and not number:
        yield "has a caption but shows no picture (a slider takes none; write its caption as text)"


def of_a_notebook(book: Book, page: Page, notebook: NotebookNode) -> Iterator[str]:
    """What is wrong with a notebook as a whole."""
    first, *others = ["setup" in tags(cell) for cell in code_cells(notebook)] or [False]
    if not first or any(others):
        yield "the first code cell, and no other, has the tag setup"
    kinds, levels = [cell.cell_type for cell in notebook.cells], page.levels
    if kinds[0] != "markdown" or levels[:1] != [1] or levels.count(1) != 1 or 2 not in levels:
        yield "a chapter starts with its one # heading and has ## headings below"
    for index, cell in enumerate(notebook.cells):
        if figure(cell.metadata).get("caption") and kinds[index + 1 : index + 2] != ["markdown"]:
            yield f"cell {index}: a text cell must follow, to show the caption in Jupyter"
    printing = [cell for cell in code_cells(notebook) if prints(cell)]
    compared = [cell for cell in printing if COMPARED in tags(cell)]
    if len(compared) < MIN_COMPARED * len(printing):
        are = f"{len(compared)} of {len(printing)} cells that print text have the tag {COMPARED}"
        yield f"{are}; {MIN_COMPARED:.0%} are needed"
    yield from _of_the_equations(book, page, notebook)


def _of_the_equations(book: Book, page: Page, notebook: NotebookNode) -> Iterator[str]:
    """Each claim has a check in its own chapter, and each check that stands in the code has run."""
    equations, checked = book.equations(page), [c.label for c in checks_of(page, notebook)]
    for label in equations:
        if not label.startswith((CLAIM, DEFINITION)):
            yield f"the equation {label} must be a claim ({CLAIM}...) or a definition ({DEFINITION}...)"
        if label.startswith(CLAIM) and label not in checked:
            yield f"the claim {label} is not verified: no output has its line"
    for label in dict.fromkeys(checked):
        if label not in equations:
            yield f"the check {label} belongs to no equation of this chapter"
    for cell in code_cells(notebook):
        for call in verify_calls(cell.source):
            if call is not None and call not in checked:
                yield f"verify({call!r}, ...) has left no line"
