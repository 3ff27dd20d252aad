"""One step from noise to data: the average velocity of a flow, learned from its own derivative.

A flow with velocity v(x_u, u) needs many small steps, since v holds at one time only. The average velocity of
the way from time u down to time r = u - step, a(x_u, u, step) = (x_u - x_r) / step, makes it in one, of any length.
It is not known, but it has an identity that holds no integral: a = v - step da/du, where the derivative
is along the flow and r stays. Consistency models learn its case r = 0; shortcut models learn that two
steps in a row are one of their sum.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel

from companion import checks
from companion.schedule import Batch, per_example

TIME_SCALE = 10.0
"""What a network is given for time u is this times u. The derivative by u is a part of the loss, and with fast waves
in the embedding, as at the usual scale of 1000, such trainings are unstable (Lu & Song 2025)."""

AverageVelocity = Callable[[Tensor, Tensor, Tensor], Tensor]
"""`average(x_u, u, step)`: (x_u - x_r) / step, where the flow through x_u at time u passes x_r at time u - step.

One u and one step for each example; at step 0 it is the velocity. A trained `MeanFlow` is one."""


class MeanFlow(nn.Module):
    """An `AverageVelocity` from a network: one step of length 1 leads from noise at u = 1 to data at u = 0.

    Args:
        network: maps x_u, TIME_SCALE u and the step, of shape (batch, 1), to the shape of x_u: a `UNet` or a
            `TimeMlp` with `num_factors` 1.
        x_shape: shape of one example, scaled to [-1, 1] or to a variance near 1.

    Source: Geng et al. 2025. Book: chapter 12.
    """

    def __init__(self, network: nn.Module, x_shape: tuple[int, ...]) -> None:
        checks.function(network=network)
        checks.sizes(1, x_shape=x_shape)
        super().__init__()
        self.network, self.x_shape = network, tuple(x_shape)

    def forward(self, x_u: Batch, u: Float[Tensor, "batch"], step: Float[Tensor, "batch"]) -> Batch:
        """The average velocity on the way from u down to u - step."""
        checks.shape(("batch", *self.x_shape), x_u=x_u)
        checks.shape((len(x_u),), u=u)
        checks.shape((len(x_u),), step=step)
        checks.precision(self, u=u, step=step)
        a: Tensor = self.network(x_u, TIME_SCALE * u, step[:, None])
        checks.shape(tuple(x_u.shape), **{"the network's output": a})
        return a


def along_flow(
    average: AverageVelocity, x_u: Batch, u: Tensor, step: Tensor, v: Batch
) -> tuple[Batch, Batch]:
    """The average velocity, and its derivative by u along dx_u/du = v, where the end r = u - step stays.

    One call in forward mode: there is no finite difference in it.

    Raises:
        ValueError: if the average velocity has another shape than x_u.

    Source: Geng et al. 2025, eq. 8. Book: chapter 12.
    """
    checks.function(average=average)
    checks.floating(x_u=x_u)
    checks.examples(1, x_u=x_u)
    checks.like(x_u, v=v)
    checks.like(x_u.reshape(len(x_u), -1)[:, 0], u=u, step=step)
    one = torch.ones_like(u)
    # Fused attention has no forward mode, nor have the casts of autocast; and torch's own forward mode warns of torch's
    # own torch.jit.
    plain = torch.autocast(x_u.device.type, enabled=False)
    with warnings.catch_warnings(), forward_ad.dual_level(), sdpa_kernel(SDPBackend.MATH), plain:
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)
        duals = (forward_ad.make_dual(x, dx) for x, dx in ((x_u, v), (u, one), (step, one)))
        moved = average(*duals)
        checks.tensors(**{"the average velocity": moved})
        a, rate = forward_ad.unpack_dual(moved)
    checks.shape(tuple(x_u.shape), **{"the average velocity": a})
    return a, torch.zeros_like(a) if rate is None else rate


def mean_flow_loss(
    average: AverageVelocity, x: Batch, instant: float = 0.75
) -> Float[Tensor, "batch"]:
    """Squared error of the identity a = v - step da/du at random times, summed over dimensions.

    For v stands noise - x, that of the straight line of this example: the right side is linear in v, so
    its mean over all lines through x_u has the velocity of the flow. The right side is held constant
    in the gradient. A share `instant` of a batch has step 0, where this is `flow_matching_loss`; the
    rest goes from the larger to the smaller of two uniform times.

    Args:
        average: differentiable, such as a `MeanFlow`.
        x: a batch of data.
        instant: probability of step 0.

    Raises:
        TypeError: if x is not floating-point.
        ValueError: if `instant` is not in [0, 1], or the average velocity has another shape than x.

    Source: Geng et al. 2025, Algorithm 1. Book: chapter 12.
    """
    checks.batch(2, x=x)
    checks.in_range(0, 1, instant=instant)
    first, second = torch.rand(2, len(x), device=x.device, dtype=x.dtype)
    at_once = torch.rand(len(x), device=x.device) < instant
    u = torch.where(at_once, first, torch.maximum(first, second))
    step = (first - second).abs().masked_fill(at_once, 0)
    noise = torch.randn_like(x)
    x_u, v = torch.lerp(x, noise, per_example(u, x)), noise - x
    a, rate = along_flow(average, x_u, u, step, v)
    target = (v - per_example(step, x) * rate).detach()
    return (a - target).square().flatten(1).sum(1)


def mean_flow_sample(
    average: AverageVelocity, x_1: Batch, u: Sequence[float] | Float[Tensor, "times"] = (1.0, 0.0)
) -> Iterator[Batch]:
    """Yield x_1, ..., x_0: each step of a flow by its average velocity, by default a single one.

    Args:
        average: such as a trained `MeanFlow`.
        x_1: points at the first time, draws of N(0, I) at u = 1.
        u: falling times in [0, 1]; the network is called once for each but the last.

    Raises:
        TypeError: if x_1 is not floating-point.
        ValueError: if x_1 is not finite, or the times are fewer than two, do not fall, or leave [0, 1].

    Source: Geng et al. 2025, Algorithm 2. Book: chapter 12.
    """
    checks.precision(average, x_1=x_1)
    checks.batch(2, x_1=x_1)
    checks.function(average=average)
    times = checks.numbers(u=u).double()  # those of bytes would wrap
    checks.shape(("times",), u=times)
    checks.within(0, 1, u=times)
    if len(times) < 2 or not bool((times.diff() < 0).all()):
        raise ValueError(f"u must hold at least two falling times; {times.tolist()} was given")
    return _steps(average, x_1, times.to(x_1))


def _steps(average: AverageVelocity, x_u: Tensor, u: Tensor) -> Iterator[Tensor]:
    yield x_u
    for now, then in pairwise(u):
        step = now - then
        with torch.no_grad():
            a = average(x_u, now.expand(len(x_u)), step.expand(len(x_u)))
        checks.shape(tuple(x_u.shape), **{"the average velocity": a})
        x_u = x_u - step * a.to(x_u)
        yield x_u
