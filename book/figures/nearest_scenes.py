"""Draw landscapes beside their nearest training scenes: run `python book/figures/nearest_scenes.py`.

For each size of a training set there are two rows of tiles of 32 x 32 pixels: what its network draws for the same
six sentences, from the same noise, and the training scene nearest to each, by pixels. The sentences are about the first
six training scenes, which all four networks have seen. They are trained first, as for the experiment `memorization`,
for half an hour of a core.
"""

import numpy as np
import torch
from PIL import Image

from companion.data import DRAWS, captions, tokens
from companion.experiments.base import RECORDS
from companion.experiments.memorization import SIZES, nearest, scenes, trained
from companion.zoo.architectures import decoded_landscapes
from companion.zoo.obedience import drawn

COLUMNS, SEED = 6, 100


@torch.no_grad()
def main() -> None:
    """Write the file."""
    training, attributes = scenes(0)["pixels"], scenes(0)["attributes"][:COLUMNS]
    rows: list[torch.Tensor] = []
    for size in SIZES:
        model = trained(size)
        torch.manual_seed(SEED)
        label = tokens(captions(attributes, torch.rand(COLUMNS, DRAWS)))
        images = decoded_landscapes(drawn(model, label))
        _, which = nearest(images.flatten(1), training[:size])
        rows += [images, training[which].unflatten(1, (3, 32, 32))]
    tiles = torch.stack(rows).clamp(0, 1).permute(0, 3, 1, 4, 2).reshape(32 * len(rows), -1, 3)
    pixels = (255 * tiles).round().byte().numpy().astype(np.uint8)
    Image.fromarray(pixels).save(RECORDS / "memorization.png", optimize=True)


if __name__ == "__main__":
    main()
