"""Changes one thing in a science module, over and over: do its tests notice?

    make mutants                                  25 random mutants of each module
    python -m bookkit.quality.mutants elbo schedule --num 100 --seed 1

A mutant is a module with one operator, comparison, number, method, argument or statement changed. In a copy of the
checkout it meets the tests that run the changed line: those of its module, then the fastest of the modules around it,
until one fails. They run in a copy of a process that has imported the libraries, so most mutants take two seconds.
Survivors that no test can kill have a reason in `bookkit/quality/mutants.tsv`.
"""

from __future__ import annotations

import argparse
import ast
import csv
import hashlib
import importlib
import json
import multiprocessing
import os
import random
import resource
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import coverage

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "_build" / "mutants"
REASONS = ROOT / "bookkit" / "quality" / "mutants.tsv"
WANTED = 0.95
LONGEST = 120  # seconds of the processor for one mutant; only one that never ends takes so long

AROUND = {
    "elbo": "vae hierarchical_vae ladders ddpm metrics",
    "distributions": "vae ladders elbo ddpm",
    "vae": "metrics",
    "hierarchical_vae": "ladders",
    "linear_chain": "",
    "ladders": "",
    "schedule": "denoisers variances samplers ddpm score flows guidance decoders",
    "ddpm": "variances samplers decoders guidance",
    "denoisers": "samplers ddpm flows guidance variances",
    "variances": "ddpm",
    "samplers": "ddpm hierarchical_vae guidance",
    "score": "flows",
    "flows": "score",
    "guidance": "",
    "metrics": "interpolation",
    "autoencoder": "",
    "decoders": "ddpm refinement",
    "interpolation": "metrics",
    "masked": "",
    "mean_flows": "",
    "refinement": "",
}
"""The modules of the science, and whose tests use them, besides their own."""

ALWAYS = ("properties", "checks")

WARM = (
    *("pytest", "torch", "beartype", "jaxtyping", "hypothesis", "scipy.stats", "scipy.integrate"),
    *("sklearn.decomposition", "sklearn.linear_model", "diffusers.schedulers", "matplotlib.pyplot"),
)
"""What every test run would import."""

PAIRS: list[tuple[type[ast.AST], type[ast.AST]]] = [
    *((ast.Add, ast.Sub), (ast.Mult, ast.Div), (ast.BitAnd, ast.BitOr), (ast.And, ast.Or)),
    *((ast.Lt, ast.LtE), (ast.Gt, ast.GtE), (ast.Eq, ast.NotEq), (ast.Is, ast.IsNot)),
    (ast.In, ast.NotIn),
]
SWAPPED = dict(PAIRS) | {right: left for left, right in PAIRS}
SWAPPED |= {ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult}
METHODS = {
    **{"sum": "mean", "mean": "sum", "max": "min", "min": "max", "amax": "amin", "amin": "amax"},
    **{"exp": "expm1", "expm1": "exp", "log": "log1p", "log1p": "log", "sqrt": "square"},
    **{"square": "abs", "std": "var", "var": "std", "cumsum": "cumprod", "rsample": "sample"},
    **{"randn_like": "rand_like", "rand_like": "randn_like", "ones": "zeros", "zeros": "ones"},
    **{"logsumexp": "sum", "log_prob": "cdf", "detach": "", "clamp": "", "abs": "", "flip": ""},
    **{"eval": "train", "double": "float", "item": ""},
}
"""What a method becomes; "" takes the call away."""


@dataclass(frozen=True)
class Mutant:
    """One change: where, what stood there, what stands there now."""

    module: str
    line: int
    end: int  # of the line's statement
    function: str
    old: str
    new: str

    def __str__(self) -> str:
        return f"{self.module}:{self.line} {self.function}: {self.old} -> {self.new}"


def replacements(node: ast.AST) -> Iterator[ast.AST]:
    """What may stand in place of a node."""
    if isinstance(node, ast.BinOp | ast.AugAssign | ast.BoolOp) and type(node.op) in SWAPPED:
        yield changed(node, op=SWAPPED[type(node.op)]())
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPPED:
        yield changed(node, ops=[SWAPPED[type(node.ops[0])](), *node.ops[1:]])
    elif isinstance(node, ast.UnaryOp):
        yield node.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield ast.Constant(not node.value)
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield ast.Constant(node.value + 1 if isinstance(node.value, int) else 2 * node.value or 1.0)
    elif isinstance(node, ast.If | ast.IfExp):
        yield changed(node, test=ast.UnaryOp(ast.Not(), node.test))
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield ast.Pass()
    elif isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
            name = METHODS[node.func.attr]
            yield changed(node, func=changed(node.func, attr=name)) if name else node.func.value
        for keyword in node.keywords:
            yield changed(node, keywords=[each for each in node.keywords if each is not keyword])


def changed(node: ast.AST, **fields: Any) -> ast.AST:
    """The node with other values of these fields."""
    return type(node)(**dict(ast.iter_fields(node)) | fields)


def places(
    node: ast.AST, function: str = "", statement: ast.AST | None = None
) -> Iterator[tuple[ast.AST, str, ast.AST]]:
    """Every node that may be changed, the function around it, and its statement.

    Annotations and decorators compute nothing, and what an error says is no science.
    """
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        function = f"{function}.{node.name}".lstrip(".")
    for field, value in ast.iter_fields(node):
        alias = isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) == "TypeAlias"
        if alias or field in ("annotation", "returns", "decorator_list", "type_params"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not isinstance(
                child, ast.Raise | ast.JoinedStr | ast.Assert
            ):
                around = statement if statement and not isinstance(child, ast.stmt) else child
                yield child, function, around
                yield from places(child, function, around)


def rows_of(statement: Any) -> tuple[int, int]:
    """First and last line of a statement; of one with a body, of what stands above the body."""
    body = getattr(statement, "body", None)
    last = body[0].lineno - 1 if body else statement.end_lineno
    return statement.lineno, max(last, statement.lineno)


def mutants(module: str, source: str, num: int, seed: int) -> Iterator[tuple[Mutant, str, str]]:
    """A random sample of a module's mutants, each with its changed statement and the whole module."""
    tree = ast.parse(source)
    found = [(*place, new) for place in places(tree) for new in replacements(place[0])]
    random.Random(f"{seed} {module}").shuffle(found)  # more of them are the same ones, and others
    for node, function, statement, new in found[:num]:
        before, after = (ast.unparse(ast.fix_missing_locations(each)) for each in (node, new))
        short = (" ".join(text.split())[:160] for text in (before, after))
        mutant = Mutant(module, *rows_of(statement), function, *short)
        kind, content = node.__class__, node.__dict__
        node.__class__, node.__dict__ = new.__class__, new.__dict__
        now = ast.unparse(statement).replace("@torch.no_grad()\n", "")
        now = f"without {before}" if isinstance(new, ast.Pass) else now
        # Of a statement with a body the first line says it.
        yield mutant, now.splitlines()[0] if hasattr(statement, "body") else now, ast.unparse(tree)
        node.__class__, node.__dict__ = kind, content


class Watcher:
    """The part of a test run that chooses the tests, says which failed first, and notes which lines each one runs."""

    def __init__(self, tests: Sequence[str], said: Path, cover: Path | None = None) -> None:
        self.rank, self.said, self.cover = {name: i for i, name in enumerate(tests)}, said, cover
        self.seconds: dict[str, float] = {}

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Only the tests asked for, in their order; all if none is named."""
        if self.rank:
            items[:] = [item for item in items if item.nodeid in self.rank]
            items.sort(key=lambda item: self.rank[item.nodeid])

    def pytest_sessionstart(self) -> None:
        """The lines of the package are followed from its first import."""
        if self.cover:
            self.coverage = coverage.Coverage(
                self.cover, include=["*/companion/*"], config_file=False
            )
            self.coverage.start()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """The lines that run from here on are those of this test."""
        if self.cover:
            self.coverage.switch_context(nodeid)

    def pytest_runtest_logreport(self, report: Any) -> None:
        """A test, what it needs, or a file of tests that is read."""
        took = getattr(report, "duration", 0.0)
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0) + took
        if report.failed:
            self.said.write_text(report.nodeid)

    pytest_collectreport = pytest_runtest_logreport

    def pytest_sessionfinish(self) -> None:
        """What each test took, and its lines."""
        if self.cover:
            self.coverage.stop()
            self.coverage.save()
            self.cover.with_suffix(".json").write_text(json.dumps(self.seconds))


def failure(tree: Path, tests: Sequence[str], cover: Path | None = None) -> str:
    """The first of these tests or files that fails, "" if none does; they run in a copy of this process."""
    files = list(dict.fromkeys(str(tree / test.partition("::")[0]) for test in tests))
    watcher = Watcher([test for test in tests if "::" in test], tree / "failure.txt", cover)
    watcher.said.unlink(missing_ok=True)
    child = multiprocessing.get_context("fork").Process(
        target=run_tests, args=(tree, files, watcher, not cover)
    )
    child.start()
    child.join()
    if not child.exitcode:
        return ""
    if child.exitcode < 0:
        return f"more than {LONGEST} seconds"
    return watcher.said.read_text() if watcher.said.exists() else f"status {child.exitcode}"


def run_tests(tree: Path, files: list[str], watcher: Watcher, limited: bool) -> None:
    """Run these files of tests in a checkout; what they print goes to a file there."""
    import pytest

    if limited:
        resource.setrlimit(resource.RLIMIT_CPU, (LONGEST, LONGEST + 5))
    os.chdir(tree)
    out = os.open(tree / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    options = ["-x", "-q", "--no-header", "-p", "no:cacheprovider", "-p", "no:xdist"]
    sys.exit(pytest.main([*options, *files], plugins=[watcher]))


def baseline(tree: Path) -> tuple[dict[str, dict[int, list[str]]], dict[str, float]]:
    """The tests that run each line of each module, and the seconds that each test takes; SystemExit if one fails."""
    names = dict.fromkeys([name for module in AROUND for name in files_of(module)])
    files = [f"tests/test_{name}.py" for name in names]
    digest = hashlib.sha256()
    for path in sorted([*tree.glob("companion/*.py"), *(tree / file for file in files)]):
        digest.update(path.read_bytes())
    cover = WORK / f"lines-{digest.hexdigest()[:12]}"
    notes = cover.with_suffix(".json")
    if not notes.exists() and (found := failure(tree, files, cover)):
        notes.unlink(missing_ok=True)
        raise SystemExit(f"a test fails without a mutant, too: {found}")
    data = coverage.CoverageData(str(cover))
    data.read()
    lines = {
        module: data.contexts_by_lineno(str(tree / "companion" / f"{module}.py"))
        for module in AROUND
    }
    return lines, json.loads(notes.read_text())


def files_of(module: str) -> list[str]:
    """The tests of a module, then those of the modules around it."""
    own = [module] if (ROOT / "tests" / f"test_{module}.py").exists() else []
    return [*own, *AROUND[module].split(), *ALWAYS]


def tests_of(mutant: Mutant, lines: dict[int, list[str]], seconds: dict[str, float]) -> list[str]:
    """The tests that run what was changed, those of its module first, then the fastest; all where it runs on import."""
    files = [f"tests/test_{name}.py" for name in files_of(mutant.module)]
    found = {test for line in range(mutant.line, mutant.end + 1) for test in lines.get(line, [])}
    at_import = "" in found or not found
    chosen = [
        test
        for test in (seconds if at_import else found)
        if test.partition("::")[0] in files and test in seconds
    ]
    return sorted(chosen, key=lambda test: (not test.startswith(files[0]), seconds[test]))


def copy_of_the_checkout() -> Path:
    """A folder with package and tests, in which modules may be changed; the weights are only linked."""
    tree = WORK / "tree"
    shutil.rmtree(tree, ignore_errors=True)
    skip = shutil.ignore_patterns("weights", "__pycache__", "browser")
    for folder in ("companion", "tests"):
        shutil.copytree(ROOT / folder, tree / folder, ignore=skip)
    (tree / "companion" / "weights").symlink_to(ROOT / "companion" / "weights")
    shutil.copy(ROOT / "pyproject.toml", tree)
    return tree


def explained() -> dict[tuple[str, str, str], str]:
    """Why no test can kill a mutant, by its module, function and changed statement."""
    with REASONS.open(encoding="utf8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return {(module, function, statement): why for module, function, statement, why in rows[1:]}


def run(modules: Sequence[str], num: int, seed: int) -> int:
    """Try the mutants of these modules, print each survivor and counts; 1 if too few are killed."""
    for name in WARM:
        importlib.import_module(name)
    tree, reasons, start = copy_of_the_checkout(), explained(), time.monotonic()
    lines, seconds = baseline(tree)
    total: Counter[str] = Counter()
    for module in modules:
        path = tree / "companion" / f"{module}.py"
        source = path.read_text("utf8")
        verdicts: Counter[str] = Counter()
        for count, (mutant, statement, text) in enumerate(mutants(module, source, num, seed), 1):
            path.write_text(text, "utf8")
            # Compiled modules are known by size and second.
            os.utime(path, (0, 2_000_000_000 + 10 * count))
            killer = failure(tree, tests_of(mutant, lines[module], seconds))
            why = reasons.get((module, mutant.function, " ".join(statement.split())))
            verdict = "killed" if killer else "equivalent" if why else "SURVIVED"
            verdicts[verdict] += 1
            if not killer:
                print(f"{verdict} {mutant}\n    {' '.join(statement.split())}", flush=True)
        path.write_text(source, "utf8")
        os.utime(path, (0, 2_100_000_000))
        print(f"{module}: {dict(verdicts)}", flush=True)
        total += verdicts
    print(f"all: {dict(total)}, {(time.monotonic() - start) / 60:.0f} minutes")
    return int(total["killed"] < WANTED * (total["killed"] + total["SURVIVED"]))


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bookkit.quality.mutants",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("modules", nargs="*", metavar="MODULE", choices=[[], *AROUND])
    parser.add_argument("--num", type=int, default=25, help="of each module (25)")
    parser.add_argument("--seed", type=int, default=0, help="of the choice (0)")
    options = parser.parse_args(arguments)
    return run(options.modules or list(AROUND), options.num, options.seed)


if __name__ == "__main__":
    sys.exit(main())
