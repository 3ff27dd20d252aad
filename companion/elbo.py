"""The heart of the book: a chain of latents, and the one bound that serves every model built on it.

Write z_0 = x. With inference running from the top, q(z_{1:T}|x) = q(z_T|x) prod_{t<T} q(z_t|z_{t+1}, x), the bound is

    ELBO(x) = E log p(x|z_1) - sum_{t<T} E KL(q(z_t|z_{t+1}, x) || p(z_t|z_{t+1})) - KL(q(z_T|x) || p(z_T)).

A variational autoencoder is T = 1, a hierarchical one T = 2 to 10, a diffusion model T = 100 to 1000.
"""

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
        self,
        t: int,
        z_above: Float[Tensor, "batch *z_shape"],
        x: Float[Tensor, "batch *x_shape"],
    ) -> Distribution:
        """q(z_t | z_{t+1}, x), for t = 1..T-1."""
        raise NotImplementedError(
            f"{type(self).__name__} has num_latents={self.num_latents} but no inner_posterior"
        )

    def inner_prior(
        self, t: int, z_above: Float[Tensor, "batch *z_shape"]
    ) -> Distribution:
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
