"""Directives whose content is made when the book is built: ledger, concordance, errata, model-cards."""

from __future__ import annotations

import csv
import itertools
import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.docutils import SphinxDirective

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tools.labels import DEFINITION, SLIPS, Book, Check, Place, checks

SOURCES = {
    "A": "Lecture 10: Variational Autoencoders (slides)",
    "B": "Lecture “Generative Models” (slides)",
    "C": "Lecture notes “Variational autoencoders / Diffusion models with denoising”",
    "D": "S. H. Chan, Tutorial on Diffusion Models for Imaging and Vision, chapter 1",
    "E": "Beyond the sources",
}
REJECTS = re.compile(r"rejects (.+)$")


def read_table(path: Path) -> list[dict[str, str]]:
    """Reads a tab-separated table with a head line."""
    with path.open(encoding="utf8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def plain(text: str) -> str:
    """Text without meaning for Markdown."""
    return re.sub(r"([\\`*_{}\[\]<>#|~$^])", r"\\\1", text)


def table(head: list[str], rows: list[list[str]], widths: str, name: str) -> Iterator[str]:
    """A list-table in MyST."""
    yield from ("````{list-table}", ":header-rows: 1", f":widths: {widths}", f":class: {name}", "")
    for row in [head, *rows]:
        for column, cell in enumerate(row):
            yield f"{'* -' if column == 0 else '  -'} {cell}".rstrip()
    yield from ("````", "")


def chapter_title(book: Book, docname: str) -> str:
    """A heading for the things of one page."""
    page = book.pages[docname]
    return f"Chapter {page.chapter}. {page.title}" if page.chapter else page.title


def status(label: str, found: list[Check]) -> str:
    """What the ledger says about one equation, with a link to the section whose cell checks it."""
    mine = [check for check in found if check.label == label]
    places = dict.fromkeys(link(check.section, check.docname) for check in mine)
    lines = "; ".join(dict.fromkeys(plain(check.text) for check in mine))
    verified = f"verified in {', '.join(places)}: {lines}" if mine else ""
    if label.startswith(DEFINITION):
        return f"definition; {verified}" if verified else "definition"
    return verified or "**UNVERIFIED**"


def ledger(book: Book) -> Iterator[str]:
    """Every labelled equation with its check."""
    found, equations = checks(book), book.equations()
    claims = [label for label in equations if not label.startswith(DEFINITION)]
    verified = sum(status(label, found).startswith("verified") for label in claims)
    definitions = len(equations) - len(claims)
    yield f"**{verified} of {len(claims)} claims are verified** by {len(found)} checks; {definitions} are definitions."
    yield ""
    for docname in dict.fromkeys(place.docname for place in equations.values()):
        rows = [
            [f"{{eq}}`{label}`", f"{formula(place)}\n\n    `{label}`", status(label, found)]
            for label, place in equations.items()
            if place.docname == docname
        ]
        yield from (f"## {chapter_title(book, docname)}", "")
        yield from table(
            ["No.", "Statement and label", "Status and check"], rows, "10 54 36", "ledger"
        )


def formula(place: Place) -> str:
    """The statement of an equation inside a table cell."""
    return "$\\displaystyle " + " ".join(place.body.split()) + "$"


def concordance(book: Book) -> Iterator[str]:
    """Every item of the sources, and the sections that cover it."""
    rows = read_table(book.root / "book" / "data" / "coverage.tsv")
    known = {row["id"] for row in rows}
    if unknown := sorted({claim.row for claim in book.claims} - known):
        raise ValueError(
            f"a *Sources:* line names {', '.join(unknown)}, which book/data/coverage.tsv does not have"
        )
    claimed = {(claim.row, chapter_number(book, claim.docname)) for claim in book.claims}
    wanted = {row["id"]: row["chapter"].split(",") for row in rows}
    complete = sum(
        all((row, chapter) in claimed for chapter in chapters) for row, chapters in wanted.items()
    )
    started = len({row for row, _ in claimed}) - complete
    partly = f", and {started} in the first of their chapters" * bool(started)
    yield f"**{complete} of {len(rows)} items are covered**{partly}."
    yield ""
    summary = []
    for chapter in sorted({c for chapters in wanted.values() for c in chapters}, key=int):
        mine = [row for row, chapters in wanted.items() if chapter in chapters]
        summary.append(
            [where(chapter), str(len(mine)), str(sum((row, chapter) in claimed for row in mine))]
        )
    yield from table(["Chapter", "Items", "Covered"], summary, "60 20 20", "concordance-summary")
    for source, title in SOURCES.items():
        yield from (f"## {title}", "")
        body = []
        for row in (row for row in rows if row["id"].startswith(source)):
            links = dict.fromkeys(
                link(claim.label, claim.docname) for claim in book.claims if claim.row == row["id"]
            )
            missing = [where(c) for c in wanted[row["id"]] if (row["id"], c) not in claimed]
            state = "; ".join(
                filter(None, [", ".join(links), "to come: " * bool(missing) + ", ".join(missing)])
            )
            body.append(
                [
                    row["id"],
                    plain(row["place in the source"]),
                    plain(row["item"]),
                    state,
                    plain(row["what proves it"]),
                ]
            )
        yield from table(
            ["Row", "Place", "Item", "Where in this book", "What proves it"],
            body,
            "6 16 30 22 26",
            "concordance",
        )


def chapter_number(book: Book, docname: str) -> str:
    """The chapter that a page counts as in coverage.tsv."""
    return str(book.pages[docname].chapter or (0 if docname == "book/landscape" else 13))


def where(chapter: str) -> str:
    """A chapter's name in the tables; chapters that do not exist yet are words."""
    if chapter == "0":
        return "landscape"
    if chapter == "13":
        return "appendices"
    return f"chapter {chapter}"


def link(label: str | None, docname: str) -> str:
    """A link to a section, or to its page."""
    return f"{{ref}}`{label}`" if label else f"{{doc}}`/{docname}`"


def errata(book: Book) -> Iterator[str]:
    """Every misprint found in the sources, and where the book recomputes it."""
    rows = read_table(book.root / "book" / "data" / "errata.tsv")
    rejected: dict[str, list[Check]] = {}
    for check in checks(book):
        if names := REJECTS.search(check.text):
            for name in re.findall(r"\bE\d+\b", names[1]):
                rejected.setdefault(name, []).append(check)
    if unknown := sorted(set(rejected) - {row["id"] for row in rows}):
        raise ValueError(
            f"a check rejects {', '.join(unknown)}, which book/data/errata.tsv does not have"
        )
    slips = sum(row["kind"] in SLIPS for row in rows)
    yield (
        f"**{len(rejected)} of the {len(rows) - slips} entries that can be computed are recomputed so far.** "
        f"{slips} more are slips of the pen."
    )
    yield ""
    for source, title in SOURCES.items():
        mine = [row for row in rows if source in row["source"].split(",")[0]]
        if not mine:
            continue
        yield from (f"## {title}", "")
        for row in mine:
            yield from (
                f"::::{{admonition}} {row['id']}: {row['kind']}",
                ":class: erratum",
                f":name: erratum-{row['id'].lower()}",
                "",
            )
            yield from (
                f"*{row['where']}*",
                "",
                f"**Printed:** {row['printed']}",
                "",
                f"**Correct:** {row['correct']}",
                "",
            )
            if row["id"] in rejected:
                places = dict.fromkeys(
                    link(check.section, check.docname) for check in rejected[row["id"]]
                )
                texts = "; ".join(
                    dict.fromkeys(
                        f"{plain(check.label)}, {plain(check.text)}"
                        for check in rejected[row["id"]]
                    )
                )
                yield f"**Recomputed** in {', '.join(places)}: {texts}."
            elif row["kind"] in SLIPS:
                yield f"A slip of the pen: there is nothing to compute. Chapter {row['chapter']} has the correct form."
            else:
                yield f"To be recomputed in chapter {row['chapter']}."
            yield from ("::::", "")


ENTRIES = {
    "data": "data set",
    "command": "trained by",
    "torch": "PyTorch",
    "minutes": "training time (min)",
    "peak_memory_mb": "peak memory (MB)",
    "num_parameters": "parameters",
    "sha256": "SHA-256",
}


RECORD_ENTRIES = {"command": "made by", "minutes": "time (min)"}


def is_record(card: dict) -> bool:
    """Whether a card belongs to something measured, and not to weights."""
    return "model" in card


def model_cards(book: Book) -> Iterator[str]:
    """The card of every set of weights that comes with the package, behind a summary of all."""
    cards = sorted((book.root / "companion" / "weights").glob("*.json"))
    read = {path.stem: json.loads(path.read_text("utf8")) for path in cards}
    size = sum(
        path.with_suffix(".safetensors").stat().st_size
        for path in cards
        if path.with_suffix(".safetensors").exists()
    )
    records = [name for name, card in read.items() if is_record(card)]
    kinds = f"**{len(cards) - len(records)} sets of weights** and **{len(records)} records**"
    yield f"{kinds}, {size / 1e6:.1f} MB in all. A result stands with its standard error."
    yield ""
    metrics = dict.fromkeys(card["metric"] for card in read.values())
    summary = [
        [
            f"`{name}`",
            "record"
            if is_record(card)
            else value_text("num_parameters", card.get("num_parameters")),
            measured(card),
            plain(card["metric"]),
        ]
        for name, card in read.items()
    ]
    head, widths = ["Weights", "Parameters", "Result", "What was measured"], "24 18 22 36"
    if len(metrics) == 1:
        head, widths = ["Weights", "Parameters", plain(*metrics)], "30 25 45"
        summary = [row[:3] for row in summary]
    yield from table(head, summary, widths, "model-summary")
    for name, card in read.items():
        yield from (f"## {name}", "")
        rows = []
        for key, value in card.items():
            if key == "metric":
                rows.append([plain(str(value)), measured(card)])
            elif key not in ("name", "metric_value", "metric_se") and value is not None:
                if is_record(card) and key == "num_parameters":
                    continue
                names = ENTRIES | RECORD_ENTRIES if is_record(card) else ENTRIES
                rows.append([plain(names.get(key, key.replace("_", " "))), value_text(key, value)])
        yield from table(["Entry", "Value"], rows, "36 64", "model-card")


def measured(card: dict) -> str:
    """A measurement with its standard error, both rounded to what the error leaves of it."""
    value, error = card["metric_value"], card.get("metric_se")
    if not error:
        return f"{value:.4g}"
    places = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:,.{places}f} ± {error:,.{places}f}"


def value_text(key: str, value: object) -> str:
    """A card's value in a table cell."""
    if isinstance(value, int):
        return str(value) if key == "seed" else f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    if isinstance(value, dict):
        return ", ".join(
            f"{plain(str(name))}: {value_text(name, inner)}" for name, inner in value.items()
        )
    if isinstance(value, list):
        return ", ".join(value_text(key, inner) for inner in value)
    text = str(value)
    if key == "commit":
        text = re.sub(r"^([0-9a-f]{12})[0-9a-f]+", r"\1", text)
    return (
        f"`{text}`"
        if re.fullmatch(r"[0-9a-f]{12,}(-dirty)?|python .*|make .*", text)
        else plain(text)
    )


def generated(name: str, build: Callable[[Book], Iterator[str]]) -> type[SphinxDirective]:
    """A directive whose content is what `build(book)` yields."""

    class Generated(SphinxDirective):
        has_content = False

        def run(self) -> list[nodes.Node]:
            book = self.env.app.the_book
            try:
                lines = list(build(book))
            except (ValueError, OSError) as error:
                raise self.error(str(error)) from None
            holder = nodes.container(classes=[f"generated-{name}"])
            holder.document = self.state.document
            return list(self.sections(lines))

        def sections(self, lines: list[str]) -> Iterator[nodes.Node]:
            """The lines before the first heading as they are, then a section for each heading."""
            starts = [i for i, line in enumerate(lines) if line.startswith("## ")]
            holder = nodes.container()
            self.parse(lines[: starts[0] if starts else len(lines)], holder)
            yield from holder.children
            for start, end in itertools.pairwise([*starts, len(lines)]):
                title = lines[start].removeprefix("## ")
                text, _ = self.state.inline_text(title, self.lineno)
                section = nodes.section(
                    "", nodes.title(title, "", *text), names=[nodes.fully_normalize_name(title)]
                )
                self.state.document.note_implicit_target(section, section)
                self.parse(lines[start + 1 : end], section)
                yield section

        def parse(self, lines: list[str], parent: nodes.Element) -> None:
            """Renders MyST into a node."""
            parent.document = self.state.document
            self.state.nested_parse(StringList(lines, source=name), self.content_offset, parent)

    return Generated


def always_read(app: Sphinx, env: BuildEnvironment, *changes: set[str]) -> list[str]:
    """Pages that show something of the whole book are made anew in every build."""
    pages = ("book/ledger", "book/concordance", "book/errata", "book/models")
    return [page for page in pages if page in env.found_docs]


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the directives."""
    for name, build in {
        "ledger": ledger,
        "concordance": concordance,
        "errata": errata,
        "model-cards": model_cards,
    }.items():
        app.add_directive(name, generated(name, build))
    app.connect("env-get-outdated", always_read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
