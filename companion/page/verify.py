"""The ledger of checked equations: two independent computations of one quantity, a stated rule, one stable line.

    verify("eq-elbo-gap", log_p - elbo, kl, exact)
    verify("eq-elbo", samples, closed_form, monte_carlo, rejects={"E1": wrong_sign})

A rule is a value. It says how far the two sides may be apart and why a wrong formula would be noticed.
"""

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from companion import checks

Values: TypeAlias = Tensor | np.ndarray | float | Sequence[Any]  # sequences may be nested

# A sample rule accepts up to 5 standard errors: 200 such checks raise about one false alarm in 10,000 runs of the book.
# A wrong formula must be four times as far away, so that no luck can hide it.
ACCEPTED_STANDARD_ERRORS = 5
REJECTED_STANDARD_ERRORS = 20
FEWEST_SAMPLES = 100  # with fewer, the standard error itself is too uncertain


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


class SampleRule(Rule):
    """Accepts an estimate from samples that is within 5 standard errors of the right side.

    The left side holds n samples of the right side's shape: (n,) for a number, (n, d) for d numbers.
    """

    words: str  # what is estimated, as a format string of the number of samples

    @abstractmethod
    def estimate(self, samples: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """The estimate and its standard error, both of the right side's shape."""

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
        return Comparison(
            estimate, right, (estimate - right).abs(), ACCEPTED_STANDARD_ERRORS * standard_error
        )

    def statement(self, left: Tensor) -> str:
        return f"{self.words.format(len(left))} within {ACCEPTED_STANDARD_ERRORS} standard errors"

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
    """

    words = "Monte Carlo, mean of {:,} samples"

    def estimate(self, samples: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = samples.mean(0), samples.std(0)
        if (std <= 1e-12 * mean.abs()).any():
            raise ValueError(
                "left holds samples that do not vary; compare their one value by the rule exact"
            )
        return mean, std / math.sqrt(len(samples))


class Variance(SampleRule):
    """Samples of a Gaussian on the left, their variance (not the standard deviation) on the right."""

    words = "sample variance of {:,} Gaussian draws"

    def estimate(self, samples: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        if not (right > 0).all():
            raise ValueError(
                f"right must be a positive variance; {right.min().item():.4g} was given"
            )
        return samples.var(0), right * math.sqrt(2 / (len(samples) - 1))


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


def verify(
    label: str,
    left: Values,
    right: Values,
    rule: Rule = exact,
    *,
    rejects: Mapping[str, Values] | None = None,
) -> None:
    """Check that two independent computations agree, and print one line that no machine changes.

    Args:
        label: the label of the equation, such as "eq-elbo".
        left: one computation: a tensor, a number or nested sequences of them; for `monte_carlo`, `variance` and
            `binomial` the samples, with the sample index first.
        right: the other computation.
        rule: how far the two may be apart.
        rejects: values that plausible wrong formulas would give, by name; the same rule must refuse each of them.

    Raises:
        VerificationError: if the sides disagree, one is not finite, or a wrong value would be accepted.
        ValueError: if the shapes differ (nothing is broadcast) or the rule does not fit the values.
        TypeError: if the numbers are too coarse for the rule, such as float32 for `exact`.
    """
    if not isinstance(label, str) or not re.fullmatch(r"[A-Za-z][\w.-]*", label):
        raise ValueError(
            f"label must be the label of an equation, such as 'eq-elbo'; {label!r} was given"
        )
    if not isinstance(rule, Rule):
        raise TypeError(
            f"rule must be a rule of companion.page.verify, such as exact or monte_carlo; {rule!r} was given"
        )
    rejects = {} if rejects is None else rejects
    checks.instance(Mapping, rejects=rejects)
    (a, eps_a), (b, eps_b) = _numbers(left, "left"), _numbers(right, "right")
    rule = rule.at_precision(max(eps_a, eps_b))
    for name, side in (("left", a), ("right", b)):
        if not side.isfinite().all():
            raise VerificationError(
                f"{label}: {name} holds a value that is not finite: {_show(side)}"
            )
    comparison = rule.compare(a, b)
    if not comparison.accepted:
        raise VerificationError(
            f"{label}: left and right disagree ({rule.statement(a)}).\n{_report(comparison)}"
        )
    print(f"verified {label}: {rule.statement(a)}{_rejections(label, rule, a, b, rejects)}")


def _rejections(
    label: str, rule: Rule, left: Tensor, right: Tensor, rejects: Mapping[str, Values]
) -> str:
    words = []
    for name, value in rejects.items():
        wrong, _ = _numbers(value, f"rejects[{name!r}]")
        if wrong.shape != right.shape:
            raise ValueError(
                f"rejects[{name!r}] must have right's shape {tuple(right.shape)}; {tuple(wrong.shape)} was given"
            )
        quoted = name if re.fullmatch(r"[ES]\d+", name) else f'"{name}"'
        try:
            words.append(rule.rejection(quoted, left, right, wrong))
        except VerificationError as error:
            raise VerificationError(f"{label}: {error}") from None
    return f"; rejects {', '.join(words)}" if words else ""


def _numbers(values: Values, name: str) -> tuple[Tensor, float]:
    """`values` as a float64 tensor on the CPU, and the relative spacing of the coarsest numbers in it."""
    if isinstance(values, (list, tuple)):
        if not values:
            raise ValueError(f"{name} is empty")
        parts = [_numbers(value, name) for value in values]
        if len({part.shape for part, _ in parts}) > 1:
            raise ValueError(f"{name} must be a regular array; its parts have different shapes")
        return torch.stack([part for part, _ in parts]), max(eps for _, eps in parts)
    if isinstance(values, (int, float)):
        values = torch.tensor(values, dtype=torch.float64)
    try:
        tensor = torch.as_tensor(values).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        raise TypeError(
            f"{name} must be a tensor, a number or a sequence; {type(values).__name__} was given"
        ) from None
    if tensor.is_complex():
        raise TypeError(
            f"{name} must be real; {tensor.dtype} was given, so compare torch.view_as_real of both sides"
        )
    if not tensor.numel():
        raise ValueError(f"{name} is empty; its shape is {tuple(tensor.shape)}")
    return tensor.double(), torch.finfo(tensor.dtype).eps if tensor.is_floating_point() else 0.0


def _same_shape(left: Tensor, right: Tensor) -> None:
    if left.shape != right.shape:
        raise ValueError(
            f"left and right must have the same shape (nothing is broadcast); {tuple(left.shape)} and "
            f"{tuple(right.shape)} were given"
        )


def _report(c: Comparison) -> str:
    worst = int((c.error - c.allowed).flatten().argmax())
    error, allowed = c.error.flatten()[worst].item(), c.allowed.flatten()[worst].item()
    index = tuple(int(i) for i in torch.unravel_index(torch.tensor(worst), c.error.shape))
    where = f", worst at index {index}" if c.error.dim() else ""
    lines = [
        f"  left  = {_show(c.left)}",
        f"  right = {_show(c.right)}",
        f"  error = {error:.4g}, allowed {allowed:.4g}{where}",
    ]
    if c.error.numel() > 6:
        lines.append(
            f"  there: left {c.left.flatten()[worst].item():.12g}, right {c.right.flatten()[worst].item():.12g}"
        )
    return "\n".join(lines)


def _show(values: Tensor) -> str:
    shown = ", ".join(f"{v:.12g}" for v in values.flatten()[:6].tolist())
    more = f", ... ({values.numel():,} values)" if values.numel() > 6 else ""
    return f"[{shown}{more}]" if values.dim() else shown


def _short(number: float) -> str:
    """1e-8 rather than 1e-08 or 0.00000001, and 0.05 rather than 5e-2."""
    if number == 0 or 0.01 <= number < 1e6:
        return f"{number:g}"
    digits, exponent = f"{number:.3e}".split("e")
    return f"{float(digits):g}e{int(exponent)}"
