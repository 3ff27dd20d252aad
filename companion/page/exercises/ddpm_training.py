"""Checks for the exercises of chapter 10, Training a DDPM."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from companion.page.exercises import Values, exercise, expect_close, expect_function


@exercise("how-far")
def check_width_seen(width_seen: Callable[[int, int], Any]) -> str:
    """Check `width_seen(n, m)` by the gradient of a stack of convolutions on a line."""

    def reference(n: int, m: int) -> Tensor:
        strides = [1] * n + [2] + [1] * m
        x = torch.zeros(1, 1, 129, dtype=torch.double, requires_grad=True)
        h = x
        for stride in strides:
            h = nn.functional.conv1d(h, h.new_ones(1, 1, 3), stride=stride, padding=1)
        h[0, 0, h.shape[2] // 2].backward()
        assert x.grad is not None
        return (x.grad > 0).sum()

    hint = "Count how far each convolution reaches, in pixels of the input."
    expect_function(width_seen, reference, [(1, 1), (3, 2), (0, 5), (4, 0)], hint)
    return "coarse scales see far for little work"


@exercise("one-line")
def check_training_loss(
    training_loss: Callable[[Callable[[Tensor, Tensor], Tensor], Tensor, Tensor, Tensor], Any],
) -> str:
    """Check `training_loss(network, x, noise, kept)` example by example."""

    def network(x_t: Tensor, kept: Tensor) -> Tensor:
        return 0.3 * x_t**2 - kept

    def reference(_: Any, x: Tensor, noise: Tensor, kept: Tensor) -> Tensor:
        errors = torch.zeros(len(x), dtype=torch.double)
        for i in range(len(x)):
            for j in range(x.shape[1]):
                x_t = kept[i, 0].sqrt() * x[i, j] + (1 - kept[i, 0]).sqrt() * noise[i, j]
                errors[i] += (noise[i, j] - network(x_t, kept[i, 0])) ** 2
        return errors

    generator = torch.Generator().manual_seed(0)
    x, noise = torch.randn(2, 4, 3, generator=generator, dtype=torch.double)
    kept = torch.tensor([[0.9], [0.5], [0.2], [0.01]], dtype=torch.double)
    hint = "Make x_t from x and the noise, ask the network, square and sum over the last axis."
    cases = [(network, x, noise, kept), (network, noise, x, kept.flip(0))]
    expect_function(training_loss, reference, cases, hint)
    return "this is all that is trained"


@exercise("loss-of-picture")
def check_weight_of_noise(weight_of_noise: Callable[[float], Any]) -> str:
    """Check `weight_of_noise(kept)` by two estimates and their errors."""

    def reference(kept: float) -> Tensor:
        signal, spread = kept**0.5, (1 - kept) ** 0.5
        x_t = torch.tensor([1.3, 1.3], dtype=torch.double)
        noise = torch.tensor([0.2, 0.5], dtype=torch.double)
        x = (x_t - spread * noise) / signal
        return x.diff().square().sum() / noise.diff().square().sum()

    hint = "Given x_t, an error of the noise makes one of the picture; how many times as large is its square?"
    expect_function(weight_of_noise, reference, [(0.99,), (0.5,), (0.01,)], hint)
    return "large where x_t is nearly noise"


@exercise("forget")
def check_forget(answer: Values) -> str:
    """Check the first m with 0.9999^m below 0.01, by multiplying."""
    share, steps = 1.0, 0
    while share >= 0.01:
        share, steps = 0.9999 * share, steps + 1
    expect_close(answer, float(steps), "What is m steps old has the share d^m.", rtol=1e-6)
    return "some five memories long"


@exercise("bits-from-density")
def check_bits_from_density(bits: Callable[[float, int], Any]) -> str:
    """Check `bits(elbo, D)` by the probability of one gray level."""

    def reference(elbo: float, D: int) -> Tensor:
        density = torch.tensor(elbo / D, dtype=torch.double).exp()
        return -(density * 2 / 255).log2()

    hint = "The probability of a level is about the density times the width of the level; take its logarithm to base 2."
    expect_function(bits, reference, [(1500.0, 784), (-100.0, 784), (40.0, 64)], hint)
    return "a density has a unit, a probability has none"


@exercise("price")
def check_price(price: Callable[[float, float, Tensor, Tensor], Any]) -> str:
    """Check `price(delta, lam, kept, weights)` by the law of the best answer."""

    def reference(delta: float, lam: float, kept: Tensor, weights: Tensor) -> Tensor:
        total = torch.zeros((), dtype=torch.double)
        for share, weight in zip(kept, weights, strict=True):
            cov, var = (1 - share).sqrt(), share * lam + 1 - share
            one = torch.ones_like(cov)
            joint = torch.stack([one, cov, cov, var]).view(2, 2)  # of noise and x_t
            unexplained = 1 / torch.linalg.inv(joint)[0, 0]
            total = total + weight * delta**2 * (1 - unexplained)
        return total

    kept = torch.tensor([0.99, 0.8, 0.4, 0.05], dtype=torch.double)
    weights = torch.tensor([0.5, 0.2, 0.1, 0.3], dtype=torch.double)
    hint = "The excess is delta^2 times the mean square of the best answer; how much of the noise does that explain?"
    cases = [(0.2, 0.25, kept, weights), (-0.1, 4.0, kept, weights)]
    expect_function(price, reference, cases, hint)
    return "too little and too much cost the same"
