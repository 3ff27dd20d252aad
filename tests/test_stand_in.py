"""Tests of companion.page.stand_in: without MNIST no sentence about it is called true or false."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from companion.data import find
from companion.page.stand_in import about_mnist, mark, without_judgment

CELLS = [
    "def say(words, truth):\n    print(f'{words}: {truth}')",
    "print('about MNIST:', False)\nsay('a function, too', True)\nprint('a', 'b', sep='-', end='!')",
    "print('about anything:', False)",
]


def printed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a notebook prints whose second cell is about MNIST."""
    monkeypatch.setenv("COMPANION_DATA", str(folder))
    monkeypatch.setenv("COMPANION_CACHE", str(folder / "cache"))
    setup = f"from companion.page.stand_in import about_mnist\nabout_mnist('{mark(CELLS[1])}')"
    cells = [nbformat.v4.new_code_cell(code) for code in (setup, *CELLS)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=900, kernel_name="python3").execute()
    return ["".join(output.text for output in cell.outputs) for cell in notebook.cells[2:]]


def test_a_truth_about_mnist_is_not_judged_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    about, other = printed(tmp_path, monkeypatch)
    unknown = "not judged: other data"
    assert about == f"about MNIST: {unknown}\na function, too: {unknown}\na-b!"
    assert other == "about anything: False\n"


def test_with_mnist_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    if find("mnist") is None:
        pytest.skip("MNIST is not here")
    about, _ = printed(Path(os.environ.get("COMPANION_DATA", "")), monkeypatch)
    assert about == "about MNIST: False\na function, too: True\na-b!"


def test_outside_a_notebook_nothing_changes(capsys: pytest.CaptureFixture[str]) -> None:
    about_mnist("0a1f")
    with pytest.raises(ValueError, match="marks must hold 4 hexadecimal digits each; 'xyz' was"):
        about_mnist("xyz")
    if find("mnist") is not None:
        without_judgment("a:", True, "b", sep="_", end=".")
        assert capsys.readouterr().out == "a:_True_b."


def test_a_mark_is_that_of_the_code_alone() -> None:
    assert mark("a = 1\n") == mark("a = 1") != mark("a = 2")
