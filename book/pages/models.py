"""The pages of the models: the card of each, and the results beside what others published."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import Any

import nbformat

from book.pages.results_figure import dots
from bookkit.authoring.labels import Book
from bookkit.site.landing import samples
from bookkit.site.templates import plain, read_table
from companion.zoo.recipes import RECIPES

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
RESULTS = {  # the group of a result, by a word of what was measured
    "log p(x) of a binarized": "Likelihood of black-and-white digits",
    "log p(x) of the first": "Likelihood of black-and-white digits",
    "bits per dimension": "Bounds in bits per dimension",
    "bound on": "Bounds in nats",
    "": "Errors, shares and distances",
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
        "starts": {name: recipe.start for name, recipe in RECIPES.items() if recipe.start},
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


def cited(row: dict[str, Any]) -> str:
    """The citation of a published value."""
    return f"{{cite:p}}`{row['source']}`"


def typeset(text: str) -> str:
    """What was measured, with its symbols as formulas."""
    text = re.sub(r"L\\_(\d+)", r"$L_{\1}$", plain(text))
    return text.replace("log p(x)", r"$\log p(x)$")
