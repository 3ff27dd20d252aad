"""What a chapter's page shows of its code, on small notebooks; the built pages are read in test_built_site.py."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from docutils import nodes
from docutils.utils import new_document
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from bookkit.authoring.labels import Page
from bookkit.site import folding, roles, source_text

PICTURE = new_output("display_data", {"image/png": "iVBORw0KGgo="})


def printed(text: str) -> nbformat.NotebookNode:
    return new_output("stream", name="stdout", text=text)


def planned(*found: tuple[str, list | None] | tuple[str, list, list[str]]) -> list[tuple[str, int]]:
    """Role and host of each code cell; a cell is code, outputs and perhaps tags, or text and None."""
    notebook = new_notebook(
        cells=[
            new_markdown_cell(text)
            if outputs is None
            else new_code_cell(text, outputs=outputs, metadata={"tags": tags[0] if tags else []})
            for text, outputs, *tags in found
        ]
    )
    kinds = [(cell.cell_type, cell.source, {}) for cell in notebook.cells]
    page = Page("page", 1, Path("page.py"), kinds)
    plans = roles.plan(list(roles.code_cells(page, notebook)))
    return [(cell.role, cell.host) for cell in plans.values()]


LONG = "\n".join(f"x{n} = {n}" for n in range(7))


@pytest.mark.parametrize(
    ("code", "outputs", "role"),
    [
        ("import torch\nimport math\nx = 1", [], "gone"),
        ("import torch\nx = 1\ny = 2", [], "open"),
        ("show(elbo_terms, docstring=False)", [], "shown"),
        ("plots.bars({})", [PICTURE], "figure"),
        ("def f():\n    return 1", [], "open"),
        ("for step in fit(model, loss, batches):\n    pass", [], "open"),
        ("print(2 + 2)", [printed("4\n")], "open"),
        (LONG + "\nprint(x0)", [printed("0\n")], "table"),
        ('verify("eq-a", 1, 1)', [printed("verified eq-a: exact\n")], "check"),
        ('print("a is b:", a == b)', [printed("a is b: True\n")], "held"),
        ('print("a is b:", a == b)', [printed("a is b: False\n")], "open"),
        ("def f(x):\n    ...\n\n\ncheck(f)", [printed("not answered yet: f\n")], "answer"),
    ],
)
def test_the_role_of_a_cell_alone(code: str, outputs: list, role: str) -> None:
    assert planned((code, outputs)) == [(role, 0)]
    assert planned((code, outputs, ["open"])) == [("open", 0)]


@pytest.mark.parametrize(
    ("text", "role"), [("a is b: True\n", "held"), ("a is b: False\n", "table"), ("a 1\n", "table")]
)
def test_a_cell_that_is_to_be_folded_keeps_what_does_not_hold_in_sight(
    text: str, role: str
) -> None:
    code = "def less(x):\n    return x\n\n\nprint(less(a))"
    assert planned((code, [printed(text)])) == [("open", 0)]
    assert planned((code, [printed(text)], ["fold"])) == [(role, 0)]


def test_a_cell_to_be_folded_stays_in_sight_where_nothing_folded_uses_it() -> None:
    make, shown = ("x = 1", [], ["fold"]), ("print(x)", [printed("1\n")])
    assert planned(make, shown) == [("open", 0), ("open", 1)]
    assert planned(make, (*shown, ["fold"])) == [("serves", 1), ("table", 1)]
    assert planned(make) == [("open", 0)]


def test_what_serves_a_check_or_a_figure_goes_with_it() -> None:
    check = ('verify("eq-a", helper(1), a)', [printed("verified eq-a: exact\n")])
    helper = ("def helper(x):\n    return x", [])
    value, draw = ("a = 1", []), ("def draw():\n    plots.figure()", [])
    assert planned(helper, value, check) == [("serves", 2), ("serves", 2), ("check", 2)]
    assert planned(draw, ("Slider([1], draw)", [PICTURE])) == [("serves", 1), ("figure", 1)]
    # A function that a figure needs is content, unless it draws; so is what an open cell needs too.
    assert planned(helper, ("plots.bars(helper(1))", [PICTURE]))[0] == ("open", 0)
    assert planned(helper, check, ("print(helper(2))", [printed("2\n")]))[0] == ("open", 0)
    assert planned((*value, ["open"]), check)[0] == ("open", 0)


def test_a_name_that_is_bound_again_serves_nobody_after_that() -> None:
    figure = ("plots.bars(a)", [PICTURE])
    read_again = ("a = 2\nprint(a)", [printed("2\n")])
    assert planned(("a = 1", []), figure, read_again)[0] == ("serves", 1)


def test_a_check_that_defines_what_open_cells_use_stays_open() -> None:
    check = ('def f():\n    return 1\n\n\nverify("eq-a", f(), 1)', [printed("verified eq-a: x\n")])
    assert planned(check, ("print(f())", [printed("1\n")]))[0] == ("open", 0)
    assert planned(check)[0] == ("check", 0)


def test_a_check_is_read_with_its_two_sides_and_what_it_refuses() -> None:
    text = 'verified eq-a: exact; rejects "no root", E13, "3 (x)" (> 40 standard errors)\n'
    code = 'verify("eq-a", f(1), g, exact, rejects={})\nprint("b")'
    cell = roles.Cell(0, code, set(), text + "b\nc holds: True\n")
    [line] = roles.verified([cell])["eq-a"]
    assert line.sides == ("f(1)", "g")
    assert folding.REFUSED.findall(line.text.partition("; rejects ")[2]) == [
        ("no root", "", ""),
        ("", "E13", ""),
        ("3 (x)", "", " (> 40 standard errors)"),
    ]
    assert roles.left_over(cell.text) == "b"
    assert roles.statements(cell.text) == ["c holds"]


def test_what_is_said_of_a_check_goes_to_the_next_check() -> None:
    def paragraph(lead: str, text: str) -> nodes.paragraph:
        return nodes.paragraph("", "", nodes.Text(""), nodes.strong("", lead), nodes.Text(text))

    def cell(index: int) -> nodes.container:
        return nodes.container(cell_index=index)

    document = new_document("page")
    first, other, second = (
        paragraph("Check.", " A."),
        paragraph("The limit.", " B."),
        paragraph("Checks.", " C."),
    )
    document += [
        first,
        other,
        cell(1),
        cell(2),
        cell(3),
        second,
        cell(4),
        paragraph("Check.", " D."),
    ]
    assert folding.check_notes(document, {2, 3, 4}) == {2: [first], 4: [second]}


def test_a_loop_and_a_parameter_bind_before_they_are_read() -> None:
    loop = (
        "for t, s in pairs:\n    x = t * a\nf = lambda b: b + c\nl = [d for d in e if d]\nx = x + t\n"
        "l = {i: {j for j in i} for i in e}"
    )
    with_block = "with torch.no_grad() as g:\n    h = g"
    cell = roles.Cell(0, f"{loop}\n{with_block}", set())
    assert cell.names() == ({"t", "s", "x", "f", "l", "g", "h"}, {"pairs", "a", "c", "e", "torch"})


def test_what_a_check_uses_first_goes_with_it_though_later_cells_use_it_too() -> None:
    value, check = (
        ("a = sum([1, 2])", []),
        ('verify("eq-a", a, 3)', [printed("verified eq-a: x\n")]),
    )
    later = ("a + 1", [printed("4\n")])
    assert planned(value, check, later) == [("serves", 1), ("check", 1), ("open", 2)]
    assert planned(value, later, check) == [("open", 0), ("open", 1), ("check", 2)]
    # With a function for it, too, unless the function is for others as well.
    sided = ("def f():\n    return 1\n\n\na = f()", [])
    assert planned(sided, check, later)[0] == ("serves", 1)
    assert planned(sided, check, ("f()", [printed("1\n")]))[0] == ("open", 0)


def test_a_chapter_opens_with_a_picture() -> None:
    load = ("a = load()", [])
    draw, later = ("plots.line(a)", [PICTURE]), ("a + 1", [printed("4\n")])
    first = planned(("# A\n\nWhat is a?", None), load, draw, ("## Section", None), later)
    assert first == [("serves", 2), ("figure", 2), ("open", 4)]
    assert planned(("## Section", None), load, draw, later)[0] == ("open", 1)


def test_a_check_in_a_loop_is_said_once() -> None:
    code = 'for t in range(3):\n    verify("eq-a", t, t)'
    cell = roles.Cell(0, code, set(), "verified eq-a: exact\n" * 3)
    assert len(roles.verified([cell])["eq-a"]) == 1


def test_the_repository_is_known_or_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unknown = f"https://github.com/{source_text.PLACEHOLDER}"
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert source_text.repository(tmp_path, "https://github.com/a/b") == "https://github.com/a/b"
    assert source_text.repository(tmp_path, unknown) == ""
    monkeypatch.setenv("GITHUB_REPOSITORY", "me/book")
    assert source_text.repository(tmp_path, unknown) == "https://github.com/me/book"


@pytest.mark.parametrize(
    "remote",
    [
        "https://github.com/me/a.book.git",
        "git@github.com:me/a.book.git",
        "https://name:secret@github.com/me/a.book",
    ],
)
def test_the_remote_of_git_says_where_the_repository_is(remote: str) -> None:
    found = source_text.GITHUB.search(remote)
    assert found and found[1] == "me/a.book"
