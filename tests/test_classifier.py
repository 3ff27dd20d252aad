"""The classifier of digits."""

import torch
from bad_input import refused

from companion.networks.classifier import AttributeReader, DigitClassifier, ResidualDigitClassifier


def test_the_classifier_gives_logits_made_of_its_features() -> None:
    model = DigitClassifier(24).eval()
    x = torch.rand(5, 1, 28, 28)
    features = model.features(x)
    assert features.shape == (5, 24) and model(x).shape == (5, 10)
    assert torch.equal(model.head(features), model(x))
    assert torch.equal(model(x), model(x))  # no dropout when it judges
    assert sum(p.numel() for p in model.parameters()) < 150_000


def test_the_residual_classifier_gives_logits_made_of_its_features() -> None:
    model = ResidualDigitClassifier(11, width=16, num_blocks=1).eval()
    x = torch.rand(3, 1, 28, 28)
    assert model.features(x).shape == (3, 32) and model(x).shape == (3, 11)
    assert torch.equal(model.head(model.features(x)), model(x))


def test_the_reader_takes_the_likeliest_value_of_each_attribute() -> None:
    model = AttributeReader([2, 3], widths=(4, 4, 8)).eval()
    x = torch.rand(6, 3, 32, 32)
    logits = model(x)
    assert logits.shape == (6, 5)
    expected = [
        [row[:2].index(max(row[:2])), row[2:].index(max(row[2:]))] for row in logits.tolist()
    ]
    assert model.read(x).tolist() == expected


test_bad_input = refused("classifier")
