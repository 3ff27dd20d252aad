"""Folded boxes that may hold cells: what is gathered, what is refused, and what the notebook shows instead."""

from __future__ import annotations

import pytest
from docutils import nodes
from docutils.utils import new_document
from sphinx.errors import ExtensionError

from bookkit.authoring import myst
from bookkit.site import folding
from bookkit.site.depth_boxes import Mark, gather


def section(*children: nodes.Node) -> nodes.section:
    document = new_document("page")
    document += (whole := nodes.section("", *children))
    return whole


def words(text: str) -> nodes.paragraph:
    return nodes.paragraph(text, text)


def test_all_between_the_marks_goes_into_the_box_and_nothing_else() -> None:
    cell = nodes.container("", words("print(1)"), cell_index=3)
    marks = Mark(title="Depth: it is tight"), Mark()
    whole = section(words("before"), marks[0], words("proof"), cell, marks[1], words("after"))
    gather(marks[0])
    before, box, after = whole.children
    assert (before.astext(), after.astext()) == ("before", "after")
    assert isinstance(box, folding.Fold) and box["title"] == "Depth: it is tight"
    assert box.children[1] is cell and box.astext() == "proof\n\nprint(1)"


@pytest.mark.parametrize(
    "children",
    [
        [Mark(title="Depth: a"), words("text")],
        [Mark(), words("text")],
        [Mark(title="Depth: a"), Mark(title="Depth: b"), Mark()],
        [Mark(title="Depth: a"), nodes.section("", Mark())],
    ],
    ids=["no end", "no start", "one in another", "an end in another section"],
)
def test_marks_that_do_not_belong_together_are_refused(children: list[nodes.Node]) -> None:
    first = section(*children).children[0]
    assert isinstance(first, Mark)
    named = first.get("title", "depth-end")
    with pytest.raises(ExtensionError, match=f"'{named}' has no counterpart in its section"):
        gather(first)


def test_the_summary_is_no_code_and_the_switch_for_code_leaves_it_alone() -> None:
    class Writer:
        def __init__(self) -> None:
            self.body: list[str] = []

        def encode(self, text: str) -> str:
            return text.replace("<", "&lt;")

        def starttag(self, node: nodes.Element, name: str, **attributes: str) -> str:
            return f"<{name} {' '.join([*node['classes'], *attributes.values()]).strip()}>"

    for kind, classes in (("depth", "book-depth"), ("fold", "book-fold book-code")):
        writer = Writer()
        folding.open_fold(writer, folding.fold("1 < 2", kind))
        assert writer.body == [f"<details {classes}>", "<summary>1 &lt; 2</summary>\n"]


def test_the_parser_knows_the_pair() -> None:
    start, _, end = myst.parse(":::{depth-start} it is *tight*\n:::\ntext\n:::{depth-end}\n:::")
    assert (start.kind, start.argument, end.kind) == ("depth-start", "it is *tight*", "depth-end")
