"""Samplers on normal data, where every step's variance is known, and step for step beside another library.

Ancestral sampling of a chain is tested beside the chain, in test_elbo.py.
"""

import math
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from bad_input import refused
from networks import Network
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from companion import checks
from companion.ddpm import Ddpm
from companion.denoisers import MixtureDenoiser, NoisePredictor, VPredictor, gaussian_denoiser
from companion.samplers import (
    ancestral_sample,
    ddim_invert,
    ddim_posterior,
    ddim_sample,
    ddpm_sample,
    dpm_solver_sample,
    in_chunks,
    inpaint_sample,
    reverse_sample,
)
from companion.schedule import ReverseCoefficients, Schedule, linear_schedule, noise_from_x_0

F64 = torch.double
LINEAR = linear_schedule(1000)


def strided(S: int) -> Schedule:
    return LINEAR.evenly(S)


def normal(variance: float, mean: float = 0.0) -> MixtureDenoiser:
    """The exact denoiser of one-dimensional normal data."""
    return gaussian_denoiser(
        LINEAR, torch.tensor([mean], dtype=F64), torch.tensor([[variance]], dtype=F64)
    )


# ------------------------------------------------------------------------------------------------ normal data


def second_order(schedule: Schedule, variance: float) -> float:
    """x_0 / x_T of the solver for normal data, from the paper's sigma, alpha and lambda."""
    alpha, sigma = schedule.alpha_bar.sqrt().tolist(), schedule.noise_var.sqrt().tolist()
    T, x, before = schedule.num_steps, 1.0, 0.0
    lam = [math.inf] + [math.log(alpha[t] / sigma[t]) for t in range(1, T + 1)]
    for t in range(T, 0, -1):
        data = alpha[t] * variance * x / (alpha[t] ** 2 * variance + sigma[t] ** 2)
        h, guess = lam[t - 1] - lam[t], data
        if 1 < t < T:
            r = (lam[t] - lam[t + 1]) / h
            guess = (1 + 1 / (2 * r)) * data - 1 / (2 * r) * before
        x, before = sigma[t - 1] / sigma[t] * x - alpha[t - 1] * math.expm1(-h) * guess, data
    return x


@pytest.mark.parametrize("S", [1, 2, 3, 10])
def test_the_solver_s_steps_are_those_of_its_paper(S: int) -> None:
    times = torch.linspace(50, 1000, S).round().long() if S > 1 else [1000]
    schedule = LINEAR.strided(times)
    *film, x = dpm_solver_sample(normal(0.25), schedule, torch.ones(1, 1, dtype=F64))
    assert len(film) == S
    assert x.item() == pytest.approx(second_order(schedule, 0.25), rel=1e-12)


def test_the_steps_of_any_coefficients_are_drawn_from_their_gaussians() -> None:
    schedule, x_T = LINEAR.strided([30, 200, 1000]), torch.randn(5, 2, dtype=F64)
    q = ReverseCoefficients(*torch.randn(2, 4, dtype=F64), torch.rand(4, 2, dtype=F64))
    torch.manual_seed(1)
    film = list(reverse_sample(torch_tanh, schedule, x_T, q))
    torch.manual_seed(1)
    for t, (above, below) in zip((3, 2, 1), pairwise(film), strict=True):
        mean = q.of_x_0[t] * torch.tanh(above) + q.of_x_t[t] * above
        noise = q.var[t].sqrt() * torch.randn(5, 2, dtype=F64) if t > 1 else 0
        torch.testing.assert_close(below, mean + noise)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_the_coefficients_of_ddim_are_those_of_its_paper(eta: float) -> None:
    schedule = linear_schedule(9, 0.01, 0.4)
    a, before = schedule.alpha_bar[1:], schedule.alpha_bar[:-1]
    sigma = eta * ((1 - before) / (1 - a)).sqrt() * (1 - a / before).sqrt()
    direction = (1 - before - sigma**2).sqrt() / (1 - a).sqrt()  # times x_t - sqrt(a) x_0
    expected = before.sqrt() - direction * a.sqrt(), direction, sigma**2
    for ours, theirs in zip(ddim_posterior(schedule, eta), expected, strict=True):
        torch.testing.assert_close(ours[1:], theirs)
        assert ours[0] == 0


# ------------------------------------------------------------------------------------------------ inversion


# ------------------------------------------------------------------------------------------------ chain, times, types


def test_ddpm_and_the_chain_draw_the_same(unchecked: None) -> None:
    schedule, denoiser = strided(12), normal(0.25, 0.3)
    model = Ddpm(denoiser, schedule, (1,), schedule.beta).double()
    torch.manual_seed(3)
    chain = list(ancestral_sample(model, 5))
    torch.manual_seed(3)
    x_T = model.prior(5).sample()
    ours = list(ddpm_sample(denoiser, schedule, x_T, schedule.beta))
    torch.testing.assert_close(torch.stack(ours), torch.stack(chain))


def test_a_variance_for_each_dimension_reaches_its_dimension() -> None:
    schedule = strided(3)
    var = torch.zeros(4, 2, dtype=F64)
    var[2:, 1] = 0.1
    x_T = torch.ones(1000, 2, dtype=F64)
    *_, x_1, _ = ddpm_sample(lambda x_t, t: 0 * x_t, schedule, x_T, var)
    assert x_1[:, 0].std() == 0 and x_1[:, 1].std() > 0.1


EVERY = {
    "ddpm": ddpm_sample,
    "ddim": partial(ddim_sample, eta=0.5),
    "invert": ddim_invert,
    "dpm_solver": dpm_solver_sample,
    "inpaint": lambda denoiser, schedule, x, **options: inpaint_sample(
        denoiser, schedule, x, x, torch.tensor([True, False]), **options
    ),
}
every = pytest.mark.parametrize("sampler", EVERY.values(), ids=EVERY)


@every
def test_a_film_has_one_picture_more_than_steps_and_the_denoiser_is_told_their_times(
    sampler: Any,
) -> None:
    told = []

    def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
        told.append(t.tolist())
        return (0.5 * x_t).bfloat16()  # as under autocast

    schedule, x = LINEAR.strided([30, 200, 1000]), torch.randn(4, 2)
    film = list(sampler(denoiser, schedule, x))
    assert len(film) == 4 and torch.equal(film[0], x)
    assert all(x_t.shape == (4, 2) and x_t.dtype == torch.float32 for x_t in film)
    times = [[t] * 4 for t in (1000, 200, 30)]
    assert told == (times[::-1] if sampler is ddim_invert else times)


@pytest.mark.parametrize("sampler", [s for n, s in EVERY.items() if n != "inpaint"])
def test_an_example_may_be_a_number(sampler: Any) -> None:
    film = torch.stack([*sampler(lambda x_t, t: 0.5 * x_t, strided(5), torch.randn(6))])
    assert film.shape == (6, 6) and film.isfinite().all()


def test_numbers_are_filled_in() -> None:
    known, x = torch.tensor(True), torch.randn(6)
    *_, seen = inpaint_sample(lambda x_t, t: 0.5 * x_t, strided(5), x, x.abs(), known)
    torch.testing.assert_close(seen, x.abs())


def test_nothing_random_leaves_the_random_numbers_alone() -> None:
    state = torch.get_rng_state()
    for sampler in (ddim_sample, ddim_invert, dpm_solver_sample):
        list(sampler(lambda x_t, t: x_t, strided(5), torch.zeros(3, 2)))
    assert torch.equal(state, torch.get_rng_state())


@every
def test_the_last_step_adds_no_noise(sampler: Any) -> None:
    if sampler is not ddim_invert:
        constant = torch.randn(1, 2)
        *_, x = sampler(lambda x_t, t: constant.expand_as(x_t), strided(5), torch.randn(3, 2))
        free = x[:, 1:] if sampler is EVERY["inpaint"] else x
        torch.testing.assert_close(free, constant.expand(3, 2)[:, -free.shape[1] :])


@every
def test_a_bar_needs_a_label(sampler: Any, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setenv("TQDM_DISABLE", "")
    list(sampler(lambda x_t, t: x_t, strided(5), torch.zeros(3, 2)))
    assert capsys.readouterr().err == ""
    list(sampler(lambda x_t, t: x_t, strided(5), torch.zeros(3, 2), progress="drawing"))
    assert "drawing" in capsys.readouterr().err


@every
def test_samplers_build_no_graph(sampler: Any) -> None:
    network = nn.Linear(2, 2)
    for x_t in sampler(lambda x_t, t: network(x_t), strided(4), torch.randn(3, 2)):
        assert not x_t.requires_grad
        assert torch.is_grad_enabled()  # between the steps, the caller's own setting holds


class Unread(TorchDispatchMode):
    """Refuses to read a value of a tensor, for which a GPU would have to wait."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func is not torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@every
@pytest.mark.parametrize("predictor", [NoisePredictor, VPredictor])
def test_no_step_reads_a_value(
    sampler: Any, predictor: Any, unchecked: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "reads_at_once", lambda tensor: False)  # as on a GPU
    linear = nn.Linear(2, 2)
    denoiser = predictor(Network(lambda x_t, t: linear(x_t)), LINEAR)
    film = sampler(denoiser, strided(4), torch.randn(3, 2))
    with Unread():
        assert len(list(film)) == 5
    with pytest.raises(AssertionError), Unread():
        bool(torch.ones(()))


def test_any_number_fits_in_memory_by_chunks() -> None:
    sizes: list[int] = []

    def sampler(x_T: Tensor, label: Tensor) -> Any:
        sizes.append(len(x_T))
        return ddim_sample(lambda x_t, t: 0.5 * x_t + label[:, None], strided(4), x_T)

    x_T, label = torch.randn(10, 2), torch.arange(10)
    whole = in_chunks(sampler, 100, x_T, label)
    assert torch.allclose(in_chunks(sampler, 4, x_T, label), whole)
    assert sizes == [10, 4, 4, 2]
    assert torch.equal(whole, list(sampler(x_T, label))[-1])


# ------------------------------------------------------------------------------------------------ in-painting


def test_where_nothing_is_observed_in_painting_is_ddpm(monkeypatch: Any) -> None:
    monkeypatch.setattr(torch, "randn_like", torch.ones_like)
    x, schedule = torch.randn(3, 2, dtype=F64), strided(6)
    films = (
        inpaint_sample(torch_tanh, schedule, x, x, torch.zeros(2, dtype=torch.bool)),
        ddpm_sample(torch_tanh, schedule, x),
    )
    torch.testing.assert_close(*(torch.stack([*film]) for film in films))


def torch_tanh(x_t: Tensor, t: Tensor) -> Tensor:
    return torch.tanh(x_t)


@pytest.mark.parametrize("repeats", [1, 3])
def test_steps_of_in_painting_are_those_of_its_paper(repeats: int) -> None:
    schedule, mask = LINEAR.strided([30, 200, 1000]), torch.tensor([True, False])
    x_T, x = torch.randn(2, 5, 2, dtype=F64)
    torch.manual_seed(1)
    film = list(inpaint_sample(torch_tanh, schedule, x_T, x, mask, repeats))
    torch.manual_seed(1)
    a, q, x_t = schedule.alpha_bar, schedule.reverse_coefficients(schedule.steps), x_T
    for t in (3, 2, 1):
        for left in range(repeats if t > 1 else 1, 0, -1):
            e_p, e_q = torch.randn_like(x), torch.randn_like(x)
            drawn = q.of_x_0[t - 1] * torch.tanh(x_t) + q.of_x_t[t - 1] * x_t
            drawn = drawn + q.var[t - 1].sqrt() * e_p
            known = a[t - 1].sqrt() * x + (1 - a[t - 1]).sqrt() * e_q
            below = torch.where(mask, known, drawn)
            if left > 1:
                step = a[t] / a[t - 1]
                x_t = step.sqrt() * below + (1 - step).sqrt() * torch.randn_like(x)
        x_t = below
        torch.testing.assert_close(film[4 - t], x_t)


# ------------------------------------------------------------------------------------------------ another library


def noise_network(x: Tensor, t: Tensor | int) -> Tensor:
    """Any smooth estimate of the data will do, if it is of their size."""
    x_hat = torch.tanh(x.flip(1) + 0.3 * x + torch.as_tensor(t).double().reshape(-1, 1) / 500)
    return noise_from_x_0(LINEAR, x, t, x_hat)


def theirs_of(name: str, **options: Any) -> Any:
    import diffusers  # here, for it takes seconds

    scheduler = getattr(diffusers, name)(1000, beta_schedule="linear", **options)
    # In double precision, lest the rounding of theirs hides a difference.
    scheduler.alphas_cumprod = LINEAR.alpha_bar[1:]
    scheduler.one = scheduler.final_alpha_cumprod = torch.ones((), dtype=F64)
    return scheduler


def films_differ(ours: list[Tensor], scheduler: Any, **options: Any) -> float:
    """The largest difference at any step, with the same noise."""
    torch.manual_seed(1)
    x, largest = ours[0], 0.0
    for t, expected in zip(scheduler.timesteps, ours[1:]):
        x = scheduler.step(noise_network(x, t + 1), t, x, **options).prev_sample
        largest = max(largest, (x - expected).abs().max().item())
    print(f"{type(scheduler).__name__} {options}: {largest:.1e}")
    return largest


SHORT = LINEAR.strided(range(20, 1001, 20))
OURS = NoisePredictor(Network(noise_network), LINEAR)


@pytest.mark.parametrize(
    ("variance", "kind"), [("posterior_var", "fixed_small"), ("beta", "fixed_large")]
)
@pytest.mark.parametrize("schedule", [LINEAR, SHORT], ids=["all", "50"])
def test_ddpm_steps_are_another_library_s(
    schedule: Schedule, variance: str, kind: str, unchecked: None
) -> None:
    scheduler = theirs_of(
        "DDPMScheduler", variance_type=kind, clip_sample=False, timestep_spacing="trailing"
    )
    scheduler.set_timesteps(schedule.num_steps)
    x_T = torch.randn(4, 6, dtype=F64)
    torch.manual_seed(1)
    film = list(ddpm_sample(OURS, schedule, x_T, getattr(schedule, variance)))
    if kind == "fixed_large":
        film.pop()  # where times are skipped, theirs adds noise in the last step
    assert films_differ(film, scheduler) < 1e-5


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("schedule", [LINEAR, SHORT], ids=["all", "50"])
def test_ddim_steps_are_another_library_s(schedule: Schedule, eta: float, unchecked: None) -> None:
    scheduler = theirs_of("DDIMScheduler", clip_sample=False, timestep_spacing="trailing")
    scheduler.set_timesteps(schedule.num_steps)
    x_T = torch.randn(4, 6, dtype=F64)
    torch.manual_seed(1)
    assert films_differ(list(ddim_sample(OURS, schedule, x_T, eta)), scheduler, eta=eta) < 1e-5


@pytest.mark.parametrize(
    "schedule", [SHORT, LINEAR.strided([1, 40, 60, 300, 700, 999])], ids=["50", "6"]
)
def test_solver_steps_are_another_library_s(schedule: Schedule, unchecked: None) -> None:
    scheduler = theirs_of("DPMSolverMultistepScheduler", final_sigmas_type="zero")
    scheduler.set_timesteps(timesteps=(schedule.times[1:].flip(0) - 1).tolist())
    film = list(dpm_solver_sample(OURS, schedule, torch.randn(4, 6, dtype=F64)))
    assert films_differ(film, scheduler) < 1e-5


def test_inversion_steps_are_another_library_s(unchecked: None) -> None:
    scheduler = theirs_of("DDIMInverseScheduler", clip_sample=False, timestep_spacing="trailing")
    scheduler.initial_alpha_cumprod = torch.ones((), dtype=F64)
    scheduler.set_timesteps(50)
    film = list(ddim_invert(OURS, SHORT, 0.1 * torch.randn(4, 6, dtype=F64)))
    assert films_differ(film, scheduler) < 1e-5


test_bad_input = refused("samplers")
