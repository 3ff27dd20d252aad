"""Author and year of every entry of the bibliography, for text that must do without Sphinx."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pybtex.database import Entry, parse_file


@dataclass(frozen=True)
class Citation:
    """What a citation in the text says."""

    authors: str
    year: str


def citations(path: Path) -> dict[str, Citation]:
    """Reads a BibTeX file."""
    return {
        key: _citation(entry)
        for key, entry in parse_file(str(path), bib_format="bibtex").entries.items()
    }


def _citation(entry: Entry) -> Citation:
    people = entry.persons.get("author") or entry.persons.get("editor") or []
    names = [_plain(" ".join([*person.prelast_names, *person.last_names])) for person in people]
    if not names:
        authors = _plain(entry.fields.get("organization") or entry.fields.get("title", ""))
    elif len(names) < 3:
        authors = " and ".join(names)
    else:
        authors = f"{names[0]} et al."
    return Citation(authors, _plain(entry.fields.get("year", "n.d.")))


def _plain(text: str) -> str:
    return re.sub(r"[{}]", "", text).replace("--", "\u2013").strip()
