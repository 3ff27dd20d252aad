"""Recipes of a second for the tests of the zoo, and a card with made-up entries."""

from functools import cache

import pytest
import torch

from companion.autoencoder import mlp_autoencoder, reconstruction_loss
from companion.data import binarize, images
from companion.ddpm import image_ddpm
from companion.elbo import elbo_loss
from companion.networks.unet import UNet
from companion.schedule import linear_schedule
from companion.vae import mlp_vae
from companion.zoo.measures import Measure, negative_log_likelihood
from companion.zoo.recipes import RECIPES, Recipe, cosine
from companion.zoo.sources import DIGITS
from companion.zoo.weights import Card


def card(name):
    """A card of weights."""
    return Card(
        name=name,
        data="mnist",
        scale="small",
        command=f"python -m companion train {name}",
        commit="0123abc",
        seed=3,
        device="CPU",
        torch="2.9",
        minutes=0.5,
        metric="squared error",
        metric_value=1.25,
        metric_se=0.01,
    )


def tiny():
    """An autoencoder of the 8x8 digits that come with scikit-learn."""
    return mlp_autoencoder(latent_dim=4, hidden=16, image_shape=(1, 8, 8))


def noisy_loss(model, x):
    """Random, so that a resumed training shows whether its random numbers were restored."""
    return reconstruction_loss(model, x + 0.1 * torch.randn_like(x))


def tiny_vae():
    return mlp_vae(latent_dim=2, hidden=(8,), image_shape=(1, 8, 8))


def small_ddpm():
    """A DDPM of 8x8 digits with 12 steps and random weights."""
    schedule = linear_schedule(12, 0.01, 0.5)
    return image_ddpm(UNet((1, 8, 8), 8, (1,), blocks=1), schedule, levels=17)


RECIPE = Recipe(DIGITS, tiny, noisy_loss, epochs=3, batch_size=64, lr=0.01)
BINARY = Recipe(
    DIGITS,
    tiny_vae,
    elbo_loss,
    Measure(negative_log_likelihood, "minus log p(x), estimated by L_{num_samples}", 100),
    epochs=2,
    batch_size=64,
    prepare=binarize,
    schedule=cosine,
)


# They draw nothing, or nothing but where they begin.
WITHOUT_DRAWS = (
    *("ae", "dae", "cae", "robust-ae", "conv-ae", "flow", "mean-flow"),
    *("classifier", "judge", "residual-judge", "reader"),
)
CHAINS = [name for name in RECIPES if name.rpartition("-")[0] not in WITHOUT_DRAWS]


_digits_once = cache(images._digits)


def digits_once(split):
    """The digits of scikit-learn, whose text takes longer to read than a step of training."""
    return tuple(tensor.clone() for tensor in _digits_once(split))


@pytest.fixture(autouse=True)
def recipes(monkeypatch):
    """The recipes by name, on the CPU, where runs repeat bit for bit."""
    monkeypatch.setitem(RECIPES, "tiny", RECIPE)
    monkeypatch.setitem(RECIPES, "binary", BINARY)
    monkeypatch.setattr(images, "_digits", digits_once)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("COMPANION_SCALE", raising=False)


@pytest.fixture
def no_data(monkeypatch, tmp_path):
    """A machine without copies of the data sets and without a network."""
    import requests

    def head(*args, **kwargs):
        raise requests.ConnectionError

    monkeypatch.setenv("COMPANION_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COMPANION_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(requests, "head", head)
