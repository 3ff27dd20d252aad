# %% [markdown]
# # Reparameterization
#
# To raise the bound of the last chapter, we need its gradient in the parameters of the encoder. But the bound is an average over samples that the encoder itself makes, and a sample comes out of a random generator, which has no derivative. How do we differentiate an average, if the parameters decide what is averaged over? Nor has the average a closed form, as a network stands inside; but for gradient ascent an unbiased estimate will do.

# %% tags=["setup", "hide-input"]
# The set-up cell: `make sync` writes it.

# %% tags=["unseen"]
import math

import torch
from torch import nn
from torch.distributions import Gamma, LogNormal, Normal, kl_divergence
from torch.func import grad, jacrev, vmap
from torch.nn.functional import softplus

from companion import data
from companion.distributions import diagonal_normal
from companion.elbo import elbo_terms
from companion.experiments import record_of
from companion.page import plots
from companion.page.exercises import reparameterization as exercises
from companion.page.verify import (
    autograd,
    binomial,
    exact,
    monte_carlo,
    quadrature,
    variance,
    verify,
)
from companion.training import fit, minimize
from companion.vae import Vae, mlp_vae
from companion.zoo import pretrained

_ = torch.manual_seed(0)
torch.set_default_dtype(torch.double)

# %% tags=["figure"] mystnb={"image": {"alt": "Two panels of dots around the same black cross. On the left the cloud is large and bent, on the right small and compact."}, "figure": {"caption": "500 estimates of one gradient, each from ten samples, by two estimators with the same mean, the true gradient (cross).", "name": "fig-two-clouds"}}
mu, sigma = torch.tensor(0.4), torch.tensor(1.3)
noise = torch.randn(500, 10)
z = mu + sigma * noise
score = torch.stack([noise / sigma, (noise**2 - 1) / sigma], -1)
path = torch.stack([torch.ones_like(noise), noise], -1)
both = {"score function": z[..., None] ** 2 * score, "reparameterized": 2 * z[..., None] * path}
fig, panels = plots.figure(2, height=2.8)
words = {"x_label": r"estimate of $\partial / \partial \mu$"}
words["y_label"] = r"estimate of $\partial / \partial \sigma$"
low, high = torch.tensor([[-5, -2], [7, 11]])
for axes, (name, estimates) in zip(panels, both.items(), strict=True):
    dots = estimates.mean(1)
    _ = plots.scatter(dots, **words, bounds=(-5, 7, -2, 11), axes=axes)
    _ = axes.plot(2 * mu, 2 * sigma, "+", color="black", markersize=14)
    outside = ((dots < low) | (dots > high)).any(1).sum()
    _ = axes.set_title(f"{name} ({outside} of 500 outside)")
fig

# %% [markdown]
# {numref}`fig-two-clouds` has two answers, for $\mathbb{E}\, z^2$ with $z \sim \mathcal{N}(\mu, \sigma^2)$. The *score-function estimator* uses how the probabilities of the samples change; the *reparameterized* or {term}`path-wise <path-wise gradient>` one, how the samples move. The second varies less here, and trains variational autoencoders.
#
# :::{admonition} The idea
# Write the sample as a smooth function of the parameters and of noise that knows nothing of them, $z = \mu + \sigma \varepsilon$ with $\varepsilon \sim \mathcal{N}(0, 1)$. A Gaussian that is stretched and shifted is a Gaussian, so $z$ has the same distribution as before. But the parameters no longer decide what is averaged over, gradient and average may be exchanged, and a single sample gives an unbiased gradient.
# :::

# %% [markdown]
# (sec-two-gradients)=
# ## Two gradients of one bound
#
# Training a variational autoencoder means finding
#
# $$
# \begin{aligned}
# (\theta^*, \phi^*) &= \operatorname*{arg\,max}_{\theta,\, \phi} \; \sum_{i=1}^N \mathrm{ELBO}_{\theta, \phi}(x_i), \\
# \mathrm{ELBO}_{\theta, \phi}(x) &= \mathbb{E}_{q_\phi(z \mid x)} \big[ \log p_\theta(x, z) - \log q_\phi(z \mid x) \big] .
# \end{aligned}
# $$ (def-vae-objective)
#
# **In $\theta$ it is easy.** The distribution that is averaged over does not contain $\theta$, so the gradient goes under the integral (which we assume to be allowed):
#
# $$
# \nabla_\theta\, \mathrm{ELBO}_{\theta, \phi}(x) = \mathbb{E}_{q_\phi(z \mid x)} \nabla_\theta \log p_\theta(x, z) .
# $$ (eq-gradient-theta)
#
# Sample $z$ from the encoder, differentiate as if $z$ were data, and average: an unbiased {term}`Monte Carlo estimate <Monte Carlo estimate>`.
#
# **In $\phi$ the same recipe loses a term.** Write the expectation of any $f_\phi(z)$ as an integral. Both factors contain $\phi$, so the derivative follows the product rule:
#
# $$
# \nabla_\phi \int q_\phi(z)\, f_\phi(z)\, \mathrm{d}z = \underbrace{\int \nabla_\phi q_\phi(z)\; f_\phi(z)\, \mathrm{d}z}_{\text{the samples change}} \;+\; \underbrace{\int q_\phi(z)\; \nabla_\phi f_\phi(z)\, \mathrm{d}z}_{\text{the function changes}} .
# $$ (eq-product-rule)
#
# Only the second term is the expectation of a gradient. A program that draws $z$ and then differentiates has nothing else: the random generator returned a number, which does not remember the parameters.
#
# How much is lost? For the bound, sampled as a whole, everything. In $f_\phi = \log p_\theta(x, z) - \log q_\phi(z)$ only the second part contains $\phi$, and its gradient, the score of $q_\phi$ *in its parameters*, has mean zero, because a density integrates to one whatever $\phi$ is (if its support does not move):
#
# $$
# \mathbb{E}_{q_\phi} \nabla_\phi \log q_\phi(z) = \int \nabla_\phi\, q_\phi(z)\, \mathrm{d}z = \nabla_\phi 1 = 0 .
# $$ (eq-score-mean-zero)
#
# (The {term}`score` of the diffusion chapters is the gradient in $z$.) Our test case is the solvable model of the last chapter, $z \sim \mathcal{N}(0, 1)$ and $x \mid z \sim \mathcal{N}(a z + b, s^2)$, with $\theta = (a, b)$ and $q_\phi = \mathcal{N}(\mu, \sigma^2)$. Its bound is known in closed form {eq}`eq-elbo-terms`.

# %% tags=["serves"]
noise = torch.randn(400_000)
grid = torch.linspace(-12, 12, 24_001)
density = Normal(0.0, 1.0).log_prob(grid).exp()


def mean(values):
    """Expectation of a function of standard normal noise, given its values on the grid."""
    return torch.trapezoid(values * density, grid)


x, s = torch.tensor(0.9), 0.5**0.5
theta, phi = torch.tensor([1.3, 0.4]), torch.stack([mu, sigma])
prior = Normal(torch.tensor(0.0), torch.tensor(1.0))


def log_joint(theta, z):
    return Normal(theta[0] * z + theta[1], s).log_prob(x) + prior.log_prob(z)


def elbo(theta, phi):
    residual = (x - theta[0] * phi[0] - theta[1]) ** 2 + (theta[0] * phi[1]) ** 2
    likelihood = -0.5 * math.log(2 * math.pi * s**2) - residual / (2 * s**2)
    return likelihood - kl_divergence(Normal(*phi), prior)


def per_sample_gradients(h, parameters):
    """The gradients of the values h(parameters), one row for each sample of the noise."""
    copies = parameters.expand(len(noise), 2)
    return grad(lambda copies: h(copies.T).sum())(copies)


# %% tags=["numbers", "columns"]
z = mu + sigma * noise
naive = per_sample_gradients(lambda phi: log_joint(theta, z) - Normal(*phi).log_prob(z), phi)
truth, error = grad(elbo, argnums=1)(theta, phi), naive.std(0) / len(naive) ** 0.5
print(f"{'gradient of the bound':29}  {'in mu':>8}  {'in sigma':>8}")
rows = {"true": truth, "sampled, then differentiated": naive.mean(0), "its standard error": error}
for name, row in rows.items():
    print(f"{name:29}  {row[0]:8.4f}  {row[1]:8.4f}")

# %% [markdown]
# **Checks.** The average of {eq}`eq-gradient-theta` over samples is compared with the gradient of the closed form; samples from the prior in the place of the encoder are rejected. The product rule is tried on $f_\phi(z) = (z - 2 \mu)^2$, whose expectation is $\mu^2 + \sigma^2$, with both integrals on a grid; each term alone is rejected. For the score, the true gradient of the bound is rejected.

# %% tags=["check", "nbval-check-output"]
estimates = per_sample_gradients(lambda theta: log_joint(theta, z), theta)
of_prior = {"samples from the prior": grad(elbo)(theta, torch.tensor([0.0, 1.0]))}
verify("eq-gradient-theta", estimates, grad(elbo)(theta, phi), monte_carlo, rejects=of_prior)

line = mu + sigma * grid
square = torch.stack([2 * mu, 2 * sigma])


def part(moving, fixed):
    f = (line - 2 * fixed[0]) ** 2
    return torch.trapezoid(Normal(*moving).log_prob(line).exp() * f, line)


samples_change = grad(part, argnums=0)(phi, phi)
function_changes = grad(part, argnums=1)(phi, phi)
wrong = {"first term alone": samples_change, "second term alone": function_changes}
verify("eq-product-rule", samples_change + function_changes, square, quadrature, rejects=wrong)
verify("eq-score-mean-zero", naive, torch.zeros(2), monte_carlo, rejects={"true gradient": truth})

# %% [markdown]
# The estimate is zero within three standard errors where the gradient is far from zero, and no error message tells. So test an estimator where the gradient is known: the mean of many estimates must agree within a few standard errors, and that of a likely mistake must not. One estimate scatters, and proves nothing.
#
# Why not sample the lost term as well? Because it is no expectation: $\partial q / \partial \mu$ in {numref}`fig-lost-term` is negative on one side, positive on the other, and zero in total, no density from which one could sample. There are two ways to make an expectation of it.

# %% tags=["figure"] mystnb={"image": {"alt": "A bell curve, and its derivative in the mean: a negative lobe on the left and a positive lobe of the same area on the right, both shaded."}, "figure": {"caption": "The density q, and its derivative in the mean. When the mean grows, probability leaves the orange region and arrives in the blue one.", "name": "fig-lost-term"}}
line = torch.linspace(-4, 5, 301)
bell = Normal(mu, sigma).log_prob(line).exp()
slope = bell * (line - mu) / sigma**2
fig, (axes,) = plots.figure(height=2.4)
words = {"x_label": "z", "y_label": "", "axes": axes}
_ = plots.curves({"$q(z)$": (line, bell), r"$\partial q / \partial \mu$": (line, slope)}, **words)
_ = axes.fill_between(line, slope, where=slope > 0, color="#0072b2", alpha=0.3)
_ = axes.fill_between(line, slope, where=slope < 0, color="#d55e00", alpha=0.3)
_ = axes.axhline(0, color="#333333", lw=0.8)
fig

# %% [markdown]
# *Sources: A24, D11.*

# %% [markdown]
# (sec-move-or-weigh)=
# ## Reweight the samples, or move them
#
# What do ten samples of $q_\phi$ say about $\mathbb{E} f$ under a *new* parameter $\phi'$? Leave them in place and give each an importance weight, the new density over the old one, $q_{\phi'}(z) / q_\phi(z)$. Or move each to where its own noise $\varepsilon$ takes it now, $z = \mu' + \sigma \varepsilon$. Each way gives a curve over $\mu'$, and *the slope of that curve at the old $\mu$ is an estimate of the gradient*.

# %% tags=["figure"] mystnb={"image": {"alt": "Two panels with the same thick parabola. Left, titled reweighted: eight thin curves have very different slopes at the old mean and leave the parabola. Right, titled moved: eight thin parabolas of its shape, shifted, whose slopes differ less."}, "figure": {"caption": "The expectation of z² under a new mean: the truth (thick), and eight estimates from ten samples each. At the old mean their slopes are the gradient estimates.", "name": "fig-move-or-reweight"}}
new = torch.linspace(-1.6, 2.4, 81)
ten = torch.randn(8, 10, 1, generator=torch.Generator().manual_seed(1))
z = mu + sigma * ten
ratio = (Normal(new, sigma).log_prob(z) - Normal(mu, sigma).log_prob(z)).exp()
families = {"reweighted": (ratio * z**2).mean(1), "moved": ((new + sigma * ten) ** 2).mean(1)}
fig, panels = plots.figure(2, height=2.9)
for axes, (name, thin) in zip(panels, families.items(), strict=True):
    _ = axes.plot(new, thin.T, color="#d55e00", lw=1)
    _ = axes.plot(new, new**2 + sigma**2, color="#0072b2", lw=3)
    _ = axes.axvline(mu, color="#333333", lw=0.8)
    _ = axes.set(title=name, xlabel=r"new mean $\mu'$", ylim=(-1, 9))
_ = panels[0].set_ylabel(r"estimate of $\mathbb{E}\, z^2$")
fig

# %% [markdown]
# On the right of {numref}`fig-move-or-reweight`, ten equally weighted samples describe every new distribution equally well. On the left, a few samples at the edge soon get nearly all the weight. Both kinds of curves are right on average, at every $\mu'$. But from one set of samples to the next the slopes of the reweighted ones differ more: that is the variance of the gradient. It depends on $f$. With a steep enough $f$ the order turns round ($\sin k z$ has values up to 1, but slopes up to $k$), and with a jump the moved curve is a staircase of slope zero ({ref}`sec-where-each-fails`).

# %% [markdown]
# (sec-score-function)=
# ## Reweighting: the score-function estimator
#
# The weight $q_{\phi'}(z) / q_\phi(z)$ has the derivative $\nabla_\phi q_\phi / q_\phi = \nabla_\phi \log q_\phi$ at $\phi' = \phi$. So multiplying and dividing by $q_\phi$ makes an expectation of the lost term, and that is where the logarithm comes from.
#
# :::{prf:theorem} Score-function gradient
# :label: thm-score-function
# If neither $f$ nor the support of $q_\phi$ depends on $\phi$, and the gradient may enter the integral,
#
# $$
# \nabla_\phi\, \mathbb{E}_{q_\phi} f(z) = \int q_\phi\; \frac{\nabla_\phi q_\phi}{q_\phi}\; f\, \mathrm{d}z = \mathbb{E}_{q_\phi} \big[ f(z)\, \nabla_\phi \log q_\phi(z) \big] .
# $$ (eq-score-gradient)
# :::
#
# Only values of $f$ are needed: it may have jumps, or be the output of any program. The {term}`score-function estimator` is the REINFORCE of {cite:t}`williams1992`; {cite:t}`paisley2012` and {cite:t}`ranganath2014` brought it to variational bounds. There $f$ contains $\phi$ itself, but by {eq}`eq-score-mean-zero` that adds nothing on average:
#
# $$
# \nabla_\phi\, \mathrm{ELBO} = \mathbb{E}_{q_\phi} \Big[ \big( \log p_\theta(x, z) - \log q_\phi(z) \big)\, \nabla_\phi \log q_\phi(z) \Big] .
# $$ (eq-score-elbo)
#
# In code:


# %%
def by_score(f, mu, sigma, noise):
    """Score-function estimates of the gradient of E f(z) in (mu, sigma)."""
    z = mu + sigma * noise  # the samples stay, their probabilities change
    score = torch.stack([noise / sigma, (noise**2 - 1) / sigma], -1)
    return f(z)[..., None] * score


# %% [markdown]
# **Check.** Averages over samples are compared with the gradients of the closed forms. The check rejects the derivative in the variance, the naive gradient (zero), and the gradient without $\log q_\phi$.

# %% tags=["check", "nbval-check-output"]
in_variance = {"derivative in the variance": torch.stack([2 * mu, 0 * mu + 1])}
estimates = by_score(torch.square, mu, sigma, noise)
verify("eq-score-gradient", estimates, square, monte_carlo, rejects=in_variance)


def integrand(z):
    return log_joint(theta, z) - Normal(mu, sigma).log_prob(z)


truth = grad(elbo, argnums=1)(theta, phi)
entropy_part = torch.stack([0 * sigma, 1 / sigma])
wrong = {"naive gradient": naive.mean(0), "log q left out": truth - entropy_part}
estimates = by_score(integrand, mu, sigma, noise)
verify("eq-score-elbo", estimates, truth, monte_carlo, rejects=wrong)

# %% [markdown]
# **Why it varies so much, and what helps.** The score is multiplied by the whole value of $f$. Add 1000 to $f$: nothing changes on average, but to every estimate now comes a thousand times the score of its sample, of random sign. So subtract something, a *baseline*. Since the score has mean zero, any number $b$ that does not depend on the sample keeps the gradient unbiased:
#
# $$
# \mathbb{E}_{q_\phi} \big[ (f(z) - b)\, \nabla_\phi \log q_\phi(z) \big] = \nabla_\phi\, \mathbb{E}_{q_\phi} f(z) .
# $$ (eq-baseline)
#
# This is the simplest {term}`control variate` {cite:p}`mnih2014`. For one parameter $\phi_j$ with the score $s_j$ the variance is smallest at
#
# $$
# b_j^* = \frac{\mathbb{E}_q \big[ f(z)\, s_j(z)^2 \big]}{\mathbb{E}_q \big[ s_j(z)^2 \big]}, \qquad s_j = \frac{\partial \log q_\phi}{\partial \phi_j} .
# $$ (eq-best-baseline)
#
# :::{dropdown} Proof
# Since the expectation does not depend on $b$, minimize the second moment $\mathbb{E}[(f - b)^2 s_j^2]$. Its derivative in $b$ is $-2\, \mathbb{E}[(f - b) s_j^2]$, which vanishes at $b_j^*$. For $f(z) = z^2$ and the derivative in $\mu$ this is $\mu^2 + 3 \sigma^2$, not the expectation of $f$, which is $\mu^2 + \sigma^2$. $\square$
# :::
#
# They are unknown in advance. With $K$ samples, the mean of $f$ over the *others* is a baseline for each: close to $\mathbb{E} f$, and independent of the sample that it is subtracted from. This is REINFORCE with leave-one-out baseline, RLOO {cite:p}`kool2019`:
#
# $$
# \frac{1}{K} \sum_{k=1}^K \big( f(z_k) - b_k \big)\, \nabla_\phi \log q_\phi(z_k), \qquad b_k = \frac{1}{K - 1} \sum_{j \ne k} f(z_j) .
# $$ (eq-leave-one-out)
#
# The sample's own value must stay out of its baseline: with the mean of all $K$ values the fraction $1 / K$ of the gradient is lost ({ref}`exercise <ex-own-mean>`).
#
# **Check.** The formula for the best baseline is compared with the result of a search; the mean of $f$ is rejected. The two estimators are compared with the true gradient of $\mathbb{E} z^2$. For leave-one-out, 80,000 times with five samples, the check rejects a baseline that contains the sample itself.

# %% tags=["check", "nbval-check-output"]
f, score = (mu + sigma * grid) ** 2, grid / sigma
b = torch.zeros((), requires_grad=True)
_ = minimize(lambda: mean(((f - b) * score) ** 2), [b])
best = mean(f * score**2) / mean(score**2)
wrong = {"mean of f": mean(f)}
verify("eq-best-baseline", b.detach(), best, exact.within(1e-6), rejects=wrong)
verify("eq-best-baseline", best, mu**2 + 3 * sigma**2, quadrature)
centered = (mu + sigma * noise) ** 2 - best
with_b = centered[:, None] * by_score(torch.ones_like, mu, sigma, noise)
verify("eq-baseline", with_b, square, monte_carlo, rejects=in_variance)

five = noise.view(-1, 5)
values = (mu + sigma * five) ** 2
baseline = (values.sum(1, keepdim=True) - values) / 4
scores = by_score(torch.ones_like, mu, sigma, five)
left_out = ((values - baseline)[..., None] * scores).mean(1)
wrong = {"own value in the baseline": 0.8 * square}
verify("eq-leave-one-out", left_out, square, monte_carlo, rejects=wrong)

# %% tags=["figure"] mystnb={"image": {"alt": "Standard deviation of the estimate against the constant that is added to f. Without a baseline a curve like a V falls to its lowest point near minus five and rises to both sides; with leave-one-out the line is flat, close above the lowest point."}, "figure": {"caption": "The derivative in the mean by ten samples, for f(z) = z² + c. Leave-one-out comes close to the best baseline for every c.", "name": "fig-baseline"}}
constants = torch.linspace(-20, 20, 41)
plain = torch.stack([(mean(((f + c) * score) ** 2) - (2 * mu) ** 2) for c in constants])
ten = torch.randn(40_000, 10)
values = (mu + sigma * ten) ** 2
left_out = ((values - values.mean(1, keepdim=True)) * ten / sigma).sum(1) / 9
_, (axes,) = plots.figure(height=2.7)
plots.curves(
    axes=axes,
    lines={
        "no baseline": (constants, (plain / 10).sqrt()),
        "leave-one-out": (constants, left_out.std().expand(41)),
    },
    x_label="constant c",
    y_label="standard deviation",
)

# %% [markdown]
# For the bound this matters: in a fresh network for digits, $f$ is about $-784 \log 2$ in every sample. In {ref}`one of them <sec-encoder-learns>` leave-one-out divides the variance by about 50,000.
#
# *Sources: D12.*

# %% [markdown]
# (sec-change-of-variables)=
# ## Moving: the reparameterization trick
#
# The other way takes $\phi$ out of the distribution. Suppose that a sample can be written as
#
# $$
# z = g(\varepsilon, \phi), \qquad \varepsilon \sim p(\varepsilon) ,
# $$ (def-reparameterization)
#
# with noise $\varepsilon$ whose distribution does not contain $\phi$. An expectation over $z$ is then one over $\varepsilon$, without the density of $z$, and so without a determinant:
#
# $$
# \mathbb{E}_{q_\phi} f(z) = \mathbb{E}_{p(\varepsilon)}\, f\big( g(\varepsilon, \phi) \big) .
# $$ (eq-mean-of-transform)
#
# In the product rule the density is now $p(\varepsilon)$, so the first term is zero, and all of the gradient is in the second, the expectation of a gradient.

# %% tags=["figure"] mystnb={"image": {"alt": "Two graphs. Left: phi leads by a dashed arrow to z, and a solid one leads from z to f; the gradient stops at the dashed arrow. Right: phi and the noise epsilon lead by solid arrows to g(epsilon, phi), and this to f; the gradient flows from f through g back to phi."}, "figure": {"caption": "Left: no gradient comes back through a random generator, the dashed arrow. Right: the noise is an input of its own, and a differentiable path leads from the parameters to f.", "name": "fig-graphs"}}
fig, panels = plots.figure(2, height=2.1)
phi_, z_, f_, noise_ = (0.0, 0.0), (1.0, 0.0), (2.0, 0.0), (1.0, 0.9)
inside = [(phi_, z_, "--"), (z_, f_, "-")]
outside = [(phi_, z_, "-"), (z_, f_, "-"), (noise_, z_, "-")]
nodes = {phi_: r"$\phi$", z_: r"$z \sim q_\phi$", f_: "$f(z)$"}
moved = nodes | {z_: r"$g(\varepsilon, \phi)$", noise_: r"$\varepsilon \sim p(\varepsilon)$"}
box = {"boxstyle": "round,pad=0.4", "facecolor": "white", "edgecolor": "#333333"}
for axes, edges, names in zip(panels, (inside, outside), (nodes, moved), strict=True):
    for start, end, style in edges:
        arrow = {"arrowstyle": "-|>", "linestyle": style, "shrinkA": 20, "shrinkB": 24}
        _ = axes.annotate("", end, start, arrowprops=arrow | {"color": "#333333", "lw": 1.4})
    for place, name in names.items():
        _ = axes.text(*place, name, ha="center", va="center", bbox=box, fontsize=12)
    _ = axes.text(1.5, -0.42, r"$\leftarrow$ gradient", ha="center", color="#d55e00")
    _ = axes.set(xlim=(-0.3, 2.35), ylim=(-0.7, 1.2))
    _ = axes.set_axis_off()
_ = panels[0].text(0.5, -0.42, "stops here", ha="center", color="#d55e00")
_ = panels[1].text(0.5, -0.42, r"$\leftarrow$ gradient", ha="center", color="#d55e00")
fig

# %% [markdown]
# :::{prf:theorem} Path-wise gradient
# :label: thm-path-gradient
# Let $f$ be continuously differentiable (kinks, as of a ReLU, do no harm), $g$ differentiable in $\phi$, and $\lVert \nabla_{\phi'} f(g(\varepsilon, \phi')) \rVert \le M(\varepsilon)$ with $\mathbb{E}\, M(\varepsilon) < \infty$ for all $\phi'$ near $\phi$. If the expectation of $f$ exists,
#
# $$
# \nabla_\phi\, \mathbb{E}_{q_\phi} f(z) = \mathbb{E}_{p(\varepsilon)} \nabla_\phi\, f\big( g(\varepsilon, \phi) \big) = \mathbb{E}_{p(\varepsilon)} \bigg[ \Big( \frac{\partial g}{\partial \phi} \Big)^{\!\top} \nabla f(z) \bigg]_{z = g(\varepsilon, \phi)} .
# $$ (eq-path-gradient)
# :::
#
# :::{dropdown} Proof
# Dominated convergence takes the gradient inside the expectation {eq}`eq-mean-of-transform`; the rest is the chain rule. Kinks, as of a ReLU, are harmless if $f$ is continuous and samples hit them with probability zero; jumps are not. $\square$
# :::
#
# This is the {term}`reparameterization trick` {cite:p}`kingma2014,rezende2014,titsias2014`. (If $f$ contains $\phi$ itself, as in the bound, the chain rule adds $\nabla_\phi f_\phi(z)$; automatic differentiation does so unasked.) For $z = \mu + \sigma \varepsilon$ the derivative $\partial g / \partial \phi$ is $(1, \varepsilon)$. Both estimators find the gradients of two known expectations, $\mathbb{E} z^2 = \mu^2 + \sigma^2$ and $\mathbb{E} \cos z = e^{-\sigma^2 / 2} \cos \mu$:
#
# $$
# \nabla_{\mu, \sigma}\, \mathbb{E} z^2 = (2 \mu,\; 2 \sigma), \qquad \nabla_{\mu, \sigma}\, \mathbb{E} \cos z = - e^{-\sigma^2 / 2}\, (\sin \mu,\; \sigma \cos \mu) .
# $$ (eq-example-gradients)
#
# In torch `q.rsample()`, r for *reparameterized*, returns a function of the parameters; `q.sample()` returns numbers.


# %% tags=["nbval-check-output"]
def by_path(f, mu, sigma, noise):
    """Path-wise estimates of the gradient of E f(z) in (mu, sigma)."""
    z = mu + sigma * noise  # the probabilities stay, the samples move
    slope = grad(lambda z: f(z).sum())(z)
    return slope[..., None] * torch.stack([torch.ones_like(noise), noise], -1)


phi = torch.stack([mu, sigma]).requires_grad_()
q = Normal(phi[0], phi[1])
print(f"has a gradient: rsample {q.rsample().requires_grad}, sample {q.sample().requires_grad}")

# %% [markdown]
# **Check.** Equation {eq}`eq-mean-of-transform` is computed on two grids, for a log-normal distribution; a determinant that is left in by mistake is rejected. The average of {eq}`eq-path-gradient` over samples is compared with the known gradient, and the gradients of `rsample` with those of $\mu + \sigma \varepsilon$ from the same random numbers.

# %% tags=["check", "nbval-check-output"]
half = torch.linspace(-14, 8, 40_001).exp()  # a fine grid of positive z
left = torch.trapezoid(LogNormal(mu, 0.5).log_prob(half).exp() * half.log1p(), half)
g = (mu + 0.5 * grid).exp()
kept = {"determinant kept": mean(g.log1p() * 0.5 * g)}
verify("eq-mean-of-transform", left, mean(g.log1p()), quadrature.within(1e-6), rejects=kept)

no_noise = {"factor noise left out": torch.stack([2 * mu, 2 * mu])}
estimates = by_path(torch.square, mu, sigma, noise)
verify("eq-path-gradient", estimates, square, monte_carlo, rejects=no_noise)
_ = torch.manual_seed(1)
ours = by_path(torch.cos, mu, sigma, torch.randn(5)).sum(0)
_ = torch.manual_seed(1)
(theirs,) = torch.autograd.grad(q.rsample((5,)).cos().sum(), phi)
verify("eq-path-gradient", theirs, ours)
phi, decay = phi.detach(), (-(sigma**2) / 2).exp()
truth = torch.cat([square, -decay * torch.stack([mu.sin(), sigma * mu.cos()])])
no_sigma = torch.cat([square, -decay * torch.stack([mu.sin(), mu.cos()])])
wrong = {"factor sigma left out": no_sigma}
for by in (by_path, by_score):
    both = torch.cat([by(f, mu, sigma, noise) for f in (torch.square, torch.cos)], -1)
    verify("eq-example-gradients", both, truth, monte_carlo, rejects=wrong)

# %% [markdown]
# **In an encoder** the network takes $x$ and returns a mean for each latent and the logarithm of a variance (the logarithm, so that every output is allowed), and the sample is
#
# $$
# z = \mu_\phi(x) + \sigma_\phi(x) \odot \varepsilon , \qquad \varepsilon \sim \mathcal{N}(0, I) ,
# $$ (def-encoder-draw)
#
# where $\odot$ multiplies element by element. (The noise is no mere device: with the mean in place of $z$ there would be no bound, $\sigma$ would feel the KL alone, and the decoder would learn nothing of the neighborhood of a mean.) For a full covariance $\Sigma$ it is $z = \mu + L \varepsilon$ with any root of it, $L L^\top = \Sigma$, such as the Cholesky factor, because $L \varepsilon$ has the covariance $L\, \mathbb{E}[\varepsilon \varepsilon^\top] L^\top = L L^\top$. For other distributions $g$ may be the inverse of the distribution function ({ref}`exercise <ex-exponential-draw>`); torch has an `rsample` for Gamma and Dirichlet ones, too.
#
# :::{depth-start} any root of a covariance will do, Gamma samples have gradients, and only densities need the determinant of g
# :::
#
# Let $\varepsilon \sim \mathcal{N}(0, I)$ and $z = \mu + A \varepsilon$. Then $z \sim \mathcal{N}(\mu, A A^\top)$, since affine maps of Gaussian vectors are Gaussian:
#
# $$
# \mathbb{E}\, z = \mu, \qquad \mathbb{E}\, (z - \mu)(z - \mu)^\top = A\, \mathbb{E}[\varepsilon \varepsilon^\top] A^\top = A A^\top .
# $$ (eq-root-moments)
#
# So any matrix with $A A^\top = \Sigma$ will do, and not $\Sigma$ itself, which would give the covariance $\Sigma^2$. Does the choice matter? For samples it does not: their distribution is the same. Nor does it for the expected gradient; but if the parameters of $\Sigma$ are trained, $\mathrm d A / \mathrm d \phi$ differs from root to root, and with it the variance of the estimate. Two roots are in use. The *Cholesky* root is lower triangular and cheap; the *eigenvalue* root $U \Lambda^{1/2} U^\top$, from $\Sigma = U \Lambda U^\top$, is symmetric and exists also if $\Sigma$ is singular, where the Cholesky algorithm of torch fails. A network that returns $A$ always defines a covariance, a positive definite one only if $A$ has full rank. Two square matrices $A$, $B$ that are roots of one invertible $\Sigma$ differ by a rotation or reflection $Q$, that is, $B = A Q$ with
#
# $$
# Q = A^{-1} B, \qquad Q\, Q^\top = A^{-1} \Sigma A^{-\top} = I .
# $$ (eq-root-rotation)
#
# That $z$ is Gaussian does not follow from mean and covariance, which uniform noise of variance 1 would have as well. It says that every projection is Gaussian:
#
# $$
# \Pr\Big( u^\top (z - \mu) \le c\, \sqrt{u^\top \Sigma\, u} \Big) = \Phi(c) \qquad \text{for every direction } u \text{ with } u^\top \Sigma\, u > 0 ,
# $$ (eq-projection)
#
# because $u^\top (z - \mu) = (A^\top u)^\top \varepsilon$ is a sum of independent Gaussians with the variance $\lVert A^\top u \rVert^2 = u^\top \Sigma\, u$. The diagonal root of {eq}`def-encoder-draw` is $A = \operatorname{diag}(\sigma_\phi(x))$.
#
# **Check.** Mean and covariance of samples are compared for both roots, and the rotation between the roots is multiplied by its transpose. The check rejects the covariance $\Sigma^2$, the second moment without centering, and $B A^{-1}$ in place of $A^{-1} B$. The projections are counted for three directions and two values of $c$; uniform noise of the same variance is rejected, and the variance in place of its root.

# %% tags=["serves"]
center, cov = torch.tensor([1.0, -0.5]), torch.tensor([[2.0, 0.9], [0.9, 1.2]])
cholesky = torch.linalg.cholesky(cov)
eigenvalues, U = torch.linalg.eigh(cov)
symmetric = U @ eigenvalues.sqrt().diag() @ U.T
noise_2d = torch.randn(200_000, 2)


def moments(z):
    """For each sample its two coordinates and the four products of the centered ones."""
    products = (z - center)[:, :, None] * (z - center)[:, None, :]
    return torch.cat([z, products.flatten(1)], 1)


def below(noise):
    """Whether each of three projections is below each of two multiples of its scale."""
    u = torch.tensor([[1.0, 0.0], [1.0, -1.0], [-0.2, 1.0]])
    scale = (u @ cov * u).sum(1).sqrt()
    projected = (noise @ symmetric.T @ u.T) / scale
    return torch.stack([projected <= 0.7, projected <= 2.0], -1).flatten(1).double(), scale


# %% tags=["check", "nbval-check-output"]
right = torch.cat([center, cov.flatten()])
not_centered = torch.cat([center, (cov + center.outer(center)).flatten()])
misprint = torch.cat([center, (cov @ cov).flatten()])
wrong = {"E17": misprint, "not centered": not_centered}
for A in (cholesky, symmetric):
    verify("eq-root-moments", moments(center + noise_2d @ A.T), right, monte_carlo, rejects=wrong)
flat = torch.tensor([[1.0, 2.0], [2.0, 4.0]])  # singular
eigenvalues, V = torch.linalg.eigh(flat)
root = V @ eigenvalues.clamp(min=0).sqrt().diag() @ V.T
assert torch.linalg.cholesky_ex(flat).info > 0
verify("eq-root-moments", root @ root.T, flat)
Q = torch.linalg.solve(cholesky, symmetric)
R = symmetric @ torch.linalg.inv(cholesky)
verify("eq-root-rotation", Q @ Q.T, torch.eye(2), rejects={"B A^-1": R @ R.T})
outcomes, scale = below(noise_2d)
c = torch.tensor([0.7, 2.0])
uniform, _ = below((torch.rand(200_000, 2) - 0.5) * 12**0.5)
in_variance = torch.special.ndtr(scale[:, None] * c).flatten()
wrong = {"uniform noise": uniform.mean(0), "variance for its root": in_variance}
verify("eq-projection", outcomes, torch.special.ndtr(c).repeat(3), binomial, rejects=wrong)

# %% tags=["figure"] mystnb={"image": {"alt": "Three clouds made from the same noise, each with two arrows from its center. Cholesky and eigenvalue root give the same tilted ellipse, with different arrows; the covariance itself gives a longer and thinner one."}, "figure": {"caption": "The same 400 samples of noise through two roots of the covariance and, wrongly, through the covariance itself. The arrows lead from the mean to where the noise (3, 0) and the noise (0, 3) end.", "name": "fig-roots"}}
fig, panels = plots.figure(3, height=2.5)
some = center + noise_2d[:400] @ torch.stack([cholesky, symmetric, cov]).mT
names = ["Cholesky", "eigenvalues", "covariance"]
for axes, z, A, name in zip(panels, some, [cholesky, symmetric, cov], names, strict=True):
    first = axes is panels[0]
    words = {"x_label": "$z_1$", "y_label": "$z_2$" if first else "", "bounds": (-6, 8, -6, 5)}
    _ = plots.scatter(z, **words, axes=axes)
    _ = axes.tick_params(labelleft=first)
    arrows = {"angles": "xy", "scale_units": "xy", "scale": 1, "color": "#d55e00"}
    _ = axes.quiver(*center.expand(2, 2).T, *(3 * A), width=0.012, zorder=5, **arrows)
    _ = axes.set_title(name)
fig

# %% [markdown]
# **Other distributions.** Where the inverse of the distribution function $F_\phi$ has no formula, as for Gamma distributions (which make Dirichlet ones), {cite:t}`figurnov2018` differentiate $F_\phi(z) = u$ implicitly, with $u$ held fixed; torch's `rsample` does the same:
#
# $$
# \frac{\partial z}{\partial \phi} = - \frac{\partial F_\phi(z) / \partial \phi}{q_\phi(z)} .
# $$ (eq-implicit)
#
# **Densities need the determinant of $g$, expectations do not.** Let $g(\cdot, \phi)$ be a differentiable bijection with a differentiable inverse. Near $\varepsilon$ it is linear, so a small set of volume $V$ goes to one of volume $\lvert \det \partial g / \partial \varepsilon \rvert\, V$ with the same probability. So $z = g(\varepsilon, \phi)$ has the density $q_\phi$ with
#
# $$
# q_\phi\big( g(\varepsilon, \phi) \big) \cdot \Big\lvert \det \frac{\partial g}{\partial \varepsilon} \Big\rvert = p(\varepsilon) ,
# $$ (eq-density-of-transform)
#
# which is {eq}`eq-flow` read in the other direction. It is no additional requirement on $g$: every such bijection satisfies it. In an expectation the determinant cancels, $\int f(z)\, q_\phi(z)\, \mathrm{d}z = \int f(g)\, q_\phi(g)\, \lvert \det \partial g / \partial \varepsilon \rvert\, \mathrm{d}\varepsilon = \int f(g)\, p(\varepsilon)\, \mathrm{d}\varepsilon$, and {eq}`eq-mean-of-transform` needs no bijection at all: it is what "$z$ has the distribution $q_\phi$" means.
#
# **Check.** The implicit derivative of Gamma samples {eq}`eq-implicit`, by differences of the distribution function, is compared with that of torch; the check rejects the other sign. For the determinant the test case is a map that bends the plane into a funnel and mirrors it, $g(\varepsilon) = (\varepsilon_1,\; - e^{\varepsilon_1} \varepsilon_2)$. Its density is known without any determinant, because $z_1$ is standard normal and $z_2$ given $z_1$ is normal with standard deviation $e^{z_1}$. The check rejects the formula without the determinant, with its inverse, and without the absolute value.


# %% tags=["check", "nbval-check-output"]
shape = torch.full((1000,), 2.5, requires_grad=True)
z = Gamma(shape, 1.0).rsample()
(theirs,) = torch.autograd.grad(z.sum(), shape)
z, a, h = z.detach(), shape.detach(), 1e-5
slope = (torch.special.gammainc(a + h, z) - torch.special.gammainc(a - h, z)) / (2 * h)
ours = -slope / Gamma(a, 1.0).log_prob(z).exp()
verify("eq-implicit", theirs, ours, autograd.within(1e-3), rejects={"other sign": -ours})


def funnel(noise):
    return torch.stack([noise[..., 0], -noise[..., 0].exp() * noise[..., 1]], -1)


def funnel_log_prob(z):
    second = Normal(0.0, z[..., 0].exp()).log_prob(z[..., 1])
    return prior.log_prob(z[..., 0]) + second


points = torch.randn(1000, 2)
p, q = prior.log_prob(points).sum(-1).exp(), funnel_log_prob(funnel(points)).exp()
det = torch.linalg.det(vmap(jacrev(funnel))(points))
wrong = {"no determinant": q, "its inverse": q / det.abs(), "no bars": q * det}
verify("eq-density-of-transform", p, q * det.abs(), rejects=wrong)

# %% [markdown]
# :::{depth-end}
# :::

# %% [markdown]
# *Sources: A25, C05, D13, D15.*

# %% [markdown]
# (sec-gradient-noise)=
# ## Why the path-wise gradient varies less, and why one sample is enough
#
# Both estimators are unbiased, so at equal cost the one with the smaller variance is better. Take a sum of squares, $f(z) = \lVert z \rVert^2$ with $q = \mathcal{N}(m, I)$ in $d$ dimensions, and the derivative in the first mean, $2 m_1$. The path-wise estimate is $2 z_1$: the slope of $f$ along its own coordinate, and nothing of the others. The score-function estimate is $\varepsilon_1 f(z)$: one number, in which all $d$ coordinates fluctuate, must tell each mean where to go. The first has the variance 4 in any dimension; that of the second grows like $d^2$, and like $d$ with the best baseline; {numref}`fig-noise-dimension` has their roots. (With $\sigma \to 0$ in the place of 1 the first vanishes; the second contains $f^2 / \sigma^2$ and, if $m \ne 0$, grows without limit.)

# %% tags=["figure"] mystnb={"image": {"alt": "Relative standard deviation against the dimension, both axes logarithmic. The path-wise line is flat at 2, the score function with baseline rises like a square root from about 3 to 55, without baseline it rises in proportion to the dimension, beyond 1000."}, "figure": {"caption": "Standard deviation of one estimate over the gradient itself, for m = (1/2, ..., 1/2).", "name": "fig-noise-dimension"}}
dims, c = torch.logspace(0, 3, 31), 0.5
B = dims + 2 + dims * c**2
best = 2 * (dims + 2) + 4 * dims * c**2 + 4 * c**2
variances = {"score function": best + B**2, "with best baseline": best, "path-wise": 4 + 0 * B}
_, (axes,) = plots.figure(height=2.7)
plots.curves(
    {name: (dims, values.sqrt() / (2 * c)) for name, values in variances.items()},
    axes=axes,
    x_label="dimension d",
    y_label="standard deviation over gradient",
    log_x=True,
    log_y=True,
)

# %% [markdown]
# :::{depth-start} all these variances have closed forms; in one dimension the score function loses by a factor of 4 in μ and 10 in σ
# :::
#
# In $d$ dimensions, with $B = d + 2 + \lVert m \rVert^2$,
#
# $$
# \begin{aligned}
# \operatorname{Var}_\text{path} &= 4, \qquad \operatorname{Var}_{\text{score, baseline } B} = 2\, (d + 2) + 4\, \lVert m \rVert^2 + 4\, m_1^2, \\
# \operatorname{Var}_\text{score} &= {\operatorname{Var}_{\text{score, baseline } B}} + B^2 , \qquad \operatorname{Var}_{\text{score, baseline } \mathbb{E} f} = {\operatorname{Var}_{\text{score, baseline } B}} + 4 .
# \end{aligned}
# $$ (eq-variance-dimension)
#
# Path: $2 z_1 = 2 m_1 + 2 \varepsilon_1$. Score: write $f = \lVert m \rVert^2 + 2\, m^\top \varepsilon + S$ with $S = \lVert \varepsilon \rVert^2$. Odd moments vanish, and $\mathbb{E}\, \varepsilon_1^2 (m^\top \varepsilon)^2 = \lVert m \rVert^2 + 2 m_1^2$, $\mathbb{E}\, S \varepsilon_1^2 = d + 2$, $\mathbb{E}\, S^2 \varepsilon_1^2 = (d + 2)(d + 4)$. So $\mathbb{E} f^2 \varepsilon_1^2 = \lVert m \rVert^4 + 4 \lVert m \rVert^2 + 8 m_1^2 + (d + 2)(d + 4) + 2 \lVert m \rVert^2 (d + 2) = B^2 + 2 (d + 2) + 4 \lVert m \rVert^2 + 8 m_1^2$. Subtract the squared expectation $4 m_1^2$. Since $\mathbb{E} f \varepsilon_1^2 = B$, a baseline $b$ changes the second moment by $b^2 - 2 b B$: by $- B^2$ for $b = B$, which is the best one by {eq}`eq-best-baseline`, and by $4 - B^2$ for $b = \mathbb{E} f = B - 2$.
#
# For $f(z) = z^2$ in one dimension, the derivatives in $\mu$ and $\sigma$ have the variances
#
# $$
# \operatorname{Var}_\text{path} = \big( 4 \sigma^2,\;\; 4 \mu^2 + 8 \sigma^2 \big) ,
# $$ (eq-path-variance)
#
# $$
# \operatorname{Var}_\text{score} = \Big( \frac{\mu^4}{\sigma^2} + 14 \mu^2 + 15 \sigma^2,\;\; \frac{2 \mu^4}{\sigma^2} + 60 \mu^2 + 74 \sigma^2 \Big) ,
# $$ (eq-score-variance)
#
# the latter without a baseline. Path: $2 z\, (1, \varepsilon)$ with $z = \mu + \sigma \varepsilon$, and the moments $\mathbb{E} \varepsilon^2 = 1$, $\mathbb{E} \varepsilon^4 = 3$. Score: the second moments are $\mathbb{E}[z^4 \varepsilon^2] / \sigma^2$ and $\mathbb{E}[z^4 (\varepsilon^2 - 1)^2] / \sigma^2$. Odd moments vanish, and $\mathbb{E}\, \varepsilon^{2k} (\varepsilon^2 - 1)^2 = 2, 10, 78$ for $k = 0, 1, 2$, $\mathbb{E} \varepsilon^6 = 15$. Subtract the squares of the expectations $2 \mu$ and $2 \sigma$.
#
# **Check.** The squared deviations of 200,000 samples are compared with the four variances, for $d = 30$ and $m = (\frac12, \dots, \frac12)$. It rejects a baseline without effect, and the formula for $m = 0$. In one dimension the variances are computed by integrals on a grid. The check rejects the second moment, from which the square of the mean is not subtracted. The two factors are those of $\mu = 0.4$, $\sigma = 1.3$.

# %% tags=["check", "nbval-check-output"]
d, c = 30, 0.5
m, eps = torch.full((d,), c), torch.randn(200_000, d)
f, B = (m + eps).square().sum(1), d + 2 + d * c**2
score = torch.stack([f, f - B + 2, f - B], 1) * eps[:, :1]
samples = torch.cat([2 * (m + eps)[:, :1], score], 1)
best = 2 * (d + 2) + 4 * d * c**2 + 4 * c**2
variances = torch.tensor([4.0, best + B**2, best + 4, best])
at_zero = [4.0, (d + 2) * (d + 4), 2 * d + 8, 2 * d + 4]
wrong = {"baseline without effect": variances[[0, 1, 1, 1]], "formula for m = 0": at_zero}
verify("eq-variance-dimension", (samples - 2 * c) ** 2, variances, monte_carlo, rejects=wrong)

weight = (density * (grid[1] - grid[0]))[:, None]


def exact_variance(estimates):
    return (weight * estimates**2).sum(0) - (weight * estimates).sum(0) ** 2


path = torch.stack([4 * sigma**2, 4 * mu**2 + 8 * sigma**2])
first = mu**4 / sigma**2 + 14 * mu**2 + 15 * sigma**2
second = 2 * mu**4 / sigma**2 + 60 * mu**2 + 74 * sigma**2
score = torch.stack([first, second])
on_grid = {"path": by_path(torch.square, mu, sigma, grid)}
on_grid["score"] = by_score(torch.square, mu, sigma, grid)
wrong = {"mean kept": path + square**2}
verify("eq-path-variance", exact_variance(on_grid["path"]), path, quadrature, rejects=wrong)
wrong = {"mean kept": score + square**2}
verify("eq-score-variance", exact_variance(on_grid["score"]), score, quadrature, rejects=wrong)
assert [round(factor.item()) for factor in score / path] == [4, 10]

# %% [markdown]
# :::{depth-end}
# :::

# %% [markdown]
# **Why is a single $z$ for each image enough?** No accurate estimate of each image's bound is needed, only an unbiased one: the minibatch averages over images anyway, and over the samples with them. By the law of total variance, a batch of $N$ images with $M$ samples each has
#
# $$
# \operatorname{Var}\, \hat g = \frac{1}{N} \Big( \underbrace{\operatorname{Var}_x\, \mathbb{E}_z\, g}_{\text{between images}} + \frac{1}{M}\, \underbrace{\mathbb{E}_x \operatorname{Var}_z\, g}_{\text{between samples}} \Big) .
# $$ (eq-one-sample)
#
# Its cost is $N M$ passes through the decoder. At a given cost the second part is always the same, while the first falls only with the number of images. So, if encoder passes cost little, new images with one sample each beat more samples of the same images.
#
# **Check.** Means of 16 images with four samples each, 20,000 times, in the solvable model, where both parts have closed forms. The check rejects the formula without the part between images, and all samples taken as independent.

# %% tags=["check", "nbval-check-output"]
(a, b), (w, t) = theta, (torch.tensor(0.3), torch.tensor(0.5))  # q(z|x) = N(w x, t^2)
N, M, deviation = 16, 4, (theta[0] ** 2 + s**2).sqrt()
images = b + deviation * torch.randn(20_000, N, 1)
z = w * images + t * torch.randn(20_000, N, M)
g = a * (images - a * z - b) / s**2 - w * images  # gradient in the mean of q, KL in closed form
between = (a * (1 - a * w) / s**2 - w) ** 2 * deviation**2
within = (a**2 * t / s**2) ** 2
wrong = {"no images": within / (N * M), "all independent": (between + within) / (N * M)}
verify("eq-one-sample", g.mean((1, 2)), (between + within / M) / N, variance, rejects=wrong)

# %% tags=["numbers", "columns"]
torch.set_default_dtype(torch.float)
_ = torch.manual_seed(0)
images = data.binarize(data.load("mnist", "test").images[:1000])


def two_variances(vae, M=10):
    """Variances of the gradient in the encoder's outputs, between images and between samples."""
    outputs = vae.encoder(images).detach().repeat(M, 1).requires_grad_()
    center, log_var = outputs.chunk(2, 1)
    q = diagonal_normal(center, (0.5 * log_var).exp())
    bound = vae.likelihood(q.rsample()).log_prob(images.repeat(M, 1, 1, 1))
    bound = bound - kl_divergence(q, vae.prior(len(outputs)))
    (g,) = torch.autograd.grad(bound.sum(), outputs)
    g = g.view(M, len(images), -1)
    within = g.var(0).mean(0).sum()
    return (g.mean(0).var(0).sum() - within / M).item(), within.item()


parts = {"fresh": two_variances(mlp_vae()), "trained": two_variances(pretrained("vae-mnist"))}
print(f"{'network':9}  {'between images':>14}  {'ten samples each':>16}")
for name, (between, within) in parts.items():
    fraction, ten = between / (between + within), (10 * between + within) / (between + within)
    print(f"{name:9}  {fraction:14.2f}  {ten:16.1f}")
torch.set_default_dtype(torch.double)

# %% tags=["figure"] mystnb={"image": {"alt": "Two rising lines over the number of samples for each image, from one to a hundred. Both start at one; at a hundred samples the line of the fresh network is near 46, that of the trained network near 19."}, "figure": {"caption": "Variance of the gradient in the encoder's outputs at equal decoder passes, relative to one sample for each image: the network of chapter 6, untrained and trained, on 1000 digits.", "name": "fig-one-sample"}}
samples, (_, (axes,)) = torch.logspace(0, 2, 41), plots.figure(height=2.7)
plots.curves(
    axes=axes,
    lines={
        name: (samples, (samples * between + within) / (between + within))
        for name, (between, within) in parts.items()
    },
    x_label="samples for each image",
    y_label="variance at equal cost",
    log_x=True,
    log_y=True,
)

# %% [markdown]
# In the trained network, at equal cost, ten samples for each image have 2.7 times the variance of one ({numref}`fig-one-sample`). More samples pay where images are few, or {ref}`inside the logarithm <sec-entropy-gradient>`.

# %% [markdown]
# (sec-encoder-learns)=
# ## Training an encoder, rightly and wrongly
#
# We train an encoder of one affine layer for the solvable model, whose posterior is known, with four losses. The first is the bound of `elbo_terms`: one `rsample`, and the KL divergence in closed form, whose gradient, by {eq}`eq-kl-diagonal`, is $\mu$ in the mean and $\sigma - 1 / \sigma$ in the standard deviation. The next two have `sample` in the place of `rsample`, once with the whole bound by samples and once with the closed KL. The last is the score-function estimator; its loss has the gradient of minus the bound, not its value.


# %%
def log_ratio(model, q, x, z):
    return model.likelihood(z).log_prob(x) + model.prior(len(x)).log_prob(z) - q.log_prob(z)


def path_wise(model, x):
    return -elbo_terms(model, x).elbo


def without_r(model, x):
    q = model.posterior(x)
    return -log_ratio(model, q, x, q.sample())


# %%
def likelihood_without_r(model, x):
    q = model.posterior(x)
    log_likelihood = model.likelihood(q.sample()).log_prob(x)
    return kl_divergence(q, model.prior(len(x))) - log_likelihood


def score_function(model, x):
    q = model.posterior(x)
    z = q.sample()
    return -log_ratio(model, q, x, z).detach() * q.log_prob(z)


# %% tags=["serves"]
variance_z = s**2 / (a**2 + s**2)  # of the posterior


def toy():
    def likelihood(z):
        return diagonal_normal(a * z + b, s)

    return Vae(nn.Linear(1, 2), nn.Identity(), likelihood, latent_dim=1)


def gap(model, x):
    posterior = diagonal_normal(a * (x - b) / (a**2 + s**2), variance_z.sqrt())
    return kl_divergence(model.posterior(x), posterior).mean().item()


def train(loss, seed):
    _ = torch.manual_seed(seed)
    model = toy()
    batches = b + (a**2 + s**2) ** 0.5 * torch.randn(1000, 64, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)
    gaps = [gap(model, batches[0]) for _ in fit(model, loss, batches, optimizer)]
    return model, torch.tensor(gaps)


# %% [markdown]
# **Check.** With the same random numbers, the gradient of `elbo_terms` is the path-wise gradient worked out on paper: the slope of the reconstruction, $a (x - a z - b) / s^2$, goes through the sample, and the closed KL contributes $- \mu$ and $1 / \sigma - \sigma$. The log-variance adds the factor $\sigma / 2$.

# %% tags=["check", "nbval-check-output"]
model, batch = toy(), torch.randn(64, 1)
_ = torch.manual_seed(2)
elbo_terms(model, batch).elbo.sum().backward()
_ = torch.manual_seed(2)
with torch.no_grad():
    m, log_var = model.encoder(batch).chunk(2, dim=1)
    std, eps = (0.5 * log_var).exp(), torch.randn(64, 1)
slope = a * (batch - a * (m + std * eps) - b) / s**2
in_std = slope * eps + 1 / std - std
on_paper = torch.stack([(slope - m).sum(), (0.5 * std * in_std).sum()])
verify("eq-path-gradient", model.encoder.bias.grad, on_paper)

# %% tags=["numbers", "columns"]
losses = {"rsample": path_wise, "sample": without_r}
losses |= {"sample, closed KL": likelihood_without_r, "score function": score_function}
runs = {name: [train(loss, seed) for seed in range(3)] for name, loss in losses.items()}
batch = b + (a**2 + s**2) ** 0.5 * torch.randn(1000, 1)
last = {name: [gaps[-300:].mean().item() for _, gaps in r] for name, r in runs.items()}
prior_kl = {
    name: [kl_divergence(m.posterior(batch), m.prior(1000)).mean().item() for m, _ in r]
    for name, r in runs.items()
}
print(f"{'gap in nats':20}  {'mean':>8}  {'smallest':>8}  {'largest':>8}  {'KL to prior':>11}")
for name, gaps in last.items():
    average, to_prior = sum(gaps) / 3, sum(prior_kl[name]) / 3
    print(f"{name:20}  {average:8.4f}  {min(gaps):8.4f}  {max(gaps):8.4f}  {to_prior:11.4f}")
assert max(*last["rsample"], *last["score function"]) < 0.1
assert min(*last["sample"], *last["sample, closed KL"]) > 0.1
assert max(prior_kl["sample, closed KL"]) < 1e-6

# %% tags=["figure"] mystnb={"image": {"alt": "The gap against training steps on a logarithmic axis, with bands over three runs. With rsample it falls to about a thousandth of a nat. Score function falls more slowly and ends higher. Sample with closed KL stays flat between two and three nats. Sample alone drifts in a wide band."}, "figure": {"caption": "One encoder trained with four gradients: gap to the posterior, geometric mean and range of three runs.", "name": "fig-three-trainings"}}
steps = torch.arange(1, 1001)[9::10]
histories = {n: torch.stack([gaps[9::10] for _, gaps in r]) for n, r in runs.items()}
_, (axes,) = plots.figure(height=2.6)
plots.curves(
    axes=axes,
    lines={name: (steps, gaps.log().mean(0).exp()) for name, gaps in histories.items()},
    bands={name: (gaps.amin(0), gaps.amax(0)) for name, gaps in histories.items()},
    x_label="training step",
    y_label="gap (nats)",
    log_y=True,
)

# %% [markdown]
# The table has means over the last 300 steps. With everything by samples, the gradient is zero on average {eq}`eq-score-mean-zero`, and the weights move at random. With the closed KL, only $- D_{\mathrm{KL}}(q_\phi \,\Vert\, p)$ has a gradient in the encoder, and $q_\phi(z \mid x)$ becomes the {term}`prior`, whatever $x$ is: {term}`posterior collapse`, caused by a missing letter.
#
# **On real digits.** How far is the score function from the path-wise estimator in a real encoder? We take 100 digits and the gradient in the biases of its last layer. Each estimate gets eleven forward passes through the decoder; path-wise ones also go back.
#
# :::{depth-start} in a fresh network the baseline divides the variance by about 50,000, and the closed KL the path-wise one by about 50
# :::
# First, what the baseline does in one fresh network:


# %% tags=["numbers"]
def leave_one_out(model, x, num=11):
    """Score-function loss; the baseline of each sample is the mean over the others."""
    q = model.posterior(x)
    z = [q.sample() for _ in range(num)]
    with torch.no_grad():
        value = torch.stack([log_ratio(model, q, x, each) for each in z])
        others = (value.sum(0) - value) / (num - 1)
    scores = torch.stack([q.log_prob(each) for each in z])
    return -((value - others) * scores).mean(0)


def without_baseline(model, x):
    return torch.stack([score_function(model, x) for _ in range(11)]).mean(0)


def bias_variance(loss, model, x):
    bias = [p for name, p in model.encoder.named_parameters() if "bias" in name][-1]
    gradients = [torch.autograd.grad(loss(model, x).mean(), bias)[0] for _ in range(30)]
    return torch.stack(gradients).var(0).mean().item()


torch.set_default_dtype(torch.float)
_ = torch.manual_seed(0)
vae, digits = mlp_vae(), data.binarize(data.load("mnist", "test").images[:100])
plain, centered = (bias_variance(f, vae, digits) for f in (without_baseline, leave_one_out))
print(f"variance without a baseline {plain:.0f}, leave-one-out {centered:.4f},", end="")
print(f" a factor of {plain / centered:.0e}")
torch.set_default_dtype(torch.double)
assert plain > 100 * centered

# %% [markdown]
# Then the ratios, in five networks. With the KL estimated by the same samples, the score function with leave-one-out baseline has 5.0 ± 0.6 times the variance of the path-wise estimator in a fresh network, 10.3 ± 0.8 times after 600 steps of training, and 9.3 ± 0.4 times after 2,400. With a baseline from ten samples that serve for nothing else it is 53 ± 6, 102 ± 10 and 110 ± 7 times ({ref}`experiment <exp-gradient-noise>`).
#
# The closed form of the KL divides the variance of the path-wise estimator by 49 ± 4 in a fresh network, but only by 1.9 ± 0.1 after 600 steps, and by 1.11 ± 0.07 after 2,400 ({ref}`same networks <exp-gradient-noise>`).
#
# :::{depth-end}
# :::
#
# In five networks, each with its own initial weights and digits ({ref}`experiment <exp-gradient-noise>`), with the KL estimated by the same samples and the leave-one-out baseline, the score function has five times the variance in a fresh network, and 9 to 15 times after training ({numref}`fig-digit-variances`). With a baseline from ten samples that serve for nothing else it is 50 to 150 times, because only one sample of eleven enters the gradient itself.

# %% tags=["figure"] mystnb={"image": {"alt": "Nine rows of five marks on a logarithmic axis of ratios of variances, in three groups of stages. The leave-one-out marks lie between 4 and 12 with a sampled KL. With a closed KL they lie near 200 in fresh networks and near 15 after 2,400 steps. The marks of one sample lie between 40 and 140."}, "figure": {"caption": "The variance of score-function estimates over that of path-wise ones of as many samples, for five networks at three stages of training. \"One sample\" uses ten of eleven for the baseline alone.", "name": "fig-digit-variances"}}
record, labels = record_of("gradient-noise"), []
measures = {
    "leave-one-out": "leave-one-out, sampled",
    "one sample": "one score, sampled",
    "closed KL, leave-one-out": "leave-one-out, closed",
}
colors = ("#0072b2", "#d55e00", "#009e73")
looks = [{"marker": mark, "color": color} for mark, color in zip("osD", colors, strict=True)]
fig, (axes,) = plots.figure(height=2.7)
for stage in ("fresh", "600 steps", "2400 steps"):
    for look, (name, measure) in zip(looks, measures.items(), strict=True):
        ratios, at = record.value(stage, measure).values, len(labels)
        _ = axes.plot(ratios, [at] * len(ratios), **look, linestyle="", markerfacecolor="none")
        labels.append(name if at % 3 else f"{stage}: {name}")
_ = axes.set(xscale="log", xlabel="variance over that of the path-wise estimate")
_ = axes.set_yticks(range(len(labels)), labels)
_ = axes.invert_yaxis()
fig

# %% [markdown]
# One uses the closed form of the KL, since it costs no pass. It helps the path-wise estimator much in a fresh network, and little after training.

# %% [markdown]
# (sec-entropy-gradient)=
# ## The score term again: sticking the landing, and DReG
#
# One part of the gradient of the bound needs no samples. The entropy of $q_\phi = \mathcal{N}(\mu_\phi, \operatorname{diag} \sigma_\phi^2)$ is $\sum_i \log \sigma_i + \frac{d}{2} \log 2 \pi e$, and
#
# $$
# \nabla_\phi H(q_\phi) = \sum_i \frac{1}{\sigma_i} \nabla_\phi\, \sigma_i = J^\top (1 / \sigma), \qquad J = \frac{\partial \sigma_\phi}{\partial \phi} .
# $$ (eq-entropy-gradient)
#
# Estimate it by samples instead, as the mean of $- \log q_\phi(z)$ with $z = g(\varepsilon, \phi)$. Then $\phi$ occurs twice, in the *density* and in the *sample*, and again the derivative has two terms, a score term and a path term. Together they are exact for every single sample,
#
# $$
# \frac{\mathrm{d}}{\mathrm{d} \phi} \Big[ - \log q_\phi\big( g(\varepsilon, \phi) \big) \Big] = \Big( 0,\; \frac{1}{\sigma} \Big) \qquad \text{for every } \varepsilon \text{ and } \phi = (\mu, \sigma) ,
# $$ (eq-entropy-per-draw)
#
# because $- \log q_\phi(\mu + \sigma \varepsilon) = \frac12 \varepsilon^2 + \log \sigma + \frac12 \log 2 \pi$. But the score term has mean zero {eq}`eq-score-mean-zero`, so it may be left out of the gradient of the bound:
#
# $$
# \nabla_\phi\, \mathrm{ELBO} = \mathbb{E}_{p(\varepsilon)} \bigg[ \Big( \frac{\partial g}{\partial \phi} \Big)^{\!\top} \frac{\partial}{\partial z} \big( \log p_\theta(x, z) - \log q_\phi(z) \big) \bigg]_{z = g(\varepsilon, \phi)} .
# $$ (eq-sticking)
#
# Why leave out something that cancels variance? When $q_\phi$ *is* the posterior, $\log p_\theta(x, z) - \log q_\phi(z)$ is the constant $\log p_\theta(x)$, its slope is zero, and every single sample returns the exact gradient:
#
# $$
# q_\phi = p_\theta(z \mid x) \quad \Longrightarrow \quad \frac{\partial}{\partial z} \big( \log p_\theta(x, z) - \log q_\phi(z) \big) = 0 \;\text{ for all } z .
# $$ (eq-sticking-zero)
#
# {cite:t}`roeder2017` call it sticking the landing: an optimizer that has arrived is not moved away by its own samples.
#
# **Check.** For the entropy, an element-wise product of $1 / \sigma$ and the gradient of $\sum_i \sigma_i$ is rejected in the place of the contraction. The total derivative is compared with its constant value sample by sample, and each of the two terms alone is rejected. For the bound the check rejects the other sign of $\log q_\phi$, and leaving it out; at the posterior, the gradients of all 400,000 samples vanish one by one, and those with both terms do not.

# %% tags=["check", "nbval-check-output"]
W, weights = torch.randn(3, 3), torch.randn(3)


def std(weights):
    return (W @ weights).exp()


def entropy(weights):
    return Normal(torch.zeros(3), std(weights)).entropy().sum()


J = jacrev(std)(weights)
printed = grad(lambda w: std(w).sum())(weights) / std(weights)
contraction = J.T @ (1 / std(weights))
verify("eq-entropy-gradient", grad(entropy)(weights), contraction, rejects={"E9": printed})


def log_q(phi, z):
    return Normal(*phi).log_prob(z)


def draw(phi):
    return phi[0] + phi[1] * noise


def total_gradient(phi):
    return per_sample_gradients(lambda p: log_joint(theta, draw(p)) - log_q(p, draw(p)), phi)


def sticking(phi):
    """The path term alone: log q has fixed parameters."""
    return per_sample_gradients(lambda p: log_joint(theta, draw(p)) - log_q(phi, draw(p)), phi)


# %% tags=["check", "nbval-check-output"]
total = per_sample_gradients(lambda p: -log_q(p, draw(p)), phi)
score_term = per_sample_gradients(lambda p: -log_q(p, draw(p).detach()), phi)
constant = torch.stack([0 * sigma, 1 / sigma])
one_term = {"score term": score_term, "path term": total - score_term}
verify("eq-entropy-per-draw", total, constant.expand_as(total), rejects=one_term)
wrong = {"score term": score_term.mean(0), "in the log-variance": constant * sigma / 2}
verify("eq-entropy-gradient", total - score_term, constant, monte_carlo, rejects=wrong)
truth = grad(elbo, argnums=1)(theta, phi)
wrong = {"sign of log q": truth - 2 * constant, "log q left out": truth - constant}
verify("eq-sticking", sticking(phi), truth, monte_carlo, rejects=wrong)
posterior = torch.stack([a * (x - b) / (a**2 + s**2), variance_z.sqrt()])
at_top, wrong = sticking(posterior), {"both terms": total_gradient(posterior)}
verify("eq-sticking-zero", at_top, 0 * at_top, exact.on_scale(1.0), rejects=wrong)

# %% [markdown]
# :::{depth-start} the path term alone varies more where q is less than 0.7 times as wide as the posterior
# :::
#
# Let $q$ have the posterior's mean and $r$ times its standard deviation $\sqrt v$, in the solvable model. The derivative in $\mu$, by one sample, has the variances
#
# $$
# \operatorname{Var}_\text{closed KL} = \Big( \frac{1}{v} - 1 \Big)^2 r^2 v, \qquad \operatorname{Var}_\text{both terms} = \frac{r^2}{v}, \qquad \operatorname{Var}_\text{path term} = \frac{1}{v} \Big( r - \frac{1}{r} \Big)^2 .
# $$ (eq-three-variances)
#
# For $\log p_\theta(x, z)$ has the slope $-(z - m) / v$ with the posterior's mean $m$. Both terms: $-\log q_\phi$ of a moving sample is constant in $\mu$, so this slope is the estimate. Closed KL: the prior's part $-z$ of the slope becomes $-\mu$. Path term: $(z - \mu) / \sigma^2$ is added. With $z - m = r \sqrt v\, \varepsilon$ these are the three variances. The third is zero at $r = 1$, and larger than the second for $r < 1 / \sqrt 2$.
#
# **Check.** The three variances are compared with samples for a $q$ half as wide as the posterior; the check rejects another order of the three.

# %% tags=["check", "nbval-check-output"]
r, v, narrow = 0.5, variance_z, posterior * torch.tensor([1.0, 0.5])
slope = a * (x - a * draw(narrow) - b) / s**2
three = torch.stack([slope, total_gradient(narrow)[:, 0], sticking(narrow)[:, 0]], 1)
known = torch.stack([(1 / v - 1) ** 2 * r**2 * v, r**2 / v, (r - 1 / r) ** 2 / v])
verify("eq-three-variances", three, known, variance, rejects={"in another order": known.flip(0)})

# %% tags=["figure"] mystnb={"image": {"alt": "Standard deviation against the width of q. Two rising straight lines; the third line comes down from large values at narrow q, touches zero where the width is right, and rises again, at twice the width nearly to the lower straight line."}, "figure": {"caption": "Standard deviation of three unbiased estimators of one derivative. That of the path term is zero where q is the posterior, and largest where q is far too narrow.", "name": "fig-three-estimators"}}
ratios = torch.linspace(0.3, 2, 69)
precision = 1 / variance_z
plots.curves(
    {
        "closed KL": (ratios, (precision - 1) * ratios * variance_z.sqrt()),
        "both terms": (ratios, precision * ratios * variance_z.sqrt()),
        "path term": (ratios, (ratios - 1 / ratios).abs() / variance_z.sqrt()),
    },
    x_label="standard deviation of q, over the posterior's",
    y_label=r"standard deviation, derivative in $\mu$",
)

# %% [markdown]
# :::{depth-end}
# :::

# %% [markdown]
# **More samples inside the logarithm.** The bound of $K$ samples {eq}`def-k-sample-bound` is tighter. Does the encoder train better with it? {cite:t}`rainforth2018` found the opposite: relative to its size, the usual gradient in $\phi$ gets *noisier* with $K$. For the tighter the bound, the less it depends on $q$: the gradient vanishes like $1 / K$, its standard deviation only like $1 / \sqrt K$. With the normalized weights $\tilde w_k = w_k / \sum_j w_j$ the gradient is
#
# $$
# \nabla_\phi L_K = \mathbb{E} \sum_k \tilde w_k \Big[ \Big( \frac{\partial g}{\partial \phi} \Big)^{\!\top} \frac{\partial \log w_k}{\partial z_k} - \nabla_\phi \log q_\phi(z_k) \Big] ,
# $$ (eq-k-sample-gradient)
#
# and the culprit is the score term. For $K > 1$ it may not be dropped, because its factor $\tilde w_k$ depends on $z_k$. But an expectation of $\tilde w_k$ times a score is a score-function gradient with $f = \tilde w_k$, and can be reparameterized in turn. The slope of $\tilde w_k$ in $z_k$ is $\tilde w_k (1 - \tilde w_k)\, \partial \log w_k / \partial z_k$, and $\tilde w_k - \tilde w_k (1 - \tilde w_k) = \tilde w_k^2$. This is the doubly reparameterized gradient, DReG, of {cite:t}`tucker2019`:
#
# $$
# \nabla_\phi L_K = \mathbb{E} \sum_k \tilde w_k^2\, \Big( \frac{\partial g}{\partial \phi} \Big)^{\!\top} \frac{\partial \log w_k}{\partial z_k} .
# $$ (eq-dreg)
#
# It costs the same passes, and for $K = 1$ it is {eq}`eq-sticking`.


# %%
def dreg(phi, noise):
    """One estimate of the gradient of L_K for each row of noise; a row has K samples."""
    fixed = phi.detach()

    def log_w(z):
        return log_joint(theta, z) - Normal(*fixed).log_prob(z)

    z = fixed[0] + fixed[1] * noise
    weights, slope = log_w(z).softmax(-1), grad(lambda z: log_w(z).sum())(z)
    path = torch.stack([torch.ones_like(noise), noise], -1)
    return ((weights**2 * slope)[..., None] * path).sum(-2)


# %% [markdown]
# **Check.** For $K = 2$ the bound of the solvable model is an integral over two noise variables. Its gradient, by automatic differentiation of the integral on a grid, is compared with both estimators, for a $q$ with a shifted mean and one and a half times the posterior's standard deviation. Each check rejects the weights without the square, and the score term left out.

# %% tags=["check", "nbval-check-output"]
rough = posterior * torch.tensor([1.0, 1.5]) + torch.tensor([0.3, 0.0])
axis = torch.linspace(-8, 8, 401)
cell = Normal(0.0, 1.0).log_prob(axis).exp() * (axis[1] - axis[0])


def two_sample_bound(phi):
    z = phi[0] + phi[1] * axis
    log_w = log_joint(theta, z) - Normal(*phi).log_prob(z)
    both = torch.logaddexp(log_w[:, None], log_w[None]) - math.log(2)
    return (both * cell[:, None] * cell).sum()


def usual(phi, noise, with_score=True):
    z = phi[0] + phi[1] * noise
    log_w = log_joint(theta, z) - Normal(*phi).log_prob(z)
    slope = theta[0] * (x - theta[0] * z - theta[1]) / s**2 - z + noise / phi[1]
    path = torch.stack([torch.ones_like(noise), noise], -1)
    score = torch.stack([noise, noise**2 - 1], -1) / phi[1]
    each = slope[..., None] * path - (score if with_score else 0)
    return (log_w.softmax(-1)[..., None] * each).sum(-2)


pairs = torch.randn(200_000, 2)
truth = grad(two_sample_bound)(rough)
wrong = {"score term left out": usual(rough, pairs, with_score=False).mean(0)}
verify("eq-k-sample-gradient", usual(rough, pairs), truth, monte_carlo, rejects=wrong)
verify(
    "eq-dreg",
    dreg(rough, pairs),
    truth,
    monte_carlo,
    rejects={"no square": wrong["score term left out"]},
)

# %% tags=["numbers", "columns"]
sizes = 2 ** torch.arange(9)
ratios = {"both terms": [], "DReG": []}
for K in sizes.tolist():
    rows = torch.randn(1_000_000 // K, K)
    doubly, plain = dreg(rough, rows)[:, 0], usual(rough, rows)[:, 0]
    ratios["both terms"] += [(doubly.mean().abs() / plain.std()).item()]
    ratios["DReG"] += [(doubly.mean().abs() / doubly.std()).item()]
print(f"{'samples':>7}  {'both terms':>10}  {'DReG':>6}")
for at in (0, 4, 8):
    print(f"{sizes[at]:7d}  {ratios['both terms'][at]:10.3f}  {ratios['DReG'][at]:6.2f}")

# %% tags=["figure"] mystnb={"image": {"alt": "Signal-to-noise ratio against the number of samples, both axes logarithmic. The line of the usual gradient falls from 0.4 to below 0.02 at 256 samples, that of DReG dips below 0.75, then rises to about 6."}, "figure": {"caption": "The derivative of the K-sample bound in the mean of q: its size over the standard deviation of one estimate.", "name": "fig-dreg"}}
_, (axes,) = plots.figure(height=2.7)
plots.curves(
    {name: (sizes, torch.tensor(values)) for name, values in ratios.items()},
    axes=axes,
    x_label="samples K",
    y_label="signal-to-noise ratio",
    log_x=True,
    log_y=True,
)

# %% [markdown]
# From 16 samples to 256, the usual gradient's ratio falls to a quarter, like $1 / \sqrt K$, and that of DReG quadruples, like $\sqrt K$. With the square the weights decay fast enough for the standard deviation to fall like $K^{-3/2}$.
#
# *Sources: D14, F04.*

# %% [markdown]
# (sec-where-each-fails)=
# ## What goes wrong: jumps, moving edges, discrete latents
#
# **A jump.** Let $f(z) = 1$ for $z > 0$, and 0 otherwise. Its expectation is the probability $\Phi(\mu / \sigma)$, with the distribution function $\Phi$ of $\mathcal{N}(0, 1)$, and it depends on both parameters:
#
# $$
# \nabla_{\mu, \sigma}\, \mathbb{E}\, 1[z > 0] = \mathcal{N}(0;\, \mu, \sigma^2) \cdot \big( 1,\; - \mu / \sigma \big) .
# $$ (eq-step-gradient)
#
# But the slope of a step is zero at every sample, so the path-wise estimate is always zero: no variance, no error message, and wrong. A moving sample changes a step only at the instant when it crosses the edge, which is why {prf:ref}`thm-path-gradient` requires a differentiable $f$. The score function is right.
#
# **A moving edge.** Let $z$ be uniform on $(0, \phi)$ at $\phi = 2$ and $f(z) = z$, with the expectation $\phi / 2$. Every sample has the score $-1 / \phi$, whose mean is not zero, as the support changes. So the estimates $-z / \phi$ have the mean $-\frac12$ in the place of $+\frac12$: weights on old samples cannot say that new values become possible beyond the edge. Moving the samples can, by $z = \phi u$.
#
# **Check.** Averages over samples are compared with {eq}`eq-step-gradient`; the check rejects the path-wise estimate, which is zero in every sample, and the other sign in $\sigma$.

# %% tags=["check", "nbval-check-output"]
step = (mu + sigma * noise > 0).double()
height = Normal(mu, sigma).log_prob(torch.tensor(0.0)).exp()
truth = height * torch.stack([torch.tensor(1.0), -mu / sigma])
always_zero = by_path(lambda z: (z > 0).double(), mu, sigma, noise)
assert (always_zero == 0).all()
wrong = {"path-wise gradient": always_zero.mean(0), "sign in sigma": truth.abs()}
estimates = by_score(lambda z: step, mu, sigma, noise)
verify("eq-step-gradient", estimates, truth, monte_carlo, rejects=wrong)

edge, u = torch.tensor(2.0), torch.rand(400_000)
score = grad(lambda edge: -edge.log())(edge)  # the density is 1 / edge
moved = grad(lambda edge: (edge * u).mean())(edge)
assert abs((edge * u * score).mean() + 0.5) < 0.01 and abs(moved - 0.5) < 0.01

# %% [markdown]
# :::{depth-start} the steeper the slope, the more the path-wise gradient varies
# :::
#
# Replace the step by a logistic curve of width $h$, $f_h(z) = 1 / (1 + e^{-z / h})$. Now both estimators are unbiased. But the slope is large only for the rare samples near zero, and there it is huge:
#
# $$
# h \cdot \mathbb{E}\, f_h'(z)^2 \;\to\; \frac{\mathcal{N}(0;\, \mu, \sigma^2)}{6} \qquad \text{for } h \to 0 ,
# $$ (eq-steep-slope)
#
# so the variance grows like $1 / h$, while that of the score-function estimator stays bounded, because $f_h$ does. For $f_h'(z) = \frac1h\, l(z / h) (1 - l(z / h))$ with the logistic function $l$; substitute $u = z / h$: $h\, \mathbb{E} f_h'^2 = \int \big( l(u) (1 - l(u)) \big)^2\, \mathcal{N}(h u; \mu, \sigma^2)\, \mathrm{d}u$. For $h \to 0$ the density tends to its value at zero, and with $l' = l (1 - l)$ the rest is $\int_0^1 l (1 - l)\, \mathrm{d}l = 1/6$.
#
# **Check.** For a step of width 0.02 the integral on a grid is compared with the limit; the largest slope squared is rejected.

# %% tags=["check", "nbval-check-output"]
h = 0.02
slope = torch.sigmoid((mu + sigma * grid) / h) * torch.sigmoid(-(mu + sigma * grid) / h) / h
wrong = {"largest slope squared": height / 16}
verify("eq-steep-slope", h * mean(slope**2), height / 6, quadrature.within(1e-2), rejects=wrong)

widths = torch.logspace(-2, 1, 31)
curves = {"path-wise": [], "score-function": []}
for h in widths:
    for name, by in (("path-wise", by_path), ("score-function", by_score)):
        estimates = by(lambda z, h=h: torch.sigmoid(z / h), mu, sigma, grid)
        curves[name] += [exact_variance(estimates)[0].sqrt()]
path, score = torch.tensor(curves["path-wise"]), torch.tensor(curves["score-function"])
wider = (path > score).sum()  # widths at which the path loses
assert (path[wider:] < score[wider:]).all()
print(f"the lines cross once, between the widths {widths[wider - 1]:.2f} and {widths[wider]:.2f}")

# %% tags=["figure"] mystnb={"image": {"alt": "Standard deviation against the width of the step, both axes logarithmic. The path-wise line falls as the step gets wider, the score-function line is almost flat; they cross near a width of 0.16."}, "figure": {"caption": "Standard deviation of the derivative in the mean, for one sample. Left of the crossing the slope is so steep that the path-wise estimator varies more.", "name": "fig-steep"}}
plots.curves(
    {name: (widths, values) for name, values in curves.items()},
    x_label="width h of the step",
    y_label=r"standard deviation, derivative in $\mu$",
    log_x=True,
    log_y=True,
)

# %% [markdown]
# :::{depth-end}
# :::

# %% [markdown]
# **Discrete latents** jump by nature: a Bernoulli variable $z \in \{0, 1\}$ with $\pi = \Pr(z = 1) = 1 / (1 + e^{-\eta})$ is $1[u < \pi]$ for uniform $u$, a step in $\eta$, without slope even if $f$ is smooth:
#
# - *Sum* over the values, if there are few. It is exact.
# - *Score function*, with the leave-one-out baseline. It is unbiased.
# - *Relax*: replace the variable by the sigmoid of $(\eta + \log \frac{u}{1 - u}) / \tau$ with uniform $u$, which tends to a Bernoulli variable as the *temperature* $\tau$ goes to 0: the Gumbel-softmax or concrete distribution {cite:p}`jang2017,maddison2017concrete`. It is biased, because $f$ is evaluated where the variable never is ({numref}`fig-equal-cost`).
# - *Correct* the relaxation. REBAR {cite:p}`tucker2017` uses it as a control variate, with a factor $c$: it subtracts from $f(z)$ that of a relaxed variable drawn given $z$, and adds the lost gradient as the difference of two path-wise ones. It is unbiased, and varies less if $f$ of the relaxed variable is close to $f(z)$. DisARM {cite:p}`dong2020` needs no relaxation and pairs samples from opposite random numbers, $u$ and $1 - u$.
# - *Straight-through*: sample $z$, and in the backward pass use the derivative of $\pi$ in place of that of $z$ {cite:p}`bengio2013ste`; autoencoders with a codebook (VQ-VAE) are trained in this way {cite:p}`oord2017`. It is unbiased for linear $f$, in general not: $f'$ at the sample stands in for $f(1) - f(0)$ (box).
#
# Which is best, if all may evaluate $f$ equally often? Take six Bernoulli latents, for which the bound is a sum over 64 states, and a linear decoder with random weights, $x \mid z \sim \mathcal{N}(W z, I)$ with ten pixels. Each estimate evaluates $f$ six times: six samples, three pairs of DisARM, or two of REBAR, which needs $f$ at three points.

# %% tags=["serves"]
_ = torch.manual_seed(0)
W = torch.randn(5, 10, 6)  # five models
pixels = (W @ torch.randint(2, (5, 6, 1)).double()).squeeze(-1) + torch.randn(5, 10)
states = torch.cartesian_prod(*[torch.arange(2.0)] * 6)[:, None].expand(-1, 5, 6)


def bernoulli_log_q(eta, z):
    return (z * eta - softplus(eta)).sum(-1)


def log_weight(eta, z, scale):
    """Log p(x, z) - log q(z) up to a constant, for all five models; z may lie between 0 and 1."""
    residual = pixels - scale * torch.einsum("mij,...mj->...mi", W, z)
    return -0.5 * residual.square().sum(-1) - bernoulli_log_q(eta, z)


def exact_bound(eta, scale):
    return (bernoulli_log_q(eta, states).exp() * log_weight(eta, states, scale)).sum()


def soft(eta, u, temperature):
    return torch.sigmoid((eta + u.logit()) / temperature)


def given(eta, z, v):
    """Uniform numbers that lead to the hard sample z, from uniform v."""
    p = eta.sigmoid()
    return torch.where(z == 1, 1 - p + v * p, v * (1 - p))


# %% [markdown]
# :::{depth-start} straight-through is right for a linear f, in general not, and REBAR is unbiased because the product rule holds for its control variate, too
# :::
#
# For one variable straight-through estimates
#
# $$
# \mathbb{E}\, \big[ \pi (1 - \pi)\, f'(z) \big] = \pi (1 - \pi)\, \big( \pi f'(1) + (1 - \pi) f'(0) \big) ,
# $$ (eq-straight-through)
#
# which is the true $\partial_\eta\, \mathbb{E} f(z) = \pi (1 - \pi)\, \big( f(1) - f(0) \big)$ for linear $f$, and in general is not.
#
# Now REBAR. Let $\zeta = \zeta(\eta, u)$ be the relaxed variable, with the hard one $z = 1[\zeta > \frac12]$, and $\tilde \zeta = \tilde \zeta(\eta, z, v)$ a second relaxed variable, drawn given $z$ by its own uniform $v$. For any number $c$,
#
# $$
# \nabla_\eta\, \mathbb{E} f(z) = \mathbb{E} \Big[ \big( f(z) - c\, f(\tilde \zeta) \big)\, \nabla_\eta \log q(z) + c\, \nabla_\eta f(\zeta) - c\, \nabla_\eta f(\tilde \zeta) \Big] .
# $$ (eq-rebar)
#
# The expectation of $f(\zeta)$ can be taken in two stages, over $z$ and then over $\tilde \zeta$ given $z$. By the product rule {eq}`eq-product-rule` its gradient is $\mathbb{E}[f(\tilde \zeta)\, \nabla_\eta \log q(z)] + \mathbb{E}[\nabla_\eta f(\tilde \zeta)]$, and by reparameterization it is $\mathbb{E}\, \nabla_\eta f(\zeta)$. So what stands beside $c$ has mean zero. It helps if $f(\tilde \zeta)$ is close to $f(z)$, and the variance in $c$ is a parabola, so the best $c$ is one division; Tucker et al. adapt it and the temperature during training.
#
# **Check.** For straight-through, $f(z) = (z - 0.45)^2$ at $\eta = 0.3$, where the true gradient is small and a bias easily seen; the true gradient is rejected. For REBAR with $c = 1$ and temperature 0.8, averages are compared with the gradient of the exact sum in the five models; the relaxed gradient alone is rejected.


# %% tags=["check", "nbval-check-output"]
def rebar(f, eta, u, v, temperature):
    """The score-function estimates, and a control variate of mean zero."""
    z = (u > 1 - eta.sigmoid()).double()
    score = z - eta.sigmoid()

    def relaxed(eta, u):
        return f(soft(eta, u, temperature))

    moving = eta.expand_as(u)
    free = grad(lambda eta: relaxed(eta, u).sum())(moving)
    tied = grad(lambda eta: relaxed(eta, given(eta, z, v)).sum())(moving)
    value = relaxed(eta, given(eta, z, v))[..., None]
    return f(z)[..., None] * score, free - tied - value * score


eta_1, u = torch.tensor(0.3).expand(400_000), torch.rand(400_000)
pi = eta_1.sigmoid()
hard = (u > 1 - pi).double()
through = grad(lambda e: ((hard + e.sigmoid() - e.sigmoid().detach() - 0.45) ** 2).sum())(eta_1)
p = pi[0]
right, wrong = p * (1 - p) * (p * 1.1 - (1 - p) * 0.9), {"true gradient": p * (1 - p) * 0.1}
verify("eq-straight-through", through, right, monte_carlo, rejects=wrong)

start = torch.randn(5, 6)
u, v = torch.rand(2, 40_000, 5, 6)
scored, control = rebar(lambda z: log_weight(start, z, 1.0), start, u, v, 0.8)
truth = grad(exact_bound)(start, 1.0)
free = grad(lambda e: log_weight(start, soft(e, u, 0.8), 1.0).sum())(start.expand_as(u))
verify("eq-rebar", scored + control, truth, monte_carlo, rejects={"relaxed": free.mean(0)})

# %% [markdown]
# :::{depth-end}
# :::


# %% tags=["serves"]
def equal_cost(eta, scale, num=3000):
    """Estimates that evaluate f six times, by method."""

    def f(z):
        return log_weight(eta, z, scale)

    u, v, pi = torch.rand(num, 6, 5, 6), torch.rand(num, 2, 5, 6), eta.sigmoid()
    z, opposite = (u > 1 - pi).double(), (1 - u[:, :3] > 1 - pi).double()
    value = f(z)[..., None]
    found = {"no baseline": (value * (z - pi)).mean(1)}
    found["leave-one-out"] = ((value - value.mean(1, keepdim=True)) * (z - pi)).sum(1) / 5
    sign = (z[:, :3] - opposite) * torch.maximum(pi, 1 - pi)
    found["DisARM"] = ((value[:, :3] - f(opposite)[..., None]) / 2 * sign).mean(1)
    for temperature in (0.4, 0.8):
        scored, control = (e.mean(1) for e in rebar(f, eta, u[:, :2], v, temperature))
        away = scored - scored.mean(0), control - control.mean(0)
        c = -(away[0] * away[1]).sum((0, 2)) / away[1].square().sum((0, 2))
        found[f"REBAR, {temperature}"] = scored + c[:, None] * control
        moving = eta.expand_as(u)
        relaxed = grad(lambda e, t=temperature: f(soft(e, u, t)).sum())(moving)
        found[f"relaxed, {temperature}"] = relaxed.mean(1)
    slope = grad(lambda z: f(z).sum())(z)
    return found | {"straight-through": (slope * pi * (1 - pi)).mean(1)}


# %% tags=["numbers", "columns"]
near = start.clone()
for _ in range(300):
    near += 0.1 * grad(exact_bound)(near, 1.0)
settings = {"start": (start, 1.0), "optimum": (near, 1.0), "weak decoder": (start, 0.3)}
table = {name: equal_cost(*setting) for name, setting in settings.items()}
variances = {n: {m: e.var(0).sum(-1) for m, e in found.items()} for n, found in table.items()}
biases = {m: (e.mean(0) - truth).square().sum(-1) for m, e in table["start"].items()}
signal = truth.square().sum(-1)
unbiased = [m for m in table["start"] if m.startswith(("no", "leave", "Dis", "REBAR"))]
print(f"{'variance over leave-one-out':27}  " + "  ".join(f"{name:>12}" for name in settings))
for method in unbiased:
    ratios = [(each[method] / each["leave-one-out"]).log() for each in variances.values()]
    print(f"{method:27}  " + "  ".join(f"{r.mean().exp():12.2f}" for r in ratios))
assert (variances["start"]["REBAR, 0.8"] > variances["start"]["leave-one-out"]).all()

# %% tags=["figure"] mystnb={"image": {"alt": "Relative error against the number of evaluations, both axes logarithmic. Leave-one-out, REBAR, and the score function without a baseline fall as parallel lines, in this order from below. The relaxed gradient starts lower and levels off above a tenth, straight-through levels off near 0.3."}, "figure": {"caption": "Root-mean-square error of an averaged gradient over the gradient's size, at the start. The biased ones start ahead and stop at their bias.", "name": "fig-equal-cost"}}
evaluations = 6 * torch.logspace(0, 3.5, 36)
lines = {}
for method in ("no baseline", "REBAR, 0.8", "leave-one-out", "relaxed, 0.4", "straight-through"):
    var, squared = variances["start"][method], biases[method]
    bias = 0 * var if method in unbiased else (squared - var / 3000).clamp(min=0)
    errors = (var * 6 / evaluations[:, None] + bias) / signal
    lines[method] = evaluations, errors.mean(1).sqrt()
labels = {"x_label": "evaluations of f", "y_label": "relative error"}
_, (axes,) = plots.figure(height=2.6)
plots.curves(lines, **labels, log_x=True, log_y=True, axes=axes)

# %% [markdown]
# The table has geometric means over five models, with the best $c$ for REBAR at two temperatures. At the start the plainest baseline, leave-one-out, varies least, near the optimum as little as DisARM. With weights a third as large, where $f$ bends less between the values of the latents, REBAR varies least.
#
# As a rule: the path-wise gradient for a smooth network with continuous latents; for discrete ones a sum over few values, leave-one-out for more, and a relaxation or straight-through if a bias is acceptable. {cite:t}`mohamed2020` survey the field.
#
# *Sources: F04.*

# %% [markdown]
# (sec-reparameterization-exercises)=
# ## Exercises
#
# Replace the three dots by your answer and run the cell.

# %% [markdown]
# ```{exercise-start} The gradient of a cube
# :label: ex-cube-gradient
# ```
# Let $z \sim \mathcal{N}(\mu, \sigma^2)$. Write $\partial_\mu\, \mathbb{E} z^3$ and $\partial_\sigma\, \mathbb{E} z^3$ as a function of $\mu$ and $\sigma$.


# %% tags=["answer", "nbval-check-output"]
def cube_gradient(mu, sigma):
    return ...


exercises.check_cube(cube_gradient)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-cube-gradient
# :label: ex-cube-gradient-solution
# :class: dropdown
# ```
# By {eq}`eq-path-gradient` the derivatives are $\mathbb{E}\, 3 z^2$ and $\mathbb{E}\, 3 z^2 \varepsilon$. With $z = \mu + \sigma \varepsilon$ the second is $3 \cdot 2 \mu \sigma$.


# %% tags=["nbval-check-output"]
def cube_gradient(mu, sigma):
    return 3 * mu**2 + 3 * sigma**2, 6 * mu * sigma


exercises.check_cube(cube_gradient)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} A waiting time with a gradient
# :label: ex-exponential-draw
# ```
# The exponential distribution with rate $\lambda$ has the distribution function $1 - e^{-\lambda z}$. Write a sample as a differentiable function of the rate and of $u$, uniform on $(0, 1)$. Larger $u$ shall give larger $z$.


# %% tags=["answer", "nbval-check-output"]
def waiting_time(u, rate):
    return ...


exercises.check_waiting_time(waiting_time)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-exponential-draw
# :label: ex-exponential-draw-solution
# :class: dropdown
# ```
# Invert the distribution function, as in {eq}`eq-inverse-cdf`. The path-wise estimator does not need a Gaussian.


# %% tags=["nbval-check-output"]
def waiting_time(u, rate):
    return -torch.log1p(-u) / rate


exercises.check_waiting_time(waiting_time)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} A Cholesky root
# :label: ex-cholesky
# ```
# Find the Cholesky root of $\Sigma = \begin{pmatrix} 4 & 2 \\ 2 & 5 \end{pmatrix}$: lower triangular, with positive diagonal. Give it as a nested list.

# %% tags=["answer", "nbval-check-output"]
answer = ...
exercises.check_root(answer)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-cholesky
# :label: ex-cholesky-solution
# :class: dropdown
# ```
# Row by row: $l_{11}^2 = 4$, $l_{21} l_{11} = 2$, $l_{21}^2 + l_{22}^2 = 5$.

# %% tags=["nbval-check-output"]
exercises.check_root([[2, 0], [1, 2]])

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} The best baseline for a cube
# :label: ex-best-baseline
# ```
# Let $f(z) = z^3$ and $q = \mathcal{N}(\mu, \sigma^2)$. Write the baseline {eq}`eq-best-baseline` for the derivative in $\mu$ as a function of $\mu$ and $\sigma$.


# %% tags=["answer", "nbval-check-output"]
def baseline(mu, sigma):
    return ...


exercises.check_baseline(baseline)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-best-baseline
# :label: ex-best-baseline-solution
# :class: dropdown
# ```
# The score is $\varepsilon / \sigma$, so the baseline is $\mathbb{E}[(\mu + \sigma \varepsilon)^3 \varepsilon^2]$. Only even powers of $\varepsilon$ survive: $\mu^3 + 3 \mu \sigma^2\, \mathbb{E} \varepsilon^4$.


# %% tags=["nbval-check-output"]
def baseline(mu, sigma):
    return mu**3 + 9 * mu * sigma**2


exercises.check_baseline(baseline)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} A baseline that cheats
# :label: ex-own-mean
# ```
# With $K$ independent samples, take their own average $\bar f = \frac1K \sum_k f(z_k)$ as the baseline: $\frac1K \sum_k (f(z_k) - \bar f)\, \nabla_\phi \log q_\phi(z_k)$. It is not independent of the sample that it is subtracted from. The expectation of this estimate is the true gradient times which factor? Write it as a function of $K$.


# %% tags=["answer", "nbval-check-output"]
def factor(K):
    return ...


exercises.check_factor(factor)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-own-mean
# :label: ex-own-mean-solution
# :class: dropdown
# ```
# In $\bar f$ the sample $z_k$ has the weight $1 / K$; the other samples are independent of its score, which has expectation zero. So a fraction $1 / K$ of the gradient is lost. Leaving the sample itself out of the average, as in {eq}`eq-leave-one-out`, repairs it.


# %% tags=["nbval-check-output"]
def factor(K):
    return 1 - 1 / K


exercises.check_factor(factor)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} A Bernoulli variable
# :label: ex-coin-gradient
# ```
# A Bernoulli variable is $z = 1$ with probability $\pi$ and $z = 0$ otherwise. It has no path-wise gradient. Write the score-function estimate of $\partial_\pi\, \mathbb{E} f(z)$ for a vector of outcomes `z` and a vector of values `f`: one estimate for each outcome.


# %% tags=["answer", "nbval-check-output"]
def coin_gradient(z, f, pi):
    return ...


exercises.check_coin(coin_gradient)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-coin-gradient
# :label: ex-coin-gradient-solution
# :class: dropdown
# ```
# $\log q = z \log \pi + (1 - z) \log (1 - \pi)$. The expectation of the estimate is $\pi \cdot f(1) / \pi - (1 - \pi) \cdot f(0) / (1 - \pi) = f(1) - f(0)$, as it should be.


# %% tags=["nbval-check-output"]
def coin_gradient(z, f, pi):
    return f * (z / pi - (1 - z) / (1 - pi))


exercises.check_coin(coin_gradient)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# (sec-reparameterization-summary)=
# ## Summary
#
# - The gradient of an expectation has two terms {eq}`eq-product-rule`: the samples change, and the function changes. Differentiating a drawn sample gives the second alone; for the encoder that is zero on average {eq}`eq-score-mean-zero`.
# - The score-function estimator {eq}`eq-score-gradient` makes an expectation of the first term. It needs only values of $f$, and a baseline {eq}`eq-leave-one-out`.
# - Reparameterization {eq}`eq-path-gradient` makes the first term vanish. It needs smooth $f$ and $g$; in torch it is `rsample`. One sample for each image is enough {eq}`eq-one-sample`.
# - The score term of $\log q_\phi$ may be dropped {eq}`eq-sticking`, and with $K$ samples inside the logarithm reparameterized again {eq}`eq-dreg`.
# - Where $f$ jumps or the latents are discrete, sum over few values, use the score function, or accept a bias.
#
# :::{dropdown} If you come from the lectures
# {cite:t}`chan2024` marks the exchange of gradient and expectation as "not equal", and rightly so: what comes out has expectation zero. This does not forbid backpropagation, as the score-function estimator shows. Its "additional requirement" {eq}`eq-density-of-transform` is the change of variables, and holds for every bijection that is differentiable both ways. Its gradient of the entropy has an element-wise product for a contraction, and stops before the rest of the bound. Lecture notes on denoising multiply by the covariance for its root. Both misprints are on the {doc}`errata page </book/errata>`.
# :::
