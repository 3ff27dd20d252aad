"""Tests of the pretended GPU: what it computes and refuses, and what a chapter forgets."""

import copy
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_recipes import RECIPE
from torch import Tensor, nn
from torch.distributions import Distribution

from bookkit.quality.chapters_on_gpu import failures
from bookkit.quality.fake_gpu import NAME, NEEDS, SETUP, Pretended, moves, pretending, waits
from companion import checks, data, runtime, samplers
from companion.autoencoder import reconstruction_loss
from companion.decoders import GrayLevels
from companion.denoisers import gaussian_denoiser
from companion.distributions import DiscretizedNormal, bernoulli
from companion.schedule import linear_schedule
from companion.score import langevin_sample
from companion.training import exponential_average, fit
from companion.zoo import architectures, pretrained, yardstick
from companion.zoo.recipes import RECIPES
from companion.zoo.runs import _evaluate
from companion.zoo.yourself import cost

pytestmark = pytest.mark.skipif(SETUP is None, reason=NEEDS)


@pytest.fixture
def there() -> Iterator[None]:
    """The pretended device, as the chapters use the reader's GPU."""
    with pretending():
        runtime.use_device()
        yield


def trained() -> list[Tensor]:
    """The parameters after some steps with an average and clipped gradients, the average, and a copy of the model."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.ConvTranspose2d(4, 1, 3))
    ema = exponential_average(model, 0.9)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    batches = data.Batches(torch.rand(40, 1, 8, 8), batch_size=16, num_epochs=2)
    steps = fit(model, reconstruction_loss, batches, optimizer, ema=ema, max_grad_norm=1.0)
    losses = torch.tensor([step.loss for step in steps])
    again = copy.deepcopy(model)
    again.load_state_dict({key: value.cpu() for key, value in model.state_dict().items()})
    return [losses, *model.double().parameters(), *ema.parameters(), *again.parameters()]


def test_a_training_gives_the_same_numbers_as_on_the_cpu(unchecked: None) -> None:
    expected = trained()
    with pretending():
        runtime.use_device()
        found = trained()
    assert all(isinstance(tensor, Pretended) and tensor.device.type == NAME for tensor in found)
    for here, on_cpu in zip(found, expected, strict=True):
        assert here.dtype == on_cpu.dtype and torch.equal(here.cpu(), on_cpu)


def test_views_alias_and_derivatives_agree(there: None) -> None:
    x = torch.arange(12.0).view(3, 4)
    row = x[1]
    row += 1
    row.unsqueeze_(0)
    assert row.shape == (1, 4) and x[1].tolist() == [5.0, 6.0, 7.0, 8.0]
    x.data = x.double()
    assert x.dtype == x.cpu().dtype == torch.double
    y = x[1].clone().requires_grad_()
    (slope,) = torch.autograd.grad(y.square().sum(), y)
    assert torch.equal(slope, torch.func.jacrev(lambda y: y.square().sum())(y))
    y = y.detach()
    assert f"{y[0]:.1f} {float(y[1])} {y.numel()}" == "5.0 6.0 4"


@pytest.mark.parametrize(
    ("mistake", "error"),
    [
        (lambda x: x + torch.ones(4, device="cpu"), "two devices"),
        (lambda x: x.cpu() @ x, "two devices"),
        (lambda x: torch.stack([x[0], torch.zeros((), device="cpu")]), "two devices"),
        (lambda x: torch.zeros(4, device="cpu")[x > 0], "two devices"),
        (lambda x: nn.Linear(4, 2, device="cpu")(x), "two devices"),
        (lambda x: torch.randperm(4, generator=torch.Generator()), "generator"),
        (lambda x: x.numpy(), "numpy"),
        (lambda x: np.asarray(x), "numpy"),
        (lambda x: np.asarray([x[0], x[1]], dtype=np.float64), "numpy"),
    ],
)
def test_what_cuda_refuses_is_refused(
    mistake: Callable[[Tensor], object], error: str, there: None
) -> None:
    with pytest.raises((RuntimeError, TypeError), match=error):
        mistake(torch.arange(4.0))


@pytest.mark.parametrize(
    "allowed",
    [
        lambda x: x + torch.tensor(1.0, device="cpu"),  # a number of the CPU
        lambda x: x[torch.tensor([0, 2], device="cpu")],  # indices of the CPU
        lambda x: x.copy_(torch.ones(4, device="cpu")),
        lambda x: torch.ones(4, device="cpu").to(x),
    ],
)
def test_what_cuda_allows_is_allowed(allowed: Callable[[Tensor], Tensor], there: None) -> None:
    assert allowed(torch.arange(4.0)).device.type == NAME


@pytest.mark.skipif(torch.version.cuda is None, reason="this torch knows no kernels of CUDA")
def test_an_operation_without_a_cuda_kernel_is_refused(there: None) -> None:
    with pytest.raises(NotImplementedError, match="histogram"):
        torch.histogram(torch.arange(4.0), 2)


CELLS = [
    "import torch\nfrom companion import data\nfrom companion.page import plots\n"
    "from companion.page.exercises import autoencoders as exercises\n"
    "from companion.page.verify import exact, monte_carlo, verify\n"
    "from companion.runtime import use_device\n\nuse_device()",
    "x = torch.randn(1000, 2).double()\nverify('eq-mean', x, torch.zeros(2).double(), monte_carlo)",
    "plots.scatter(x, (x[:, 0] > 0).long(), x_label='a', y_label='b')",
    "plots.curves({'y': [x[0, 0], x[0, 1]]}, x_label='a', y_label='b', marks={'c': x[0, 0]})",
    "plots.histogram({'x': x[:, 0]}, x_label='x', density=lambda x: (-(x**2)).exp())",
    "plots.density2d(lambda x: -x.square().sum(1) / torch.ones(1), (-1, 1, -1, 1))",
    "fig, (axes,) = plots.figure()\naxes.plot(*x.T, 'o'), axes.scatter(*x.T, s=1)\n"
    "axes.errorbar(range(2), x[0], x[1].abs())\n"
    "axes.pcolormesh(x)\n"
    "axes.fill_between(range(2), x[0], x[1])\n"
    "axes.inset_axes((0, 0, 1, 1)).imshow(x[:2]), axes.fill([*x[:, 0]], [*x[:, 1]])\nfig",
    "exercises.check_best_constant(torch.tensor([2.0, 1.0]))",
    "exercises.check_projection_loss(lambda S, U: (S - U @ U.T @ S).trace())",
    "assert data.load('digits').images.device == data.scenes(1).images.device == x.device",
    "assert next(data.Batches(x, batch_size=2).__iter__()).device == x.device",
    "print(f'{x.var():.0f}', x.shape)",
]


def named(cells: list[str], expected: str | None = None) -> Iterator[tuple[str, str, str | None]]:
    for number, code in enumerate(cells):
        yield f"cell {number}", code, expected


def test_a_short_chapter_runs_to_its_end(unchecked: None) -> None:
    assert list(failures(named(CELLS))) == []
    assert torch.zeros(()).device.type == runtime.device().type == "cpu"


@pytest.mark.parametrize(
    "mistake",
    ["x.cpu() - x.mean(0)", "x + torch.zeros(2, device='cpu')", "x.numpy()", "sum(x.numpy())"],
)
def test_a_planted_mistake_in_a_cell_is_found(mistake: str, unchecked: None) -> None:
    (found,) = failures(named([*CELLS[:2], mistake]))
    assert found.startswith("cell 2: ") and mistake in found


def test_a_chapter_that_does_not_use_the_device_is_found() -> None:
    (found,) = failures(named(["import torch\ntorch.zeros(1)"]))
    assert found == "nothing lies on the device; the first cell must call use_device"


def test_another_output_than_the_stored_one_is_found() -> None:
    found, _ = failures(named(["print(1)\nprint(2)"], "1\n3\n4\n"))
    differs = "\n    here: 2\n    CPU:  3\n    here: \n    CPU:  4"
    assert found == f"cell 0: prints something else{differs}"


def test_cells_run_on_the_machine_s_own_device_too(unchecked: None) -> None:
    where = ("where", "print(torch.zeros(1).device.type)", f"{runtime.device().type}\n")
    assert list(failures([*named(CELLS), where], there=nullcontext)) == []
    torch.set_default_device(None)
    (found,) = failures([*named(CELLS), where])
    assert found.startswith("where: prints something else")


def test_code_on_the_page_is_no_printed_output(unchecked: None) -> None:
    code = "from companion.page.show import show\nprint(1)\nshow(show)"
    assert list(failures([*named(CELLS[:1]), ("cell 1", code, "1\n")])) == []


@pytest.mark.parametrize("sampler", [samplers.ddim_sample, samplers.ddpm_sample])
def test_no_step_of_a_sampler_waits_for_a_value(
    sampler: Callable[..., Iterator[Tensor]], there: None, unchecked: None
) -> None:
    counted = []
    for num_steps in (5, 10):
        schedule = linear_schedule(num_steps)
        denoiser = gaussian_denoiser(schedule, torch.zeros(2), torch.eye(2))
        before = sum(waits.values())
        *_, x = sampler(denoiser, schedule, torch.randn(3, 2))
        counted.append(sum(waits.values()) - before)
        assert x.device.type == NAME
    assert counted[0] == counted[1]


def test_a_step_of_langevin_waits_for_nothing(there: None, unchecked: None) -> None:
    before = sum(waits.values())
    list(langevin_sample(lambda x: -x, torch.randn(3, 2), 0.1, 5))
    few = sum(waits.values()) - before
    list(langevin_sample(lambda x: -x, torch.randn(3, 2), 0.1, 10))
    assert sum(waits.values()) - before == 2 * few


def test_a_step_of_a_training_waits_once_for_its_loss(there: None, unchecked: None) -> None:
    counted = []
    for num_epochs in (1, 3):
        model = nn.Linear(2, 2)
        batches = data.Batches(torch.rand(8, 2), batch_size=4, num_epochs=num_epochs)
        before = sum(waits.values())
        steps = list(fit(model, reconstruction_loss, batches, torch.optim.SGD(model.parameters())))
        counted.append((sum(waits.values()) - before, len(steps)))
    (few, two), (more, six) = counted
    assert more - few == six - two  # so that it stops before the parameters change


@pytest.mark.parametrize(
    ("distribution", "right", "wrong"),
    [
        (lambda: bernoulli(torch.zeros(2, 3)), 1.0, 0.5),
        (lambda: DiscretizedNormal(torch.zeros(2, 3), 0.1), 1.0, 0.5),
        (lambda: GrayLevels(torch.zeros(2, 3, 256)), 1.0, 0.5),
        (lambda: GrayLevels(torch.zeros(2, 3, 256)), -1.0, float("nan")),
    ],
)
def test_a_pixel_that_the_cpu_refuses_makes_a_loss_that_is_not_finite(
    distribution: Callable[[], Distribution], right: float, wrong: float, unchecked: None
) -> None:
    x = torch.full((2, 3), right)
    expected = distribution().log_prob(x)
    x[1, 2] = wrong
    with pytest.raises(ValueError, match="must"):
        distribution().log_prob(x)
    with pretending():
        runtime.use_device()
        before = sum(waits.values())
        found = distribution().log_prob(x.to(NAME))
        assert sum(waits.values()) == before
    assert found.cpu()[0] == expected[0] and found.cpu()[1].isnan()


def test_shipped_weights_are_loaded_onto_the_default_device(there: None) -> None:
    model = pretrained("vae-mnist")
    assert all(parameter.device.type == NAME for parameter in model.parameters())
    assert next(pretrained("vae-mnist", device="cpu").parameters()).device.type == "cpu"


@pytest.mark.parametrize("name", [name for name, each in RECIPES.items() if each.captured])
def test_a_graph_can_start_the_loss_of_a_captured_recipe(
    name: str, there: None, unchecked: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "has_values", lambda tensor: False)  # as while CUDA captures
    chosen = RECIPES[name]
    source, model = chosen.data, chosen.model().to(NAME)
    x = torch.randint(256, (4, *source.x_shape)) / 255
    label = torch.zeros(4, *source.label_shape, dtype=source.label_dtype)
    before: list[int] = []
    for _ in range(2):  # the first may load what it keeps
        before = [sum(waits.values()), sum(moves.values())]
        rest = (label,) if chosen.labels else ()
        chosen.loss(model, chosen.prepare(x), *rest).mean().backward()
    assert [sum(waits.values()), sum(moves.values())] == before
    assert chosen.options(0.1) == chosen.options(0.9)


def test_a_move_between_devices_is_counted(there: None) -> None:
    x, before = torch.rand(2), sum(moves.values())
    x.clone()
    assert sum(moves.values()) == before
    x.cpu()
    torch.zeros(2, device="cpu").to(NAME)
    x.copy_(torch.zeros(2, device="cpu"))
    assert sum(moves.values()) == before + 3


def test_the_judges_look_at_images_of_either_device(unchecked: None) -> None:
    yardstick._network.cache_clear()
    with pretending():
        runtime.use_device()
        x = torch.rand(3, 1, 28, 28)
        votes, features = yardstick.no_digit_votes(x), yardstick.digit_features(x)
        assert isinstance(votes, Pretended)
        assert torch.equal(yardstick.no_digit_votes(x.cpu()), votes.cpu())
    torch.testing.assert_close(yardstick.digit_features(x.cpu()), features.cpu())
    yardstick._network.cache_clear()


@pytest.mark.parametrize("name", ["ldm-mnist", "text-scenes"])
def test_the_cost_of_a_training_on_codes_is_counted_there_too(name: str, unchecked: None) -> None:
    architectures._shipped.cache_clear()
    expected = cost(name)
    with pretending():
        runtime.use_device()
        architectures._shipped.cache_clear()
        assert cost(name) == expected
    architectures._shipped.cache_clear()


def test_test_images_are_drawn_on_the_cpu(there: None, unchecked: None) -> None:
    where = []
    chosen = replace(RECIPE, prepare=lambda x: where.append(x.device.type) or x)
    assert isinstance(_evaluate(chosen.model().to(NAME), chosen), Pretended)
    assert where == ["cpu"]  # another device would draw other ones
