"""Folds the code of a chapter that its page does not show; the notebook keeps everything.

A page is read, a notebook is run. On the page imports are gone, code that draws or tabulates is folded under what it
made, and a check (`verify`) is a badge at its equation, which opens to what was compared and to the code; a paragraph
that begins with **Check.** goes with it. What stays open is content: definitions, algorithms, training loops, short
computations, and what `show` shows. The role of a cell is a tag that its source carries.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import nbformat
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

from bookkit.authoring import roles
from bookkit.authoring.labels import Book
from bookkit.site.opening import opening

PROMPTS = {
    roles.FIGURE: "Code for this figure",
    roles.NUMBERS: "Code for these numbers",
    roles.ANSWER: "Cell for your answer",
}

REFUSED = re.compile(r'(?:"([^"]*)"|\b(E\d+)\b)((?: \([^)]*\))?)')


class Fold(nodes.Element):
    """A `<details>`: its summary is `title`, or a check mark whose name for screen readers is `title`."""


def open_fold(writer: Any, node: Fold) -> None:
    # The switch for code leaves text alone.
    kind = "" if "book-depth" in node["classes"] else "book-code"
    writer.body.append(writer.starttag(node, "details", CLASS=kind))
    title = writer.encode(node["title"])
    if "book-badge" in node["classes"]:  # the style draws the mark
        writer.body.append(f'<summary aria-label="{title}" title="{title}"></summary>\n')
    else:
        writer.body.append(f"<summary>{title}</summary>\n")


def close_fold(writer: Any, node: Fold) -> None:
    writer.body.append("</details>\n")


def fold(title: str, kind: str, *children: nodes.Node) -> Fold:
    """Nodes behind a summary."""
    return Fold("", *children, title=title, classes=[f"book-{kind}"])


class Folding(SphinxPostTransform):
    """Takes the cells of a chapter's page apart and puts code, output and badges where a reader wants them."""

    default_priority = 650  # after the links of api, which read the imports
    formats = ("html",)

    def run(self, **_: Any) -> None:
        book: Book = self.app.the_book  # type: ignore[attr-defined]
        self.book = book
        page = book.pages.get(self.env.docname)
        if page is None or not page.is_notebook:
            return
        cells = roles.cells_of(nbformat.read(book.root / f"{page.docname}.ipynb", 4))
        containers = list(self.document.findall(nodes.container))
        boxes = {b["cell_index"]: b for b in containers if b.get("nb_element") == "cell_code"}
        self.equations = {
            math["label"]: math
            for math in self.document.findall(nodes.math_block)
            if math.get("label")
        }
        # The code of a cell and of all that serve it.
        self.code: dict[int, list[nodes.Node]] = defaultdict(list)
        self.homes: dict[int, str] = {}  # the badge that holds the code of a cell
        links: list[nodes.Node] = []
        self.notes = check_notes(self.document, {i for i in boxes if cells[i].role == roles.CHECK})
        for index, box in boxes.items():
            cell = cells[index]
            after = box.next_node(descend=False, siblings=True)
            if isinstance(after, nodes.paragraph) and "api-links" in after["classes"]:
                links += after.children[1:]
                after.parent.remove(after)
            source = next((c for c in box.children if is_part(c, "source")), None)
            if source is not None and cell.role != roles.OPEN:
                box.remove(source)
                self.code[cell.host].append(source)
        for index, box in boxes.items():
            self.place(cells[index], box)
        self.badges(roles.verified(cells.values()))
        section = next(self.document.findall(nodes.section))
        if links:
            words = nodes.Text("Used in this chapter, in the API reference:")
            section += nodes.paragraph("", "", words, *once(links), classes=["api-links"])
        address = partial(self.app.builder.get_relative_uri, page.docname)
        section.insert(1, opening(book, page, address))

    def place(self, cell: roles.Cell, box: nodes.container) -> None:
        """Leaves of a cell what the text needs; what is empty goes."""
        outputs = [part for part in box.children if is_part(part, "output")]
        for block in [block for output in outputs for block in output.findall(nodes.literal_block)]:
            if roles.VERIFIED.search(block.astext()):
                text = roles.left_over(block.astext())
                left = nodes.literal_block(text, text, **block.attributes)
                block.parent.replace(block, [left] if text.strip() else [])
        role = cell.role
        if role == roles.CHECK and any(output.children for output in outputs):
            role = roles.NUMBERS  # which keep their code at hand
        code = self.code.pop(cell.index, []) if role in roles.WITH_FOLD - {roles.CHECK} else []
        if role == roles.HELD:
            title = roles.summary_of(roles.statements(cell.text))
            box.children = []
            box += fold(title, "held", *outputs, *code)
        elif role == roles.ANSWER:
            box.children = []
            box += fold(PROMPTS[role], "fold", *code, *outputs)
        elif role in (roles.FIGURE, roles.NUMBERS):
            box += fold(PROMPTS[role], "fold", *code)
        if role == roles.OPEN or code:
            box["ids"].append(f"code-{cell.index}")
        if role == roles.UNSEEN or not any(child.children for child in box.children):
            box.parent.remove(box)

    def badges(self, found: dict[str, list[roles.Verified]]) -> None:
        """Puts each check at its equation."""
        for label, lines in found.items():
            if math := self.equations.get(label):
                title = f"How equation ({self.book.places[label].number}) is checked"
                badge = fold(title, "badge", *self.card(label, lines))
                badge["ids"] = [f"check-{label}"]
                wrapped = nodes.container("", classes=["book-checked"])
                math.parent[math.parent.index(math)] = wrapped
                wrapped += [math, badge]

    def card(self, label: str, lines: Sequence[roles.Verified]) -> Iterator[nodes.Node]:
        """What a badge opens to: the text on the check, its two sides, its rule, what it refuses; then the code."""
        items = nodes.bullet_list()
        for index in dict.fromkeys(line.cell.index for line in lines):
            for note in self.notes.pop(index, []):
                note.parent.remove(note)
                note.remove(lead_of(note))  # the badge says already that this is a check
                yield note
        for line in lines:
            words = nodes.paragraph()
            if line.sides:
                left, right = (nodes.literal(side, side) for side in line.sides)
                words += [left, nodes.Text(" against "), right, nodes.Text(": ")]
            rule, _, refused = line.text.partition("; rejects ")
            words += nodes.Text(rule.replace("<=", "≤") + ".")
            names = REFUSED.findall(refused)
            for at, (name, erratum, detail) in enumerate(names):
                words += nodes.Text(", " if at else " Refused: ")
                words += [self.erratum(erratum) if erratum else nodes.Text(f"“{name}”")]
                words += nodes.Text(detail)
            words += nodes.Text("." if names else "")
            items += nodes.list_item("", words)
        yield items
        for cell in {line.cell.index: line.cell for line in lines}.values():
            for claim in roles.statements(cell.text):
                items += nodes.list_item("", nodes.paragraph("", f"Holds too: {claim}."))
            if code := self.code.pop(cell.index, None):
                self.homes[cell.index] = f"check-{label}"
                yield from code
            else:
                home = self.homes.get(cell.index, f"code-{cell.index}")
                link = nodes.reference("", "elsewhere on this page", refid=home, internal=True)
                yield nodes.paragraph("", "", nodes.Text("The code stands "), link, nodes.Text("."))

    def erratum(self, name: str) -> nodes.Node:
        """A link to the entry of a misprint."""
        page = self.app.builder.get_relative_uri(self.env.docname, "book/errata")
        return nodes.reference("", name, refuri=f"{page}#erratum-{name.lower()}", internal=True)


def is_part(node: nodes.Node, name: str) -> bool:
    """Whether a node is the "source" or the "output" of a cell."""
    return isinstance(node, nodes.Element) and node.get("nb_element") == f"cell_code_{name}"


def lead_of(paragraph: nodes.paragraph) -> nodes.Node | None:
    """What a paragraph begins with; empty nodes do not count."""
    return next((child for child in paragraph.children if child.astext()), None)


def check_notes(document: nodes.document, checks: set[int]) -> dict[int, list[nodes.paragraph]]:
    """The paragraphs that begin with **Check.** or **Checks.**, by the cell of the check that follows them."""
    found: dict[int, list[nodes.paragraph]] = defaultdict(list)
    waiting: list[nodes.paragraph] = []
    for node in document.findall(lambda n: isinstance(n, nodes.paragraph | nodes.container)):
        if isinstance(node, nodes.paragraph):
            lead = lead_of(node)
            if isinstance(lead, nodes.strong) and lead.astext() in ("Check.", "Checks."):
                waiting.append(node)
        elif (index := node.get("cell_index")) in checks and waiting:
            found[index], waiting = waiting, []
    return found


def once(links: Iterable[nodes.Node]) -> Iterator[nodes.Node]:
    """Links in the order of their words, each once, with spaces before."""
    for _, link in sorted({link.astext(): link for link in links if link.astext().strip()}.items()):
        yield from (nodes.Text(" "), link)


def setup(app: Sphinx) -> None:
    app.add_node(Fold, html=(open_fold, close_fold))
    app.add_post_transform(Folding)
