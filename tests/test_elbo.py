"""The bound against log p(x) where both are known exactly: linear-Gaussian chains of one to five latents."""

import importlib.util
import math
from itertools import pairwise

import pytest
import torch
from bad_input import refused
from torch import Tensor
from torch.distributions import Distribution, Normal

from companion import samplers
from companion.distributions import diagonal_normal
from companion.elbo import (
    ElboTerms,
    LatentChain,
    elbo_loss,
    elbo_terms,
    importance_weighted_loss,
    sample_log_weights,
)
from companion.samplers import ancestral_sample


class GaussianWalk(LatentChain):
    """z_T ~ N(0, 1), each z_t = a z_{t+1} + noise of variance s2, x = a z_1 + noise: everything is Gaussian.

    The exact posteriors come from conditioning the joint Gaussian; `width` widens them, to make q wrong.
    """

    def __init__(
        self, num_latents: int, a: float = 0.8, s2: float = 0.5, width: float = 1.0
    ) -> None:
        super().__init__((1,), num_latents, x_shape=(1,))
        self.double()
        self.a, self.s2, self.width = a, s2, width
        T = num_latents
        # Row t: z_t as a combination of the noises.
        walk = torch.zeros(T + 1, T + 1, dtype=torch.double)
        for t in range(T, -1, -1):
            walk[t, t] = 1.0 if t == T else math.sqrt(s2)
            if t < T:
                walk[t] += a * walk[t + 1]
        self.cov = walk @ walk.T

    def condition(self, t: int, given: list[int], values: Tensor) -> Distribution:
        K = self.cov[given][:, given]
        weights = torch.linalg.solve(K, self.cov[given, t])
        var = self.cov[t, t] - self.cov[t, given] @ weights
        return diagonal_normal((values @ weights)[:, None], self.width * var.sqrt())

    def posterior(self, x: Tensor) -> Distribution:
        return self.condition(self.num_latents, [0], x)

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
    model, x = GaussianWalk(T, width=1.5), torch.full((200_000, 1), 0.7, dtype=torch.double)
    elbo = elbo_terms(model, x).elbo
    # T Gaussians, each 1.5 times too wide: KL adds over the levels.
    gap = T * (0.5 * (1.5**2 - 1) - math.log(1.5))
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

    with pytest.raises(NotImplementedError, match="TwoLevels has num_latents=2 but no inner_post"):
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
    model, n = GaussianWalk(4), 100_000
    *film, mean_x = ancestral_sample(model, n)
    assert len(film) == 4
    for t, z in zip((4, 3, 2, 1), film, strict=True):
        want = model.cov[t, t].item()
        assert abs(z.var().item() - want) <= 5 * want * math.sqrt(2 / (n - 1))
    torch.testing.assert_close(mean_x, model.a * film[-1])  # the last step adds no noise


def repeat(value: float, num: int) -> Tensor:
    return torch.full((num, 1), value, dtype=torch.double)


@pytest.mark.parametrize("T", [1, 3])
def test_every_weight_is_p_of_x_at_the_exact_posterior(T: int) -> None:
    model, x = GaussianWalk(T), torch.randn(50, 1, dtype=torch.double)
    torch.testing.assert_close(
        sample_log_weights(model, x, 1)[0], model.log_evidence(x), rtol=0, atol=1e-10
    )
    for K in (1, 7):
        loss = importance_weighted_loss(model, x, K)
        torch.testing.assert_close(-loss, model.log_evidence(x), rtol=0, atol=1e-10)


@pytest.mark.parametrize("T", [1, 3])
def test_the_mean_of_the_log_weights_is_the_bound_and_that_of_the_weights_is_p_of_x(T: int) -> None:
    model, x = GaussianWalk(T, width=1.5), repeat(0.7, 200_000)
    log_w, elbo = sample_log_weights(model, x, 1)[0], elbo_terms(model, x).elbo
    error = math.hypot(log_w.std().item(), elbo.std().item()) / math.sqrt(len(x))
    assert abs(log_w.mean().item() - elbo.mean().item()) <= 5 * error
    ratio = (log_w - model.log_evidence(x)).exp()  # bounded, since q is the wider one
    assert abs(ratio.mean().item() - 1) <= 5 * ratio.std().item() / math.sqrt(len(x))


def test_more_samples_tighten_the_bound_and_never_pass_p_of_x() -> None:
    model, x = GaussianWalk(2, width=1.8), repeat(0.7, 20_000)
    log_w = sample_log_weights(model, x, 16)
    assert log_w.shape == (16, 20_000)
    bounds = [(log_w[:K].logsumexp(0) - math.log(K)) for K in (1, 2, 4, 16)]
    for looser, tighter in pairwise(bounds):
        rise = tighter - looser  # of the same samples
        assert rise.mean() > 5 * rise.std() / math.sqrt(len(x))
    gap = model.log_evidence(x) - bounds[-1]
    assert gap.mean() > -5 * gap.std() / math.sqrt(len(x))


def test_each_example_keeps_its_own_samples() -> None:
    # The exact posterior makes each weight p(x), so a mix-up of examples and samples would show.
    model, x = GaussianWalk(2), torch.tensor([[-3.0], [0.0], [2.0]], dtype=torch.double)
    expected = model.log_evidence(x).expand(4, 3)
    torch.testing.assert_close(sample_log_weights(model, x, 4), expected, rtol=0, atol=1e-10)


def test_the_importance_weighted_loss_averages_the_weights_and_not_their_logarithms() -> None:
    model, x = GaussianWalk(1, width=2.0), torch.randn(5, 1, dtype=torch.double)
    torch.manual_seed(1)
    by_hand = sample_log_weights(model, x, 6).exp().mean(0).log()
    torch.manual_seed(1)
    torch.testing.assert_close(-importance_weighted_loss(model, x, 6), by_hand)


@pytest.mark.parametrize("T", [1, 3])
def test_the_gradient_of_the_log_weights_is_that_of_the_bound(T: int) -> None:
    model, x = Adjustable(T), repeat(0.7, 40_000)
    (slope,) = torch.autograd.grad(sample_log_weights(model, x, 1)[0].mean(), model.shift)
    assert abs(slope.item() - 0.7) <= 5 * math.sqrt(2 * T) / math.sqrt(len(x))


@pytest.mark.parametrize("T", [1, 3])
def test_the_loss_is_minus_the_bound(T: int) -> None:
    model, x = GaussianWalk(T, width=1.3), torch.randn(9, 1, dtype=torch.double)
    torch.manual_seed(5)
    elbo = elbo_terms(model, x).elbo
    torch.manual_seed(5)
    assert torch.equal(elbo_loss(model, x), -elbo)


def test_beta_weighs_the_kls() -> None:
    model, x = GaussianWalk(3, width=1.3), torch.randn(9, 1, dtype=torch.double)
    torch.manual_seed(5)
    terms = elbo_terms(model, x)
    for beta in (0, 4.0):
        torch.manual_seed(5)
        torch.testing.assert_close(
            elbo_loss(model, x, beta=beta), beta * terms.kl.sum(1) - terms.log_likelihood
        )


def test_free_nats_are_counted_for_each_level_and_on_average_over_the_batch() -> None:
    model, x = GaussianWalk(3), torch.linspace(-3, 3, 40, dtype=torch.double)[:, None]
    torch.manual_seed(5)
    terms = elbo_terms(model, x)
    low, middle, high = terms.kl.mean(0).sort().values.tolist()
    free = (middle + high) / 2
    torch.manual_seed(5)
    loss = elbo_loss(model, x, free_nats=free)
    assert loss.shape == (40,) and low < free < high
    expected = terms.kl.mean(0).clamp_min(free).sum() - terms.log_likelihood.mean()
    torch.testing.assert_close(loss.mean(), expected)
    level = terms.kl[:, terms.kl.mean(0).argmax()]
    assert level.min() < free  # single examples may stay below it
    torch.testing.assert_close(loss, level + 2 * free - terms.log_likelihood)


def test_a_level_below_its_free_nats_has_no_gradient() -> None:
    class Wrong(Adjustable):
        def posterior(self, x: Tensor) -> Distribution:
            return diagonal_normal(self.shift + 0.1 + 0 * x, 1.0)

        def likelihood(self, z_1: Tensor) -> Distribution:
            return diagonal_normal(0 * z_1, 1.0)

    model, x = Wrong(1), repeat(0.7, 4)
    for free_nats, slope in ((0.0, 0.1), (1.0, 0.0)):
        (gradient,) = torch.autograd.grad(
            elbo_loss(model, x, free_nats=free_nats).mean(), model.shift
        )
        assert gradient.item() == pytest.approx(slope)


def test_a_model_that_knows_no_shape_of_x_needs_a_batch_of_any() -> None:
    model = GaussianWalk(1)
    model.x_shape = None
    with pytest.raises(ValueError, match=r"^x must have shape \(batch, ...\); \(4,\) was given$"):
        elbo_terms(model, torch.zeros(4))
    assert elbo_terms(model, torch.zeros(4, 1).double()).elbo.shape == (4,)


class Shared(GaussianWalk):
    """What inference sees is computed by `encode`, and q and p of a level by one method."""

    def __init__(self, num_latents: int) -> None:
        super().__init__(num_latents)
        self.calls: list[str] = []

    def encode(self, x: Tensor) -> tuple[Tensor, ...]:
        self.calls.append(f"encode {len(x)}")
        return 2 * x, 3 * x

    def posterior(self, twice: Tensor, thrice: Tensor) -> Distribution:
        return super().posterior(thrice - twice)

    def inner(
        self, t: int, z_above: Tensor, twice: Tensor, thrice: Tensor
    ) -> tuple[Distribution, Distribution]:
        self.calls.append(f"inner {t}, {len(twice)}")
        return super().inner(t, z_above, thrice - twice)


def test_x_is_encoded_once_and_every_level_asked_once() -> None:
    model, plain = Shared(3), GaussianWalk(3)
    x = torch.randn(5, 1, dtype=torch.double)
    for estimate, num in (
        (lambda model: elbo_terms(model, x).elbo, 1),
        (lambda model: sample_log_weights(model, x, 4), 4),
    ):
        model.calls.clear()
        torch.manual_seed(1)
        value = estimate(model)
        assert model.calls == ["encode 5", f"inner 2, {5 * num}", f"inner 1, {5 * num}"]
        torch.manual_seed(1)
        torch.testing.assert_close(value, estimate(plain))


def test_the_prior_is_standard_normal_of_the_top_latent_s_shape_and_holds_no_weights() -> None:
    model = GaussianWalk(2)
    p = model.prior(3)
    assert p.batch_shape == (3,) and p.event_shape == (1,) and p.mean.dtype == torch.double
    assert not p.mean.any() and (p.stddev == 1).all() and not model.state_dict()


test_bad_input = refused("elbo")
