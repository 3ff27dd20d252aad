"""What figures take: tensors, arrays or sequences, as finite NumPy arrays of a known number of dimensions."""

from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

Values: TypeAlias = Tensor | np.ndarray | Sequence[float | Tensor]
Density: TypeAlias = Callable[[Tensor], Tensor]


def plain(values: Any) -> Any:
    """A tensor, or each of a list, as an array, on the CPU and without its graph; anything else as it is."""
    if isinstance(values, list | tuple):
        return [plain(value) for value in values]
    if not isinstance(values, Tensor):
        return values
    # NumPy has no bfloat16, which autocast gives.
    values = values.float() if values.dtype == torch.bfloat16 else values
    return values.numpy(force=True)


def array_of(values: Any, name: str) -> np.ndarray:
    """Values as one array of numbers in double precision."""
    try:
        array = np.asarray(plain(values))
        if np.iscomplexobj(array):
            raise TypeError
        return array.astype(np.float64, copy=False)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must hold numbers, a row as many as the others") from None


def numbers(values: Any, name: str, *, dims: int) -> np.ndarray:
    """Finite numbers as an array of this many dimensions, none of them empty."""
    array = array_of(values, name)
    if array.ndim != dims or not array.size:
        raise ValueError(
            f"{name} must have {dims} dimension{'s' * (dims > 1)} and hold numbers; shape {array.shape} was given"
        )
    if not np.isfinite(array).all():
        raise ValueError(
            f"{name} must be finite; {np.count_nonzero(~np.isfinite(array))} of {array.size} values are not"
        )
    return array


def check_names(argument: str, kind: str, given: Collection[str], known: Collection[str]) -> None:
    """Each given name is one of the known."""
    if unknown := set(given) - set(known):
        raise ValueError(
            f"{argument} must name {kind}, which are {', '.join(known)}; "
            f"{', '.join(sorted(unknown))} was given"
        )


def check_one_each(argument: str, kind: str, texts: Sequence[Any] | None, num: int) -> None:
    """There is one text for each of `num` things, if there are texts; one text is no list of its letters."""
    if isinstance(texts, str):
        raise TypeError(f"{argument} must name all {num} {kind}; one text, {texts!r}, was given")
    if texts is not None and len(texts) != num:
        raise ValueError(f"{argument} must name all {num} {kind}; {len(texts)} were given")
