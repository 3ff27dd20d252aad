"""Tests of companion.page.stand_in: without MNIST no sentence about it is called true or false."""

from __future__ import annotations

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


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What a notebook prints of MNIST in its second cell: with no data, as its third cell does; then with ours."""
    nothing = dict.fromkeys(
        ("COMPANION_DATA", "COMPANION_CACHE"), str(tmp_path_factory.mktemp("no"))
    )
    setup = f"""import os
from companion.page.stand_in import about_mnist
about_mnist('{mark(CELLS[1])}')
ours = dict(os.environ)
os.environ.update({nothing})"""
    back = "os.environ.clear()\nos.environ.update(ours)"
    cells = [nbformat.v4.new_code_cell(code) for code in (setup, *CELLS, back, CELLS[1])]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=900, kernel_name="python3").execute()
    texts = ["".join(output.text for output in cell.outputs) for cell in notebook.cells]
    return [*texts[2:4], texts[5]]


def test_a_truth_about_mnist_is_not_judged_without_it(printed: list[str]) -> None:
    about, other, _ = printed
    unknown = "not judged: other data"
    assert about == f"about MNIST: {unknown}\na function, too: {unknown}\na-b!"
    assert other == "about anything: False\n"


def test_with_mnist_it_is(printed: list[str]) -> None:
    if find("mnist") is None:
        pytest.skip("MNIST is not here")
    assert printed[2] == "about MNIST: False\na function, too: True\na-b!"


def test_outside_a_notebook_nothing_changes(capsys: pytest.CaptureFixture[str]) -> None:
    about_mnist("0a1f")
    with pytest.raises(ValueError, match="marks must hold 4 hexadecimal digits each; 'xyz' was"):
        about_mnist("xyz")
    if find("mnist") is not None:
        without_judgment("a:", True, "b", sep="_", end=".")
        assert capsys.readouterr().out == "a:_True_b."


def test_a_mark_is_that_of_the_code_alone() -> None:
    assert mark("a = 1\n") == mark("a = 1") != mark("a = 2")
