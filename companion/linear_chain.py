"""The linear hierarchical VAE: every step is Gaussian with a linear mean, so everything is known in closed form.

Its variables (x, z_1, ..., z_T) are jointly Gaussian with mean zero. Each step, of p and of q and in either direction,
is a regression of one variable on others.
"""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Independent

from companion import checks
from companion.distributions import diagonal_normal
from companion.elbo import LatentChain


def linear_covariance(
    B: Float[Tensor, "num num"], noise_var: Float[Tensor, "num"]
) -> Float[Tensor, "num num"]:
    """Covariance of v = B v + noise, with independent noise of these variances.

    Args:
        B: slope of each variable (row) on the others (column). I - B must be invertible,
            as it is for a chain, where B has one diagonal beside the main one.
        noise_var: of each variable's own noise.

    Raises:
        TypeError: if one is no floating-point tensor, or the two differ in precision.
        ValueError: if B is not square, or does not fit `noise_var`, a variance is negative, one of them
            is not finite, or I - B cannot be inverted.

    Source: Bishop 2006, section 8.1.4. Book: chapter 8.
    """
    checks.precise(noise_var=noise_var)
    checks.shape(("num",), noise_var=noise_var)
    checks.within(0, math.inf, noise_var=noise_var)
    checks.like(torch.diag(noise_var), B=B)
    checks.finite(B=B, noise_var=noise_var)
    A, failed = torch.linalg.inv_ex(torch.eye(len(B)).to(B) - B)
    if failed:
        raise ValueError("B must leave I - B invertible; another matrix was given")
    return A @ torch.diag(noise_var) @ A.T


def regress(
    C: Float[Tensor, "num num"], t: int, given: Sequence[int]
) -> tuple[Float[Tensor, "num_given"], Float[Tensor, ""]]:
    """Slopes and variance of variable t, given others, under a Gaussian with mean zero.

    Args:
        C: covariance of all variables.
        t: index of the one that is predicted.
        given: indices of those that are known, without t.

    Returns:
        One slope for each of `given`, and the conditional variance.

    Raises:
        ValueError: if C is no covariance, or a singular one of `given`, t is in `given`, or an index is none of C.

    Source: Bishop 2006, eqs. 2.81 and 2.82. Book: chapter 8.
    """
    others = _others(C, t, given)
    slopes, failed = torch.linalg.solve_ex(C[others][:, others], C[others, t])
    if failed:
        raise ValueError("C must not be singular for the variables given; it is")
    return slopes, C[t, t] - slopes @ C[others, t]


def _covariance(C: Tensor) -> None:
    """Refuse a C that is no covariance."""
    checks.precise(C=C)
    checks.shape(("num", *C.shape[:1]), C=C)
    least = 1e-5 * C.abs().max()
    symmetric = (C - C.mT).abs().max() <= least
    if not (symmetric and C.diagonal().min() > 0 and torch.linalg.eigvalsh(C)[0] >= -least):
        raise ValueError("C must be a covariance; one that is not symmetric or positive was given")


def _others(C: Tensor, t: int, given: Sequence[int]) -> list[int]:
    """The argument `given` of `regress`, whose arguments fit together."""
    _covariance(C)
    checks.whole(0, len(C) - 1, t=t)
    indices = checks.numbers(given=given)
    checks.shape((indices.numel(),), given=indices)
    others = indices.tolist()
    if not {*others} <= {*range(len(C))} - {t} or len({*others}) < len(others):
        raise ValueError(
            f"given must hold indices from 0 to {len(C) - 1} without t={t}; {others} was given"
        )
    return others


class LinearChain(LatentChain):
    """A hierarchical VAE with p(z_t | z_{t+1}) = N(a_t z_{t+1}, s_t^2) from t = T-1 down to x = z_0.

    Each variable has one dimension, and the prior of the top is N(0, 1). The approximate
    posterior is that of any Gaussian of (x, z_1, ..., z_T) with mean zero.

    Args:
        a: slopes a_0, ..., a_{T-1}.
        s: standard deviations s_0, ..., s_{T-1}, positive.
        C: covariance of (x, z_1, ..., z_T) under q; by default that of the model, so that
            q is the exact posterior.

    Raises:
        TypeError: if they are not floating-point tensors of one precision.
        ValueError: if their shapes do not fit together, there is no slope, `s` is not
            positive and finite, or C is no covariance; from `inner_prior`, if t is outside 0..T-1, and from
            `inner_posterior`, if it is outside 1..T-1.

    Book: chapter 8, (def-hierarchy).
    """

    a: Tensor
    s: Tensor
    C: Tensor

    def __init__(
        self,
        a: Float[Tensor, "num_latents"],
        s: Float[Tensor, "num_latents"],
        C: Float[Tensor, "num num"] | None = None,
    ) -> None:
        checks.precise(a=a)
        checks.shape(("num_latents",), a=a)
        checks.finite(a=a)
        checks.like(a, s=s)
        if not ((s > 0) & s.isfinite()).all():
            raise ValueError(f"s must be positive and finite; {s.tolist()} was given")
        super().__init__((1,), num_latents=len(a), x_shape=(1,))
        model = linear_covariance(torch.diag(a, 1), torch.cat([s**2, torch.ones(1).to(s)]))
        C = model if C is None else C
        checks.like(model, C=C)
        _covariance(C)
        for name, tensor in {"a": a, "s": s, "C": C}.items():
            self.register_buffer(name, tensor, persistent=False)
        self.origin = self.origin.to(a)

    def likelihood(self, z_1: Float[Tensor, "batch 1"]) -> Independent:
        """p(x | z_1)."""
        return self.inner_prior(0, z_1)

    def inner_prior(self, t: int, z_above: Float[Tensor, "batch 1"]) -> Independent:
        """p(z_t | z_{t+1}); for t = 0 that is p(x | z_1)."""
        self._check(0, t, z_above=z_above)
        return diagonal_normal(self.a[t] * z_above, self.s[t])

    def posterior(self, *seen: Float[Tensor, "batch 1"]) -> Independent:
        """q(z_T | x): the regression of z_T on x."""
        (x,) = seen
        self._check(0, 0, x=x)
        slopes, variance = regress(self.C, self.num_latents, [0])
        return diagonal_normal(slopes * x, variance**0.5)

    def inner_posterior(
        self, t: int, z_above: Float[Tensor, "batch 1"], *seen: Float[Tensor, "batch 1"]
    ) -> Independent:
        """q(z_t | z_{t+1}, x): the regression of z_t on both."""
        (x,) = seen
        self._check(1, t, z_above=z_above, x=x)
        (on_x, on_above), variance = regress(self.C, t, [0, t + 1])
        return diagonal_normal(on_x * x + on_above * z_above, variance**0.5)

    def _check(self, low: int, t: int, **latents: Tensor) -> None:
        checks.whole(low, self.num_latents - 1, t=t)
        checks.shape(("batch", 1), **latents)
        checks.floating(**latents)
        checks.like(next(iter(latents.values())), **latents)
