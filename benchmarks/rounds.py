"""Contestants run one after the other in every round, in turned order in every second, and are compared within it."""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping

import torch

Clock = Callable[[], float]
Contestant = Callable[
    [Clock], tuple[float, float]
]  # seconds of an epoch, and a loss to see that the work was done


def run(contestants: Mapping[str, Contestant], num_images: int, description: str | None) -> None:
    """Read the options, run the rounds, and print medians and each contestant's time over the first one's."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: this process's own time"
    )
    arguments = parser.parse_args()
    clock = time.perf_counter if arguments.clock == "wall" else time.process_time
    torch.set_num_threads(arguments.threads)
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    losses = {}
    for number in range(arguments.rounds):
        for name in list(contestants) if number % 2 == 0 else list(reversed(contestants)):
            spent, losses[name] = contestants[name](clock)
            seconds[name].append(spent)
    first, floor = next(iter(seconds.items()))
    print(f"{'contestant':38}{'s/epoch':>9}{'images/s':>10}{'ratio':>8}{'range':>13}{'loss':>8}")
    for name, taken in seconds.items():
        ratios = [a / b for a, b in zip(taken, floor, strict=True)]
        median, spread = statistics.median(taken), f"{min(ratios):.2f}-{max(ratios):.2f}"
        columns = (
            f"{median:9.2f}{num_images / median:10,.0f}{statistics.median(ratios):8.2f}{spread:>13}"
        )
        print(f"{name:38}{columns}{losses[name]:8.1f}")
    print(f"ratio: time over that of the {first}, in the same round")
