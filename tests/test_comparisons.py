"""Tests of companion.zoo.comparisons: what is compared with a diffusion model, from small ones."""

from functools import partial

import pytest
import torch

from companion.data import SCENE_FACTORS, nearest_scenes, render_scenes, scenes
from companion.ddpm import image_ddpm
from companion.denoisers import NoisePredictor
from companion.flows import Flow, line_time
from companion.networks.classifier import DigitClassifier
from companion.networks.unet import UNet
from companion.schedule import linear_schedule
from companion.zoo import comparisons
from companion.zoo.comparisons import (
    compare_scales,
    compare_spacings,
    compare_steps,
    compare_with_renders,
    spaced_samplers,
)
from companion.zoo.drawing import SAMPLERS
from companion.zoo.pretrained import pretrained
from companion.zoo.recipes import RECIPES


def judge():
    torch.manual_seed(0)
    return DigitClassifier().eval()


def test_few_steps_leave_the_features_of_every_sampler():
    schedule = linear_schedule(12, 0.01, 0.5)
    model = image_ddpm(UNet((1, 28, 28), 4, (1, 1), blocks=1), schedule)
    found, values, _ = compare_steps(model, judge(), 7, num_steps=(2, 5))
    assert set(found) == {f"{kind} {steps}" for kind in SAMPLERS for steps in (2, 5)}
    assert all(part.shape == (7, 64) and part.isfinite().all() for part in found.values())
    assert not torch.equal(found["ddim 2"], found["ddim 5"])
    assert not torch.equal(found["beta 5"], found["beta-tilde 5"])
    assert values.shape == (7,) and 0.1 < values.mean() <= 1


def test_guidance_leaves_the_features_of_every_scale(unchecked):
    network = UNet((1, 28, 28), 4, (1, 1), blocks=1, num_classes=10)
    for parameter in network.parameters():  # some start at 0: then no class makes a difference
        torch.nn.init.normal_(parameter, std=0.3)
    model = image_ddpm(network, linear_schedule(30, 0.01, 0.3))
    compare = partial(compare_scales, model, judge(), scales=(0.0, 1.0, 4.0))
    found, values, _ = compare(20)
    assert found["label"].tolist() == 2 * [*range(10)] and found["scale"].tolist() == [0, 1, 4]
    assert found["features"].shape == (3, 20, 64) and found["samples"].shape == (3, 20, 1, 28, 28)
    pair = found["samples"][:, [3, 13]].flatten(2) / 255  # both of class 3
    assert torch.allclose(found["spread"][:, 3], pair.var(1).sum(1), rtol=0.02)
    # At scale 0, examples 0 and 10 differ by their noise alone; above, the image follows the class.
    assert not torch.equal(found["samples"][0], found["samples"][1])
    assert not torch.equal(found["samples"][1], found["samples"][2])
    assert values.shape == (20,) and 0 <= values.mean() <= 1
    with pytest.raises(ValueError, match="num must be at least 20; 19 was given"):
        compare(19)


def test_scenes_are_compared_with_those_of_the_renderer(monkeypatch):
    """A network that makes what it is told is at a distance of 0, and one that is told nothing is not."""
    quick = partial(nearest_scenes, num_starts=1, rounds=8)
    monkeypatch.setattr(comparisons, "nearest_scenes", quick)
    real, asked, _ = scenes(4, 1)

    class Renders(torch.nn.Module):
        num_factors = 5

        def forward(self, x_t, t, causes=None):
            if causes is None or causes.isnan().all():
                return torch.zeros_like(x_t)
            low, high = torch.tensor(list(SCENE_FACTORS.values())).T
            return 2 * render_scenes(low + (high - low) * (causes.clamp(-1, 1) + 1) / 2) - 1

    class KnowsTheImage(NoisePredictor):
        def forward(self, x_t, t, *condition):
            return self.network(x_t, t, *condition)

    model = RECIPES["ddpm-scenes"].model()
    model.denoiser = KnowsTheImage(Renders(), model.schedule)
    found, values, _ = compare_with_renders(
        model, pretrained("vae-scenes"), torch.cat([real[:2], real[:2]]), 4, num_shown=3
    )
    assert torch.equal(found["asked"], asked)
    width = torch.tensor([high - low for low, high in SCENE_FACTORS.values()])
    for way in ("real", "conditional", "fresh noise"):
        assert ((found[f"{way}: causes"] - asked).abs() / width).max() < 0.1
        assert found[f"{way}: distance"].max() < 1
    assert torch.equal(found["conditional"], (255 * real[:3]).round().byte())
    assert torch.equal(values, found["conditional: distance"].double())
    assert found["unconditional: distance"].min() > 10  # a gray image
    # In guidance the difference from the gray image is doubled.
    assert found["guided: distance"].min() > 10 and found["VAE"].shape == (3, 3, 32, 32)
    # Two of the four are in the training set.
    near = found["real: training distance"]
    assert near[:2].max() < 0.1 and near[2:].min() > 1


def test_networks_and_spacings_are_compared_by_their_distance():
    network = partial(UNet, (1, 8, 8), 4, (1,), blocks=1)
    ddpm = image_ddpm(network(), linear_schedule(200, 0.001, 0.05), levels=17)
    pairs = [(ddpm, Flow(network(), (1, 8, 8))) for _ in range(2)]
    found, values, metric = compare_spacings(pairs, 30, num_steps=(3, 8))
    names = [f"{net}, even in {time}" for net in ("ddpm", "flow") for time in "tu"]
    assert set(found) == {"num_steps", "accuracy", "real", "flow, Heun", *names}
    assert (
        found["num_steps"].tolist() == [3, 8] and found["accuracy"] > 0.9
    )  # of digits it has seen
    assert found["real"].shape == (2, 10, 2) and "30 drawn digits" in metric
    real = found["real"][..., 0].mean(1)
    for name in (*names, "flow, Heun"):
        assert found[name].shape == (2, 2, 2, 2) and bool((found[name][..., 1] > 0).all())
        # Untrained networks draw noise.
        assert bool((found[name][..., 0] > 5 * real.abs()[:, None, None]).all())
    first = torch.cat([found[name][0, ..., 0].flatten() for name in (*names, "flow, Heun")])
    torch.testing.assert_close(values, first)


def test_samplers_take_the_same_times_by_both_names():
    ddpm = image_ddpm(UNet((1, 8, 8), 4, (1,), blocks=1), linear_schedule(1000), levels=17)
    flow = Flow(UNet((1, 8, 8), 4, (1,), blocks=1), (1, 8, 8))
    made = spaced_samplers(ddpm, flow, 5)
    u = made["flow, even in t"].keywords["u"]
    levels = made["ddpm, even in t"].args[1].log_alpha_bar
    torch.testing.assert_close(u[1:], line_time(levels).flip(0)[1:], check_dtype=False)
    assert u[0] == 1 and 0.98 < line_time(levels)[-1] < 1 and u[-1] == 0
    even = made["flow, even in u"].keywords["u"]
    torch.testing.assert_close(even, torch.tensor([1, 0.8, 0.6, 0.4, 0.2, 0]))
    near = line_time(made["ddpm, even in u"].args[1].log_alpha_bar).flip(0)
    assert (near - even).abs().max() < 0.01
    assert len(made["flow, Heun"].keywords["u"]) == 3 and made["flow, Heun"].keywords["heun"]
