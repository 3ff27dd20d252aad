"""Perceptrons, and the one that is given a time."""

import torch
from bad_input import refused
from torch import nn

from companion.networks.mlp import TimeMlp, normalized_mlp


def test_a_perceptron_hears_of_the_time_and_learns_what_needs_it() -> None:
    network = TimeMlp(2, (32, 32), width=16)
    x_t, t = torch.randn(64, 2), torch.randint(1, 100, (64,))
    assert network(x_t, t).equal(torch.zeros(64, 2))  # it starts at zero
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(200):
        loss = (network(x_t, t) - (t[:, None] > 50) * x_t).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.05
    assert not torch.allclose(network(x_t, t), network(x_t, 100 - t), atol=0.1)
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_layers_are_normalized() -> None:
    layers = normalized_mlp([4, 3, 2], nn.BatchNorm1d, nn.Tanh)
    assert [type(layer) for layer in layers] == 2 * [nn.Linear, nn.BatchNorm1d, nn.Tanh]
    # Batch normalization: whatever all examples share is taken out.
    z = torch.randn(9, 4)
    torch.testing.assert_close(layers[:2](z + 100), layers[:2](z), rtol=1e-3, atol=1e-3)


test_bad_input = refused("mlp")
