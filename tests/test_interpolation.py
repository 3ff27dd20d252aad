"""Great circles, and the lengths of paths."""

import math

import numpy as np
import pytest
import torch
from bad_input import refused

from companion.interpolation import path_length_ratio, spherical_interpolation


def test_a_great_circle_in_the_plane() -> None:
    start, end = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    share = torch.tensor([0.0, 1 / 3, 0.5, 1.0])
    path = spherical_interpolation(start, end, share)[:, 0]
    angle = share * math.pi / 2
    assert torch.allclose(path, 2 * torch.stack([angle.cos(), angle.sin()], 1), atol=1e-6)


def test_pictures_keep_their_shape_their_ends_and_their_length() -> None:
    start, end = torch.randn(2, 5, 1, 4, 4, dtype=torch.double)
    end = end * (start.flatten(1).norm(dim=1) / end.flatten(1).norm(dim=1))[:, None, None, None]
    path = spherical_interpolation(start, end, torch.linspace(0, 1, 7).double())
    assert path.shape == (7, 5, 1, 4, 4)
    assert torch.allclose(path[0], start) and torch.allclose(path[-1], end)
    lengths = path.flatten(2).norm(dim=2)
    assert torch.allclose(lengths, lengths[0].expand(7, 5))
    steps = path.diff(dim=0).flatten(2).norm(dim=2)
    assert torch.allclose(steps, steps[0].expand(6, 5))  # and the speed


def test_sparse_codes_without_a_common_entry_have_a_way() -> None:
    start, end = torch.eye(2)[:, None]
    path = spherical_interpolation(start, end, torch.tensor([0.5]))
    assert torch.allclose(path, torch.full((1, 1, 2), 0.5**0.5))


def test_path_length_ratio_of_a_line_and_a_half_circle() -> None:
    line = torch.linspace(0, 1, 9)[:, None] * torch.ones(1, 4)
    assert path_length_ratio(line) == pytest.approx(1, abs=1e-6)
    far = 1e3 + torch.rand(50, 4)
    steps = np.linalg.norm(np.diff(far.double().numpy(), axis=0), axis=1)
    chord = np.linalg.norm(far[-1].double().numpy() - far[0].double().numpy())
    # In double precision.
    assert path_length_ratio(far) == pytest.approx(steps.sum() / chord, rel=1e-12)
    angle = torch.linspace(0, torch.pi, 1001)
    circle = torch.stack([angle.cos(), angle.sin()], 1)
    assert path_length_ratio(circle) == pytest.approx(torch.pi / 2, rel=1e-5)


def test_directions_may_differ_by_a_thousandth_but_not_by_less() -> None:
    """A cosine of 1 - 1e-6 belongs to an angle of 1.4e-3."""
    start, share = torch.tensor([[1.0, 0.0]], dtype=torch.double), torch.tensor([0.5]).double()
    for angle, allowed in ((1.7e-3, True), (1e-3, False)):
        end = torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.double)
        if allowed:
            (middle,) = spherical_interpolation(start, end, share)
            assert middle[0, 1].item() == pytest.approx(math.sin(angle / 2), rel=1e-6)
        else:
            with pytest.raises(ValueError, match="must point in different, not opposite"):
                spherical_interpolation(start, end, share)


test_bad_input = refused("interpolation")
