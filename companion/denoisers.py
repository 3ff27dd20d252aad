"""Denoisers, which estimate x_0 from x_t: those made of a network, and the exact ones of Gaussians and mixtures."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from companion.schedule import Schedule, per_example, x_0_from_noise, x_0_from_v

Denoiser = Callable[..., Tensor]
"""`denoiser(x_t, t) -> x_hat`: estimate of x_0; t holds one integer per example."""


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
            f"denoiser must give the shape of x_t, {tuple(x_t.shape)}; it gave {tuple(x_hat.shape)}"
        )
    return x_hat


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
        self, x_t: Float[Tensor, "batch *x_shape"], t: Int[Tensor, "batch"], *condition: Tensor
    ) -> Float[Tensor, "batch *x_shape"]:
        """The estimate of x_0."""
        return self.to_x_0(self.schedule, x_t, t, self.network(x_t, t, *condition))


class VPredictor(NoisePredictor):
    """A denoiser from a network that estimates v, which has one size at all times.

    Source: Salimans & Ho 2022, section 4.
    """

    to_x_0 = staticmethod(x_0_from_v)


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
        offset = torch.einsum("bkd,kde->bke", x - signal * self.means, self.eigenvectors)
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
        raise ValueError(f"{name} must be symmetric; entries differ by up to {asymmetry:.4g}")
    eigenvalues, eigenvectors = torch.linalg.eigh(cov)
    low, high = eigenvalues.aminmax()
    if not low >= -1e-5 * high:
        raise ValueError(
            f"{name} must be positive semi-definite; the smallest eigenvalue is {low:.4g}"
        )
    return eigenvalues.clamp(min=0), eigenvectors


def gaussian_denoiser(
    schedule: Schedule, mean: Float[Tensor, "*x_shape"], cov: Float[Tensor, "dim dim"]
) -> MixtureDenoiser:
    """Return the exact denoiser for data N(mean, cov); it is linear in x_t."""
    return MixtureDenoiser(schedule, mean.new_ones(1), mean[None], cov[None])


def _check_mixture(weights: Tensor, means: Tensor, covs: Tensor) -> None:
    num, dim = means.shape
    if weights.shape != (num,) or covs.shape != (num, dim, dim):
        raise ValueError(
            f"weights and covs must fit {num} means of {dim} dimensions; "
            f"shapes {tuple(weights.shape)} and {tuple(covs.shape)} were given"
        )
    if not (bool((weights > 0).all()) and abs(weights.sum().item() - 1) < 1e-5):
        raise ValueError(f"weights must be positive and add up to 1; {weights.tolist()} was given")
