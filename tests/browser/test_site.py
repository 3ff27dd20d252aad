"""Every page of the built book, in a browser: it opens, typesets, moves, folds, and fits a phone.

What can be read from the files alone (links, alt texts, markup left over) is tested in test_built_site.py.
"""

from __future__ import annotations

import re
from typing import Any

import harness
import pytest

if reason := harness.why_not():
    pytest.skip(reason, allow_module_level=True)

LONGEST = [
    "book/ledger.html",
    "book/api.html",
]  # first, so that no process waits for one at the end
PAGES = sorted(harness.page_names(harness.SITE), key=lambda name: name not in LONGEST)
SOURCES = {name: (harness.SITE / name).read_text("utf8") for name in PAGES}
LANDING = harness.redirect(harness.SITE / "index.html") or "index.html"
SLIDER = re.compile(r'<figure[^>]*\bclass="[^"]*companion-slider')
MOVES = re.compile(r'<figure[^>]*\bclass="[^"]*companion-(?:slider|editor)')
INSTRUMENT = re.compile('class="book-instrument"')
CHAPTER = re.compile(r"pagename = 'notebooks/\d")
JUDGED: set[str] = set()  # looks of text, in both themes, that axe found legible
FOLD = re.compile(r"<details|class=\"[^\"]*\badmonition\b[^\"]*\b(?:dropdown|toggle)\b")


def having(pattern: re.Pattern[str]) -> Any:
    """The pages whose source has the pattern; all tests of a page go to one worker, which opens it once."""
    names = [name for name in PAGES if pattern.search(SOURCES[name])]
    pages = [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in names]
    return pytest.mark.parametrize("visit", pages, indirect=True)


each_page = having(re.compile(""))


def test_the_book_has_what_is_tested() -> None:
    everything = "".join(SOURCES.values())
    assert len(PAGES) >= 4, PAGES
    assert 'class="math' in everything
    assert SLIDER.search(everything), "no page has a slider"
    assert FOLD.search(everything), "no page has a folded block"


@each_page
def test_it_opens_whole(visit: harness.Visit) -> None:
    """Without errors, with one heading, its mathematics typeset and its pictures loaded."""
    problems = visit.problems + harness.math_problems(visit.page)
    assert problems + harness.picture_problems(visit.page) == []
    assert visit.page.locator("h1:visible").count() == 1


@having(CHAPTER)
def test_a_chapter_opens_with_little(visit: harness.Visit) -> None:
    """What a first visit loads before it scrolls: at most 1.1 MB, without compression on the way."""
    assert len(visit.first) > 5 and sum(visit.first) <= 1_100_000, sum(visit.first)


@each_page
def test_it_is_accessible(visit: harness.Visit) -> None:
    harness.use_theme(visit.page, "light")
    assert harness.axe_problems(visit.page, judged=JUDGED) == []


@each_page
def test_its_colors_are_legible_in_the_dark(visit: harness.Visit) -> None:
    harness.use_theme(visit.page, "dark")
    problems = harness.axe_problems(visit.page, only_colors=True, judged=JUDGED)
    harness.use_theme(visit.page, "light")
    assert problems == []


@each_page
def test_it_fits_a_phone(visit: harness.Visit) -> None:
    """And text in pictures can be read there."""
    visit.page.set_viewport_size(harness.PHONE)
    problems = harness.width_problems(visit.page) + harness.cut_problems(visit.page)
    sizes = harness.picture_text(visit.page)
    visit.page.set_viewport_size(harness.WIDE)
    problems += [f"{size:.1f} px: {name}" for name, size, _ in sizes if size < 9]
    problems += [f"cannot be scrolled to: {name}" for name, _, reached in sizes if not reached]
    assert problems == []
    assert sizes or not visit.page.locator("img[data-text]").count()


@each_page
def test_the_tab_key_stops_where_it_should(visit: harness.Visit) -> None:
    assert harness.tab_problems(visit.page) == []


@having(FOLD)
def test_nothing_is_missing_on_paper(visit: harness.Visit) -> None:
    assert harness.print_problems(visit.page) == []


@having(FOLD)
def test_folded_blocks_open_on_a_click(visit: harness.Visit) -> None:
    assert harness.fold_problems(visit.page) == []


@having(MOVES)
def test_sliders_change_the_picture(visit: harness.Visit) -> None:
    sliders = visit.page.locator("figure.companion-slider").all()
    editors = visit.page.locator("figure.companion-editor").all()
    assert sliders or editors
    with harness.only_figures(visit.page):
        problems = [p for figure in sliders for p in harness.slider_problems(visit.page, figure)]
        problems += [p for figure in editors for p in harness.editor_problems(visit.page, figure)]
    assert problems == []


@having(INSTRUMENT)
def test_instruments_wake_in_their_chapter(visit: harness.Visit) -> None:
    """Or wait to be asked. What else they must do is tested where a figure stands alone, in test_instruments.py."""
    boxes = visit.page.locator("figure > .book-instrument").all()
    assert boxes
    for box in boxes:
        if box.get_attribute("data-start") == "click":
            box.get_by_role("button", name="Try it").click(trial=True)
        else:
            harness.wake(box.locator(".."))


@each_page
def test_nothing_failed_while_it_was_used(visit: harness.Visit) -> None:
    assert visit.problems == []


def test_a_hundred_columns_of_code_fit_a_screen_of_1280_pixels(fresh: harness.Visit) -> None:
    chapter = next(name for name in PAGES if name.startswith("notebooks/"))
    scroll_bar = 15
    fresh.page.set_viewport_size(harness.WIDE | {"width": 1280 - scroll_bar})
    fresh.open(chapter)
    code = fresh.page.locator(".cell_input pre:visible").first
    code.evaluate("pre => { pre.textContent = 'x'.repeat(100); }")
    assert code.evaluate("pre => pre.scrollWidth <= pre.clientWidth")


def test_the_top_address_leads_to_the_landing_page(fresh: harness.Visit, base: str) -> None:
    fresh.page.goto(base)
    fresh.page.wait_for_url(base + LANDING)
    assert fresh.page.locator("h1:visible").count() == 1


def test_the_buttons_of_the_landing_page_work(fresh: harness.Visit, base: str) -> None:
    buttons = fresh.page.locator("article a.sd-btn, article .sd-card a")
    fresh.open(LANDING)
    targets = [button.get_attribute("href") or "" for button in buttons.all()]
    assert not [target for target in targets if target.startswith("http:")], (
        "an unprotected address"
    )
    inside = [index for index, target in enumerate(targets) if not target.startswith("https:")]
    assert inside, "the landing page has no button or card that leads into the book"
    for index in inside:
        fresh.open(LANDING)
        buttons.nth(index).click()
        fresh.page.wait_for_load_state("load")
        assert fresh.page.url != base + LANDING, f"the button {targets[index]} leads nowhere"
        assert fresh.page.locator("h1:visible").count() == 1
    assert fresh.problems == []


def test_search_finds_the_autoencoder(fresh: harness.Visit) -> None:
    fresh.open("search.html?q=autoencoder")
    fresh.page.wait_for_selector("#search-results li a")
    hits = fresh.page.locator("#search-results li a").all_inner_texts()
    assert any("autoencoder" in hit.lower() for hit in hits), hits
    assert fresh.problems == []


def test_the_theme_button_switches_to_dark(fresh: harness.Visit) -> None:
    fresh.open(LANDING)
    themes = set()
    for mode in ("light", "dark", "auto"):
        fresh.page.locator("button.theme-switch-button:visible").first.click()
        entry = fresh.page.locator(f".theme-change-button[data-mode={mode}]:visible")
        if entry.count():  # a newer theme has a menu, an older goes from one to the next
            entry.first.click()
        themes.add(fresh.page.evaluate("() => document.documentElement.dataset.theme"))
    assert themes == {"light", "dark"}
