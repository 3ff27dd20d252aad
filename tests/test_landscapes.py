"""Tests of the landscapes: each attribute is compared with what it must do to the image."""

import math
import sys

import pytest
import torch
from bad_input import refused
from torch.nn import functional as F

from companion.data import ATTRIBUTES, HELD_OUT, is_held_out, landscapes, render_landscapes
from companion.zoo.architectures import decoded_landscapes, landscape_codes, landscape_reader

module = sys.modules["companion.data.landscapes"]  # of the name of its function
NAMES = list(ATTRIBUTES)
PLAIN = {
    **{"color": "red", "size": "large", "turn": "front", "behind": "none"},
    **{"trees": "none", "side": "left", "height": "high", "time": "day"},
}


def combination(**values):
    """One row of attributes: those that are named, and the others as in `PLAIN`."""
    told = PLAIN | values
    return torch.tensor([[ATTRIBUTES[name].index(told[name]) for name in NAMES]])


def picture(jitter=None, **values):
    jitter = torch.zeros(1, 25) if jitter is None else jitter
    return render_landscapes(combination(**values), jitter)[0]


def colorful(image):
    """Where the image shows a house that is not white."""
    return image.amax(0) - image.amin(0) > 0.4


def test_the_seed_decides_the_images_and_torch_is_untouched():
    state = torch.get_rng_state()
    first, second, third = landscapes(70, 4), landscapes(70, 4), landscapes(70, 5)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(*pair) for pair in zip(first, second))
    assert not torch.equal(first.images, third.images)
    assert first.images.shape == (70, 3, 32, 32) and first.images.dtype == torch.float32
    assert first.images.min() > 0 and first.images.max() <= 1
    assert first.attributes.shape == (70, 8) and first.attributes.dtype == torch.long


def test_what_is_held_out_is_in_no_image_to_train_on():
    for held_out, low, high in ((False, 0, 0), (True, 1, 1), (None, 0.2, 0.4)):
        drawn = landscapes(200, 1, held_out).attributes
        found = [
            all(ATTRIBUTES[name][row[NAMES.index(name)]] == rule[name] for name in rule)
            for rule in HELD_OUT
            for row in drawn.tolist()
        ]
        each = torch.tensor(found).view(len(HELD_OUT), -1).any(0)
        assert torch.equal(each, is_held_out(drawn))
        assert low <= each.double().mean() <= high


def test_every_value_is_there_to_train_on_and_also_every_pair_but_those_held_out(monkeypatch):
    monkeypatch.setattr(module, "render_landscapes", lambda attributes, jitter, pixels: jitter)
    drawn = landscapes(20_000, 2).attributes
    for a, name in enumerate(NAMES):
        for k, value in enumerate(ATTRIBUTES[name]):
            rows = drawn[drawn[:, a] == k]
            assert len(rows) > 200
            for b, other in enumerate(NAMES):
                missing = set(range(len(ATTRIBUTES[other]))) - set(rows[:, b].tolist())
                pairs = [{name: value, other: ATTRIBUTES[other][m]} for m in missing if a != b]
                assert [pair for pair in pairs if pair not in HELD_OUT] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_value_looks_like_no_other(name):
    images = torch.stack([picture(**{name: value}) for value in ATTRIBUTES[name]]).flatten(1)
    apart = torch.cdist(images, images) + 100 * torch.eye(len(images))
    jitter = 2 * torch.rand(1, 25, generator=torch.Generator().manual_seed(0)) - 1
    assert apart.min() > 0.5
    assert (picture(jitter) - picture()).norm() > 0.5  # and one value has many images


@pytest.mark.parametrize("time", ["day", "dusk"])
def test_a_house_has_its_color(time):
    of_sun = {name: picture(color=name, time=time)[:, 17, 16] for name in ATTRIBUTES["color"]}
    for name, strongest in (("red", 0), ("green", 1), ("blue", 2)):
        assert of_sun[name].argmax() == strongest
    assert of_sun["purple"][1] < of_sun["purple"].min() + 1e-6 < of_sun["purple"][2]
    assert of_sun["yellow"][2] < 0.5 * of_sun["yellow"][1]
    white = of_sun["white"]
    assert (white.amax() - white.amin() < 0.1) == (time == "day")


def test_a_large_house_is_as_much_larger_as_the_numbers_say():
    # The shapes are similar, and parallel rays keep areas in proportion.
    small, large = (colorful(picture(size=size)).sum().item() for size in ATTRIBUTES["size"])
    assert small / large == pytest.approx((0.48 / 0.74) ** 2, rel=0.2)  # pixels on the edge


def test_the_house_turns_its_door_to_the_side_that_is_named():
    middle = {}
    for turn in ATTRIBUTES["turn"]:
        image = picture(turn=turn)
        wall = colorful(image)
        rows, columns = torch.nonzero(wall, as_tuple=True)
        dark = (image.amax(0) < 0.3) & ~wall
        dark[: rows.min()] = False  # below the roof only
        door = torch.nonzero(dark)[:, 1].double()
        middle[turn] = (door.mean() - columns.double().mean()).item()
    assert middle["left"] < -1 < middle["front"] < 1 < middle["right"]
    assert middle["front"] == pytest.approx(0, abs=0.6)


def test_a_second_house_is_there_in_its_color_and_farther_away():
    alone, image = picture(size="small"), picture(size="small", behind="blue")
    blue = image[2] > image[0] + 0.3
    sky = alone[2] > alone[0] + 0.3
    assert (blue & ~sky).sum() > 20
    rows = torch.nonzero(blue & ~sky)[:, 0].double()
    assert rows.mean() < torch.nonzero(colorful(alone))[:, 0].double().mean() - 4


def test_as_many_trees_as_are_told():
    green = [
        ((image[1] > image[0] + 0.02) & (image[1] > image[2] + 0.02) & (image[1] < 0.5)).sum()
        for image in (picture(trees=value) for value in ATTRIBUTES["trees"])
    ]
    assert green[0] == 0
    # The pyramid's outline: 0.75 high over the picture's 3 in 32 pixels, and 0.52 wide at the foot.
    one = 0.5 * 0.75 * math.cos(0.46) * 0.52 * (32 / 3) ** 2
    for number in (1, 2, 3):
        assert green[number] == pytest.approx(number * one, rel=0.45)


def test_shadows_lie_away_from_the_sun_and_are_long_when_it_is_low():
    def shadow(**values):
        image = picture(size="small", **values)
        gray = (image.amax(0) < 0.5) & ~colorful(image)
        gray[:, 13:19] = False  # the door
        return torch.nonzero(gray)[:, 1].double() - 15.5

    for side, sign in (("left", 1), ("right", -1)):
        assert (sign * shadow(side=side)).mean() > 2
    assert len(shadow(height="low")) > 1.5 * len(shadow(height="high"))


def test_dusk_is_darker_and_redder():
    day, dusk = picture(time="day"), picture(time="dusk")
    assert dusk.mean() < 0.9 * day.mean()
    sky = [image[:, 0].mean(1) for image in (day, dusk)]
    assert sky[0][2] > sky[0][0] and sky[1][0] > sky[1][2]


test_bad_input = refused("landscapes")


def test_more_pixels_show_the_same_scenes():
    small, large = landscapes(20, seed=3), landscapes(20, seed=3, pixels=64)
    assert large.images.shape == (20, 3, 64, 64)
    assert torch.equal(large.attributes, small.attributes)
    # A pixel of one is the mean of four of the other, but for where the sample points lie.
    shrunk = large.images.unflatten(2, (32, 2)).unflatten(4, (32, 2)).mean((3, 5))
    assert (
        (shrunk - small.images).abs().mean()
        < 0.01
        < (shrunk - small.images.roll(1, 0)).abs().mean()
    )


def test_the_first_stage_of_32_pixels_serves_64():
    scenes = landscapes(60, seed=4, pixels=64)
    decoded = decoded_landscapes(landscape_codes(scenes.images))
    assert (decoded - scenes.images).square().mean().sqrt() < 0.08
    right = landscape_reader().read(F.adaptive_avg_pool2d(decoded, 32)) == scenes.attributes
    assert right.double().mean() > 0.95


def test_a_face_turned_away_from_the_sun_has_the_light_of_the_sky_alone():
    attributes, jitter = landscapes(30, seed=2).attributes, 2 * torch.rand(30, 25) - 1
    sun = module._view(attributes, jitter).sun
    normals, _ = module._objects(attributes, jitter)
    faces = module._light(attributes, jitter, normals, sun).faces.unflatten(2, (5, 7))
    towards = (normals @ module.direction(*sun)[:, None, :, None])[..., 0]
    for house in (0, 1):
        away = towards[:, house] < 0
        dark = faces[:, :, house].where(away[:, None], torch.nan)
        spread = dark.nan_to_num(-1).amax(2) - dark.nan_to_num(2).amin(2)
        assert away.any(1).all() and spread.abs().max() < 1e-6
        assert (faces[:, :, house].amax(2) > dark.nan_to_num(-1).amax(2)).all()


def test_what_is_in_front_hides_what_is_behind():
    jitter = 2 * torch.rand(40, 25) - 1
    plain, blue, two = (
        render_landscapes(combination(**told).expand(40, -1), jitter)
        for told in ({}, {"color": "blue"}, {"behind": "white"})
    )
    front = (plain - blue).abs().sum(1, keepdim=True) > 0.02
    inside = 1 - F.max_pool2d(
        1 - front.float(), 3, 1, 1
    )  # without the edges, where pixels show both
    assert inside.sum() > 1000 and ((two - plain).abs() * inside).max() < 1e-6
    assert (two - plain).abs().amax((1, 2, 3)).min() > 0.1  # it is there
