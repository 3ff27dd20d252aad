"""The API reference: it has every module, keeps docstrings as they are written, and pages lead to its entries."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

from bookkit.site import api

ROOT = Path(__file__).resolve().parents[1]

CONFIG = """
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "bookkit.site.api"]
autodoc_default_options = {"members": True}
nb_execution_mode = "off"
"""


def test_every_module_has_a_section() -> None:
    modules = re.findall(r"automodule:: (\S+)", (ROOT / "book" / "api.md").read_text("utf8"))
    package = ROOT / "companion"
    files = {path.stem for path in package.glob("*.py")} - {"__init__", "__main__", "checks"}
    wings = {f"page.{path.stem}" for path in (package / "page").glob("[a-z]*.py")} - {"page.frames"}
    networks = {f"networks.{path.stem}" for path in (package / "networks").glob("[a-z]*.py")}
    assert sorted(modules) == sorted(
        f"companion.{name}"
        for name in files
        | wings
        | networks
        | {"data", "page.plots", "zoo", "zoo.weights", "zoo.yardstick", "zoo.yourself"}
    )


def docstring(text: str) -> str:
    lines = text.split("\n")
    app = SimpleNamespace(env=SimpleNamespace(found_docs={"notebooks/03_elbo", "book/index"}))
    api.ready(app, "function", "name", None, None, lines)  # type: ignore[arg-type]
    return "\n".join(lines)


@pytest.mark.parametrize(
    "written, made",
    [
        ("The share `a_` of a_ * |x|.", "The share ``a_`` of a\\_ \\* \\|x\\|."),
        ("x_t and x_{t-1}", "x_t and x\\_{t-1}"),
        ("It is\n\n    a * b\n\n    c_\n\nand *d", "It is\n\n.. code-block:: text\n\n    a * b\n\n    c_\n\nand \\*d"),
        ("Args:\n    x: one.\n\n    y: two_.", "Args:\n    x: one.\n\n    y: two\\_."),
        ("One. Book: chapter 3, eq. (eq-2-d).", "One. Book: chapter :doc:`3 </notebooks/03_elbo>`, eq. :eq:`eq-2-d`."),
    ],
)  # fmt: skip
def test_a_docstring_keeps_what_is_written(written: str, made: str) -> None:
    assert docstring(written) == made


def test_a_docstring_cannot_name_a_chapter_that_does_not_exist() -> None:
    with pytest.raises(KeyError):
        docstring("One.\n\nBook: chapter 4")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A book of one page that uses the package, and the reference of two modules with one name in common."""
    from sphinx.application import Sphinx

    source = tmp_path_factory.mktemp("source")
    (source / "book").mkdir()
    (source / "notebooks").mkdir()
    for number in range(1, 15):
        (source / "notebooks" / f"{number:02}_name.md").write_text("# Chapter")
    (source / "conf.py").write_text(CONFIG)
    entries = "".join(
        f"```{{eval-rst}}\n.. automodule:: companion.{name}\n```\n" for name in ("elbo", "training")
    )
    (source / "book" / "api.md").write_text(f"# API\n{entries}")
    code = nbformat.v4.new_code_cell("%matplotlib inline\nfrom companion.training import fit as go")
    shown = {
        "text/markdown": "```python\n# companion/elbo.py: ElboTerms.elbo\n@property\ndef elbo(self):\n    ...\n```"
    }
    show = nbformat.v4.new_code_cell(
        "show(elbo)", outputs=[nbformat.v4.new_output("display_data", shown)]
    )
    text = nbformat.v4.new_markdown_cell(
        "`elbo_terms(model, x)`, `elbo_terms`, `go`, `minimize`, `x_t`, [`elbo_loss`](https://a.org)"
    )
    cells = [nbformat.v4.new_markdown_cell("# Title"), code, show, text]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), source / "index.ipynb")
    app = Sphinx(source, source, source / "out", source / "trees", "html", status=None)
    app.build()
    return source / "out"


def test_a_page_leads_to_the_entries(site: Path) -> None:
    page = (site / "index.html").read_text("utf8")
    links = re.findall(r'href="book/api\.html#([\w.]+)"[^>]*><code[^>]*>(.*?)</code>', page)
    plain = [(target, re.sub("<.*?>", "", text)) for target, text in links]
    assert (
        plain
        == [
            ("companion.training.fit", "fit"),  # the import
            ("companion.elbo.ElboTerms.elbo", "elbo"),  # what `show` shows
            ("companion.elbo.elbo_terms", "elbo_terms(model, x)"),  # the first mention only
            ("companion.training.fit", "go"),  # as the page imports it
        ]
    )  # but not `minimize`, an ordinary word that the page does not import, nor what is a link already


def test_every_link_has_its_entry(site: Path) -> None:
    entries = (site / "book" / "api.html").read_text("utf8")
    for target in re.findall(r"api\.html#([\w.]+)", (site / "index.html").read_text("utf8")):
        assert f'id="{target}"' in entries


def test_a_class_without_a_constructor_shows_no_arguments(site: Path) -> None:
    assert "**kwargs" not in (site / "book" / "api.html").read_text("utf8")
