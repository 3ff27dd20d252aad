"""How each of the shipped weights is trained: data set, architecture, loss, rates and measurement, by name."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from companion import runtime
from companion.autoencoder import (
    contractive_loss,
    conv_autoencoder,
    denoising_loss,
    mlp_autoencoder,
    reconstruction_loss,
    robust_loss,
)
from companion.data import binarize
from companion.ddpm import Ddpm, image_ddpm, single_step_elbo
from companion.ddpm import denoising_loss as diffusion_loss
from companion.denoisers import NoisePredictor, VPredictor
from companion.elbo import LatentChain, elbo_loss, elbo_terms, importance_weighted_loss
from companion.guidance import classifier_free_loss
from companion.hierarchical_vae import HierarchicalVae
from companion.ladders import conv_ladder, mlp_ladder
from companion.metrics import bits_per_dim, log_likelihood
from companion.networks.classifier import DigitClassifier
from companion.networks.embeddings import FourierEmbedding
from companion.networks.mlp import TimeMlp
from companion.networks.unet import UNet, large_unet, mnist_unet
from companion.schedule import linear_schedule
from companion.score import (
    NoiseConditionalScore,
    denoising_score_matching_loss,
    geometric_noise_levels,
)
from companion.training import Loss
from companion.vae import (
    DiscretizedGaussianLikelihood,
    GaussianLikelihood,
    Vae,
    conv_vae,
    gray_cross_entropy_loss,
    mlp_vae,
)
from companion.variances import bound_weights
from companion.zoo.checkpoints import load_weights


def cosine(progress: float) -> float:
    """Learning rate along half a cosine, from 1 down to 1/100 of the recipe's."""
    return 0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2


def scene_vae() -> Vae:
    """A VAE of `companion.data.scenes`; colors spread by 0.16 there, and by 0.1 here given z."""
    return conv_vae(8, image_shape=(3, 32, 32), observation_model=GaussianLikelihood(0.1))


def color_vae() -> Vae:
    """A VAE of photographs with 32 x 32 pixels in 256 levels of red, green and blue."""
    likelihood = DiscretizedGaussianLikelihood(0.1, learned=True)
    return conv_vae(128, 64, (3, 32, 32), likelihood)


def color_ladder() -> HierarchicalVae:
    """A ladder for photographs: eight maps below a vector, the finest of half the side."""
    return conv_ladder(
        latent_dim=64,
        latent_channels=8,
        levels=(2, 3, 3),
        channels=(64, 128, 256),
        image_shape=(3, 32, 32),
        observation_model=DiscretizedGaussianLikelihood(0.1, learned=True),
    )


def color_ddpm() -> Ddpm:
    """A DDPM of photographs with 6 million parameters."""
    return image_ddpm(large_unet((3, 32, 32)))


def halved(x: Tensor) -> Tensor:
    """Points of the toy densities, with a variance near 1."""
    return x / 2


def toy_ddpm() -> Ddpm:
    """A DDPM of points in the plane, 100 steps; its network estimates the noise."""
    schedule = linear_schedule(100, 1e-3, 0.2)
    denoiser = NoisePredictor(TimeMlp(2, (128, 128, 128)), schedule)
    return Ddpm(denoiser, schedule, (2,), schedule.beta)


def digits_ddpm() -> Ddpm:
    """A DDPM of digits of 8 x 8 pixels, small enough for tests; its network estimates the noise."""
    network = UNet((1, 8, 8), 16, (1, 2), blocks=1)
    return image_ddpm(network, predictor=NoisePredictor, levels=17)


def mnist_ddpm() -> Ddpm:
    """A DDPM of digits with 1.9 million parameters."""
    return image_ddpm(mnist_unet())


@cache
def digit_encoder() -> Vae:
    """The shipped VAE with 16 latents, to be used and not trained."""
    vae = conv_vae()
    load_weights("conv-vae-mnist", vae.requires_grad_(False).eval())
    return runtime.to_device(vae)


def codes(x: Tensor) -> Tensor:
    """Draws from q(z|x) of the shipped VAE, for pictures that are binarized first."""
    return digit_encoder().posterior(binarize(x)).sample()


def latent_ddpm() -> Ddpm:
    """A DDPM of the 16 latents of a VAE; its network estimates v."""
    schedule = linear_schedule(1000)
    network = TimeMlp(16, (256, 256, 256, 256), width=128)
    return Ddpm(VPredictor(network, schedule), schedule, (16,), schedule.beta)


def classes_ddpm() -> Ddpm:
    """A DDPM of digits that can be told which digit it is."""
    return image_ddpm(mnist_unet(num_classes=10))


def digit_score() -> NoiseConditionalScore:
    """A model of the scores of noisy digits on [-1, 1], 1.3 million parameters.

    Two digits are about 20 apart, as vectors; noise of 0.05 cannot be seen.
    """
    waves = partial(FourierEmbedding, std=0.25)
    network = UNet((1, 28, 28), 32, (1, 2, 3), blocks=1, embedding=waves)
    return NoiseConditionalScore(network, geometric_noise_levels(20.0, 0.05, 60))


def relaxing(progress: float) -> dict[str, float]:
    """A weight of the divergence that falls from 100 to 1, by equal factors, until 70 percent are done."""
    return {"beta": 100 ** (1 - min(1.0, progress / 0.7))}


def warming(progress: float) -> dict[str, float]:
    """A weight that rises until 30 percent are done, and one free nat for each level in the first half."""
    return {"beta": min(1.0, progress / 0.3), "free_nats": 1.0 if progress < 0.5 else 0.0}


def minus_log_likelihood(model: LatentChain, x: Tensor, num_samples: int = 100) -> Tensor:
    """Minus log p(x), by default estimated by L_100: enough to compare models, and soon done."""
    return -log_likelihood(model, x, num_samples)


def symmetric(x: Tensor) -> Tensor:
    """Pictures on [0, 1], moved to [-1, 1]."""
    return 2 * x - 1


def simple_loss(model: Ddpm, x: Tensor) -> Tensor:
    """L_simple, the squared error of the noise."""
    return diffusion_loss(model, x, model.schedule.snr)


def v_loss(model: Ddpm, x: Tensor) -> Tensor:
    """Squared error of v."""
    return diffusion_loss(model, x, 1 / model.schedule.noise_var)


def v_loss_of_classes(model: Ddpm, x: Tensor, label: Tensor) -> Tensor:
    """Squared error of v, with labels of which a tenth is dropped."""
    return classifier_free_loss(model, x, label, 1 / model.schedule.noise_var)


def bound_loss(model: Ddpm, x: Tensor) -> Tensor:
    """Minus the bound over T, but for a constant, where the likelihood is Gaussian."""
    return diffusion_loss(model, x, bound_weights(model.schedule, model.reverse_var).x_0)


def cross_entropy(model: nn.Module, x: Tensor, label: Tensor) -> Tensor:
    """Minus the log-probability of the right class, in nats."""
    return F.cross_entropy(model(x), label, reduction="none")


def mistakes(model: nn.Module, x: Tensor, label: Tensor) -> Tensor:
    """1 where the likeliest class is wrong, else 0."""
    return (model(x).argmax(1) != label).double()


def minus_bound(model: Ddpm, x: Tensor) -> Tensor:
    """Minus the bound on log p(x), all its terms."""
    return -elbo_terms(model, x).elbo


def bits_of_bound(model: Ddpm, x: Tensor, *labels: Tensor, num_times: int = 8) -> Tensor:
    """Minus the bound on log p(x), in bits per dimension, from random steps: mostly those that cost most.

    A network of classes is not told them.
    """
    weights = 1 / torch.arange(model.num_latents + 1).clamp(min=1)
    nats = [single_step_elbo(model, x, weights) for _ in range(num_times)]
    return bits_per_dim(-torch.stack(nats).mean(0), x[0].numel())


def bits_of_log_likelihood(model: LatentChain, x: Tensor, num_samples: int = 10) -> Tensor:
    """Minus log p(x), estimated by L_10, in bits per dimension."""
    nats = minus_log_likelihood(model, x, num_samples)
    return bits_per_dim(nats, x[0].numel())


def squared_error_of_means(model: Vae, x: Tensor) -> Tensor:
    """Squared error of the decoder's mean at the mean of q(z|x), summed over the picture."""
    mean = model.likelihood(model.posterior(x).mean).mean
    return (mean - x).square().flatten(1).sum(1)


@dataclass(frozen=True)
class Recipe:
    """All that decides one training: data set, architecture, what is minimized, what is measured on the test split.

    Attributes:
        data: a name that `load` accepts, "scenes", or one of `toy_density`.
        model: builds the model.
        loss: what is minimized, one value per example; it is given the labels, too, if `labels` is set.
        metric: what is measured on the test split, one value per example; given the same as the loss.
        metric_text: what that is, with its unit.
        epochs: passes over the training split.
        batch_size: examples in a batch.
        lr: learning rate of Adam at the start.
        schedule: factor of the learning rate when a share of the steps, from 0 to 1, is done.
        options: keyword arguments of `loss` when a share of the steps is done.
        labels: whether the examples' labels are needed.
        ema: decay of an average of the weights, which is what is stored; None for the last weights.
        prepare: what each batch, and the test split, goes through first; it may be random.
        start: name of shipped weights to start from, in place of random ones; what they lack stays random.
        num_test: how many test examples are measured, the first ones; None for all.
        seed: of initialization, batches and noise, and again of the measurement.
    """

    data: str
    model: Callable[[], nn.Module]
    loss: Loss
    metric: Loss = reconstruction_loss
    metric_text: str = "squared error of a test picture, summed over its pixels"
    epochs: int = 10
    batch_size: int = 128
    lr: float = 1e-3
    schedule: Callable[[float], float] = lambda progress: 1.0
    options: Callable[[float], dict[str, float]] = lambda progress: {}
    labels: bool = False
    ema: float | None = None
    prepare: Callable[[Tensor], Tensor] = lambda x: x
    start: str | None = None
    num_test: int | None = None
    seed: int = 0


# Black-and-white digits, drawn anew for each batch.
BINARY_MNIST = partial(
    Recipe,
    "mnist",
    metric=minus_log_likelihood,
    metric_text="minus log p(x) of a binarized test picture, in nats, estimated by L_100",
    prepare=binarize,
    schedule=cosine,
    batch_size=100,
)

SCENES = partial(
    Recipe,
    "scenes",
    scene_vae,
    elbo_loss,
    metric=squared_error_of_means,
    metric_text="squared error of a test picture, decoded from the mean of q, summed over its values",
    epochs=30,
    batch_size=100,
    lr=4e-3,
    schedule=cosine,
)

LADDER = partial(BINARY_MNIST, loss=elbo_loss, epochs=250, batch_size=256, lr=3e-3, options=warming)

DDPM = partial(
    Recipe,
    loss=v_loss,
    metric=bits_of_bound,
    metric_text="minus the bound on log p(x) of a test picture of 256 levels, in bits per dimension, from 8 steps",
    batch_size=64,
    schedule=cosine,
    ema=0.999,
    prepare=symmetric,
)

POINTS = partial(
    DDPM,
    "mixture",
    toy_ddpm,
    metric=minus_bound,
    metric_text="minus the bound on log p(x) of a test point, in nats",
    epochs=60,
    batch_size=500,
    lr=2e-3,
    prepare=halved,
)

RECIPES = {
    "ae-mnist": Recipe("mnist", mlp_autoencoder, reconstruction_loss),
    "dae-mnist": Recipe("mnist", mlp_autoencoder, denoising_loss),
    "cae-mnist": Recipe("mnist", mlp_autoencoder, contractive_loss),
    "robust-ae-mnist": Recipe("mnist", mlp_autoencoder, robust_loss),
    "conv-ae-mnist": Recipe("mnist", conv_autoencoder, reconstruction_loss),
    "gray-vae-mnist": Recipe(
        "mnist",
        partial(mlp_vae, latent_dim=20, hidden=(400,), activation=nn.ReLU),
        gray_cross_entropy_loss,
        metric=gray_cross_entropy_loss,
        metric_text="cross-entropy of a test picture's gray levels plus KL, in nats; no likelihood",
    ),
    "vae-mnist": BINARY_MNIST(mlp_vae, elbo_loss, epochs=1000),
    "vae2d-mnist": BINARY_MNIST(partial(mlp_vae, latent_dim=2), elbo_loss, epochs=200, lr=2e-3),
    "conv-vae-mnist": BINARY_MNIST(conv_vae, elbo_loss, epochs=100),
    "iwae-mnist": BINARY_MNIST(
        mlp_vae, partial(importance_weighted_loss, num_samples=50), epochs=24, start="vae-mnist"
    ),
    "hvae-mnist": LADDER(mlp_ladder),
    # The same recipe with fewer levels, to compare with.
    "hvae2-mnist": LADDER(partial(mlp_ladder, (64, 32), (512, 256))),
    "hvae1-mnist": LADDER(partial(mlp_ladder, (64,), (512,))),
    # Its samples are dear: all test pictures would take a core about twenty minutes.
    "conv-hvae-mnist": BINARY_MNIST(
        conv_ladder,
        elbo_loss,
        metric_text="minus log p(x) of the first 2000 binarized test pictures, in nats, estimated by L_100",
        num_test=2000,
        epochs=40,
        batch_size=128,
        lr=2e-3,
        options=warming,
    ),
    "ddpm-mnist": DDPM("mnist", mnist_ddpm, epochs=16),
    "ddpm-mnist-classes": DDPM(
        "mnist",
        classes_ddpm,
        loss=v_loss_of_classes,
        epochs=6,
        lr=5e-4,
        labels=True,
        start="ddpm-mnist",
    ),
    # As Ho et al. train: the network estimates the noise.
    "ddpm-digits": DDPM(
        "digits",
        digits_ddpm,
        loss=simple_loss,
        metric_text="minus the bound on log p(x) of a test picture of 17 levels, in bits per dimension, from 8 steps",
        epochs=400,
        lr=2e-3,
    ),
    # In the latent space of a VAE.
    "ldm-mnist": DDPM(
        "mnist",
        latent_ddpm,
        metric=minus_bound,
        metric_text="minus the bound on the log-density of a code of a test picture, in nats",
        epochs=100,
        batch_size=256,
        prepare=codes,
    ),
    "ddpm-toy2d": POINTS(loss=simple_loss),
    # The same training, of which the weights of the loss alone differ.
    "ddpm-toy2d-bound": POINTS(loss=bound_loss),
    "score-mnist": DDPM(
        "mnist",
        digit_score,
        loss=denoising_score_matching_loss,
        metric=denoising_score_matching_loss,
        metric_text="half the squared error of the noise in a test picture at a random level, summed over pixels",
        epochs=4,
    ),
    # It judges what the models draw.
    "classifier-mnist": Recipe(
        "mnist",
        DigitClassifier,
        cross_entropy,
        metric=mistakes,
        metric_text="share of the test pictures that it takes for another digit",
        epochs=12,
        schedule=cosine,
        lr=2e-3,
        labels=True,
    ),
    # For a GPU: photographs in all their 256 levels.
    "vae-cifar10": Recipe(
        "cifar10",
        color_vae,
        elbo_loss,
        metric=minus_log_likelihood,
        metric_text="minus log p(x) of a test picture of 256 levels, in nats, estimated by L_100",
        epochs=200,
        batch_size=128,
        schedule=cosine,
    ),
    "conv-hvae-cifar10": Recipe(
        "cifar10",
        color_ladder,
        elbo_loss,
        metric=bits_of_log_likelihood,
        metric_text="minus log p(x) of a test picture of 256 levels, in bits per dimension, estimated by L_10",
        epochs=100,
        batch_size=128,
        schedule=cosine,
        options=warming,
        ema=0.999,
    ),
    "ddpm-cifar10": DDPM("cifar10", color_ddpm, epochs=200, batch_size=128, lr=5e-4),
    "vae-scenes": SCENES(),
    "beta-vae-scenes": SCENES(options=relaxing),
}

DIFFUSIONS = [name for name in RECIPES if RECIPES[name].metric is bits_of_bound]
"""The names of the diffusion models of pictures."""
