"""The last step of a diffusion model of images: a decoder that knows which gray levels are common."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, constraints

from companion import checks
from companion.schedule import Schedule


def gray_level_frequencies(
    x: Float[Tensor, "batch *x_shape"], levels: int = 256, low: float = -1.0, high: float = 1.0
) -> Float[Tensor, "levels"]:
    """How often each gray level occurs in images, with one pixel added to every level, so that none is impossible.

    Args:
        x: images whose pixels lie on the levels.
        levels: number of gray levels, evenly spaced from `low` to `high`.
        low: value of the lowest one.
        high: value of the highest one.

    Raises:
        ValueError: if there is no image, or a pixel is more than a hundredth of a step away from every level.

    Book: chapter 10.
    """
    checks.at_least(2, levels=levels)
    checks.floating(x=x)
    checks.examples(1, x=x)
    _check_ends(low, high)
    level, _ = _level_of(x, levels, low, high, checks.has_values(x))
    counts = torch.bincount(level.flatten(), minlength=levels).double() + 1
    return counts / counts.sum()


class GrayLevels(Distribution):
    """Independent pixels on evenly spaced gray levels, with any probabilities.

    Args:
        logits: log-probabilities of the levels of each pixel, up to a constant.
        low: value of the lowest level.
        high: value of the highest level.

    Raises:
        ValueError: if there are fewer than two levels, or `logits` are of no probabilities (those on a GPU are not
            read); from `log_prob`, if a pixel is on none of the levels; on a GPU, which would wait to know, the
            result is NaN.

    Book: chapter 10.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012 -- torch's own attribute

    def __init__(
        self, logits: Float[Tensor, "batch *event levels"], low: float = -1.0, high: float = 1.0
    ) -> None:
        checks.floating(logits=logits)
        rest = logits.shape[1:] if logits.dim() > 1 else ("levels",)
        checks.shape(("batch", *rest), logits=logits)
        checks.at_least(2, levels=logits.shape[-1])
        _check_ends(low, high)
        self.pixels = Categorical(logits=logits, validate_args=False)
        if checks.reads_at_once(logits) and bool(self.pixels.logits.isnan().any()):
            raise ValueError(
                "logits must be finite, but for levels at minus infinity; they are not"
            )
        self.low, self.high = low, high
        self.values = torch.linspace(low, high, logits.shape[-1]).to(logits)
        super().__init__(logits.shape[:1], logits.shape[1:-1], validate_args=False)

    @property
    def mean(self) -> Float[Tensor, "batch *event"]:
        """Mean of each pixel."""
        return self.pixels.probs @ self.values

    def sample(
        self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()
    ) -> Float[Tensor, "..."]:
        """Draw gray levels."""
        return self.values[self.pixels.sample(torch.Size(sample_shape))]

    def log_prob(
        self, value: Float[Tensor, "*sample_batch_event"]
    ) -> Float[Tensor, "*sample_batch"]:
        """Log-probability of images, in nats, summed over the event."""
        checks.floating(value=value)
        checks.event((*self.batch_shape, *self.event_shape), value=value)
        reads = checks.reads_at_once(value)
        level, is_one = _level_of(value, len(self.values), self.low, self.high, reads)
        each = self.pixels.log_prob(level)
        each = each if reads else each.where(is_one, math.nan)
        return each.flatten(each.dim() - len(self.event_shape)).sum(-1)


class HistogramDecoder(nn.Module):
    """p(x|x_1) by Bayes' rule for each pixel, with the histogram of the training pixels as its prior.

    p(x_j | x_1j) is proportional to frequency(x_j) N(x_1j; sqrt(alpha_bar_1) x_j, 1 - alpha_bar_1). If
    the noise of x_1 is a gray level wide, x_1 says almost all, and what is common decides the
    rest. It has no network and nothing to train. If the pixels were independent and
    identically distributed, no decoder would be better.

    Args:
        schedule: the noise.
        frequency: probability of each gray level, from -1 to 1; `gray_level_frequencies` counts it.

    Raises:
        ValueError: if a frequency is not positive, or they do not add up to 1.

    Source: Kingma et al. 2021, section 3.3, with equal frequencies. Book: chapter 10.
    """

    log_frequency: Tensor

    def __init__(self, schedule: Schedule, frequency: Float[Tensor, "levels"]) -> None:
        checks.instance(Schedule, schedule=schedule)
        checks.shape(("levels",), frequency=frequency)
        checks.at_least(2, levels=len(frequency))
        total = frequency.sum().item()
        if not (bool((frequency > 0).all()) and math.isclose(total, 1, rel_tol=1e-5)):
            raise ValueError(
                f"frequency must be positive and add up to 1; {frequency.min():.4g} at least, "
                f"{total:.6g} in all, was given"
            )
        super().__init__()
        self.schedule = schedule
        self.register_buffer("log_frequency", frequency.double().log(), persistent=False)

    def forward(self, x_1: Float[Tensor, "batch *x_shape"]) -> GrayLevels:
        """The distribution of x."""
        checks.floating(x_1=x_1)
        if checks.reads_at_once(x_1):
            checks.finite(x_1=x_1)
        signal, var = self.schedule.forward_coefficients(0, 1)
        values = torch.linspace(-1, 1, len(self.log_frequency)).to(self.log_frequency)
        log_noise = -(x_1[..., None].double() - signal * values).square() / (2 * var)
        return GrayLevels((self.log_frequency + log_noise).to(x_1))


def _check_ends(low: float, high: float) -> None:
    checks.between(-math.inf, math.inf, low=low, high=high)
    if not low < high:
        raise ValueError(f"high must be above low; low={low} and high={high} were given")


def _level_of(
    x: Tensor, levels: int, low: float, high: float, reads: bool
) -> tuple[Tensor, Tensor]:
    """The number of each pixel's gray level, from 0, and whether it is on it; if that is read, it must be."""
    level = (x - low) / (high - low) * (levels - 1)
    nearest = level.nan_to_num().round().clamp(0, levels - 1)
    is_one = (level - nearest).abs() <= 0.01
    if reads and not bool(is_one.all()):
        raise ValueError(
            f"x must lie on the {levels} gray levels from {low} to {high}; "
            f"{x.min():.4g} to {x.max():.4g} was given"
        )
    return nearest.long(), is_one
