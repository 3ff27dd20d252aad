"""Chapter 13: can a classifier of clean digits guide a diffusion model, and what has to be shown to it?"""

import math
from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor

from companion import runtime
from companion.data import load, to_unit
from companion.denoisers import Denoiser, NoisePredictor
from companion.experiments.base import Condition, Experiment
from companion.guidance import guided
from companion.networks.classifier import DigitClassifier
from companion.samplers import ddpm_sample
from companion.schedule import cosine_schedule
from companion.score import exact_score
from companion.zoo import pretrained
from companion.zoo.yardstick import JUDGES, no_digit_votes

NUM, STEPS, BOUND, SEVEN = 48, 20, 6.0, 7


@cache
def unrecognized_real() -> Tensor:
    """The share of all test digits that each judge does not recognize."""
    return no_digit_votes(load("mnist", "test").images).mean(1)


@cache
def classifier() -> DigitClassifier:
    """The shipped classifier of clean digits."""
    network = pretrained("classifier-mnist")
    assert isinstance(network, DigitClassifier)
    return network


@cache
def network() -> NoisePredictor:
    """The shipped denoiser of digits."""
    denoiser = pretrained("ddpm-mnist-long").denoiser
    assert isinstance(denoiser, NoisePredictor)
    return denoiser


def denoised(x_t: Tensor, t: Tensor, /, *condition: Tensor) -> Tensor:
    """The estimate without a label."""
    x_hat: Tensor = network()(x_t, t)
    return x_hat


def itself(x_t: Tensor, t: Tensor) -> Tensor:
    """The noisy image as it is."""
    return x_t


def rescaled(x_t: Tensor, t: Tensor) -> Tensor:
    """The noisy image with its digit as bright as a clean one, clipped to the range of the pixels."""
    return (x_t / cosine_schedule(1000).alpha_bar[t[0]].float() ** 0.5).clamp(-1, 1)


def log_seven(x: Tensor) -> Tensor:
    """The classifier's log-probability of a seven."""
    return classifier()((x.float() + 1) / 2).log_softmax(1)[:, SEVEN]


def by_classifier(
    seen: Callable[[Tensor, Tensor], Tensor], bound: float, scale: float, through: bool = True
) -> Denoiser:
    """The denoiser without a label, and the gradient of the classifier that is shown `seen(x_t, t)`.

    The factor of the gradient is held below the bound, and multiplied by the scale. Without `through` the gradient is
    that by what is seen, and not by x_t.
    """

    def x_hat(x_t: Tensor, t: Tensor, /, *condition: Tensor) -> Tensor:
        alpha_bar = cosine_schedule(1000).alpha_bar[t[0]].float()
        factor = scale * ((1 - alpha_bar) / alpha_bar**0.5).clamp(max=bound)
        if through:
            return denoised(x_t, t) + factor * exact_score(lambda x: log_seven(seen(x, t)), x_t)
        return denoised(x_t, t) + factor * exact_score(log_seven, seen(x_t, t).float())

    return x_hat


def with_labels(scale: float) -> Denoiser:
    """The same network, given the label."""
    return guided(network(), torch.full((NUM,), SEVEN), scale)


def drawn(denoiser: Callable[[], Denoiser], steps: int, seed: int) -> dict[str, float]:
    """Shares in percent: sevens by the classifier and by each judge, and images that are not recognized."""
    torch.manual_seed(seed)
    schedule = cosine_schedule(1000).evenly(steps)
    with runtime.autocast():
        *_, x = ddpm_sample(denoiser(), schedule, torch.randn(NUM, 1, 28, 28))
    images = to_unit(x.float()).nan_to_num(0.5)
    excess = 100 * (no_digit_votes(images).mean(1) - unrecognized_real())
    with torch.no_grad():
        votes = [pretrained(judge)(images).argmax(1) == SEVEN for judge in JUDGES]
    sevens = [100 * vote.double().mean().item() for vote in votes]
    return {
        "sevens": sum(sevens) / 2,
        "judge": sevens[0],
        "residual judge": sevens[1],
        "classifier": 100 * (classifier()(images).argmax(1) == SEVEN).double().mean().item(),
        "unrecognized": excess.mean().item(),
        "pairs": torch.pdist(images.flatten(1)).square().mean().item(),
    }


def asked(
    seen: Callable[[Tensor, Tensor], Tensor],
    bound: float = BOUND,
    scale: float = 1.0,
    steps: int = STEPS,
    through: bool = True,
) -> Condition:
    """A condition with the classifier."""
    return partial(drawn, partial(by_classifier, seen, bound, scale, through), steps)


CONDITIONS: dict[str, Condition] = {
    "no condition": partial(drawn, lambda: denoised, STEPS),
    "labels": partial(drawn, partial(with_labels, 1.0), STEPS),
    "labels, scale 10": partial(drawn, partial(with_labels, 10.0), STEPS),
    "x_t": asked(itself, math.inf),
    "x_t, scale 10": asked(itself, math.inf, 10.0),
    "x_t, bounded": asked(itself),
    "x_t, bounded, scale 10": asked(itself, scale=10.0),
    "x_t, bound of 1.5": asked(itself, BOUND / 4),
    "x_t, bound of 24": asked(itself, BOUND * 4),
    "x_t, bounded, four times the steps": asked(itself, steps=4 * STEPS),
    "x_t rescaled": asked(rescaled),
    "x_t rescaled, scale 10": asked(rescaled, scale=10.0),
    "estimate": asked(denoised),
    "estimate, scale 10": asked(denoised, scale=10.0),
    "estimate, no bound": asked(denoised, math.inf),
    "estimate, bound of 1.5": asked(denoised, BOUND / 4),
    "estimate, bound of 24": asked(denoised, BOUND * 4),
    "estimate, four times the steps": asked(denoised, steps=4 * STEPS),
    "estimate, not through the denoiser": asked(denoised, through=False),
    "estimate, not through the denoiser, scale 10": asked(denoised, scale=10.0, through=False),
}
EXPERIMENTS = {"clean-classifier": Experiment(CONDITIONS)}
