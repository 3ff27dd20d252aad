"""The command line: `python -m companion data`, `... doctor`, `... train NAME` and `... evaluate NAME`."""

import argparse
import importlib.metadata
import math
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

import companion
from companion import runtime
from companion.data import TOYS, Batches, cache_dir, describe, load, scenes, toy_density
from companion.ddpm import Ddpm
from companion.networks.classifier import DigitClassifier
from companion.training import exponential_average, fit
from companion.zoo.checkpoints import (
    Card,
    Stateful,
    check_weights,
    load_run,
    load_weights,
    remove_run,
    save_record,
    save_run,
    save_weights,
    weight_names,
)
from companion.zoo.experiments import Record, compare_scales, compare_steps, samples_and_errors
from companion.zoo.recipes import DIFFUSIONS, RECIPES, Recipe, minus_log_likelihood


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0, 1 where something is wrong, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m companion", description="The companion package of the book."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    data = commands.add_parser("data", help="list the data sets and where they were found")
    data.add_argument(
        "--download",
        metavar="NAME",
        help="load this data set first, downloading it if there is no copy",
    )
    commands.add_parser(
        "doctor", help="describe this installation, and check the shipped weights; for bug reports"
    )
    train = commands.add_parser(
        "train", help="train a model of the book, and write its weights and their card"
    )
    train.add_argument("name", choices=RECIPES, metavar="NAME", help=", ".join(RECIPES))
    train.add_argument(
        "--epochs",
        type=_positive,
        metavar="N",
        help="passes over the data, instead of the recipe's",
    )
    train.add_argument("--resume", action="store_true", help="continue a training that was stopped")
    train.add_argument(
        "--save-every",
        type=_seconds,
        default=60.0,
        metavar="SECONDS",
        help="how often to save it (60)",
    )
    evaluate = commands.add_parser(
        "evaluate", help="measure shipped weights on the test split again"
    )
    evaluate.add_argument("name", choices=RECIPES, metavar="NAME", help=", ".join(RECIPES))
    evaluate.add_argument(
        "--samples",
        type=_positive,
        metavar="K",
        help="estimate log p(x) by L_K, for the recipes that measure it",
    )
    evaluate.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="write the weights there, with a card that holds the measurement",
    )
    evaluate.add_argument(
        "--values",
        action="store_true",
        help="write the values of all test examples there, too, for paired comparisons",
    )
    record = commands.add_parser(
        "record",
        help="draw from a shipped diffusion model, measure its error at every time, and write both",
    )
    record.add_argument("name", choices=DIFFUSIONS, metavar="NAME")
    steps = commands.add_parser(
        "steps",
        help="draw digits from a shipped diffusion model in few steps, and write what the classifier sees in them",
    )
    steps.add_argument("name", choices=["ddpm-mnist"], metavar="NAME")
    guide = commands.add_parser(
        "guide",
        help="draw digits of every class with more and more guidance, and write what the classifier sees in them",
    )
    guide.add_argument("name", choices=["ddpm-mnist-classes"], metavar="NAME")
    for command in (evaluate, record, steps, guide):
        command.add_argument(
            "--weights",
            type=Path,
            metavar="FOLDER",
            help="where the weights are, if they are not shipped",
        )
    for command in (record, steps, guide):
        command.add_argument(
            "--num", type=_positive, default=1000, metavar="N", help="samples (1000)"
        )
    record.add_argument(
        "--examples",
        type=_positive,
        default=500,
        metavar="N",
        help="test examples for the errors (500)",
    )
    for command in (train, record, steps, guide):
        command.add_argument(
            "--out", type=Path, default=Path("runs"), metavar="FOLDER", help="where to write (runs)"
        )
    given = parser.parse_args(arguments)
    try:
        if given.command == "data":
            return _data(given.download)
        if given.command == "doctor":
            return _doctor()
        if given.command == "evaluate":
            return _evaluate_weights(
                given.name, given.weights, given.samples, given.out, given.values
            )
        if given.command in RECORD_NAMES:
            return _draw(given)
        return _train(given.name, given.epochs, given.out, given.resume, given.save_every)
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; a training continues from its last save with --resume", file=sys.stderr)
        return 130


def _data(download: str | None) -> int:
    if download is not None:
        load(download, fallback=False)
    for copy in describe():
        print(f"{copy.name:14} {copy.folder or '-'}  ({copy.note})")
    return 0


def _doctor() -> int:
    """Print what a bug report needs; 1 if a data set or a shipped weight is not the one that was published."""
    healthy = True
    lines = {
        "companion": f"{companion.__version__}, commit {_commit()}",
        "python": f"{platform.python_version()} on {platform.platform()}",
        "device": _device_name(),
        "bfloat16": "yes" if runtime.has_bfloat16() else "no",
        "scale": runtime.scale(),
        "cache": str(cache_dir()),
    }
    for package in (
        "torch",
        "torchvision",
        "numpy",
        "matplotlib",
        "scikit-learn",
        "safetensors",
        "ipywidgets",
    ):
        lines[package] = _version(package)
    for copy in describe():
        lines[f"data {copy.name}"] = (
            copy.note if copy.folder is None else f"{copy.folder} ({copy.note})"
        )
        healthy &= copy.verified or copy.folder is None
    for name in weight_names():
        try:
            lines[f"weights {name}"] = f"verified, made by {check_weights(name).commit[:12]}"
        except (ValueError, OSError) as error:
            lines[f"weights {name}"], healthy = f"REFUSED: {error}", False
    for label, text in lines.items():
        print(f"{label + ':':24} {text}")
    return 0 if healthy else 1


def _train(name: str, epochs: int | None, out: Path, resume: bool, save_every: float) -> int:
    """Train, saving the run now and then; a killed training continues, with `resume`, as if it had not been killed."""
    recipe = RECIPES[name] if epochs is None else replace(RECIPES[name], epochs=epochs)
    examples = _examples(recipe, "train")
    torch.manual_seed(recipe.seed)
    model = runtime.to_device(recipe.model())
    if recipe.start is not None:
        load_weights(recipe.start, model, partial=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr, fused=True)
    batches = Batches(
        *examples, batch_size=recipe.batch_size, num_epochs=recipe.epochs, seed=recipe.seed
    )
    ema = None if recipe.ema is None else exponential_average(model, recipe.ema)
    clock = _Clock()
    parts: dict[str, Stateful] = {
        "model": model,
        "optimizer": optimizer,
        "batches": batches,
        "clock": clock,
    }
    if ema is not None:
        parts["ema"] = ema
    # Now rather than at the first save: a folder that cannot be made must not cost a training.
    out.mkdir(parents=True, exist_ok=True)
    unfinished = out / f"{name}.run.safetensors"
    if unfinished.exists():
        if not resume:
            raise ValueError(
                f"{unfinished} holds an unfinished training; continue it with --resume, or delete it"
            )
        load_run(unfinished, **parts)
    print(
        f"{name}: step {batches.step} of {len(batches)} on {_device_name()}, {runtime.scale()} scale",
        flush=True,
    )

    def loss(model: nn.Module, x: Tensor, *labels: Tensor) -> Tensor:
        # The batches have counted the one that is being used.
        options = recipe.options((batches.step - 1) / len(batches))
        return recipe.loss(model, recipe.prepare(x), *labels, **options)

    def set_lr(steps: int) -> None:
        # From the number of steps alone, so that a resumed training needs no more.
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * recipe.schedule(steps / len(batches))

    set_lr(batches.step)
    saved, losses = time.monotonic(), []
    progress = name if sys.stderr.isatty() else None
    for step in fit(
        model, loss, batches, optimizer, ema=ema, autocast=runtime.autocast, progress=progress
    ):
        losses.append(step.loss)
        set_lr(step.number)
        if step.number % batches.steps_per_epoch == 0:
            epoch, mean = (step.number // batches.steps_per_epoch, statistics.fmean(losses))
            text = f"epoch {epoch} of {recipe.epochs}, mean loss of the last {len(losses)} steps {mean:.4g}"
            tqdm.write(f"{name}: {text}", file=sys.stdout)
            losses.clear()
        if time.monotonic() - saved >= save_every:
            save_run(unfinished, **parts)
            saved = time.monotonic()
    trained = model if ema is None else ema.module
    card = _measure_and_save(name, recipe, trained, out, clock)
    remove_run(unfinished)
    print(
        f"{name}: {card.metric}: {card.metric_value:.3f} +- {card.metric_se:.3f} after {card.minutes:.1f} min"
    )
    print(f"{name}: wrote {out / name}.safetensors and its card")
    return 0


def _examples(recipe: Recipe, split: str) -> tuple[Tensor, ...]:
    """The examples of a split, and their labels if the recipe needs them.

    Of scenes there are 20,000 to train on, and 2,000 others to test; of toys 50,000 and 10,000.
    """
    name, seed = recipe.data, 0 if split == "train" else 1
    if name == "scenes":
        num = 20_000 if split == "train" else 2_000
        return (scenes(num, seed, device=runtime.device()).images,)
    if name in TOYS:
        num = 50_000 if split == "train" else 10_000
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return (toy_density(name).sample([num]).to(runtime.device()),)
    data = load(name, split, fallback=False, device=runtime.device())
    return (data.images, data.labels) if recipe.labels else (data.images,)


def _measure_and_save(
    name: str, recipe: Recipe, model: nn.Module, out: Path, clock: "_Clock"
) -> Card:
    minutes = clock.minutes()
    with torch.no_grad():
        for parameter in model.parameters():
            # The card describes the weights as they are stored.
            parameter.copy_(parameter.half())
    values = _evaluate(model, recipe)
    command = f"python -m companion train {name}"
    if recipe.epochs != RECIPES[name].epochs:
        command += f" --epochs {recipe.epochs}"
    card = Card(
        name=name,
        data=recipe.data,
        scale=runtime.scale(),
        command=command,
        commit=_commit(),
        seed=recipe.seed,
        device=_device_name(),
        torch=torch.__version__,
        minutes=round(minutes, 2),
        metric=recipe.metric_text,
        metric_value=values.mean().item(),
        metric_se=(values.std() / len(values) ** 0.5).item(),
        peak_memory_mb=_peak_memory_mb(),
    )
    return save_weights(model, name, card, out)


def _evaluate_weights(
    name: str, weights: Path | None, samples: int | None, out: Path | None, keep_values: bool
) -> int:
    """Measure weights as their recipe does, or with another number of samples."""
    recipe, clock = RECIPES[name], _Clock()
    if keep_values and out is None:
        raise ValueError("--values needs a folder to write to; --out was not given")
    if samples is not None:
        if recipe.metric is not minus_log_likelihood:
            raise ValueError(
                f"--samples fits recipes that measure log p(x); {name} measures the {recipe.metric_text}"
            )
        recipe = replace(
            recipe,
            metric=partial(minus_log_likelihood, num_samples=samples),
            metric_text=recipe.metric_text.replace("L_100", f"L_{samples}"),
        )
    model = runtime.to_device(recipe.model())
    card = load_weights(name, model, weights)
    values = _evaluate(model, recipe)
    value, error = values.mean().item(), (values.std() / len(values) ** 0.5).item()
    print(f"{name}: {recipe.metric_text}: {value:.3f} +- {error:.3f}")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        measured = replace(card, metric=recipe.metric_text, metric_value=value, metric_se=error)
        save_weights(model, name, measured, out)
        print(f"{name}: wrote {out / name}.safetensors and its card")
    if keep_values and out is not None:
        command = f"python -m companion evaluate {name} --values"
        command += "" if samples is None else f" --samples {samples}"
        command += "" if weights is None else f" --weights {weights.name}"
        measured = _record_card(measured, command, clock)
        save_record({"values": values.float()}, measured.name, measured, out)
    return 0


def _record_card(card: Card, command: str, clock: "_Clock") -> Card:
    """The card of a record of the weights that have this card."""
    return replace(
        card,
        name=f"{card.name}-record",
        command=command,
        commit=_commit(),
        device=_device_name(),
        scale=runtime.scale(),
        minutes=round(clock.minutes(), 2),
        peak_memory_mb=_peak_memory_mb(),
        num_parameters=0,
    )


@torch.no_grad()
def _evaluate(model: nn.Module, recipe: Recipe) -> Tensor:
    """The recipe's metric for each example of the test split; the same numbers each time."""
    x, *labels = _examples(recipe, "test")
    torch.manual_seed(recipe.seed)
    # Prepared as a whole, so that these are the same pictures however many are measured.
    examples = (tensor[: recipe.num_test] for tensor in (recipe.prepare(x), *labels))
    parts = zip(*(tensor.split(1000) for tensor in examples), strict=True)
    return torch.cat([recipe.metric(model.eval(), *part) for part in parts]).double()


def _draw(given: argparse.Namespace) -> int:
    """Let shipped weights, or others, draw what a record keeps, and write it with its card."""
    name, num, out = given.name, given.num, given.out
    recipe, clock, options = RECIPES[name], _Clock(), f"--num {num}"
    draw: Callable[[Ddpm], Record]
    if given.command == "record":
        test, *_ = _examples(recipe, "test")
        x = recipe.prepare(test[: given.examples])
        options += f" --examples {given.examples}"
        draw = partial(samples_and_errors, x=x, num=num)
    else:
        compare = compare_steps if given.command == "steps" else compare_scales
        draw = partial(compare, judge=_judge(), num=num)
    model = runtime.to_device(recipe.model()).eval()
    assert isinstance(model, Ddpm)  # by the choices of the command line
    card = load_weights(name, model, given.weights)
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    tensors, values, metric = draw(model)
    command = f"python -m companion {given.command} {name} {options}"
    card = replace(
        _record_card(card, command, clock),
        name=f"{name}-{RECORD_NAMES[given.command]}",
        metric=metric,
        metric_value=values.mean().item(),
        metric_se=(values.std() / len(values) ** 0.5).item(),
    )
    save_record(tensors, card.name, card, out)
    print(f"{card.name}: wrote it after {card.minutes:.1f} min")
    return 0


RECORD_NAMES = {"record": "record", "steps": "steps-record", "guide": "guidance-record"}


def _judge() -> DigitClassifier:
    """The shipped classifier of digits."""
    judge = runtime.to_device(DigitClassifier()).eval()
    load_weights("classifier-mnist", judge)
    return judge


class _Clock:
    """Counts the minutes of a training over all its sittings."""

    def __init__(self) -> None:
        self.before, self.start = 0.0, time.monotonic()

    def minutes(self) -> float:
        return self.before + (time.monotonic() - self.start) / 60

    def state_dict(self) -> dict[str, float]:
        return {"minutes": self.minutes()}

    def load_state_dict(self, state: dict[str, float]) -> None:
        self.before, self.start = state["minutes"], time.monotonic()


def _commit() -> str:
    """The checked-out commit that this package belongs to, "-dirty" where tracked files have changed, or "unknown"."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        # An installed copy may lie in somebody else's checkout.
        git("ls-files", "--error-unmatch", Path(__file__).name)
        return git("rev-parse", "HEAD") + (
            "-dirty" if git("status", "--porcelain", "--untracked-files=no") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _device_name() -> str:
    if runtime.device().type == "cuda":
        return f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
    return f"CPU {platform.machine()}, {torch.get_num_threads()} threads"


def _peak_memory_mb() -> float | None:
    """The most memory held so far: the device's on CUDA, the process's on Linux, else not measured."""
    if runtime.device().type == "cuda":
        return round(torch.cuda.max_memory_allocated() / 2**20, 1)
    if sys.platform != "linux":
        return None
    import resource

    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10, 1)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not number >= 0:
        raise argparse.ArgumentTypeError(
            f"must be a number of seconds, not negative; {text!r} was given"
        )
    return number


def _positive(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a positive integer; {text!r} was given")
    return number


if __name__ == "__main__":
    sys.exit(main())
