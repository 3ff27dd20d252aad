"""The whole book as one PDF, printed by Chromium from the built pages: `make pdf`.

The articles that are read go into one page in the order of the contents, and links between them become links inside
the document. Proofs and solutions are open; folded code stays online. Formulas, figures and styles are the pages'.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

from bookkit.authoring.labels import contents

# An article for the one page: names get the page's name before them, addresses lose their page; folds of code go.
ARTICLE = """([names, page]) => {
  const article = document.querySelector("article.bd-article").cloneNode(true);
  const here = new URL(location.href);
  const top = new URL("./" + "../".repeat(page.split("/").length - 1), here);
  const named = (name, id) => `${name.replaceAll("/", "-")}--${id}`;
  article.querySelectorAll("details.book-code, .prev-next-footer, script, button, .headerlink, .book-film-controls")
    .forEach((node) => node.remove());
  article.querySelectorAll("details").forEach((fold) => { fold.open = true; });
  article.querySelectorAll(".book-film img").forEach((film) => film.removeAttribute("style"));  // its last frame
  article.querySelectorAll("img").forEach((image) => {
    image.loading = "eager";
    image.src = new URL(image.getAttribute("src"), here).href;
  });
  article.querySelectorAll("[id]").forEach((node) => { node.id = named(page, node.id); });
  article.querySelectorAll("a[href]").forEach((link) => {
    const to = new URL(link.getAttribute("href"), here);
    const name = to.href.split("#")[0].replace(top.href, "").replace(/\\.html$/, "");
    const id = decodeURIComponent(to.hash.slice(1)) || "top";
    if (names.includes(name)) link.setAttribute("href", `#${named(name, id)}`);
    else if (to.protocol === "file:") link.removeAttribute("href");
  });
  article.id = named(page, "top");
  return article.outerHTML;
}"""
FILL = """async (articles) => {
  document.body.innerHTML = articles.join("");
  document.documentElement.dataset.theme = "light";
  await document.fonts.ready;
  await Promise.all([...document.images].map((image) => image.decode().catch(() => {})));
  return [...document.images].filter((image) => !image.naturalWidth).map((image) => image.src);
}"""
STYLE = """
body { display: block; background: white; }
article.bd-article { break-before: page; max-width: none; padding: 0; font-size: 10.5pt; }
article.bd-article:first-child { break-before: auto; }
"""
# What is used beside a screen.
NOT_ON_PAPER = ("api", "ledger", "running", "benchmarks", "teaching", "concordance")
SCALE = 0.75  # so that a line holds as much as on a wide screen
FOOTER = """<div style="width:100%;font:8pt sans-serif;text-align:center;color:#555">
<span class="pageNumber"></span></div>"""


def find_browser() -> str | None:
    """The path of a Chromium: $CHROMIUM, or the first of the usual names on the PATH."""
    names = [os.environ.get("CHROMIUM", ""), "chromium", "chromium-browser", "google-chrome"]
    return next((path for name in names if name and (path := shutil.which(name))), None)


def write(site: Path, root: Path, out: Path) -> None:
    """Prints a built site into one PDF.

    Raises:
        FileNotFoundError: if there is no browser, or no built book.
        RuntimeError: if a picture of the book does not load.
    """
    from playwright.sync_api import sync_playwright

    browser_path = find_browser()
    if browser_path is None:
        raise FileNotFoundError("no browser: install Chromium, or set CHROMIUM to its path")
    if not (site / "index.html").is_file():
        raise FileNotFoundError(f"no built book in {site}: run make book first")
    names = [name for name, _ in contents(root) if not name.endswith(NOT_ON_PAPER)]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        page = browser.new_page(color_scheme="light")
        page.set_default_timeout(600_000)
        articles = []
        for name in names:
            page.goto((site / f"{name}.html").as_uri())
            articles.append(page.evaluate(ARTICLE, [names, name]))
        page.goto((site / f"{names[0]}.html").as_uri())
        page.add_style_tag(content=STYLE)
        if missing := page.evaluate(FILL, articles):
            raise RuntimeError(f"pictures do not load: {json.dumps(missing)}")
        page.emulate_media(media="print")
        page.pdf(
            path=out,
            format="A4",
            margin={"top": "18mm", "bottom": "18mm", "left": "18mm", "right": "18mm"},
            scale=SCALE,
            print_background=True,
            display_header_footer=True,
            header_template="<span></span>",
            footer_template=FOOTER,
            outline=True,
            tagged=True,
        )
        browser.close()


if __name__ == "__main__":
    write(Path(sys.argv[1]).resolve(), Path.cwd(), Path(sys.argv[2]))
