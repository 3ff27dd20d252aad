"""Records: what a chapter shows of hundreds of samples, drawn once, with a measurement on a card."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

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
from companion.zoo import comparisons
from companion.zoo.checkpoints import Journal, at_once
from companion.zoo.comparisons import Record, levels_of
from companion.zoo.drawing import ancestral, in_parts
from companion.zoo.measures import bits_of_elbo
from companion.zoo.pretrained import pretrained
from companion.zoo.processes import Processes
from companion.zoo.recipes import Recipe, recipe
from companion.zoo.runs import measurement, provenance
from companion.zoo.weights import RecordCard, path_of, read_card, save_tensors, writable_folder

Folder = Path | str | None


class Subject(NamedTuple):
    """What a record is made of: trained weights and their recipe, and how much is drawn or measured."""

    recipe: Recipe
    model: Any
    folders: Sequence[Folder]  # one; for "spacing" one for each training
    num: int
    examples: int

    def split(self, split: str) -> Tensor:
        """The images of a split, as the model is given them."""
        return self.recipe.prepare(self.recipe.examples(split)[0])

    @property
    def is_one(self) -> dict[str, bool]:
        """What the model is, in words, and what it is not."""
        shape, data = getattr(self.model, "x_shape", ()), self.recipe.data.name
        of_images = isinstance(self.model, Ddpm) and len(shape) == 3
        of_digits = of_images and shape == (1, 28, 28)
        return {
            "a diffusion model of images": of_images,
            "a diffusion model of digits": of_digits,
            "a diffusion model of digits and their classes": of_digits and self.recipe.labels,
            "a diffusion model of scenes": of_images and data == "scenes",
            "a diffusion model of landscapes": of_images and data == "landscapes",
            "a flow of small digits": isinstance(self.model, Flow),
            "a classifier of digits": isinstance(self.model, DigitClassifier),
        }


class Kind(NamedTuple):
    """A kind of record: the model it needs, one of the words of `Subject.is_one`, and what draws it."""

    needs: str
    draw: Callable[[Subject], Callable[..., Record]]
    options: str = " --num {num}"  # of the command


def record(
    name: str,
    kind: Literal[
        "samples",
        "bits",
        "steps",
        "times",
        "guidance",
        "scenes",
        "sentences",
        "spacing",
        "reference",
    ] = "samples",
    num: int = 1000,
    examples: int = 500,
    folder: Path | str | None = None,
    out: Path | str = "runs",
    resume: bool = False,
) -> RecordCard:
    """Draw many images from a trained diffusion model, and write what is measured on them as the record NAME-KIND.

    On a CPU it takes minutes to hours, as the cards of the shipped records say. Ctrl-C and SIGTERM end it when the
    part under way is done and saved, in NAME-KIND.run; with `resume` it goes on. Launched as
    several processes, each draws and measures its share.

    Args:
        name: of the weights, such as "ddpm-mnist-long".
        kind: "samples" draws with all steps and measures the error of the noise at every time;
            "bits" draws nothing, and measures the bound on test images in 16 times as many steps;
            "steps" compares samplers with few steps, and "guidance" scales of guidance, by what
            the shipped classifier of digits sees; "times" compares the choice of ten or twenty times, by
            what the judges of digits say; "scenes" draws houses for the causes of test
            scenes, and finds the nearest one of the renderer to each; "sentences" draws landscapes for
            sentences at several scales of guidance, and reads which attributes they have; "spacing" is for flow-digits,
            and compares it with ddpm-digits in few steps; "reference" is for the classifier of
            digits itself, and keeps what it sees of the training digits.
        num: images to draw, for each setting that is compared; test images for "bits".
        examples: test examples for the errors of "samples".
        folder: where the weights are, if they are not shipped; for "spacing" a folder of folders,
            each with a training of both models.
        out: folder to write to.
        resume: continue a record that was stopped.

    Raises:
        ValueError: if there are no such weights or kind, the model cannot be measured so, or what the folder
            holds does not fit `resume`.
        OSError: if `out` cannot be written, which is tried first, or another of several processes is lost.
    """
    checks.whole(2, 1_000_000, num=num, examples=examples)  # one has no standard error
    chosen, processes = recipe(name), Processes()
    checks.one_of(KINDS, kind=kind)
    out, made = writable_folder(out), KINDS[kind]
    command = f"python -m companion record {name} --kind {kind}"
    command += made.options.format(num=num, examples=examples)
    folders: list[Folder] = [folder]
    if kind == "spacing" and folder is not None:
        folders = [*sorted(home for home in path_of(folder=folder).glob("*") if home.is_dir())]
        command += f" --folder {Path(folder).name}"
        if not folders:
            raise ValueError(
                f"folder must hold a folder for each training of both models; {folder} holds none"
            )
    subject = Subject(chosen, _network(name, folders[0]), folders, num, examples)
    if not subject.is_one[made.needs]:
        raise ValueError(f"kind {kind!r} needs {made.needs}; {name!r} is none")
    settings = {"command": command, "sha256": read_card(name, folders[0]).sha256}
    path = out / f"{name}-{kind}.run"
    journal = Journal(path, settings, processes, resume)
    draw = made.draw(subject)  # what it loads draws random numbers
    torch.manual_seed(chosen.seed)
    found = draw(journal=journal)
    origin = provenance(journal, chosen.seed) | measurement(found.metric, found.values)
    card = RecordCard(name=f"{name}-{kind}", model=name, command=command, **origin)
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
    model: Ddpm, x: Float[Tensor, "batch *x_shape"], num: int, journal: Callable[..., Any] = at_once
) -> Record:
    """Draw with all of the model's steps, and measure its estimate of the noise at every time on x.

    The samples have 256 levels. Entry t of the errors, and of their standard errors, belongs to time t; they are
    measured in the precision of x, since bfloat16 is coarser than the noise next to the data.
    """

    def errors_at(t: int, x: Tensor) -> Tensor:
        return noise_errors(model, x, [t])[0]

    times = runtime.progress_bar(range(1, model.num_latents + 1), "errors")
    errors = torch.stack([journal(partial(errors_at, t), x) for t in times]).double()
    with runtime.autocast():
        draw = partial(ancestral, model, progress="samples")
        samples = in_parts(journal, draw, torch.arange(num))
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
    """Minus the bound on log p(x) of each image, in bits per dimension: in the model's steps, and in 16 for each.

    Both are estimated from four random steps, with `HistogramDecoder` for the last.
    """
    found = {}
    for words, factor in (("whole", 1), ("finer", 16)):
        measure = partial(bits_of_elbo, in_finer_steps(model, frequency, factor), num=4)
        parts = runtime.progress_bar(x.split(200), words)
        found[words] = torch.cat([journal(measure, part) for part in parts])
    metric = "minus the bound on log p(x) of a test image of 256 levels, in bits per dimension, in finer steps"
    return Record({name: bits.float() for name, bits in found.items()}, found["finer"], metric)


def _network(name: str, folder: Folder = None) -> Any:
    return pretrained(name, folder, runtime.device())


def _bits(of: Subject) -> Callable[..., Record]:
    test, train = ((255 * to_unit(of.split(s))).round() / 127.5 - 1 for s in ("test", "train"))
    return partial(bits_in_finer_steps, of.model, test[: of.num], gray_level_frequencies(train))


def _scenes(of: Subject) -> Callable[..., Record]:
    vae, train = _network("vae-scenes"), of.recipe.examples("train")[0]
    return partial(comparisons.compare_with_renders, of.model, vae, train, of.num)


def _spacing(of: Subject) -> Callable[..., Record]:
    pairs = [(_network("ddpm-digits", home), _network("flow-digits", home)) for home in of.folders]
    return partial(comparisons.compare_spacings, pairs, of.num)


KINDS = {
    "samples": Kind(
        "a diffusion model of images",
        lambda of: partial(samples_and_errors, of.model, of.split("test")[: of.examples], of.num),
        " --num {num} --examples {examples}",
    ),
    "bits": Kind("a diffusion model of images", _bits),
    "steps": Kind(
        "a diffusion model of digits",
        lambda of: partial(
            comparisons.compare_steps, of.model, _network("classifier-mnist"), of.num
        ),
    ),
    "guidance": Kind(
        "a diffusion model of digits and their classes",
        lambda of: partial(
            comparisons.compare_scales, of.model, _network("classifier-mnist"), of.num
        ),
    ),
    "times": Kind(
        "a diffusion model of digits and their classes",
        lambda of: partial(comparisons.compare_times, of.model, of.num),
    ),
    "scenes": Kind("a diffusion model of scenes", _scenes),
    "sentences": Kind(
        "a diffusion model of landscapes",
        lambda of: partial(comparisons.compare_sentences, of.model, of.num),
    ),
    "spacing": Kind("a flow of small digits", _spacing),
    "reference": Kind(
        "a classifier of digits",
        lambda of: partial(reference, of.model, *map(of.split, ("train", "test"))),
        "",
    ),
}
