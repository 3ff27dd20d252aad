"""The rules of the ledger, which are values: how far two computations may be apart, and when a wrong one is refused."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from companion import checks

# A sample rule accepts what lies within 5 standard errors of one normal number: 200 such checks raise about one false
# alarm in 10,000 runs of the book. A wrong formula must be 20 away, so that no luck can hide it.
ACCEPTED_STANDARD_ERRORS = 5
REJECTED_STANDARD_ERRORS = 20
FALSE_ALARMS = math.erfc(ACCEPTED_STANDARD_ERRORS / math.sqrt(2))  # 5.7e-7 of all checks
FEWEST_SAMPLES = 100  # with fewer, the standard error itself is too uncertain
MOST_SKEWNESS = 0.1  # times the root of n: where it was tried, no tail then has more than twice its false alarms


class VerificationError(AssertionError):
    """Two computations of one quantity disagree, or a wrong formula would have passed."""


@dataclass(frozen=True)
class Comparison:
    """What a rule compared, element by element: accepted where `error <= allowed`, all in the units of the quantity."""

    left: Tensor
    right: Tensor
    error: Tensor
    allowed: Tensor

    @property
    def accepted(self) -> bool:
        """True if every element is within its tolerance; a NaN never is."""
        return bool((self.error <= self.allowed).all())


class Rule(ABC):
    """How two sides are compared; the rules are values.

    They are `exact`, `quadrature`, `autograd`, `monte_carlo`, `variance`, `binomial` and `at_most(slack)`.
    """

    @abstractmethod
    def compare(self, left: Tensor, right: Tensor) -> Comparison:
        """Compare two float64 tensors; ValueError if they cannot be compared."""

    @abstractmethod
    def statement(self, left: Tensor) -> str:
        """The kind of check and its tolerance, in words that do not depend on the machine."""

    def at_precision(self, eps: float) -> "Rule":
        """The same rule for numbers whose relative spacing is `eps`; TypeError if they are too coarse for it."""
        return self

    def rejection(self, name: str, left: Tensor, right: Tensor, wrong: Tensor) -> str:
        """Words for a rejected wrong value; VerificationError if the rule would accept it."""
        if not wrong.isfinite().all():
            return f"{name} (not finite)"
        if self.compare(left, wrong).accepted:
            raise VerificationError(
                f"the value of the wrong formula {name} would be accepted too ({self.statement(left)}); "
                "choose a case where the two formulas differ"
            )
        return name


@dataclass(frozen=True)
class Tolerance(Rule):
    """Accepts `max |left - right| <= rtol * scale`; unless given, the scale is the largest magnitude on both sides.

    Attributes:
        kind: first word of the printed line.
        rtol: tolerance, relative to the scale.
        rtol_float32: tolerance for float32, if the rule has one; otherwise float32 is refused where rtol needs float64.
        scale: the size of the terms whose difference should vanish, for claims of the form "... = 0".
    """

    kind: str
    rtol: float
    rtol_float32: float | None = None
    scale: float | None = None

    def within(self, rtol: float) -> "Tolerance":
        """The same check with another stated tolerance, such as `autograd.within(1e-6)` for finite differences."""
        checks.between(0, 0.1, rtol=rtol)
        return replace(self, rtol=rtol, rtol_float32=None)

    def on_scale(self, scale: float) -> "Tolerance":
        """The same check relative to a stated scale, for a quantity that should vanish: `exact.on_scale(1.0)`."""
        checks.positive(scale=scale)
        return replace(self, scale=scale)

    def at_precision(self, eps: float) -> "Tolerance":
        rtol = self.rtol
        if eps > 1e-8 and self.rtol_float32 is not None:
            rtol = self.rtol_float32
        if rtol < 10 * eps:
            raise TypeError(
                f"the rule {self.kind} with tolerance {_short(rtol)} needs float64, and coarser numbers were given; "
                f"compute both sides in torch.float64, or state a looser rule, {self.kind}.within(...)"
            )
        return replace(self, rtol=rtol)

    def compare(self, left: Tensor, right: Tensor) -> Comparison:
        _same_shape(left, right)
        scale = self.scale
        if scale is None:
            scale = max(left.abs().max().item(), right.abs().max().item())
            if (right == 0).all() and not (left == 0).all():
                raise ValueError(
                    "right is zero, so a relative error says nothing; compare the terms that should cancel, "
                    f"or state their size with {self.kind}.on_scale(...)"
                )
        error = (left - right).abs()
        return Comparison(left, right, error, torch.full_like(error, self.rtol * scale))

    def rejection(self, name: str, left: Tensor, right: Tensor, wrong: Tensor) -> str:
        # On the scale of the claim, so that "nothing at all" is a wrong value like any other.
        scale = max(left.abs().max().item(), right.abs().max().item())
        rule = self if self.scale or not scale else replace(self, scale=scale)
        return super(Tolerance, rule).rejection(name, left, right, wrong)

    def statement(self, left: Tensor) -> str:
        if self.scale is None:
            return f"{self.kind}, relative error <= {_short(self.rtol)}"
        return f"{self.kind}, absolute error <= {_short(self.rtol * self.scale)}"


@dataclass(frozen=True)
class SampleRule(Rule):
    """Accepts an estimate from samples that is within 5 standard errors of the right side.

    The left side holds n samples of the right side's shape: (n,) for a number, (n, d) for d numbers. All d together
    raise the stated share of false alarms, so each of them may lie a little further off (Bonferroni).

    Attributes:
        false_alarms: the probability that a check of a right formula fails, in (0, 1).
    """

    words: ClassVar[str]  # what is estimated, as a format string of the number of samples
    false_alarms: float = FALSE_ALARMS

    @abstractmethod
    def estimate(self, samples: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """The estimate and its standard error, both of the right side's shape."""

    @abstractmethod
    def deviation(self, samples: Tensor, right: Tensor) -> Tensor:
        """By how many standard errors the estimate is off, freed of its skewness: nearly normal if right is right."""

    def limit(self, num_samples: int, entries: int) -> float:
        """How many standard errors each of so many entries may be off."""
        tail = torch.tensor(self.false_alarms / (2 * entries), dtype=torch.float64)
        return -torch.special.ndtri(tail).item()

    def compare(self, left: Tensor, right: Tensor) -> Comparison:
        if left.dim() == 0 or left.shape[1:] != right.shape:
            raise ValueError(
                f"left must hold n samples of right's shape, (n, *{tuple(right.shape)}); {tuple(left.shape)} was given"
            )
        if len(left) < FEWEST_SAMPLES:
            raise ValueError(
                f"left must hold at least {FEWEST_SAMPLES} samples; {len(left)} were given"
            )
        estimate, standard_error = self.estimate(left, right)
        error = self.deviation(left, right).abs() * standard_error
        allowed = self.limit(len(left), right.numel()) * standard_error
        return Comparison(estimate, right, error, allowed)

    def statement(self, left: Tensor) -> str:
        limit = self.limit(len(left), left[0].numel())
        return f"{self.words.format(len(left))} within {limit:.2g} standard errors"

    def rejection(self, name: str, left: Tensor, right: Tensor, wrong: Tensor) -> str:
        # Measured from the right side, not from the noisy estimate, so that another seed gives the same line.
        distance = ((wrong - right).abs() / self.estimate(left, right)[1]).max().item()
        if not math.isfinite(distance):
            return f"{name} (not finite)"
        if distance < REJECTED_STANDARD_ERRORS:
            raise VerificationError(
                f"the wrong formula {name} is only {distance:.2g} standard errors away, {REJECTED_STANDARD_ERRORS} are "
                f"needed; {self._advice(len(left), distance)}"
            )
        digit = 10 ** math.floor(math.log10(distance))
        return f"{name} (> {math.floor(distance / digit) * digit:,} standard errors)"

    def _advice(self, n: int, distance: float) -> str:
        if distance < 1e-6:
            return "it gives the same value here, so choose a case where the two formulas differ"
        need = math.ceil(n * (REJECTED_STANDARD_ERRORS / distance) ** 2)
        return f"draw at least n = {need:,} samples, or choose another case"


class MonteCarlo(SampleRule):
    """Samples on the left, their expectation on the right.

    For two estimators on the same draws, pass their differences and 0: their standard error is then what counts.
    The mean of skewed samples is compared by the transformation of Hall (1992, Journal of the Royal Statistical Society
    B 54), which takes the skewness out of Student's t; samples too skewed for it are refused.
    """

    words = "Monte Carlo, mean of {:,} samples"

    def estimate(self, samples: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = samples.mean(0), samples.std(0)
        if (std <= 1e-12 * mean.abs()).any():
            raise ValueError(
                "left holds samples that do not vary; compare their one value by the rule exact"
            )
        return mean, std / math.sqrt(len(samples))

    def deviation(self, samples: Tensor, right: Tensor) -> Tensor:
        n, (mean, standard_error) = len(samples), self.estimate(samples, right)
        skewness = (((samples - mean) / samples.std(0)) ** 3).mean(0)
        largest = skewness.abs().max().item()
        if n < (need := math.ceil((largest / MOST_SKEWNESS) ** 2)):
            raise ValueError(
                f"left must hold at least {need:,} samples for a skewness of {largest:.2g}; {n:,} were given"
            )
        t, a = (mean - right) / standard_error, skewness / math.sqrt(n)
        return t + a * t**2 / 3 + a**2 * t**3 / 27 + a / 6

    def limit(self, num_samples: int, entries: int) -> float:
        from scipy.special import stdtrit  # the quantile of Student's t

        return -float(stdtrit(num_samples - 1, self.false_alarms / (2 * entries)))


class Variance(SampleRule):
    """Samples of a Gaussian on the left, their variance (not the standard deviation) on the right."""

    words = "sample variance of {:,} Gaussian draws"

    def estimate(self, samples: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        if not (right > 0).all():
            raise ValueError(
                f"right must be a positive variance; {right.min().item():.4g} was given"
            )
        return samples.var(0), right * math.sqrt(2 / (len(samples) - 1))

    def deviation(self, samples: Tensor, right: Tensor) -> Tensor:
        # The cube root of a chi-square variable is nearly normal (Wilson and Hilferty, 1931).
        spread = 2 / (9 * (len(samples) - 1))
        return ((samples.var(0) / right) ** (1 / 3) - (1 - spread)) / math.sqrt(spread)


class Binomial(SampleRule):
    """Outcomes 0 or 1 on the left, the probability of a 1 on the right."""

    words = "proportion of {:,} outcomes"

    def estimate(self, samples: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        if not ((samples == 0) | (samples == 1)).all():
            raise ValueError(
                f"left must hold outcomes 0 or 1; {samples.min():.4g} to {samples.max():.4g} was given"
            )
        if not ((right > 0) & (right < 1)).all():
            raise ValueError(
                f"right must be a probability strictly between 0 and 1; {right.min():.4g} was given"
            )
        n, variance = len(samples), right * (1 - right)
        # Else the accepted band would reach 0 or 1.
        if n < (need := math.ceil(ACCEPTED_STANDARD_ERRORS**2 / variance.min().item())):
            raise ValueError(
                f"left must hold at least {need:,} outcomes for a probability this extreme; {n:,} were given"
            )
        return samples.mean(0), (variance / n).sqrt()

    def deviation(self, samples: Tensor, right: Tensor) -> Tensor:
        # The signed root of twice the log likelihood ratio, with half an outcome for the steps of a count.
        n, mean = len(samples), samples.mean(0)
        share = mean - (mean - right).clamp(-0.5 / n, 0.5 / n)
        ratio = torch.xlogy(share, share / right) + torch.xlogy(
            1 - share, (1 - share) / (1 - right)
        )
        return (share - right).sign() * (2 * n * ratio.clamp(min=0)).sqrt()


@dataclass(frozen=True)
class AtMost(Rule):
    """Accepts `left <= right + slack`, for a trained model against a computed bound."""

    slack: float  # in the units of both sides; 0 is allowed

    def __post_init__(self) -> None:
        checks.not_negative(slack=self.slack)

    def compare(self, left: Tensor, right: Tensor) -> Comparison:
        _same_shape(left, right)
        error = left - right
        return Comparison(left, right, error, torch.full_like(error, self.slack))

    def statement(self, left: Tensor) -> str:
        return f"at most, slack {_short(self.slack)}"


exact = Tolerance("exact", 1e-10)
quadrature = Tolerance("quadrature", 1e-8)
autograd = Tolerance("autograd", 1e-8, rtol_float32=1e-4)
monte_carlo = MonteCarlo()
variance = Variance()
binomial = Binomial()
at_most = AtMost


def _same_shape(left: Tensor, right: Tensor) -> None:
    if left.shape != right.shape:
        raise ValueError(
            f"left and right must have the same shape (nothing is broadcast); {tuple(left.shape)} and "
            f"{tuple(right.shape)} were given"
        )


def _short(number: float) -> str:
    """1e-8 rather than 1e-08 or 0.00000001, and 0.05 rather than 5e-2."""
    if number == 0 or 0.01 <= number < 1e6:
        return f"{number:g}"
    digits, exponent = f"{number:.3e}".split("e")
    return f"{float(digits):g}e{int(exponent)}"
