"""Puts live instruments at figures: book/instruments.yml names the figure, the module, its words and its weights.

An instrument is a JavaScript module of book/assets/instruments that exports `mount(root, {load})`. The page has its
title inside the figure, and an address; `loader.js` does the rest, and the figure stays as its still. All modules, the
style sheet and the weights lie in one folder, whose name changes with their content, so that no cache mixes versions.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.transforms.post_transforms import SphinxPostTransform

from bookkit.authoring.labels import Book

MODULES = Path("book/assets/instruments")
WEIGHTS = Path("companion/weights")
REQUIRED, OPTIONAL = {"module", "title", "hint"}, {"caption", "files", "start"}
STARTS = ("near", "click")


class Instrument(nodes.Element):
    """An empty instrument in a figure, which `loader.js` fills."""


def open_instrument(writer: Any, node: Instrument) -> None:
    names = {f"data-{key}": node[key] for key in ("module", "files", "bytes", "start", "caption")}
    tag = writer.starttag(node, "div", CLASS="book-instrument", hidden="hidden", **names)
    words = f"<strong>{writer.encode(node['title'])}</strong> <span>{writer.encode(node['hint'])}</span>"
    writer.body.append(f'{tag}<p class="instrument-words">{words}</p>')


def close_instrument(writer: Any, node: Instrument) -> None:
    writer.body.append("</div>\n")


def read_table(root: Path) -> dict[str, dict[str, Any]]:
    """The instruments by the label of their figure, each with the hashes of its weights, and their bytes together.

    Raises:
        ValueError: if an entry has not the keys it should have, or a file that it names is not there.
    """
    table = yaml.safe_load((root / "book" / "instruments.yml").read_text("utf8")) or {}
    for label, entry in table.items():
        if not REQUIRED <= set(entry) <= REQUIRED | OPTIONAL:
            wanted = f"{', '.join(sorted(REQUIRED))}, and may have {', '.join(sorted(OPTIONAL))}"
            raise ValueError(f"{label} must have {wanted}; it has {', '.join(sorted(entry))}")
        entry.setdefault("caption", "")
        if entry.setdefault("start", "near") not in STARTS:
            raise ValueError(
                f"{label}: start must be {' or '.join(STARTS)}; {entry['start']} was given"
            )
        if not (root / MODULES / f"{entry['module']}.js").is_file():
            raise ValueError(f"{label}: {MODULES} has no module {entry['module']}.js")
        files = {name: weights(root, name) for name in entry.get("files", [])}
        entry["hashes"] = {name: digest(path) for name, path in files.items()}
        entry["bytes"] = sum(path.stat().st_size for path in files.values())
    return table


def check_labels(table: Iterable[str], book: Book) -> None:
    """Every instrument stands at a figure of the book that has a number.

    Raises:
        ValueError: if one does not.
    """
    figures = {label for label, place in book.places.items() if place.kind == "figure"}
    if unknown := sorted(set(table) - figures):
        raise ValueError(f"no numbered figure has the label {', '.join(unknown)}")


def weights(root: Path, name: str) -> Path:
    """The file of tensors with this name: one made for the page, or shipped weights."""
    for folder in (MODULES, WEIGHTS):
        if (path := root / folder / f"{name}.safetensors").is_file():
            return path
    raise ValueError(f"neither {MODULES} nor {WEIGHTS} has {name}.safetensors")


def digest(path: Path) -> str:
    """The SHA-256 of a file, as the browser computes it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def configure(app: Sphinx, config: Config) -> None:
    """Reads the table, and names the folder after all that will be in it."""
    root = Path(app.srcdir)
    table = read_table(root)
    hashes = {path.name: digest(path) for path in sorted((root / MODULES).iterdir())}
    every = json.dumps([hashes, *(entry["hashes"] for entry in table.values())])
    config.instruments = table
    config.instruments_folder = f"instruments-{hashlib.sha256(every.encode()).hexdigest()[:10]}"


class Attaching(SphinxPostTransform):
    """Puts an instrument below the picture of each figure that has one."""

    default_priority = 660  # after folding, which moves whole figures
    formats = ("html",)

    def run(self, **_: Any) -> None:
        for figure in self.document.findall(nodes.figure):
            for label in set(figure["ids"]) & set(self.config.instruments):
                entry = self.config.instruments[label]
                at = next(i for i, part in enumerate(figure) if isinstance(part, nodes.caption))
                values = entry | {"files": json.dumps(entry["hashes"])}
                figure.insert(at, Instrument("", **values))


def attach_scripts(app: Sphinx, page: str, _: str, context: dict[str, Any], doctree: Any) -> None:
    """Only a page with instruments loads what they need."""
    if doctree is not None and any(doctree.findall(Instrument)):
        folder = app.config.instruments_folder
        app.add_js_file(f"{folder}/loader.js", type="module", loading_method=None)
        app.add_css_file(f"{folder}/instruments.css")


def copy(app: Sphinx, exception: Exception | None) -> None:
    """Puts modules and weights into the folder that the pages name."""
    if exception or app.builder.format != "html":
        return
    root, static = Path(app.srcdir), Path(app.outdir) / "_static"
    shutil.rmtree(static / "instruments", ignore_errors=True)  # the copy of html_static_path
    for old in static.glob("instruments-*"):
        shutil.rmtree(old)
    folder = static / app.config.instruments_folder
    shutil.copytree(root / MODULES, folder)
    for entry in app.config.instruments.values():
        for name in entry["hashes"]:
            shutil.copyfile(weights(root, name), folder / f"{name}.safetensors")


def setup(app: Sphinx) -> None:
    app.add_config_value("instruments", {}, "env", types=[dict])
    app.add_config_value("instruments_folder", "", "html", types=[str])
    app.add_node(Instrument, html=(open_instrument, close_instrument))
    app.add_post_transform(Attaching)
    app.connect("config-inited", configure)
    # source_text has read the labels by then.
    app.connect("builder-inited", lambda app: check_labels(app.config.instruments, app.the_book))
    app.connect("html-page-context", attach_scripts)
    app.connect("build-finished", copy)
