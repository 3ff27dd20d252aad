"""The built book, read as files: links, resources, pictures, numbers. Builds nothing; `make structure` does."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import nbformat
import numpy as np
import pytest
from PIL import Image

from book.pages import mistakes
from bookkit.authoring import cell_syntax, chapter_rules, labels, notebooks, roles, setup_cell
from bookkit.site import opening, source_text

ROOT = Path(__file__).resolve().parents[1]
SITE = Path(os.environ.get("COMPANION_SITE", ROOT / "_build" / "html")).resolve()

if not (SITE / "index.html").is_file():
    pytest.skip(
        "no built book: run `make book`, or set COMPANION_SITE to the built folder",
        allow_module_level=True,
    )

BOOK = labels.Book(ROOT)
PAGES = sorted(
    path.relative_to(SITE).as_posix()
    for path in SITE.rglob("*.html")
    if not {"_static", "_sources"} & set(path.relative_to(SITE).parts)
)
MADE_BY_SPHINX = {"genindex.html", "search.html", "index.html"}
LOADS = {
    "script": "src",
    "img": "src",
    "source": "src",
    "iframe": "src",
    "audio": "src",
    "video": "src",
    "embed": "src",
}
LOADING_LINKS = {
    "stylesheet",
    "preload",
    "icon",
    "shortcut icon",
    "modulepreload",
    "preconnect",
    "dns-prefetch",
}

VOID = {"area", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"}
VERBATIM = {"pre", "code", "script", "style", "textarea"}
IN_A_LINE = {"a", "abbr", "b", "em", "i", "span", "strong", "sub", "sup"}
NO_DESCRIPTION = re.compile(
    r"^\s*$|\.(png|svg|jpe?g|gif|webp)\s*$|_images/|^<Figure|^(image|figure|picture|plot|png|output)\s*\d*$",
    re.IGNORECASE,
)
RAW_TEX = re.compile(r"\\\(|\\\[|\\begin\{|\$[^$\n]*[\\_^][^$\n]*\$")

each_page = pytest.mark.parametrize("name", PAGES)
each_chapter = pytest.mark.parametrize("page", BOOK.notebooks(), ids=lambda page: page.docname)


@dataclass
class Read(HTMLParser):
    """What a page links to, loads, shows, can be linked at, and says outside of code, signatures and formulas."""

    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    alts: list[tuple[str, str | None]] = field(default_factory=list)
    prose: str = ""
    inside: list[str] = field(default_factory=list)  # the tags of a verbatim element, from outside

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if self.inside and tag not in VOID:
            self.inside.append(tag)
        elif tag in VERBATIM or {"math", "sig"}.intersection((values.get("class") or "").split()):
            self.inside = [tag]
            self.prose += "..."
        elif tag not in IN_A_LINE:
            self.prose += "\n"
        if values.get("id"):
            self.ids.append(values["id"] or "")
        if tag == "a" and values.get("href"):
            self.links.append(values["href"] or "")
        if tag == "img":
            self.alts.append((values.get("src") or "", values.get("alt")))
        if tag in LOADS and values.get(LOADS[tag]):
            self.loads.append(values[LOADS[tag]] or "")
        if tag == "link" and values.get("rel") in LOADING_LINKS:
            self.loads.append(values.get("href") or "")

    def handle_endtag(self, tag: str) -> None:
        if tag in self.inside:
            del self.inside[len(self.inside) - 1 - self.inside[::-1].index(tag) :]

    def handle_data(self, data: str) -> None:
        self.prose += "" if self.inside else data


def parsed(html: str) -> Read:
    page = Read()
    page.feed(html)
    return page


@cache
def text(name: str) -> str:
    return (SITE / name).read_text("utf8")


@cache
def read(name: str) -> Read:
    return parsed(text(name))


def article(name: str) -> str:
    """The page's own text, without the theme around it."""
    return text(name).partition("<article")[2].partition("</article>")[0]


def local(name: str, address: str) -> Path | None:
    """The file an address of a page means; None if it leaves the site."""
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return None
    return (
        (SITE / name).parent.joinpath(unquote(parts.path)).resolve() if parts.path else SITE / name
    )


def problems_of_links(name: str) -> list[str]:
    found = []
    for address in read(name).links:
        path, anchor = local(name, address), urldefrag(address).fragment
        if path is None or address == "#":
            continue
        if path.is_dir():
            path = path / "index.html"
        if not path.is_file():
            found.append(f"{address}: no such file")
        elif anchor and path.suffix == ".html":
            target = path.relative_to(SITE).as_posix()
            if unquote(anchor) not in read(target).ids:
                found.append(f"{address}: no such anchor")
    return found


def problems_of_loads(name: str) -> list[str]:
    found = []
    for address in read(name).loads:
        path = local(name, address)
        if address.startswith("data:"):
            continue
        if path is None:
            found.append(f"{address}: from another host")
        elif not path.is_file():
            found.append(f"{address}: no such file")
    return found


# ------------------------------------------------------------------------------------------------ the pages


def test_every_page_of_the_contents_is_built() -> None:
    wanted = {f"{docname}.html" for docname in BOOK.pages}
    assert wanted <= set(PAGES)
    assert set(PAGES) - wanted <= MADE_BY_SPHINX


@each_page
def test_links_and_anchors_resolve(name: str) -> None:
    assert problems_of_links(name) == []


@each_page
def test_nothing_is_loaded_from_another_host_and_no_file_is_missing(name: str) -> None:
    assert problems_of_loads(name) == []
    inline = re.findall(r"(?:@import|url\()\s*['\"]?(?:https?:)?//[^'\")\s]+", text(name))
    assert inline == []


def test_style_sheets_load_nothing_from_another_host() -> None:
    sheets = {
        path
        for name in PAGES
        for a in read(name).loads
        if (path := local(name, a)) and path.suffix == ".css"
    }
    assert len(sheets) >= 5
    for sheet in sheets:
        css = sheet.read_text("utf8")
        assert not re.findall(r"(?:@import|url\()\s*['\"]?(?:https?:)?//", css), sheet.name
        for target in re.findall(r"url\(\s*['\"]?([^'\")]+)", css):
            if not target.startswith(("data:", "#")):
                assert (sheet.parent / urlsplit(target).path).resolve().is_file(), (
                    f"{sheet.name}: {target}"
                )


def test_no_page_has_scripts_that_need_another_host() -> None:
    for name in PAGES:
        for word in (
            "thebe",
            "plausible",
            "require.min.js",
            "require.js",
            "embed-amd",
            "googletagmanager",
            "js" + "delivr",
        ):
            assert not any(word in address for address in read(name).loads), f"{name}: {word}"
            assert not re.search(rf"<script[^>]*>[^<]*{re.escape(word)}\.", text(name)), (
                f"{name}: {word}"
            )


def problems_of_pictures(page: Read) -> list[str]:
    return [source[:80] for source, alt in page.alts if alt is None or NO_DESCRIPTION.search(alt)]


def problems_of_prose(page: Read) -> list[str]:
    """Markup that reaches the reader."""
    known = cell_syntax.LEFTOVERS | {"raw TeX": RAW_TEX}
    return [
        f"{what}: {m[0]}" for what, pattern in known.items() if (m := pattern.search(page.prose))
    ]


@each_page
def test_every_picture_says_what_it_shows(name: str) -> None:
    assert problems_of_pictures(read(name)) == []


@pytest.mark.parametrize("alt", ["", 'alt=""', 'alt="../_images/ab.png"', 'alt="Figure 3"'])
def test_a_picture_that_says_nothing_is_found(alt: str) -> None:
    assert problems_of_pictures(
        parsed(f"<img {alt} src='a.png'><img alt='A curve' src='b.png'>")
    ) == ["a.png"]


@each_page
def test_ids_are_unique(name: str) -> None:
    page = re.sub(r"<script\b.*?</script>", "", article(name), flags=re.DOTALL)
    ids = Counter(re.findall(r'\bid="([^"]+)"', page))
    assert [name for name, count in ids.items() if count > 1] == []


@each_page
def test_nothing_was_left_unresolved(name: str) -> None:
    page = text(name)
    assert "system-message" not in page and 'class="problematic"' not in page
    assert "UNVERIFIED" not in page
    assert problems_of_prose(parsed(article(name))) == []


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<p>so $$ x = 1 $$</p>", "a display that is never closed"),
        ("<p>so \\(x\\)</p>", "raw TeX"),
        ("<p>so $\\mu$ is</p>", "raw TeX"),
        ("<p>see {eq}`eq-elbo`</p>", "a role"),
        ("<p>see {prf:ref}`thm-a`</p>", "a role"),
        ("<div>a</div><p>:::{note}</p>", "a colon fence"),
        ("<p>(sec-elbo)=</p>", "a target"),
    ],
)
def test_markup_that_reaches_the_reader_is_found(html: str, expected: str) -> None:
    clean = '<p>Two $ and {braces}, <code>$$ x_1 $$</code>: <span class="math">\\(x\\)</span></p>'
    assert problems_of_prose(parsed(clean)) == []
    assert [problem.split(":")[0] for problem in problems_of_prose(parsed(clean + html))] == [
        expected
    ]


# ------------------------------------------------------------------------------------------------ the numbers


def numbered(kinds: str, html: str) -> list[str]:
    return re.findall(rf'class="caption-number">({kinds}) ([\d.]+) ?<', html)


@each_chapter
def test_equation_numbers_agree_between_book_notebook_and_ledger(page: labels.Page) -> None:
    html = article(f"{page.docname}.html")
    built = dict(re.findall(r'id="equation-([^"]+)">\s*<span class="eqno">\(([\d.]+)\)', html))
    own = {
        label: place.number
        for label, place in BOOK.equations().items()
        if place.docname == page.docname
    }
    assert built == own
    cells = nbformat.read(notebooks.path_of(BOOK, page), 4).cells
    markdown = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert re.findall(r"\\tag\{([\d.]+)\}", markdown) == list(own.values())
    ledger = article("book/ledger.html")
    for label, number in own.items():
        assert f'href="../{page.docname}.html#equation-{label}">({number})</a>' in ledger


@each_chapter
def test_theorem_exercise_and_figure_numbers_agree(page: labels.Page) -> None:
    html = article(f"{page.docname}.html")
    cells = nbformat.read(notebooks.path_of(BOOK, page), 4).cells
    markdown = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    kinds = "|".join(kind.title() for kind in [*labels.myst.PROOFS, "exercise"])
    assert numbered(kinds, html) == re.findall(rf"\*\*({kinds}) ([\d.]+)(?: \(.*\))?\*\*", markdown)
    figures = [number for _, number in numbered("Fig.", html)]
    assert figures == re.findall(r"^\*Fig\. (\d+\.\d+)\.", markdown, re.MULTILINE)
    own = {
        label: p
        for label, p in BOOK.places.items()
        if p.docname == page.docname and p.kind == "figure"
    }
    for label, place in own.items():
        assert re.search(
            rf'id="{label}".*?caption-number">Fig\. {re.escape(place.number)} <', html, re.DOTALL
        ), label


@each_chapter
def test_references_to_equations_show_the_number_of_their_label(page: labels.Page) -> None:
    found = re.findall(
        r'href="[^"#]*#equation-([^"]+)">\(([\d.]+)\)</a>', article(f"{page.docname}.html")
    )
    assert found
    assert [(label, number) for label, number in found if BOOK.places[label].number != number] == []


# ------------------------------------------------------------------------------------------------ what readers need


@each_chapter
def test_a_chapter_can_be_opened_on_colab_and_downloaded(page: labels.Page) -> None:
    html = text(f"{page.docname}.html")
    address = setup_cell.repository(ROOT, BOOK.repository)
    colab = "https://colab.research.google.com/github/"
    path = address.removeprefix("https://github.com/")
    assert (f"{colab}{path}/blob/{source_text.COLAB}/{page.docname}.ipynb" in html) == bool(address)
    assert (
        f"_sources/{page.docname}.ipynb" in html
        and (SITE / "_sources" / f"{page.docname}.ipynb").is_file()
    )


@each_page
def test_no_button_leads_to_a_placeholder(name: str) -> None:
    assert setup_cell.PLACEHOLDER not in text(name)


@each_chapter
def test_the_download_is_the_notebook_for_jupyter(page: labels.Page) -> None:
    """The page is made from MyST, but the file a reader downloads is the committed one, with the commit of the site."""
    download = nbformat.read(SITE / "_sources" / f"{page.docname}.ipynb", 4)
    stored = nbformat.read(notebooks.path_of(BOOK, page), 4)
    first = chapter_rules.code_cells(download)[0]
    commit = re.findall(rf"\b[0-9a-f]{{40}}\b|@{BOOK.branch}\b", first.source)[0].lstrip("@")
    address = setup_cell.repository(ROOT, BOOK.repository)
    pinned = setup_cell.setup_cell(page.path.stem, address, commit)
    assert cell_syntax.untitled(first.source) == pinned
    chapter_rules.code_cells(stored)[0].source = first.source
    assert download == stored


def words(html: str) -> str:
    """What a piece of HTML says, code included."""
    return unescape(re.sub(r"<[^>]+>", "", html))


@each_chapter
def test_the_page_has_all_code_but_imports(page: labels.Page) -> None:
    shown = words(article(f"{page.docname}.html"))
    stored = nbformat.read(notebooks.path_of(BOOK, page), 4)
    away = (roles.UNSEEN, roles.SHOWN)
    wanted = [cell for cell in roles.cells_of(stored).values() if cell.role not in away]
    assert [cell.index for cell in wanted if cell.source.strip() not in shown] == []
    assert cell_syntax.TITLE not in shown  # of a fold in the notebook; the page has its own


@each_chapter
def test_each_check_is_a_badge_at_its_equation(page: labels.Page) -> None:
    html = article(f"{page.docname}.html")
    assert not re.search(r"^(?:<[^>]+>)*verified (?:eq|def)-", html, re.MULTILINE)
    for check in labels.checks_of(page, nbformat.read(notebooks.path_of(BOOK, page), 4)):
        badge = html.partition(f'id="equation-{check.label}"')[2].partition("<details")[2]
        assert badge.partition(">")[0].endswith(f'id="check-{check.label}"'), check
        rule = check.text.partition("; rejects ")[0].replace("<=", "≤")
        assert rule in words(badge.partition("</details>")[0]), check


@each_chapter
def test_proofs_and_solutions_are_folded(page: labels.Page) -> None:
    html = article(f"{page.docname}.html")
    solutions = re.findall(r'<div class="(solution[^"]*)"', html)
    assert all("dropdown" in classes for classes in solutions)
    assert not re.findall(r"<details\b[^>]*\sopen\b[^>]*>", html)
    assert len(solutions) == sum(
        p.kind == "solution" and p.docname == page.docname for p in BOOK.places.values()
    )


def test_the_ledger_counts_what_the_book_has() -> None:
    claims = [label for label in BOOK.equations() if not label.startswith(labels.DEFINITION)]
    assert f"{len(claims)} of {len(claims)} claims are verified" in re.sub(
        r"<[^>]+>", "", article("book/ledger.html")
    )


def test_the_concordance_links_every_claim() -> None:
    html = article("book/concordance.html")
    for claim in BOOK.claims:
        assert f'{Path(claim.docname).name}.html#{claim.section}"' in html, claim


def test_the_ledger_leads_to_the_section_of_each_check() -> None:
    html = article("book/ledger.html").partition('id="sec-all-equations"')[2]
    found = labels.checks(BOOK)
    assert found
    for check in found:
        row = html.partition(f'#equation-{check.label}"')[2].partition("</tr>")[0]
        assert f'{Path(check.docname).name}.html#{check.section}"' in row, check


def test_errata_lead_to_the_section_that_recomputes_them() -> None:
    html = article("book/errata.html")
    for check in labels.checks(BOOK):
        for name in re.findall(r"\bE\d+\b", check.text.partition("rejects")[2]):
            entry = html.partition(f'id="erratum-{name.lower()}"')[2].partition('id="erratum-')[0]
            assert f'{Path(check.docname).name}.html#{check.section}"' in entry, name


def test_model_cards_speak_to_readers() -> None:
    html = article("book/models.html")
    cards = sorted((ROOT / "companion" / "weights").glob("*.json"))
    assert cards
    assert not re.findall(
        r"metric[ _](?:value|se)|peak[ _]memory[ _]mb|num[ _]parameters|sha256", html
    )
    for path in cards:
        card = json.loads(path.read_text("utf8"))
        section = html.partition(f'id="card-{path.stem}"')[2].partition("</details>")[0]
        shown = re.search(r"([\d,.]+) ± ([\d,.]+)", section)
        assert shown is not None, path.stem
        value, error = (float(number.replace(",", "")) for number in shown.groups())
        assert abs(error - card["metric_se"]) <= 0.05 * card["metric_se"]
        assert abs(value - card["metric_value"]) <= 0.05 * card["metric_se"]


# --------------------------------------------------------------------------------- what is found and shared


def test_the_landing_page_shows_every_chapter_and_leads_to_it() -> None:
    html = article("book/index.html")
    cards = re.findall(r'<a class="book-card" href="\.\./([^"]+)"><img[^>]* src="([^"]+)"', html)
    assert [address for address, _ in cards] == [f"{p.docname}.html" for p in BOOK.notebooks()]
    sizes = {(SITE / "book" / source).resolve().stat().st_size for _, source in cards}
    assert len(sizes) > 1 and max(sizes) < 12_000
    rows = re.findall(r"<tr.*?</tr>", html.partition('id="sec-routes"')[2], re.DOTALL)
    links = [re.findall(r'href="\.\./(notebooks/[^"]+)"', row) for row in rows[1:]]
    assert links[-1] == [address for address, _ in cards]
    assert all(0 < len(mine) < len(cards) for mine in links[:-1])


def test_a_shared_link_has_a_picture_in_the_form_that_is_asked_for() -> None:
    with Image.open(SITE / "_static" / "card.png") as image:
        assert image.size == (1200, 630)
        dark = np.asarray(image.convert("L")) < 64
    first, *_, last = np.split(dark[-72 - 211 : -72, 72 : 72 + 5 * 211], 5, axis=1)
    assert dark[72:200].any() and 0.02 < last.mean() < 0.2 < first.mean()  # a title, a digit, noise


def test_the_landing_page_tells_how_to_cite() -> None:
    quoted = words(
        article("book/index.html").partition('class="book-cite"')[2].partition("</pre>")[0]
    )
    assert re.search(r"@misc\{\w+,", quoted) and BOOK.config["copyright"] in quoted
    assert quoted.count("{") == quoted.count("}")


@each_page
def test_a_shared_link_says_what_it_leads_to(name: str) -> None:
    if name in MADE_BY_SPHINX:
        return
    tags = dict(re.findall(r'<meta property="og:([\w:]+)" content="([^"]*)"', text(name)))
    assert tags["title"] and "<" not in unescape(tags["title"])
    assert 60 < len(unescape(tags["description"])) <= 204 and "\\" not in tags["description"]


def test_pages_have_an_icon() -> None:
    for name in set(PAGES) - {"index.html"}:  # which only leads on
        icons = re.findall(r'<link rel="icon" href="([^"]+)"', text(name))
        assert icons and (path := local(name, icons[0])) and path.is_file(), name


def test_mistakes_have_both_forms_and_what_catches_them() -> None:
    told = mistakes.read(ROOT)["mistakes"]
    html = article("book/errata.html")
    assert html.count("What catches it.") == len(told)
    entries = re.findall(r'id="erratum-(e\d+)"', html)
    assert len(entries) == len(set(entries)) > 20
    assert html.count('class="sd-tab-set') == len(told) + len(entries)
    assert "so far" not in html and "Not computed yet" not in html


@pytest.mark.parametrize("name", [n for n in PAGES if n != "book/concordance.html"])
def test_codes_of_the_makers_are_out_of_the_way(name: str) -> None:
    assert not re.search(r"Sources: [A-F]\d\d", words(article(name)))


def test_the_gallery_shows_what_the_models_draw() -> None:
    html = article("book/models.html")
    facts = json.loads((ROOT / "book" / "data" / "samples.json").read_text("utf8"))
    models = sorted(set(facts) - {"film"})
    assert sorted(re.findall(r"_static/samples/([\w-]+)\.webp", html)) == models
    for name in models:
        share = facts[name].get("unrecognized")
        caption = words(html.partition(f'href="#card-{name}"')[2].partition("</figure>")[0])
        assert ("not recognized" in caption) == (share is not None), name
        assert share is None or f"{100 * share:.0f} ±" in caption


def test_results_stand_beside_what_was_published() -> None:
    html = article("book/results.html").rpartition('class="book-dots"')[2].partition("</table>")[2]
    table = (ROOT / "book" / "data" / "published.tsv").read_text("utf8").splitlines()[1:]
    for card, value, _, _ in (line.split("\t") for line in table):
        row = html.partition(f"#card-{card}")[2].partition("</tr>")[0]
        assert value in words(row) and "bibliography.html#" in row, card
    better = (ROOT / "book" / "data" / "better.tsv").read_text("utf8").splitlines()[1:]
    for card, chapter, *_, what, label in (line.split("\t") for line in better):
        row = html.partition(f"#card-{card}")[2].partition("</tr>")[0]
        assert re.search(rf"\d ± 0\.\d+ {what}", words(row)) and f"{chapter}.html#" in row, label


def test_the_results_open_with_every_digit_model_on_an_axis() -> None:
    html = article("book/results.html")
    nats, bits, shares = html.split('class="book-dots"')[1:]
    for card in ("vae-mnist", "iwae-mnist", "hvae-mnist", "conv-hvae-mnist", "masked-mnist"):
        assert f'#card-{card}"' in nats.partition("</table>")[0]
    places = [float(place) for place in re.findall(r'<b style="left:([\d.]+)%', nats)]
    assert places == sorted(places) and 0 < places[0] < places[-1] <= 100
    neighbors = (ROOT / "book" / "data" / "neighbors.tsv").read_text("utf8").splitlines()[1:]
    for axis, value, what, source in (line.split("\t") for line in neighbors):
        table = {"nats": nats, "bits": bits, "shares": shares}[axis].partition("</table>")[0]
        row = table.partition(f">{what}</th>")[2].partition("</tr>")[0]
        assert value in words(row) and f"{source}" in (ROOT / "book" / "references.bib").read_text()


def test_works_lead_to_arxiv_and_to_who_cites_them() -> None:
    html = article("book/bibliography.html")
    numbers = re.findall(r"arXiv:(\d{4}\.\d{4,5})", words(html))
    assert len(numbers) > 50
    assert set(numbers) == set(re.findall(r'href="https://arxiv\.org/abs/(\d{4}\.\d{4,5})"', html))
    entries = html.split('class="citation"')[1:]
    assert len(entries) > 100
    named = [entry for entry in entries if "Cited in" in entry]
    assert len(named) > 0.8 * len(entries)
    assert all('href="../notebooks/' in e or 'href="' in e.partition("Cited in")[2] for e in named)


@each_chapter
def test_a_chapter_begins_with_what_it_takes_and_what_it_gives(page: labels.Page) -> None:
    """The sentence is that of the landing page's card, and the map says where in Fig. 1 the chapter is."""
    entry = opening.chapters(BOOK)[opening.key(page)]
    facts = article(f"{page.docname}.html").partition('<div class="book-facts')[2]
    facts = facts.partition("</div>")[0]
    assert f"Afterwards you can say: “{entry['says']}.”" in words(facts)
    assert f"{opening.minutes(page)} minutes to read" in words(facts)
    assert "needs " in words(facts) and f": {entry['where']}" in unescape(facts)
    card = article("book/index.html").partition(f'href="../{page.docname}.html"><img')[2]
    assert entry["says"] in words(card.partition("</a>")[0])


def test_printed_tables_are_tables() -> None:
    found = [
        table
        for page in BOOK.notebooks()
        for table in re.findall(
            r'<table class="book-printed.*?</table>', article(f"{page.docname}.html"), re.DOTALL
        )
    ]
    assert len(found) >= 15
    for table in found:
        rows = table.split("<tr")[1:]
        cells = [len(re.findall(r"<t[hd]\b", row)) for row in rows]
        assert len(rows) >= 3 and set(cells) == {cells[0]}
        assert all(re.match(r"[^>]*>\s*<th\b", row) for row in rows)


# ------------------------------------------------------------------------------------------------ weight

LIMITS = {"book/index.html": 600_000}
CHAPTER_LIMIT = 1_500_000


def weight(name: str) -> int:
    """Bytes of a page and of all that it names, pictures that come later included, fonts of formulas too."""
    files = {path for a in read(name).loads if (path := local(name, a)) and path.is_file()}
    files |= {(SITE / "_static" / "formulas.woff")} if "<math" in text(name) else set()
    return sum(path.stat().st_size for path in {SITE / name, *files})


@pytest.mark.parametrize(
    "name", ["book/index.html", *(f"{p.docname}.html" for p in BOOK.notebooks())]
)
def test_a_page_is_light(name: str) -> None:
    later = [
        path
        for tag in re.findall(r'<img [^>]*loading="lazy"[^>]*>', text(name))
        for a in re.findall(r'src="([^"]+)"', tag)
        if name.startswith("notebooks/") and (path := local(name, a))
    ]
    late = sum(path.stat().st_size for path in set(later))
    narrow = SITE / "_images" / "one-bound-narrow.svg"  # a phone loads it in place of the wide one
    late += narrow.stat().st_size if name == "book/index.html" else 0
    assert weight(name) - late <= LIMITS.get(name, CHAPTER_LIMIT)


@each_page
def test_no_page_typesets_or_loads_what_it_does_not_use(name: str) -> None:
    loads = " ".join(read(name).loads)
    assert "mathjax" not in loads.lower() and "MathJax" not in text(name)
    assert "fontawesome" not in loads
    assert not re.search(
        r"data:image/(?:png|webp);base64,[A-Za-z0-9+/=]{4000}", text(name).partition("<script")[0]
    )
