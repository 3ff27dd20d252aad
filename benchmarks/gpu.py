"""What a GPU makes of the recipes: seconds and memory of a training step, beside the most that the card multiplies.

    python benchmarks/gpu.py --out gpu.json

Images are random numbers, which cost as much as others. Each recipe is timed in float32, as at small scale, and in
bfloat16 where the card has it, as at full scale; and with a CUDA graph that starts its kernels, if the recipe allows
one. A step's time is the median of those in `SECONDS`; torch counts how often it waits for the GPU. Nothing else should
use the card.
"""

import argparse
import gc
import itertools
import json
import os
import statistics
import time
import warnings
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import torch

from companion import runtime
from companion.zoo.recipes import recipe
from companion.zoo.session import Session
from companion.zoo.yourself import cost

SECONDS, WARM = 1.0, 12
NAMES = (
    "vae-mnist",
    "iwae-mnist",
    "hvae-mnist",
    "iw-conv-hvae-mnist",
    "ddpm-mnist-long",
    "vae-cifar10",
    "conv-hvae-cifar10",
    "text-scenes-64",
    "ddpm-cifar10",
)


def peak(dtype: torch.dtype, size: int = 8192) -> float:
    """Operations a second, additions and multiplications, of a product of two large random matrices."""
    a, b = (torch.randn(size, size, device="cuda", dtype=dtype) for _ in range(2))
    for _ in range(3):
        a @ b
    torch.cuda.synchronize()
    begun, num = time.perf_counter(), 10
    for _ in range(num):
        a @ b
    torch.cuda.synchronize()
    return num * 2 * size**3 / (time.perf_counter() - begun)


def step_of(name: str, scale: str, captured: bool) -> dict[str, Any]:
    """The time of a training step, the most memory, and how often a step waits for the GPU."""
    os.environ["COMPANION_SCALE"] = scale
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    chosen = replace(recipe(name), start=None, captured=captured, epochs=200)  # enough steps
    source, num = chosen.data, 8 * chosen.batch_size
    x = torch.randint(256, (num, *source.x_shape), device=runtime.device()) / 255
    label = torch.zeros(num, *source.label_shape, dtype=source.label_dtype, device=x.device)
    steps = Session(chosen, (x, label) if chosen.labels else (x,)).steps()
    for _ in range(WARM):
        next(steps)
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True) as waits:
        warnings.simplefilter("always")
        next(steps)
    torch.cuda.set_sync_debug_mode("default")
    torch.cuda.synchronize()
    times, begun = [], time.perf_counter()
    while sum(times) < SECONDS:
        next(steps)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - begun)
        begun = time.perf_counter()
    return {
        "scale": scale,
        "captured": captured,
        "seconds": statistics.median(times),
        "memory": torch.cuda.max_memory_allocated(),
        "waits": sum("synchroniz" in str(each.message) for each in waits),
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("gpu.json"))
    parser.add_argument("names", nargs="*", default=NAMES)
    options = parser.parse_args()
    found: dict[str, Any] = {
        "device": runtime.device_name(),
        "torch": torch.__version__,
        "date": f"{date.today()}",
        "commit": runtime.commit(),
        "peak": {str(t).split(".")[1]: peak(t) for t in (torch.float32, torch.bfloat16)},
        "recipes": [],
    }
    for name in options.names:
        counted = cost(name)
        row: dict[str, Any] = {"name": name, "batch_size": counted.batch_size}
        row |= {"num_steps": counted.num_steps, "operations": counted.operations}
        row |= {"num_parameters": counted.num_parameters, "launches": counted.launches}
        row["memory_counted"] = counted.memory
        row["steps"] = []
        for scale, captured in itertools.product(("small", "full"), {False, recipe(name).captured}):
            row["steps"].append(step_of(name, scale, captured))
        found["recipes"].append(row)
        print(json.dumps(row), flush=True)
        options.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
