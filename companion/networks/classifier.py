"""A classifier of digits, with which the samples of the book's models are measured."""

from jaxtyping import Float
from torch import Tensor, nn

from companion import checks


class DigitClassifier(nn.Module):
    """Logits of the ten digits, and the features they are computed from.

    Images are 1 x 28 x 28, on [0, 1].

    Args:
        num_features: width of the last hidden layer.
        num_classes: how many logits: an eleventh class can be "no digit".

    Raises:
        ValueError: if `num_features` or `num_classes` is below 1.

    Book: chapter 8.
    """

    def __init__(self, num_features: int = 64, num_classes: int = 10) -> None:
        checks.at_least(1, num_features=num_features, num_classes=num_classes)
        super().__init__()
        self.features = nn.Sequential(
            *_halve(1, 16),
            *_halve(16, 32),
            *_halve(32, 64),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(64 * 4 * 4, num_features),
            nn.SiLU(),
        )
        self.head = nn.Linear(num_features, num_classes)

    def forward(self, x: Float[Tensor, "batch 1 28 28"]) -> Float[Tensor, "batch classes"]:
        """The logits."""
        checks.shape(("batch", 1, 28, 28), x=x)
        checks.precision(self, x=x)
        logits: Tensor = self.head(self.features(x))
        return logits


def _halve(num_in: int, num_out: int) -> list[nn.Module]:
    """Two convolutions; the second halves the side."""
    layers: list[nn.Module] = []
    for num, stride in ((num_in, 1), (num_out, 2)):
        conv = nn.Conv2d(num, num_out, 3, stride, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(num_out), nn.SiLU()]
    return layers
