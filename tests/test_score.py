"""Scores and flows where the density is known: mixtures of normals, and normal data."""

import math
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from companion.data.toys import toy_density
from companion.denoisers import MixtureDenoiser, gaussian_denoiser
from companion.flows import (
    continuous_score,
    flow_velocity,
    ode_log_prob,
    probability_flow,
    straight_line,
)
from companion.networks.mlp import TimeMlp
from companion.schedule import linear_schedule, noise_from_x_0
from companion.score import (
    NoiseConditionalScore,
    annealed_langevin_sample,
    denoising_score_matching_loss,
    exact_score,
    geometric_noise_levels,
    mixture_score,
    noisy_mixture,
    score_from_denoiser,
)

F64 = torch.double
LINEAR = linear_schedule(1000)
WEIGHTS = torch.tensor([0.5, 0.3, 0.2], dtype=F64)
MEANS = torch.tensor([[1.0, 0.5], [-1.0, 0.0], [0.3, -1.0]], dtype=F64)
FACTORS = torch.tensor(
    [[[0.4, 0.0], [0.2, 0.3]], [[0.3, 0.0], [0.0, 0.5]], [[0.2, 0.0], [-0.2, 0.3]]], dtype=F64
)
COVS = FACTORS @ FACTORS.mT
MIXTURE = MixtureSameFamily(Categorical(WEIGHTS), MultivariateNormal(MEANS, COVS))
SCORE = partial(mixture_score, MIXTURE)
DENOISER = MixtureDenoiser(LINEAR, WEIGHTS, MEANS, COVS)


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


def test_noise_makes_a_mixture_of_wider_normals() -> None:
    law, n = toy_density("mixture"), 200_000
    assert isinstance(law, MixtureSameFamily)
    noisy = noisy_mixture(law, 0.6, 0.3)
    x = 0.6 * law.sample(torch.Size([n])) + math.sqrt(0.3) * torch.randn(n, 2)
    same = noisy.log_prob(noisy.sample(torch.Size([n]))) - noisy.log_prob(x)
    assert abs(same.mean()) <= 5 * same.std() / math.sqrt(n)
    assert torch.allclose(noisy.variance, 0.36 * law.variance + 0.3)


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_between_two_times_the_noise_is_interpolated(share: float) -> None:
    score, x = continuous_score(DENOISER, LINEAR), torch.randn(20, 2, dtype=F64)
    for t in (1, 2, 400, 999):
        low, high = LINEAR.log_alpha_bar[t], LINEAR.log_alpha_bar[t + 1]
        s = torch.lerp(low, high, share)
        exact = SCORE(x, s)
        # At the first times the score changes by itself from one to the next; in between it is nearly interpolated.
        torch.testing.assert_close(
            score(x, s), exact, rtol=(1e-9 if share in (0, 1) else 3e-2), atol=1e-3 * share
        )


def test_continuous_scores_know_their_range() -> None:
    score, x = continuous_score(DENOISER, LINEAR), torch.zeros(1, 2, dtype=F64)
    for s in (0.0, -5e-5, -10.2):
        with pytest.raises(
            ValueError,
            match=r"^log_alpha_bar must lie in -10.12..-0.0001, that of the times 1..1000; ",
        ):
            score(x, torch.tensor(s, dtype=F64))
    with pytest.raises(ValueError, match="^schedule must have at least 2 steps; it has 1$"):
        continuous_score(DENOISER, LINEAR.strided([5]))


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
    seen = []

    class Network(nn.Module):
        def forward(self, x: Tensor, level: Tensor) -> Tensor:
            seen.append((x, level))
            return torch.zeros_like(x)

    sigmas, n = geometric_noise_levels(50.0, 0.01, 6), 60_000
    model = NoiseConditionalScore(Network(), sigmas)
    loss = denoising_score_matching_loss(model, torch.randn(n, 1))
    ((x, level),) = seen
    assert x.dtype == torch.float32 and level.unique().tolist() == pytest.approx(
        sorted(sigmas.log().tolist())
    )
    assert all(x[level == value].std() == pytest.approx(1, abs=0.05) for value in level.unique())
    assert abs(loss.mean() - 0.5) <= 5 * loss.std() / math.sqrt(
        n
    )  # the size of the noise, at all levels
    assert not model.state_dict() and not list(model.parameters())


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


# ------------------------------------------------------------------------------------------------ flows


def test_the_flow_of_normal_data_is_a_rescaling() -> None:
    lam, levels = (
        torch.tensor([0.25, 3.0], dtype=F64),
        torch.tensor([0.0, -0.5, -3.0, -9.0], dtype=F64),
    )

    def score(x: Tensor, s: Tensor) -> Tensor:
        return -x / (s.exp() * lam - s.expm1())

    x = torch.randn(20, 2, dtype=F64)
    *film, x_T = probability_flow(score, x, levels)
    v = levels.exp()[:, None, None] * lam - levels.expm1()[:, None, None]
    torch.testing.assert_close(
        torch.stack([*film, x_T]), x * (v / lam).sqrt(), rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(
        probability_flow(score, x_T, levels.flip(0))[-1], x, rtol=1e-5, atol=1e-5
    )


def test_there_and_back_again(unchecked: None) -> None:
    x = MIXTURE.sample(torch.Size([50]))
    noise = probability_flow(SCORE, x, [0.0, -20.0])[-1]
    back = probability_flow(SCORE, noise, [-20.0, 0.0])[-1]
    torch.testing.assert_close(back, x, rtol=0, atol=1e-4)
    single = probability_flow(SCORE, noise.float(), [-20.0, 0.0], rtol=1e-4, atol=1e-4)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single[-1].double(), x, rtol=0, atol=2e-2)


@pytest.mark.parametrize("end", [None, "exact"])
def test_the_likelihood_of_the_flow_is_that_of_the_mixture(
    end: str | None, unchecked: None
) -> None:
    x, levels = 1.5 * torch.randn(60, 2, dtype=F64), [0.0, -20.0]
    law = None
    if end is not None:  # then the way may end anywhere
        levels = [0.0, -1.0]
        law = noisy_mixture(MIXTURE, math.exp(-0.5), 1 - math.exp(-1.0))
    log_p = ode_log_prob(SCORE, x, levels, law)
    error = (log_p - MIXTURE.log_prob(x)).abs().max().item()
    print(f"largest error of log p, {levels}: {error:.1e} nats")
    assert error < 2 * 1e-3 / 4  # two dimensions; nats
    if end is not None:  # N(0, I) would not do there
        assert (ode_log_prob(SCORE, x, levels) - MIXTURE.log_prob(x)).abs().max() > 0.1


def test_the_likelihood_of_the_toy_of_the_book(unchecked: None) -> None:
    law = toy_density("mixture")
    x = law.sample(torch.Size([40])).double()
    log_p = ode_log_prob(partial(mixture_score, law), x, [0.0, -22.0])
    assert (log_p - law.log_prob(x)).abs().max() < 1e-3


def test_the_likelihood_is_the_logarithm_of_a_change_of_volume(unchecked: None) -> None:
    # The same by another way: the determinant of the map from x to the noise.
    x, levels = MIXTURE.sample(torch.Size([3])), [0.0, -2.0]
    end = noisy_mixture(MIXTURE, math.exp(-1.0), 1 - math.exp(-2.0))
    h, tight = 1e-4, {"rtol": 1e-10, "atol": 1e-10}
    moves = []
    for direction in torch.eye(2, dtype=F64):
        up, down = (
            probability_flow(SCORE, x + sign * h * direction, levels, **tight)[-1]
            for sign in (1, -1)
        )
        moves.append((up - down) / (2 * h))
    arrived = probability_flow(SCORE, x, levels, **tight)[-1]
    expected = end.log_prob(arrived) + torch.stack(moves, -1).det().abs().log()
    torch.testing.assert_close(ode_log_prob(SCORE, x, levels, end), expected, rtol=0, atol=1e-5)


def test_probes_estimate_the_trace(unchecked: None) -> None:
    n = 4000
    x, levels = torch.tensor([[0.8, -0.3]], dtype=F64).expand(n, 2).contiguous(), [0.0, -1.0]
    exact = ode_log_prob(SCORE, x[:1], levels)
    tolerance = {"rtol": 1e-4, "atol": 1e-4}
    for num in (1, 4):
        probes = torch.randint(0, 2, (num, n, 2)).double() * 2 - 1
        estimates = ode_log_prob(SCORE, x, levels, probes=probes, **tolerance)
        assert abs(estimates.mean() - exact) <= 5 * estimates.std() / math.sqrt(n) + 1e-3
        assert estimates.std() > 0.01
    units = math.sqrt(2) * torch.eye(2, dtype=F64)[:, None].expand(2, n, 2)  # these give it exactly
    torch.testing.assert_close(ode_log_prob(SCORE, x, levels, probes=units)[:1], exact)


def test_pictures_keep_their_shape() -> None:
    def score(x: Tensor, s: Tensor) -> Tensor:
        return -x / (0.5 * s.exp() - s.expm1())

    x = torch.randn(3, 1, 2, 2, dtype=F64)
    assert probability_flow(score, x, [0.0, -1.0, -3.0]).shape == (3, 3, 1, 2, 2)
    expected = torch.distributions.Normal(0.0, math.sqrt(0.5)).log_prob(x).sum((1, 2, 3))
    torch.testing.assert_close(ode_log_prob(score, x, [0.0, -20.0]), expected, rtol=0, atol=1e-4)


def test_the_flow_of_a_denoiser_is_where_its_samplers_lead(unchecked: None) -> None:
    from companion.samplers import ddim_sample

    whole = linear_schedule(1000)
    noise, score = torch.randn(50, 2, dtype=F64), continuous_score(DENOISER, whole)
    x_1 = probability_flow(score, noise, whole.log_alpha_bar[[-1, 1]], rtol=1e-4, atol=1e-4)[-1]
    exact = probability_flow(SCORE, noise, whole.log_alpha_bar[[-1, 1]])[-1]
    torch.testing.assert_close(x_1, exact, rtol=0, atol=5e-3)
    *_, sampled, _ = ddim_sample(DENOISER, whole, noise)
    assert (sampled - exact).abs().median() < 0.01


# ------------------------------------------------------------------------------------------------ flow matching


def test_flow_matching_is_the_same_flow_in_other_coordinates(unchecked: None) -> None:
    u = torch.linspace(0.05, 0.95, 7, dtype=F64)
    scale, levels = straight_line(u)
    noise = torch.randn(30, 2, dtype=F64)
    ours = probability_flow(SCORE, noise, levels.flip(0), rtol=1e-9, atol=1e-9).flip(0)

    def velocity(x_u: Tensor, u: float) -> Tensor:
        at = torch.full((len(x_u),), u, dtype=F64)
        (size,), (s,) = straight_line(at[:1])
        x_t = x_u / size
        x_hat = (x_t + (1 - s.exp()) * SCORE(x_t, s)) / (s / 2).exp()
        return flow_velocity(x_u, at, x_hat)

    x_u, h = scale[-1] * noise, (0.95 - 0.05) / 300
    for i in range(300):  # the classical method of Runge and Kutta, from noise to data
        at = 0.95 - i * h
        k_1 = velocity(x_u, at)
        k_2 = velocity(x_u - h / 2 * k_1, at - h / 2)
        k_3 = velocity(x_u - h / 2 * k_2, at - h / 2)
        k_4 = velocity(x_u - h * k_3, at - h)
        x_u = x_u - h / 6 * (k_1 + 2 * k_2 + 2 * k_3 + k_4)
        if (i + 1) % 50 == 0:
            j = 6 - (i + 1) // 50
            torch.testing.assert_close(x_u, scale[j] * ours[j], rtol=0, atol=1e-5)


def test_points_on_straight_lines_are_scaled_x_t() -> None:
    u = torch.tensor([0.0, 0.2, 0.5, 0.9], dtype=F64)
    scale, log_alpha_bar = straight_line(u)
    torch.testing.assert_close(scale * (log_alpha_bar / 2).exp(), 1 - u)
    torch.testing.assert_close(scale * (-log_alpha_bar.expm1()).sqrt(), u)
    x, noise = torch.randn(2, 4, 3, dtype=F64)
    at = u.clone()
    at[0] = 1.0
    on_line = (1 - at[:, None]) * x + at[:, None] * noise
    torch.testing.assert_close(flow_velocity(on_line, at, x), noise - x)


# ------------------------------------------------------------------------------------------------ errors

X = torch.zeros(5, 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: NoiseConditionalScore(nn.Identity(), [1.0, 2.0]),
            r"^sigmas must be positive and falling; \[1.0, 2.0",
        ),
        (
            lambda: NoiseConditionalScore(nn.Identity(), [1.0, 0.0]),
            "^sigmas must be positive and falling",
        ),
        (lambda: NoiseConditionalScore(nn.Identity(), []), r"falling; \[\] was given$"),
        (
            lambda: geometric_noise_levels(0.1, 1.0, 5),
            "^sigma_1 must be above sigma_L, and both positive and finite; 0.1 and 1.0 were given$",
        ),
        (lambda: geometric_noise_levels(0.1, 0.0, 5), "both positive"),
        (lambda: geometric_noise_levels(math.inf, 1.0, 5), "both positive"),
        (lambda: geometric_noise_levels(1.0, 0.1, 1), "^num must be at least 2; 1 was given$"),
        (
            lambda: probability_flow(SCORE, X, [0.0]),
            r"^log_alpha_bar must hold at least two levels, all falling or all rising; \[0.0\] was given$",
        ),
        (lambda: probability_flow(SCORE, X, [0.0, -1.0, -1.0]), "all falling or all rising"),
        (lambda: ode_log_prob(SCORE, X, [0.0, -2.0, -1.0]), "all falling or all rising"),
        (
            lambda: ode_log_prob(SCORE, X, [0.0, -1.0], probes=torch.ones(5, 2)),
            r"^probes must have shape \(probes, 5, 2\); \(5, 2\) was given$",
        ),
        (
            lambda: ode_log_prob(SCORE, X, [0.0, -1.0], probes=torch.ones(0, 5, 2)),
            "probes must have shape",
        ),
        (
            lambda: flow_velocity(X, torch.tensor([0.0, 0.1, 0.2, 0.3, 1.0]), X),
            "^u must be above 0 and at most 1; 0 to 1 was given$",
        ),
        (
            lambda: straight_line(torch.tensor([0.1, 1.0])),
            r"^u must lie in \[0, 1\); 0.1 to 1 was given$",
        ),
    ],
)
def test_bad_input_gets_one_sentence(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_a_flow_that_is_not_smooth_is_refused() -> None:
    with pytest.raises(
        FloatingPointError, match="^the flow must be smooth from 0 to -1; the solver says: "
    ):
        probability_flow(lambda x, s: x / 0, X, [0.0, -1.0])


def test_normal_data_of_many_dimensions() -> None:
    cov = torch.diag(torch.tensor([0.2, 1.0, 4.0], dtype=F64))
    score = continuous_score(gaussian_denoiser(LINEAR, torch.zeros(3, dtype=F64), cov), LINEAR)
    s = LINEAR.log_alpha_bar[300]
    x = torch.randn(4, 3, dtype=F64)
    v = s.exp() * cov.diagonal() - s.expm1()
    torch.testing.assert_close(score(x, s), -x / v)
