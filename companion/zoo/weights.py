"""Trained weights, and records of what was measured on them, each file with a card that says where it comes from.

Tensors are stored as safetensors and cards as JSON; nothing is pickled. Every file is written
beside its target, flushed to the disk and then renamed, so that a crash leaves the old file or
the new one, never half of one.
"""

import contextlib
import dataclasses
import hashlib
import json
import math
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from companion import checks

WEIGHTS = Path(__file__).parents[1] / "weights"


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a file comes from, and what was measured.

    Attributes:
        name: the name of the file, without its suffix.
        command: what to type to make it again.
        commit: hash of the commit that made it, with "-dirty" where files had changed, or "unknown".
        seed: seed of all random numbers.
        device: the processor, in words.
        scale: "small" or "full", see `companion.runtime.scale`.
        torch: version of torch.
        minutes: wall-clock time it took.
        metric: what was measured, on which split, with its unit.
        metric_value: the measurement; that of weights was made with the stored (rounded) ones.
        metric_se: its standard error over the examples, if it has one.
        peak_memory_mb: the most memory that was used, if it was measured.
        sha256: checksum of the safetensors file, filled in when it is written.

    Raises:
        ValueError: if a field is of another type, or a number is not finite.
    """

    name: str
    command: str
    commit: str
    seed: int
    device: str
    scale: str
    torch: str
    minutes: float
    metric: str
    metric_value: float
    metric_se: float | None = None
    peak_memory_mb: float | None = None
    sha256: str = ""

    def __post_init__(self) -> None:
        for key, accepted in get_type_hints(type(self)).items():
            value = getattr(self, key)
            # JSON writes 2.0 as 2, too, and has no NaN, though Python reads one.
            fits = isinstance(value, accepted | int if accepted is float else accepted)
            infinite = isinstance(value, float) and not math.isfinite(value)
            if not fits or infinite or isinstance(value, bool):
                words = getattr(accepted, "__name__", accepted)
                raise ValueError(
                    f"{key} must be of type {words}, a number also finite; {value!r} was given"
                )

    def __str__(self) -> str:
        error = "" if self.metric_se is None else f" +- {self.metric_se:.3f}"
        return f"{self.name}: {self.metric}: {self.metric_value:.3f}{error}"


@dataclass(frozen=True, kw_only=True)
class Card(Provenance):
    """The card of trained weights, with their data set and how many numbers they are."""

    data: str
    num_parameters: int = 0


@dataclass(frozen=True, kw_only=True)
class RecordCard(Provenance):
    """The card of a record, what was measured for long on the weights of this name, such as a thousand samples."""

    model: str


AnyCard = TypeVar("AnyCard", bound=Provenance)


def save_weights(model: nn.Module, card: Card, folder: Path | str | None = None) -> Card:
    """Write the weights and their card into the folder of shipped weights, or into `folder`.

    The files are `card.name`.safetensors and `card.name`.json. Parameters are rounded to float16,
    half the size and about three digits; buffers, such as a noise schedule, are not. If writing
    fails, the previous weights and their card both stay.

    Returns:
        The card as written, with `num_parameters` and `sha256` filled in.

    Raises:
        TypeError: if the model is no module, or the card no card.
        ValueError: if the card is refused by `save_tensors`, a parameter does not fit into float16, or a buffer is not
            finite.
        OSError: if the files cannot be written.
    """
    checks.instance(nn.Module, model=model)
    checks.instance(Card, card=card)
    parameters = {key for key, _ in model.named_parameters(remove_duplicate=False)}
    state = model.state_dict().items()
    tensors = {key: value.half() if key in parameters else value for key, value in state}
    check_finite("parameters in float16 (at most 65504) and buffers", tensors, model)
    num = sum(p.numel() for p in model.parameters())
    return save_tensors(tensors, dataclasses.replace(card, num_parameters=num), folder)


def save_tensors(
    tensors: Mapping[str, Tensor], card: AnyCard, folder: Path | str | None = None
) -> AnyCard:
    """Write tensors with their card, such as a record, and give the card as written, with `sha256` filled in.

    Raises:
        TypeError: if one is no tensor of real numbers.
        ValueError: if the card's name is no plain file name, or a tensor has the name "__metadata__", which the format
            keeps for itself, or no values.
        OSError: if the files cannot be written.
    """
    checks.instance(Provenance, card=card)
    if not re.fullmatch(r"\w[\w.+-]*", card.name):
        raise ValueError(f"name must be a plain file name; {card.name!r} was given")
    checks.instance(Mapping, tensors=tensors)
    for key, tensor in tensors.items():
        checks.instance(str, key=key)
        checks.tensors(**{key: tensor})
        if key == "__metadata__" or tensor.is_meta:
            raise ValueError(
                f"tensors must hold values, by other names than __metadata__; {key!r} was given"
            )
    # Copies, since safetensors refuses tensors that share memory, as tied weights do.
    own = {key: t.detach().to("cpu", copy=True).contiguous() for key, t in tensors.items()}
    blob = safetensors.torch.save(own)
    card = dataclasses.replace(card, sha256=hashlib.sha256(blob).hexdigest())
    text = json.dumps(dataclasses.asdict(card), indent=2) + "\n"
    path = _folder(folder) / card.name
    write_files({Path(f"{path}.safetensors"): blob, Path(f"{path}.json"): text.encode()})
    return card


def load_record(
    name: str, folder: Path | str | None = None
) -> tuple[dict[str, Tensor], RecordCard]:
    """Return the tensors of a record, on torch's default device, and their card.

    Raises:
        ValueError: if there is no record of this name, or its file is not the one the card describes.
        FileNotFoundError: if the card is there and its file is not.
    """
    tensors, card = _load(RecordCard, name, folder)
    return {key: tensor.to(torch.get_default_device()) for key, tensor in tensors.items()}, card


def load_weights(
    name: str, model: nn.Module, folder: Path | str | None = None, *, partial: bool = False
) -> Card:
    """Copy shipped weights into a model of the same architecture, keeping the model's dtype and device.

    The name is one of `card_names`. With `partial` the model may hold more than the weights do; the rest then stays as
    it is. `companion.zoo.pretrained` builds the model, too.

    Raises:
        ValueError: if there are no weights of this name, their file is not the one the card describes, a parameter or
            buffer is not finite, or the model is built differently; the model is then unchanged.
        FileNotFoundError: if the card is there and its weights are not.
    """
    checks.instance(nn.Module, model=model)
    tensors, card = _load(Card, name, folder)
    state = model.state_dict()
    # What makes p(x|z) from the decoder's output was called `observation` when weights were first shipped.
    new = {key: key.replace("observation.", "observation_model.", 1) for key in tensors}
    tensors = {new[key] if new[key] in state else key: tensors[key] for key in tensors}
    check_architecture(f"the weights {name!r}", state | tensors if partial else tensors, model)
    check_finite(f"the weights {name!r}", tensors, model)
    model.load_state_dict(state | tensors)
    return card


def read_card(name: str, folder: Path | str | None = None) -> Card:
    """The card of some weights, after comparing their file with its checksum; raises like `load_weights`."""
    return _load(Card, name, folder)[1]


def card_names(kind: type[Provenance] = Card, folder: Path | str | None = None) -> list[str]:
    """The names that `load_weights` accepts, or `load_record` where the kind is `RecordCard`."""
    home = _folder(folder)
    if not home.is_dir():
        raise ValueError(f"folder must be a folder of weights; {home} is none")
    cards = (path for path in home.glob("*.json") if path.is_file())
    return sorted(path.stem for path in cards if _is_record(path) == (kind is RecordCard))


def check_architecture(what: str, tensors: Mapping[str, Any], model: nn.Module) -> None:
    """Refuse tensors whose names and shapes are not those of a model, naming the first that is another."""
    expected = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    found = {key: tuple(tensor.shape) for key, tensor in tensors.items()}
    for key in (key for key in expected | found if expected.get(key) != found.get(key)):
        needs = f"needs {key!r} of shape {expected[key]}" if key in expected else f"has no {key!r}"
        holds = f"hold shape {found[key]}" if key in found else "hold no such tensor"
        kind = type(model).__name__
        raise ValueError(f"{what} do not fit the model: {kind} {needs}, but they {holds}")


def check_finite(what: str, tensors: Mapping[str, Tensor], model: nn.Module) -> None:
    """Refuse tensors for a model of which one holds a value that is not finite, or integers where parameters are."""
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for key, tensor in tensors.items():
        if not tensor.isfinite().all() or (key in parameters and not tensor.is_floating_point()):
            raise ValueError(
                f"{what} must hold finite floating-point numbers; {key!r} holds others"
            )


def writable_folder(out: Path | str) -> Path:
    """Make a folder and try a file in it: now, rather than when hours of work are to be written."""
    folder = path_of(out=out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0")
    except OSError as error:
        raise OSError(
            f"out must be a folder that can be written; {folder} is none: {error.strerror}"
        ) from error
    return folder


def write_files(contents: Mapping[Path, bytes]) -> None:
    """Replace files of one folder: whoever reads one, even after a crash, finds the old content or all of the new.

    None is replaced before all are on the disk, so that a full disk cannot part weights from their card.

    Raises:
        OSError: if a file cannot be written; the old ones stay.
    """
    checks.at_least(1, num_files=len(contents))
    path = next(iter(contents))
    folder = path.parent
    # The same names each time, so that what a killed writer left is overwritten.
    unfinished = {path: path.with_name(f".{path.name}.tmp") for path in contents}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, content in contents.items():
            with open(unfinished[path], "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for path in contents:
            os.replace(unfinished[path], path)
    except OSError as error:
        raise OSError(f"could not write {path}: {error.strerror}") from error
    finally:
        for each in unfinished.values():
            with contextlib.suppress(OSError):  # a folder that is none holds no file
                each.unlink(missing_ok=True)
    # Windows cannot open a folder, and needs no flush of it.
    with contextlib.suppress(PermissionError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def path_of(**arguments: Any) -> Path:
    """The one argument as a path; what is none, or holds a NUL, is refused with a TypeError."""
    ((name, value),) = arguments.items()
    if not isinstance(value, Path | str) or "\0" in str(value):
        raise TypeError(f"{name} must be a path; {value!r} was given")
    return Path(value)


def _folder(given: Path | str | None) -> Path:
    return WEIGHTS if given is None else path_of(folder=given)


def _is_record(card: Path) -> bool:
    """Whether a card names the weights that were measured; a damaged one is taken for that of weights."""
    with contextlib.suppress(ValueError, TypeError, RecursionError):
        return "model" in json.loads(card.read_bytes())
    return False


def _load(
    kind: type[AnyCard], name: str, given: Path | str | None
) -> tuple[dict[str, Tensor], AnyCard]:
    """The tensors of a file, and its card; the file is the one that the card describes."""
    folder, what = _folder(given), "record" if kind is RecordCard else "weights"
    if name not in (accepted := card_names(kind, given)):
        raise ValueError(f"name must be one of the {what} {accepted}; {name!r} was given")
    what = f"the {what} {name!r}"
    try:
        fields = json.loads((folder / f"{name}.json").read_bytes())
        card = kind(**fields)
        if card.name != name:
            raise ValueError(f"its name is {card.name!r}")
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(
            f"the card of {what} must be JSON with the fields of {kind.__name__}; {error}"
        ) from error
    file = folder / f"{name}.safetensors"
    if not file.is_file():
        raise FileNotFoundError(f"{what} have a card, but their file {file} is missing")
    blob = file.read_bytes()
    digest = hashlib.sha256(blob).hexdigest()
    if digest != card.sha256:
        raise ValueError(
            f"{what} must have the checksum of their card, {card.sha256[:12]}...; the file has "
            f"{digest[:12]}..., so it is damaged or not the one the card describes"
        )
    try:
        return safetensors.torch.load(blob), card
    except safetensors.SafetensorError as error:
        raise ValueError(f"{what} must be a safetensors file; {file} is none: {error}") from error
