"""Printed text that the page shows as a table, and text that only looks like one."""

from __future__ import annotations

import pytest
from docutils import nodes
from sphinx.errors import ExtensionError

from bookkit.site import folding, printed_tables

GOOD = """\
the noise that is left
steps          DDIM  2nd order, fast
   10  31.5 +-  5.5     38.8 +- 15.7
  100  -4.6 +-  2.9     14.1 +-  2.8
all of them  1.0
"""
MISSING = """\
             times  share  distance
noise        even     17%      27.9
noise        odd       2%
real digits            2%       0.5
"""
NO_TABLE = {
    "two columns": "name    nats\nplain   0.83\nnoisy   0.91",
    "one row": "name    nats  bits\nplain   0.83  1.20",
    "a head over two columns": (
        "         error: Gaussian, ours\nfirst    0.11     0.12    0.1\nsecond   0.13     0.14    0.1"
    ),
    "a row without a name": "name   nats  bits\nplain  0.83  1.20\n       0.91  1.31",
    "a name without a row": "name   nats  bits\nplain  0.83  1.20\nnoisy",
    "blank lines": "name   nats  bits\n\nplain  0.83  1.20\n\nnoisy  0.91  1.31",
}


def test_a_printed_table_is_read() -> None:
    found = printed_tables.table(GOOD)
    assert found is not None
    start, rows = found
    assert start == 1 and rows[0] == ["steps", "DDIM", "2nd order, fast"]
    body = [[printed_tables.plain(cell) for cell in row] for row in rows[1:]]
    assert body == [["10", "31.5 ± 5.5", "38.8 ± 15.7"], ["100", "−4.6 ± 2.9", "14.1 ± 2.8"]]


def test_a_hyphen_is_no_minus() -> None:
    assert printed_tables.plain("-3, -4") == "−3, −4"
    assert printed_tables.plain("x-1") == "x-1" and printed_tables.plain("-2 steps") == "-2 steps"


def test_missing_cells_stay_empty() -> None:
    assert printed_tables.table(MISSING) == (
        0,
        [
            ["", "times", "share", "distance"],
            ["noise", "even", "17%", "27.9"],
            ["noise", "odd", "2%", ""],
            ["real digits", "", "2%", "0.5"],
        ],
    )


@pytest.mark.parametrize("text", NO_TABLE.values(), ids=NO_TABLE)
def test_a_cell_that_is_to_print_a_table_and_prints_none_is_an_error(text: str) -> None:
    assert printed_tables.table(text) is None
    with pytest.raises(ExtensionError, match="has the tag columns, but prints no table"):
        printed_tables.shown(printed(text, "tag_columns"))


def test_a_table_is_one_where_the_tag_says_so() -> None:
    (as_printed,) = printed_tables.shown(printed(MISSING))
    assert isinstance(as_printed, nodes.literal_block)
    words, table, last = printed_tables.shown(printed(GOOD, "tag_columns"))
    assert words.astext() == "the noise that is left" and last.astext() == "all of them  1.0"
    assert isinstance(table, nodes.table)


def test_a_table_has_a_head_and_names_its_rows() -> None:
    found = printed_tables.table(GOOD)
    assert found is not None
    node = printed_tables.table_node(found[1])
    (head,) = node.findall(nodes.thead)
    assert [entry.astext() for entry in head.findall(nodes.entry)] == found[1][0]
    assert [spec.get("stub") for spec in node.findall(nodes.colspec)] == [1, None, None]
    assert len(list(node.findall(nodes.row))) == 3


@pytest.mark.parametrize(
    ("text", "is_sentence"),
    [
        ("share of the times, by the unexplained share of the variance:", True),
        ("the data: 1.12", False),
        ("the loss fell: True", False),
        ("name    nats", False),
        ("one line\nand another", False),
    ],
)
def test_one_line_of_words_beside_a_table_is_a_sentence(text: str, is_sentence: bool) -> None:
    block = nodes.literal_block("", "", classes=["output", "stream"])
    (rest,) = printed_tables.rest(block, text.splitlines())
    assert isinstance(rest, nodes.paragraph) == is_sentence
    assert rest.astext() == text.removesuffix(": True")
    assert list(printed_tables.rest(block, ["", ""])) == []


def printed(text: str, *tags: str) -> nodes.literal_block:
    """A block that a cell with these tags printed, in its output."""
    block = nodes.literal_block(text, text, classes=["output", "stream"])
    nodes.container("", nodes.container("", block), classes=list(tags))
    return block


def test_statements_that_hold_are_a_list() -> None:
    text = "the gap: 0.1\nit is small: True\n  so is its error: True\nall others: 0.2"
    first, held, last = printed_tables.shown(printed(text))
    assert [first.astext(), last.astext()] == ["the gap: 0.1", "all others: 0.2"]
    assert isinstance(held, nodes.bullet_list) and held["classes"] == ["book-held"]
    assert [item.astext() for item in held] == ["it is small", "so is its error"]


def test_they_stay_as_printed_beside_one_that_does_not_hold_and_in_a_fold() -> None:
    text = "it is small: True\nit is zero: False"
    (whole,) = printed_tables.shown(printed(text))
    assert isinstance(whole, nodes.literal_block) and whole.astext() == text
    block = printed("it is small: True")
    folding.fold("it is small", "held", block.parent)
    (whole,) = printed_tables.shown(block)
    assert isinstance(whole, nodes.literal_block)
