"""Several processes that share one computation, by Accelerate: each takes some rows of every batch.

All of them hold the same model, the same batches and the same state of torch's random numbers. Noise is drawn for the
whole batch by each, which then keeps that of its own rows. So the noise of an example depends on its place
in the batch, and on no number of processes.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from companion import runtime
from companion.training import Loss

PATIENCE = {"cuda": timedelta(seconds=50), "cpu": timedelta(hours=1)}
"""How long a process waits for the others before it gives up.

On CPUs the end of another process is noticed at once, and one may need many minutes more than the other for its share.
"""

GOES_ON = "with --resume it goes on from its last save"

DRAWS = {
    torch.bernoulli,
    torch.multinomial,
    torch.normal,
    torch.rand,
    torch.rand_like,
    torch.randint,
    torch.randn,
    torch.randn_like,
    Tensor.normal_,
    Tensor.exponential_,
    F.dropout,
}
"""What draws random numbers in the losses, measures and samplers of the book."""


class Processes:
    """The processes that were launched together; one by itself, if none were.

    `accelerate launch` and `torchrun` tell each process its number, `rank`, and how many there are, `size`.
    """

    def __init__(self) -> None:
        self.rank, self.size, self.devices = 0, 1, None
        if runtime.integer_in("WORLD_SIZE", 1) <= 1:
            return
        try:
            from accelerate import PartialState
        except ImportError:
            raise ValueError(
                "several processes need the package accelerate; the extra `multi` of this package brings it"
            ) from None
        kind = runtime.device().type
        with together():
            state = PartialState(cpu=kind == "cpu", timeout=PATIENCE[kind])
            # One that ends early, by bad input, would be missed by others that still connect to it.
            state.wait_for_everyone()
        self.rank, self.size = state.process_index, state.num_processes
        self.devices = None if kind == "cpu" else [state.local_process_index]

    def __str__(self) -> str:
        return "" if self.size == 1 else f", {self.size} processes"

    def rows(self, num: int) -> slice:
        """The rows of a batch of `num` that are this process's: an equal share, or one more."""
        return slice(self.rank * num // self.size, (self.rank + 1) * num // self.size)

    def part(self, function: Callable[..., Tensor], *batch: Tensor) -> Float[Tensor, "batch"]:
        """Evaluate a function of a batch, one value or more per example, on this process's rows; 0 at the others."""
        if self.size == 1:
            return function(*batch)
        num = len(batch[0])
        mine = self.rows(num)
        with _WholeDraws(mine, num):
            values = function(*(tensor[mine] for tensor in batch))
        return F.pad(values, (*(0, 0) * (values.dim() - 1), mine.start, num - mine.stop))

    def whole(self, function: Callable[..., Tensor], *batch: Tensor) -> Tensor:
        """Evaluate a function of a batch, each process on its rows, or on all if they are few; all get all values."""
        if self.size == 1 or len(batch[0]) < self.size:
            return function(*batch)
        return self.sum(self.part(function, *batch))

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, where no gradient is needed."""
        if self.size > 1:
            with together():
                torch.distributed.all_reduce(tensor)
        return tensor

    def agree(self, loss: float, stop: bool) -> tuple[float, bool]:
        """The mean loss, and whether any process is to stop: then all do, after the same step."""
        if self.size == 1:
            return loss, stop
        told = torch.tensor([loss, float(stop)], dtype=torch.double, device=runtime.device())
        loss, wishes = self.sum(told).tolist()
        return loss / self.size, wishes > 0

    def share(self, model: nn.Module, loss: Loss) -> tuple[nn.Module, Loss]:
        """A model and a loss for `fit`, which is given the whole batch and trains on this process's rows.

        The mean of the values over batch and processes is the loss of the batch, and so are the gradients.
        """
        if self.size == 1:
            return model, loss

        def mine(model: nn.Module, *batch: Tensor, **options: Any) -> Tensor:
            return self.size * self.part(partial(loss, model, **options), *batch)

        with together():
            objective = Objective(model, mine)
            shared = nn.parallel.DistributedDataParallel(objective, device_ids=self.devices)

        def forward(shared: Any, *batch: Tensor, **options: Any) -> Tensor:
            return shared(*batch, **options)

        return shared, forward


class Objective(nn.Module):
    """The loss as a module, as torch wants it: to average its gradients over processes, or to capture it in a graph."""

    def __init__(self, model: nn.Module, loss: Callable[..., Tensor]) -> None:
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, *batch: Tensor, **options: Any) -> Tensor:
        """One value for each example."""
        return self.loss(self.model, *batch, **options)


class _WholeDraws(TorchFunctionMode):
    """Draw for the whole batch of `num`, and give what belongs to the rows `mine`.

    The batch is the first dimension that is as long as the rows. Where one before it is as long by chance, the numbers
    are as random, but not those of a single process. A generator of its own draws what no batch has.
    """

    def __init__(self, mine: slice, num: int) -> None:
        super().__init__()
        self.mine, self.num, self.own = mine, num, mine.stop - mine.start

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func not in DRAWS:
            return func(*args, **kwargs)
        if isinstance(args[0], int) and func is not torch.randint:
            args = (args,)  # rand(2, 3) is rand((2, 3))
        # What says how many numbers there will be: a tensor, a size, or a count.
        at = {torch.multinomial: 1, torch.randint: len(args) - 1}.get(func, 0)
        given = args[at]
        shape = (given,) if isinstance(given, int) else tuple(getattr(given, "shape", given))
        if self.own not in shape or kwargs.get("generator") is not None:
            return func(*args, **kwargs)
        dim = shape.index(self.own)
        size = getattr(given, "shape", None)
        like = [size is not None and getattr(each, "shape", None) == size for each in args]
        like[at] = True
        whole = (
            self._whole(each, dim) if also else each for each, also in zip(args, like, strict=True)
        )
        drawn = func(*whole, **kwargs)
        part = drawn.narrow(dim, self.mine.start, self.own)
        return given.copy_(part) if func in (Tensor.normal_, Tensor.exponential_) else part

    def _whole(self, given: Any, dim: int) -> Any:
        """The same for the whole batch; a tensor is padded with zeros."""
        if isinstance(given, Tensor):
            after = (0, 0) * (given.dim() - dim - 1)
            return F.pad(given, (*after, self.mine.start, self.num - self.mine.stop))
        if isinstance(given, int):
            return self.num
        return (*given[:dim], self.num, *given[dim + 1 :])


def end() -> None:
    """Leave the other processes, as each has to before it ends: torch's threads abort a process that does not."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@contextmanager
def together() -> Iterator[None]:
    """Where processes wait for each other: the end of one ends the others with one sentence, a ConnectionError.

    Torch says it in many words, and in other ones in each version.
    """
    try:
        yield
    except RuntimeError as error:
        known = isinstance(error, torch.distributed.DistError)
        if not known and not re.search("gloo|nccl", str(error), re.IGNORECASE):
            raise
        raise ConnectionError(
            "another process of this computation ended, or no longer answers; "
            "what was saved goes on with --resume"
        ) from error
