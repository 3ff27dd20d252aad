"""Distributions in the plane that look like data, yet have an exact log-density."""

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import (
    Categorical,
    Distribution,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    Transform,
    TransformedDistribution,
    constraints,
)

from companion import checks

# The arguments are checked by hand, in one sentence each, so torch is told of none.
_NO_ARGUMENTS: dict[str, constraints.Constraint] = {}


def toy_density(name: str) -> Distribution:
    """Return one of four distributions of points in the plane.

    Each has event shape (2,), a `sample` that uses torch's global random numbers, and a `log_prob` in nats that is
    exact: a closed form, not an estimate. Nearly all the mass lies in the square from -4 to 4. Samples are float32 on
    the CPU, and points to be judged must lie there too.

    Args:
        name: "rings", two noisy circles; "mixture", eight normals on a circle; "pinwheel", five swirling arms;
            "checkerboard", the black squares of a 4 x 4 board.

    Raises:
        ValueError: if the name is none of these.

    Book: chapter 10.
    """
    checks.one_of(TOYS, name=name)
    return TOYS[name]()


class Rings(Distribution):
    """Points on circles of the given radii, all equally likely, plus normal noise: x = r u + s e.

    With u uniform on the unit circle and e a standard normal in the plane, the distance |x| is Rice-distributed, and

        p(x | r) = exp(-(|x|^2 + r^2) / 2s^2) I_0(r |x| / s^2) / (2 pi s^2),

    where I_0 is the modified Bessel function of order 0, and `noise` is s.

    Raises:
        ValueError: if there is no radius, or a radius or the noise is not positive.
    """

    arg_constraints = _NO_ARGUMENTS
    support = constraints.real_vector

    def __init__(self, radii: tuple[float, ...] = (1.2, 2.8), noise: float = 0.15) -> None:
        checks.instance(Sequence, radii=radii)
        checks.at_least(1, num_radii=len(radii))
        checks.positive(noise=noise, **{f"radii[{i}]": radius for i, radius in enumerate(radii)})
        self.radii, self.noise = torch.tensor(radii, dtype=torch.double), noise
        super().__init__(event_shape=torch.Size([2]))

    def sample(
        self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()
    ) -> Float[Tensor, "*sample 2"]:
        """Draw points: a circle, an angle on it, and the noise."""
        r = self.radii[torch.randint(len(self.radii), tuple(sample_shape))]
        angle = 2 * math.pi * torch.rand(tuple(sample_shape))
        u = torch.stack([angle.cos(), angle.sin()], -1)
        return r[..., None].to(u) * u + self.noise * torch.randn_like(u)

    def log_prob(self, value: Float[Tensor, "*sample 2"]) -> Float[Tensor, "*sample"]:
        """Log-density in nats."""
        _check_points(value)
        distance, r = value.norm(dim=-1, keepdim=True), self.radii.to(value)
        variance = self.noise**2
        # i0e(a) = exp(-a) I_0(a) turns the exponent into a square, and never overflows.
        log_p = torch.special.i0e(r * distance / variance).log() - (distance - r) ** 2 / (
            2 * variance
        )
        return torch.logsumexp(log_p, -1) - math.log(2 * math.pi * variance * len(self.radii))


def _check_points(value: Tensor) -> None:
    """Refuse what are no points of the plane; values on a GPU, which would wait, are not read."""
    checks.floating(value=value)
    checks.event((2,), value=value)
    if checks.reads_at_once(value):
        checks.finite(value=value)


class Checkerboard(Distribution):
    """The uniform distribution on the eight black squares of a 4 x 4 board, with sides of length 1, around the origin.

    Its log-density is -log 8 nats on the black squares and minus infinity elsewhere: a hard case for a normal decoder.
    """

    arg_constraints = _NO_ARGUMENTS
    support = constraints.real_vector

    def __init__(self) -> None:
        super().__init__(event_shape=torch.Size([2]))

    def sample(
        self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()
    ) -> Float[Tensor, "*sample 2"]:
        """Draw points: a column, one of its two black squares, and a place in it."""
        column, pair = (torch.randint(num, tuple(sample_shape)) for num in (4, 2))
        corner = torch.stack([column, 2 * pair + column % 2], -1) - 2
        return corner + torch.rand(corner.shape)

    def log_prob(self, value: Float[Tensor, "*sample 2"]) -> Float[Tensor, "*sample"]:
        """Log-density in nats; minus infinity off the black squares."""
        _check_points(value)
        square = value.floor()
        black = (square.sum(-1) % 2 == 0) & (square >= -2).all(-1) & (square < 2).all(-1)
        inside = torch.full_like(value[..., 0], -math.log(8))
        return torch.where(black, inside, -math.inf)


class Swirl(Transform):
    """Turn every point of the plane around the origin, by `rate` radians per unit of its distance from there.

    Circles turn rigidly, so areas stay as they are: the log-determinant of the Jacobian is 0.
    """

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True

    def __init__(self, rate: float) -> None:
        checks.between(-math.inf, math.inf, rate=rate)
        super().__init__()
        self.rate = rate

    def __eq__(self, other: object) -> bool:
        """Return whether both swirls turn alike; torch asks for this to simplify compositions."""
        return isinstance(other, Swirl) and other.rate == self.rate

    __hash__ = None  # type: ignore[assignment]  # as for every torch transform that defines equality

    def _call(self, x: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 2"]:
        _check_points(x)
        return _turn(x, self.rate)

    def _inverse(self, y: Float[Tensor, "*batch 2"]) -> Float[Tensor, "*batch 2"]:
        _check_points(y)
        return _turn(y, -self.rate)

    def log_abs_det_jacobian(
        self, x: Float[Tensor, "*batch 2"], y: Float[Tensor, "*batch 2"]
    ) -> Float[Tensor, "*batch"]:
        """Return zeros: a swirl keeps areas."""
        return torch.zeros_like(x[..., 0])


def _turn(x: Tensor, rate: float) -> Tensor:
    """Rotate each point about the origin by `rate` times its distance from it, counterclockwise."""
    angle = rate * x.norm(dim=-1)
    cos, sin = angle.cos(), angle.sin()
    return torch.stack([cos * x[..., 0] - sin * x[..., 1], sin * x[..., 0] + cos * x[..., 1]], -1)


def _directions(num: int) -> Float[Tensor, "num 2"]:
    """Return `num` unit vectors, evenly spaced around the circle."""
    angle = 2 * math.pi * torch.arange(num) / num
    return torch.stack([angle.cos(), angle.sin()], -1)


def _mixture() -> Distribution:
    """Return eight equal normals of standard deviation 0.25 on a circle of radius 2.5."""
    component = Independent(Normal(2.5 * _directions(8), 0.25), 1)
    return MixtureSameFamily(Categorical(torch.ones(8)), component)


def _pinwheel() -> Distribution:
    """Return five long normals that point away from the origin, bent by a swirl."""
    along = _directions(5)
    across = torch.stack([-along[:, 1], along[:, 0]], -1)
    factor = torch.stack([0.5 * along, 0.18 * across], -1)
    arms = MultivariateNormal(2.0 * along, covariance_matrix=factor @ factor.mT)
    return TransformedDistribution(
        MixtureSameFamily(Categorical(torch.ones(5)), arms), [Swirl(0.7)]
    )


TOYS: Mapping[str, Callable[[], Distribution]] = {
    "rings": Rings,
    "mixture": _mixture,
    "pinwheel": _pinwheel,
    "checkerboard": Checkerboard,
}
"""What `toy_density` makes, by name."""
