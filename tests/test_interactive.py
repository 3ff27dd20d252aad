"""The slider's two faces: HTML that stands alone, and a widget that recomputes in a live kernel."""

import base64
import io
import json
import re
from html.parser import HTMLParser

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

from companion import plots
from companion.interactive import Slider


class Page(HTMLParser):
    """Elements by tag, with attributes and direct text; complains about tags that do not close."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: dict[str, list[dict[str, str]]] = {}
        self.open: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.setdefault(tag, []).append({**dict(attrs), "text": ""})
        if tag not in ("img", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.elements[self.open[-1]][-1]["text"] += data


def gray(level: float) -> np.ndarray:
    return np.full((8, 6), float(level))


def decode(uri: str) -> Image.Image:
    kind, _, data = uri.partition(",")
    assert kind == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


@pytest.fixture
def slider() -> Slider:
    return Slider.over([0.0, 0.5, 1.0], gray, description="level <&>", label="{:.1f}", alt='gray "{:.1f}"', start=1)


def test_static_face_is_accessible_and_shows_the_start(slider):
    page = Page(slider.html())
    (image,), (control,), (output,) = (page.elements[tag] for tag in ("img", "input", "output"))
    assert image["alt"] == 'gray "0.5"'
    assert decode(image["src"]).convert("L").getpixel((0, 0)) == 128
    assert (control["type"], control["min"], control["max"], control["value"]) == ("range", "0", "2", "1")
    assert control["aria-label"] == page.elements["span"][0]["text"] == "level <&>"
    assert control["aria-valuetext"] == output["text"] == "0.5"
    assert output["aria-live"] == "polite"
    assert page.elements["figure"][0]["class"] == "companion-slider"


def test_script_holds_every_frame_once_and_loads_nothing(slider):
    text = slider.html()
    (script,) = Page(text).elements["script"]
    assert set(script) == {"text"}  # no src
    labels, alts, sources = json.loads(re.search(r"data = (.*), labels = data", script["text"]).group(1))
    assert labels == ["0.0", "0.5", "1.0"] and alts[2] == 'gray "1.0"'
    assert sources[1] is None  # it is in the image already
    assert [decode(sources[i]).convert("L").getpixel((3, 3)) for i in (0, 2)] == [0, 255]
    assert "http" not in text and "<script>" in text


def test_text_cannot_break_out_of_the_page():
    slider = Slider([gray(0), gray(1)], ["</script>", "b"], ['"><b>', "x"], "<i>")
    page = Page(slider.html())
    assert set(page.elements) == {"figure", "img", "div", "label", "span", "input", "output", "style", "script"}
    assert page.elements["img"][0]["alt"] == '"><b>'


def test_id_is_stable_and_differs_with_the_content(slider):
    again = Slider.over([0.0, 0.5, 1.0], gray, description="level <&>", label="{:.1f}", alt='gray "{:.1f}"', start=1)
    other = Slider.over([0.0, 0.5, 0.9], gray, description="level <&>", label="{:.1f}", alt='gray "{:.1f}"', start=1)
    ids = [Page(s.html()).elements["figure"][0]["id"] for s in (slider, again, other)]
    assert ids[0] == ids[1] != ids[2]
    assert re.fullmatch(r"companion-slider-[0-9a-f]{12}", ids[0])
    assert repr(slider) == "Slider(level <&>: 3 frames, 0.0 to 1.0)"


def test_frames_of_every_kind():
    picture = Image.fromarray(np.full((8, 6), 128, np.uint8))
    file = io.BytesIO()
    picture.save(file, "PNG")
    color = np.zeros((8, 6, 3))
    color[..., 0] = 1
    frames = [
        gray(0.5),
        picture,
        file.getvalue(),
        gray(0.5).astype(np.float32),
        color,
        (gray(1) * 128).astype(np.uint8),
    ]
    slider = Slider(frames, list("abcdef"), list("abcdef"), "kind")
    pixels = [Image.open(io.BytesIO(p.png)).convert("RGB").getpixel((2, 2)) for p in slider.pictures]
    assert pixels == [(128,) * 3] * 4 + [(255, 0, 0), (128,) * 3]


def test_figures_keep_their_size_and_become_small():
    def draw(slope: float) -> plots.Figure:
        return plots.curves({"line": [0.0, slope]}, x_label="x", y_label="y")

    slider = Slider.over([1.0, 2.0], draw, description="slope", alt="a line of slope {}")
    figure = draw(1.0)
    plain = io.BytesIO()
    figure.savefig(plain, format="png")
    picture = slider.pictures[0]
    assert picture.size == Image.open(plain).size == (round(figure.get_figwidth() * figure.dpi), 490)
    assert picture.width == round(figure.get_figwidth() * 96)
    assert len(picture.png) < 0.6 * len(plain.getvalue())
    difference = np.asarray(Image.open(io.BytesIO(picture.png)).convert("L"), float) - np.asarray(
        Image.open(plain).convert("L"), float
    )
    assert np.abs(difference).mean() < 1  # of 255 levels


def test_tiny_pictures_are_magnified_by_whole_factors():
    picture = Slider([np.zeros((28, 28))] * 2, "ab", "ab", "digit").pictures[0]
    assert picture.width == 224 and "pixelated" in picture.style


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (dict(frames=[gray(0)], labels=["a"], alts=["a"]), ValueError, "at least 2"),
        (dict(labels=["a"]), ValueError, "2 frames, 1 labels, 2 alts"),
        (dict(alts=["a", " "]), ValueError, "must hold text"),
        (dict(description=""), ValueError, "must hold text"),
        (dict(start=2), ValueError, "from 0 to 1; 2"),
        (dict(render=gray), ValueError, "belong together"),
        (dict(frames=[gray(0), np.zeros((8, 7))]), ValueError, r"\(6, 8\) and \(7, 8\)"),
        (dict(frames=[gray(0), gray(1.5)]), ValueError, r"\[0, 1\]; 1.5 to 1.5"),
        (dict(frames=[gray(0), np.zeros((8, 6, 4))]), TypeError, r"shape \(8, 6, 4\)"),
        (dict(frames=[gray(0), b"GIF"]), TypeError, "PNG"),
        (dict(frames=[gray(0), "x.png"]), TypeError, "str"),
        (dict(frames=[gray(0), np.zeros((8, 6), int)]), TypeError, "uint8"),
    ],
)
def test_bad_input_is_named(arguments, error, says):
    good = dict(frames=[gray(0), gray(1)], labels=["a", "b"], alts=["a", "b"], description="d")
    with pytest.raises(error, match=says):
        Slider(**{**good, **arguments})


def test_without_a_kernel_there_is_no_widget(slider):
    assert set(slider._repr_mimebundle_()) == {"text/plain", "text/html"}


def test_live_kernel_gets_a_widget_that_calls_render():
    notebook = nbformat.v4.new_notebook()
    cells = [
        "import numpy as np\n"
        "from companion.interactive import Slider\n"
        "brightness = 1.0\n"
        "calls = []\n"
        "def render(value):\n"
        "    calls.append(value)\n"
        "    return np.full((4, 4), value * brightness)\n"
        "s = Slider.over([0.0, 0.5, 1.0], render, description='level', alt='gray {}')\n"
        "s",
        "picture, control = s.widget().children\n"
        "before, n = picture.value, len(calls)\n"
        "brightness = 0.2\n"
        "control.index = 2\n"
        "assert len(calls) == n + 1 and calls[-1] == 1.0\n"
        "assert picture.value != before and 'alt=\"gray 1.0\"' in picture.value\n"
        "drawn_anew = picture.value\n"
        "assert s.pictures[2].uri not in drawn_anew  # the state of the kernel counts, not the frame\n"
        "flip = Slider([np.zeros((4, 4)), np.ones((4, 4))], ['a', 'b'], ['black', 'white'], 'flip')\n"
        "flip.widget().children[1].index = 1\n"
        "assert flip.pictures[1].uri in flip.widget().children[0].value\n"
        "control.keys is not None and control.description",
    ]
    notebook.cells = [nbformat.v4.new_code_cell(cell) for cell in cells]
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    (output,) = notebook.cells[0].outputs
    assert set(output.data) == {"text/plain", "text/html", "application/vnd.jupyter.widget-view+json"}
    assert output.data["text/plain"] == "Slider(level: 3 frames, 0 to 1)"
    model = output.data["application/vnd.jupyter.widget-view+json"]["model_id"]
    assert model in notebook.metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
