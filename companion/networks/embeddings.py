"""Time as a vector: sines and cosines of many wavelengths, by which every t differs from the next."""

import math

import torch
from jaxtyping import Float, Real
from torch import Tensor, nn

from companion import checks


class Waves(nn.Module):
    """Sines, then cosines, of t times each of `frequencies`, in radians per unit of t.

    Raises:
        ValueError: if `dim` is not even and at least 4.

    Book: chapter 9.
    """

    frequencies: Tensor

    def __init__(self, dim: int) -> None:
        checks.at_least(4, dim=dim)
        if dim % 2:
            raise ValueError(f"dim must be even and at least 4; {dim} was given")
        super().__init__()

    def forward(self, t: Real[Tensor, "batch"]) -> Float[Tensor, "batch dim"]:
        """Sines first, then cosines."""
        checks.shape(("batch",), t=t)
        checks.numbers(t=t)
        phases = t[:, None].to(self.frequencies) * self.frequencies
        return torch.cat([phases.sin(), phases.cos()], dim=1)


class SinusoidalEmbedding(Waves):
    """Sines and cosines of t = 1, ..., T, whose wavelengths grow geometrically.

    Args:
        dim: dimensions of the embedding; even.
        max_wavelength: of the slowest wave, over 2 pi; the fastest has 1. It should
            exceed T.

    Raises:
        ValueError: if `dim` is not even and at least 4, or `max_wavelength` is not
            above 1.

    Source: Vaswani et al. 2017, section 3.5; in this form Ho et al. 2020. Book: chapter 10.
    """

    def __init__(self, dim: int, max_wavelength: float = 10_000.0) -> None:
        super().__init__(dim)
        checks.between(1, math.inf, max_wavelength=max_wavelength)
        exponents = torch.linspace(0, -math.log(max_wavelength), dim // 2)
        self.register_buffer("frequencies", exponents.exp(), persistent=False)


class FourierEmbedding(Waves):
    """Sines and cosines of t at random frequencies, for t that need not count steps.

    The frequencies are drawn once, when the embedding is made, from N(0, std^2) in
    cycles per unit of t. They are a buffer: saved with the weights, and not trained.

    Args:
        dim: dimensions of the embedding; even.
        std: of the frequencies. 16 suits t in [0, 1], and 16 / T suits t = 1, ..., T.

    Raises:
        ValueError: if `dim` is not even and at least 4, or `std` is not positive and
            finite.

    Source: Tancik et al. 2020; for time, Song et al. 2021. Book: chapter 10.
    """

    def __init__(self, dim: int, std: float = 16.0) -> None:
        super().__init__(dim)
        checks.positive(std=std)
        self.register_buffer("frequencies", 2 * math.pi * std * torch.randn(dim // 2))
