"""Turns the MyST cells of a chapter into Markdown that Jupyter, Colab and GitHub understand."""

from __future__ import annotations

import json
import re

from tools import myst
from tools.citations import Citation
from tools.labels import Book, Page, Place

LINK = re.compile(r"(?<!!)\[(?P<text>[^\[\]]*)\]\((?P<target>[^()\s]+)\)")
WEB = re.compile(r"^(?:[a-z]+:)?//|^mailto:")
LEFTOVERS = [
    (re.compile(r"\{[A-Za-z][\w:+-]*\}`"), "a role"),
    (re.compile(r"^\s*(?:> ?)*:{3,}", re.MULTILINE), "a colon fence"),
    (re.compile(r"^\s*(?:> ?)*(?:`{3,}|~{3,})\{", re.MULTILINE), "a directive"),
    (re.compile(r"^\s*(?:> ?)*\([\w:.-]+\)=\s*$", re.MULTILINE), "a target"),
    (re.compile(r"\$\$\s*\([\w:.-]+\)"), "a labelled equation"),
    (re.compile(r"\{\{"), "a substitution"),
    (re.compile(r"\[\^[^\]]+\]"), "a footnote"),
    (re.compile(r"^\s*%", re.MULTILINE), "a % comment"),
    (re.compile(r"^\+\+\+", re.MULTILINE), "a block break"),
    (re.compile(r"<!--"), "an HTML comment"),
    (re.compile(r"^:\s", re.MULTILINE), "a definition list"),
    (re.compile(r"\]\([^()]*\)\{"), "attributes of a link or a picture"),
    (re.compile(r"^\s*(?:> ?)*\|? ?:\w[\w-]*: \S", re.MULTILINE), "an option of a directive"),
]
CODE = re.compile(
    r"^(?P<f>\s*(?:> ?)*(?:`{3,}|~{3,})).*?^(?P=f)\s*$|(?<!`)(?P<t>`+)(?!`).+?(?<!`)(?P=t)(?!`)",
    re.MULTILINE | re.DOTALL,
)
DISPLAY = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)
INLINE = re.compile(r"(?<![\\$])\$(?![\s$])[^$\n]*?(?<!\\)\$")


class Converter:
    """Converts the text cells of one page; raises ValueError naming what it cannot convert."""

    def __init__(self, book: Book, page: Page, citations: dict[str, Citation]):
        self.book, self.page, self.citations = book, page, citations
        macros = book.root / "book" / "macros.json"
        self.macros = list(json.loads(macros.read_text("utf8"))) if macros.exists() else []

    def cells(self) -> dict[int, str]:
        """The converted text of every text cell, by index."""
        texts = {}
        for index, blocks in self.page.markdown:
            try:
                text = self.blocks(blocks)
                if caption := self._caption_above(index):
                    text = f"{caption}\n\n{text}"
                complain(text, self.macros)
            except ValueError as error:
                raise ValueError(f"{self.page.path.name}, cell {index}: {error}") from None
            texts[index] = text or "---"
        return texts

    def _caption_above(self, index: int) -> str:
        if index == 0 or self.page.cells[index - 1][0] != "code":
            return ""
        figure = (self.page.cells[index - 1][2].get("mystnb") or {}).get("figure") or {}
        if not figure.get("caption"):
            return ""
        if not figure.get("name"):
            raise ValueError("the figure above has a caption, so it needs a name too")
        return f"*Fig. {self.book.places[figure['name']].number}. {self.inline(figure['caption'])}*"

    def blocks(self, blocks: list[myst.Block]) -> str:
        """Converts a list of blocks."""
        parts = [self.block(block) for block in blocks]
        return re.sub(r"\n{3,}", "\n\n", "\n".join(parts)).strip("\n")

    def block(self, block: myst.Block) -> str:
        """Converts one block."""
        match block:
            case myst.Text(lines):
                return self.inline("\n".join(lines))
            case myst.Code(lines):
                return "\n".join(lines)
            case myst.Heading(level, title):
                return f"{'#' * level} {self.inline(title)}"
            case myst.Target(label):
                return f'<a id="{label}"></a>\n'
            case myst.Math():
                return self.math(block)
            case myst.Directive():
                return "\n" + self.directive(block) + "\n"

    def math(self, block: myst.Math) -> str:
        """A display equation; its number becomes a tag."""
        for wrong in (
            r"\begin{align",
            r"\begin{equation",
            r"\begin{gather}",
            r"\label",
            r"\tag",
            r"\eqref",
            r"\newcommand",
        ):
            if (
                wrong in block.body
                and not block.body.count(wrong) == block.body.count(r"\begin{aligned") > 0
            ):
                raise ValueError(
                    f"{wrong} in a display; use \\begin{{aligned}} and $$ ... $$ (label)"
                )
        if "%" in block.body.replace(r"\%", "") or "\n\n" in block.body or not block.body.strip():
            raise ValueError(
                f"a display is empty, or has a blank line or a % in it: {block.body[:60]!r}"
            )
        tag = rf" \tag{{{self.book.places[block.label].number}}}" if block.label else ""
        rows = ["$$", *(block.body + tag).split("\n"), "$$"]
        return "\n".join(block.indent + row for row in rows)

    def directive(self, block: myst.Directive) -> str:
        """A directive in plain Markdown."""
        if block.indent:
            raise ValueError(
                f"the directive {block.name} is indented; directives inside lists are not supported"
            )
        name, title = block.name, self.inline(block.argument)
        if name == "prf:proof":
            return self.quote(f"**Proof.** {self.blocks(block.blocks)}")
        if name.startswith("prf:") and name[4:] in myst.PROOFS:
            return self.quote(
                f"{self.heading(name[4:].title(), block)}\n\n{self.blocks(block.blocks)}"
            )
        if name in ("exercise", "exercise-start"):
            return f"{self.heading('Exercise', block)}\n\n{self.blocks(block.blocks)}"
        if name in ("solution", "solution-start"):
            exercise = self.find(block.argument)
            return f"**Solution to Exercise {exercise.number}**\n\n{self.blocks(block.blocks)}"
        if name in ("exercise-end", "solution-end"):
            return ""
        if name in myst.ADMONITIONS:
            own = name in ("admonition", "margin")
            head = title if own else {"seealso": "See also"}.get(name, name.title())
            text = "\n".join(filter(None, ["" if own else block.argument]))
            return self.quote(
                (f"**{head}**\n\n" if head else "")
                + (self.inline(text) + "\n" if text else "")
                + self.blocks(block.blocks)
            )
        if name == "dropdown":
            summary = f"<summary>{self.html(block.argument)}</summary>"
            return f"<details>\n{summary}\n\n{self.blocks(block.blocks)}\n\n</details>"
        if name in ("figure", "image"):
            picture = f"![{block.options.get('alt', '')}]({block.argument})"
            if name == "image" or not block.body:
                return picture
            number = self.find(block.options.get("name", "")).number
            return f"{picture}\n\n*Fig. {number}. {self.inline(' '.join(block.body))}*"
        if name == "code-block":
            return "\n".join([f"```{block.argument}", *block.body, "```"])
        raise ValueError(
            f"the directive {name} is not supported in chapters; tools/AUTHORING.md lists those that are"
        )

    def heading(self, kind: str, block: myst.Directive) -> str:
        """The bold title of a theorem or an exercise, behind its anchor."""
        label = block.options.get("label")
        anchor = f'<a id="{label}"></a>' if label else ""
        title = f" ({self.inline(block.argument)})" if block.argument else ""
        return f"{anchor}**{kind}{' ' + block.number if block.number else ''}{title}**"

    def quote(self, text: str) -> str:
        """A quotation; displays go on one line, since Jupyter would take `>` into the formula."""
        text = DISPLAY.sub(lambda m: "\n$$" + " ".join(m[1].split()) + "$$\n", text)
        return "\n".join(
            f"> {line}".rstrip() for line in re.sub(r"\n{3,}", "\n\n", text).strip("\n").split("\n")
        )

    def html(self, text: str) -> str:
        """Inline text inside an HTML tag, where Markdown does not reach."""
        return re.sub(r"[*`]", "", self.inline(text))

    def inline(self, text: str) -> str:
        """Converts roles and links in running text."""
        return LINK.sub(self.link, myst.each_role(text, self.role))

    def find(self, label: str) -> Place:
        """The place of a label; an unknown label is an error."""
        if label not in self.book.places:
            raise ValueError(f"no label {label!r} in the book")
        return self.book.places[label]

    def role(self, name: str, content: str) -> str:
        """A role in plain words."""
        words, target = myst.reference(content)
        if name == "eq":
            place = self.find(target)
            if place.kind != "equation":
                raise ValueError(f"{target!r} labels a {place.kind}, not an equation")
            return f"({place.number})"
        if name in ("ref", "prf:ref", "numref"):
            return self.to_label(name, words, target)
        if name == "doc":
            return self.to_page(words, target)
        if name == "term":
            return words or target
        if name in ("cite:t", "cite:p"):
            return self.cite(name, content)
        raise ValueError(
            f"the role {name} is not supported in chapters; tools/AUTHORING.md lists those that are"
        )

    def to_label(self, name: str, words: str | None, label: str) -> str:
        """Words, or a link where one works, for a labelled place."""
        place = self.find(label)
        if name == "prf:ref" and place.kind not in myst.PROOFS:
            raise ValueError(f"{label!r} labels a {place.kind}, not a theorem or its kin")
        if name == "numref":
            if place.kind != "figure":
                raise ValueError(f"{label!r} labels a {place.kind}, not a figure")
            return (
                (words or "Fig. %s").replace("%s", place.number).replace("{number}", place.number)
            )
        if place.kind in ("section", "figure"):
            shown = words or self.inline(place.title)
        else:
            shown = words or f"{place.kind.title()} {place.number}".strip()
        if not shown:
            raise ValueError(
                f"{label!r} marks nothing with a title; write {{ref}}`words <{label}>`"
            )
        if place.docname == self.page.docname:
            return f"[{shown}](#{label})" if place.kind != "figure" else shown
        return self.web(shown, place.docname, label, words is None and place.kind == "section")

    def to_page(self, words: str | None, target: str) -> str:
        """Words, or a link where one works, for a page."""
        folder = self.page.docname.rpartition("/")[0]
        docname = target.lstrip("/") if target.startswith("/") else _join(folder, target)
        if docname not in self.book.pages:
            raise ValueError(f"no page {target!r} in the book")
        return self.web(words or self.book.pages[docname].title, docname, "", False)

    def web(self, shown: str, docname: str, label: str, say_where: bool) -> str:
        """A link to the published book if its address is known; else words."""
        if self.book.address:
            return f"[{shown}]({self.book.address.rstrip('/')}/{docname}.html{'#' + label if label else ''})"
        page = self.book.pages[docname]
        return f"{shown} (chapter {page.chapter})" if say_where and page.chapter else shown

    def link(self, match: re.Match[str]) -> str:
        """A Markdown link: the web and anchors stay; pages of the book become words or an absolute link."""
        target, _, label = match["target"].partition("#")
        if WEB.match(match["target"]) or not target:
            return match[0]
        docname = re.sub(
            r"\.(?:md|ipynb|html)$", "", _join(self.page.docname.rpartition("/")[0], target)
        )
        return (
            self.web(match["text"], docname, label, False)
            if docname in self.book.pages
            else match["text"]
        )

    def cite(self, name: str, content: str) -> str:
        """Author and year."""
        found = []
        for key in (k.strip() for k in content.split(",")):
            if key not in self.citations:
                raise ValueError(f"no entry {key!r} in the bibliography")
            found.append(self.citations[key])
        if name == "cite:t":
            return _and([f"{c.authors} ({c.year})" for c in found])
        return "(" + "; ".join(f"{c.authors}, {c.year}" for c in found) + ")"


def _and(words: list[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def _join(folder: str, target: str) -> str:
    parts = folder.split("/") if folder else []
    for part in target.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def leftovers(text: str) -> list[str]:
    """What is still MyST in converted text, code and formulas aside."""
    bare = re.sub(r"\$\$(?!\s*\([\w:.-]+\)).+?\$\$", "$", CODE.sub("`", text), flags=re.DOTALL)
    bare = INLINE.sub("$", bare)
    return [
        f"{what}: {found[0].strip()!r}"
        for pattern, what in LEFTOVERS
        if (found := pattern.search(bare))
    ]


def complain(text: str, macros: list[str]) -> None:
    """Raises ValueError if MyST is left, or a macro that only the built book knows."""
    if left := leftovers(text):
        raise ValueError("MyST that Jupyter cannot show: " + "; ".join(left))
    for name in macros:
        if re.search(rf"\\{name}(?![A-Za-z])", text):
            raise ValueError(f"the book's macro \\{name}, which Jupyter does not know")
