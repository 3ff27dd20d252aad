"""Chapter 11: how near to renders are houses of a VAE with the diffusion model's data, size and minutes?"""

from functools import cache, partial

import torch
from torch import Tensor

from companion.data import nearest_scenes, scenes, to_unit
from companion.ddpm import Ddpm
from companion.experiments.base import Condition, Experiment
from companion.samplers import ddpm_sample
from companion.vae import Vae
from companion.zoo import pretrained

NUM = 64


def vae(name: str) -> Vae:
    """A shipped VAE of houses."""
    model = pretrained(name)
    assert isinstance(model, Vae)
    return model


@cache
def test_scenes(seed: int) -> Tensor:
    """Renders that no training set has."""
    return scenes(NUM, 100 + seed).images


def drawn(name: str, tau: float, seed: int) -> Tensor:
    """The decoder's means for draws of the prior at a temperature."""
    return vae(name).likelihood(tau * vae(name).prior(NUM).sample()).mean


def reconstructed(name: str, seed: int) -> Tensor:
    """The decoder's means for the means of q of test scenes."""
    return vae(name).likelihood(vae(name).posterior(test_scenes(seed)).mean).mean


def diffused(seed: int) -> Tensor:
    """Houses of the diffusion model, which is given no factors, in 25 steps with added noise."""
    model = pretrained("ddpm-scenes")
    assert isinstance(model, Ddpm)
    *_, x = ddpm_sample(model.denoiser, model.schedule.evenly(25), torch.randn(NUM, 3, 32, 32))
    return to_unit(x)


@torch.no_grad()
def distance(images: partial[Tensor], seed: int) -> dict[str, float]:
    """Squared distance from the nearest render, summed over the values: its median, and its mean."""
    torch.manual_seed(seed)
    _, squared = nearest_scenes(images(seed).clamp(0, 1))
    return {"median": squared.median().item(), "mean": squared.mean().item()}


CONDITIONS: dict[str, Condition] = {
    "test scenes": partial(distance, partial(test_scenes)),
    "VAE": partial(distance, partial(drawn, "large-vae-scenes", 1.0)),
    "VAE, temperature 0.7": partial(distance, partial(drawn, "large-vae-scenes", 0.7)),
    "VAE, reconstructions": partial(distance, partial(reconstructed, "large-vae-scenes")),
    "small VAE": partial(distance, partial(drawn, "vae-scenes", 1.0)),
    "small VAE, reconstructions": partial(distance, partial(reconstructed, "vae-scenes")),
    "diffusion": partial(distance, partial(diffused)),
}
EXPERIMENTS = {"houses": Experiment(CONDITIONS)}
