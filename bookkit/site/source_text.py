"""Lets the book show the MyST text of notebooks/src, and knows where the repository is."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError
from sphinxcontrib.bibtex.plugin import register_plugin
from sphinxcontrib.bibtex.style.referencing import BracketStyle
from sphinxcontrib.bibtex.style.referencing.author_year import AuthorYearReferenceStyle

from bookkit.authoring import setup_cell
from bookkit.authoring.cell_syntax import untitled
from bookkit.authoring.labels import SOURCES, Book, with_targets

COLAB = "colab"  # the branch of the notebooks that know their commit; .github/workflows/book.yml pushes it


def buttons(app: Sphinx, config: Config) -> None:
    """Where nobody knows the repository, no button leads to it."""
    options = config.html_theme_options
    address = setup_cell.repository(Path(app.srcdir), options.get("repository_url", ""))
    options["repository_url"] = address
    options["repository_branch"] = COLAB
    if not address:
        options["launch_buttons"] = {}
        options |= {"use_repository_button": False, "use_issues_button": False}


def read_book(app: Sphinx) -> None:
    """Reads all labels once per build; every page sees the same."""
    app.the_book = Book(Path(app.srcdir))  # type: ignore[attr-defined]


def swap(app: Sphinx, docname: str, source: list[str]) -> None:
    """Puts the MyST text of the source in place of the plain text that the notebook carries for Jupyter.

    The notes on sources, which the concordance collects, help nobody on a page.
    """
    page = app.the_book.pages.get(docname)  # type: ignore[attr-defined]
    if page is None or not page.is_notebook:
        source[0] = SOURCES.sub("", source[0])
        return
    app.env.note_dependency(str(page.path))
    app.env.note_dependency(str(Path(app.srcdir, "book", "data", "chapters.yml")))
    notebook = json.loads(source[0])
    if [cell["cell_type"] for cell in notebook["cells"]] != [kind for kind, _, _ in page.cells]:
        raise ExtensionError(
            f"{docname}.ipynb does not have the cells of its source; make sync or make execute"
        )
    for cell, (kind, text, _) in zip(notebook["cells"], page.cells, strict=True):
        if kind == "markdown":
            cell["source"] = SOURCES.sub("", with_targets(docname, text))
        else:
            cell["source"] = untitled("".join(cell["source"]))
    source[0] = json.dumps(notebook)


def pin(app: Sphinx, failed: Exception | None) -> None:
    """The notebooks that the site offers know the commit from which it was built, and the address if anybody does."""
    if failed or app.builder.name != "html":
        return
    book: Book = app.the_book  # type: ignore[attr-defined]
    address = setup_cell.repository(book.root, book.repository)
    commit = setup_cell.commit(book.root) or book.branch
    for page in book.notebooks():
        path = Path(app.outdir, "_sources", f"{page.docname}.ipynb")
        notebook = nbformat.read(path, 4)
        pinned = setup_cell.setup_cell(page.path.stem, address, commit)
        first = next(cell for cell in notebook.cells if cell.cell_type == "code")
        first.source = first.source.partition("\n")[0] + "\n" + pinned
        path.write_text(nbformat.writes(notebook) + "\n", "utf8")


def unique_ids(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Drops the ids that the theorem and exercise extensions give to every box on a page."""
    for section in doctree.findall(nodes.section):
        if section["ids"][:1] in (["proof-content"], ["exercise-content"], ["solution-content"]):
            section["ids"] = []


@dataclass
class AuthorYearRound(AuthorYearReferenceStyle):
    """Citations such as Kingma and Welling (2014), as in the text that Jupyter shows."""

    bracket_textual: BracketStyle = field(
        default_factory=lambda: BracketStyle("(", ")", sep2=" and ", last_sep=" and ")
    )
    bracket_parenthetical: BracketStyle = field(
        default_factory=lambda: BracketStyle("(", ")", sep="; ")
    )


def setup(app: Sphinx) -> None:
    app.connect("config-inited", buttons, priority=100)
    app.connect("builder-inited", read_book)
    app.connect("source-read", swap)
    app.connect("doctree-resolved", unique_ids)
    app.connect("build-finished", pin)
    register_plugin("sphinxcontrib.bibtex.style.referencing", "author_year_round", AuthorYearRound)
