"""Show the package's own code on the page: what the reader reads is what runs."""

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

SCREEN = 40  # lines a reader takes in without scrolling
PAGE = 100  # columns of code that fit the page


def show(*objects: Callable[..., Any] | type | property, docstring: bool = True) -> None:
    """Display the source of functions, methods or classes, one highlighted block each.

    In a notebook the block is Markdown, which Jupyter, Colab and the book highlight;
    elsewhere it is printed. The metadata of the output name the object, so that the book
    can link to its reference: `{"companion": {"shows": "companion.elbo.elbo_terms"}}`.

    Args:
        objects: what to show, such as `elbo_terms` or `LatentChain.posterior`.
        docstring: whether to show docstrings too.

    Raises:
        TypeError: if an object is not a function, method, property or class.
        ValueError: if an object is longer than a screen (40 lines) or wider than the
            page (100 columns), or is not part of this package.
    """
    if not objects:
        raise ValueError("show needs at least one function, method or class; none was given")
    for name, text in [_source(item, docstring) for item in objects]:
        _display(name, text)


def _source(item: object, docstring: bool) -> tuple[str, str]:
    """The full name of an object, and its source below a line that says where it is from."""
    item = _definition(item)
    module, name = getattr(item, "__module__", ""), getattr(item, "__qualname__", "")
    package = __name__.partition(".")[0]
    if not (module == package or module.startswith(package + ".")):
        raise ValueError(
            f"show takes objects of the package {package}; {name} of {module} was given"
        )
    text = textwrap.dedent(inspect.getsource(item)).rstrip()  # type: ignore[arg-type]  # _definition let only code pass
    if not docstring:
        text = _without_docstrings(text)
    length = len(text.splitlines())
    if length > SCREEN:
        advice = (
            "show one method"
            if inspect.isclass(item)
            else "show a part of it, or pass docstring=False"
        )
        raise ValueError(f"{name} has {length} lines, and at most {SCREEN} fit a screen; {advice}")
    if wide := [line for line in text.splitlines() if len(line) > PAGE]:
        raise ValueError(
            f"{name} has a line wider than the page, {PAGE} columns: {wide[0].strip()}"
        )
    path = (inspect.getsourcefile(item) or "").replace("\\", "/")  # type: ignore[arg-type]
    where = package + path.rpartition(f"/{package}")[2]
    return f"{module}.{name}", f"# {where}{': ' + name if '.' in name else ''}\n{text}"


def _definition(item: object) -> object:
    """The function or class behind a decorator, property or bound method."""
    if isinstance(item, property):
        item = item.fget
    elif isinstance(item, functools.cached_property):
        item = item.func
    elif not (inspect.isroutine(item) or inspect.isclass(item)):
        kind = "module" if inspect.ismodule(item) else type(item).__name__
        raise TypeError(
            f"show takes functions, methods, properties and classes; a {kind} was given"
        )
    return item if inspect.isclass(item) else inspect.unwrap(item)  # type: ignore[arg-type]


def _without_docstrings(text: str) -> str:
    lines: list[str | None] = list(text.splitlines())
    for node in ast.walk(ast.parse(text)):
        if (
            not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
            or len(node.body) == 1
        ):
            continue  # a body that is only a docstring would be no body without it
        first = node.body[0]
        if ast.get_docstring(node) is not None:
            end = first.end_lineno or first.lineno
            if end < len(lines) and lines[end] == "":
                end += 1  # the blank line that set the docstring off
            lines[first.lineno - 1 : end] = [None] * (end - first.lineno + 1)
    return "\n".join(line for line in lines if line is not None)


def _display(name: str, text: str) -> None:
    from IPython import get_ipython
    from IPython.display import display

    if get_ipython() is None:
        print(text)
        return
    fence = "```"
    while fence in text:
        fence += "`"
    shown = {"text/markdown": f"{fence}python\n{text}\n{fence}", "text/plain": text}
    display(shown, metadata={"companion": {"shows": name}}, raw=True)
