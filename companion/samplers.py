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
