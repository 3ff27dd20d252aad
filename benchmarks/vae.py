"""What a whole epoch costs: the companion's model, loss and loop beside the program that most tutorials are made of.

All contestants train the 784-400-20 variational autoencoder on the gray levels of the 60,000 training images of MNIST,
batch 128, Adam 1e-3, and run one after the other in every round. Each is compared with the tutorial's program of its
own round: torchvision's image by image pipeline, a sigmoid before the cross-entropy, Adam without `fused=True`.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial

import batches
import rounds
import torch
from torch import Tensor, nn

from companion import data
from companion.training import fit
from companion.vae import gray_cross_entropy_loss, mlp_vae

Result = tuple[float, float]


def tutorial(images: Tensor, clock: Callable[[], float]) -> Result:
    """The habits of the best-known example program, written anew."""
    return batches.epoch(
        images.flatten(1), clock, batches.loader, batches.from_probabilities, fused=False
    )


def companion(images: Tensor, clock: Callable[[], float]) -> Result:
    """What `python -m companion train gray-vae-mnist` does in one epoch."""
    torch.manual_seed(0)
    model = mlp_vae(latent_dim=20, hidden=(400,), activation=nn.ReLU)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    source = data.Batches(images, batch_size=batches.BATCH_SIZE)
    start = clock()
    losses = [step.loss for step in fit(model, gray_cross_entropy_loss, source, optimizer)]
    return clock() - start, statistics.fmean(losses[-100:])


def companion_medium(images: Tensor, clock: Callable[[], float]) -> Result:
    """The same with matrix products in bfloat16."""
    torch.set_float32_matmul_precision("medium")
    try:
        return companion(images, clock)
    finally:
        torch.set_float32_matmul_precision("highest")


CONTESTANTS = {
    "tutorial program": tutorial,
    "companion": companion,
    "companion, matmul precision 'medium'": companion_medium,
}


def main() -> None:
    """Run the rounds and print the medians."""
    images = data.load("mnist", fallback=False).images
    for contestant in CONTESTANTS.values():
        contestant(
            images[:1280], time.perf_counter
        )  # imports and first uses are not what is measured
    rounds.run(
        {name: partial(contestant, images) for name, contestant in CONTESTANTS.items()},
        len(images),
        __doc__,
    )


if __name__ == "__main__":
    main()
