"""Checks for the exercises of chapter 1, Autoencoders."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from companion.autoencoder import Autoencoder, dct_matrix, jacobian_norm, reconstruction_loss
from companion.page.exercises import Values, exercise, expect, expect_close, expect_function


@exercise("kept-energy")
def check_kept_energy(kept_energy: Callable[[Tensor, int], Tensor]) -> str:
    """Check `kept_energy(x, keep) -> (batch,)`, the share of each picture's energy in its slowest cosines."""

    def reference(x: Tensor, keep: int) -> Tensor:
        C = dct_matrix(x.shape[-1]).to(x)
        z = C @ x @ C.T
        return z[..., :keep, :keep].square().flatten(1).sum(1) / x.square().flatten(1).sum(1)

    generator = torch.Generator().manual_seed(1)
    x = torch.rand(4, 1, 12, 12, generator=generator, dtype=torch.double)
    hint = "Transform with C x C^T, sum the squares of the keep x keep corner, divide by the sum of squares of x."
    expect_function(kept_energy, reference, [(x, 1), (x, 5), (x[:1], 12)], hint)
    return "and by Parseval the rest is exactly the reconstruction error"


@exercise("best-constant")
def check_best_constant(answer: Values) -> str:
    """Check the constants of least mean squared and least mean absolute error for the data 0, 0, 1, 7, 2."""
    expect_close(
        answer,
        [2.0, 1.0],
        "Set the derivative of each mean to zero; the derivative of |x - c| is a sign.",
    )
    return "the squared error asks for the mean, the absolute error for the median"


@exercise("projection-loss")
def check_projection_loss(projection_loss: Callable[[Tensor, Tensor], Tensor]) -> str:
    """Check `projection_loss(S, U)`, the mean squared error of projecting on orthonormal columns U, from S alone."""
    generator = torch.Generator().manual_seed(2)
    A = torch.randn(6, 6, generator=generator, dtype=torch.double)
    S, U = (A @ A.T, torch.linalg.qr(torch.randn(6, 2, generator=generator, dtype=torch.double))[0])

    def reference(S: Tensor, U: Tensor) -> Tensor:
        left = torch.eye(len(S), dtype=S.dtype) - U @ U.T
        return (left @ S @ left.T).trace()

    hint = "The error is the energy outside the subspace: all of trace(S), minus what the projection keeps."
    expect_function(projection_loss, reference, [(S, U), (2 * S, U[:, :1])], hint)
    return "so the best subspace is the one that keeps most of the trace"


@exercise("gaussian-denoiser")
def check_gaussian_denoiser(denoise: Callable[[Tensor, float, float, float], Tensor]) -> str:
    """Check `denoise(x, mean, var, noise_var)`, the best guess of a Gaussian from its noisy version."""
    x = torch.linspace(-3, 3, 7, dtype=torch.double)

    def reference(x: Tensor, mean: float, var: float, noise_var: float) -> Tensor:
        return mean + (x - mean) * (var / (var + noise_var))

    hint = (
        "The noisy value is Gaussian with variance var + noise_var; put its score into the theorem."
    )
    expect_function(denoise, reference, [(x, 0.0, 1.0, 0.5), (x, -0.7, 0.2, 2.0)], hint)
    return "the linear shrinkage of the section on denoising, one eigenvalue at a time"


@exercise("sigmoid-jacobian")
def check_sigmoid_jacobian(penalty: Callable[[Tensor, Tensor], Tensor]) -> str:
    """Check `penalty(W, x) -> (batch,)`, the squared Jacobian norm of g(x) = sigmoid(W x), without autograd."""
    generator = torch.Generator().manual_seed(3)
    W = torch.randn(3, 5, generator=generator, dtype=torch.double)
    x = torch.randn(4, 5, generator=generator, dtype=torch.double)

    def reference(W: Tensor, x: Tensor) -> Tensor:
        layer = nn.Linear(5, 3, bias=False, dtype=torch.double)
        layer.weight = nn.Parameter(W)
        return jacobian_norm(
            Autoencoder(nn.Sequential(layer, nn.Sigmoid()), nn.Identity()), x
        ).detach()

    hint = "The derivative of the sigmoid is g (1 - g), where tanh has 1 - g^2."
    expect_function(penalty, reference, [(W, x), (3 * W, x[:1])], hint)
    return "a saturated unit contracts for free"


@exercise("happy-anomaly")
def check_happy_anomaly(
    picture: Float[Tensor, "1 1 28 28"], model: Autoencoder, digits: Float[Tensor, "num 1 28 28"]
) -> str:
    """Check a picture far from every digit given that the model reconstructs better than 95 % of them."""
    hint = "What is the easiest picture to reconstruct? It needs no digit in it."
    expect(
        isinstance(picture, Tensor) and picture.shape == (1, 1, 28, 28),
        "Give a tensor of shape (1, 1, 28, 28).",
    )
    expect(picture.min() >= 0 and picture.max() <= 1, "Pixels must lie in [0, 1].")
    with torch.no_grad():
        errors = reconstruction_loss(model, digits)
        error = reconstruction_loss(model, picture.to(digits))
    nearest = torch.cdist(picture.to(digits).flatten(1), digits.flatten(1)).min()
    typical = digits.flatten(1).norm(dim=1).quantile(0.01)
    expect(nearest >= 0.5 * typical, f"That is too close to a digit. {hint}")
    expect(
        error < errors.quantile(0.05),
        f"Its error is above that of the easiest 5 % of digits. {hint}",
    )
    return "a small reconstruction error is no certificate of normality"
