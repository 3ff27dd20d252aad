"""Shows what a cell printed as what it is: a table, or a list of statements that hold.

A table has aligned columns below a head, where nothing about them is in doubt.

Columns are parted by two blanks or more in all lines. A head has names above numbers, or whole numbers in order above
decimals. A statement that holds ends in ": True"; beside one that does not
hold it stays as it was printed, and so does all else.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

from bookkit.site.folding import Fold
from bookkit.site.roles import HOLDS, statements

GUTTER, COLUMNS, ROWS = 2, 3, 2  # blanks between columns; the least columns and rows of a table
ONE = r"[<>]?\s*[-+−]?\d[\d,]*\.?\d*(?:e[-+]?\d+)?%?"
NUMBER = re.compile(rf"{ONE}(?:\s*±\s*{ONE})?|\d+(?: x \d+)+|-?inf|nan")
WHOLE = re.compile(r"-?\d+")
PADDED = re.compile(r"(?:\+-|=) *")  # what pads a number to the width of its column
WORDS = re.compile(
    r"(?!.*(?:  |: (?:True|False)$))[^\n\d]+:?"
)  # no number, no truth, nothing aligned
KEPT = "\xa0"  # a blank inside of a cell


@dataclass(frozen=True)
class Table:
    """The lines of a text that are a table, as cells."""

    start: int
    head: list[str]
    body: list[list[str]]


def columns(lines: Sequence[str]) -> list[slice]:
    """Where the columns of some lines are: parted by what is blank in all of them."""
    width = max(map(len, lines))
    blank = [all(line[at : at + 1] in ("", " ") for line in lines) for at in range(width)]
    runs = [(empty, len(list(run))) for empty, run in itertools.groupby(blank)]
    found, start, at = [], 0, 0
    for number, (empty, length) in enumerate(runs):
        if empty and (length >= GUTTER or number == len(runs) - 1) and at:
            found.append(slice(start, at))
            start = at + length
        elif empty and not at:
            start = length
        at += length
    return [*found, slice(start, width)] if start < width else found


def cells(lines: Sequence[str]) -> list[list[str]]:
    """The lines cut into their columns."""
    cuts = columns(lines)
    return [[line[cut].strip(f" {KEPT}") for cut in cuts] for line in lines]


def is_table(rows: list[list[str]]) -> bool:
    """Whether the first row is a head of what follows, and each cell is one thing."""
    head, *body = rows
    if len(head) < COLUMNS or len(body) < ROWS:
        return False
    if any("  " in cell for row in rows for cell in row) or not all(head[1:]):
        return False
    below = list(zip(*body, strict=True))
    if not all(row[0] and any(row[1:]) for row in body) or not all(map(any, below)):
        return False
    numeric = [
        at
        for at, column in enumerate(below)
        if at and all(not cell or NUMBER.fullmatch(cell) for cell in column)
    ]
    if len(numeric) < (len(head) - 1) / 2:
        return False
    if not any(NUMBER.fullmatch(head[at]) for at in numeric):
        return True
    if not all(WHOLE.fullmatch(head[at]) for at in numeric):
        return False
    values = [int(head[at]) for at in numeric]
    in_order = values in (sorted(set(values)), sorted(set(values), reverse=True))
    return in_order and all("." in c or "%" in c for at in numeric for c in below[at] if c)


def tables(text: str) -> Iterator[Table]:
    """The tables of a text, each as long as it can be."""
    lines = [
        PADDED.sub(
            lambda found: found[0].replace("+-", f"±{KEPT}").replace(" ", KEPT), line.rstrip()
        )
        for line in text.splitlines()
    ]
    start = 0
    while start < len(lines):
        end = next((i for i in range(start, len(lines)) if not lines[i]), len(lines))
        first = start + ROWS + 1
        fitting = [stop for stop in range(first, end + 1) if is_table(cells(lines[start:stop]))]
        if fitting and len(columns(lines[start : fitting[-1]])) == len(columns(lines[start:first])):
            head, *body = cells(lines[start : fitting[-1]])
            yield Table(start, head, body)
            start = fitting[-1]
        else:
            start += 1


def plain(cell: str) -> str:
    """A cell with the signs of the book."""
    cell = re.sub(rf"\s*±[\s{KEPT}]*", " ± ", cell)
    cell = re.sub(rf"[\s{KEPT}]+", " ", cell)
    return re.sub(r"(?<![\w.])-(?=\d)", "−", cell) if NUMBER.fullmatch(cell) else cell


def table_node(table: Table) -> nodes.table:
    """A table whose first column names its rows."""
    group = nodes.tgroup(cols=len(table.head))
    for at in range(len(table.head)):
        group += nodes.colspec(colwidth=1, **({"stub": 1} if at == 0 else {}))
    for part, rows in ((nodes.thead(), [table.head]), (nodes.tbody(), table.body)):
        for row in rows:
            entries = [nodes.entry("", nodes.paragraph("", plain(cell))) for cell in row]
            part += nodes.row("", *entries)
        group += part
    return nodes.table("", group, classes=["book-printed"])


def rest(block: nodes.literal_block, lines: list[str]) -> Iterator[nodes.Element]:
    """Lines that are no table: statements that hold are a list, one line of words is a sentence."""
    listed = ": False" not in block.astext() and not is_folded(block)
    for holds, run in itertools.groupby(lines, lambda line: listed and bool(HOLDS.match(line))):
        text = "\n".join(run).strip("\n")
        if holds:
            said = [nodes.list_item("", nodes.paragraph("", claim)) for claim in statements(text)]
            yield nodes.bullet_list("", *said, classes=["book-held"])
        elif WORDS.fullmatch(text):
            yield nodes.paragraph("", text, classes=["book-printed-words"])
        elif text.strip():
            yield nodes.literal_block(text, text, **block.attributes)


def is_folded(node: nodes.Node) -> bool:
    """Whether it is shown only when the reader opens a fold, whose title says it already."""
    return isinstance(node, Fold) or (node.parent is not None and is_folded(node.parent))


def shown(block: nodes.literal_block) -> Iterator[nodes.Element]:
    """What stands in place of a printed block."""
    text, at = block.astext(), 0
    lines = text.splitlines()
    for table in tables(text):
        yield from rest(block, lines[at : table.start])
        yield table_node(table)
        at = table.start + 1 + len(table.body)
    yield from rest(block, lines[at:])


class Tabulating(SphinxPostTransform):
    """Puts tables and lists in place of printed ones; what stands before and after stays."""

    default_priority = 655  # after folding has taken out what the badges say
    formats = ("html",)

    def run(self, **_: object) -> None:
        for block in list(self.document.findall(nodes.literal_block)):
            if "stream" in block["classes"]:
                parts = list(shown(block))
                if any(isinstance(part, nodes.table | nodes.bullet_list) for part in parts):
                    block.replace_self(parts)


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the transform."""
    app.add_post_transform(Tabulating)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
