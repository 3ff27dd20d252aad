"""Makes the built pages light: a font of the icons that they show, no script that they do not use, lazy pictures."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pydata_sphinx_theme  # type: ignore[import-untyped]
from fontTools import subset  # type: ignore[import-untyped]
from PIL import Image
from sphinx.application import Sphinx

THEME = Path(pydata_sphinx_theme.__file__).parent / "theme" / "pydata_sphinx_theme" / "static"
STYLES, FONTS = Path("styles/pydata-sphinx-theme.css"), Path("vendor/fontawesome/webfonts")
ICONS = re.compile(r"\bfa-([a-z0-9-]+)")
ICON_RULE = re.compile(r"((?:\.fa-[\w-]+:before,?)+)\{content:\"[^\"]*\"\}")
CHARACTER = re.compile(r'"\\([0-9a-f]{4,5})"')
SOURCE = re.compile(r"url\(\.\./vendor/fontawesome/webfonts/([\w-]+)\.woff2\)[^;}]*")
SCRIPT = r'\s*<script[^>]*\bsrc="[^"]*(?:%s)[^"]*"></script>'
# The icons are a font already, so the 1.5 MB script that draws them is for nobody.
FOR_NOBODY = re.compile(SCRIPT % r"scripts/fontawesome\.js")
FOR_SEARCH = re.compile(SCRIPT % r"searchtools\.js|language_data\.js|searchindex\.js")
PICTURE = re.compile(r'<img (?![^>]*\bloading=)(?=[^>]*\bsrc="([^":]*_images/[^"]+\.png)")')


def lighten(app: Sphinx, exception: Exception | None) -> None:
    """Rewrites the pages and the theme's style sheet, once they are written."""
    if exception or app.builder.format != "html":
        return
    icons: set[str] = set()
    for path in Path(app.outdir).rglob("*.html"):
        old = path.read_text("utf8")
        new = FOR_NOBODY.sub("", old)
        if path.stem != "search":
            new = FOR_SEARCH.sub("", new)
        new = PICTURE.sub(partial(lazy, path.parent), new)
        icons.update(ICONS.findall(new))
        if new != old:
            path.write_text(new, "utf8")
    only_these(icons, Path(app.outdir) / "_static")


def lazy(folder: Path, found: re.Match[str]) -> str:
    """The start of a picture's tag, which keeps its room until it comes into view and is loaded."""
    with Image.open(folder / found[1]) as image:
        width, height = image.size
    return f'<img loading="lazy" width="{width}" height="{height}" '


def only_these(icons: set[str], static: Path) -> None:
    """Leaves out of the theme's fonts and style sheet all icons that no page shows."""

    def rule(found: re.Match[str]) -> str:
        return found[0] if icons.intersection(re.findall(r"\.fa-([\w-]+):", found[1])) else ""

    css = ICON_RULE.sub(rule, (THEME / STYLES).read_text("utf8"))
    book = (static / "styles" / "sphinx-book-theme.css").read_text("utf8")
    shown = {int(code, 16) for code in CHARACTER.findall(css + book)}
    for name in set(SOURCE.findall(css)):
        options = subset.Options(flavor="woff", notdef_outline=True, layout_features=[])
        font = subset.load_font(str(THEME / FONTS / f"{name}.ttf"), options)
        cutter = subset.Subsetter(options)
        cutter.populate(unicodes=shown)
        cutter.subset(font)
        subset.save_font(font, str(static / FONTS / f"{name}.woff"), options)
        for suffix in (".ttf", ".woff2"):
            (static / FONTS / f"{name}{suffix}").unlink(missing_ok=True)
    css = SOURCE.sub(rf'url(../{FONTS.as_posix()}/\1.woff) format("woff")', css)
    (static / STYLES).write_text(css, "utf8")
    for script in (static / "scripts").glob("fontawesome.js*"):
        script.unlink()


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the event."""
    app.connect("build-finished", lighten)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
