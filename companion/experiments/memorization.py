"""Chapter 14: does a text-to-image model copy its training scenes, and how does that depend on how many there are?"""

from dataclasses import dataclass, replace
from functools import cache, partial

import torch
from torch import Tensor

from companion.data import DRAWS, captions, landscapes, tokens
from companion.ddpm import Ddpm
from companion.experiments.base import Condition, Experiment
from companion.experiments.sentence_parts import features
from companion.zoo.architectures import decoded_landscapes, landscape_codes, landscape_reader
from companion.zoo.losses import text_loss
from companion.zoo.obedience import drawn, obeyed
from companion.zoo.recipes import Recipe, recipe
from companion.zoo.session import Session
from companion.zoo.sources import LANDSCAPES, Landscapes

NUM, SIZES = 100, (100, 1_000, 10_000, 60_000)


@dataclass(frozen=True)
class First(Landscapes):
    """The first training scenes alone, repeated to as many as there are of all."""

    first: int = 60_000

    def examples(self, split: str, fallback: bool = False) -> tuple[Tensor, ...]:
        """As of every source."""
        x, attributes = super().examples(split, fallback)
        rows = torch.arange(len(x)) % (self.first if split == "train" else len(x))
        return x[rows], attributes[rows]


def shortened(size: int = 60_000) -> Recipe:
    """The recipe of `text-scenes` with a quarter of its steps, for the first scenes alone."""
    data = First(**vars(LANDSCAPES), first=size)
    return replace(recipe("text-scenes"), data=data, epochs=3, ema=0.998)


@torch.enable_grad()  # what is drawn is drawn without gradients
def learned(chosen: Recipe) -> Ddpm:
    """The model after all steps of a recipe; its weights have 16 bits, as those that are shipped."""
    session = Session(chosen, chosen.examples("train"))
    for _ in session.steps():
        pass
    model = session.best.requires_grad_(False).eval()
    for weights in model.parameters():
        weights.copy_(weights.half())
    assert isinstance(model, Ddpm)
    return model


@cache
def trained(size: int) -> Ddpm:
    """The model of the first `size` training scenes."""
    return learned(shortened(size))


@cache
def scenes(seed: int) -> dict[str, Tensor]:
    """Scenes to be near to, by their pixels and by the reader's features: of seed 0 are those of the trainings."""
    images, attributes = landscapes(60_000, seed)
    rows = {"pixels": images.flatten(1), "features": features(images)}
    return {**rows, "attributes": attributes}


def nearest(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Root mean square difference to the nearest row of y, and which that is."""
    found = [torch.cdist(part, y).min(1) for part in x.split(25)]
    near, rows = (torch.cat(parts) for parts in zip(*found, strict=True))
    return near / x.shape[1] ** 0.5, rows


def closeness(images: Tensor, size: int, prefix: str = "") -> dict[str, float]:
    """How near images are to the training scenes, and how many are nearer to these than to as many other scenes.

    In percent: 50 of images that have nothing to do with the training scenes, 100 of copies.
    """
    found, rows = {}, {"pixels": images.flatten(1), "features": features(images)}
    for kind, x in rows.items():
        own, other = (nearest(x, scenes(seed)[kind][:size])[0] for seed in (0, 7))
        found[f"{prefix}{kind}"] = own.mean().item()
        found[f"{prefix}{kind}, others"] = other.mean().item()
        found[f"{prefix}nearer, {kind}"] = 100 * (own < other).double().mean().item()
    return found


def best_scene(asked: Tensor, size: int) -> float:
    """Percent of the attributes that the training scene has that has most of them."""
    known = scenes(0)["attributes"][:size]
    shared = [(part[:, None] == known).sum(2).amax(1) for part in asked.split(10)]
    return 100 / 8 * torch.cat(shared).double().mean().item()


def errors(model: Ddpm, x: Tensor, attributes: Tensor, seed: int) -> float:
    """The training loss of these scenes, with the same times, noise and choice of words for any scenes."""
    torch.manual_seed(seed)
    return (
        torch.cat([text_loss(model, landscape_codes(x), attributes) for _ in range(8)])
        .mean()
        .item()
    )


@torch.no_grad()
def compare(size: int, seed: int) -> dict[str, float]:
    """Landscapes for sentences about fresh scenes, beside these scenes; obedience, and the loss."""
    model = trained(size)
    x, asked = landscapes(NUM, 100 + seed)
    torch.manual_seed(seed)
    label = tokens(captions(asked, torch.rand(NUM, DRAWS)))
    images = decoded_landscapes(drawn(model, label))
    found = closeness(images, size)
    found |= closeness(decoded_landscapes(landscape_codes(x)), size, "fresh ")
    held_out = landscapes(NUM, 100 + seed, held_out=True).attributes
    found["seen"] = 100 * (landscape_reader().read(images) == asked).double().mean().item()
    found["held out"] = 100 * obeyed(model, held_out).double().mean().item()
    for name, attributes in (("seen", asked), ("held out", held_out)):
        found[f"best scene, {name}"] = best_scene(attributes, size)
    own = scenes(0)
    rows = torch.arange(NUM) % size
    images = own["pixels"][rows].unflatten(1, (3, 32, 32))
    found["loss, training scenes"] = errors(model, images, own["attributes"][rows], seed)
    found["loss, fresh scenes"] = errors(model, x, asked, seed)
    return found


@torch.no_grad()
def draw_again(size: int, seed: int, scale: float = 2.0, own: bool = False) -> dict[str, float]:
    """Nearness at another scale of guidance, or for sentences about the training scenes themselves."""
    model, asked = trained(size), landscapes(NUM, 100 + seed).attributes
    torch.manual_seed(seed)
    if own:
        asked = scenes(0)["attributes"][torch.randint(size, (NUM,))]
    label = tokens(captions(asked, torch.rand(NUM, DRAWS)))
    return closeness(decoded_landscapes(drawn(model, label, scale)), size)


CONDITIONS: dict[str, Condition] = {
    **{f"{size} scenes": partial(compare, size) for size in SIZES},
    **{f"{size} scenes, no guidance": partial(draw_again, size, scale=1.0) for size in SIZES},
    **{f"{size} scenes, their sentences": partial(draw_again, size, own=True) for size in SIZES},
}
EXPERIMENTS = {"memorization": Experiment(CONDITIONS)}
