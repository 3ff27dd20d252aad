"""What the drawings share: colors, the card they stand on, boxes, arrows and words."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.text import Text

# Okabe and Ito's palette; the INK shades are the same hues, dark enough for text on white.
ORANGE, SKY, GREEN, BLUE = "#E69F00", "#56B4E9", "#009E73", "#0072B2"
VERMILION, PURPLE = "#D55E00", "#CC79A7"
GREEN_INK, BLUE_INK, VERMILION_INK, PURPLE_INK = "#00704F", "#005A8E", "#AD4B00", "#94457A"
INK, GRAY, PALE = "#1F2933", "#5B6673", "#D5DAE0"

Point = tuple[float, float]

mpl.rcParams.update(
    {
        "font.family": "DejaVu Sans",
        "mathtext.fontset": "cm",
        "svg.hashsalt": "from autoencoders to diffusion",  # the same drawing gives the same file
        "svg.fonttype": "path",
    }
)


def card(width: float, height: float) -> tuple[Figure, Axes]:
    """A transparent figure that holds one white rounded card; its axes are measured in inches."""
    figure = Figure(figsize=(width, height), facecolor="none")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    size = width - 0.06, height - 0.06
    rounded(axes, (0.03, 0.03), size, 0.16, "white", PALE, linewidth=1, zorder=-10)
    return figure, axes


def save(figure: Figure, name: str) -> None:
    """Write NAME.svg beside this script."""
    path = Path(__file__).parent / f"{name}.svg"
    figure.savefig(path, transparent=True, metadata={"Date": None, "Creator": None})


def rounded(
    axes: Axes, corner: Point, size: Point, radius: float, face: object, edge: str, **style: float
) -> None:
    """A box with round corners, given by its lower left corner and its size."""
    shape = f"round,pad=0,rounding_size={radius}"
    box = FancyBboxPatch(corner, *size, boxstyle=shape, facecolor=face, edgecolor=edge, **style)
    axes.add_patch(box)


def arrow(axes: Axes, start: Point, end: Point, color: str, **style: object) -> None:
    """One arrow between two points."""
    axes.add_patch(FancyArrowPatch(start, end, color=color, **({"arrowstyle": "-|>"} | style)))


def words(
    axes: Axes, x: float, y: float, text: str, size: float, color: str, **style: object
) -> Text:
    """Words beginning at x, their middle at the height y."""
    return axes.text(x, y, text, fontsize=size, color=color, **({"va": "center"} | style))
