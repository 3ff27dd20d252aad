"""Denoisers, which estimate x_0 from x_t: those made of a network, and the exact ones of Gaussians and mixtures."""

import math
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from companion import checks
from companion.schedule import Batch, Schedule, per_example, x_0_from_noise, x_0_from_v


@runtime_checkable
class Denoiser(Protocol):
    """Estimates x_0 from x_t and t, one integer per example, and a condition if there is one.

    Book: chapter 9.
    """

    def __call__(self, x_t: Tensor, t: Tensor, /, *condition: Tensor) -> Tensor:
        """The estimate, of the shape of x_t."""


def denoised(denoiser: Denoiser, x_t: Batch, t: Int[Tensor, "batch"], *condition: Tensor) -> Batch:
    """The denoiser's estimate of x_0, in the precision of x_t.

    Raises:
        TypeError: if it is no tensor, or it or x_t has integers.
        ValueError: if it has another shape than x_t.

    Book: chapter 9.
    """
    checks.floating(x_t=x_t)
    x_hat = denoiser(x_t, t, *condition)
    checks.floating(**{"the denoiser's estimate": x_hat})
    checks.shape(tuple(x_t.shape), **{"the denoiser's estimate": x_hat})
    return x_hat.to(x_t)  # autocast gives bfloat16


def check_times_of(denoiser: Denoiser, schedule: Schedule) -> None:
    """Refuse a denoiser that was made for other noise at the times which it is given.

    Raises:
        ValueError: if it has a schedule of its own, and that has other noise there, or fewer times.

    Book: chapter 11.
    """
    own = getattr(denoiser, "schedule", None)
    if not isinstance(own, Schedule) or not checks.has_values(own.log_alpha_bar):
        return
    own.check_times(schedule.times, "schedule.times", 0)
    theirs, ours = own.log_alpha_bar[schedule.times.to(own.times.device)], schedule.log_alpha_bar
    if not torch.allclose(theirs, ours.to(theirs), rtol=1e-4, atol=1e-6):
        raise ValueError(
            "schedule must have the noise of the denoiser's own at its times; another was given"
        )


def made_of(denoiser: Denoiser, made: Denoiser) -> Denoiser:
    """What is made of a denoiser, which serves the same noise only.

    Book: chapter 13.
    """
    vars(made)["schedule"] = getattr(denoiser, "schedule", None)
    return made


class NoisePredictor(nn.Module):
    """A denoiser from a network that estimates the noise in x_t.

    Args:
        network: maps x_t, t, one integer per example, and the condition if there is one
            to the shape of x_t.
        schedule: that of the whole chain, also where a sampler skips times.

    Book: chapter 12.
    """

    to_x_0: Callable[..., Tensor] = staticmethod(x_0_from_noise)

    def __init__(self, network: nn.Module, schedule: Schedule) -> None:
        checks.function(network=network)
        checks.instance(Schedule, schedule=schedule)
        super().__init__()
        self.network, self.schedule = network, schedule

    def forward(self, x_t: Batch, t: Int[Tensor, "batch"], *condition: Tensor) -> Batch:
        """The estimate of x_0."""
        return self.to_x_0(self.schedule, x_t, t, self.network(x_t, t, *condition))


class VPredictor(NoisePredictor):
    """A denoiser from a network that estimates v, which has one size at all times.

    Source: Salimans & Ho 2022, section 4. Book: chapter 10.
    """

    to_x_0 = staticmethod(x_0_from_v)


class MixtureDenoiser(nn.Module):
    """The exact denoiser E[x_0|x_t] where the data are a mixture of Gaussians, and their score.

    Args:
        schedule: the noise.
        weights: probabilities of the components.
        means: their means.
        covs: their covariances, of the flattened data.

    Raises:
        TypeError: if one is not floating-point.
        ValueError: if the weights are not positive or do not add up to 1, the sizes do
            not fit together, a mean is not finite, or a covariance is not symmetric
            positive semi-definite; from calls, if x has another size.

    Book: chapter 9.
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
        checks.instance(Schedule, schedule=schedule)
        checks.batch(2, means=means)
        checks.precise(means=means)
        means = means.flatten(1)
        checks.shape((len(means),), weights=weights)
        checks.shape((len(means), means.shape[1], means.shape[1]), covs=covs)
        checks.floating(weights=weights, covs=covs)
        weights, covs = weights.to(means), covs.to(means)
        if not (bool((weights > 0).all()) and abs(weights.sum().item() - 1) < 1e-5):
            raise ValueError(
                f"weights must be positive and add up to 1; {weights.tolist()} was given"
            )
        super().__init__()
        self.schedule = schedule
        eigenvalues, eigenvectors = spectrum(covs, "covs")
        # None of it is learned, so that none of it belongs to the weights.
        self.register_buffer("log_weights", weights.log(), persistent=False)
        self.register_buffer("means", means, persistent=False)
        self.register_buffer("eigenvalues", eigenvalues, persistent=False)
        self.register_buffer("eigenvectors", eigenvectors, persistent=False)

    def forward(self, x_t: Batch, t: Int[Tensor, "batch"]) -> Batch:
        """E[x_0 | x_t]: the components' estimates, weighted by their probabilities given x_t."""
        checks.floating(x_t=x_t)
        checks.examples(2, x_t=x_t)
        checks.shape((len(x_t),), t=t)
        self.schedule.check_times(t)
        probs, minus_score, signal = self._components(x_t, self.schedule.log_alpha_bar[t])
        step = torch.einsum(
            "bke,kde->bkd", signal * self.eigenvalues * minus_score, self.eigenvectors
        )
        return torch.einsum("bk,bkd->bd", probs, self.means + step).view_as(x_t).to(x_t)

    def score_at_level(self, x: Batch, log_alpha_bar: Float[Tensor, ""]) -> Batch:
        """Gradient of the log-density of x_t, at any level of noise; 0 is the data."""
        checks.floating(x=x, log_alpha_bar=log_alpha_bar)
        checks.examples(2, x=x)
        checks.shape((), log_alpha_bar=log_alpha_bar)
        checks.within(-math.inf, 0, log_alpha_bar=log_alpha_bar)
        if checks.has_values(log_alpha_bar) and log_alpha_bar == 0 and not self.eigenvalues.all():
            raise ValueError("log_alpha_bar must be below 0 for a singular covariance; 0 was given")
        probs, minus_score, _ = self._components(x, log_alpha_bar.expand(len(x)))
        return (
            -torch.einsum("bk,bke,kde->bd", probs, minus_score, self.eigenvectors).view_as(x).to(x)
        )

    def _components(self, x_t: Tensor, log_alpha_bar: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Of each component: its probability given x_t, and minus its score along its axes."""
        x = x_t.flatten(1).to(self.means)
        checks.shape((len(x), self.means.shape[1]), x_t=x)
        x = x[:, None]
        signal, noise_var = (log_alpha_bar / 2).exp(), -log_alpha_bar.expm1()
        signal, noise_var = per_example(signal, x), per_example(noise_var, x)
        # Along the eigenvectors of each component: (batch, components, dim).
        offset = torch.einsum("bkd,kde->bke", x - signal * self.means, self.eigenvectors)
        var = signal**2 * self.eigenvalues + noise_var
        log_density = -(var.log() + offset.square() / var).sum(2) / 2  # up to a constant
        return torch.softmax(self.log_weights + log_density, dim=1), offset / var, signal


def gaussian_denoiser(
    schedule: Schedule, mean: Float[Tensor, "*x_shape"], cov: Float[Tensor, "dim dim"]
) -> MixtureDenoiser:
    """Return the exact denoiser for data N(mean, cov); it is affine in x_t. Book: chapter 9."""
    checks.floating(mean=mean, covs=cov)
    return MixtureDenoiser(schedule, mean.new_ones(1), mean[None], cov[None])


def spectrum(
    cov: Float[Tensor, "*batch dim dim"], name: str = "cov"
) -> tuple[Float[Tensor, "*batch dim"], Float[Tensor, "*batch dim dim"]]:
    """Eigenvalues of a covariance in rising order, and its eigenvectors as columns.

    Args:
        cov: one or more covariances; an eigenvalue that rounding made negative is 0.
        name: what an error calls it.

    Raises:
        ValueError: if it is not square, symmetric and positive semi-definite.

    Book: chapter 9.
    """
    checks.precise(**{name: cov})
    checks.at_least(1, **{f"entries of {name}": cov.numel()})
    square = (*cov.shape[:-1], cov.shape[-2]) if cov.dim() > 1 else ("dim", "dim")
    checks.shape(square, **{name: cov})
    asymmetry = (cov - cov.mT).abs().max()
    if not asymmetry <= 1e-5 * cov.abs().max():
        raise ValueError(f"{name} must be symmetric; entries differ by up to {asymmetry:.4g}")
    eigenvalues, eigenvectors = torch.linalg.eigh(cov)
    low, high = eigenvalues.aminmax()
    if not low >= -1e-5 * high:
        raise ValueError(
            f"{name} must be positive semi-definite; the smallest eigenvalue is {low:.4g}"
        )
    return eigenvalues.clamp(min=0), eigenvectors
