"""Chapter 6: do rate and distortion follow the weight of the KL, and which weight gives the best bound?"""

from functools import cache, partial
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.optim import Adam

from companion.data import Batches, Images, binarize, load
from companion.elbo import elbo_loss, elbo_terms
from companion.experiments.base import Condition, Experiment
from companion.metrics import energy_test
from companion.training import fit
from companion.vae import Vae, mlp_vae
from companion.zoo.yardstick import unrecognized

WEIGHTS = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
NUM = 1000  # digits that are measured, and samples


@cache
def digits(split: str) -> Images:
    """Training or test digits."""
    return load("mnist", split)


def train(weight: float, lr: float, num: int, epochs: int, seed: int) -> Vae:
    """The network of the chapter, trained on so many digits with this weight of the KL."""
    torch.manual_seed(seed)
    model = mlp_vae(10, (128,), nn.ReLU)
    images = digits("train").images[:num]
    batches = Batches(images, batch_size=100, num_epochs=epochs, seed=seed)
    optimizer = Adam(model.parameters(), lr=lr, fused=True)

    def loss(model: Vae, x: Tensor) -> Tensor:
        return elbo_loss(model, binarize(x), weight)

    for _ in fit(model, loss, batches, optimizer):
        pass
    return model.requires_grad_(False)


@cache
def measured(
    weight: float, lr: float, num: int, epochs: int, judged: bool, seed: int
) -> dict[str, float]:
    """Rate, distortion and bound in nats, on training and on test digits; for some, how samples look."""
    model = train(weight, lr, num, epochs, seed)
    torch.manual_seed(seed)
    seen, unseen = (binarize(digits(split).images[:NUM]) for split in ("train", "test"))
    terms = elbo_terms(model, seen)
    known = {
        "rate": terms.kl.sum(1).mean().item(),
        "distortion": -terms.log_likelihood.mean().item(),
        "bound": terms.elbo.mean().item(),
        "test bound": elbo_terms(model, unseen).elbo.mean().item(),
    }
    if judged:
        codes, prior = model.posterior(seen).sample(), model.prior(NUM).sample()
        known["codes from prior"] = energy_test(codes, prior, num_permutations=1).statistic
        known["unrecognized"] = 100 * unrecognized(model.likelihood(prior).mean).value
        known["differences"] = model.likelihood(prior).mean.var(0).sum().item()
    return known


def compared(lr: float, num: int, epochs: int, judged: bool, seed: int) -> dict[str, float]:
    """Which weight has the best bound, and in how many of the five steps the balance moves as it should."""
    found = [measured(weight, lr, num, epochs, judged, seed) for weight in WEIGHTS]
    return {
        "best weight": max(zip(found, WEIGHTS, strict=True), key=lambda f: f[0]["bound"])[1],
        "best on test digits": max(
            zip(found, WEIGHTS, strict=True), key=lambda f: f[0]["test bound"]
        )[1],
        "steps in order": sum(
            a["rate"] > b["rate"] and a["distortion"] < b["distortion"] for a, b in pairwise(found)
        ),
    }


SETTINGS = {
    "240 steps": (0.002, 6000, 4, True),
    "240 steps, a quarter of the rate": (0.0005, 6000, 4, False),
    "240 steps, four times the rate": (0.008, 6000, 4, False),
    "960 steps": (0.002, 6000, 16, True),
    "2400 steps, all digits": (0.002, 60_000, 4, True),
}
CONDITIONS: dict[str, Condition] = {}
for setting, values in SETTINGS.items():
    CONDITIONS |= {f"{w:g}, {setting}": partial(measured, w, *values) for w in WEIGHTS}
    CONDITIONS[f"all, {setting}"] = partial(compared, *values)
EXPERIMENTS = {"rate-distortion": Experiment(CONDITIONS)}
