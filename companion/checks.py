"""What the doors of the package ask of an argument: one sentence names it, what was given, and what is accepted.

Constructors, samplers and losses ask once; nothing asks inside the arithmetic. A question about
values, as opposed to shapes and dtypes, makes a GPU wait, and is left out where a tensor has no
values: traced by `torch.compile`, on the meta device, or fake.
"""

import math
import numbers as kinds
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor


def at_least(low: int, /, **arguments: object) -> None:
    """Each argument is an integer, `low` or above, of 64 bits.

    Raises:
        TypeError: if one is no integer; True and 2.0 are none.
        ValueError: if one is below `low`, or too large for torch.
    """
    for name, value in arguments.items():
        number = _integer(value)
        if number is None:
            raise TypeError(f"{name} must be an integer, at least {low}; {_given(value)} was given")
        if number < low:
            raise ValueError(f"{name} must be at least {low}; {value} was given")
        if number >= 2**64:
            raise ValueError(f"{name} must be below 2^64; {value} was given")


def sizes(least: int, /, **arguments: Sequence[int]) -> None:
    """Each argument holds integers above 0, and at least so many.

    Raises:
        ValueError: if one holds fewer, or anything else.
    """
    for name, values in arguments.items():
        held = list(values) if isinstance(values, Sequence) and type(values) is not bytes else None
        if held is None or len(held) < least or any((_integer(size) or 0) < 1 for size in held):
            raise ValueError(
                f"{name} must hold at least {least} positive integers; "
                f"{_given(values if held is None else held)} was given"
            )


def in_range(low: float, high: float, /, **arguments: object) -> None:
    """Each argument is a number from `low` to `high`, both included.

    Raises:
        TypeError: if one is no number.
        ValueError: if one lies outside, or is a NaN.
    """
    for name, value in arguments.items():
        if not low <= _number(name, value) <= high:
            raise ValueError(f"{name} must lie in [{low:g}, {high:g}]; {value} was given")


def between(low: float, high: float, /, **arguments: object) -> None:
    """Each argument is a number from `low` to `high`, both excluded; raises as `in_range`."""
    for name, value in arguments.items():
        if not low < _number(name, value) < high:
            raise ValueError(f"{name} must be above {low:g} and below {high:g}; {value} was given")


def positive(**arguments: object) -> None:
    """Each argument is a finite number above 0; raises as `in_range`."""
    for name, value in arguments.items():
        if not 0 < _number(name, value) < math.inf:
            raise ValueError(f"{name} must be positive and finite; {value} was given")


def not_negative(**arguments: object) -> None:
    """Each argument is a finite number, 0 or above; raises as `in_range`."""
    for name, value in arguments.items():
        if not 0 <= _number(name, value) < math.inf:
            raise ValueError(f"{name} must not be negative, and be finite; {value} was given")


def whole(low: int, high: int, /, **arguments: object) -> None:
    """Each argument is an integer from `low` to `high`; raises as `at_least` and `in_range`."""
    at_least(low, **arguments)
    in_range(low, high, **arguments)


def one_of(accepted: Collection[str], /, **arguments: object) -> None:
    """Each argument is one of these words; else a ValueError."""
    for name, value in arguments.items():
        if not isinstance(value, str) or value not in accepted:
            raise ValueError(f"{name} must be one of {', '.join(accepted)}; {value!r} was given")


def seed(number: Any) -> int:
    """The argument seed, which is one that torch takes; raises as `at_least`."""
    at_least(0, seed=number)
    return int(number)  # torch takes no integer of NumPy


def device(given: torch.device | str | None) -> torch.device:
    """The device that an argument of this name stands for; None is torch's default device.

    Raises:
        ValueError: if torch knows none of this name, or the machine has none.
    """
    if given is None:
        return torch.get_default_device()
    try:
        torch.empty(0, device=given)
        return torch.device(given)
    except (RuntimeError, TypeError, AssertionError, NotImplementedError):
        known = "one that torch knows, such as cpu or cuda, and this machine has"
        raise ValueError(f"device must be {known}; {_given(given)} was given") from None


def instance(accepted: type, /, **arguments: object) -> None:
    """Each argument is of this type; else a TypeError."""
    for name, value in arguments.items():
        if not isinstance(value, accepted):
            kind = {nn.Module: "module of torch", Tensor: "tensor"}.get(accepted, accepted.__name__)
            raise TypeError(f"{name} must be a {kind}; {_given(value)} was given")


def function(**arguments: object) -> None:
    """Each argument can be called, as a module without `forward`, such as a whole model, cannot; else a TypeError."""
    for name, value in arguments.items():
        forward = getattr(value.forward, "__func__", None) if isinstance(value, nn.Module) else None
        if not callable(value) or forward is nn.Module.forward:
            hint = ", such as that of the model" if hasattr(value, name) else ""
            raise TypeError(f"{name} must be a function{hint}; {_given(value)} was given")


def maker(**arguments: object) -> None:
    """Each argument is a function that makes modules, as a class of them is, and no module; else a TypeError."""
    for name, value in arguments.items():
        if not callable(value) or isinstance(value, nn.Module):
            raise TypeError(f"{name} must be a function or a class; {_given(value)} was given")


def numbers(**arguments: Any) -> Tensor:
    """The one argument, a tensor or numbers in sequences, as a tensor; Python's numbers keep their double precision.

    Raises:
        TypeError: if it holds anything else.
    """
    ((name, values),) = arguments.items()
    try:
        tensor = torch.as_tensor(values)
        if tensor.dtype == torch.bool:
            raise TypeError
        if tensor is not values and tensor.is_floating_point():
            tensor = torch.as_tensor(values, dtype=torch.double)
        return tensor
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise TypeError(f"{name} must hold numbers; {_given(values)} was given") from None


def shape(accepted: tuple[int | str, ...], /, **tensors: Tensor) -> None:
    """Each tensor has this shape; a word stands for any size but 0: `shape(("batch", 1, 28, 28), x=x)`.

    Raises:
        TypeError: if one is no tensor.
        ValueError: if one has another shape.
    """
    for name, tensor in tensors.items():
        _tensor(name, tensor)
        fits = tensor.dim() == len(accepted) and all(
            size == want if isinstance(want, int) else size > 0
            for size, want in zip(tensor.shape, accepted, strict=True)
        )
        if not fits:
            text = ", ".join(map(str, accepted)) + ("," if len(accepted) == 1 else "")
            raise ValueError(f"{name} must have shape ({text}); {tuple(tensor.shape)} was given")


def event(accepted: tuple[int, ...], /, **tensors: Tensor) -> None:
    """Each tensor has this shape, or more dimensions in front of it: one pixel is no image; raises as `shape`."""
    for name, tensor in tensors.items():
        front = _tensor(name, tensor).shape[: max(0, tensor.dim() - len(accepted))]
        shape((*front, *accepted), **{name: tensor})


def tensors(**arguments: object) -> None:
    """Each argument is a tensor of real numbers that are all stored; else a TypeError."""
    for name, value in arguments.items():
        _tensor(name, value)


def floating(**tensors: Tensor) -> None:
    """Each tensor holds floating-point numbers.

    Raises:
        TypeError: if one is no tensor, or holds integers or booleans, which arithmetic would round to.
    """
    for name, tensor in tensors.items():
        if not _tensor(name, tensor).is_floating_point():
            raise TypeError(f"{name} must be floating-point; {tensor.dtype} was given")


def precise(**tensors: Tensor) -> None:
    """Each tensor is of float32 or float64, as linear algebra needs; else a TypeError."""
    for name, tensor in tensors.items():
        if _tensor(name, tensor).dtype not in (torch.float32, torch.float64):
            raise TypeError(
                f"{name} must be floating-point, of 32 or 64 bits; {tensor.dtype} was given"
            )


def integers(**tensors: Tensor) -> None:
    """Each tensor holds integers by which torch can index: those of 8 bits it may read as a mask.

    Raises:
        TypeError: if one is no tensor, or of another dtype than int64 or int32.
    """
    for name, tensor in tensors.items():
        if _tensor(name, tensor).dtype not in (torch.int64, torch.int32):
            raise TypeError(f"{name} must hold integers, int64 or int32; {tensor.dtype} was given")


def like(reference: Tensor, /, **tensors: Tensor) -> None:
    """Each tensor has the shape, the dtype and the device of the reference: nothing is broadcast or promoted.

    Raises:
        TypeError: if one is no tensor, or has another dtype.
        ValueError: if one has another shape, or lies on another device.
    """
    shape(tuple(reference.shape), **tensors)
    for name, tensor in tensors.items():
        if tensor.device != reference.device:
            raise ValueError(f"{name} must lie on {reference.device}; {tensor.device} was given")
        if tensor.dtype != reference.dtype:
            raise TypeError(
                f"{name} must have the dtype {reference.dtype}; {tensor.dtype} was given"
            )


def finite(**tensors: Tensor) -> None:
    """Each tensor holds finite numbers. A GPU waits for the answer.

    Raises:
        TypeError: if one is no tensor.
        ValueError: if one holds an infinite value or a NaN.
    """
    for name, tensor in tensors.items():
        if has_values(_tensor(name, tensor)) and not bool(tensor.isfinite().all()):
            raise ValueError(f"{name} must be finite; an infinite value or a NaN was given")


def within(low: float, high: float, /, **tensors: Tensor) -> None:
    """Each tensor's values lie in [low, high]. A GPU waits for the answer.

    Raises:
        TypeError: if one is no tensor.
        ValueError: if a value lies outside, or is a NaN; an empty tensor has none.
    """
    for name, tensor in tensors.items():
        if not _tensor(name, tensor).numel() or not has_values(tensor):
            continue
        least, most = (value.item() for value in tensor.aminmax())
        if not (low <= least and most <= high):
            raise ValueError(
                f"{name} must lie in [{low:g}, {high:g}]; {least:.4g} to {most:.4g} was given"
            )


def examples(dims: int, /, **tensors: Tensor) -> None:
    """Each tensor has at least so many dimensions, and a first one that is not 0.

    Raises:
        TypeError: if one is no tensor.
        ValueError: if one has fewer dimensions, or no examples.
    """
    for name, tensor in tensors.items():
        rest = _tensor(name, tensor).shape[1:]
        shape(("batch", *(rest if tensor.dim() >= dims else ("...",))), **{name: tensor})


def batch(dims: int, /, **tensors: Tensor) -> None:
    """Each tensor is a batch of examples, floating-point and finite. A GPU waits for the answer.

    A loss asks by `data`, which does not let it wait.

    Raises:
        TypeError: if one is no tensor, or holds no floating-point numbers.
        ValueError: if one has fewer dimensions, no examples, or a value that is not finite.
    """
    examples(dims, **tensors)
    floating(**tensors)
    finite(**tensors)


def precision(model: object, /, **tensors: Tensor) -> None:
    """Each tensor lies where the model's parameters do, and has their dtype; under autocast, any dtype.

    Raises:
        TypeError: if one is no tensor, or has another dtype.
        ValueError: if one lies on another device.
    """
    floating(**tensors)
    first = next(model.parameters(), None) if isinstance(model, nn.Module) else None
    if first is None:
        return
    for name, tensor in tensors.items():
        if tensor.device != first.device:
            raise ValueError(
                f"{name} must lie on the device of the model, {first.device}; {tensor.device} was given"
            )
        if tensor.dtype != first.dtype and not torch.is_autocast_enabled(tensor.device.type):
            raise TypeError(
                f"{name} must have the precision of the model, {first.dtype}; {tensor.dtype} was given"
            )


def data(model: nn.Module, x: Tensor, kind: type = nn.Module) -> None:
    """The argument x is a batch for a model of this kind: of its `x_shape`, in the precision of its parameters, finite.

    Any shape (batch, ...) will do for a model without `x_shape`. Losses ask at each step of a training, so values on a
    GPU, which would wait, are not read: one that is not finite makes a loss that is not, and `fit` stops.

    Raises:
        TypeError: if the model is of another kind, or x is no tensor, or has integers or another precision.
        ValueError: if x has another shape, no examples, a value that is not finite, or a single
            example, whose average over the batch a model in training mode subtracts.
    """
    instance(kind, model=model)
    if getattr(model, "x_shape", None) is not None:
        shape(("batch", *model.x_shape), x=x)  # type: ignore[misc]
    precision(model, x=x)
    examples(2, x=x)
    if reads_at_once(x):
        finite(x=x)
    if (
        len(x) < 2
        and model.training
        and any(isinstance(m, nn.BatchNorm1d) for m in model.modules())
    ):
        raise ValueError(
            "x must hold at least 2 examples for a model with batch normalization in training mode; "
            "1 was given"
        )


def has_values(tensor: Tensor) -> bool:
    """Whether the values of a tensor can be read."""
    if tensor.is_cuda and torch.cuda.is_current_stream_capturing():
        return False
    return not (tensor.is_meta or isinstance(tensor, FakeTensor) or torch.compiler.is_compiling())


def reads_at_once(tensor: Tensor) -> bool:
    """Whether the values of a tensor can be read, and nothing waits for them as a GPU would."""
    return has_values(tensor) and tensor.device.type == "cpu"


def _tensor(name: str, value: object) -> Tensor:
    """The value, a tensor of real numbers that are all stored."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor; {_given(value)} was given")
    if value.is_complex() or value.is_nested or value.layout is not torch.strided:
        kind = "complex" if value.is_complex() else "nested" if value.is_nested else "sparse"
        raise TypeError(f"{name} must be a dense tensor of real numbers; a {kind} one was given")
    return value


def _integer(value: object) -> int | None:
    """The value as an integer; a bool or 2.0 is none, nor is an array or a tensor, but of shape ()."""
    is_one = isinstance(value, kinds.Integral) and not isinstance(value, bool)
    if isinstance(value, Tensor) and value.dim() == 0 and not value.is_meta:
        is_one = value.dtype in (torch.int64, torch.int32)
    return int(value) if is_one else None  # type: ignore[call-overload]


def _number(name: str, value: object) -> float:
    """The value as a float; a bool is none, and of tensors and arrays only a tensor of shape ()."""
    is_one = isinstance(value, kinds.Real) and not isinstance(value, bool)
    if isinstance(value, Tensor):
        is_one = value.dim() == 0 and value.dtype != torch.bool and not value.is_complex()
        value = value.detach()
    try:
        if not is_one:
            raise TypeError
        return float(value)  # type: ignore[arg-type]
    except (TypeError, RuntimeError, OverflowError):
        raise TypeError(f"{name} must be a number; {_given(value)} was given") from None


def _given(value: object) -> str:
    """What was given, for one sentence: the value itself, or its type where that is long."""
    text = "\n" if isinstance(value, Tensor | nn.Module) else repr(value)
    kind = type(value).__name__
    article = "an" if kind[0] in "AEIOUaeiou" else "a"
    return text if len(text) < 80 and "\n" not in text else f"{article} {kind}"
