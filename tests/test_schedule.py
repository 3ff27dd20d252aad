"""Noise schedules against products, fractions, Bayes' rule and another library."""

import copy
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
from bad_input import refused
from exact_mixture import COVS, MEANS, WEIGHTS
from torch import Tensor

from companion import schedule as conversions
from companion.denoisers import MixtureDenoiser
from companion.samplers import ddim_sample, dpm_solver_sample
from companion.schedule import (
    Schedule,
    add_noise,
    cosine_schedule,
    linear_schedule,
    mean_from_x_0,
    noise_from_x_0,
    per_example,
    score_from_x_0,
    v_from_x_0,
    x_0_from_noise,
)

F64 = torch.double
SCHEDULES = {
    "linear": linear_schedule(1000),
    "cosine": cosine_schedule(1000),
    "short": linear_schedule(7, 0.1, 0.6),
}
each_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


def close(actual: Tensor, expected: Any, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(
        actual, torch.as_tensor(expected, dtype=actual.dtype), rtol=tolerance, atol=0
    )


# ------------------------------------------------------------------------------------------------ values


def test_the_linear_schedule_is_the_product_of_evenly_growing_steps() -> None:
    betas = np.linspace(1e-4, 0.02, 1000)
    schedule = linear_schedule(1000)
    assert schedule.num_steps == 1000 and schedule.log_alpha_bar.dtype == F64
    close(schedule.alpha_bar[1:], np.cumprod(1 - betas), 1e-11)
    close(schedule.beta[1:], betas, 1e-11)
    close(schedule.alpha[1:], 1 - betas)
    assert schedule.alpha_bar[-1].item() == pytest.approx(4.0358e-5, rel=1e-4)
    # With a tenth of the steps the same betas leave a third of the data's variance.
    assert linear_schedule(100).alpha_bar[-1].item() == pytest.approx(0.364, abs=5e-4)
    assert linear_schedule(100, 1e-3, 0.2).alpha_bar[-1] < 1e-4


def test_the_cosine_schedule_is_a_squared_cosine_until_its_steps_are_cut() -> None:
    T, s = 1000, 0.008
    cosine = np.cos((np.arange(T + 1) / T + s) / (1 + s) * math.pi / 2) ** 2
    schedule = cosine_schedule(T)
    close(schedule.alpha_bar[:-1], cosine[:-1] / cosine[0], 1e-9)
    assert schedule.beta[-1].item() == pytest.approx(0.999, rel=1e-12)
    assert cosine_schedule(4, 0.1, 0.3).beta.max().item() == pytest.approx(0.3, rel=1e-12)
    assert cosine_schedule(1).num_steps == linear_schedule(1).num_steps == 1


def test_entry_zero_is_no_noise() -> None:
    schedule = linear_schedule(5)
    for values, expected in (
        (schedule.alpha_bar, 1.0),
        (schedule.alpha, 1.0),
        (schedule.noise_var, 0.0),
        (schedule.beta, 0.0),
        (schedule.posterior_var, 0.0),
        (schedule.snr, math.inf),
        (schedule.log_snr, math.inf),
    ):
        assert values.shape == (6,) and values[0].item() == expected
        assert "-" not in str(values[0].item())  # no minus zero on a page
    assert schedule.steps.tolist() == [*range(1, 6)]
    assert schedule.times.tolist() == [*range(6)]


@pytest.mark.parametrize("kind", ["linear", "squaredcos_cap_v2"])
def test_another_library_has_the_same_numbers(kind: str) -> None:
    import diffusers  # here, for it takes seconds

    theirs = diffusers.DDPMScheduler(
        1000, beta_schedule=kind, variance_type="fixed_small", clip_sample=False
    )
    ours = linear_schedule(1000) if kind == "linear" else cosine_schedule(1000)
    steps = torch.arange(1, 1001)

    def same(actual: Tensor, expected: Any, atol: float) -> None:
        torch.testing.assert_close(actual, torch.as_tensor(expected).to(actual), rtol=0, atol=atol)

    same(ours.beta[1:], theirs.betas, 1e-6)
    same(ours.alpha_bar[1:], theirs.alphas_cumprod, 1e-6)
    same(ours.posterior_var[2:], [theirs._get_variance(t - 1) for t in range(2, 1001)], 1e-6)
    # Theirs are in single precision: 1 - alpha_bar, which is small at small t, has few digits left.
    x_0, noise = torch.randn(2, 1000, 3)
    x_t = add_noise(ours, x_0, steps, noise)
    same(x_t, theirs.add_noise(x_0, noise, steps - 1), 2e-5)  # their first time is 0
    for t, atol in ((1, 2e-5), (2, 4e-4), (10, 4e-4), (500, 1e-5), (900, 1e-5)):
        x_0 = x_0_from_noise(ours, x_t, t, noise)
        torch.manual_seed(0)
        drawn = theirs.step(noise, t - 1, x_t).prev_sample
        torch.manual_seed(0)
        spread = ours.posterior_var[t].sqrt() * torch.randn_like(x_t)
        same(mean_from_x_0(ours, x_t, t, x_0) + spread.float(), drawn, atol)


def test_small_times_lose_no_digits() -> None:
    betas = torch.linspace(1e-4, 0.02, 1000, dtype=F64)
    kept, exact = Fraction(1), []
    for beta in betas[:20].tolist():
        kept *= 1 - Fraction(beta)
        exact.append(float(1 - kept))
    close(Schedule.from_betas(betas).noise_var[1:21], exact, 1e-13)
    # And in single precision: 1 - alpha_bar itself would be wrong by 1e-4 there.
    close(Schedule.from_betas(betas).float().noise_var[1:21], exact, 3e-7)


def test_noise_need_not_win_in_the_end() -> None:
    for T in (10, 1000):
        betas = 1 / (torch.arange(1, T + 1, dtype=F64) + 1) ** 2
        close(Schedule.from_betas(betas).alpha_bar[-1], (T + 2) / (2 * (T + 1)), 1e-10)


# ------------------------------------------------------------------------------------------------ laws


@each_schedule
def test_kernels_compose(schedule: Schedule) -> None:
    T = schedule.num_steps
    s, t, u = (torch.randint(0, T + 1, (3, 50)).sort(0).values).unbind()
    first, second, whole = (
        schedule.forward_coefficients(*pair) for pair in ((s, t), (t, u), (s, u))
    )
    close(second.scale * first.scale, whole.scale, 1e-10)
    close(second.scale**2 * first.var + second.var, whole.var, 1e-10)
    close(schedule.forward_coefficients(0, T).var, schedule.noise_var[-1])
    for t in range(1, T + 1, 97):
        close(schedule.forward_coefficients(t - 1, t).var, schedule.beta[t])
        close(schedule.forward_coefficients(t - 1, t).scale, schedule.alpha[t].sqrt())
    assert schedule.forward_coefficients(3, 3) == (1, 0)


@each_schedule
def test_the_posterior_is_bayes_rule(schedule: Schedule) -> None:
    # Precisions add: q(x_{t-1}|x_t, x_0) is proportional to q(x_t|x_{t-1}) q(x_{t-1}|x_0).
    t = torch.arange(2, schedule.num_steps + 1)
    q, alpha, beta = schedule.reverse_coefficients(t), schedule.alpha[t], schedule.beta[t]
    precision = alpha / beta + 1 / schedule.noise_var[t - 1]
    close(q.var, 1 / precision, 1e-10)
    close(q.of_x_t, alpha.sqrt() / beta / precision, 1e-10)
    close(q.of_x_0, schedule.alpha_bar[t - 1].sqrt() / schedule.noise_var[t - 1] / precision, 1e-10)
    close(schedule.posterior_var[2:], q.var)
    assert (q.var < beta).all()


def test_the_first_step_reaches_the_data() -> None:
    for schedule in (*SCHEDULES.values(), copy.deepcopy(SCHEDULES["linear"]).float()):
        assert schedule.reverse_coefficients(1) == (1, 0, 0)
        assert schedule.posterior_var[1].item() == 0


@each_schedule
def test_snr(schedule: Schedule) -> None:
    close(schedule.snr[1:], schedule.alpha_bar[1:] / schedule.noise_var[1:], 1e-12)
    close(schedule.log_snr[1:].exp(), schedule.snr[1:])
    t = torch.arange(2, schedule.num_steps + 1)
    # The weight of x_0 in the bound is half of what the step loses in signal to noise.
    q = schedule.reverse_coefficients(t)
    close(q.of_x_0**2 / (2 * q.var), 0.5 * (schedule.snr[t - 1] - schedule.snr[t]), 1e-9)


def test_strided_schedules_keep_the_laws_of_their_times() -> None:
    schedule = linear_schedule(1000)
    short = schedule.strided(range(20, 1001, 20))
    assert short.num_steps == 50 and short.times[:3].tolist() == [0, 20, 40]
    close(short.alpha_bar, schedule.alpha_bar[::20])
    for i in (1, 2, 50):
        whole = schedule.forward_coefficients(20 * i - 20, 20 * i)
        assert short.forward_coefficients(i - 1, i) == whole
        close(short.beta[i], whole.var)
    assert short.reverse_coefficients(1) == (1, 0, 0)
    shorter = short.strided(torch.tensor([10, 50]))
    assert shorter.times.tolist() == [0, 200, 1000]
    assert torch.equal(shorter.log_alpha_bar, schedule.log_alpha_bar[[0, 200, 1000]])
    assert torch.equal(schedule.strided(range(1, 1001)).log_alpha_bar, schedule.log_alpha_bar)
    assert schedule.strided([400]).num_steps == 1


# ------------------------------------------------------------------------------------------------ conversions


@each_schedule
def test_all_forms_lead_back_to_the_data(schedule: Schedule) -> None:
    t = torch.tensor([1, 2, schedule.num_steps // 2, schedule.num_steps])
    x_0, noise = torch.randn(2, 4, 1, 3, 3, dtype=F64)
    x_t = add_noise(schedule, x_0, t, noise)
    for form in ("noise", "v"):
        there = getattr(conversions, f"{form}_from_x_0")
        back = getattr(conversions, f"x_0_from_{form}")
        value = there(schedule, x_t, t, x_0)
        torch.testing.assert_close(back(schedule, x_t, t, value), x_0, rtol=1e-8, atol=1e-8)
        for i, time in enumerate(t.tolist()):  # one integer serves a batch, and gives the same
            alone = there(schedule, x_t[i : i + 1], time, x_0[i : i + 1])
            torch.testing.assert_close(alone, value[i : i + 1])


@each_schedule
def test_the_forms_are_what_they_are_called(schedule: Schedule) -> None:
    t = torch.tensor([1, 2, schedule.num_steps])
    x_0, noise = torch.randn(2, 3, 5, dtype=F64)
    signal, spread = schedule.alpha_bar[t, None].sqrt(), schedule.noise_var[t, None].sqrt()
    x_t = add_noise(schedule, x_0, t, noise)
    torch.testing.assert_close(x_t, signal * x_0 + spread * noise)
    torch.testing.assert_close(noise_from_x_0(schedule, x_t, t, x_0), noise, rtol=0, atol=1e-10)
    v = v_from_x_0(schedule, x_t, t, x_0)
    torch.testing.assert_close(v, signal * noise - spread * x_0, rtol=0, atol=1e-10)
    x_t.requires_grad_()
    log_q = torch.distributions.Normal(signal * x_0, spread).log_prob(x_t).sum()
    (score,) = torch.autograd.grad(log_q, x_t)
    torch.testing.assert_close(score_from_x_0(schedule, x_t.detach(), t, x_0), score)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_single_precision_holds_at_both_ends(name: str) -> None:
    exact = SCHEDULES[name]
    t = torch.tensor([1, 2, 999, 1000])
    x_0, noise = torch.randn(2, 4, 1000, dtype=F64)
    x_t = add_noise(exact, x_0, t, noise)
    for schedule in (exact, copy.deepcopy(exact).float()):
        estimate = x_0_from_noise(schedule, x_t.float(), t, noise.float())
        # What is far from sure is also far from needed: a step back damps it.
        mean = mean_from_x_0(schedule, x_t.float(), t, estimate)
        assert mean.dtype == torch.float32
        expected = mean_from_x_0(exact, x_t, t, x_0)
        torch.testing.assert_close(mean.double(), expected, rtol=0, atol=3e-5)
        small = t < 3
        torch.testing.assert_close(estimate[small].double(), x_0[small], rtol=0, atol=2e-6)
        again = noise_from_x_0(schedule, x_t.float(), t, estimate)
        torch.testing.assert_close(again.double(), noise, rtol=0, atol=1e-4)


# ------------------------------------------------------------------------------------------------ the module


def test_the_state_is_one_buffer_and_survives() -> None:
    schedule, other = linear_schedule(20), cosine_schedule(20)
    assert list(schedule.state_dict()) == ["log_alpha_bar"] and not list(schedule.parameters())
    other.load_state_dict(schedule.state_dict())
    assert torch.equal(other.log_alpha_bar, schedule.log_alpha_bar)
    with pytest.raises(RuntimeError, match="size mismatch"):
        linear_schedule(21).load_state_dict(schedule.state_dict())
    values = torch.tensor([0.0, -1.0])
    Schedule(values).log_alpha_bar[1] = -2
    assert values[1] == -1  # the caller's tensor is not shared


def test_values_take_the_precision_and_the_shape_of_what_they_multiply() -> None:
    x = torch.zeros(3, 2, 4, 4)
    assert per_example(torch.ones(3, dtype=F64), x).shape == (3, 1, 1, 1)
    assert per_example(torch.ones(3, 2, 4, 4, dtype=F64), x).shape == (3, 2, 4, 4)
    assert per_example(torch.ones((), dtype=F64), x).shape == ()
    assert per_example(torch.ones(3, dtype=F64), x).dtype == torch.float32
    t = torch.tensor([1, 2, 3])
    for half in (torch.float32, F64):
        assert add_noise(linear_schedule(3), x.to(half), t, x.to(half)).dtype == half


def test_evenly_spread_times_are_a_strided_schedule() -> None:
    schedule = SCHEDULES["linear"]
    assert torch.equal(schedule.evenly(1000).log_alpha_bar, schedule.log_alpha_bar)
    assert schedule.evenly(2).times.tolist() == [0, 1, 1000]
    times = schedule.evenly(50).times
    assert len(times) == 51 and times[1] == 1 and times[-1] == 1000
    assert times[1:].diff().unique().tolist() == [20, 21]
    part = schedule.strided(range(100, 501)).evenly(5)
    assert part.times.tolist() == [*range(0, 501, 100)]


def test_trailing_times_are_equal_steps_that_end_at_the_data() -> None:
    schedule = cosine_schedule(1000)
    short = schedule.trailing(20)
    assert short.times.tolist() == [*range(0, 1001, 50)]
    assert torch.equal(short.log_alpha_bar, schedule.log_alpha_bar[::50])
    assert schedule.trailing(3).times.tolist() == [0, 333, 667, 1000]
    assert schedule.trailing(1).times.tolist() == [0, 1000]
    assert torch.equal(schedule.trailing(1000).times, schedule.times)
    # Of a part of the times, too.
    part = schedule.strided(range(100, 501, 100)).trailing(2)
    assert part.times.tolist() == [0, 200, 500]


def test_a_solver_that_looks_back_comes_closer_from_trailing_times() -> None:
    schedule = cosine_schedule(1000)
    denoiser = MixtureDenoiser(schedule, WEIGHTS, MEANS, COVS)
    x_T = torch.randn(200, 2, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    *_, exact = ddim_sample(denoiser, schedule, x_T)
    errors = []
    for short in (schedule.evenly(10), schedule.trailing(10)):
        *_, x = dpm_solver_sample(denoiser, short, x_T)
        errors.append((x - exact).square().mean().sqrt())
    assert errors[1] < 0.6 * errors[0], errors


test_bad_input = refused("schedule")
