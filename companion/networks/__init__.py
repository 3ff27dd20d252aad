"""Plain networks: they map tensors to tensors and know nothing of probability."""

from companion.networks.conv import conv_decoder, conv_encoder
from companion.networks.mlp import mlp

__all__ = ["conv_decoder", "conv_encoder", "mlp"]
