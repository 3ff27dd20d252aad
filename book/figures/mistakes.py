"""Three small pictures of mistakes, of the right form beside the wrong one: what `book.pages.mistakes` says."""

import sys
from pathlib import Path

import numpy as np
from drawing import BLUE, GRAY, INK, VERMILION, save
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Ellipse

sys.path.insert(0, str(Path(__file__).parents[2]))
from book.pages import mistakes


def small() -> tuple[Figure, Axes]:
    """A white card for one plot."""
    figure = Figure(figsize=(4.2, 2.1), facecolor="white", layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9, colors=INK)
    return figure, axes


def mistake_sign() -> None:
    """The bound with a minus and with a plus, over the width of q."""
    figure, axes = small()
    width = np.geomspace(0.03, 3, 200)
    minus, plus = np.array([mistakes.plus_sign(w) for w in width]).T
    axes.axhline(mistakes.EVIDENCE, color=GRAY, linestyle="--", linewidth=1)
    axes.plot(width, minus, color=BLUE)
    axes.plot(width, plus, color=VERMILION)
    axes.set(xscale="log", ylim=(-5, 3))
    axes.set_xlabel("width of q", fontsize=9)
    axes.text(2.9, mistakes.EVIDENCE + 0.2, "log p(x)", color=GRAY, fontsize=9, ha="right")
    axes.text(0.06, 1.9, "with a plus", color=VERMILION, fontsize=9)
    axes.text(0.2, -3.4, "the bound", color=BLUE, fontsize=9)
    save(figure, "mistake-sign")


def mistake_noise() -> None:
    """The last latent of both forward processes."""
    figure, axes = small()
    rng = np.random.default_rng(0)
    wrong = right = np.zeros(20_000)
    for beta in np.linspace(1e-3, 0.2, 100):
        wrong = np.sqrt(1 - beta) * wrong + beta * rng.random(len(wrong))
        right = np.sqrt(1 - beta) * right + np.sqrt(beta) * rng.standard_normal(len(right))
    edges = np.linspace(-3.5, 3.5, 71)
    axes.hist(right, edges, density=True, color=BLUE, alpha=0.8)
    axes.hist(wrong, edges, density=True, color=VERMILION, alpha=0.8)
    axes.set(yticks=[])
    axes.set_xlabel("the last latent", fontsize=9)
    axes.text(-3.3, 0.6, "right: the prior", color=BLUE, fontsize=9)
    axes.text(1.35, 2.0, "wrong", color=VERMILION, fontsize=9)
    save(figure, "mistake-noise")


def mistake_ppca() -> None:
    """The data of probabilistic PCA and what the wrong model generates, as ellipses of two standard deviations."""
    figure, axes = small()
    for variances, color, words, place in (
        ((15, 5), BLUE, "data, and the right model", (0, 5.1)),
        (mistakes.ppca(), VERMILION, "the wrong model", (0, -0.4)),
    ):
        size = [4 * np.sqrt(v) for v in variances]
        axes.add_patch(Ellipse((0, 0), *size, fill=False, edgecolor=color, linewidth=1.8))
        axes.text(*place, words, color=color, fontsize=9, ha="center")
    axes.set(xlim=(-10, 10), ylim=(-5.5, 6.5), xticks=[], yticks=[], aspect="equal")
    axes.spines[["left", "bottom"]].set_visible(False)
    save(figure, "mistake-ppca")
