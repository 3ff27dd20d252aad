"""Tests of companion.zoo.measures: each beside a formula that shares no code with it."""

import math

import torch
from torch import nn

from companion.data import scenes
from companion.networks.classifier import AttributeReader
from companion.zoo import measures
from companion.zoo.architectures import told
from companion.zoo.measures import squared_error_of_drawings
from companion.zoo.recipes import RECIPES


def test_mistakes_and_rejects_are_counted():
    x = torch.eye(11)[[3, 4, 10, 10]]
    label = torch.tensor([3, 5, 0, 10])
    judge = nn.Flatten()
    assert measures.misclassified(judge, x, label).tolist() == [0, 1, 1, 0]
    assert measures.taken_for_no_digit(judge, x, label).tolist() == [0, 0, 1, 1]


def test_cross_entropy_is_minus_the_log_probability_of_the_class():
    x, label = torch.randn(5, 3), torch.tensor([0, 2, 1, 1, 0])
    expected = -x.softmax(1).log()[range(5), label]
    torch.testing.assert_close(measures.cross_entropy(nn.Flatten(), x, label), expected)


def test_the_error_of_means_is_that_of_what_the_decoder_gives_for_the_mean():
    model, x = RECIPES["vae-scenes"].model(), torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        mean = model.encoder(x)[:, : model.latent_dim]
        expected = ((model.decoder(mean) - x) ** 2).sum((1, 2, 3))
        found = measures.squared_error_of_means(model, x)
    torch.testing.assert_close(found, expected)


def test_a_likelihood_in_bits_is_the_one_in_nats():
    model, x = RECIPES["vae2d-mnist"].model(), torch.rand(2, 1, 28, 28).round()
    with torch.no_grad():
        torch.manual_seed(0)
        nats = measures.negative_log_likelihood(model, x, 3)
        torch.manual_seed(0)
        bits = measures.bits_of_log_likelihood(model, x, 3)
    torch.testing.assert_close(bits, nats / 784 / torch.tensor(2.0).log())


def test_a_drawing_is_scored_against_the_scene_of_its_causes(unchecked):
    images, factors, _ = scenes(3, seed=2)
    x = 2 * images - 1

    class Knows(torch.nn.Module):
        """A denoiser that draws the scene it is told."""

        def forward(self, x_t, t, label):
            torch.testing.assert_close(label, told(factors))
            return x

    model = RECIPES["ddpm-scenes"].model()
    model.denoiser = Knows()
    assert squared_error_of_drawings(model, x, factors).abs().max() < 1e-6
    other = squared_error_of_drawings(model, x.flip(0), factors)
    torch.testing.assert_close(other, (images - images.flip(0)).square().flatten(1).sum(1))


def test_a_reader_is_measured_by_the_log_probability_of_all_attributes():
    class Sure(AttributeReader):
        """Says that every attribute has its first value, with the log-odds 4 against each other one."""

        def __init__(self):
            super().__init__((2, 3), (4, 4, 4))
            self.seen = []

        def forward(self, x):
            self.seen.append(x)
            return torch.tensor([4.0, 0, 4, 0, 0]).expand(len(x), -1)

    reader, x = Sure(), torch.rand(4, 3, 32, 32)
    right = torch.tensor([[0, 0], [1, 0], [0, 2], [1, 1]])
    two, three = (math.log(1 + k * math.exp(-4)) for k in (1, 2))
    expected = [two + three, two + 4 + three, two + three + 4, two + three + 8]
    torch.testing.assert_close(
        measures.reading_loss(reader, x, right), torch.tensor(expected), rtol=1e-5, atol=1e-6
    )
    noise = reader.seen[0] - x  # so that it does not read what no eye sees
    assert 0.04 < noise.std() < 0.06
