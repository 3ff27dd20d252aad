"""Checks for the exercises of chapter 13, Diffusion priors."""

import torch
from torch import Tensor
from torch.distributions import Normal

from companion.page.exercises import bisect, double, draws, right_number, same_function

ALPHA_BAR = 0.6
MEANS, VAR = double([-0.8, 0.5]), 0.3  # of the two classes of the first exercise
POINTS = torch.linspace(-2, 2, 5, dtype=torch.double, device="cpu")
X_Y, X_N = draws(2, 4)
X_HAT, ROOT = draws(5, 4)[0], draws(5, 4)[1:]
C = ROOT @ ROOT.T + 0.1 * torch.eye(4, dtype=torch.double, device="cpu")


def _log_joint(x: Tensor, alpha_bar: float) -> Tensor:
    """Log p(x_t, y) of both classes, but for a constant."""
    std = (alpha_bar * VAR + 1 - alpha_bar) ** 0.5
    return Normal(alpha_bar**0.5 * MEANS, std).log_prob(x[:, None])


def _noises(x: Tensor, alpha_bar: float) -> tuple[Tensor, Tensor]:
    """The predicted noise with the second class as condition, and without a condition."""
    score = (alpha_bar**0.5 * MEANS - x[:, None]) / (alpha_bar * VAR + 1 - alpha_bar)
    share = _log_joint(x, alpha_bar).softmax(1)
    noise_std = (1 - alpha_bar) ** 0.5
    return -noise_std * score[:, 1], -noise_std * (share * score).sum(1)


@same_function(
    "implicit-classifier",
    [(*_noises(POINTS, alpha_bar), alpha_bar) for alpha_bar in (0.9, 0.5, 0.1)],
    hint="Write both scores by the noise; by Bayes' rule they differ by the gradient.",
    remark="nobody trained it",
)
def check_classifier_gradient(
    conditional: Tensor, unconditional: Tensor, alpha_bar: float
) -> Tensor:
    """Check `classifier_gradient` on two classes of Gaussian data."""
    x = POINTS.clone().requires_grad_()
    log_class = _log_joint(x, alpha_bar).log_softmax(1)[:, 1]
    (gradient,) = torch.autograd.grad(log_class.sum(), x)
    return gradient


@same_function(
    "negative",
    [(X_Y, X_N, 3.0), (X_N, X_Y, 1.5), (X_Y, X_N, 1.0)],
    hint="At kappa = 1 it is the denoiser of y; above, it moves away from that of n.",
    remark="a negative prompt",
)
def check_not_this(x_y: Tensor, x_n: Tensor, kappa: float) -> Tensor:
    """Check `not_this(x_y, x_n, kappa)` by way of the scores."""
    # At x_t = 0 the score is a multiple of the estimate.
    score_y, score_n = (ALPHA_BAR**0.5 / (1 - ALPHA_BAR) * x for x in (x_y, x_n))
    score = score_y + (kappa - 1) * (score_y - score_n)
    return (1 - ALPHA_BAR) / ALPHA_BAR**0.5 * score


@right_number(
    "scale",
    hint="The variance of the class is 0.5, and that of the samples 0.5 to the power of the scale.",
    remark="less than five, for a tenth of the variance",
    rtol=1e-3,
)
def check_scale() -> float:
    """Check the scale by following the variance along the flow, for scales on both sides."""

    def arrives_above(kappa: float) -> bool:
        # d log W / dr = 1 - P, over r = log(alpha_bar), by the midpoint rule.
        r = torch.linspace(-20, 0, 20_001, dtype=torch.double)
        V = 1 - 0.5 * ((r[1:] + r[:-1]) / 2).exp()
        slope = 1 - (kappa / V + 1 - kappa)
        return float((slope * r.diff()).sum().exp()) > 0.05

    return bisect(arrives_above, 1.0, 20.0)


@same_function(
    "one-pixel",
    [(X_HAT, C, 0, 1.0, 0.1), (X_HAT, C, 2, -0.5, 1.0)],
    hint="A is one row of the identity: what is C A^T, and what is A C A^T?",
    remark="all pixels move, in proportion to their covariance with the measured one",
)
def check_after_one_pixel(x_hat: Tensor, C: Tensor, i: int, y: float, var: float) -> Tensor:
    """Check `after_one_pixel(x_hat, C, i, y, var)` by adding precisions."""
    precision, seen = torch.linalg.inv(C), torch.zeros_like(x_hat)
    seen[i] = 1 / var
    return torch.linalg.solve(precision + torch.diag(seen), precision @ x_hat + seen * y)


@same_function(
    "holes",
    [(0.1,), (0.7,), (2.0,)],
    hint="By how much is the density of the codes larger than that of the prior, inside the region?",
    remark="two nats, and six of seven draws miss",
)
def check_share_that_misses(nats: float) -> Tensor:
    """Check `share_that_misses(nats)` with a half-line for the region."""
    normal = Normal(double(0.0), double(1.0))
    # The point below which a Gaussian number lies with the wanted probability.
    end = bisect(lambda x: bool(-normal.cdf(double(x)).log() > nats), -40.0, 40.0)
    return 1 - normal.cdf(double(end))
