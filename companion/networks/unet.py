"""The U-Net of diffusion models: from a noisy image and a time to an image.

Throughout, h are feature maps of `num_channels`, and e is an embedding of the time of size `num_embedding`.

On the way down the side of the feature maps halves and their number grows; on the way
up each block also sees the output of its mirror image on the way down. The residual
stream h keeps its width from block to block: no shortcut needs a layer.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise, starmap
from typing import TypeAlias, cast

import torch
from jaxtyping import Float, Int, Real
from torch import Tensor, nn
from torch.nn import functional as F

from companion import checks
from companion.networks.embeddings import SinusoidalEmbedding
from companion.networks.mlp import mlp
from companion.networks.residual import start_at_zero

Condition: TypeAlias = (
    Int[Tensor, "batch"] | Float[Tensor, "batch num_factors"] | Int[Tensor, "batch max_words"]
)
"""The class of each image, the factors that it was made from, or the words that say what it shows."""


class ShiftedNorm(nn.Module):
    """norm(h + W e): the embedding e of the time moves the mean of every channel.

    Source: Ho et al. 2020, appendix B. Book: chapter 10.
    """

    def __init__(self, num_channels: int, num_embedding: int) -> None:
        checks.at_least(1, num_embedding=num_embedding)
        super().__init__()
        self.norm = group_norm(num_channels)
        self.shift = nn.Linear(num_embedding, num_channels)

    def forward(
        self,
        h: Float[Tensor, "batch channels height width"],
        e: Float[Tensor, "batch num_embedding"],
    ) -> Float[Tensor, "batch channels height width"]:
        """The normalized sum."""
        return self.norm(h + self.shift(e)[:, :, None, None])


class AdaptiveNorm(nn.Module):
    """(1 + scale) norm(h) + shift, where the embedding e gives both for every channel.

    Source: Dhariwal & Nichol 2021, section 3.1. Book: chapter 10.
    """

    def __init__(self, num_channels: int, num_embedding: int) -> None:
        checks.at_least(1, num_embedding=num_embedding)
        super().__init__()
        self.norm = group_norm(num_channels)
        self.scale_shift = nn.Linear(num_embedding, 2 * num_channels)

    def forward(
        self,
        h: Float[Tensor, "batch channels height width"],
        e: Float[Tensor, "batch num_embedding"],
    ) -> Float[Tensor, "batch channels height width"]:
        """The normalized h, scaled and shifted."""
        scale, shift = self.scale_shift(e)[:, :, None, None].chunk(2, dim=1)
        return torch.addcmul(shift, 1 + scale, self.norm(h))


class Attention(nn.Module):
    """h + attention(h): every pixel looks at all others; `heads` parts of the channels look independently.

    Raises:
        ValueError: if `heads` does not divide `num_channels`.

    Source: Vaswani et al. 2017; on feature maps Wang et al. 2018. Book: chapter 10.
    """

    def __init__(self, num_channels: int, heads: int = 1) -> None:
        super().__init__()
        checks.at_least(1, num_channels=num_channels, heads=heads)
        if num_channels % heads:
            raise ValueError(f"heads must divide num_channels, {num_channels}; {heads} was given")
        self.heads = heads
        self.norm = group_norm(num_channels)
        self.qkv = nn.Linear(num_channels, 3 * num_channels)
        self.out = start_at_zero(nn.Sequential(nn.Linear(num_channels, num_channels)))

    def forward(
        self, h: Float[Tensor, "batch channels height width"]
    ) -> Float[Tensor, "batch channels height width"]:
        """The residual stream h plus the attention."""
        pixels = self.norm(h).flatten(2).transpose(1, 2)  # (batch, pixels, channels)
        parts = self.qkv(pixels).unflatten(2, (3, self.heads, -1))
        q, k, v = parts.permute(2, 0, 3, 1, 4)  # each (batch, heads, pixels, width)
        seen = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        return h + self.out(seen).transpose(1, 2).unflatten(2, h.shape[2:])


class Block(nn.Module):
    """h + branch(h, skip, e), then attention if `attends`.

    The branch has two convolutions, and the second starts at zero. `skip` has `num_skip`
    channels, 0 without one; `conditioning` makes the normalization that depends on e.

    Source: Ho et al. 2020, appendix B, without the shortcut's convolution.
    Book: chapter 10.
    """

    def __init__(
        self,
        num_channels: int,
        num_skip: int,
        num_embedding: int,
        conditioning: Callable[[int, int], nn.Module] = ShiftedNorm,
        attends: bool = False,
    ) -> None:
        checks.at_least(0, num_channels=num_channels, num_skip=num_skip)
        checks.maker(conditioning=conditioning)
        super().__init__()
        num, num_seen = num_channels, num_channels + num_skip
        self.first = nn.Sequential(group_norm(num_seen), nn.SiLU(), conv(num_seen, num))
        self.norm = conditioning(num, num_embedding)
        checks.instance(nn.Module, **{"conditioning(num_channels, num_embedding)": self.norm})
        self.second = start_at_zero(nn.Sequential(nn.SiLU(), conv(num, num)))
        self.attend = Attention(num) if attends else nn.Identity()

    def forward(
        self,
        h: Float[Tensor, "batch channels height width"],
        e: Float[Tensor, "batch num_embedding"],
        skip: Float[Tensor, "batch num_skip height width"] | None = None,
    ) -> Float[Tensor, "batch channels height width"]:
        """The residual stream h plus this block's branch, and its attention."""
        seen = h if skip is None else torch.cat([h, skip], dim=1)
        return self.attend(h + self.second(self.norm(self.first(seen), e)))


class UNet(nn.Module):
    """A network of a noisy image, a time and, with `num_classes`, a class label, or with `num_factors` its causes.

    The loss decides what it predicts, such as the noise; it knows of no noise schedule.
    Its output starts at zero.

    Args:
        image_shape: channels, height, width.
        channels: width of the finest feature maps, a multiple of 4; multiples of 32
            are fastest.
        multipliers: width of each level over `channels`, finest first. Each level has
            half the side of the one before.
        blocks: of each level on the way down, and as many on the way up.
        attention_sides: heights of the feature maps at which attention follows every
            block. One in the middle of the coarsest is there in any case.
        embedding: makes the module that turns t into `channels` numbers, such as
            `SinusoidalEmbedding` for t = 1, ..., T or `FourierEmbedding`.
        conditioning: makes the normalizations that depend on the time: `ShiftedNorm` or
            `AdaptiveNorm`.
        num_classes: labels are 0, ..., num_classes - 1, and `num_classes` itself is the
            null label, for no class. Without it the network takes no label.
        num_factors: how many numbers, near [-1, 1], an image may be told to have been made
            from, such as the causes of a scene; NaN stands for one that is not told.

    Raises:
        ValueError: if a size is below 1, `channels` is no multiple of 4, a side cannot
            be halved for each level but the first, no feature map has a height
            named in `attention_sides`, or `num_classes` and `num_factors` are both given.

    Source: Ho et al. 2020, appendix B; the null label, Ho & Salimans 2022.
    Book: chapter 10.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (1, 28, 28),
        channels: int = 32,
        multipliers: Sequence[int] = (1, 2, 2),
        blocks: int = 2,
        attention_sides: Sequence[int] = (),
        embedding: Callable[[int], nn.Module] = SinusoidalEmbedding,
        conditioning: Callable[[int, int], nn.Module] = ShiftedNorm,
        num_classes: int | None = None,
        num_factors: int | None = None,
    ) -> None:
        super().__init__()
        checks.maker(embedding=embedding, conditioning=conditioning)
        _check(image_shape, channels, multipliers, blocks, attention_sides)
        _check_conditions(num_classes, num_factors)
        self.image_shape, self.num_classes = tuple(image_shape), num_classes
        self.num_factors = num_factors
        widths, num_colors = [channels * m for m in multipliers], image_shape[0]
        steps, size = list(pairwise(widths)), 4 * channels  # size of the embedding
        block = partial(Block, num_embedding=size, conditioning=conditioning)

        def level(i: int, num_skip: int) -> nn.ModuleList:
            attends = image_shape[1] >> i in attention_sides
            made = [block(widths[i], num_skip, attends=attends) for _ in range(blocks)]
            return nn.ModuleList(made)

        embedded = embedding(channels)
        checks.instance(nn.Module, **{"embedding(channels)": embedded})
        self.time = mlp([channels, size, size], nn.SiLU).insert(0, embedded)
        self.label = nn.Embedding(num_classes + 1, size) if num_classes else None
        if self.label is not None:  # no class says anything yet
            nn.init.zeros_(self.label.weight)
        self.factors = mlp([2 * num_factors, size, size], nn.SiLU) if num_factors else None
        levels = range(len(widths))
        self.enter = conv(num_colors, widths[0])
        self.down = nn.ModuleList(level(i, num_skip=0) for i in levels)
        self.shrink = nn.ModuleList([*starmap(shrink, steps), nn.Identity()])
        last = partial(block, widths[-1], 0)
        self.middle = nn.ModuleList([last(attends=True), last()])
        self.up = nn.ModuleList(level(i, widths[i]) for i in reversed(levels))
        grown = [grow(num_in, num_out) for num_out, num_in in reversed(steps)]
        self.grow = nn.ModuleList([*grown, nn.Identity()])
        layers = [group_norm(widths[0]), nn.SiLU(), conv(widths[0], num_colors)]
        self.exit = start_at_zero(nn.Sequential(*layers))

    def forward(
        self,
        x_t: Float[Tensor, "batch channels height width"],
        t: Real[Tensor, "batch"],
        label: Condition | None = None,
    ) -> Float[Tensor, "batch channels height width"]:
        """The prediction, such as that of the noise; without a label, or factors, for none."""
        self._check_inputs(x_t, t, label)
        e, h, skips = self.embed(t, label), self._entered(x_t), []
        for level, shrink in zip(self.down, self.shrink, strict=True):
            for block in level.children():
                h = block(h, e)
                skips.append(h)
            h = shrink(h)
        for block in self.middle:
            h = block(h, e)
        for level, grow in zip(self.up, self.grow, strict=True):
            for block in level.children():
                h = block(h, e, skips.pop())
            h = grow(h)
        return self.exit(h).to(x_t)  # autocast gives bfloat16

    def _entered(self, x_t: Tensor) -> Tensor:
        """The first convolution, in the precision of x_t: bfloat16 is coarser than the noise next to the data."""
        if not torch.is_autocast_enabled(x_t.device.type):
            return cast(Tensor, self.enter(x_t))
        with torch.autocast(x_t.device.type, enabled=False):
            return cast(Tensor, self.enter(x_t))

    def embed(
        self, t: Real[Tensor, "batch"], label: Condition | None = None
    ) -> Float[Tensor, "batch num_embedding"]:
        """The embedding of time and class, or factors."""
        e = self.time(t)
        if label is not None:
            checks.shape((len(t), *label.shape[1:]), label=label)
        if self.factors is not None:
            if label is None:
                label = e.new_full((len(t), self.num_factors), math.nan)
            told = ~label.isnan()
            e = e + self.factors(torch.cat([label.where(told, 0), told], dim=1))
        if self.label is not None:
            if label is None:  # the last row is the null label
                label = torch.full_like(t, len(self.label.weight) - 1, dtype=torch.long)
            e = e + self.label(label)
        return F.silu(e)

    def _check_inputs(self, x_t: Tensor, t: Tensor, label: Tensor | None) -> None:
        checks.shape(("batch", *self.image_shape), x_t=x_t)
        checks.precision(self, x_t=x_t)
        checks.shape((len(x_t),), t=t)
        if label is None:
            return
        if self.num_factors is not None:
            checks.shape((len(x_t), self.num_factors), factors=label)
            checks.precision(self, factors=label)
            return
        if self.num_classes is None:
            raise ValueError(
                "label must be left out of a network without num_classes; one was given"
            )
        checks.shape((len(x_t),), label=label)
        checks.integers(label=label)
        if checks.reads_at_once(label):
            checks.within(0, self.num_classes, label=label)


def conv(num_in: int, num_out: int) -> nn.Conv2d:
    """Return a 3 x 3 convolution that keeps the side. Book: chapter 10."""
    checks.at_least(1, num_in=num_in, num_out=num_out)
    return nn.Conv2d(num_in, num_out, 3, padding=1)


def shrink(num_in: int, num_out: int) -> nn.Conv2d:
    """Return a 3 x 3 convolution of stride 2, which halves an even side. Book: chapter 10."""
    checks.at_least(1, num_in=num_in, num_out=num_out)
    return nn.Conv2d(num_in, num_out, 3, stride=2, padding=1)


def grow(num_in: int, num_out: int) -> nn.Sequential:
    """Return a 3 x 3 convolution, and then 2 x 2 equal pixels for each.

    In this order it takes a quarter of the operations that it would in the other; the
    next block smooths the pixels. Book: chapter 10.
    """
    return nn.Sequential(conv(num_in, num_out), nn.Upsample(scale_factor=2))


def group_norm(num_channels: int) -> nn.GroupNorm:
    """Return a normalization in at most 32 groups of at least 4 channels each.

    Source: Wu & He 2018. Book: chapter 10.
    """
    checks.at_least(4, num_channels=num_channels)
    return nn.GroupNorm(math.gcd(num_channels // 4, 32), num_channels)


def small_unet(
    image_shape: tuple[int, int, int] = (1, 28, 28), num_classes: int | None = None
) -> UNet:
    """Return a U-Net of 1.3 million parameters, the fastest of the three. Book: chapter 10."""
    return UNet(image_shape, 32, (1, 2, 3), blocks=1, num_classes=num_classes)


def mnist_unet(
    image_shape: tuple[int, int, int] = (1, 28, 28),
    num_classes: int | None = None,
    num_factors: int | None = None,
) -> UNet:
    """Return a U-Net of 1.9 million parameters, which one CPU core can train on MNIST.

    Most of its parameters work at the coarsest side, where they cost least. Book: chapter 10.
    """
    network = partial(UNet, num_classes=num_classes, num_factors=num_factors)
    return network(image_shape, 32, (1, 2, 4), blocks=1)


def large_unet(
    image_shape: tuple[int, int, int] = (1, 28, 28), num_classes: int | None = None
) -> UNet:
    """Return a U-Net of 6 million parameters. Book: chapter 10."""
    return UNet(image_shape, 64, (1, 3, 3), blocks=1, num_classes=num_classes)


def _check(
    image_shape: tuple[int, int, int],
    channels: int,
    multipliers: Sequence[int],
    blocks: int,
    attention_sides: Sequence[int],
) -> None:
    checks.sizes(3, image_shape=image_shape)
    checks.sizes(1, multipliers=multipliers)
    checks.sizes(0, attention_sides=attention_sides)
    checks.at_least(1, blocks=blocks)
    checks.at_least(4, channels=channels)
    if channels % 4:
        raise ValueError(f"channels must be a multiple of 4; {channels} was given")
    factor = 2 ** (len(multipliers) - 1)
    if len(image_shape) != 3 or any(side % factor for side in image_shape[1:]):
        raise ValueError(
            f"image_shape must be (channels, height, width) with sides that {factor} divides, one halving for each "
            f"of multipliers but the first; {tuple(image_shape)} was given"
        )
    sides = [image_shape[1] >> i for i in range(len(multipliers))]
    if not set(attention_sides) <= set(sides):
        raise ValueError(
            f"attention_sides must be among the heights of the feature maps, {sides}; {list(attention_sides)} was given"
        )


def _check_conditions(num_classes: int | None, num_factors: int | None) -> None:
    given = {"num_classes": num_classes, "num_factors": num_factors}
    given = {name: num for name, num in given.items() if num is not None}
    checks.at_least(1, **given)
    if len(given) > 1:
        raise ValueError(f"num_classes or num_factors must be left out; {given} was given")
