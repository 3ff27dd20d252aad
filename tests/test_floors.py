"""The floors of the house: a module imports only from lower floors, and some libraries have sole importers."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from children import Child

import companion

PACKAGE = Path(companion.__file__).parent

FLOORS = (
    # The science: each floor knows those below it.
    ("checks",),
    ("distributions", "schedule", "data", "runtime", "interpolation"),
    ("networks", "elbo", "training"),
    tuple(
        [
            "autoencoder",
            "vae",
            "bits_back",
            "hierarchical_vae",
            "linear_chain",
            "denoisers",
            "variances",
        ]
    ),
    tuple(
        [
            "ladders",
            "decoders",
            "ddpm",
            "masked",
            "score",
            "flows",
            "mean_flows",
            "samplers",
            "metrics",
        ]
    ),
    ("guidance", "refinement"),
    # The wings: what a page needs, and what makes the shipped weights. Neither knows the other.
    ("page", "zoo"),
    ("experiments",),
    ("__main__",),
)
FLOOR = {module: number for number, floor in enumerate(FLOORS) for module in floor}

SOLE_IMPORTERS = {"torchvision": {"data", "zoo"}, "sklearn": {"data", "metrics"}}
SOLE_IMPORTERS |= {name: {"page"} for name in ("matplotlib", "IPython", "ipywidgets")}
HEAVY = {*SOLE_IMPORTERS, "scipy"}
# From here on, a module may need a heavy library as soon as it is imported.
SHOWS_FLOOR = FLOOR["page"]
NOT_OURS_TO_IMPORT = {"book", "notebooks", "tests", "bookkit", "benchmarks"}


# ------------------------------------------------------------------------------------------------ the checker


def _module_name(file: Path, package: Path) -> str:
    parts = file.relative_to(package).with_suffix("").parts
    return ".".join((package.name, *(parts[:-1] if parts[-1] == "__init__" else parts)))


def _imports(file: Path, package: Path) -> Iterator[tuple[str, bool]]:
    """Every module that a file may import, by its full name, and whether that happens inside a function."""
    tree = ast.parse(file.read_text("utf8"), str(file))
    here = _module_name(file, package).split(".")
    folder = here if file.name == "__init__.py" else here[:-1]
    modules = {_module_name(other, package) for other in package.rglob("*.py")}

    def visit(node: ast.AST, inside: bool) -> Iterator[tuple[str, bool]]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, inside
        elif isinstance(node, ast.ImportFrom):
            base = folder[: len(folder) - node.level + 1] if node.level else []
            source = ".".join((*base, node.module) if node.module else base)
            for alias in node.names:
                whole = f"{source}.{alias.name}"
                yield (whole if whole in modules or source == package.name else source), inside
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = ast.unparse(node.func).split(".")[-1]
            if called in ("import_module", "__import__"):
                yield str(node.args[0].value), inside
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inside)

    yield from visit(tree, False)


def violations(package: Path) -> list[str]:
    """One sentence for each import that breaks a rule; an empty list when the house stands."""
    found = []
    for file in sorted(package.rglob("*.py")):
        module = _module_name(file, package)
        group = module.split(".")[1] if "." in module else ""
        if group and group not in FLOOR:
            found.append(f"{module} has no floor: add {group} to the table of tests/test_floors.py")
            continue
        for target, inside in _imports(file, package):
            top, _, rest = target.partition(".")
            to = rest.split(".")[0]
            says = f"{module} imports {target}"
            if top in NOT_OURS_TO_IMPORT:
                found.append(f"{says}, which is not part of the package")
            elif top in SOLE_IMPORTERS and group not in SOLE_IMPORTERS[top]:
                found.append(f"{says}; only {' and '.join(sorted(SOLE_IMPORTERS[top]))} may")
            elif top in HEAVY and not inside and FLOOR.get(group, 0) < SHOWS_FLOOR:
                found.append(f"{says} at its top; it belongs into the function that needs it")
            elif top == package.name and to in FLOOR and not group:
                found.append(f"{says}; the package itself exports its version alone")
            elif top == package.name and to in FLOOR and to != group and FLOOR[to] >= FLOOR[group]:
                found.append(f"{says} (floor {FLOOR[to]}) from floor {FLOOR[group]}")
    return found


# ------------------------------------------------------------------------------------------------ the house


def test_modules_import_from_lower_floors_only() -> None:
    assert violations(PACKAGE) == []


def test_the_package_exports_its_version_alone() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text("utf8"))
    assert isinstance(companion.__version__, str)
    assigned = [node.targets for node in tree.body if isinstance(node, ast.Assign)]
    names = {ast.unparse(target) for targets in assigned for target in targets}
    assert "__version__" in names <= {"__version__", "__all__"}


# Runs in a process of its own: imports every module of a package, some of them first, and reports what that import
# did, and what was loaded after those first ones.
SPY = '''
import contextlib, importlib, io, json, os, pkgutil, random, sys
import numpy, torch
sys.path.insert(0, {path!r})

reads = []
class Spy(type(os.environ)):
    """The environment; remembers who looks at it while a module of the package is being executed."""
    def note(self, what):
        frame = sys._getframe(2)
        while frame and not frame.f_code.co_filename.startswith("<frozen importlib"):
            name = frame.f_globals.get("__name__", "")
            if name.split(".")[0] == {package!r}:
                reads.append(name + " reads " + what)
                break
            frame = frame.f_back
    def __getitem__(self, key):
        self.note(str(key))
        return super().__getitem__(key)
    def __iter__(self):
        self.note("everything")
        return super().__iter__()

def state():
    return [torch.get_rng_state().tolist(), random.getstate(), str(numpy.random.get_state()),
            str(torch.get_default_device()), str(torch.get_default_dtype()), torch.get_num_threads(),
            torch.are_deterministic_algorithms_enabled()]

e = os.environ
os.environ = Spy(e._data, e.encodekey, e.decodekey, e.encodevalue, e.decodevalue)
before, printed, names, changed = state(), io.StringIO(), [], []
with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
    package = importlib.import_module({package!r})
    for name in {first!r}:
        importlib.import_module(name)
    loaded = sorted(sys.modules)
    for module in pkgutil.walk_packages(package.__path__, {package!r} + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
            names.append(module.name)
            if state() != before:
                changed.append(module.name)
                before = state()
print(json.dumps(dict(names=names, printed=printed.getvalue(), reads=reads, changed=changed, loaded=loaded)))
'''


LIGHT = ["companion.elbo", "companion.vae", "companion.hierarchical_vae", "companion.data"]


@cache
def imported() -> dict[str, list[str]]:
    """What the import of our package does in a fresh process; stderr must stay empty."""
    code = SPY.format(path=str(PACKAGE.parent), package="companion", first=LIGHT)
    process = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, timeout=900, cwd=PACKAGE.parent,
    )  # fmt: skip
    assert (process.returncode, process.stderr) == (0, "")
    output: dict[str, list[str]] = json.loads(process.stdout)
    return output


def test_the_bound_its_models_and_the_data_load_no_heavy_library() -> None:
    loaded = imported()["loaded"]
    assert {"torch", *LIGHT} <= set(loaded)
    assert HEAVY.intersection(loaded) == set()


def test_an_import_prints_nothing_seeds_nothing_and_reads_no_environment() -> None:
    did = imported()
    files = [file for file in PACKAGE.rglob("*.py") if file.name != "__main__.py"]
    assert "companion.elbo" in did["names"] and len(did["names"]) == len(files) - 1
    assert not did["printed"] and not did["changed"] and not did["reads"]


# ------------------------------------------------------------------------------------------------ the checker, checked


def house(folder: Path, **modules: str) -> Path:
    """A small package called companion; `a__b="..."` is the file a/b.py."""
    package = folder / "companion"
    package.mkdir()
    (package / "__init__.py").write_text('__version__ = "0"\n', "utf8")
    for name, text in modules.items():
        file = package / (name.replace("__", "/") + ".py")
        file.parent.mkdir(exist_ok=True)
        if file.parent != package:
            (file.parent / "__init__.py").touch()
        file.write_text(text, "utf8")
    return package


def test_the_checker_allows_what_is_allowed(tmp_path: Path) -> None:
    package = house(
        tmp_path,
        distributions="import torch\n",
        elbo="from companion.distributions import normal\nfrom companion import __version__\n",
        networks__mlp="from companion.networks.conv import Conv\nfrom . import conv\nimport companion.distributions\n",
        networks__conv="",
        data__toys="def load():\n    import torchvision\n    from sklearn.datasets import load_digits\n",
        vae="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from companion.elbo import Chain\n",
        page__plots="import matplotlib.pyplot as plt\nfrom companion import vae\n",
        zoo__recipes="from companion.vae import Vae\n",
    )
    assert violations(package) == []


@pytest.mark.parametrize(
    ("module", "text", "named"),
    [
        ("elbo", "from companion.vae import Vae\n", "companion.vae (floor 3)"),
        ("elbo", "import companion.networks.mlp as mlp\n", "companion.networks.mlp (floor 2)"),
        ("elbo", "from companion.page import plots\n", "companion.page (floor 6)"),
        ("elbo", "from .vae import Vae\n", "companion.vae (floor 3)"),
        ("elbo", "from . import vae\n", "companion.vae (floor 3)"),
        ("elbo", "def f():\n    from companion import vae\n", "companion.vae (floor 3)"),
        (
            "elbo",
            "if TYPE_CHECKING:\n    from companion.vae import Vae\n",
            "companion.vae (floor 3)",
        ),
        ("elbo", "import importlib\nimportlib.import_module('companion.vae')\n", "vae (floor 3)"),
        ("networks__mlp", "from ..elbo import Chain\n", "companion.elbo (floor 2)"),
        ("elbo", "def f():\n    import torchvision.datasets\n", "only data and zoo may"),
        ("elbo", "import sklearn\n", "only data and metrics may"),
        ("zoo__runs", "from matplotlib.figure import Figure\n", "only page may"),
        ("zoo__runs", "from companion.page import plots\n", "companion.page (floor 6)"),
        ("page__show", "from companion.zoo import recipes\n", "companion.zoo (floor 6)"),
        ("data__toys", "import torchvision\n", "at its top"),
        ("metrics", "import scipy.stats\n", "at its top"),
        ("elbo", "from bookkit.authoring.notebooks import run\n", "not part of the package"),
        ("kitchen", "", "companion.kitchen has no floor"),
    ],
)
def test_the_checker_finds_a_planted_import(
    tmp_path: Path, module: str, text: str, named: str
) -> None:
    found = violations(house(tmp_path, **{module: text}))
    assert len(found) == 1
    assert found[0].startswith("companion." + module.replace("__", "."))
    assert named in found[0]


def test_the_checker_keeps_the_package_file_empty(tmp_path: Path) -> None:
    package = house(tmp_path, elbo="")
    (package / "__init__.py").write_text("from companion.elbo import Chain\n", "utf8")
    assert violations(package) == [
        "companion imports companion.elbo; the package itself exports its version alone"
    ]


def test_the_spy_sees_what_an_import_does(tmp_path: Path) -> None:
    package = tmp_path / "guesthouse"
    package.mkdir()
    guests = {
        "__init__": "",
        "a": "import os\nHOME = os.environ.get('HOME')\n",
        "b": "import os, os.path\nX = os.getenv('LANG')\nY = os.path.expanduser('~')\n",
        "c": "import torch\ntorch.manual_seed(0)\nprint('hello')\n",
        "d": "import os\ndef later():\n    return os.environ['HOME']\n",
        "e": "import os\nhave = 'HOME' in os.environ\nnames = list(os.environ)\n",
    }
    for name, text in guests.items():
        (package / f"{name}.py").write_text(text, "utf8")
    code, out, err = Child(SPY.format(path=str(tmp_path), package="guesthouse", first=[])).wait()
    assert (code, err) == (0, "")
    did = json.loads(out)
    assert did["names"] == [f"guesthouse.{name}" for name in "abcde"]
    assert did["changed"] == ["guesthouse.c"]
    assert did["printed"] == "hello\n"
    assert {read.split()[0] for read in did["reads"]} == {f"guesthouse.{name}" for name in "abe"}
    assert {"guesthouse.b reads HOME", "guesthouse.e reads everything"} <= set(did["reads"])


# ------------------------------------------------------------------------------------------------ rooms and circles


def test_no_module_is_larger_than_four_hundred_lines() -> None:
    files = [*PACKAGE.rglob("*.py"), *(PACKAGE.parent / "bookkit").rglob("*.py")]
    assert [file for file in files if len(file.read_text("utf8").splitlines()) > 400] == []


def test_the_kit_makes_notebooks_without_the_site_and_knows_no_page_of_the_book() -> None:
    above = {"authoring": {"site", "quality"}, "site": {"quality"}, "quality": {"site"}}
    for part, others in above.items():
        files = list((PACKAGE.parent / "bookkit" / part).glob("*.py"))
        assert len(files) > 4
        for file in files:
            names = re.findall(r"^ *(?:from|import) ([\w.]+)", file.read_text("utf8"), re.MULTILINE)
            for name in names:
                assert name.partition(".")[0] not in {"book", "tests", "notebooks"}, (file, name)
                assert name.removeprefix("bookkit.").partition(".")[0] not in others, (file, name)


def circles(package: Path) -> list[list[str]]:
    """Modules that import each other in a round, directly or through others."""
    graph = {}
    for file in package.rglob("*.py"):
        module = _module_name(file, package)
        graph[module] = {target for target, _ in _imports(file, package)} - {module}
    found: list[list[str]] = []
    finished: set[str] = set()

    def walk(module: str, path: list[str]) -> None:
        if module in path:
            found.append([*path[path.index(module) :], module])
        elif module not in finished:
            for target in sorted(graph.get(module, ())):
                walk(target, [*path, module])
            finished.add(module)

    for module in sorted(graph):
        walk(module, [])
    return found


def test_no_module_needs_itself() -> None:
    assert circles(PACKAGE) == []


def test_a_planted_circle_is_found(tmp_path: Path) -> None:
    package = house(
        tmp_path,
        elbo="def f():\n    from companion import vae\n",
        vae="import companion.distributions\n",
        distributions="from companion.elbo import f\n",
    )
    names = ["companion.distributions", "companion.elbo", "companion.vae"]
    assert circles(package) == [[*names, names[0]]]
