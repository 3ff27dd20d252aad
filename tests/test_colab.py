"""The set-up cell, which installs the package on Colab: it asks for the right thing, and changes nothing else.

The full run, with pip and an empty folder, is `bookkit/quality/colab_check.py`; it needs a package registry.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import nbformat
import yaml
from packaging.requirements import Requirement

from bookkit.authoring import chapter_rules

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
    """The set-up cell of a notebook, but for the device that it asks for and the cells that it names."""
    cells = nbformat.read(path, 4).cells
    source = next(str(cell.source) for cell in cells if "setup" in chapter_rules.tags(cell))
    return source.partition("from companion.")[0].rstrip()


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS


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


def test_the_fake_pip_notes_what_is_asked(tmp_path: Path) -> None:
    source = 'import os\nif "COLAB_RELEASE_TAG" in os.environ:\n    NAME = "a b"\n    %pip install "{NAME}" c'
    commands = pip_commands([(source, {}), (source, {"COLAB_RELEASE_TAG": "1"})], tmp_path)
    assert commands == [[], [["install", "a b", "c"]]]
