"""The ladder whose levels are redrawn by hand: its networks beside torch's, its redraws, its use.

Whatever every instrument must do in its figure, test_instruments.py asks of all of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import harness
import pytest
import torch
from harness import close
from safetensors.torch import load_file
from torch.distributions import kl_divergence

from book import instrument_data
from companion import data
from companion.distributions import diagonal_normal, normal_product
from companion.hierarchical_vae import HierarchicalVae
from companion.zoo import pretrained

if reason := harness.why_not():
    pytest.skip(reason, allow_module_level=True)

DIGITS = load_file(harness.MODULES / "ladder_digits.safetensors")["images"]
LADDER = pretrained("hvae-mnist")
assert isinstance(LADDER, HierarchicalVae)


@pytest.fixture(scope="module")
def call(context: Any, base: str) -> Iterator[Callable[..., Any]]:
    """`call(function, argument)`: what a function of the ladder's modules, its model and an argument makes of them."""
    script = """async () => {
        window.m = {};
        for (const name of ["kit", "ladder_model", "ladder"]) Object.assign(m, await import(`./${name}.js`));
        window.ladder = m.ladderModel(m.parseTensors(await (await fetch("hvae-mnist.safetensors")).arrayBuffer()));
    }"""
    with harness.evaluating(context, base + harness.modules(), script) as call:
        yield call


@pytest.fixture
def live(wake: harness.Wake) -> Any:
    """A page in which the instrument is awake."""
    return wake("fig-from-the-top").page


def images() -> torch.Tensor:
    """The digits of the page, and random pixels."""
    _ = torch.manual_seed(0)
    return torch.cat([DIGITS.view(-1, 1, 28, 28).float(), (torch.rand(2, 1, 28, 28) < 0.2).float()])


def noise(num: int) -> list[torch.Tensor]:
    _ = torch.manual_seed(1)
    return [torch.randn(num, *shape) for shape in LADDER.latent_shapes]


@torch.no_grad()
def walk(x: torch.Tensor, sees: list[bool], noise: list[torch.Tensor]) -> dict[str, Any]:
    """The same way down in torch, in double precision, from the networks of the companion."""
    model = pretrained("hvae-mnist").double()
    assert isinstance(model, HierarchicalVae)
    features, T = model.encode(x.double()), model.num_latents
    z: list[torch.Tensor] = [torch.empty(0)] * T
    kl: list[torch.Tensor] = [torch.empty(0)] * T
    for t in range(T, 0, -1):
        if t == T:
            q, p = model.posterior(*features), model.prior(len(x))
        else:
            q, p = model.inner(t, z[t], *features)
        drawn = q if sees[t - 1] else p
        z[t - 1] = drawn.mean + drawn.stddev * noise[t - 1].double()
        kl[t - 1] = kl_divergence(q, p)
    return {"z": z, "kl": torch.stack(kl, 1), "image": model.likelihood(z[0]).mean.flatten(1)}


# ------------------------------------------------------------------------------------------------ the networks


@pytest.mark.parametrize("sees", ["11111", "00111", "11110", "10000", "00000", "01010"])
def test_latents_divergences_and_images_are_those_of_torch(
    call: Callable[..., Any], sees: str
) -> None:
    """Encoder, posteriors, priors and decoder along one way down; `sees` has level 1 first."""
    x, seen = images(), [mark == "1" for mark in sees]
    draws = noise(len(x))
    found = call(
        """([xs, sees, noise]) => xs.map((x, n) => {
            const { z, kl } = ladder.walk(ladder.messages(Float32Array.from(x)), sees, noise.map((each) => each[n]));
            return { z: z.map((values) => Array.from(values)), kl, image: Array.from(ladder.decode(z[0])) };
        })""",
        [x.flatten(1).tolist(), seen, [each.tolist() for each in draws]],
    )
    wanted = walk(x, seen, draws)
    for level, values in enumerate(wanted["z"]):
        close([entry["z"][level] for entry in found], values)
    close([entry["image"] for entry in found], wanted["image"])
    close([entry["kl"] for entry in found], wanted["kl"])


def test_a_prediction_times_a_message_is_that_of_torch(call: Callable[..., Any]) -> None:
    """Up to the bounds of both logarithms, where one of the two decides alone."""
    log = torch.tensor([-10.0, -3.0, 0.0, 2.0, 10.0]).double()
    log_variance, log_precision = (
        part.flatten() for part in torch.meshgrid(log, log, indexing="ij")
    )
    mean, said = (torch.linspace(*ends, 25).double() for ends in ((-3, 2), (5, -4)))
    p = diagonal_normal(mean[None], (log_variance / 2).exp()[None])
    q = normal_product(p, said[None], log_precision[None])
    found = call(
        "([p, said]) => { const q = m.product(p, said); return [q.mean, q.std, m.divergence(q, p)]; }",
        [
            {"mean": mean.tolist(), "std": p.stddev[0].tolist()},
            {"mean": said.tolist(), "logPrecision": log_precision.tolist()},
        ],
    )
    close(found[0], q.mean)
    close(found[1], q.stddev)
    assert found[2] == pytest.approx(kl_divergence(q, p).item(), rel=1e-6)


# ------------------------------------------------------------------------------------------------ the redraws

REDRAWS = """([xs, sees, seed]) => xs.map((x) => {
    const made = [...m.redraws(ladder, Float32Array.from(x), sees, seed)].at(-1), { whole } = made;
    const images = made.images.map((image) => Array.from(image));
    return { ...made, images, whole: { ...whole, image: Array.from(whole.image) } };
})"""


def redrawn(call: Callable[..., Any], sees: str, seed: int = 1) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = call(
        REDRAWS, [DIGITS.flatten(1).tolist(), [mark == "1" for mark in sees], seed]
    )
    return found


def test_what_all_levels_see_is_drawn_alike_and_costs_what_is_marked(
    call: Callable[..., Any],
) -> None:
    for entry in redrawn(call, "11111"):
        assert entry["images"] == [entry["whole"]["image"]] * 8
        assert entry["kl"] == pytest.approx(entry["whole"]["kl"])
        assert entry["error"] == pytest.approx(entry["whole"]["error"])


def test_levels_that_do_not_see_the_digit_cost_nothing_and_differ(call: Callable[..., Any]) -> None:
    found, other = redrawn(call, "00111"), redrawn(call, "00111", seed=2)
    for entry, next_draw in zip(found, other, strict=True):
        assert entry["kl"][:2] == [0, 0]
        assert entry["kl"][2:] == pytest.approx(
            entry["whole"]["kl"][2:]
        )  # the same way from the top
        assert len({tuple(image) for image in entry["images"] + next_draw["images"]}) == 16
    images = torch.tensor([entry["images"] for entry in found]).double()
    error = (images - DIGITS.view(10, 1, 784).double()).square().sum(2).mean(1)
    close([entry["error"] for entry in found], error)


def test_what_the_hint_lets_the_reader_see(call: Callable[..., Any]) -> None:
    """Three levels hold a third of the nats and the digit; levels repair what is drawn above them, and pay for it."""
    few, repaired, alone = (redrawn(call, sees) for sees in ("00111", "11110", "10000"))
    whole = sum(sum(entry["whole"]["kl"]) for entry in few)
    assert sum(sum(entry["kl"]) for entry in few) < 0.5 * whole
    assert sum(sum(entry["kl"]) for entry in repaired) > 1.5 * whole
    assert sum(sum(entry["kl"]) for entry in alone) > 3 * whole
    judge = pretrained("classifier-mnist")
    labels = judge(DIGITS.view(-1, 1, 28, 28).float()).argmax(1)
    shares = []
    for entries in (few, repaired, alone):
        tiles = torch.tensor([entry["images"] for entry in entries]).view(80, 1, 28, 28)
        shares.append((judge(tiles).argmax(1) == labels.repeat_interleave(8)).double().mean())
    print("the same digit:", ", ".join(f"{share:.0%}" for share in shares))
    assert shares[0] > 0.7 and shares[1] > 0.8 and shares[2] < 0.6


def test_the_digits_are_test_digits() -> None:
    if data.load("mnist", "test").name != "mnist":
        pytest.skip("MNIST is not there")
    assert torch.equal(DIGITS, instrument_data.ladder_digits()["images"])


# ------------------------------------------------------------------------------------------------ in use


def shows(page: Any, place: str, words: str) -> None:
    """Wait until the text of an element, or what a canvas says, has these words: the redraws take some frames."""
    page.wait_for_function(
        "([place, words]) => { const e = document.querySelector(place);"
        " return (e.getAttribute('aria-label') ?? e.textContent).includes(words); }",
        arg=[place, words],
    )


PAD, PICTURE, STATUS = ".ladder-pad canvas", ".ladder-images canvas", ".ladder-status"


def nats(page: Any) -> list[str]:
    texts: list[str] = page.locator(".instrument-meter output").all_inner_texts()
    return texts


def test_levels_are_chosen_by_keyboard_and_the_words_say_which(live: Any) -> None:
    shows(live, PICTURE, "levels 5, 4 and 3 see it")
    shows(live, STATUS, "What the upper levels leave open")
    assert [text == "drawn anew" for text in nats(live)] == [False] * 3 + [True] * 2
    live.get_by_role("checkbox", name="level 5").focus()
    live.keyboard.press("Space")
    shows(live, PICTURE, "levels 4 and 3 see it")
    shows(live, STATUS, "Lower levels correct")
    assert nats(live)[0] == "drawn anew"
    (paid,) = re.findall(r"Together ([\d.]+) nats", live.locator(STATUS).inner_text())
    assert sum(map(float, nats(live)[1:3])) == pytest.approx(float(paid), abs=0.11)
    for level, words in ((4, "level 3 sees it"), (3, "no level sees it")):
        live.get_by_role("checkbox", name=f"level {level}").click()
        shows(live, PICTURE, words)
    shows(live, STATUS, "samples of the model. Together 0.0 nats")
    for level in (5, 4, 3, 2, 1):
        live.get_by_role("checkbox", name=f"level {level}").click()
    shows(live, STATUS, "nothing is drawn anew")
    both = re.findall(r"([\d.]+) nats", live.locator(STATUS).inner_text())
    assert both[0] == both[1]


def test_digits_are_taken_written_drawn_and_wiped_out(live: Any) -> None:
    shows(live, PAD, "with an image")
    for name in ("Next test digit", "Next draw", "7"):
        before = live.locator(STATUS).inner_text()
        live.get_by_role("button", name=name, exact=True).click()
        live.wait_for_function(
            "([place, before]) => document.querySelector(place).innerText !== before",
            arg=[STATUS, before],
        )
    shows(live, PAD, "with a drawing")
    live.get_by_role("button", name="Clear").click()
    for _ in range(2):
        shows(live, PAD, "empty")
        shows(live, STATUS, "The pad is empty")
        shows(live, PICTURE, "No digit")
        assert nats(live) == [""] * 5
        live.get_by_role("button", name="Next draw").click()
    live.get_by_role("button", name="Next test digit").click()
    shows(live, STATUS, "Together")
    shows(live, PAD, "with an image")
    box = live.locator(PAD).bounding_box()
    live.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20)
    live.mouse.down()
    live.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] - 20, steps=8)
    live.mouse.up()
    shows(live, PAD, "with a drawing")
    shows(live, STATUS, "Together")


def test_the_last_of_many_wishes_is_shown(live: Any) -> None:
    """Wishes that come faster than they are granted: at the end all is of the last one."""
    live.evaluate(
        "() => { const boxes = [...document.querySelectorAll('figure input[type=checkbox]')];"
        " for (let i = 0; i < 20; i++) boxes[i % 5].click(); boxes[0].click(); }"
    )
    shows(live, PICTURE, "levels 4 and 3 see it")
    live.wait_for_timeout(500)
    assert nats(live)[0] == "drawn anew" and float(nats(live)[1]) > 0
