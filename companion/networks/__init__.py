"""Plain networks: they map tensors to tensors and know nothing of probability."""

from companion.networks.conv import conv_decoder, conv_encoder
from companion.networks.mlp import mlp, normalized_mlp
from companion.networks.residual import Residual, bottleneck, start_at_zero

__all__ = [
    "Residual",
    "bottleneck",
    "conv_decoder",
    "conv_encoder",
    "mlp",
    "normalized_mlp",
    "start_at_zero",
]
