"""Chapter 12: what do Langevin dynamics make at the finest level of noise alone, by a network and by an exact score?"""

from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor

from companion import runtime
from companion.data import load, to_symmetric, to_unit
from companion.denoisers import NoisePredictor
from companion.experiments.base import Condition, Experiment
from companion.networks.classifier import DigitClassifier
from companion.schedule import cosine_schedule
from companion.score import (
    annealed_langevin_sample,
    geometric_noise_levels,
    langevin_sample,
    noise_conditional_score,
)
from companion.zoo import pretrained
from companion.zoo.yardstick import digit_features, no_digit_votes

NUM, ATOMS, STEPS = 16, 20_000, 180
SIGMA, SIZE = 0.05, 0.5 * 0.05**2
ScoreAtSigma = Callable[[Tensor, Tensor], Tensor]


@cache
def atoms() -> Tensor:
    """The training digits whose empirical distribution is the data of the exact score."""
    return to_symmetric(load("mnist", "train").images[:ATOMS])


@cache
def half_squared_norms() -> Tensor:
    """Of the training digits."""
    return atoms().flatten(1).square().sum(1) / 2


@cache
def unrecognized_real() -> Tensor:
    """The share of all test digits that each judge does not recognize."""
    return no_digit_votes(load("mnist", "test").images).mean(1)


@cache
def network() -> NoisePredictor:
    """The shipped denoiser of digits."""
    denoiser = pretrained("ddpm-mnist-long").denoiser
    assert isinstance(denoiser, NoisePredictor)
    return denoiser


@cache
def classifier() -> DigitClassifier:
    """The shipped classifier of clean digits."""
    network = pretrained("classifier-mnist")
    assert isinstance(network, DigitClassifier)
    return network


def learned(x: Tensor, sigma: Tensor) -> Tensor:
    """The score of the network, in bfloat16 where the processor has it."""
    with runtime.autocast():
        return noise_conditional_score(network(), cosine_schedule(1000))(x, sigma).float()


def exact(x: Tensor, sigma: Tensor) -> Tensor:
    """The score of the empirical distribution with this noise, by Tweedie's formula."""
    data, half_norms = atoms().flatten(1), half_squared_norms()
    weight = ((x.flatten(1) @ data.T - half_norms) / sigma[0] ** 2).softmax(1)
    some = (weight > 0).any(0)
    return ((weight[:, some] @ data[some]).view_as(x) - x) / sigma[0] ** 2


SCORES: dict[str, ScoreAtSigma] = {"network": learned, "exact": exact}


def start_of(start: str, seed: int) -> tuple[Tensor, Tensor]:
    """Where the chains start, and the test digits that some starts are made of."""
    torch.manual_seed(seed)
    test = load("mnist", "test").images
    real = to_symmetric(test[torch.randperm(len(test))[:NUM]])
    noise = torch.randn_like(real)
    starts = {
        "noise": noise,
        "weak noise": atoms().mean() + noise / 4,
        "noisy digits": real + noise,
        "digits": real + SIGMA * noise,
    }
    return starts[start], real


def at_finest(score: str, steps: int, factor: float, start: str, seed: int) -> dict[str, float]:
    """Steps of a size, as a factor of the chapter's, with the score of the finest level alone."""
    begin, real = start_of(start, seed)
    sigma = torch.full((NUM,), SIGMA)
    score_at_sigma = SCORES[score]

    def of_last(x: Tensor) -> Tensor:
        return score_at_sigma(x, sigma)

    *_, x = langevin_sample(of_last, begin, factor * SIZE, steps)
    off = SIGMA**2 * (learned(begin, sigma) - exact(begin, sigma))
    apart = off.square().mean().item()
    return measured(x + SIGMA**2 * of_last(x), begin, real) | {"apart": apart}


def annealed(score: str, seed: int) -> dict[str, float]:
    """The chapter's sixty levels, three steps at each: as many calls."""
    begin, real = start_of("noise", seed)
    sigmas = geometric_noise_levels(20.0, SIGMA, 60).float()
    *_, x = annealed_langevin_sample(SCORES[score], 20 * begin, sigmas, SIZE, 3)
    return measured(x + SIGMA**2 * SCORES[score](x, sigmas[-1:].expand(NUM)), begin, real)


def measured(x: Tensor, begin: Tensor, real: Tensor) -> dict[str, float]:
    """What the images show; shares are in percent, of images not recognized in excess over real digits.

    `stayed` is the share whose nearest training digit is that of their start, `off classes` half the sum of the errors
    of the classes' shares, `moved` the mean squared distance of a pixel from the digit that the start was made of.
    """
    images = to_unit(x)
    excess = 100 * (no_digit_votes(images).mean(1) - unrecognized_real())
    data = atoms().flatten(1)
    nearest = [torch.cdist(each.flatten(1), data).argmin(1) for each in (x, begin)]
    classes = classifier().head(digit_features(images)).argmax(1)
    shares = torch.bincount(classes, minlength=10) / len(x)
    return {
        "unrecognized": excess.mean().item(),
        "judge": excess[0].item(),
        "residual judge": excess[1].item(),
        "white": 100 * (images > 0.75).double().mean().item(),
        "stayed": 100 * (nearest[0] == nearest[1]).double().mean().item(),
        "kinds": float(len(nearest[0].unique())),
        "off classes": 50 * (shares - 0.1).abs().sum().item(),
        "moved": (x - real).square().mean().item(),
    }


CONDITIONS: dict[str, Condition] = {}
for each in SCORES:
    CONDITIONS |= {
        each: partial(at_finest, each, STEPS, 1.0, "noise"),
        f"{each}, four times the steps": partial(at_finest, each, 4 * STEPS, 1.0, "noise"),
        f"{each}, a quarter of the step": partial(at_finest, each, STEPS, 0.25, "noise"),
        f"{each}, four times the step": partial(at_finest, each, STEPS, 4.0, "noise"),
        f"{each}, weak noise": partial(at_finest, each, STEPS, 1.0, "weak noise"),
        f"{each}, noisy digits": partial(at_finest, each, STEPS, 1.0, "noisy digits"),
        f"{each}, all levels": partial(annealed, each),
    }
CONDITIONS["network, digits"] = partial(at_finest, "network", STEPS, 1.0, "digits")
EXPERIMENTS = {"finest-level": Experiment(CONDITIONS)}
