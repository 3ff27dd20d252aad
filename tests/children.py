"""Processes of the tests that start with torch in memory: a script runs as by `python -c`, two seconds earlier.

The standard library's server of forks imports once what every training needs; each script then runs in a fork of it.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

FORKS = multiprocessing.get_context("forkserver")
# What a training imports by itself, late or early; `companion` comes without the check of annotations, as in a shell.
FORKS.set_forkserver_preload(
    ["torch._dynamo", "accelerate", "sklearn.datasets", "companion.__main__", "companion.zoo"]
)


def _run(code: str, arguments: list[str], environment: dict[str, str], said: str) -> None:
    for number, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{said}/{name}", os.O_WRONLY | os.O_CREAT), number)
    sys.stdout, sys.stderr = os.fdopen(1, "w", 1), os.fdopen(2, "w", 1)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["-c", *arguments]
    exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})


class Child:
    """A script in a process of its own, from its start to its end."""

    def __init__(self, code: str, *arguments: Any, env: Mapping[str, str] = os.environ) -> None:
        self.folder = TemporaryDirectory()
        options = (code, [str(value) for value in arguments], dict(env), self.folder.name)
        self.process = FORKS.Process(target=_run, args=options)
        self.process.start()

    def said(self, name: str = "out") -> str:
        """What it has printed up to now, or its errors."""
        path = Path(self.folder.name, name)
        return path.read_text("utf8") if path.exists() else ""

    def wait(self) -> tuple[int | None, str, str]:
        """Its exit code, what it printed, and its errors."""
        self.process.join()
        said = self.said(), self.said("err")
        self.folder.cleanup()
        return self.process.exitcode, *said
