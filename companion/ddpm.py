"""Denoising diffusion models: a chain of latents as large as the data, whose inference model is fixed.

Only a denoiser is learned. It estimates x_0 from x_t, and a step of generation is
q(x_{t-1}|x_t, x_0) with the estimate in place of x_0. The bound is that of every chain of
latents, `companion.elbo.elbo_terms`. Since q(x_t|x_0) has a closed form, one random term
of its sum is enough for training.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributions import Distribution, Independent, kl_divergence

from companion.denoisers import Denoiser, NoisePredictor, VPredictor, estimate
from companion.distributions import DiscretizedNormal, diagonal_normal
from companion.elbo import LatentChain
from companion.networks.unet import UNet
from companion.schedule import (
    Schedule,
    add_noise,
    linear_schedule,
    mean_from_x_0,
    noise_from_x_0,
    per_example,
    v_from_x_0,
)
from companion.variances import check_reverse_var

Likelihood = Callable[[Tensor, Tensor], Distribution]
"""`likelihood(mean, std)`, such as `diagonal_normal` or `DiscretizedNormal`."""


class Ddpm(LatentChain):
    """Latents x_1, ..., x_T; q adds noise, and p takes it away with a denoiser's help.

    p(x_T) = N(0, I) and p(x_{t-1}|x_t) = N(mu_tilde_t(x_t, x_hat), sigma_t^2 I), where
    x_hat = denoiser(x_t, t). The last step, p(x|x_1), is likelihood(x_hat, sigma_1).

    Args:
        denoiser: estimates x_0; t is what `schedule.times` says.
        schedule: the noise.
        x_shape: shape of one example, scaled to [-1, 1] or to a variance near 1.
        reverse_var: sigma_t^2 at entry t, such as `schedule.beta`; of shape (T + 1,) or
            (T + 1, *x_shape). Entry 0 is not used. Entry 1 is the likelihood's, for
            which `schedule.posterior_var` will not do: it is 0 there.
        likelihood: `diagonal_normal` for a density, `DiscretizedNormal` for the
            probability of 8-bit pictures on [-1, 1].

    Raises:
        ValueError: if `reverse_var` has another shape, or is not positive and finite
            from entry 1 on; from methods, if x or the denoiser's output has another
            shape, or t is outside its range.

    Source: Sohl-Dickstein et al. 2015; Ho et al. 2020, section 2.
    """

    x_shape: tuple[int, ...]
    reverse_var: Tensor

    def __init__(
        self,
        denoiser: Denoiser,
        schedule: Schedule,
        x_shape: tuple[int, ...],
        reverse_var: Float[Tensor, "times *shape"],
        likelihood: Likelihood = diagonal_normal,
    ) -> None:
        check_reverse_var(reverse_var, schedule.num_steps, tuple(x_shape))
        super().__init__(tuple(x_shape), schedule.num_steps, tuple(x_shape))
        self.denoiser, self.schedule, self.observation = denoiser, schedule, likelihood
        # Trained weights serve with any variances: these are no part of them.
        reverse_var = reverse_var.detach().clone()
        self.register_buffer("reverse_var", reverse_var, persistent=False)

    def marginal(
        self, t: int | Int[Tensor, "batch"], x: Float[Tensor, "batch *x_shape"]
    ) -> Independent:
        """q(x_t | x)."""
        self._check_data(x)
        signal, var = self.schedule.kernel(0, self._times(t, x))
        return diagonal_normal(per_example(signal, x) * x, per_example(var.sqrt(), x))

    def posterior(self, x: Float[Tensor, "batch *x_shape"]) -> Independent:
        """q(x_T | x)."""
        return self.marginal(self.num_latents, x)

    def likelihood(self, z_1: Float[Tensor, "batch *x_shape"]) -> Distribution:
        """p(x | x_1)."""
        return self.reconstruction(self.denoise(z_1, 1))

    def inner_posterior(
        self,
        t: int | Int[Tensor, "batch"],
        z_above: Float[Tensor, "batch *x_shape"],
        x: Float[Tensor, "batch *x_shape"],
    ) -> Independent:
        """q(x_t | x_{t+1}, x)."""
        self._check_data(x)
        above = self._times(t, z_above) + 1
        mean = mean_from_x_0(self.schedule, z_above, above, x)
        std = self.schedule.posterior(above).var.sqrt()
        return diagonal_normal(mean, per_example(std, mean))

    def inner_prior(
        self, t: int | Int[Tensor, "batch"], z_above: Float[Tensor, "batch *x_shape"]
    ) -> Independent:
        """p(x_t | x_{t+1})."""
        above = self._times(t, z_above) + 1
        return self.reverse_step(above, z_above, self.denoise(z_above, above))

    def denoise(
        self,
        x_t: Float[Tensor, "batch *x_shape"],
        t: int | Int[Tensor, "batch"],
        *condition: Tensor,
    ) -> Float[Tensor, "batch *x_shape"]:
        """The denoiser's estimate of x_0; it is told the condition, such as a label."""
        self.schedule.check_times(t)
        told = self.schedule.times[self._times(t, x_t)]
        return estimate(self.denoiser, x_t, told, *condition).to(self.origin)

    def reverse_step(
        self,
        t: Int[Tensor, "batch"],
        x_t: Float[Tensor, "batch *x_shape"],
        x_hat: Float[Tensor, "batch *x_shape"],
    ) -> Independent:
        """p(x_{t-1} | x_t) for t > 1, from the estimate of x_0."""
        mean = mean_from_x_0(self.schedule, x_t, t, x_hat)
        return diagonal_normal(mean, per_example(self.reverse_var[t].sqrt(), mean))

    def reconstruction(self, x_hat: Float[Tensor, "batch *x_shape"]) -> Distribution:
        """p(x | x_1), from the estimate of x_0."""
        return self.observation(x_hat, self.reverse_var[1].sqrt().to(x_hat))

    def _times(self, t: int | Tensor, x: Tensor) -> Int[Tensor, "batch"]:
        """One time for each example."""
        return torch.as_tensor(t, device=x.device).expand(len(x))

    def _check_data(self, x: Tensor) -> None:
        if x.shape[1:] != self.x_shape:
            accepted = ", ".join(map(str, ["batch", *self.x_shape]))
            raise ValueError(f"x must have shape ({accepted}); {tuple(x.shape)} was given")


def elbo_step(
    model: Ddpm,
    x: Float[Tensor, "batch *x_shape"],
    t: Int[Tensor, "batch"],
    noise: Float[Tensor, "batch *x_shape"],
) -> Float[Tensor, "batch"]:
    """The term of the bound that belongs to step t, at the x_t which this noise makes.

    In nats: minus the divergence of p(x_{t-1}|x_t) from q(x_{t-1}|x_t, x), and for
    t = 1 log p(x|x_1). For standard normal noise, the sum over t = 1..T, less the
    divergence of the prior, has the bound as its mean.

    Raises:
        ValueError: if x has another shape than the model's data, or t is outside 1..T.

    Source: Ho et al. 2020, eq. 5.
    """
    model._check_data(x)
    x_t = add_noise(model.schedule, x, t, noise)
    x_hat = model.denoise(x_t, t)
    term, last, rest = x_hat.new_empty(len(x)), t == 1, t > 1
    if bool(last.any()):  # torch's distributions sum no empty batch
        term[last] = model.reconstruction(x_hat[last]).log_prob(x[last])
    if bool(rest.any()):
        q = model.inner_posterior(t[rest] - 1, x_t[rest], x[rest])
        p = model.reverse_step(t[rest], x_t[rest], x_hat[rest])
        term[rest] = -kl_divergence(q, p)
    return term


def single_step_elbo(
    model: Ddpm,
    x: Float[Tensor, "batch *x_shape"],
    time_weights: Float[Tensor, "times"] | None = None,
) -> Float[Tensor, "batch"]:
    """Estimate the bound from one random step per example, one call of the denoiser.

    A term drawn with probability p(t), over p(t), has the sum of the terms as its mean.
    It is as unbiased as `elbo_terms`, costs a T-th of it, and varies much more; less
    where p(t) is large for large terms.

    Args:
        model: its marginals q(x_t|x) have a closed form.
        x: a batch of data.
        time_weights: p(t) up to a factor, entry t for time t = 1..T and entry 0 unused;
            by default all alike.

    Returns:
        Nats per example; higher is better.

    Raises:
        ValueError: if `time_weights` has no T + 1 entries, or one from entry 1 on is
            not positive and finite.

    Source: Ho et al. 2020, section 3.4; Kingma et al. 2021, section 4; times that are
        not alike: Nichol & Dhariwal 2021, section 3.3.
    """
    T = model.num_latents
    weights = torch.ones(T + 1) if time_weights is None else time_weights
    _check_time_weights(weights, T)
    p = (weights[1:] / weights[1:].sum()).to(x)
    t = torch.multinomial(p, len(x), replacement=True) + 1
    terms = elbo_step(model, x, t, torch.randn_like(x)) / p[t - 1]
    return terms - kl_divergence(model.posterior(x), model.prior(len(x)))


def noise_prediction_loss(
    model: Ddpm, x: Float[Tensor, "batch *x_shape"], *condition: Tensor
) -> Float[Tensor, "batch"]:
    """L_simple: squared error of the noise at a random time, summed over dimensions.

    All times weigh alike. The bound weighs them by `bound_weights(...).noise`.

    Args:
        model: any denoiser will do; its estimate of x_0 is read as one of the noise.
        x: a batch of data.
        condition: what the denoiser is told beside x_t and t, such as labels.

    Source: Ho et al. 2020, eq. 14.
    """
    t, noise, x_t = _at_random_time(model, x)
    x_hat = model.denoise(x_t, t, *condition)
    noise_hat = noise_from_x_0(model.schedule, x_t, t, x_hat)
    return (noise - noise_hat).square().flatten(1).sum(1)


def v_prediction_loss(
    model: Ddpm, x: Float[Tensor, "batch *x_shape"], *condition: Tensor
) -> Float[Tensor, "batch"]:
    """Squared error of v at a random time, summed over dimensions.

    It is that of the noise over alpha_bar_t: the same at small t, and one of the data
    at large t, where x_t is nearly the noise itself.

    Args:
        model: any denoiser will do; its estimate of x_0 is read as one of v.
        x: a batch of data.
        condition: what the denoiser is told beside x_t and t, such as labels.

    Source: Salimans & Ho 2022, section 4.
    """
    t, _, x_t = _at_random_time(model, x)
    x_hat = model.denoise(x_t, t, *condition)
    v, v_hat = (v_from_x_0(model.schedule, x_t, t, x_0) for x_0 in (x, x_hat))
    return (v - v_hat).square().flatten(1).sum(1)


@torch.no_grad()
def noise_errors(
    model: Ddpm, x: Float[Tensor, "batch *x_shape"], times: Sequence[int] | Int[Tensor, "times"]
) -> Float[Tensor, "times batch"]:
    """Squared error of the estimated noise at chosen times, for each example.

    It is a mean over dimensions, at one fresh noise for each time and example, so that
    its mean over examples compares with `linear_noise_error(...).mean(1)`.

    Args:
        model: its estimate of x_0 is read as one of the noise.
        x: a batch of data.
        times: any of 1..T.

    Raises:
        ValueError: if x has another shape than the model's data, or a time is outside
            1..T.
    """
    model._check_data(x)
    chosen = torch.as_tensor(times, device=x.device)
    model.schedule.check_times(chosen, "times")
    errors = []
    for t in chosen:
        at_t, noise = t.expand(len(x)), torch.randn_like(x)
        x_t = add_noise(model.schedule, x, at_t, noise)
        x_hat = model.denoise(x_t, at_t)
        noise_hat = noise_from_x_0(model.schedule, x_t, at_t, x_hat)
        errors.append((noise - noise_hat).square().flatten(1).mean(1))
    return torch.stack(errors)


def image_ddpm(
    network: UNet,
    schedule: Schedule | None = None,
    predictor: type[NoisePredictor] = VPredictor,
    levels: int = 256,
) -> Ddpm:
    """Return a `Ddpm` of pictures whose gray levels are spaced evenly on [-1, 1].

    Its variances are beta_t. That of the likelihood, which beta_1 would make too large,
    is beta_tilde_2.

    Args:
        network: of a noisy picture and its time.
        schedule: the noise; by default the linear one of 1000 steps.
        predictor: what the network estimates, v or the noise.
        levels: number of gray levels.

    Source: Ho et al. 2020, section 3.2, and their code for the likelihood.
    """
    schedule = linear_schedule(1000) if schedule is None else schedule
    reverse_var = schedule.beta
    reverse_var[1] = schedule.posterior_var[2]
    denoiser = predictor(network, schedule)
    likelihood = partial(DiscretizedNormal, levels=levels)
    return Ddpm(denoiser, schedule, network.image_shape, reverse_var, likelihood)


def _at_random_time(model: Ddpm, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A time for each example, noise, and the x_t they make."""
    model._check_data(x)
    t = torch.randint(1, model.num_latents + 1, (len(x),), device=x.device)
    noise = torch.randn_like(x)
    return t, noise, add_noise(model.schedule, x, t, noise)


def _check_time_weights(weights: Tensor, T: int) -> None:
    used = weights[1:]
    if weights.shape != (T + 1,) or not bool(((used > 0) & (used < math.inf)).all()):
        raise ValueError(
            f"time_weights must have shape {(T + 1,)} and be positive and finite from "
            f"entry 1 on; shape {tuple(weights.shape)} was given"
        )
