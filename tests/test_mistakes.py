"""The mistakes that the errata page shows: what they cost, by another way than the page computes it."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch.distributions import Normal, kl_divergence

from book.pages import mistakes
from companion.schedule import Schedule, linear_schedule

ROOT = Path(__file__).parents[1]


def test_the_entropy_of_eight_equal_outcomes() -> None:
    wrong, right = mistakes.entropy_of_uniform()
    assert right == pytest.approx(stats.entropy(np.ones(8))) and wrong == -right


def test_the_constant_per_element_leaves_a_density_that_does_not_integrate_to_one() -> None:
    def wrong(y: float, x: float) -> float:
        return float(np.exp(stats.norm.logpdf([x, y]).sum() + mistakes.constant_per_element(2)))

    mass = integrate.dblquad(wrong, -8, 8, -8, 8)[0]
    assert math.log(mass) == pytest.approx(mistakes.constant_per_element(2), rel=1e-6)
    assert mistakes.constant_per_element(16) == pytest.approx(
        -0.5 * 16 * 15 * math.log(2 * math.pi)
    )


def test_the_dropped_constant_is_the_kl_of_gaussians_with_one_mean() -> None:
    schedule = linear_schedule(1000)
    q = Normal(0.0, schedule.posterior_var[2:].double().sqrt())
    p = Normal(0.0, schedule.beta[2:].double().sqrt())
    assert mistakes.dropped_constant() == pytest.approx(kl_divergence(q, p).sum().item(), rel=1e-4)


def test_means_for_sums_are_a_beta_vae() -> None:
    error, kl = torch.rand(784), torch.rand(200)
    weighted = (error.sum() + mistakes.hidden_beta() * kl.sum()) / 784
    assert (error.mean() + kl.mean()).item() == pytest.approx(weighted.item(), rel=1e-5)


def test_uniform_noise_does_not_lead_to_the_prior() -> None:
    rng = np.random.default_rng(0)
    x = np.zeros(200_000)
    for beta in np.linspace(1e-3, 0.2, 100):
        x = np.sqrt(1 - beta) * x + beta * rng.random(len(x))
    mean, var = mistakes.wrong_forward()
    assert abs(x.mean() - mean) < 5 * math.sqrt(var / len(x))
    assert abs(x.var() / var - 1) < 5 * math.sqrt(2 / len(x))
    assert abs(mean) > 0.5 and var < 0.1


def test_the_wrong_ppca_generates_another_covariance() -> None:
    rng = np.random.default_rng(0)
    along, across = rng.normal(0, math.sqrt(15), 10**6), rng.normal(0, math.sqrt(5), 10**6)
    noise = np.abs(across).mean() ** 2
    assert mistakes.ppca() == pytest.approx((along.var() + noise, noise), rel=5e-3)


def test_two_levels_off_is_another_noise() -> None:
    schedule = Schedule.from_betas(torch.linspace(1e-4, 0.02, 100).double() * 10)
    noise = 1 - schedule.alpha_bar
    assert mistakes.off_by_two() == pytest.approx((noise[3] / noise[1]).item(), rel=1e-5)


def test_only_the_form_with_a_minus_stays_below_the_evidence() -> None:
    def joint(z: float) -> float:
        return float(stats.norm.pdf(z) * stats.norm.pdf(0, z))

    assert math.log(integrate.quad(joint, -9, 9)[0]) == pytest.approx(mistakes.EVIDENCE)
    for width in (0.05, 0.1, 0.5, math.sqrt(0.5)):
        q = stats.norm(0, width)

        def bound(z: float, q: stats.rv_frozen = q) -> float:
            return float(q.pdf(z) * (np.log(joint(z)) - q.logpdf(z)))

        minus, plus = mistakes.plus_sign(width)
        assert integrate.quad(bound, -7 * width, 7 * width)[0] == pytest.approx(minus, abs=1e-6)
        assert minus <= mistakes.EVIDENCE + 1e-9
        assert plus > mistakes.EVIDENCE


MISTAKES = mistakes.read(ROOT)["mistakes"]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake["name"])
def test_a_mistake_is_told_whole(mistake: dict[str, str]) -> None:
    assert len({m["name"] for m in MISTAKES}) == len(MISTAKES)
    assert mistake["wrong"] != mistake["right"]
    assert mistake["caught"].endswith(".") and mistake["size"].endswith(".")
    told = [mistake[part] for part in ("wrong", "right", "size", "caught")]
    assert all(text.count("$") % 2 == 0 for text in told)
    assert ("figure" in mistake) == ("alt" in mistake)


def test_every_number_that_is_computed_is_told() -> None:
    text = (ROOT / "book" / "data" / "mistakes.yml").read_text("utf8")
    assert sorted(re.findall(r"{(\w+):\.\df}", text)) == sorted(mistakes.sizes())
