"""Chapter 9: does a model of black-and-white digits that has fewer nats draw better digits?"""

from functools import partial

import torch
from torch import Tensor
from torch.distributions import Categorical

from companion.elbo import elbo_terms
from companion.experiments.base import Condition, Experiment
from companion.experiments.midpoints import not_recognized, shipped
from companion.hierarchical_vae import HierarchicalVae
from companion.masked import MaskedDiffusion, masked_sample
from companion.networks.classifier import DigitClassifier
from companion.vae import Vae
from companion.zoo import pretrained

NUM = 500
MODELS = ("vae-mnist", "iwae-mnist", "hvae-mnist", "conv-hvae-mnist")
STEPS = (50, 250)


def means(name: str) -> Tensor:
    """Probabilities of white, given latents that are drawn from the prior."""
    model = pretrained(name).float()
    assert isinstance(model, Vae | HierarchicalVae)
    z = model.prior(NUM).sample()
    for t in range(model.num_latents - 1, 0, -1):
        z = model.inner_prior(t, z).sample()
    return model.likelihood(z).mean


def uncovered(num_steps: int) -> Tensor:
    """Drawings of masked diffusion."""
    model = pretrained("masked-mnist").float()
    assert isinstance(model, MaskedDiffusion)
    *_, z = masked_sample(model, NUM, num_steps)
    return z


@torch.no_grad()
def judged(draw: partial[Tensor], treatment: str, seed: int) -> dict[str, float]:
    """Drawings recognized or not, how many classes they show, and their bound in nats under another VAE."""
    torch.manual_seed(seed)
    images = draw()
    classifier = pretrained("classifier-mnist")
    assert isinstance(classifier, DigitClassifier)
    return {
        **not_recognized(images, treatment),
        "classes": Categorical(classifier(images).softmax(1).mean(0)).entropy().exp().item(),
        "bound": elbo_terms(shipped("conv-vae-mnist"), images.bernoulli()).elbo.mean().item(),
    }


CONDITIONS: dict[str, Condition] = {
    **{name: partial(judged, partial(means, name), "drawn pixels") for name in MODELS},
    **{f"{name}, means": partial(judged, partial(means, name), "means") for name in MODELS},
    **{
        f"masked-mnist, {num_steps} steps": partial(
            judged, partial(uncovered, num_steps), "drawn pixels"
        )
        for num_steps in STEPS
    },
}
EXPERIMENTS = {"drawings": Experiment(CONDITIONS)}
