"""Tests of companion.zoo.pretrained: a trained model by its name, and draws from it."""

import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_recipes import card, recipes, small_ddpm, tiny, tiny_vae

from companion import zoo
from companion.flows import Flow
from companion.networks.unet import UNet
from companion.zoo import drawing, pretrained, sample
from companion.zoo.pretrained import SAMPLERS
from companion.zoo.recipes import RECIPES
from companion.zoo.weights import card_names, save_weights

__all__ = ["recipes"]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with weights of an autoencoder, a VAE and a DDPM."""
    few = replace(RECIPES["ddpm-digits"], model=small_ddpm)
    monkeypatch.setitem(RECIPES, "ddpm-digits", few)
    for name, model in {"tiny": tiny(), "binary": tiny_vae(), "ddpm-digits": small_ddpm()}.items():
        save_weights(model, card(name), tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", card_names())
def test_shipped_weights_come_with_their_model(name):
    model = pretrained(name)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_the_model_goes_to_the_device_and_comes_from_the_folder(folder):
    assert next(pretrained("tiny", folder, "meta").parameters()).is_meta
    with pytest.raises(ValueError, match="'tiny' was given"):
        pretrained("tiny")
    with pytest.raises(ValueError, match="name must be one of ae-mnist, .*; 'vae' was given"):
        pretrained("vae")


def test_the_public_functions_are_these():
    assert zoo.__all__ == ["evaluate", "pretrained", "sample", "train"]
    assert all(getattr(zoo, name).__doc__ for name in zoo.__all__)


def test_draws_are_images_that_repeat_with_the_seed(folder):
    x = sample("binary", 5, folder=folder)
    assert x.shape == (5, 1, 8, 8) and 0 <= x.min() <= x.max() <= 1
    assert torch.equal(x, sample("binary", 5, folder=folder))
    assert not torch.equal(x, sample("binary", 5, seed=1, folder=folder))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_draws_from_a_diffusion_model(folder, sampler):
    x = sample("ddpm-digits", 3, 4, sampler, folder=folder)
    assert x.shape == (3, 1, 8, 8) and 0 <= x.min() < x.max() <= 1
    assert not torch.equal(x, sample("ddpm-digits", 3, 5, sampler, folder=folder))


def test_a_flow_draws_by_steps_of_euler(folder, monkeypatch):
    few = replace(
        RECIPES["flow-digits"], model=lambda: Flow(UNet((1, 8, 8), 8, (1,), blocks=1), (1, 8, 8))
    )
    monkeypatch.setitem(RECIPES, "flow-digits", few)
    model = few.model()
    torch.nn.init.normal_(model.network.exit[-1].weight, std=0.1)
    save_weights(model, card("flow-digits"), folder)
    x = sample("flow-digits", 3, 4, folder=folder)
    assert x.shape == (3, 1, 8, 8) and 0 <= x.min() < x.max() <= 1
    assert not torch.equal(x, sample("flow-digits", 3, 5, folder=folder))
    with pytest.raises(ValueError, match="steps must be at least 1; 0 was given"):
        sample("flow-digits", 3, 0, folder=folder)
    with pytest.raises(ValueError, match="sampler belongs to a .* model; 'flow-digits' is a"):
        sample("flow-digits", 3, sampler="ddim", folder=folder)


def test_codes_are_decoded_and_points_come_back_in_their_place():
    assert sample("ldm-mnist", 2, 3).shape == (2, 1, 28, 28)
    points = sample("ddpm-toy2d", 500, 50)
    radius = points.norm(dim=1)
    assert points.shape == (500, 2) and (radius - 2.5).abs().median() < 0.5


def test_images_are_written_side_by_side(folder):
    out = folder / "sheet.png"
    x = sample("binary", 5, folder=folder, out=out)
    pixels = np.asarray(Image.open(out))
    assert pixels.shape == (22, 32, 3)  # two rows of three, with frames of two pixels
    assert np.array_equal(pixels[12:20, 2:10, 0], (255 * x[3, 0]).round().byte().numpy())
    assert not pixels[12:, 22:].any()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "tiny"}, "name must be a model that generates; 'tiny' is a"),
        ({"num": 0}, "num must be at least 1; 0 was given"),
        ({"seed": -1}, "seed must be at least 0; -1 was given"),
        ({"steps": 5}, "steps and sampler belong to a diffusion model; 'binary' is none"),
        ({"sampler": "ddim"}, "steps and sampler belong to a diffusion model; 'binary' is none"),
        ({"name": "ddpm-digits", "sampler": "ode"}, "one of ddim, .*, beta; 'ode' was given"),
        ({"name": "ddpm-digits", "steps": 13}, r"steps must lie in \[2, 12\]; 13 was given"),
        ({"name": "ddpm-toy2d", "folder": None, "out": "x.png"}, "out takes images; 'ddpm-toy2d'"),
        ({"out": "sheet.jpg"}, "out must be a file that ends in .png; sheet.jpg was given"),
    ],
)
def test_bad_input_gets_one_sentence(folder, given, message):
    with pytest.raises(ValueError, match=message):
        sample(**{"name": "binary", "folder": folder} | given)


def test_a_drawing_that_is_stopped_goes_on(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(drawing, "CHUNK", 2)
    draw, out, calls = SAMPLERS["beta-tilde"], tmp_path / "x.png", []

    def stops(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        yield from draw(*arguments, **options)

    setting = ("ddpm-digits", 6, 4, "beta-tilde", 0, folder)
    whole = sample(*setting)
    monkeypatch.setitem(SAMPLERS, "beta-tilde", stops)
    with pytest.raises(KeyboardInterrupt, match="stopped after part 2"):
        sample(*setting, out)
    assert not out.exists()
    assert torch.equal(sample(*setting, out, resume=True), whole) and len(calls) == 3
    assert out.exists() and not (tmp_path / "x.run").exists()
    with pytest.raises(ValueError, match="unfinished computation; there is none without out"):
        sample(*setting, resume=True)
