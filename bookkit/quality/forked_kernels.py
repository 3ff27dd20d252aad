"""Kernels that start with the libraries in memory, for `make notebooks`: pytest -p bookkit.quality.forked_kernels.

To import torch and its like takes a kernel seconds. So one process, an ordinary interpreter, imports them, and every
kernel is a fork of it, with a folder, an empty namespace and random numbers of its own; the package is not among
what was imported. Where this cannot be done, the kernel is an ordinary one. What the notebooks store comes from
ordinary kernels in any case: `bookkit.authoring.notebooks run` knows nothing of this.
"""

import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from jupyter_client.provisioning import local_provisioner

LIBRARIES = (
    *("ipykernel.kernelapp", "matplotlib.pyplot", "torch._dynamo", "torchvision"),
    "sklearn.linear_model",
)


class Fork:
    """What jupyter_client asks of a kernel's `Popen`."""

    stdin = stdout = stderr = None

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def send_signal(self, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def poll(self) -> int | None:
        return None if os.path.exists(f"/proc/{self.pid}") else 0

    def wait(self) -> int:
        while self.poll() is None:
            time.sleep(0.01)
        return 0


class Launcher:
    """Stands in for `launch_kernel`; the process that is forked starts with the first kernel."""

    def __init__(self, ordinary: Any, libraries: Sequence[str]) -> None:
        self.ordinary, self.libraries = ordinary, libraries
        self.server: subprocess.Popen[str] | None = None

    def __call__(self, cmd: list[str], **options: Any) -> Any:
        python, (module, *arguments) = cmd[: cmd.index("-m")], cmd[cmd.index("-m") + 1 :]
        if sys.platform != "linux" or module != "ipykernel_launcher":
            return self.ordinary(cmd, **options)
        environment = dict(options["env"])
        if self.server is None:
            self.server = subprocess.Popen(
                [*python, __file__, *self.libraries],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                env=environment,
                text=True,
                start_new_session=True,  # Ctrl-C is pytest's, which then ends the kernels
            )
        pid = self.ask([arguments, environment, options.get("cwd")])
        return Fork(pid) if pid else self.ordinary(cmd, **options)

    def ask(self, request: list[Any]) -> int:
        """The number of a new kernel, or 0 if there is none."""
        assert self.server and self.server.stdin and self.server.stdout
        try:
            print(json.dumps(request), file=self.server.stdin, flush=True)
        except BrokenPipeError:
            return 0
        return int(self.server.stdout.readline() or 0)

    def close(self) -> None:
        """Kernels end with the process of which they are forks."""
        if self.server:
            self.server.communicate()


FORKS = Launcher(local_provisioner.launch_kernel, LIBRARIES)


def pytest_configure() -> None:
    local_provisioner.launch_kernel = FORKS  # type: ignore[assignment]
    # Not above: the process that is forked runs this file, and its kernels shall know neither.
    import nbval.kernel

    from bookkit.authoring.kernels import again_if_stillborn

    start = nbval.kernel.start_new_kernel
    nbval.kernel.start_new_kernel = lambda *a, **k: again_if_stillborn(lambda: start(*a, **k))


def pytest_unconfigure() -> None:
    FORKS.close()


def serve(libraries: list[str]) -> None:
    """Imports, then answers each line of standard input with the number of a new kernel."""
    del sys.path[0]  # the folder of this file: no kernel knows it
    # ipykernel and matplotlib read these when they are imported.
    os.environ["JPY_PARENT_PID"] = str(os.getpid())
    os.environ.setdefault("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    path = list(sys.path)
    for name in libraries:
        importlib.import_module(name)
    sys.path[:] = path  # torch 2.9 adds a folder of its own
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that nobody must wait for the kernels
    for line in sys.stdin:
        pid = 0
        if len(os.listdir("/proc/self/task")) == 1:  # a fork would stop all threads but this one
            if not (pid := os.fork()):
                become_a_kernel(*json.loads(line))
            os.setpgid(pid, pid)
        print(pid, flush=True)


def become_a_kernel(arguments: list[str], environment: dict[str, str], folder: str | None) -> None:
    """As `python -m ipykernel_launcher` in this folder; does not return."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for number in range(3):
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
        os.chdir(folder or ".")
        os.environ.clear()
        os.environ.update(environment, JPY_PARENT_PID=str(os.getppid()))
        # Without this all forks would draw the same; `random` takes care of itself.
        if "torch" in sys.modules:
            sys.modules["torch"].default_generator.seed()
            sys.modules["numpy"].random.seed()
        sys.argv = ["ipykernel_launcher", *arguments]
        runpy.run_module("ipykernel_launcher", run_name="__main__", alter_sys=True)
    finally:
        os._exit(0)


if __name__ == "__main__":
    serve(sys.argv[1:])
