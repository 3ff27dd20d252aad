"""Chapter 12: how near to real digits does an average velocity come in one step, and a flow in few?"""

from collections.abc import Callable, Iterator
from functools import cache, partial

import torch
from torch import Tensor, nn

from companion.data import load, to_unit
from companion.experiments.base import Condition, Experiment
from companion.flows import Flow, flow_sample
from companion.mean_flows import MeanFlow, mean_flow_sample
from companion.zoo import pretrained
from companion.zoo.comparisons import feature_gap, small_judge

NUM, CALLS = 2000, (1, 2, 4, 8, 20)


@cache
def judge(seed: int) -> nn.Sequential:
    """A classifier of the training digits."""
    torch.manual_seed(seed)
    return small_judge(load("digits", "train"))


def by_velocity(noise: Tensor, u: Tensor) -> Iterator[Tensor]:
    """Euler steps of flow matching."""
    model = pretrained("flow-digits")
    assert isinstance(model, Flow)
    return flow_sample(model, noise, u=u)


def by_average(noise: Tensor, u: Tensor) -> Iterator[Tensor]:
    """Steps of the average velocity."""
    model = pretrained("mean-flow-digits")
    assert isinstance(model, MeanFlow)
    return mean_flow_sample(model, noise, u)


def gaps(x: Tensor, y: Tensor, seed: int) -> dict[str, float]:
    """Fréchet distances of x from y: in the features of a classifier, and in the pixels."""
    views: dict[str, nn.Module] = {"features": judge(seed)[:-1], "pixels": nn.Flatten()}
    return {name: feature_gap(view(x), view(y)).value for name, view in views.items()}


@torch.no_grad()
def drawn(
    sampler: Callable[[Tensor, Tensor], Iterator[Tensor]], calls: int, seed: int
) -> dict[str, float]:
    """Digits drawn from this seed's noise in equal steps of u."""
    noise = torch.randn(NUM, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    *_, x = sampler(noise, torch.linspace(1, 0, calls + 1))
    x = to_unit(x).clamp(0, 1)
    of_test = gaps(x, load("digits", "test").images, seed)
    return gaps(x, load("digits", "train").images, seed) | {"test features": of_test["features"]}


@torch.no_grad()
def real(seed: int) -> dict[str, float]:
    """Real digits, split anew in two sets of the sizes of the test and the training digits."""
    train, test = load("digits", "train").images, load("digits", "test").images
    x = torch.cat([test, train])
    x = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))]
    return gaps(x[: len(test)], x[len(test) :], seed)


CONDITIONS: dict[str, Condition] = {
    f"{name}, {calls}": partial(drawn, sampler, calls)
    for name, sampler in {"velocity": by_velocity, "average": by_average}.items()
    for calls in CALLS
}
EXPERIMENTS = {"one-step": Experiment({**CONDITIONS, "real": real})}
