"""The ring of chapter 3: its integrals against samples and closed forms, its best Gaussians against a search."""

import math

import pytest
import torch
from torch.distributions import Normal

from companion.elbo import elbo_terms
from companion.experiments import ring_bound as ring
from companion.training import minimize

MODEL = ring.ring_model(8, 1.7).double()
X, MASS = ring.cubature()


def test_the_cubature_integrates_over_the_data() -> None:
    drawn = ring.draw(200_000).double()
    assert MASS.sum().item() == pytest.approx(1, abs=1e-8)
    for function in (lambda x: x, lambda x: x.square(), lambda x: x.prod(1, keepdim=True)):
        values = function(drawn)
        error = 5 * values.std(0) / len(drawn) ** 0.5
        assert ((MASS @ function(X) - values.mean(0)).abs() < error).all()
    mean = math.exp(-(ring.SPEED**2) / 2) * math.cos(ring.PHASE)  # of the cosine of a Gaussian
    assert (MASS @ X)[0].item() == pytest.approx(mean, abs=1e-9)


@torch.no_grad()
def test_the_evidence_of_the_plane_is_one() -> None:
    side = torch.linspace(-2.5, 2.5, 101).double()
    plane = torch.cartesian_prod(side, side)
    assert ring.log_evidence(MODEL, plane).exp().sum() * 0.05**2 == pytest.approx(1, abs=1e-6)


@torch.no_grad()
def test_the_closed_form_of_the_bound_is_its_mean() -> None:
    q = MODEL.posterior(X[:1])
    closed = ring.bound(MODEL, X[:1], q.mean[:, 0], q.stddev[:, 0].log())
    sampled = elbo_terms(MODEL, X[:1].expand(200_000, 2)).elbo
    assert (sampled.mean() - closed).abs() < 5 * sampled.std() / 200_000**0.5


def test_no_gaussian_has_a_larger_bound() -> None:
    some = X[::97]
    mean, log_std = ring.best_gaussians(MODEL, some)
    found = ring.bound(MODEL, some, mean, log_std).detach()
    for start in torch.linspace(-4, 4, 9).tolist():
        free = [torch.full((len(some),), v).double().requires_grad_() for v in (start, -2.0)]
        _ = minimize(lambda free=free: -ring.bound(MODEL, some, *free).sum(), free)
        assert (ring.bound(MODEL, some, *free) < found + 1e-7).all()


def test_the_measures_are_divergences() -> None:
    """The gap of the encoder's bound is its KL divergence from the posterior, and the decoder of the data has none."""
    found = ring.measures(MODEL)
    with torch.no_grad():
        q = MODEL.posterior(X)
        log_posterior = ring.log_joint(MODEL, X) - ring.log_evidence(MODEL, X)[:, None]
        log_q = Normal(q.mean, q.stddev).log_prob(ring.Z)
        gap = (log_q.exp() * (log_q - log_posterior)).sum(1) * (ring.Z[1] - ring.Z[0])
    both = found["approximation"] + found["amortization"]
    assert both == pytest.approx((MASS @ gap).item(), rel=1e-4)
    assert found["approximation"] > 0 and found["amortization"] > 0 and found["kl"] > 0.001
    assert ring.measures(ring.ring_model(8))["kl"] == pytest.approx(0, abs=1e-7)
