"""One yardstick for digits that a model draws: how far they are from real ones, and how many show none.

Every chapter measures with the same features, the same reference, the training digits of MNIST, and the
same baseline, real digits that are in no training set.
"""

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from companion import checks
from companion.metrics import Estimate, NormalFit, frechet_distance, jackknife
from companion.zoo.pretrained import pretrained
from companion.zoo.weights import load_record, read_card

Digits = Float[Tensor, "num 1 28 28"]
JUDGES = ("judge-mnist", "residual-judge-mnist")


def digit_distance(images: Digits) -> Estimate:
    """Squared Fréchet distance of these digits from the training digits, in a classifier's features.

    The bias of a finite sample is taken off, so that samples of different sizes can be compared. A small
    sample can have a negative distance then: its standard error says how much that means. Real
    digits are at 0.5, as `real_digit_distance` says; 500 images give a standard error of 3, and 5,000 one
    of 0.5.

    Args:
        images: on [0, 1], ten at least.

    Raises:
        ValueError: if there are too few, or a pixel is not finite.

    Book: chapter 10.
    """
    return feature_distance(digit_features(images))


def feature_distance(features: Float[Tensor, "num dim"]) -> Estimate:
    """`digit_distance` of images whose `digit_features` are known, such as those of a record. Book: chapter 10."""
    checks.shape(("num", "dim"), features=features)
    y = NormalFit(*(part.to(features.device) for part in reference()))
    return jackknife(partial(frechet_distance, y=y), features)


@torch.no_grad()
def digit_features(images: Digits) -> Float[Tensor, "num dim"]:
    """The 64 features of the shipped classifier. Book: chapter 10."""
    _check_digits(images)
    judge = _network("classifier-mnist").to(images.device)
    return torch.cat([judge.features(part) for part in images.split(1000)])


def real_digit_distance() -> Estimate:
    """`digit_distance` of all 10,000 test digits, from the record that holds the reference. Book: chapter 10."""
    value, standard_error = load_record("classifier-mnist-reference")[0]["real"].tolist()
    return Estimate(value, standard_error)


class Unrecognized(NamedTuple):
    """`unrecognized` of a set of images.

    Book: chapter 10.
    """

    value: float
    """The share in excess over real digits, mean of both judges."""
    standard_error: float
    """Over the images and the real digits."""
    each: tuple[Estimate, ...]
    """The same by each judge alone."""

    def below(self, other: "Unrecognized", errors: float = 2) -> bool:
        """Whether both judges say that this share is smaller, each by so many standard errors."""
        pairs = zip(self.each, other.each, strict=True)
        return all(
            high.value - low.value > errors * math.hypot(low.standard_error, high.standard_error)
            for low, high in pairs
        )


def unrecognized(images: Digits, real: Digits | None = None) -> Unrecognized:
    """The share of images not recognized as a digit, in excess over real digits treated alike.

    Two judges of different architecture, each a classifier with an eleventh class, "no digit", were
    trained on digits and on spoiled digits (`companion.data.rejects`). Both kinds went through the same
    shift, blur and contrast (`companion.data.treated`), so sharpness does not tell them apart. They
    miss about one real digit in sixty, and one reject in thirty; the first share is subtracted.

    Args:
        images: on [0, 1].
        real: real digits treated as the images are; by default all test digits as they are, from the
            cards of the judges.

    Book: chapter 10.
    """
    return excess_of_votes(no_digit_votes(images), None if real is None else no_digit_votes(real))


def excess_of_votes(
    votes: Float[Tensor, "judges num"], baseline: Float[Tensor, "judges num_real"] | None = None
) -> Unrecognized:
    """`unrecognized` of images whose `no_digit_votes` are known, such as those of a record. Book: chapter 11."""
    checks.shape((len(JUDGES), "num"), votes=votes)
    if baseline is None:
        cards = [read_card(name) for name in JUDGES]
        of_real = [Estimate(card.metric_value, card.metric_se) for card in cards]  # type: ignore[arg-type]
    else:
        checks.shape((len(JUDGES), "num_real"), baseline=baseline)
        of_real = [_mean(each) for each in baseline]
    # The judges mostly agree on real digits: the error of their mean is at most the mean of their errors.
    both = Estimate(*torch.tensor(of_real, dtype=torch.double).mean(0).tolist())
    each = tuple(_less(_mean(v), real) for v, real in zip(votes, of_real, strict=True))
    return Unrecognized(*_less(_mean(votes.mean(0)), both), each)


def _mean(votes: Tensor) -> Estimate:
    return Estimate(float(votes.mean()), float(votes.var(correction=0) / len(votes)) ** 0.5)


def _less(share: Estimate, of_real: Estimate) -> Estimate:
    """Their difference, with its standard error."""
    error = math.hypot(share.standard_error, of_real.standard_error)
    return Estimate(share.value - of_real.value, error)


@torch.no_grad()
def no_digit_votes(images: Digits) -> Float[Tensor, "judges num"]:
    """One where a judge takes an image for no digit, zero elsewhere. Book: chapter 10."""
    _check_digits(images)
    judges = [_network(name).to(images.device) for name in JUDGES]
    logits = [torch.cat([judge(part) for part in images.split(1000)]) for judge in judges]
    return torch.stack([each.argmax(1) == 10 for each in logits]).double()


def _check_digits(images: Tensor) -> None:
    """Refuse what are no images of digits; values on a GPU, which would wait, are not read."""
    checks.shape(("num", 1, 28, 28), images=images)
    judge = _network(JUDGES[0])
    checks.precision(judge, images=images.to(next(judge.parameters()).device))
    if checks.reads_at_once(images):
        checks.within(0, 1, images=images)


_network: Callable[[str], Any] = cache(pretrained)


@cache
def reference() -> NormalFit:
    """Mean and covariance of the `digit_features` of the training digits, from their record. Book: chapter 11."""
    record, _ = load_record("classifier-mnist-reference")
    return NormalFit(record["mean"], record["root"])
