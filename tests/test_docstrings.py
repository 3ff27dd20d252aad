"""Every public function and class of the science leads back to the chapter that uses it.

A docstring says `Book: chapter 3`. The chapter must use the thing in its code. What no chapter uses so
names one that uses it through the package, as a model uses its blocks, or one that uses its module.
"""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "companion"
WINGS = ("page", "zoo", "experiments")  # machinery of pages, of shipped weights and of records
NO_SCIENCE = ("__init__", "__main__", "checks")
RECIPES = "companion.zoo.recipes.RECIPES"
BOOK = re.compile(r"\bBook: chapters? (\d+(?:, \d+)*)\b")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, ast.Module]:
    paths = sorted(PACKAGE.rglob("*.py"))
    return {module_name(path): ast.parse(path.read_text("utf8")) for path in paths}


def imports(tree: ast.AST) -> dict[str, str]:
    """The full name behind each name that a file imports from the package."""
    return {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("companion")
        for alias in node.names
    }


@cache
def exports() -> dict[str, dict[str, str]]:
    return {name: imports(tree) for name, tree in modules().items()}


def home(name: str) -> str:
    """Where a thing is defined, if the name leads through the `__init__` of a package."""
    module, _, last = name.rpartition(".")
    return home(found) if (found := exports().get(module, {}).get(last)) else name


def references(tree: ast.AST, names: dict[str, str]) -> set[str]:
    """The full names of the package's things that the code mentions."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in names:
            found.add(home(names[node.id]))
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            found.add(home(f"{names.get(node.value.id, '')}.{node.attr}"))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(f"{RECIPES}.{node.value}")  # the name of trained weights
    return found


def definitions() -> Iterator[tuple[str, str, ast.stmt]]:
    """Module, name and code of each statement that defines a name at the top of a module."""
    for module, tree in modules().items():
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                yield module, node.name, node
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                    name = ast.unparse(target)
                    if f"{module}.{name}" != RECIPES:
                        yield module, name, node
                    elif isinstance(node.value, ast.Dict):
                        for key, value in zip(node.value.keys, node.value.values, strict=True):
                            yield RECIPES, ast.literal_eval(key), ast.Expr(value)  # type: ignore[arg-type]


@cache
def direct_uses() -> dict[str, set[int]]:
    """The chapters whose code mentions a thing of the package."""
    used: dict[str, set[int]] = {}
    for path in (ROOT / "notebooks" / "src").glob("*.py"):
        tree = ast.parse(path.read_text("utf8"))
        names = imports(tree)
        for name in references(tree, names) | {home(name) for name in names.values()}:
            used.setdefault(name, set()).add(int(path.name[:2]))
    return used


@cache
def all_uses() -> dict[str, set[int]]:
    """The chapters that use a thing directly or through what they use."""
    code = {f"{module}.{name}": (module, node) for module, name, node in definitions()}
    inner = {}
    for name, (module, node) in code.items():
        module = module.removesuffix(".RECIPES")
        own = {other.rpartition(".")[2]: other for other in code if other.startswith(f"{module}.")}
        inner[name] = references(node, own | exports()[module]) & code.keys() - {name}
    used = {name: set(chapters) for name, chapters in direct_uses().items()}
    todo = list(used)
    while todo:
        name = todo.pop()
        for other in inner.get(name, ()):
            if more := used[name] - used.setdefault(other, set()):
                used[other] |= more
                todo.append(other)
    return used


def public() -> list[str]:
    """The functions and classes of the science: of packages, those which the package exports."""
    found = []
    for module, name, node in definitions():
        group = module.split(".")[1:2]
        if not group or group[0] in (*WINGS, *NO_SCIENCE) or name.startswith("_"):
            continue
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            package = importlib.import_module(f"companion.{group[0]}")
            if name in getattr(package, "__all__", [name]):
                found.append(f"{module}.{name}")
    return found


def allowed(name: str) -> set[int]:
    """The chapters that a docstring may name."""
    module = name.rpartition(".")[0]
    used = all_uses()
    of_module = [chapters for other, chapters in used.items() if other.startswith(f"{module}.")]
    return direct_uses().get(name) or used.get(name) or set().union(*of_module)


def problem(name: str, text: str) -> str | None:
    """What is wrong with a docstring's way back to its chapter."""
    if not (found := BOOK.search(text)):
        return f"{name} does not say `Book: chapter N`; it may be one of {sorted(allowed(name))}"
    wrong = {int(number) for number in found[1].split(", ")} - allowed(name)
    return f"{name} names chapter {wrong}, none of {sorted(allowed(name))}" if wrong else None


def test_there_is_what_is_tested() -> None:
    names = public()
    assert len(names) > 100
    assert {"companion.elbo.elbo_terms", "companion.data.images.load"} <= set(names)
    assert {1, 3} & direct_uses()["companion.data.images.load"]


def test_every_docstring_leads_back_to_its_chapter() -> None:
    texts = {
        f"{module}.{name}": ast.get_docstring(node) or ""
        for module, name, node in definitions()
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
    assert [said for name in public() if (said := problem(name, texts[name]))] == []


def test_a_chapter_that_does_not_use_the_thing_is_found() -> None:
    name = "companion.samplers.ddim_sample"
    assert problem(name, "Draw. Book: chapter 11.") is None
    assert problem(name, "Draw. Book: chapters 11, 13.") is None
    assert "names chapter {1}" in str(problem(name, "Draw. Book: chapters 1, 11."))
    assert "does not say" in str(problem(name, "Draw."))


def test_blocks_belong_to_the_chapters_whose_models_use_them() -> None:
    assert "companion.networks.residual.Residual" not in direct_uses()
    assert 8 in all_uses()["companion.networks.residual.Residual"]
