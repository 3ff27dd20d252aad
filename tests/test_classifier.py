"""The classifier of digits."""

import pytest
import torch

from companion.networks.classifier import DigitClassifier


def test_the_classifier_gives_logits_made_of_its_features() -> None:
    model = DigitClassifier(24).eval()
    x = torch.rand(5, 1, 28, 28)
    features = model.features(x)
    assert features.shape == (5, 24) and model(x).shape == (5, 10)
    assert torch.equal(model.head(features), model(x))
    assert torch.equal(model(x), model(x))  # no dropout when it judges
    assert sum(p.numel() for p in model.parameters()) < 150_000


def test_bad_input_gets_one_sentence() -> None:
    with pytest.raises(ValueError, match="^num_features must be at least 1; 0 was given$"):
        DigitClassifier(0)
