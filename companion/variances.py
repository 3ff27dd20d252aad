"""Variances of the reverse steps of a diffusion model, and what each error of its denoiser costs in the bound."""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from companion import checks
from companion.schedule import Schedule, per_example


class BoundWeights(NamedTuple):
    """What a squared error of each estimate costs in the bound, in nats, by t. Book: chapter 9."""

    x_0: Float[Tensor, "times *shape"]
    noise: Float[Tensor, "times *shape"]
    v: Float[Tensor, "times *shape"]
    score: Float[Tensor, "times *shape"]
    mean: Float[Tensor, "times *shape"]


def bound_weights(
    schedule: Schedule,
    reverse_var: Float[Tensor, "times *shape"],
    decoder_var: float | Float[Tensor, "*shape"] | None = None,
) -> BoundWeights:
    """Weights of the squared errors in the bound of a `Ddpm` with Gaussian likelihood.

    A step costs ||mu_tilde_t - mean||^2 / (2 sigma_t^2) beside what the variances cost.
    An error of x_0 is of_x_0 times as large in the mean; one of the noise, of v or of
    the score is a fixed multiple of one of x_0. Entry 0 is 0: no step belongs to it.

    Args:
        schedule: the noise.
        reverse_var: sigma_t^2 at entry t, as in `Ddpm`.
        decoder_var: variance of p(x|x_1), as in `Ddpm`.

    Raises:
        ValueError: as `Ddpm` for these variances.

    Source: Ho et al. 2020, eqs. 8, 12; x_0 and v: Salimans & Ho 2022, section 4. Book: chapter 9.
    """
    checks.floating(reverse_var=reverse_var)
    var = step_variances(schedule, tuple(reverse_var.shape[1:]), reverse_var, decoder_var)
    mean = 1 / (2 * var[1:])
    of_x_0 = schedule.reverse_coefficients(schedule.steps).of_x_0
    x_0 = per_example(of_x_0.square(), mean) * mean
    noise_var = per_example(schedule.noise_var[1:], mean)
    snr = per_example(schedule.snr[1:], mean)
    weights = (x_0, x_0 / snr, x_0 * noise_var, x_0 * noise_var / snr, mean)
    return BoundWeights(*map(_from_step_1, weights))


def linear_noise_error(
    schedule: Schedule, eigenvalues: Float[Tensor, "dim"]
) -> Float[Tensor, "times dim"]:
    """Least squared error of the noise that an estimate linear in x_t can reach.

    It is alpha_bar_t lambda / (alpha_bar_t lambda + 1 - alpha_bar_t) along each
    eigenvector of the data's covariance. For Gaussian data no estimate is better; for
    others a network should be. The mean over the last dimension is the error per
    dimension of x. Entry 0 is 0.

    Raises:
        ValueError: if an eigenvalue is negative or not finite.

    Book: chapter 9.
    """
    checks.instance(Schedule, schedule=schedule)
    checks.floating(eigenvalues=eigenvalues)
    checks.shape(("dim",), eigenvalues=eigenvalues)
    checks.finite(eigenvalues=eigenvalues)
    checks.within(0, math.inf, eigenvalues=eigenvalues)
    log_snr = schedule.log_snr[1:, None].to(eigenvalues)
    return _from_step_1(torch.sigmoid(log_snr + eigenvalues.log()))


def optimal_reverse_var(
    schedule: Schedule, noise_error: Float[Tensor, "times *shape"]
) -> Float[Tensor, "times *shape"]:
    """The variances that maximize the bound of a denoiser with a Gaussian likelihood.

    sigma_t^2 = beta_tilde_t + beta_t^2 / (alpha_t (1 - alpha_bar_t)) noise_error_t: the
    variance if x_0 were known, and the error of the estimate. Entry 0 is 0.

    Args:
        schedule: the noise.
        noise_error: mean squared error of the estimated noise, per dimension, entry t
            for time t; of shape (T + 1,), or (T + 1, *x_shape) for each dimension.

    Raises:
        ValueError: if `noise_error` has no T + 1 entries, or one is negative or not finite.

    Source: Bao et al. 2022, theorem 1. Book: chapter 9.
    """
    checks.instance(Schedule, schedule=schedule)
    checks.floating(noise_error=noise_error)
    checks.shape((schedule.num_steps + 1, *noise_error.shape[1:]), noise_error=noise_error)
    checks.within(0, math.inf, noise_error=noise_error[1:])
    checks.finite(noise_error=noise_error[1:])
    q, error = schedule.reverse_coefficients(schedule.steps), noise_error[1:]
    factor = per_example(q.of_x_0.square() / schedule.snr[1:], error)
    return _from_step_1(per_example(q.var, error) + factor * error)


def _from_step_1(values: Tensor) -> Tensor:
    """Values for t = 1..T with a zero in front, so that the index is t."""
    return torch.cat([torch.zeros_like(values[:1]), values])


def step_variances(
    schedule: Schedule,
    x_shape: tuple[int, ...],
    reverse_var: Float[Tensor, "times *shape"],
    decoder_var: float | Float[Tensor, "*shape"] | None = None,
) -> Float[Tensor, "times *shape"]:
    """A copy of the variances of the T reverse steps, with that of the decoder at entry 1.

    Raises:
        TypeError: if `reverse_var` is not floating-point.
        ValueError: if `reverse_var` has neither shape (T + 1,) nor (T + 1, *x_shape), or a
            variance from entry 1 on is not positive and finite.

    Book: chapter 9.
    """
    checks.sizes(0, x_shape=x_shape)
    check_reverse_var(schedule, x_shape, reverse_var)
    var = reverse_var.detach().clone()
    if decoder_var is not None:
        given = checks.numbers(decoder_var=decoder_var)
        if given.dim():
            checks.shape(tuple(var.shape[1:]), decoder_var=given)
        var[1] = given
    bad = ~((var > 0) & (var < math.inf))
    bad[0] = False
    if checks.reads_at_once(bad) and bool(bad.any()):
        index = bad.nonzero()[0].tolist()
        name = "reverse_var" if decoder_var is None or index[0] > 1 else "decoder_var"
        raise ValueError(
            f"{name} must be positive and finite from entry 1 on; "
            f"{var[tuple(index)]:.4g} was given at t = {index[0]}"
        )
    return var


def check_reverse_var(
    schedule: Schedule, x_shape: tuple[int, ...], reverse_var: Float[Tensor, "times *shape"]
) -> None:
    """The argument reverse_var has an entry for each time, or one for each time and dimension.

    Raises:
        TypeError: if it is not floating-point.
        ValueError: if it has neither shape (T + 1,) nor (T + 1, *x_shape).

    Book: chapter 9.
    """
    checks.instance(Schedule, schedule=schedule)
    checks.floating(reverse_var=reverse_var)
    T = schedule.num_steps
    if reverse_var.shape not in ((T + 1,), (T + 1, *x_shape)):
        raise ValueError(
            f"reverse_var must have shape {(T + 1,)} or {(T + 1, *x_shape)}; "
            f"{tuple(reverse_var.shape)} was given"
        )
