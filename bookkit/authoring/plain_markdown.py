"""Turns the MyST cells of a chapter into Markdown that Jupyter, Colab and GitHub understand."""

from __future__ import annotations

import json
import posixpath
import re

from bookkit.authoring import myst
from bookkit.authoring.cell_syntax import leftovers
from bookkit.authoring.citations import Citation
from bookkit.authoring.labels import Book, Page, Place, figure

GUIDE = "is not supported in chapters; bookkit/authoring/AUTHORING.md lists those that are"
DISPLAY = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)
NOT_IN_MATH = re.compile(
    r"\\begin\{(?:align(?!ed)|equation|gather\})|\\(?:label|tag|eqref|newcommand)"
)


class Converter:
    """Converts the text cells of one page; raises ValueError naming what it cannot convert."""

    def __init__(self, book: Book, page: Page, citations: dict[str, Citation]):
        self.book, self.page, self.citations = book, page, citations
        self.macros = json.loads((book.root / "book" / "macros.json").read_text("utf8"))

    def cells(self) -> dict[int, str]:
        """The converted text of every text cell, by index."""
        texts, caption = {}, ""
        for index, (kind, _, metadata) in enumerate(self.page.cells):
            try:
                if kind == "markdown":
                    texts[index] = f"{caption}{self.blocks(self.page.blocks[index])}" or "---"
                    self.complain(texts[index])
                caption = self.caption(figure(metadata))
            except ValueError as error:
                raise ValueError(f"{self.page.path.name}, cell {index}: {error}") from None
        return texts

    def caption(self, of: dict) -> str:
        """The caption of a code cell's figure, for the top of the text cell below."""
        if not of.get("caption"):
            return ""
        if not of.get("name"):
            raise ValueError("the figure has a caption, so it needs a name too")
        return f"*Fig. {self.find(of['name']).number}. {self.inline(of['caption'])}*\n\n"

    def complain(self, text: str) -> None:
        """Raises ValueError if MyST is left, or a macro that only the built book knows."""
        if left := leftovers(text):
            raise ValueError("MyST that Jupyter cannot show: " + "; ".join(left))
        for name in self.macros:
            if re.search(rf"\\{name}(?![A-Za-z])", text):
                raise ValueError(f"the book's macro \\{name}, which Jupyter does not know")

    # ------------------------------------------------------------------------------------------------ blocks

    def blocks(self, blocks: list[myst.Block]) -> str:
        """Converts a list of blocks."""
        parts = [self.block(block) for block in blocks]
        return re.sub(r"\n{3,}", "\n\n", "\n".join(parts)).strip("\n")

    def block(self, block: myst.Block) -> str:
        """Converts one block."""
        match block.kind:
            case "text":
                return self.inline(block.text)
            case "code":
                return block.text
            case "heading":
                return f"{'#' * block.level} {self.inline(block.text)}"
            case "target":
                return f'<a id="{block.label}"></a>\n'
            case "math":
                return self.math(block)
        return f"\n{self.directive(block)}\n"

    def math(self, block: myst.Block) -> str:
        """A display equation; its number becomes a tag."""
        if wrong := NOT_IN_MATH.search(block.text):
            raise ValueError(
                f"{wrong[0]} in a display; use \\begin{{aligned}} and $$ ... $$ (label)"
            )
        if not block.text.strip() or "\n\n" in block.text or re.search(r"(?<!\\)%", block.text):
            raise ValueError(
                f"a display is empty, or has a blank line or a % in it: {block.text[:60]!r}"
            )
        tag = rf" \tag{{{block.number}}}" if block.label else ""
        return f"$$\n{block.text}{tag}\n$$"

    def directive(self, block: myst.Block) -> str:
        """A directive in plain Markdown."""
        inside, title = self.blocks(block.blocks), self.inline(block.argument)
        match block.kind:
            case "depth-start":
                return f"**Depth: {title}**"
            case "exercise-start":
                return self.heading("Exercise", block)
            case "solution-start":
                return f"**Solution to Exercise {self.find(block.argument).number}**"
            case "exercise-end" | "solution-end" | "depth-end":
                return ""
            case "admonition":
                return self.quote(f"**{title}**\n\n{inside}")
            case "dropdown":
                summary = re.sub(r"[*`]", "", title)  # Markdown ends at a tag
                return f"<details>\n<summary>{summary}</summary>\n\n{inside}\n\n</details>"
        if (kind := block.kind.removeprefix("prf:")) in myst.PROOFS:
            return self.quote(f"{self.heading(kind.title(), block)}\n\n{inside}")
        raise ValueError(f"the directive {block.kind} {GUIDE}")

    def heading(self, kind: str, block: myst.Block) -> str:
        """The bold title of a theorem or an exercise, behind its anchor."""
        anchor = f'<a id="{block.label}"></a>' if block.label else ""
        title = f" ({self.inline(block.argument)})" if block.argument else ""
        return f"{anchor}**{kind} {block.number}{title}**"

    def quote(self, text: str) -> str:
        """A quotation; displays go on one line, since Jupyter would take `>` into the formula."""
        text = DISPLAY.sub(lambda m: "\n$$" + " ".join(m[1].split()) + "$$\n", text)
        lines = re.sub(r"\n{3,}", "\n\n", text).strip("\n").split("\n")
        return "\n".join(f"> {line}".rstrip() for line in lines)

    # ------------------------------------------------------------------------------------------------ running text

    def inline(self, text: str) -> str:
        """Converts the roles in running text."""
        return myst.each_role(text, self.role)

    def find(self, label: str, *kinds: str) -> Place:
        """The place of a label, of one of these kinds; ValueError if there is none."""
        if label not in self.book.places:
            raise ValueError(f"no label {label!r} in the book")
        place = self.book.places[label]
        if kinds and place.kind not in kinds:
            raise ValueError(f"{label!r} is a label of another kind: {place.kind}")
        return place

    def role(self, name: str, content: str) -> str:
        """A role in plain words."""
        words, target = myst.reference(content)
        match name:
            case "eq":
                return f"({self.find(target, 'equation').number})"
            case "numref":
                number = self.find(target, "figure").number
                return (words or "Fig. %s").replace("%s", number)
            case "prf:ref":
                return self.to_place(words, target, self.find(target, *myst.PROOFS))
            case "ref":
                return self.to_place(words, target, self.find(target))
            case "doc":
                return self.to_page(words, target)
            case "term":
                return words or target
            case "cite:t" | "cite:p":
                return self.cite(name, content)
        raise ValueError(f"the role {name} {GUIDE}")

    def to_place(self, words: str, label: str, place: Place) -> str:
        """Words, or a link where one works, for a labelled place."""
        title = self.inline(place.title) if place.kind in ("section", "figure") else ""
        named = "" if place.kind == "section" else f"{place.kind.title()} {place.number}".strip()
        shown = words or title or named
        if not shown:
            raise ValueError(
                f"{label!r} marks nothing with a title; write {{ref}}`words <{label}>`"
            )
        if place.docname == self.page.docname:
            return f"[{shown}](#{label})" if place.kind != "figure" else shown
        return self.web(shown, place.docname, label, not words and place.kind == "section")

    def to_page(self, words: str, target: str) -> str:
        """Words, or a link where one works, for a page; a leading / means the book's folder."""
        folder = posixpath.dirname(self.page.docname)
        docname = posixpath.normpath(posixpath.join("/", folder, target)).lstrip("/")
        if docname not in self.book.pages:
            raise ValueError(f"no page {target!r} in the book")
        return self.web(words or self.book.pages[docname].title, docname)

    def web(self, shown: str, docname: str, label: str = "", say_where: bool = False) -> str:
        """A link to the published book if its address is known; else words."""
        if self.book.address:
            anchor = f"#{label}" if label else ""
            return f"[{shown}]({self.book.address.rstrip('/')}/{docname}.html{anchor})"
        page = self.book.pages[docname]
        return f"{shown} (chapter {page.chapter})" if say_where and page.chapter else shown

    def cite(self, name: str, content: str) -> str:
        """Author and year."""
        keys = [key.strip() for key in content.split(",")]
        if unknown := [key for key in keys if key not in self.citations]:
            raise ValueError(f"no entry {unknown[0]!r} in the bibliography")
        works = [self.citations[key] for key in keys]
        if name == "cite:p":
            return f"({'; '.join(f'{work.authors}, {work.year}' for work in works)})"
        *others, last = [f"{work.authors} ({work.year})" for work in works]
        return f"{', '.join(others)} and {last}" if others else last
