"""The page of the benchmarks: times, and the race of several networks."""

from __future__ import annotations

import json
import math
from typing import Any

from bookkit.authoring.labels import Book


def benchmarks(book: Book) -> dict[str, Any]:
    """What `benchmarks/compare.py` and `benchmarks/race.py` measured last."""
    folder = book.root / "book" / "data"
    found, race = (
        json.loads((folder / f"{name}.json").read_text("utf8")) for name in ("benchmarks", "race")
    )
    measured = json.loads((folder / "gpu.json").read_text("utf8"))
    return found | {"race": race | race_plot(race), "gpu": measured | {"rows": on_gpu(measured)}}


def on_gpu(measured: dict[str, Any]) -> list[dict[str, Any]]:
    """The steps of each recipe on a GPU: milliseconds by precision, with each kernel started by Python and by a graph,
    images a second and the share of the matrix peak of the fastest, and microseconds to start an operation."""
    rows = []
    for recipe in measured["recipes"]:
        steps = {(step["scale"], step["captured"]): step for step in recipe["steps"]}
        scale, _ = fastest = min(steps, key=lambda kind: steps[kind]["seconds"])
        seconds = steps[fastest]["seconds"]
        most = measured["peak"]["bfloat16" if scale == "full" else "float32"]
        rows.append(
            {
                "name": recipe["name"],
                "batch_size": recipe["batch_size"],
                "milliseconds": [
                    1000 * steps[scale, graph]["seconds"] if (scale, graph) in steps else None
                    for scale in ("small", "full")
                    for graph in (False, True)
                ],
                "images": recipe["batch_size"] / seconds,
                "share": recipe["operations"] / seconds / most,
                "minutes": recipe["num_steps"] * seconds / 60,
                "start": 1e6 * steps["small", False]["seconds"] / recipe["launches"],
                "gain": steps["small", False]["seconds"] / steps["small", True]["seconds"]
                if ("small", True) in steps
                else None,
            }
        )
    return rows


def race_plot(race: dict[str, Any]) -> dict[str, Any]:
    """The curves of a race, 540 units wide and 260 high, the heights of some errors, and for each network its color
    and its ends."""
    looks = dict(
        zip(
            race["parameters"],
            (("#0072b2", ""), ("#d55e00", "6 3"), ("#cc79a7", "9 3 2 3"), ("#009e73", "2 2")),
            strict=True,
        )
    )
    runs = {name: [seed[name] for seed in race["races"].values()] for name in looks}
    means = {
        name: {key: sum(run[-1][key] for run in several) / len(several) for key in several[0][-1]}
        for name, several in runs.items()
    }
    errors = [mark["error"] for several in runs.values() for run in several for mark in run]
    most, least = max(errors), min(errors)

    def height(error: float) -> int:
        return round(260 * math.log(most / error) / math.log(most / least))

    return {
        "curves": [
            {
                "color": looks[name][0],
                "dashes": looks[name][1],
                "points": " ".join(
                    f"{540 * mark['seconds'] / race['seconds']:.0f},{height(mark['error'])}"
                    for mark in run
                ),
            }
            for name, several in runs.items()
            for run in several
        ],
        "names": [
            {
                "name": name,
                "color": color,
                "dashes": dashes,
                "steps": round(means[name]["steps"]),
                "errors": [f"{run[-1]['error']:.4f}" for run in runs[name]],
                "over": means[name]["error"] / means["diffusers"]["error"],
            }
            for name, (color, dashes) in looks.items()
        ],
        "ticks": {n / 100: height(n / 100) for n in range(1, 100) if least < n / 100 < most},
    }
