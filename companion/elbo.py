"""The heart of the book: a chain of latents, and the one bound that serves every model built on it.

Write z_0 = x. With inference running from the top, q(z_{1:T}|x) = q(z_T|x) prod_{t<T} q(z_t|z_{t+1}, x), the bound is

    ELBO(x) = E log p(x|z_1) - sum_{t<T} E KL(q(z_t|z_{t+1}, x) || p(z_t|z_{t+1})) - KL(q(z_T|x) || p(z_T)).

A variational autoencoder is T = 1, a hierarchical one T = 2 to 10, a diffusion model T = 100 to 1000.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, kl_divergence


class LatentChain(nn.Module, ABC):
    """A generative model p(z_T) prod p(z_t|z_{t+1}) p(x|z_1), and an inference model q.

    A model with one latent writes the three abstract methods; one with more also writes
    the two `inner_` methods. Each method returns a distribution of batch shape (batch,),
    so its KL and its log-density are in nats, summed over the event.
    """

    num_latents: int = 1  # T

    @abstractmethod
    def posterior(self, x: Float[Tensor, "batch *x_shape"]) -> Distribution:
        """q(z_T | x)."""

    @abstractmethod
    def prior(self, num: int) -> Distribution:
        """p(z_T), for a batch of `num`."""

    @abstractmethod
    def likelihood(self, z_1: Float[Tensor, "batch *z_shape"]) -> Distribution:
        """p(x | z_1)."""

    def inner_posterior(
        self, t: int, z_above: Float[Tensor, "batch *z_shape"], x: Float[Tensor, "batch *x_shape"]
    ) -> Distribution:
        """q(z_t | z_{t+1}, x), for t = 1..T-1."""
        raise NotImplementedError(
            f"{type(self).__name__} has num_latents={self.num_latents} but no inner_posterior"
        )

    def inner_prior(self, t: int, z_above: Float[Tensor, "batch *z_shape"]) -> Distribution:
        """p(z_t | z_{t+1}), for t = 1..T-1."""
        raise NotImplementedError(
            f"{type(self).__name__} has num_latents={self.num_latents} but no inner_prior"
        )


@dataclass(frozen=True)
class ElboTerms:
    """The bound, term by term, for each example; all in nats."""

    # log p(x | z_1), summed over data dimensions
    log_likelihood: Float[Tensor, "batch"]
    # kl[:, t - 1] belongs to z_t; the last column is the prior's
    kl: Float[Tensor, "batch num_latents"]

    @property
    def elbo(self) -> Float[Tensor, "batch"]:
        """The evidence lower bound; higher is better."""
        return self.log_likelihood - self.kl.sum(dim=1)


def elbo_terms(model: LatentChain, x: Float[Tensor, "batch *x_shape"]) -> ElboTerms:
    """Estimate the bound with one sample of the latents, and every KL in closed form.

    Args:
        model: any chain of latents.
        x: a batch of data.

    Returns:
        Nats per example; `.elbo` is unbiased for the bound, and differentiable.

    Source: Kingma & Welling 2014, eq. 3; a chain: Sohl-Dickstein et al. 2015, eq. 14.
    """
    q, p = model.posterior(x), model.prior(len(x))
    kl = [kl_divergence(q, p)]
    z = q.rsample()
    for t in range(model.num_latents - 1, 0, -1):
        q, p = model.inner_posterior(t, z, x), model.inner_prior(t, z)
        kl.append(kl_divergence(q, p))
        z = q.rsample()
    return ElboTerms(model.likelihood(z).log_prob(x), torch.stack(kl[::-1], dim=1))


def elbo_loss(
    model: LatentChain,
    x: Float[Tensor, "batch *x_shape"],
    beta: float = 1.0,
    free_nats: float = 0.0,
) -> Float[Tensor, "batch"]:
    """Minus the log-likelihood plus `beta` times the KLs; by default minus the bound.

    Args:
        model: any chain of latents.
        x: a batch of data.
        beta: weight of the KLs; with any other than 1 it is no bound on log p(x).
        free_nats: what each level may spend for nothing; a level whose KL, averaged
            over the batch, is below it enters as this constant, and has no gradient.

    Raises:
        ValueError: if `beta` or `free_nats` is negative.

    Source: beta: Higgins et al. 2017, eq. 4; free nats: Kingma et al. 2016, eq. 15.
    """
    for name, value in (("beta", beta), ("free_nats", free_nats)):
        if not value >= 0:
            raise ValueError(f"{name} must not be negative; {value} was given")
    terms = elbo_terms(model, x)
    kl = torch.where(terms.kl.mean(0) < free_nats, free_nats, terms.kl)
    return beta * kl.sum(dim=1) - terms.log_likelihood


def log_weights(model: LatentChain, x: Float[Tensor, "batch *x_shape"]) -> Float[Tensor, "batch"]:
    """One draw of log p(x, z) - log q(z | x) for each example; z is all latents.

    In nats. Its mean is the bound, and the mean of its exponential is p(x).
    """
    return sample_log_weights(model, x, num_samples=1)[0]


def sample_log_weights(
    model: LatentChain, x: Float[Tensor, "batch *x_shape"], num_samples: int
) -> Float[Tensor, "num_samples batch"]:
    """Draws of log p(x, z) - log q(z | x), in nats, `num_samples` for each example.

    Every term is a log-density at the sample, none a closed form. One call of
    `model.posterior` serves all samples.

    Raises:
        ValueError: if `num_samples` is below 1.
    """
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1; {num_samples} was given")
    q = model.posterior(x)
    z = q.rsample(torch.Size([num_samples]))
    log_q = q.log_prob(z).flatten()
    # From here on, the samples of all examples are one long batch.
    z, x = z.flatten(0, 1), x.expand(num_samples, *x.shape).flatten(0, 1)
    log_p = model.prior(len(z)).log_prob(z)
    for t in range(model.num_latents - 1, 0, -1):
        q, p = model.inner_posterior(t, z, x), model.inner_prior(t, z)
        z = q.rsample()
        log_p, log_q = log_p + p.log_prob(z), log_q + q.log_prob(z)
    log_w = log_p + model.likelihood(z).log_prob(x) - log_q
    return log_w.unflatten(0, (num_samples, -1))


def importance_weighted_loss(
    model: LatentChain, x: Float[Tensor, "batch *x_shape"], num_samples: int
) -> Float[Tensor, "batch"]:
    """Minus L_K, the log of the average of K importance weights p(x, z) / q(z | x).

    L_1 is the bound; with more samples L_K rises towards log p(x), and never above it
    on average.

    Args:
        model: any chain of latents.
        x: a batch of data.
        num_samples: K.

    Raises:
        ValueError: if `num_samples` is below 1.

    Source: Burda et al. 2016, eq. 8.
    """
    log_w = sample_log_weights(model, x, num_samples)
    return math.log(num_samples) - log_w.logsumexp(dim=0)
