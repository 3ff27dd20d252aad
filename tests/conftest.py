"""What all tests share: the checkout on the path, annotations checked at run time, a fixed seed, one line for skips."""

from __future__ import annotations

import contextlib
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault(
    "MPLBACKEND", "Agg"
)  # before anything imports matplotlib: no test opens a window
os.environ.setdefault("TQDM_DISABLE", "1")

import pytest
import torch
from jaxtyping import config as jaxtyping_config
from jaxtyping import install_import_hook

TESTS = Path(__file__).resolve().parent
sys.path[:0] = [
    str(TESTS.parent),
    str(TESTS),
]  # so that tests can import `tools`, and the hook `typecheck`

from tools import pretended  # noqa: E402 - found by the line above

# A device without hardware. Autograd counts the devices before its first backward pass.
pretended.register()

# Every annotation of the package, shapes included, is checked at each call while the tests run.
install_import_hook("companion", "typecheck.checker")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--shuffle SEED` runs the tests in another order, the same in every worker."""
    parser.addoption("--shuffle", type=int, metavar="SEED", help="run the tests in a random order")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The order that `--shuffle` asks for."""
    if (seed := config.getoption("--shuffle")) is not None:
        random.Random(seed).shuffle(items)


def pytest_configure(config: pytest.Config) -> None:
    """A deprecated call made by the package is an error: the next release of a library must find none."""
    for category in ("DeprecationWarning", "PendingDeprecationWarning", "FutureWarning"):
        config.addinivalue_line("filterwarnings", rf"error::{category}:companion(\..*)?")


expecting = pytest.raises


@contextlib.contextmanager
def raises(*args: Any, **kwargs: Any) -> Iterator[Any]:
    """`pytest.raises` without the check of annotations: bad input must be refused by the package's own sentence."""
    with expecting(*args, **kwargs) as error:
        jaxtyping_config.update("jaxtyping_disable", True)
        try:
            yield error
        finally:
            jaxtyping_config.update("jaxtyping_disable", False)


pytest.raises = raises  # type: ignore[assignment]


@pytest.fixture(autouse=True)
def seed() -> Iterator[None]:
    """Each test starts from the same random state, so that its result does not depend on which tests ran before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Without the check of annotations, which takes most of the time of a thousand small steps."""
    jaxtyping_config.update("jaxtyping_disable", True)
    yield
    jaxtyping_config.update("jaxtyping_disable", False)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say why tests were skipped, even where the report of skips is off: a skipped browser must not pass unnoticed."""
    if not set("sSaA") & set(config.option.reportchars):
        skipped = terminalreporter.stats.get("skipped", [])
        for reason in sorted(
            {str(report.longrepr[2]) for report in skipped if isinstance(report.longrepr, tuple)}
        ):
            terminalreporter.write_line(f"skipped: {reason.removeprefix('Skipped: ')}")
