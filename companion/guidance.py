"""Condition a diffusion model: on a class or on factors, by guidance without a classifier, and on a linear measurement.

What is conditioned is the denoiser. Any sampler then draws from p(x | condition).
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from companion import checks
from companion.ddpm import Ddpm, denoising_loss
from companion.denoisers import (
    Denoiser,
    NoisePredictor,
    check_times_of,
    denoised,
    made_of,
    spectrum,
)
from companion.networks.unet import Condition
from companion.schedule import Batch, Schedule, per_example


def classifier_free_loss(
    model: Ddpm,
    x: Batch,
    label: Condition,
    weight: Float[Tensor, "times"],
    drop: float = 0.1,
    time_weights: Float[Tensor, "times"] | None = None,
) -> Float[Tensor, "batch"]:
    """`denoising_loss` of a network with labels, some of which are dropped at random.

    So one network learns the denoiser of every class, and that of all data.

    Args:
        model: its denoiser holds a network with classes, factors or words, such as `UNet`.
        x: a batch of data.
        label: the class of each example, or the factors that it was made from.
        weight: one number for each time, as in `denoising_loss`.
        drop: probability that a label is replaced by the one that means "any class", or all
            factors of an example by NaN, or all its words by 0.
        time_weights: how often each time is drawn, as in `denoising_loss`.

    Raises:
        TypeError: if factors are no floating-point numbers.
        ValueError: if `drop` is not in [0, 1], the network has no classes, factors or words, a
            label is no class, or factors are infinite or of another number.

    Source: Ho & Salimans 2022, Algorithm 1. Book: chapter 13.
    """
    checks.in_range(0, 1, drop=drop)
    checks.data(model, x, Ddpm)
    null = _null(model.denoiser, label)
    checks.shape((len(x), *label.shape[1:]), label=label)
    dropped = torch.rand(len(x), device=x.device) < drop
    label = label.masked_fill(dropped.view(-1, *label[0].dim() * [1]), null)
    return denoising_loss(model, x, weight, label, time_weights=time_weights)


def guided(
    denoiser: NoisePredictor,
    label: Condition,
    scale: float,
    interval: tuple[float, float] = (0, math.inf),
) -> Denoiser:
    """Return a denoiser for these classes or factors, in which the effect of the label is exaggerated.

    x_hat = x_hat(any class) + scale (x_hat(label) - x_hat(any class)). The same holds for
    the estimates of the noise, of v and of the score, since all are affine in x_hat. At
    scale 1 it is the denoiser of the class; above, samples are more typical of their
    class and less diverse, and follow no known distribution. Within
    the interval, each call is two of the network.

    Args:
        denoiser: holds a network with classes, factors or words, trained by `classifier_free_loss`.
        label: the class of each example, or the factors that it is to be made from.
        scale: 1 + w in the paper, whose guidance strength is w; `guidance_scale` in diffusers.
        interval: as in `extrapolated`.

    Raises:
        TypeError: if factors are no floating-point numbers.
        ValueError: if the network has no classes, factors or words, a label is no class, factors
            are infinite or of another number, `scale` is beyond a million, or `interval` does not rise.

    Source: Ho & Salimans 2022, eq. 6. Book: chapter 13.
    """
    null = torch.full_like(label, _null(denoiser, label))

    def conditional(x_t: Tensor, t: Tensor, /, *condition: Tensor) -> Tensor:
        return denoiser(x_t, t, label, *condition)

    def unconditional(x_t: Tensor, t: Tensor, /, *condition: Tensor) -> Tensor:
        return denoiser(x_t, t, null, *condition)

    return extrapolated(made_of(denoiser, conditional), unconditional, scale, interval)


def extrapolated(
    strong: Denoiser, weak: Denoiser, scale: float, interval: tuple[float, float] = (0, math.inf)
) -> Denoiser:
    """Return a denoiser that goes beyond the better one of two: weak + scale (strong - weak).

    With a network without its label as the weak one this is guidance without a classifier, `guided`.
    With a smaller or less trained network, which is given the same label, it is autoguidance: where both
    make the same kind of error, the difference points away from it.

    Args:
        strong: estimates x_0.
        weak: estimates it less well.
        scale: 0 for the weak one, 1 for the strong one.
        interval: low < t <= high are the times at which it is done; at others it is the strong one alone,
            at the price of one call.

    Raises:
        ValueError: if `scale` is beyond a million, or `interval` does not rise from 0 or more.

    Source: Karras et al. 2024 (autoguidance), eq. 3; interval: Kynkaanniemi et al. 2024. Book: chapter 14.
    """
    checks.function(strong=strong, weak=weak)
    _check_same_noise(strong, weak)
    checks.between(-1e6, 1e6, scale=scale)
    ends = interval if isinstance(interval, Sequence) and len(interval) == 2 else (interval, None)
    low, high = ends
    checks.in_range(0, math.inf, **{"interval[0]": low, "interval[1]": high})
    if not low < high:
        raise ValueError(f"interval must rise, from 0 or more; {interval} was given")

    def x_hat(x_t: Tensor, t: Tensor, /, *condition: Tensor) -> Tensor:
        checks.floating(x_t=x_t)
        checks.shape((len(x_t),), t=t)
        better = denoised(strong, x_t, t, *condition)
        inside = (low < t) & (t <= high)
        if checks.reads_at_once(t) and not bool(inside.any()):
            return better
        worse = denoised(weak, x_t, t, *condition)
        each = torch.where(inside, scale, 1.0)
        return worse + per_example(each, x_t) * (better - worse)

    return made_of(strong, x_hat)


def posterior_denoiser(
    denoiser: Denoiser,
    schedule: Schedule,
    A: Float[Tensor, "measurements dim"],
    y: Float[Tensor, "batch measurements"],
    noise_std: float,
    cov: Float[Tensor, "dim dim"],
) -> Denoiser:
    """Return a denoiser that also knows y = A x + noise: E[x_0 | x_t, y].

    The distribution of x_0 given x_t is approximated by N(x_hat, C_t), with the C_t that
    Gaussian data of covariance `cov` have: 1 / (1 / cov + SNR_t), along the eigenvectors. Then

        E[x_0|x_t,y] = x_hat + C_t A^T (A C_t A^T + noise_std^2 I)^{-1} (y - A x_hat).

    For Gaussian data all of it is exact, and the samples follow p(x|y). For others the
    mean is right, if the denoiser is, but the distribution is not Gaussian, and its covariance
    depends on x_t, too; C_t is that of a typical x_t. The less noise is in x_t, the
    less this matters. The Jacobian of x_hat would give that covariance exactly, but the
    errors of a network are in it divided by alpha_bar_t.

    Args:
        denoiser: estimates x_0.
        schedule: that of the whole chain, also where a sampler skips times.
        A: of the flattened data; for in-painting the rows of I that are observed, and
            for any linear f: `f(torch.eye(dim).view(dim, *x_shape)).flatten(1).T`.
        y: the measurements.
        noise_std: standard deviation of their noise; small, such as 0.01, where there
            is none.
        cov: of the flattened data, estimated from the training set.

    Raises:
        ValueError: if the sizes do not fit together, A or y is not finite, `noise_std` is
            not positive, or `cov` is not symmetric positive semi-definite; from calls, if y
            belongs to another number of examples, or these differ in t.

    Source: Song et al. 2023 (PiGDM) and Peng et al. 2024, whose C_t are others. Book: chapter 13.
    """
    checks.function(denoiser=denoiser)
    checks.instance(Schedule, schedule=schedule)
    check_times_of(denoiser, schedule)
    checks.shape(("measurements", "dim"), A=A)
    num, dim = A.shape
    checks.shape(("batch", num), y=y)
    checks.finite(A=A, y=y)
    checks.shape((dim, dim), cov=cov)
    checks.positive(noise_std=noise_std)
    A, y = A.double(), y.double()
    eigenvalues, U = spectrum(cov.double())
    AU, noise_cov = A @ U, noise_std**2 * torch.eye(num).to(A)

    def posterior_mean(x_t: Tensor, t: Tensor, /, *condition: Tensor) -> Tensor:
        checks.floating(x_t=x_t)
        if len(y) != len(x_t):
            raise ValueError(
                f"y must hold one row for each of the {len(x_t)} examples; it has {len(y)}"
            )
        checks.shape((len(x_t),), t=t)
        schedule.check_times(t)
        if checks.reads_at_once(t) and bool((t != t[0]).any()):
            raise ValueError(f"t must be the same for all examples; {t.tolist()} was given")
        checks.shape((len(x_t), dim), x_t=x_t.flatten(1))
        x_hat = denoised(denoiser, x_t, t, *condition)
        alpha_bar, noise_var = schedule.alpha_bar[t[:1]], schedule.noise_var[t[:1]]
        C_t = eigenvalues * noise_var / (alpha_bar * eigenvalues + noise_var)
        residual = y - x_hat.flatten(1).double() @ A.T
        correction = torch.linalg.solve((AU * C_t) @ AU.T + noise_cov, residual.T).T
        return x_hat + (correction @ AU * C_t @ U.T).view_as(x_hat).to(x_hat)

    vars(posterior_mean)["schedule"] = schedule  # also of a denoiser that has none
    return posterior_mean


def _check_same_noise(strong: Denoiser, weak: Denoiser) -> None:
    """Refuse a weak denoiser that was made for other noise: at the same t the two would estimate from other x_t."""
    own = getattr(strong, "schedule", None)
    try:
        if isinstance(own, Schedule):
            check_times_of(weak, own)
    except ValueError:
        raise ValueError("weak must have the noise of strong; it has another schedule") from None


def _null(denoiser: Denoiser, label: Tensor) -> float:
    """The label that means any class, which is their number; NaN for factors, and 0 for words."""
    network: Any = getattr(denoiser, "network", None)
    classes, factors, words = (
        getattr(network, f"num_{name}", None) for name in ("classes", "factors", "words")
    )
    if words is not None:
        checks.shape(("batch", network.max_words), label=label)
        checks.integers(label=label)
        checks.within(0, words, label=label)
        return 0
    if factors is not None:
        checks.shape(("batch", factors), label=label)
        checks.floating(label=label)
        checks.finite(label=label.masked_fill(label.isnan(), 0))
        return math.nan
    if classes is None:
        raise ValueError(
            "denoiser must hold a network with num_classes or num_factors; the one given has none"
        )
    checks.shape(("batch",), label=label)
    checks.integers(label=label)
    checks.within(0, classes - 1, label=label)
    return int(classes)
