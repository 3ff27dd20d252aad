"""Plain networks: they map tensors to tensors and know nothing of probability."""

from companion.networks.classifier import DigitClassifier
from companion.networks.conv import conv_decoder, conv_encoder
from companion.networks.embeddings import FourierEmbedding, SinusoidalEmbedding
from companion.networks.mlp import TimeMlp, mlp, normalized_mlp
from companion.networks.residual import Residual, bottleneck, start_at_zero
from companion.networks.unet import (
    AdaptiveNorm,
    Attention,
    Block,
    ShiftedNorm,
    UNet,
    large_unet,
    mnist_unet,
    small_unet,
)

__all__ = [
    "AdaptiveNorm",
    "Attention",
    "Block",
    "DigitClassifier",
    "FourierEmbedding",
    "Residual",
    "ShiftedNorm",
    "SinusoidalEmbedding",
    "TimeMlp",
    "UNet",
    "bottleneck",
    "conv_decoder",
    "conv_encoder",
    "large_unet",
    "mlp",
    "mnist_unet",
    "normalized_mlp",
    "small_unet",
    "start_at_zero",
]
