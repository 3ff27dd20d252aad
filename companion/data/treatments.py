"""Treatments of an image that leave what it shows as it was: shift, blur, contrast, black and white."""

import torch
from jaxtyping import Float
from torch import Tensor

from companion import checks
from companion.data.images import binarize

Batch = Float[Tensor, "batch channels height width"]


def shifted(x: Batch, pixels: Float[Tensor, "batch 2"]) -> Batch:
    """Images moved down and to the right by so many pixels, linear in between; what enters is black.

    Raises:
        ValueError: if `pixels` are not two finite numbers for each image.

    Book: chapter 10.
    """
    check_images(x)
    checks.floating(pixels=pixels)
    checks.shape((len(x), 2), pixels=pixels)
    checks.finite(pixels=pixels)
    pixels = pixels.to(x)

    def rows(side: int, by: Tensor) -> Tensor:
        return (1 - (_distances(side, x) - by[:, None, None]).abs()).clamp(min=0)

    height, width = x.shape[2:]
    return _rows_and_columns(x, rows(height, pixels[:, 0]), rows(width, pixels[:, 1]))


def blurred(x: Batch, width: Float[Tensor, "batch"]) -> Batch:
    """Images convolved with a Gaussian of these standard deviations, in pixels; around them all is black.

    Raises:
        ValueError: if there is not one finite `width` of 0 or more for each image.

    Book: chapter 10.
    """
    check_images(x)
    checks.shape((len(x),), width=width)
    checks.finite(width=width)
    checks.within(0, torch.inf, width=width)
    width = width.to(x)
    steps = torch.arange(-28, 29).to(x)
    precision = 0.5 / width.clamp(min=0.05)[:, None, None].square()
    total = (-precision * steps.square()).exp().sum(-1, keepdim=True)

    def rows(side: int) -> Tensor:
        return (-precision * _distances(side, x).square()).exp() / total

    return _rows_and_columns(x, rows(x.shape[2]), rows(x.shape[3]))


def with_contrast(x: Batch, factor: Float[Tensor, "batch"], gray: Float[Tensor, "batch"]) -> Batch:
    """Images whose values are moved away from a `gray` level, or towards it, and kept on [0, 1].

    Args:
        x: images on [0, 1].
        factor: of the difference from the gray level, 0 or more; 1 changes nothing.
        gray: the level that stays, on [0, 1]; with 0 the paper stays black.

    Raises:
        ValueError: if there is not one number of each for each image, or one is outside its range.

    Book: chapter 10.
    """
    check_images(x, 0, 1)
    checks.floating(factor=factor, gray=gray)
    checks.shape((len(x),), factor=factor, gray=gray)
    checks.finite(factor=factor)
    checks.within(0, torch.inf, factor=factor)
    checks.within(0, 1, gray=gray)
    factor, gray = (each.to(x)[:, None, None, None] for each in (factor, gray))
    return (gray + factor * (x - gray)).clamp(0, 1)


def treated(x: Batch) -> Batch:
    """Images shifted, blurred and changed in contrast, each with probability 1/2, and made black and white with 0.19.

    A judge that has seen both digits and rejects like this can tell them apart only by what they show.

    Args:
        x: images on [0, 1].

    Book: chapter 10.
    """
    check_images(x, 0, 1)
    num = len(x)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(num, *shape, device=x.device)

    def sometimes(share: float, changed: Tensor, x: Tensor) -> Tensor:
        return torch.where(uniform(0, 1, 1, 1, 1) < share, changed, x)

    x = sometimes(0.5, shifted(x, uniform(-1, 1, 2)), x)
    x = sometimes(0.5, blurred(x, uniform(0, 1)), x).clamp(0, 1)
    x = sometimes(0.5, with_contrast(x, uniform(0.6, 1.5), uniform(0, 0.5)), x)
    return sometimes(0.1, binarize(x), sometimes(0.1, (x > uniform(0.2, 0.7, 1, 1, 1)).to(x), x))


def check_images(x: Tensor, low: float = -torch.inf, high: float = torch.inf) -> None:
    """Refuse what is no batch of images on [low, high]; values on a GPU, which would wait, are not read.

    Raises:
        TypeError: if x is of another precision than float32 or float64.
        ValueError: if it has another shape, or a value outside, or not finite.

    Book: chapter 10.
    """
    checks.precise(x=x)
    checks.shape(("batch", "channels", "height", "width"), x=x)
    if checks.reads_at_once(x):
        checks.finite(x=x)
        checks.within(low, high, x=x)


def _distances(side: int, x: Tensor) -> Tensor:
    """How many pixels each row lies below each other one."""
    place = torch.arange(side, device=x.device, dtype=x.dtype)
    return place[:, None] - place


def _rows_and_columns(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Sums of rows and of columns with the weights of these matrices, one of each for each image."""
    return rows[:, None] @ x @ columns[:, None].mT
