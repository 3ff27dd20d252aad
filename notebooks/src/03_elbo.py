# %% [markdown]
# # The ELBO
#
# A generative model draws a few hidden numbers, and a network turns them into an image. It is trained by raising the probability that it gives to the images of a training set. But many settings of the hidden numbers could have produced the same image, and the probability adds them all up: it is an integral over all settings, which in general nobody can compute. How can a model be trained for a number that nobody can compute?

# %% tags=["setup", "hide-input"]
# The set-up cell: `make sync` writes it.

# %% tags=["unseen"]
import math
import random
import tempfile
import zlib
from pathlib import Path

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.patches import Circle
from torch import nn
from torch.distributions import Bernoulli, MultivariateNormal, Normal, kl_divergence
from torch.func import jacrev, vmap
from torch.optim.lr_scheduler import CosineAnnealingLR

from companion import data
from companion.bits_back import Message, decompress, encode
from companion.distributions import diagonal_normal
from companion.elbo import LatentChain, elbo_loss, elbo_terms
from companion.experiments import ring_bound as oracle
from companion.page import plots
from companion.page.show import show
from companion.page.verify import at_most, binomial, exact, monte_carlo, quadrature, verify
from companion.training import fit, minimize
from companion.zoo import pretrained

_ = torch.manual_seed(0)
torch.set_default_dtype(torch.double)

# %% tags=["figure"] mystnb={"image": {"alt": "A wide arch, the log-likelihood of one data point as a function of a parameter of the model. Three narrower arches lie below it, and each touches it at one point."}, "figure": {"caption": "What we want to raise, and in general cannot compute: the log-probability of one data point as a function of a parameter of the model. Below it lie three curves that can be computed, each made from one guess of the hidden number. A curve touches where its guess is right.", "name": "fig-touching"}}
weight, x = torch.linspace(-3.5, 5.0, 200), torch.tensor(0.9)
joint_std, total = 0.5**0.5, 1.3**2 + 0.5  # x = 1.3 z + weight + noise of variance 0.5
lines = {"log p(x)": (weight, Normal(weight, total**0.5).log_prob(x))}
for number, old in enumerate((-1.8, 0.6, 3.2)):
    q = Normal(1.3 * (x - old) / total, (0.5 / total) ** 0.5)  # the exact posterior there
    log_x_given_z = Normal(1.3 * q.mean + weight, joint_std).log_prob(x) - 1.3**2 * q.variance
    bound = log_x_given_z - kl_divergence(q, Normal(0.0, 1.0))
    near = bound > -5
    lines[f"bound {number + 1}"] = (weight[near], bound[near])
panel, (axes,) = plots.figure(height=2.4)
plots.curves(lines, x_label="parameter of the model", y_label="nats", axes=axes)

# %% [markdown]
# :::{admonition} The idea
# A second network guesses from which hidden numbers an image came. Every guess, good or bad, gives a number that can be computed. This number lies below the log-probability of the image, and the difference is exactly the KL divergence from the guess to the right answer. So raise this number, in both networks.
# :::
#
# The number is the evidence lower bound, the {term}`ELBO`; {numref}`fig-touching` shows three of them. Variational autoencoders, hierarchical ones and diffusion models are all trained by raising it.

# %% [markdown]
# (sec-latent-models)=
# ## A model with something hidden
#
# Why hidden numbers? The images of {numref}`fig-scenes` have 3,072 values each, but five numbers determine them: the direction of the house, the height of the camera, the light, the size and the color. A model that draws five numbers has only the way from them to the image to learn, and the five numbers of an image describe it.

# %% tags=["figure"] mystnb={"image": {"alt": "Two rows of eight small images of a house on a gray floor, seen from different sides, in different sizes, colors and lights."}, "figure": {"caption": "Five numbers determine each of these images.", "name": "fig-scenes"}}
plots.image_grid(data.scenes(16, seed=1).images, columns=8)

# %% [markdown]
# A {term}`latent variable` $z$ is never observed. The model consists of two distributions: a {term}`prior` $p(z)$ that is easy to sample, and a {term}`likelihood` $p(x \mid z)$, the distribution of the data once the latent is known. The network that computes it from $z$ is the *decoder*. The probability of $x$ alone is the {term}`evidence`, or marginal likelihood,
#
# $$
# p(x) = \int p(x \mid z)\, p(z)\, \mathrm{d}z .
# $$ (def-evidence)
#
# Why should it be large for the data? Maximum likelihood brings the model as close to the data as it gets, measured by the forward KL divergence ({ref}`chapter 2 <sec-maximum-likelihood>`).
#
# The decoder of our example, in {numref}`fig-ring`, bends a Gaussian on the line into a ring in the plane: $z$ becomes the angle $2 z + 3$, with *speed* 2 and *phase* 3. The likelihood adds a little noise, $x \mid z \sim \mathcal{N}(\operatorname{ring}(z), 0.2^2 I)$.


# %%
def ring(z, phase=3.0):
    return torch.stack([torch.cos(2 * z + phase), torch.sin(2 * z + phase)], -1)


# %% tags=["figure"] mystnb={"image": {"alt": "Left: a bell curve over the latent, with fifteen colored ticks at values of equal probability mass between them. Right: points on a noisy ring in the plane, denser at its left side; fifteen discs in the colors of the ticks lie along the ring."}, "figure": {"caption": "The evidence is a mixture with one component for each latent. Left: the prior, and the middles of fifteen equal shares of it. Right: samples of $x$, and for each of these latents its component $p(x \\mid z)$.", "name": "fig-ring"}}
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
# For exact answers in any dimension we use a second model, in which all integrals are known: $z \sim \mathcal{N}(0, 1)$ and $x \mid z \sim \mathcal{N}(a z + b,\, s^2)$. As a sum of independent Gaussians, $x$ is Gaussian,
#
# $$
# p(x) = \mathcal{N}(x;\; b,\; a^2 + s^2) ,
# $$ (eq-linear-evidence)
#
# and so is the {term}`posterior`, the distribution of the latent after $x$ has been seen, whose precision is the sum $1 + a^2 / s^2$:
#
# $$
# p(z \mid x) = \mathcal{N}\Big( z;\; \frac{a (x - b)}{a^2 + s^2},\; \frac{s^2}{a^2 + s^2} \Big) .
# $$ (eq-linear-posterior)

# %% tags=["check", "nbval-check-output"]
a, b, s = 1.3, 0.4, 0.5**0.5
x, prior = torch.tensor(0.9), Normal(torch.tensor(0.0), 1.0)
evidence = Normal(torch.tensor(b), (a**2 + s**2) ** 0.5)
posterior = Normal(a * (x - b) / (a**2 + s**2), s / (a**2 + s**2) ** 0.5)


def log_joint(x, z):
    return Normal(a * z + b, s).log_prob(x) + prior.log_prob(z)


grid = torch.linspace(-12, 12, 6_001)
integral = torch.trapezoid(log_joint(x, grid).exp(), grid)
p_x = evidence.log_prob(x).exp()
forgotten = {"noise forgotten": Normal(b, a).log_prob(x).exp()}
verify("eq-linear-evidence", integral, p_x, quadrature, rejects=forgotten)

normalized = log_joint(x, grid).exp() / integral
narrower = Normal(posterior.mean, posterior.variance).log_prob(grid).exp()
wrong = {"variance for deviation": narrower}
closed = posterior.log_prob(grid).exp()
verify("eq-linear-posterior", normalized, closed, quadrature, rejects=wrong)

# %% [markdown]
# Why a Gaussian prior? It is continuous, so that neighboring latents can mean similar things; it is easy to sample; and its KL divergence from another Gaussian, which will be part of the loss, is a formula. Nor is it a restriction in practice: a flexible decoder can turn it into nearly any distribution.
#
# :::{depth-start} a Gaussian prior loses nothing on the line, and its samples do not lie at its mode
# :::
# A decoder can turn one distribution into another. In one dimension there is a formula. Let $\Phi$ be the distribution function of $\mathcal{N}(0, 1)$ and $F$ the one that we want. Its quantile function $F^{-1}(u)$, for $0 < u < 1$, is the least $t$ with $F(t) \ge u$. For $z \sim \mathcal{N}(0, 1)$
#
# $$
# \Pr\big( F^{-1}(\Phi(z)) \le t \big) = F(t) ,
# $$ (eq-inverse-cdf)
#
# also where $F$ jumps. *Proof.* $\Phi(z)$ is uniform, because $\Pr(\Phi(z) \le u) = \Pr(z \le \Phi^{-1}(u)) = u$. And $F^{-1}(u) \le t$ means $u \le F(t)$, because $F$ never falls and is continuous from the right. $\square$ But $F^{-1}$ jumps across a gap. A continuous decoder, in any dimension, maps a connected prior to a connected set, so between separate parts of the data it leaves a gap only where it changes very steeply.
#
# A sample is not nearly the $x$ of largest $\log p(x)$. For a standard Gaussian in $D$ dimensions, whose mode is zero,
#
# $$
# \log p(\text{mode}) - \mathbb{E} \log p(x) = \frac{D}{2} .
# $$ (eq-mode)
#
# *Proof.* The difference $\log p(0) - \log p(x)$ is $\lVert x \rVert^2 / 2$, a sum of $D$ independent terms of mean $1/2$ and variance $1/2$. $\square$ In 784 dimensions that is 392 nats, with a standard deviation of $\sqrt{392}$.
#
# **Check.** For {eq}`eq-inverse-cdf`, $F$ is the distribution of a waiting time that is zero with probability 0.3 and exponential otherwise; a distribution without the jump is rejected, and $z$ without the map. For {eq}`eq-mode`, 5,000 samples are compared with the formula.

# %% tags=["check", "nbval-check-output"]
u = torch.special.ndtr(torch.randn(200_000))
waiting = -2 * torch.log1p(-(u - 0.3).clamp(min=0) / 0.7)  # the quantile function
t = torch.tensor([0.0, 0.5, 1.0, 2.0, 4.0])
F = 0.3 + 0.7 * (1 - (-t / 2).exp())
below = (waiting[:, None] <= t).double()
wrong = {"no jump": 1 - (-t / 2).exp(), "no map": torch.special.ndtr(t)}
verify("eq-inverse-cdf", below, F, binomial, rejects=wrong)

D = 784
standard = Normal(torch.zeros(D), 1.0)
drop = standard.log_prob(torch.zeros(D)).sum() - standard.log_prob(torch.randn(5_000, D)).sum(1)
verify("eq-mode", drop, D / 2, monte_carlo, rejects={"E21": 0.0, "no factor 1/2": D})

# %% [markdown]
# :::{depth-end}
# :::
#
# *Sources: A14, A16, B07, C04, D01, D03.*

# %% [markdown]
# (sec-impossible-integral)=
# ## Why its probability cannot be computed
#
# A grid for the integral {eq}`def-evidence` with ten points in each of fifty dimensions has $10^{50}$ points. What about random points? The integral is a mean over the prior,
#
# $$
# p(x) = \mathbb{E}_{z \sim p(z)}\, p(x \mid z) ,
# $$ (eq-prior-sampling)
#
# which a mean over samples of $z$ estimates without bias. But for almost all latents from the prior, $p(x \mid z)$ may be practically zero: few random settings of five numbers render *this* house. In the solvable model, repeated in $D$ independent dimensions, second moments multiply. If one dimension has $\mathbb{E}\, p(x \mid z)^2 = r\, p(x)^2$, the relative variance of one sample is $r^D - 1$, which grows exponentially.
#
# Better latents are those that could have produced $x$. For *every* $z$ Bayes' rule says that
#
# $$
# p(x) = \frac{p(x \mid z)\, p(z)}{p(z \mid x)} ,
# $$ (eq-bayes-identity)
#
# so one latent would be enough if we knew the posterior: the ratio has no variance at all. We do not: its normalizing constant is the very $p(x)$ that we want. But we may guess it. Let $q(z \mid x)$ be an {term}`approximate posterior`; the network that computes it will be the {term}`encoder`. With $q$ in the place of the posterior the ratio depends on $z$, and is still right on average, because $q$ cancels in the integral:
#
# $$
# p(x) = \mathbb{E}_{z \sim q(z \mid x)} \frac{p(x \mid z)\, p(z)}{q(z \mid x)} .
# $$ (eq-importance)
#
# This is importance sampling ($q$ must be positive wherever the numerator is), and the ratio is the *importance weight*. How good must the guess be?

# %% [markdown]
# **Check.** That {eq}`eq-prior-sampling` is unbiased is confirmed in three dimensions. For {eq}`eq-importance`, $q$ is a little shifted and too wide; a mean of the joint density alone, in which $q$ is forgotten, is rejected.

# %% tags=["check", "nbval-check-output"]
z = torch.randn(1_000_000, 3)
samples = Normal(a * z + b, s).log_prob(x).sum(1).exp()
at_mean = Normal(b, s).log_prob(x).exp() ** 3
verify("eq-prior-sampling", samples, p_x**3, monte_carlo, rejects={"likelihood at z = 0": at_mean})

z = torch.linspace(-3, 3, 7)
ratio = (log_joint(x, z) - posterior.log_prob(z)).exp()
wrong = {"prior for posterior": Normal(a * z + b, s).log_prob(x).exp()}
verify("eq-bayes-identity", ratio, p_x.repeat(7), rejects=wrong)

q = Normal(posterior.mean + 0.2, 1.3 * posterior.stddev)
z = q.sample((400_000,))
weights = (log_joint(x, z) - q.log_prob(z)).exp()
wrong = {"q forgotten": log_joint(x, z).exp().mean()}
verify("eq-importance", weights, p_x, monte_carlo, rejects=wrong)


# %% tags=["figure"] mystnb={"image": {"alt": "On a logarithmic axis two curves bend at first, then rise as straight lines with the dimension, one over eleven orders of magnitude, the other over four."}, "figure": {"caption": "Relative standard deviation of one sample in the solvable model in $D$ independent dimensions: from the prior, and by importance sampling from a $q$ that is shifted by 0.2 and 1.3 times as wide as the posterior.", "name": "fig-prior-spread"}}
def relative_moment(log_weight, sampled):
    """E w^2 / p(x)^2 for z from the distribution `sampled`, by an integral over the grid."""
    return torch.trapezoid((2 * log_weight + sampled.log_prob(grid)).exp(), grid) / p_x**2


r = relative_moment(Normal(a * grid + b, s).log_prob(x), prior)
r_q = relative_moment(log_joint(x, grid) - q.log_prob(grid), q)
dimensions = torch.arange(1, 101)
plots.curves(
    {
        "z from the prior": (dimensions, (r**dimensions - 1).sqrt()),
        "z from q": (dimensions, (r_q**dimensions - 1).sqrt()),
    },
    x_label="dimension of the latent",
    y_label="relative standard deviation",
    log_y=True,
)

# %% [markdown]
# In {numref}`fig-prior-spread` both errors grow exponentially. How many samples give $p(x)$ to ten percent in a hundred dimensions?

# %% tags=["numbers"]
print(f"from the prior {(r**100 - 1) / 0.1**2:.1e}, from q {(r_q**100 - 1) / 0.1**2:.1e}")

# %% [markdown]
# A $q$ that is nearly right is far better than the prior, and still useless. The importance weight is a *product* over the dimensions, so its second moments multiply. Its *logarithm* is a sum, whose variance only adds up. This is a reason to average logarithms. (Worse is a $q$ that is too narrow: latents that it almost never draws have huge weights, so that an estimate looks stable, and is too low.)
#
# *Autoregressive models*, which have no latent, and *normalizing flows*, whose decoder is one-to-one, avoid the integral, {doc}`at a price </book/landscape>`: pixel after pixel is drawn, or the network must be invertible, its latent as large as the image. A bound keeps a short code and any decoder.
#
# :::{depth-start} without a latent, or with an invertible decoder, the likelihood is a formula
# :::
# An autoregressive model {cite:p}`neal1992,larochelle2011,germain2015,oord2016` draws one component after the other,
#
# $$
# p(x) = \prod_{i=1}^{D} p(x_i \mid x_1, \dots, x_{i-1}) .
# $$ (eq-autoregressive)
#
# Every distribution has this form, and every choice of the factors is a distribution. The smallest such model for binary pixels is a logistic regression of each pixel on the ones before it, a *fully visible sigmoid belief network*; below, the *pixel-by-pixel model*. The weights of all regressions form one matrix with zeros on and above the diagonal. Trained on digits of 8 × 8 pixels in black and white, it gains more than five nats over independent pixels. An image is sampled one pixel after the other.
#
# A flow is $x = f(z)$ with an invertible $f$; both $f$ and $f^{-1}$ are differentiable. The density follows from the change of variables {cite:p}`rezende2015,dinh2017`,
#
# $$
# \log p(x) = \log p_z\big(f^{-1}(x)\big) + \log \Big| \det \frac{\partial f^{-1}(x)}{\partial x} \Big| .
# $$ (eq-flow)
#
# The bars matter: a determinant is negative for a map that mirrors the plane. A layer that stretches and shifts one part by functions of the other is sampled in one pass {cite:p}`dinh2017`. Latent and data have the same dimension.
#
# **Check.** A random table of four bits is split into conditional distributions, and their product compared with the table. The probabilities of all 256 images of eight pixels add up to one, unless pixels see themselves and those after them. The flow is compared with a Gaussian; then a flow that bends the plane with automatic differentiation, and its density is integrated.


# %% tags=["serves"]
class PixelByPixel(nn.Module):
    def __init__(self, num_pixels):
        super().__init__()
        self.W = nn.Parameter(torch.zeros(num_pixels, num_pixels))
        self.b = nn.Parameter(torch.zeros(num_pixels))

    def log_prob(self, x):
        logits = x @ self.W.tril(-1).T + self.b
        return Bernoulli(logits=logits).log_prob(x).sum(-1)


# %% tags=["serves"]
train, test = (
    (data.load("digits", split).images.flatten(1) > 0.5).double() for split in ("train", "test")
)
model = PixelByPixel(64)
batches = data.Batches(train, batch_size=128, num_epochs=60)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for _ in fit(model, lambda model, x: -model.log_prob(x), batches, optimizer):
    pass
share = ((train.sum(0) + 1) / (len(train) + 2)).clamp(1e-3, 1 - 1e-3)
gained = (model.log_prob(test).detach() - Bernoulli(share).log_prob(test).sum(1)).mean()

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

tiny = PixelByPixel(8)
_ = nn.init.normal_(tiny.W), nn.init.normal_(tiny.b)
images = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 8)
total = tiny.log_prob(images).exp().sum()
cheating = Bernoulli(logits=images @ tiny.W.T + tiny.b).log_prob(images).sum(-1)
verify(
    "eq-autoregressive", total, 1.0, rejects={"pixels that see themselves": cheating.exp().sum()}
)
print("better than independent pixels by more than 5 nats:", bool(gained > 5))


# %% tags=["check", "nbval-check-output"]
def banana(z):
    return torch.stack([z[0], z[1] * (z[0] / 2).exp() + z[0] ** 2 - 1])


def banana_log_p(x):
    z_1, scale = x[:, 0], (x[:, 0] / 2).exp()
    z_2 = (x[:, 1] - z_1**2 + 1) / scale
    return prior.log_prob(z_1) + prior.log_prob(z_2) - scale.log()


A, shift = torch.tensor([[0.3, 1.2], [0.9, -0.4]]), torch.tensor([0.5, -1.0])
points = torch.randn(100, 2)
base = prior.log_prob(torch.linalg.solve(A, (points - shift).T).T).sum(1)
det, exact_log_p = A.inverse().det(), MultivariateNormal(shift, A @ A.T).log_prob(points)
verify("eq-flow", base + det.abs().log(), exact_log_p, rejects={"E23": base + det.log()})

z = torch.randn(100, 2)
x_b, base = vmap(banana)(z), prior.log_prob(z).sum(1)
log_det = torch.linalg.slogdet(vmap(jacrev(banana))(z)).logabsdet
verify("eq-flow", banana_log_p(x_b), base - log_det, rejects={"wrong sign": base + log_det})
side = torch.linspace(-9, 9, 601), torch.linspace(-60, 90, 6_001)
inner = torch.trapezoid(banana_log_p(torch.cartesian_prod(*side)).exp().view(601, -1), side[1])
verify("eq-flow", torch.trapezoid(inner, side[0]), 1.0, quadrature.within(1e-6))

# %% [markdown]
# :::{depth-end}
# :::
#
# *Sources: A15, A17, B04, B09, B10.*

# %% [markdown]
# (sec-elbo)=
# ## The bound, line by line
#
# Why a lower bound? If it rises, so does the value that $\log p(x)$ is known to reach; raising an upper bound would promise nothing. Ours is the mean of the logarithm of the importance weight {cite:p}`jordan1999`. By {eq}`eq-importance` $\log p(x)$ is the logarithm of the mean weight, which is at least that, since the logarithm is concave (Jensen's inequality):
#
# $$
# \mathrm{ELBO}(x) = \mathbb{E}_{z \sim q(z \mid x)} \big[ \log p(x \mid z) + \log p(z) - \log q(z \mid x) \big] .
# $$ (def-elbo)
#
# By how much? Start from $\log p(x)$, and change it in five lines. Write $\mathbb{E}_q$ for the mean over $z \sim q(z \mid x)$.
#
# $$
# \begin{aligned}
# \log p(x) &= \mathbb{E}_q \log p(x) \\
# &= \mathbb{E}_q \log \frac{p(x \mid z)\, p(z)}{p(z \mid x)} \\
# &= \mathbb{E}_q \log \left( \frac{p(x \mid z)\, p(z)}{p(z \mid x)} \cdot \frac{q(z \mid x)}{q(z \mid x)} \right) \\
# &= \mathbb{E}_q \log \frac{p(x \mid z)\, p(z)}{q(z \mid x)} + \mathbb{E}_q \log \frac{q(z \mid x)}{p(z \mid x)} \\
# &= \mathrm{ELBO}(x) + D_{\mathrm{KL}}\big(q(z \mid x) \,\Vert\, p(z \mid x)\big)
# \end{aligned}
# $$ (eq-log-ratio)
#
# 1. $\log p(x)$ does not depend on $z$, so the mean over $q$ leaves it as it is.
# 2. Bayes' rule {eq}`eq-bayes-identity` holds for every $z$, so it holds inside the mean.
# 3. A factor of one: nothing changes, but $q$ now meets the posterior.
# 4. The logarithm of a product is a sum. The decoder and $q$ stand in one term, and the posterior, which cannot be computed, in the other. (The two means must be finite.)
# 5. The first term is {eq}`def-elbo`, the second the definition of the KL divergence.
#
# So the gap between $\log p(x)$ and the bound is exactly a KL divergence,
#
# $$
# \log p(x) - \mathrm{ELBO}(x) = D_{\mathrm{KL}}\big( q(z \mid x) \,\Vert\, p(z \mid x) \big) ,
# $$ (eq-elbo-gap)
#
# and by Gibbs' inequality ({prf:ref}`thm-gibbs`) it is never negative:
#
# $$
# \mathrm{ELBO}(x) \le \log p(x) .
# $$ (eq-elbo-bound)
#
# For one model $\log p(x)$ is fixed, so the $q$ with the largest bound is nearest to the posterior, which nobody computed. Any $q$ will do that puts no probability where $p(x, z)$ is zero; there the divergence would be infinite. Why this order of the arguments? The mean is over $q$, because $q$ is what we can sample. By {ref}`chapter 2 <sec-two-directions>` a Gaussian $q$ then leaves out distant modes.
#
# :::{depth-start} Jensen's inequality gives the bound in one line, but not the gap
# :::
# The mean of a logarithm is at most the logarithm of the mean {eq}`eq-jensen`, so
#
# $$
# \mathbb{E}_q \log \frac{p(x \mid z)\, p(z)}{q(z \mid x)} \le \log \mathbb{E}_q \frac{p(x \mid z)\, p(z)}{q(z \mid x)} = \log p(x)
# $$
#
# by {eq}`eq-importance`. No condition on $q$ is needed: where $q$ is zero on a part of the posterior, the mean of the weight is at most $p(x)$, which is enough. A third way inserts $\log p(x \mid z) + \log p(z) = \log p(x) + \log p(z \mid x)$ into {eq}`def-elbo`.
#
# :::{depth-end}
# :::

# %% [markdown]
# **See it.** On the ring two latents that differ by $\pi$ give the same point, so the posterior of a point has several modes, and no Gaussian $q$ closes the gap. As code, with `prior` for $p(z)$, the bound {eq}`def-elbo` of a point is three lines:


# %%
def ring_log_joint(x, z, phase=3.0):
    return Normal(ring(z, phase), 0.2).log_prob(x).sum(-1) + prior.log_prob(z)


def ring_elbo(x, q, num=400_000):
    z = q.sample((num,))  # guesses
    log_weights = ring_log_joint(x, z) - q.log_prob(z)
    return log_weights.mean()


# %% [markdown]
# **Check.** The gap of the best Gaussian is estimated by samples and compared with an integral. The KL divergence to the *Laplace approximation*, the Gaussian with the mode and the curvature of the posterior, is rejected; it would pass in the solvable model.

# %% tags=["serves"]
x_ring = 0.9 * ring(torch.tensor(1.2))
joint = ring_log_joint(x_ring, grid)
ring_log_p = torch.trapezoid(joint.exp(), grid).log()
ring_posterior = joint - ring_log_p  # log-density on the grid


def ring_bound(q, phase=3.0):
    log_q = q.log_prob(grid)
    return torch.trapezoid(log_q.exp() * (ring_log_joint(x_ring, grid, phase) - log_q), grid)


def fit_ring(start):
    """The Gaussian q with the largest bound, searched from this mean."""
    mean, log_std = (torch.tensor(v, requires_grad=True) for v in (start, -2.0))
    _ = minimize(lambda: -ring_bound(Normal(mean, log_std.exp())), [mean, log_std])
    return Normal(mean.detach(), log_std.detach().exp())


best = max((fit_ring(start) for start in (1.2, 1.2 - math.pi)), key=ring_bound)
top = grid[ring_posterior.argmax()]  # Laplace: a Gaussian with mode and curvature there
bend = vmap(torch.func.grad(torch.func.grad(lambda z: ring_log_joint(x_ring, z))))(top[None])[0]
laplace = Normal(top, (-bend) ** -0.5)

# %% tags=["check", "nbval-check-output"]
z = best.sample((400_000,))
samples = ring_log_p - (ring_log_joint(x_ring, z) - best.log_prob(z))  # their mean is the gap
log_q = best.log_prob(grid)
gap = torch.trapezoid(log_q.exp() * (log_q - ring_posterior), grid)
wrong = {"Laplace posterior": kl_divergence(best, laplace)}
verify("eq-elbo-gap", samples, gap, monte_carlo, rejects=wrong)
explained = torch.trapezoid(log_q.exp() * (joint - prior.log_prob(grid)), grid)
two = explained - kl_divergence(best, prior)
wrong = {"Laplace posterior": two + kl_divergence(best, laplace)}
wrong["E1"] = explained + kl_divergence(best, prior) + gap
verify("eq-log-ratio", ring_log_p, two + gap, quadrature, rejects=wrong)

# %% tags=["figure"] mystnb={"image": {"alt": "Left: a posterior with a tall mode near 1.2 and a lower one near minus 1.9; the Gaussian q covers the tall one only. Right: the log-likelihood as a gently curved line over the phase of the ring; one narrow arch touches it at 2.4, another stays below it with a gap."}, "figure": {"caption": "The ring model at one data point. Left: its posterior and the best Gaussian $q$. Right: the log-likelihood as a function of the phase of the decoder, the bound with the exact posterior of phase 2.4, and the bound with the best Gaussian $q$ of phase 3.", "name": "fig-ring-bound"}}
phases, old_phase = torch.linspace(1.8, 4.4, 131), 2.4
old = ring_log_joint(x_ring, grid, old_phase)
old = old - torch.trapezoid(old.exp(), grid).log()  # the exact posterior of the old phase
lines = {"log p(x)": [], "exact q": [], "Gaussian q": []}
for phase in phases:
    joint = ring_log_joint(x_ring, grid, phase)
    lines["log p(x)"] += [torch.trapezoid(joint.exp(), grid).log()]
    lines["exact q"] += [torch.trapezoid(old.exp() * (joint - old), grid)]
    lines["Gaussian q"] += [ring_bound(best, phase)]
lines = {name: torch.stack(values) for name, values in lines.items()}
panels, (left, right) = plots.figure(columns=2, height=3.2)
seen = (grid > -3) & (grid < 3)
densities = {"posterior": ring_posterior.exp(), "q": best.log_prob(grid).exp()}
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
# In {numref}`fig-ring-bound` the best Gaussian covers the higher mode of the posterior and leaves the other out, and its bound touches the log-likelihood nowhere.
#
# How does one test such code? In a model whose $\log p(x)$ is known, bound plus KL divergence must give it, for every $q$; with a wrong sign of the KL, or a mean over dimensions in place of a sum, it does not. Here $z$ is one number, and can be integrated. For the Gaussian with the largest bound:

# %% tags=["numbers"]
print(f"log p(x) {ring_log_p:.3f} nats, gap {gap:.3f}, so the bound is {ring_log_p - gap:.3f}")
print(f"the bound by samples: {ring_elbo(x_ring, best):.3f}")

# %% [markdown]
# **Reconstruction and KL.** Sort the terms of {eq}`def-elbo` in another way, $p(z)$ to $q$:
#
# $$
# \mathrm{ELBO}(x) = \mathbb{E}_q \log p(x \mid z) - D_{\mathrm{KL}}\big( q(z \mid x) \,\Vert\, p(z) \big) .
# $$ (eq-elbo-terms)
#
# Training uses this form ({numref}`fig-two-terms`), as the KL of two Gaussians is a formula. The first is the reconstruction term, large if the decoder explains $x$ well from latents of $q$; it trains both networks. The second, without the decoder, keeps $q$ close to the prior. Alone, the first would shrink $q$ to the best latent of each $x$: an ordinary autoencoder, whose decoder does not know the prior's latents. Alone, the second would make $q$ the prior for every $x$: the latent says nothing.
#
# **Check.** In the solvable model both sides of {eq}`eq-log-ratio` are computed, the second line by an integral over $z$; a thousand random $q$ are tried for {eq}`eq-elbo-bound`; the closed form {eq}`eq-elbo-terms` is compared with samples of {eq}`def-elbo`. Rejected are a plus before the KL divergence, the inequality the wrong way around, and a gap with the arguments in the other order or to the prior.


# %% tags=["check", "nbval-check-output"]
def expected_log_likelihood(q, x, b=b):
    """E_q log N(x; a z + b, s^2), for a Gaussian q."""
    square = (x - a * q.mean - b) ** 2 + a**2 * q.variance
    return -0.5 * math.log(2 * math.pi * s**2) - square / (2 * s**2)


reconstruction, to_prior = expected_log_likelihood(q, x), kl_divergence(q, prior)
to_posterior = kl_divergence(q, posterior)
elbo, log_p = reconstruction - to_prior, evidence.log_prob(x)
z = q.sample((1_000_000,))
samples = log_joint(x, z) - q.log_prob(z)
plus = {"E1": reconstruction + to_prior}
verify("eq-elbo-terms", samples, elbo, monte_carlo, rejects=plus)

many = Normal(2 * torch.randn(1000), torch.rand(1000) + 0.1)  # a thousand random q
elbos = expected_log_likelihood(many, x) - kl_divergence(many, prior)
above = torch.ones(1000)
verify("eq-elbo-bound", (log_p - elbos).sign(), above, rejects={"E2": -above})
wrong = {"other order": kl_divergence(posterior, q), "gap to the prior": to_prior}
verify("eq-elbo-gap", log_p - elbo, to_posterior, rejects=wrong)
log_ratio = log_joint(x, grid) - posterior.log_prob(grid)
mean = torch.trapezoid(q.log_prob(grid).exp() * log_ratio, grid)
plus = {"E1": (reconstruction + to_prior + to_posterior).repeat(2)}
left, right = torch.stack([log_p, mean]), (elbo + to_posterior).repeat(2)
verify("eq-log-ratio", left, right, quadrature, rejects=plus)

# %% tags=["figure"] mystnb={"image": {"alt": "Three curves over the standard deviation of q. The reconstruction term falls; minus the KL divergence rises up to one and then falls; their sum, the bound, has its maximum between, where it touches the horizontal line of log p(x)."}, "figure": {"caption": "The two terms and their sum for a Gaussian $q$ with the posterior's mean. The bound touches $\\log p(x)$ where $q$ is as wide as the posterior.", "name": "fig-two-terms"}}
width = torch.linspace(0.08, 1.2, 75)
wide = Normal(posterior.mean, width)
terms = expected_log_likelihood(wide, x), -kl_divergence(wide, prior)
lines = {"reconstruction": terms[0], "minus the KL": terms[1], "bound": terms[0] + terms[1]}
lines["log p(x)"] = log_p.expand(75)
_, (axes,) = plots.figure(height=2.3)
plots.curves(
    {name: (width, y) for name, y in lines.items()},
    x_label="standard deviation of q",
    y_label="nats",
    axes=axes,
)

# %% [markdown]
# A chain of latents changes nothing in the five lines: let $z$ stand for all of them together. In the package `elbo_terms` computes the bound {eq}`eq-elbo-terms` of every model of this book, with the KL divergence in closed form and one sample of $z$.


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
# *Sources: A18, A19, A21, B11, D06.*

# %% [markdown]
# (sec-variational-em)=
# ## Raising the bound in turns: the EM algorithm
#
# How is the bound raised? For a training set $x_1, \dots, x_N$ the bounds add up, and so do the gaps,
#
# $$
# \begin{aligned}
# \sum_{i} \mathrm{ELBO}(x_i) = \sum_i \log p(x_i) - \sum_i D_{\mathrm{KL}}\big( &q(z \mid x_i) \\
# &\Vert\, p(z \mid x_i) \big) .
# \end{aligned}
# $$ (eq-dataset-bound)
#
# This sum, $\mathrm{ELBO}(\theta, q)$, has two arguments: the parameters $\theta$ of the model, and $q$. The classical method raises it in one at a time.
#
# - **E-step**: for the present $\theta$, set $q(z \mid x) = p_\theta(z \mid x)$. By {eq}`eq-elbo-gap` the gap closes.
# - **M-step**: for the present $q$, maximize in $\theta$. With $H(q)$ for the entropy of $q$,
#
# $$
# \mathrm{ELBO}(x) = \mathbb{E}_q \log p(x, z) + H(q) ,
# $$ (eq-elbo-entropy)
#
# and the entropy $H(q)$ does not depend on $\theta$. (It keeps $q$ from shrinking to a point, where, for continuous $z$, it would fall without limit.) So the M-step maximizes $\mathbb{E}_q \log p_\theta(x, z)$, like fitting a model whose latents are observed.
#
# If $q$ may be any distribution, this is the {term}`EM algorithm` {cite:p}`dempster1977,neal1998`. If $q$ must stay in a family, such as the Gaussians, the E-step takes the best member, and the method is {term}`variational EM` {cite:p}`jordan1999,blei2017`. Why does raising a bound raise the likelihood? Because after an exact E-step there is no gap left to close. (There the gap has its minimum, zero, so the slopes agree, as in {numref}`fig-touching`.)
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
# The equality is the E-step, the first inequality the M-step, the second {eq}`eq-elbo-bound`. $\square$

# %% tags=["check", "nbval-check-output"]
mean_log_prior = -0.5 * (math.log(2 * math.pi) + q.mean**2 + q.variance)
joint = expected_log_likelihood(q, x) + mean_log_prior
minus = {"minus entropy": joint - q.entropy()}
verify("eq-elbo-entropy", elbo, joint + q.entropy(), rejects=minus)

xs = evidence.sample((50,))
posteriors = Normal(a * (xs - b) / (a**2 + s**2), posterior.stddev)
each = Normal(0.8 * posteriors.mean, 0.6)  # one q for each of fifty data points
elbos = expected_log_likelihood(each, xs) - kl_divergence(each, prior)
log_ps, gaps = evidence.log_prob(xs), kl_divergence(each, posteriors)
mixed = {"E3": log_ps.sum() - gaps.mean()}
verify("eq-dataset-bound", elbos.sum(), log_ps.sum() - gaps.sum(), rejects=mixed)

# %% [markdown]
# The standard example is a mixture of two Gaussians with unknown weights $\pi_k$, means $\mu_k$ and variances $\sigma_k^2$; the latent, 1 or 2, says which of the two a point came from. (So the integral is a sum of two terms, and needs no bound. With a hundred such latents it has $2^{100}$.) The E-step is Bayes' rule,
#
# $$
# q_{ik} = \frac{\pi_k\, \mathcal{N}(x_i; \mu_k, \sigma_k^2)}{\sum_l \pi_l\, \mathcal{N}(x_i; \mu_l, \sigma_l^2)} ,
# $$ (def-e-step)
#
# and the M-step, shown at work in {numref}`fig-em`, a fit in which point $i$ counts $q_{ik}$ times for component $k$,
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


# %%
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
# **Check.** An optimizer that maximizes the sum of the M-step, without its formulas, finds {eq}`eq-m-step`. Hard assignments, which give each point whole to its more probable component, are rejected.

# %% tags=["check", "nbval-check-output"]
_ = torch.manual_seed(0)
points = torch.cat([torch.randn(300) - 2, 0.6 * torch.randn(150) + 1.5])
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
# **Check.** After each E-step the bound equals the log-likelihood; after each M-step it lies between the old log-likelihood and the new one. Sequences that lag behind by one round are rejected.


# %% tags=["check", "nbval-check-output"]
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

behind = {"a round behind": [likelihoods[0], *likelihoods[:-1]]}
verify("eq-em", after_e, likelihoods, rejects=behind)
late = {"the M-step before": [after_m[0], *after_m[:-2]]}
verify("eq-em", likelihoods[:-1], after_m[:-1], at_most(1e-9), rejects=late)
late = {"the likelihood before": likelihoods[:-1]}
verify("eq-em", after_m[:-1], likelihoods[1:], at_most(1e-9), rejects=late)

# %% tags=["figure"] mystnb={"image": {"alt": "The log-likelihood rises, rests on a plateau for some rounds, rises again and levels off. The bound after each M-step lies below it, by more than twenty nats in the first round and by about eight on the steep part."}, "figure": {"caption": "EM on a mixture, from a poor start. The bound after an M-step lies below the log-likelihood; the next E-step lifts it to the curve. On the plateau the two components have not yet separated.", "name": "fig-em"}}
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
# :::{depth-start} EM may be slow or end at a local maximum, and the best factorized Gaussian is too narrow
# :::
# In the solvable model with one data point, let the offset $b$ be the only parameter, and the mean $m$ the only free number of $q$. The maximum is at $b = x$, $m = 0$. One round, an M-step followed by an E-step, takes the mean to
#
# $$
# m_\text{new} = \frac{a^2}{a^2 + s^2}\, m .
# $$ (eq-staircase)
#
# *Proof.* The M-step sets $b = x - a m$, so that the mean of $q$ explains $x$. The E-step takes the mean of the posterior {eq}`eq-linear-posterior`, $a (x - b) / (a^2 + s^2)$, and $x - b = a m$. $\square$ With little noise nearly the whole distance remains after each round.
#
# EM may end at a local maximum that depends on the start, and exchanging two components changes nothing. The likelihood of a Gaussian mixture is not even bounded: put one component on a single data point and let its standard deviation go to zero; each factor of a thousand adds $\log 1000 \approx 6.9$ nats. In practice one starts several times and keeps the standard deviations away from zero.


# %% tags=["check", "nbval-check-output"]
def bound_of(b, m):
    shifted = Normal(m, posterior.stddev)
    return expected_log_likelihood(shifted, x, b) - kl_divergence(shifted, prior)


free_b, free_m = (torch.zeros((), requires_grad=True) for _ in range(2))
_ = minimize(lambda: -bound_of(free_b, torch.tensor(1.2)), [free_b])
_ = minimize(lambda: -bound_of(free_b.detach(), free_m), [free_m])
left_over, wrong = a**2 / (a**2 + s**2), {"the rest": 1.2 * s**2 / (a**2 + s**2)}
verify("eq-staircase", free_m, 1.2 * left_over, exact.within(1e-6), rejects=wrong)


def likelihood_of(*parameters):
    return mixture_log_joint(points, *parameters).logsumexp(1).sum().item()


swapped = likelihood_of(*history[-1].flip(1)) - likelihood_of(*history[-1])
print("exchanged components are as good:", abs(swapped) < 1e-9)
collapsed = torch.stack([history[-1]] * 3)
collapsed[:, 1, 0], collapsed[:, 2, 0] = points[0], torch.tensor([1e-6, 1e-9, 1e-12])
steps = torch.tensor([likelihood_of(*parameters) for parameters in collapsed]).diff()
print("each collapse gains log 1000 nats:", bool(((steps - math.log(1000)).abs() < 0.01).all()))

# %% tags=["figure"] mystnb={"image": {"alt": "Elliptic contours in the plane of the offset b and the mean m of q, tilted against the axes. A staircase path climbs towards the top in ever smaller steps and stops a little before it."}, "figure": {"caption": "The exponential of the bound over its two arguments. Each step maximizes along one axis, so the path is a staircase.", "name": "fig-staircase"}}
path = [torch.tensor([3.0, 1.2])]
for _ in range(12):
    b_now = x - a * path[-1][1]  # M-step
    path += [torch.stack([b_now, path[-1][1]])]
    path += [torch.stack([b_now, left_over * path[-1][1]])]  # E-step
path = torch.stack(path)
fig, (axes,) = plots.figure(height=3.0)
words = {"x_label": "offset b", "y_label": "mean m of q", "value_label": "exp(bound)"}
plane = (-2.0, 3.5, -0.6, 1.5)
_ = plots.density2d(lambda p: bound_of(*p.T), plane, **words, axes=axes)
_ = axes.plot(path[:, 0], path[:, 1], color="#d55e00", linewidth=2)
fig

# %% [markdown]
# In {numref}`fig-staircase` the steps become small long before the maximum.
#
# **A factorized $q$** has the right means, and variances that are too small. Let two latents $z_1, z_2 \sim \mathcal{N}(0, 1)$ explain one number, $x = z_1 + z_2 + \varepsilon$ with noise of variance $s^2$. To produce a large $x$ one of the two is enough, so the posterior has a negative correlation. The *mean-field* family has independent $z_1$ and $z_2$. The best $q$ of the family is found by optimizing one factor at a time: with $\mu$ and $\Lambda$ for the mean and the inverse covariance of the posterior, each step sets, for $k \ne j$,
#
# $$
# m_j \leftarrow \mu_j - \frac{\Lambda_{jk}}{\Lambda_{jj}} (m_k - \mu_k) , \qquad v_j = \frac{1}{\Lambda_{jj}} .
# $$ (eq-mean-field)
#
# *Proof.* Raising the bound in $q$ means lowering $D(q \Vert p(z \mid x))$, which for Gaussians is {eq}`eq-kl-gaussians`. As a function of $m_j$ it is $\frac12 \Lambda_{jj} (m_j - \mu_j)^2 + \Lambda_{jk} (m_j - \mu_j)(m_k - \mu_k)$ plus a constant, least at the value stated. The variance is {eq}`eq-factorized-reverse`. $\square$
#
# Each step uses the mean of the other latent and ignores its variance. The means converge to those of the posterior. The variances stay too small, as in chapter 2, and the gap that remains, more than a quarter of a nat here, cannot be closed within the family.

# %% tags=["check", "nbval-check-output"]
precision = torch.eye(2) + torch.ones(2, 2) / s**2  # of z given x
true_mean = torch.linalg.solve(precision, torch.ones(2) * x / s**2)
true = MultivariateNormal(true_mean, precision.inverse())
means = [torch.tensor([1.5, -0.5])]
for step in range(30):
    j, k = step % 2, (step + 1) % 2
    new = means[-1].clone()
    new[j] = true.mean[j] - precision[j, k] / precision[j, j] * (new[k] - true.mean[k])
    means.append(new)
best_field = MultivariateNormal(means[-1], (1 / precision.diagonal()).diag())
free_m, free_log_v = (torch.zeros((), requires_grad=True) for _ in range(2))


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
print("the gap stays above 0.25 nats:", bool(kl_divergence(best_field, true) > 0.25))

# %% [markdown]
# :::{depth-end}
# :::
#
# *Sources: A20, A22.*

# %% [markdown]
# (sec-amortized)=
# ## One encoder for all data: amortized inference
#
# In EM every data point has its own $q$, searched for again in every round. Why not learn to guess? One network, the encoder, takes $x$ and returns the mean and the standard deviation of $q(z \mid x)$. This is {term}`amortized inference` {cite:p}`dayan1995,gershman2014`, drawn in {numref}`fig-plate`. One call takes the place of a search, also for new data.

# %% tags=["figure"] mystnb={"image": {"alt": "A frame labeled i = 1 to N holds a white circle z i above a gray circle x i. A solid arrow leads from z to x and a dashed one back. Outside the frame, phi on the left has a dashed arrow to z, theta on the right a solid arrow to x."}, "figure": {"caption": "The graphical model. What stands in the frame (a *plate*) exists once for each data point; gray is observed. Solid arrows: the model; dashed ones: the encoder.", "name": "fig-plate"}}
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
# Encoder and decoder are then trained together, by gradient steps on one loss, minus the bound. Two gaps remain: the {term}`approximation gap`, because the posterior is not in the family of $q$, and the {term}`amortization gap`, because the network does not find the best member for every $x$ {cite:p}`cremer2018`. In the solvable model the posterior's mean is affine in $x$ and its variance constant, so both vanish: a network of one layer, trained by the bound alone, finds the posterior.
#
# **Check.** The network of one layer maximizes {eq}`eq-elbo-terms` and is compared with {eq}`eq-linear-posterior`. The variance in place of the standard deviation is rejected.

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
# *Sources: A22.*

# %% [markdown]
# (sec-k-samples)=
# ## What does training by the bound cost?
#
# The bound lies below the likelihood. Does its maximum lie at the same model? Take the mean of {eq}`eq-elbo-gap` over the data distribution. By {ref}`chapter 2 <sec-maximum-likelihood>` the mean of $\log p_\theta(x)$ is $-D_{\mathrm{KL}}(p_{\text{data}} \Vert p_\theta)$ plus a constant, so
#
# $$
# \begin{aligned}
# \mathbb{E}_x\, \mathrm{ELBO}(x) = \text{const} &- D_{\mathrm{KL}}(p_{\text{data}} \,\Vert\, p_\theta) \\
# &- \mathbb{E}_x D_{\mathrm{KL}}\big(q(z \mid x) \,\Vert\, p_\theta(z \mid x)\big) .
# \end{aligned}
# $$ (eq-two-kls)
#
# Maximum likelihood minimizes the first KL divergence. The bound minimizes the sum of both, and the second depends on the decoder too: the bound prefers decoders whose posteriors are easy for $q$ {cite:p}`turner2011`. By how much? Let the data be the ring, where everything can be integrated, and let a decoder learn its speed, which is 2 for the data, with phase, radius and noise. In the code, `oracle` has the ring and the integrals, and `elbo_loss` is minus the bound.

# %%
model = oracle.ring_model(width=64)  # encoder, and the decoder that made the data
num_steps = 1500
optimizer = torch.optim.Adam(model.parameters(), lr=0.012)
schedule = CosineAnnealingLR(optimizer, num_steps)
batches = (oracle.draw(256) for _ in range(num_steps))  # new points of the ring
for _ in fit(model, elbo_loss, batches, optimizer):
    schedule.step()
trained = oracle.measures(model)
print(f"speed of the data 2.00, after training by the bound {trained['speed']:.2f}")

# %% [markdown]
# **Check.** For the decoder of speed 1.65 with the best Gaussian for each point, the mean of the closed form of the bound is compared with the two KL divergences, integrals over the data and over $z$. The gap forgotten is rejected, and the gap of the arguments in the other order.

# %% tags=["check", "nbval-check-output"]
points_x, mass = oracle.cubature()  # an integral over the data distribution
slower = oracle.ring_model(8, 1.65)
with torch.no_grad():
    q_mean, q_log_std = oracle.best_gaussians(slower, points_x)
    bound = (mass * oracle.bound(slower, points_x, q_mean, q_log_std)).sum()
    truth = oracle.log_evidence(oracle.ring_model(8), points_x)
    log_p_x = oracle.log_evidence(slower, points_x)
    log_posterior = oracle.log_joint(slower, points_x) - log_p_x[:, None]
    log_q = Normal(q_mean[:, None], q_log_std.exp()[:, None]).log_prob(oracle.Z)
    step = oracle.Z[1] - oracle.Z[0]
    gap = (mass * (log_q.exp() * (log_q - log_posterior)).sum(1)).sum() * step
    other = (mass * (log_posterior.exp() * (log_posterior - log_q)).sum(1)).sum() * step
data_kl, constant = (mass * (truth - log_p_x)).sum(), (mass * truth).sum()
wrong = {"gap forgotten": constant - data_kl, "other order": constant - data_kl - other}
verify("eq-two-kls", bound, constant - data_kl - gap, quadrature, rejects=wrong)

# %% tags=["figure"] mystnb={"image": {"alt": "Left: over the speed of the decoder, the mean log-likelihood is a flat arch with its top at 2; the bound lies below, with its top near 1.65, and the distance between the two grows with the speed. Right: the density over the angle of the ring, uneven for the data, and more so for the decoder of the bound."}, "figure": {"caption": "Left: mean log-likelihood and mean bound with the best Gaussian for each point; triangles mark the maxima, the dot the training above. Right: how often the angles occur.", "name": "fig-ring-speed"}}
speeds = torch.linspace(1.3, 2.3, 21)
both = {"mean log p(x)": [], "mean bound": []}
with torch.no_grad():
    for speed in speeds.tolist():
        decoder = oracle.ring_model(8, speed)
        best_q = oracle.best_gaussians(decoder, points_x)
        both["mean log p(x)"] += [(mass * oracle.log_evidence(decoder, points_x)).sum()]
        both["mean bound"] += [(mass * oracle.bound(decoder, points_x, *best_q)).sum()]
panels, (left, right) = plots.figure(columns=2, height=3.2)
lines = {name: (speeds, torch.stack(values)) for name, values in both.items()}
_ = plots.curves(lines, x_label="speed of the decoder", y_label="nats", axes=left)
for _, values in lines.values():
    top = values.argmax()
    _ = left.plot(speeds[top], values[top] + 0.012, "v", color="#333333", markersize=6)
own = constant - trained["kl"] - trained["approximation"] - trained["amortization"]
_ = left.plot(trained["speed"], own, "o", color="#333333", markersize=5)
turns, angles = 2 * math.pi * torch.arange(-4, 5), torch.linspace(-math.pi, math.pi, 181)
wrapped = {
    f"speed {v:.2f}": (angles, Normal(3.0, v).log_prob(angles[:, None] + turns).exp().sum(1))
    for v in (2.0, 1.65)
}
plots.curves(wrapped, x_label="angle on the ring", y_label="density", axes=right)

# %% [markdown]
# By the likelihood the decoder finds the speed of the data, 2.00. By the bound, with the best Gaussian for each point, it stops at 1.65: the approximation gap is then 0.090 nats instead of 0.139, and the KL divergence from the data to the model 0.016 instead of zero. With an encoder the speed is 1.639 ± 0.002 over three runs ({ref}`experiment <exp-ring-bound>`).
#
# Why ({numref}`fig-ring-speed`)? The faster the line is wound, the more latents produce the same point, the more modes the posterior has, and the wider the gap. A slower decoder trades a little of the fit for posteriors with less in other modes.
#
# :::{depth-start} the encoder adds an amortization gap and noise, which shrink with longer training
# :::
# With an encoder, an amortization gap of 0.12 ± 0.03 nats comes on top, of 0.04 ± 0.02 after four times as many steps. Only with an encoder does the noise grow, too: it is 0.277 ± 0.006, and 0.212 ± 0.001 after the longer training ({ref}`experiment <exp-ring-bound>`). Both are above the noise of the data. With a quarter of the learning rate the speed is 1.77 ± 0.01, with four times 1.15 ± 0.29.
#
# :::{depth-end}
# :::
#
# **More samples inside the logarithm.** Can the gap be made smaller without a better $q$? The ELBO uses the logarithm of one importance weight. As $\log(1 + \varepsilon) \approx \varepsilon - \varepsilon^2 / 2$, that loses about half of its relative variance. The mean of $K$ weights has a $K$-th of that variance, so it loses less {cite:p}`burda2016`. The bound is known as the importance-weighted bound, or IWAE:
#
# $$
# L_K(x) = \mathbb{E}_{z_1, \dots, z_K \sim q} \log \frac{1}{K} \sum_{k=1}^{K} w_k, \qquad w_k = \frac{p(x, z_k)}{q(z_k \mid x)} .
# $$ (def-k-sample-bound)
#
# A further sample never makes it smaller ({numref}`fig-k-samples`),
#
# $$
# L_K(x) \le L_{K+1}(x) \le \log p(x) ,
# $$ (eq-k-sample-order)
#
# and if the weights have a finite variance, and rare extreme values can be neglected, the gap for large $K$ is {cite:p}`maddison2017,domke2018,nowozin2018`
#
# $$
# \log p(x) - L_K(x) \approx \frac{\operatorname{Var}(w / p(x))}{2 K} .
# $$ (eq-k-sample-gap)
#
# On the ring, training with 50 samples brings the decoder nearer to the data than the best Gaussian for each point does. But its encoder, which has only to cover the posterior, does not approximate it any more: its ELBO is 11 ± 1 nats below that of the best Gaussians ({ref}`experiment <exp-ring-bound>`).
#
# **Check.** The first inequality of {eq}`eq-k-sample-order` holds sample by sample. The second holds for the means, for seven values of $K$. The gap {eq}`eq-k-sample-gap` is the mean of $-\log (1 + u)$ with $u$ added, whose mean is zero, which removes most of the noise.

# %% tags=["check", "nbval-check-output"]
K, num = 200, 20_000
z = q.sample((num, K))
log_w = log_joint(x, z) - q.log_prob(z)
six = log_w[:, :6]
less = [six[:, torch.arange(6) != k].logsumexp(1) - math.log(5) for k in range(6)]
all_six, fewer = six.logsumexp(1) - math.log(6), torch.stack(less).mean(0)
wrong = {"one sample": six[:, 0]}
verify("eq-k-sample-order", fewer, all_six, at_most(1e-12), rejects=wrong)
flat, sizes = log_w.flatten(), torch.tensor([1, 2, 3, 5, 10, 20, 30])
bounds = [
    flat[: num * K // k * k].view(-1, k).logsumexp(1).mean() - math.log(k) for k in sizes.tolist()
]
lower = {"the ELBO": elbo.repeat(7)}
verify("eq-k-sample-order", torch.stack(bounds), log_p.repeat(7), at_most(0.0), rejects=lower)
u = (log_w - log_p).exp().mean(1) - 1
gap = (r_q - 1) / (2 * K)
verify("eq-k-sample-gap", u - u.log1p(), gap, monte_carlo, rejects={"no factor 2": 2 * gap})
narrow, shrinks = Normal(posterior.mean, 0.4**0.5 * posterior.stddev), []
for rough in (q, narrow):
    z = rough.sample((2_000_000,))
    log_weight = log_joint(x, z) - rough.log_prob(z) - log_p
    gaps = [-(log_weight.view(-1, k).logsumexp(1) - math.log(k)).mean() for k in (10, 100)]
    shrinks += [gaps[0] / gaps[1]]
rising = torch.stack([*bounds, log_p]).diff() > 0
print("rises with K and stays below log p(x):", bool(rising.all()))
print("ten times the samples: the gap of q shrinks by more than 8:", bool(shrinks[0] > 8))
print("and that of a narrow q by less than 6:", bool(shrinks[1] < 6))

# %% tags=["figure"] mystnb={"image": {"alt": "The K-sample bound rises from the ELBO at one sample towards the horizontal line of the log-evidence, which it has nearly reached at 30."}, "figure": {"caption": "The bound in the solvable model rises with the number of samples, from the ELBO at $K = 1$ towards the log-evidence.", "name": "fig-k-samples"}}
plots.curves(
    {"K-sample bound": (sizes, torch.stack(bounds)), "log p(x)": (sizes, log_p.repeat(7))},
    x_label="number of samples K",
    y_label="nats",
    log_x=True,
)

# %% [markdown]
# Why not always take many samples? Each is one more call of the decoder, and the encoder learns worse from many ({doc}`chapter 6 <06_vae_training>`; {ref}`chapter 4 <sec-entropy-gradient>` says why).
#
# :::{depth-start} the limit of the bound is the log-likelihood, at a rate that a narrow q spoils
# :::
# On the ring, training with $K = 5$ stops at the speed 1.648 ± 0.003, with $K = 50$ at 1.77 ± 0.01. With $K = 50$ the KL divergence from the data to the model is 0.0070 ± 0.0005 nats, less than with one sample and the best Gaussian for each point ({ref}`experiment <exp-ring-bound>`).
#
# *Proof of the order.* By {eq}`eq-importance` the mean of the weights has mean $p(x)$, or less where $q$ misses a part, so the second inequality is Jensen's. For the first, leave out one of $K + 1$ weights at a time. The mean of all is the mean of these $K + 1$ means of $K$, and the logarithm of a mean is at least the mean of the logarithms. Each of these logarithms has mean $L_K$. $\square$
#
# *The limit.* If the ELBO is finite, and $q > 0$ wherever $p(x, z) > 0$, then $L_K \to \log p(x)$. The mean of the weights tends to $p(x)$ by the law of large numbers. Its logarithm is at least the mean of the $\log w_k$, which converges too, to the ELBO. So the difference of the two is not negative, and tends to $\log p(x) - \mathrm{ELBO}(x)$. By Fatou's lemma the limit of its mean, $L_K(x) - \mathrm{ELBO}(x)$, is no smaller. It is no larger either. $\square$
#
# *The rate.* Let $u$ be the mean of the $w_k / p(x)$ minus one. It has mean zero and variance $\operatorname{Var}(w / p(x)) / K$, and $\mathbb{E} \log (1 + u) \approx \mathbb{E}\, (u - u^2 / 2)$; the next terms are smaller by a factor of order $1 / K$. If the variance of a Gaussian $q$ is less than half of the posterior's, that of the weights is infinite ({ref}`exercise <ex-narrow-guess>`), and the gap shrinks more slowly: with 0.4 of the posterior's variance by less than a factor of six for ten times as many samples.
#
# :::{depth-end}
# :::
#
# *Sources: F01.*

# %% [markdown]
# (sec-proxy)=
# ## What goes wrong: three things that the bound does not promise
#
# **It is no bound on the true log-probability.** The decoder is a network, and the evidence in the bound is the *model's*. For data from $p_{\text{data}} = \mathcal{N}(0, 1)$, the prior $\mathcal{N}(0, 1)$, the decoder $\mathcal{N}(x; z, 1)$ and the exact posterior as $q$, the bound is tight, $\log p_\theta(x) = \log \mathcal{N}(x; 0, 2)$, and
#
# $$
# \mathrm{ELBO}_\theta(x) - \log p_{\text{data}}(x) = \frac{x^2}{4} - \frac{\log 2}{2} ,
# $$ (eq-proxy)
#
# which is positive for all $|x| > \sqrt{2 \log 2} \approx 1.18$. Only on average over the data it cannot be positive: the bound is at most $\log p_\theta(x)$, and by Gibbs' inequality $\mathbb{E} \log p_\theta(x) \le \mathbb{E} \log p_{\text{data}}(x)$.
#
# **Its KL term should not vanish.** Averaged over the data it has two parts {cite:p}`hoffman2016`,
#
# $$
# \mathbb{E}_x D_{\mathrm{KL}}\big(q(z \mid x) \Vert p(z)\big) = I(x; z) + D_{\mathrm{KL}}\big(q(z) \,\Vert\, p(z)\big) ,
# $$ (eq-surgery)
#
# the mutual information of data and latent, and the KL divergence of the {term}`aggregate posterior` $q(z) = \mathbb{E}_x\, q(z \mid x)$ from the prior. The second part should vanish: to generate images we sample $z$ from the prior, but the decoder was trained on latents from $q(z)$. The first should not. If every $q(z \mid x)$ equals the prior, the latent says nothing about the image, which is called {term}`posterior collapse`.
#
# **Raising it may lower the likelihood.** After an exact E-step every M-step that raises the bound is safe. But if there is a gap, the bound may rise only because the gap gets smaller. In the solvable model, start with the best offset, $b = x$, and a $q$ of the posterior's width with mean 3. Below: one exact M-step in $b$ alone.

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

# %% [markdown]
# **Check.** For {eq}`eq-surgery`, $x$ follows the solvable model, with $q(z \mid x) = \mathcal{N}(c\, (x - b) + 0.3, v)$. The aggregate posterior is then Gaussian with mean 0.3, and $I(x; z) = \frac{1}{2} \log (1 + c^2 \operatorname{Var}(x) / v)$.

# %% tags=["check", "nbval-check-output"]
c, v = 0.9 * a / (a**2 + s**2), posterior.variance  # of q(z | x)
signal = c**2 * evidence.variance  # variance of the mean of q over the data
aggregate = Normal(torch.tensor(0.3), (signal + v).sqrt())
information, to_match = 0.5 * (1 + signal / v).log(), kl_divergence(aggregate, prior)
per_image = 0.5 * (v + signal + 0.3**2 - 1 - v.log())
wrong = {"no information": to_match, "mean forgotten": information + to_match - 0.3**2 / 2}
verify("eq-surgery", per_image, information + to_match, rejects=wrong)

# %% tags=["numbers", "nbval-check-output"]
m, offsets = torch.tensor(3.0), (x, x - a * 3.0)  # before and after the M-step
raised = [bound_of(b_now, m) for b_now in offsets]
fallen = [Normal(b_now, (a**2 + s**2) ** 0.5).log_prob(x) for b_now in offsets]
print(f"bound          {raised[0]:7.2f} -> {raised[1]:7.2f}")
print(f"log-likelihood {fallen[0]:7.2f} -> {fallen[1]:7.2f}")

# %% [markdown]
# The bound rises, and the likelihood falls: $b$ follows the wrong latents. For the same reason the higher of two bounds need not belong to the better model: they compare models only as far as their gaps are known.
#
# *Sources: D08.*

# %% [markdown]
# (sec-bits-back)=
# ## The bound as a file size: bits-back coding
#
# What is a nat of the bound good for? With probabilities one can compress: a symbol of probability $p$ takes $-\log_2 p$ bits ({ref}`chapter 2 <sec-kl-definition>`). But our model cannot compute $p(x)$. It can send a latent, in $-\log_2 p(z)$ bits, and then $x$ by the decoder, in $-\log_2 p(x \mid z)$ bits. That is too much: the finer $z$ is written down, the more it takes, although any latent near it would do as well. *Bits-back coding* {cite:p}`hinton1993,townsend2019` uses this freedom. The sender takes bits off the message written so far and lets them, in place of a random generator, choose $z$ from $q$. The receiver decodes $z$ and $x$, computes $q(z \mid x)$, and recovers the bits that chose $z$: $-\log_2 q(z \mid x)$ bits are back. What remains is the bound:
#
# $$
# \begin{aligned}
# \mathbb{E}\, \text{bits} &= \mathbb{E}_q \big[ {-\log_2 p(x \mid z)} - \log_2 p(z) + \log_2 q(z \mid x) \big] \\
# &= -\mathrm{ELBO}(x) / \log 2 .
# \end{aligned}
# $$ (eq-bits-back)
#
# We write a hundred test digits in black and white by the VAE of chapter 6, and read the file back ({numref}`fig-bits-back`).

# %% tags=["serves"]
vae = pretrained("vae-mnist").float()
digits = data.binarize(data.load("mnist", "test").images[:100]).float()
message = Message(2**2048 + random.Random(0).getrandbits(2048))  # random bits to begin with
lengths = [len(message)]
for digit in digits:
    encode(message, vae, digit)
    lengths.append(len(message))

with tempfile.TemporaryDirectory() as folder:
    file = Path(folder) / "digits.bin"
    file.write_bytes(message.state.to_bytes(len(message) // 8 + 1, "big"))
    num_bytes = file.stat().st_size
    received = decompress(vae, file.read_bytes(), len(digits))

# %% [markdown]
# **Check.** The bits of each digit are compared with a hundred samples of its bound. The length without the bits that come back is rejected.

# %% tags=["check", "nbval-check-output", "mnist"]
with torch.no_grad():
    all_terms = [elbo_terms(vae, digits) for _ in range(100)]
bound_bits = -torch.stack([t.elbo for t in all_terms]).mean(0).double() / math.log(2)
pixel_bits = -torch.stack([t.log_likelihood for t in all_terms]).mean(0).double() / math.log(2)
differences = torch.tensor(lengths).diff() - bound_bits
wrong = {"nothing back": (pixel_bits + 500 - bound_bits).mean()}
verify("eq-bits-back", differences, torch.tensor(0.0), monte_carlo, rejects=wrong)
print("every digit is read back as it was:", torch.equal(received, digits))

# %% tags=["figure"] mystnb={"image": {"alt": "Bits of the message over the number of digits. The line of bits-back coding lies on the line of the bound; the line without bits back is about five times as steep."}, "figure": {"caption": "The message, without its first random bits; minus the bound in bits, added up; and the message if no bits come back.", "name": "fig-bits-back"}}
count = torch.arange(101)
lines = {
    "no bits back": (count, torch.cat([torch.zeros(1), (pixel_bits + 500).cumsum(0)])),
    "bits-back coding": (count, torch.tensor(lengths) - lengths[0]),
    "minus the bound": (count, torch.cat([torch.zeros(1), bound_bits.cumsum(0)])),
}
plots.curves(lines, x_label="digits", y_label="bits")

# %% [markdown]
# (The first latents, too, need bits, so the message begins with random ones, which come back at the end.)

# %% tags=["numbers"]
packed = zlib.compress(np.packbits(digits.bool().numpy()).tobytes(), 9)
print("bits per digit")
print(f"pixels as they are      {digits[0].numel():6.1f}")
print(f"zlib, all together      {8 * len(packed) / 100:6.1f}")
print(f"bits-back coding        {(lengths[-1] - lengths[0]) / 100:6.1f}")
print(f"minus the bound         {bound_bits.mean():6.1f}")
print(f"the file, with its random bits: {num_bytes:,} bytes")

# %% [markdown]
# So the bound is a file size: above a code that knew the model's $p(x)$ it takes the gap, 1.44 bits for a nat.
#
# The message is a stack: `_push` adds a value with given probabilities and makes it longer, `_pop` takes one and makes it shorter. Popping a value that was never pushed is what draws a latent from the bits that lie there. `_gaussian`, `_bernoulli` and `_uniform` are $q(z \mid x)$, $p(x \mid z)$ and $p(z)$.

# %% tags=["shown", "nbval-check-output"]
show(encode, docstring=False)

# %% [markdown]
# The stack is an asymmetric numeral system {cite:p}`duda2009`: the whole message is one integer, and a latent has $2^{10}$ values in each dimension, equally probable under the prior.
#
# *Sources: F02.*

# %% [markdown]
# :::{dropdown} If you come from the lectures
# Some lectures and notes on this subject print a plus before the KL divergence in the bound (E1) or the inequality the wrong way around (E2), set a sum over the data equal to a mean (E3), call the bound one on the true probability (E7) or a sample a maximum (E21), exchange the names of prior, likelihood and posterior (E22), lose the bars around a determinant (E23), or have a bar too many (E24). The {doc}`errata page </book/errata>` has the formulas behind the numbers; the checks of this chapter reject them.
# :::

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
# - The evidence of a latent variable model is an integral {eq}`def-evidence`; sampling it from the prior may take exponentially many samples in the dimension.
# - An approximate posterior $q(z \mid x)$ gives a lower bound, the ELBO {eq}`def-elbo`: reconstruction minus KL divergence from the prior {eq}`eq-elbo-terms`. The gap is the KL divergence from $q$ to the posterior {eq}`eq-elbo-gap`.
# - Training by the bound prefers decoders whose posteriors are easy for $q$ {eq}`eq-two-kls`. More samples inside the logarithm close the gap, like $1/K$ at best {eq}`eq-k-sample-gap`.
# - Minus the bound is the length of a file {eq}`eq-bits-back`.
#
# To go on: {cite:t}`blei2017`, {cite:t}`rezende2014`.
