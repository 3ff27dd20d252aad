"""The ledger's rules accept what is equal, refuse what is not, and print one line that no machine changes."""

import bisect
import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from scipy.stats import binom, chi2

from companion.page.rules import Binomial, MonteCarlo, Variance
from companion.page.verify import (
    VerificationError,
    at_most,
    autograd,
    binomial,
    exact,
    monte_carlo,
    quadrature,
    variance,
    verify,
)

FIVE = math.erfc(5 / 2**0.5)  # what lies beyond five standard deviations of a normal


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def normal(generator: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def standardized(generator: torch.Generator, *shape: int) -> torch.Tensor:
    """Samples of mean 0 and standard deviation 1, exactly."""
    samples = normal(generator, *shape)
    return (samples - samples.mean(0)) / samples.std(0)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (0.1 + 0.2, 0.3),
        (1, 1),
        ([1.0, [2.0][0]], torch.tensor([1.0, 2.0], dtype=torch.float64)),
        ([torch.tensor(1, dtype=torch.int64), 2], (1, 2)),
        (np.array([[1.0, 2.0]]), [[1.0, 2.0]]),
        (0.0, 0.0),
    ],
)
def test_exact_accepts_equal_values_of_every_kind(left, right, capsys):
    verify("eq-sum", left, right)
    assert capsys.readouterr().out == "verified eq-sum: exact, relative error <= 1e-10\n"


@pytest.mark.parametrize(
    "rule, rtol", [(exact, 1e-10), (quadrature, 1e-8), (autograd, 1e-8), (exact.within(1e-3), 1e-3)]
)
def test_tolerance_is_where_it_says(rule, rtol):
    truth = torch.tensor([1.0, 1000.0], dtype=torch.float64)
    verify("eq-a", truth + torch.tensor([0.9 * rtol * 1000, 0.0]), truth, rule)
    with pytest.raises(VerificationError):
        verify("eq-a", truth + torch.tensor([1.1 * rtol * 1000, 0.0]), truth, rule)


def test_failure_shows_both_sides_the_tolerance_and_the_place():
    left = torch.arange(12, dtype=torch.float64).reshape(3, 4)
    right = left.clone()
    right[2, 1] += 0.5
    with pytest.raises(VerificationError) as error:
        verify("eq-grid", left, right)
    text = str(error.value)
    assert "eq-grid" in text and "relative error <= 1e-10" in text
    assert "left  = [0, 1, 2, 3, 4, 5" in text and "(2, 1)" in text
    assert "left 9, right 9.5" in text and "error = 0.5" in text


def test_float32_is_refused_by_exact_and_judged_by_its_own_tolerance_by_autograd(capsys):
    single = torch.tensor([1.0, 2.0])
    with pytest.raises(TypeError, match=r"exact with tolerance 1e-10 needs float64.*exact\.within"):
        verify("eq-a", single, single)
    with pytest.raises(TypeError, match="float64"):
        verify("eq-a", [1.0, torch.tensor(2.0)], [1.0, 2.0])
    verify("eq-a", single * (1 + 5e-5), single, autograd)
    assert capsys.readouterr().out == "verified eq-a: autograd, relative error <= 1e-4\n"
    with pytest.raises(VerificationError):
        verify("eq-a", single * (1 + 5e-4), single, autograd)
    verify("eq-a", single, single, exact.within(1e-5))
    with pytest.raises(TypeError, match="float64"):
        verify("eq-a", single.bfloat16(), single.bfloat16(), autograd)


def test_zero_needs_a_stated_scale(capsys):
    with pytest.raises(ValueError, match=r"exact\.on_scale"):
        verify("eq-zero", 1e-17, 0.0)
    verify("eq-zero", 1e-11, 0.0, exact.on_scale(2.0))
    assert capsys.readouterr().out == "verified eq-zero: exact, absolute error <= 2e-10\n"
    with pytest.raises(VerificationError):
        verify("eq-zero", 1e-9, 0.0, exact.on_scale(2.0))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (torch.zeros(3), torch.zeros(1, 3)),
        (torch.zeros(1), 0.0),
        (torch.zeros(2, 3), torch.zeros(3)),
    ],
)
def test_nothing_is_broadcast(left, right):
    for rule in (exact.within(1e-5), at_most(1.0)):
        with pytest.raises(ValueError, match="same shape"):
            verify("eq-a", left, right, rule)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_values_that_are_not_finite_fail(bad):
    for left, right in ((bad, 1.0), (1.0, bad), (bad, bad)):
        for rule in (exact, at_most(1.0)):
            with pytest.raises(VerificationError, match="not finite"):
                verify("eq-a", left, right, rule)


def test_rejected_formulas_are_named_and_an_accepted_one_raises(capsys):
    verify("eq-kl", 2.0, 2.0, rejects={"E10": 3.0, "sum without weight": -2.0, "E23": math.nan})
    line = 'verified eq-kl: exact, relative error <= 1e-10; rejects E10, "sum without weight", E23 (not finite)\n'
    assert capsys.readouterr().out == line
    with pytest.raises(VerificationError, match="eq-kl: .* wrong formula E10 would be accepted"):
        verify("eq-kl", 2.0, 2.0, rejects={"E10": 2.0 + 1e-13})
    with pytest.raises(ValueError, match=r"rejects\['E10'\] must have right's shape"):
        verify("eq-kl", 2.0, 2.0, rejects={"E10": [2.0]})
    assert capsys.readouterr().out == ""


def test_monte_carlo_accepts_within_five_standard_errors_only(generator):
    samples = standardized(generator, 10_000)
    for expected in (0.0, 0.049, -0.049):
        verify("eq-mean", samples, expected, monte_carlo)
    for expected in (0.051, -0.051):
        with pytest.raises(VerificationError, match="within 5 standard errors"):
            verify("eq-mean", samples, expected, monte_carlo)


def test_monte_carlo_of_a_vector_checks_every_coordinate(generator):
    samples = normal(generator, 4000, 3).float() + torch.tensor([0.0, 1.0, 2.0])
    verify("eq-mean", samples, [0.0, 1.0, 2.0], monte_carlo)
    with pytest.raises(VerificationError):
        verify("eq-mean", samples, [0.0, 1.0, 2.2], monte_carlo)
    with pytest.raises(ValueError, match="n samples of right's shape"):
        verify("eq-mean", samples, 1.0, monte_carlo)


def test_monte_carlo_line_does_not_depend_on_the_seed(capsys):
    lines = set()
    for seed in range(20):
        samples = torch.randn(
            20_000, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        )
        verify("eq-mean", samples, 0.0, monte_carlo, rejects={"E1": 3.3, "off by a bit": 0.31})
        lines.add(capsys.readouterr().out)
    # 3.3 / (1 / sqrt(20,000)) = 467 and 0.31 / ... = 43.8, both rounded down to one digit
    assert lines == {
        "verified eq-mean: Monte Carlo, mean of 20,000 samples within 5 standard errors; "
        'rejects E1 (> 400 standard errors), "off by a bit" (> 40 standard errors)\n'
    }


def test_monte_carlo_demands_power_and_says_how_many_samples(generator):
    samples = standardized(generator, 10_000)
    with pytest.raises(VerificationError, match="E1 is only 10 .* away, 20 .* n = 40,000"):
        verify("eq-mean", samples, 0.0, monte_carlo, rejects={"E1": 0.1})
    with pytest.raises(VerificationError, match="the same value here"):
        verify("eq-mean", samples, 0.0, monte_carlo, rejects={"E1": 0.0})
    verify("eq-mean", samples, 0.0, monte_carlo, rejects={"E1": 0.2001})
    # A wrong formula close by needs more samples, and no other case.
    with pytest.raises(VerificationError, match="E1 is only 0.5 .* away.*n = 16,000,000"):
        verify("eq-mean", samples, 0.0, monte_carlo, rejects={"E1": 0.005})


def test_monte_carlo_refuses_samples_that_say_nothing(generator):
    with pytest.raises(ValueError, match="do not vary"):
        verify("eq-mean", torch.ones(1000), 1.0, monte_carlo)
    with pytest.raises(ValueError, match="at least 100 samples; 99 were given"):
        verify("eq-mean", normal(generator, 99), 0.0, monte_carlo)
    samples = normal(generator, 1000, 2)
    samples[:, 1] = 3.0  # one number that does not vary is enough
    with pytest.raises(ValueError, match="do not vary"):
        verify("eq-mean", samples, [0.0, 3.0], monte_carlo)


@pytest.mark.parametrize("n", [101, 20_001])
def test_variance_band_holds_the_quantiles_of_chi_square(n, generator):
    """Of 5.7e-7 false alarms, half on each side: the cube root keeps them to two digits."""
    samples = normal(generator, n)
    samples = 3 * samples / samples.std()
    for exact_limit in (chi2.isf(0.5 * FIVE, n - 1), chi2.ppf(0.5 * FIVE, n - 1)):
        relative = exact_limit / (n - 1)  # of the samples' variance and the stated one
        for factor in (0.99, 1.01):
            stated = 9 / (1 + factor * (relative - 1))
            with nullcontext() if factor < 1 else pytest.raises(VerificationError):
                verify("eq-var", samples, stated, variance)


def test_the_variance_must_be_positive_and_the_standard_deviation_is_refused(generator, capsys):
    samples = normal(generator, 20_001)
    samples = 3 * samples / samples.std()
    verify("eq-var", samples, 9.0, variance, rejects={"standard deviation": 3.0})
    assert 'rejects "standard deviation" (> 60 standard errors)' in capsys.readouterr().out
    with pytest.raises(ValueError, match="positive variance"):
        verify("eq-var", samples, 0.0, variance)


def test_proportion_band_matches_its_formula(capsys):
    outcomes = torch.zeros(10_000, dtype=torch.bool)
    outcomes[:5200] = True
    # the band around 0.5 is 5 * 0.005 = 0.025
    verify("eq-share", outcomes, 0.5, binomial, rejects={"E18": 0.9})
    assert "proportion of 10,000 outcomes" in capsys.readouterr().out
    with pytest.raises(VerificationError):
        verify("eq-share", outcomes, 0.494, binomial)
    with pytest.raises(ValueError, match="0 or 1"):
        verify("eq-share", torch.rand(1000), 0.5, binomial)
    with pytest.raises(ValueError, match="strictly between"):
        verify("eq-share", outcomes, 1.0, binomial)
    with pytest.raises(ValueError, match=r"at least 25,0\d\d outcomes"):
        verify("eq-share", outcomes, 0.001, binomial)


def test_at_most_is_one_sided(capsys):
    verify(
        "eq-bound", [-1e9, 1.04], [0.0, 1.0], at_most(0.05), rejects={"half the bound": [0.0, 0.5]}
    )
    line = 'verified eq-bound: at most, slack 0.05; rejects "half the bound"\n'
    assert capsys.readouterr().out == line
    with pytest.raises(VerificationError):
        verify("eq-bound", [0.0, 1.06], [0.0, 1.0], at_most(0.05))
    with pytest.raises(ValueError, match="slack"):
        at_most(-0.1)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("two words", 1.0, 1.0), "label"),
        (("eq-a", 1.0, 1.0, 1e-3), "rule"),
        (("eq-a", torch.zeros(0), torch.zeros(0)), "left is empty"),
        (("eq-a", [[1.0], [1.0, 2.0]], [1.0, 2.0]), "regular array"),
        (("eq-a", 1.0, "one"), "right must be a tensor"),
        (("eq-a", torch.tensor([1j]), torch.tensor([1j])), "real"),
    ],
)
def test_bad_arguments_are_named(given, says):
    with pytest.raises((ValueError, TypeError), match=says):
        verify(*given)


def test_an_infinite_wrong_value_is_rejected_by_every_kind_of_rule(capsys):
    left = torch.tensor(-2.0, dtype=torch.float64)
    for rule in (exact, at_most(0.0)):
        verify("eq-x", left, -2.0, rule, rejects={"E18": -math.inf})
        assert capsys.readouterr().out.endswith("rejects E18 (not finite)\n")


def test_a_tolerance_near_the_spacing_of_float32_is_refused():
    # Numbers near 1 are 1.2e-7 apart, and ten of these steps are asked for.
    single = torch.tensor([1.0])
    with pytest.raises(TypeError, match="needs float64"):
        verify("eq-a", single, single, exact.within(1.1e-6))
    verify("eq-a", single, single, exact.within(1.3e-6))


@pytest.mark.parametrize(
    ("rule", "bad", "name"),
    [
        (exact.within, (0.0, 0.1, 0.5, 1.0, -1e-3, math.nan), "rtol"),
        (exact.on_scale, (0.0, -1.0, math.inf, math.nan), "scale"),
        (at_most, (-0.1, math.inf, math.nan), "slack"),
    ],
)
def test_rules_refuse_tolerances_that_accept_everything(rule, bad, name):
    for value in bad:
        with pytest.raises(ValueError, match=rf"{name} must .*; {value} was given"):
            rule(value)


def test_ids_of_misprints_are_printed_as_they_are_and_other_names_quoted(capsys):
    verify("eq-a", 1.0, 1.0, rejects={"E7": 2.0, "S12": 2.0, "Z3": 2.0})
    assert capsys.readouterr().out.endswith('; rejects E7, S12, "Z3"\n')


def test_nothing_at_all_is_a_wrong_value_like_any_other(capsys: pytest.CaptureFixture[str]) -> None:
    left = torch.tensor([1.0, -2.0]).double()
    verify("eq-a", left, [1.0, -2.0], exact, rejects={"nothing": [0.0, 0.0]})
    assert 'rejects "nothing"' in capsys.readouterr().out
    with pytest.raises(VerificationError, match="would be accepted too"):
        verify("eq-a", 1e-12, 1e-12, exact.on_scale(1.0), rejects={"nothing": 0.0})


REPETITIONS = 20_000


def most_alarms(probability: float, repetitions: int = REPETITIONS) -> float:
    """More false alarms than these come once in ten thousand, if the rule keeps its word."""
    return binom.isf(1e-4, repetitions, probability)


@pytest.mark.parametrize(
    ("draw", "mean", "n"),
    [
        (lambda size, g: normal(g, *size), 0.0, 100),
        (lambda size, g: -torch.rand(size, generator=g, dtype=torch.float64).log(), 1.0, 900),
        (lambda size, g: (0.4 * normal(g, *size)).exp(), math.exp(0.08), 400),
    ],
    ids=["normal", "exponential", "log-normal"],
)
def test_monte_carlo_raises_no_more_false_alarms_than_it_says(draw, mean, n, generator):
    samples = draw((n, REPETITIONS), generator)
    few = samples[:, _skewness(samples).abs() < 0.1 * n**0.5]  # the others are refused
    assert few.shape[1] > 0.95 * REPETITIONS
    off = monte_carlo.deviation(few, torch.full((few.shape[1],), mean))
    for stated in (0.05, 0.01, 0.002):
        limit = MonteCarlo(stated).limit(n, 1)
        for tail in (off > limit, off < -limit):  # skewness would make one of them too heavy
            assert tail.sum() <= most_alarms(1.1 * stated / 2)
        # And for ten numbers at once, where one alarm is an alarm.
        tens = off[: off.numel() // 10 * 10].reshape(-1, 10).abs()
        groups = tens > MonteCarlo(stated).limit(n, 10)
        assert groups.any(1).sum() <= most_alarms(1.1 * stated, len(groups))
    assert (off.abs() > MonteCarlo(0.05).limit(n, 1)).sum() > 0.8 * 0.05 * REPETITIONS


def _skewness(samples: torch.Tensor) -> torch.Tensor:
    return (((samples - samples.mean(0)) / samples.std(0)) ** 3).mean(0)


@pytest.mark.parametrize(("n", "p"), [(100, 0.5), (2000, 0.02), (25_026, 0.001), (5000, 0.3)])
@pytest.mark.parametrize("stated", [0.01, FIVE])
def test_a_share_raises_no_more_false_alarms_than_it_says(n, p, stated):
    """Of all counts, the accepted ones are found; the law of the others is summed, not drawn."""

    def is_refused(count: int) -> bool:
        outcomes = (torch.arange(n) < count).double()
        return not Binomial(stated).compare(outcomes, torch.tensor(p).double()).accepted

    middle = round(n * p)
    lowest = bisect.bisect_left(range(middle), True, key=lambda count: not is_refused(count))
    above = middle + bisect.bisect_left(
        range(n - middle), True, key=lambda i: is_refused(middle + i)
    )
    alarms = [binom.cdf(lowest - 1, n, p), binom.sf(above - 1, n, p)]
    for tail in alarms:
        assert tail <= 1.1 * stated / 2
    assert sum(alarms) > 0.1 * stated  # the steps of a count leave no more room than this


def test_a_variance_raises_no_more_false_alarms_than_it_says(generator):
    n = 100
    samples = 3 * normal(generator, n, REPETITIONS)
    off = variance.deviation(samples, torch.full((REPETITIONS,), 9.0).double())
    for stated in (0.05, 0.01, 0.002):
        limit = Variance(stated).limit(n, 1)
        for tail in (off > limit, off < -limit):
            assert 0.4 * stated / 2 * REPETITIONS < tail.sum() <= most_alarms(1.1 * stated / 2)
        groups = off.reshape(-1, 10).abs() > Variance(stated).limit(n, 10)
        assert groups.any(1).sum() <= most_alarms(1.1 * stated, len(groups))


@pytest.mark.parametrize(("n", "p"), [(100, 0.5), (1300, 0.02)])
def test_shares_raise_no_more_false_alarms_than_they_say(n, p, generator):
    """Ten shares at once: one alarm is an alarm."""
    outcomes = torch.rand((n, REPETITIONS), generator=generator) < p
    off = binomial.deviation(outcomes.double(), torch.full((REPETITIONS,), p).double()).abs()
    for stated in (0.05, 0.01, 0.002):
        assert (off > Binomial(stated).limit(n, 1)).sum() <= most_alarms(1.1 * stated)
        groups = off.reshape(-1, 10) > Binomial(stated).limit(n, 10)
        assert groups.any(1).sum() <= most_alarms(1.1 * stated, len(groups))


def test_the_rate_of_false_alarms_is_of_all_numbers_together(generator, capsys):
    samples = standardized(generator, 10_000, 784)
    verify("eq-mean", samples, 0.0611 * torch.ones(784), monte_carlo)
    assert "within 6.2 standard errors" in capsys.readouterr().out
    with pytest.raises(VerificationError, match=r"within 6.2 standard errors"):
        verify("eq-mean", samples, 0.0625 * torch.ones(784), monte_carlo)
    verify("eq-mean", samples[:, 0], 0.0499, monte_carlo)
    assert "within 5 standard errors" in capsys.readouterr().out


def test_the_mean_of_skewed_samples_may_be_too_small_rather_than_too_large(generator, capsys):
    """Few of the large values make mean and standard error small together, and Student's t negative."""
    samples = -torch.rand(2500, generator=generator, dtype=torch.float64).log()
    error = samples.std() / 50
    a = _skewness(samples) / 50
    for t in (-5.4, -5.2, 0.0, 4.7, 4.4):
        off = monte_carlo.deviation(samples, samples.mean() - t * error)
        assert math.isclose(off, ((1 + a * t / 3) ** 3 - 1) / a + a / 6, rel_tol=1e-9)
    for accepted in (5.2, -4.4):
        verify("eq-mean", samples, samples.mean() + accepted * error, monte_carlo)
    for refused in (6.2, -4.8):
        with pytest.raises(VerificationError):
            verify("eq-mean", samples, samples.mean() + refused * error, monte_carlo)


def test_samples_too_skewed_for_their_number_are_refused(generator):
    samples = torch.zeros(1000, dtype=torch.float64)
    samples[:5] = 1.0  # skewness (1 - 2p) / sqrt(p (1 - p)) = 14
    with pytest.raises(ValueError, match="at least 19,6.. samples for a skewness of 14; 1,000"):
        verify("eq-mean", samples, 0.005, monte_carlo)
