"""What a chapter's page shows of its code, on small notebooks; the built pages are read in test_built_site.py."""

from __future__ import annotations

from collections import defaultdict

import nbformat
import pytest
from docutils import nodes
from docutils.utils import new_document
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from bookkit.authoring import roles
from bookkit.site import folding


def notebook(*found: tuple[str, list[str]]) -> nbformat.NotebookNode:
    """Code cells, each with its tags."""
    made = [new_code_cell(source, metadata={"tags": tags}) for source, tags in found]
    return new_notebook(cells=[new_markdown_cell("# A"), *made])


def test_a_tag_says_what_a_cell_is_for_and_one_that_serves_goes_to_the_next_fold() -> None:
    found = roles.cells_of(
        notebook(
            ("a", ["setup", "hide-input"]),
            ("b", ["serves"]),
            ("c", []),
            ("d", ["serves"]),
            ("e", ["shown"]),
            ("f", ["nbval-check-output", "check"]),
            ("g", ["unseen"]),
            ("h", ["serves"]),
            ("i", ["answer"]),
        )
    )
    assert [(cell.source, cell.role, cell.host) for cell in found.values()] == [
        ("a", "unseen", 1),
        ("b", "serves", 6),
        ("c", "", 3),
        ("d", "serves", 6),
        ("e", "shown", 5),
        ("f", "check", 6),
        ("g", "unseen", 7),
        ("h", "serves", 9),
        ("i", "answer", 9),
    ]
    assert list(found) == list(range(1, 10))


def test_a_cell_that_serves_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="cell 2 has the tag serves, but no cell with a fold"):
        roles.cells_of(notebook(("a", ["figure"]), ("b", ["serves"]), ("c", ["shown"])))


def stored(source: str, text: str) -> roles.Cell:
    return roles.Cell(0, source, set(), text, roles.CHECK, 0)


@pytest.mark.parametrize(
    ("role", "printed", "left"),
    [
        ("", "1", "code, output"),
        ("unseen", "", ""),
        ("serves", "", ""),
        ("shown", "1", "output"),
        ("figure", "1", "output, Code for this figure (code)"),
        ("numbers", "1", "output, Code for these numbers (code)"),
        ("answer", "not answered yet: a", "Cell for your answer (code, output)"),
        ("held", "a is b: True", "a is b (output, code)"),
        ("check", "verified eq-a: exact", ""),
        ("check", "verified eq-a: exact\na 1", "output, Code for these numbers (code)"),
        ("", "verified eq-a: exact\na 1", "code, output"),
    ],
)
def test_what_a_page_leaves_of_a_cell(role: str, printed: str, left: str) -> None:
    def part(name: str, text: str) -> nodes.container:
        block = nodes.literal_block(text, text)
        return nodes.container("", block, nb_element=f"cell_code_{name}", says=name)

    def names(parent: nodes.Element) -> str:
        said = (f"{n['title']} ({names(n)})" if "title" in n else n["says"] for n in parent)
        return ", ".join(said).replace("source", "code")

    box, source = nodes.container("", nb_element="cell_code"), part("source", "x")
    box += [part("output", printed)] if printed else []
    transform = folding.Folding.__new__(folding.Folding)
    transform.code = defaultdict(list)
    if role:
        transform.code[1 if role == "serves" else 0].append(source)
    else:
        box.insert(0, source)
    page = nodes.container("", box)
    transform.place(roles.Cell(0, "x", {role}, printed, role, 0), box)
    assert names(page.children[0] if page.children else page) == left
    assert "verified" not in page.astext() and ("a 1" in page.astext()) == ("a 1" in printed)
    # Code that the page has not yet waits for the badge of a check, for another cell, or for nobody.
    waits = role in ("unseen", "serves", "shown") or (role == "check" and not left)
    assert any(transform.code.values()) == waits


def test_a_check_is_read_with_its_two_sides_and_what_it_refuses() -> None:
    text = 'verified eq-a: exact; rejects "no root", E13, "3 (x)" (> 40 standard errors)\n'
    code = 'verify("eq-a", f(1), g, exact, rejects={})\nprint("b")'
    cell = stored(code, text + "b\nc holds: True\n")
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
    first, second = paragraph("Check.", " A."), paragraph("Checks.", " C.")
    document += [first, paragraph("The limit.", " B."), cell(1), cell(2), cell(3)]
    document += [second, cell(4), paragraph("Check.", " D.")]
    assert folding.check_notes(document, {2, 3, 4}) == {2: [first], 4: [second]}


def test_a_check_in_a_loop_is_said_once() -> None:
    code = 'for t in range(3):\n    verify("eq-a", t, t)'
    cell = stored(code, "verified eq-a: exact\n" * 3)
    assert len(roles.verified([cell])["eq-a"]) == 1
