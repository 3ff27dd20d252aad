"""Multi-layer perceptrons."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import nn


def mlp(
    sizes: Sequence[int], activation: Callable[[], nn.Module] = nn.ReLU
) -> nn.Sequential:
    """Return linear layers of the given sizes with an activation between them, and none after the last.

    `mlp([784, 256, 16])` is a network of two layers, from 784 numbers to 16.

    Raises:
        ValueError: if there are fewer than two sizes, or one is below 1.
    """
    _check_sizes(sizes)
    layers: list[nn.Module] = []
    for num_in, num_out in pairwise(sizes):
        layers += [nn.Linear(num_in, num_out), activation()]
    return nn.Sequential(*layers[:-1])


def normalized_mlp(
    sizes: Sequence[int],
    norm: Callable[[int], nn.Module] = nn.LayerNorm,
    activation: Callable[[], nn.Module] = nn.SiLU,
) -> nn.Sequential:
    """Return linear layers of the given sizes, each followed by a normalization and an activation.

    Raises:
        ValueError: if there are fewer than two sizes, or one is below 1.
    """
    _check_sizes(sizes)
    layers: list[nn.Module] = []
    for num_in, num_out in pairwise(sizes):
        layers += [nn.Linear(num_in, num_out), norm(num_out), activation()]
    return nn.Sequential(*layers)


def _check_sizes(sizes: Sequence[int]) -> None:
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(
            f"sizes must hold at least two positive integers; {list(sizes)} was given"
        )
