"""Denoising diffusion models: a chain of latents as large as the data, whose inference model is fixed.

Only a denoiser is learned. It estimates x_0 from x_t, and a step of generation is
q(x_{t-1}|x_t, x_0) with the estimate in place of x_0. The bound is that of every chain of
latents, `companion.elbo.elbo_terms`. Since q(x_t|x_0) has a closed form, one random term
of its sum is enough for training.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, kl_divergence

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
    x_0_from_noise,
    x_0_from_v,
)

Denoiser = Callable[..., Tensor]
"""`denoiser(x_t, t) -> x_hat`: estimate of x_0; t holds one integer per example."""

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

    origin: Tensor
    reverse_var: Tensor

    def __init__(
        self,
        denoiser: Denoiser,
        schedule: Schedule,
        x_shape: tuple[int, ...],
        reverse_var: Float[Tensor, "times *shape"],
        likelihood: Likelihood = diagonal_normal,
    ) -> None:
        _check_reverse_var(reverse_var, schedule.num_steps, tuple(x_shape))
        super().__init__()
        self.denoiser, self.schedule, self.observation = denoiser, schedule, likelihood
        self.num_latents, self.x_shape = schedule.num_steps, tuple(x_shape)
        # Trained weights serve with any variances: these are no part of them.
        reverse_var = reverse_var.detach().clone()
        self.register_buffer("reverse_var", reverse_var, persistent=False)
        # It knows the model's device and precision, and is no part of the weights.
        self.register_buffer("origin", torch.zeros(x_shape), persistent=False)

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

    def prior(self, num: int) -> Independent:
        """p(x_T)."""
        return diagonal_normal(self.origin.expand(num, *self.x_shape), 1.0)

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
            raise ValueError(
                f"x must have shape ({accepted}); {tuple(x.shape)} was given"
            )


def estimate(
    denoiser: Denoiser,
    x_t: Float[Tensor, "batch *x_shape"],
    t: Int[Tensor, "batch"],
    *condition: Tensor,
) -> Float[Tensor, "batch *x_shape"]:
    """The denoiser's estimate of x_0, in the precision of x_t.

    Raises:
        ValueError: if it has another shape than x_t.
    """
    x_hat = denoiser(x_t, t, *condition).to(x_t)  # autocast gives bfloat16
    if x_hat.shape != x_t.shape:
        raise ValueError(
            f"denoiser must give the shape of x_t, {tuple(x_t.shape)}; "
            f"it gave {tuple(x_hat.shape)}"
        )
    return x_hat


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
    model: Ddpm,
    x: Float[Tensor, "batch *x_shape"],
    times: Sequence[int] | Int[Tensor, "times"],
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


class NoisePredictor(nn.Module):
    """A denoiser from a network that estimates the noise in x_t.

    Args:
        network: maps x_t, t, one integer per example, and the condition if there is one
            to the shape of x_t.
        schedule: that of the whole chain, also where a sampler skips times.
    """

    to_x_0: Callable[..., Tensor] = staticmethod(x_0_from_noise)

    def __init__(self, network: nn.Module, schedule: Schedule) -> None:
        super().__init__()
        self.network, self.schedule = network, schedule

    def forward(
        self,
        x_t: Float[Tensor, "batch *x_shape"],
        t: Int[Tensor, "batch"],
        *condition: Tensor,
    ) -> Float[Tensor, "batch *x_shape"]:
        """The estimate of x_0."""
        return self.to_x_0(self.schedule, x_t, t, self.network(x_t, t, *condition))


class VPredictor(NoisePredictor):
    """A denoiser from a network that estimates v, which has one size at all times.

    Source: Salimans & Ho 2022, section 4.
    """

    to_x_0 = staticmethod(x_0_from_v)


class BoundWeights(NamedTuple):
    """What a squared error of each estimate costs in the bound, in nats, by t."""

    x_0: Float[Tensor, "times *shape"]
    noise: Float[Tensor, "times *shape"]
    v: Float[Tensor, "times *shape"]
    score: Float[Tensor, "times *shape"]
    mean: Float[Tensor, "times *shape"]


def bound_weights(
    schedule: Schedule, reverse_var: Float[Tensor, "times *shape"]
) -> BoundWeights:
    """Weights of the squared errors in the bound of a `Ddpm` with Gaussian likelihood.

    A step costs ||mu_tilde_t - mean||^2 / (2 sigma_t^2) beside what the variances cost.
    An error of x_0 is of_x_0 times as large in the mean; one of the noise, of v or of
    the score is a fixed multiple of one of x_0. Entry 0 is 0: no step belongs to it.

    Args:
        schedule: the noise.
        reverse_var: sigma_t^2 at entry t, as in `Ddpm`.

    Source: Ho et al. 2020, eqs. 8, 12; x_0 and v: Salimans & Ho 2022, section 4.
    """
    _check_reverse_var(reverse_var, schedule.num_steps, tuple(reverse_var.shape[1:]))
    mean = 1 / (2 * reverse_var[1:])
    of_x_0 = schedule.posterior(schedule.steps).of_x_0
    x_0 = per_example(of_x_0.square(), mean) * mean
    var = per_example(schedule.noise_var[1:], mean)
    snr = per_example(schedule.snr[1:], mean)
    weights = (x_0, x_0 / snr, x_0 * var, x_0 * var / snr, mean)
    return BoundWeights(*map(_from_step_1, weights))


def linear_noise_error(
    schedule: Schedule, eigenvalues: Float[Tensor, "dim"]
) -> Float[Tensor, "times dim"]:
    """Least squared error of the noise that an estimate linear in x_t can reach.

    It is alpha_bar_t lambda / (alpha_bar_t lambda + 1 - alpha_bar_t) along each
    eigenvector of the data's covariance. For normal data no estimate is better; for
    others a network should be. The mean over the last dimension is the error per
    dimension of x. Entry 0 is 0.

    Raises:
        ValueError: if an eigenvalue is negative or not finite.
    """
    if not bool(((eigenvalues >= 0) & eigenvalues.isfinite()).all()):
        raise ValueError(
            "eigenvalues must be finite and not negative; "
            f"their smallest value is {eigenvalues.min():.4g}"
        )
    log_snr = schedule.log_snr[1:, None].to(eigenvalues)
    return _from_step_1(torch.sigmoid(log_snr + eigenvalues.log()))


def optimal_reverse_var(
    schedule: Schedule, noise_error: Float[Tensor, "times *shape"]
) -> Float[Tensor, "times *shape"]:
    """The variances that make the bound of a denoiser as large as it can be.

    sigma_t^2 = beta_tilde_t + beta_t^2 / (alpha_t (1 - alpha_bar_t)) noise_error_t: the
    variance if x_0 were known, and the error of the estimate. Entry 0 is 0.

    Args:
        schedule: the noise.
        noise_error: mean squared error of the estimated noise, per dimension, entry t
            for time t; of shape (T + 1,), or (T + 1, *x_shape) for each dimension.

    Raises:
        ValueError: if `noise_error` has no T + 1 entries.

    Source: Bao et al. 2022, theorem 1.
    """
    if noise_error.dim() < 1 or len(noise_error) != schedule.num_steps + 1:
        raise ValueError(
            f"noise_error must have {schedule.num_steps + 1} entries; "
            f"shape {tuple(noise_error.shape)} was given"
        )
    q, error = schedule.posterior(schedule.steps), noise_error[1:]
    factor = per_example(q.of_x_0.square() / schedule.snr[1:], error)
    return _from_step_1(per_example(q.var, error) + factor * error)


class MixtureDenoiser(nn.Module):
    """The exact denoiser E[x_0|x_t] where the data are a mixture of normals.

    Args:
        schedule: the noise.
        weights: probabilities of the components.
        means: their means.
        covs: their covariances, of the flattened data.

    Raises:
        ValueError: if the weights are not positive or do not add up to 1, the sizes do
            not fit together, or a covariance is not symmetric positive semi-definite.
    """

    log_weights: Tensor
    means: Tensor
    eigenvalues: Tensor
    eigenvectors: Tensor

    def __init__(
        self,
        schedule: Schedule,
        weights: Float[Tensor, "components"],
        means: Float[Tensor, "components *x_shape"],
        covs: Float[Tensor, "components dim dim"],
    ) -> None:
        means = means.flatten(1)
        _check_mixture(weights, means, covs)
        super().__init__()
        self.schedule = schedule
        eigenvalues, eigenvectors = spectrum(covs, "covs")
        # None of it is learned, so that none of it belongs to the weights.
        for name, value in (
            ("log_weights", weights.log()),
            ("means", means),
            ("eigenvalues", eigenvalues),
            ("eigenvectors", eigenvectors),
        ):
            self.register_buffer(name, value, persistent=False)

    def forward(
        self, x_t: Float[Tensor, "batch *x_shape"], t: Int[Tensor, "batch"]
    ) -> Float[Tensor, "batch *x_shape"]:
        """E[x_0 | x_t]: the components' estimates, weighted by how likely each is."""
        x = x_t.flatten(1).to(self.means)[:, None]
        signal, noise_var = (per_example(c, x) for c in self.schedule.kernel(0, t))
        # Along the eigenvectors of each component: (batch, components, dim).
        offset = torch.einsum(
            "bkd,kde->bke", x - signal * self.means, self.eigenvectors
        )
        var = signal**2 * self.eigenvalues + noise_var
        fit = -(var.log() + offset.square() / var).sum(2) / 2
        shrunk = signal * self.eigenvalues / var * offset
        x_hat = self.means + torch.einsum("bke,kde->bkd", shrunk, self.eigenvectors)
        share = torch.softmax(self.log_weights + fit, dim=1)
        return torch.einsum("bk,bkd->bd", share, x_hat).view_as(x_t).to(x_t)


def spectrum(
    cov: Float[Tensor, "*batch dim dim"], name: str = "cov"
) -> tuple[Float[Tensor, "*batch dim"], Float[Tensor, "*batch dim dim"]]:
    """Eigenvalues of a covariance in rising order, and its eigenvectors as columns.

    Args:
        cov: one or more covariances; an eigenvalue that rounding made negative is 0.
        name: what an error calls it.

    Raises:
        ValueError: if it is not symmetric positive semi-definite.
    """
    asymmetry = (cov - cov.mT).abs().max()
    if not asymmetry <= 1e-5 * cov.abs().max():
        raise ValueError(
            f"{name} must be symmetric; entries differ by up to {asymmetry:.4g}"
        )
    eigenvalues, eigenvectors = torch.linalg.eigh(cov)
    low, high = eigenvalues.aminmax()
    if not low >= -1e-5 * high:
        raise ValueError(
            f"{name} must be positive semi-definite; "
            f"the smallest eigenvalue is {low:.4g}"
        )
    return eigenvalues.clamp(min=0), eigenvectors


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


def gaussian_denoiser(
    schedule: Schedule, mean: Float[Tensor, "*x_shape"], cov: Float[Tensor, "dim dim"]
) -> MixtureDenoiser:
    """Return the exact denoiser for data N(mean, cov); it is linear in x_t."""
    return MixtureDenoiser(schedule, mean.new_ones(1), mean[None], cov[None])


def _at_random_time(model: Ddpm, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """A time for each example, noise, and the x_t they make."""
    model._check_data(x)
    t = torch.randint(1, model.num_latents + 1, (len(x),), device=x.device)
    noise = torch.randn_like(x)
    return t, noise, add_noise(model.schedule, x, t, noise)


def _from_step_1(values: Tensor) -> Tensor:
    """Values for t = 1..T with a zero in front, so that the index is t."""
    return torch.cat([torch.zeros_like(values[:1]), values])


def _check_reverse_var(values: Tensor, T: int, x_shape: tuple[int, ...]) -> None:
    if values.shape not in ((T + 1,), (T + 1, *x_shape)):
        raise ValueError(
            f"reverse_var must have shape {(T + 1,)} or {(T + 1, *x_shape)}; "
            f"{tuple(values.shape)} was given"
        )
    bad = ~((values > 0) & (values < math.inf))
    bad[0] = False
    if bool(bad.any()):
        index = bad.nonzero()[0].tolist()
        raise ValueError(
            "reverse_var must be positive and finite from entry 1 on; "
            f"{values[tuple(index)]:.4g} was given at t = {index[0]}"
        )


def _check_time_weights(weights: Tensor, T: int) -> None:
    used = weights[1:]
    if weights.shape != (T + 1,) or not bool(((used > 0) & (used < math.inf)).all()):
        raise ValueError(
            f"time_weights must have shape {(T + 1,)} and be positive and finite from "
            f"entry 1 on; shape {tuple(weights.shape)} was given"
        )


def _check_mixture(weights: Tensor, means: Tensor, covs: Tensor) -> None:
    num, dim = means.shape
    if weights.shape != (num,) or covs.shape != (num, dim, dim):
        raise ValueError(
            f"weights and covs must fit {num} means of {dim} dimensions; "
            f"shapes {tuple(weights.shape)} and {tuple(covs.shape)} were given"
        )
    if not (bool((weights > 0).all()) and abs(weights.sum().item() - 1) < 1e-5):
        raise ValueError(
            f"weights must be positive and add up to 1; {weights.tolist()} was given"
        )
