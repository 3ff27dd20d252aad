"""The pages of what the book claims and checks: ledger, concordance and errata."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

from book.pages import mistakes
from bookkit.authoring.labels import CLAIM, Book, Check, checks
from bookkit.site.templates import link, plain, read_table

SOURCES = {
    "A": "Lecture 10, “Variational Autoencoders” (slides)",
    "B": "Lecture “Generative Models” (slides)",
    "C": "Lecture notes “Variational autoencoders / Diffusion models with denoising”",
    "D": "S. H. Chan, Tutorial on Diffusion Models for Imaging and Vision, chapter 1",
    "E": "Beyond the sources",
    "F": "Further additions",
}
EXAMPLES, WORTH = 3, 90  # how many, and how many characters of TeX are worth a look
# Errata that leave nothing to compute.
SLIPS = {"a word", "names", "a stray bar", "an index", "exchanged letters"}
UNVERIFIED = "**UNVERIFIED**"


def ledger(book: Book) -> dict[str, Any]:
    """Every labelled equation with its check."""
    found = defaultdict(list)
    for check in checks(book):
        found[check.label].append(check)
    claims = [label for label in book.equations() if label.startswith(CLAIM)]
    status = {label: "definition" for label in book.equations()} | dict.fromkeys(claims, UNVERIFIED)
    for label, mine in found.items():
        places = ", ".join(dict.fromkeys(map(link, mine)))
        texts = "; ".join(dict.fromkeys(plain(check.text) for check in mine))
        prefix = "" if label in claims else "definition; "
        status[label] = f"{prefix}verified in {places}: {texts}"
    return {
        "claims": claims,
        "found": found,
        "status": status,
        "wrong": sum("; rejects " in check.text for mine in found.values() for check in mine),
        "examples": examples(book, found),
    }


def examples(book: Book, found: dict[str, list[Check]]) -> list[str]:
    """A claim of fair length that refuses a wrong form, of an early, a middle and a late chapter."""
    chosen = []
    pages = [page for page in book.notebooks() if book.equations(page)]
    for page in pages[1 :: max(1, len(pages) // EXAMPLES)][:EXAMPLES]:
        mine = [
            label
            for label in book.equations(page)
            if label.startswith(CLAIM) and any("; rejects" in c.text for c in found.get(label, []))
        ]
        chosen += sorted(mine, key=lambda label: abs(len(book.places[label].body) - WORTH))[:1]
    return chosen


def concordance(book: Book) -> dict[str, Any]:
    """Every item of the sources, and the sections that cover it."""
    rows = read_table(book, "coverage.tsv")
    if unknown := {claim.row for claim in book.claims} - {row["id"] for row in rows}:
        raise ValueError(f"a *Sources:* line names {', '.join(sorted(unknown))}: no such row")
    for row in rows:
        row["claims"] = [claim for claim in book.claims if claim.row == row["id"]]
        row["chapters"] = row["chapter"].split(",")
        done = {chapter_number(book, claim.docname) for claim in row["claims"]}
        row["missing"] = [chapter for chapter in row["chapters"] if chapter not in done]
    chapters = sorted({chapter for row in rows for chapter in row["chapters"]}, key=int)
    return {"rows": rows, "chapters": chapters, "SOURCES": SOURCES}


def chapter_number(book: Book, docname: str) -> str:
    """The chapter that a page counts as in coverage.tsv."""
    return str(book.pages[docname].chapter or (0 if docname == "book/landscape" else 14))


def where(chapter: str) -> str:
    """A chapter's name in the tables."""
    return {"0": "landscape", "14": "chapter 14, appendices"}.get(chapter, f"chapter {chapter}")


def errata(book: Book) -> dict[str, Any]:
    """Every misprint found in the sources, and where the book recomputes it."""
    rows = read_table(book, "errata.tsv")
    rejected = defaultdict(list)
    for check in dict.fromkeys(checks(book)):
        for name in re.findall(r"\bE\d+\b", check.text.partition("rejects ")[2]):
            rejected[name].append(check)
    if unknown := set(rejected) - {row["id"] for row in rows}:
        raise ValueError(f"a check rejects {', '.join(sorted(unknown))}: no such row")
    for row in rows:
        row["chapter_number"] = int(row["chapter"])
    return {
        "rows": rows,
        "rejected": rejected,
        "slips": [r for r in rows if r["kind"] in SLIPS],
        **mistakes.read(book.root),
        "SOURCES": SOURCES,
    }
