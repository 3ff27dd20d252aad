"""Fills the pages that tell of the whole book: Jinja templates, with what the book's own module gives for each.

`template_pages` in _config.yml names that module. Its PAGES has a function of the book for each page, which returns the
names of the template; its FILTERS are functions that templates may call, beside those of this module.
"""

from __future__ import annotations

import csv
import re
from importlib import import_module
from typing import Any

import jinja2
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError

from bookkit.authoring.labels import Book, Check, Claim, Page


def read_table(book: Book, name: str) -> list[dict[str, Any]]:
    """Reads a tab-separated table with a head line."""
    with (book.root / "book" / "data" / name).open(encoding="utf8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def plain(text: str) -> str:
    """Text without meaning for Markdown."""
    return re.sub(r"([\\`*_{}\[\]<>#|~$^])", r"\\\1", text)


def link(item: Check | Claim) -> str:
    """A link to the section of a check or a claim, or to its page."""
    return f"{{ref}}`{item.section}`" if item.section else f"{{doc}}`/{item.docname}`"


def minus(text: str) -> str:
    """A text whose negative numbers have a minus in place of a hyphen."""
    return re.sub(r"(?<![\w\d])-(?=\d)", "−", text)


def badge(check: Check, words: str = "its check mark") -> str:
    """A link to the check mark of an equation."""
    return f'<a href="../{check.docname}.html#check-{check.label}">{words}</a>'


def heading(page: Page) -> str:
    """The heading above the things of one page."""
    return f"Chapter {page.chapter}. {page.title}" if page.chapter else page.title


TEMPLATES = jinja2.Environment(
    trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
)
TEMPLATES.tests["has"] = lambda values, value: value in values


def rendered(text: str, pages: Any, docname: str, book: Book) -> str:
    """A page that is a template, with the names that the book's module gives it."""
    filters = (plain, link, minus, badge, heading, *pages.FILTERS)
    TEMPLATES.filters |= {function.__name__: function for function in filters}
    return TEMPLATES.from_string(text).render(pages.PAGES[docname](book), book=book)


def fill(app: Sphinx, docname: str, source: list[str]) -> None:
    """Renders a page that is a template."""
    pages = import_module(app.config.template_pages)
    if docname in pages.PAGES:
        book: Book = app.the_book  # type: ignore[attr-defined]
        try:
            source[0] = rendered(source[0], pages, docname, book)
        except (ValueError, OSError, jinja2.TemplateError) as error:
            raise ExtensionError(f"{docname}: {error}") from None  # else nobody knows which page


def always_read(app: Sphinx, env: BuildEnvironment, *changes: set[str]) -> list[str]:
    """Pages that show something of the whole book are made anew in every build."""
    pages = import_module(app.config.template_pages)
    return [page for page in pages.PAGES if page in env.found_docs]


def setup(app: Sphinx) -> None:
    app.add_config_value("template_pages", "", "env", types=[str])
    app.connect("source-read", fill)
    app.connect("env-get-outdated", always_read)
