"""Networks of hierarchical VAEs: a ladder of perceptrons, and one of feature maps."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from companion import checks
from companion.distributions import ObservationModel, bernoulli, normal_product
from companion.hierarchical_vae import Combine, HierarchicalVae
from companion.networks.mlp import normalized_mlp
from companion.networks.residual import Residual, bottleneck, start_at_zero


def mlp_ladder(
    latent_dims: Sequence[int] = (64, 32, 16, 8, 4),
    hidden: Sequence[int] = (512, 256, 128, 64, 64),
    activation: Callable[[], nn.Module] = nn.SiLU,
    image_shape: tuple[int, int, int] = (1, 28, 28),
    observation_model: ObservationModel = bernoulli,
    combine: Combine = normal_product,
) -> HierarchicalVae:
    """Return a ladder of perceptrons with two hidden layers each; it is Markov.

    Every hidden layer has batch normalization, which subtracts what all images have in
    common; without it their features are so alike at the start that the posteriors
    collapse before the latents hold any information. So measure and sample in evaluation
    mode, `model.eval()`, in which an example does not depend on the rest of its batch.

    Args:
        latent_dims: dimensions of z_1, ..., z_T.
        hidden: widths of each level's networks, on the way up and on the way down.
        activation: after each hidden layer.
        image_shape: channels, height, width.
        observation_model: takes the decoder's output, of that shape.
        combine: makes q of prior and evidence, such as `normal_product`.

    Raises:
        ValueError: if `latent_dims` and `hidden` differ in length, or a size is below 1.

    Source: Sonderby et al. 2016, section 2. Book: chapter 8.
    """
    checks.sizes(1, latent_dims=latent_dims, hidden=hidden)
    checks.sizes(3, image_shape=image_shape)
    if len(latent_dims) != len(hidden):
        raise ValueError(
            "latent_dims and hidden must hold one number for each level; "
            f"{list(latent_dims)} and {list(hidden)} were given"
        )

    def layers(num_in: int, width: int) -> nn.Sequential:
        return normalized_mlp([num_in, width, width], nn.BatchNorm1d, activation)

    def down(num_in: int, width: int, num_out: int) -> nn.Sequential:
        return layers(num_in, width).append(nn.Linear(width, num_out))

    dim, codes = prod(image_shape), [2 * num for num in latent_dims]
    first, *bottom_up = map(layers, [dim, *hidden], hidden)
    decoder = down(latent_dims[0], hidden[0], dim)
    return HierarchicalVae(
        [nn.Sequential(nn.Flatten(), first), *bottom_up],
        [*map(nn.Linear, hidden, codes)],
        [*map(down, latent_dims[1:], hidden[1:], codes)],
        decoder.append(nn.Unflatten(1, image_shape)),
        observation_model,
        [(num,) for num in latent_dims],
        combine,
        image_shape,
    )


class TopDown(nn.Module):
    """One level of the way down: from what is above to the carried tensor, and from it to the prior of z_t.

    Args:
        lift: maps what is above, z_{t+1} and what is carried with it, to a tensor.
        block: maps that tensor to the one carried with z_t.
        head: maps the latter to mean and log-variance of z_t.

    Book: chapter 8.
    """

    def __init__(self, lift: nn.Module, block: nn.Module, head: nn.Module) -> None:
        checks.function(lift=lift, block=block, head=head)
        super().__init__()
        self.lift, self.block, self.head = lift, block, head

    def forward(
        self, above: Float[Tensor, "batch *above_shape"]
    ) -> Float[Tensor, "batch channels *space"]:
        """Mean, log-variance and the carried tensor, along dimension 1."""
        carry = self.block(self.lift(above))
        return torch.cat([self.head(carry), carry], dim=1)


class Merge(nn.Module):
    """Add z, through a 1 x 1 convolution, to the tensor carried beside it.

    Args:
        num_latents: channels of z, which come first.
        num_carried: channels of the carried tensor.

    Book: chapter 8.
    """

    def __init__(self, num_latents: int, num_carried: int) -> None:
        checks.at_least(1, num_latents=num_latents, num_carried=num_carried)
        super().__init__()
        self.sizes = [num_latents, num_carried]
        self.into = nn.Conv2d(num_latents, num_carried, 1)

    def forward(
        self, above: Float[Tensor, "batch channels *space"]
    ) -> Float[Tensor, "batch num_carried *space"]:
        """The carried tensor plus the convolution of z."""
        z, carry = above.split(self.sizes, dim=1)
        return carry + self.into(z)


def conv_ladder(
    latent_dim: int = 8,
    latent_channels: int = 4,
    levels: Sequence[int] = (1, 2),
    channels: Sequence[int] = (32, 64),
    image_shape: tuple[int, int, int] = (1, 28, 28),
    observation_model: ObservationModel = bernoulli,
) -> HierarchicalVae:
    """Return a ladder of feature maps below one vector; each level sees all levels above it.

    Its blocks have batch normalization, without which the vector alone is used, and the
    maps between it and the finest one collapse: measure and sample in evaluation mode.

    Args:
        latent_dim: dimensions of the vector z_T.
        latent_channels: channels of each map.
        levels: how many maps at 1/2, 1/4, ... of the image's side; finest first.
        channels: width of the network at each of these sides.
        image_shape: channels, height, width.
        observation_model: takes the decoder's output, of that shape.

    Raises:
        ValueError: if a size is below 1, `levels` and `channels` differ in length, or
            the image cannot be halved that often.

    Source: Vahdat & Kautz 2020; Child 2021; both are a hundred times as large. Book: chapter 8.
    """
    checks.at_least(1, latent_dim=latent_dim, latent_channels=latent_channels)
    checks.sizes(1, levels=levels)
    checks.sizes(1, channels=channels)
    checks.sizes(3, image_shape=image_shape)
    if len(channels) != len(levels) or min(channels) < 2:
        raise ValueError(
            f"channels must hold {len(levels)} numbers, one for each of levels, at least 2; {list(channels)} was given"
        )
    factor = 2 ** len(levels)
    if any(side % factor for side in image_shape[1:]):
        raise ValueError(
            f"image_shape must have sides that {factor} divides; {tuple(image_shape)} was given"
        )
    # For each map, finest first: its width, and whether it is the first of its side.
    widths = [w for num, w in zip(levels, channels, strict=True) for _ in range(num)]
    firsts = [i == 0 for num in levels for i in range(num)]
    num, code = latent_channels, 2 * latent_channels
    shapes = [
        (num, image_shape[1] >> halvings, image_shape[2] >> halvings)
        for halvings in accumulate(firsts)
    ]
    top = (widths[-1], *shapes[-1][1:])

    block = partial(_block, scale=len(widths) ** -0.5)
    stems = map(_stem, [image_shape[0], *widths], widths, firsts)
    bottom_up = map(nn.Sequential, stems, map(block, widths))
    evidence = [bottleneck(2 * w, w // 2, code) for w in widths]
    start = nn.Sequential(nn.Linear(latent_dim, prod(top)), nn.Unflatten(1, top))
    lifts = map(partial(_lift, num), widths[1:], widths, firsts[1:])
    heads = [start_at_zero(bottleneck(w, w // 2, code)) for w in widths]
    return HierarchicalVae(
        [*bottom_up, nn.Flatten()],
        [*evidence, nn.Sequential(nn.SiLU(), nn.Linear(prod(top), 2 * latent_dim))],
        [*map(TopDown, [*lifts, start], map(block, widths), heads)],
        _decoder(num, widths[0], image_shape[0], block),
        observation_model,
        [*shapes, (latent_dim,)],
        x_shape=image_shape,
    )


def _block(width: int, scale: float) -> nn.Module:
    return Residual(bottleneck(width, width // 2, width), scale)


def _stem(num_in: int, width: int, halve: bool) -> nn.Module:
    """Halves the side on the way up, at the first level of a side."""
    if not halve:
        return nn.Identity()
    return nn.Conv2d(num_in, width, 3, stride=2, padding=1)


def _lift(num_latents: int, num_above: int, width: int, double: bool) -> nn.Module:
    """Merges z into the carried tensor, and doubles the side at the last level of a side."""
    merge = Merge(num_latents, num_above)
    if not double:
        return merge
    resize = [nn.Conv2d(num_above, width, 1), nn.Upsample(scale_factor=2)]
    return nn.Sequential(merge, *resize)


def _decoder(
    num_latents: int, width: int, depth: int, block: Callable[[int], nn.Module]
) -> nn.Module:
    """The decoder: from z_1 and what is carried beside it to twice the side."""
    return nn.Sequential(
        Merge(num_latents, width),
        block(width),
        nn.SiLU(),
        nn.ConvTranspose2d(width, width // 2, 4, stride=2, padding=1),
        nn.SiLU(),
        nn.Conv2d(width // 2, depth, 3, padding=1),
    )
