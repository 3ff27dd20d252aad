"""The few distributions the book uses, each with its event shape set: `log_prob` and KL have shape (batch,).

Their KL divergence, in nats, is torch's `kl_divergence(q, p)`: see chapter 2.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import (
    Bernoulli,
    Distribution,
    Independent,
    Normal,
    constraints,
    kl_divergence,
    register_kl,
)
from torch.nn import functional as F

from companion import checks

ObservationModel = Callable[[Tensor], Distribution]
"""From a decoder's output to the distribution of x, such as `bernoulli` from log-odds."""


def diagonal_normal(
    mean: Float[Tensor, "batch *event"], std: Float[Tensor, "*shape"] | float
) -> Independent:
    """Return N(mean, diag(std^2)) over all dimensions but the first.

    Args:
        mean: one mean per example.
        std: standard deviation (not variance, not its log), of any shape that broadcasts to that of `mean`.

    Returns:
        A distribution with batch shape (batch,); `log_prob` is in nats, summed over the event.

    Raises:
        TypeError: if `mean` is not floating-point.
        ValueError: if `mean` has no batch dimension or is not finite, or `std` is not positive and finite or does not
            broadcast. Values on a GPU are not read.

    Book: chapter 2.
    """
    mean, std = _check_mean_and_std(mean, std)
    return _PerExample(Normal(mean, std, validate_args=False), mean.dim() - 1)


def bernoulli(logits: Float[Tensor, "batch *event"]) -> Independent:
    """Return independent Bernoulli pixels with the given log-odds; data must be 0 or 1, gray levels are refused.

    Raises:
        TypeError: if `logits` is not floating-point.
        ValueError: if `logits` has no batch dimension or is not finite; from `log_prob`, if a value is neither 0 nor 1.

    Book: chapter 4.
    """
    _check_batch(logits=logits)
    return _PerExample(_Pixels(logits=logits, validate_args=False), logits.dim() - 1)


class _PerExample(Independent):
    """torch's distribution, which broadcasts no event: a single pixel is no image."""

    def log_prob(self, value: Tensor) -> Tensor:
        checks.event(self.event_shape, value=value)
        return super().log_prob(value)


class _Pixels(Bernoulli):
    """torch's distribution, which says of a gray level what is expected of it, or on a GPU, which would wait, NaN."""

    def log_prob(self, value: Tensor) -> Tensor:
        checks.floating(value=value)
        is_bit = (value == 0) | (value == 1)
        if not checks.reads_at_once(value):
            value = value.where(is_bit, math.nan)
        elif not bool(is_bit.all()):
            low, high = value.aminmax()
            raise ValueError(f"value must be 0 or 1; {low:.4g} to {high:.4g} was given")
        return super().log_prob(value)


@register_kl(_Pixels, _Pixels)
def _kl_pixels(q: _Pixels, p: _Pixels) -> Tensor:
    """From log-odds alone: torch's own is infinite where a probability rounds to 1, in float32 from 16.7 on."""
    a, b = q.logits, p.logits
    black = torch.sigmoid(-a) * (F.softplus(b) - F.softplus(a))
    return torch.sigmoid(a) * (F.softplus(-b) - F.softplus(-a)) + black


class DiscretizedNormal(Distribution):
    """Gray levels low..high whose probability is the mass a normal puts on each level's bin.

    The first and the last bin reach to infinity, so the probabilities of all levels sum to one. This makes a density
    model of continuous pixels comparable, in nats, with any other model of 8-bit images.

    Args:
        mean: means of the underlying normals.
        std: their standard deviations, of any shape that broadcasts to that of `mean`.
        low: value of the lowest gray level.
        high: value of the highest gray level.
        levels: number of gray levels, evenly spaced.

    Raises:
        TypeError: if `mean` is not floating-point, or `levels` is no integer.
        ValueError: if `mean` is not finite, `std` is not positive and finite, `high` is not above `low`, one of
            these two is not finite, or `levels` is below 2.

    Source: Ho et al. 2020, eq. 13. Book: chapter 6.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012 -- torch's own attribute; checked in __init__

    def __init__(
        self,
        mean: Float[Tensor, "batch *event"],
        std: Float[Tensor, "*shape"] | float,
        low: float = -1.0,
        high: float = 1.0,
        levels: int = 256,
    ) -> None:
        checks.between(-math.inf, math.inf, low=low, high=high)
        if not low < high:
            raise ValueError(f"high must be above low; low={low} and high={high} were given")
        checks.at_least(2, levels=levels)
        self._mean, self.std = _check_mean_and_std(mean, std)
        self.low, self.high, self.levels = low, high, levels
        super().__init__(mean.shape[:1], mean.shape[1:], validate_args=False)

    @property
    def mean(self) -> Float[Tensor, "batch *event"]:
        """Mean of the underlying normal: what the decoder says before rounding to gray levels."""
        return self._mean

    def sample(
        self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()
    ) -> Float[Tensor, "..."]:
        """Draw gray levels: a normal draw, moved to the nearest level."""
        step = (self.high - self.low) / (self.levels - 1)
        draw = torch.normal(self.mean.expand(*sample_shape, *self.mean.shape), self.std)
        return self.low + step * ((draw - self.low) / step).round().clamp(0, self.levels - 1)

    def log_prob(
        self, value: Float[Tensor, "*sample_batch_event"]
    ) -> Float[Tensor, "*sample_batch"]:
        """Log-probability of gray levels, in nats, summed over the event.

        Raises:
            TypeError: if the values are not floating-point.
            ValueError: if a value is more than a hundredth of a bin away from every level (on a GPU, which would wait
                to know, the result is NaN), or is not shaped like the mean, but for further dimensions in front.
        """
        checks.floating(value=value)
        checks.event(self.mean.shape, value=value)
        step = (self.high - self.low) / (self.levels - 1)
        level = (value - self.low) / step
        nearest = level.round()
        inside = (nearest >= 0) & (nearest < self.levels)
        on_level = inside & ((level - nearest).abs() <= 0.01)
        if not checks.reads_at_once(level):
            value = value.where(on_level, math.nan)
        elif not bool(on_level.all()):
            raise ValueError(
                f"value must lie on the {self.levels} gray levels from {self.low} to {self.high}; "
                f"{value.min():.4g} to {value.max():.4g} was given"
            )
        upper = torch.where(
            level > self.levels - 1.5, math.inf, (value + step / 2 - self.mean) / self.std
        )
        lower = torch.where(level < 0.5, -math.inf, (value - step / 2 - self.mean) / self.std)
        # The mass between two quantiles is the same left and right of the mean; on the left log_ndtr is accurate.
        right = lower + upper > 0
        lower, upper = (torch.where(right, -upper, lower), torch.where(right, -lower, upper))
        log_upper, log_lower = (torch.special.log_ndtr(upper), torch.special.log_ndtr(lower))
        mass = log_upper + torch.log(-torch.expm1(log_lower - log_upper))
        return (
            mass.flatten(start_dim=value.dim() - len(self.event_shape)).sum(-1)
            if self.event_shape
            else mass
        )


class GaussianLikelihood(nn.Module):
    """N(mean, std^2 I), with one `std` for all dimensions.

    Args:
        std: the standard deviation, or where it starts.
        learned: whether it is a parameter; it is stored as `log_std` either way.

    Raises:
        ValueError: if `std` is not positive and finite.

    Book: chapter 6.
    """

    log_std: Tensor

    def __init__(self, std: float = 1.0, learned: bool = False) -> None:
        checks.positive(std=std)
        checks.instance(bool, learned=learned)
        super().__init__()
        log_std = torch.tensor(math.log(std))
        if learned:
            self.log_std = nn.Parameter(log_std)
        else:
            self.register_buffer("log_std", log_std)

    def forward(self, mean: Float[Tensor, "batch *x_shape"]) -> Distribution:
        """p(x | z) from its mean."""
        return diagonal_normal(mean, self.log_std.exp())


class DiscretizedGaussianLikelihood(GaussianLikelihood):
    """The 256 gray levels from 0 to 1: the mass that N(mean, std^2 I) gives each.

    Book: chapter 6.
    """

    def forward(self, mean: Float[Tensor, "batch *x_shape"]) -> Distribution:
        """p(x | z) from the mean of the underlying normal."""
        return DiscretizedNormal(mean, self.log_std.exp(), low=0.0, high=1.0)


def _check_mean_and_std(mean: Tensor, std: Tensor | float) -> tuple[Tensor, Tensor]:
    """Both as tensors of one shape."""
    _check_batch(mean=mean)
    if not isinstance(std, Tensor):
        checks.positive(std=std)
        std = mean.new_full((), std)
    checks.floating(std=std)
    std = std.to(mean)
    if checks.reads_at_once(std) and not bool(((std > 0) & (std < math.inf)).all()):
        low, high = std.aminmax()
        raise ValueError(f"std must be positive and finite; {low:.4g} to {high:.4g} was given")
    try:
        return mean, std.expand_as(mean)
    except RuntimeError:
        raise ValueError(
            f"std must broadcast to mean's shape {tuple(mean.shape)}; shape {tuple(std.shape)} was given"
        ) from None


def _check_batch(**parameters: Tensor) -> None:
    """A parameter has a batch dimension. On a GPU, which would wait, its values are not read."""
    checks.floating(**parameters)
    for name, tensor in parameters.items():
        if tensor.dim() < 1:
            raise ValueError(f"{name} must have a batch dimension first; shape () was given")
        if checks.reads_at_once(tensor):
            checks.finite(**{name: tensor})


def _check_evidence(p: Distribution, mean: Tensor, log_precision: Tensor) -> None:
    checks.instance(Normal, p=getattr(p, "base_dist", p))
    checks.like(p.mean, mean=mean, log_precision=log_precision)


def normal_product(
    p: Distribution,
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

    Source: Sonderby et al. 2016, section 2. Book: chapter 8.
    """
    _check_evidence(p, mean, log_precision)
    log_odds = log_precision + 2 * p.stddev.log()
    std = p.stddev * torch.exp(F.logsigmoid(-log_odds) / 2)
    return diagonal_normal(torch.lerp(p.mean, mean, log_odds.sigmoid()), std)


def log_normalizer(
    p: Distribution,
    mean: Float[Tensor, "batch *event"],
    log_precision: Float[Tensor, "batch *event"],
) -> Float[Tensor, "batch"]:
    """Log of Z, the integral of p(z) d(z): log N(mean; mean_p, var_p + 1/precision).

    In nats. For q = p d / Z, KL(q || p) = E_q log d(z) - log Z. Book: chapter 8.
    """
    _check_evidence(p, mean, log_precision)
    log_var = torch.logaddexp(2 * p.stddev.log(), -log_precision)
    # The same density with its two arguments exchanged: a mean that is not finite is refused by name.
    return diagonal_normal(mean, torch.exp(log_var / 2)).log_prob(p.mean)


def evidence_alone(
    p: Distribution,
    mean: Float[Tensor, "batch *event"],
    log_precision: Float[Tensor, "batch *event"],
) -> Independent:
    """Return d = N(mean, 1/precision) and forget p: inference that shares nothing.

    Book: chapter 8.
    """
    _check_evidence(p, mean, log_precision)
    return diagonal_normal(mean, torch.exp(-log_precision / 2))


class Carried(Distribution):
    """A random z beside a tensor that is already known, joined along the first event dimension.

    It lets a level pass more than z_t on to the levels below: a hierarchy in which each
    level sees everything above it is a Markov chain if z_t includes what was passed down
    to it. Density and KL are those of z: the rest is deterministic, and the same in both
    distributions that a KL compares.

    Args:
        base_dist: the distribution of z.
        carry: the known tensor; it differs from z in its first event dimension at most.

    Raises:
        TypeError: if `base_dist` is no distribution, or `carry` no floating-point tensor.
        ValueError: if `carry` has another shape.

    Book: chapter 8.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012 -- torch's own attribute
    has_rsample = True

    def __init__(self, base_dist: Distribution, carry: Float[Tensor, "batch *event"]) -> None:
        checks.instance(Distribution, base_dist=base_dist)
        checks.sizes(1, **{"the event shape of base_dist": base_dist.event_shape})
        num, *rest = base_dist.event_shape
        checks.floating(carry=carry)
        checks.shape((*base_dist.batch_shape, *carry.shape[1:2], *rest), carry=carry)
        self.base_dist, self.carry = base_dist, carry
        event_shape = torch.Size([num + carry.shape[1], *rest])
        super().__init__(base_dist.batch_shape, event_shape, validate_args=False)

    @property
    def mean(self) -> Float[Tensor, "batch *event"]:
        """Mean of z, and what is carried."""
        return torch.cat([self.base_dist.mean, self.carry], dim=1)

    @property
    def variance(self) -> Float[Tensor, "batch *event"]:
        """Variance of z, and zero for what is carried."""
        return torch.cat([self.base_dist.variance, torch.zeros_like(self.carry)], dim=1)

    def rsample(
        self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()
    ) -> Float[Tensor, "..."]:
        """Draw z, and repeat what is carried beside it."""
        z = self.base_dist.rsample(torch.Size(sample_shape))
        carry = self.carry.expand(*sample_shape, *self.carry.shape)
        return torch.cat([z, carry], dim=-len(self.event_shape))

    def log_prob(
        self, value: Float[Tensor, "*sample_batch_event"]
    ) -> Float[Tensor, "*sample_batch"]:
        """Log-density of the z in `value`, in nats; what is carried is not looked at."""
        checks.event(self.event_shape, value=value)
        num = self.base_dist.event_shape[0]
        return self.base_dist.log_prob(value.narrow(-len(self.event_shape), 0, num))


@register_kl(Carried, Carried)
def _kl_carried(q: Carried, p: Carried) -> Tensor:
    return kl_divergence(q.base_dist, p.base_dist)
