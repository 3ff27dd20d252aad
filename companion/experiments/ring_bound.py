"""Chapter 3: what does the bound do to a model whose posteriors are not Gaussian? The ring and its exact likelihood."""

import math
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR

from companion.elbo import importance_weighted_loss
from companion.experiments.base import Condition, Experiment
from companion.networks.mlp import mlp
from companion.training import fit, minimize
from companion.vae import GaussianLikelihood, Vae

SPEED, PHASE, RADIUS, NOISE = 2.0, 3.0, 1.0, 0.2  # of the ring that makes the data
BATCH = 256


class Ring(nn.Module):
    """The decoder: a latent z becomes the point of a circle at the angle speed * z + phase."""

    def __init__(self, speed: float = SPEED) -> None:
        super().__init__()
        self.speed = nn.Parameter(torch.tensor(speed))
        self.phase = nn.Parameter(torch.tensor(PHASE))
        self.log_radius = nn.Parameter(torch.tensor(math.log(RADIUS)))

    def forward(self, z: Tensor) -> Tensor:
        """(batch, 1) to (batch, 2)."""
        angle = self.speed * z + self.phase
        return self.log_radius.exp() * torch.cat([angle.cos(), angle.sin()], 1)


def draw(num: int) -> Tensor:
    """Points of the distribution of the data."""
    angle = SPEED * torch.randn(num, 1) + PHASE
    return RADIUS * torch.cat([angle.cos(), angle.sin()], 1) + NOISE * torch.randn(num, 2)


def cubature() -> tuple[Tensor, Tensor]:
    """Points and weights that integrate over the distribution of the data: 64 angles, 5 x 5 values of the noise."""
    angle = torch.arange(64, dtype=torch.double) * math.pi / 32
    turns = 2 * math.pi * torch.arange(-4, 5, dtype=torch.double)
    density = Normal(PHASE, SPEED).log_prob(angle[:, None] + turns).exp().sum(1)  # wrapped
    nodes, shares = map(torch.from_numpy, np.polynomial.hermite_e.hermegauss(5))
    shares = shares / shares.sum()
    a, u, v = torch.cartesian_prod(angle, NOISE * nodes, NOISE * nodes).T
    weights = torch.cartesian_prod(density * math.pi / 32, shares, shares)
    out, along = torch.stack([a.cos(), a.sin()], 1), torch.stack([-a.sin(), a.cos()], 1)
    return (RADIUS + u)[:, None] * out + v[:, None] * along, weights.prod(1)


Z = torch.linspace(-8, 8, 401, dtype=torch.double)


def log_joint(model: Vae, x: Tensor) -> Tensor:
    """The logarithm of p(x, z), for every point (rows) and every latent of a grid."""
    std = log_noise(model).exp()
    density = Normal(model.decoder(Z[:, None]), std).log_prob(x[:, None]).sum(2)
    return density + Normal(0.0, 1.0).log_prob(Z)


def log_noise(model: Vae) -> Tensor:
    """The parameter of the likelihood."""
    return model.get_parameter("observation_model.log_std")


def log_evidence(model: Vae, x: Tensor) -> Tensor:
    """The logarithm of p(x), an integral over the grid."""
    return log_joint(model, x).logsumexp(1) + (Z[1] - Z[0]).log()


def bound(model: Vae, x: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """The ELBO of q = N(mean, std^2), in closed form: E cos(speed z + phase) is the mean's, shrunk."""
    decoder, variance, noise = model.decoder, (2 * log_std).exp(), log_noise(model)
    shrunk = (-(decoder.get_parameter("speed") ** 2) * variance / 2).exp()
    product = shrunk * (decoder(mean[:, None]) * x).sum(1)
    square = x.square().sum(1) + (2 * decoder.get_parameter("log_radius")).exp() - 2 * product
    reconstruction = -square / (2 * (2 * noise).exp()) - 2 * noise - math.log(2 * math.pi)
    return reconstruction - (mean**2 + variance - 1) / 2 + log_std


def best_gaussians(model: Vae, x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log-deviation of the q with the largest bound of each point, climbed to from three modes."""
    with torch.no_grad():
        joint = log_joint(model, x)
    top = Z[joint.argmax(1)]
    turn = 2 * math.pi / model.decoder.get_parameter("speed").detach()
    starts = torch.stack([top - turn, top, top + turn])
    mean, log_std = starts.flatten(), torch.full((3 * len(x),), -2.0).to(x)
    many = x.repeat(3, 1)
    for _ in range(400):  # natural gradient steps, no longer than q is wide
        with torch.enable_grad():
            free = [mean.requires_grad_(), log_std.requires_grad_()]
            by_mean, by_log_std = torch.autograd.grad(bound(model, many, *free).sum(), free)
        std = log_std.detach().exp()
        mean = mean.detach() + (0.2 * std**2 * by_mean).clamp(-0.3 * std, 0.3 * std)
        log_std = log_std.detach() + (0.1 * by_log_std).clamp(-0.3, 0.3)
    best = bound(model, many, mean, log_std).detach().view(3, -1).argmax(0)
    pick = best * len(x) + torch.arange(len(x))
    return mean[pick], log_std[pick]


@torch.no_grad()
def measures(
    model: Vae, num_samples: int = 0, own: tuple[Tensor, Tensor] | None = None
) -> dict[str, float]:
    """Averages over the data: KL(data || model) and both gaps of the ELBO, exact; the gap of L_K, by samples."""
    x, weights = cubature()
    model, true = model.double(), ring_model(8).double()
    log_noise(true).fill_(math.log(NOISE))  # to double precision
    evidence, truth = log_evidence(model, x), log_evidence(true, x)
    q = own or (model.encoder(x).T * torch.tensor([[1.0], [0.5]])).unbind()
    best = bound(model, x, *best_gaussians(model, x))
    found = {
        "speed": model.decoder.get_parameter("speed").item(),
        "noise": log_noise(model).exp().item(),
        "kl": (weights * (truth - evidence)).sum().item(),
        "approximation": (weights * (evidence - best)).sum().item(),
        "amortization": (weights * (best - bound(model, x, *q))).sum().item(),
    }
    if num_samples:
        draws = [-importance_weighted_loss(model, x, num_samples) for _ in range(200)]
        found["gap"] = (weights * (evidence - torch.stack(draws).mean(0))).sum().item()
    return found


def ring_model(width: int, speed: float = SPEED) -> Vae:
    """The ring with an encoder of two hidden layers; at the default speed the decoder is that of the data."""
    encoder = mlp([2, width, width, 2], nn.Tanh)
    return Vae(encoder, Ring(speed), GaussianLikelihood(NOISE, learned=True), 1, (2,))


def train(
    num_samples: int,
    seed: int,
    *,
    lr: float = 0.012,
    steps: int = 1500,
    start: float = SPEED,
) -> dict[str, float]:
    """Encoder and decoder by the bound of so many samples, on new points in every step."""
    torch.manual_seed(seed)
    model = ring_model(64, start)
    optimizer = Adam(model.parameters(), lr=lr)
    schedule = CosineAnnealingLR(optimizer, steps)
    loss = partial(importance_weighted_loss, num_samples=num_samples)
    for _ in fit(model, loss, (draw(BATCH) for _ in range(steps)), optimizer):
        schedule.step()
    return measures(model, num_samples)


def own_gaussians(start: float, seed: int) -> dict[str, float]:
    """The decoder and one Gaussian for each point by the ELBO, to full precision; there is no encoder."""
    torch.manual_seed(seed)
    model, (x, weights) = ring_model(8, start).double(), cubature()
    q = [part + 0.05 * torch.randn_like(part) for part in best_gaussians(model, x)]
    theta = [*model.decoder.parameters(), log_noise(model), *(part.requires_grad_() for part in q)]
    _ = minimize(lambda: -(weights * bound(model, x, *q)).sum(), theta)
    return measures(model, own=(q[0], q[1]))


def likelihood(seed: int) -> dict[str, float]:
    """The decoder by the exact likelihood, from where the ELBO leads."""
    torch.manual_seed(seed)
    model, (x, weights) = ring_model(8, 1.65 + 0.05 * torch.randn(()).item()).double(), cubature()
    theta = [*model.decoder.parameters(), log_noise(model)]
    _ = minimize(lambda: -(weights * log_evidence(model, x)).sum(), theta)
    return measures(model)


CONDITIONS: dict[str, Condition] = {
    "likelihood": likelihood,
    "own Gaussians": partial(own_gaussians, SPEED),
    "own Gaussians, from speed 1": partial(own_gaussians, 1.0),
    **{f"K = {K}": partial(train, K) for K in (1, 5, 50)},
    "K = 1, from speed 1": partial(train, 1, start=1.0),
    "K = 1, a quarter of the rate": partial(train, 1, lr=0.003),
    "K = 1, four times the rate": partial(train, 1, lr=0.048),
    "K = 1, four times the steps": partial(train, 1, steps=6000),
    "K = 50, from speed 1": partial(train, 50, start=1.0),
    "K = 50, four times the steps": partial(train, 50, steps=6000),
}
EXPERIMENTS = {"ring-bound": Experiment(CONDITIONS)}
