"""Train a shipped model yourself: by its own recipe, short or whole, watched while it runs; and what that costs."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from companion import runtime
from companion.zoo.drawing import preview
from companion.zoo.pretrained import use
from companion.zoo.recipes import Recipe, recipe
from companion.zoo.session import Session

__all__ = ["Cost", "Progress", "cost", "train_it", "use"]

SHORT, SHORT_LAUNCHES = 5e11, 1e5
"""Most arithmetic and tensor operations of a training at small scale: below 20 seconds on two cores."""

T4_OPERATIONS, T4_SHARE, T4_LAUNCH = 8.1e12, 1 / 3, 1e-5
"""A T4's operations in a second in float32, the share of them that is assumed, and the seconds to start one."""


@dataclass(frozen=True)
class Cost:
    """What the training of a model takes, counted on one step of two examples and not measured.

    Attributes:
        name: the recipe.
        num_parameters: how many are trained.
        num_steps: of the whole recipe.
        batch_size: examples in a step.
        operations: additions and multiplications of a step, in matrix products and convolutions.
        launches: tensor operations of a step; a GPU needs some time to start each.
        memory: bytes for the data, the parameters with gradient, Adam's averages and that of the
            weights, and what a step keeps for its gradient. The work space of libraries is not in it.
    """

    name: str
    num_parameters: int
    num_steps: int
    batch_size: int
    operations: float
    launches: int
    memory: float

    @property
    def t4_minutes(self) -> float:
        """Minutes on a T4: a third of its float32 speed, or 10 microseconds for each tensor operation, if longer."""
        of_step = max(self.operations / (T4_SHARE * T4_OPERATIONS), T4_LAUNCH * self.launches)
        return self.num_steps * of_step / 60

    @property
    def short_steps(self) -> int:
        """Steps of a training at small scale."""
        most = min(SHORT / self.operations, SHORT_LAUNCHES / self.launches, self.num_steps, 500)
        return max(10, int(most))

    def __str__(self) -> str:
        return (
            f"{self.name}: {self.num_parameters:,} parameters, {self.batch_size} examples a step\n"
            f"small scale: {self.short_steps:,} steps\n"
            f"full scale: {self.num_steps:,} steps, {self.num_steps * self.operations:.1e} operations\n"
            f"a T4 at full scale: about {self.t4_minutes:.1f} minutes and {self.memory / 2**30:.2f} GiB, "
            "counted and not measured"
        )


def cost(name: str) -> Cost:
    """Count what the training of a recipe takes; the same numbers on every machine.

    Raises:
        ValueError: if there is no such recipe.

    Book: chapter 1.
    """
    chosen = recipe(name)
    source = chosen.data
    with _own_random_numbers(), torch.device("cpu"):
        torch.manual_seed(0)
        model = chosen.model()
        x = torch.randint(256, (2, *source.x_shape)) / 255
        label = torch.zeros(2, *source.label_shape, dtype=source.label_dtype)
        labels = (label,) if chosen.labels else ()
        kept: dict[int, int] = {p.untyped_storage().data_ptr(): 0 for p in model.parameters()}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            with suppress(RuntimeError):  # a tangent that is zero has no storage
                kept.setdefault(storage.data_ptr(), storage.nbytes())
            return tensor

        chosen.prepare(x)  # what it loads, it loads once; that is no part of a step
        with _Counter() as counter:
            with saved_tensors_hooks(keep, lambda tensor: tensor):
                options = chosen.options(0.5)
                loss = chosen.loss(model, chosen.prepare(x), *labels, **options).mean()
            loss.backward()
    size = sum(parameter.numel() for parameter in model.parameters())
    copies = 4 if chosen.ema is None else 5
    return Cost(
        name,
        size,
        chosen.epochs * -(-source.num // chosen.batch_size),
        chosen.batch_size,
        counter.operations / 2 * chosen.batch_size,
        counter.launches,
        4 * (copies * size + source.num * x[0].numel())
        + sum(kept.values()) / 2 * chosen.batch_size,
    )


def _own_random_numbers() -> AbstractContextManager[None]:
    """Torch's random numbers are the same before and after."""
    return torch.random.fork_rng(range(torch.cuda.device_count())[:1])


class _Counter(TorchDispatchMode):
    """Counts tensor operations, views included, and the additions and multiplications of those that torch can count.

    `FlopCounterMode` would do the latter, but refuses losses that contain a gradient.
    """

    launches, operations = 0, 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        self.launches += 1
        if func._overloadpacket in flop_registry:
            self.operations += flop_registry[func._overloadpacket](*args, **kwargs, out_val=out)
        return out


class Progress(NamedTuple):
    """What `train_it` yields about twenty times: how far it is, all losses so far, and the model as it is now."""

    name: str
    step: int
    num_steps: int
    losses: list[float]
    model: nn.Module
    # Eight images on [0, 1] that the model draws, or reconstructs if it cannot draw; None of points and judges.
    draw: Callable[[], Tensor | None]


def train_it(name: str, scale: Literal["small", "full"] | None = None) -> Iterator[Progress]:
    """Train a model of the book by its own recipe on `runtime.device()`, while it is iterated.

    At small scale it takes the first steps only, with the recipe's learning rates and weights pressed
    into them: enough to see the loss fall, and in no case a model as good as the shipped one.
    `python -m companion train` does the same at full scale, and can be stopped and resumed.

    Args:
        name: the recipe, such as "vae-mnist".
        scale: "small", at most 20 seconds on two cores, or "full", the whole recipe; by default
            `runtime.scale()`.

    Raises:
        ValueError: if there is no such recipe or scale.
        FloatingPointError: if the training diverges.

    Book: chapter 1.
    """
    chosen = recipe(name)
    scale = runtime.scale() if scale is None else scale
    if scale not in ("small", "full"):
        raise ValueError(f"scale must be 'small' or 'full'; {scale!r} was given")
    examples = chosen.examples("train", fallback=True)
    return _steps(name, chosen, examples, None if scale == "full" else cost(name).short_steps)


def _steps(
    name: str, chosen: Recipe, examples: tuple[Tensor, ...], num_steps: int | None
) -> Iterator[Progress]:
    # What a chapter draws afterwards does not depend on whether something was trained here.
    with _own_random_numbers():
        session = Session(chosen, examples, num_steps)
        num, x, losses = session.num_steps, chosen.prepare(examples[0][:8]), []
        for step, _ in session.steps():
            losses.append(step.loss)
            if step.number % max(1, num // 20) == 0 or step.number == num:
                draw = partial(_draw, chosen, session.best, x)
                yield Progress(name, step.number, num, losses, session.best, draw)


@torch.no_grad()
def _draw(chosen: Recipe, model: nn.Module, x: Tensor) -> Tensor | None:
    """Eight images of the model as it is now; torch's random numbers are the same before and after."""
    training = model.training
    with _own_random_numbers():
        torch.manual_seed(0)
        drawn = preview(model.eval(), x)
    model.train(training)
    drawn = None if drawn is None else chosen.restore(drawn)
    return None if drawn is None or drawn.dim() != 4 else drawn.clamp(0, 1)
