"""Shows what a cell printed as what it is: a table, where its tag says so, or a list of statements that hold.

The columns of a table are parted by two blanks or more in all lines. A statement that holds ends in ": True"; beside
one that does not hold it stays as it was printed, and so does all else.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.transforms.post_transforms import SphinxPostTransform

from bookkit.authoring.chapter_rules import COLUMNS
from bookkit.authoring.roles import HOLDS, statements
from bookkit.site.folding import Fold

FEWEST, ROWS = 3, 3  # the least columns and rows, the head among them
PADDED = re.compile(r"(?:\+-|=) *")  # what pads a number to the width of its column
MINUS = re.compile(r"(?<![\w.])-(?=\d[^A-Za-z]*$)")
WORDS = re.compile(r"(?!.*(?:  |: (?:True|False)$))[^\n\d]+:?")  # a line of words, none aligned
KEPT = "\xa0"  # a blank inside of a cell


def cells(lines: Sequence[str]) -> list[list[str]]:
    """The lines cut into their columns, which two blanks or more part in all of them."""
    columns = itertools.zip_longest(*lines, fillvalue=" ")
    inked = "".join(" " if set(column) == {" "} else "x" for column in columns)
    cuts = [slice(*found.span()) for found in re.finditer("x+(?: x+)*", inked)]
    return [[line[cut].strip(f" {KEPT}") for cut in cuts] for line in lines]


def are_a_table(rows: list[list[str]]) -> bool:
    """Whether each column has a head, but perhaps the first, and each row a name and something beside it."""
    head, *body = rows
    whole = not any("  " in cell for row in rows for cell in row)
    named = all(head[1:]) and all(row[0] and any(row[1:]) for row in body)
    return len(head) >= FEWEST and whole and named


def table(text: str) -> tuple[int, list[list[str]]] | None:
    """The first table of a text, as long as it can be: the line of its head, and its rows."""
    lines = [
        PADDED.sub(lambda pad: pad[0].replace("+-", f"±{KEPT}").replace(" ", KEPT), line.rstrip())
        for line in text.splitlines()
    ]
    for start in range(len(lines)):
        for stop in range(len(lines), start + ROWS - 1, -1):
            if are_a_table(rows := cells(lines[start:stop])):
                return start, rows
    return None


def plain(cell: str) -> str:
    """A cell with the signs of the book."""
    cell = re.sub(rf"\s*±[\s{KEPT}]*", " ± ", cell)
    return MINUS.sub("−", re.sub(rf"[\s{KEPT}]+", " ", cell))


def table_node(rows: list[list[str]]) -> nodes.table:
    """A table whose first column names its rows."""
    group = nodes.tgroup(cols=len(rows[0]))
    for at in range(len(rows[0])):
        group += nodes.colspec(colwidth=1, **({"stub": 1} if at == 0 else {}))
    for part, some in ((nodes.thead(), rows[:1]), (nodes.tbody(), rows[1:])):
        for row in some:
            entries = [nodes.entry("", nodes.paragraph("", plain(cell))) for cell in row]
            part += nodes.row("", *entries)
        group += part
    return nodes.table("", group, classes=["book-printed"])


def rest(block: nodes.literal_block, lines: list[str]) -> Iterator[nodes.Element]:
    """Lines that are no table: statements that hold are a list, one line of words is a sentence."""
    listed = ": False" not in block.astext() and not any(isinstance(n, Fold) for n in around(block))
    for holds, run in itertools.groupby(lines, lambda line: listed and bool(HOLDS.match(line))):
        text = "\n".join(run).strip("\n")
        if holds:
            said = [nodes.list_item("", nodes.paragraph("", claim)) for claim in statements(text)]
            yield nodes.bullet_list("", *said, classes=["book-held"])
        elif WORDS.fullmatch(text):
            yield nodes.paragraph("", text, classes=["book-printed-words"])
        elif text.strip():
            yield nodes.literal_block(text, text, **block.attributes)


def around(node: nodes.Element) -> Iterator[nodes.Element]:
    """What a node stands in, from the inside to the outside."""
    while (node := node.parent) is not None:
        yield node


def shown(block: nodes.literal_block) -> list[nodes.Element]:
    """What stands in place of a printed block; a fold's title says its statements already.

    Raises:
        ExtensionError: if the tag of the cell says that it prints a table, and it prints none.
    """
    text = block.astext()
    lines = text.splitlines()
    if not any(f"tag_{COLUMNS}" in node.get("classes", ()) for node in around(block)):
        return list(rest(block, lines))
    if (found := table(text)) is None:
        raise ExtensionError(f"a cell has the tag {COLUMNS}, but prints no table: {text!r}")
    start, rows = found
    after = lines[start + len(rows) :]
    return [*rest(block, lines[:start]), table_node(rows), *rest(block, after)]


class Tabulating(SphinxPostTransform):
    """Puts tables and lists in place of printed ones; what stands before and after stays."""

    default_priority = 655  # after folding has taken out what the badges say
    formats = ("html",)

    def run(self, **_: object) -> None:
        for block in list(self.document.findall(nodes.literal_block)):
            if "stream" in block["classes"]:
                parts = shown(block)
                if any(isinstance(part, nodes.table | nodes.bullet_list) for part in parts):
                    block.replace_self(parts)


def setup(app: Sphinx) -> None:
    app.add_post_transform(Tabulating)
