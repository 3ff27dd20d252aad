"""Chapter 12: what does preconditioning gain at high noise, at equal size, data and number of steps?"""

from functools import partial

import torch
from torch import Tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from companion.data import Batches, toy_density
from companion.experiments.base import Condition, Experiment
from companion.networks.mlp import TimeMlp
from companion.score import (
    NoiseConditionalScore,
    denoising_score_matching_loss,
    exact_score,
    geometric_noise_levels,
    noisy_mixture,
)
from companion.training import fit

RATE, EPOCHS = 5e-3, 20
TESTED = {"20": 20.0, "8": 8.0, "3": 3.0, "1": 1.0, "a third": 1 / 3}


def ring(centered: bool) -> MixtureSameFamily:
    """The chapter's ring of eight modes with unequal weights, as it is or moved to the mean 0."""
    eight = toy_density("mixture")
    assert isinstance(eight, MixtureSameFamily)
    centers, weights = (
        eight.component_distribution.mean / 2,
        torch.tensor([8.0, 4, 2, 1, 1, 2, 4, 8]) / 30,
    )
    if centered:
        centers = centers - weights @ centers
    return MixtureSameFamily(Categorical(weights), Independent(Normal(centers, 0.125), 1))


class Preconditioned(NoiseConditionalScore):
    """The score of a preconditioned denoiser, for data of variance 1."""

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        """The score at x of data with noise of standard deviation sigma."""
        c_skip, c_out, c_in = weights_at(sigma[:, None])
        x_hat: Tensor = c_skip * x + c_out * self.network(c_in * x, sigma.log())
        return (x_hat - x) / sigma[:, None] ** 2


def weights_at(sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """c_skip, c_out and c_in."""
    size = (1 + sigma**2) ** 0.5
    return 1 / size**2, sigma / size, 1 / size


def loss_of_f(model: NoiseConditionalScore, x: Tensor) -> Tensor:
    """Half the squared error of F at a random level: that of x_hat, divided by c_out."""
    sigma = model.sigmas[torch.randint(len(model.sigmas), (len(x),))].to(x)
    _, c_out, _ = weights_at(sigma[:, None])
    x_noisy = x + sigma[:, None] * torch.randn_like(x)
    x_hat = x_noisy + sigma[:, None] ** 2 * model(x_noisy, sigma)
    return ((x_hat - x) / c_out).square().sum(1) / 2


def train(
    kind: str, rate: float, epochs: int, seed: int, loss: str = "own", centered: bool = False
) -> dict[str, float]:
    """Root mean squared error of x_hat at five levels, in units of the data's standard deviation."""
    data = ring(centered)
    torch.manual_seed(seed)
    levels = geometric_noise_levels(20.0, 0.05, 20)
    made = Preconditioned if kind == "preconditioned" else NoiseConditionalScore
    model = made(TimeMlp(2, (64, 64), 32), levels)
    of_f = (kind == "preconditioned") == (loss == "own")
    batches = Batches(data.sample((20_000,)), batch_size=500, num_epochs=epochs, seed=seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate, fused=True)
    for step in fit(
        model, loss_of_f if of_f else denoising_score_matching_loss, batches, optimizer
    ):
        optimizer.param_groups[0]["lr"] = rate * (1 - 0.98 * step.number / (40 * epochs))
    torch.manual_seed(1000 + seed)
    x = data.sample((5000,))
    unit, noise, errors = x.var(0).sum().sqrt().item(), torch.randn_like(x), {}
    for name, sigma in TESTED.items():
        x_noisy = (x + sigma * noise).double()
        score = exact_score(noisy_mixture(data, 1.0, sigma**2).log_prob, x_noisy)
        with torch.no_grad():
            off = model(x_noisy.float(), torch.full((len(x),), sigma)) - score
            linear = x_noisy / (1 + sigma**2) - (x_noisy + sigma**2 * score)
        errors[f"at {name}"] = sigma**2 * off.square().sum(1).mean().sqrt().item() / unit
        errors[f"linear at {name}"] = linear.square().sum(1).mean().sqrt().item() / unit
    return errors


CONDITIONS: dict[str, Condition] = {}
for each in ("noise", "preconditioned"):
    CONDITIONS |= {
        each: partial(train, each, RATE, EPOCHS),
        f"{each}, rate 0.00125": partial(train, each, RATE / 4, EPOCHS),
        f"{each}, rate 0.02": partial(train, each, RATE * 4, EPOCHS),
        f"{each}, 80 epochs": partial(train, each, RATE, 4 * EPOCHS),
        f"{each}, the other's loss": partial(train, each, RATE, EPOCHS, loss="other"),
        f"{each}, mean 0": partial(train, each, RATE, EPOCHS, centered=True),
    }
EXPERIMENTS = {"preconditioning": Experiment(CONDITIONS)}
