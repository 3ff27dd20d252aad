"""A training by a recipe, step by step; and one that is saved, logged and resumed."""

import statistics
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from companion import runtime
from companion.data import Batches
from companion.training import Loss, Step, exponential_average, fit
from companion.zoo.checkpoints import Saved, Setting, signals
from companion.zoo.logs import MetricsLog
from companion.zoo.processes import Objective, Processes
from companion.zoo.recipes import Recipe
from companion.zoo.weights import card_names, load_weights


class Session:
    """What a training by a recipe begins with, and its steps; rates and options follow `num_steps`, or all steps."""

    def __init__(
        self,
        chosen: Recipe,
        examples: tuple[Tensor, ...],
        num_steps: int | None = None,
        folder: Path | None = None,
    ) -> None:
        torch.manual_seed(chosen.seed)
        self.chosen, self.model = chosen, runtime.to_device(chosen.model())
        if chosen.start is not None:
            # Shipped, or trained before into the same folder.
            place = None if chosen.start in card_names() else folder
            if chosen.start not in card_names(folder=place):
                raise ValueError(
                    f"this recipe starts from {chosen.start}; train that first, into the same folder"
                )
            load_weights(chosen.start, self.model, place, partial=True)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=chosen.lr, fused=True)
        sizes = {"batch_size": chosen.batch_size, "num_epochs": chosen.epochs}
        self.batches = Batches(*examples, **sizes, seed=chosen.seed)
        self.num_steps = min(len(self.batches), num_steps or len(self.batches))
        self.rates = LambdaLR(self.optimizer, lambda step: chosen.schedule(step / self.num_steps))
        self.ema = None if chosen.ema is None else exponential_average(self.model, chosen.ema)

    @property
    def best(self) -> nn.Module:
        """The model, or the average of its weights."""
        return self.model if self.ema is None else self.ema.module

    def images(self, step: int) -> int:
        """How many examples were used up to a step."""
        epoch, step = divmod(step, self.batches.steps_per_epoch)
        return epoch * self.batches.num_examples + step * self.chosen.batch_size

    def steps(
        self, processes: Processes | None = None, progress: str | None = None
    ) -> Iterator[tuple[Step, float]]:
        """Take the steps that are left, and yield each with the learning rate that it had."""
        model: nn.Module = self.model
        loss: Loss = self._loss
        if processes is not None and processes.size > 1:
            model, loss = processes.share(model, loss)
        elif self.chosen.captured and runtime.device().type == "cuda":
            batch = (tensor[: self.chosen.batch_size] for tensor in self.batches.tensors)
            loss = captured(model, loss, *batch)
        options: dict[str, Any] = {"autocast": runtime.autocast, "progress": progress}
        steps = fit(model, loss, self.batches, self.optimizer, ema=self.ema, **options)
        for step in islice(steps, self.num_steps - self.batches.step):
            rate = float(self.rates.get_last_lr()[0])
            self.rates.step()
            yield step, rate

    def _loss(self, model: nn.Module, x: Tensor, *labels: Tensor) -> Tensor:
        # The batches have counted the one that is being used.
        options = self.chosen.options((self.batches.step - 1) / self.num_steps)
        return self.chosen.loss(model, self.chosen.prepare(x), *labels, **options)


def captured(model: nn.Module, loss: Loss, *batch: Tensor) -> Loss:
    """The loss, its kernels and those of its gradient started by a CUDA graph for each batch of this size.

    Starting them one by one takes Python longer than the GPU needs for a small network.
    """
    objective = Objective(model, loss).train()
    with torch.autocast("cuda", torch.bfloat16, runtime.autocasts(), cache_enabled=False):
        graph: Any = torch.cuda.make_graphed_callables(objective, batch, allow_unused_input=True)

    def of(model: nn.Module, x: Tensor, *rest: Tensor) -> Tensor:
        if len(x) < len(batch[0]):
            return loss(model, x, *rest)
        values: Tensor = graph(x, *rest)
        return values

    return of


class Run(Saved):
    """A training that goes on from its file, if that is there, and says how far it is."""

    def __init__(
        self, name: str, session: Session, path: Path, processes: Processes, save_every: float
    ) -> None:
        fields = ("epochs", "batch_size", "lr", "ema", "start", "seed")
        settings: dict[str, Setting] = {"recipe": name, "data": session.chosen.data.name}
        settings |= {field: getattr(session.chosen, field) for field in fields}
        names = ("model", "optimizer", "batches", "rates", "ema")
        parts = {each: part for each in names if (part := getattr(session, each)) is not None}
        super().__init__(path, settings, processes, save_every, **parts)
        self.name, self.session, self.first = name, session, processes.rank == 0
        if path.exists():
            was = self.go_on()["commit"]
            if was != self.commit:
                self.say(f"begun at commit {was}, continued at {self.commit}")
        step, log = session.batches.step, path.with_suffix(".jsonl")
        self.log = MetricsLog(log, step, session.images(step)) if self.first else None
        done = f"step {step} of {session.num_steps}"
        self.say(f"{done} on {runtime.device_name()}{processes}, {runtime.scale()} scale")

    def say(self, text: str) -> None:
        """Print a line above the progress bar; the first of several processes speaks for all."""
        if self.first:
            tqdm.write(f"{self.name}: {text}", file=sys.stdout)
            sys.stdout.flush()

    def train(self, log_every: int) -> nn.Module:
        """Take all steps, and give what they made; Ctrl-C and SIGTERM wait for the one under way."""
        session = self.session
        of_epoch: list[float] = []
        unlogged: list[float] = []
        bar = self.name if self.first and sys.stderr.isatty() else None
        with signals() as received:
            for (number, own), rate in session.steps(self.processes, bar):
                loss, stop = self.processes.agree(own, bool(received))
                epoch = number / session.batches.steps_per_epoch
                of_epoch.append(loss)
                unlogged.append(loss)
                if self.log and (epoch.is_integer() or number % log_every == 0):
                    place = {"epoch": epoch, "seconds": 60 * self.minutes}
                    mean = statistics.fmean(unlogged)
                    self.log.write(number, session.images(number), loss=mean, lr=rate, **place)
                    unlogged.clear()
                if epoch.is_integer():
                    mean = statistics.fmean(of_epoch)
                    text = f"mean loss of the last {len(of_epoch)} steps {mean:.4g}"
                    self.say(f"epoch {epoch:.0f} of {session.chosen.epochs}: {text}")
                    of_epoch.clear()
                done = f"{self.name}: saved after step {number} of {session.num_steps}"
                # After the last step, too, since the measurement can be stopped as well.
                self.keep(stop, done, now=number == session.num_steps)
        return session.best
