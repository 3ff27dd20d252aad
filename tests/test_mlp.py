"""The perceptron that is given a time."""

import torch

from companion.networks.mlp import TimeMlp


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
