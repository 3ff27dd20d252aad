"""Tests of companion.zoo.weights: files with cards, complete or refused."""

import errno
import json
import os
from dataclasses import asdict, fields, replace

import pytest
import safetensors.torch
import torch
from tiny_recipes import card
from torch import nn

from companion.zoo import weights
from companion.zoo.weights import (
    Card,
    RecordCard,
    card_names,
    load_record,
    load_weights,
    read_card,
    save_tensors,
    save_weights,
    writable_folder,
)

CARD = card("tiny")


class Scheduled(nn.Module):
    """A linear layer, and a buffer that float16 would spoil."""

    def __init__(self, num_in=3, num_out=2):
        super().__init__()
        self.linear = nn.Linear(num_in, num_out)
        self.register_buffer("log_alpha_bar", -torch.linspace(0, 1, 5).double() / 3)
        self.register_buffer("count", torch.tensor(7))


def flip_a_bit(path, position):
    blob = bytearray(path.read_bytes())
    blob[position] ^= 1
    path.write_bytes(blob)


def test_weights_come_back_rounded_to_float16_and_buffers_exactly(tmp_path):
    model, other = Scheduled(), Scheduled()
    written = save_weights(model, CARD, tmp_path)
    assert load_weights("tiny", other, tmp_path) == written
    assert torch.equal(other.linear.weight, model.linear.weight.half().float())
    assert other.linear.weight.dtype == torch.float32
    assert torch.equal(other.log_alpha_bar, model.log_alpha_bar)
    assert other.count.item() == 7
    assert (model.linear.weight - other.linear.weight).abs().max() < 5e-4
    assert written == replace(CARD, num_parameters=8, sha256=written.sha256)
    # The file is an ordinary one, checked with the system's own tools.
    stored = safetensors.torch.load_file(tmp_path / "tiny.safetensors")
    assert stored["linear.weight"].dtype == torch.float16
    assert stored["log_alpha_bar"].dtype == torch.float64
    assert json.loads((tmp_path / "tiny.json").read_text()) == asdict(written)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.json", "tiny.safetensors"]


def test_weights_keep_the_dtype_of_the_model_and_the_bytes_are_the_same_each_time(tmp_path):
    model = Scheduled()
    first = save_weights(model, CARD, tmp_path)
    assert save_weights(model, CARD, tmp_path) == first
    double = Scheduled().double()
    load_weights("tiny", double, tmp_path)
    assert torch.equal(double.linear.weight, model.linear.weight.half().double())


def test_tied_weights_are_stored(tmp_path):
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(2, 2, bias=False)
            self.second = nn.Linear(2, 2, bias=False)
            self.second.weight = self.first.weight

    model, other = Tied(), Tied()
    assert save_weights(model, CARD, tmp_path).num_parameters == 4
    load_weights("tiny", other, tmp_path)
    assert torch.equal(other.second.weight, model.first.weight.half().float())


@pytest.mark.parametrize("name", ["../tiny", "a/tiny", ""])
def test_save_refuses_a_name_that_is_no_plain_file_name(tmp_path, name):
    with pytest.raises(ValueError, match=f"name must be a plain file name; '{name}' was given"):
        save_weights(Scheduled(), card(name), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [7e4, float("nan"), float("inf")])
def test_save_refuses_what_float16_cannot_hold(tmp_path, value):
    model = Scheduled()
    with torch.no_grad():
        model.linear.bias[1] = value
    with pytest.raises(ValueError, match=r"in float16 \(at most 65504\).*'linear.bias' holds"):
        save_weights(model, CARD, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_name_is_answered_with_the_known_ones(tmp_path):
    for name in ("tiny", "big"):
        save_weights(Scheduled(), card(name), tmp_path)
    assert card_names(folder=tmp_path) == ["big", "tiny"]
    with pytest.raises(ValueError, match=r"one of the weights \['big', 'tiny'\]; 'tyni' was"):
        load_weights("tyni", Scheduled(), tmp_path)
    for folder in (tmp_path / "nowhere", tmp_path / "big.json"):
        with pytest.raises(ValueError, match="folder must be a folder of weights; .* is none"):
            load_weights("tiny", Scheduled(), folder)


def test_every_single_altered_byte_is_refused_and_the_model_unchanged(tmp_path):
    save_weights(Scheduled(), CARD, tmp_path)
    path, model = tmp_path / "tiny.safetensors", Scheduled()
    before = model.linear.weight.clone()
    for position in range(0, path.stat().st_size, 7):
        flip_a_bit(path, position)
        with pytest.raises(ValueError, match="'tiny' must have the checksum of their card"):
            load_weights("tiny", model, tmp_path)
        flip_a_bit(path, position)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="checksum"):
        read_card("tiny", tmp_path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="have a card, but their file .* is missing"):
        load_weights("tiny", model, tmp_path)
    assert torch.equal(model.linear.weight, before)


CHANGES = [{"sha256": None}, {"sha256": 3}, {"seed": "0"}, {"metric_value": [1]}, {"name": "a"}]


@pytest.mark.parametrize("change", ["{", "[1, 2]", '{"name": "tiny"}', '{"a": 1}', *CHANGES])
def test_a_damaged_card_is_refused(tmp_path, change):
    written = save_weights(Scheduled(), CARD, tmp_path)
    text = change if isinstance(change, str) else json.dumps(asdict(written) | change)
    (tmp_path / "tiny.json").write_text(text)
    with pytest.raises(ValueError, match="the card of .* 'tiny' must be JSON with the fields of"):
        load_weights("tiny", Scheduled(), tmp_path)
    assert card_names(folder=tmp_path) == ["tiny"]


def forged(tmp_path, blob):
    """Weights with any content, and a card that has the right checksum of it."""
    written = save_weights(Scheduled(), CARD, tmp_path)
    (tmp_path / "tiny.safetensors").write_bytes(blob)
    sha256 = weights.hashlib.sha256(blob).hexdigest()
    (tmp_path / "tiny.json").write_text(json.dumps(asdict(written) | {"sha256": sha256}))


def test_what_is_no_safetensors_file_is_refused_in_one_sentence(tmp_path):
    torch.save({"a": torch.ones(1)}, tmp_path / "pickle")
    forged(tmp_path, (tmp_path / "pickle").read_bytes())
    with pytest.raises(ValueError, match=r"'tiny' must be a safetensors file; .* is none: .*"):
        load_weights("tiny", Scheduled(), tmp_path)


@pytest.mark.parametrize("bias", [torch.tensor([1.0, float("nan")]), torch.tensor([1, 2])])
def test_parameters_that_are_no_finite_numbers_are_refused(tmp_path, bias):
    model = Scheduled()
    forged(tmp_path, safetensors.torch.save(model.state_dict() | {"linear.bias": bias}))
    with pytest.raises(ValueError, match="must hold finite floating-point .*; 'linear.bias' holds"):
        load_weights("tiny", model, tmp_path)
    assert model.linear.bias.isfinite().all()


class Observed(nn.Module):
    """A model with a part by a given name."""

    def __init__(self, name):
        super().__init__()
        self.add_module(name, nn.Linear(2, 2))


@pytest.mark.parametrize("name", ["observation", "observation_model"])
def test_the_old_name_of_the_observation_model_is_still_read(tmp_path, name):
    old, new = Observed("observation"), Observed(name)
    save_weights(old, CARD, tmp_path)
    load_weights("tiny", new, tmp_path)
    for one, other in zip(old.parameters(), new.parameters()):
        assert torch.equal(one.half().float(), other)


def test_records_have_cards_of_their_own(tmp_path):
    shared = asdict(CARD)
    del shared["data"], shared["num_parameters"]
    record = RecordCard(**shared | {"name": "tiny-values", "model": "tiny"})
    save_weights(Scheduled(), CARD, tmp_path)
    written = save_tensors({"values": torch.arange(3)}, record, tmp_path)
    tensors, found = load_record("tiny-values", tmp_path)
    assert tensors["values"].tolist() == [0, 1, 2] and found == written
    assert card_names(folder=tmp_path) == ["tiny"]
    assert card_names(RecordCard, tmp_path) == ["tiny-values"]
    with pytest.raises(ValueError, match=r"one of the weights \['tiny'\]; 'tiny-values' was given"):
        load_weights("tiny-values", Scheduled(), tmp_path)
    with pytest.raises(ValueError, match=r"one of the record \['tiny-values'\]; 'tiny' was given"):
        load_record("tiny", tmp_path)


def test_a_folder_that_takes_no_file_is_refused(tmp_path):
    assert writable_folder(tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="^out must be a folder that can be written; .*file is none"):
        writable_folder(tmp_path / "file")


def test_another_architecture_is_refused_naming_the_first_tensor_that_differs(tmp_path):
    save_weights(Scheduled(), CARD, tmp_path)
    wider = Scheduled(num_in=4)
    before = {key: tensor.clone() for key, tensor in wider.state_dict().items()}
    needs = r"Scheduled needs 'linear.weight' of shape \(2, 4\), but they hold shape \(2, 3\)"
    with pytest.raises(ValueError, match=f"the weights 'tiny' do not fit the model: {needs}"):
        load_weights("tiny", wider, tmp_path)
    assert all(torch.equal(tensor, before[key]) for key, tensor in wider.state_dict().items())
    load_weights("tiny", small := Scheduled(), tmp_path)
    extended = Scheduled()
    extended.extra = nn.Linear(2, 2)
    with pytest.raises(
        ValueError, match=r"'extra.weight' of shape \(2, 2\), but they hold no such"
    ):
        load_weights("tiny", extended, tmp_path)
    extra = extended.extra.weight.clone()
    load_weights("tiny", extended, tmp_path, partial=True)
    assert torch.equal(extended.extra.weight, extra)
    assert torch.equal(extended.linear.weight, small.linear.weight)
    with pytest.raises(ValueError, match=r"but they hold shape \(2, 3\)"):
        load_weights("tiny", wider, tmp_path, partial=True)
    reduced = Scheduled()
    del reduced.count
    with pytest.raises(ValueError, match=r"Scheduled has no 'count', but they hold shape \(\)"):
        load_weights("tiny", reduced, tmp_path)


def test_shipped_files_are_those_of_their_cards():
    on_disk = {path.stem for path in weights.WEIGHTS.glob("*.safetensors")}
    assert {*card_names(), *card_names(RecordCard)} == on_disk
    cards = [read_card(name) for name in card_names()]
    records = [load_record(name)[1] for name in card_names(RecordCard)]
    assert all(each.command.startswith("python -m companion train ") for each in cards)
    assert {each.command.split()[3] for each in records} == {"record", "evaluate"}
    for each in cards + records:
        assert each.minutes > 0 and each.name.startswith(getattr(each, "model", each.name))
        stored = json.loads((weights.WEIGHTS / f"{each.name}.json").read_text())
        assert {field.name for field in fields(each)} == set(stored)
    assert all(isinstance(each, Card) for each in cards)


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_full_disk_does_not_part_weights_from_their_card(tmp_path, monkeypatch, failing):
    model = Scheduled()
    before = save_weights(model, CARD, tmp_path)
    calls, fsync = [], os.fsync

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == failing:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_weights(Scheduled(), replace(CARD, seed=4), tmp_path)
    monkeypatch.undo()
    found = load_weights("tiny", Scheduled(), tmp_path)  # refused if the file were not the card's
    # The third flush is that of the folder, after both were replaced.
    assert found == before or failing == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.json", "tiny.safetensors"]
