"""The house style: every figure carries its data and its labels, refuses bad input, and is shown exactly once."""

import base64

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.collections import PathCollection
from matplotlib.quiver import Quiver
from torch.distributions import Normal

from companion.elbo import ElboTerms
from companion.page import plots
from companion.page.plots.style import LARGEST_DRAWING

NAMED = {"x_label": "x", "y_label": "y"}
IN_PIXELS = {"image_grid", "image_rows", "heatmap", "density2d", "vector_field"}
BOUNDS = (-2.0, 3.0, -1.0, 2.0)


def log_prob(points: torch.Tensor) -> torch.Tensor:
    law = Normal(torch.tensor([0.5, 0.5]), torch.tensor([0.6, 0.4]))
    return law.log_prob(points).sum(1)


def every_figure() -> dict[str, plots.Figure]:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(6, 1, 8, 8, generator=generator)
    points = torch.randn(50, 2, generator=generator)
    terms = ElboTerms(torch.zeros(4), torch.rand(4, 3, generator=generator))
    lines = {"a": [1.0, 2.0], "b": ([3.0, 4.0, 5.0], [1.0, 4.0, 9.0])}
    return {
        "image_grid": plots.image_grid(images, columns=3, titles=list("abcdef")),
        "image_rows": plots.image_rows({"original": images, "noisy": images.flip(0)}),
        "curves": plots.curves(lines, **NAMED),
        "scatter": plots.scatter(points, torch.arange(50) % 3, **NAMED, legend="class"),
        "histogram": plots.histogram(
            {"a": points[:, 0]}, x_label="x", density=lambda x: (-x * x).exp()
        ),
        "bars": plots.bars({"a": 1.0, "b": 2.0}, value_label="y", errors={"a": 0.1}),
        "heatmap": plots.heatmap(torch.eye(3), **NAMED, value_label="value"),
        "density2d": plots.density2d(log_prob, BOUNDS),
        "vector_field": plots.vector_field(lambda x: -x, BOUNDS, log_prob=log_prob, num=5),
        "kl_per_level": plots.kl_per_level(terms),
    }


@pytest.fixture(scope="module")
def figures() -> dict[str, plots.Figure]:
    return every_figure()


def test_every_public_function_is_drawn_here(figures):
    assert set(plots.__all__) - {"Figure", "figure"} == set(figures)


def test_every_figure_renders_with_labelled_axes_inside_the_canvas(figures):
    for name, figure in figures.items():
        shown, metadata = figure._repr_mimebundle_()
        if pictures := shown.keys() == {"image/png"}:
            png = base64.b64decode(shown["image/png"])
            assert png.startswith(b"\x89PNG") and len(png) < 150_000, name
        else:
            (drawing,) = shown.values()
            assert drawing.startswith("<svg") and "<image" not in drawing, name
            assert len(drawing) <= LARGEST_DRAWING and "metadata" not in drawing, name
        assert pictures == (name in IN_PIXELS), name
        (size,) = metadata.values()
        assert metadata.keys() == shown.keys() and size["width"] <= round(7.01 * 96), name
        box, whole = figure.get_tightbbox().transformed(figure.dpi_scale_trans), figure.bbox
        assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= whole.x1 and box.y1 <= whole.y1, name
        axes = figure.axes[0]
        if name not in ("image_grid", "image_rows", "bars"):
            assert axes.get_xlabel() and axes.get_ylabel(), name


def test_style_is_applied_when_drawn_and_leaves_no_trace(figures):
    before = dict(matplotlib.rcParams)
    figure = plots.curves({"a": [1.0, 2.0]}, **NAMED)
    figure._repr_mimebundle_()
    assert dict(matplotlib.rcParams) == before
    # ticks are made while drawing; in matplotlib's own style their labels would have size 10
    assert {tick.label1.get_size() for tick in figure.axes[0].xaxis.get_major_ticks()} == {9.0}


def test_same_input_gives_the_same_file():
    def image() -> plots.Figure:
        return plots.image_grid(torch.eye(8).expand(4, 1, 8, 8), columns=2)

    for draw in (lambda: plots.curves({"a": [1.0, 2.0]}, **NAMED), image):
        a, b = (draw()._repr_mimebundle_() for _ in range(2))
        assert a == b


def test_a_drawing_of_too_many_points_is_pixels():
    few, many = (
        plots.scatter(torch.randn(num, 2), **NAMED)._repr_mimebundle_()[0] for num in (50, 4000)
    )
    assert set(few) == {"image/svg+xml"} and set(many) == {"image/png"}


def test_image_grid_puts_each_picture_in_its_place():
    images = torch.linspace(0, 1, 5)[:, None, None].expand(5, 4, 4)
    canvas = plots.image_grid(images, columns=3).axes[0].images[0].get_array()
    assert canvas.shape == (2 * 4 + 1, 3 * 4 + 2, 3)
    corners = canvas[::5, ::5, 0].flatten()[:5]
    assert np.allclose(corners, images[:, 0, 0])
    assert (canvas[5:, 10:] == 1).all()  # the empty place is white
    color = torch.zeros(2, 3, 4, 4)
    color[:, 2] = 1
    assert plots.image_grid(color).axes[0].images[0].get_array()[0, 0].tolist() == [0, 0, 1]


def test_image_rows_name_the_rows():
    x = torch.zeros(2, 1, 4, 4)
    axes = plots.image_rows({"original": x, "decoded": x + 1}).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["original", "decoded"]
    canvas = axes.images[0].get_array()
    assert (canvas[:4, :4] == 0).all() and (canvas[5:, 5:] == 1).all()


def test_curves_hold_their_data_and_a_legend_only_for_several(figures):
    axes = figures["curves"].axes[0]
    assert [line.get_xdata().tolist() for line in axes.lines] == [[1, 2], [3, 4, 5]]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b"]
    assert len({(line.get_color(), line.get_linestyle()) for line in axes.lines}) == 2
    bands = {"a": ([0.5, 5.0], [2.0, 20.0])}
    alone = plots.curves({"a": [1.0, 10.0]}, **NAMED, log_y=True, bands=bands, marks={"here": 1.5})
    (one,) = alone.axes
    assert one.get_legend() is None and one.get_yscale() == "log"
    assert [text.get_text() for text in one.texts] == ["here"] and len(one.collections) == 1


def test_scatter_shows_every_point_once(figures):
    clouds = [c for c in figures["scatter"].axes[0].collections if isinstance(c, PathCollection)]
    assert sum(len(c.get_offsets()) for c in clouds) == 50 and len(clouds) == 3
    bounded = plots.scatter(torch.zeros(3, 2), **NAMED, bounds=BOUNDS)
    bounded._repr_mimebundle_()
    assert bounded.axes[0].get_xlim() == BOUNDS[:2] and bounded.axes[0].get_ylim() == BOUNDS[2:]


def test_histogram_has_area_one():
    figure = plots.histogram({"a": torch.randn(500), "b": torch.rand(100)}, x_label="x", bins=20)
    for stairs in figure.axes[0].patches:
        heights, edges, _ = stairs.get_data()
        assert np.sum(heights * np.diff(edges)) == pytest.approx(1)


def test_bars_write_their_values():
    for horizontal in (False, True):
        figure = plots.bars({"a": 12.34, "b": 8.0}, value_label="error", horizontal=horizontal)
        (axes,) = figure.axes
        assert [text.get_text() for text in axes.texts] == ["12.3", "8.0"]
        assert (axes.get_xlabel() if horizontal else axes.get_ylabel()) == "error"
    assert plots.bars({"a": 1234.0}, value_label="y").axes[0].texts[0].get_text() == "1,234"


def test_heatmap_is_white_at_zero_only_for_both_signs():
    both, positive = (
        plots.heatmap(values, **NAMED, value_label="v").axes[0].images[0]
        for values in (torch.tensor([[-1.0, 0.5]]), torch.eye(2))
    )
    assert (both.norm.vmin, both.norm.vmax, both.cmap.name) == (-1, 1, "RdBu_r")
    assert positive.cmap.name == "viridis"


def test_vector_field_points_where_the_function_says(figures):
    (arrows,) = [c for c in figures["vector_field"].axes[0].collections if isinstance(c, Quiver)]
    assert np.allclose([arrows.U, arrows.V], [-arrows.X, -arrows.Y], atol=1e-6)


def test_kl_per_level_shows_the_batch_mean():
    kl = torch.tensor([[1.0, 2.0], [3.0, 6.0]])
    axes = plots.kl_per_level(ElboTerms(torch.zeros(2), kl)).axes[0]
    assert [bar.get_height() for bar in axes.patches] == [2, 4]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1", "2"]


def test_gradients_and_other_dtypes_are_fine():
    plots.curves({"a": torch.ones(3, requires_grad=True, dtype=torch.float16)}, **NAMED)
    plots.curves({"a": [torch.tensor(1.0), torch.tensor(2.0)]}, **NAMED)
    assert plots.image_grid(torch.rand(2, 1, 4, 4).bfloat16()).get_axes()  # as under autocast


def test_bad_input_is_named():
    named, ones, image = NAMED, {"a": [1.0]}, torch.zeros(2, 1, 4, 4)
    cases = [
        (lambda: plots.image_grid(image.expand(2, 2, 4, 4)), r"images must .*\(2, 2, 4, 4\)"),
        *(
            (lambda c=c: plots.image_grid(image, columns=c), f"at least 1; {c} was")
            for c in (0, -1)
        ),
        (lambda: plots.image_grid(image - 0.1), r"images must lie in \[0, 1\]; -0.1 to -0.1"),
        (lambda: plots.image_grid(image * float("nan")), r"images must lie in \[0, 1\]"),
        (lambda: plots.image_grid(image, titles=["a"]), "titles must name all 2"),
        (lambda: plots.image_rows({"a": image, "b": image[:1]}), "equally many images; 2, 1"),
        (lambda: plots.image_rows({"a": image, "b": image[..., :2]}), "must all have one size"),
        (lambda: plots.curves({"a": [1.0, float("nan")]}, **named), "a must be finite; 1 of 2"),
        (lambda: plots.curves({"a": ([1.0], [1.0, 2.0])}, **named), "equally long; 1 and 2"),
        (lambda: plots.curves({"a": [0.0]}, log_y=True, **named), "positive values; 'a' holds 0"),
        (lambda: plots.curves(ones, bands={"b": ([0.0], [1.0])}, **named), "bands must name lines"),
        (lambda: plots.scatter(torch.zeros(3, 3), **named), r"points must have shape \(num, 2\)"),
        (lambda: plots.scatter(torch.zeros(3, 2), [1, 2], **named), "each of the 3 points"),
        (lambda: plots.scatter(torch.eye(11)[:, :2], range(11), **named), "at most 10 classes"),
        (lambda: plots.histogram({"a": []}, x_label="x"), "a must have 1 dimension"),
        (lambda: plots.bars({"a": 1.0}, value_label="y", errors={"b": 1.0}), "errors must .* a; b"),
        (
            lambda: plots.heatmap(torch.eye(2), value_label="v", x_ticks=["a"], **named),
            "all 2 columns",
        ),
        (lambda: plots.density2d(log_prob, (1.0, 0.0, 0.0, 1.0)), "bounds must be left < right"),
        (lambda: plots.density2d(lambda x: x, BOUNDS), "log_prob must map points"),
        (lambda: plots.vector_field(log_prob, BOUNDS), "function must map points"),
        (lambda: plots.vector_field(lambda x: x, BOUNDS, num=1), "num must be at least 2; 1"),
        (lambda: plots.image_rows({}), "equally many images; 0"),
        (lambda: plots.image_rows({"a": image}, titles=["b"]), "titles must name all 2 columns"),
        (lambda: plots.figure(columns=0), "columns must be at least 1; 0"),
        (lambda: plots.figure(rows=0), "rows must be at least 1; 0"),
    ]
    for call, says in cases:
        with pytest.raises(ValueError, match=says):
            call()
    with pytest.raises(TypeError, match=r"companion\.page\.plots\.figure"):
        plots.curves(ones, axes=matplotlib.figure.Figure().subplots(), **named)


def test_density2d_names_what_it_shows():
    figure = plots.density2d(
        lambda x: -x.square().sum(1), (-2.0, 2.0, -2.0, 2.0), value_label="exp(bound)"
    )
    texts = {text.get_text() for text in figure.findobj(matplotlib.text.Text)}
    assert "exp(bound)" in texts and "probability density" not in texts
