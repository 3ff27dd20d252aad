"""Checks for the exercises of chapter 6, Training a VAE."""

import math

from torch import Tensor
from torch.distributions import Bernoulli

from companion.page.exercises import double, draws, right_number, same_function

MEAN = double([[0.1, 0.5], [0.9, 0.3]])
LOG_W = draws(7, 3)
MEANS = draws(50, 6) * double([1.0, 0.5, 0.2, 0.05, 0.01, 0.0]) + 3.0
GRAYS = double([0.1, 0.5, 0.9, 1.0])


@same_function(
    "collapsed-loss",
    [(MEAN,), (MEAN.flatten()[:3],), (double([0.0, 0.25]),)],
    hint="The best distribution of a pixel is a coin with the pixel's mean.",
    remark="a trained model that does not beat it has learned nothing",
)
def check_collapsed_loss(mean: Tensor) -> Tensor:
    """Check `collapsed_loss(mean)`, the least loss of a model without a latent."""
    return Bernoulli(mean).entropy().sum()


@same_function(
    "warm-up",
    [(0, 100, 1.0), (30, 100, 1.0), (100, 100, 0.5), (250, 100, 2.0), (7, 10, 4.0)],
    hint="Zero at step 0, final from warm_up_steps on, a straight line between.",
    remark="reconstruction first, the KL later",
)
def check_weight(step: int, warm_up_steps: int, final: float) -> Tensor:
    """Check `weight(step, warm_up_steps, final)`, a linear ramp."""
    return double(final * step / warm_up_steps).clamp(max=final)


@same_function(
    "k-bound",
    [(LOG_W,), (LOG_W - 2000,)],
    hint="The logarithm of the mean over the first dimension; use logsumexp.",
    remark="also where the weights themselves are too small for a computer",
)
def check_k_bound(log_w: Tensor) -> Tensor:
    """Check `k_bound(log_w)`, the log of the mean weight, without underflow."""
    largest = log_w.max(0).values
    return largest + (log_w - largest).exp().mean(0).log()


@right_number(
    "bits-per-pixel",
    hint="Divide by the number of pixels, and by the nats in a bit.",
    remark="a sixth of what an incompressible image needs",
    rtol=5e-3,
)
def check_bits() -> float:
    """Check the bits per pixel of 86.8 nats for 784 pixels."""
    return 86.8 / (784 * math.log(2))


@same_function(
    "count-active",
    [(MEANS, 0.01), (MEANS, 0.1), (MEANS, 1e-5)],
    hint="The variance over images of each latent, compared with the threshold.",
    remark="a constant mean does not count, however large",
)
def check_count_active(means: Tensor, threshold: float) -> Tensor:
    """Check `count_active(means, threshold)` by the deviations from the mean."""
    variance = (means - means.mean(0)).square().sum(0) / (len(means) - 1)
    return (variance > threshold).sum()


@same_function(
    "draw-spread",
    [(GRAYS,), (GRAYS[:2],)],
    hint="The variance of a coin, summed over the pixels.",
    remark="it is zero where every pixel has probability 0 or 1",
)
def check_draw_spread(mean: Tensor) -> Tensor:
    """Check `draw_spread(mean)`, the expected squared distance of a sample to its mean."""
    return Bernoulli(mean).variance.sum()
