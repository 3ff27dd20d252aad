"""What helps to read and to find, in a browser: the film, previews of links, the search in the list of equations."""

from __future__ import annotations

from typing import Any

import harness
import pytest

if reason := harness.why_not():
    pytest.skip(reason, allow_module_level=True)

LANDING = harness.redirect(harness.SITE / "index.html") or "index.html"
CHAPTER = next((harness.SITE / "notebooks").glob("*_elbo.html")).name


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


ANSWERS = [
    ("03_elbo", "shift", ["0.5475"], True, "Right: it does not depend on x."),
    ("03_elbo", "shift", [" 219/400 "], True, "Right"),
    ("03_elbo", "shift", ["0.55"], False, "Close"),
    ("03_elbo", "shift", ["−0.5475"], False, "the sign is not"),
    ("03_elbo", "shift", ["0.125"], False, "that is too small. The gap is the KL divergence"),
    ("03_elbo", "shift", ["1,000"], False, "that is too large"),
    ("03_elbo", "shift", ["0,5"], None, "with a point"),
    ("03_elbo", "shift", [" "], None, "Write a number first"),
    ("05_gaussian_toys", "price", ["392", "5.0508e-2"], True, "Right"),
    ("05_gaussian_toys", "price", ["784", "0.0505"], False, "1 of 2 numbers differ"),
    ("05_gaussian_toys", "price", ["392", ""], None, "in each field"),
    ("04_reparameterization", "root", ["2", "0", "1", "2"], True, "Right"),
    ("04_reparameterization", "root", ["2", "1", "0", "2"], False, "2 of 4 numbers differ"),
]


@pytest.mark.parametrize("chapter", dict.fromkeys(chapter for chapter, *_ in ANSWERS))
def test_numbers_are_right_or_wrong_in_the_page(fresh: harness.Visit, chapter: str) -> None:
    """By keyboard alone, on a phone too; what is said goes when something else is typed."""
    fresh.page.set_viewport_size(harness.PHONE)
    fresh.page.goto(f"{fresh.base}notebooks/{chapter}.html")
    for _, name, numbers, right, words in (row for row in ANSWERS if row[0] == chapter):
        form = fresh.page.locator(f"#answer-{name}")
        fields, output = form.locator("input"), form.locator("output[role=status]")
        fields.first.focus()
        for at, number in enumerate(numbers):
            if at:
                fresh.page.keyboard.press("Tab")
            fresh.page.keyboard.press("Control+A")
            fresh.page.keyboard.press("Delete")
            fresh.page.keyboard.type(number)
        assert output.text_content() == ""
        fresh.page.keyboard.press("Enter")
        said = output.inner_text()
        assert words in said, (numbers, said)
        assert said[0] == {True: "✓", False: "✗", None: "W"}[right]
        for part in form.locator("input, button").all():
            box = part.bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= harness.PHONE["width"]
            assert box["height"] >= 32
    assert fresh.problems == []


def test_without_scripts_there_is_no_field(browser: Any, base: str) -> None:
    context = browser.new_context(viewport=harness.PHONE, java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{base}notebooks/03_elbo.html")
    assert page.locator("form.book-answer").count() == 2
    assert page.locator("form.book-answer:visible").count() == 0
    context.close()


def test_the_caption_of_a_film_says_what_is_seen(fresh: harness.Visit) -> None:
    fresh.page.goto(f"{fresh.base}notebooks/09_diffusion_elbo.html")
    figures = fresh.page.locator(".companion-slider, .companion-editor")
    numbers = figures.locator(".caption-number").all_inner_texts()
    assert [number.split()[1] for number in numbers] == [f"9.{i + 1}" for i in range(len(numbers))]
    film = figures.first
    assert numbers[0].startswith("Film") and film.get_by_role("button").inner_text() == "Play"
    words = film.locator(".caption-text")
    before = words.inner_text()
    film.locator("input").focus()
    fresh.page.keyboard.press("ArrowRight")
    fresh.page.wait_for_function(
        "before => document.querySelector('.companion-slider .caption-text').innerText !== before",
        arg=before,
    )
    assert words.inner_text() == film.locator("img").get_attribute("alt") + "."
