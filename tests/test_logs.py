"""Tests of companion.zoo.logs: lines that a resumed training does not write twice, and TensorBoard's file."""

import json
import sys
from types import ModuleType

from companion.zoo import logs
from companion.zoo.logs import MetricsLog


def test_a_line_for_each_call_and_the_speed_between_them(tmp_path, monkeypatch):
    now = iter([100.0, 102.0, 110.0])
    monkeypatch.setattr(logs.time, "monotonic", lambda: next(now))
    log = MetricsLog(tmp_path / "new" / "a.jsonl", step=5, images=50)
    log.write(10, 100, loss=3.5)
    log.write(20, 200, loss=1e-9)
    lines = [json.loads(line) for line in log.path.read_text().splitlines()]
    assert lines == [
        {"step": 10, "images": 100, "loss": 3.5, "images_per_second": 25.0},
        {"step": 20, "images": 200, "loss": 1e-9, "images_per_second": 12.5},
    ]


def test_lines_after_the_step_and_half_lines_are_removed(tmp_path):
    path = tmp_path / "a.jsonl"
    log = MetricsLog(path)
    assert not path.exists()
    for step in (1, 2, 3):
        log.write(step, step, loss=0.0)
    with open(path, "a") as file:
        file.write('{"step": 2, "lo')
    MetricsLog(path, step=2).write(9, 9, loss=0.0)
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 9]
    MetricsLog(path)
    assert path.read_text() == ""


def test_tensorboard_gets_the_same_numbers_where_it_is_installed(tmp_path, monkeypatch):
    written, made = [], []

    class SummaryWriter:
        def __init__(self, folder, purge_step):
            made.append((folder, purge_step))

        def add_scalar(self, name, value, step):
            written.append((name, value, step))

        def flush(self):
            pass

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    log = MetricsLog(tmp_path / "a.jsonl", step=4)
    assert not made
    log.write(5, 64, loss=2.0)
    assert made == [(str(tmp_path / "a"), 5)]
    assert ("loss", 2.0, 5) in written and ("images", 64, 5) in written
