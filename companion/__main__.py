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
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

import companion
from companion import runtime
from companion.autoencoder import (
    contractive_loss,
    conv_autoencoder,
    denoising_loss,
    mlp_autoencoder,
    reconstruction_loss,
    robust_loss,
)
from companion.checkpoints import (
    Card,
    check_weights,
    load_run,
    load_weights,
    remove_run,
    save_run,
    save_weights,
    weight_names,
)
from companion.data import (
    Batches,
    binarize,
    cache_dir,
    describe,
    load,
    scenes,
)
from companion.elbo import LatentChain, elbo_loss, importance_weighted_loss
from companion.hierarchical_vae import conv_ladder, mlp_ladder
from companion.metrics import log_likelihood
from companion.training import Loss, fit
from companion.vae import (
    DiscretizedGaussianLikelihood,
    GaussianLikelihood,
    Vae,
    conv_vae,
    gray_cross_entropy_loss,
    mlp_vae,
)


def cosine(progress: float) -> float:
    """Learning rate along half a cosine, from 1 down to 1/100 of the recipe's."""
    return 0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2


def scene_vae() -> Vae:
    """A VAE of `companion.data.scenes`; colors spread by 0.16 there, and by 0.1 here given z."""
    return conv_vae(8, image_shape=(3, 32, 32), likelihood=GaussianLikelihood(0.1))


def color_vae() -> Vae:
    """A VAE of photographs with 32 x 32 pixels in 256 levels of red, green and blue."""
    likelihood = DiscretizedGaussianLikelihood(0.1, learned=True)
    return conv_vae(128, 64, (3, 32, 32), likelihood)


def relaxing(progress: float) -> dict[str, float]:
    """A weight of the divergence that falls from 100 to 1, by equal factors, until 70 percent are done."""
    return {"beta": 100 ** (1 - min(1.0, progress / 0.7))}


def warming(progress: float) -> dict[str, float]:
    """A weight that rises until 30 percent are done, and one free nat for each level in the first half."""
    return {
        "beta": min(1.0, progress / 0.3),
        "free_nats": 1.0 if progress < 0.5 else 0.0,
    }


def minus_log_likelihood(
    model: LatentChain, x: Tensor, num_samples: int = 100
) -> Tensor:
    """Minus log p(x), by default estimated by L_100: enough to compare models, and soon done."""
    return -log_likelihood(model, x, num_samples)


def squared_error_of_means(model: Vae, x: Tensor) -> Tensor:
    """Squared error of the decoder's mean at the mean of q(z|x), summed over the picture."""
    mean = model.likelihood(model.posterior(x).mean).mean
    return (mean - x).square().flatten(1).sum(1)


@dataclass(frozen=True)
class Recipe:
    """All that decides one training: data set, architecture, what is minimized, what is measured on the test split.

    Attributes:
        data: a name that `load` accepts, or "scenes".
        model: builds the model.
        loss: what is minimized, one value per example.
        metric: what is measured on the test split, one value per example.
        metric_text: what that is, with its unit.
        epochs: passes over the training split.
        batch_size: examples in a batch.
        lr: learning rate of Adam at the start.
        schedule: factor of the learning rate when a share of the steps, from 0 to 1, is done.
        options: keyword arguments of `loss` when a share of the steps is done.
        prepare: what each batch, and the test split, goes through first; it may be random.
        start: name of shipped weights to start from, in place of random ones.
        seed: of initialization, batches and noise, and again of the measurement.
    """

    data: str
    model: Callable[[], nn.Module]
    loss: Loss
    metric: Loss = reconstruction_loss
    metric_text: str = "squared error of a test picture, summed over its pixels"
    epochs: int = 10
    batch_size: int = 128
    lr: float = 1e-3
    schedule: Callable[[float], float] = lambda progress: 1.0
    options: Callable[[float], dict[str, float]] = lambda progress: {}
    prepare: Callable[[Tensor], Tensor] = lambda x: x
    start: str | None = None
    seed: int = 0


# Black-and-white digits, drawn anew for each batch.
BINARY_MNIST = partial(
    Recipe,
    "mnist",
    metric=minus_log_likelihood,
    metric_text="minus log p(x) of a binarized test picture, in nats, estimated by L_100",
    prepare=binarize,
    schedule=cosine,
    batch_size=100,
)

SCENES = partial(
    Recipe,
    "scenes",
    scene_vae,
    elbo_loss,
    metric=squared_error_of_means,
    metric_text="squared error of a test picture, decoded from the mean of q, summed over its values",
    epochs=30,
    batch_size=100,
    lr=4e-3,
    schedule=cosine,
)

LADDER = partial(
    BINARY_MNIST,
    loss=elbo_loss,
    epochs=250,
    batch_size=256,
    lr=3e-3,
    options=warming,
)

RECIPES = {
    "ae-mnist": Recipe("mnist", mlp_autoencoder, reconstruction_loss),
    "dae-mnist": Recipe("mnist", mlp_autoencoder, denoising_loss),
    "cae-mnist": Recipe("mnist", mlp_autoencoder, contractive_loss),
    "robust-ae-mnist": Recipe("mnist", mlp_autoencoder, robust_loss),
    "conv-ae-mnist": Recipe("mnist", conv_autoencoder, reconstruction_loss),
    "gray-vae-mnist": Recipe(
        "mnist",
        partial(mlp_vae, latent_dim=20, hidden=(400,), activation=nn.ReLU),
        gray_cross_entropy_loss,
        metric=gray_cross_entropy_loss,
        metric_text="cross-entropy of a test picture's gray levels plus KL, in nats; no likelihood",
    ),
    "vae-mnist": BINARY_MNIST(mlp_vae, elbo_loss, epochs=1000),
    "vae2d-mnist": BINARY_MNIST(
        partial(mlp_vae, latent_dim=2), elbo_loss, epochs=200, lr=2e-3
    ),
    "conv-vae-mnist": BINARY_MNIST(conv_vae, elbo_loss, epochs=100),
    "iwae-mnist": BINARY_MNIST(
        mlp_vae,
        partial(importance_weighted_loss, num_samples=50),
        epochs=24,
        start="vae-mnist",
    ),
    "hvae-mnist": LADDER(mlp_ladder),
    # The same recipe with fewer levels, to compare with.
    "hvae2-mnist": LADDER(partial(mlp_ladder, (64, 32), (512, 256))),
    "hvae1-mnist": LADDER(partial(mlp_ladder, (64,), (512,))),
    "conv-hvae-mnist": BINARY_MNIST(
        conv_ladder,
        elbo_loss,
        epochs=40,
        batch_size=128,
        lr=2e-3,
        options=warming,
    ),
    # For a GPU: photographs in all their 256 levels.
    "vae-cifar10": Recipe(
        "cifar10",
        color_vae,
        elbo_loss,
        metric=minus_log_likelihood,
        metric_text="minus log p(x) of a test picture of 256 levels, in nats, estimated by L_100",
        epochs=200,
        batch_size=128,
        schedule=cosine,
    ),
    "vae-scenes": SCENES(),
    "beta-vae-scenes": SCENES(options=relaxing),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0, 1 where something is wrong, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m companion", description="The companion package of the book."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    data = commands.add_parser(
        "data", help="list the data sets and where they were found"
    )
    data.add_argument(
        "--download",
        metavar="NAME",
        help="load this data set first, downloading it if there is no copy",
    )
    commands.add_parser(
        "doctor",
        help="describe this installation, and check the shipped weights; for bug reports",
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
    train.add_argument(
        "--out",
        type=Path,
        default=Path("runs"),
        metavar="FOLDER",
        help="where to write (runs)",
    )
    train.add_argument(
        "--resume", action="store_true", help="continue a training that was stopped"
    )
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
    evaluate.add_argument(
        "name", choices=RECIPES, metavar="NAME", help=", ".join(RECIPES)
    )
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
    given = parser.parse_args(arguments)
    try:
        if given.command == "data":
            return _data(given.download)
        if given.command == "doctor":
            return _doctor()
        if given.command == "evaluate":
            return _evaluate_weights(given.name, given.samples, given.out)
        return _train(
            given.name, given.epochs, given.out, given.resume, given.save_every
        )
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(
            "stopped; a training continues from its last save with --resume",
            file=sys.stderr,
        )
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
            lines[f"weights {name}"] = (
                f"verified, trained by {check_weights(name).commit[:12]}"
            )
        except (ValueError, OSError) as error:
            lines[f"weights {name}"], healthy = f"REFUSED: {error}", False
    for label, text in lines.items():
        print(f"{label + ':':24} {text}")
    return 0 if healthy else 1


def _train(
    name: str, epochs: int | None, out: Path, resume: bool, save_every: float
) -> int:
    """Train, saving the run now and then; a killed training continues, with `resume`, as if it had not been killed."""
    recipe = RECIPES[name] if epochs is None else replace(RECIPES[name], epochs=epochs)
    images = _images(recipe.data, "train")
    torch.manual_seed(recipe.seed)
    model = runtime.to_device(recipe.model())
    if recipe.start is not None:
        load_weights(recipe.start, model)
    optimizer = torch.optim.Adam(model.parameters(), lr=recipe.lr, fused=True)
    batches = Batches(
        images,
        batch_size=recipe.batch_size,
        num_epochs=recipe.epochs,
        seed=recipe.seed,
    )
    clock = _Clock()
    # Now rather than at the first save: a folder that cannot be made must not cost a training.
    out.mkdir(parents=True, exist_ok=True)
    unfinished = out / f"{name}.run.safetensors"
    if unfinished.exists():
        if not resume:
            raise ValueError(
                f"{unfinished} holds an unfinished training; continue it with --resume, or delete it"
            )
        load_run(
            unfinished, model=model, optimizer=optimizer, batches=batches, clock=clock
        )
    print(
        f"{name}: step {batches.step} of {len(batches)} on {_device_name()}, {runtime.scale()} scale",
        flush=True,
    )

    def loss(model: nn.Module, x: Tensor) -> Tensor:
        # The batches have counted the one that is being used.
        options = recipe.options((batches.step - 1) / len(batches))
        return recipe.loss(model, recipe.prepare(x), **options)

    def set_lr(steps: int) -> None:
        # From the number of steps alone, so that a resumed training needs no more.
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * recipe.schedule(steps / len(batches))

    set_lr(batches.step)
    saved, losses = time.monotonic(), []
    progress = name if sys.stderr.isatty() else None
    for step in fit(
        model,
        loss,
        batches,
        optimizer,
        autocast=runtime.autocast,
        progress=progress,
    ):
        losses.append(step.loss)
        set_lr(step.number)
        if step.number % batches.steps_per_epoch == 0:
            epoch, mean = (
                step.number // batches.steps_per_epoch,
                statistics.fmean(losses),
            )
            text = f"epoch {epoch} of {recipe.epochs}, mean loss of the last {len(losses)} steps {mean:.4g}"
            tqdm.write(f"{name}: {text}", file=sys.stdout)
            losses.clear()
        if time.monotonic() - saved >= save_every:
            save_run(
                unfinished,
                model=model,
                optimizer=optimizer,
                batches=batches,
                clock=clock,
            )
            saved = time.monotonic()
    card = _measure_and_save(name, recipe, model, out, clock)
    remove_run(unfinished)
    print(
        f"{name}: {card.metric}: {card.metric_value:.3f} +- {card.metric_se:.3f} after {card.minutes:.1f} min"
    )
    print(f"{name}: wrote {out / name}.safetensors and its card")
    return 0


def _images(name: str, split: str) -> Tensor:
    """The pictures of a split; of scenes there are 20,000 to train on, and 2,000 others to test."""
    if name == "scenes":
        num, seed = (20_000, 0) if split == "train" else (2_000, 1)
        return scenes(num, seed, device=runtime.device()).images
    return load(name, split, fallback=False, device=runtime.device()).images


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


def _evaluate_weights(name: str, samples: int | None, out: Path | None) -> int:
    """Measure shipped weights as their recipe does, or with another number of samples."""
    recipe = RECIPES[name]
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
    card = load_weights(name, model)
    values = _evaluate(model, recipe)
    value, error = values.mean().item(), (values.std() / len(values) ** 0.5).item()
    print(f"{name}: {recipe.metric_text}: {value:.3f} +- {error:.3f}")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        measured = replace(
            card, metric=recipe.metric_text, metric_value=value, metric_se=error
        )
        save_weights(model, name, measured, out)
        print(f"{name}: wrote {out / name}.safetensors and its card")
    return 0


@torch.no_grad()
def _evaluate(model: nn.Module, recipe: Recipe) -> Tensor:
    """The recipe's metric for each example of the test split; the same numbers each time."""
    test = _images(recipe.data, "test")
    torch.manual_seed(recipe.seed)
    parts = recipe.prepare(test).split(1000)
    return torch.cat([recipe.metric(model.eval(), part) for part in parts]).double()


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
        return subprocess.run(
            command, capture_output=True, text=True, check=True
        ).stdout.strip()

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
        raise argparse.ArgumentTypeError(
            f"must be a positive integer; {text!r} was given"
        )
    return number


if __name__ == "__main__":
    sys.exit(main())
