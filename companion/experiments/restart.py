"""Chapter 11: with as many calls, where on the way do digits gain by fresh noise, or by going back?"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from companion import runtime
from companion.data import load, to_unit
from companion.denoisers import denoised
from companion.experiments.base import Condition, Experiment
from companion.experiments.samplers import given, judged, trained
from companion.zoo.weights import load_record

NUM, CHUNK = 500, 100
MIDDLE, LATE = (950, 700), (450, 200)
"""Windows of times: signal-to-noise ratios of 0.006 to 0.26, where the digit is decided, and of 1.4 to 9.4."""


def trailing(calls: int) -> list[int]:
    """Falling times in equal steps, T first and 0 last."""
    return list(range(1000, -1, -1000 // calls))


def restarting(calls: int, window: tuple[int, int], rounds: int) -> list[int]:
    """The same, but at the window's end up to its start again, so often."""
    start, end = window
    way = trailing(calls)
    inside = [t for t in way if end <= t <= start]
    return [*way[: way.index(end)], end, *inside * rounds, *way[way.index(end) + 1 :]]


def moved(x: Tensor, t: int, to: int, x_hat: Callable[[Tensor, int], Tensor], eta: float) -> Tensor:
    """Down by a step of DDIM, of which eta says how much noise is fresh; up by noise alone."""
    kept, left = trained().schedule.alpha_bar[[t, to]].tolist()
    if to > t:
        return (left / kept) ** 0.5 * x + (1 - left / kept) ** 0.5 * torch.randn_like(x)
    x_0 = x_hat(x, t)
    noise = (x - kept**0.5 * x_0) / (1 - kept) ** 0.5
    var = eta**2 * (1 - left) / (1 - kept) * (1 - kept / left)
    carried = max(1 - left - var, 0) ** 0.5
    return left**0.5 * x_0 + carried * noise + var**0.5 * torch.randn_like(x)


def frequent(seed: int) -> Tensor:
    """A class for each image, as the training digits have them."""
    counts = torch.bincount(load("mnist", "train").labels, minlength=10).double()
    generator = torch.Generator().manual_seed(100 + seed)
    return torch.multinomial(counts, NUM, replacement=True, generator=generator)


@torch.no_grad()
def draw(
    way: list[int], noisy: tuple[int, int], seed: int, class_first: bool = False
) -> dict[str, float]:
    """What is drawn on this way from the seed's noise; steps that start in `noisy` have all noise fresh."""
    label = frequent(seed) if class_first else None
    x_T = torch.randn(NUM, *trained().x_shape, generator=torch.Generator().manual_seed(seed))
    torch.manual_seed(1000 + seed)  # the noise on the way
    drawn = []
    for rows in torch.arange(NUM).split(CHUNK):
        denoiser = given(None if label is None else label[rows])
        x = x_T[rows]

        def x_hat(x: Tensor, t: int, denoiser: Callable[..., Tensor] = denoiser) -> Tensor:
            return denoised(denoiser, x, t=torch.full((len(x),), t))

        with runtime.autocast():
            for t, to in pairwise(way):
                x = moved(x, t, to, x_hat, eta=float(noisy[1] < t <= noisy[0]))
        drawn.append(x)
    return judged(to_unit(torch.cat(drawn)))


def whole(seed: int) -> dict[str, float]:
    """A third of the digits that were drawn with all steps."""
    drawn = load_record("ddpm-mnist-long-samples")[0]["samples"].float() / 255
    return judged(drawn.chunk(3)[seed])


def real(seed: int) -> dict[str, float]:
    """As many test digits."""
    return judged(load("mnist", "test").images[NUM * seed :][:NUM])


ALL, NONE = (1000, 0), (0, 0)
WAYS: dict[str, tuple[list[int], tuple[int, int]]] = {
    "none fresh, 20": (trailing(20), NONE),
    "all fresh, 20": (trailing(20), ALL),
    "fresh late, 20": (trailing(20), LATE),
    "restarts in the middle, 20": (restarting(10, (900, 700), 5), NONE),
    "restarts late, 20": (restarting(10, (400, 200), 5), NONE),
    "none fresh, 40": (trailing(40), NONE),
    "all fresh, 40": (trailing(40), ALL),
    "fresh in the middle, 40": (trailing(40), MIDDLE),
    "fresh late, 40": (trailing(40), LATE),
    "restarts in the middle, 40": (restarting(20, MIDDLE, 4), NONE),
    "restarts late, 40": (restarting(20, LATE, 4), NONE),
}
CLASS_FIRST = ("none fresh, 20", "all fresh, 20", "restarts late, 20", "restarts late, 40")
CONDITIONS: dict[str, Condition] = {
    **{name: partial(draw, *way) for name, way in WAYS.items()},
    **{
        f"{name}, class first": partial(draw, *WAYS[name], class_first=True) for name in CLASS_FIRST
    },
    "all steps": whole,
    "real digits": real,
}
EXPERIMENTS = {"restart": Experiment(CONDITIONS)}
