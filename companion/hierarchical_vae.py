"""Hierarchical VAEs: several latents, and an inference model that shares the generative one.

Going down, q(z_t|z_{t+1}, x) is proportional to p(z_t|z_{t+1}) d_t(z_t; x): the model's own
belief about z_t times what the data say about it. The loss is that of every chain of latents.
"""

import weakref
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from companion.distributions import Carried, diagonal_normal, normal_product
from companion.elbo import LatentChain

Likelihood = Callable[[Tensor], Distribution]
Combine = Callable[[Independent, Tensor, Tensor], Independent]

# Bound of every log-variance and log-precision a network gives.
LOG_LIMIT = 10.0


class HierarchicalVae(LatentChain):
    """A ladder: x climbs through features, and q and p descend together, level by level.

    p(z_T) = N(0, I), p(z_t|z_{t+1}) = N(mean, diag(var)) from a network of z_{t+1}, and
    p(x|z_1) = likelihood(decoder(z_1)). The posterior combines that very p(z_t|z_{t+1})
    with evidence d_t(z_t; x) from the features of level t.

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
        decoder: maps z_1 to what `likelihood` takes.
        likelihood: gives the distribution of x, such as `bernoulli` from log-odds.
        latent_shapes: shapes of z_1, ..., z_T, without what is carried.
        combine: makes q of p, mean and log-precision; `evidence_alone` shares nothing.

    Raises:
        ValueError: if the numbers of networks and latents do not fit together; from
            `posterior` and the `inner_` methods, if a network gives another shape.

    Source: Sonderby et al. 2016, section 2; carried tensors: Kingma et al. 2016, and
        Vahdat & Kautz 2020, section 3.
    """

    origin: Tensor

    def __init__(
        self,
        bottom_up: Sequence[nn.Module],
        evidence: Sequence[nn.Module],
        priors: Sequence[nn.Module],
        decoder: nn.Module,
        likelihood: Likelihood,
        latent_shapes: Sequence[tuple[int, ...]],
        combine: Combine = normal_product,
    ) -> None:
        given = len(bottom_up), len(evidence), len(priors)
        T = len(latent_shapes)
        if T < 1 or given != (T, T, T - 1):
            raise ValueError(
                f"bottom_up, evidence and priors must hold {T}, {T} and {T - 1} networks "
                f"for {T} latent_shapes, at least one; {given} were given"
            )
        super().__init__()
        self.num_latents, self.latent_shapes = T, tuple(latent_shapes)
        self.bottom_up = BottomUp(*bottom_up)
        self.evidence, self.priors = nn.ModuleList(evidence), nn.ModuleList(priors)
        self.decoder, self.observation, self.combine = decoder, likelihood, combine
        # It knows the model's device and precision, and is no part of the weights.
        origin = torch.zeros(latent_shapes[-1])
        self.register_buffer("origin", origin, persistent=False)
        # Slot 0 is for the features, slot t for what the t-th network of `priors` gave.
        self._last_calls = [LastCall() for _ in range(T)]

    def posterior(self, x: Float[Tensor, "batch *x_shape"]) -> Distribution:
        """q(z_T | x); the features of x are kept for the levels below."""
        features = self._last_calls[0](self.bottom_up, x)[-1]
        p = self.prior(len(x))
        return self._update(self.num_latents, p, p.mean[:, :0], features)

    def prior(self, num: int) -> Independent:
        """p(z_T)."""
        return diagonal_normal(self.origin.expand(num, *self.origin.shape), 1.0)

    def likelihood(self, z_1: Float[Tensor, "batch *z_shape"]) -> Distribution:
        """p(x | z_1)."""
        return self.observation(self.decoder(z_1).to(self.origin))

    def inner_posterior(
        self, t: int, z_above: Float[Tensor, "batch *z_shape"], x: Float[Tensor, "batch *x_shape"]
    ) -> Distribution:
        """q(z_t | z_{t+1}, x); for the x last seen the features are not computed again."""
        features = self._last_calls[0].again(self.bottom_up, x)[t - 1]
        code = self._last_calls[t](self.priors[t - 1], z_above)
        return self._update(t, *self._split(t, code), features)

    def inner_prior(self, t: int, z_above: Float[Tensor, "batch *z_shape"]) -> Distribution:
        """p(z_t | z_{t+1})."""
        code = self._last_calls[t].again(self.priors[t - 1], z_above)
        self._last_calls[t].forget()  # its graph need not outlive the pair of q and p
        return _join(*self._split(t, code))

    def _split(self, t: int, code: Tensor) -> tuple[Independent, Tensor]:
        """p(z_t | z_{t+1}) from a network's output, and what is carried beside z_t."""
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

    def _update(self, t: int, p: Independent, carry: Tensor, features: Tensor) -> Distribution:
        """q(z_t | z_{t+1}, x) from p(z_t | z_{t+1}), what is carried, and the features."""
        seen = torch.cat([features, carry], dim=1) if carry.shape[1] else features
        code = self.evidence[t - 1](seen).to(self.origin)
        num, *rest = self.latent_shapes[t - 1]
        if code.shape != (len(seen), 2 * num, *rest):
            raise ValueError(
                f"evidence[{t - 1}] must give shape {(len(seen), 2 * num, *rest)}, mean "
                f"and log-precision; it gave {tuple(code.shape)}"
            )
        mean, log_precision = code.chunk(2, dim=1)
        return _join(self.combine(p, mean, _bounded(log_precision)), carry)


class BottomUp(nn.Sequential):
    """Networks in a row that give the outputs of all of them, the first one's first."""

    def forward(self, x: Tensor) -> list[Tensor]:
        """All features of x."""
        features = []
        for network in self:
            x = network(x)
            features.append(x)
        return features


class LastCall:
    """What a network last gave, for as long as calling it again would give the same.

    It is forgotten when its input dies, when a backward pass has used up its graph, and
    in copies and pickles.
    """

    def __init__(self) -> None:
        self._x: weakref.ref[Tensor] | None = None
        self._state: tuple[object, ...] = ()
        self._output: Any = None

    def __call__(self, network: nn.Module, x: Tensor) -> Any:
        """Call the network, and remember what it gave."""
        self.forget()
        # The graph of the output then holds on to another tensor, and lets x itself die.
        output = network(x if x.requires_grad else x.detach())
        if not x.is_inference():  # such a tensor does not count its changes
            self._x, self._state = weakref.ref(x, self.forget), _state(network, x)
            self._output = output
            for tensor in output if isinstance(output, list) else [output]:
                if tensor.requires_grad:
                    tensor.register_hook(self.forget)
        return output

    def again(self, network: nn.Module, x: Tensor) -> Any:
        """What the network gave for x if that was its last call, else a new call."""
        if self._x is not None and self._x() is x and self._state == _state(network, x):
            return self._output
        return self(network, x)

    def __reduce__(self) -> tuple[type["LastCall"], tuple[()]]:
        return LastCall, ()

    def forget(self, _: object = None) -> None:
        """Let go of the output; as a callback, of whatever was called last."""
        self._x, self._state, self._output = None, (), None


def _state(network: nn.Module, x: Tensor) -> tuple[object, ...]:
    """All that decides what network(x) gives and how it is differentiated."""
    weights = chain(network.parameters(), network.buffers())
    return (
        network,
        network.training,
        x._version,
        x.requires_grad,
        torch.is_grad_enabled(),
        torch.is_autocast_enabled(x.device.type),
        [(id(w), _address(w), w._version, w.requires_grad) for w in weights],
    )


def _address(weight: Tensor) -> int | None:
    try:
        return weight.data_ptr()
    except RuntimeError:  # within torch.func, where weights are no memory of their own
        return None


def _bounded(log: Tensor) -> Tensor:
    """A log-variance or log-precision within the limits, almost unchanged near 0."""
    return LOG_LIMIT * torch.tanh(log / LOG_LIMIT)


def _join(law: Independent, carry: Tensor) -> Distribution:
    return Carried(law, carry) if carry.shape[1] else law
