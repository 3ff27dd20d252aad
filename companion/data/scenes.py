"""Small images of a lit house whose causes are known: the views on it, the light, its size and its color."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from companion import checks

# What varies from image to image, and between which values it is drawn. All are angles in radians but `size`.
SCENE_FACTORS = {
    # The house turned about the vertical, counterclockwise seen from above.
    "azimuth": (-math.pi / 3, math.pi / 3),
    "elevation": (math.pi / 12, math.pi / 3),  # the camera above the horizon
    # The sun left (< 0) or right of the camera, at 45 degrees.
    "light": (-5 * math.pi / 12, 5 * math.pi / 12),
    "size": (0.6, 1.0),  # edge lengths, relative to the largest house
    # On the color wheel: red 0, green 2 pi/3, blue 4 pi/3; not around it, so no jump.
    "hue": (0.0, 4 * math.pi / 3),
}

PIXELS = 32
_SAMPLES = 3  # rays per pixel and direction
_HALF_WIDTH = 1.5  # of the picture, in the house's units of length
_SUN_HEIGHT = math.pi / 4  # above the horizon
SUN_RADIUS = 0.06  # the apparent radius that softens the shadow's edge, radians
_AMBIENT = 0.35  # share of the light that reaches every face
_GROUND = 0.93  # gray level of the sunlit ground

# The house is what lies behind these planes, given by outward normals and distances from the origin, the middle of its
# floor: 2 long (x), 1.2 deep (y), walls 0.9 and a ridge 1.4 high. It equals itself after half a turn and not before, so
# azimuths between -pi/2 and pi/2 can be told apart.
_SLOPE = math.hypot(0.5, 0.6)
_NORMALS = (
    (1.0, 0.0, 0.0),
    (-1.0, 0.0, 0.0),
    (0.0, 1.0, 0.0),
    (0.0, -1.0, 0.0),
    (0.0, 0.0, -1.0),
    (0.0, 0.5 / _SLOPE, 0.6 / _SLOPE),
    (0.0, -0.5 / _SLOPE, 0.6 / _SLOPE),
)
_DISTANCES = (1.0, 1.0, 0.6, 0.6, 0.0, 1.4 * 0.6 / _SLOPE, 1.4 * 0.6 / _SLOPE)


class Scenes(NamedTuple):
    """Images in [0, 1], the factors each was drawn from, and the factors' names, in the order of the columns.

    Book: chapter 7.
    """

    images: Float[Tensor, "num 3 32 32"]
    factors: Float[Tensor, "num num_factors"]
    names: tuple[str, ...]


def scenes(num: int, seed: int = 0, device: torch.device | str | None = None) -> Scenes:
    """Draw `num` images whose factors are independent and uniform between the values in `SCENE_FACTORS`.

    The seed decides the factors, the same on every device; torch's own random numbers are not touched. Without a
    device the images lie on torch's default one.

    Raises:
        TypeError: if `num` is not an integer.
        ValueError: if `num` is below 1.

    Book: chapter 3.
    """
    checks.at_least(1, num=num)
    seed = checks.seed(seed)
    device = checks.device(device)
    generator = torch.Generator().manual_seed(seed)
    with torch.device("cpu"):
        low, high = torch.tensor(list(SCENE_FACTORS.values()), dtype=torch.float32).T
        share = torch.rand(num, len(SCENE_FACTORS), generator=generator, dtype=torch.float32)
    factors = (low + (high - low) * share).to(device)
    return Scenes(render_scenes(factors), factors, tuple(SCENE_FACTORS))


def render_scenes(factors: Float[Tensor, "num 5"]) -> Float[Tensor, "num 3 32 32"]:
    """Render the images of given factors: one ray per sample point, without perspective, Lambert's law, one sun.

    The columns are in the order of `SCENE_FACTORS`; values outside the ranges given there are rendered too.

    Raises:
        TypeError: if the factors are no floating-point numbers.
        ValueError: if their shape is wrong, a value is not finite, the elevation is not strictly between 0 and pi/2, or
            the size is not positive.

    Book: chapter 7.
    """
    checks.shape(("num", len(SCENE_FACTORS)), factors=factors)
    checks.floating(factors=factors)
    checks.finite(factors=factors)
    low, high = factors[:, 1].aminmax()
    if not (low > 0 and high < math.pi / 2):
        raise ValueError(
            f"elevation must lie between 0 and pi/2, both excluded; {low:.4g} to {high:.4g} was given"
        )
    if not (factors[:, 3] > 0).all():
        raise ValueError(f"size must be positive; {factors[:, 3].min():.4g} was given")
    return torch.cat([_render(chunk) for chunk in factors.float().split(64)])


@torch.no_grad()
def nearest_scenes(
    images: Float[Tensor, "num 3 32 32"], num_starts: int = 2, rounds: int = 10
) -> tuple[Float[Tensor, "num 5"], Float[Tensor, "num"]]:
    """Find the factors of the scene that is nearest to each image, and the squared error left, summed over the image.

    It starts from the nearest of 4096 scenes, and descends by Levenberg's and Marquardt's method. The derivatives are
    differences of two scenes, because edges in an image move by whole sample points; they lie 5 percent of a factor's
    range to either side at first, and half a percent at last. Factors stay within their ranges. Of scenes in 256
    levels it finds the factors to within a percent of their ranges, at eight of them a second.

    Args:
        images: on [0, 1].
        num_starts: how many of the 4096 to start from; the best end is taken.
        rounds: steps of the descent.

    Raises:
        TypeError: if `images` are not floating-point.
        ValueError: if they have another shape or a value outside [0, 1], or an argument is below 1 or too large.

    Source: Marquardt 1963. Book: chapter 11.
    """
    checks.shape(("num", 3, PIXELS, PIXELS), images=images)
    checks.floating(images=images)
    checks.within(0, 1, images=images)
    checks.at_least(1, rounds=rounds)
    checks.whole(1, 4096, num_starts=num_starts)
    known = scenes(4096, seed=2, device=images.device)
    distance = torch.cdist(images.flatten(1).float(), known.images.flatten(1))
    starts = known.factors[distance.topk(num_starts, largest=False).indices]
    parts = zip(images.float().split(64), starts.split(64), strict=True)
    found = [_descend(*part, rounds) for part in parts]
    factors, error = (torch.cat(part) for part in zip(*found, strict=True))
    best = error.argmin(1)
    at = torch.arange(len(best), device=best.device)
    return factors[at, best], error[at, best]


def _descend(
    images: Float[Tensor, "num 3 32 32"], factors: Float[Tensor, "num starts 5"], rounds: int
) -> tuple[Float[Tensor, "num starts 5"], Float[Tensor, "num starts"]]:
    """Move factors to where the squared error is least nearby."""
    low, high = torch.tensor(list(SCENE_FACTORS.values())).T.to(factors)
    width, eye = high - low, torch.eye(len(low)).to(factors)

    def residual(v: Tensor) -> Tensor:
        """What the scenes of v, of shape (num, starts, tries, 5), are off by."""
        rendered = render_scenes(v.reshape(-1, v.shape[-1])).view(*v.shape[:3], -1)
        return rendered - images.flatten(1)[:, None, None]

    damping = factors.new_tensor([0.1, 1.0, 10.0]) * 0.01 * torch.ones_like(factors[..., :1])
    off = residual(factors[:, :, None])[:, :, 0]
    error = off.square().sum(-1)
    for i in range(rounds):
        step = 0.05 * 0.1 ** (i / max(1, rounds - 1)) * width * eye
        ends = [(factors[:, :, None] + sign * step).clamp(low, high) for sign in (1, -1)]
        moved = ((ends[0] - ends[1]) / width).sum(-1, keepdim=True)
        J = (residual(ends[0]) - residual(ends[1])) / moved
        H, g = J @ J.mT, (J @ off[..., None])[..., 0]
        scale = H.diagonal(dim1=-2, dim2=-1)[:, :, None] * damping[..., None] + 1e-6
        down = torch.linalg.solve(H[:, :, None] + scale.diag_embed(), g[:, :, None, :, None])
        tried = (factors[:, :, None] - width * down[..., 0]).clamp(low, high)
        offs = residual(tried)
        least, k = offs.square().sum(-1).min(-1)
        better = least < error
        pick = k[..., None, None]
        error = torch.where(better, least, error)
        factors = torch.where(better[..., None], tried.take_along_dim(pick, 2)[:, :, 0], factors)
        off = torch.where(better[..., None], offs.take_along_dim(pick, 2)[:, :, 0], off)
        factor = torch.where(
            better[..., None], damping.take_along_dim(k[..., None], -1), 4 * damping[..., 1:2]
        )
        damping = factor.clamp(1e-5, 100) * factors.new_tensor([0.1, 1.0, 10.0])
    return factors, error


def _render(factors: Float[Tensor, "num 5"]) -> Float[Tensor, "num 3 32 32"]:
    """Average the colors of the sample points of each pixel."""
    azimuth, elevation, light, size, hue = factors.T
    normals, distances = house_planes(azimuth, size)
    # The picture's center lies this high above the middle of the floor.
    lift = 0.45 * size
    camera = direction(elevation, torch.zeros_like(elevation))
    up = direction(elevation + math.pi / 2, torch.zeros_like(elevation))
    right = factors.new_tensor([1.0, 0.0, 0.0]).expand_as(up)
    sun = direction(torch.full_like(light, _SUN_HEIGHT), light)
    # The point at (u, v) in the picture is u right + v up + lift e_z, and a ray goes on from it along -camera.
    screen = torch.stack([right, up, torch.zeros_like(up)], -1)
    screen[:, 2, 2] = lift
    # Where the ray meets the ground, z = 0; it is a linear function of (u, v, 1) again.
    ground = screen - camera[:, :, None] * (screen[:, 2] / camera[:, 2:])[:, None]

    lambert = (normals @ sun[:, :, None]).clamp(min=0)
    brightness = (_AMBIENT + (1 - _AMBIENT) * lambert).mT * _color(hue)[:, :, None]
    picture = factors.new_zeros(len(factors), 3, PIXELS**2)
    offsets = (torch.arange(_SAMPLES) - (_SAMPLES - 1) / 2) / _SAMPLES
    for down in offsets.tolist():
        for across in offsets.tolist():
            u, v = (axis.to(factors.device) for axis in grid(across, down))
            near, far, face = cross(normals, distances, screen, -camera, u, v)
            # Each sample looks at another point of the sun's disk, which gives the shadow a soft edge for free.
            edge = 2 * SUN_RADIUS
            ray = direction(
                torch.full_like(light, _SUN_HEIGHT + edge * down), light + edge * across
            )
            enter, leave, _ = cross(normals, distances, ground, ray, u, v)
            shaded = (enter < leave) & (leave > 0)
            color = torch.where(shaded, 0.6 * _GROUND, _GROUND)[:, None]
            on_house = brightness.gather(2, face[:, None].expand(-1, 3, -1))
            picture += torch.where((near < far)[:, None], on_house, color)
    return (picture / _SAMPLES**2).unflatten(-1, (PIXELS, PIXELS))


def house_planes(
    azimuth: Tensor, size: Tensor
) -> tuple[Float[Tensor, "num planes 3"], Float[Tensor, "num planes"]]:
    """Return the planes of each turned and scaled house."""
    cos, sin = azimuth.cos(), azimuth.sin()
    zero, one = torch.zeros_like(azimuth), torch.ones_like(azimuth)
    turn = torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], -1).unflatten(-1, (3, 3))
    normals = azimuth.new_tensor(_NORMALS) @ turn.mT
    return normals, size[:, None] * azimuth.new_tensor(_DISTANCES)


def direction(height: Tensor, side: Tensor) -> Float[Tensor, "num 3"]:
    """Return unit vectors `height` above the horizon (z is up), turned to the right by `side` from the camera (-y)."""
    return torch.stack([height.cos() * side.sin(), -height.cos() * side.cos(), height.sin()], -1)


def grid(
    across: float, down: float, pixels: int = PIXELS
) -> tuple[Float[Tensor, " pixels"], Float[Tensor, " pixels"]]:
    """Return u of each column and v of each row, from the top left, of sample points with these offsets in pixels."""
    center = torch.arange(pixels, dtype=torch.float32) + 0.5 - pixels / 2
    width = 2 * _HALF_WIDTH / pixels
    return width * (center + across), -width * (center + down)


def cross(
    normals: Tensor, distances: Tensor, start: Tensor, ray: Tensor, u: Tensor, v: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return where rays from `start @ (u, v, 1)` enter and leave the house (enter < leave if they do), and the face.

    A ray enters when it has crossed all planes that it meets from outside, and leaves at the first of the others.
    """
    speed = (normals @ ray[:, :, None]).squeeze(-1)
    # A ray along a plane crosses it very far away.
    speed = torch.where(speed.abs() < 1e-6, 1e-6, speed)
    crossing = -(normals @ start)
    crossing[:, :, 2] += distances
    crossing = crossing / speed[:, :, None]
    never = ray.new_tensor([0.0, 0.0, 1e9])
    inward = (speed < 0)[:, :, None]
    enter, face = _along(torch.where(inward, crossing, -never), u, v).max(1)
    leave = _along(torch.where(inward, never, crossing), u, v).amin(1)
    return enter, leave, face


def _along(
    crossing: Float[Tensor, "num planes 3"], u: Tensor, v: Tensor
) -> Float[Tensor, "num planes pixels"]:
    """Return `crossing @ (u, v, 1)` for all pixels; a row plus a column is far faster than the product."""
    of_u = crossing[:, :, :1] * u
    of_v = crossing[:, :, 1:2] * v + crossing[:, :, 2:]
    return (of_v[:, :, :, None] + of_u[:, :, None, :]).flatten(2)


def _color(hue: Float[Tensor, " num"]) -> Float[Tensor, "num 3"]:
    """Return red, green and blue of a color of full value and three quarters of full saturation."""
    sector = (hue.new_tensor([5.0, 3.0, 1.0]) + hue[:, None] * 3 / math.pi) % 6
    return 1 - 0.75 * torch.minimum(sector, 4 - sector).clamp(0, 1)
