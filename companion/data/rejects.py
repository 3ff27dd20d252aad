"""Images that look like digits and are none: what a judge of samples has to be shown to learn to refuse."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from companion import checks
from companion.data.treatments import check_images

Batch = Float[Tensor, "batch channels height width"]


def rejects(x: Batch) -> Batch:
    """Spoil each image in one of the `ways_to_spoil`, at random among those that change it much.

    A model of digits that has not learned enough draws such things: strokes that do not meet,
    halves of two digits, hooks where none belong.

    Args:
        x: images on [0, 1] with at least two examples; others in the batch lend the pieces.

    Raises:
        ValueError: if there are fewer than two images, or a pixel is outside [0, 1].

    Book: chapter 10.
    """
    spoiled = torch.stack(list(ways_to_spoil(x).values()))
    weight = torch.stack([is_spoiled(each, x) for each in spoiled]).float()
    weight[-1] += 1e-6  # where nothing changes it much, it is laid over another one
    # The numbers that torch.multinomial draws, but by image: several processes can share a batch.
    which = (weight / torch.empty_like(weight).exponential_()).argmax(0)
    return spoiled[which, torch.arange(len(x), device=x.device)]


def ways_to_spoil(x: Batch) -> dict[str, Batch]:
    """All images spoiled in each of six ways: pasted, added, mirrored, erased, warped, overlaid.

    In a random window, another image replaces this one or is added, or its own mirror image or black does. Or all is
    warped, or another image laid over it. `rejects` says what is accepted.

    Book: chapter 10.
    """
    check_images(x, 0, 1)
    checks.at_least(2, num_images=len(x))
    num, _, height, width = x.shape
    other, window = x.roll(1, 0), _windows(num, height, width).to(x)
    mirrored = torch.where(torch.rand(num, 1, 1, 1, device=x.device) < 0.5, x.flip(2), x.flip(3))
    return {
        "pasted": torch.where(window > 0, other, x),
        "added": torch.maximum(x, window * other),
        "mirrored": torch.where(window > 0, mirrored, x),
        "erased": x * (1 - window),
        "warped": _warped(x),
        "overlaid": torch.maximum(x, other),
    }


def is_spoiled(spoiled: Batch, x: Batch) -> Bool[Tensor, "batch"]:
    """Whether the change is above two fifths of the ink of the image, and of that of the one before it.

    A window that holds nearly all of another digit shows that digit: nothing is spoiled then.

    Raises:
        ValueError: if the two have different shapes.

    Book: chapter 10.
    """
    checks.floating(x=x)  # bytes would wrap
    checks.examples(2, x=x)
    checks.like(x, spoiled=spoiled)

    def changed(x: Tensor) -> Tensor:
        return (spoiled - x).abs().flatten(1).sum(1) > 0.4 * x.flatten(1).sum(1)

    return changed(x) & changed(x.roll(1, 0))


def _windows(num: int, height: int, width: int) -> Float[Tensor, "num 1 height width"]:
    """Ones in a rectangle between a quarter and three quarters of the side, at a random place in the middle."""

    def stripe(side: int) -> Tensor:
        size = side * (0.25 + 0.5 * torch.rand(num, 1))
        start = side * 0.1 + torch.rand(num, 1) * (side * 0.8 - size)
        place = torch.arange(side)
        return (place >= start) & (place < start + size)

    return (stripe(height)[:, None, :, None] & stripe(width)[:, None, None, :]).float()


def _warped(x: Tensor) -> Tensor:
    """Pixels moved along a smooth random field, by three tenths of the side where it is largest."""
    num, _, height, width = x.shape
    coarse = torch.randn(num, 2, 4, 4, device=x.device)
    field = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
    field = 0.6 * field / field.abs().amax((1, 2, 3), keepdim=True)
    straight = F.affine_grid(torch.eye(2, 3).to(x).expand(num, 2, 3), list(x.shape), False)
    return F.grid_sample(x, straight + field.movedim(1, -1), align_corners=False).clamp(0, 1)
