"""Draw from a model: samplers are generators, so one call gives the film and the picture."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from companion.elbo import LatentChain


@torch.no_grad()
def ancestral_sample(
    model: LatentChain, num: int
) -> Iterator[Float[Tensor, "num ..."]]:
    """Yield z_T, z_{T-1}, ..., z_1 and last the mean of p(x | z_1).

    `*film, x = ancestral_sample(model, 64)` keeps all of it. The last step adds no
    noise: it is the decoder's mean, while `model.likelihood(z_1).sample()` is a sample.

    Raises:
        ValueError: if `num` is below 1.
    """
    if num < 1:
        raise ValueError(f"num must be at least 1; {num} was given")
    z = model.prior(num).sample()
    yield z
    for t in range(model.num_latents - 1, 0, -1):
        z = model.inner_prior(t, z).sample()
        yield z
    yield model.likelihood(z).mean


def spherical_interpolation(
    start: Float[Tensor, "batch *shape"],
    end: Float[Tensor, "batch *shape"],
    share: Float[Tensor, "steps"],
) -> Float[Tensor, "steps batch *shape"]:
    """Points on the great circles from `start` to `end`, for each share of the angle.

    Two points of equal length stay that length all the way, as draws of a normal prior
    in many dimensions nearly do; a straight line would pass closer to the origin.

    Args:
        start: where the ways begin.
        end: where they end.
        share: how much of the angle is done; 0 and 1 give the two ends.

    Raises:
        ValueError: if the shapes differ, or a start and its end point in the same or in
            opposite directions, or are zero: no great circle, or no single one, is theirs.

    Source: Shoemake 1985; White 2016.
    """
    if start.shape != end.shape:
        raise ValueError(
            "start and end must have one shape; "
            f"{tuple(start.shape)} and {tuple(end.shape)} were given"
        )
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
