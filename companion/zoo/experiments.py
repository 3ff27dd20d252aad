"""What a chapter shows of hundreds of samples, drawn once: one entry per sample, and a number for the card."""

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from companion import runtime
from companion.ddpm import Ddpm, noise_errors
from companion.denoisers import NoisePredictor
from companion.guidance import guided
from companion.networks.classifier import DigitClassifier
from companion.samplers import (
    ancestral_sample,
    ddim_sample,
    ddpm_sample,
    dpm_solver_sample,
    in_chunks,
)

CHUNK = 100

SAMPLERS: dict[str, Callable[..., Iterator[Tensor]]] = {
    "ddim": ddim_sample,
    "dpm-solver": dpm_solver_sample,
    "beta-tilde": ddpm_sample,
    "beta": lambda denoiser, schedule, x_T, **options: ddpm_sample(
        denoiser, schedule, x_T, schedule.beta, **options
    ),
}
NUM_STEPS = (10, 20, 50, 100)

SCALES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 9.0)
NUM_SHOWN = 60


class Record(NamedTuple):
    """What is kept: tensors by name, a value for each example, and what the mean of these is."""

    tensors: dict[str, Tensor]
    values: Float[Tensor, "num"]
    metric: str


@torch.no_grad()
def samples_and_errors(model: Ddpm, x: Float[Tensor, "batch *x_shape"], num: int) -> Record:
    """Draw with all of the model's steps, and measure its estimate of the noise at every time on x.

    The samples have 256 levels. Entry t of the errors, and of their standard errors, belongs to time t.
    """
    T = model.num_latents
    with runtime.autocast():
        times = tqdm(range(1, T + 1), "errors")
        errors = torch.cat([noise_errors(model, x, [t]) for t in times]).double()
        samples = []
        for _ in range(0, num, CHUNK):
            for picture in tqdm(ancestral_sample(model, CHUNK), "samples", T + 1):  # noqa: B007
                pass
            samples.append(picture)
    tensors = {
        "samples": _levels(_bright(torch.cat(samples)[:num])),
        "noise_error": F.pad(errors.mean(1), (1, 0)),
        "noise_error_se": F.pad(errors.std(1) / len(x) ** 0.5, (1, 0)),
    }
    metric = "squared error of the noise, mean over dimensions and over all times"
    return Record(tensors, errors.mean(0), metric)


@torch.no_grad()
def compare_steps(model: Ddpm, judge: DigitClassifier, num: int) -> Record:
    """Draw by every sampler in few steps from the same noise, and keep what the classifier sees.

    Named by sampler and number of steps, such as "ddim 20".
    """
    x_T = torch.randn(num, *model.x_shape).to(model.origin)
    tensors, sure = {}, []
    for steps, kind in itertools.product(NUM_STEPS, SAMPLERS):
        name, schedule = f"{kind} {steps}", model.schedule.evenly(steps)
        sampler = partial(SAMPLERS[kind], model.denoiser, schedule, progress=name)
        with runtime.autocast():
            pictures = _bright(in_chunks(sampler, CHUNK, x_T))
        features = judge.features(pictures)
        tensors[name] = features.half()
        sure.append(judge.head(features).softmax(1).amax(1).double())
    metric = "confidence of the classifier in a digit, mean over all samplers and numbers of steps"
    return Record(tensors, torch.stack(sure).mean(0), metric)


@torch.no_grad()
def compare_scales(model: Ddpm, judge: DigitClassifier, num: int) -> Record:
    """Draw every class at every guidance scale by 20 DDIM steps, and keep what the classifier sees.

    The noise is the same at each scale. Of the pictures the first `NUM_SHOWN` are kept, and of all of them
    the variance of the pixels within each class, summed over the pixels.

    Raises:
        ValueError: if `num` is below 20, two of each class, which a variance needs.
    """
    if num < 20:
        raise ValueError(f"num must be at least 20, two of each class; {num} was given")
    network, schedule = model.denoiser, model.schedule.evenly(20)
    assert isinstance(network, NoisePredictor)  # it can be told a class
    x_T = torch.randn(num, *model.x_shape).to(model.origin)
    label = (torch.arange(num) % 10).to(x_T.device)
    features, shown, spread, hits = [], [], [], []
    for scale in SCALES:

        def sampler(x_T: Tensor, label: Tensor, scale: float = scale) -> Iterator[Tensor]:
            denoiser = guided(network, label, scale)
            return ddim_sample(denoiser, schedule, x_T, progress=f"scale {scale}")

        with runtime.autocast():
            pictures = _bright(in_chunks(sampler, CHUNK, x_T, label))
        features.append(judge.features(pictures))
        shown.append(_levels(pictures[:NUM_SHOWN]))
        parts = (pictures[label == k].flatten(1) for k in range(10))
        spread.append(torch.stack([part.var(0).sum() for part in parts]))
        hits.append((judge.head(features[-1]).argmax(1) == label).double())
    tensors = {
        "scale": torch.tensor(SCALES),
        "label": label,
        "features": torch.stack(features).half(),
        "samples": torch.stack(shown),
        "spread": torch.stack(spread),
    }
    metric = (
        "share of the digits that the classifier takes for what was asked for, mean over all scales"
    )
    return Record(tensors, torch.stack(hits).mean(0), metric)


def _bright(x: Tensor) -> Tensor:
    """Pictures on [-1, 1] as the classifier wants them, on [0, 1]."""
    return ((x + 1) / 2).clamp(0, 1)


def _levels(x: Tensor) -> Tensor:
    """Pictures on [0, 1] in 256 levels."""
    return (255 * x).round().to(torch.uint8)
