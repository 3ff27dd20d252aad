"""The command line, a face of `companion.zoo` and the ledger of experiments: `python -m companion train`, and more."""

import functools
import importlib.metadata
import inspect
import os
import platform
import sys
from collections.abc import Callable, Sequence
from typing import Any

import tyro
from torch import Tensor

import companion
from companion import runtime
from companion.data import cache_dir, describe, load
from companion.experiments import run as experiment
from companion.zoo import evaluate, sample, train
from companion.zoo.processes import end
from companion.zoo.recipes import RECIPES
from companion.zoo.records import record
from companion.zoo.weights import Provenance, RecordCard, card_names, load_record, read_card


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0, 1 where something is wrong, 130 after Ctrl-C."""
    try:
        commands = (data, doctor, recipes, train, evaluate, _sample, record)
        result = tyro.extras.subcommand_cli_from_dict(
            {command.__name__: command for command in commands} | {"experiment": experiment},
            args=arguments,
            prog="python -m companion",
            description="The companion package of the book.",
            config=(tyro.conf.PositionalRequiredArgs,),
        )
    except (ValueError, TypeError, OSError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        print(str(stop) or "stopped; what was saved goes on with --resume", file=sys.stderr)
        return 130
    finally:
        end()
    if isinstance(result, bool):
        return 0 if result else 1
    if os.environ.get("RANK", "0") != "0":
        return 0  # the first of several processes speaks for all
    if isinstance(result, Tensor):
        result = f"drew {len(result)} examples of shape {tuple(result.shape[1:])}"
    print(result)
    return 0


def data(download: str | None = None) -> bool:
    """List the data sets and where they were found.

    Args:
        download: load this data set first, downloading it if there is no copy.
    """
    if download is not None:
        load(download, fallback=False)
    for copy in describe():
        print(f"{copy.name:14} {copy.folder or '-'}  ({copy.note})")
    return True


@functools.wraps(sample)
def _sample(*arguments: Any, **options: Any) -> Any:
    """As `sample`, and what is drawn for a text goes to NAME.png, if no other file is named."""
    given = inspect.signature(sample).bind(*arguments, **options).arguments
    if given.get("text") is not None and given.get("out") is None:
        given["out"] = f"{given['name']}.png"
    return sample(**given)


def recipes() -> bool:
    """List the recipes that `train` accepts, with what its options can change."""
    print(f"{'name':20} {'data':8} {'parameters':>10} {'epochs':>6} {'batch':>5} {'lr':>6}")
    for name, each in RECIPES.items():
        size = sum(parameter.numel() for parameter in each.model().parameters())
        row = f"{name:20} {each.data.name:8} {size:10,} {each.epochs:6} {each.batch_size:5} {each.lr:6g}"
        print(row)
    return True


def doctor() -> bool:
    """Describe this installation, and check data and shipped weights; for bug reports."""
    healthy = True

    def line(label: str, text: Callable[..., object], *arguments: object) -> None:
        nonlocal healthy
        try:
            found = str(text(*arguments))
        except (ValueError, OSError, RuntimeError, ImportError) as error:
            found, healthy = f"REFUSED: {error}", False
        print(f"{label + ':':36} {found}")

    line("companion", "{}, commit {}".format, companion.__version__, runtime.commit())
    line("python", "{} on {}".format, platform.python_version(), platform.platform())
    line("device", runtime.device_name)
    line("bfloat16", lambda: "yes" if runtime.has_bfloat16() else "no")
    line("scale", runtime.scale)
    line("cache", cache_dir)
    packages = "torch torchvision numpy matplotlib scikit-learn safetensors ipywidgets"
    for package in packages.split():
        line(package, importlib.metadata.version, package)
    for copy in describe():
        line(f"data {copy.name}", f"{copy.folder or ''} ({copy.note})".strip)
        healthy &= copy.verified or copy.folder is None
    for name in card_names():
        line(f"weights {name}", _maker, read_card, name)
    for name in card_names(RecordCard):
        line(f"record {name}", _maker, lambda name: load_record(name)[1], name)
    return healthy


def _maker(read: Callable[[str], Provenance], name: str) -> str:
    return f"verified, made by {read(name).commit[:12]}"


if __name__ == "__main__":
    sys.exit(main())
