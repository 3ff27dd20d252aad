"""Checks for the exercises of chapter 4, Reparameterization."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from companion.page.exercises import (
    NotYet,
    double,
    exercise,
    expect_close,
    expect_function,
    right_number,
    same_function,
)

CASES = [tuple(double([0.4, 1.3])), tuple(double([-2.0, 0.5]))]  # mu and sigma
Z, F = double([[1.0, 0.0, 0.0, 1.0], [2.0, -1.0, 0.5, 3.0]])


def _gauss_hermite() -> tuple[Tensor, Tensor]:
    """Nodes and weights of standard normal means, exact for polynomials to degree 19."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(10)
    return torch.from_numpy(nodes), torch.from_numpy(weights / weights.sum())


@same_function(
    "cube-gradient",
    CASES,
    hint="Write z = mu + sigma * noise and take the mean of 3 z^2 (1, noise).",
    remark="no draw was needed",
)
def check_cube(mu: Tensor, sigma: Tensor) -> Tensor:
    """Check `cube_gradient(mu, sigma)`, the gradient of E z^3 for a normal z."""
    noise, weight = _gauss_hermite()
    slope = 3 * (mu + sigma * noise) ** 2
    return torch.stack([(weight * slope).sum(), (weight * slope * noise).sum()])


@exercise("exponential-draw")
def check_waiting_time(waiting_time: Callable[[Tensor, Tensor], Tensor]) -> str:
    """Check `waiting_time(u, rate)`, a reparameterized exponential sample."""
    u, rate = double([0.05, 0.3, 0.5, 0.9, 0.999]), double(0.7)
    p = torch.distributions.Exponential(rate)
    hint = "Solve u = 1 - exp(-rate * z) for z."
    expect_function(waiting_time, lambda u, rate: p.icdf(u), [(u, rate)], hint)
    hint = "The rate must stay a tensor; use torch functions."
    try:
        slope = torch.func.jacrev(lambda rate: waiting_time(u, rate))(rate)
    except RuntimeError:  # numpy cannot read a tensor that is being differentiated
        raise NotYet(hint) from None
    expect_close(slope, -p.icdf(u) / rate, hint)
    return "and its derivative in the rate is -z / rate"


@right_number(
    "cholesky",
    hint="It must be lower triangular with a positive diagonal, and square to Sigma.",
    remark="and the first latent depends on the first noise alone",
)
def check_root() -> list[list[float]]:
    """Check the Cholesky root of ((4, 2), (2, 5)) by its square and its shape."""
    return [[2.0, 0.0], [1.0, 2.0]]


@same_function(
    "best-baseline",
    CASES,
    hint="The mean of z^3 noise^2; the fourth moment of standard normal noise is 3.",
    remark="three times as far from mu^3 as the mean of z^3",
)
def check_baseline(mu: Tensor, sigma: Tensor) -> Tensor:
    """Check `baseline(mu, sigma)`, the best one for z^3 and the derivative in mu."""
    noise, weight = _gauss_hermite()
    return (weight * (mu + sigma * noise) ** 3 * noise**2).sum()


@same_function(
    "own-mean",
    [(2,), (5,), (100,)],
    hint="The sample's own value has the share 1 / K in the mean.",
    remark="the factor of the sample variance that divides by K, for the same reason",
)
def check_factor(K: int) -> Tensor:
    """Check `factor(K)`, by which the samples' own mean as a baseline is wrong."""
    # f = score: the gradient is E s^2 = 1, and the estimate is the biased variance.
    centering = torch.eye(K, dtype=torch.double) - 1 / K
    return centering.diagonal().mean()


@same_function(
    "coin-gradient",
    [(Z, F, double(0.3)), (1 - Z, F, double(0.3))],
    hint="f times the derivative of z log(pi) + (1 - z) log(1 - pi).",
    remark="and it needs no slope of f",
)
def check_coin(z: Tensor, f: Tensor, pi: Tensor) -> Tensor:
    """Check `coin_gradient(z, f, pi)`, one score-function estimate for each outcome."""
    score = torch.func.jacrev(lambda pi: torch.distributions.Bernoulli(pi).log_prob(z))
    return f * score(pi)
