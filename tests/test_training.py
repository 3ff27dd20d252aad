import math
import time

import pytest
import torch
from bad_input import refused
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from companion.data import Batches
from companion.training import Step, exponential_average, fit, minimize


def quadratic(model, x):
    return (model(x) - 3 * x).square().sum(1)


def linear():
    torch.manual_seed(0)
    return nn.Linear(2, 2)


def steps(model, batches, loss=quadratic, lr=0.001, **options):
    """The steps of plain gradient descent."""
    return fit(model, loss, batches, torch.optim.SGD(model.parameters(), lr=lr), **options)


def test_sgd_steps_are_those_worked_out_by_hand():
    # w in R, loss (w - x)^2: the gradient of the mean is 2 (w - mean x), so w <- w - 2 lr (w - mean x).
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 0.0)
    batches = [torch.tensor([[1.0], [3.0]]), torch.tensor([[4.0], [8.0]])]

    def loss(model, x):
        return (model(torch.ones_like(x)) - x).square().sum(1)

    found = [(step, model.weight.item()) for step in steps(model, batches, loss, lr=0.25)]
    # Losses before each step: mean of (0-1)^2, (0-3)^2 is 5; then w = 1, mean of (1-4)^2, (1-8)^2 is 29.
    assert found == [(Step(1, 5.0), 1.0), (Step(2, 29.0), 3.5)]
    assert all(type(step.loss) is float for step, _ in found)


def test_learns_a_linear_map():
    model, x = linear(), torch.randn(256, 2, generator=torch.Generator().manual_seed(1))
    batches, adam = Batches(x, batch_size=32, num_epochs=20), torch.optim.Adam
    losses = [step.loss for step in fit(model, quadratic, batches, adam(model.parameters(), 0.1))]
    assert len(losses) == 160
    assert losses[-1] < 1e-3 < losses[0]
    torch.testing.assert_close(model.weight, 3 * torch.eye(2), atol=0.02, rtol=0)


def test_is_lazy_and_can_be_stopped():
    model = linear()
    before = model.weight.clone()
    training = steps(model, [torch.ones(4, 2)] * 5, lr=0.1)
    assert torch.equal(model.weight, before)
    assert next(training).number == 1
    after_one = model.weight.clone()
    training.close()
    assert not torch.equal(after_one, before)
    assert torch.equal(model.weight, after_one)


PAIR = torch.ones(6, 2), torch.ones(6)


@pytest.mark.parametrize(
    "batches", [Batches(*PAIR, batch_size=3), DataLoader(TensorDataset(*PAIR), 3)]
)
def test_tuples_are_passed_as_arguments_also_by_a_data_loader_of_torch(batches):
    seen = []

    def loss(model, x, y):
        seen.append((x.shape, y.shape))
        return (model(x).sum(1) - y).square()

    assert [step.number for step in steps(linear(), batches, loss)] == [1, 2]
    assert seen == [((3, 2), (3,))] * 2


def test_numbers_continue_after_the_batches_already_given():
    model, batches = linear(), Batches(torch.ones(8, 2), batch_size=2)
    first = steps(model, batches)
    assert [next(first).number, next(first).number] == [1, 2]
    first.close()
    assert [step.number for step in steps(model, batches)] == [3, 4]


def test_gradients_do_not_accumulate_over_steps_or_from_before():
    model, twin = linear(), linear()
    model.weight.grad = torch.full((2, 2), 1e6)
    x = torch.tensor([[1.0, 2.0]])
    for _ in steps(model, [x, x], lr=0.1):
        # The same step, from the gradient torch gives directly.
        gradients = torch.autograd.grad(quadratic(twin, x).mean(), list(twin.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(twin.parameters(), gradients, strict=True):
                parameter -= 0.1 * gradient
        torch.testing.assert_close(list(model.parameters()), list(twin.parameters()))


def test_trains_in_training_mode_though_the_caller_evaluates():
    modes = []

    def loss(model, x):
        modes.append(model.training)
        return quadratic(model, x)

    model = linear().eval()
    for _ in steps(model, [torch.ones(1, 2)] * 3, loss):
        model.eval()
    assert modes == [True] * 3


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_stops_before_the_parameters_change(value):
    model = linear()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    average = exponential_average(model, 0.5)

    def loss(model, x):
        per_example = quadratic(model, x)
        return per_example + value if x[0, 0] == 5 else per_example

    batches = [torch.full((3, 2), float(number)) for number in range(1, 9)]
    training = fit(model, loss, batches, optimizer, ema=average)
    for _ in range(4):
        next(training)
    before = [p.clone() for p in [*model.parameters(), *average.parameters()]]
    gradient = model.weight.grad.clone()
    with pytest.raises(FloatingPointError, match=f"at step 5 it is {value}"):
        next(training)
    assert all(map(torch.equal, before, [*model.parameters(), *average.parameters()]))
    assert torch.equal(model.weight.grad, gradient)


def test_clipping_limits_the_norm_of_the_gradient():
    model, twin = linear(), linear()
    x = torch.full((4, 2), 100.0)
    gradients = torch.autograd.grad(quadratic(twin, x).mean(), list(twin.parameters()))
    norm = math.sqrt(sum(g.square().sum().item() for g in gradients))
    assert norm > 1000
    next(steps(model, [x], lr=1.0, max_grad_norm=0.5))
    for parameter, old, gradient in zip(model.parameters(), twin.parameters(), gradients):
        torch.testing.assert_close(parameter, old - 0.5 / norm * gradient, atol=1e-4, rtol=0)


def test_clipping_refuses_a_gradient_that_is_not_finite():
    model = linear()
    before = model.weight.clone()

    def root(model, x):  # zero with an infinite slope
        return (model(x) - model(x).detach()).sum(1).sqrt()

    with pytest.raises(FloatingPointError, match="norm of the gradient must be finite; at step 1"):
        next(steps(model, [torch.ones(4, 2)], root, lr=1.0, max_grad_norm=1.0))
    assert torch.equal(model.weight, before)


def test_the_average_is_the_exponential_one():
    model, decay = linear(), 0.75
    average = exponential_average(model, decay)
    expected = None
    for _ in steps(model, [torch.ones(4, 2)] * 5, lr=0.05, ema=average):
        new = model.weight.detach().double()
        expected = new if expected is None else decay * expected + (1 - decay) * new
        torch.testing.assert_close(average.module.weight.double(), expected, atol=1e-6, rtol=0)
    assert not torch.allclose(average.module.weight, model.weight)


def test_autocast_surrounds_the_loss_alone():
    seen = []

    def loss(model, x):
        per_example = model(x)
        seen.append(per_example.dtype)
        return (per_example - x).square().sum(1)

    model = linear()
    context = lambda: torch.autocast("cpu", dtype=torch.bfloat16)  # noqa: E731
    for _ in steps(model, [torch.ones(4, 2)] * 2, loss, autocast=context):
        seen.append(model(torch.ones(1, 2)).dtype)
    assert seen == [torch.bfloat16, torch.float32] * 2
    assert model.weight.dtype == torch.float32


def test_the_bar_shows_its_description_and_the_loss_and_leaves_nothing(capsys, monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    training = steps(linear(), Batches(torch.ones(4, 2), batch_size=1), progress="a map")
    next(training)
    assert "a map" in capsys.readouterr().err
    time.sleep(0.3)  # longer than the bar waits between two drawings
    next(training)
    assert "loss " in capsys.readouterr().err
    list(training)
    out, err = capsys.readouterr()
    assert out == ""
    # The last thing written is an empty line.
    assert err.endswith("\r") and err.rsplit("\r", 2)[-2].strip() == ""


def test_the_bar_is_not_redrawn_at_every_step(capsys, monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    list(steps(linear(), [torch.ones(1, 2)] * 500, lr=1e-9, progress="many"))
    assert 1 <= capsys.readouterr().err.count("many") < 100


@pytest.mark.parametrize("variable", [None, "1"])
def test_no_bar_without_a_description_or_where_the_environment_says_so(
    variable, capsys, monkeypatch
):
    monkeypatch.setenv("TQDM_DISABLE", variable or "0")
    progress = None if variable is None else "silent"
    list(steps(linear(), [torch.ones(4, 2)] * 3, progress=progress))
    assert capsys.readouterr() == ("", "")


def test_minimize_finds_the_least_squares_solution():
    A, b = torch.randn(20, 4, dtype=torch.float64), torch.randn(20, dtype=torch.float64)
    expected = torch.linalg.lstsq(A, b[:, None]).solution[:, 0]
    w = torch.zeros(4, dtype=torch.float64, requires_grad=True)
    value = minimize(lambda: (A @ w - b).square().sum(), [w])
    torch.testing.assert_close(w.detach(), expected, atol=1e-9, rtol=0)
    torch.testing.assert_close(value, (A @ expected - b).square().sum(), atol=1e-12, rtol=0)
    assert not value.requires_grad


def test_minimize_refuses_a_value_that_is_not_finite():
    w = torch.ones(1, dtype=torch.float64, requires_grad=True)
    with pytest.raises(FloatingPointError, match="the minimized value must be finite; it is nan"):
        minimize(lambda: (w * math.nan).sum(), [w])


def test_the_bar_of_a_resumed_run_starts_where_it_stopped(capsys, monkeypatch):
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    batches = Batches(torch.ones(8, 2), batch_size=2)
    batches.step = 3
    next(steps(linear(), batches, progress="rest"))
    assert "3/4" in capsys.readouterr().err


def test_the_average_copies_buffers_and_forgets_at_the_stated_rate():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = exponential_average(model)
    x = torch.randn(16, 2)
    weights = []
    for _ in steps(model, [x, x + 1], lr=0.1, ema=average):
        weights.append(model[0].weight.detach().clone())
        assert torch.equal(average.module[1].running_mean, model[1].running_mean)
    torch.testing.assert_close(average.module[0].weight, 0.999 * weights[0] + 0.001 * weights[1])


def test_minimize_may_take_as_many_steps_as_it_is_given():
    # Rosenbrock's valley in six dimensions needs more than 20 iterations, and ends at (1, ..., 1).
    w = torch.full((6,), -1.0, dtype=torch.float64, requires_grad=True)

    def rosenbrock():
        return (100 * (w[1:] - w[:-1] ** 2).square() + (1 - w[:-1]).square()).sum()

    few = minimize(rosenbrock, [w], max_steps=5)
    assert few > 1e-3
    assert minimize(rosenbrock, [w]) < 1e-15
    torch.testing.assert_close(w.detach(), torch.ones(6, dtype=torch.float64), atol=1e-7, rtol=0)


test_bad_input = refused("training")
