"""Models of the score, the gradient of a log-density, and the flow between noise and data that a score defines.

Two ways to add noise occur. x + sigma noise is that of noise-conditional scores, sqrt(alpha_bar) x +
sqrt(1 - alpha_bar) noise that of diffusion; a score is told sigma in the first case and log(alpha_bar) in the second.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.distributions import Distribution, MixtureSameFamily, MultivariateNormal

from companion.distributions import diagonal_normal
from companion.schedule import Schedule, noise_from_x_0, per_example, score_from_x_0

Score = Callable[[Tensor, Tensor], Tensor]
"""`score(x, log_alpha_bar)`: gradient of the log-density of x_t at x; the level is one
number, the same for all examples."""


class NoiseConditionalScore(nn.Module):
    """A model of the scores of x + sigma noise, for all sigma at once.

    The score is -F(x / sqrt(1 + sigma^2), log sigma) / sigma. So the network F sees
    numbers of one size if the data's variance is near 1, and its target is the noise.

    Args:
        network: F; maps points and one number per example to the shape of the points.
        sigmas: the noise levels to train on, sigma_1 > ... > sigma_L.

    Raises:
        ValueError: if `sigmas` are not positive and falling.

    Source: Song & Ermon 2019, section 4.1; over sigma: Song & Ermon 2020, technique 3.
    """

    sigmas: Tensor

    def __init__(
        self, network: nn.Module, sigmas: Sequence[float] | Float[Tensor, "levels"]
    ) -> None:
        super().__init__()
        self.network = network
        # The caller chose them, so they are no part of the weights.
        self.register_buffer("sigmas", noise_levels(sigmas), persistent=False)

    def forward(
        self, x: Float[Tensor, "batch *x_shape"], sigma: Float[Tensor, "batch"]
    ) -> Float[Tensor, "batch *x_shape"]:
        """The score at x of data with noise of standard deviation sigma."""
        size = per_example((1 + sigma**2).sqrt(), x)
        noise_hat = self.network(x / size, sigma.log().to(x)).to(x)
        return -noise_hat / per_example(sigma, x)


def noise_levels(
    sigmas: Sequence[float] | Float[Tensor, "levels"],
) -> Float[Tensor, "levels"]:
    """Return a copy of noise levels as a tensor.

    Raises:
        ValueError: if there is none, or they are not positive and falling.
    """
    levels = torch.as_tensor(sigmas).detach().clone()
    if not (len(levels) and bool((levels > 0).all() and (levels.diff() < 0).all())):
        raise ValueError(
            f"sigmas must be positive and falling; {levels.tolist()} was given"
        )
    return levels


def geometric_noise_levels(
    sigma_1: float, sigma_L: float, num: int
) -> Float[Tensor, "num"]:
    """Standard deviations that fall from sigma_1 to sigma_L by equal factors.

    The largest should be near the largest distance between data points, the smallest
    below the detail that matters.

    Raises:
        ValueError: if not sigma_1 > sigma_L > 0, or `num` is below 2.

    Source: Song & Ermon 2019, section 4.1; how to choose: Song & Ermon 2020.
    """
    if not math.inf > sigma_1 > sigma_L > 0:
        raise ValueError(
            "sigma_1 must be above sigma_L, and both positive and finite; "
            f"{sigma_1} and {sigma_L} were given"
        )
    if num < 2:
        raise ValueError(f"num must be at least 2; {num} was given")
    ends = math.log(sigma_1), math.log(sigma_L)
    return torch.linspace(*ends, num, dtype=torch.double).exp()


def denoising_score_matching_loss(
    model: NoiseConditionalScore, x: Float[Tensor, "batch *x_shape"]
) -> Float[Tensor, "batch"]:
    """sigma^2 / 2 times the squared error of the score, at a random level per example.

    The target is the score of the noise, -(x_noisy - x) / sigma^2. No model knows it,
    and so the best one has learned its mean given x_noisy, which is the score of the
    noisy data. The weight sigma^2 makes all levels alike: what is squared is
    sigma score + noise, summed over dimensions.

    Args:
        model: called with x_noisy and sigma; its `sigmas` are the levels.
        x: a batch of data.

    Source: Vincent 2011, section 4.2; levels and weights: Song & Ermon 2019, eqs. 5, 6.
    """
    level = torch.randint(len(model.sigmas), (len(x),), device=x.device)
    sigma, noise = model.sigmas[level].to(x), torch.randn_like(x)
    spread = per_example(sigma, x)
    error = spread * model(x + spread * noise, sigma) + noise
    return error.square().flatten(1).sum(1) / 2


def exact_score(
    log_prob: Callable[[Tensor], Tensor], x: Float[Tensor, "batch *x_shape"]
) -> Float[Tensor, "batch *x_shape"]:
    """The gradient of a log-density that torch can compute, by autograd.

    Args:
        log_prob: such as `law.log_prob`; one value for each example.
        x: where.
    """
    with_graph = torch.is_grad_enabled() and x.requires_grad
    with torch.enable_grad():
        x = x if with_graph else x.detach().requires_grad_()
        (score,) = torch.autograd.grad(log_prob(x).sum(), x, create_graph=with_graph)
    return score


def noisy_mixture(
    law: MixtureSameFamily,
    scale: Float[Tensor, ""] | float,
    noise_var: Float[Tensor, ""] | float,
) -> MixtureSameFamily:
    """The law of scale x + sqrt(noise_var) noise, where x follows a mixture of normals.

    Args:
        law: a mixture of `MultivariateNormal`, or of normals with independent
            dimensions, such as `toy_density("mixture")`; event shape (dim,).
        scale: sqrt(alpha_bar_t) in diffusion, 1 where noise is only added.
        noise_var: 1 - alpha_bar_t, or sigma^2.
    """
    normal = law.component_distribution
    if isinstance(normal, MultivariateNormal):
        cov = normal.covariance_matrix
    else:
        cov = torch.diag_embed(normal.variance)
    cov = scale**2 * cov + noise_var * torch.eye(cov.shape[-1]).to(cov)
    components = MultivariateNormal(scale * normal.mean, cov)
    return MixtureSameFamily(law.mixture_distribution, components)


def mixture_score(
    law: MixtureSameFamily,
    x: Float[Tensor, "batch dim"],
    log_alpha_bar: Float[Tensor, ""],
) -> Float[Tensor, "batch dim"]:
    """The exact score of x_t where the data follow a mixture of normals.

    `partial(mixture_score, law)` is a score for `probability_flow`.

    Args:
        law: as in `noisy_mixture`.
        x: where.
        log_alpha_bar: of the time.
    """
    scale, noise_var = (log_alpha_bar / 2).exp(), -log_alpha_bar.expm1()
    return exact_score(noisy_mixture(law, scale, noise_var).log_prob, x)


def score_from_denoiser(
    denoiser: Callable[..., Tensor], schedule: Schedule
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return `score(x_t, t)`, for t = 1..T of the schedule, from an estimate of x_0.

    It is -noise_hat / sqrt(1 - alpha_bar_t): a denoiser that has learned the mean of
    x_0 given x_t knows the score of the noisy data.

    Args:
        denoiser: estimates x_0; t is what `schedule.times` says.
        schedule: the noise.

    Source: Efron 2011 (Tweedie's formula); Song et al. 2021 (score SDE).
    """

    def score(
        x_t: Float[Tensor, "batch *x_shape"], t: Int[Tensor, "batch"]
    ) -> Float[Tensor, "batch *x_shape"]:
        return score_from_x_0(schedule, x_t, t, denoiser(x_t, schedule.times[t]))

    return score


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
        raise ValueError(
            f"schedule must have at least 2 steps; it has {schedule.num_steps}"
        )

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


# Flow matching knows the same flow by other coordinates: points on the straight line
# x_u = (1 - u) x + u noise, u from 0 to 1. The law of x_u / sqrt((1 - u)^2 + u^2) is
# that of x_t with alpha_bar_t / (1 - alpha_bar_t) = (1 - u)^2 / u^2.


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
        raise ValueError(
            f"u must lie in [0, 1); {u.min():.4g} to {u.max():.4g} was given"
        )
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
    solved = solve_ivp(
        slope, times[[0, -1]], start, "DOP853", times, rtol=rtol, atol=atol
    )
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
        raise ValueError(
            f"probes must have shape ({accepted}); {tuple(probes.shape)} was given"
        )
    return probes.to(x) / math.sqrt(len(probes))


def _divergence(f: Tensor, x: Tensor, directions: Tensor) -> Tensor:
    total = f.new_zeros(len(x))
    for v in directions:
        (slope,) = torch.autograd.grad((f * v).sum(), x, retain_graph=True)
        total = total + (slope * v).flatten(1).sum(1)
    return total
