"""Whatever a caller gets wrong is answered by one sentence of the package that names the argument.

A case is a call and how the sentence begins, as a regular expression. The error has to be raised by a line of the
package, not by one of torch, and without a wait that only a hang explains.
"""
# ruff: noqa: E501 -- a case is a line

import contextlib
import io
import itertools
import json
import math
import re
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import config as jaxtyping_config
from PIL import Image
from tiny_recipes import card, no_data, recipes, tiny, tiny_vae
from torch import nn

import companion
from companion import (
    autoencoder,
    data,
    ddpm,
    decoders,
    denoisers,
    distributions,
    elbo,
    flows,
    guidance,
    hierarchical_vae,
    interpolation,
    ladders,
    metrics,
    samplers,
    schedule,
    score,
    training,
    vae,
    variances,
    zoo,
)
from companion.__main__ import main
from companion.data import Batches
from companion.networks import classifier, conv, embeddings, mlp, unet
from companion.page import exercises, sliders, verify
from companion.zoo import checkpoints, records, weights

__all__ = ["no_data", "recipes"]

ACCEPTED, TORCH, OURS = "accepted", "in the words of torch or Python", "ours"


class Printed(ValueError):
    """What the command line printed instead of a traceback."""


def cli(*arguments: object) -> None:
    """Run `python -m companion` in this process; a refusal is raised."""
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(said):
        status = main([str(each) for each in arguments])
    if status == 1:
        raise Printed(said.getvalue().removeprefix("error: ").removesuffix("\n"))


def _folder(path: Path) -> Path:
    """An empty folder at this place."""
    path.mkdir(parents=True, exist_ok=True)
    return path


def outcome(call: Callable[..., object], folder: Path) -> tuple[str, str]:
    """How a call was answered, and in which words."""
    given = (folder,) if call.__code__.co_argcount - len(call.__defaults__ or ()) else ()
    jaxtyping_config.update(
        "jaxtyping_disable", True
    )  # that of the tests is no part of the package
    try:
        call(*given)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        raised = Path(companion.__file__).parent in Path(last.filename).parents
        ours = (raised and str(last.line).startswith("raise ")) or isinstance(error, Printed)
        kinds = (ValueError, TypeError, OSError, FloatingPointError, AssertionError)
        documented = ours and isinstance(error, kinds) and "\n" not in str(error)
        return OURS if documented else TORCH, f"{type(error).__name__}: {error}"
    finally:
        jaxtyping_config.update("jaxtyping_disable", False)
    return ACCEPTED, ""


# ------------------------------------------------------------------------------------- what the cases are made of

NAN, INF = math.nan, math.inf
S, S3 = schedule.linear_schedule(20, 0.01, 0.2), schedule.linear_schedule(3)
X = torch.zeros(5, 2)  # a batch of points
T5, LABEL = torch.ones(5).long(), torch.tensor([0, 1, 2, 0, 1])
IMAGES = (torch.arange(256).view(4, 1, 8, 8) % 3 == 0).float()  # black and white
XC = torch.zeros(5, 1, 4, 4)
NET = mlp.TimeMlp(2, (8,))
PREDICTOR = denoisers.NoisePredictor(NET, S)
TOY = ddpm.Ddpm(PREDICTOR, S, (2,), S.beta)
LINEAR = vae.linear_vae(2, 1)
GRAY, PLAIN = tiny_vae(), tiny()
LADDER = ladders.mlp_ladder((3, 2), (8, 8), image_shape=(1, 8, 8)).eval()
SCORES = score.NoiseConditionalScore(NET, [2.0, 1.0])
CLASSES = ddpm.Ddpm(
    denoisers.NoisePredictor(unet.UNet((1, 4, 4), 4, (1,), 1, num_classes=3), S),
    S,
    (1, 4, 4),
    S.beta,
)
FACTORED = ddpm.Ddpm(
    denoisers.NoisePredictor(unet.UNet((1, 4, 4), 4, (1,), 1, num_factors=2), S),
    S,
    (1, 4, 4),
    S.beta,
)
UNET = unet.UNet((1, 4, 4), 4, (1,), 1)
VELOCITY = flows.Flow(NET, (2,))
MIXTURE = denoisers.gaussian_denoiser(S, torch.zeros(2), torch.eye(2))
FLOW = MIXTURE.score_at_level
A, Y, EYE = torch.eye(3)[:2], torch.zeros(5, 2), torch.eye(3)
MASK = torch.tensor([True, False])
RUN = torch.optim.SGD(PLAIN.parameters(), 0.1)


def same(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """A denoiser without a network."""
    return x_t


def sub(value: float, x: torch.Tensor = X) -> torch.Tensor:
    """The tensor with this as its first number."""
    return x.flatten().index_fill(0, torch.tensor([0]), value).view_as(x)


def toy(reverse_var=S3.beta, denoiser=same, **options) -> ddpm.Ddpm:
    return ddpm.Ddpm(denoiser, S3, (2,), reverse_var, **options)


def measured(**changes) -> denoisers.Denoiser:
    given = dict(denoiser=same, schedule=S, A=A, y=Y, noise_std=0.1, cov=EYE)
    return guidance.posterior_denoiser(**given | changes)


def fit(batches=(IMAGES,), loss=autoencoder.reconstruction_loss, **options) -> training.Step:
    return next(training.fit(PLAIN, loss, batches, RUN, **options))


def slider(**changes) -> sliders.Slider:
    good = dict(values=[0, 1], render=lambda v: np.full((8, 6), 0.5 * v), description="d", alt="{}")
    return sliders.Slider(**good | changes)


def ladder_of(code: int, *prior: int) -> hierarchical_vae.HierarchicalVae:
    """Two levels of 3 dimensions whose networks give these shapes."""

    class Zeros(nn.Module):
        def __init__(self, *shape):
            super().__init__()
            self.shape = shape

        def forward(self, x):
            return torch.zeros(len(x), *self.shape)

    bottom_up, evidence = [nn.Identity(), nn.Identity()], [Zeros(code), Zeros(6)]
    model = hierarchical_vae.HierarchicalVae
    return model(
        bottom_up, evidence, [Zeros(*prior)], nn.Identity(), distributions.bernoulli, [(3,), (3,)]
    )


# Every function of a model and data: what can be wrong about x is answered by one check at its door.
SNR = S.snr
DATA = {
    IMAGES: [
        partial(loss, PLAIN)
        for loss in (
            autoencoder.reconstruction_loss,
            autoencoder.denoising_reconstruction_loss,
            autoencoder.contractive_loss,
            autoencoder.robust_loss,
            partial(autoencoder.worst_perturbation, radius=1.0),
            autoencoder.jacobian_norm,
        )
    ]
    + [
        partial(loss, GRAY)
        for loss in (
            elbo.elbo_terms,
            elbo.elbo_loss,
            partial(elbo.sample_log_weights, num_samples=2),
            partial(elbo.importance_weighted_loss, num_samples=2),
            partial(metrics.log_likelihood, num_samples=2),
            metrics.active_units,
            vae.gray_cross_entropy_loss,
        )
    ]
    + [partial(elbo.elbo_loss, LADDER)],
    X: [
        partial(elbo.elbo_loss, TOY),
        partial(ddpm.single_step_elbo, TOY),
        partial(ddpm.denoising_loss, TOY, weight=SNR),
        partial(ddpm.noise_errors, TOY, times=[1]),
        partial(ddpm.elbo_step, TOY, t=T5, noise=X),
        partial(vae.linear_vae_log_likelihood, LINEAR),
    ],
    XC: [partial(guidance.classifier_free_loss, CLASSES, label=LABEL, weight=SNR)],
}


def wrong(x: torch.Tensor) -> list[tuple[object, str]]:
    """What is no batch of the model's data, and what is said of it."""
    return [
        (x[..., :-1], r"x must have shape \(batch, .*\); \(.*\) was given$"),
        (x[:0], r"x must have shape \(batch, .*\); \(0, .*\) was given$"),
        (x[0], "x must have shape"),
        ((255 * x).byte(), "x must be floating-point; torch.uint8 was given$"),
        (x.long(), "x must be floating-point; torch.int64 was given$"),
        (x > 0, "x must be floating-point; torch.bool was given$"),
        (
            x.double(),
            "x must have the precision of the model, torch.float32; torch.float64 was given$",
        ),
        (sub(NAN, x), "x must be finite; an infinite value or a NaN was given$"),
        (sub(INF, x), "x must be finite; an infinite value or a NaN was given$"),
        (None, "x must be a tensor; None was given$"),
        (x.numpy(), "x must be a tensor; a ndarray was given$"),
    ]


OF_DATA = [
    (lambda loss=loss, x=x: loss(x=x), says)
    for good, losses in DATA.items()
    for loss, (x, says) in itertools.product(losses, wrong(good))
]

# fmt: off
OF_MODELS = [
    # elbo
    (lambda: elbo.elbo_loss(GRAY, IMAGES, beta=-1), "beta must not be negative, and be finite; -1 was"),
    (lambda: elbo.elbo_loss(GRAY, IMAGES, beta=NAN), "beta must not be negative, and be finite; nan was"),
    (lambda: elbo.elbo_loss(GRAY, IMAGES, beta=INF), "beta must not be negative, and be finite; inf was"),
    (lambda: elbo.elbo_loss(GRAY, IMAGES, beta="1"), "beta must be a number; '1' was given"),
    (lambda: elbo.elbo_loss(GRAY, IMAGES, beta=None), "beta must be a number; None was given"),
    (lambda: elbo.elbo_loss(GRAY, IMAGES, beta=True), "beta must be a number; True was given"),
    (lambda: elbo.elbo_loss(GRAY, IMAGES, beta=torch.ones(4)), "beta must be a number; a Tensor was given"),
    (lambda: elbo.elbo_loss(GRAY, IMAGES, free_nats=-0.5), "free_nats must not be negative"),
    (lambda: elbo.elbo_loss(GRAY, IMAGES, free_nats=NAN), "free_nats must not be negative"),
    (lambda: elbo.elbo_loss(None, IMAGES), "model must be a module of torch; None was given"),
    (lambda: elbo.elbo_loss(IMAGES, GRAY), "model must be a module of torch; a Tensor was given"),
    (lambda: elbo.elbo_loss(GRAY, IMAGES / 2), "value must be 0 or 1; 0 to 0.5 was given"),
    (lambda: elbo.elbo_loss(GRAY, 255 * IMAGES), "value must be 0 or 1; 0 to 255 was given"),
    (lambda: elbo.elbo_loss(GRAY, IMAGES.flatten(1)), r"x must have shape \(batch, 1, 8, 8\); \(4, 64\)"),
    (lambda: elbo.importance_weighted_loss(GRAY, IMAGES, 0), "num_samples must be at least 1; 0 was"),
    (lambda: elbo.sample_log_weights(GRAY, IMAGES, 2.5), "num_samples must be an integer, at least 1; 2.5 was"),
    (lambda: elbo.sample_log_weights(GRAY, IMAGES, True), "num_samples must be an integer, at least 1; True was"),
    (lambda: elbo.sample_log_weights(GRAY, IMAGES, "2"), "num_samples must be an integer, at least 1; '2' was"),
    (lambda: elbo.sample_log_weights(GRAY, IMAGES, None), "num_samples must be an integer"),
    (lambda: type("Chain", (elbo.LatentChain,), dict(likelihood=same, posterior=same))((2,), 0), "num_latents must be at"),
    (lambda: vae.Vae(PLAIN, PLAIN, distributions.bernoulli, 0), "latent_dim must be at least 1; 0 was given"),
    # distributions
    (lambda: distributions.diagonal_normal(X.long(), 1.0), "mean must be floating-point; torch.int64 was given"),
    (lambda: distributions.diagonal_normal(sub(NAN), 1.0), "mean must be finite"),
    (lambda: distributions.diagonal_normal(torch.tensor(0.0), 1.0), "mean must have a batch dimension first"),
    (lambda: distributions.diagonal_normal(None, 1.0), "mean must be a tensor; None was given"),
    (lambda: distributions.diagonal_normal(X, NAN), "std must be positive and finite; nan was given"),
    (lambda: distributions.diagonal_normal(X, 0.0), "std must be positive and finite; 0.0 was given"),
    (lambda: distributions.diagonal_normal(X, -1), "std must be positive and finite; -1 was given"),
    (lambda: distributions.diagonal_normal(X, "1"), "std must be a number; '1' was given"),
    (lambda: distributions.diagonal_normal(X, None), "std must be a number; None was given"),
    (lambda: distributions.diagonal_normal(X, sub(-1.0, X + 1)), "std must be positive and finite; -1 to 1 was given"),
    (lambda: distributions.diagonal_normal(X, sub(INF, X + 1)), "std must be positive and finite; 1 to inf was"),
    (lambda: distributions.diagonal_normal(X, torch.ones(3)), r"std must broadcast to mean's shape \(5, 2\); shape \(3,\)"),
    (lambda: distributions.bernoulli(torch.tensor(0.0)), "logits must have a batch dimension first"),
    (lambda: distributions.bernoulli(X.long()), "logits must be floating-point; torch.int64 was given"),
    (lambda: distributions.bernoulli(None), "logits must be a tensor; None was given"),
    (lambda: distributions.bernoulli(sub(NAN)), "logits must be finite"),
    (lambda: distributions.bernoulli(X).log_prob(sub(0.5)), "value must be 0 or 1; 0 to 0.5 was given"),
    (lambda: distributions.bernoulli(X).log_prob(sub(NAN)), "value must be 0 or 1; nan to nan was given"),
    (lambda: distributions.DiscretizedNormal(X, 1.0, high=INF), "high must be above low, and both finite"),
    (lambda: distributions.DiscretizedNormal(X, 1.0, 1.0, -1.0), "high must be above low, and both finite"),
    (lambda: distributions.DiscretizedNormal(X, 1.0, levels=2.5), "levels must be an integer, at least 2; 2.5 was"),
    (lambda: distributions.DiscretizedNormal(X, 1.0, levels=1), "levels must be at least 2; 1 was given"),
    (lambda: distributions.DiscretizedNormal(X, -1.0), "std must be positive and finite; -1.0 was given"),
    *((lambda v=v: distributions.DiscretizedNormal(X, 1.0).log_prob(sub(v)), "value must lie on the 256 gray levels")
      for v in (1.1 / 255, 257 / 255, -257 / 255, NAN)),
    (lambda: distributions.DiscretizedNormal(X, 1.0).log_prob(X[:, :1]), r"value must have the mean's shape \(5, 2\)"),
    (lambda: distributions.DiscretizedNormal(X, 1.0).log_prob(None), "value must be a tensor; None was given"),
    # vae
    (lambda: vae.mlp_vae(0), "latent_dim must be at least 1; 0 was given"),
    (lambda: vae.mlp_vae(2.5), "latent_dim must be an integer, at least 1; 2.5 was given"),
    (lambda: vae.mlp_vae(2, (0,)), r"hidden must hold at least 0 positive integers; \[0\] was given"),
    (lambda: vae.mlp_vae(2, 8), "hidden must hold at least 0 positive integers; 8 was given"),
    (lambda: vae.mlp_vae(2, image_shape=28), "image_shape must hold at least 3 positive integers; 28 was given"),
    (lambda: vae.mlp_vae(2, image_shape=(1, 28, 0)), "image_shape must hold at least 3 positive integers"),
    (lambda: vae.conv_vae(2, image_shape=(1, 27, 27)), r"image_shape must be \(channels, 28, 28\) or"),
    (lambda: vae.conv_vae(2, image_shape=(28, 28)), "image_shape must hold at least 3 positive integers"),
    (lambda: vae.Vae(nn.Linear(3, 5), PLAIN, same, 2).posterior(torch.zeros(7, 3)),
     r"encoder\(x\) must have shape \(7, 4\); \(7, 5\) was given"),
    (lambda: distributions.GaussianLikelihood(0), "std must be positive and finite; 0 was given"),
    (lambda: distributions.GaussianLikelihood(NAN), "std must be positive and finite; nan was given"),
    (lambda: distributions.GaussianLikelihood("1"), "std must be a number; '1' was given"),
    (lambda: distributions.DiscretizedGaussianLikelihood(INF), "std must be positive and finite; inf was given"),
    (lambda: vae.linear_vae(4, 0), "latent_dim must be at least 1; 0 was given"),
    (lambda: vae.linear_vae(2.0, 1), "dim must be an integer, at least 1; 2.0 was given"),
    (lambda: vae.linear_vae_log_likelihood(GRAY, IMAGES), "model must have a decoder nn.Linear and a GaussianLikelihood"),
    (lambda: vae.gray_cross_entropy_loss(GRAY, 2 * IMAGES - 1), r"x must lie in \[0, 1\]; -1 to 1 was given"),
    (lambda: GRAY.posterior(X), r"x must have shape \(batch, 1, 8, 8\); \(5, 2\) was given"),
    (lambda: GRAY.posterior(IMAGES.byte()), "x must be floating-point; torch.uint8 was given"),
    *((lambda z=z: GRAY.likelihood(z), says) for z, says in [
        (X[:, :1], r"z must have shape \(batch, 2\); \(5, 1\) was given"),
        (X[0], r"z must have shape \(batch, 2\); \(2,\) was given"),
        (X[:0], r"z must have shape \(batch, 2\); \(0, 2\) was given"),
        (X.long(), "z must be floating-point; torch.int64 was given"),
        (X.double(), "z must have the precision of the model, torch.float32; torch.float64 was given"),
        (None, "z must be a tensor; None was given"),
    ]),
    (lambda: LADDER.likelihood(X), r"z_1 must have shape \(batch, 3 or more\); \(5, 2\) was given"),
    (lambda: LADDER.likelihood(torch.zeros(5, 3, 1)), r"z_1 must have shape \(batch, 3 or more\); \(5, 3, 1\) was"),
    (lambda: LADDER.likelihood(torch.zeros(5, 3).long()), "z_1 must be floating-point; torch.int64 was given"),
    *((lambda model=model, num=num: model.prior(num), says) for model in (GRAY, LADDER, TOY) for num, says in [
        (-1, "num must be at least 1; -1 was given"),
        (0, "num must be at least 1; 0 was given"),
        (2.5, "num must be an integer, at least 1; 2.5 was given"),
        ("3", "num must be an integer, at least 1; '3' was given"),
    ]),
    # hierarchical VAEs
    (lambda: hierarchical_vae.HierarchicalVae([PLAIN], [PLAIN], [], PLAIN, same, [(2,), (2,)]),
     r"bottom_up, evidence and priors must hold 2, 2 and 1 networks .*; \(1, 1, 0\) were given"),
    (lambda: hierarchical_vae.HierarchicalVae([], [], [], PLAIN, same, []),
     r"bottom_up, evidence and priors must hold .* latent_shapes, at least one; \(0, 0, 0\) were given"),
    (lambda: ladder_of(5, 6).inner(1, X, X, X), r"evidence\[0\]\(features\) must have shape \(5, 6\); \(5, 5\) was given"),
    (lambda: ladder_of(6, 5).inner_prior(1, X), r"priors\[0\] must give shape \(batch, 6 or more\), .* it gave \(5, 5\)"),
    (lambda: ladder_of(6, 6, 2).inner_prior(1, X), r"priors\[0\] must give shape \(batch, 6 or more\), .*\(5, 6, 2\)"),
    *((lambda t=t: ladder_of(6, 6).inner_prior(t, X), rf"t must lie in \[1, 1\]; {t} was given") for t in (0, 2, -1)),
    (lambda: ladder_of(6, 6).inner_prior("1", X), "t must be a number; '1' was given"),
    (lambda: ladder_of(6, 6).posterior(X), r"features must be the 2 tensors of encode\(x\); 1 were given"),
    (lambda: elbo.elbo_loss(ladders.mlp_ladder((3,), (8,), image_shape=(1, 8, 8)), IMAGES[:1]),
     "x must hold at least 2 examples for a model with batch normalization in training mode; 1 was given"),
    (lambda: ladders.mlp_ladder((4, 2), (8,)), "latent_dims and hidden must hold one number for each level"),
    (lambda: ladders.mlp_ladder((4, 0), (8, 8)), r"latent_dims must hold at least 1 positive integers; \[4, 0\]"),
    (lambda: ladders.mlp_ladder((), ()), r"latent_dims must hold at least 1 positive integers; \[\] was given"),
    (lambda: ladders.mlp_ladder((4.0,), (8,)), r"latent_dims must hold at least 1 positive integers; \[4.0\] was"),
    (lambda: ladders.mlp_ladder(4, 8), "latent_dims must hold at least 1 positive integers; 4 was given"),
    (lambda: ladders.mlp_ladder((4,), (8,), image_shape=(1, 8, "8")), "image_shape must hold at least 3"),
    (lambda: ladders.conv_ladder(levels=()), r"levels must hold at least 1 positive integers; \[\] was given"),
    (lambda: ladders.conv_ladder(latent_dim=0), "latent_dim must be at least 1; 0 was given"),
    (lambda: ladders.conv_ladder(latent_channels=0), "latent_channels must be at least 1; 0 was given"),
    (lambda: ladders.conv_ladder(channels=(8,)), r"channels must hold 2 numbers, .* at least 2; \[8\] was given"),
    (lambda: ladders.conv_ladder(channels=(8, 1)), r"channels must hold 2 numbers, .* at least 2; \[8, 1\] was given"),
    (lambda: ladders.conv_ladder(channels=(8, 1.5)), "channels must hold at least 1 positive integers"),
    (lambda: ladders.conv_ladder(image_shape=(1, 30, 30)), "image_shape must have sides that 4 divides"),
    # autoencoders
    (lambda: autoencoder.squared_error(X[:, :1], X), r"x_hat must have shape \(5, 2\); \(5, 1\) was given"),
    (lambda: autoencoder.squared_error(X[:1], X), r"x_hat must have shape \(5, 2\); \(1, 2\) was given"),
    (lambda: autoencoder.squared_error(X[0], X[0]), r"x must have shape \(batch, ...\); \(2,\) was given"),
    (lambda: autoencoder.squared_error(X.byte(), X.byte()), "x must be floating-point; torch.uint8 was given"),
    (lambda: autoencoder.squared_error(None, X), "x_hat must be a tensor; None was given"),
    (lambda: autoencoder.denoising_reconstruction_loss(PLAIN, IMAGES, -0.5), "noise_std must not be negative, and be finite; -0.5"),
    (lambda: autoencoder.denoising_reconstruction_loss(PLAIN, IMAGES, NAN), "noise_std must not be negative"),
    (lambda: autoencoder.denoising_reconstruction_loss(PLAIN, IMAGES, "0.5"), "noise_std must be a number; '0.5' was given"),
    (lambda: autoencoder.robust_loss(PLAIN, IMAGES, 0), "radius must be positive and finite; 0 was given"),
    (lambda: autoencoder.robust_loss(PLAIN, IMAGES, num_steps=-1), "num_steps must be at least 0; -1 was given"),
    (lambda: autoencoder.robust_loss(PLAIN, IMAGES, num_steps=2.5), "num_steps must be an integer, at least 0; 2.5"),
    (lambda: autoencoder.worst_perturbation(PLAIN, IMAGES, "2"), "radius must be a number; '2' was given"),
    (lambda: autoencoder.linear_autoencoder(0, 2), "dim must be at least 1; 0 was given"),
    (lambda: autoencoder.linear_autoencoder(4, 0), "latent_dim must be at least 1; 0 was given"),
    (lambda: autoencoder.mlp_autoencoder(0), r"sizes must hold at least 2 positive integers; \[784, 256, 0\] was"),
    (lambda: autoencoder.mlp_autoencoder(2.5), r"sizes must hold at least 2 positive integers; \[784, 256, 2.5\] was"),
    (lambda: autoencoder.conv_autoencoder(latent_dim=0), "num_out must be at least 1; 0 was given"),
    (lambda: autoencoder.conv_autoencoder(channels=0), "channels must be at least 1; 0 was given"),
    (lambda: autoencoder.conv_autoencoder(image_shape=(1, 30, 30)), r"image_shape must be .*\(1, 30, 30\) was given"),
    (lambda: autoencoder.conv_autoencoder(image_shape=(0, 28, 28)), "image_shape must hold at least 3 positive"),
    (lambda: autoencoder.pca_autoencoder(X[0], 1), r"x must have shape \(num, dim\); \(2,\) was given"),
    (lambda: autoencoder.pca_autoencoder(X[:0], 1), r"x must have shape \(num, dim\); \(0, 2\) was given"),
    (lambda: autoencoder.pca_autoencoder(X.long(), 1), "x must be floating-point; torch.int64 was given"),
    (lambda: autoencoder.pca_autoencoder(sub(NAN), 1), "x must be finite"),
    (lambda: autoencoder.pca_autoencoder(X, 3), r"latent_dim must lie in \[1, 2\]; 3 was given"),
    (lambda: autoencoder.pca_autoencoder(X, 0), "latent_dim must be at least 1; 0 was given"),
    (lambda: autoencoder.pca_autoencoder(X, 1.5), "latent_dim must be an integer, at least 1; 1.5 was given"),
    (lambda: autoencoder.dct_matrix(0), "num must be at least 1; 0 was given"),
    (lambda: autoencoder.dct_matrix(8.0), "num must be an integer, at least 1; 8.0 was given"),
    (lambda: autoencoder.DctAutoencoder(8, 9), r"keep must lie in \[1, 8\]; 9 was given"),
    (lambda: autoencoder.DctAutoencoder(8, 2.5), "keep must be an integer, at least 1; 2.5 was given"),
    (lambda: autoencoder.DctAutoencoder(8, 2)(IMAGES[..., :7]), r"x must have shape \(batch, 1, 8, 8\); \(4, 1, 8, 7\)"),
    (lambda: autoencoder.DctAutoencoder(8, 2)(IMAGES.byte()), "x must be floating-point; torch.uint8 was given"),
    # networks
    (lambda: mlp.mlp([3]), r"sizes must hold at least 2 positive integers; \[3\] was given"),
    (lambda: mlp.mlp([3, 2.5]), r"sizes must hold at least 2 positive integers; \[3, 2.5\] was given"),
    (lambda: mlp.mlp([3, "2"]), r"sizes must hold at least 2 positive integers; \[3, '2'\] was given"),
    (lambda: mlp.mlp(None), "sizes must hold at least 2 positive integers; None was given"),
    (lambda: mlp.normalized_mlp([3, 0]), r"sizes must hold at least 2 positive integers; \[3, 0\] was given"),
    (lambda: mlp.TimeMlp(2, ()), "hidden must hold at least 1 positive integers"),
    (lambda: mlp.TimeMlp(0, (8,)), "dim must be at least 1; 0 was given"),
    (lambda: mlp.TimeMlp(2, (8,), width=6), "width must be a multiple of 4; 6 was given"),
    (lambda: mlp.TimeMlp(2, (8,), width=8.0), "width must be an integer, at least 4; 8.0 was given"),
    (lambda: NET(X, T5[:2]), r"t must have shape \(5,\); \(2,\) was given"),
    (lambda: NET(X[:, :1], T5), r"x_t must have shape \(batch, 2\); \(5, 1\) was given"),
    (lambda: NET(X.double(), T5), "x_t must have the precision of the model, torch.float32; torch.float64 was given"),
    (lambda: NET(X.long(), T5), "x_t must be floating-point; torch.int64 was given"),
    (lambda: NET(X, 3), "t must be a tensor; 3 was given"),
    (lambda: conv.conv_encoder(2, 28), "image_shape must hold at least 3 positive integers; 28 was given"),
    (lambda: conv.conv_decoder(2.5), "num_in must be an integer, at least 1; 2.5 was given"),
    (lambda: embeddings.SinusoidalEmbedding(7), "dim must be even and at least 4; 7 was given"),
    (lambda: embeddings.SinusoidalEmbedding(8.0), "dim must be an integer, at least 4; 8.0 was given"),
    (lambda: embeddings.SinusoidalEmbedding(8, 1.0), "max_wavelength must be above 1 and below inf; 1.0 was given"),
    (lambda: embeddings.SinusoidalEmbedding(8, "9"), "max_wavelength must be a number; '9' was given"),
    (lambda: embeddings.FourierEmbedding(2), "dim must be at least 4; 2 was given"),
    (lambda: embeddings.FourierEmbedding(8, 0.0), "std must be positive and finite; 0.0 was given"),
    (lambda: classifier.DigitClassifier()(IMAGES), r"x must have shape \(batch, 1, 28, 28\); \(4, 1, 8, 8\) was given"),
    (lambda: unet.UNet((1, 30, 30)), r"image_shape must be .* with sides that 4 divides, .*; \(1, 30, 30\) was given"),
    (lambda: unet.UNet((1, 28, 14)), r"image_shape must be .* sides that 4 divides, .*; \(1, 28, 14\) was given"),
    (lambda: unet.UNet((1, 7, 7), multipliers=(1, 2)), "image_shape must be .* sides that 2 divides"),
    (lambda: unet.UNet((28, 28)), r"image_shape must hold at least 3 positive integers; \[28, 28\] was given"),
    (lambda: unet.UNet(28), "image_shape must hold at least 3 positive integers; 28 was given"),
    (lambda: unet.UNet(channels=30), "channels must be a multiple of 4; 30 was given"),
    (lambda: unet.UNet(channels=0), "channels must be at least 4; 0 was given"),
    (lambda: unet.UNet(channels=32.0), "channels must be an integer, at least 4; 32.0 was given"),
    (lambda: unet.UNet(blocks=0), "blocks must be at least 1; 0 was given"),
    (lambda: unet.UNet(multipliers=()), r"multipliers must hold at least 1 positive integers; \[\] was given"),
    (lambda: unet.UNet(multipliers=(1, 1.5)), "multipliers must hold at least 1 positive integers"),
    (lambda: unet.UNet(num_classes=0), "num_classes must be at least 1; 0 was given"),
    (lambda: unet.UNet(num_classes="10"), "num_classes must be an integer, at least 1; '10' was given"),
    (lambda: unet.UNet(attention_sides=(7, 8)), r"attention_sides must be among .*, \[28, 14, 7\]; \[7, 8\] was given"),
    (lambda: unet.Attention(8, heads=3), "heads must divide num_channels, 8; 3 was given"),
    (lambda: unet.Attention(8, heads="2"), "heads must be an integer, at least 1; '2' was given"),
    (lambda: UNET(XC[..., :3], T5), r"x_t must have shape \(batch, 1, 4, 4\); \(5, 1, 4, 3\) was given"),
    (lambda: UNET(XC, T5[:3]), r"t must have shape \(5,\); \(3,\) was given"),
    (lambda: UNET(XC.byte(), T5), "x_t must be floating-point; torch.uint8 was given"),
    (lambda: UNET(XC.double(), T5), "x_t must have the precision of the model"),
    (lambda: UNET(XC, T5, LABEL), "label must be left out of a network without num_classes; one was given"),
    *((lambda label=label: CLASSES.denoiser.network(XC, T5, label), says) for label, says in [
        (LABEL[:1], r"label must have shape \(5,\); \(1,\) was given"),
        (torch.tensor(1), r"label must have shape \(5,\); \(\) was given"),
        (LABEL + 2, r"label must lie in \[0, 3\]; 2 to 4 was given"),
        (LABEL - 1, r"label must lie in \[0, 3\]; -1 to 1 was given"),
        (LABEL.float(), "label must hold integers, int64 or int32; torch.float32 was given"),
        (LABEL > 0, "label must hold integers, int64 or int32; torch.bool was given"),
        (LABEL.byte(), "label must hold integers, int64 or int32; torch.uint8 was given"),
    ]),
    # interpolation
    (lambda: interpolation.spherical_interpolation(X + 1, X[:, :1], X[0]), r"end must have shape \(5, 2\); \(5, 1\) was"),
    (lambda: interpolation.spherical_interpolation(X + 1, X + 2, X[0]), "start and end .* different, .* from 1 to 1"),
    (lambda: interpolation.spherical_interpolation(X + 1, -X - 1, X[0]), "start and end .* opposite .* -1 to -1"),
    (lambda: interpolation.spherical_interpolation(X, X + 1, X[0]), "start and end must point in different"),
    *((lambda a=a, b=b: interpolation.spherical_interpolation(a, b, X[0]), "start and end must point in different")
      for a, b in itertools.permutations([EYE[:, :2], 1 - EYE[:, :2]])),  # one of three is zero
    (lambda: interpolation.spherical_interpolation(X + 1, None, X[0]), "end must be a tensor; None was given"),
    (lambda: interpolation.spherical_interpolation(sub(NAN), X + 1, X[0]), "start must be finite"),
    (lambda: interpolation.spherical_interpolation(X.long(), X.long(), X[0]), "start must be floating-point; torch.int64 was"),
    (lambda: interpolation.spherical_interpolation(X + 1, X.double(), X[0]), "end must have the dtype torch.float32"),
    (lambda: interpolation.spherical_interpolation(X + 1, -X, 0.5), "share must be a tensor; 0.5 was given"),
    (lambda: interpolation.path_length_ratio(sub(NAN)), "points must be finite"),
    (lambda: interpolation.path_length_ratio(X[0]), r"points must have shape \(steps, ...\); \(2,\) was given"),
    (lambda: interpolation.path_length_ratio(X[:1]), "points must be at least two, with different first and last"),
    (lambda: interpolation.path_length_ratio(X), "points must be at least two, with different first and last"),
    (lambda: interpolation.path_length_ratio([0, 1]), r"points must be a tensor; \[0, 1\] was given"),
]

OF_DIFFUSION = [
    # schedule
    (lambda: schedule.linear_schedule(0), "T must be at least 1; 0 was given"),
    (lambda: schedule.linear_schedule(10.5), "T must be an integer, at least 1; 10.5 was given"),
    (lambda: schedule.linear_schedule(True), "T must be an integer, at least 1; True was given"),
    (lambda: schedule.linear_schedule(None), "T must be an integer, at least 1; None was given"),
    (lambda: schedule.linear_schedule(10, "1e-4"), "beta_1 must be a number; '1e-4' was given"),
    (lambda: schedule.linear_schedule(10, -0.1), "beta_1 must be above 0 and below 1; -0.1 was given"),
    (lambda: schedule.linear_schedule(10, 1e-2, 2.0), "beta_T must be above 0 and below 1; 2.0 was given"),
    (lambda: schedule.linear_schedule(10, NAN), "beta_1 must be above 0 and below 1; nan was given"),
    (lambda: schedule.cosine_schedule(-1), "T must be at least 1; -1 was given"),
    (lambda: schedule.cosine_schedule(10, s=-1), "s must not be negative, and be finite; -1 was given"),
    (lambda: schedule.cosine_schedule(10, max_beta=1), "max_beta must be above 0 and below 1; 1 was given"),
    (lambda: schedule.cosine_schedule(10, max_beta="1"), "max_beta must be a number; '1' was given"),
    (lambda: schedule.Schedule.from_betas([0.1]), r"betas must be a tensor; \[0.1\] was given"),
    (lambda: schedule.Schedule.from_betas(X), r"betas must have shape \(num_steps,\); \(5, 2\) was given"),
    (lambda: schedule.Schedule.from_betas(X[0, :0]), r"betas must have shape \(num_steps,\); \(0,\) was given"),
    (lambda: schedule.Schedule.from_betas(torch.tensor([0.1, 1.5])), "betas must be above 0 and below 1; 0.1 to 1.5 was"),
    (lambda: schedule.Schedule.from_betas(torch.tensor([0, 1])), "betas must be above 0 and below 1; 0 to 1 was given"),
    (lambda: schedule.Schedule.from_betas(torch.tensor([NAN])), "betas must be above 0 and below 1; nan to nan was"),
    (lambda: schedule.Schedule(torch.tensor([-0.1, -0.2])), "log_alpha_bar must start at 0, fall, .*2 entries, -0.2 to -0.1"),
    (lambda: schedule.Schedule(torch.tensor([0.0, -1.0, -1.0])), "log_alpha_bar must start at 0, fall"),
    (lambda: schedule.Schedule(torch.tensor([0.0])), "log_alpha_bar .* two entries at least; 1 entries, 0, were given"),
    (lambda: schedule.Schedule(X), r"log_alpha_bar must have shape \(times,\)"),
    (lambda: schedule.Schedule(torch.tensor([0.0, -INF])), "log_alpha_bar must be finite"),
    (lambda: schedule.Schedule(torch.tensor([0.0, NAN])), "log_alpha_bar must be finite"),
    (lambda: schedule.Schedule(torch.tensor([0, -1])), "log_alpha_bar must be floating-point; torch.int64 was given"),
    (lambda: schedule.Schedule(torch.tensor([0.0, -1.0]), torch.arange(3)), r"times must have shape \(2,\); \(3,\) was"),
    (lambda: schedule.Schedule(torch.tensor([0.0, -1.0]), torch.ones(2)), "times must hold integers, int64 or int32; torch.float32 was"),
    (lambda: S.reverse_coefficients(0), "t must be at least 1; 0 was given"),
    (lambda: S.reverse_coefficients(21), r"t must lie in \[1, 20\]; 21 was given"),
    (lambda: S.reverse_coefficients(torch.tensor([5, 21])), r"t must lie in \[1, 20\]; 5 to 21 was given"),
    (lambda: S.reverse_coefficients(2.5), "t must be an integer, at least 1; 2.5 was given"),
    (lambda: S.forward_coefficients(-1, 4), "s must be at least 0; -1 was given"),
    (lambda: S.forward_coefficients(0, True), "t must be an integer, at least 0; True was given"),
    (lambda: S.forward_coefficients(5, 4), "s must not be after t; s=5 and t=4 were given"),
    (lambda: S.forward_coefficients(0, torch.ones(2)), "t must hold integers, int64 or int32; torch.float32 was given"),
    (lambda: S.reverse_coefficients(T5.byte()), "t must hold integers, int64 or int32; torch.uint8 was given"),
    *((lambda convert=convert: convert(S, X, T5, X[:1]), r"\w+ must have shape \(5, 2\); \(1, 2\) was given") for convert in (
        schedule.x_0_from_noise, schedule.noise_from_x_0, schedule.x_0_from_v, schedule.v_from_x_0,
        schedule.score_from_x_0, schedule.mean_from_x_0,
    )),
    (lambda: schedule.x_0_from_v(S, X, T5[:1], X), r"t must have shape \(5,\); \(1,\) was given"),
    (lambda: schedule.add_noise(S, X, T5.byte(), X), "t must hold integers, int64 or int32; torch.uint8 was given"),
    (lambda: list(samplers.reverse_sample(lambda x, t: x, S, X, schedule.linear_schedule(7).reverse_coefficients(T5))), r"q.of_x_0 must have shape"),
    (lambda: list(score.langevin_sample(lambda x: x[:1], X, 0.1, 2)), r"the score must have shape \(5, 2\); \(1, 2\) was"),
    (lambda: MIXTURE(X, T5 - 9), r"t must lie in \[1, "),
    (lambda: MIXTURE(X.long(), T5), "x_t must be floating-point; torch.int64 was given"),
    (lambda: S.forward_coefficients(0, T5 > 0), "t must hold integers, int64 or int32; torch.bool was given"),
    (lambda: S.forward_coefficients(0, "4"), "t must be an integer, at least 0; '4' was given"),
    (lambda: S.strided([]), r"times must have shape \(num_steps,\); \(0,\) was given"),
    (lambda: S.strided([3, 3]), r"times must rise; \[3, 3\] was given"),
    (lambda: S.strided([5, 3, 1]), r"times must rise; \[5, 3, 1\] was given"),
    (lambda: S.strided([0, 3]), r"times must lie in \[1, 20\]; 0 to 3 was given"),
    (lambda: S.strided([1, 50]), r"times must lie in \[1, 20\]; 1 to 50 was given"),
    (lambda: S.strided([1.5, 3.2]), "times must hold integers, int64 or int32; torch.float32 was given"),
    (lambda: S.strided(["1"]), r"times must hold numbers; \['1'\] was given"),
    (lambda: S.strided(None), "times must hold numbers; None was given"),
    (lambda: S.strided([[1, 2], [3, 4]]), r"times must have shape \(num_steps,\); \(2, 2\) was given"),
    (lambda: S.evenly(1), "num must be at least 2; 1 was given"),
    (lambda: S.evenly(21), r"num must lie in \[2, 20\]; 21 was given"),
    (lambda: S.evenly(2.5), "num must be an integer, at least 2; 2.5 was given"),
    (lambda: S.trailing(0), "num must be at least 1; 0 was given"),
    (lambda: S.trailing(21), r"num must lie in \[1, 20\]; 21 was given"),
    (lambda: schedule.add_noise(S, X, 21, X), r"t must lie in \[0, 20\]; 21 was given"),
    (lambda: schedule.add_noise(S, X, -1, X), "t must be at least 0; -1 was given"),
    (lambda: schedule.add_noise(S, X, T5[:2], X), r"t must have shape \(5,\); \(2,\) was given"),
    (lambda: schedule.add_noise(S, X, X[:, 0], X), "t must hold integers, int64 or int32; torch.float32 was given"),
    (lambda: schedule.add_noise(S, X.long(), 3, X), "x_0 must be floating-point; torch.int64 was given"),
    (lambda: schedule.add_noise(S, X.byte(), 3, X), "x_0 must be floating-point; torch.uint8 was given"),
    (lambda: schedule.add_noise(S, X, 3, X[:1]), r"noise must have shape \(5, 2\); \(1, 2\) was given"),
    (lambda: schedule.add_noise(S, X, 3, X[:, :1]), r"noise must have shape \(5, 2\); \(5, 1\) was given"),
    (lambda: schedule.add_noise(S, X, 3, X.double()), "noise must have the dtype torch.float32; torch.float64 was given"),
    (lambda: schedule.add_noise(S, X, 3, None), "noise must be a tensor; None was given"),
    (lambda: schedule.add_noise(S, None, 3, X), "x_0 must be a tensor; None was given"),
    *((lambda f=f: f(S, X.long(), 3, X), "x must be floating-point; torch.int64 was given") for f in (
        schedule.x_0_from_noise, schedule.noise_from_x_0, schedule.x_0_from_v, schedule.v_from_x_0,
        schedule.score_from_x_0, schedule.mean_from_x_0)),
    *((lambda f=f: f(S, X, -1, X), "t must be at least") for f in (
        schedule.x_0_from_noise, schedule.noise_from_x_0, schedule.x_0_from_v, schedule.v_from_x_0,
        schedule.score_from_x_0, schedule.mean_from_x_0)),
    *((lambda f=f, t=t: f(S, X, t, X), says) for f in (
        schedule.x_0_from_noise, schedule.noise_from_x_0, schedule.x_0_from_v, schedule.v_from_x_0,
        schedule.score_from_x_0, schedule.mean_from_x_0, schedule.add_noise) for t, says in [
        (-T5, r"t must lie in \[[01], 20\]; -1 to -1 was given"),
        (21 * T5, r"t must lie in \[[01], 20\]; 21 to 21 was given"),
        (21, r"t must lie in \[[01], 20\]; 21 was given"),
        (T5.float(), "t must hold integers, int64 or int32; torch.float32 was given"),
        (T5 > 0, "t must hold integers, int64 or int32; torch.bool was given"),
    ]),
    *((lambda f=f, t=t: f(S, X, t, X), "t must (lie in|be at least) .*1.*; 0 ") for f in (
        schedule.noise_from_x_0, schedule.v_from_x_0, schedule.score_from_x_0, schedule.mean_from_x_0)
      for t in (0, 0 * T5)),
    *((lambda call=call, given=given: call(given), f"schedule must be a Schedule; {given} was given") for call in (
        lambda s: schedule.add_noise(s, X, 3, X),
        lambda s: schedule.x_0_from_noise(s, X, 3, X),
        lambda s: schedule.v_from_x_0(s, X, T5, X),
        lambda s: schedule.mean_from_x_0(s, X, 3, X),
        lambda s: denoisers.NoisePredictor(NET, s),
        lambda s: denoisers.VPredictor(NET, s),
        lambda s: denoisers.gaussian_denoiser(s, X[0], EYE[:2, :2]),
        lambda s: ddpm.Ddpm(same, s, (2,), S.beta),
        lambda s: decoders.HistogramDecoder(s, torch.ones(4) / 4),
        lambda s: variances.bound_weights(s, S.beta),
        lambda s: variances.linear_noise_error(s, X[0]),
        lambda s: variances.optimal_reverse_var(s, S.beta),
        lambda s: samplers.ddpm_sample(same, s, X),
        lambda s: samplers.ddim_sample(same, s, X),
        lambda s: samplers.dpm_solver_sample(same, s, X),
        lambda s: samplers.ddim_invert(same, s, X),
        lambda s: samplers.inpaint_sample(same, s, X, X, X > 0),
        lambda s: samplers.reverse_sample(same, s, X, S.reverse_coefficients(S.steps)),
        lambda s: score.score_from_denoiser(same, s),
        lambda s: measured(schedule=s),
    ) for given in (None, 5)),
    (lambda: decoders.HistogramDecoder(S, EYE / 9), r"frequency must have shape \(levels,\); \(3, 3\) was given"),
    (lambda: decoders.HistogramDecoder(S, EYE[0, :1]), "levels must be at least 2; 1 was given"),
    (lambda: decoders.HistogramDecoder(S, EYE[0]), "frequency must be positive and add up to 1; 0 at least, 1 in all"),
    (lambda: decoders.gray_level_frequencies(X, levels=1), "levels must be at least 2; 1 was given"),
    (lambda: ddpm.image_ddpm(UNET, 5), "schedule must be a Schedule; 5 was given"),
    # denoisers
    (lambda: denoisers.denoised(lambda x, t: None, X, T5), "the denoiser's estimate must be a tensor; None was given"),
    (lambda: denoisers.denoised(lambda x, t: x[:, :1], X, T5), r"the denoiser's estimate must have shape \(5, 2\)"),
    (lambda: denoisers.check_denoiser(None), "denoiser must be a function; None was given"),
    (lambda: denoisers.check_denoiser(TOY), "denoiser must be a denoiser, such as that of the model; a Ddpm was given"),
    (lambda: denoisers.NoisePredictor(None, S), "network must be a function; None was given"),
    (lambda: denoisers.MixtureDenoiser(S, X[0, :1] + 1, X[:1], EYE[None]), r"covs must have shape \(1, 2, 2\); \(1, 3, 3\)"),
    (lambda: denoisers.MixtureDenoiser(S, X[0, :1] + 1, X[:2], EYE[None]), r"weights must have shape \(2,\)"),
    (lambda: denoisers.MixtureDenoiser(S, X[0, :1] + 0.5, X[:1], EYE[None, :2, :2]), "weights must be positive and add"),
    (lambda: denoisers.MixtureDenoiser(S, X[0, :1] + NAN, X[:1], EYE[None, :2, :2]), "weights must be positive and add"),
    (lambda: denoisers.MixtureDenoiser(S, X[0, :1] + 1, X[0], EYE[None]), r"means must have shape \(batch, ...\)"),
    (lambda: denoisers.MixtureDenoiser(S, X[0, :1] + 1, sub(NAN)[:1], EYE[None, :2, :2]), "means must be finite"),
    (lambda: denoisers.gaussian_denoiser(S, X[0], EYE[:2, :2].long()), "covs must be floating-point; torch.int64 was given"),
    (lambda: denoisers.gaussian_denoiser(S, X[0], EYE.cumsum(0)[:2, :2]), "covs must be symmetric; entries differ by up to 1"),
    (lambda: denoisers.gaussian_denoiser(S, X[0], NAN * EYE[:2, :2]), "covs must be symmetric; entries differ by up to nan"),
    (lambda: denoisers.gaussian_denoiser(S, X[0], -EYE[:2, :2]), "covs must be positive semi-definite; .* is -1"),
    (lambda: denoisers.spectrum(X), r"cov must have shape \(5, 5\); \(5, 2\) was given"),
    (lambda: MIXTURE(X[:, :1], T5), r"x_t must have shape \(5, 2\); \(5, 1\) was given"),
    # ddpm
    (lambda: toy(torch.ones(3)), r"reverse_var must have shape \(4,\) or \(4, 2\); \(3,\) was given"),
    (lambda: toy([0.1] * 4), r"reverse_var must be a tensor; \[0.1, 0.1, 0.1, 0.1\] was given"),
    (lambda: toy(S3.posterior_var), "reverse_var must be positive and finite from entry 1 on; 0 was given at t = 1"),
    (lambda: toy(sub(NAN, torch.ones(4)).flip(0)), "reverse_var must be positive and finite .* nan was given at t = 3"),
    (lambda: toy(sub(INF, torch.ones(4)).flip(0)), "reverse_var must be positive and finite .* inf was given at t = 3"),
    (lambda: toy(decoder_var=0.0), "decoder_var must be positive and finite .* t = 1"),
    (lambda: toy(decoder_var="1"), "decoder_var must hold numbers; '1' was given"),
    (lambda: toy(decoder_var=torch.ones(3)), r"decoder_var must have shape \(\); \(3,\) was given"),
    (lambda: toy(denoiser=None), "denoiser must be a function; None was given"),
    (lambda: toy(denoiser=TOY), "denoiser must be a denoiser, such as that of the model; a Ddpm was given"),
    (lambda: toy(observation_model=None), "observation_model must be a function; None was given"),
    (lambda: ddpm.Ddpm(same, S3, 2, S3.beta), "x_shape must hold at least 1 positive integers; 2 was given"),
    (lambda: ddpm.Ddpm(same, S3, (0,), S3.beta), r"x_shape must hold at least 1 positive integers; \[0\] was given"),
    (lambda: ddpm.Ddpm(same, None, (2,), S3.beta), "schedule must be a Schedule; None was given"),
    (lambda: toy().posterior(X[:, :1]), r"x must have shape \(batch, 2\); \(5, 1\) was given"),
    (lambda: toy().posterior(X[:0]), r"x must have shape \(batch, 2\); \(0, 2\) was given"),
    (lambda: toy().posterior(X.long()), "x must be floating-point; torch.int64 was given"),
    (lambda: toy().posterior(sub(NAN)), "mean must be finite"),
    (lambda: toy().marginal(4, X), r"t must lie in \[0, 3\]; 4 was given"),
    (lambda: toy().marginal(1, X.long()), "x must be floating-point; torch.int64 was given"),
    (lambda: toy().inner_prior(3, X), r"t \+ 1 must lie in \[2, 3\]; 4 was given"),
    (lambda: toy().inner_posterior(0, X, X), r"t \+ 1 must be at least 2; 1 was given"),
    (lambda: toy().denoise(X, 0), "t must be at least 1; 0 was given"),
    (lambda: toy().denoise(X, 4), r"t must lie in \[1, 3\]; 4 was given"),
    (lambda: toy().denoise(X, X[:, 0]), "t must hold integers, int64 or int32; torch.float32 was given"),
    (lambda: toy().denoise(X, T5[:3]), r"t must have shape \(5,\); \(3,\) was given"),
    (lambda: toy(denoiser=lambda x, t: x[:, :1]).denoise(X, 1), r"the denoiser's estimate must have shape \(5, 2\); \(5, 1\)"),
    (lambda: toy(denoiser=lambda x, t: None).denoise(X, 1), "the denoiser's estimate must be a tensor; None was given"),
    (lambda: ddpm.elbo_step(TOY, X, 0 * T5, X), r"t must lie in \[1, 20\]; 0 to 0 was given"),
    (lambda: ddpm.elbo_step(TOY, X, [1] * 5, X), r"t must be a tensor; \[1, 1, 1, 1, 1\] was given"),
    (lambda: ddpm.elbo_step(TOY, X, T5[:2], X), r"t must have shape \(5,\); \(2,\) was given"),
    (lambda: ddpm.elbo_step(TOY, X, T5, X[:1]), r"noise must have shape \(5, 2\); \(1, 2\) was given"),
    (lambda: ddpm.denoising_loss(TOY, X, SNR[1:]), r"weight must have shape \(21,\); \(20,\) was given"),
    (lambda: ddpm.denoising_loss(TOY, X, 1.0), "weight must be a tensor; 1.0 was given"),
    (lambda: ddpm.denoising_loss(TOY, X, SNR, time_weights=SNR[1:]), r"time_weights must have shape \(21,\)"),
    (lambda: ddpm.denoising_loss(CLASSES, XC, SNR, LABEL[:2]), r"label must have shape \(5,\); \(2,\) was given"),
    (lambda: ddpm.single_step_elbo(TOY, X, SNR[1:]), r"time_weights must have shape \(21,\); \(20,\) was given"),
    (lambda: ddpm.single_step_elbo(TOY, X, [1.0] * 21), "time_weights must be a tensor"),
    (lambda: ddpm.single_step_elbo(TOY, X, sub(0.0, torch.ones(21)).flip(0)), "time_weights must be positive .*; 0 was given"),
    (lambda: ddpm.single_step_elbo(TOY, X, torch.ones(21) / 0), "time_weights must be finite"),
    (lambda: ddpm.noise_errors(TOY, X, [0, 1]), r"times must lie in \[1, 20\]; 0 to 1 was given"),
    (lambda: ddpm.noise_errors(TOY, X, []), r"times must have shape \(times,\); \(0,\) was given"),
    (lambda: ddpm.noise_errors(TOY, X, [1.5]), "times must hold integers, int64 or int32; torch.float32 was given"),
    (lambda: ddpm.noise_errors(TOY, X, "1"), "times must hold numbers; '1' was given"),
    (lambda: ddpm.noise_errors(TOY, X, 3), r"times must have shape \(times,\); \(\) was given"),
    (lambda: elbo.elbo_terms(ddpm.image_ddpm(UNET, S), XC + 0.3), "value must lie on the 256 gray levels"),
    (lambda: ddpm.image_ddpm(UNET, schedule.linear_schedule(1)), "number of steps of the schedule must be at least 2; 1"),
    (lambda: ddpm.image_ddpm(UNET, levels=1), "levels must be at least 2; 1 was given"),
    (lambda: ddpm.image_ddpm(UNET, levels=2.5), "levels must be an integer, at least 2; 2.5 was given"),
    (lambda: ddpm.image_ddpm(NET), "network must be a UNet; a TimeMlp was given"),
    (lambda: ddpm.image_ddpm(UNET, predictor="v"), "predictor must be a function; 'v' was given"),
    # variances
    (lambda: variances.bound_weights(S3, S3.posterior_var), "reverse_var must be positive"),
    (lambda: variances.bound_weights(S3, S3.posterior_var, 0.0), "decoder_var must be positive"),
    (lambda: variances.bound_weights(S3, None), "reverse_var must be a tensor; None was given"),
    (lambda: variances.bound_weights(S3, T5[:4]), "reverse_var must be floating-point; torch.int64 was given"),
    (lambda: variances.linear_noise_error(S3, torch.tensor([1.0, -1.0])), r"eigenvalues must lie in \[0, inf\]; -1 to 1"),
    (lambda: variances.linear_noise_error(S3, torch.tensor([INF])), "eigenvalues must be finite"),
    (lambda: variances.linear_noise_error(S3, torch.tensor([1, 2])), "eigenvalues must be floating-point"),
    (lambda: variances.linear_noise_error(S3, [1.0]), r"eigenvalues must be a tensor; \[1.0\] was given"),
    (lambda: variances.optimal_reverse_var(S3, torch.ones(3)), r"noise_error must have shape \(4,\); \(3,\) was given"),
    (lambda: variances.optimal_reverse_var(S3, -torch.ones(4)), r"noise_error must lie in \[0, inf\]; -1 to -1 was"),
    (lambda: variances.optimal_reverse_var(S3, sub(NAN, torch.ones(4)).flip(0)), r"noise_error must lie in \[0, inf\]; nan"),
    (lambda: variances.optimal_reverse_var(S3, 0.5), "noise_error must be a tensor; 0.5 was given"),
    # samplers: at the call, not when the first step is asked for
    (lambda: samplers.ancestral_sample(TOY, 0), "num must be at least 1; 0 was given"),
    (lambda: samplers.ancestral_sample(TOY, -1), "num must be at least 1; -1 was given"),
    (lambda: samplers.ancestral_sample(TOY, 2.5), "num must be an integer, at least 1; 2.5 was given"),
    (lambda: samplers.ancestral_sample(PLAIN, 2), "model must be a LatentChain; an Autoencoder was given"),
    (lambda: samplers.ancestral_sample(None, 2), "model must be a LatentChain; None was given"),
    *((lambda f=f, x=x: f(PREDICTOR, S, x), f"{name} {says}")
      for f, name in ((samplers.ddpm_sample, "x_T"), (samplers.ddim_sample, "x_T"),
                      (samplers.dpm_solver_sample, "x_T"), (samplers.ddim_invert, "x_0"))
      for x, says in (
        (X.long(), "must be floating-point; torch.int64 was given"),
        (X.double(), "must have the precision of the model, torch.float32; torch.float64 was given"),
        (X[:0], r"must have shape \(batch, 2\); \(0, 2\) was given"),
        (X[0, 0], r"must have shape \(batch, ...\); \(\) was given"),
        (sub(NAN), "must be finite"),
        (sub(INF), "must be finite"),
        (None, "must be a tensor; None was given"),
      )),
    (lambda: samplers.reverse_sample(PREDICTOR, S, sub(NAN), samplers.ddim_posterior(S, 0)), "x_T must be finite"),
    (lambda: samplers.ddim_sample(TOY, S, X), "denoiser must be a denoiser, such as that of the model; a Ddpm was given"),
    (lambda: samplers.ddim_sample(None, S, X), "denoiser must be a function; None was given"),
    (lambda: list(samplers.ddim_sample(PREDICTOR, S, X[:, :1])), r"x_t must have shape \(batch, 2\); \(5, 1\) was given"),
    (lambda: list(samplers.ddim_sample(lambda x, t: x[:1], S, X)), "the denoiser's estimate must have shape"),
    (lambda: list(samplers.ddim_invert(lambda x, t: x[:1], S, X)), "the denoiser's estimate must have shape"),
    *((lambda bad=bad: samplers.ddpm_sample(same, S3, X, S3.beta.index_fill(0, torch.tensor(2), bad)), says)
      for bad, says in ((INF, "reverse_var must be finite"), (NAN, "reverse_var must be finite"), (-1.0, "reverse_var must"))),
    (lambda: list(samplers.dpm_solver_sample(lambda x, t: x[:1], S, X)), "the denoiser's estimate must have shape"),
    (lambda: list(samplers.ddpm_sample(lambda x, t: None, S, X)), "the denoiser's estimate must be a tensor; None was"),
    (lambda: samplers.ddpm_sample(same, S3, X, torch.ones(3)), r"reverse_var must have shape \(4,\) or \(4, 2\); \(3,\)"),
    (lambda: samplers.ddpm_sample(same, S3, X, torch.tensor([0, 0, 1.0, -1])), r"reverse_var must lie in \[0, inf\]; -1 to 1"),
    (lambda: samplers.ddpm_sample(same, S3, X, torch.tensor([0, 0, 1, NAN])), "reverse_var must be finite"),
    (lambda: samplers.ddpm_sample(same, S3, X, torch.ones(4).long()), "reverse_var must be floating-point"),
    (lambda: samplers.ddpm_sample(same, S3, X, 0.5), "reverse_var must be a tensor; 0.5 was given"),
    (lambda: samplers.ddim_sample(same, S3, X, 1.1), r"eta must lie in \[0, 1\]; 1.1 was given"),
    (lambda: samplers.ddim_sample(same, S3, X, NAN), r"eta must lie in \[0, 1\]; nan was given"),
    (lambda: samplers.ddim_sample(same, S3, X, "0"), "eta must be a number; '0' was given"),
    (lambda: samplers.ddim_sample(same, S3, X, None), "eta must be a number; None was given"),
    (lambda: samplers.ddim_posterior(S3, -0.1), r"eta must lie in \[0, 1\]; -0.1 was given"),
    (lambda: samplers.inpaint_sample(same, S3, X.long(), X, MASK), "x_T must be floating-point"),
    (lambda: samplers.inpaint_sample(same, S3, sub(NAN), X, MASK), "x_T must be finite"),
    (lambda: samplers.inpaint_sample(same, S3, X, X[:2], MASK), r"x must have shape \(5, 2\); \(2, 2\) was given"),
    (lambda: samplers.inpaint_sample(same, S3, X, X.byte(), MASK), "x must have the dtype torch.float32; torch.uint8 was"),
    (lambda: samplers.inpaint_sample(same, S3, X, sub(NAN), MASK), "x must be finite"),
    (lambda: samplers.inpaint_sample(same, S3, X, X, MASK.float()), r"observed must be boolean, of shape \(5, 2\) or \(2,\)"),
    (lambda: samplers.inpaint_sample(same, S3, X, X, MASK[:1]), r"observed must be boolean, .* of shape \(1,\) was given"),
    (lambda: samplers.inpaint_sample(same, S3, X, X, None), "observed must be a tensor; None was given"),
    (lambda: samplers.inpaint_sample(same, S3, X, X, MASK, 0), "repeats must be at least 1; 0 was given"),
    (lambda: samplers.inpaint_sample(same, S3, X, X, MASK, 1.5), "repeats must be an integer, at least 1; 1.5 was given"),
    (lambda: samplers.in_chunks(partial(samplers.ddim_sample, same, S3), 0, X), "chunk must be at least 1; 0 was given"),
    (lambda: samplers.in_chunks(partial(samplers.ddim_sample, same, S3), 2, X, X[:1]), r"inputs must .* \[5, 1\] were given"),
    (lambda: samplers.in_chunks(partial(samplers.ddim_sample, same, S3), 2), r"inputs must .* lengths \[\] were given"),
    (lambda: samplers.in_chunks(partial(samplers.ddim_sample, same, S3), 2, X[:0]), "x_T must have shape"),
    (lambda: samplers.in_chunks(partial(samplers.ddim_sample, same, S3), 2, [1, 2]), r"inputs must be a tensor; \[1, 2\]"),
    # scores
    (lambda: score.NoiseConditionalScore(NET, [1.0, 2.0]), r"sigmas must be positive and falling; \[1.0, 2.0\] was given"),
    (lambda: score.NoiseConditionalScore(NET, [1.0, 0.0]), "sigmas must be positive and falling"),
    (lambda: score.NoiseConditionalScore(NET, [NAN]), "sigmas must be positive and falling"),
    (lambda: score.NoiseConditionalScore(NET, [INF, 1.0]), "sigmas must be finite"),
    (lambda: score.NoiseConditionalScore(NET, []), r"sigmas must have shape \(levels,\); \(0,\) was given"),
    (lambda: score.NoiseConditionalScore(NET, 1.0), r"sigmas must have shape \(levels,\); \(\) was given"),
    (lambda: score.NoiseConditionalScore(NET, None), "sigmas must hold numbers; None was given"),
    (lambda: score.NoiseConditionalScore(None, [1.0]), "network must be a function; None was given"),
    (lambda: SCORES(X, -torch.ones(5)), "sigma must be positive; -1 to -1 was given"),
    (lambda: SCORES(X, torch.zeros(5)), "sigma must be positive; 0 to 0 was given"),
    (lambda: SCORES(X, NAN * torch.ones(5)), "sigma must be positive; nan to nan was given"),
    (lambda: SCORES(X, torch.ones(3)), r"sigma must have shape \(5,\); \(3,\) was given"),
    (lambda: SCORES(X, 1.0), "sigma must be a tensor; 1.0 was given"),
    (lambda: score.geometric_noise_levels(0.1, 1.0, 5), "sigma_1 must be above sigma_L; 0.1 and 1.0 were given"),
    (lambda: score.geometric_noise_levels(0.1, 0.0, 5), "sigma_L must be positive and finite; 0.0 was given"),
    (lambda: score.geometric_noise_levels(INF, 1.0, 5), "sigma_1 must be positive and finite; inf was given"),
    (lambda: score.geometric_noise_levels("1", 0.1, 5), "sigma_1 must be a number; '1' was given"),
    (lambda: score.geometric_noise_levels(1.0, 0.1, 1), "num must be at least 2; 1 was given"),
    (lambda: score.geometric_noise_levels(1.0, 0.1, 2.5), "num must be an integer, at least 2; 2.5 was given"),
    *((lambda x=x: score.denoising_score_matching_loss(SCORES, x), says) for x, says in wrong(X)[1:]),
    (lambda: score.exact_score(lambda x: x.sum(), X.long()), "x must be floating-point; torch.int64 was given"),
    (lambda: score.exact_score(lambda x: x.sum(), None), "x must be a tensor; None was given"),
    (lambda: score.noisy_mixture(data.toy_density("mixture"), 1.0, -5.0), "noise_var must not be negative, and be finite"),
    (lambda: score.noisy_mixture(data.toy_density("mixture"), NAN, 1.0), "scale must lie in"),
    (lambda: score.noisy_mixture(data.toy_density("rings"), 1.0, 1.0), "data must be a MixtureSameFamily; Rings"),
    (lambda: score.score_from_denoiser(PREDICTOR, S)(X, 0 * T5), r"t must lie in \[1, 20\]; 0 to 0 was given"),
    (lambda: score.score_from_denoiser(PREDICTOR, S)(X, 99 * T5), r"t must lie in \[1, 20\]; 99 to 99 was given"),
    (lambda: score.score_from_denoiser(PREDICTOR, S)(X, T5[:3]), r"t must have shape \(5,\); \(3,\) was given"),
    (lambda: score.score_from_denoiser(lambda x, t: None, S)(X, T5), "the denoiser's estimate must be a tensor"),
    (lambda: score.langevin_sample(torch.neg, X, 0.0, 3), "step_size must be positive and finite; 0.0 was given"),
    (lambda: score.langevin_sample(torch.neg, X, "1", 3), "step_size must be a number; '1' was given"),
    (lambda: score.langevin_sample(torch.neg, X, 0.1, 0), "num_steps must be at least 1; 0 was given"),
    (lambda: score.langevin_sample(torch.neg, X, 0.1, 2.5), "num_steps must be an integer, at least 1; 2.5 was given"),
    (lambda: score.langevin_sample(torch.neg, X.long(), 0.1, 3), "x must be floating-point"),
    (lambda: score.langevin_sample(torch.neg, sub(NAN), 0.1, 3), "x must be finite"),
    (lambda: score.langevin_sample(torch.neg, X[:0], 0.1, 3), r"x must have shape \(batch, 2\); \(0, 2\) was given"),
    (lambda: score.langevin_sample(None, X, 0.1, 3), "score must be a function; None was given"),
    *((lambda x=x: score.annealed_langevin_sample(SCORES, x, [2.0, 1.0], 0.1, 3), says)
      for x, says in wrong(X)[1:] if x is None or len(x) != 2),
    (lambda: score.annealed_langevin_sample(3, X, [2.0, 1.0], 0.1, 3), "score_at_sigma must be a function; 3 was given"),
    (lambda: score.annealed_langevin_sample(SCORES, X, [1.0, 2.0], 0.1, 3), r"sigmas must be positive and falling"),
    (lambda: score.annealed_langevin_sample(SCORES, X, [], 0.1, 3), "sigmas must have shape"),
    (lambda: score.annealed_langevin_sample(SCORES, X, [2.0, 1.0], -1.0, 3), "step_size must be positive"),
    (lambda: score.annealed_langevin_sample(SCORES, X, [2.0, 1.0], 0.1, 0), "num_steps must be at least 1; 0 was given"),
    # flows
    *((lambda f=f: f(None, X, [0.0, -1.0]), "score_at_level must be a function; None was given")
      for f in (flows.probability_flow, flows.ode_log_prob)),
    *((lambda f=f, levels=levels: f(FLOW, X, levels), says)
      for f in (flows.probability_flow, flows.ode_log_prob)
      for levels, says in (
        ([0.0], r"log_alpha_bar must hold at least two levels, all falling or all rising; \[0.0\] was given"),
        ([0.0, -1.0, -1.0], "log_alpha_bar must .* all falling or all rising"),
        ([0.0, -2.0, -1.0], "log_alpha_bar must .* all falling or all rising"),
        ([0.0, 1.0], r"log_alpha_bar must lie in \[-inf, 0\]; 0 to 1 was given"),
        ([0.0, NAN], r"log_alpha_bar must lie in \[-inf, 0\]; nan to nan was given"),
        ([0.0, -INF], "log_alpha_bar must be finite"),
        ([], r"log_alpha_bar must have shape \(levels,\); \(0,\) was given"),
        (["0", "1"], "log_alpha_bar must hold numbers"),
        (None, "log_alpha_bar must hold numbers; None was given"),
      )),
    *((lambda f=f, x=x: f(FLOW, x, [0.0, -1.0]), says)
      for f in (flows.probability_flow, flows.ode_log_prob)
      for x, says in (
        (sub(NAN), "x must be finite"),
        (sub(INF), "x must be finite"),
        (X.long(), "x must be floating-point; torch.int64 was given"),
        (X[:0], r"x must have shape \(batch, 2\); \(0, 2\) was given"),
        (X[0], r"x must have shape \(batch, ...\); \(2,\) was given"),
        (None, "x must be a tensor; None was given"),
      )),
    (lambda: flows.probability_flow(lambda x, s: NAN * x, X + 1, [0.0, -1.0]), "the score must be finite; at log_alpha_bar 0"),
    (lambda: flows.ode_log_prob(lambda x, s: NAN * x, X, [0.0, -1.0]), "the score must be finite; at log_alpha_bar 0"),
    (lambda: flows.probability_flow(lambda x, s: -50 * x**2, X + 1, [0.0, -1.0]), "the flow must be smooth from 0 to -1"),
    (lambda: flows.probability_flow(FLOW, X, [0.0, -1.0], rtol=-1.0), "rtol must be positive and finite; -1.0 was given"),
    (lambda: flows.probability_flow(FLOW, X, [0.0, -1.0], atol="1"), "atol must be a number; '1' was given"),
    (lambda: flows.probability_flow(None, X, [0.0, -1.0]), "score_at_level must be a function; None was given"),
    (lambda: flows.probability_flow(lambda x, s: x[:1], X, [0.0, -1.0]), r"the score must have shape \(5, 2\); \(1, 2\) was"),
    (lambda: flows.ode_log_prob(FLOW, X, [0.0, -1.0], probes=torch.ones(5, 2)), r"probes must have shape \(probes, 5, 2\)"),
    (lambda: flows.ode_log_prob(FLOW, X, [0.0, -1.0], probes=torch.ones(0, 5, 2)), "probes must have shape"),
    (lambda: flows.flow_velocity(X, torch.linspace(0, 1, 5), X), "u must be above 0 and at most 1; 0 to 1 was given"),
    (lambda: flows.flow_velocity(X, NAN * X[:, 0], X), "u must be above 0 and at most 1; nan to nan was given"),
    (lambda: flows.flow_velocity(X, torch.ones(3), X), r"u must have shape \(5,\); \(3,\) was given"),
    (lambda: flows.flow_velocity(X, 0.5, X), "u must be a tensor; 0.5 was given"),
    (lambda: flows.flow_velocity(X, torch.ones(5), X[:1]), r"x_hat must have shape \(5, 2\); \(1, 2\) was given"),
    (lambda: flows.flow_velocity(X.long(), torch.ones(5), X), "x_u must be floating-point; torch.int64 was given"),
    (lambda: flows.straight_line(torch.tensor([0.1, 1.0])), r"u must lie in \[0, 1\); 0.1 to 1 was given"),
    (lambda: flows.straight_line(torch.tensor([-0.1])), r"u must lie in \[0, 1\); -0.1 to -0.1 was given"),
    (lambda: flows.straight_line(0.5), "u must be a tensor; 0.5 was given"),
    (lambda: flows.line_time(torch.tensor([0.1])), r"log_alpha_bar must lie in \[-inf, 0\]; 0.1"),
    (lambda: flows.Flow(3, (2,)), "network must be a function; 3 was given"),
    (lambda: flows.Flow(torch.nn.Identity(), ()), r"x_shape must hold at least 1 positive integers; \[\]"),
    (lambda: VELOCITY(X[:, :1], X[:, 0]), r"x_u must have shape \(batch, 2\); \(5, 1\) was given"),
    (lambda: VELOCITY(X, X[:3, 0]), r"u must have shape \(5,\); \(3,\) was given"),
    (lambda: flows.flow_matching_loss(VELOCITY, X.long()), "x must be floating-point; torch.int64 was given"),
    (lambda: flows.flow_matching_loss(3, X), "velocity must be a function; 3 was given"),
    (lambda: flows.flow_matching_loss(lambda x, u: x[:1], X), r"the velocity must have shape \(5, 2\)"),
    (lambda: flows.flow_sample(VELOCITY, X, [1.0, 0.5, 0.7]), "u must hold at least two levels, all falling or all"),
    (lambda: flows.flow_sample(3, X, [1.0, 0.0]), "velocity must be a function; 3 was given"),
    (lambda: flows.flow_sample(VELOCITY, X, [1.0]), "u must hold at least two levels"),
    (lambda: flows.flow_sample(VELOCITY, X, [1.2, 0.0]), r"u must lie in \[0, 1\]"),
    (lambda: flows.flow_sample(VELOCITY, NAN * X, [1.0, 0.0]), "x_1 must be finite"),
    (lambda: flows.flow_sample(VELOCITY, X.long(), [1.0, 0.0]), "x_1 must be floating-point; torch.int64 was given"),
    (lambda: list(flows.flow_sample(lambda x, u: x[:1], X, [1.0, 0.0])), r"the velocity must have shape \(5, 2\)"),
    # guidance
    *((lambda drop=drop: guidance.classifier_free_loss(CLASSES, XC, LABEL, SNR, drop), says) for drop, says in (
        (1.5, r"drop must lie in \[0, 1\]; 1.5 was given"),
        (-0.1, r"drop must lie in \[0, 1\]; -0.1 was given"),
        (NAN, r"drop must lie in \[0, 1\]; nan was given"),
        ("0.1", "drop must be a number; '0.1' was given"),
    )),
    *((lambda f=f, label=label: f(label), says)
      for f in (lambda label: guidance.classifier_free_loss(CLASSES, XC, label, SNR),
                lambda label: guidance.guided(CLASSES.denoiser, label, 2.0))
      for label, says in (
        (LABEL + 1, r"label must lie in \[0, 2\]; 1 to 3 was given"),
        (LABEL - 1, r"label must lie in \[0, 2\]; -1 to 1 was given"),
        (LABEL.float(), "label must hold integers, int64 or int32; torch.float32 was given"),
        (LABEL[:0], r"label must have shape \(batch,\); \(0,\) was given"),
        (LABEL[:, None], r"label must have shape \(batch,\); \(5, 1\) was given"),
        (None, "label must be a tensor; None was given"),
        ([0, 1], r"label must be a tensor; \[0, 1\] was given"),
      )),
    *((lambda f=f, label=label: f(label), says)
      for f in (lambda label: guidance.classifier_free_loss(FACTORED, XC, label, SNR),
                lambda label: guidance.guided(FACTORED.denoiser, label, 2.0))
      for label, says in (
        (torch.zeros(5, 3), r"label must have shape \(batch, 2\); \(5, 3\) was given"),
        (torch.zeros(5), r"label must have shape \(batch, 2\); \(5,\) was given"),
        (torch.zeros(5, 2).long(), "label must be floating-point; torch.int64 was given"),
        (torch.full((5, 2), INF), "label must be finite"),
        (None, "label must be a tensor; None was given"),
      )),
    (lambda: guidance.classifier_free_loss(FACTORED, XC, torch.zeros(1, 2), SNR), r"label must have shape \(5, 2\); \(1, 2\) was given"),
    (lambda: guidance.classifier_free_loss(CLASSES, XC, LABEL[:1], SNR), r"label must have shape \(5,\); \(1,\) was given"),
    (lambda: guidance.classifier_free_loss(TOY, X, LABEL, SNR), "denoiser must hold a network with num_classes"),
    (lambda: guidance.guided(CLASSES.denoiser, LABEL, NAN), "scale must be above -inf and below inf; nan"),
    (lambda: guidance.guided(CLASSES.denoiser, LABEL, INF), "scale must be above -inf and below inf; inf"),
    (lambda: guidance.guided(CLASSES.denoiser, LABEL, "a"), "scale must be a number; 'a' was given"),
    (lambda: guidance.guided(CLASSES.denoiser, LABEL, None), "scale must be a number; None was given"),
    (lambda: guidance.guided(CLASSES.denoiser, LABEL, [1.0]), r"scale must be a number; \[1.0\] was given"),
    (lambda: guidance.guided(PREDICTOR, LABEL, 2.0), "denoiser must hold a network with num_classes or num_factors; .* given has none"),
    (lambda: guidance.guided(same, LABEL, 2.0), "denoiser must hold a network with num_classes"),
    (lambda: guidance.guided(CLASSES.denoiser, LABEL[:2], 2.0)(XC, T5), r"label must have shape \(5,\); \(2,\) was given"),
    (lambda: guidance.guided(CLASSES.denoiser, LABEL[:1], 2.0)(XC, T5), r"label must have shape \(5,\); \(1,\) was given"),
    (lambda: measured(noise_std=0.0), "noise_std must be positive and finite; 0.0 was given"),
    (lambda: measured(noise_std="0.1"), "noise_std must be a number; '0.1' was given"),
    (lambda: measured(y=Y[:, :1]), r"y must have shape \(batch, 2\); \(5, 1\) was given"),
    (lambda: measured(y=sub(NAN)), "y must be finite"),
    (lambda: measured(y=None), "y must be a tensor; None was given"),
    (lambda: measured(A=A[0]), r"A must have shape \(measurements, dim\); \(3,\) was given"),
    (lambda: measured(A=sub(INF, A)), "A must be finite"),
    (lambda: measured(cov=EYE[:2]), r"cov must have shape \(3, 3\); \(2, 3\) was given"),
    (lambda: measured(cov=EYE.cumsum(0)), "cov must be symmetric; entries differ by up to 1"),
    (lambda: measured(cov=-EYE), "cov must be positive semi-definite; the smallest eigenvalue is -1"),
    (lambda: measured(denoiser=None), "denoiser must be a function; None was given"),
    (lambda: measured()(torch.zeros(4, 3), T5[:4]), "y must hold one row for each of the 4 examples; it has 5"),
    (lambda: measured()(torch.zeros(5, 3), T5.cumsum(0)), r"t must be the same for all examples; \[1, 2, 3, 4, 5\] was"),
    (lambda: measured()(X, T5), r"x_t must have shape \(5, 3\); \(5, 2\) was given"),
]

OF_THE_REST = [
    # training
    (lambda: fit(max_grad_norm=0.0), "max_grad_norm must be positive and finite; 0.0 was given"),
    (lambda: fit(max_grad_norm="1"), "max_grad_norm must be a number; '1' was given"),
    (lambda: fit([IMAGES[:0]]), r"x must have shape \(batch, 1, 8, 8\); \(0, 1, 8, 8\) was given"),
    (lambda: fit([IMAGES[:0]], lambda model, x: x.sum((1, 2, 3))), "batches must hold at least one example each"),
    (lambda: fit(loss=lambda model, x: 1.5), r"loss must return one value .* shape \(4,\); it returned 1.5"),
    (lambda: fit(loss=lambda model, x: None), r"loss must return one value .* it returned None"),
    (lambda: fit(loss=lambda model, x: model(x).mean()), r"loss must return one value .* it returned shape \(\)"),
    (lambda: fit(loss=lambda model, x: model(x)), r"loss must return one value .* it returned shape \(4, 1, 8, 8\)"),
    (lambda: fit(loss=lambda model, x: x.sum((1, 2, 3))), "loss must depend on the model's parameters"),
    (lambda: fit(loss=lambda model, x: NAN * model(x).sum((1, 2, 3))), "the mean loss must be finite; at step 1 it is nan"),
    (lambda: fit(loss=lambda model, x: INF * model(x).sum((1, 2, 3))), "the mean loss must be finite; at step 1 it is inf"),
    (lambda: fit([IMAGES.byte()]), "x must be floating-point; torch.uint8 was given"),
    (lambda: training.exponential_average(PLAIN, -0.1), "decay must not be negative, and be finite; -0.1 was given"),
    (lambda: training.exponential_average(PLAIN, NAN), "decay must not be negative, and be finite; nan was given"),
    (lambda: training.exponential_average(PLAIN, 1.0), "decay must be below 1; 1.0 was given"),
    (lambda: training.exponential_average(PLAIN, "0.9"), "decay must be a number; '0.9' was given"),
    (lambda: training.minimize(lambda: PLAIN, [X], max_steps=0), "max_steps must be at least 1; 0 was given"),
    (lambda: training.minimize(lambda: PLAIN, [X], max_steps=2.5), "max_steps must be an integer, at least 1; 2.5"),
    (lambda: training.minimize(lambda: X, [X]), r"function must return a single number, .* it returned shape \(5, 2\)"),
    (lambda: training.minimize(lambda: None, [X]), "function must return a single number, .* it returned None"),
    (lambda: training.minimize(lambda: X.sum(), [X]), "function must depend on the parameters"),
    (lambda: training.minimize(lambda: X.sum(), []), "parameters must hold at least one tensor"),
    # metrics
    (lambda: metrics.log_likelihood(GRAY, IMAGES, 2.5), "num_samples must be an integer, at least 1; 2.5 was given"),
    (lambda: metrics.active_units(GRAY, IMAGES, -1), "threshold must not be negative, and be finite; -1 was given"),
    (lambda: metrics.active_units(GRAY, IMAGES, "1"), "threshold must be a number; '1' was given"),
    (lambda: metrics.mutual_information(X, X, 2.5), "num_bins must be an integer, at least 2; 2.5 was given"),
    (lambda: metrics.mutual_information(None, X), "codes must be a tensor; None was given"),
    (lambda: metrics.mutual_information_gap(X, "1"), "entropy must be a number; '1' was given"),
    (lambda: metrics.mutual_information_gap(sub(NAN), 1.0), "information must be finite"),
    (lambda: metrics.proportion([True]), r"hits must be a tensor; \[True\] was given"),
    (lambda: metrics.linear_probe(X, LABEL + 0.5, X, LABEL), "labels must hold integers, int64 or int32; torch.float32 was given"),
    (lambda: metrics.auroc(X[:, 0], sub(NAN)[:, 0]), "anomalous must be finite"),
    (lambda: metrics.auroc(0.5, X[:, 0]), "normal must be a tensor; 0.5 was given"),
    *((lambda f=f, x=x: f(*x), says) for f in (metrics.energy_test, metrics.frechet_distance) for x, says in (
        ((X, sub(INF)), "y must be finite"),
        ((X, X[:1]), "num_y must be at least 2; 1 was given"),
        ((X, None), "y must be a tensor; None was given"),
    )),
    (lambda: metrics.normal_fit(X[0]), r"x must have shape \(num, dim\); \(2,\) was given"),
    (lambda: metrics.normal_fit(X[:1]), "num must be at least 2; 1 was given"),
    (lambda: metrics.energy_test(X, X, 2.5), "num_permutations must be an integer, at least 1; 2.5 was given"),
    (lambda: metrics.bits_per_dim(X, 784.0), "num_dims must be an integer, at least 1; 784.0 was given"),
    (lambda: metrics.bits_per_dim(None, 784), "nats must be a tensor; None was given"),
    # data
    (lambda: data.load(None), "name must be one of mnist, fashion_mnist, cifar10, digits; None was given"),
    (lambda: data.load("digits", device="gpu"), "device must be one that torch knows, such as cpu or cuda; 'gpu' was"),
    (lambda: data.find("imagenet"), "name must be one of mnist"),
    (lambda: data.binarize(2 * X - 1), r"x must lie in \[0, 1\]; -1 to -1 was given"),
    (lambda: data.binarize(sub(NAN)), r"x must lie in \[0, 1\]; nan to nan was given"),
    (lambda: data.binarize(0.5), "x must be a tensor; 0.5 was given"),
    *((lambda f=f, x=x: f(x), says) for f in (data.to_symmetric, data.to_unit) for x, says in (
        (X.byte(), "x must be floating-point; torch.uint8 was given"), (None, "x must be a tensor; None was given"))),
    (lambda: Batches(X, batch_size=2).load_state_dict({}), "state must have the keys"),
    (lambda: data.scenes(1, seed=2**65), r"seed must lie in \[0, 1.84467e\+19\]; 36893488147419103232 was given"),
    (lambda: data.scenes(1, device="gpu"), "device must be one that torch knows, such as cpu or cuda; 'gpu' was given"),
    # the zoo
    (lambda: zoo.train(None), "name must be one of ae-mnist, .*; None was given"),
    (lambda f: zoo.train("tiny", f / "out", epochs=2.5), "epochs must be an integer, at least 1; 2.5 was given"),
    (lambda f: zoo.train("tiny", f / "out", save_every="60"), "save_every must be a number; '60' was given"),
    (lambda: zoo.train("tiny", 5), "folder must be a path; 5 was given"),
    (lambda f: zoo.train("tiny", f / "good" / "tiny.json"), "out must be a folder that can be written; .*tiny.json is none"),
    (lambda f: zoo.train("tiny", f / "run", resume=True), "path must be an undamaged file that save_run wrote"),
    *((lambda f, use=use: use("tiny", folder=f / "none"), "folder must be a folder of weights; .*none is none")
      for use in (zoo.evaluate, zoo.pretrained, zoo.sample, partial(weights.load_weights, model=tiny()))),
    *((lambda f, use=use: use("tiny", folder=f / "good" / "tiny.json"), "folder must be a folder of weights; .* is none")
      for use in (zoo.evaluate, zoo.pretrained, zoo.sample, partial(weights.load_weights, model=tiny()))),
    *((lambda f, use=use: use("tiny", folder=5), "folder must be a path; 5 was given")
      for use in (zoo.evaluate, zoo.pretrained, zoo.sample, partial(weights.load_weights, model=tiny()))),
    *((lambda f, use=use, bad=bad: use("tiny", folder=f / bad), says)
      for use in (zoo.evaluate, zoo.pretrained, partial(weights.load_weights, model=tiny()))
      for bad, says in (
        ("empty", r"name must be one of the weights \[\]; 'tiny' was given"),
        ("truncated", "the weights 'tiny' must have the checksum of their card"),
        ("altered", "the weights 'tiny' must have the checksum of their card"),
        ("pickle", "the weights 'tiny' must be a safetensors file; .* is none"),
        ("missing", "the weights 'tiny' have a card, but their file .* is missing"),
        ("folder", "the weights 'tiny' have a card, but their file .* is missing"),
        ("other", "the weights 'tiny' do not fit the model: Autoencoder needs"),
        ("nan", "the weights 'tiny' must hold finite floating-point numbers"),
        ("text", "the card of the weights 'tiny' must be JSON with the fields of Card"),
        ("binary", "the card of the weights 'tiny' must be JSON with the fields of Card"),
        ("deep", "the card of the weights 'tiny' must be JSON with the fields of Card"),
        ("number", "the card of the weights 'tiny' must be JSON with the fields of Card"),
        ("null", "the card of the weights 'tiny' must be JSON with .*; sha256 is None"),
        ("renamed", "the card of the weights 'tiny' must be JSON with .*; its name is 'tuny'"),
      )),
    (lambda f: weights.load_weights("tiny", None, f / "good"), "model must be a module of torch; None was given"),
    (lambda f: weights.load_weights("../good/tiny", tiny(), f / "good"), r"name must be one of the weights \['tiny'\]"),
    (lambda f: zoo.pretrained("tiny", f / "good", "gpu"), "device must be one that torch knows, such as cpu or cuda; 'gpu'"),
    (lambda f: zoo.evaluate("tiny", samples=2.5, folder=f / "good"), "samples must be an integer, at least 1; 2.5 was"),
    (lambda f: zoo.evaluate("tiny", folder=f / "good", out=f / "good" / "tiny.json"), "out must be a folder that can be"),
    (lambda: zoo.sample("ddpm-digits", 2.5), "num must be an integer, at least 1; 2.5 was given"),
    (lambda: zoo.sample("ddpm-digits", seed=2**65), r"seed must lie in \[0, 1.84467e\+19\]"),
    (lambda: zoo.sample("ddpm-digits", steps=1001), r"steps must lie in \[2, 1000\]; 1001 was given"),
    (lambda: zoo.sample("ddpm-digits", steps=2.5), "steps must be an integer, at least 2; 2.5 was given"),
    (lambda: zoo.sample("ddpm-digits", steps=1), "steps must be at least 2; 1 was given"),
    (lambda: zoo.sample("ddpm-digits", num=10**12), r"num must lie in \[1, 1e\+06\]; 1000000000000 was given"),
    (lambda f: zoo.sample("ddpm-digits", out=_folder(f / "a.png")), "out must be a file; .*a.png is a folder"),
    (lambda f: records.record("flow-digits", "spacing", folder=_folder(f / "no"), out=f / "out"), "folder must hold a"),
    (lambda f: records.record("ddpm-digits", num=2.5, out=f / "out"), "num must be an integer, at least 2; 2.5 was"),
    (lambda f: checkpoints.load_run(f / "good"), "path must be a file that save_run wrote; .*good is a folder"),
    (lambda f: checkpoints.load_run(f / "good" / "tiny.json"), "path must be an undamaged file that save_run wrote"),
    # the command line
    (lambda f: cli("train", "tiny", "--out", f / "out", "--save-every", "-1"), "save_every must not be negative"),
    (lambda f: cli("train", "tiny", "--out", f / "good"), ".* holds weights of tiny; delete them, or choose another --out"),
    (lambda f: cli("train", "tiny", "--out", f / "run", "--resume"), "path must be an undamaged file that save_run wrote"),
    (lambda: cli("train", "tiny", "--out", "/proc/x"), "out must be a folder that can be written; /proc/x is none"),
    *((lambda f, bad=bad: cli("evaluate", "tiny", "--folder", f / bad), says) for bad, says in (
        ("none", "folder must be a folder of weights"),
        ("truncated", "the weights 'tiny' must have the checksum of their card"),
        ("pickle", "the weights 'tiny' must be a safetensors file"),
        ("deep", "the card of the weights 'tiny' must be JSON"),
        ("number", "the card of the weights 'tiny' must be JSON"),
        ("null", "the card of the weights 'tiny' must be JSON"),
    )),
    (lambda: cli("sample", "vae-mnist", "--num", 0), "num must be at least 1; 0 was given"),
    (lambda: cli("sample", "vae-mnist", "--seed", 2**65), r"seed must lie in \[0, 1.84467e\+19\]"),
    (lambda: cli("sample", "vae-mnist", "--sampler", "ode"), "steps and sampler belong to a diffusion model"),
    (lambda: cli("sample", "vae-mnist", "--out", "/proc/x/y.png"), "out must be a folder that can be written; /proc/x is"),
    (lambda f: cli("record", "ddpm-digits", "--num", 0, "--out", f / "out"), "num must be at least 2; 0 was given"),
    # pages
    (lambda: verify.verify(None, 1.0, 1.0), "label must be the label of an equation, .*; None was given"),
    (lambda: verify.verify("eq-a", [], []), "left is empty"),
    (lambda: verify.verify("eq-a", 1.0, None), "right must be a tensor, a number or a sequence; NoneType was given"),
    (lambda: verify.verify("eq-a", NAN, 1.0), "eq-a: left holds a value that is not finite: nan"),
    (lambda: verify.verify("eq-a", X.double() + 1, X[0].double() + 1), "left and right must have the same shape"),
    (lambda: verify.verify("eq-a", X, X), "the rule exact with tolerance 1e-10 needs float64"),
    (lambda: verify.verify("eq-a", 1.0, 1.0, rejects=[2.0]), r"rejects must be a Mapping; \[2.0\] was given"),
    (lambda: verify.verify("eq-a", 1.0, 1.0, rejects={"E1": "2"}), r"rejects\['E1'\] must be a tensor, a number or"),
    (lambda: verify.exact.within(1.0), "rtol must be above 0 and below 0.1; 1.0 was given"),
    (lambda: verify.exact.within("1e-3"), "rtol must be a number; '1e-3' was given"),
    (lambda: verify.at_most("1"), "slack must be a number; '1' was given"),
    (lambda: exercises.expect_close(None, 2 / 3, "Divide."), "the answer should be a real number .*, not NoneType."),
    (lambda: slider(values=5), "axes must hold values for each of d; 5 was given"),
    (lambda: slider(alt="{} {}"), "alt must fit its values, 0; '{} {}' was given"),
    (lambda: slider(label="{:q}"), "label must fit its values, 0; '{:q}' was given"),
    (lambda: slider(start=0.5), r"start must hold an index per axis, below 2 d; \[0.5\] was given"),
    (lambda: slider(start="0"), r"start must hold an index per axis, below 2 d; \['0'\] was given"),
    (lambda: slider(render=lambda v: None), "a frame must be a figure, a PIL image, or pixels"),
    (lambda: slider(render=lambda v: np.zeros((0, 6))), r"a frame must be .* of shape \(0, 6\) was given"),
    (lambda: slider(render=lambda v: Image.new("L", (8, 6 + v))), r"frames must all have one size; \(8, 6\) and \(8, 7\)"),
]
# fmt: on

CASES = [*OF_DATA, *OF_MODELS, *OF_DIFFUSION, *OF_THE_REST]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of folders with an autoencoder's weights: good ones, and damaged in every way."""
    root = tmp_path_factory.mktemp("files")
    weights.save_weights(tiny(), card("tiny"), root / "good")
    blob = (root / "good" / "tiny.safetensors").read_bytes()
    text = (root / "good" / "tiny.json").read_bytes()
    fields = json.loads(text)
    pickled = b"\x80\x04\x95" + bytes(99)  # how a pickle begins
    of_pickle = fields | {"sha256": weights.hashlib.sha256(pickled).hexdigest()}
    damaged = {
        "truncated": (blob[:-1], text),
        "altered": (blob[:-1] + bytes([blob[-1] ^ 1]), text),
        "pickle": (pickled, json.dumps(of_pickle).encode()),
        "missing": (None, text),
        "text": (blob, b"no JSON"),
        "binary": (blob, b"\xff\xfe\x00"),
        "deep": (blob, b"[" * 100_000),
        "number": (blob, b"5"),
        "null": (blob, json.dumps(fields | {"sha256": None}).encode()),
        "renamed": (blob, json.dumps(fields | {"name": "tuny"}).encode()),
    }
    for name, (content, description) in damaged.items():
        (root / name).mkdir()
        (root / name / "tiny.json").write_bytes(description)
        if content is not None:
            (root / name / "tiny.safetensors").write_bytes(content)
    (root / "empty").mkdir()
    (root / "folder" / "tiny.safetensors").mkdir(parents=True)
    (root / "folder" / "tiny.json").write_bytes(text)
    weights.save_weights(nn.Linear(2, 2), card("tiny"), root / "other")
    weights.save_weights(tiny(), card("tiny"), root / "nan")
    tensors = weights.safetensors.torch.load(blob)
    first = next(iter(tensors))
    tensors[first].view(-1)[0] = NAN
    blob = weights.safetensors.torch.save(tensors)
    (root / "nan" / "tiny.safetensors").write_bytes(blob)
    own = fields | {"sha256": weights.hashlib.sha256(blob).hexdigest()}
    (root / "nan" / "tiny.json").write_text(json.dumps(own))
    (root / "run").mkdir()
    (root / "run" / "tiny.run").write_bytes(b"half a run")
    return root


@pytest.mark.timeout(120)  # only a hang reaches it
@pytest.mark.parametrize(
    ("call", "says"),
    [pytest.param(*case, id=f"line{case[0].__code__.co_firstlineno}") for case in CASES],
)
def test_bad_input_gets_one_sentence(call, says, files, no_data) -> None:
    answer, text = outcome(call, files)
    assert answer == OURS, f"{answer}: {text}"
    assert (sentence := text.partition(": ")[2]) and re.match(says, sentence), sentence


def test_the_table_is_large() -> None:
    assert len(CASES) >= 1000
