"""Kernels for notebooks that run from beginning to end; a plugin of pytest for `make notebooks`."""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from nbclient import NotebookClient
from nbformat import NotebookNode

T = TypeVar("T")


def again_if_stillborn(start: Callable[[], T]) -> T:
    """Calls `start` again if the kernel died before it answered, which is before it ran anything.

    jupyter_client chooses the ports of a kernel before the kernel takes them; where several start at a time, another
    may have one of them by then. A second death is an error.
    """
    try:
        return start()
    except RuntimeError as error:
        if "Kernel died before replying" not in str(error):
            raise
    return start()


def execute(
    notebook: NotebookNode, *, environment: Mapping[str, str] = os.environ, **options: Any
) -> NotebookNode:
    """Executes the notebook, in place, in a fresh kernel; `options` are NotebookClient's."""
    chosen: dict[str, Any] = {"timeout": 900, "kernel_name": "python3"} | options

    def run() -> NotebookNode:
        client = NotebookClient(notebook, **chosen)
        try:
            return client.execute(env=dict(environment))
        finally:
            # Where a kernel was stillborn, nbclient would look for it at the end of the process.
            atexit.unregister(client._cleanup_kernel)

    return again_if_stillborn(run)


def pytest_configure() -> None:
    """The kernels of nbval, too, are started again."""
    import nbval.kernel

    start = nbval.kernel.start_new_kernel
    nbval.kernel.start_new_kernel = lambda *a, **k: again_if_stillborn(lambda: start(*a, **k))
