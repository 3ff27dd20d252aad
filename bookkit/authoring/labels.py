"""Numbers every equation, theorem, exercise and figure as the built book does, and finds what the chapters claim.

Sphinx numbers the things on a page of the numbered part as chapter.k, with one counter for each kind. It knows the
numbers only when all pages are read, but text for Jupyter must have them before there are pages; so they are counted
here too, and `tests/test_built_site.py` compares.
"""

from __future__ import annotations

import ast
import itertools
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import jupytext
import nbformat
import yaml

from bookkit.authoring import cell_syntax, myst
from bookkit.authoring.roles import VERIFIED

SOURCES = re.compile(r"^\*Sources: (?P<ids>[^*]+?)\.?\*\s*$", re.MULTILINE)
CLAIM, DEFINITION = "eq-", "def-"
SECONDS = Path("book", "data", "seconds.json")  # what a run of each chapter took of one core
NUMBERED = {"equation", "exercise", "figure", *myst.PROOFS}


@dataclass(frozen=True)
class Place:
    """Where a label is, what it marks, and its number."""

    docname: str
    kind: str
    number: str = ""
    title: str = ""
    body: str = ""


@dataclass(frozen=True)
class Claim:
    """A section that says it covers a row of the sources."""

    row: str
    docname: str
    section: str | None


@dataclass(frozen=True)
class Check:
    """A line that `verify` printed: what was checked, how, in which notebook and under which section."""

    label: str
    text: str
    docname: str
    section: str | None


@dataclass
class Page:
    """A page of the book: the source of a notebook, or a Markdown file."""

    docname: str
    chapter: int | None
    path: Path
    cells: list[tuple[str, str, dict]]
    title: str = ""
    levels: list[int] = field(default_factory=list)  # of its headings
    sections: list[str | None] = field(default_factory=list)  # for each cell, where it ends

    @property
    def is_notebook(self) -> bool:
        return self.path.suffix == ".py"

    @cached_property
    def blocks(self) -> list[list[myst.Block]]:
        """The blocks of every cell; a code cell has one if its figure has a caption."""
        found = []
        for index, (kind, source, metadata) in enumerate(self.cells):
            try:
                found.append(myst.parse(source) if kind == "markdown" else [])
            except ValueError as error:
                raise ValueError(f"{self.path.name}, cell {index}: {error}") from None
            if caption := figure(metadata).get("caption"):
                found[-1].append(myst.Block("figure", caption, figure(metadata).get("name", "")))
        return found


def figure(metadata: dict) -> dict:
    """What the metadata of a code cell say about its figure."""
    return (metadata.get("mystnb") or {}).get("figure") or {}


def own_label(docname: str, title: str) -> str:
    """The label of a chapter's section that has none of its own, so that claims and checks can lead to it."""
    words = [docname.rpartition("/")[2].lstrip("0123456789_"), title]
    return "-".join(
        ["sec", *(re.sub(r"[^a-z0-9]+", "-", word.lower()).strip("-") for word in words)]
    )


def with_targets(docname: str, text: str) -> str:
    """A chapter's MyST text in which every heading below the title stands under a target."""
    lines = text.split("\n")
    blocks = [block for block in myst.parse(text) if block.text.strip() or block.label]
    for above, block in reversed(list(itertools.pairwise([myst.Block(""), *blocks]))):
        if block.kind == "heading" and block.level > 1 and above.kind != "target":
            lines.insert(block.line, f"({own_label(docname, block.text)})=")
    return "\n".join(lines)


def contents(root: Path) -> Iterator[tuple[str, int | None]]:
    """The pages of _toc.yml in the order of the sidebar, each with its number as a chapter."""
    toc = yaml.safe_load((root / "_toc.yml").read_text("utf8"))
    yield toc["root"], None
    numbers = itertools.count(1)
    for part in toc["parts"]:
        for entry in part["chapters"]:
            yield entry["file"], next(numbers) if part.get("numbered") else None
            yield from ((section["file"], None) for section in entry.get("sections", []))


class Book:
    """All pages of the table of contents, in order, with every label's number."""

    def __init__(self, root: Path):
        self.root = Path(root)
        self.config = yaml.safe_load((self.root / "_config.yml").read_text("utf8"))
        self.repository: str = self.config["repository"]["url"]
        self.branch: str = self.config["repository"].get("branch") or "main"
        self.address: str = (self.config.get("html") or {}).get("baseurl") or ""
        self.places: dict[str, Place] = {}
        self.duplicates: list[str] = []
        self.claims: list[Claim] = []
        self.pages = {name: self._page(name, chapter) for name, chapter in contents(self.root)}
        self._counts: Counter[tuple[str, int | None]] = Counter()
        for page in self.pages.values():
            self._read(page)
        for entry in sorted(self.root.glob("companion/experiments/entries/*.toml")):
            title = tomllib.loads(entry.read_text("utf8"))["question"]
            self._put(f"exp-{entry.stem}", Place("book/experiments", "section", "", title))

    def _page(self, docname: str, chapter: int | None) -> Page:
        folder, _, name = docname.rpartition("/")
        source = self.root / folder / "src" / f"{name}.py"
        if source.exists():
            notebook = jupytext.read(source, fmt="py:percent")
            cells = [(cell.cell_type, cell.source, dict(cell.metadata)) for cell in notebook.cells]
            return Page(docname, chapter, source, cells)
        path = self.root / f"{docname}.md"
        return Page(docname, chapter, path, [("markdown", path.read_text("utf8"), {})])

    def notebooks(self) -> list[Page]:
        """The chapters that are notebooks."""
        return [page for page in self.pages.values() if page.is_notebook]

    def _read(self, page: Page) -> None:
        """Puts all labels of a page on the map, and keeps its headings and claims."""
        section = claiming = None
        for blocks in page.blocks:
            waiting: list[str] = []
            for block in myst.walk(blocks):
                if block.kind == "target":
                    waiting.append(block.label)
                elif block.kind == "heading":
                    page.title = page.title or block.text
                    page.levels.append(block.level)
                    if page.is_notebook and block.level > 1 and not waiting:
                        waiting = [own_label(page.docname, block.text)]
                    section = waiting[-1] if waiting else section
                    if block.level <= 2:  # a *Sources:* line is for all that is below a ## heading
                        claiming = section
                if block.kind != "target" and (block.kind != "text" or block.text.strip()):
                    title = block.text if block.kind == "heading" else ""
                    for label in waiting:
                        self._put(label, Place(page.docname, "section", "", title))
                    waiting = []
                if block.kind == "text":
                    for found in SOURCES.finditer(block.text):
                        rows = [row.strip() for row in found["ids"].split(",")]
                        self.claims += [Claim(row, page.docname, claiming) for row in rows]
                else:
                    self._number(block, page)
            page.sections.append(section)

    def _number(self, block: myst.Block, page: Page) -> None:
        kind = block.kind.removeprefix("prf:").removesuffix("-start").replace("math", "equation")
        is_bare = not block.label if kind == "equation" else kind == "figure" and not block.text
        if kind in NUMBERED and not is_bare:
            self._counts[kind, page.chapter] += 1
            count = self._counts[kind, page.chapter]
            block.number = f"{page.chapter}.{count}" if page.chapter else str(count)
        if block.label and kind in NUMBERED | {"solution"} and not is_bare:
            body = block.text if kind == "equation" else ""
            title = block.text.split("\n")[0] if kind == "figure" else block.argument
            self._put(block.label, Place(page.docname, kind, block.number, title, body))

    def _put(self, label: str, place: Place) -> None:
        if label in self.places:
            self.duplicates.append(label)
        self.places[label] = place

    def equations(self, page: Page | None = None) -> dict[str, Place]:
        """Every labelled equation of the book or of one page, in order."""
        return {
            label: place
            for label, place in self.places.items()
            if place.kind == "equation" and (page is None or place.docname == page.docname)
        }


def checks(book: Book) -> list[Check]:
    """Every check found in the stored outputs of the notebooks."""
    return [
        check
        for page in book.notebooks()
        for check in checks_of(page, nbformat.read(book.root / f"{page.docname}.ipynb", 4))
    ]


def checks_of(page: Page, notebook: nbformat.NotebookNode) -> Iterator[Check]:
    """Every check found in the stored outputs of a page's notebook."""
    for cell, section in zip(notebook.cells, page.sections, strict=False):
        for output in cell.get("outputs", []):
            for label, text in VERIFIED.findall(output.get("text", "")):
                yield Check(label, text, page.docname, section)


def verify_calls(code: str) -> list[str | None]:
    """The labels of the `verify(...)` calls in a cell; None for a label that is computed."""
    first = [next(iter(call.args), None) for call in cell_syntax.calls(code, "verify")]
    return [str(label.value) if isinstance(label, ast.Constant) else None for label in first]
