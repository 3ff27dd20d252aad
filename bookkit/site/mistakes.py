"""Mistakes that many make: the wrong form, the right one, and by how much they differ, computed at each build.

Each was met in published teaching material or in our own drafts; `book/errata.md` shows them. A mistake is named, its
author is not. What `size` returns stands on the page, and `tests/test_mistakes.py` computes it a second way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


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
    """Bound and "bound with a plus" of a model with p(z) = N(0, 1), p(x|z) = N(z, 1) at x = 0, for q = N(0, width^2)."""  # noqa: E501
    explain = -0.5 * np.log(2 * np.pi) - 0.5 * width**2
    kl = 0.5 * (width**2 - 1 - np.log(width**2))
    return float(explain - kl), float(explain + kl)


EVIDENCE = float(-0.5 * np.log(4 * np.pi))  # log p(0) of that model: x is N(0, 2)


@dataclass(frozen=True)
class Mistake:
    """A mistake: its name, both forms in Markdown, what it costs, how it is found, and perhaps a figure."""

    name: str
    title: str
    wrong: str
    right: str
    size: Callable[[], str]
    caught: str
    figure: str = ""
    alt: str = ""


MISTAKES = [
    Mistake(
        "plus-kl",
        "The bound with a plus",
        r"$\mathbb{E}_q \log p(x \mid z) + D_{\mathrm{KL}}(q(z \mid x) \,\Vert\, p(z))$",
        r"$\mathbb{E}_q \log p(x \mid z) - D_{\mathrm{KL}}(q(z \mid x) \,\Vert\, p(z))$",
        lambda: (
            f"With $q$ ten times narrower than the prior, the wrong form is {plus_sign()[1]:.2f} nats; the evidence, which "  # noqa: E501
            f"nothing may exceed, is {EVIDENCE:.2f}. It grows without limit as $q$ gets narrower."
        ),
        "A lower bound is compared with an evidence that is known: a model whose $\\log p(x)$ has a closed form.",
        "mistake-sign",
        "Two curves over the width of q. The bound stays below the dashed line of the evidence and touches it once; the form "  # noqa: E501
        "with a plus crosses the line and rises as q gets narrow.",
    ),
    Mistake(
        "uniform-noise",
        "Uniform noise, and beta for its root",
        r"$x_t = \sqrt{1-\beta_t}\, x_{t-1} + \beta_t\, u$ with $u$ uniform on $[0, 1]$ (`rand` for `randn`)",
        r"$x_t = \sqrt{1-\beta_t}\, x_{t-1} + \sqrt{\beta_t}\, \varepsilon$ with $\varepsilon \sim \mathcal{N}(0, I)$",
        lambda: (
            "After a hundred steps the mean is {:.2f} and the variance {:.3f}. They should be 0 and 1: a network trained "  # noqa: E501
            "on these never sees the noise that sampling starts from.".format(*wrong_forward())
        ),
        "Mean and variance of $x_T$, from a thousand draws, against those of the prior.",
        "mistake-noise",
        "Two histograms of the last latent. The right one is a bell around zero, the wrong one a narrow spike near one.",  # noqa: E501
    ),
    Mistake(
        "mean-for-sum",
        "The hidden beta of a mean",
        "`bce(x_hat, x).mean() + kl.mean()`, called the loss of a VAE",
        "`bce(x_hat, x).sum() + kl.sum()`, divided by the number of images",
        lambda: (
            f"With 784 pixels and 200 latents it is a $\\beta$-VAE with $\\beta = {hidden_beta():.2f}$: the KL counts "
            "that many times. Nobody chose the number."
        ),
        "The loss of one batch equals minus the ELBO, computed by a function that knows nothing of the loss.",
    ),
    Mistake(
        "per-element",
        "A constant for each element",
        r"$\sum_{i=1}^{D} \big( -\tfrac{D}{2} \log 2\pi - \log \sigma_i - \dots \big)$",
        r"$-\tfrac{D}{2} \log 2\pi + \sum_{i=1}^{D} \big( - \log \sigma_i - \dots \big)$",
        lambda: (
            f"{constant_per_element():.1f} nats in 16 dimensions. In a difference of two such densities it cancels, so "
            "training works, and every density that is printed is wrong."
        ),
        "A density integrates to one: on a grid in one and in two dimensions.",
    ),
    Mistake(
        "kl-is-mse",
        "A constant lost between the KL and the squared error",
        r"$D_{\mathrm{KL}}(q(x_{t-1} \mid x_t, x) \,\Vert\, p_\theta(x_{t-1} \mid x_t)) "
        r"= \tfrac{1}{2\beta_t} \lVert \tilde\mu_t - \mu_\theta \rVert^2$",
        r"$\dots + \tfrac{D}{2} \big( \tfrac{\tilde\beta_t}{\beta_t} - 1 - \log \tfrac{\tilde\beta_t}{\beta_t} \big)$ "
        r"when $p_\theta$ has the variance $\beta_t$ and $q$ has $\tilde\beta_t$",
        lambda: (
            f"{dropped_constant():.2f} nats, or {dropped_constant() / np.log(2):.2f} bits, per dimension over a "
            "thousand steps. Gradients do not feel it; a reported likelihood does."
        ),
        "The KL of the two Gaussians in closed form, beside the sum of squares.",
    ),
    Mistake(
        "ppca-noise",
        "The mean of the residuals, squared",
        r"noise variance $= (\operatorname{mean} \lVert x - \hat x \rVert)^2$, and the latent keeps all of its variance",  # noqa: E501
        r"noise variance $= \operatorname{mean} \lVert x - \hat x \rVert^2$ for each dropped dimension, taken off the latent's",  # noqa: E501
        lambda: (
            "For data with variances 15 and 5 along the two axes, the model generates {:.1f} and {:.1f}.".format(
                *ppca()
            )
        ),
        "The covariance of samples equals that of the data: for probabilistic PCA with all but one dimension it must.",
        "mistake-ppca",
        "Two ellipses around the same center. That of the data is round, that of the wrong model longer and thinner.",
    ),
    Mistake(
        "index",
        "Trained at one index, used at another",
        "`model(x_t, t)` trained with `t = 0` for the cleanest level that has noise, and called in sampling with the level itself; "  # noqa: E501
        "`if t > 0` in a loop that ends at 1",
        "One function says what level an index means, and training and sampling call it; the last step adds no noise",
        lambda: (
            f"Two levels off, near the end of 100 steps the denoiser expects {off_by_two():.1f} times the noise variance "  # noqa: E501
            "that is there."
        ),
        "The exact denoiser of Gaussian data in place of the network: the variance after each step has a closed form.",
    ),
    Mistake(
        "sign-of-entropy",
        "A negative entropy",
        r"The entropy of the uniform distribution on $n$ points is $-\log n$",
        r"It is $\log n$",
        lambda: "For $n = 8$: {:.3f} in place of {:.3f}.".format(*entropy_of_uniform()),
        "Eight numbers, summed.",
    ),
    Mistake(
        "text-and-code",
        "The text and its code disagree",
        "A text derives with a sine and the cell computes a cosine; a docstring gives the variance of two other symbols; a "  # noqa: E501
        "“true value” is typed in and two cells have two of them",
        "What the text states, the cell computes; what is called true comes from a closed form or from quadrature",
        lambda: (
            "In this book each numbered claim is a label which a cell must name, and a build fails if the cell is gone."
        ),
        "Evaluate the printed formula on a grid, beside the function.",
    ),
    Mistake(
        "blame",
        "The sampler gets the blame",
        "“Digits drawn in 20 steps are worse, so DDIM with few steps is worse”: a draft of chapter 11",
        "The network was at fault. With the class given to it, the same 20 steps are near real digits",
        lambda: "Chapter 11 has the table: one sampler, two networks.",
        "Change one thing at a time. A measurement of the pair network and sampler says nothing about either of them.",
    ),
]
REPORTS = [  # public reports of readers, in other books
    ("a logarithm missing in the ELBO", "probml/pml2-book", 23),
    ("$p(x)$ for $p(z)$", "probml/pml2-book", 91),
    ("an expectation lost from the bound of diffusion", "probml/pml2-book", 160),
    ("the forward KL printed for the reverse", "probml/pml-book", 11),
    ("the arguments of the KL swapped in code", "QuantEcon/lecture-python.myst", 509),
]
