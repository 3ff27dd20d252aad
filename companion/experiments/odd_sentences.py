"""Chapter 14: where does a text-to-image model fail: negation, counting, contradictions, unknown words, silence?"""

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from torch import Tensor

from companion.data import ATTRIBUTES, DRAWS, VOCABULARY, captions, landscapes, tokens
from companion.data.landscapes import COLORS
from companion.experiments.base import Condition, Experiment
from companion.experiments.sentence_parts import shipped
from companion.metrics import proportion
from companion.zoo.architectures import decoded_landscapes, landscape_reader
from companion.zoo.obedience import drawn

NUM = 160
COLOR, BEHIND, TREES, TIME = (
    list(ATTRIBUTES).index(n) for n in ("color", "behind", "trees", "time")
)
Hit = Callable[[Tensor, Tensor], Tensor]


def is_house(k: int) -> Hit:
    """Whether the house has the k-th of the colors that a sentence names."""
    return lambda read, colors: read[:, COLOR] == colors[:, k]


def is_behind(k: int) -> Hit:
    """Whether a house of the k-th color stands behind."""
    return lambda read, colors: read[:, BEHIND] == colors[:, k] + 1


def has(attribute: int, *values: int) -> Hit:
    """Whether an attribute has one of these values."""
    return lambda read, colors: torch.isin(read[:, attribute], torch.tensor(values))


def shares(read: Tensor, colors: Tensor, hits: dict[str, Hit]) -> dict[str, float]:
    """Percent of the images with each value and each hit; of a hit, Wilson's interval, too."""
    found: dict[str, float] = {}
    for k, (name, values) in enumerate(ATTRIBUTES.items()):
        for v, value in enumerate(values):
            found[f"{name} {value}"] = 100 * (read[:, k] == v).double().mean().item()
    for name, hit in hits.items():
        share = proportion(hit(read, colors))
        found |= {name: 100 * share.value, f"{name}, low": 100 * share.low}
        found[f"{name}, high"] = 100 * share.high
    return found


@torch.no_grad()
def tell(form: str, hits: dict[str, Hit], seed: int, scale: float = 2.0) -> dict[str, float]:
    """Landscapes for a form of sentence in which {a}, {b} and {c} are three random colors."""
    model = shipped()  # before the seed, since to build it takes random numbers
    torch.manual_seed(seed)
    colors = torch.rand(NUM, len(COLORS)).argsort(1)[:, :3]
    names = [[list(COLORS)[k] for k in row] for row in colors.tolist()]
    texts = [form.format(a=a, b=b, c=c) for a, b, c in names]
    read = landscape_reader().read(decoded_landscapes(drawn(model, tokens(texts), scale)))
    return shares(read, colors, hits)


@torch.no_grad()
def unknown(kind: str, seed: int, scale: float = 2.0) -> dict[str, float]:
    """Sentences that tell all, of a lone house, with its color's word "known", left "out", or of a "random" vector."""
    model: Any = deepcopy(shipped())
    torch.manual_seed(seed)
    asked = landscapes(3 * NUM, 100).attributes
    asked = asked[asked[:, BEHIND] == 0][:NUM]
    draws = torch.rand(NUM, DRAWS)
    draws[:, : len(ATTRIBUTES)] = 1 - 1e-6
    if kind == "out":
        draws[:, COLOR] = 0
    label = tokens(captions(asked, draws, 0.5))
    if kind == "random":
        red, words = VOCABULARY.index("red") + 1, model.denoiser.network.words.weight
        shades = tokens(
            ["red crimson yellow golden green emerald blue azure purple violet white snowy"]
        )
        label = label.where(~torch.isin(label, shades[shades > 0]), red)
        words[red] = torch.randn(words.shape[1]) * words[1:].std()
    read = landscape_reader().read(decoded_landscapes(drawn(model, label, scale)))
    rest = torch.arange(len(ATTRIBUTES)) != COLOR
    hits: dict[str, Hit] = {"the rest": lambda read, _: (read == asked)[:, rest].all(1)}
    hits["color"] = lambda read, _: (read == asked)[:, COLOR]
    return shares(read, asked, hits)


@torch.no_grad()
def render(seed: int) -> dict[str, float]:
    """Scenes of the renderer."""
    x, asked = landscapes(NUM, 300 + seed)
    hits: dict[str, Hit] = {"the rest": lambda read, _: (read == asked).all(1)}
    return shares(landscape_reader().read(x), asked, hits)


BOTH = {"first": is_house(0), "second": is_house(1), "second behind": is_behind(1)}
DUSK = {"dusk": has(TIME, 1)}
COUNT = {f"{n} trees": has(TREES, n) for n in range(4)}
FORMS: dict[str, tuple[str, dict[str, Hit]]] = {
    "a house": ("a house", {"a": is_house(0), "b behind": is_behind(1)}),
    "no a house": ("no {a} house", {"a": is_house(0), **COUNT}),
    "an a house": ("a {a} house", {"a": is_house(0), "b behind": is_behind(1), **COUNT}),
    "no trees": ("a {a} house, no trees", {"a": is_house(0), **COUNT}),
    "b behind": ("a {a} house with a {b} house behind", {"b behind": is_behind(1)}),
    "no b behind": ("a {a} house, no {b} house behind", {"b behind": is_behind(1)}),
    "without b behind": ("a {a} house without a {b} house behind", {"b behind": is_behind(1)}),
    "three trees": ("a {a} house, three trees", COUNT),
    "two and two trees": ("a {a} house, two trees, two trees", COUNT),
    "one and one tree": ("a {a} house, one tree, one tree", COUNT),
    "one and two trees": ("a {a} house, one tree, two trees", COUNT),
    "no and three trees": ("a {a} house, no trees, three trees", COUNT),
    "a b house": ("a {a} {b} house", BOTH),
    "a and b house": ("a {a} and {b} house", BOTH),
    "day, dusk": ("a {a} house, by day, at dusk", DUSK),
    "dusk, day": ("a {a} house, at dusk, by day", DUSK),
    "two behind": (
        "a {a} house with a {b} house behind and a {c} house behind",
        {"a": is_house(0), "b behind": is_behind(1), "c behind": is_behind(2)},
    ),
}
CONDITIONS: dict[str, Condition] = {
    "renderings": render,
    **{name: partial(tell, *form) for name, form in FORMS.items()},
    "a house, scale 1": partial(tell, *FORMS["a house"], scale=1.0),
    "two trees": partial(tell, "two trees", COUNT),
    "two trees, scale 1": partial(tell, "two trees", COUNT, scale=1.0),
    "no text": partial(tell, "a house", {}, scale=0.0),
    **{f"color {kind}": partial(unknown, kind) for kind in ("known", "out", "random")},
    "color out, scale 1": partial(unknown, "out", scale=1.0),
}
EXPERIMENTS = {"odd-sentences": Experiment(CONDITIONS)}
