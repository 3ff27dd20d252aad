"""Makes the notebooks: notebooks/src/NAME.py, which people write, -> notebooks/NAME.ipynb, executed and committed.

run      execute the source in a fresh kernel and write the notebook
sync     take over new text, tags and set-up; the code did not change, so the outputs stay
check    say everything that is wrong with the stored notebooks; change nothing
preview  print the text as Jupyter will show it; execute nothing
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tools.citations import citations
from tools.labels import Book, Page, verify_calls
from tools.plain import Converter

STAMP = "companion"
TAG = "nbval-check-output"
TAGS = {
    "setup",
    TAG,
    "mnist",  # compared only where MNIST is: notebooks/conftest.py
    "hide-input",
    "hide-output",
    "hide-cell",
    "remove-cell",
    "remove-input",
    "remove-output",
    "raises-exception",
}
WIDGETS = "application/vnd.jupyter.widget"
MAX_BYTES = 4_000_000
MAX_LINES, GOOD_LINES, MAX_CLASS_LINES = 30, 15, 12
MIN_ALT = 15
MIN_CHECKED = 0.7
ENVIRONMENT = {
    "TQDM_DISABLE": "1",
    "COMPANION_SCALE": "small",
    "PYTHONHASHSEED": "0",
    "JUPYTER_PREFER_ENV_PATH": "1",
}
FALLBACK = re.compile(
    r"^data: no copy of ", re.MULTILINE
)  # what companion.data says when it has to do without
LOCAL = re.compile(
    r"(?<![\w:/.])/(?:home|root|tmp|work|mnt|Users|content|usr|var|opt)/[\w.]|site-packages|ipykernel_\d|\b0x[0-9a-f]{6,}\b|\.venv/"
)
SETUP_MARK = "# The set-up cell: tools/notebooks.py writes it."
SETUP = """\
# Run this cell first. On Colab it installs the book's package; anywhere else it only imports it.
import os
import sys

REPOSITORY = "{repository}"
if "google.colab" in sys.modules or "COLAB_RELEASE_TAG" in os.environ:
    from importlib.metadata import version

    SOURCE = "git+" + os.environ.get("COMPANION_REPOSITORY", REPOSITORY)
    COLABS_OWN = ("torch", "torchvision", "numpy")  # they stay as they are
    KEEP = " ".join(f"{{name}}=={{version(name)}}" for name in COLABS_OWN)
    %pip install --quiet "{{SOURCE}}" {{KEEP}}
import companion
"""


@dataclass(frozen=True)
class Problem:
    """Something wrong with a notebook; a warning does not fail the check."""

    name: str
    text: str
    is_warning: bool = False


def tags(cell: NotebookNode) -> set[str]:
    """The tags of a cell."""
    return set(cell.metadata.get("tags", []))


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    """The code cells of a notebook, in order."""
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def digest(notebook: NotebookNode) -> str:
    """A fingerprint of the code whose outputs are stored; the set-up cell may change without a new run."""
    text = "\0".join(cell.source for cell in code_cells(notebook) if "setup" not in tags(cell))
    return hashlib.sha256(text.encode()).hexdigest()


def versions() -> dict[str, str]:
    """What the notebook ran with."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"python": ".".join(map(str, sys.version_info[:2]))}
    for name in ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "matplotlib"):
        try:
            found[name] = version(name).split("+")[0]
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def device() -> str:
    """The name of the accelerator in use, or cpu."""
    try:
        import torch
    except ImportError:
        return "cpu"
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


def fresh(book: Book, page: Page) -> NotebookNode:
    """The notebook of a source, without outputs, its text in plain Markdown."""
    texts = Converter(book, page, citations(book.root / "book" / "references.bib")).cells()
    cells = []
    for index, (kind, source, metadata) in enumerate(page.cells):
        meta = {key: metadata[key] for key in ("tags", "mystnb") if key in metadata}
        if kind == "markdown":
            cell = nbformat.v4.new_markdown_cell(texts[index])
        elif kind == "code":
            if "setup" in meta.get("tags", []):
                if source.strip() != SETUP_MARK:
                    raise ValueError(
                        f"{page.path.name}: the set-up cell is the one line {SETUP_MARK!r}; the tool fills it"
                    )
                source = SETUP.format(repository=book.repository).rstrip("\n")
            cell = nbformat.v4.new_code_cell(source)
        else:
            raise ValueError(
                f"{page.path.name}: cell {index} is a {kind} cell; only text and code are allowed"
            )
        cell.metadata.update(meta)
        cell["id"] = f"cell-{index:03d}"
        cells.append(cell)
    metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=metadata)
    notebook.nbformat_minor = 5
    return notebook


def clean(notebook: NotebookNode) -> None:
    """Drops widget states and views, which need a kernel (the HTML face stays), and merges split streams."""
    notebook.metadata.pop("widgets", None)
    for cell in code_cells(notebook):
        kept: list[NotebookNode] = []
        for output in cell.outputs:
            data = output.get("data")
            if data is not None:
                for mime in [mime for mime in data if mime.startswith(WIDGETS)]:
                    del data[mime]
                if not data:
                    continue
            is_more = (
                kept
                and output.output_type == "stream" == kept[-1].output_type
                and output.name == kept[-1].name
            )
            if is_more:
                kept[-1].text += output.text
            else:
                kept.append(output)
        cell.outputs = kept


def write(notebook: NotebookNode, path: Path, stamp: dict) -> None:
    """Validates and writes a notebook with its stamp."""
    notebook.metadata[STAMP] = stamp
    nbformat.validate(notebook)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(nbformat.writes(notebook) + "\n", encoding="utf8")


def path_of(book: Book, page: Page) -> Path:
    """Where the notebook of a page lies."""
    return book.root / f"{page.docname}.ipynb"


def run(book: Book, page: Page, timeout: int = 1800) -> float:
    """Executes a chapter in a fresh kernel and writes its notebook; returns the seconds it took."""
    notebook, path = fresh(book, page), path_of(book, page)
    start = time.perf_counter()
    folder = str(path.parent)
    client = NotebookClient(
        notebook,
        timeout=timeout,
        kernel_name="python3",
        record_timing=False,
        allow_errors=False,
        resources={"metadata": {"path": folder}},
    )
    try:
        client.execute(env={**os.environ, **ENVIRONMENT})
    except CellExecutionError:
        failed = book.root / "_build" / "failed" / path.name
        write(notebook, failed, {})
        print(
            f"{page.docname}: a cell failed; what ran so far is in _build/failed/{path.name}",
            file=sys.stderr,
        )
        raise
    notebook.metadata["language_info"] = nbformat.from_dict({"name": "python"})
    clean(notebook)
    write(
        notebook,
        path,
        {"source_sha256": digest(notebook), "versions": versions(), "device": device()},
    )
    return time.perf_counter() - start


def sync(book: Book, page: Page) -> None:
    """Takes over text, tags and set-up from the source and keeps the outputs; ValueError if the code changed."""
    path = path_of(book, page)
    if not path.exists():
        raise ValueError(f"{path.name} does not exist yet; run it")
    notebook, old = fresh(book, page), nbformat.read(path, 4)
    stamp = old.metadata.get(STAMP, {})
    if stamp.get("source_sha256") != digest(notebook) or len(code_cells(notebook)) != len(
        code_cells(old)
    ):
        raise ValueError(
            f"{page.path.name}: the code changed, so the outputs must be made anew; run it"
        )
    for new, known in zip(code_cells(notebook), code_cells(old), strict=True):
        new.outputs, new.execution_count = known.outputs, known.execution_count
    clean(notebook)
    write(notebook, path, stamp)


def check(book: Book, page: Page) -> Iterator[Problem]:
    """Everything wrong with a stored notebook."""
    name, path = page.docname, path_of(book, page)
    if not path.exists():
        yield Problem(name, "there is no notebook; run it")
        return
    if path.stat().st_size > MAX_BYTES:
        yield Problem(
            name, f"{path.stat().st_size / 1e6:.1f} MB, more than {MAX_BYTES / 1e6:.0f} MB"
        )
    notebook = nbformat.read(path, 4)
    try:
        wanted = fresh(book, page)
    except ValueError as error:
        yield Problem(name, str(error))
        return
    stamp = notebook.metadata.get(STAMP, {})
    if stamp.get("source_sha256") != digest(notebook) or digest(wanted) != digest(notebook):
        yield Problem(name, "the outputs come from other code than the source has; run it")
    elif _shape(wanted) != _shape(notebook):
        yield Problem(name, "text, tags or set-up differ from the source; sync it")
    if not stamp.get("versions"):
        yield Problem(name, "the stamp names no versions; run it")
    if notebook.metadata.get("widgets"):
        yield Problem(name, "a widget state is stored; sync it")
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            for text, is_warning in _cell(cell):
                yield Problem(name, f"cell {index}: {text}", is_warning)
            caption = ((cell.metadata.get("mystnb") or {}).get("figure") or {}).get("caption")
            if caption and (
                index + 1 == len(notebook.cells)
                or notebook.cells[index + 1].cell_type != "markdown"
            ):
                yield Problem(
                    name,
                    f"cell {index}: a text cell must follow a figure with a caption; it shows the caption in Jupyter",
                )
    yield from _structure(name, page, notebook)


def _shape(notebook: NotebookNode) -> list:
    return [
        (cell.id, cell.cell_type, cell.source, json.dumps(cell.metadata, sort_keys=True))
        for cell in notebook.cells
    ]


def _structure(name: str, page: Page, notebook: NotebookNode) -> Iterator[Problem]:
    setup = [cell for cell in code_cells(notebook) if "setup" in tags(cell)]
    if len(setup) != 1 or setup[0] is not code_cells(notebook)[0]:
        yield Problem(name, "the first code cell, and no other, has the tag setup")
    levels = page.levels
    if (
        notebook.cells[0].cell_type != "markdown"
        or levels[:1] != [1]
        or levels.count(1) != 1
        or 2 not in levels
    ):
        yield Problem(name, "a chapter starts with its one # heading and has ## headings below")
    counted = [cell for cell in code_cells(notebook) if prints(cell)]
    checked = [cell for cell in counted if TAG in tags(cell)]
    if len(checked) < MIN_CHECKED * len(counted):
        yield Problem(
            name,
            f"{len(checked)} of {len(counted)} cells that print text have the tag {TAG}; {MIN_CHECKED:.0%} are needed",
        )


def prints(cell: NotebookNode) -> bool:
    """Whether a cell's outputs are text, and not a picture or a slider."""
    contents = [output.get("data", {}) for output in cell.outputs]
    if any(is_picture(data) for data in contents):
        return False
    return any(output.output_type == "stream" for output in cell.outputs) or any(contents)


def is_picture(data: dict) -> bool:
    """Whether an output is a picture or HTML that holds one."""
    return any(mime.startswith("image/") for mime in data) or "<img" in "".join(
        data.get("text/html", "")
    )


def _cell(cell: NotebookNode) -> Iterator[tuple[str, bool]]:
    if cell.source.strip() and not cell.execution_count:
        yield "was not executed", False
    if unknown := tags(cell) - TAGS:
        yield (
            f"tag {', '.join(sorted(unknown))} is not allowed; allowed are {', '.join(sorted(TAGS))}",
            False,
        )
    yield from _lines(cell)
    calls = verify_calls(cell.source)
    if calls and TAG not in tags(cell):
        yield f"calls verify, so it needs the tag {TAG}", False
    alt = ((cell.metadata.get("mystnb") or {}).get("image") or {}).get("alt", "")
    pictures = 0
    for output in cell.outputs:
        data = output.get("data", {})
        pictures += any(mime.startswith("image/") for mime in data) and "text/html" not in data
        if output.output_type == "error" and "raises-exception" not in tags(cell):
            yield f"an error is stored: {output.ename}", False
        if output.output_type == "stream" and output.name == "stderr":
            yield f"writes to stderr: {output.text.strip().splitlines()[-1][:100]!r}", False
        if any(mime.startswith(WIDGETS) for mime in data):
            yield "a widget view is stored; sync it", False
        texts = [
            output.get("text", ""),
            *("".join(data.get(mime, "")) for mime in ("text/plain", "text/markdown", "text/html")),
        ]
        for text in texts:
            if FALLBACK.search(text):
                yield "was run on the fallback data; run it where the data set can be had", False
            if found := LOCAL.search(re.sub(r"data:image/[^\"']*", "", text)):
                yield (
                    f"prints something of this machine: {text[max(0, found.start() - 20) : found.end() + 20]!r}",
                    False,
                )
    if ((cell.metadata.get("mystnb") or {}).get("figure") or {}).get("caption") and not pictures:
        yield (
            "has a caption but shows no picture (a slider takes none; write its caption as text)",
            False,
        )
    if pictures > 1:
        yield f"shows {pictures} pictures; one alt text fits one picture, so split the cell", False
    if pictures and len(alt) < MIN_ALT:
        yield (
            f"shows a picture whose alt text has {len(alt)} characters; at least {MIN_ALT} are needed",
            False,
        )
    if alt and not any(is_picture(output.get("data", {})) for output in cell.outputs):
        yield "has an alt text but shows no picture", False


def _lines(cell: NotebookNode) -> Iterator[tuple[str, bool]]:
    if "setup" in tags(cell):
        return
    lines = len([line for line in cell.source.splitlines() if line.strip()])
    if lines > GOOD_LINES:
        yield (
            f"has {lines} non-blank lines; {GOOD_LINES} are good, {MAX_LINES} the limit",
            lines <= MAX_LINES,
        )
    try:
        tree = ast.parse(cell.source)
    except SyntaxError:  # a magic; the run has already shown that it works
        return
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef):
            continue
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        if length > MAX_CLASS_LINES:
            yield (
                f"class {node.name} has {length} lines, more than {MAX_CLASS_LINES}; move it to companion",
                False,
            )


def orphans(book: Book) -> Iterator[Problem]:
    """Notebooks without a source, and sources without a place in the table of contents."""
    sources = {path.stem for path in (book.root / "notebooks" / "src").glob("*.py")}
    known = {page.docname.rpartition("/")[2] for page in book.notebooks()}
    for path in sorted((book.root / "notebooks").glob("*.ipynb")):
        if path.stem not in sources:
            yield Problem(f"notebooks/{path.stem}", "has no source in notebooks/src")
    for name in sorted(sources - known):
        yield Problem(f"notebooks/src/{name}", "is not in _toc.yml")


def select(book: Book, names: list[str]) -> list[Page]:
    """The chapters asked for, by name; all of them if none is named."""
    pages = {page.docname.rpartition("/")[2]: page for page in book.notebooks()}
    if unknown := [name for name in names if name not in pages]:
        raise ValueError(f"no chapter {unknown[0]!r}; there are {', '.join(pages) or 'none'}")
    return [pages[name] for name in names] if names else list(pages.values())


def report(book: Book, pages: list[Page]) -> int:
    """Prints what is wrong and how much is checked; the number of failures."""
    problems = [problem for page in pages for problem in check(book, page)]
    problems += list(orphans(book))
    problems += [Problem("labels", f"{label} is used twice") for label in book.duplicates]
    for problem in problems:
        print(f"{'warning' if problem.is_warning else 'FAILED '} {problem.name}: {problem.text}")
    for page in pages:
        if path_of(book, page).exists():
            cells = code_cells(nbformat.read(path_of(book, page), 4))
            text = [cell for cell in cells if prints(cell)]
            checked = sum(TAG in tags(cell) for cell in text)
            pictures = sum(
                any(is_picture(o.get("data", {})) for o in cell.outputs) for cell in cells
            )
            print(
                f"{page.docname}: {len(cells)} code cells, {checked} of {len(text)} text outputs compared, "
                f"{pictures} pictures"
            )
    failures = sum(not problem.is_warning for problem in problems)
    print(
        f"{len(pages)} notebooks checked, {failures} failures, {len(problems) - failures} warnings"
    )
    return failures


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="tools/notebooks.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=["run", "sync", "check", "preview"])
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="chapters such as 01_autoencoders; all if none is named",
    )
    parser.add_argument(
        "--root", type=Path, default=Path(__file__).resolve().parents[1], help="the book's folder"
    )
    options = parser.parse_args(arguments)
    try:
        book = Book(options.root)
        pages = select(book, options.names)
        if options.command == "check":
            return min(report(book, pages), 1)
        for page in pages:
            if options.command == "run":
                print(f"{page.docname}: running", flush=True)
                seconds = run(book, page)
                size = path_of(book, page).stat().st_size
                print(f"{page.docname}: {seconds:.0f} s, {size / 1e6:.2f} MB")
            elif options.command == "sync":
                sync(book, page)
                print(f"{page.docname}: in step")
            else:
                print(
                    "\n\n".join(
                        cell.source
                        for cell in fresh(book, page).cells
                        if cell.cell_type == "markdown"
                    )
                )
    except (ValueError, CellExecutionError) as error:
        print(re.sub(r"\x1b\[[0-9;]*m", "", str(error)), file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
