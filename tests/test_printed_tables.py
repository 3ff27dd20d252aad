"""Printed text that the page shows as a table, and text that only looks like one."""

from __future__ import annotations

import pytest
from docutils import nodes

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
LIKE_A_TABLE = {
    "no head": "plain   0.83  0.84\nnoisy   0.91  0.90\nwhite   0.80  0.81",
    "two columns": "name    nats\nplain   0.83\nnoisy   0.91",
    "one row": "name    nats  bits\nplain   0.83  1.20",
    "words in lines": "level 5:  of 4 units  2 vary\nlevel 4:  of 8 units  8 vary\nlevel 3:  16 units  all vary",
    "a head over two columns": (
        "         error: Gaussian, ours\nfirst    0.11     0.12    0.1\nsecond   0.13     0.14    0.1"
    ),
    "counts below counts": "steps   10   20\nplain   13   14\nnoisy   11   12",
    "a column with a head alone": "name   nats  (wanted)\nplain  0.83\nnoisy  0.91",
    "blank lines": "name   nats  bits\n\nplain  0.83  1.20\n\nnoisy  0.91  1.31",
}


def test_a_printed_table_is_read() -> None:
    (table,) = printed_tables.tables(GOOD)
    assert table.start == 1
    assert table.head == ["steps", "DDIM", "2nd order, fast"]
    rows = [[printed_tables.plain(cell) for cell in row] for row in table.body]
    assert rows == [["10", "31.5 ± 5.5", "38.8 ± 15.7"], ["100", "−4.6 ± 2.9", "14.1 ± 2.8"]]


def test_whole_numbers_in_order_are_a_head_above_decimals() -> None:
    text = "log SNR  {}     {}     -3\nlinear   0.01  0.13  0.29\ncosine   0.02  0.12  0.28"
    (table,) = printed_tables.tables(text.format(4, 0))
    assert table.head == ["log SNR", "4", "0", "-3"]
    assert list(printed_tables.tables(text.format(0, 4))) == []
    assert list(printed_tables.tables(text.format(4, 0).replace("  0.", " 0."))) == []


def test_missing_cells_stay_empty() -> None:
    (table,) = printed_tables.tables(MISSING)
    assert table.head == ["", "times", "share", "distance"]
    assert table.body == [
        ["noise", "even", "17%", "27.9"],
        ["noise", "odd", "2%", ""],
        ["real digits", "", "2%", "0.5"],
    ]


@pytest.mark.parametrize("text", LIKE_A_TABLE.values(), ids=LIKE_A_TABLE)
def test_what_is_in_doubt_stays_as_it_was_printed(text: str) -> None:
    assert list(printed_tables.tables(text)) == []


def test_a_table_has_a_head_and_names_its_rows() -> None:
    (table,) = printed_tables.tables(GOOD)
    node = printed_tables.table_node(table)
    (head,) = node.findall(nodes.thead)
    assert [entry.astext() for entry in head.findall(nodes.entry)] == table.head
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


def printed(text: str) -> nodes.literal_block:
    """A block that a cell printed, in its output."""
    block = nodes.literal_block(text, text, classes=["output", "stream"])
    nodes.container("", block)
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
