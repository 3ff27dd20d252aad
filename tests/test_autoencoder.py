"""Autoencoders against closed forms: PCA, tanh Jacobians, spectral norms, the cosine transform of SciPy."""

import math

import pytest
import scipy.fft
import torch
from torch import nn

from companion.autoencoder import (
    Autoencoder,
    DctAutoencoder,
    contractive_loss,
    conv_autoencoder,
    dct_matrix,
    denoising_loss,
    jacobian_norm,
    linear_autoencoder,
    mlp_autoencoder,
    pca_autoencoder,
    reconstruction_loss,
    robust_loss,
    squared_error,
    worst_perturbation,
)
from companion.networks import mlp

F64 = torch.double


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_pca_autoencoder_reaches_the_sum_of_dropped_eigenvalues() -> None:
    x = torch.randn(500, 6, dtype=F64) @ torch.randn(6, 6, dtype=F64) + torch.randn(6, dtype=F64)
    eigenvalues = torch.linalg.eigvalsh(torch.cov(x.T, correction=0))
    for k in (1, 3, 6):
        loss = reconstruction_loss(pca_autoencoder(x, k), x).mean().item()
        assert loss == pytest.approx(eigenvalues[: 6 - k].sum().item(), rel=1e-9, abs=1e-9)


def test_no_linear_autoencoder_nearby_beats_pca() -> None:
    x = torch.randn(300, 5, dtype=F64) * torch.tensor([3.0, 2.0, 1.0, 0.5, 0.1], dtype=F64)
    model = pca_autoencoder(x, 2)
    best = reconstruction_loss(model, x).mean()
    for _ in range(20):
        other = linear_autoencoder(5, 2).double()
        other.load_state_dict({k: v + 0.05 * torch.randn_like(v) for k, v in model.state_dict().items()})
        assert reconstruction_loss(other, x).mean() > best


def test_jacobian_norm_of_a_tanh_layer() -> None:
    layer = nn.Linear(7, 3, dtype=F64)
    model = Autoencoder(nn.Sequential(layer, nn.Tanh()), nn.Linear(3, 7, dtype=F64))
    x = torch.randn(4, 7, dtype=F64)
    g = model.encode(x)
    closed_form = ((1 - g**2) ** 2 * layer.weight.square().sum(1)).sum(1)
    torch.testing.assert_close(jacobian_norm(model, x), closed_form, rtol=1e-12, atol=0)


def test_contractive_loss_is_unbiased_for_the_exact_penalty_and_leaves_x_alone() -> None:
    model = Autoencoder(nn.Sequential(nn.Linear(5, 3), nn.Tanh()), nn.Linear(3, 5)).double()
    x = torch.randn(1, 5, dtype=F64).expand(100_000, 5).contiguous()
    exact = reconstruction_loss(model, x[:1]) + 2.0 * jacobian_norm(model, x[:1])
    loss = contractive_loss(model, x, weight=2.0)
    assert abs(loss.mean() - exact) <= 5 * loss.std() / math.sqrt(len(x))
    assert not x.requires_grad
    loss.mean().backward()
    assert model.encoder[0].weight.grad.abs().sum() > 0  # the penalty reaches the encoder's weights


def test_worst_perturbation_of_a_linear_model_at_its_fixed_point_is_the_top_singular_vector() -> None:
    model = linear_autoencoder(6, 3).double()
    nn.init.zeros_(model.encoder.bias), nn.init.zeros_(model.decoder.bias)
    x = torch.zeros(8, 6, dtype=F64)
    delta = worst_perturbation(model, x, radius=0.5, num_steps=300)
    top = torch.linalg.matrix_norm(model.decoder.weight @ model.encoder.weight, ord=2)
    torch.testing.assert_close(delta.norm(dim=1), torch.full((8,), 0.5, dtype=F64))
    torch.testing.assert_close(squared_error(model(x + delta), x), ((0.5 * top) ** 2).expand(8), rtol=1e-3, atol=0)


def test_attack_beats_random_noise_of_equal_norm() -> None:
    model, x = mlp_autoencoder(hidden=32), torch.rand(16, 1, 28, 28)
    noise = torch.randn_like(x)
    noise = 2.0 * noise / noise.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    attack = worst_perturbation(model, x, radius=2.0)
    assert (squared_error(model(x + attack), x) > squared_error(model(x + noise), x)).all()


def test_denoising_and_robust_losses_at_an_identity_model() -> None:
    identity, x = Autoencoder(nn.Identity(), nn.Identity()), torch.zeros(20_000, 10)
    loss = denoising_loss(identity, x, noise_std=0.5)
    assert abs(loss.mean().item() - 10 * 0.25) <= 5 * loss.std().item() / math.sqrt(len(x))
    torch.testing.assert_close(robust_loss(identity, x[:5], radius=2.0), torch.full((5,), 4.0))


def test_dct_matrix_equals_scipys() -> None:
    x = torch.randn(28, 28, dtype=F64)
    C = dct_matrix(28)
    torch.testing.assert_close(C @ C.T, torch.eye(28, dtype=F64), rtol=0, atol=1e-12)
    torch.testing.assert_close(C @ x @ C.T, torch.from_numpy(scipy.fft.dctn(x.numpy(), norm="ortho")))


def test_dct_autoencoder_loses_exactly_the_dropped_energy() -> None:
    x = torch.rand(3, 1, 28, 28, dtype=F64)
    everything = DctAutoencoder(28, 28)
    torch.testing.assert_close(everything(x), x, rtol=0, atol=1e-12)
    dropped = everything.encode(x).view(3, 28, 28).square()
    dropped[:, :5, :5] = 0
    torch.testing.assert_close(reconstruction_loss(DctAutoencoder(28, 5), x), dropped.sum((1, 2)))


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32)])
def test_networks_give_back_the_shape_of_the_picture(shape: tuple[int, int, int]) -> None:
    x = torch.rand(2, *shape)
    for model in (mlp_autoencoder(8, 32, shape), conv_autoencoder(8, 4, shape)):
        assert model.encode(x).shape == (2, 8) and model(x).shape == x.shape
        assert model(x).min() >= 0 and model(x).max() <= 1


def test_bad_input_gets_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"x_hat must have the shape of x, \(2, 3\); shape \(2, 1\) was given"):
        squared_error(torch.zeros(2, 1), torch.zeros(2, 3))
    with pytest.raises(ValueError, match="radius must be positive; 0 was given"):
        worst_perturbation(nn.Identity(), torch.zeros(1, 2), radius=0)
    with pytest.raises(ValueError, match="latent_dim must lie between 1 and the dimension of x, 4; 5 was given"):
        pca_autoencoder(torch.randn(9, 4), 5)
    with pytest.raises(ValueError, match="keep must lie between 1 and side, 8; 9 was given"):
        DctAutoencoder(8, 9)
    with pytest.raises(ValueError, match="image_shape must be"):
        conv_autoencoder(image_shape=(1, 30, 30))
    with pytest.raises(ValueError, match="sizes must hold at least two positive integers"):
        mlp([3])
