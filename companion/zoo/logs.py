"""What a training tells while it runs: lines of JSON, and TensorBoard's file where that is installed."""

import contextlib
import json
import time
from functools import cached_property
from pathlib import Path
from typing import Any

from companion.zoo.weights import write_files


class MetricsLog:
    """Measurements of a training by step, in a file of JSON lines, and for TensorBoard if that is installed.

    A training that goes on after `step` steps and their `images` removes the lines after it, which it will write
    again. Files are made when there is something to write.
    """

    def __init__(self, path: Path, step: int = 0, images: int = 0) -> None:
        self.path, self.step = path, step
        self.images, self.since = images, time.monotonic()
        if path.exists():
            lines = path.read_bytes().splitlines()
            write_files({path: b"".join(line + b"\n" for line in lines if _number(line) <= step)})

    def write(self, step: int, images: int, **values: float) -> None:
        """Append a line: the step, all images so far, what is given, and images per second since the last line."""
        now = time.monotonic()
        speed = (images - self.images) / max(now - self.since, 1e-9)
        self.images, self.since = images, now
        values = {"images": images, **values, "images_per_second": round(speed, 1)}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        if self.board:
            for name, value in values.items():
                self.board.add_scalar(name, value, step)
            self.board.flush()

    @cached_property
    def board(self) -> Any:
        """TensorBoard's writer, if that is installed; it hides what an earlier one wrote after the first step."""
        try:
            # Here, for it takes as long to import as torch itself.
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return None
        return SummaryWriter(str(self.path.with_suffix("")), purge_step=self.step + 1)


def _number(line: bytes) -> float:
    """The step of a line; infinity of half a line, which a killed training leaves, and of what is no line of a log."""
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
        return float(json.loads(line)["step"])
    return float("inf")
