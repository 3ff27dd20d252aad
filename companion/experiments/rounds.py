"""Chapter 6: does encoding and decoding a sample again improve it, and after how many rounds?"""

import math
from functools import cache, partial

import torch
from torch import Tensor, nn
from torch.optim import Adam

from companion.data import Batches, Images, binarize, load
from companion.elbo import elbo_loss
from companion.experiments.base import Condition, Experiment
from companion.training import fit
from companion.vae import Vae, mlp_vae
from companion.zoo import pretrained
from companion.zoo.yardstick import digit_distance, unrecognized

NUM = 1000
SHIPPED = ("vae-mnist", "iwae-mnist", "conv-vae-mnist", "gray-vae-mnist")


@cache
def digits(split: str) -> Images:
    """Training or test digits."""
    return load("mnist", split)


@cache
@torch.enable_grad()
def short(lr: float, steps: int, seed: int) -> Vae:
    """A network with 20 latents after so many steps on all training digits."""
    torch.manual_seed(seed)
    model = mlp_vae(20, (200,), nn.ReLU)
    images = digits("train").images
    batches = Batches(images, batch_size=100, num_epochs=100 * steps // len(images), seed=seed)
    optimizer = Adam(model.parameters(), lr=lr, fused=True)

    def loss(model: Vae, x: Tensor) -> Tensor:
        return elbo_loss(model, binarize(x))

    for _ in fit(model, loss, batches, optimizer):
        pass
    return model.requires_grad_(False)


@cache
def network(name: str, seed: int) -> Vae:
    """A shipped network, or one from a short training with this seed, "short, RATE, STEPS"."""
    if name in SHIPPED:
        model = pretrained(name)
        assert isinstance(model, Vae)
        return model
    _, lr, steps = name.split(", ")
    return short(float(lr), int(steps), seed)


def drawn(seed: int, model: Vae) -> Tensor:
    """Latents from the prior, the same for every number of rounds."""
    torch.manual_seed(1000 + seed)
    return model.prior(NUM).sample()


@torch.no_grad()
def again(model: Vae, images: Tensor, rounds: int, sampled: str = "") -> Tensor:
    """Mean images after rounds of encoding and decoding, by means except where `sampled` names image or latent."""
    for _ in range(rounds):
        q = model.posterior(torch.bernoulli(images) if "image" in sampled else images)
        images = model.likelihood(q.sample() if "latent" in sampled else q.mean).mean
    return images


def uncertainty(images: Tensor) -> Tensor:
    """The variance of a sampled image given its mean image, summed over pixels."""
    return (images * (1 - images)).flatten(1).sum(1)


@torch.no_grad()
def measured(images: Tensor, before: Tensor) -> dict[str, float]:
    """What the judges say, in percent, and how far the images are from real ones and from `before`."""
    excess, flat = unrecognized(images), images.flatten(1)
    classes = [pretrained("classifier-mnist")(part).argmax(1) for part in (before, images)]
    near = torch.cdist(flat, flat).fill_diagonal_(math.inf).amin(1)
    return {
        "unrecognized": 100 * excess.value,
        "first judge": 100 * excess.each[0].value,
        "second judge": 100 * excess.each[1].value,
        "distance": digit_distance(images).value,
        "uncertainty": uncertainty(images).mean().item(),
        "nearest": torch.cdist(flat, digits("train").images[:10_000].flatten(1))
        .amin(1)
        .mean()
        .item(),
        "twins": 100 * (near < 1).double().mean().item(),
        "another digit": 100 * (classes[0] != classes[1]).double().mean().item(),
        "pixels": flat.var(0).sum().item(),
    }


@torch.no_grad()
def rounds_of(
    name: str, rounds: int, seed: int, sampled: str = "", scale: float = 1.0
) -> dict[str, float]:
    """Samples of a network after rounds of encoding and decoding; `scale` multiplies the latents before."""
    model = network(name, seed)
    first = model.likelihood(scale * drawn(seed, model)).mean
    torch.manual_seed(seed)
    return measured(again(model, first, rounds, sampled), first)


@torch.no_grad()
def sharpened(name: str, rounds: int, seed: int) -> dict[str, float]:
    """The samples themselves, their log-odds multiplied so that they are as sharp as after the rounds."""
    model = network(name, seed)
    first = model.likelihood(drawn(seed, model)).mean
    aim, log_odds = (
        uncertainty(again(model, first, rounds)).mean(),
        first.clamp(1e-6, 1 - 1e-6).logit(),
    )
    low, high = 1.0, 20.0
    for _ in range(40):
        factor = (low + high) / 2
        blurred = uncertainty((factor * log_odds).sigmoid()).mean() > aim
        low, high = (factor, high) if blurred else (low, factor)
    return measured((high * log_odds).sigmoid(), first)


def of_real(name: str, rounds: int, seed: int) -> dict[str, float]:
    """Test digits after the same rounds."""
    real = digits("test").images[NUM * seed :][:NUM]
    return measured(again(network(name, seed), real, rounds), real)


SHORT = {
    "short training": "short, 0.001, 1200",
    "short training, a quarter of the rate": "short, 0.00025, 1200",
    "short training, four times the rate": "short, 0.004, 1200",
    "four times the steps": "short, 0.001, 4800",
}
CONDITIONS: dict[str, Condition] = {
    f"{name}, {k} rounds": partial(rounds_of, name, k)
    for name in SHIPPED
    for k in ((0, 1, 2, 10, 30, 100) if name == "vae-mnist" else (0, 2, 10, 100))
}
CONDITIONS |= {
    f"{name}, {k} rounds": partial(rounds_of, recipe, k)
    for name, recipe in SHORT.items()
    for k in (0, 2, 10)
}
CONDITIONS |= {
    "real digits, 0 rounds": partial(of_real, "vae-mnist", 0),
    "real digits, 2 rounds": partial(of_real, "vae-mnist", 2),
    "real digits, 10 rounds": partial(of_real, "vae-mnist", 10),
    "as sharp as after 10": partial(sharpened, "vae-mnist", 10),
    "latents times 0.7": partial(rounds_of, "vae-mnist", 0, scale=0.7),
    "sampled images, 10 rounds": partial(rounds_of, "vae-mnist", 10, sampled="image"),
    "both sampled, 10 rounds": partial(rounds_of, "vae-mnist", 10, sampled="image, latent"),
    "both sampled, 100 rounds": partial(rounds_of, "vae-mnist", 100, sampled="image, latent"),
}
EXPERIMENTS = {"rounds": Experiment(CONDITIONS)}
