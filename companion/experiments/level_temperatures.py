"""Chapter 8: on which levels of a hierarchy does a low temperature make better digits?"""

from functools import cache, partial

import torch
from torch import Tensor
from torch.distributions import Categorical
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR

from companion.data import Batches, binarize, load
from companion.elbo import elbo_loss, elbo_terms
from companion.experiments.base import Condition, Experiment
from companion.experiments.midpoints import not_recognized, shipped
from companion.hierarchical_vae import HierarchicalVae
from companion.ladders import mlp_ladder
from companion.networks.classifier import DigitClassifier
from companion.training import fit
from companion.zoo import pretrained
from companion.zoo.recipes import cosine

NUM, EPOCHS = 500, 4
# Networks, with the lowest of the levels that count as upper ones.
NETWORKS = {"hvae-mnist": 3, "conv-hvae-mnist": 3, "three levels": 2}
# Temperatures of the upper levels and of the lower ones.
SETTINGS = {
    "as it is": (1.0, 1.0),
    "upper": (0.5, 1.0),
    "lower": (1.0, 0.5),
    "both": (0.5, 0.5),
}


@cache
@torch.enable_grad()
def ladder(name: str, seed: int) -> HierarchicalVae:
    """A shipped ladder, or three levels of 16, 8 and 4 latents, trained for four epochs with warm-up."""
    if name != "three levels":
        found = pretrained(name)
        assert isinstance(found, HierarchicalVae)
        return found
    torch.manual_seed(seed)
    model, share = mlp_ladder((16, 8, 4), (128, 64, 32)), 0.0
    batches = Batches(load("mnist", "train").images, batch_size=200, num_epochs=EPOCHS, seed=seed)
    optimizer = Adam(model.parameters(), lr=4e-3, fused=True)
    scheduler = LambdaLR(optimizer, lambda step: cosine(min(1.0, step / len(batches))))

    def loss(model: HierarchicalVae, x: Tensor) -> Tensor:
        return elbo_loss(model, binarize(x), beta=min(1.0, share / 0.3))

    for step in fit(model, loss, batches, optimizer):
        scheduler.step()
        share = step.number / len(batches)
    return model.eval().requires_grad_(False)


def draw(model: HierarchicalVae, lowest: int, upper: float, lower: float) -> Tensor:
    """Means of images; the levels from `lowest` up are drawn at one temperature, those below at another."""
    z = upper * model.prior(NUM).sample()
    for t in range(model.num_latents - 1, 0, -1):
        p = model.inner_prior(t, z)
        z = p.mean + (upper if t >= lowest else lower) * (p.sample() - p.mean)
    return model.likelihood(z).mean


@torch.no_grad()
def cooled(
    name: str, lowest: int, upper: float, lower: float, treatment: str, seed: int
) -> dict[str, float]:
    """Draws recognized or not, how different they are, and their bound in nats under the VAE of chapter 6."""
    model = ladder(name, seed)
    torch.manual_seed(seed)
    images = draw(model, lowest, upper, lower)
    classifier = pretrained("classifier-mnist")
    assert isinstance(classifier, DigitClassifier)
    return {
        **not_recognized(images, treatment),
        "variety": images.flatten(1).var(0).sum().item(),
        "classes": Categorical(classifier(images).softmax(1).mean(0)).entropy().exp().item(),
        "bound": elbo_terms(shipped("vae-mnist"), binarize(images)).elbo.mean().item(),
    }


CONDITIONS: dict[str, Condition] = {
    f"{name}, {setting}": partial(cooled, name, lowest, *taus, "means")
    for name, lowest in NETWORKS.items()
    for setting, taus in SETTINGS.items()
}
for each, temperatures in {"upper": (0.75, 1.0), "lower": (1.0, 0.75)}.items():
    CONDITIONS[f"hvae-mnist, {each}, 0.75"] = partial(
        cooled, "hvae-mnist", 3, *temperatures, "means"
    )
for setting, taus in SETTINGS.items():
    CONDITIONS[f"hvae-mnist, split at 2, {setting}"] = partial(
        cooled, "hvae-mnist", 2, *taus, "means"
    )
    CONDITIONS[f"hvae-mnist, drawn pixels, {setting}"] = partial(
        cooled, "hvae-mnist", 3, *taus, "drawn pixels"
    )
EXPERIMENTS = {"level-temperatures": Experiment(CONDITIONS)}
