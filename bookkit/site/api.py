"""The API reference: makes docstrings ready for Sphinx, and links pages to the entries of what they use and show."""

from __future__ import annotations

import ast
import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

from bookkit.authoring import cell_syntax

PAGE = "book/api"
CODE = re.compile(r"(`[^`]+`)")
MARKUP = re.compile(r"[*|\\]|_(?!\w)")  # what reStructuredText would read as such
NUMBER, EQUATION = re.compile(r"(?<![\w-])\d+\b"), re.compile(r"\(((?:eq|def)-[\w-]+)\)")
NAME = re.compile(r"([A-Za-z_][\w.]*)(?:\(.*\))?")
TELLING = re.compile(r"[_.(]|[a-z][A-Z]")  # such a name is no ordinary word
ARGUMENTS = re.compile(r"<dl>\n((?:<dd>.*</dd>\n)+)</dl>\n")
SHOWN = re.compile(r"# (companion/[\w/]+)\.py(?:: ([\w.]+))?\n(?:@.*\n)*(?:def|class) (\w+)")


def ready(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Keeps a docstring's code and formulas as they are written; `Book: chapter 3, eq. (eq-elbo)` gets links."""
    chapters = {int(d[10:12]): d for d in app.env.found_docs if d.startswith("notebooks/")}
    text, formula = ["", ""], False
    for line in lines:
        indented = line.startswith("    ")
        if indented and not text[-1] and text[-2] and not text[-2].startswith(" "):
            text, formula = [*text, ".. code-block:: text", ""], True
        formula = formula and (indented or not line)
        if not formula:
            parts = CODE.split(line)
            parts[::2] = [MARKUP.sub(r"\\\g<0>", part) for part in parts[::2]]
            line = "".join(f"`{part}`" if part.startswith("`") else part for part in parts)
        before, book, places = line.partition("Book: chapter")
        places = NUMBER.sub(lambda n: f":doc:`{n[0]} </{chapters[int(n[0])]}>`", places)
        if book and not before and text[-1]:
            text.append("")  # a paragraph of its own
        line = before + book + (EQUATION.sub(r":eq:`\1`", places) if book else places)
        text.append(line)
    lines[:] = text[2:]


def no_arguments(app: Sphinx, what: str, name: str, *rest: Any) -> tuple[str, None] | None:
    """A class without a constructor of its own shows none."""
    return ("", None) if "**kwargs: ~typing.Any" in str(rest[2]) else None


def foreign(app: Sphinx, what: str, name: str, obj: Any, *rest: Any) -> bool | None:
    """What Python or another library wrote is no entry, such as the fields of a named tuple."""
    ours = str(getattr(obj, "__module__", "companion")).startswith("companion")
    return True if not ours or str(obj.__doc__).startswith("Alias for field number") else None


def plain_lists(app: Sphinx, page: str, template: str, context: dict, doctree: Any) -> None:
    """Arguments on lines of their own are no definitions, as a screen reader would say of Sphinx's list."""
    if page == PAGE:
        context["body"] = ARGUMENTS.sub(
            lambda found: f'<span class="arguments">{found[1].replace("dd>", "span>")}</span>',
            context["body"],
        )


class Links(SphinxPostTransform):
    """Links what a chapter imports, the first mention of each name in its text, and what `show` shows."""

    default_priority = 600  # after myst-nb chose the output to show
    formats = ("html",)

    def run(self, **_: Any) -> None:
        """Replaces and inserts nodes; a name without an entry stays plain code."""
        entries = self.env.get_domain("py").objects  # type: ignore[attr-defined]
        self.ids = {name: e.node_id for name, e in entries.items() if e.objtype != "module"}
        imports: dict[str, str] = {}
        for block in list(self.document.findall(nodes.literal_block)):
            if block.parent.get("nb_element") == "cell_code_source":
                new = self.imported(block.astext())
                imports |= new
                self.after(block.parent.parent, "In the API reference:", list(new.values()))
            elif shown := SHOWN.match(block.astext()):
                name = shown[2] or shown[3]
                full = self.entry(f"{shown[1].replace('/', '.')}.{name}", name)
                self.after(block, "API reference:", [full])
        seen: set[str] = set()
        for code in list(self.document.findall(nodes.literal)):
            if isinstance(code.parent, nodes.reference | nodes.title):
                continue
            if not (match := NAME.fullmatch(code.astext())):
                continue
            first, dot, rest = match[1].partition(".")
            telling = match[1] if TELLING.search(code.astext()) else " "
            full = self.entry(imports.get(first, first) + dot + rest, telling)
            if full and (full not in seen or self.env.docname == PAGE):
                seen.add(full)
                code.replace_self(self.link(full, code.astext()))

    def imported(self, source: str) -> dict[str, str]:
        """Under which names a code cell imports which entries or modules."""
        found = {}
        for node in ast.walk(cell_syntax.python(source)):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("companion"):
                for alias in node.names:
                    full = f"{node.module}.{alias.name}"
                    found[alias.asname or alias.name] = self.entry(full, alias.name) or full
        return found

    def entry(self, full: str, name: str) -> str | None:
        """The one entry that is meant: `full`, or else the only one whose name ends in `name`."""
        ends = [known for known in self.ids if known.endswith("." + name)]
        return full if full in self.ids else ends[0] if len(ends) == 1 else None

    def link(self, full: str, text: str) -> nodes.reference:
        """Code that leads to an entry."""
        page = self.app.builder.get_relative_uri(self.env.docname, PAGE)
        code = nodes.literal(text, text)
        return nodes.reference("", "", code, refuri=f"{page}#{self.ids[full]}", internal=True)

    def after(self, node: nodes.Element, words: str, entries: list[str | None]) -> None:
        """A line of links behind a node."""
        known = [full for full in entries if full is not None and full in self.ids]
        links = [self.link(full, full.split(".")[-1]) for full in known]
        if links:
            line = nodes.paragraph("", words, classes=["api-links"])
            for link in links:
                line += [nodes.Text(" "), link]
            node.parent.insert(node.parent.index(node) + 1, line)


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", ready, priority=400)  # before napoleon
    app.connect("autodoc-process-signature", no_arguments)
    app.connect("autodoc-skip-member", foreign)
    app.connect("html-page-context", plain_lists)
    app.add_post_transform(Links)
