"""Checks for the exercises of chapter 2, KL divergence."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Exponential, kl_divergence

from companion.page.exercises import (
    NotYet,
    Values,
    double,
    exercise,
    expect,
    expect_function,
    right_number,
    same_function,
)

A, B = double([[0.2, 0.5, 0.0, 1.0, 0.9], [0.7, 0.5, 0.3, 0.25, 0.1]])
DEPENDENT, OTHER = double([[0.3, 0.1], [0.0, 0.6]]), double([[0.1, 0.2, 0.1], [0.3, 0.1, 0.2]])
INDEPENDENT = torch.outer(double([0.2, 0.8]), double([0.5, 0.5]))


@same_function(
    "bernoulli",
    [(A, B), (B, A[[0, 1, 1, 4, 4]])],
    hint="Two terms, heads and tails; torch.xlogy(0, 0) is 0.",
    remark="0 log 0 counts as zero",
)
def check_bernoulli(a: Tensor, b: Tensor) -> Tensor:
    """Check `kl_bernoulli(a, b)`, the KL divergence of two coins, with its edge cases."""
    return kl_divergence(Bernoulli(a), Bernoulli(b))


@exercise("triangle")
def check_triangle(answer: Values) -> str:
    """Check three heads probabilities for which the direct way costs more than two."""
    wanted = "Give a list of three probabilities, such as [0.5, 0.5, 0.5]."
    try:
        coins = torch.as_tensor(answer, dtype=torch.double)
    except (TypeError, ValueError, RuntimeError):
        raise NotYet(wanted) from None
    expect(coins.shape == (3,) and ((coins >= 0) & (coins <= 1)).all(), wanted)
    pairs = Bernoulli(coins[[0, 0, 1]]), Bernoulli(coins[[2, 1, 2]])
    direct, first, second = kl_divergence(*pairs)
    hint = "Put the middle coin between the other two."
    expect(direct > first + second, f"The direct way is not the longest. {hint}")
    return "so the KL divergence is no distance"


@same_function(
    "exponential",
    [(1.0, 2.0), (2.0, 1.0), (0.3, 0.5)],
    hint="The mean of x under rate a is 1 / a; the log-ratio is linear in x.",
    remark="it depends only on the ratio of the rates",
)
def check_exponential(a: float, b: float) -> Tensor:
    """Check `kl_rates(a, b)`, the KL divergence of two exponential distributions with these rates."""
    return kl_divergence(Exponential(double(a)), Exponential(double(b)))


@same_function(
    "mutual-information",
    [(DEPENDENT,), (OTHER,), (INDEPENDENT,)],
    hint="The second distribution is the outer product of the row sums and the column sums. "
    "The matrix may hold zeros.",
    remark="zero exactly for independent variables, by Gibbs' inequality",
)
def check_mutual_information(joint: Tensor) -> Tensor:
    """Check `information(joint)`, the KL divergence of a joint distribution from its marginals."""
    product = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    return kl_divergence(Categorical(joint.flatten()), Categorical(product.flatten()))


@right_number(
    "repeated-draws",
    hint="Apply the chain rule 49 times; the conditional distributions do not depend on y.",
    remark="so even close distributions are told apart by enough data",
)
def check_repeated_draws() -> float:
    """Check the KL divergence of 50 independent draws when one draw has 0.03 nats."""
    return 1.5


@exercise("best-isotropic")
def check_best_isotropic(variance: Callable[[Tensor], Values]) -> str:
    """Check `variance(cov)`: the best isotropic Gaussian for the reverse KL divergence."""
    pair = double([[[2.0, 0.9], [0.9, 0.7]], [[1.0, -0.5], [-0.5, 1.0]]])
    covs = [(pair[0],), (pair[1],), (double([4.0, 1.0, 1.0]).diag(),)]
    hint = "Put a covariance v I into the formula and set the derivative in v to zero."
    expect_function(variance, lambda c: len(c) / c.inverse().trace(), covs, hint)
    return "the harmonic mean of the eigenvalues, never above their arithmetic mean"
