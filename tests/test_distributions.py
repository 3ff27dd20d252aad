"""The few distributions: shapes, units, normalization, refusals."""

import math

import pytest
import torch
from bad_input import refused
from torch import Tensor
from torch.distributions import Bernoulli, Normal, kl_divergence
from torch.nn import functional as F

from companion.distributions import (
    Carried,
    DiscretizedNormal,
    bernoulli,
    diagonal_normal,
    evidence_alone,
    log_normalizer,
    normal_product,
)

F64 = torch.double


def test_diagonal_normal_sums_over_the_event() -> None:
    mean, std = torch.randn(5, 2, 3, dtype=torch.double), torch.rand(3, dtype=torch.double) + 0.1
    x = torch.randn(5, 2, 3, dtype=torch.double)
    each = -((x - mean) ** 2 / (2 * std**2) + std.log() + 0.5 * math.log(2 * math.pi))
    found = diagonal_normal(mean, std).log_prob(x)
    torch.testing.assert_close(found, each.sum((1, 2)), rtol=1e-12, atol=0)


def test_bernoulli_has_batch_shape_and_refuses_gray() -> None:
    p, x = bernoulli(torch.zeros(4, 1, 2, 2)), torch.ones(4, 1, 2, 2)
    torch.testing.assert_close(p.log_prob(x), torch.full((4,), 4 * math.log(0.5)))
    with pytest.raises(ValueError, match="value must be 0 or 1"):
        p.log_prob(x / 2)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_the_kl_of_bernoullis_is_finite_at_any_log_odds(dtype: torch.dtype) -> None:
    a = torch.tensor([[17.0, -40.0], [300.0, 0.3]]).double()
    b = torch.tensor([[16.0, 40.0], [-300.0, -1.2]]).double()
    share = a.sigmoid()  # minus E_q log p, less minus E_q log q
    crosses = (F.binary_cross_entropy_with_logits(x, share, reduction="none") for x in (b, a))
    expected = torch.sub(*crosses).sum(1)
    found = kl_divergence(bernoulli(a.to(dtype)), bernoulli(b.to(dtype)))
    torch.testing.assert_close(found, expected.to(dtype), rtol=1e-5, atol=1e-9)
    q, p = (Bernoulli(logits=x[1, 1:]) for x in (a, b))
    found = kl_divergence(bernoulli(a[1, 1:]), bernoulli(b[1, 1:]))
    torch.testing.assert_close(found, kl_divergence(q, p))


def test_an_example_can_be_a_number() -> None:
    x = torch.tensor([0.0, 1.0, 1.0])
    found = bernoulli(torch.tensor([0.0, 2.0, -2.0])).log_prob(x)
    expected = -torch.tensor([2.0, 1 + math.exp(-2), 1 + math.exp(2)]).log()
    torch.testing.assert_close(found, expected)
    at_mean = diagonal_normal(x, 2.0).log_prob(x)
    torch.testing.assert_close(at_mean, torch.full((3,), -math.log(2) - math.log(2 * math.pi) / 2))


@pytest.mark.parametrize(("mean", "std"), [(0.0, 0.3), (-0.97, 0.004), (1.4, 0.02), (0.2, 5.0)])
def test_levels_of_the_discretized_normal_sum_to_one(mean: float, std: float) -> None:
    levels = torch.linspace(-1, 1, 256, dtype=torch.double)[:, None]
    p = DiscretizedNormal(torch.full((256, 1), mean, dtype=torch.double), std)
    assert p.log_prob(levels).exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_discretized_normal_is_the_density_times_the_bin_when_bins_are_narrow() -> None:
    x = torch.linspace(-1, 1, 256, dtype=torch.double)[120:130, None]
    mean = torch.full_like(x, 0.03)
    density = diagonal_normal(mean, 0.5).log_prob(x) + math.log(2 / 255)
    found = DiscretizedNormal(mean, 0.5).log_prob(x)
    torch.testing.assert_close(found, density, rtol=1e-5, atol=1e-5)


def test_discretized_normal_stays_finite_far_in_the_tail() -> None:
    mean, x = torch.tensor([[[0.9], [-0.9], [0.9]], [[-1.0], [1.0], [-0.2]]], dtype=torch.double)
    log_prob = DiscretizedNormal(mean, 0.01).log_prob(x)
    assert log_prob.isfinite().all() and (log_prob < -1000).all()


def test_discretized_samples_lie_on_levels_and_have_the_stated_frequencies() -> None:
    p = DiscretizedNormal(torch.zeros(1, 1, dtype=torch.double), 0.4, low=-1, high=1, levels=5)
    draws = p.sample((40_000,)).flatten()
    for level in torch.linspace(-1, 1, 5, dtype=torch.double):
        q = p.log_prob(level.view(1, 1)).exp().item()
        share = (draws == level).double().mean().item()
        assert abs(share - q) <= 5 * math.sqrt(q * (1 - q) / 40_000)
    assert p.log_prob(p.sample((7,))).shape == (7, 1)


def test_confident_bernoulli_pixels_keep_their_log_odds() -> None:
    # sigmoid(40) is 1 in float32, so a detour through the probability would lose log p(0) = -40.
    p = bernoulli(torch.tensor([[40.0, -40.0]]))
    torch.testing.assert_close(p.log_prob(torch.tensor([[0.0, 1.0]])), torch.tensor([-80.0]))


def test_discretized_normal_is_as_accurate_right_of_the_mean_as_left() -> None:
    std, half = 0.01, 1 / 255
    mean, x = scalar(-0.9), torch.linspace(-1, 1, 256, dtype=torch.double)[100]
    assert x > mean
    a, b = (x - half - mean) / std, (x + half - mean) / std
    u = torch.linspace(0, 1, 100_001, dtype=torch.double)
    z = a + (b - a) * u
    ratio = torch.trapezoid((-0.5 * (z**2 - a**2)).exp(), u) * (b - a)
    by_quadrature = ratio.log() - 0.5 * a**2 - math.log(math.sqrt(2 * math.pi))
    found = DiscretizedNormal(mean, std).log_prob(x.view(1, 1))
    torch.testing.assert_close(found, by_quadrature.view(1), rtol=1e-6, atol=0)
    mirrored = DiscretizedNormal(-mean, std).log_prob(-x.view(1, 1))
    torch.testing.assert_close(found, mirrored, rtol=1e-9, atol=0)


def test_samples_beyond_the_last_level_fall_on_it() -> None:
    p = DiscretizedNormal(torch.tensor([[3.0, -3.0]]), 0.1)
    assert torch.equal(p.sample((4,)), torch.tensor([1.0, -1.0]).expand(4, 1, 2))


def test_a_given_std_takes_the_precision_of_the_mean() -> None:
    p = diagonal_normal(torch.zeros(2, 3, dtype=torch.double), torch.ones(3))
    assert p.base_dist.loc.dtype == p.base_dist.scale.dtype == torch.double


@pytest.mark.parametrize("off", [0.015, -0.015])
def test_a_value_may_be_a_hundredth_of_a_bin_away_from_its_level(off: float) -> None:
    p = DiscretizedNormal(torch.zeros(1, 1, dtype=torch.double), 0.4, low=0, high=4, levels=5)
    for level in (1, 3):
        assert p.log_prob(torch.tensor([[level + off / 2]], dtype=torch.double)).isfinite()
        with pytest.raises(ValueError, match="5 gray levels"):
            p.log_prob(torch.tensor([[level + off]], dtype=torch.double))


def test_discretized_normal_has_the_levels_from_low_to_high_and_no_other() -> None:
    p = DiscretizedNormal(torch.zeros(2, 3), 0.4, low=0, high=4, levels=5)
    assert (p.batch_shape, p.event_shape) == ((2,), (3,))
    for level in (0.0, 4.0):
        assert p.log_prob(torch.full((2, 3), level)).isfinite().all()
    for level in (-1.0, 5.0):
        with pytest.raises(ValueError, match="5 gray levels"):
            p.log_prob(torch.full((2, 3), level))


# ---------------------------------------------------------------------------------------------- products of normals


def scalar(value: float, dtype: torch.dtype = F64) -> Tensor:
    return torch.tensor([[value]], dtype=dtype)


FACTORS = [(0.3, 0.7, -1.1, 2.5), (-2.0, 1.5, 0.4, 0.1), (0.0, 0.1, 1.0, 9.0)]


@pytest.mark.parametrize(("m_p", "s_p", "m", "precision"), FACTORS)
def test_the_product_of_two_normals_is_that_of_quadrature(
    m_p: float, s_p: float, m: float, precision: float
) -> None:
    p = diagonal_normal(scalar(m_p), s_p)
    evidence = scalar(m), scalar(math.log(precision))
    q, log_Z = normal_product(p, *evidence), log_normalizer(p, *evidence)
    z = torch.linspace(-20, 20, 400_001, dtype=F64)
    d = Normal(scalar(m), precision**-0.5)
    log_p, log_d = (p_or_d.log_prob(z)[0] for p_or_d in (Normal(scalar(m_p), s_p), d))
    joint = (log_p + log_d).exp()
    Z = torch.trapezoid(joint, z)
    mean = torch.trapezoid(z * joint, z) / Z
    variance = torch.trapezoid((z - mean) ** 2 * joint, z) / Z
    assert log_Z.item() == pytest.approx(Z.log().item(), abs=1e-8)
    assert q.mean.item() == pytest.approx(mean.item(), abs=1e-8)
    assert q.variance.item() == pytest.approx(variance.item(), abs=1e-8)
    # KL(q || p) = E_q log d - log Z, the price of the evidence.
    expected = torch.trapezoid(joint / Z * log_d, z) - Z.log()
    assert kl_divergence(q, p).item() == pytest.approx(expected.item(), abs=1e-8)


def test_the_product_and_its_normalizer_are_one_identity_in_many_dimensions() -> None:
    p = diagonal_normal(torch.randn(4, 3, 2, dtype=F64), torch.rand(4, 3, 2, dtype=F64) + 0.1)
    mean, log_precision, z = torch.randn(3, 4, 3, 2, dtype=F64)
    q, d = normal_product(p, mean, log_precision), evidence_alone(p, mean, log_precision)
    left = p.log_prob(z) + d.log_prob(z)
    right = q.log_prob(z) + log_normalizer(p, mean, log_precision)
    torch.testing.assert_close(left, right, rtol=0, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_evidence_of_no_weight_gives_the_prior_and_of_all_weight_itself(dtype: torch.dtype) -> None:
    mean_p, mean = torch.randn(2, 50, 3).to(dtype)
    p = diagonal_normal(mean_p, (torch.rand(50, 3) + 0.1).to(dtype))
    none = normal_product(p, mean, torch.full_like(mean, -math.inf))
    assert torch.equal(none.mean, p.mean) and torch.equal(none.stddev, p.stddev)
    none = normal_product(p, mean, torch.full_like(mean, -200))
    assert torch.equal(none.mean, p.mean) and torch.equal(none.stddev, p.stddev)
    assert torch.equal(kl_divergence(none, p), torch.zeros(50, dtype=dtype))
    everything = normal_product(p, mean, torch.full_like(mean, 60))
    assert torch.equal(everything.mean, mean)
    narrow = torch.full_like(mean, math.exp(-30))
    torch.testing.assert_close(everything.stddev, narrow, rtol=1e-5, atol=0)


@pytest.mark.parametrize("log_std", [-30.0, 0.0, 30.0])
@pytest.mark.parametrize("log_precision", [-80.0, -20.0, 0.0, 20.0, 80.0])
def test_the_product_has_finite_values_and_slopes_at_extreme_standard_deviations(
    log_std: float, log_precision: float
) -> None:
    values = (0.5, log_std, -0.5, log_precision)
    inputs = [scalar(value, torch.float32).requires_grad_() for value in values]
    mean_p, log_std_p, mean, log_precision_d = inputs
    q = normal_product(diagonal_normal(mean_p, log_std_p.exp()), mean, log_precision_d)
    exact_var = 1 / (math.exp(-2 * log_std) + math.exp(log_precision))
    assert q.variance.item() == pytest.approx(exact_var, rel=1e-4)
    (q.mean + q.stddev.log()).backward()
    assert all(value.grad.isfinite() for value in inputs)


def test_evidence_alone_forgets_the_prior() -> None:
    mean, log_precision = torch.randn(2, 5, 3)
    q = evidence_alone(diagonal_normal(torch.randn(5, 3), 2.0), mean, log_precision)
    torch.testing.assert_close(q.mean, mean)
    torch.testing.assert_close(q.variance, torch.exp(-log_precision))


# ---------------------------------------------------------------------------------------------- what is carried


@pytest.mark.parametrize("rest", [(), (4, 5)])
def test_a_carried_tensor_costs_nothing_and_comes_along(rest: tuple[int, ...]) -> None:
    alone = diagonal_normal(torch.randn(6, 2, *rest), 0.5)
    other = diagonal_normal(torch.randn(6, 2, *rest), 1.5)
    carry = torch.randn(6, 3, *rest)
    q, p = Carried(alone, carry), Carried(other, carry)
    assert q.batch_shape == (6,) and q.event_shape == (5, *rest)
    for sample_shape in (torch.Size(), torch.Size([7])):
        sample = q.rsample(sample_shape)
        z, carried = sample.split([2, 3], dim=len(sample_shape) + 1)
        assert sample.shape == (*sample_shape, 6, 5, *rest)
        assert torch.equal(carried, carry.expand_as(carried))
        torch.testing.assert_close(q.log_prob(sample), alone.log_prob(z))
    torch.testing.assert_close(kl_divergence(q, p), kl_divergence(alone, other))
    assert torch.equal(q.mean[:, :2], alone.mean) and torch.equal(q.mean[:, 2:], carry)
    assert torch.equal(q.variance[:, :2], alone.variance) and not q.variance[:, 2:].any()
    assert not q.sample().requires_grad
    mean = torch.zeros(6, 2, *rest, requires_grad=True)
    moved = Carried(diagonal_normal(mean, 0.5), carry).rsample()
    (slope,) = torch.autograd.grad(moved.sum(), mean)
    assert torch.equal(slope, torch.ones_like(mean))


test_bad_input = refused("distributions")
