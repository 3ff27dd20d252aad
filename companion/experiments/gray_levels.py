"""Chapter 10: what makes the last step of the digits cheaper, the frequencies of the gray levels or the network?"""

from functools import cache, partial

import torch
from torch import Tensor

from companion.data import load
from companion.ddpm import Ddpm
from companion.decoders import GrayLevels, HistogramDecoder, gray_level_frequencies
from companion.experiments.base import Condition, Experiment
from companion.schedule import add_noise
from companion.zoo import pretrained

NUM, LEVELS, PIXELS = 500, 256, 784


@cache
def trained() -> Ddpm:
    """The shipped network of digits."""
    model = pretrained("ddpm-mnist-long")
    assert isinstance(model, Ddpm)
    return model


@cache
def gray(split: str) -> Tensor:
    """Digits on 256 levels from -1 to 1."""
    return 2 * (255 * load("mnist", split).images).round() / 255 - 1


def frequency(kind: str) -> Tensor:
    """Probability of each level: "all" counts training pixels, "black" that of black only, "few" in 1,000 digits."""
    if kind == "equal":
        return torch.full((LEVELS,), 1 / LEVELS).double()
    counted = gray_level_frequencies(gray("train")[: 1000 if kind == "few" else None])
    if kind == "black":
        rest = ((1 - counted[0]) / (LEVELS - 1)).expand(LEVELS - 1)
        return torch.cat([counted[:1], rest])
    return counted


@torch.no_grad()
def noisy(x: Tensor) -> tuple[Tensor, Tensor]:
    """x_1, and what the network makes of it."""
    x_1 = add_noise(trained().schedule, x, 1, torch.randn_like(x))
    return x_1, trained().denoise(x_1, 1)


@cache
def image_error() -> float:
    """Mean squared error of the network's image at t = 1, per pixel, on training digits."""
    torch.manual_seed(0)
    x = gray("train")[:NUM]
    return (x - noisy(x)[1]).square().mean().item()


@cache
def error_by_estimate() -> tuple[Tensor, Tensor]:
    """Edges of 64 intervals of the network's estimate, and its mean squared error in each, on training digits.

    Half of them have equally many pixels, since most are black; the others are equally wide.
    """
    torch.manual_seed(0)
    x = gray("train")[:NUM]
    x_hat = noisy(x)[1]
    quantiles = x_hat.flatten().quantile(torch.linspace(0, 1, 33)[1:])
    edges = torch.cat([quantiles, torch.linspace(-1, 1, 33)[1:-1]]).sort().values
    rows, square = torch.bucketize(x_hat, edges).flatten(), (x - x_hat).square().flatten()
    total, num = torch.zeros(64).index_add(0, rows, square), torch.bincount(rows, minlength=64)
    return edges, (total + 1e-4) / (num + 1)


def decode(kind: str, prior: str, seed: int) -> dict[str, float]:
    """Nats that the last step takes for a test digit, and bits per dimension."""
    error, _ = image_error(), error_by_estimate()  # before the seed
    torch.manual_seed(seed)
    model, x = trained(), gray("test")[NUM * seed :][:NUM]
    values = torch.linspace(-1, 1, LEVELS).double()
    nats = []
    for part in x.split(50):
        x_1, x_hat = noisy(part)
        if kind == "Gaussian":
            std = model.schedule.posterior_var[2].sqrt() if prior == "usual" else error**0.5
            if prior == "by estimate":
                edges, errors = error_by_estimate()
                std = errors[torch.bucketize(x_hat, edges)].sqrt()
            decoded = model.observation_model(x_hat, torch.as_tensor(std).to(x_hat))
        elif kind == "network":
            likelihood = -(x_hat[..., None].double() - values).square() / (2 * error)
            decoded = GrayLevels((frequency(prior).log() + likelihood).to(x_hat))
        else:
            decoded = HistogramDecoder(model.schedule, frequency(prior))(x_1)
        nats.append(-decoded.log_prob(part).double())
    mean = torch.cat(nats).mean().item()
    black = (x == -1).double().mean().item()
    bits = mean / PIXELS / torch.tensor(2.0).log().item()
    return {"nats": mean, "bits": bits, "black": 100 * black}


CONDITIONS: dict[str, Condition] = {
    "Gaussian": partial(decode, "Gaussian", "usual"),
    "Gaussian, measured variance": partial(decode, "Gaussian", "measured"),
    "Gaussian, variance by estimate": partial(decode, "Gaussian", "by estimate"),
    "equal": partial(decode, "pixel", "equal"),
    "black alone": partial(decode, "pixel", "black"),
    "frequencies": partial(decode, "pixel", "all"),
    "frequencies of 1,000 digits": partial(decode, "pixel", "few"),
    "network, equal": partial(decode, "network", "equal"),
    "network, frequencies": partial(decode, "network", "all"),
}
EXPERIMENTS = {"gray-levels": Experiment(CONDITIONS, seeds=5)}
