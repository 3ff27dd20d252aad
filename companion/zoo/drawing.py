"""How each kind of model draws: which options it has, from what noise it starts, and by which sampler."""

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial, singledispatch
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from companion import checks, runtime, samplers
from companion.autoencoder import Autoencoder
from companion.data import tokens
from companion.ddpm import Ddpm
from companion.denoisers import Denoiser
from companion.elbo import LatentChain
from companion.flows import Flow, flow_sample
from companion.guidance import extrapolated, guided
from companion.mean_flows import MeanFlow, mean_flow_sample
from companion.zoo.checkpoints import at_once

CHUNK = 100
"""Examples that are drawn at once."""
SCALE, GUIDED = 2.0, (0.4, 0.9)
"""Of guidance; and at which times a weaker model guides, as shares of all."""

SAMPLERS: dict[str, Callable[..., Iterator[Tensor]]] = {
    "ddim": samplers.ddim_sample,
    "dpm-solver": samplers.dpm_solver_sample,
    "beta-tilde": samplers.ddpm_sample,
    "beta": lambda denoiser, schedule, x_T, **options: samplers.ddpm_sample(
        denoiser, schedule, x_T, schedule.beta, **options
    ),
}
"""Samplers of diffusion models by name; those of Ho et al. by the variance of their steps."""


class Wish(NamedTuple):
    """How many examples are asked for of the model with this name, and how they are to be drawn."""

    name: str
    num: int
    steps: int | None = None
    sampler: str | None = None
    most: int = 50  # steps, where none are given
    text: str | None = None  # what the examples are to show
    scale: float | None = None  # of the guidance by it, or by a weaker model
    guide: nn.Module | None = None  # that weaker model


class Drawing(NamedTuple):
    """What draws examples: a sampler, what it starts from, a row for each, and how many are drawn at once."""

    sampler: Callable[..., Iterator[Tensor]]
    start: Tensor
    chunk: int

    def __call__(
        self, journal: Callable[..., Tensor] = at_once, progress: str | None = None
    ) -> Float[Tensor, "num *x_shape"]:
        """The examples."""
        with runtime.autocast():
            sampler = partial(self.sampler, progress=progress)
            return in_parts(journal, sampler, self.start, chunk=self.chunk)


def drawing(model: nn.Module, wish: Wish) -> Drawing:
    """What draws from this model, which says itself what it cannot do.

    Raises:
        ValueError: if the model generates nothing, or has no such option, or the text has an unknown word.
    """
    network = getattr(getattr(model, "denoiser", None), "network", None)
    if wish.text is not None and getattr(network, "num_words", None) is None:
        raise ValueError(f"text belongs to a model of sentences; {wish.name!r} is none")
    if wish.guide is not None and (wish.text is not None or not isinstance(model, Ddpm)):
        raise ValueError(
            f"guide belongs to a diffusion model without a text; {wish.name!r} is none"
        )
    if wish.scale is not None and wish.text is None and wish.guide is None:
        raise ValueError(f"scale belongs to a text or a guide; {wish.scale} was given without one")
    return _drawing(model, wish)


@singledispatch
def _drawing(model: nn.Module, wish: Wish) -> Drawing:
    kind = type(model).__name__
    raise ValueError(f"name must be a model that generates; {wish.name!r} is a {kind}")


@_drawing.register(LatentChain)
def _of_chain(model: LatentChain, wish: Wish) -> Drawing:
    if wish.steps is not None or wish.sampler is not None:
        raise ValueError(f"steps and sampler belong to a diffusion model; {wish.name!r} is none")
    return Drawing(partial(ancestral, model), torch.arange(wish.num), wish.num)


@_drawing.register(Ddpm)
def _of_ddpm(model: Ddpm, wish: Wish) -> Drawing:
    sampler = "ddim" if wish.sampler is None else wish.sampler
    checks.one_of(SAMPLERS, sampler=sampler)
    if wish.steps is not None:
        checks.whole(2, model.schedule.num_steps, steps=wish.steps)
    steps = wish.steps or min(wish.most, model.schedule.num_steps)
    draw = partial(SAMPLERS[sampler], _guided(model, wish), model.schedule.evenly(steps))
    return Drawing(draw, model.prior(wish.num).sample(), CHUNK)


def _guided(model: Ddpm, wish: Wish) -> Denoiser:
    """The denoiser, given a sentence, or guided away from a weaker one at the times of chapter 13."""
    denoiser: Any = model.denoiser
    scale = SCALE if wish.scale is None else wish.scale
    if wish.guide is not None:
        if not isinstance(wish.guide, Ddpm) or wish.guide.x_shape != model.x_shape:
            kind = type(wish.guide).__name__
            raise ValueError(
                f"guide must be a diffusion model of x of shape {model.x_shape}; {kind} was given"
            )
        low, high = (share * model.schedule.num_steps for share in GUIDED)
        return extrapolated(denoiser, wish.guide.denoiser, scale, (low, high))
    if wish.text is None:
        return denoiser
    label = tokens([wish.text]).to(runtime.device())

    def x_hat(x_t: Tensor, t: Tensor, /, *condition: Tensor) -> Tensor:
        return guided(denoiser, label.expand(len(x_t), -1), scale)(x_t, t, *condition)

    return x_hat


@_drawing.register(Flow)
@_drawing.register(MeanFlow)
def _of_flow(model: Flow | MeanFlow, wish: Wish) -> Drawing:
    if wish.sampler is not None:
        raise ValueError(f"sampler belongs to a diffusion model; {wish.name!r} is a flow")
    sampler, usual = (flow_sample, wish.most) if isinstance(model, Flow) else (mean_flow_sample, 1)
    steps = usual if wish.steps is None else wish.steps
    checks.whole(1, 1_000_000, steps=steps)
    u = torch.linspace(1, 0, steps + 1)

    def follow(x_1: Tensor, progress: str | None = None) -> Iterator[Tensor]:
        return iter(runtime.progress_bar(sampler(model, x_1, u), progress, total=len(u)))

    return Drawing(follow, torch.randn(wish.num, *model.x_shape, device=runtime.device()), CHUNK)


def preview(model: nn.Module, x: Tensor) -> Tensor | None:
    """A few examples that a model draws, as many as x has, or x reconstructed; None of what only judges."""
    if isinstance(model, Autoencoder):
        return model(x)
    if _drawing.dispatch(type(model)) is _drawing.dispatch(nn.Module):
        return None
    return drawing(model, Wish(type(model).__name__, len(x), most=20))()


def in_parts(
    journal: Callable[..., Tensor],
    sampler: Callable[..., Iterator[Tensor]],
    *inputs: Tensor,
    chunk: int | None = None,
) -> Float[Tensor, "num *x_shape"]:
    """The last of what a sampler yields, by chunks of the inputs, each of them a part for the journal."""

    def last(*part: Tensor) -> Tensor:
        return deque(sampler(*part), maxlen=1).pop()

    parts = zip(*(values.split(chunk or CHUNK) for values in inputs), strict=True)
    return torch.cat([journal(last, *part) for part in parts])


def ancestral(
    model: LatentChain, rows: Shaped[Tensor, "num"], progress: str | None = None
) -> Iterator[Float[Tensor, "..."]]:
    """What `ancestral_sample` yields for as many examples as there are rows."""
    film = samplers.ancestral_sample(model, len(rows))
    return iter(runtime.progress_bar(film, progress, total=model.num_latents + 1))
