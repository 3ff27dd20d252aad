"""Unfinished trainings that can be resumed: everything that changes during one, in a file with a checksum.

What `torch.save` writes is read with `weights_only=True`, which runs no code; torch itself does
not notice an altered byte, so a SHA-256 stands in front.
"""

import hashlib
import io
import pickle
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from companion import checks, runtime
from companion.zoo.processes import GOES_ON, Processes
from companion.zoo.weights import check_architecture, path_of, write_files

Setting = str | int | float | None


def save_run(path: Path | str, settings: Mapping[str, Setting] | None = None, **parts: Any) -> None:
    """Write the state of a run between two steps, so that `load_run` continues it as if it had never stopped.

    The parts are everything that changes during the run and has a `state_dict`: `model=model, optimizer=optimizer`.
    The settings describe it, such as its learning rate. The state of torch's random numbers is stored too.

    Raises:
        TypeError: if a part's state holds what cannot be read again without running code.
        OSError: if the file cannot be written; the previous one stays.
    """
    path, buffer = path_of(path=path), io.BytesIO()
    try:
        states = {name: part.state_dict() for name, part in parts.items()}
        state = {"settings": dict(settings or {}), "parts": states, **random_state()}
        torch.save(state, buffer)
        _unpack(buffer.getvalue())
    except (pickle.PickleError, AttributeError, TypeError) as error:
        raise TypeError(
            "the parts of a run must have states of tensors, numbers, strings, None, lists, tuples and dicts, "
            f"of which its settings are, too; the parts {', '.join(parts)} were given"
        ) from error
    blob = buffer.getvalue()
    write_files({path: hashlib.sha256(blob).digest() + blob})


def load_run(
    path: Path | str, settings: Mapping[str, Setting] | None = None, **parts: Any
) -> dict[str, Any]:
    """Restore the parts that `save_run` wrote and torch's random numbers, and give all settings that were saved.

    On the same kind of CPU the run then continues bit for bit. One saved on CUDA can be continued elsewhere, with other
    random numbers.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, was saved with other settings, holds other parts, or holds a model that is
            built differently; nothing is restored then.
    """
    path, settings = path_of(path=path), {} if settings is None else settings
    checks.instance(Mapping, settings=settings)
    state = _read(path)
    for name, given in settings.items():
        if state["settings"].get(name) != given:
            raise ValueError(
                f"{path} must be continued with the {name} it was begun with, "
                f"{state['settings'].get(name)}; it is {given} now"
            )
    stored = state["parts"]
    if set(stored) != set(parts):
        raise ValueError(f"{path} holds the parts {sorted(stored)}; {sorted(parts)} were given")
    for name, part in parts.items():
        if isinstance(part, nn.Module):
            check_architecture(f"the part {name!r} of {path}", stored[name], part)
    for name, part in parts.items():
        part.load_state_dict(stored[name])
    set_random_state(state)
    return state["settings"]


def random_state() -> dict[str, Any]:
    """The state of torch's random numbers on the CPU, and on this process's CUDA device if it is in use."""
    in_use = torch.cuda.is_available() and torch.cuda.is_initialized()
    return {"cpu": torch.get_rng_state(), "cuda": [torch.cuda.get_rng_state()] if in_use else []}


def set_random_state(state: Mapping[str, Any]) -> None:
    """Restore what `random_state` gave; that of CUDA where there is such a device."""
    torch.set_rng_state(state["cpu"])
    for random in state["cuda"][:1] if torch.cuda.is_available() else ():
        torch.cuda.set_rng_state(random)


def at_once(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call the function: what a `Journal` does that keeps nothing."""
    return function(*arguments)


class Saved:
    """A long computation that the first of several processes saves to a file now and then, and that goes on from it.

    Without a path nothing is saved. The settings are what the results depend on, the parts all that changes, as for
    `save_run`. Two savings are `save_every` seconds apart.
    """

    def __init__(
        self,
        path: Path | None,
        settings: Mapping[str, Setting],
        processes: Processes,
        save_every: float,
        **parts: Any,
    ) -> None:
        self.path, self.settings, self.processes = path, dict(settings), processes
        self.save_every, self.parts, self.commit = save_every, parts, runtime.commit()
        self.begun = self.saved = time.monotonic()

    @property
    def minutes(self) -> float:
        """What it took, as if it had not been stopped."""
        return (time.monotonic() - self.begun) / 60

    def go_on(self) -> dict[str, Any]:
        """Restore what the file holds, and give its settings."""
        assert self.path is not None
        found = load_run(self.path, self.settings, **self.parts)
        self.begun -= 60 * found["minutes"]
        return found

    def keep(self, stop: bool, done: str, now: bool = False) -> None:
        """Save if that is due, or wanted now; to stop is to raise a KeyboardInterrupt that says what is done."""
        late = time.monotonic() - self.saved >= self.save_every
        if self.path is not None and self.processes.rank == 0 and (stop or now or late):
            more: dict[str, Setting] = {"commit": self.commit, "minutes": self.minutes}
            save_run(self.path, self.settings | more, **self.parts)
            self.saved = time.monotonic()
        if stop:
            raise KeyboardInterrupt(f"{done}; {GOES_ON}" if self.path else "")

    def close(self) -> None:
        """Delete the file, when what is made of the results has been written."""
        if self.path is not None and self.processes.rank == 0:
            remove_run(self.path)


class Journal(Saved):
    """The results of a long computation's parts, which is stopped and goes on: no part is computed twice.

    `journal(function, *batch)` calls the function, or gives what the same call returned before the stop. Several
    processes share its rows. The calls come in the same order each time. Random numbers after those that are skipped
    are as if they had been made.

    Raises:
        ValueError: if the file is there and `resume` is not set, or the other way round, or its settings differ.
    """

    def __init__(
        self,
        path: Path | None,
        settings: Mapping[str, Setting],
        processes: Processes,
        resume: bool = False,
        save_every: float = 60.0,
    ) -> None:
        super().__init__(path, settings, processes, save_every, journal=self)
        self.results: list[Tensor] = []
        self.next, self.after = 0, random_state()
        if resume and (path is None or not path.exists()):
            missing = "there is none without out" if path is None else f"there is no {path}"
            raise ValueError(f"resume needs an unfinished computation; {missing}")
        if path is not None and path.exists():
            if not resume:
                raise ValueError(f"{path} is unfinished; continue it with --resume, or delete it")
            before = random_state()
            self.go_on()
            self.after = random_state()
            set_random_state(before)
        processes.agree(0.0, stop=False)  # all have looked for the file

    def __call__(self, function: Callable[..., Tensor], *batch: Tensor) -> Tensor:
        """What the function returns, a value or more for each row of the batch; Ctrl-C and SIGTERM wait for it."""
        self.next += 1
        if self.next <= len(self.results):
            if self.next == len(self.results):
                set_random_state(self.after)
            return self.results[self.next - 1]
        with signals() as received:
            self.results.append(self.processes.whole(function, *batch))
            _, stop = self.processes.agree(0.0, bool(received))
            self.keep(stop, f"stopped after part {self.next}")
        return self.results[-1]

    def state_dict(self) -> dict[str, Any]:
        """The results so far."""
        return {"results": self.results}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the results."""
        self.results = state["results"]


@contextmanager
def signals() -> Iterator[list[int]]:
    """Collect Ctrl-C and SIGTERM, so that a step is finished and saved first; a second one ends at once."""
    received: list[int] = []

    def note(number: int, frame: object) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    # Only the main thread may handle signals.
    mine = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM) if mine else ()
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def remove_run(path: Path) -> None:
    """Delete what `save_run` wrote, and what a writer that was killed may have left beside it."""
    path = path_of(path=path)
    path.unlink(missing_ok=True)
    path.with_name(f".{path.name}.tmp").unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"path must be a file that save_run wrote; {path} {what}")
    content = path.read_bytes()
    digest, blob = content[:32], content[32:]
    if hashlib.sha256(blob).digest() != digest:
        raise ValueError(
            f"path must be an undamaged file that save_run wrote; the checksum of {path} does not match its content"
        )
    held = {"settings": dict, "parts": dict, "cpu": torch.ByteTensor, "cuda": list}
    try:
        checks.instance(dict, state=(state := _unpack(blob)))
        for key, kind in held.items():
            checks.instance(kind, state=state[key])
    except Exception as error:  # of what else it may hold, torch says many things
        raise ValueError(
            f"path must be an undamaged file that save_run wrote; {path} is none"
        ) from error
    return state


def _unpack(blob: bytes) -> Any:
    return torch.load(io.BytesIO(blob), map_location="cpu", weights_only=True)
