"""The science for input drawn at random: good input gives what is promised, any other gets a documented error.

Where the outcome is known in advance, it is asserted; where it is not, an answer is finite or there is a sentence of
the package. Examples are the same in every run.
"""

import math

import pytest
import torch
from bad_input import ACCEPTED, OURS, outcome
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from companion import autoencoder, data, flows, interpolation, metrics, samplers, schedule, score
from companion.ddpm import Ddpm, denoising_loss, elbo_step, noise_errors, single_step_elbo
from companion.denoisers import NoisePredictor, VPredictor, gaussian_denoiser
from companion.distributions import (
    DiscretizedNormal,
    GaussianLikelihood,
    bernoulli,
    diagonal_normal,
    normal_product,
)
from companion.elbo import elbo_loss, elbo_terms, importance_weighted_loss
from companion.guidance import posterior_denoiser
from companion.ladders import mlp_ladder
from companion.networks.mlp import TimeMlp, mlp
from companion.networks.unet import UNet
from companion.vae import linear_vae, linear_vae_log_likelihood, mlp_vae
from companion.variances import linear_noise_error, optimal_reverse_var

OFF = [HealthCheck.function_scoped_fixture]
fast = settings(
    max_examples=15, derandomize=True, database=None, deadline=None, suppress_health_check=OFF
)
many = settings(fast, max_examples=60)
pytestmark = [pytest.mark.timeout(300), pytest.mark.usefixtures("unchecked")]

FLOATS = st.sampled_from([torch.float32, torch.float64])
SIZES = st.integers(1, 5)
SEEDS = st.integers(0, 2**32 - 1)
ANYTHING = st.one_of(
    st.integers(-3, 40),
    st.floats(-1e6, 1e6),
    st.sampled_from([math.nan, math.inf, -math.inf]),
    st.booleans(),
    st.none(),
    st.text(max_size=3),
    st.lists(st.floats(), max_size=3),
)


@st.composite
def batches(draw, dims=SIZES, least=1):
    """A batch of vectors of some size, precision and scale."""
    torch.manual_seed(draw(SEEDS))
    x = torch.randn(draw(st.integers(least, 6)), draw(dims), dtype=draw(FLOATS))
    return x * draw(st.floats(0.01, 5))


@st.composite
def tensors(draw):
    """Any tensor: of any shape up to three dimensions, also empty, of any dtype, with or without a NaN."""
    shape = draw(st.lists(st.integers(0, 4), max_size=3))
    kinds = [torch.float32, torch.float64, torch.int64, torch.uint8, torch.bool]
    dtype = draw(st.sampled_from(kinds))
    torch.manual_seed(draw(SEEDS))
    x = (3 * torch.randn(shape)).to(dtype)
    if dtype.is_floating_point and x.numel() and draw(st.booleans()):
        x.view(-1)[0] = draw(st.sampled_from([math.nan, math.inf, -math.inf]))
    return x


@st.composite
def schedules(draw):
    T = draw(st.integers(2, 30))
    if draw(st.booleans()):
        return schedule.cosine_schedule(T)
    low = draw(st.floats(1e-4, 0.1))
    return schedule.linear_schedule(T, low, draw(st.floats(low, 0.5)))


def promised(values, shape, dtype):
    """A finite tensor of this shape and dtype."""
    assert tuple(values.shape) == tuple(shape) and values.dtype == dtype
    assert values.isfinite().all()


def refused(call):
    """A call that must not be accepted is answered by a sentence of the package."""
    answer, text = outcome(call)
    assert answer == OURS, f"{answer}: {text}"


def answered(call):
    """A call is accepted, with finite values if it returns a tensor, or answered by a sentence of the package."""
    given = []
    torch.manual_seed(0)
    answer, text = outcome(lambda: given.append(call()))
    assert answer in (ACCEPTED, OURS), f"{answer}: {text}"
    if given and isinstance(given[0], torch.Tensor):
        assert given[0].isfinite().all()


@fast
@given(batches(), st.integers(1, 3))
def test_every_autoencoder_loss_is_a_finite_value_per_example(x, latent_dim):
    dim = x.shape[1]
    model = autoencoder.linear_autoencoder(dim, latent_dim).to(x.dtype)
    losses = (
        autoencoder.reconstruction_loss,
        autoencoder.denoising_reconstruction_loss,
        autoencoder.contractive_loss,
        autoencoder.robust_loss,
        autoencoder.jacobian_norm,
    )
    for loss in losses:
        values = loss(model, x)
        promised(values, x.shape[:1], x.dtype)
        assert (values >= 0).all()
    best = autoencoder.pca_autoencoder(x, min(latent_dim, dim))
    promised(best(x), x.shape, x.dtype)


@fast
@given(batches(), st.integers(1, 3), st.floats(0, 10), st.floats(0, 10), st.integers(1, 4))
def test_the_bound_of_a_vae_is_finite_and_below_what_it_bounds(x, latent_dim, beta, free_nats, K):
    model = linear_vae(x.shape[1], latent_dim).to(x.dtype)
    terms = elbo_terms(model, x)
    promised(terms.log_likelihood, x.shape[:1], x.dtype)
    promised(terms.kl, (len(x), 1), x.dtype)
    assert (terms.kl >= -1e-5).all()
    promised(elbo_loss(model, x, beta, free_nats), x.shape[:1], x.dtype)
    promised(importance_weighted_loss(model, x, K), x.shape[:1], x.dtype)
    promised(metrics.log_likelihood(model, x, K), x.shape[:1], x.dtype)
    promised(linear_vae_log_likelihood(model, x), x.shape[:1], x.dtype)


@fast
@given(st.lists(st.integers(1, 4), min_size=1, max_size=3), st.integers(1, 4), FLOATS, SEEDS)
def test_a_ladder_of_any_size_bounds_and_draws(latent_dims, batch, dtype, seed):
    torch.manual_seed(seed)
    model = mlp_ladder(latent_dims, [4] * len(latent_dims), image_shape=(1, 3, 2)).to(dtype).eval()
    x = data.binarize(torch.rand(batch, 1, 3, 2, dtype=dtype))
    promised(elbo_loss(model, x), (batch,), dtype)
    film = list(samplers.ancestral_sample(model, batch))
    assert len(film) == len(latent_dims) + 1
    promised(film[-1], x.shape, dtype)


@fast
@given(batches(), schedules(), st.data())
def test_a_diffusion_model_of_any_size_has_finite_losses(x, noise, data):
    predictor = data.draw(st.sampled_from([NoisePredictor, VPredictor]))
    network = TimeMlp(x.shape[1], (4,), width=4)
    model = Ddpm(predictor(network, noise), noise, x.shape[1:], noise.beta).to(x.dtype)
    model.schedule = noise  # in double precision, as it was
    t = torch.randint(1, noise.num_steps + 1, (len(x),))
    promised(elbo_step(model, x, t, torch.randn_like(x)), x.shape[:1], x.dtype)
    promised(single_step_elbo(model, x), x.shape[:1], x.dtype)
    promised(denoising_loss(model, x, 1 / noise.noise_var.clamp(1e-9)), x.shape[:1], x.dtype)
    errors = noise_errors(model, x, [1, noise.num_steps])
    promised(errors, (2, len(x)), x.dtype)
    promised(elbo_terms(model, x).kl, (len(x), noise.num_steps), x.dtype)


@fast
@given(batches(), schedules(), st.floats(0, 1), st.data())
def test_every_sampler_ends_in_finite_values_of_the_shape_of_its_start(x, noise, eta, data):
    dim = x.shape[1]
    denoiser = gaussian_denoiser(noise, x.new_zeros(dim), torch.eye(dim, dtype=x.dtype))
    taken = noise.evenly(data.draw(st.integers(2, noise.num_steps)))
    films = (
        samplers.ddpm_sample(denoiser, taken, x),
        samplers.ddpm_sample(denoiser, taken, x, taken.beta),
        samplers.ddim_sample(denoiser, taken, x, eta),
        samplers.dpm_solver_sample(denoiser, taken, x),
        samplers.ddim_invert(denoiser, taken, x),
        samplers.inpaint_sample(denoiser, taken, x, x, torch.rand_like(x) < 0.5, repeats=2),
    )
    for film in films:
        steps = list(film)
        assert len(steps) == taken.num_steps + 1
        promised(steps[-1], x.shape, x.dtype)


@fast
@given(batches(), schedules())
def test_what_a_network_estimates_is_another_estimate_of_the_same(x, noise):
    t = torch.randint(1, noise.num_steps + 1, (len(x),))
    eps = torch.randn_like(x)
    x_t = schedule.add_noise(noise, x, t, eps)
    promised(x_t, x.shape, x.dtype)
    for back in (
        schedule.x_0_from_noise(noise, x_t, t, eps),
        schedule.x_0_from_v(noise, x_t, t, schedule.v_from_x_0(noise, x_t, t, x)),
    ):
        assert back.dtype == x.dtype
        scale = (1 + x_t.abs()) / schedule.per_example(noise.alpha_bar[t].sqrt(), x)
        assert ((back - x).abs() <= 1e3 * torch.finfo(x.dtype).eps * scale + 1e-9 * scale).all()


@fast
@given(schedules())
def test_the_numbers_of_a_schedule_are_those_of_variances(noise):
    T = noise.num_steps
    for values in (noise.alpha_bar, noise.noise_var, noise.alpha, noise.beta, noise.posterior_var):
        promised(values, (T + 1,), torch.float64)
        assert ((values >= 0) & (values <= 1)).all()
    assert (noise.alpha_bar.diff() < 0).all()
    promised(linear_noise_error(noise, torch.tensor([0.0, 1.0])), (T + 1, 2), torch.float32)
    best = optimal_reverse_var(noise, torch.rand(T + 1, dtype=torch.double))
    promised(best, (T + 1,), torch.float64)
    assert (best >= noise.posterior_var).all()


@fast
@given(batches(), st.floats(-3, 0), st.floats(-3, 0))
def test_the_flow_goes_anywhere_and_back(x, start, end):
    assume(abs(start - end) > 1e-3)
    dim = x.shape[1]
    noise = schedule.linear_schedule(3)
    cov = torch.eye(dim, dtype=x.dtype) / 4
    flow = gaussian_denoiser(noise, x.new_zeros(dim), cov).score_at_level
    there = flows.probability_flow(flow, x, [start, end])[-1]
    promised(there, x.shape, x.dtype)
    back = flows.probability_flow(flow, there, [end, start])[-1]
    torch.testing.assert_close(back, x, rtol=1e-3, atol=1e-3)
    promised(flows.ode_log_prob(flow, x, [start, end]), x.shape[:1], x.dtype)


@fast
@given(batches(), st.floats(0.1, 20), st.floats(0.01, 0.09), st.integers(2, 5))
def test_noise_levels_fall_and_scores_are_finite(x, sigma_1, sigma_L, num):
    sigmas = score.geometric_noise_levels(sigma_1, sigma_L, num)
    promised(sigmas, (num,), torch.float64)
    assert (sigmas.diff() < 0).all()
    model = score.NoiseConditionalScore(TimeMlp(x.shape[1], (4,), width=4), sigmas).to(x.dtype)
    promised(score.denoising_score_matching_loss(model, x), x.shape[:1], x.dtype)
    *_, last = score.annealed_langevin_sample(model, x, sigmas, 1e-4, 2)
    promised(last, x.shape, x.dtype)


@fast
@given(batches(), st.floats(1e-3, 1e3))
def test_distributions_have_finite_densities(x, std):
    q = diagonal_normal(x, std)
    promised(q.log_prob(q.sample()), x.shape[:1], x.dtype)
    product = normal_product(q, x + 1, torch.full_like(x, 3.0))
    promised(product.mean, x.shape, x.dtype)
    p = bernoulli(x)
    promised(p.log_prob(p.sample()), x.shape[:1], x.dtype)
    levels = DiscretizedNormal(x, std, levels=17)
    log_p = levels.log_prob(levels.sample())
    promised(log_p, x.shape[:1], x.dtype)
    assert (log_p <= 1e-5).all()


@fast
@given(batches(), st.integers(1, 3), st.floats(0.01, 2))
def test_a_measured_denoiser_is_finite(x, num, noise_std):
    dim = x.shape[1]
    noise = schedule.linear_schedule(10, 0.01, 0.3)
    prior = gaussian_denoiser(noise, x.new_zeros(dim), torch.eye(dim, dtype=x.dtype))
    A, y = torch.randn(num, dim), torch.randn(len(x), num)
    known = posterior_denoiser(prior, noise, A, y, noise_std, torch.eye(dim))
    promised(known(x, torch.full((len(x),), 3)), x.shape, x.dtype)


@fast
@given(batches(dims=st.integers(2, 5), least=2))
def test_measures_of_samples_are_finite(x):
    other = x + torch.randn_like(x)
    test = metrics.energy_test(x, other, 9)
    assert math.isfinite(test.statistic) and 0.1 <= test.p_value <= 1
    assert math.isfinite(metrics.frechet_distance(x, other))
    assert 0 <= metrics.auroc(x[:, 0], other[:, 0]) <= 1
    promised(metrics.mutual_information(x, other, 2), (x.shape[1], x.shape[1]), torch.float32)
    assert interpolation.path_length_ratio(x) >= 1 - 1e-5
    path = interpolation.spherical_interpolation(x, other, torch.linspace(0, 1, 3, dtype=x.dtype))
    promised(path, (3, *x.shape), x.dtype)


LINEAR, NOISE = linear_vae(3, 2), schedule.linear_schedule(5)
PCA = autoencoder.linear_autoencoder(3, 1)
TOY = Ddpm(NoisePredictor(TimeMlp(3, (4,), width=4), NOISE), NOISE, (3,), NOISE.beta)
SCORES = score.NoiseConditionalScore(TimeMlp(3, (4,), width=4), [2.0, 1.0])
FLOW = gaussian_denoiser(NOISE, torch.zeros(3), torch.eye(3)).score_at_level


@many
@given(tensors())
def test_any_tensor_as_data_is_used_or_refused(x):
    fits = x.dim() == 2 and len(x) and x.shape[1] == 3 and x.dtype == torch.float32
    good = fits and x.isfinite().all()
    calls = [
        lambda: elbo_loss(LINEAR, x),
        lambda: importance_weighted_loss(LINEAR, x, 2),
        lambda: linear_vae_log_likelihood(LINEAR, x),
        lambda: elbo_loss(TOY, x),
        lambda: denoising_loss(TOY, x, NOISE.snr),
        lambda: noise_errors(TOY, x, [1]),
        lambda: score.denoising_score_matching_loss(SCORES, x),
        lambda: list(samplers.ddim_sample(TOY.denoiser, NOISE, x))[-1],
        lambda: list(score.annealed_langevin_sample(SCORES, x, [2.0, 1.0], 1e-3, 1))[-1],
    ]
    for call in calls:
        if good:
            promised(call(), call().shape, torch.float32)
        else:
            refused(call)
    calls = [
        lambda: data.binarize(x),
        lambda: autoencoder.squared_error(x, x),
        lambda: autoencoder.pca_autoencoder(x, 1)(x),
        lambda: diagonal_normal(x, 1.0).sample(),
        lambda: bernoulli(x).sample(),
        lambda: flows.probability_flow(FLOW, x, [0.0, -1.0]),
        lambda: metrics.energy_test(x, x, 3).null,
        lambda: metrics.auroc(x, x),
        lambda: schedule.Schedule(x).beta,
        lambda: schedule.Schedule.from_betas(x).beta,
        lambda: score.noise_levels(x),
        lambda: data.render_scenes(x),
        lambda: NOISE.strided(x).beta,
    ]
    if x.is_floating_point() and not x.isfinite().all():
        calls.pop(1)  # of what is no number the error is none either
    for call in calls:
        answered(call)


@many
@given(ANYTHING)
def test_anything_as_a_setting_is_used_or_refused(value):
    x = torch.ones(2, 3)
    for call in (
        lambda: schedule.linear_schedule(value).beta,
        lambda: schedule.linear_schedule(5, value).beta,
        lambda: schedule.cosine_schedule(5, value).beta,
        lambda: schedule.cosine_schedule(5, max_beta=value).beta,
        lambda: NOISE.evenly(value).beta,
        lambda: NOISE.strided(value).beta,
        lambda: NOISE.reverse_coefficients(value).var,
        lambda: schedule.add_noise(NOISE, x, value, x),
        lambda: schedule.x_0_from_noise(NOISE, x, value, x),
        lambda: elbo_loss(LINEAR, x, beta=value),
        lambda: elbo_loss(LINEAR, x, free_nats=value),
        lambda: importance_weighted_loss(LINEAR, x, value),
        lambda: autoencoder.denoising_reconstruction_loss(PCA, x, value),
        lambda: noise_errors(TOY, x, value),
        lambda: list(samplers.ancestral_sample(LINEAR, value))[-1],
        lambda: list(samplers.ddim_sample(TOY.denoiser, NOISE, x, value))[-1],
        lambda: samplers.ddpm_sample(TOY.denoiser, NOISE, x, value),
        lambda: score.geometric_noise_levels(value, 0.1, 3),
        lambda: score.geometric_noise_levels(1.0, 0.1, value),
        lambda: score.noise_levels(value),
        lambda: list(score.langevin_sample(torch.neg, x, value, 2))[-1] if value != math.inf else x,
        lambda: flows.probability_flow(FLOW, x, value),
        lambda: GaussianLikelihood(value).log_std,
        lambda: diagonal_normal(x, value).stddev,
        lambda: DiscretizedNormal(x, 1.0, levels=value),
        lambda: mlp([3, value, 2])(x),
        lambda: mlp(value),
        lambda: TimeMlp(3, (4,), width=value),
        lambda: UNet((1, 4, 4), value, (1,), 1),
        lambda: UNet((1, 4, 4), 4, (1,), value),
        lambda: UNet((1, 4, 4), 4, (1,), 1, num_classes=value),
        lambda: mlp_vae(value, (4,), image_shape=(1, 2, 2)),
        lambda: mlp_vae(2, value, image_shape=(1, 2, 2)),
        lambda: autoencoder.dct_matrix(value),
        lambda: data.Batches(x, batch_size=value),
        lambda: data.Batches(x, batch_size=1, seed=value),
        lambda: metrics.bits_per_dim(x, value),
        lambda: Ddpm(TOY.denoiser, NOISE, (3,), NOISE.beta, value).reverse_var,
    ):
        answered(call)
