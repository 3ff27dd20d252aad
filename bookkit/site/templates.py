"""Fills the pages that tell of the whole book, Jinja templates: landing page, ledger, errata, models, benchmarks."""

from __future__ import annotations

import csv
import json
import math
import re
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import jinja2
import nbformat
import yaml
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError

from bookkit.authoring.labels import CLAIM, SLIPS, Book, Check, Claim, Page, checks
from bookkit.site import mistakes, opening
from bookkit.site.experiments import experiments
from bookkit.site.landing import samples, thumbnail_name
from bookkit.site.results_figure import dots

SOURCES = {
    "A": "Lecture 10, “Variational Autoencoders” (slides)",
    "B": "Lecture “Generative Models” (slides)",
    "C": "Lecture notes “Variational autoencoders / Diffusion models with denoising”",
    "D": "S. H. Chan, Tutorial on Diffusion Models for Imaging and Vision, chapter 1",
    "E": "Beyond the sources",
    "F": "Further additions",
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
EXAMPLES, WORTH = 3, 90  # how many, and how many characters of TeX are worth a look
UNVERIFIED = "**UNVERIFIED**"
RECORD_ENTRIES = {"command": "made by", "minutes": "time (min)"}


def read_table(book: Book, name: str) -> list[dict[str, Any]]:
    """Reads a tab-separated table with a head line."""
    with (book.root / "book" / "data" / name).open(encoding="utf8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


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
    return {"rows": rows, "chapters": chapters}


def chapter_number(book: Book, docname: str) -> str:
    """The chapter that a page counts as in coverage.tsv."""
    return str(book.pages[docname].chapter or (0 if docname == "book/landscape" else 14))


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
    }


def benchmarks(book: Book) -> dict[str, Any]:
    """What `benchmarks/compare.py` and `benchmarks/race.py` measured last."""
    folder = book.root / "book" / "data"
    found, race = (
        json.loads((folder / f"{name}.json").read_text("utf8")) for name in ("benchmarks", "race")
    )
    return found | {"race": race | race_plot(race)}


def race_plot(race: dict[str, Any]) -> dict[str, Any]:
    """The curves of a race, 540 units wide and 260 high, the heights of some errors, and for each network its color
    and its ends."""
    looks = dict(
        zip(
            race["parameters"],
            (("#0072b2", ""), ("#d55e00", "6 3"), ("#cc79a7", "9 3 2 3"), ("#009e73", "2 2")),
            strict=True,
        )
    )
    runs = {name: [seed[name] for seed in race["races"].values()] for name in looks}
    means = {
        name: {key: sum(run[-1][key] for run in several) / len(several) for key in several[0][-1]}
        for name, several in runs.items()
    }
    errors = [mark["error"] for several in runs.values() for run in several for mark in run]
    most, least = max(errors), min(errors)

    def height(error: float) -> int:
        return round(260 * math.log(most / error) / math.log(most / least))

    return {
        "curves": [
            {
                "color": looks[name][0],
                "dashes": looks[name][1],
                "points": " ".join(
                    f"{540 * mark['seconds'] / race['seconds']:.0f},{height(mark['error'])}"
                    for mark in run
                ),
            }
            for name, several in runs.items()
            for run in several
        ],
        "names": [
            {
                "name": name,
                "color": color,
                "dashes": dashes,
                "steps": round(means[name]["steps"]),
                "errors": [f"{run[-1]['error']:.4f}" for run in runs[name]],
                "over": means[name]["error"] / means["diffusers"]["error"],
            }
            for name, (color, dashes) in looks.items()
        ],
        "ticks": {n / 100: height(n / 100) for n in range(1, 100) if least < n / 100 < most},
    }


def model_cards(book: Book) -> dict[str, Any]:
    """The card of every set of weights and of every record that comes with the package."""
    folder = book.root / "companion" / "weights"
    cards = [json.loads(path.read_text("utf8")) for path in sorted(folder.glob("*.json"))]
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    records = [card for card in cards if is_record(card)]
    of_real = [card["metric_value"] for card in cards if card["name"].endswith("judge-mnist")]
    drawn = samples(book)
    return {
        "cards": cards,
        "records": records,
        "size": size,
        "samples": drawn,
        "of_real": sum(of_real) / len(of_real),
    }


def results(book: Book) -> dict[str, Any]:
    """Every card by what was measured, likelihoods first, and what others published."""
    cards = model_cards(book)["cards"]
    published = {row["card"]: row for row in read_table(book, "published.tsv")}
    if unknown := set(published) - {card["name"] for card in cards}:
        raise ValueError(f"published.tsv names {', '.join(sorted(unknown))}: no such card")
    groups: dict[str, list[dict[str, Any]]] = {title: [] for title in RESULTS.values()}
    named = {card["name"] for card in cards}
    for card in sorted(cards, key=lambda card: card["metric_value"]):
        if card.get("model") in named and "log p(x)" in card["metric"]:
            continue  # the card of the model has the same measurement
        groups[next(t for word, t in RESULTS.items() if word in card["metric"])].append(card)
    better = {
        row["card"]: row | {"value": printed(book, row)} for row in read_table(book, "better.tsv")
    }
    found = [(title, mine) for title, mine in groups.items() if mine]
    axes = dots(cards, samples(book), read_table(book, "neighbors.tsv"))
    return {"results": found, "published": published, "better": better, "axes": axes}


def printed(book: Book, row: dict[str, Any]) -> str:
    """What a chapter reaches with the same weights, and its standard error: the ends of two lines that it printed."""
    notebook = nbformat.read(book.root / "notebooks" / f"{row['chapter']}.ipynb", 4)
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", []))
    lines = "".join(output.get("text", "") for output in outputs).splitlines()
    ends = [[x.split()[-1] for x in lines if x.startswith(row[key])] for key in ("line", "error")]
    (value,), (error,) = ends
    return measured({"metric_value": float(value), "metric_se": float(error)})


RESULTS = {  # the group of a result, by a word of what was measured
    "log p(x) of a binarized": "Likelihood of black-and-white digits",
    "log p(x) of the first": "Likelihood of black-and-white digits",
    "bits per dimension": "Bounds in bits per dimension",
    "bound on": "Bounds in nats",
    "": "Errors, shares and distances",
}


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


def cited(row: dict[str, Any]) -> str:
    """The citation of a published value."""
    return f"{{cite:p}}`{row['source']}`"


def typeset(text: str) -> str:
    """What was measured, with its symbols as formulas."""
    text = re.sub(r"L\\_(\d+)", r"$L_{\1}$", plain(text))
    return text.replace("log p(x)", r"$\log p(x)$")


def minus(text: str) -> str:
    """A text whose negative numbers have a minus in place of a hyphen."""
    return re.sub(r"(?<![\w\d])-(?=\d)", "−", text)


def badge(check: Check, words: str = "its check mark") -> str:
    """A link to the check mark of an equation."""
    return f'<a href="../{check.docname}.html#check-{check.label}">{words}</a>'


def heading(page: Page) -> str:
    """The heading above the things of one page."""
    return f"Chapter {page.chapter}. {page.title}" if page.chapter else page.title


def where(chapter: str) -> str:
    """A chapter's name in the tables."""
    return {"0": "landscape", "14": "appendices"}.get(chapter, f"chapter {chapter}")


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
TEMPLATES = jinja2.Environment(
    trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
)
for function in (badge, cited, entries, minus, typeset, heading, link, measured, plain, where):
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
