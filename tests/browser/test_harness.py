"""The checks of the browser tests, tried on small pages with one planted problem each."""

from __future__ import annotations

import functools
import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import harness
import numpy as np
import pytest
from PIL import Image

from companion.page.sliders import Editor, Film, Slider

PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ"
    "AAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
CLEAN = f"""<h1>A page</h1><p>Two dollars and {{braces}}. <code>$$ x_1 $$</code></p>
<img alt="One red point" src="{PIXEL}">
<span class="math"><math><mi>x</mi></math></span>
<details class="sd-dropdown"><summary>Proof</summary><div>Folded.</div></details>
<div style="overflow-x: auto"><div style="width: 2000px">a wide equation scrolls in its box</div></div>"""
SLIDER = """<figure class="companion-slider"><img alt="frame 0" src="{pixel}"><label>level
<input type="range" min="0" max="4" step="1" value="0"></label><output>0</output><script>
(() => {{ const f = document.currentScript.parentElement, i = f.querySelector("input");
i.addEventListener("{event}", () => {{ {body} }}); }})();</script></figure>"""
MOVES = (
    f'f.querySelector("img").src = "{PIXEL}#" + i.value; f.querySelector("img").alt = "frame " + i.value;'
    'f.querySelector("output").textContent = i.value;'
)


rules = harness.axe_problems
colors = functools.partial(harness.axe_problems, only_colors=True)


COUNT = itertools.count()


@pytest.fixture(scope="module")
def blank(
    context: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Any, str, Path]]:
    """A tab for all pages, their address and their folder: a tab of its own for each costs a process for each."""
    folder, page = tmp_path_factory.mktemp("pages"), context.new_page()
    with harness.serve(folder, "/below/") as base:
        yield page, base, folder
    page.close()


@pytest.fixture
def show(blank: tuple[Any, str, Path]) -> Any:
    """A function that writes the body of a page and opens it, in place of the one before."""
    page, base, folder = blank

    def open_(body: str) -> harness.Visit:
        head = '<!doctype html><html lang="en"><head><title>A page</title></head>'
        (folder / "page.html").write_text(f"{head}<body><main>{body}</main></body></html>", "utf8")
        page.goto("about:blank")  # what the page before still asks for is none of this one's
        page.set_viewport_size(harness.WIDE)
        visit = harness.Visit(page, base)
        visit.open(f"page.html?{next(COUNT)}")  # an address of its own, which no cache knows
        return visit

    return open_


def test_a_clean_page_has_no_problem(show: Any) -> None:
    visit = show(CLEAN)
    page = visit.page
    page.set_viewport_size(harness.PHONE)
    checks: tuple[Any, ...] = (
        harness.math_problems,
        harness.picture_problems,
        harness.fold_problems,
    )
    checks += (harness.width_problems, harness.cut_problems, harness.tab_problems, rules, colors)
    found = [problem for check in checks for problem in check(page)]
    assert found == []
    assert visit.problems == []


@pytest.mark.parametrize(
    ("planted", "expected"),
    [
        ("<script>null.x</script>", "page error"),
        ("<script>console.error('broken')</script>", "console error: broken"),
        ("<script src='missing.js'></script>", "status 404"),
        ("<script src='/page.html'></script>", "status 404"),  # exists, but only below the prefix
        ("<script src='https://cdn.invalid/x.js'></script>", "a request to another host"),
        (
            "<script>fetch('http://127.0.0.1:9/').catch(() => 0)</script>",
            "a request to another host",
        ),
    ],
)
def test_errors_and_requests_are_recorded(show: Any, planted: str, expected: str) -> None:
    visit = show(CLEAN + planted)
    for _ in range(harness.PATIENCE // 50):  # each wait lets the browser report what happened
        if any(expected in problem for problem in visit.problems):
            break
        visit.page.wait_for_timeout(50)
    assert any(expected in problem for problem in visit.problems), visit.problems


@pytest.mark.parametrize(
    ("check", "planted", "expected"),
    [
        (harness.math_problems, '<span class="math">\\(x\\)</span>', "not typeset"),
        (
            harness.math_problems,
            '<span class="math"><math><merror><mtext>Missing brace</mtext></merror></math></span>',
            "Missing brace",
        ),
        (harness.picture_problems, '<img alt="A curve" src="missing.png">', "not loaded"),
        (harness.width_problems, '<div class="wide" style="width: 2000px">x</div>', "div.wide"),
        (
            harness.cut_problems,
            '<pre style="overflow: hidden"><b style="padding: 0 999px">x</b></pre>',
            "cut off",
        ),
        (
            harness.tab_problems,
            '<span class="math" tabindex="0"><math><mi>x</mi></math></span>',
            "a formula that need not scroll is a stop",
        ),
        (
            harness.tab_problems,
            '<button style="outline: none">x</button>',
            "the focus cannot be seen",
        ),
        (colors, '<p style="color: #999; background: #fff">pale</p>', "color-contrast"),
        (rules, '<input type="range">', "label"),
        (rules, '<div role="list" class="mine"><p>x</p></div>', "aria-required-children"),
        (
            harness.fold_problems,
            '<details class="sd-dropdown"><summary>Proof</summary></details>',
            "folds nothing",
        ),
        (
            harness.fold_problems,
            '<details class="hide"><summary>Code</summary><p>x</p></details>' * 5
            + '<details class="hide"><summary onclick="return false">Code</summary><p>x</p></details>',
            "does not open",
        ),
        (
            harness.fold_problems,
            '<details style="pointer-events: none"><summary>Code</summary><p>x</p></details>',
            "does not open",
        ),
        (
            harness.fold_problems,
            '<div class="admonition toggle toggle-hidden"><p class="admonition-title">Solution</p><p>x</p></div>',
            "is not folded",
        ),
    ],
)
def test_a_planted_problem_is_found(
    show: Any, check: Any, planted: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "PATIENCE", 1000)  # a planted hang need not be waited for
    page = show(CLEAN + planted).page
    page.set_viewport_size(harness.PHONE)
    found = check(page)
    assert found
    assert all(expected in problem for problem in found), found


UNFOLD = """<script>
const folds = () => document.querySelectorAll("details"), html = document.documentElement;
addEventListener("beforeprint", () => {{ html.dataset.theme = "light"; folds().forEach(e => e.open = true); }});
{}</script>"""
HIDDEN = '<div class="admonition toggle"><p class="admonition-title">S</p><p style="visibility: hidden">x</p></div>'


@pytest.mark.parametrize(
    ("planted", "expected"),
    [
        (
            UNFOLD.format(
                "addEventListener('afterprint', () => folds().forEach(e => e.open = false));"
            ),
            [],
        ),
        (UNFOLD.format(""), ["printing leaves folds open"]),
        (
            HIDDEN + SLIDER.format(pixel=PIXEL, event="input", body=""),
            [
                "folded on paper",
                "hidden on paper",
                "a slider that is no picture on paper",
                "paper is not light",
            ],
        ),
        (
            UNFOLD.format(
                "addEventListener('afterprint', () => folds().forEach(e => e.open = false));"
            )
            + '<figure class="companion-editor"><img alt="x"><input type="range"></figure>',
            ["an editor that is no picture on paper"],
        ),
    ],
)
def test_what_is_missing_on_paper_is_found(show: Any, planted: str, expected: list[str]) -> None:
    assert [
        problem.split(":")[0] for problem in harness.print_problems(show(CLEAN + planted).page)
    ] == expected


def test_contrast_is_judged_in_each_theme(show: Any) -> None:
    style = "body { background: #111; transition: all 1s } html[data-theme=dark] p { color: #222 }"
    page = show(
        f"<style>html[data-theme=dark] {style}</style><h1 style='color: #777'>Heading</h1><p>text</p>"
    ).page
    harness.use_theme(page, "light")
    assert colors(page) == []
    harness.use_theme(page, "dark")
    assert ["color-contrast" in problem for problem in colors(page)] == [True]


def test_what_was_legible_on_another_page_is_judged_no_more_and_what_was_not_again(
    show: Any,
) -> None:
    judged: set[str] = set()
    pale = "<h1>Heading</h1><p>text</p><p style='color: #bbb'>pale</p>"
    for body, problems in (("<h1>Heading</h1>", 0), (pale, 1), ("<p>text</p>", 0), (pale, 1)):
        page, before = show(body).page, len(judged)
        assert len(harness.axe_problems(page, only_colors=True, judged=judged)) == problems
        assert (len(judged) > before) == (not problems)
    assert len(page.evaluate("judged => [...bookChecks.looks(judged).keys()]", sorted(judged))) == 1


def test_every_color_of_code_is_judged_once(show: Any) -> None:
    pale = "<style>.c { color: #bbb } .cell_output { background: #ddd; color: #aaa }</style>"
    block = (
        '<div class="{}"><div class="highlight"><pre><span class="k">if</span> {}</pre></div></div>'
    )
    comment = '<span class="c"># pale</span>'
    inside = [
        block.format("cell_input", ""),
        block.format("cell_input", comment),
        block.format("cell_input", comment),
    ]
    page = show("<h1>Code</h1>" + pale + "".join(inside) + block.format("cell_output", "") * 2).page
    problems = colors(page)
    assert [problem.count("# pale") for problem in problems] == [1, 0]
    assert "cell_output" in problems[1]


def test_text_of_one_look_is_judged_once_and_any_other_too(show: Any) -> None:
    style = "<style>b { color: #bbb } .pale { color: #aaa } .dim { opacity: 0.3 } div p i { color: #999 }</style>"
    inside = [
        *3 * ["<p>text with <i>words</i></p>"],
        *3 * ["<p>text with <b>a pale word</b></p>"],
        *2 * ["<p class='pale'>pale text</p>"],
        *2 * ["<blockquote><p>text with <b>a pale word</b></p></blockquote>"],
        *2 * ["<table><tr><td class='dim'>a dim cell</td></tr></table>"],
        *2 * ["<div><p>text with <i>pale words</i></p></div>"],
        *2 * ["<ul><li>text</li></ul>"],
        *2 * ["<h2>text with <b>a pale word</b></h2>"],
        *2 * ['<div class="math"><math class="pale"><mtext>sign</mtext></math></div>'],
    ]
    page = show("<h1>Text</h1>" + style + "".join(inside)).page
    before = page.content()
    found = [problem.partition("<")[2] for problem in colors(page)]
    assert [text.partition(">")[0] for text in found] == [
        *("b", 'p class="pale"', "b", 'td class="dim"', "i", "b", "mtext"),
    ]
    assert sorted(problem.partition("<")[2] for problem in rules(page)) == sorted(found)
    assert page.content().replace(' class="axe"', "") == before


@pytest.mark.parametrize(
    ("first", "planted"),
    [
        ("<p>text</p>", "<div style='opacity: 0.3'><p>text</p></div>"),  # it stands on other ground
        ("<p>text</p>", "<div style='background: rgba(0, 0, 0, 0.6)'><p>text</p></div>"),
        ("<p>text</p>", "<div style='background: #333'><div><p>text</p></div></div>"),
        ("<p><b class='pale'>x</b></p>", "<p><b class='pale'>word</b></p>"),  # axe judges no sign
        ("<div hidden><p class='pale'>text</p></div>", "<p class='pale'>text</p>"),
        ("<details><summary>S</summary><p class='pale'>x y</p></details>" * 2, "<p class='pale'>text</p>"),
        ("<p><a href='#'>alone</a></p>", "<p>a link <a href='#'>among</a> words</p>"),
    ],
)  # fmt: skip
def test_what_only_seems_to_be_judged_already_is_found(show: Any, first: str, planted: str) -> None:
    style = "<style>.pale { color: #bbb } a { color: #222; text-decoration: none }</style>"
    page = show(f"<h1>Text</h1>{style}{first}").page
    assert colors(page) == []
    assert len(colors(show(f"<h1>Text</h1>{style}{first}{planted}").page)) == 1


def test_a_figure_is_judged_in_its_place_and_nothing_else_is(show: Any) -> None:
    style = "<style>html[data-theme=dark] section { background: #555 } b { color: #bbb }</style>"
    figure = '<figure id="mine"><span>text</span> {}<input type="range" {}></figure>'
    around = "<h1>Text</h1><section><p><b>pale</b> <i>words</i></p>{}<p>more</p></section>"
    named = 'aria-label="level"'
    page = show(style + around.format(figure.format("", named))).page
    before = page.content()
    harness.use_theme(page, "light")
    assert harness.figure_problems(page, "mine") == []
    harness.use_theme(page, "dark")
    for only_colors in (False, True):
        (found,) = harness.figure_problems(page, "mine", only_colors)
        assert found.startswith("color-contrast: <span>text")
    assert page.inner_html("main") == before.partition("<main>")[2].partition("</main>")[0]
    harness.use_theme(page, "light")
    page = show(style + around.format(figure.format("<b>pale</b>", ""))).page
    found = harness.figure_problems(page, "mine")
    assert sorted(problem.partition(":")[0] for problem in found) == ["color-contrast", "label"]
    assert len(harness.figure_problems(page, "mine", only_colors=True)) == 1


FORMULA = '<span class="math"><math style="{}"><mrow {}><mtext>sign</mtext></mrow></math></span>'


def test_formulas_of_one_kind_are_judged_once_and_stay(show: Any) -> None:
    wide = FORMULA.format("display: block; overflow: auto; width: 9px", "")
    pale = [FORMULA.format("", 'style="color: #bbb"')] * 2
    plain = [FORMULA.format("", "")] * 2
    dim = f'<p style="color: #aaa">{FORMULA.format("", "")}</p>'
    body = "<h1>Formulas</h1>" + "".join([*plain, *pale, dim, wide, wide])
    page = show(body).page
    before = page.content()
    problems = rules(page)
    assert [p.split(" ")[0] for p in problems].count("color-contrast") == 2
    assert [p.split(" ")[0] for p in problems].count("scrollable-region-focusable") == 1
    taken = (
        "() => { bookChecks.takeRepeated(); const n = document.querySelectorAll('mtext').length;"
    )
    assert page.evaluate(taken + " bookChecks.putBack(); return n; }") == 4  # of seven
    assert page.content().replace(' class="axe"', "") == before


def test_a_working_slider_has_no_problem(show: Any) -> None:
    page = show(SLIDER.format(pixel=PIXEL, event="input", body=MOVES)).page
    assert harness.slider_problems(page, page.locator("figure")) == []


@pytest.mark.parametrize(
    ("event", "body", "expected"),
    [
        ("input", "", "End does not change the picture"),
        ("keyup", MOVES, "dragging does not change the picture"),
        ("pointerup", MOVES, "ArrowRight does not change the alt text"),
        ("focus", f"{MOVES} i.style.outline = 'none';", "the focus cannot be seen"),
        ("input", MOVES.replace(".alt =", ".title ="), "End does not change the alt text"),
        ("input", MOVES.replace("textContent", "title"), "End does not change the read-out"),
    ],
)
def test_a_broken_slider_is_found(show: Any, event: str, body: str, expected: str) -> None:
    page = show(SLIDER.format(pixel=PIXEL, event=event, body=body)).page
    problems = harness.slider_problems(page, page.locator("figure"))
    assert any(expected in problem for problem in problems), problems


@pytest.fixture
def editor() -> str:
    """The HTML of a working editor, whose script the tests break."""

    def draw(dim: int, red: int) -> np.ndarray:
        return np.full((4, 6, 3), [red / 3, dim / 2, 0.5])

    label = {"dim <&>": "{}", "red": ["no", "some", "more", "all"].__getitem__}
    axes = {"dim <&>": range(3), "red": range(4)}
    return Editor(axes, draw, alt="dim {}, red {}", label=label).html()


@pytest.mark.parametrize("window", [harness.WIDE, harness.PHONE])
def test_a_slider_of_the_book_has_no_problem(show: Any, window: Any) -> None:
    def draw(level: int) -> np.ndarray:
        return np.full((20, 30), level / 3)

    slider = Slider(range(4), draw, description="level <&>", alt="gray {}", start=1).html()
    visit = show("<h1>The same slider twice</h1>" + slider + slider)
    page = visit.page
    page.set_viewport_size(window)
    checks = harness.picture_problems, harness.width_problems, harness.tab_problems, rules
    assert [problem for check in checks for problem in check(page)] == []
    for figure in page.locator("figure").all():
        assert harness.slider_problems(page, figure) == []
    assert visit.problems == []


def test_a_film_plays_to_its_end_stops_and_starts_anew(show: Any) -> None:
    from playwright.sync_api import expect

    expect.set_options(timeout=harness.PATIENCE)

    def draw(level: int) -> np.ndarray:
        return np.full((20, 30), level / 7)

    film = Film(range(8), draw, description="level", alt="gray {}").html()
    visit = show("<h1>A film</h1>" + film)
    page = visit.page
    button, output, image = page.locator("button"), page.locator("output"), page.locator("img")
    assert harness.slider_problems(page, page.locator("figure")) == []
    page.locator("input").fill("2")
    button.click()
    expect(button).to_have_text("Pause")
    expect(output).to_have_text("7")
    expect(button).to_have_text("Play")
    expect(image).to_have_attribute("alt", "gray 7")
    button.click()  # from the end it begins anew
    expect(output).not_to_have_text("7")
    page.locator("input").press("Home")  # a hand on the slider stops it
    expect(button).to_have_text("Play")
    assert visit.problems == []


@pytest.mark.parametrize("window", [harness.WIDE, harness.PHONE])
def test_a_working_editor_has_no_problem(show: Any, editor: str, window: Any) -> None:
    visit = show("<h1>Two editors</h1>" + editor + editor)
    page = visit.page
    page.set_viewport_size(window)
    checks = harness.picture_problems, harness.width_problems, harness.tab_problems, rules
    assert [problem for check in checks for problem in check(page)] == []
    for figure in page.locator("figure").all():
        assert harness.editor_problems(page, figure) == []
    assert visit.problems == []


@pytest.mark.parametrize(
    ("part", "broken", "expected"),
    [
        ("input.oninput", "input.title", "red: the key End does not change the picture"),
        ("oninput = ", "onkeyup = ", "dim <&>: dragging does not change the read-out"),
        ("oninput = ", "onpointerup = ", "red: the key ArrowRight does not change the alt"),
        ("sheet.style.left", "sheet.title", "red: the key End does not change the picture"),
        ("i * labels[k].length", "0", "dim <&>: the key End does not change the picture"),
        ("sheet.alt =", "image.lang =", "red: the key Home does not change the alt text"),
        ("outputs[axis].", "outputs[0].", "red: dragging does not change the read-out"),
        ("outputs[axis].", "outputs[0].", "red: it moves another slider"),
        ('"aria-valuetext", text', '"title", text', "does not change the spoken value"),
        ("</label>", "</label><output></output>", "4 elements of the kind: read-out"),
        ("<img", "<img><img", "2 elements of the kind: picture"),
        ('type="range"', 'type="number"', "0 elements of the kind: control"),
        ("width:228px", "width:0", "the picture takes 0 x 0 px"),
    ],
)
def test_a_broken_editor_is_found(
    show: Any, editor: str, part: str, broken: str, expected: str
) -> None:
    assert part in editor
    page = show(editor.replace(part, broken)).page
    problems = harness.editor_problems(page, page.locator("figure"))
    assert any(expected in problem for problem in problems), problems


def test_an_editor_shows_each_frame_and_one_tile(show: Any) -> None:
    rng = np.random.default_rng(0)
    shades = rng.choice(256, (3, 4, 5, 5, 7))
    frames = shades.astype(np.uint8)
    axes = {"a": range(3), "b": range(4), "c": range(5)}
    editor = Editor(
        axes,
        lambda *place: frames[place],
        alt=lambda *place: f"frame {np.ravel_multi_index(place, (3, 4, 5))}",
        start=[0, 1, 2],
    )
    page = show(editor.html()).page
    controls, picture = page.locator("input").all(), page.locator("img")
    for window, place in ((harness.WIDE, (2, 0, 4)), (harness.PHONE, (1, 3, 0))):
        page.set_viewport_size(window)
        for control, value in zip(controls, place):
            control.fill(str(value))
        box = picture.locator("..").bounding_box()
        assert (box["width"], box["height"]) == (224, 160)  # 32 px for each pixel
        image = Image.open(io.BytesIO(page.screenshot(clip=box))).convert("L")
        seen = np.asarray(image)[16::32, 16::32]
        assert np.array_equal(seen, shades[place])
        whole = np.asarray(image)[8:-8, 8:-8]  # without the round corners
        assert np.array_equal(whole, shades[place].repeat(32, 0).repeat(32, 1)[8:-8, 8:-8])
        index = np.ravel_multi_index(place, (3, 4, 5))
        assert picture.get_attribute("alt") == f"frame {index}"


def test_an_editor_asks_for_its_sheet_when_it_comes_near(show: Any, editor: str) -> None:
    page = show('<p style="height: 3000px">Above</p>' + editor).page
    names = "() => Array.from(document.images, image => image.naturalWidth)"
    page.wait_for_timeout(300)
    assert page.evaluate(names) == [6]  # one frame
    page.evaluate("() => scrollTo(0, 2000)")
    page.wait_for_function("() => document.images[0].naturalWidth > 6")
    assert len(page.evaluate(names)) == 1


def test_an_editor_without_its_sheet_or_a_script_shows_the_start(show: Any, editor: str) -> None:
    script = editor[editor.index("<script>") : editor.index("</script>")]
    page = show(editor.replace(script, "<script>")).page
    picture = page.locator("img")
    assert picture.bounding_box()["width"] == 228
    assert picture.get_attribute("alt") == "dim 1, red 2"
    assert page.evaluate("() => document.images[0].naturalWidth") == 6


def test_redirects_and_theme_files_are_no_pages(tmp_path: Path) -> None:
    (tmp_path / "_static").mkdir()
    (tmp_path / "_static" / "macros.html").write_text("x", "utf8")
    (tmp_path / "index.html").write_text(
        '<meta http-equiv="Refresh" content="0; url=book/index.html" />', "utf8"
    )
    (tmp_path / "a.html").write_text("<p>x</p>", "utf8")
    assert harness.page_names(tmp_path) == ["a.html"]
    assert harness.redirect(tmp_path / "index.html") == "book/index.html"
