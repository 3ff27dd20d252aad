"""What an epoch costs: a bare loop over tensors, `companion.data.Batches`, and torchvision's image by image pipeline.

All contestants train the same 784-400-20 variational autoencoder on the 60,000 training images of MNIST, batch 128.
They run one after the other in every round, in turned order in every second one, and each is divided by the bare loop
of its own round, so that a machine that slows down slows all of them down.
"""

from collections.abc import Callable, Iterator

import rounds
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from companion import data

BATCH_SIZE = 128


class Vae(nn.Module):
    """784-400-20-400-784 with one layer for both heads of the encoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(784, 400), nn.ReLU(), nn.Linear(400, 40))
        self.decoder = nn.Sequential(nn.Linear(20, 400), nn.ReLU(), nn.Linear(400, 784))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of the pixels and the KL divergence from the prior, summed over the batch."""
        mean, log_var = self.encoder(x).chunk(2, 1)
        z = mean + (log_var / 2).exp() * torch.randn_like(mean)
        return self.decoder(z), -0.5 * (1 + log_var - mean**2 - log_var.exp()).sum()


def bare(images: Tensor) -> Iterator[Tensor]:
    """The floor: nothing could be simpler."""
    order = torch.randperm(len(images))
    for start in range(0, len(images), BATCH_SIZE):
        yield images[order[start : start + BATCH_SIZE]]


def batches(images: Tensor) -> Iterator[Tensor]:
    """The package's own."""
    return iter(data.Batches(images, batch_size=BATCH_SIZE))  # type: ignore[arg-type]  # one tensor: no tuples


def loader(images: Tensor) -> Iterator[Tensor]:
    """Torchvision's: each image becomes a picture, then a tensor, then part of a batch. It reads the files itself."""
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    data_set = datasets.MNIST(str(data.find("mnist")), train=True, transform=transforms.ToTensor())
    for x, _ in DataLoader(data_set, batch_size=BATCH_SIZE, shuffle=True):
        yield x.view(-1, 784)


def from_logits(logits: Tensor, x: Tensor) -> Tensor:
    """Cross-entropy of the pixels from their log-odds, in one operation."""
    return F.binary_cross_entropy_with_logits(logits, x, reduction="sum")


def from_probabilities(logits: Tensor, x: Tensor) -> Tensor:
    """The same from probabilities, as many tutorials write it."""
    return F.binary_cross_entropy(torch.sigmoid(logits), x, reduction="sum")


def epoch(
    images: Tensor,
    clock: Callable[[], float],
    source: Callable[[Tensor], Iterator[Tensor]],
    reconstruction: Callable[[Tensor, Tensor], Tensor] = from_logits,
    fused: bool = True,
) -> tuple[float, float]:
    """Train a new network for one epoch; return the seconds and the mean loss of the last hundred steps, in nats."""
    torch.manual_seed(0)
    model = Vae()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=fused)
    losses = []
    start = clock()
    for x in source(images):
        logits, kl = model(x)
        loss = (reconstruction(logits, x) + kl) / len(x)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    seconds = clock() - start
    return seconds, torch.stack(losses[-100:]).mean().item()


Setting = tuple[Callable[[Tensor], Iterator[Tensor]], Callable[[Tensor, Tensor], Tensor], bool]
CONTESTANTS: dict[str, Setting] = {
    "bare tensor loop": (bare, from_logits, True),
    "companion.data.Batches": (batches, from_logits, True),
    "torchvision DataLoader": (loader, from_logits, True),
    "DataLoader, sigmoid, default Adam": (loader, from_probabilities, False),
}


def main() -> None:
    """Run the rounds and print the medians."""
    images = data.load("mnist", fallback=False).images.flatten(1)
    for source, _, _ in CONTESTANTS.values():
        next(source(images))  # imports and first uses are not what is measured

    def contestant(setting: Setting) -> rounds.Contestant:
        return lambda clock: epoch(images, clock, *setting)

    contestants = {name: contestant(setting) for name, setting in CONTESTANTS.items()}
    rounds.run(contestants, len(images), __doc__)


if __name__ == "__main__":
    main()
