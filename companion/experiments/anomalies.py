"""Chapter 1: does the reconstruction error find a class that the training did not see?"""

from functools import cache, partial

import torch
from torch.optim import Adam

from companion.autoencoder import mlp_autoencoder, reconstruction_loss
from companion.data import Batches, Images, load
from companion.experiments.base import Condition, Experiment
from companion.metrics import auroc
from companion.training import fit


@cache
def digits() -> tuple[Images, Images]:
    """Training and test digits."""
    return load("mnist", "train"), load("mnist", "test")


def detect(
    hidden: int, lr: float, epochs: int, latent_dim: int, seed: int, seen: bool = False
) -> dict[str, float]:
    """AUROC of three scores for the digit that was left out of the training, or for the same one if it was seen.

    The scores are the squared error, the sum of the squared gray levels, and the former over the latter.
    """
    train, test = digits()
    images = train.images[(train.labels != hidden) | seen][:30_000]
    model = mlp_autoencoder(latent_dim=latent_dim)
    batches = Batches(images, batch_size=128, num_epochs=epochs, seed=seed)
    for _ in fit(model, reconstruction_loss, batches, Adam(model.parameters(), lr=lr, fused=True)):
        pass
    with torch.no_grad():
        error = reconstruction_loss(model, test.images)
    gray = test.images.square().sum((1, 2, 3))
    strange = test.labels == hidden
    scores = {"error": error, "grays": gray, "relative": error / gray}
    return {name: float(auroc(s[~strange], s[strange])) for name, s in scores.items()}


SETTINGS = {
    "": (1e-3, 1, 16),
    ", rate 0.00025": (2.5e-4, 1, 16),
    ", rate 0.004": (4e-3, 1, 16),
    ", 4 epochs": (1e-3, 4, 16),
    ", 4 dimensions": (1e-3, 4, 4),
    ", 64 dimensions": (1e-3, 4, 64),
}
CONDITIONS: dict[str, Condition] = {
    f"without {hidden}{name}": partial(detect, hidden, *setting)
    for hidden in (0, 1)
    for name, setting in SETTINGS.items()
}
CONDITIONS |= {
    f"seen {digit}{name}": partial(detect, digit, *SETTINGS[name], seen=True)
    for digit in (0, 1)
    for name in ("", ", rate 0.00025", ", 4 epochs")
}
EXPERIMENTS = {"anomalies": Experiment(CONDITIONS, seeds=5)}
