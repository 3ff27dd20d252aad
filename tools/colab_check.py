"""Do the notebooks run as on Colab: each alone in an empty folder, the book's package installed by the set-up cell?

    python -m tools.colab_check                 in a fresh virtual environment that sees this one's libraries
    python -m tools.colab_check --here          with this very Python: what the weekly run does inside Colab's image
    python -m tools.colab_check --static        only reads the notebooks; executes nothing

pip clones the last commit of the checkout, so changes that are not committed are not seen.
It needs a package registry, for pip builds the package in an environment of its own.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from tools import cells

ROOT = Path(__file__).resolve().parents[1]
# Besides the standard library a notebook imports what Colab has, and ours.
ALLOWED = {"companion", "torch", "numpy", "matplotlib"}

WHERE = "import companion as _companion\nprint(_companion.__file__)"


# ------------------------------------------------------------------------------------------------ reading


def is_setup(cell: NotebookNode) -> bool:
    """Whether a cell is the one that installs the package on Colab."""
    return "setup" in cell.metadata.get("tags", [])


def import_problems(source: str) -> Iterator[str]:
    """Imports of a code cell that Colab may not have."""
    for node in ast.walk(cells.python(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "."]
        for name in names:
            top = name.split(".")[0]
            if top not in ALLOWED and top not in sys.stdlib_module_names:
                allowed = ", ".join(sorted(ALLOWED))
                yield f"imports {name}; a notebook imports only {allowed} and the standard library"


def problems(notebook: NotebookNode) -> list[str]:
    """Everything in a notebook that would not work, or look wrong, on Colab."""
    found = []
    for number, cell in enumerate(notebook.cells):
        reader = cells.leftovers if cell.cell_type == "markdown" else import_problems
        found += [f"cell {number}: {problem}" for problem in reader(cell.source)]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if not code or not is_setup(code[0]) or any(is_setup(cell) for cell in code[1:]):
        found.append("the first code cell, and no other, must be the set-up cell (tag: setup)")
    return found


# ------------------------------------------------------------------------------------------------ running


def colab_like_python(folder: Path) -> Path:
    """A virtual environment with pip, which finds the libraries of the running Python but not its editable installs."""
    venv.create(folder, with_pip=True, upgrade_deps=True)  # Colab has a recent pip
    python = folder / "bin" / "python"
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = subprocess.run(
        [python, "-c", code], check=True, capture_output=True, text=True
    ).stdout.strip()
    # A plain line in a .pth file adds the folder last, and does not follow the .pth files in it.
    (Path(own) / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n", "utf8")
    return python


def execute(path: Path, python: Path, repository: str, timeout: int) -> str:
    """Run a copy of the notebook, alone in an empty folder, with the given Python; returns where `companion` came from.

    Raises:
        RuntimeError: a cell failed; the message shows its error.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    with tempfile.TemporaryDirectory() as top:
        folder, jupyter = Path(top, "content"), Path(top, "jupyter")
        folder.mkdir()
        shutil.copy(path, folder)
        kernel = jupyter / "kernels" / "colab" / "kernel.json"
        kernel.parent.mkdir(parents=True)
        command = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        kernel.write_text(
            json.dumps({"argv": command, "display_name": "Colab", "language": "python"}), "utf8"
        )

        notebook = nbformat.read(folder / path.name, 4)
        notebook.cells.append(nbformat.v4.new_code_cell(WHERE))
        environment = {
            k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")
        }
        environment |= {
            "COLAB_RELEASE_TAG": environment.get("COLAB_RELEASE_TAG", "test"),
            "COMPANION_REPOSITORY": repository,
            "TQDM_DISABLE": "1",
        }
        os.environ["JUPYTER_PATH"] = str(jupyter)
        client = NotebookClient(
            notebook,
            timeout=timeout,
            kernel_name="colab",
            resources={"metadata": {"path": str(folder)}},
        )
        try:
            client.execute(env=environment)
        except CellExecutionError as error:
            raise RuntimeError(str(error)) from error
        return str(notebook.cells[-1].outputs[-1]["text"]).strip()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the number of notebooks with a problem."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all of notebooks/*.ipynb")
    parser.add_argument(
        "--here", action="store_true", help="use this Python, and install the package into it"
    )
    parser.add_argument("--static", action="store_true", help="execute nothing")
    parser.add_argument(
        "--repository", default=ROOT.as_uri(), help="what the set-up cell installs from"
    )
    parser.add_argument("--timeout", type=int, default=1800, help="seconds per cell")
    options = parser.parse_args(arguments)
    paths = options.notebooks or sorted((ROOT / "notebooks").glob("*.ipynb"))
    if not paths:
        parser.error("there is no notebook in notebooks/")

    failed = 0
    with tempfile.TemporaryDirectory() as top:
        python = (
            Path(sys.executable)
            if options.here or options.static
            else colab_like_python(Path(top, "venv"))
        )
        for path in paths:
            start = time.perf_counter()
            found = problems(nbformat.read(path, 4))
            if not found and not options.static:
                try:
                    where = execute(path, python, options.repository, options.timeout)
                    if Path(where).is_relative_to(ROOT) and not options.here:
                        found = [
                            f"companion was imported from the checkout ({where}), not from the installed package"
                        ]
                except RuntimeError as error:
                    found = [str(error)]
            failed += bool(found)
            print(
                f"{'failed' if found else 'ok'}: {path.name}, {time.perf_counter() - start:.0f} s",
                flush=True,
            )
            for problem in found:
                print("   ", problem)
    return failed


if __name__ == "__main__":
    sys.exit(min(main(), 100))
