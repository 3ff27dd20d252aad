"""Lets the book show the MyST text of notebooks/src, and knows where the repository is."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.errors import ExtensionError
from sphinxcontrib.bibtex.plugin import register_plugin
from sphinxcontrib.bibtex.style.referencing import BracketStyle
from sphinxcontrib.bibtex.style.referencing.author_year import AuthorYearReferenceStyle

from bookkit.authoring.labels import Book, with_targets

PLACEHOLDER = "OWNER/REPO"
GITHUB = re.compile(r"github\.com[/:]([\w.-]+/[\w.-]+?)(?:\.git)?/?$")
SOURCE_NOTE = re.compile(r"^\*Sources: ([^*]+?)\.\*$", re.MULTILINE)


def repository(root: Path, configured: str) -> str:
    """The address of the repository: that of _config.yml, else of git's remote, else of GitHub's run; or nothing."""
    if configured and not configured.endswith(PLACEHOLDER):
        return configured
    command = ["git", "-C", str(root), "remote", "get-url", "origin"]
    try:
        remote = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except OSError:  # no git
        remote = ""
    found = GITHUB.search(remote)
    name = found[1] if found else os.environ.get("GITHUB_REPOSITORY", "")
    return f"https://github.com/{name}" if name else ""


def buttons(app: Sphinx, config: Config) -> None:
    """Where nobody knows the repository, no button leads to it."""
    options = config.html_theme_options
    address = repository(Path(app.srcdir), options.get("repository_url", ""))
    options["repository_url"] = address
    if not address:
        options["launch_buttons"] = {}
        options |= {"use_repository_button": False, "use_issues_button": False}


def read_book(app: Sphinx) -> None:
    """Reads all labels once per build; every page sees the same."""
    try:
        app.the_book = Book(Path(app.srcdir))  # type: ignore[attr-defined]
    except ValueError as error:
        raise ExtensionError(str(error)) from None


def without_sources(text: str) -> str:
    """Leaves out the source notes, which the concordance collects: on a page they help nobody."""
    return SOURCE_NOTE.sub("", text)


def swap(app: Sphinx, docname: str, source: list[str]) -> None:
    """Puts the MyST text of the source in place of the plain text that the notebook carries for Jupyter."""
    page = app.the_book.pages.get(docname)  # type: ignore[attr-defined]
    if page is None or not page.is_notebook:
        source[0] = without_sources(source[0])
        return
    if not Path(app.srcdir, f"{docname}.ipynb").exists():
        raise ExtensionError(f"{docname}.ipynb does not exist; make execute")
    app.env.note_dependency(str(page.path))
    app.env.note_dependency(str(Path(app.srcdir, "book", "data", "chapters.yml")))
    notebook = json.loads(source[0])
    if [cell["cell_type"] for cell in notebook["cells"]] != [kind for kind, _, _ in page.cells]:
        raise ExtensionError(
            f"{docname}.ipynb does not have the cells of its source; make sync or make execute"
        )
    for cell, (kind, text, _) in zip(notebook["cells"], page.cells, strict=True):
        if kind == "markdown":
            cell["source"] = without_sources(with_targets(docname, text))
    source[0] = json.dumps(notebook)


def unique_ids(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Drops the ids that the theorem and exercise extensions give to every box on a page."""
    for section in doctree.findall(nodes.section):
        if section["ids"] and section["ids"][0] in (
            "proof-content",
            "exercise-content",
            "solution-content",
        ):
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
    register_plugin("sphinxcontrib.bibtex.style.referencing", "author_year_round", AuthorYearRound)
