"""What the doors of the package ask of an argument: one sentence names it, what was given, and what is accepted.

Constructors, samplers and losses ask once; nothing asks inside the arithmetic. A question about
values, as opposed to shapes and dtypes, makes a GPU wait, and is left out where a tensor has no
values: traced by `torch.compile`, on the meta device, or fake.
"""

import math
import operator
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor


def at_least(low: int, **arguments: object) -> None:
    """Each argument is an integer, `low` or above.

    Raises:
        TypeError: if one is no integer; True and 2.0 are none.
        ValueError: if one is below `low`.
    """
    for name, value in arguments.items():
        try:
            number = None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
        except TypeError:
            number = None
        if number is None:
            raise TypeError(f"{name} must be an integer, at least {low}; {value!r} was given")
        if number < low:
            raise ValueError(f"{name} must be at least {low}; {value} was given")


def sizes(least: int, **arguments: Sequence[int]) -> None:
    """Each argument holds integers above 0, and at least so many.

    Raises:
        ValueError: if one holds fewer, or one that is below 1.
    """
    for name, values in arguments.items():
        if len(values) < least or min(values, default=1) < 1:
            raise ValueError(
                f"{name} must hold at least {least} positive integers; {list(values)} was given"
            )


def in_range(low: float, high: float, **arguments: object) -> None:
    """Each argument is a number from `low` to `high`, both included.

    Raises:
        TypeError: if one is no number.
        ValueError: if one lies outside, or is a NaN.
    """
    for name, value in arguments.items():
        if not low <= _number(name, value) <= high:
            raise ValueError(f"{name} must lie in [{low:g}, {high:g}]; {value} was given")


def positive(**arguments: object) -> None:
    """Each argument is a finite number above 0.

    Raises:
        TypeError: if one is no number.
        ValueError: if one is not above 0, or not finite.
    """
    for name, value in arguments.items():
        if not 0 < _number(name, value) < math.inf:
            raise ValueError(f"{name} must be positive and finite; {value} was given")


def not_negative(**arguments: object) -> None:
    """Each argument is a finite number, 0 or above.

    Raises:
        TypeError: if one is no number.
        ValueError: if one is below 0, or not finite.
    """
    for name, value in arguments.items():
        if not 0 <= _number(name, value) < math.inf:
            raise ValueError(f"{name} must not be negative, and be finite; {value} was given")


def shape(accepted: tuple[int | str, ...], **tensors: Tensor) -> None:
    """Each tensor has this shape; a word stands for any size but 0: `shape(("batch", 1, 28, 28), x=x)`.

    Raises:
        TypeError: if one is no tensor.
        ValueError: if one has another shape.
    """
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} must be a tensor; {tensor!r} was given")
        fits = tensor.dim() == len(accepted) and all(
            size == want if isinstance(want, int) else size > 0
            for size, want in zip(tensor.shape, accepted, strict=True)
        )
        if not fits:
            text = ", ".join(map(str, accepted)) + ("," if len(accepted) == 1 else "")
            raise ValueError(f"{name} must have shape ({text}); {tuple(tensor.shape)} was given")


def floating(**tensors: Tensor) -> None:
    """Each tensor holds floating-point numbers.

    Raises:
        TypeError: if one holds integers or booleans, which arithmetic would round to.
    """
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise TypeError(f"{name} must be floating-point; {tensor.dtype} was given")


def finite(**tensors: Tensor) -> None:
    """Each tensor holds finite numbers. A GPU waits for the answer.

    Raises:
        ValueError: if one holds an infinite value or a NaN.
    """
    for name, tensor in tensors.items():
        if has_values(tensor) and not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} must be finite; an infinite value or a NaN was given")


def within(low: float, high: float, **tensors: Tensor) -> None:
    """Each tensor's values lie in [low, high]. A GPU waits for the answer.

    Raises:
        ValueError: if a value lies outside, or is a NaN; an empty tensor has none.
    """
    for name, tensor in tensors.items():
        if not tensor.numel() or not has_values(tensor):
            continue
        least, most = (value.item() for value in tensor.aminmax())
        if not (low <= least and most <= high):
            raise ValueError(
                f"{name} must lie in [{low:g}, {high:g}]; {least:.4g} to {most:.4g} was given"
            )


def data(model: nn.Module, x: Tensor) -> None:
    """The argument x is a batch for the model: of its `x_shape`, in the precision of its parameters, finite.

    Any shape (batch, ...) will do for a model without `x_shape`, and any precision for one
    without parameters, or under autocast. A GPU waits for the answer.

    Raises:
        TypeError: if x is no tensor, or has integers or another precision.
        ValueError: if x has another shape, no examples, or a value that is not finite.
    """
    any_shape = tuple(getattr(x, "shape", ()))[1:] or ("...",)
    shape(("batch", *(getattr(model, "x_shape", None) or any_shape)), x=x)
    floating(x=x)
    dtype = next((parameter.dtype for parameter in model.parameters()), x.dtype)
    if x.dtype != dtype and not torch.is_autocast_enabled(x.device.type):
        raise TypeError(f"x must have the precision of the model, {dtype}; {x.dtype} was given")
    finite(x=x)


def has_values(tensor: Tensor) -> bool:
    """Whether the values of a tensor can be read."""
    return not (tensor.is_meta or isinstance(tensor, FakeTensor) or torch.compiler.is_compiling())


def _number(name: str, value: object) -> float:
    """The value as a float; a string or a bool is none."""
    try:
        if isinstance(value, str | bool):
            raise TypeError
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number; {value!r} was given") from None
