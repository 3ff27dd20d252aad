"""Three chains of latents, from one to a thousand, and the one bound that they share."""

from collections.abc import Callable
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from drawing import (
    BLUE,
    BLUE_INK,
    GRAY,
    GREEN,
    GREEN_INK,
    INK,
    PALE,
    VERMILION,
    VERMILION_INK,
    Point,
    arrow,
    card,
    rounded,
    save,
    words,
)
from landscape import landscape, noised
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle


def thumbnail(axes: Axes, picture: np.ndarray, center: Point, side: float, frame: str) -> None:
    """A picture with a frame."""
    left, low = center[0] - side / 2, center[1] - side / 2
    extent = left, center[0] + side / 2, low, center[1] + side / 2
    axes.imshow(picture, extent=extent, interpolation="nearest", zorder=3, aspect="auto")
    width = 1.2 if frame == INK else 1.8
    style = {"fill": False, "edgecolor": frame, "linewidth": width, "zorder": 4}
    axes.add_patch(Rectangle((left, low), side, side, **style))


def code(
    axes: Axes, center: Point, shape: tuple[int, int], cell: float, frame: str, seed: int
) -> None:
    """A latent vector: a grid of cells, colored by value."""
    rows, columns = shape
    values = np.random.default_rng(seed).standard_normal(shape).clip(-2, 2)
    colors = mpl.colormaps["RdBu_r"](0.5 + values / 5)
    x, y = center[0] - columns * cell / 2, center[1] - rows * cell / 2
    size = (columns * cell + 0.1, rows * cell + 0.1)
    rounded(axes, (x - 0.05, y - 0.05), size, 0.05, "white", frame, linewidth=1.8, zorder=2)
    for i, j in np.ndindex(rows, columns):
        corner, side = (x + j * cell, y + i * cell), cell * 0.9
        axes.add_patch(Rectangle(corner, side, side, facecolor=colors[i, j], zorder=3, linewidth=0))


class Node(NamedTuple):
    """One variable of a chain: how to draw it, half its width, its name, and whether steps are left out below it."""

    draw: Callable[[Point, str], None]
    half: float
    name: str
    after_gap: bool = False


def chain(
    axes: Axes,
    left: float,
    right: float,
    y: float,
    nodes: list[Node],
    inference: str,
    side: float,
    font: float,
    conditionals: dict[int, str],
) -> None:
    """One row: x at the left, z_T at the right, generation running right to left, inference as the arc above."""
    centers = np.linspace(left, right, len(nodes))
    below = {"ha": "center", "va": "top"}
    for i, node in enumerate(nodes):
        line, ink = (GREEN, GREEN_INK) if node is nodes[-1] else (BLUE, BLUE_INK)
        if i == 0:
            line = ink = INK
        node.draw((centers[i], y), line)
        words(axes, centers[i], y - side / 2 - 0.09, node.name, font + 2, ink, **below)
        if i:
            color, ink = (VERMILION, VERMILION_INK) if i == 1 else (BLUE, BLUE_INK)
            start, end = centers[i] - node.half - 0.05, centers[i - 1] + nodes[i - 1].half + 0.05
            dash = (0, (1.1, 0.9)) if node.after_gap else "-"
            solid = {"mutation_scale": 13, "linewidth": 2.2, "shrinkA": 0, "shrinkB": 0}
            arrow(axes, (start, y), (end, y), color, linestyle=dash, **solid)
            middle, given = (start + end) / 2 + 0.05, conditionals.get(i, "")
            words(axes, middle, y - 0.11, given, font + 0.5, ink, **below)
    arc = y + side / 2 + 0.12
    bend = f"arc3,rad={-0.68 / (right - left):.3f}"
    thin = {"mutation_scale": 10, "linewidth": 1.1, "linestyle": (0, (4, 3))}
    arrow(axes, (left, arc), (right, arc), GRAY, connectionstyle=bend, **thin)
    above = {"ha": "center", "va": "bottom"}
    words(axes, (left + right) / 2, arc + 0.37, inference, font, GRAY, **above)


def chain_nodes(axes: Axes, side: float, cell: float, times: list[int]) -> dict[str, list[Node]]:
    """The nodes of the three rows; the diffusion row shows z_t for the given times."""
    x = landscape()

    def image(picture: np.ndarray, name: str, after_gap: bool = False) -> Node:
        def draw(center: Point, frame: str) -> None:
            thumbnail(axes, picture, center, side, frame)

        return Node(draw, side / 2, name, after_gap)

    def vector(columns: int, seed: int, name: str) -> Node:
        def draw(center: Point, frame: str) -> None:
            code(axes, center, (6, columns), cell, frame, seed)

        return Node(draw, columns * cell / 2 + 0.05, name)

    names = [*(f"$z_{{{t}}}$" for t in times[:-1]), "$z_T$"]
    steps = [
        image(noised(x, t, seed=t), name, after_gap=t > 1)
        for t, name in zip(times, names, strict=True)
    ]
    levels = [vector(4, 1, "$z_1$"), vector(2, 2, "$z_2$"), vector(1, 3, "$z_3 = z_T$")]
    return {
        "vae": [image(x, "$x$"), vector(1, 4, "$z_1 = z_T$")],
        "hierarchy": [image(x, "$x$"), *levels],
        "diffusion": [image(x, "$x$"), *steps],
    }


RECONSTRUCTION = r"$\mathbb{E}_q\,\log p(x\,|\,z_1)$"
INNER = r"$\sum_{t=1}^{T-1}\;\mathbb{E}_q\,D_{\mathrm{KL}}\left(q(z_t|z_{t+1},x)\,\Vert\,p(z_t|z_{t+1})\right)$"
TOP = r"$D_{\mathrm{KL}}\left(q(z_T|x)\,\Vert\,p(z_T)\right)$"
ROWS = (
    ("vae", "Variational\nautoencoder", r"$T = 1$", "chapters 3 to 7", "$q$: one learned encoder"),
    (
        "hierarchy",
        "Hierarchical\nVAE",
        r"$T = 2, \ldots, 10$",
        "chapter 8",
        "$q$: learned, and shares the way down with $p$",
    ),
    (
        "diffusion",
        "Diffusion\nmodel",
        r"$T = 100, \ldots, 1000$",
        "chapters 9 to 13",
        "$q$: nothing to learn, it only adds noise",
    ),
)


def write(
    axes: Axes, left: float, y: float, pieces: list[tuple[str, str]], size: float, gap: float
) -> list[Point]:
    """Set pieces of one formula side by side, each in its color; returns where each begins and ends."""
    spans = []
    for piece, color in pieces:
        text = words(axes, left, y, piece, size, color)
        width = text.get_window_extent().width / axes.figure.dpi
        spans.append((left, left + width))
        left += width + gap
    return spans


def one_bound() -> None:
    """The landing picture: three chains, and under them the bound that all three share."""
    figure, axes = card(10, 8.55)
    side, left, right = 0.86, 2.85, 9.25
    nodes = chain_nodes(axes, side, side / 6, [1, 70, 170, 320, 1000])
    conditionals = {
        "vae": {1: "$p(x\\,|\\,z_1)$: one learned decoder"},
        "hierarchy": {1: "$p(x\\,|\\,z_1)$", 2: "$p(z_1|z_2)$", 3: "$p(z_2|z_3)$"},
        "diffusion": {},
    }
    for (key, title, depth, where, inference), y in zip(ROWS, (7.25, 5.17, 3.09), strict=True):
        words(axes, 0.3, y + 0.18, title, 16, INK, fontweight="bold", linespacing=1.15)
        words(axes, 0.3, y - 0.34, depth, 14.5, INK)
        words(axes, 0.3, y - 0.63, where, 13, GRAY)
        chain(axes, left, right, y, nodes[key], inference, side, 13, conditionals[key])
    for y in (6.38, 4.30):
        axes.plot([0.35, 9.65], [y, y], color=PALE, linewidth=0.8)
    rounded(axes, (0.25, 0.22), (9.5, 1.83), 0.12, "#F5F7F9", "none", zorder=-5)
    pieces = [
        (r"$\log p(x)\;\geq$", INK),
        (RECONSTRUCTION, VERMILION_INK),
        ("$-$", INK),
        (INNER, BLUE_INK),
        ("$-$", INK),
        (TOP, GREEN_INK),
    ]
    spans = write(axes, 0.42, 1.45, pieces, 16.4, 0.09)
    notes = (
        (spans[1], VERMILION, VERMILION_INK, "last step:\nexplain the data"),
        (spans[3], BLUE, BLUE_INK, "each step in between:\nagree with $q$, which has seen $x$"),
        (spans[5], GREEN, GREEN_INK, "first step: begin\nwhere the prior is"),
    )
    below = {"ha": "center", "va": "top", "linespacing": 1.25}
    for (start, end), color, ink, note in notes:
        axes.plot([start, end], [0.98, 0.98], color=color, linewidth=2.5, solid_capstyle="round")
        words(axes, (start + end) / 2, 0.87, note, 13, ink, **below)
    save(figure, "one-bound")


def one_bound_narrow() -> None:
    """The same picture for a phone: fewer steps, one term of the bound per line."""
    figure, axes = card(4.6, 9.05)
    side, left, right = 0.66, 0.62, 3.95
    nodes = chain_nodes(axes, side, side / 6, [1, 170, 1000])
    for (key, title, depth, _, inference), y in zip(ROWS, (7.55, 5.56, 3.57), strict=True):
        words(axes, 0.25, y + 1.16, title.replace("\n", " "), 14, INK, fontweight="bold")
        words(axes, 4.35, y + 1.16, depth, 13.5, INK, ha="right")
        short = "$q$: learned, steps shared with $p$" if key == "hierarchy" else inference
        given = {1: "$p(x\\,|\\,z_1)$"} if key == "vae" else {}
        chain(axes, left, right, y, nodes[key], short, side, 12.5, given)
    rounded(axes, (0.2, 0.2), (4.2, 2.6), 0.12, "#F5F7F9", "none", zorder=-5)
    terms = (
        (r"$\log p(x)\;\geq$", RECONSTRUCTION, VERMILION_INK, "last step: explain the data"),
        ("$-$", INNER, BLUE_INK, "steps between: agree with $q$"),
        ("$-$", TOP, GREEN_INK, "first step: begin at the prior"),
    )
    for (sign, term, ink, note), y in zip(terms, (2.53, 1.68, 0.78), strict=True):
        write(axes, 0.32, y, [(sign, INK), (term, ink)], 15.3, 0.08)
        words(axes, 0.55, y - (0.46 if term is INNER else 0.30), note, 13, ink)
    save(figure, "one-bound-narrow")
