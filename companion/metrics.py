"""Measure a model: likelihood, active units, probes of its codes, two-sample tests, detection scores."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from companion import checks
from companion.elbo import LatentChain, sample_log_weights


class Proportion(NamedTuple):
    """A measured proportion, its binomial standard error, and its 95 percent interval by Wilson. Book: chapter 1."""

    value: float
    standard_error: float
    low: float
    high: float


class Estimate(NamedTuple):
    """A measured number and its standard error. Book: chapter 10."""

    value: float
    standard_error: float


class NormalFit(NamedTuple):
    """The mean of a sample, and a root R of its covariance: C = R^T R. Book: chapter 11."""

    mean: Float[Tensor, "dim"]
    root: Float[Tensor, "dim dim"]


class TwoSampleTest(NamedTuple):
    """Energy distance of two samples, and the share of random relabelings with a distance at least as large.

    Book: chapter 1.
    """

    statistic: float
    p_value: float
    null: Float[Tensor, "num_permutations"]


class ActiveUnits(NamedTuple):
    """Variance over the data of each latent's posterior mean, and which exceed the threshold. Book: chapter 6."""

    variance: Float[Tensor, "latent_dim"]
    is_active: Bool[Tensor, "latent_dim"]

    @property
    def num_active(self) -> int:
        """How many latents the model uses."""
        return int(self.is_active.sum())


@torch.no_grad()
def log_likelihood(
    model: LatentChain, x: Float[Tensor, "batch *x_shape"], num_samples: int, chunk: int = 1000
) -> Float[Tensor, "batch"]:
    """Estimate log p(x) by L_K, the log of the average of K importance weights.

    In nats. It is random, and below log p(x) on average; the rest of the gap shrinks
    as K = `num_samples` grows, so a report names its K. Of the latents `chunk` samples are
    decoded at once: this bounds the memory, and changes the estimate only as another seed does.

    Raises:
        ValueError: if `num_samples` or `chunk` is below 1.

    Source: Burda et al. 2016, eq. 8. Book: chapter 6.
    """
    checks.at_least(1, num_samples=num_samples, chunk=chunk)
    checks.data(model, x, LatentChain)
    sizes = [min(chunk, num_samples - done) for done in range(0, num_samples, chunk)]
    estimates = []
    for part in x.split(max(1, chunk // num_samples)):
        log_w = torch.cat([sample_log_weights(model, part, size) for size in sizes])
        estimates.append(log_w.logsumexp(dim=0) - math.log(num_samples))
    return torch.cat(estimates)


@torch.no_grad()
def active_units(
    model: LatentChain, x: Float[Tensor, "batch *x_shape"], threshold: float = 0.01
) -> ActiveUnits:
    """Find the latents that carry information: those whose posterior mean varies with x.

    A latent counts as active above a variance of `threshold`; of several latents, z_T is looked at.

    Raises:
        ValueError: if x holds fewer than two examples, or `threshold` is negative.

    Source: Burda et al. 2016, section 5.2. Book: chapter 6.
    """
    checks.data(model, x, LatentChain)
    checks.at_least(2, num_examples=len(x))
    checks.not_negative(threshold=threshold)
    mean = torch.cat(
        [model.posterior(*model.encode(part)).mean.flatten(1) for part in x.split(1000)]
    )
    variance = mean.var(dim=0)
    return ActiveUnits(variance, variance > threshold)


def mutual_information(
    codes: Float[Tensor, "num latent_dim"],
    factors: Float[Tensor, "num num_factors"],
    num_bins: int = 20,
) -> Float[Tensor, "latent_dim num_factors"]:
    """Estimate the mutual information of each latent with each factor, in nats, from equally filled bins.

    At most log(num_bins), reached when the bin of the latent decides that of the factor.
    Of independent numbers it is (num_bins - 1)^2 / (2 num) on average, not zero.

    The codes are a *draw* of the latents for each example, and the factors its true causes.
    Ranks alone count, so means of a posterior would make a latent that hardly moves look as
    good as any other.

    Raises:
        ValueError: if codes and factors are no finite matrices with equally many rows,
            or there are fewer rows than bins, or fewer than two bins.

    Book: chapter 7.
    """
    from sklearn.metrics import mutual_info_score

    checks.shape(("num", "latent_dim"), codes=codes)
    checks.shape((len(codes), "num_factors"), factors=factors)
    checks.finite(codes=codes, factors=factors)
    checks.whole(2, len(codes), num_bins=num_bins)
    z, v = (_ranks(values) * num_bins // len(values) for values in (codes, factors))
    information = [[mutual_info_score(_array(v_k), _array(z_j)) for v_k in v.T] for z_j in z.T]
    return torch.tensor(information)


def mutual_information_gap(
    information: Float[Tensor, "latent_dim num_factors"], entropy: float
) -> Float[Tensor, "num_factors"]:
    """Mutual information with the best latent less that with the second best, for each factor, over `entropy`.

    Near 1 where one latent determines the factor and no other knows it, 0 where two know it equally well.
    Both arguments are in nats; the entropy of a factor in equally filled bins is the log of their number.

    Raises:
        ValueError: if there are fewer than two latents, or `entropy` is not positive.

    Source: Chen et al. 2018, eq. 6. Book: chapter 7.
    """
    checks.floating(information=information)
    checks.shape(("latent_dim", "num_factors"), information=information)
    checks.at_least(2, latent_dim=len(information))
    checks.finite(information=information)
    checks.positive(entropy=entropy)
    best, second = information.topk(2, dim=0).values
    return (best - second) / entropy


def proportion(hits: Bool[Tensor, "num"]) -> Proportion:
    """Mean of yes-or-no outcomes with its standard error sqrt(p (1 - p) / n) and Wilson's interval.

    Raises TypeError if they are no booleans, ValueError if there is none. Book: chapter 1.
    """
    from scipy.stats import binomtest

    checks.shape(("num",), hits=hits)
    if hits.dtype != torch.bool:
        raise TypeError(f"hits must hold booleans; {hits.dtype} was given")
    num, p = int(hits.sum()), hits.double().mean().item()
    interval = binomtest(num, len(hits)).proportion_ci(0.95, method="wilson")
    return Proportion(
        p, (p * (1 - p) / len(hits)) ** 0.5, float(interval.low), float(interval.high)
    )


def linear_probe(
    codes: Float[Tensor, "num dim"],
    labels: Int[Tensor, "num"],
    test_codes: Float[Tensor, "num_test dim"],
    test_labels: Int[Tensor, "num_test"],
) -> Proportion:
    """Test accuracy of multinomial logistic regression on standardized codes.

    A linear classifier can use only what the codes already make easy, so its accuracy measures the codes.

    Raises:
        ValueError: if codes and labels differ in number, the codes are no finite vectors of one dimension, or the
            labels hold a single class.

    Book: chapter 1.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    checks.shape(("num", "dim"), codes=codes)
    checks.shape(("num_test", codes.shape[1]), test_codes=test_codes)
    checks.shape((len(codes),), labels=labels)
    checks.shape((len(test_codes),), test_labels=test_labels)
    checks.finite(codes=codes, test_codes=test_codes)
    checks.integers(labels=labels, test_labels=test_labels)
    checks.at_least(2, num_classes=len(labels.unique()))
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    probe.fit(_array(codes), _array(labels))
    predicted = torch.from_numpy(probe.predict(_array(test_codes)))
    return proportion(predicted == test_labels.cpu())


def auroc(normal: Float[Tensor, "num"], anomalous: Float[Tensor, "num_anomalous"]) -> float:
    """Area under the ROC curve: the probability that an anomalous score exceeds a normal one, ties counting half.

    0.5 is chance, 1 is perfect. The scores are "higher means stranger", for example reconstruction errors.

    Raises:
        ValueError: if either sample is no list of numbers, is empty or holds a value that is not finite.

    Book: chapter 1.
    """
    from sklearn.metrics import roc_auc_score

    checks.shape(("num",), normal=normal)
    checks.shape(("num_anomalous",), anomalous=anomalous)
    checks.finite(normal=normal, anomalous=anomalous)
    scores = torch.cat([normal, anomalous]).detach().cpu().double()
    is_anomalous = torch.arange(len(scores), device="cpu") >= len(normal)
    return float(roc_auc_score(is_anomalous.numpy(), scores.numpy()))


def energy_test(
    x: Float[Tensor, "num dim"], y: Float[Tensor, "num_y dim"], num_permutations: int = 200
) -> TwoSampleTest:
    """Test whether two samples come from one distribution, with the energy distance and random relabelings.

    The statistic 2 E||x - y|| - E||x - x'|| - E||y - y'|| is zero for equal distributions and positive
    otherwise. The smallest p-value it can report is 1 / (num_permutations + 1).

    Raises:
        ValueError: if the samples differ in dimension, hold fewer than two points or a value that is not finite, or
            `num_permutations` is below 1.

    Source: Szekely & Rizzo 2013, eq. 2.1 and section 4. Book: chapter 1.
    """
    _check_samples(x, y)
    checks.at_least(1, num_permutations=num_permutations)
    both = torch.cat([x, y]).double()
    distance = torch.cdist(both, both)

    def statistic(order: Tensor) -> Tensor:
        # With indicator weights w = 1/n on x and -1/m on y, the energy distance is -w^T D w.
        w = torch.full((len(both),), -1.0 / len(y), dtype=torch.double, device=both.device)
        w[order[: len(x)]] = 1.0 / len(x)
        return -w @ distance @ w

    observed = statistic(torch.arange(len(both)))
    null = torch.stack([statistic(torch.randperm(len(both))) for _ in range(num_permutations)])
    p_value = (1 + int((null >= observed).sum())) / (num_permutations + 1)
    return TwoSampleTest(observed.item(), p_value, null)


def normal_fit(x: Float[Tensor, "num dim"]) -> NormalFit:
    """Mean and covariance of a sample, in double precision.

    Raises:
        ValueError: if x holds fewer than two points, or a value that is not finite.

    Book: chapter 10.
    """
    checks.shape(("num", "dim"), x=x)
    checks.at_least(2, num=len(x))
    checks.finite(x=x)
    mean = x.double().mean(0)
    root = torch.linalg.qr((x.double() - mean) / (len(x) - 1) ** 0.5, "r").R
    return NormalFit(mean, root)


def frechet_distance(
    x: Float[Tensor, "num dim"], y: Float[Tensor, "num_y dim"] | NormalFit
) -> float:
    """Squared Wasserstein distance of two Gaussians with the means and covariances of x and y.

    |m_x - m_y|^2 + tr(C_x + C_y - 2 (C_x^{1/2} C_y C_x^{1/2})^{1/2}). Of the features of
    images it is called FID where the features are those of Inception. Two samples of
    one distribution are above 0, in proportion to 1 / num: `jackknife` takes that off.

    Args:
        x: features of one sample.
        y: features of the other, or their `normal_fit`.

    Raises:
        ValueError: if the samples differ in dimension, hold fewer than two points, or one that is not finite.

    Source: Dowson & Landau 1982; Heusel et al. 2017, eq. 6. Book: chapter 11.
    """
    if not isinstance(y, NormalFit):
        _check_samples(x, y)
    p, q = normal_fit(x), y if isinstance(y, NormalFit) else normal_fit(y)
    checks.like(p.mean, **{"mean of y": q.mean})
    checks.shape(("rows", len(p.mean)), **{"root of y": q.root})
    checks.like(p.root.new_empty(q.root.shape), **{"root of y": q.root})
    checks.finite(**{"mean of y": q.mean, "root of y": q.root})
    # With C = R^T R, the trace of the root is the sum of the singular values of R_x R_y^T.
    # No root of a rounded eigenvalue is taken: exact to rounding, also where C is singular.
    cross = torch.linalg.svdvals(p.root @ q.root.T).sum()
    offset = (p.mean - q.mean).square().sum()
    return float(offset + p.root.square().sum() + q.root.square().sum() - 2 * cross)


def jackknife(
    statistic: Callable[[Tensor], float], x: Float[Tensor, "num *x_shape"], num_blocks: int = 10
) -> Estimate:
    """Take the bias of order 1 / num off a statistic of a sample, and estimate its standard error.

    The statistic is computed of all examples, and as often as there are blocks without one of
    them. With fewer examples the bias is larger, by a known factor: so it shows, and goes.

    Args:
        statistic: of a sample, such as its distance from a fixed one.
        x: the sample; it is divided into blocks at random, the same way each time.
        num_blocks: parts of equal size that are left out in turn.

    Raises:
        ValueError: if there are fewer than two blocks, or fewer examples than blocks.

    Source: Quenouille 1956; Tukey 1958. Book: chapter 10.
    """
    checks.at_least(2, num_blocks=num_blocks)
    checks.in_range(2, len(x), num_blocks=num_blocks)
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(x), generator=generator, device="cpu").to(x.device)
    parts = x[order].tensor_split(num_blocks)
    rests = [torch.cat(parts[:i] + parts[i + 1 :]) for i in range(num_blocks)]
    without = torch.tensor([statistic(rest) for rest in rests], dtype=torch.double)
    value = num_blocks * statistic(x) - (num_blocks - 1) * without.mean()
    error = ((num_blocks - 1) * without.var(correction=0)).sqrt()
    return Estimate(float(value), float(error))


def r_squared(target: Float[Tensor, "num"], estimate: Float[Tensor, "num"]) -> Estimate:
    """Share of the target's variance that the estimate accounts for as it stands, R^2, with its standard error.

    1 - sum (target - estimate)^2 / sum (target - its mean)^2. 1 where the two are equal, 0 where the mean of the
    targets would do as well, and negative where it would do better. The `jackknife` gives the standard error.

    Raises:
        ValueError: if the two are no lists of equally many finite numbers, ten at least, or the targets are all equal.

    Book: chapter 11.
    """
    checks.shape(("num",), target=target)
    checks.like(target, estimate=estimate)
    checks.finite(target=target, estimate=estimate)
    checks.at_least(10, num=len(target))
    if bool((target == target[0]).all()):
        raise ValueError(f"target must vary; all values are {target[0]:.4g}")

    def share(pairs: Tensor) -> float:
        v, v_hat = pairs.T
        return float(1 - (v - v_hat).square().mean() / v.var(correction=0))

    return jackknife(share, torch.stack([target, estimate], 1).double())


def bits_per_dim(nats: Float[Tensor, "*shape"], num_dims: int) -> Float[Tensor, "*shape"]:
    """Nats of one example as bits per dimension: nats / (num_dims log 2).

    The usual figure is that of -log p(x), or of minus the bound, for the probability of
    8-bit images. A density on [-1, 1] needs log2(255 / 2) = 6.994 bits more, since
    its gray levels are 2 / 255 apart.

    Raises:
        ValueError: if `num_dims` is below 1.

    Book: chapter 10.
    """
    checks.at_least(1, num_dims=num_dims)
    checks.floating(nats=nats)
    return nats / (num_dims * math.log(2))


def _check_samples(x: Tensor, y: Tensor) -> None:
    """Two samples of at least two finite vectors each; a NaN would look like the smallest p-value."""
    checks.shape(("num", "dim"), x=x)
    checks.shape(("num_y", x.shape[1]), y=y)
    checks.at_least(2, num=len(x), num_y=len(y))
    checks.finite(x=x, y=y)


def _ranks(values: Float[Tensor, "num dim"]) -> Int[Tensor, "num dim"]:
    """How many values of its column are smaller: its rank from 0, where equal values have the same."""
    columns = values.T.contiguous()
    return torch.searchsorted(columns.sort(dim=1).values, columns).T


def _array(values: Tensor) -> Any:
    """A NumPy array for scikit-learn; NumPy has no bfloat16, which autocast gives."""
    return (values.float() if values.dtype.itemsize == 2 else values).numpy(force=True)
