"""The few distributions: shapes, units, normalization, refusals."""

import math

import pytest
import torch

from companion.distributions import DiscretizedNormal, bernoulli, diagonal_normal


def test_diagonal_normal_sums_over_the_event() -> None:
    mean, std = torch.randn(5, 2, 3, dtype=torch.double), torch.rand(3, dtype=torch.double) + 0.1
    x = torch.randn(5, 2, 3, dtype=torch.double)
    by_hand = -((x - mean) ** 2 / (2 * std**2) + std.log() + 0.5 * math.log(2 * math.pi)).sum((1, 2))
    torch.testing.assert_close(diagonal_normal(mean, std).log_prob(x), by_hand, rtol=1e-12, atol=0)


def test_bernoulli_has_batch_shape_and_refuses_gray() -> None:
    p = bernoulli(torch.zeros(4, 1, 2, 2))
    torch.testing.assert_close(p.log_prob(torch.ones(4, 1, 2, 2)), torch.full((4,), 4 * math.log(0.5)))
    with pytest.raises(ValueError, match="support"):
        p.log_prob(torch.full((4, 1, 2, 2), 0.5))


@pytest.mark.parametrize(("mean", "std"), [(0.0, 0.3), (-0.97, 0.004), (1.4, 0.02), (0.2, 5.0)])
def test_levels_of_the_discretized_normal_sum_to_one(mean: float, std: float) -> None:
    levels = torch.linspace(-1, 1, 256, dtype=torch.double)[:, None]
    p = DiscretizedNormal(torch.full((256, 1), mean, dtype=torch.double), std)
    assert p.log_prob(levels).exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_discretized_normal_is_the_density_times_the_bin_when_bins_are_narrow() -> None:
    x = torch.linspace(-1, 1, 256, dtype=torch.double)[120:130, None]
    mean = torch.full_like(x, 0.03)
    density = diagonal_normal(mean, 0.5).log_prob(x) + math.log(2 / 255)
    torch.testing.assert_close(DiscretizedNormal(mean, 0.5).log_prob(x), density, rtol=1e-5, atol=1e-5)


def test_discretized_normal_stays_finite_far_in_the_tail() -> None:
    x = torch.tensor([[-1.0], [1.0], [-0.2]], dtype=torch.double)
    log_prob = DiscretizedNormal(torch.tensor([[0.9], [-0.9], [0.9]], dtype=torch.double), 0.01).log_prob(x)
    assert log_prob.isfinite().all() and (log_prob < -1000).all()


def test_discretized_samples_lie_on_levels_and_have_the_stated_frequencies() -> None:
    torch.manual_seed(0)
    p = DiscretizedNormal(torch.zeros(1, 1, dtype=torch.double), 0.4, low=-1, high=1, levels=5)
    draws = p.sample((40_000,)).flatten()
    for level in torch.linspace(-1, 1, 5, dtype=torch.double):
        q = p.log_prob(level.view(1, 1)).exp().item()
        share = (draws == level).double().mean().item()
        assert abs(share - q) <= 5 * math.sqrt(q * (1 - q) / 40_000)
    assert p.log_prob(p.sample((7,))).shape == (7, 1)


def test_bad_input_gets_one_sentence() -> None:
    with pytest.raises(ValueError, match="std must be positive everywhere"):
        diagonal_normal(torch.zeros(2, 3), torch.tensor([1.0, 0.0, 1.0]))
    with pytest.raises(ValueError, match="std must broadcast to mean's shape"):
        diagonal_normal(torch.zeros(2, 3), torch.ones(4))
    with pytest.raises(ValueError, match="mean must have a batch dimension"):
        diagonal_normal(torch.tensor(0.0), 1.0)
    with pytest.raises(ValueError, match="high must be above low"):
        DiscretizedNormal(torch.zeros(1, 1), 1.0, low=1, high=0)
    with pytest.raises(ValueError, match="levels must be at least 2"):
        DiscretizedNormal(torch.zeros(1, 1), 1.0, levels=1)
    with pytest.raises(ValueError, match="value must lie on the 256 gray levels"):
        DiscretizedNormal(torch.zeros(1, 1), 1.0).log_prob(torch.tensor([[0.3]]))
