"""Hierarchical VAEs against exact linear-Gaussian chains."""

import math

import pytest
import torch
from bad_input import refused
from torch import Tensor, nn
from torch.distributions import kl_divergence

from companion.distributions import bernoulli, diagonal_normal
from companion.elbo import elbo_loss, elbo_terms, sample_log_weights
from companion.hierarchical_vae import LOG_LIMIT, HierarchicalVae
from companion.training import minimize

F64 = torch.double


# ---------------------------------------------------------------------------------------------- exact linear chains


class Row(nn.Module):
    """A linear mean, beside a constant log-variance or log-precision, beside the input where it is carried on.

    It takes as many numbers as it has weights, and is blind to the rest.
    """

    def __init__(self, *weight: float, log: float = 0.1, carries: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(weight, dtype=F64)[:, None])
        # The model bounds it softly; this is the inverse.
        self.log = nn.Parameter(torch.tensor(LOG_LIMIT * math.atanh(log / LOG_LIMIT), dtype=F64))
        self.carries = carries

    def forward(self, x: Tensor) -> Tensor:
        mean = x[:, : len(self.weight)] @ self.weight
        return torch.cat([mean, self.log.expand_as(mean), *([x] if self.carries else [])], 1)


# Z_1 = 0.9 z_2 + noise of variance 0.3, x = z_1 (+ z_2) + noise of variance 0.09.
A, S1, S0 = 0.9, 0.3, 0.09


def linear_ladder(skip: bool, evidence: nn.Module) -> HierarchicalVae:
    """z_2 -> z_1 -> x, or also z_2 -> x, all one-dimensional; only the evidence is free."""
    prior = Row(A, log=math.log(S1), carries=skip)
    prior.requires_grad_(False)
    return HierarchicalVae(
        [nn.Identity(), nn.Identity()],
        [evidence, Row(0.1)],
        [prior],
        Total(),
        lambda mean: diagonal_normal(mean, math.sqrt(S0)),
        [(1,), (1,)],
    ).double()


class Total(nn.Module):
    """The sum of all that is given."""

    def forward(self, above: Tensor) -> Tensor:
        return above.sum(1, keepdim=True)


def log_evidence(x: Tensor, skip: bool) -> Tensor:
    variance = (A + skip) ** 2 + S1 + S0
    return diagonal_normal(torch.zeros_like(x), math.sqrt(variance)).log_prob(x)


def exact_elbo(model: HierarchicalVae, x: Tensor) -> Tensor:
    """The bound without sampling: each term is quadratic in z, so its mean over two points mean +- std is exact."""
    seen = model.encode(x)
    q2, p2 = model.posterior(*seen), model.prior(len(x))
    total = -kl_divergence(q2, p2)
    for sign2 in (-1, 1):
        z2 = q2.mean + sign2 * q2.stddev
        q1, p1 = model.inner(1, z2, *seen)
        total = total - kl_divergence(q1, p1) / 2
        for sign1 in (-1, 1):
            total = total + model.likelihood(q1.mean + sign1 * q1.stddev).log_prob(x) / 4
    return total


def best_gap(skip: bool, evidence: nn.Module) -> tuple[HierarchicalVae, Tensor]:
    model, x = linear_ladder(skip, evidence), torch.tensor([[-1.3], [0.4], [2.0]], dtype=F64)
    free = [parameter for parameter in model.parameters() if parameter.requires_grad]
    minimize(lambda: -exact_elbo(model, x).mean(), free)
    return model, log_evidence(x, skip) - exact_elbo(model, x)


def test_the_best_ladder_of_a_markov_chain_is_exact() -> None:
    model, gap = best_gap(False, Row(0.1))
    torch.testing.assert_close(gap, torch.zeros(3, dtype=F64), rtol=0, atol=1e-10)
    # Every weight is then p(x) itself.
    x = torch.randn(50, 1, dtype=F64)
    expected = log_evidence(x, False).expand(4, 50)
    torch.testing.assert_close(sample_log_weights(model, x, 4), expected, rtol=0, atol=1e-5)
    # The evidence has found what x alone says of z_1: N(x, 0.09).
    assert model.evidence[0].weight.item() == pytest.approx(1, abs=1e-4)


def test_a_skip_connection_puts_the_posterior_out_of_reach_of_a_markov_ladder() -> None:
    _, gap = best_gap(True, Row(0.1))
    torch.testing.assert_close(gap, gap[:1].expand(3), rtol=0, atol=1e-6)
    assert gap.mean().item() == pytest.approx(0.290, abs=5e-4)


def test_evidence_that_sees_what_is_carried_is_exact_again() -> None:
    model, gap = best_gap(True, Row(0.1, 0.1))
    torch.testing.assert_close(gap, torch.zeros(3, dtype=F64), rtol=0, atol=1e-10)
    # x = z_1 + z_2 + noise says that z_1 is near x - z_2.
    weight = torch.tensor([[1.0], [-1.0]], dtype=F64)
    torch.testing.assert_close(model.evidence[0].weight, weight, rtol=0, atol=1e-4)


# ---------------------------------------------------------------------------------------------- features, once per x


class Counted(nn.Linear):
    """A linear layer that counts its calls."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x)


def counted_ladder() -> HierarchicalVae:
    """Three levels of vectors, x being a vector too."""
    return HierarchicalVae(
        [Counted(5, 4), Counted(4, 4), Counted(4, 4)],
        [Counted(4, 6), Counted(4, 4), Counted(4, 2)],
        [Counted(2, 6), Counted(1, 4)],
        Counted(3, 5),
        bernoulli,
        [(3,), (2,), (1,)],
    )


def test_one_estimate_of_the_bound_runs_every_network_once() -> None:
    model, x = counted_ladder(), torch.ones(7, 5)
    networks = [layer for layer in model.modules() if isinstance(layer, Counted)]
    for estimate in (elbo_terms, lambda model, x: sample_log_weights(model, x, 6)):
        for network in networks:
            network.calls = 0
        estimate(model, x)
        assert [network.calls for network in networks] == [1] * 9


def test_q_and_p_of_a_level_are_the_same_together_and_alone() -> None:
    for model in (counted_ladder(), linear_ladder(True, Row(0.1, 0.1))):
        x = torch.ones(7, 5 if model.num_latents == 3 else 1).to(model.origin)
        seen, z = model.encode(x), model.prior(7).sample()
        assert len(seen) == model.num_latents
        t = model.num_latents - 1
        q, p = model.inner(t, z, *seen)
        for one, other in ((q, model.inner_posterior(t, z, *seen)), (p, model.inner_prior(t, z))):
            assert type(one) is type(other)
            assert torch.equal(one.mean, other.mean) and torch.equal(one.variance, other.variance)


def test_gradients_of_single_examples_can_be_taken() -> None:
    model, x = counted_ladder(), torch.ones(1, 5)
    parameters = dict(model.named_parameters())

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        torch.manual_seed(0)
        named = {f"model.{name}": value for name, value in parameters.items()}
        return torch.func.functional_call(MinusBound(model), named, (x,))

    slopes = torch.func.grad(loss)(parameters, x)
    torch.manual_seed(0)
    elbo_loss(model, x).sum().backward()
    for name, parameter in parameters.items():
        torch.testing.assert_close(slopes[name], parameter.grad)


class MinusBound(nn.Module):
    """Minus the bound as a network's output, which is what torch.func can call."""

    def __init__(self, model: HierarchicalVae) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return elbo_loss(self.model, x).sum()


test_bad_input = refused("hierarchical_vae")
