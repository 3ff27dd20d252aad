"""The experiments of chapter 14: what they count is compared with cases counted by hand, and with brute force."""

import math
import sys
from dataclasses import replace

import pytest
import torch

from companion.data import ATTRIBUTES, DRAWS, captions, landscapes, tokens
from companion.denoisers import VPredictor
from companion.experiments import first_stage, memorization, odd_sentences, sentence_parts
from companion.metrics import proportion
from companion.zoo.architectures import text_ddpm

SIZES = torch.tensor([len(values) for values in ATTRIBUTES.values()])


def asked(num: int) -> torch.Tensor:
    return (torch.rand(num, len(SIZES)) * SIZES).long()


def test_few_scenes_are_repeated_and_tested_on_all(monkeypatch) -> None:
    # Two thousand images take seconds: what the renderer is told stands for them.
    renderer = sys.modules["companion.data.landscapes"]  # of the name of its function
    monkeypatch.setattr(renderer, "render_landscapes", lambda attributes, jitter, pixels: jitter)
    few = memorization.First("landscapes", (3, 32, 32), 25, (8,), first=10)
    x, attributes = few.examples("train")
    whole = landscapes(25)
    for part, all_of in ((x, whole.images), (attributes, whole.attributes)):
        assert torch.equal(part, torch.cat([all_of[:10], all_of[:10], all_of[:5]]))
    assert torch.equal(few.examples("test")[1], landscapes(2_000, 1).attributes)


def test_a_quarter_of_the_steps_and_all_else_equal() -> None:
    short, whole = memorization.shortened(100), memorization.recipe("text-scenes")
    assert short.epochs * 4 == whole.epochs and short.data.num == whole.data.num
    for same in ("model", "loss", "batch_size", "lr", "schedule", "prepare"):
        assert getattr(short, same) == getattr(whole, same)


def test_a_network_is_trained_where_nothing_else_has_gradients() -> None:
    few = replace(memorization.shortened(10), batch_size=8, epochs=1)
    few = replace(few, data=replace(few.data, num=16))
    with torch.no_grad():  # as in every condition
        model = memorization.learned(few)
    assert isinstance(model.denoiser, VPredictor)
    last = model.denoiser.network.exit[1].weight  # zero at the start
    assert last.abs().max() > few.lr / 2 and not last.requires_grad


def test_the_nearest_row_is_found() -> None:
    x, y = torch.rand(60, 12), torch.rand(90, 12)
    near, rows = memorization.nearest(x, y)
    brute = (x[:, None] - y).square().mean(2).sqrt().min(1)
    torch.testing.assert_close(near, brute.values, rtol=1e-4, atol=1e-5)
    assert torch.equal(rows, brute.indices)


def test_copies_are_nearer_to_the_training_scenes_and_strangers_are_not(monkeypatch) -> None:
    def rows(images):
        return images.flatten(1)[:, :40]

    sets = {seed: torch.rand(400, 3, 32, 32) for seed in (0, 7)}
    known = {seed: {"pixels": x.flatten(1), "features": rows(x)} for seed, x in sets.items()}
    monkeypatch.setattr(memorization, "scenes", known.get)
    monkeypatch.setattr(memorization, "features", rows)
    copies = sets[0][:50] + 0.01 * torch.randn(50, 3, 32, 32)
    for kind in ("pixels", "features"):
        assert memorization.closeness(copies, 60)[f"nearer, {kind}"] == 100
        far = memorization.closeness(torch.rand(400, 3, 32, 32), 200, "new: ")
        assert 25 < far[f"new: nearer, {kind}"] < 75


def test_the_best_scene_has_most_of_what_is_asked(monkeypatch) -> None:
    known, wanted = asked(30), asked(12)
    monkeypatch.setattr(memorization, "scenes", lambda seed: {"attributes": known})
    best = [max((row == other).sum().item() for other in known[:20]) / 8 for row in wanted]
    assert memorization.best_scene(wanted, 20) == pytest.approx(100 * sum(best) / len(best))
    assert memorization.best_scene(known[:20], 20) == 100


def test_words_are_shuffled_or_left_out() -> None:
    texts = captions(landscapes(20).attributes, torch.rand(20, DRAWS))
    plain, shuffled, content = (
        sentence_parts.reordered(texts, order) for order in ("as they are", "shuffled", "content")
    )
    assert torch.equal(tokens(plain), tokens(texts)) and shuffled != plain
    assert [sorted(text.split()) for text in shuffled] == [sorted(text.split()) for text in plain]
    assert not {word for text in content for word in text.split()} & sentence_parts.SMALL
    (text,) = sentence_parts.reordered(["a red house, with a blue home behind"], "content")
    assert text == "red house blue home behind"


def test_houses_that_exchange_their_colors_are_counted() -> None:
    wanted = torch.zeros(4, 8).long()
    wanted[:, 0], wanted[:, 3] = torch.tensor([0, 0, 2, 2]), torch.tensor([4, 4, 3, 0])
    read = wanted.clone()
    read[0, 0], read[0, 3] = 3, 1
    # The third has one color alone, the fourth no second house.
    assert sentence_parts.exchanged(read, wanted) == 50
    assert sentence_parts.exchanged(wanted, wanted) == 0


def test_the_distance_is_small_for_renderings_of_the_same_attributes(monkeypatch) -> None:
    monkeypatch.setattr(sentence_parts, "axes", lambda kind: torch.eye(3072)[:, ::160])
    x, attributes = landscapes(60, 3)
    near = sentence_parts.distance(x, attributes, "pixels")
    assert 0 < near < 0.3 * sentence_parts.distance(1 - x, attributes, "pixels")


def test_shares_are_those_of_the_images_with_wilson_intervals() -> None:
    read, colors = asked(50), asked(50)[:, :2] % 6
    hits = {
        "first": odd_sentences.is_house(0),
        "behind": odd_sentences.is_behind(1),
        "one or two": odd_sentences.has(odd_sentences.TREES, 1, 2),
    }
    found = odd_sentences.shares(read, colors, hits)
    by_hand = {
        "first": [row[0] == pair[0] for row, pair in zip(read, colors, strict=True)],
        "behind": [row[3] - 1 == pair[1] for row, pair in zip(read, colors, strict=True)],
        "one or two": [row[4] in (1, 2) for row in read],
    }
    for name, right in by_hand.items():
        share = proportion(torch.tensor(right))
        values = [found[name], found[f"{name}, low"], found[f"{name}, high"]]
        assert values == pytest.approx([100 * share.value, 100 * share.low, 100 * share.high])
    for name, values in ATTRIBUTES.items():
        assert sum(found[f"{name} {value}"] for value in values) == pytest.approx(100)


def test_every_form_of_sentence_has_known_words() -> None:
    for form, _ in odd_sentences.FORMS.values():
        assert tokens([form.format(a="red", b="blue", c="white")]).any()


def test_pixels_cost_what_the_maps_cost() -> None:
    pixels, maps = first_stage.pixel_ddpm(), text_ddpm()
    networks = [model.denoiser.network for model in (pixels, maps)]
    assert len({network.places.shape for network in networks}) == 1
    counts = [sum(p.numel() for p in network.parameters()) for network in networks]
    assert counts[0] / counts[1] == pytest.approx(1, abs=0.04)
    assert len(first_stage.pixel_ddpm(4).denoiser.network.places) == 64
    chosen, x = first_stage.of_pixels("sixth", 4.0, "symmetric"), torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(chosen.restore(chosen.prepare(x)), x)
    assert chosen.lr == 4 * first_stage.memorization.shortened().lr


def test_sharpness_is_that_of_neighbors() -> None:
    x = torch.zeros(2, 3, 32, 32)
    assert first_stage.sharpness(x) == 0
    x[..., ::2] = 0.1  # stripes: each pixel differs from those beside it, none from those above
    assert first_stage.sharpness(x) == pytest.approx(5)
    assert math.isclose(first_stage.sharpness(x.mT), first_stage.sharpness(x), rel_tol=1e-5)
