"""The linear chain: covariances against draws and integrals, the exact posterior against the evidence."""

import pytest
import torch
from bad_input import refused
from torch.distributions import MultivariateNormal, Normal

from companion.elbo import elbo_terms, sample_log_weights
from companion.linear_chain import LinearChain, linear_covariance, regress
from companion.samplers import ancestral_sample

F64 = torch.double


def numbers(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=F64)


A, S = numbers(0.8, 0.9, -0.7), numbers(0.5, 0.6, 0.8)
ONE = torch.ones(2, 1, dtype=F64)


def test_the_covariance_satisfies_its_own_equation() -> None:
    B, variance = torch.randn(4, 4, dtype=F64).tril(-1), numbers(0.1, 0.5, 1.0, 2.0)
    C, left = linear_covariance(B, variance), torch.eye(4, dtype=F64) - B
    torch.testing.assert_close(left @ C @ left.T, variance.diag())
    assert not torch.allclose(linear_covariance(B.T, variance), C)


def test_a_regression_is_the_conditional_distribution() -> None:
    root = torch.randn(4, 4, dtype=F64)
    C, v = root @ root.T, torch.randn(4, dtype=F64)
    slopes, variance = regress(C, 2, [3, 0])
    known, all_three = [3, 0], [3, 0, 2]
    mean = torch.zeros(4, dtype=F64)
    joint = MultivariateNormal(mean[:3], C[all_three][:, all_three]).log_prob(v[all_three])
    of_known = MultivariateNormal(mean[:2], C[known][:, known]).log_prob(v[known])
    conditional = Normal(slopes @ v[known], variance**0.5).log_prob(v[2])
    torch.testing.assert_close(conditional, joint - of_known)


def test_the_covariance_is_that_of_draws() -> None:
    chain = LinearChain(A, S)
    *latents, _ = ancestral_sample(chain, 200_000)  # z_3, z_2, z_1, and the mean of x
    x = chain.likelihood(latents[-1]).sample()
    found = torch.cat([x, *latents[::-1]], 1).T.cov()
    torch.testing.assert_close(found, chain.C, rtol=0, atol=0.02)


def test_with_the_exact_posterior_every_weight_is_the_evidence() -> None:
    x = torch.randn(5, 1, dtype=F64)
    for num in (1, 2, 3):
        chain = LinearChain(A[:num], S[:num])
        log_p = Normal(0.0, chain.C[0, 0] ** 0.5).log_prob(x)[:, 0]
        torch.testing.assert_close(sample_log_weights(chain, x, 3), log_p.expand(3, 5))
        other = LinearChain(A[:num], S[:num], 2 * chain.C)
        assert (elbo_terms(other, x.expand(5, 1)).elbo != log_p).all()


def test_the_posterior_is_that_of_the_given_covariance() -> None:
    C_q = linear_covariance(torch.diag(numbers(0.9, 0.5, -0.4), -1), numbers(1.0, 0.3, 0.8, 0.5))
    chain, x, z = LinearChain(A, S, C_q), numbers(1.7)[:, None], numbers(0.3, -0.6, 1.1)
    v = torch.cat([x[0], z])
    log_q = chain.posterior(x).log_prob(z[2].view(1, 1))
    for t in (2, 1):
        log_q = log_q + chain.inner_posterior(t, z[t].view(1, 1), x).log_prob(z[t - 1].view(1, 1))
    joint = MultivariateNormal(torch.zeros(4, dtype=F64), C_q).log_prob(v)
    torch.testing.assert_close(log_q[0], joint - Normal(0.0, C_q[0, 0] ** 0.5).log_prob(x[0, 0]))


@pytest.mark.parametrize("dtype", [torch.float, F64])
def test_a_chain_has_the_precision_of_its_slopes(dtype: torch.dtype) -> None:
    chain = LinearChain(A.to(dtype), S.to(dtype))
    assert {z.dtype for z in ancestral_sample(chain, 2)} == {dtype}
    assert elbo_terms(chain, torch.ones(2, 1, dtype=dtype)).elbo.dtype == dtype
    assert not chain.state_dict()
    assert chain.to("meta").C.is_meta  # it moves as a whole


test_bad_input = refused("linear_chain")
