"""Bits-back coding: what is pushed is popped again, and the file is as long as the bound says."""

import math
import random

import pytest
import torch
from bad_input import refused
from torch.distributions import Normal

from companion import bits_back
from companion.bits_back import Message, compress, decode, decompress, encode
from companion.distributions import bernoulli
from companion.elbo import elbo_terms
from companion.networks.mlp import mlp
from companion.vae import Vae


def small_vae(shape: tuple[int, ...] = (12,)) -> Vae:
    """A VAE that knows something of x: two latents, twelve pixels."""
    torch.manual_seed(0)
    encoder, decoder = mlp([12, 8, 4]), mlp([2, 8, 12])
    for network, std in ((encoder, 0.3), (decoder, 0.8)):
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=std)
    with torch.no_grad():
        list(encoder.parameters())[-1][2:] -= 2.0  # q is narrower than the prior
    flat, fold = torch.nn.Flatten(), torch.nn.Unflatten(1, shape)
    encoder, decoder = torch.nn.Sequential(flat, encoder), torch.nn.Sequential(decoder, fold)
    return Vae(encoder, decoder, bernoulli, 2, shape)


def examples(num: int, model: Vae) -> torch.Tensor:
    with torch.no_grad():
        return model.likelihood(torch.randn(num, 2)).sample()


WHOLE = 1 << bits_back.PRECISION


@pytest.mark.parametrize("state", [0, 1, WHOLE - 1, WHOLE, 3**500])
def test_push_and_pop_are_inverse(state: int) -> None:
    starts = [0, 1, 1000, WHOLE // 3, WHOLE - 1, WHOLE]
    for value in range(5):
        message = Message(state)
        message.push(starts, value)
        assert message.pop(starts) == value and message.state == state
    message = Message(state)
    value = message.pop(starts)
    message.push(starts, value)
    assert message.state == state


def test_a_symbol_takes_the_bits_of_its_probability() -> None:
    random.seed(0)
    starts = [0, WHOLE // 10, WHOLE]
    values = [int(random.random() > 0.1) for _ in range(5000)]
    message = Message(1 << 64)
    for value in values:
        message.push(starts, value)
    bits = -sum(math.log2(starts[v + 1] - starts[v]) - 24 for v in values)
    assert len(message) - 65 == pytest.approx(bits, abs=1.5)
    assert [message.pop(starts) for _ in values] == values[::-1] and message.state == 1 << 64


def test_popping_random_bits_draws_with_the_probabilities() -> None:
    starts = [0, WHOLE // 4, WHOLE]
    message = Message((1 << 40_000) + random.Random(0).getrandbits(40_000))
    drawn = torch.tensor([message.pop(starts) for _ in range(10_000)]).double()
    assert drawn.mean() == pytest.approx(0.75, abs=5 * (0.75 * 0.25 / 10_000) ** 0.5)


def test_every_value_has_slots_as_it_is_probable() -> None:
    model = small_vae()
    x = examples(1, model)[0]
    with torch.no_grad():
        q = model.posterior(x[None]).base_dist
    starts = bits_back._gaussian(model, x)
    assert starts.shape == (2, 2**bits_back.LEVELS + 1)
    assert (starts[:, 0] == 0).all() and (starts[:, -1] == WHOLE).all()
    assert (starts.diff() >= 1).all()
    third = starts[:, 2**bits_back.LEVELS // 4] / WHOLE  # up to the first quartile of the prior
    quartile = torch.special.ndtri(torch.tensor(0.25).double())
    exact = Normal(q.mean[0].double(), q.stddev[0].double()).cdf(quartile)
    torch.testing.assert_close(third.double(), exact, atol=1e-4, rtol=0)
    uniform = bits_back._uniform(3)
    assert uniform.shape == (3, 2**bits_back.LEVELS + 1) and len(uniform.diff().unique()) == 1


@pytest.mark.parametrize("shape", [(12,), (1, 3, 4)])
def test_a_file_is_read_back(shape: tuple[int, ...]) -> None:
    model = small_vae(shape)
    x = examples(20, model)
    file = compress(model, x, seed=3)
    assert torch.equal(decompress(model, file, 20, seed=3), x)
    assert file == compress(model, x, seed=3) != compress(model, x, seed=4)


def test_the_random_bits_of_the_beginning_come_back() -> None:
    model = small_vae()
    x = examples(5, model)
    message = Message(12345**100)
    for one in x:
        encode(message, model, one)
    assert message.state != 12345**100
    for one in reversed(x):
        assert torch.equal(decode(message, model), one)
    assert message.state == 12345**100


def test_the_message_grows_by_minus_the_bound() -> None:
    """Not by the bits of the pixels alone, nor by those of pixels and latent: of these some come back."""
    model = small_vae()
    x = examples(400, model)
    message, lengths = Message((1 << 512) + random.Random(0).getrandbits(512)), []
    for one in x:
        lengths.append(-len(message))
        encode(message, model, one)
        lengths[-1] += len(message)
    with torch.no_grad():
        terms = [elbo_terms(model, x) for _ in range(200)]
    bits = -torch.stack([t.elbo for t in terms]).mean(0) / math.log(2)
    pixels = -torch.stack([t.log_likelihood for t in terms]).mean() / math.log(2)
    difference = torch.tensor(lengths) - bits
    error = 4 * difference.std() / len(x) ** 0.5
    assert difference.mean().abs() < error
    assert (bits.mean() - pixels).abs() > error
    assert 2 * bits_back.LEVELS + pixels - bits.mean() > error


test_bad_input = refused("bits_back")
