"""Shuffled batches of tensors: an index shuffle per epoch, nothing per example."""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from companion import checks


class Batches:
    """One pass over `num_epochs` shuffles of the examples, which can stop anywhere and go on later.

    The tensors, such as images and labels, lie on one device and have equal first dimensions; of one tensor the
    batches are tensors, of several they are tuples. The shuffle of an epoch depends on `seed` and on the epoch's
    number alone, so the attribute `step`, the number of batches already given, is all there is to store. Torch's own
    random numbers are never touched, and the batches are the same on every device. The last batch of an epoch is
    smaller when `batch_size` does not divide the number of examples. After the last epoch none are left.

    Raises:
        TypeError: if a count is not an integer or a tensor is not a tensor.
        ValueError: if there is no tensor or no example, first dimensions or devices differ, or a count is too small.

    Book: chapter 1.
    """

    def __init__(
        self,
        *tensors: Shaped[Tensor, "num_examples ..."],
        batch_size: int,
        num_epochs: int = 1,
        seed: int = 0,
    ) -> None:
        _check_tensors(tensors)
        checks.at_least(1, batch_size=batch_size, num_epochs=num_epochs)
        checks.at_least(0, seed=seed)
        self.tensors, self.seed = tensors, seed
        self.batch_size, self.num_epochs = batch_size, num_epochs
        self.num_examples = len(tensors[0])
        self.steps_per_epoch = -(-self.num_examples // batch_size)
        self.step = 0

    def __len__(self) -> int:
        """Return the number of batches of all epochs, those already given included."""
        return self.num_epochs * self.steps_per_epoch

    def __iter__(self) -> Iterator[Shaped[Tensor, "batch ..."] | tuple[Tensor, ...]]:
        """Give the batches that are still to come."""
        shuffled = -1  # the epoch that `order` belongs to
        while self.step < len(self):
            epoch, batch = divmod(self.step, self.steps_per_epoch)
            if epoch != shuffled:
                order, shuffled = self._shuffle(epoch), epoch
            index = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            chosen = tuple(tensor[index] for tensor in self.tensors)
            self.step += 1
            yield chosen if len(chosen) > 1 else chosen[0]

    def _shuffle(self, epoch: int) -> Int[Tensor, " num_examples"]:
        """Return the order of the examples in this epoch: drawn on the CPU, so that it is the same on every device."""
        # Torch's CPU generator keeps 32 bits of its seed, hence a hash of both numbers rather than a sum or a shift.
        mixed = int(np.random.SeedSequence((self.seed, epoch)).generate_state(1)[0])
        generator = torch.Generator().manual_seed(mixed)
        order = torch.randperm(self.num_examples, generator=generator, device="cpu")
        return order.to(self.tensors[0].device)

    def state_dict(self) -> dict[str, int]:
        """Return the position, with the settings it has a meaning for."""
        names = ("step", "seed", "batch_size", "num_examples")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on where the batches of `state` stopped; `num_epochs` may differ.

        Raises:
            ValueError: if the seed, the batch size or the number of examples differ, or the position is past the end.
        """
        expected = self.state_dict()
        checks.instance(Mapping, state=state)
        if state.keys() != expected.keys():
            raise ValueError(
                f"state must have the keys {sorted(expected)}; {list(state)} were given"
            )
        for name in ("seed", "batch_size", "num_examples"):
            if state[name] != expected[name]:
                raise ValueError(
                    f"state was saved with {name} {state[name]}; these batches have {expected[name]}"
                )
        position = {"the step of state": state["step"]}
        checks.whole(0, len(self), **position)
        self.step = state["step"]


def _check_tensors(tensors: tuple[Tensor, ...]) -> None:
    """Say in one sentence what is wrong with the tensors, if anything is."""
    if not tensors:
        raise ValueError("tensors must hold at least one tensor; none was given")
    for tensor in tensors:
        if not isinstance(tensor, Tensor):
            raise TypeError(
                f"tensors must hold torch tensors only; {type(tensor).__name__} was given"
            )
        checks.tensors(tensors=tensor)
    if any(tensor.dim() == 0 for tensor in tensors) or len({len(tensor) for tensor in tensors}) > 1:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
        raise ValueError(f"tensors must have equal first dimensions; shapes {shapes} were given")
    if len(tensors[0]) == 0:
        raise ValueError("tensors must hold at least one example; the first dimension is 0")
    if len({tensor.device for tensor in tensors}) > 1:
        devices = ", ".join(str(tensor.device) for tensor in tensors)
        raise ValueError(f"tensors must lie on one device; {devices} were given")
