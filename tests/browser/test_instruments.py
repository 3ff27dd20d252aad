"""The live instruments: their numbers beside torch's, their still when anything is missing, keyboard, touch, axe."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import harness
import pytest
import torch
from harness import TOLERANCE, close
from safetensors.torch import load_file
from torch.distributions import (
    Categorical,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    kl_divergence,
)

from bookkit.site import instruments
from companion import data
from companion.denoisers import MixtureDenoiser
from companion.flows import line_time, probability_flow
from companion.samplers import ddim_sample, ddpm_sample
from companion.schedule import Schedule
from companion.score import exact_score, langevin_sample, noisy_mixture, score_from_denoiser
from companion.training import minimize
from companion.zoo import pretrained

if reason := harness.why_not():
    pytest.skip(reason, allow_module_level=True)

TABLE = instruments.read_table(harness.ROOT)
HASHES = TABLE["fig-noise-or-not"]["hashes"]


def wait_until(figure: Any, state: str) -> None:
    figure.locator(f".book-instrument[data-state={state}]").wait_for()


@pytest.fixture(scope="module")
def call(context: Any, base: str) -> Iterator[Callable[..., Any]]:
    """As of `harness.calling`."""
    with harness.calling(context, base + harness.modules()) as call:
        yield call


# ------------------------------------------------------------------------------------------------ the kit


def test_a_canvas_is_an_image_for_screen_readers_from_its_first_words_on(
    call: Callable[..., Any],
) -> None:
    """A network may take seconds before there is something to say, and an image without a name says nothing."""
    attributes = call(
        "kit",
        "({ surface }) => { const at = (view) => ['role', 'aria-label', 'aria-hidden']"
        ".map((name) => view.canvas.getAttribute(name));"
        " const root = document.createElement('div'), view = surface(root, {}, () => {});"
        " const silent = at(view); view.describe('A ring.');"
        " return [silent, at(view), at(surface(root, { describe: 'A plane.' }, () => {}))]; }",
    )
    assert attributes == [[None, None, "true"], ["img", "A ring.", None], ["img", "A plane.", None]]


# ------------------------------------------------------------------------------------------------ the water level


def test_the_code_of_a_water_level_is_that_of_the_linear_vae(call: Callable[..., Any]) -> None:
    """Against the posterior of the best linear decoder, by matrices, and the exact likelihood of the model."""
    variances = torch.tensor([4.0, 2.0, 1.0, 0.4, 0.1]).double()
    for level in (0.03, 0.4, 0.7, 4.5):
        found = call("water", "({ code }, [v, s]) => code(v, s)", [variances.tolist(), level])
        W = (variances - level).clamp(min=0).sqrt().diag()
        precision = torch.eye(5) + W.T @ W / level
        encode = torch.linalg.solve(precision, W.T / level)
        code = MultivariateNormal(torch.zeros(5).double(), precision_matrix=precision)
        of_means = (encode * variances) @ encode.T
        rates = 0.5 * (code.covariance_matrix.diagonal() + of_means.diagonal() - 1)
        rates = rates - 0.5 * code.covariance_matrix.diagonal().log()
        left = torch.eye(5) - W @ encode
        errors = (left * variances @ left.T + W @ code.covariance_matrix @ W.T).diagonal()
        model = Normal(0.0, (W.diagonal() ** 2 + level).sqrt())
        bounds = -model.entropy() + 0.5 - variances / (2 * model.variance)
        for name, wanted in (("rates", rates), ("errors", errors), ("bounds", bounds)):
            close(found[name], wanted)


# ------------------------------------------------------------------------------------------------ tensors


def test_tensors_are_those_of_the_file(call: Callable[..., Any], base: str) -> None:
    """All types of numbers, and the hash that the page names."""
    name = "ddpm-toy2d"
    path = instruments.weights(harness.ROOT, name)
    url = f"{base}{harness.modules()}{name}.safetensors"
    found = call(
        "kit",
        "async (kit, [url, hash]) => Object.fromEntries(Object.entries(await kit.fetchTensors(url, hash))"
        ".map(([name, {shape, data}]) => [name, [shape, Array.from(data)]]))",
        [url, instruments.digest(path)],
    )
    wanted = load_file(path)
    assert found.keys() == wanted.keys()
    for key, (shape, values) in found.items():
        assert shape == list(wanted[key].shape)
        assert torch.equal(torch.tensor(values).double(), wanted[key].flatten().double()) or (
            wanted[key].dtype == torch.double
            and torch.equal(torch.tensor(values, dtype=torch.double), wanted[key].flatten())
        )


def test_a_file_with_another_hash_is_refused(call: Callable[..., Any], base: str) -> None:
    error = call(
        "kit",
        "(kit, url) => kit.fetchTensors(url, '0'.repeat(64)).then(() => 'taken', (error) => error.message)",
        f"{base}{harness.modules()}ddpm-toy2d.safetensors",
    )
    assert "another SHA-256" in error


def test_random_numbers_are_standard_normal_and_the_seed_decides(call: Callable[..., Any]) -> None:
    first, again, other = (
        torch.tensor(call("kit", "(kit, seed) => Array.from(kit.normals(50000, seed))", seed))
        for seed in (3, 3, 4)
    )
    assert torch.equal(first, again) and not torch.equal(first, other)
    for values in (first, other):
        ranks = Normal(0.0, 1.0).cdf(values).sort().values
        distance = (ranks - torch.arange(1, 50001) / 50000).abs().max().item()
        assert distance < 1.95 / math.sqrt(50000)  # Kolmogorov and Smirnov, one in a thousand
        assert abs((values[1:] * values[:-1]).mean().item()) < 4 / math.sqrt(50000)
    assert abs((first * other).mean().item()) < 4 / math.sqrt(50000)


# ------------------------------------------------------------------------------------------------ KL divergence

X = torch.linspace(-60, 60, 60_001, dtype=torch.double)
SCENES = [(-3.0, 3.0, 0.5), (-1.0, 4.5, 0.2), (2.0, -6.5, 0.9)]


def log_p(left: float, right: float, share: float) -> torch.Tensor:
    parts = [
        math.log(w) + Normal(m, 1.0).log_prob(X) for w, m in ((share, left), (1 - share, right))
    ]
    return torch.stack(parts).logsumexp(0)


def both(scene: tuple[float, float, float], q: Normal) -> torch.Tensor:
    p, log_q = log_p(*scene), q.log_prob(X)
    forward = torch.trapezoid(p.exp() * (p - log_q), X)
    return torch.stack([forward, torch.trapezoid(log_q.exp() * (log_q - p), X)])


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("q", [(0.0, 1.0), (-6.5, 0.8), (5.0, 4.5), (1.3, 2.2)])
def test_both_divergences(
    call: Callable[..., Any], scene: tuple[float, float, float], q: tuple[float, float]
) -> None:
    found = call(
        "kl",
        "(m, [p, q]) => { const { forward, reverse } = m.divergences(p, q); return [forward, reverse]; }",
        [dict(zip(("left", "right", "share"), scene)), dict(zip(("mean", "std"), q))],
    )
    mean, std = (torch.tensor(value, dtype=torch.double) for value in q)
    close(found, both(scene, Normal(mean, std)))


@pytest.mark.parametrize("scene", SCENES)
def test_the_two_best_gaussians(
    call: Callable[..., Any], scene: tuple[float, float, float]
) -> None:
    """Moment matching beside the moments, mode seeking beside the minimum that torch's optimizer finds."""
    p = dict(zip(("left", "right", "share"), scene))
    found = call(
        "kl", "(m, p) => { const { mean, std } = m.matchMoments(p); return [mean, std]; }", p
    )
    density = log_p(*scene).exp()
    mean = torch.trapezoid(density * X, X)
    close(found, torch.stack([mean, torch.trapezoid(density * (X - mean) ** 2, X).sqrt()]))
    for start in scene[:2]:
        found = call(
            "kl",
            "(m, [p, q]) => { const { mean, std } = m.seekMode(p, q); return [mean, std]; }",
            [p, {"mean": start, "std": 1}],
        )
        place, log_std = (
            torch.tensor(value, dtype=torch.double, requires_grad=True) for value in (start, 0.0)
        )
        _ = minimize(
            lambda place=place, log_std=log_std: both(scene, Normal(place, log_std.exp()))[1],
            [place, log_std],
        )
        close(found, torch.stack([place, log_std.exp()]).detach())


# ------------------------------------------------------------------------------------------------ the bound

Z = torch.linspace(-24, 24, 48_001, dtype=torch.double)


def ring_log_joint(x: torch.Tensor) -> torch.Tensor:
    mean = torch.stack([torch.cos(2 * Z + 3), torch.sin(2 * Z + 3)], -1)
    return Normal(mean, 0.2).log_prob(x).sum(-1) + Normal(0.0, 1.0).log_prob(Z)


@pytest.mark.parametrize("x", [(0.57, -0.69), (-1.5, 1.5), (0.0, 0.05), (1.0, 0.3)])
@pytest.mark.parametrize("q", [(0.95, 0.2), (-2.0, 0.05), (0.0, 1.0), (3.0, 2.0)])
def test_the_bound_of_the_ring_and_its_terms(
    call: Callable[..., Any], x: tuple[float, float], q: tuple[float, float]
) -> None:
    """The closed forms of the page beside integrals; the gap is the KL divergence from the posterior."""
    found = call(
        "bound",
        "(m, [x, q]) => { const b = m.bound(x, q); return [m.logEvidence(x), b.elbo, b.reconstruction, b.toPrior,"
        " m.logEvidence(x) - b.elbo, b.byMean, b.byLogStd]; }",
        [list(x), dict(zip(("mean", "std"), q))],
    )
    mean, log_std = (
        torch.tensor(value, dtype=torch.double, requires_grad=True)
        for value in (q[0], math.log(q[1]))
    )
    family, prior = Normal(mean, log_std.exp()), Normal(torch.zeros(()).double(), 1.0)
    joint, log_q = ring_log_joint(torch.tensor(x).double()), family.log_prob(Z)
    evidence = torch.trapezoid(joint.exp(), Z).log()
    weights = log_q.exp()
    elbo = torch.trapezoid(weights * (joint - log_q), Z)
    wanted = [
        evidence,
        elbo,
        torch.trapezoid(weights * (joint - prior.log_prob(Z)), Z),
        kl_divergence(family, prior),
        torch.trapezoid(weights * (log_q - (joint - evidence)), Z),
        *torch.autograd.grad(elbo, [mean, log_std], retain_graph=True),
    ]
    close(found, torch.stack(wanted).detach())


def test_climbing_ends_at_a_maximum_of_the_bound(call: Callable[..., Any]) -> None:
    elbo, by_mean, by_log_std = call(
        "bound",
        "(m) => { let q = { mean: 0.4, std: 0.35 }, x = m.ring(1.2).map((v) => 0.9 * v), before = -Infinity;"
        " for (let i = 0; i < 500; i++) { const { elbo } = m.bound(x, q);"
        " if (elbo < before - 1e-9) throw Error('the bound falls'); before = elbo; q = m.climb(x, q, 0.2); }"
        " const b = m.bound(x, q); return [b.elbo, b.byMean, b.byLogStd]; }",
    )
    assert elbo > -3 and abs(by_mean) + abs(by_log_std) < TOLERANCE


# ------------------------------------------------------------------------------------------------ reweight or move

TEN = torch.randn(10, generator=torch.Generator().manual_seed(6), dtype=torch.double)
AVERAGED: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "square": torch.square,
    "cosine": torch.cos,
    "steep": lambda z: torch.sigmoid(z / 0.1),
    "step": lambda z: (1 + z.sign()) / 2,
}


def two_estimates(name: str, mean: torch.Tensor) -> torch.Tensor:
    """The mean over samples moved to a new mean, and over samples that are reweighted."""
    old = Normal(torch.tensor(0.4).double(), 1.3)
    z = 0.4 + 1.3 * TEN
    ratio = (Normal(mean, 1.3).log_prob(z) - old.log_prob(z)).exp()
    f = AVERAGED[name]
    return torch.stack([f(mean + 1.3 * TEN).mean(), (f(z) * ratio).mean()])


@pytest.mark.parametrize("mean", [-2.0, 0.4, 1.7, 3.0])
@pytest.mark.parametrize("name", AVERAGED)
def test_reweighted_and_moved_samples(call: Callable[..., Any], name: str, mean: float) -> None:
    """Both estimates and the truth; the integrals of the page have another grid."""
    found = call(
        "reweight",
        "(m, [name, noise, mean]) => { const e = m.estimates(name, noise, mean);"
        " return [e.moved, e.reweighted, m.truth(name, mean)]; }",
        [name, TEN.tolist(), mean],
    )
    z = torch.linspace(-15, 15, 60_001, dtype=torch.double)
    truth = torch.trapezoid(AVERAGED[name](z) * Normal(mean, 1.3).log_prob(z).exp(), z)
    close(found, torch.stack([*two_estimates(name, torch.tensor(mean).double()), truth]))


@pytest.mark.parametrize("name", AVERAGED)
def test_the_slopes_of_both_are_the_two_gradients(call: Callable[..., Any], name: str) -> None:
    """Slopes beside automatic differentiation of the estimates, deviations beside integrals."""
    found = call(
        "reweight",
        "(m, [name, noise]) => { const s = m.slopes(name, noise), d = m.spread(name);"
        " return [s.moved, s.reweighted, d.slope, d.moved, d.reweighted]; }",
        [name, TEN.tolist()],
    )
    mean = torch.tensor(0.4, dtype=torch.double, requires_grad=True)
    by_torch = [
        torch.autograd.grad(each, mean, retain_graph=True, allow_unused=True)[0]
        for each in two_estimates(name, mean)
    ]
    z = torch.linspace(-15, 15, 120_001, dtype=torch.double, requires_grad=True)
    f = AVERAGED[name](z)
    (slope,) = torch.autograd.grad(f.sum(), z)
    z, f = z.detach(), f.detach()
    density = Normal(0.4, 1.3).log_prob(z).exp()
    weighted = f * (z - 0.4) / 1.3**2
    moments = [
        [torch.trapezoid(h**k * density, z) for k in (1, 2)] for h in (slope.detach(), weighted)
    ]
    deviations = [((second - first**2) / 10).sqrt() for first, second in moments]
    close(found, torch.stack([*by_torch, moments[1][0], *deviations]))


# ------------------------------------------------------------------------------------------------ the ring

LOPSIDED = torch.tensor([8.0, 4, 2, 1, 1, 2, 4, 8], dtype=torch.double) / 30
EVEN = torch.full((8,), 0.125, dtype=torch.double)
TOY = pretrained("ddpm-toy2d").double()
SCHEDULE: Schedule = TOY.schedule


def shapes() -> tuple[torch.Tensor, torch.Tensor]:
    """Means and variance of the ring as the network learned it, halved, in double precision."""
    single = data.toy_density("mixture").component_distribution
    angle = torch.arange(8, dtype=torch.double) * math.pi / 4
    radius = single.mean.double().norm(dim=1).mean()
    means = radius * torch.stack([angle.cos(), angle.sin()], -1)
    assert torch.allclose(means, single.mean.double(), atol=1e-5)
    return means / 2, single.variance.double() / 4


def exact(weights: torch.Tensor) -> MixtureDenoiser:
    means, variance = shapes()
    return MixtureDenoiser(SCHEDULE, weights, means, torch.diag_embed(variance))


def noise(num: int = 200) -> torch.Tensor:
    return torch.randn(num, 2, dtype=torch.double, generator=torch.Generator().manual_seed(5))


def flat(x: torch.Tensor) -> list[float]:
    return x.flatten().tolist()


def test_its_schedule_is_that_of_the_network(call: Callable[..., Any]) -> None:
    close(call("ring_model", "(m) => m.LEVELS"), SCHEDULE.log_alpha_bar, 1e-9)
    for num in range(2, SCHEDULE.num_steps + 1):
        found = torch.tensor(call("ring_model", "(m, num) => m.evenly(num)", num)).flip(0)
        exactly = 1 + torch.arange(num) * (SCHEDULE.num_steps - 1) / (num - 1)
        wanted = SCHEDULE.evenly(num).times
        # Which neighbor a half goes to is a matter of rounding in torch's single precision.
        is_half = torch.cat([torch.tensor([False]), (exactly % 1 - 0.5).abs() < 1e-4])
        assert torch.equal(found[~is_half], wanted[~is_half]), num
        assert ((found - wanted).abs() <= 1).all(), num


@pytest.mark.parametrize("weights", [EVEN, LOPSIDED], ids=["even", "lopsided"])
@pytest.mark.parametrize("t", [0, 1, 20, 60, 100])
def test_its_exact_score_and_density(
    call: Callable[..., Any], weights: torch.Tensor, t: int
) -> None:
    x, level = noise(), SCHEDULE.log_alpha_bar[t]
    found = call(
        "ring_model",
        "(m, [w, x, t]) => Array.from(m.exactScore(w, Float64Array.from(x), m.LEVELS[t]))",
        [weights.tolist(), flat(x), t],
    )
    close(found, exact(weights).score_at_level(x, level))
    means, variance = shapes()
    component = torch.distributions.Independent(Normal(means, variance.sqrt()), 1)
    clean = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(weights), component
    )
    noisy = noisy_mixture(clean, (level / 2).exp(), SCHEDULE.noise_var[t])
    close(found, exact_score(noisy.log_prob, x))
    density = call(
        "ring_model",
        "(m, [w, x, t]) => x.map(([a, b]) => m.density(w, a, b, m.LEVELS[t]))",
        [weights.tolist(), x.tolist(), t],
    )
    close(density, noisy.log_prob(x).exp())


LOAD = (
    "const { fetchTensors } = await import(new URL('kit.js', url)); "
    "const tensors = await fetchTensors(new URL('ddpm-toy2d.safetensors', url), hash);"
)


@pytest.mark.parametrize("t", [1, 35, 100])
def test_its_learned_score(call: Callable[..., Any], base: str, t: int) -> None:
    """The page computes in single precision."""
    x = noise()
    found = call(
        "ring_model",
        f"async (m, [x, t, url, hash]) => {{ {LOAD} return [m.predictNoise(tensors, x, t), "
        "m.learnedScore(tensors, Float64Array.from(x), t)].map((values) => Array.from(values)); }",
        [flat(x), t, base + harness.modules(), HASHES["ddpm-toy2d"]],
    )
    times = torch.full((len(x),), t)
    with torch.no_grad():
        close(found[0], TOY.denoiser.network(x, times))
        score = score_from_denoiser(TOY.denoiser, SCHEDULE)(x, times)
    # The score is the noise over its standard deviation, and so is its rounding.
    close(found[1], score, TOLERANCE / float(SCHEDULE.noise_var[t].sqrt()))


FILM = """(m, [sampler, weights, x, num, eta, draws]) => {
    const times = m.evenly(num), score = (x, t) => m.exactScore(weights, x, m.LEVELS[t]);
    const noise = () => Float64Array.from(draws.shift());
    let now = Float64Array.from(x);
    for (let k = 0; k < num; k++) now = m.SAMPLERS[sampler](score, now, times[k], times[k + 1], noise, eta);
    return Array.from(now);
}"""


class Recorded:
    """Stands in for torch.randn_like, and keeps what it gave."""

    def __init__(self) -> None:
        self.draws: list[list[float]] = []
        self.generator = torch.Generator().manual_seed(9)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        drawn = torch.randn(x.shape, dtype=x.dtype, generator=self.generator)
        self.draws.append(flat(drawn))
        return drawn


@pytest.mark.parametrize("num", [5, 50, 100])
@pytest.mark.parametrize("sampler", ["ddpm", "mean", "ddim", "langevin"])
def test_its_samplers_end_where_the_companions_do(
    call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, sampler: str, num: int
) -> None:
    """The same noise on both sides, from the start of the film to its end."""
    recorded, x, denoiser, eta = Recorded(), noise(), exact(LOPSIDED), 0.5
    monkeypatch.setattr(torch, "randn_like", recorded)
    steps = SCHEDULE.evenly(num)
    if sampler == "ddpm":
        film = ddpm_sample(denoiser, steps, x)
    elif sampler == "mean":
        film = ddpm_sample(denoiser, steps, x, torch.zeros(num + 1))
    elif sampler == "ddim":
        film = ddim_sample(denoiser, steps, x, eta)
    else:
        level = SCHEDULE.log_alpha_bar[1]
        variance = level.exp() * 0.125**2 + SCHEDULE.noise_var[1]
        film = langevin_sample(
            lambda x: denoiser.score_at_level(x, level), x, 0.2 * float(variance), 4 * num
        )
    *_, wanted = film
    found = call(
        "ring_model", FILM, [sampler, LOPSIDED.tolist(), flat(x), num, eta, recorded.draws]
    )
    close(found, wanted)


def test_annealing_is_langevin_dynamics_at_each_time(call: Callable[..., Any]) -> None:
    x, denoiser, recorded = noise(), exact(LOPSIDED), Recorded()
    wanted = x
    for t in SCHEDULE.evenly(20).times.flip(0)[:-1]:
        level = SCHEDULE.log_alpha_bar[t]
        size = 0.2 * (level.exp() * 0.125**2 + SCHEDULE.noise_var[t])
        for _ in range(4):
            score = denoiser.score_at_level(wanted, level)
            wanted = wanted + size / 2 * score + size.sqrt() * recorded(wanted)
    found = call(
        "ring_model", FILM, ["annealed", LOPSIDED.tolist(), flat(x), 20, 0, recorded.draws]
    )
    close(found, wanted)


def test_heun_follows_the_probability_flow(call: Callable[..., Any]) -> None:
    """Beside the same rule in torch to rounding, and beside the exact flow to the error of a rule of second order."""
    x, denoiser = noise(), exact(EVEN)
    now, levels = x, SCHEDULE.log_alpha_bar

    def velocity(x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        return (x + denoiser.score_at_level(x, s)) / 2

    for t in range(100, 0, -1):
        size = levels[t - 1] - levels[t]
        first = velocity(now, levels[t])
        there = now + size * first
        now = now + size * (first + velocity(there, levels[t - 1])) / 2 if t > 1 else there
    found = call("ring_model", FILM, ["heun", EVEN.tolist(), flat(x), 100, 0, []])
    close(found, now)
    *_, exactly = probability_flow(denoiser.score_at_level, x, [float(levels[-1]), 0.0])
    off = (torch.tensor(found).reshape(-1, 2) - exactly).norm(dim=1)
    assert off.median() < 0.01


def test_its_judge_counts_what_is_in_a_wrong_mode(call: Callable[..., Any]) -> None:
    """Samples of the even ring, judged as such and as the lopsided one."""
    picked = torch.randint(8, (20_000,), generator=torch.Generator().manual_seed(2))
    x = shapes()[0][picked] + 0.125 * noise(20_000)
    judge = "(m, [w, x]) => m.judge(w, Float64Array.from(x))"
    right, wrong = (call("ring_model", judge, [w.tolist(), flat(x)]) for w in (EVEN, LOPSIDED))
    counts = torch.bincount(picked, minlength=8) / 20_000
    assert abs(wrong["wrong"] - (counts - LOPSIDED).abs().sum().item() / 2) < 1e-3
    assert abs(right["distance"] - 0.125) < 0.002
    chance = torch.distributions.Multinomial(2000, EVEN).sample((4000,)) / 2000 - EVEN
    assert abs(right["chance"] * math.sqrt(10) / (chance.abs().sum(1).mean().item() / 2) - 1) < 0.05


# ------------------------------------------------------------------------------------------------ drawn points

DRAWN = 0.8 * torch.randn(400, 2, generator=torch.Generator().manual_seed(8), dtype=torch.double)


def noisy(points: torch.Tensor, sigma: float) -> MixtureSameFamily:
    """The distribution of a point picked from these with noise."""
    component = Independent(Normal(points, sigma), 1)
    return MixtureSameFamily(Categorical(torch.ones(len(points)).double()), component)


@pytest.mark.parametrize("sigma", [0.03, 0.3, 3.0])
@pytest.mark.parametrize("num", [1, 60, 400])
def test_the_best_denoiser_of_drawn_points(
    call: Callable[..., Any], num: int, sigma: float
) -> None:
    """Both sides of Tweedie's formula beside the gradient of a mixture's log-density, by automatic differentiation."""
    points, x = DRAWN[:num], 1.5 * noise(60)
    found = call(
        "drawn_score",
        "(m, [points, x, sigma]) => x.map((at) => { const p = m.posterior(points, at, { sigma });"
        " return [...p.mean, p.logDensity, p.carriers, ...m.arrows(points, at, { sigma }),"
        " ...m.slope(points, at, { sigma }).map((rise) => sigma ** 2 * rise), ...p.weights]; })",
        [flat(points), x.tolist(), sigma],
    )
    distance = torch.cdist(x, points, compute_mode="donot_use_mm_for_euclid_dist")
    weights = (-0.5 * (distance / sigma).square()).softmax(1)
    density = noisy(points, sigma).log_prob
    arrow = sigma**2 * exact_score(density, x)
    said = torch.stack([density(x), 1 / weights.square().sum(1)], 1)
    close(found, torch.cat([x + arrow, said, arrow, arrow, weights], 1))


@pytest.mark.parametrize("sigma", [0.03, 0.3, 3.0])
def test_the_shading_is_the_density_of_noisy_points(call: Callable[..., Any], sigma: float) -> None:
    found = call(
        "drawn_score",
        "(m, [points, sigma]) => Array.from(m.densities(points, { sigma }, [-2, 2, -1.5, 1.5], 28, 21))",
        [flat(DRAWN), sigma],
    )
    across = -2 + 4 * (torch.arange(28).double() + 0.5) / 28
    down = 1.5 - 3 * (torch.arange(21).double() + 0.5) / 21
    places = torch.stack(torch.meshgrid(across, down, indexing="xy"), -1)
    close(found, noisy(DRAWN, sigma).log_prob(places).exp())


def of_points(points: torch.Tensor) -> MixtureDenoiser:
    """The companion's exact denoiser of a finite data set: a mixture without any variance."""
    num = len(points)
    weights = torch.full((num,), 1 / num, dtype=torch.double)
    return MixtureDenoiser(SCHEDULE, weights, points, torch.zeros(num, 2, 2).double())


@pytest.mark.parametrize("t", [1, 20, 60, 100])
def test_drawn_points_at_the_levels_of_diffusion(call: Callable[..., Any], t: int) -> None:
    x, level, sigma = noise(), SCHEDULE.log_alpha_bar[t], SCHEDULE.noise_var[t].sqrt()
    found = call(
        "drawn_score",
        "(m, [points, x, level]) => [x.map((at) => m.posterior(points, at, level).mean),"
        " x.map((at) => Array.from(m.arrows(points, at, level)))]",
        [flat(DRAWN), x.tolist(), {"sigma": sigma.item(), "scale": (level / 2).exp().item()}],
    )
    denoiser = of_points(DRAWN)
    mean = denoiser(x, torch.full((len(x),), t))
    close(found, torch.stack([mean, sigma**2 * denoiser.score_at_level(x, level)]))


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_steps_between_levels_are_those_of_ddim(
    call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, eta: float
) -> None:
    """With the same noise on both sides; eta = 1 is the reverse of the noising."""
    recorded, x, steps = Recorded(), noise(20), SCHEDULE.evenly(30)
    monkeypatch.setattr(torch, "randn_like", recorded)
    *_, wanted = ddim_sample(of_points(DRAWN), steps, x, eta)
    times = steps.times.flip(0)
    levels = [
        {"sigma": SCHEDULE.noise_var[t].sqrt().item(), "scale": SCHEDULE.alpha_bar[t].sqrt().item()}
        for t in times
    ]
    found = call(
        "drawn_score",
        "(m, [points, x, levels, eta, draws]) => x.map((start, i) => levels.slice(1).reduce((at, to, k) =>"
        " m.step(points, at, levels[k], to, (draws[k] ?? []).slice(2 * i, 2 * i + 2).concat(0, 0), eta), start))",
        [flat(DRAWN), x.tolist(), levels, eta, recorded.draws],
    )
    close(found, wanted)


CLOCKS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "t": lambda r: (-0.1 + (0.01 - 39.8 * r).sqrt()) / 19.9,  # of beta(t) = 0.1 + 19.9 t
    "r": lambda r: r,
    "u": line_time,
    "sigma": lambda r: (-r).expm1().sqrt(),
}


@pytest.mark.parametrize("clock", CLOCKS)
def test_equal_steps_of_a_clock(call: Callable[..., Any], clock: str) -> None:
    """From sigma 50 to 0.02, even in the clock as the companion reads it from log(alpha_bar); and both ways."""
    found, again = call(
        "ways_back",
        "(m, clock) => { const { of, back } = m.CLOCKS[clock], s = m.sigmas(clock, 30);"
        " return [s, s.slice(0, -1).map((sigma) => back(of(sigma)))]; }",
        clock,
    )
    sigma = torch.tensor(found).double()
    assert sigma[-1] == 0
    close([found[0], found[-2]], torch.tensor([50.0, 0.02]))
    close(again, sigma[:-1])
    steps = CLOCKS[clock](-sigma[:-1].square().log1p()).diff()
    close(steps.tolist(), steps.mean().expand(29))


@pytest.mark.parametrize("clock", ["t", "u"])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_both_ways_back_are_those_of_the_companion(
    call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, eta: float, clock: str
) -> None:
    """Whole paths from noise to drawn points beside `ddim_sample`, with the same noise on both sides."""
    sigma = torch.tensor(call("ways_back", "(m, clock) => m.sigmas(clock, 25)", clock)).double()
    steps = Schedule(-sigma.flip(0).square().log1p())
    recorded, x, num = Recorded(), noise(20), len(DRAWN)
    monkeypatch.setattr(torch, "randn_like", recorded)
    weights, covs = torch.full((num,), 1 / num).double(), torch.zeros(num, 2, 2).double()
    *_, wanted = ddim_sample(MixtureDenoiser(steps, weights, DRAWN, covs), steps, x, eta)
    found = call(
        "ways_back",
        "(m, [points, x, sigma, eta, draws]) => { const next = draws.flat()[Symbol.iterator]();"
        " return Array.from(sigma.slice(1).reduce((at, to, k) => m.advance(points, at, sigma[k], to,"
        " () => next.next().value ?? 0, eta), x)); }",
        [flat(DRAWN), flat(x), sigma.tolist(), eta, recorded.draws],
    )
    close(found, wanted)


def test_what_is_said_of_the_particles(call: Callable[..., Any]) -> None:
    x = noise(60)
    found = call("ways_back", "(m, [points, x]) => m.report(points, x)", [flat(DRAWN), flat(x)])
    far = torch.cdist(x, DRAWN).amin(1).mean()
    close([found["far"], found["left"]], torch.stack([far, (x[:, 0] < 0).double().mean()]))


def test_the_arrows_of_the_ring_are_those_of_the_circle(call: Callable[..., Any]) -> None:
    """At sigma 0.3 sixty points are as good as the chapter's circle, and paths end where its best denoiser rests."""
    x, sigma = noise(60), 0.3
    found = call(
        "drawn_points",
        "async ({ SETS }, [x, sigma]) => { const m = await import(new URL('drawn_score.js', url)), ring = SETS.ring[1];"
        " const path = m.follow(ring, [0.3, 0.2], { sigma }, { within: 1e-6 });"
        " return [Array.from(m.arrows(ring, x, { sigma })), path.slice(-2)]; }",
        [flat(x), sigma],
    )

    def shrink(radius: torch.Tensor) -> torch.Tensor:
        rho = radius / sigma**2
        return torch.special.i1e(rho) / torch.special.i0e(rho)

    radius, rests = x.norm(dim=1, keepdim=True), torch.ones(()).double()
    close(found[0], shrink(radius) * x / radius - x)
    for _ in range(200):
        rests = shrink(rests)
    close(math.hypot(*found[1]), rests)


def test_denoising_and_renoising_draws_a_point_by_its_weight(call: Callable[..., Any]) -> None:
    """In forty steps about: the shares of 4,000 paths, from where the other cluster is a real chance."""
    points = torch.tensor([[-1, 0.4], [-1.1, 0.5], [0.9, -0.3], [1.1, 0.1]]).double()
    weights, ends = call(
        "denoise_arrows",
        "async (m, points) => { const { normal } = await import(new URL('kit.js', url)), next = normal(2);"
        " const { posterior } = await import(new URL('drawn_score.js', url)), x = [0.1, 0], place = 56;"
        " const end = () => m.renoise(points, x, place, next).path.slice(-2);"
        " return [Array.from(posterior(points, x, m.levelAt(place)).weights), Array.from({ length: 4000 }, end)]; }",
        flat(points),
    )
    off, nearest = torch.cdist(torch.tensor(ends).double(), points).min(1)
    assert off.square().mean().sqrt() < 2 * 0.03  # the lowest noise, in two dimensions
    shares = torch.bincount(nearest, minlength=4) / len(ends)
    assert min(weights) > 0.1 and (shares - torch.tensor(weights)).abs().max() < 0.05


# ------------------------------------------------------------------------------------------------ on the page


@pytest.fixture(scope="module")
def awake(request: pytest.FixtureRequest, context: Any, base: str) -> Iterator[Any]:
    """The instrument of this label, awake in its figure; its page is opened once for all tests that have it."""
    with harness.awake(context, base, request.param) as figure:
        ids = "figure => Array.from(figure.querySelectorAll('[id]'), e => e.id)"
        assert figure.evaluate(ids) == [], "the chapter may have these ids too"
        yield figure


each_awake = pytest.mark.parametrize("awake", TABLE, indirect=True)


@each_awake
def test_it_wakes_in_its_figure_and_the_still_comes_back(awake: Any) -> None:
    page, label = awake.page, awake.get_attribute("id")
    still, root = awake.locator("img").first, awake.locator(".instrument-root")
    caption = awake.locator(".caption-text")
    assert root.is_visible() and not still.is_visible()
    assert root.locator("canvas").count() >= 1
    if wanted := TABLE[label].get("caption"):
        assert caption.inner_text() == wanted.strip()
    awake.get_by_role("button", name="Show the still").click()
    assert still.is_visible() and not root.is_visible()
    if wanted:
        assert caption.inner_text() != wanted.strip()
    awake.get_by_role("button", name="Try it").click()
    assert root.is_visible() and not still.is_visible()
    page.emulate_media(media="print")
    assert still.is_visible() and not root.is_visible()
    page.emulate_media(media="null")
    assert root.is_visible() and not still.is_visible()


@each_awake
def test_every_control_has_a_name_and_a_place_for_a_finger(awake: Any) -> None:
    page = awake.page
    small = awake.evaluate(
        "(figure) => [...figure.querySelectorAll('.instrument-root :is(button, select, input, [role=slider])')]"
        ".filter((e) => e.checkVisibility()).map((e) => e.closest('label') ?? e)"
        ".filter((e) => e.getBoundingClientRect().height < 24 || e.getBoundingClientRect().width < 24)"
        ".map((e) => e.outerHTML.slice(0, 100))"
    )
    assert small == []
    page.keyboard.press("Tab")
    assert awake.evaluate("figure => bookChecks.controlProblems(figure)") == []
    for handle in awake.locator(".instrument-handle").all():
        before = handle.get_attribute("aria-valuetext")
        handle.focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_function(
            "([e, before]) => e.getAttribute('aria-valuetext') !== before",
            arg=[handle.element_handle(), before],
        )


@each_awake
def test_it_is_accessible_and_fits_in_every_form(awake: Any) -> None:
    """Everything above minor that axe finds inside the figure, in light and dark, wide and on a phone."""
    page, label = awake.page, awake.get_attribute("id")
    harness.use_theme(page, "dark")
    assert harness.figure_problems(page, label, only_colors=True) == []
    harness.use_theme(page, "light")
    for size in (harness.WIDE, harness.PHONE):
        page.set_viewport_size(size)
        assert harness.figure_problems(page, label) == [], size
        edges = awake.evaluate(
            "(figure) => { const edge = figure.getBoundingClientRect().right + 1;"
            " return [...figure.querySelectorAll('.book-instrument *')].filter((e) => e.checkVisibility()"
            " && !e.classList.contains('instrument-handle') && e.getBoundingClientRect().right > edge).length; }"
        )
        assert edges == 0, size
        assert harness.width_problems(page) == []


def numbers(figure: Any) -> str:
    return " ".join(figure.locator(".instrument-meter output, .instrument-sums").all_inner_texts())


@pytest.mark.parametrize(
    "label", ["fig-two-fits", "fig-ring-bound", "fig-move-or-reweight", "fig-circle"]
)
def test_mouse_and_finger_drag_what_can_be_dragged(wake: harness.Wake, label: str) -> None:
    figure = wake(label)
    page = figure.page
    touch = page.context.new_cdp_session(page)
    for handle in figure.locator(".instrument-handle").all():
        for way in ("mouse", "finger"):
            handle.scroll_into_view_if_needed()
            before, box = numbers(figure), handle.bounding_box()
            x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
            path = [(x, y), (x + 12, y + 3), (x + 24, y + 6)]
            if way == "mouse":
                page.mouse.move(*path[0])
                page.mouse.down()
                page.mouse.move(*path[2], steps=3)
                page.mouse.up()
            else:
                for kind, at in zip(("touchStart", "touchMove", "touchMove"), path):
                    points = [{"x": at[0], "y": at[1]}]
                    touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
                touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
            page.evaluate(
                "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
            )
            assert numbers(figure) != before, (handle.get_attribute("aria-label"), way)
            assert handle.bounding_box()["x"] > box["x"] + 6


def test_the_buttons_of_the_two_directions_find_the_two_fits(wake: harness.Wake) -> None:
    """What the buttons end at is what the marks on the bars promise."""
    figure = wake("fig-two-fits")
    scene = (-3.0, 3.0, 0.5)
    variance = torch.tensor(1.0 + scene[0] ** 2).double()  # of p, whose mean is 0
    forward = both(scene, Normal(torch.zeros(()).double(), variance.sqrt()))[0]
    pair = [torch.tensor(v, dtype=torch.double, requires_grad=True) for v in (scene[1], 0.0)]
    _ = minimize(lambda: both(scene, Normal(pair[0], pair[1].exp()))[1], pair)
    reverse = both(scene, Normal(pair[0], pair[1].exp()))[1]
    for row, (name, least) in ((1, ("Least D(q", reverse)), (0, ("Least D(p", forward))):
        figure.get_by_role("button", name=name).click()
        fill, tick, shown = (
            figure.locator(f".instrument-meter {part}").nth(row).element_handle()
            for part in (".fill", ".tick", "output")
        )
        figure.page.wait_for_function(
            "([fill, tick, shown, least]) => Math.abs(parseFloat(shown.textContent) - least) < 1e-3"
            " && Math.abs(fill.getBoundingClientRect().right - tick.getBoundingClientRect().left) < 1",
            arg=[fill, tick, shown, least.item()],
        )
    figure.get_by_role("button", name="Least D(q").click()  # from the wide fit, between the modes
    figure.get_by_text("This is a local minimum").wait_for()


def test_new_samples_and_a_jump(wake: harness.Wake) -> None:
    """Other samples, other gradients; with a jump the moved samples see none at all."""
    figure = wake("fig-move-or-reweight")
    before = numbers(figure)
    figure.get_by_role("button", name="New samples").click()
    assert numbers(figure) != before
    figure.get_by_role("combobox", name="f(z)").select_option("step")
    outputs = figure.locator(".instrument-meter output").all_inner_texts()
    assert outputs == ["s.d. 0.15", "s.d. 0.00"]
    assert "true 0.29, score" in figure.locator(".instrument-sums").inner_text()


def test_data_are_drawn_up_to_a_number_and_the_noisy_point_is_pressed(wake: harness.Wake) -> None:
    figure = wake("fig-circle")
    page, plane = figure.page, figure.locator("canvas")
    status, knob = figure.locator(".arrows-status"), figure.locator(".instrument-handle")
    plane.scroll_into_view_if_needed()
    box = plane.bounding_box()
    plane.click(position={"x": box["width"] / 4, "y": 0.75 * (box["height"] - 18)})
    assert (knob.get_attribute("aria-valuetext") or "").startswith("(−1.0")
    assert "of 60" in numbers(figure)  # a press alone has not drawn
    touch = page.context.new_cdp_session(page)
    for kind, left in (("touchStart", 80), ("touchMove", 130), ("touchMove", 180), ("touchEnd", 0)):
        at = [{"x": box["x"] + left, "y": box["y"] + 60}] if left else []
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": at})
    assert "of 60" in numbers(figure)  # a finger scrolls the page
    figure.get_by_role("button", name="Draw your own").click()
    follow = figure.get_by_role("button", name="Follow the arrows")
    assert follow.is_disabled() and "–" in numbers(figure)
    assert "An empty plane" in (plane.get_attribute("aria-label") or "")
    page.mouse.move(box["x"] + 60, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 260, box["y"] + 60, steps=5)
    (many,) = re.findall(r"draw: (\d+) of at most 400", status.inner_text())
    assert 20 < int(many) < 120 and follow.is_enabled() and f"of {many}" in numbers(figure)
    for k in range(1, 12):
        page.mouse.move(box["x"] + (60 if k % 2 else 380), box["y"] + 60 + 20 * k, steps=5)
    page.mouse.up()
    assert "All 400 points are used up" in status.inner_text() and "of 400" in numbers(figure)
    figure.get_by_role("button", name="Ring").click()
    assert "of 60" in numbers(figure) and status.inner_text() == ""


def test_noise_returns_to_what_the_reader_draws(wake: harness.Wake) -> None:
    figure = wake("fig-same-marginals")
    page, plane = figure.page, figure.locator("canvas")
    plane.scroll_into_view_if_needed()
    figure.get_by_role("button", name="Draw your own").click()
    play, status = figure.get_by_role("button", name="Play"), figure.locator(".instrument-result")
    assert play.is_disabled() and "Two empty planes" in (plane.get_attribute("aria-label") or "")
    box = plane.bounding_box()
    for left in (0.1, 0.6):  # one stroke on each plane
        page.mouse.move(box["x"] + left * box["width"], box["y"] + 80)
        page.mouse.down()
        page.mouse.move(box["x"] + (left + 0.05) * box["width"], box["y"] + 90, steps=4)
        page.mouse.up()
    assert play.is_enabled()
    figure.get_by_label("equal steps of").select_option("u")
    figure.locator("input[type=range]").last.fill("40")
    assert re.search(
        r"At the end the particles are on average 0\.0\d \(ODE\) and 0\.0\d", status.inner_text()
    )
    assert "σ = 0.00" in figure.inner_text()


def test_paths_along_the_arrows(wake: harness.Wake) -> None:
    """One ends where the arrow vanishes; the others end beside a data point, at the lowest noise, and start again."""
    figure = wake("fig-circle")
    status, knob = figure.locator(".arrows-status"), figure.locator(".instrument-handle")
    sums, noise = (
        figure.locator(".instrument-sums span span"),
        figure.get_by_role("slider", name="noise"),
    )
    start = knob.get_attribute("aria-valuetext")
    assert sums.all_inner_texts()[0] == sums.all_inner_texts()[1]
    figure.get_by_role("button", name="Follow the arrows").click()
    status.get_by_text("log p is nearly flat here").wait_for()
    assert re.fullmatch(r"\(−?0\.00[012]\d, −?0\.00[012]\d\)", sums.first.inner_text())
    assert noise.input_value() == "40"
    for _ in range(2):
        figure.get_by_role("button", name="Denoise and renoise").click()
        status.get_by_text("from a data point").wait_for()
        assert noise.input_value() == "0"
    knob.focus()
    figure.page.keyboard.press("ArrowUp")
    assert status.inner_text() == "" and knob.get_attribute("aria-valuetext") != start
    figure.get_by_role("button", name="Denoise and renoise").click()
    assert "raise σ first" in status.inner_text()
    noise.focus()
    figure.page.keyboard.press("End")
    assert "mean of the data" in figure.locator(".arrows-words").inner_text()  # with most noise


def test_the_laboratory_plays_steps_and_scrubs(wake: harness.Wake) -> None:
    figure = wake("fig-noise-or-not")
    time, result = figure.get_by_role("slider", name="time"), figure.locator(".instrument-result")
    figure.get_by_role("button", name="Play", exact=True).wait_for()  # it has played once
    assert time.get_attribute("aria-valuetext") == "t = 0"
    assert "off the nearest center" in result.inner_text()
    time.focus()
    figure.page.keyboard.press("Home")
    assert time.get_attribute("aria-valuetext") == "t = 100" and result.inner_text() == ""
    figure.get_by_role("button", name="Step").click()
    assert time.input_value() == "1"
    figure.get_by_role("combobox", name="sampler").select_option("ddim")
    assert figure.get_by_role("slider", name="η").is_visible()
    figure.get_by_role("combobox", name="score").select_option("learned")
    figure.get_by_role("button", name="Play", exact=True).wait_for()
    assert "off the nearest center" in result.inner_text()
    assert figure.get_by_role("checkbox", name="lopsided ring").is_disabled()


def test_altered_weights_leave_the_exact_score_and_a_sentence(wake: harness.Wake) -> None:
    figure = wake("fig-noise-or-not")
    figure.page.route(
        "**/*.safetensors", lambda route: route.fulfill(status=200, body=b"\x08" + 99 * b"\0")
    )
    figure.get_by_role("combobox", name="score").select_option("learned")
    figure.get_by_text("could not be loaded").wait_for()
    assert figure.get_by_role("combobox", name="score").input_value() == "exact"


def test_a_module_that_does_not_come_leaves_the_still_and_a_sentence(
    context: Any, base: str
) -> None:
    page = context.new_page()
    page.route("**/kl.js", lambda route: route.abort())
    page.goto(base + harness.page_of("fig-two-fits"))
    figure = page.locator("#fig-two-fits")
    figure.scroll_into_view_if_needed()
    wait_until(figure, "failed")
    assert figure.locator("img").is_visible()
    assert "could not be loaded" in figure.get_by_role("status").inner_text()
    page.unroute("**/kl.js")
    figure.get_by_role("button", name="Try it").click()
    page.locator("#fig-two-fits.live, #fig-two-fits [data-state=failed]").first.wait_for()
    page.close()


def test_guidance_shows_each_step_of_a_film(wake: harness.Wake) -> None:
    figure = wake("fig-guidance-grid")
    figure.get_by_role("combobox", name="steps").select_option("6")
    figure.get_by_role("combobox", name="class").select_option("8")
    step, status = figure.get_by_role("slider", name="step"), figure.locator(".guide-status")
    figure.get_by_text("the difference that class 8 makes, 3 times").wait_for()
    assert (step.input_value(), step.get_attribute("max")) == ("6", "6")
    picture = figure.locator("canvas")
    assert "time 0: the digit" in (picture.get_attribute("aria-label") or "")
    step.focus()
    figure.page.keyboard.press("Home")
    assert "time 1000: the noisy image" in (picture.get_attribute("aria-label") or "")
    figure.get_by_role("button", name="Step").click()
    assert step.input_value() == "1"
    scale = figure.get_by_role("slider", name="scale")
    for words, key in (("Scale 0: the class is not used", "Home"), ("makes, 9 times", "End")):
        scale.focus()
        figure.page.keyboard.press(key)
        status.get_by_text(words).wait_for()


def test_what_is_hidden_is_filled_in(wake: harness.Wake) -> None:
    figure = wake("fig-completions")
    done, status = figure.get_by_text("yours, to the last bit"), figure.locator(".fill-status")
    fill = figure.get_by_role("button", name="Fill in")
    figure.get_by_role("button", name="Hide nothing").click()
    assert fill.is_disabled() and "Nothing is hidden" in status.inner_text()  # and the first ends
    board = figure.locator(".fill-board canvas")
    assert "0 of 784 pixels hidden" in (board.get_attribute("aria-label") or "")
    board.click()  # in its middle
    (many,) = re.findall(r"(\d+) of 784", board.get_attribute("aria-label") or "")
    assert 10 <= int(many) <= 20 and fill.is_enabled() and status.inner_text() == ""
    figure.get_by_role("button", name="Clear").click()
    assert fill.is_disabled() and "The pad is empty" in status.inner_text()
    figure.get_by_role("button", name="7", exact=True).click()
    fill.click()
    done.wait_for()


def test_a_thread_that_does_not_start_leaves_the_still_and_a_sentence(
    context: Any, base: str
) -> None:
    page = context.new_page()
    page.route("**/digit_worker.js", lambda route: route.abort())
    page.goto(base + harness.page_of("fig-guidance-grid"))
    figure = page.locator("#fig-guidance-grid")
    figure.get_by_role("button", name="Try it").click()
    wait_until(figure, "failed")
    assert figure.locator("img").first.is_visible()
    assert "could not be loaded" in figure.locator(".instrument-status").inner_text()
    page.close()


def test_the_riddle_is_scored(wake: harness.Wake) -> None:
    """All drawn digits marked are 20 of 20, the others marked none; what is said of a tile is true."""
    figure = wake("fig-which-are-real")
    drawn = load_file(instruments.weights(harness.ROOT, "which_are_real"))["drawn"].tolist()
    tiles = figure.locator(".riddle-tiles button")
    assert tiles.count() == len(drawn)
    for marked, right in ((1, 20), (0, 0)):
        for tile, answer in zip(tiles.all(), drawn, strict=True):
            if answer == marked:
                tile.focus()
                figure.page.keyboard.press("Space")
        figure.get_by_role("button", name="Check").click()
        figure.get_by_text(f"{right} of 20 are right. Guessing gets 10 on average.").wait_for()
        words = [tile.inner_text().split()[-1] for tile in tiles.all()]
        assert words == [("real", "drawn")[answer] for answer in drawn]
        figure.get_by_role("button", name="Again").click()
        assert figure.locator("[aria-pressed=true]").count() == 0


@pytest.fixture(scope="module")
def scriptless(browser: Any) -> Iterator[Any]:
    """A page of a browser without scripts."""
    with browser.new_context(viewport=harness.WIDE, java_script_enabled=False) as context:
        yield context.new_page()


@pytest.fixture(scope="module")
def motionless(browser: Any) -> Iterator[Any]:
    """A page of a browser that is asked for little motion."""
    with browser.new_context(viewport=harness.WIDE, reduced_motion="reduce") as context:
        yield context.new_page()


@pytest.mark.parametrize("label", TABLE)
def test_without_scripts_there_is_only_the_still(scriptless: Any, base: str, label: str) -> None:
    scriptless.goto(base + harness.page_of(label), wait_until="domcontentloaded")
    figure = scriptless.locator(f"#{label}")
    assert figure.locator("img").first.is_visible()
    assert not figure.locator(".book-instrument").is_visible()


@pytest.mark.parametrize("label", TABLE)
def test_where_motion_is_unwelcome_it_waits(motionless: Any, base: str, label: str) -> None:
    page = motionless
    page.goto(base + harness.page_of(label))
    figure = page.locator(f"#{label}")
    figure.scroll_into_view_if_needed()
    figure.locator(".instrument-switch").wait_for()
    page.wait_for_timeout(100)
    assert not figure.locator(".instrument-root").is_visible()
    figure.get_by_role("button", name="Try it").click()
    wait_until(figure, "live")
    before = figure.locator("canvas").first.evaluate("(canvas) => canvas.toDataURL()")
    page.wait_for_timeout(500)
    assert figure.locator("canvas").first.evaluate("(canvas) => canvas.toDataURL()") == before


def test_a_change_of_theme_is_drawn(wake: harness.Wake) -> None:
    figure = wake("fig-two-fits")
    canvas = figure.locator("canvas").first
    pictures = set()
    for theme in ("light", "dark", "light"):
        harness.use_theme(figure.page, theme)
        pictures.add(canvas.evaluate("(canvas) => canvas.toDataURL()"))
    assert len(pictures) == 2
