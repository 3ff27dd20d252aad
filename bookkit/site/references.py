"""Makes references lead on: from the list of works to arXiv, and to the chapters that cite a work."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

from bookkit.authoring.labels import Book

ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5}|[a-z-]+(?:\.[A-Z]{2})?/\d{7})")
CITED = re.compile(r"\{cite:[tp]\}`([^`]+)`")
LIST = "book/bibliography"


def citing(book: Book) -> dict[str, list[str]]:
    """The pages that cite each work, in the order of the book, without the list itself."""
    found: dict[str, list[str]] = defaultdict(list)
    for page in book.pages.values():
        text = "\n".join(source for kind, source, _ in page.cells if kind == "markdown")
        keys = {key.strip() for group in CITED.findall(text) for key in group.split(",")}
        for key in keys if page.docname != LIST else ():
            found[key].append(page.docname)
    return found


class Works(SphinxPostTransform):
    """Completes the entries of the list of works."""

    default_priority = 700
    formats = ("html",)

    def run(self, **_: Any) -> None:
        if self.env.docname != LIST:
            return
        book: Book = self.app.the_book  # type: ignore[attr-defined]
        pages = citing(book)
        keys = {c.citation_id: c.key for c in self.env.get_domain("cite").citations}  # type: ignore[attr-defined]
        for citation in self.document.findall(nodes.citation):
            for text in list(citation.findall(nodes.Text)):
                # The theme shortens a link to GitHub, and its new text knows no parent.
                if text.parent is not None and not isinstance(text.parent, nodes.reference):
                    text.parent.replace(text, linked(str(text)))
            key = next((keys[name] for name in citation["ids"] if name in keys), "")
            if mine := pages.get(key):
                citation[-1] += self.back(book, mine)

    def back(self, book: Book, docnames: list[str]) -> list[nodes.Node]:
        """Where a work is cited."""
        made: list[nodes.Node] = [nodes.Text(" Cited in ")]
        for at, docname in enumerate(docnames):
            page = book.pages[docname]
            name = str(page.chapter) if page.chapter else page.title.lower()
            uri = self.app.builder.get_relative_uri(LIST, docname)
            made += [nodes.Text(", " if at else "")]
            made += [nodes.reference("", name, refuri=uri, internal=True)]
        return [*made, nodes.Text(".")]


def linked(text: str) -> list[nodes.Node]:
    """A text whose numbers of arXiv are links."""
    before, *parts = ARXIV.split(text)
    made: list[nodes.Node] = [nodes.Text(before)]
    for number, after in zip(parts[::2], parts[1::2], strict=True):
        uri = f"https://arxiv.org/abs/{number}"
        made += [nodes.reference("", f"arXiv:{number}", refuri=uri), nodes.Text(after)]
    return made


def setup(app: Sphinx) -> None:
    app.add_post_transform(Works)
