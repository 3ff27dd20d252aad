"""The VAE that trains in the page: its update beside autograd and Adam, its measures beside quadrature, its use.

Whatever every instrument must do in its figure, test_instruments.py asks of all of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import harness
import pytest
import torch
from harness import TOLERANCE, close
from torch import nn
from torch.distributions import Normal, kl_divergence

if reason := harness.why_not():
    pytest.skip(reason, allow_module_level=True)


@pytest.fixture(scope="module")
def call(context: Any, base: str) -> Iterator[Callable[..., Any]]:
    """As of `harness.calling`."""
    with harness.calling(context, base + harness.modules()) as call:
        yield call


@pytest.fixture
def live(wake: harness.Wake) -> Any:
    """A page in which the instrument is awake, and rests."""
    return wake("fig-train-vae").page


def double(values: Any) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.double)


# ------------------------------------------------------------------------------------------------ the update

UPDATES = """async (m, [seed, std, beta, learned, num]) => {
    const { uniform, normal } = await import(new URL('kit.js', location.href));
    const { preset } = await import(new URL('vae_measures.js', location.href));
    const draw = uniform(seed), model = m.newModel(std, draw), list = (a) => m.arrays(a).map((each) => [...each]);
    const run = { model, adam: m.newAdam(model), points: preset('ring'), uniform: draw, normal: normal(seed), beta,
        learned };
    const start = list(model), updates = [];
    for (let k = 0; k < num; k++) {
        let now, count = 0;
        for (now of m.update(run)) count++;
        if (count !== 6) throw Error(`${count} steps`);
        updates.push({ x: [...now.x], noise: [...now.noise], z: [...now.z], decoded: [...now.decoded.y],
            terms: now.terms, gradient: list(now.gradient) });
    }
    return { start, updates, end: list(model) };
}"""


class Model(nn.Module):
    """The model of the page in torch, with the given weights."""

    def __init__(self, start: list[list[float]]) -> None:
        super().__init__()
        self.encoder, self.decoder = (
            nn.Sequential(nn.Linear(num, 32), nn.Tanh(), nn.Linear(32, 2)).double()
            for num in (2, 1)
        )
        self.log_std = nn.Parameter(torch.zeros(1, dtype=torch.double))
        with torch.no_grad():
            for parameter, values in zip(self.arrays(), start, strict=True):
                _ = parameter.copy_(double(values).reshape(parameter.shape))

    def arrays(self) -> list[nn.Parameter]:
        return [*self.encoder.parameters(), *self.decoder.parameters(), self.log_std]

    def posterior(self, x: torch.Tensor) -> Normal:
        mean, log_var = self.encoder(x).chunk(2, dim=1)
        return Normal(mean, (log_var / 2).exp())

    def likelihood(self, z: torch.Tensor) -> Normal:
        return Normal(self.decoder(z), self.log_std.exp())


def points(values: list[float]) -> torch.Tensor:
    return double(values).reshape(-1, 2)


@pytest.mark.parametrize("learned", [False, True], ids=["fixed", "learned"])
@pytest.mark.parametrize("beta", [0.0, 1.0, 2.5])
def test_twenty_updates_are_those_of_autograd_and_adam(
    call: Callable[..., Any], beta: float, learned: bool
) -> None:
    """Terms and every gradient at each update, and the parameters after twenty."""
    run = call("vae_training", UPDATES, [3, 0.2, beta, learned, 20])
    model = Model(run["start"])
    model.log_std.requires_grad_(True)
    trained = model.arrays() if learned else model.arrays()[:-1]
    optimizer = torch.optim.Adam(trained, lr=0.01)
    for update in run["updates"]:
        x, noise = points(update["x"]), double(update["noise"])[:, None]
        q = model.posterior(x)
        z = q.mean + q.stddev * noise
        p = model.likelihood(z)
        close(update["z"], z.detach())
        close(update["decoded"], p.mean.detach())
        reconstruction = p.log_prob(x).sum(1).mean()
        kl = kl_divergence(q, Normal(0.0, 1.0)).sum(1).mean()
        loss = beta * kl - reconstruction
        terms = [update["terms"][name] for name in ("reconstruction", "kl", "loss")]
        close(terms, torch.stack([reconstruction, kl, loss]).detach())
        model.zero_grad()
        loss.backward()
        for found, parameter in zip(update["gradient"], model.arrays(), strict=True):
            assert parameter.grad is not None
            close(found, parameter.grad)
        optimizer.step()
    moved = [
        (double(first) - double(last)).abs().max().item()
        for first, last in zip(run["start"], run["end"], strict=True)
    ]
    assert min(moved[:-1]) > 0.005 and (moved[-1] > 0.005) == learned
    for found, parameter in zip(run["end"], model.arrays(), strict=True):
        close(found, parameter.detach())


def test_a_seed_repeats_a_run_and_another_does_not(call: Callable[..., Any]) -> None:
    first, again, other = (
        call("vae_training", UPDATES, [seed, 0.2, 1, False, 3])["end"] for seed in (4, 4, 5)
    )
    assert first == again and first != other


# ------------------------------------------------------------------------------------------------ the measures


@pytest.mark.parametrize("std", [0.05, 0.2, 1.2])
def test_bound_evidence_and_aggregate_posterior_are_integrals(
    call: Callable[..., Any], std: float
) -> None:
    """After 300 updates, beside finer grids and whole lines; log p(x) is above the bound."""
    found = call(
        "vae_measures",
        """async (m, std) => {
            const t = await import(new URL('vae_training.js', location.href));
            const { uniform, normal } = await import(new URL('kit.js', location.href));
            const draw = uniform(1), model = t.newModel(std, draw), points = m.preset('clusters');
            const run = { model, adam: t.newAdam(model), points, uniform: draw, normal: normal(1), beta: 1 };
            for (let k = 0; k < 300; k++) for (const _ of t.update(run));
            return { weights: t.arrays(model).map((each) => [...each]), points: [...points],
                density: [...m.look(model, points).density], ...m.measure(model, points) };
        }""",
        std,
    )
    model, x = Model(found["weights"]), points(found["points"])
    prior = Normal(torch.zeros(()).double(), 1.0)
    with torch.no_grad():
        q = model.posterior(x)
        e = torch.linspace(-9, 9, 1801, dtype=torch.double)[:, None, None]
        log_p = model.likelihood(q.mean + q.stddev * e).log_prob(x).sum(-1)
        reconstruction = torch.trapezoid(log_p * prior.log_prob(e[..., 0]).exp(), e[:, 0, 0], dim=0)
        kl = kl_divergence(q, prior).sum(1)
        z = torch.linspace(-8, 8, 8001, dtype=torch.double)
        joint = model.likelihood(z[:, None]).log_prob(x[:, None]).sum(-1) + prior.log_prob(z)
        evidence = joint.logsumexp(1) + math.log(16 / 8000)
        line = torch.linspace(-5, 5, 501, dtype=torch.double)
        density = q.log_prob(line).exp().mean(0)
        least = torch.minimum(q.log_prob(z).exp().mean(0), prior.log_prob(z).exp())
    bound = (reconstruction - kl).mean()
    assert evidence.mean() > bound
    wanted = torch.stack([bound, reconstruction.mean(), kl.mean(), evidence.mean()])
    close([found[name] for name in ("bound", "reconstruction", "kl", "evidence")], wanted)
    assert (
        abs(found["covered"] - torch.trapezoid(least, z).item()) < 2e-3
    )  # kinks where the two cross
    difference = (double(found["density"]) - density).abs().max()
    assert difference < TOLERANCE * density.max()


@pytest.mark.parametrize("seed", range(10))
def test_the_ring_is_learned_from_every_seed(call: Callable[..., Any], seed: int) -> None:
    """After 4,000 updates, nine seconds of a page at sixty frames, samples of the prior decode to the ring."""
    share, sectors, evidence = call(
        "vae_measures",
        """async (m, seed) => {
            const t = await import(new URL('vae_training.js', location.href));
            const { uniform, normal, normals } = await import(new URL('kit.js', location.href));
            const draw = uniform(seed), model = t.newModel(0.2, draw), points = m.preset('ring');
            const run = { model, adam: t.newAdam(model), points, uniform: draw, normal: normal(1000 + seed), beta: 1 };
            for (let k = 0; k < 4000; k++) for (const _ of t.update(run));
            const means = t.decode(model, normals(2000, 9)).y, seen = new Set();
            let on = 0;
            for (let i = 0; i < 4000; i += 2) {
                if (Math.abs(Math.hypot(means[i], means[i + 1]) - 1) > 0.2) continue;
                on++;
                seen.add(Math.floor(18 * Math.atan2(means[i + 1], means[i]) / Math.PI));
            }
            return [on / 2000, seen.size, m.measure(model, points).evidence];
        }""",
        seed,
    )
    print(f"seed {seed}: {share:.3f} on the ring, {sectors} of 36 sectors, log p(x) {evidence:.2f}")
    assert share > 0.97 and sectors >= 32 and evidence > -1.5


# ------------------------------------------------------------------------------------------------ on a page


def click(page: Any, name: str, times: int = 1) -> None:
    for _ in range(times):
        page.get_by_role("button", name=name, exact=True).click()


def text(page: Any, part: str) -> str:
    return str(page.locator(f".train-{part}").inner_text())


def counted(page: Any) -> int:
    (count,) = re.findall(r"After ([\d,]+) update", text(page, "words"))
    return int(count.replace(",", ""))


def label(page: Any, canvas: int) -> str:
    return page.locator("canvas").nth(canvas).get_attribute("aria-label") or ""


def test_an_update_goes_in_six_steps(live: Any) -> None:
    """Each is marked in the row and told with its numbers; only the sixth counts."""
    assert live.locator("[aria-current]").count() == 0
    for step, words in enumerate(
        ("at random", "standard deviation", "ε from N(0, 1)", "root mean square", "KL", "Adam"), 1
    ):
        assert counted(live) == 0
        click(live, "Next step")
        assert text(live, "told").startswith(f"{step}. ") and words in text(live, "told")
        (marked,) = live.locator("[aria-current=step]").all()
        assert (
            marked.evaluate("(item) => [...item.parentElement.children].indexOf(item)") == step - 1
        )
        assert text(live, "told") in label(live, 0)
    assert counted(live) == 1
    click(live, "Next step", 2)
    click(live, "One update")  # ends the one under way
    assert counted(live) == 2


def test_it_trains_until_it_is_paused(live: Any) -> None:
    bound = r"bound (−?[\d.]+) nats"
    (before,) = re.findall(bound, text(live, "words"))
    click(live, "Train")
    live.wait_for_function(
        "() => Number(document.querySelector('.train-words').textContent"
        ".match(/After ([\\d,]+)/)[1].replace(',', '')) > 300"
    )
    click(live, "Pause")
    count, (after,) = counted(live), re.findall(bound, text(live, "words"))
    assert float(after.replace("−", "-")) > float(before.replace("−", "-")) + 2
    for canvas, word in ((0, "curve of the decoder"), (1, "covers"), (2, "reconstruction")):
        assert word in label(live, canvas)
    picture = "(canvas) => canvas.toDataURL()"
    seen = live.locator("canvas").first.evaluate(picture)
    live.wait_for_timeout(300)
    assert counted(live) == count and live.locator("canvas").first.evaluate(picture) == seen


def test_it_rests_out_of_sight(live: Any) -> None:
    live.evaluate(
        "() => document.body.append(Object.assign(document.createElement('div'), { style: 'height: 9000px' }))"
    )
    click(live, "Train")
    live.evaluate("() => scrollTo(0, 8000)")
    live.wait_for_timeout(700)
    count = label(live, 2)
    live.wait_for_timeout(700)
    assert label(live, 2) == count
    assert live.get_by_role("button", name="Pause").count() == 1  # and goes on when it is back
    live.evaluate("() => scrollTo(0, 0)")
    live.wait_for_function(
        "(count) => document.querySelectorAll('canvas')[2].getAttribute('aria-label') !== count",
        arg=count,
    )
    click(live, "Pause")


def test_the_seed_repeats_a_run_on_the_page(live: Any) -> None:
    seed = live.get_by_role("slider", name="seed")
    seen = []
    for value in ("0", "1", "0"):
        seed.fill(value)
        assert counted(live) == 0
        click(live, "One update", 5)
        seen.append(text(live, "words"))
    assert seen[0] == seen[2] != seen[1]
    click(live, "Restart")
    click(live, "One update", 5)
    assert text(live, "words") == seen[0]


def test_weight_and_noise_are_the_readers(live: Any) -> None:
    weight, noise = (live.get_by_role("slider", name=name) for name in ("weight", "noise"))
    for key, words in (
        ("End", "reconstruction − 4 KL, a looser bound"),
        ("Home", "need not be a bound"),
    ):
        weight.focus()
        live.keyboard.press(key)
        assert words in text(live, "words")
    before = text(live, "words")
    noise.focus()
    live.keyboard.press("End")
    assert noise.get_attribute("aria-valuetext") == "1.20" and text(live, "words") != before
    live.get_by_role("checkbox", name="learn σ").focus()
    live.keyboard.press("Space")
    assert noise.is_disabled()
    click(live, "One update", 30)
    assert float(noise.input_value()) < 1.2
    live.get_by_role("checkbox", name="learn σ").uncheck()
    assert noise.is_enabled()


# All that a fast pointer did since the frame before comes in one event.
COALESCED = """(canvas, path) => canvas.dispatchEvent(new PointerEvent("pointermove", { coalescedEvents:
    path.map(([clientX, clientY]) => new PointerEvent("pointermove", { clientX, clientY })) }))"""


def test_points_come_from_mouse_finger_and_keys_and_are_capped(live: Any) -> None:
    data, canvas = live.get_by_role("combobox", name="data"), live.locator("canvas").first
    status, pen = live.locator(".instrument-root .instrument-status"), live.locator(".train-pen")
    box = canvas.bounding_box()
    x, y, size = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, box["width"]

    def circle(turns: float, points: int) -> list[tuple[float, float]]:
        angles = [2 * math.pi * turns * k / points for k in range(points)]
        return [(x + size / 4 * math.cos(a), y + size / 4 * math.sin(a)) for a in angles]

    canvas.dispatch_event("pointerdown", {"pointerType": "touch", "pointerId": 7})
    assert data.input_value() == "ring"  # a finger on a preset scrolls
    pen.focus()
    live.keyboard.press("ArrowRight")
    live.keyboard.press("Space")
    assert data.input_value() == "own" and "201 points" in label(live, 0)
    live.mouse.move(x + size / 4, y)
    live.mouse.down()
    canvas.evaluate(COALESCED, circle(4, 210))
    live.mouse.up()
    assert "400 points are the most" in status.inner_text() and "400 points" in label(live, 0)
    data.select_option("own")
    assert "0 points so far" in status.inner_text()
    assert live.get_by_role("button", name="Train").is_disabled()
    live.mouse.move(x + size / 4, y)
    live.mouse.down()
    for at in circle(0.5, 30):
        live.mouse.move(*at)
    live.mouse.up()
    assert live.get_by_role("button", name="Train").is_enabled() and status.inner_text() == ""
    click(live, "One update", 3)
    assert counted(live) == 3
    data.select_option("spiral")
    assert "200 points" in label(live, 0) and counted(live) == 0 and status.inner_text() == ""


def test_on_a_phone_the_pictures_stand_below_each_other(live: Any) -> None:
    live.set_viewport_size(harness.PHONE)
    live.wait_for_timeout(100)
    boxes = [canvas.bounding_box() for canvas in live.locator("canvas").all()]
    assert all(a["y"] + a["height"] <= b["y"] for a, b in pairwise(boxes))
    assert live.evaluate("() => document.documentElement.scrollWidth") <= harness.PHONE["width"]
