"""Tests of companion.zoo.losses: the weights of each loss by time, and what its network is told."""

import pytest
import torch

from companion.data import tokens
from companion.ddpm import denoising_loss
from companion.schedule import cosine_schedule
from companion.variances import bound_weights
from companion.zoo import losses
from companion.zoo.architectures import told, toy_ddpm
from companion.zoo.recipes import RECIPES


@pytest.mark.parametrize(
    ("loss", "weight"),
    [
        (losses.simple_loss, lambda m: m.schedule.alpha_bar / (1 - m.schedule.alpha_bar)),
        (losses.v_loss, lambda m: 1 / (1 - m.schedule.alpha_bar)),
        (losses.bound_loss, lambda m: bound_weights(m.schedule, m.reverse_var)[0]),
    ],
)
def test_losses_of_points_differ_by_their_weight_of_x_0(loss, weight):
    model, x = toy_ddpm(), torch.randn(50, 2)
    found = []
    for evaluate in (loss, lambda m, x: denoising_loss(m, x, weight(m))):
        torch.manual_seed(0)
        found.append(evaluate(model, x).detach())
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


@pytest.fixture
def given(monkeypatch):
    """What `classifier_free_loss` was given, by the names of its arguments."""
    found = {}

    def keep(model, x, label, weight, drop, time_weights):
        found.update(label=label, weight=weight, drop=drop, time_weights=time_weights)
        return torch.zeros(len(x))

    monkeypatch.setattr(losses, "classifier_free_loss", keep)
    return found


@pytest.mark.parametrize(
    ("loss", "name", "drop"),
    [
        (losses.joint_loss, "ddpm-mnist-joint", 0.5),
        (losses.three_parts_loss, "ddpm-mnist-long", 0.5),
        (losses.scene_loss, "ddpm-scenes", 0.1),
    ],
)
def test_times_are_chosen_for_the_squared_error_of_v(given, loss, name, drop):
    """What is drawn often has more weight: T p(t) times the weight of v's error, 1 / noise_var."""
    model = RECIPES[name].model()
    label = torch.rand(3, 5) if name == "ddpm-scenes" else torch.arange(3)
    loss(model, torch.zeros(3, *model.x_shape), label)
    p = given["time_weights"][1:].double()
    p = p / p.sum()
    assert given["drop"] == drop and torch.equal(
        given["label"], told(label) if name == "ddpm-scenes" else label
    )
    noise_var = 1 - cosine_schedule(1000).alpha_bar[1:].double()
    torch.testing.assert_close(
        given["weight"][1:].double(), 1000 * p / noise_var, rtol=1e-4, atol=1e-6
    )


def test_sentences_are_drawn_anew_and_leave_out_a_tenth(monkeypatch):
    told, dropped = [], []

    def keep(model, x, label, weight, drop):
        told.append(label)
        dropped.append(drop)
        torch.testing.assert_close(weight, 1 / model.schedule.noise_var)
        return torch.zeros(len(x))

    monkeypatch.setattr(losses, "classifier_free_loss", keep)
    model, asked = RECIPES["text-scenes"].model(), torch.zeros(400, 8).long()
    for _ in range(2):
        assert losses.text_loss(model, torch.zeros(400, 4, 8, 8), asked).shape == (400,)
    assert dropped == [0.1, 0.1] and not torch.equal(*told)
    left_out = 1 - torch.isin(told[0], tokens(["red crimson"])[0, :2]).any(1).double().mean()
    assert left_out == pytest.approx(0.1, abs=0.05)  # the color of the house, of which all are red


def test_half_of_the_long_training_is_where_the_digit_is_decided(given):
    model = RECIPES["ddpm-mnist-long"].model()
    losses.three_parts_loss(model, torch.zeros(1, 1, 28, 28), torch.zeros(1).long())
    p = given["time_weights"][1:].double()
    assert p.sum() == pytest.approx(1, abs=1e-5)
    log_snr = model.schedule.snr[1:].double().log()
    decided = (log_snr + torch.tensor(10.0).log()).abs() < 5
    assert 0.5 < p[decided].sum() < 0.75
    assert p[:100].sum() == pytest.approx(1 / 3 + 1 / 60, abs=0.02)  # next to the data


def test_hardly_any_time_is_spent_where_there_is_only_noise(given):
    for loss, name, label, low in (
        (losses.joint_loss, "ddpm-mnist-joint", torch.zeros(1).long(), 0.01),
        (losses.scene_loss, "ddpm-scenes", torch.zeros(1, 5), 0.001),
    ):
        model = RECIPES[name].model()
        loss(model, torch.zeros(1, *model.x_shape), label)
        snr, t = model.schedule.snr[1:], torch.arange(1, 1001)
        expected = torch.where(snr > low, 1.0, torch.where(snr > low / 10, snr / low, 0.1)) + 10 / t
        torch.testing.assert_close(given["time_weights"][1:], expected)
