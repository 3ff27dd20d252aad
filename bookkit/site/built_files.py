"""Makes the built pages light.

Style sheets keep the rules that some page can use, the icons' font the icons that some page shows; pictures load when
they come into view, frames of sliders when they are asked for, all without loss in the smaller form; scripts that no
page needs are gone.
"""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import math
import re
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pydata_sphinx_theme  # type: ignore[import-untyped]
import tinycss2  # type: ignore[import-untyped]
from PIL import Image
from scipy import ndimage
from sphinx.application import Sphinx

from bookkit.site.formulas import cut_font

THEME = Path(pydata_sphinx_theme.__file__).parent / "theme" / "pydata_sphinx_theme" / "static"
STYLES, FONTS = Path("styles/pydata-sphinx-theme.css"), Path("vendor/fontawesome/webfonts")
ICONS = re.compile(r"\bfa-([a-z0-9-]+)")
ICON_RULE = re.compile(r"((?:\.fa-[\w-]+:before,?)+)\{content:\"[^\"]*\"\}")
CHARACTER = re.compile(r'"\\([0-9a-f]{4,5})"')
SOURCE = re.compile(r"url\(\.\./vendor/fontawesome/webfonts/([\w-]+)\.woff2\)[^;}]*")
FILE = r'\s*<(?:script|link)[^>]*\b(?:src|href)="[^"]*(?:%s)[^"]*"[^>]*>(?:</script>)?'
# The icons are a font already, so the 1.5 MB script that draws them is for nobody.
FOR_NOBODY = re.compile(FILE % r"scripts/fontawesome\.js")
# What a page has, and the files of extensions that only such a page needs.
FOR_SOME = {
    'id="search-results"': r"searchtools\.js|language_data\.js|searchindex\.js",
    'class="highlight': r"clipboard\.min\.js|copybutton\.(?:js|css)|_static/pygments\.css",
    r'class="[^"]*\b(?:toggle|dropdown)\b': r"togglebutton\.(?:js|css)",
    r'class="proof\b': r"_static/proof\.css",
    r'class="[^"]*\b(?:exercise|solution)\b': r"_static/exercise\.css",
    "sd-tab-set": r"design-tabs\.js",
    "book-answer": r"_static/answers\.js",
}
# What lies below a page of the contents is off the reader's path, and its arrow has no name.
BELOW = re.compile(r'<details[^>]*><summary><span class="toctree-toggle".*?</details>', re.DOTALL)
STORED = re.compile(r"[0-9a-f]{40,}\.svg")  # a chapter's figure is named by its content
VIEW = re.compile(r'viewBox="0 0 ([\d.]+) ([\d.]+)"')
PICTURE = re.compile(
    r'<img (?![^>]*\bloading=)(?=[^>]*\bsrc="([^":]*_images/[^"]+\.(?:png|svg|webp))")'
    r'(?=(?:[^>]*\bwidth="([^"]*)")?)'
)
INSIDE = re.compile(r"data:image/(png|webp);base64,([A-Za-z0-9+/=]{2000,})")
SMALL_FRAME = re.compile(r'<img (?=src="data:image)')
WORD = re.compile(r"[A-Za-z_][\w-]*")
# Where a drawing refers to a part of it.
NAME = re.compile(r'(?<="#)[^"]+(?=")|(?<=\(#)[^)]+(?=\))')
NUMBER = re.compile(r"-?\d+\.\d{3,}")
WHITE = re.compile(r"\s+")
CODE = re.compile(r'<div class="highlight"><pre>.*?</pre>', re.DOTALL)
TOKEN = re.compile(r'<span class="(\w+)">([^<]*)</span>')
COLORED = re.compile(r"(\S+) \.highlight( \.\w+)? \{(?: background: \S+;)? color: (\S+) \}")
DRAWN = re.compile(r'(<img [^>]*?data-text="(\d+)"[^>]*? style=")(?!--readable)')
# Text in figures has at least so many points, and needs so many CSS pixels.
SMALLEST, READABLE = 8, 9
# Pixels of a glyph, of what is none; shares; how many make text.
GLYPH, LARGE, FILLED, SOME = (8, 24), 40, 0.25, 8
PIXELS = re.compile(r"(?<=_images/)[\w-]+\.png(?=\")")
# The two forms of Fig. 1 have copies for the dark page, which custom.css puts in their place.
HUED = ("one-bound", "one-bound-narrow")
DARK = {
    "#ffffff": "#1b1f24",
    "#f5f7f9": "#272d34",
    "#d5dae0": "#3d454e",
    "#1f2933": "#e6e9ed",
    "#5b6673": "#a8b2bd",
    "#00704f": "#45d3a8",
    "#005a8e": "#74bdf2",
    "#0072b2": "#3f9fdc",
    "#ad4b00": "#f59a5b",
}
SHEETS = (
    "styles/*.css",
    "sphinx-design.min.css",
    "mystnb.*.css",
    "basic.css",
    "custom.css",
    "proof.css",
)


def lighten(app: Sphinx, exception: Exception | None) -> None:
    """Rewrites the pages, style sheets and drawings, once they are written; a second time it changes nothing."""
    if exception or app.builder.format != "html":
        return
    site = Path(app.outdir)
    icons: set[str] = set()
    names: set[str] = set()
    for drawing in (site / "_images").glob("*.svg"):
        drawing.write_text(slim(drawing.read_text("utf8")), "utf8")
    for name in HUED:
        if (drawing := site / "_images" / f"{name}.svg").exists():
            drawing.with_stem(f"{name}-dark").write_text(dark(drawing.read_text("utf8")), "utf8")
    plain = plain_tokens((site / "_static" / "pygments.css").read_text("utf8"))
    for path in site.rglob("*.html"):
        old = path.read_text("utf8")
        new = BELOW.sub("", FOR_NOBODY.sub("", old))
        for mark, files in FOR_SOME.items():
            if not re.search(mark, new.partition("<article")[2] or new):
                new = re.sub(FILE % files, "", new)
        new = INSIDE.sub(partial(outside, site / "_images", path.parent), new)
        new = SMALL_FRAME.sub('<img loading="lazy" ', new)
        new = PICTURE.sub(partial(lazy, path.parent), new)
        new = DRAWN.sub(r"\1--readable:\2px;", new)
        new = CODE.sub(partial(bare, plain), new)
        icons.update(ICONS.findall(new))
        names.update(WORD.findall(" ".join(re.findall(r'\b(?:class|id)="([^"]*)"', new))))
        if new != old:
            path.write_text(new, "utf8")
    squeeze(site)
    static = site / "_static"
    only_these(icons, static)
    for script in static.rglob("*.js"):  # classes that scripts give
        names.update(
            WORD.findall(" ".join(re.findall(r"[\"'`]([^\"'`]*)[\"'`]", script.read_text("utf8"))))
        )
    for pattern in SHEETS:
        for sheet in static.glob(pattern):
            sheet.write_text(used(sheet.read_text("utf8"), names), "utf8")


def plain_tokens(css: str) -> set[str]:
    """The kinds of tokens, such as names, that have the color of all code on the light page and on the dark one."""
    colors = {(theme, kind): color for theme, kind, color in COLORED.findall(css)}
    themes = {theme for theme, _ in colors}
    return {
        kind.strip(" .")
        for _, kind in colors
        if kind and all(colors.get((theme, kind)) == colors[theme, ""] for theme in themes)
    }


def bare(plain: set[str], code: re.Match[str]) -> str:
    """Code without the marks around tokens that they do not color: a third of a chapter's page."""
    return TOKEN.sub(lambda token: token[2] if token[1] in plain else token[0], code[0])


def outside(folder: Path, page: Path, found: re.Match[str]) -> str:
    """The address of a file that was inside of a page."""
    data = base64.b64decode(found[2])
    file = folder / f"frame-{hashlib.sha256(data).hexdigest()[:16]}.{found[1]}"
    file.write_bytes(data)
    return "../" * len(page.relative_to(folder.parent).parts) + f"_images/{file.name}"


def lazy(folder: Path, found: re.Match[str]) -> str:
    """The start of a picture's tag, which keeps its room until it comes into view and is loaded."""
    path, given = folder / found[1], found[2]
    if STORED.fullmatch(path.name):
        return f'<img loading="lazy" {size_of(path.read_text("utf8"))}'
    if path.suffix == ".svg" or (given and not path.name.startswith("frame-")):
        return '<img loading="lazy" '
    with Image.open(path) as image:
        width, height = image.size
        kinds = kinds_of(image)
    if given:  # to a frame of a slider
        return f'<img loading="lazy" {kinds}height="{round(int(given) * height / width)}" '
    return f'<img loading="lazy" {kinds}width="{width}" height="{height}" '


def size_of(svg: str) -> str:
    """Attributes of a chart in lines: its size in CSS pixels, and the width at which its text is legible."""
    view = VIEW.search(svg)
    assert view is not None, "a figure without a size"
    width, height = (round(float(points) * 96 / 72) for points in view.groups())
    readable = math.ceil(READABLE / SMALLEST * float(view[1]))
    text = f'data-text="{readable}" ' if 'id="text_' in svg or "<use" in svg else ""
    return f'data-chart {text}width="{width}" height="{height}" '


def kinds_of(image: Image.Image) -> str:
    """Attributes that say whether a picture is a chart, and how wide it must be shown for its text to be legible."""
    # Here, for it brings torch, which the build's start would touch.
    from companion.page.plots.style import DPI

    readable = READABLE / (SMALLEST * DPI / 72) * image.width
    text = f'data-text="{math.ceil(readable)}" ' if has_text(image) else ""
    return ("data-chart " if is_chart(image) else "") + text


def has_text(image: Image.Image) -> bool:
    """Whether a picture has spots of the size of letters outside of what is large and filled, such as digits."""
    if image.width < LARGE * SOME:  # pixels magnified by the page
        return False
    white = Image.new("RGBA", image.size, "white")
    ink = np.asarray(Image.alpha_composite(white, image.convert("RGBA")).convert("L")) < 200
    spots, _ = ndimage.label(ink, np.ones((3, 3)))
    boxes = ndimage.find_objects(spots)
    sizes = [(rows.stop - rows.start, columns.stop - columns.start) for rows, columns in boxes]
    large = [
        box
        for name, (box, size) in enumerate(zip(boxes, sizes, strict=True), 1)
        if max(size) >= LARGE and (spots[box] == name).mean() > FILLED
    ]
    letters = [
        box
        for box, (height, width) in zip(boxes, sizes, strict=True)
        if GLYPH[0] <= height <= GLYPH[1] and width <= GLYPH[1]
        if not any(
            all(o.start <= i.start and i.stop <= o.stop for o, i in zip(other, box, strict=True))
            for other in large
        )
    ]
    return len(letters) >= SOME


def is_chart(image: Image.Image) -> bool:
    """Whether a picture is lines, points and flat bars on white paper, which the dark page may invert, and no image."""
    tones = image.convert("L").histogram()
    num = sum(tones)
    white, dark = sum(tones[236:]) / num, sum(tones[:40]) / num
    if image.width <= 600 or dark >= 0.01 or white <= 0.6:
        return False
    coarse = np.asarray(image.convert("RGB")) // 8 @ [1024, 32, 1]
    return white > 0.8 or np.sort(np.bincount(coarse.ravel()))[-6:].sum() > 0.9 * num


def squeeze(site: Path) -> None:
    """Gives the pictures of the pages in lossless WebP, where it is smaller."""
    made: dict[str, str] = {}
    for page in site.rglob("*.html"):
        old = page.read_text("utf8")
        for name in set(PIXELS.findall(old)) - made.keys():
            made[name] = smaller(site / "_images" / name).name
        new = PIXELS.sub(lambda found: made[found[0]], old)
        if new != old:
            page.write_text(new, "utf8")


def smaller(png: Path) -> Path:
    """The picture's file, a WebP of the same pixels if that has fewer bytes."""
    webp = png.with_suffix(".webp")
    with Image.open(png) as image:
        image.save(webp, "WEBP", lossless=True, exact=True, quality=80, method=4)
    larger = max(png, webp, key=lambda file: file.stat().st_size)
    larger.unlink()
    return png if larger == webp else webp


def dark(svg: str) -> str:
    """A drawing of the book on dark paper: the same hues, ink and paper exchanged."""
    return re.sub(r"(?<=: )#[0-9a-f]{6}", lambda color: DARK.get(color[0], color[0]), svg)


def slim(svg: str) -> str:
    """A drawing with two decimals, no empty room, and photographs inside of it as WebP."""

    def smaller(found: re.Match[str]) -> str:
        file = io.BytesIO()
        with Image.open(io.BytesIO(base64.b64decode(WHITE.sub("", found[1])))) as image:
            image.save(file, "WEBP", quality=75, method=6)
        return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()

    svg = re.sub(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)", smaller, svg)
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'( (?:d|x|y|width|height)=")([^"]*)', lambda a: a[1] + path(a[2]), svg)
    svg = re.sub(
        r'(?<= transform=")[^"]*',
        lambda text: NUMBER.sub(lambda n: f"{float(n[0]):.5g}", text[0]),
        svg,
    )
    used = dict.fromkeys(NAME.findall(svg))
    short = {name: f"_{at}" for at, name in enumerate(used)}  # and no name for what is not used
    svg = NAME.sub(lambda name: short[name[0]], svg)
    svg = re.sub(
        r' id="([^"]*)"', lambda own: f' id="{short[own[1]]}"' if own[1] in short else "", svg
    )
    return re.sub(r">\s+<", "><", svg)


def path(data: str) -> str:
    """The outline of a drawing, each number to a hundredth."""
    data = NUMBER.sub(lambda n: f"{float(n[0]):.2f}".rstrip("0").rstrip("."), data)
    return WHITE.sub(" ", data).strip()


def only_these(icons: set[str], static: Path) -> None:
    """Leaves out of the theme's fonts and style sheet all icons that no page shows."""

    def rule(found: re.Match[str]) -> str:
        return found[0] if icons.intersection(re.findall(r"\.fa-([\w-]+):", found[1])) else ""

    css = ICON_RULE.sub(rule, (THEME / STYLES).read_text("utf8"))
    book = (static / "styles" / "sphinx-book-theme.css").read_text("utf8")
    shown = {int(code, 16) for code in CHARACTER.findall(css + book)}
    shown |= {ord(char) for char in css + book if "\ue000" <= char <= "\uf8ff"}  # written out
    for name in set(SOURCE.findall(css)):
        whole = min((THEME / FONTS).glob(f"{name}.*"))  # .ttf, or .woff2, which asks for brotli
        cut_font(whole, static / FONTS / f"{name}.woff", shown)
        for suffix in (".ttf", ".woff2"):
            (static / FONTS / f"{name}{suffix}").unlink(missing_ok=True)
    css = SOURCE.sub(rf'url(../{FONTS.as_posix()}/\1.woff) format("woff")', css)
    (static / STYLES).write_text(css, "utf8")
    for script in (static / "scripts").glob("fontawesome.js*"):
        script.unlink()


# ---------------------------------------------------------------------------------------------- style sheets


def used(css: str, names: set[str]) -> str:
    """The rules of a style sheet some selector of which can meet an element, written without spaces."""
    rules = tinycss2.parse_stylesheet(css, skip_comments=True, skip_whitespace=True)
    return "".join(kept(rules, names))


def kept(rules: Iterable[Any], names: set[str]) -> Iterator[str]:
    """The text of the rules that are kept."""
    for rule in rules:
        if rule.type == "qualified-rule":
            if chosen := list(selectors(rule.prelude, names)):
                body = WHITE.sub(" ", tinycss2.serialize(rule.content)).strip()
                yield f"{','.join(chosen)}{{{body}}}"
        elif rule.at_keyword in ("media", "supports", "layer", "container") and rule.content:
            inner = tinycss2.parse_rule_list(rule.content, skip_comments=True, skip_whitespace=True)
            if body := "".join(kept(inner, names)):
                yield f"@{rule.at_keyword} {tinycss2.serialize(rule.prelude).strip()}{{{body}}}"
        elif rule.at_keyword != "charset":
            yield rule.serialize()


def selectors(tokens: Iterable[Any], names: set[str]) -> Iterator[str]:
    """The selectors of a list whose classes and ids all stand somewhere; what is in brackets, one token, need not."""
    for is_comma, part in itertools.groupby(tokens, lambda token: token == ","):
        some = list(part)
        asked = {token.value for token in some if token.type == "hash"}
        asked |= {name.value for dot, name in itertools.pairwise(some) if dot == "."}
        if not is_comma and asked <= names:
            yield tinycss2.serialize(some).strip()


def setup(app: Sphinx) -> None:
    app.connect("build-finished", lighten, priority=900)  # after others have copied their files
