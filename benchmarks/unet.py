"""What a training step of the U-Net costs: the companion's beside the `UNet2DModel` of the library diffusers.

All contestants predict the noise in 64 images of 28 x 28 pixels: forward, backward and fused Adam. The images are
random numbers, for the time does not depend on them. There are two tables, at 1 and at 6 million parameters.
The peer has the companion's attention, one head in the middle, and groups of 4 channels at the fine side. "same depth"
has the peer's widths and about its number of operations; "companion" is the builder of `companion.networks`, with fewer
blocks at the fine sides and more channels at the coarse ones.

The peer is no dependency of this project: install diffusers into an environment of its own, and run this file there.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import rounds
import torch
from torch import Tensor, nn

from companion.networks.unet import UNet, large_unet, small_unet

BATCH_SIZE, NUM_STEPS, NUM_IMAGES = 64, 2, 60_000


def peer(channels: int, layers: int) -> nn.Module:
    """The network of diffusers with widths (1, 2, 2) times `channels`."""
    from diffusers import UNet2DModel

    return UNet2DModel(
        sample_size=28,
        in_channels=1,
        out_channels=1,
        layers_per_block=layers,
        block_out_channels=(channels, 2 * channels, 2 * channels),
        down_block_types=3 * ("DownBlock2D",),
        up_block_types=3 * ("UpBlock2D",),
        attention_head_dim=2 * channels,
        norm_num_groups=channels // 4,
    )


SIZES: dict[str, dict[str, Callable[[], nn.Module]]] = {
    "1 million parameters": {
        "diffusers": partial(peer, 32, 1),
        "same depth": partial(UNet, channels=32, multipliers=(1, 2, 2), blocks=2),
        "companion": small_unet,
    },
    "6 million parameters": {
        "diffusers": partial(peer, 64, 2),
        "same depth": partial(UNet, channels=64, multipliers=(1, 2, 2), blocks=3),
        "companion": large_unet,
    },
}


@cache
def trainer(build: Callable[[], nn.Module], bfloat16: bool) -> Callable[[], Tensor]:
    """Return a function that takes one step and returns the loss, summed over pixels."""
    torch.manual_seed(0)
    model = build()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    x_t, noise = torch.randn(2, BATCH_SIZE, 1, 28, 28)
    t = torch.randint(1, 1001, (BATCH_SIZE,))

    def step() -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
            estimate: Any = model(x_t, t)
        estimate = getattr(estimate, "sample", estimate)  # the peer wraps its output
        loss = (estimate.float() - noise).square().sum((1, 2, 3)).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def steps(
    build: Callable[[], nn.Module], bfloat16: bool, clock: rounds.Clock
) -> tuple[float, float]:
    """Seconds that an epoch of MNIST would take at the speed of a few steps, and the last loss."""
    step = trainer(build, bfloat16)
    start = clock()
    for _ in range(NUM_STEPS):
        loss = step()
    return (clock() - start) * NUM_IMAGES / (NUM_STEPS * BATCH_SIZE), loss.item()


def main() -> None:
    """Run the rounds at each size and print the medians."""
    for size, networks in SIZES.items():
        print(size)
        contestants = {}
        for bfloat16 in (False, True):
            for name, build in networks.items():
                trainer(build, bfloat16)()  # first uses are not what is measured
                label = f"{name}, {'bfloat16' if bfloat16 else 'float32'}"
                contestants[label] = partial(steps, build, bfloat16)
        for name, build in networks.items():
            millions = sum(parameter.numel() for parameter in build().parameters()) / 1e6
            print(f"  {name}: {millions:.2f} million parameters")
        rounds.run(contestants, NUM_IMAGES, __doc__)


if __name__ == "__main__":
    main()
