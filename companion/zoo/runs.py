"""Train a model by its recipe, and measure trained weights again."""

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import torch
from filelock import FileLock, Timeout
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from companion import checks, runtime
from companion.data import Batches
from companion.training import Step, exponential_average, fit
from companion.zoo import weights
from companion.zoo.checkpoints import (
    Journal,
    Setting,
    Stateful,
    at_once,
    load_run,
    remove_run,
    save_run,
    signals,
)
from companion.zoo.logs import MetricsLog
from companion.zoo.processes import GOES_ON, Processes, together
from companion.zoo.recipes import Recipe, recipe
from companion.zoo.weights import Card, load_weights, writable_folder


def train(
    name: str,
    out: Path | str = "runs",
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    seed: int | None = None,
    resume: bool = False,
    save_every: float = 60.0,
    log_every: int = 100,
) -> Card:
    """Train a model of the book by its recipe, and write its weights and their card.

    It prints a line for each epoch, and takes minutes for an autoencoder and hours for a
    diffusion model: the cards of the shipped weights say how long. Ctrl-C and SIGTERM end it when
    the step under way is done and saved; with `resume` it goes on, on the same kind of CPU bit
    for bit. Launched as several processes, each takes its share of every batch; a run may go on
    with another number of them.

    Args:
        name: the recipe, such as "vae-mnist"; `python -m companion recipes` lists all.
        out: folder for NAME.safetensors and its card, for NAME.jsonl, the log of the training,
            for NAME.run, the unfinished training, and for NAME-test.run, its unfinished measurement.
        epochs: passes over the data, if not as many as in the recipe.
        batch_size: examples of a step, of all processes together, if not as in the recipe.
        lr: learning rate at the start, if not the recipe's.
        seed: of initialization, batches and noise, if not the recipe's.
        resume: continue a training that was stopped.
        save_every: seconds between two savings of the unfinished training.
        log_every: steps between two lines of the log; each epoch ends with one, too.

    Returns:
        The card, with what the weights achieve on the test split.

    Raises:
        ValueError: if there is no such recipe; if the folder holds finished weights of this name,
            or an unfinished training and `resume` is not set, or none and it is, or one of a
            changed recipe; if another process trains there, or a batch has fewer examples than
            there are processes.
        FileNotFoundError: if there is neither a copy of the data nor a network.
        OSError: if `out` cannot be written, which is tried before the training, or another of
            several processes is lost.
        FloatingPointError: if the training diverges.
    """
    given = {"epochs": epochs, "batch_size": batch_size, "lr": lr, "seed": seed}
    start = Start.now()
    chosen, changed = _changed(recipe(name), given)
    checks.not_negative(save_every=save_every)
    checks.at_least(1, log_every=log_every)
    processes = Processes()
    examples = chosen.examples("train")
    num = len(examples[0])
    smallest = min(num % chosen.batch_size or chosen.batch_size, num)
    if smallest < processes.size:
        raise ValueError(
            f"batch_size must leave an example for each of the {processes.size} processes; "
            f"the smallest batch has {smallest}"
        )
    out = writable_folder(out)
    unfinished, unmeasured = out / f"{name}.run", out / f"{name}-test.run"
    with _alone(out / f".{name}.lock") if processes.rank == 0 else nullcontext(), together():
        _check_files(name, out, unfinished, resume)
        if not resume and processes.rank == 0:
            remove_run(unmeasured)  # of a training whose file was deleted
        run = Run(name, chosen, examples, unfinished, processes)
        run.train(save_every, log_every)
        model, minutes = run.session.best, round(run.minutes, 2)
        origin = provenance(start, chosen.seed) | {"name": name, "minutes": minutes}
        with torch.no_grad():
            for parameter in model.parameters():
                # The card describes the weights as they are stored.
                parameter.copy_(parameter.half())
        again = unmeasured.exists()
        journal = Journal(unmeasured, {"name": name}, again, save_every, processes)
        origin |= measurement(str(chosen.metric), _evaluate(model, chosen, journal))
        command = f"python -m companion train {name}{changed}"
        card = Card(data=chosen.data.name, command=command, **origin)
        if processes.rank == 0:
            card = weights.save_weights(model, card, out)
            remove_run(unfinished)
        journal.close()
    return card


def _check_files(name: str, out: Path, unfinished: Path, resume: bool) -> None:
    """The folder holds what is to be resumed, or nothing of this name."""
    if resume and not unfinished.exists():
        raise ValueError(f"resume needs an unfinished training; {out} holds none of {name}")
    if not resume and unfinished.exists():
        raise ValueError(
            f"{unfinished} is an unfinished training; continue it with --resume, or delete it"
        )
    if not resume and (out / f"{name}.safetensors").exists():
        raise ValueError(f"{out} holds weights of {name}; delete them, or choose another --out")


def _changed(chosen: Recipe, given: dict[str, Any]) -> tuple[Recipe, str]:
    """The recipe with what is given in place of its own, and the options that say so."""
    given = {option: value for option, value in given.items() if value is not None}
    counts = {option: given[option] for option in ("epochs", "batch_size") if option in given}
    if counts:
        checks.at_least(1, **counts)
        checks.in_range(1, 1_000_000, **counts)
    if "lr" in given:
        checks.positive(lr=given["lr"])
    if "seed" in given:
        checks.seed(given["seed"])
    options = (
        f" --{option.replace('_', '-')} {value}"
        for option, value in given.items()
        if value != getattr(chosen, option)
    )
    return replace(chosen, **given), "".join(options)


def evaluate(
    name: str,
    samples: int | None = None,
    folder: Path | str | None = None,
    out: Path | str | None = None,
    values: bool = False,
    resume: bool = False,
) -> Card:
    """Measure trained weights on the test split, as when they were trained.

    The same weights on the same machine give the same numbers each time. On a CPU an autoencoder
    takes a second, and a ladder with 100 samples ten minutes.

    Args:
        name: of the weights, such as "vae-mnist".
        samples: importance samples K of an estimate L_K of log p(x), if not as many as in the recipe.
        folder: where the weights are, if they are not shipped.
        out: folder to write the weights to, with the card that is returned.
        values: also write the value of every test example there, as the record NAME-values, to
            compare two models example by example.
        resume: continue a measurement with `out` that was stopped.

    Returns:
        The card of the weights, with this measurement in it.

    Raises:
        ValueError: if there are no such weights, or they are damaged; if `samples` is given and
            the measure is no estimate of log p(x), or `values` or `resume` without `out`, or
            `out` holds an unfinished measurement and `resume` is not set, or none and it is.
        FileNotFoundError: if there is neither a copy of the data nor a network.
        OSError: if `out` cannot be written, which is tried before the measurement.
    """
    chosen, start, processes = recipe(name), Start.now(), Processes()
    command = f"python -m companion evaluate {name} --values"
    if samples is not None:
        checks.at_least(1, samples=samples)
        if chosen.metric.num_samples is None:
            raise ValueError(
                f"samples belong to an estimate of log p(x); {name} is measured by: {chosen.metric}"
            )
        chosen = replace(chosen, metric=replace(chosen.metric, num_samples=samples))
        command += f" --samples {samples}"
    if values and out is None:
        raise ValueError("values are written to the folder out; none was given")
    if out is not None:
        out = writable_folder(out)
        command += f" --out {out.name}"
    model = runtime.to_device(chosen.model())
    card = load_weights(name, model, folder)
    path = None if out is None else out / f"{name}-values.run"
    settings = {"sha256": card.sha256, "metric": str(chosen.metric), "num": chosen.num_test}
    journal = Journal(path, settings, resume, processes=processes, begun=start.time)
    result = measurement(str(chosen.metric), each := _evaluate(model, chosen, journal))
    card = replace(card, **result)
    if out is not None and processes.rank == 0:
        weights.save_weights(model, card, out)
        if values:
            command += "" if folder is None else f" --folder {Path(folder).name}"
            start = start._replace(time=journal.begun)
            origin = provenance(start, chosen.seed) | {"command": command}
            record = weights.RecordCard(name=f"{name}-values", model=name, **origin, **result)
            weights.save_tensors({"values": each.float()}, record, out)
        journal.close()
    return card


class Start(NamedTuple):
    """When a run began, and the commit whose code it runs, whatever is checked out before it ends."""

    time: float
    commit: str

    @classmethod
    def now(cls) -> "Start":
        """The start of a run that begins now."""
        return cls(time.monotonic(), runtime.commit())


def provenance(start: Start, seed: int) -> dict[str, Any]:
    """What a card says of the machine, and of the minutes since the start."""
    return {
        "commit": start.commit,
        "seed": seed,
        "device": runtime.device_name(),
        "scale": runtime.scale(),
        "torch": torch.__version__,
        "minutes": round((time.monotonic() - start.time) / 60, 2),
        "peak_memory_mb": runtime.peak_memory_mb(),
    }


def measurement(metric: str, values: Float[Tensor, "num"]) -> dict[str, Any]:
    """What a card says of a measurement with these values: their mean and its standard error."""
    error = values.std() / len(values) ** 0.5
    return {"metric": metric, "metric_value": values.mean().item(), "metric_se": error.item()}


class Session:
    """What a training by a recipe begins with, and its steps; rates and options follow `num_steps`, or all steps."""

    def __init__(
        self, chosen: Recipe, examples: tuple[Tensor, ...], num_steps: int | None = None
    ) -> None:
        torch.manual_seed(chosen.seed)
        self.chosen, self.model = chosen, runtime.to_device(chosen.model())
        if chosen.start is not None:
            load_weights(chosen.start, self.model, partial=True)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=chosen.lr, fused=True)
        sizes = {"batch_size": chosen.batch_size, "num_epochs": chosen.epochs}
        self.batches = Batches(*examples, **sizes, seed=chosen.seed)
        self.num_steps = min(len(self.batches), num_steps or len(self.batches))
        self.rates = LambdaLR(self.optimizer, lambda step: chosen.schedule(step / self.num_steps))
        self.ema = None if chosen.ema is None else exponential_average(self.model, chosen.ema)

    @property
    def best(self) -> nn.Module:
        """The model, or the average of its weights."""
        return self.model if self.ema is None else self.ema.module

    @property
    def parts(self) -> dict[str, Stateful]:
        """All that changes during the training."""
        names = ("model", "optimizer", "batches", "rates", *([] if self.ema is None else ["ema"]))
        return {name: getattr(self, name) for name in names}

    def images(self, step: int) -> int:
        """How many examples were used up to a step."""
        epoch, step = divmod(step, self.batches.steps_per_epoch)
        return epoch * self.batches.num_examples + step * self.chosen.batch_size

    def steps(
        self, processes: Processes | None = None, progress: str | None = None
    ) -> Iterator[tuple[Step, float]]:
        """Take the steps that are left, and yield each with the learning rate that it had."""
        pair = self.model, self._loss
        model, loss = pair if processes is None else processes.share(*pair)
        options: dict[str, Any] = {"autocast": runtime.autocast, "progress": progress}
        steps = fit(model, loss, self.batches, self.optimizer, ema=self.ema, **options)
        for step in islice(steps, self.num_steps - self.batches.step):
            rate = float(self.rates.get_last_lr()[0])
            self.rates.step()
            yield step, rate

    def _loss(self, model: nn.Module, x: Tensor, *labels: Tensor) -> Tensor:
        # The batches have counted the one that is being used.
        options = self.chosen.options((self.batches.step - 1) / self.num_steps)
        return self.chosen.loss(model, self.chosen.prepare(x), *labels, **options)


class Run:
    """A session that is saved to a file, goes on from it if it is there, and says how far it is."""

    def __init__(
        self,
        name: str,
        chosen: Recipe,
        examples: tuple[Tensor, ...],
        path: Path,
        processes: Processes,
    ) -> None:
        self.name, self.path, self.processes = name, path, processes
        self.start, self.first, self.commit = (
            time.monotonic(),
            processes.rank == 0,
            runtime.commit(),
        )
        self.session = session = Session(chosen, examples)
        fields = ("epochs", "batch_size", "lr", "ema", "start", "seed")
        self.settings: dict[str, Setting] = {"recipe": name, "data": chosen.data.name}
        self.settings |= {field: getattr(chosen, field) for field in fields}
        if path.exists():
            saved = load_run(path, self.settings, **session.parts)
            self.start -= 60 * saved["minutes"]
            if saved["commit"] != self.commit:
                self.say(f"begun at commit {saved['commit']}, continued at {self.commit}")
        done = f"step {session.batches.step} of {session.num_steps}"
        self.say(f"{done} on {runtime.device_name()}{processes}, {runtime.scale()} scale")

    @property
    def minutes(self) -> float:
        """What it took so far, also before it was stopped."""
        return (time.monotonic() - self.start) / 60

    def say(self, text: str) -> None:
        """Print a line above the progress bar; the first of several processes speaks for all."""
        if self.first:
            tqdm.write(f"{self.name}: {text}", file=sys.stdout)
            sys.stdout.flush()

    def save(self) -> None:
        """Write the file; the first of several processes does."""
        if self.first:
            settings = self.settings | {"commit": self.commit, "minutes": self.minutes}
            save_run(self.path, settings, **self.session.parts)

    def train(self, save_every: float, log_every: int) -> None:
        """Take all steps.

        Raises:
            KeyboardInterrupt: after Ctrl-C or SIGTERM in any process, when the step is done and saved.
        """
        session, losses, saved = self.session, _Losses(self, log_every), time.monotonic()
        bar = self.name if self.first and sys.stderr.isatty() else None
        with signals() as received:
            for step, rate in session.steps(self.processes, bar):
                loss, stop = self.processes.agree(step.loss, bool(received))
                losses.add(step.number, loss, rate)
                # After the last step, too, since the measurement can be stopped as well.
                due = step.number == session.num_steps or time.monotonic() - saved >= save_every
                if stop or due:
                    self.save()
                    saved = time.monotonic()
                if stop:
                    done = f"{self.name}: saved after step {step.number} of {session.num_steps}"
                    raise KeyboardInterrupt(f"{done}; {GOES_ON}")


class _Losses:
    """The losses of a run, whose means go to its log, and to a line for each epoch."""

    def __init__(self, run: Run, log_every: int) -> None:
        self.run, self.log_every, step = run, log_every, run.session.batches.step
        self.of_epoch: list[float] = []
        self.unlogged: list[float] = []
        path = run.path.with_suffix(".jsonl")
        self.log = MetricsLog(path, step, run.session.images(step)) if run.first else None

    def add(self, number: int, loss: float, rate: float) -> None:
        """The loss of a step, and the learning rate that it had."""
        session = self.run.session
        epoch = number / session.batches.steps_per_epoch
        self.of_epoch.append(loss)
        self.unlogged.append(loss)
        if self.log and (epoch.is_integer() or number % self.log_every == 0):
            place = {"epoch": epoch, "seconds": 60 * self.run.minutes}
            mean = statistics.fmean(self.unlogged)
            self.log.write(number, session.images(number), loss=mean, lr=rate, **place)
            self.unlogged.clear()
        if epoch.is_integer():
            text = f"mean loss of the last {len(self.of_epoch)} steps {statistics.fmean(self.of_epoch):.4g}"
            self.run.say(f"epoch {epoch:.0f} of {session.chosen.epochs}: {text}")
            self.of_epoch.clear()


@torch.no_grad()
def _evaluate(
    model: nn.Module,
    chosen: Recipe,
    journal: Callable[..., Tensor] = at_once,
) -> Float[Tensor, "num"]:
    """The recipe's metric for each example of the test split; the same numbers each time."""
    x, *labels = chosen.examples("test")
    torch.manual_seed(chosen.seed)
    # Prepared as a whole, so that these are the same images however many are measured.
    examples = (tensor[: chosen.num_test] for tensor in (chosen.prepare(x), *labels))
    parts = zip(*(tensor.split(1000) for tensor in examples), strict=True)
    metric = partial(chosen.metric, model.eval())
    return torch.cat([journal(metric, *part) for part in parts]).double()


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock, which ends with the process at the latest."""
    try:
        with FileLock(path, timeout=0):
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
    except Timeout:
        raise ValueError(
            f"another training of this name writes to {path.parent}; choose another --out"
        ) from None
