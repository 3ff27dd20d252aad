"""Checks for the exercises of chapter 12, Diffusion priors."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal

from companion.page.exercises import Values, exercise, expect_close, expect_function

KEPT = 0.6


@exercise("implicit-classifier")
def check_classifier_gradient(classifier_gradient: Callable[[Tensor, Tensor, float], Any]) -> str:
    """Check `classifier_gradient(told, untold, kept)` on two classes of normal data."""
    means, var = torch.tensor([-0.8, 0.5], dtype=torch.double), 0.3

    def log_joint(x: Tensor, kept: float) -> Tensor:
        law = Normal(kept**0.5 * means, (kept * var + 1 - kept) ** 0.5)
        return law.log_prob(x[:, None])

    def noises(x: Tensor, kept: float) -> tuple[Tensor, Tensor]:
        score = (kept**0.5 * means - x[:, None]) / (kept * var + 1 - kept)
        share = log_joint(x, kept).softmax(1)
        spread = (1 - kept) ** 0.5
        return -spread * score[:, 1], -spread * (share * score).sum(1)

    points = torch.linspace(-2, 2, 5, dtype=torch.double)

    def reference(told: Tensor, untold: Tensor, kept: float) -> Tensor:
        x = points.clone().requires_grad_()
        log_class = log_joint(x, kept).log_softmax(1)[:, 1]
        (gradient,) = torch.autograd.grad(log_class.sum(), x)
        return gradient

    cases = [(*noises(points, kept), kept) for kept in (0.9, 0.5, 0.1)]
    hint = "Write both scores by the noise; by Bayes' rule they differ by the gradient."
    expect_function(classifier_gradient, reference, cases, hint)
    return "nobody trained it"


@exercise("negative")
def check_not_this(not_this: Callable[[Tensor, Tensor, float], Any]) -> str:
    """Check `not_this(x_y, x_n, kappa)` by way of the scores."""

    def reference(x_y: Tensor, x_n: Tensor, kappa: float) -> Tensor:
        # At x_t = 0 the score is a multiple of the estimate.
        score_y, score_n = (KEPT**0.5 / (1 - KEPT) * x for x in (x_y, x_n))
        score = score_y + (kappa - 1) * (score_y - score_n)
        return (1 - KEPT) / KEPT**0.5 * score

    generator = torch.Generator().manual_seed(0)
    x_y, x_n = torch.randn(2, 4, generator=generator, dtype=torch.double)
    hint = "At kappa = 1 it is the denoiser of y; above, it moves away from that of n."
    cases = [(x_y, x_n, 3.0), (x_n, x_y, 1.5), (x_y, x_n, 1.0)]
    expect_function(not_this, reference, cases, hint)
    return "a negative prompt"


@exercise("scale")
def check_scale(answer: Values) -> str:
    """Check the scale by following the variance along the flow, for scales on both sides."""

    def arrives(kappa: float) -> float:
        # d log W / dr = 1 - P, over r = log(alpha_bar), by the rule of the middle.
        r = torch.linspace(-20, 0, 20_001, dtype=torch.double)
        V = 1 - 0.5 * ((r[1:] + r[:-1]) / 2).exp()
        slope = 1 - (kappa / V + 1 - kappa)
        return float((slope * r.diff()).sum().exp())

    low, high = 1.0, 20.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if arrives(middle) > 0.05 else (low, middle)
    hint = (
        "The variance of the class is 0.5, and that of the samples 0.5 to the power of the scale."
    )
    expect_close(answer, low, hint, rtol=1e-3)
    return "less than five, for a tenth of the variance"


@exercise("one-pixel")
def check_after_one_pixel(
    after_one_pixel: Callable[[Tensor, Tensor, int, float, float], Any],
) -> str:
    """Check `after_one_pixel(x_hat, C, i, y, var)` by adding precisions."""

    def reference(x_hat: Tensor, C: Tensor, i: int, y: float, var: float) -> Tensor:
        precision, seen = torch.linalg.inv(C), torch.zeros_like(x_hat)
        seen[i] = 1 / var
        return torch.linalg.solve(precision + torch.diag(seen), precision @ x_hat + seen * y)

    generator = torch.Generator().manual_seed(0)
    root = torch.randn(4, 4, generator=generator, dtype=torch.double)
    x_hat = torch.randn(4, generator=generator, dtype=torch.double)
    C = root @ root.T + 0.1 * torch.eye(4, dtype=torch.double)
    hint = "A is one row of the identity: what is C A^T, and what is A C A^T?"
    cases = [(x_hat, C, 0, 1.0, 0.1), (x_hat, C, 2, -0.5, 1.0)]
    expect_function(after_one_pixel, reference, cases, hint)
    return "all pixels move, in proportion to their covariance with the measured one"


@exercise("holes")
def check_share_that_misses(share_that_misses: Callable[[float], Any]) -> str:
    """Check `share_that_misses(nats)` with a half-line for the region."""
    normal = Normal(torch.zeros((), dtype=torch.double), torch.ones((), dtype=torch.double))

    def reference(nats: float) -> Tensor:
        # The point below which a normal number lies with the wanted probability.
        low, high = -40.0, 40.0
        for _ in range(200):
            middle = (low + high) / 2
            inside = normal.cdf(torch.tensor(middle, dtype=torch.double))
            low, high = (middle, high) if -inside.log() > nats else (low, middle)
        return 1 - normal.cdf(torch.tensor(low, dtype=torch.double))

    hint = (
        "By how much is the density of the codes larger than that of the prior, inside the region?"
    )
    expect_function(share_that_misses, reference, [(0.1,), (0.7,), (2.0,)], hint)
    return "two nats, and six of seven draws miss"
