"""Depth: a folded box for what the argument does not need, which may hold cells, from `depth-start` to `depth-end`.

Its title states its claim. The notebook cannot fold several cells, so there the title stands in bold above them.
"""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.transforms import SphinxTransform
from sphinx.util.docutils import SphinxDirective

from bookkit.site.folding import fold


class Mark(nodes.Element):
    """Where a box begins, with its `title`, or ends."""


class Marking(SphinxDirective):
    """Begins a box, whose title is the argument, or ends it."""

    optional_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        mark = Mark(title=f"Depth: {self.arguments[0]}") if self.arguments else Mark()
        self.set_source_info(mark)
        return [mark]


class Gathering(SphinxTransform):
    """Puts what stands between two marks into a box."""

    default_priority = 10  # before targets and references look for what they name

    def apply(self, **_: object) -> None:
        while mark := next(iter(self.document.findall(Mark)), None):
            gather(mark)


def gather(start: Mark) -> None:
    """Moves the nodes after a mark, up to the next one, into a box in its place.

    Raises:
        ExtensionError: if the next mark of the section begins another box, or there is none.
    """
    parent, at = start.parent, start.parent.index(start)
    after = parent.children[at + 1 :]
    end = next((node for node in after if isinstance(node, Mark)), None)
    if end is None or "title" in end or "title" not in start:
        named = start.get("title", "depth-end")
        raise ExtensionError(
            f"{start.source}, line {start.line}: {named!r} has no counterpart in its section"
        )
    inside = after[: after.index(end)]
    for moved in (*inside, end):
        parent.remove(moved)
    start.replace_self(fold(start["title"], "depth", *inside))


def setup(app: Sphinx) -> None:
    app.add_directive("depth-start", Marking)
    app.add_directive("depth-end", Marking)
    app.add_transform(Gathering)
