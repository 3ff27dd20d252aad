"""A kernel that dies before it answers, as one whose port another process has taken, is started once more."""

import sys

import nbformat
import nbval.kernel
import pytest
from jupyter_client.provisioning import local_provisioner

from bookkit.authoring import kernels
from bookkit.authoring.kernels import execute

ways = pytest.mark.parametrize("by_nbval", [False, True])


@pytest.fixture
def stillborn(monkeypatch):
    """Lets the next kernels end at once, and counts those that were started."""
    launch, started = local_provisioner.launch_kernel, []

    def instead(cmd, **options):
        started.append(cmd)
        return launch(
            [sys.executable, "-c", ""] if len(started) <= instead.deaths else cmd, **options
        )

    instead.deaths, instead.started = 1, started
    monkeypatch.setattr(nbval.kernel, "start_new_kernel", nbval.kernel.start_new_kernel)
    monkeypatch.setattr(local_provisioner, "launch_kernel", instead)
    kernels.pytest_configure()
    return instead


def answer(by_nbval, notebook):
    """What the one cell prints."""
    if not by_nbval:
        return execute(notebook).cells[0].outputs[0].text
    kernel = nbval.kernel.RunningKernel("python3")
    try:
        kernel.execute_cell_input(notebook.cells[0].source)
        while (message := kernel.get_message("iopub", timeout=60))["msg_type"] != "stream":
            pass
        return message["content"]["text"]
    finally:
        kernel.stop()


@pytest.fixture
def notebook():
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print(6 * 7)")])


@ways
def test_another_is_started(by_nbval, stillborn, notebook):
    assert answer(by_nbval, notebook) == "42\n"
    assert len(stillborn.started) == 2


@ways
def test_a_second_death_is_an_error(by_nbval, stillborn, notebook):
    stillborn.deaths = 2
    with pytest.raises(RuntimeError, match="Kernel died before replying"):
        answer(by_nbval, notebook)
    assert len(stillborn.started) == 2


def test_what_a_cell_raises_is_raised_at_once(stillborn):
    stillborn.deaths = 0
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("raise RuntimeError(1)")])
    with pytest.raises(Exception, match="RuntimeError"):
        execute(notebook)
    assert len(stillborn.started) == 1
