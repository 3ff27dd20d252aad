"""A training that is watched while it runs: its loss, and what the model draws."""

import os
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar, runtime_checkable

from torch import Tensor

from companion import checks
from companion.page import plots


@runtime_checkable
class Watched(Protocol):
    """How far a training is, such as `companion.zoo.yourself.Progress`."""

    name: str
    step: int
    num_steps: int
    losses: list[float]
    draw: Callable[[], Tensor | None]


Seen = TypeVar("Seen", bound=Watched)


def watch(training: Iterable[Seen]) -> Seen:
    """Iterate a training to its end, and return the last of what it yields.

    In a notebook a figure of the loss and of eight images is drawn anew each time. Nothing is shown outside of one, or
    with TQDM_DISABLE set, as when the book is made.

    Raises:
        ValueError: if the training yields nothing.
    """
    checks.instance(Iterable, training=training)
    last, handle = None, None
    for last in training:
        if _live():
            from IPython.display import display

            shown = picture(last)
            if handle is None:
                handle = display(shown, display_id=True)
            else:
                handle.update(shown)
    if last is None:
        raise ValueError("training must yield at least once; it yielded nothing")
    return last


def picture(progress: Watched) -> plots.Figure:
    """The loss of every step so far, and beside it what the model draws."""
    images = progress.draw()
    figure, axes = plots.figure(columns=1 if images is None else 2)
    if images is not None:
        plots.image_grid(images.float().cpu(), columns=4, axes=axes[1])
    loss = {f"{progress.name}, step {progress.step} of {progress.num_steps}": progress.losses}
    plots.curves(loss, x_label="step", y_label="loss of a batch", axes=axes[0])
    axes[0].set_title(next(iter(loss)), fontsize="medium")
    return figure


def _live() -> bool:
    from IPython import get_ipython

    return get_ipython() is not None and os.environ.get("TQDM_DISABLE", "") in ("", "0")
