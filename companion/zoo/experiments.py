"""Records: what a chapter shows of hundreds of samples, drawn once, with a measurement on a card."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from companion import checks, runtime
from companion.data import to_unit
from companion.ddpm import Ddpm, noise_errors
from companion.decoders import gray_level_frequencies
from companion.flows import Flow
from companion.metrics import frechet_distance, jackknife, normal_fit
from companion.networks.classifier import DigitClassifier
from companion.refinement import in_finer_steps
from companion.vae import Vae
from companion.zoo.checkpoints import Journal, at_once
from companion.zoo.comparisons import (
    Record,
    compare_scales,
    compare_spacings,
    compare_steps,
    compare_times,
    compare_with_renders,
    levels_of,
)
from companion.zoo.measures import bits_of_elbo
from companion.zoo.pretrained import CHUNK, ancestral, pretrained
from companion.zoo.processes import Processes
from companion.zoo.recipes import recipe
from companion.zoo.runs import Start, measurement, provenance
from companion.zoo.weights import RecordCard, read_card, save_tensors, writable_folder


def record(
    name: str,
    kind: Literal[
        "samples", "bits", "steps", "times", "guidance", "scenes", "spacing", "reference"
    ] = "samples",
    num: int = 1000,
    examples: int = 500,
    folder: Path | str | None = None,
    out: Path | str = "runs",
    resume: bool = False,
) -> RecordCard:
    """Draw many images from a trained diffusion model, and write what is measured on them as the record NAME-KIND.

    On a CPU it takes a quarter to half an hour for 500 digits or scenes. Ctrl-C and SIGTERM end it when the
    part under way is done and saved, in NAME-KIND.run; with `resume` it goes on. Launched as
    several processes, each draws and measures its share.

    Args:
        name: of the weights, such as "ddpm-mnist-joint".
        kind: "samples" draws with all steps and measures the error of the noise at every time;
            "bits" draws nothing, and measures the bound on test images in four times as many steps;
            "steps" compares samplers with few steps, and "guidance" scales of guidance, by what
            the shipped classifier of digits sees; "times" compares the choice of ten times, by
            what the judges of digits say; "scenes" draws houses for the causes of test
            scenes, and finds the nearest one of the renderer to each; "spacing" is for flow-digits,
            and compares it with ddpm-digits in few steps; "reference" is for the classifier of
            digits itself, and keeps what it sees of the training digits.
        num: images to draw, for each setting that is compared; test images for "bits".
        examples: test examples for the errors of "samples".
        folder: where the weights are, if they are not shipped; for "spacing" a folder of folders,
            each with a training of both models.
        out: folder to write to.
        resume: continue a record that was stopped.

    Returns:
        The card of the record; `load_record` gives its tensors.

    Raises:
        ValueError: if there are no such weights, or the model cannot be measured so; if the folder
            holds an unfinished record and `resume` is not set, or none and it is.
        OSError: if `out` cannot be written, which is tried first, or another of several processes
            is lost.
    """
    checks.at_least(2, num=num, examples=examples)  # one has no standard error
    checks.in_range(2, 1_000_000, num=num, examples=examples)
    chosen, start, processes = recipe(name), Start.now(), Processes()
    out = writable_folder(out)
    homes: list[Path | str | None] = [folder]
    if kind == "spacing" and folder is not None:
        homes = [*sorted(home for home in Path(folder).iterdir() if home.is_dir())]
        if not homes:
            raise ValueError(
                f"folder must hold a folder for each training of both models; {folder} holds none"
            )
    model = pretrained(name, homes[0], runtime.device())
    command = f"python -m companion record {name} --kind {kind}"
    command += "" if kind == "reference" else f" --num {num}"
    draw: Callable[..., Record]
    if kind == "reference":
        if not isinstance(model, DigitClassifier):
            raise ValueError(f"kind 'reference' needs a classifier of digits; {name!r} is none")
        train, test = (chosen.examples(split)[0] for split in ("train", "test"))
        draw = partial(reference, train=train, test=test)
    elif (kind == "spacing") != isinstance(model, Flow):
        raise ValueError(f"kind 'spacing', and no other, is for flow-digits; {name!r} was given")
    elif not isinstance(model, Ddpm | Flow) or len(model.x_shape) != 3:
        raise ValueError(f"name must be a diffusion model of images; {name!r} is none")
    elif kind == "spacing":
        command += "" if folder is None else f" --folder {Path(folder).name}"
        draw = partial(compare_spacings, [_pair(home) for home in homes], num=num)
    elif kind == "samples":
        x = chosen.prepare(chosen.examples("test")[0][:examples])
        command += f" --examples {examples}"
        draw = partial(samples_and_errors, x=x, num=num)
    elif kind == "bits":
        test, train = (chosen.prepare(chosen.examples(split)[0]) for split in ("test", "train"))
        frequency = gray_level_frequencies((255 * to_unit(train)).round() / 127.5 - 1)
        gray = (255 * to_unit(test[:num])).round() / 127.5 - 1
        draw = partial(bits_in_finer_steps, x=gray, frequency=frequency)
    elif kind == "scenes":
        if chosen.data != "scenes":
            raise ValueError(f"kind 'scenes' needs a model of scenes; {name!r} is none")
        vae = pretrained("vae-scenes", device=runtime.device())
        assert isinstance(vae, Vae)
        train = chosen.examples("train")[0]
        draw = partial(compare_with_renders, vae=vae, train=train, num=num)
    else:
        of_classes = kind in ("guidance", "times")
        if model.x_shape != (1, 28, 28) or (of_classes and not chosen.labels):
            raise ValueError(
                f"kind {kind!r} needs a model of digits, and guidance and times one of classes; "
                f"{name!r} is none"
            )
        judge = pretrained("classifier-mnist", device=runtime.device())
        assert isinstance(judge, DigitClassifier)
        ways: dict[str, Callable[..., Record]] = {
            "steps": partial(compare_steps, judge=judge),
            "guidance": partial(compare_scales, judge=judge),
            "times": compare_times,
        }
        draw = partial(ways[kind], num=num)
    settings = {"command": command, "sha256": read_card(name, homes[0]).sha256}
    path = out / f"{name}-{kind}.run"
    journal = Journal(path, settings, resume, processes=processes, begun=start.time)
    torch.manual_seed(chosen.seed)
    if kind != "spacing":
        draw = partial(draw, model)
    found = draw(journal=journal)
    origin = provenance(start._replace(time=journal.begun), chosen.seed)
    origin |= {"name": f"{name}-{kind}", "command": command}
    card = RecordCard(model=name, **origin, **measurement(found.metric, found.values))
    if processes.rank == 0:
        card = save_tensors(found.tensors, card, out)
    journal.close()
    return card


@torch.no_grad()
def reference(
    judge: DigitClassifier,
    train: Tensor,
    test: Tensor,
    *,
    size: int = 500,
    journal: Callable[..., Tensor] = at_once,
) -> Record:
    """Mean and covariance of the features of training images, and how far test images are from them.

    The distance of all test images, with its standard error, is `real`; the values are those of as many
    sets of `size` test images as there are.
    """
    seen = [
        torch.cat([journal(judge.features, part) for part in x.split(1000)]) for x in (train, test)
    ]
    fit = normal_fit(seen[0])
    distance = partial(frechet_distance, y=fit)
    parts = seen[1][torch.randperm(len(test), device=test.device)].split(size)
    each = [jackknife(distance, part).value for part in parts if len(part) == size]
    tensors = {**fit._asdict(), "real": torch.tensor(jackknife(distance, seen[1]))}
    metric = f"distance of {size} test digits from the training digits, less its bias"
    return Record(tensors, torch.tensor(each), metric)


@torch.no_grad()
def samples_and_errors(
    model: Ddpm,
    x: Float[Tensor, "batch *x_shape"],
    num: int,
    journal: Callable[..., Any] = at_once,
) -> Record:
    """Draw with all of the model's steps, and measure its estimate of the noise at every time on x.

    The samples have 256 levels. Entry t of the errors, and of their standard errors, belongs to time t; they are
    measured in the precision of x, since bfloat16 is coarser than the noise next to the data.
    """

    def errors_at(t: int, x: Tensor) -> Tensor:
        return noise_errors(model, x, [t])[0]

    times = runtime.progress_bar(range(1, model.num_latents + 1), "errors")
    errors = torch.stack([journal(partial(errors_at, t), x) for t in times]).double()
    draw = partial(ancestral, model, progress="samples")
    with runtime.autocast():
        samples = torch.cat([journal(draw, rows) for rows in torch.arange(num).split(CHUNK)])
    tensors = {
        "samples": levels_of(to_unit(samples)),
        "noise_error": F.pad(errors.mean(1), (1, 0)),
        "noise_error_se": F.pad(errors.std(1) / len(x) ** 0.5, (1, 0)),
    }
    metric = "squared error of the noise, mean over dimensions and over all times"
    return Record(tensors, errors.mean(0), metric)


@torch.no_grad()
def bits_in_finer_steps(
    model: Ddpm,
    x: Float[Tensor, "num *x_shape"],
    frequency: Float[Tensor, "levels"],
    journal: Callable[..., Tensor] = at_once,
) -> Record:
    """Minus the bound on log p(x) of each image, in bits per dimension: in the model's steps, and in four for each.

    Both are estimated from two random steps, with `HistogramDecoder` for the last.
    """
    found = {}
    for words, factor in (("whole", 1), ("finer", 4)):
        measure = partial(bits_of_elbo, in_finer_steps(model, frequency, factor), num=2)
        parts = runtime.progress_bar(x.split(200), words)
        found[words] = torch.cat([journal(measure, part) for part in parts])
    metric = "minus the bound on log p(x) of a test image of 256 levels, in bits per dimension, in finer steps"
    return Record({name: bits.float() for name, bits in found.items()}, found["finer"], metric)


def _pair(folder: Path | str | None) -> tuple[Ddpm, Flow]:
    ddpm, flow = (
        pretrained(f"{kind}-digits", folder, runtime.device()) for kind in ("ddpm", "flow")
    )
    assert isinstance(ddpm, Ddpm) and isinstance(flow, Flow)
    return ddpm, flow
