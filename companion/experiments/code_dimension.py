"""Chapter 1: how many numbers does a network need, and how many do principal components?"""

from functools import cache, partial

import torch
from torch import nn
from torch.optim import Adam

from companion.autoencoder import (
    Autoencoder,
    conv_autoencoder,
    mlp_autoencoder,
    pca_autoencoder,
    reconstruction_loss,
)
from companion.data import Batches, Images, load
from companion.experiments.base import Condition, Experiment
from companion.training import fit

DIMENSIONS = (2, 8, 16, 32, 64)


@cache
def digits() -> tuple[Images, Images]:
    """Training and test digits."""
    return load("mnist", "train"), load("mnist", "test")


def linear_autoencoder(latent_dim: int) -> Autoencoder:
    """Affine maps alone: the best of them is PCA."""
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, latent_dim))
    return Autoencoder(
        encoder, nn.Sequential(nn.Linear(latent_dim, 784), nn.Unflatten(1, (1, 28, 28)))
    )


NETWORKS = {
    "": mlp_autoencoder,
    "convolutional, ": conv_autoencoder,
    "affine, ": linear_autoencoder,
}


def train(network: str, num: int, epochs: int, lr: float, seed: int) -> dict[str, float]:
    """Squared error of the test digits after this training."""
    train, test = digits()
    model = NETWORKS[network](latent_dim=num)
    batches = Batches(train.images, batch_size=128, num_epochs=epochs, seed=seed)
    for _ in fit(model, reconstruction_loss, batches, Adam(model.parameters(), lr=lr, fused=True)):
        pass
    with torch.no_grad():
        return {"error": reconstruction_loss(model, test.images).mean().item()}


@cache
def error_of_pca(num: int) -> float:
    """Squared error of the test digits with principal components of the training digits."""
    train, test = digits()
    with torch.no_grad():
        model = pca_autoencoder(train.images.flatten(1), num)
        return reconstruction_loss(model, test.images.flatten(1)).mean().item()


def pca(num: int, seed: int) -> dict[str, float]:
    """The same for every seed: nothing is drawn."""
    return {"error": error_of_pca(num)}


def condition(network: str, num: int, epochs: int, lr: float = 1e-3) -> dict[str, Condition]:
    """A training, and its name."""
    name = f"{network}{num} dimensions, {epochs} epochs"
    name += "" if lr == 1e-3 else f", rate {lr}"
    return {name: partial(train, network, num, epochs, lr)}


CONDITIONS: dict[str, Condition] = {
    f"PCA, {num} dimensions": partial(pca, num) for num in DIMENSIONS
}
for number in DIMENSIONS:
    CONDITIONS |= condition("", number, 1) | condition("", number, 10)
for rate in (2.5e-4, 4e-3):
    CONDITIONS |= condition("", 32, 1, rate) | condition("", 32, 10, rate)
CONDITIONS |= condition("affine, ", 32, 1) | condition("affine, ", 32, 10)
CONDITIONS |= condition("convolutional, ", 32, 4)
EXPERIMENTS = {"code-dimension": Experiment(CONDITIONS)}
