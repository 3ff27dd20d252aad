"""Chapter 5: why does training miss the maximum of the linear VAE on one spectrum: by its shape, or by its unit?"""

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, kl_divergence
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR

from companion.data import Batches
from companion.elbo import elbo_loss
from companion.experiments.base import Experiment
from companion.training import fit
from companion.vae import Vae, linear_vae, linear_vae_log_likelihood

HARD = torch.tensor([212.0, 32.0, 10.6] + 5 * [0.24])
LATENTS, NUM = 3, 4096


def data(seed: int) -> Tensor:
    """Points whose covariance has exactly the hard spectrum, along random axes."""
    torch.manual_seed(100 + seed)
    axes = torch.linalg.qr(torch.randn(len(HARD), len(HARD))).Q
    white = torch.randn(NUM, len(HARD), dtype=torch.double)
    white -= white.mean(0)
    root = torch.linalg.cholesky(white.T @ white / NUM)
    white = torch.linalg.solve_triangular(root, white.T, upper=False).T
    return (white.float() * HARD.sqrt()) @ axes.T


def best_likelihood(values: Tensor) -> float:
    """Of probabilistic PCA, in nats per point (Tipping and Bishop 1999, eq. 8)."""
    rest = values[LATENTS:].mean()
    logs = values[:LATENTS].log().sum() + (len(values) - LATENTS) * rest.log()
    return float(-0.5 * (len(values) * (math.log(2 * math.pi) + 1) + logs))


def train(
    unit: str, lr: float, epochs: int, seed: int, start: bool = False, steps: bool = False
) -> dict[str, float]:
    """How many nats the bound is short of the best likelihood, and how many latents lie along one axis.

    Where the data stay as they are, `start` multiplies the initial weights, and `steps` the learning rate of each
    weight, by what the weight would be multiplied by if the data were divided by one number.
    """
    points = data(seed)
    if unit == "one number":
        points = points / HARD.mean().sqrt()
    if unit == "each input":  # which changes the spectrum, too
        points = points / points.std(0, correction=0)
    values, axes = torch.linalg.eigh(torch.cov(points.T.double(), correction=0))
    torch.manual_seed(seed)
    model = linear_vae(points.shape[1], LATENTS)
    if start:
        for parameter, factor in factors(model):
            parameter.data *= factor
        model.get_parameter("observation_model.log_std").data += HARD.mean().log() / 2
    batches = Batches(points, batch_size=256, num_epochs=epochs, seed=seed)
    groups = [{"params": [p], "lr": lr * (f if steps else 1.0)} for p, f in factors(model)]
    optimizer = Adam(groups, lr=lr, fused=True)
    schedule = CosineAnnealingLR(optimizer, len(batches))
    for _ in fit(model, elbo_loss, batches, optimizer):
        schedule.step()
    with torch.no_grad():
        W = model.decoder.get_parameter("weight")
        lost = best_likelihood(values.flip(0)) - linear_vae_log_likelihood(model, points).mean()
        cosines = (axes.float().T @ (W / W.norm(dim=0))).abs()
        along = int((cosines.amax(0) > 0.99).sum())
        mixed = 100.0 * (along < LATENTS)  # so that the mean is a percentage of the trainings
        return {"short": lost.item() + gap(model, points), "axes": along, "mixed": mixed}


def factors(model: Vae) -> list[tuple[nn.Parameter, float]]:
    """The parameters, and the power of the data's unit in which each is measured."""
    unit = HARD.mean().sqrt().item()
    of = {"decoder.weight": unit, "decoder.bias": unit, "encoder.mean.weight": 1 / unit}
    return [(p, of.get(name, 1.0)) for name, p in model.named_parameters()]


def gap(model: Vae, points: Tensor) -> float:
    """KL of the encoder from the exact posterior, averaged over the data."""
    W, bias = (model.decoder.get_parameter(name) for name in ("weight", "bias"))
    variance = (2 * model.get_parameter("observation_model.log_std")).exp()
    inverse = torch.linalg.inv(W.T @ W + variance * torch.eye(LATENTS))
    q = model.posterior(points)
    q_full = MultivariateNormal(q.mean, torch.diag_embed(q.variance))
    exact = MultivariateNormal((points - bias) @ W @ inverse, variance * inverse)
    return kl_divergence(q_full, exact).mean().item()


EXPERIMENTS = {
    "spectrum": Experiment(
        {
            f"{unit}, rate {lr}, {epochs} epochs": partial(train, unit, lr, epochs)
            for unit in ("as it is", "one number", "each input")
            for lr, epochs in ((0.02, 125), (0.005, 125), (0.08, 125), (0.02, 500))
        }
        | {
            "as it is, start in its unit": partial(train, "as it is", 0.02, 125, start=True),
            "as it is, steps in its unit": partial(train, "as it is", 0.02, 125, steps=True),
            "as it is, both in its unit": partial(
                train, "as it is", 0.02, 125, start=True, steps=True
            ),
        },
        seeds=16,  # one training in five ends with mixed axes: three might show none
    )
}
