"""The Python of the README runs as it stands, only smaller."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from the_book import BOOK

from bookkit.site import opening
from companion.vae import Vae

TEXT = (Path(__file__).resolve().parents[1] / "README.md").read_text("utf8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
SMALLER = {
    "num=16,": "num=2, steps=2,",
    "images[:1000]": "images[:20]",
    "num_samples=100": "num_samples=2",
    'load("mnist").images': 'load("mnist").images[:200]',
    'load("mnist", "test").images)': 'load("mnist", "test").images[:20])',
}
IMPORT = "companion.vae import mlp_vae", "companion.ladders import mlp_ladder"


def smaller(block: str) -> str:
    for long, short in SMALLER.items():
        block = block.replace(long, short)
    return block


def test_everything_that_is_made_smaller_stands_there() -> None:
    assert len(BLOCKS) == 3
    assert [long for long in SMALLER if long not in "".join(BLOCKS)] == []


def test_the_contents_are_those_of_the_book() -> None:
    table = opening.chapters(BOOK)
    wanted = [
        f"{page.chapter}. [{page.title}]({page.docname}.ipynb): “{table[opening.key(page)]['says']}”"
        for page in BOOK.notebooks()
    ]
    assert re.findall(r"^\d+\. .*", TEXT, re.MULTILINE) == wanted


def test_three_lines_draw_digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len([line for line in BLOCKS[0].splitlines() if line]) == 3
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(smaller(BLOCKS[0]), "README.md", "exec"), names)
    assert (tmp_path / "digits.png").stat().st_size > 500
    assert isinstance(names["vae"], Vae)


@pytest.mark.parametrize("number, pictures", [(1, []), (2, ["vae.png"])])
def test_the_python_of_the_readme_runs(
    number: int,
    pictures: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(smaller(BLOCKS[number]), "README.md", "exec"), {})
    assert re.search(r"^log p\(x\) (=|>=) -\d+\.\d nats$", capsys.readouterr().out, re.MULTILINE)
    sizes = {path.name: path.stat().st_size > 500 for path in tmp_path.iterdir()}
    assert sizes == dict.fromkeys(pictures, True)


def test_a_ladder_takes_the_place_of_the_vae(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    block = smaller(BLOCKS[2])
    for old, new in (IMPORT, ("mlp_vae()", "mlp_ladder()")):
        assert old in block
        block = block.replace(old, new)
    exec(compile(block, "README.md", "exec"), {})
    assert "nats" in capsys.readouterr().out
