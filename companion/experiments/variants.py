"""Chapter 1: what do denoising, contracting and worst-case training change, and for how long?"""

from functools import cache, partial

import torch
from torch import Tensor
from torch.optim import Adam

from companion.autoencoder import (
    Autoencoder,
    contractive_loss,
    denoising_reconstruction_loss,
    jacobian_norm,
    mlp_autoencoder,
    reconstruction_loss,
    robust_loss,
    squared_error,
    worst_perturbation,
)
from companion.data import Batches, Images, load
from companion.experiments.base import Condition, Experiment
from companion.interpolation import path_length_ratio
from companion.training import Loss, fit

NUM, BATCH, NUM_TEST, NUM_FEW, PAIRS = 30_000, 64, 1000, 200, 100
LOSSES: dict[str, Loss] = {
    "plain": reconstruction_loss,
    "denoising": denoising_reconstruction_loss,
    "contracting": contractive_loss,
    "robust": robust_loss,
}


@cache
def digits() -> tuple[Images, Images]:
    """Training and test digits."""
    return load("mnist", "train"), load("mnist", "test")


def mean_path_ratio(model: Autoencoder) -> float:
    """Mean path ratio of the straight lines between the codes of a 3 and an 8, for a hundred pairs."""
    test, share = digits()[1], torch.linspace(0, 1, 33)[:, None]
    first, last = (model.encode(test.images[test.labels == d][:PAIRS]) for d in (3, 8))
    lines = [model.decode(torch.lerp(a, b, share)) for a, b in zip(first, last, strict=True)]
    return sum(path_length_ratio(line) for line in lines) / PAIRS


def judged(model: Autoencoder) -> dict[str, float]:
    """Errors on clean, noisy and attacked test digits, sensitivity of the code, and path ratio."""
    x = digits()[1].images[:NUM_TEST]
    few = x[:NUM_FEW]

    def error(clean: Tensor, disturbance: Tensor | float) -> float:
        with torch.no_grad():
            return squared_error(model(clean + disturbance), clean).mean().item()

    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    jacobian = jacobian_norm(model, few).mean().item()
    with torch.no_grad():
        variance, path = model.encode(x).var(0).sum().item(), mean_path_ratio(model)
    return {
        "clean": error(x, 0.0),
        "noisy": error(x, 0.5 * noise),
        "half the noise": error(x, 0.25 * noise),
        "attacked": error(x, worst_perturbation(model, x, radius=2.0)),
        "long attack": error(few, worst_perturbation(model, few, radius=2.0, num_steps=100)),
        "Jacobian": jacobian,
        "relative": jacobian / variance,
        "path": path,
    }


def train(loss: Loss, lr: float, epochs: int, seed: int) -> dict[str, float]:
    """Train a network of 16 dimensions with one of the losses; what the judges say of it."""
    model = mlp_autoencoder(latent_dim=16)
    batches = Batches(digits()[0].images[:NUM], batch_size=BATCH, num_epochs=epochs, seed=seed)
    for _ in fit(model, loss, batches, Adam(model.parameters(), lr=lr, fused=True)):
        pass
    return judged(model.requires_grad_(False))


SETTINGS = {
    "": (2e-3, 1),
    ", rate 0.0005": (5e-4, 1),
    ", rate 0.008": (8e-3, 1),
    ", 4 epochs": (2e-3, 4),
}
CONDITIONS: dict[str, Condition] = {
    f"{name}{words}": partial(train, loss, *setting)
    for words, setting in SETTINGS.items()
    for name, loss in LOSSES.items()
}
CONDITIONS |= {
    f"contracting, weight {weight}": partial(
        train, partial(contractive_loss, weight=weight), 2e-3, 1
    )
    for weight in (0.025, 0.4)
}
EXPERIMENTS = {"variants": Experiment(CONDITIONS)}
