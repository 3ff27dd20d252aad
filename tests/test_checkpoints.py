import errno
import json
import os
import signal
import stat
import subprocess
import sys
from collections import OrderedDict
from dataclasses import asdict, fields, replace

import pytest
import safetensors.torch
import torch
from torch import nn

from companion.data import Batches
from companion.training import exponential_average, fit
from companion.zoo import checkpoints
from companion.zoo.checkpoints import (
    Card,
    check_weights,
    load_run,
    load_weights,
    save_run,
    save_weights,
    weight_names,
)

CARD = Card(
    name="tiny",
    data="mnist",
    scale="small",
    command="python -m companion train tiny",
    commit="0123abc",
    seed=3,
    device="CPU",
    torch="2.9",
    minutes=0.5,
    metric="squared error",
    metric_value=1.25,
    metric_se=0.01,
)


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


# --- weights ---------------------------------------------------------------------------------------------------------


def test_weights_come_back_rounded_to_float16_and_buffers_exactly(tmp_path):
    torch.manual_seed(0)
    model, other = Scheduled(), Scheduled()
    card = save_weights(model, "tiny", CARD, tmp_path)
    assert load_weights("tiny", other, tmp_path) == card
    assert torch.equal(other.linear.weight, model.linear.weight.half().float())
    assert other.linear.weight.dtype == torch.float32
    assert torch.equal(other.log_alpha_bar, model.log_alpha_bar)
    assert other.count.item() == 7
    assert (model.linear.weight - other.linear.weight).abs().max() < 5e-4
    assert card == replace(CARD, num_parameters=8, sha256=card.sha256)
    # The file is an ordinary one, checked with the system's own tools.
    stored = safetensors.torch.load_file(tmp_path / "tiny.safetensors")
    assert (
        stored["linear.weight"].dtype == torch.float16
        and stored["log_alpha_bar"].dtype == torch.float64
    )
    assert json.loads((tmp_path / "tiny.json").read_text()) == asdict(card)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.json", "tiny.safetensors"]


def test_weights_keep_the_dtype_of_the_model_and_the_bytes_are_the_same_each_time(tmp_path):
    torch.manual_seed(0)
    model = Scheduled()
    first = save_weights(model, "tiny", CARD, tmp_path)
    assert save_weights(model, "tiny", CARD, tmp_path) == first
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
    assert save_weights(model, "tiny", CARD, tmp_path).num_parameters == 4
    load_weights("tiny", other, tmp_path)
    assert torch.equal(other.second.weight, model.first.weight.half().float())


@pytest.mark.parametrize("name", ["other", "../tiny", "a/tiny", ""])
def test_save_refuses_a_name_that_is_not_the_card_s(tmp_path, name):
    card = CARD if name == "other" else replace(CARD, name=name)
    if name == "":
        card = CARD
    with pytest.raises(ValueError, match="name must be a plain file name and that of the card"):
        save_weights(Scheduled(), name, card, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [7e4, float("nan"), float("inf")])
def test_save_refuses_what_float16_cannot_hold(tmp_path, value):
    model = Scheduled()
    with torch.no_grad():
        model.linear.bias[1] = value
    with pytest.raises(ValueError, match=r"fit into float16.*'linear.bias' does not"):
        save_weights(model, "tiny", CARD, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_name_is_answered_with_the_known_ones(tmp_path):
    for name in ("tiny", "big"):
        save_weights(Scheduled(), name, replace(CARD, name=name), tmp_path)
    assert weight_names(tmp_path) == ["big", "tiny"]
    with pytest.raises(
        ValueError, match=r"name must be one of the weights \['big', 'tiny'\]; 'tyni' was given"
    ):
        load_weights("tyni", Scheduled(), tmp_path)
    assert weight_names(tmp_path / "nowhere") == []


def test_every_single_altered_byte_is_refused_and_the_model_unchanged(tmp_path):
    save_weights(Scheduled(), "tiny", CARD, tmp_path)
    path, model = tmp_path / "tiny.safetensors", Scheduled()
    before = model.linear.weight.clone()
    for position in range(0, path.stat().st_size, 7):
        flip_a_bit(path, position)
        with pytest.raises(
            ValueError, match="the weights 'tiny' must have the checksum of their card"
        ):
            load_weights("tiny", model, tmp_path)
        flip_a_bit(path, position)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="checksum"):
        check_weights("tiny", tmp_path)
    path.unlink()
    with pytest.raises(
        FileNotFoundError, match=r"'tiny' have a card, but their file .* is missing"
    ):
        load_weights("tiny", model, tmp_path)
    assert torch.equal(model.linear.weight, before)


@pytest.mark.parametrize("text", ["{", "[1, 2]", '{"name": "tiny"}', '{"nonsense": 1}'])
def test_a_damaged_card_is_refused(tmp_path, text):
    save_weights(Scheduled(), "tiny", CARD, tmp_path)
    (tmp_path / "tiny.json").write_text(text)
    with pytest.raises(
        ValueError, match="the card of the weights 'tiny' must be JSON with the fields of Card"
    ):
        load_weights("tiny", Scheduled(), tmp_path)


def test_another_architecture_is_refused_naming_the_first_tensor_that_differs(tmp_path):
    save_weights(Scheduled(), "tiny", CARD, tmp_path)
    wider = Scheduled(num_in=4)
    before = {key: tensor.clone() for key, tensor in wider.state_dict().items()}
    with pytest.raises(
        ValueError,
        match=r"the weights 'tiny' do not fit the model: Scheduled needs 'linear.weight' of shape \(2, 4\), "
        r"but they hold shape \(2, 3\)",
    ):
        load_weights("tiny", wider, tmp_path)
    assert all(torch.equal(tensor, before[key]) for key, tensor in wider.state_dict().items())
    load_weights("tiny", small := Scheduled(), tmp_path)
    extended = Scheduled()
    extended.extra = nn.Linear(2, 2)
    with pytest.raises(
        ValueError, match=r"needs 'extra.weight' of shape \(2, 2\), but they hold no such tensor"
    ):
        load_weights("tiny", extended, tmp_path)
    extra = extended.extra.weight.clone()
    load_weights("tiny", extended, tmp_path, partial=True)
    assert torch.equal(extended.extra.weight, extra) and torch.equal(
        extended.linear.weight, small.linear.weight
    )
    with pytest.raises(ValueError, match=r"but they hold shape \(2, 3\)"):
        load_weights("tiny", wider, tmp_path, partial=True)
    reduced = Scheduled()
    del reduced.count
    with pytest.raises(
        ValueError, match=r"they hold 'count' of shape \(\), but Scheduled has no such tensor"
    ):
        load_weights("tiny", reduced, tmp_path)


def test_shipped_weights_are_those_of_their_cards():
    on_disk = {path.stem for path in checkpoints.WEIGHTS.glob("*.safetensors")}
    assert set(weight_names()) == on_disk
    for name in weight_names():
        card = check_weights(name)
        assert card.name == name and card.minutes > 0
        assert card.command.startswith(
            tuple(
                f"python -m companion {what} "
                for what in ("train", "record", "steps", "guide", "evaluate")
            )
        )
        assert {field.name for field in fields(card)} == set(
            json.loads((checkpoints.WEIGHTS / f"{name}.json").read_text())
        )


@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_full_disk_does_not_part_weights_from_their_card(tmp_path, monkeypatch, failing):
    model = Scheduled()
    before = save_weights(model, "tiny", CARD, tmp_path)
    calls, fsync = [], os.fsync

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == failing:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        save_weights(Scheduled(), "tiny", replace(CARD, seed=4), tmp_path)
    monkeypatch.undo()
    card = load_weights("tiny", Scheduled(), tmp_path)  # refused if the file were not the card's
    assert (
        card == before or failing == 3
    )  # the third flush is that of the folder, after both were replaced
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tiny.json", "tiny.safetensors"]


# --- runs ------------------------------------------------------------------------------------------------------------

NUM_STEPS = 12  # three epochs of four batches, the last of them smaller


class Run:
    """A training in which everything random matters: dropout in the model, noise in the loss, shuffled batches."""

    def __init__(self, seed=0):
        torch.manual_seed(seed)
        self.model = nn.Sequential(
            nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3)
        )
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01)
        self.ema = exponential_average(self.model, 0.9)
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, max_lr=0.1, total_steps=NUM_STEPS + 1
        )
        x = torch.randn(30, 3, generator=torch.Generator().manual_seed(5))
        self.batches = Batches(x, batch_size=8, num_epochs=3, seed=1)
        self.parts = {
            "model": self.model,
            "optimizer": self.optimizer,
            "ema": self.ema,
            "scheduler": self.scheduler,
            "batches": self.batches,
        }

    @staticmethod
    def loss(model, x):
        return (model(x + 0.1 * torch.randn_like(x)) - x).square().sum(1)

    def steps(self):
        for step in fit(self.model, self.loss, self.batches, self.optimizer, ema=self.ema):
            self.scheduler.step()
            yield step

    def finish(self):
        losses = [step.loss for step in self.steps()]
        return losses, {name: part.state_dict() for name, part in self.parts.items()}, torch.rand(3)


def assert_same(left, right):
    """Equal bit for bit, through every container."""
    assert isinstance(left, dict) == isinstance(right, dict)
    if isinstance(left, dict):
        assert list(left) == list(right)
        for key in left:
            assert_same(left[key], right[key])
    elif isinstance(left, (list, tuple)):
        assert type(left) is type(right) and len(left) == len(right)
        for one, other in zip(left, right, strict=True):
            assert_same(one, other)
    elif isinstance(left, torch.Tensor):
        assert left.dtype == right.dtype and torch.equal(left, right)
    else:
        assert type(left) is type(right) and left == right


@pytest.fixture(scope="module")
def uninterrupted():
    return Run().finish()


def test_the_run_of_these_tests_depends_on_its_random_numbers(uninterrupted):
    run = Run()
    torch.manual_seed(1)
    assert run.finish()[0] != uninterrupted[0]


@pytest.mark.parametrize("stop", range(NUM_STEPS + 1))
def test_a_run_stopped_at_any_step_and_resumed_is_the_uninterrupted_one(
    tmp_path, uninterrupted, stop
):
    run = Run()
    save_run(tmp_path / "run", **run.parts)
    for step in run.steps() if stop else ():
        save_run(tmp_path / "run", **run.parts)
        if step.number == stop:
            break
    torch.manual_seed(99)
    resumed = Run(seed=7)  # other weights, other random numbers: all must come from the file
    load_run(tmp_path / "run", **resumed.parts)
    assert resumed.batches.step == stop
    losses, states, after = resumed.finish()
    assert losses == uninterrupted[0][stop:]
    assert_same(states, uninterrupted[1])
    assert torch.equal(after, uninterrupted[2])


def test_saving_does_not_disturb_the_run(tmp_path, uninterrupted):
    run = Run()
    losses = []
    for step in run.steps():
        losses.append(step.loss)
        save_run(tmp_path / "run", **run.parts)
    assert losses == uninterrupted[0]
    assert_same(run.model.state_dict(), uninterrupted[1]["model"])


KILLED = """
import os, signal, sys, time
import torch
sys.path[:0] = [sys.argv[1]]
import companion.zoo.checkpoints
from test_checkpoints import Run

torch.set_num_threads(int(sys.argv[4]))  # on which sums depend, in their last bits
run = Run()
for step in run.steps():
    if step.number == int(sys.argv[3]):  # die in the middle of this step's saving, when the new file is complete
        os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
    companion.zoo.checkpoints.save_run(sys.argv[2], **run.parts)
    print(step.number, flush=True)
    time.sleep(0.005)
"""


@pytest.mark.parametrize(("in_saving", "after"), [(6, None), (0, 7)])
def test_a_run_killed_by_the_system_resumes(tmp_path, uninterrupted, in_saving, after):
    path = tmp_path / "run"
    threads = str(torch.get_num_threads())
    command = [
        sys.executable,
        "-c",
        KILLED,
        os.path.dirname(__file__),
        str(path),
        str(in_saving),
        threads,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        if after is None:
            process.wait()
        else:
            while int(process.stdout.readline()) < after:
                pass
            process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    resumed = Run(seed=7)
    load_run(path, **resumed.parts)
    done = resumed.batches.step
    assert done == in_saving - 1 if after is None else after <= done <= NUM_STEPS
    losses, states, _ = resumed.finish()
    assert losses == uninterrupted[0][done:]
    assert_same(states, uninterrupted[1])
    save_run(path, **resumed.parts)
    assert [file.name for file in tmp_path.iterdir()] == [
        "run"
    ]  # what the killed run left behind was used up


@pytest.mark.parametrize("broken", ["write", "fsync", "replace"])
def test_a_failed_write_leaves_the_previous_file_and_no_other(
    tmp_path, monkeypatch, uninterrupted, broken
):
    path, run = tmp_path / "run", Run()
    steps = run.steps()
    next(steps)
    save_run(path, **run.parts)
    before = path.read_bytes()
    next(steps)

    def no_space(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    if broken == "write":

        class Full:
            def __init__(self, file):
                self.file = file

            def __enter__(self):
                return self

            def __exit__(self, *_):
                self.file.close()

            def write(self, content):
                self.file.write(content[: len(content) // 2])
                no_space()

        real = open
        monkeypatch.setattr(checkpoints, "open", lambda *args: Full(real(*args)), raising=False)
    else:
        monkeypatch.setattr(os, broken, no_space)
    with pytest.raises(OSError, match="No space left"):
        save_run(path, **run.parts)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    resumed = Run(seed=7)
    load_run(path, **resumed.parts)
    assert resumed.finish()[0] == uninterrupted[0][1:]


def test_the_file_is_flushed_before_it_is_renamed_and_the_folder_after(tmp_path, monkeypatch):
    calls = []
    fsync, rename = os.fsync, os.replace

    def spy(descriptor):
        calls.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", spy)
    monkeypatch.setattr(os, "replace", lambda *args: calls.append("rename") or rename(*args))
    save_run(tmp_path / "run", model=nn.Linear(1, 1))
    assert calls == ["file", "rename", "folder"]


def test_a_damaged_run_is_refused_and_nothing_restored(tmp_path):
    path, run = tmp_path / "run", Run()
    next(run.steps())
    save_run(path, **run.parts)
    intact = path.read_bytes()
    resumed = Run(seed=7)
    before = [p.clone() for p in resumed.model.parameters()]
    random = torch.get_rng_state()
    for position in [
        0,
        8,
        9,
        40,
        len(intact) // 4,
        len(intact) // 2,
        len(intact) - 3000,
        len(intact) - 1,
    ]:
        flip_a_bit(path, position)
        with pytest.raises(ValueError, match="path must be an undamaged file that save_run wrote"):
            load_run(path, **resumed.parts)
        path.write_bytes(intact)
    for length in (0, 7, 100, len(intact) - 1):
        path.write_bytes(intact[:length])
        with pytest.raises(ValueError, match="undamaged file"):
            load_run(path, **resumed.parts)
    safetensors.torch.save_file({"a": torch.ones(1)}, path)
    with pytest.raises(ValueError, match="undamaged file"):
        load_run(path, **resumed.parts)
    assert all(map(torch.equal, before, resumed.model.parameters()))
    assert resumed.batches.step == 0
    assert torch.equal(torch.get_rng_state(), random)


def test_a_missing_run_other_parts_and_another_model_are_refused(tmp_path):
    path, run = tmp_path / "run", Run()
    with pytest.raises(
        FileNotFoundError, match=r"path must be a file that save_run wrote; .*run does not exist"
    ):
        load_run(path, **run.parts)
    save_run(path, model=run.model, batches=run.batches)
    with pytest.raises(
        ValueError, match=r"holds the parts \['batches', 'model'\]; \['model'\] were given"
    ):
        load_run(path, model=run.model)
    next(iter(run.batches))
    other = nn.Sequential(nn.Linear(3, 9))
    with pytest.raises(
        ValueError,
        match=r"Sequential needs '0.weight' of shape \(9, 3\), but they hold shape \(8, 3\)",
    ):
        load_run(path, batches=run.batches, model=other)
    assert run.batches.step == 1  # untouched, though it came before the model


class State:
    def __init__(self, state=None):
        self.state = state

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        self.state = state


STRANGE = {
    "dotted.key": torch.ones(2),
    "dotted": {"key": torch.zeros(2)},
    7: (1, 2.5, None, True, "text", [], (), {}),
    "small": 5e-324,
    "third": 1 / 3,
    "infinite": [float("inf"), -float("inf")],
    "empty": torch.empty(0, 3),
    "scalar": torch.tensor(True),
    "half": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
    "transposed": torch.arange(6).view(2, 3).T,
    "large": 2**70,
    "list": ["tensor", "dict"],
}


def test_every_kind_of_state_comes_back_the_same(tmp_path):
    shared = torch.arange(4.0)
    state = {**STRANGE, "shared": [shared, shared, shared[1:]]}
    save_run(tmp_path / "run", part=State(state))
    restored = State()
    load_run(tmp_path / "run", part=restored)
    assert_same(restored.state, state)
    save_run(tmp_path / "run", part=State(OrderedDict(b=1, a=2)))
    load_run(tmp_path / "run", part=restored)
    assert restored.state == {"b": 1, "a": 2}


@pytest.mark.parametrize(
    "value", [{1, 2}, nn.Linear(1, 1), lambda: 0, {(1, 2): 3}, {None: 1}, torch.float32]
)
def test_state_that_json_and_tensors_cannot_hold_is_refused_by_its_place(tmp_path, value):
    with pytest.raises(
        TypeError, match=r"the state of a run may hold tensors.*'state.parts.part.deep.0' is a "
    ):
        save_run(tmp_path / "run", part=State({"deep": [value]}))
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_pickled(tmp_path):
    save_run(tmp_path / "run", **Run().parts)
    blob = (tmp_path / "run").read_bytes()
    length = int.from_bytes(blob[:8], "little")
    header = json.loads(
        blob[8 : 8 + length]
    )  # the format's own definition: a length, a JSON header, the numbers
    ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"]
    assert max(ends) == len(blob) - 8 - length
    json.loads(header["__metadata__"]["state"])


def test_random_numbers_of_cuda_are_stored_and_restored_where_there_is_a_device(
    tmp_path, monkeypatch
):
    states = [torch.full((16,), 3, dtype=torch.uint8), torch.full((16,), 4, dtype=torch.uint8)]
    restored = {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: states)
    monkeypatch.setattr(
        torch.cuda, "set_rng_state", lambda state, index: restored.__setitem__(index, state)
    )
    save_run(tmp_path / "run", part=State({}))
    monkeypatch.setattr(
        torch.cuda, "device_count", lambda: 1
    )  # continued on a machine with fewer devices
    load_run(tmp_path / "run", part=State())
    assert list(restored) == [0] and torch.equal(restored[0], states[0])


def test_folders_are_made_as_deep_as_needed(tmp_path):
    save_run(tmp_path / "a" / "b" / "run", part=State(1))
    restored = State()
    load_run(tmp_path / "a" / "b" / "run", part=restored)
    assert restored.state == 1
