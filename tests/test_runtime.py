import subprocess
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from companion import runtime


@pytest.fixture
def cuda(monkeypatch):
    """Pretend that there is a CUDA device, as far as torch is asked about it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)


def no_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def test_device(monkeypatch, cuda):
    assert runtime.device() == torch.device("cuda")
    no_cuda(monkeypatch)
    assert runtime.device() == torch.device("cpu")


def test_scale_follows_the_device_unless_the_environment_says_otherwise(monkeypatch, cuda):
    monkeypatch.delenv("COMPANION_SCALE", raising=False)
    assert runtime.scale() == "full"
    monkeypatch.setenv("COMPANION_SCALE", "small")
    assert runtime.scale() == "small"
    no_cuda(monkeypatch)
    monkeypatch.setenv("COMPANION_SCALE", "full")
    assert runtime.scale() == "full"
    monkeypatch.setenv("COMPANION_SCALE", "")
    assert runtime.scale() == "small"


@pytest.mark.parametrize("given", ["Full", "medium", " small"])
def test_scale_refuses_other_values(monkeypatch, given):
    monkeypatch.setenv("COMPANION_SCALE", given)
    sentence = f"COMPANION_SCALE must be 'small' or 'full'; '{given}' was given"
    with pytest.raises(ValueError, match=sentence):
        runtime.scale()
    with pytest.raises(ValueError, match="COMPANION_SCALE"):
        runtime.pick(small=1, full=2)


def test_pick(monkeypatch):
    monkeypatch.setenv("COMPANION_SCALE", "small")
    assert runtime.pick(small="s", full="f") == "s"
    monkeypatch.setenv("COMPANION_SCALE", "full")
    assert runtime.pick(small="s", full="f") == "f"


@pytest.mark.parametrize("name", ["avx512_bf16", "amx_bf16", "bf16", "avx512_f"])
def test_bfloat16_needs_the_hardware(monkeypatch, name):
    no_cuda(monkeypatch)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {name: True}, raising=False)
    assert runtime.has_bfloat16() is (name != "avx512_f")


def test_an_older_torch_that_cannot_tell_counts_as_without_bfloat16(monkeypatch):
    no_cuda(monkeypatch)
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert runtime.has_bfloat16() is False


@pytest.mark.parametrize(
    ("scale", "hardware", "expected"),
    [
        ("small", True, torch.float32),
        ("full", True, torch.bfloat16),
        ("full", False, torch.float32),
    ],
)
def test_autocast(monkeypatch, scale, hardware, expected):
    no_cuda(monkeypatch)
    monkeypatch.setenv("COMPANION_SCALE", scale)
    monkeypatch.setattr(runtime, "has_bfloat16", lambda: hardware)
    layer = nn.Linear(2, 2)
    with runtime.autocast():
        assert layer(torch.ones(1, 2)).dtype == expected


def test_a_cuda_card_without_bfloat16_stays_in_float32(monkeypatch, cuda):
    monkeypatch.setenv("COMPANION_SCALE", "full")
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation
    )
    assert isinstance(runtime.autocast(), nullcontext)


def test_to_device_on_the_cpu_changes_nothing(monkeypatch):
    no_cuda(monkeypatch)
    monkeypatch.setenv("COMPANION_SCALE", "full")
    model = nn.Conv2d(4, 4, 3)
    assert runtime.to_device(model) is model
    assert model.weight.is_contiguous() and model.weight.device.type == "cpu"


def test_to_device_puts_channels_last_at_full_scale_on_cuda_only(monkeypatch, cuda):
    moved = []
    monkeypatch.setattr(
        nn.Conv2d, "to", lambda self, *args, **kwargs: moved.append((args, kwargs)) or self
    )
    monkeypatch.setenv("COMPANION_SCALE", "small")
    runtime.to_device(nn.Conv2d(4, 4, 3))
    assert moved == [((torch.device("cuda"),), {})]
    monkeypatch.setenv("COMPANION_SCALE", "full")
    runtime.to_device(nn.Conv2d(4, 4, 3))
    last = {"memory_format": torch.channels_last}
    assert moved[1:] == [((), last), ((torch.device("cuda"),), {})]


def test_the_commit_is_that_of_the_checkout(monkeypatch, tmp_path):
    def git(*arguments):
        identity = [
            "-c",
            "user.name=n",
            "-c",
            "user.email=e@example.org",
            "-c",
            "commit.gpgsign=false",
        ]
        done = subprocess.run(
            ["git", *identity, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    module = tmp_path / "companion" / "runtime.py"
    module.parent.mkdir()
    module.write_text("")
    monkeypatch.setattr(runtime, "__file__", str(module))
    assert runtime.commit() == "unknown"
    git("init")
    assert runtime.commit() == "unknown"  # a copy that happens to lie in somebody's checkout
    git("add", "companion")
    git("commit", "-m", "first")
    assert runtime.commit() == git("rev-parse", "HEAD")
    (tmp_path / "notes").write_text("not tracked")
    assert runtime.commit() == git("rev-parse", "HEAD")
    module.write_text("changed")
    assert runtime.commit() == git("rev-parse", "HEAD") + "-dirty"
