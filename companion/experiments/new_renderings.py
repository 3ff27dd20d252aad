"""Chapter 14: how near to the training scenes are new renderings of their attributes, which copy none?"""

from functools import partial

import torch

from companion.data.landscapes import render_landscapes
from companion.experiments.base import Condition, Experiment
from companion.experiments.memorization import NUM, SIZES, closeness, scenes
from companion.zoo.architectures import decoded_landscapes, landscape_codes

JITTER = 25  # numbers of a rendering that its attributes leave open


@torch.no_grad()
def rendered(size: int, seed: int) -> dict[str, float]:
    """Nearness of renderings of training scenes' attributes that differ in all else, after the first stage."""
    torch.manual_seed(seed)
    attributes = scenes(0)["attributes"][torch.randint(size, (NUM,))]
    images = render_landscapes(attributes, 2 * torch.rand(NUM, JITTER) - 1)
    return closeness(decoded_landscapes(landscape_codes(images)), size)


CONDITIONS: dict[str, Condition] = {f"{size} scenes": partial(rendered, size) for size in SIZES}
EXPERIMENTS = {"new-renderings": Experiment(CONDITIONS, seeds=6)}
