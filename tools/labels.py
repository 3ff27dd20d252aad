"""Numbers every equation, theorem, exercise and figure as the built book does, and finds what the chapters claim.

Sphinx numbers the things on a page of the numbered part as chapter.k, with one counter for each kind;
`tests/test_built_site.py` compares.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import jupytext
import nbformat
import yaml

from tools import myst

VERIFIED = re.compile(r"^verified (\S+): (.+)$", re.MULTILINE)
SOURCES = re.compile(r"^\*Sources: (?P<ids>[^*]+?)\.?\*\s*$")
DEFINITION = "def-"
SLIPS = {
    "a word",
    "names",
    "a stray bar",
    "an index",
    "exchanged letters",
}  # errata that leave nothing to compute


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
    label: str | None


@dataclass
class Page:
    """A page of the book: the source of a notebook, or a Markdown file."""

    docname: str
    chapter: int | None
    path: Path
    cells: list[tuple[str, str, dict]]
    title: str = ""
    sections: list[tuple[str | None, int, str]] = field(default_factory=list)

    @property
    def is_notebook(self) -> bool:
        return self.path.suffix == ".py"

    @cached_property
    def markdown(self) -> list[tuple[int, list[myst.Block]]]:
        """(cell index, blocks) of every text cell."""
        found = []
        for index, (kind, source, _) in enumerate(self.cells):
            if kind == "markdown":
                try:
                    found.append((index, myst.parse(source)))
                except ValueError as error:
                    raise ValueError(f"{self.path.name}, cell {index}: {error}") from None
        return found


def read_source(path: Path) -> nbformat.NotebookNode:
    """Reads a chapter's text file as a notebook."""
    return jupytext.read(path, fmt="py:percent")


def strip_notes(text: str) -> str:
    """A Markdown page without its front matter."""
    return re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)


def own_label(docname: str, title: str) -> str:
    """The label of a chapter's section that has none of its own, so that claims and checks can lead to it."""
    words = [docname.rpartition("/")[2].lstrip("0123456789_"), title]
    return "-".join(
        ["sec", *(re.sub(r"[^a-z0-9]+", "-", word.lower()).strip("-") for word in words)]
    )


def with_targets(docname: str, text: str) -> str:
    """A chapter's MyST text in which every heading below the title stands under a target."""
    lines: list[str] = []
    fence = ""
    for line in text.split("\n"):
        if found := myst.FENCE.match(line):
            if not fence:
                fence = found["fence"]
            elif line.strip().startswith(fence):
                fence = ""
        heading = None if fence else myst.HEADING.match(line)
        above = next((row for row in reversed(lines) if row.strip()), "")
        if heading and len(heading["marks"]) > 1 and not myst.TARGET.match(above):
            lines += [f"({own_label(docname, heading['title'])})=", line]
        else:
            lines.append(line)
    return "\n".join(lines)


class Book:
    """All pages of the table of contents, in order, with every label's number."""

    def __init__(self, root: Path):
        self.root = Path(root)
        self.config = yaml.safe_load((self.root / "_config.yml").read_text("utf8"))
        self.repository: str = self.config["repository"]["url"]
        self.address: str = (self.config.get("html") or {}).get("baseurl") or ""
        self.places: dict[str, Place] = {}
        self.duplicates: list[str] = []
        self.claims: list[Claim] = []
        self.pages = {name: self._page(name, chapter) for name, chapter in self._toc()}
        self._counters: dict[tuple[str, int | None], int] = {}
        for page in self.pages.values():
            self._number(page)

    def _toc(self) -> Iterator[tuple[str, int | None]]:
        toc = yaml.safe_load((self.root / "_toc.yml").read_text("utf8"))
        yield toc["root"], None
        chapter = 0
        for part in toc.get("parts", [toc]):
            for entry in part.get("chapters", []):
                if "file" not in entry:
                    continue
                chapter += bool(part.get("numbered"))
                yield entry["file"], chapter if part.get("numbered") else None

    def _page(self, docname: str, chapter: int | None) -> Page:
        folder, _, name = docname.rpartition("/")
        source = self.root / folder / "src" / f"{name}.py"
        if source.exists():
            cells = [(c.cell_type, c.source, dict(c.metadata)) for c in read_source(source).cells]
            return Page(docname, chapter, source, cells)
        path = self.root / f"{docname}.md"
        if not path.exists():
            raise ValueError(
                f"_toc.yml names {docname}, but neither {docname}.md nor {folder}/src/{name}.py exists"
            )
        return Page(docname, chapter, path, [("markdown", strip_notes(path.read_text("utf8")), {})])

    def notebooks(self) -> list[Page]:
        """The chapters that are notebooks."""
        return [page for page in self.pages.values() if page.is_notebook]

    def _next(self, kind: str, page: Page) -> str:
        key = (kind, page.chapter)
        self._counters[key] = self._counters.get(key, 0) + 1
        return f"{page.chapter}.{self._counters[key]}" if page.chapter else str(self._counters[key])

    def _put(self, label: str | None, place: Place) -> None:
        if label is None:
            return
        if label in self.places:
            self.duplicates.append(label)
        self.places[label] = place

    def _number(self, page: Page) -> None:
        section: str | None = None
        markdown = dict(page.markdown)
        for index, (kind, _, metadata) in enumerate(page.cells):
            if kind == "code":
                figure = (metadata.get("mystnb") or {}).get("figure") or {}
                if figure.get("caption"):
                    place = Place(
                        page.docname, "figure", self._next("figure", page), figure["caption"]
                    )
                    self._put(figure.get("name"), place)
                continue
            waiting: list[str] = []
            for block in myst.walk(markdown.get(index, [])):
                if isinstance(block, myst.Target):
                    waiting.append(block.label)
                    continue
                if isinstance(block, myst.Heading):
                    page.title = page.title or block.title
                    page.sections.append(
                        (waiting[-1] if waiting else None, block.level, block.title)
                    )
                    if page.is_notebook and block.level > 1 and not waiting:
                        waiting = [own_label(page.docname, block.title)]
                    if (
                        block.level <= 2
                    ):  # a *Sources:* line closes a whole section, with what is below it
                        section = waiting[-1] if waiting else section
                if isinstance(block, myst.Text) and not any(line.strip() for line in block.lines):
                    continue
                title = block.title if isinstance(block, myst.Heading) else ""
                for label in waiting:
                    self._put(label, Place(page.docname, "section", "", title))
                waiting = []
                self._number_block(block, page)
                if isinstance(block, myst.Text):
                    self._claims(block.lines, page, section)

    def _number_block(self, block: myst.Block, page: Page) -> None:
        if isinstance(block, myst.Math) and block.label:
            self._put(
                block.label,
                Place(page.docname, "equation", self._next("equation", page), body=block.body),
            )
        if not isinstance(block, myst.Directive):
            return
        name, label = block.name, block.options.get("label")
        kind = name.removeprefix("prf:")
        if name.startswith("prf:") and kind in myst.PROOFS:
            number = "" if "nonumber" in block.options else self._next(kind, page)
            self._put(label, Place(page.docname, kind, number, block.argument))
            block.number = number
        elif name in ("exercise", "exercise-start"):
            number = "" if "nonumber" in block.options else self._next("exercise", page)
            self._put(label, Place(page.docname, "exercise", number, block.argument))
            block.number = number
        elif name in ("solution", "solution-start"):
            self._put(label, Place(page.docname, "solution", "", block.argument))
        elif name == "figure" and block.body:
            self._put(
                block.options.get("name"),
                Place(page.docname, "figure", self._next("figure", page), block.body[0]),
            )
        elif name == "admonition":
            self._put(block.options.get("name"), Place(page.docname, "section", "", block.argument))

    def _claims(self, lines: list[str], page: Page, section: str | None) -> None:
        for line in lines:
            if found := SOURCES.match(line):
                rows = [row.strip() for row in found["ids"].split(",")]
                self.claims += [Claim(row, page.docname, section) for row in rows]

    def equations(self) -> dict[str, Place]:
        """Every labelled equation of the book, in order."""
        return {label: place for label, place in self.places.items() if place.kind == "equation"}


@dataclass(frozen=True)
class Check:
    """A line that `verify` printed: what was checked, how, in which notebook and under which section."""

    label: str
    text: str
    docname: str
    section: str | None


def checks(book: Book) -> list[Check]:
    """Every check found in the stored outputs of the notebooks."""
    found = []
    for page in book.notebooks():
        path = book.root / f"{page.docname}.ipynb"
        if not path.exists():
            continue
        section: str | None = None
        cells = nbformat.read(path, 4).cells
        markdown = dict(page.markdown)
        for index, cell in enumerate(cells):
            if cell.cell_type == "markdown":
                section = _last_section(markdown.get(index, []), section, page.docname)
                continue
            for output in cell.get("outputs", []):
                for label, text in VERIFIED.findall(output.get("text", "")):
                    found.append(Check(label, text, page.docname, section))
    return found


def _last_section(blocks: list[myst.Block], section: str | None, docname: str) -> str | None:
    waiting = None
    for block in blocks:
        if isinstance(block, myst.Target):
            waiting = block.label
        elif isinstance(block, myst.Heading):
            own = own_label(docname, block.title) if block.level > 1 else section
            section, waiting = waiting or own, None
    return section


def verify_calls(code: str) -> list[str | None]:
    """The labels of the `verify(...)` calls in a cell; None for a label that is computed."""
    try:
        tree = ast.parse(
            "\n".join(
                "" if line.lstrip().startswith(("%", "!")) else line for line in code.split("\n")
            )
        )
    except SyntaxError:
        return []
    labels: list[str | None] = []
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for node in sorted(calls, key=lambda call: (call.lineno, call.col_offset)):
        if getattr(node.func, "id", getattr(node.func, "attr", "")) == "verify":
            first = (
                node.args[0]
                if node.args
                else next((k.value for k in node.keywords if k.arg == "label"), None)
            )
            labels.append(str(first.value) if isinstance(first, ast.Constant) else None)
    return labels
