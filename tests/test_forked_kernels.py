"""Tests of forked kernels: they start as ordinary ones do, and end when they are told to."""

import json
import os
import sys
import time

import nbval.kernel
import pytest
from jupyter_client.manager import KernelManager
from jupyter_client.provisioning import local_provisioner

from bookkit.quality import forked_kernels

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kernels are forked on Linux only")

LOOK = """
seen = sorted(globals())
import json, os, random, sys
loaded, main = "companion" in sys.modules, vars(sys.modules["__main__"]) is globals()
import matplotlib.pyplot as plt, numpy, torch
same = [seen, loaded, main, os.getcwd(), sys.path, str(sys.flags), plt.get_backend()]
same += [sorted(os.environ), os.getpgid(0) == os.getpid(), int(os.environ["JPY_PARENT_PID"]) == os.getppid()]
own = [random.random(), numpy.random.rand(), torch.rand(()).item(), os.getpid()]
print(json.dumps([same, own]))
"""


class Kernel:
    def __init__(self, folder):
        self.manager = KernelManager()
        self.manager.start_kernel(cwd=str(folder))
        self.process = self.manager.provisioner.process
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=300)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

    def run(self, code):
        """What a cell sends, and how it ends."""
        said = []  # after an error a kernel refuses what it has already received, unless it is told not to
        end = self.client.execute_interactive(
            code, output_hook=said.append, timeout=300, stop_on_error=False
        )
        return [message["content"] for message in said], end["content"]


@pytest.fixture
def launcher(monkeypatch):
    """Makes the kernels forks of a process with few libraries, if the test does not put more into the list."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # else numpy starts threads when it is imported
    monkeypatch.delenv("MPLBACKEND")  # what tests draw with is no kernel's
    launcher = forked_kernels.Launcher(local_provisioner.launch_kernel, ["ipykernel.kernelapp"])
    monkeypatch.setattr(local_provisioner, "launch_kernel", launcher)
    yield launcher
    launcher.close()


def is_gone(pid):
    """Whether a process ends within half a minute."""
    for _ in range(300):
        if not os.path.exists(f"/proc/{pid}"):
            return True
        time.sleep(0.1)
    return False


def test_a_fork_starts_as_an_ordinary_kernel_does(launcher, tmp_path, monkeypatch):
    monkeypatch.setattr(forked_kernels, "FORKS", launcher)
    monkeypatch.setattr(nbval.kernel, "start_new_kernel", nbval.kernel.start_new_kernel)
    launcher.libraries, seen = forked_kernels.LIBRARIES, []
    local_provisioner.launch_kernel = launcher.ordinary
    for number in range(3):
        if number == 1:
            forked_kernels.pytest_configure()
        with Kernel(tmp_path) as kernel:
            assert isinstance(kernel.process, forked_kernels.Fork) == (number > 0)
            said, _ = kernel.run(LOOK)
            same, own = json.loads("".join(content.get("text", "") for content in said))
            seen.append((same, own))
            said, _ = kernel.run("plt.plot([1, 2])\nplt.show()")
            assert sum("image/png" in content.get("data", {}) for content in said) == 1
        assert is_gone(own[-1]) and own[-1] == kernel.process.pid
    assert seen[0][0] == seen[1][0] == seen[2][0]
    assert "torch" not in seen[0][0][0] and seen[0][0][1] is False
    for values in zip(*(own for _, own in seen)):
        assert len(set(values)) == 3


def test_what_a_chapter_forgets_to_import_and_what_another_one_has_are_unknown(launcher, tmp_path):
    launcher.libraries.append("numpy")
    with Kernel(tmp_path) as first, Kernel(tmp_path) as second:
        assert first.run("import numpy\nnumpy.found = found = 1")[1]["status"] == "ok"
        for code in ("numpy.pi", "found"):
            assert second.run(code)[1]["ename"] == "NameError"
        assert second.run("import numpy\nnumpy.found")[1]["ename"] == "AttributeError"


def test_a_fork_can_be_interrupted_and_killed_with_its_own_processes(launcher, tmp_path):
    with Kernel(tmp_path) as kernel:
        forever = "import time\nprint(1)\nwhile True: time.sleep(0.01)"
        number = kernel.client.execute(forever, stop_on_error=False)
        while kernel.client.get_iopub_msg(timeout=60)["msg_type"] != "stream":
            pass
        kernel.manager.interrupt_kernel()
        while (reply := kernel.client.get_shell_msg(timeout=60))["parent_header"][
            "msg_id"
        ] != number:
            pass
        assert reply["content"]["ename"] == "KeyboardInterrupt"
        said, _ = kernel.run(
            "import signal, subprocess\nprint(subprocess.Popen(['sleep', '1000']).pid)\n"
            "_ = signal.signal(signal.SIGINT, signal.SIG_IGN), signal.signal(signal.SIGTERM, signal.SIG_IGN)"
        )
        child = int("".join(content.get("text", "") for content in said))
        assert os.path.exists(f"/proc/{child}")
    assert is_gone(kernel.process.pid) and is_gone(child)


def test_kernels_end_with_the_tests(launcher, tmp_path):
    with Kernel(tmp_path) as kernel:
        assert kernel.process.poll() is None
        launcher.close()
        assert kernel.process.wait() == 0


@pytest.mark.parametrize("library", ["no_such_library", "starts_a_thread", "ipykernel.kernelapp"])
def test_a_kernel_that_cannot_be_a_fork_is_an_ordinary_one(library, tmp_path, monkeypatch, capfd):
    text = "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()"
    (tmp_path / "starts_a_thread.py").write_text(text)
    launch = forked_kernels.Launcher(lambda cmd, **options: [cmd, options], [library])
    options = {"env": {**os.environ, "PYTHONPATH": str(tmp_path)}, "cwd": "."}
    cmd = [sys.executable, "-m", "ipykernel_launcher", "-f", "nowhere"]
    if library == "ipykernel.kernelapp":
        monkeypatch.setattr(sys, "platform", "another")
    try:
        for _ in range(2):
            assert launch(cmd, **options) == [cmd, options]
        cmd = [sys.executable, "-m", "other_kernel"]
        assert launch(cmd, **options) == [cmd, options]
    finally:
        launch.close()
    assert ("No module named" in capfd.readouterr().err) == (library == "no_such_library")
