"""Diffusion models where everything is known: normal data, mixtures of normals, and identities that hold pointwise."""

import math
from typing import Any

import pytest
import torch
from bad_input import refused
from tiny_recipes import card
from torch import Tensor, nn
from torch.distributions import Categorical, Independent, Normal, kl_divergence

from companion.ddpm import (
    Ddpm,
    denoising_loss,
    elbo_step,
    image_ddpm,
    noise_errors,
    single_step_elbo,
)
from companion.denoisers import MixtureDenoiser, NoisePredictor, VPredictor, gaussian_denoiser
from companion.distributions import DiscretizedNormal, diagonal_normal
from companion.elbo import elbo_terms, sample_log_weights
from companion.networks.unet import UNet
from companion.samplers import ancestral_sample
from companion.schedule import (
    Schedule,
    add_noise,
    cosine_schedule,
    linear_schedule,
    noise_from_x_0,
    v_from_x_0,
)
from companion.variances import bound_weights, linear_noise_error, optimal_reverse_var
from companion.zoo.weights import load_weights, save_weights

F64 = torch.double


DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def simple_loss(model: Ddpm, x: Tensor) -> Tensor:
    return denoising_loss(model, x, model.schedule.snr)


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


GAPS = [(10, 0.1217, 5.390), (100, 0.01096, 1.250)]
GAPS += [(1000, 0.001092, 0.4563), (10_000, 0.0001092, 0.3157)]


@pytest.mark.parametrize(("T", "beta", "beta_tilde"), GAPS)
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
    torch.testing.assert_close(sample_log_weights(model, x, 1)[0], expected, rtol=0, atol=1e-9)


def test_several_dimensions_need_a_variance_for_each() -> None:
    schedule = cosine_schedule(50)
    mean, eigenvalues = torch.tensor([[0.3, 0.0, -1.0], [4.0, 0.5, 0.01]], dtype=F64)
    log_p = -0.5 * (2 * math.pi * math.e * eigenvalues).log().sum()
    each = optimal(schedule, eigenvalues)
    model = gaussian_model(schedule, mean, eigenvalues, each)
    bound = exact_elbo(model, mean, eigenvalues)
    top = gap_formula(schedule, 0.3, 4.0, each[:, 0])
    assert (log_p - bound).item() == pytest.approx(top, abs=2e-6) and top < 1e-6
    # The weights are then p(x), but for what is left of the data in x_T.
    x = mean + torch.randn(10, 3, dtype=F64)
    expected = Normal(mean, eigenvalues.sqrt()).log_prob(x).sum(1)
    torch.testing.assert_close(sample_log_weights(model, x, 1)[0], expected, rtol=0, atol=5e-2)
    # One for all is best where it is their mean.
    one = each.mean(1)
    models = [gaussian_model(schedule, mean, eigenvalues, one * f) for f in (1, 0.97, 1.03)]
    gaps = [log_p - exact_elbo(model, mean, eigenvalues) for model in models]
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
    early, late = 1 / torch.arange(101.0).clamp(min=1), torch.arange(101.0) + 1
    spread = []
    for weights in (early, None, late):
        elbo = single_step_elbo(model, x, weights)
        spread.append(elbo.std().item())
        assert abs(elbo.mean().item() - expected) <= 5 * spread[-1] / math.sqrt(n)
    assert spread == sorted(spread)
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
    # The sampler leaves out the last noise.
    x = x + optimal(schedule, eigenvalues)[1].sqrt() * torch.randn_like(x)
    assert ((x.mean(0) - mean).abs() <= 5 * (eigenvalues / n).sqrt()).all()
    assert ((x.var(0) - eigenvalues).abs() <= 5 * eigenvalues * math.sqrt(2 / n)).all()


FINE = [(10, 0.00013, 0.11691), (20, 0.00025, 0.03123), (50, 0.0007, 0.00735)]
FINE += [(100, 0.00115, 0.00417), (1000, 0.00214, 0.00254)]


@pytest.mark.parametrize(("S", "beta_tilde", "beta"), FINE)
def test_few_steps_spoil_the_variance_of_fine_detail(
    S: int, beta_tilde: float, beta: float
) -> None:
    lam, schedule = torch.full((1, 1), 0.0025, dtype=F64), linear_schedule(1000)
    denoiser = gaussian_denoiser(schedule, torch.zeros(1, dtype=F64), lam)  # made for all times
    short, one = schedule.evenly(S), torch.ones(1, 1, dtype=F64)
    for reverse_var, expected in ((short.posterior_var, beta_tilde), (short.beta, beta)):
        reverse_var = torch.cat([one[0], one[0], reverse_var[2:]])
        model, variance = Ddpm(denoiser, short, (1,), reverse_var).double(), one
        p = model.inner_prior(torch.arange(1, S), one.expand(S - 1, 1))  # all steps at once
        for slope, added in zip(p.mean.flip(0), p.variance.flip(0)):
            variance = slope**2 * variance + added
        variance = model.likelihood(one).mean ** 2 * variance
        assert variance.item() == pytest.approx(expected, abs=6e-6)


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
    loss = simple_loss(model, mean + lam.sqrt() * torch.randn(n, 2, dtype=F64))
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


def test_weights_of_one_loss_make_it_that_of_the_noise_of_v_or_of_the_bound() -> None:
    schedule = linear_schedule(50, 0.002, 0.4)
    var = 0.7 * schedule.beta
    model = Ddpm(lambda x_t, t: 0.5 * x_t + 0.1, schedule, (2,), var, decoder_var=0.03).double()
    x = torch.randn(500, 2, dtype=F64)
    torch.manual_seed(0)
    t, noise = torch.randint(1, 51, (500,)), torch.randn(500, 2, dtype=F64)
    x_t = add_noise(schedule, x, t, noise)
    x_hat = model.denoise(x_t, t)

    def loss(model: Ddpm, weight: Tensor) -> Tensor:
        torch.manual_seed(0)
        return denoising_loss(model, x, weight)

    noise_error = (noise - noise_from_x_0(schedule, x_t, t, x_hat)).square().sum(1)
    torch.testing.assert_close(loss(model, schedule.snr), noise_error, rtol=1e-10, atol=0)
    v, v_hat = (v_from_x_0(schedule, x_t, t, x_0) for x_0 in (x, x_hat))
    v_error = (v - v_hat).square().sum(1)
    torch.testing.assert_close(loss(model, 1 / schedule.noise_var), v_error, rtol=1e-10, atol=0)
    # The bound: what each step loses against an exact estimate, the likelihood at t = 1 too.
    assert (t == 1).any()
    exact = Ddpm(lambda x_t, t: x, schedule, (2,), var, decoder_var=0.03).double()
    lost = elbo_step(exact, x, t, noise) - elbo_step(model, x, t, noise)
    weight = bound_weights(schedule, var, 0.03).x_0
    torch.testing.assert_close(loss(model, weight), lost, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(bound_weights(schedule, model.reverse_var).x_0, weight)
    # A network whose v is right has no loss, also where hardly anything is left of the data.
    assert loss(exact, 1 / schedule.noise_var).abs().max() < 1e-20


def test_a_ddpm_of_pictures_has_their_gray_levels_and_ho_s_variance_of_the_likelihood() -> None:
    network = UNet((1, 8, 8), 8, (1,), blocks=1)
    model = image_ddpm(network, levels=17)
    assert model.num_latents == 1000 and model.x_shape == (1, 8, 8)
    assert isinstance(model.denoiser, VPredictor)
    schedule = model.schedule
    assert torch.equal(model.reverse_var[2:], schedule.beta[2:])
    assert model.reverse_var[1] == schedule.posterior_var[2] < schedule.beta[1]
    x, first = torch.randint(17, (3, 1, 8, 8)) / 8 - 1, torch.ones(3, dtype=torch.long)
    assert elbo_step(model, x, first, torch.randn_like(x)).isfinite().all()
    with pytest.raises(ValueError, match="value must lie on the 17 gray levels"):
        elbo_step(model, x + 1 / 16, first, torch.randn_like(x))
    other = image_ddpm(network, cosine_schedule(30), NoisePredictor)
    assert other.num_latents == 30 and type(other.denoiser) is NoisePredictor
    x_t, t = torch.randn(3, 1, 8, 8), torch.tensor([1, 500, 1000])
    assert network(x_t, t).equal(torch.zeros(3, 1, 8, 8))  # v = 0
    signal = schedule.alpha_bar[t].sqrt().view(3, 1, 1, 1).float()
    assert torch.allclose(model.denoise(x_t, t), x_t * signal)


# ------------------------------------------------------------------------------------------------ networks, pictures


class Net(nn.Module):
    """A small network of a picture and its time."""

    def __init__(self, channels: int = 1, told: list[int] | None = None) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, 4, 3, padding=1)
        self.last = nn.Conv2d(4, channels, 3, padding=1)
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
    model = picture_model(adapter, T=4, observation_model=DiscretizedNormal).to(
        device=device, dtype=dtype
    )
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
    loss = simple_loss(model, x)
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
        simple_loss(model, x)
    assert set(told) == {1, 2, 3, 4, 5, 6} and len(set(map(tuple, zip(told[::3], told[1::3])))) > 6
    told.clear()
    single_step_elbo(model, x)
    assert len(told) == 3  # one call
    told.clear()
    short = schedule.strided([2, 6])
    list(ancestral_sample(Ddpm(model.denoiser, short, (1, 28, 28), short.beta), 1))
    assert told == [6, 2]


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
    model, x = picture_model(T=5, observation_model=DiscretizedNormal), pictures()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model.denoiser.network(x, torch.tensor([1, 2])).dtype == torch.bfloat16
        assert model.denoise(x, 3).dtype == torch.float32
        for loss in (lambda m, x: elbo_terms(m, x).elbo, single_step_elbo, simple_loss):
            assert loss(model, x).dtype == torch.float32 and loss(model, x).isfinite().all()


def test_a_discretized_likelihood_is_the_density_of_smooth_pictures_times_a_level_s_width() -> None:
    x = pictures(3)
    t, noise, gray = torch.ones(3, dtype=torch.long), torch.randn_like(x), x * 0 + 1 / 255
    schedule, var = linear_schedule(10), torch.full((11,), 0.04, dtype=F64)
    x_hat = 0.3 * x  # far from the ends, where the outer levels take all that is beyond
    density, mass = (
        elbo_step(Ddpm(lambda x_t, t: x_hat, schedule, (1, 28, 28), var, None, p), gray, t, noise)
        for p in (diagonal_normal, DiscretizedNormal)
    )
    width = torch.full((3,), 784 * math.log(2 / 255))
    torch.testing.assert_close(mass - density, width, rtol=1e-3, atol=0)


def test_weights_survive_a_file_and_hold_the_schedule_unrounded(tmp_path: Any) -> None:
    model = picture_model(T=10)
    names = {f"denoiser.network.{name}" for name in Net().state_dict()}
    names |= {f"{part}schedule.log_alpha_bar" for part in ("", "denoiser.")}
    assert set(model.state_dict()) == names
    save_weights(model, card("d"), tmp_path)
    other = picture_model(T=10)
    load_weights("d", other, tmp_path)
    assert torch.equal(other.schedule.log_alpha_bar, model.schedule.log_alpha_bar)
    t, x_t = torch.tensor([10, 3]), torch.randn(2, 1, 28, 28)
    network = model.denoiser.network
    rounded = {name: value.half().float() for name, value in network.state_dict().items()}
    network.load_state_dict(rounded)
    assert torch.equal(other.denoise(x_t, t), model.denoise(x_t, t))
    with pytest.raises(ValueError, match="schedule.log_alpha_bar' of shape"):
        load_weights("d", picture_model(T=11), tmp_path)


S3 = linear_schedule(3)
X = torch.zeros(5, 2)


def toy(reverse_var: Tensor, denoiser: Any = None, **options: Any) -> Ddpm:
    return Ddpm(denoiser or (lambda x_t, t: x_t), S3, (2,), reverse_var, **options)


def test_the_decoder_s_variance_is_told_from_that_of_the_steps() -> None:
    model = toy(S3.posterior_var, decoder_var=0.25)
    assert torch.equal(model.reverse_var[2:], S3.posterior_var[2:])
    assert torch.allclose(model.likelihood(X).variance, torch.tensor(0.25))
    assert torch.equal(toy(S3.beta).reverse_var, S3.beta)
    each = toy(S3.beta[:, None].expand(4, 2), decoder_var=torch.tensor([0.1, 0.2]))
    assert torch.allclose(each.likelihood(X).variance, torch.tensor([0.1, 0.2]))


def test_times_drawn_more_often_count_less_so_that_the_loss_keeps_its_mean() -> None:
    """The error depends on the time alone here: its square is the mean of a known table."""
    T, num = 5, 4000
    schedule, seen = rescaled(T), []

    def denoiser(x_t: Tensor, t: Tensor, /, *condition: Tensor) -> Tensor:
        seen.append(t)
        return t[:, None].to(x_t).expand_as(x_t)

    model = Ddpm(denoiser, schedule, (2,), schedule.beta)
    weight = torch.tensor([math.nan, 3.0, 1.0, 0.5, 2.0, 0.1])
    time_weights = torch.tensor([math.nan, 1.0, 5.0, 2.0, 1.0, 1.0])
    loss = denoising_loss(model, torch.zeros(num, 2), weight, time_weights=time_weights)
    p = time_weights[1:] / time_weights[1:].sum()
    # Spread evenly: each time comes as often as it should, but for one example.
    counts = torch.bincount(seen[0], minlength=T + 1)[1:]
    assert (counts - num * p).abs().max() <= 1
    errors = 2 * schedule.steps.square()
    assert torch.allclose(loss, (weight[1:] * errors / (T * p)).float()[seen[0] - 1])
    assert loss.mean().item() == pytest.approx((weight[1:] * errors).mean().item(), rel=0.01)


def test_times_are_drawn_where_the_weights_say_in_any_order_of_the_batch(unchecked: None) -> None:
    """Each place of a batch sees every time as often as p(t) says, over many batches."""
    seen: list[Tensor] = []

    def denoiser(x_t: Tensor, t: Tensor, /, *condition: Tensor) -> Tensor:
        seen.append(t)
        return torch.zeros_like(x_t)

    model = Ddpm(denoiser, rescaled(3), (1,), rescaled(3).beta)
    torch.manual_seed(0)
    for _ in range(2000):
        weights = torch.tensor([1.0, 2.0, 1.0, 1.0])
        denoising_loss(model, torch.zeros(3, 1), torch.ones(4), time_weights=weights)
    share = (torch.stack(seen) == 1).double().mean(0)
    assert (share - 0.5).abs().max() < 5 * 0.5 / 2000**0.5


test_bad_input = refused("ddpm")
