"""The book's side of Sphinx, one extension: `bookkit.site` in _config.yml loads every module named here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

# Where the order of two matters, the priorities of their events and transforms say so.
MODULES = (
    *("source_text", "templates", "landing", "references", "formulas", "api", "answer_fields"),
    *("captions", "depth_boxes", "folding", "printed_tables", "instruments", "built_files"),
)


def setup(app: Sphinx) -> dict[str, bool]:
    """Sets up the modules, and the extensions of Sphinx that the API reference needs."""
    for name in ("sphinx.ext.autodoc", "sphinx.ext.napoleon"):
        app.setup_extension(name)
    for name in MODULES:
        import_module(f"bookkit.site.{name}").setup(app)
    return {"parallel_read_safe": True, "parallel_write_safe": False}
