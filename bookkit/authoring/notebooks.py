"""Makes the notebooks: notebooks/src/NAME.py, which people write, -> notebooks/NAME.ipynb, executed and committed.

run    execute the source in a fresh kernel and write the notebook
sync   take over new text, tags and set-up; the code did not change, so the outputs stay
check  say everything that is wrong with the stored notebooks; change nothing
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import re
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import nbformat
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

from bookkit.authoring import chapter_rules, notebook_folds, setup_cell
from bookkit.authoring.cell_syntax import untitled
from bookkit.authoring.chapter_rules import code_cells, tags
from bookkit.authoring.citations import citations
from bookkit.authoring.kernels import execute
from bookkit.authoring.labels import SECONDS, Book, Page
from bookkit.authoring.plain_markdown import Converter

ROOT = Path(__file__).resolve().parents[2]
STAMP = "companion"
MAX_BYTES = 4_000_000
ENVIRONMENT = {
    "TQDM_DISABLE": "1",
    "COMPANION_SCALE": "small",
    "PYTHONHASHSEED": "0",
    "JUPYTER_PREFER_ENV_PATH": "1",
}
LIBRARIES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "matplotlib")


def path_of(book: Book, page: Page) -> Path:
    """Where the notebook of a page lies."""
    return book.root / f"{page.docname}.ipynb"


def digest(notebook: NotebookNode) -> str:
    """A fingerprint of the code whose outputs are stored; set-up cell and titles may change without a new run."""
    sources = [cell.source for cell in code_cells(notebook) if "setup" not in tags(cell)]
    text = "\0".join(map(untitled, sources))
    return hashlib.sha256(text.encode()).hexdigest()


def stamp(notebook: NotebookNode) -> dict:
    """What a notebook says about its run."""
    import torch

    versions = {name: version(name).split("+")[0] for name in LIBRARIES}
    return {
        "source_sha256": digest(notebook),
        "versions": {"python": f"{sys.version_info[0]}.{sys.version_info[1]}", **versions},
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }


def setup(book: Book, page: Page) -> str:
    """The set-up cell of a stored notebook, which cannot know its own commit: it has the branch."""
    return setup_cell.setup_cell(page.path.stem, book.repository, book.branch)


def fresh(book: Book, page: Page) -> NotebookNode:
    """The notebook of a source, without outputs, its text in plain Markdown."""
    texts = Converter(book, page, citations(book.root / "book" / "references.bib")).cells()
    notebook = nbformat.v4.new_notebook(
        metadata={
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    for index, (kind, source, metadata) in enumerate(page.cells):
        if kind == "markdown":
            cell = nbformat.v4.new_markdown_cell(texts[index])
        else:
            cell = nbformat.v4.new_code_cell(source)
        cell.metadata.update({k: metadata[k] for k in ("tags", "mystnb") if k in metadata})
        if "setup" in tags(cell):
            if source.strip() != setup_cell.MARK:
                raise ValueError(f"{page.docname}: the set-up cell is not {setup_cell.MARK!r}")
            cell.source = setup(book, page)
        cell["id"] = f"cell-{index:03d}"
        notebook.cells.append(cell)
    return notebook


def finish(book: Book, page: Page, notebook: NotebookNode) -> NotebookNode:
    """Drops widget views, which need a kernel (the HTML face stays), merges split streams, and folds."""
    for cell in code_cells(notebook):
        kept: list[NotebookNode] = []
        for output in cell.outputs:
            data = output.get("data", {})
            for mime in [
                mime for mime in data if mime.startswith("application/vnd.jupyter.widget")
            ]:
                del data[mime]
            if kept and output.get("name", "") == kept[-1].get("name"):  # only streams have names
                kept[-1].text += output.text
            elif output.get("data", True):
                kept.append(output)
        cell.outputs = kept
    notebook_folds.fold(book, page, notebook)
    return notebook


def write(notebook: NotebookNode, path: Path) -> None:
    """Validates and writes a notebook."""
    nbformat.validate(notebook)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(nbformat.writes(notebook) + "\n", encoding="utf8")


def run(book: Book, page: Page) -> str:
    """Executes a chapter in a fresh kernel and writes its notebook; says how long it took."""
    notebook, path, start = fresh(book, page), path_of(book, page), time.perf_counter()
    before = children_seconds()
    print(f"{page.docname}: running", flush=True)
    try:
        execute(
            notebook,
            environment={**os.environ, **ENVIRONMENT},
            timeout=1800,
            extra_arguments=["--log-level=ERROR"],  # that it listens on this machine is no news
            record_timing=False,
            store_widget_state=False,
            resources={"metadata": {"path": str(path.parent)}},
        )
    except CellExecutionError:
        write(notebook, book.root / "_build" / "failed" / path.name)
        print(f"what ran so far is in _build/failed/{path.name}", file=sys.stderr)
        raise
    notebook.metadata["language_info"] = {"name": "python"}
    notebook.metadata[STAMP] = stamp(notebook)
    write(finish(book, page, notebook), path)
    keep_seconds(book.root, path.stem, children_seconds() - before)
    return f"{time.perf_counter() - start:.0f} s, {path.stat().st_size / 1e6:.2f} MB"


def children_seconds() -> float:
    """Seconds of one core that finished children have used; other work on the machine does not add to them."""
    times = os.times()
    return times.children_user + times.children_system


def keep_seconds(root: Path, name: str, seconds: float) -> None:
    """Notes beside the book what a run took, unless a quarter more or less is noted: two runs give the same files."""
    path = root / SECONDS
    known = json.loads(path.read_text("utf8")) if path.exists() else {}
    if not 0.75 < seconds / known.get(name, math.inf) < 1.25:
        known[name] = max(1, round(seconds))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", "utf8")


def synced(book: Book, page: Page) -> NotebookNode:
    """The notebook of a source with the stored outputs; ValueError if they come from other code."""
    notebook, old = fresh(book, page), nbformat.read(path_of(book, page), 4)
    stamped = old.metadata.get(STAMP, {})
    if not digest(notebook) == digest(old) == stamped.get("source_sha256"):
        raise ValueError(
            f"{page.docname}: the outputs come from other code than the source has; run it"
        )
    for new, cell in zip(code_cells(notebook), code_cells(old), strict=True):
        new.outputs, new.execution_count = cell.outputs, cell.execution_count
    notebook.metadata[STAMP] = stamped
    return finish(book, page, notebook)


def sync(book: Book, page: Page) -> str:
    """Takes over text, tags and set-up from the source and keeps the outputs."""
    write(synced(book, page), path_of(book, page))
    return "in step"


def check(book: Book, page: Page) -> Iterator[str]:
    """Everything wrong with a stored notebook."""
    name, path = page.docname, path_of(book, page)
    if not path.exists():
        yield f"{name}: there is no notebook; run it"
        return
    notebook = nbformat.read(path, 4)
    try:
        if synced(book, page) != notebook:
            yield f"{name}: text, tags, set-up or folds differ from the source; sync it"
    except ValueError as error:
        yield str(error)
    if (size := path.stat().st_size) > MAX_BYTES:
        yield f"{name}: {size / 1e6:.1f} MB, more than {MAX_BYTES / 1e6:.0f} MB"
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            for text in chapter_rules.of_a_cell(cell):
                yield f"{name}, cell {index}: {text}"
    for text in chapter_rules.of_a_notebook(book, page, notebook):
        yield f"{name}: {text}"


def select(book: Book, names: list[str]) -> list[Page]:
    """The chapters asked for, by name; all of them if none is named."""
    pages = {page.path.stem: page for page in book.notebooks()}
    if unknown := [name for name in names if name not in pages]:
        raise ValueError(f"no chapter {unknown[0]!r}; there are {', '.join(pages) or 'none'}")
    return [pages[name] for name in names] if names else list(pages.values())


def report(book: Book, pages: list[Page]) -> int:
    """Prints what is wrong; 1 if anything is."""
    problems = [problem for page in pages for problem in check(book, page)]
    problems += [f"the label {label} is used twice" for label in book.duplicates]
    print(*problems, f"{len(pages)} notebooks checked, {len(problems)} failures", sep="\n")
    return min(len(problems), 1)


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bookkit.authoring.notebooks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = {"run": run, "sync": sync}
    parser.add_argument("command", choices=[*commands, "check"])
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="such as 01_autoencoders; all if none is named"
    )
    parser.add_argument("--root", type=Path, default=ROOT, help="the book's folder")
    options = parser.parse_args(arguments)
    try:
        book = Book(options.root)
        pages = select(book, options.names)
        if options.command == "check":
            return report(book, pages)
        for page in pages:
            print(f"{page.docname}: {commands[options.command](book, page)}")
    except (ValueError, OSError, CellExecutionError) as error:
        print(re.sub(r"\x1b\[[0-9;]*m", "", str(error)), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
