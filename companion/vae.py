"""Variational autoencoders: one latent, with any networks and any distribution of the data given it.

The loss that trains them, `companion.elbo.elbo_loss`, is that of every chain of latents.
"""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, LowRankMultivariateNormal, kl_divergence
from torch.nn import functional as F

from companion import checks
from companion.distributions import (
    GaussianLikelihood,
    ObservationModel,
    bernoulli,
    diagonal_normal,
)
from companion.elbo import LatentChain
from companion.networks.conv import conv_decoder, conv_encoder
from companion.networks.mlp import mlp


class Vae(LatentChain):
    """p(z) = N(0, I), p(x|z) = observation_model(decoder(z)), q(z|x) = N(mean, diag(var)).

    Args:
        encoder: maps x to (batch, 2 * latent_dim): the mean, then the log-variance.
        decoder: maps z to what `observation_model` takes.
        observation_model: gives the distribution of x, such as `bernoulli` from log-odds.
        latent_dim: dimensions of z.
        x_shape: shape of one example, if it has to be this one.

    Raises:
        ValueError: if `latent_dim` is below 1; from `posterior`, if the encoder's
            output has another shape.

    Source: Kingma & Welling 2014, section 3. Book: chapter 6.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        observation_model: ObservationModel,
        latent_dim: int,
        x_shape: tuple[int, ...] | None = None,
    ) -> None:
        checks.at_least(1, latent_dim=latent_dim)
        super().__init__((latent_dim,), x_shape=x_shape)
        self.encoder, self.decoder, self.latent_dim = encoder, decoder, latent_dim
        self.observation_model = observation_model

    def posterior(self, x: Float[Tensor, "batch *x_shape"]) -> Independent:
        """q(z | x)."""
        if self.x_shape is not None:
            checks.shape(("batch", *self.x_shape), x=x)
        checks.precision(self, x=x)
        code = self.encoder(x).to(self.origin)  # autocast gives bfloat16
        checks.shape((len(x), 2 * self.latent_dim), **{"encoder(x)": code})
        mean, log_var = code.chunk(2, dim=1)
        return diagonal_normal(mean, torch.exp(log_var / 2))

    def likelihood(self, z: Float[Tensor, "batch latent_dim"]) -> Distribution:
        """p(x | z)."""
        checks.shape(("batch", self.latent_dim), z=z)
        checks.precision(self, z=z)
        return self.observation_model(self.decoder(z).to(self.origin))


def mlp_vae(
    latent_dim: int = 50,
    hidden: Sequence[int] = (200, 200),
    activation: Callable[[], nn.Module] = nn.Tanh,
    image_shape: tuple[int, int, int] = (1, 28, 28),
    observation_model: ObservationModel = bernoulli,
) -> Vae:
    """Return a VAE of two perceptrons; by default the network of Burda et al. 2016.

    Args:
        latent_dim: dimensions of z.
        hidden: widths of the encoder's hidden layers; the decoder mirrors them.
        activation: between the layers.
        image_shape: channels, height, width.
        observation_model: takes the decoder's output, of that shape.

    Raises:
        TypeError: if `latent_dim` is no integer.
        ValueError: if a size is below 1.

    Book: chapter 4.
    """
    checks.at_least(1, latent_dim=latent_dim)
    checks.function(observation_model=observation_model)
    checks.sizes(0, hidden=hidden)
    checks.sizes(3, image_shape=image_shape)
    dim = math.prod(image_shape)
    encoder = nn.Sequential(nn.Flatten(), mlp([dim, *hidden, 2 * latent_dim], activation))
    decoder = mlp([latent_dim, *reversed(hidden), dim], activation)
    decoder = nn.Sequential(decoder, nn.Unflatten(1, image_shape))
    return Vae(encoder, decoder, observation_model, latent_dim, image_shape)


def conv_vae(
    latent_dim: int = 16,
    channels: int = 16,
    image_shape: tuple[int, int, int] = (1, 28, 28),
    observation_model: ObservationModel = bernoulli,
) -> Vae:
    """Return a VAE of four convolutions and four transposed convolutions. Book: chapter 7."""
    checks.at_least(1, latent_dim=latent_dim)
    checks.function(observation_model=observation_model)
    encoder = conv_encoder(2 * latent_dim, image_shape, channels)
    decoder = conv_decoder(latent_dim, image_shape, channels)
    return Vae(encoder, decoder, observation_model, latent_dim, image_shape)


class ConstantVariance(nn.Module):
    """A network's mean beside a learned log-variance that does not depend on x. Book: chapter 5."""

    def __init__(self, mean: nn.Module, latent_dim: int) -> None:
        checks.function(mean=mean)
        checks.at_least(1, latent_dim=latent_dim)
        super().__init__()
        self.mean, self.log_var = mean, nn.Parameter(torch.zeros(latent_dim))

    def forward(self, x: Float[Tensor, "batch *x_shape"]) -> Float[Tensor, "batch code_dim"]:
        """Mean and log-variance, side by side."""
        mean = self.mean(x)
        checks.shape((len(x), len(self.log_var)), **{"mean(x)": mean})
        return torch.cat([mean, self.log_var.expand_as(mean)], dim=1)


def linear_vae(dim: int, latent_dim: int) -> Vae:
    """Return the model of probabilistic PCA as a VAE, for vectors.

    p(x|z) = N(W z + mu, sigma^2 I) with a learned sigma, and q(z|x) = N(V x + c, D)
    with a learned diagonal D. W, mu, V and c are weight and bias of `decoder` and of
    `encoder.mean`; `encoder.log_var` is log D, and `observation_model.log_std` log sigma.

    Raises:
        ValueError: if a dimension is below 1.

    Source: Tipping & Bishop 1999; Lucas et al. 2019. Book: chapter 5.
    """
    checks.at_least(1, dim=dim, latent_dim=latent_dim)
    encoder = ConstantVariance(nn.Linear(dim, latent_dim), latent_dim)
    observation_model = GaussianLikelihood(learned=True)
    return Vae(encoder, nn.Linear(latent_dim, dim), observation_model, latent_dim, (dim,))


def linear_vae_log_likelihood(model: Vae, x: Float[Tensor, "batch dim"]) -> Float[Tensor, "batch"]:
    """Exact log p(x) in nats, x being Gaussian: mean mu, covariance W W^T + sigma^2 I.

    Raises:
        TypeError: if the model is not built like that of `linear_vae`, or x does not fit it.
        ValueError: if x does not fit the model.

    Book: chapter 5.
    """
    checks.data(model, x, Vae)
    decoder, likelihood = model.decoder, model.observation_model
    if type(decoder) is not nn.Linear or type(likelihood) is not GaussianLikelihood:
        raise TypeError(
            "model must have a decoder nn.Linear and a GaussianLikelihood; "
            f"{type(decoder).__name__} and {type(likelihood).__name__} were given"
        )
    W, mu, var = decoder.weight, decoder.bias, torch.exp(2 * likelihood.log_std)
    return LowRankMultivariateNormal(mu, W, var.expand_as(mu)).log_prob(x)


def gray_cross_entropy_loss(
    model: Vae, x: Float[Tensor, "batch *x_shape"]
) -> Float[Tensor, "batch"]:
    """Cross-entropy of gray levels and a Bernoulli decoder's pixels, plus the KL.

    Much code trains on gray images with it. It bounds no -log p(x) of gray images:
    minus this cross-entropy is the log-density of no distribution on [0, 1]. In the mean
    it is a loose bound for binarized ones.

    Raises:
        TypeError: if x does not fit the model.
        ValueError: if x does not fit the model, or has values outside [0, 1].

    Book: chapter 6.
    """
    checks.data(model, x, Vae)
    if checks.reads_at_once(x):
        checks.within(0, 1, x=x)
    q, p = model.posterior(x), model.prior(len(x))
    logits = model.decoder(q.rsample())
    checks.shape(tuple(x.shape), **{"decoder(z)": logits})
    cross_entropy = F.binary_cross_entropy_with_logits(logits, x, reduction="none")
    return cross_entropy.flatten(1).sum(1) + kl_divergence(q, p)
