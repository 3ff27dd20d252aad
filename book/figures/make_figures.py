"""Draw the figures of the prose pages: run `python book/figures/make_figures.py [name ...]` and commit the SVG files.

Nothing here is traced or downloaded: the diagrams are drawn, the picture in the chains is a formula, and every panel
of the toy data set is computed. Each figure is a white rounded card, which reads alike in the light and the dark theme.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from scipy.cluster.vq import kmeans2
from scipy.stats import gaussian_kde

HERE = Path(__file__).parent

# Okabe and Ito's palette; the INK shades are the same hues, dark enough for text on white.
ORANGE, SKY, GREEN, BLUE, VERMILION, PURPLE = (
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
)
GREEN_INK, BLUE_INK, VERMILION_INK, PURPLE_INK = "#00704F", "#005A8E", "#AD4B00", "#94457A"
INK, GRAY, PALE = "#1F2933", "#5B6673", "#D5DAE0"

mpl.rcParams.update(
    {
        "font.family": "DejaVu Sans",
        "mathtext.fontset": "cm",
        "svg.hashsalt": "from autoencoders to diffusion",  # the same drawing gives the same file
        "svg.fonttype": "path",
    }
)


def rounded(
    axes: Axes,
    corner: tuple[float, float],
    size: tuple[float, float],
    radius: float,
    face: object,
    edge: str,
    **style: float,
) -> None:
    """A box with round corners, given by its lower left corner and its size."""
    shape = f"round,pad=0,rounding_size={radius}"
    axes.add_patch(
        FancyBboxPatch(corner, *size, boxstyle=shape, facecolor=face, edgecolor=edge, **style)
    )


def card(width: float, height: float) -> tuple[Figure, Axes]:
    """A transparent figure that holds one white rounded card; its axes are measured in inches."""
    figure = Figure(figsize=(width, height), facecolor="none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    rounded(
        axes,
        (0.03, 0.03),
        (width - 0.06, height - 0.06),
        0.16,
        "white",
        PALE,
        linewidth=1,
        zorder=-10,
    )
    return figure, axes


def save(figure: Figure, name: str) -> None:
    """Write NAME.svg beside this script."""
    figure.savefig(HERE / f"{name}.svg", transparent=True, metadata={"Date": None, "Creator": None})


def arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], color: str, **style: object
) -> None:
    """One arrow between two points."""
    options = {
        "arrowstyle": "-|>",
        "mutation_scale": 13,
        "linewidth": 2.2,
        "shrinkA": 0,
        "shrinkB": 0,
        **style,
    }
    axes.add_patch(FancyArrowPatch(start, end, color=color, **options))


# ---------------------------------------------------------------- figure 1: three chains, one bound


def landscape(size: int = 56) -> np.ndarray:
    """An evening by the sea, written as a formula: the data point x of the chains; (size, size, 3) in [0, 1]."""
    v, u = np.mgrid[0 : 1 : size * 1j, 0 : 1 : size * 1j]
    horizon, sun = 0.66, (0.64, 0.42)

    def mix(low: np.ndarray, high: np.ndarray, share: np.ndarray) -> np.ndarray:
        return low + (high - low) * share[..., None]

    dusk, glow, water = (np.array(c) / 255 for c in ((38, 62, 120), (255, 176, 96), (30, 74, 122)))
    below = np.clip(v - horizon, 0, 1)
    picture = mix(dusk, glow, np.clip(v / horizon, 0, 1) ** 1.3)
    distance = np.hypot(u - sun[0], v - sun[1])
    picture = mix(picture, np.array([1.0, 0.86, 0.52]), np.exp(-((distance / 0.22) ** 2)) * 0.7)
    picture[distance < 0.115] = (1.0, 0.95, 0.78)
    far = horizon - 0.05 - 0.05 * np.sin(6 * u + 1.2) - 0.02 * np.sin(17 * u)
    near = (
        horizon
        - 0.34 * np.exp(-(((u - 0.10) / 0.17) ** 2))
        - 0.10 * np.exp(-(((u - 0.40) / 0.12) ** 2))
    )
    picture[v > far] = (0.45, 0.34, 0.48)
    picture[v > near] = (0.16, 0.19, 0.33)
    ripple = 0.5 + 0.5 * np.sin(90 * below**0.7 + 5 * np.sin(9 * u))
    light = np.exp(-(((u - sun[0]) / (0.05 + 0.35 * below)) ** 2)) * (0.35 + 0.65 * ripple)
    sea = mix(water * (0.65 + 0.35 * ripple[..., None]), glow, 0.9 * light)
    return np.clip(np.where((v > horizon)[..., None], sea, picture), 0, 1)


def noised(picture: np.ndarray, t: int, seed: int = 0) -> np.ndarray:
    """The picture after t of 1000 steps of the linear schedule; the noise is drawn at 3/4 of its size, to clip less."""
    alpha_bar = np.prod(1 - np.linspace(1e-4, 0.02, 1000)[:t])
    noise = np.random.default_rng(seed).standard_normal(picture.shape)
    return np.clip(
        (np.sqrt(alpha_bar) * (2 * picture - 1) + 0.75 * np.sqrt(1 - alpha_bar) * noise + 1) / 2,
        0,
        1,
    )


def thumbnail(
    axes: Axes, picture: np.ndarray, center: tuple[float, float], side: float, frame: str
) -> None:
    """A picture with a frame."""
    x, y = center
    axes.imshow(
        picture,
        extent=(x - side / 2, x + side / 2, y - side / 2, y + side / 2),
        interpolation="nearest",
        zorder=3,
        aspect="auto",
    )
    axes.add_patch(
        Rectangle(
            (x - side / 2, y - side / 2),
            side,
            side,
            fill=False,
            edgecolor=frame,
            linewidth=1.2 if frame == INK else 1.8,
            zorder=4,
        )
    )


def code(
    axes: Axes,
    center: tuple[float, float],
    shape: tuple[int, int],
    cell: float,
    frame: str,
    seed: int,
) -> None:
    """A latent vector: a grid of cells, colored by value."""
    rows, columns = shape
    values = np.random.default_rng(seed).standard_normal(shape).clip(-2, 2)
    colors = mpl.colormaps["RdBu_r"](0.5 + values / 5)
    x, y = center[0] - columns * cell / 2, center[1] - rows * cell / 2
    size = (columns * cell + 0.1, rows * cell + 0.1)
    rounded(axes, (x - 0.05, y - 0.05), size, 0.05, "white", frame, linewidth=1.8, zorder=2)
    for i in range(rows):
        for j in range(columns):
            axes.add_patch(
                Rectangle(
                    (x + j * cell, y + i * cell),
                    cell * 0.9,
                    cell * 0.9,
                    facecolor=colors[i, j],
                    zorder=3,
                    linewidth=0,
                )
            )


class Node(NamedTuple):
    """One variable of a chain: how to draw it, half its width, its name, and whether steps are left out below it."""

    draw: Callable[[tuple[float, float], str], None]
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
    for i, node in enumerate(nodes):
        line, ink = (
            (INK, INK) if i == 0 else (GREEN, GREEN_INK) if node is nodes[-1] else (BLUE, BLUE_INK)
        )
        node.draw((centers[i], y), line)
        axes.text(
            centers[i],
            y - side / 2 - 0.09,
            node.name,
            ha="center",
            va="top",
            fontsize=font + 2,
            color=ink,
        )
        if i:
            color, ink = (VERMILION, VERMILION_INK) if i == 1 else (BLUE, BLUE_INK)
            start, end = centers[i] - node.half - 0.05, centers[i - 1] + nodes[i - 1].half + 0.05
            arrow(
                axes,
                (start, y),
                (end, y),
                color,
                linestyle=(0, (1.1, 0.9)) if node.after_gap else "-",
            )
            axes.text(
                (start + end) / 2 + 0.05,
                y - 0.11,
                conditionals.get(i, ""),
                ha="center",
                va="top",
                fontsize=font + 0.5,
                color=ink,
            )
    arc = y + side / 2 + 0.12
    axes.add_patch(
        FancyArrowPatch(
            (left, arc),
            (right, arc),
            connectionstyle=f"arc3,rad={-0.68 / (right - left):.3f}",
            arrowstyle="-|>",
            mutation_scale=10,
            color=GRAY,
            linewidth=1.1,
            linestyle=(0, (4, 3)),
        )
    )
    axes.text(
        (left + right) / 2,
        arc + 0.37,
        inference,
        ha="center",
        va="bottom",
        fontsize=font,
        color=GRAY,
    )


def chain_nodes(axes: Axes, side: float, cell: float, times: list[int]) -> dict[str, list[Node]]:
    """The nodes of the three rows; the diffusion row shows z_t for the given times."""
    x = landscape()

    def image(picture: np.ndarray, name: str, after_gap: bool = False) -> Node:
        return Node(
            lambda center, frame: thumbnail(axes, picture, center, side, frame),
            side / 2,
            name,
            after_gap,
        )

    def vector(columns: int, seed: int, name: str) -> Node:
        return Node(
            lambda center, frame: code(axes, center, (6, columns), cell, frame, seed),
            columns * cell / 2 + 0.05,
            name,
        )

    steps = [
        image(noised(x, t, seed=t), "$z_T$" if t == times[-1] else f"$z_{{{t}}}$", after_gap=t > 1)
        for t in times
    ]
    return {
        "vae": [image(x, "$x$"), vector(1, 4, "$z_1 = z_T$")],
        "hierarchy": [
            image(x, "$x$"),
            vector(4, 1, "$z_1$"),
            vector(2, 2, "$z_2$"),
            vector(1, 3, "$z_3 = z_T$"),
        ],
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
        "chapters 9 to 12",
        "$q$: nothing to learn, it only adds noise",
    ),
)


def write(
    axes: Axes, left: float, y: float, pieces: list[tuple[str, str]], size: float, gap: float
) -> list[tuple[float, float]]:
    """Set pieces of one formula side by side, each in its color; returns where each begins and ends."""
    spans = []
    for words, color in pieces:
        text = axes.text(left, y, words, fontsize=size, color=color, va="center")
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
        axes.text(
            0.3,
            y + 0.18,
            title,
            fontsize=16,
            fontweight="bold",
            color=INK,
            va="center",
            linespacing=1.15,
        )
        axes.text(0.3, y - 0.34, depth, fontsize=14.5, color=INK, va="center")
        axes.text(0.3, y - 0.63, where, fontsize=13, color=GRAY, va="center")
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
    for (start, end), color, ink, words in notes:
        axes.plot([start, end], [0.98, 0.98], color=color, linewidth=2.5, solid_capstyle="round")
        axes.text(
            (start + end) / 2,
            0.87,
            words,
            fontsize=13,
            color=ink,
            ha="center",
            va="top",
            linespacing=1.25,
        )
    save(figure, "one-bound")


def one_bound_narrow() -> None:
    """The same picture for a phone: fewer steps, one term of the bound per line."""
    figure, axes = card(4.6, 9.05)
    side, left, right = 0.66, 0.62, 3.95
    nodes = chain_nodes(axes, side, side / 6, [1, 170, 1000])
    for (key, title, depth, _, inference), y in zip(ROWS, (7.55, 5.56, 3.57), strict=True):
        axes.text(
            0.25,
            y + 1.16,
            title.replace("\n", " "),
            fontsize=14,
            fontweight="bold",
            color=INK,
            va="center",
        )
        axes.text(4.35, y + 1.16, depth, fontsize=13.5, color=INK, va="center", ha="right")
        short = "$q$: learned, steps shared with $p$" if key == "hierarchy" else inference
        chain(
            axes,
            left,
            right,
            y,
            nodes[key],
            short,
            side,
            12.5,
            {1: "$p(x\\,|\\,z_1)$"} if key == "vae" else {},
        )
    rounded(axes, (0.2, 0.2), (4.2, 2.6), 0.12, "#F5F7F9", "none", zorder=-5)
    terms = (
        (r"$\log p(x)\;\geq$", RECONSTRUCTION, VERMILION_INK, "last step: explain the data"),
        ("$-$", INNER, BLUE_INK, "steps between: agree with $q$"),
        ("$-$", TOP, GREEN_INK, "first step: begin at the prior"),
    )
    for (sign, term, ink, words), y in zip(terms, (2.53, 1.68, 0.78), strict=True):
        write(axes, 0.32, y, [(sign, INK), (term, ink)], 15.3, 0.08)
        axes.text(
            0.55, y - (0.46 if term is INNER else 0.30), words, fontsize=13, color=ink, va="center"
        )
    save(figure, "one-bound-narrow")


# ---------------------------------------------------------------- figure 2: families of generative models


def box(
    axes: Axes,
    left: float,
    y: float,
    width: float,
    height: float,
    words: str,
    color: str,
    ink: str,
    size: float = 14,
) -> None:
    """A rounded box with centered words."""
    tint = mpl.colors.to_rgba(color, 0.13)
    rounded(
        axes, (left, y - height / 2), (width, height), 0.08, tint, color, linewidth=1.6, zorder=3
    )
    axes.text(
        left + width / 2,
        y,
        words,
        ha="center",
        va="center",
        fontsize=size,
        color=ink,
        linespacing=1.25,
        zorder=4,
    )


def branch(axes: Axes, start: tuple[float, float], end: tuple[float, float], color: str) -> None:
    """A smooth link from the right side of one box to the left side of another."""
    s = np.linspace(0, 1, 60)
    ease = s * s * (3 - 2 * s)
    axes.plot(
        start[0] + (end[0] - start[0]) * s,
        start[1] + (end[1] - start[1]) * ease,
        color=color,
        linewidth=1.8,
        zorder=1,
    )


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
            ("Diffusion model", r"a long chain, inference fixed", "ch. 9–12"),
        ),
    ),
    (
        "density up to\na constant",
        GREEN,
        GREEN_INK,
        (
            ("Score-based model", r"$s_\theta(x)\approx\nabla_x\log p(x)$", "ch. 11"),
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
    box(
        axes,
        root[0],
        root[1],
        1.72,
        1.36,
        "Generative\nmodel:\nlearns to draw\n" + r"$x \sim p_\theta(x)$",
        GRAY,
        INK,
        14,
    )
    leaves: dict[str, float] = {}
    for words, color, ink, members in FAMILIES:
        heights = [y - step * i for i in range(len(members))]
        y = heights[-1] - step - 0.15
        middle = float(np.mean(heights))
        box(axes, 2.42, middle, 1.92, 0.78, words, color, ink)
        branch(axes, (root[0] + 1.72, root[1]), (2.42, middle), color)
        for (name, formula, where), height in zip(members, heights, strict=True):
            leaves[name] = height
            branch(axes, (2.42 + 1.92, middle), (4.75, height), color)
            rounded(
                axes,
                (4.75, height - 0.335),
                (4.55, 0.67),
                0.08,
                "white",
                color,
                linewidth=1.6,
                zorder=3,
            )
            axes.text(
                4.88,
                height + 0.145,
                name,
                fontsize=14,
                fontweight="bold",
                color=ink,
                va="center",
                zorder=4,
            )
            axes.text(4.88, height - 0.16, formula, fontsize=13.5, color=INK, va="center", zorder=4)
            axes.text(
                9.2,
                height + 0.145,
                where,
                fontsize=13,
                color=GRAY,
                ha="right",
                va="center",
                zorder=4,
            )
    top, bottom = leaves["Diffusion model"], leaves["Score-based model"]
    axes.add_patch(
        FancyArrowPatch(
            (9.32, top),
            (9.32, bottom),
            connectionstyle="arc3,rad=-0.35",
            arrowstyle="<|-|>",
            mutation_scale=12,
            color=INK,
            linewidth=1.5,
            linestyle=(0, (4, 2)),
            zorder=2,
        )
    )
    axes.text(
        9.22,
        bottom - 0.16,
        "the same network, read twice",
        fontsize=13,
        color=GRAY,
        ha="right",
        va="center",
        zorder=4,
    )
    save(figure, "taxonomy")


# ---------------------------------------------------------------- figure 3: what one can learn without labels


def toy_points(num: int = 420, seed: int = 3) -> np.ndarray:
    """Points near an arc, denser in three places: (num, 2)."""
    rng = np.random.default_rng(seed)
    angle = np.concatenate([rng.normal(mean, 0.22, num // 3) for mean in (0.45, 1.57, 2.70)])
    radius = 1 + 0.075 * rng.standard_normal(len(angle))
    return np.stack([1.35 * radius * np.cos(angle), 1.25 * radius * np.sin(angle) - 0.75], axis=1)


def one_number_code(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Train an autoencoder with a one-dimensional code; returns each point's code in [0, 1] and the decoder's curve."""
    torch.manual_seed(1)
    encoder = torch.nn.Sequential(
        torch.nn.Linear(2, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1), torch.nn.Sigmoid()
    )
    decoder = torch.nn.Sequential(torch.nn.Linear(1, 32), torch.nn.Tanh(), torch.nn.Linear(32, 2))
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=1e-2)
    x = torch.as_tensor(points, dtype=torch.float32)
    for _ in range(3000):
        optimizer.zero_grad()
        (decoder(encoder(x)) - x).square().sum(1).mean().backward()
        optimizer.step()
    with torch.no_grad():
        codes = encoder(x)[:, 0]
        curve = decoder(torch.linspace(codes.min(), codes.max(), 200)[:, None])
    return codes.numpy(), curve.numpy()


def without_labels() -> None:
    """Six panels over one toy data set: the data, and five things that can be learned from it."""
    points = toy_points()
    rng = np.random.default_rng(0)
    figure, _ = card(10, 6.5)
    panels: list[Axes] = []
    titles = (
        "Data without labels",
        "Clustering",
        "Dimension reduction",
        "Feature learning",
        "Density estimation",
        "Sampling",
    )
    notes = (
        "",
        "k-means, k = 3",
        "first principal component",
        "autoencoder, 1-number code",
        "kernel density estimate",
        "300 new points from it",
    )
    for i, (title, note) in enumerate(zip(titles, notes, strict=True)):
        axes = figure.add_axes((0.025 + 0.325 * (i % 3), 0.515 - 0.48 * (i // 3), 0.30, 0.375))
        axes.set(xlim=(-1.95, 1.95), ylim=(-1.42, 1.05), xticks=[], yticks=[], facecolor="#FAFBFC")
        for spine in axes.spines.values():
            spine.set(color=PALE)
        axes.set_title(title, fontsize=14.5, fontweight="bold", color=INK, pad=7)
        axes.text(0.5, 0.045, note, transform=axes.transAxes, ha="center", fontsize=13, color=GRAY)
        panels.append(axes)
    dots = {"s": 11, "linewidths": 0, "alpha": 0.85}
    panels[0].scatter(*points.T, color=INK, **dots)
    centers, label = kmeans2(points, 3, minit="++", seed=4)
    for k, (color, marker) in enumerate(zip((BLUE, ORANGE, GREEN), "o^s", strict=True)):
        panels[1].scatter(*points[label == k].T, color=color, marker=marker, **dots)
        panels[1].scatter(
            *centers[k],
            color="white",
            edgecolors=INK,
            marker=marker,
            s=110,
            linewidths=1.8,
            zorder=4,
        )
    mean = points.mean(0)
    direction = np.linalg.svd(points - mean, full_matrices=False)[2][0]
    projected = mean + np.outer((points - mean) @ direction, direction)
    panels[2].plot(
        *np.stack([points, projected], 1)[::4].transpose(2, 1, 0),
        color=PALE,
        linewidth=0.9,
        zorder=1,
    )
    panels[2].plot(
        *np.stack([mean - 1.75 * direction, mean + 1.75 * direction]).T,
        color=VERMILION,
        linewidth=2,
        zorder=2,
    )
    panels[2].scatter(*points.T, color=INK, s=7, alpha=0.35, linewidths=0)
    panels[2].scatter(*projected.T, color=VERMILION, s=12, linewidths=0, zorder=3)
    codes, curve = one_number_code(points)
    panels[3].plot(*curve.T, color=INK, linewidth=2, zorder=3)
    panels[3].scatter(*points.T, c=codes, cmap="viridis", **dots)
    density = gaussian_kde(points.T, bw_method=0.16)
    grid = np.stack(np.meshgrid(np.linspace(-1.95, 1.95, 130), np.linspace(-1.42, 1.05, 90)))
    height = density(grid.reshape(2, -1)).reshape(90, 130)
    panels[4].contourf(
        *grid, height, levels=np.linspace(0.03, height.max(), 9), cmap="Blues", extend="max"
    )
    panels[5].scatter(*density.resample(300, seed=rng), color=VERMILION, **dots)
    save(figure, "without-labels")


DRAWINGS: dict[str, Callable[[], None]] = {
    "one-bound": one_bound,
    "one-bound-narrow": one_bound_narrow,
    "taxonomy": taxonomy,
    "without-labels": without_labels,
}

if __name__ == "__main__":
    unknown = set(sys.argv[1:]) - set(DRAWINGS)
    if unknown:
        sys.exit(
            f"unknown figure {', '.join(sorted(unknown))}; the figures are {', '.join(DRAWINGS)}"
        )
    for chosen in sys.argv[1:] or DRAWINGS:
        DRAWINGS[chosen]()
