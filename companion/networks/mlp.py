"""Multi-layer perceptrons."""

from collections.abc import Callable, Sequence
from itertools import pairwise

from jaxtyping import Float, Real
from torch import Tensor, nn

from companion import checks
from companion.networks.embeddings import SinusoidalEmbedding
from companion.networks.residual import start_at_zero


def mlp(sizes: Sequence[int], activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Sequential:
    """Return linear layers of the given sizes with an activation between them, and none after the last.

    `mlp([784, 256, 16])` is a network of two layers, from 784 numbers to 16.

    Raises:
        ValueError: if there are fewer than two sizes, or one is below 1.

    Book: chapter 1.
    """
    checks.sizes(2, sizes=sizes)
    checks.maker(activation=activation)
    layers: list[nn.Module] = []
    for num_in, num_out in pairwise(sizes):
        layers += [nn.Linear(num_in, num_out), activation()]
        checks.instance(nn.Module, **{"activation()": layers[-1]})
    return nn.Sequential(*layers[:-1])


def normalized_mlp(
    sizes: Sequence[int],
    norm: Callable[[int], nn.Module] = nn.LayerNorm,
    activation: Callable[[], nn.Module] = nn.SiLU,
) -> nn.Sequential:
    """Return linear layers of the given sizes, each followed by a normalization and an activation.

    Raises:
        ValueError: if there are fewer than two sizes, or one is below 1.

    Book: chapter 8.
    """
    checks.sizes(2, sizes=sizes)
    checks.maker(norm=norm, activation=activation)
    layers: list[nn.Module] = []
    for num_in, num_out in pairwise(sizes):
        layers += [nn.Linear(num_in, num_out), norm(num_out), activation()]
        checks.instance(nn.Module, **{"norm(size)": layers[-2], "activation()": layers[-1]})
    return nn.Sequential(*layers)


class TimeMlp(nn.Module):
    """A residual perceptron of a vector and a time, for data that need no U-Net.

    Every hidden layer adds to the residual stream h, and gets the embedding of the time.
    The output starts at zero.

    Args:
        dim: dimensions of the vector.
        hidden: widths of the layers inside the residual branches.
        width: of the residual stream, a multiple of 4.
        num_factors: how many numbers it is given beside the time, such as the length of a step; none by default.

    Raises:
        ValueError: if there is no layer, a size is below 1, or `width` is no multiple of
            4; from calls, if a shape does not fit.

    Book: chapter 12.
    """

    def __init__(
        self, dim: int, hidden: Sequence[int], width: int = 64, num_factors: int | None = None
    ) -> None:
        super().__init__()
        checks.at_least(1, dim=dim, **({} if num_factors is None else {"num_factors": num_factors}))
        checks.sizes(1, hidden=hidden)
        checks.at_least(4, width=width)
        if width % 4:
            raise ValueError(f"width must be a multiple of 4; {width} was given")
        self.dim, self.num_factors, width = dim, num_factors, int(width)
        self.time = mlp([width, width], nn.SiLU).insert(0, SinusoidalEmbedding(width))
        self.factors = mlp([num_factors, width, width], nn.SiLU) if num_factors else None
        self.enter = nn.Linear(dim, width)
        self.branches = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(width), *mlp([width, num, width], nn.SiLU)) for num in hidden
        )
        out = [nn.LayerNorm(width), nn.SiLU(), nn.Linear(width, dim)]
        self.exit = start_at_zero(nn.Sequential(*out))

    def forward(
        self,
        x_t: Float[Tensor, "batch dim"],
        t: Real[Tensor, "batch"],
        factors: Float[Tensor, "batch num_factors"] | None = None,
    ) -> Float[Tensor, "batch dim"]:
        """The prediction, such as that of the noise."""
        checks.shape(("batch", self.dim), x_t=x_t)
        checks.precision(self, x_t=x_t)
        checks.shape((len(x_t),), t=t)
        if (factors is None) != (self.factors is None):
            raise ValueError(
                f"factors must be given to a network with num_factors, and to no other; this one has {self.num_factors}"
            )
        e, h = self.time(t), self.enter(x_t)
        if self.num_factors is not None and factors is not None:
            checks.shape((len(x_t), self.num_factors), factors=factors)
            checks.precision(self, factors=factors)
            assert self.factors is not None
            e = e + self.factors(factors)
        for branch in self.branches:
            h = h + branch(h + e)
        out: Tensor = self.exit(h)
        return out
