"""The heart of the book: a chain of latents, and the one bound that serves every model built on it.

Write z_0 = x. With inference running from the top, q(z_{1:T}|x) = q(z_T|x) prod_{t<T} q(z_t|z_{t+1}, x), the bound is

    ELBO(x) = E log p(x|z_1) - sum_{t<T} E KL(q(z_t|z_{t+1}, x) || p(z_t|z_{t+1})) - KL(q(z_T|x) || p(z_T)).

A variational autoencoder is T = 1, a hierarchical one T = 2 to dozens, a diffusion model T = 100 to 1000.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, kl_divergence

from companion import checks
from companion.distributions import diagonal_normal

Shape = tuple[int, ...]


class LatentChain(nn.Module, ABC):
    """A generative model p(z_T) prod p(z_t|z_{t+1}) p(x|z_1) with p(z_T) = N(0, I), and an inference model q.

    A model with one latent writes `posterior` and `likelihood`. One with more also writes
    `inner_posterior` and `inner_prior`, and `inner` if the two share work. Inference sees x
    through what `encode` makes of it once for all levels; by default that is x itself.
    Each method returns a distribution of batch shape (batch,), so its KL and its
    log-density are in nats, summed over the event.

    Args:
        latent_shape: shape of z_T, without the batch.
        num_latents: T.
        x_shape: shape of one example, if it has to be this one.

    Raises:
        ValueError: if `num_latents` or a size of a shape is below 1.

    Book: chapter 3, (eq-elbo-terms); several latents: chapter 8, (def-hierarchy).
    """

    origin: Tensor

    def __init__(
        self, latent_shape: Shape, num_latents: int = 1, x_shape: Shape | None = None
    ) -> None:
        checks.at_least(1, num_latents=num_latents)
        if x_shape is not None:
            checks.sizes(1, x_shape=x_shape)
        checks.sizes(0, latent_shape=latent_shape)
        super().__init__()
        self.num_latents, self.x_shape = num_latents, None if x_shape is None else tuple(x_shape)
        # It knows the model's device and precision, and is no part of the weights.
        self.register_buffer("origin", torch.zeros(tuple(latent_shape)), persistent=False)

    def prior(self, num: int) -> Distribution:
        """p(z_T), for a batch of `num`, one at least."""
        checks.at_least(1, num=num)
        return diagonal_normal(self.origin.expand(num, *self.origin.shape), 1.0)

    def inner_prior(self, t: int, z_above: Float[Tensor, "batch *z"]) -> Distribution:
        """p(z_t | z_{t+1}), for t = 1..T-1."""
        raise _missing(self, "inner_prior")

    @abstractmethod
    def likelihood(self, z_1: Float[Tensor, "batch *z"]) -> Distribution:
        """p(x | z_1)."""

    def encode(self, x: Float[Tensor, "batch *x_shape"]) -> tuple[Tensor, ...]:
        """What inference sees of x, one row per example."""
        return (x,)

    @abstractmethod
    def posterior(self, *seen: Tensor) -> Distribution:
        """q(z_T | x), for seen = encode(x)."""

    def inner_posterior(
        self, t: int, z_above: Float[Tensor, "batch *z"], *seen: Tensor
    ) -> Distribution:
        """q(z_t | z_{t+1}, x), for t = 1..T-1."""
        raise _missing(self, "inner_posterior")

    def inner(
        self, t: int, z_above: Float[Tensor, "batch *z"], *seen: Tensor
    ) -> tuple[Distribution, Distribution]:
        """Both q(z_t | z_{t+1}, x) and p(z_t | z_{t+1})."""
        return self.inner_posterior(t, z_above, *seen), self.inner_prior(t, z_above)


def _missing(model: LatentChain, method: str) -> NotImplementedError:
    name = type(model).__name__
    return NotImplementedError(f"{name} has num_latents={model.num_latents} but no {method}")


@dataclass(frozen=True)
class ElboTerms:
    """The bound, term by term, for each example; all in nats. Book: chapter 3."""

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

    Raises:
        TypeError: if x has integers, or another precision than the model.
        ValueError: if x has another shape than the model's data, no examples, or a
            value that is not finite.

    Source: Kingma & Welling 2014, eq. 3; a chain: Sohl-Dickstein et al. 2015, eq. 14.
    Book: chapter 3, (eq-elbo-terms); chapter 8, (eq-chain-elbo).
    """
    checks.data(model, x, LatentChain)
    seen = model.encode(x)
    q, p = model.posterior(*seen), model.prior(len(x))
    kl = [kl_divergence(q, p)]
    z = q.rsample()
    for t in range(model.num_latents - 1, 0, -1):
        q, p = model.inner(t, z, *seen)
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
        beta: weight of the KLs; below 1, minus the loss is no bound on log p(x).
        free_nats: free bits, in nats, of each level; a level whose KL, averaged over the
            batch, is below it enters as this constant, and has no gradient.

    Raises:
        TypeError: as `elbo_terms`.
        ValueError: as `elbo_terms`, and if `beta` or `free_nats` is negative or not finite.

    Source: beta: Higgins et al. 2017, eq. 4; free nats: Kingma et al. 2016, eq. 15.
    Book: chapter 5.
    """
    checks.not_negative(beta=beta, free_nats=free_nats)
    terms = elbo_terms(model, x)
    kl = torch.where(terms.kl.mean(0) < free_nats, free_nats, terms.kl)
    return beta * kl.sum(dim=1) - terms.log_likelihood


def sample_log_weights(
    model: LatentChain, x: Float[Tensor, "batch *x_shape"], num_samples: int
) -> Float[Tensor, "num_samples batch"]:
    """Draw log p(x, z) - log q(z | x), z being all latents, `num_samples` times for each example.

    Every term is a log-density at the sample, none a closed form. In nats; the mean is the
    bound, and the mean of the exponential is p(x). One call of `encode` and of `posterior`
    serves all samples.

    Raises:
        TypeError: as `elbo_terms`, and if `num_samples` is no integer.
        ValueError: as `elbo_terms`, and if `num_samples` is below 1.

    Book: chapter 6.
    """
    checks.at_least(1, num_samples=num_samples)
    checks.data(model, x, LatentChain)
    seen = model.encode(x)
    q = model.posterior(*seen)
    z = q.rsample(torch.Size([num_samples]))
    log_q = q.log_prob(z).flatten()
    # From here on, the samples of all examples are one long batch.
    z, x = z.flatten(0, 1), _repeated(x, num_samples)
    log_p = model.prior(len(z)).log_prob(z)
    if model.num_latents > 1:
        seen = tuple(_repeated(one, num_samples) for one in seen)
    for t in range(model.num_latents - 1, 0, -1):
        q, p = model.inner(t, z, *seen)
        z = q.rsample()
        log_p, log_q = log_p + p.log_prob(z), log_q + q.log_prob(z)
    log_w = log_p + model.likelihood(z).log_prob(x) - log_q
    return log_w.unflatten(0, (num_samples, -1))


def _repeated(x: Tensor, num: int) -> Tensor:
    """The whole batch, `num` times in a row."""
    return x.expand(num, *x.shape).flatten(0, 1)


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
        TypeError: as `sample_log_weights`.
        ValueError: as `sample_log_weights`.

    Source: Burda et al. 2016, eq. 8. Book: chapter 6; the bound:
    chapter 3, (def-k-sample-bound).
    """
    log_w = sample_log_weights(model, x, num_samples)
    return math.log(num_samples) - log_w.logsumexp(dim=0)
