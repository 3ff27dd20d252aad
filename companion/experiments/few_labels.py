"""Chapter 1: do learned codes help a classifier that has few labels, and against which inputs?"""

from functools import cache, partial

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim import Adam

from companion.autoencoder import (
    Autoencoder,
    mlp_autoencoder,
    pca_autoencoder,
    reconstruction_loss,
)
from companion.data import Batches, Images, load
from companion.experiments.base import Condition, Experiment
from companion.metrics import linear_probe
from companion.training import fit, minimize

SETS = {30: 12, 1000: 3}  # labels, and how many separate sets of so many
PENALTIES = (0.1, 1.0, 10.0, 100.0)


@cache
def digits() -> tuple[Images, Images]:
    """Training and test digits."""
    return load("mnist", "train"), load("mnist", "test")


@cache
def components(num: int) -> Autoencoder:
    """The principal component analysis of all training digits."""
    return pca_autoencoder(digits()[0].images.flatten(1), num)


def in_one_unit(codes: Tensor, labels: Tensor, test_codes: Tensor) -> list[float]:
    """Test accuracy of logistic regression without standardizing each input, for each penalty.

    All inputs are divided by one number, so that their mean variance is one.
    """
    unit, test_labels, found = codes.var(0).mean().sqrt(), digits()[1].labels, []
    x, test_x = ((values / unit).double() for values in (codes, test_codes))
    for penalty in PENALTIES:
        weight = torch.zeros(x.shape[1], 10, dtype=torch.double, requires_grad=True)
        offset = torch.zeros(10, dtype=torch.double, requires_grad=True)

        def loss(
            weight: Tensor = weight, offset: Tensor = offset, penalty: float = penalty
        ) -> Tensor:
            fit = cross_entropy(x @ weight + offset, labels, reduction="sum")
            return fit + penalty * weight.square().sum() / 2

        minimize(loss, [weight, offset], max_steps=30)
        with torch.no_grad():
            hits = (test_x @ weight + offset).argmax(1) == test_labels
        found.append(hits.double().mean().item())
    return found


def nearest(codes: Tensor, labels: Tensor, test_codes: Tensor) -> float:
    """Test accuracy of the label of the nearest code."""
    found = labels[torch.cdist(test_codes, codes).argmin(1)]
    return (found == digits()[1].labels).double().mean().item()


def judged(codes: Tensor, test_codes: Tensor, rows: Tensor) -> dict[str, float]:
    """Percent of test digits that three classifiers get right, means over the sets of labels.

    Of the penalties of logistic regression in one unit, the one that is best on the test digits is reported.
    """
    train, test = digits()
    labels, found, first = train.labels[rows], {}, 0
    for num, sets in SETS.items():
        parts = [slice(first + i * num, first + (i + 1) * num) for i in range(sets)]
        first += num * sets
        few = [(codes[part], labels[part]) for part in parts]
        standard = [linear_probe(*each, test_codes, test.labels).value for each in few]
        one = torch.tensor([in_one_unit(*each, test_codes) for each in few]).mean(0).max().item()
        near = sum(nearest(*each, test_codes) for each in few)
        found[f"standardized {num}"] = 100 * sum(standard) / sets
        found[f"one unit {num}"] = 100 * one
        found[f"nearest {num}"] = 100 * near / sets
    return found


def chosen(seed: int) -> Tensor:
    """Rows of the training digits that have labels."""
    num = sum(num * sets for num, sets in SETS.items())
    return torch.randperm(60_000, generator=torch.Generator().manual_seed(seed))[:num]


def of_pixels(seed: int) -> dict[str, float]:
    """With the pixels themselves."""
    (train, test), rows = digits(), chosen(seed)
    return judged(train.images[rows].flatten(1), test.images.flatten(1), rows)


def of_components(num: int, seed: int) -> dict[str, float]:
    """With so many principal components of all training digits."""
    (train, test), rows = digits(), chosen(seed)
    with torch.no_grad():
        flat = (x.flatten(1) for x in (train.images[rows], test.images))
        codes, test_codes = (components(num).encode(x) for x in flat)
    return judged(codes, test_codes, rows)


def of_network(lr: float, epochs: int, seed: int) -> dict[str, float]:
    """With the 16 dimensions of an autoencoder's code; with no epochs, of its random weights."""
    (train, test), rows = digits(), chosen(seed)
    model = mlp_autoencoder(latent_dim=16)
    batches = Batches(train.images, batch_size=128, num_epochs=max(epochs, 1), seed=seed)
    optimizer = Adam(model.parameters(), lr=lr, fused=True)
    if epochs:
        for _ in fit(model, reconstruction_loss, batches, optimizer):
            pass
    with torch.no_grad():
        codes, test_codes = model.encode(train.images[rows]), model.encode(test.images)
    return judged(codes, test_codes, rows)


CONDITIONS: dict[str, Condition] = {
    "pixels": of_pixels,
    "untrained": partial(of_network, 1e-3, 0),
    **{f"PCA {num}": partial(of_components, num) for num in (16, 64)},
    "network": partial(of_network, 1e-3, 1),
    "network, rate 0.00025": partial(of_network, 2.5e-4, 1),
    "network, rate 0.004": partial(of_network, 4e-3, 1),
    "network, 4 epochs": partial(of_network, 1e-3, 4),
}
EXPERIMENTS = {"few-labels": Experiment(CONDITIONS)}
