"""The shared settings of the tests do what they say."""

from __future__ import annotations

import warnings

import jaxtyping
import pytest
import torch

from companion.distributions import diagonal_normal


def test_annotations_are_checked_in_tests() -> None:
    wrong = torch.zeros(2, 3, dtype=torch.long)
    complaint = None
    try:  # not `pytest.raises`, which switches the check off
        diagonal_normal(wrong, torch.zeros(2, 3))
    except Exception as error:
        complaint = error
    assert isinstance(complaint, jaxtyping.TypeCheckError)


def test_expected_errors_are_the_packages_own() -> None:
    with pytest.raises(Exception) as error:
        diagonal_normal(torch.zeros(2, 3, dtype=torch.long), torch.zeros(2, 3))
    assert not isinstance(error.value, jaxtyping.TypeCheckError)


def test_each_test_starts_from_the_same_seed() -> None:
    assert torch.initial_seed() == 0


@pytest.mark.parametrize("module", ["companion", "companion.data.toys"])
def test_a_deprecated_call_of_the_package_is_an_error(module: str) -> None:
    with pytest.raises(DeprecationWarning, match="old"):
        warnings.warn_explicit("old", DeprecationWarning, "file.py", 1, module=module)


@pytest.mark.filterwarnings("ignore:old")
def test_a_deprecated_call_inside_a_library_is_not() -> None:
    warnings.warn_explicit("old", DeprecationWarning, "file.py", 1, module="companions_of_torch")
