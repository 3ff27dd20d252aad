"""Do the chapters run on a device that is not the CPU? Nobody has to own one.

    python -m bookkit.quality.chapters_on_gpu 06_vae_training     these chapters, or all that use the reader's GPU
    python -m bookkit.quality.chapters_on_gpu --own               on this machine's own device, at $COMPANION_SCALE

The code cells run one after the other on the device of `fake_gpu`, whose tensors refuse what CUDA refuses. A chapter
that forgets a move fails. One that does not prints what it prints on the CPU, so the output of each cell that is
compared at all is compared with the stored one.

What this cannot see stands in `fake_gpu`. With `--own` nothing is pretended: on a machine with a GPU the chapters run
there, and on one without COMPANION_SCALE=full shows what full scale prints.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import io
import linecache
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from itertools import zip_longest
from typing import Any
from unittest.mock import patch

import nbformat
import torch

from bookkit.authoring.chapter_rules import COMPARED, tags
from bookkit.authoring.labels import Book
from bookkit.authoring.notebooks import ROOT, path_of, select
from bookkit.authoring.setup_cell import ON_DEVICE
from bookkit.quality.fake_gpu import pretending, register
from companion import runtime


def run(name: str, code: str, names: dict[str, Any]) -> str:
    """Execute a cell as a notebook does, its last expression shown; return what it printed."""
    linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
    tree = ast.parse(code)
    last = tree.body[-1] if tree.body else None
    if isinstance(last, ast.Expr):
        tree.body.pop()
    with contextlib.redirect_stdout(io.StringIO()) as said:
        exec(compile(tree, name, "exec"), names)
        if isinstance(last, ast.Expr):
            shown(eval(compile(ast.Expression(last.value), name, "eval"), names))
    return said.getvalue()


def shown(value: object) -> None:
    """Draw the value of a cell in every way that a notebook asks for."""
    for way in ("_repr_mimebundle_", "_repr_png_", "_repr_html_"):
        if hasattr(value, way):
            getattr(value, way)()
    repr(value)


def failures(
    cells: Iterable[tuple[str, str, str | None]],
    there: Callable[[], AbstractContextManager[None]] = pretending,
) -> Iterator[str]:
    """What goes wrong when cells are run on the pretended device, one after the other, or on another.

    Each has a name, its code, and what it prints on the CPU; None where that is not compared.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    # `show` prints, but not in a notebook.
    with there(), patch("companion.page.show._display"):
        for name, code, expected in cells:
            try:
                said = run(name, code, names)
            except Exception as error:
                frames = traceback.extract_tb(error.__traceback__)
                inside = [f for f in frames if "companion" in f.filename or f.filename == name]
                where = "".join(f"\n    {f.filename}:{f.lineno}: {f.line}" for f in inside)
                yield f"{name}: {type(error).__name__}: {error}{where}"
                continue
            if expected is not None and said != expected:
                lines = zip_longest(said.splitlines(), expected.splitlines(), fillvalue="")
                differ = [f"\n    here: {a}\n    CPU:  {b}" for a, b in lines if a != b]
                yield f"{name}: prints something else{''.join(differ)}"
        if torch.get_default_device().type != runtime.device().type:
            yield "nothing lies on the device; the first cell must call use_device"


def chapter(book: Book, name: str) -> Iterator[tuple[str, str, str | None]]:
    """The code cells of a chapter, with the stored output where it is compared."""
    from companion.data import find

    (page,) = select(book, [name])
    stored = nbformat.read(path_of(book, page), 4)
    for number, cell in enumerate(stored.cells):
        if cell.cell_type != "code":
            continue
        expected = None
        if COMPARED in tags(cell) and ("mnist" not in tags(cell) or find("mnist") is not None):
            streams = [o for o in cell.outputs if o.output_type == "stream"]
            expected = "".join(o.text for o in streams) or None
        yield f"{name}, cell {number}", cell.source, expected


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns 1 if a chapter fails."""
    parser = argparse.ArgumentParser(
        prog="python -m bookkit.quality.chapters_on_gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="such as 06_vae_training")
    parser.add_argument("--own", action="store_true", help="pretend nothing")
    options = parser.parse_args(arguments)
    there = contextlib.nullcontext if options.own else pretending
    if not options.own:
        register()  # before anything else asks torch for its devices
    book, failed = Book(ROOT), 0
    for name in options.names or ON_DEVICE:
        found = 0
        for text in failures(chapter(book, name), there):
            found += 1
            print(text, flush=True)
        print(f"{name}: {found} failures", flush=True)
        failed += found
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
