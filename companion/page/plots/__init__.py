"""The house style: every figure of the book is drawn here, and every function returns a figure that a cell shows once.

    curves({"train": losses, "test": (steps, test_losses)}, x_label="step", y_label="loss (nats)")

For several panels, make the figure first and hand each function its axes; the last call returns the whole figure:

    panels, (left, right) = figure(columns=2)
    image_grid(x, axes=left)
    histogram({"test": errors}, x_label="squared error", axes=right)

No figure is known to pyplot, so nothing is shown twice, nothing has to be closed, and no global setting changes.

Every function takes `axes`, where to draw, by default those of a new figure. `x_label`, `y_label` and `value_label` say
what is drawn, with its unit; `bounds` are left, right, bottom and top of a part of the plane; `marks` are named places
on the x axis, drawn as thin vertical lines.
"""

from companion.page.plots.charts import bars, curves, heatmap, histogram, kl_per_level
from companion.page.plots.images import image_grid, image_rows
from companion.page.plots.planes import density2d, scatter, vector_field
from companion.page.plots.style import Figure, figure

__all__ = [
    "Figure",
    "bars",
    "curves",
    "density2d",
    "figure",
    "heatmap",
    "histogram",
    "image_grid",
    "image_rows",
    "kl_per_level",
    "scatter",
    "vector_field",
]
