"""Chapter 6: is the amortization gap larger on test digits than on training digits, and is that overfitting?"""

from functools import cache, partial

import torch
from torch import Tensor, nn
from torch.distributions import Independent
from torch.optim import Adam

from companion.data import Batches, Images, binarize, load
from companion.elbo import elbo_loss, elbo_terms
from companion.experiments.base import Condition, Experiment
from companion.training import fit
from companion.vae import Vae, mlp_vae
from companion.zoo import pretrained

NUM, DRAWS = 300, 100  # digits, and samples for the bound of each


@cache
def digits(split: str) -> Images:
    """Training or test digits."""
    return load("mnist", split)


@cache
def network(name: str, seed: int) -> Vae:
    """A shipped network, or the same one after two epochs, with this seed."""
    if name == "two epochs":
        torch.manual_seed(seed)
        model = mlp_vae()
        batches = Batches(digits("train").images, batch_size=100, num_epochs=2, seed=seed)
        optimizer = Adam(model.parameters(), lr=1e-3, fused=True)

        def loss(model: Vae, x: Tensor) -> Tensor:
            return elbo_loss(model, binarize(x))

        for _ in fit(model, loss, batches, optimizer):
            pass
        return model.requires_grad_(False)
    shipped = pretrained(name)
    assert isinstance(shipped, Vae)
    return shipped


class PerImage(nn.Module):
    """An encoder of free parameters: it returns them whatever its input is."""

    def __init__(self, q: Independent) -> None:
        super().__init__()
        self.code = nn.Parameter(torch.cat([q.mean, q.variance.log()], 1))

    def forward(self, x: Tensor) -> Tensor:
        """The parameters."""
        return self.code


@torch.no_grad()
def bounds(model: Vae, x: Tensor) -> Tensor:
    """The bound of each image, averaged over samples."""
    return torch.stack([elbo_terms(model, x).elbo for _ in range(DRAWS)]).mean(0)


def gap(name: str, split: str, rate: float, steps: int, seed: int) -> dict[str, float]:
    """What a Gaussian for each image gains over the encoder, in nats; each seed has digits of its own."""
    model = network(name, seed)
    torch.manual_seed(seed)
    x = binarize(digits(split).images[NUM * seed :][:NUM])
    free = Vae(PerImage(model.posterior(x)), model.decoder, model.observation_model, 50)
    for lr in (rate, rate / 10):
        optimizer = Adam(free.encoder.parameters(), lr=lr, fused=True)
        for _ in fit(free, elbo_loss, [x] * steps, optimizer):
            pass
    before, after = bounds(model, x), bounds(free, x)
    return {
        "gap": (after - before).mean().item(),
        "median": (after - before).median().item(),
        "bound": before.mean().item(),
        "best": after.mean().item(),
    }


SETTINGS = {
    "vae-mnist": ("vae-mnist", 0.03, 200),
    "four times the steps": ("vae-mnist", 0.03, 800),
    "a quarter of the rate": ("vae-mnist", 0.0075, 200),
    "four times the rate": ("vae-mnist", 0.12, 200),
    "iwae-mnist": ("iwae-mnist", 0.03, 200),
    "two epochs": ("two epochs", 0.03, 200),
}
CONDITIONS: dict[str, Condition] = {
    f"{setting}, {split}": partial(gap, name, split, rate, steps)
    for setting, (name, rate, steps) in SETTINGS.items()
    for split in ("train", "test")
}
EXPERIMENTS = {"amortization": Experiment(CONDITIONS)}
