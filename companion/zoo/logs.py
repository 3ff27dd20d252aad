"""What a training tells while it runs: lines of JSON, and TensorBoard's file where that is installed."""

import contextlib
import json
import time
from pathlib import Path
from typing import Any


class MetricsLog:
    """Measurements of a training by step, in a file of JSON lines, and for TensorBoard if that is installed.

    A training that goes on at `step` removes the lines after it, which it will write again. Files are
    made when there is something to write.

    Args:
        path: the file; TensorBoard's folder has its name without the suffix.
        step: how many steps were taken before.
        images: how many examples they took.
    """

    def __init__(self, path: Path, step: int = 0, images: int = 0) -> None:
        self.path, self.step = path, step
        self.board: Any = None
        self.images, self.since = images, time.monotonic()
        if path.exists():
            kept = [line for line in path.read_text().splitlines() if _number(line) <= step]
            path.write_text("".join(f"{line}\n" for line in kept))

    def write(self, step: int, images: int, **values: float) -> None:
        """Append a line: the step, all images so far, what is given, and images per second since the last line."""
        now = time.monotonic()
        speed = (images - self.images) / max(now - self.since, 1e-9)
        self.images, self.since = images, now
        values = {"images": images, **values, "images_per_second": round(speed, 1)}
        with open(self.path, "a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        if self.board is None:
            self.board = _board(self.path.with_suffix(""), self.step + 1)
        for name, value in values.items():
            self.board.add_scalar(name, value, step)
        self.board.flush()


class _NoBoard:
    def add_scalar(self, name: str, value: float, step: int) -> None: ...

    def flush(self) -> None: ...


def _board(folder: Path, step: int) -> Any:
    """TensorBoard's writer, which hides what an earlier one wrote from this step on."""
    try:
        # Here, for it takes as long to import as torch itself.
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return _NoBoard()
    return SummaryWriter(str(folder), purge_step=step)


def _number(line: str) -> float:
    """The step of a line; infinity of half a line, which a killed training leaves."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return float(json.loads(line)["step"])
    return float("inf")
