"""Chapter 8: what keeps the upper levels of a hierarchy active?"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, kl_divergence
from torch.optim import Adam
from torch.optim.lr_scheduler import LambdaLR

from companion.data import Batches, binarize, load
from companion.distributions import diagonal_normal, evidence_alone, normal_product
from companion.elbo import ElboTerms, elbo_terms
from companion.experiments.base import Condition, Experiment
from companion.hierarchical_vae import HierarchicalVae
from companion.ladders import conv_ladder, mlp_ladder
from companion.training import fit
from companion.zoo.recipes import cosine

DIMS, WIDTHS = (16, 8, 4), (128, 64, 32)
FORMS = ("independent", "sees above", "bottom-up", "shared")
Terms = Callable[[Any, Tensor], ElboTerms]


@cache
def digits() -> tuple[Tensor, Tensor]:
    """Training digits, and the first 2,000 test digits in black and white."""
    return load("mnist", "train").images, binarize(load("mnist", "test").images[:2000])


@cache
def small_digits() -> tuple[Tensor, Tensor]:
    """The same with 16 x 16 pixels, and 1,000 of them to test."""
    shrink = nn.Sequential(nn.AvgPool2d(2), nn.ZeroPad2d(1))
    test = load("mnist", "test").images[:1000]
    return shrink(load("mnist", "train").images), binarize(shrink(test))


def gaussian(code: Tensor) -> Distribution:
    """A diagonal Gaussian from mean and log-precision, bounded as in a ladder."""
    mean, log_precision = code.chunk(2, dim=1)
    return diagonal_normal(mean, torch.exp(-5 * torch.tanh(log_precision / 10)))


class SeesAbove(HierarchicalVae):
    """q(z_t | z_{t+1}, x) by a network that takes nothing from the prior."""

    top_down: nn.ModuleList

    def inner(
        self, t: int, z_above: Float[Tensor, "batch above"], *features: Tensor
    ) -> tuple[Distribution, Distribution]:
        """Posterior and prior of z_t."""
        seen = torch.cat([features[t - 1], z_above], dim=1)
        return gaussian(self.top_down[t - 1](seen)), self.inner_prior(t, z_above)


class BottomUp(HierarchicalVae):
    """q(z_{t+1} | z_t); its bound is that of `bottom_up_terms`."""

    climb: nn.ModuleList


def bottom_up_terms(model: BottomUp, x: Tensor) -> ElboTerms:
    """The bound with q(z_1|x) q(z_2|z_1) q(z_3|z_2), and what each level costs in it."""
    q = [gaussian(model.evidence[0](model.encode(x)[0]))]
    z = [q[0].rsample()]
    for network in model.climb:
        q.append(gaussian(network(z[-1])))
        z.append(q[-1].rsample())
    cost = [q[t].log_prob(z[t]) - model.inner_prior(t + 1, z[t + 1]).log_prob(z[t]) for t in (0, 1)]
    cost.append(kl_divergence(q[2], model.prior(len(x))))
    return ElboTerms(model.likelihood(z[0]).log_prob(x), torch.stack(cost, 1))


def hierarchy(form: str) -> tuple[HierarchicalVae, Terms]:
    """An untrained hierarchy with this form of q, and the function of its bound."""
    combine = normal_product if form == "shared" else evidence_alone
    ladder = mlp_ladder(DIMS, WIDTHS, combine=combine)
    parts: list[Any] = [[*each] for each in (ladder.bottom_up, ladder.evidence, ladder.priors)]
    parts += [ladder.decoder, ladder.observation_model, ladder.latent_shapes]
    if form == "sees above":
        sees_above = SeesAbove(*parts)
        sizes = [(128 + 8, 2 * 16), (64 + 4, 2 * 8)]
        sees_above.top_down = nn.ModuleList([nn.Linear(*size) for size in sizes])
        return sees_above, elbo_terms
    if form == "bottom-up":
        bottom_up = BottomUp(*parts)
        bottom_up.climb = nn.ModuleList(
            nn.Sequential(nn.Linear(below, width), nn.SiLU(), nn.Linear(width, 2 * dim))
            for below, width, dim in [(16, 64, 8), (8, 32, 4)]
        )
        return bottom_up, bottom_up_terms
    return ladder, elbo_terms


def without_normalization(model: nn.Module) -> None:
    """Replace every batch normalization by nothing."""
    for block in [*model.modules()]:
        for name, layer in block.named_children():
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                setattr(block, name, nn.Identity())


def fitted(
    model: HierarchicalVae,
    terms_of: Terms,
    data: tuple[Tensor, Tensor],
    batches: Batches,
    lr: float,
    remedy: str,
) -> dict[str, float]:
    """Bound and KL of each level on the test digits, in nats, after training; the rate falls along half a cosine.

    The remedies are a weight of the KL that rises to 1 during the first 30 percent of the steps, and a first nat of
    each level that costs nothing in the first half of them.
    """
    share = 0.0
    optimizer = Adam(model.parameters(), lr=lr, fused=True)
    scheduler = LambdaLR(optimizer, lambda step: cosine(min(1.0, step / len(batches))))

    def loss(model: HierarchicalVae, x: Tensor) -> Tensor:
        terms = terms_of(model, binarize(x))
        free = 1.0 if "free bits" in remedy and share < 0.5 else 0.0
        kl = torch.where(terms.kl.mean(0) < free, free, terms.kl)
        beta = min(1.0, share / 0.3) if "warm-up" in remedy else 1.0
        return beta * kl.sum(1) - terms.log_likelihood

    for step in fit(model, loss, batches, optimizer):
        scheduler.step()
        share = step.number / len(batches)
    model.eval()
    with torch.no_grad():
        terms = terms_of(model, data[1])
    levels = {f"level {t}": value for t, value in enumerate(terms.kl.mean(0).tolist(), 1)}
    return {"bound": terms.elbo.mean().item(), **levels, "top": terms.kl[:, -1].mean().item()}


def perceptrons(
    form: str, remedy: str, normalized: bool, lr: float, epochs: int, seed: int
) -> dict[str, float]:
    """Three levels of 16, 8 and 4 latents, trained on all digits."""
    model, terms_of = hierarchy(form)
    if not normalized:
        without_normalization(model)
    batches = Batches(digits()[0], batch_size=200, num_epochs=epochs, seed=seed)
    return fitted(model, terms_of, digits(), batches, lr, remedy)


def convolutions(
    remedy: str, normalized: bool, lr: float, epochs: int, seed: int
) -> dict[str, float]:
    """The four levels of `conv_ladder` on 12,800 digits of 16 x 16 pixels."""
    model = conv_ladder(image_shape=(1, 16, 16))
    if not normalized:
        without_normalization(model)
    batches = Batches(small_digits()[0][:12_800], batch_size=64, num_epochs=epochs, seed=seed)
    return fitted(model, elbo_terms, small_digits(), batches, lr, remedy)


LR, EPOCHS = 4e-3, 6
REMEDIES = ("", "warm-up", "free bits")
CONDITIONS: dict[str, Condition] = {
    form + f", {remedy}" * bool(remedy): partial(perceptrons, form, remedy, True, LR, EPOCHS)
    for form in FORMS
    for remedy in REMEDIES
}
for each in ("independent", "shared"):
    for rate in (1e-3, 1.6e-2):
        CONDITIONS[f"{each}, rate {rate}"] = partial(perceptrons, each, "", True, rate, EPOCHS)
    CONDITIONS[f"{each}, 24 epochs"] = partial(perceptrons, each, "", True, LR, 24)
    CONDITIONS[f"{each}, no normalization"] = partial(perceptrons, each, "", False, LR, EPOCHS)
    CONDITIONS[f"{each}, no normalization, rate 0.001"] = partial(
        perceptrons, each, "", False, 1e-3, EPOCHS
    )
CONDITIONS["shared, no normalization, warm-up"] = partial(
    perceptrons, "shared", "warm-up", False, LR, EPOCHS
)
BLOCKS: dict[str, Condition] = {
    "normalized": partial(convolutions, "", True, 2e-3, 3),
    "plain": partial(convolutions, "", False, 2e-3, 3),
    "plain, rate 0.0005": partial(convolutions, "", False, 5e-4, 3),
    "plain, rate 0.008": partial(convolutions, "", False, 8e-3, 3),
    "normalized, warm-up and free bits": partial(convolutions, "warm-up, free bits", True, 2e-3, 6),
    "plain, warm-up and free bits": partial(convolutions, "warm-up, free bits", False, 2e-3, 6),
}
EXPERIMENTS = {"levels": Experiment(CONDITIONS), "conv-levels": Experiment(BLOCKS)}
