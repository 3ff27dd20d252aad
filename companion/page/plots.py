"""The house style: every figure of the book is drawn here, and every function returns a figure that a cell shows once.

    curves({"train": losses, "test": (steps, test_losses)}, x_label="step", y_label="loss (nats)")

For several panels, make the figure first and hand each function its axes; the last call returns the whole figure:

    panels, (left, right) = figure(columns=2)
    image_grid(x, axes=left)
    histogram({"test": errors}, x_label="squared error", axes=right)

No figure is known to pyplot, so nothing is shown twice, nothing has to be closed, and no global setting changes.
"""

import io
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

import matplotlib
import matplotlib.figure
import numpy as np
import torch
from jaxtyping import Float, Real
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from torch import Tensor

if TYPE_CHECKING:
    from companion.elbo import ElboTerms

Values: TypeAlias = Tensor | np.ndarray | Sequence[float | Tensor]
Density: TypeAlias = Callable[[Tensor], Tensor]
Bounds: TypeAlias = tuple[float, float, float, float]  # left, right, bottom, top

WIDTH = 7.0  # inches: the width of a page's text
DPI = 144  # one and a half dots per CSS pixel: sharp on most screens, and small enough to commit
INK, GRID = "#333333", "#dddddd"

# Okabe and Ito's colors, told apart with any color vision; those with little contrast on white come late.
BLUE, RED, GREEN, PURPLE, ORANGE = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"
COLORS = (BLUE, RED, GREEN, PURPLE, ORANGE, "#56B4E9", "#000000", "#8C6D31", "#8A8A8A", "#B3A100")
LINES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))  # a second sign beside color
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")

WHISKER = {"ecolor": INK, "capsize": 3, "elinewidth": 1.1}

STYLE: Any = {  # matplotlib types each key, and a plain dict is what a reader expects
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "savefig.facecolor": "auto",
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.labelsize": 10,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#777777",
    "axes.linewidth": 0.8,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.width": 0.8,
    "ytick.major.width": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.8,
    "axes.titlelocation": "left",
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.08,
    "figure.constrained_layout.h_pad": 0.08,
}


@contextmanager
def _house_style() -> Iterator[None]:
    with matplotlib.rc_context(STYLE):
        yield


class Figure(matplotlib.figure.Figure):
    """A matplotlib figure in the house style that Jupyter shows by itself, whether or not pyplot is imported."""

    def draw(self, renderer: Any) -> None:
        """Draw all artists, those that matplotlib makes only now included, in the house style."""
        # Ticks, for instance, which it would make in its own style.
        with _house_style():
            super().draw(renderer)

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        png = io.BytesIO()
        self.savefig(png, format="png", metadata={"Software": None})
        # CSS pixels, 96 to an inch.
        return png.getvalue(), {"width": round(self.get_figwidth() * 96)}


@_house_style()
def figure(
    columns: int = 1, *, rows: int = 1, height: float = 3.4, width: float = WIDTH
) -> tuple[Figure, tuple[Axes, ...]]:
    """An empty figure and its axes, row by row, for the `axes` argument of the other functions.

    Args:
        columns: number of panels side by side.
        rows: number of rows of panels.
        height: height of one row, in inches.
        width: width of the figure, in inches; the text of a page is 7 inches wide.
    """
    for name, value in (("columns", columns), ("rows", rows)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1; {value} was given")
    pixels = [round(inches * DPI) for inches in (width, rows * height)]  # whole ones
    new = Figure(figsize=(pixels[0] / DPI, pixels[1] / DPI), dpi=DPI)
    return new, tuple(new.subplots(rows, columns, squeeze=False).flat)


@_house_style()
def image_grid(
    images: Float[Tensor, "num *channels height width"],
    *,
    columns: int | None = None,
    titles: Sequence[str] | None = None,
    tile: float = 0.9,
    axes: Axes | None = None,
) -> Figure:
    """Pictures side by side, row by row, each pixel kept sharp.

    Args:
        images: pixels in [0, 1]: (num, height, width), or with 1 (gray) or 3 (color) channels after num.
        columns: pictures per row; by default as many as fit, at most 10.
        titles: a short text above each picture.
        tile: width of a picture in inches; smaller where the row would not fit the page.
        axes: where to draw; by default a new figure.
    """
    pixels = _pixels(images, "images")
    if titles is not None and len(titles) != len(pixels):
        raise ValueError(f"titles must name all {len(pixels)} images; {len(titles)} were given")
    if columns is None:
        columns = min(len(pixels), 10)
    elif columns < 1:
        raise ValueError(f"columns must be at least 1; {columns} was given")
    rows = math.ceil(len(pixels) / columns)
    texts = [str(title) for title in titles or ()]
    return _tiles(list(pixels), rows, columns, tile, axes, titles=texts)


@_house_style()
def image_rows(
    rows: Mapping[str, Float[Tensor, "num *channels height width"]],
    *,
    signed: Collection[str] = (),
    titles: Sequence[str] | None = None,
    tile: float = 0.9,
    axes: Axes | None = None,
) -> Figure:
    """Rows of pictures under each other, such as originals, reconstructions and errors.

    Args:
        rows: the label of each row, and its pictures with pixels in [0, 1]; as many in each row.
        signed: labels of rows that hold values of both signs: blue below zero, white at zero, red above. The label then
            names the largest magnitude, which has the full color.
        titles: a short text above each column.
        tile: width of a picture in inches; smaller where the row would not fit the page.
        axes: where to draw; by default a new figure.
    """
    if unknown := set(signed) - set(rows):
        raise ValueError(
            f"signed must name rows, which are {', '.join(rows)}; {', '.join(sorted(unknown))} was given"
        )
    pictures, labels = [], []
    for label, images in rows.items():
        pixels, label = (
            _signed(images, label) if label in signed else (_pixels(images, label), label)
        )
        pictures.append(pixels)
        labels.append(label)
    counts = {len(pixels) for pixels in pictures}
    if len(counts) != 1 or 0 in counts:
        raise ValueError(
            f"rows must hold equally many pictures; {', '.join(str(len(p)) for p in pictures) or 0} were given"
        )
    if titles is not None and {len(titles)} != counts:
        raise ValueError(f"titles must name all {counts.pop()} columns; {len(titles)} were given")
    flat = [picture for row in pictures for picture in row]
    texts = [str(title) for title in titles or ()]
    return _tiles(flat, len(rows), counts.pop(), tile, axes, titles=texts, labels=labels)


@_house_style()
def curves(
    lines: Mapping[str, Values | tuple[Values, Values]],
    *,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    log_y: bool = False,
    bands: Mapping[str, tuple[Values, Values]] | None = None,
    marks: Mapping[str, float] | None = None,
    axes: Axes | None = None,
) -> Figure:
    """Lines over a common axis, each with its own color and dash.

    Args:
        lines: for each label y alone, drawn over 1, 2, ..., or the pair (x, y).
        x_label: what x is, with its unit.
        y_label: what y is, with its unit.
        log_x: whether x is drawn on a logarithmic scale; all x must then be positive.
        log_y: the same for y.
        bands: for some labels the lower and the upper edge of a shaded band around the line.
        marks: named places on the x axis, drawn as thin vertical lines.
        axes: where to draw; by default a new figure.
    """
    axes = axes or figure()[1][0]
    points = {label: _points(line, label) for label, line in lines.items()}
    if unknown := set(bands or {}) - set(points):
        raise ValueError(
            f"bands must name lines, which are {', '.join(points)}; {', '.join(sorted(unknown))} was given"
        )
    for number, (label, (x, y)) in enumerate(points.items()):
        for name, log, values in (("log_x", log_x, x), ("log_y", log_y, y)):
            if log and values.min() <= 0:
                raise ValueError(
                    f"{name} needs positive values; {label!r} holds {values.min():.4g}"
                )
        axes.plot(x, y, label=label, color=_color(number), linestyle=LINES[number % len(LINES)])
        if bands and label in bands:
            low, high = (_numbers(edge, f"bands[{label!r}]", dims=1) for edge in bands[label])
            axes.fill_between(x, low, high, color=_color(number), alpha=0.18, linewidth=0)
    axes.set_xscale("log" if log_x else "linear")
    axes.set_yscale("log" if log_y else "linear")
    _mark(axes, marks or {})
    return _finish(axes, x_label, y_label, legend=len(points) > 1)


@_house_style()
def scatter(
    points: Float[Tensor, "num 2"],
    labels: Values | Sequence[str] | None = None,
    *,
    x_label: str,
    y_label: str,
    legend: str | None = None,
    bounds: Bounds | None = None,
    axes: Axes | None = None,
) -> Figure:
    """Points in the plane, at equal scale on both axes, colored and shaped by class.

    Args:
        points: one row (x, y) per point.
        labels: the class of each point, at most 10 different ones.
        x_label: what x is, with its unit.
        y_label: what y is, with its unit.
        legend: what the classes are, such as "digit"; the title of the legend.
        bounds: left, right, bottom, top of the part to draw; by default all points.
        axes: where to draw; by default a new figure.
    """
    xy = _plane(points, "points")
    classes = np.zeros(len(xy), int) if labels is None else np.asarray(_plain(labels))
    names = np.unique(classes)
    if classes.shape != (len(xy),) or len(names) > len(COLORS):
        raise ValueError(
            f"labels must give each of the {len(xy)} points one of at most {len(COLORS)} classes; "
            f"shape {classes.shape} with {len(names)} classes was given"
        )
    axes = axes or figure(height=4.4, width=5.6 if labels is not None else 4.8)[1][0]
    size = min(max(4000 / len(xy), 5), 22)
    for number, name in enumerate(names):
        x, y = xy[classes == name].T
        axes.scatter(
            x,
            y,
            s=size,
            c=_color(number),
            marker=MARKERS[number],
            label=str(name),
            alpha=0.75,
            linewidths=0,
        )
    axes.set_aspect("equal", adjustable="datalim" if bounds is None else "box")
    if bounds is not None:
        axes.set(xlim=bounds[:2], ylim=bounds[2:])
    if labels is not None:
        key = axes.legend(
            title=legend,
            loc="center left",
            bbox_to_anchor=(1.01, 0.5),
            handletextpad=0.3,
            markerscale=1.3,
        )
        for handle in key.legend_handles:
            handle.set_sizes([28])  # type: ignore[union-attr]  # handles of scatter are collections
            handle.set_alpha(1)  # type: ignore[union-attr]
    return _finish(axes, x_label, y_label)


@_house_style()
def histogram(
    samples: Mapping[str, Values],
    *,
    x_label: str,
    bins: int = 40,
    density: Density | None = None,
    marks: Mapping[str, float] | None = None,
    axes: Axes | None = None,
) -> Figure:
    """Histograms of samples over common bins, each with area one.

    Args:
        samples: one set of numbers per label.
        x_label: what is counted, with its unit.
        bins: number of bins.
        density: a probability density of the samples, drawn as a black line.
        marks: named places on the x axis, drawn as thin vertical lines.
        axes: where to draw; by default a new figure.
    """
    axes = axes or figure()[1][0]
    sets = {label: _numbers(values, label, dims=1) for label, values in samples.items()}
    edges = np.histogram_bin_edges(np.concatenate(list(sets.values())), bins)
    for number, (label, values) in enumerate(sets.items()):
        heights, _ = np.histogram(values, edges, density=True)
        color, dash = _color(number), LINES[number % len(LINES)]
        axes.stairs(heights, edges, fill=True, alpha=0.22, color=color)
        axes.stairs(heights, edges, linewidth=1.5, color=color, linestyle=dash, label=label)
    if density is not None:
        x = torch.linspace(float(edges[0]), float(edges[-1]), 400)
        axes.plot(
            x.numpy(),
            _numbers(density(x), "density(x)", dims=1),
            color="black",
            linewidth=1.4,
            label="density",
        )
    _mark(axes, marks or {})
    axes.grid(axis="x", visible=False)
    return _finish(
        axes, x_label, "probability density", legend=len(sets) + (density is not None) > 1
    )


@_house_style()
def bars(
    values: Mapping[str, float],
    *,
    value_label: str,
    errors: Mapping[str, float] | None = None,
    horizontal: bool = False,
    axes: Axes | None = None,
) -> Figure:
    """One bar per name, with its value written on it.

    Args:
        values: the names and their values.
        value_label: what the values are, with their unit.
        errors: standard errors for all or some of the names, drawn as whiskers.
        horizontal: whether the bars lie down, for long names.
        axes: where to draw; by default a new figure.
    """
    if unknown := set(errors or {}) - set(values):
        raise ValueError(
            f"errors must name bars, which are {', '.join(values)}; {', '.join(sorted(unknown))} was given"
        )
    axes = axes or figure(height=0.7 + 0.42 * len(values) if horizontal else 3.4)[1][0]
    heights = _numbers([float(value) for value in values.values()], "values", dims=1)
    whiskers = _numbers([float((errors or {}).get(name, 0)) for name in values], "errors", dims=1)
    places = np.arange(len(heights))
    if horizontal:
        drawn = axes.barh(
            places, heights, 0.62, xerr=whiskers if errors else None, color=BLUE, error_kw=WHISKER
        )
        axes.set_yticks(places, list(values))
        axes.invert_yaxis()
        axes.margins(x=0.12)
    else:
        drawn = axes.bar(
            places, heights, 0.62, yerr=whiskers if errors else None, color=BLUE, error_kw=WHISKER
        )
        axes.set_xticks(places, list(values))
        axes.margins(y=0.12)
    # Three digits for the longest bar.
    decimals = max(0, 2 - math.floor(math.log10(np.abs(heights).max() or 1)))
    axes.bar_label(drawn, [f"{height:,.{decimals}f}" for height in heights], padding=3, fontsize=9)
    axes.grid(axis="y" if horizontal else "x", visible=False)
    axes.tick_params(axis="y" if horizontal else "x", length=0)
    return _finish(axes, value_label if horizontal else "", "" if horizontal else value_label)


@_house_style()
def heatmap(
    matrix: Real[Tensor, "rows columns"],
    *,
    x_label: str,
    y_label: str,
    value_label: str,
    x_ticks: Sequence[str] | None = None,
    y_ticks: Sequence[str] | None = None,
    axes: Axes | None = None,
) -> Figure:
    """A matrix in color, row 0 at the top; values of both signs are drawn with white at zero.

    Args:
        matrix: the values.
        x_label: what the columns are.
        y_label: what the rows are.
        value_label: what the values are, with their unit.
        x_ticks: names of the columns; by default their indices.
        y_ticks: names of the rows; by default their indices.
        axes: where to draw; by default a new figure.
    """
    values = _numbers(matrix, "matrix", dims=2)
    axes = axes or figure(height=4.0, width=5.2)[1][0]
    limit = np.abs(values).max()
    both = values.min() < 0 < values.max()
    colors: dict[str, Any] = (
        {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit} if both else {"cmap": "viridis"}
    )
    image = axes.imshow(
        values, aspect="equal" if 0.5 < values.shape[0] / values.shape[1] < 2 else "auto", **colors
    )
    for axis, ticks, count in (
        (axes.xaxis, x_ticks, values.shape[1]),
        (axes.yaxis, y_ticks, values.shape[0]),
    ):
        if ticks is None:
            axis.set_major_locator(MaxNLocator(min(count, 10), integer=True))
        elif len(ticks) == count:
            axis.set_ticks(range(count), [str(tick) for tick in ticks])
        else:
            raise ValueError(
                f"ticks must name all {count} {'columns' if axis is axes.xaxis else 'rows'}; {len(ticks)} given"
            )
    axes.grid(visible=False)
    _color_key(axes, image, value_label)
    axes.spines[:].set_visible(False)
    return _finish(axes, x_label, y_label)


@_house_style()
def density2d(
    log_prob: Density,
    bounds: Bounds,
    *,
    x_label: str = "$x_1$",
    y_label: str = "$x_2$",
    value_label: str = "probability density",
    axes: Axes | None = None,
) -> Figure:
    """A probability density over the plane, as filled contours from white (zero) to dark (its maximum).

    Args:
        log_prob: log-density in nats of points (num, 2), shape (num,).
        bounds: left, right, bottom, top of the part to draw.
        x_label: what the first coordinate is.
        y_label: what the second coordinate is.
        value_label: what the exponential of `log_prob` is.
        axes: where to draw; by default a new figure.
    """
    x, y, points = _mesh(bounds, 160)
    density = np.exp(_of_points(log_prob, points, "log_prob", (len(points),)))
    axes = axes or _plane_axes(bounds, beside=1.0)
    levels = np.linspace(0, density.max(), 13)
    filled = axes.contourf(x, y, density.reshape(x.shape), levels, cmap="Blues")
    axes.grid(visible=False)
    axes.set_aspect("equal")
    _color_key(axes, filled, value_label)
    return _finish(axes, x_label, y_label)


@_house_style()
def vector_field(
    function: Density,
    bounds: Bounds,
    *,
    log_prob: Density | None = None,
    num: int = 20,
    x_label: str = "$x_1$",
    y_label: str = "$x_2$",
    axes: Axes | None = None,
) -> Figure:
    """Arrows of a vector field on a regular grid, as long as a grid cell where the field is strongest.

    Args:
        function: vectors at points (num, 2), of the same shape.
        bounds: left, right, bottom, top of the part to draw.
        log_prob: log-density in nats of points, drawn beneath the arrows.
        num: arrows along each side.
        x_label: what the first coordinate is.
        y_label: what the second coordinate is.
        axes: where to draw; by default a new figure.
    """
    x, y, points = _mesh(bounds, num)
    u, v = _of_points(function, points, "function", tuple(points.shape)).T
    axes = axes or _plane_axes(bounds)
    if log_prob is not None:
        fine_x, fine_y, fine = _mesh(bounds, 160)
        density = np.exp(_of_points(log_prob, fine, "log_prob", (len(fine),)))
        axes.contourf(
            fine_x,
            fine_y,
            density.reshape(fine_x.shape),
            12,
            cmap="Blues",
            vmax=1.6 * density.max(),
        )
    cell = (bounds[1] - bounds[0]) / (num - 1)
    scale = max(float(np.hypot(u, v).max()), 1e-300) / (1.6 * cell)
    axes.quiver(
        x,
        y,
        u,
        v,
        angles="xy",
        scale_units="xy",
        scale=scale,
        color="#222222",
        width=0.0032,
        headwidth=4,
    )
    axes.grid(visible=False)
    axes.set_aspect("equal")
    return _finish(axes, x_label, y_label)


@_house_style()
def kl_per_level(terms: "ElboTerms", *, axes: Axes | None = None) -> Figure:
    """How the KL of a chain of latents is spent: its batch mean at each level, with its standard error.

    Args:
        terms: the bound of a batch, from `elbo_terms`.
        axes: where to draw; by default a new figure.
    """
    kl = _numbers(terms.kl, "terms.kl", dims=2)
    mean, level = kl.mean(0), np.arange(1, kl.shape[1] + 1)
    error = kl.std(0, ddof=1) / math.sqrt(len(kl)) if len(kl) > 1 else None
    axes = axes or figure()[1][0]
    few = len(level) <= 20
    axes.bar(
        level, mean, 0.62 if few else 1.0, yerr=error if few else None, color=BLUE, error_kw=WHISKER
    )
    if few:
        axes.set_xticks(level)
    # A chain of one latent gets no bar as wide as the page.
    margin = max(0.3, 1.5 - len(level) / 2)
    axes.set_xlim(0.5 - margin, len(level) + 0.5 + margin)
    axes.grid(axis="x", visible=False)
    return _finish(axes, "level $t$ of the latent $z_t$", "KL (nats)")


def _mark(axes: Axes, places: Mapping[str, float]) -> None:
    """Draw a thin vertical line at each place, with its name at the top."""
    for text, place in places.items():
        axes.axvline(place, color="#777777", linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        place_at_top = axes.get_xaxis_transform()
        axes.annotate(
            text,
            (place, 1),
            (3, -2),
            place_at_top,
            "offset points",
            va="top",
            fontsize=9,
            color="#555555",
        )


def _finish(axes: Axes, x_label: str, y_label: str, *, legend: bool = False) -> Figure:
    """Name the axes, put a legend above them where it covers no data, and return the figure."""
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    if legend:
        columns = min(len(axes.get_legend_handles_labels()[1]), 4)
        axes.legend(
            loc="lower left",
            bbox_to_anchor=(-0.01, 1.0),
            ncols=columns,
            borderaxespad=0.2,
            columnspacing=1.6,
        )
    return _figure_of(axes)


def _color_key(axes: Axes, mappable: Any, label: str) -> None:
    """Say which color means what, beside the axes and exactly as high as these."""
    bar = _figure_of(axes).colorbar(mappable, cax=axes.inset_axes((1.04, 0, 0.045, 1)), label=label)
    bar.locator = MaxNLocator(5)
    bar.update_ticks()
    bar.ax.spines[:].set_visible(False)


def _plane_axes(bounds: Bounds, *, beside: float = 0.0) -> Axes:
    """The axes of a new figure whose shape fits the bounds, with room beside for a color key."""
    left, right, bottom, top = bounds
    shape = min(max((top - bottom) / (right - left), 0.4), 1.6) if left < right else 1.0
    return figure(width=4.8 + beside, height=4.0 * shape + 0.7)[1][0]


def _figure_of(axes: Axes) -> Figure:
    found = axes.get_figure(root=True)
    if not isinstance(found, Figure):
        raise TypeError(
            "axes must come from companion.page.plots.figure; those of another figure were given"
        )
    return found


def _tiles(
    pictures: list[np.ndarray],
    rows: int,
    columns: int,
    tile: float,
    axes: Axes | None,
    *,
    titles: Sequence[str] = (),
    labels: Sequence[str] = (),
) -> Figure:
    """Draw pictures of (height, width, 3) as tiles of one image, with a gap, titles above and labels to the left."""
    height, width, _ = pictures[0].shape
    if wrong := {p.shape for p in pictures} - {(height, width, 3)}:
        raise ValueError(
            f"pictures must all have one size; {(height, width)} and {wrong.pop()[:2]} were given"
        )
    gap = max(1, round(0.06 * width))
    across = columns * (width + gap) - gap
    beside = max(
        [0.15 + 0.07 * len(line) for label in labels for line in label.splitlines()], default=0.0
    )
    inches = min(tile / width, (WIDTH - 0.16 - beside) / across)  # of a pixel
    line = 8 / 72 / inches  # height of a title, in pixels
    above = round(1.9 * line) if titles else 0
    # Above the first row only, or above every row.
    every = above if len(titles) > columns else 0
    down = rows * (height + gap + every) - gap + above - every
    canvas = np.ones((down, across, 3))
    corners = [
        (above + i // columns * (height + gap + every), i % columns * (width + gap))
        for i in range(len(pictures))
    ]
    for picture, (top, left) in zip(pictures, corners, strict=True):
        canvas[top : top + height, left : left + width] = picture
    axes = axes or figure(width=across * inches + beside + 0.16, height=down * inches + 0.16)[1][0]
    axes.imshow(canvas, interpolation="nearest")
    for title, (top, left) in zip(titles, corners, strict=False):
        axes.text(
            left + width / 2 - 0.5, top - 0.35 * line, title, ha="center", va="bottom", fontsize=8
        )
    axes.set_xticks([])
    axes.set_yticks(
        [top + height / 2 - 0.5 for top, _ in corners[::columns]][: len(labels)], labels
    )
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    return _figure_of(axes)


def _pixels(images: Tensor, name: str) -> np.ndarray:
    """`images` as (num, height, width, 3), or one sentence on what is wrong with them."""
    pixels = np.asarray(_plain(images), dtype=np.float64)
    if pixels.ndim == 3:
        pixels = pixels[:, None]
    if pixels.ndim != 4 or pixels.shape[1] not in (1, 3) or not pixels.size:
        raise ValueError(
            f"{name} must have shape (num, height, width), (num, 1, height, width) or (num, 3, height, width); "
            f"{tuple(np.shape(_plain(images)))} was given"
        )
    if not (pixels.min() >= 0 and pixels.max() <= 1):
        raise ValueError(
            f"{name} must lie in [0, 1]; {pixels.min():.4g} to {pixels.max():.4g} was given"
        )
    return np.broadcast_to(np.moveaxis(pixels, 1, -1), (len(pixels), *pixels.shape[2:], 3))


def _signed(images: Tensor, label: str) -> tuple[np.ndarray, str]:
    """Gray pictures of both signs as colors, and the label with the largest magnitude."""
    values = np.asarray(_plain(images), dtype=np.float64)
    if values.ndim == 4 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 3 or not np.isfinite(values).all():
        raise ValueError(
            f"{label} must be finite, of shape (num, height, width) or (num, 1, height, width); "
            f"{values.shape} was given"
        )
    limit = float(np.abs(values).max()) or 1.0
    return matplotlib.colormaps["RdBu_r"](0.5 + 0.5 * values / limit)[
        ..., :3
    ], f"{label}\n$\\pm${limit:.2g}"


def _plain(values: Any) -> Any:
    if not isinstance(values, Tensor):
        return values
    # NumPy has no bfloat16, which autocast gives.
    values = values.float() if values.dtype == torch.bfloat16 else values
    return values.numpy(force=True)


def _numbers(values: Any, name: str, *, dims: int) -> np.ndarray:
    array = np.asarray(_plain(values), dtype=np.float64)
    if array.ndim != dims or not array.size:
        raise ValueError(
            f"{name} must have {dims} dimension{'s' * (dims > 1)} and hold numbers; shape {array.shape} was given"
        )
    if not np.isfinite(array).all():
        raise ValueError(
            f"{name} must be finite; {np.count_nonzero(~np.isfinite(array))} of {array.size} values are not"
        )
    return array


def _points(line: Any, label: str) -> tuple[np.ndarray, np.ndarray]:
    pair = isinstance(line, tuple) and len(line) == 2 and np.ndim(_plain(line[0])) == 1
    y = _numbers(line[1] if pair else line, label, dims=1)
    x = _numbers(line[0], f"x of {label!r}", dims=1) if pair else np.arange(1.0, len(y) + 1)
    if len(x) != len(y):
        raise ValueError(
            f"x and y of {label!r} must be equally long; {len(x)} and {len(y)} were given"
        )
    return x, y


def _plane(points: Any, name: str) -> np.ndarray:
    array = _numbers(points, name, dims=2)
    if array.shape[1] != 2:
        raise ValueError(f"{name} must have shape (num, 2); {array.shape} was given")
    return array


def _mesh(bounds: Bounds, num: int) -> tuple[np.ndarray, np.ndarray, Tensor]:
    left, right, bottom, top = bounds
    if not (left < right and bottom < top):
        raise ValueError(f"bounds must be left < right and bottom < top; {bounds} was given")
    x, y = np.meshgrid(np.linspace(left, right, num), np.linspace(bottom, top, num))
    return (
        x,
        y,
        torch.tensor(np.stack([x.ravel(), y.ravel()], 1), dtype=torch.get_default_dtype()),
    )


def _of_points(function: Density, points: Tensor, name: str, shape: tuple[int, ...]) -> np.ndarray:
    with torch.no_grad():
        values = np.asarray(_plain(function(points)), dtype=np.float64)
    if values.shape != shape or np.isnan(values).any() or (values == np.inf).any():
        raise ValueError(f"{name} must map points of shape {tuple(points.shape)} to finite values of shape {shape}; "
                         f"shape {values.shape} was given back")  # fmt: skip
    return values


def _color(number: int) -> str:
    return COLORS[number % len(COLORS)]
