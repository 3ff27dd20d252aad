"""Residual blocks."""

import torch
from torch import nn

from companion.networks.residual import Residual, bottleneck, start_at_zero


def test_blocks_do_what_they_say() -> None:
    x = torch.randn(2, 6, 5, 5)
    branch = bottleneck(6, 3, 6)
    torch.testing.assert_close(Residual(branch, 0.5)(x), x + branch(x) / 2)
    sizes = [layer.kernel_size for layer in branch if isinstance(layer, nn.Conv2d)]
    assert sizes == [(1, 1), (3, 3), (3, 3), (1, 1)]
    assert bottleneck(6, 3, 4)(x).shape == (2, 4, 5, 5)
    assert torch.equal(Residual(start_at_zero(branch))(x), x)
