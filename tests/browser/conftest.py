"""One browser for all browser tests, one open page for all tests of a page."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import harness
import pytest

if harness.find_browser() is None:  # one line says so: that of test_site.py
    collect_ignore = ["test_harness.py"]


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of a file share pages and models: all without a group of their own go to one process."""
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    home = str(
        tmp_path_factory.mktemp("browser")
    )  # Chromium leaves settings behind, but not in the reader's home
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=harness.find_browser(),
            args=harness.LAUNCH_ARGUMENTS,
            env={**os.environ, "XDG_CONFIG_HOME": home, "XDG_CACHE_HOME": home},
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def context(browser: Any) -> Iterator[Any]:
    context = browser.new_context(viewport=harness.WIDE, color_scheme="light")
    context.set_default_timeout(harness.PATIENCE)
    context.add_init_script(path=harness.CHECKS)
    yield context
    context.close()


@pytest.fixture(scope="session")
def base() -> Iterator[str]:
    """The address of the built book, served below a sub-path as on a project's public pages."""
    with harness.serve(harness.SITE, "/some/book/") as address:
        yield address


@pytest.fixture(scope="session")
def tab(context: Any) -> Iterator[Any]:
    page = context.new_page()
    yield page
    page.close()


@pytest.fixture(scope="module")
def visit(request: pytest.FixtureRequest, tab: Any, base: str) -> harness.Visit:
    """The page named by the parameter, opened once and shared by all tests of that page.

    All are opened in one tab: a tab for each costs a process for each, which compiles all scripts anew.
    """
    tab.goto("about:blank")  # what the page before still asks for is none of this one's
    tab.set_viewport_size(harness.WIDE)
    tab.context.new_cdp_session(tab).send("Network.clearBrowserCache")  # a first visit loads all
    visit = harness.Visit(tab, base)
    visit.open(request.param)
    return visit


@pytest.fixture
def fresh(context: Any, base: str) -> Iterator[harness.Visit]:
    """A page of its own for a test that leaves where it started."""
    visit = harness.Visit(context.new_page(), base)
    yield visit
    visit.page.close()


@pytest.fixture
def wake(context: Any, base: str) -> Iterator[harness.Wake]:
    """A function that opens the page of an instrument and wakes it: `figure = wake(label)`."""
    with contextlib.ExitStack() as stack:
        yield lambda label: stack.enter_context(harness.awake(context, base, label))
