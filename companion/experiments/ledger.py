"""The command that makes records, and the entries that say what was asked and what was found."""

import json
import math
import re
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

import torch

from companion import checks, runtime
from companion.experiments import (
    amortization,
    anomalies,
    arrows,
    clean_classifier,
    code_dimension,
    code_model,
    collapse,
    disentanglement,
    drawings,
    few_labels,
    fine_tuning,
    finest_level,
    first_stage,
    gradient_noise,
    gray_levels,
    guidance_variants,
    houses,
    level_temperatures,
    levels,
    memorization,
    midpoints,
    mismatch,
    new_renderings,
    odd_sentences,
    one_step,
    preconditioning,
    rate_distortion,
    restart,
    restoration,
    ring_bound,
    rounds,
    samplers,
    schedules,
    sentence_parts,
    sentence_trainings,
    spectrum,
    weaker_network,
    weight_average,
    wide_code,
)
from companion.experiments.base import RECORDS, Experiment, Record, Value, record_of
from companion.zoo.weights import writable_folder, write_files

ENTRIES = Path(__file__).parent / "entries"
EXPERIMENTS: dict[str, Experiment] = {
    **code_dimension.EXPERIMENTS,
    **anomalies.EXPERIMENTS,
    **wide_code.EXPERIMENTS,
    **few_labels.EXPERIMENTS,
    **fine_tuning.EXPERIMENTS,
    **arrows.EXPERIMENTS,
    **code_model.EXPERIMENTS,
    **ring_bound.EXPERIMENTS,
    **gradient_noise.EXPERIMENTS,
    **spectrum.EXPERIMENTS,
    **mismatch.EXPERIMENTS,
    **collapse.EXPERIMENTS,
    **rate_distortion.EXPERIMENTS,
    **rounds.EXPERIMENTS,
    **levels.EXPERIMENTS,
    **level_temperatures.EXPERIMENTS,
    **drawings.EXPERIMENTS,
    **midpoints.EXPERIMENTS,
    **disentanglement.EXPERIMENTS,
    **samplers.EXPERIMENTS,
    **schedules.EXPERIMENTS,
    **weight_average.EXPERIMENTS,
    **finest_level.EXPERIMENTS,
    **clean_classifier.EXPERIMENTS,
    **weaker_network.EXPERIMENTS,
    **restart.EXPERIMENTS,
    **restoration.EXPERIMENTS,
    **preconditioning.EXPERIMENTS,
    **amortization.EXPERIMENTS,
    **gray_levels.EXPERIMENTS,
    **guidance_variants.EXPERIMENTS,
    **sentence_parts.EXPERIMENTS,
    **sentence_trainings.EXPERIMENTS,
    **memorization.EXPERIMENTS,
    **new_renderings.EXPERIMENTS,
    **first_stage.EXPERIMENTS,
    **odd_sentences.EXPERIMENTS,
    **one_step.EXPERIMENTS,
    **houses.EXPERIMENTS,
}
PLACEHOLDER = re.compile(r"\{([^{}/]+)/([^{}/.:]+)(?:\.(mean|se|low|high))?(?::([^{}]+))?\}")


@dataclass(frozen=True)
class Entry:
    """One experiment of the ledger as its file has it; `found` of a rival and the claims are templates for `filled`.

    Raises:
        ValueError: if it names no rival, or does not say what the book said before a change.
    """

    question: str
    chapter: int
    section: str
    compared: str
    equal: str
    refuted: str
    verdict: Literal["supported", "changed", "withdrawn"]
    was: str = ""  # what the book said before
    one_run: str = ""  # why there is one training of each, if there is
    rivals: tuple[dict[str, str], ...] = ()
    claims: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if not self.rivals:
            raise ValueError(f"an entry must name the rivals it tried; {self.question!r} has none")
        if (self.verdict == "supported") == bool(self.was):
            raise ValueError(
                f"was must be given if the book said something else, and only then; {self.question!r}"
            )


@cache
def entries() -> Mapping[str, Entry]:
    """All entries by the names of their experiments."""
    found = {}
    for path in sorted(ENTRIES.glob("*.toml")):
        table = tomllib.loads(path.read_text("utf8"))
        rivals, claims = tuple(table.pop("rivals", ())), tuple(table.pop("claims", ()))
        found[path.stem] = Entry(**table, rivals=rivals, claims=claims)
    return found


def filled(template: str, record: Record) -> str:
    """A template with the numbers of a record: {condition/measure}, {a - b/measure.se:.1f}.

    Raises:
        ValueError: if the record has no such number, or it cannot be written in this form.
    """

    def number(match: re.Match[str]) -> str:
        condition, measure, part, form = match.groups()
        first, minus, second = condition.partition(" - ")
        value: Value = record.value(first, measure)
        if minus:
            value = record.difference(first, second, measure)
        shown = getattr(value, part or "mean")
        try:
            return format(shown, form or ".2f").replace("-", "\N{MINUS SIGN}")
        except ValueError:
            raise ValueError(
                f"{match[0]} must have a form for a number; {form} was given"
            ) from None

    return PLACEHOLDER.sub(number, template)


def run(
    name: str,
    resume: bool = False,
    replace: bool = False,
    out: Path | str = RECORDS,
) -> str:
    """Train an experiment of the ledger under all its conditions, and write its record.

    Every training is saved when it ends.

    Args:
        name: of the experiment, such as "collapse".
        resume: go on with a record that was stopped.
        replace: begin anew, although there is a record.
        out: folder of the record, NAME.json.

    Raises:
        ValueError: if there is no such experiment, a record stands in the way, or a training gives a measure that is
            not finite; those before it are saved.
        OSError: if `out` cannot be written, which is tried first.
    """
    if not isinstance(name, str) or name not in EXPERIMENTS:
        raise ValueError(f"name must be one of {', '.join(EXPERIMENTS)}; {name!r} was given")
    experiment, path = EXPERIMENTS[name], writable_folder(out) / f"{name}.json"
    record = Record(name, experiment.code, _provenance(), [])
    if resume and not path.exists():
        raise ValueError(f"resume needs an unfinished record; there is no {path}")
    if path.exists() and not replace:
        record = record_of(name, path.parent)
        if record.code != experiment.code:
            raise ValueError(f"{path.name} was made by other code; --replace begins it anew")
        if not record.lacks(experiment):
            raise ValueError(f"{path.name} is complete; --replace begins it anew")
        if not resume:
            raise ValueError(f"{path.name} is unfinished; --resume goes on, --replace begins anew")
    for condition, seed in record.lacks(experiment):
        begun = time.monotonic()
        torch.manual_seed(seed)
        measures = experiment.conditions[condition](seed)
        checks.between(-math.inf, math.inf, **measures)  # JSON has no NaN
        seconds = round(time.monotonic() - begun, 1)
        row = {"condition": condition, "seed": seed, "seconds": seconds, "measures": measures}
        record.runs.append(row)
        print(f"{condition}, seed {seed}: {measures}", flush=True)
        write_files({path: (json.dumps(record._asdict(), indent=1) + "\n").encode()})
    return f"{path.name}: {len(record.runs)} trainings"


def _provenance() -> dict[str, str]:
    return {
        "torch": torch.__version__,
        "device": runtime.device_name(),
        "scale": runtime.scale(),
        "commit": runtime.commit(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }
