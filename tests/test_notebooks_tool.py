"""The tool that makes the notebooks: text, numbers, execution, and every fault it must find."""

from __future__ import annotations

import copy
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from bookkit.authoring import (
    cell_syntax,
    chapter_rules,
    labels,
    myst,
    notebooks,
    plain_markdown,
    setup_cell,
)
from bookkit.authoring.citations import citations

ROOT = Path(__file__).resolve().parents[1]
FIXTURE = ROOT / "tests" / "fixtures" / "book"


def make_book(folder: Path) -> Path:
    shutil.copytree(FIXTURE, folder, dirs_exist_ok=True)
    return folder


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tiny book imports a module that stands in for the package."""
    monkeypatch.setattr(chapter_rules, "IMPORTS", {*chapter_rules.IMPORTS, "companion_sample"})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_book(tmp_path / "book")


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny book with both notebooks executed once."""
    root = make_book(tmp_path_factory.mktemp("executed"))
    assert notebooks.main(["run", "--root", str(root)]) == 0
    return root


@pytest.fixture
def stored(executed: Path, tmp_path: Path) -> Path:
    """A copy of the executed book that a test may spoil."""
    return Path(shutil.copytree(executed, tmp_path / "stored"))


def convert(root: Path, name: str) -> dict[int, str]:
    book = labels.Book(root)
    page = book.pages[f"notebooks/{name}"]
    return plain_markdown.Converter(book, page, citations(root / "book" / "references.bib")).cells()


def write_text(root: Path, text: str) -> None:
    """Makes `text` the one section of the second chapter."""
    lines = "\n".join(f"# {line}".rstrip() for line in text.split("\n"))
    path = root / "notebooks" / "src" / "02_second.py"
    path.write_text(
        f"# %% [markdown]\n# # Second\n\n# %% tags=['setup']\n{setup_cell.MARK}\n\n# %% [markdown]\n{lines}\n"
    )


# ------------------------------------------------------------------------------------------------ text and numbers


def test_numbers_count_each_kind_by_itself_within_a_chapter() -> None:
    places = labels.Book(FIXTURE).places
    numbers = {label: place.number for label, place in places.items() if place.number}
    assert numbers == {
        **{"def-sum": "1.1", "eq-gauss": "1.2", "thm-gauss": "1.1", "defn-even": "1.1"},
        **{"fig-square": "1.1", "ex-odd": "1.1", "ex-second": "1.2"},
        **{"eq-cubes": "2.1", "alg-cubes": "2.1"},
    }


def test_every_construct_becomes_plain_markdown() -> None:
    text = "\n\n".join(convert(FIXTURE, "01_first").values())
    for expected in (
        "Kingma and Welling (2014) and Ho et al. (2020) and van den Oord (2000)",
        "(Ho et al., 2020; Kingma and Welling, 2014)",
        '<a id="sec-squares"></a>\n\n## Squares',
        "``{eq}`no-label` `` and `$$ x $$ (y)`",
        "$$\ns(n) = \\sum_{i=1}^{n} i \\tag{1.1}\n$$",
        '> <a id="thm-gauss"></a>**Theorem 1.1 (The small Gauss, $n \\ge 1$)**',
        "> $$\\begin{aligned} s(n) &= \\frac{n (n + 1)}{2} \\\\ &\\ge n . \\end{aligned} \\tag{1.2}$$",
        "<summary>Proof of this</summary>\n\nAdd the list",
        "This proves [Theorem 1.1](#thm-gauss).",
        "> **Where *all* is**\n>\n> See",
        "See [Squares](#sec-squares), the second, Cubes (chapter 2), (2.1), Notation,",
        "> sums and the [web](https://example.org/a).",
        "*Fig. 1.1. A square, (1.1).*",
        "Fig. 1.1 shows it, and figure 1.1 too.",
        "**Exercise 1.1 (Odd numbers)**",
        "**Solution to Exercise 1.1**",
        "**Exercise 1.2**",
    ):
        assert expected in text, expected
    assert cell_syntax.leftovers(text) == []


def test_plain_markdown_and_formulas_are_no_leftovers() -> None:
    text = "## A (1.3)\n\n$$ x_{i} = 1\n% TeX\n\\tag{1.3} $$\n\n`x`{.a} is $\\{z\\}$\n\n```python\n%pip\n(x)=\n```\n"
    assert cell_syntax.leftovers(text) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("see {eq}`eq-elbo`", "a role"),
        (":::{prf:theorem}\nx\n:::", "a colon fence"),
        ("> ```{note}\n> x\n> ```", "a directive"),
        ("(sec-elbo)=\n## ELBO", "a target"),
        ("$$ x = 1 $$ (eq-x)", "a labelled equation"),
        ("text\n% a comment", "a % comment"),
        ("a\n\n+++\n\nb", "a block break"),
    ],
)
def test_leftovers_are_found(text: str, expected: str) -> None:
    assert cell_syntax.leftovers(text)[0].startswith(expected)


def test_references_reach_other_chapters_and_code_stays_code() -> None:
    text = "\n".join(convert(FIXTURE, "02_second").values())
    assert "As (1.2) of Theorem 1.1:" in text
    assert "\\sum_i i^3 = s(n)^2 \\tag{2.1}" in text
    assert ">    ```python\n>    total += i**3\n>    ```" in text
    assert "> > **Nested**" in text


def test_a_published_address_turns_references_into_links(root: Path) -> None:
    config = root / "_config.yml"
    config.write_text(
        config.read_text().replace('baseurl: ""', 'baseurl: "https://book.example/x/"')
    )
    text = "\n".join(convert(root, "01_first").values())
    assert "[Cubes](https://book.example/x/notebooks/02_second.html#sec-cubes)" in text
    assert "[Notation](https://book.example/x/book/notation.html)" in text


def test_no_displayed_formula_in_a_quotation_spans_lines() -> None:
    for line in "\n".join(convert(FIXTURE, "01_first").values()).split("\n"):
        if line.startswith(">"):
            assert line.count("$$") in (0, 2), line


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{eq}`eq-nowhere`", "no label 'eq-nowhere'"),
        ("{eq}`thm-gauss`", "'thm-gauss' is a label of another kind: theorem"),
        ("{prf:ref}`eq-gauss`", "'eq-gauss' is a label of another kind: equation"),
        ("{numref}`sec-squares`", "'sec-squares' is a label of another kind: section"),
        ("see [the page](../book/notation.md)", "a link that is not for the web"),
        ("{doc}`nowhere`", "no page 'nowhere'"),
        ("{cite:t}`nobody1999`", "no entry 'nobody1999'"),
        ("{glue:text}`x`", "the role glue:text is not supported"),
        ("{cite}`ho2020`", "the role cite is not supported"),
        (":::{tab-set}\nx\n:::", "the directive tab-set is not supported"),
        (":::{figure} x.png\n:::", "the directive figure is not supported"),
        (":::{admonition} A\nx", "is never closed"),
        ("$$\nx", "is never closed"),
        ("$$\n\\begin{align} x \\end{align}\n$$", r"\\begin\{align in a display"),
        ("$$\nx \\tag{3}\n$$", r"\\tag in a display"),
        ("$$\nx\n\ny\n$$", "blank line"),
        ("$$\nx % why\n$$", "or a %"),
        ("- item\n\n  :::{admonition} A\n  x\n  :::", "no directive may stand in a list"),
        ("- item\n\n  $$\n  x\n  $$", "no display and no directive may stand in a list"),
        (":::{admonition} A\n:::{admonition} B\nx\n:::\n:::", "is never closed"),
        ("{{ name }}", "a substitution"),
        ("see[^1]", "a footnote"),
        ("% a comment", "a % comment"),
        ("<!-- a comment -->", "an HTML comment"),
        ("term\n: definition", "a definition list"),
        ("![x](y.png){width=3}", "attributes"),
        (r"$\KL{q}{p}$", "the book's macro"),
    ],
)
def test_what_jupyter_cannot_show_is_refused(root: Path, text: str, complaint: str) -> None:
    write_text(root, text)
    with pytest.raises(ValueError, match=complaint) as error:
        convert(root, "02_second")
    assert "02_second.py, cell 2" in str(error.value)


@pytest.mark.parametrize(
    "text",
    ["", "a\n", "$$\nx\n$$", "```\n:::\n$$\n```", "``` {eq} ``` `"],
)
def test_plain_markdown_is_left_alone(root: Path, text: str) -> None:
    write_text(root, text)
    assert convert(root, "02_second")[2].split() == (text or "---").split()


def test_the_parser_keeps_nested_blocks_and_options() -> None:
    (outer,) = myst.parse(
        "::::{prf:theorem} Title\n:label: thm-x\n\n:::{note}\n$$\nx\n$$ (eq-x)\n:::\n::::"
    )
    assert (outer.kind, outer.argument, outer.label) == ("prf:theorem", "Title", "thm-x")
    assert [b.label for b in myst.walk([outer]) if b.kind == "math"] == ["eq-x"]


def test_claims_belong_to_the_section_above() -> None:
    claims = labels.Book(FIXTURE).claims
    assert [(claim.row, claim.docname, claim.section) for claim in claims] == [
        ("A01", "notebooks/01_first", "sec-squares"),
        ("B05", "notebooks/01_first", "sec-squares"),
    ]


def test_a_section_without_a_target_gets_a_label_of_its_own(root: Path) -> None:
    text = "## Two words\n\n### Below *it*\n\n```python\n## no heading\n```\n\n(sec-own)=\n\n## Own\n\n*Sources: A02.*"
    assert labels.with_targets("notebooks/01_first", text) == text.replace(
        "## Two", "(sec-first-two-words)=\n## Two"
    ).replace("### Below", "(sec-first-below-it)=\n### Below")
    write_text(root, "## Two words\n\n### Below *it*\n\n*Sources: A02.*")
    assert labels.Book(root).claims[-1] == labels.Claim(
        "A02", "notebooks/02_second", "sec-second-two-words"
    )
    assert labels.Book(root).places["sec-second-below-it"].title == "Below *it*"


def test_a_label_used_twice_is_found(root: Path) -> None:
    write_text(root, "$$\nx\n$$ (eq-gauss)")
    assert labels.Book(root).duplicates == ["eq-gauss"]


def test_verify_calls_are_found_in_code() -> None:
    code = "%matplotlib inline\nif x:\n    verify('eq-a', 1, 1)\nv.verify('eq-b', 1)\nverify(name, 1)\n"
    code += "print('verify')"
    assert labels.verify_calls(code) == ["eq-a", "eq-b", None]


def test_the_example_of_the_guide_converts(root: Path) -> None:
    guide = (ROOT / "bookkit" / "authoring" / "AUTHORING.md").read_text("utf8")
    example = re.search(r"```python\n(# %% \[markdown\].*?)\n```\n\n## Labels", guide, re.DOTALL)
    assert example is not None
    (root / "notebooks" / "src" / "02_second.py").write_text(
        example[1] + "\n\n# %% [markdown]\n# (sec-cubes)=\n# ## C\n#\n# $$\n# x\n# $$ (eq-cubes)\n"
    )
    (root / "book" / "references.bib").open("a").write(
        "@article{baldi1989, author={Baldi, P. and Hornik, K.}, year={1989}, title={T}}\n"
    )
    text = "\n".join(convert(root, "02_second").values())
    assert "Baldi and Hornik (1989)" in text and "\\tag{2.2}" in text


# ------------------------------------------------------------------------------------------------ run, sync, check


def problems(root: Path, name: str = "01_first") -> list[str]:
    book = labels.Book(root)
    found = notebooks.check(book, book.pages[f"notebooks/{name}"])
    return [text.partition(": ")[2] for text in found]


def test_an_executed_book_passes(executed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert notebooks.main(["check", "--root", str(executed)]) == 0
    assert capsys.readouterr().out == "2 notebooks checked, 0 failures\n"


def test_two_runs_give_the_same_bytes(stored: Path) -> None:
    path = stored / "notebooks" / "02_second.ipynb"
    before = path.read_bytes()
    path.unlink()
    assert notebooks.main(["run", "02_second", "--root", str(stored)]) == 0
    assert path.read_bytes() == before


def test_the_stamp_names_code_and_versions_and_the_set_up_cell_the_repository(
    executed: Path,
) -> None:
    notebook = nbformat.read(executed / "notebooks" / "01_first.ipynb", 4)
    stamp = notebook.metadata["companion"]
    assert re.fullmatch(r"[0-9a-f]{64}", stamp["source_sha256"])
    assert {"python", "torch", "numpy"} <= set(stamp["versions"])
    assert 'PACKAGE = "git+https://github.com/EXAMPLE/BOOK@main"' in notebook.cells[1].source
    checks = [(check.label, check.section) for check in labels.checks(labels.Book(executed))]
    assert checks == [("eq-gauss", "sec-squares"), ("eq-cubes", "sec-cubes")]


def test_new_prose_and_a_new_address_are_synced_without_a_run(stored: Path) -> None:
    source = stored / "notebooks" / "src" / "01_first.py"
    source.write_text(source.read_text().replace("Do it again.", "Do it once more."))
    config = stored / "_config.yml"
    config.write_text(config.read_text().replace("EXAMPLE/BOOK", "OTHER/BOOK"))
    assert problems(stored) == ["text, tags, set-up or folds differ from the source; sync it"]
    before = nbformat.read(stored / "notebooks" / "01_first.ipynb", 4)
    assert notebooks.main(["sync", "--root", str(stored)]) == 0
    after = nbformat.read(stored / "notebooks" / "01_first.ipynb", 4)
    assert problems(stored) == []
    assert "Do it once more." in after.cells[-1].source and "OTHER/BOOK" in after.cells[1].source
    outputs = [[c.outputs for c in chapter_rules.code_cells(n)] for n in (before, after)]
    assert outputs[0] == outputs[1]


def test_new_code_needs_a_run(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = stored / "notebooks" / "src" / "01_first.py"
    source.write_text(source.read_text().replace("range(1, 20, 2)", "range(1, 18, 2)"))
    assert problems(stored) == ["the outputs come from other code than the source has; run it"]
    assert notebooks.main(["sync", "01_first", "--root", str(stored)]) == 1
    assert "come from other code" in capsys.readouterr().err


def test_an_error_in_a_cell_keeps_the_old_notebook(
    stored: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = stored / "notebooks" / "src" / "02_second.py"
    path = stored / "notebooks" / "02_second.ipynb"
    source.write_text(source.read_text().replace("55**2", "55**3"))
    before = path.read_bytes()
    assert notebooks.main(["run", "02_second", "--root", str(stored)]) == 1
    assert "eq-cubes: 3025 is not 166375" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_unknown_names_are_answered_with_the_known_ones(
    executed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert notebooks.main(["check", "03_third", "--root", str(executed)]) == 1
    assert "no chapter '03_third'; there are 01_first, 02_second" in capsys.readouterr().err


Spoil = Callable[[nbformat.NotebookNode], None]
PRINTS, SHOWS, ANSWER = 4, 5, 7  # cells of the first chapter


def stream(text: str, name: str = "stdout") -> nbformat.NotebookNode:
    return nbformat.v4.new_output("stream", name=name, text=text)


def prints(text: str, name: str = "stdout", cell: int = PRINTS) -> Spoil:
    return lambda n: n.cells[cell].outputs.append(stream(text, name))


def displays(cell: int, kind: str, data: object) -> Spoil:
    output = nbformat.v4.new_output("display_data", data={kind: data})
    return lambda n: n.cells[cell].outputs.append(output)


def shows_nothing(cell: int) -> Spoil:
    return lambda n: n.cells[cell].update(outputs=[])


def tagged(cell: int, *tags: str) -> Spoil:
    return lambda n: n.cells[cell].metadata.update(tags=list(tags))


def reads(source: str) -> Spoil:
    return lambda n: n.cells[ANSWER].update(source=source)


def slider_in_place_of_a_picture(n: nbformat.NotebookNode) -> None:
    shows_nothing(SHOWS)(n)
    displays(SHOWS, "text/html", "<img src='data:image/png;base64,aa' alt='x'>")(n)


def raised(n: nbformat.NotebookNode) -> None:
    error = nbformat.v4.new_output("error", ename="KeyError", evalue="", traceback=[])
    n.cells[PRINTS].outputs.append(error)


SPOILS: list[tuple[Spoil, str]] = [
    (lambda n: n.cells[PRINTS].update(execution_count=None), "was not executed"),
    (raised, "an error is stored: KeyError"),
    (prints("careful\n", "stderr"), "writes to stderr: 'careful'"),
    (prints("in /ho" + "me/me/x"), "something of this machine"),
    (prints("<X at 0x7f00aabbccdd>"), "something of this machine"),
    (prints("data: no copy of mnist and so on"), "fallback data"),
    (lambda n: n.cells[SHOWS].metadata.mystnb.pop("image"), "alt text has 0 characters"),
    (lambda n: n.cells[SHOWS].metadata.mystnb.image.update(alt="A square"), "has 8 characters"),
    (displays(SHOWS, "image/png", "aaaa"), "shows 2 pictures"),
    (shows_nothing(SHOWS), "has an alt text but shows no picture"),
    (slider_in_place_of_a_picture, "has a caption but shows no picture"),
    (displays(PRINTS, "application/vnd.jupyter.widget-view+json", {}), "sync it"),
    (lambda n: n.metadata.update(widgets={"x": {"state": {}}}), "sync it"),
    (tagged(PRINTS), "calls verify"),
    (prints("1\n", cell=ANSWER), "2 of 3 cells that print text"),
    (lambda n: n.cells[PRINTS].metadata.tags.append("nbval-ignore-output"), "is not allowed"),
    (reads("import sklearn"), "imports sklearn;"),
    (reads("def f():\n    from google.colab import drive"), "imports google.colab;"),
    (reads("%matplotlib inline\nfrom myst_nb import glue"), "imports myst_nb;"),
    (tagged(ANSWER, "setup"), "the first code cell, and no other, has the tag setup"),
    (reads("\n".join(["x = 1"] * 31)), "31 non-blank lines"),
    (reads("class A:\n" + "    x = 1\n" * 12), "class A has 13 lines"),
    (shows_nothing(PRINTS), "the claim eq-gauss is not verified"),
    (prints("verified eq-cubes: exact\n"), "eq-cubes belongs to no equation of this chapter"),
    (reads("verify('def-sum', 1, 1)"), "verify('def-sum', ...) has left no line"),
    (tagged(PRINTS, "unseen"), "has the tag unseen, but has output"),
    (tagged(SHOWS, "serves"), "has the tag serves, but has output"),
    (tagged(PRINTS, "shown"), "has the tag shown, but does not call show"),
    (tagged(PRINTS, "figure"), "has the tag figure, but shows no picture"),
    (tagged(ANSWER, "numbers"), "has the tag numbers, but has no output"),
    (tagged(SHOWS, "check"), "has the tag check, but verifies nothing"),
    (tagged(PRINTS, "held"), "has the tag held, but prints more than what is True"),
    (tagged(ANSWER, "held"), "has the tag held, but prints more than what is True"),
    (tagged(PRINTS, "answer"), "has the tag answer, but is answered"),
    (
        lambda n: n.cells[PRINTS].metadata.tags.extend(["check", "numbers"]),
        "tags check, numbers exclude each other",
    ),
    (lambda n: n.cells[2].update(source="nothing"), "sync it"),
    (reads("answer = 1"), "other code"),
    (lambda n: n.metadata.update(blob="x" * notebooks.MAX_BYTES), "more than 4 MB"),
]


@pytest.mark.parametrize(("spoil", "complaint"), SPOILS, ids=[complaint for _, complaint in SPOILS])
def test_every_fault_of_a_stored_notebook_is_found(
    stored: Path, spoil: Spoil, complaint: str
) -> None:
    path = stored / "notebooks" / "01_first.ipynb"
    notebook = nbformat.read(path, 4)
    spoil(notebook)
    path.write_text(nbformat.writes(notebook))
    assert any(complaint in problem for problem in problems(stored)), problems(stored)


def test_an_equation_is_a_claim_or_a_definition(stored: Path) -> None:
    source = stored / "notebooks" / "src" / "01_first.py"
    source.write_text(source.read_text().replace("def-sum", "sum-def"))
    assert any("the equation sum-def must be a claim" in text for text in problems(stored))


def test_widgets_are_dropped_and_split_streams_merged() -> None:
    book = labels.Book(FIXTURE)
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "x"}}
    face = nbformat.v4.new_output("display_data", data={**view, "text/html": "<b>1</b>"})
    bare = nbformat.v4.new_output("display_data", data=dict(view))
    cell = nbformat.v4.new_code_cell(
        "1", outputs=[stream("a"), stream("b"), stream("c", "stderr"), face, bare]
    )
    page = labels.Page("page", 1, Path("page.py"), [("code", "1", {})])
    notebooks.finish(book, page, nbformat.v4.new_notebook(cells=[cell]))
    assert [o.get("text", o.get("data")) for o in cell.outputs] == [
        "ab",
        "c",
        {"text/html": "<b>1</b>"},
    ]


def test_the_set_up_cell_is_left_out_of_the_fingerprint() -> None:
    setup = nbformat.v4.new_code_cell("a = 1", metadata={"tags": ["setup"]})
    one = nbformat.v4.new_notebook(cells=[setup, nbformat.v4.new_code_cell("b = 1")])
    two = copy.deepcopy(one)
    two.cells[0].source = "a = 2"
    assert notebooks.digest(one) == notebooks.digest(two)
    two.cells[1].source = "b = 2"
    assert notebooks.digest(one) != notebooks.digest(two)
