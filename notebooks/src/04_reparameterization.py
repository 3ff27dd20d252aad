# %% [markdown]
# # Reparameterization
#
# The bound of the last chapter has two arguments, the model's weights $\theta$ and the encoder's weights $\phi$. To raise it we want its gradient in both. But the bound is a mean over draws from $q_\phi$, and a draw is a number that a random generator spat out. What is the derivative of a number that fell from the sky?
#
# There are two answers, and this chapter is about both. One leaves the draws where they are and asks how much *likelier* each of them gets when $\phi$ changes. The other asks how each draw *moves* when $\phi$ changes. Where they apply, both are right on average. They are not equally useful.

# %% tags=["setup", "hide-input"]
# The set-up cell: tools/notebooks.py writes it.

# %%
import math

import torch
from torch import nn
from torch.distributions import LogNormal, Normal, kl_divergence
from torch.func import grad, jacrev, vmap

from companion import data
from companion.distributions import diagonal_normal
from companion.elbo import elbo_terms
from companion.page import plots
from companion.page.show import show
from companion.page.sliders import Slider
from companion.page.verify import binomial, exact, monte_carlo, quadrature, verify
from companion.training import fit, minimize
from companion.vae import Vae, mlp_vae

_ = torch.manual_seed(0)
torch.set_default_dtype(torch.double)

# %% [markdown]
# Most of the chapter lives on the line, with one normal law $q_\phi = \mathcal{N}(\mu, \sigma^2)$ and $\phi = (\mu, \sigma)$. The two functions below are the two answers, for a function $f$ whose mean we want to change; the chapter derives them. Each returns one estimate of the gradient $\big( \partial_\mu, \partial_\sigma \big)\, \mathbb{E}_{q_\phi} f(z)$ for each draw.

# %%
mu, sigma = torch.tensor(0.4), torch.tensor(1.3)


def by_score(f, noise):
    """The draws stay, their probabilities change."""
    z = mu + sigma * noise
    score = torch.stack([noise / sigma, (noise**2 - 1) / sigma], -1)
    return f(z)[..., None] * score


def by_path(f, noise):
    """The probabilities stay, the draws move."""
    z = mu + sigma * noise
    slope = grad(lambda z: f(z).sum())(z)
    return slope[..., None] * torch.stack([torch.ones_like(noise), noise], -1)


# %% [markdown]
# Here they are at work on $f(z) = z^2$, whose mean is $\mu^2 + \sigma^2$, so that the gradient should be $(2 \mu, 2 \sigma) = (0.8, 2.6)$: the black cross. Each dot is one estimate, the average over ten draws. About twenty dots of the left cloud lie above the frame or beside it.

# %% mystnb={"image": {"alt": "Two panels of dots around the same black cross. On the left the cloud is large and bent, on the right small and compact."}, "figure": {"caption": "500 estimates of one gradient, each from ten draws. Left the draws stay, right they move. Both clouds have the truth as their mean.", "name": "fig-two-clouds"}}
fig, panels = plots.figure(2, height=3.9)
noise = torch.randn(500, 10)
for axes, by in zip(panels, (by_score, by_path), strict=True):
    words = {"x_label": r"estimate of $\partial / \partial \mu$"}
    words["y_label"] = r"estimate of $\partial / \partial \sigma$"
    estimates = by(torch.square, noise).mean(1)
    _ = plots.scatter(estimates, **words, bounds=(-5, 7, -2, 11), axes=axes)
    _ = axes.plot(2 * mu, 2 * sigma, "+", color="black", markersize=14)
fig

# %% [markdown]
# {numref}`fig-two-clouds` is the chapter in one picture. Means over the normal law are also computed without draws, as sums over a fine grid of noise; that is how variances are computed exactly below.

# %%
grid = torch.linspace(-12, 12, 24_001)
density = Normal(0.0, 1.0).log_prob(grid).exp()


def mean(values):
    """Mean of a function of standard normal noise, given its values on the grid."""
    return torch.trapezoid(values * density, grid)


# %% [markdown]
# One more tool: the gradient of a sum of many terms in parameters that they share is one vector. To get the gradient of each term, every draw is handed its own copy of the parameters.

# %%
noise = torch.randn(400_000)


def per_draw(h, parameters):
    """The gradient of each of the values h(parameters), one for each draw."""
    return grad(lambda copies: h(copies.T).sum())(parameters.expand(len(noise), 2))


# %% [markdown]
# (sec-two-gradients)=
# ## Two gradients of one bound
#
# Training a variational autoencoder means to find
#
# $$
# \begin{aligned}
# (\theta^*, \phi^*) &= \operatorname*{arg\,max}_{\theta,\, \phi} \; \sum_{i=1}^N \mathrm{ELBO}_{\theta, \phi}(x_i), \\
# \mathrm{ELBO}_{\theta, \phi}(x) &= \mathbb{E}_{q_\phi(z \mid x)} \big[ \log p_\theta(x, z) - \log q_\phi(z \mid x) \big] .
# \end{aligned}
# $$ (def-vae-objective)
#
# The gradient in $\theta$ is easy. The law of the draws does not depend on $\theta$, and neither does $\log q_\phi$. If the gradient may be taken under the integral, then
#
# $$
# \nabla_\theta\, \mathrm{ELBO}_{\theta, \phi}(x) = \mathbb{E}_{q_\phi(z \mid x)} \nabla_\theta \log p_\theta(x, z) .
# $$ (eq-gradient-theta)
#
# Draw $z$ from the encoder, differentiate $\log p_\theta(x, z)$ as if $z$ were data, take the mean: an unbiased {term}`Monte Carlo estimate <Monte Carlo estimate>`. The cell checks it on the model of the last chapter, $z \sim \mathcal{N}(0, 1)$ and $x \mid z \sim \mathcal{N}(a z + b, s^2)$, with $\theta = (a, b)$. The bound is known in closed form there {eq}`eq-elbo-terms`, and
# automatic differentiation gives its gradient. Drawing from the prior instead of the encoder would give another vector.

# %% tags=["nbval-check-output"]
x, s = torch.tensor(0.9), 0.5**0.5
theta, phi = torch.tensor([1.3, 0.4]), torch.stack([mu, sigma])
prior = Normal(torch.tensor(0.0), torch.tensor(1.0))


def log_joint(theta, z):
    return Normal(theta[0] * z + theta[1], s).log_prob(x) + prior.log_prob(z)


def elbo(theta, phi):
    residual = (x - theta[0] * phi[0] - theta[1]) ** 2 + (theta[0] * phi[1]) ** 2
    likelihood = -0.5 * math.log(2 * math.pi * s**2) - residual / (2 * s**2)
    return likelihood - kl_divergence(Normal(*phi), prior)


z = mu + sigma * noise
estimates = per_draw(lambda theta: log_joint(theta, z), theta)
truth = grad(elbo)(theta, phi)
of_prior = {"draws from the prior": grad(elbo)(theta, torch.tensor([0.0, 1.0]))}
verify("eq-gradient-theta", estimates, truth, monte_carlo, rejects=of_prior)

# %% [markdown]
# **The gradient in $\phi$ is another matter.** Now the law of the draws depends on what we differentiate. Suppose we did the same thing all the same: draw, then differentiate what is inside the mean. The joint density does not contain $\phi$, so what is left is $- \nabla_\phi \log q_\phi(z \mid x)$. And that has mean zero, whatever the model, whatever the data, if the gradient may be taken out of the integral:
#
# $$
# \mathbb{E}_{q_\phi} \nabla_\phi \log q_\phi(z) = 0 .
# $$ (eq-score-mean-zero)
#
# :::{dropdown} Proof
# $\int q_\phi\, \nabla_\phi \log q_\phi \,\mathrm{d}z = \int \nabla_\phi\, q_\phi \,\mathrm{d}z = \nabla_\phi \int q_\phi \,\mathrm{d}z = \nabla_\phi 1 = 0$, if the gradient may be taken out of the integral. It may for normal laws. It may not for a uniform law on $(0, \phi)$: its edge moves, and the score is $-1 / \phi$ everywhere. $\square$
# :::
#
# This is the wrong gradient that a program computes when the draw is treated as data. No error is raised. The cell does it, and finds zero where the truth is far from zero.

# %% tags=["nbval-check-output"]
naive = per_draw(lambda phi: log_joint(theta, z) - Normal(*phi).log_prob(z), phi)
wrong = {"true gradient": grad(elbo, argnums=1)(theta, phi)}
verify("eq-score-mean-zero", naive, torch.zeros(2), monte_carlo, rejects=wrong)

# %% [markdown]
# The vector $\nabla_\phi \log q_\phi(z)$ is called the score of $q_\phi$ *in its parameters*. (The {term}`score` of the diffusion chapters is the gradient in $z$. The name is the same, the space is not.)
#
# *Sources: A24, D11.*

# %% [markdown]
# (sec-move-or-weigh)=
# ## Two ways to change a mean
#
# How does $\mathbb{E}_{q_\phi} f(z)$ change with $\phi$, if all we have is a handful of draws? Move the slider. On the left the draws follow the law: each one is $\mu + \sigma \varepsilon$ with its own fixed noise $\varepsilon$, and $\mu$ changes. On the right the draws of the old law stay where they are, and each gets the weight that the new law gives it, relative to the old one. The new law itself is drawn behind them in blue, not to scale.

# %%
fixed_noise = torch.tensor([-1.6, -1.1, -0.7, -0.4, -0.1, 0.2, 0.4, 0.8, 1.2, 1.7])
line = torch.linspace(-5, 5, 201)


def move_or_weigh(new_mu):
    fig, panels = plots.figure(2, height=2.6)
    old = mu + sigma * fixed_noise
    moved = new_mu + sigma * fixed_noise
    ratio = (Normal(new_mu, sigma).log_prob(old) - Normal(mu, sigma).log_prob(old)).exp()
    for axes, z, weight in zip(panels, (moved, old), (ratio**0, ratio), strict=True):
        law = {"law": (line, 10 * Normal(new_mu, sigma).log_prob(line).exp())}
        _ = plots.curves(law, x_label="z", y_label="weight of a draw", axes=axes)
        _ = axes.vlines(z, 0, weight, color="#d55e00")
        _ = axes.plot(z, weight, "o", color="#d55e00")
        _ = axes.set_ylim(0, 7)
    return fig


# %%
Slider(
    torch.linspace(-1.6, 2.4, 11),
    move_or_weigh,
    description="mean of the new law",
    label="{:.1f}",
    alt="Ten draws as stems beside a bell curve with mean {:.1f}: moved and equally high on the left, in their old places with unequal heights on the right",
    start=7,
)

# %% [markdown]
# Left, ten equal draws describe every law of the family equally well. Right, most weights shrink and a few draws at the edge take over: ten draws of the old law say little about a new law whose mass lies elsewhere. An infinitely small step is gentler than those of the slider, but the difference remains. We take the right panel first, because it needs less.

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
# $\nabla_\phi \int f q_\phi = \int f\, \nabla_\phi q_\phi = \int f\, q_\phi\, \nabla_\phi \log q_\phi$. In the picture above: the mean under a new $\phi'$ is $\mathbb{E}_{q_\phi} [f\, q_{\phi'} / q_\phi]$, and the derivative of the weight $q_{\phi'} / q_\phi$ at $\phi' = \phi$ is the score. $\square$
# :::
#
# No slope is asked of $f$, only that the means exist: it may jump, it may be a count, a black box, a reward. In reinforcement learning the estimator is known as REINFORCE {cite:p}`williams1992`. The {term}`score-function estimator` of the bound has a small complication: there $f = \log p_\theta(x, z) - \log q_\phi(z)$ depends on $\phi$ itself. By {eq}`eq-score-mean-zero` that dependence adds a term of mean zero, so it can be ignored:
#
# $$
# \nabla_\phi\, \mathrm{ELBO} = \mathbb{E}_{q_\phi} \Big[ \big( \log p_\theta(x, z) - \log q_\phi(z) \big)\, \nabla_\phi \log q_\phi(z) \Big] .
# $$ (eq-score-elbo)
#
# A tutorial says that gradient and mean cannot be switched here, and that this forbids backpropagation. The first half is right: for draws from $q_\phi$ they may not simply be switched. It is not right that this *forbids* backpropagation: with one factor more, the gradient is again a mean over draws. Both claims, checked against closed forms. The first check rejects the gradient in the variance, where that in the standard deviation is meant; the second rejects zero, the mean of the naive gradient.

# %% tags=["nbval-check-output"]
square = torch.stack([2 * mu, 2 * sigma])
in_variance = {"derivative in the variance": torch.stack([2 * mu, 0 * mu + 1])}
estimates = by_score(torch.square, noise)
verify("eq-score-gradient", estimates, square, monte_carlo, rejects=in_variance)


def integrand(z):
    return log_joint(theta, z) - Normal(mu, sigma).log_prob(z)


truth = grad(elbo, argnums=1)(theta, phi)
estimates = by_score(integrand, noise)
zero = {"nothing": torch.zeros(2)}
verify("eq-score-elbo", estimates, truth, monte_carlo, rejects=zero)

# %% [markdown]
# **Where weighing fails.** Something is asked of the law: where its density is positive may not depend on $\phi$. Take the uniform law on $(0, \phi)$ at $\phi = 2$, and $f(z) = z$ with the mean $\phi / 2$. Every draw has the score $-1 / \phi$. No weight on old draws can say that new values become possible at the edge; a draw that moves, $z = \phi u$ with $u$ uniform on $(0, 1)$, does.

# %% tags=["nbval-check-output"]
edge, u = torch.tensor(2.0), torch.rand(400_000)
score = grad(lambda edge: -edge.log())(edge)  # the density is 1 / edge
weighing = (edge * u * score).mean()
moving = grad(lambda edge: (edge * u).mean())(edge)
print(f"truth 0.50, weighing {weighing:.2f}, moving {moving:.2f}")

# %% [markdown]
# **A baseline.** Since the score has mean zero, any number $b$ that does not depend on the draw may be subtracted from $f$,
#
# $$
# \mathbb{E}_{q_\phi} \big[ (f(z) - b)\, \nabla_\phi \log q_\phi(z) \big] = \nabla_\phi\, \mathbb{E}_{q_\phi} f(z) ,
# $$ (eq-baseline)
#
# and the mean stays. The variance does not. This is the simplest {term}`control variate`. For the derivative in one parameter $\phi_j$, the variance is least at
#
# $$
# b_j^* = \frac{\mathbb{E}_q \big[ f(z)\, s_j(z)^2 \big]}{\mathbb{E}_q \big[ s_j(z)^2 \big]}, \qquad s_j = \frac{\partial \log q_\phi}{\partial \phi_j} ,
# $$ (eq-best-baseline)
#
# :::{dropdown} Proof
# Since the mean does not depend on $b$, minimize the second moment $\mathbb{E}[(f - b)^2 s_j^2]$. Its derivative in $b$ is $-2\, \mathbb{E}[(f - b) s_j^2]$, which vanishes at $b_j^*$. $\square$
# :::
#
# For $f(z) = z^2$ and the derivative in $\mu$ this is $\mu^2 + 3 \sigma^2$, not the mean of $f$, which is $\mu^2 + \sigma^2$. The cell lets an optimizer look for the best $b$.

# %% tags=["nbval-check-output"]
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
# Add a large constant to $f$, and the need for a baseline is plain. The mean does not care about the constant; the noise does. Each line prints the standard deviation of the derivative in $\mu$, without and with the best baseline.

# %% tags=["nbval-check-output"]
for constant in (0, 10, 1000):
    g = f + constant
    best = mean(g * score**2) / mean(score**2)
    plain, centered = (
        (mean((h * score) ** 2) - mean(h * score) ** 2).sqrt() for h in (g, g - best)
    )
    print(f"f + {constant:<4}  s.d. {plain:6.1f}, with the best baseline {centered:.1f}")

# %% [markdown]
# *Sources: D12.*

# %% [markdown]
# (sec-change-of-variables)=
# ## Moving: a change of variables
#
# Now the left panel. Suppose the draws can be written as
#
# $$
# z = g(\varepsilon, \phi), \qquad \varepsilon \sim p(\varepsilon) ,
# $$ (def-reparameterization)
#
# with noise $\varepsilon$ whose law does not know $\phi$. For the normal law $g = \mu + \sigma \varepsilon$ does it. How are the two densities related?
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
# Near $\varepsilon$ the map is linear, so a small set of volume $V$ around $\varepsilon$ goes to a set of volume $\lvert \det \partial g / \partial \varepsilon \rvert\, V$ around $z$. The probability of the two sets is the same: $p(\varepsilon) V = q_\phi(z) \lvert \det \partial g / \partial \varepsilon \rvert V$. It is {eq}`eq-flow` of the last chapter, read in the other direction. $\square$
# :::
#
# A tutorial poses this equation as an additional requirement on $g$. It is none: every such bijection fulfills it. The test case is a funnel in the plane that also mirrors it, $g(\varepsilon) = (\varepsilon_1,\; - e^{\varepsilon_1} \varepsilon_2)$. Its density is known without any determinant, because $z_1$ is standard normal and $z_2$ is normal with standard deviation $e^{z_1}$ once $z_1$ is given.


# %%
def funnel(noise):
    return torch.stack([noise[..., 0], -noise[..., 0].exp() * noise[..., 1]], -1)


def funnel_log_prob(z):
    second = Normal(0.0, z[..., 0].exp()).log_prob(z[..., 1])
    return prior.log_prob(z[..., 0]) + second


# %% mystnb={"image": {"alt": "Left: points on a regular square grid of noise. Right: the same points after the map, pressed together on the left side and fanned out on the right, like a funnel."}, "figure": {"caption": "Equal cells of noise become small cells on the left of the funnel and large ones on its right. Where cells shrink, density grows.", "name": "fig-funnel"}}
fig, (left, right) = plots.figure(2, height=3.0)
ticks = torch.linspace(-1.2, 1.2, 13)
cells = torch.cartesian_prod(ticks, ticks)
words = {"x_label": r"$\varepsilon_1$", "y_label": r"$\varepsilon_2$"}
_ = plots.scatter(cells, **words, axes=left, bounds=(-4.2, 4.2, -4.2, 4.2))
words = {"x_label": "$z_1$", "y_label": "$z_2$"}
_ = plots.scatter(funnel(cells), **words, axes=right, bounds=(-4.2, 4.2, -4.2, 4.2))
fig

# %% [markdown]
# {numref}`fig-funnel` shows why the determinant must appear. The cell computes it with automatic differentiation. It is negative, because $g$ mirrors. The cell rejects the formula without the determinant, with its inverse, and without the bars.

# %% tags=["nbval-check-output"]
noise_2d = torch.randn(1000, 2)
z = funnel(noise_2d)
p = prior.log_prob(noise_2d).sum(-1).exp()
det = torch.linalg.det(vmap(jacrev(funnel))(noise_2d))
q = funnel_log_prob(z).exp()
wrong = {"no determinant": q, "its inverse": q / det.abs(), "no bars": q * det}
verify("eq-density-of-transform", p, q * det.abs(), rejects=wrong)

# %% [markdown]
# For means the determinant cancels, and one does not even need a bijection:
#
# $$
# \mathbb{E}_{q_\phi} f(z) = \mathbb{E}_{p(\varepsilon)}\, f\big( g(\varepsilon, \phi) \big) .
# $$ (eq-mean-of-transform)
#
# :::{dropdown} Proof
# Substitute $z = g(\varepsilon, \phi)$ and use {eq}`eq-density-of-transform`: $\int f(z)\, q_\phi(z)\, \mathrm{d}z = \int f(g)\, q_\phi(g)\, \lvert \det \partial g / \partial \varepsilon \rvert\, \mathrm{d}\varepsilon = \int f(g)\, p(\varepsilon)\, \mathrm{d}\varepsilon$. Without a bijection, the equation is what "$z$ has the law $q_\phi$" means. $\square$
# :::
#
# The left side is an integral over $z$, the right side one over $\varepsilon$. For a log-normal law, $g = e^{\mu + \sigma \varepsilon}$, both are computed on grids. A determinant that is left in by mistake is noticed.

# %% tags=["nbval-check-output"]
half = torch.linspace(-14, 8, 40_001).exp()  # a fine grid of positive z
left = torch.trapezoid(LogNormal(mu, 0.5).log_prob(half).exp() * half.log1p(), half)
g = (mu + 0.5 * grid).exp()
kept = {"determinant kept": mean(g.log1p() * 0.5 * g)}
verify("eq-mean-of-transform", left, mean(g.log1p()), quadrature.within(1e-6), rejects=kept)

# %% [markdown]
# Now $\phi$ stands only inside the mean, and the law of the noise knows nothing of it. Gradient and mean can be exchanged.
#
# :::{prf:theorem} Path-wise gradient
# :label: thm-path-gradient
# Let $f$, free of $\phi$, be continuously differentiable, and $g$ differentiable in $\phi$. Suppose that for all $\phi'$ near $\phi$, $\lVert \nabla_{\phi'} f(g(\varepsilon, \phi')) \rVert \le M(\varepsilon)$ with $\mathbb{E}\, M(\varepsilon) < \infty$. If the mean of $f$ exists, then
#
# $$
# \nabla_\phi\, \mathbb{E}_{q_\phi} f(z) = \mathbb{E}_{p(\varepsilon)} \nabla_\phi\, f\big( g(\varepsilon, \phi) \big) = \mathbb{E}_{p(\varepsilon)} \bigg[ \Big( \frac{\partial g}{\partial \phi} \Big)^{\!\top} \nabla f(z) \bigg]_{z = g(\varepsilon, \phi)} .
# $$ (eq-path-gradient)
# :::
#
# :::{dropdown} Proof
# Dominated convergence takes the gradient inside the mean {eq}`eq-mean-of-transform`; the rest is the chain rule. Kinks, as of a ReLU, do no harm if $f$ is continuous and draws hit them with probability zero; jumps do. $\square$
# :::
#
# This is the {term}`reparameterization trick`, brought to variational autoencoders by {cite:t}`kingma2014` and {cite:t}`rezende2014`; the estimator is called {term}`path-wise <path-wise gradient>`. For $z = \mu + \sigma \varepsilon$ the derivative $\partial g / \partial \phi$ is $(1, \varepsilon)$, and `by_path` above is nothing but this line. Two functions with known means, $\mathbb{E} z^2 = \mu^2 + \sigma^2$ and $\mathbb{E} \cos z = e^{-\sigma^2 / 2} \cos \mu$, have the gradients
#
# $$
# \nabla_{\mu, \sigma}\, \mathbb{E} z^2 = (2 \mu,\; 2 \sigma), \qquad \nabla_{\mu, \sigma}\, \mathbb{E} \cos z = - e^{-\sigma^2 / 2}\, (\sin \mu,\; \sigma \cos \mu) .
# $$ (eq-example-gradients)

# %% tags=["nbval-check-output"]
verify("eq-path-gradient", by_path(torch.square, noise), square, monte_carlo, rejects=zero)
cosine = -(-(sigma**2) / 2).exp() * torch.stack([mu.sin(), sigma * mu.cos()])
both = torch.cat([by_path(torch.square, noise), by_path(torch.cos, noise)], -1)
truth = torch.cat([square, cosine])
wrong = {"sign of the cosine": torch.cat([square, -cosine])}
verify("eq-example-gradients", both, truth, monte_carlo, rejects=wrong)
both = torch.cat([by_score(torch.square, noise), by_score(torch.cos, noise)], -1)
verify("eq-example-gradients", both, truth, monte_carlo, rejects=wrong)

# %% [markdown]
# **In torch** the distinction is one letter. `q.sample()` returns numbers, `q.rsample()` returns a function of the parameters: the letter r stands for *reparameterized*. By hand and by torch the same draw comes out, and the same gradient.

# %% tags=["nbval-check-output"]
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
# *Sources: A25, D13.*

# %% [markdown]
# (sec-gradient-noise)=
# ## How noisy are they?
#
# For $f(z) = z^2$ both variances can be written down. For one draw the path-wise estimator has
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
# Path: $2 z\, (1, \varepsilon)$ with $z = \mu + \sigma \varepsilon$, and the moments $\mathbb{E} \varepsilon^2 = 1$, $\mathbb{E} \varepsilon^4 = 3$. Score: the second moments are $\mathbb{E}[z^4 \varepsilon^2] / \sigma^2$ and $\mathbb{E}[z^4 (\varepsilon^2 - 1)^2] / \sigma^2$. Odd moments vanish, and $\mathbb{E}\, \varepsilon^{2k} (\varepsilon^2 - 1)^2 = 2, 10, 78$ for $k = 0, 1, 2$, $\mathbb{E} \varepsilon^6 = 15$. Subtract the squares of the means $2 \mu$ and $2 \sigma$. $\square$
# :::

# %% tags=["nbval-check-output"]
weight = (density * (grid[1] - grid[0]))[:, None]


def exact_variance(estimates):
    return (weight * estimates**2).sum(0) - (weight * estimates).sum(0) ** 2


path = torch.stack([4 * sigma**2, 4 * mu**2 + 8 * sigma**2])
by_grid, wrong = exact_variance(by_path(torch.square, grid)), path + square**2
verify("eq-path-variance", by_grid, path, quadrature, rejects={"mean kept": wrong})

# %% [markdown]
# And the other one. The last line divides the two: so many times more draws make the noise equal.

# %% tags=["nbval-check-output"]
first = mu**4 / sigma**2 + 14 * mu**2 + 15 * sigma**2
second = 2 * mu**4 / sigma**2 + 60 * mu**2 + 74 * sigma**2
score = torch.stack([first, second])
by_grid, wrong = exact_variance(by_score(torch.square, grid)), score + square**2
verify("eq-score-variance", by_grid, score, quadrature, rejects={"mean kept": wrong})
print("draws needed for equal noise:", [f"{r:.1f} times" for r in (score / path).tolist()])

# %% [markdown]
# **In many dimensions the difference becomes decisive.** Take $q = \mathcal{N}(0, I)$ in $d$ dimensions and $f(z) = \lVert z \rVert^2$, and look at the derivative in the first mean, $\mu_1$. The estimates have variance
#
# $$
# \begin{aligned}
# \operatorname{Var}_\text{path} &= 4, & \operatorname{Var}_\text{score} &= (d + 2)(d + 4), \\
# \operatorname{Var}_{\text{score, baseline } d} &= 2 d + 8, & \operatorname{Var}_{\text{score, baseline } d + 2} &= 2 d + 4 .
# \end{aligned}
# $$ (eq-variance-dimension)
#
# :::{dropdown} Proof
# All three means are zero. Path: $\mathbb{E} (2 z_1)^2 = 4$, and the other coordinates do not enter. Score: let $R = z_2^2 + \dots + z_d^2$, with mean $d - 1$ and variance $2 (d - 1)$. Then $\mathbb{E} [(z_1^2 + R)^2 z_1^2] = 15 + 2 \cdot 3 (d - 1) + (d - 1)^2 + 2 (d - 1) = (d + 2)(d + 4)$. With a baseline $b$: $\mathbb{E} [(f - b)^2 z_1^2] = (d + 2)(d + 4) - 2 b\, (d + 2) + b^2$, since $\mathbb{E} f z_1^2 = 3 + (d - 1)$. Put in $b = d$ and $b = d + 2$. $\square$
# :::
#
# The mean of $f$ is $d$, a natural baseline. It is not the best one: by {eq}`eq-best-baseline` that is $d + 2$, and it gains little.
#
# The path-wise estimator knows *which* coordinate moves $f$, because it has the slope. The score-function estimator sees one number for all coordinates together, and must find out by correlation. A picture with its 784 pixels has a latent of 20 to 50 numbers.

# %% tags=["nbval-check-output"]
d = 30
z = torch.randn(100_000, d)
f, z_1 = z.square().sum(1), z[:, 0]
weights = torch.stack([f, f - d, f - d - 2], 1)
squares = torch.cat([2 * z_1[:, None], weights * z_1[:, None]], 1) ** 2
variances = torch.tensor([4.0, (d + 2) * (d + 4), 2 * d + 8, 2 * d + 4])
wrong = {"baseline without effect": variances[[0, 1, 1, 1]]}
verify("eq-variance-dimension", squares, variances, monte_carlo, rejects=wrong)


# %%
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
# Watch the three clouds as the dimension grows; each dot is an average over ten draws, and the truth is the origin.

# %%
Slider(
    [2, 4, 8, 16, 32, 64],
    clouds_in,
    description="dimension of z",
    label="{:d}",
    alt="Three clouds of gradient estimates around zero in {:d} dimensions: score-function wide, with baseline narrower, path-wise narrowest",
    start=3,
)

# %% [markdown]
# (sec-where-each-fails)=
# ## Where each of them fails
#
# **A step.** Let $f(z) = 1$ for $z > 0$, and 0 otherwise. Its mean is the probability $\Phi(\mu / \sigma)$, with the distribution function $\Phi$ of $\mathcal{N}(0, 1)$, and it certainly depends on $\mu$ and $\sigma$:
#
# $$
# \nabla_{\mu, \sigma}\, \mathbb{E}\, 1[z > 0] = \mathcal{N}(0;\, \mu, \sigma^2) \cdot \big( 1,\; - \mu / \sigma \big) .
# $$ (eq-step-gradient)
#
# :::{dropdown} Proof
# Differentiate $\Phi(\mu / \sigma)$: the derivative of $\Phi$ at $\mu / \sigma$ is $\sigma\, \mathcal{N}(0; \mu, \sigma^2)$, and those of $\mu / \sigma$ are $1 / \sigma$ and $- \mu / \sigma^2$. $\square$
# :::
#
# The slope of a step is zero at every draw, so the path-wise estimator returns zero, always, without any noise: confident and wrong. The theorem did ask for a continuously differentiable $f$. The score-function estimator has no such need.

# %% tags=["nbval-check-output"]
step = (mu + sigma * noise > 0).double()
estimates = by_score(lambda z: step, noise)
height = Normal(mu, sigma).log_prob(torch.tensor(0.0)).exp()
truth = height * torch.stack([torch.tensor(1.0), -mu / sigma])
always_zero = by_path(lambda z: (z > 0).double(), noise)
print("path-wise estimates are zero:", (always_zero == 0).all().item())
wrong = {"path-wise gradient": always_zero.mean(0)}
verify("eq-step-gradient", estimates, truth, monte_carlo, rejects=wrong)

# %% [markdown]
# **A steep slope** is the same story told slowly. Make the step a logistic curve of width $h$, $f_h(z) = 1 / (1 + e^{-z / h})$. Now both estimators are unbiased. But the path-wise one sees a slope only in the rare draws near zero, and there a huge one:
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

# %% tags=["nbval-check-output"]
h = 0.02
slope = torch.sigmoid((mu + sigma * grid) / h) * torch.sigmoid(-(mu + sigma * grid) / h) / h
wrong = {"largest slope squared": height / 16}
verify("eq-steep-slope", h * mean(slope**2), height / 6, quadrature.within(1e-2), rejects=wrong)

# %% mystnb={"image": {"alt": "Standard deviation against the width of the step, both axes logarithmic. The path-wise line falls as the step gets wider, the score-function line is almost flat; they cross near a width of 0.16."}, "figure": {"caption": "Noise of the derivative in the mean, for one draw. Left of the crossing the slope is too steep for the path.", "name": "fig-steep"}}
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
# Where do the lines of {numref}`fig-steep` cross?

# %% tags=["nbval-check-output"]
path, score = torch.tensor(curves["path-wise"]), torch.tensor(curves["score-function"])
wider = (path > score).sum()  # widths at which the path loses
print("they cross once:", bool((path[wider:] < score[wider:]).all()))
print(f"between the widths {widths[wider - 1]:.2f} and {widths[wider]:.2f}")

# %% [markdown]
# Rule of thumb: with a smooth network and a continuous latent, take the path. With discrete latents there is no path. Few values can simply be summed over; otherwise one weighs, or replaces the discrete law by a smooth one {cite:p}`jang2017`. {cite:t}`mohamed2020` survey the field.

# %% [markdown]
# (sec-gaussian-roots)=
# ## Drawing from any normal law
#
# For a vector with covariance $\Sigma$ one needs a root of $\Sigma$: any matrix $A$ with $A A^\top = \Sigma$.
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
# Affine maps of normal vectors are normal. $\mathbb{E}\, z = \mu + A\, \mathbb{E} \varepsilon$, and $\mathbb{E}\, A \varepsilon \varepsilon^\top A^\top = A I A^\top$. For the second part, $Q Q^\top = A^{-1} B B^\top A^{-\top} = A^{-1} \Sigma A^{-\top} = I$. $\square$
# :::
#
# Two roots are in use. The *Cholesky* root is lower triangular, and cheap. The *eigenvalue* root is $U \Lambda^{1/2} U^\top$, where $\Sigma = U \Lambda U^\top$; it is symmetric. One set of lecture notes says to multiply the noise by the covariance itself. That gives the covariance $\Sigma^2$, and the cell rejects it (entry E17). It also rejects $B A^{-1}$ in place of $A^{-1} B$, which is no rotation.

# %% tags=["nbval-check-output"]
center, cov = torch.tensor([1.0, -0.5]), torch.tensor([[2.0, 0.9], [0.9, 1.2]])
cholesky = torch.linalg.cholesky(cov)
eigenvalues, U = torch.linalg.eigh(cov)
symmetric = U @ eigenvalues.sqrt().diag() @ U.T
noise_2d = torch.randn(200_000, 2)


def second_moments(A):
    centered = noise_2d @ A.T
    return (centered[:, :, None] * centered[:, None, :]).flatten(1)


right, misprint = cov.flatten(), {"E17": (cov @ cov).flatten()}
for A in (cholesky, symmetric):
    verify("eq-root-moments", second_moments(A), right, monte_carlo, rejects=misprint)
Q = torch.linalg.solve(cholesky, symmetric)
R = symmetric @ torch.linalg.inv(cholesky)
wrong = {"B A^-1": R @ R.T}
verify("eq-root-rotation", Q @ Q.T, torch.eye(2), rejects=wrong)

# %% mystnb={"image": {"alt": "Three clouds made from the same noise, each with two arrows from its center. Cholesky and eigenvalue root give the same tilted ellipse, with different arrows; the covariance itself gives a longer and thinner one."}, "figure": {"caption": "The same 400 draws of noise through two roots of the covariance and, wrongly, through the covariance itself. The arrows lead from the mean to where the noise (3, 0) and the noise (0, 3) end.", "name": "fig-roots"}}
fig, panels = plots.figure(3, height=2.0)
some = center + noise_2d[:400] @ torch.stack([cholesky, symmetric, cov]).mT
names = ["Cholesky", "eigenvalues", "covariance"]
for axes, z, A, name in zip(panels, some, [cholesky, symmetric, cov], names, strict=True):
    words = {"x_label": "$z_1$", "y_label": "$z_2$", "bounds": (-7, 8, -7, 6)}
    _ = plots.scatter(z, **words, axes=axes)
    arrows = {"angles": "xy", "scale_units": "xy", "scale": 1, "color": "#d55e00"}
    _ = axes.quiver(*center.expand(2, 2).T, *(3 * A), width=0.012, zorder=5, **arrows)
    _ = axes.set_title(name)
fig

# %% [markdown]
# In {numref}`fig-roots` the two left clouds have one law, though each single draw lands elsewhere. Not only the moments are right: {prf:ref}`thm-roots` says that the draws are normal. If they are, then the whitened square $\lVert A^{-1} (z - \mu) \rVert^2$ follows the $\chi^2$ law with two degrees of freedom. The cell checks one radius, with draws made by the eigenvalue root:
#
# $$
# \Pr\Big( (z - \mu)^\top \Sigma^{-1} (z - \mu) \le r^2 \Big) = 1 - e^{-r^2 / 2} \qquad (d = 2) .
# $$ (eq-whitened-radius)
#
# :::{dropdown} Proof
# With $z = \mu + A \varepsilon$ the quadratic form is $\varepsilon^\top A^\top \Sigma^{-1} A\, \varepsilon = \lVert \varepsilon \rVert^2$. In the plane, $\int_0^r t\, e^{-t^2 / 2}\, \mathrm{d}t = 1 - e^{-r^2 / 2}$. $\square$
# :::

# %% tags=["nbval-check-output"]
draws = noise_2d @ symmetric.T
radius = (draws * torch.linalg.solve(cov, draws.T).T).sum(1)
r = 1.5
wrong = {"one dimension": torch.special.erf(torch.tensor(r / 2**0.5))}
verify(
    "eq-whitened-radius",
    (radius <= r**2).double(),
    1 - math.exp(-(r**2) / 2),
    binomial,
    rejects=wrong,
)

# %% [markdown]
# **Without full rank.** A covariance may be singular; then it is positive *semi*-definite only. The law lives on a subspace through $\mu$ and has no density in the whole space. A network may put out the root $A$ instead of $\Sigma$: $A A^\top$ is always a covariance. That "ensures positive definiteness", as one reads, only if $A$ has full rank; otherwise it ensures semi-definiteness. The eigenvalue root exists here too, while the Cholesky algorithm of torch gives up.

# %% tags=["nbval-check-output"]
flat = torch.tensor([[1.0, 2.0], [2.0, 4.0]])
eigenvalues, U = torch.linalg.eigh(flat)
root = U @ eigenvalues.clamp(min=0).sqrt().diag() @ U.T
print("eigenvalue root squares to it:", torch.allclose(root @ root.T, flat))
print("Cholesky succeeds:", torch.linalg.cholesky_ex(flat).info.item() == 0)

# %% [markdown]
# **In an encoder** the covariance is diagonal. The network takes $x$ and returns $\mu_\phi(x)$ and $\log \sigma_\phi(x)$, the logarithm so that every output is allowed, and the draw is
#
# $$
# z = \mu_\phi(x) + \sigma_\phi(x) \odot \varepsilon , \qquad \varepsilon \sim \mathcal{N}(0, I) ,
# $$ (def-encoder-draw)
#
# where $\odot$ multiplies element by element. It is {eq}`eq-root-moments` with the root $A = \operatorname{diag}(\sigma_\phi(x))$. The moments are those of $z$ given $x$.
#
# *Sources: C05, D15.*

# %% [markdown]
# (sec-entropy-gradient)=
# ## The entropy, and derivatives through two doors
#
# One part of the bound needs no draws. The entropy of $q_\phi = \mathcal{N}(\mu_\phi, \operatorname{diag} \sigma_\phi^2)$ is $\sum_i \log \sigma_i + \frac{d}{2} \log 2 \pi e$, and its gradient is
#
# $$
# \nabla_\phi H(q_\phi) = \sum_i \frac{1}{\sigma_i} \nabla_\phi\, \sigma_i = J^\top (1 / \sigma), \qquad J = \frac{\partial \sigma_\phi}{\partial \phi} .
# $$ (eq-entropy-gradient)
#
# The Jacobian $J$ has a row for each $\sigma_i$ and a column for each weight, and it is *contracted* with the vector $1 / \sigma$. A tutorial prints an element-wise product, $\frac1\sigma \odot \nabla_\phi \sigma_\phi$. The shapes do not allow that, unless there happen to be as many weights as latents; in that case the printed form, read as `grad(sigma.sum()) / sigma`, gives other numbers (entry E9). The tutorial's example stops here. But the entropy is one part of the bound; the other, the mean of $\log p_\theta(x, z)$, depends on $\phi$ through the draw $z = g(\varepsilon, \phi)$, and its path-wise gradient must be added.

# %% tags=["nbval-check-output"]
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
# **Two doors.** Estimate the entropy by draws instead: the mean of $- \log q_\phi(z)$ with $z = g(\varepsilon, \phi)$. Now $\phi$ enters through two doors. One is the density's own parameters, the other is the draw. The chain rule wants both. For one normal law the total is the same for every draw, with no noise at all:
#
# $$
# \frac{\mathrm{d}}{\mathrm{d} \phi} \Big[ - \log q_\phi\big( g(\varepsilon, \phi) \big) \Big] = \Big( 0,\; \frac{1}{\sigma} \Big) \qquad \text{for every } \varepsilon .
# $$ (eq-entropy-per-draw)
#
# :::{dropdown} Proof
# $- \log q_\phi(\mu + \sigma \varepsilon) = \frac12 \varepsilon^2 + \log \sigma + \frac12 \log 2 \pi$. $\square$
# :::
#
# The door of the parameters alone is minus the score, which has mean zero {eq}`eq-score-mean-zero`. So the door of the draw alone is unbiased too, though noisy. The cell opens both, then each.


# %%
def log_q(phi, z):
    return Normal(*phi).log_prob(z)


def draw(phi):
    return phi[0] + phi[1] * noise


# %% tags=["nbval-check-output"]
total = per_draw(lambda phi: -log_q(phi, draw(phi)), phi)
direct = per_draw(lambda phi: -log_q(phi, draw(phi).detach()), phi)
through_z = total - direct
constant = torch.stack([0 * sigma, 1 / sigma])
one_door = {"door of the parameters": direct, "door of the draw": through_z}
verify("eq-entropy-per-draw", total, constant.expand_as(total), rejects=one_door)
nothing = {"nothing": 0 * constant}
verify("eq-entropy-gradient", through_z, constant, monte_carlo, rejects=nothing)

# %% [markdown]
# This freedom can be used. For the whole bound, keep only the door of the draw:
#
# $$
# \nabla_\phi\, \mathrm{ELBO} = \mathbb{E}_{p(\varepsilon)} \bigg[ \Big( \frac{\partial g}{\partial \phi} \Big)^{\!\top} \frac{\partial}{\partial z} \big( \log p_\theta(x, z) - \log q_\phi(z) \big) \bigg]_{z = g(\varepsilon, \phi)} ,
# $$ (eq-sticking)
#
# where the $\phi$ in $\log q_\phi$ is held fixed. It is unbiased by {eq}`eq-score-mean-zero`. And when $q_\phi$ *is* the posterior, $\log p_\theta(x, z) - \log q_\phi(z)$ is the constant $\log p_\theta(x)$, its slope in $z$ is zero, and every single draw returns the exact gradient, zero:
#
# $$
# q_\phi = p_\theta(z \mid x) \quad \Longrightarrow \quad \frac{\partial}{\partial z} \big( \log p_\theta(x, z) - \log q_\phi(z) \big) = 0 \;\text{ for all } z .
# $$ (eq-sticking-zero)
#
# {cite:t}`roeder2017` call it sticking the landing: an optimizer that has arrived is not shaken off again.


# %% tags=["nbval-check-output"]
def both_doors(phi):
    return per_draw(lambda phi: log_joint(theta, draw(phi)) - log_q(phi, draw(phi)), phi)


def sticking(phi):
    """The door of the density is closed: log q is told fixed parameters."""
    return per_draw(lambda moving: log_joint(theta, draw(moving)) - log_q(phi, draw(moving)), phi)


truth = grad(elbo, argnums=1)(theta, phi)
nothing = {"nothing": 0 * truth}
verify("eq-sticking", sticking(phi), truth, monte_carlo, rejects=nothing)

# %% [markdown]
# At the posterior, the gradients of all 400,000 draws vanish one by one. With both doors open they do not.

# %% tags=["nbval-check-output"]
a, b = theta
variance = s**2 / (a**2 + s**2)
posterior = torch.stack([a * (x - b) / (a**2 + s**2), variance.sqrt()])
at_top, wrong = sticking(posterior), {"both doors": both_doors(posterior)}
verify("eq-sticking-zero", at_top, 0 * at_top, exact.on_scale(1.0), rejects=wrong)

# %% [markdown]
# Is it always the best? No. The picture compares three unbiased estimators of the derivative in $\mu$ while the guess is at the right place but too narrow or too wide. The first uses the closed divergence and draws only for the reconstruction, as `elbo_terms` does. The second draws for everything and opens both doors. The third keeps only the door of the draw.

# %% mystnb={"image": {"alt": "Noise against the width of the guess. Two rising straight lines; the third line comes down from large values at narrow guesses, touches zero where the width is right, and rises again, at twice the width nearly to the lower straight line."}, "figure": {"caption": "Noise of three unbiased estimators of one derivative. The third is silent where the guess is right, and the worst where the guess is far too narrow.", "name": "fig-three-estimators"}}
ratios = torch.linspace(0.3, 2, 69)
precision = 1 / variance
plots.curves(
    {
        "closed divergence": (ratios, (precision - 1) * ratios * variance.sqrt()),
        "both doors": (ratios, precision * ratios * variance.sqrt()),
        "door of the draw": (ratios, (ratios - 1 / ratios).abs() / variance.sqrt()),
    },
    x_label="standard deviation of the guess, over the posterior's",
    y_label=r"standard deviation, derivative in $\mu$",
)

# %% [markdown]
# The lines of {numref}`fig-three-estimators` are formulas.
#
# :::{dropdown} Where they come from
# With the posterior's mean $m$ and variance $v$, $\log p_\theta(x, z)$ is quadratic in $z$ with slope $-(z - m) / v$. Both doors: the term $-\log q_\phi$ of a moving draw is constant in $\mu$, so the estimate is $-(z - m) / v$, with noise $\sigma / v$. Closed divergence: the prior's part $-z$ of the slope becomes $-\mu$, which leaves the noise $(1 / v - 1)\, \sigma$. Door of the draw: $(z - \mu) / \sigma^2$ is added; at $\mu = m$ this leaves the noise $\lvert 1 / \sigma - \sigma / v \rvert$. With $\sigma = r \sqrt{v}$ these are the three lines. $\square$
# :::
#
# Do they agree with draws? At a guess half as wide as the posterior:

# %% tags=["nbval-check-output"]
narrow = posterior * torch.tensor([1.0, 0.5])
z = narrow[0] + narrow[1] * noise
slope = a * (x - a * z - b) / s**2
measured = [slope] + [door(narrow)[:, 0] for door in (both_doors, sticking)]
by_formula = [(precision - 1) * 0.5, precision * 0.5, (2 - 0.5) / variance]
for name, left, right in zip(["closed", "both", "draw"], measured, by_formula, strict=True):
    ratio = left.std() / (right * variance.sqrt())
    print(f"{name:6} measured over formula, within one percent: {abs(ratio - 1) < 0.01}")

# %% [markdown]
# *Sources: D14.*

# %% [markdown]
# (sec-encoder-learns)=
# ## An encoder learns, or does not
#
# Now the whole thing, as every later chapter does it. The companion's estimate of the bound is ten lines for all models of this book. For a model with one latent the loop does not run: a draw by `rsample`, the divergence in closed form, the likelihood of $x$.

# %% tags=["nbval-check-output"]
show(elbo_terms, docstring=False)

# %% [markdown]
# To it we give the solvable model with its known decoder. The class `Vae` of the next chapters takes an encoder, a decoder and a likelihood; here the encoder is one affine layer that returns the mean and the log-variance, and the decoder does nothing.


# %%
def known_likelihood(z):
    return diagonal_normal(a * z + b, s)


def toy():
    return Vae(nn.Linear(1, 2), nn.Identity(), known_likelihood, latent_dim=1)


# %% [markdown]
# The gradient that comes out of `elbo_terms` is the one we derived. With the same noise, the path-wise gradient by hand agrees to twelve digits: the reconstruction's slope $a (x - a z - b) / s^2$ goes through the draw, and the closed divergence contributes $- \mu$ and $1 / \sigma - \sigma$. The log-variance brings the factor $\sigma / 2$.

# %% tags=["nbval-check-output"]
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
# **Four ways to train it.** The first is right. The next two forget the letter r, a mistake that raises no error: one where everything is estimated by draws, one where the divergence is in closed form, as in `elbo_terms`. The fourth weighs: its value is no bound, only its gradient counts, and that is {eq}`eq-score-elbo`.


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
# Each trains for 1500 steps on batches of 64. We note the gap $D_{\mathrm{KL}}(q_\phi \,\Vert\, p_\theta(z \mid x))$, which is known here in closed form.


# %%
def gap(model, x):
    posterior = diagonal_normal(a * (x - b) / (a**2 + s**2), variance.sqrt())
    return kl_divergence(model.posterior(x), posterior).mean().item()


def train(loss):
    _ = torch.manual_seed(0)
    model = toy()
    batches = b + (a**2 + s**2) ** 0.5 * torch.randn(1500, 64, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    gaps = [gap(model, batches[0]) for _ in fit(model, loss, batches, optimizer)]
    return model, gaps


losses = (path_wise, without_r, likelihood_without_r, score_function)
runs = {f.__name__.replace("_", " "): train(f) for f in losses}
history = {name: gaps for name, (_, gaps) in runs.items()}

# %% mystnb={"image": {"alt": "The gap against training steps on a logarithmic axis. Path-wise falls to about a thousandth of a nat. Score function falls alike, but settles higher. Likelihood without r falls at first and then stays flat between two and three nats. Without r stays high and drifts."}, "figure": {"caption": "One encoder, four gradients. Without the letter r the gap never closes, and no error says so.", "name": "fig-three-trainings"}}
steps = torch.arange(1, 1501)
plots.curves(
    {name: (steps[9::10], values[9::10]) for name, values in history.items()},
    x_label="training step",
    y_label="gap (nats)",
    log_y=True,
)

# %% [markdown]
# What to remember of {numref}`fig-three-trainings`, in words that do not depend on the last digits:

# %% tags=["nbval-check-output"]
last = {name: sum(values[-300:]) / 300 for name, values in history.items()}
for name, value in last.items():
    print(f"{name:20} gap below a tenth of a nat: {value < 0.1}")
print("noise costs accuracy:", last["path wise"] < last["score function"])

# %% [markdown]
# The two wrong gradients fail in two ways. With draws for everything, the gradient has mean zero {eq}`eq-score-mean-zero`, whatever the encoder: it drifts without direction, and where it ends is chance. With the divergence in closed form, what is left is the gradient of $- D_{\mathrm{KL}}(q_\phi \,\Vert\, p)$, with no noise at all. The likelihood, cut off from the encoder, no longer pulls against it. So the encoder becomes the {term}`prior`, whatever $x$ is. This state is {term}`posterior collapse`, here by a missing letter.

# %% tags=["nbval-check-output"]
collapsed, _ = runs["likelihood without r"]
batch = b + (a**2 + s**2) ** 0.5 * torch.randn(1000, 1)
to_prior = kl_divergence(collapsed.posterior(batch), collapsed.prior(1000))
print("the encoder is the prior, to a millionth of a nat:", (to_prior < 1e-6).all().item())
print("and its gap is 2 to 3 nats:", 2 < gap(collapsed, batch) < 3)

# %% [markdown]
# The second mistake is the harder one to see. The loss falls, because the divergence does, and a decoder that learns will do what it can without $z$. If a training of yours "works a little", look for a draw that lost its graph.
#
# **On real digits.** How large is the difference for a real encoder? The cells take the network of the chapter on training, 784 pixels to 50 latents, and one batch of 100 digits. They estimate the gradient of the bound in the biases of the encoder's last layer forty times with each method, and compare the variances. To be fair to weighing, there is a version with a baseline: the mean of the same quantity over ten other draws, independent of the first.


# %%
def with_baseline(model, x):
    q = model.posterior(x)
    others = [log_ratio(model, q, x, q.sample()) for _ in range(10)]
    z = q.sample()
    f = log_ratio(model, q, x, z) - torch.stack(others).mean(0)
    return -f.detach() * q.log_prob(z)


def bias_variance(loss, model, x):
    bias = [p for name, p in model.encoder.named_parameters() if "bias" in name][-1]
    gradients = [torch.autograd.grad(loss(model, x).mean(), bias)[0] for _ in range(40)]
    return torch.stack(gradients).var(0).mean().item()


# %% [markdown]
# We measure twice: fresh from the initialization, and after 600 steps of training on the first 10,000 training images.

# %%
torch.set_default_dtype(torch.float)
_ = torch.manual_seed(0)
digits = data.binarize(data.load("mnist", "test").images[:100])
vae, methods = mlp_vae(), (path_wise, with_baseline, score_function)
fresh = [bias_variance(f, vae, digits) for f in methods]
some = data.load("mnist").images[:10_000]
batches = map(data.binarize, data.Batches(some, batch_size=100, num_epochs=6))
optimizer = torch.optim.Adam(vae.parameters(), lr=1e-3)
_ = list(fit(vae, path_wise, batches, optimizer))
trained = [bias_variance(f, vae, digits) for f in methods]
torch.set_default_dtype(torch.double)

# %% [markdown]
# How many times the path-wise variance is each of the others? To two digits:

# %%
for state, (path, *others) in {"fresh": fresh, "trained": trained}.items():
    centered, plain = (float(f"{other / path:.2g}") for other in others)
    print(f"{state:8} with a baseline {centered:,.0f}, without {plain:,.0f}")

# %% [markdown]
# The factors are how many times more draws one would need for the same accuracy. Without a baseline most of the noise comes from the sheer size of the bound, at first more than 500 nats that every score is multiplied with. The baseline takes this away, and what is left is the noise of not knowing the slope. In training the factors shrink. A fresh decoder hardly depends on $z$: the slope, and with it the noise of the path, is almost nothing. As soon as the decoder listens to $z$, the path becomes noisier too. It stays ahead.

# %% tags=["nbval-check-output", "mnist"]
states = {"fresh": (fresh, 10_000, 50), "trained": (trained, 300, 5)}
for state, ((path, centered, plain), by_baseline, by_path_wise) in states.items():
    saved = plain > by_baseline * centered
    print(f"{state}: the baseline saves a factor above {by_baseline:,}: {saved}")
    saved = centered > by_path_wise * path
    print(f"{state}: the path saves another factor above {by_path_wise}: {saved}")
print("training made the path noisier, tenfold or more:", trained[0] > 10 * fresh[0])

# %% [markdown]
# (sec-reparameterization-exercises)=
# ## Exercises
#
# Replace the three dots by your answer and run the cell.

# %% tags=["nbval-check-output"]
from companion.page.exercises import reparameterization as exercises

# %% [markdown]
# ```{exercise-start} The gradient of a cube
# :label: ex-cube-gradient
# ```
# Let $z \sim \mathcal{N}(\mu, \sigma^2)$. Write $\partial_\mu\, \mathbb{E} z^3$ and $\partial_\sigma\, \mathbb{E} z^3$ as a function of $\mu$ and $\sigma$.


# %% tags=["nbval-check-output"]
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
# The exponential law with rate $\lambda$ has the distribution function $1 - e^{-\lambda z}$. Write a draw as a differentiable function of the rate and of $u$, uniform on $(0, 1)$. Larger $u$ shall give larger $z$.


# %% tags=["nbval-check-output"]
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
# Invert the distribution function, as in {eq}`eq-inverse-cdf`. No normal law is needed for a path.


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

# %% tags=["nbval-check-output"]
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


# %% tags=["nbval-check-output"]
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
# With $K$ independent draws, take their own mean value $\bar f = \frac1K \sum_k f(z_k)$ as the baseline: $\frac1K \sum_k (f(z_k) - \bar f)\, \nabla_\phi \log q_\phi(z_k)$. It is not independent of the draw that it is subtracted from. The mean of this estimate is the true gradient times which factor? Write it as a function of $K$.


# %% tags=["nbval-check-output"]
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
# In $\bar f$ the draw $z_k$ has the share $1 / K$; the other draws are independent of its score, which has mean zero. So a fraction $1 / K$ of the gradient is lost. Leaving the draw itself out of the mean repairs it.


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
# A coin shows $z = 1$ with probability $\pi$ and $z = 0$ otherwise. There is no path. Write the score-function estimate of $\partial_\pi\, \mathbb{E} f(z)$ for a vector of outcomes `z` and a vector of values `f`: one estimate for each outcome.


# %% tags=["nbval-check-output"]
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
# $\log q = z \log \pi + (1 - z) \log (1 - \pi)$. In the mean the estimate is $\pi \cdot f(1) / \pi - (1 - \pi) \cdot f(0) / (1 - \pi) = f(1) - f(0)$, as it should be.


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
# - The gradient of the bound in $\theta$ goes through the draws as if they were data {eq}`eq-gradient-theta`. In $\phi$ the same recipe returns noise of mean zero {eq}`eq-score-mean-zero`, without an error.
# - Weighing: the score-function estimator {eq}`eq-score-gradient` needs only values of $f$, and a law whose support does not move. A baseline reduces its noise {eq}`eq-best-baseline`; its noise grows with the dimension {eq}`eq-variance-dimension`.
# - Moving: the path-wise estimator {eq}`eq-path-gradient` needs a smooth $f$ and a draw that is a smooth function of $\phi$. On a step it is silently wrong {eq}`eq-step-gradient`. In torch it needs the letter r: without it, the encoder drifts or collapses.
# - A normal vector is $\mu + A \varepsilon$ with any root $A A^\top = \Sigma$ {eq}`eq-root-moments`.
# - $\phi$ enters through two doors, the density and the draw. The first has mean zero and may be closed {eq}`eq-sticking`.
#
# **What the sources say, and where they need care.** The tutorial marks the naive exchange of gradient and mean as "not equal", and rightly so: what comes out has mean zero. It says that this forbids backpropagation; with one factor more, the score-function estimator allows it. Its "additional requirement" is the change of variables, and holds for every bijection that is differentiable both ways. Its gradient of the entropy has an element-wise product for a contraction (E9), and the example stops before the rest of the bound. The lecture notes multiply by the covariance for its root (E17). The two misprints, E9 and E17, are on the {doc}`errata page </book/errata>`.
#
# **To read next.** {cite:t}`mohamed2020`, a survey of all such gradients; {cite:t}`williams1992` for weighing, {cite:t}`kingma2014` and {cite:t}`rezende2014` for moving.
