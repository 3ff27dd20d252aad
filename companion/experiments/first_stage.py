"""Chapter 14: what does the first stage of a text-to-image model contribute, where the cost is the same without it?"""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from companion.data import DRAWS, MAX_WORDS, VOCABULARY, captions, landscapes, tokens
from companion.ddpm import Ddpm
from companion.denoisers import VPredictor
from companion.experiments import memorization
from companion.experiments.base import Condition, Experiment
from companion.experiments.sentence_parts import distance
from companion.networks.transformer import TextTransformer
from companion.schedule import cosine_schedule
from companion.zoo.architectures import decoded_landscapes, landscape_codes, landscape_reader
from companion.zoo.obedience import drawn
from companion.zoo.recipes import Recipe
from companion.zoo.sources import LANDSCAPES

NUM = 80
UNITS = {"standard": (0.625, 0.25), "symmetric": (0.5, 0.5)}
LENGTHS: dict[str, dict[str, Any]] = {
    "whole": {},
    "third": {"epochs": 1},
    "sixth": {"epochs": 1, "data": replace(LANDSCAPES, num=30_000), "ema": 0.99},
}


def pixel_ddpm(patch: int = 8) -> Ddpm:
    """As `text_ddpm`, but of pixels: its 16 patches are of 8 x 8 pixels, as many as those of the maps."""
    schedule = cosine_schedule(1000)
    network = TextTransformer((3, 32, 32), len(VOCABULARY), MAX_WORDS, patch)
    return Ddpm(VPredictor(network, schedule), schedule, (3, 32, 32), schedule.beta)


def of_pixels(
    length: str = "whole", factor: float = 1.0, unit: str = "standard", patch: int = 8
) -> Recipe:
    """The recipe of pixels less a mean and over a standard deviation; the learning rate times a factor."""
    mean, std = UNITS[unit]
    chosen = memorization.shortened()
    return replace(
        chosen,
        model=partial(pixel_ddpm, patch),
        lr=factor * chosen.lr,
        prepare=lambda x: (x - mean) / std,
        restore=lambda x: std * x + mean,
        **LENGTHS[length],
    )


@cache
def trained(*setting: Any) -> Ddpm:
    """The model of pixels."""
    return memorization.learned(of_pixels(*setting))


def sharpness(images: Tensor) -> float:
    """Mean squared difference of neighboring pixels, times 1,000."""
    across, down = images.diff(dim=3).square().mean(), images.diff(dim=2).square().mean()
    return 1000 * (across + down).item() / 2


def measures(images: Tensor, asked: Tensor, prefix: str) -> dict[str, float]:
    """Obedience in percent, distances from renderings in the reader's features and in pixels, sharpness."""
    right = (landscape_reader().read(images) == asked).double().mean().item()
    found = {prefix: 100 * right}
    if prefix == "seen":
        for kind in ("features", "pixels"):
            found[kind] = distance(images, asked, kind)
        found["sharpness"] = sharpness(images)
    return found


def paint(
    model: Callable[[], Ddpm], restore: Callable[[Tensor], Tensor], seed: int, scale: float = 2.0
) -> dict[str, float]:
    """Landscapes for sentences about seen combinations and about those held out."""
    found: dict[str, float] = {}
    chosen = model()
    for prefix, held_out in (("seen", False), ("held out", True)):
        asked = landscapes(NUM, 100 + seed, held_out).attributes
        torch.manual_seed(seed)
        label = tokens(captions(asked, torch.rand(NUM, DRAWS)))
        images = restore(drawn(chosen, label, scale)).clamp(0, 1)
        found |= measures(images, asked, prefix)
    return found


@torch.no_grad()
def by_maps(seed: int, scale: float = 2.0) -> dict[str, float]:
    """With the first stage, after a quarter of the steps."""
    return paint(partial(memorization.trained, 60_000), decoded_landscapes, seed, scale)


def without(*setting: Any, scale: float = 2.0) -> Condition:
    """Without it, in a setting of `of_pixels`: a condition."""

    @torch.no_grad()
    def by_pixels(seed: int) -> dict[str, float]:
        return paint(partial(trained, *setting), of_pixels(*setting).restore, seed, scale)

    return by_pixels


@torch.no_grad()
def render(seed: int, decoded: bool) -> dict[str, float]:
    """Scenes of the renderer, as they are or after the first stage."""
    found: dict[str, float] = {}
    for prefix, held_out in (("seen", False), ("held out", True)):
        images, asked = landscapes(NUM, 100 + seed, held_out)
        torch.manual_seed(seed)
        images = decoded_landscapes(landscape_codes(images)) if decoded else images
        found |= measures(images.clamp(0, 1), asked, prefix)
    return found


CONDITIONS: dict[str, Condition] = {
    "renderings": partial(render, decoded=False),
    "renderings, decoded": partial(render, decoded=True),
    "first stage": by_maps,
    "pixels": without("whole", 4.0),
    "first stage, no guidance": partial(by_maps, scale=1.0),
    "pixels, no guidance": without("whole", 4.0, scale=1.0),
    "a sixth of the steps": without("sixth"),
    "a quarter of the rate": without("sixth", 0.25),
    "four times the rate": without("sixth", 4.0),
    "sixteen times the rate": without("sixth", 16.0),
    "from -1 to 1": without("sixth", 1.0, "symmetric"),
    "64 patches, a third of the steps": without("third", 1.0, "standard", 4),
}
EXPERIMENTS = {"no-first-stage": Experiment(CONDITIONS)}
