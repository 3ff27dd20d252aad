"""Chapter 6: is posterior collapse on digits a matter of the decoder, of the remedy, or of the learning rate?"""

from functools import cache, partial

import torch
from torch import Tensor, nn
from torch.distributions import Bernoulli
from torch.optim import Adam
from torch.optim.lr_scheduler import MultiStepLR

from companion.data import binarize, load
from companion.elbo import elbo_terms
from companion.experiments.base import Experiment
from companion.training import fit
from companion.vae import Vae

NUM_PIXELS, HIDDEN, LATENTS, BATCH = 81, 50, 4, 100
SETTINGS = ("strong", "warm-up", "weak", "free bits", "no latent")


class Pixels:
    """Bernoulli pixels: logits from the latent, plus linear terms of the pixels before."""

    def __init__(self, logits: Tensor, weight: Tensor) -> None:
        self.logits, self.weight = logits, weight

    def log_prob(self, x: Tensor) -> Tensor:
        """Summed over the pixels."""
        x = x.flatten(1)
        return Bernoulli(logits=self.logits + x @ self.weight).log_prob(x).sum(1)


class Autoregressive(nn.Module):
    """An observation model with a learned weight on earlier pixels; strength 0 switches it off."""

    def __init__(self, strength: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(NUM_PIXELS, NUM_PIXELS))
        self.strength = strength

    def forward(self, logits: Tensor) -> Pixels:
        """The distribution of the pixels."""
        return Pixels(logits, self.strength * self.weight.triu(1))


class Silent(nn.Module):
    """Zeros in the place of a latent, so that the decoder has none."""

    def forward(self, z: Tensor) -> Tensor:
        """Zeros of the shape of z."""
        return torch.zeros_like(z)


@cache
def digits() -> tuple[Tensor, Tensor]:
    """Training digits, and the first 2,000 test digits, reduced to 9 by 9 pixels."""
    shrink = nn.AvgPool2d(3)
    return shrink(load("mnist", "train").images), shrink(load("mnist", "test").images[:2000])


def train(setting: str, lr: float, steps: int, seed: int) -> dict[str, float]:
    """Bound and KL on test digits of 9 by 9 pixels, in nats, and the number of active units.

    The learning rate is divided by five after half of the steps, and again after three quarters.
    """
    small, test = digits()
    held_out = binarize(test)
    encoder = nn.Sequential(
        nn.Flatten(), nn.Linear(NUM_PIXELS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2 * LATENTS)
    )
    decoder = nn.Sequential(nn.Linear(LATENTS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, NUM_PIXELS))
    if setting == "no latent":
        decoder = nn.Sequential(Silent(), decoder)
    model = Vae(encoder, decoder, Autoregressive(0.0 if setting == "weak" else 1.0), LATENTS)
    optimizer = Adam(model.parameters(), lr=lr, fused=True)
    schedule = MultiStepLR(optimizer, [steps // 2, 3 * steps // 4], 0.2)
    done = 0.0

    def loss(model: Vae, x: Tensor) -> Tensor:
        terms = elbo_terms(model, x)
        kl = terms.kl.sum(1)
        if setting == "free bits" and kl.mean() < 3:
            kl = kl.detach()
        weight = min(1.0, 4 * done) if setting == "warm-up" else 1.0
        return weight * kl - terms.log_likelihood

    batches = (binarize(small[torch.randint(len(small), (BATCH,))]) for _ in range(steps))
    for step in fit(model, loss, batches, optimizer):
        schedule.step()
        done = step.number / steps
    with torch.no_grad():
        terms = elbo_terms(model, held_out)
        variance = model.posterior(held_out).mean.var(0)
    return {
        "bound": terms.elbo.mean().item(),
        "KL": terms.kl.sum(1).mean().item(),
        "units": int((variance > 0.01).sum()),
    }


EXPERIMENTS = {
    "collapse": Experiment(
        {
            f"{setting}, rate {lr}, {steps} steps": partial(train, setting, lr, steps)
            for steps, rates in ((1800, (0.02, 0.005)), (7200, (0.005, 0.02, 0.00125)))
            for lr in rates
            for setting in (SETTINGS[:4] if steps == 1800 else SETTINGS[:3] + SETTINGS[4:])
        }
    )
}
