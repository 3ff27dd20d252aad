"""Charts: curves, histograms, bars, matrices."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Real
from matplotlib.axes import Axes
from matplotlib.ticker import LogFormatter, MaxNLocator
from torch import Tensor

from companion import checks
from companion.elbo import ElboTerms
from companion.page.plots import style
from companion.page.plots.style import Figure, axes_or_new, color_key, finish, house_style
from companion.page.plots.values import Density, Values, check_names, check_one_each, numbers, plain


@house_style()
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

    `lines` holds for each label y alone, drawn over 1, 2, ..., or the pair (x, y); `bands` for some of them the lower
    and the upper edge of a shaded band. On a logarithmic scale all values must be positive.
    """
    checks.instance(Mapping, lines=lines)
    checks.at_least(1, **{"number of lines": len(lines)})
    axes = axes_or_new(axes)
    points = {label: _points(line, label) for label, line in lines.items()}
    check_names("bands", "lines", bands or (), points)
    for number, (label, (x, y)) in enumerate(points.items()):
        for name, log, values in (("log_x", log_x, x), ("log_y", log_y, y)):
            if log and values.min() <= 0:
                raise ValueError(
                    f"{name} needs positive values; {label!r} holds {values.min():.4g}"
                )
        (line,) = axes.plot(x, y, label=label, **style.look(number))
        if bands and label in bands:
            edges = numbers(bands[label], f"bands[{label!r}]", dims=2)
            checks.shape((2, len(x)), **{f"bands[{label!r}]": torch.from_numpy(edges)})
            axes.fill_between(x, *edges, color=line.get_color(), alpha=0.18, linewidth=0)
    axes.set_xscale("log" if log_x else "linear")
    axes.set_yscale("log" if log_y else "linear")
    for axis, log, number in ((axes.xaxis, log_x, 0), (axes.yaxis, log_y, 1)):
        values = np.concatenate([point[number] for point in points.values()])
        if log and values.min() >= 1 and values.max() <= 1e4:  # 20 reads better than 2 x 10^1
            axis.set_major_formatter(LogFormatter())
            axis.set_minor_formatter(LogFormatter(labelOnlyBase=False))
    style.mark(axes, marks or {})
    return finish(axes, x_label, y_label, legend=len(points) > 1)


@house_style()
def histogram(
    samples: Mapping[str, Values],
    *,
    x_label: str,
    bins: int = 40,
    density: Density | None = None,
    marks: Mapping[str, float] | None = None,
    axes: Axes | None = None,
) -> Figure:
    """Histograms of samples, a set of numbers per label, over common bins, each with area one.

    A probability `density` of the samples is drawn as a black line.
    """
    checks.instance(Mapping, samples=samples)
    checks.at_least(1, bins=bins, **{"number of samples": len(samples)})
    axes = axes_or_new(axes)
    sets = {label: numbers(values, label, dims=1) for label, values in samples.items()}
    edges = np.histogram_bin_edges(np.concatenate(list(sets.values())), bins)
    for number, (label, values) in enumerate(sets.items()):
        heights, _ = np.histogram(values, edges, density=True)
        signs = style.look(number)
        axes.stairs(heights, edges, fill=True, alpha=0.22, color=signs["color"])
        axes.stairs(heights, edges, linewidth=1.5, label=label, **signs)
    if density is not None:
        x = torch.linspace(float(edges[0]), float(edges[-1]), 400)
        y = numbers(density(x), "density(x)", dims=1)
        axes.plot(plain(x), y, color="black", linewidth=1.4, label="density")
    style.mark(axes, marks or {})
    axes.grid(axis="x", visible=False)
    return finish(
        axes, x_label, "probability density", legend=len(sets) + (density is not None) > 1
    )


@house_style()
def bars(
    values: Mapping[str, float],
    *,
    value_label: str,
    errors: Mapping[str, float] | None = None,
    horizontal: bool = False,
    axes: Axes | None = None,
) -> Figure:
    """One bar per name, with its value written on it; horizontal ones leave room for long names.

    Standard `errors` of all or some of the names are drawn as whiskers.
    """
    checks.instance(Mapping, values=values)
    errors = errors or {}
    check_names("errors", "bars", errors, values)
    axes = axes_or_new(axes, height=0.7 + 0.42 * len(values) if horizontal else 3.4)
    heights = numbers(list(values.values()), "values", dims=1)
    whiskers = numbers([errors.get(name, 0) for name in values], "errors", dims=1)
    checks.within(0, math.inf, errors=torch.from_numpy(whiskers))
    draw, error = (axes.barh, "xerr") if horizontal else (axes.bar, "yerr")
    options: Any = {error: whiskers if errors else None, "error_kw": style.WHISKER}
    drawn = draw(range(len(heights)), heights, 0.62, color=style.BLUE, **options)
    names = axes.yaxis if horizontal else axes.xaxis
    names.set_ticks(range(len(heights)), list(values))
    if horizontal:
        axes.invert_yaxis()  # the first name at the top
    axes.margins(x=0.12 if horizontal else None, y=None if horizontal else 0.12)
    # Three digits for the longest bar.
    decimals = max(0, 2 - math.floor(math.log10(np.abs(heights).max() or 1)))
    axes.bar_label(drawn, [f"{height:,.{decimals}f}" for height in heights], padding=3, fontsize=9)
    names.grid(visible=False)
    names.set_tick_params(length=0)
    return finish(axes, value_label if horizontal else "", "" if horizontal else value_label)


@house_style()
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

    The ticks name columns and rows; by default they are the indices.
    """
    values = numbers(matrix, "matrix", dims=2)
    axes = axes_or_new(axes, height=4.0, width=5.2)
    limit = np.abs(values).max()
    both = values.min() < 0 < values.max()
    colors: dict[str, Any] = (
        {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit} if both else {"cmap": "viridis"}
    )
    image = axes.imshow(
        values, aspect="equal" if 0.5 < values.shape[0] / values.shape[1] < 2 else "auto", **colors
    )
    num_rows, num_columns = values.shape
    for axis, kind, ticks, count in (
        (axes.xaxis, "columns", x_ticks, num_columns),
        (axes.yaxis, "rows", y_ticks, num_rows),
    ):
        if ticks is None:
            axis.set_major_locator(MaxNLocator(min(count, 10), integer=True))
        else:
            check_one_each("ticks", kind, ticks, count)
            axis.set_ticks(range(count), [str(tick) for tick in ticks])
    axes.grid(visible=False)
    color_key(axes, image, value_label)
    axes.spines[:].set_visible(False)
    return finish(axes, x_label, y_label)


@house_style()
def kl_per_level(terms: ElboTerms, *, axes: Axes | None = None) -> Figure:
    """How the KL of a chain of latents is spent: its batch mean at each level, with standard errors if these are few.

    The terms are those of a batch, from `elbo_terms`.
    """
    checks.instance(ElboTerms, terms=terms)
    kl = numbers(terms.kl, "terms.kl", dims=2)
    mean, level = kl.mean(0), np.arange(1, kl.shape[1] + 1)
    error = kl.std(0, ddof=1) / math.sqrt(len(kl)) if len(kl) > 1 else None
    axes = axes_or_new(axes)
    few = len(level) <= 20
    axes.bar(
        level,
        mean,
        0.62 if few else 1.0,
        yerr=error if few else None,
        color=style.BLUE,
        error_kw=style.WHISKER,
    )
    if few:
        axes.set_xticks(level)
    # A chain of one latent gets no bar as wide as the page.
    margin = max(0.3, 1.5 - len(level) / 2)
    axes.set_xlim(0.5 - margin, len(level) + 0.5 + margin)
    axes.grid(axis="x", visible=False)
    return finish(axes, "level $t$ of the latent $z_t$", "KL (nats)")


def _points(line: Any, label: str) -> tuple[np.ndarray, np.ndarray]:
    pair = isinstance(line, tuple) and len(line) == 2 and np.ndim(plain(line[0])) == 1
    y = numbers(line[1] if pair else line, label, dims=1)
    x = numbers(line[0], f"x of {label!r}", dims=1) if pair else np.arange(1.0, len(y) + 1)
    if len(x) != len(y):
        raise ValueError(
            f"x and y of {label!r} must be equally long; {len(x)} and {len(y)} were given"
        )
    return x, y
