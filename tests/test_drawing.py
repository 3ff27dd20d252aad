"""Tests of companion.zoo.drawing: what each kind of model draws is what its sampler does from the same noise."""

import pytest
import torch
from tiny_recipes import small_ddpm, tiny, tiny_vae

from companion.data import tokens
from companion.flows import Flow
from companion.guidance import extrapolated, guided
from companion.mean_flows import MeanFlow
from companion.networks.classifier import DigitClassifier
from companion.networks.unet import UNet
from companion.samplers import ddim_sample, ddpm_sample
from companion.zoo import drawing as module
from companion.zoo.checkpoints import at_once
from companion.zoo.drawing import SAMPLERS, Wish, drawing, in_parts, preview
from companion.zoo.recipes import RECIPES

pytestmark = pytest.mark.usefixtures("no_gradients")


@pytest.fixture
def no_gradients():
    with torch.no_grad():
        yield


def a_flow(kind, **options):
    flow = kind(UNet((1, 8, 8), 8, (1,), blocks=1, **options), (1, 8, 8))
    torch.nn.init.normal_(flow.network.exit[-1].weight, std=0.1)
    return flow.eval()


def drawn(model, *wish):
    torch.manual_seed(0)
    return drawing(model, Wish("it", *wish))()


def test_a_flow_goes_by_steps_of_its_velocity():
    flow = a_flow(Flow)
    torch.manual_seed(0)
    x = torch.randn(3, 1, 8, 8)
    for u in (1.0, 0.75, 0.5, 0.25):
        x = x - 0.25 * flow(x, torch.full((3,), u))
    torch.testing.assert_close(drawn(flow, 3, 4), x)


def test_an_average_velocity_needs_one_step():
    flow = a_flow(MeanFlow, num_factors=1)
    torch.manual_seed(0)
    x = torch.randn(3, 1, 8, 8)
    x = x - flow(x, torch.ones(3), torch.ones(3))
    torch.testing.assert_close(drawn(flow, 3), x)


def test_a_sentence_guides_what_is_drawn():
    model = RECIPES["text-scenes"].model().eval()
    torch.nn.init.normal_(model.denoiser.network.exit[-1].weight, std=0.1)
    torch.nn.init.normal_(model.denoiser.network.time[-1].weight, std=0.1)
    torch.nn.init.normal_(model.denoiser.network.blocks[0].read.out.weight, std=0.1)
    text = "a red house, two trees"
    for scale in (None, 1.0, 5.0):
        torch.manual_seed(0)
        x_T = model.prior(3).sample()
        denoiser = guided(model.denoiser, tokens([text] * 3), 2.0 if scale is None else scale)
        *_, x = ddim_sample(denoiser, model.schedule.evenly(4), x_T)
        wish = Wish("it", 3, 4, text=text, scale=scale)
        torch.manual_seed(0)
        torch.testing.assert_close(drawing(model, wish)(), x)
    assert not torch.equal(x, drawn(model, 3, 4))
    with pytest.raises(ValueError, match="scale belongs to a text or a guide; 3.0 was given"):
        drawing(model, Wish("it", 3, scale=3.0))
    with pytest.raises(ValueError, match="text belongs to a model of sentences; 'it' is none"):
        drawing(small_ddpm(), Wish("it", 3, text=text))


def test_a_weaker_model_guides_in_the_middle_alone():
    model, weaker = small_ddpm().eval(), small_ddpm().eval()
    for each, std in ((model, 0.1), (weaker, 0.3)):
        torch.nn.init.normal_(each.denoiser.network.exit[-1].weight, std=std)
    T = model.schedule.num_steps
    for scale in (None, 1.0, 5.0):
        torch.manual_seed(0)
        x_T, k = model.prior(3).sample(), 2.0 if scale is None else scale
        denoiser = extrapolated(model.denoiser, weaker.denoiser, k, (0.4 * T, 0.9 * T))
        *_, x = ddim_sample(denoiser, model.schedule.evenly(5), x_T)
        torch.testing.assert_close(drawn(model, 3, 5, None, 50, None, scale, weaker), x)
    assert not torch.equal(x, drawn(model, 3, 5))
    for unfit in (tiny_vae(), RECIPES["ddpm-toy2d"].model()):
        with pytest.raises(ValueError, match=r"guide must be a diffusion model of x of .* \(1, 8"):
            drawing(model, Wish("it", 3, guide=unfit))
    for other, text in ((tiny_vae(), None), (RECIPES["text-scenes"].model(), "a red house")):
        with pytest.raises(ValueError, match="guide belongs to a diffusion model without a text"):
            drawing(other, Wish("it", 3, text=text, guide=weaker))


def test_a_diffusion_model_draws_by_the_sampler_of_that_name():
    model = small_ddpm().eval()
    torch.manual_seed(0)
    x_T, schedule = torch.randn(3, 1, 8, 8), model.schedule.evenly(5)
    *_, x = ddpm_sample(model.denoiser, schedule, x_T, schedule.beta)
    assert torch.equal(drawn(model, 3, 5, "beta"), x)
    by_name = {name: drawn(model, 3, 5, name) for name in SAMPLERS}
    assert torch.equal(by_name["ddim"], drawn(model, 3, 5))
    assert len({x.sum().item() for x in by_name.values()}) == len(SAMPLERS)


def test_where_no_steps_are_given_there_are_no_more_than_the_model_has():
    model = small_ddpm().eval()
    assert torch.equal(drawn(model, 2), drawn(model, 2, 12))


def test_a_chain_draws_all_at_once_and_others_by_chunks(monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 2)
    parts = []

    def journal(function, *batch):
        parts.append(len(batch[0]))
        return function(*batch)

    for model, expected in ((tiny_vae(), [5]), (small_ddpm(), [2, 2, 1])):
        parts.clear()
        x = drawing(model.eval(), Wish("it", 5))(journal)
        assert parts == expected and x.shape == (5, 1, 8, 8)


def test_parts_are_those_of_a_whole():
    x = torch.arange(7.0)
    for chunk in (1, 3, 7, 100):
        found = in_parts(at_once, lambda part: iter([0 * part, 2 * part]), x, chunk=chunk)
        assert torch.equal(found, 2 * x)


def test_a_preview_is_drawn_or_reconstructed_and_a_judge_has_none():
    x = torch.rand(4, 1, 8, 8)
    for model in (small_ddpm(), tiny_vae(), a_flow(Flow), a_flow(MeanFlow, num_factors=1)):
        torch.manual_seed(0)
        first = preview(model.eval(), x)
        assert first.shape == x.shape and not torch.equal(first, preview(model, x))
    coder = tiny()
    assert torch.equal(preview(coder, x), coder(x))
    assert preview(DigitClassifier(), x) is None


def test_what_generates_nothing_is_refused_by_its_name():
    with pytest.raises(ValueError, match="name must be a model that generates; 'it' is a Digit"):
        drawing(DigitClassifier(), Wish("it", 1))
