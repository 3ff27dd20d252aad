"""Chapter 13: which prior restores digits better, if the posterior means of both are compared?"""

from collections.abc import Iterator
from functools import cache, partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import Normal
from torch.nn import functional as F

from companion import runtime
from companion.data import load, to_symmetric, to_unit
from companion.denoisers import NoisePredictor
from companion.experiments.base import Condition, Experiment
from companion.guidance import posterior_denoiser
from companion.samplers import ddim_sample, ddpm_sample, inpaint_sample
from companion.schedule import cosine_schedule
from companion.zoo import pretrained
from companion.zoo.yardstick import no_digit_votes

NUM, DRAWS, STEPS, NOISE = 24, 8, 25, 0.05


class Prior(NamedTuple):
    """Mean and covariance of training digits."""

    mean: Tensor
    cov: Tensor


@cache
def prior(num: int) -> Prior:
    """Of so many training digits."""
    flat = to_symmetric(load("mnist", "train").images[:num]).flatten(1)
    return Prior(flat.mean(0), torch.cov(flat.T))


@cache
def unrecognized_real() -> Tensor:
    """The share of all test digits that each judge does not recognize."""
    return no_digit_votes(load("mnist", "test").images).mean(1)


@cache
def network() -> NoisePredictor:
    """The shipped denoiser of digits, used without a label."""
    denoiser = pretrained("ddpm-mnist-long").denoiser
    assert isinstance(denoiser, NoisePredictor)
    return denoiser


def denoised(x_t: Tensor, t: Tensor, /, *condition: Tensor) -> Tensor:
    """The estimate without a label; the network computes in bfloat16 where the processor has it."""
    with runtime.autocast():
        x_hat: Tensor = network()(x_t, t, *condition)
    return x_hat.float()


@cache
def matrix(measurement: str, seed: int) -> Tensor:
    """One pixel in five, means of 4 x 4 pixels, or a blur of standard deviation 1.7, as in the chapter."""
    unit = torch.eye(784)
    torch.manual_seed(seed)
    if measurement == "1 in 5":
        return unit[torch.randperm(784)[:157]]
    images = unit.view(784, 1, 28, 28)
    if measurement == "7 x 7":
        return F.avg_pool2d(images, 4).flatten(1).T
    bell = Normal(0.0, 1.7).log_prob(torch.arange(-4.0, 5)).exp()
    kernel = (bell[:, None] * bell / bell.sum() ** 2)[None, None]
    return F.conv2d(images, kernel, padding=4).flatten(1).T


def linear(y: Tensor, A: Tensor, of_data: Prior) -> Tensor:
    """The posterior mean for Gaussian data."""
    cov_of_y = A @ of_data.cov @ A.T + NOISE**2 * torch.eye(len(A))
    weight = torch.linalg.solve(cov_of_y.double(), (A @ of_data.cov).double()).float()
    return of_data.mean + (y - of_data.mean @ A.T) @ weight


def restore(
    measurement: str, method: str, steps: int, seed: int, draws: int = DRAWS
) -> dict[str, float]:
    """Squared error of a pixel, of the Gaussian prior's mean and of means of draws of the diffusion prior.

    `limit` is the error of the mean of infinitely many draws, estimated from the mean of all and their variance.
    """
    A, test = matrix(measurement, seed), load("mnist", "test").images
    torch.manual_seed(seed)
    x = to_symmetric(test[torch.randperm(len(test))[:NUM]])
    y = x.flatten(1) @ A.T
    y = y + NOISE * torch.randn_like(y)
    of_data = prior(10_000)
    restored = draws_of(measurement, method, steps, of_data.cov, y.repeat(draws, 1), A)
    restored = restored.unflatten(0, (draws, -1)).flatten(2)
    truth, gaussian = x.flatten(1), linear(y, A, of_data)
    averages = {k: restored[:k].mean(0) for k in (2, 4, 8) if k <= draws}
    errors = {f"mean of {k}": unit_error(mean, truth) for k, mean in averages.items()}
    errors["draw"] = unit_error(restored, truth)
    around = restored.var(0).mean().item() / 4  # of pixels on [0, 1]
    excess = 100 * (
        no_digit_votes(to_unit(restored.view(-1, 1, 28, 28))).mean(1) - unrecognized_real()
    )
    error_of_gaussian = unit_error(gaussian, truth)
    best = errors[f"mean of {draws}"]
    return errors | {
        "Gaussian": error_of_gaussian,
        "ratio": best / error_of_gaussian,
        "ratio of a draw": errors["draw"] / error_of_gaussian,
        "ratio of 2": errors["mean of 2"] / error_of_gaussian,
        "Gaussian of 60,000": unit_error(linear(y, A, prior(60_000)), truth),
        "limit": best - around / draws,
        "limit ratio": (best - around / draws) / error_of_gaussian,
        "residual": (y - restored @ A.T).square().mean().sqrt().item(),
        "unrecognized": excess.mean().item(),
        "judge": excess[0].item(),
        "residual judge": excess[1].item(),
    }


def unit_error(flat: Tensor, truth: Tensor) -> float:
    """Mean squared error of a pixel on [0, 1]."""
    return (to_unit(flat) - to_unit(truth)).square().mean().item()


def draws_of(
    measurement: str, method: str, steps: int, cov: Tensor, y: Tensor, A: Tensor
) -> Tensor:
    """A draw for each measurement."""
    times = cosine_schedule(1000).evenly(steps)
    x_T = torch.randn(len(y), 1, 28, 28)
    if method.startswith("replaced"):
        known, observed = (y @ A).view_as(x_T), A.sum(0).view(1, 28, 28) > 0
        repeats = int(method.split()[-1])
        return last(inpaint_sample(denoised, times, x_T, known, observed, repeats))
    if method == "pixels alone":
        cov = cov.diagonal().mean() * torch.eye(784)
    hat = posterior_denoiser(denoised, cosine_schedule(1000), A, y, NOISE, cov)
    return last((ddim_sample if method == "DDIM" else ddpm_sample)(hat, times, x_T))


def last(film: Iterator[Tensor]) -> Tensor:
    """The last of what a sampler yields."""
    *_, x = film
    return x


CONDITIONS: dict[str, Condition] = {}
for each in ("1 in 5", "7 x 7", "blurred"):
    CONDITIONS |= {
        each: partial(restore, each, "theorem", STEPS),
        f"{each}, 100 steps": partial(restore, each, "theorem", 4 * STEPS, draws=2),
        f"{each}, DDIM": partial(restore, each, "DDIM", STEPS, draws=2),
        f"{each}, pixels alone": partial(restore, each, "pixels alone", STEPS, draws=2),
    }
CONDITIONS["1 in 5, replaced 1"] = partial(restore, "1 in 5", "replaced, 1", STEPS, draws=2)
CONDITIONS["1 in 5, replaced 4"] = partial(restore, "1 in 5", "replaced, 4", STEPS, draws=2)
EXPERIMENTS = {"restoration": Experiment(CONDITIONS)}
