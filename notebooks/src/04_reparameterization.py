# %% [markdown]
# # Reparameterization
#
# To raise the bound of the last chapter we need its gradient in the encoder's weights. But the bound is an expectation over samples from the encoder, and a sample is the output of a random generator. How can we differentiate through it? This chapter gives two answers, compares how noisy they are, and shows where each fails.

# %% tags=["setup", "hide-input"]
# The set-up cell: `make sync` writes it.

# %% tags=["unseen"]
import math

import torch
from torch import nn
from torch.distributions import LogNormal, Normal, kl_divergence
from torch.func import grad, jacrev, vmap

from companion import data
from companion.distributions import diagonal_normal
from companion.elbo import elbo_terms
from companion.experiments import record_of
from companion.page import plots
from companion.page.show import show
from companion.page.sliders import Slider
from companion.page.verify import binomial, exact, monte_carlo, quadrature, verify
from companion.training import fit, minimize
from companion.vae import Vae, mlp_vae

_ = torch.manual_seed(0)
torch.set_default_dtype(torch.double)

# %% tags=["figure"] mystnb={"image": {"alt": "Two panels of dots around the same black cross. On the left the cloud is large and bent, on the right small and compact."}, "figure": {"caption": "500 estimates of one gradient, each the average over ten samples. Left: the score-function estimator. Right: the path-wise estimator. Both have the true gradient, the cross, as their expectation.", "name": "fig-two-clouds"}}
mu, sigma = torch.tensor(0.4), torch.tensor(1.3)
noise = torch.randn(500, 10)
z = mu + sigma * noise
score = torch.stack([noise / sigma, (noise**2 - 1) / sigma], -1)
path = torch.stack([torch.ones_like(noise), noise], -1)
both = {"score function": z[..., None] ** 2 * score, "path-wise": 2 * z[..., None] * path}
fig, panels = plots.figure(2, height=3.9)
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
# {numref}`fig-two-clouds` compares the two answers. The first, the score-function estimator, leaves the samples where they are and uses how their *probabilities* change with the parameters. The second, the path-wise estimator, uses how each sample *moves* when the parameters change. Where both apply, both are unbiased. For the function of the figure the second is less noisy, and it is the one used to train variational autoencoders.
#
# The figure estimates the gradient of $\mathbb{E}\, z^2 = \mu^2 + \sigma^2$ for $z \sim q_\phi = \mathcal{N}(\mu, \sigma^2)$ with $\phi = (\mu, \sigma) = (0.4, 1.3)$, which is $(2 \mu, 2 \sigma) = (0.8, 2.6)$. Here are both estimators as code, for any function $f$; {ref}`sec-score-function` and {ref}`sec-change-of-variables` derive them. For each sample they return one estimate of the derivatives of $\mathbb{E}_{q_\phi} f(z)$ in $\mu$ and $\sigma$.


# %%
def by_score(f, noise):
    """The samples stay, their probabilities change."""
    z = mu + sigma * noise
    score = torch.stack([noise / sigma, (noise**2 - 1) / sigma], -1)
    return f(z)[..., None] * score


def by_path(f, noise):
    """The probabilities stay, the samples move."""
    z = mu + sigma * noise
    slope = grad(lambda z: f(z).sum())(z)
    return slope[..., None] * torch.stack([torch.ones_like(noise), noise], -1)


# %% [markdown]
# To compare the noise of estimators we need variances. For a Gaussian they can be computed without samples, as integrals on a fine grid of noise.

# %%
noise = torch.randn(400_000)
grid = torch.linspace(-12, 12, 24_001)
density = Normal(0.0, 1.0).log_prob(grid).exp()


def mean(values):
    """Expectation of a function of standard normal noise, given its values on the grid."""
    return torch.trapezoid(values * density, grid)


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
# **The gradient in $\theta$ is easy**, because the distribution of the samples does not depend on $\theta$, and neither does $\log q_\phi$. If the gradient may be taken under the integral, then
#
# $$
# \nabla_\theta\, \mathrm{ELBO}_{\theta, \phi}(x) = \mathbb{E}_{q_\phi(z \mid x)} \nabla_\theta \log p_\theta(x, z) .
# $$ (eq-gradient-theta)
#
# So one can sample $z$ from the encoder, differentiate $\log p_\theta(x, z)$ as if $z$ were data, and average. This is an unbiased {term}`Monte Carlo estimate <Monte Carlo estimate>`.
#
# The solvable model of the last chapter is our test case: $z \sim \mathcal{N}(0, 1)$ and $x \mid z \sim \mathcal{N}(a z + b, s^2)$, with $\theta = (a, b)$. Its bound is known in closed form {eq}`eq-elbo-terms`.

# %%
x, s = torch.tensor(0.9), 0.5**0.5
theta, phi = torch.tensor([1.3, 0.4]), torch.stack([mu, sigma])
prior = Normal(torch.tensor(0.0), torch.tensor(1.0))


def log_joint(theta, z):
    return Normal(theta[0] * z + theta[1], s).log_prob(x) + prior.log_prob(z)


def elbo(theta, phi):
    residual = (x - theta[0] * phi[0] - theta[1]) ** 2 + (theta[0] * phi[1]) ** 2
    likelihood = -0.5 * math.log(2 * math.pi * s**2) - residual / (2 * s**2)
    return likelihood - kl_divergence(Normal(*phi), prior)


# %% [markdown]
# To judge the noise of an estimate we need the gradient of every single sample, not only of their sum. The next function computes it: every sample gets its own copy of the parameters, and the gradient in a copy is that of one sample.


# %%
def per_sample_gradients(h, parameters):
    """The gradients of the values h(parameters), one row for each sample of the noise."""
    copies = parameters.expand(len(noise), 2)
    return grad(lambda copies: h(copies.T).sum())(copies)


# %% [markdown]
# **Check.** The average over samples is compared with the gradient of the closed form. Samples from the prior in the place of the encoder are rejected.

# %% tags=["check", "nbval-check-output"]
z = mu + sigma * noise
estimates = per_sample_gradients(lambda theta: log_joint(theta, z), theta)
truth = grad(elbo)(theta, phi)
of_prior = {"samples from the prior": grad(elbo)(theta, torch.tensor([0.0, 1.0]))}
verify("eq-gradient-theta", estimates, truth, monte_carlo, rejects=of_prior)

# %% [markdown]
# **The gradient in $\phi$ is harder**, because the distribution of the samples depends on $\phi$. Suppose that we proceed in the same way nevertheless: sample, then differentiate what is inside the expectation. The joint density does not contain $\phi$, so what is left is $- \nabla_\phi \log q_\phi(z \mid x)$. If the gradient may be taken out of the integral, this has expectation zero, whatever the model and the data:
#
# $$
# \mathbb{E}_{q_\phi} \nabla_\phi \log q_\phi(z) = 0 .
# $$ (eq-score-mean-zero)
#
# :::{dropdown} Proof
# $\int q_\phi\, \nabla_\phi \log q_\phi \,\mathrm{d}z = \int \nabla_\phi\, q_\phi \,\mathrm{d}z = \nabla_\phi \int q_\phi \,\mathrm{d}z = \nabla_\phi 1 = 0$, if the gradient may be taken out of the integral. It may for Gaussians. It may not for the uniform distribution on $(0, \phi)$: its edge moves, and the score is $-1 / \phi$ everywhere. $\square$
# :::
#
# A program that treats the sample as data computes this wrong gradient, without an error message. In our test case it is zero on average, while the true gradient is far from zero.

# %% tags=["check", "nbval-check-output"]
naive = per_sample_gradients(lambda phi: log_joint(theta, z) - Normal(*phi).log_prob(z), phi)
wrong = {"true gradient": grad(elbo, argnums=1)(theta, phi)}
verify("eq-score-mean-zero", naive, torch.zeros(2), monte_carlo, rejects=wrong)

# %% [markdown]
# The vector $\nabla_\phi \log q_\phi(z)$ is called the score of $q_\phi$ *in its parameters*. (The {term}`score` of the diffusion chapters is the gradient in $z$: the same name, another variable.)
#
# **What you can say now.** The gradient in $\theta$ can be taken with the samples as data. The same recipe in $\phi$ gives noise of mean zero, without an error message.
#
# *Sources: A24, D11.*

# %% [markdown]
# (sec-move-or-weigh)=
# ## Two ways to change an expectation
#
# How does $\mathbb{E}_{q_\phi} f(z)$ change with $\phi$, if all we have is a few samples? A few samples can represent the distribution for a new $\phi$ in two ways. Move the slider. On the left the samples follow the distribution: each is $\mu + \sigma \varepsilon$ with its own fixed noise $\varepsilon$, and $\mu$ changes. On the right the old samples stay where they are, and each gets an importance weight, the new density over the old one. The new density is drawn behind them in blue, not to scale.

# %% tags=["serves"]
fixed_noise = torch.tensor([-1.6, -1.1, -0.7, -0.4, -0.1, 0.2, 0.4, 0.8, 1.2, 1.7])
line = torch.linspace(-5, 5, 201)


def move_or_weigh(new_mu):
    fig, panels = plots.figure(2, height=2.6)
    old = mu + sigma * fixed_noise
    moved = new_mu + sigma * fixed_noise
    ratio = (Normal(new_mu, sigma).log_prob(old) - Normal(mu, sigma).log_prob(old)).exp()
    for axes, z, weight in zip(panels, (moved, old), (ratio**0, ratio), strict=True):
        bell = {"density": (line, 10 * Normal(new_mu, sigma).log_prob(line).exp())}
        _ = plots.curves(bell, x_label="z", y_label="weight of a sample", axes=axes)
        _ = axes.vlines(z, 0, weight, color="#d55e00")
        _ = axes.plot(z, weight, "o", color="#d55e00")
        _ = axes.set_ylim(0, 7)
    return fig


# %% tags=["figure"]
Slider(
    torch.linspace(-1.6, 2.4, 11),
    move_or_weigh,
    description="mean of the new distribution",
    label="{:.1f}",
    alt="Ten samples as stems beside a bell curve with mean {:.1f}: moved and equally high on the left, in their old places with unequal heights on the right",
    start=7,
)

# %% [markdown]
# On the left, ten equally weighted samples describe every member of the family equally well. On the right, most weights shrink and a few samples at the edge get nearly all the weight: ten old samples say little about a new distribution whose mass lies elsewhere. A gradient needs only an infinitesimal change. Which of the two is then less noisy depends on $f$; {ref}`sec-gradient-noise` and {ref}`sec-where-each-fails` have an example of each kind.
#
# {numref}`fig-graphs` shows the two ways as computational graphs. A gradient flows backwards along the solid arrows. It cannot pass the dashed one, where a random generator turns parameters into a sample.

# %% tags=["figure"] mystnb={"image": {"alt": "Two graphs. Left: phi leads by a dashed arrow labeled sample to z, and z to f; the gradient stops at the dashed arrow. Right: phi and the noise epsilon lead by solid arrows to g(epsilon, phi), and this to f; the gradient flows from f through g back to phi."}, "figure": {"caption": "Left: the sample depends on the parameters through a random generator, where the gradient stops. Right: the noise is an input of its own, and a differentiable path leads from the parameters to f.", "name": "fig-graphs"}}
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
# We start from the left graph, because its estimator needs fewer assumptions about $f$.
#
# **What you can say now.** A change of parameters can reweight old samples or move them. Moving keeps all samples useful; after a large change, reweighting leaves only a few that count.

# %% [markdown]
# (sec-score-function)=
# ## Weighing: the score-function estimator
#
# :::{prf:theorem} Score-function gradient
# :label: thm-score-function
# If $f$ does not depend on $\phi$, and the gradient may be taken under the integral,
#
# $$
# \nabla_\phi\, \mathbb{E}_{q_\phi} f(z) = \mathbb{E}_{q_\phi} \big[ f(z)\, \nabla_\phi \log q_\phi(z) \big] .
# $$ (eq-score-gradient)
# :::
#
# :::{dropdown} Proof
# $\nabla_\phi \int f q_\phi = \int f\, \nabla_\phi q_\phi = \int f\, q_\phi\, \nabla_\phi \log q_\phi$. In terms of the slider: the expectation under a new $\phi'$ is $\mathbb{E}_{q_\phi} [f\, q_{\phi'} / q_\phi]$, and the derivative of the weight $q_{\phi'} / q_\phi$ at $\phi' = \phi$ is the score. $\square$
# :::
#
# The slope of $f$ is not needed, only that the expectations exist: $f$ may have jumps, or be the output of a program that cannot be differentiated. In reinforcement learning the estimator is known as REINFORCE {cite:p}`williams1992`; for variational bounds see {cite:t}`paisley2012` and {cite:t}`ranganath2014`. For the bound the {term}`score-function estimator` has a small complication: $f = \log p_\theta(x, z) - \log q_\phi(z)$ depends on $\phi$ itself. By {eq}`eq-score-mean-zero` this adds a term of expectation zero, which can be left out:
#
# $$
# \nabla_\phi\, \mathrm{ELBO} = \mathbb{E}_{q_\phi} \Big[ \big( \log p_\theta(x, z) - \log q_\phi(z) \big)\, \nabla_\phi \log q_\phi(z) \Big] .
# $$ (eq-score-elbo)
#
# For samples from $q_\phi$, gradient and expectation may not be exchanged. This does not forbid backpropagation: with the score as an additional factor, the gradient is again an expectation over samples, and backpropagation can compute the score.
#
# **Check.** Averages over samples are compared with the gradients of the closed forms. The check rejects the derivative in the variance, the naive gradient (zero), and the gradient without $\log q_\phi$.

# %% tags=["check", "nbval-check-output"]
square = torch.stack([2 * mu, 2 * sigma])
in_variance = {"derivative in the variance": torch.stack([2 * mu, 0 * mu + 1])}
estimates = by_score(torch.square, noise)
verify("eq-score-gradient", estimates, square, monte_carlo, rejects=in_variance)


def integrand(z):
    return log_joint(theta, z) - Normal(mu, sigma).log_prob(z)


truth = grad(elbo, argnums=1)(theta, phi)
entropy_part = torch.stack([0 * sigma, 1 / sigma])
wrong = {"naive gradient": naive.mean(0), "log q left out": truth - entropy_part}
verify("eq-score-elbo", by_score(integrand, noise), truth, monte_carlo, rejects=wrong)

# %% [markdown]
# **Where weighing fails.** The set where the density is positive must not depend on $\phi$. Take the uniform distribution on $(0, \phi)$ at $\phi = 2$, and $f(z) = z$ with the expectation $\phi / 2$. Every sample has the score $-1 / \phi$, so weighing gives the estimate $-z / \phi$, with expectation $- \frac12$ in place of the true derivative, $+ \frac12$. Weights on old samples cannot express that new values become possible at the edge. Moving the samples can, with $z = \phi u$ and $u$ uniform on $(0, 1)$.

# %% tags=["nbval-check-output"]
edge, u = torch.tensor(2.0), torch.rand(400_000)
score = grad(lambda edge: -edge.log())(edge)  # the density is 1 / edge
weighing = (edge * u * score).mean()
moving = grad(lambda edge: (edge * u).mean())(edge)
print(f"truth 0.50, weighing {weighing:.2f}, moving {moving:.2f}")

# %% [markdown]
# **A baseline.** Since the score has expectation zero, any number $b$ that does not depend on the sample may be subtracted from $f$,
#
# $$
# \mathbb{E}_{q_\phi} \big[ (f(z) - b)\, \nabla_\phi \log q_\phi(z) \big] = \nabla_\phi\, \mathbb{E}_{q_\phi} f(z) ,
# $$ (eq-baseline)
#
# and the expectation stays the same. The variance changes. This is the simplest {term}`control variate`; {cite:t}`mnih2014` trained deep latent-variable models this way. For the derivative in one parameter $\phi_j$, the variance is least at
#
# $$
# b_j^* = \frac{\mathbb{E}_q \big[ f(z)\, s_j(z)^2 \big]}{\mathbb{E}_q \big[ s_j(z)^2 \big]}, \qquad s_j = \frac{\partial \log q_\phi}{\partial \phi_j} .
# $$ (eq-best-baseline)
#
# :::{dropdown} Proof
# Since the expectation does not depend on $b$, minimize the second moment $\mathbb{E}[(f - b)^2 s_j^2]$. Its derivative in $b$ is $-2\, \mathbb{E}[(f - b) s_j^2]$, which vanishes at $b_j^*$. $\square$
# :::
#
# For $f(z) = z^2$ and the derivative in $\mu$ the best baseline is $\mu^2 + 3 \sigma^2$, not the expectation of $f$, which is $\mu^2 + \sigma^2$.
#
# **Check.** The formula is compared with the result of a search for the best $b$. The mean of $f$ is rejected.

# %% tags=["check", "nbval-check-output"]
f, score = (mu + sigma * grid) ** 2, grid / sigma
b = torch.zeros((), requires_grad=True)
_ = minimize(lambda: mean(((f - b) * score) ** 2), [b])
best = mean(f * score**2) / mean(score**2)
mean_of_f = {"mean of f": mean(f)}
verify("eq-best-baseline", b.detach(), best, exact.within(1e-6), rejects=mean_of_f)
print("for the square:", torch.isclose(best, mu**2 + 3 * sigma**2).item())

with_b = (torch.square(mu + sigma * noise) - best)[:, None] * by_score(torch.ones_like, noise)
verify("eq-baseline", with_b, square, monte_carlo, rejects=in_variance)

# %% [markdown]
# To see why a baseline is needed, add a large constant to $f$: the expectation of the estimate does not change, but its noise does. Each line shows the standard deviation of the derivative in $\mu$, without and with the best baseline.

# %% tags=["numbers", "nbval-check-output"]
for constant in (0, 10, 1000):
    g = f + constant
    best = mean(g * score**2) / mean(score**2)
    plain, centered = (
        (mean((h * score) ** 2) - mean(h * score) ** 2).sqrt() for h in (g, g - best)
    )
    print(f"f + {constant:<4}  s.d. {plain:6.1f}, with the best baseline {centered:.1f}")

# %% [markdown]
# **What you can say now.** The score-function estimator needs values of $f$ only, and a support that does not move. Its noise depends on the size of $f$, which is why it needs a baseline.
#
# *Sources: D12.*

# %% [markdown]
# (sec-change-of-variables)=
# ## Moving: a change of variables
#
# The second way to change an expectation moves the samples, as in the right graph of {numref}`fig-graphs`. Suppose that they can be written as
#
# $$
# z = g(\varepsilon, \phi), \qquad \varepsilon \sim p(\varepsilon) ,
# $$ (def-reparameterization)
#
# with noise $\varepsilon$ whose distribution does not depend on $\phi$. For a Gaussian this is $g = \mu + \sigma \varepsilon$. How are the two densities related?
#
# :::{prf:theorem} Change of variables
# :label: thm-change-of-variables
# Let $g(\cdot, \phi)$ be a differentiable bijection with a differentiable inverse. Then $z = g(\varepsilon, \phi)$ has the density $q_\phi$ with
#
# $$
# q_\phi\big( g(\varepsilon, \phi) \big) \cdot \Big\lvert \det \frac{\partial g}{\partial \varepsilon} \Big\rvert = p(\varepsilon) .
# $$ (eq-density-of-transform)
# :::
#
# :::{dropdown} Proof
# Near $\varepsilon$ the map is linear, so a small set of volume $V$ around $\varepsilon$ goes to a set of volume $\lvert \det \partial g / \partial \varepsilon \rvert\, V$ around $z$. The probability of the two sets is the same: $p(\varepsilon) V = q_\phi(z) \lvert \det \partial g / \partial \varepsilon \rvert V$. This is {eq}`eq-flow` of the last chapter, read in the other direction. $\square$
# :::
#
# This equation is no additional requirement on $g$: every such bijection satisfies it. The test case bends the plane into a funnel and also mirrors it, $g(\varepsilon) = (\varepsilon_1,\; - e^{\varepsilon_1} \varepsilon_2)$. Its density is known without any determinant, because $z_1$ is standard normal and $z_2$ given $z_1$ is normal with standard deviation $e^{z_1}$.


# %%
def funnel(noise):
    return torch.stack([noise[..., 0], -noise[..., 0].exp() * noise[..., 1]], -1)


def funnel_log_prob(z):
    second = Normal(0.0, z[..., 0].exp()).log_prob(z[..., 1])
    return prior.log_prob(z[..., 0]) + second


# %% tags=["figure"] mystnb={"image": {"alt": "Left: points on a regular square grid of noise. Right: the same points after the map, pressed together on the left side and fanned out on the right, like a funnel."}, "figure": {"caption": "Equal cells of noise become small cells on the left of the funnel and large ones on its right. Where cells shrink, density grows.", "name": "fig-funnel"}}
fig, (left, right) = plots.figure(2, height=3.0)
ticks = torch.linspace(-1.2, 1.2, 13)
cells = torch.cartesian_prod(ticks, ticks)
words = {"x_label": r"$\varepsilon_1$", "y_label": r"$\varepsilon_2$"}
_ = plots.scatter(cells, **words, axes=left, bounds=(-4.2, 4.2, -4.2, 4.2))
words = {"x_label": "$z_1$", "y_label": "$z_2$"}
_ = plots.scatter(funnel(cells), **words, axes=right, bounds=(-4.2, 4.2, -4.2, 4.2))
fig

# %% [markdown]
# In {numref}`fig-funnel` all cells hold the same probability, but their areas have been multiplied by $\lvert \det \partial g / \partial \varepsilon \rvert$. This is why the determinant must appear.
#
# **Check.** The determinant is computed by automatic differentiation; it is negative, because $g$ mirrors. The check rejects the formula without the determinant, with its inverse, and without the absolute value.

# %% tags=["check", "nbval-check-output"]
noise_2d = torch.randn(1000, 2)
z = funnel(noise_2d)
p = prior.log_prob(noise_2d).sum(-1).exp()
det = torch.linalg.det(vmap(jacrev(funnel))(noise_2d))
q = funnel_log_prob(z).exp()
wrong = {"no determinant": q, "its inverse": q / det.abs(), "no bars": q * det}
verify("eq-density-of-transform", p, q * det.abs(), rejects=wrong)

# %% [markdown]
# For expectations the determinant cancels, and $g$ need not even be a bijection:
#
# $$
# \mathbb{E}_{q_\phi} f(z) = \mathbb{E}_{p(\varepsilon)}\, f\big( g(\varepsilon, \phi) \big) .
# $$ (eq-mean-of-transform)
#
# :::{dropdown} Proof
# Substitute $z = g(\varepsilon, \phi)$ and use {eq}`eq-density-of-transform`: $\int f(z)\, q_\phi(z)\, \mathrm{d}z = \int f(g)\, q_\phi(g)\, \lvert \det \partial g / \partial \varepsilon \rvert\, \mathrm{d}\varepsilon = \int f(g)\, p(\varepsilon)\, \mathrm{d}\varepsilon$. Without a bijection, the equation is what "$z$ has the distribution $q_\phi$" means. $\square$
# :::
#
# The left side is an integral over $z$, the right side one over $\varepsilon$.
#
# **Check.** Both sides are computed on grids, for a log-normal distribution, $g = e^{\mu + \sigma \varepsilon}$. A determinant that is left in by mistake is rejected.

# %% tags=["check", "nbval-check-output"]
half = torch.linspace(-14, 8, 40_001).exp()  # a fine grid of positive z
left = torch.trapezoid(LogNormal(mu, 0.5).log_prob(half).exp() * half.log1p(), half)
g = (mu + 0.5 * grid).exp()
kept = {"determinant kept": mean(g.log1p() * 0.5 * g)}
verify("eq-mean-of-transform", left, mean(g.log1p()), quadrature.within(1e-6), rejects=kept)

# %% [markdown]
# Now $\phi$ occurs only inside the expectation, so gradient and expectation can be exchanged.
#
# :::{prf:theorem} Path-wise gradient
# :label: thm-path-gradient
# Let $f$, free of $\phi$, be continuously differentiable, and $g$ differentiable in $\phi$. Suppose that for all $\phi'$ near $\phi$, $\lVert \nabla_{\phi'} f(g(\varepsilon, \phi')) \rVert \le M(\varepsilon)$ with $\mathbb{E}\, M(\varepsilon) < \infty$. If the expectation of $f$ exists, then
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
# This is the {term}`reparameterization trick`, brought to variational autoencoders by {cite:t}`kingma2014` and {cite:t}`rezende2014`, and found independently by {cite:t}`titsias2014`. The estimator is called {term}`path-wise <path-wise gradient>`. For $z = \mu + \sigma \varepsilon$ the derivative $\partial g / \partial \phi$ is $(1, \varepsilon)$, and `by_path` above is this formula in code. Two functions with known expectations, $\mathbb{E} z^2 = \mu^2 + \sigma^2$ and $\mathbb{E} \cos z = e^{-\sigma^2 / 2} \cos \mu$, have the gradients
#
# $$
# \nabla_{\mu, \sigma}\, \mathbb{E} z^2 = (2 \mu,\; 2 \sigma), \qquad \nabla_{\mu, \sigma}\, \mathbb{E} \cos z = - e^{-\sigma^2 / 2}\, (\sin \mu,\; \sigma \cos \mu) .
# $$ (eq-example-gradients)

# %% tags=["check", "nbval-check-output"]
no_noise = {"factor noise left out": torch.stack([2 * mu, 2 * mu])}
verify("eq-path-gradient", by_path(torch.square, noise), square, monte_carlo, rejects=no_noise)
decay = (-(sigma**2) / 2).exp()
truth = torch.cat([square, -decay * torch.stack([mu.sin(), sigma * mu.cos()])])
no_sigma = torch.cat([square, -decay * torch.stack([mu.sin(), mu.cos()])])
wrong = {"factor sigma left out": no_sigma}
for by in (by_path, by_score):
    both = torch.cat([by(torch.square, noise), by(torch.cos, noise)], -1)
    verify("eq-example-gradients", both, truth, monte_carlo, rejects=wrong)

# %% [markdown]
# **In torch** the difference between the two is one letter. `q.sample()` returns numbers, `q.rsample()` returns a function of the parameters; the letter r stands for *reparameterized*. With the same random seed, `rsample` and $\mu + \sigma \varepsilon$ by hand give the same samples and the same gradients.

# %% tags=["numbers", "nbval-check-output"]
phi = torch.stack([mu, sigma]).requires_grad_()
_ = torch.manual_seed(1)
by_hand = phi[0] + phi[1] * torch.randn(5)
_ = torch.manual_seed(1)
by_torch = Normal(phi[0], phi[1]).rsample((5,))
print("same draws:", torch.equal(by_hand, by_torch))
(hand,) = torch.autograd.grad(by_hand.cos().sum(), phi)
(torchs,) = torch.autograd.grad(by_torch.cos().sum(), phi)
print("same gradients:", torch.allclose(hand, torchs, rtol=1e-12))
print("sample() keeps a graph:", Normal(phi[0], phi[1]).sample().requires_grad)
phi = phi.detach()

# %% [markdown]
# **What you can say now.** If a sample is a smooth function of noise and parameters, backpropagation gives an unbiased gradient. In torch this is `rsample`; `sample` has no gradient.
#
# *Sources: A25, D13.*

# %% [markdown]
# (sec-gradient-noise)=
# ## How noisy are they?
#
# Both estimators are unbiased, so at equal cost the one with the smaller variance is better. For $f(z) = z^2$ both variances have closed forms. For one sample the path-wise estimator has
#
# $$
# \operatorname{Var}_\text{path} = \big( 4 \sigma^2,\;\; 4 \mu^2 + 8 \sigma^2 \big) ,
# $$ (eq-path-variance)
#
# and the score-function estimator, without a baseline,
#
# $$
# \operatorname{Var}_\text{score} = \Big( \frac{\mu^4}{\sigma^2} + 14 \mu^2 + 15 \sigma^2,\;\; \frac{2 \mu^4}{\sigma^2} + 60 \mu^2 + 74 \sigma^2 \Big) .
# $$ (eq-score-variance)
#
# :::{dropdown} Proof
# Path: $2 z\, (1, \varepsilon)$ with $z = \mu + \sigma \varepsilon$, and the moments $\mathbb{E} \varepsilon^2 = 1$, $\mathbb{E} \varepsilon^4 = 3$. Score: the second moments are $\mathbb{E}[z^4 \varepsilon^2] / \sigma^2$ and $\mathbb{E}[z^4 (\varepsilon^2 - 1)^2] / \sigma^2$. Odd moments vanish, and $\mathbb{E}\, \varepsilon^{2k} (\varepsilon^2 - 1)^2 = 2, 10, 78$ for $k = 0, 1, 2$, $\mathbb{E} \varepsilon^6 = 15$. Subtract the squares of the expectations $2 \mu$ and $2 \sigma$. $\square$
# :::

# %% tags=["check", "nbval-check-output"]
weight = (density * (grid[1] - grid[0]))[:, None]


def exact_variance(estimates):
    return (weight * estimates**2).sum(0) - (weight * estimates).sum(0) ** 2


path = torch.stack([4 * sigma**2, 4 * mu**2 + 8 * sigma**2])
by_grid, wrong = exact_variance(by_path(torch.square, grid)), path + square**2
verify("eq-path-variance", by_grid, path, quadrature, rejects={"mean kept": wrong})

# %% [markdown]
# For this $f$, without a baseline, the score-function estimator needs more samples for equal noise, by the ratio of the two variances, which is printed below.
#
# **Check.** As for the path-wise estimator, the variance is computed by integrals on a grid. The check rejects the second moment, from which the square of the mean is not subtracted.

# %% tags=["check", "nbval-check-output"]
first = mu**4 / sigma**2 + 14 * mu**2 + 15 * sigma**2
second = 2 * mu**4 / sigma**2 + 60 * mu**2 + 74 * sigma**2
score = torch.stack([first, second])
by_grid, wrong = exact_variance(by_score(torch.square, grid)), score + square**2
verify("eq-score-variance", by_grid, score, quadrature, rejects={"mean kept": wrong})
in_mu, in_sigma = (score / path).tolist()
print(f"samples needed for equal noise: {in_mu:.1f} times in mu, {in_sigma:.1f} times in sigma")

# %% [markdown]
# **In many dimensions the difference grows.** Take $q = \mathcal{N}(m, I)$ in $d$ dimensions, $f(z) = \lVert z \rVert^2$, and the derivative in the first mean, which is $2 m_1$. With $B = d + 2 + \lVert m \rVert^2$ the estimates have the variances
#
# $$
# \begin{aligned}
# \operatorname{Var}_\text{path} &= 4, \qquad \operatorname{Var}_{\text{score, baseline } B} = 2\, (d + 2) + 4\, \lVert m \rVert^2 + 4\, m_1^2, \\
# \operatorname{Var}_\text{score} &= {\operatorname{Var}_{\text{score, baseline } B}} + B^2 , \qquad \operatorname{Var}_{\text{score, baseline } \mathbb{E} f} = {\operatorname{Var}_{\text{score, baseline } B}} + 4 .
# \end{aligned}
# $$ (eq-variance-dimension)
#
# :::{dropdown} Proof
# Path: $2 z_1 = 2 m_1 + 2 \varepsilon_1$. Score: write $f = \lVert m \rVert^2 + 2\, m^\top \varepsilon + S$ with $S = \lVert \varepsilon \rVert^2$. Odd moments vanish, and $\mathbb{E}\, \varepsilon_1^2 (m^\top \varepsilon)^2 = \lVert m \rVert^2 + 2 m_1^2$, $\mathbb{E}\, S \varepsilon_1^2 = d + 2$, $\mathbb{E}\, S^2 \varepsilon_1^2 = (d + 2)(d + 4)$. So $\mathbb{E} f^2 \varepsilon_1^2 = \lVert m \rVert^4 + 4 \lVert m \rVert^2 + 8 m_1^2 + (d + 2)(d + 4) + 2 \lVert m \rVert^2 (d + 2) = B^2 + 2 (d + 2) + 4 \lVert m \rVert^2 + 8 m_1^2$. Subtract the squared expectation $4 m_1^2$. Since $\mathbb{E} f \varepsilon_1^2 = B$, a baseline $b$ changes the second moment by $b^2 - 2 b B$: by $- B^2$ for $b = B$, which is the best one by {eq}`eq-best-baseline`, and by $4 - B^2$ for $b = \mathbb{E} f = B - 2$. $\square$
# :::
#
# So for this $f$ the natural baseline, the expectation of $f$, is almost as good as the best one.
#
# **Check.** The squared deviations of 100,000 samples are compared with the four variances, for $d = 30$ and $m = (\frac12, \dots, \frac12)$. The check rejects a baseline without effect, and the formula for $m = 0$.

# %% tags=["check", "nbval-check-output"]
d, c = 30, 0.5
m, eps = torch.full((d,), c), torch.randn(100_000, d)
f, B = (m + eps).square().sum(1), d + 2 + d * c**2
score = torch.stack([f, f - B + 2, f - B], 1) * eps[:, :1]
samples = torch.cat([2 * (m + eps)[:, :1], score], 1)
best = 2 * (d + 2) + 4 * d * c**2 + 4 * c**2
variances = torch.tensor([4.0, best + B**2, best + 4, best])
at_zero = [4.0, (d + 2) * (d + 4), 2 * d + 8, 2 * d + 4]
wrong = {"baseline without effect": variances[[0, 1, 1, 1]], "formula for m = 0": at_zero}
verify("eq-variance-dimension", (samples - 2 * c) ** 2, variances, monte_carlo, rejects=wrong)

# %% tags=["figure"] mystnb={"image": {"alt": "Relative noise against the dimension, both axes logarithmic. The path-wise line is flat at 2, the score function with baseline rises like a square root from about 3 to 55, without baseline it rises in proportion to the dimension, beyond 1000."}, "figure": {"caption": "Noise over signal: standard deviation of one estimate over the gradient itself, for m = (1/2, ..., 1/2). Only the path-wise estimator does not get noisier with the dimension.", "name": "fig-noise-dimension"}}
dims = torch.logspace(0, 3, 31)
B = dims + 2 + dims * c**2
best = 2 * (dims + 2) + 4 * dims * c**2 + 4 * c**2
variances = {"score function": best + B**2, "with best baseline": best, "path-wise": 4 + 0 * B}
plots.curves(
    {name: (dims, values.sqrt() / (2 * c)) for name, values in variances.items()},
    x_label="dimension d",
    y_label="noise over signal",
    log_x=True,
    log_y=True,
)

# %% [markdown]
# In {numref}`fig-noise-dimension` the relative noise of the path-wise estimator does not depend on the dimension. That of the score-function estimator grows like $\sqrt d$ with a baseline and like $d$ without one. The proof shows where the growth comes from: the path-wise estimate $2 z_1$ contains the noise of its own coordinate only, while the score-function estimate multiplies $\varepsilon_1$ by the value of $f$, which contains the noise of all coordinates. The VAE of chapter 6 has 50 of them.


# %% tags=["serves"]
def clouds_in(d):
    fig, panels = plots.figure(3, height=2.7)
    z = torch.randn(300, 10, d, generator=torch.Generator().manual_seed(0))
    f, two = z.square().sum(-1, keepdim=True), z[..., :2]
    estimates = {"score": f * two, "with baseline": (f - d) * two, "path": 2 * two}
    for axes, (name, values) in zip(panels, estimates.items(), strict=True):
        words = {
            "x_label": r"$\partial / \partial \mu_1$",
            "y_label": r"$\partial / \partial \mu_2$",
        }
        bounds = (-60, 60, -60, 60)
        _ = plots.scatter(values.mean(1), **words, bounds=bounds, axes=axes)
        _ = axes.set_title(name)
    return fig


# %% [markdown]
# The slider shows three clouds of estimates, of the score function without and with a baseline and of the path-wise estimator. Each dot is an average over ten samples, now for $m = 0$, so that the true gradient is zero.

# %% tags=["figure"]
Slider(
    [2, 4, 8, 16, 32, 64],
    clouds_in,
    description="dimension of z",
    label="{:d}",
    alt="Three clouds of gradient estimates around zero in {:d} dimensions: score-function wide, with baseline narrower, path-wise narrowest",
    start=3,
)

# %% [markdown]
# **What you can say now.** For this smooth $f$ the path-wise estimator is the less noisy one, and its advantage grows with the dimension. A baseline helps, but does not close the gap.

# %% [markdown]
# (sec-where-each-fails)=
# ## Where each of them fails
#
# **A step.** Let $f(z) = 1$ for $z > 0$, and 0 otherwise. Its expectation is the probability $\Phi(\mu / \sigma)$, with the distribution function $\Phi$ of $\mathcal{N}(0, 1)$, and it depends on $\mu$ and $\sigma$:
#
# $$
# \nabla_{\mu, \sigma}\, \mathbb{E}\, 1[z > 0] = \mathcal{N}(0;\, \mu, \sigma^2) \cdot \big( 1,\; - \mu / \sigma \big) .
# $$ (eq-step-gradient)
#
# :::{dropdown} Proof
# Differentiate $\Phi(\mu / \sigma)$: the derivative of $\Phi$ at $\mu / \sigma$ is $\sigma\, \mathcal{N}(0; \mu, \sigma^2)$, and those of $\mu / \sigma$ are $1 / \sigma$ and $- \mu / \sigma^2$. $\square$
# :::
#
# The slope of a step is zero at every sample, so the path-wise estimator always returns zero: it has no noise, and it is wrong. {prf:ref}`thm-path-gradient` does not apply, since it requires a continuously differentiable $f$. The score-function estimator has no such requirement.

# %% tags=["check", "nbval-check-output"]
step = (mu + sigma * noise > 0).double()
estimates = by_score(lambda z: step, noise)
height = Normal(mu, sigma).log_prob(torch.tensor(0.0)).exp()
truth = height * torch.stack([torch.tensor(1.0), -mu / sigma])
always_zero = by_path(lambda z: (z > 0).double(), noise)
print("path-wise estimates are zero:", (always_zero == 0).all().item())
wrong = {"path-wise gradient": always_zero.mean(0), "sign in sigma": truth.abs()}
verify("eq-step-gradient", estimates, truth, monte_carlo, rejects=wrong)

# %% [markdown]
# **A steep slope.** Replace the step by a logistic curve of width $h$, $f_h(z) = 1 / (1 + e^{-z / h})$. Now both estimators are unbiased. But the slope is large only for the rare samples near zero, and there it is huge:
#
# $$
# h \cdot \mathbb{E}\, f_h'(z)^2 \;\to\; \frac{\mathcal{N}(0;\, \mu, \sigma^2)}{6} \qquad \text{for } h \to 0 ,
# $$ (eq-steep-slope)
#
# so its variance grows like $1 / h$, while that of the score-function estimator stays bounded, because $f_h$ does.
#
# :::{dropdown} Proof
# $f_h'(z) = \frac1h\, l(z / h) (1 - l(z / h))$ with the logistic function $l$. Substitute $u = z / h$: $h\, \mathbb{E} f_h'^2 = \int \big( l(u) (1 - l(u)) \big)^2\, \mathcal{N}(h u; \mu, \sigma^2)\, \mathrm{d}u$. For $h \to 0$ the density tends to its value at zero, and with $l' = l (1 - l)$ the rest is $\int_0^1 l (1 - l)\, \mathrm{d}l = 1/6$. $\square$
# :::

# %% tags=["check", "nbval-check-output"]
h = 0.02
slope = torch.sigmoid((mu + sigma * grid) / h) * torch.sigmoid(-(mu + sigma * grid) / h) / h
wrong = {"largest slope squared": height / 16}
verify("eq-steep-slope", h * mean(slope**2), height / 6, quadrature.within(1e-2), rejects=wrong)

# %% tags=["figure"] mystnb={"image": {"alt": "Standard deviation against the width of the step, both axes logarithmic. The path-wise line falls as the step gets wider, the score-function line is almost flat; they cross near a width of 0.16."}, "figure": {"caption": "Noise of the derivative in the mean, for one sample. Left of the crossing the slope is so steep that the path-wise estimator is the noisier one.", "name": "fig-steep"}}
widths = torch.logspace(-2, 1, 31)
curves = {"path-wise": [], "score-function": []}
for h in widths:
    for name, by in (("path-wise", by_path), ("score-function", by_score)):
        estimates = by(lambda z, h=h: torch.sigmoid(z / h), grid)
        curves[name] += [exact_variance(estimates)[0].sqrt()]
plots.curves(
    {name: (widths, values) for name, values in curves.items()},
    x_label="width h of the step",
    y_label=r"standard deviation, derivative in $\mu$",
    log_x=True,
    log_y=True,
)

# %% [markdown]
# In {numref}`fig-steep` the lines cross once, at the width that is printed below.

# %% tags=["nbval-check-output"]
path, score = torch.tensor(curves["path-wise"]), torch.tensor(curves["score-function"])
wider = (path > score).sum()  # widths at which the path loses
print("they cross once:", bool((path[wider:] < score[wider:]).all()))
print(f"between the widths {widths[wider - 1]:.2f} and {widths[wider]:.2f}")

# %% [markdown]
# **Discrete latents.** A coin has no path-wise gradient, since its values jump. Here are four ways to proceed. Let $z \in \{0, 1\}$ with $\Pr(z = 1) = \pi = 1 / (1 + e^{-\eta})$, and look for $\partial_\eta\, \mathbb{E} f(z) = \pi (1 - \pi)\, \big( f(1) - f(0) \big)$.
#
# 1. *Sum* over the values, if there are few. This is exact.
# 2. *Weigh*, with a baseline: unbiased.
# 3. *Relax*: replace the coin by a number between 0 and 1 that is a smooth function of $\eta$ and of noise, and that comes closer to a coin for a lower temperature. This is the Gumbel-softmax or concrete distribution {cite:p}`jang2017,maddison2017concrete`. It has a path-wise gradient, but a biased one, because $f$ is evaluated between the values of the coin.
# 4. *Straight-through*: sample the coin, and in the backward pass use the derivative of $\pi$ in place of that of the coin {cite:p}`bengio2013ste`. Autoencoders with a codebook are trained this way {cite:p}`oord2017`. What it estimates is
#
# $$
# \mathbb{E}\, \big[ \pi (1 - \pi)\, f'(z) \big] = \pi (1 - \pi)\, \big( \pi f'(1) + (1 - \pi) f'(0) \big) ,
# $$ (eq-straight-through)
#
# which is the true gradient for linear $f$, and in general is not.
#
# The example is $f(z) = (z - 0.45)^2$ {cite:p}`tucker2017`, at $\eta = 0.3$. Both sides of the coin have nearly the same value, so the true gradient is small and a bias is easily seen. We compare the averages of the last three methods with the exact sum.


# %% tags=["serves"]
def near(z):
    return (z - 0.45) ** 2


def soft_coin(eta, u, temperature):
    return torch.sigmoid((eta + u.log() - (-u).log1p()) / temperature)


eta, u = torch.tensor(0.3).expand(len(noise)), torch.rand(len(noise))
pi = eta.sigmoid()
coin = (u > 1 - pi).double()  # the limit of the soft coin at temperature 0
by_sum = (pi * (1 - pi) * (near(torch.ones(())) - near(torch.zeros(()))))[0]
weighed = (near(coin) - 0.25) * (coin - pi)
relaxed = grad(lambda eta: near(soft_coin(eta, u, 0.3)).sum())(eta)
through = grad(lambda eta: near(coin + eta.sigmoid() - eta.sigmoid().detach()).sum())(eta)

# %% tags=["check", "nbval-check-output"]
slope_1, slope_0 = 2 * (1 - 0.45), 2 * (0 - 0.45)
p = pi[0]
right = p * (1 - p) * (p * slope_1 + (1 - p) * slope_0)
verify("eq-straight-through", through, right, monte_carlo, rejects={"true gradient": by_sum})

# %% tags=["nbval-check-output"]
for name, values in {"weigh": weighed, "relax": relaxed, "through": through}.items():
    error = values.std() / len(values) ** 0.5
    unbiased = (values.mean() - by_sum).abs() < 5 * error
    print(f"{name:8} unbiased: {bool(unbiased)}")

# %% [markdown]
# As a rule of thumb, use the path-wise estimator with a smooth network and a continuous latent. With discrete latents, sum if there are few values; use the score function with a baseline if the gradient must be unbiased; relax or go straight through if a bias is acceptable. {cite:t}`mohamed2020` survey the field.
#
# **What you can say now.** The path-wise estimator is wrong for functions with jumps, without an error message, and noisy for very steep ones. For discrete latents it does not exist, and its substitutes are biased in general.

# %% [markdown]
# (sec-gaussian-roots)=
# ## Sampling from any Gaussian
#
# How do we reparameterize a Gaussian with any covariance? The encoders of this book have a diagonal one, for which {eq}`def-encoder-draw` at the end of this section is enough; you can skip to it at a first reading. For a covariance $\Sigma$ one needs a root of $\Sigma$: any matrix $A$ with $A A^\top = \Sigma$.
#
# :::{prf:theorem} Roots of a covariance
# :label: thm-roots
# Let $\varepsilon \sim \mathcal{N}(0, I)$ and $z = \mu + A \varepsilon$. Then $z \sim \mathcal{N}(\mu, A A^\top)$,
#
# $$
# \mathbb{E}\, z = \mu, \qquad \mathbb{E}\, (z - \mu)(z - \mu)^\top = A A^\top .
# $$ (eq-root-moments)
#
# Two square roots $A$, $B$ of one invertible $\Sigma$ differ by a rotation or reflection: $B = A\, Q$ with
#
# $$
# Q = A^{-1} B, \qquad Q\, Q^\top = I .
# $$ (eq-root-rotation)
# :::
#
# :::{dropdown} Proof
# Affine maps of Gaussian vectors are Gaussian. $\mathbb{E}\, z = \mu + A\, \mathbb{E} \varepsilon$, and $\mathbb{E}\, A \varepsilon \varepsilon^\top A^\top = A I A^\top$. For the second part, $Q Q^\top = A^{-1} B B^\top A^{-\top} = A^{-1} \Sigma A^{-\top} = I$. $\square$
# :::
#
# Two roots are in use. The *Cholesky* root is lower triangular and cheap to compute. The *eigenvalue* root is $U \Lambda^{1/2} U^\top$, where $\Sigma = U \Lambda U^\top$; it is symmetric. Multiplying the noise by the covariance itself gives the covariance $\Sigma^2$ (entry E17).
#
# **Check.** Mean and covariance of samples are compared for both roots, and the rotation between the roots is multiplied by its transpose. The check rejects the covariance $\Sigma^2$, the second moment without centering, and $B A^{-1}$ in place of $A^{-1} B$, which is no rotation.

# %%
center, cov = torch.tensor([1.0, -0.5]), torch.tensor([[2.0, 0.9], [0.9, 1.2]])
cholesky = torch.linalg.cholesky(cov)
eigenvalues, U = torch.linalg.eigh(cov)
symmetric = U @ eigenvalues.sqrt().diag() @ U.T
noise_2d = torch.randn(200_000, 2)


def moments(z):
    """For each sample its two coordinates and the four products of the centered ones."""
    products = (z - center)[:, :, None] * (z - center)[:, None, :]
    return torch.cat([z, products.flatten(1)], 1)


# %% tags=["check", "nbval-check-output"]
right = torch.cat([center, cov.flatten()])
not_centered = torch.cat([center, (cov + center.outer(center)).flatten()])
misprint = torch.cat([center, (cov @ cov).flatten()])
wrong = {"E17": misprint, "not centered": not_centered}
for A in (cholesky, symmetric):
    verify("eq-root-moments", moments(center + noise_2d @ A.T), right, monte_carlo, rejects=wrong)
Q = torch.linalg.solve(cholesky, symmetric)
R = symmetric @ torch.linalg.inv(cholesky)
verify("eq-root-rotation", Q @ Q.T, torch.eye(2), rejects={"B A^-1": R @ R.T})

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
# In {numref}`fig-roots` the two left clouds have the same distribution, though each single sample lands elsewhere. That $z$ is Gaussian does not follow from its mean and covariance, which would be the same for uniform noise of variance 1. A vector is Gaussian if every projection of it is:
#
# $$
# \Pr\Big( u^\top (z - \mu) \le c\, \sqrt{u^\top \Sigma\, u} \Big) = \Phi(c) \qquad \text{for every direction } u \ne 0 .
# $$ (eq-projection)
#
# :::{dropdown} Proof
# With $z = \mu + A \varepsilon$ the left side is about $(A^\top u)^\top \varepsilon$, a sum of independent Gaussians, which is Gaussian with mean zero and variance $\lVert A^\top u \rVert^2 = u^\top \Sigma\, u$. $\square$
# :::
#
# **Check.** Samples made with the eigenvalue root are counted, for three directions and two values of $c$. Uniform noise of the same variance is rejected, and the variance in place of its root.


# %% tags=["serves"]
def below(noise):
    """Whether each of three projections is below each of two multiples of its scale."""
    u = torch.tensor([[1.0, 0.0], [1.0, -1.0], [-0.2, 1.0]])
    scale = (u @ cov * u).sum(1).sqrt()
    projected = (noise @ symmetric.T @ u.T) / scale
    return torch.stack([projected <= 0.7, projected <= 2.0], -1).flatten(1).double(), scale


# %% tags=["check", "nbval-check-output"]
outcomes, scale = below(noise_2d)
c = torch.tensor([0.7, 2.0])
right = torch.special.ndtr(c).repeat(3)
uniform, _ = below((torch.rand(200_000, 2) - 0.5) * 12**0.5)
in_variance = torch.special.ndtr(scale[:, None] * c).flatten()
wrong = {"uniform noise": uniform.mean(0), "variance for its root": in_variance}
verify("eq-projection", outcomes, right, binomial, rejects=wrong)

# %% [markdown]
# **Without full rank.** A covariance may be singular; then it is positive *semi*-definite only, and the distribution lies on a subspace through $\mu$ and has no density in the whole space. So a network that returns a root $A$ always defines a covariance $A A^\top$, but a positive definite one only if $A$ has full rank. The eigenvalue root exists also for a singular covariance, while the Cholesky algorithm of torch fails.

# %% tags=["nbval-check-output"]
flat = torch.tensor([[1.0, 2.0], [2.0, 4.0]])
eigenvalues, U = torch.linalg.eigh(flat)
root = U @ eigenvalues.clamp(min=0).sqrt().diag() @ U.T
print("eigenvalue root squares to it:", torch.allclose(root @ root.T, flat))
print("Cholesky succeeds:", torch.linalg.cholesky_ex(flat).info.item() == 0)

# %% [markdown]
# **In an encoder** the covariance is diagonal. The network takes $x$ and returns $\mu_\phi(x)$ and $\log \sigma_\phi(x)$, the logarithm so that every output is allowed, and the sample is
#
# $$
# z = \mu_\phi(x) + \sigma_\phi(x) \odot \varepsilon , \qquad \varepsilon \sim \mathcal{N}(0, I) ,
# $$ (def-encoder-draw)
#
# where $\odot$ multiplies element by element. This is {prf:ref}`thm-roots` for $z$ given $x$, with the root $A = \operatorname{diag}(\sigma_\phi(x))$.
#
# **What you can say now.** A Gaussian vector is its mean plus a root of its covariance times standard noise. Encoders use a diagonal root.
#
# *Sources: C05, D15.*

# %% [markdown]
# (sec-entropy-gradient)=
# ## The entropy, and two paths of the derivative
#
# One part of the gradient of the bound needs no samples. The entropy of $q_\phi = \mathcal{N}(\mu_\phi, \operatorname{diag} \sigma_\phi^2)$ is $\sum_i \log \sigma_i + \frac{d}{2} \log 2 \pi e$, and its gradient is
#
# $$
# \nabla_\phi H(q_\phi) = \sum_i \frac{1}{\sigma_i} \nabla_\phi\, \sigma_i = J^\top (1 / \sigma), \qquad J = \frac{\partial \sigma_\phi}{\partial \phi} .
# $$ (eq-entropy-gradient)
#
# The Jacobian $J$ has a row for each $\sigma_i$ and a column for each weight, and it is *contracted* with the vector $1 / \sigma$. In an element-wise product, $\frac1\sigma \odot \nabla_\phi \sigma_\phi$, the shapes do not match, unless there happen to be as many weights as latents; in that case it gives, read as `grad(sigma.sum()) / sigma`, another vector (entry E9). The entropy is only one part of the bound. The other part, the expectation of $\log p_\theta(x, z)$, depends on $\phi$ through the sample $z = g(\varepsilon, \phi)$, and its path-wise gradient must be added.

# %% tags=["check", "nbval-check-output"]
W = torch.randn(3, 3)
weights = torch.randn(3)


def std(weights):
    return (W @ weights).exp()


def entropy(weights):
    return Normal(torch.zeros(3), std(weights)).entropy().sum()


J = jacrev(std)(weights)
printed = grad(lambda w: std(w).sum())(weights) / std(weights)
verify(
    "eq-entropy-gradient", grad(entropy)(weights), J.T @ (1 / std(weights)), rejects={"E9": printed}
)

# %% [markdown]
# **Two terms.** Now estimate the entropy by samples instead, as the average of $- \log q_\phi(z)$ with $z = g(\varepsilon, \phi)$. Here $\phi$ occurs twice: in the *parameters of the density*, whose derivative is the score term, and in the *sample*, whose derivative is the path term. The chain rule needs both. For a Gaussian, with $\phi = (\mu, \sigma)$, their sum is the same for every sample, with no noise at all:
#
# $$
# \frac{\mathrm{d}}{\mathrm{d} \phi} \Big[ - \log q_\phi\big( g(\varepsilon, \phi) \big) \Big] = \Big( 0,\; \frac{1}{\sigma} \Big) \qquad \text{for every } \varepsilon .
# $$ (eq-entropy-per-draw)
#
# :::{dropdown} Proof
# $- \log q_\phi(\mu + \sigma \varepsilon) = \frac12 \varepsilon^2 + \log \sigma + \frac12 \log 2 \pi$. $\square$
# :::
#
# The score term alone is minus the score, which has expectation zero {eq}`eq-score-mean-zero`. So the path term alone is unbiased too, though noisy.
#
# **Checks.** The total is compared with its constant value sample by sample; each of the two terms alone is rejected. Then the mean of the path term is compared with the gradient of the entropy; the check rejects the mean of the score term, and the derivative in the log-variance.


# %%
def log_q(phi, z):
    return Normal(*phi).log_prob(z)


def draw(phi):
    return phi[0] + phi[1] * noise


# %% tags=["check", "nbval-check-output"]
total = per_sample_gradients(lambda phi: -log_q(phi, draw(phi)), phi)
score_term = per_sample_gradients(lambda phi: -log_q(phi, draw(phi).detach()), phi)
path_term = total - score_term
constant = torch.stack([0 * sigma, 1 / sigma])
one_term = {"score term": score_term, "path term": path_term}
verify("eq-entropy-per-draw", total, constant.expand_as(total), rejects=one_term)
wrong = {"score term": score_term.mean(0), "in the log-variance": constant * sigma / 2}
verify("eq-entropy-gradient", path_term, constant, monte_carlo, rejects=wrong)

# %% [markdown]
# So the score term can be left out. Of the gradient of the whole bound only the path term is left:
#
# $$
# \nabla_\phi\, \mathrm{ELBO} = \mathbb{E}_{p(\varepsilon)} \bigg[ \Big( \frac{\partial g}{\partial \phi} \Big)^{\!\top} \frac{\partial}{\partial z} \big( \log p_\theta(x, z) - \log q_\phi(z) \big) \bigg]_{z = g(\varepsilon, \phi)} ,
# $$ (eq-sticking)
#
# where the $\phi$ in $\log q_\phi$ is held fixed. It is unbiased by {eq}`eq-score-mean-zero`. And when $q_\phi$ *is* the posterior, $\log p_\theta(x, z) - \log q_\phi(z)$ is the constant $\log p_\theta(x)$, its slope in $z$ is zero, and every single sample returns the exact gradient, zero:
#
# $$
# q_\phi = p_\theta(z \mid x) \quad \Longrightarrow \quad \frac{\partial}{\partial z} \big( \log p_\theta(x, z) - \log q_\phi(z) \big) = 0 \;\text{ for all } z .
# $$ (eq-sticking-zero)
#
# {cite:t}`roeder2017` call it sticking the landing: an optimizer that has reached the optimum is not moved away from it by noise.


# %%
def total_gradient(phi):
    return per_sample_gradients(
        lambda moving: log_joint(theta, draw(moving)) - log_q(moving, draw(moving)), phi
    )


def sticking(phi):
    """The path term alone: log q has fixed parameters."""
    return per_sample_gradients(
        lambda moving: log_joint(theta, draw(moving)) - log_q(phi, draw(moving)), phi
    )


# %% [markdown]
# At the posterior, the gradients of all 400,000 samples vanish one by one; with both terms they do not.
#
# **Check.** For {eq}`eq-sticking`, the average over samples is compared with the gradient of the closed form; the check rejects the other sign of $\log q_\phi$, and leaving it out.

# %% tags=["check", "nbval-check-output"]
truth = grad(elbo, argnums=1)(theta, phi)
wrong = {"sign of log q": truth - 2 * constant, "log q left out": truth - constant}
verify("eq-sticking", sticking(phi), truth, monte_carlo, rejects=wrong)
a, b = theta
variance = s**2 / (a**2 + s**2)
posterior = torch.stack([a * (x - b) / (a**2 + s**2), variance.sqrt()])
at_top, wrong = sticking(posterior), {"both terms": total_gradient(posterior)}
verify("eq-sticking-zero", at_top, 0 * at_top, exact.on_scale(1.0), rejects=wrong)

# %% [markdown]
# The path term alone is not always the best estimator. {numref}`fig-three-estimators` compares three unbiased estimators of the derivative in $\mu$, for an approximate posterior $q$ that has the right mean but is too narrow or too wide. The first takes the KL in closed form and uses samples only for the reconstruction, as the function `elbo_terms` of the next section does. The second uses samples for everything and has both terms. The third keeps only the path term.

# %% tags=["figure"] mystnb={"image": {"alt": "Noise against the width of q. Two rising straight lines; the third line comes down from large values at narrow q, touches zero where the width is right, and rises again, at twice the width nearly to the lower straight line."}, "figure": {"caption": "Noise of three unbiased estimators of one derivative. The path term has none where q is the posterior, and the most where q is far too narrow.", "name": "fig-three-estimators"}}
ratios = torch.linspace(0.3, 2, 69)
precision = 1 / variance
plots.curves(
    {
        "closed KL": (ratios, (precision - 1) * ratios * variance.sqrt()),
        "both terms": (ratios, precision * ratios * variance.sqrt()),
        "path term": (ratios, (ratios - 1 / ratios).abs() / variance.sqrt()),
    },
    x_label="standard deviation of q, over the posterior's",
    y_label=r"standard deviation, derivative in $\mu$",
)

# %% [markdown]
# The lines of the figure are formulas.
#
# :::{dropdown} Where they come from
# With the posterior's mean $m$ and variance $v$, $\log p_\theta(x, z)$ is quadratic in $z$ with slope $-(z - m) / v$. Both terms: $-\log q_\phi$ of a moving sample is constant in $\mu$, so the estimate is $-(z - m) / v$, with noise $\sigma / v$. Closed KL: the prior's part $-z$ of the slope becomes $-\mu$, which leaves the noise $(1 / v - 1)\, \sigma$. Path term: $(z - \mu) / \sigma^2$ is added; at $\mu = m$ this leaves the noise $\lvert 1 / \sigma - \sigma / v \rvert$. With $\sigma = r \sqrt{v}$ these are the three lines. $\square$
# :::
#
# Samples agree with them, here for a $q$ half as wide as the posterior:

# %% tags=["held", "nbval-check-output"]
narrow = posterior * torch.tensor([1.0, 0.5])
z = narrow[0] + narrow[1] * noise
slope = a * (x - a * z - b) / s**2
measured = [slope] + [of(narrow)[:, 0] for of in (total_gradient, sticking)]
by_formula = [(precision - 1) * 0.5, precision * 0.5, (2 - 0.5) / variance]
for name, left, right in zip(["closed", "both", "path"], measured, by_formula, strict=True):
    ratio = left.std() / (right * variance.sqrt())
    print(f"{name:6} measured over formula, within one percent: {abs(ratio - 1) < 0.01}")

# %% [markdown]
# **What you can say now.** The score term of the bound has expectation zero and may be dropped. That removes all noise at the exact posterior. In our example it adds noise where $q$ is less than 0.7 times as wide as the posterior.
#
# *Sources: D14.*

# %% [markdown]
# (sec-encoder-learns)=
# ## Training an encoder, rightly and wrongly
#
# The later chapters estimate the bound of their latent variable models by one function, `elbo_terms`. For a model with one latent variable it draws a sample by `rsample`, takes the KL in closed form, and evaluates the log-likelihood of $x$ at the sample.

# %% tags=["shown", "nbval-check-output"]
show(elbo_terms, docstring=False)

# %% [markdown]
# We apply it to the solvable model with its known decoder. The class `Vae` of the next chapters takes an encoder, a decoder and a likelihood; here the encoder is one affine layer that returns the mean and the log-variance, and the decoder is the identity.


# %%
def known_likelihood(z):
    return diagonal_normal(a * z + b, s)


def toy():
    return Vae(nn.Linear(1, 2), nn.Identity(), known_likelihood, latent_dim=1)


# %% [markdown]
# Is the gradient of `elbo_terms` the one that we derived? With the same noise, it agrees to twelve digits with the path-wise gradient by hand: the reconstruction's slope $a (x - a z - b) / s^2$ goes through the sample, and the closed KL contributes $- \mu$ and $1 / \sigma - \sigma$. The log-variance adds the factor $\sigma / 2$.

# %% tags=["held", "nbval-check-output"]
model, batch = toy(), torch.randn(64, 1)
_ = torch.manual_seed(2)
elbo_terms(model, batch).elbo.sum().backward()
_ = torch.manual_seed(2)
with torch.no_grad():
    m, log_var = model.encoder(batch).chunk(2, dim=1)
    std, eps = (0.5 * log_var).exp(), torch.randn(64, 1)
slope = a * (batch - a * (m + std * eps) - b) / s**2
in_std = slope * eps + 1 / std - std
by_hand = torch.stack([(slope - m).sum(), (0.5 * std * in_std).sum()])
bias = model.encoder.bias.grad
print("same gradient:", torch.allclose(by_hand, bias, rtol=1e-12, atol=0))

# %% [markdown]
# **Four ways to train it.** The first is the path-wise gradient. The next two use `sample` instead of `rsample`, a mistake that raises no error: once with the whole bound estimated by samples, and once with the KL in closed form, as in `elbo_terms`. The fourth is the score-function estimator. Its loss is not minus the bound, but has the gradient {eq}`eq-score-elbo` of minus the bound.


# %%
def path_wise(model, x):
    return -elbo_terms(model, x).elbo


def log_ratio(model, q, x, z):
    return model.likelihood(z).log_prob(x) + model.prior(len(x)).log_prob(z) - q.log_prob(z)


# %%
def without_r(model, x):
    q = model.posterior(x)
    return -log_ratio(model, q, x, q.sample())


def likelihood_without_r(model, x):
    q = model.posterior(x)
    log_likelihood = model.likelihood(q.sample()).log_prob(x)
    return kl_divergence(q, model.prior(len(x))) - log_likelihood


def score_function(model, x):
    q = model.posterior(x)
    z = q.sample()
    return -log_ratio(model, q, x, z).detach() * q.log_prob(z)


# %% [markdown]
# Each is trained for 1000 steps on batches of 64, from three seeds. We record the gap $D_{\mathrm{KL}}(q_\phi \,\Vert\, p_\theta(z \mid x))$, which is known here in closed form.


# %%
def gap(model, x):
    posterior = diagonal_normal(a * (x - b) / (a**2 + s**2), variance.sqrt())
    return kl_divergence(model.posterior(x), posterior).mean().item()


def train(loss, seed):
    _ = torch.manual_seed(seed)
    model = toy()
    batches = b + (a**2 + s**2) ** 0.5 * torch.randn(1000, 64, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, fused=True)
    gaps = [gap(model, batches[0]) for _ in fit(model, loss, batches, optimizer)]
    return model, torch.tensor(gaps)


# %%
losses = (path_wise, without_r, likelihood_without_r, score_function)
runs = {f.__name__.replace("_", " "): [train(f, seed) for seed in range(3)] for f in losses}

# %% tags=["figure"] mystnb={"image": {"alt": "The gap against training steps on a logarithmic axis, with bands over three runs. Path-wise falls to about a thousandth of a nat. Score function falls alike, with larger swings. Likelihood without r stays flat between two and three nats. Without r drifts in a wide band."}, "figure": {"caption": "One encoder trained with four gradients; geometric mean and range of three runs. With sample in the place of rsample the gap does not close, and there is no error message.", "name": "fig-three-trainings"}}
steps = torch.arange(1, 1001)[9::10]
histories = {n: torch.stack([gaps[9::10] for _, gaps in r]) for n, r in runs.items()}
plots.curves(
    {name: (steps, gaps.log().mean(0).exp()) for name, gaps in histories.items()},
    bands={name: (gaps.amin(0), gaps.amax(0)) for name, gaps in histories.items()},
    x_label="training step",
    y_label="gap (nats)",
    log_y=True,
)

# %% [markdown]
# In {numref}`fig-three-trainings` two of the four gradients close the gap. We average it over the last 300 steps of each run:

# %% tags=["nbval-check-output"]
last = {name: [gaps[-300:].mean() for _, gaps in r] for name, r in runs.items()}
for name, values in last.items():
    print(f"{name:20} below a tenth of a nat in all runs: {max(values) < 0.1}")

# %% [markdown]
# The score-function estimator, although noisier, reaches a small gap too. Three runs of this toy do not show that its noise costs accuracy at the end.
#
# The two wrong gradients fail in different ways. If everything is estimated by samples, the gradient has expectation zero {eq}`eq-score-mean-zero`, whatever the encoder, and the weights move at random. If the KL is in closed form, what is left is the gradient of $- D_{\mathrm{KL}}(q_\phi \,\Vert\, p)$, with no noise at all, because the likelihood no longer has a gradient in the encoder. So $q_\phi(z \mid x)$ becomes the {term}`prior`, whatever $x$ is. This state is {term}`posterior collapse`, here caused by a missing letter.

# %% tags=["held", "nbval-check-output"]
collapsed, _ = runs["likelihood without r"][0]
batch = b + (a**2 + s**2) ** 0.5 * torch.randn(1000, 1)
to_prior = kl_divergence(collapsed.posterior(batch), collapsed.prior(1000))
print("the encoder is the prior, to a millionth of a nat:", (to_prior < 1e-6).all().item())
print("and its gap is 2 to 3 nats:", 2 < gap(collapsed, batch) < 3)

# %% [markdown]
# With the second mistake the loss still falls, since the KL does, and a decoder that is trained too learns what it can without $z$. So if a training runs but ends with a poor bound, check whether a sample has lost its gradient.
#
# **On real digits.** How large is the difference for a real encoder? We take the network of chapter 6, from 784 pixels to 50 latents, and a batch of 100 digits, and estimate the gradient of the bound in the biases of the encoder's last layer. Each sample of $z$ costs a pass through the decoder, so we give every estimate the same number of samples. The path-wise estimator averages over them. The score function needs a baseline as well. For each sample the mean over the *others* is one: it is independent of that sample, and it needs no further pass. This is the leave-one-out baseline {cite:p}`kool2019`:


# %%
def leave_one_out(model, x, num=11):
    """Score-function loss; the baseline of each sample is the mean over the others."""
    q = model.posterior(x)
    z = [q.sample() for _ in range(num)]
    with torch.no_grad():
        value = torch.stack([log_ratio(model, q, x, each) for each in z])
        others = (value.sum(0) - value) / (num - 1)
    scores = torch.stack([q.log_prob(each) for each in z])
    return -((value - others) * scores).mean(0)


# %% [markdown]
# How much does a baseline save in a fresh network? The gradient is estimated thirty times, and its variance averaged over the biases.


# %%
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
print(f"variance without a baseline {plain:.0e}, leave-one-out {centered:.0e}")
torch.set_default_dtype(torch.double)

# %% tags=["held", "nbval-check-output", "mnist"]
print("the baseline saves a factor above 100:", plain > 100 * centered)

# %% [markdown]
# Without a baseline each score is multiplied by the whole bound, in a fresh network about $784 \log 2$ nats in size. How far from the path-wise estimator is it with one, and does that depend on how far the training has come? We measured five networks, each with its own initial weights and digits, at several stages ({ref}`experiment <exp-gradient-noise>`). With the KL estimated by the same samples, the score function with leave-one-out baseline has 5.0 ± 0.6 times the variance of the path-wise estimator in a fresh network, 10.3 ± 0.8 times after 600 steps of training, and 9.3 ± 0.4 times after 2,400. With a baseline from ten samples that serve for nothing else it is 53 ± 6, 102 ± 10 and 110 ± 7 times. The closed form of the KL divides the variance of the path-wise estimator by 49 ± 4 in a fresh network, but only by 1.9 ± 0.1 after 600 steps, and by 1.11 ± 0.07 after 2,400.

# %% tags=["figure"] mystnb={"image": {"alt": "Nine rows of five marks on a logarithmic axis of ratios of variances, in three groups of stages. The leave-one-out marks lie between 4 and 15 with a sampled KL. With a closed KL they lie near 200 in fresh networks and near 15 after 2,400 steps. The marks of one sample lie near 50 to 100."}, "figure": {"caption": "The variance of score-function estimates over that of the path-wise estimate of equal cost, for five networks at three stages of their training. Leave-one-out uses all samples, \"one sample\" ten of eleven for the baseline alone. With a closed KL both sides use it.", "name": "fig-digit-variances"}}
noise, parts = record_of("gradient-noise"), {}
for stage in ("fresh", "600 steps", "2400 steps"):
    parts[f"{stage}: leave-one-out"] = noise.value(stage, "leave-one-out, sampled").values
    parts["one sample" + " " * len(parts)] = noise.value(stage, "one score, sampled").values
    parts["closed KL, leave-one-out" + " " * len(parts)] = noise.value(
        stage, "leave-one-out, closed"
    ).values
fig, (axes,) = plots.figure(height=3.4)
for i, ratios in enumerate(parts.values()):
    look = {"markersize": 6, "markerfacecolor": "none"}
    _ = axes.plot(ratios, [i] * len(ratios), "osD"[i % 3], color=f"C{i % 3}", **look)
_ = axes.set(xscale="log", xlabel="variance over that of the path-wise estimate")
_ = axes.set_yticks(range(len(parts)), parts)
_ = axes.invert_yaxis()
fig

# %% [markdown]
# With the closed KL all noise that is left comes through the likelihood. So in a fresh network that is a small part of the variance, and after 2,400 steps most of it. The closed form needs no further pass, so one uses it, but in these networks it is not what keeps the gradient quiet after training.

# %% [markdown]
# **What you can say now.** With `rsample` and a closed KL the encoder of our toy learns. With `sample` it drifts or collapses, without an error message.

# %% [markdown]
# (sec-reparameterization-exercises)=
# ## Exercises
#
# Replace the three dots by your answer and run the cell.

# %% tags=["unseen", "nbval-check-output"]
from companion.page.exercises import reparameterization as exercises

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
# ```{exercise-start} A root by hand
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
# In $\bar f$ the sample $z_k$ has the share $1 / K$; the other samples are independent of its score, which has expectation zero. So a fraction $1 / K$ of the gradient is lost. Leaving the sample itself out of the average repairs it.


# %% tags=["nbval-check-output"]
def factor(K):
    return 1 - 1 / K


exercises.check_factor(factor)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Weighing a coin
# :label: ex-coin-gradient
# ```
# A coin shows $z = 1$ with probability $\pi$ and $z = 0$ otherwise. It has no path-wise gradient. Write the score-function estimate of $\partial_\pi\, \mathbb{E} f(z)$ for a vector of outcomes `z` and a vector of values `f`: one estimate for each outcome.


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
# - The gradient of the bound in $\theta$ can be taken with the samples as data {eq}`eq-gradient-theta`. In $\phi$ the same recipe gives noise of expectation zero {eq}`eq-score-mean-zero`, without an error message.
# - Weighing: the score-function estimator {eq}`eq-score-gradient` needs only values of $f$, and a distribution whose support does not move. A baseline reduces its noise {eq}`eq-best-baseline`, which for a sum of squares grows with the dimension {eq}`eq-variance-dimension`.
# - Moving: the path-wise estimator {eq}`eq-path-gradient` needs a smooth $f$ and a sample that is a smooth function of $\phi$. It is wrong for a step {eq}`eq-step-gradient`, and its substitutes for a coin are biased {eq}`eq-straight-through`. In torch it is `rsample`; with `sample` the encoder drifts or collapses.
# - A Gaussian vector is $\mu + A \varepsilon$ with any root $A A^\top = \Sigma$ {eq}`eq-root-moments`.
# - In a sampled $\log q_\phi$ the parameters occur twice, in the density and in the sample. The first term has expectation zero and may be left out {eq}`eq-sticking`.
#
# **What the sources say, and where they need care.** The tutorial marks the naive exchange of gradient and expectation as "not equal", and rightly so: what comes out has expectation zero. This does not forbid backpropagation, though, as the score-function estimator shows. Its "additional requirement" is the change of variables, and holds for every bijection that is differentiable both ways. Its gradient of the entropy has an element-wise product for a contraction (E9), and the example stops before the rest of the bound. The lecture notes multiply by the covariance for its root (E17). Both misprints are on the {doc}`errata page </book/errata>`.
#
# **To read next.** {cite:t}`mohamed2020`, a survey of all such gradients; {cite:t}`williams1992` and {cite:t}`ranganath2014` for weighing, {cite:t}`kingma2014` and {cite:t}`rezende2014` for moving.
