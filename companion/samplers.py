"""Draw from a model: samplers are generators, so one call gives the film and the sample.

`ancestral_sample` serves every chain of latents. The others go from `x_T`, draws of N(0, I),
down to x_0, and `ddim_invert` goes up. They have a `denoiser`, which estimates x_0, and the
`schedule` of the steps to take, whose `times` the denoiser is given. To skip times, give
them `schedule.evenly(num)` or `schedule.strided(times)`; what is conditioned, in
`companion.guidance`, is the denoiser. With `progress`, a label, they show a progress bar.
They refuse an x_T of integers with a TypeError, and a denoiser that gives another shape
than that of its x_t, or was made for another schedule, with a ValueError.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from companion import checks
from companion.denoisers import Denoiser, check_times_of, denoised
from companion.elbo import LatentChain
from companion.runtime import progress_bar
from companion.schedule import Batch, ReverseCoefficients, Schedule
from companion.variances import check_reverse_var

Film = Iterator[Batch]
"""What a sampler yields: where it starts, and then what each step makes of it."""

DenoiserAtTime = Callable[[Tensor], Tensor]
"""`x_hat(x_t)`: the denoiser at the time of a step."""


def ancestral_sample(model: LatentChain, num: int) -> Iterator[Float[Tensor, "num ..."]]:
    """Yield z_T, z_{T-1}, ..., z_1 and last the mean of p(x | z_1).

    `*film, x = ancestral_sample(model, 64)` keeps all of it. The last step adds no
    noise: it is the decoder's mean, while `model.likelihood(z_1).sample()` is a sample.
    For a `Ddpm` without a `decoder`, `ddpm_sample` with its denoiser, schedule and variances
    draws the same.

    Raises:
        ValueError: if `num` is below 1.

    Book: chapter 6.
    """
    checks.instance(LatentChain, model=model)
    checks.at_least(1, num=num)
    return _descend(model, num)


def reverse_sample(
    denoiser: Denoiser,
    schedule: Schedule,
    x_T: Batch,
    q: ReverseCoefficients,
    progress: str | None = None,
) -> Film:
    """Yield x_T, x_{T-1}, ..., x_0, each drawn from a Gaussian given the one before.

    It is the distribution q of x_{t-1} given x_t and x_0, with the estimate x_hat in
    place of x_0. The last step adds no noise. In q, entry t belongs to the step from
    t to t - 1. Each part has shape (T + 1,), the variance also (T + 1, *x_shape).

    Book: chapter 11.
    """
    checks.floating(x_T=x_T)
    _check_coefficients(schedule, q, x_T)
    of_x_0, of_x_t, std = (c.to(x_T) for c in (q.of_x_0, q.of_x_t, q.var.sqrt()))
    is_random = q.var.reshape(len(q.var), -1).any(1).tolist()

    def step(t: int, x_t: Tensor, x_hat: DenoiserAtTime) -> Tensor:
        mean = of_x_0[t] * x_hat(x_t) + of_x_t[t] * x_t
        return mean + std[t] * torch.randn_like(x_t) if t > 1 and is_random[t] else mean

    return _walk(denoiser, schedule, x_T, step, progress)


def ddpm_sample(
    denoiser: Denoiser,
    schedule: Schedule,
    x_T: Batch,
    reverse_var: Float[Tensor, "times *shape"] | None = None,
    progress: str | None = None,
) -> Film:
    """Yield x_T, ..., x_0 with steps drawn from N(mu_tilde_t(x_t, x_hat), sigma_t^2 I).

    It is `ancestral_sample` of a `Ddpm`, but for any denoiser, such as a guided one, and
    any schedule, and from a given x_T. `reverse_var` holds sigma_t^2 at entry t; its shape
    is (T + 1,) or (T + 1, *x_shape), and its default `schedule.posterior_var`. Zeros make
    all steps without noise. Entries 0 and 1 are not used, for the last step adds no noise.

    Raises:
        ValueError: if `reverse_var` has another shape, or is negative or not finite
            from entry 2 on.

    Source: Ho et al. 2020, Algorithm 2. Book: chapter 11.
    """
    checks.instance(Schedule, schedule=schedule)
    q = _pad(schedule.reverse_coefficients(schedule.steps))
    if reverse_var is not None:
        checks.floating(x_T=x_T)
        check_reverse_var(schedule, tuple(x_T.shape[1:]), reverse_var)
        checks.finite(reverse_var=reverse_var[2:])
        checks.within(0, math.inf, reverse_var=reverse_var[2:])
        q = q._replace(var=reverse_var)
    return reverse_sample(denoiser, schedule, x_T, q, progress)


def ddim_posterior(schedule: Schedule, eta: float) -> ReverseCoefficients:
    """Distributions of x_{t-1} given x_t and x_0 that keep all q(x_t|x_0) as they are.

    x_{t-1} is again sqrt(alpha_bar_{t-1}) x_0 and noise, of variance
    1 - alpha_bar_{t-1}: fresh noise of variance eta^2 beta_tilde_t, and for the rest
    that which is in x_t; `eta` is the share of the posterior's standard deviation, in
    [0, 1]. With eta = 1 it is `schedule.reverse_coefficients`, with eta = 0 nothing is
    random.

    The parts have shape (T + 1,), with entry t for the step from t to t - 1; entry 0 is 0.

    Raises:
        ValueError: if `eta` is not in [0, 1].

    Source: Song et al. 2021 (DDIM), eqs. 7, 16. Book: chapter 11.
    """
    checks.instance(Schedule, schedule=schedule)
    checks.in_range(0, 1, eta=eta)
    signal, noise_var = schedule.alpha_bar.sqrt(), schedule.noise_var
    var = eta**2 * schedule.reverse_coefficients(schedule.steps).var
    of_x_t = ((noise_var[:-1] - var) / noise_var[1:]).sqrt()
    return _pad(ReverseCoefficients(signal[:-1] - of_x_t * signal[1:], of_x_t, var))


def ddim_sample(
    denoiser: Denoiser,
    schedule: Schedule,
    x_T: Batch,
    eta: float = 0.0,
    progress: str | None = None,
) -> Film:
    """Yield x_T, ..., x_0 with steps that carry the noise along, and renew part of it.

    From eta = 0, no fresh noise, where x_T alone decides x_0, to eta = 1, where it is
    `ddpm_sample`.

    Raises:
        ValueError: if `eta` is not in [0, 1].

    Source: Song et al. 2021 (DDIM), eq. 12. Book: chapter 11.
    """
    return reverse_sample(denoiser, schedule, x_T, ddim_posterior(schedule, eta), progress)


def ddim_invert(
    denoiser: Denoiser, schedule: Schedule, x_0: Batch, progress: str | None = None
) -> Film:
    """Yield x_0, x_1, ..., x_T: the steps of `ddim_sample` with eta = 0, backwards.

    A step needs the noise in the x_t where it will arrive; it takes that which is
    estimated for time t where it is. So sampling from x_T gives back x_0 the more
    closely, the more steps there are.

    Source: Song et al. 2021 (DDIM), sections 4.3, 5.4. Book: chapter 11.
    """
    checks.instance(Schedule, schedule=schedule)
    checks.floating(x_0=x_0)
    signal, noise_std = schedule.alpha_bar.sqrt().to(x_0), schedule.noise_var.sqrt().to(x_0)

    def step(t: int, x_t: Tensor, x_hat: DenoiserAtTime) -> Tensor:
        noise_hat = (x_t - signal[t] * x_hat(x_t)) / noise_std[t]
        x_0 = (x_t - noise_std[t - 1] * noise_hat) / signal[t - 1]
        return signal[t] * x_0 + noise_std[t] * noise_hat

    return _walk(denoiser, schedule, x_0, step, progress, up=True)


def dpm_solver_sample(
    denoiser: Denoiser, schedule: Schedule, x_T: Batch, progress: str | None = None
) -> Film:
    """Yield x_T, ..., x_0 with steps of second order, by DPM-Solver++ (2M).

    A step is that of `ddim_sample` with eta = 0, from an estimate of x_0 that is
    extrapolated along the log signal-to-noise ratio: to the middle of the step, from
    this call of the denoiser and the one before. The first step has no call before, and
    the last goes infinitely far; these two take the estimate as it is. A schedule of 10
    to 20 steps is often enough.

    Source: Lu et al. 2022 (DPM-Solver++), Algorithm 2. Book: chapter 11.
    """
    q = ddim_posterior(schedule, eta=0.0)
    checks.floating(x_T=x_T)
    length = -F.pad(schedule.log_snr.diff(), (1, 0))  # of the step from t to t - 1
    ahead = torch.zeros_like(length)
    ahead[2:-1] = length[2:-1] / (2 * length[3:])
    of_x_0, of_x_t, ahead = (c.to(x_T) for c in (q.of_x_0, q.of_x_t, ahead))
    before = x_T  # it has the factor 0

    def step(t: int, x_t: Tensor, x_hat: DenoiserAtTime) -> Tensor:
        nonlocal before
        now = x_hat(x_t)
        now, before = now + ahead[t] * (now - before), now
        return of_x_0[t] * now + of_x_t[t] * x_t

    return _walk(denoiser, schedule, x_T, step, progress)


def inpaint_sample(
    denoiser: Denoiser,
    schedule: Schedule,
    x_T: Batch,
    x: Batch,
    observed: Bool[Tensor, "*mask"],
    repeats: int = 1,
    progress: str | None = None,
) -> Film:
    """Yield x_T, ..., x_0, where observed pixels are replaced by their noisy truth.

    After each step of `ddpm_sample` the observed pixels are drawn from q(x_{t-1}|x).
    The others depend on them in the next step only, so that the two fit badly: x_0 does
    not follow p(x_0|observed), even with an exact denoiser. Repeating each step, with
    new noise in between, lets them settle. Another way is
    `companion.guidance.posterior_denoiser`.

    `observed` has the shape of x or of one example and says which pixels of x are known;
    the others are not looked at. Each step but the last is taken `repeats` times.

    Raises:
        ValueError: if `x` or `observed` does not fit x_T, `observed` is not boolean, or
            `repeats` is below 1.

    Source: replacement: Song et al. 2021 (score SDE), appendix I.2; repetition:
        Lugmayr et al. 2022, Algorithm 1. Book: chapter 13.
    """
    checks.instance(Schedule, schedule=schedule)
    checks.floating(x_T=x_T)
    checks.at_least(1, repeats=repeats)
    checks.like(x_T, x=x)
    shape = tuple(x_T.shape)
    checks.tensors(observed=observed)
    if observed.shape not in (shape, shape[1:]) or observed.dtype != torch.bool:
        raise ValueError(
            f"observed must be boolean, of shape {shape} or {shape[1:]}; "
            f"{observed.dtype} of shape {tuple(observed.shape)} was given"
        )
    checks.finite(x=torch.where(observed, x, 0))
    q = _pad(schedule.reverse_coefficients(schedule.steps))
    of_x_0, of_x_t, std = (c.to(x_T) for c in (q.of_x_0, q.of_x_t, q.var.sqrt()))
    variances = schedule.alpha_bar, schedule.noise_var, schedule.alpha, schedule.beta
    signal, noise_std, step_signal, step_std = (values.sqrt().to(x_T) for values in variances)

    def step(t: int, x_t: Tensor, x_hat: DenoiserAtTime) -> Tensor:
        for left in reversed(range(repeats if t > 1 else 1)):
            mean = of_x_0[t] * x_hat(x_t) + of_x_t[t] * x_t
            invented = mean + std[t] * torch.randn_like(x_t)
            truth = signal[t - 1] * x + noise_std[t - 1] * torch.randn_like(x_t)
            below = torch.where(observed, truth, invented)
            if left:
                x_t = step_signal[t] * below + step_std[t] * torch.randn_like(x_t)
        return below

    return _walk(denoiser, schedule, x_T, step, progress)


def in_chunks(sampler: Callable[..., Iterator[Tensor]], chunk: int, *inputs: Tensor) -> Batch:
    """The last of what a sampler yields, drawn for `chunk` examples at a time.

    It keeps no film, and needs the memory of one chunk, however many examples there
    are: `in_chunks(partial(ddim_sample, denoiser, schedule), 250, x_T)`. The inputs are
    x_T, and what else has one entry for each example, such as labels; the sampler is
    given a part of each.

    Raises:
        ValueError: if `chunk` is below 1, or the inputs are none or differ in length.

    Book: chapter 11.
    """
    checks.function(sampler=sampler)
    checks.at_least(1, chunk=chunk)
    for values in inputs:
        checks.tensors(inputs=values)
        checks.shape(("num", *values.shape[1:]), inputs=values)
    lengths = [len(values) for values in inputs]
    if len(set(lengths)) != 1:
        raise ValueError(f"inputs must be tensors of one length; lengths {lengths} were given")
    parts = zip(*(values.split(int(chunk)) for values in inputs), strict=True)
    films = [deque(sampler(*part), maxlen=1) for part in parts]
    if not all(films):
        raise ValueError("sampler must yield tensors; it yielded none")
    return torch.cat([film.pop() for film in films])


def _descend(model: LatentChain, num: int) -> Iterator[Tensor]:
    z = model.prior(num).sample()
    yield z
    for t in range(model.num_latents - 1, 0, -1):
        with torch.no_grad():
            z = model.inner_prior(t, z).sample()
        yield z
    with torch.no_grad():
        x = model.likelihood(z).mean
    yield x


def _walk(
    denoiser: Denoiser,
    schedule: Schedule,
    x_t: Tensor,
    step: Callable[[int, Tensor, DenoiserAtTime], Tensor],
    progress: str | None,
    up: bool = False,
) -> Iterator[Tensor]:
    """Yield x_t, and then what each step makes of it, for t = T, ..., 1 or upwards.

    A step may call the denoiser, at its time, as often as it likes.
    """
    checks.function(denoiser=denoiser)
    check_times_of(denoiser, schedule)
    name = {"x_0" if up else "x_T": x_t}
    checks.precision(denoiser, **name)
    checks.batch(1, **name)
    return _steps(denoiser, schedule, x_t, step, progress, up)


def _steps(
    denoiser: Denoiser,
    schedule: Schedule,
    x_t: Tensor,
    step: Callable[[int, Tensor, DenoiserAtTime], Tensor],
    progress: str | None,
    up: bool,
) -> Iterator[Tensor]:
    T, times = schedule.num_steps, schedule.times.to(x_t.device)
    yield x_t
    with progress_bar(range(1, T + 1) if up else range(T, 0, -1), progress) as bar:
        for t in bar:
            x_hat = partial(denoised, denoiser, t=times[t].expand(len(x_t)))
            with torch.no_grad():  # not around the yield: there the caller's setting holds
                x_t = step(t, x_t, x_hat)
            yield x_t


def _check_coefficients(schedule: Schedule, q: ReverseCoefficients, x_T: Tensor) -> None:
    """Refuse coefficients of another number of steps or shape, and a variance that is none."""
    checks.instance(Schedule, schedule=schedule)
    checks.instance(ReverseCoefficients, q=q)
    times = schedule.num_steps + 1
    for name, part in q._asdict().items():
        checks.floating(**{f"q.{name}": part})
        shape = x_T.shape[1 : part.dim()] if name == "var" else ()
        checks.shape((times, *shape), **{f"q.{name}": part})
        checks.finite(**{f"q.{name}": part[2:]})
    checks.within(0, math.inf, **{"q.var": q.var[2:]})


def _pad(q: ReverseCoefficients) -> ReverseCoefficients:
    """Entries for t = 1..T with a zero in front, so that the index is t."""
    return ReverseCoefficients(*(F.pad(values, (1, 0)) for values in q))
