"""Autoencoders: an encoder g, a decoder f, and the losses that make the codes useful.

Every loss has the form `loss(model, x) -> (batch,)`, the squared error summed over the dimensions of x, so that
`companion.training.fit` trains any of them. Fix the settings of a variant with `functools.partial`. Each refuses an
x that does not fit the model: of another shape or precision, with no examples, or not finite.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from companion import checks
from companion.networks.conv import conv_decoder, conv_encoder
from companion.networks.mlp import mlp


class Autoencoder(nn.Module):
    """Encode x to a code z = g(x), decode it to a reconstruction f(z).

    Raises:
        TypeError: if one is no function; from methods, if x or z has integers, or another precision than the model.
        ValueError: if a size of `x_shape` is below 1; from `encode`, if x has another shape.

    Book: chapter 1.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        x_shape: tuple[int, ...] | None = None,
    ) -> None:
        checks.function(encoder=encoder, decoder=decoder)
        if x_shape is not None:
            checks.sizes(1, x_shape=x_shape)
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.x_shape = x_shape  # of one example; None: any

    def encode(self, x: Float[Tensor, "batch *x"]) -> Float[Tensor, "batch code"]:
        """The code z = g(x)."""
        checks.precision(self, x=x)
        if self.x_shape is not None:
            checks.shape(("batch", *self.x_shape), x=x)
        return self.encoder(x)

    def decode(self, z: Float[Tensor, "batch code"]) -> Float[Tensor, "batch *x"]:
        """The reconstruction f(z) of a code."""
        checks.precision(self, z=z)
        return self.decoder(z)

    def forward(self, x: Float[Tensor, "batch *x"]) -> Float[Tensor, "batch *x"]:
        """The reconstruction f(g(x))."""
        return self.decode(self.encode(x))


def reconstruction_loss(
    model: nn.Module, x: Float[Tensor, "batch *x_shape"]
) -> Float[Tensor, "batch"]:
    """Squared error ||x - f(g(x))||^2, summed over dimensions.

    Book: chapter 1, eq. (def-reconstruction-loss).
    """
    checks.data(model, x)
    return squared_error(model(x), x)


def denoising_reconstruction_loss(
    model: nn.Module, x: Float[Tensor, "batch *x_shape"], noise_std: float = 0.5
) -> Float[Tensor, "batch"]:
    """Squared error of reconstructing x from x plus noise N(0, noise_std^2 I).

    Raises:
        ValueError: if `noise_std` is negative.

    Source: Vincent et al. 2008. Book: chapter 1, eq. (def-denoising-loss).
    """
    checks.not_negative(noise_std=noise_std)
    checks.data(model, x)
    return squared_error(model(x + noise_std * torch.randn_like(x)), x)


def contractive_loss(
    model: Autoencoder, x: Float[Tensor, "batch *x_shape"], weight: float = 0.1
) -> Float[Tensor, "batch"]:
    """Squared error plus `weight` times an estimate of ||dg/dx||_F^2.

    The estimate is unbiased. It projects the Jacobian on one random direction v, and so
    costs one backward pass, where the exact norm costs one per dimension of the code.

    Source: Rifai et al. 2011, eq. 3. Book: chapter 1, eq. (def-contractive-loss).
    """
    checks.not_negative(weight=weight)
    checks.data(model, x, Autoencoder)
    x = x.detach().requires_grad_()
    z = model.encode(x)
    (row,) = torch.autograd.grad(z, x, torch.randn_like(z), create_graph=True)
    penalty = row.flatten(1).square().sum(1)
    return squared_error(model.decode(z), x.detach()) + weight * penalty


def robust_loss(
    model: nn.Module, x: Float[Tensor, "batch *x_shape"], radius: float = 2.0, num_steps: int = 3
) -> Float[Tensor, "batch"]:
    """Squared error at the worst point that an attack finds within `radius` of x.

    Raises:
        TypeError: if `num_steps` is no integer.
        ValueError: if `radius` is not positive, or `num_steps` negative.

    Source: Madry et al. 2018, eq. 2.1. Book: chapter 1, eq. (def-robust-loss).
    """
    return squared_error(model(x + worst_perturbation(model, x, radius, num_steps)), x)


def worst_perturbation(
    model: nn.Module, x: Float[Tensor, "batch *x"], radius: float, num_steps: int = 10
) -> Float[Tensor, "batch *x"]:
    """Find a perturbation of norm `radius` that makes the reconstruction of x bad.

    Projected gradient ascent from a random start: each step goes along the normalized
    gradient, then back to the sphere. Its error is a lower bound of the worst one.

    Raises:
        ValueError: if `radius` is not positive, or `num_steps` negative.

    Book: chapter 1.
    """
    _check_attack(model, x, radius, num_steps)
    delta = radius * _unit(torch.randn_like(x))
    for _ in range(num_steps):
        delta.requires_grad_()
        error = squared_error(model(x + delta), x).sum()
        (gradient,) = torch.autograd.grad(error, delta)
        delta = radius * _unit(delta.detach() + radius * _unit(gradient))
    return delta


def _check_attack(model: nn.Module, x: Tensor, radius: float, num_steps: int) -> None:
    checks.positive(radius=radius)
    checks.at_least(0, num_steps=num_steps)
    checks.data(model, x)


def jacobian_norm(model: Autoencoder, x: Float[Tensor, "batch *x_shape"]) -> Float[Tensor, "batch"]:
    """Squared Frobenius norm of the encoder's Jacobian dg/dx for each example, exact.

    Raises TypeError if the model is no `Autoencoder`: what others encode is no code. Book: chapter 1.
    """
    checks.data(model, x, Autoencoder)
    of_one = torch.func.jacrev(lambda one: model.encode(one[None])[0])
    jacobian = torch.func.vmap(of_one)(x)
    return jacobian.flatten(1).square().sum(1)


def squared_error(
    x_hat: Float[Tensor, "batch *x_shape"], x: Float[Tensor, "batch *x_shape"]
) -> Float[Tensor, "batch"]:
    """||x - x_hat||^2, summed over every dimension but the first.

    Raises:
        TypeError: if x is not floating-point; bytes would wrap around at 256.
        ValueError: if the shapes differ (they are never broadcast), or x is no batch.

    Book: chapter 1.
    """
    checks.floating(x=x, x_hat=x_hat)
    checks.examples(2, x=x)
    checks.shape(tuple(x.shape), x_hat=x_hat)
    return (x - x_hat).square().flatten(1).sum(1)


def mlp_autoencoder(
    latent_dim: int = 16,
    hidden: int = 256,
    image_shape: tuple[int, int, int] = (1, 28, 28),
) -> Autoencoder:
    """Two layers each way, and a sigmoid at the end, since pixels lie in [0, 1].

    Book: chapter 1.
    """
    checks.at_least(1, latent_dim=latent_dim, hidden=hidden)
    checks.sizes(3, image_shape=image_shape)
    dim = math.prod(image_shape)
    encoder, decoder = mlp([dim, hidden, latent_dim]), mlp([latent_dim, hidden, dim])
    return Autoencoder(
        nn.Sequential(nn.Flatten(), encoder),
        nn.Sequential(decoder, nn.Sigmoid(), nn.Unflatten(1, image_shape)),
        image_shape,
    )


def conv_autoencoder(
    latent_dim: int = 16,
    channels: int = 16,
    image_shape: tuple[int, int, int] = (1, 28, 28),
) -> Autoencoder:
    """Four convolutions, four transposed convolutions, and a sigmoid at the end.

    Book: chapter 1.
    """
    checks.at_least(1, latent_dim=latent_dim)
    encoder = conv_encoder(latent_dim, image_shape, channels)
    decoder = conv_decoder(latent_dim, image_shape, channels)
    return Autoencoder(encoder, nn.Sequential(decoder, nn.Sigmoid()), image_shape)


def linear_autoencoder(dim: int, latent_dim: int) -> Autoencoder:
    """Encoder and decoder of one affine layer each, for vectors.

    Raises:
        ValueError: if a dimension is below 1.

    Book: chapter 1.
    """
    checks.at_least(1, dim=dim, latent_dim=latent_dim)
    return Autoencoder(nn.Linear(dim, latent_dim), nn.Linear(latent_dim, dim), (dim,))


def pca_autoencoder(x: Float[Tensor, "num dim"], latent_dim: int) -> Autoencoder:
    """Return the best linear autoencoder for the data, by principal component analysis.

    Raises:
        TypeError: if x is not floating-point.
        ValueError: if x holds no vectors or a value that is not finite, or `latent_dim`
            is not between 1 and the dimension of the data.

    Source: Bourlard & Kamp 1988; Baldi & Hornik 1989. Book: chapter 1, eq. (eq-pca-loss).
    """
    checks.shape(("num", "dim"), x=x)
    checks.precise(x=x)
    checks.finite(x=x)
    num, dim = x.shape
    checks.whole(1, dim, latent_dim=latent_dim)
    mean = x.mean(0)
    _, eigenvectors = torch.linalg.eigh((x - mean).T @ (x - mean) / num)
    U = eigenvectors[:, -latent_dim:].flip(1)  # eigh sorts upwards; largest first here
    encoder, decoder = nn.Linear(dim, latent_dim), nn.Linear(latent_dim, dim)
    encoder.weight, encoder.bias = nn.Parameter(U.T.clone()), nn.Parameter(-U.T @ mean)
    decoder.weight, decoder.bias = nn.Parameter(U), nn.Parameter(mean)
    return Autoencoder(encoder, decoder, (dim,))


def dct_matrix(num: int) -> Float[Tensor, "num num"]:
    """Return the orthonormal cosine transform; row k is the k-th cosine, slowest first.

    Float64 on the CPU.

    Raises:
        ValueError: if `num` is below 1.

    Source: Ahmed, Natarajan & Rao 1974. Book: chapter 1, eq. (def-dct).
    """
    checks.at_least(1, num=num)
    k, n = torch.meshgrid(torch.arange(num), torch.arange(num), indexing="ij")
    cosines = torch.cos(math.pi * (2 * n + 1).double() * k / (2 * num))
    return cosines * torch.where(k == 0, 0.5, 1.0).double().mul(2 / num).sqrt()


class DctAutoencoder(Autoencoder):
    """A fixed autoencoder: keep the `keep` x `keep` slowest cosines, drop the rest.

    It computes in the precision and on the device of its input.

    Raises:
        ValueError: if `keep` is not between 1 and `side`; from `encode`, if x is not a
            batch of gray images of that side.
        TypeError: from `encode`, if x is not floating-point.

    Book: chapter 1.
    """

    C: Tensor  # the slowest rows of the transform

    def __init__(self, side: int, keep: int) -> None:
        checks.at_least(1, side=side, keep=keep)
        checks.in_range(1, side, keep=keep)
        super().__init__(nn.Identity(), nn.Identity(), (1, side, side))
        self.side, self.keep = side, keep
        self.register_buffer("C", dct_matrix(side)[:keep])

    def encode(self, x: Float[Tensor, "batch 1 side side"]) -> Float[Tensor, "batch code"]:
        """The slowest coefficients, C x C^T, as one vector."""
        checks.shape(("batch", 1, self.side, self.side), x=x)
        checks.floating(x=x)
        C = self.C.to(x)
        return (C @ x @ C.T).flatten(1)

    def decode(self, z: Float[Tensor, "batch code"]) -> Float[Tensor, "batch 1 side side"]:
        """The image with these coefficients and no others."""
        checks.floating(z=z)
        checks.shape(("batch", self.keep**2), z=z)
        C = self.C.to(z)
        return C.T @ z.unflatten(1, (1, self.keep, self.keep)) @ C


def _unit(x: Float[Tensor, "batch *x_shape"]) -> Float[Tensor, "batch *x_shape"]:
    """Each example divided by its norm."""
    norm = x.flatten(1).norm(dim=1)
    norm = norm.clamp_min(torch.finfo(x.dtype).tiny)  # a zero gradient stays zero
    return x / norm.view(-1, *[1] * (x.dim() - 1))
