"""Chapter 13: at which times is guidance needed, and does a weaker network guide better than one without its label?"""

import math
from collections import deque
from functools import cache, partial

import torch
from torch import Tensor

from companion import runtime
from companion.data import to_unit
from companion.denoisers import Denoiser, NoisePredictor
from companion.experiments.base import Condition, Experiment
from companion.experiments.samplers import judged, trained
from companion.guidance import extrapolated, guided
from companion.samplers import ddim_sample
from companion.zoo import pretrained

NUM, CHUNK = 300, 50
ALWAYS, EARLY, MIDDLE, LATE = (0, math.inf), (900, math.inf), (400, 900), (0, 400)


@cache
def weak() -> NoisePredictor:
    """A network of a quarter of the parameters, after two epochs."""
    denoiser = pretrained("guide-mnist").denoiser
    assert isinstance(denoiser, NoisePredictor)
    return denoiser


def of_class(network: NoisePredictor, label: Tensor) -> Denoiser:
    """A network's estimate of images of these classes."""

    def x_hat(x_t: Tensor, t: Tensor, /, *condition: Tensor) -> Tensor:
        return network(x_t, t, label)

    return x_hat


def by(way: str, scale: float, interval: tuple[float, float], label: Tensor) -> Denoiser:
    """The guided denoiser: "label" guides by the same network without a label, "weak" by a weaker one with it."""
    network = trained().denoiser
    assert isinstance(network, NoisePredictor)
    if way == "label":
        return guided(network, label, scale, interval)
    if way == "small alone":
        return of_class(weak(), label)
    return extrapolated(of_class(network, label), of_class(weak(), label), scale, interval)


@torch.no_grad()
def draw(
    way: str, scale: float, interval: tuple[float, float], seed: int, steps: int = 20
) -> dict[str, float]:
    """As many images of each class, by DDIM from the noise of the seed: judged, how often of the class, how varied."""
    label = torch.arange(NUM) % 10
    x_T = torch.randn(NUM, 1, 28, 28, generator=torch.Generator().manual_seed(seed))
    schedule, drawn = trained().schedule.trailing(steps), []
    with runtime.autocast():
        for rows in torch.arange(NUM).split(CHUNK):
            film = ddim_sample(by(way, scale, interval, label[rows]), schedule, x_T[rows])
            drawn.append(deque(film, maxlen=1).pop())
    images = to_unit(torch.cat(drawn).float())
    varied = [images[label == k].flatten(1).var(0).sum().item() for k in range(10)]
    right = (pretrained("classifier-mnist")(images).argmax(1) == label).double().mean().item()
    return {**judged(images), "right": 100 * right, "variance": sum(varied) / 10}


CONDITIONS: dict[str, Condition] = {
    "no guidance": partial(draw, "label", 1.0, ALWAYS),
    **{f"scale {scale}": partial(draw, "label", scale, ALWAYS) for scale in (2, 3, 5)},
    **{f"scale {scale}, middle": partial(draw, "label", scale, MIDDLE) for scale in (2, 3, 5)},
    "scale 3, early": partial(draw, "label", 3, EARLY),
    "scale 3, late": partial(draw, "label", 3, LATE),
    **{f"weaker network, {scale}": partial(draw, "weak", scale, ALWAYS) for scale in (1.5, 2, 3)},
    "weaker network, 2, middle": partial(draw, "weak", 2, MIDDLE),
    "weaker network alone": partial(draw, "small alone", 1.0, ALWAYS),
    "no guidance, 40 steps": partial(draw, "label", 1.0, ALWAYS, steps=40),
    "scale 3, 40 steps": partial(draw, "label", 3, ALWAYS, steps=40),
    "scale 3, middle, 40 steps": partial(draw, "label", 3, MIDDLE, steps=40),
}
EXPERIMENTS = {"guidance": Experiment(CONDITIONS)}
