"""One yardstick for digits that a model draws: how far they are from real ones, and how many are none.

Every chapter measures with the same features, the same reference, the training digits of MNIST, and the
same baseline, real digits that are in no training set.
"""

from functools import cache, partial

import torch
from jaxtyping import Float
from torch import Tensor

from companion.metrics import (
    Estimate,
    NormalFit,
    Proportion,
    frechet_distance,
    jackknife,
    proportion,
)
from companion.networks.classifier import DigitClassifier
from companion.zoo.pretrained import pretrained
from companion.zoo.weights import load_record

Digits = Float[Tensor, "num 1 28 28"]


def digit_distance(images: Digits) -> Estimate:
    """Squared Fréchet distance of these digits from the training digits, in a classifier's features.

    The bias of a finite sample is taken off, so that samples of different sizes can be compared. A small
    sample can have a negative distance then: its standard error says how much that means. Real
    digits are at 0.5, as `real_digit_distance` says; 500 images give a standard error of 3, and 5,000 one
    of 0.5.

    Args:
        images: on [0, 1], twenty at least.

    Raises:
        ValueError: if there are too few, or a pixel is not finite.

    Book: chapter 10.
    """
    return feature_distance(digit_features(images))


def feature_distance(features: Float[Tensor, "num dim"]) -> Estimate:
    """`digit_distance` of images whose `digit_features` are known, such as those of a record. Book: chapter 10."""
    y = NormalFit(*(part.to(features.device) for part in reference()))
    return jackknife(partial(frechet_distance, y=y), features)


@torch.no_grad()
def digit_features(images: Digits) -> Float[Tensor, "num dim"]:
    """The 64 features of the shipped classifier. Book: chapter 10."""
    judge = _judge("classifier-mnist").to(images.device)
    return torch.cat([judge.features(part) for part in images.split(1000)])


def real_digit_distance() -> Estimate:
    """`digit_distance` of all 10,000 test digits, from the record that holds the reference. Book: chapter 10."""
    value, standard_error = load_record("classifier-mnist-reference")[0]["real"].tolist()
    return Estimate(value, standard_error)


@torch.no_grad()
def refused(images: Digits) -> Proportion:
    """The share of images that the judge takes for no digit.

    The judge is a classifier with an eleventh class, trained on spoiled digits (`companion.data.rejects`).

    Args:
        images: on [0, 1].

    Book: chapter 10.
    """
    judge = _judge("judge-mnist").to(images.device)
    logits = torch.cat([judge(part) for part in images.split(1000)])
    return proportion(logits.argmax(1) == 10)


@cache
def _judge(name: str) -> DigitClassifier:
    judge = pretrained(name)
    assert isinstance(judge, DigitClassifier)
    return judge


@cache
def reference() -> NormalFit:
    """Mean and covariance of the `digit_features` of the training digits, from their record. Book: chapter 11."""
    record, _ = load_record("classifier-mnist-reference")
    return NormalFit(record["mean"], record["root"])
