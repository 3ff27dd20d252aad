"""Exact flows between noise and data that a score defines, their densities, and flow matching."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from companion import checks
from companion.distributions import diagonal_normal
from companion.runtime import progress_bar
from companion.schedule import Batch, per_example

ScoreAtLevel = Callable[[Tensor, Tensor], Tensor]
"""`score_at_level(x, log_alpha_bar)`: gradient of the log-density of x_t at x; the level is one
number, the same for all examples. `MixtureDenoiser.score_at_level` is exact."""

Velocity = Callable[..., Tensor]
"""`velocity(x_u, u, *condition)`: the mean of noise - x given x_u = (1 - u) x + u noise, with one
u for each example. A trained `Flow` is one; from an exact denoiser `flow_velocity` makes one."""


def probability_flow(
    score_at_level: ScoreAtLevel,
    x: Batch,
    log_alpha_bar: Sequence[float] | Float[Tensor, "levels"],
    rtol: float = 1e-6,
    atol: float = 1e-6,
) -> Float[Tensor, "levels batch *x_shape"]:
    """Move x along the flow that has the distribution of x_t at all times, without any noise.

    In s = log(alpha_bar) it is dx/ds = (x + score_at_level(x, s)) / 2, for every schedule.
    Data become noise, or noise data, and each can be had back.

    Args:
        score_at_level: exact or learned.
        x: points at the first level.
        log_alpha_bar: levels at which to yield the points, all falling or all rising;
            0 is the data, and at -20 alpha_bar is 2e-9.
        rtol: relative error to be kept in one step of the solver.
        atol: absolute error.

    Returns:
        The points at every level: `*film, x_0 = probability_flow(...)`. The solver
        works in double precision; scores are computed in the precision of x.

    Raises:
        ValueError: if the levels are fewer than two, do not all fall or all rise, or
            exceed 0; if x is not finite, or a tolerance not positive.
        FloatingPointError: if the score is not finite, or the solver cannot keep the error.

    Source: Song et al. 2021 (score SDE), section 4.3. Book: chapter 12.
    """
    checks.batch(2, x=x)  # of a NaN the solver would never return
    checks.function(score_at_level=score_at_level)

    def velocity(x: Tensor, s: Tensor) -> Tensor:
        return (x + _score(score_at_level, x, s)) / 2

    return _integrate(velocity, x, log_alpha_bar, rtol, atol)


def ode_log_prob(
    score_at_level: ScoreAtLevel,
    x: Batch,
    log_alpha_bar: Sequence[float] | Float[Tensor, "levels"],
    end: Distribution | None = None,
    probes: Float[Tensor, "probes batch *x_shape"] | None = None,
    rtol: float = 1e-6,
    atol: float = 1e-6,
) -> Float[Tensor, "batch"]:
    """Log-density, in nats, that the probability flow gives to x.

    It is that of the point where x arrives, plus the integral of the divergence of
    dx/ds on the way. With the exact score it is log p(x); with a learned one it belongs
    to the model whose samples the flow makes, which is another one than the chain's.

    Args:
        score_at_level: differentiable in x.
        x: points at the first level.
        log_alpha_bar: two levels or more, such as (0, -20).
        end: the distribution at the last level; by default N(0, I), exact for alpha_bar = 0.
        probes: random directions of covariance I. The trace is estimated with them; by
            default it is exact, at the price of one derivative for each dimension.
        rtol: relative error to be kept in one step of the solver.
        atol: absolute error.

    Raises:
        ValueError: as `probability_flow`, or if `probes` has another shape.
        FloatingPointError: as `probability_flow`.

    Source: Song et al. 2021 (score SDE), section 4.3; probes: Grathwohl et al. 2019.
    Book: chapter 12.
    """
    checks.batch(2, x=x)
    checks.function(score_at_level=score_at_level)
    directions = _directions(x, probes)
    end = diagonal_normal(torch.zeros_like(x), 1.0) if end is None else end
    checks.instance(Distribution, end=end)
    checks.shape((len(x),), **{"end.log_prob(x)": end.log_prob(x)})

    def velocity(state: Tensor, s: Tensor) -> Tensor:
        with torch.enable_grad():
            x_s = state[:, :-1].reshape(x.shape).requires_grad_()
            score = _score(score_at_level, x_s, s)
            if not score.requires_grad:
                raise ValueError("score_at_level must be differentiable; it was cut off from x")
            speed = (x_s + score) / 2
            rate = _divergence(speed, x_s, directions)
        return torch.cat([speed.flatten(1), rate[:, None]], 1).detach()

    start = torch.cat([x.flatten(1), torch.zeros_like(x.flatten(1)[:, :1])], 1)
    last = _integrate(velocity, start, log_alpha_bar, rtol, atol)[-1]
    return end.log_prob(last[:, :-1].reshape(x.shape)) + last[:, -1]


def flow_velocity(x_u: Batch, u: Float[Tensor, "batch"], x_hat: Batch) -> Batch:
    """The velocity dx/du of flow matching, (x_u - x_hat) / u, from an estimate of x.

    It is the mean of noise - x given x_u = (1 - u) x + u noise. Its flow passes through
    the same points as `probability_flow`, each times the scale of `straight_line`.

    Args:
        x_u: points on the lines.
        u: share of the way from data to noise, one number per example.
        x_hat: estimate of x from x_u.

    Raises:
        TypeError: if x_u is not floating-point, or x_hat has another dtype.
        ValueError: if an entry of `u` is not above 0 and at most 1, or a shape does not fit.

    Source: Lipman et al. 2023; Liu et al. 2023. Book: chapter 12.
    """
    checks.floating(x_u=x_u, u=u)
    checks.like(x_u, x_hat=x_hat)
    checks.shape(tuple(x_u.shape[:1]), u=u)
    if not bool(((u > 0) & (u <= 1)).all()):
        raise ValueError(
            f"u must be above 0 and at most 1; {u.min():.4g} to {u.max():.4g} was given"
        )
    return (x_u - x_hat) / per_example(u, x_u)


def straight_line(
    u: Float[Tensor, "*batch"],
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """The scale and the log(alpha_bar) for which x_u and scale x_t have one distribution.

    Flow matching knows the flow of `probability_flow` by other coordinates: points on the
    straight line x_u = (1 - u) x + u noise, u from 0 to 1.

    Raises:
        ValueError: if an entry of `u` is not in [0, 1).

    Book: chapter 12.
    """
    checks.floating(u=u)
    if not bool(((u >= 0) & (u < 1)).all()):
        raise ValueError(f"u must lie in [0, 1); {u.min():.4g} to {u.max():.4g} was given")
    scale = torch.hypot(1 - u, u)
    return scale, 2 * ((1 - u) / scale).log()


def line_time(log_alpha_bar: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """The u of flow matching at a level of noise: the inverse of `straight_line`.

    Of all times of a schedule, `line_time(schedule.log_alpha_bar)`.

    Raises:
        ValueError: if a level is above 0.

    Book: chapter 12.
    """
    checks.floating(log_alpha_bar=log_alpha_bar)
    checks.within(-math.inf, 0, log_alpha_bar=log_alpha_bar)
    signal, noise = (log_alpha_bar / 2).exp(), (-log_alpha_bar.expm1()).sqrt()
    return noise / (signal + noise)


class Flow(nn.Module):
    """A `Velocity` from a network: noise at u = 1 flows along it to data at u = 0.

    Args:
        network: maps x_u, 1000 u, one number per example, and the condition if there is one
            to the shape of x_u. So the networks of a diffusion of 1000 steps fit.
        x_shape: shape of one example, scaled to [-1, 1] or to a variance near 1.

    Source: Lipman et al. 2023; Liu et al. 2023. Book: chapter 12.
    """

    def __init__(self, network: nn.Module, x_shape: tuple[int, ...]) -> None:
        checks.function(network=network)
        checks.sizes(1, x_shape=x_shape)
        super().__init__()
        self.network, self.x_shape = network, tuple(x_shape)

    def forward(self, x_u: Batch, u: Float[Tensor, "batch"], *condition: Tensor) -> Batch:
        """The velocity dx_u/du."""
        checks.shape(("batch", *self.x_shape), x_u=x_u)
        checks.floating(u=u)
        checks.shape((len(x_u),), u=u)
        v: Tensor = self.network(x_u, 1000 * u, *condition)
        checks.shape(tuple(x_u.shape), **{"the network's output": v})
        return v


def flow_matching_loss(velocity: Velocity, x: Batch, *condition: Tensor) -> Float[Tensor, "batch"]:
    """Squared error of the velocity at a random time u, summed over dimensions.

    The target noise - x is that of one straight line, x_u = (1 - u) x + u noise with u uniform
    on [0, 1]; the mean of all lines through x_u is the velocity that minimizes it. Against the
    squared error of x_hat, its weight is 1 / u^2.

    Args:
        velocity: such as a `Flow`.
        x: a batch of data.
        condition: what the velocity is given beside x_u and u, such as labels.

    Raises:
        TypeError: if x is not floating-point.
        ValueError: if the velocity has another shape than x.

    Source: Lipman et al. 2023, eq. 23; Liu et al. 2023, eq. 1. Book: chapter 12.
    """
    checks.batch(2, x=x)
    checks.function(velocity=velocity)
    u, noise = torch.rand(len(x), device=x.device, dtype=x.dtype), torch.randn_like(x)
    x_u = torch.lerp(x, noise, per_example(u, x))
    error = noise - x - _velocity(velocity, x_u, u, *condition)
    return error.square().flatten(1).sum(1)


def flow_sample(
    velocity: Velocity,
    x_1: Batch,
    u: Sequence[float] | Float[Tensor, "times"],
    heun: bool = False,
    progress: str | None = None,
) -> Iterator[Batch]:
    """Yield x_1, ..., x_0: the flow of a velocity by Euler's steps from each time to the next.

    `*film, x = flow_sample(flow, noise, torch.linspace(1, 0, 21))` takes twenty steps. With the
    velocity of a denoiser, `flow_velocity`, a step is that of `ddim_sample`, times the scale of
    `straight_line`. Rising times lead from data to noise.

    Args:
        velocity: such as a trained `Flow`; it may be given a condition by `partial`.
        x_1: points at the first time, draws of N(0, I) at u = 1.
        u: times, all falling or all rising, in [0, 1].
        heun: whether a step takes the mean of the velocities at its two ends, the second where
            Euler's step arrives: an error of second order, for two calls a step.
        progress: label of a progress bar; none without it.

    Raises:
        TypeError: if x_1 is not floating-point.
        ValueError: if x_1 is not finite; if the times are fewer than two, do not all fall or
            all rise, or leave [0, 1]; if the velocity has another shape than x_1.

    Source: Lipman et al. 2023; Heun's steps: Karras et al. 2022, Algorithm 1. Book: chapter 12.
    """
    checks.precision(velocity, x_1=x_1)
    checks.batch(2, x_1=x_1)
    checks.function(velocity=velocity)
    checks.instance(bool, heun=heun)
    return _follow(velocity, x_1, _monotone(0, 1, u=u).to(x_1), heun, progress)


@torch.no_grad()
def _slope(velocity: Velocity, x_u: Tensor, u: Tensor) -> Tensor:
    return _velocity(velocity, x_u, u.expand(len(x_u)))


def _follow(
    velocity: Velocity, x_u: Tensor, u: Tensor, heun: bool, progress: str | None
) -> Iterator[Tensor]:
    yield x_u
    with progress_bar(list(pairwise(u)), progress) as bar:
        for now, then in bar:
            v = _slope(velocity, x_u, now)
            if heun:
                v = (v + _slope(velocity, x_u + (then - now) * v, then)) / 2
            x_u = x_u + (then - now) * v
            yield x_u


def _velocity(velocity: Velocity, x_u: Tensor, u: Tensor, *condition: Tensor) -> Tensor:
    """The velocity, which is not broadcast."""
    v = velocity(x_u, u, *condition)
    checks.shape(tuple(x_u.shape), **{"the velocity": v})
    return v.to(x_u)  # autocast gives bfloat16


def _monotone(low: float, high: float, **times: Any) -> Tensor:
    """The one argument as a tensor of at least two numbers in [low, high], all falling or all rising."""
    ((name, _),) = times.items()
    levels = checks.numbers(**times)
    levels = levels if levels.is_floating_point() else levels.double()  # those of bytes would wrap
    checks.shape(("levels",), **{name: levels})
    checks.within(low, high, **{name: levels})
    checks.finite(**{name: levels})
    steps = levels.diff()
    if not len(steps) or not bool((steps < 0).all() or (steps > 0).all()):
        raise ValueError(
            f"{name} must hold at least two levels, all falling or all rising; "
            f"{levels.tolist()} was given"
        )
    return levels


def _integrate(
    velocity: Callable[[Tensor, Tensor], Tensor],
    x: Float[Tensor, "batch *shape"],
    log_alpha_bar: Sequence[float] | Float[Tensor, "levels"],
    rtol: float,
    atol: float,
) -> Float[Tensor, "levels batch *shape"]:
    """The states at all levels; the first is x."""
    from scipy.integrate import solve_ivp

    checks.positive(rtol=rtol, atol=atol)
    levels = _monotone(-math.inf, 0, log_alpha_bar=log_alpha_bar)

    def slope(s: float, values: Any) -> Any:
        at = torch.as_tensor(values).reshape(x.shape).to(x)
        with torch.no_grad():
            moved = velocity(at, torch.tensor(s, dtype=torch.double).to(x.device))
        if not bool(moved.isfinite().all()):
            raise FloatingPointError(
                f"the score must be finite; at log_alpha_bar {s:.4g} it is not"
            )
        return moved.double().cpu().numpy().ravel()

    times = levels.double().cpu().numpy()
    start = x.detach().double().cpu().numpy().ravel()
    solved = solve_ivp(
        slope, times[[0, -1]], start, "DOP853", times, rtol=float(rtol), atol=float(atol)
    )
    if not solved.success:
        text = f"the flow must be smooth from {times[0]:.4g} to {times[-1]:.4g}"
        raise FloatingPointError(f"{text}; the solver says: {solved.message}")
    return torch.as_tensor(solved.y.T).reshape(-1, *x.shape).to(x)


def _score(score_at_level: ScoreAtLevel, x: Tensor, s: Tensor) -> Tensor:
    """The score, which is not broadcast."""
    score = score_at_level(x, s)
    checks.shape(tuple(x.shape), **{"the score": score})
    return score


def _directions(x: Tensor, probes: Tensor | None) -> Tensor:
    """Vectors v for which the sum of v J v is the trace of J, or estimates it."""
    if probes is None:
        return torch.eye(x[0].numel()).to(x).reshape(-1, 1, *x.shape[1:])
    checks.floating(probes=probes)
    checks.shape(("probes", *x.shape), probes=probes)
    return probes.to(x) / math.sqrt(len(probes))


def _divergence(f: Tensor, x: Tensor, directions: Tensor) -> Tensor:
    total = f.new_zeros(len(x))
    for v in directions:
        (slope,) = torch.autograd.grad((f * v).sum(), x, retain_graph=True)
        total = total + (slope * v).flatten(1).sum(1)
    return total
