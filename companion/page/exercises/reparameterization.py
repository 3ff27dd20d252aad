"""Checks for the exercises of chapter 4, Reparameterization."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from companion.page.exercises import NotYet, exercise, expect_close, expect_function


@exercise("cube-gradient")
def check_cube(cube_gradient: Callable[[Tensor, Tensor], Any]) -> str:
    """Check `cube_gradient(mu, sigma)`, the gradient of E z^3 for a normal z."""

    def reference(mu: Tensor, sigma: Tensor) -> Tensor:
        noise, weight = _gauss_hermite()
        slope = 3 * (mu + sigma * noise) ** 2
        return torch.stack([(weight * slope).sum(), (weight * slope * noise).sum()])

    hint = "Write z = mu + sigma * noise and take the mean of 3 z^2 (1, noise)."
    cases = [_tensors(0.4, 1.3), _tensors(-2.0, 0.5)]
    expect_function(cube_gradient, reference, cases, hint)
    return "no draw was needed"


@exercise("exponential-draw")
def check_waiting_time(waiting_time: Callable[[Tensor, Tensor], Tensor]) -> str:
    """Check `waiting_time(u, rate)`, a reparameterized exponential draw."""
    u = torch.tensor([0.05, 0.3, 0.5, 0.9, 0.999], dtype=torch.double)
    rate = torch.tensor(0.7, dtype=torch.double)
    law = torch.distributions.Exponential(rate)
    hint = "Solve u = 1 - exp(-rate * z) for z."
    expect_function(waiting_time, lambda u, rate: law.icdf(u), [(u, rate)], hint)
    hint = "The rate must stay a tensor; use torch functions."
    try:
        slope = torch.func.jacrev(lambda rate: waiting_time(u, rate))(rate)
    except RuntimeError:  # numpy cannot read a tensor that is being differentiated
        raise NotYet(hint) from None
    expect_close(slope, -law.icdf(u) / rate, hint)
    return "and its derivative in the rate is -z / rate"


@exercise("cholesky")
def check_root(answer: Any) -> str:
    """Check the Cholesky root of ((4, 2), (2, 5)) by its square and its shape."""
    hint = "It must be lower triangular with a positive diagonal, and square to Sigma."
    expect_close(answer, [[2.0, 0.0], [1.0, 2.0]], hint)
    return "and the first latent depends on the first noise alone"


@exercise("best-baseline")
def check_baseline(baseline: Callable[[Tensor, Tensor], Tensor]) -> str:
    """Check `baseline(mu, sigma)`, the best one for z^3 and the derivative in mu."""

    def reference(mu: Tensor, sigma: Tensor) -> Tensor:
        noise, weight = _gauss_hermite()
        return (weight * (mu + sigma * noise) ** 3 * noise**2).sum()

    hint = "The mean of z^3 noise^2; the fourth moment of standard normal noise is 3."
    expect_function(baseline, reference, [_tensors(0.4, 1.3), _tensors(-2.0, 0.5)], hint)
    return "three times as far from mu^3 as the mean of z^3"


@exercise("own-mean")
def check_factor(factor: Callable[[int], Any]) -> str:
    """Check `factor(K)`, by which the draws' own mean as a baseline is wrong."""

    def reference(K: int) -> Tensor:
        # f = score: the gradient is E s^2 = 1, and the estimate is the biased variance.
        centering = torch.eye(K, dtype=torch.double) - 1 / K
        return centering.diagonal().mean()

    hint = "The draw's own value has the share 1 / K in the mean."
    expect_function(factor, reference, [(2,), (5,), (100,)], hint)
    return "the factor of the sample variance that divides by K, for the same reason"


@exercise("coin-gradient")
def check_coin(coin_gradient: Callable[[Tensor, Tensor, Tensor], Tensor]) -> str:
    """Check `coin_gradient(z, f, pi)`, one score-function estimate for each outcome."""

    def reference(z: Tensor, f: Tensor, pi: Tensor) -> Tensor:
        score = torch.func.jacrev(lambda pi: torch.distributions.Bernoulli(pi).log_prob(z))
        return f * score(pi)

    z, f = torch.tensor([[1.0, 0.0, 0.0, 1.0], [2.0, -1.0, 0.5, 3.0]]).double()
    hint = "f times the derivative of z log(pi) + (1 - z) log(1 - pi)."
    pi = torch.tensor(0.3, dtype=torch.double)
    expect_function(coin_gradient, reference, [(z, f, pi), (1 - z, f, pi)], hint)
    return "and it needs no slope of f"


def _tensors(mu: float, sigma: float) -> tuple[Tensor, Tensor]:
    return torch.tensor(mu, dtype=torch.double), torch.tensor(sigma, dtype=torch.double)


def _gauss_hermite() -> tuple[Tensor, Tensor]:
    """Nodes and weights of standard normal means, exact for polynomials to degree 19."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(10)
    weights = weights / weights.sum()
    return torch.from_numpy(nodes), torch.from_numpy(weights)
