"""Chapter 7: does a weight of the KL that falls during training give each factor a latent, or does the seed?"""

import math
from functools import cache, partial

import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR

from companion.data import Batches, scenes
from companion.elbo import elbo_loss, elbo_terms
from companion.experiments.base import Condition, Experiment
from companion.metrics import mutual_information, mutual_information_gap
from companion.training import fit
from companion.vae import GaussianLikelihood, Vae, mlp_vae
from companion.zoo.recipes import cosine, relaxing

NUM_TRAIN, NUM_TEST, BATCH, BINS = 5000, 5000, 50, 20
PLAIN, RELAXED = "plain", "relaxed"


@cache
def houses() -> tuple[Tensor, Tensor, Tensor]:
    """Training houses, shrunk to 16 x 16 pixels; houses to test, and their factors."""
    shrink, test = nn.AvgPool2d(2), scenes(NUM_TEST, seed=2)
    return shrink(scenes(NUM_TRAIN, seed=0).images), shrink(test.images), test.factors


def correlation_gap(z: Tensor, factors: Tensor) -> float:
    """The largest absolute correlation of a factor with a latent less the second largest, mean over the factors."""
    both = torch.corrcoef(torch.cat([z, factors], 1).T)[: z.shape[1], z.shape[1] :].abs()
    ordered = both.sort(0, descending=True).values
    return (ordered[0] - ordered[1]).mean().item()


def measured(model: Vae) -> dict[str, float]:
    """Gaps, rate and bound in nats, and the widest and narrowest posteriors on the houses to test."""
    _, images, factors = houses()
    with torch.no_grad():
        terms, q = elbo_terms(model, images), model.posterior(images)
        z, stds = q.sample(), q.variance.mean(0).sqrt()
    gaps = mutual_information_gap(mutual_information(z, factors), math.log(BINS))
    return {
        "gap": gaps.mean().item(),
        "of correlations": correlation_gap(z, factors),
        "rate": terms.kl.sum(1).mean().item(),
        "bound": terms.elbo.mean().item(),
        "widest": stds.max().item(),
        "narrowest": stds.min().item(),
    }


def train(schedule: str, bfloat16: bool, lr: float, steps: int, seed: int) -> dict[str, float]:
    """What is measured of a VAE with eight latents after so many steps; its learning rate falls along half a cosine.

    The weight of the KL is 1 throughout, or falls from 100 to 1 until 70 percent of the steps are done. The standard
    deviation of 0.05 says as much of a mean of four pixels as 0.1 of each.
    """
    model = mlp_vae(8, (200, 200), nn.SiLU, (3, 16, 16), GaussianLikelihood(0.05))
    epochs = steps * BATCH // NUM_TRAIN
    batches = Batches(houses()[0], batch_size=BATCH, num_epochs=epochs, seed=seed)
    optimizer = Adam(model.parameters(), lr=lr, fused=True)
    scheduler = LambdaLR(optimizer, lambda step: cosine(min(1.0, step / steps)))
    share = 0.0

    def loss(model: Vae, x: Tensor) -> Tensor:
        return elbo_loss(model, x, **(relaxing(share) if schedule == RELAXED else {}))

    precision = partial(torch.autocast, "cpu", torch.bfloat16, enabled=bfloat16)
    for step in fit(model, loss, batches, optimizer, autocast=precision):
        scheduler.step()
        share = step.number / steps
    return measured(model.eval())


LR, STEPS = 4e-3, 6000
CONDITIONS: dict[str, Condition] = {
    f"{each}, a quarter of the steps, rate {rate}": partial(train, each, False, rate, STEPS // 4)
    for rate in (8e-3, 5e-4)
    for each in (PLAIN, RELAXED)
}
for each in (PLAIN, RELAXED):
    CONDITIONS[each] = partial(train, each, False, LR, STEPS)
    CONDITIONS[f"{each}, bfloat16"] = partial(train, each, True, LR, STEPS)
    CONDITIONS[f"{each}, a quarter of the steps"] = partial(train, each, False, LR, STEPS // 4)
EXPERIMENTS = {"disentanglement": Experiment(CONDITIONS)}
