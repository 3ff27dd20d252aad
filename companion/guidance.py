"""Condition a diffusion model: on a class, by guidance without a classifier, and on a linear measurement.

What is conditioned is the denoiser. Any sampler then draws from p(x | condition).
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from companion.ddpm import Ddpm, v_prediction_loss
from companion.denoisers import Denoiser, NoisePredictor, estimate, spectrum
from companion.schedule import Schedule
from companion.training import Loss


def classifier_free_loss(
    model: Ddpm,
    x: Float[Tensor, "batch *x_shape"],
    label: Int[Tensor, "batch"],
    drop: float = 0.1,
    loss: Loss = v_prediction_loss,
) -> Float[Tensor, "batch"]:
    """A loss of the network with labels, of which a random share is not told.

    So one network learns the denoiser of every class, and that of all data.

    Args:
        model: its denoiser holds a network with classes, such as `UNet`.
        x: a batch of data.
        label: the class of each example.
        drop: probability that the class is not told.
        loss: `v_prediction_loss` or `noise_prediction_loss`.

    Raises:
        ValueError: if `drop` is not in [0, 1], or the network has no classes.

    Source: Ho & Salimans 2022, Algorithm 1.
    """
    if not 0 <= drop <= 1:
        raise ValueError(f"drop must lie in [0, 1]; {drop} was given")
    untold = torch.rand(len(x), device=x.device) < drop
    return loss(model, x, label.masked_fill(untold, _num_classes(model.denoiser)))


def guided(denoiser: NoisePredictor, label: Int[Tensor, "batch"], scale: float) -> Denoiser:
    """Return a denoiser for these classes, which exaggerates what the class tells.

    x_hat = x_hat(untold) + scale (x_hat(told) - x_hat(untold)). The same holds for the
    estimates of the noise, of v and of the score, since all are affine in x_hat. At
    scale 1 it is the denoiser of the class; above, samples are more typical of their
    class and less diverse, and follow no known law. Each call is two of the network.

    Args:
        denoiser: holds a network with classes, trained by `classifier_free_loss`.
        label: the class of each example.
        scale: 1 + w in the paper, whose guidance strength is w.

    Raises:
        ValueError: if the network has no classes, or a label is none of them.

    Source: Ho & Salimans 2022, eq. 6.
    """
    num_classes = _num_classes(denoiser)
    if not bool(((label >= 0) & (label < num_classes)).all()):
        raise ValueError(
            f"label must lie in 0..{num_classes - 1}; {label.min()} to {label.max()} was given"
        )

    def x_hat(x_t: Tensor, t: Tensor) -> Tensor:
        told = denoiser(x_t, t, label)
        untold = denoiser(x_t, t, torch.full_like(label, num_classes))
        return untold + scale * (told - untold)

    return x_hat


def posterior_denoiser(
    denoiser: Denoiser,
    schedule: Schedule,
    A: Float[Tensor, "measurements dim"],
    y: Float[Tensor, "batch measurements"],
    noise_std: float,
    cov: Float[Tensor, "dim dim"],
) -> Denoiser:
    """Return a denoiser that also knows y = A x + noise: E[x_0 | x_t, y].

    The law of x_0 given x_t is taken for N(x_hat, C_t), with the C_t that normal data
    of covariance `cov` have: 1 / (1 / cov + SNR_t), along the eigenvectors. Then

        E[x_0|x_t,y] = x_hat + C_t A^T (A C_t A^T + noise_std^2 I)^{-1} (y - A x_hat).

    For normal data all of it is exact, and the samples follow p(x|y). For others the
    mean is right, if the denoiser is, but the law is not normal, and its covariance
    depends on x_t, too; C_t is that of a typical x_t. The less noise is in x_t, the
    less this matters. The Jacobian of x_hat would tell that covariance exactly, but the
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
        ValueError: if the sizes do not fit together, `noise_std` is not positive, or
            `cov` is not symmetric positive semi-definite; from calls, if y belongs to
            another number of examples, or these differ in t.

    Source: Song et al. 2023 (PiGDM) and Peng et al. 2024, whose C_t are others.
    """
    _check_measurement(A, y, noise_std, cov)
    A, y = A.double(), y.double()
    eigenvalues, U = spectrum(cov.double())
    AU, noise = A @ U, noise_std**2 * torch.eye(len(A)).to(A)

    def posterior_mean(x_t: Tensor, t: Tensor) -> Tensor:
        _check_call(x_t, t, y)
        x_hat = estimate(denoiser, x_t, t)
        alpha_bar, noise_var = schedule.alpha_bar[t[0]], schedule.noise_var[t[0]]
        C_t = eigenvalues * noise_var / (alpha_bar * eigenvalues + noise_var)
        surprise = y - x_hat.flatten(1).double() @ A.T
        pull = torch.linalg.solve((AU * C_t) @ AU.T + noise, surprise.T).T
        return x_hat + (pull @ AU * C_t @ U.T).view_as(x_hat).to(x_hat)

    return posterior_mean


def _num_classes(denoiser: Denoiser) -> int:
    num = getattr(getattr(denoiser, "network", None), "num_classes", None)
    if num is None:
        raise ValueError("denoiser must hold a network with num_classes; the one given has none")
    return int(num)


def _check_measurement(A: Tensor, y: Tensor, noise_std: float, cov: Tensor) -> None:
    num, dim = A.shape
    if y.shape[1:] != (num,) or cov.shape != (dim, dim):
        raise ValueError(
            f"y and cov must fit A, of shape {(num, dim)}; "
            f"shapes {tuple(y.shape)} and {tuple(cov.shape)} were given"
        )
    if not noise_std > 0:
        raise ValueError(f"noise_std must be positive; {noise_std} was given")


def _check_call(x_t: Tensor, t: Tensor, y: Tensor) -> None:
    if len(y) != len(x_t):
        raise ValueError(
            f"y must hold one row for each of the {len(x_t)} examples; it has {len(y)}"
        )
    if not bool((t == t[0]).all()):
        raise ValueError(f"t must be the same for all examples; {t.min()} to {t.max()} was given")
