"""Mathematics typeset at build time: what is mended of the MathML, and what TeX that is wrong says."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("math_core")
from docutils import nodes
from math_core import LatexError

from bookkit.site import formulas

ROOT = Path(__file__).resolve().parents[1]
one = formulas.Typesetter(json.loads((ROOT / "book" / "macros.json").read_text("utf8")))


def test_tex_becomes_mathml_with_the_macros_of_the_book() -> None:
    assert one(r"\E x", False) == "<math><mi>𝔼</mi><mi>x</mi></math>"
    assert one("x", True) == '<math display="block"><mi>x</mi></math>'
    made = re.sub("<[^>]*>", "", one(r"\KL{\Normal}{p}", False))
    assert made.replace("\ufe00", "") == "DKL(𝒩‖p)"


@pytest.mark.parametrize(
    ("tex", "expected"),
    [
        (r"\begin{aligned} a &= b \\ & + c \end{aligned}", '<mo form="infix">+</mo><mi>c</mi>'),
        (r"\begin{aligned} a = {} & - b \end{aligned}", '<mo form="infix">−</mo><mi>b</mi>'),
        (r"\begin{aligned} - a &= b \end{aligned}", '<mo lspace="0" rspace="0">−</mo><mi>a</mi>'),
        (r"\big(x\big)^2", '<msup><mrow><mo minsize="1.2em" maxsize="1.2em">)</mo></mrow>'),
        (r"\Big\|x\Big\|_F^2", "<msubsup><mrow><mo *>‖</mo></mrow><mi>F</mi><mn>2</mn>"),
        (r"(x)^2", r'<msup><mo stretchy="false">)</mo><mn>2</mn></msup>'),
        (r"\sqrt{1 - x}", '<msqrt class="tex-low">'),
        (r"\sqrt{\frac{a}{b}} + \sqrt{x}", '<msqrt><mfrac*<msqrt class="tex-low">'),
        (r"\sqrt{\beta}", "<msqrt><mi>β"),
        (r"\sqrt{x} + \beta", '<msqrt class="tex-low">'),
        (r"a, \dots, b", '<mo lspace="0" rspace="0">…</mo>'),
        (r"a + \dots + b", '<mo lspace="0" rspace="0">⋯</mo>'),
        (r"\underbrace{x}_{a}", '<munder accentunder="true"><mi>x</mi><mo>⏟</mo></munder>'),
    ],
)
def test_what_browsers_draw_otherwise_is_mended(tex: str, expected: str) -> None:
    assert re.search(".*".join(map(re.escape, expected.split("*"))), one(tex, True))


@pytest.mark.parametrize(
    ("tex", "sentence"),
    [
        (r"\frac{1}", "Expected argument"),
        (r"\foo", r"Unknown command .\\foo"),
        (r"a \\ b", "a line ends with"),
    ],
)
def test_wrong_tex_says_what_is_wrong(
    tex: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(LatexError, match=sentence):
        one(tex, True)
    said: list[str] = []
    monkeypatch.setattr(
        formulas.logger, "warning", lambda text, *args, location: said.append(text % args)
    )
    writer = SimpleNamespace(builder=SimpleNamespace(app=SimpleNamespace(the_typesetter=one)))
    made = formulas.mathml(writer, nodes.math_block("", f"x\n\n{tex}"))
    assert made == '<math display="block"><mi>x</mi></math>'
    assert len(said) == 1 and re.search(f"^TeX: .*{sentence}", said[0]) and tex in said[0]
