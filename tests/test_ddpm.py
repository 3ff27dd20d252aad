"""Diffusion models where everything is known: normal data, mixtures of normals, and identities that hold pointwise."""

import math
from typing import Any

import pytest
import torch
from tiny_recipes import card
from torch import Tensor, nn
from torch.distributions import (
    Categorical,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    kl_divergence,
)

from companion.ddpm import (
    Ddpm,
    elbo_step,
    image_ddpm,
    noise_errors,
    noise_prediction_loss,
    single_step_elbo,
    v_prediction_loss,
)
from companion.denoisers import MixtureDenoiser, NoisePredictor, VPredictor, gaussian_denoiser
from companion.distributions import DiscretizedNormal, diagonal_normal
from companion.elbo import elbo_terms, log_weights
from companion.networks.classifier import DigitClassifier
from companion.networks.mlp import TimeMlp
from companion.networks.unet import UNet
from companion.samplers import ancestral_sample
from companion.schedule import (
    Schedule,
    add_noise,
    cosine_schedule,
    linear_schedule,
    noise_from_x_0,
    score_from_x_0,
    v_from_x_0,
)
from companion.variances import bound_weights, linear_noise_error, optimal_reverse_var
from companion.zoo.weights import load_weights, save_weights

F64 = torch.double


DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def rescaled(T: int) -> Schedule:
    """The linear schedule of 1000 steps with its betas 1000 / T times as large."""
    return Schedule.from_betas(
        (torch.linspace(1e-4, 0.02, T, dtype=F64) * 1000 / T).clamp(max=0.999)
    )


def optimal(schedule: Schedule, eigenvalues: Tensor) -> Tensor:
    return optimal_reverse_var(schedule, linear_noise_error(schedule, eigenvalues))


def gaussian_model(
    schedule: Schedule, mean: Tensor, eigenvalues: Tensor, reverse_var: Tensor
) -> Ddpm:
    """The exact denoiser for data whose dimensions are independent and normal."""
    denoiser = gaussian_denoiser(schedule, mean, torch.diag(eigenvalues))
    return Ddpm(denoiser, schedule, tuple(mean.shape), reverse_var).double()


def exact_elbo(model: Ddpm, mean: Tensor, eigenvalues: Tensor) -> Tensor:
    """The bound, averaged over independent normal data: each term is quadratic, so that two points of x and of the
    noise integrate it exactly."""
    a, b = torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, -1]], dtype=F64).unbind(1)
    x, noise = mean + a[:, None] * eigenvalues.sqrt(), b[:, None].expand(4, len(mean))
    T = model.num_latents
    steps = torch.arange(1, T + 1).repeat_interleave(4)
    terms = elbo_step(model, x.repeat(T, 1), steps, noise.repeat(T, 1)).view(T, 4)
    return terms.mean(1).sum() - kl_divergence(model.posterior(x), model.prior(4)).mean()


def gap(schedule: Schedule, mean: float, eigenvalue: float, reverse_var: Tensor) -> float:
    """E log p_data - E ELBO in one dimension."""
    m, lam = torch.tensor([mean], dtype=F64), torch.tensor([eigenvalue], dtype=F64)
    entropy = 0.5 * math.log(2 * math.pi * math.e * eigenvalue)
    return -entropy - exact_elbo(gaussian_model(schedule, m, lam, reverse_var), m, lam).item()


def gap_formula(schedule: Schedule, mean: float, eigenvalue: float, reverse_var: Tensor) -> float:
    """The divergence of q(x_T) from p(x_T), and of each true step from the model's."""
    alpha_bar = schedule.alpha_bar
    v = alpha_bar * eigenvalue + 1 - alpha_bar
    r = (schedule.beta[1:] * v[:-1] / v[1:]) / reverse_var[1:]
    top = 0.5 * (v[-1] - 1 - v[-1].log() + alpha_bar[-1] * mean**2)
    return (top + 0.5 * (r - 1 - r.log()).sum()).item()


# ------------------------------------------------------------------------------------------------ normal data


def variances(schedule: Schedule, eigenvalue: float) -> dict[str, Tensor]:
    best = optimal(schedule, torch.tensor([eigenvalue], dtype=F64))[:, 0]
    return {
        "optimal": best,
        "beta": torch.cat([best[:2], schedule.beta[2:]]),
        "beta_tilde": torch.cat([best[:2], schedule.posterior_var[2:]]),
    }


@pytest.mark.parametrize("T", [1, 10, 100, 1000])
@pytest.mark.parametrize(("mean", "eigenvalue"), [(0.0, 0.25), (0.7, 4.0), (-1.0, 1.0)])
def test_the_gap_of_the_exact_denoiser_is_that_of_the_variances(
    T: int, mean: float, eigenvalue: float
) -> None:
    schedule = rescaled(max(T, 10)) if T > 1 else Schedule.from_betas(torch.tensor([0.9]))
    for var in variances(schedule, eigenvalue).values():
        expected = gap_formula(schedule, mean, eigenvalue, var)
        assert gap(schedule, mean, eigenvalue, var) == pytest.approx(expected, rel=0, abs=1e-9)


@pytest.mark.parametrize(
    ("T", "beta", "beta_tilde"),
    [
        (10, 0.1217, 5.390),
        (100, 0.01096, 1.250),
        (1000, 0.001092, 0.4563),
        (10_000, 0.0001092, 0.3157),
    ],
)
def test_more_steps_close_the_gap_of_beta_and_not_that_of_beta_tilde(
    T: int, beta: float, beta_tilde: float
) -> None:
    schedule = rescaled(T)
    var = variances(schedule, 0.25)
    assert abs(gap(schedule, 0.0, 0.25, var["optimal"])) < 1e-9
    assert gap(schedule, 0.0, 0.25, var["beta"]) == pytest.approx(beta, rel=1e-3)
    assert gap(schedule, 0.0, 0.25, var["beta_tilde"]) == pytest.approx(beta_tilde, rel=1e-3)
    # The latter's limit is half of Euler's constant, for each dimension.
    assert gap(schedule, 0.0, 0.25, var["beta_tilde"]) > 0.288608


@pytest.mark.parametrize("T", [2, 10, 300])
def test_every_weight_is_p_of_x_for_standard_normal_data_and_beta(T: int, unchecked: None) -> None:
    schedule, x = rescaled(max(T, 21)), torch.randn(20, 3, dtype=F64)
    schedule = schedule.strided(range(1, T + 1)) if T < 21 else schedule
    model = gaussian_model(
        schedule, torch.zeros(3, dtype=F64), torch.ones(3, dtype=F64), schedule.beta
    )
    expected = Normal(0.0, 1.0).log_prob(x).sum(1)
    torch.testing.assert_close(log_weights(model, x), expected, rtol=0, atol=1e-9)


def test_several_dimensions_need_a_variance_for_each() -> None:
    schedule = cosine_schedule(50)
    mean, eigenvalues = (
        torch.tensor([0.3, 0.0, -1.0], dtype=F64),
        torch.tensor([4.0, 0.5, 0.01], dtype=F64),
    )
    log_p = -0.5 * (2 * math.pi * math.e * eigenvalues).log().sum()
    each = optimal(schedule, eigenvalues)
    bound = exact_elbo(gaussian_model(schedule, mean, eigenvalues, each), mean, eigenvalues)
    top = gap_formula(schedule, 0.3, 4.0, each[:, 0])
    assert (log_p - bound).item() == pytest.approx(top, abs=2e-6) and top < 1e-6
    # The weights are then p(x), but for what is left of the data in x_T.
    model, x = (
        gaussian_model(schedule, mean, eigenvalues, each),
        mean + torch.randn(10, 3, dtype=F64),
    )
    expected = Normal(mean, eigenvalues.sqrt()).log_prob(x).sum(1)
    torch.testing.assert_close(log_weights(model, x), expected, rtol=0, atol=5e-2)
    # One for all is best where it is their mean.
    one = each.mean(1)
    gaps = [
        log_p
        - exact_elbo(gaussian_model(schedule, mean, eigenvalues, one * factor), mean, eigenvalues)
        for factor in (1, 0.97, 1.03)
    ]
    assert top < gaps[0] < min(gaps[1:])


def test_both_bounds_average_to_the_exact_one() -> None:
    whole, n = rescaled(100), 20_000
    schedule = whole.strided(range(5, 42, 6))  # it ends where much of the data is left
    T = schedule.num_steps
    mean, eigenvalues = torch.tensor([3.0, -0.2], dtype=F64), torch.tensor([0.3, 2.0], dtype=F64)
    exact = gaussian_denoiser(whole, mean, torch.diag(eigenvalues))
    var = torch.cat([torch.tensor([0.0, 0.2], dtype=F64), schedule.beta[2:]])
    model = Ddpm(lambda x_t, t: 0.8 * exact(x_t, t) + 0.1, schedule, (2,), var).double()
    x = mean + eigenvalues.sqrt() * torch.randn(n, 2, dtype=F64)
    expected = exact_elbo(model, mean, eigenvalues).item()
    terms, single = elbo_terms(model, x), single_step_elbo(model, x)
    assert terms.kl.shape == (n, T) and single.shape == (n,)
    for elbo in (terms.elbo, single):
        error = elbo.std().item() / math.sqrt(n)
        assert abs(elbo.mean().item() - expected) <= 5 * error
        assert terms.kl[:, -1].mean() > 6 * error  # no term is too small to be missed
    assert single.std() > terms.elbo.std()
    difference = terms.elbo - single
    assert abs(difference.mean()) <= 5 * difference.std() / math.sqrt(n)
    for t in range(1, T + 1):  # and term by term
        step = elbo_step(model, x, torch.full((n,), t), torch.randn_like(x))
        chain = terms.log_likelihood if t == 1 else -terms.kl[:, t - 2]
        difference = step - chain
        assert abs(difference.mean()) <= 5 * difference.std() / math.sqrt(n)


def test_times_that_are_not_alike_change_the_spread_and_not_the_mean() -> None:
    schedule, n = rescaled(100), 20_000
    mean, eigenvalues = torch.zeros(2, dtype=F64), torch.tensor([0.3, 2.0], dtype=F64)
    model = gaussian_model(schedule, mean, eigenvalues, schedule.beta)
    expected = exact_elbo(model, mean, eigenvalues).item()
    x = mean + eigenvalues.sqrt() * torch.randn(n, 2, dtype=F64)
    spread = {}
    for name, weights in {
        "early": 1 / torch.arange(101.0).clamp(min=1),
        "late": torch.arange(101.0) + 1,
    }.items():
        elbo = single_step_elbo(model, x, weights)
        spread[name] = elbo.std()
        assert abs(elbo.mean().item() - expected) <= 5 * elbo.std().item() / math.sqrt(n)
    plain = single_step_elbo(model, x)
    assert spread["early"] < plain.std() < spread["late"]
    torch.manual_seed(1)
    once = single_step_elbo(model, x, 7 * torch.ones(101))  # a factor does not matter
    torch.manual_seed(1)
    assert torch.allclose(once, single_step_elbo(model, x))


def test_samples_of_the_exact_model_have_the_law_of_the_data(unchecked: None) -> None:
    schedule, n = rescaled(30), 50_000
    mean, eigenvalues = torch.tensor([0.5, 0.0], dtype=F64), torch.tensor([0.3, 2.0], dtype=F64)
    model = gaussian_model(schedule, mean, eigenvalues, optimal(schedule, eigenvalues))
    *film, x = ancestral_sample(model, n)
    assert len(film) == 30
    x = x + optimal(schedule, eigenvalues)[1].sqrt() * torch.randn_like(
        x
    )  # the sampler leaves out the last noise
    assert ((x.mean(0) - mean).abs() <= 5 * (eigenvalues / n).sqrt()).all()
    assert ((x.var(0) - eigenvalues).abs() <= 5 * eigenvalues * math.sqrt(2 / n)).all()


@pytest.mark.parametrize(
    ("S", "beta_tilde", "beta"),
    [
        (10, 0.00013, 0.11691),
        (20, 0.00025, 0.03123),
        (50, 0.00070, 0.00735),
        (100, 0.00115, 0.00417),
        (1000, 0.00214, 0.00254),
    ],
)
def test_few_steps_spoil_the_variance_of_fine_detail(
    S: int, beta_tilde: float, beta: float
) -> None:
    lam, schedule = torch.full((1, 1), 0.0025, dtype=F64), linear_schedule(1000)
    denoiser = gaussian_denoiser(schedule, torch.zeros(1, dtype=F64), lam)  # made for all times
    short, one = (
        schedule.strided(torch.linspace(1, 1000, S).round().long()),
        torch.ones(1, 1, dtype=F64),
    )
    for reverse_var, expected in ((short.posterior_var, beta_tilde), (short.beta, beta)):
        reverse_var = torch.cat([one[0], one[0], reverse_var[2:]])
        model, variance = Ddpm(denoiser, short, (1,), reverse_var).double(), one
        p = model.inner_prior(torch.arange(1, S), one.expand(S - 1, 1))  # all steps at once
        for slope, added in zip(p.mean.flip(0), p.variance.flip(0)):
            variance = slope**2 * variance + added
        variance = model.likelihood(one).mean ** 2 * variance
        assert variance.item() == pytest.approx(expected, abs=6e-6)


# ------------------------------------------------------------------------------------------------ exact denoisers


def mixture() -> tuple[Tensor, Tensor, Tensor]:
    factor = torch.randn(3, 2, 2, dtype=F64)
    covs = 0.2 * factor @ factor.mT + 0.01 * torch.eye(2, dtype=F64)
    return torch.tensor([0.2, 0.5, 0.3], dtype=F64), torch.randn(3, 2, dtype=F64), covs


@pytest.mark.parametrize("t", [1, 100, 600, 1000])
def test_the_exact_denoiser_of_a_mixture_has_its_score(t: int) -> None:
    schedule, (weights, means, covs) = linear_schedule(1000), mixture()
    x_t = torch.randn(50, 2, dtype=F64, requires_grad=True)
    signal, var = schedule.kernel(0, t)
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
    signal, var = schedule.kernel(0, t)
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
        signal, var = schedule.kernel(0, time)
        K = signal**2 * cov + var * torch.eye(9, dtype=F64)
        offset = (x_t[i] - signal * mean).flatten()
        expected = mean.flatten() + signal * cov @ torch.linalg.solve(K, offset)
        torch.testing.assert_close(x_hat[i].flatten(), expected, rtol=1e-8, atol=1e-8)
    # It computes in the precision of its covariance, and gives that of x_t.
    single = gaussian_denoiser(schedule, mean, cov)(x_t.float(), t)
    torch.testing.assert_close(single, x_hat.float())


def test_a_mixture_s_gap_closes_as_steps_are_added(unchecked: None) -> None:
    weights, means, stds = torch.tensor([[0.3, 0.7], [-1.0, 1.0], [0.3, 0.4]], dtype=F64)
    n, gaps = 10_000, []
    index = Categorical(weights).sample((n,))
    x = (means[index] + stds[index] * torch.randn(n, dtype=F64))[:, None]
    log_p = (weights.log() + Normal(means, stds).log_prob(x)).logsumexp(1)
    for T in (10, 60):
        schedule = rescaled(T)
        denoiser = MixtureDenoiser(schedule, weights, means[:, None], (stds**2)[:, None, None])
        elbo = elbo_terms(Ddpm(denoiser, schedule, (1,), schedule.beta).double(), x).elbo
        error = (log_p - elbo).std().item() / math.sqrt(n)
        gaps.append((log_p - elbo).mean().item())
        assert gaps[-1] > -5 * error
    assert gaps[1] + 5 * error < gaps[0]


# ------------------------------------------------------------------------------------------------ losses and weights


@pytest.mark.parametrize("eigenvalue", [1.0, 0.25])
def test_l_simple_of_the_exact_denoiser_is_the_linear_bound(eigenvalue: float) -> None:
    schedule, n = linear_schedule(1000), 100_000
    lam, mean = torch.full((2,), eigenvalue, dtype=F64), torch.tensor([0.4, 0.0], dtype=F64)
    bound = linear_noise_error(schedule, lam)
    assert bound.shape == (1001, 2) and bound[0].tolist() == [0, 0]
    known = {1.0: 0.27551, 0.25: 0.17305}[eigenvalue]
    assert bound[1:].mean().item() == pytest.approx(known, abs=1e-5)
    model = gaussian_model(schedule, mean, lam, schedule.beta)
    loss = noise_prediction_loss(model, mean + lam.sqrt() * torch.randn(n, 2, dtype=F64))
    assert loss.shape == (n,)
    assert abs(loss.mean().item() - 2 * known) <= 5 * loss.std().item() / math.sqrt(n)


def test_errors_at_chosen_times_are_those_of_the_exact_denoiser() -> None:
    schedule, n = linear_schedule(1000), 20_000
    eigenvalues, mean = torch.tensor([1.0, 0.05], dtype=F64), torch.tensor([0.4, 0.0], dtype=F64)
    model = gaussian_model(schedule, mean, eigenvalues, schedule.beta)
    x, times = mean + eigenvalues.sqrt() * torch.randn(n, 2, dtype=F64), [1, 30, 300, 1000]
    errors = noise_errors(model, x, times)
    assert errors.shape == (4, n)
    bound = linear_noise_error(schedule, eigenvalues).mean(1)[times]
    assert bool(((errors.mean(1) - bound).abs() <= 5 * errors.std(1) / math.sqrt(n)).all())
    assert noise_errors(model, x[:3], torch.tensor([2])).shape == (1, 3)


def test_the_loss_of_v_is_that_of_the_noise_over_what_is_left_of_the_data() -> None:
    schedule = linear_schedule(50, 0.002, 0.4)
    model = Ddpm(lambda x_t, t: 0.5 * x_t + 0.1, schedule, (2,), schedule.beta).double()
    x = torch.randn(500, 2, dtype=F64)
    torch.manual_seed(0)
    noise_loss = noise_prediction_loss(model, x)
    torch.manual_seed(0)
    v_loss = v_prediction_loss(model, x)
    torch.manual_seed(0)
    t = torch.randint(1, 51, (500,))
    assert torch.allclose(v_loss, noise_loss / schedule.alpha_bar[t], rtol=1e-10)
    # A network whose v is right has no loss, also where hardly anything is left of the data.
    exact = Ddpm(lambda x_t, t: x, schedule, (2,), schedule.beta).double()
    assert v_prediction_loss(exact, x).abs().max() < 1e-20


def test_a_ddpm_of_pictures_has_their_gray_levels_and_ho_s_variance_of_the_likelihood() -> None:
    network = UNet((1, 8, 8), 8, (1,), blocks=1)
    model = image_ddpm(network, levels=17)
    assert model.num_latents == 1000 and model.x_shape == (1, 8, 8)
    assert isinstance(model.denoiser, VPredictor)
    schedule = model.schedule
    assert torch.equal(model.reverse_var[2:], schedule.beta[2:])
    assert model.reverse_var[1] == schedule.posterior_var[2] < schedule.beta[1]
    x = torch.randint(17, (3, 1, 8, 8)) / 8 - 1
    assert (
        elbo_step(model, x, torch.ones(3, dtype=torch.long), torch.randn_like(x)).isfinite().all()
    )
    with pytest.raises(ValueError, match="value must lie on the 17 gray levels"):
        elbo_step(model, x + 1 / 16, torch.ones(3, dtype=torch.long), torch.randn_like(x))
    other = image_ddpm(network, cosine_schedule(30), NoisePredictor)
    assert other.num_latents == 30 and type(other.denoiser) is NoisePredictor
    v, x_t, t = torch.zeros(3, 1, 8, 8), torch.randn(3, 1, 8, 8), torch.tensor([1, 500, 1000])
    assert torch.allclose(
        model.denoise(x_t, t), x_t * schedule.alpha_bar[t].sqrt().view(3, 1, 1, 1).float()
    )  # v = 0
    assert network(x_t, t).equal(v)


# ------------------------------------------------------------------------------------------------ small networks


def test_a_perceptron_hears_of_the_time_and_learns_what_needs_it() -> None:
    network = TimeMlp(2, (32, 32), width=16)
    x_t, t = torch.randn(64, 2), torch.randint(1, 100, (64,))
    assert network(x_t, t).equal(torch.zeros(64, 2))  # it starts at zero
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(200):
        loss = (network(x_t, t) - (t[:, None] > 50) * x_t).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.05
    assert not torch.allclose(network(x_t, t), network(x_t, 100 - t), atol=0.1)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_the_classifier_gives_logits_made_of_its_features() -> None:
    model = DigitClassifier(24).eval()
    x = torch.rand(5, 1, 28, 28)
    features = model.features(x)
    assert features.shape == (5, 24) and model(x).shape == (5, 10)
    assert torch.equal(model.head(features), model(x))
    assert torch.equal(model(x), model(x))  # no dropout when it judges
    assert sum(p.numel() for p in model.parameters()) < 150_000


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
    var = variances(schedule, 0.25)[kind]
    t = torch.tensor([1, 2, 50, 200])
    x, noise, good, bad = torch.randn(4, 4, 6, dtype=F64)
    x_t = add_noise(schedule, x, t, noise)
    terms = [
        elbo_step(
            Ddpm(lambda x_t, t, x_hat=x_hat: x_hat, schedule, (6,), var).double(), x, t, noise
        )
        for x_hat in (good, bad)
    ]
    weights = bound_weights(schedule, var)
    forms = {"noise": noise_from_x_0, "v": v_from_x_0, "score": score_from_x_0}
    forms["x_0"] = lambda schedule, x_t, t, x_0: x_0
    # The mean of a step is where the sampler would go; at t = 1 it is the estimate itself.
    forms["mean"] = lambda s, x_t, t, x_0: (
        s.posterior(t).of_x_0[:, None] * x_0 + s.posterior(t).of_x_t[:, None] * x_t
    )
    assert set(forms) == set(weights._fields)
    for name, form in forms.items():
        truth = form(schedule, x_t, t, x)
        errors = [(form(schedule, x_t, t, x_hat) - truth).square().sum(1) for x_hat in (good, bad)]
        weight = getattr(weights, name)
        assert weight.shape == (201,) and weight[0] == 0
        torch.testing.assert_close(
            weight[t] * (errors[1] - errors[0]), terms[0] - terms[1], rtol=1e-8, atol=1e-8
        )


def test_the_weight_of_the_noise_is_the_well_known_one() -> None:
    schedule = linear_schedule(1000)
    beta, alpha = schedule.beta[1:], schedule.alpha[1:]
    expected = beta**2 / (2 * beta * alpha * schedule.noise_var[1:])
    torch.testing.assert_close(bound_weights(schedule, schedule.beta).noise[1:], expected)
    each = schedule.beta[:, None].expand(-1, 3)
    assert bound_weights(schedule, each).v.shape == (1001, 3)


def test_the_optimal_variance_is_optimal_for_any_denoiser_and_any_data() -> None:
    schedule, n = rescaled(20), 500
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


# ------------------------------------------------------------------------------------------------ networks, pictures


class Net(nn.Module):
    """A small network of a picture and its time."""

    def __init__(self, channels: int = 1, told: list[int] | None = None) -> None:
        super().__init__()
        self.first, self.last = (
            nn.Conv2d(channels, 4, 3, padding=1),
            nn.Conv2d(4, channels, 3, padding=1),
        )
        self.time, self.told = nn.Embedding(1001, 4), told

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        if self.told is not None:
            self.told += t.tolist()
        return self.last(torch.relu(self.first(x_t) + self.time(t)[:, :, None, None]))


def pictures(num: int = 2, channels: int = 1) -> Tensor:
    return torch.randint(0, 256, (num, channels, 28, 28)) / 127.5 - 1


def picture_model(
    adapter: type[NoisePredictor] = NoisePredictor, T: int = 1000, **settings: Any
) -> Ddpm:
    schedule = linear_schedule(T)
    return Ddpm(adapter(Net(), schedule), schedule, (1, 28, 28), schedule.beta, **settings)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("adapter", [NoisePredictor, VPredictor])
def test_shapes_precision_and_gradients(
    adapter: type[NoisePredictor], dtype: torch.dtype, device: str
) -> None:
    model = picture_model(adapter, T=4, likelihood=DiscretizedNormal).to(device=device, dtype=dtype)
    x = pictures().to(device=device, dtype=dtype)
    *film, x_hat = ancestral_sample(model, 2)
    assert len(film) == 4 and all(z.shape == x.shape and z.dtype == dtype for z in (*film, x_hat))
    q, p = model.posterior(x), model.prior(2)
    assert q.batch_shape == p.batch_shape == (2,) and q.event_shape == p.event_shape == (1, 28, 28)
    assert isinstance(q, Independent) and q.mean.dtype == p.mean.dtype == dtype
    terms = elbo_terms(model, x)
    assert terms.kl.shape == (2, 4) and (terms.kl > 0).all() and (terms.log_likelihood < 0).all()
    for loss in (lambda: -elbo_terms(model, x).elbo, lambda: -single_step_elbo(model, x)):
        model.zero_grad()
        assert loss().shape == (2,) and loss().dtype == dtype
        loss().mean().backward()
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    loss = noise_prediction_loss(model, x)
    assert loss.shape == (2,) and loss.dtype == dtype


def test_a_network_is_told_the_times_from_1_to_t_for_each_example() -> None:
    told: list[int] = []
    schedule = linear_schedule(6)
    model = Ddpm(NoisePredictor(Net(told=told), schedule), schedule, (1, 28, 28), schedule.beta)
    x = pictures(3)
    elbo_terms(model, x)
    assert told == [t for t in (6, 5, 4, 3, 2, 1) for _ in range(3)]
    told.clear()
    for _ in range(100):
        noise_prediction_loss(model, x)
    assert set(told) == {1, 2, 3, 4, 5, 6} and len(set(map(tuple, zip(told[::3], told[1::3])))) > 6
    told.clear()
    single_step_elbo(model, x)
    assert len(told) == 3  # one call
    told.clear()
    short = schedule.strided([2, 6])
    list(ancestral_sample(Ddpm(model.denoiser, short, (1, 28, 28), short.beta), 1))
    assert told == [6, 2]


@pytest.mark.parametrize(
    "schedule", [linear_schedule(1000), cosine_schedule(1000)], ids=["linear", "cosine"]
)
def test_a_perfect_network_gives_the_data_in_single_precision(schedule: Schedule) -> None:
    x_0, noise = torch.randn(2, 3, 500)
    t = torch.tensor([1, 500, 990])
    x_t = add_noise(schedule, x_0, t, noise)

    class Perfect(nn.Module):
        def __init__(self, value: Tensor) -> None:
            super().__init__()
            self.value = value

        def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
            return self.value

    from_noise = NoisePredictor(Perfect(noise), schedule)(x_t, t)
    torch.testing.assert_close(from_noise[:2], x_0[:2], rtol=0, atol=1e-5)
    torch.testing.assert_close(
        from_noise[2], x_0[2], rtol=0, atol=1e-4
    )  # divided by 0.007 and 0.016
    from_v = VPredictor(
        Perfect(v_from_x_0(schedule, x_t.double(), t, x_0.double()).float()), schedule
    )(x_t, t)
    torch.testing.assert_close(from_v, x_0, rtol=0, atol=1e-5)


def test_single_precision_keeps_the_bound() -> None:
    model, n = picture_model(T=1000), 40
    t = torch.cat([torch.arange(1, 21), torch.arange(981, 1001)])
    x, noise = pictures(n), torch.randn(n, 1, 28, 28)
    with torch.no_grad():
        single = elbo_step(model, x, t, noise)
        double = elbo_step(model.double(), x.double(), t, noise.double())
    # 784 dimensions: a thousandth of a nat per step and picture, or six digits.
    torch.testing.assert_close(single.double(), double, rtol=1e-5, atol=1e-3)


def test_a_thousand_steps_of_the_bound_take_seconds(unchecked: None) -> None:
    schedule = linear_schedule(1000)
    mean, lam = torch.zeros(2, dtype=F64), torch.tensor([0.25, 1.0], dtype=F64)
    model = gaussian_model(schedule, mean, lam, optimal(schedule, lam))
    x = lam.sqrt() * torch.randn(200, 2, dtype=F64)
    terms = elbo_terms(model, x)
    assert terms.kl.shape == (200, 1000)
    difference = terms.elbo - Normal(mean, lam.sqrt()).log_prob(x).sum(1)
    assert abs(difference.mean()) <= 5 * difference.std() / math.sqrt(len(x))


def test_the_bound_keeps_the_model_s_precision_under_autocast() -> None:
    model, x = picture_model(T=5, likelihood=DiscretizedNormal), pictures()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model.denoiser.network(x, torch.tensor([1, 2])).dtype == torch.bfloat16
        assert model.denoise(x, 3).dtype == torch.float32
        for loss in (lambda m, x: elbo_terms(m, x).elbo, single_step_elbo, noise_prediction_loss):
            assert loss(model, x).dtype == torch.float32 and loss(model, x).isfinite().all()


def test_a_discretized_likelihood_is_the_density_of_smooth_pictures_times_the_width_of_a_level() -> (
    None
):
    x = pictures(3)
    t, noise = torch.ones(3, dtype=torch.long), torch.randn_like(x)
    schedule, var = linear_schedule(10), torch.full((11,), 0.04, dtype=F64)
    x_hat = 0.3 * x  # far from the ends, where the outer levels take all that is beyond
    density, mass = (
        elbo_step(
            Ddpm(lambda x_t, t: x_hat, schedule, (1, 28, 28), var, likelihood),
            x * 0 + 1 / 255,
            t,
            noise,
        )
        for likelihood in (diagonal_normal, DiscretizedNormal)
    )
    torch.testing.assert_close(
        mass - density, torch.full((3,), 784 * math.log(2 / 255)), rtol=1e-3, atol=0
    )


def test_weights_survive_a_file_and_hold_the_schedule_unrounded(tmp_path: Any) -> None:
    model = picture_model(T=10)
    names = {f"denoiser.network.{name}" for name in Net().state_dict()}
    assert set(model.state_dict()) == {
        *names,
        "schedule.log_alpha_bar",
        "denoiser.schedule.log_alpha_bar",
    }
    save_weights(model, card("d"), tmp_path)
    other = picture_model(T=10)
    load_weights("d", other, tmp_path)
    assert torch.equal(other.schedule.log_alpha_bar, model.schedule.log_alpha_bar)
    t, x_t = torch.tensor([10, 3]), torch.randn(2, 1, 28, 28)
    network = model.denoiser.network
    network.load_state_dict(
        {name: value.half().float() for name, value in network.state_dict().items()}
    )
    assert torch.equal(other.denoise(x_t, t), model.denoise(x_t, t))
    with pytest.raises(ValueError, match="schedule.log_alpha_bar' of shape"):
        load_weights("d", picture_model(T=11), tmp_path)


# ------------------------------------------------------------------------------------------------ errors

S3 = linear_schedule(3)
TOY = Ddpm(lambda x_t, t: x_t, S3, (2,), S3.beta)
EYE = torch.eye(2)[None]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: Ddpm(lambda x_t, t: x_t, S3, (2,), torch.ones(3)),
            r"^reverse_var must have shape \(4,\) or \(4, 2\); \(3,\) was given$",
        ),
        (
            lambda: Ddpm(lambda x_t, t: x_t, S3, (2,), S3.posterior_var),
            "^reverse_var must be positive and finite from entry 1 on; 0 was given at t = 1$",
        ),
        (
            lambda: Ddpm(
                lambda x_t, t: x_t,
                S3,
                (2,),
                torch.tensor([[1.0, 1], [1, 1], [1, math.nan], [1, 1]]),
            ),
            "nan was given at t = 2",
        ),
        (
            lambda: TOY.posterior(torch.zeros(5, 3)),
            r"^x must have shape \(batch, 2\); \(5, 3\) was given$",
        ),
        (
            lambda: elbo_terms(TOY, torch.zeros(5, 1)),
            r"^x must have shape \(batch, 2\); \(5, 1\) was given$",
        ),
        (lambda: single_step_elbo(TOY, torch.zeros(5, 1)), r"^x must have shape \(batch, 2\)"),
        (lambda: noise_prediction_loss(TOY, torch.zeros(5, 1)), r"^x must have shape \(batch, 2\)"),
        (lambda: v_prediction_loss(TOY, torch.zeros(5, 1)), r"^x must have shape \(batch, 2\)"),
        (lambda: noise_errors(TOY, torch.zeros(5, 1), [1]), r"^x must have shape \(batch, 2\)"),
        (
            lambda: noise_errors(TOY, torch.zeros(5, 2), [0, 1]),
            "^times must lie in 1..3; 0 to 1 was given$",
        ),
        (
            lambda: single_step_elbo(TOY, torch.zeros(5, 2), torch.ones(3)),
            r"^time_weights must have shape \(4,\) and be positive and finite from entry 1 on; shape \(3,\) was given$",
        ),
        (
            lambda: single_step_elbo(TOY, torch.zeros(5, 2), torch.tensor([1.0, 1, 0, 1])),
            "^time_weights must have",
        ),
        (lambda: TimeMlp(2, ()), "sizes must hold at least two positive integers"),
        (lambda: TimeMlp(2, (8,), width=6), "^width must be a multiple of 4; 6 was given$"),
        (
            lambda: TimeMlp(2, (8,))(torch.zeros(3, 2), torch.zeros(2)),
            r"^x_t must have shape \(batch, 2\) and t \(batch,\); \(3, 2\) and \(2,\) were given$",
        ),
        (lambda: DigitClassifier(0), "^num_features must be at least 1; 0 was given$"),
        (lambda: TOY.inner_prior(3, torch.zeros(5, 2)), "^t must lie in 1..3; 4 was given$"),
        (lambda: TOY.denoise(torch.zeros(5, 2), 0), "^t must lie in 1..3; 0 was given$"),
        (
            lambda: Ddpm(lambda x_t, t: x_t[:, :1], S3, (2,), S3.beta).denoise(
                torch.zeros(5, 2), 1
            ),
            r"^denoiser must give the shape of x_t, \(5, 2\); it gave \(5, 1\)$",
        ),
        (lambda: bound_weights(S3, S3.posterior_var), "reverse_var must be positive"),
        (
            lambda: linear_noise_error(S3, torch.tensor([1.0, -1.0])),
            "must be finite and not negative; their smallest",
        ),
        (
            lambda: optimal_reverse_var(S3, torch.ones(3)),
            r"noise_error must have 4 entries; shape \(3,\) was given",
        ),
        (
            lambda: MixtureDenoiser(S3, torch.ones(1), torch.zeros(1, 3), EYE),
            r"weights and covs must fit 1 means of 3 dimensions; shapes \(1,\) and \(1, 2, 2\) were given",
        ),
        (
            lambda: MixtureDenoiser(S3, torch.full((1,), 0.5), torch.zeros(1, 2), EYE),
            r"weights must be positive and add up to 1; \[0.5\] was given",
        ),
        (
            lambda: gaussian_denoiser(S3, torch.zeros(2), torch.tensor([[1.0, 1], [0, 1]])),
            "covs must be symmetric",
        ),
        (
            lambda: gaussian_denoiser(S3, torch.zeros(2), -torch.eye(2)),
            "covs must be positive semi-definite; the smallest eigenvalue is -1",
        ),
    ],
)
def test_bad_input_gets_one_sentence(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
