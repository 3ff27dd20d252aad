"""The models of the recipes, where they are more than one call of a builder, and the latent space of a shipped VAE."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from companion import checks, runtime
from companion.data import ATTRIBUTES, MAX_WORDS, SCENE_FACTORS, VOCABULARY, binarize
from companion.ddpm import Ddpm, image_ddpm
from companion.denoisers import NoisePredictor, VPredictor
from companion.distributions import DiscretizedGaussianLikelihood, GaussianLikelihood
from companion.flows import Flow
from companion.hierarchical_vae import HierarchicalVae
from companion.ladders import conv_ladder
from companion.masked import MaskedDiffusion
from companion.mean_flows import MeanFlow
from companion.networks.classifier import AttributeReader
from companion.networks.conv import map_decoder, map_encoder
from companion.networks.mlp import TimeMlp
from companion.networks.transformer import TextTransformer
from companion.networks.unet import UNet, large_unet, mnist_unet
from companion.schedule import cosine_schedule, linear_schedule
from companion.vae import Vae, conv_vae
from companion.zoo.weights import load_weights


def scene_vae(channels: int = 16) -> Vae:
    """A VAE of `companion.data.scenes`; the colors' standard deviation is 0.16 there, and 0.1 here given z.

    With 64 channels it has as many parameters as `scene_ddpm`, to compare samples of the two.
    """
    return conv_vae(8, channels, (3, 32, 32), GaussianLikelihood(0.1))


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


def toy_ddpm() -> Ddpm:
    """A DDPM of points in the plane, 100 steps; its network estimates the noise."""
    schedule = linear_schedule(100, 1e-3, 0.2)
    denoiser = NoisePredictor(TimeMlp(2, (128, 128, 128)), schedule)
    return Ddpm(denoiser, schedule, (2,), schedule.beta)


def digits_ddpm() -> Ddpm:
    """A DDPM of digits of 8 x 8 pixels, small enough for tests; its network estimates the noise."""
    return image_ddpm(_digits_unet(), predictor=NoisePredictor, levels=17)


def digits_flow() -> Flow:
    """Flow matching of digits of 8 x 8 pixels, with the network of `digits_ddpm`."""
    return Flow(_digits_unet(), (1, 8, 8))


def digits_mean_flow() -> MeanFlow:
    """An average velocity of digits of 8 x 8 pixels: the network of `digits_ddpm`, given the step, too."""
    return MeanFlow(_digits_unet(num_factors=1), (1, 8, 8))


def toy_mean_flow() -> MeanFlow:
    """An average velocity of points in the plane: the network of `toy_ddpm`, given the step, too."""
    return MeanFlow(TimeMlp(2, (128, 128, 128), num_factors=1), (2,))


def _digits_unet(num_factors: int | None = None) -> UNet:
    return UNet((1, 8, 8), 16, (1, 2), blocks=1, num_factors=num_factors)


def mnist_ddpm() -> Ddpm:
    """A DDPM of digits with 1.9 million parameters."""
    return image_ddpm(mnist_unet())


def joint_ddpm() -> Ddpm:
    """A DDPM of digits with and without their class, on the cosine schedule; 1.9 million parameters."""
    return image_ddpm(mnist_unet(num_classes=10), cosine_schedule(1000))


def guide_ddpm() -> Ddpm:
    """As `joint_ddpm`, with a quarter of its parameters: the weaker one of two that guide by their difference."""
    network = UNet((1, 28, 28), 16, (1, 2, 4), blocks=1, num_classes=10)
    return image_ddpm(network, cosine_schedule(1000))


def mnist_masked() -> MaskedDiffusion:
    """A masked diffusion model of black-and-white digits; 1.1 million parameters."""
    return MaskedDiffusion(UNet((1, 28, 28), 24, (1, 2, 4), blocks=1), (1, 28, 28))


def scene_ddpm() -> Ddpm:
    """A DDPM of the images of `companion.data.scenes` with and without their five causes; 2 million parameters."""
    network = mnist_unet((3, 32, 32), num_factors=len(SCENE_FACTORS))
    return image_ddpm(network, cosine_schedule(1000))


def told(factors: Float[Tensor, "num 5"]) -> Float[Tensor, "num 5"]:
    """The factors of scenes as the network of `scene_ddpm` is told them: from -1 to 1, each over its range."""
    checks.floating(factors=factors)
    checks.shape(("num", len(SCENE_FACTORS)), factors=factors)
    low, high = torch.tensor(list(SCENE_FACTORS.values())).T.to(factors)
    return 2 * (factors - low) / (high - low) - 1


def latent_ddpm() -> Ddpm:
    """A DDPM of the 16 latents of `digit_encoder`; its network estimates v."""
    schedule = linear_schedule(1000)
    network = TimeMlp(16, (256, 256, 256, 256), width=128)
    return Ddpm(VPredictor(network, schedule), schedule, (16,), schedule.beta)


def attribute_reader() -> AttributeReader:
    """What reads the attributes of a landscape, to compare them with those asked for."""
    return AttributeReader([len(values) for values in ATTRIBUTES.values()])


def landscape_vae(side: int = 8) -> Vae:
    """The first stage of landscapes: four square maps; its unit variance of p(x|z) wants a tiny weight of the KL."""
    shape = (3, 4 * side, 4 * side)
    return Vae(map_encoder(), map_decoder(side=side), GaussianLikelihood(), 4 * side**2, shape)


def text_ddpm(side: int = 8, **sizes: int) -> Ddpm:
    """A DDPM of the maps of `landscape_coder`, conditioned on a sentence; 1.9 million parameters by default."""
    schedule, shape = cosine_schedule(1000), (4, side, side)
    network = TextTransformer(shape, len(VOCABULARY), MAX_WORDS, **sizes)
    return Ddpm(VPredictor(network, schedule), schedule, shape, schedule.beta)


def landscape_coder(side: int = 8) -> Vae:
    """The shipped first stage of landscapes, to be used and not trained, on `companion.runtime.device()`.

    It was trained on images of 32 x 32 pixels, maps of 8 x 8; its convolutions serve other sizes, too.
    """
    return _shipped("vae-landscapes", landscape_vae, side)


def landscape_reader() -> AttributeReader:
    """The shipped reader of landscapes, to be used and not trained, on `companion.runtime.device()`."""
    return _shipped("reader-landscapes", attribute_reader)


def landscape_codes(
    x: Float[Tensor, "batch 3 pixels pixels"],
) -> Float[Tensor, "batch 4 pixels//4 pixels//4"]:
    """Draws from q(z|x) of `landscape_coder`, of a variance near 1."""
    checks.shape(("batch", 3, "side", "side"), x=x)
    side = x.shape[-1] // 4
    return landscape_coder(side).to(x.device).posterior(x).sample().unflatten(1, (4, side, side))


def decoded_landscapes(
    z: Float[Tensor, "batch 4 side side"],
) -> Float[Tensor, "batch 3 4*side 4*side"]:
    """The images that `landscape_coder` decodes maps to: means of p(x|z)."""
    return landscape_coder(z.shape[-1]).to(z.device).likelihood(z.flatten(1)).mean


def digit_encoder() -> Vae:
    """The shipped VAE with 16 latents, to be used and not trained, on `companion.runtime.device()`."""
    return _shipped("conv-vae-mnist", conv_vae)


@cache
def _shipped(name: str, build: Callable[..., nn.Module], *sizes: int) -> Any:
    model = build(*sizes)
    load_weights(name, model.requires_grad_(False).eval())
    return runtime.to_device(model)


def codes(x: Float[Tensor, "batch 1 28 28"]) -> Float[Tensor, "batch 16"]:
    """Draws from q(z|x) of `digit_encoder`, for images on [0, 1] that are binarized first."""
    return digit_encoder().to(x.device).posterior(binarize(x)).sample()


def decoded(z: Float[Tensor, "batch 16"]) -> Float[Tensor, "batch 1 28 28"]:
    """The images that `digit_encoder` decodes codes to: means of p(x|z)."""
    return digit_encoder().to(z.device).likelihood(z).mean
