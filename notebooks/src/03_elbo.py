# %% [markdown]
# # The ELBO
#
# A model invents pictures in two steps: it draws a few hidden numbers $z$, and a decoder turns them into a picture $x$. To train it we would like to raise the probability
# of the pictures we have. But that probability is an integral over all the hidden numbers, and nobody can compute it. What can be done?
#
# One can guess. Given a picture, guess which hidden numbers it may have come from, and use the guess to compute something that is *certainly smaller* than the
# log-probability. If the guess is good, it is not much smaller. This something is the evidence lower bound, the {term}`ELBO`, and the rest of the book raises it.

# %% tags=["setup", "hide-input"]
# The set-up cell: tools/notebooks.py writes it.

# %%
import math

import torch
from torch import nn
from torch.distributions import Bernoulli, MultivariateNormal, Normal, kl_divergence

from companion import data, plots
from companion.interactive import Slider
from companion.training import fit, minimize
from companion.verify import (
    at_most,
    exact,
    monte_carlo,
    proportion,
    quadrature,
    verify,
)

_ = torch.manual_seed(0)
torch.set_default_dtype(torch.double)

# %% [markdown]
# Look at these pictures. Each is decided by five hidden numbers: the house's direction, the camera's height, the light, the size and the color.

# %% mystnb={"image": {"alt": "Two rows of eight small pictures of a house on a gray floor, seen from different sides, in different sizes, colors and lights."}, "figure": {"caption": "Five numbers explain each of these pictures, which has 3,072. A good latent variable model would find the five.", "name": "fig-scenes"}}
plots.image_grid(data.scenes(16, seed=1).images, columns=8)

# %% [markdown]
# (sec-latent-models)=
# ## Models with something hidden
#
# A {term}`latent variable` is a variable of the model that is never observed and is not part of the data. A latent variable model needs two laws: a {term}`prior` $p(z)$ that is easy to draw from, and a {term}`likelihood` $p(x \mid z)$, the law of the data once the latent is known. Together they say how to draw an $x$:
# first $z$, then $x$. If $p(x \mid z)$ is computed by a network from $z$, as in every model of this book, one speaks of *deep* latent variables, and calls the network the decoder. The law of $x$ alone is the {term}`evidence`,
#
# $$
# p(x) = \int p(x \mid z)\, p(z)\, \mathrm{d}z .
# $$ (def-evidence)
#
# The hope is twofold. The latent should describe what matters about $x$: in a picture, what stands where, from which side the light comes. And drawing a new $z$ should give a new $x$. For the houses of {numref}`fig-scenes` we know the hidden causes, because we made them.

# %% [markdown]
# **Which prior?** It should be continuous, so that neighbors can mean similar things; easy to draw from; and easy to compare with other laws, since a divergence from it will be part of the loss. Uniform and Gaussian laws qualify. Beyond that the choice matters little, because a decoder can turn one law into another. On the line this is an old trick.
# If $\Phi$ is the distribution function of $\mathcal{N}(0, 1)$ and $F$ the distribution function that we want, then for $z \sim \mathcal{N}(0, 1)$
#
# $$
# \Pr\big( F^{-1}(\Phi(z)) \le t \big) = F(t) .
# $$ (eq-inverse-cdf)
#
# :::{dropdown} Proof
# $\Phi(z)$ is uniform on $[0, 1]$, because $\Pr(\Phi(z) \le u) = \Pr(z \le \Phi^{-1}(u)) = u$. And $F^{-1}(u) \le t$ means $u \le F(t)$. $\square$
# :::
#
# The cell turns normal draws into waiting times with an exponential law, and counts how many fall below a given time.

# %% tags=["nbval-check-output"]
z = torch.randn(200_000)
waiting = (
    -torch.log1p(-torch.special.ndtr(z)) / 0.5
)  # inverse of F(t) = 1 - exp(-t / 2)
t = torch.tensor(1.0)
share, wrong = 1 - (-0.5 * t).exp(), torch.special.ndtr(t)
verify(
    "eq-inverse-cdf",
    (waiting <= t).double(),
    share,
    proportion,
    rejects={"no map": wrong},
)

# %% [markdown]
# In more dimensions a network does the job. Even a decoder of one line can bend a normal law on the line into a ring in the plane; here a little noise of the likelihood is added.

# %% mystnb={"image": {"alt": "Points on a noisy ring in the plane, denser at its left side, drawn by bending a normal law."}, "figure": {"caption": "A latent on the line, a decoder that bends it, and a law in the plane that no bell curve describes.", "name": "fig-ring"}}
z = torch.randn(1500)
ring = torch.stack([torch.cos(2 * z + 3), torch.sin(2 * z + 3)], 1)
plots.scatter(ring + 0.08 * torch.randn(1500, 2), x_label="$x_1$", y_label="$x_2$")

# %% [markdown]
# **A model that can be solved.** For everything that follows we keep a model at hand in which all integrals are known: $z \sim \mathcal{N}(0, 1)$ and $x \mid z \sim \mathcal{N}(a z + b,\, s^2)$. Its evidence is again a normal law,
#
# $$
# p(x) = \mathcal{N}(x;\; b,\; a^2 + s^2) ,
# $$ (eq-linear-evidence)
#
# and so is its {term}`posterior`, the law of the latent after $x$ has been seen,
#
# $$
# p(z \mid x) = \mathcal{N}\Big( z;\; \frac{a (x - b)}{a^2 + s^2},\; \frac{s^2}{a^2 + s^2} \Big) .
# $$ (eq-linear-posterior)
#
# :::{dropdown} Proof
# $x = a z + b + s \varepsilon$ with independent standard normal $z$ and $\varepsilon$: a sum of independent normal variables is normal, and the variances add up. For the posterior, collect the terms of $\log p(x \mid z) + \log p(z)$ in $z$: the precision is $a^2 / s^2 + 1$, the linear coefficient is $a (x - b) / s^2$. $\square$
# :::

# %% tags=["nbval-check-output"]
a, b, s = 1.3, 0.4, 0.5**0.5
x, prior = torch.tensor(0.9), Normal(torch.tensor(0.0), 1.0)
evidence = Normal(torch.tensor(b), (a**2 + s**2) ** 0.5)
posterior = Normal(a * (x - b) / (a**2 + s**2), s / (a**2 + s**2) ** 0.5)


def log_joint(x, z):
    return Normal(a * z + b, s).log_prob(x) + prior.log_prob(z)


grid = torch.linspace(-12, 12, 6_001)
integral = torch.trapezoid(log_joint(x, grid).exp(), grid)
variance_only = {"noise forgotten": Normal(b, a).log_prob(x).exp()}
p_x = evidence.log_prob(x).exp()
verify("eq-linear-evidence", integral, p_x, quadrature, rejects=variance_only)
normalized = log_joint(x, grid).exp() / integral
verify("eq-linear-posterior", normalized, posterior.log_prob(grid).exp(), quadrature)

# %% [markdown]
# **A draw is not the most likely point.** A tutorial says that we want to draw a sample that maximizes $\log p(x)$. Samples do no such thing. For a standard normal law in $n$ dimensions the mode is zero, while
#
# $$
# \log p(\text{mode}) - \mathbb{E} \log p(x) = \frac{n}{2} .
# $$ (eq-mode)
#
# In 784 dimensions a draw is 392 nats less likely than the mode, and it is *always* about that far away: typical pictures are not the most likely ones (entry E21).

# %% tags=["nbval-check-output"]
n = 784
law = Normal(torch.zeros(n), 1.0)
drop = law.log_prob(torch.zeros(n)).sum() - law.log_prob(torch.randn(5_000, n)).sum(1)
verify("eq-mode", drop, n / 2, monte_carlo, rejects={"E21": 0.0})

# %% [markdown]
# *Sources: A14, A16, B07, C04, D01, D03.*

# %% [markdown]
# (sec-tractable)=
# ## Two ways around the integral
#
# Before we bound an integral we should ask whether it can be avoided. Two families of models do, each at a price.
#
# **Autoregressive models** write the law of a vector as a product of conditional laws, one component at a time,
#
# $$
# p(x) = \prod_{i=1}^{n} p(x_i \mid x_1, \dots, x_{i-1}) .
# $$ (eq-autoregressive)
#
# There is nothing hidden, and the log-likelihood is a plain sum. The price: a picture must be drawn one pixel after the other. The smallest such model for binary pixels is a logistic regression of each pixel on the ones before it. All of them together are one matrix without its upper triangle.


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
# Is {eq}`eq-autoregressive` really a probability? For eight pixels with random weights we add it up over all 256 pictures. Without the triangle, each pixel would see itself and the sum is not one.

# %% tags=["nbval-check-output"]
tiny = PixelByPixel(8)
_ = nn.init.normal_(tiny.W), nn.init.normal_(tiny.b)
pictures = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 8)
total = tiny.log_prob(pictures).exp().sum()
cheating = Bernoulli(logits=pictures @ tiny.W.T + tiny.b).log_prob(pictures).sum(-1)
verify(
    "eq-autoregressive",
    total,
    1.0,
    rejects={"pixels that see themselves": cheating.exp().sum()},
)

# %% [markdown]
# On real digits of 8 × 8 pixels, made black and white, its exact log-likelihood can be compared with that of independent pixels. Seeing the neighbors is worth many nats.

# %%
train, test = (
    (data.load("digits", split).images.flatten(1) > 0.5).double()
    for split in ("train", "test")
)
model = PixelByPixel(64)
batches = data.Batches(train, batch_size=128, num_epochs=60)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for _ in fit(model, lambda model, x: -model.log_prob(x), batches, optimizer):
    pass

# %% tags=["nbval-check-output"]
share = ((train.sum(0) + 1) / (len(train) + 2)).clamp(1e-3, 1 - 1e-3)
independent = Bernoulli(share).log_prob(test).sum(1)
gain = (model.log_prob(test).detach() - independent).mean()
print("better than independent pixels by more than 5 nats per digit:", bool(gain > 5))

# %% [markdown]
# **Normalizing flows** keep the latent but make the decoder one-to-one. If $x = f(z)$ with an invertible $f$, the density of $x$ follows from the change of variables,
#
# $$
# \log p(x) = \log p_z\big(f^{-1}(x)\big) + \log \Big| \det \frac{\partial f^{-1}(x)}{\partial x} \Big| .
# $$ (eq-flow)
#
# The price: latent and data have the same dimension, and every layer must be invertible. The bars matter: a determinant may be negative, as it is for the map below, which swaps and stretches the axes. One of our sources prints the formula without them (entry E23).

# %% tags=["nbval-check-output"]
A, shift = torch.tensor([[0.3, 1.2], [0.9, -0.4]]), torch.tensor([0.5, -1.0])
points = torch.randn(100, 2)
exact_log_p = MultivariateNormal(shift, A @ A.T).log_prob(points)

z = torch.linalg.solve(A, (points - shift).T).T
det = A.inverse().det()
flow = prior.log_prob(z).sum(1) + det.abs().log()
verify(
    "eq-flow", flow, exact_log_p, rejects={"E23": prior.log_prob(z).sum(1) + det.log()}
)

# %% [markdown]
# A flow need not be linear. This one stretches and shifts one coordinate by functions of the other; its density is no longer Gaussian, and it still integrates to one.


# %% tags=["nbval-check-output"]
def banana_log_p(x):
    """Density of (z_1, z_2 exp(z_1 / 2) + z_1^2 - 1) for standard normal z."""
    z_1, scale = x[:, 0], (x[:, 0] / 2).exp()
    z_2 = (x[:, 1] - z_1**2 + 1) / scale
    return prior.log_prob(z_1) + prior.log_prob(z_2) - scale.log()


side = torch.linspace(-9, 9, 601), torch.linspace(-60, 90, 6_001)
mesh = torch.cartesian_prod(*side)
inner = torch.trapezoid(banana_log_p(mesh).exp().view(601, -1), side[1])
verify("eq-flow", torch.trapezoid(inner, side[0]), 1.0, quadrature.within(1e-6))

# %% [markdown]
# *Sources: A15, B04.*

# %% [markdown]
# (sec-impossible-integral)=
# ## The impossible integral
#
# Back to models with a free decoder. Since {eq}`def-evidence` is a mean over the prior, one can draw latents and average,
#
# $$
# p(x) = \mathbb{E}_{z \sim p(z)}\, p(x \mid z) .
# $$ (eq-prior-sampling)
#
# The estimate is unbiased in every dimension. It is also useless in most: almost all latents drawn blindly have nothing to do with $x$. We use the solvable model in $n$ dimensions, all alike, and measure the standard deviation of one sample in units of the truth.

# %% tags=["nbval-check-output"]
z = torch.randn(1_000_000)
samples = Normal(a * z + b, s).log_prob(x).exp()
at_mean = Normal(b, s).log_prob(x).exp()
verify(
    "eq-prior-sampling",
    samples,
    p_x,
    monte_carlo,
    rejects={"likelihood at z = 0": at_mean},
)

# %% [markdown]
# In the figure the relative spread grows by a constant factor with each dimension. With a hundred dimensions no computer could average it away.

# %% mystnb={"image": {"alt": "On a logarithmic axis, the relative standard deviation of the prior estimate rises as a straight line with the dimension, over many orders of magnitude."}, "figure": {"caption": "Relative standard deviation of one sample of the prior estimate, for the solvable model in n independent dimensions.", "name": "fig-prior-spread"}}
relative = (samples.square().mean() / p_x**2).item()
dimensions = torch.arange(1, 101)
spread = (relative**dimensions - 1).sqrt()
plots.curves(
    {"one latent drawn from the prior": (dimensions, spread)},
    x_label="dimension of the latent",
    y_label="relative standard deviation",
    log_y=True,
)

# %% [markdown]
# Could Bayes' rule help? It holds for *every* $z$ that
#
# $$
# p(x) = \frac{p(x \mid z)\, p(z)}{p(z \mid x)} ,
# $$ (eq-bayes-identity)
#
# so one latent would do, if only we knew the posterior. We do not, because its normalization is $p(x)$. But suppose we have a guess $q(z \mid x)$, the {term}`encoder`. Putting it in the place of the posterior gives a number that does depend on $z$, and is right on average:
#
# $$
# p(x) = \mathbb{E}_{z \sim q(z \mid x)} \frac{p(x \mid z)\, p(z)}{q(z \mid x)} .
# $$ (eq-importance)
#
# :::{dropdown} Proof
# Write the mean as an integral; $q$ cancels, provided that it is positive wherever the numerator is. $\square$
# :::

# %% tags=["nbval-check-output"]
z = torch.linspace(-3, 3, 7)
ratio = (log_joint(x, z) - posterior.log_prob(z)).exp()
wrong = {"prior for posterior": Normal(a * z + b, s).log_prob(x).exp()}
verify("eq-bayes-identity", ratio, p_x.repeat(7), rejects=wrong)

# %% [markdown]
# Now with a guess that is a little shifted and too wide. The relative spread of one sample is far smaller than with the prior.

# %% tags=["nbval-check-output"]
q = Normal(posterior.mean + 0.2, 1.3 * posterior.stddev)
z = q.sample((400_000,))
weights = (log_joint(x, z) - q.log_prob(z)).exp()
wrong = {"q forgotten": log_joint(x, z).exp().mean()}
verify("eq-importance", weights, p_x, monte_carlo, rejects=wrong)
print(f"relative spread with this q: {weights.std() / p_x:.2f}")
print(f"relative spread with the prior: {samples.std() / p_x:.2f}")

# %% [markdown]
# A good guess beats blind drawing. A *bad* one can be worse than useless: if $q$ is too narrow, rare draws carry enormous weights. How narrow is too narrow, {ref}`an exercise <ex-narrow-guess>` derives.
#
# *Sources: A17, B09, B10.*

# %% [markdown]
# (sec-elbo)=
# ## The bound, derived three times
#
# The importance weight in {eq}`eq-importance` is an estimate of $p(x)$. Take its logarithm *before* the mean, and you have the central quantity of this book,
#
# $$
# \mathrm{ELBO}(x) = \mathbb{E}_{z \sim q(z \mid x)} \big[ \log p(x \mid z) + \log p(z) - \log q(z \mid x) \big] .
# $$ (def-elbo)
#
# **First derivation: Jensen.** The mean of a logarithm is at most the logarithm of the mean. With {eq}`eq-importance` this is
#
# $$
# \mathrm{ELBO}(x) \le \log p(x) .
# $$ (eq-elbo-bound)
#
# **Second derivation: the gap.** How much is lost? Exactly the divergence of the guess from the true posterior,
#
# $$
# \log p(x) - \mathrm{ELBO}(x) = D_{\mathrm{KL}}\big( q(z \mid x) \,\Vert\, p(z \mid x) \big) .
# $$ (eq-elbo-gap)
#
# **Third derivation: the log-ratio.** Start from $\log p(x)$, take the mean over $q$, which changes nothing, multiply and divide by $q$, and sort the terms:
#
# $$
# \begin{aligned}
# \log p(x) &= \mathbb{E}_q \log \frac{p(x \mid z)\, p(z)}{p(z \mid x)} = \mathbb{E}_q \log \frac{p(x \mid z)\, p(z)}{p(z \mid x)} \frac{q(z \mid x)}{q(z \mid x)} \\
# &= \mathbb{E}_q \log p(x \mid z) - D_{\mathrm{KL}}\big(q(z \mid x) \Vert p(z)\big) + D_{\mathrm{KL}}\big(q(z \mid x) \Vert p(z \mid x)\big) .
# \end{aligned}
# $$ (eq-log-ratio)
#
# The last term cannot be computed, but it is not negative. Without it, the line reads
#
# $$
# \mathrm{ELBO}(x) = \mathbb{E}_q \log p(x \mid z) - D_{\mathrm{KL}}\big( q(z \mid x) \,\Vert\, p(z) \big) .
# $$ (eq-elbo-terms)
#
# :::{dropdown} Proof of the gap
# $\log p(x \mid z) + \log p(z) = \log p(x) + \log p(z \mid x)$ by Bayes' rule. Insert this into {eq}`def-elbo`; the mean of $\log p(x)$ is itself, and the rest is $-D_{\mathrm{KL}}(q \Vert p(z \mid x))$. $\square$
# :::
#
# The first term of {eq}`eq-elbo-terms` asks the decoder to explain $x$ from the guessed latents, the second keeps the guess close to the prior. Both can be estimated and differentiated. In the solvable model all terms have closed forms, so the cell can check every line, and the sign: one of our sources prints the last formula with a plus (E1) and the inequality the wrong way around (E2).


# %% tags=["nbval-check-output"]
def expected_log_likelihood(q, x, b=b):
    """E_q log N(x; a z + b, s^2), for a normal q."""
    square = (x - a * q.mean - b) ** 2 + a**2 * q.variance
    return -0.5 * math.log(2 * math.pi * s**2) - square / (2 * s**2)


reconstruction, to_prior = expected_log_likelihood(q, x), kl_divergence(q, prior)
to_posterior = kl_divergence(q, posterior)
elbo, log_p = reconstruction - to_prior, evidence.log_prob(x)

z = q.sample((1_000_000,))
samples = log_joint(x, z) - q.log_prob(z)
plus = {"E1": reconstruction + to_prior}
verify("eq-elbo-terms", samples, elbo, monte_carlo, rejects=plus)

# %% [markdown]
# And the three statements about $\log p(x)$:

# %% tags=["nbval-check-output"]
verify("eq-elbo-bound", elbo, log_p, at_most(0.0), rejects={"E2": elbo - to_posterior})
wrong = {"gap to the prior": to_prior}
verify("eq-elbo-gap", log_p - elbo, to_posterior, rejects=wrong)
verify("eq-log-ratio", log_p, reconstruction - to_prior + to_posterior)

# %% [markdown]
# Move the slider to shift the guess. The bound touches $\log p(x)$ at one place, where $q$ is the posterior; elsewhere the distance is the divergence, to the last digit.


# %%
def bound(shift):
    fig, (left, right) = plots.figure(columns=2, height=2.9)
    means = torch.linspace(-1.5, 2.5, 81)
    family = Normal(means, posterior.stddev)
    values = expected_log_likelihood(family, x) - kl_divergence(family, prior)
    q = Normal(posterior.mean + shift, posterior.stddev)
    laws = {"posterior": posterior.log_prob(grid).exp(), "q": q.log_prob(grid).exp()}
    seen = (grid > -2) & (grid < 3)
    _ = plots.curves(
        {name: (grid[seen], y[seen]) for name, y in laws.items()},
        x_label="z",
        y_label="density",
        axes=left,
    )
    lines = {"log p(x)": (means, log_p.repeat(81)), "ELBO": (means, values)}
    gap = (q.mean.repeat(2), torch.stack([log_p, log_p - kl_divergence(q, posterior)]))
    _ = plots.curves(
        lines | {"gap": gap}, x_label="mean of q", y_label="nats", axes=right
    )
    return fig


# %%
Slider.over(
    torch.linspace(-1.5, 1.5, 13),
    bound,
    description="shift of the guess",
    label="{:.2f}",
    alt="Left, posterior and guess. Right, the bound with its gap at shift {:.2f}",
    start=10,
)

# %% [markdown]
# **Two more readings.** Write $H(q)$ for the entropy of the guess. Then
#
# $$
# \mathrm{ELBO}(x) = \mathbb{E}_q \log p(x, z) + H(q) ,
# $$ (eq-elbo-entropy)
#
# so the guess is pulled to the peak of the joint law by the first term, and kept from collapsing on it by the second. And for a training set $x_1, \dots, x_N$ the bounds add up,
#
# $$
# \sum_{i} \mathrm{ELBO}(x_i) = \sum_i \log p(x_i) - \sum_i D_{\mathrm{KL}}\big( q(z \mid x_i) \,\Vert\, p(z \mid x_i) \big) .
# $$ (eq-dataset-bound)
#
# Either all three are sums or all three are means over the training set. The slides mix a sum with a mean (entry E3).

# %% tags=["nbval-check-output"]
mean_log_prior = -0.5 * (math.log(2 * math.pi) + q.mean**2 + q.variance)
joint = expected_log_likelihood(q, x) + mean_log_prior
minus = {"minus entropy": joint - q.entropy()}
verify("eq-elbo-entropy", elbo, joint + q.entropy(), rejects=minus)

# %% [markdown]
# The second one on fifty data points, each with a guess of its own:

# %% tags=["nbval-check-output"]
xs = evidence.sample((50,))
posteriors = Normal(a * (xs - b) / (a**2 + s**2), posterior.stddev)
guesses = Normal(0.8 * posteriors.mean, 0.6)
elbos = expected_log_likelihood(guesses, xs) - kl_divergence(guesses, prior)
log_ps, gaps = evidence.log_prob(xs), kl_divergence(guesses, posteriors)
mixed = {"E3": log_ps.sum() - gaps.mean()}
verify("eq-dataset-bound", elbos.sum(), log_ps.sum() - gaps.sum(), rejects=mixed)

# %% [markdown]
# *Sources: A18, A19, A21, B11, D06.*

# %% [markdown]
# (sec-proxy)=
# ## What exactly is bounded?
#
# The decoder in {eq}`eq-elbo-terms` is a network with weights $\theta$, not the true law of $x$ given $z$; there may be no true one. So the evidence in the bound is the *model's*, $\log p_\theta(x) = \log \int p_\theta(x \mid z)\, p(z)\, \mathrm{d}z$. A tutorial replaces the true likelihood by its proxy and still calls the result a bound on the true $\log p(x)$. It is not. Let the data be standard normal and the decoder $p_\theta(x \mid z) = \mathcal{N}(x; z, 1)$, with the exact posterior as $q$. The bound is tight,
# $\log p_\theta(x) = \log \mathcal{N}(x; 0, 2)$, and
#
# $$
# \mathrm{ELBO}_\theta(x) - \log p(x) = \frac{x^2}{4} - \frac{\log 2}{2} ,
# $$ (eq-proxy)
#
# which is positive for all $|x| > \sqrt{2 \log 2} \approx 1.18$. There the "lower bound" lies above (entry E7). On the average over the data it cannot, since that is Gibbs' inequality.

# %% tags=["nbval-check-output"]
far = torch.tensor([1.5, 3.0])
exact_q = Normal(far / 2, 0.5**0.5)
reconstruction = -0.5 * math.log(2 * math.pi) - ((far - exact_q.mean) ** 2 + 0.5) / 2
excess = reconstruction - kl_divergence(exact_q, prior) - prior.log_prob(far)
rule, bounded = exact.on_scale(1.0), {"E7": torch.zeros(2)}  # at most zero, if a bound
verify("eq-proxy", excess, far**2 / 4 - math.log(2) / 2, rule, rejects=bounded)

p, log_model = prior.log_prob(grid).exp(), Normal(0.0, 2**0.5).log_prob(grid)
average = torch.trapezoid(p * (log_model - prior.log_prob(grid)), grid)
print(f"excess at x = 3: {excess[1]:.3f} nats")
print(f"on average over the data: {average:.3f} nats")

# %% [markdown]
# *Sources: D08.*

# %% [markdown]
# (sec-surgery)=
# ## What the second term does to all the data
#
# The divergence $D(q(z \mid x) \Vert p(z))$ is paid for every $x$. Does training want it to vanish? Averaged over the data, it splits into two parts,
#
# $$
# \mathbb{E}_x D_{\mathrm{KL}}\big(q(z \mid x) \Vert p(z)\big) = I(x; z) + D_{\mathrm{KL}}\big(q(z) \,\Vert\, p(z)\big) .
# $$ (eq-surgery)
#
# The first is the mutual information of data and latent, what the code says about the picture. The second compares the *aggregate* of all guesses, $q(z) = \mathbb{E}_x\, q(z \mid x)$, with the prior. So "the encoder should match the prior" is right for the aggregate and wrong for single pictures: if every guess equals the prior, the code says nothing at all.
#
# :::{dropdown} Proof
# $\log \frac{q(z \mid x)}{p(z)} = \log \frac{q(z \mid x)}{q(z)} + \log \frac{q(z)}{p(z)}$. Take the mean over $x$ and $z$: the first is the divergence of the joint law from the product of its marginals, the second depends on $z$ alone. $\square$
# :::

# %% tags=["nbval-check-output"]
slope, variance = 0.9 * a / (a**2 + s**2), posterior.variance  # of q(z | x)
signal = slope**2 * evidence.variance  # variance of the mean of q over the data
aggregate = Normal(torch.tensor(0.0), (signal + variance).sqrt())
information = 0.5 * (1 + signal / variance).log()

per_picture = 0.5 * (variance + signal - 1 - variance.log())
total = information + kl_divergence(aggregate, prior)
verify(
    "eq-surgery",
    per_picture,
    total,
    rejects={"no information": kl_divergence(aggregate, prior)},
)

# %% [markdown]
# (sec-k-samples)=
# ## More draws, a tighter bound
#
# One weight gives the ELBO. The mean of $K$ weights inside the logarithm gives a better bound {cite:p}`burda2016`,
#
# $$
# \mathcal{L}_K(x) = \mathbb{E}_{z_1, \dots, z_K \sim q} \log \frac{1}{K} \sum_{k=1}^{K} w_k, \qquad w_k = \frac{p(x, z_k)}{q(z_k \mid x)} .
# $$ (def-k-sample-bound)
#
# It rises with $K$ and tends to $\log p(x)$; for large $K$ the gap is governed by the variance of the normalized weights,
#
# $$
# \log p(x) - \mathcal{L}_K(x) \approx \frac{\operatorname{Var}(w / p(x))}{2 K} .
# $$ (eq-k-sample-gap)
#
# :::{dropdown} Why
# Let $u$ be the mean of the $w_k / p(x)$ minus one. It has mean zero and variance $\operatorname{Var}(w / p(x)) / K$, and $\mathbb{E} \log (1 + u) \approx \mathbb{E}\, (u - u^2 / 2)$. $\square$
# :::
#
# The cell subtracts $u$, whose mean is known to be zero, from each sample: the estimate keeps its mean and loses most of its noise.

# %% tags=["nbval-check-output"]
K, n = 200, 20_000
z = q.sample((n, K))
u = (log_joint(x, z) - q.log_prob(z) - log_p).exp().mean(1) - 1
gap = (weights / p_x).var() / (2 * K)
verify(
    "eq-k-sample-gap", u - u.log1p(), gap, monte_carlo, rejects={"no factor 2": 2 * gap}
)

# %% mystnb={"image": {"alt": "The K-sample bound rises from the ELBO at one sample towards the horizontal line of the log-evidence, which it has nearly reached at 30."}, "figure": {"caption": "From the ELBO, at K = 1, to the log-evidence.", "name": "fig-k-samples"}}
log_w = (log_joint(x, z) - q.log_prob(z)).flatten()
sizes = torch.tensor([1, 2, 3, 5, 10, 20, 30])
bounds = [
    log_w[: n * K // k * k].view(-1, k).logsumexp(1).mean() - math.log(k)
    for k in sizes.tolist()
]
plots.curves(
    {
        "K-sample bound": (sizes, torch.stack(bounds)),
        "log p(x)": (sizes, log_p.repeat(7)),
    },
    x_label="number of draws K",
    y_label="nats",
    log_x=True,
)

# %% [markdown]
# Each further draw in {numref}`fig-k-samples` can only help:

# %% tags=["nbval-check-output"]
print("rises with K:", bool((torch.stack(bounds).diff() > 0).all()))

# %% [markdown]
# (sec-variational-em)=
# ## Raising the bound in turns
#
# The bound has two arguments, the model's weights $\theta$ and the guess $q$. {term}`Variational EM <variational EM>` raises it in one of them at a time:
#
# - **E-step**: for the present $\theta$, set $q(z \mid x) = p_\theta(z \mid x)$. By {eq}`eq-elbo-gap` the gap closes.
# - **M-step**: for the present $q$, maximize $\mathbb{E}_q \log p_\theta(x, z)$ in $\theta$, which is fitting a model with everything observed.
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
# The classical example is a mixture of two normal laws with unknown weights, means and variances; the latent says which of the two a point came from. Both steps are three lines.

# %%
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
# Forty rounds from a poor start. After each half-step we note the log-likelihood and the bound.


# %%
def em_bound(points, q, *parameters):
    joint = mixture_log_joint(points, *parameters)
    return ((q * joint).sum() - torch.xlogy(q, q).sum()).item()


start = torch.tensor(
    [[0.5, 0.5], [-0.5, 0.0], [3.0, 1.0]]
)  # weights, means, deviations
history, likelihoods, after_e, after_m = [start], [], [], []
for _ in range(40):
    likelihoods += [mixture_log_joint(points, *history[-1]).logsumexp(1).sum().item()]
    q_em = e_step(points, *history[-1])
    after_e += [em_bound(points, q_em, *history[-1])]
    history += [torch.stack(m_step(points, q_em))]
    after_m += [em_bound(points, q_em, *history[-1])]

# %% tags=["nbval-check-output"]
verify("eq-em", after_e, likelihoods)
verify("eq-em", likelihoods[:-1], after_m[:-1], at_most(1e-9))
verify("eq-em", after_m[:-1], likelihoods[1:], at_most(1e-9))

# %% mystnb={"image": {"alt": "The log-likelihood rises, rests on a plateau for some rounds, rises again and levels off. The bound after each M-step lies below it, most where it rises fastest."}, "figure": {"caption": "Variational EM on a mixture. The bound after an M-step lies below the log-likelihood; the next E-step lifts it to the curve.", "name": "fig-em"}}
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
# The plateau in {numref}`fig-em` is the time the two components need to part. Watch them, round by round:


# %%
def fit_after(number):
    def density(x):
        return mixture_log_joint(x, *history[number]).logsumexp(1).exp()

    return plots.histogram({"data": points}, x_label="x", bins=30, density=density)


# %%
Slider.over(
    [0, 1, 2, 4, 6, 8, 10, 12, 14, 17, 20, 30],
    fit_after,
    description="rounds of EM",
    label="{:d}",
    alt="Histogram of the data and the mixture's density after {:d} rounds",
    start=4,
)

# %% [markdown]
# **Coordinate ascent, seen from above.** In the solvable model let the offset $b$ be the only weight and the mean $v$ of the guess the only freedom of $q$, with one data point. The bound is then a hill over the plane of $b$ and $v$, and the two steps walk along its axes.


# %%
def bound_of(b, v):
    guess = Normal(v, posterior.stddev)
    return expected_log_likelihood(guess, x, b) - kl_divergence(guess, prior)


path = [torch.tensor([3.0, 1.2])]
for _ in range(12):
    b_now = x - a * path[-1][1]  # M-step
    path += [torch.stack([b_now, path[-1][1]])]
    path += [torch.stack([b_now, a * (x - b_now) / (a**2 + s**2)])]  # E-step
path = torch.stack(path)

# %% [markdown]
# The staircase on the hill:

# %% mystnb={"image": {"alt": "Elliptic contours of the bound in the plane of the offset b and the guess v, tilted against the axes, with a staircase path that climbs to the top."}, "figure": {"caption": "The bound over its two arguments. Each step maximizes along one axis; the path is a staircase.", "name": "fig-staircase"}}
fig, (axes,) = plots.figure(height=3.0)
words = {"x_label": "offset b", "y_label": "mean v of q", "value_label": "exp(bound)"}
plane = (-2.0, 3.5, -0.6, 1.5)
_ = plots.density2d(lambda p: bound_of(*p.T), plane, **words, axes=axes)
_ = axes.plot(path[:, 0], path[:, 1], color="#d55e00", linewidth=2)
fig

# %% [markdown]
# **Inexact steps.** The slides remark that inexact steps are fine, since the bound is global. The *bound* rises, yes. The likelihood need not. Start with the best possible offset, $b = x$, and a bad guess, $v = 3$. One exact M-step raises the bound by many nats, and the likelihood falls: the model was bent to fit a wrong guess.


# %% tags=["nbval-check-output"]
def likelihood_of(b):
    return Normal(b, (a**2 + s**2) ** 0.5).log_prob(x)


v = torch.tensor(3.0)
before, after = x, x - a * v
print(f"bound      {bound_of(before, v):7.2f} -> {bound_of(after, v):7.2f}")
print(f"likelihood {likelihood_of(before):7.2f} -> {likelihood_of(after):7.2f}")

# %% [markdown]
# *Sources: A20, A22.*

# %% [markdown]
# (sec-amortized)=
# ## One guess for all: amortization
#
# In EM every data point has its own $q$, found by its own optimization. With a million pictures one trains *one* network instead, the encoder, which takes $x$ and returns the mean and the standard deviation of $q(z \mid x)$. This is {term}`amortized inference`: the cost of guessing is paid once, in training. In the solvable model the best encoder is affine, and a network of one layer can learn it from the bound alone, by climbing {eq}`eq-elbo-terms`. No one tells it the posterior.

# %% tags=["nbval-check-output"]
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
# Two ingredients are missing before a real model can be trained this way. The mean over $q$ in {eq}`eq-elbo-terms` has no closed form with a real decoder, so it must be estimated from draws; and the gradient must find its way *through* the draw to the encoder. That is the next chapter's subject.
#
# *Sources: A22.*

# %% [markdown]
# (sec-elbo-exercises)=
# ## Exercises
#
# Replace the three dots by your answer and run the cell. The solvable model has $a = 1.3$, $b = 0.4$, $s^2 = 0.5$ wherever numbers are asked for.

# %% tags=["nbval-check-output"]
from companion.exercises import elbo as exercises

# %% [markdown]
# ```{exercise-start} The bound by hand
# :label: ex-elbo-closed-form
# ```
# Write the bound of the model $z \sim \mathcal{N}(0, 1)$, $x \mid z \sim \mathcal{N}(z, 1)$ for the guess $q = \mathcal{N}(m, v)$ with variance $v$, as a function of $x$, $m$ and $v$.


# %% tags=["nbval-check-output"]
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
# The expected square is $(x - m)^2 + v$; the divergence is {eq}`eq-kl-diagonal`.


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
# The guess has the right variance, $v = s^2 / (a^2 + s^2)$, but its mean is off by 0.5. How large is the gap between $\log p(x)$ and the bound, in nats?

# %% tags=["nbval-check-output"]
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
# Two normal laws of equal variance $v$ and means $\delta$ apart diverge by $\delta^2 / 2 v$.

# %% tags=["nbval-check-output"]
exercises.check_shift(0.5**2 / (2 * 0.5 / (1.3**2 + 0.5)))

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Too narrow a guess
# :label: ex-narrow-guess
# ```
# Below which ratio of the guess's variance to the posterior's do the importance weights have an infinite variance? Both are normal with the same mean.

# %% tags=["nbval-check-output"]
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
# How many free numbers does the pixel-by-pixel model have for $n$ binary pixels, and how many has a table of all probabilities? Write both as a function of $n$.


# %% tags=["nbval-check-output"]
def counts(n):
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
# One bias per pixel and one weight per earlier pixel; the table has $2^n$ entries that add up to one.


# %% tags=["nbval-check-output"]
def counts(n):
    return n + n * (n - 1) // 2, 2**n - 1


exercises.check_counts(counts)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} The density of a log-normal
# :label: ex-log-normal-flow
# ```
# Let $x = e^{z}$ with $z \sim \mathcal{N}(0, 1)$. Use {eq}`eq-flow` to write $\log p(x)$.


# %% tags=["nbval-check-output"]
def log_p(x):
    return ...


exercises.check_log_normal(log_p)

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
def log_p(x):
    return Normal(0.0, 1.0).log_prob(x.log()) - x.log()


exercises.check_log_normal(log_p)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} An E-step
# :label: ex-e-step
# ```
# A mixture has weights 0.3 and 0.7, means $-1$ and 2, and standard deviations 1 and 0.5. Write the E-step: the probabilities of both components given each point of a vector.


# %% tags=["nbval-check-output"]
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
# - A latent variable model has an evidence that is an integral {eq}`def-evidence`; blind sampling of it fails in high dimension. Autoregressive models and flows avoid the integral and pay with speed or with dimension.
# - With a guess $q(z \mid x)$ there is a lower bound {eq}`def-elbo`. The gap is the divergence of the guess from the posterior {eq}`eq-elbo-gap`.
# - The bound is reconstruction minus divergence from the prior {eq}`eq-elbo-terms`. It bounds the evidence of the *model*.
# - It is raised in the model and in the guess. With exact steps in turns the likelihood never falls {eq}`eq-em`; with a bad guess it may.
# - More draws inside the logarithm tighten it {eq}`eq-k-sample-gap`.
#
# **What the sources say, and where they need care.** The slides print the divergence with a plus sign (E1), the inequality the wrong way around (E2), a sum equated to a mean (E3), the change of variables without bars (E23) and a stray bar in a formula (E24); their slide on the reparameterization trick has the right sign. The tutorial bounds the wrong evidence (E7), takes a sample for the mode (E21), and exchanges the names of prior, likelihood and posterior in places (E22). All of them are on the {doc}`errata page </book/errata>`. The second
# lecture says that the encoder should match the prior; {eq}`eq-surgery` says in which sense.
#
# **To read next.** {cite:t}`kingma2014` and {cite:t}`rezende2014`, where the bound met the network; {cite:t}`burda2016` for the $K$-sample bound.
