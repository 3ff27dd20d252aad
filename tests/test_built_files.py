"""A light site: which rules of a style sheet stay, what a drawing loses, what leaves a page."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from companion import data
from companion.page import plots
from companion.page.plots.style import STYLE

pytest.importorskip("tinycss2")
from bookkit.site import built_files

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("css", "left"),
    [
        (".a { color: red }", ".a{color: red}"),
        (".b { color: red }", ""),
        ("p, .b, .a:hover > .b {x: y}", "p{x: y}"),
        (".a:not(.b, .c) {x: y}", ".a:not(.b, .c){x: y}"),
        ("#b .a {x: y}", ""),
        ('[data-x=".b"] {x: y}', '[data-x=".b"]{x: y}'),
        ("@media print { .b {x: y} }", ""),
        ("@media print { .b {x: y} .a {x: y} }", "@media print{.a{x: y}}"),
        ("@font-face { src: url(a.woff) }", "@font-face { src: url(a.woff) }"),
        (":root { --x: 1 } /* .a */", ":root{--x: 1}"),
        (r".a\:x {x: y}", ""),
    ],
)
def test_rules_that_can_meet_nothing_go(css: str, left: str) -> None:
    assert built_files.used(css, {"a"}) == left


def test_code_loses_the_marks_that_do_not_color_it() -> None:
    css = """
html[data-theme="light"] .highlight { background: #fff; color: #111 }
html[data-theme="light"] .highlight .n { color: #111 } /* Name */
html[data-theme="light"] .highlight .p { color: #111 }
html[data-theme="light"] .highlight .k { color: #222 }
html[data-theme="light"] .highlight .b { color: #111; font-weight: bold }
html[data-theme="dark"] .highlight { background: #000; color: #eee }
html[data-theme="dark"] .highlight .n { color: #eee } /* Name */
html[data-theme="dark"] .highlight .p { color: #ccc }
html[data-theme="dark"] .highlight .k { color: #eee }
"""
    plain = built_files.plain_tokens(css)
    assert plain == {"n"}
    tokens = "".join(f'<span class="{kind}">&lt;{kind}</span>' for kind in "npkb")
    code = f'<div class="highlight"><pre><span></span>{tokens}\n</pre>'
    left = built_files.CODE.sub(lambda found: built_files.bare(plain, found), f"{tokens}{code}")
    assert left == tokens + code.replace('<span class="n">&lt;n</span>', "&lt;n")


def picture(size: int = 40) -> str:
    file = io.BytesIO()
    Image.effect_noise((size, size), 80).convert("RGB").save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def test_a_drawing_keeps_its_look_and_loses_its_digits() -> None:
    svg = f'<svg>\n <metadata>x</metadata> <path d="M 1.23456 2\nL -0.00012 3.5"/> <image href="{picture()}"/></svg>'
    slim = built_files.slim(svg)
    assert '<path d="M 1.23 2 L -0 3.5"/>' in slim and "metadata" not in slim
    data = slim.partition("base64,")[2].partition('"')[0]
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert (image.format, image.size) == ("WEBP", (40, 40))
    assert len(slim) < len(svg)
    assert built_files.slim(slim) == slim
    assert built_files.slim('<svg><path d="M 1.23 2"/></svg>') == '<svg><path d="M 1.23 2"/></svg>'


def test_parts_of_a_drawing_get_short_names_once() -> None:
    parts = "".join(f'<path id="part-{i}"/>' for i in range(12)) + '<g id="nobody"/>'
    uses = "".join(f'<use href="#part-{i}"/>' for i in reversed(range(12)))
    svg = f'<svg>{parts}{uses}<g clip-path="url(#part-3)"/></svg>'
    slim = built_files.slim(svg)
    assert "nobody" not in slim and slim.count("part") == 0
    order = re.findall(r'<path id="(\w+)"', slim)
    assert re.findall(r'href="#(\w+)"', slim) == order[::-1] and len(set(order)) == 12
    assert f"url(#{order[3]})" in slim
    assert built_files.slim(slim) == slim


def test_frames_leave_the_page(tmp_path: Path) -> None:
    (tmp_path / "book").mkdir()
    (tmp_path / "_images").mkdir()
    first, second = picture(), picture()
    page = tmp_path / "book" / "a.html"
    found = built_files.INSIDE.search(first)
    assert found
    address = built_files.outside(tmp_path / "_images", page.parent, found)
    made = (page.parent / address).resolve()
    assert made.read_bytes() == base64.b64decode(first.partition(",")[2])
    page.write_text(f'<img src="{second}">', "utf8")
    again = built_files.INSIDE.sub(
        lambda m: built_files.outside(tmp_path / "_images", page.parent, m), page.read_text("utf8")
    )
    assert again.startswith('<img src="../_images/frame-') and len(again) < 80


def of(figure: plots.Figure) -> Image.Image:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return Image.open(file)


def test_pictures_with_text_are_found_and_digits_are_none() -> None:
    """Letters on paper are text; tiles of digits and photographs are not, whatever spots they have."""
    digits = data.load("mnist", "test").images[:20]
    assert built_files.has_text(
        of(plots.curves({"train": [3.0, 2.0, 1.0]}, x_label="step", y_label="loss (nats)"))
    )
    assert built_files.has_text(of(plots.image_rows({"digits": digits[:8], "again": digits[8:16]})))
    assert not built_files.has_text(of(plots.image_grid(digits)))
    assert not built_files.has_text(of(plots.image_grid(1 - digits)))
    noise = Image.effect_noise((1008, 400), 80)
    assert not built_files.has_text(noise)


def test_the_smallest_text_of_figures_is_as_large_as_the_page_believes() -> None:
    """In the house style, in what draws figures, and in what the chapters write into theirs."""
    sizes = [size for name, size in STYLE.items() if name.endswith("size") and "font" in name]
    sizes += [size for name, size in STYLE.items() if name.endswith(("labelsize", "titlesize"))]
    files = [*ROOT.glob("notebooks/src/*.py"), *ROOT.glob("companion/page/**/*.py")]
    text = "".join(path.read_text("utf8") for path in files)
    written = [float(size) for size in re.findall(r"\bfontsize=([\d.]+)", text)]
    assert len(sizes) >= 5 and len(written) >= 5
    assert min(*sizes, *written) == built_files.SMALLEST
    assert not re.search(r'fontsize="(?!medium|large)', text)


def test_charts_with_bars_are_charts_and_pictures_are_none() -> None:
    digits = data.load("mnist", "test").images[:20]
    bars = plots.bars({"seven": 3.0, "one": 2.0, "two": 1.0}, value_label="nats")
    assert built_files.is_chart(of(bars))
    assert not built_files.is_chart(of(plots.image_grid(digits)))
    assert not built_files.is_chart(of(plots.image_grid(1 - digits)))
    shades = np.tile(np.linspace(235, 80, 1008, dtype=np.uint8), (300, 1))
    paper = np.full((600, 1008), 255, dtype=np.uint8)
    assert not built_files.is_chart(Image.fromarray(np.concatenate([shades, paper])))
    assert built_files.is_chart(Image.fromarray(np.concatenate([0 * shades + 80, paper])))


def test_a_chart_in_lines_says_its_size_and_how_wide_its_letters_need_it(tmp_path: Path) -> None:
    shown, _ = plots.curves({"a": [1.0, 2.0]}, x_label="x", y_label="y")._repr_mimebundle_()
    drawing = tmp_path / "_images" / f"{'0a' * 20}.svg"
    drawing.parent.mkdir()
    drawing.write_text(built_files.slim(shown["image/svg+xml"]), "utf8")
    (tmp_path / "_images" / "one-bound.svg").write_text("<svg/>")
    page = tmp_path / "a.html"
    page.write_text(f'<img src="_images/{drawing.name}"><img src="_images/one-bound.svg">', "utf8")
    new = built_files.PICTURE.sub(lambda m: built_files.lazy(tmp_path, m), page.read_text("utf8"))
    chart, drawn = re.findall("<img[^>]*>", new)
    # 7 inches are 672 CSS pixels; letters of 8 points in 504 need 567 to have 9 pixels.
    assert 'width="672"' in chart and 'height="327"' in chart
    assert 'data-text="567"' in chart and "data-chart" in chart
    assert drawn == '<img loading="lazy" src="_images/one-bound.svg">'


def test_a_slider_keeps_its_room_until_its_frame_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "_images").mkdir()
    Image.new("L", (40, 30)).save(tmp_path / "_images" / "frame-0.png")
    tag = '<img src="_images/frame-0.png" alt="a &gt; b" width="400" style="">'
    new = built_files.PICTURE.sub(lambda m: built_files.lazy(tmp_path, m), tag)
    assert new == tag.replace("<img ", '<img loading="lazy" height="300" ')
    assert built_files.PICTURE.sub("", new) == new  # a second time it changes nothing


def test_pictures_are_squeezed_without_loss(tmp_path: Path) -> None:
    (tmp_path / "_images").mkdir()
    digits = plots.image_grid(data.load("mnist", "test").images[:20])
    pixels = np.asarray(of(digits).convert("RGB"))
    Image.fromarray(pixels).save(tmp_path / "_images" / "digits.png")
    Image.new("1", (2, 2)).save(tmp_path / "_images" / "tiny.png")
    before = (tmp_path / "_images" / "digits.png").stat().st_size
    for name in ("a", "b"):
        text = '<a href="_images/digits.png"><img src="_images/digits.png"></a>'
        (tmp_path / f"{name}.html").write_text(text, "utf8")
    for _ in range(2):  # a second time it changes nothing
        built_files.squeeze(tmp_path)
        for name in ("a", "b"):
            text = (tmp_path / f"{name}.html").read_text("utf8")
            assert text == '<a href="_images/digits.webp"><img src="_images/digits.webp"></a>'
    assert not (tmp_path / "_images" / "digits.png").exists()
    webp = tmp_path / "_images" / "digits.webp"
    assert webp.stat().st_size < before
    with Image.open(webp) as image:
        assert np.array_equal(np.asarray(image.convert("RGB")), pixels)
    assert built_files.smaller(tmp_path / "_images" / "tiny.png").suffix in (".png", ".webp")


@pytest.mark.parametrize("name", built_files.HUED)
def test_fig_1_has_a_dark_copy_in_which_ink_and_paper_are_exchanged(name: str) -> None:
    light = (ROOT / "book" / "figures" / f"{name}.svg").read_text("utf8")
    colors = set(re.findall(r"(?<=: )#[0-9a-f]{6}", light))
    assert {"#ffffff", "#1f2933", "#005a8e"} <= colors  # the map speaks of this drawing
    dark = set(re.findall(r"(?<=: )#[0-9a-f]{6}", built_files.dark(light)))
    assert not dark & built_files.DARK.keys() and set(built_files.DARK.values()) <= dark
    assert f'img[src$="{name}.svg"]' in (ROOT / "book/assets/custom.css").read_text("utf8")
