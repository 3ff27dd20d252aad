"""Tests of the densities in the plane: each integrates to one, and its samples follow it."""

import math

import pytest
import torch
from bad_input import refused
from torch.distributions import Normal

from companion.data import toy_density
from companion.data.toys import Rings, Swirl

NAMES = ("rings", "mixture", "pinwheel", "checkerboard")
HALF_WIDTH = 5.0  # of the square that is integrated over; it holds all the mass to 1e-6


def cell_masses(name, cells, nodes):
    """The mass of each cell of a grid over the square by the midpoint rule with nodes x nodes points a cell."""
    num = cells * nodes
    axis = (torch.arange(num, dtype=torch.float64) + 0.5) / num * 2 * HALF_WIDTH - HALF_WIDTH
    points = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1)
    density = toy_density(name).log_prob(points.float()).double().exp()
    sums = density.unflatten(1, (cells, nodes)).unflatten(0, (cells, nodes)).sum((1, 3))
    return sums * (2 * HALF_WIDTH / num) ** 2


@pytest.mark.parametrize("name", NAMES)
def test_samples_fall_into_cells_as_the_density_says_which_integrates_to_one(name):
    cells, num = 20, 200_000
    masses = cell_masses(name, cells, 50)
    assert masses.sum().item() == pytest.approx(1, abs=1e-4)
    expected = num * masses.flatten()
    large = expected >= 5  # the usual condition of the chi-square test; the rest is one cell
    expected = torch.cat([expected[large], expected[~large].sum()[None]])
    freedom = len(expected) - 1

    def excess(x):
        """By how many standard deviations chi-square is above its mean."""
        place = ((x + HALF_WIDTH) / (2 * HALF_WIDTH) * cells).floor().long()
        assert place.min() >= 0 and place.max() < cells
        counts = torch.bincount(place[:, 0] * cells + place[:, 1], minlength=cells**2).double()
        counts = torch.cat([counts[large], counts[~large].sum()[None]])
        chi_square = ((counts - expected) ** 2 / expected.clamp(min=1)).sum()
        return (chi_square - freedom) / math.sqrt(2 * freedom)

    assert excess(toy_density(name).sample((num,))) < 5
    assert excess(1.02 * toy_density(name).sample((num,))) > 20  # a wrong scale is seen


@pytest.mark.parametrize("name", NAMES)
def test_shapes_seed_and_bad_input(name):
    toy = toy_density(name)
    assert toy.event_shape == (2,)
    assert toy.batch_shape == ()
    assert toy.sample().shape == (2,)
    assert toy.log_prob(toy.sample((3, 4))).shape == (3, 4)
    assert bool(toy.log_prob(toy.sample((1000,))).isfinite().all())
    torch.manual_seed(3)
    once = toy.sample((5,))
    torch.manual_seed(3)
    assert torch.equal(toy.sample((5,)), once)


def test_rings_by_hand():
    # The law of r u + s e by integrating over the angle of u: an average of normals on the circle.
    rings, point = Rings(radii=(1.0,), noise=0.4), torch.tensor([0.3, -0.9])
    angle = torch.arange(4096, dtype=torch.float64) / 4096 * 2 * math.pi
    centers = torch.stack([angle.cos(), angle.sin()], -1)
    average = Normal(centers, 0.4).log_prob(point.double()).sum(-1).exp().mean().log()
    assert rings.log_prob(point).item() == pytest.approx(average.item(), abs=1e-6)


def test_the_swirl_keeps_areas_and_can_be_undone():
    swirl, x = Swirl(0.7), torch.randn(5, 2, dtype=torch.float64)
    assert torch.allclose(swirl.inv(swirl(x)), x)
    for point in x:
        jacobian = torch.autograd.functional.jacobian(lambda y: Swirl(0.7)(y), point)
        assert torch.linalg.det(jacobian).item() == pytest.approx(1, abs=1e-12)
    assert torch.equal(swirl.log_abs_det_jacobian(x, swirl(x)), torch.zeros(5, dtype=torch.float64))


def test_checkerboard_by_hand():
    board = toy_density("checkerboard")
    on = torch.tensor([[-1.5, -1.5], [0.5, 0.5], [1.5, -0.5]])
    off = torch.tensor([[-1.5, -0.5], [0.5, 1.5], [2.5, 0.5]])
    assert torch.allclose(board.log_prob(on), torch.full((3,), -math.log(8)))
    assert board.log_prob(off).tolist() == [-math.inf] * 3


@pytest.mark.parametrize("name", ("rings", "mixture", "pinwheel"))
def test_the_score_is_available(name):
    toy, step = toy_density(name), 1e-3
    x = toy.sample((50,)).requires_grad_()
    (score,) = torch.autograd.grad(toy.log_prob(x).sum(), x)
    shift = torch.tensor([step, 0.0])
    slope = (toy.log_prob(x + shift) - toy.log_prob(x - shift)) / (2 * step)
    assert torch.allclose(score[:, 0], slope, atol=0.05, rtol=0.02)


test_bad_input = refused("toys")
