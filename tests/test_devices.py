"""Every recipe's training step, measurement and sampler on a device that is not the CPU, without owning one.

The device is torch's Python backend, and its tensors are fake: they have a shape, a type and a device, and no
values. An operation that mixes them with a tensor of the CPU is refused, as on a GPU; and so is
code that asks for a value, for which a GPU would have to wait. What this cannot see: results, speed, memory,
operations that a GPU lacks or rounds in another way, streams, and torch's average of weights, whose operations on
lists this backend has not; and derivatives in forward mode, which it refuses.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest
import torch
from tiny_recipes import CHAINS
from torch import Tensor, nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensor, FakeTensorMode

from bookkit.quality.fake_gpu import NEEDS, SETUP
from companion import runtime
from companion.data import MAX_WORDS
from companion.ddpm import Ddpm
from companion.elbo import LatentChain
from companion.guidance import guided
from companion.mean_flows import mean_flow_loss
from companion.samplers import ancestral_sample
from companion.schedule import Schedule, linear_schedule
from companion.score import langevin_sample, noise_conditional_score
from companion.training import fit
from companion.vae import conv_vae
from companion.zoo import architectures
from companion.zoo.losses import text_loss
from companion.zoo.pretrained import SAMPLERS
from companion.zoo.recipes import RECIPES, Recipe

pytestmark = pytest.mark.skipif(SETUP is None, reason=NEEDS)

NAME = "fakegpu"  # see conftest.py


@pytest.fixture(autouse=True)
def device(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    found = torch.device(NAME)
    monkeypatch.setattr(runtime, "device", lambda: found)
    return found


def moved(model: nn.Module) -> nn.Module:
    """The model with its parameters and buffers, and nothing else of it, on the device."""
    for module in model.modules():
        for table in (module._parameters, module._buffers):
            for key, tensor in table.items():
                if tensor is not None:
                    there = torch.empty(tensor.shape, dtype=tensor.dtype, device=NAME)
                    kind = partial(nn.Parameter, requires_grad=tensor.requires_grad)
                    table[key] = kind(there) if isinstance(tensor, nn.Parameter) else there
    return model


@contextmanager
def elsewhere(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Recipe, nn.Module, Schedule]]:
    """The recipe, its model and a few of its times on the device, in the mode in which tensors are fake."""
    chosen = RECIPES[name]
    model = chosen.model()
    schedule = getattr(model, "schedule", linear_schedule(5)).evenly(3)
    with torch.device("meta"):  # nothing is drawn for their parameters
        vaes = (conv_vae(), architectures.landscape_vae(8), architectures.landscape_vae(16))
    with FakeTensorMode():
        encoder, *coders = (moved(vae.requires_grad_(False).eval()) for vae in vaes)
        monkeypatch.setattr(architectures, "digit_encoder", lambda: encoder)
        monkeypatch.setattr(architectures, "landscape_coder", lambda side: coders[side // 16])
        yield chosen, moved(model), moved(schedule)


def examples(chosen: Recipe, num: int = 4) -> tuple[Tensor, ...]:
    x = torch.rand(num, *chosen.data.x_shape, device=NAME)
    shape, dtype = chosen.data.label_shape, chosen.data.label_dtype
    labels = torch.randint(2, (num, *shape), dtype=dtype, device=NAME)
    return (x, labels) if chosen.labels else (x,)


def there(*tensors: Tensor | None) -> bool:
    return all(tensor is None or tensor.device.type == NAME for tensor in tensors)


def train_a_step(chosen: Recipe, model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    # `fit` reads the mean loss of each step, once: that one wait is meant.
    monkeypatch.setattr(FakeTensor, "item", lambda tensor: 1.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=chosen.lr)  # torch's own: the plainest

    def loss(model: nn.Module, x: Tensor, *labels: Tensor) -> Tensor:
        return chosen.loss(model, chosen.prepare(x), *labels, **chosen.options(0.2))

    steps = list(fit(model, loss, [examples(chosen)], optimizer))
    monkeypatch.undo()
    assert len(steps) == 1
    assert there(*model.parameters(), *(p.grad for p in model.parameters()))
    assert any(p.grad is not None for p in model.parameters())


FORWARD_MODE = {name for name, recipe in RECIPES.items() if recipe.loss is mean_flow_loss}
# Python makes the sentences, and reads for it, once a step, what they are to say.
OF_SENTENCES = {name for name, recipe in RECIPES.items() if recipe.loss is text_loss}


@pytest.mark.parametrize("name", sorted(RECIPES.keys() - FORWARD_MODE - OF_SENTENCES))
def test_a_recipe_trains_and_is_measured_on_the_device(
    name: str, monkeypatch: pytest.MonkeyPatch, unchecked: None
) -> None:
    with elsewhere(name, monkeypatch) as (chosen, model, schedule):
        with monkeypatch.context() as patch:
            train_a_step(chosen, model, patch)
        # A measure that draws reads once, before the loop, the times of its steps and where it draws.
        monkeypatch.setattr(Schedule, "evenly", lambda self, num: schedule)
        monkeypatch.setattr(FakeTensor, "tolist", lambda tensor: [True] * len(tensor))
        if isinstance(model, Ddpm):
            model.num_latents = 5  # a thousand terms of the bound are one a thousand times
        x, *labels = examples(chosen)
        metric = chosen.metric
        if metric.num_samples is not None:
            metric = replace(metric, num_samples=3)
        with torch.no_grad():
            values = metric(model.eval(), chosen.prepare(x), *labels)
        assert there(values) and values.shape == (4,)


@pytest.mark.parametrize("name", CHAINS)
def test_a_model_draws_on_the_device(
    name: str, monkeypatch: pytest.MonkeyPatch, unchecked: None
) -> None:
    with elsewhere(name, monkeypatch) as (chosen, model, schedule), torch.no_grad():
        assert isinstance(model.eval(), LatentChain)
        # A sampler asks once, before its loop, at which steps it draws.
        monkeypatch.setattr(FakeTensor, "tolist", lambda tensor: [True] * len(tensor))
        if not isinstance(model, Ddpm):
            model.num_latents = min(model.num_latents, 10)  # of a thousand steps all are alike
            *_, x = ancestral_sample(model, 3)
            assert there(chosen.restore(x))
            return
        x_T = model.prior(3).sample()
        for sampler in SAMPLERS.values():
            *_, x = sampler(model.denoiser, schedule, x_T)
            assert there(chosen.restore(x))
        if name in OF_SENTENCES:
            words = torch.ones(3, MAX_WORDS, dtype=torch.long, device=NAME)
            *_, x = SAMPLERS["ddim"](guided(model.denoiser, words, 2.0), schedule, x_T)
            assert there(chosen.restore(x))
        elif chosen.labels and chosen.data.label_shape:
            causes = architectures.told(examples(chosen, 3)[1])
            assert there(model.denoiser(x_T, schedule.times[1:].flip(0), causes))
        elif chosen.labels:
            label = torch.arange(3, device=NAME)
            *_, x = SAMPLERS["ddim"](guided(model.denoiser, label, 2.0), schedule, x_T)
            assert there(x)


def test_scores_walk_on_the_device(monkeypatch: pytest.MonkeyPatch, unchecked: None) -> None:
    with elsewhere("ddpm-mnist-long", monkeypatch) as (_, model, _), torch.no_grad():
        assert isinstance(model, Ddpm)
        score_at = noise_conditional_score(model.eval().denoiser, model.schedule)
        score = partial(score_at, sigma=torch.ones(2, device=NAME))
        *_, x = langevin_sample(score, torch.rand(2, 1, 28, 28, device=NAME), 0.1, 2)
        assert there(x)


@pytest.mark.parametrize(
    "mistake",
    [
        lambda model, x: model(x.cpu()),  # data that stayed behind
        lambda model, x: model(x) + torch.zeros(4, 1, 28, 28),  # a tensor made on the CPU
        lambda model, x: bool((x > 0).all()),  # a value that is asked for
    ],
)
def test_planted_mistakes_are_caught(
    mistake: Callable[..., object], monkeypatch: pytest.MonkeyPatch, unchecked: None
) -> None:
    with elsewhere("ae-mnist", monkeypatch) as (chosen, model, _):
        (x,) = examples(chosen)
        assert there(model(x))
        with pytest.raises((RuntimeError, ValueError, DataDependentOutputException)):
            mistake(model, x)


def test_a_tensor_that_is_no_buffer_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that keeps a tensor as a plain attribute forgets it when it moves."""

    class Forgetful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.ones(3)

        def forward(self, x: Tensor) -> Tensor:
            return self.scale * x

    model = Forgetful()
    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        pytest.raises(RuntimeError, match="same device"),
    ):
        moved(model)(torch.rand(2, 3, device=NAME))
