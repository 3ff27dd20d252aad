"""The house style: colors, sizes, and the figure that Jupyter shows by itself."""

import base64
import io
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any

import matplotlib
import matplotlib.figure
from matplotlib.axes import Axes
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from companion import checks
from companion.page.plots.values import plain

WIDTH = 7.0  # inches: the width of a page's text
DPI = 144  # one and a half dots per CSS pixel: sharp on most screens, and small enough to commit
LARGEST_DRAWING = 120_000  # characters; beyond, as with thousands of points, pixels are less
INK, GRID = "#333333", "#dddddd"

# Okabe and Ito's colors, told apart with any color vision; those with little contrast on white come late.
BLUE, RED, GREEN, PURPLE, ORANGE = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00"
COLORS = (BLUE, RED, GREEN, PURPLE, ORANGE, "#56B4E9", "#000000", "#8C6D31", "#8A8A8A", "#B3A100")
LINES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)))  # a second sign beside color
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")

WHISKER = {"ecolor": INK, "capsize": 3, "elinewidth": 1.1}

STYLE: Any = {
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
    "svg.hashsalt": "companion",  # or the same figure would be another file each time
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.08,
    "figure.constrained_layout.h_pad": 0.08,
}


@contextmanager
def house_style() -> Iterator[None]:
    """The house style, for as long as a figure is made or drawn."""
    with matplotlib.rc_context(STYLE):
        yield


class Figure(matplotlib.figure.Figure):
    """A matplotlib figure in the house style that Jupyter shows by itself, whether or not pyplot is imported."""

    def draw(self, renderer: Any) -> None:
        """Draw all artists, those that matplotlib makes only now included, in the house style."""
        # Ticks, for instance, which it would make in its own style.
        with house_style():
            super().draw(renderer)

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        # CSS pixels, 96 to an inch.
        size = {"width": round(self.get_figwidth() * 96)}
        drawing = self._as_drawing()
        if drawing is not None:
            return {"image/svg+xml": drawing}, {"image/svg+xml": size}
        png = io.BytesIO()
        self.savefig(png, format="png", metadata={"Software": None})
        return {"image/png": base64.b64encode(png.getvalue()).decode()}, {"image/png": size}

    @house_style()
    def _as_drawing(self) -> str | None:
        """Lines and letters, sharp at any size; None where there are pictures, or too many lines."""
        if self.findobj(AxesImage):
            return None
        file = io.StringIO()
        self.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
        drawing = file.getvalue()
        drawing = re.sub(
            r"<metadata>.*?</metadata>", "", drawing[drawing.index("<svg") :], flags=re.S
        )
        return drawing if len(drawing) <= LARGEST_DRAWING else None


class _Panel(Axes):
    """matplotlib's axes; those of its functions that chapters call take tensors of any device."""

    def inset_axes(self, bounds: Any, **options: Any) -> Any:
        return super().inset_axes(bounds, axes_class=_Panel, **options)


def _of_any_device(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def taking(self: Axes, *values: Any, **options: Any) -> Any:
        return method(self, *map(plain, values), **options)

    return taking


DRAWN = "bar errorbar fill fill_between imshow pcolormesh plot quiver scatter"
for _name in DRAWN.split():
    setattr(_Panel, _name, _of_any_device(getattr(Axes, _name)))


@house_style()
def figure(
    columns: int = 1, *, rows: int = 1, height: float = 3.4, width: float = WIDTH
) -> tuple[Figure, tuple[Axes, ...]]:
    """An empty figure of panels and their axes, row by row, for the `axes` argument of the other functions.

    The height of one row and the width of the figure are in inches; the text of a page is 7 inches wide.
    """
    checks.at_least(1, columns=columns, rows=rows)
    checks.positive(height=height, width=width)
    pixels = [round(inches * DPI) for inches in (width, rows * height)]  # whole ones
    new = Figure(figsize=(pixels[0] / DPI, pixels[1] / DPI), dpi=DPI)
    return new, tuple(
        new.subplots(rows, columns, squeeze=False, subplot_kw={"axes_class": _Panel}).flat
    )


def axes_or_new(axes: Axes | None, height: float = 3.4, width: float = WIDTH) -> Axes:
    """The axes that were given, or the only ones of a new figure of this size in inches."""
    if axes is None:
        return figure(height=height, width=width)[1][0]
    checks.instance(Axes, axes=axes)
    figure_of(axes)
    return axes


def look(number: int) -> dict[str, Any]:
    """Color and dash of the line with this number."""
    return {"color": COLORS[number % len(COLORS)], "linestyle": LINES[number % len(LINES)]}


def mark(axes: Axes, places: Mapping[str, float]) -> None:
    """Draw a thin vertical line at each place, with its name at the top."""
    checks.instance(Mapping, marks=places)
    for text, place in places.items():
        checks.between(-math.inf, math.inf, **{f"marks[{text!r}]": place})
        place = float(place)  # of a tensor on a GPU, too
        axes.axvline(place, color="#777777", linewidth=0.9, linestyle=(0, (4, 3)), zorder=1)
        top = axes.get_xaxis_transform()
        axes.annotate(
            text, (place, 1), (3, -2), top, "offset points", va="top", fontsize=9, color="#555555"
        )


def finish(axes: Axes, x_label: str, y_label: str, *, legend: bool = False) -> Figure:
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
    return figure_of(axes)


def color_key(axes: Axes, mappable: Any, label: str) -> None:
    """Say which color means what, beside the axes and exactly as high as these."""
    bar = figure_of(axes).colorbar(mappable, cax=axes.inset_axes((1.04, 0, 0.045, 1)), label=label)
    bar.locator = MaxNLocator(5)
    bar.update_ticks()
    bar.ax.spines[:].set_visible(False)


def figure_of(axes: Axes) -> Figure:
    """The figure in the house style that the axes belong to."""
    found = axes.get_figure(root=True)
    if not isinstance(found, Figure):
        raise TypeError(
            "axes must come from companion.page.plots.figure; those of another figure were given"
        )
    return found
