"""Typesets the mathematics of the book when it is built: pages hold MathML, which browsers draw, and run no MathJax.

math-core reads the TeX and gives MathML Core, the part of MathML that browsers know, with TeX's spaces. `MENDS` are the
places where it, or Chromium, gives something else than TeX.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ziamath
from docutils import nodes
from fontTools import subset  # type: ignore[import-untyped]
from math_core import LatexError, LatexToMathML
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.math import get_node_equation_number

logger = logging.getLogger(__name__)
ITALICS = [ord("ℎ"), *range(0x1D434, 0x1D468), *range(0x1D6E2, 0x1D71C)]

MENDS = {
    # At the start of a row browsers take a plus for a sign. In a right column it stands between two terms.
    r'(padding-left: 0;">)<mo>(?=[+−])': r'\1<mo form="infix">',
    # Chromium lets a large bracket fall that has an exponent and is in no row.
    r"(<msu[bsup]+>)(<mo [^>]*(?:minsize|\"true\")[^>]*>.</mo>)": r"\1<mrow>\2</mrow>",
    # Chromium keeps room at the right of a low root for the sign of a tall one; the style sheet takes it.
    r"<msqrt>(?!(?:(?!</msqrt>).)*(?:<m(?:frac|sup|subsup|under|table)|[βδζθ]))": '<msqrt class="tex-low">',
    # Three points are one character.
    r"<mo[^>]*>\.</mo>(?:<mo[^>]*>\.</mo>){2}": '<mo lspace="0" rspace="0">…</mo>',
    r"<mo[^>]*>·</mo>(?:<mo[^>]*>·</mo>){2}": '<mo lspace="0" rspace="0">⋯</mo>',
}


class Typesetter:
    """Translates the TeX of the book, with its macros."""

    def __init__(self, macros: dict[str, str]) -> None:
        self.translator = LatexToMathML(macros=macros, fancy_error=False)

    def __call__(self, tex: str, display: bool) -> str:
        """The MathML of a formula.

        Raises:
            LatexError: if it is no TeX.
        """
        if r"\\" in tex and r"\begin" not in tex:  # it would be left out without a word
            raise LatexError(r"a line ends with \\ outside of aligned, gathered, cases or a matrix")
        made = self.translator.convert_with_local_state(tex, displaystyle=display)
        for pattern, mended in MENDS.items():
            made = re.sub(pattern, mended, made)
        return made


def mathml(writer: Any, math: nodes.math | nodes.math_block) -> str:
    """The MathML of a node's formulas: a display may have several, one below the other."""
    made = ""
    for tex in re.split(r"\n\s*\n", math.astext().strip()):
        try:
            made += writer.builder.app.the_typesetter(tex, isinstance(math, nodes.math_block))
        except LatexError as error:
            logger.warning("TeX: %s: %s", error, tex, location=math)
    return made


def inline(writer: Any, math: nodes.math) -> None:
    """Writes a formula in running text."""
    writer.body.append(writer.starttag(math, "span", "", CLASS="math notranslate nohighlight"))
    writer.body.append(mathml(writer, math) + "</span>")
    raise nodes.SkipNode


def display(writer: Any, math: nodes.math_block) -> None:
    """Writes a display and its number."""
    writer.body.append(writer.starttag(math, "div", CLASS="math notranslate nohighlight"))
    if math["number"]:
        number = get_node_equation_number(writer, math)
        writer.body.append(f'<span class="eqno">({number})')
        writer.add_permalink_ref(math, "Link to this equation")
        writer.body.append("</span>")
    writer.body.append(f'<div class="tex">{mathml(writer, math)}</div></div>\n')
    raise nodes.SkipNode


def read_macros(app: Sphinx) -> None:
    """Gives the build its typesetter."""
    macros = json.loads(Path(app.srcdir, "book", "macros.json").read_text("utf8"))
    app.the_typesetter = Typesetter(macros)  # type: ignore[attr-defined]


def font(app: Sphinx, exception: Exception | None) -> None:
    """Puts the characters of all formulas into one font."""
    if exception or app.builder.format != "html":
        return
    pages = (path.read_text("utf8") for path in Path(app.outdir).rglob("*.html"))
    used = {c for page in pages for c in "".join(re.findall(r"<math.*?</math>", page, re.DOTALL))}
    used |= {chr(c) for c in range(0x20, 0x7F)} | {"√"}  # a root names no sign
    plain = {unicodedata.normalize("NFKC", c) for c in used}
    # A letter alone is drawn as its italic.
    used |= {c for c in map(chr, ITALICS) if unicodedata.normalize("NFKC", c) in plain}
    whole = Path(ziamath.__file__).parent / "fonts" / "STIXTwoMath-Regular.ttf"
    woff = Path(app.outdir, "_static", "formulas.woff")
    cut_font(whole, woff, set(map(ord, used)), ["ssty", "dtls"])


def cut_font(whole: Path, part: Path, characters: set[int], features: Sequence[str] = ()) -> None:
    """Writes a font with no other characters than these."""
    options = subset.Options(flavor="woff", notdef_outline=True, layout_features=list(features))
    font = subset.load_font(str(whole), options)
    cutter = subset.Subsetter(options)
    cutter.populate(unicodes=characters)
    cutter.subset(font)
    subset.save_font(font, str(part), options)


def setup(app: Sphinx) -> None:
    app.add_html_math_renderer("mathml", (inline, None), (display, None))
    app.connect("builder-inited", read_macros)
    app.connect("build-finished", font)
