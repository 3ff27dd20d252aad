"""What the mistakes of book/data/mistakes.yml cost, computed at each build; book/errata.md shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import yaml


def entropy_of_uniform(n: int = 8) -> tuple[float, float]:
    """Minus log n, and the entropy of n equally likely outcomes."""
    p = np.full(n, 1 / n)
    return float((p * np.log(p)).sum()), float(-(p * np.log(p)).sum())


def constant_per_element(d: int = 16) -> float:
    """Nats that a log-density of d dimensions loses if each of its d terms has the constant of all d."""
    whole = -0.5 * d * np.log(2 * np.pi)
    return float(d * whole - whole)


def linear_schedule(steps: int = 1000) -> tuple[np.ndarray, np.ndarray]:
    """The variances beta_t of Ho et al. (2020), and those of q(x_{t-1} | x_t, x_0), from t = 2."""
    beta = np.linspace(1e-4, 0.02, steps) * 1000 / steps
    alpha_bar = np.cumprod(1 - beta)
    return beta[1:], beta[1:] * (1 - alpha_bar[:-1]) / (1 - alpha_bar[1:])


def dropped_constant(steps: int = 1000) -> float:
    """Nats per dimension that the squared errors of the means leave out of the bound, with variances beta_t."""
    beta, exact = linear_schedule(steps)
    return float((0.5 * (exact / beta - 1 - np.log(exact / beta))).sum())


def hidden_beta(pixels: int = 784, latents: int = 200) -> float:
    """The weight of the KL where both terms of the loss of a VAE are means and not sums."""
    return pixels / latents


def wrong_forward(steps: int = 100) -> tuple[float, float]:
    """Mean and variance of x_T from x_0 = 0, with uniform noise on [0, 1] and beta in place of its root."""
    mean = var = 0.0
    for beta in np.linspace(1e-3, 0.2, steps):
        mean = np.sqrt(1 - beta) * mean + beta / 2
        var = (1 - beta) * var + beta**2 / 12
    return float(mean), float(var)


def ppca(large: float = 15, small: float = 5) -> tuple[float, float]:
    """Variances along both axes of what a wrong probabilistic PCA generates.

    The noise has the squared mean of the absolute residuals in place of their mean square, and the latent keeps
    the variance that the noise brings.
    """
    noise = 2 * small / np.pi
    return large + noise, noise


def off_by_two(steps: int = 100) -> float:
    """How many times too much noise a denoiser expects at the last but one step, used two levels off."""
    beta = np.linspace(1e-4, 0.02, steps) * 1000 / steps
    noise = 1 - np.cumprod(1 - beta)
    return float(noise[2] / noise[0])


def plus_sign(width: float = 0.1) -> tuple[float, float]:
    """Bound and "bound with a plus" at x = 0, where z is N(0, 1) and x is N(z, 1), for q = N(0, width^2)."""
    explain = -0.5 * np.log(2 * np.pi) - 0.5 * width**2
    kl = 0.5 * (width**2 - 1 - np.log(width**2))
    return float(explain - kl), float(explain + kl)


EVIDENCE = float(-0.5 * np.log(4 * np.pi))  # log p(0) of that model: x is N(0, 2)


def sizes() -> dict[str, float]:
    """What the mistakes cost, by the names that book/data/mistakes.yml has for the numbers."""
    forward_mean, forward_var = wrong_forward()
    ppca_large, ppca_small = ppca()
    negative_entropy, entropy = entropy_of_uniform()
    return {
        "with_plus": plus_sign()[1],
        "evidence": EVIDENCE,
        "forward_mean": forward_mean,
        "forward_var": forward_var,
        "hidden_beta": hidden_beta(),
        "constant": constant_per_element(),
        "dropped": dropped_constant(),
        "dropped_bits": dropped_constant() / np.log(2),
        "ppca_large": ppca_large,
        "ppca_small": ppca_small,
        "off_by_two": off_by_two(),
        "negative_entropy": negative_entropy,
        "entropy": entropy,
    }


def read(root: Path) -> dict[str, Any]:
    """The mistakes and the reports of readers, with the numbers in their places."""
    told = yaml.safe_load((root / "book" / "data" / "mistakes.yml").read_text("utf8"))
    computed = sizes()
    for mistake in told["mistakes"]:
        mistake["size"] = mistake["size"].format(**computed)
    return dict(told)
