"""Reads the part of MyST Markdown that the book uses, as a tree of blocks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

PROOFS = [
    *(
        "axiom",
        "theorem",
        "lemma",
        "algorithm",
        "definition",
        "remark",
        "conjecture",
        "corollary",
        "criterion",
    ),
    *("example", "property", "observation", "proposition", "assumption", "notation"),
]
ADMONITIONS = [
    *("note", "tip", "warning", "important", "caution", "attention", "hint", "danger", "error"),
    *("seealso", "admonition", "margin"),
]
LEAVES = {"code-block", "figure", "image", "math", "exercise-end", "solution-end"}

FENCE = re.compile(r"^(?P<indent> *)(?P<fence>:{3,}|`{3,}|~{3,})(?P<info>.*)$")
DIRECTIVE = re.compile(r"^\{(?P<name>[A-Za-z][\w:-]*)\}\s*(?P<argument>.*)$")
OPTION = re.compile(r"^:(?P<key>[A-Za-z][\w-]*):(?:\s+(?P<value>.*?))?\s*$")
TARGET = re.compile(r"^\((?P<label>[^()\s]+)\)=\s*$")
HEADING = re.compile(r"^(?P<marks>#{1,6})\s+(?P<title>.*?)\s*$")
MATH_END = re.compile(r"\$\$\s*(?:\((?P<label>[^()\s]+)\))?\s*$")
ROLE = re.compile(r"\{([A-Za-z][\w:-]*)\}$")
REFERENCE = re.compile(r"^(?P<text>.*?)\s*<(?P<target>[^<>]+)>$", re.DOTALL)


@dataclass
class Text:
    """Lines without block structure of their own."""

    lines: list[str]


@dataclass
class Code:
    """A fenced block that is shown as it stands."""

    lines: list[str]


@dataclass
class Math:
    """One display equation."""

    body: str
    label: str | None = None
    indent: str = ""


@dataclass
class Target:
    """A line `(label)=`."""

    label: str


@dataclass
class Heading:
    """An ATX heading."""

    level: int
    title: str


@dataclass
class Directive:
    """A directive, its options, its content as text and as blocks; `tools.labels` fills in the number."""

    name: str
    argument: str
    options: dict[str, str]
    body: list[str]
    blocks: list[Block] = field(default_factory=list)
    indent: str = ""
    number: str = ""


Block = Text | Code | Math | Target | Heading | Directive


def parse(text: str) -> list[Block]:
    """Splits MyST Markdown into blocks; the content of directives is split too."""
    return _parse(text.split("\n"))


def _parse(lines: list[str]) -> list[Block]:
    blocks: list[Block] = []
    plain: list[str] = []

    def flush() -> None:
        if plain:
            blocks.append(Text(list(plain)))
            plain.clear()

    i = 0
    while i < len(lines):
        line = lines[i]
        fence = FENCE.match(line)
        is_colon = fence is not None and fence["fence"][0] == ":"
        is_fence = fence is not None and (
            is_colon or "`" not in fence["info"] or fence["fence"][0] == "~"
        )
        directive = DIRECTIVE.match(fence["info"].strip()) if fence and is_fence else None
        if fence and is_fence and (directive or not is_colon):
            flush()
            end = _closing(lines, i, fence["fence"])
            body = [_dedent(row, len(fence["indent"])) for row in lines[i + 1 : end]]
            if directive:
                blocks.append(_directive(directive, body, fence["indent"]))
            else:
                blocks.append(Code(lines[i : end + 1]))
            i = end + 1
        elif line.strip().startswith("$$"):
            flush()
            i, block = _math(lines, i)
            blocks.append(block)
        elif target := TARGET.match(line):
            flush()
            blocks.append(Target(target["label"]))
            i += 1
        elif heading := HEADING.match(line):
            flush()
            blocks.append(Heading(len(heading["marks"]), heading["title"]))
            i += 1
        else:
            plain.append(line)
            i += 1
    flush()
    return blocks


def _closing(lines: list[str], start: int, fence: str) -> int:
    for i in range(start + 1, len(lines)):
        text = lines[i].strip()
        if len(text) >= len(fence) and set(text) == {fence[0]}:
            return i
    raise ValueError(f"the fence {lines[start].strip()!r} is never closed")


def _dedent(line: str, width: int) -> str:
    return line[width:] if not line[:width].strip() else line.lstrip()


def _directive(match: re.Match[str], body: list[str], indent: str) -> Block:
    options = {}
    while body and (option := OPTION.match(body[0])):
        options[option["key"]] = option["value"] or ""
        body = body[1:]
    while body and not body[0].strip():
        body = body[1:]
    while body and not body[-1].strip():
        body = body[:-1]
    name, argument = match["name"], match["argument"].strip()
    if name == "math":
        return Math(
            "\n".join(([argument] if argument else []) + body), options.get("label"), indent
        )
    blocks = [] if name in LEAVES else _parse(body)
    return Directive(name, argument, options, body, blocks, indent)


def _math(lines: list[str], start: int) -> tuple[int, Math]:
    indent = lines[start][: len(lines[start]) - len(lines[start].lstrip())]
    body = lines[start].strip()[2:]
    i = start
    while not (end := MATH_END.search(body)):
        i += 1
        if i == len(lines):
            raise ValueError(
                f"the display that starts with {lines[start].strip()!r} is never closed"
            )
        body += "\n" + _dedent(lines[i], len(indent))
    return i + 1, Math(body[: end.start()].strip("\n"), end["label"], indent)


def walk(blocks: list[Block]) -> Iterator[Block]:
    """Every block, the outer before the inner."""
    for block in blocks:
        yield block
        if isinstance(block, Directive):
            yield from walk(block.blocks)


def each_role(text: str, convert: Callable[[str, str], str]) -> str:
    """Replaces every role by `convert(name, content)`, and leaves code spans alone."""
    done, i = "", 0
    while (tick := text.find("`", i)) >= 0:
        run = len(text) - tick - len(text[tick:].lstrip("`"))
        end = re.compile(rf"(?<!`)`{{{run}}}(?!`)").search(text, tick + run)
        if end is None:
            done += text[i : tick + run]
            i = tick + run
            continue
        before, content = text[i:tick], text[tick + run : end.start()]
        role = ROLE.search(before)
        if role and not before[: role.start()].endswith("\\"):
            done += before[: role.start()] + convert(role[1], content)
        else:
            done += text[i : end.end()]
        i = end.end()
    return done + text[i:]


def reference(content: str) -> tuple[str | None, str]:
    """Splits `words <target>` into (words, target), and `target` into (None, target)."""
    match = REFERENCE.match(content.strip())
    return (match["text"], match["target"].strip()) if match else (None, content.strip())
