"""What meets a reader first: thumbnails of the chapters, and what a shared link shows."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import nbformat
from docutils import nodes
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont
from sphinx.application import Sphinx

from bookkit.authoring.labels import Book, Page

THUMBNAIL, QUALITY = (176, 110), 30
INSIDE = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=]{500,})")
DESCRIPTION = 200  # characters that a shared link shows
CARD, MARGIN, STAGES, INK = (1200, 630), 72, 5, "#1F2933"  # the picture of a shared link, in pixels


def thumbnail_name(page: Page) -> str:
    """The file of a chapter's thumbnail."""
    return f"thumb-{page.docname.rpartition('/')[2]}.webp"


def samples(book: Book) -> dict[str, Any]:
    """What book/figures/samples.py drew, and the share that the classifier with eleven classes refuses."""
    return json.loads((book.root / "book" / "data" / "samples.json").read_text("utf8"))


def pictures(notebook: nbformat.NotebookNode) -> Iterator[bytes]:
    """The pictures of a notebook in their order; of a slider the first frame."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "image/png" in data:
                yield base64.b64decode(data["image/png"])
            elif found := INSIDE.search("".join(data.get("text/html", ""))):
                yield base64.b64decode(found[1])


def thumbnails(app: Sphinx, exception: Exception | None) -> None:
    """Makes the picture of a shared link and those of the chapters, and copies the samples of the models."""
    if exception or app.builder.format != "html":
        return
    book: Book = app.the_book  # type: ignore[attr-defined]
    folder = Path(app.outdir, "_images")
    folder.mkdir(exist_ok=True)
    sheets = Path(app.outdir, "_static", "samples")
    sheets.mkdir(exist_ok=True)
    for sheet in (book.root / "book" / "figures" / "samples").glob("*.webp"):
        if sheet.stem != "film":
            shutil.copy(sheet, sheets)
    film = samples(book)["film"]
    with Image.open(book.root / "book" / "figures" / "samples" / "film.webp") as image:
        shared_picture = card(image, len(film["times"]), book.config["title"])
    shared_picture.save(Path(app.outdir, "_static", "card.png"), optimize=True)
    for page in book.notebooks():
        notebook = nbformat.read(book.root / f"{page.docname}.ipynb", 4)
        first = next(pictures(notebook), None)
        if first is None:
            raise ValueError(f"{page.docname} has no picture for its thumbnail")
        with Image.open(io.BytesIO(first)) as image:
            small(image.convert("RGB")).save(folder / thumbnail_name(page), quality=QUALITY)


def card(film: Image.Image, frames: int, title: str) -> Image.Image:
    """The picture of a shared link: the book's title, and a digit of the film that forms out of noise."""
    picture = Image.new("RGB", CARD, "white")
    face = font_manager.findfont("DejaVu Sans")
    name, _, subtitle = title.partition(": ")
    draw = ImageDraw.Draw(picture)
    draw.text((MARGIN, MARGIN), name, INK, ImageFont.truetype(face, 52))
    draw.text((MARGIN, MARGIN + 72), subtitle, INK, ImageFont.truetype(face, 36))
    side, tile = film.height // frames, (CARD[0] - 2 * MARGIN) // STAGES
    for stage in range(STAGES):
        top = side * round(stage * (frames - 1) / (STAGES - 1))
        digit = film.crop((0, top, side, top + side)).convert("RGB")
        place = MARGIN + stage * tile, CARD[1] - MARGIN - tile
        picture.paste(digit.resize((tile, tile), Image.Resampling.NEAREST), place)
    return picture


def small(image: Image.Image) -> Image.Image:
    """The middle of a picture, or all of it if it is high, in the form of a thumbnail."""
    width, height = THUMBNAIL
    part = min(1.0, image.height / image.width * width / height)
    left = image.width * (1 - part) / 2
    scale = min(width / (image.width * part), height / image.height)
    cut = image.crop((round(left), 0, round(image.width - left), image.height))
    cut = cut.resize(
        (round(cut.width * scale), round(cut.height * scale)), Image.Resampling.LANCZOS
    )
    card = Image.new("RGB", THUMBNAIL, "white")
    card.paste(cut, ((width - cut.width) // 2, (height - cut.height) // 2))
    return card


def shared(app: Sphinx, name: str, _: str, context: dict[str, Any], tree: nodes.document) -> None:
    """Says in the head of a page what a link to it shows where it is shared."""
    if tree is None:
        return
    said = (
        p for p in tree.findall(nodes.paragraph) if "book-facts" not in p.parent.get("classes", [])
    )
    paragraphs = (re.sub(r"\s+", " ", p.astext()).strip() for p in said)
    text = next((p for p in paragraphs if len(p) > 60 and "\\" not in p), "")
    if len(text) > DESCRIPTION:
        text = text[:DESCRIPTION].rpartition(" ")[0] + " ..."
    title = re.sub("<[^>]+>", "", context.get("title", ""))
    tags = {"og:type": "article", "og:title": title, "og:site_name": app.config.html_title}
    if text:
        tags["og:description"] = text
    if base := app.config.html_baseurl:
        tags["og:url"] = f"{base.rstrip('/')}/{name}.html"
        tags["og:image"] = f"{base.rstrip('/')}/_static/card.png"
    lines = [f'<meta property="{k}" content="{escape(str(v))}">' for k, v in tags.items()]
    if text:
        lines.append(f'<meta name="description" content="{escape(text)}">')
    context["metatags"] = context.get("metatags", "") + "\n".join(lines)


def setup(app: Sphinx) -> None:
    app.connect("html-page-context", shared)
    app.connect("build-finished", thumbnails, priority=400)  # before the site is made light
