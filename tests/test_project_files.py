"""The files around the project say what is so: the lock, the conda file, the workflows, the citation, the address."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import companion
from bookkit.authoring import setup_cell
from bookkit.site import source_text

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["project"]
LOCK = (ROOT / "requirements.lock").read_text("utf8")
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TEMPLATES = ROOT / ".github" / "ISSUE_TEMPLATE"
FORMS = [path for path in sorted(TEMPLATES.glob("*.yml")) if path.name != "config.yml"]


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text("utf8"))


def locked() -> dict[str, str]:
    """The pinned version of each library in the lock (the last one where markers give several)."""
    return dict(re.findall(r"^([a-z0-9][a-z0-9._-]*)==([^\s;]+)", LOCK, re.MULTILINE))


def test_the_lock_pins_every_library_by_hash() -> None:
    blocks = re.split(r"\n(?=[a-z0-9])", LOCK)
    assert len(blocks) > 100
    for block in blocks:
        assert re.match(r"[a-z0-9._-]+==\S+", block), block[:80]
        assert "--hash=sha256:" in block, block[:80]
    assert "://" not in LOCK


def test_the_lock_fits_the_declared_libraries() -> None:
    versions = locked()
    extras = PROJECT["optional-dependencies"]
    declared = [*PROJECT["dependencies"], *extras["book"], *extras["test"]]
    for requirement in map(Requirement, declared):
        name = requirement.name.lower().replace("_", "-")
        assert name in versions, name
        fits = requirement.specifier.contains(versions[name], prereleases=True)
        assert fits, (requirement, versions[name])


def test_the_installer_comes_by_its_hash() -> None:
    recipe = (ROOT / "Makefile").read_text("utf8")
    lines = r"^\t(?:(awk .* > \.venv/installer\.txt)|.*(pip install.*installer\.txt))"
    cut, install = re.findall(lines, recipe, re.MULTILINE)
    assert "--require-hashes" in install[1]
    command = ["bash", "-c", cut[0].partition(" >")[0]]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = re.findall(r"^([a-z0-9._-]+)==", said, re.MULTILINE)
    assert names == ["uv"] and said.count("--hash=sha256:") > 5


def test_conda_installs_the_lock() -> None:
    environment = read(ROOT / "environment.yml")
    needs = environment["dependencies"]
    plain = {d.split(">=")[0].split("=")[0]: d for d in needs if isinstance(d, str)}
    pip = [d["pip"] for d in needs if isinstance(d, dict)]
    assert pip == [["-r requirements.lock"]]
    assert {"python", "pip", "make", "git"} == set(plain)
    python = SpecifierSet(plain["python"].removeprefix("python"))
    assert python.contains("3.11") and not python.contains("3.10")
    assert SpecifierSet(PROJECT["requires-python"]).contains("3.11")
    # Pip refuses an editable package where it checks hashes: a command of its own, wherever conda is named.
    for name in ("environment.yml", "README.md", "book/running.md"):
        assert "pip install --no-deps --editable ." in (ROOT / name).read_text("utf8"), name


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_runs_the_same_commands(path: Path) -> None:
    workflow = read(path)
    assert True in workflow  # the key `on`, as YAML 1.1 reads it
    makefile = (ROOT / "Makefile").read_text("utf8")
    commands = 0
    for job in workflow["jobs"].values():
        assert job["runs-on"] == "ubuntu-latest"
        for step in job["steps"]:
            if "uses" in step:
                assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", step["uses"]), step["uses"]
                if "checkout" in step["uses"]:
                    assert step["with"]["persist-credentials"] is False
            for target in re.findall(r"\bmake ([\w./-]+)", step.get("run", "")):
                assert re.search(rf"^{re.escape(target)}:", makefile, re.MULTILINE), target
                commands += 1
            for file in re.findall(r"(?:^|\s)(\.ci/\w+|-m bookkit[.\w]+)", step.get("run", "")):
                path = file if "/" in file else file.removeprefix("-m ").replace(".", "/") + ".py"
                assert (ROOT / path).is_file(), file
                commands += 1
    assert commands


def test_the_notebooks_of_the_site_are_pushed_where_the_rocket_leads(tmp_path: Path) -> None:
    *_, step = read(ROOT / ".github" / "workflows" / "book.yml")["jobs"]["colab"]["steps"]
    notebook = tmp_path / "_sources" / "notebooks" / "01_a.ipynb"
    notebook.parent.mkdir(parents=True)
    notebook.write_text("{}")
    before = "tar -cf artifact.tar ./_sources; rm -r _sources; git init -q --bare there"
    subprocess.run(["bash", "-ec", before], cwd=tmp_path, check=True)
    surroundings = {**os.environ, "TO": str(tmp_path / "there"), "GITHUB_SHA": "0123abc"}
    run = ["bash", "-eu", "-c", step["run"]]
    subprocess.run(run, cwd=tmp_path, env=surroundings, check=True, capture_output=True)
    names = setup_cell.git(tmp_path / "there", "ls-tree", "-r", "--name-only", source_text.COLAB)
    assert names == "notebooks/01_a.ipynb"


def test_pins_are_moved_by_pull_requests() -> None:
    settings = read(ROOT / ".github" / "dependabot.yml")
    moved = {entry["package-ecosystem"] for entry in settings["updates"]}
    assert moved == {"github-actions", "pip"}
    assert all(entry["directory"] == "/" for entry in settings["updates"])


def test_the_distribution_has_a_name_of_its_own() -> None:
    # A foreign project called companion stands in the public index.
    assert PROJECT["name"] != "companion" and "Private :: Do Not Upload" in PROJECT["classifiers"]


def test_there_are_three_workflows() -> None:
    assert [path.stem for path in WORKFLOWS] == ["book", "test", "weekly"]


def test_continuous_integration_runs_make_test() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    for line in ("make test$", "ATEN_CPU_CAPABILITY=default .*make unit THREADS=2"):
        assert re.search(f"^{line}", script.read_text("utf8"), re.MULTILINE)
    subprocess.run(["bash", "-n", script], check=True)


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_a_form_is_valid(path: Path) -> None:
    form = read(path)
    assert {"name", "description", "body"} <= set(form)
    kinds = {"input", "textarea", "dropdown", "checkboxes", "markdown"}
    assert all(part["type"] in kinds and part["attributes"]["label"] for part in form["body"])
    names = [part["id"] for part in form["body"]]
    assert len(set(names)) == len(names)


def test_the_error_form_asks_for_what_is_needed() -> None:
    parts = {part["id"]: part for part in read(TEMPLATES / "error.yml")["body"]}
    assert {"page", "runtime", "doctor"} <= set(parts)
    assert "python -m companion doctor" in parts["doctor"]["attributes"]["label"]


def test_the_citation_is_complete_and_current() -> None:
    citation = read(ROOT / "CITATION.cff")
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(citation)
    assert str(citation["version"]) == PROJECT["version"] == companion.__version__
    assert citation["title"] == read(ROOT / "_config.yml")["title"]
    assert citation["license"] == PROJECT["license"] == "MIT"
