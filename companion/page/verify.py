"""The ledger of checked equations: two independent computations of one quantity, a stated rule, one stable line.

    verify("eq-elbo-gap", log_p - elbo, kl, exact)
    verify("eq-elbo", samples, closed_form, monte_carlo, rejects={"E1": wrong_sign})

A rule is a value of `companion.page.rules`, and can be imported from here.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from companion import checks
from companion.page.rules import (  # noqa: F401 - chapters take the rules from here
    Comparison,
    Rule,
    VerificationError,
    at_most,
    autograd,
    binomial,
    exact,
    monte_carlo,
    quadrature,
    variance,
)

Values: TypeAlias = Tensor | np.ndarray | float | Sequence[Any]  # sequences may be nested


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
        checks.instance(str, **{"a name in rejects": name})
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
    try:
        if isinstance(values, (int, float)):
            values = torch.tensor(values, dtype=torch.float64)
        tensor = torch.as_tensor(values).detach().cpu().to_dense()
    except (TypeError, ValueError, RuntimeError, OverflowError):
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
