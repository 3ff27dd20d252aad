"""Tests of the pictures with known factors: geometry and light are compared with calculations by hand."""

import math

import pytest
import torch
from bad_input import refused

from companion.data import SCENE_FACTORS, nearest_scenes, render_scenes, scenes

GROUND = 0.93
HUE = 2 * math.pi / 3  # green, whose color is (0.25, 1, 0.25)


def picture(azimuth=0.3, elevation=0.6, light=0.4, size=0.9, hue=HUE):
    return render_scenes(torch.tensor([[azimuth, elevation, light, size, hue]]))[0]


def house(image):
    """Return where the picture shows the house: the ground is gray."""
    return (image.amax(0) - image.amin(0)) > 0.02


def test_same_seed_same_pictures_and_torch_untouched():
    state = torch.get_rng_state()
    first, second, third = scenes(20, seed=4), scenes(20, seed=4), scenes(20, seed=5)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.factors, second.factors)
    assert not torch.equal(first.images, third.images)
    assert torch.equal(render_scenes(first.factors), first.images)
    assert first.names == ("azimuth", "elevation", "light", "size", "hue") == tuple(SCENE_FACTORS)


def test_shapes_and_ranges():
    drawn = scenes(200)
    assert drawn.images.shape == (200, 3, 32, 32)
    assert drawn.images.dtype == torch.float32
    assert drawn.images.min() > 0
    assert drawn.images.max() <= 1
    assert len(drawn.images.flatten(1).unique(dim=0)) == 200
    for column, (low, high) in zip(drawn.factors.T, SCENE_FACTORS.values()):
        assert low <= column.min() < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < column.max() <= high


@pytest.mark.parametrize("name", SCENE_FACTORS)
def test_every_factor_is_visible_over_its_whole_range(name):
    low, high = SCENE_FACTORS[name]
    middle = {other: sum(ends) / 2 for other, ends in SCENE_FACTORS.items()}
    middle |= {"azimuth": 0.5, "light": 0.5}
    steps = [low + (high - low) * i / 8 for i in range(9)]
    film = torch.stack([picture(**{**middle, name: value}) for value in steps])
    difference = (film[1:] - film[:-1]).abs().mean((1, 2, 3))
    assert difference.min() > 0.003
    assert (film[0] - film[-1]).abs().mean() > difference.max()


def test_no_two_azimuths_look_alike():
    low, high = SCENE_FACTORS["azimuth"]
    film = torch.stack([picture(azimuth=low + (high - low) * i / 20) for i in range(21)]).flatten(1)
    distance = torch.cdist(film, film) + 1e9 * torch.eye(21)
    nearest = distance.argmin(1)
    assert ((nearest - torch.arange(21)).abs() == 1).all()


def test_mirrored_factors_give_the_mirrored_picture():
    shown = picture(azimuth=0.5, light=0.8)
    assert torch.allclose(shown, picture(azimuth=-0.5, light=-0.8).flip(-1), atol=1e-5)
    assert not torch.allclose(shown, picture(azimuth=-0.5, light=0.8).flip(-1), atol=0.1)


def test_the_house_turns_counterclockwise_seen_from_above():
    # Its right end then moves away from the camera, which is upward in the picture.
    ridge = house(picture(azimuth=0.5)).nonzero()
    assert ridge[ridge[:, 0] == ridge[:, 0].min(), 1].float().mean() > 18


def test_half_a_turn_and_a_full_turn_of_the_light_change_nothing():
    assert torch.allclose(picture(azimuth=0.3), picture(azimuth=0.3 + math.pi), atol=1e-3)
    assert torch.allclose(picture(light=0.4), picture(light=0.4 + 2 * math.pi), atol=1e-3)


def test_faces_are_as_bright_as_lambert_says():
    # Seen straight on, from 30 degrees: the front wall has normal (0, -1, 0), the roof (0, -0.5, 0.6) / 0.781, and the
    # sun stands at 45 degrees, 0.4 rad to the right, in direction (sin 0.4, -cos 0.4, 1) / sqrt 2.
    image = picture(azimuth=0.0, elevation=math.pi / 6, light=0.4, size=1.0)
    wall = math.cos(0.4) / math.sqrt(2)
    roof = (0.5 * math.cos(0.4) + 0.6) / math.sqrt(2) / math.hypot(0.5, 0.6)
    # A point (0, y, z) is seen at height y sin e + (z - 0.45) cos e; a pixel is 3/32 high, row 16 begins at height 0.
    middle_of_wall = -0.6 * 0.5 + (0.45 - 0.45) * math.cos(math.pi / 6)
    middle_of_roof = -0.3 * 0.5 + (1.15 - 0.45) * math.cos(math.pi / 6)
    for height, lambert in ((middle_of_wall, wall), (middle_of_roof, roof)):
        row = math.floor(16 - height * 32 / 3)
        expected = torch.tensor([0.25, 1.0, 0.25]) * (0.35 + 0.65 * lambert)
        assert torch.allclose(image[:, row, 16], expected, atol=1e-5)
    assert roof > wall


def test_the_lit_side_is_brighter_and_the_shadow_falls_away_from_the_sun():
    lit, dark = (picture(azimuth=math.pi / 4, light=sign * math.pi / 4) for sign in (1, -1))
    both = house(lit) & house(dark)
    right, left = both.clone(), both.clone()
    right[:, :16], left[:, 16:] = False, False
    bright = (lit - dark).sum(0)
    assert bright[right].mean() > 0.1
    assert bright[left].mean() < bright[right].mean()
    for light, side in ((1.2, "left"), (-1.2, "right")):
        image = picture(azimuth=0.0, light=light)
        shadow = ~house(image) & (image.mean(0) < 0.75 * GROUND)
        columns = shadow.nonzero()[:, 1].float()
        assert len(columns) > 10
        assert (columns.mean() < 16) == (side == "left")


def test_the_house_has_the_size_it_should_have():
    # Seen straight on the house is 2 size wide, and from the front edge of the floor to the ridge or, from high above,
    # the rear edge of the roof it covers the height computed here.
    for size, elevation in ((0.6, 0.3), (1.0, 0.3), (0.8, 0.9)):
        image = picture(azimuth=0.0, elevation=elevation, light=0.0, size=size)
        seen = house(image).nonzero()
        width = (seen[:, 1].max() - seen[:, 1].min() + 1).item() * 3 / 32
        assert width == pytest.approx(2 * size, abs=2.1 * 3 / 32)
        sin, cos = math.sin(elevation), math.cos(elevation)
        top = max(1.4 * cos, 0.6 * sin + 0.9 * cos)
        height = (seen[:, 0].max() - seen[:, 0].min() + 1).item() * 3 / 32
        assert height == pytest.approx(size * (top + 0.6 * sin), abs=2.1 * 3 / 32)


def test_edges_are_smooth_and_the_open_ground_is_plain():
    image = picture()
    assert torch.allclose(image[:, 0, 0], torch.full((3,), GROUND))
    assert torch.allclose(image[:, -1, -1], torch.full((3,), GROUND))
    colors = (image.flatten(1).T * 255).round().unique(dim=0)
    assert len(colors) > 20  # three faces, ground and shadow would give five


def test_pictures_do_not_depend_on_the_default_precision():
    expected = scenes(3, seed=5)
    torch.set_default_dtype(torch.double)
    try:
        given = scenes(3, seed=5)
    finally:
        torch.set_default_dtype(torch.float32)
    assert given.images.dtype == torch.float32 and given.factors.dtype == torch.float32
    torch.testing.assert_close(given.images, expected.images)


def test_the_factors_of_a_scene_are_found_again():
    images, factors, _ = scenes(12, seed=3)
    low, high = torch.tensor(list(SCENE_FACTORS.values())).T
    in_levels = (255 * images).round() / 255
    state = torch.get_rng_state()
    found, error = nearest_scenes(in_levels)
    assert torch.equal(torch.get_rng_state(), state)
    assert ((found - factors) / (high - low)).abs().max() < 0.01
    expected = (render_scenes(found) - in_levels).square().flatten(1).sum(1)
    torch.testing.assert_close(error, expected)
    # Rounding alone leaves the variance 1/12 of a level in each value; ten times that is one level in one edge.
    assert error.max() < 10 * images[0].numel() / 12 / 255**2


def test_what_is_no_house_is_far_from_every_scene():
    images = scenes(3, seed=3).images
    # A hole, upside down, and two houses in one.
    images[0, :, 14:18, 14:18] = GROUND
    images[1] = images[1].flip(1)
    images[2] = (images[2] + images[2].flip(2)) / 2
    found, error = nearest_scenes(images, num_starts=2)
    assert error.min() > 2
    # No other scene is nearer, as far as a search without derivatives can tell.
    low, high = torch.tensor(list(SCENE_FACTORS.values())).T
    torch.manual_seed(0)
    near = found[:, None] + 0.02 * (high - low) * torch.randn(3, 300, 5)
    others = render_scenes(near.clamp(low, high).flatten(0, 1)).view(3, 300, -1)
    assert ((others - images.flatten(1)[:, None]).square().sum(2).amin(1) > 0.98 * error).all()


test_bad_input = refused("scenes")
