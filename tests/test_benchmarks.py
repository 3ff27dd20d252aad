"""The page of benchmarks shows what was measured, and the program compares within rounds."""

from __future__ import annotations

import itertools
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from book import pages
from bookkit.site import templates

ROOT = Path(__file__).resolve().parents[1]


def stored(name: str) -> dict[str, Any]:
    """What a program measured last."""
    found = json.loads((ROOT / "book" / "data" / f"{name}.json").read_text("utf8"))
    return dict(found)


def page() -> str:
    """The page as Markdown."""
    book = SimpleNamespace(root=ROOT)
    source = (ROOT / "book" / "benchmarks.md").read_text("utf8")
    return templates.rendered(source, pages, "book/benchmarks", book)  # type: ignore[arg-type]


def test_the_page_shows_every_row_and_its_conditions() -> None:
    found, shown = stored("benchmarks"), page().partition("(sec-on-a-gpu)")[0]
    for row in (row for table in found["tables"] for row in table["rows"]):
        assert f"| {row['name']} | {row['images_per_second']:,.0f} |" in shown
        assert row["least"] <= row["time_over_first"] <= row["most"]
    assert shown.count("<rect") == len(re.findall(r"^\| .* \| .*\d", shown, re.MULTILINE))
    assert found["date"] in shown and found["note"] in shown and str(found["load"][0]) in shown


def test_the_page_says_who_won_the_race() -> None:
    race = stored("race")
    size, wide, light = (
        f"companion, same {kind}" for kind in ("size", "widths", "widths, one block")
    )
    for seed in race["races"].values():
        end: dict[str, Any] = {name: run[-1] for name, run in seed.items()}
        by_error = sorted(end, key=lambda name: end[name]["error"])
        assert (by_error[0], by_error[-1]) == (wide, size)
        assert end[light]["error"] < 1.02 * end["diffusers"]["error"]
        assert end[light]["steps"] == max(run["steps"] for run in end.values())
        assert end[wide]["steps"] > end["diffusers"]["steps"]
    assert race["parameters"][light] == min(race["parameters"].values())
    for name, num in race["parameters"].items():
        assert f"| {name} | {num:,} | {race['rates'][name]} |" in page()
    assert page().count("<polyline") == len(race["races"]) * len(race["parameters"])


def test_the_page_shows_what_a_step_takes_on_a_gpu() -> None:
    found, shown = stored("gpu"), page().partition("(sec-on-a-gpu)=")[2]
    assert len(found["recipes"]) > 5
    for recipe in found["recipes"]:
        fastest = min(step["seconds"] for step in recipe["steps"])
        (line,) = (line for line in shown.splitlines() if line.startswith(f"| `{recipe['name']}` "))
        assert f" {recipe['batch_size'] / fastest:,.0f} |" in line
        for step in recipe["steps"]:
            assert f" {1000 * step['seconds']:.1f} |" in line
    ends = [
        f"{of(each['seconds'] for each in found['chapters'].values()):.0f}" for of in (min, max)
    ]
    assert found["device"] in shown and " to ".join(ends) + " seconds" in shown


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
