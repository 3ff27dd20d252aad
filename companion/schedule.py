"""Noise schedules: how much of the data is left at each time of a diffusion, and all that follows from it.

A step adds noise, q(x_t|x_{t-1}) = N(sqrt(1 - beta_t) x_{t-1}, beta_t I). It keeps the
variance of data whose variance is about 1, such as images scaled to [-1, 1]. Time runs
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


class ForwardCoefficients(NamedTuple):
    """q(x_t | x_s) = N(scale * x_s, var I) for an earlier time s. Book: chapter 9."""

    scale: Float[Tensor, "*batch"]
    var: Float[Tensor, "*batch"]


class ReverseCoefficients(NamedTuple):
    """N(of_x_0 * x_0 + of_x_t * x_t, var I), a distribution of x_{t-1} given x_t and x_0.

    Book: chapter 9.
    """

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
        times: the times that a denoiser is given in place of 0..T; `strided` sets them.

    Raises:
        ValueError: if `log_alpha_bar` has fewer than two entries, does not start at 0
            or fall all the way, or is not finite; if `times` has another length or does not rise.

    Source: Ho et al. 2020, section 2; log signal-to-noise ratio: Kingma et al. 2021.
    Book: chapter 9.
    """

    log_alpha_bar: Tensor
    times: Tensor

    def __init__(
        self, log_alpha_bar: Float[Tensor, "times"], times: Int[Tensor, "times"] | None = None
    ) -> None:
        checks.shape(("times",), log_alpha_bar=log_alpha_bar)
        checks.floating(log_alpha_bar=log_alpha_bar)
        checks.finite(log_alpha_bar=log_alpha_bar)
        steps = log_alpha_bar.diff()
        if not (len(steps) and log_alpha_bar[0] == 0 and bool((steps < 0).all())):
            raise ValueError(
                "log_alpha_bar must start at 0, fall, and have two entries at least; "
                f"{len(log_alpha_bar)} entries, {_range(log_alpha_bar)}, were given"
            )
        times = torch.arange(len(log_alpha_bar)) if times is None else times
        checks.shape((len(log_alpha_bar),), times=times)
        checks.integers(times=times)
        checks.within(0, math.inf, times=times)
        if bool((times.diff() <= 0).any()):
            raise ValueError(f"times must rise; {times.tolist()} was given")
        super().__init__()
        self.register_buffer("log_alpha_bar", log_alpha_bar.detach().clone())
        # The caller chose them, so they are no part of the weights.
        self.register_buffer("times", times.to(log_alpha_bar.device), persistent=False)

    @classmethod
    def from_betas(cls, betas: Float[Tensor, "num_steps"]) -> "Schedule":
        """The schedule with the noise variances beta_1, ..., beta_T.

        Raises:
            ValueError: if one is not above 0 and below 1, or there is none.
        """
        checks.shape(("num_steps",), betas=betas)
        if not bool(((betas > 0) & (betas < 1)).all()):
            raise ValueError(f"betas must be above 0 and below 1; {_range(betas)} was given")
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
        return _one_minus_exp(self.log_alpha_bar)

    @property
    def alpha(self) -> Float[Tensor, "times"]:
        """1 - beta_t, share of the variance that is left after step t; entry 0 is 1, no step."""
        return F.pad(self.log_alpha_bar.diff(), (1, 0)).exp()

    @property
    def beta(self) -> Float[Tensor, "times"]:
        """Variance of the noise that step t adds; entry 0 is 0, no step."""
        return _one_minus_exp(F.pad(self.log_alpha_bar.diff(), (1, 0)))

    @property
    def posterior_var(self) -> Float[Tensor, "times"]:
        """Variance beta_tilde_t of q(x_{t-1}|x_t, x_0); entries 0 and 1 are 0."""
        return F.pad(self.reverse_coefficients(self.steps).var, (1, 0))

    @property
    def log_snr(self) -> Float[Tensor, "times"]:
        """Log of the signal-to-noise ratio; entry 0 is infinite."""
        return self.log_alpha_bar - self.noise_var.log()

    @property
    def snr(self) -> Float[Tensor, "times"]:
        """Signal-to-noise ratio alpha_bar_t / (1 - alpha_bar_t)."""
        return self.log_snr.exp()

    def forward_coefficients(
        self, s: int | Int[Tensor, "*batch"], t: int | Int[Tensor, "*batch"]
    ) -> ForwardCoefficients:
        """q(x_t | x_s) for s <= t; with s = 0 the distribution of x_t given the data.

        Raises:
            ValueError: if a time is outside 0..T, or s after t.
        """
        self.check_times(s, "s", 0)
        self.check_times(t, "t", 0)
        if isinstance(s, Tensor) and isinstance(t, Tensor) and s.dim():
            checks.shape(tuple(t.shape), s=s)
        after = torch.as_tensor(s > t)
        if checks.reads_at_once(after) and bool(after.any()):
            raise ValueError(f"s must not be after t; s={s} and t={t} were given")
        log_share = self.log_alpha_bar[t] - self.log_alpha_bar[s]
        return ForwardCoefficients(torch.exp(log_share / 2), _one_minus_exp(log_share))

    def reverse_coefficients(self, t: int | Int[Tensor, "*batch"]) -> ReverseCoefficients:
        """q(x_{t-1} | x_t, x_0); at t = 1 it is x_0 itself, with variance 0.

        Raises:
            ValueError: if a time is outside 1..T.

        Source: Ho et al. 2020, eqs. 6, 7.
        """
        self.check_times(t)
        now, before = self.log_alpha_bar[t], self.log_alpha_bar[t - 1]
        beta, share = _one_minus_exp(now - before), _one_minus_exp(before) / _one_minus_exp(now)
        return ReverseCoefficients(
            torch.exp(before / 2) * beta / _one_minus_exp(now),
            torch.exp((now - before) / 2) * share,
            beta * share,
        )

    def strided(self, times: Sequence[int] | Int[Tensor, "num_steps"]) -> "Schedule":
        """The schedule of the chosen times alone, for samplers that skip the others.

        `schedule.strided(range(20, 1001, 20))` has 50 steps. They are counted from 1 to
        50 again; the times that a denoiser is given, 20, 40, ..., 1000, are in `times`.

        Raises:
            ValueError: if `times` is empty, does not rise, or leaves 1..T.
        """
        chosen = checks.numbers(times=times).cpu()
        checks.shape(("num_steps",), times=chosen)
        self.check_times(chosen, "times")
        if bool((chosen.diff() <= 0).any()):
            raise ValueError(f"times must rise; {chosen.tolist()} was given")
        chosen = F.pad(chosen, (1, 0)).to(self.log_alpha_bar.device)
        return Schedule(self.log_alpha_bar[chosen], self.times[chosen])

    def evenly(self, num: int) -> "Schedule":
        """The schedule of `num` times, spread evenly from 1 to T.

        Raises:
            ValueError: if `num` is not in 2..T.
        """
        checks.whole(2, self.num_steps, num=num)
        return self.strided(torch.linspace(1, self.num_steps, num).round().long())

    def trailing(self, num: int) -> "Schedule":
        """The schedule of `num` equal steps from T to the data: T/num, 2T/num, ..., T, rounded.

        `evenly` spends its last step on the little noise that is left at t = 1; here all count.
        It matters where a sampler looks back, as `dpm_solver_sample` does, and steps are few.

        Raises:
            ValueError: if `num` is not in 1..T.

        Source: Lin et al. 2024, section 3.3.
        """
        checks.whole(1, self.num_steps, num=num)
        return self.strided(torch.linspace(0, self.num_steps, num + 1)[1:].round().long())

    def check_times(self, t: int | Tensor, name: str = "t", low: int = 1, below: int = 0) -> None:
        """Refuse times that are no integers, or outside `low`..T - `below`.

        Times on a GPU are not read, since it would have to wait for them.
        """
        high = self.num_steps - below
        if not isinstance(t, Tensor):
            checks.whole(low, high, **{name: t})
            return
        checks.integers(**{name: t})
        if checks.reads_at_once(t):
            checks.within(low, high, **{name: t})


def linear_schedule(T: int, beta_1: float = 1e-4, beta_T: float = 0.02) -> Schedule:
    """Return beta_t growing evenly; the defaults are made for T = 1000.

    With fewer steps the same betas leave part of the data in x_T: multiply both by
    1000 / T.

    Raises:
        ValueError: if `T` is below 1, or a beta not above 0 and below 1.

    Source: Ho et al. 2020, section 4. Book: chapter 9.
    """
    checks.at_least(1, T=T)
    checks.between(0, 1, beta_1=beta_1, beta_T=beta_T)
    return Schedule.from_betas(torch.linspace(beta_1, beta_T, T, dtype=torch.double))


def cosine_schedule(T: int, s: float = 0.008, max_beta: float = 0.999) -> Schedule:
    """Return alpha_bar_t falling like a squared cosine, no beta_t above `max_beta`.

    Args:
        T: number of steps.
        s: offset that keeps the first steps from being too small.
        max_beta: in the last step, the cosine alone would leave nothing.

    Raises:
        ValueError: if `T` is below 1, `s` negative, or `max_beta` not between 0 and 1.

    Source: Nichol & Dhariwal 2021, eq. 17. Book: chapter 10.
    """
    checks.at_least(1, T=T)
    checks.not_negative(s=s)
    checks.between(0, 1, max_beta=max_beta)
    share = torch.arange(T + 1, dtype=torch.double) / T
    alpha_bar = torch.cos((share + s) / (1 + s) * math.pi / 2).square()
    return Schedule.from_betas((1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=max_beta))


def per_example(
    values: Float[Tensor, "*values"], x: Float[Tensor, "batch *x_shape"]
) -> Float[Tensor, "*shape"]:
    """One value for each example, shaped to be multiplied with x, in its precision.

    Raises:
        TypeError: if x is not floating-point: the values would be rounded to integers.
        ValueError: if the values have another shape than the first dimensions of x.

    Book: chapter 9.
    """
    checks.tensors(values=values)
    checks.floating(x=x)
    checks.shape(tuple(x.shape[: values.dim()]), values=values)
    missing = x.dim() - values.dim() if values.dim() else 0
    return values.reshape(values.shape + (1,) * missing).to(x)


def add_noise(schedule: Schedule, x_0: Batch, t: Times, noise: Batch) -> Batch:
    """x_t = sqrt(alpha_bar_t) x_0 + sqrt(1 - alpha_bar_t) noise.

    Raises:
        TypeError: if x_0 holds integers, or the noise has another dtype.
        ValueError: if the noise has another shape than x_0, or a time is outside 0..T.

    Book: chapter 9.
    """
    checks.floating(x_0=x_0)
    checks.like(x_0, noise=noise)
    signal, noise_std = _scales(schedule, x_0, t)
    return signal * x_0 + noise_std * noise


# What a network may estimate of x_t: the data, the noise, v, the score, or the mean of x_{t-1}.
# Given x_t, each fixes all others, by way of the data, x_0; those that divide by the noise, or step
# below t, need t = 1..T.


def x_0_from_noise(schedule: Schedule, x_t: Batch, t: Times, noise: Batch) -> Batch:
    """(x_t - sqrt(1 - alpha_bar_t) noise) / sqrt(alpha_bar_t). Book: chapter 10."""
    signal, noise_std = _scales(schedule, x_t, t, noise=noise)
    return (x_t - noise_std * noise) / signal


def noise_from_x_0(schedule: Schedule, x_t: Batch, t: Times, x_0: Batch) -> Batch:
    """(x_t - sqrt(alpha_bar_t) x_0) / sqrt(1 - alpha_bar_t). Book: chapter 9."""
    signal, noise_std = _scales(schedule, x_t, t, low=1, x_0=x_0)
    return (x_t - signal * x_0) / noise_std


def x_0_from_v(schedule: Schedule, x_t: Batch, t: Times, v: Batch) -> Batch:
    """sqrt(alpha_bar_t) x_t - sqrt(1 - alpha_bar_t) v: no division, at any t.

    Source: v = sqrt(alpha_bar_t) noise - sqrt(1 - alpha_bar_t) x_0, Salimans & Ho 2022.
    Book: chapter 12.
    """
    signal, noise_std = _scales(schedule, x_t, t, v=v)
    return signal * x_t - noise_std * v


def v_from_x_0(schedule: Schedule, x_t: Batch, t: Times, x_0: Batch) -> Batch:
    """(sqrt(alpha_bar_t) x_t - x_0) / sqrt(1 - alpha_bar_t). Book: chapter 9."""
    signal, noise_std = _scales(schedule, x_t, t, low=1, x_0=x_0)
    return (signal * x_t - x_0) / noise_std


def score_from_x_0(schedule: Schedule, x_t: Batch, t: Times, x_0: Batch) -> Batch:
    """(sqrt(alpha_bar_t) x_0 - x_t) / (1 - alpha_bar_t). Book: chapter 9."""
    signal, noise_std = _scales(schedule, x_t, t, low=1, x_0=x_0)
    return (signal * x_0 - x_t) / noise_std**2


def mean_from_x_0(schedule: Schedule, x_t: Batch, t: Times, x_0: Batch) -> Batch:
    """Mean mu_tilde_t of q(x_{t-1} | x_t, x_0). Book: chapter 9."""
    _check_example(schedule, x_t, t, low=1, x_0=x_0)
    q = schedule.reverse_coefficients(t)
    return per_example(q.of_x_0, x_t) * x_0 + per_example(q.of_x_t, x_t) * x_t


def _one_minus_exp(log_share: Tensor) -> Tensor:
    """1 - exp(log_share) of logarithms up to 0, exact also where that is small."""
    return log_share.expm1().abs()  # at 0 this is not -0


def _scales(
    schedule: Schedule, x: Tensor, t: Times, low: int = 0, **other: Tensor
) -> tuple[Tensor, Tensor]:
    """sqrt(alpha_bar_t) and sqrt(1 - alpha_bar_t), to be multiplied with x, for t = low..T."""
    _check_example(schedule, x, t, low, **other)
    level = schedule.log_alpha_bar[t]
    return per_example((level / 2).exp(), x), per_example(_one_minus_exp(level).sqrt(), x)


def _check_example(schedule: Schedule, x: Tensor, t: Times, low: int, **other: Tensor) -> None:
    """Nothing is broadcast: the other tensor has the shape of x, and t is one number or one for each example."""
    checks.instance(Schedule, schedule=schedule)
    checks.floating(x=x, **other)
    schedule.check_times(t, low=low)
    checks.shape(tuple(x.shape), **other)
    if isinstance(t, Tensor) and t.dim():
        checks.shape(tuple(x.shape[:1]), t=t)


def _range(values: Tensor) -> str:
    low, high = values.aminmax()
    return f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
