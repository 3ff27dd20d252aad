"""Chapter 6: how much of the KL is mismatch of codes and prior, and does a longer training lower it?"""

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.distributions import Normal
from torch.optim import Adam
from torch.optim.lr_scheduler import CosineAnnealingLR

from companion.elbo import elbo_loss
from companion.experiments.base import Condition, Experiment
from companion.training import fit
from companion.vae import GaussianLikelihood, mlp_vae


def arc(num: int) -> Tensor:
    """Points on the noisy arc of the chapter."""
    angle = 4.4 * torch.rand(num) - 2.2
    points = 2 * torch.stack([angle.cos(), angle.sin()], 1) + 0.15 * torch.randn(num, 2)
    return points[:, None, None]


def parts(num_steps: int, lr: float, seed: int) -> dict[str, float]:
    """Nats of information and of mismatch, and the root mean square error of reconstructions."""
    torch.manual_seed(seed)
    model = mlp_vae(2, (64, 64), nn.Tanh, (1, 1, 2), GaussianLikelihood(0.15))
    optimizer = Adam(model.parameters(), lr=lr, fused=True)
    schedule = CosineAnnealingLR(optimizer, num_steps)
    for _ in fit(model, elbo_loss, (arc(200) for _ in range(num_steps)), optimizer):
        schedule.step()
    x = arc(4000)
    with torch.no_grad():
        q = model.posterior(x)
        z = q.sample()
        each = torch.cat(
            [Normal(q.mean, q.stddev).log_prob(one[:, None]).sum(2) for one in z.split(500)]
        )
        log_q = each.logsumexp(1) - math.log(len(x))
        log_prior = Normal(0.0, 1.0).log_prob(z).sum(1)
        error = (model.likelihood(z).mean - x).square().flatten(1).sum(1).mean().sqrt()
    information, mismatch = (each.diagonal() - log_q).mean(), (log_q - log_prior).mean()
    return {
        "information": information.item(),
        "mismatch": mismatch.item(),
        "share": (100 * mismatch / (information + mismatch)).item(),
        "error": error.item(),
    }


CONDITIONS: dict[str, Condition] = {
    "500 steps": partial(parts, 500, 5e-3),
    "a quarter of the rate": partial(parts, 500, 1.25e-3),
    "four times the rate": partial(parts, 500, 2e-2),
    "2,000 steps": partial(parts, 2000, 5e-3),
    "8,000 steps": partial(parts, 8000, 5e-3),
}
EXPERIMENTS = {"mismatch": Experiment(CONDITIONS, seeds=5)}
