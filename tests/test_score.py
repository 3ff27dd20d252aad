"""Scores and flows where the density is known: mixtures of normals, and normal data."""

import math

import pytest
import torch
from bad_input import ACCEPTED, outcome, refused
from exact_mixture import DENOISER, F64, LINEAR, MIXTURE, SCORE
from networks import Network
from torch import Tensor, nn
from torch.distributions import MixtureSameFamily, MultivariateNormal

from companion.data.toys import toy_density
from companion.schedule import noise_from_x_0
from companion.score import (
    NoiseConditionalScore,
    annealed_langevin_sample,
    denoising_score_matching_loss,
    exact_score,
    geometric_noise_levels,
    langevin_sample,
    noise_conditional_score,
    noise_levels,
    noisy_mixture,
    score_from_denoiser,
)

# ------------------------------------------------------------------------------------------------ scores


def test_a_denoiser_knows_the_score_of_the_noisy_data() -> None:
    x, t = torch.randn(50, 2, dtype=F64), 20 * torch.arange(1, 51)
    score = score_from_denoiser(DENOISER, LINEAR)(x, t)
    for i, s in enumerate(LINEAR.log_alpha_bar[t]):
        noisy = noisy_mixture(MIXTURE, (s / 2).exp(), 1 - s.exp())
        for found in (exact_score(noisy.log_prob, x[i : i + 1]), SCORE(x[i : i + 1], s)):
            torch.testing.assert_close(score[i : i + 1], found, rtol=1e-10, atol=1e-11)
    # The noise is -sqrt(1 - alpha_bar) times the score, and not minus the score.
    noise = noise_from_x_0(LINEAR, x, t, DENOISER(x, t))
    scaled = -LINEAR.noise_var[t, None].sqrt() * score
    torch.testing.assert_close(noise, scaled, rtol=1e-10, atol=1e-11)
    assert (noise + score).abs().max() > 1


def test_a_denoiser_knows_the_score_of_data_with_noise_of_any_size() -> None:
    score_at_sigma = noise_conditional_score(DENOISER, LINEAR)
    levels = LINEAR.snr.rsqrt()
    x = torch.randn(50, 2, dtype=F64)
    t = 20 * torch.arange(1, 51)
    score = score_at_sigma(x, levels[t])
    halfway = (levels[t - 1] * levels[t]).sqrt()
    near = score_at_sigma(x, halfway)
    for i in range(50):
        one, level, between = x[i : i + 1], levels[t[i]], halfway[i]
        expected = exact_score(noisy_mixture(MIXTURE, 1.0, level**2).log_prob, one)
        torch.testing.assert_close(score[i : i + 1], expected, rtol=1e-9, atol=1e-11)
        # Between two levels the time of one of them serves.
        expected = exact_score(noisy_mixture(MIXTURE, 1.0, between**2).log_prob, one)
        assert (near[i : i + 1] / expected - 1).abs().max() < 0.03
    for sigma in (levels[1], levels[-1]):  # rounded, they may lie outside by a little
        rounded = score_at_sigma(x[:1], sigma.float()[None])
        torch.testing.assert_close(rounded, score_at_sigma(x[:1], sigma[None]), rtol=1e-6, atol=0)
    for sigma in (0.9 * levels[1], 1.1 * levels[-1]):
        with pytest.raises(ValueError, match="sigma must lie in"):
            score_at_sigma(x[:1], sigma[None])
    with pytest.raises(ValueError, match=r"sigma must have shape \(50,\)"):
        score_at_sigma(x, levels[:2])


def test_langevin_runs_on_the_score_of_a_denoiser() -> None:
    levels = LINEAR.snr.rsqrt()[torch.arange(1000, 100, -300)]
    start = levels[0] * torch.randn(6, 2, dtype=F64)

    def exact(x: Tensor, sigma: Tensor) -> Tensor:
        return exact_score(noisy_mixture(MIXTURE, 1.0, sigma[0] ** 2).log_prob, x)

    ends = []
    for score in (noise_conditional_score(DENOISER, LINEAR), exact):
        torch.manual_seed(0)
        *_, x = annealed_langevin_sample(score, start, levels, 0.02, 3)
        ends.append(x)
    torch.testing.assert_close(*ends, rtol=1e-8, atol=1e-9)
    assert (ends[0] - start).abs().min() > 0


def test_a_strided_schedule_tells_its_times() -> None:
    short = LINEAR.strided([100, 500])
    x = torch.randn(5, 2, dtype=F64)
    ours = score_from_denoiser(DENOISER, short)(x, torch.full((5,), 2))
    torch.testing.assert_close(ours, SCORE(x, LINEAR.log_alpha_bar[500]))


def test_exact_scores_can_be_differentiated_and_leave_no_graph_otherwise() -> None:
    variance = torch.tensor([0.5, 2.0], dtype=F64)
    law = MultivariateNormal(torch.zeros(2, dtype=F64), torch.diag(variance))
    x = torch.randn(4, 2, dtype=F64)
    assert not exact_score(law.log_prob, x).requires_grad and not x.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(exact_score(law.log_prob, x), -x / variance)
    x.requires_grad_()
    (slope,) = torch.autograd.grad(exact_score(law.log_prob, x)[:, 0].sum(), x)
    torch.testing.assert_close(slope, torch.tensor([[-2.0, 0.0]], dtype=F64).expand(4, 2))


@pytest.mark.parametrize("law", [toy_density("mixture"), MIXTURE])
def test_noise_makes_a_mixture_of_wider_normals(law: MixtureSameFamily) -> None:
    noisy, parts = noisy_mixture(law, 0.6, 0.3), law.component_distribution
    cov = getattr(parts, "covariance_matrix", torch.diag_embed(parts.variance))
    components = noisy.component_distribution
    torch.testing.assert_close(components.mean, 0.6 * parts.mean)
    wider = 0.36 * cov + 0.3 * torch.eye(2).to(cov)
    torch.testing.assert_close(components.covariance_matrix, wider)
    torch.testing.assert_close(noisy.mixture_distribution.probs, law.mixture_distribution.probs)


# ------------------------------------------------------------------------------------------------ learning a score


def test_the_network_sees_numbers_of_one_size_and_its_target_is_the_noise() -> None:
    sigmas, n = geometric_noise_levels(50.0, 0.01, 6), 60_000
    network = Network(lambda x, level: torch.zeros_like(x))
    model = NoiseConditionalScore(network, sigmas)
    loss = denoising_score_matching_loss(model, torch.randn(n, 1))
    ((x, level),) = network.given
    assert x.dtype == torch.float32
    assert level.unique().tolist() == pytest.approx(sorted(sigmas.log().tolist()))
    assert all(x[level == value].std() == pytest.approx(1, abs=0.05) for value in level.unique())
    # The size of the noise, at all levels.
    assert abs(loss.mean() - 0.5) <= 5 * loss.std() / math.sqrt(n)
    assert not model.state_dict() and not list(model.parameters())


def test_score_and_loss_are_their_formulas() -> None:
    network = Network(lambda x, level: torch.tanh(x + level[:, None]))
    model, x = NoiseConditionalScore(network, [3.0, 0.2]), torch.randn(6, 2, dtype=F64)
    sigma = torch.tensor([0.1, 0.5, 1.0, 2.0, 7.0, 9.0], dtype=F64)
    s = sigma[:, None]
    expected = -torch.tanh(x / (1 + s**2) ** 0.5 + s.log()) / s
    torch.testing.assert_close(model(x, sigma), expected)
    torch.manual_seed(3)
    loss = denoising_score_matching_loss(model, x)
    torch.manual_seed(3)
    s = torch.tensor([[3.0], [0.2]])[torch.randint(2, (6,))].double()
    noise = torch.randn_like(x)
    error = model(x + s * noise, s[:, 0]) + noise / s
    torch.testing.assert_close(loss, (s**2 / 2 * error**2).sum(1))


def test_bytes_are_noise_levels_as_other_numbers_are() -> None:
    levels = torch.tensor([3, 2, 1], dtype=torch.uint8)
    assert outcome(lambda: noise_levels(levels)) == (ACCEPTED, "")


def test_a_score_of_higher_precision_leaves_that_of_x() -> None:
    *_, x = langevin_sample(lambda x: -x.double(), torch.ones(2, 2), 0.1, 2)
    assert x.dtype == torch.float32


def test_noise_levels_are_a_copy() -> None:
    given = torch.tensor([2.0, 1.0], requires_grad=True)
    levels = noise_levels(given)
    assert torch.equal(levels, given) and not levels.requires_grad
    assert levels.data_ptr() != given.data_ptr()


def test_geometric_levels() -> None:
    levels = geometric_noise_levels(10.0, 0.01, 4)
    torch.testing.assert_close(levels, torch.tensor([10.0, 1.0, 0.1, 0.01], dtype=F64))


# ------------------------------------------------------------------------------------------------ Langevin


def test_the_step_belongs_to_its_level() -> None:
    seen: list[tuple[float, int]] = []

    def score(x: Tensor, sigma: Tensor) -> Tensor:
        seen.append((sigma[0].item(), len(sigma)))
        return torch.ones_like(x)

    torch.manual_seed(0)
    film = list(annealed_langevin_sample(score, torch.zeros(2, 3, dtype=F64), [2.0, 1.0], 0.1, 2))
    assert seen == [(2.0, 2), (2.0, 2), (1.0, 2), (1.0, 2)] and len(film) == 5
    torch.manual_seed(0)
    noise = torch.stack([torch.randn(2, 3, dtype=F64) for _ in range(4)])
    for i, size in enumerate((0.4, 0.4, 0.1, 0.1)):
        torch.testing.assert_close(film[i + 1] - film[i], size / 2 + math.sqrt(size) * noise[i])


def test_langevin_dynamics_build_no_graph() -> None:
    network, x = nn.Linear(2, 2), torch.randn(3, 2)
    for film in (
        langevin_sample(network, x, 0.1, 3),
        annealed_langevin_sample(lambda x, sigma: network(x), x, [1.0, 0.5], 0.1, 3),
    ):
        assert not any(x.requires_grad for x in film) and torch.is_grad_enabled()


test_bad_input = refused("score")
