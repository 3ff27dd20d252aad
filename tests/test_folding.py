"""What a chapter's page shows of its code, on small notebooks; the built pages are read in test_built_site.py."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from docutils import nodes
from docutils.utils import new_document
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from bookkit.authoring import roles
from bookkit.site import folding, source_text


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


def test_a_check_in_a_loop_is_said_once() -> None:
    code = 'for t in range(3):\n    verify("eq-a", t, t)'
    cell = stored(code, "verified eq-a: exact\n" * 3)
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
