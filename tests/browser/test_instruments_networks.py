"""The instruments that are networks: each computes in the browser what torch computes, to 1e-4."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import harness
import pytest
import torch
from safetensors.torch import load_file
from torch.distributions import Normal, kl_divergence

from book import instrument_data
from companion import data
from companion.guidance import guided
from companion.samplers import ddim_sample, ddpm_sample, inpaint_sample
from companion.schedule import linear_schedule
from companion.zoo import pretrained

if reason := harness.why_not():
    pytest.skip(reason, allow_module_level=True)

CLOSE = {"rtol": 1e-4, "atol": 1e-4}


@pytest.fixture(scope="module")
def page(context: Any, base: str) -> Iterator[Any]:
    """`page(code, argument)`: what code makes of an argument beside all modules; `files(name)` loads their tensors."""
    script = """async () => {
        window.use = async (name) => Object.assign(window, await import(`./${name}.js`));
        const modules = ["kit", "nn", "draw_vae", "draw_strokes", "latent_model", "noise_schedule", "digit_model"];
        for (const name of modules) await use(name);
        window.files = async (name) => parseTensors(await (await fetch(`${name}.safetensors`)).arrayBuffer());
        window.vae = planeVae(await files("vae2d-mnist"));
        window.latent = latentModel(await files("ldm-mnist"), await files("conv-vae-mnist"));
        window.digits = digitModel(await files("ddpm-mnist-long"));
        window.diffusion = await import("./diffusion.js");
    }"""
    with harness.evaluating(context, base + harness.modules(), script) as evaluate:
        yield evaluate


def digits(num: int) -> torch.Tensor:
    """Black-and-white images: test digits, or random pixels where there are none."""
    _ = torch.manual_seed(0)
    return data.binarize(data.load("mnist", "test").images[:num])


def flat(x: torch.Tensor) -> list[Any]:
    values: list[Any] = x.flatten(1).tolist()
    return values


def test_the_encoder_is_that_of_torch(page: Any) -> None:
    x = digits(20)
    found = page("xs => xs.map((x) => vae.posterior(Float32Array.from(x)))", flat(x))
    q = pretrained("vae2d-mnist").posterior(x)
    torch.testing.assert_close(torch.tensor([f["mean"] for f in found]), q.mean, **CLOSE)
    torch.testing.assert_close(torch.tensor([f["std"] for f in found]), q.stddev, **CLOSE)


def test_the_decoder_is_that_of_torch(page: Any) -> None:
    _ = torch.manual_seed(1)
    z = torch.randn(20, 2)
    found = page("zs => zs.map((z) => Array.from(sigmoid(vae.logits(z))))", z.tolist())
    wanted = pretrained("vae2d-mnist").likelihood(z).mean
    torch.testing.assert_close(torch.tensor(found), wanted.flatten(1), **CLOSE)


def test_the_terms_of_the_bound_are_those_of_torch(page: Any) -> None:
    x, model = digits(4), pretrained("vae2d-mnist")
    found = page("xs => xs.map((x) => vae.terms(x, vae.posterior(x)))", flat(x))
    q, num = model.posterior(x), 20_000
    kl = kl_divergence(q, model.prior(len(x)))
    _ = torch.manual_seed(2)
    for image, entry, mean, std, divergence in zip(x, found, q.mean, q.stddev, kl, strict=True):
        draws = -model.likelihood(mean + std * torch.randn(num, 2)).log_prob(
            image.expand(num, -1, -1, -1)
        )
        error = draws.std().item() / math.sqrt(num)
        assert entry["kl"] == pytest.approx(divergence.item(), rel=1e-4)
        assert entry["reconstruction"] == pytest.approx(draws.mean().item(), abs=5 * error)
        assert entry["bound"] == pytest.approx(entry["kl"] + entry["reconstruction"])


@pytest.fixture(scope="module")
def integrals(page: Any) -> torch.Tensor:
    """Of 40 digits log p(x), and minus the bound of the encoder and of the best q; it takes seconds."""
    found = page(
        """xs => {
            const map = [...decodedMap(vae, 51)].at(-1);
            return xs.map((x) => {
                const exact = evidence(vae, map, x, onMap(map, x));
                return [exact.logEvidence, ...[vae.posterior(x), exact].map((q) => vae.terms(x, q).bound)];
            });
        }""",
        flat(digits(40)),
    )
    return torch.tensor(found, dtype=torch.double)


def test_the_evidence_is_the_integral_over_the_plane(integrals: torch.Tensor) -> None:
    x, model = digits(40), pretrained("vae2d-mnist")
    line = torch.linspace(-6, 6, 501)
    z = torch.cartesian_prod(line, line)
    values = []
    for part in z.split(20_000):
        logits = model.decoder(part).flatten(1)
        rest = torch.nn.functional.softplus(logits).sum(1)
        values.append(x.flatten(1) @ logits.T - rest + model.prior(1).log_prob(part))
    wanted = torch.logsumexp(torch.cat(values, 1).double(), 1) + 2 * math.log(12 / 500)
    off = integrals[:, 0] - wanted
    # It is exact for a posterior of one mode, as most are; of two it may miss one. Other digits than MNIST's, which the
    # model has not seen, have broader and less regular posteriors.
    assert off.abs().quantile(0.8) < 0.1
    assert off.min() > -1.5
    assert off.max() < (0.1 if data.load("mnist", "test").name == "mnist" else 0.5)


def test_the_gap_is_never_negative_and_the_best_q_closes_it(integrals: torch.Tensor) -> None:
    log_evidence, *bounds = integrals.T
    encoder, best = (bound + log_evidence for bound in bounds)
    assert min(encoder.min(), best.min()) > -0.01
    assert best.median() < 0.3 < encoder.median()


@pytest.mark.parametrize("digit", range(10))
def test_a_digit_that_the_page_writes_is_centered_and_costs_what_digits_cost(
    page: Any, digit: int
) -> None:
    gray = torch.tensor(page("d => Array.from(toPixels(written(d)))", digit)).view(28, 28)
    place = torch.arange(28.0)
    for axis in (0, 1):
        ink = gray.sum(1 - axis)
        assert abs((ink * place).sum() / ink.sum() - 13.5) <= 0.5
        inked = place[ink > 0.5 * gray.max()]
        assert inked[-1] - inked[0] < 20
    low, _, high = load_file(harness.MODULES / "draw_reference.safetensors")["minus_bound"].tolist()
    x = (gray > 0.5).flatten().float().tolist()
    bound = page("x => vae.terms(x, vae.posterior(x)).bound", x)
    assert 0.5 * low < bound < high


def test_a_dot_is_a_drawing_too(page: Any) -> None:
    gray = torch.tensor(page("Array.from(toPixels([[[0.9, 0.1]]]))")).view(28, 28)
    assert gray.max() > 0.9
    assert gray[12:16, 12:16].sum() == gray.sum()


def test_the_reference_is_that_of_the_test_digits() -> None:
    if data.load("mnist", "test").name != "mnist":
        pytest.skip("MNIST is not there")
    stored = load_file(harness.MODULES / "draw_reference.safetensors")
    torch.testing.assert_close(stored, instrument_data.draw_reference(), rtol=0, atol=1.0)


def test_the_coordinates_of_the_map_are_quantiles(page: Any) -> None:
    z = torch.linspace(-5, 5, 41).double()
    found = torch.tensor(page("z => toMap(z)", z.tolist()), dtype=torch.double)
    torch.testing.assert_close(found, Normal(0.0, 1.0).cdf(z), rtol=1e-9, atol=1e-12)
    inner = z[8:-8].tolist()
    assert page("z => fromMap(toMap(z))", inner) == pytest.approx(inner, abs=1e-6)


def test_the_latent_decoder_is_that_of_torch(page: Any) -> None:
    _ = torch.manual_seed(3)
    z = torch.randn(20, 16)
    found = page("zs => zs.map((z) => Array.from(latent.decode(Float32Array.from(z))))", z.tolist())
    wanted = pretrained("conv-vae-mnist").likelihood(z).mean
    torch.testing.assert_close(torch.tensor(found), wanted.flatten(1), **CLOSE)


@pytest.mark.parametrize("t", [1, 37, 500, 1000])
def test_the_latent_denoiser_is_that_of_torch(page: Any, t: int) -> None:
    _ = torch.manual_seed(t)
    z = torch.randn(20, 16)
    found = page(
        "([zs, t]) => zs.map((z) => Array.from(latent.denoise(Float32Array.from(z), t)))",
        [z.tolist(), t],
    )
    wanted = pretrained("ldm-mnist").denoiser(z, torch.full((20,), t))
    torch.testing.assert_close(torch.tensor(found), wanted, **CLOSE)


@pytest.mark.parametrize("num", [2, 3, 20, 50])
def test_a_latent_digit_is_that_of_torch(page: Any, num: int) -> None:
    _ = torch.manual_seed(4)
    z, model = torch.randn(4, 16), pretrained("ldm-mnist")
    schedule = linear_schedule(1000).evenly(num)
    found = page(
        "([zs, num]) => zs.map((z) => sample(latent, Float32Array.from(z), num, 0).map((f) => Array.from(f.z)))",
        [z.tolist(), num],
    )
    wanted = torch.stack([*ddim_sample(model.denoiser, schedule, z)], 1)
    torch.testing.assert_close(torch.tensor(found), wanted, **CLOSE)


def test_the_schedule_is_that_of_torch(page: Any) -> None:
    found = torch.tensor(page("Array.from(logLeft)"), dtype=torch.double)
    torch.testing.assert_close(found, linear_schedule(1000).log_alpha_bar, rtol=1e-10, atol=0)


def test_the_forward_process_has_the_marginal_of_torch(page: Any) -> None:
    schedule, x, times = linear_schedule(1000), [-1.0, 1.0] * 5_000, [1, 300, 1000]
    found = page(
        """([x, times]) => {
            const film = forward(Float32Array.from(x), normal(5));
            return times.map((t) => Array.from(film[t]));
        }""",
        [x, times],
    )
    for t, noisy in zip(times, found, strict=True):
        ends = torch.tensor(noisy).view(-1, 2).T.double()
        scale, var = schedule.forward_coefficients(0, t)
        for values, mean in zip(ends, (-scale, scale), strict=True):
            assert abs(values.mean() - mean) < 5 * (var / len(values)).sqrt(), t
            assert abs(values.var() / var - 1) < 5 * math.sqrt(2 / len(values)), t


@pytest.mark.parametrize("t", [1, 300, 1000])
def test_the_divergence_from_the_prior_is_that_of_torch(page: Any, t: int) -> None:
    x = 2 * digits(1).flatten() - 1
    scale, var = linear_schedule(1000).forward_coefficients(0, t)
    wanted = kl_divergence(Normal(scale * x.double(), var.sqrt()), Normal(0.0, 1.0)).sum()
    assert page("([x, t]) => toPrior(x, t)", [x.tolist(), t]) == pytest.approx(
        wanted.item(), rel=1e-6
    )


# ---------------------------------------------------------------------------------------------- the U-Net of digits


def images(num: int, seed: int) -> torch.Tensor:
    return torch.randn(num, 1, 28, 28, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("t", "label"), [(1, 10), (37, 0), (500, 7), (1000, 3)])
def test_the_u_net_is_that_of_torch(page: Any, t: int, label: int) -> None:
    model, x = pretrained("ddpm-mnist-long"), images(2, t)
    found = page(
        "([xs, t, label]) => xs.map((x) => Array.from(digits.denoiser(label).denoise(Float64Array.from(x), t)))",
        [flat(x), t, label],
    )
    with torch.no_grad():
        wanted = model.denoiser(x, torch.full((2,), t), torch.full((2,), label))
    torch.testing.assert_close(torch.tensor(found), wanted.flatten(1), **CLOSE)
    none = page(
        "([x, t]) => Array.from(digits.denoiser().denoise(Float64Array.from(x), t))",
        [flat(x)[0], t],
    )
    with torch.no_grad():
        wanted = model.denoiser(x[:1], torch.full((1,), t))
    torch.testing.assert_close(torch.tensor(none), wanted.flatten(), **CLOSE)


@pytest.mark.parametrize("scale", [0.0, 1.0, 4.5])
def test_a_guided_film_is_that_of_torch(page: Any, scale: float) -> None:
    model, x, num = pretrained("ddpm-mnist-long"), images(1, 5), 3
    found = page(
        """([x, scale, num]) => {
            const model = guidedModel(digits, 6, scale);
            return Array.from(diffusion.sample(model, Float64Array.from(x), num, 0, () => 0), (f) => Array.from(f.x));
        }""",
        [flat(x)[0], scale, num],
    )
    denoiser = guided(model.denoiser, torch.tensor([6]), scale)
    with torch.no_grad():
        wanted = torch.cat([*ddim_sample(denoiser, model.schedule.evenly(num), x)])
    torch.testing.assert_close(torch.tensor(found), wanted.flatten(1), **CLOSE)


@pytest.mark.parametrize("repeats", [1, 2])
def test_in_painting_is_that_of_torch(
    page: Any, monkeypatch: pytest.MonkeyPatch, repeats: int
) -> None:
    """With the same numbers in place of noise, another one for each image that torch draws."""
    model, x, num = pretrained("ddpm-mnist-long"), images(1, 6), 3
    truth, observed = images(1, 7), torch.rand(28, 28) < 0.5
    draws = iter(range(1, 100))
    monkeypatch.setattr(torch, "randn_like", lambda like: torch.full_like(like, next(draws) / 20))
    film = inpaint_sample(
        model.denoiser, model.schedule.evenly(num), x, truth, observed.expand(1, 28, 28), repeats
    )
    wanted = torch.cat([*film])
    found = page(
        """([x, truth, observed, num, repeats]) => {
            // torch draws whole images: for what is invented, for the truth, and between repeats.
            const known = observed.reduce((a, b) => a + b, 0), times = diffusion.evenly(num), plan = [];
            times.forEach((_, k) => {
                const last = k === num - 1;
                for (let left = last ? 0 : repeats - 1; left >= 0; left--)
                    plan.push(last ? 0 : observed.length, known, ...(left ? [observed.length] : []));
            });
            let draw = 0, left = 0;
            const normal = () => {
                while (!left) left = plan[draw++];
                left -= 1;
                return draw / 20;
            };
            const images = [x, truth].map((values) => Float64Array.from(values));
            const film = diffusion.inpaint(digits.denoiser(), ...images, observed, num, repeats, normal);
            return Array.from(film, (f) => Array.from(f.x));
        }""",
        [flat(x)[0], flat(truth)[0], observed.flatten().int().tolist(), num, repeats],
    )
    torch.testing.assert_close(torch.tensor(found), wanted.flatten(1), **CLOSE)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_the_two_ends_of_ddim_are_those_of_torch(
    page: Any, monkeypatch: pytest.MonkeyPatch, eta: float
) -> None:
    """With eta = 1 it is the sampler of DDPM; all numbers in place of noise are a half."""
    model, x, num = pretrained("ddpm-mnist-long"), images(1, 8), 3
    found = page(
        """([x, num, eta]) => Array.from(
            diffusion.sample(digits.denoiser(), Float64Array.from(x), num, eta, () => 0.5), (f) => Array.from(f.x))""",
        [flat(x)[0], num, eta],
    )
    monkeypatch.setattr(torch, "randn_like", lambda like: torch.full_like(like, 0.5))
    sampler = ddpm_sample if eta else ddim_sample
    wanted = torch.cat([*sampler(model.denoiser, model.schedule.evenly(num), x)])
    torch.testing.assert_close(torch.tensor(found), wanted.flatten(1), **CLOSE)
