"""Paths between two points of a latent space."""

import torch
from jaxtyping import Float
from torch import Tensor

from companion import checks


def spherical_interpolation(
    start: Float[Tensor, "batch *shape"],
    end: Float[Tensor, "batch *shape"],
    share: Float[Tensor, "steps"],
) -> Float[Tensor, "steps batch *shape"]:
    """Points on the great circles from `start` to `end`, for each share of the angle.

    Between two points of equal length all points have that length, as draws of a Gaussian
    prior in many dimensions nearly have; a straight line would pass closer to the origin.

    Args:
        start: one end of each path.
        end: the other end.
        share: share of the angle; 0 and 1 give the two ends.

    Raises:
        ValueError: if the shapes differ, a share is not finite, or a start and its end are zero or point in the same
            or in opposite directions, so that they have no great circle, or no single one.

    Source: Shoemake 1985; White 2016. Book: chapter 7.
    """
    checks.batch(2, start=start, end=end)
    checks.like(start, end=end)
    checks.shape(("steps",), share=share)
    checks.numbers(share=share)
    checks.finite(share=share)
    a, b = start.flatten(1), end.flatten(1)
    cosine = torch.nn.functional.cosine_similarity(a, b, dim=1)
    zero = not bool(a.any(dim=1).all() and b.any(dim=1).all())
    if zero or bool((cosine.abs() > 1 - 1e-6).any()):
        raise ValueError(
            "start and end must point in different, not opposite directions; "
            f"their cosines go from {cosine.min():.6g} to {cosine.max():.6g}"
        )
    omega = torch.acos(cosine)[:, None]
    t = share[:, None, None]
    path = (torch.sin((1 - t) * omega) * a + torch.sin(t * omega) * b) / omega.sin()
    return path.unflatten(2, start.shape[1:])


def path_length_ratio(points: Float[Tensor, "steps *shape"]) -> float:
    """Length of a path through the given points over the length of its chord: 1 is straight.

    Raises:
        ValueError: if there are fewer than two points, one is not finite, or the ends coincide.

    Book: chapter 1.
    """
    checks.finite(points=points)
    if points.dim() < 2:
        raise ValueError(f"points must have shape (steps, ...); {tuple(points.shape)} was given")
    flat = points.double().flatten(1)
    chord = (flat[-1] - flat[0]).norm() if len(flat) > 1 else torch.zeros(())
    if not chord > 0:
        raise ValueError("points must be at least two, with different first and last points")
    return (flat.diff(dim=0).norm(dim=1).sum() / chord).item()
