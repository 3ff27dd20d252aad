"""Files of trained weights with a card that says where they come from, and of unfinished runs that can be resumed.

Nothing here is pickled: tensors are stored as safetensors, all else as JSON. Every file is written beside its target,
flushed to the disk and then renamed, so that a crash leaves the old file or the new one, never half of one.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

WEIGHTS = Path(__file__).parents[1] / "weights"


@dataclass(frozen=True)
class Card:
    """Where a file of weights comes from and how good it is. `save_weights` fills in the last two fields.

    Attributes:
        name: the name of the weights, which is that of their file.
        data: the data set, as `companion.data.Images.name` gives it.
        scale: "small" or "full", see `companion.runtime.scale`.
        command: what to type to train them again.
        commit: hash of the commit that trained them, with "-dirty" where files had changed, or "unknown".
        seed: seed of initialization, batches and noise.
        device: the processor, in words.
        torch: version of torch.
        minutes: wall-clock time of the training.
        metric: what was measured, on which split, with its unit.
        metric_value: the measurement, made with the stored (rounded) weights.
        metric_se: its standard error over the examples, if it has one.
        peak_memory_mb: the most memory the training used, if it was measured.
        num_parameters: how many numbers the parameters hold.
        sha256: checksum of the safetensors file.
    """

    name: str
    data: str
    scale: str
    command: str
    commit: str
    seed: int
    device: str
    torch: str
    minutes: float
    metric: str
    metric_value: float
    metric_se: float | None = None
    peak_memory_mb: float | None = None
    num_parameters: int = 0
    sha256: str = ""


@runtime_checkable
class Stateful(Protocol):
    """A part of a run: a model, an optimizer, the batches, an average of the weights, a learning-rate schedule."""

    def state_dict(self) -> Any:
        """The state, made of tensors, numbers, strings, None, and dicts, lists and tuples of them."""
        ...

    def load_state_dict(self, state_dict: Any, /) -> Any:
        """Restore what `state_dict` gave."""
        ...


def save_weights(model: nn.Module, name: str, card: Card, folder: Path | str | None = None) -> Card:
    """Write `name`.safetensors and its card `name`.json into the folder of shipped weights, or into `folder`.

    Parameters are rounded to float16, half the size and about three digits; buffers, such as a noise schedule, are not.
    If writing fails, the previous weights and their card both stay.

    Returns:
        The card as written, with `num_parameters` and `sha256` filled in.

    Raises:
        ValueError: if `name` is no plain file name or not that of the card, or a parameter does not fit into float16.
    """
    _check_name(name, card)
    parameters = {key for key, _ in model.named_parameters(remove_duplicate=False)}
    tensors = {}
    for key, tensor in model.state_dict().items():
        tensors[key] = _on_cpu(tensor.half() if key in parameters else tensor)
        if key in parameters and not tensors[key].isfinite().all():
            raise ValueError(
                f"parameters must be finite and fit into float16 (at most 65504); {key!r} does not"
            )
    num = sum(p.numel() for p in model.parameters())
    return _save(tensors, dataclasses.replace(card, num_parameters=num), folder)


def save_record(
    tensors: Mapping[str, Tensor], name: str, card: Card, folder: Path | str | None = None
) -> Card:
    """Write what was measured on a model for long, such as a thousand samples, as weights are written: with a card.

    Returns:
        The card as written, with `sha256` filled in.

    Raises:
        ValueError: if `name` is no plain file name or not that of the card.
    """
    _check_name(name, card)
    return _save({key: _on_cpu(value) for key, value in tensors.items()}, card, folder)


def load_record(name: str, folder: Path | str | None = None) -> tuple[dict[str, Tensor], Card]:
    """Return the tensors that `save_record` wrote, and their card.

    Raises:
        ValueError: if there is no record of this name, or its file is not the one the card describes.
        FileNotFoundError: if the card is there and its file is not.
    """
    card, blob = _read_weights(name, _folder(folder))
    return safetensors.torch.load(blob), card


def load_weights(
    name: str, model: nn.Module, folder: Path | str | None = None, *, partial: bool = False
) -> Card:
    """Copy shipped weights into a model of the same architecture, keeping the model's dtype and device.

    Args:
        name: one of `weight_names`.
        model: what to copy into.
        folder: where the weights are, if not with the companion.
        partial: whether the model may hold more than the weights do; the rest then stays as it is.

    Raises:
        ValueError: if there are no weights of this name, their file is not the one the card describes, or the model is
            built differently; the model is then unchanged.
        FileNotFoundError: if the card is there and its weights are not.
    """
    card, blob = _read_weights(name, _folder(folder))
    tensors = safetensors.torch.load(blob)
    if partial:
        tensors = model.state_dict() | tensors
    _check_architecture(f"the weights {name!r}", tensors, model)
    model.load_state_dict(tensors)
    return card


def weight_names(folder: Path | str | None = None) -> list[str]:
    """The names that `load_weights` accepts."""
    return sorted(path.stem for path in _folder(folder).glob("*.json"))


def check_weights(name: str, folder: Path | str | None = None) -> Card:
    """The card of some weights, after comparing their file with its checksum; raises like `load_weights`."""
    return _read_weights(name, _folder(folder))[0]


def save_run(path: Path | str, **parts: Stateful) -> None:
    """Write the state of a run between two steps, so that `load_run` continues it as if it had never stopped.

    The state of torch's random numbers, on CPU and CUDA, is stored too. If writing fails, the previous file stays.

    Args:
        path: the file; its folder is created.
        parts: everything that changes during the run: `model=model, optimizer=optimizer, batches=batches`.

    Raises:
        TypeError: if a part's state holds something other than tensors, numbers, strings, None, dicts, lists, tuples.
    """
    states = {name: part.state_dict() for name, part in parts.items()}
    random = {
        "cpu": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if _cuda_in_use() else [],
    }
    tensors: dict[str, Tensor] = {}
    state = json.dumps(_pack({"parts": states, "random": random}, "state", tensors))
    metadata = {"state": state, "sha256": _digest(state, tensors)}
    _write({Path(path): safetensors.torch.save(tensors, metadata)})


def remove_run(path: Path | str) -> None:
    """Delete what `save_run` wrote, and what a writer that was killed may have left beside it."""
    path = Path(path)
    path.unlink(missing_ok=True)
    _unfinished(path).unlink(missing_ok=True)


def load_run(path: Path | str, **parts: Stateful) -> None:
    """Restore the parts that `save_run` wrote, and torch's random numbers.

    On the same kind of CPU the run then continues bit for bit. One saved on CUDA can be continued elsewhere, with other
    random numbers.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, holds other parts, or holds a model that is built differently; nothing is
            restored then.
    """
    state = _read_run(Path(path))
    stored = state["parts"]
    if set(stored) != set(parts):
        raise ValueError(f"{path} holds the parts {sorted(stored)}; {sorted(parts)} were given")
    for name, part in parts.items():
        if isinstance(part, nn.Module):
            _check_architecture(f"the part {name!r} of {path}", stored[name], part)
    for name, part in parts.items():
        part.load_state_dict(stored[name])
    torch.set_rng_state(state["random"]["cpu"])
    for index, random in enumerate(state["random"]["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(random, index)


def _folder(given: Path | str | None) -> Path:
    return WEIGHTS if given is None else Path(given)


def _check_name(name: str, card: Card) -> None:
    if name != card.name or Path(name).name != name:
        raise ValueError(
            f"name must be a plain file name and that of the card, {card.name!r}; {name!r} was given"
        )


def _save(tensors: Mapping[str, Tensor], card: Card, folder: Path | str | None) -> Card:
    blob = safetensors.torch.save(dict(tensors))
    card = dataclasses.replace(card, sha256=hashlib.sha256(blob).hexdigest())
    text = json.dumps(dataclasses.asdict(card), indent=2) + "\n"
    target = _folder(folder)
    _write({target / f"{card.name}.safetensors": blob, target / f"{card.name}.json": text.encode()})
    return card


def _read_weights(name: str, folder: Path) -> tuple[Card, bytes]:
    """The card and the bytes of some weights; the bytes are those the card describes."""
    accepted = weight_names(folder)
    if name not in accepted:
        raise ValueError(f"name must be one of the weights {accepted}; {name!r} was given")
    try:
        card = Card(**json.loads((folder / f"{name}.json").read_bytes()))
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"the card of the weights {name!r} must be JSON with the fields of Card; {error}"
        ) from error
    weights = folder / f"{name}.safetensors"
    try:
        blob = weights.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(
            f"the weights {name!r} have a card, but their file {weights} is missing"
        ) from None
    digest = hashlib.sha256(blob).hexdigest()
    if digest != card.sha256:
        raise ValueError(
            f"the weights {name!r} must have the checksum of their card, {card.sha256[:12]}...; the file has "
            f"{digest[:12]}..., so it is damaged or not the one the card describes"
        )
    return card, blob


def _check_architecture(what: str, tensors: Mapping[str, Any], model: nn.Module) -> None:
    """Raise ValueError naming the first tensor that the model and the file do not share."""
    expected = model.state_dict()
    for key, tensor in expected.items():
        accepted = f"{type(model).__name__} needs {key!r} of shape {_shape(tensor)}"
        if key not in tensors:
            raise ValueError(
                f"{what} do not fit the model: {accepted}, but they hold no such tensor"
            )
        if _shape(tensors[key]) != _shape(tensor):
            raise ValueError(
                f"{what} do not fit the model: {accepted}, but they hold shape {_shape(tensors[key])}"
            )
    for key, tensor in tensors.items():
        if key not in expected:
            raise ValueError(
                f"{what} do not fit the model: they hold {key!r} of shape {_shape(tensor)}, "
                f"but {type(model).__name__} has no such tensor"
            )


def _shape(value: Any) -> tuple[int, ...] | None:
    return tuple(value.shape) if isinstance(value, Tensor) else None


def _on_cpu(tensor: Tensor) -> Tensor:
    # A copy, since safetensors refuses tensors that share memory, as tied weights do.
    return tensor.detach().to("cpu", copy=True).contiguous()


def _pack(value: Any, key: str, tensors: dict[str, Tensor]) -> Any:
    """Turn nested state into JSON, moving each tensor into `tensors`. Containers become [kind, content]."""
    if isinstance(value, Tensor):
        unique = f"{len(tensors)} {key}"  # keys may hold dots themselves, so the path alone need not be unique
        tensors[unique] = _on_cpu(value)
        return ["tensor", unique]
    if isinstance(value, Mapping) and all(type(k) in (int, str) for k in value):
        # Pairs, since JSON allows only strings as keys and optimizers count their parameters by integers.
        return ["dict", [(k, _pack(v, f"{key}.{k}", tensors)) for k, v in value.items()]]
    if isinstance(value, tuple | list):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return [kind, [_pack(item, f"{key}.{index}", tensors) for index, item in enumerate(value)]]
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise TypeError(
        "the state of a run may hold tensors, numbers, strings, None, lists, tuples, and dicts with keys of integers "
        f"or strings; {key!r} is a {type(value).__name__}"
    )


def _unpack(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Undo `_pack`."""
    if not isinstance(value, list):
        return value
    kind, content = value
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {k: _unpack(v, tensors) for k, v in content}
    items = [_unpack(item, tensors) for item in content]
    return tuple(items) if kind == "tuple" else items


def _digest(state: str, tensors: Mapping[str, Tensor]) -> str:
    """Checksum of all that a run's file holds."""
    digest = hashlib.sha256(state.encode())
    for key, tensor in sorted(tensors.items()):
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _read_run(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise FileNotFoundError(f"path must be a file that save_run wrote; {path} does not exist")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118  (not a dict)
        state = metadata["state"]
        if metadata["sha256"] != _digest(state, tensors):
            raise ValueError("its checksum does not match its content")
        unpacked: dict[str, Any] = _unpack(json.loads(state), tensors)
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise ValueError(
            f"path must be an undamaged file that save_run wrote; {path} is not: {error}"
        ) from error
    return unpacked


def _cuda_in_use() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_initialized()


def _unfinished(path: Path) -> Path:
    """Where a file is written at first; the same each time, so that a killed writer's is overwritten."""
    return path.with_name(f".{path.name}.tmp")


def _write(contents: Mapping[Path, bytes]) -> None:
    """Replace files of one folder: whoever reads one, even after a crash, finds the old content or all of the new.

    None is replaced before all are on the disk, so that a full disk cannot part weights from their card.
    """
    folder = next(iter(contents)).parent
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for path, content in contents.items():
            with open(_unfinished(path), "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        for path in contents:
            os.replace(_unfinished(path), path)
    except BaseException:
        for path in contents:
            _unfinished(path).unlink(missing_ok=True)
        raise
    # Windows cannot open a folder, and needs no flush of it.
    with contextlib.suppress(PermissionError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
