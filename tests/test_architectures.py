"""Tests of companion.zoo.architectures: sizes, what networks are told, and the latent space of a VAE."""

import pytest
import torch

from companion.data import SCENE_FACTORS
from companion.zoo import architectures
from companion.zoo.architectures import told


@pytest.mark.parametrize(
    ("model", "millions"),
    [
        (architectures.color_ddpm, 6.3),
        (architectures.mnist_ddpm, 1.9),
        (architectures.joint_ddpm, 1.9),
        (architectures.mnist_masked, 1.1),
        (architectures.scene_ddpm, 2.0),
        (architectures.text_ddpm, 1.9),
    ],
)
def test_networks_have_the_size_that_is_said(model, millions):
    size = sum(parameter.numel() for parameter in model().parameters())
    assert size / 1e6 == pytest.approx(millions, abs=0.06)


def test_a_guide_is_a_quarter_of_what_it_guides():
    guide, joint = (
        sum(parameter.numel() for parameter in model().parameters())
        for model in (architectures.guide_ddpm, architectures.joint_ddpm)
    )
    assert 0.15 < guide / joint < 0.3


def test_models_of_digits_share_a_network():
    """What is compared with each other differs by what the network learns, and by the input of a step."""
    ddpm, flow = architectures.digits_ddpm(), architectures.digits_flow()
    shapes = [
        {name: tensor.shape for name, tensor in network.state_dict().items()}
        for network in (ddpm.denoiser.network, flow.network)
    ]
    assert shapes[0] == shapes[1]
    more = architectures.digits_mean_flow().network.state_dict().keys() - shapes[0].keys()
    assert more and all("factor" in name or "condition" in name for name in more), more


def test_networks_are_told_factors_from_minus_1_to_1():
    low, high = torch.tensor(list(SCENE_FACTORS.values())).T
    given = told(torch.stack([low, (low + high) / 2, high]))
    torch.testing.assert_close(given, torch.tensor([[-1.0], [0.0], [1.0]]).expand(3, 5))
