"""One training loop for every model of the book, written as a generator; it knows no model."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import LBFGS, Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from companion import checks
from companion.runtime import progress_bar


@runtime_checkable
class Loss(Protocol):
    """What a model is trained on, such as `companion.elbo.elbo_loss`; lower is better.

    Book: chapter 1.
    """

    def __call__(
        self, model: Any, x: Tensor, /, *rest: Any, **options: Any
    ) -> Float[Tensor, "batch"]:
        """One value for each example: only the loop takes the mean.

        Args:
            model: what is trained.
            x: a batch of data.
            rest: what else a batch holds, such as labels.
            options: settings of the loss, such as the weight of a term.
        """


class Step(NamedTuple):
    """What `fit` yields after each step: its number, counted from 1, and the mean loss of its batch before the step.

    Book: chapter 1.
    """

    number: int
    loss: float


def fit(
    model: nn.Module,
    loss: Loss,
    batches: Iterable[Any],
    optimizer: Optimizer,
    *,
    ema: AveragedModel | None = None,
    max_grad_norm: float | None = None,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
    progress: str | None = None,
) -> Iterator[Step]:
    """Take one optimizer step for each batch; all else belongs to the caller's for loop.

    Being a generator, it trains only while it is iterated: for logging, learning-rate
    schedules and stopping, write a loop around it. A batch (x, y) is passed on as
    loss(model, x, y). Numbers continue from `batches.step`.

    Args:
        model: what to train, put into training mode.
        loss: one value per example, such as `autoencoder.reconstruction_loss`.
        batches: tensors, or tuples or lists of them, such as `data.Batches` or a
            `DataLoader` of torch.
        optimizer: of the model's parameters.
        ema: an average of the weights to update after every step.
        max_grad_norm: if given, gradients are scaled down to this norm.
        autocast: context of the forward pass, such as `runtime.autocast`.
        progress: label of a progress bar; none without it.

    Raises:
        ValueError: if the loss does not give one value per example, the optimizer belongs to another
            model, or `max_grad_norm` is not positive and finite.
        FloatingPointError: if the mean loss or the norm to clip is not finite; the
            parameters stay as they were.

    Book: chapter 1.
    """
    checks.function(loss=loss, autocast=autocast)
    checks.instance(Iterable, batches=batches)
    _check_optimizer(model, optimizer)
    if ema is not None:
        _check_average(model, ema)
    if max_grad_norm is not None:
        checks.positive(max_grad_norm=max_grad_norm)
    done = getattr(batches, "step", 0)
    with progress_bar(batches, progress, done) as bar:
        for number, batch in enumerate(bar, start=done + 1):
            model.train()  # also after a caller that evaluated it between two steps
            inputs = _inputs(batch)
            with autocast():
                values = loss(model, *inputs)
                mean_loss = _one_per_example(values, len(inputs[0])).mean()
            value = mean_loss.item()
            if not math.isfinite(value):
                text = f"the mean loss must be finite; at step {number} it is {value}"
                raise FloatingPointError(text)
            optimizer.zero_grad(set_to_none=True)
            mean_loss.backward()
            if max_grad_norm is not None:
                _clip_gradients(model, max_grad_norm, number)
            optimizer.step()
            if ema is not None:
                ema.update_parameters(model)
            bar.set_postfix_str(f"loss {value:.4g}", refresh=False)
            yield Step(number, value)


def exponential_average(model: nn.Module, decay: float = 0.999) -> AveragedModel:
    """Return a running average of the model for `fit`: after each step, decay * average + (1 - decay) * model.

    The first step copies the parameters, so the average never remembers the initialization; buffers are always copied.

    Raises:
        ValueError: if `decay` is not in [0, 1).

    Book: chapter 10.
    """
    checks.instance(nn.Module, model=model)
    checks.not_negative(decay=decay)
    if decay >= 1:
        raise ValueError(f"decay must be below 1; {decay} was given")
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))


def minimize(
    function: Callable[[], Tensor], parameters: Iterable[Tensor], *, max_steps: int = 2000
) -> Tensor:
    """Minimize a deterministic function to full precision with L-BFGS, and return its value there.

    For problems that can be evaluated whole, in float64: no batches, no noise, no learning rate.

    Args:
        function: evaluates the objective, a number that depends on the parameters.
        parameters: what to change; they hold the minimizer afterwards.
        max_steps: most iterations.

    Raises:
        ValueError: if `max_steps` is below 1, or the function does not return a single number.
        FloatingPointError: if the value at the end is not finite.

    Book: chapter 1.
    """
    checks.at_least(1, max_steps=max_steps)
    checks.function(function=function)
    checks.instance(Iterable, parameters=parameters)
    held = list(parameters)
    checks.tensors(**{f"parameters[{i}]": tensor for i, tensor in enumerate(held)})
    if not held or not all(tensor.is_leaf for tensor in held):
        given = "one that was computed" if held else "none"
        raise ValueError(
            f"parameters must hold at least one tensor, and no computed one; {given} was given"
        )
    optimizer = LBFGS(
        held,
        max_iter=max_steps,
        max_eval=2 * max_steps,
        tolerance_grad=1e-12,
        tolerance_change=1e-16,
        history_size=50,
        line_search_fn="strong_wolfe",
    )

    first = True

    def evaluate() -> Tensor:
        nonlocal first
        optimizer.zero_grad()
        value = function()
        if not isinstance(value, Tensor) or value.dim():
            what = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else value
            raise ValueError(f"function must return a single number, shape (); it returned {what}")
        if not value.requires_grad:
            raise ValueError("function must depend on the parameters; its value does not")
        if first:  # from a NaN torch's line search does not come back
            _check_finite(value)
        first = False
        value.backward()
        return value

    optimizer.step(evaluate)
    value = function().detach()
    _check_finite(value)
    return value


def _check_optimizer(model: nn.Module, optimizer: Optimizer) -> None:
    checks.instance(nn.Module, model=model)
    checks.instance(Optimizer, optimizer=optimizer)
    held = {id(each) for group in optimizer.param_groups for each in group["params"]}
    if held.isdisjoint(map(id, model.parameters())):
        raise ValueError("optimizer must hold parameters of the model; it holds none of them")


def _check_finite(value: Tensor) -> None:
    if not value.isfinite():
        raise FloatingPointError(f"the minimized value must be finite; it is {value.item()}")


def _check_average(model: nn.Module, ema: AveragedModel) -> None:
    """Torch would average as many parameters as there are, in the middle of a step."""
    checks.instance(AveragedModel, ema=ema)
    of_model, of_ema = ([p.shape for p in each.parameters()] for each in (model, ema.module))
    if of_model != of_ema:
        raise ValueError("ema must be an average of the model; it has other parameters")


def _inputs(batch: object) -> tuple[Any, ...]:
    """What the loss is given of a batch."""
    inputs = (batch,) if isinstance(batch, Tensor) else batch
    if not isinstance(inputs, tuple | list) or not inputs:
        kind = type(batch).__name__
        raise TypeError(
            f"batches must hold tensors, or tuples or lists of them; a {kind} was given"
        )
    return tuple(inputs)


def _one_per_example(values: object, batch_size: int) -> Tensor:
    if batch_size < 1:
        raise ValueError("batches must hold at least one example each; an empty one was given")
    if not isinstance(values, Tensor) or values.shape != (batch_size,):
        what = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else values
        raise ValueError(
            f"loss must return one value for each of the {batch_size} examples, shape ({batch_size},); "
            f"it returned {what}"
        )
    if not values.requires_grad:
        raise ValueError("loss must depend on the model's parameters; its values do not")
    return values


def _clip_gradients(model: nn.Module, max_norm: float, number: int) -> None:
    norm = clip_grad_norm_(model.parameters(), max_norm)
    if not norm.isfinite():
        raise FloatingPointError(
            f"the norm of the gradient must be finite; at step {number} it is {norm.item()}"
        )
