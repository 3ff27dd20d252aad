"""Chapter 14: does another training of the network obey as well, and does it fail at the same combination?"""

from dataclasses import replace
from functools import cache, partial

import torch
from torch import Tensor

from companion.data import ATTRIBUTES, DRAWS, HELD_OUT, captions, landscapes, tokens
from companion.ddpm import Ddpm
from companion.experiments.base import Condition, Experiment
from companion.experiments.memorization import learned
from companion.experiments.sentence_parts import distance, exchanged, reordered, shipped
from companion.zoo.architectures import decoded_landscapes, landscape_reader
from companion.zoo.obedience import drawn
from companion.zoo.recipes import recipe

NUM = 480


@cache
def trained(seed: int) -> Ddpm:
    """The network of the chapter, or that of its recipe with another seed."""
    return learned(replace(recipe("text-scenes"), seed=seed)) if seed else shipped()


@torch.no_grad()
def draw(scale: float, order: str, seed: int) -> dict[str, float]:
    """Landscapes for the same sentences and from the same noise, whatever the training."""
    model, found = trained(seed), {}
    for prefix, held_out in (("seen", False), ("held out", True)):
        asked = landscapes(NUM, 300, held_out).attributes
        torch.manual_seed(0)
        texts = reordered(captions(asked, torch.rand(NUM, DRAWS)), order)
        images = decoded_landscapes(drawn(model, tokens(texts), scale))
        read = landscape_reader().read(images)
        found[prefix] = 100 * (read == asked).double().mean().item()
        if held_out:
            found |= {", ".join(rule.values()): of_rule(rule, asked, read) for rule in HELD_OUT}
        else:
            found["distance"] = distance(images[:120], asked[:120])
            found["exchanged"] = exchanged(read, asked)
    return found


def of_rule(rule: dict[str, str], asked: Tensor, read: Tensor) -> float:
    """Percent of the images asked for by a rule that show all its values."""
    columns = [list(ATTRIBUTES).index(name) for name in rule]
    values = torch.tensor([ATTRIBUTES[name].index(value) for name, value in rule.items()])
    those = (asked[:, columns] == values).all(1)
    return 100 * (read[those][:, columns] == values).all(1).double().mean().item()


CONDITIONS: dict[str, Condition] = {
    **{f"scale {scale}": partial(draw, scale, "as they are") for scale in (1, 2, 6)},
    "shuffled": partial(draw, 2, "shuffled"),
}
EXPERIMENTS = {"sentence-trainings": Experiment(CONDITIONS)}
