"""Measures against brute force and against laws known exactly."""

import math
import warnings
from functools import partial
from typing import Any

import pytest
import torch
from bad_input import refused
from networks import Network

from companion.elbo import importance_weighted_loss
from companion.metrics import (
    NormalFit,
    active_units,
    auroc,
    bits_per_dim,
    energy_test,
    frechet_distance,
    jackknife,
    linear_probe,
    log_likelihood,
    mutual_information,
    mutual_information_gap,
    normal_fit,
    proportion,
    r_squared,
)
from companion.vae import linear_vae, linear_vae_log_likelihood, mlp_vae

F64 = torch.double


def test_auroc_is_the_share_of_ordered_pairs() -> None:
    # With ties.
    normal = torch.randn(50).round(decimals=1)
    anomalous = (torch.randn(40) + 0.5).round(decimals=1)
    wins = (anomalous[:, None] > normal).double() + 0.5 * (anomalous[:, None] == normal).double()
    assert auroc(normal, anomalous) == pytest.approx(wins.mean().item(), abs=1e-12)


def test_proportion_has_the_binomial_error() -> None:
    p = proportion(torch.tensor([True] * 30 + [False] * 70))
    assert (p.value, p.standard_error) == pytest.approx((0.3, (0.3 * 0.7 / 100) ** 0.5))


def test_none_of_many_may_still_be_some() -> None:
    none, every = proportion(torch.zeros(30) > 0), proportion(torch.ones(30) > 0)
    assert none.standard_error == 0 and none.low == 0
    assert none.high == pytest.approx(1.959964**2 / (30 + 1.959964**2))  # Wilson, for no hit
    assert every.high == 1 and every.low == pytest.approx(1 - none.high)


def test_r_squared_is_the_share_of_the_variance_that_is_accounted_for() -> None:
    from sklearn.metrics import r2_score

    v = 3 + 2 * torch.randn(400, dtype=F64)
    noisy = v + torch.randn(400, dtype=F64)
    found = r_squared(v, noisy)
    assert found.value == pytest.approx(r2_score(v.numpy(), noisy.numpy()), abs=2e-3)
    pairs = torch.stack([v, noisy], 1)
    by_sklearn = jackknife(lambda part: float(r2_score(*part.T.numpy())), pairs)
    assert tuple(found) == pytest.approx(tuple(by_sklearn), rel=1e-9)
    assert abs(found.value - 0.75) < 4 * found.standard_error
    # As large as the standard deviation over many samples.
    many = [r_squared(v, v + torch.randn(400, dtype=F64)).value for _ in range(300)]
    assert 0.6 < found.standard_error / torch.tensor(many).std() < 1.6
    assert r_squared(v, v).value == 1
    assert r_squared(v, v.mean().expand(400)).value == pytest.approx(0, abs=1e-2)
    assert r_squared(v, -v).value < 0


def test_linear_probe_separates_what_a_line_separates_and_nothing_else() -> None:
    codes, labels = torch.randn(2000, 2), torch.arange(2000) % 2
    shifted = codes + 6.0 * labels[:, None]
    assert linear_probe(shifted[:1000], labels[:1000], shifted[1000:], labels[1000:]).value > 0.99
    chance = linear_probe(codes[:1000], labels[:1000], codes[1000:], labels[1000:])
    assert abs(chance.value - 0.5) <= 5 * chance.standard_error


def test_energy_statistic_equals_the_double_sum() -> None:
    x, y = torch.randn(7, 3, dtype=torch.double), torch.randn(5, 3, dtype=torch.double) + 1
    pairs = lambda a, b: (a[:, None] - b).norm(dim=-1).mean()  # noqa: E731
    by_hand = 2 * pairs(x, y) - pairs(x, x) - pairs(y, y)
    statistic = energy_test(x, y, num_permutations=1).statistic
    assert statistic == pytest.approx(by_hand.item(), rel=1e-10)


def test_energy_test_finds_a_shift_and_keeps_its_level() -> None:
    far = energy_test(torch.randn(200, 2), torch.randn(200, 2) + 0.7)
    assert far.p_value == pytest.approx(1 / 201)
    p_values = torch.tensor(
        [energy_test(torch.randn(30, 2), torch.randn(30, 2), 39).p_value for _ in range(200)]
    )
    # Equal laws: p is uniform on 1/40, 2/40, ..., 1.
    share = (p_values <= 0.1).double().mean().item()
    assert abs(share - 0.1) <= 5 * (0.1 * 0.9 / 200) ** 0.5


def test_the_probe_standardizes_and_runs_until_it_converges() -> None:
    # One coordinate, a million times smaller than the other, tells the classes apart: without standardizing, the
    # penalty on the weights would hide it, and one step of the solver would not find it.
    labels = torch.arange(400) % 2
    small = 1e-3 * (labels - 0.5) + 2e-4 * torch.randn(400)
    codes = torch.stack([1000 * torch.randn(400), small], 1)
    assert linear_probe(codes[:200], labels[:200], codes[200:], labels[200:]).value > 0.97


def test_the_probe_converges_on_correlated_codes() -> None:
    base = torch.randn(600, 6)
    codes = base @ torch.randn(6, 6) + 0.05 * torch.randn(600, 6)
    labels = base[:, :3].argmax(1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # scikit-learn warns where it stops early
        accuracy = linear_probe(codes[:400], labels[:400], codes[400:], labels[400:])
    assert accuracy.value > 0.9


def test_ties_count_for_the_null_hypothesis() -> None:
    x = torch.zeros(3, 1)
    assert energy_test(x, x, 19).p_value == 1.0  # every relabeling has the same distance, 0


def test_energy_test_computes_in_float64_and_draws_on_the_cpu_generator() -> None:
    x, y = 1e4 + torch.randn(6, 2), 1e4 + torch.randn(5, 2)
    for _ in range(2):
        torch.manual_seed(1)
        test = energy_test(x, y, 9)
        assert test.null.dtype == torch.double and test.null.shape == (9,)
        double = energy_test(x.double(), y.double(), 9).statistic
        torch.testing.assert_close(test.statistic, double, rtol=1e-12, atol=0)
    torch.manual_seed(1)
    assert torch.equal(energy_test(x, y, 9).null, test.null)


def test_measures_take_the_half_precision_of_autocast() -> None:
    normal, anomalous = torch.arange(8.0), torch.arange(4.0, 12.0)
    assert auroc(normal.bfloat16(), anomalous.bfloat16()) == auroc(normal, anomalous)
    codes, labels = torch.randn(40, 2) + 9 * (torch.arange(40) % 2)[:, None], torch.arange(40) % 2
    assert linear_probe(codes.bfloat16(), labels, codes.bfloat16(), labels).value == 1.0


def exact_vae() -> Any:
    """A linear VAE whose posterior is exact: W has orthogonal columns, and so the posterior is diagonal."""
    model = linear_vae(4, 2).double()
    W = torch.linalg.qr(torch.randn(4, 2, dtype=F64)).Q * torch.tensor([2.0, 0.5], dtype=F64)
    M = W.T @ W + torch.eye(2, dtype=F64)
    state = {"decoder.weight": W, "encoder.mean.weight": torch.linalg.solve(M, W.T)}
    state |= {"encoder.log_var": -M.diag().log(), "observation_model.log_std": torch.zeros(())}
    state |= {"decoder.bias": torch.zeros(4), "encoder.mean.bias": torch.zeros(2)}
    model.load_state_dict(state)
    return model


@pytest.mark.parametrize(("num_samples", "chunk"), [(1, 1000), (7, 3), (7, 7), (5, 1000), (3, 1)])
def test_log_likelihood_is_exact_at_the_exact_posterior_in_any_chunks(
    num_samples: int, chunk: int
) -> None:
    model, x = exact_vae(), torch.randn(20, 4, dtype=torch.double)
    estimate = log_likelihood(model, x, num_samples, chunk)
    torch.testing.assert_close(estimate, linear_vae_log_likelihood(model, x), rtol=0, atol=1e-10)
    assert not estimate.requires_grad


@pytest.mark.parametrize("chunk", [2, 1000])
def test_log_likelihood_has_the_law_of_the_importance_weighted_bound(
    chunk: int, unchecked: None
) -> None:
    model = exact_vae()
    model.encoder.log_var.data += 0.8
    x = torch.randn(1, 4, dtype=torch.double).expand(2000, 4)
    a, b = log_likelihood(model, x, 3, chunk), -importance_weighted_loss(model, x, 3).detach()
    error = math.hypot(a.std() / math.sqrt(len(a)), b.std() / math.sqrt(len(b)))
    assert abs(a.mean() - b.mean()) <= 5 * error
    # So 3 samples differ from many.
    assert linear_vae_log_likelihood(model, x[:1]) - a.mean() > 5 * error
    assert a.std().item() == pytest.approx(b.std().item(), rel=0.2)


def test_log_likelihood_of_a_vae_beats_its_bound_and_holds_few_pictures_at_once() -> None:
    model, x = mlp_vae(3, (8,)), torch.rand(30, 1, 28, 28).round()
    model.decoder = watched = Network(model.decoder)
    assert log_likelihood(model, x, 500, chunk=200).mean() > log_likelihood(model, x, 1).mean()
    assert [len(z) for (z,) in watched.given] == [200, 200, 100] * 30 + [30]


def test_active_units_are_those_whose_mean_moves() -> None:
    model, x = linear_vae(3, 3), torch.randn(2500, 3)
    model.encoder.mean.weight.data = torch.diag(torch.tensor([2.0, 0.11, 0.05]))
    units = active_units(model, x)
    torch.testing.assert_close(units.variance, (x * torch.tensor([2.0, 0.11, 0.05])).var(0))
    assert units.is_active.tolist() == [True, True, False] and units.num_active == 2
    assert active_units(model, x, threshold=1.0).num_active == 1
    assert not units.variance.requires_grad


def test_mutual_information_of_correlated_normals() -> None:
    v = torch.randn(40_000, 2)
    rho = torch.tensor([0.9, 0.5])
    z = rho * v + (1 - rho**2).sqrt() * torch.randn(40_000, 2)
    information = mutual_information(z, v)
    exact = -0.5 * torch.log(1 - rho**2)
    # Bins lose a little, and chance adds 19^2 / 80,000 nats.
    assert torch.allclose(information.diagonal(), exact, atol=0.05), information
    off = information[~torch.eye(2, dtype=torch.bool)]
    assert torch.allclose(off, torch.full((2,), 19**2 / 80_000), atol=0.002), off


def test_mutual_information_is_blind_to_monotone_maps_and_full_for_equal_numbers() -> None:
    v = torch.randn(2000, 1)
    assert mutual_information(v.exp(), v, 10).item() == pytest.approx(math.log(10))
    noisy = v + torch.randn(2000, 1)
    same = mutual_information(noisy, v), mutual_information(noisy**3, -v)
    assert same[0].item() == pytest.approx(same[1].item())


def test_equal_numbers_tell_nothing_apart() -> None:
    rising, switch = torch.arange(1000.0)[:, None], (torch.arange(1000) % 2)[:, None].float()
    assert mutual_information(torch.zeros(1000, 1), rising).item() == 0
    assert mutual_information(switch, (rising // 500), 10).item() == pytest.approx(0, abs=1e-6)
    assert mutual_information(switch, switch, 10).item() == pytest.approx(math.log(2))


def test_mutual_information_gap_is_best_less_second() -> None:
    information = torch.tensor([[0.1, 2.0], [1.5, 0.5], [0.5, 1.8]])
    assert mutual_information_gap(information, 2.0).tolist() == pytest.approx([0.5, 0.1])


def test_bits_per_dim() -> None:
    # A gray level drawn evenly among 256 costs 8 bits, as a probability and as a density on [-1, 1].
    nats = torch.full((3,), 784 * math.log(256))
    assert bits_per_dim(nats, 784).tolist() == pytest.approx([8, 8, 8])
    width = 2 / 255
    density = -torch.tensor(1 / (256 * width)).log()
    assert bits_per_dim(density, 1).item() + math.log2(255 / 2) == pytest.approx(8, abs=1e-5)


def test_frechet_distance_of_normals_that_share_their_axes() -> None:
    # Samples whose mean and covariance are exact: the distance is |m|^2 + sum (s_x - s_y)^2.
    z = torch.randn(500, 3, dtype=torch.double)
    z = z - z.mean(0)
    z = z @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(z.T))).T
    turn = torch.linalg.qr(torch.randn(3, 3, dtype=torch.double))[0]
    s_x, s_y, m = torch.tensor([[1.0, 2, 0.5], [3, 1, 0], [1, -2, 0.3]], dtype=torch.double)
    x, y = z * s_x @ turn, (z * s_y + m) @ turn
    expected = (m.square().sum() + (s_x - s_y).square().sum()).item()
    # One covariance is singular. Squares of samples near 10 are summed: a thousand roundings of 100 at most.
    rounding = 1e5 * torch.finfo(torch.double).eps
    assert frechet_distance(x, y) == pytest.approx(expected, abs=rounding)
    assert frechet_distance(y, x) == pytest.approx(expected, abs=rounding)
    assert frechet_distance(x, x) == pytest.approx(0, abs=rounding)


def test_frechet_distance_of_covariances_that_do_not_commute() -> None:
    # Against the square root of the product itself, by scipy.
    from scipy.linalg import sqrtm

    x, y = torch.randn(400, 4) @ torch.randn(4, 4), torch.randn(300, 4) @ torch.randn(4, 4) + 1
    cov_x, cov_y = (torch.cov(a.double().T) for a in (x, y))
    cross = torch.tensor(sqrtm((cov_x @ cov_y).numpy()).real).trace()
    apart = (x.double().mean(0) - y.double().mean(0)).square().sum()
    expected = apart + (cov_x + cov_y).trace() - 2 * cross
    assert frechet_distance(x, y) == pytest.approx(expected.item(), rel=1e-8)


def test_a_fit_stands_for_its_sample() -> None:
    x, y = torch.randn(50, 3, dtype=F64), 2 * torch.randn(40, 3, dtype=F64) + 1
    assert frechet_distance(x, normal_fit(y)) == frechet_distance(x, y)
    fit = normal_fit(y)
    torch.testing.assert_close(fit.root.T @ fit.root, torch.cov(y.T))
    torch.testing.assert_close(fit.mean, y.mean(0))


def test_the_jackknife_makes_a_biased_variance_the_unbiased_one() -> None:
    """Of the mean square about the mean, Quenouille's correction is exact with one example a block."""
    x = torch.randn(12, dtype=F64).exp()
    estimate = jackknife(lambda part: part.var(correction=0).item(), x, 12)
    assert estimate.value == pytest.approx(x.var().item())
    # Of a mean it changes nothing, and the standard error is the usual one.
    mean = jackknife(lambda part: part.mean().item(), x, 12)
    assert mean.value == pytest.approx(x.mean().item())
    assert mean.standard_error == pytest.approx((x.std() / 12**0.5).item())


def test_the_jackknife_takes_the_bias_off_the_frechet_distance() -> None:
    """Over 200 samples of the reference's own distribution the mean is 0 within its standard error."""
    exact = NormalFit(torch.zeros(4, dtype=F64), torch.eye(4, dtype=F64))
    samples = torch.randn(200, 60, 4, dtype=F64)
    raw = torch.tensor([frechet_distance(x, exact) for x in samples])
    estimates = [jackknife(partial(frechet_distance, y=exact), x) for x in samples]
    less = torch.tensor([estimate.value for estimate in estimates])
    error = (less.std() / 200**0.5).item()
    assert raw.mean() > 10 * error  # what is to be taken off
    # The next order of the bias is 1 / num of it, so below a tenth of the raw one.
    assert less.mean().abs() < 3 * error + 0.1 * raw.mean()
    errors = torch.tensor([estimate.standard_error for estimate in estimates])
    assert 0.5 < errors.square().mean().sqrt() / less.std() < 2


def test_frechet_distance_shrinks_with_the_samples_and_takes_one_dimension() -> None:
    small, large = (frechet_distance(torch.randn(n, 8), torch.randn(n, 8)) for n in (100, 10_000))
    assert 0 < 10 * large < small
    pairs = torch.tensor([[[0.0], [2.0]], [[3.0], [5.0]]])
    assert frechet_distance(*pairs) == pytest.approx(9)


test_bad_input = refused("metrics")
