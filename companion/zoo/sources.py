"""The data sets of the recipes: shapes of an example and its label, how many there are, and where they come from."""

from dataclasses import dataclass

import torch
from torch import Tensor

from companion import checks, runtime
from companion.data import ATTRIBUTES, SCENE_FACTORS, landscapes, load, scenes, toy_density


@dataclass(frozen=True)
class Source:
    """Images that `load` knows by this name, with their classes."""

    name: str
    x_shape: tuple[int, ...]
    num: int  # examples to train on
    label_shape: tuple[int, ...] = ()
    label_dtype: torch.dtype = torch.long

    def examples(self, split: str, fallback: bool = False) -> tuple[Tensor, ...]:
        """All examples of a split, "train" or "test", and their labels if they have some.

        With `fallback`, the digits of scikit-learn may stand in for MNIST, as `load` says.

        Raises:
            FileNotFoundError: if there is neither a copy of the data set nor a network, and no fallback.
        """
        data = load(self.name, split, fallback=fallback, device=runtime.device())
        return data.images, data.labels


class Scenes(Source):
    """Scenes of the renderer with their factors; there are 2,000 to test."""

    def examples(self, split: str, fallback: bool = False) -> tuple[Tensor, ...]:
        """As of every source."""
        num, seed = _drawn(self, split, 2_000)
        return scenes(num, seed, device=runtime.device())[:2]


@dataclass(frozen=True)
class Landscapes(Source):
    """Landscapes of the renderer with their attributes; there are 2,000 to test, of other seeds."""

    held_out: bool | None = False  # which combinations, as `landscapes` is told
    seed: int = 0
    pixels: int = 32  # of each side

    def examples(self, split: str, fallback: bool = False) -> tuple[Tensor, ...]:
        """As of every source."""
        num, seed = _drawn(self, split, 2_000, self.seed)
        return tuple(landscapes(num, seed, self.held_out, runtime.device(), self.pixels))


class Toy(Source):
    """Points of a `toy_density`, without labels; there are 10,000 to test."""

    def examples(self, split: str, fallback: bool = False) -> tuple[Tensor, ...]:
        """As of every source."""
        num, seed = _drawn(self, split, 10_000)
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.manual_seed(seed)
            return (toy_density(self.name).sample([num]).to(runtime.device()),)


def _drawn(source: Source, split: str, num_test: int, seed: int = 0) -> tuple[int, int]:
    """How many examples are drawn for a split, and from which seed."""
    checks.one_of(("train", "test"), split=split)
    return (source.num, seed) if split == "train" else (num_test, seed + 1)


MNIST = Source("mnist", (1, 28, 28), 60_000)
CIFAR10 = Source("cifar10", (3, 32, 32), 50_000)
DIGITS = Source("digits", (1, 8, 8), 1_442)
SCENES = Scenes("scenes", (3, 32, 32), 20_000, (len(SCENE_FACTORS),), torch.float32)
LANDSCAPES = Landscapes("landscapes", (3, 32, 32), 60_000, (len(ATTRIBUTES),))
MIXTURE = Toy("mixture", (2,), 50_000)
