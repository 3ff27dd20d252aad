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
# Threads that wait for each other sleep; where there are more of them than cores, spinning takes most of the time.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest

TESTS = Path(__file__).resolve().parent
sys.path[:0] = [
    str(TESTS.parent),
    str(TESTS),
]  # so that tests can import `bookkit`, and the hook `typecheck`


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
    if not config.getoption(
        "numprocesses", None
    ):  # a process that hands the tests to others runs none
        prepare()


def prepare() -> None:
    """What has to stand before a test imports the package."""
    from jaxtyping import install_import_hook

    from bookkit.quality import fake_gpu

    fake_gpu.register()  # a device without hardware: autograd counts the devices before its first backward pass
    # Every annotation of the package, shapes included, is checked at each call while the tests run.
    install_import_hook("companion", "typecheck.checker")


def check_annotations(on: bool) -> None:
    """Whether annotations are checked from here on."""
    from jaxtyping import config

    config.update("jaxtyping_disable", not on)


expecting = pytest.raises


@contextlib.contextmanager
def raises(*args: Any, **kwargs: Any) -> Iterator[Any]:
    """`pytest.raises` without the check of annotations: bad input must be refused by the package's own sentence."""
    with expecting(*args, **kwargs) as error:
        check_annotations(False)
        try:
            yield error
        finally:
            check_annotations(True)


pytest.raises = raises  # type: ignore[assignment]


@pytest.fixture(autouse=True)
def seed() -> Iterator[None]:
    """Each test starts from the same random state, so that its result does not depend on which tests ran before."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Without the check of annotations, which takes most of the time of a thousand small steps."""
    check_annotations(False)
    yield
    check_annotations(True)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say why tests were skipped, even where the report of skips is off: a skipped browser must not pass unnoticed."""
    if not set("sSaA") & set(config.option.reportchars):
        skipped = terminalreporter.stats.get("skipped", [])
        for reason in sorted(
            {str(report.longrepr[2]) for report in skipped if isinstance(report.longrepr, tuple)}
        ):
            terminalreporter.write_line(f"skipped: {reason.removeprefix('Skipped: ')}")
