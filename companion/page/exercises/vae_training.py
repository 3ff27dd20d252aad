"""Checks for the exercises of chapter 6, Training a VAE."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Bernoulli

from companion.page.exercises import Values, exercise, expect_close, expect_function


@exercise("collapsed-loss")
def check_collapsed_loss(collapsed_loss: Callable[[Tensor], Any]) -> str:
    """Check `collapsed_loss(mean)`, the least loss of a model without a latent."""

    def reference(mean: Tensor) -> Tensor:
        return Bernoulli(mean).entropy().sum()

    mean = torch.tensor([[0.1, 0.5], [0.9, 0.3]], dtype=torch.double)
    hint = "The best law of a pixel is a coin with the pixel's mean."
    cases = [(mean,), (mean.flatten()[:3],), (torch.tensor([0.0, 0.25]).double(),)]
    expect_function(collapsed_loss, reference, cases, hint)
    return "a trained model that does not beat it has learned nothing"


@exercise("warm-up")
def check_weight(weight: Callable[[int, int, float], Any]) -> str:
    """Check `weight(step, warm_up_steps, final)`, a linear ramp."""

    def reference(step: int, warm_up_steps: int, final: float) -> Tensor:
        return torch.tensor(final * step / warm_up_steps).clamp(max=final)

    hint = "Zero at step 0, final from warm_up_steps on, a straight line between."
    cases = [(30, 100, 1.0), (100, 100, 0.5), (250, 100, 2.0), (7, 10, 4.0)]
    expect_function(weight, reference, cases, hint)
    expect_close(weight(0, 100, 1.0), 0.0, hint)
    return "reconstruction first, the divergence later"


@exercise("k-bound")
def check_k_bound(k_bound: Callable[[Tensor], Any]) -> str:
    """Check `k_bound(log_w)`, the log of the mean weight, without underflow."""

    def reference(log_w: Tensor) -> Tensor:
        largest = log_w.max(0).values
        return largest + (log_w - largest).exp().mean(0).log()

    generator = torch.Generator().manual_seed(0)
    log_w = torch.randn(7, 3, generator=generator, dtype=torch.double)
    hint = "The logarithm of the mean over the first dimension; use logsumexp."
    expect_function(k_bound, reference, [(log_w,), (log_w - 2000,)], hint)
    return "also where the weights themselves are too small for a computer"


@exercise("bits-per-pixel")
def check_bits(answer: Values) -> str:
    """Check the bits per pixel of 86.8 nats for 784 pixels."""
    hint = "Divide by the number of pixels, and by the nats in a bit."
    expect_close(answer, 86.8 / (784 * math.log(2)), hint, rtol=5e-3)
    return "a sixth of what an incompressible picture needs"


@exercise("count-active")
def check_count_active(count_active: Callable[[Tensor, float], Any]) -> str:
    """Check `count_active(means, threshold)` against the companion's own count."""

    def reference(means: Tensor, threshold: float) -> Tensor:
        deviations = means - means.mean(0)
        variance = deviations.square().sum(0) / (len(means) - 1)
        return torch.tensor(float((variance > threshold).sum()))

    generator = torch.Generator().manual_seed(0)
    means = torch.randn(50, 6, generator=generator, dtype=torch.double)
    means = means * torch.tensor([1.0, 0.5, 0.2, 0.05, 0.01, 0.0]) + 3.0
    hint = "The variance over pictures of each latent, compared with the threshold."
    cases = [(means, 0.01), (means, 0.1), (means, 1e-5)]
    expect_function(count_active, reference, cases, hint)
    return "a constant mean does not count, however large"


@exercise("draw-spread")
def check_draw_spread(draw_spread: Callable[[Tensor], Any]) -> str:
    """Check `draw_spread(mean)`, the expected squared distance of a draw to its mean."""

    def reference(mean: Tensor) -> Tensor:
        return Bernoulli(mean).variance.sum()

    mean = torch.tensor([0.1, 0.5, 0.9, 1.0], dtype=torch.double)
    hint = "The variance of a coin, summed over the pixels."
    expect_function(draw_spread, reference, [(mean,), (mean[:2],)], hint)
    return "no spread where the decoder is sure"
