"""Chapter 11: which sampler draws the best digits in twenty steps, at which times, with and without a class?"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import cache, partial

import torch
from torch import Tensor

from companion import runtime
from companion.data import load, to_unit
from companion.ddpm import Ddpm
from companion.experiments.base import Condition, Experiment
from companion.schedule import Schedule
from companion.zoo import pretrained
from companion.zoo.comparisons import SPACINGS
from companion.zoo.pretrained import SAMPLERS
from companion.zoo.yardstick import (
    digit_features,
    excess_of_votes,
    feature_distance,
    no_digit_votes,
)

NUM, CHUNK = 200, 50
KINDS = {"DDIM": "ddim", "beta-tilde": "beta-tilde", "second order": "dpm-solver"}


@cache
def trained() -> Ddpm:
    """The shipped network of digits, which is given the class half of the time."""
    model = pretrained("ddpm-mnist-long")
    assert isinstance(model, Ddpm)
    return model


def labels(kind: str, seed: int) -> Tensor:
    """A class for each image: "equal" has each equally often, "drawn" draws them as the training digits have them."""
    if kind == "equal":
        return torch.arange(NUM) % 10
    counts = torch.bincount(load("mnist", "train").labels, minlength=10).double()
    generator = torch.Generator().manual_seed(100 + seed)
    return torch.multinomial(counts, NUM, replacement=True, generator=generator)


def given(label: Tensor | None) -> Callable[..., Tensor]:
    """The network's estimate, given these classes or none."""
    denoiser = trained().denoiser
    condition = () if label is None else (label,)
    return lambda x_t, t: denoiser(x_t, t, *condition)


def judged(images: Tensor) -> dict[str, float]:
    """Percent not recognized, by both judges and by each, and Fréchet distance from the training digits."""
    share = excess_of_votes(no_digit_votes(images))
    return {
        "unrecognized": 100 * share.value,
        "judge": 100 * share.each[0].value,
        "residual judge": 100 * share.each[1].value,
        "distance": feature_distance(digit_features(images)).value,
    }


@torch.no_grad()
def draw(
    kind: str, times: str, label: str | None, seed: int, steps: int = 20, bfloat: bool = True
) -> dict[str, float]:
    """What is drawn from the noise images of the seed; label is None for no class."""
    model, y = trained(), None if label is None else labels(label, seed)
    spacing: Callable[[Schedule, int], Schedule] = SPACINGS[times]
    sampler: Callable[..., Iterator[Tensor]] = SAMPLERS[KINDS[kind]]
    x_T = torch.randn(NUM, *model.x_shape, generator=torch.Generator().manual_seed(seed))
    torch.manual_seed(1000 + seed)  # the noise on the way
    drawn = []
    for rows in torch.arange(NUM).split(CHUNK):
        denoiser = given(None if y is None else y[rows])
        with runtime.autocast() if bfloat else nullcontext():
            film = sampler(denoiser, spacing(model.schedule, steps), x_T[rows])
            drawn.append(deque(film, maxlen=1).pop())
    return judged(to_unit(torch.cat(drawn)))


def real(seed: int) -> dict[str, float]:
    """As many test digits."""
    return judged(load("mnist", "test").images[NUM * seed :][:NUM])


WITH = {"": None, ", class": "equal"}
CONDITIONS: dict[str, Condition] = {
    **{
        f"{kind}, {times}{words}": partial(draw, kind, times, label)
        for words, label in WITH.items()
        for kind in KINDS
        for times in SPACINGS
    },
    "DDIM, class first": partial(draw, "DDIM", "trailing", "drawn"),
    "second order, class first": partial(draw, "second order", "trailing", "drawn"),
    "beta-tilde, class first": partial(draw, "beta-tilde", "trailing", "drawn"),
    "all steps, class first": partial(draw, "beta-tilde", "trailing", "drawn", steps=1000),
    "DDIM, 40 steps": partial(draw, "DDIM", "trailing", None, steps=40),
    "beta-tilde, 40 steps": partial(draw, "beta-tilde", "trailing", None, steps=40),
    "second order, even, float32": partial(draw, "second order", "even", None, bfloat=False),
    "real digits": real,
}
EXPERIMENTS = {"samplers": Experiment(CONDITIONS)}
