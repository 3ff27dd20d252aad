"""The set-up cell: on Colab it installs the package, elsewhere nothing, and what it cannot do it says in one sentence.

The full run, with pip and an empty folder, is `bookkit.quality.colab_check`; it needs a package registry and minutes.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from packaging.requirements import Requirement

from bookkit.authoring import chapter_rules, setup_cell

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
ADDRESS = "https://github.com/them/their.book"
PLACEHOLDER = f"https://github.com/{setup_cell.PLACEHOLDER}"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
CELL = setup_cell.setup_cell("02_kl_divergence", ADDRESS, COMMIT)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[list[str]]]:
    """Runs a set-up cell with or without the package, on Colab or not; gives the commands that it started."""

    def run(cell: str, has_package: bool, on_colab: bool) -> list[list[str]]:
        commands: list[list[str]] = []

        def note(command: list[str], check: bool) -> None:
            assert check  # a failure must not go unseen
            commands.append(command)

        found = SimpleNamespace() if has_package else None
        monkeypatch.setattr(importlib.util, "find_spec", {"companion": found}.__getitem__)
        monkeypatch.setattr(subprocess, "run", note)
        monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
        if on_colab:
            monkeypatch.setenv("COLAB_RELEASE_TAG", "test")
        exec(compile(cell, "cell", "exec"), {})
        return commands

    return run


def test_on_colab_it_installs_the_commit_and_leaves_what_colab_has(run) -> None:
    (command,) = run(CELL, has_package=False, on_colab=True)
    assert command[:4] == [sys.executable, "-m", "pip", "install"]
    package, *kept = [word for word in command[4:] if not word.startswith("-")]
    assert package == f"git+{ADDRESS}@{COMMIT}"
    names = [Requirement(word).name for word in kept]
    assert names == ["torch", "torchvision", "numpy"]
    for requirement in map(Requirement, kept):
        found = version(requirement.name)
        assert requirement.specifier.contains(found, prereleases=True), requirement


@pytest.mark.parametrize("cell", [CELL, setup_cell.setup_cell("02_kl_divergence", "", "main")])
@pytest.mark.parametrize("on_colab", [False, True])
def test_where_the_package_is_nothing_is_installed(run, cell: str, on_colab: bool) -> None:
    assert run(cell, has_package=True, on_colab=on_colab) == []


def test_elsewhere_one_sentence_says_what_to_install(run) -> None:
    with pytest.raises(ModuleNotFoundError) as refused:
        run(CELL, has_package=False, on_colab=False)
    sentence = f"The book's package is missing; run: pip install git+{ADDRESS}@{COMMIT}"
    assert str(refused.value) == sentence


@pytest.mark.parametrize("address", ["", PLACEHOLDER])
def test_without_an_address_one_sentence_says_what_is_missing(run, address: str) -> None:
    cell = setup_cell.setup_cell("02_kl_divergence", address, COMMIT)
    with pytest.raises(ModuleNotFoundError) as refused:
        run(cell, has_package=False, on_colab=True)
    sentence = str(refused.value)
    assert "does not know the address of its repository" in sentence
    assert f"%pip install git+ADDRESS@{COMMIT} " in sentence and "OWNER" not in cell


@pytest.mark.parametrize(
    ("address", "commit"),
    [
        ('file:///nope"; touch X; echo "', "main"),
        ("https://a.b/c$(touch X)", "main"),
        ("--target=https://a.b", "main"),
        ("ext::sh -c touch% X", "main"),
        (ADDRESS, "main; touch X"),
        (ADDRESS, "--upload-pack=x"),
        (ADDRESS, ""),
    ],
)
def test_what_is_no_address_or_no_commit_stands_in_no_cell(address: str, commit: str) -> None:
    with pytest.raises(ValueError, match=r"^the (repository|commit) must "):
        setup_cell.setup_cell("02_kl_divergence", address, commit)


@pytest.mark.parametrize(
    "remote",
    [
        "https://github.com/me/a.book.git",
        "git@github.com:me/a.book.git",
        "https://name:secret@github.com/me/a.book",
    ],
)
def test_the_address_comes_from_the_configuration_or_git(
    remote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert setup_cell.repository(tmp_path, ADDRESS) == ADDRESS
    assert setup_cell.repository(tmp_path, PLACEHOLDER) == ""
    setup_cell.git(tmp_path, "init", "--quiet")
    setup_cell.git(tmp_path, "remote", "add", "origin", remote)
    assert setup_cell.repository(tmp_path, PLACEHOLDER) == "https://github.com/me/a.book"


def test_only_an_unchanged_checkout_has_a_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert setup_cell.commit(tmp_path) == ""
    (tmp_path / "a").write_text("a")
    author = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    for command in ("init", "add a", "commit -m a", "tag v1"):
        setup_cell.git(tmp_path, *author, *command.split())
    head = setup_cell.git(tmp_path, "rev-parse", "HEAD")
    assert len(head) == 40 and setup_cell.commit(tmp_path) == head
    (tmp_path / "a").write_text("b")
    assert setup_cell.commit(tmp_path) == ""


def test_all_chapters_have_the_same_cell_but_for_the_device() -> None:
    cells = set()
    for path in NOTEBOOKS:
        first = chapter_rules.code_cells(nbformat.read(path, 4))[0]
        cell, _, device = first.source.partition("\nfrom companion.runtime")
        cells.add(cell)
        assert bool(device) == (path.stem in setup_cell.ON_DEVICE), path.stem
    assert len(cells) == 1
