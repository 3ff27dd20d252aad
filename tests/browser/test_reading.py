"""What helps to read and to find, in a browser: the film, previews of links, the search in the list of equations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import harness
import pytest

reason = harness.why_not()
if reason:
    pytest.skip(reason, allow_module_level=True)

LANDING = harness.redirect(harness.SITE / "index.html") or "index.html"
CHAPTER = next((harness.SITE / "notebooks").glob("*_elbo.html")).name


@pytest.fixture
def fresh(context: Any, base: str) -> Iterator[harness.Visit]:
    visit = harness.Visit(context.new_page(), base)
    yield visit
    visit.page.close()


def test_the_film_plays_pauses_and_can_be_moved(fresh: harness.Visit) -> None:
    fresh.page.emulate_media(reduced_motion="reduce")
    fresh.open(LANDING)
    film = fresh.page.locator(".book-film")
    image, button, frame = film.locator("img"), film.locator("button"), film.locator("input")
    at = "image => getComputedStyle(image).objectPosition"
    last = frame.get_attribute("max")
    assert (
        image.evaluate(at) == "50% 100%" and frame.input_value() == last
    )  # nothing moves by itself
    frame.focus()
    fresh.page.keyboard.press("Home")
    assert image.evaluate(at) == "50% 0%" and "1000" in film.locator("output").inner_text()
    button.click()
    fresh.page.wait_for_function("() => document.querySelector('.book-film input').value > 2")
    button.click()
    stopped = frame.input_value()
    fresh.page.wait_for_timeout(400)
    assert frame.input_value() == stopped != last
    box = image.bounding_box()
    assert box["width"] / box["height"] == pytest.approx(5, rel=0.05)  # one frame and not the strip
    assert fresh.problems == []


@pytest.mark.xdist_group("links")
@pytest.mark.parametrize("visit", [f"notebooks/{CHAPTER}"], indirect=True)
@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("a.reference.internal[href^='#equation-']", "math"),
        ("a.reference.internal[href*='glossary.html#term-']", "dt"),
        ("a.reference.internal[href*='bibliography.html#']", ".citation, p"),
        ("a.reference.internal[href^='#fig-']", "img"),
    ],
)
def test_a_link_shows_what_it_leads_to(visit: harness.Visit, link: str, expected: str) -> None:
    anchor = visit.page.locator(f"article {link}").locator("visible=true").first
    anchor.scroll_into_view_if_needed()
    anchor.focus()
    card = visit.page.locator("#book-preview")
    card.wait_for(state="visible")
    assert card.locator(expected).count() > 0
    assert expected == "img" or card.inner_text().strip()
    assert anchor.get_attribute("aria-describedby") == "book-preview"
    box = card.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= harness.WIDE["width"]
    visit.page.keyboard.press("Escape")
    assert not card.is_visible() and anchor.get_attribute("aria-describedby") is None
    assert visit.problems == []


def test_a_link_is_a_link_where_its_page_cannot_be_fetched(fresh: harness.Visit) -> None:
    fresh.open(f"notebooks/{CHAPTER}")
    fresh.page.evaluate("() => { window.fetch = () => Promise.reject(new Error('offline')); }")
    fresh.page.locator("article a[href*='glossary.html#term-']").first.focus()
    fresh.page.wait_for_timeout(600)
    assert not fresh.page.locator("#book-preview").is_visible()
    assert not [problem for problem in fresh.problems if "page error" in problem]


def test_the_list_of_equations_can_be_searched(fresh: harness.Visit) -> None:
    fresh.open("book/ledger.html")
    rows = fresh.page.locator("table.ledger tbody tr")
    count = rows.count()
    fresh.page.locator("input[data-filters]").fill("monte carlo")
    hits = rows.locator("visible=true").count()
    assert 0 < hits < count
    assert all("Monte Carlo" in text for text in rows.locator("visible=true").all_inner_texts())
    fresh.page.locator("input[data-filters]").fill("")
    assert rows.locator("visible=true").count() == 0  # folded again


def test_a_mistake_turns_into_the_right_form(fresh: harness.Visit) -> None:
    fresh.open("book/errata.html")
    tabs = fresh.page.locator(".sd-tab-set").first
    contents = tabs.locator(".sd-tab-content")
    assert contents.nth(0).is_visible() and not contents.nth(1).is_visible()
    tabs.locator("label").nth(1).click()
    assert contents.nth(1).is_visible() and not contents.nth(0).is_visible()
