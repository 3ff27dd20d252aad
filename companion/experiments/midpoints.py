"""Chapter 7: does a low temperature make better digits, and the arc better midpoints than the line?"""

from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor
from torch.distributions import Categorical
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR

from companion.data import Batches, binarize, load
from companion.data.treatments import with_contrast
from companion.elbo import elbo_loss, elbo_terms
from companion.experiments.base import Condition, Experiment
from companion.interpolation import spherical_interpolation
from companion.networks.classifier import DigitClassifier
from companion.training import fit
from companion.vae import Vae, mlp_vae
from companion.zoo import pretrained
from companion.zoo.recipes import cosine
from companion.zoo.yardstick import JUDGES, Unrecognized, excess_of_votes, no_digit_votes

SHIPPED = ("conv-vae-mnist", "vae-mnist")
TRAINED: dict[str, tuple[float, int]] = {  # perceptrons, with their rates and epochs
    "trained": (2e-3, 8),
    "trained, a quarter of the steps": (2e-3, 2),
    "trained, rate 0.0005": (5e-4, 8),
    "trained, rate 0.008": (8e-3, 8),
}
TEMPERATURES = (0.0, 0.6, 0.8, 1.0, 1.4)
NUM_DRAWS, NUM_PAIRS, NUM_TWO, NUM_ONE, NUM_REAL = 500, 2200, 800, 200, 2000


@cache
def digits(split: str) -> tuple[Tensor, Tensor]:
    """Images and labels."""
    data = load("mnist", split)
    return data.images, data.labels


@cache
@torch.enable_grad()
def network(name: str, seed: int) -> Vae:
    """A shipped VAE, or the network of one that is trained briefly; the rate falls along half a cosine."""
    if name in SHIPPED:
        return shipped(name)
    lr, epochs = TRAINED[name]
    torch.manual_seed(seed)
    model = mlp_vae()
    batches = Batches(digits("train")[0], batch_size=100, num_epochs=epochs, seed=seed)
    optimizer = Adam(model.parameters(), lr=lr, fused=True)
    scheduler = LambdaLR(optimizer, lambda step: cosine(min(1.0, step / len(batches))))
    for _ in fit(model, lambda model, x: elbo_loss(model, binarize(x)), batches, optimizer):
        scheduler.step()
    return model.eval().requires_grad_(False)


def shipped(name: str) -> Vae:
    """A VAE that comes with the book."""
    model = pretrained(name)
    assert isinstance(model, Vae)
    return model


def as_it_is(x: Tensor) -> Tensor:
    """The image itself."""
    return x


def contrasted(x: Tensor) -> Tensor:
    """Brighter strokes on the same black paper."""
    return with_contrast(x, torch.full((len(x),), 1.3), torch.zeros(len(x)))


TREATMENTS: dict[str, Callable[[Tensor], Tensor]] = {
    "means": as_it_is,
    "contrast": contrasted,
    "drawn pixels": binarize,
}


@cache
def votes_on_real(treatment: str) -> Tensor:
    """What the judges say of real digits, treated alike."""
    return no_digit_votes(TREATMENTS[treatment](digits("test")[0][:NUM_REAL]))


def not_recognized(images: Tensor, treatment: str) -> dict[str, float]:
    """Percent not recognized as a digit, in excess over real digits: of both judges, and of each."""
    real = None if treatment == "means" else votes_on_real(treatment)
    found: Unrecognized = excess_of_votes(no_digit_votes(TREATMENTS[treatment](images)), real)
    each = {judge: 100 * one.value for judge, one in zip(JUDGES, found.each, strict=True)}
    return {"unrecognized": 100 * found.value, **each}


def bound_by_another(name: str, images: Tensor) -> float:
    """Mean bound of black-and-white samples under the shipped VAE of the other architecture, in nats."""
    other = SHIPPED[0] if name != SHIPPED[0] else SHIPPED[1]
    return elbo_terms(shipped(other), binarize(images)).elbo.mean().item()


@torch.no_grad()
def at_temperature(name: str, tau: float, treatment: str, seed: int) -> dict[str, float]:
    """Draws at a temperature: recognized or not, how different, how gray, and their bound under another VAE."""
    model = network(name, seed)
    torch.manual_seed(seed)
    z = model.prior(NUM_DRAWS).sample()
    images = model.likelihood(tau * z).mean
    classifier = pretrained("classifier-mnist")
    assert isinstance(classifier, DigitClassifier)
    classes = classifier(images).softmax(1).mean(0)
    return {
        **not_recognized(images, treatment),
        "variety": images.flatten(1).var(0).sum().item(),
        "classes": Categorical(classes).entropy().exp().item(),
        "uncertainty": (images * (1 - images)).flatten(1).sum(1).mean().item(),
        "bound": bound_by_another(name, images),
    }


def midpoint(path: str, a: Tensor, b: Tensor) -> Tensor:
    """Halfway from a to b on this path; of "ends" it is a itself."""
    if path == "ends":
        return a
    return (a + b) / 2 if path == "line" else spherical_interpolation(a, b, torch.tensor([0.5]))[0]


@torch.no_grad()
def halfway(name: str, path: str, ends: str, treatment: str, seed: int) -> dict[str, float]:
    """Midpoints of pairs of digits of two classes and of one: recognized or not, length, bound under another VAE.

    The ends are draws from q, its means, or draws of the prior, which have no classes.
    """
    model, (images, labels) = network(name, seed), digits("test")
    torch.manual_seed(seed)
    order = torch.randperm(len(images))[: 2 * NUM_PAIRS]
    q = model.posterior(binarize(images[order]))
    a, b = (q.mean if ends == "means" else q.sample()).chunk(2)
    first, second = labels[order].chunk(2)
    same = first == second
    chosen = {"": (~same).nonzero()[:NUM_TWO, 0], "one class, ": same.nonzero()[:NUM_ONE, 0]}
    if ends == "prior":
        a, b, chosen = *torch.randn(2, *a.shape), {"": torch.arange(NUM_TWO)}
    found: dict[str, float] = {}
    for pairs, index in chosen.items():
        z = midpoint(path, a[index], b[index])
        x = model.likelihood(z).mean
        measures = not_recognized(x, treatment) | {"bound": bound_by_another(name, x)}
        measures["length"] = z.square().sum(1).mean().item() ** 0.5
        found |= {pairs + measure: value for measure, value in measures.items()}
    return found


DRAWS: dict[str, Condition] = {
    f"{name}, {tau}": partial(at_temperature, name, tau, "means")
    for name in (*SHIPPED, "trained", "trained, a quarter of the steps")
    for tau in TEMPERATURES
}
DRAWS |= {
    f"{name}, {treatment}, {tau}": partial(at_temperature, name, tau, treatment)
    for name in SHIPPED
    for treatment in ("contrast", "drawn pixels")
    for tau in (0.6, 1.0)
}
DRAWS |= {
    f"{name}, {tau}": partial(at_temperature, name, tau, "means")
    for name in [*TRAINED][2:]
    for tau in (0.6, 1.0)
}
PATHS: dict[str, Condition] = {
    f"{name}, {path}": partial(halfway, name, path, "draws", "means")
    for name in (*SHIPPED, "trained")
    for path in ("ends", "line", "arc")
}
PATHS |= {
    f"{SHIPPED[0]}, {treatment}, {path}": partial(halfway, SHIPPED[0], path, "draws", treatment)
    for treatment in ("contrast", "drawn pixels")
    for path in ("line", "arc")
}
PATHS |= {
    f"{name}, {ends}, {path}": partial(halfway, name, path, ends, "means")
    for name, ends in ((SHIPPED[0], "means"), (SHIPPED[0], "prior"), (SHIPPED[1], "prior"))
    for path in ("line", "arc")
}
EXPERIMENTS = {"temperature": Experiment(DRAWS), "midpoints": Experiment(PATHS)}
