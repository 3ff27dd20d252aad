"""What the loop of `fit` adds to a bare loop of the same model, loss and optimizer, batches of one tensor each.

Short pieces of both run in turns, by the process's own time, and the least times are compared: the least disturbed
piece of many is close to what the code itself takes, also on a busy machine.
"""

import time

import torch
from torch import nn

from companion.data import Batches
from companion.training import fit
from companion.vae import gray_cross_entropy_loss, mlp_vae

BATCH_SIZE, NUM_STEPS, ROUNDS = 128, 20, 20


def main() -> None:
    """Print the milliseconds of a step of each, and their ratio."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images = torch.rand(BATCH_SIZE * NUM_STEPS, 1, 28, 28)
    model = mlp_vae(latent_dim=20, hidden=(400,), activation=nn.ReLU)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

    def bare() -> None:
        order = torch.randperm(len(images))
        for start in range(0, len(images), BATCH_SIZE):
            loss = gray_cross_entropy_loss(model, images[order[start : start + BATCH_SIZE]]).mean()
            loss.item()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def ours() -> None:
        batches = Batches(images, batch_size=BATCH_SIZE)
        for _ in fit(model, gray_cross_entropy_loss, batches, optimizer):
            pass

    least = {bare: float("inf"), ours: float("inf")}
    for number in range(ROUNDS + 1):
        for loop in (bare, ours) if number % 2 else (ours, bare):
            start = time.process_time()
            loop()
            spent = time.process_time() - start
            least[loop] = min(least[loop], spent) if number else least[loop]
    steps = {loop.__name__: 1000 * spent / NUM_STEPS for loop, spent in least.items()}
    print(f"bare {steps['bare']:.3f} ms, fit {steps['ours']:.3f} ms a step, ", end="")
    print(f"ratio {steps['ours'] / steps['bare']:.3f}")


if __name__ == "__main__":
    main()
