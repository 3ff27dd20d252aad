"""Variances of the reverse steps, and what errors cost, beside the bound itself."""

import math

import pytest
import torch
from bad_input import refused
from torch import Tensor

from companion.ddpm import Ddpm, elbo_step
from companion.denoisers import MixtureDenoiser, gaussian_denoiser
from companion.schedule import (
    Schedule,
    add_noise,
    linear_schedule,
    noise_from_x_0,
    score_from_x_0,
    v_from_x_0,
)
from companion.variances import (
    bound_weights,
    linear_noise_error,
    optimal_reverse_var,
    step_variances,
)

F64 = torch.double


def optimal(schedule: Schedule, eigenvalues: Tensor) -> Tensor:
    return optimal_reverse_var(schedule, linear_noise_error(schedule, eigenvalues))


def test_other_data_can_be_denoised_better_than_linearly() -> None:
    schedule, n = linear_schedule(1000), 20_000
    weights, means = torch.tensor([0.5, 0.5], dtype=F64), torch.tensor([[-1.0], [1.0]], dtype=F64)
    covs = torch.full((2, 1, 1), 0.01, dtype=F64)
    x = means[torch.randint(2, (n,))] + 0.1 * torch.randn(n, 1, dtype=F64)
    var = torch.tensor([1.01], dtype=F64)
    best = MixtureDenoiser(schedule, weights, means, covs)
    linear = gaussian_denoiser(schedule, torch.zeros(1, dtype=F64), var[None])
    for t in (20, 50, 150, 300):
        noise, time = torch.randn_like(x), torch.full((n,), t)
        x_t = add_noise(schedule, x, t, noise)
        errors = [
            (noise - noise_from_x_0(schedule, x_t, t, denoiser(x_t, time))).square()
            for denoiser in (best, linear)
        ]
        gain = errors[1] - errors[0]  # of the same draws
        assert gain.mean() > 5 * gain.std() / math.sqrt(n)
        bound = linear_noise_error(schedule, var)[t]
        assert abs(errors[1].mean() - bound) <= 5 * errors[1].std() / math.sqrt(n)


@pytest.mark.parametrize("kind", ["beta", "optimal"])
def test_weights_turn_errors_of_every_form_into_the_bound(kind: str) -> None:
    schedule = linear_schedule(200, 1e-3, 0.1)
    best = optimal(schedule, torch.tensor([0.25], dtype=F64))[:, 0]
    var = best if kind == "optimal" else torch.cat([best[:2], schedule.beta[2:]])
    t = torch.tensor([1, 2, 50, 200])
    x, noise, good, bad = torch.randn(4, 4, 6, dtype=F64)
    x_t = add_noise(schedule, x, t, noise)
    models = (Ddpm(lambda x_t, t, x_hat=x_hat: x_hat, schedule, (6,), var) for x_hat in (good, bad))
    terms = [elbo_step(model.double(), x, t, noise) for model in models]
    weights = bound_weights(schedule, var)
    forms = {"noise": noise_from_x_0, "v": v_from_x_0, "score": score_from_x_0}
    forms["x_0"] = lambda schedule, x_t, t, x_0: x_0
    # The mean of a step is where the sampler would go; at t = 1 it is the estimate itself.
    q = schedule.reverse_coefficients(t)
    forms["mean"] = lambda s, x_t, t, x_0: q.of_x_0[:, None] * x_0 + q.of_x_t[:, None] * x_t
    assert set(forms) == set(weights._fields)
    for name, form in forms.items():
        truth = form(schedule, x_t, t, x)
        errors = [(form(schedule, x_t, t, x_hat) - truth).square().sum(1) for x_hat in (good, bad)]
        weight = getattr(weights, name)
        assert weight.shape == (201,) and weight[0] == 0
        found = weight[t] * (errors[1] - errors[0])
        torch.testing.assert_close(found, terms[0] - terms[1], rtol=1e-8, atol=1e-8)


def test_the_weight_of_the_noise_is_the_well_known_one() -> None:
    schedule = linear_schedule(1000)
    beta, alpha = schedule.beta[1:], schedule.alpha[1:]
    expected = beta**2 / (2 * beta * alpha * schedule.noise_var[1:])
    torch.testing.assert_close(bound_weights(schedule, schedule.beta).noise[1:], expected)
    each = schedule.beta[:, None].expand(-1, 3)
    assert bound_weights(schedule, each).v.shape == (1001, 3)


def test_the_optimal_variance_is_optimal_for_any_denoiser_and_any_data() -> None:
    schedule, n = linear_schedule(20, 0.005, 0.95), 500
    x, noise = torch.rand(2, n, 3, dtype=F64)
    for t in (1, 2, 20):
        time, errors = torch.full((n,), t), torch.zeros(21, dtype=F64)

        def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
            return 0.3 * x_t.tanh()

        x_t = add_noise(schedule, x, t, noise)
        errors[t] = (noise_from_x_0(schedule, x_t, t, denoiser(x_t, time)) - noise).square().mean()
        best = optimal_reverse_var(schedule, errors).clamp(min=1e-9)
        terms = [
            elbo_step(Ddpm(denoiser, schedule, (3,), best * f).double(), x, time, noise).mean()
            for f in (1, 0.99, 1.01)
        ]
        assert terms[0] > max(terms[1:])
    for lam in (0.0, 1.0):  # known data: beta_tilde; standard normal data: beta
        known = schedule.beta if lam else schedule.posterior_var
        ours = optimal(schedule, torch.tensor([lam], dtype=F64))[:, 0]
        torch.testing.assert_close(ours, known, rtol=1e-9, atol=1e-15)


def test_given_variances_are_no_part_of_a_graph() -> None:
    schedule = linear_schedule(4)
    given = schedule.beta.clone().requires_grad_()
    assert not step_variances(schedule, (2,), given).requires_grad


test_bad_input = refused("variances")
