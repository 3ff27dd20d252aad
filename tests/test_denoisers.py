"""Denoisers made of a network, and exact ones beside densities, quadrature and regression."""

from functools import partial

import pytest
import torch
from bad_input import refused
from networks import Network
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, Normal

from companion.ddpm import Ddpm
from companion.denoisers import (
    MixtureDenoiser,
    NoisePredictor,
    VPredictor,
    denoised,
    gaussian_denoiser,
    spectrum,
)
from companion.samplers import ddim_sample, ddpm_sample, dpm_solver_sample
from companion.schedule import (
    Schedule,
    add_noise,
    cosine_schedule,
    linear_schedule,
    noise_from_x_0,
    score_from_x_0,
    v_from_x_0,
)
from companion.score import noise_conditional_score, score_from_denoiser

F64 = torch.double


def mixture() -> tuple[Tensor, Tensor, Tensor]:
    factor = torch.randn(3, 2, 2, dtype=F64)
    covs = 0.2 * factor @ factor.mT + 0.01 * torch.eye(2, dtype=F64)
    return torch.tensor([0.2, 0.5, 0.3], dtype=F64), torch.randn(3, 2, dtype=F64), covs


@pytest.mark.parametrize("t", [1, 100, 600, 1000])
def test_the_exact_denoiser_of_a_mixture_has_its_score(t: int) -> None:
    schedule, (weights, means, covs) = linear_schedule(1000), mixture()
    x_t = torch.randn(50, 2, dtype=F64, requires_grad=True)
    signal, var = schedule.forward_coefficients(0, t)
    laws = MultivariateNormal(signal * means, signal**2 * covs + var * torch.eye(2, dtype=F64))
    log_q = MixtureSameFamily(Categorical(weights), laws).log_prob(x_t).sum()
    (score,) = torch.autograd.grad(log_q, x_t)
    x_t = x_t.detach()
    x_hat = MixtureDenoiser(schedule, weights, means, covs)(x_t, torch.full((50,), t))
    ours = score_from_x_0(schedule, x_t, t, x_hat)
    torch.testing.assert_close(ours, score, rtol=1e-8, atol=1e-8)
    # The estimated noise is minus the score, but for its scale.
    noise = noise_from_x_0(schedule, x_t, t, x_hat)
    torch.testing.assert_close(noise, -var.sqrt() * score, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("t", [1, 100, 600, 1000])
def test_the_exact_denoiser_is_the_mean_of_the_data_behind(t: int) -> None:
    schedule, x_0 = linear_schedule(1000), torch.linspace(-12, 12, 200_001, dtype=F64)
    weights, means, stds = torch.tensor([[0.3, 0.7], [-1.0, 2.0], [0.5, 0.2]], dtype=F64)
    density = (weights * Normal(means, stds).log_prob(x_0[:, None]).exp()).sum(1)
    denoiser = MixtureDenoiser(schedule, weights, means[:, None], (stds**2)[:, None, None])
    signal, var = schedule.forward_coefficients(0, t)
    for x_t in (-2.0, 0.1, 1.5):
        joint = (
            density * Normal(signal * x_0, var.sqrt()).log_prob(torch.tensor(x_t, dtype=F64)).exp()
        )
        expected = (x_0 * joint).sum() / joint.sum()
        actual = denoiser(torch.full((1, 1), x_t, dtype=F64), torch.tensor([t]))
        assert actual.item() == pytest.approx(expected.item(), abs=1e-8)


def test_the_gaussian_denoiser_is_regression_in_several_dimensions_and_of_pictures() -> None:
    schedule, t = linear_schedule(1000), torch.tensor([1, 50, 400, 1000])
    factor, mean = torch.randn(9, 5, dtype=F64), torch.randn(1, 3, 3, dtype=F64)
    cov, x_t = factor @ factor.T, torch.randn(4, 1, 3, 3, dtype=F64)  # of rank 5
    x_hat = gaussian_denoiser(schedule, mean, cov)(x_t, t)
    assert x_hat.shape == x_t.shape
    for i, time in enumerate(t.tolist()):
        signal, var = schedule.forward_coefficients(0, time)
        K = signal**2 * cov + var * torch.eye(9, dtype=F64)
        offset = (x_t[i] - signal * mean).flatten()
        expected = mean.flatten() + signal * cov @ torch.linalg.solve(K, offset)
        torch.testing.assert_close(x_hat[i].flatten(), expected, rtol=1e-8, atol=1e-8)
    # It computes in the precision of its covariance, and gives that of x_t.
    single = gaussian_denoiser(schedule, mean, cov)(x_t.float(), t)
    torch.testing.assert_close(single, x_hat.float())


@pytest.mark.parametrize(
    "schedule", [linear_schedule(1000), cosine_schedule(1000)], ids=["linear", "cosine"]
)
def test_a_perfect_network_gives_the_data_in_single_precision(schedule: Schedule) -> None:
    x_0, noise = torch.randn(2, 3, 500)
    t = torch.tensor([1, 500, 990])
    x_t = add_noise(schedule, x_0, t, noise)

    from_noise = NoisePredictor(Network(lambda x_t, t: noise), schedule)(x_t, t)
    torch.testing.assert_close(from_noise[:2], x_0[:2], rtol=0, atol=1e-5)
    # Divided by 0.007 and 0.016.
    torch.testing.assert_close(from_noise[2], x_0[2], rtol=0, atol=1e-4)
    v = v_from_x_0(schedule, x_t.double(), t, x_0.double()).float()
    from_v = VPredictor(Network(lambda x_t, t: v), schedule)(x_t, t)
    torch.testing.assert_close(from_v, x_0, rtol=0, atol=1e-5)


@pytest.mark.parametrize("level", [0.0, -0.01, -3.0, -20.0])
def test_the_exact_score_at_a_level_is_the_gradient_of_the_log_density(level: float) -> None:
    schedule, (weights, means, covs) = linear_schedule(10), mixture()
    s, x = torch.tensor(level, dtype=F64), torch.randn(50, 2, dtype=F64, requires_grad=True)
    eye = torch.eye(2, dtype=F64)
    normals = MultivariateNormal((s / 2).exp() * means, s.exp() * covs - s.expm1() * eye)
    log_q = MixtureSameFamily(Categorical(weights), normals).log_prob(x).sum()
    (score,) = torch.autograd.grad(log_q, x)
    ours = MixtureDenoiser(schedule, weights, means, covs).score_at_level(x, s)
    torch.testing.assert_close(ours.detach(), score, rtol=1e-8, atol=1e-8)


def test_what_a_denoiser_gives_is_looked_at() -> None:
    x_t, t = torch.zeros(5, 2), torch.ones(5).long()
    assert denoised(lambda x_t, t: x_t.bfloat16(), x_t, t).dtype == torch.float32
    assert torch.equal(denoised(lambda x_t, t, label: label, x_t, t, x_t + 1), x_t + 1)
    with pytest.raises(ValueError, match=r"^the denoiser's estimate must have shape \(5, 2\)"):
        denoised(lambda x_t, t: x_t[:, :1], x_t, t)


def test_a_wrapper_may_call_what_it_holds_a_denoiser_and_a_model_is_none() -> None:
    """Every sampler takes a denoiser that clips another one, and refuses the model in its place."""

    class Clipped(torch.nn.Module):
        def __init__(self, denoiser: torch.nn.Module) -> None:
            super().__init__()
            self.denoiser = denoiser

        def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
            return self.denoiser(x_t, t).clamp(-1, 1)

    schedule = linear_schedule(20)
    exact = gaussian_denoiser(schedule, torch.full((2,), 5.0), torch.eye(2))
    for sampler in (ddim_sample, ddpm_sample, dpm_solver_sample):
        *_, x = sampler(Clipped(exact), schedule, torch.randn(3, 2))
        assert x.abs().max() <= 1
    model = Ddpm(Clipped(exact), schedule, (2,), schedule.beta)
    for take in (
        partial(ddim_sample, schedule=schedule, x_T=torch.randn(3, 2)),
        partial(score_from_denoiser, schedule=schedule),
        partial(noise_conditional_score, schedule=schedule),
    ):
        with pytest.raises(TypeError, match="such as that of the model; a Ddpm was given"):
            take(model)


def test_an_exact_denoiser_has_nothing_to_save() -> None:
    denoiser = gaussian_denoiser(linear_schedule(10), torch.zeros(2), torch.eye(2))
    assert not [name for name in denoiser.state_dict() if not name.startswith("schedule.")]
    assert not list(denoiser.parameters())


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_what_rounding_may_do_to_an_eigenvalue_grows_with_the_covariance(scale: float) -> None:
    nearly = scale * torch.tensor([1.0, -0.5e-5], dtype=torch.double).diag()
    assert spectrum(nearly)[0].tolist() == [0, scale]
    with pytest.raises(ValueError, match="cov must be positive semi-definite"):
        spectrum(scale * torch.tensor([1.0, -2e-5], dtype=torch.double).diag())


test_bad_input = refused("denoisers")
