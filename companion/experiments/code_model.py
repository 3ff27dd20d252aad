"""Chapter 1: which distribution of codes makes a decoder generate, and what density do the two define together?"""

import math
from functools import cache, partial

import torch
from torch import Tensor
from torch.distributions import (
    Categorical,
    Distribution,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
)
from torch.optim import Adam

from companion.autoencoder import Autoencoder, mlp_autoencoder, reconstruction_loss
from companion.data import Batches, Images, load
from companion.experiments.base import Condition, Experiment
from companion.metrics import energy_test
from companion.training import fit
from companion.zoo.yardstick import unrecognized

NUM_CODES, NUM_PART, NUM_TEST, PIXELS = 10_000, 1500, 4000, 784


@cache
def digits() -> tuple[Images, Images]:
    """Training and test digits."""
    return load("mnist", "train"), load("mnist", "test")


@cache
def network(epochs: int, seed: int) -> Autoencoder:
    """An autoencoder with 16 latents, after so many epochs."""
    torch.manual_seed(seed)
    model = mlp_autoencoder(latent_dim=16)
    batches = Batches(digits()[0].images, batch_size=128, num_epochs=epochs, seed=seed)
    optimizer = Adam(model.parameters(), lr=1e-3, fused=True)
    for _ in fit(model, reconstruction_loss, batches, optimizer):
        pass
    return model.requires_grad_(False)


def fit_mixture(z: Tensor, num: int, rounds: int = 30) -> Distribution:
    """A Gaussian mixture with full covariances, by EM from random starting points."""
    weight, mean = torch.full((num,), 1 / num), z[torch.randperm(len(z))[:num]]
    cov = 0.3 * torch.cov(z.T).repeat(num, 1, 1)
    for _ in range(rounds):
        normals = MultivariateNormal(mean, cov)
        q = (normals.log_prob(z[:, None]) + weight.log()).softmax(1)
        weight, mean = q.mean(0), q.T @ z / q.sum(0)[:, None]
        residual = z[:, None] - mean
        cov = torch.einsum("nk,nki,nkj->kij", q, residual, residual) / q.sum(0)[:, None, None]
        cov += 0.1 * torch.eye(z.shape[1])  # no component may collapse
    return MixtureSameFamily(Categorical(weight), MultivariateNormal(mean, cov))


def fitted(prior: str, z: Tensor) -> Distribution:
    """A distribution of codes: "standard Gaussian", "Gaussian", or the number of a mixture's components."""
    if prior == "standard Gaussian":
        return MultivariateNormal(torch.zeros(z.shape[1]), torch.eye(z.shape[1]))
    if prior == "Gaussian":
        return MultivariateNormal(z.mean(0), torch.cov(z.T))
    return fit_mixture(z, int(prior))


class Density:
    """Decoder, Gaussian noise and prior, with q = N(code, diag s^2): s and the noise are fitted to digits."""

    def __init__(self, model: Autoencoder, prior: Distribution) -> None:
        self.model, self.prior = model, prior
        self.log_s = torch.full((16,), -1.0, requires_grad=True)
        self.log_noise = torch.tensor(-2.2, requires_grad=True)

    def terms(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log-likelihood and rate at one sample of q, in nats; their difference estimates the bound."""
        q = Normal(self.model.encode(x), self.log_s.exp())
        z = q.rsample()
        error = (x - self.model.decode(z)).square().flatten(1).sum(1)
        log_unit = self.log_noise + math.log(2 * math.pi) / 2
        likelihood = -error / (2 * (2 * self.log_noise).exp()) - PIXELS * log_unit
        return likelihood, q.log_prob(z).sum(1) - self.prior.log_prob(z)

    def fit(self, images: Tensor, steps: int) -> None:
        """Maximize the bound; the network and the prior stay."""
        optimizer = Adam([self.log_s, self.log_noise], lr=0.03)
        for _ in range(steps):
            likelihood, rate = self.terms(images[torch.randint(len(images), (200,))])
            loss = (rate - likelihood).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def generate(prior: str, epochs: int, steps: int, seed: int) -> dict[str, float]:
    """Bound on log p(x) of gray test digits, and how its codes and drawn digits compare with real ones."""
    model, (train, test) = network(epochs, seed), digits()
    torch.manual_seed(seed)
    order = torch.randperm(len(train.images))
    codes = model.encode(train.images[order[:NUM_CODES]])
    distribution = fitted(prior, codes)
    density = Density(model, distribution)
    density.fit(train.images[order[NUM_CODES:][:2000]], steps)
    with torch.no_grad():
        likelihood, rate = density.terms(test.images[:NUM_TEST])
        blank = torch.stack([a - b for a, b in (density.terms(torch.zeros(50, 1, 28, 28)),)])
        drawn = distribution.sample((NUM_PART,))
        images = model.decode(drawn).clamp(0, 1)
    held_out = model.encode(train.images[order[NUM_CODES + 2000 :][:NUM_PART]])
    return {
        "bound": (likelihood - rate).mean().item(),
        "rate": rate.mean().item(),
        "noise": density.log_noise.exp().item(),
        "blank": blank.mean().item(),
        **compared(drawn, held_out, images),
    }


def compared(drawn: Tensor, held_out: Tensor, images: Tensor) -> dict[str, float]:
    """Energy distance to held-out codes, its p-value, and what the decoded images show."""
    test, flat = energy_test(drawn, held_out), images.flatten(1)
    return {
        "distance": test.statistic,
        "p": test.p_value,
        "unrecognized": 100 * unrecognized(images).value,
        "pairs": torch.pdist(flat).square().mean().item(),
    }


def of_real_codes(epochs: int, seed: int) -> dict[str, float]:
    """The same comparison for codes of digits that nothing was fitted to."""
    model, (train, _) = network(epochs, seed), digits()
    torch.manual_seed(seed)
    order = torch.randperm(len(train.images))[NUM_CODES + 2000 :]
    held_out = model.encode(train.images[order[:NUM_PART]])
    real = model.encode(train.images[order[NUM_PART:][:NUM_PART]])
    return compared(real, held_out, model.decode(real).clamp(0, 1))


CONDITIONS: dict[str, Condition] = {
    "real codes": partial(of_real_codes, 10),
    "mixture of 40": partial(generate, "40", 10, 300),
    "Gaussian": partial(generate, "Gaussian", 10, 300),
    "standard Gaussian": partial(generate, "standard Gaussian", 10, 300),
    "mixture of 10": partial(generate, "10", 10, 300),
    "mixture of 160": partial(generate, "160", 10, 300),
    "mixture of 40, four times the steps": partial(generate, "40", 10, 1200),
    "mixture of 40, network of 40 epochs": partial(generate, "40", 40, 300),
}
EXPERIMENTS = {"code-model": Experiment(CONDITIONS)}
