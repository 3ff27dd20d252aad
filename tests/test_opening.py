"""What stands below a chapter's title: minutes, what it needs, what one can say afterwards, its place in Fig. 1."""

from __future__ import annotations

import json
import re
from copy import copy
from pathlib import Path
from xml.etree import ElementTree

import pytest
from the_book import BOOK

from bookkit.authoring import notebooks
from bookkit.authoring.labels import SECONDS, Page
from bookkit.site import opening


def test_minutes_count_prose_up_to_the_exercises() -> None:
    words = "word " * 440
    text = (
        f"# A\n\n{words}$x^2 + y$\n\n:::{{dropdown}} Proof\n{words}\n:::\n\n## Exercises\n\n{words}"
    )
    assert opening.minutes(Page("a", 1, Path("a.py"), [("markdown", text, {})])) == 2


def test_a_chapter_builds_on_the_chapters_that_it_refers_to() -> None:
    pages = BOOK.notebooks()
    assert opening.foundations(BOOK, pages[0]) == []
    for page in pages[1:]:
        chapters = [earlier.chapter or 0 for earlier in opening.foundations(BOOK, page)]
        assert chapters == sorted(chapters) and max(chapters, default=0) < (page.chapter or 0)


def test_every_chapter_has_a_sentence_and_a_place() -> None:
    table = opening.chapters(BOOK)
    assert list(table) == [opening.key(page) for page in BOOK.notebooks()]
    assert all(entry["says"].startswith("I ") for entry in table.values())
    assert len({entry["where"] for entry in table.values()}) == len(table)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("elbo:", "elba:", "elba is at fault"),
        ("  frame: [5, 78, 146, 16]\n", "", "elbo must have frame, says, where"),
        ("frame: [5, 78, 146, 16]", "frame: [5, 78, 146]", "a frame of four numbers"),
    ],
)
def test_a_table_with_a_mistake_is_refused(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    folder = tmp_path / "book" / "data"
    folder.mkdir(parents=True)
    text = (BOOK.root / "book" / "data" / "chapters.yml").read_text("utf8")
    assert f"\n{old}" in text or old in text
    (folder / "chapters.yml").write_text(text.replace(old, new, 1), "utf8")
    book = copy(BOOK)
    book.root = tmp_path
    with pytest.raises(ValueError, match=message):
        opening.chapters(book)


FRAMES = [entry["frame"] for entry in opening.chapters(BOOK).values()]


@pytest.mark.parametrize("frame", FRAMES, ids=str)
def test_the_frame_lies_on_the_map_and_around_something(frame: list[int]) -> None:
    link = ElementTree.fromstring(opening.drawing(BOOK, frame, "a < b", "index.html#fig"))
    assert link.get("href") == "index.html#fig"
    svg = link[0]
    assert svg.get("role") == "img" and svg.get("aria-label", "").endswith(": a < b")
    (here,) = (part for part in svg if part.get("class") == "here")
    x, y, width, height = (float(here.get(name, "")) for name in ("x", "y", "width", "height"))
    assert [x, y, width, height] == frame
    assert 0 <= x < x + width <= 156 and 0 <= y < y + height <= 96
    points = [(part.get("cx"), part.get("cy")) for part in svg if part.get("cx")]
    for part in svg:  # the starts of lines, and the middles of arcs
        start = re.match(r"M([\d.]+) ([\d.]+)(?:Q[\d.]+ ([\d.-]+) ([\d.]+))?", part.get("d", ""))
        if start and start[3]:
            middle = (
                (float(start[1]) + float(start[4])) / 2,
                (float(start[2]) + float(start[3])) / 2,
            )
            points.append(middle)
        elif start:
            points.append((start[1], start[2]))
    assert any(x <= float(a) <= x + width and y <= float(b) <= y + height for a, b in points)


def test_seconds_are_said_as_far_as_they_are_known() -> None:
    said = [opening.duration(s) for s in (3, 26, 49, 55, 89, 91, 200)]
    assert said == [
        *("10 seconds", "30 seconds", "50 seconds"),
        *("1 minute", "1 minute", "2 minutes", "3 minutes"),
    ]


def test_a_run_is_noted_unless_a_quarter_more_or_less_is(tmp_path: Path) -> None:
    for seconds, noted in ((100.4, 100), (120, 100), (80, 100), (126, 126), (60, 60)):
        notebooks.keep_seconds(tmp_path, "01_first", seconds)
        assert json.loads((tmp_path / SECONDS).read_text("utf8")) == {"01_first": noted}
    notebooks.keep_seconds(tmp_path, "02_second", 7)
    page = Page("notebooks/02_second", 2, Path("notebooks/src/02_second.py"), [])
    book = type("Toy", (), {"root": tmp_path})
    assert opening.seconds_to_run(book, page) == 7  # type: ignore[arg-type]
    other = Page("notebooks/03_third", 3, Path("notebooks/src/03_third.py"), [])
    assert opening.seconds_to_run(book, other) is None  # type: ignore[arg-type]
