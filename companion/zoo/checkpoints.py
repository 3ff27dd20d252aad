"""Unfinished trainings that can be resumed: everything that changes during one, in a file with a checksum.

What `torch.save` writes is read with `weights_only=True`, which runs no code; torch itself does
not notice an altered byte, so a SHA-256 stands in front.
"""

import hashlib
import io
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from companion.zoo.weights import check_architecture, write_files

Setting = str | int | float | None


@runtime_checkable
class Stateful(Protocol):
    """A part of a run: a model, an optimizer, the batches, an average of the weights, a learning-rate schedule."""

    def state_dict(self) -> Any:
        """The state, made of tensors, numbers, strings, None, and dicts, lists and tuples of them."""
        ...

    def load_state_dict(self, state_dict: Any, /) -> Any:
        """Restore what `state_dict` gave."""
        ...


def save_run(
    path: Path | str, settings: Mapping[str, Setting] | None = None, **parts: Stateful
) -> None:
    """Write the state of a run between two steps, so that `load_run` continues it as if it had never stopped.

    The parts are everything that changes during the run, `model=model, optimizer=optimizer, batches=batches`, and the
    settings describe it, such as its learning rate. The state of torch's random numbers, on CPU and CUDA, is stored
    too. The file's folder is created. If writing fails, the previous file stays.

    Raises:
        TypeError: if a part's state holds what cannot be read again without running code.
        OSError: if the file cannot be written.
    """
    in_use = torch.cuda.is_available() and torch.cuda.is_initialized()
    state = {
        "settings": dict(settings or {}),
        "parts": {name: part.state_dict() for name, part in parts.items()},
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if in_use else [],
    }
    buffer = io.BytesIO()
    try:
        torch.save(state, buffer)
        _unpack(buffer.getvalue())
    except (pickle.PickleError, AttributeError, TypeError) as error:
        raise TypeError(
            "the parts of a run must have states of tensors, numbers, strings, None, lists, tuples and dicts; "
            f"{' '.join(str(error).split())[:200]}"
        ) from error
    blob = buffer.getvalue()
    write_files({Path(path): hashlib.sha256(blob).digest() + blob})


def load_run(
    path: Path | str, settings: Mapping[str, Setting] | None = None, **parts: Stateful
) -> dict[str, Any]:
    """Restore the parts that `save_run` wrote, and torch's random numbers.

    On the same kind of CPU the run then continues bit for bit. One saved on CUDA can be continued elsewhere, with other
    random numbers.

    Returns:
        All settings that were saved; those in `settings` must be among them.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, was saved with other settings, holds other parts, or holds a model that is
            built differently; nothing is restored then.
    """
    state = _read(Path(path))
    for name, given in (settings or {}).items():
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
    torch.set_rng_state(state["cpu"])
    for index, random in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(random, index)
    found: dict[str, Any] = state["settings"]
    return found


def remove_run(path: Path | str) -> None:
    """Delete what `save_run` wrote, and what a writer that was killed may have left beside it."""
    path = Path(path)
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
    try:
        return _unpack(blob)
    except (pickle.PickleError, RuntimeError) as error:
        raise ValueError(
            f"path must be an undamaged file that save_run wrote; {path} is none"
        ) from error


def _unpack(blob: bytes) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(io.BytesIO(blob), map_location="cpu", weights_only=True)
    return state
