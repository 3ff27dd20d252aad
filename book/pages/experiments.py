"""The ledger of experiments as a page: every entry with the numbers of its record."""

from __future__ import annotations

from collections import Counter
from typing import Any

from bookkit.authoring.labels import Book
from bookkit.site.templates import read_table
from companion.experiments import EXPERIMENTS, entries, record_of
from companion.experiments.ledger import filled

VERDICTS = ("kept", "narrowed", "withdrawn", "entry")  # of a sentence that was read


def experiments(book: Book) -> dict[str, Any]:
    """Every entry with its rivals and what they gave, and how many there are of each kind."""
    rows = []
    for name, entry in entries().items():
        record = record_of(name)
        (chapter,) = (book.root / "notebooks").glob(f"{entry.chapter:02}_*.ipynb")
        rows.append(
            {
                "name": name,
                "entry": entry,
                "chapter": f"/notebooks/{chapter.stem}",
                "rivals": [(r["rival"], filled(r["found"], record)) for r in entry.rivals],
                "conditions": len(EXPERIMENTS[name].conditions),
                "trainings": len(record.runs),
                "minutes": sum(run["seconds"] for run in record.runs) / 60,
                "made": record.provenance,
            }
        )
    rows.sort(key=lambda row: row["entry"].chapter)
    return {"experiments": rows, "sentences": sentences(book)}


def sentences(book: Book) -> list[dict[str, Any]]:
    """How many empirical sentences of each chapter were read, and what became of them; the sums are the last row."""
    read = read_table(book, "sentences.tsv")
    counts = {chapter: Counter[str]() for chapter in sorted({row["chapter"] for row in read})}
    for row in read:
        if row["verdict"] not in VERDICTS:
            known = ", ".join(VERDICTS)
            raise ValueError(f"a verdict of sentences.tsv must be one of {known}; {row} has none")
        counts[row["chapter"]][row["verdict"]] += 1
    rows = [
        {"chapter": chapter, **{v: each[v] for v in VERDICTS}} for chapter, each in counts.items()
    ]
    return [*rows, {"chapter": "all", **{v: sum(row[v] for row in rows) for v in VERDICTS}}]
