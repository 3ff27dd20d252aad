"""Train a model by its recipe, and measure trained weights again."""

import signal
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
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
from companion.training import exponential_average, fit
from companion.zoo import weights
from companion.zoo.checkpoints import Stateful, load_run, remove_run, save_run
from companion.zoo.recipes import Recipe, recipe
from companion.zoo.weights import Card, load_weights, writable_folder


def train(
    name: str,
    out: Path | str = "runs",
    epochs: int | None = None,
    resume: bool = False,
    save_every: float = 60.0,
) -> Card:
    """Train a model of the book by its recipe, and write its weights and their card.

    It prints a line for each epoch, and takes minutes for an autoencoder and hours for a
    diffusion model: the cards of the shipped weights say how long. Ctrl-C and SIGTERM end it when
    the step under way is done and saved; with `resume` it goes on, on the same kind of CPU bit
    for bit.

    Args:
        name: the recipe, such as "vae-mnist"; `companion.zoo.recipes.RECIPES` holds all.
        out: folder for NAME.safetensors and its card, and for NAME.run, the unfinished training.
        epochs: passes over the data, if not as many as in the recipe.
        resume: continue a training that was stopped.
        save_every: seconds between two savings of the unfinished training.

    Returns:
        The card, with what the weights achieve on the test split.

    Raises:
        ValueError: if there is no such recipe; if the folder holds finished weights of this name,
            or an unfinished training and `resume` is not set, or none and it is, or one of a
            changed recipe; or if another process trains there.
        FileNotFoundError: if there is neither a copy of the data nor a network.
        OSError: if `out` cannot be written, which is tried before the training.
        FloatingPointError: if the training diverges.
    """
    chosen, start = recipe(name), Start.now()
    command = f"python -m companion train {name}"
    if epochs is not None:
        checks.at_least(1, epochs=epochs)
        checks.in_range(1, 1_000_000, epochs=epochs)
        command += f" --epochs {epochs}" if epochs != chosen.epochs else ""
        chosen = replace(chosen, epochs=epochs)
    checks.not_negative(save_every=save_every)
    examples = chosen.examples("train")
    out = writable_folder(out)
    unfinished = out / f"{name}.run"
    with _alone(out / f".{name}.lock"):
        if resume and not unfinished.exists():
            raise ValueError(f"resume needs an unfinished training; {out} holds none of {name}")
        if not resume and unfinished.exists():
            raise ValueError(
                f"{unfinished} is an unfinished training; continue it with --resume, or delete it"
            )
        if not resume and (out / f"{name}.safetensors").exists():
            raise ValueError(f"{out} holds weights of {name}; delete them, or choose another --out")
        model, minutes = _train(name, chosen, examples, unfinished, save_every)
        origin = provenance(start, chosen.seed)
        with torch.no_grad():
            for parameter in model.parameters():
                # The card describes the weights as they are stored.
                parameter.copy_(parameter.half())
        result = measurement(str(chosen.metric), _evaluate(model, chosen))
        origin |= {"name": name, "command": command, "minutes": round(minutes, 2)}
        card = weights.save_weights(model, Card(data=chosen.data, **origin, **result), out)
        remove_run(unfinished)
    return card


def evaluate(
    name: str,
    samples: int | None = None,
    folder: Path | str | None = None,
    out: Path | str | None = None,
    values: bool = False,
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

    Returns:
        The card of the weights, with this measurement in it.

    Raises:
        ValueError: if there are no such weights, or they are damaged; if `samples` is given and
            the measure is no estimate of log p(x), or `values` without `out`.
        FileNotFoundError: if there is neither a copy of the data nor a network.
        OSError: if `out` cannot be written, which is tried before the measurement.
    """
    chosen, start = recipe(name), Start.now()
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
    each = _evaluate(model, chosen)
    result = measurement(str(chosen.metric), each)
    card = replace(card, **result)
    if out is not None:
        weights.save_weights(model, card, out)
        if values:
            command += "" if folder is None else f" --folder {Path(folder).name}"
            origin = provenance(start, chosen.seed) | {"command": command}
            record = weights.RecordCard(name=f"{name}-values", model=name, **origin, **result)
            weights.save_tensors({"values": each.float()}, record, out)
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


def _train(
    name: str, chosen: Recipe, examples: tuple[Tensor, ...], path: Path, save_every: float
) -> tuple[nn.Module, float]:
    """The trained model and its minutes; the run goes on from `path`, if it is there, and is saved to it."""
    start, before = time.monotonic(), 0.0
    torch.manual_seed(chosen.seed)
    model = runtime.to_device(chosen.model())
    if chosen.start is not None:
        load_weights(chosen.start, model, partial=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=chosen.lr, fused=True)
    batches = Batches(
        *examples, batch_size=chosen.batch_size, num_epochs=chosen.epochs, seed=chosen.seed
    )
    num_steps, per_epoch = len(batches), batches.steps_per_epoch
    rates = LambdaLR(optimizer, lambda step: chosen.schedule(step / num_steps))
    ema = None if chosen.ema is None else exponential_average(model, chosen.ema)
    parts: dict[str, Stateful] = {"model": model, "optimizer": optimizer, "batches": batches}
    parts |= {"rates": rates} if ema is None else {"rates": rates, "ema": ema}
    fields = ("data", "epochs", "batch_size", "lr", "ema", "start", "seed")
    settings = {"recipe": name} | {field: getattr(chosen, field) for field in fields}
    commit = runtime.commit()
    if path.exists():
        saved = load_run(path, settings, **parts)
        before = saved["minutes"]
        if saved["commit"] != commit:
            print(f"{name}: begun at commit {saved['commit']}, continued at {commit}")
    text = f"step {batches.step} of {num_steps} on {runtime.device_name()}"
    print(f"{name}: {text}, {runtime.scale()} scale", flush=True)

    def minutes() -> float:
        return before + (time.monotonic() - start) / 60

    def loss(model: nn.Module, x: Tensor, *labels: Tensor) -> Tensor:
        # The batches have counted the one that is being used.
        options = chosen.options((batches.step - 1) / num_steps)
        return chosen.loss(model, chosen.prepare(x), *labels, **options)

    progress = name if sys.stderr.isatty() else None
    options: dict[str, Any] = {"autocast": runtime.autocast, "progress": progress}
    steps = fit(model, loss, batches, optimizer, ema=ema, **options)
    last_save, losses = time.monotonic(), []
    with _signals() as received:
        for step in steps:
            rates.step()
            losses.append(step.loss)
            if step.number % per_epoch == 0:
                mean = f"mean loss of the last {len(losses)} steps {statistics.fmean(losses):.4g}"
                epoch = f"epoch {step.number // per_epoch} of {chosen.epochs}"
                tqdm.write(f"{name}: {epoch}, {mean}", file=sys.stdout)
                losses.clear()
            # After the last step, too, since the measurement can be stopped as well.
            due = time.monotonic() - last_save >= save_every or step.number == num_steps
            if received or due:
                save_run(path, settings | {"commit": commit, "minutes": minutes()}, **parts)
                last_save = time.monotonic()
            if received:
                raise KeyboardInterrupt(f"{name}: saved after step {step.number} of {num_steps}")
    return (model if ema is None else ema.module), minutes()


@torch.no_grad()
def _evaluate(model: nn.Module, chosen: Recipe) -> Float[Tensor, "num"]:
    """The recipe's metric for each example of the test split; the same numbers each time."""
    x, *labels = chosen.examples("test")
    torch.manual_seed(chosen.seed)
    # Prepared as a whole, so that these are the same images however many are measured.
    examples = (tensor[: chosen.num_test] for tensor in (chosen.prepare(x), *labels))
    parts = zip(*(tensor.split(1000) for tensor in examples), strict=True)
    return torch.cat([chosen.metric(model.eval(), *part) for part in parts]).double()


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


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect Ctrl-C and SIGTERM, so that a step is finished and saved first; a second one ends at once."""
    received: list[int] = []

    def note(number: int, frame: object) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    # Only the main thread may handle signals.
    mine = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM) if mine else ()
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
