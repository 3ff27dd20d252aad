"""Whether an image obeys its sentence: painters that do, and one that never does, tell what the numbers must be."""

from functools import partial

import pytest
import torch
from networks import Network
from torch import Tensor, nn

from companion.data import ATTRIBUTES, landscapes, tokens
from companion.ddpm import Ddpm
from companion.denoisers import VPredictor
from companion.schedule import linear_schedule
from companion.zoo import comparisons, obedience
from companion.zoo.comparisons import compare_sentences
from companion.zoo.obedience import disobeyed, obeyed

SIZES = [len(values) for values in ATTRIBUTES.values()]


class Painter(VPredictor):
    """Paints into the first number of its maps how many words it was told."""

    def forward(self, x_t: Tensor, t: Tensor, /, *condition: Tensor) -> Tensor:
        x_hat = torch.zeros_like(x_t)
        x_hat[:, 0, 0, 0] = condition[0].count_nonzero(1)
        return x_hat


class Reader(nn.Module):
    """Finds the first value of all attributes where the image is painted like this, else the second."""

    def __init__(self, is_first) -> None:
        super().__init__()
        self.is_first = is_first

    def read(self, x: Tensor) -> Tensor:
        second = ~self.is_first(x)
        return second.long()[:, None].expand(-1, len(SIZES))


@pytest.fixture
def model() -> Ddpm:
    schedule = linear_schedule(30)
    network = Network(lambda x, t, label: x, num_words=70, max_words=24)
    return Ddpm(Painter(network, schedule), schedule, (4, 8, 8), schedule.beta)


def reader(monkeypatch, is_first) -> None:
    for module in (obedience, comparisons):
        monkeypatch.setattr(module, "landscape_reader", lambda: Reader(is_first))
        monkeypatch.setattr(module, "decoded_landscapes", lambda z: z)
    monkeypatch.setattr(comparisons, "landscape_codes", lambda x: x)


def test_what_is_read_is_compared_with_what_was_asked(model, monkeypatch):
    seen: list[Tensor] = []
    reader(monkeypatch, lambda z: seen.append(z) or z[:, 0, 0, 0] > 0)
    asked = torch.randint(2, (12, 8))
    assert torch.equal(obeyed(model, asked), asked == 0)
    assert seen[0].shape[2:] == (32, 32)  # as large as what the reader learned from
    values = disobeyed(model, torch.zeros(12, 4, 8, 8), asked)
    torch.testing.assert_close(values, asked.double().mean(1))


def test_a_sentence_tells_everything_and_guidance_goes_beyond_it(model, monkeypatch):
    seen: list[Tensor] = []
    reader(monkeypatch, lambda z: seen.append(z[:, 0, 0, 0]) or z[:, 0, 0, 0] > 0)
    asked = torch.zeros(40, 8).long()
    for scale, interval in ((1.0, (0, 99)), (3.0, (0, 99)), (3.0, (1, 2))):
        torch.manual_seed(0)
        obeyed(model, asked, scale, interval)
    one, three, last = seen
    assert one.min() >= 12 and one.max() <= 24  # words: the sentence without a word tells nothing
    assert len(one.unique()) > 1  # in other words each time
    torch.testing.assert_close(three, 3 * one, rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(last, one, rtol=1e-3, atol=1e-2)


def test_the_record_holds_every_scale_and_seed_and_what_is_real(model, monkeypatch):
    # An image of a rendering has no negative number, and so is read as one without any obedience.
    reader(monkeypatch, lambda z: z.flatten(1)[:, 0] > 1)
    found, values, metric = compare_sentences(model, 6, scales=(1.0, 2.0), num_seeds=2)
    assert found["scale"].tolist() == [1, 2]
    for kind, held_out in (("seen", False), ("held out", True)):
        asked = torch.stack([landscapes(6, 100 + seed, held_out).attributes for seed in range(2)])
        assert found[kind].shape == (2, 2, 6, 8)
        for scale in range(2):
            assert torch.equal(found[kind][scale].bool(), asked == 0)
        for way in ("real", "decoded"):
            assert torch.equal(found[f"{kind}: {way}"].bool(), asked == 1)
    torch.testing.assert_close(values, found["held out"][1].double().mean(-1).flatten())
    assert "held-out" in metric


def test_words_that_are_dropped_leave_a_sentence_without_words(model):
    from companion.guidance import classifier_free_loss, guided

    class Learns(VPredictor):
        def forward(self, x_t, t, /, *condition):
            return self.network(x_t, t, *condition)

    network = Network(lambda x, t, label: 0 * x, num_words=70, max_words=24)
    model.denoiser = Learns(network, model.schedule)
    label = tokens(["a red house", "a tree"]).repeat(200, 1)
    loss = partial(classifier_free_loss, model, torch.randn(400, 4, 8, 8), label)
    torch.manual_seed(0)
    loss(model.schedule.snr, 0.25)
    told = network.given[-1][2]
    dropped = ~told.any(1)
    assert 0.15 < dropped.double().mean() < 0.35
    assert torch.equal(told[~dropped], label[~dropped])
    guided(model.denoiser, label[:2], 2.0)(torch.zeros(2, 4, 8, 8), torch.tensor([3, 3]))
    first, second = (given[2] for given in network.given[-2:])
    assert torch.equal(first, label[:2]) and not second.any()
    for bad, message in (
        (label[:, :5], r"label must have shape \(batch, 24\)"),
        (label.double(), "label must hold integers"),
        (label + 70, r"label must lie in \[0, 70\]"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            guided(model.denoiser, bad, 2.0)
