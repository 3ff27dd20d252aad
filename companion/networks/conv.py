"""A convolutional encoder and its mirror image, four layers each, for images of 28 x 28 or 32 x 32 pixels."""

from itertools import pairwise

from torch import nn

from companion import checks

# Side of the image and of the feature maps after each of the four strided layers.
_SIDES = {28: (28, 14, 7, 4, 2), 32: (32, 16, 8, 4, 2)}


def conv_encoder(
    num_out: int, image_shape: tuple[int, int, int] = (1, 28, 28), channels: int = 16
) -> nn.Sequential:
    """Return four convolutions of stride 2 and one linear layer: (batch, *image_shape) to (batch, num_out).

    Raises:
        ValueError: if the image is not 28 x 28 or 32 x 32, or another size is below 1.

    Book: chapter 1.
    """
    depth, _ = _check(image_shape, num_out=num_out, channels=channels)
    widths = [depth, channels, 2 * channels, 4 * channels, 4 * channels]
    layers: list[nn.Module] = []
    for num_in, num in pairwise(widths):
        layers += [nn.Conv2d(num_in, num, 3, stride=2, padding=1), nn.SiLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * widths[-1], num_out))


def conv_decoder(
    num_in: int, image_shape: tuple[int, int, int] = (1, 28, 28), channels: int = 16
) -> nn.Sequential:
    """Return one linear layer and four transposed convolutions: (batch, num_in) to (batch, *image_shape).

    Raises:
        ValueError: if the image is not 28 x 28 or 32 x 32, or another size is below 1.

    Book: chapter 1.
    """
    depth, sides = _check(image_shape, num_in=num_in, channels=channels)
    widths = [4 * channels, 4 * channels, 2 * channels, channels, depth]
    layers: list[nn.Module] = [nn.Linear(num_in, 4 * widths[0])]
    layers += [nn.Unflatten(1, (int(widths[0]), 2, 2))]
    sizes = zip(pairwise(widths), pairwise(reversed(sides)), strict=True)
    for (num, num_out), (side, target) in sizes:
        # A transposed layer of stride 2 turns a side of s into 2 s - 1, and an even
        # side of the encoder needs one row more.
        extra = target - (2 * side - 1)
        deconv = nn.ConvTranspose2d(num, num_out, 3, 2, padding=1, output_padding=extra)
        layers += [nn.SiLU(), deconv]
    return nn.Sequential(*layers)


def _check(image_shape: tuple[int, int, int], **sizes: int) -> tuple[int, tuple[int, ...]]:
    """Return the number of channels and the sides of the feature maps."""
    checks.at_least(1, **sizes)
    checks.sizes(3, image_shape=image_shape)
    depth, *sides = image_shape
    if len(sides) != 2 or sides[0] != sides[1] or sides[0] not in _SIDES:
        raise ValueError(
            f"image_shape must be (channels, 28, 28) or (channels, 32, 32); {tuple(image_shape)} was given"
        )
    return depth, _SIDES[sides[0]]
