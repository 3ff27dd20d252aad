"""Hierarchical VAEs: several latents, and an inference model that shares the generative one.

Going down, q(z_t|z_{t+1}, x) is proportional to p(z_t|z_{t+1}) d_t(z_t; x): the generative
model's own prediction of z_t times what the data say about it. The loss is that of every
chain of latents, `companion.elbo.elbo_loss`.
"""

from collections.abc import Callable, Iterable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from companion import checks
from companion.distributions import (
    Carried,
    ObservationModel,
    diagonal_normal,
    normal_product,
)
from companion.elbo import LatentChain

Combine = Callable[[Distribution, Tensor, Tensor], Independent]
"""From p, mean and log-precision of the evidence to q, such as `normal_product`."""

# Bound of every log-variance and log-precision a network gives.
LOG_LIMIT = 10.0


class HierarchicalVae(LatentChain):
    """A ladder: features are computed from x upwards, then q and p together downwards, level by level.

    p(z_T) = N(0, I), p(z_t|z_{t+1}) = N(mean, diag(var)) from a network of z_{t+1}, and
    p(x|z_1) = observation_model(decoder(z_1)). The posterior combines that very
    p(z_t|z_{t+1}) with evidence d_t(z_t; x) from the features of level t.

    A network of `priors` gives, along dimension 1: mean and log-variance of z_t, and
    whatever else shall be carried down. What is carried joins z_t (`Carried`): evidence,
    the next network of `priors` and the decoder see it beside it. If nothing is, the
    hierarchy is Markov, and evidence depends on x alone. Log-variances and
    log-precisions pass through a soft bound, 10 tanh(value / 10).

    Args:
        bottom_up: T networks; the first maps x to the features of level 1, each other
            the features of the level below to its own.
        evidence: T networks; the t-th maps the features of level t, joined by what is
            carried there, to mean and log-precision of d_t, along dimension 1.
        priors: T - 1 networks; the t-th maps z_{t+1} to p(z_t|z_{t+1}), as above.
        decoder: maps z_1 to what `observation_model` takes.
        observation_model: gives the distribution of x, such as `bernoulli` from log-odds.
        latent_shapes: shapes of z_1, ..., z_T, without what is carried.
        combine: makes q of p, mean and log-precision; `evidence_alone` shares nothing.
        x_shape: shape of one example, if it has to be this one.

    Raises:
        ValueError: if the numbers of networks and latents do not fit together; from
            methods, if a network gives another shape, or t is outside 1..T-1.

    Source: Sonderby et al. 2016, section 2; carried tensors: Kingma et al. 2016, and
        Vahdat & Kautz 2020, section 3.
    Book: chapter 8, (def-ladder-posterior).
    """

    def __init__(
        self,
        bottom_up: Sequence[nn.Module],
        evidence: Sequence[nn.Module],
        priors: Sequence[nn.Module],
        decoder: nn.Module,
        observation_model: ObservationModel,
        latent_shapes: Sequence[tuple[int, ...]],
        combine: Combine = normal_product,
        x_shape: tuple[int, ...] | None = None,
    ) -> None:
        networks = {"bottom_up": bottom_up, "evidence": evidence, "priors": priors}
        checks.instance(Iterable, **networks, latent_shapes=latent_shapes)
        given = len(bottom_up), len(evidence), len(priors)
        T = len(latent_shapes)
        if T < 1 or given != (T, T, T - 1):
            raise ValueError(
                f"bottom_up, evidence and priors must hold {T}, {T} and {T - 1} networks "
                f"for {T} latent_shapes, at least one; {given} were given"
            )
        checks.sizes(1, **{f"latent_shapes[{i}]": each for i, each in enumerate(latent_shapes)})
        each = {f"{key}[{i}]": one for key, held in networks.items() for i, one in enumerate(held)}
        checks.instance(nn.Module, **each)
        checks.function(decoder=decoder, observation_model=observation_model, combine=combine)
        super().__init__(latent_shapes[-1], T, x_shape)
        self.latent_shapes, self.combine = tuple(latent_shapes), combine
        self.bottom_up = nn.ModuleList(bottom_up)
        self.evidence, self.priors = nn.ModuleList(evidence), nn.ModuleList(priors)
        self.decoder, self.observation_model = decoder, observation_model

    def likelihood(self, z_1: Float[Tensor, "batch *z_shape"]) -> Distribution:
        """p(x | z_1)."""
        self._check_latent(1, z_1=z_1)
        return self.observation_model(self.decoder(z_1).to(self.origin))

    def encode(self, x: Float[Tensor, "batch *x_shape"]) -> tuple[Tensor, ...]:
        """The features of levels 1, ..., T."""
        if self.x_shape is not None:
            checks.shape(("batch", *self.x_shape), x=x)
        checks.precision(self, x=x)
        features = []
        for network in self.bottom_up:
            x = network(x)
            features.append(x)
        return tuple(features)

    def posterior(self, *features: Tensor) -> Distribution:
        """q(z_T | x)."""
        p = self.prior(len(features[-1]))
        return self._update(self.num_latents, p, p.mean[:, :0], features)

    def inner(
        self, t: int, z_above: Float[Tensor, "batch *z_shape"], *features: Tensor
    ) -> tuple[Distribution, Distribution]:
        """Both q(z_t | z_{t+1}, x) and p(z_t | z_{t+1}): q is p, updated by evidence."""
        p, carry = self._predict(t, z_above)
        return self._update(t, p, carry, features), _join(p, carry)

    def inner_posterior(
        self, t: int, z_above: Float[Tensor, "batch *z_shape"], *features: Tensor
    ) -> Distribution:
        """q(z_t | z_{t+1}, x)."""
        return self.inner(t, z_above, *features)[0]

    def inner_prior(self, t: int, z_above: Float[Tensor, "batch *z_shape"]) -> Distribution:
        """p(z_t | z_{t+1})."""
        return _join(*self._predict(t, z_above))

    def _check_latent(self, t: int, /, **latent: Tensor) -> None:
        """The argument is a z_t; what is carried may stand beside it."""
        ((name, z),) = latent.items()
        checks.precision(self, **latent)
        num, *rest = self.latent_shapes[t - 1]
        if not len(z.shape) > 1 or not len(z) or z.shape[1] < num or [*z.shape[2:]] != rest:
            text = ", ".join(map(str, ["batch", f"{num} or more", *rest]))
            raise ValueError(f"{name} must have shape ({text}); {tuple(z.shape)} was given")

    def _predict(self, t: int, z_above: Tensor) -> tuple[Independent, Tensor]:
        """p(z_t | z_{t+1}), and what is carried beside z_t."""
        checks.whole(1, self.num_latents - 1, t=t)
        self._check_latent(t + 1, z_above=z_above)
        code = self.priors[t - 1](z_above)
        num, *rest = self.latent_shapes[t - 1]
        if code.dim() < 2 or code.shape[1] < 2 * num or [*code.shape[2:]] != rest:
            text = ", ".join(map(str, ["batch", f"{2 * num} or more", *rest]))
            raise ValueError(
                f"priors[{t - 1}] must give shape ({text}), mean and log-variance first; "
                f"it gave {tuple(code.shape)}"
            )
        sizes = [num, num, code.shape[1] - 2 * num]
        mean, log_var, carry = code.to(self.origin).split(sizes, dim=1)
        return diagonal_normal(mean, torch.exp(_bounded(log_var) / 2)), carry

    def _update(
        self, t: int, p: Distribution, carry: Tensor, features: tuple[Tensor, ...]
    ) -> Distribution:
        """q(z_t | z_{t+1}, x) from p(z_t | z_{t+1}), what is carried, and the features."""
        if len(features) != self.num_latents:
            raise ValueError(
                f"features must be the {self.num_latents} tensors of encode(x); {len(features)} were given"
            )
        seen = features[t - 1]
        checks.floating(features=seen)
        checks.shape((*p.batch_shape, *seen.shape[1:]), features=seen)
        if carry.shape[1]:
            seen = torch.cat([seen, carry], dim=1)
        code = self.evidence[t - 1](seen).to(self.origin)
        num, *rest = self.latent_shapes[t - 1]
        checks.shape((len(seen), 2 * num, *rest), **{f"evidence[{t - 1}](features)": code})
        mean, log_precision = code.chunk(2, dim=1)
        return _join(self.combine(p, mean, _bounded(log_precision)), carry)


def _bounded(log: Tensor) -> Tensor:
    """A log-variance or log-precision within the limits, almost unchanged near 0."""
    return LOG_LIMIT * torch.tanh(log / LOG_LIMIT)


def _join(base_dist: Distribution, carry: Tensor) -> Distribution:
    return Carried(base_dist, carry) if carry.shape[1] else base_dist
