"""Chapter 1: is a code that is wider than the image useful because of training?"""

from functools import cache, partial

import torch
from torch import Tensor, nn
from torch.optim import Adam

from companion.autoencoder import (
    Autoencoder,
    denoising_reconstruction_loss,
    reconstruction_loss,
)
from companion.data import Batches, Images, load
from companion.experiments.base import Condition, Experiment
from companion.metrics import linear_probe
from companion.training import fit

WIDTH, NUM, LABELS, SETS = 1024, 5000, 300, 4
LOSSES = {"plain": reconstruction_loss, "denoising": denoising_reconstruction_loss}


@cache
def digits() -> tuple[Images, Images]:
    """Training and test digits."""
    return load("mnist", "train"), load("mnist", "test")


def accuracy(encode: nn.Module, seed: int) -> dict[str, float]:
    """Mean test accuracy of linear classifiers that learn from four sets of 300 labels."""
    train, test = digits()
    chosen = torch.randperm(len(train.images), generator=torch.Generator().manual_seed(seed))
    codes = encode(test.images)
    found = []
    for rows in chosen[NUM:][: SETS * LABELS].split(LABELS):
        labeled = encode(train.images[rows]), train.labels[rows]
        found.append(linear_probe(*labeled, codes, test.labels).value)
    return {"accuracy": 100 * sum(found) / SETS}


def probe(loss: str | None, lr: float, epochs: int, seed: int) -> dict[str, float]:
    """Percent right with the codes of an autoencoder; without a loss it keeps its random weights."""
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(784, WIDTH), nn.ReLU())
    decoder = nn.Sequential(nn.Linear(WIDTH, 784), nn.Unflatten(1, (1, 28, 28)))
    model = Autoencoder(encoder, decoder)
    if loss is not None:
        images: Tensor = digits()[0].images[:NUM]
        batches = Batches(images, batch_size=64, num_epochs=epochs, seed=seed)
        for _ in fit(model, LOSSES[loss], batches, Adam(model.parameters(), lr=lr)):
            pass
    with torch.no_grad():
        return accuracy(encoder, seed)


def of_pixels(seed: int) -> dict[str, float]:
    """Percent right with the pixels themselves."""
    return accuracy(nn.Flatten(), seed)


UNTRAINED: dict[str, Condition] = {
    "pixels": of_pixels,
    "untrained": partial(probe, None, 0.0, 0),
}
TRAINED: dict[str, Condition] = {
    f"{loss}, rate {lr}, {epochs} epochs": partial(probe, loss, lr, epochs)
    for loss in LOSSES
    for lr, epochs in ((1e-3, 1), (2.5e-4, 1), (4e-3, 1), (1e-3, 4), (1e-3, 16))
}
EXPERIMENTS = {"wide-code": Experiment(UNTRAINED | TRAINED, seeds=5)}
