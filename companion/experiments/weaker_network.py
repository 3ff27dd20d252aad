"""Chapter 13: without any class, does a weaker network guide twenty steps of DDIM to digits?"""

from collections import deque
from functools import partial

import torch

from companion import runtime
from companion.data import to_unit
from companion.experiments.base import Condition, Experiment
from companion.experiments.guidance_variants import ALWAYS, EARLY, LATE, MIDDLE, weak
from companion.experiments.samplers import judged, trained
from companion.guidance import extrapolated
from companion.samplers import ddim_sample
from companion.zoo.weights import load_record

NUM, CHUNK = 300, 50


@torch.no_grad()
def draw(
    scale: float, interval: tuple[float, float], seed: int, steps: int = 20, alone: bool = False
) -> dict[str, float]:
    """What DDIM draws from the noise of the seed; "alone" by the weaker network, else guided away from it."""
    networks = weak() if alone else trained().denoiser, weak()
    if scale > 1:
        denoiser = extrapolated(*networks, scale, interval)
    else:
        denoiser = networks[0]
    x_T = torch.randn(NUM, *trained().x_shape, generator=torch.Generator().manual_seed(seed))
    schedule, drawn = trained().schedule.trailing(steps), []
    with runtime.autocast():
        for rows in x_T.split(CHUNK):
            drawn.append(deque(ddim_sample(denoiser, schedule, rows), maxlen=1).pop())
    images = to_unit(torch.cat(drawn).float())
    return {**judged(images), "variance": images.flatten(1).var(0).sum().item()}


def whole(seed: int) -> dict[str, float]:
    """As many of the digits that were drawn with all steps."""
    drawn = load_record("ddpm-mnist-long-samples")[0]["samples"]
    images = drawn[NUM * seed :][:NUM].float() / 255
    return {**judged(images), "variance": images.flatten(1).var(0).sum().item()}


CONDITIONS: dict[str, Condition] = {
    "no guidance": partial(draw, 1.0, ALWAYS),
    "no guidance, 25 steps": partial(draw, 1.0, ALWAYS, steps=25),
    "no guidance, 40 steps": partial(draw, 1.0, ALWAYS, steps=40),
    "weaker network alone": partial(draw, 1.0, ALWAYS, alone=True),
    **{f"scale {scale}": partial(draw, scale, ALWAYS) for scale in (1.5, 2, 3)},
    **{f"scale {scale}, middle": partial(draw, scale, MIDDLE) for scale in (1.5, 2, 3)},
    "scale 2, early": partial(draw, 2, EARLY),
    "scale 2, late": partial(draw, 2, LATE),
    "scale 2, middle, 40 steps": partial(draw, 2, MIDDLE, steps=40),
    "all steps": whole,
}
EXPERIMENTS = {"weaker-network": Experiment(CONDITIONS)}
