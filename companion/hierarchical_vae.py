"""Hierarchical VAEs: several latents, and an inference model that shares the generative one.

Going down, q(z_t|z_{t+1}, x) is proportional to p(z_t|z_{t+1}) d_t(z_t; x): the model's own
belief about z_t times what the data say about it. The loss is that of every chain of latents.
"""

import weakref
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate, chain
from math import prod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import (
    Distribution,
    Independent,
    constraints,
    kl_divergence,
    register_kl,
)
from torch.nn import functional as F

from companion.distributions import bernoulli, diagonal_normal
from companion.elbo import LatentChain
from companion.networks import Residual, bottleneck, normalized_mlp, start_at_zero

Likelihood = Callable[[Tensor], Distribution]
Combine = Callable[[Independent, Tensor, Tensor], Independent]

# Bound of every log-variance and log-precision a network gives.
LOG_LIMIT = 10.0


def normal_product(
    p: Independent,
    mean: Float[Tensor, "batch *event"],
    log_precision: Float[Tensor, "batch *event"],
) -> Independent:
    """Return the normal proportional to p(z) d(z), with evidence d = N(mean, 1/precision).

    Precisions add up, and each mean counts by its precision:

        1/var_q = 1/var_p + precision,  mean_q = mean_p + w (mean - mean_p)

    with w = precision * var_q. It is computed from w = sigmoid(log precision + log var_p)
    alone, so that no precision overflows: evidence of precision 0 gives p itself,
    evidence of a huge one d itself.

    Args:
        p: a normal from `diagonal_normal`.
        mean: where the evidence says z is.
        log_precision: log of one over the evidence's variance.

    Source: Sonderby et al. 2016, section 2.
    """
    log_odds = log_precision + 2 * p.stddev.log()
    std = p.stddev * torch.exp(F.logsigmoid(-log_odds) / 2)
    return diagonal_normal(torch.lerp(p.mean, mean, log_odds.sigmoid()), std)


def log_normalizer(
    p: Independent,
    mean: Float[Tensor, "batch *event"],
    log_precision: Float[Tensor, "batch *event"],
) -> Float[Tensor, "batch"]:
    """Log of Z, the integral of p(z) d(z): log N(mean; mean_p, var_p + 1/precision).

    In nats. For q = p d / Z, KL(q || p) = E_q log d(z) - log Z.
    """
    log_var = torch.logaddexp(2 * p.stddev.log(), -log_precision)
    return diagonal_normal(p.mean, torch.exp(log_var / 2)).log_prob(mean)


def evidence_alone(
    p: Independent,
    mean: Float[Tensor, "batch *event"],
    log_precision: Float[Tensor, "batch *event"],
) -> Independent:
    """Return d = N(mean, 1/precision) and forget p: inference that shares nothing."""
    return diagonal_normal(mean, torch.exp(-log_precision / 2))


class Carried(Distribution):
    """A random z beside a tensor that is already known, joined along the first event dimension.

    It lets a level pass more than z_t on to the levels below. With what was carried to
    it, z_t is a history, and a hierarchy in which each level sees everything above it is
    a Markov chain in its histories. Density and KL are those of z: all else is certain,
    and the same in the two laws that a KL compares.

    Args:
        law: the distribution of z.
        carry: the known part; it differs from z in its first event dimension at most.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012 -- torch's own attribute
    has_rsample = True

    def __init__(self, law: Independent, carry: Float[Tensor, "batch *event"]) -> None:
        self.law, self.carry = law, carry
        num, *rest = law.event_shape
        event_shape = torch.Size([num + carry.shape[1], *rest])
        super().__init__(law.batch_shape, event_shape, validate_args=False)

    @property
    def mean(self) -> Float[Tensor, "batch *event"]:
        """Mean of z, and what is carried."""
        return torch.cat([self.law.mean, self.carry], dim=1)

    @property
    def variance(self) -> Float[Tensor, "batch *event"]:
        """Variance of z, and zero for what is carried."""
        return torch.cat([self.law.variance, torch.zeros_like(self.carry)], dim=1)

    def rsample(
        self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()
    ) -> Float[Tensor, "..."]:
        """Draw z, and repeat what is carried beside it."""
        z = self.law.rsample(torch.Size(sample_shape))
        carry = self.carry.expand(*sample_shape, *self.carry.shape)
        return torch.cat([z, carry], dim=-len(self.event_shape))

    def log_prob(
        self, value: Float[Tensor, "*sample_batch_event"]
    ) -> Float[Tensor, "*sample_batch"]:
        """Log-density of the z in `value`, in nats; what is carried is not looked at."""
        num = self.law.event_shape[0]
        return self.law.log_prob(value.narrow(-len(self.event_shape), 0, num))


@register_kl(Carried, Carried)
def _kl_carried(q: Carried, p: Carried) -> Tensor:
    return kl_divergence(q.law, p.law)


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
        self,
        t: int,
        z_above: Float[Tensor, "batch *z_shape"],
        x: Float[Tensor, "batch *x_shape"],
    ) -> Distribution:
        """q(z_t | z_{t+1}, x); for the x last seen the features are not computed again."""
        features = self._last_calls[0].again(self.bottom_up, x)[t - 1]
        code = self._last_calls[t](self.priors[t - 1], z_above)
        return self._update(t, *self._split(t, code), features)

    def inner_prior(
        self, t: int, z_above: Float[Tensor, "batch *z_shape"]
    ) -> Distribution:
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

    def _update(
        self, t: int, p: Independent, carry: Tensor, features: Tensor
    ) -> Distribution:
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


def mlp_ladder(
    latent_dims: Sequence[int] = (64, 32, 16, 8, 4),
    hidden: Sequence[int] = (512, 256, 128, 64, 64),
    activation: Callable[[], nn.Module] = nn.SiLU,
    image_shape: tuple[int, int, int] = (1, 28, 28),
    likelihood: Likelihood = bernoulli,
    combine: Combine = normal_product,
) -> HierarchicalVae:
    """Return a ladder of perceptrons with two hidden layers each; it is Markov.

    Every hidden layer has batch normalization. It takes out what all pictures have in
    common; without it their features are so alike at the start that the latents die
    before they say anything. So measure and sample in evaluation mode, `model.eval()`,
    in which an example does not depend on the rest of its batch.

    Args:
        latent_dims: dimensions of z_1, ..., z_T.
        hidden: widths of each level's networks, on the way up and on the way down.
        activation: after each hidden layer.
        image_shape: channels, height, width.
        likelihood: takes the decoder's output, of that shape.
        combine: makes q of prior and evidence, such as `normal_product`.

    Raises:
        ValueError: if `latent_dims` and `hidden` differ in length, or a size is below 1.

    Source: Sonderby et al. 2016, section 2.
    """
    if len(latent_dims) != len(hidden) or min([*latent_dims, *hidden], default=0) < 1:
        raise ValueError(
            "latent_dims and hidden must hold one positive integer for each level; "
            f"{list(latent_dims)} and {list(hidden)} were given"
        )

    def layers(num_in: int, width: int) -> nn.Sequential:
        return normalized_mlp([num_in, width, width], nn.BatchNorm1d, activation)

    def down(num_in: int, width: int, num_out: int) -> nn.Sequential:
        return layers(num_in, width).append(nn.Linear(width, num_out))

    dim, codes = prod(image_shape), [2 * num for num in latent_dims]
    first, *bottom_up = map(layers, [dim, *hidden], hidden)
    decoder = down(latent_dims[0], hidden[0], dim)
    return HierarchicalVae(
        [nn.Sequential(nn.Flatten(), first), *bottom_up],
        [*map(nn.Linear, hidden, codes)],
        [*map(down, latent_dims[1:], hidden[1:], codes)],
        decoder.append(nn.Unflatten(1, image_shape)),
        likelihood,
        [(num,) for num in latent_dims],
        combine,
    )


class TopDown(nn.Module):
    """One step down: the carried tensor takes in what is above, and gives z_t its prior.

    Args:
        lift: maps what is above, z_{t+1} and what is carried with it, to a tensor.
        block: maps that tensor to the one carried with z_t.
        head: maps the latter to mean and log-variance of z_t.
    """

    def __init__(self, lift: nn.Module, block: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.lift, self.block, self.head = lift, block, head

    def forward(
        self, above: Float[Tensor, "batch *above_shape"]
    ) -> Float[Tensor, "batch channels *space"]:
        """Mean, log-variance and the carried tensor, along dimension 1."""
        carry = self.block(self.lift(above))
        return torch.cat([self.head(carry), carry], dim=1)


class Merge(nn.Module):
    """Add z, through a 1 x 1 convolution, to the tensor carried beside it.

    Args:
        num_latents: channels of z, which come first.
        num_carried: channels of the carried tensor.
    """

    def __init__(self, num_latents: int, num_carried: int) -> None:
        super().__init__()
        self.sizes = [num_latents, num_carried]
        self.into = nn.Conv2d(num_latents, num_carried, 1)

    def forward(
        self, above: Float[Tensor, "batch channels *space"]
    ) -> Float[Tensor, "batch num_carried *space"]:
        """The carried tensor with what is known of z."""
        z, carry = above.split(self.sizes, dim=1)
        return carry + self.into(z)


def conv_ladder(
    latent_dim: int = 16,
    latent_channels: int = 4,
    levels: Sequence[int] = (1, 2),
    channels: Sequence[int] = (16, 64),
    image_shape: tuple[int, int, int] = (1, 28, 28),
    likelihood: Likelihood = bernoulli,
) -> HierarchicalVae:
    """Return a ladder of feature maps below one vector, with a path down for everything.

    Args:
        latent_dim: dimensions of the vector z_T.
        latent_channels: channels of each map.
        levels: how many maps at 1/2, 1/4, ... of the picture's side; finest first.
        channels: width of the network at each of these sides.
        image_shape: channels, height, width.
        likelihood: takes the decoder's output, of that shape.

    Raises:
        ValueError: if a size is below 1, `levels` and `channels` differ in length, or
            the picture cannot be halved that often.

    Source: Vahdat & Kautz 2020; Child 2021; both are a hundred times as large.
    """
    _check_conv_ladder(latent_dim, latent_channels, levels, channels, image_shape)
    # For each map, finest first: its width, and whether it is the first of its side.
    widths = [w for num, w in zip(levels, channels, strict=True) for _ in range(num)]
    firsts = [i == 0 for num in levels for i in range(num)]
    num, code = latent_channels, 2 * latent_channels
    shapes = [
        (num, image_shape[1] >> halvings, image_shape[2] >> halvings)
        for halvings in accumulate(firsts)
    ]
    top = (widths[-1], *shapes[-1][1:])

    block = partial(_block, scale=len(widths) ** -0.5)
    stems = map(_stem, [image_shape[0], *widths], widths, firsts)
    bottom_up = map(nn.Sequential, stems, map(block, widths))
    evidence = [bottleneck(2 * w, w // 2, code) for w in widths]
    start = nn.Sequential(nn.Linear(latent_dim, prod(top)), nn.Unflatten(1, top))
    lifts = map(partial(_lift, num), widths[1:], widths, firsts[1:])
    heads = [start_at_zero(bottleneck(w, w // 2, code)) for w in widths]
    return HierarchicalVae(
        [*bottom_up, nn.Flatten()],
        [*evidence, nn.Sequential(nn.SiLU(), nn.Linear(prod(top), 2 * latent_dim))],
        [*map(TopDown, [*lifts, start], map(block, widths), heads)],
        _picture(num, widths[0], image_shape[0], block),
        likelihood,
        [*shapes, (latent_dim,)],
    )


def _block(width: int, scale: float) -> nn.Module:
    return Residual(bottleneck(width, width // 2, width), scale)


def _stem(num_in: int, width: int, halve: bool) -> nn.Module:
    """What halves the side on the way up, at the first level of a side."""
    if not halve:
        return nn.Identity()
    return nn.Conv2d(num_in, width, 3, stride=2, padding=1)


def _lift(num_latents: int, num_above: int, width: int, double: bool) -> nn.Module:
    """What takes z in on the way down, and doubles the side where that is due."""
    merge = Merge(num_latents, num_above)
    if not double:
        return merge
    resize = [nn.Conv2d(num_above, width, 1), nn.Upsample(scale_factor=2)]
    return nn.Sequential(merge, *resize)


def _picture(
    num_latents: int, width: int, depth: int, block: Callable[[int], nn.Module]
) -> nn.Module:
    """The decoder: from z_1 and what is carried beside it to twice the side."""
    return nn.Sequential(
        Merge(num_latents, width),
        block(width),
        nn.SiLU(),
        nn.ConvTranspose2d(width, width // 2, 4, stride=2, padding=1),
        nn.SiLU(),
        nn.Conv2d(width // 2, depth, 3, padding=1),
    )


def _check_conv_ladder(
    latent_dim: int,
    latent_channels: int,
    levels: Sequence[int],
    channels: Sequence[int],
    image_shape: tuple[int, int, int],
) -> None:
    sizes = (latent_dim, latent_channels, *levels, *image_shape)
    if min(sizes) < 1 or not levels:
        raise ValueError(
            "latent_dim, latent_channels, levels and image_shape must be at least 1, and levels not empty; "
            f"{latent_dim}, {latent_channels}, {list(levels)} and {tuple(image_shape)} were given"
        )
    if len(channels) != len(levels) or min(channels) < 2:
        raise ValueError(
            f"channels must hold {len(levels)} numbers, one for each of levels, at least 2; {list(channels)} was given"
        )
    if any(side % 2 ** len(levels) for side in image_shape[1:]):
        raise ValueError(
            f"image_shape must have sides that {2 ** len(levels)} divides; {tuple(image_shape)} was given"
        )
