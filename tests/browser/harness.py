"""What the browser tests look for: each `*_problems` function reads one open page and returns sentences.

An empty list means that nothing is wrong. `test_harness.py` plants every kind of problem and sees it found.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from bookkit.authoring.labels import Book
from bookkit.site import built_files
from bookkit.site.pdf import find_browser
from companion.page.plots.style import DPI

ROOT = Path(__file__).resolve().parents[2]
MODULES = ROOT / "book" / "assets" / "instruments"
SITE = Path(os.environ.get("COMPANION_SITE", ROOT / "_build" / "html")).resolve()

LAUNCH_ARGUMENTS = [
    "--no-sandbox",  # continuous integration runs as root in a container
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--no-first-run",
    # The browser itself can resolve no name: a forgotten CDN cannot work by chance.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
CHECKS = Path(__file__).with_name("checks.js")  # runs in every page before the page's own scripts
WIDE = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}


PATIENCE = 240_000
"""Milliseconds to wait for a condition: only a hang reaches it, also on a machine with other work."""


def why_not() -> str | None:
    """One sentence that says why the browser tests cannot run here, or None."""
    if find_browser() is None:
        return "no browser: install Chromium, or set CHROMIUM to its path, to run the browser tests"
    try:
        import axe_playwright_python  # noqa: F401
        import playwright  # noqa: F401
    except ImportError as error:
        return f"no browser: the Python package {error.name} is missing (it belongs to the extra [test])"
    if not (SITE / "index.html").is_file():
        return "no built book: run `make book`, or set COMPANION_SITE to the built folder, for the browser tests"
    return None


# ------------------------------------------------------------------------------------------------ the server


FIGURE = (
    r'<div class="cell [^>]*>\s*<div class="cell_output [^>]*>\s*<figure[^>]* id="{}".*?</figure>'
)


def alone(page: str, label: str) -> str:
    """The HTML of a chapter that has nothing but this figure in its article, and no script but that of instruments.

    A chapter is forty screens long: to open it takes seconds of the processor, and so does each change of its size.
    """
    page = re.sub(r"<script(?![^>]*/loader\.js)\b.*?</script>", "", page, flags=re.DOTALL)
    page = page.replace('data-theme="auto"', 'data-theme="light"', 1)
    before, start, inside = page.partition('<article class="bd-article">')
    inside, end, after = inside.partition("</article>")
    found = re.search(FIGURE.format(label), inside, re.DOTALL)
    if found is None:
        raise ValueError(f"the page has no figure {label} in the output of a cell")
    figure = f"<section><h1>A figure</h1>{found[0]}</div></div></section>"
    return before + start + figure + end + after


class _Handler(SimpleHTTPRequestHandler):
    """Serves one folder below a prefix, and nothing above it: a link that starts with / fails.

    PAGE.html?only=LABEL is the page with one figure, `alone`.
    """

    protocol_version = "HTTP/1.1"  # connections stay open
    prefix = "/"

    def translate_path(self, path: str) -> str:
        plain = unquote(urlsplit(path).path)
        if not plain.startswith(self.prefix):
            return str(Path(self.directory) / "outside-of-the-book")
        return super().translate_path("/" + path[len(self.prefix) :])

    def do_GET(self) -> None:
        if self.path == "/favicon.ico":  # asked for by the browser, by no page
            self.send_response(204)
            self.end_headers()
        elif only := parse_qs(urlsplit(self.path).query).get("only"):
            page = Path(self.translate_path(self.path)).read_text("utf8")
            body = alone(page, only[0]).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        else:
            super().do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def serve(folder: Path, prefix: str = "/") -> Iterator[str]:
    """Serve `folder` on the loopback address at a free port; gives the address of its top."""
    handler = functools.partial(
        type("Handler", (_Handler,), {"prefix": prefix}), directory=str(folder)
    )
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(
            target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}{prefix}"
        finally:
            server.shutdown()
            thread.join()


@functools.cache
def _places() -> dict[str, Any]:
    return Book(ROOT).places


def page_of(label: str) -> str:
    """The page of an instrument, with nothing but its figure: in the whole chapter test_site.py wakes it."""
    return f"{_places()[label].docname}.html?only={label}"


def modules() -> str:
    """The folder in the built book that has the modules of instruments and their weights."""
    (found,) = (SITE / "_static").glob("instruments-*")
    return f"_static/{found.name}/"


@contextlib.contextmanager
def evaluating(
    context: Any, modules: str, script: str, argument: Any = None
) -> Iterator[Callable[..., Any]]:
    """Gives `evaluate(code, argument)` of a page beside the modules, where a script has run with an argument."""
    with contextlib.closing(context.new_page()) as page:
        page.goto(f"{modules}instruments.css")  # any address where modules may be imported
        page.evaluate(script, argument)
        yield page.evaluate


@contextlib.contextmanager
def calling(context: Any, modules: str) -> Iterator[Callable[..., Any]]:
    """Gives `call(module, function, argument)`: what a JavaScript function of all exports of a module makes of it."""
    code = "async ([url, argument]) => ({})(await import(url), argument)"
    with evaluating(context, modules, "() => 0") as evaluate:

        def call(module: str, function: str, argument: Any = None) -> Any:
            return evaluate(code.replace("{}", function), [f"{modules}{module}.js", argument])

        yield call


TOLERANCE = 1e-4


def close(found: Any, wanted: Any, tolerance: float = TOLERANCE) -> None:
    """Numbers of a page are those of a tensor, in the same order whatever its shape."""
    import torch

    found = torch.tensor(found, dtype=torch.double)
    difference = (found - wanted.double().reshape(found.shape)).abs().max().item()
    assert difference < tolerance, difference
    print(f"largest difference from torch: {difference:.1e}")


# ------------------------------------------------------------------------------------------------ the pages


def redirect(file: Path) -> str | None:
    """Where a page with a refresh tag leads, or None for a page of its own."""
    match = re.search(
        r'http-equiv="refresh"[^>]*url=([^"]+)"', file.read_text("utf8"), re.IGNORECASE
    )
    return match.group(1).strip() if match else None


def page_names(site: Path) -> list[str]:
    """All pages of a built book: neither the theme's files nor the redirects."""
    files = sorted(p for p in site.rglob("*.html") if "_static" not in p.relative_to(site).parts)
    return [p.relative_to(site).as_posix() for p in files if redirect(p) is None]


@dataclass
class Visit:
    """An open page, and everything that went wrong on it since it was opened."""

    page: Any
    base: str
    problems: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)  # bytes of each answer
    first: list[int] = field(default_factory=list)  # of those before anything scrolls

    def __post_init__(self) -> None:
        self.page.on("pageerror", lambda error: self.problems.append(f"page error: {error}"))
        self.page.on("console", self._console)
        self.page.on("request", self._request)
        self.page.on("requestfailed", self._failed)
        self.page.on("response", self._response)

    def _console(self, message: Any) -> None:
        if message.type == "error":
            self.problems.append(
                f"console error: {message.text[:300]} ({message.location.get('url', '')[:200]})"
            )

    def _request(self, request: Any) -> None:
        if request.url.startswith(("data:", "blob:", "about:")):
            return
        if urlsplit(request.url).netloc != urlsplit(self.base).netloc:
            self.problems.append(f"a request to another host: {request.url[:200]}")

    def _failed(self, request: Any) -> None:
        # A page that is left while it still asks for something (its icon, say) gives that up itself: no
        # fault of the site. A file that is missing answers 404, a host that is not there another error.
        if request.failure != "net::ERR_ABORTED":
            self.problems.append(f"failed: {request.url[:200]} ({request.failure})")

    def _response(self, response: Any) -> None:
        if response.status >= 400:
            self.problems.append(f"status {response.status}: {response.url[:200]}")
        self.sizes.append(int(response.headers.get("content-length", 0)))

    def open(self, name: str) -> None:
        """Open the page and wait until its pictures are loaded and its mathematics is typeset."""
        self.page.goto(self.base + name, wait_until="networkidle")
        self.first = self.sizes.copy()
        self.page.evaluate(
            "async () => { for (const i of document.images) { i.loading = 'eager';"
            " if (!i.complete) await new Promise(r => { i.onload = i.onerror = r; }); }"
            " await document.fonts.ready; }"
        )


Wake = Callable[[str], Any]


@contextlib.contextmanager
def awake(context: Any, base: str, label: str) -> Iterator[Any]:
    """The figure of an instrument, alone on its page and awake; at the end nothing has failed there."""
    visit = Visit(context.new_page(), base)
    with contextlib.closing(visit.page):
        visit.open(page_of(label))
        figure = visit.page.locator(f"#{label}")
        wake(figure)
        yield figure
        assert visit.problems == []


def wake(figure: Any) -> None:
    """Go where an instrument is, ask for it where it is large, and wait until it is awake."""
    figure.scroll_into_view_if_needed()
    if figure.locator("[data-start=click]").count():
        figure.get_by_role("button", name="Try it").click()
    figure.locator("[data-state=live]").wait_for()


# ------------------------------------------------------------------------------------------------ the checks


def page_problems(name: str) -> Callable[[Any], list[str]]:
    """A check that is a function of checks.js."""
    return lambda page: page.evaluate(f"() => bookChecks.{name}()")


math_problems = page_problems("math")
picture_problems = page_problems("pictures")
width_problems = page_problems("width")
cut_problems = page_problems("cut")


def picture_text(page: Any) -> list[tuple[str, float, bool]]:
    """The pictures with text that are seen: address, CSS pixels of the smallest text, whether all can be seen."""
    pixels = built_files.SMALLEST * DPI / 72
    found = page.evaluate("() => bookChecks.shown('img[data-text]')")
    return [(name, pixels * scale, reached) for name, scale, reached in found]


def jump(page: Any) -> None:
    """From now on the page scrolls at once: a smooth scroll draws a frame for every few pixels of a long page."""
    page.evaluate("() => { document.documentElement.style.scrollBehavior = 'auto'; }")


def tab_problems(page: Any) -> list[str]:
    """Formulas that the Tab key stops at although they need no scrolling, and stops that nobody can see.

    The key is pressed some times, and then a script goes to all formulas and to the first stop of each other kind.
    """
    jump(page)
    page.evaluate("() => { document.activeElement.blur(); scrollTo(0, 0); }")
    found: list[str] = []
    for _ in range(5):
        page.keyboard.press("Tab")
        found += page.evaluate("() => bookChecks.focusProblems(document.activeElement)")
    found += page.evaluate("() => bookChecks.stopProblems()")
    return found


def print_problems(page: Any) -> list[str]:
    """What would be missing on paper; afterwards the page is as it was."""
    before = page.evaluate("() => bookChecks.folds()")
    page.evaluate("() => window.dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    found = page.evaluate("() => bookChecks.paper()")
    page.emulate_media(media="null")
    page.evaluate("() => window.dispatchEvent(new Event('afterprint'))")
    if page.evaluate("() => bookChecks.folds()") != before:
        found.append("printing leaves folds open")
    return found


def use_theme(page: Any, theme: str) -> None:
    """Switch between "light" and "dark" as the theme's own button does."""
    page.evaluate("theme => bookChecks.theme(theme)", theme)


# Violations of the theme and its extensions, not of this book: the rule, and the one element it may concern.
THEME_VIOLATIONS = {
    # the bibliography: docutils lists entries by role doc-biblioentry
    ("aria-required-children", ".citation-list"),
}


@functools.cache
def _axe() -> str:
    import axe_playwright_python

    return (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text("utf8")


def _load_axe(page: Any) -> None:
    if not page.evaluate("() => 'axe' in window"):
        page.evaluate(_axe())


COLOR_RULES = ["color-contrast", "link-in-text-block"]
# The impact of these is moderate, whatever they find, and they take a quarter of the time.
MODERATE_RULES = [
    "region",
    "heading-order",
    "landmark-unique",
    "landmark-one-main",
    "page-has-heading-one",
]


def axe_problems(page: Any, only_colors: bool = False, judged: set[str] | None = None) -> list[str]:
    """Serious and critical violations that axe-core finds, except THEME_VIOLATIONS; the page stays as it is.

    Args:
        page: an open page.
        only_colors: look at what depends on the theme alone, which is COLOR_RULES.
        judged: looks of text that are legible, as pages with the same style sheets had them. Those of this page
            join them, if all of them are: so a fault is found on every page that has it.
    """
    _load_axe(page)
    options: dict[str, Any] = {"resultTypes": ["violations"], "preload": False}
    colors = options | {"runOnly": {"type": "rule", "values": COLOR_RULES}}
    others = options | {
        "rules": {rule: {"enabled": False} for rule in COLOR_RULES + MODERATE_RULES}
    }
    run = """async ([how, judged]) => {
        const looks = judged && bookChecks.looks(judged), include = looks ? [...looks.values()] : [document];
        if (include.length === 0) return [[], []];
        if (looks) bookChecks.takeAllBut(include); else bookChecks.takeRepeated();
        try { return [(await axe.run({ include }, how)).violations, looks ? [...looks.keys()] : []]; }
        finally { await bookChecks.putBack(); }
    }"""
    violations, looks = page.evaluate(run, [colors, sorted(judged or ())])
    if judged is not None and not violations:
        judged.update(looks)
    if not only_colors:
        violations += page.evaluate(run, [others, None])[0]
    found = []
    for violation in violations:
        if violation["impact"] not in ("serious", "critical"):
            continue
        for node in violation["nodes"]:
            target = " ".join(str(part) for part in node["target"])
            if (violation["id"], target) not in THEME_VIOLATIONS:
                found.append(
                    f"{violation['id']} ({violation['impact']}): {target}: {node['html'][:160]}"
                )
    return found


def figure_problems(page: Any, name: str, only_colors: bool = False) -> list[str]:
    """Everything above minor that axe-core finds inside of one figure, alone; the page stays as it is.

    axe-core would read the rest of the page too.

    Args:
        page: an open page.
        name: the id of the figure.
        only_colors: look at what depends on the theme alone, which is COLOR_RULES.
    """
    _load_axe(page)
    options: dict[str, Any] = {"resultTypes": ["violations"], "preload": False}
    if only_colors:
        options["runOnly"] = {"type": "rule", "values": COLOR_RULES}
    run = """async ([id, how]) => {
        bookChecks.takeOthers(document.getElementById(id));
        try { return (await axe.run(`#${id}`, how)).violations; } finally { await bookChecks.putBack(); }
    }"""
    found = page.evaluate(run, [name, options])
    return [
        f"{violation['id']}: {node['html'][:160]}"
        for violation in found
        if violation["impact"] != "minor"
        for node in violation["nodes"]
    ]


# ------------------------------------------------------------------------------------------------ what moves


@contextlib.contextmanager
def only_figures(page: Any) -> Iterator[None]:
    """A page where nothing is folded and of which only moving figures stay, until the end: a move costs less there."""
    page.evaluate("() => bookChecks.takeAllButFigures()")
    try:
        yield
    finally:
        page.evaluate("() => bookChecks.putBack()")


def slider_problems(page: Any, figure: Any) -> list[str]:
    """Move one slider by mouse and by keyboard; each move must change value, picture, alt text and read-out."""
    control, image, output = (
        figure.locator("input[type=range]"),
        figure.locator("img"),
        figure.locator("output"),
    )
    for part, locator in (("control", control), ("picture", image), ("read-out", output)):
        if locator.count() != 1:
            return [f"the slider has {locator.count()} elements of the kind: {part}"]

    jump(page)
    figure.scroll_into_view_if_needed()
    element = figure.element_handle()  # whose looks cost one message each, those of a locator three

    def state() -> dict[str, str]:
        seen: dict[str, str] = element.evaluate("figure => bookChecks.slider(figure)")
        return seen

    return _move_problems(page, control, state)


def editor_problems(page: Any, figure: Any) -> list[str]:
    """Move each slider of an editor as one is moved alone, from where the editor starts.

    Each move must change what is seen of the picture, and must leave the other sliders alone.
    """
    controls, outputs = figure.locator("input[type=range]"), figure.locator("output")
    image = figure.locator("img")
    count = controls.count()
    if count < 2:
        return [f"the editor has {count} elements of the kind: control"]
    for part, locator, right in (("picture", image, 1), ("read-out", outputs, count)):
        if locator.count() != right:
            return [f"the editor has {locator.count()} elements of the kind: {part}"]
    frame = image.locator("..")  # the box that shows one tile of the sheet

    jump(page)
    figure.scroll_into_view_if_needed()
    element = figure.element_handle()

    def others(index: int) -> list[list[str]]:
        seen: list[list[str]] = element.evaluate("figure => bookChecks.readings(figure)")
        return seen[:index] + seen[index + 1 :]

    box = frame.bounding_box()
    window = page.viewport_size
    if not (0 < box["width"] <= window["width"] and 0 < box["height"] <= window["height"]):
        return [f"the picture takes {box['width']:.0f} x {box['height']:.0f} px"]
    page.wait_for_function(  # the sheet, which is asked for when the box is near
        "box => getComputedStyle(box.querySelector('img')).position === 'absolute'",
        arg=frame.element_handle(),
        timeout=PATIENCE,
    )
    found = []
    for index in range(count):
        control = controls.nth(index)
        name = control.get_attribute("aria-label") or f"slider {index}"
        start, rest = control.input_value(), others(index)

        def state(index: int = index) -> dict[str, str]:
            seen: dict[str, str] = element.evaluate(
                "(figure, index) => bookChecks.editor(figure, index)", index
            )
            return seen

        before = state()
        found += [f"{name}: {problem}" for problem in _move_problems(page, control, state)]
        if others(index) != rest:
            found.append(f"{name}: it moves another slider")
        control.fill(start)
        after = state()
        found += [
            f"{name}: the way back changes the {part}"
            for part in before
            if before[part] != after[part]
        ]
    return found


def _move_problems(page: Any, control: Any, state: Callable[[], dict[str, Any]]) -> list[str]:
    """Moves that change no value in `state`, which has the slider's own as "value", or lead elsewhere."""
    found = []
    now: dict[str, Any] = {}

    def move(how: str, action: Any, value: str | None = None) -> None:
        before = now.copy()
        action()
        now.update(state())
        found.extend(
            f"{how} does not change the {part}" for part in before if before[part] == now[part]
        )
        if value is not None and now["value"] != value:
            found.append(f"{how} leads to {now['value']}, not to {value}")

    lowest, highest = control.get_attribute("min") or "0", control.get_attribute("max") or "100"
    control.focus()
    if control.input_value() == lowest:
        page.keyboard.press("End")
    now.update(state())
    move("the key Home", lambda: page.keyboard.press("Home"), lowest)
    found += page.evaluate("() => bookChecks.focusProblems(document.activeElement)")
    move("the key ArrowRight", lambda: page.keyboard.press("ArrowRight"))
    move("the key End", lambda: page.keyboard.press("End"), highest)

    box = control.bounding_box()
    across, middle = box["width"], box["y"] + box["height"] / 2

    def drag() -> None:
        page.mouse.move(box["x"] + 3, middle)
        page.mouse.down()
        page.mouse.move(box["x"] + across / 2, middle)
        page.mouse.move(box["x"] + across - 1, middle)
        page.mouse.up()

    move("a click on the track", lambda: page.mouse.click(box["x"] + 3, middle), lowest)
    move("dragging", drag, highest)
    return found


def fold_problems(page: Any) -> list[str]:
    """What is wrong with folded blocks: inside must be hidden before a click and visible after; then they are closed.

    A script clicks on all, a mouse on the first of each kind: whether it can reach a title is a matter of the style.
    """
    jump(page)
    found: list[str] = page.evaluate("() => bookChecks.foldProblems()")
    for index, name in enumerate(page.evaluate("() => bookChecks.firstFolds()")):
        title = page.evaluate_handle("i => bookChecks.foldTitle(i)", index).as_element()
        try:
            title.click(
                position={"x": 4, "y": 4}, timeout=PATIENCE
            )  # not on a link, which a title may hold
            page.wait_for_function("i => bookChecks.isUnfolded(i)", arg=index, timeout=PATIENCE)
            title.evaluate("title => title.click()")
        except Exception:  # of Playwright, which need not be installed
            found.append(f"'{name}' does not open on a click")
    return found
