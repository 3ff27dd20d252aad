"""What each check accepts, and the sentence with which it refuses."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from companion import checks
from companion.elbo import elbo_loss
from companion.ladders import mlp_ladder


@pytest.mark.parametrize(
    ("check", "error", "sentence"),
    [
        (lambda: checks.at_least(1, num=0), ValueError, "num must be at least 1; 0 was given"),
        (lambda: checks.at_least(2, a=2, b=-1), ValueError, "b must be at least 2; -1 was given"),
        (
            lambda: checks.at_least(1, num=2.0),
            TypeError,
            "num must be an integer, at least 1; 2.0 was given",
        ),
        (
            lambda: checks.at_least(1, num=True),
            TypeError,
            "num must be an integer, at least 1; True was given",
        ),
        (
            lambda: checks.at_least(1, num="3"),
            TypeError,
            "num must be an integer, at least 1; '3' was given",
        ),
        (
            lambda: checks.sizes(2, hidden=[3]),
            ValueError,
            "hidden must hold at least 2 positive integers; [3] was given",
        ),
        (
            lambda: checks.sizes(1, image_shape=(3, 0)),
            ValueError,
            "image_shape must hold at least 1 positive integers; [3, 0] was given",
        ),
        (
            lambda: checks.in_range(0, 1, eta=1.5),
            ValueError,
            "eta must lie in [0, 1]; 1.5 was given",
        ),
        (
            lambda: checks.in_range(0, 1, eta=math.nan),
            ValueError,
            "eta must lie in [0, 1]; nan was given",
        ),
        (lambda: checks.in_range(0, 1, eta="0"), TypeError, "eta must be a number; '0' was given"),
        (
            lambda: checks.positive(std=0.0),
            ValueError,
            "std must be positive and finite; 0.0 was given",
        ),
        (
            lambda: checks.positive(std=math.inf),
            ValueError,
            "std must be positive and finite; inf was given",
        ),
        (
            lambda: checks.not_negative(beta=-1),
            ValueError,
            "beta must not be negative, and be finite; -1 was given",
        ),
        (
            lambda: checks.not_negative(beta=math.nan),
            ValueError,
            "beta must not be negative, and be finite; nan was given",
        ),
        (
            lambda: checks.shape(("batch", 3), x=torch.zeros(2, 4)),
            ValueError,
            "x must have shape (batch, 3); (2, 4) was given",
        ),
        (
            lambda: checks.shape(("batch", 3), x=torch.zeros(0, 3)),
            ValueError,
            "x must have shape (batch, 3); (0, 3) was given",
        ),
        (
            lambda: checks.shape(("num",), x=torch.zeros(())),
            ValueError,
            "x must have shape (num,); () was given",
        ),
        (lambda: checks.shape(("num",), x=[1]), TypeError, "x must be a tensor; [1] was given"),
        (
            lambda: checks.floating(x=torch.zeros(2, dtype=torch.uint8)),
            TypeError,
            "x must be floating-point; torch.uint8 was given",
        ),
        (
            lambda: checks.finite(x=torch.tensor([0.0, math.inf])),
            ValueError,
            "x must be finite; an infinite value or a NaN was given",
        ),
        (
            lambda: checks.within(0, 1, x=torch.tensor([0.5, 1.25])),
            ValueError,
            "x must lie in [0, 1]; 0.5 to 1.25 was given",
        ),
        (
            lambda: checks.within(0, 1, x=torch.tensor([math.nan])),
            ValueError,
            "x must lie in [0, 1]; nan to nan was given",
        ),
    ],
)
def test_bad_input_gets_one_sentence(
    check: Callable[[], None], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error) as caught:
        check()
    assert str(caught.value) == sentence


def test_good_input_passes() -> None:
    checks.at_least(1, num=1, steps=np.int64(3), size=torch.tensor(2))
    checks.sizes(1, hidden=(3,), levels=[2, 1])
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
