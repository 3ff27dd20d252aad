"""Which U-Net has learned more after the same time, one of the companion or the `UNet2DModel` of diffusers?

    python benchmarks/race.py --seconds 240 --seeds 3 --out book/data/race.json

They estimate the noise in the same MNIST digits, halved to 14 x 14 pixels on 16 x 16, in batches of 64. Of the three of
the companion one has as many parameters as the peer, within two percent; one has its widths and its depth, and 16
percent more; one has its widths and a block less, and 27 percent fewer. The learning rate of each is the best of three
in a race of a quarter the length. It is annealed by a cosine of the time used, so all end at the same second, however
many steps they took. They take turns of five seconds in one process of one thread, by its own clock. The error is that
of an average of the weights, on the first 1,000 test digits at eight times each, with the same noise for all. What is
in the file is not run again.
"""

import argparse
import copy
import datetime
import importlib.metadata
import json
import math
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import compare
import torch
import unet
from torch import Tensor, nn
from torch.nn import functional as F

from companion import data, runtime
from companion.data import Batches
from companion.networks.unet import UNet
from companion.schedule import cosine_schedule
from companion.training import exponential_average

SHAPE, TURN, MARKS = (1, 16, 16), 5.0, 12
RATES = (1e-3, 2e-3, 4e-3)
SCHEDULE = cosine_schedule(1000)
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "companion, same size": lambda: UNet(SHAPE, 12, (1, 2, 4), blocks=1),
    "companion, same widths": lambda: UNet(SHAPE, 16, (1, 2, 2), blocks=2),
    "companion, same widths, one block": lambda: UNet(SHAPE, 16, (1, 2, 2), blocks=1),
    "diffusers": lambda: unet.peer(16, 1),
}


def digits(split: str) -> Tensor:
    """Digits on [-1, 1] with half the side, and a black frame of one pixel."""
    images = data.load("mnist", split, fallback=False).images
    return data.to_symmetric(F.pad(F.avg_pool2d(images, 2), 4 * [1]))


def noised(x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """The digits after t steps of the diffusion."""
    signal = SCHEDULE.alpha_bar[t].to(x).view(-1, 1, 1, 1)
    return signal.sqrt() * x + (1 - signal).sqrt() * noise


def estimate(model: nn.Module, x_t: Tensor, t: Tensor) -> Tensor:
    """The noise, which the peer wraps."""
    found: Any = model(x_t, t)
    return getattr(found, "sample", found)


@torch.no_grad()
def error(model: nn.Module, x: Tensor) -> float:
    """The mean squared error of a noise value of test digits."""
    draw = torch.Generator().manual_seed(0)
    noise = torch.randn(8, *x.shape, generator=draw)
    found = []
    for number, each in enumerate(noise):
        t = torch.full((len(x),), 62 + 125 * number)
        found.append((estimate(model, noised(x, t, each), t) - each).square().mean())
    return torch.stack(found).mean().item()


def training(name: str, seed: int, rate: float, seconds: float) -> Iterator[dict[str, float]]:
    """A training that says at each mark what it has learned, and pauses after each turn."""
    torch.manual_seed(seed)
    model = NETWORKS[name]()
    average = exponential_average(model, 0.995)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate, fused=True)
    held_out, draw = digits("test")[:1000], torch.Generator().manual_seed(seed)
    used, since, num_steps, mark = 0.0, 0.0, 0, 1
    for x in Batches(digits("train"), batch_size=64, num_epochs=1000, seed=seed):
        start = time.process_time()
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 + math.cos(math.pi * min(1.0, used / seconds))) / 2
        t, noise = (
            torch.randint(1, 1001, (len(x),), generator=draw),
            torch.randn(x.shape, generator=draw),
        )
        loss = (estimate(model, noised(x, t, noise), t) - noise).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        average.update_parameters(model)
        spent = time.process_time() - start
        used, since, num_steps = used + spent, since + spent, num_steps + 1
        if used >= mark * seconds / MARKS:
            mark += 1
            ready = copy.deepcopy(average.module).eval()
            yield {"seconds": used, "steps": num_steps, "error": error(ready, held_out)}
            if mark > MARKS:
                return
        elif since > TURN:
            since = 0.0
            yield {}


def race(rates: dict[str, float], seed: int, seconds: float) -> dict[str, list[dict[str, float]]]:
    """What each has learned at each mark; they take turns."""
    runs = {name: training(name, seed, rate, seconds) for name, rate in rates.items()}
    found: dict[str, list[dict[str, float]]] = {name: [] for name in rates}
    while runs:
        for name in list(runs):
            try:
                if said := next(runs[name]):
                    found[name].append(said)
            except StopIteration:
                del runs[name]
    return found


def main() -> None:
    """Choose the learning rates, run the races, write the file after each."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=240.0, help="of the processor, for each")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("book/data/race.json"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    made = json.loads(given.out.read_text()) if given.out.exists() else {}
    if made.get("seconds") != given.seconds:
        made = {"seconds": given.seconds, "trials": {}, "races": {}}
    made |= {
        "parameters": {k: sum(p.numel() for p in f().parameters()) for k, f in NETWORKS.items()},
        "machine": compare.processor(),
        "date": datetime.date.today().isoformat(),
        "commit": runtime.commit(),
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "diffusers")},
        "load": round(os.getloadavg()[0], 1),
    }

    def run(part: str, key: str, rates: dict[str, float], seed: int, seconds: float) -> None:
        done = made[part].setdefault(key, {})
        if left := {name: rate for name, rate in rates.items() if name not in done}:
            done |= race(left, seed, seconds)
            print(part, key, {name: ends[-1] for name, ends in done.items()}, flush=True)
            given.out.write_text(json.dumps(made, indent=1) + "\n")

    for rate in RATES:
        run("trials", str(rate), dict.fromkeys(NETWORKS, rate), 100, given.seconds / 4)
    made["rates"] = {
        name: min(RATES, key=lambda rate: made["trials"][str(rate)][name][-1]["error"])
        for name in NETWORKS
    }
    for seed in range(given.seeds):
        run("races", str(seed), made["rates"], seed, given.seconds)


if __name__ == "__main__":
    main()
