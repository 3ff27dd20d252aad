"""Figures of images: side by side, or in rows with a label each."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from torch import Tensor

from companion import checks
from companion.page.plots.style import WIDTH, Figure, axes_or_new, figure_of, house_style
from companion.page.plots.values import array_of, check_one_each


@house_style()
def image_grid(
    images: Float[Tensor, "num *channels height width"],
    *,
    columns: int | None = None,
    titles: Sequence[str] | None = None,
    tile: float = 0.9,
    axes: Axes | None = None,
) -> Figure:
    """Images side by side, row by row, each pixel kept sharp, with short titles above.

    Pixels lie in [0, 1]: (num, height, width), or with 1 (gray) or 3 (color) channels after num. By default a row has
    all images, at most 10. An image is `tile` inches wide, or less where the row would not fit the page.
    """
    pixels = _pixels(images, "images")
    check_one_each("titles", "images", titles, len(pixels))
    columns = min(len(pixels), 10) if columns is None else columns
    checks.at_least(1, columns=columns)
    return _tiles(pixels, int(columns), tile, axes, titles or ())


@house_style()
def image_rows(
    rows: Mapping[str, Float[Tensor, "num *channels height width"]],
    *,
    titles: Sequence[str] | None = None,
    tile: float = 0.9,
    axes: Axes | None = None,
) -> Figure:
    """Rows of images under each other, such as originals, reconstructions and errors.

    Each row has its label and as many images as the others, as `image_grid` takes them; each column may have a title.
    """
    checks.instance(Mapping, rows=rows)
    drawn = [_pixels(images, label) for label, images in rows.items()]
    if len({len(row) for row in drawn}) != 1:
        counts = ", ".join(str(len(row)) for row in drawn) or 0
        raise ValueError(f"rows must hold equally many images; {counts} were given")
    sizes = sorted({row.shape[1:3] for row in drawn})
    if len(sizes) > 1:
        raise ValueError(f"images must all have one size; {sizes[0]} and {sizes[-1]} were given")
    columns = len(drawn[0])
    check_one_each("titles", "columns", titles, columns)
    return _tiles(np.concatenate(drawn), columns, tile, axes, titles or (), list(rows))


def _tiles(
    images: np.ndarray,
    columns: int,
    tile: float,
    axes: Axes | None,
    titles: Sequence[Any],
    labels: Sequence[str] = (),
) -> Figure:
    """Draw images (num, height, width, 3) as tiles of one, with titles above and labels to the left."""
    checks.positive(tile=tile)
    num, height, width, _ = images.shape
    gap = max(1, round(0.06 * width))
    across = columns * (width + gap) - gap
    beside = max((0.15 + 0.07 * len(line) for line in "\n".join(labels).splitlines()), default=0.0)
    inches = min(tile / width, (WIDTH - 0.16 - beside) / across)  # of a pixel
    line = 8 / 72 / inches  # height of a title, in pixels
    above = round(1.9 * line) if titles else 0
    step = height + gap + (above if len(titles) > columns else 0)  # titles above every row, or one
    tops = [above + row * step for row in range(math.ceil(num / columns))]
    places = list(itertools.product(tops, range(0, across, width + gap)))
    canvas = np.ones((tops[-1] + height, across, 3))
    for image, (top, left) in zip(images, places, strict=False):
        canvas[top : top + height, left : left + width] = image
    axes = axes_or_new(axes, len(canvas) * inches + 0.16, across * inches + beside + 0.16)
    axes.imshow(canvas, interpolation="nearest")
    for title, (top, left) in zip(titles, places, strict=False):
        place = left + width / 2 - 0.5, top - 0.35 * line
        axes.text(*place, str(title), ha="center", va="bottom", fontsize=8)
    axes.set_xticks([])
    axes.set_yticks([top + height / 2 - 0.5 for top in tops][: len(labels)], labels)
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    return figure_of(axes)


def _pixels(images: Tensor, name: str) -> np.ndarray:
    """Gray or colored images as (num, height, width, 3)."""
    stack = array_of(images, name)
    shape = stack.shape
    if stack.ndim == 3:
        stack = stack[:, None]
    if stack.ndim != 4 or stack.shape[1] not in (1, 3) or not stack.size:
        raise ValueError(
            f"{name} must have shape (num, height, width), (num, 1, height, width) or "
            f"(num, 3, height, width); {shape} was given"
        )
    checks.within(0, 1, **{name: torch.from_numpy(stack)})
    return np.broadcast_to(np.moveaxis(stack, 1, -1), (len(stack), *stack.shape[2:], 3))
