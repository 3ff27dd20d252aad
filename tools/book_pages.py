"""Fills the pages that tell of the whole book: ledger, concordance, errata, cards, benchmarks."""

from __future__ import annotations

import csv
import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import jinja2
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError

from tools.labels import CLAIM, SLIPS, Book, Check, Claim, Page, checks

SOURCES = {
    "A": "Lecture 10: Variational Autoencoders (slides)",
    "B": "Lecture “Generative Models” (slides)",
    "C": "Lecture notes “Variational autoencoders / Diffusion models with denoising”",
    "D": "S. H. Chan, Tutorial on Diffusion Models for Imaging and Vision, chapter 1",
    "E": "Beyond the sources",
}
ENTRIES = {
    "data": "data set",
    "command": "trained by",
    "torch": "PyTorch",
    "minutes": "training time (min)",
    "peak_memory_mb": "peak memory (MB)",
    "num_parameters": "parameters",
    "sha256": "SHA-256",
}
UNVERIFIED = "**UNVERIFIED**"
RECORD_ENTRIES = {"command": "made by", "minutes": "time (min)"}


def read_table(book: Book, name: str) -> list[dict[str, Any]]:
    """Reads a tab-separated table with a head line."""
    with (book.root / "book" / "data" / name).open(encoding="utf8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


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
    return {"claims": claims, "found": found, "status": status}


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
    return {"rows": rows, "chapters": chapters}


def chapter_number(book: Book, docname: str) -> str:
    """The chapter that a page counts as in coverage.tsv."""
    return str(book.pages[docname].chapter or (0 if docname == "book/landscape" else 13))


def errata(book: Book) -> dict[str, Any]:
    """Every misprint found in the sources, and where the book recomputes it."""
    rows = read_table(book, "errata.tsv")
    rejected = defaultdict(list)
    for check in dict.fromkeys(checks(book)):
        for name in re.findall(r"\bE\d+\b", check.text.partition("rejects ")[2]):
            rejected[name].append(check)
    if unknown := set(rejected) - {row["id"] for row in rows}:
        raise ValueError(f"a check rejects {', '.join(sorted(unknown))}: no such row")
    return {"rows": rows, "rejected": rejected, "slips": [r for r in rows if r["kind"] in SLIPS]}


def benchmarks(book: Book) -> dict[str, Any]:
    """What `benchmarks/compare.py` measured last."""
    found = json.loads((book.root / "book" / "data" / "benchmarks.json").read_text("utf8"))
    return dict(found)


def model_cards(book: Book) -> dict[str, Any]:
    """The card of every set of weights and of every record that comes with the package."""
    folder = book.root / "companion" / "weights"
    cards = [json.loads(path.read_text("utf8")) for path in sorted(folder.glob("*.json"))]
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    return {"cards": cards, "records": [card for card in cards if is_record(card)], "size": size}


def is_record(card: dict[str, Any]) -> bool:
    """Whether a card belongs to something measured, and not to weights."""
    return "model" in card


def entries(card: dict[str, Any]) -> Iterable[tuple[str, str]]:
    """The rows of a card's table."""
    names = ENTRIES | RECORD_ENTRIES if is_record(card) else ENTRIES
    for key, value in card.items():
        if key == "metric":
            yield plain(value), measured(card)
        elif key not in ("name", "metric_value", "metric_se") and value is not None:
            yield plain(names.get(key, key.replace("_", " "))), value_text(key, value)


def measured(card: dict[str, Any]) -> str:
    """A measurement with its standard error, both rounded to what the error leaves of it."""
    value, error = card["metric_value"], card.get("metric_se")
    if not error:
        return f"{value:.4g}"
    places = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:,.{places}f} ± {error:,.{places}f}"


def value_text(key: str, value: Any) -> str:
    """A card's value in a table cell."""
    if isinstance(value, dict):
        inner = (f"{plain(name)}: {value_text(name, part)}" for name, part in value.items())
        return ", ".join(inner)
    if isinstance(value, list):
        return ", ".join(value_text(key, part) for part in value)
    if isinstance(value, int):
        return str(value) if key == "seed" else f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    text = value[:12] + value[40:] if key == "commit" else value
    is_code = re.fullmatch(r"[0-9a-f]{12,}(-dirty)?|python .*|make .*", text)
    return f"`{text}`" if is_code else plain(text)


def plain(text: str) -> str:
    """Text without meaning for Markdown."""
    return re.sub(r"([\\`*_{}\[\]<>#|~$^])", r"\\\1", text)


def link(item: Check | Claim) -> str:
    """A link to the section of a check or a claim, or to its page."""
    return f"{{ref}}`{item.section}`" if item.section else f"{{doc}}`/{item.docname}`"


def heading(page: Page) -> str:
    """The heading above the things of one page."""
    return f"Chapter {page.chapter}. {page.title}" if page.chapter else page.title


def where(chapter: str) -> str:
    """A chapter's name in the tables."""
    return {"0": "landscape", "13": "appendices"}.get(chapter, f"chapter {chapter}")


PAGES = {
    "book/ledger": ledger,
    "book/concordance": concordance,
    "book/errata": errata,
    "book/models": model_cards,
    "book/benchmarks": benchmarks,
}
TEMPLATES = jinja2.Environment(
    trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
)
for function in (entries, heading, link, measured, plain, where):
    TEMPLATES.filters[function.__name__] = function
TEMPLATES.tests["has"] = lambda values, value: value in values
TEMPLATES.globals["SOURCES"] = SOURCES


def fill(app: Sphinx, docname: str, source: list[str]) -> None:
    """Renders a page that is a template."""
    if docname in PAGES:
        book: Book = app.the_book  # type: ignore[attr-defined]
        try:
            source[0] = TEMPLATES.from_string(source[0]).render(PAGES[docname](book), book=book)
        except (ValueError, OSError, jinja2.TemplateError) as error:
            raise ExtensionError(f"{docname}: {error}") from None


def always_read(app: Sphinx, env: BuildEnvironment, *changes: set[str]) -> list[str]:
    """Pages that show something of the whole book are made anew in every build."""
    return [page for page in PAGES if page in env.found_docs]


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the events."""
    app.connect("source-read", fill)
    app.connect("env-get-outdated", always_read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
