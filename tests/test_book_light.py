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
from tools import book_light

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
    assert book_light.used(css, {"a"}) == left


def picture(size: int = 40) -> str:
    file = io.BytesIO()
    Image.effect_noise((size, size), 80).convert("RGB").save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def test_a_drawing_keeps_its_look_and_loses_its_digits() -> None:
    svg = f'<svg>\n <metadata>x</metadata> <path d="M 1.23456 2\nL -0.00012 3.5"/> <image href="{picture()}"/></svg>'
    slim = book_light.slim(svg)
    assert '<path d="M 1.23 2 L -0 3.5"/>' in slim and "metadata" not in slim
    data = slim.partition("base64,")[2].partition('"')[0]
    with Image.open(io.BytesIO(base64.b64decode(data))) as image:
        assert (image.format, image.size) == ("WEBP", (40, 40))
    assert len(slim) < len(svg)
    assert book_light.slim(slim) == slim
    assert book_light.slim('<svg><path d="M 1.23 2"/></svg>') == '<svg><path d="M 1.23 2"/></svg>'


def test_parts_of_a_drawing_get_short_names_once() -> None:
    parts = "".join(f'<path id="part-{i}"/>' for i in range(12)) + '<g id="nobody"/>'
    uses = "".join(f'<use href="#part-{i}"/>' for i in reversed(range(12)))
    svg = f'<svg>{parts}{uses}<g clip-path="url(#part-3)"/></svg>'
    slim = book_light.slim(svg)
    assert "nobody" not in slim and slim.count("part") == 0
    order = re.findall(r'<path id="(\w+)"', slim)
    assert re.findall(r'href="#(\w+)"', slim) == order[::-1] and len(set(order)) == 12
    assert f"url(#{order[3]})" in slim
    assert book_light.slim(slim) == slim


def test_frames_leave_the_page(tmp_path: Path) -> None:
    (tmp_path / "book").mkdir()
    (tmp_path / "_images").mkdir()
    first, second = picture(), picture()
    page = tmp_path / "book" / "a.html"
    found = book_light.INSIDE.search(first)
    assert found
    address = book_light.outside(tmp_path / "_images", page.parent, found)
    made = (page.parent / address).resolve()
    assert made.read_bytes() == base64.b64decode(first.partition(",")[2])
    page.write_text(f'<img src="{second}">', "utf8")
    again = book_light.INSIDE.sub(
        lambda m: book_light.outside(tmp_path / "_images", page.parent, m), page.read_text("utf8")
    )
    assert again.startswith('<img src="../_images/frame-') and len(again) < 80


def of(figure: plots.Figure) -> Image.Image:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return Image.open(file)


def test_pictures_with_text_are_found_and_digits_are_none() -> None:
    """Letters on paper are text; tiles of digits and photographs are not, whatever spots they have."""
    digits = data.load("mnist", "test").images[:20]
    assert book_light.has_text(
        of(plots.curves({"train": [3.0, 2.0, 1.0]}, x_label="step", y_label="loss (nats)"))
    )
    assert book_light.has_text(of(plots.image_rows({"digits": digits[:8], "again": digits[8:16]})))
    assert not book_light.has_text(of(plots.image_grid(digits)))
    assert not book_light.has_text(of(plots.image_grid(1 - digits)))
    noise = Image.effect_noise((1008, 400), 80)
    assert not book_light.has_text(noise)


def test_the_smallest_text_of_figures_is_as_large_as_the_page_believes() -> None:
    """In the house style, in what draws figures, and in what the chapters write into theirs."""
    sizes = [size for name, size in STYLE.items() if name.endswith("size") and "font" in name]
    sizes += [size for name, size in STYLE.items() if name.endswith(("labelsize", "titlesize"))]
    files = [*ROOT.glob("notebooks/src/*.py"), *ROOT.glob("companion/page/**/*.py")]
    text = "".join(path.read_text("utf8") for path in files)
    written = [float(size) for size in re.findall(r"\bfontsize=([\d.]+)", text)]
    assert len(sizes) >= 5 and len(written) >= 5
    assert min(*sizes, *written) == book_light.SMALLEST
    assert not re.search(r'fontsize="(?!medium|large)', text)


def test_charts_with_bars_are_charts_and_pictures_are_none() -> None:
    digits = data.load("mnist", "test").images[:20]
    bars = plots.bars({"seven": 3.0, "one": 2.0, "two": 1.0}, value_label="nats")
    assert book_light.is_chart(of(bars))
    assert not book_light.is_chart(of(plots.image_grid(digits)))
    assert not book_light.is_chart(of(plots.image_grid(1 - digits)))
    shades = np.tile(np.linspace(235, 80, 1008, dtype=np.uint8), (300, 1))
    paper = np.full((600, 1008), 255, dtype=np.uint8)
    assert not book_light.is_chart(Image.fromarray(np.concatenate([shades, paper])))
    assert book_light.is_chart(Image.fromarray(np.concatenate([0 * shades + 80, paper])))
