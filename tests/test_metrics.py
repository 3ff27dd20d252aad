"""Measures against brute force and against laws known exactly."""

import pytest
import torch

from companion.metrics import auroc, energy_test, linear_probe, path_length_ratio, proportion


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_auroc_is_the_share_of_ordered_pairs() -> None:
    normal, anomalous = torch.randn(50).round(decimals=1), (torch.randn(40) + 0.5).round(decimals=1)  # with ties
    wins = (anomalous[:, None] > normal).double() + 0.5 * (anomalous[:, None] == normal).double()
    assert auroc(normal, anomalous) == pytest.approx(wins.mean().item(), abs=1e-12)


def test_proportion_has_the_binomial_error() -> None:
    p = proportion(torch.tensor([True] * 30 + [False] * 70))
    assert p.value == pytest.approx(0.3) and p.standard_error == pytest.approx((0.3 * 0.7 / 100) ** 0.5)


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
    assert energy_test(x, y, num_permutations=1).statistic == pytest.approx(by_hand.item(), rel=1e-10)


def test_energy_test_finds_a_shift_and_keeps_its_level() -> None:
    assert energy_test(torch.randn(200, 2), torch.randn(200, 2) + 0.7).p_value == pytest.approx(1 / 201)
    p_values = torch.tensor([energy_test(torch.randn(30, 2), torch.randn(30, 2), 39).p_value for _ in range(200)])
    share = (p_values <= 0.1).double().mean().item()  # equal laws: p is uniform on 1/40, 2/40, ..., 1
    assert abs(share - 0.1) <= 5 * (0.1 * 0.9 / 200) ** 0.5


def test_path_length_ratio_of_a_line_and_a_half_circle() -> None:
    line = torch.linspace(0, 1, 9)[:, None] * torch.ones(1, 4)
    assert path_length_ratio(line) == pytest.approx(1, abs=1e-6)
    angle = torch.linspace(0, torch.pi, 1001)
    assert path_length_ratio(torch.stack([angle.cos(), angle.sin()], 1)) == pytest.approx(torch.pi / 2, rel=1e-5)


def test_bad_input_gets_one_sentence() -> None:
    with pytest.raises(ValueError, match="codes and its labels must be equal in number; 3 and 2 were given"):
        linear_probe(torch.zeros(3, 1), torch.zeros(2), torch.zeros(1, 1), torch.zeros(1))
    with pytest.raises(ValueError, match="normal and anomalous must each hold at least one score, all finite"):
        auroc(torch.tensor([1.0, float("nan")]), torch.tensor([2.0]))
    with pytest.raises(ValueError, match="x and y must be samples of at least two vectors of equal dimension"):
        energy_test(torch.zeros(3, 2), torch.zeros(3, 3))
    with pytest.raises(ValueError, match="points must be at least two"):
        path_length_ratio(torch.zeros(3, 2))
