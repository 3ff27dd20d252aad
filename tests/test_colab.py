"""The notebooks as Colab gets them: plain Markdown, few imports, and a set-up cell that installs the right thing.

The full run, with pip and an empty folder, is `python -m tools.colab_check`; it needs a package registry and minutes.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement

from tools import colab_check

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
REPOSITORY = yaml.safe_load((ROOT / "_config.yml").read_text("utf8"))["repository"]["url"]

# Runs set-up cells in a fresh process, one after another, with a `pip` that only notes what it is asked for.
FAKE_PIP = """
import json, os, sys
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
asked = []
shell.register_magic_function(asked.append, "line", "pip")
answers = []
for source, environment in json.load(sys.stdin):
    for name in ("COLAB_RELEASE_TAG", "COMPANION_REPOSITORY"):
        os.environ.pop(name, None)
    os.environ.update(environment)
    asked.clear()
    shell.run_cell(source).raise_error()
    answers.append(list(asked))
print(json.dumps(answers))
"""


def pip_commands(cells: list[tuple[str, dict[str, str]]], folder: Path) -> list[list[list[str]]]:
    """For each (source, environment) what the cell asks pip to do, split into words as a shell does."""
    process = subprocess.run(
        [sys.executable, "-c", FAKE_PIP],
        input=json.dumps(cells),
        capture_output=True,
        text=True,
        timeout=900,
        cwd=folder,
        env={**os.environ, "IPYTHONDIR": str(folder), "PYTHONPATH": str(ROOT)},
    )
    assert process.returncode == 0, process.stdout + process.stderr
    answers: list[list[str]] = json.loads(process.stdout.splitlines()[-1])
    return [[shlex.split(line) for line in lines] for lines in answers]


def setup_source(path: Path) -> str:
    return next(
        str(cell.source) for cell in nbformat.read(path, 4).cells if colab_check.is_setup(cell)
    )


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_is_fit_for_colab(path: Path) -> None:
    assert colab_check.problems(nbformat.read(path, 4)) == []


def test_the_set_up_cell_installs_the_package_on_colab_only(tmp_path: Path) -> None:
    sources = sorted({setup_source(path) for path in NOTEBOOKS})
    assert len(sources) == 1, "the notebooks have different set-up cells"
    colab = {"COLAB_RELEASE_TAG": "test"}
    environments = [{}, colab, {**colab, "COMPANION_REPOSITORY": "file:///a/checkout"}]
    elsewhere, on_colab, from_checkout = pip_commands(
        [(sources[0], e) for e in environments], tmp_path
    )
    assert elsewhere == []
    for commands, address in ((on_colab, REPOSITORY), (from_checkout, "file:///a/checkout")):
        assert len(commands) == 1
        install, *words = commands[0]
        assert install == "install"
        package, *kept = [word for word in words if not word.startswith("-")]
        assert package == f"git+{address}"
        for requirement in map(Requirement, kept):  # what Colab ships must stay as it is
            assert requirement.specifier.contains(version(requirement.name), prereleases=True), (
                requirement
            )


def notebook(*cells: tuple[str, str]) -> Any:
    """A small notebook with a set-up cell and the given (kind, source) cells."""
    setup = nbformat.v4.new_code_cell("import companion", metadata={"tags": ["setup"]})
    make = {"code": nbformat.v4.new_code_cell, "markdown": nbformat.v4.new_markdown_cell}
    return nbformat.v4.new_notebook(cells=[setup, *(make[kind](source) for kind, source in cells)])


def test_plain_markdown_and_allowed_imports_pass() -> None:
    text = "## A (1.3)\n\n$$ x_{i} = 1\n% TeX\n\\tag{1.3} $$\n\n`x`{.a} is $\\{z\\}$\n\n```python\n%pip\n(x)=\n```\n"
    code = "%matplotlib inline\nimport json\nimport torch\nfrom companion.elbo import elbo_terms\n"
    code += "import numpy, matplotlib"
    assert colab_check.problems(notebook(("markdown", text), ("code", code))) == []


@pytest.mark.parametrize(
    ("kind", "source", "expected"),
    [
        ("markdown", "see {eq}`eq-elbo`", "a role"),
        ("markdown", "see {cite:t}`kingma2014`", "a role"),
        ("markdown", ":::{prf:theorem}\nx\n:::", "a colon fence"),
        ("markdown", "> ```{note}\n> x\n> ```", "a directive"),
        ("markdown", "(sec-elbo)=\n## ELBO", "a target"),
        ("markdown", "$$ x = 1 $$ (eq-x)", "a labelled equation"),
        ("markdown", "text\n% a comment", "a % comment"),
        ("markdown", "a\n\n+++\n\nb", "a block break"),
        ("code", "import sklearn", "imports sklearn;"),
        ("code", "def f():\n    from google.colab import drive", "imports google.colab;"),
        ("code", "from myst_nb import glue", "imports myst_nb;"),
    ],
)
def test_a_planted_problem_is_found(kind: str, source: str, expected: str) -> None:
    found = colab_check.problems(notebook((kind, source)))
    assert found
    assert found[0].startswith(f"cell 1: {expected}")


def test_a_missing_or_second_set_up_cell_is_found() -> None:
    bare, double = notebook(("code", "x = 1")), notebook(("code", "x = 1"))
    del bare.cells[0]
    double.cells.append(double.cells[0])
    expected = ["the first code cell, and no other, must be the set-up cell (tag: setup)"]
    assert colab_check.problems(bare) == colab_check.problems(double) == expected


def test_the_fake_pip_notes_what_is_asked(tmp_path: Path) -> None:
    source = 'import os\nif "COLAB_RELEASE_TAG" in os.environ:\n    NAME = "a b"\n    %pip install "{NAME}" c'
    commands = pip_commands([(source, {}), (source, {"COLAB_RELEASE_TAG": "1"})], tmp_path)
    assert commands == [[], [["install", "a b", "c"]]]
