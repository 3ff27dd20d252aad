"""Probability flows, their densities and flow matching, where the density is known."""

import math
from itertools import pairwise

import pytest
import torch
from bad_input import refused
from exact_mixture import F64, MIXTURE, SCORE
from networks import Network
from torch import Tensor

from companion.denoisers import MixtureDenoiser
from companion.flows import (
    Flow,
    flow_matching_loss,
    flow_sample,
    flow_velocity,
    line_time,
    ode_log_prob,
    probability_flow,
    straight_line,
)
from companion.samplers import ddim_sample
from companion.schedule import linear_schedule
from companion.score import noisy_mixture


def test_the_flow_of_normal_data_is_a_rescaling() -> None:
    lam = torch.tensor([0.25, 3.0], dtype=F64)
    levels = torch.tensor([0.0, -0.5, -3.0, -9.0], dtype=F64)

    def score(x: Tensor, s: Tensor) -> Tensor:
        return -x / (s.exp() * lam - s.expm1())

    x = torch.randn(20, 2, dtype=F64)
    *film, x_T = probability_flow(score, x, levels)
    v = levels.exp()[:, None, None] * lam - levels.expm1()[:, None, None]
    there, back = torch.stack([*film, x_T]), probability_flow(score, x_T, levels.flip(0))[-1]
    torch.testing.assert_close(there, x * (v / lam).sqrt(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(back, x, rtol=1e-5, atol=1e-5)


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
    units = math.sqrt(2) * torch.eye(2, dtype=F64)[:, None]  # these give it exactly
    torch.testing.assert_close(ode_log_prob(SCORE, x[:1], levels, probes=units), exact)


def test_pictures_keep_their_shape() -> None:
    def score(x: Tensor, s: Tensor) -> Tensor:
        return -x / (0.5 * s.exp() - s.expm1())

    x = torch.randn(3, 1, 2, 2, dtype=F64)
    assert probability_flow(score, x, [0.0, -1.0, -3.0]).shape == (3, 3, 1, 2, 2)
    expected = torch.distributions.Normal(0.0, math.sqrt(0.5)).log_prob(x).sum((1, 2, 3))
    torch.testing.assert_close(ode_log_prob(score, x, [0.0, -20.0]), expected, rtol=0, atol=1e-4)


def test_the_score_is_asked_at_the_levels_to_the_last_bit() -> None:
    seen: list[Tensor] = []

    def score(x: Tensor, s: Tensor) -> Tensor:
        seen.append(s)
        return -x

    probability_flow(score, torch.randn(2, 2), torch.tensor([-0.1, -1.0], dtype=F64))
    assert seen[0].dtype == F64 and seen[0].item() == -0.1


def test_points_on_straight_lines_are_scaled_x_t() -> None:
    u = torch.tensor([0.0, 0.2, 0.5, 0.9], dtype=F64)
    scale, log_alpha_bar = straight_line(u)
    torch.testing.assert_close(scale * (log_alpha_bar / 2).exp(), 1 - u)
    torch.testing.assert_close(scale * (-log_alpha_bar.expm1()).sqrt(), u)
    torch.testing.assert_close(line_time(log_alpha_bar), u)
    x, noise = torch.randn(2, 4, 3, dtype=F64)
    at = u.clone()
    at[0] = 1.0
    on_line = (1 - at[:, None]) * x + at[:, None] * noise
    torch.testing.assert_close(flow_velocity(on_line, at, x), noise - x)


def test_points_that_ask_for_a_gradient_flow_like_others() -> None:
    x = torch.randn(3, 2, dtype=F64)
    film = probability_flow(SCORE, x.clone().requires_grad_(), (0.0, -1.0))
    assert torch.equal(film, probability_flow(SCORE, x, (0.0, -1.0)))


def exact_velocity(x_u: Tensor, u: Tensor) -> Tensor:
    """That of x from N(1, 4): the regression of noise - x on x_u, by its covariance."""
    u = u[:, None]
    slope = (u - 4 * (1 - u)) / (4 * (1 - u) ** 2 + u**2)
    return -1 + slope * (x_u - (1 - u))


def bent(x_u: Tensor, u: Tensor) -> Tensor:
    """Any velocity."""
    return torch.tanh(x_u) * u[:, None] + 1


def test_loss_and_steps_are_their_formulas() -> None:
    x, times = torch.randn(6, 2, dtype=F64), torch.tensor([1.0, 0.7, 0.1, 0.0], dtype=F64)
    torch.manual_seed(3)
    loss = flow_matching_loss(bent, x)
    torch.manual_seed(3)
    u, noise = torch.rand(6, dtype=F64)[:, None], torch.randn_like(x)
    error = noise - x - bent((1 - u) * x + u * noise, u[:, 0])
    torch.testing.assert_close(loss, (error**2).sum(1))
    films = [list(flow_sample(bent, x, times, heun)) for heun in (False, True)]
    for i, (now, then) in enumerate(pairwise(times)):
        h, (euler, heun) = then - now, (film[i] for film in films)
        torch.testing.assert_close(films[0][i + 1], euler + h * bent(euler, now.expand(6)))
        v = bent(heun, now.expand(6))
        v = (v + bent(heun + h * v, then.expand(6))) / 2
        torch.testing.assert_close(films[1][i + 1], heun + h * v)


@pytest.mark.parametrize(("heun", "order"), [(False, 1), (True, 2)])
def test_steps_approach_the_flow_of_normal_data_by_their_order(heun: bool, order: int) -> None:
    x_1 = torch.randn(40, 3, dtype=F64)
    errors = []
    for num in (50, 100):
        *film, x = flow_sample(exact_velocity, x_1, torch.linspace(1, 0, num + 1), heun)
        assert len(film) == num and torch.equal(film[0], x_1)
        errors.append((x - (1 + 2 * x_1)).abs().max().item())  # the flow keeps the quantile
    assert errors[1] < 0.1
    assert errors[0] / errors[1] == pytest.approx(2**order, rel=0.15)
    *_, back = flow_sample(exact_velocity, 1 + 2 * x_1, torch.linspace(0, 1, 401), heun=True)
    torch.testing.assert_close(back, x_1, rtol=0, atol=1e-3)


def test_a_step_of_euler_is_a_step_of_ddim(unchecked: None) -> None:
    schedule = linear_schedule(30, 0.01, 0.3)
    u, x_T = line_time(schedule.log_alpha_bar), torch.randn(9, 2, dtype=F64)
    scale, levels = straight_line(u)
    torch.testing.assert_close(levels, schedule.log_alpha_bar)

    weights, means = torch.tensor([0.3, 0.7], dtype=F64), torch.randn(2, 2, dtype=F64)
    covs = 0.1 * torch.eye(2).double().expand(2, 2, 2)
    denoiser = MixtureDenoiser(schedule, weights, means, covs)

    def exact(x_u: Tensor, at: Tensor) -> Tensor:
        (t,) = (u == at[0]).nonzero()[0]
        return flow_velocity(x_u, at, denoiser(x_u / scale[t], t.expand(len(x_u))))

    film = torch.stack(list(flow_sample(exact, scale[-1] * x_T, u.flip(0))))
    ddim = torch.stack(list(ddim_sample(denoiser, schedule, x_T)))
    torch.testing.assert_close(film, scale.flip(0)[:, None, None] * ddim)


def test_labels_reach_the_network() -> None:
    network, label, u = Network(lambda x, *_: torch.zeros_like(x)), torch.arange(5), torch.rand(5)
    flow_matching_loss(Flow(network, (2,)), torch.randn(5, 2), label)
    Flow(network, (2,))(torch.randn(5, 2), u, label)
    assert network.given[0][2] is label is network.given[1][2]
    assert torch.equal(network.given[1][1], 1000 * u)


def test_the_time_has_the_precision_of_the_data() -> None:
    def velocity(x_u: Tensor, u: Tensor) -> Tensor:
        assert u.dtype == x_u.dtype == F64
        return x_u

    assert flow_matching_loss(velocity, torch.randn(5, 2, dtype=F64)).dtype == F64


test_bad_input = refused("flows")
