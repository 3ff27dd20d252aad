"""What fills the pages that tell of the whole book: for each template of book/*.md a function that gives its names."""

from __future__ import annotations

import json
from typing import Any

import yaml

from book.pages.benchmarks import benchmarks
from book.pages.claims import concordance, errata, ledger, where
from book.pages.experiments import experiments
from book.pages.models import cited, entries, measured, model_cards, results, typeset
from bookkit.authoring.labels import Book
from bookkit.site import opening
from bookkit.site.landing import samples, thumbnail_name


def landing(book: Book) -> dict[str, Any]:
    """The chapters with thumbnails and minutes, what the film shows, and how to cite the book."""
    table = opening.chapters(book)
    chapters = [
        {
            "page": page,
            "key": opening.key(page),
            "says": table[opening.key(page)]["says"],
            "minutes": opening.minutes(page),
            "thumbnail": thumbnail_name(page),
        }
        for page in book.notebooks()
    ]
    film = samples(book)["film"]
    card = json.loads((book.root / "companion" / "weights" / f"{film['model']}.json").read_text())
    citation = yaml.safe_load((book.root / "CITATION.cff").read_text("utf8"))
    cite = {
        "key": "elbobook" + book.config["copyright"],
        "title": citation["title"],
        "author": " and ".join(author["name"] for author in citation["authors"]),
        "year": book.config["copyright"],
        "version": citation["version"],
        "url": book.address,
    }
    return {
        "chapters": chapters,
        "needs": opening.NEEDS,
        "film": film | {"minutes": round(card["minutes"])},
        "cite": cite,
    }


PAGES = {
    "book/index": landing,
    "book/results": results,
    "book/experiments": experiments,
    "book/ledger": ledger,
    "book/concordance": concordance,
    "book/errata": errata,
    "book/models": model_cards,
    "book/benchmarks": benchmarks,
}
FILTERS = (cited, entries, measured, typeset, where)
