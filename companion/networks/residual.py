"""Residual blocks: each adds a little to its input, so that deep networks start near the identity."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from companion import checks


class Residual(nn.Module):
    """x + scale * branch(x).

    Args:
        branch: a network whose output has the shape of its input.
        scale: of the branch; with 1 / sqrt(n) in each of n blocks in a row, the variance
            of the sum does not grow with n.

    Book: chapter 8.
    """

    def __init__(self, branch: nn.Module, scale: float = 1.0) -> None:
        checks.instance(nn.Module, branch=branch)
        checks.between(-math.inf, math.inf, scale=scale)
        super().__init__()
        self.branch, self.scale = branch, scale

    def forward(self, x: Float[Tensor, "batch *shape"]) -> Float[Tensor, "batch *shape"]:
        """The input plus the scaled branch."""
        h = self.branch(x)
        checks.shape(tuple(x.shape), **{"branch(x)": h})
        return x + self.scale * h


def bottleneck(num_in: int, num_mid: int, num_out: int) -> nn.Sequential:
    """Return two 3 x 3 convolutions of `num_mid` channels between two 1 x 1 convolutions.

    Before each come batch normalization and an activation. The narrow middle takes a
    fraction of the time that two convolutions of the full width would.

    Source: He et al. 2016, figure 5; normalized as in Vahdat & Kautz 2020. Book: chapter 8.
    """
    checks.at_least(1, num_in=num_in, num_mid=num_mid, num_out=num_out)
    widths = [(num_in, num_mid, 1), (num_mid, num_mid, 3)]
    widths += [(num_mid, num_mid, 3), (num_mid, num_out, 1)]
    layers: list[nn.Module] = []
    for num, num_next, side in widths:
        conv = nn.Conv2d(num, num_next, side, padding=side // 2)
        layers += [nn.BatchNorm2d(num), nn.SiLU(), conv]
    return nn.Sequential(*layers)


@torch.no_grad()
def start_at_zero(network: nn.Sequential) -> nn.Sequential:
    """Set the last layer to zero, so that the network's output starts at zero; return the network.

    Book: chapter 8.
    """
    checks.instance(nn.Sequential, network=network)
    checks.at_least(1, layers=len(network))
    for parameter in network[-1].parameters():
        parameter.zero_()
    return network
