"""Checks for the exercises of chapter 1, Autoencoders."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from companion.autoencoder import Autoencoder, dct_matrix, jacobian_norm, reconstruction_loss
from companion.page.exercises import draws, exercise, expect, right_number, same_function

IMAGES = draws(4, 1, 12, 12)
ROOT = draws(6, 6)
S, U = ROOT @ ROOT.T, torch.linalg.qr(draws(6, 2))[0]
X = torch.linspace(-3, 3, 7, dtype=torch.double, device="cpu")
W, ROWS = draws(3, 5), draws(4, 5).flip(0)


@same_function(
    "kept-energy",
    [(IMAGES, 1), (IMAGES, 5), (IMAGES[:1], 12)],
    hint="Transform with C x C^T, sum the squares of the keep x keep corner, divide by the sum of squares of x.",
    remark="and by Parseval the rest is exactly the reconstruction error",
)
def check_kept_energy(x: Tensor, keep: int) -> Tensor:
    """Check `kept_energy(x, keep) -> (batch,)`, the share of each image's energy in the lowest frequencies."""
    C = dct_matrix(x.shape[-1]).to(x)
    z = C @ x @ C.T
    return z[..., :keep, :keep].square().flatten(1).sum(1) / x.square().flatten(1).sum(1)


@right_number(
    "best-constant",
    hint="Set the derivative of each mean to zero; the derivative of |x - c| is a sign.",
    remark="the mean minimizes the squared error, the median the absolute error",
)
def check_best_constant() -> list[float]:
    """Check the constants of least mean squared and least mean absolute error for the data 0, 0, 1, 7, 2."""
    return [2.0, 1.0]


@same_function(
    "projection-loss",
    [(S, U), (2 * S, U[:, :1])],
    hint="The error is the energy outside the subspace: all of trace(S), minus what the projection keeps.",
    remark="so the best subspace is the one that keeps most of the trace",
)
def check_projection_loss(S: Tensor, U: Tensor) -> Tensor:
    """Check `projection_loss(S, U)`, the mean squared error of projecting on orthonormal columns U, from S alone."""
    outside = torch.eye(len(S), dtype=S.dtype) - U @ U.T
    return (outside @ S @ outside.T).trace()


@same_function(
    "gaussian-denoiser",
    [(X, 0.0, 1.0, 0.5), (X, -0.7, 0.2, 2.0)],
    hint="The noisy value is Gaussian with variance var + noise_var; put its score into the theorem.",
    remark="the linear shrinkage of the section on denoising, one eigenvalue at a time",
)
def check_gaussian_denoiser(x: Tensor, mean: float, var: float, noise_var: float) -> Tensor:
    """Check `denoise(x, mean, var, noise_var)`, the posterior mean of a Gaussian given its noisy version."""
    return mean + (x - mean) * (var / (var + noise_var))


@same_function(
    "sigmoid-jacobian",
    [(W, ROWS), (3 * W, ROWS[:1])],
    hint="The derivative of the sigmoid is g (1 - g), where tanh has 1 - g^2.",
    remark="the penalty of a saturated unit vanishes",
)
def check_sigmoid_jacobian(W: Tensor, x: Tensor) -> Tensor:
    """Check `penalty(W, x) -> (batch,)`, the squared Jacobian norm of g(x) = sigmoid(W x), without autograd."""
    layer = nn.Linear(5, 3, bias=False, dtype=torch.double)
    layer.weight = nn.Parameter(W)
    encoder = nn.Sequential(layer, nn.Sigmoid())
    return jacobian_norm(Autoencoder(encoder, nn.Identity()), x).detach()


@exercise("happy-anomaly")
def check_happy_anomaly(
    image: Float[Tensor, "1 1 28 28"], model: Autoencoder, digits: Float[Tensor, "num 1 28 28"]
) -> str:
    """Check an image far from every digit given that the model reconstructs better than 95 % of them."""
    hint = "What is the easiest image to reconstruct? It needs no digit in it."
    fits = isinstance(image, Tensor) and image.shape == (1, 1, 28, 28)
    expect(fits, "Give a tensor of shape (1, 1, 28, 28).")
    expect(image.min() >= 0 and image.max() <= 1, "Pixels must lie in [0, 1].")
    with torch.no_grad():
        errors = reconstruction_loss(model, digits)
        error = reconstruction_loss(model, image.to(digits))
    nearest = torch.cdist(image.to(digits).flatten(1), digits.flatten(1)).min()
    typical = digits.flatten(1).norm(dim=1).quantile(0.01)
    expect(nearest >= 0.5 * typical, f"That is too close to a digit. {hint}")
    easiest = errors.quantile(0.05)
    expect(error < easiest, f"Its error is above that of the easiest 5 % of digits. {hint}")
    return "so a small error does not mean a digit"
