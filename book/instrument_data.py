"""Computes what the live instruments need beside the shipped weights: `python -m book.instrument_data`, on MNIST.

draw_reference: minus the bound of test digits under the VAE with a latent plane, of which the instrument shows where 5,
50 and 95 of 100 lie.
ladder_digits: the test digits of the figure that opens the chapter on hierarchical VAEs, black and white.
which_are_real: which of the twenty digits that open the chapter on training a DDPM the network drew.
"""

from __future__ import annotations

import torch
from safetensors.torch import save_file

from bookkit.site.instruments import MODULES
from companion.data import binarize, load
from companion.elbo import LatentChain, elbo_terms
from companion.zoo import pretrained


def digits() -> torch.Tensor:
    """The test images of MNIST.

    Raises:
        RuntimeError: if MNIST is not there.
    """
    test = load("mnist", "test")
    if test.name != "mnist":
        raise RuntimeError("the digits are those of MNIST, which could not be loaded")
    return test.images


@torch.no_grad()
def draw_reference() -> dict[str, torch.Tensor]:
    """Three quantiles of minus the bound, in nats, over all test digits with one draw from q each."""
    _ = torch.manual_seed(0)
    model = pretrained("vae2d-mnist")
    assert isinstance(model, LatentChain)
    cost = -elbo_terms(model, binarize(digits())).elbo
    return {"minus_bound": cost.quantile(torch.tensor([0.05, 0.5, 0.95]))}


def ladder_digits() -> dict[str, torch.Tensor]:
    """The first ten test digits, as zeros and ones."""
    _ = torch.manual_seed(0)
    return {"images": binarize(digits()[:10]).byte()}


def which_are_real() -> dict[str, torch.Tensor]:
    """One for each digit of the riddle that the network drew, in the order of the chapter's first figure, else zero."""
    order = torch.randperm(20, generator=torch.Generator().manual_seed(5))
    return {"drawn": (order >= 10).byte()}


if __name__ == "__main__":
    save_file(draw_reference(), MODULES / "draw_reference.safetensors")
    save_file(ladder_digits(), MODULES / "ladder_digits.safetensors")
    save_file(which_are_real(), MODULES / "which_are_real.safetensors")
