"""What a chapter does in a kernel: figures, sliders, code and bars, in the cells of one notebook."""

import nbformat
import pytest

from bookkit.authoring.kernels import execute

CURVES = "curves({'a': [1.0, 2.0]}, x_label='x', y_label='y')"
TWO = (
    "panels, (left, right) = figure(columns=2)\n"
    "_ = bars({'a': 1.0}, value_label='y', axes=left)\n"
    "bars({'b': 2.0}, value_label='y', axes=right)"
)
SLIDER = """import numpy as np
from companion.page.sliders import Slider
brightness = 1.0
calls = []
def render(value):
    calls.append(value)
    return np.full((4, 4), value * brightness)
s = Slider([0.0, 0.5, 1.0], render, description='level', alt='gray {}')
s"""
MOVED = """picture, control = s.widget().children
before, n = picture.value, len(calls)
brightness = 0.2
control.index = 2
assert len(calls) == n + 1 and calls[-1] == 1.0
assert picture.value != before and 'alt="gray 1.0"' in picture.value
drawn_anew = picture.value
assert s.frames[2].uri not in drawn_anew  # the state of the kernel counts, not the frame
control.keys is not None and control.description"""
TRAINING = """import torch
from companion.training import fit
model = torch.nn.Linear(1, 1)
loss = lambda model, x: model(x).square().sum(1)
sgd = torch.optim.SGD(model.parameters())
steps = list(fit(model, loss, [torch.ones(2, 1)] * 3, sgd, progress="silent"))
print(len(steps))"""
FIGURES = [
    *("from companion.page.plots import *", CURVES, TWO),
    "import sys\nassert 'matplotlib.pyplot' not in sys.modules",
    *("import matplotlib.pyplot as plt", CURVES, TWO, f"_ = {CURVES}"),
]
CELLS = [*FIGURES, "from companion.page.show import show\nshow(show)", TRAINING, SLIDER, MOVED]


@pytest.fixture(scope="module")
def notebook():
    """The notebook of these cells, executed."""
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in CELLS])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TQDM_DISABLE", "1")  # which tqdm's own bar of notebooks ignores
        return execute(made)


def outputs(notebook, code):
    return [cell.outputs for cell in notebook.cells if cell.source == code]


def test_a_figure_is_shown_once_with_and_without_pyplot(notebook):
    shown = [cell.outputs for cell in notebook.cells[: len(FIGURES)]]
    assert [len(each) for each in shown] == [0, 1, 1, 0, 0, 1, 1, 0]
    for code, axes in ((CURVES, "1 Axes"), (TWO, "2 Axes")):
        for (output,) in outputs(notebook, code):
            assert output.output_type == "execute_result"
            assert output.data["text/plain"] == f"<Figure size 1008x490 with {axes}>"
            assert output.data["image/svg+xml"].startswith("<svg")
    assert set(shown[1][0].data) == {"text/plain", "image/svg+xml"}


def test_shown_code_is_markdown_and_plain_text(notebook):
    (output,) = notebook.cells[len(FIGURES)].outputs
    assert output.output_type == "display_data"
    plain = output.data["text/plain"]
    assert plain.startswith("# companion/page/show.py\ndef show(")
    assert output.data["text/markdown"] == f"```python\n{plain}\n```"
    assert output.metadata == {"companion": {"shows": "companion.page.show.show"}}


def test_a_stored_notebook_holds_no_bar(notebook):
    ((output,),) = outputs(notebook, TRAINING)
    assert (output.output_type, output.text) == ("stream", "3\n"), output


def test_a_slider_is_a_widget_that_calls_render(notebook):
    ((output,),) = outputs(notebook, SLIDER)
    view = "application/vnd.jupyter.widget-view+json"
    assert set(output.data) == {"text/plain", "text/html", view}
    assert output.data["text/plain"] == "Slider(level: 3 frames)"
    states = notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
    assert output.data[view]["model_id"] in states
