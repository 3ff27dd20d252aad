"""The families of generative models."""

import matplotlib as mpl
import numpy as np
from drawing import (
    BLUE_INK,
    GRAY,
    GREEN,
    GREEN_INK,
    INK,
    PURPLE,
    PURPLE_INK,
    SKY,
    VERMILION,
    VERMILION_INK,
    Point,
    arrow,
    card,
    rounded,
    save,
    words,
)
from matplotlib.axes import Axes


def box(axes: Axes, left: float, y: float, size: Point, text: str, color: str, ink: str) -> None:
    """A rounded box with centered words."""
    width, height = size
    tint, corner = mpl.colors.to_rgba(color, 0.13), (left, y - height / 2)
    rounded(axes, corner, size, 0.08, tint, color, linewidth=1.6, zorder=3)
    words(axes, left + width / 2, y, text, 14, ink, ha="center", linespacing=1.25, zorder=4)


def branch(axes: Axes, start: Point, end: Point, color: str) -> None:
    """A smooth link from the right side of one box to the left side of another."""
    s = np.linspace(0, 1, 60)
    x = start[0] + (end[0] - start[0]) * s
    y = start[1] + (end[1] - start[1]) * (s * s * (3 - 2 * s))
    axes.plot(x, y, color=color, linewidth=1.8, zorder=1)


FAMILIES = (  # group, its note, color, ink, leaves (name, what it defines, where)
    (
        "density known\nexactly",
        SKY,
        BLUE_INK,
        (
            (
                "Autoregressive model",
                r"$p_\theta(x)=p_\theta(x_1)\,p_\theta(x_2|x_1)\,p_\theta(x_3|x_1,x_2)\cdots$",
                "ch. 3",
            ),
            ("Normalizing flow", r"$x=f_\theta(z)$, $f_\theta$ invertible", "ch. 3"),
        ),
    ),
    (
        "density bounded\nfrom below",
        VERMILION,
        VERMILION_INK,
        (
            ("Variational autoencoder", r"one latent: $p_\theta(x\,|\,z)\,p(z)$", "ch. 3–7"),
            ("Hierarchical VAE", r"a chain of latents $z_1,\ldots,z_T$", "ch. 8"),
            ("Diffusion model", r"a long chain, inference fixed", "ch. 9–13"),
        ),
    ),
    (
        "density up to\na constant",
        GREEN,
        GREEN_INK,
        (
            ("Score-based model", r"$s_\theta(x)\approx\nabla_x\log p(x)$", "ch. 12"),
            ("Energy-based model", r"$p_\theta(x)\propto e^{-E_\theta(x)}$", ""),
        ),
    ),
    (
        "no density,\nonly samples",
        PURPLE,
        PURPLE_INK,
        (("Generative adversarial network", r"$x=f_\theta(z)$, judged by a second network", ""),),
    ),
)


def taxonomy() -> None:
    """The tree of families: sorted by what one can say about the density of a sample."""
    figure, axes = card(10, 7.2)
    step, y = 0.78, 6.62
    root = (0.22, 3.6)
    title = "Generative\nmodel:\nlearns to draw\n" + r"$x \sim p_\theta(x)$"
    box(axes, *root, (1.72, 1.36), title, GRAY, INK)
    leaves: dict[str, float] = {}
    for group, color, ink, members in FAMILIES:
        heights = [y - step * i for i in range(len(members))]
        y = heights[-1] - step - 0.15
        middle = float(np.mean(heights))
        box(axes, 2.42, middle, (1.92, 0.78), group, color, ink)
        branch(axes, (root[0] + 1.72, root[1]), (2.42, middle), color)
        for (name, formula, where), height in zip(members, heights, strict=True):
            leaves[name] = height
            branch(axes, (2.42 + 1.92, middle), (4.75, height), color)
            corner, size = (4.75, height - 0.335), (4.55, 0.67)
            rounded(axes, corner, size, 0.08, "white", color, linewidth=1.6, zorder=3)
            words(axes, 4.88, height + 0.145, name, 14, ink, fontweight="bold", zorder=4)
            words(axes, 4.88, height - 0.16, formula, 13.5, INK, zorder=4)
            words(axes, 9.2, height + 0.145, where, 13, GRAY, ha="right", zorder=4)
    top, bottom = leaves["Diffusion model"], leaves["Score-based model"]
    bend = {"connectionstyle": "arc3,rad=-0.35", "arrowstyle": "<|-|>", "mutation_scale": 12}
    line = {"linewidth": 1.5, "linestyle": (0, (4, 2)), "zorder": 2}
    arrow(axes, (9.32, top), (9.32, bottom), INK, **bend, **line)
    note = "the same network, read twice"
    words(axes, 9.22, bottom - 0.16, note, 13, GRAY, ha="right", zorder=4)
    save(figure, "taxonomy")
