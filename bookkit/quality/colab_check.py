"""Do the notebooks run as on Colab: each alone in an empty folder, the book's package installed by the set-up cell?

    python -m bookkit.quality.colab_check           in a fresh virtual environment that sees this one's libraries
    python -m bookkit.quality.colab_check --here    with this very Python: what the weekly run does inside Colab's image

The set-up cell gets this checkout as the address of the repository. A notebook of the built book keeps the commit that
it names, any other gets the last one: changes that are not committed are not seen.
It needs a package registry, for pip builds the package in an environment of its own.
What can be read from a notebook without running it is among the rules of `bookkit/authoring/notebooks.py check`.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from collections.abc import Sequence
from pathlib import Path

import nbformat
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from bookkit.authoring.setup_cell import git, setup_cell

ROOT = Path(__file__).resolve().parents[2]
WHERE = "import companion as _companion\nprint(_companion.__file__)"


def colab_like_python(folder: Path) -> Path:
    """A virtual environment with pip, which finds the libraries of the running Python but not its editable installs."""
    venv.create(folder, with_pip=True, upgrade_deps=True)  # Colab has a recent pip
    python = folder / "bin" / "python"
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout
    # A plain line in a .pth file adds the folder last, and does not follow the .pth files in it.
    Path(own.strip(), "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n", "utf8")
    return python


def execute(path: Path, python: Path) -> str:
    """Runs a notebook in an empty folder with the given Python; returns where `companion` came from."""
    notebook = nbformat.read(path, 4)
    first = next(cell for cell in notebook.cells if cell.cell_type == "code")
    named = re.search(r"@([0-9a-f]{40})", first.source)
    commit = named[1] if named else git(ROOT, "rev-parse", "HEAD")
    first.source = setup_cell(path.stem, ROOT.as_uri(), commit)
    notebook.cells.append(nbformat.v4.new_code_cell(WHERE))
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment.setdefault("COLAB_RELEASE_TAG", "test")
    environment["TQDM_DISABLE"] = "1"
    kernel = AsyncKernelManager(kernel_name="python3")
    assert kernel.kernel_spec is not None
    kernel.kernel_spec.argv[0] = str(python)
    with tempfile.TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        client = NotebookClient(notebook, km=kernel, timeout=1800, resources=resources)
        client.execute(env=environment)
    return str(notebook.cells[-1].outputs[-1]["text"]).strip()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the number of notebooks that failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all of notebooks/*.ipynb")
    parser.add_argument(
        "--here", action="store_true", help="use this Python, and install the package into it"
    )
    options = parser.parse_args(arguments)
    paths = options.notebooks or sorted((ROOT / "notebooks").glob("*.ipynb"))
    failed = 0
    with tempfile.TemporaryDirectory() as top:
        python = Path(sys.executable) if options.here else colab_like_python(Path(top, "venv"))
        for path in paths:
            start, problem = time.perf_counter(), ""
            try:
                where = execute(path, python)
                if Path(where).is_relative_to(ROOT) and not options.here:
                    problem = f"companion came from the checkout ({where}), not from the package"
            except CellExecutionError as error:
                problem = str(error)
            failed += bool(problem)
            state, seconds = "failed" if problem else "ok", time.perf_counter() - start
            print(f"{state}: {path.name}, {seconds:.0f} s", problem, flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(min(main(), 100))
