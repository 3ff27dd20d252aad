"""Noise schedules: how much of the data is left at each time of a diffusion, and all that follows from it.

A step adds noise, q(x_t|x_{t-1}) = N(sqrt(1 - beta_t) x_{t-1}, beta_t I). It keeps the
variance of data whose variance is about 1, such as pictures scaled to [-1, 1]. Time runs
from 1 to T, and entry 0 of an array belongs to the data.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from companion import checks

Batch: TypeAlias = Float[Tensor, "batch *x_shape"]
Times: TypeAlias = int | Int[Tensor, "batch"]
"""One time for all examples of a batch, or one for each."""


class Kernel(NamedTuple):
    """N(scale * x_s, var I), the law of x_t given an earlier x_s."""

    scale: Float[Tensor, "*batch"]
    var: Float[Tensor, "*batch"]


class Posterior(NamedTuple):
    """N(of_x_0 * x_0 + of_x_t * x_t, var I), the law of x_{t-1} given x_t and x_0."""

    of_x_0: Float[Tensor, "*batch"]
    of_x_t: Float[Tensor, "*batch"]
    var: Float[Tensor, "*batch"]


class Schedule(nn.Module):
    """A noise schedule, stored as log(alpha_bar_t) for t = 0..T.

    The logarithm keeps 1 - alpha_bar_t = -expm1(log_alpha_bar[t]) exact at small t,
    where alpha_bar_t itself rounds to 1. The constructors give double precision, which
    `.to(device)` keeps. Properties have T + 1 entries; index them by t.

    Args:
        log_alpha_bar: starts at 0, "no noise", and falls.
        times: what a denoiser is told in place of 0..T; `strided` sets it.

    Raises:
        ValueError: if `log_alpha_bar` has fewer than two entries, does not start at 0
            or fall all the way, or is not finite; if `times` has another length.

    Source: Ho et al. 2020, section 2; log signal-to-noise ratio: Kingma et al. 2021.
    """

    log_alpha_bar: Tensor
    times: Tensor

    def __init__(
        self, log_alpha_bar: Float[Tensor, "times"], times: Int[Tensor, "times"] | None = None
    ) -> None:
        _check_log_alpha_bar(log_alpha_bar)
        num = len(log_alpha_bar)
        times = torch.arange(num) if times is None else times
        if times.shape != (num,):
            raise ValueError(
                f"times must have the {num} entries of log_alpha_bar; "
                f"shape {tuple(times.shape)} was given"
            )
        super().__init__()
        self.register_buffer("log_alpha_bar", log_alpha_bar.detach().clone())
        # The caller chose them, so they are no part of the weights.
        times = times.to(log_alpha_bar.device)
        self.register_buffer("times", times, persistent=False)

    @classmethod
    def from_betas(cls, betas: Float[Tensor, "num_steps"]) -> "Schedule":
        """The schedule with the noise variances beta_1, ..., beta_T.

        Raises:
            ValueError: if one is not above 0 and below 1, or there is none.
        """
        if betas.dim() != 1 or not bool(((betas > 0) & (betas < 1)).all()):
            raise ValueError(
                "betas must be a vector of numbers above 0 and below 1; "
                f"shape {tuple(betas.shape)}, {_range(betas)} was given"
            )
        return cls(F.pad(torch.log1p(-betas.double()).cumsum(0), (1, 0)))

    @property
    def num_steps(self) -> int:
        """T."""
        return len(self.log_alpha_bar) - 1

    @property
    def steps(self) -> Int[Tensor, "num_steps"]:
        """1, ..., T."""
        return torch.arange(1, self.num_steps + 1, device=self.log_alpha_bar.device)

    @property
    def alpha_bar(self) -> Float[Tensor, "times"]:
        """Share of the data's variance that is left at t; 1 at t = 0."""
        return self.log_alpha_bar.exp()

    @property
    def noise_var(self) -> Float[Tensor, "times"]:
        """1 - alpha_bar_t, variance of the noise in x_t; 0 at t = 0."""
        return _lost(self.log_alpha_bar)

    @property
    def alpha(self) -> Float[Tensor, "times"]:
        """Share of variance that step t keeps; entry 0 is 1, no step."""
        return F.pad(self.log_alpha_bar.diff(), (1, 0)).exp()

    @property
    def beta(self) -> Float[Tensor, "times"]:
        """Variance of the noise that step t adds; entry 0 is 0, no step."""
        return _lost(F.pad(self.log_alpha_bar.diff(), (1, 0)))

    @property
    def posterior_var(self) -> Float[Tensor, "times"]:
        """Variance beta_tilde_t of q(x_{t-1}|x_t, x_0); entries 0 and 1 are 0."""
        return F.pad(self.posterior(self.steps).var, (1, 0))

    @property
    def log_snr(self) -> Float[Tensor, "times"]:
        """Log of the signal-to-noise ratio; entry 0 is infinite."""
        return self.log_alpha_bar - self.noise_var.log()

    @property
    def snr(self) -> Float[Tensor, "times"]:
        """Signal-to-noise ratio alpha_bar_t / (1 - alpha_bar_t)."""
        return self.log_snr.exp()

    def kernel(self, s: int | Int[Tensor, "*batch"], t: int | Int[Tensor, "*batch"]) -> Kernel:
        """q(x_t | x_s) for s <= t; with s = 0 the law of x_t given the data.

        Raises:
            ValueError: if a time is outside 0..T, or s after t.
        """
        self.check_times(s, "s", 0)
        self.check_times(t, "t", 0)
        log_kept = self.log_alpha_bar[t] - self.log_alpha_bar[s]
        if bool((log_kept > 0).any()):
            raise ValueError(f"s must not be after t; s={s} and t={t} were given")
        return Kernel(torch.exp(log_kept / 2), _lost(log_kept))

    def posterior(self, t: int | Int[Tensor, "*batch"]) -> Posterior:
        """q(x_{t-1} | x_t, x_0); at t = 1 it is x_0 itself, with variance 0.

        Raises:
            ValueError: if a time is outside 1..T.

        Source: Ho et al. 2020, eqs. 6, 7.
        """
        self.check_times(t)
        now, before = self.log_alpha_bar[t], self.log_alpha_bar[t - 1]
        beta, share = _lost(now - before), _lost(before) / _lost(now)
        return Posterior(
            torch.exp(before / 2) * beta / _lost(now),
            torch.exp((now - before) / 2) * share,
            beta * share,
        )

    def strided(self, times: Sequence[int] | Int[Tensor, "num_steps"]) -> "Schedule":
        """The schedule of the chosen times alone, for samplers that skip the others.

        `schedule.strided(range(20, 1001, 20))` has 50 steps. They are counted from 1 to
        50 again; what a denoiser is told, 20, 40, ..., 1000, is in `times`.

        Raises:
            ValueError: if `times` is empty, does not rise, or leaves 1..T.
        """
        chosen = torch.as_tensor(times, device=self.log_alpha_bar.device)
        if chosen.dim() != 1 or len(chosen) < 1 or bool((chosen.diff() <= 0).any()):
            raise ValueError(f"times must be rising; {chosen.tolist()} was given")
        self.check_times(chosen, "times")
        chosen = F.pad(chosen, (1, 0))
        return Schedule(self.log_alpha_bar[chosen], self.times[chosen])

    def evenly(self, num: int) -> "Schedule":
        """The schedule of `num` times, spread evenly from 1 to T.

        Raises:
            ValueError: if `num` is not in 2..T.
        """
        checks.at_least(2, num=num)
        checks.in_range(2, self.num_steps, num=num)
        return self.strided(torch.linspace(1, self.num_steps, num).round().long())

    def check_times(self, t: int | Int[Tensor, "*batch"], name: str = "t", low: int = 1) -> None:
        """Do nothing if all times lie in `low`..T, and else raise a ValueError."""
        t = torch.as_tensor(t)
        if not bool(((t >= low) & (t <= self.num_steps)).all()):
            raise ValueError(f"{name} must lie in {low}..{self.num_steps}; {_range(t)} was given")


def linear_schedule(T: int, beta_1: float = 1e-4, beta_T: float = 0.02) -> Schedule:
    """Return beta_t growing evenly; the defaults are made for T = 1000.

    With fewer steps the same betas leave part of the data in x_T: multiply both by
    1000 / T.

    Raises:
        ValueError: if `T` is below 1, or a beta not above 0 and below 1.

    Source: Ho et al. 2020, section 4.
    """
    _check_num_steps(T)
    return Schedule.from_betas(torch.linspace(beta_1, beta_T, T, dtype=torch.double))


def cosine_schedule(T: int, s: float = 0.008, max_beta: float = 0.999) -> Schedule:
    """Return alpha_bar_t falling like a squared cosine, no beta_t above `max_beta`.

    Args:
        T: number of steps.
        s: offset that keeps the first steps from being too small.
        max_beta: in the last step, the cosine alone would leave nothing.

    Raises:
        ValueError: if `T` is below 1, `s` negative, or `max_beta` not between 0 and 1.

    Source: Nichol & Dhariwal 2021, eq. 17.
    """
    _check_num_steps(T)
    if not 0 <= s < math.inf:
        raise ValueError(f"s must not be negative; {s} was given")
    if not 0 < max_beta < 1:
        raise ValueError(f"max_beta must be above 0 and below 1; {max_beta} was given")
    share = torch.arange(T + 1, dtype=torch.double) / T
    kept = torch.cos((share + s) / (1 + s) * math.pi / 2).square()
    return Schedule.from_betas((1 - kept[1:] / kept[:-1]).clamp(max=max_beta))


def per_example(
    values: Float[Tensor, "*values"], x: Float[Tensor, "batch *x_shape"]
) -> Float[Tensor, "*shape"]:
    """One value for each example, shaped to be multiplied with x, in its precision."""
    missing = x.dim() - values.dim() if values.dim() else 0
    return values.reshape(values.shape + (1,) * missing).to(x)


def add_noise(schedule: Schedule, x_0: Batch, t: Times, noise: Batch) -> Batch:
    """x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) noise."""
    signal, spread = _scales(schedule, x_0, t)
    return signal * x_0 + spread * noise


# What a network may estimate of x_t: the data, the noise, v, the score, or the mean of
# x_{t-1}. Given x_t, each fixes all others. The ways lead through the data, x_0.


def x_0_from_noise(schedule: Schedule, x_t: Batch, t: Times, noise: Batch) -> Batch:
    """(x_t - sqrt(1 - alpha_bar_t) noise) / sqrt(alpha_bar_t)."""
    signal, spread = _scales(schedule, x_t, t)
    return (x_t - spread * noise) / signal


def noise_from_x_0(schedule: Schedule, x_t: Batch, t: Times, x_0: Batch) -> Batch:
    """(x_t - sqrt(alpha_bar_t) x_0) / sqrt(1 - alpha_bar_t)."""
    signal, spread = _scales(schedule, x_t, t)
    return (x_t - signal * x_0) / spread


def x_0_from_v(schedule: Schedule, x_t: Batch, t: Times, v: Batch) -> Batch:
    """sqrt(alpha_bar_t) x_t - sqrt(1 - alpha_bar_t) v: no division, at any t.

    Source: v = sqrt(alpha_bar_t) noise - sqrt(1 - alpha_bar_t) x_0, Salimans & Ho 2022.
    """
    signal, spread = _scales(schedule, x_t, t)
    return signal * x_t - spread * v


def v_from_x_0(schedule: Schedule, x_t: Batch, t: Times, x_0: Batch) -> Batch:
    """(sqrt(alpha_bar_t) x_t - x_0) / sqrt(1 - alpha_bar_t)."""
    signal, spread = _scales(schedule, x_t, t)
    return (signal * x_t - x_0) / spread


def x_0_from_score(schedule: Schedule, x_t: Batch, t: Times, score: Batch) -> Batch:
    """(x_t + (1 - alpha_bar_t) score) / sqrt(alpha_bar_t), the formula of Tweedie."""
    signal, spread = _scales(schedule, x_t, t)
    return (x_t + spread**2 * score) / signal


def score_from_x_0(schedule: Schedule, x_t: Batch, t: Times, x_0: Batch) -> Batch:
    """(sqrt(alpha_bar_t) x_0 - x_t) / (1 - alpha_bar_t)."""
    signal, spread = _scales(schedule, x_t, t)
    return (signal * x_0 - x_t) / spread**2


def x_0_from_mean(schedule: Schedule, x_t: Batch, t: Times, mean: Batch) -> Batch:
    """The x_0 for which q(x_{t-1} | x_t, x_0) has this mean."""
    q = schedule.posterior(t)
    return (mean - per_example(q.of_x_t, x_t) * x_t) / per_example(q.of_x_0, x_t)


def mean_from_x_0(schedule: Schedule, x_t: Batch, t: Times, x_0: Batch) -> Batch:
    """Mean mu_tilde_t of q(x_{t-1} | x_t, x_0)."""
    q = schedule.posterior(t)
    return per_example(q.of_x_0, x_t) * x_0 + per_example(q.of_x_t, x_t) * x_t


def _lost(log_kept: Tensor) -> Tensor:
    """1 - exp(log_kept), exact also where that is small."""
    return log_kept.expm1().abs()  # it is not positive, and at 0 this is not -0


def _scales(schedule: Schedule, x: Tensor, t: int | Int[Tensor, "batch"]) -> tuple[Tensor, Tensor]:
    """sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t), to be multiplied with x."""
    signal, var = schedule.kernel(0, t)
    return per_example(signal, x), per_example(var.sqrt(), x)


def _check_log_alpha_bar(values: Tensor) -> None:
    falls = values.dim() == 1 and len(values) > 1 and bool((values.diff() < 0).all())
    if not (falls and values[0] == 0 and bool(values.isfinite().all())):
        raise ValueError(
            "log_alpha_bar must be a vector that starts at 0 and falls, all finite; "
            f"shape {tuple(values.shape)}, {_range(values)} was given"
        )


def _check_num_steps(T: int) -> None:
    if T < 1:
        raise ValueError(f"T must be at least 1; {T} was given")


def _range(values: Tensor) -> str:
    if not values.numel():
        return "empty"
    low, high = values.aminmax()
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
