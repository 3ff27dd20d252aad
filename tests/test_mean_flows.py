"""Tests of companion.mean_flows: closed forms on Gaussians, derivatives against differences, and what is refused."""

import pytest
import torch
from bad_input import ACCEPTED, outcome, refused
from networks import Network
from torch import Tensor

from companion.mean_flows import MeanFlow, along_flow, mean_flow_loss, mean_flow_sample
from companion.networks.mlp import TimeMlp
from companion.networks.unet import UNet

MEAN = torch.tensor([0.7, -0.4]).double()
STD = torch.tensor([0.3, 1.6]).double()


def moments(u: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of x_u = (1 - u) x + u noise, for x ~ N(MEAN, diag STD^2)."""
    u = u[:, None]
    return (1 - u) * MEAN, ((1 - u) ** 2 * STD**2 + u**2).sqrt()


def velocity(x_u: Tensor, u: Tensor) -> Tensor:
    """E[noise - x | x_u], by the conditional mean of a Gaussian."""
    mean, std = moments(u)
    cov = u[:, None] - (1 - u[:, None]) * STD**2  # of noise - x with x_u
    return -MEAN + cov / std**2 * (x_u - mean)


def exact(x_u: Tensor, u: Tensor, step: Tensor) -> Tensor:
    """The average velocity: the flow of a Gaussian keeps the number of standard deviations."""
    (mean, std), (end_mean, end_std) = moments(u), moments(u - step)
    moved = x_u - end_mean - end_std / std * (x_u - mean)
    return torch.where(step[:, None] == 0, velocity(x_u, u), moved / step[:, None])


def places(num: int = 500) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    u = torch.rand(num).double()
    return torch.randn(num, 2).double(), u, u * (0.01 + 0.99 * torch.rand(num).double())


def test_the_average_is_the_integral_of_the_velocity_over_the_step() -> None:
    x_u, u, step = places(50)
    x_r = x_u - step[:, None] * exact(x_u, u, step)
    nodes = torch.linspace(0, 1, 2001).double()
    path = []
    for share in nodes:  # where the flow is after a share of the step, by its closed form
        (mean, std), (there, spread) = moments(u), moments(u - share * step)
        path.append(velocity(there + spread / std * (x_u - mean), u - share * step))
    integral = torch.trapezoid(torch.stack(path), nodes, dim=0)
    torch.testing.assert_close(integral, exact(x_u, u, step), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(x_r, x_u - step[:, None] * integral, rtol=1e-4, atol=1e-5)


def test_the_identity_holds_for_the_exact_average_and_not_with_another_sign() -> None:
    x_u, u, step = places()
    v = velocity(x_u, u)
    a, rate = along_flow(exact, x_u, u, step, v)
    torch.testing.assert_close(a, exact(x_u, u, step), rtol=0, atol=0)
    torch.testing.assert_close(a, v - step[:, None] * rate, rtol=1e-9, atol=1e-9)
    assert (a - v - step[:, None] * rate).abs().mean() > 0.05


def test_the_network_is_given_scaled_time_and_step() -> None:
    network = Network(lambda x_u, u, step: x_u**2)
    x_u, u, step = torch.randn(5, 2), torch.rand(5), torch.rand(5)
    torch.testing.assert_close(MeanFlow(network, (2,))(x_u, u, step), x_u**2)
    torch.testing.assert_close(network.given, [(x_u, 10 * u, step[:, None])])


def test_the_loss_is_its_formula() -> None:
    # a = x^2 u + step, whose derivative along (v, 1, 1) is 2 x v u + x^2 + 1.
    x = torch.randn(200, 2).double()
    torch.manual_seed(5)
    loss = mean_flow_loss(lambda x, u, s: x**2 * u[:, None] + s[:, None], x, instant=0.4)
    torch.manual_seed(5)
    one, two = torch.rand(2, 200, dtype=torch.double)
    still, noise = torch.rand(200) < 0.4, torch.randn_like(x)
    u, r = (torch.where(still, one, end(one, two)) for end in (torch.max, torch.min))
    u, step = u[:, None], (u - r)[:, None]
    x_u, v = (1 - u) * x + u * noise, noise - x
    target = v - step * (2 * x_u * v * u + x_u**2 + 1)
    torch.testing.assert_close(loss, (x_u**2 * u + step - target).square().sum(1))


@pytest.mark.parametrize("times", [(1, 0), (1, 0.5, 0), (1, 0.9, 0.35, 0)])
def test_any_number_of_steps_leads_to_the_same_place(times: tuple[float, ...]) -> None:
    x_1 = torch.randn(200, 2).double()
    *_, x_0 = mean_flow_sample(exact, x_1, times)
    torch.testing.assert_close(x_0, MEAN + STD * x_1, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("kind", ["points", "images"])
def test_the_derivative_along_the_flow_is_that_of_a_difference(kind: str) -> None:
    if kind == "points":
        model = MeanFlow(TimeMlp(2, (32, 32), num_factors=1), (2,)).double()
    else:
        network = UNet((1, 8, 8), 8, (1, 2), blocks=1, num_factors=1)
        model = MeanFlow(network, (1, 8, 8)).double()
    for parameter in model.parameters():  # some start at zero
        torch.nn.init.normal_(parameter, std=0.2)
    x_u, v = torch.randn(2, 5, *model.x_shape).double()
    u, step = torch.rand(5).double(), 0.3 * torch.rand(5).double()
    a, rate = along_flow(model, x_u, u, step, v)
    h = 1e-5
    later = model(x_u + h * v, u + h, step + h)
    earlier = model(x_u - h * v, u - h, step - h)
    torch.testing.assert_close(rate, (later - earlier) / (2 * h), rtol=1e-5, atol=1e-7)
    assert a.requires_grad and rate.abs().mean() > 1e-3
    mean_flow_loss(model, torch.randn(6, *model.x_shape).double()).mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_times_may_be_bytes() -> None:
    u = torch.tensor([1, 0], dtype=torch.uint8)
    assert outcome(lambda: mean_flow_sample(exact, places()[0], u)) == (ACCEPTED, "")


def test_data_may_be_numbers_without_a_dimension() -> None:
    x_u, u, step = places()
    rows = along_flow(exact, x_u, u, step, velocity(x_u, u))

    def first(x: Tensor, now: Tensor, by: Tensor) -> Tensor:
        both = exact(torch.stack([x, x], 1), now, by)
        return both[:, 0]

    numbers = along_flow(first, x_u[:, 0], u, step, velocity(x_u, u)[:, 0])
    for found, wanted in zip(numbers, rows, strict=True):
        torch.testing.assert_close(found, wanted[:, 0])


def test_a_training_in_half_precision_gives_the_same_loss() -> None:
    """Forward mode has no casts: the network runs in the precision of its weights, as without autocast."""
    model = MeanFlow(UNet((1, 8, 8), 8, (1, 2), blocks=1, num_factors=1), (1, 8, 8))
    x = torch.randn(4, 1, 8, 8)
    for parameter in model.parameters():  # some start at zero
        torch.nn.init.normal_(parameter, std=0.2)
    losses = []
    for enabled in (False, True):
        torch.manual_seed(1)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            losses.append(mean_flow_loss(model, x))
    losses[1].sum().backward()
    assert torch.equal(losses[0], losses[1])


test_bad_input = refused("mean_flows")
