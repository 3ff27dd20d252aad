"""Figures of the plane: points, densities and vector fields."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from torch import Tensor

from companion import checks
from companion.page.plots import style
from companion.page.plots.style import Figure, axes_or_new, color_key, finish, house_style
from companion.page.plots.values import Density, Values, numbers, plain

Bounds: TypeAlias = tuple[float, float, float, float]  # left, right, bottom, top


@house_style()
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

    `labels` gives the class of each point, at most 10 different ones, and `legend` says what the classes are, such as
    "digit". Without `bounds` all points are drawn.
    """
    xy = numbers(points, "points", dims=2)
    if xy.shape[1] != 2:
        raise ValueError(f"points must have shape (num, 2); {xy.shape} was given")
    classes = np.zeros(len(xy), int) if labels is None else np.asarray(plain(labels))
    names = np.unique(classes)
    if classes.shape != (len(xy),) or len(names) > len(style.COLORS):
        raise ValueError(
            f"labels must give each of the {len(xy)} points one of at most {len(style.COLORS)} classes; "
            f"shape {classes.shape} with {len(names)} classes was given"
        )
    if bounds is not None:
        _check_bounds(bounds)
    axes = axes_or_new(axes, height=4.4, width=5.6 if labels is not None else 4.8)
    size = min(max(4000 / len(xy), 5), 22)
    for number, name in enumerate(names):
        x, y = xy[classes == name].T
        color, marker = style.COLORS[number], style.MARKERS[number]
        axes.scatter(x, y, size, c=color, marker=marker, label=str(name), alpha=0.75, linewidths=0)
    axes.set_aspect("equal", adjustable="datalim" if bounds is None else "box")
    if bounds is not None:
        axes.set(xlim=bounds[:2], ylim=bounds[2:])
    if labels is not None:
        beside: Any = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)}
        key = axes.legend(title=legend, handletextpad=0.3, markerscale=1.3, **beside)
        for handle in key.legend_handles:
            handle.set_sizes([28])  # type: ignore[union-attr]  # handles of scatter are collections
            handle.set_alpha(1)  # type: ignore[union-attr]
    return finish(axes, x_label, y_label)


@house_style()
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

    `log_prob` gives the log-density in nats, of shape (num,), for points (num, 2).
    """
    x, y, density = _density(log_prob, bounds)
    axes = _plane_axes(axes, bounds, beside=1.0)
    levels = np.linspace(0, density.max(), 13)
    filled = axes.contourf(x, y, density, levels, cmap="Blues")
    axes.grid(visible=False)
    axes.set_aspect("equal")
    color_key(axes, filled, value_label)
    return finish(axes, x_label, y_label)


@house_style()
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
    """Arrows of a vector field on a grid of num by num, 1.6 grid cells long where the field is strongest.

    The function gives vectors at points (num, 2), of the same shape. The density of `log_prob`, in nats, is drawn
    beneath the arrows.
    """
    checks.at_least(2, num=num)
    x, y, points = _mesh(bounds, num)
    u, v = _of_points(function, points, "function", tuple(points.shape)).T
    axes = _plane_axes(axes, bounds)
    if log_prob is not None:
        fine_x, fine_y, density = _density(log_prob, bounds)
        axes.contourf(fine_x, fine_y, density, 12, cmap="Blues", vmax=1.6 * density.max())
    cell = (bounds[1] - bounds[0]) / (num - 1)
    scale = max(float(np.hypot(u, v).max()), 1e-300) / (1.6 * cell)
    to_scale: Any = {"angles": "xy", "scale_units": "xy", "scale": scale}
    axes.quiver(x, y, u, v, color="#222222", width=0.0032, headwidth=4, **to_scale)
    axes.grid(visible=False)
    axes.set_aspect("equal")
    return finish(axes, x_label, y_label)


def _plane_axes(axes: Axes | None, bounds: Bounds, *, beside: float = 0.0) -> Axes:
    """These axes, or those of a new figure whose shape fits the bounds, with room beside for a color key."""
    left, right, bottom, top = bounds
    shape = min(max((top - bottom) / (right - left), 0.4), 1.6)
    return axes_or_new(axes, width=4.8 + beside, height=4.0 * shape + 0.7)


def _check_bounds(bounds: Bounds) -> None:
    ends = numbers(bounds, "bounds", dims=1)
    if len(ends) != 4 or not (ends[0] < ends[1] and ends[2] < ends[3]):
        raise ValueError(f"bounds must be left < right and bottom < top; {bounds} was given")


def _mesh(bounds: Bounds, num: int) -> tuple[np.ndarray, np.ndarray, Tensor]:
    _check_bounds(bounds)
    left, right, bottom, top = bounds
    x, y = np.meshgrid(np.linspace(left, right, num), np.linspace(bottom, top, num))
    points = torch.tensor(np.stack([x, y], -1), dtype=torch.get_default_dtype())
    return x, y, points.flatten(0, 1)


def _density(log_prob: Density, bounds: Bounds) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    x, y, points = _mesh(bounds, 160)
    log_density = _of_points(log_prob, points, "log_prob", (len(points),))
    density = np.exp(log_density).reshape(x.shape)
    if not density.any():
        raise ValueError("log_prob must be finite somewhere within bounds; the density is 0 there")
    return x, y, density


def _of_points(function: Density, points: Tensor, name: str, shape: tuple[int, ...]) -> np.ndarray:
    checks.function(**{name: function})
    with torch.no_grad():
        values = np.asarray(plain(function(points)), dtype=np.float64)
    if values.shape != shape or np.isnan(values).any() or (values == np.inf).any():
        raise ValueError(
            f"{name} must map points of shape {tuple(points.shape)} to finite values of shape {shape}; "
            f"shape {values.shape} was given back"
        )
    return values
