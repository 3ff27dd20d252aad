"""Does a landscape show what a sentence asks for? It is drawn, a network reads it, and each attribute is compared."""

import math
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional as F

from companion import checks
from companion.data import DRAWS, captions, tokens
from companion.data.scenes import PIXELS
from companion.ddpm import Ddpm
from companion.guidance import guided
from companion.samplers import ddim_sample
from companion.zoo.architectures import decoded_landscapes, landscape_reader

STEPS = 20
"""Of DDIM, for each image."""


def obeyed(
    model: Ddpm,
    attributes: Int[Tensor, "batch 8"],
    scale: float = 2.0,
    interval: tuple[float, float] = (0, math.inf),
) -> Bool[Tensor, "batch 8"]:
    """Whether the reader finds each attribute in an image drawn for a sentence that tells all eight.

    Args:
        model: draws maps of the first stage of landscapes, for the words of a sentence.
        attributes: what is asked for; the words and the noise are random.
        scale: of the guidance; `guidance_scale` in diffusers.
        interval: of the times at which it guides, as `companion.guidance.guided` has it.
    """
    checks.integers(attributes=attributes)
    draws = torch.rand(len(attributes), DRAWS, device=attributes.device)
    z = drawn(model, tokens(captions(attributes, draws)), scale, interval)
    # The reader was trained on 32 x 32 pixels; larger images are averaged down to that.
    images = F.adaptive_avg_pool2d(decoded_landscapes(z), PIXELS)
    return landscape_reader().read(images) == attributes


def drawn(
    model: Ddpm,
    label: Int[Tensor, "batch 24"],
    scale: float = 2.0,
    interval: tuple[float, float] = (0, math.inf),
) -> Float[Tensor, "batch channels height width"]:
    """What the model draws for the words of sentences, from random noise; arguments as of `obeyed`."""
    checks.instance(Ddpm, model=model)
    network: Any = model.denoiser
    label = label.to(model.origin.device)
    x_T = torch.randn(len(label), *model.x_shape, device=label.device)
    denoiser = guided(network, label, scale, interval)
    *_, x_0 = ddim_sample(denoiser, model.schedule.evenly(STEPS), x_T)
    return x_0


def disobeyed(
    model: Ddpm, x: Float[Tensor, "batch 4 side side"], attributes: Int[Tensor, "batch 8"]
) -> Float[Tensor, "batch"]:
    """The fraction of the attributes that an image, drawn for a sentence about a test image, does not have."""
    return 1 - obeyed(model, attributes).double().mean(1)
