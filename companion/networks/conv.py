"""Convolutional encoders and their mirror images: to one vector, or to maps of a quarter of the side."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from companion import checks
from companion.networks.residual import Residual
from companion.networks.unet import conv, group_norm, grow, shrink

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


class StandardMeans(nn.Module):
    """Maps whose first half, the means, get mean 0 and variance 1 over data and places; the rest stays as it is.

    So the codes of a VAE with a tiny weight of the KL have the size of the noise that diffusion adds.

    Book: chapter 14.
    """

    def __init__(self, num_means: int) -> None:
        checks.at_least(1, num_means=num_means)
        super().__init__()
        self.num_means, self.norm = num_means, nn.BatchNorm2d(num_means, affine=False)

    def forward(
        self, h: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """In training by the batch, later by running averages."""
        return torch.cat([self.norm(h[:, : self.num_means]), h[:, self.num_means :]], 1)


def map_encoder(num_maps: int = 4, channels: int = 32) -> nn.Sequential:
    """Return an encoder of images: `num_maps` means of a quarter of each side, then as many log-variances, as a vector.

    An image of (3, 32, 32) gets maps of 8 x 8; others, of sides that 4 divides, are encoded by the same convolutions.

    Raises:
        ValueError: if `num_maps` is below 1, or `channels` below 4.

    Book: chapter 14.
    """
    checks.at_least(1, num_maps=num_maps)
    checks.at_least(4, channels=channels)
    wide = 2 * channels
    last = [group_norm(wide), nn.SiLU(), nn.Conv2d(wide, 2 * num_maps, 1)]
    return nn.Sequential(
        *(nn.PixelUnshuffle(2), conv(12, channels), _two_convs(channels)),
        *(shrink(channels, wide), _two_convs(wide), *last, StandardMeans(num_maps), nn.Flatten()),
    )


def map_decoder(num_maps: int = 4, channels: int = 32, side: int = 8) -> nn.Sequential:
    """Return the mirror image: from (batch, num_maps side^2), which are square maps, to (batch, 3, 4 side, 4 side).

    Raises:
        ValueError: if `num_maps` or `side` is below 1, or `channels` below 4.

    Book: chapter 14.
    """
    checks.at_least(1, num_maps=num_maps, side=side)
    checks.at_least(4, channels=channels)
    wide = 2 * channels
    return nn.Sequential(
        *(nn.Unflatten(1, (num_maps, side, side)), conv(num_maps, wide), _two_convs(wide)),
        *(grow(wide, channels), _two_convs(channels), group_norm(channels), nn.SiLU()),
        *(conv(channels, 12), nn.PixelShuffle(2)),
    )


def _two_convs(num: int) -> Residual:
    layers = (group_norm(num), nn.SiLU(), conv(num, num))
    return Residual(nn.Sequential(*layers, group_norm(num), nn.SiLU(), conv(num, num)))


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
