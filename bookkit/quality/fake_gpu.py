"""A device that nobody owns: its tensors hold values, which the CPU computes, and refuse what CUDA refuses.

    with pretending():
        x = torch.zeros(2, device=NAME)  # x + torch.zeros(2) is an error, as is x.numpy()

"fakegpu" is torch's Python backend. An operation that mixes its tensors with one that stayed on the CPU is an error,
and so are a generator of the CPU, a NumPy array, and an operation for which this build of torch has no CUDA kernel.
What CUDA allows is allowed: a number of the CPU in an operation element by element, indices of the CPU, copies.

What it cannot see: speed and memory, streams, bfloat16, operations that CUDA rounds in another way, or refuses for
their arguments alone, and random numbers: here they are the CPU's, and a GPU draws others from the same seed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

NAME = "fakegpu"
aten = torch.ops.aten

# What takes tensors of both devices on CUDA, too: copies, and indices on the CPU.
COPIES = {aten._to_copy.default, aten.copy_.default, aten.copy.default}
INDEXED = {
    aten.index.Tensor,
    aten.index_put.default,
    aten.index_put_.default,
    aten._index_put_impl_.default,
    aten._unsafe_index.Tensor,
}
# What takes a number of the CPU, as do operations element by element.
NUMBERS = {aten.masked_fill.Tensor, aten.masked_fill_.Tensor, aten.index_fill.int_Tensor}
# What reads values, so that a GPU would have to wait.
READS = {aten._local_scalar_dense.default, aten.equal.default, aten.nonzero.default}


SETUP = getattr(backend_registration, "_setup_privateuseone_for_python_backend", None)
NEEDS = "the pretended device needs torch 2.10"


def register() -> None:
    """Give torch a device of this name. Autograd counts the devices before its first backward pass, so do it early."""
    if SETUP is not None and torch._C._get_privateuse1_backend_name() != NAME:
        SETUP(NAME)


class Pretended(Tensor):
    """A tensor of the pretended device; its values are those of `held`, a tensor of the CPU."""

    held: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, held: Tensor) -> Pretended:
        made: Pretended = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=torch.device(NAME, 0),
        )
        made.held = held
        return made

    @property
    def data(self) -> Tensor:
        return self.detach()

    @data.setter
    def data(self, other: Tensor) -> None:
        assert isinstance(other, Pretended)
        Tensor.data.__set__(self, other)  # type: ignore[attr-defined]
        self.held = other.held

    def tolist(self) -> Any:
        waits["tolist"] += 1
        return self.held.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        if not force:
            raise TypeError(f"can't convert {NAME}:0 device type tensor to numpy; use Tensor.cpu()")
        return self.held.numpy(force=True)

    def __format__(self, text: str) -> str:
        return format(self.item() if self.dim() == 0 else repr(self), text)

    def __repr__(self, **options: Any) -> str:  # type: ignore[override]
        return repr(self.held.detach()).removesuffix(")") + f", device='{NAME}:0')"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return compute(func, args, kwargs or {})


def compute(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Do as CUDA does, with the arithmetic of the CPU."""
    flat, spec = tree_flatten((args, kwargs))
    here = any(isinstance(value, Pretended) for value in flat)
    asked = kwargs.get("device")
    target = here if asked is None else torch.device(asked).type == NAME
    if not (here or target):
        return func(*args, **kwargs)
    check(func, args, flat, target)
    places = {isinstance(value, Pretended) for value in flat if isinstance(value, Tensor)}
    if func in COPIES and len(places | {target}) > 1:
        moves[func.name()] += 1
    held = list(map(on_cpu, flat))
    held_args, held_kwargs = tree_unflatten(held, spec)
    out = func(*held_args, **held_kwargs)
    if func in COPIES and out is not None and any(out is value for value in held):
        out = out.clone() if func is aten._to_copy.default else out
    if not target:
        return out
    out = tree_map(lambda value: Pretended(value) if isinstance(value, Tensor) else value, out)
    if here and has_aliases(func):
        return return_and_correct_aliasing(func, args, kwargs, out)
    return out


def on_cpu(value: Any) -> Any:
    """What stands for an argument in the arithmetic of the CPU."""
    if isinstance(value, Pretended):
        return value.held
    return torch.device("cpu") if isinstance(value, torch.device) else value


def check(func: Any, args: tuple[Any, ...], flat: list[Any], target: bool) -> None:
    """Refuse what CUDA refuses."""
    if func in READS:
        waits[func.name()] += 1
    if func in COPIES:
        return
    stayed = [v for v in flat if isinstance(v, Tensor) and not isinstance(v, Pretended)]
    if func in INDEXED:  # the tensor and the values, but not the indices
        stayed = [v for v in (args[0], *args[2:]) if any(v is other for other in stayed)]
    if torch.Tag.pointwise in func.tags or func in NUMBERS or func in INDEXED:
        stayed = [value for value in stayed if value.dim()]
    if stayed:
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but found at least two devices, {NAME}:0 and cpu! "
            f"({func.name()}, with one of shape {tuple(stayed[0].shape)} on the CPU)"
        )
    if any(isinstance(value, torch.Generator) and value.device.type == "cpu" for value in flat):
        raise RuntimeError(f"Expected a '{NAME}' device type for generator but found 'cpu'")
    if target and not has_cuda_kernel(func.name()):
        raise NotImplementedError(f"torch has no kernel for {func.name()} on CUDA")


@cache
def has_aliases(func: Any) -> bool:
    """Whether the operation is in place or a view, and returns what it was given; those on lists return nothing."""
    parts = [*func._schema.arguments, *func._schema.returns]
    is_alias = any(part.alias_info is not None for part in parts)
    return is_alias and bool(func._schema.returns) and "_foreach" not in func.name()


@cache
def has_cuda_kernel(name: str) -> bool:
    """Whether CUDA has this operation; True if this build of torch knows nothing of CUDA."""
    if torch.version.cuda is None:
        return True
    return bool(torch._C._dispatch_has_computed_kernel_for_dispatch_key(name, "CUDA"))


waits: Counter[str] = Counter()
"""How often values were read from the device, by operation."""

moves: Counter[str] = Counter()
"""How often a tensor was copied between the CPU and the device, by operation."""


class Making(TorchDispatchMode):
    """Makes new tensors on the pretended device where they are asked for."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


class Reading(TorchFunctionMode):
    """Reads numbers for `torch.tensor`, which asks them where no operation is seen."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.tensor, torch.as_tensor) and isinstance(args[0], list | tuple):
            numbers, spec = tree_flatten(args[0])
            waits["torch.tensor"] += sum(isinstance(value, Pretended) for value in numbers)
            numbers = [v.held.detach() if isinstance(v, Pretended) else v for v in numbers]
            args = (tree_unflatten(numbers, spec), *args[1:])
        return func(*args, **kwargs or {})


@contextmanager
def pretending() -> Iterator[None]:
    """A context in which the pretended device is the one that `runtime.device` finds, and tensors can be made there."""
    from companion import runtime

    register()
    before, found = runtime.device, torch.device(NAME)
    runtime.device = lambda: found
    # torch.tensor makes its tensor first, and moves it then.
    torch._C._set_only_lift_cpu_tensors(True)
    try:
        with Making(), Reading():
            yield
    finally:
        runtime.device = before
        torch._C._set_only_lift_cpu_tensors(False)
        torch.set_default_device(None)
