"""Tests of companion.zoo.checkpoints: a run that is stopped goes on as if it had not been, or is refused."""

import errno
import hashlib
import io
import os
import signal
import stat
import time
from collections import OrderedDict

import pytest
import torch
from children import Child
from torch import nn

from companion.data import Batches
from companion.training import exponential_average, fit
from companion.zoo import weights
from companion.zoo.checkpoints import Journal, at_once, load_run, save_run
from companion.zoo.processes import Processes


def flip_a_bit(path, position):
    blob = bytearray(path.read_bytes())
    blob[position] ^= 1
    path.write_bytes(blob)


NUM_STEPS = 12  # three epochs of four batches, the last of them smaller


class Run:
    """A training in which everything random matters: dropout in the model, noise in the loss, shuffled batches."""

    def __init__(self, seed=0):
        torch.manual_seed(seed)
        layers = nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3)
        self.model = nn.Sequential(*layers)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01)
        self.ema = exponential_average(self.model, 0.9)
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer, max_lr=0.1, total_steps=NUM_STEPS + 1
        )
        x = torch.randn(30, 3, generator=torch.Generator().manual_seed(5))
        self.batches = Batches(x, batch_size=8, num_epochs=3, seed=1)
        names = ("model", "optimizer", "ema", "scheduler", "batches")
        self.parts = {name: getattr(self, name) for name in names}

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
    child = Child(KILLED, os.path.dirname(__file__), path, in_saving, threads)
    while after and str(after) not in child.said().split() and child.process.is_alive():
        time.sleep(0.001)
    if after:
        child.process.kill()
    code, _, err = child.wait()
    assert code == -signal.SIGKILL, err
    resumed = Run(seed=7)
    load_run(path, **resumed.parts)
    done = resumed.batches.step
    assert done == in_saving - 1 if after is None else after <= done <= NUM_STEPS
    losses, states, _ = resumed.finish()
    assert losses == uninterrupted[0][done:]
    assert_same(states, uninterrupted[1])
    save_run(path, **resumed.parts)
    assert list(tmp_path.iterdir()) == [path]  # what the killed run left behind was used up


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
        monkeypatch.setattr(weights, "open", lambda *args: Full(real(*args)), raising=False)
    else:
        monkeypatch.setattr(os, broken, no_space)
    with pytest.raises(OSError, match="No space left"):
        save_run(path, **run.parts)
    monkeypatch.undo()
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
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
    size = len(intact)
    for position in (0, 8, 9, 40, size // 4, size // 2, size - 3000, size - 1):
        flip_a_bit(path, position)
        with pytest.raises(ValueError, match="path must be an undamaged file that save_run wrote"):
            load_run(path, **resumed.parts)
        path.write_bytes(intact)
    for length in (0, 7, 100, size - 1):
        path.write_bytes(intact[:length])
        with pytest.raises(ValueError, match="undamaged file"):
            load_run(path, **resumed.parts)
    torch.save({"a": torch.ones(1)}, path)
    with pytest.raises(ValueError, match="undamaged file"):
        load_run(path, **resumed.parts)
    assert all(map(torch.equal, before, resumed.model.parameters()))
    assert resumed.batches.step == 0
    assert torch.equal(torch.get_rng_state(), random)


def test_a_missing_run_other_parts_and_another_model_are_refused(tmp_path):
    path, run = tmp_path / "run", Run()
    with pytest.raises(FileNotFoundError, match="path must be a file that .*run does not exist"):
        load_run(path, **run.parts)
    save_run(path, model=run.model, batches=run.batches)
    with pytest.raises(
        ValueError, match=r"the parts \['batches', 'model'\]; \['model'\] were given"
    ):
        load_run(path, model=run.model)
    next(iter(run.batches))
    other = nn.Sequential(nn.Linear(3, 9))
    needs = r"Sequential needs '0.weight' of shape \(9, 3\), but they hold shape \(8, 3\)"
    with pytest.raises(ValueError, match=needs):
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


class Sneaky:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return os.system, ("exit",)


@pytest.mark.parametrize("value", [nn.Linear(1, 1), lambda: 0, Sneaky()])
def test_state_that_cannot_be_read_without_running_code_is_refused_when_it_is_saved(
    tmp_path, value
):
    with pytest.raises(TypeError, match="the parts of a run must have states of tensors") as caught:
        save_run(tmp_path / "run", part=State({"deep": [value]}))
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_pickle_with_the_right_checksum_runs_no_code(tmp_path):
    buffer = io.BytesIO()
    torch.save(Sneaky(), buffer)
    blob = buffer.getvalue()
    (tmp_path / "run").write_bytes(hashlib.sha256(blob).digest() + blob)
    with pytest.raises(ValueError, match="path must be an undamaged file that save_run wrote"):
        load_run(tmp_path / "run", part=State())


def test_other_settings_are_refused_and_all_come_back(tmp_path):
    save_run(tmp_path / "run", {"lr": 0.1, "minutes": 3.0}, part=State(1))
    restored = State()
    with pytest.raises(ValueError, match="with the lr it was begun with, 0.1; it is 0.2 now"):
        load_run(tmp_path / "run", {"lr": 0.2}, part=restored)
    assert restored.state is None
    assert load_run(tmp_path / "run", {"lr": 0.1}, part=restored) == {"lr": 0.1, "minutes": 3.0}


def test_random_numbers_of_cuda_are_stored_and_restored_where_there_is_a_device(
    tmp_path, monkeypatch
):
    state, restored = torch.full((16,), 3, dtype=torch.uint8), []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda: state)
    monkeypatch.setattr(torch.cuda, "set_rng_state", restored.append)
    save_run(tmp_path / "run", part=State({}))
    load_run(tmp_path / "run", part=State())
    assert len(restored) == 1 and torch.equal(restored[0], state)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    load_run(tmp_path / "run", part=State())  # continued on a machine without one
    assert len(restored) == 1


def test_a_journal_computes_no_part_twice_and_draws_on_as_if_it_had(tmp_path):
    path, calls = tmp_path / "it.run", []

    def computation(journal, last=None):
        torch.manual_seed(3)
        x = torch.randn(2)

        def part(number):
            calls.append(number.item())
            if number == last:
                os.kill(os.getpid(), signal.SIGINT)
            return x + torch.randn(2)

        return torch.stack([journal(part, number) for number in torch.arange(5).split(1)])

    whole = computation(at_once)
    with pytest.raises(KeyboardInterrupt, match="stopped after part 3"):
        computation(Journal(path, {"a": 1}, Processes()), last=2)
    with pytest.raises(ValueError, match="it.run is unfinished; continue it with --resume"):
        Journal(path, {"a": 1}, Processes())
    with pytest.raises(ValueError, match="continued with the a it was begun with, 1; it is 2 now"):
        Journal(path, {"a": 2}, Processes(), resume=True)
    journal = Journal(path, {"a": 1}, Processes(), resume=True)
    torch.randn(7)  # what happens between does not matter
    assert torch.equal(computation(journal), whole)
    assert calls == [0, 1, 2, 3, 4, 0, 1, 2, 3, 4]
    journal.close()
    assert list(tmp_path.iterdir()) == []


def test_folders_are_made_as_deep_as_needed(tmp_path):
    save_run(tmp_path / "a" / "b" / "run", part=State(1))
    restored = State()
    load_run(tmp_path / "a" / "b" / "run", part=restored)
    assert restored.state == 1
