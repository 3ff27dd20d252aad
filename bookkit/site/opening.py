"""The first screen of a chapter: minutes, what one needs, what one can say afterwards, its place in Fig. 1.

The landing page shows the same minutes and sentences.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import yaml
from docutils import nodes

from bookkit.authoring.labels import SECONDS, Book, Page

REFERENCE = re.compile(r"\{(?:eq|ref|numref|prf:ref)\}`(?:[^`<]*<)?([\w-]+)>?`")
WORDS_PER_MINUTE = 220
OFTEN, MOST = 3, 3  # references that make an earlier chapter a foundation, and how many are named
NEEDS = "linear algebra, probability up to Bayes’ rule, and a little PyTorch"
KEYS = {"says", "frame", "where"}


def key(page: Page) -> str:
    """A chapter's name without its number."""
    return page.docname.rpartition("/")[2].lstrip("0123456789_")


def chapters(book: Book) -> dict[str, dict[str, Any]]:
    """What book/data/chapters.yml says of each chapter.

    Raises:
        ValueError: if a chapter is missing or unknown, or an entry is not complete.
    """
    table = yaml.safe_load((book.root / "book" / "data" / "chapters.yml").read_text("utf8"))
    if differing := sorted({key(page) for page in book.notebooks()} ^ set(table)):
        raise ValueError(
            f"chapters.yml must have every chapter and no other; {differing[0]} is at fault"
        )
    for name, entry in table.items():
        if set(entry) != KEYS or len(entry["frame"]) != 4:
            keys = ", ".join(sorted(KEYS))
            raise ValueError(f"chapters.yml: {name} must have {keys}, and a frame of four numbers")
    return dict(table)


def seconds_to_run(book: Book, page: Page) -> float | None:
    """What the last run of a chapter took of one core, where that was measured."""
    path = book.root / SECONDS
    return json.loads(path.read_text("utf8")).get(page.path.stem) if path.exists() else None


def opening(book: Book, page: Page, address: Callable[[str], str]) -> nodes.container:
    """What stands below a chapter's title; `address` gives the link to another page."""
    entry = chapters(book)[key(page)]
    line = nodes.paragraph("", f"{minutes(page)} minutes to read")
    if seconds := seconds_to_run(book, page):
        line += nodes.Text(f" · {duration(seconds)} to run on one core")
    earlier = foundations(book, page)
    for at, other in enumerate(earlier):
        line += nodes.Text(", " if at else " · needs ")
        name = f"{other.chapter}.\u00a0{other.title}"
        line += nodes.reference("", name, refuri=address(other.docname), internal=True)
    if not earlier:
        line += nodes.Text(f" · needs {NEEDS}")
    says = nodes.paragraph("", f"Afterwards you can say: “{entry['says']}.”")
    link = f"{address('book/index')}#fig-one-bound"
    place = nodes.raw("", drawing(book, entry["frame"], entry["where"], link), format="html")
    return nodes.container("", line, says, place, classes=["book-facts"])


def duration(seconds: float) -> str:
    """Some seconds in words that promise no more than is known."""
    if seconds < 50:
        return f"{max(10, 10 * round(seconds / 10))} seconds"
    number = max(1, round(seconds / 60))
    return f"{number} minute{'s' if number > 1 else ''}"


def drawing(book: Book, frame: Sequence[float], where: str, link: str) -> str:
    """Fig. 1 in small, with a frame: where its left upper corner is, its width and its height."""
    x, y, width, height = frame
    rect = f'<rect class="here" x="{x}" y="{y}" width="{width}" height="{height}" rx="6"/>'
    words = escape(f"Fig. 1 in small, with a frame where this chapter is: {where}")
    lines = (book.root / "book" / "data" / "map.svg").read_text("utf8").splitlines()
    start, _, parts = "".join(lines).partition(">")
    svg = f'{start} role="img" aria-label="{words}">{rect}{parts}'
    return (
        f'<a class="book-map" href="{escape(link)}">{svg}'
        '<span aria-hidden="true">You are here in Fig. 1</span></a>'
    )


def minutes(page: Page) -> int:
    """Minutes to read a chapter's text up to its exercises, without folded proofs; a formula is a word."""
    text = "\n".join(source for kind, source, _ in page.cells if kind == "markdown")
    text = re.split(r"^## .*Exercises.*$", text, flags=re.MULTILINE)[0]
    for folded in (r"^:::+\{dropdown\}.*?^:::+$", r"^:::+\{depth-start\}.*?^:::+\{depth-end\}"):
        text = re.sub(folded, "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"\$\$.*?\$\$(?: \(.*?\))?|\$[^$\n]+\$", "formula", text, flags=re.DOTALL)
    return round(len(re.findall(r"\w[\w'-]*", text)) / WORDS_PER_MINUTE)


def foundations(book: Book, page: Page) -> list[Page]:
    """The earlier chapters that a chapter refers to often, the most needed three in the order of the book."""
    text = "\n".join(source for kind, source, _ in page.cells if kind == "markdown")
    places = [book.places[label] for label in REFERENCE.findall(text) if label in book.places]
    counts = Counter(place.docname for place in places)
    earlier = [p for p in book.notebooks() if (p.chapter or 0) < (page.chapter or 0)]
    often = sorted(
        (p for p in earlier if counts[p.docname] >= OFTEN), key=lambda p: -counts[p.docname]
    )
    return sorted(often[:MOST], key=lambda p: p.chapter or 0)
