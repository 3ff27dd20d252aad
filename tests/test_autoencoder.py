"""Autoencoders against closed forms: PCA, tanh Jacobians, spectral norms, the cosine transform of SciPy."""

import math

import pytest
import scipy.fft
import torch
from bad_input import refused
from networks import Network
from torch import Tensor, nn

from companion.autoencoder import (
    Autoencoder,
    DctAutoencoder,
    contractive_loss,
    conv_autoencoder,
    dct_matrix,
    denoising_reconstruction_loss,
    jacobian_norm,
    linear_autoencoder,
    mlp_autoencoder,
    pca_autoencoder,
    reconstruction_loss,
    robust_loss,
    squared_error,
    worst_perturbation,
)

F64 = torch.double
LOSSES = (reconstruction_loss, denoising_reconstruction_loss, contractive_loss, robust_loss)


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
        near = {k: v + 0.05 * torch.randn_like(v) for k, v in model.state_dict().items()}
        other.load_state_dict(near)
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


def test_the_gradient_of_the_contractive_penalty_is_that_of_the_exact_one() -> None:
    layer = nn.Linear(4, 3, dtype=F64)
    model = Autoencoder(nn.Sequential(layer, nn.Tanh()), nn.Linear(3, 4, dtype=F64))
    x = torch.randn(1, 4, dtype=F64)

    def slope_of(loss: Tensor) -> Tensor:
        return torch.autograd.grad(loss.mean(), layer.weight)[0]

    slope = slope_of(jacobian_norm(model, x) + reconstruction_loss(model, x))
    losses = (contractive_loss(model, x.expand(200, 4), weight=1.0) for _ in range(30))
    draws = torch.stack([slope_of(loss) for loss in losses])
    assert ((draws.mean(0) - slope).abs() <= 5 * draws.std(0) / math.sqrt(30)).all()
    without = slope_of(reconstruction_loss(model, x))
    # So the check sees whether the penalty has a gradient.
    assert (without - slope).abs().max() > 0.1


def test_the_worst_perturbation_of_a_linear_model_at_0_is_the_top_singular_vector() -> None:
    model = linear_autoencoder(6, 3).double()
    nn.init.zeros_(model.encoder.bias), nn.init.zeros_(model.decoder.bias)
    x = torch.zeros(8, 6, dtype=F64)
    delta = worst_perturbation(model, x, radius=0.5, num_steps=300)
    top = torch.linalg.matrix_norm(model.decoder.weight @ model.encoder.weight, ord=2)
    torch.testing.assert_close(delta.norm(dim=1), torch.full((8,), 0.5, dtype=F64))
    error, largest = squared_error(model(x + delta), x), ((0.5 * top) ** 2).expand(8)
    torch.testing.assert_close(error, largest, rtol=1e-3, atol=0)


def test_attack_beats_random_noise_of_equal_norm() -> None:
    model, x = mlp_autoencoder(hidden=32), torch.rand(16, 1, 28, 28)
    noise = torch.randn_like(x)
    noise = 2.0 * noise / noise.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    attack = worst_perturbation(model, x, radius=2.0)
    assert (squared_error(model(x + attack), x) > squared_error(model(x + noise), x)).all()


def test_denoising_and_robust_losses_at_an_identity_model() -> None:
    identity, x = Autoencoder(nn.Identity(), nn.Identity()), torch.zeros(20_000, 10)
    loss = denoising_reconstruction_loss(identity, x, noise_std=0.5)
    assert abs(loss.mean().item() - 10 * 0.25) <= 5 * loss.std().item() / math.sqrt(len(x))
    # A quarter of a chi-squared variable with 10 degrees of freedom: own noise in each pixel of each example.
    kurtosis, var = 3 + 12 / 10, 2 * 10 * 0.25**2
    assert abs(loss.var().item() / var - 1) <= 5 * math.sqrt((kurtosis - 1) / len(x))
    torch.testing.assert_close(robust_loss(identity, x[:5], radius=2.0), torch.full((5,), 4.0))


def test_dct_matrix_equals_scipys() -> None:
    x = torch.randn(28, 28, dtype=F64)
    C = dct_matrix(28)
    torch.testing.assert_close(C @ C.T, torch.eye(28, dtype=F64), rtol=0, atol=1e-12)
    torch.testing.assert_close(
        C @ x @ C.T, torch.from_numpy(scipy.fft.dctn(x.numpy(), norm="ortho"))
    )


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


def test_networks_are_those_of_mnist_if_nothing_else_is_asked_for() -> None:
    x = torch.rand(2, 1, 28, 28)
    for model in (mlp_autoencoder(), conv_autoencoder()):
        assert model(x).shape == x.shape


def test_the_attack_starts_at_random_and_robust_loss_takes_the_steps_it_is_given() -> None:
    seen = []

    class Counting(Autoencoder):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x.detach())
            return 0.5 * x

    model, x = Counting(nn.Identity(), nn.Identity()), torch.zeros(2, 3)
    for _ in range(2):
        robust_loss(model, x, radius=1.0, num_steps=4)
    assert len(seen) == 2 * (4 + 1)
    assert not torch.allclose(seen[0], seen[5])
    seen.clear()
    robust_loss(model, x)
    assert len(seen) == 3 + 1


def test_an_attack_without_a_gradient_stays_finite() -> None:
    # The error is that of x alone, whatever the perturbation.
    delta = worst_perturbation(Network(lambda x: 0 * x), torch.randn(3, 1, 4, 4), radius=2.0)
    torch.testing.assert_close(delta.flatten(1).norm(dim=1), torch.full((3,), 2.0))


def test_each_step_of_the_attack_goes_on_from_the_last() -> None:
    # At x = 0 the error of f(d) = A d is |A d|^2, with gradient g = 2 A^T A d; the step goes to d + r g / |g|.
    A = torch.tensor([[0.2, 0.5], [-0.3, 0.9]], dtype=F64)
    model = nn.Linear(2, 2, bias=False, dtype=F64)
    model.weight = nn.Parameter(A)
    x = torch.zeros(1, 2, dtype=F64)
    torch.manual_seed(3)
    d = 0.5 * nn.functional.normalize(torch.randn_like(x))
    by_hand = 0.5 * nn.functional.normalize(d + 0.5 * nn.functional.normalize(d @ A.T @ A))
    torch.manual_seed(3)
    torch.testing.assert_close(worst_perturbation(model, x, radius=0.5, num_steps=1), by_hand)


def test_defaults_are_those_of_the_shipped_weights() -> None:
    # The cards name a command without settings, so a changed default would make their weights irreproducible.
    identity, x = Autoencoder(nn.Identity(), nn.Identity()), torch.zeros(20_000, 4)
    for loss, mean, name in (
        (denoising_reconstruction_loss, 4 * 0.5**2, "noise_std 0.5"),
        # The Jacobian of the identity has squared norm 4.
        (contractive_loss, 0.1 * 4, "weight 0.1"),
        (robust_loss, 2.0**2, "radius 2"),
    ):
        values = loss(identity, x)
        error = values.std().item() / math.sqrt(len(x))
        assert abs(values.mean().item() - mean) <= 5 * error + 1e-5, name


def test_pca_codes_are_uncorrelated_and_the_first_varies_most() -> None:
    x = torch.randn(400, 5, dtype=F64) @ torch.randn(5, 5, dtype=F64)
    cov = torch.cov(pca_autoencoder(x, 3).encode(x).T, correction=0).detach()
    assert cov.diag().tolist() == sorted(cov.diag().tolist(), reverse=True)
    top = torch.linalg.eigvalsh(torch.cov(x.T, correction=0)).flip(0)[:3]
    torch.testing.assert_close(cov, top.diag(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dct_autoencoder_takes_the_precision_of_its_input(dtype: torch.dtype) -> None:
    x = torch.rand(2, 1, 8, 8).to(dtype)
    model = DctAutoencoder(8, 8)
    assert model.encode(x).dtype == model(x).dtype == dtype
    torch.testing.assert_close(model(x), x, rtol=0.05, atol=0.05)


def test_losses_take_one_example_and_memory_in_any_order() -> None:
    torch.manual_seed(1)
    model = conv_autoencoder(4, 2, (3, 32, 32))
    x = torch.rand(2, 32, 32, 3).permute(0, 3, 1, 2)  # channels last in memory
    assert not x.is_contiguous()
    for loss in (reconstruction_loss, jacobian_norm):
        torch.testing.assert_close(loss(model, x[:1]), loss(model, x.contiguous())[:1])
        torch.testing.assert_close(loss(model, x), loss(model, x.contiguous()))
    for loss in LOSSES:
        assert loss(model, x[:1]).shape == (1,)
        assert loss(model.to(memory_format=torch.channels_last), x).isfinite().all()


def test_everything_stays_on_the_device_of_its_input() -> None:
    model, x = mlp_autoencoder(4, 8).to("meta"), torch.rand(2, 1, 28, 28, device="meta")
    for loss in (*LOSSES, jacobian_norm):
        assert loss(model, x).device.type == "meta", loss
    # A buffer left on the CPU must not matter: the transform follows its input.
    assert DctAutoencoder(28, 5).encode(x).device.type == "meta"
    assert DctAutoencoder(28, 5).decode(torch.rand(2, 25, device="meta")).device.type == "meta"


test_bad_input = refused("autoencoder")
