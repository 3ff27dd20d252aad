"""What each check accepts, and the sentence with which it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from bad_input import refused
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from companion import checks
from companion.elbo import elbo_loss
from companion.ladders import mlp_ladder


def test_good_input_passes() -> None:
    checks.at_least(1, num=1, steps=np.int64(3), size=torch.tensor(2))
    checks.sizes(1, hidden=(3,), levels=[2, 1])
    checks.one_of({"a": 1, "b": 2}, word="b")
    checks.in_range(0, 1, eta=0, share=torch.tensor(1.0))
    checks.positive(std=1e-9, step=np.float32(2))
    checks.not_negative(beta=0, free_nats=3)
    checks.shape(("batch", 2), x=torch.zeros(5, 2), y=torch.zeros(1, 2))
    checks.floating(x=torch.zeros(1, dtype=torch.bfloat16))
    checks.finite(x=torch.zeros(2, 2), none=torch.zeros(0))
    checks.within(0, 1, x=torch.tensor([0.0, 1.0]), none=torch.zeros(0), label=torch.tensor([1]))


def test_a_tensor_without_values_is_not_asked_for_them() -> None:
    with FakeTensorMode():
        checks.finite(x=torch.zeros(3))
        checks.within(0, 1, x=torch.full((3,), 7.0))
        with pytest.raises(ValueError, match="x must have shape"):
            checks.shape(("batch", 2), x=torch.zeros(3))
    checks.finite(x=torch.zeros(3, device="meta"))


class Reads(TorchDispatchMode):
    """Counts the values that are read of tensors, for each of which a GPU would have to wait."""

    num = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.num += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_on_a_gpu_a_loss_waits_for_nothing(
    monkeypatch: pytest.MonkeyPatch, unchecked: None
) -> None:
    monkeypatch.setattr(checks, "reads_at_once", lambda tensor: False)  # as of a tensor on a GPU
    for levels in (1, 2, 4):
        model = mlp_ladder([2] * levels, [4] * levels, image_shape=(1, 2, 2))
        with Reads() as reads:
            elbo_loss(model, torch.ones(3, 1, 2, 2))
        assert reads.num == 0


def test_numbers_keep_the_precision_they_were_written_in() -> None:
    assert checks.numbers(u=[0.1, 1]).tolist() == [0.1, 1.0]
    assert checks.numbers(u=0.1).item() == 0.1 and checks.numbers(t=[1, 2]).dtype == torch.int64
    assert checks.numbers(u=torch.tensor([0.1])).dtype == torch.float32


test_bad_input = refused("checks")
