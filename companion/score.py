"""Scores, the gradients of log-densities: models of them, exact ones, and Langevin dynamics.

Noise is added in two ways: x + sigma noise, for noise-conditional scores, and sqrt(alpha_bar) x +
sqrt(1 - alpha_bar) noise in diffusion. A score's name says its argument: `score(x)` of one density,
`score_at_sigma(x, sigma)`, `score_at_t(x_t, t)`, and in `companion.flows`
`score_at_level(x, log_alpha_bar)`.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.distributions import MixtureSameFamily, MultivariateNormal, Normal

from companion import checks
from companion.denoisers import Denoiser, check_times_of, denoised
from companion.runtime import progress_bar
from companion.schedule import Batch, Schedule, noise_from_x_0, per_example, score_from_x_0


class NoiseConditionalScore(nn.Module):
    """A model of the scores of x + sigma noise, for all sigma at once.

    The score is -F(x / sqrt(1 + sigma^2), log sigma) / sigma. So the network F sees
    numbers of one size if the data's variance is near 1, and its target is the noise.

    Args:
        network: F; maps points and one number per example to the shape of the points.
        sigmas: the noise levels to train on, sigma_1 > ... > sigma_L.

    Raises:
        ValueError: if `sigmas` are not positive and falling.

    Source: Song & Ermon 2019, section 4.1; over sigma: Song & Ermon 2020, technique 3.
    Book: chapter 12.
    """

    sigmas: Tensor

    def __init__(
        self, network: nn.Module, sigmas: Sequence[float] | Float[Tensor, "levels"]
    ) -> None:
        checks.function(network=network)
        super().__init__()
        self.network = network
        # The caller chose them, so they are no part of the weights.
        self.register_buffer("sigmas", noise_levels(sigmas), persistent=False)

    def forward(self, x: Batch, sigma: Float[Tensor, "batch"]) -> Batch:
        """The score at x of data with noise of standard deviation sigma."""
        checks.floating(x=x, sigma=sigma)
        checks.examples(1, x=x)
        checks.shape((len(x),), sigma=sigma)
        if checks.reads_at_once(sigma) and not bool(((sigma > 0) & (sigma < math.inf)).all()):
            low, high = sigma.aminmax()
            raise ValueError(
                f"sigma must be positive and finite; {low:.4g} to {high:.4g} was given"
            )
        size = per_example((1 + sigma**2).sqrt(), x)
        noise_hat = self.network(x / size, sigma.log().to(x)).to(x)
        checks.shape(tuple(x.shape), **{"the network's output": noise_hat})
        return -noise_hat / per_example(sigma, x)


def noise_levels(sigmas: Sequence[float] | Float[Tensor, "levels"]) -> Float[Tensor, "levels"]:
    """Return a copy of noise levels as a tensor.

    Raises:
        TypeError: if they are no numbers.
        ValueError: if there is none, or they are not finite, positive and falling.

    Book: chapter 12.
    """
    levels = checks.numbers(sigmas=sigmas).detach().clone()
    levels = levels if levels.is_floating_point() else levels.double()  # those of bytes would wrap
    checks.shape(("levels",), sigmas=levels)
    if not bool((levels > 0).all() and (levels.diff() < 0).all()):
        raise ValueError(f"sigmas must be positive and falling; {levels.tolist()} was given")
    checks.finite(sigmas=levels)
    return levels


def geometric_noise_levels(sigma_1: float, sigma_L: float, num: int) -> Float[Tensor, "num"]:
    """Standard deviations that fall from sigma_1 to sigma_L by equal factors.

    The largest should be near the largest distance between data points, the smallest
    below the detail that matters.

    Raises:
        ValueError: if not sigma_1 > sigma_L > 0, or `num` is below 2.

    Source: Song & Ermon 2019, section 4.1; how to choose: Song & Ermon 2020. Book: chapter 12.
    """
    checks.at_least(2, num=num)
    checks.positive(sigma_1=sigma_1, sigma_L=sigma_L)
    levels = torch.linspace(math.log(sigma_1), math.log(sigma_L), num, dtype=torch.double).exp()
    if not bool((levels.diff() < 0).all()):
        raise ValueError(f"sigma_1 must be above sigma_L; {sigma_1} and {sigma_L} were given")
    return levels


def denoising_score_matching_loss(model: NoiseConditionalScore, x: Batch) -> Float[Tensor, "batch"]:
    """sigma^2 / 2 times the squared error of the score, at a random level per example.

    The target is the score of the noise, -(x_noisy - x) / sigma^2. The best model has
    learned its mean given x_noisy, which is the score of the noisy data. With the weight
    sigma^2 all levels count equally: sigma score + noise is squared, and summed over
    dimensions.

    Args:
        model: called with x_noisy and sigma; its `sigmas` are the levels.
        x: a batch of data.

    Raises:
        TypeError: if x has integers, or another precision than the model.
        ValueError: if x has no examples, or a value that is not finite.

    Source: Vincent 2011, section 4.2; levels and weights: Song & Ermon 2019, eqs. 5, 6.
    Book: chapter 12.
    """
    checks.data(model, x, NoiseConditionalScore)
    level = torch.randint(len(model.sigmas), (len(x),), device=x.device)
    sigma, noise = model.sigmas[level].to(x), torch.randn_like(x)
    noise_std = per_example(sigma, x)
    error = noise_std * model(x + noise_std * noise, sigma) + noise
    return error.square().flatten(1).sum(1) / 2


def exact_score(log_prob: Callable[[Tensor], Tensor], x: Batch) -> Batch:
    """The gradient of a log-density that torch can compute, by autograd.

    Args:
        log_prob: such as that of a torch distribution; one value for each example.
        x: the points.

    Raises:
        TypeError: if x is not floating-point.
        ValueError: if the log-density has not one value for each example, or cannot be differentiated.

    Book: chapter 12.
    """
    checks.function(log_prob=log_prob)
    checks.floating(x=x)
    with_graph = torch.is_grad_enabled() and x.requires_grad
    with torch.enable_grad():
        x = x if with_graph else x.detach().requires_grad_()
        value = log_prob(x)
        checks.shape(tuple(x.shape[:1]), **{"log_prob(x)": value})
        score = None
        if value.requires_grad:
            (score,) = torch.autograd.grad(
                value.sum(), x, create_graph=with_graph, allow_unused=True
            )
    if score is None:
        raise ValueError("log_prob must be differentiable; it was cut off from x")
    return score


def noisy_mixture(
    data: MixtureSameFamily, scale: Float[Tensor, ""] | float, noise_var: Float[Tensor, ""] | float
) -> MixtureSameFamily:
    """The distribution of scale x + sqrt(noise_var) noise for x from a mixture of Gaussians.

    `companion.denoisers.MixtureDenoiser` has its score, too.

    Args:
        data: a mixture of `MultivariateNormal`, or of Gaussians with independent
            dimensions, such as `toy_density("mixture")`; event shape (dim,).
        scale: sqrt(alpha_bar_t) in diffusion, 1 where noise is only added.
        noise_var: 1 - alpha_bar_t, or sigma^2.

    Raises:
        TypeError: if `data` is no mixture.
        ValueError: if `scale` is not finite, `noise_var` negative, or both are 0.

    Book: chapter 12.
    """
    checks.instance(MixtureSameFamily, data=data)
    largest = torch.finfo(torch.double).max
    checks.in_range(-largest, largest, scale=scale)
    checks.not_negative(noise_var=noise_var)
    checks.positive(**{"scale^2 + noise_var": scale * scale + noise_var})
    normal = data.component_distribution
    if isinstance(normal, MultivariateNormal):
        cov = normal.covariance_matrix
    else:
        checks.instance(Normal, **{"components of data": getattr(normal, "base_dist", normal)})
        cov = torch.diag_embed(normal.variance)
    cov = scale**2 * cov + noise_var * torch.eye(cov.shape[-1]).to(cov)
    components = MultivariateNormal(scale * normal.mean, cov)
    return MixtureSameFamily(data.mixture_distribution, components)


def score_from_denoiser(
    denoiser: Denoiser, schedule: Schedule
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return `score_at_t(x_t, t)`, for t = 1..T of the schedule, from an estimate of x_0.

    It is -noise_hat / sqrt(1 - alpha_bar_t): a denoiser that has learned the mean of
    x_0 given x_t knows the score of the noisy data. It refuses other times.

    Args:
        denoiser: estimates x_0; t is taken from `schedule.times`.
        schedule: the noise.

    Source: Efron 2011 (Tweedie's formula); Song et al. 2021 (score SDE). Book: chapter 12.
    """
    checks.function(denoiser=denoiser)
    checks.instance(Schedule, schedule=schedule)
    check_times_of(denoiser, schedule)

    def score_at_t(x_t: Batch, t: Int[Tensor, "batch"]) -> Batch:
        checks.floating(x_t=x_t)
        checks.examples(1, x_t=x_t)
        checks.shape((len(x_t),), t=t)
        schedule.check_times(t)
        return score_from_x_0(schedule, x_t, t, denoised(denoiser, x_t, schedule.times[t]))

    return score_at_t


def noise_conditional_score(
    denoiser: Denoiser, schedule: Schedule
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return `score_at_sigma(x, sigma)`, of data with noise of standard deviation sigma, from an estimate of x_0.

    A denoiser is a noise-conditional score model: x / sqrt(1 + sigma^2) is x_t where sigma^2 is 1 / SNR_t, and
    the score is -noise_hat / sigma. The time is the nearest that the schedule has, in log sigma, so that between
    two levels the estimate of the noise is off by a little: with 1000 steps by at most 2 percent
    from t = 21 on, by up to 18 near t = 1. Beyond
    the levels of t = 1 and T it refuses sigma.

    Args:
        denoiser: estimates x_0; t is taken from `schedule.times`.
        schedule: the noise; its own levels are `schedule.snr[t] ** -0.5`.

    Source: Song et al. 2021 (score SDE), who call the two kinds of noise VP and VE. Book: chapter 12.
    """
    checks.function(denoiser=denoiser)
    checks.instance(Schedule, schedule=schedule)
    check_times_of(denoiser, schedule)
    levels = -schedule.log_snr[1:] / 2
    between = (levels[:-1] + levels[1:]) / 2

    def score_at_sigma(x: Batch, sigma: Float[Tensor, "batch"]) -> Batch:
        checks.floating(x=x, sigma=sigma)
        checks.examples(1, x=x)
        checks.shape((len(x),), sigma=sigma)
        if checks.reads_at_once(sigma):
            low, high = levels[[0, -1]].exp().tolist()
            # A level of the schedule, rounded to the precision of sigma, is one still.
            checks.within(low * (1 - 1e-6), high * (1 + 1e-6), sigma=sigma)
        t = torch.bucketize(sigma.log(), between.to(sigma)) + 1
        x_t = x / per_example((1 + sigma**2).sqrt(), x)
        x_hat = denoised(denoiser, x_t, schedule.times[t])
        return -noise_from_x_0(schedule, x_t, t, x_hat) / per_example(sigma, x)

    return score_at_sigma


def langevin_sample(
    score: Callable[[Tensor], Tensor], x: Batch, step_size: float, num_steps: int
) -> Iterator[Batch]:
    """Yield x, and then x after each of the steps of Langevin dynamics.

    A step adds step_size / 2 score(x) + sqrt(step_size) noise. The distribution of x tends
    to the one with this score, but for an error of order `step_size`: of N(0, s^2) the
    variance becomes s^2 / (1 - step_size / (4 s^2)), and for a step_size of 4 s^2 or
    more it grows without limit.

    Args:
        score: gradient of a log-density.
        x: where to start.
        step_size: in units of x squared.
        num_steps: how many.

    Raises:
        ValueError: if `step_size` is not positive, or `num_steps` is below 1.

    Source: Song & Ermon 2019, eq. 4. Book: chapter 12.
    """
    checks.positive(step_size=step_size)
    checks.at_least(1, num_steps=num_steps)
    checks.function(score=score)
    checks.batch(1, x=x)
    return chain([x], _langevin(score, x, step_size, num_steps))


def annealed_langevin_sample(
    score_at_sigma: Callable[[Tensor, Tensor], Tensor],
    x: Batch,
    sigmas: Sequence[float] | Float[Tensor, "levels"],
    step_size: float,
    num_steps: int,
    progress: str | None = None,
) -> Iterator[Batch]:
    """Yield x, and then what `langevin_sample` makes of it at each noise level in turn.

    At large sigma the modes of the noisy data are joined, so that x can pass from one
    to another; small sigma brings in the detail. At level sigma_i the size of a step is
    step_size sigma_i^2 / sigma_L^2.

    Args:
        score_at_sigma: `score_at_sigma(x, sigma)`, the score of the data with noise of this
            standard deviation; sigma holds one number per example.
        x: where to start, such as noise of standard deviation sigma_1.
        sigmas: sigma_1 > ... > sigma_L.
        step_size: at the last level, in units of x squared.
        num_steps: at each level.
        progress: label of a progress bar over the levels; none without it.

    Yields:
        1 + L num_steps tensors.

    Raises:
        ValueError: if `sigmas` are not positive and falling, `step_size` is not
            positive, or `num_steps` is below 1.

    Source: Song & Ermon 2019, Algorithm 1. Book: chapter 12.
    """
    levels = noise_levels(sigmas)
    checks.positive(step_size=step_size)
    checks.at_least(1, num_steps=num_steps)
    checks.function(score_at_sigma=score_at_sigma)
    checks.precision(score_at_sigma, x=x)
    checks.batch(1, x=x)
    return chain([x], _anneal(score_at_sigma, x, levels, step_size, num_steps, progress))


def _langevin(
    score: Callable[[Tensor], Tensor], x: Tensor, step_size: float, num_steps: int
) -> Iterator[Tensor]:
    for _ in range(num_steps):
        with torch.no_grad():
            slope = score(x)
            checks.shape(tuple(x.shape), **{"the score": slope})
            x = x + step_size / 2 * slope.to(x) + step_size**0.5 * torch.randn_like(x)
        yield x


def _anneal(
    score_at_sigma: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    levels: Tensor,
    step_size: float,
    num_steps: int,
    progress: str | None,
) -> Iterator[Tensor]:
    with progress_bar(levels.tolist(), progress) as bar:
        for sigma in bar:
            level = x.new_full((len(x),), sigma)
            size = step_size * (sigma / float(levels[-1])) ** 2

            def score(x: Tensor, sigma: Tensor = level) -> Tensor:
                return score_at_sigma(x, sigma)

            film = _langevin(score, x, size, num_steps)
            for x in film:
                yield x
