"""Chapter 14: what do the sentence, guidance, its times and the order of the words contribute to a landscape?"""

import math
from functools import cache, partial

import torch
from torch import Tensor

from companion.data import (
    ATTRIBUTES,
    DRAWS,
    captions,
    landscapes,
    render_landscapes,
    tokens,
)
from companion.ddpm import Ddpm
from companion.experiments.base import Condition, Experiment
from companion.metrics import frechet_distance
from companion.zoo import pretrained
from companion.zoo.architectures import decoded_landscapes, landscape_codes, landscape_reader
from companion.zoo.obedience import drawn

NUM, DIM = 120, 20
ALWAYS, EARLY, MIDDLE, LATE = (0, math.inf), (700, math.inf), (300, 700), (0, 300)
SMALL = {"a", "an", "and", "at", "by", "from", "in", "on", "the", "to", "with"}


@cache
def shipped() -> Ddpm:
    """The network of the chapter."""
    model = pretrained("text-scenes")
    assert isinstance(model, Ddpm)
    return model


def features(images: Tensor) -> Tensor:
    """The reader's last hidden layer, of which it computes its answers."""
    return torch.cat([landscape_reader().network[:-1](part) for part in images.split(1000)])


@cache
def axes(kind: str) -> Tensor:
    """Along which fresh scenes vary most: of the reader's features, or of pixels."""
    images = landscapes(5_000, 50).images
    rows = features(images) if kind == "features" else images.flatten(1)
    return torch.pca_lowrank(rows, DIM)[2]


def distance(images: Tensor, asked: Tensor, kind: str = "features") -> float:
    """Squared Frechet distance from 32 renderings of each of these attributes, along twenty axes."""
    many = asked.repeat(32, 1)
    generator = torch.Generator().manual_seed(0)
    renderings = render_landscapes(many, 2 * torch.rand(len(many), 25, generator=generator) - 1)
    x, y = (
        (features(each) if kind == "features" else each.flatten(1)) @ axes(kind)
        for each in (images, renderings)
    )
    return frechet_distance(x, y)


def reordered(texts: list[str], order: str) -> list[str]:
    """The sentences "as they are", with their words "shuffled", or with "content" words alone."""
    words = [text.replace(",", "").split() for text in texts]
    if order == "shuffled":
        words = [[each[k] for k in torch.randperm(len(each))] for each in words]
    if order == "content":
        words = [[word for word in each if word not in SMALL] for each in words]
    return [" ".join(each) for each in words]


def exchanged(read: Tensor, asked: Tensor) -> float:
    """Percent of the images of two colors in which each house has the color of the other."""
    two = (asked[:, 3] > 0) & (asked[:, 3] != asked[:, 0] + 1)
    swapped = (read[:, 0] == asked[:, 3] - 1) & (read[:, 3] == asked[:, 0] + 1)
    return 100 * swapped[two].double().mean().item()


def measures(images: Tensor, asked: Tensor, prefix: str = "seen") -> dict[str, float]:
    """Percent of attributes that are as asked for, of all and by name; images of a sentence come in pairs."""
    read = landscape_reader().read(images)
    right = 100 * (read == asked).double()
    found = {prefix: right.mean().item()}
    if prefix == "seen":
        first, second = images.chunk(2)
        found["variance"] = (first - second).square().flatten(1).sum(1).mean().item() / 2
        found["distance"] = distance(images, asked[: NUM // 2])
        found["exchanged"] = exchanged(read, asked)
        found |= dict(zip(ATTRIBUTES, right.mean(0).tolist(), strict=True))
    return found


@torch.no_grad()
def draw(
    scale: float, interval: tuple[float, float], seed: int, order: str = "as they are"
) -> dict[str, float]:
    """Landscapes for sentences about seen combinations, two each, and about those held out."""
    model = shipped()  # before the seed, since to build it takes random numbers
    found: dict[str, float] = {}
    for prefix, held_out in (("seen", False), ("held out", True)):
        asked = landscapes(NUM // 2, 100 + seed, held_out).attributes.repeat(2, 1)
        torch.manual_seed(seed)
        texts = captions(asked, torch.rand(NUM // 2, DRAWS).repeat(2, 1))
        label = tokens(reordered(texts, order))
        images = decoded_landscapes(drawn(model, label, scale, interval))
        found |= measures(images, asked, prefix)
    return found


@torch.no_grad()
def render(seed: int, others: bool = False) -> dict[str, float]:
    """Scenes of the renderer after the first stage: of the attributes asked for, or of "others"."""
    found: dict[str, float] = {}
    for prefix, held_out in (("seen", False), ("held out", True)):
        asked = landscapes(NUM // 2, 100 + seed, held_out).attributes.repeat(2, 1)
        shown = landscapes(NUM, 200 + seed, held_out).attributes if others else asked
        torch.manual_seed(seed)
        images = render_landscapes(shown, 2 * torch.rand(NUM, 25) - 1)
        images = decoded_landscapes(landscape_codes(images))
        found |= measures(images, asked, prefix)
    return found


CONDITIONS: dict[str, Condition] = {
    "renderings": render,
    "other renderings": partial(render, others=True),
    "no text": partial(draw, 0.0, ALWAYS),
    **{f"scale {scale}": partial(draw, scale, ALWAYS) for scale in (1, 2, 4, 6, 8)},
    "scale 4, early": partial(draw, 4, EARLY),
    "scale 4, middle": partial(draw, 4, MIDDLE),
    "scale 4, late": partial(draw, 4, LATE),
    "shuffled": partial(draw, 2, ALWAYS, order="shuffled"),
    "shuffled, scale 1": partial(draw, 1, ALWAYS, order="shuffled"),
    "content words": partial(draw, 2, ALWAYS, order="content"),
}
EXPERIMENTS = {"sentence-parts": Experiment(CONDITIONS)}
