"""Denoising diffusion models: a chain of latents as large as the data, whose inference model is fixed.

Only a denoiser is learned. It estimates x_0 from x_t, and a step of generation is
q(x_{t-1}|x_t, x_0) with the estimate in place of x_0. The bound is that of every chain of
latents, `companion.elbo.elbo_terms`. Since q(x_t|x_0) has a closed form, one random term of
its sum is enough for training:

- `single_step_elbo`: the bound itself, estimated from one random time;
- `denoising_loss(model, x, weight)`: the squared error of x_0 at a random time, weighted.
  With a Gaussian likelihood, L_simple, the loss of v and the bound are three weights:
  `schedule.snr`, `1 / schedule.noise_var` and `bound_weights(schedule, reverse_var).x_0`;
- `elbo_step` and `noise_errors`: the same at chosen times, to measure.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributions import Distribution, Independent, kl_divergence
from torch.nn import functional as F

from companion import checks
from companion.denoisers import (
    Denoiser,
    NoisePredictor,
    VPredictor,
    check_times_of,
    denoised,
)
from companion.distributions import DiscretizedNormal, diagonal_normal
from companion.elbo import LatentChain
from companion.networks.unet import UNet
from companion.schedule import (
    Batch,
    Schedule,
    Times,
    add_noise,
    linear_schedule,
    mean_from_x_0,
    noise_from_x_0,
    per_example,
)
from companion.variances import step_variances

ObservationModel = Callable[[Tensor, Tensor], Distribution]
"""`observation_model(mean, std)`, such as `diagonal_normal` or `DiscretizedNormal`."""


class Ddpm(LatentChain):
    """Latents x_1, ..., x_T; q adds noise, and p takes it away with a denoiser's help.

    p(x_T) = N(0, I) and p(x_{t-1}|x_t) = N(mu_tilde_t(x_t, x_hat), sigma_t^2 I), where
    x_hat = denoiser(x_t, t). The last step, p(x|x_1), is observation_model(x_hat, sigma_1).

    Args:
        denoiser: estimates x_0; t is taken from `schedule.times`.
        schedule: the noise.
        x_shape: shape of one example, scaled to [-1, 1] or to a variance near 1.
        reverse_var: sigma_t^2 at entry t, such as `schedule.beta`; of shape (T + 1,) or
            (T + 1, *x_shape). Entry 0 is not used.
        decoder_var: sigma_1^2, the variance of p(x|x_1); by default entry 1 of
            `reverse_var`. `schedule.posterior_var` needs one, since its entry 1 is 0.
        observation_model: `diagonal_normal` for a density, `DiscretizedNormal` for the
            probability of 8-bit images on [-1, 1].
        decoder: gives p(x|x_1) from x_1 itself, such as `decoders.HistogramDecoder`, in place
            of observation_model(x_hat, sigma_1).

    Raises:
        ValueError: if `reverse_var` has another shape, or a variance is not positive and
            finite; from methods, if x or the denoiser's estimate has another shape, or t
            is outside its range.

    Source: Sohl-Dickstein et al. 2015; Ho et al. 2020, section 2. Book: chapter 9.
    """

    x_shape: tuple[int, ...]
    reverse_var: Tensor

    def __init__(
        self,
        denoiser: Denoiser,
        schedule: Schedule,
        x_shape: tuple[int, ...],
        reverse_var: Float[Tensor, "times *shape"],
        decoder_var: float | Float[Tensor, "*shape"] | None = None,
        observation_model: ObservationModel = diagonal_normal,
        decoder: Callable[[Tensor], Distribution] | None = None,
    ) -> None:
        last = {} if decoder is None else {"decoder": decoder}
        checks.function(denoiser=denoiser, observation_model=observation_model, **last)
        checks.instance(Schedule, schedule=schedule)
        check_times_of(denoiser, schedule)
        _check_noise_of(decoder, schedule)
        super().__init__(x_shape, schedule.num_steps, x_shape)
        self.denoiser, self.schedule = denoiser, schedule
        self.observation_model, self.decoder = observation_model, decoder
        # Trained weights serve with any variances: these are no part of them.
        variances = step_variances(schedule, self.x_shape, reverse_var, decoder_var)
        self.register_buffer("reverse_var", variances, persistent=False)

    def marginal(self, t: Times, x: Batch) -> Independent:
        """q(x_t | x)."""
        checks.shape(("batch", *self.x_shape), x=x)
        checks.floating(x=x)
        self.schedule.check_times(t, low=0)
        signal, var = self.schedule.forward_coefficients(0, self._times(t, x))
        return diagonal_normal(per_example(signal, x) * x, per_example(var.sqrt(), x))

    def posterior(self, x: Batch) -> Independent:
        """q(x_T | x)."""
        return self.marginal(self.num_latents, x)

    def likelihood(self, z_1: Batch) -> Distribution:
        """p(x | x_1)."""
        if self.decoder is not None:
            return self.decoder(z_1)
        return self.reconstruction(self.denoise(z_1, 1))

    def inner_posterior(self, t: Times, z_above: Batch, x: Batch) -> Independent:
        """q(x_t | x_{t+1}, x)."""
        checks.shape(("batch", *self.x_shape), x=x)
        self.schedule.check_times(t, below=1)
        return self.true_step(self._times(t + 1, z_above), z_above, x)

    def inner_prior(self, t: Times, z_above: Batch) -> Independent:
        """p(x_t | x_{t+1})."""
        self.schedule.check_times(t, below=1)
        above = self._times(t + 1, z_above)
        return self.reverse_step(above, z_above, self.denoise(z_above, above))

    def denoise(self, x_t: Batch, t: Times, *condition: Tensor) -> Batch:
        """The denoiser's estimate of x_0, given a condition such as a label if there is one."""
        checks.shape(("batch", *self.x_shape), x_t=x_t)
        self.schedule.check_times(t)
        given = self.schedule.times[self._times(t, x_t)]
        return denoised(self.denoiser, x_t, given, *condition).to(self.origin)

    def true_step(self, t: Int[Tensor, "batch"], x_t: Batch, x: Batch) -> Independent:
        """q(x_{t-1} | x_t, x) for t > 1."""
        mean = mean_from_x_0(self.schedule, x_t, t, x)
        std = self.schedule.reverse_coefficients(t).var.sqrt()
        return diagonal_normal(mean, per_example(std, mean))

    def reverse_step(self, t: Int[Tensor, "batch"], x_t: Batch, x_hat: Batch) -> Independent:
        """p(x_{t-1} | x_t) for t > 1, from the estimate of x_0."""
        mean = mean_from_x_0(self.schedule, x_t, t, x_hat)
        return diagonal_normal(mean, per_example(self.reverse_var[t].sqrt(), mean))

    def reconstruction(self, x_hat: Batch) -> Distribution:
        """p(x | x_1), from the estimate of x_0, in a model without a `decoder` of its own."""
        checks.shape(("batch", *self.x_shape), x_hat=x_hat)
        return self.observation_model(x_hat, self.reverse_var[1].sqrt().to(x_hat))

    def _times(self, t: Times, z_above: Tensor) -> Int[Tensor, "batch"]:
        """One time for each example."""
        checks.shape(("batch", *self.x_shape), z_above=z_above)
        num, device = len(z_above), z_above.device
        if not isinstance(t, Tensor):
            return torch.full((num,), t, device=device)
        checks.shape((num,) if t.dim() else (), t=t)
        return t.to(device).expand(num)


def _check_noise_of(decoder: Callable[[Tensor], Distribution] | None, schedule: Schedule) -> None:
    """Refuse a decoder that was made for another x_1."""
    own, first = getattr(decoder, "schedule", None), schedule.log_alpha_bar[1]
    if not isinstance(own, Schedule) or not checks.has_values(first):
        return
    if not torch.isclose(own.log_alpha_bar[1].to(first), first, rtol=1e-4):
        raise ValueError("decoder must have the noise of the schedule at t = 1; it has another")


def elbo_step(
    model: Ddpm, x: Batch, t: Int[Tensor, "batch"], noise: Batch
) -> Float[Tensor, "batch"]:
    """The term of the bound that belongs to step t, at the x_t which this noise makes.

    In nats: minus the KL of q(x_{t-1}|x_t, x) from p(x_{t-1}|x_t), and for t = 1
    log p(x|x_1). For standard normal noise, the sum over t = 1..T, less the KL of the
    prior, has the bound as its mean.

    Raises:
        ValueError: if x has another shape than the model's data, or t is outside 1..T.

    Source: Ho et al. 2020, eq. 5. Book: chapter 9.
    """
    checks.data(model, x, Ddpm)
    checks.shape((len(x),), t=t)
    model.schedule.check_times(t)
    x_t = add_noise(model.schedule, x, t, noise)
    x_hat = model.denoise(x_t, t)
    log_p = (model.decoder(x_t) if model.decoder else model.reconstruction(x_hat)).log_prob(x)
    if model.num_latents == 1:
        return log_p
    # For all examples, since to pick some of them a GPU would have to wait.
    later = t.clamp(min=2)
    q, p = model.true_step(later, x_t, x), model.reverse_step(later, x_t, x_hat)
    return torch.where(t == 1, log_p, -kl_divergence(q, p))


def single_step_elbo(
    model: Ddpm, x: Batch, time_weights: Float[Tensor, "times"] | None = None
) -> Float[Tensor, "batch"]:
    """Estimate the bound from one random step per example, one call of the denoiser.

    A term drawn with probability p(t), over p(t), has the sum of the terms as its mean.
    It is as unbiased as `elbo_terms`, costs a T-th of it, and varies much more; less
    where p(t) is large for large terms.

    Args:
        model: its marginals q(x_t|x) have a closed form.
        x: a batch of data.
        time_weights: p(t) up to a factor, entry t for time t = 1..T and entry 0 unused;
            by default uniform.

    Returns:
        Nats per example; higher is better.

    Raises:
        ValueError: if `time_weights` has no T + 1 entries, or one from entry 1 on is
            not positive and finite.

    Source: Ho et al. 2020, section 3.4; Kingma et al. 2021, section 4; times that are
        not uniform: Nichol & Dhariwal 2021, section 3.3. Book: chapter 9.
    """
    checks.data(model, x, Ddpm)
    given = torch.ones(model.num_latents + 1) if time_weights is None else time_weights
    p = _time_probabilities(model, given).to(x)
    t = torch.multinomial(p, len(x), replacement=True) + 1
    terms = elbo_step(model, x, t, torch.randn_like(x)) / p[t - 1]
    return terms - kl_divergence(model.posterior(x), model.prior(len(x)))


def denoising_loss(
    model: Ddpm,
    x: Batch,
    weight: Float[Tensor, "times"],
    *condition: Tensor,
    time_weights: Float[Tensor, "times"] | None = None,
) -> Float[Tensor, "batch"]:
    """Squared error of x_0 at a random time t, summed over dimensions, times weight[t].

    An error of the noise, of v or of the mean of a step is a fixed multiple of one of x_0,
    so the losses in use differ in the weight alone:

    - `schedule.snr`: the squared error of the noise, L_simple;
    - `1 / schedule.noise_var`: that of v;
    - `bound_weights(schedule, reverse_var).x_0`: minus the bound over T, but for a constant,
      if the likelihood is Gaussian;
    - ones: that of x_0.

    Args:
        model: any denoiser will do, whatever its network estimates.
        x: a batch of data.
        weight: one number for each time 0..T; entry 0 is not used.
        condition: what the denoiser is given beside x_t and t, such as labels.
        time_weights: how often each time is drawn, up to a factor, with entry 0 unused; by
            default all are equally likely. It does not change the loss's mean, only its noise:
            what is drawn often is divided by how often. The times of a batch are then
            spread evenly over the distribution and not independent.

    Raises:
        ValueError: if x has another shape than the model's data, or `weight` or
            `time_weights` has no T + 1 entries, one of the former is negative or not finite, or one
            of the latter is not positive and finite.

    Source: L_simple: Ho et al. 2020, eq. 14; v: Salimans & Ho 2022, section 4; times that
        are spread evenly: Kingma et al. 2021, appendix I.1.
    Book: chapter 10.
    """
    checks.data(model, x, Ddpm)
    T = model.num_latents
    checks.shape((T + 1,), weight=weight)
    if checks.reads_at_once(weight):
        checks.within(0, math.inf, weight=weight[1:])
        checks.finite(weight=weight[1:])
    if time_weights is None:
        t = torch.randint(1, T + 1, (len(x),), device=x.device)
    else:
        p = _time_probabilities(model, time_weights).to(x.device)
        share = (
            torch.rand((), device=x.device) + torch.arange(len(x), device=x.device) / len(x)
        ) % 1
        t = torch.searchsorted(p.cumsum(0), share.double()).clamp(max=T - 1) + 1
        weight = weight.to(p) / (T * F.pad(p, (1, 0), value=1))
    x_t = add_noise(model.schedule, x, t, torch.randn_like(x))
    error = (x - model.denoise(x_t, t, *condition)).square().flatten(1).sum(1)
    return weight.to(error)[t] * error


def _time_probabilities(model: Ddpm, time_weights: Tensor) -> Float[Tensor, "num_steps"]:
    """p(t) for t = 1..T, in double precision, from numbers in proportion to it."""
    checks.shape((model.num_latents + 1,), time_weights=time_weights)
    weights = time_weights[1:].double()
    checks.finite(time_weights=weights)
    if checks.reads_at_once(weights) and not weights.min() > 0:
        least = weights.min()
        raise ValueError(f"time_weights must be positive from entry 1 on; {least:.4g} was given")
    return weights / weights.sum()


@torch.no_grad()
def noise_errors(
    model: Ddpm, x: Batch, times: Sequence[int] | Int[Tensor, "times"]
) -> Float[Tensor, "times batch"]:
    """Squared error of the estimated noise at chosen times, for each example.

    It is a mean over dimensions, at one fresh noise for each time and example, so that
    its mean over examples compares with `linear_noise_error(...).mean(1)`.

    Args:
        model: its estimate of x_0 is read as one of the noise.
        x: a batch of data.
        times: any of 1..T.

    Raises:
        ValueError: if x has another shape than the model's data, or there is no time, or
            one outside 1..T.

    Book: chapter 10.
    """
    checks.data(model, x, Ddpm)
    chosen = checks.numbers(times=times).cpu()
    checks.shape(("times",), times=chosen)
    model.schedule.check_times(chosen, "times")
    errors = []
    for t in chosen.to(x.device):
        at_t, noise = t.expand(len(x)), torch.randn_like(x)
        x_t = add_noise(model.schedule, x, at_t, noise)
        noise_hat = noise_from_x_0(model.schedule, x_t, at_t, model.denoise(x_t, at_t))
        errors.append((noise - noise_hat).square().flatten(1).mean(1))
    return torch.stack(errors)


def image_ddpm(
    network: UNet,
    schedule: Schedule | None = None,
    predictor: type[NoisePredictor] = VPredictor,
    levels: int = 256,
) -> Ddpm:
    """Return a `Ddpm` of images whose gray levels are spaced evenly on [-1, 1].

    Its variances are beta_t. That of the likelihood, which beta_1 would make too large,
    is beta_tilde_2.

    Args:
        network: of a noisy image and its time.
        schedule: the noise, two steps at least; by default the linear one of 1000 steps.
        predictor: what the network estimates, v or the noise.
        levels: number of gray levels.

    Raises:
        ValueError: if the schedule has one step, or `levels` is below 2.

    Source: Ho et al. 2020, section 3.2, and their code for the likelihood. Book: chapter 10.
    """
    checks.instance(UNet, network=network)
    checks.function(predictor=predictor)
    schedule = linear_schedule(1000) if schedule is None else schedule
    checks.instance(Schedule, schedule=schedule)
    checks.at_least(2, levels=levels, **{"number of steps of the schedule": schedule.num_steps})
    return Ddpm(
        predictor(network, schedule),
        schedule,
        network.image_shape,
        schedule.beta,
        schedule.posterior_var[2],
        partial(DiscretizedNormal, levels=levels),
    )
