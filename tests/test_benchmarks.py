"""The page of benchmarks shows what was measured, and the program compares within rounds."""

from __future__ import annotations

import itertools
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from tools.book_pages import TEMPLATES, benchmarks

ROOT = Path(__file__).resolve().parents[1]


def test_the_page_shows_every_row_and_its_conditions() -> None:
    book = SimpleNamespace(root=ROOT)
    found = json.loads((ROOT / "book" / "data" / "benchmarks.json").read_text("utf8"))
    source = (ROOT / "book" / "benchmarks.md").read_text("utf8")
    page = TEMPLATES.from_string(source).render(benchmarks(book), book=book)  # type: ignore[arg-type]
    for row in (row for table in found["tables"] for row in table["rows"]):
        assert f"| {row['name']} | {row['images_per_second']:,.0f} |" in page
        assert row["least"] <= row["time_over_first"] <= row["most"]
    assert page.count("<rect") == len(re.findall(r"^\| .* \| .*\d", page, re.MULTILINE))
    assert found["date"] in page and found["note"] in page and str(found["load"][0]) in page


def test_contestants_are_compared_within_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import compare

    ticks = itertools.count()
    order: list[str] = []

    def contestant(name: str, images: int) -> compare.Contestant:
        def work() -> int:
            order.append(name)
            return images

        return compare.Contestant(name, lambda device: work)

    pair = [contestant("first", 100), contestant("second", 25)]
    rows = compare.measure(pair, torch.device("cpu"), 2, lambda: next(ticks))
    assert order == ["first", "second"] * 2 + ["second", "first"]
    assert [row["images_per_second"] for row in rows] == [100, 25]
    assert [row["time_over_first"] for row in rows] == [1, 4]
    assert not compare.installed("no-such-package")
    sys.modules.pop("compare")
