"""Images that look like digits and are none: what a judge of samples has to be shown to learn to refuse."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from companion import checks


def rejects(
    x: Float[Tensor, "batch channels height width"],
) -> Float[Tensor, "batch channels height width"]:
    """Spoil each image: paste or add a piece of another one, mirror a piece of its own, or warp it.

    A model of digits that has not learned enough draws such things: strokes that do not meet,
    halves of two digits, hooks where none belong. Where the chosen change would touch little ink,
    the image is laid over another one instead.

    Args:
        x: images on [0, 1] with at least two examples; others in the batch lend the pieces.

    Raises:
        ValueError: if there are fewer than two images, or a pixel is outside [0, 1].

    Book: chapter 10.
    """
    checks.shape(("batch", "channels", "height", "width"), x=x)
    checks.at_least(2, num_images=len(x))
    if checks.reads_at_once(x):  # it is called at each step of a training
        checks.within(0, 1, x=x)
    num, _, height, width = x.shape
    other, window = x.roll(1, 0), _windows(num, height, width).to(x)
    mirrored = torch.where(torch.rand(num, 1, 1, 1, device=x.device) < 0.5, x.flip(2), x.flip(3))
    changed = torch.stack(
        [
            torch.where(window > 0, other, x),
            torch.maximum(x, window * other),
            torch.where(window > 0, mirrored, x),
            x * (1 - window),
            _warped(x),
        ]
    )
    which = torch.randint(len(changed), (num,), device=x.device)
    spoiled = changed[which, torch.arange(num, device=x.device)]
    ink = x.flatten(1).sum(1)
    touched = (spoiled - x).abs().flatten(1).sum(1) > 0.3 * ink
    return torch.where(touched[:, None, None, None], spoiled, torch.maximum(x, other))


def _windows(num: int, height: int, width: int) -> Float[Tensor, "num 1 height width"]:
    """Ones in a rectangle between a quarter and three quarters of the side, at a random place in the middle."""

    def stripe(side: int) -> Tensor:
        size = side * (0.25 + 0.5 * torch.rand(num, 1))
        start = side * 0.1 + torch.rand(num, 1) * (side * 0.8 - size)
        place = torch.arange(side)
        return (place >= start) & (place < start + size)

    return (stripe(height)[:, None, :, None] & stripe(width)[:, None, None, :]).float()


def _warped(x: Tensor) -> Tensor:
    """Pixels moved along a smooth random field, by a fifth of the side where it is largest."""
    num, _, height, width = x.shape
    coarse = torch.randn(num, 2, 4, 4, device=x.device)
    field = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)
    field = 0.4 * field / field.abs().amax((1, 2, 3), keepdim=True)
    straight = F.affine_grid(torch.eye(2, 3).to(x).expand(num, 2, 3), list(x.shape), False)
    return F.grid_sample(x, straight + field.movedim(1, -1), align_corners=False).clamp(0, 1)
