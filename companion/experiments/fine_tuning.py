"""Chapter 1: are the weights of an autoencoder a better start for a classifier than random ones?"""

from functools import cache, partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Adam

from companion.autoencoder import (
    denoising_reconstruction_loss,
    mlp_autoencoder,
    reconstruction_loss,
)
from companion.data import Batches, Images, load
from companion.experiments.base import Condition, Experiment
from companion.training import fit

LABELS = 1000
LOSSES = {"plain": reconstruction_loss, "denoising": denoising_reconstruction_loss}


@cache
def digits() -> tuple[Images, Images]:
    """Training and test digits."""
    return load("mnist", "train"), load("mnist", "test")


@cache
def trained(start: str, seed: int) -> dict[str, Tensor]:
    """The weights of an encoder after ten epochs on all training digits, by the shipped networks' recipe."""
    torch.manual_seed(seed)
    model = mlp_autoencoder(latent_dim=16)
    batches = Batches(digits()[0].images, batch_size=128, num_epochs=10, seed=seed)
    for _ in fit(model, LOSSES[start], batches, Adam(model.parameters(), lr=1e-3, fused=True)):
        pass
    return model.encoder.state_dict()


def classification_loss(network: nn.Module, x: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy of each image's label."""
    return cross_entropy(network(x), label, reduction="none")


def tuned(start: str, lr: float, epochs: int, seed: int) -> dict[str, float]:
    """Percent of test digits that a classifier gets right which begins with these weights.

    Encoder and a new linear layer are trained with 1,000 labels. Each seed has its own autoencoders and labels.
    """
    train, test = digits()
    encoder = mlp_autoencoder(latent_dim=16).encoder
    if start in LOSSES:
        encoder.load_state_dict(trained(start, seed))
    torch.manual_seed(seed)
    network = nn.Sequential(encoder, nn.Linear(16, 10))
    rows = torch.randperm(len(train.images), generator=torch.Generator().manual_seed(seed))
    few = train.images[rows[:LABELS]], train.labels[rows[:LABELS]]
    batches = Batches(*few, batch_size=200, num_epochs=epochs, seed=seed)
    for _ in fit(
        network, classification_loss, batches, Adam(network.parameters(), lr=lr, fused=True)
    ):
        pass
    with torch.no_grad():
        hits = network(test.images).argmax(1) == test.labels
    return {"accuracy": 100 * hits.double().mean().item()}


SETTINGS = {
    "": (2e-3, 30),
    ", rate 0.0005": (5e-4, 30),
    ", rate 0.008": (8e-3, 30),
    ", 120 epochs": (2e-3, 120),
    ", rate 0.0005, 120 epochs": (5e-4, 120),
}
CONDITIONS: dict[str, Condition] = {
    f"{start}{name}": partial(tuned, start, *setting)
    for start in ("random", *LOSSES)
    for name, setting in SETTINGS.items()
}
EXPERIMENTS = {"fine-tuning": Experiment(CONDITIONS, seeds=5)}
