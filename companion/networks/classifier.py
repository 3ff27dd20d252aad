"""Classifiers of digits, and of what a landscape shows, with which the samples of the book's models are measured."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from companion import checks
from companion.networks.residual import Residual, bottleneck


class DigitClassifier(nn.Module):
    """Logits of the ten digits, and the features they are computed from.

    Images are 1 x 28 x 28, on [0, 1].

    Args:
        num_features: width of the last hidden layer.
        num_classes: how many logits: an eleventh class can be "no digit".
        widths: channels at 28, 14 and 7 pixels, the last of which halve the side once more.

    Raises:
        ValueError: if `num_features`, `num_classes` or a width is below 1.

    Book: chapter 8.
    """

    def __init__(
        self, num_features: int = 64, num_classes: int = 10, widths: Sequence[int] = (16, 32, 64)
    ) -> None:
        checks.at_least(1, num_features=num_features, num_classes=num_classes)
        checks.sizes(3, widths=widths)
        checks.in_range(3, 3, **{"number of widths": len(widths)})
        super().__init__()
        high, middle, low = widths
        self.features = nn.Sequential(
            *_halve(1, high),
            *_halve(high, middle),
            *_halve(middle, low),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(low * 4 * 4, num_features),
            nn.SiLU(),
        )
        self.head = nn.Linear(num_features, num_classes)

    def forward(self, x: Float[Tensor, "batch 1 28 28"]) -> Float[Tensor, "batch classes"]:
        """The logits."""
        checks.shape(("batch", 1, 28, 28), x=x)
        checks.precision(self, x=x)
        logits: Tensor = self.head(self.features(x))
        return logits


class ResidualDigitClassifier(nn.Module):
    """The same from another architecture: residual blocks at 14 and at 7 pixels, and a mean over all places.

    Book: chapter 10.
    """

    def __init__(self, num_classes: int = 10, width: int = 64, num_blocks: int = 2) -> None:
        checks.at_least(1, num_classes=num_classes, width=width, num_blocks=num_blocks)
        super().__init__()
        wide = 2 * width
        self.features = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(4, width, 3, padding=1),
            *(Residual(bottleneck(width, width // 2, width)) for _ in range(num_blocks)),
            nn.AvgPool2d(2),
            nn.Conv2d(width, wide, 1),
            *(Residual(bottleneck(wide, width, wide)) for _ in range(num_blocks)),
            nn.BatchNorm2d(wide),
            nn.SiLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.3),
        )
        self.head = nn.Linear(wide, num_classes)

    def forward(self, x: Float[Tensor, "batch 1 28 28"]) -> Float[Tensor, "batch classes"]:
        """The logits."""
        checks.shape(("batch", 1, 28, 28), x=x)
        checks.precision(self, x=x)
        logits: Tensor = self.head(self.features(x))
        return logits


class AttributeReader(nn.Module):
    """Logits of the values of several attributes of a color image, side by side.

    Images are 3 x 32 x 32, on [0, 1].

    Args:
        sizes: how many values each attribute has.
        widths: channels at 32, 16 and 8 pixels, the last of which halve the side once more.

    Raises:
        ValueError: if there are no attributes, or a size or a width is below 1.

    Book: chapter 14.
    """

    def __init__(self, sizes: Sequence[int], widths: Sequence[int] = (24, 48, 96)) -> None:
        checks.sizes(1, sizes=sizes)
        checks.sizes(3, widths=widths)
        checks.in_range(3, 3, **{"number of widths": len(widths)})
        super().__init__()
        self.sizes = tuple(sizes)
        high, middle, low = widths
        self.network = nn.Sequential(
            *_halve(3, high),
            *_halve(high, middle),
            *_halve(middle, low),
            nn.Flatten(),
            nn.Dropout(0.1),
            nn.Linear(low * 4 * 4, 2 * low),
            nn.SiLU(),
            nn.Linear(2 * low, sum(self.sizes)),
        )

    def forward(self, x: Float[Tensor, "batch 3 32 32"]) -> Float[Tensor, "batch logits"]:
        """The logits of all attributes."""
        checks.shape(("batch", 3, 32, 32), x=x)
        checks.precision(self, x=x)
        logits: Tensor = self.network(x)
        return logits

    def read(self, x: Float[Tensor, "batch 3 32 32"]) -> Int[Tensor, "batch attributes"]:
        """The likeliest value of each attribute."""
        checks.finite(x=x)
        return torch.stack([part.argmax(1) for part in self(x).split(self.sizes, dim=1)], 1)


def _halve(num_in: int, num_out: int) -> list[nn.Module]:
    """Two convolutions; the second halves the side."""
    layers: list[nn.Module] = []
    for num, stride in ((num_in, 1), (num_out, 2)):
        conv = nn.Conv2d(num, num_out, 3, stride, padding=1, bias=False)
        layers += [conv, nn.BatchNorm2d(num_out), nn.SiLU()]
    return layers
