"""Exact flows between noise and data that a score defines, their densities, and flow matching."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from companion.distributions import diagonal_normal
from companion.schedule import Schedule, noise_from_x_0, per_example

Score = Callable[[Tensor, Tensor], Tensor]
"""`score(x, log_alpha_bar)`: gradient of the log-density of x_t at x; the level is one
number, the same for all examples."""


def probability_flow(
    score: Score,
    x: Float[Tensor, "batch *x_shape"],
    log_alpha_bar: Sequence[float] | Float[Tensor, "levels"],
    rtol: float = 1e-6,
    atol: float = 1e-6,
) -> Float[Tensor, "levels batch *x_shape"]:
    """Move x along the flow that has the law of x_t at all times, without any noise.

    In s = log(alpha_bar) it is dx/ds = (x + score(x, s)) / 2, for every schedule. Data
    become noise, or noise data, and each can be had back.

    Args:
        score: `score(x, s)`, exact or learned.
        x: points at the first level.
        log_alpha_bar: levels at which to yield the points, all falling or all rising;
            0 is the data, and at -20 alpha_bar is 2e-9.
        rtol: relative error to be kept in one step of the solver.
        atol: absolute error.

    Returns:
        The points at every level: `*film, x_0 = probability_flow(...)`. The solver
        works in double precision; scores are computed in the precision of x.

    Raises:
        ValueError: if the levels are fewer than two, or do not all fall or all rise.
        FloatingPointError: if the solver cannot keep the error.

    Source: Song et al. 2021 (score SDE), section 4.3.
    """

    def velocity(x: Tensor, s: Tensor) -> Tensor:
        return (x + score(x, s)) / 2

    return _integrate(velocity, x, torch.as_tensor(log_alpha_bar), rtol, atol)


def ode_log_prob(
    score: Score,
    x: Float[Tensor, "batch *x_shape"],
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
        score: `score(x, s)`, differentiable in x.
        x: points at the first level.
        log_alpha_bar: the way: two levels or more, such as (0, -20).
        end: the law at the last level; by default N(0, I), exact for alpha_bar = 0.
        probes: random directions of covariance I. The trace is estimated with them; by
            default it is exact, at the price of one derivative for each dimension.
        rtol: relative error to be kept in one step of the solver.
        atol: absolute error.

    Raises:
        ValueError: if the levels are fewer than two, or do not all fall or all rise; if
            `probes` has another shape.
        FloatingPointError: if the solver cannot keep the error.

    Source: Song et al. 2021 (score SDE), section 4.3; probes: Grathwohl et al. 2019.
    """
    directions = _directions(x, probes)

    def velocity(state: Tensor, s: Tensor) -> Tensor:
        with torch.enable_grad():
            x_s = state[:, :-1].detach().reshape(x.shape).requires_grad_()
            speed = (x_s + score(x_s, s)) / 2
            rate = _divergence(speed, x_s, directions)
        return torch.cat([speed.flatten(1), rate[:, None]], 1).detach()

    start = torch.cat([x.flatten(1), torch.zeros_like(x.flatten(1)[:, :1])], 1)
    levels = torch.as_tensor(log_alpha_bar)
    last = _integrate(velocity, start, levels, rtol, atol)[-1]
    end = diagonal_normal(torch.zeros_like(x), 1.0) if end is None else end
    return end.log_prob(last[:, :-1].reshape(x.shape)) + last[:, -1]


def flow_velocity(
    x_u: Float[Tensor, "batch *x_shape"],
    u: Float[Tensor, "batch"],
    x_hat: Float[Tensor, "batch *x_shape"],
) -> Float[Tensor, "batch *x_shape"]:
    """The velocity dx/du of flow matching, (x_u - x_hat) / u, from an estimate of x.

    It is the mean of noise - x given x_u = (1 - u) x + u noise. Its flow passes through
    the same points as `probability_flow`, each times the scale of `straight_line`.

    Args:
        x_u: points on the lines.
        u: share of the way from data to noise, one number per example.
        x_hat: estimate of x from x_u.

    Raises:
        ValueError: if an entry of `u` is not above 0 and at most 1.

    Source: Lipman et al. 2023; Liu et al. 2023.
    """
    if not bool(((u > 0) & (u <= 1)).all()):
        raise ValueError(
            f"u must be above 0 and at most 1; {u.min():.4g} to {u.max():.4g} was given"
        )
    return (x_u - x_hat) / per_example(u, x_u)


def straight_line(
    u: Float[Tensor, "*batch"],
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """The scale and the log(alpha_bar) for which x_u = scale x_t in law.

    Raises:
        ValueError: if an entry of `u` is not in [0, 1).
    """
    if not bool(((u >= 0) & (u < 1)).all()):
        raise ValueError(f"u must lie in [0, 1); {u.min():.4g} to {u.max():.4g} was given")
    scale = torch.hypot(1 - u, u)
    return scale, 2 * ((1 - u) / scale).log()


def _integrate(
    velocity: Callable[[Tensor, Tensor], Tensor],
    state: Float[Tensor, "batch *shape"],
    levels: Float[Tensor, "levels"],
    rtol: float,
    atol: float,
) -> Float[Tensor, "levels batch *shape"]:
    """The states at all levels; the first is given."""
    from scipy.integrate import solve_ivp

    steps = levels.diff()
    if len(levels) < 2 or not bool((steps < 0).all() or (steps > 0).all()):
        raise ValueError(
            "log_alpha_bar must hold at least two levels, all falling or all rising; "
            f"{levels.tolist()} was given"
        )

    def slope(s: float, values: Any) -> Any:
        at = torch.as_tensor(values).reshape(state.shape).to(state)
        with torch.no_grad():
            moved = velocity(at, torch.tensor(s, dtype=torch.double).to(state.device))
        return moved.double().cpu().numpy().ravel()

    times = levels.double().cpu().numpy()
    start = state.detach().double().cpu().numpy().ravel()
    solved = solve_ivp(slope, times[[0, -1]], start, "DOP853", times, rtol=rtol, atol=atol)
    if not solved.success:
        text = f"the flow must be smooth from {times[0]:.4g} to {times[-1]:.4g}"
        raise FloatingPointError(f"{text}; the solver says: {solved.message}")
    return torch.as_tensor(solved.y.T).reshape(-1, *state.shape).to(state)


def _directions(x: Tensor, probes: Tensor | None) -> Tensor:
    """Vectors v for which the sum of v J v is the trace of J, or estimates it."""
    if probes is None:
        return torch.eye(x[0].numel()).to(x).reshape(-1, 1, *x.shape[1:])
    if probes.shape[1:] != x.shape or not len(probes):
        accepted = ", ".join(map(str, ["probes", *x.shape]))
        raise ValueError(f"probes must have shape ({accepted}); {tuple(probes.shape)} was given")
    return probes.to(x) / math.sqrt(len(probes))


def _divergence(f: Tensor, x: Tensor, directions: Tensor) -> Tensor:
    total = f.new_zeros(len(x))
    for v in directions:
        (slope,) = torch.autograd.grad((f * v).sum(), x, retain_graph=True)
        total = total + (slope * v).flatten(1).sum(1)
    return total


def continuous_score(denoiser: Callable[..., Tensor], schedule: Schedule) -> Score:
    """Return `score(x, log_alpha_bar)`, also between the times that the denoiser knows.

    Between two times the two estimates of the noise in x are interpolated, linearly in
    log(alpha_bar).

    Args:
        denoiser: estimates x_0; t is what `schedule.times` says.
        schedule: the noise.

    Returns:
        A score for `probability_flow`. It raises a ValueError if log_alpha_bar leaves
        the range of the times 1..T.

    Raises:
        ValueError: if the schedule has fewer than two steps.
    """
    if schedule.num_steps < 2:
        raise ValueError(f"schedule must have at least 2 steps; it has {schedule.num_steps}")

    def noise(x: Tensor, t: Tensor) -> Tensor:
        t = t.expand(len(x))
        return noise_from_x_0(schedule, x, t, denoiser(x, schedule.times[t]))

    def score(
        x: Float[Tensor, "batch *x_shape"], log_alpha_bar: Float[Tensor, ""]
    ) -> Float[Tensor, "batch *x_shape"]:
        levels, s = schedule.log_alpha_bar, log_alpha_bar.to(schedule.log_alpha_bar)
        slack = 1e-9 * levels[-1].abs()  # a solver rounds
        if not bool((s <= levels[1] + slack) & (s >= levels[-1] - slack)):
            raise ValueError(
                f"log_alpha_bar must lie in {levels[-1]:.4g}..{levels[1]:.4g}, "
                f"that of the times 1..{schedule.num_steps}; {s:.4g} was given"
            )
        t = torch.searchsorted(-levels, -s).clamp(2, schedule.num_steps)
        share = ((levels[t - 1] - s) / (levels[t - 1] - levels[t])).to(x)
        noise_hat = torch.lerp(noise(x, t - 1), noise(x, t), share)
        return -noise_hat / (-s.expm1()).sqrt().to(x)

    return score
