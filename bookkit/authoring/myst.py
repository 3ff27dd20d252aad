"""Reads the MyST Markdown of a text cell as blocks, by the parser that the book is built with."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from myst_parser.config.main import MdParserConfig
from myst_parser.parsers.mdit import create_md_parser
from sphinx_proof.proof_type import PROOF_TYPES

PROOFS = set(PROOF_TYPES) - {"proof"}
BOXES = {"math_block", "math_block_label", "fence", "colon_fence"}

EXTENSIONS = {"amsmath", "colon_fence", "deflist", "dollarmath", "substitution"}
PARSER = create_md_parser(MdParserConfig(enable_extensions=EXTENSIONS), RendererHTML)

DIRECTIVE = re.compile(r"\{(?P<name>[A-Za-z][\w:-]*)\}\s*(?P<argument>.*)")
OPTION = re.compile(r":(?P<key>[A-Za-z][\w-]*):(?:\s+(?P<value>.*?))?\s*")
ROLE_OR_CODE = re.compile(
    r"(?:(?<!\\)\{(?P<role>[A-Za-z][\w:-]*)\})?"
    r"(?<!`)(?P<ticks>`+)(?!`)(?P<content>.+?)(?<!`)(?P=ticks)(?!`)",
    re.DOTALL,
)
REFERENCE = re.compile(r"(?P<words>.*?)\s*<(?P<target>[^<>]+)>", re.DOTALL)


@dataclass
class Block:
    """A part of a text cell; `kind` is text, code, math, target, heading, or a directive's name.

    `text` is what it holds: lines as written, a formula, a title, or the content of a directive,
    which `blocks` has as blocks. `bookkit.authoring.labels` fills in the number.
    """

    kind: str
    text: str = ""
    label: str = ""
    level: int = 0
    argument: str = ""
    blocks: list[Block] = field(default_factory=list)
    line: int = 0
    number: str = ""


def parse(text: str) -> list[Block]:
    """Splits MyST Markdown into blocks, which together have all its lines."""
    lines = text.split("\n")
    blocks: list[Block] = []
    done = 0
    tokens = PARSER.parse(text)
    for token, inside in zip(tokens, [*tokens[1:], None], strict=False):
        start, end = token.map or (0, 0)
        if start >= done and (block := _block(token, inside, lines[start:end])):
            if done < start:
                blocks.append(Block("text", "\n".join(lines[done:start])))
            block.line, done = start, end
            blocks.append(block)
    return [*blocks, Block("text", "\n".join(lines[done:]))] if done < len(lines) else blocks


def _block(token: Token, inside: Token | None, lines: list[str]) -> Block | None:
    """The block of a token that is more than running text; `inside` is the token after it."""
    whole = "\n".join(lines)
    if token.type == "heading_open" and inside:
        return Block("heading", inside.content, level=int(token.tag[1]))
    if token.type == "myst_target":
        return Block("target", label=token.content)
    if token.type == "code_block":
        return Block("code", whole)
    if token.type not in BOXES or not whole.lstrip().startswith(token.markup):
        return None
    if whole.startswith(" ") and (token.type.startswith("math") or "{" in token.info):
        raise ValueError(f"{lines[0]!r}: no display and no directive may stand in a list")
    if token.type.startswith("math"):
        return Block("math", token.content.strip("\n"), token.info)
    last = lines[-1].strip()
    if len(lines) == 1 or len(last) < len(token.markup) or last.strip(token.markup[0]):
        raise ValueError(f"the fence {lines[0].strip()!r} is never closed")
    if not (directive := DIRECTIVE.fullmatch(token.info.strip())):
        return Block("code", whole)
    label, content = "", token.content.split("\n")
    while content and (option := OPTION.fullmatch(content[0])):
        label = option["value"] if option["key"] in ("label", "name") else label
        del content[0]
    body = "\n".join(content).strip("\n")
    return Block(directive["name"], body, label, 0, directive["argument"].strip(), parse(body))


def walk(blocks: list[Block]) -> Iterator[Block]:
    """Every block, the outer before the inner."""
    for block in blocks:
        yield block
        yield from walk(block.blocks)


def each_role(text: str, convert: Callable[[str, str], str]) -> str:
    """Replaces every role by `convert(name, content)`, and leaves code spans alone."""
    return ROLE_OR_CODE.sub(lambda m: convert(m["role"], m["content"]) if m["role"] else m[0], text)


def reference(content: str) -> tuple[str, str]:
    """Splits `words <target>` into (words, target), and `target` into ("", target)."""
    found = REFERENCE.fullmatch(content.strip())
    return (found["words"], found["target"].strip()) if found else ("", content.strip())
