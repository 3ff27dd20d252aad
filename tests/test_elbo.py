"""The bound against log p(x) where both are known exactly: linear-Gaussian chains of one to five latents."""

import importlib.util
import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, Normal

from companion import samplers
from companion.distributions import diagonal_normal
from companion.elbo import ElboTerms, LatentChain, elbo_terms
from companion.samplers import ancestral_sample


class GaussianWalk(LatentChain):
    """z_T ~ N(0, 1), each z_t = a z_{t+1} + noise of variance s2, x = a z_1 + noise: everything is Gaussian.

    The exact posteriors come from conditioning the joint Gaussian; `spread` widens them, to make q wrong.
    """

    def __init__(self, num_latents: int, a: float = 0.8, s2: float = 0.5, spread: float = 1.0) -> None:
        super().__init__()
        self.num_latents, self.a, self.s2, self.spread = num_latents, a, s2, spread
        T = num_latents
        walk = torch.zeros(T + 1, T + 1, dtype=torch.double)  # row t: z_t as a combination of the noises
        for t in range(T, -1, -1):
            walk[t, t] = 1.0 if t == T else math.sqrt(s2)
            if t < T:
                walk[t] += a * walk[t + 1]
        self.cov = walk @ walk.T

    def condition(self, t: int, given: list[int], values: Tensor) -> Distribution:
        K = self.cov[given][:, given]
        weights = torch.linalg.solve(K, self.cov[given, t])
        var = self.cov[t, t] - self.cov[t, given] @ weights
        return diagonal_normal((values @ weights)[:, None], self.spread * var.sqrt())

    def posterior(self, x: Tensor) -> Distribution:
        return self.condition(self.num_latents, [0], x)

    def prior(self, num: int) -> Distribution:
        return diagonal_normal(torch.zeros(num, 1, dtype=torch.double), 1.0)

    def likelihood(self, z_1: Tensor) -> Distribution:
        return diagonal_normal(self.a * z_1, math.sqrt(self.s2))

    def inner_posterior(self, t: int, z_above: Tensor, x: Tensor) -> Distribution:
        return self.condition(t, [t + 1, 0], torch.cat([z_above, x], 1))

    def inner_prior(self, t: int, z_above: Tensor) -> Distribution:
        return diagonal_normal(self.a * z_above, math.sqrt(self.s2))

    def log_evidence(self, x: Tensor) -> Tensor:
        return Normal(0.0, self.cov[0, 0].sqrt()).log_prob(x[:, 0])


@pytest.mark.parametrize("T", [1, 2, 5])
def test_mean_bound_equals_log_evidence_at_the_exact_posterior(T: int) -> None:
    torch.manual_seed(T)
    model, x = GaussianWalk(T), torch.full((200_000, 1), 0.7, dtype=torch.double)
    elbo = elbo_terms(model, x).elbo
    error = elbo.std().item() / math.sqrt(len(x))
    assert abs(elbo.mean().item() - model.log_evidence(x)[0].item()) <= 5 * error


@pytest.mark.parametrize("T", [1, 3])
def test_bound_falls_short_by_the_kl_when_q_is_too_wide(T: int) -> None:
    torch.manual_seed(T)
    model, x = GaussianWalk(T, spread=1.5), torch.full((200_000, 1), 0.7, dtype=torch.double)
    elbo = elbo_terms(model, x).elbo
    gap = T * (0.5 * (1.5**2 - 1) - math.log(1.5))  # T Gaussians, each 1.5 times too wide: KL adds over the levels
    error = elbo.std().item() / math.sqrt(len(x))
    difference = model.log_evidence(x)[0].item() - elbo.mean().item()
    assert gap > 20 * error and abs(difference - gap) <= 5 * error


def test_columns_belong_to_their_latents() -> None:
    model, x = GaussianWalk(3), torch.randn(4, 1, dtype=torch.double)
    terms = elbo_terms(model, x)
    assert terms.kl.shape == (4, 3)
    last = torch.distributions.kl_divergence(model.posterior(x), model.prior(4))
    torch.testing.assert_close(terms.kl[:, 2], last)


def test_elbo_is_the_likelihood_minus_all_kls() -> None:
    terms = ElboTerms(torch.tensor([-1.0, -2.0]), torch.tensor([[0.5, 0.25], [1.0, 0.0]]))
    torch.testing.assert_close(terms.elbo, torch.tensor([-1.75, -3.0]))


def test_a_chain_without_inner_methods_says_so() -> None:
    class TwoLevels(GaussianWalk):
        inner_posterior = LatentChain.inner_posterior

    class NoPrior(GaussianWalk):
        inner_prior = LatentChain.inner_prior

    with pytest.raises(NotImplementedError, match="TwoLevels has num_latents=2 but no inner_posterior"):
        elbo_terms(TwoLevels(2), torch.zeros(1, 1, dtype=torch.double))
    with pytest.raises(NotImplementedError, match="NoPrior has num_latents=3 but no inner_prior"):
        list(ancestral_sample(NoPrior(3), 1))


class Adjustable(GaussianWalk):
    """Every posterior is shifted by a parameter, whose gradient is then known by hand."""

    def __init__(self, num_latents: int) -> None:
        super().__init__(num_latents, a=1.0, s2=1.0)
        self.shift = torch.nn.Parameter(torch.zeros((), dtype=torch.double))

    def condition(self, t: int, given: list[int], values: Tensor) -> Distribution:
        return diagonal_normal(torch.zeros(len(values), 1, dtype=torch.double) + self.shift, 1.0)


@pytest.mark.parametrize("T", [1, 3])
def test_the_gradient_flows_through_the_samples(T: int) -> None:
    # q(z_t) = N(m, 1) for every t. Then E log p(x|z_1) = -((x-m)^2 + 1)/2 + const, the prior's KL is m^2/2, and each
    # of the others is E(m - z_{t+1})^2 / 2 = 1/2 for every m. So the slope of the bound in m at 0 is x; it is all in
    # the samples, since KL(q(z_T) || p(z_T)) is flat at m = 0.
    torch.manual_seed(0)
    model, x = Adjustable(T), torch.full((40_000, 1), 0.7, dtype=torch.double)
    (slope,) = torch.autograd.grad(elbo_terms(model, x).elbo.mean(), model.shift)
    assert abs(slope.item() - 0.7) <= 5 / math.sqrt(len(x))  # one draw of the slope is x - z_1


def test_samplers_build_no_graph_and_visit_the_levels_from_the_top() -> None:
    visited = []

    class Watched(Adjustable):
        def prior(self, num: int) -> Distribution:
            return diagonal_normal(self.shift.expand(num, 1), 1.0)

        def inner_prior(self, t: int, z_above: Tensor) -> Distribution:
            visited.append(t)
            return diagonal_normal(z_above + self.shift, 1.0)

        def likelihood(self, z_1: Tensor) -> Distribution:
            return diagonal_normal(z_1 + self.shift, 1.0)

    # The check of annotations wraps the generator, and torch then cannot see that it is one: so, a copy without it.
    specification = importlib.util.spec_from_file_location("plain_samplers", samplers.__file__)
    plain = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(plain)
    for z in plain.ancestral_sample(Watched(4), 3):
        assert not z.requires_grad
        assert torch.is_grad_enabled()  # between the steps, the caller's own setting holds
    assert visited == [3, 2, 1]


def test_ancestral_samples_have_the_marginal_law_of_every_level() -> None:
    torch.manual_seed(0)
    model, n = GaussianWalk(4), 100_000
    *film, mean_x = ancestral_sample(model, n)
    assert len(film) == 4
    for t, z in zip((4, 3, 2, 1), film, strict=True):
        want = model.cov[t, t].item()
        assert abs(z.var().item() - want) <= 5 * want * math.sqrt(2 / (n - 1))
    torch.testing.assert_close(mean_x, model.a * film[-1])  # the last step adds no noise
    with pytest.raises(ValueError, match="num must be at least 1; 0 was given"):
        next(ancestral_sample(model, 0))
