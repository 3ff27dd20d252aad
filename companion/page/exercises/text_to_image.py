"""Checks for the exercises of chapter 14, From a sentence to an image."""

import itertools
import math

import torch
from torch import Tensor
from torch.distributions import Categorical, Normal
from torch.nn import functional as F

from companion.data import ATTRIBUTES
from companion.page.exercises import bisect, double, draws, right_number, same_function

ALPHA_BAR = 0.6
Q, K, V = draws(14, 3).split([4, 5, 5])
IS_WORD = torch.tensor([True, True, False, True, False], device="cpu")
X_0, X_1, X_2 = draws(3, 4)


@same_function(
    "attend",
    [(Q, K, V, IS_WORD), (K, Q, V[:4], ~IS_WORD[:4])],
    hint="The weights of the words alone must add up to 1: what exponent has the weight 0?",
    remark="other libraries call it an attention mask",
)
def check_attend(q: Tensor, k: Tensor, v: Tensor, is_word: Tensor) -> Tensor:
    """Check `attend(q, k, v, is_word)` by torch's function, with the empty places taken away."""
    return F.scaled_dot_product_attention(q, k[is_word], v[is_word])


@right_number(
    "first-stage-noise",
    hint="In minus the ELBO the squared error is divided by twice the variance, and the KL has the weight 1.",
    remark="about eight of 255 levels of gray",
    rtol=5e-3,
)
def check_first_stage_noise() -> float:
    """Check the deviation by a Gaussian's log-density, for deviations on both sides."""

    def is_wide(std: float) -> bool:
        normal = Normal(double(0.0), double(std))
        weight = normal.log_prob(double(0.0)) - normal.log_prob(double(1.0))  # of an error of 1
        return bool(weight < 0.5 / 1e-3)

    return bisect(lambda std: not is_wide(std), 1e-3, 1.0)


@right_number(
    "sentence-nats",
    hint="Entropies of independent attributes add up; that of the second house is not log 7.",
    remark="less than nine nats, for everything a sentence says",
    rtol=5e-4,
)
def check_sentence_nats() -> float:
    """Check the entropy by all combinations."""
    chances = [torch.ones(len(values), dtype=torch.double) for values in ATTRIBUTES.values()]
    chances[list(ATTRIBUTES).index("behind")][0] = 6
    joint = torch.ones(1, dtype=torch.double)
    for each in chances:
        joint = (joint[:, None] * each / each.sum()).flatten()
    return Categorical(joint).entropy().item()


@right_number(
    "short-sentences",
    hint="Which one of the eight is told? And a tenth of the images have no sentence at all.",
    remark="not one in twelve epochs, more likely than not",
    rtol=5e-3,
)
def check_short_sentences() -> float:
    """Check the number by all 256 ways to leave attributes out."""
    told = (sum(way) for way in itertools.product((0, 1), repeat=8))
    return 720_000 * 0.9 * math.fsum(0.9**n * 0.1 ** (8 - n) for n in told if n == 1)


@same_function(
    "two-sentences",
    [(X_0, X_1, X_2, 1.0), (X_0, X_1, X_2, 3.0), (X_1, X_2, X_0, 0.0)],
    hint="The gradient of a log-product is a sum; each term is a difference of two denoisers.",
    remark="and a third sentence would add a third difference",
)
def check_both(x_0: Tensor, x_1: Tensor, x_2: Tensor, kappa: float) -> Tensor:
    """Check `both(x_0, x_1, x_2, kappa)` by way of the scores."""
    # At x_t = 0 the score is a multiple of the estimate.
    score, first, second = (ALPHA_BAR**0.5 / (1 - ALPHA_BAR) * x for x in (x_0, x_1, x_2))
    guided = score + kappa * (first - score) + kappa * (second - score)
    return (1 - ALPHA_BAR) / ALPHA_BAR**0.5 * guided
