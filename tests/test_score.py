"""Scores and flows where the density is known: mixtures of normals, and normal data."""

import math
from functools import partial

import pytest
import torch
from bad_input import refused
from exact_mixture import DENOISER, F64, LINEAR, MEANS, MIXTURE, SCORE
from networks import Network
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from companion.data.toys import toy_density
from companion.networks.mlp import TimeMlp
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
        torch.testing.assert_close(
            score[i : i + 1], exact_score(noisy.log_prob, x[i : i + 1]), rtol=1e-10, atol=1e-11
        )
        torch.testing.assert_close(SCORE(x[i : i + 1], s), score[i : i + 1], rtol=1e-10, atol=1e-11)
    # The noise is -sqrt(1 - alpha_bar) times the score, and not minus the score.
    noise = noise_from_x_0(LINEAR, x, t, DENOISER(x, t))
    torch.testing.assert_close(
        noise, -LINEAR.noise_var[t, None].sqrt() * score, rtol=1e-10, atol=1e-11
    )
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
    law = MultivariateNormal(
        torch.zeros(2, dtype=F64), torch.diag(torch.tensor([0.5, 2.0], dtype=F64))
    )
    x = torch.randn(4, 2, dtype=F64)
    assert not exact_score(law.log_prob, x).requires_grad and not x.requires_grad
    with torch.no_grad():
        torch.testing.assert_close(exact_score(law.log_prob, x), -x / torch.tensor([0.5, 2.0]))
    x.requires_grad_()
    (slope,) = torch.autograd.grad(exact_score(law.log_prob, x)[:, 0].sum(), x)
    torch.testing.assert_close(slope, torch.tensor([[-2.0, 0.0]], dtype=F64).expand(4, 2))


@pytest.mark.parametrize("law", [toy_density("mixture"), MIXTURE])
def test_noise_makes_a_mixture_of_wider_normals(law: MixtureSameFamily) -> None:
    noisy, parts = noisy_mixture(law, 0.6, 0.3), law.component_distribution
    cov = getattr(parts, "covariance_matrix", torch.diag_embed(parts.variance))
    components = noisy.component_distribution
    torch.testing.assert_close(components.mean, 0.6 * parts.mean)
    torch.testing.assert_close(
        components.covariance_matrix, 0.36 * cov + 0.3 * torch.eye(2).to(cov)
    )
    torch.testing.assert_close(noisy.mixture_distribution.probs, law.mixture_distribution.probs)


# ------------------------------------------------------------------------------------------------ learning a score


class Linear(NoiseConditionalScore):
    """The score -x / (var + sigma^2), exact for normal data of this variance."""

    def __init__(self, var: float, sigmas: Tensor) -> None:
        super().__init__(nn.Identity(), sigmas)
        self.var = var

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return -x / (self.var + sigma[:, None] ** 2)


def test_the_loss_of_the_exact_score_is_what_no_model_can_know() -> None:
    n, var, sigmas = 100_000, 0.5, geometric_noise_levels(2.0, 0.1, 4)
    x = math.sqrt(var) * torch.randn(n, 3, dtype=F64)
    loss = denoising_score_matching_loss(Linear(var, sigmas), x)
    expected = 3 / 2 * (var / (var + sigmas**2)).mean()
    assert loss.shape == (n,) and abs(loss.mean() - expected) <= 5 * loss.std() / math.sqrt(n)


def test_differences_of_the_loss_are_those_of_the_score() -> None:
    # Denoising score matching and the squared distance from the score itself differ by a constant only.
    n, var, wrong, sigma = 200_000, 0.5, 0.8, torch.tensor([0.6], dtype=F64)
    x = math.sqrt(var) * torch.randn(n, 1, dtype=F64)
    noisy = x + sigma * torch.randn_like(x)
    true, other = (-noisy / (v + sigma**2) for v in (var, wrong))
    direct = sigma**2 / 2 * (other - true).square()
    losses = []
    for v in (wrong, var):
        torch.manual_seed(7)  # the same noise for both
        losses.append(denoising_score_matching_loss(Linear(v, sigma), x))
    difference = losses[0] - losses[1]
    error = math.hypot(difference.std().item(), direct.std().item()) / math.sqrt(n)
    assert abs(difference.mean() - direct.mean()) <= 5 * error
    assert direct.mean() > 10 * error


def test_the_network_sees_numbers_of_one_size_and_its_target_is_the_noise() -> None:
    sigmas, n = geometric_noise_levels(50.0, 0.01, 6), 60_000
    network = Network(lambda x, level: torch.zeros_like(x))
    model = NoiseConditionalScore(network, sigmas)
    loss = denoising_score_matching_loss(model, torch.randn(n, 1))
    ((x, level),) = network.given
    assert x.dtype == torch.float32 and level.unique().tolist() == pytest.approx(
        sorted(sigmas.log().tolist())
    )
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


def test_noise_levels_are_a_copy() -> None:
    given = torch.tensor([2.0, 1.0], requires_grad=True)
    levels = noise_levels(given)
    assert torch.equal(levels, given) and not levels.requires_grad
    assert levels.data_ptr() != given.data_ptr()


def test_geometric_levels() -> None:
    levels = geometric_noise_levels(10.0, 0.01, 4)
    torch.testing.assert_close(levels, torch.tensor([10.0, 1.0, 0.1, 0.01], dtype=F64))


def test_a_small_network_learns_a_score_that_samples(unchecked: None) -> None:
    n, modes = 2000, MultivariateNormal(MEANS[:2].float(), 0.02 * torch.eye(2))
    data = MixtureSameFamily(Categorical(torch.ones(2)), modes)
    model = NoiseConditionalScore(TimeMlp(2, (64,), 32), geometric_noise_levels(4.0, 0.1, 8))
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(300):
        optimizer.zero_grad()
        denoising_score_matching_loss(model, data.sample(torch.Size([256]))).mean().backward()
        optimizer.step()
    with torch.no_grad():
        *_, x = annealed_langevin_sample(model, 4 * torch.randn(n, 2), model.sigmas, 4e-3, 20)
    noisy = noisy_mixture(data, 1.0, 0.1**2)
    typical, drawn = (
        noisy.log_prob(points).median() for points in (noisy.sample(torch.Size([n])), x)
    )
    print(f"log-density of the median sample: {drawn:.2f}, of the data {typical:.2f} nats")
    assert drawn > typical - 0.5  # of noise as wide as the data it is 15 nats below
    assert 0.3 < (x[:, 0] > 0).double().mean() < 0.7


# ------------------------------------------------------------------------------------------------ Langevin


def test_a_langevin_step_of_finite_size_has_a_variance_too_large() -> None:
    n, s2, step_size = 100_000, 0.5, 0.4
    expected = s2 / (1 - step_size / (4 * s2))
    # A stationary law stays, from the first step on.
    start = math.sqrt(expected) * torch.randn(n, 1, dtype=F64)
    *film, x = langevin_sample(lambda x: -x / s2, start, step_size, 3)
    assert len(film) == 3 and torch.equal(film[0], start)
    assert abs(x.var() - expected) <= 5 * expected * math.sqrt(2 / (n - 1))
    # So that the unbiased variance would be refused.
    assert expected / s2 - 1 > 50 * math.sqrt(2 / n)
    # And is reached.
    *_, x = langevin_sample(lambda x: -x / s2, torch.zeros(n, 1, dtype=F64), step_size, 60)
    assert abs(x.var() - expected) <= 5 * expected * math.sqrt(2 / (n - 1))
    *_, x = langevin_sample(lambda x: -x / s2, start[:10], 4.4 * s2, 200)
    assert x.abs().max() > 1e6


def two_modes(x: Tensor, sigma: Tensor | float) -> Tensor:
    """Score of 0.2 N(-3, 0.25) + 0.8 N(3, 0.25) with noise."""
    var = torch.as_tensor(0.25 + sigma**2).to(x).reshape(-1, 1)
    share = torch.sigmoid(math.log(0.8 / 0.2) + 6 * x / var)
    return (6 * share - 3 - x) / var


def test_annealing_finds_the_weights_of_the_modes(unchecked: None) -> None:
    n, start = 4000, 10 * torch.randn(4000, 1, dtype=F64)
    sigmas = torch.linspace(math.log(10), math.log(0.1), 15).exp()
    *film, x = annealed_langevin_sample(two_modes, start, sigmas, 1e-3, 200)
    assert len(film) == 15 * 200
    right = (x > 0).double().mean().item()
    assert abs(right - 0.8) <= 5 * math.sqrt(0.16 / n)
    assert (x[x > 0].mean() - 3).abs() < 0.05 and x[x > 0].std() == pytest.approx(0.5, abs=0.05)
    # The last level alone leaves half there.
    *_, x = langevin_sample(partial(two_modes, sigma=0.0), start, 0.02, 900)
    assert abs((x > 0).double().mean().item() - 0.5) <= 5 * math.sqrt(0.25 / n)


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
