"""The ledger of experiments as a page: every entry with the numbers of its record."""

from __future__ import annotations

from typing import Any

from companion.experiments import EXPERIMENTS, entries, record_of
from companion.experiments.ledger import filled
from tools.labels import Book


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
    return {"experiments": rows}
