"""Small images of what a sentence can say: a house, perhaps a second one behind it, trees, the sun, day or dusk."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from companion import checks
from companion.data.scenes import PIXELS, SUN_RADIUS, cross, direction, grid, house_planes

COLORS = {
    "red": (0.85, 0.13, 0.12),
    "yellow": (0.98, 0.80, 0.12),
    "green": (0.25, 0.72, 0.22),
    "blue": (0.15, 0.33, 0.88),
    "purple": (0.56, 0.18, 0.66),
    "white": (0.97, 0.97, 0.97),
}
"""Red, green and blue of the houses in white light, on [0, 1]."""

ATTRIBUTES = {
    "color": tuple(COLORS),
    "size": ("small", "large"),
    "turn": ("left", "front", "right"),  # where the wall with the door looks
    "behind": ("none", *COLORS),  # a second house, by its color
    "trees": ("none", "one", "two", "three"),
    "side": ("left", "right"),  # of the camera, on which the sun stands
    "height": ("low", "high"),  # of the sun
    "time": ("day", "dusk"),
}
"""What a landscape is decided by, and the values that each attribute takes."""

HELD_OUT: tuple[dict[str, str], ...] = (
    {"color": "blue", "time": "dusk"},
    {"color": "yellow", "size": "small"},
    {"color": "red", "trees": "three"},
    {"color": "green", "behind": "red"},
    {"size": "small", "behind": "white"},
    {"turn": "left", "side": "right", "height": "low"},
)
"""Pairs and triples of values that no training image shows together; each value alone occurs in many."""

_JITTER = 25  # numbers that vary an image beside its attributes
_SAMPLES = 2  # rays per pixel and direction
_FAR = 1e3  # where an object stands that is not there
_LIFT = 0.5  # of the picture's center above the ground
_HORIZON = 2.3  # where the ground ends, behind the houses
_GROUND = (0.86, 0.86, 0.74)
_TREE = (0.10, 0.36, 0.16)
_DOOR = 0.35  # brightness of the door, relative to its wall
# By day and at dusk, in red, green and blue: what reaches every face, what the sun adds, and the sky.
_AMBIENT = ((0.42, 0.43, 0.46), (0.32, 0.27, 0.42))
_SUN = ((0.58, 0.57, 0.54), (0.60, 0.38, 0.22))
_SKY = ((0.62, 0.80, 0.97), (0.90, 0.50, 0.36))
# Trees stand at some of these places, left and right, before and behind the house.
_PLACES = ((-1.1, -0.35), (1.1, -0.35), (-1.15, 0.75), (1.15, 0.75))
# A tree is a pyramid on six sides, 1 high, and 0.26 wide from the axis to a side; the seventh plane is its floor.
_TREE_NORMALS = (
    *((math.cos(k * math.pi / 3), math.sin(k * math.pi / 3), 0.26) for k in range(6)),
    (0.0, 0.0, -1.0),
)
_TREE_DISTANCES = (*(6 * (0.26,)), 0.0)


class Landscapes(NamedTuple):
    """Images in [0, 1], and of each the index of its value for every attribute, in the order of `ATTRIBUTES`.

    Book: chapter 14.
    """

    images: Float[Tensor, "num 3 pixels pixels"]
    attributes: Int[Tensor, "num 8"]


def landscapes(
    num: int,
    seed: int = 0,
    held_out: bool | None = False,
    device: torch.device | str | None = None,
    pixels: int = PIXELS,
) -> Landscapes:
    """Draw `num` images of random attributes; everything else, such as where trees stand, varies, too.

    Attributes are uniform and independent, but that half of the images have no second house, among the combinations
    that are asked for. The seed decides them, the same on every device; torch's own random numbers are not touched.

    Args:
        num: how many.
        seed: of attributes and of what varies beside them.
        held_out: False for combinations to train on; True for those that hold a pair or triple of `HELD_OUT`; None for
            both kinds.
        device: where the images lie; torch's default one if none is given.
        pixels: of each side.

    Raises:
        TypeError: if `num` or `pixels` is not an integer.
        ValueError: if one of them is below 1.

    Book: chapter 14.
    """
    checks.at_least(1, num=num)
    if not isinstance(held_out, bool | None):
        raise ValueError(f"held_out must be True, False or None; {held_out!r} was given")
    device = checks.device(device)
    generator = torch.Generator().manual_seed(checks.seed(seed))
    with torch.device("cpu"):
        attributes = _attributes(num, generator, held_out)
        jitter = 2 * torch.rand(num, _JITTER, generator=generator, dtype=torch.float32) - 1
    attributes = attributes.to(device)
    return Landscapes(render_landscapes(attributes, jitter.to(device), pixels), attributes)


def is_held_out(attributes: Int[Tensor, "num 8"]) -> Bool[Tensor, "num"]:
    """Whether a combination holds a pair or triple of `HELD_OUT`.

    Raises:
        TypeError: if the attributes are no integers.
        ValueError: if their shape is wrong, or one has no such value.

    Book: chapter 14.
    """
    check_attributes(attributes)
    names = list(ATTRIBUTES)
    found = torch.zeros(len(attributes), dtype=torch.bool, device=attributes.device)
    for rule in HELD_OUT:
        match = torch.ones_like(found)
        for name, value in rule.items():
            match &= attributes[:, names.index(name)] == ATTRIBUTES[name].index(value)
        found |= match
    return found


@torch.no_grad()
def render_landscapes(
    attributes: Int[Tensor, "num 8"], jitter: Float[Tensor, "num 25"], pixels: int = PIXELS
) -> Float[Tensor, "num 3 {pixels} {pixels}"]:
    """Render the images: one ray per sample point, without perspective, Lambert's law, shadows on the ground alone.

    Args:
        attributes: indices of their values, in the order of `ATTRIBUTES`.
        jitter: from -1 to 1; what the attributes leave open, such as angles, positions and shades.
        pixels: of each side.

    Raises:
        TypeError: if the attributes or `pixels` are no integers, or the jitter no floating-point numbers.
        ValueError: if a shape is wrong, an attribute has no such value, or the jitter is not in [-1, 1].

    Book: chapter 14.
    """
    check_attributes(attributes)
    checks.at_least(1, pixels=pixels)
    checks.shape((len(attributes), _JITTER), jitter=jitter)
    checks.floating(jitter=jitter)
    checks.within(-1, 1, jitter=jitter)
    # Few at a time: memory that is small enough to be used again costs no page faults.
    parts = zip(attributes.split(16), jitter.float().split(16), strict=True)
    return torch.cat([_render(*part, pixels) for part in parts])


def check_attributes(attributes: Tensor) -> None:
    """Integers of shape (num, 8), each the index of a value of its attribute; raises as `render_landscapes`."""
    checks.shape(("num", len(ATTRIBUTES)), attributes=attributes)
    checks.integers(attributes=attributes)
    for column, (name, values) in zip(attributes.T, ATTRIBUTES.items(), strict=True):
        checks.within(0, len(values) - 1, **{f"attributes, {name}": column})


def _attributes(num: int, generator: torch.Generator, held_out: bool | None) -> Tensor:
    """Combinations of the kind that is asked for, by drawing until there are enough."""
    chances = [torch.ones(len(values)) for values in ATTRIBUTES.values()]
    chances[list(ATTRIBUTES).index("behind")][0] = len(COLORS)
    found = torch.empty(0, len(ATTRIBUTES), dtype=torch.long)
    while len(found) < num:
        columns = [p.multinomial(num, replacement=True, generator=generator) for p in chances]
        drawn = torch.stack(columns, 1)
        if held_out is not None:
            drawn = drawn[is_held_out(drawn) == held_out]
        found = torch.cat([found, drawn])
    return found[:num]


class _View(NamedTuple):
    """Where rays start and where they go, for each image; a start is a linear function of (u, v, 1)."""

    screen: Float[Tensor, "num 3 3"]
    ground: Float[Tensor, "num 3 3"]  # where the same ray meets z = 0
    ray: Float[Tensor, "num 3"]
    sun: tuple[Tensor, Tensor]  # its height above the horizon, and its side


class _Light(NamedTuple):
    """Red, green and blue of all that can be seen, in the light of each image."""

    faces: Float[Tensor, "num 3 faces"]
    lit: Float[Tensor, "num 3 1"]  # ground in the sun
    dark: Float[Tensor, "num 3 1"]  # ground in the shadow
    sky: Float[Tensor, "num 3 1"]


def _render(attributes: Tensor, jitter: Tensor, pixels: int) -> Tensor:
    """Average the colors of the sample points of each pixel."""
    view, objects = _view(attributes, jitter), _objects(attributes, jitter)
    light = _light(attributes, jitter, objects[0], view.sun)
    picture = jitter.new_zeros(len(jitter), 3, pixels**2)
    offsets = ((torch.arange(_SAMPLES) - (_SAMPLES - 1) / 2) / _SAMPLES).tolist()
    for across in offsets:
        for down in offsets:
            points = [axis.to(jitter.device) for axis in grid(across, down, pixels)]
            picture += _sample(view, objects, light, points, (across, down))
    return (picture / _SAMPLES**2).unflatten(-1, (pixels, pixels))


def _sample(
    view: _View,
    objects: tuple[Tensor, Tensor],
    light: _Light,
    points: list[Tensor],
    offsets: tuple[float, float],
) -> Float[Tensor, "num 3 pixels"]:
    """The colors at one point of every pixel."""
    (u, v), (across, down) = points, offsets
    near, far, face = _hit(objects, view.screen, view.ray, u, v)
    near, which = near.masked_fill(near >= far, math.inf).min(1)
    face = face.gather(1, which[:, None])[:, 0] + 7 * which
    color = light.faces.gather(2, face[:, None].expand(-1, 3, -1))
    color = torch.where(_on_door(objects, view, near, face, u, v)[:, None], _DOOR, 1) * color
    # Each sample looks at another point of the sun's disk, which gives the shadow a soft edge.
    height, side = view.sun
    sun = direction(height + 2 * SUN_RADIUS * down, side + 2 * SUN_RADIUS * across)
    enter, leave, _ = _hit(objects, view.ground, sun, u, v)
    shaded = ((enter < leave) & (leave > 0)).any(1)[:, None]
    away = view.ground[:, 1, 1:2] * v + view.ground[:, 1, 2:]  # of each row; u does not matter
    is_sky = (away > _HORIZON)[:, None, :, None].expand(-1, 1, -1, len(u)).flatten(2)
    nothing = torch.where(is_sky, light.sky, torch.where(shaded, light.dark, light.lit))
    return torch.where(near.isinf()[:, None], nothing, color)


def _view(attributes: Tensor, jitter: Tensor) -> _View:
    """Camera and sun."""
    side, height = attributes[:, 5], attributes[:, 6]
    elevation = 0.46 + 0.04 * jitter[:, 1]
    camera = direction(elevation, torch.zeros_like(elevation))
    up = direction(elevation + math.pi / 2, torch.zeros_like(elevation))
    right = jitter.new_tensor([1.0, 0.0, 0.0]).expand_as(up)
    # The point at (u, v) in the picture is u right + v up + lift e_z.
    screen = torch.stack([right, up, torch.zeros_like(up)], -1)
    screen[:, 2, 2] = _LIFT
    ground = screen - camera[:, :, None] * (screen[:, 2] / camera[:, 2:])[:, None]
    above = torch.where(height == 1, 1.0 + 0.1 * jitter[:, 3], 0.4 + 0.06 * jitter[:, 3])
    return _View(screen, ground, -camera, (above, (2 * side - 1) * (0.95 + 0.2 * jitter[:, 2])))


def _objects(
    attributes: Tensor, jitter: Tensor
) -> tuple[Float[Tensor, "num 5 7 3"], Float[Tensor, "num 5 7"]]:
    """The planes of two houses and three trees; those that are not there stand far away."""
    _, size, turn, behind, trees, *_ = attributes.T
    num, away = len(jitter), torch.where(jitter[:, 8] > 0, 1.0, -1.0)
    azimuth = torch.stack([0.65 * (turn - 1) + 0.12 * jitter[:, 0], 0.3 * jitter[:, 9]])
    scale = torch.stack([0.48 + 0.26 * size + 0.03 * jitter[:, 4], 0.5 + 0.04 * jitter[:, 10]])
    normals, distances = house_planes(azimuth.flatten(), scale.flatten())
    normals = torch.cat([normals, jitter.new_tensor(_TREE_NORMALS).expand(3 * num, 7, 3)])
    heights = 0.75 + 0.1 * jitter[:, 12:15].T.reshape(-1, 1)
    distances = torch.cat([distances, heights * jitter.new_tensor(_TREE_DISTANCES)])
    # The least of four numbers names the first tree's place, and so on.
    places = jitter.new_tensor(_PLACES)[jitter[:, 15:19].argsort(1)[:, :3]]
    places = places + 0.1 * jitter[:, 19:25].unflatten(1, (3, 2))
    houses = torch.stack([0.12 * jitter[:, 7], 0 * away, (0.62 + 0.1 * jitter[:, 11]) * away], 1)
    houses = torch.cat([houses, torch.full_like(houses[:, :1], 1.55)], 1).unflatten(1, (2, 2))
    position = torch.cat([houses, places], 1).transpose(0, 1).flatten(0, 1)
    distances = distances + (normals[..., :2] @ position[:, :, None])[..., 0]
    absent = torch.stack([behind < 0, behind == 0, *(trees <= k for k in range(3))]).flatten()
    distances = distances.masked_fill(absent[:, None], -_FAR)
    shape = (5, num)
    return tuple(part.unflatten(0, shape).transpose(0, 1) for part in (normals, distances))


def _light(
    attributes: Tensor, jitter: Tensor, normals: Tensor, sun: tuple[Tensor, Tensor]
) -> _Light:
    """Lambert's law on every face, in the light of day or dusk."""
    color, _, _, behind, *_, time = attributes.T
    shades = jitter.new_tensor([*COLORS.values()])
    houses = shades[torch.stack([color, (behind - 1).clamp(min=0)], 1)]
    trees = jitter.new_tensor(_TREE).expand(len(jitter), 3, 3)
    paint = torch.cat([houses, trees], 1) * (1 + 0.08 * jitter[:, 5:6, None])
    strength = 1 + 0.06 * jitter[:, 6:7]
    ambient, sunlight, sky = (
        strength * jitter.new_tensor(each)[time] for each in (_AMBIENT, _SUN, _SKY)
    )
    lambert = (normals @ direction(*sun)[:, None, :, None]).clamp(min=0)
    faces = (ambient[:, None, None] + sunlight[:, None, None] * lambert) * paint[:, :, None]
    earth = jitter.new_tensor(_GROUND)
    ground = earth * ambient, earth * (ambient + sunlight)
    dark, lit, sky = (each[:, :, None].clamp(max=1) for each in (*ground, sky))
    return _Light(faces.flatten(1, 2).mT.clamp(max=1), lit, dark, sky)


def _hit(
    objects: tuple[Tensor, Tensor], start: Tensor, ray: Tensor, u: Tensor, v: Tensor
) -> tuple[Tensor, ...]:
    """Where the rays enter and leave each object, and at which face, of shape (num, objects, pixels)."""
    shape = objects[0].shape[:2]
    normals, distances = (each.flatten(0, 1) for each in objects)
    start, ray = (each.repeat_interleave(shape[1], 0) for each in (start, ray))
    met = cross(normals, distances, start, ray, u, v)
    return tuple(part.unflatten(0, shape) for part in met)


def _on_door(
    objects: tuple[Tensor, Tensor], view: _View, near: Tensor, face: Tensor, u: Tensor, v: Tensor
) -> Bool[Tensor, "num pixels"]:
    """Whether a point lies on the door: in the middle of the first house's wall that looks to the camera."""
    normals, distances = objects
    size = (distances[:, 0, 0] + distances[:, 0, 1])[:, None] / 2  # half the house's length
    ends = torch.stack([normals[:, 0, 0], torch.zeros_like(view.ray)], 1)
    ends[:, 1, 2] = 1
    of_u, of_v, rest = (ends @ view.screen).unbind(-1)
    flat = (of_u[:, :, None, None] * u + of_v[:, :, None, None] * v[:, None]).flatten(2)
    along, height = (
        flat + rest[:, :, None] + (ends @ view.ray[:, :, None]) * near[:, None]
    ).unbind(1)
    along = along - (distances[:, 0, 0] - distances[:, 0, 1])[:, None] / 2
    return (face == 3) & (along.abs() < 0.2 * size) & (height < 0.55 * size)
