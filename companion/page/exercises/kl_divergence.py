"""Checks for the exercises of chapter 2, KL divergence."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import (
    Bernoulli,
    Categorical,
    Exponential,
    MultivariateNormal,
    kl_divergence,
)

from companion.page.exercises import NotYet, Values, exercise, expect, expect_close, expect_function


@exercise("bernoulli")
def check_bernoulli(kl_bernoulli: Callable[[Tensor, Tensor], Tensor]) -> str:
    """Check `kl_bernoulli(a, b)`, the divergence of two coins, with its edge cases."""

    def reference(a: Tensor, b: Tensor) -> Tensor:
        return kl_divergence(Bernoulli(a), Bernoulli(b))

    a = torch.tensor([0.2, 0.5, 0.0, 1.0, 0.9], dtype=torch.double)
    b = torch.tensor([0.7, 0.5, 0.3, 0.25, 0.1], dtype=torch.double)
    hint = "Two terms, heads and tails; torch.xlogy(0, 0) is 0."
    expect_function(kl_bernoulli, reference, [(a, b), (b, a[[0, 1, 1, 4, 4]])], hint)
    return "0 log 0 counts as zero"


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
    return "so the divergence is no distance"


@exercise("exponential")
def check_exponential(kl_rates: Callable[[float, float], Values]) -> str:
    """Check `kl_rates(a, b)`, the divergence of two exponential laws with these rates."""

    def reference(a: float, b: float) -> Tensor:
        p, q = (Exponential(torch.tensor(r, dtype=torch.double)) for r in (a, b))
        return kl_divergence(p, q)

    hint = "The mean of x under rate a is 1 / a; the log-ratio is linear in x."
    expect_function(kl_rates, reference, [(1.0, 2.0), (2.0, 1.0), (0.3, 0.5)], hint)
    return "it depends only on the ratio of the rates"


@exercise("mutual-information")
def check_mutual_information(information: Callable[[Tensor], Tensor]) -> str:
    """Check `information(joint)`, the divergence of a joint law from its marginals."""

    def reference(joint: Tensor) -> Tensor:
        product = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
        laws = Categorical(joint.flatten()), Categorical(product.flatten())
        return kl_divergence(*laws)

    dependent = torch.tensor([[0.3, 0.1], [0.0, 0.6]], dtype=torch.double)
    other = torch.tensor([[0.1, 0.2, 0.1], [0.3, 0.1, 0.2]], dtype=torch.double)
    hint = (
        "The second law is the outer product of the row sums and the column sums. "
        "The matrix may hold zeros."
    )
    expect_function(information, reference, [(dependent,), (other,)], hint)
    rows, columns = torch.tensor([[0.2, 0.8], [0.5, 0.5]], dtype=torch.double)
    expect(abs(information(torch.outer(rows, columns))) < 1e-9, hint)
    return "zero exactly for independent variables, by Gibbs' inequality"


@exercise("repeated-draws")
def check_repeated_draws(answer: Values) -> str:
    """Check the divergence of 50 independent draws when one draw has 0.03 nats."""
    hint = "Apply the chain rule 49 times; the conditional laws do not depend on y."
    expect_close(answer, 1.5, hint)
    return "so even close laws are told apart by enough data"


@exercise("best-diagonal")
def check_best_diagonal(variances: Callable[[Tensor], Values]) -> str:
    """Check `variances(cov)`: best diagonal normal for the reverse divergence."""
    cov = torch.tensor([[2.0, 0.9], [0.9, 0.7]], dtype=torch.double)
    other = torch.tensor([[1.0, -0.5], [-0.5, 1.0]], dtype=torch.double)

    def reference(cov: Tensor) -> Tensor:
        return 1 / cov.inverse().diagonal()

    hint = "Put a diagonal covariance into the formula and set the derivative to zero."
    expect_function(variances, reference, [(cov,), (other,)], hint)
    zero = torch.zeros(2, dtype=torch.double)
    p = MultivariateNormal(zero, cov)
    answer = torch.as_tensor(variances(cov), dtype=torch.double)
    best = MultivariateNormal(zero, answer.diag())
    wider = MultivariateNormal(zero, cov.diagonal().diag())
    expect(kl_divergence(best, p) < kl_divergence(wider, p), hint)
    return "never wider than the marginals, and narrower where coordinates are correlated"
