"""Where and how large a computation runs: device, precision and scale, decided in one place and only when asked."""

import os
import platform
import subprocess
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import nn

from companion import checks

Value = TypeVar("Value")
Module = TypeVar("Module", bound=nn.Module)


def device() -> torch.device:
    """The CUDA device if there is one, else the CPU. Apple's GPU is not used: it lacks the float64 of the checks.

    Book: chapter 1.
    """
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def use_device() -> None:
    """Make `device()` torch's default device: that of new tensors, of `pretrained` and of `data.load`.

    On a CPU nothing changes. The chapters that train networks or draw from them say it in their set-up cell. Chapters
    2 to 5 and 9 do not: they compute small things exactly, where a GPU has nothing to gain.

    Book: chapter 1.
    """
    if device().type != "cpu":
        torch.set_default_device(device())


def scale() -> Literal["small", "full"]:
    """How long the book's cells train: "full" with a CUDA device, else "small"; $COMPANION_SCALE overrides.

    Raises:
        ValueError: if $COMPANION_SCALE is neither "small" nor "full".

    Book: chapter 1.
    """
    given = os.environ.get("COMPANION_SCALE", "")
    if given == "":
        return "full" if torch.cuda.is_available() else "small"
    if given not in ("small", "full"):
        raise ValueError(f"COMPANION_SCALE must be 'small' or 'full'; {given!r} was given")
    return "full" if given == "full" else "small"


def pick(*, small: Value, full: Value) -> Value:
    """The value that belongs to `scale()`: small=2, full=20 for a number of epochs, say.

    Book: chapter 1.
    """
    return full if scale() == "full" else small


def has_bfloat16() -> bool:
    """Whether `device()` multiplies in bfloat16 in hardware; a processor that torch cannot ask counts as lacking it.

    Book: chapter 1.
    """
    if device().type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def autocasts() -> bool:
    """Whether `autocast` does something. Book: chapter 1."""
    return scale() == "full" and has_bfloat16()


def autocast() -> AbstractContextManager[Any]:
    """A new context in which products and convolutions run in bfloat16: at full scale, where `has_bfloat16()`.

    Elsewhere the context does nothing and float32 stays, also on a CUDA card without bfloat16, where float16 would
    need its gradients rescaled. Book: chapter 1.
    """
    if autocasts():
        return torch.autocast(device().type, dtype=torch.bfloat16)
    return nullcontext()


def to_device(model: Module) -> Module:
    """Move the model to `device()`; at full scale on CUDA put channels last in memory, as convolutions prefer.

    Book: chapter 13.
    """
    checks.instance(nn.Module, model=model)
    if device().type == "cuda" and scale() == "full":
        model = model.to(memory_format=torch.channels_last)
    return model.to(device())


def progress_bar(
    steps: Iterable[Any], description: str | None, done: int = 0, total: int | None = None
) -> Any:
    """Return a tqdm bar over the steps; it removes itself at the end.

    It is silent without a description, with TQDM_DISABLE set, and in all but the first of several processes. `done`
    steps were taken before; `total` says how many there are, if the steps do not.
    Book: chapter 1.
    """
    checks.instance(Iterable, steps=steps)
    # Here, since it picks terminal or notebook when it is imported.
    from tqdm.auto import tqdm

    # tqdm's notebook bar ignores TQDM_DISABLE (seen in 4.70), and a stored notebook must hold no bar.
    disable = description is None or any(
        os.environ.get(name, "") not in ("", "0") for name in ("TQDM_DISABLE", "RANK")
    )
    return tqdm(
        steps, description, total, leave=False, mininterval=0.25, disable=disable, initial=done
    )


def device_name() -> str:
    """The processor of `device()` in words. Book: chapter 1."""
    if device().type == "cuda":
        return f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}"
    return f"CPU {platform.machine()}, {torch.get_num_threads()} threads"


def peak_memory_mb() -> float | None:
    """The most memory held so far, in MiB: the device's on CUDA, the process's on Linux, else not measured.

    Book: chapter 1.
    """
    if device().type == "cuda":
        return round(torch.cuda.max_memory_allocated() / 2**20, 1)
    if sys.platform != "linux":
        return None
    import resource

    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10, 1)


def commit() -> str:
    """The checked-out commit that this package belongs to, "-dirty" where tracked files have changed, or "unknown".

    Book: chapter 13.
    """
    file = Path(__file__)

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(file.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        # An installed copy may lie in somebody else's checkout.
        git("ls-files", "--error-unmatch", file.name)
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def integer_in(variable: str, default: int) -> int:
    """The integer, 0 or above, that a variable of the environment holds; the default if it is not set.

    Raises:
        ValueError: if it holds anything else.

    Book: chapter 1.
    """
    given = os.environ.get(variable, "")
    if given and not (given.isdecimal() and len(given) < 20):
        raise ValueError(
            f"{variable} must hold an integer from 0 to 2^63; {given[:60]!r} was given"
        )
    return int(given) if given else default
