"""The Python of the README runs as it stands, only smaller."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TEXT = (Path(__file__).resolve().parents[1] / "README.md").read_text("utf8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
SMALLER = {
    "num=16,": "num=2, steps=2,",
    "images[:1000]": "images[:20]",
    "num_samples=100": "num_samples=2",
    'load("mnist").images': 'load("mnist").images[:200]',
    'load("mnist", "test").images)': 'load("mnist", "test").images[:20])',
}
LADDER = {
    "companion.vae import mlp_vae": "companion.ladders import mlp_ladder",
    "mlp_vae()": "mlp_ladder()",
}


def smaller(block: str) -> str:
    for long, short in SMALLER.items():
        block = block.replace(long, short)
    return block


def test_everything_that_is_made_smaller_stands_there() -> None:
    assert len(BLOCKS) == 2
    assert [long for long in SMALLER if long not in "".join(BLOCKS)] == []


@pytest.mark.parametrize("number, picture", [(0, "digits.png"), (1, "vae.png")])
def test_the_python_of_the_readme_runs(
    number: int,
    picture: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(smaller(BLOCKS[number]), "README.md", "exec"), {})
    assert re.search(r"^log p\(x\) (=|>=) -\d+\.\d nats$", capsys.readouterr().out, re.MULTILINE)
    assert (tmp_path / picture).stat().st_size > 500


def test_a_ladder_takes_the_place_of_the_vae(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    block = smaller(BLOCKS[1])
    for old, new in LADDER.items():
        assert old in block
        block = block.replace(old, new)
    exec(compile(block, "README.md", "exec"), {})
    assert "nats" in capsys.readouterr().out
