"""Tests of companion.page.live: a figure that is renewed in a notebook, and silence elsewhere."""

from collections import namedtuple

import pytest
import torch

from companion.page import live
from companion.page.live import picture, watch

Progress = namedtuple("Progress", "name step num_steps losses draw")


def training(images):
    losses = []
    for step in (1, 2, 3):
        losses.append(1 / step)
        yield Progress("vae", step, 3, losses, lambda: images)


@pytest.mark.parametrize("images", [torch.rand(8, 1, 4, 4), None])
def test_the_loss_and_what_the_model_draws(images):
    *_, last = training(images)
    figure = picture(last)
    line = figure.axes[0].lines[0]
    assert line.get_ydata().tolist() == pytest.approx([1, 1 / 2, 1 / 3])
    assert figure.axes[0].get_title() == "vae, step 3 of 3"
    assert sum(len(axes.images) for axes in figure.axes) >= (0 if images is None else 1)


def test_nothing_is_drawn_where_nobody_watches(monkeypatch):
    drawn = []
    monkeypatch.setattr(live, "picture", drawn.append)
    assert watch(training(None)).step == 3 and not drawn
    with pytest.raises(ValueError, match="training must yield at least once; it yielded nothing"):
        watch([])


def test_in_a_notebook_one_figure_is_renewed(monkeypatch):
    shown = []

    class Handle:
        def update(self, figure):
            shown.append(("update", figure))

    def display(figure, display_id):
        shown.append(("display", figure))
        return Handle()

    monkeypatch.setattr("IPython.get_ipython", lambda: object())
    monkeypatch.setattr("IPython.display.display", display)
    monkeypatch.setattr(live, "picture", lambda progress: progress.step)
    watch(training(None))
    assert shown == []  # TQDM_DISABLE is set in tests, as when the book is made
    monkeypatch.delenv("TQDM_DISABLE")
    watch(training(None))
    assert shown == [("display", 1), ("update", 2), ("update", 3)]
