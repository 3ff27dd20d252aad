"""The book's side of Sphinx, one extension: `bookkit.site` in _config.yml loads every module named here."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

# In this order the events and transforms are registered; where it matters, their priorities say so.
EXTENSIONS = (
    "bookkit.site.source_text",
    "bookkit.site.templates",
    "bookkit.site.landing",
    "bookkit.site.references",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "bookkit.site.formulas",
    "bookkit.site.api",
    "bookkit.site.answer_fields",
    "bookkit.site.captions",
    "bookkit.site.depth_boxes",
    "bookkit.site.folding",
    "bookkit.site.printed_tables",
    "bookkit.site.instruments",
    "bookkit.site.built_files",
)


def setup(app: Sphinx) -> dict[str, bool]:
    """Loads the extensions; each says for itself what may run in parallel."""
    for name in EXTENSIONS:
        app.setup_extension(name)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
