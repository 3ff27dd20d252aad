"""Two faces of sliders and editors: HTML that stands alone, and a widget that recomputes in a live kernel."""

import base64
import io
import itertools
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from companion.page import plots, sliders
from companion.page.frames import png_of
from companion.page.plots.style import COLORS
from companion.page.sliders import Editor, Film, Slider

TAGS = {*["figure", "img", "div", "label", "span", "input", "output", "style", "script"]}


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


def slider_of(*values: float) -> Slider:
    texts = dict(description="level <&>", label="{:.1f}", alt='gray "{:.1f}"')
    return Slider(values, gray, **texts, start=1)


def test_a_frame_keeps_the_colors_of_its_classes():
    torch.manual_seed(0)
    labels = torch.arange(1600) % 8
    fig = plots.scatter(torch.randn(1600, 2), labels, x_label="", y_label="")
    kept = np.asarray(decode(png_of(fig).uri).convert("RGB")).astype(int)
    for color in COLORS[:8]:
        rgb = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
        assert np.abs(kept - rgb).sum(2).min() <= 24, color


@pytest.fixture
def slider() -> Slider:
    return slider_of(0.0, 0.5, 1.0)


def test_static_face_is_accessible_and_shows_the_start(slider):
    page = Page(slider.html())
    (image,), (control,), (output,) = (page.elements[tag] for tag in ("img", "input", "output"))
    assert image["alt"] == 'gray "0.5"'
    assert decode(image["src"]).convert("L").getpixel((0, 0)) == 128
    kind = [control[name] for name in ("type", "min", "max", "value")]
    assert kind == ["range", "0", "2", "1"]
    assert control["aria-label"] == page.elements["span"][0]["text"] == "level <&>"
    assert control["aria-valuetext"] == output["text"] == "0.5"
    assert output["aria-live"] == "polite"
    assert page.elements["figure"][0]["class"] == "companion-slider"


def test_script_holds_every_frame_once_and_loads_nothing(slider):
    text = slider.html()
    data = script_data(Page(text))
    assert data["labels"] == [["0.0", "0.5", "1.0"]] and data["alts"][2] == 'gray "1.0"'
    frames = data["frames"]
    assert frames[1] is None and data["start"] == 1  # it is in the image already
    assert [decode(frames[i]).convert("L").getpixel((3, 3)) for i in (0, 2)] == [0, 255]
    assert "http" not in text and "<script>" in text


def test_text_cannot_break_out_of_the_page():
    labels, alts = ["</script>", "b"], ['"><b>', "x"]
    slider = Slider([0, 1], gray, description="<i>", label=labels.__getitem__, alt=alts.__getitem__)
    page = Page(slider.html())
    assert set(page.elements) == TAGS
    assert page.elements["img"][0]["alt"] == '"><b>'


def test_id_is_stable_and_differs_with_the_content(slider):
    made = (slider, slider_of(0.0, 0.5, 1.0), slider_of(0.0, 0.5, 0.9))
    ids = [Page(s.html()).elements["figure"][0]["id"] for s in made]
    assert ids[0] == ids[1] != ids[2]
    assert re.fullmatch(r"companion-slider-[0-9a-f]{12}", ids[0])
    assert repr(slider) == "Slider(level <&>: 3 frames)"


def test_frames_of_every_kind():
    picture = Image.fromarray(np.full((8, 6), 128, np.uint8))
    color = np.zeros((8, 6, 3))
    color[..., 0] = 1
    frames = [gray(0.5), picture, torch.full((8, 6), 0.5, requires_grad=True)]
    frames += [gray(0.5).astype(np.float32), color, (gray(1) * 128).astype(np.uint8)]
    slider = Slider(range(6), frames.__getitem__, description="kind", alt="{}")
    pixels = [decode(slider.frames[i].uri).convert("RGB").getpixel((2, 2)) for i in range(6)]
    assert pixels == [(128,) * 3] * 4 + [(255, 0, 0), (128,) * 3]


def test_figures_keep_their_size_and_become_small():
    def draw(slope: float) -> plots.Figure:
        return plots.curves({"line": [0.0, slope]}, x_label="x", y_label="y")

    slider = Slider([1.0, 2.0], draw, description="slope", alt="a line of slope {}")
    figure = draw(1.0)
    plain = io.BytesIO()
    figure.savefig(plain, format="png")
    picture, width = slider.frames[0], figure.get_figwidth()
    assert picture.size == Image.open(plain).size == (round(width * figure.dpi), 490)
    assert picture.width == round(width * 96)
    assert len(picture.data) < 0.6 * len(plain.getvalue())
    small, whole = (
        np.asarray(Image.open(file).convert("L"), float)
        for file in (io.BytesIO(picture.data), plain)
    )
    assert np.abs(small - whole).mean() < 1  # of 255 levels


def test_tiny_pictures_are_magnified_by_whole_factors():
    digits = Slider("ab", lambda _: np.zeros((28, 28)), description="digit", alt="{}", label="{}")
    picture = digits.frames[0]
    assert picture.width == 224 and "pixelated" in picture.tag("a digit")


@pytest.mark.parametrize(
    ("frame", "error", "says"),
    [
        (np.zeros((8, 7)), ValueError, r"\(6, 8\) and \(7, 8\)"),
        (gray(1.5), ValueError, r"\[0, 1\]; 1.5 to 1.5"),
        (gray(float("nan")), ValueError, r"\[0, 1\]; nan"),
        (np.zeros((8, 6, 4)), TypeError, r"shape \(8, 6, 4\)"),
        (np.zeros(8), TypeError, r"shape \(8,\)"),
        (b"GIF", TypeError, "bytes"),
        ("x.png", TypeError, "str"),
        (np.zeros((8, 6), int), TypeError, "uint8"),
    ],
)
def test_a_bad_frame_is_named(frame, error, says):
    with pytest.raises(error, match=says):
        Slider([0, 1], [gray(0), frame].__getitem__, description="d", alt="{}")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (dict(values=[0]), "at least 2 values; 1 d was"),
        (dict(values=[]), "at least 2 values; 0 d was"),
        (dict(alt=" "), "must hold text"),
        (dict(label=""), "must hold text"),
        (dict(description=""), "must hold text"),
        (dict(start=2), r"below 2 d; \[2\] was"),
        (dict(start=-1), r"below 2 d; \[-1\] was"),
    ],
)
def test_bad_input_of_a_slider_is_named(arguments, says):
    with pytest.raises(ValueError, match=says):
        Slider(**{**dict(values=[0, 1], render=gray, description="d", alt="{}"), **arguments})


def test_without_a_kernel_there_is_no_widget(slider):
    assert set(slider._repr_mimebundle_()) == {"text/plain", "text/html"}


def test_a_film_is_a_slider_with_a_button_and_small_frames():
    noise = np.random.default_rng(0).random((40, 60))
    film, slider = (
        kind(range(3), lambda i: noise ** (i + 1), description="t", alt="noise {}")
        for kind in (Film, Slider)
    )
    page, still = Page(film.html()), Page(slider.html())
    (button,) = page.elements["button"]
    assert button["text"].strip() == "Play" and button["type"] == "button"
    assert "button" not in still.elements
    assert len(film.frames[0].data) < 0.75 * len(slider.frames[0].data)
    assert len(decode(film.frames[0].uri).getcolors()) <= 16
    assert (film.frames[0].width, slider.frames[0].width) == (8 * 60, 4 * 60)
    shown, play, control = film.widget().children
    assert (play.max, play.value) == (2, 0)
    control.index = 2
    assert shown.value == film.frames[2].tag("noise 2")


# ------------------------------------------------------------------------------------------------ editors


def shade(dim: float, red: float) -> np.ndarray:
    """Pixels of 4 x 6 whose color says where they are from."""
    return np.full((4, 6, 3), [red, dim, 0.25])


def script_data(page: Page) -> dict:
    (script,) = page.elements["script"]
    assert set(script) == {"text"}  # no src
    name = page.elements["figure"][0]["id"]
    return json.loads(script["text"].partition(f'}})("{name}", ')[2].removesuffix(");\n"))


def tiles(editor: Editor) -> list[np.ndarray]:
    """The frames as the page holds them, by the geometry that its script reads."""
    data = script_data(Page(editor.html()))
    sheet, columns = np.asarray(decode(data["sheet"]).convert("RGB")), data["columns"]
    width, height = data["size"]
    found = []
    for i in range(len(data["alts"])):
        top = i // columns * (height + 2) + 1
        left = i % columns * (width + 2) + 1
        found.append(sheet[top : top + height, left : left + width])
    return found


@pytest.fixture
def editor() -> Editor:
    axes = {"dim <&>": torch.linspace(0, 1, 3), "red": [0.0, 0.2, 0.6, 1.0]}
    alt = 'dim "{:.1f}", red {:.0%}'
    return Editor(axes, shade, alt=alt, label={"dim <&>": "{:.1f}", "red": "{:.0%}"})


def test_an_editor_has_a_named_slider_per_axis_and_shows_the_start(editor):
    page = Page(editor.html())
    assert page.elements["figure"][0]["class"] == "companion-editor"
    (image,) = page.elements["img"]
    assert image["alt"] == 'dim "0.5", red 60%'
    start = decode(image["src"]).convert("RGB")
    assert start.size == (6, 4) and start.getpixel((2, 2)) == (153, 128, 64)
    controls, outputs = page.elements["input"], page.elements["output"]
    assert [c["type"] for c in controls] == ["range", "range"]
    ranges = [(c["min"], c["max"], c["value"]) for c in controls]
    assert ranges == [("0", "2", "1"), ("0", "3", "2")]
    names = [span["text"] for span in page.elements["span"]]
    assert names == [c["aria-label"] for c in controls] == ["dim <&>", "red"]
    texts = [output["text"] for output in outputs]
    assert texts == [c["aria-valuetext"] for c in controls] == ["0.5", "60%"]
    assert {output["aria-live"] for output in outputs} == {"polite"}


def test_an_editors_script_holds_the_texts_and_one_sheet_and_loads_nothing(editor):
    text = editor.html()
    data = script_data(Page(text))
    alts = data["alts"]
    assert data["labels"] == [["0.0", "0.5", "1.0"], ["0%", "20%", "60%", "100%"]]
    assert len(alts) == 12 and alts[1] == 'dim "0.0", red 20%' and alts[-1] == 'dim "1.0", red 100%'
    assert (data["columns"], data["size"], data["start"]) == (4, [6, 4], 6)
    # With a border of one pixel around each tile.
    assert decode(data["sheet"]).size == (4 * 8, 3 * 6)
    assert "http" not in text and text.count("data:image/png") == 2


def test_every_tile_is_its_frame(editor):
    points = itertools.product([0, 0.5, 1], [0, 0.2, 0.6, 1])
    frames = [np.round(shade(*point) * 255) for point in points]
    assert np.array_equal(tiles(editor), frames)  # few colors are kept as they are
    assert np.array_equal(decode(editor.frames[7].uri).convert("RGB"), frames[7])


def test_a_border_repeats_the_edge_of_its_tile():
    frames = np.arange(6 * 6, dtype=np.uint8).reshape(2, 3, 2, 3)
    editor = Editor({"a": range(2), "b": range(3)}, lambda a, b: frames[a, b], alt="{}{}")
    frames = frames.reshape(6, 2, 3)
    sheet = np.asarray(Image.open(io.BytesIO(editor.frames.file.data)).convert("L"))
    assert np.array_equal(sheet[4:, 5:10], np.pad(frames[4], 1, mode="edge"))
    assert np.array_equal(np.array(tiles(editor))[..., 0], frames)


def test_many_colors_share_a_palette_and_a_grid_of_343_small_pictures_is_small():
    y, x = np.mgrid[0:32, 0:32] / 31

    def draw(turn: float, light: float, hue: float) -> np.ndarray:
        waves = [np.sin(6 * (x * np.cos(turn) + y * np.sin(turn)) + hue + k) for k in range(3)]
        return (0.5 + 0.5 * np.stack(waves, -1)) * light

    axes = dict.fromkeys(("turn", "light", "hue"), torch.linspace(0.2, 1, 7))
    editor = Editor(axes, draw, alt="waves: turn {:.1f}, light {:.1f}, hue {:.1f}")
    assert len(editor.html()) < 500_000
    sheet = Image.open(io.BytesIO(editor.frames.file.data))
    assert sheet.mode == "P" and len(sheet.getcolors()) <= 256
    grid = itertools.product(torch.linspace(0.2, 1, 7).tolist(), repeat=3)
    for tile, point in zip(tiles(editor), grid):
        assert np.abs(tile - 255 * draw(*point)).mean() < 6  # of 255 levels


def test_gray_frames_keep_all_their_levels():
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    frames = [levels // k for k in (1, 2, 3, 4)]
    editor = Editor({"a": [1, 3], "b": [0, 1]}, lambda a, b: levels // (a + b), alt="{}{}")
    assert np.array_equal(np.array(tiles(editor))[..., 1], frames)


def test_text_cannot_break_out_of_an_editor():
    names = {"<i>": ["</script>", "b"], '"': ["<!--", "&amp;"]}
    editor = Editor(names, lambda *_: gray(0.5), alt=lambda *_: '"><b>', label=str, start=[0, 0])
    page = Page(editor.html())
    assert set(page.elements) == TAGS
    assert page.elements["img"][0]["alt"] == '"><b>'
    assert [c["aria-label"] for c in page.elements["input"]] == ["<i>", '"']
    assert [o["text"] for o in page.elements["output"]] == ["</script>", "<!--"]
    assert script_data(page)["labels"] == list(names.values())


def test_an_editors_id_is_stable_and_differs_with_the_content(editor):
    def ident(editor: Editor) -> str:
        return Page(editor.html()).elements["figure"][0]["id"]

    def small(axes=("a", "b"), scale=3, alt="{}{}", start=None) -> Editor:
        values = {name: [0, 1] for name in axes}
        return Editor(values, lambda a, b: gray((2 * a + b) / scale), alt=alt, start=start)

    assert re.fullmatch(r"companion-editor-[0-9a-f]{12}", ident(editor))
    assert ident(small()) == ident(small())
    others = [small("ac"), small(scale=4), small(alt="{} {}"), small(start=[0, 0])]
    assert len({ident(other) for other in (editor, small(), *others)}) == 6
    assert repr(editor) == "Editor(dim <&>, red: 3 x 4 frames)"


def test_an_editor_magnifies_tiny_pictures_and_keeps_the_size_of_figures():
    def draw(slope: float, level: float) -> plots.Figure:
        return plots.curves({"line": [level, slope]}, x_label="x", y_label="y")

    tiny = Editor({"a": [0, 1], "b": [0, 1]}, lambda a, b: np.zeros((32, 32, 3)), alt="{}{}")
    assert tiny.frames[0].width == 224 and "pixelated" in tiny.frames[0].tag("a")
    assert "width:224px;max-width:100%;aspect-ratio:32/32" in tiny.html()
    lines = Editor({"slope": [1, 2], "level": [0, 1]}, draw, alt="from {1} to {0}")
    figure = draw(1, 0)
    assert lines.frames[0].width == round(figure.get_figwidth() * 96)
    assert "pixelated" not in lines.frames[0].tag("a")
    assert lines.alts == ["from 0 to 1", "from 1 to 1", "from 0 to 2", "from 1 to 2"]


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        (dict(axes=dict.fromkeys("abcde", "01")), ValueError, "1 to 4 axes .*; 2 a, 2 b, "),
        (dict(axes={}), ValueError, "1 to 4 axes .*; none was"),
        (dict(axes={"a": [0, 1], "b": [2]}), ValueError, "at least 2 values; 2 a, 1 b was"),
        (dict(axes={"a": [0, 1], "": [2, 3]}), ValueError, "must hold text"),
        (dict(label={"a": "{}", "b": " "}), ValueError, "must hold text"),
        (dict(label={"a": "{}"}), ValueError, "label must hold one for each of a, b; a was"),
        (dict(alt=" "), ValueError, "must hold text"),
        (dict(start=[0, 2]), ValueError, r"below 2 a, 2 b; \[0, 2\]"),
        (dict(start=[-1, 0]), ValueError, r"\[-1, 0\]"),
        (dict(start=[0]), ValueError, r"per axis, .*; \[0\] was"),
        (dict(render=lambda a, b: np.zeros((8, 6 + a))), ValueError, r"one size; \(6, 8\)"),
        (dict(render=lambda a, b: np.zeros((2048, 2048))), ValueError, "4 of 2048 x 2048"),
        (dict(render=lambda a, b: "x.png"), TypeError, "str"),
    ],
)
def test_bad_input_of_an_editor_is_named(arguments, error, says):
    good = dict(axes={"a": [0, 1], "b": [2, 3]}, render=lambda a, b: gray(a), alt="{}{}")
    with pytest.raises(error, match=says):
        Editor(**{**good, **arguments})


def test_an_editor_draws_nothing_before_its_other_arguments_are_checked():
    def render(*values: float) -> np.ndarray:
        raise AssertionError("drawn")

    axes = {"a": [0, 1], "b": [2, 3]}
    with pytest.raises(ValueError, match="label must hold one for each of a, b; a was"):
        Editor(axes, render, alt="{}{}", label={"a": "{}"})
    with pytest.raises(ValueError, match="start"):
        Editor(axes, render, alt="{}{}", start=[2, 0])


def test_texts_of_an_editor_may_come_from_functions():
    def alt(a: int, b: str) -> str:
        return f"{a} and {b}"

    editor = Editor({"a": [0, 1], "b": "xy"}, lambda a, b: gray(a), alt=alt, label=str)
    assert editor.labels == {"a": ["0", "1"], "b": ["x", "y"]}
    assert editor.alts == ["0 and x", "0 and y", "1 and x", "1 and y"]
    assert editor.start == [1, 1]


def test_an_editors_widget_calls_render_with_the_values_of_all_axes(editor):
    calls = []

    def render(*values: float) -> np.ndarray:
        calls.append(values)
        return shade(*values) * brightness

    brightness = 1.0
    axes = {"dim": [0.0, 0.5, 1.0], "red": [0.0, 1.0]}
    live = Editor(axes, render, alt="dim {}, red {}", start=[0, 0])
    picture, dim, red = live.widget().children
    assert live.widget() is live.widget() and len(calls) == 6
    assert 'alt="dim 0.0, red 0.0"' in picture.value and not dim.continuous_update
    brightness = 0.5
    dim.index = 2
    red.index = 1
    assert calls[6:] == [(1.0, 0.0), (1.0, 1.0)]
    assert 'alt="dim 1.0, red 1.0"' in picture.value
    drawn = decode(re.search('src="([^"]*)"', picture.value)[1]).convert("RGB")
    assert drawn.getpixel((0, 0)) == (128, 128, 32)  # the kernel's state, not the frame


def test_an_editor_has_a_widget_in_a_live_kernel_alone(editor, monkeypatch):
    assert set(editor._repr_mimebundle_()) == {"text/plain", "text/html"}
    monkeypatch.setattr(sliders, "_in_live_kernel", lambda: True)
    bundle = editor._repr_mimebundle_()
    assert bundle["text/html"] == editor.html() and bundle["text/plain"] == repr(editor)
    view = bundle["application/vnd.jupyter.widget-view+json"]
    assert view["model_id"] == editor.widget().model_id
