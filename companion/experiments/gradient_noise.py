"""Chapter 4: how noisy are gradient estimates that cost the same?"""

from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor
from torch.distributions import Distribution, kl_divergence
from torch.optim import Adam

from companion.data import Batches, binarize, load
from companion.elbo import elbo_loss
from companion.experiments.base import Condition, Experiment
from companion.training import fit
from companion.vae import Vae, mlp_vae

NUM, REPEATS = 11, 30  # samples of every estimate, and estimates
Value = Callable[[Vae, Distribution, Tensor, Tensor], Tensor]


@cache
def digits() -> tuple[Tensor, Tensor]:
    """10,000 training digits and 500 test digits."""
    return load("mnist", "train").images[:10_000], load("mnist", "test").images[:500]


def log_likelihood(model: Vae, q: Distribution, x: Tensor, z: Tensor) -> Tensor:
    """Log p(x|z)."""
    return model.likelihood(z).log_prob(x)


def log_ratio(model: Vae, q: Distribution, x: Tensor, z: Tensor) -> Tensor:
    """Log p(x, z) - log q(z|x)."""
    return log_likelihood(model, q, x, z) + model.prior(len(x)).log_prob(z) - q.log_prob(z)


def path(f: Value, model: Vae, x: Tensor) -> Tensor:
    """Path-wise loss: the mean of f over the samples."""
    q = model.posterior(x)
    return -torch.stack([f(model, q, x, q.rsample()) for _ in range(NUM)]).mean(0)


def score(f: Value, model: Vae, x: Tensor) -> Tensor:
    """Score-function loss of one sample; the others make its baseline."""
    q = model.posterior(x)
    z = q.sample()
    with torch.no_grad():
        others = torch.stack([f(model, q, x, q.sample()) for _ in range(NUM - 1)])
        centered = f(model, q, x, z) - others.mean(0)
    return -centered * q.log_prob(z)


def leave_one_out(f: Value, model: Vae, x: Tensor) -> Tensor:
    """Score-function loss of all samples; the baseline of each is the mean of f over the others."""
    q = model.posterior(x)
    z = torch.stack([q.sample() for _ in range(NUM)])
    with torch.no_grad():
        value = torch.stack([f(model, q, x, each) for each in z])
    centered = (value - value.mean(0)) * NUM / (NUM - 1)
    return -(centered * q.log_prob(z)).mean(0)


METHODS = {"path": path, "one score": score, "leave-one-out": leave_one_out}


def closed(method: Callable[..., Tensor], model: Vae, x: Tensor) -> Tensor:
    """The loss with the KL divergence in closed form."""
    kl = kl_divergence(model.posterior(x), model.prior(len(x)))
    return method(log_likelihood, model, x) + kl


def bias_variance(loss: Callable[..., Tensor], model: Vae, x: Tensor) -> float:
    """Variance of the gradient in the biases of the encoder's last layer, mean over the biases."""
    bias = [p for name, p in model.encoder.named_parameters() if "bias" in name][-1]
    found = [torch.autograd.grad(loss(model, x).mean(), bias)[0] for _ in range(REPEATS)]
    return torch.stack(found).var(0).mean().item()


def loss(model: Vae, x: Tensor) -> Tensor:
    """Minus the bound of images that are binarized anew."""
    return elbo_loss(model, binarize(x))


def measure(epochs: int, lr: float, seed: int) -> dict[str, float]:
    """How many times the variance of the path-wise estimate that of the others is, all of 11 samples.

    "closed" compares those with the KL divergence in closed form, "sampled" those without; "closed path" says how much
    larger the variance of the path-wise estimate by samples is than that with the closed form.
    """
    images, test = digits()
    model, x = mlp_vae(), binarize(test[100 * (seed % 5) :][:100])
    if epochs:
        batches = Batches(images, batch_size=100, num_epochs=epochs, seed=seed)
        optimizer = Adam(model.parameters(), lr=lr, fused=True)
        for _ in fit(model, loss, batches, optimizer):
            pass
    sampled = {n: bias_variance(partial(m, log_ratio), model, x) for n, m in METHODS.items()}
    exact = {n: bias_variance(partial(closed, m), model, x) for n, m in METHODS.items()}
    ratios = {"closed path": sampled["path"] / exact["path"]}
    for name in ("one score", "leave-one-out"):
        ratios[f"{name}, sampled"] = sampled[name] / sampled["path"]
        ratios[f"{name}, closed"] = exact[name] / exact["path"]
    return ratios


CONDITIONS: dict[str, Condition] = {
    "fresh": partial(measure, 0, 1e-3),
    "600 steps": partial(measure, 6, 1e-3),
    "2400 steps": partial(measure, 24, 1e-3),
    "600 steps, rate 0.00025": partial(measure, 6, 2.5e-4),
    "600 steps, rate 0.004": partial(measure, 6, 4e-3),
}
EXPERIMENTS = {"gradient-noise": Experiment(CONDITIONS, seeds=5)}
