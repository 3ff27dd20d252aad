"""Compare stored outputs about MNIST only where MNIST is.

The fallback digits give other figures, so these cells only run there. A cell says so by
the tag `mnist` beside `nbval-check-output`; what was left out is counted at the end.
Pictures are compared nowhere, drawn in pixels or in lines: another machine may round a line otherwise.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from companion import data

LEFT_OUT = pytest.StashKey[int]()
SECONDS = json.loads(Path(__file__).parents[1].joinpath("book/data/seconds.json").read_text())


def pytest_collection_modifyitems(config: pytest.Config, items: list[Any]) -> None:
    """Long chapters first, so that no process waits for one at the end; `mnist` compared on MNIST only."""
    items.sort(key=lambda item: -SECONDS.get(item.path.stem, 0))
    for file in {item.parent for item in items if hasattr(item.parent, "skip_compare")}:
        file.skip_compare = (*file.skip_compare, "image/svg+xml")
    config.stash[LEFT_OUT] = 0
    if data.load("mnist", "test").name == "mnist":
        return
    for item in items:
        if "mnist" in getattr(getattr(item, "cell", None), "metadata", {}).get("tags", []):
            item.options["check"] = False
            config.stash[LEFT_OUT] += 1


def pytest_sessionfinish(session: Any) -> None:
    """Tell the process that started this one; both workers collect, and so count, all cells."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left out"] = session.config.stash[LEFT_OUT]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: Any) -> None:
    """Hear it from a worker."""
    node.config.stash[LEFT_OUT] = getattr(node, "workeroutput", {}).get("left out", 0)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say how many comparisons were left out."""
    if number := config.stash.get(LEFT_OUT, 0):
        terminalreporter.write_line(f"no MNIST here: {number} cells ran without comparison")
