"""What each code cell of a chapter is for its page: content, or machinery that serves a figure, a table or a check.

The role of a cell follows from its code and its stored outputs; the tags `open` and `fold` overrule it.
"""

from __future__ import annotations

import ast
import re
import symtable
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import nbformat

from bookkit.authoring import cell_syntax, chapter_rules
from bookkit.authoring.labels import VERIFIED, Page

HOLDS = re.compile(r"^(.+): True$")
UNANSWERED = re.compile(r"^not answered yet", re.MULTILINE)
HEADING = re.compile(r"^(##?) ", re.MULTILINE)
SOLUTION = re.compile(r"\{solution-(start|end)\}")
SHORT = 6  # lines of code that stay open above what they print

# What a cell is, and where its code goes.
GONE, OPEN, SHOWN = (
    "gone",
    "open",
    "shown",
)  # nowhere; where it stands; nowhere, what it shows stays
FIGURE, TABLE = "figure", "table"  # into a fold below the output
CHECK, HELD, ANSWER = (
    "check",
    "held",
    "answer",
)  # into a badge; into a fold together with the output
SERVES = "serves"  # to the first of the cells that it serves
FOLDED = {FIGURE, TABLE, CHECK, HELD, ANSWER, SERVES}
PROMPTS = {
    FIGURE: "Code for this figure",
    TABLE: "Code for these numbers",
    ANSWER: "Cell for your answer",
}


@dataclass
class Cell:
    """A code cell: what it defines and uses, what it printed, its role, and the cell that holds its code."""

    index: int
    source: str
    tags: set[str]
    text: str = ""  # of the printed output
    is_picture: bool = False
    has_output: bool = False
    in_solution: bool = False
    in_opening: bool = False
    role: str = OPEN
    host: int = -1
    tree: ast.Module = field(init=False)

    def __post_init__(self) -> None:
        self.tree = cell_syntax.python(self.source)

    @property
    def body(self) -> list[ast.stmt]:
        """The statements that are no imports."""
        return [s for s in self.tree.body if not isinstance(s, ast.Import | ast.ImportFrom)]

    @property
    def defines_code(self) -> bool:
        return any(isinstance(s, ast.FunctionDef | ast.ClassDef) for s in self.body)

    def calls(self, name: str) -> list[ast.Call]:
        """All calls of a function, in the order of the text."""
        found = [n for n in ast.walk(self.tree) if isinstance(n, ast.Call)]
        found = [n for n in found if getattr(n.func, "id", "") == name]
        return sorted(found, key=lambda call: (call.lineno, call.col_offset))

    def names(self) -> tuple[set[str], set[str]]:
        """The names that the cell binds for later cells, and those it reads of earlier ones."""
        bound: set[str] = set()
        read: set[str] = set()
        for statement in self.tree.body:
            table = symtable.symtable(ast.unparse(Generators().visit(statement)), "cell", "exec")
            binds = (s for s in table.get_symbols() if s.is_assigned() or s.is_imported())
            targets = bound_first(statement)
            read |= read_globally(table) - bound - targets
            bound |= {symbol.get_name() for symbol in binds}
        return bound, read


class Generators(ast.NodeTransformer):
    """Writes comprehensions as generators: from Python 3.12 on, the variables of the others count as the cell's."""

    def visit_ListComp(self, node: ast.ListComp | ast.SetComp) -> ast.AST:
        self.generic_visit(node)
        return ast.GeneratorExp(node.elt, node.generators)

    visit_SetComp = visit_ListComp

    def visit_DictComp(self, node: ast.DictComp) -> ast.AST:
        self.generic_visit(node)
        return ast.GeneratorExp(ast.Tuple([node.key, node.value], ast.Load()), node.generators)


def read_globally(table: symtable.SymbolTable) -> set[str]:
    """What a piece of code reads by a global name: not its parameters, nor a comprehension's own variables."""
    is_top = table.get_type() == "module"
    symbols = (s for s in table.get_symbols() if s.is_referenced() and (is_top or s.is_global()))
    return {s.get_name() for s in symbols}.union(*map(read_globally, table.get_children()))


def bound_first(statement: ast.stmt) -> set[str]:
    """The names that a loop or a `with` binds before its body reads them."""
    found: list[ast.expr | None] = []
    for node in [statement, *getattr(statement, "body", [])]:
        if isinstance(node, ast.For):
            found.append(node.target)
        if isinstance(node, ast.With):
            found += [item.optional_vars for item in node.items]
    nodes = [n for target in found if target is not None for n in ast.walk(target)]
    return {n.id for n in nodes if isinstance(n, ast.Name)}


def code_cells(page: Page, notebook: nbformat.NotebookNode) -> Iterator[Cell]:
    """The code cells of a stored notebook; what belongs to a solution, the page's source says."""
    in_solution, in_opening = False, False
    for index, (kind, source, _) in enumerate(page.cells):
        cell = notebook.cells[index]
        if kind == "markdown":
            for heading in HEADING.findall(source):
                in_opening = heading == "#"  # from the title to the first section
            for found in SOLUTION.finditer(source):
                in_solution = found[1] == "start"
            continue
        shown = chapter_rules.contents(cell)
        yield Cell(
            index,
            cell.source,
            chapter_rules.tags(cell),
            "".join(output.get("text", "") for output in cell.outputs),
            any(map(chapter_rules.is_picture, shown)),
            bool(cell.outputs),
            in_solution,
            in_opening,
        )


def is_show(statement: ast.stmt) -> bool:
    """Whether a statement is a call of `show`."""
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Call) and getattr(value.func, "id", "") == "show"


def own_role(cell: Cell) -> str:
    """The role that follows from a cell alone."""
    lines = cell.text.splitlines()
    imports = len(cell.tree.body) - len(cell.body)
    if "setup" in cell.tags:
        return GONE
    if "open" in cell.tags or (cell.in_solution and cell.has_output):
        return OPEN
    if imports and not (cell.has_output or cell.defines_code) and imports >= len(cell.body):
        return GONE
    if UNANSWERED.search(cell.text):
        return ANSWER
    if VERIFIED.search(cell.text):
        return CHECK
    if cell.is_picture:
        return FIGURE
    holds = lines and all(map(HOLDS.match, lines))
    if "fold" in cell.tags:
        return HELD if holds else TABLE if cell.has_output else SERVES
    if cell.body and cell.body == [s for s in cell.body if is_show(s)]:
        return SHOWN
    if cell.defines_code or cell.calls("fit"):
        return OPEN
    if holds:
        return HELD
    if lines and len([line for line in cell.source.splitlines() if line.strip()]) > SHORT:
        return TABLE
    return OPEN


def plan(found: Sequence[Cell]) -> dict[int, Cell]:
    """Gives every cell its role and its host, from the last to the first: what a cell is for comes after it.

    A cell without output that only folded cells use is folded with the first of them, and so is a computation whose
    first user is a check, and what a chapter needs for the picture that it opens with. A function is, if it draws or
    if only checks use it; else it is content, and so is the code of a check that defines what open cells use.
    """
    names = [cell.names() for cell in found]
    found_at = {cell.index: cell for cell in found}
    for at in reversed(range(len(found))):
        cell = found[at]
        cell.role, cell.host = own_role(cell), cell.index
        bound = names[at][0]
        users: list[Cell] = []
        uses: dict[str, set[str]] = defaultdict(set)
        for later, (binds, reads) in zip(found[at + 1 :], names[at + 1 :], strict=True):
            if bound & reads and not later.in_solution:
                users.append(later)
                for name in bound & reads:
                    uses[name].add(later.role)
            bound = bound - binds
        roles = {user.role for user in users}
        functions = {getattr(statement, "name", "") for statement in cell.body}
        if cell.role == CHECK and any(OPEN in uses[name] for name in functions):
            cell.role = OPEN
        free = cell.role == OPEN and "open" not in cell.tags and not cell.has_output
        draws = any(isinstance(n, ast.Name) and n.id == "plots" for n in ast.walk(cell.tree))
        checkers = {user.role for user in users if user.role != SERVES}
        computes = not (cell.defines_code or cell.calls("fit"))
        plumbing = draws or computes or checkers <= {CHECK}
        host = found_at[users[0].host].role if users else OPEN
        for_checks = all(uses[name] <= {CHECK, SERVES} for name in functions)
        other_side = host == CHECK and for_checks and not cell.calls("fit")
        prepares = other_side or (cell.in_opening and host == FIGURE)
        serves = cell.role == SERVES or (free and (prepares or (plumbing and roles <= FOLDED)))
        if users and serves:
            cell.role, cell.host = SERVES, users[0].host
        if cell.role == SERVES and found_at[cell.host].role not in FOLDED - {SERVES}:
            cell.role, cell.host = OPEN, cell.index  # it has no fold to go to
    return {cell.index: cell for cell in found}


@dataclass(frozen=True)
class Verified:
    """A printed line of `verify`, with the two expressions that were compared where the code names them."""

    text: str
    sides: tuple[str, ...]
    cell: Cell


def verified(found: Iterable[Cell]) -> dict[str, list[Verified]]:
    """What was checked about each equation; a line that a loop prints again and again counts once."""
    lines: dict[str, list[Verified]] = defaultdict(list)
    for cell in found:
        sides: dict[str, list[tuple[str, ...]]] = defaultdict(list)
        for call in cell.calls("verify"):
            label = call.args[0] if call.args else None
            if isinstance(label, ast.Constant) and len(call.args) > 2:
                compared = tuple(ast.unparse(side) for side in call.args[1:3])
                sides[str(label.value)].append(compared)
        for label, text in VERIFIED.findall(cell.text):
            known = sides[label]
            line = Verified(text, (known.pop(0) if len(known) > 1 else (known or [()])[0]), cell)
            lines[label] += [line] if line not in lines[label] else []
    return lines


def left_over(text: str) -> str:
    """What a cell with a check printed besides: tables and numbers, not that something holds."""
    kept = [
        line for line in text.splitlines() if not VERIFIED.match(line) and not HOLDS.match(line)
    ]
    return "\n".join(kept)


def statements(text: str) -> list[str]:
    """The printed statements that hold, without the word that says so."""
    return [found[1].strip() for line in text.splitlines() if (found := HOLDS.match(line))]


def summary_of(claims: Sequence[str]) -> str:
    """One line for the statements that a cell found to hold."""
    line = "; ".join(claims)
    return line if len(line) < 90 else f"{claims[0]}; {len(claims) - 1} more"
