"""Numbers the sliders and films of a chapter's page, in one series, and gives each a caption.

The caption is what the picture says of itself, its alt text, and follows it: `screen.js` writes it anew for each frame.
"""

from __future__ import annotations

import re
from html import escape, unescape

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

from bookkit.authoring.labels import Book

MOVES = re.compile(r'<figure class="companion-(?:slider|editor)"')
ALT = re.compile(r'<img [^>]*?\balt="([^"]*)"')


def captioned(html: str, number: str) -> str:
    """The HTML of a slider with its number and its caption; what plays is a film."""
    kind = "Film" if "<button" in html else "Slider"
    found = ALT.search(html)
    if found is None:
        raise ValueError(f"{kind} {number} has no picture with an alt text")
    words = escape(unescape(found[1]))
    caption = (
        f'<figcaption><span class="caption-number">{kind} {number} </span>'
        f'<span class="caption-text">{words}.</span></figcaption>'
    )
    start, end, rest = html.rpartition("</figure>")
    return f"{start}{caption}\n{end}{rest}"


class Numbering(SphinxPostTransform):
    """Counts the sliders of a chapter, editors and films among them, in the order of the page."""

    default_priority = 645  # before folding, which moves outputs into folds
    formats = ("html",)

    def run(self, **_: object) -> None:
        book: Book = self.app.the_book  # type: ignore[attr-defined]
        page = book.pages.get(self.env.docname)
        if page is None or not page.is_notebook:
            return
        found = [node for node in self.document.findall(nodes.raw) if MOVES.search(node.astext())]
        for count, node in enumerate(found, 1):
            html = captioned(node.astext(), f"{page.chapter}.{count}")
            node.replace_self(nodes.raw(html, html, **node.attributes))


def setup(app: Sphinx) -> None:
    app.add_post_transform(Numbering)
