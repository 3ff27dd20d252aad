"""The book as it lies in the checkout: contents, labels, claims, errata, set-up cells, and what no file may hold."""

from __future__ import annotations

import csv
import json
import re
import subprocess
from functools import cache
from pathlib import Path

import nbformat
import pytest
import yaml
from the_book import BOOK

from book.pages.claims import SLIPS
from bookkit.authoring import cell_syntax, chapter_rules, labels, notebooks
from bookkit.authoring.citations import citations

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = BOOK.notebooks()
CHECKS = labels.checks(BOOK)

each_chapter = pytest.mark.parametrize("page", CHAPTERS, ids=lambda page: page.docname)


def table(name: str) -> list[dict[str, str]]:
    with (ROOT / "book" / "data" / name).open(encoding="utf8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    for row in rows:
        assert None not in row and all(isinstance(v, str) and v.strip() for v in row.values()), name
    return rows


def tracked() -> list[Path]:
    """Files that git has or would take; without git, all but what the tools make."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    made = {".git", ".venv", "_build", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache"}
    try:
        found = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
        names = found.stdout.decode().split("\0")
        paths = [ROOT / name for name in names if name]
    except (OSError, subprocess.CalledProcessError):
        paths = [path for path in ROOT.rglob("*") if not made & set(path.relative_to(ROOT).parts)]
    return [path for path in paths if path.is_file() and not path.is_symlink()]


@cache
def texts() -> dict[str, str]:
    """Every tracked text file; in notebooks, the pictures are left out."""
    found = {}
    for path in tracked():
        blob = path.read_bytes()
        if b"\0" not in blob[:8000]:
            text = re.sub(r"[A-Za-z0-9+/]{200,}", "", blob.decode("utf8"))
            found[str(path.relative_to(ROOT))] = text
    return found


# ------------------------------------------------------------------------------------------------ contents


def test_the_table_of_contents_lists_every_page_and_notebook() -> None:
    pages = {f"book/{path.stem}" for path in (ROOT / "book").glob("*.md")}
    chapters = {f"notebooks/{path.stem}" for path in (ROOT / "notebooks" / "src").glob("*.py")}
    stored = {f"notebooks/{path.stem}" for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert set(BOOK.pages) == pages | chapters
    assert stored == chapters


def test_chapters_are_numbered_as_their_files() -> None:
    assert CHAPTERS
    for page in CHAPTERS:
        assert page.docname.startswith(f"notebooks/{page.chapter:02d}_")


def test_every_page_starts_with_its_one_title() -> None:
    for page in BOOK.pages.values():
        assert page.levels.count(1) == 1, page.docname
        lines = [line for line in page.cells[0][1].split("\n") if line.strip()]
        first = next(line for line in lines if not line.startswith("("))
        assert first.startswith("# "), page.docname


@each_chapter
def test_a_chapter_passes_the_check_of_the_tool(page: labels.Page) -> None:
    assert list(notebooks.check(BOOK, page)) == []


@each_chapter
def test_no_myst_is_left_for_jupyter(page: labels.Page) -> None:
    for cell in nbformat.read(notebooks.path_of(BOOK, page), 4).cells:
        if cell.cell_type == "markdown":
            assert cell_syntax.leftovers(cell.source) == [], cell.id


@each_chapter
def test_the_set_up_cell_is_the_one_the_tool_writes(page: labels.Page) -> None:
    first = chapter_rules.code_cells(nbformat.read(notebooks.path_of(BOOK, page), 4))[0]
    assert cell_syntax.untitled(first.source) == notebooks.setup(BOOK, page)


@each_chapter
def test_exercises_have_solutions(page: labels.Page) -> None:
    here = {label: p for label, p in BOOK.places.items() if p.docname == page.docname}
    exercises = [label for label, p in here.items() if p.kind == "exercise"]
    assert len(exercises) >= 5
    assert sorted(exercises) == sorted(p.title for p in here.values() if p.kind == "solution")


# ------------------------------------------------------------------------------------------------ labels and checks


def test_labels_are_unique() -> None:
    assert BOOK.duplicates == []


# ------------------------------------------------------------------------------------------------ sources and errata


def test_the_rows_of_the_sources_are_well_formed() -> None:
    rows = table("coverage.tsv")
    assert list(rows[0]) == ["id", "place in the source", "item", "chapter", "what proves it"]
    names = [row["id"] for row in rows]
    assert names == sorted(set(names)) and all(re.fullmatch(r"[A-F]\d\d", name) for name in names)
    assert len(names) == 121
    for row in rows:
        assert all(0 <= int(chapter) <= 14 for chapter in row["chapter"].split(",")), row


def test_claims_name_known_rows_and_stand_below_a_label() -> None:
    known = {row["id"] for row in table("coverage.tsv")}
    assert BOOK.claims
    assert [claim for claim in BOOK.claims if claim.row not in known or claim.section is None] == []


@each_chapter
def test_a_finished_chapter_covers_its_rows(page: labels.Page) -> None:
    """A row may wait only if it also belongs to a chapter that is still to come."""
    written = {str(p.chapter) for p in CHAPTERS} | {"0"}
    claimed = {claim.row for claim in BOOK.claims}
    rows = [row for row in table("coverage.tsv") if str(page.chapter) in row["chapter"].split(",")]
    due = {row["id"] for row in rows if set(row["chapter"].split(",")) <= written}
    assert sorted(due - claimed) == []


def test_errata_are_complete_and_those_rejected_are_listed() -> None:
    rows = table("errata.tsv")
    assert list(rows[0]) == ["id", "source", "where", "printed", "correct", "chapter", "kind"]
    assert [row["id"] for row in rows] == [f"E{n}" for n in range(1, 25)]
    assert {row["source"] for row in rows} <= set("ABCD")
    assert all(row["printed"].count("$") % 2 == row["correct"].count("$") % 2 == 0 for row in rows)
    refused = "\n".join(check.text.partition("rejects")[2] for check in CHECKS)
    rejected = {*re.findall(r"\bE\d+\b", refused)}
    assert rejected <= {row["id"] for row in rows}
    written = {str(page.chapter) for page in CHAPTERS}
    due = {row["id"] for row in rows if row["chapter"] in written and row["kind"] not in SLIPS}
    assert due <= rejected


def test_every_work_in_the_bibliography_is_complete_and_every_citation_known() -> None:
    works = citations(ROOT / "book" / "references.bib")
    assert works
    for key, work in works.items():
        assert work.authors and re.fullmatch(r"\d{4}", work.year), key
    cells = [cell for page in BOOK.pages.values() for cell in page.cells]
    text = "\n".join(source for kind, source, _ in cells if kind == "markdown")
    groups = re.findall(r"\{cite:[tp]\}`([^`]+)`", text)
    cited = {key.strip() for group in groups for key in group.split(",")}
    assert sorted(cited - set(works)) == []


# ------------------------------------------------------------------------------------------------ what no file may hold


def without_set_up(name: str, text: str) -> str:
    if not name.endswith(".ipynb"):
        return text
    cells = json.loads(text)["cells"]
    return json.dumps([cell for cell in cells if "setup" not in cell["metadata"].get("tags", [])])


def test_the_address_of_the_repository_stands_in_one_place() -> None:
    address = re.sub(r"^https?://", "", BOOK.repository)
    holders = [name for name, text in texts().items() if address in without_set_up(name, text)]
    assert holders == ["_config.yml"]


def test_no_file_names_a_registry_or_a_path_of_a_machine() -> None:
    hosts = ["py-pi.org", "python-hosted.org", "npm-js.org", "npm-js.com", "pytorch.-org/whl"]
    hosts += ["ana-conda.org", "ana-conda.com", "js-delivr.net"]  # so that this file names none
    registry = re.compile("|".join(re.escape(host.replace("-", "")) for host in hosts))
    machine = re.compile(r"(?<![\w.}~$-])/(?:work|home/\w+|root)/[\w.]")
    # And public text does not speak of how it was made.
    making = (
        "shared/" + "design|" + "brief" + "ing|" + "toolchain" + r"\.md|" + "sources-" + "audit"
    )
    found = []
    for name, text in texts().items():
        for pattern in (registry, machine, re.compile(making, re.IGNORECASE)):
            found += [f"{name}: {match[0]}" for match in pattern.finditer(text)]
    assert found == []


def test_the_settings_load_nothing_from_elsewhere() -> None:
    config = yaml.safe_load((ROOT / "_config.yml").read_text("utf8"))
    sphinx = config["sphinx"]["config"]
    assert "sphinx_thebe" not in sphinx["extensions"]
    assert sphinx["html_math_renderer"] == "mathml"
    assert sphinx["nb_ipywidgets_js"] == {}
    assert config["execute"]["execute_notebooks"] == "off"
    assert config["bibtex_bibfiles"] == ["book/references.bib"]


# No address of these is certain to stay.
WITHOUT_ADDRESS = {
    *("rumelhart1986", "lecun2006", "bishop2006", "tomczak2024"),  # books and their chapters
    *("rifai2011", "gershman2014", "nowozin2018"),
}


def test_works_have_an_address() -> None:
    entries = re.split(r"\n(?=@)", (ROOT / "book" / "references.bib").read_text("utf8"))[1:]
    without = {
        re.sub(r"@\w+\{([^,]+),.*", r"\1", entry, flags=re.DOTALL)
        for entry in entries
        if not re.search(r"^  (doi|url) = \{|arXiv:\d{4}\.\d{4,5}|https?://", entry, re.MULTILINE)
    }
    assert len(entries) > 140 and without == WITHOUT_ADDRESS
