"""A loop of a chapter must not take the name of a value that a later cell still reads."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

CHAPTERS = sorted((Path(__file__).parents[1] / "notebooks" / "src").glob("*.py"))


def stored(node: ast.AST) -> set[str]:
    """Names that a statement sets, comprehensions and inner functions left out."""
    if isinstance(node, ast.Name):
        return {node.id} if isinstance(node.ctx, ast.Store) else set()
    if isinstance(node, ast.comprehension | ast.Lambda):
        return set()
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    return {name for child in ast.iter_child_nodes(node) for name in stored(child)}


def read(node: ast.AST) -> Iterator[str]:
    """Names that a node reads, but for those that a function, lambda or comprehension in it has of its own."""
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        yield node.id
    own: set[str] = set()
    if isinstance(node, ast.FunctionDef | ast.Lambda):
        own = {a.arg for a in ast.walk(node.args) if isinstance(a, ast.arg)}
        own |= {n for child in ast.walk(node) for n in stored(child)}
    elif isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
        own = {n.id for g in node.generators for n in ast.walk(g.target) if isinstance(n, ast.Name)}
    for child in ast.iter_child_nodes(node):
        yield from (name for name in read(child) if name not in own)


def overwritten(source: str) -> list[str]:
    """Where a value is read that a loop has replaced by the last of its own."""
    found, values, loops = [], set[str](), dict[str, int]()
    for statement in ast.parse(source).body:
        inner = (
            stored(statement) if hasattr(statement, "body") else set[str]()
        )  # it may set them first
        late = {name for name in read(statement) if name in loops} - inner
        found += [
            f"{name}, line {statement.lineno}, is that of the loop in line {loops[name]}"
            for name in sorted(late)
        ]
        for name in stored(statement):
            loops.pop(name, None)
        if isinstance(statement, ast.For):
            loops |= dict.fromkeys(stored(statement.target) & values, statement.lineno)
        values |= stored(statement)
    return found


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_no_value_is_overwritten_by_a_loop(path):
    assert overwritten(path.read_text()) == []


@pytest.mark.parametrize(
    ("source", "bad"),
    [
        ("v = 1\nfor v in (2, 3):\n    print(v)\nprint(v)", True),
        ("v = 1\nfor v in (2, 3):\n    print(v)\ndef f():\n    return v", True),
        ("v = 1\nfor v in (2, 3):\n    print(v)\nv = 4\nprint(v)", False),
        ("v = 1\nfor v in (2, 3):\n    print(v)\nprint([v for v in (1, 2)], lambda v: v)", False),
        ("for v in (2, 3):\n    print(v)\nprint(v)", False),
    ],
)
def test_what_counts_as_overwritten(source, bad):
    assert bool(overwritten(source)) is bad
