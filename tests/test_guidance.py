"""Conditions on normal data, where the conditional law is known, and on a small network with classes."""

import math
from functools import partial

import pytest
import torch
from bad_input import refused
from networks import Network
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from companion.ddpm import Ddpm, denoising_loss
from companion.denoisers import NoisePredictor, VPredictor, gaussian_denoiser
from companion.guidance import classifier_free_loss, extrapolated, guided, posterior_denoiser
from companion.networks.unet import UNet
from companion.samplers import ddim_sample
from companion.schedule import linear_schedule, noise_from_x_0
from companion.training import fit

F64 = torch.double
LINEAR = linear_schedule(1000)


# ------------------------------------------------------------------------------------------------ classes


def network(num_classes: int | None = 3) -> UNet:
    """A small network that has begun to learn: nothing in it is zero any more."""
    model = UNet((1, 4, 4), 8, (1, 2), blocks=1, num_classes=num_classes)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def model(predictor: type[NoisePredictor] = VPredictor) -> Ddpm:
    schedule = linear_schedule(20, 0.01, 0.4)
    return Ddpm(predictor(network(), schedule), schedule, (1, 4, 4), schedule.beta)


def test_labels_are_given_or_dropped() -> None:
    ddpm, x, label = model(), torch.randn(6, 1, 4, 4), torch.tensor([0, 1, 2, 0, 1, 2])

    def after_a_draw(*condition: Tensor) -> Tensor:
        torch.manual_seed(1)
        torch.rand(6)  # which are dropped
        return denoising_loss(ddpm, x, ddpm.schedule.snr, *condition)

    for drop, expected in ((0.0, after_a_draw(label)), (1.0, after_a_draw())):
        torch.manual_seed(1)
        found = classifier_free_loss(ddpm, x, label, ddpm.schedule.snr, drop)
        torch.testing.assert_close(found, expected)
    assert not torch.allclose(after_a_draw(label), after_a_draw())


def test_how_often_times_are_drawn_reaches_the_loss() -> None:
    ddpm, x, label = model(), torch.randn(6, 1, 4, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    often, values = torch.arange(21.0) ** 2 + 1, []
    for loss in (classifier_free_loss, denoising_loss):
        torch.manual_seed(1)
        if loss is denoising_loss:
            torch.rand(6)  # which are dropped
        drop = {"drop": 0.0} if loss is classifier_free_loss else {}
        given = (label, ddpm.schedule.snr) if drop else (ddpm.schedule.snr, label)
        values.append(loss(ddpm, x, *given, **drop, time_weights=often))
    torch.testing.assert_close(*values)


def test_the_share_that_is_dropped() -> None:
    n, schedule = 10_000, linear_schedule(5)
    listener = Network(lambda x_t, t, label: x_t, num_classes=3)
    ddpm = Ddpm(NoisePredictor(listener, schedule), schedule, (1,), schedule.beta)
    label = torch.randint(3, (n,))
    classifier_free_loss(ddpm, torch.randn(n, 1), label, schedule.snr, 0.2)
    heard = listener.given[0][2]
    untold = heard == 3
    assert abs(untold.double().mean() - 0.2) <= 5 * math.sqrt(0.16 / n)
    assert torch.equal(heard[~untold], label[~untold])


def test_the_loss_trains_through_the_loop_of_the_recipes() -> None:
    ddpm = model()
    batches = [(torch.randn(8, 1, 4, 4), torch.randint(3, (8,))) for _ in range(3)]
    before = ddpm.denoiser.network.label.weight.clone()
    loss = partial(classifier_free_loss, weight=1 / ddpm.schedule.noise_var)
    steps = list(fit(ddpm, loss, batches, torch.optim.Adam(ddpm.parameters(), 1e-3)))
    assert len(steps) == 3
    # The classes, and that which is none.
    assert (ddpm.denoiser.network.label.weight != before).any(1).all()


@pytest.mark.parametrize("predictor", [NoisePredictor, VPredictor])
def test_guidance_exaggerates_what_the_class_tells(predictor: type[NoisePredictor]) -> None:
    denoiser, schedule = model(predictor).denoiser, linear_schedule(20, 0.01, 0.4)
    x_t, label = torch.randn(4, 1, 4, 4), torch.tensor([0, 1, 2, 2])
    t = torch.tensor([1, 5, 12, 20])
    told, untold = denoiser(x_t, t, label), denoiser(x_t, t)
    assert (told - untold).abs().amax((1, 2, 3)).min() > 1e-3
    torch.testing.assert_close(guided(denoiser, label, 1.0)(x_t, t), told, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(guided(denoiser, label, 0.0)(x_t, t), untold)
    # As in the paper: (1 + w) noise(told) - w noise(untold).
    w = 2.0
    noise, told, untold = (
        noise_from_x_0(schedule, x_t, t, x)
        for x in (guided(denoiser, label, 1 + w)(x_t, t), told, untold)
    )
    torch.testing.assert_close(noise, (1 + w) * told - w * untold, rtol=1e-3, atol=1e-3)


def test_guidance_can_be_kept_to_an_interval_of_times() -> None:
    denoiser, label = model().denoiser, torch.tensor([0, 1, 2, 2])
    x_t, t = torch.randn(4, 1, 4, 4), torch.tensor([5, 6, 12, 13])
    everywhere, plain = guided(denoiser, label, 3.0)(x_t, t), denoiser(x_t, t, label)
    kept = guided(denoiser, label, 3.0, (5, 12))(x_t, t)
    torch.testing.assert_close(kept[1:3], everywhere[1:3])
    torch.testing.assert_close(kept[[0, 3]], plain[[0, 3]], rtol=1e-4, atol=1e-4)
    assert (everywhere - plain).abs().amax((1, 2, 3)).min() > 1e-3


def test_a_further_condition_reaches_both_calls() -> None:
    listener = Network(lambda x_t, t, label, more: x_t, num_classes=3)
    denoiser = NoisePredictor(listener, LINEAR)
    label, more, x_t = torch.tensor([0, 2]), torch.randn(2), torch.randn(2, 1)
    guided(denoiser, label, 2.0)(x_t, torch.tensor([3, 5]), more)
    (_, _, given, first), (_, _, null, second) = listener.given
    assert torch.equal(given, label) and null.tolist() == [3, 3]
    assert first is more is second


def test_outside_of_the_interval_the_weak_one_is_not_called() -> None:
    calls = []

    def weak(x_t: Tensor, t: Tensor) -> Tensor:
        calls.append(t)
        return 0 * x_t

    beyond = extrapolated(lambda x_t, t: x_t, weak, 4.0, (10, math.inf))
    x_t = torch.randn(3, 1, 4, 4)
    assert torch.equal(beyond(x_t, torch.full((3,), 10)), x_t) and not calls
    torch.testing.assert_close(beyond(x_t, torch.full((3,), 11)), 4 * x_t)
    assert len(calls) == 1


def test_autoguidance_removes_an_error_that_both_have() -> None:
    # The weak one errs three times as much in the same direction: at scale 1.5 nothing is left.
    x, error, t = torch.randn(2, 1, 4, 4), torch.randn(2, 1, 4, 4), torch.tensor([3, 3])
    beyond = extrapolated(lambda x_t, t: x + error, lambda x_t, t: x + 3 * error, 1.5)
    torch.testing.assert_close(beyond(x, t), x)


# ------------------------------------------------------------------------------------------------ factors


def model_of_factors() -> Ddpm:
    schedule = linear_schedule(20, 0.01, 0.4)
    made = UNet((1, 4, 4), 8, (1, 2), blocks=1, num_factors=2)
    for parameter in made.parameters():  # some start at zero
        nn.init.normal_(parameter, std=0.3)
    return Ddpm(VPredictor(made, schedule), schedule, (1, 4, 4), schedule.beta)


FACTORS = torch.tensor([[0.5, -0.5], [1.0, 0.0], [-1.0, 0.3]])


def test_factors_are_given_or_dropped_all_of_an_example_at_once() -> None:
    ddpm, x = model_of_factors(), torch.randn(3, 1, 4, 4)
    weight, dropped = ddpm.schedule.snr, torch.tensor([0.9, 0.2, 0.6])

    def after_a_draw(*condition: Tensor) -> Tensor:
        torch.manual_seed(4)
        dropped.copy_(torch.rand(3))
        return denoising_loss(ddpm, x, weight, *condition)

    told, untold = after_a_draw(FACTORS), after_a_draw()
    torch.manual_seed(4)
    found = classifier_free_loss(ddpm, x, FACTORS, weight, float(dropped.median()))
    expected = torch.where(dropped < dropped.median(), untold, told)
    torch.testing.assert_close(found, expected)
    assert ((told - untold).abs() > 1e-4).all()


def test_guidance_exaggerates_what_factors_tell() -> None:
    denoiser, t = model_of_factors().denoiser, torch.tensor([1, 9, 20])
    x_t = torch.randn(3, 1, 4, 4)
    told, untold = denoiser(x_t, t, FACTORS), denoiser(x_t, t)
    assert (told - untold).abs().amax((1, 2, 3)).min() > 1e-3
    torch.testing.assert_close(guided(denoiser, FACTORS, 3.0)(x_t, t), 3 * told - 2 * untold)
    # NaN is a factor that is not told: without any, there is nothing to exaggerate.
    nothing = torch.full_like(FACTORS, math.nan)
    torch.testing.assert_close(guided(denoiser, nothing, 3.0)(x_t, t), untold)


# ------------------------------------------------------------------------------------------------ measurements

MEAN = torch.tensor([0.5, -0.3, 0.2], dtype=F64)
COV = torch.tensor([[1.0, 0.6, 0.2], [0.6, 0.8, -0.1], [0.2, -0.1, 0.5]], dtype=F64)
PRIOR = gaussian_denoiser(LINEAR, MEAN, COV)
MATRIX = torch.tensor([[1.0, 0.5, 0.0], [0.0, -1.0, 2.0]], dtype=F64)


def posterior(matrix: Tensor, y: Tensor, noise_std: float) -> tuple[Tensor, Tensor]:
    """Mean and covariance of x given y = matrix x + noise, for x from N(MEAN, COV)."""
    seen = matrix @ COV @ matrix.T + noise_std**2 * torch.eye(len(matrix), dtype=F64)
    gain = COV @ matrix.T @ torch.linalg.inv(seen)
    cov = COV - gain @ matrix @ COV
    return MEAN + gain @ (y - matrix @ MEAN), (cov + cov.T) / 2


MEASUREMENTS = {"matrix": MATRIX, "in-painting": torch.eye(3, dtype=F64)[[0, 2]]}
TRUTH = torch.tensor([0.9, 0.1, -0.8], dtype=F64)
each = pytest.mark.parametrize("matrix", MEASUREMENTS.values(), ids=MEASUREMENTS)


@each
@pytest.mark.parametrize("noise_std", [0.01, 0.3])
def test_for_normal_data_it_is_the_denoiser_of_the_posterior(
    matrix: Tensor, noise_std: float
) -> None:
    y = matrix @ TRUTH
    exact = gaussian_denoiser(LINEAR, *posterior(matrix, y, noise_std))
    ours = posterior_denoiser(PRIOR, LINEAR, matrix, y.expand(20, -1), noise_std, COV)
    unknown = posterior_denoiser(PRIOR, LINEAR, matrix, y.expand(20, -1), noise_std, torch.eye(3))
    for time in (1, 2, 100, 500, 1000):
        x_t, t = torch.randn(20, 3, dtype=F64), torch.full((20,), time)
        torch.testing.assert_close(ours(x_t, t), exact(x_t, t), rtol=0, atol=1e-9)
        if time > 2:
            assert (PRIOR(x_t, t) - exact(x_t, t)).abs().max() > 0.1
            # Another covariance is not as good.
            assert (unknown(x_t, t) - exact(x_t, t)).abs().max() > 0.01


def test_the_measurement_of_pictures_is_met() -> None:
    # A linear function of pictures as a matrix, and a denoiser that knows nothing of them.
    schedule, x = linear_schedule(100, 1e-3, 0.2), torch.randn(7, 1, 4, 4)
    A = avg_pool2d(torch.eye(16).view(16, 1, 4, 4), 2).flatten(1).T
    root = torch.randn(16, 16)
    y = avg_pool2d(x, 2).flatten(1)
    ours = posterior_denoiser(lambda x_t, t: x_t, schedule, A, y, 0.01, root @ root.T)
    *_, drawn = ddim_sample(ours, schedule, torch.randn(7, 1, 4, 4))
    assert drawn.shape == x.shape and drawn.dtype == torch.float32
    torch.testing.assert_close(avg_pool2d(drawn, 2).flatten(1), y, rtol=0, atol=0.02)


test_bad_input = refused("guidance")
