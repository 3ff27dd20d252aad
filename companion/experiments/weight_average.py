"""Chapter 10: what does an exponential moving average of the weights gain, and what a falling learning rate?"""

from functools import cache, partial

import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR

from companion.data import Batches, toy_density
from companion.denoisers import MixtureDenoiser
from companion.experiments.base import Condition, Experiment
from companion.schedule import add_noise, noise_from_x_0
from companion.training import exponential_average
from companion.zoo.architectures import toy_ddpm

BATCH = 500


@cache
def asked() -> tuple[Tensor, Tensor, Tensor]:
    """Noisy points of the ring, their times, and the exact estimate of their noise."""
    generator = torch.Generator().manual_seed(0)
    ring, schedule = toy_density("mixture"), toy_ddpm().schedule
    torch.manual_seed(0)
    points = ring.sample((4000,)) / 2
    t = torch.randint(1, 101, (4000,), generator=generator)
    x_t = add_noise(schedule, points, t, torch.randn(4000, 2, generator=generator))
    modes = ring.component_distribution  # type: ignore[attr-defined]  # the ring is a mixture
    halved = modes.mean / 2, torch.diag_embed(modes.variance) / 4
    exact = MixtureDenoiser(schedule, ring.mixture_distribution.probs, *halved)  # type: ignore[attr-defined]
    return x_t, t, noise_from_x_0(schedule, x_t, t, exact(x_t, t))


@torch.no_grad()
def excess(network: nn.Module) -> float:
    """Squared error of the predicted noise, less that of the exact prediction."""
    x_t, t, best = asked()
    return (best - network(x_t, t)).square().sum(1).mean().item()


def train(rate: float, steps: int, falls: bool, decay: float, seed: int) -> dict[str, float]:
    """Excess of the weights and of their average, mean over ten times in the last third of the training."""
    asked()
    torch.manual_seed(seed)
    points = toy_density("mixture").sample((20_000,)) / 2
    model = toy_ddpm()
    network, alpha_bar = model.denoiser.network, model.schedule.alpha_bar.float()  # type: ignore[attr-defined]
    average = exponential_average(network, decay=decay)
    optimizer = Adam(network.parameters(), lr=rate, fused=True)
    falling = LambdaLR(optimizer, lambda n: 1 - n / steps if falls else 1.0)
    found = []
    batches = Batches(points, batch_size=BATCH, num_epochs=BATCH * steps // 20_000, seed=seed)
    for number, x in enumerate(batches, 1):
        t, noise = torch.randint(1, 101, (len(x),)), torch.randn_like(x)  # type: ignore[arg-type]  # one tensor
        kept = alpha_bar[t, None]
        loss = (noise - network(kept**0.5 * x + (1 - kept) ** 0.5 * noise, t)).square().sum(1)  # type: ignore[operator]
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
        falling.step()
        average.update_parameters(network)
        if number > 2 * steps // 3 and number % (steps // 30) == 0:
            found.append((excess(network), excess(average.module)))
    weights, averages = torch.tensor(found).double().T
    return {
        "weights": weights.mean().item(),
        "average": averages.mean().item(),
        "gain": 100 * (1 - averages.mean() / weights.mean()).item(),
        "last weights": weights[-1].item(),
        "last average": averages[-1].item(),
        "jitter of weights": (weights.diff().std() / weights.mean()).item(),
        "jitter of average": (averages.diff().std() / averages.mean()).item(),
    }


CONDITIONS: dict[str, Condition] = {
    "constant": partial(train, 2e-3, 600, False, 0.99),
    "falling": partial(train, 2e-3, 600, True, 0.99),
    "constant, rate 0.0005": partial(train, 5e-4, 600, False, 0.99),
    "constant, rate 0.008": partial(train, 8e-3, 600, False, 0.99),
    "constant, 2400 steps": partial(train, 2e-3, 2400, False, 0.99),
    "falling, 2400 steps": partial(train, 2e-3, 2400, True, 0.99),
    "constant, 2400 steps, decay 0.9975": partial(train, 2e-3, 2400, False, 0.9975),
}
EXPERIMENTS = {"weight-average": Experiment(CONDITIONS, seeds=5)}
