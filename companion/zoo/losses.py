"""The losses of the recipes of diffusion models: what is weighted, and at which times."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from companion import checks
from companion.data import DRAWS, captions, tokens
from companion.ddpm import Ddpm, denoising_loss
from companion.guidance import classifier_free_loss
from companion.schedule import Schedule
from companion.variances import bound_weights
from companion.zoo import architectures


def simple_loss(model: Ddpm, x: Tensor) -> Tensor:
    """L_simple, the squared error of the noise."""
    checks.instance(Ddpm, model=model)
    return denoising_loss(model, x, model.schedule.snr)


def v_loss(model: Ddpm, x: Tensor) -> Tensor:
    """Squared error of v."""
    checks.instance(Ddpm, model=model)
    return denoising_loss(model, x, 1 / model.schedule.noise_var)


def joint_loss(model: Ddpm, x: Tensor, label: Tensor) -> Tensor:
    """Squared error of v, with half of the labels dropped, mostly at times when a digit is decided or finished."""
    checks.instance(Ddpm, model=model)
    weight, time_weights = _decisive(model.schedule, 0.01)
    return classifier_free_loss(model, x, label, weight, 0.5, time_weights)


def scene_loss(model: Ddpm, x: Tensor, factors: Tensor) -> Tensor:
    """Squared error of v, mostly at times when a scene is decided or finished, with the factors dropped for a tenth.

    Color covers the whole image, so that much is decided where there is still little signal.
    """
    checks.instance(Ddpm, model=model)
    weight, time_weights = _decisive(model.schedule, 0.001)
    told = architectures.told(factors)
    return classifier_free_loss(model, x, told, weight, 0.1, time_weights)


def text_loss(model: Ddpm, x: Tensor, attributes: Tensor) -> Tensor:
    """Squared error of v, given a sentence drawn anew for each image.

    Each attribute is left out of a tenth of the sentences, and a tenth of the images get none at all.
    """
    draws = torch.rand(len(x), DRAWS, device=x.device)
    label = tokens(captions(attributes, draws, 0.1)).to(x.device)
    return classifier_free_loss(model, x, label, 1 / model.schedule.noise_var, 0.1)


def _decisive(schedule: Schedule, low: float) -> tuple[Tensor, Tensor]:
    """The weights of v's squared error by time, and how often to draw each time.

    Times with a signal-to-noise ratio below a tenth of `low` hardly count, and the last few before the data count more.
    """
    snr, t = schedule.snr, schedule.steps.to(schedule.snr)
    time_weights = (snr / low).clamp(0.1, 1) + F.pad(10 / t, (1, 0), value=10)
    p = time_weights / time_weights[1:].sum()
    return schedule.num_steps * p / schedule.noise_var, time_weights


def three_parts_loss(model: Ddpm, x: Tensor, label: Tensor) -> Tensor:
    """Squared error of v, with half of the labels dropped, at times of three kinds.

    Half of a batch is at times when the digit is decided, around a signal-to-noise ratio of 0.1; a third is weighted as
    the bound at its first hundred times; the rest is at any time.

    Source: Karras et al. 2022, section 5 (log-normal times); Kingma & Gao 2023 (weights of the bound).
    """
    checks.instance(Ddpm, model=model)
    t = model.schedule.steps.double()
    log_snr = model.schedule.snr[1:].double().log()
    pace = -log_snr.diff(append=log_snr[-1:])
    decided = (-((log_snr - math.log(0.1)) ** 2) / 8).exp() * pace
    near = (t <= 100) / t
    p = decided / (2 * decided.sum()) + near / (3 * near.sum()) + 1 / (6 * len(t))
    time_weights = F.pad(p, (1, 0), value=1).float()
    weight = model.schedule.num_steps * time_weights / model.schedule.noise_var
    return classifier_free_loss(model, x, label, weight, 0.5, time_weights)


def bound_loss(model: Ddpm, x: Tensor) -> Tensor:
    """Minus the bound over T, but for a constant, where the likelihood is Gaussian."""
    checks.instance(Ddpm, model=model)
    return denoising_loss(model, x, bound_weights(model.schedule, model.reverse_var).x_0)
