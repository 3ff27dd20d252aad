"""Chapter 1: do digits come from the arrows of a denoiser only?"""

from functools import cache, partial

import torch
from torch import Tensor, nn

from companion.experiments.base import Condition, Experiment
from companion.zoo.pretrained import pretrained
from companion.zoo.yardstick import unrecognized

NUM, SIGMA = 300, 0.5
FILES = {
    "denoising": "dae-mnist",
    "plain": "ae-mnist",
    "robust": "robust-ae-mnist",
    "contracting": "cae-mnist",
}


@cache
def network(name: str) -> nn.Module:
    """One of the four shipped networks of one architecture."""
    return pretrained(FILES[name])


@torch.no_grad()
def drawn(name: str, num_steps: int, eta: float, last: str, seed: int) -> dict[str, float]:
    """Percent of images that both judges take for digits, after steps along a network's arrows from noise.

    Each step goes a fraction eta of the way to the reconstruction and adds noise, as in the chapter. The
    last image is the reconstruction by the network `last`. The seed is that of the noise.
    """
    r = network(name)
    x: Tensor = SIGMA * torch.randn(NUM, 1, 28, 28)
    for _ in range(num_steps):
        x = x + eta * (r(x) - x) + (2 * eta) ** 0.5 * SIGMA * torch.randn_like(x)
    return {"digits": 100 * (1 - unrecognized(network(last)(x)).value)}


SETTINGS = {
    "": (200, 0.1),
    ", 800 steps": (800, 0.1),
    ", longer steps": (50, 0.4),
    ", shorter steps": (800, 0.025),
}
CONDITIONS: dict[str, Condition] = {
    f"{name}{words}": partial(drawn, name, *setting, "denoising")
    for name in FILES
    for words, setting in SETTINGS.items()
}
CONDITIONS |= {
    f"{name}, its own last step": partial(drawn, name, 200, 0.1, name)
    for name in ("plain", "robust", "contracting")
}
EXPERIMENTS = {"arrows": Experiment(CONDITIONS, seeds=4)}
