"""What the readers of cells share: the one table of what no reader may see, and the syntax tree of code."""

from __future__ import annotations

import ast
import re

# What MyST, LaTeX and Sphinx would understand, but neither Jupyter nor a reader of the built book.
LEFTOVERS = {
    "a role": re.compile(r"\{[A-Za-z][\w:+-]*\}`"),
    "a colon fence": re.compile(r"^\s*(?:> ?)*:{3,}", re.MULTILINE),
    "a directive": re.compile(r"^\s*(?:> ?)*(?:`{3,}|~{3,}) *\{", re.MULTILINE),
    "a target": re.compile(r"^\s*(?:> ?)*\([\w:.-]+\)=\s*$", re.MULTILINE),
    "a labelled equation": re.compile(r"\$\$ *\([\w:.-]+\)"),
    "a display that is never closed": re.compile(r"\$\$"),
    "a substitution": re.compile(r"\{\{"),
    "a footnote": re.compile(r"\[\^[^\]]+\]"),
    "a % comment": re.compile(r"^\s*%", re.MULTILINE),
    "a block break": re.compile(r"^\+\+\+", re.MULTILINE),
    "an HTML comment": re.compile(r"<!--"),
    "a definition list": re.compile(r"^:\s", re.MULTILINE),
    "a link that is not for the web": re.compile(r"\]\((?!(?:https?:)?//|mailto:|#)[^()\s]+\)"),
    "attributes of a link or a picture": re.compile(r"\]\([^()]*\)\{"),
    "an option of a directive": re.compile(r"^\s*(?:> ?)*\|? ?:\w[\w-]*: \S", re.MULTILINE),
}
CODE = re.compile(
    r"^(?P<f>\s*(?:> ?)*(?:`{3,}|~{3,}))(?! *\{).*?^(?P=f)\s*$"
    r"|(?<!`)(?!`{3,} *\{[^`\n]*$)(?P<t>`+)(?!`).+?(?<!`)(?P=t)(?!`)",
    re.MULTILINE | re.DOTALL,
)
DISPLAY = re.compile(r"\$\$(?! *\([\w:.-]+\)).+?\$\$(?! *\([\w:.-]+\))", re.DOTALL)
TITLE = "# @title "  # the first line of a folded cell of a notebook; Colab shows it in place of the code
INLINE = re.compile(r"(?<![\\$])\$(?![\s$])[^$\n]*?(?<!\\)\$")


def leftovers(text: str) -> list[str]:
    """What is still MyST in text for Jupyter, code and formulas aside."""
    bare = INLINE.sub("$", DISPLAY.sub("$", CODE.sub("`", text)))
    return [f"{what}: {m[0].strip()!r}" for what, p in LEFTOVERS.items() if (m := p.search(bare))]


def untitled(source: str) -> str:
    """The code of a cell without its title, as the source and the page have it."""
    return source.partition("\n")[2] if source.startswith(TITLE) else source


def magic_free(source: str) -> str:
    """The code of a cell as Python: lines of magic do nothing."""
    return re.sub(r"^(\s*)[%!].*$", r"\1pass", source, flags=re.MULTILINE)


def calls(source: str, name: str) -> list[ast.Call]:
    """All calls of a function, or of a method, in the order of the text."""
    found = [node for node in ast.walk(python(source)) if isinstance(node, ast.Call)]
    found = [
        call for call in found if name in (getattr(call.func, key, "") for key in ("id", "attr"))
    ]
    return sorted(found, key=lambda call: (call.lineno, call.col_offset))


def python(source: str) -> ast.Module:
    """The syntax tree of a code cell; of one that is more than Python with lines of magic, an empty one."""
    try:
        return ast.parse(magic_free(source))
    except SyntaxError:
        return ast.Module([], [])
