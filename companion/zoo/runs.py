"""Train a model by its recipe, and measure trained weights again."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from jaxtyping import Float
from torch import Tensor, nn

from companion import checks, runtime
from companion.zoo import weights
from companion.zoo.checkpoints import Journal, Saved, at_once, remove_run
from companion.zoo.processes import Processes, together
from companion.zoo.recipes import Recipe, recipe
from companion.zoo.session import Run, Session
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
    """Train a model of the book by its recipe, and write its weights and the card that is returned.

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

    Raises:
        ValueError: if there is no such recipe, what it starts from is missing, another process trains
            there, the folder holds finished weights of this name, or what is unfinished there does not
            fit `resume` and the recipe.
        OSError: if there is neither a copy of the data nor a network, `out` cannot be written, which
            is tried first, or another of several processes is lost.
        FloatingPointError: if the training diverges.
    """
    chosen, changed = _changed(recipe(name), epochs=epochs, batch_size=batch_size, lr=lr, seed=seed)
    checks.not_negative(save_every=save_every)
    checks.at_least(1, log_every=log_every)
    processes, examples = Processes(), chosen.examples("train")
    num = len(examples[0])
    smallest = min(num % chosen.batch_size or chosen.batch_size, num)
    if smallest < processes.size:
        raise ValueError(
            f"batch_size must leave an example for each of the {processes.size} processes; "
            f"the smallest batch has {smallest}"
        )
    out = writable_folder(out)
    session = Session(chosen, examples, folder=out)
    for path in (out / f".{name}.lock", out / f"{name}.jsonl"):
        if path.is_dir():
            raise ValueError(f"out must be a folder to write files to; {path} is a folder")
    unfinished, unmeasured = out / f"{name}.run", out / f"{name}-test.run"
    with _alone(out / f".{name}.lock") if processes.rank == 0 else nullcontext(), together():
        _check_files(name, out, unfinished, resume)
        if not resume and processes.rank == 0:
            remove_run(unmeasured)  # of a training whose file was deleted
        run = Run(name, session, unfinished, processes, save_every)
        model = run.train(log_every)
        origin = provenance(run, chosen.seed)
        with torch.no_grad():
            for parameter in model.parameters():
                # The card describes the weights as they are stored.
                parameter.copy_(parameter.half())
        again = unmeasured.exists()
        journal = Journal(unmeasured, {"name": name}, processes, again, save_every)
        origin |= measurement(str(chosen.metric), _evaluate(model, chosen, journal))
        command = f"python -m companion train {name}{changed}"
        card = Card(name=name, data=chosen.data.name, command=command, **origin)
        if processes.rank == 0:
            card = weights.save_weights(model, card, out)
        run.close()
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


def _changed(own: Recipe, **given: Any) -> tuple[Recipe, str]:
    """The recipe with what is given in place of its own, and the options that say so."""
    given = {name: value for name, value in given.items() if value is not None}
    chosen, changed = replace(own, **given), ""
    checks.whole(1, 1_000_000, epochs=chosen.epochs, batch_size=chosen.batch_size)
    checks.seed(chosen.seed)
    if "lr" in given:
        checks.positive(lr=chosen.lr)
    for name, value in given.items():
        if value != getattr(own, name):
            changed += f" --{name.replace('_', '-')} {value}"
    return chosen, changed


def evaluate(
    name: str,
    samples: int | None = None,
    folder: Path | str | None = None,
    out: Path | str | None = None,
    values: bool = False,
    resume: bool = False,
) -> Card:
    """Measure trained weights on the test split, as when they were trained, and return their card.

    The same weights on the same machine give the same numbers each time. On a CPU an autoencoder
    takes a second, and a ladder with 100 samples some minutes.

    Args:
        name: of the weights, such as "vae-mnist".
        samples: importance samples K of an estimate L_K of log p(x), if not as many as in the recipe.
        folder: where the weights are, if they are not shipped.
        out: folder to write the weights to, with the card that is returned.
        values: also write the value of every test example there, as the record NAME-values, to
            compare two models example by example.
        resume: continue a measurement with `out` that was stopped.

    Raises:
        ValueError: if there are no such weights, or they are damaged; if `samples` is given and the measure
            is no estimate of log p(x), `values` without `out`, or what `out` holds does not fit `resume`.
        OSError: if there is neither a copy of the data nor a network, or `out` cannot be written.
    """
    chosen, processes = recipe(name), Processes()
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
    journal = Journal(path, settings, processes, resume)
    result = measurement(str(chosen.metric), each := _evaluate(model, chosen, journal))
    card = replace(card, **result)
    if out is not None and processes.rank == 0:
        weights.save_weights(model, card, out)
        if values:
            command += "" if folder is None else f" --folder {Path(folder).name}"
            origin = provenance(journal, chosen.seed) | {"command": command}
            record = weights.RecordCard(name=f"{name}-values", model=name, **origin, **result)
            weights.save_tensors({"values": each.float()}, record, out)
        journal.close()
    return card


def provenance(work: Saved, seed: int) -> dict[str, Any]:
    """What a card says of the machine, and of the minutes so far."""
    return {
        "commit": work.commit,
        "seed": seed,
        "device": runtime.device_name(),
        "scale": runtime.scale(),
        "torch": torch.__version__,
        "minutes": round(work.minutes, 2),
        "peak_memory_mb": runtime.peak_memory_mb(),
    }


def measurement(metric: str, values: Float[Tensor, "num"]) -> dict[str, Any]:
    """What a card says of a measurement with these values: their mean and its standard error."""
    error = values.std() / len(values) ** 0.5
    return {"metric": metric, "metric_value": values.mean().item(), "metric_se": error.item()}


@torch.no_grad()
def _evaluate(
    model: nn.Module, chosen: Recipe, journal: Callable[..., Tensor] = at_once
) -> Float[Tensor, "num"]:
    """The recipe's metric for each example of the test split; the same numbers each time."""
    x, *labels = chosen.examples("test")
    torch.manual_seed(chosen.seed)
    # Prepared as a whole and on the CPU, so that these are the same images on every device, however many are measured.
    prepared = chosen.prepare(x.cpu()).to(x.device)
    examples = (tensor[: chosen.num_test] for tensor in (prepared, *labels))
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
