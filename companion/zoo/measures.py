"""What is measured on the test split: one value per example, and what it is in words."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from companion import checks
from companion.data import rejects, to_unit, treated
from companion.ddpm import Ddpm, single_step_elbo
from companion.denoisers import Denoiser
from companion.elbo import LatentChain, elbo_terms
from companion.flows import Flow, flow_matching_loss
from companion.masked import MaskedDiffusion, masked_step_elbo
from companion.mean_flows import MeanFlow, mean_flow_loss
from companion.metrics import bits_per_dim, log_likelihood
from companion.networks.classifier import AttributeReader
from companion.samplers import ddim_sample
from companion.training import Loss
from companion.vae import Vae
from companion.zoo.architectures import told


@dataclass(frozen=True)
class Measure:
    """A measurement: a function that gives one value per example, from what the loss is given."""

    function: Loss
    text: str  # what it measures, with its unit; "{num_samples}" stands for the number of samples
    num_samples: int | None = None  # K of an estimate L_K of log p(x), if it is one

    def __call__(
        self, model: nn.Module, *examples: Shaped[Tensor, "batch ..."]
    ) -> Float[Tensor, "batch"]:
        """The values of a batch."""
        options = {} if self.num_samples is None else {"num_samples": self.num_samples}
        return self.function(model, *examples, **options)

    def __str__(self) -> str:
        return self.text.format(num_samples=self.num_samples)


def negative_log_likelihood(
    model: LatentChain, x: Float[Tensor, "batch *x_shape"], num_samples: int
) -> Float[Tensor, "batch"]:
    """Minus log p(x) in nats, estimated by L_K; a hundred samples are enough to compare models, and soon done."""
    return -log_likelihood(model, x, num_samples)


def bits_of_log_likelihood(
    model: LatentChain, x: Float[Tensor, "batch *x_shape"], num_samples: int
) -> Float[Tensor, "batch"]:
    """Minus log p(x) in bits per dimension, estimated by L_K."""
    return bits_per_dim(negative_log_likelihood(model, x, num_samples), x[0].numel())


def negative_elbo(model: Ddpm, x: Float[Tensor, "batch *x_shape"]) -> Float[Tensor, "batch"]:
    """Minus the bound on log p(x) in nats, all its terms."""
    return -elbo_terms(model, x).elbo


def bits_of_elbo(
    model: Ddpm, x: Float[Tensor, "batch *x_shape"], *labels: Int[Tensor, "batch"], num: int = 8
) -> Float[Tensor, "batch"]:
    """Minus the bound on log p(x) in bits per dimension, from `num` random steps: mostly those with large terms.

    A network that can be conditioned on a class is not given the labels.
    """
    checks.instance(Ddpm, model=model)
    checks.at_least(1, num=num)
    weights = 1 / torch.arange(model.num_latents + 1).clamp(min=1)
    nats = [single_step_elbo(model, x, weights) for _ in range(num)]
    return bits_per_dim(-torch.stack(nats).mean(0), x[0].numel())


def negative_masked_elbo(
    model: MaskedDiffusion, x: Float[Tensor, "batch *x_shape"], num: int = 20
) -> Float[Tensor, "batch"]:
    """Minus the bound on log p(x) in nats, from `num` times that are spread evenly over 1..T for each image."""
    checks.instance(MaskedDiffusion, model=model)
    checks.at_least(1, num=num)
    u, T = torch.rand(len(x), device=x.device), model.num_latents
    times = [((u + k) / num * T).long().clamp(max=T - 1) + 1 for k in range(num)]
    return -T * torch.stack([masked_step_elbo(model, x, t) for t in times]).mean(0)


def velocity_error(
    flow: Flow, x: Float[Tensor, "batch *x_shape"], *labels: Int[Tensor, "batch"]
) -> Float[Tensor, "batch"]:
    """Squared error of the velocity, summed over dimensions: the mean of eight random times.

    A network that can be conditioned on a class is not given the labels.
    """
    return torch.stack([flow_matching_loss(flow, x) for _ in range(8)]).mean(0)


def instant_velocity_error(
    model: MeanFlow, x: Float[Tensor, "batch *x_shape"]
) -> Float[Tensor, "batch"]:
    """`velocity_error` of the velocity that an average velocity has at step 0."""
    return torch.stack([mean_flow_loss(model, x, instant=1.0) for _ in range(8)]).mean(0)


def squared_error_of_means(
    model: Vae, x: Float[Tensor, "batch *x_shape"]
) -> Float[Tensor, "batch"]:
    """Squared error of the decoder's mean at the mean of q(z|x), summed over the image."""
    checks.instance(Vae, model=model)
    mean = model.likelihood(model.posterior(x).mean).mean
    checks.shape(tuple(x.shape), **{"the mean of p(x|z)": mean})
    return (mean - x).square().flatten(1).sum(1)


def squared_error_of_drawings(
    model: Ddpm, x: Float[Tensor, "batch *x_shape"], factors: Float[Tensor, "batch 5"]
) -> Float[Tensor, "batch"]:
    """Squared error of a scene drawn for these factors, summed over the image, with colors on [0, 1]."""
    checks.instance(Ddpm, model=model)
    denoiser = knowing(model.denoiser, told(factors))
    *_, drawn = ddim_sample(denoiser, model.schedule.evenly(20), torch.randn_like(x))
    return (to_unit(drawn) - to_unit(x)).square().flatten(1).sum(1)


def knowing(denoiser: Any, label: Tensor) -> Denoiser:
    """The denoiser of a network that is told this label, without guidance."""

    def x_hat(x_t: Tensor, t: Tensor, /, *condition: Tensor) -> Tensor:
        return denoiser(x_t, t, label, *condition)

    return x_hat


def cross_entropy(
    model: nn.Module, x: Float[Tensor, "batch *x_shape"], label: Int[Tensor, "batch"]
) -> Float[Tensor, "batch"]:
    """Minus the log-probability of the right class, in nats."""
    checks.function(model=model)
    scores = model(x)
    checks.shape((len(x), "classes"), **{"model(x)": scores})
    _check_labels(x, label, scores.shape[1])
    return F.cross_entropy(scores, label.long(), reduction="none")


def cross_entropy_with_rejects(
    model: nn.Module, x: Float[Tensor, "batch *x_shape"], label: Int[Tensor, "batch"]
) -> Float[Tensor, "batch"]:
    """The same of `treated` images, every second of them spoiled on average: its class is then the eleventh, no digit.

    Digits and rejects go through the same shift, blur and contrast, so that these do not tell them apart.
    """
    checks.shape((len(x),), label=label)
    spoiled = torch.rand(len(x), device=x.device) < 0.5
    x = treated(torch.where(spoiled[:, None, None, None], rejects(x), x))
    return cross_entropy(model, x, label.masked_fill(spoiled, 10))


def _check_labels(x: Tensor, label: Tensor, num: float = math.inf) -> None:
    """One of so many classes for each example."""
    checks.tensors(x=x)
    checks.shape((len(x),), label=label)
    checks.integers(label=label)
    if checks.reads_at_once(label):  # torch leaves out the label -100
        checks.within(0, num - 1, label=label)


def reading_loss(
    model: AttributeReader, x: Float[Tensor, "batch 3 32 32"], attributes: Int[Tensor, "batch num"]
) -> Float[Tensor, "batch"]:
    """Minus the log-probability of the right values, in nats, summed over attributes, of images with some noise.

    The noise keeps it from reading what no eye sees, such as what the decoder of a first stage loses.
    """
    checks.instance(AttributeReader, model=model)
    checks.shape((len(x), len(model.sizes)), attributes=attributes)
    checks.integers(attributes=attributes)
    for i, num in enumerate(model.sizes if checks.reads_at_once(attributes) else []):
        checks.within(0, num - 1, **{f"attributes[:, {i}]": attributes[:, i]})
    parts = model(x + 0.05 * torch.randn_like(x)).split(model.sizes, dim=1)
    each = zip(parts, attributes.T.long(), strict=True)
    return torch.stack([F.cross_entropy(*pair, reduction="none") for pair in each]).sum(0)


def misclassified(
    model: nn.Module, x: Float[Tensor, "batch *x_shape"], label: Int[Tensor, "batch"]
) -> Float[Tensor, "batch"]:
    """1 where the likeliest class is wrong, else 0."""
    checks.function(model=model)
    _check_labels(x, label)
    return (model(x).argmax(1) != label).double()


def taken_for_no_digit(
    model: nn.Module, x: Float[Tensor, "batch *x_shape"], label: Int[Tensor, "batch"]
) -> Float[Tensor, "batch"]:
    """1 where the eleventh class, no digit, is the likeliest, else 0."""
    checks.function(model=model)
    _check_labels(x, label)
    return (model(x).argmax(1) == 10).double()
