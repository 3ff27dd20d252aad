"""Checks for the exercises of chapter 10, Training a DDPM."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from companion.page.exercises import double, draws, right_number, same_function

X, NOISE = draws(2, 4, 3)
LEVELS = double([[0.9], [0.5], [0.2], [0.01]])
TIMES, WEIGHTS = double([[0.99, 0.8, 0.4, 0.05], [0.5, 0.2, 0.1, 0.3]])


def _network(x_t: Tensor, alpha_bar: Tensor) -> Tensor:
    return 0.3 * x_t**2 - alpha_bar


@same_function(
    "how-far",
    [(1, 1), (3, 2), (0, 5), (4, 0)],
    hint="Count how far each convolution reaches, in pixels of the input.",
    remark="coarse scales see far for little work",
)
def check_width_seen(n: int, m: int) -> Tensor:
    """Check `width_seen(n, m)` by the gradient of a stack of convolutions on a line."""
    x = torch.zeros(1, 1, 129, dtype=torch.double, requires_grad=True)
    h = x
    for stride in [1] * n + [2] + [1] * m:
        h = nn.functional.conv1d(h, h.new_ones(1, 1, 3), stride=stride, padding=1)
    (gradient,) = torch.autograd.grad(h[0, 0, h.shape[2] // 2], x)
    return (gradient > 0).sum()


@same_function(
    "one-line",
    [(_network, X, NOISE, LEVELS), (_network, NOISE, X, LEVELS.flip(0))],
    hint="Make x_t from x and the noise, ask the network, square and sum over the last axis.",
    remark="this is all that is trained",
)
def check_training_loss(
    network: Callable[[Tensor, Tensor], Tensor], x: Tensor, noise: Tensor, alpha_bar: Tensor
) -> Tensor:
    """Check `training_loss` example by example."""
    errors = torch.zeros(len(x), dtype=torch.double)
    for i, level in enumerate(alpha_bar.flatten()):
        for j in range(x.shape[1]):
            x_t = level.sqrt() * x[i, j] + (1 - level).sqrt() * noise[i, j]
            errors[i] += (noise[i, j] - network(x_t, level)) ** 2
    return errors


@same_function(
    "loss-of-image",
    [(0.99,), (0.5,), (0.01,)],
    hint="Given x_t, an error of the noise makes one of the image; how many times as large is its square?",
    remark="large where x_t is nearly noise",
)
def check_weight_of_noise(alpha_bar: float) -> float:
    """Check `weight_of_noise` by two estimates of the noise and their errors."""
    x_t, noises = 1.3, (0.2, 0.5)
    first, second = ((x_t - (1 - alpha_bar) ** 0.5 * n) / alpha_bar**0.5 for n in noises)
    return ((second - first) / (noises[1] - noises[0])) ** 2


@right_number(
    "forget",
    hint="What is m steps old has the share d^m.",
    remark="some five memories long",
    rtol=1e-6,
)
def check_forget() -> float:
    """Check the first m with 0.9999^m below 0.01, by multiplying."""
    share, steps = 1.0, 0
    while share >= 0.01:
        share, steps = 0.9999 * share, steps + 1
    return float(steps)


@same_function(
    "bits-from-density",
    [(1500.0, 784), (-100.0, 784), (40.0, 64)],
    hint="The probability of a level is about the density times the width of the level; take its logarithm to base 2.",
    remark="a density has a unit, a probability has none",
)
def check_bits_from_density(elbo: float, D: int) -> Tensor:
    """Check `bits(elbo, D)` by the probability of one gray level."""
    return -(double(elbo / D).exp() * 2 / 255).log2()


@same_function(
    "price",
    [(0.2, 0.25, TIMES, WEIGHTS), (-0.1, 4.0, TIMES, WEIGHTS)],
    hint="The excess is delta^2 times the mean square of the best answer; how much of the noise does that explain?",
    remark="too little and too much cost the same",
)
def check_price(delta: float, lam: float, alpha_bar: Tensor, weights: Tensor) -> Tensor:
    """Check `price` by the distribution of the best answer."""
    total = double(0.0)
    for level, weight in zip(alpha_bar, weights, strict=True):
        cov, var = (1 - level).sqrt(), level * lam + 1 - level
        joint = torch.stack([torch.ones_like(cov), cov, cov, var]).view(2, 2)  # of noise and x_t
        unexplained = 1 / torch.linalg.inv(joint)[0, 0]
        total = total + weight * delta**2 * (1 - unexplained)
    return total
