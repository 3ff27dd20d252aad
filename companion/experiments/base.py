"""Experiments as conditions and seeds, and the records of their trainings."""

import ast
import hashlib
import inspect
import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from companion import checks

RECORDS = Path(__file__).parent / "records"

Condition = Callable[[int], dict[str, float]]


@dataclass(frozen=True)
class Experiment:
    """What is trained: a function of the seed for each condition, that gives its measures by name.

    Every condition is trained with the seeds 0, 1, ... up to `seeds`.
    """

    conditions: Mapping[str, Condition]
    seeds: int = 3

    @property
    def code(self) -> str:
        """SHA-256 of the module that defines the conditions, apart from its comments and layout."""
        first = next(iter(self.conditions.values()))
        module = inspect.getmodule(getattr(first, "func", first))
        assert module is not None
        tree = ast.dump(ast.parse(inspect.getsource(module)))
        return hashlib.sha256(tree.encode()).hexdigest()


class Value(NamedTuple):
    """A measure over trainings: their values, mean, standard error of the mean, and range."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over trainings."""
        return statistics.fmean(self.values)

    @property
    def se(self) -> float:
        """Standard error of the mean over trainings, not over examples; a NaN of one training."""
        if len(self.values) < 2:
            return math.nan
        return statistics.stdev(self.values) / len(self.values) ** 0.5

    @property
    def low(self) -> float:
        """The smallest."""
        return min(self.values)

    @property
    def high(self) -> float:
        """The largest."""
        return max(self.values)


class Record(NamedTuple):
    """All trainings of an experiment, and who made them when, with what."""

    experiment: str
    code: str
    provenance: dict[str, str]
    runs: list[dict[str, Any]]

    def value(self, condition: str, measure: str) -> Value:
        """A measure under a condition, over the seeds in their order.

        Raises:
            ValueError: if the record has no such condition or measure.
        """
        found = [run for run in self.runs if run["condition"] == condition]
        known = [run["measures"] for run in sorted(found, key=lambda run: run["seed"])]
        if not known or any(measure not in measures for measures in known):
            raise ValueError(
                f"the record {self.experiment!r} has no {measure!r} of the condition {condition!r}"
            )
        return Value(tuple(measures[measure] for measures in known))

    def difference(self, condition: str, other: str, measure: str) -> Value:
        """The measure of one condition less that of the other, seed by seed."""
        pairs = zip(
            self.value(condition, measure).values, self.value(other, measure).values, strict=True
        )
        return Value(tuple(a - b for a, b in pairs))

    def lacks(self, experiment: Experiment) -> list[tuple[str, int]]:
        """The conditions and seeds that are not in the record yet."""
        have = {(run["condition"], run["seed"]) for run in self.runs}
        every = [(name, seed) for name in experiment.conditions for seed in range(experiment.seeds)]
        return [each for each in every if each not in have]


def record_of(name: str, folder: Path = RECORDS) -> Record:
    """The record of an experiment.

    Raises:
        ValueError: if there is none, or the file is damaged or the record of another experiment.
    """
    path = folder / f"{name}.json"
    if not path.is_file():
        raise ValueError(f"name must be that of a recorded experiment; {name!r} has no record")
    try:
        record = Record(**json.loads(path.read_text("utf8")))
        keys: Sequence[str] = ("condition", "seed", "seconds", "measures")
        whole = all(isinstance(run, dict) and set(run) == set(keys) for run in record.runs)
        for run in record.runs if whole else ():
            checks.at_least(0, seed=run["seed"])
            checks.between(-math.inf, math.inf, **run["measures"])
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(f"the record {path.name} is damaged: {error}") from None
    if record.experiment != name or not whole:
        raise ValueError(f"the record {path.name} is not one of the experiment {name!r}")
    return record
