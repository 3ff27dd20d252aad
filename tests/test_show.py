"""`show` displays what runs: whole, headed by its file, no longer than a screen."""

import ast
import inspect
import posixpath

import pytest
import torch

import companion.elbo
from companion.elbo import ElboTerms, LatentChain, elbo_terms
from companion.page import show as source
from companion.page.plots import bars
from companion.page.show import show


def shown(capsys: pytest.CaptureFixture[str], *objects: object, **options: bool) -> str:
    show(*objects, **options)  # type: ignore[arg-type]
    return capsys.readouterr().out


def test_function_is_shown_as_it_stands(capsys):
    text = shown(capsys, elbo_terms)
    header, _, body = text.partition("\n")
    assert header == "# companion/elbo.py"
    assert body.rstrip() == inspect.getsource(elbo_terms).rstrip()


def test_methods_properties_and_decorated_functions_are_found(capsys):
    assert shown(capsys, LatentChain.posterior).startswith(
        "# companion/elbo.py: LatentChain.posterior\n@abstractmethod\ndef posterior(self"
    )
    assert "return self.log_likelihood" in shown(capsys, ElboTerms.elbo)
    assert "@house_style()\ndef bars" in shown(capsys, bars)
    assert "class ElboTerms:" in shown(capsys, ElboTerms)


def test_several_objects_are_shown_in_order(capsys):
    text = shown(capsys, ElboTerms, elbo_terms)
    assert 0 < text.index("class ElboTerms") < text.index("def elbo_terms")


def test_docstrings_can_be_left_out_and_the_code_stays_the_same(capsys):
    for item in (elbo_terms, ElboTerms, source._without_docstrings):
        text = shown(capsys, item, docstring=False)
        assert '"""' not in text
        with_docstrings = ast.parse(inspect.getsource(item))
        for node in ast.walk(with_docstrings):
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node):
                node.body = node.body[1:]
        assert ast.dump(ast.parse(text)) == ast.dump(with_docstrings)


def test_body_of_only_a_docstring_keeps_it(capsys):
    assert '"""p(x | z_1)."""' in shown(capsys, LatentChain.likelihood, docstring=False)


def test_more_than_a_screen_is_refused(monkeypatch):
    monkeypatch.setattr(source, "SCREEN", 5)
    with pytest.raises(ValueError, match=r"ElboTerms has \d+ lines, .* 5.*show one method"):
        show(ElboTerms)
    with pytest.raises(ValueError, match="elbo_terms has .*docstring=False"):
        show(elbo_terms)


@pytest.mark.parametrize("item", [companion.elbo, 3, "elbo_terms", torch.zeros(1)])
def test_what_is_no_code_is_refused(item):
    with pytest.raises(TypeError, match="functions, methods, properties and classes"):
        show(item)


def test_code_of_others_and_nothing_are_refused():
    with pytest.raises(ValueError, match="package companion; join"):
        show(posixpath.join)
    with pytest.raises(ValueError, match="at least one"):
        show()


def test_lines_wider_than_the_page_are_refused(monkeypatch):
    monkeypatch.setattr(source, "PAGE", 40)
    with pytest.raises(ValueError, match="a line wider than the page, 40 columns: def elbo_terms"):
        show(elbo_terms)
