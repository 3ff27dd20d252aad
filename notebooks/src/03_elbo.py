# %% [markdown]
# # The ELBO
#
# A latent variable model is trained by raising the probability that it gives to the data. That probability is an integral which in general cannot be computed. This chapter constructs a lower bound that can be computed, and shows how far below the log-probability it lies.

# %% tags=["setup", "hide-input"]
# The set-up cell: `make sync` writes it.

# %% tags=["unseen"]
import math

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.patches import Circle
from torch import nn
from torch.distributions import Bernoulli, MultivariateNormal, Normal, kl_divergence
from torch.func import jacrev, vmap

from companion import data
from companion.distributions import diagonal_normal
from companion.elbo import ElboTerms, LatentChain, elbo_terms
from companion.page import plots
from companion.page.show import show
from companion.page.sliders import Film, Slider
from companion.page.verify import at_most, binomial, exact, monte_carlo, quadrature, verify
from companion.training import fit, minimize

_ = torch.manual_seed(0)
torch.set_default_dtype(torch.double)

# %% tags=["figure"] mystnb={"image": {"alt": "A wide arch, the log-likelihood of one data point as a function of a weight of the model. Three narrower arches lie below it, and each touches it at one point."}, "figure": {"caption": "The log-likelihood of one data point as a function of one weight of a model, and three lower bounds. Each bound belongs to a different approximate posterior, and touches the curve at the weight for which that posterior is exact.", "name": "fig-touching"}}
weight, x = torch.linspace(-3.5, 5.0, 200), torch.tensor(0.9)
joint_std, total = 0.5**0.5, 1.3**2 + 0.5  # x = 1.3 z + weight + noise of variance 0.5
lines = {"log p(x)": (weight, Normal(weight, total**0.5).log_prob(x))}
for number, old in enumerate((-1.8, 0.6, 3.2)):
    q = Normal(1.3 * (x - old) / total, (0.5 / total) ** 0.5)  # the exact posterior there
    log_x_given_z = Normal(1.3 * q.mean + weight, joint_std).log_prob(x) - 1.3**2 * q.variance
    bound = log_x_given_z - kl_divergence(q, Normal(0.0, 1.0))
    near = bound > -5
    lines[f"bound {number + 1}"] = (weight[near], bound[near])
plots.curves(lines, x_label="weight of the model", y_label="nats")

# %% [markdown]
# Such a model draws a few hidden numbers $z$, and a decoder turns them into data $x$. Conversely, which hidden numbers may a given $x$ have come from? An answer is a distribution, the *approximate posterior*, and each answer gives a lower bound on the log-probability of $x$. {numref}`fig-touching` shows three of them. The better the approximation, the smaller the gap. The bound is the evidence lower bound, the {term}`ELBO`, and the models of this book are trained by raising it.

# %% [markdown]
# (sec-latent-models)=
# ## Models with something hidden
#
# A {term}`latent variable` is a variable of the model that is never observed. A latent variable model needs two distributions: a {term}`prior` $p(z)$ that is easy to sample, and a {term}`likelihood` $p(x \mid z)$, the distribution of the data once the latent is known. Together they say how to sample an $x$:
# first $z$, then $x$. If a network computes $p(x \mid z)$ from $z$, as in most models of this book, the model is called *deep*, and the network is the decoder. The distribution of $x$ alone is the {term}`evidence`, or marginal likelihood,
#
# $$
# p(x) = \int p(x \mid z)\, p(z)\, \mathrm{d}z .
# $$ (def-evidence)
#
# The latent should describe what matters about $x$, and a new $z$ should give a new $x$. The images of {numref}`fig-scenes` have 3,072 values each, but five numbers determine them: the direction of the house, the height of the camera, the light, the size and the color. Such images lie on a five-dimensional surface among all images.

# %% tags=["figure"] mystnb={"image": {"alt": "Two rows of eight small images of a house on a gray floor, seen from different sides, in different sizes, colors and lights."}, "figure": {"caption": "Five numbers determine each of these images. A latent variable model could describe them in five dimensions; whether its axes would be these five numbers is the question of chapter 7.", "name": "fig-scenes"}}
plots.image_grid(data.scenes(16, seed=1).images, columns=8)

# %% [markdown]
# If the surface were flat, five principal components, as in chapter 1, would describe the images. We compute the components of 600 houses, and how much of the variance of 600 others they contain.

# %% tags=["numbers"]
houses, others = (data.scenes(600, seed=seed).images.flatten(1).double() for seed in (2, 3))
directions = torch.linalg.svd(houses - houses.mean(0), full_matrices=False).Vh
centered = others - houses.mean(0)
contained = (centered @ directions.T).square().mean(0).cumsum(0)
contained = contained / centered.square().sum(1).mean()
needed = 1 + int((contained < 0.9).sum())
print(f"share of the variance in five components: {contained[4]:.2f}")
print(f"components for a share of 0.9: {needed}")

# %% tags=["held", "nbval-check-output"]
print("five components contain less than 0.7:", bool(contained[4] < 0.7))
print("a share of 0.9 takes at least six times as many:", needed >= 30)

# %% [markdown]
# So the surface is not flat, and five latents can be enough only with a decoder that is not linear. For such a decoder the integral {eq}`def-evidence` has in general no formula.
#
# **Which prior?** The prior should be continuous, so that neighboring latents can mean similar things; easy to sample; and easy to compare with other distributions, since a KL divergence from it will be part of the loss. Uniform and Gaussian distributions have these properties. (With a uniform prior on a cube the approximate posterior must stay inside the cube too, or the KL divergence is infinite.) For $p(x)$ alone the choice may not matter at all, since a decoder can turn one distribution into another. In one dimension there is a formula. Let $\Phi$ be the distribution function of $\mathcal{N}(0, 1)$ and $F$ the one that we want. Its quantile function $F^{-1}(u)$, for $0 < u < 1$, is the least $t$ with $F(t) \ge u$. For $z \sim \mathcal{N}(0, 1)$
#
# $$
# \Pr\big( F^{-1}(\Phi(z)) \le t \big) = F(t) .
# $$ (eq-inverse-cdf)
#
# :::{dropdown} Proof
# $\Phi(z)$ is uniform on $[0, 1]$, because $\Pr(\Phi(z) \le u) = \Pr(z \le \Phi^{-1}(u)) = u$. And $F^{-1}(u) \le t$ means $u \le F(t)$, because $F$ never falls and is continuous from the right. $\square$
# :::
#
# The formula holds for distributions with jumps too.
#
# **Check.** Here $F$ is the distribution of a waiting time that is zero with probability 0.3 and exponential otherwise. Five probabilities are compared; a distribution without the jump is rejected, and $z$ without the map.

# %% tags=["check", "nbval-check-output"]
u = torch.special.ndtr(torch.randn(200_000))
waiting = -2 * torch.log1p(-(u - 0.3).clamp(min=0) / 0.7)  # the quantile function
t = torch.tensor([0.0, 0.5, 1.0, 2.0, 4.0])
F = 0.3 + 0.7 * (1 - (-t / 2).exp())
below = (waiting[:, None] <= t).double()
wrong = {"no jump": 1 - (-t / 2).exp(), "no map": torch.special.ndtr(t)}
verify("eq-inverse-cdf", below, F, binomial, rejects=wrong)

# %% [markdown]
# In more dimensions there is a limit: a continuous decoder maps a connected prior to a connected set, so between separate parts of the data it leaves a gap only where it changes very steeply. And for the *bound* of this chapter the prior does matter, as {eq}`eq-surgery` will show. The decoder of {numref}`fig-ring` bends a Gaussian on the line into a ring in the plane; the likelihood adds a little noise. The integral {eq}`def-evidence` adds up a continuum of simple distributions, one for each latent, weighted by the prior.


# %%
def ring(z, phase=3.0):
    return torch.stack([torch.cos(2 * z + phase), torch.sin(2 * z + phase)], -1)


# %% tags=["figure"] mystnb={"image": {"alt": "Left: a bell curve over the latent, with fifteen colored ticks at values of equal probability mass between them. Right: points on a noisy ring in the plane, denser at its left side; fifteen discs in the colors of the ticks lie along the ring."}, "figure": {"caption": "The evidence is a mixture with one component for each latent. Left: the prior, with fifteen latents that divide it into equal shares. Right: samples of $x$, and for each of these latents its component $p(x \\mid z)$, as a disc of one standard deviation.", "name": "fig-ring"}}
noisy = ring(torch.randn(1500)) + 0.2 * torch.randn(1500, 2)
shares = torch.special.ndtri((torch.arange(15) + 0.5) / 15)  # the latents
fig, (left, right) = plots.figure(columns=2, height=3.4)
line = torch.linspace(-3, 3, 201)
_ = plots.curves(
    {"p(z)": (line, Normal(0.0, 1.0).log_prob(line).exp())},
    x_label="z",
    y_label="density",
    axes=left,
)
_ = plots.scatter(noisy, x_label="$x_1$", y_label="$x_2$", axes=right)
right.collections[0].set_facecolor("#aaaaaa")
for color, z, center in zip(
    plt.cm.viridis(np.linspace(0, 0.9, 15)), shares, ring(shares), strict=True
):
    _ = left.plot(z, 0.01, "|", color=color, markersize=14, markeredgewidth=3)
    _ = right.add_patch(Circle(center, 0.2, facecolor=color, alpha=0.55))
fig

# %% [markdown]
# **A model that can be solved.** In the following model all integrals are known: $z \sim \mathcal{N}(0, 1)$ and $x \mid z \sim \mathcal{N}(a z + b,\, s^2)$. Its evidence is again Gaussian,
#
# $$
# p(x) = \mathcal{N}(x;\; b,\; a^2 + s^2) ,
# $$ (eq-linear-evidence)
#
# and so is its {term}`posterior`, the distribution of the latent after $x$ has been seen,
#
# $$
# p(z \mid x) = \mathcal{N}\Big( z;\; \frac{a (x - b)}{a^2 + s^2},\; \frac{s^2}{a^2 + s^2} \Big) .
# $$ (eq-linear-posterior)
#
# :::{dropdown} Proof
# $x = a z + b + s \varepsilon$ with independent standard Gaussian $z$ and $\varepsilon$: a sum of independent Gaussian variables is Gaussian, and the variances add up. For the posterior, collect the terms of $\log p(x \mid z) + \log p(z)$ in $z$: the precision is $a^2 / s^2 + 1$, the linear coefficient is $a (x - b) / s^2$. $\square$
# :::


# %%
a, b, s = 1.3, 0.4, 0.5**0.5
x, prior = torch.tensor(0.9), Normal(torch.tensor(0.0), 1.0)
evidence = Normal(torch.tensor(b), (a**2 + s**2) ** 0.5)
posterior = Normal(a * (x - b) / (a**2 + s**2), s / (a**2 + s**2) ** 0.5)


def log_joint(x, z):
    return Normal(a * z + b, s).log_prob(x) + prior.log_prob(z)


# %% tags=["check", "nbval-check-output"]
grid = torch.linspace(-12, 12, 6_001)
integral = torch.trapezoid(log_joint(x, grid).exp(), grid)
p_x = evidence.log_prob(x).exp()
forgotten = {"noise forgotten": Normal(b, a).log_prob(x).exp()}
verify("eq-linear-evidence", integral, p_x, quadrature, rejects=forgotten)

normalized = log_joint(x, grid).exp() / integral
wider = Normal(posterior.mean, posterior.variance).log_prob(grid).exp()
wrong = {"variance for deviation": wider}
closed = posterior.log_prob(grid).exp()
verify("eq-linear-posterior", normalized, closed, quadrature, rejects=wrong)

# %% [markdown]
# **A sample is not the most likely point.** It is tempting to think that a sample is an $x$ of nearly the largest $\log p(x)$. It is not. For a standard Gaussian in $D$ dimensions, whose mode is zero,
#
# $$
# \log p(\text{mode}) - \mathbb{E} \log p(x) = \frac{D}{2} .
# $$ (eq-mode)
#
# :::{dropdown} Proof
# The difference $\log p(0) - \log p(x)$ is $\lVert x \rVert^2 / 2$, the sum of $D$ independent terms $x_i^2 / 2$. Each has mean $1/2$ and variance $1/2$. So the mean is $D / 2$, and the standard deviation $\sqrt{D / 2}$. $\square$
# :::
#
# In 784 dimensions the log-density of a sample is on average 392 nats below that of the mode, with a standard deviation of 20 (entry E21 of the {doc}`errata </book/errata>`).

# %% tags=["check", "nbval-check-output"]
D = 784
standard = Normal(torch.zeros(D), 1.0)
drop = standard.log_prob(torch.zeros(D)).sum() - standard.log_prob(torch.randn(5_000, D)).sum(1)
verify("eq-mode", drop, D / 2, monte_carlo, rejects={"E21": 0.0, "no factor 1/2": D})
print(f"standard deviation of the difference: {drop.std():.0f} nats from samples,", end=" ")
print(f"{math.sqrt(D / 2):.1f} from the formula")

# %% [markdown]
# **What you can say now.** A latent variable model is a prior and a decoder. Its evidence is an integral over all latents, and its posterior says which latents could have produced $x$.
#
# *Sources: A14, A16, B07, C04, D01, D03.*

# %% [markdown]
# (sec-impossible-integral)=
# ## The impossible integral
#
# How could {eq}`def-evidence` be computed? It is a mean over the prior, so one can sample latents and average,
#
# $$
# p(x) = \mathbb{E}_{z \sim p(z)}\, p(x \mid z) .
# $$ (eq-prior-sampling)
#
# The estimate is unbiased, but in high dimension it can be useless: for almost all latents from the prior, $p(x \mid z)$ may be practically zero. The solvable model, repeated in $D$ independent dimensions, shows both.
#
# **Check.** That the estimate is unbiased is confirmed in three dimensions. The likelihood at $z = 0$ is rejected.

# %% tags=["check", "nbval-check-output"]
z = torch.randn(1_000_000, 3)
samples = Normal(a * z + b, s).log_prob(x).sum(1).exp()
at_mean = Normal(b, s).log_prob(x).exp() ** 3
verify("eq-prior-sampling", samples, p_x**3, monte_carlo, rejects={"likelihood at z = 0": at_mean})

# %% [markdown]
# How fast does the error grow with the dimension? For independent dimensions the second moments multiply. If one dimension has $\mathbb{E}\, p(x \mid z)^2 = r\, p(x)^2$, the relative variance of one sample in $D$ dimensions is $r^D - 1$. To know $p(x)$ to ten percent takes $(r^D - 1) / 0.1^2$ samples.


# %% tags=["nbval-check-output"]
def relative_moment(log_weight, sampled):
    """E w^2 / p(x)^2 for z from the distribution `sampled`, by an integral over the grid."""
    return torch.trapezoid((2 * log_weight + sampled.log_prob(grid)).exp(), grid) / p_x**2


r = relative_moment(Normal(a * grid + b, s).log_prob(x), prior)
print(f"r = {r:.3f}")
print(f"samples for ten percent in 100 dimensions: {(r**100 - 1) / 0.1**2:.1e}")

# %% tags=["figure"] mystnb={"image": {"alt": "On a logarithmic axis the relative standard deviation of the prior estimate bends at first, then rises as a straight line with the dimension, over eleven orders of magnitude."}, "figure": {"caption": "Relative standard deviation of one sample of the prior estimate, for the solvable model in D independent dimensions. It grows exponentially.", "name": "fig-prior-spread"}}
dimensions = torch.arange(1, 101)
plots.curves(
    {"one latent from the prior": (dimensions, (r**dimensions - 1).sqrt())},
    x_label="dimension of the latent",
    y_label="relative standard deviation",
    log_y=True,
)

# %% [markdown]
# In {numref}`fig-prior-spread`, after a few dimensions each further one multiplies the standard deviation by $\sqrt{r}$, so for this model sampling from the prior fails. Could Bayes' rule help? For *every* $z$ it says that
#
# $$
# p(x) = \frac{p(x \mid z)\, p(z)}{p(z \mid x)} ,
# $$ (eq-bayes-identity)
#
# so a single latent would be enough if we knew the posterior. We do not know it, because its normalizing constant is $p(x)$. But suppose we have an {term}`approximate posterior` $q(z \mid x)$; the network that computes it is the {term}`encoder`. With $q$ in the place of the posterior, the ratio does depend on $z$, but it is right on average:
#
# $$
# p(x) = \mathbb{E}_{z \sim q(z \mid x)} \frac{p(x \mid z)\, p(z)}{q(z \mid x)} .
# $$ (eq-importance)
#
# :::{dropdown} Proof
# Write the mean as an integral; $q$ cancels, provided that it is positive wherever the numerator is. $\square$
# :::

# %% tags=["check", "nbval-check-output"]
z = torch.linspace(-3, 3, 7)
ratio = (log_joint(x, z) - posterior.log_prob(z)).exp()
wrong = {"prior for posterior": Normal(a * z + b, s).log_prob(x).exp()}
verify("eq-bayes-identity", ratio, p_x.repeat(7), rejects=wrong)

# %% [markdown]
# This is importance sampling, and the ratio is the importance weight.
#
# **Check.** Here $q$ is a little shifted and too wide. A mean of the joint density alone, in which $q$ is forgotten, is rejected.

# %% tags=["check", "nbval-check-output"]
q = Normal(posterior.mean + 0.2, 1.3 * posterior.stddev)
z = q.sample((400_000,))
weights = (log_joint(x, z) - q.log_prob(z)).exp()
wrong = {"q forgotten": log_joint(x, z).exp().mean()}
verify("eq-importance", weights, p_x, monte_carlo, rejects=wrong)

# %% tags=["nbval-check-output"]
r_q = relative_moment(log_joint(x, grid) - q.log_prob(grid), q)
print("relative standard deviation of one sample")
for D in 1, 10, 100:
    with_q, with_prior = (r_q**D - 1).sqrt(), (r**D - 1).sqrt()
    print(f"D = {D:3}: {with_q:.2g} with this q, {with_prior:.2g} with the prior")

# %% [markdown]
# In one dimension this $q$ halves the standard deviation. In a hundred dimensions it is far better than the prior, and still useless: the standard deviation of one sample is thousands of times the true value. The weight is a product over the dimensions, so its second moments multiply. Its *logarithm* is a sum, whose variance is only $D$ times that of one dimension, and this leads to the bound. (A $q$ that is too narrow can be worse than the prior: the variance of its weights may be infinite; see {ref}`an exercise <ex-narrow-guess>`.)
#
# **What you can say now.** Sampling from the prior is unbiased, but in the solvable model the samples it needs grow exponentially with the dimension. Importance sampling from an approximate posterior is unbiased too. It can be far better, but in many dimensions it needs a $q$ that is nearly exact.
#
# *Sources: A17, B09, B10.*

# %% [markdown]
# (sec-elbo)=
# ## The bound, derived three times
#
# The importance weight in {eq}`eq-importance` is an estimate of $p(x)$. If we take its logarithm *before* the mean, we get the central quantity of this book {cite:p}`jordan1999`,
#
# $$
# \mathrm{ELBO}(x) = \mathbb{E}_{z \sim q(z \mid x)} \big[ \log p(x \mid z) + \log p(z) - \log q(z \mid x) \big] .
# $$ (def-elbo)
#
# Three derivations show that it is a lower bound, how far below it lies, and which two terms it consists of.
#
# **First derivation: Jensen.** The mean of a logarithm is at most the logarithm of the mean {eq}`eq-jensen`. With {eq}`eq-importance` this is
#
# $$
# \mathrm{ELBO}(x) \le \log p(x) .
# $$ (eq-elbo-bound)
#
# The bound needs no condition on $q$: where $q$ is zero on a part of the posterior, the right side of {eq}`eq-importance` is at most $p(x)$, which is enough.
#
# **Second derivation: the gap.** How far below $\log p(x)$ is the bound? The difference is exactly the KL divergence from the approximate to the true posterior,
#
# $$
# \log p(x) - \mathrm{ELBO}(x) = D_{\mathrm{KL}}\big( q(z \mid x) \,\Vert\, p(z \mid x) \big) .
# $$ (eq-elbo-gap)
#
# By Gibbs' inequality ({prf:ref}`thm-gibbs`) this is never negative, so the bound is proved again. It is zero only if $q(z \mid x)$ is the posterior.
#
# :::{dropdown} Proof of the gap
# $\log p(x \mid z) + \log p(z) = \log p(x) + \log p(z \mid x)$ by Bayes' rule. Insert this into {eq}`def-elbo`; the mean of $\log p(x)$ is itself, and the rest is $-D_{\mathrm{KL}}(q \Vert p(z \mid x))$. $\square$
# :::
#
# **Third derivation: the log-ratio.** Write $\log p(x)$ by {eq}`eq-bayes-identity`, which holds for every $z$, so that a mean over $q$ changes nothing. Multiply and divide by $q$, and sort the terms; for this the three means must be finite:
#
# $$
# \begin{aligned}
# \log p(x) &= \mathbb{E}_q \log \frac{p(x \mid z)\, p(z)}{p(z \mid x)} \\
# &= \mathbb{E}_q \log \frac{p(x \mid z)\, p(z)}{p(z \mid x)} \frac{q(z \mid x)}{q(z \mid x)} \\
# &= \mathbb{E}_q \log p(x \mid z) - D_{\mathrm{KL}}\big(q(z \mid x) \Vert p(z)\big) \\
# &\quad + D_{\mathrm{KL}}\big(q(z \mid x) \Vert p(z \mid x)\big) .
# \end{aligned}
# $$ (eq-log-ratio)
#
# The last term cannot be computed in general, but it is not negative. The other two are the ELBO in another form,
#
# $$
# \mathrm{ELBO}(x) = \mathbb{E}_q \log p(x \mid z) - D_{\mathrm{KL}}\big( q(z \mid x) \,\Vert\, p(z) \big) .
# $$ (eq-elbo-terms)
#
# This is the form that is used in training. The first term is large if the decoder explains $x$ well from latents of $q$; the second keeps $q$ close to the prior. Both can be estimated and differentiated.
#
# **Check.** For the $q$ of the last section, the closed form of the bound is compared with samples of the log-ratio. The plus sign (E1) is rejected.


# %%
def expected_log_likelihood(q, x, b=b):
    """E_q log N(x; a z + b, s^2), for a Gaussian q."""
    square = (x - a * q.mean - b) ** 2 + a**2 * q.variance
    return -0.5 * math.log(2 * math.pi * s**2) - square / (2 * s**2)


reconstruction, to_prior = expected_log_likelihood(q, x), kl_divergence(q, prior)
to_posterior = kl_divergence(q, posterior)
elbo, log_p = reconstruction - to_prior, evidence.log_prob(x)

# %% tags=["check", "nbval-check-output"]
z = q.sample((1_000_000,))
samples = log_joint(x, z) - q.log_prob(z)
plus = {"E1": reconstruction + to_prior}
verify("eq-elbo-terms", samples, elbo, monte_carlo, rejects=plus)

# %% [markdown]
# **Check.** The bounds of a thousand random $q$ lie below $\log p(x)$. The gap of the $q$ above is the KL divergence to the posterior. The inequality the wrong way around (E2) is rejected, and so are a gap with the arguments in the other order and a gap to the prior.

# %% tags=["check", "nbval-check-output"]
many = Normal(2 * torch.randn(1000), torch.rand(1000) + 0.1)  # a thousand random q
elbos = expected_log_likelihood(many, x) - kl_divergence(many, prior)
above = torch.ones(1000)
verify("eq-elbo-bound", (log_p - elbos).sign(), above, rejects={"E2": -above})
wrong = {"other order": kl_divergence(posterior, q), "gap to the prior": to_prior}
verify("eq-elbo-gap", log_p - elbo, to_posterior, rejects=wrong)

# %% [markdown]
# **Check.** The first line of {eq}`eq-log-ratio` is computed twice, as $\log p(x)$ and by numerical integration over $z$, and compared with the closed forms of the three terms. The plus sign (E1) is rejected.

# %% tags=["check", "nbval-check-output"]
log_ratio = log_joint(x, grid) - posterior.log_prob(grid)
mean = torch.trapezoid(q.log_prob(grid).exp() * log_ratio, grid)
three = reconstruction - to_prior + to_posterior
plus = {"E1": (reconstruction + to_prior + to_posterior).repeat(2)}
left = torch.stack([log_p, mean])
verify("eq-log-ratio", left, three.repeat(2), quadrature, rejects=plus)

# %% [markdown]
# Move the slider to shift $q$. The bound touches $\log p(x)$ at one place, where $q$ is the posterior. Elsewhere it lies below by the KL divergence from $q$ to the posterior.


# %% tags=["serves"]
def bound_at(shift):
    fig, (left, right) = plots.figure(columns=2, height=2.9)
    means = torch.linspace(-1.5, 2.5, 81)
    family = Normal(means, posterior.stddev)
    values = expected_log_likelihood(family, x) - kl_divergence(family, prior)
    q = Normal(posterior.mean + shift, posterior.stddev)
    densities = {"posterior": posterior.log_prob(grid).exp(), "q": q.log_prob(grid).exp()}
    seen = (grid > -2) & (grid < 3)
    _ = plots.curves(
        {name: (grid[seen], y[seen]) for name, y in densities.items()},
        x_label="z",
        y_label="density",
        axes=left,
    )
    lines = {"log p(x)": (means, log_p.repeat(81)), "ELBO": (means, values)}
    gap = (q.mean.repeat(2), torch.stack([log_p, log_p - kl_divergence(q, posterior)]))
    _ = plots.curves(lines | {"gap": gap}, x_label="mean of q", y_label="nats", axes=right)
    return fig


# %% tags=["figure"]
Slider(
    torch.linspace(-1.5, 1.5, 13),
    bound_at,
    description="shift of q",
    label="{:.2f}",
    alt="Left, posterior and approximate posterior. Right, the bound with its gap at shift {:.2f}",
    start=10,
)

# %% [markdown]
# **Beyond Gaussians.** In the solvable model the posterior is Gaussian, so a Gaussian $q$ can be exact. In the ring model of {numref}`fig-ring` it cannot: two values of $z$ that differ by $\pi$ give the same point, so the posterior has several modes, and no Gaussian $q$ closes the gap. The latent is one-dimensional, so everything can still be computed by integrals over a grid.


# %% tags=["serves"]
x_ring = 0.9 * ring(torch.tensor(1.2))


def ring_log_joint(z, phase=3.0):
    return Normal(ring(z, phase), 0.2).log_prob(x_ring).sum(-1) + prior.log_prob(z)


def ring_bound(q, phase=3.0):
    log_q = q.log_prob(grid)
    return torch.trapezoid(log_q.exp() * (ring_log_joint(grid, phase) - log_q), grid)


ring_log_p = torch.trapezoid(ring_log_joint(grid).exp(), grid).log()
ring_posterior = ring_log_joint(grid) - ring_log_p  # log-density on the grid


# %% tags=["serves"]
def fit_ring(start):
    """The Gaussian q with the largest bound, searched from this mean."""
    mean, log_std = (torch.tensor(v, requires_grad=True) for v in (start, -2.0))
    _ = minimize(lambda: -ring_bound(Normal(mean, log_std.exp())), [mean, log_std])
    return Normal(mean.detach(), log_std.detach().exp())


best = max((fit_ring(start) for start in (1.2, 1.2 - math.pi)), key=ring_bound)
top = grid[ring_posterior.argmax()]  # Laplace: a Gaussian with mode and curvature there
bend = vmap(torch.func.grad(torch.func.grad(ring_log_joint)))(top[None])[0]
laplace = Normal(top, (-bend) ** -0.5)

# %% [markdown]
# **Check.** The gap is estimated by samples of the bound, and compared with an integral. Then the three terms of {eq}`eq-log-ratio` are added up, with the KL divergence from the prior in closed form. The KL divergence to the *Laplace approximation*, the Gaussian with the mode and the curvature of the posterior, is rejected in both; it would pass in the solvable model.

# %% tags=["check", "nbval-check-output"]
z = best.sample((400_000,))
samples = ring_log_p - (ring_log_joint(z) - best.log_prob(z))  # their mean is the gap
log_q = best.log_prob(grid)
gap = torch.trapezoid(log_q.exp() * (log_q - ring_posterior), grid)
wrong = {"Laplace posterior": kl_divergence(best, laplace)}
verify("eq-elbo-gap", samples, gap, monte_carlo, rejects=wrong)
explained = torch.trapezoid(log_q.exp() * (ring_log_joint(grid) - prior.log_prob(grid)), grid)
two = explained - kl_divergence(best, prior)
wrong = {"Laplace posterior": two + kl_divergence(best, laplace)}
wrong["E1"] = explained + kl_divergence(best, prior) + gap
verify("eq-log-ratio", ring_log_p, two + gap, quadrature, rejects=wrong)
print(f"the best Gaussian q misses log p(x) by {gap:.2f} nats")

# %% tags=["serves"]
phases, old_phase = torch.linspace(1.8, 4.4, 131), 2.4
old = ring_log_joint(grid, old_phase)
old = old - torch.trapezoid(old.exp(), grid).log()  # the exact posterior of the old phase
ring_lines = {"log p(x)": [], "exact q": [], "Gaussian q": []}
for phase in phases:
    joint = ring_log_joint(grid, phase)
    exact_q_bound = torch.trapezoid(old.exp() * (joint - old), grid)
    values = torch.trapezoid(joint.exp(), grid).log(), exact_q_bound, ring_bound(best, phase)
    for name, value in zip(ring_lines, values, strict=True):
        ring_lines[name] += [value]

# %% tags=["figure"] mystnb={"image": {"alt": "Left: a posterior with a tall mode near 1.2 and a lower one near minus 1.9; the Gaussian q covers the tall one only. Right: the log-likelihood as a gently curved line over the phase of the ring; one narrow arch touches it at 2.4, another stays below it with a gap."}, "figure": {"caption": "The ring model at one data point. Left: its posterior and the best Gaussian $q$. Right: the log-likelihood as a function of the phase of the decoder, the bound with the exact posterior of phase 2.4, and the bound with the best Gaussian $q$ of phase 3.", "name": "fig-ring-bound"}}
panels, (left, right) = plots.figure(columns=2, height=3.2)
seen = (grid > -3) & (grid < 3)
densities = {"posterior": ring_posterior.exp(), "q": best.log_prob(grid).exp()}
lines = {name: torch.stack(values) for name, values in ring_lines.items()}
_ = plots.curves(
    {name: (grid[seen], y[seen]) for name, y in densities.items()},
    x_label="z",
    y_label="density",
    axes=left,
)
plots.curves(
    {name: (phases[y > -6], y[y > -6]) for name, y in lines.items()},
    x_label="phase of the decoder",
    y_label="nats",
    axes=right,
)

# %% [markdown]
# The right panel of {numref}`fig-ring-bound` shows two ways in which a bound can lie below the log-likelihood. With the exact posterior of an old model the bound touches the log-likelihood at that model, as in {numref}`fig-touching`. With a $q$ from a family that does not contain the posterior it touches nowhere.
#
# **The bound as code.** Every model of this book, from the VAE to the diffusion model, is a `LatentChain`: a class that gives the prior, the likelihood and the approximate posterior $q$ as distributions of torch. A model with one latent has to write the two abstract methods, `likelihood` and `posterior`. The prior is always $\mathcal{N}(0, I)$. The method `encode` computes what $q$ depends on; it returns $x$ itself unless a model needs features of it. The `inner` methods belong to models with several latents $z_1, \dots, z_T$, which begin in chapter 8. Until then $T$, in the code `num_latents`, is one, and $z_T = z_1 = z$.

# %% tags=["shown", "nbval-check-output"]
show(LatentChain, docstring=False)

# %% [markdown]
# The bound {eq}`eq-elbo-terms` is then one function. It returns the two terms for each example, in nats. The second is torch's closed form of the KL divergence. The first is estimated with one sample of $z$; `rsample` returns a sample through which gradients pass, as the next chapter explains. The loop is for models with several latents.

# %% tags=["shown", "nbval-check-output"]
show(ElboTerms, elbo_terms, docstring=False)

# %% [markdown]
# The solvable model takes five lines.
#
# **Check.** The mean over many samples is compared with the closed form from above. The plus sign (E1) is rejected.


# %% tags=["serves"]
class Solvable(LatentChain):
    def likelihood(self, z):
        return diagonal_normal(a * z + b, s)

    def posterior(self, x):
        return diagonal_normal(q.mean.expand(len(x), 1), q.stddev)


# %% tags=["check", "nbval-check-output"]
with torch.random.fork_rng():  # the samples of later cells stay as they are
    terms = elbo_terms(Solvable((1,)), x.expand(200_000, 1))
plus = {"E1": reconstruction + to_prior}
verify("eq-elbo-terms", terms.elbo, elbo, monte_carlo, rejects=plus)

# %% [markdown]
# **Two more forms of the bound.** Write $H(q)$ for the entropy of the approximate posterior. Then
#
# $$
# \mathrm{ELBO}(x) = \mathbb{E}_q \log p(x, z) + H(q) ,
# $$ (eq-elbo-entropy)
#
# so the first term is large if $q$ lies at the peak of the joint density, and the entropy keeps $q$ from shrinking to a point there. For a training set $x_1, \dots, x_N$ the bounds add up,
#
# $$
# \begin{aligned}
# \sum_{i} \mathrm{ELBO}(x_i) = \sum_i \log p(x_i) - \sum_i D_{\mathrm{KL}}\big( &q(z \mid x_i) \\
# &\Vert\, p(z \mid x_i) \big) .
# \end{aligned}
# $$ (eq-dataset-bound)
#
# Either all three are sums or all three are means over the training set (entry E3 mixes a sum with a mean).

# %% tags=["check", "nbval-check-output"]
mean_log_prior = -0.5 * (math.log(2 * math.pi) + q.mean**2 + q.variance)
joint = expected_log_likelihood(q, x) + mean_log_prior
minus = {"minus entropy": joint - q.entropy()}
verify("eq-elbo-entropy", elbo, joint + q.entropy(), rejects=minus)

# %% tags=["check", "nbval-check-output"]
xs = evidence.sample((50,))
posteriors = Normal(a * (xs - b) / (a**2 + s**2), posterior.stddev)
each = Normal(0.8 * posteriors.mean, 0.6)  # one q for each of fifty data points
elbos = expected_log_likelihood(each, xs) - kl_divergence(each, prior)
log_ps, gaps = evidence.log_prob(xs), kl_divergence(each, posteriors)
mixed = {"E3": log_ps.sum() - gaps.mean()}
verify("eq-dataset-bound", elbos.sum(), log_ps.sum() - gaps.sum(), rejects=mixed)

# %% [markdown]
# **What you can say now.** The ELBO is reconstruction minus KL divergence from the prior. It lies below $\log p(x)$ by the KL divergence from $q$ to the posterior, for every model and every $q$.
#
# *Sources: A18, A19, A21, B11, D06.*

# %% [markdown]
# (sec-proxy)=
# ## What exactly is bounded?
#
# The decoder in {eq}`eq-elbo-terms` is a network with weights $\theta$, not the true distribution of $x$ given $z$; there may be no true one. So the evidence in the bound is the *model's*, $\log p_\theta(x) = \log \int p_\theta(x \mid z)\, p(z)\, \mathrm{d}z$. It is not a bound on the true $\log p_{\text{data}}(x)$. For a counterexample let the data distribution be $p_{\text{data}} = \mathcal{N}(0, 1)$, the prior also $\mathcal{N}(0, 1)$, and the decoder $p_\theta(x \mid z) = \mathcal{N}(x; z, 1)$, with the exact posterior as $q$. The bound is tight,
# $\log p_\theta(x) = \log \mathcal{N}(x; 0, 2)$, and
#
# $$
# \mathrm{ELBO}_\theta(x) - \log p_{\text{data}}(x) = \frac{x^2}{4} - \frac{\log 2}{2} ,
# $$ (eq-proxy)
#
# which is positive for all $|x| > \sqrt{2 \log 2} \approx 1.18$. There the "lower bound" lies above the true value (entry E7). On average over the data it cannot lie above: the bound is at most $\log p_\theta(x)$, and by Gibbs' inequality $\mathbb{E} \log p_\theta(x) \le \mathbb{E} \log p_{\text{data}}(x)$.

# %% tags=["check", "nbval-check-output"]
data_density, far = Normal(torch.tensor(0.0), 1.0), torch.tensor([1.5, 3.0])
exact_q = Normal(far / 2, 0.5**0.5)
square = (far - exact_q.mean) ** 2 + 0.5
likelihood = -0.5 * math.log(2 * math.pi) - square / 2
excess = likelihood - kl_divergence(exact_q, prior) - data_density.log_prob(far)
formula, wrong = far**2 / 4 - math.log(2) / 2, {"no log 2": far**2 / 4}
verify("eq-proxy", excess, formula, exact.on_scale(1.0), rejects=wrong)
positive = torch.ones(2)  # a bound on the true log p(x) would make it -1 or 0
verify("eq-proxy", excess.sign(), positive, rejects={"E7": -positive})

# %% tags=["nbval-check-output"]
log_data, log_model = data_density.log_prob(grid), Normal(0.0, 2**0.5).log_prob(grid)
average = torch.trapezoid(log_data.exp() * (log_model - log_data), grid)
print(f"excess at x = 3: {excess[1]:.3f} nats")
print(f"on average over the data: {average:.3f} nats")

# %% [markdown]
# **What you can say now.** The ELBO bounds the log-likelihood of the model at each point, and that of the data distribution only on average.
#
# *Sources: D08.*

# %% [markdown]
# (sec-surgery)=
# ## The second term, averaged over the data
#
# The term $D(q(z \mid x) \Vert p(z))$ is part of the loss for every $x$. Would it be best if it vanished? Averaged over the data, it splits into two parts that play different roles,
#
# $$
# \mathbb{E}_x D_{\mathrm{KL}}\big(q(z \mid x) \Vert p(z)\big) = I(x; z) + D_{\mathrm{KL}}\big(q(z) \,\Vert\, p(z)\big) .
# $$ (eq-surgery)
#
# The first is the mutual information of data and latent, a measure of how much the latent says about the image. The second compares the *aggregate posterior* $q(z) = \mathbb{E}_x\, q(z \mid x)$ with the prior {cite:p}`hoffman2016`. Both are computed for $x$ from the data and $z$ from the encoder, not under the model.
#
# The second part should vanish: to generate images we sample $z$ from the prior, but the decoder was trained on latents from the aggregate posterior. The first part should not. It lowers the bound here, but the reconstruction term needs the information, and the bound rises as long as that term gains more. So "the encoder should match the prior" is right for the aggregate posterior and wrong for the posterior of a single image: if every $q(z \mid x)$ equals the prior, the latent says nothing about the image.
#
# :::{dropdown} Proof
# $\log \frac{q(z \mid x)}{p(z)} = \log \frac{q(z \mid x)}{q(z)} + \log \frac{q(z)}{p(z)}$. Take the mean over $x$ and $z$: the first is the KL divergence from the joint distribution to the product of its marginals, the second depends on $z$ alone. $\square$
# :::
#
# **Check.** Let $x$ follow the solvable model, with $q(z \mid x) = \mathcal{N}(c\, (x - b) + 0.3, v)$. The aggregate posterior is then Gaussian with mean 0.3, and $I(x; z) = \frac{1}{2} \log (1 + c^2 \operatorname{Var}(x) / v)$. A sum without the information is rejected, and one that forgets the mean 0.3.

# %% tags=["check", "nbval-check-output"]
c, v = 0.9 * a / (a**2 + s**2), posterior.variance  # of q(z | x)
signal = c**2 * evidence.variance  # variance of the mean of q over the data
aggregate = Normal(torch.tensor(0.3), (signal + v).sqrt())
information, to_match = 0.5 * (1 + signal / v).log(), kl_divergence(aggregate, prior)

per_image = 0.5 * (v + signal + 0.3**2 - 1 - v.log())
wrong = {"no information": to_match, "mean forgotten": information + to_match - 0.3**2 / 2}
verify("eq-surgery", per_image, information + to_match, rejects=wrong)

# %% [markdown]
# **What you can say now.** Averaged over the data, the KL term is the mutual information plus the mismatch of aggregate posterior and prior.

# %% [markdown]
# (sec-k-samples)=
# ## More samples, a tighter bound
#
# The gap of the ELBO can be made smaller without a better $q$. The ELBO uses the logarithm of one weight. The mean of $K$ weights inside the logarithm gives a better bound {cite:p}`burda2016`, known as the importance-weighted bound or IWAE,
#
# $$
# L_K(x) = \mathbb{E}_{z_1, \dots, z_K \sim q} \log \frac{1}{K} \sum_{k=1}^{K} w_k, \qquad w_k = \frac{p(x, z_k)}{q(z_k \mid x)} .
# $$ (def-k-sample-bound)
#
# A further sample never makes it smaller,
#
# $$
# L_K(x) \le L_{K+1}(x) \le \log p(x) .
# $$ (eq-k-sample-order)
#
# If the ELBO is finite, and $q > 0$ wherever $p(x, z) > 0$, the limit for $K \to \infty$ is $\log p(x)$.
#
# :::{dropdown} Proof
# By {eq}`eq-importance` the mean of the weights has mean $p(x)$, or less where $q$ misses a part, so the second inequality is Jensen's. For the first, leave out one of $K + 1$ weights at a time. The mean of all is the mean of these $K + 1$ means of $K$, and the logarithm of a mean is at least the mean of the logarithms. Each of these logarithms has mean $L_K$.
#
# For the limit, the mean of the weights tends to $p(x)$ by the law of large numbers. Its logarithm is at least the mean of the $\log w_k$, which converges too, to the ELBO. So the difference of the two is not negative, and tends to $\log p(x) - \mathrm{ELBO}(x)$. By Fatou's lemma the limit of its mean, $L_K(x) - \mathrm{ELBO}(x)$, is no smaller. It is no larger either, as $L_K(x) \le \log p(x)$. $\square$
# :::
#
# **Checks.** The first inequality holds sample by sample, so no sampling error is allowed. The second holds for the means: seven values of $K$ are compared with $\log p(x)$, and the ELBO in its place is rejected.

# %% tags=["check", "nbval-check-output"]
K, num = 200, 20_000
z = q.sample((num, K))
log_w = log_joint(x, z) - q.log_prob(z)

six = log_w[:, :6]
less = [six[:, torch.arange(6) != k].logsumexp(1) - math.log(5) for k in range(6)]
all_six, fewer = six.logsumexp(1) - math.log(6), torch.stack(less).mean(0)
wrong = {"one sample": six[:, 0]}
verify("eq-k-sample-order", fewer, all_six, at_most(1e-12), rejects=wrong)

# %% tags=["check", "nbval-check-output"]
flat = log_w.flatten()
sizes = torch.tensor([1, 2, 3, 5, 10, 20, 30])
bounds = [
    flat[: num * K // k * k].view(-1, k).logsumexp(1).mean() - math.log(k) for k in sizes.tolist()
]
lower = {"the ELBO": elbo.repeat(7)}
verify("eq-k-sample-order", torch.stack(bounds), log_p.repeat(7), at_most(0.0), rejects=lower)
rising = torch.stack([*bounds, log_p]).diff() > 0
print("rises with K and stays below log p(x):", bool(rising.all()))

# %% tags=["figure"] mystnb={"image": {"alt": "The K-sample bound rises from the ELBO at one sample towards the horizontal line of the log-evidence, which it has nearly reached at 30."}, "figure": {"caption": "The bound rises with the number of samples, from the ELBO at K = 1 towards the log-evidence.", "name": "fig-k-samples"}}
plots.curves(
    {"K-sample bound": (sizes, torch.stack(bounds)), "log p(x)": (sizes, log_p.repeat(7))},
    x_label="number of samples K",
    y_label="nats",
    log_x=True,
)

# %% [markdown]
# How fast does the gap in {numref}`fig-k-samples` close? If the weights have a finite variance, and rare extreme values of their mean can be neglected, the variance of the normalized weights determines the gap for large $K$ {cite:p}`maddison2017,domke2018,nowozin2018`,
#
# $$
# \log p(x) - L_K(x) \approx \frac{\operatorname{Var}(w / p(x))}{2 K} .
# $$ (eq-k-sample-gap)
#
# :::{dropdown} Why
# Let $u$ be the mean of the $w_k / p(x)$ minus one. It has mean zero and variance $\operatorname{Var}(w / p(x)) / K$, and $\mathbb{E} \log (1 + u) \approx \mathbb{E}\, (u - u^2 / 2)$; the next terms are smaller by a factor of order $1 / K$. $\square$
# :::
#
# **Check.** The gap is the mean of $-\log (1 + u)$. The variable $u$, whose mean is known to be zero, is added to each sample. This leaves the mean of the estimate as it is and removes most of its noise.

# %% tags=["check", "nbval-check-output"]
u = (log_w - log_p).exp().mean(1) - 1
gap = (r_q - 1) / (2 * K)
wrong = {"no factor 2": 2 * gap}
verify("eq-k-sample-gap", u - u.log1p(), gap, monte_carlo, rejects=wrong)

# %% [markdown]
# The condition on the variance matters. If the variance of $q$ is less than half of the posterior's, the variance of the weights is infinite ({ref}`exercise <ex-narrow-guess>`). The bound still tends to $\log p(x)$, but more slowly. With 0.4 of the posterior's variance, ten times as many samples do not make the gap ten times smaller, as they do for the $q$ above (two million samples of each, drawn once):

# %% tags=["numbers"]
narrow = Normal(posterior.mean, 0.4**0.5 * posterior.stddev)
shrinks = {}
for name, rough in ("q above", q), ("narrow q", narrow):
    z = rough.sample((2_000_000,))
    log_weight = log_joint(x, z) - rough.log_prob(z) - log_p
    gaps = [-(log_weight.view(-1, k).logsumexp(1) - math.log(k)).mean() for k in (10, 100)]
    shrinks[name] = gaps[0] / gaps[1]
    print(f"{name:9s} gap {gaps[0]:.4f} nats with 10 samples, {gaps[1]:.4f} with 100")

# %% tags=["held", "nbval-check-output"]
print("the gap of the q above shrinks by more than 8:", bool(shrinks["q above"] > 8))
print("that of the narrow q by less than 6:", bool(shrinks["narrow q"] < 6))

# %% [markdown]
# **What you can say now.** With $K$ samples inside the logarithm the bound tightens for every further sample, like $1 / K$ if the importance weights have a finite variance, and more slowly otherwise.

# %% [markdown]
# (sec-variational-em)=
# ## Raising the bound in turns
#
# How is the bound raised in training? It has two arguments, the model's weights $\theta$ and the approximate posterior $q$. Write $\mathrm{ELBO}(\theta, q)$ for the sum {eq}`eq-dataset-bound`. The classical method raises it in one argument at a time:
#
# - **E-step**: for the present $\theta$, set $q(z \mid x) = p_\theta(z \mid x)$. By {eq}`eq-elbo-gap` the gap closes.
# - **M-step**: for the present $q$, maximize $\mathbb{E}_q \log p_\theta(x, z)$, summed over the data, in $\theta$, which is like fitting a model whose latents are observed.
#
# If $q$ may be any distribution, the best one is the posterior and the method is the {term}`EM algorithm` {cite:p}`dempster1977,neal1998`. If $q$ must stay in a family, such as the Gaussians, the E-step takes the best member, and the method is {term}`variational EM` {cite:p}`jordan1999,blei2017`. The gap need not close then, and only the bound is certain not to fall.
#
# :::{prf:theorem} EM never goes down
# :label: thm-em
# With exact steps the log-likelihood $L(\theta) = \sum_i \log p_\theta(x_i)$ cannot fall,
#
# $$
# L(\theta_\text{old}) = \mathrm{ELBO}(\theta_\text{old}, q) \le \mathrm{ELBO}(\theta_\text{new}, q) \le L(\theta_\text{new}) .
# $$ (eq-em)
# :::
#
# :::{dropdown} Proof
# The equality is the E-step, the first inequality the M-step, the second {eq}`eq-elbo-bound`. $\square$
# :::
#
# The standard example is a mixture of two Gaussians with unknown weights $\pi_k$, means $\mu_k$ and variances $\sigma_k^2$; the latent says which of the two a point came from. Here $z$ is 1 or 2, and the integral in {eq}`def-evidence` is a sum. The E-step is Bayes' rule,
#
# $$
# q_{ik} = \frac{\pi_k\, \mathcal{N}(x_i; \mu_k, \sigma_k^2)}{\sum_l \pi_l\, \mathcal{N}(x_i; \mu_l, \sigma_l^2)} .
# $$ (def-e-step)
#
# The M-step maximizes $\sum_{i, k} q_{ik} \big( \log \pi_k + \log \mathcal{N}(x_i; \mu_k, \sigma_k^2) \big)$, a fit in which point $i$ counts $q_{ik}$ times for component $k$. Its solution is
#
# $$
# \begin{aligned}
# \pi_k &= \frac{1}{N} \sum_i q_{ik}, \qquad \mu_k = \frac{\sum_i q_{ik}\, x_i}{\sum_i q_{ik}}, \\
# \sigma_k^2 &= \frac{\sum_i q_{ik}\, (x_i - \mu_k)^2}{\sum_i q_{ik}} .
# \end{aligned}
# $$ (eq-m-step)
#
# :::{dropdown} Proof
# Let $\rho_k = \frac{1}{N} \sum_i q_{ik}$. The weights enter through $N \sum_k \rho_k \log \pi_k$ alone, which is $-N D_{\mathrm{KL}}(\rho \Vert \pi)$ plus a constant, so $\pi = \rho$ is best. The mean $\mu_k$ enters through $-\sum_i q_{ik} (x_i - \mu_k)^2 / 2 \sigma_k^2$, a parabola whose top is the weighted mean for every $\sigma_k$. With $V$ for the weighted variance there remains $-\frac{1}{2} N \rho_k (\log \sigma_k^2 + V / \sigma_k^2)$, which rises in $\sigma_k^2$ up to $V$ and falls after it. $\square$
# :::
#
# In code the E-step is a softmax of logarithms.

# %%
_ = torch.manual_seed(0)
points = torch.cat([torch.randn(300) - 2, 0.6 * torch.randn(150) + 1.5])


def mixture_log_joint(points, weight, mean, std):
    """log p(x, z) for each point (rows) and both values of z (columns)."""
    return Normal(mean, std).log_prob(points[:, None]) + weight.log()


def e_step(points, *parameters):
    return mixture_log_joint(points, *parameters).softmax(1)


def m_step(points, q):
    weight, mean = q.mean(0), (q * points[:, None]).sum(0) / q.sum(0)
    variance = (q * (points[:, None] - mean) ** 2).sum(0) / q.sum(0)
    return weight, mean, variance.sqrt()


# %% [markdown]
# **Check.** An optimizer that maximizes the same sum, without these formulas, finds {eq}`eq-m-step`. Hard assignments, which give each point whole to its more probable component, are rejected.

# %% tags=["check", "nbval-check-output"]
start = torch.tensor([[0.5, 0.5], [-0.5, 0.0], [3.0, 1.0]])  # weights, means, stds
q_1, free = e_step(points, *start), torch.zeros(3, 2, requires_grad=True)


def parameters():
    return torch.stack([free[0].softmax(0), free[1], free[2].exp()])


def loss():
    return -(q_1 * mixture_log_joint(points, *parameters())).sum() / len(points)


_ = minimize(loss, [free])
hard = torch.stack(m_step(points, (q_1 > 0.5).double()))
solution, rule = torch.stack(m_step(points, q_1)), exact.within(1e-6)
verify("eq-m-step", parameters(), solution, rule, rejects={"hard choice": hard})

# %% [markdown]
# We follow the log-likelihood and the bound through forty rounds from a poor start, after each half-step.
#
# **Check.** After each E-step the bound equals the log-likelihood; after each M-step it lies between the old log-likelihood and the new one. Sequences that lag behind by one round are rejected.


# %%
def em_bound(points, q, *parameters):
    joint = mixture_log_joint(points, *parameters)
    return ((q * joint).sum() - torch.xlogy(q, q).sum()).item()


history, likelihoods, after_e, after_m = [start], [], [], []
for _ in range(40):
    likelihoods += [mixture_log_joint(points, *history[-1]).logsumexp(1).sum().item()]
    q_em = e_step(points, *history[-1])
    after_e += [em_bound(points, q_em, *history[-1])]
    history += [torch.stack(m_step(points, q_em))]
    after_m += [em_bound(points, q_em, *history[-1])]

# %% tags=["check", "nbval-check-output"]
verify(
    "eq-em", after_e, likelihoods, rejects={"a round behind": [likelihoods[0], *likelihoods[:-1]]}
)
late = {"the M-step before": [after_m[0], *after_m[:-2]]}
verify("eq-em", likelihoods[:-1], after_m[:-1], at_most(1e-9), rejects=late)
late = {"the likelihood before": likelihoods[:-1]}
verify("eq-em", after_m[:-1], likelihoods[1:], at_most(1e-9), rejects=late)

# %% tags=["figure"] mystnb={"image": {"alt": "The log-likelihood rises, rests on a plateau for some rounds, rises again and levels off. The bound after each M-step lies below it, by more than twenty nats in the first round and by about eight on the steep part."}, "figure": {"caption": "EM on a mixture. The bound after an M-step lies below the log-likelihood; the next E-step lifts it to the curve.", "name": "fig-em"}}
rounds = torch.arange(1, 31)
plots.curves(
    {
        "log-likelihood": (rounds, likelihoods[1:31]),
        "bound after the M-step": (rounds, after_m[:30]),
    },
    x_label="round",
    y_label="nats, all points together",
)

# %% [markdown]
# On the plateau in {numref}`fig-em` the two components have not yet separated. The film shows the first thirty rounds.


# %% tags=["serves"]
def fit_after(number):
    def density(x):
        return mixture_log_joint(x, *history[number]).logsumexp(1).exp()

    return plots.histogram({"data": points}, x_label="x", bins=30, density=density)


# %% tags=["figure"]
Film(
    range(31),
    fit_after,
    description="rounds of EM",
    label="{:d}",
    alt="Histogram of the data and the mixture's density after {:d} rounds",
    start=6,
)

# %% [markdown]
# **What EM does not promise.** EM may end at a local maximum that depends on the start. Exchanging the two components does not change the likelihood, so no maximum with different components is unique. And the likelihood of a Gaussian mixture is not even bounded: put one component on a single data point and let its standard deviation go to zero. Each factor of a thousand adds $\log 1000 \approx 6.9$ nats. In practice one starts several times and keeps the standard deviations away from zero.


# %% tags=["numbers", "nbval-check-output"]
def likelihood_of(*parameters):
    return mixture_log_joint(points, *parameters).logsumexp(1).sum().item()


swapped = likelihood_of(*history[-1].flip(1)) - likelihood_of(*history[-1])
print("exchanged components are as good:", abs(swapped) < 1e-9)
collapsed = torch.stack([history[-1]] * 3)
collapsed[:, 1, 0], collapsed[:, 2, 0] = points[0], torch.tensor([1e-6, 1e-9, 1e-12])
steps = torch.tensor([likelihood_of(*parameters) for parameters in collapsed]).diff()
print("log-likelihood gained by each collapse:", [f"{step:.2f}" for step in steps.tolist()])

# %% [markdown]
# **The two steps in a plane.** In the solvable model with one data point, let the offset $b$ be the only weight, and let the mean $m$ be the only free parameter of $q$. The bound is then a function on the plane of $b$ and $m$, and the two steps move along its axes. The maximum is at $b = x$, $m = 0$. One round, an M-step followed by an E-step, takes the mean to
#
# $$
# m_\text{new} = \frac{a^2}{a^2 + s^2}\, m ,
# $$ (eq-staircase)
#
# so 0.77 of the distance to the maximum remains, and four percent after twelve rounds.
#
# :::{dropdown} Proof
# The M-step sets $b = x - a m$, so that the mean of $q$ explains $x$. The E-step takes the mean of the posterior {eq}`eq-linear-posterior`, $a (x - b) / (a^2 + s^2)$, and $x - b = a m$. $\square$
# :::


# %%
def bound_of(b, m):
    shifted = Normal(m, posterior.stddev)
    return expected_log_likelihood(shifted, x, b) - kl_divergence(shifted, prior)


# %% tags=["check", "nbval-check-output"]
free_b, free_m = (torch.zeros((), requires_grad=True) for _ in range(2))
_ = minimize(lambda: -bound_of(free_b, torch.tensor(1.2)), [free_b])
_ = minimize(lambda: -bound_of(free_b.detach(), free_m), [free_m])
left_over, wrong = a**2 / (a**2 + s**2), {"the rest": 1.2 * s**2 / (a**2 + s**2)}
verify("eq-staircase", free_m, 1.2 * left_over, exact.within(1e-6), rejects=wrong)

# %% tags=["serves"]
path = [torch.tensor([3.0, 1.2])]
for _ in range(12):
    b_now = x - a * path[-1][1]  # M-step
    path += [torch.stack([b_now, path[-1][1]])]
    path += [torch.stack([b_now, left_over * path[-1][1]])]  # E-step
path = torch.stack(path)

# %% tags=["figure"] mystnb={"image": {"alt": "Elliptic contours in the plane of the offset b and the mean m of q, tilted against the axes. A staircase path climbs towards the top in ever smaller steps and stops a little before it."}, "figure": {"caption": "The exponential of the bound over its two arguments. Each step maximizes along one axis, so the path is a staircase.", "name": "fig-staircase"}}
fig, (axes,) = plots.figure(height=3.0)
words = {"x_label": "offset b", "y_label": "mean m of q", "value_label": "exp(bound)"}
plane = (-2.0, 3.5, -0.6, 1.5)
_ = plots.density2d(lambda p: bound_of(*p.T), plane, **words, axes=axes)
_ = axes.plot(path[:, 0], path[:, 1], color="#d55e00", linewidth=2)
fig

# %% [markdown]
# In {numref}`fig-staircase` the steps become small long before the maximum: by {eq}`eq-staircase` each round is shorter by the same factor.
#
# **Inexact steps.** Do inexact steps do harm, although the bound holds everywhere? Those of the M-step do not: after an exact E-step every M-step that does not lower the bound is safe, and the proof of {prf:ref}`thm-em` needs no more. But if the E-step leaves a gap, raising the bound may close the gap instead of raising the likelihood. Start with the best possible offset, $b = x$, and a bad $q$, with $m = 3$. One exact M-step raises the bound by many nats, and the likelihood falls.


# %% tags=["numbers", "nbval-check-output"]
def log_likelihood_of(b):
    return Normal(b, (a**2 + s**2) ** 0.5).log_prob(x)


m = torch.tensor(3.0)
before, after = x, x - a * m
bounds_em = bound_of(before, m), bound_of(after, m)
logs = log_likelihood_of(before), log_likelihood_of(after)
print(f"bound          {bounds_em[0]:7.2f} -> {bounds_em[1]:7.2f}")
print(f"log-likelihood {logs[0]:7.2f} -> {logs[1]:7.2f}")
opposite = bounds_em[1] > bounds_em[0] and logs[1] < logs[0]
print("bound rises, log-likelihood falls:", bool(opposite))

# %% [markdown]
# **A restricted family: mean field.** The E-step is also inexact if $q$ must come from a family that lacks the posterior. As an example, let two latents $z_1, z_2 \sim \mathcal{N}(0, 1)$ explain one number, $x = z_1 + z_2 + \varepsilon$ with noise of variance $s^2$. To produce a large $x$ one of the two is enough, so the posterior has a negative correlation. The *mean-field* family has independent $z_1$ and $z_2$. The best $q$ of the family is found by optimizing one factor at a time: with $\mu$ and $\Lambda$ for the mean and the inverse covariance of the posterior, each step sets, for $k \ne j$,
#
# $$
# m_j \leftarrow \mu_j - \frac{\Lambda_{jk}}{\Lambda_{jj}} (m_k - \mu_k) , \qquad v_j = \frac{1}{\Lambda_{jj}} .
# $$ (eq-mean-field)
#
# :::{dropdown} Proof
# By {eq}`eq-elbo-gap`, raising the bound in $q$ means lowering $D(q \Vert p(z \mid x))$, which for Gaussians is {eq}`eq-kl-gaussians`. As a function of $m_j$ it is $\frac12 \Lambda_{jj} (m_j - \mu_j)^2 + \Lambda_{jk} (m_j - \mu_j)(m_k - \mu_k)$ plus a constant, least at the value stated. The variance is {eq}`eq-factorized-reverse`. $\square$
# :::
#
# Each step uses the mean of the other latent and ignores its variance. The means converge to those of the posterior. The variances are too small, as in chapter 2, and the gap that remains cannot be closed within the family.


# %% tags=["serves"]
precision = torch.eye(2) + torch.ones(2, 2) / s**2  # of z given x
true = MultivariateNormal(
    torch.linalg.solve(precision, torch.ones(2) * x / s**2), precision.inverse()
)
means = [torch.tensor([1.5, -0.5])]
for step in range(30):
    j, k = step % 2, (step + 1) % 2
    new = means[-1].clone()
    slope = precision[j, k] / precision[j, j]
    new[j] = true.mean[j] - slope * (new[k] - true.mean[k])
    means.append(new)
best_field = MultivariateNormal(means[-1], (1 / precision.diagonal()).diag())

# %% tags=["check", "nbval-check-output"]
free_m, free_log_v = torch.tensor(0.0, requires_grad=True), torch.tensor(0.0, requires_grad=True)


def gap_of_first():
    """D(q || posterior) when only the first factor of q is free."""
    mean = torch.stack([free_m, means[0][1]])
    variances = torch.stack([free_log_v.exp(), 1 / precision[1, 1]])
    return kl_divergence(MultivariateNormal(mean, variances.diag()), true)


_ = minimize(gap_of_first, [free_m, free_log_v])
step = [means[1][0], 1 / precision[0, 0]]
wrong = {"marginal variance": [means[1][0], true.covariance_matrix[0, 0]]}
found = [free_m, free_log_v.exp()]
verify("eq-mean-field", found, step, exact.within(1e-6), rejects=wrong)
print("the means converge:", torch.allclose(means[-1], true.mean, atol=1e-3))
print(f"gap of the best factorized q: {kl_divergence(best_field, true):.3f} nats")

# %% [markdown]
# **What you can say now.** EM raises the bound in turns, and with exact steps the likelihood cannot fall. With a restricted family this holds for the bound only. The best factorized $q$ of a Gaussian posterior is too narrow if the latents are correlated.
#
# *Sources: A20, A22.*

# %% [markdown]
# (sec-amortized)=
# ## One network for all: amortization
#
# In EM every data point has its own $q$, found by its own optimization, again in every round. One can instead train *one* network, the encoder, which takes $x$ and returns the mean and the standard deviation of $q(z \mid x)$. This is {term}`amortized inference` {cite:p}`gershman2014`: the cost of inference is spread over all data. The idea of a trained recognition network goes back to the Helmholtz machine {cite:p}`dayan1995`. Where the network does not find the best $q$ of the family, the bound is lower than with a separate $q$ for each $x$. In the solvable model the posterior's mean is affine in $x$ and its variance is constant, so nothing is lost. {numref}`fig-plate` shows what is shared: the latent $z_i$ belongs to one data point, while the weights $\theta$ of the decoder and $\phi$ of the encoder serve all of them.

# %% tags=["figure"] mystnb={"image": {"alt": "A frame labeled i = 1 to N holds a white circle z i above a gray circle x i. A solid arrow leads from z to x and a dashed one back. Outside the frame, phi on the left has a dashed arrow to z, theta on the right a solid arrow to x."}, "figure": {"caption": "The graphical model. What stands in the frame (a *plate*) exists once for each data point; gray is observed. Solid arrows: the model. Dashed arrows: the encoder.", "name": "fig-plate"}}
fig, (axes,) = plots.figure(height=2.6)
_ = axes.set(xlim=(-3, 3), ylim=(-0.6, 1.6)), axes.axis("off")
places = {r"$\phi$": (-2, 1), "$z_i$": (0, 1), "$x_i$": (0, 0), r"$\theta$": (2, 0)}
for name, place in places.items():
    circle = {"boxstyle": "circle,pad=0.4", "facecolor": "#cccccc" if "x" in name else "white"}
    _ = axes.text(*place, name, ha="center", va="center", bbox=circle, fontsize=12)
phi, z, x_i, theta = places.values()
edges = [(z, x_i, "-", 0), (theta, x_i, "-", 0), (x_i, z, "--", -0.6), (phi, z, "--", 0)]
for start, end, style, bend in edges:
    color = "#333333" if style == "-" else "#0072b2"
    arrow = {"arrowstyle": "-|>", "linestyle": style, "color": color, "shrinkA": 16, "shrinkB": 16}
    _ = axes.annotate("", end, start, arrowprops=arrow | {"connectionstyle": f"arc3,rad={bend}"})
_ = axes.add_patch(plt.Rectangle((-1, -0.5), 2, 2, fill=False))
_ = axes.text(0.95, -0.45, "$i = 1, \\dots, N$", ha="right", va="bottom")
fig

# %% [markdown]
# **Check.** A network of one layer, trained by maximizing {eq}`eq-elbo-terms`, without the posterior, finds the posterior. Its variance in place of its standard deviation is rejected.

# %% tags=["check", "nbval-check-output"]
encoder = nn.Linear(1, 1)
log_std = torch.zeros((), requires_grad=True)
xs = evidence.sample((200,))


def negative_bound():
    q = Normal(encoder(xs[:, None])[:, 0], log_std.exp())
    return -(expected_log_likelihood(q, xs) - kl_divergence(q, prior)).mean()


_ = minimize(negative_bound, [*encoder.parameters(), log_std])
learned = [encoder.weight.item(), encoder.bias.item(), log_std.exp().item()]
slope = a / (a**2 + s**2)
wanted = [slope, -slope * b, posterior.stddev.item()]
wrong = {"variance for deviation": [slope, -slope * b, posterior.variance.item()]}
verify("eq-linear-posterior", learned, wanted, exact.within(1e-6), rejects=wrong)

# %% [markdown]
# Two steps are missing before a real model can be trained this way. With a network as decoder the mean over $q$ in {eq}`eq-elbo-terms` has in general no closed form, so it must be estimated from samples; and the gradient with respect to the encoder must be taken *through* these samples. That is the next chapter's subject.
#
# **What you can say now.** One encoder replaces an optimization per data point, and can be trained by the bound alone.
#
# *Sources: A22.*

# %% [markdown]
# (sec-tractable)=
# ## Two ways around the integral
#
# Can the integral be avoided altogether? In two families of models the log-likelihood is a plain formula and no bound is needed.
#
# **Autoregressive models** write the distribution of a vector as a product of conditional distributions, one component at a time {cite:p}`neal1992,larochelle2011,germain2015,oord2016`,
#
# $$
# p(x) = \prod_{i=1}^{D} p(x_i \mid x_1, \dots, x_{i-1}) .
# $$ (eq-autoregressive)
#
# Every distribution has this form.
#
# **Check.** A random table of the probabilities of four bits is split into conditional distributions, which are ratios of marginals, and their product is compared with the table. The product of the single marginals is rejected.

# %% tags=["check", "nbval-check-output"]
table = torch.rand(2, 2, 2, 2)
table = table / table.sum()
conditionals, marginal = [], table
for i in reversed(range(4)):
    shorter = marginal.sum(i, keepdim=True)  # the marginal of the first i bits
    conditionals += [marginal / shorter]
    marginal = shorter
single = [table.sum([j for j in range(4) if j != i], keepdim=True) for i in range(4)]
product, independent = math.prod(conditionals), math.prod(single)
verify("eq-autoregressive", product, table, rejects={"independent": independent})

# %% [markdown]
# Conversely, every choice of the factors is a distribution. There is no latent, and the log-likelihood is a sum. The drawback is that an image must be sampled one pixel after the other. The smallest such model for binary pixels is a logistic regression of each pixel on the ones before it, a *fully visible sigmoid belief network*. The weights of all regressions form one matrix with zeros on and above the diagonal.


# %%
class PixelByPixel(nn.Module):
    def __init__(self, num_pixels):
        super().__init__()
        self.W = nn.Parameter(torch.zeros(num_pixels, num_pixels))
        self.b = nn.Parameter(torch.zeros(num_pixels))

    def log_prob(self, x):
        logits = x @ self.W.tril(-1).T + self.b
        return Bernoulli(logits=logits).log_prob(x).sum(-1)


# %% [markdown]
# **Check.** For eight pixels with random weights the probabilities of all 256 images add up to one. Without the zeros, the regression of a pixel would use this pixel itself and those after it, and the sum is not one.

# %% tags=["check", "nbval-check-output"]
tiny = PixelByPixel(8)
_ = nn.init.normal_(tiny.W), nn.init.normal_(tiny.b)
images = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 8)
total = tiny.log_prob(images).exp().sum()
cheating = Bernoulli(logits=images @ tiny.W.T + tiny.b).log_prob(images).sum(-1)
verify(
    "eq-autoregressive", total, 1.0, rejects={"pixels that see themselves": cheating.exp().sum()}
)

# %% [markdown]
# We train this model on real digits of 8 × 8 pixels, made black and white, and compare its exact log-likelihood with that of independent pixels.

# %%
train, test = (
    (data.load("digits", split).images.flatten(1) > 0.5).double() for split in ("train", "test")
)
model = PixelByPixel(64)
batches = data.Batches(train, batch_size=128, num_epochs=60)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for _ in fit(model, lambda model, x: -model.log_prob(x), batches, optimizer):
    pass

# %% tags=["numbers"]
share = ((train.sum(0) + 1) / (len(train) + 2)).clamp(1e-3, 1 - 1e-3)
independent = Bernoulli(share).log_prob(test).sum(1)
exact_log_p = model.log_prob(test).detach()
gain = exact_log_p - independent
print("mean test log-likelihood in nats per digit, with its standard error over the digits")
for name, values in (
    ("pixel by pixel", exact_log_p),
    ("independent pixels", independent),
    ("gain", gain),
):
    print(f"{name:18s} {values.mean():7.2f} ± {values.std() / len(test) ** 0.5:.2f}")

# %% tags=["held", "nbval-check-output"]
print("better than independent pixels by more than 5 nats:", bool(gain.mean() > 5))

# %% tags=["serves"]
with torch.no_grad():
    sampled = torch.zeros(8, 64)
    for i in range(64):  # the price: one pixel after the other
        logits = sampled @ model.W.tril(-1).T + model.b
        sampled[:, i] = Bernoulli(logits=logits[:, i]).sample()

# %% tags=["figure"] mystnb={"image": {"alt": "Three rows of eight small black and white images: test digits, samples of the pixel-by-pixel model with digit-like strokes, and samples of independent pixels, which are more ragged."}, "figure": {"caption": "Binary digits of 8 × 8 pixels, samples of the logistic regressions, and samples of independent pixels.", "name": "fig-pixel-by-pixel"}}
rows = {
    "test digits": test[:8],
    "pixel by pixel": sampled,
    "independent": Bernoulli(share.expand(8, 64)).sample(),
}
plots.image_rows({name: x.view(8, 8, 8) for name, x in rows.items()}, tile=0.6)

# %% [markdown]
# In this one training run, using the earlier pixels gains several nats, and the samples of {numref}`fig-pixel-by-pixel` show strokes. Later models of this kind replace the regressions by networks {cite:p}`larochelle2011,germain2015,oord2016`.
#
# **Normalizing flows** keep the latent but make the decoder one-to-one. If $x = f(z)$ with an invertible $f$, and both $f$ and $f^{-1}$ are differentiable, the density of $x$ follows from the change of variables {cite:p}`rezende2015,dinh2017`,
#
# $$
# \log p(x) = \log p_z\big(f^{-1}(x)\big) + \log \Big| \det \frac{\partial f^{-1}(x)}{\partial x} \Big| .
# $$ (eq-flow)
#
# The drawback is that latent and data have the same dimension, and that every layer must be invertible. The bars in the formula matter: a determinant may be negative, as it is for a map that mirrors and stretches the plane.
#
# **Check.** The formula without the bars is rejected (entry E23).

# %% tags=["check", "nbval-check-output"]
A, shift = torch.tensor([[0.3, 1.2], [0.9, -0.4]]), torch.tensor([0.5, -1.0])
points = torch.randn(100, 2)
exact_log_p = MultivariateNormal(shift, A @ A.T).log_prob(points)

z = torch.linalg.solve(A, (points - shift).T).T
det = A.inverse().det()
flow = prior.log_prob(z).sum(1) + det.abs().log()
verify("eq-flow", flow, exact_log_p, rejects={"E23": prior.log_prob(z).sum(1) + det.log()})

# %% [markdown]
# A flow need not be linear. The next one stretches and shifts one coordinate by functions of the other, which is easy to invert.
#
# **Checks.** The determinant of the map is computed by automatic differentiation, and the density, which is no longer Gaussian, is integrated. The other sign of the log-determinant is rejected.


# %%
def banana(z):
    return torch.stack([z[0], z[1] * (z[0] / 2).exp() + z[0] ** 2 - 1])


def banana_log_p(x):
    z_1, scale = x[:, 0], (x[:, 0] / 2).exp()
    z_2 = (x[:, 1] - z_1**2 + 1) / scale
    return prior.log_prob(z_1) + prior.log_prob(z_2) - scale.log()


# %% tags=["check", "nbval-check-output"]
z = torch.randn(100, 2)
x_b, base = vmap(banana)(z), prior.log_prob(z).sum(1)
log_det = torch.linalg.slogdet(vmap(jacrev(banana))(z)).logabsdet
wrong = {"wrong sign": base + log_det}
verify("eq-flow", banana_log_p(x_b), base - log_det, rejects=wrong)

# %% tags=["check", "nbval-check-output"]
side = torch.linspace(-9, 9, 601), torch.linspace(-60, 90, 6_001)
mesh = torch.cartesian_prod(*side)
inner = torch.trapezoid(banana_log_p(mesh).exp().view(601, -1), side[1])
verify("eq-flow", torch.trapezoid(inner, side[0]), 1.0, quadrature.within(1e-6))

# %% tags=["figure"] mystnb={"image": {"alt": "A density shaped like a bent drop: a dark core near the origin, a thin tail up to the left, and a broad, faint one up to the right."}, "figure": {"caption": "A Gaussian in the plane after a flow of one layer, which bends it. The density is exact.", "name": "fig-banana"}}
plots.density2d(banana_log_p, (-4.0, 4.0, -3.5, 4.5))

# %% [markdown]
# {numref}`fig-banana` shows the density {eq}`eq-flow`, computed without samples.
#
# **What you can say now.** Autoregressive models have an exact likelihood, but are sampled one component after the other. Flows have an exact likelihood, but every layer must be invertible. A layer that stretches and shifts one part by functions of the other, as here and in {cite:t}`dinh2017`, is sampled in one pass.
#
# *Sources: A15, B04.*

# %% [markdown]
# (sec-elbo-exercises)=
# ## Exercises
#
# Replace the three dots by your answer and run the cell. The solvable model has $a = 1.3$, $b = 0.4$, $s^2 = 0.5$ wherever numbers are asked for.

# %% tags=["unseen", "nbval-check-output"]
from companion.page.exercises import elbo as exercises

# %% [markdown]
# ```{exercise-start} The bound by hand
# :label: ex-elbo-closed-form
# ```
# Write the bound of the model $z \sim \mathcal{N}(0, 1)$, $x \mid z \sim \mathcal{N}(z, 1)$ for the approximate posterior $q = \mathcal{N}(m, v)$ with variance $v$, as a function of $x$, $m$ and $v$.


# %% tags=["answer", "nbval-check-output"]
def bound(x, m, v):
    return ...


exercises.check_bound(bound)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-elbo-closed-form
# :label: ex-elbo-closed-form-solution
# :class: dropdown
# ```
# The expected square is $(x - m)^2 + v$; the KL divergence is {eq}`eq-kl-diagonal`.


# %% tags=["nbval-check-output"]
def bound(x, m, v):
    likelihood = -0.5 * math.log(2 * math.pi) - 0.5 * ((x - m) ** 2 + v)
    return likelihood - 0.5 * (v + m**2 - 1 - torch.log(v))


exercises.check_bound(bound)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} The price of a shift
# :label: ex-gap-of-shift
# ```
# The approximate posterior $q$ has the right variance, $v = s^2 / (a^2 + s^2)$, but its mean is off by 0.5. How large is the gap between $\log p(x)$ and the bound, in nats?

# %% tags=["answer", "nbval-check-output"]
answer = ...
exercises.check_shift(answer)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-gap-of-shift
# :label: ex-gap-of-shift-solution
# :class: dropdown
# ```
# By {eq}`eq-kl-normals` two Gaussians of equal variance $v$ whose means are $\delta$ apart have the KL divergence $\delta^2 / 2 v$.

# %% tags=["nbval-check-output"]
exercises.check_shift(0.5**2 / (2 * 0.5 / (1.3**2 + 0.5)))

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Too narrow a q
# :label: ex-narrow-guess
# ```
# Below which ratio of the variance of $q$ to that of the posterior do the importance weights have an infinite variance? Both are Gaussian with the same mean.

# %% tags=["answer", "nbval-check-output"]
answer = ...
exercises.check_narrow(answer)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-narrow-guess
# :label: ex-narrow-guess-solution
# :class: dropdown
# ```
# $\mathbb{E}_q w^2 \propto \int p(z \mid x)^2 / q(z)\, \mathrm{d}z$, and the exponent is $-z^2 / v_p + z^2 / 2 v_q$. The integral is finite if and only if $v_q > v_p / 2$.

# %% tags=["nbval-check-output"]
exercises.check_narrow(0.5)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Counting parameters
# :label: ex-autoregressive-size
# ```
# How many free numbers does the pixel-by-pixel model have for $D$ binary pixels, and how many has a table of all probabilities? Write both as a function of $D$.


# %% tags=["answer", "nbval-check-output"]
def counts(D):
    return ...


exercises.check_counts(counts)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-autoregressive-size
# :label: ex-autoregressive-size-solution
# :class: dropdown
# ```
# One bias per pixel and one weight per earlier pixel; the table has $2^D$ entries that add up to one.


# %% tags=["nbval-check-output"]
def counts(D):
    return D + D * (D - 1) // 2, 2**D - 1


exercises.check_counts(counts)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} The density of a log-normal
# :label: ex-log-normal-flow
# ```
# Let $x = e^{z}$ with $z \sim \mathcal{N}(0, 1)$. Use {eq}`eq-flow` to write $\log p(x)$.


# %% tags=["answer", "nbval-check-output"]
def log_density(x):
    return ...


exercises.check_log_normal(log_density)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-log-normal-flow
# :label: ex-log-normal-flow-solution
# :class: dropdown
# ```
# The inverse is $\log x$, with derivative $1 / x$.


# %% tags=["nbval-check-output"]
def log_density(x):
    return Normal(0.0, 1.0).log_prob(x.log()) - x.log()


exercises.check_log_normal(log_density)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} An E-step
# :label: ex-e-step
# ```
# A mixture has weights 0.3 and 0.7, means $-1$ and 2, and standard deviations 1 and 0.5. Write the E-step: the probabilities of both components given each point of a vector.


# %% tags=["answer", "nbval-check-output"]
def responsibilities(points):
    return ...


exercises.check_e_step(responsibilities)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-e-step
# :label: ex-e-step-solution
# :class: dropdown
# ```
# Bayes' rule in logarithms is a softmax.


# %% tags=["nbval-check-output"]
def responsibilities(points):
    weight, mean, std = torch.tensor([[0.3, 0.7], [-1.0, 2.0], [1.0, 0.5]])
    return e_step(points, weight, mean, std)


exercises.check_e_step(responsibilities)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# (sec-elbo-summary)=
# ## Summary
#
# - A latent variable model has an evidence that is an integral {eq}`def-evidence`; the samples that an estimate from the prior needs can grow exponentially with the dimension. Autoregressive models and flows avoid the integral, but are sampled one component after the other, or have a latent of the dimension of the data.
# - With an approximate posterior $q(z \mid x)$ there is a lower bound {eq}`def-elbo`. The gap is the KL divergence from $q$ to the posterior {eq}`eq-elbo-gap`.
# - The bound is reconstruction minus KL divergence from the prior {eq}`eq-elbo-terms`. It bounds the evidence of the *model*.
# - It is raised in the model and in $q$. With exact steps in turns the likelihood never falls {eq}`eq-em`; if the E-step leaves a gap, it may.
# - More samples inside the logarithm never lower it {eq}`eq-k-sample-order`. If the weights have a finite variance, the gap shrinks like $1 / K$ {eq}`eq-k-sample-gap`.
#
# **What needs care.** The KL divergence in the bound has a minus sign (E1), and the bound is a lower one (E2). A sum over the data is not a mean (E3), and the change of variables has bars (E23), where another formula has one too many (E24). What is bounded is the model's evidence (E7). A sample is not the mode (E21). Prior, likelihood and posterior are three things (E22). Inexact steps of EM are safe if it is the M-step that is inexact, after an exact E-step. The encoder should match the prior on
# average over the data, not for each image {eq}`eq-surgery`. The {doc}`errata page </book/errata>` has the formulas behind the numbers.
#
# **To read next.** {cite:t}`jordan1999` and {cite:t}`blei2017` for variational inference before and beside networks; {cite:t}`kingma2014` and {cite:t}`rezende2014`, where the bound met the network; {cite:t}`burda2016` for the $K$-sample bound.
