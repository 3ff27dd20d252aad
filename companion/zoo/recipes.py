"""How each of the shipped weights is trained: data set, architecture, loss, rates and measurement, by name."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from companion import autoencoder, checks
from companion.data import binarize, to_symmetric, to_unit
from companion.elbo import elbo_loss, importance_weighted_loss
from companion.flows import flow_matching_loss
from companion.ladders import conv_ladder, mlp_ladder
from companion.masked import masked_loss
from companion.mean_flows import mean_flow_loss
from companion.networks.classifier import DigitClassifier, ResidualDigitClassifier
from companion.training import Loss
from companion.vae import conv_vae, gray_cross_entropy_loss, mlp_vae
from companion.zoo import architectures, losses, measures, obedience
from companion.zoo.measures import Measure
from companion.zoo.sources import CIFAR10, DIGITS, LANDSCAPES, MIXTURE, MNIST, SCENES, Source


def cosine(progress: float) -> float:
    """Learning rate along half a cosine, from 1 down to 1/100 of the recipe's."""
    return 0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2


def relaxing(progress: float) -> dict[str, float]:
    """A weight of the KL that falls from 100 to 1, by equal factors, until 70 percent are done."""
    return {"beta": 100 ** (1 - min(1.0, progress / 0.7))}


def warming(progress: float) -> dict[str, float]:
    """A weight that rises until 30 percent are done, and one free nat for each level in the first half."""
    return {"beta": min(1.0, progress / 0.3), "free_nats": 1.0 if progress < 0.5 else 0.0}


RECONSTRUCTION = Measure(
    autoencoder.reconstruction_loss, "squared error of a test image, summed over its pixels"
)
LIKELIHOOD = partial(Measure, measures.negative_log_likelihood, num_samples=100)
BITS_OF_BOUND = (
    "minus the bound on log p(x) of a test image of {} levels, in bits per dimension, from 8 steps"
)


@dataclass(frozen=True)
class Recipe:
    """All that decides one training: data set, architecture, what is minimized, what is measured on the test split.

    Loss and metric give one value per example, and are given the labels, too, if `labels` is set. `progress` is the
    share of the steps, from 0 to 1, that is done.
    """

    data: Source
    model: Callable[[], nn.Module]
    loss: Loss
    metric: Measure = RECONSTRUCTION
    epochs: int = 10  # passes over the training split
    batch_size: int = 128
    lr: float = 1e-3  # of Adam, at the start
    schedule: Callable[[float], float] = lambda progress: 1.0  # factor of the learning rate
    # Keyword arguments of the loss.
    options: Callable[[float], dict[str, float]] = lambda progress: {}
    labels: bool = False
    ema: float | None = None  # decay of an average of the weights, which then is what is stored
    # What each batch, and the test split, goes through first; it may be random.
    prepare: Callable[[Tensor], Tensor] = lambda x: x
    # From what the model draws back to data, such as images on [0, 1].
    restore: Callable[[Tensor], Tensor] = lambda x: x
    start: str | None = None  # weights to start from; what they lack stays random
    num_test: int | None = None  # how many test examples are measured, the first ones; None for all
    seed: int = 0  # of initialization, batches and noise, and again of the measurement
    # Whether a CUDA graph may start the loss: its numbers depend on tensors of the GPU alone, and on no `progress`.
    captured: bool = False

    def examples(self, split: str, fallback: bool = False) -> tuple[Tensor, ...]:
        """The examples of a split, and their labels if the recipe needs them; as `Source.examples`."""
        return self.data.examples(split, fallback)[: 2 if self.labels else 1]


def recipe(name: str) -> Recipe:
    """The recipe of this name; raises ValueError if there is none."""
    checks.one_of(RECIPES, name=name)
    return RECIPES[name]


CODER = partial(Recipe, MNIST, autoencoder.mlp_autoencoder)

# Black-and-white digits, drawn anew for each batch.
BINARY_MNIST = partial(
    Recipe,
    MNIST,
    metric=LIKELIHOOD(
        "minus log p(x) of a binarized test image, in nats, estimated by L_{num_samples}"
    ),
    prepare=binarize,
    schedule=cosine,
    batch_size=100,
    captured=True,
)

SCENE_VAE = partial(
    Recipe,
    data=SCENES,
    model=architectures.scene_vae,
    loss=elbo_loss,
    metric=Measure(
        measures.squared_error_of_means,
        "squared error of a test image, decoded from the mean of q, summed over its values",
    ),
    epochs=30,
    batch_size=100,
    lr=4e-3,
    schedule=cosine,
)

# Last epochs on the importance-weighted bound, or as many on the bound.
IWAE = partial(BINARY_MNIST, mlp_vae, epochs=24, start="vae-mnist")
FIFTY = partial(importance_weighted_loss, num_samples=50)

WARMING: dict[str, Any] = {"options": warming, "captured": False}
LADDER = partial(BINARY_MNIST, loss=elbo_loss, epochs=250, batch_size=256, lr=3e-3, **WARMING)
LAST_OF_LADDER = partial(BINARY_MNIST, mlp_ladder, epochs=130, batch_size=256, start="hvae-mnist")

DDPM = partial(
    Recipe,
    loss=losses.v_loss,
    metric=Measure(measures.bits_of_elbo, BITS_OF_BOUND.format(256)),
    batch_size=64,
    schedule=cosine,
    ema=0.999,
    prepare=to_symmetric,
    restore=to_unit,
    captured=True,
)

# From a sentence to the maps of the first stage.
TEXT = partial(
    DDPM,
    data=LANDSCAPES,
    model=architectures.text_ddpm,
    loss=losses.text_loss,
    metric=Measure(
        obedience.disobeyed,
        "fraction of the attributes that a landscape, drawn in 20 DDIM steps at guidance scale 2 for a sentence "
        "about a test image, does not have",
    ),
    labels=True,
    captured=False,  # the sentences are drawn on the CPU
    num_test=500,
    epochs=12,
    ema=0.9995,
    prepare=architectures.landscape_codes,
    restore=architectures.decoded_landscapes,
)

# One network for digits with and without their class.
JOINT = partial(DDPM, MNIST, architectures.joint_ddpm, labels=True, ema=0.9995)

SMALL = partial(DDPM, DIGITS, epochs=400, lr=2e-3)
MEAN_FLOW: dict[str, Any] = {
    "captured": False,  # a gradient in forward mode
    "loss": mean_flow_loss,
    "metric": Measure(
        measures.instant_velocity_error,
        "squared error of the velocity, the average of no step, summed over dimensions, from 8 times",
    ),
}

POINTS = partial(
    DDPM,
    MIXTURE,
    model=architectures.toy_ddpm,
    metric=Measure(measures.negative_elbo, "minus the bound on log p(x) of a test point, in nats"),
    epochs=60,
    batch_size=500,
    lr=2e-3,
    # So that the variance is near 1.
    prepare=lambda x: x / 2,
    restore=lambda x: 2 * x,
)

CLASSIFIER = partial(Recipe, MNIST, epochs=12, schedule=cosine, lr=2e-3, labels=True)
MISSED = Measure(measures.taken_for_no_digit, "share of the test images that it takes for no digit")
JUDGE = partial(CLASSIFIER, loss=measures.cross_entropy_with_rejects, metric=MISSED, epochs=16)

RECIPES = {
    "ae-mnist": CODER(autoencoder.reconstruction_loss),
    "dae-mnist": CODER(autoencoder.denoising_reconstruction_loss),
    "cae-mnist": CODER(autoencoder.contractive_loss),
    "robust-ae-mnist": CODER(autoencoder.robust_loss),
    "conv-ae-mnist": Recipe(MNIST, autoencoder.conv_autoencoder, autoencoder.reconstruction_loss),
    "gray-vae-mnist": Recipe(
        MNIST,
        partial(mlp_vae, latent_dim=20, hidden=(400,), activation=nn.ReLU),
        gray_cross_entropy_loss,
        metric=Measure(
            gray_cross_entropy_loss,
            "cross-entropy of a test image's gray levels plus KL, in nats; no likelihood",
        ),
    ),
    "vae-mnist": BINARY_MNIST(mlp_vae, elbo_loss, epochs=1000),
    "vae2d-mnist": BINARY_MNIST(partial(mlp_vae, latent_dim=2), elbo_loss, epochs=200, lr=2e-3),
    "conv-vae-mnist": BINARY_MNIST(conv_vae, elbo_loss, epochs=100),
    "iwae-mnist": IWAE(FIFTY),
    # And many more, on a GPU, to tell whether they are what is missing: 588 were done when its time was over.
    "iwae-mnist-long": IWAE(FIFTY, epochs=716, batch_size=400, lr=2e-3, start="iwae-mnist"),
    # As long as iwae-mnist with K = 1, to tell what the further epochs do.
    "iwae1-mnist": IWAE(elbo_loss),
    "hvae-mnist": LADDER(mlp_ladder),
    # The same recipe with fewer levels, to compare with.
    "hvae2-mnist": LADDER(partial(mlp_ladder, (64, 32), (512, 256))),
    "hvae1-mnist": LADDER(partial(mlp_ladder, (64,), (512,))),
    # Second trainings, to tell the levels from the seed.
    "hvae-mnist-2": LADDER(mlp_ladder, seed=1),
    "hvae2-mnist-2": LADDER(partial(mlp_ladder, (64, 32), (512, 256)), seed=1),
    "hvae1-mnist-2": LADDER(partial(mlp_ladder, (64,), (512,)), seed=1),
    # Last epochs on the importance-weighted bound, and as many on the bound.
    "iw-hvae-mnist": LAST_OF_LADDER(partial(importance_weighted_loss, num_samples=10)),
    "iw1-hvae-mnist": LAST_OF_LADDER(elbo_loss),
    # Its samples are dear: all test images would take a core about twelve minutes.
    "conv-hvae-mnist": LADDER(
        conv_ladder,
        metric=LIKELIHOOD(
            "minus log p(x) of the first 2000 binarized test images, in nats, "
            "estimated by L_{num_samples}"
        ),
        num_test=2000,
        epochs=40,
        batch_size=128,
        lr=2e-3,
        ema=0.999,
    ),
    # Last epochs of the convolutional ladder on the importance-weighted bound.
    "iw-conv-hvae-mnist": BINARY_MNIST(
        conv_ladder,
        partial(importance_weighted_loss, num_samples=5),
        epochs=10,
        batch_size=128,
        ema=0.999,
        start="conv-hvae-mnist",
    ),
    # The same digits, unit and bound as the VAEs and ladders above; the latents are symbols.
    "masked-mnist": BINARY_MNIST(
        architectures.mnist_masked,
        masked_loss,
        metric=Measure(
            measures.negative_masked_elbo,
            "minus the bound on log p(x) of a binarized test image, in nats, from 20 times",
        ),
        epochs=26,
        batch_size=128,
        lr=2e-3,
        ema=0.999,
        captured=False,  # the values of its symbols come from the CPU
    ),
    "ddpm-mnist": DDPM(MNIST, architectures.mnist_ddpm, epochs=16),
    # Of half the digits it is told the class.
    "ddpm-mnist-joint": JOINT(loss=losses.joint_loss, epochs=24),
    # More epochs from its weights, most of them spent where the digit is decided, or next to the data.
    "ddpm-mnist-long": JOINT(
        loss=losses.three_parts_loss, epochs=27, lr=5e-4, start="ddpm-mnist-joint"
    ),
    # The same again on a GPU, to tell whether epochs are what is missing.
    "ddpm-mnist-longer": JOINT(
        loss=losses.three_parts_loss, epochs=64, batch_size=256, lr=1e-3, start="ddpm-mnist-long"
    ),
    # A smaller one that has learned little, for autoguidance.
    "guide-mnist": DDPM(
        MNIST, architectures.guide_ddpm, loss=losses.joint_loss, epochs=2, labels=True
    ),
    # As Ho et al. train: the network estimates the noise.
    "ddpm-digits": SMALL(
        architectures.digits_ddpm,
        loss=losses.simple_loss,
        metric=Measure(measures.bits_of_elbo, BITS_OF_BOUND.format(17)),
    ),
    # As ddpm-digits: only what the network learns is another, and when it is asked.
    "flow-digits": SMALL(
        architectures.digits_flow,
        loss=flow_matching_loss,
        metric=Measure(
            measures.velocity_error,
            "squared error of the velocity of a test image, summed over its pixels, from 8 times",
        ),
    ),
    # As flow-digits, but what the network learns leads from noise to a digit in one step.
    "mean-flow-digits": SMALL(architectures.digits_mean_flow, **MEAN_FLOW, epochs=1000),
    # In the latent space of a VAE.
    "ldm-mnist": DDPM(
        MNIST,
        architectures.latent_ddpm,
        metric=Measure(
            measures.negative_elbo,
            "minus the bound on the log-density of a code of a test image, in nats",
        ),
        epochs=100,
        batch_size=256,
        prepare=architectures.codes,
        restore=architectures.decoded,
    ),
    "ddpm-toy2d": POINTS(loss=losses.simple_loss),
    # The same training, of which the weights of the loss alone differ.
    "ddpm-toy2d-bound": POINTS(loss=losses.bound_loss),
    "mean-flow-toy2d": POINTS(model=architectures.toy_mean_flow, **MEAN_FLOW),
    # It judges what the models draw.
    "classifier-mnist": CLASSIFIER(
        DigitClassifier,
        measures.cross_entropy,
        Measure(measures.misclassified, "share of the test images that it takes for another digit"),
    ),
    # They refuse what is no digit: two, since what one alone says of a model may be a habit of that one.
    "judge-mnist": JUDGE(partial(DigitClassifier, num_classes=11, widths=(32, 64, 96))),
    "residual-judge-mnist": JUDGE(partial(ResidualDigitClassifier, num_classes=11), seed=1),
    # For a GPU: photographs in all their 256 levels.
    "vae-cifar10": Recipe(
        CIFAR10,
        architectures.color_vae,
        elbo_loss,
        metric=LIKELIHOOD(
            "minus log p(x) of a test image of 256 levels, in nats, estimated by L_{num_samples}"
        ),
        epochs=200,
        schedule=cosine,
        captured=True,
    ),
    "conv-hvae-cifar10": Recipe(
        CIFAR10,
        architectures.color_ladder,
        elbo_loss,
        metric=Measure(
            measures.bits_of_log_likelihood,
            "minus log p(x) of a test image of 256 levels, in bits per dimension, "
            "estimated by L_{num_samples}",
            num_samples=10,
        ),
        epochs=100,
        schedule=cosine,
        options=warming,
        ema=0.999,
    ),
    "ddpm-cifar10": DDPM(CIFAR10, architectures.color_ddpm, epochs=200, batch_size=128, lr=5e-4),
    "ddpm-scenes": DDPM(
        replace(SCENES, num=60_000),
        architectures.scene_ddpm,
        loss=losses.scene_loss,
        metric=Measure(
            measures.squared_error_of_drawings,
            "squared error of an image drawn in 20 DDIM steps for the causes of a test image, "
            "summed over its values",
        ),
        epochs=16,
        labels=True,
        ema=0.9995,
        num_test=500,
        captured=False,  # so does the range of a factor
    ),
    # It judges whether a landscape shows what a sentence says: other images than those, and all combinations.
    "reader-landscapes": Recipe(
        replace(LANDSCAPES, held_out=None, seed=2),
        architectures.attribute_reader,
        measures.reading_loss,
        Measure(
            measures.reading_loss,
            "minus the log-probability of the attributes of a test image with some noise, in nats",
        ),
        epochs=3,
        schedule=cosine,
        lr=2e-3,
        labels=True,
    ),
    # The first stage; the weight of the KL is that of a standard deviation of 0.03 given z.
    "vae-landscapes": replace(
        SCENE_VAE(options=lambda progress: {"beta": 1e-3}, epochs=4, batch_size=64, lr=2e-3),
        data=LANDSCAPES,
        model=architectures.landscape_vae,
    ),
    "text-scenes": TEXT(),
    "text-scenes-64": TEXT(  # for a GPU
        data=replace(LANDSCAPES, pixels=64, x_shape=(3, 64, 64)),
        model=partial(architectures.text_ddpm, 16, width=320, blocks=8),
        epochs=60,
        lr=5e-4,
    ),
    "vae-scenes": SCENE_VAE(),
    "beta-vae-scenes": SCENE_VAE(options=relaxing),
    # Scenes, parameters, minutes and average of the weights as of ddpm-scenes, to compare what the two draw.
    "large-vae-scenes": replace(
        SCENE_VAE(options=relaxing, epochs=90, lr=5e-4, ema=0.9995),
        data=replace(SCENES, num=60_000),
        model=partial(architectures.scene_vae, 64),
    ),
}
