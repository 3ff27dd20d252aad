# %% [markdown]
# # The score
#
# By the ELBO of {doc}`chapter 9 </notebooks/09_diffusion_elbo>` the way back is learned by regression: a network predicts the noise in an image, and the best prediction is the mean of all noise that may be in it. Turned around, this mean points to where noisy data are more likely. Up to a factor it is the gradient of their log-density, the *score*. Below, five particles follow it from noise to the data, on the left by the score alone, on the right with noise added at each step. Which way is right?

# %% tags=["setup", "hide-input"]
# The set-up cell: `make sync` writes it.

# %% tags=["unseen"]
import math
from functools import partial
from itertools import pairwise

import torch
from torch.distributions import (
    Categorical,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    kl_divergence,
)

from companion import data
from companion.data import Batches, to_symmetric, to_unit
from companion.ddpm import noise_errors
from companion.denoisers import MixtureDenoiser
from companion.elbo import elbo_terms

# %% tags=["unseen"]
from companion.flows import (
    flow_sample,
    flow_velocity,
    line_time,
    ode_log_prob,
    probability_flow,
    straight_line,
)
from companion.mean_flows import along_flow, mean_flow_loss, mean_flow_sample
from companion.metrics import bits_per_dim
from companion.networks.mlp import TimeMlp
from companion.page import plots
from companion.page.exercises import score as exercises
from companion.page.plots.style import COLORS
from companion.page.show import show
from companion.page.sliders import Film
from companion.page.verify import autograd, exact, monte_carlo, quadrature, verify

# %% tags=["unseen"]
from companion.samplers import ddim_sample, ddpm_sample
from companion.schedule import (
    add_noise,
    cosine_schedule,
    linear_schedule,
    mean_from_x_0,
    noise_from_x_0,
    x_0_from_v,
)
from companion.score import (
    NoiseConditionalScore,
    annealed_langevin_sample,
    denoising_score_matching_loss,
    exact_score,
    geometric_noise_levels,
    langevin_sample,
    noisy_mixture,
    score_from_denoiser,
)
from companion.training import fit
from companion.zoo import pretrained
from companion.zoo.weights import load_record

# %% tags=["serves"]
shapes = data.toy_density("mixture").component_distribution
centers, covs = shapes.mean.double() / 2, torch.diag_embed(shapes.variance).double() / 4
unequal = torch.tensor([8.0, 4, 2, 1, 1, 2, 4, 8]).double() / 30
uneven = MixtureSameFamily(Categorical(unequal), Independent(Normal(centers, 0.125), 1))
s = linear_schedule(100, 1e-3, 0.2)
uneven_hat = MixtureDenoiser(s, unequal, centers, covs)  # exact, and so is its score
ring_score = uneven_hat.score_at_level

# %% tags=["figure"] mystnb={"image": {"alt": "Two panels with the same eight modes on a ring, the right ones dark and the left ones pale, and the same arrows that point to the ring. On the left five smooth paths lead from five points to modes nearby. On the right five jagged paths from the same points, all of which end in other modes."}, "figure": {"caption": "Five particles on their way from noise (circles) to data (dots). Shaded: the density of the data. Arrows: the score of the noisy data.", "name": "fig-two-rides"}}
_ = torch.manual_seed(2)
starts = torch.tensor([[-1.6, 1.2], [1.2, 1.7], [-0.6, -1.7], [1.7, -1.2], [0, 0.1]]).double()
last_55 = s.strided(range(1, 56))
paths = {"no noise": list(ddim_sample(uneven_hat, last_55, starts))}
paths["noise added"] = list(ddpm_sample(uneven_hat, last_55, starts))
fig, panels = plots.figure(2, height=3.7)
for panel, (name, film) in zip(panels, paths.items(), strict=True):
    _ = plots.vector_field(
        lambda x: ring_score(x.double(), torch.tensor(-0.3).double()),
        (-2.2, 2.2, -2.2, 2.2),
        log_prob=lambda x: uneven.log_prob(x.double()),
        num=11,
        x_label=f"$x_1$, {name}",
        axes=panel,
    )
    for path, color in zip(torch.stack(film).unbind(1), COLORS[1:6], strict=True):
        _ = panel.plot(*path.T, color=color, linewidth=1.2)
        _ = panel.plot(*path[0], "o", color=color, markerfacecolor="white")
        _ = panel.plot(*path[-1], "o", color=color)
    _ = panel.set(xlim=(-2.2, 2.2), ylim=(-2.2, 2.2))
fig

# %% [markdown]
# In {numref}`fig-two-rides` the particles end at different places, yet both ways are right: with the exact score and small steps, the distribution of the noise becomes that of the data.
#
# :::{admonition} The idea
# Adding noise is a random motion, and the score reverses it, with any amount of noise on the way back. With noise this is a stochastic differential equation (SDE), whose steps are those of the DDPM; without noise it is an ordinary one (ODE), whose steps are those of DDIM, and it gives each image its likelihood.
# :::

# %% [markdown]
# (sec-score-view)=
# ## A score, and how to learn it
#
# **Why a gradient and not the density?** A density must integrate to one. A network can give each $x$ a positive number $e^{-E(x)}$, but nobody can compute its integral $Z$ over all images, and without $Z$ there is no likelihood to train on. In the {term}`score` it drops out, since $\log Z$ does not depend on $x$:
#
# $$
# \nabla_x \log \frac{e^{-E(x)}}{Z} = - \nabla_x E(x) .
# $$
#
# So a model $s_\theta(x)$ of the score may be any network with as many outputs as inputs.
#
# **Why not learn it directly?** We have examples of $x$ but not one value of $\nabla \log p(x)$, the target. If $p\, s_\theta$ vanishes at infinity, integration by parts turns the unknown term $\mathbb{E}[s_\theta \cdot \nabla \log p]$ of the squared error into $- \mathbb{E}[\operatorname{tr} \partial s_\theta / \partial x]$, and the loss $\mathbb{E}\big[ \frac12 \lVert s_\theta \rVert^2 + \operatorname{tr} \partial s_\theta / \partial x \big]$ needs only examples {cite:p}`hyvarinen2005`. But the trace costs a backward pass for each dimension, and without examples nearby nothing is learned.
#
# **Noise gives a target.** Let $\tilde{x} = x + \sigma \varepsilon$ have the density $p_\sigma$. If we know which $x$ was made noisy, the score is that of a Gaussian, $\nabla \log \mathcal{N}(\tilde{x}; x, \sigma^2 I) = - (\tilde{x} - x) / \sigma^2 = -\varepsilon / \sigma$: an arrow back to $x$. But many $x$ may have led to the same $\tilde{x}$. Differentiate $p_\sigma(\tilde{x}) = \mathbb{E}_x\, \mathcal{N}(\tilde{x}; x, \sigma^2 I)$ and divide by it, and Bayes' rule makes of it the mean of these arrows:
#
# $$
# \nabla \log p_\sigma(\tilde{x}) = \mathbb{E}_x \Big[ \frac{\mathcal{N}(\tilde{x}; x, \sigma^2 I)}{p_\sigma(\tilde{x})}\, \nabla \log \mathcal{N}(\tilde{x}; x, \sigma^2 I) \Big] = \mathbb{E} \Big[ - \frac{\varepsilon}{\sigma} \,\Big|\, \tilde{x} \Big] .
# $$
#
# And a conditional mean is what regression finds {eq}`eq-excess-error`. For every model $s_\theta$ {cite:p}`vincent2011`
#
# $$
# \mathbb{E} \Big\lVert s_\theta(\tilde{x}) + \frac{\varepsilon}{\sigma} \Big\rVert^2 = \mathbb{E} \big\lVert s_\theta(\tilde{x}) - \nabla \log p_\sigma(\tilde{x}) \big\rVert^2 + \text{a constant} .
# $$ (eq-denoising-score-matching)
#
# So *denoising score matching*, regression on $-\varepsilon / \sigma$, fits the score of the noisy data, although the loss does not contain it. The constant, from the noise that $\tilde{x}$ does not determine, keeps the loss above zero. If the density is unknown, compare losses on held-out data, or test whether $\mathbb{E}\, s_\theta = 0$ and $\mathbb{E}\, s_\theta\, \tilde{x}^\top = -I$, true of every score (also of a Gaussian's with that mean and covariance).
#
# Why not one tiny $\sigma$? The target has the variance $1 / \sigma^2$ in each dimension, which swamps the mean, and $\tilde{x}$ hardly leaves the examples.
#
# **The networks of the last chapters are scores.** In $x_t = \sqrt{\bar\alpha_t}\, x + \sqrt{1 - \bar\alpha_t}\, \varepsilon$ the same argument gives the best prediction of the noise and, by {term}`Tweedie's formula`, of the image: go along the score by the variance of the noise.
#
# $$
# \varepsilon^*(x_t, t) = - \sqrt{1 - \bar\alpha_t}\;\, \nabla \log q(x_t) ,
# $$ (eq-noise-is-score)
#
# $$
# \mathbb{E}[x \mid x_t] = \frac{x_t + (1 - \bar\alpha_t)\, \nabla \log q(x_t)}{\sqrt{\bar\alpha_t}} .
# $$ (eq-tweedie)
#
# :::{dropdown} Where the score is in a step of the DDPM
# With {eq}`eq-noise-is-score`, a step of {prf:ref}`alg-ddpm-sampling` goes to where noisy data are more likely, and adds noise $\xi$:
#
# $$
# x_{t-1} = \frac{1}{\sqrt{\alpha_t}} \big( x_t + \beta_t\, \nabla \log q(x_t) \big) + \sigma_t\, \xi .
# $$ (eq-line-four-score)
# :::

# %% [markdown]
# **Checks.** For a mixture of three Gaussians, $\varepsilon^*$ and the mean of a step are computed by Bayes' rule, and the score by automatic differentiation of the log-density, at eight points for each of five times. The checks reject the score without its factor (E11), the root in place of $1 - \bar\alpha_t$, and a step of half the length. For score matching, the losses of two wrong models are subtracted, so that the constant drops out; a difference of zero and one of half the size are rejected.

# %% tags=["serves"]
_ = torch.manual_seed(0)
schedule = linear_schedule(1000)  # in double precision
weights = torch.tensor([0.5, 0.3, 0.2]).double()
means = torch.tensor([[1.0, 0.5], [-1.0, 0.0], [0.3, -1.0]]).double()
factors = torch.tensor([[[0.4, 0], [0.2, 0.3]], [[0.3, 0], [0, 0.5]], [[0.2, 0], [-0.2, 0.3]]])
three_covs = (factors @ factors.mT).double()
mixture = MixtureSameFamily(Categorical(weights), MultivariateNormal(means, three_covs))
mixture_hat = MixtureDenoiser(schedule, weights, means, three_covs)
times, places = torch.tensor([1, 30, 200, 500, 1000]), torch.randn(5, 8, 2).double()
best, scores, hats, means_down = [], [], [], []
for t, x_t in zip(times, places, strict=True):
    alpha_bar, var = schedule.alpha_bar[t], schedule.noise_var[t]
    hats += [mixture_hat(x_t, t.expand(8))]
    means_down += [mean_from_x_0(schedule, x_t, t, hats[-1])]
    best += [noise_from_x_0(schedule, x_t, t, hats[-1])]
    scores += [exact_score(noisy_mixture(mixture, alpha_bar**0.5, var).log_prob, x_t)]
best, scores, hats, means_down = map(torch.stack, (best, scores, hats, means_down))
var = schedule.noise_var[times].view(5, 1, 1)
alpha, beta = (values[times].view(5, 1, 1) for values in (schedule.alpha, schedule.beta))


def uphill(part):
    return (places + part * beta * scores) / alpha**0.5


# %% tags=["check", "nbval-check-output"]
rule = exact.within(1e-12)
verify("eq-noise-is-score", best, -(var**0.5) * scores, rule, rejects={"E11": -scores})
root, rule = (1 - var) ** 0.5, exact.within(1e-10)
wrong = {"a root too many": (places + var**0.5 * scores) / root}
verify("eq-tweedie", hats, (places + var * scores) / root, rule, rejects=wrong)
wrong = {"half": uphill(0.5), "E11": uphill(var**-0.5)}
verify("eq-line-four-score", means_down, uphill(1.0), rule, rejects=wrong)

_ = torch.manual_seed(0)
sigma, x = 0.4, uneven.sample((100_000,))
noise = torch.randn_like(x)
true = exact_score(noisy_mixture(uneven, 1.0, sigma**2).log_prob, x + sigma * noise)


def both_sides(s_theta):
    return (s_theta + noise / sigma).square().sum(1), (s_theta - true).square().sum(1)


(left, direct), (left_2, direct_2) = both_sides(0.3 * true), both_sides(true + 0.5)
differences = left - left_2 - (direct - direct_2)
gap, zero = (direct_2 - direct).mean(), torch.zeros(()).double()
wrong = {"no difference": gap, "half": gap / 2}
verify("eq-denoising-score-matching", differences, zero, monte_carlo, rejects=wrong)

# %% tags=["figure"] mystnb={"image": {"alt": "Three panels of arrows over a density. At the earliest time the arrows point to the nearest of eight small dark modes; at the next to a broad ring; at the last all point to the center of one round cloud."}, "figure": {"caption": "The score that the network of {ref}`chapter 10 <sec-algorithm-1>` learned, at three of its hundred times. In brackets: its error relative to the exact score.", "name": "fig-score-field"}}
toy = pretrained("ddpm-toy2d")  # of chapter 10: it predicts noise, eight equal modes
learned = score_from_denoiser(toy.denoiser, s)
even = MixtureSameFamily(
    Categorical(torch.full((8,), 1 / 8).double()), Independent(Normal(centers, 0.125), 1)
)
_ = torch.manual_seed(0)
fig, panels = plots.figure(3, height=2.9)
for t, panel in zip((3, 12, 30), panels, strict=True):
    noisy = noisy_mixture(even, s.alpha_bar[t] ** 0.5, s.noise_var[t])
    x_t = noisy.sample((2000,)).double()
    true = exact_score(noisy.log_prob, x_t)
    off = learned(x_t.float(), torch.full((2000,), t)).double() - true
    relative = (off.square().mean() / true.square().mean()).sqrt()
    assert relative < 0.4
    _ = plots.vector_field(
        lambda x, t=t: learned(x.float(), torch.full((len(x),), t)),
        (-1.7, 1.7, -1.7, 1.7),
        log_prob=lambda x, noisy=noisy: noisy.log_prob(x.double()),
        num=9,
        x_label=f"$x_1$ at $t = {t}$ ({relative:.0%})",
        axes=panel,
    )
fig

# %% [markdown]
# Noise only widens the components of a mixture, so here the exact score is a formula. With little noise it points to the nearest mode, with much noise to the center ({numref}`fig-score-field`).
#
# *Sources: B29.*

# %% [markdown]
# (sec-langevin)=
# ## Why noise at many levels
#
# To go uphill along the score would end at a mode. To sample, **Langevin dynamics** adds noise to each step along the score of a density $p$. With a step size $h$,
#
# $$
# x \;\leftarrow\; x + \frac{h}{2}\, \nabla \log p(x) + \sqrt{h}\; \xi , \qquad \xi \sim \mathcal{N}(0, I) .
# $$ (def-langevin)
#
# After enough small steps $x$ has nearly the distribution $p$, from any start, though it may take too many. But a finite $h$ leaves an error. If $p$ is Gaussian with standard deviation $s$, the variance settles at
#
# $$
# \frac{s^2}{1 - h / (4 s^2)} ,
# $$ (eq-langevin-bias)
#
# and for $h \ge 4 s^2$ it never settles: the finest detail dictates the step.
#
# :::{dropdown} Proof
# A step is $x \leftarrow (1 - h / 2 s^2)\, x + \sqrt{h}\, \xi$. The variance $W$ settles where $W = (1 - h / 2 s^2)^2\, W + h$, so $W \big( h / s^2 - h^2 / 4 s^4 \big) = h$. For $h \ge 4 s^2$ the slope is $-1$ or below, and the variance grows forever. $\square$
# :::
#
# A second problem: between separate modes the density is next to zero, so small steps hardly ever lead from one to another, and the score there points to the nearest mode (of modes of one width), whatever its weight, whose logarithm has no gradient. The score is *local*, so a chain stays in the mode near which it starts.
#
# {cite:t}`song2019` add so much noise that all modes merge into one, in which a chain moves freely, and then lower it level by level.
#
# :::{prf:algorithm} Annealed Langevin dynamics
# :label: alg-annealed-langevin
# For each of the levels $\sigma_1 > \dots > \sigma_L$:
#
# 1. Set the step size $h_i = h\, \sigma_i^2 / \sigma_L^2$.
# 2. Take some steps {eq}`def-langevin` of this size, with the score of the data with noise $\sigma_i$.
#
# The last $x$ is the sample.
# :::
#
# Steps small enough for the last level would hardly move a point at the first, so they grow with the noise. And noise gives the network examples where data are rare. One network learns all levels, with $\log \sigma$ as an input, here on the ring. The loss is the left side of {eq}`eq-denoising-score-matching` times $\sigma^2 / 2$, so that all levels count alike, with a random level for each point.
#
# **Check.** 200,000 points start with the variance of {eq}`eq-langevin-bias`, and three steps must leave it as it is. The check rejects the variance $s^2$, and a bias of half the size.

# %% tags=["check", "nbval-check-output"]
_ = torch.manual_seed(0)
s2, h = torch.tensor(0.5).double(), 0.4
settled = s2 / (1 - h / (4 * s2))
x = settled**0.5 * torch.randn(200_000).double()
*_, x = langevin_sample(lambda x: -x / s2, x, h, 3)
wrong = {"no bias": s2, "half of it": s2 / (1 - h / (8 * s2))}
verify("eq-langevin-bias", x**2, settled, monte_carlo, rejects=wrong)


# %%
def train_score(model, loss, epochs):
    """Fit a model to the ring with unequal weights, with a falling learning rate."""
    batches = Batches(uneven.sample((20_000,)).float(), batch_size=500, num_epochs=epochs)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3, fused=True)
    for step in fit(model, loss, batches, optimizer):
        optimizer.param_groups[0]["lr"] = 5e-3 * (1 - 0.98 * step.number / (40 * epochs))


_ = torch.manual_seed(0)
levels = geometric_noise_levels(3.0, 0.05, 10)
score_model = NoiseConditionalScore(TimeMlp(2, (64, 64), 32), levels)
train_score(score_model, denoising_score_matching_loss, 15)

# %% tags=["serves"]
_ = torch.manual_seed(1)
from_noise, ended = 3 * torch.randn(1500, 2), {}


@torch.no_grad()
def exact_at_sigma(x, sigma):
    """The score of the ring with noise sigma, the same for all points."""
    noisy = noisy_mixture(uneven, 1.0, sigma[0].double() ** 2)
    return exact_score(noisy.log_prob, x.double()).float()


for name, score_at in {"annealed, learned": score_model, "annealed, exact": exact_at_sigma}.items():
    *_, ended[name] = annealed_langevin_sample(score_at, from_noise, levels, 1e-3, 30)
finest = partial(exact_score, noisy_mixture(uneven, 1.0, 0.05**2).log_prob)
*_, ended["last level, exact"] = langevin_sample(finest, from_noise.double(), 1e-3, 300)

# %% tags=["figure"] mystnb={"image": {"alt": "Three panels. Left, annealed with the learned score: a ring of eight clusters, dense at the right, thin and smeared at the left. Middle, annealed with the exact score: the same, with sharp clusters. Right, last level only: eight round clusters, about equally dense."}, "figure": {"caption": "Langevin dynamics from one noise: annealed, with a learned and the exact score; at the last level alone, all modes become about equally heavy.", "name": "fig-langevin"}}
box = (-2, 2, -2, 2)
fig, panels = plots.figure(3, height=2.7)
for panel, (name, points) in zip(panels, ended.items(), strict=True):
    _ = plots.scatter(points, x_label=f"$x_1$, {name}", y_label="$x_2$", bounds=box, axes=panel)
fig

# %% [markdown]
# In {numref}`fig-langevin`, at the last level alone, the fractions of the modes are wrong although the score is exact: in this run three in ten points would have to change their mode, annealed about one in twenty.
#
# :::{depth-start} annealed, a score draws digits; at the finest level alone, strokes or copies
# :::
# By how much do the fractions of the modes in {numref}`fig-langevin` differ from the right ones (half the sum of the absolute differences), and how many points are outliers, more than four standard deviations from every center?


# %% tags=["numbers", "columns"]
def ring_report(points, noise_var=0.0):
    """Fraction in a wrong mode, fraction of outliers, relative variance by the median."""
    points, mode_var = points.double(), 0.125**2 + noise_var
    distance, nearest = (points[:, None] - centers).square().sum(2).min(1)
    found = torch.bincount(nearest, minlength=8) / len(points)
    wrong = 0.5 * (found - unequal).abs().sum().item()
    outliers = (distance > 16 * mode_var).double().mean().item()
    return wrong, outliers, (distance.median() / (2 * math.log(2) * mode_var)).item()


reports = {name: ring_report(points, 0.05**2) for name, points in ended.items()}
print(f"{'1500 points':20}in a wrong mode  outliers")
for name, (wrong, outliers, _) in reports.items():
    print(f"{name:18}  {wrong:12.1%}  {outliers:11.1%}")
(by_learned, by_exact, by_last) = reports.values()
assert max(by_learned[0], by_exact[0]) < 0.15 and by_last[0] > 0.25
assert by_exact[1] < by_learned[1]

# %% [markdown]
# Now digits. The network of chapter 11 estimates a digit at every level of noise, so by Tweedie's formula it gives a score at every level. Noise of standard deviation $\sigma$ belongs to the time at which $\bar\alpha_t = 1 / (1 + \sigma^2)$. (`noise_conditional_score` does the same in the companion.) We take 60 levels from $\sigma_1 = 20$, about the distance between two digits, to $\sigma_L = 0.05$, a fortieth of the range of the pixels.
#
# {numref}`fig-langevin-digits` has four ways to use it. First, chains from noise of standard deviation $\sigma_1$, three Langevin steps at each level. Second, steps of the DDPM through the same levels, one call at each. Third, as many steps as in the first row, all at the last level with its small step size, from noise of standard deviation 1. Fourth, the same with the *exact* score of that level, for 10,000 training digits as the data. At the end one more use of Tweedie's formula removes the noise of the last level. Below, two classifiers decide whether a digit is recognized ({ref}`chapter 10 <sec-ddpm-samples>`).


# %% tags=["serves"]
digit_denoiser, digit_schedule = pretrained("ddpm-mnist-long").denoiser, cosine_schedule(1000)
sigmas, size = geometric_noise_levels(20.0, 0.05, 60).float(), 0.5 * 0.05**2
atoms = to_symmetric(data.load("mnist", "train").images[:10_000]).flatten(1)


def time_of(sigma):
    """The time whose noise is nearest to sigma, on the scale of its logarithm."""
    return (digit_schedule.log_snr[1:] + 2 * sigma.log()).abs().argmin() + 1


@torch.no_grad()
def digit_score(x, sigma):
    """The score of digits with noise sigma, the same for all."""
    t = time_of(sigma[0])
    x_hat = digit_denoiser(digit_schedule.alpha_bar[t].float() ** 0.5 * x, t.expand(len(x)))
    return (x_hat - x) / sigma[0] ** 2


def finest_exact_score(x):
    """The score of the training digits with the noise of the last level."""
    squared = torch.cdist(x.flatten(1), atoms).square()
    weight = (-squared / (2 * 0.05**2)).softmax(1)  # p(digit | x)
    return ((weight @ atoms).view_as(x) - x) / 0.05**2


# %% tags=["figure", "mnist"] mystnb={"image": {"alt": "Four rows of eight images. First and second row: digits, most of them clear. Third row: black and white everywhere, short thick strokes without any order. Fourth row: clear digits."}, "figure": {"caption": "One learned score of digits: annealed Langevin dynamics in 180 calls, steps of the DDPM at the same levels in 60, and Langevin dynamics at the last level only.", "name": "fig-langevin-digits"}}
_ = torch.manual_seed(1)
start = torch.randn(8, 1, 28, 28)
finest_score = partial(digit_score, sigma=sigmas[-1:].expand(8))
*_, x = annealed_langevin_sample(digit_score, 20 * start, sigmas, size, 3)
by_score = {"annealed": x + 0.05**2 * finest_score(x)}
of_levels = torch.stack([time_of(sigma) for sigma in sigmas.flip(0)]).unique()
*_, by_score["DDPM"] = ddpm_sample(digit_denoiser, digit_schedule.strided(of_levels), start)
for name, of_last in {"last level": finest_score, "exact": finest_exact_score}.items():
    *_, x = langevin_sample(of_last, start, size, 3 * len(sigmas))
    by_score[name] = x + 0.05**2 * of_last(x)
plots.image_rows({name: to_unit(x) for name, x in by_score.items()}, tile=0.8)

# %% [markdown]
# At the finest level alone the network makes strokes and no digits, and the exact score copies: 100 % of the chains of the exact score end at the training digit that is nearest to their start. Over three seeds, and with 20,000 training digits for the exact score ({ref}`experiment <exp-finest-level>`), 98.3 % of the images of the network are not recognized, in excess over real digits, and −1.7 % of those of the exact score; four times the steps, or steps of a quarter or four times the size, change none of this. Yet the network has learned the level: started at test digits with the noise of that level, −1.7 % of the images of the same network are not recognized. Started at the same digits with noise of standard deviation 1, which the label denies, 93.1 ± 3.8 % are not, and through all levels in as many calls from pure noise 3.5 ± 2.8 %.
#
# So the network's score is good where $x$ has the noise that the label says, as in annealing; and an exact score at the finest level alone chooses by nearness to the start and not by how common a digit is.
#
# *Sources: B30.*
#
# :::{depth-end}
# :::

# %% [markdown]
# (sec-continuous-time)=
# ## Noise in continuous time
#
# Let the steps become infinitely many and small. A step of the chain is $x \leftarrow \sqrt{1 - \beta_t}\, x + \sqrt{\beta_t}\, \varepsilon$. Let it take the time $\mathrm{d} t$ and have the variance $\beta(t)\, \mathrm{d} t$. Since $\sqrt{1 - \beta\, \mathrm{d} t} \approx 1 - \frac12 \beta\, \mathrm{d} t$, it becomes the *forward* {term}`SDE`
#
# $$
# \mathrm{d} x = - \frac12 \beta(t)\, x\, \mathrm{d} t + \sqrt{\beta(t)}\, \mathrm{d} w , \qquad \text{so that} \quad x_t \sim \mathcal{N}\big( \sqrt{\bar\alpha(t)}\, x_0,\; (1 - \bar\alpha(t))\, I \big) , \quad \bar\alpha(t) = e^{- \int_0^t \beta} .
# $$ (eq-forward-sde)
#
# ($w$ is a Wiener process: its increments $\mathrm{d} w$ are independent noise of variance $\mathrm{d} t$.) {cite:t}`song2021sde` write every such process as $\mathrm{d} x = f(x, t)\, \mathrm{d} t + g(t)\, \mathrm{d} w$ with a *drift* $f$ and a *diffusion coefficient* $g$; these we choose, and only the score will be learned. Ours, with $f = - \frac12 \beta x$ and $g = \sqrt\beta$, is their *variance-preserving* (**VP**) SDE: data of variance 1 keep it, the mean decays, and sampling starts from $\mathcal{N}(0, I)$. The noise of annealed Langevin dynamics has $f = 0$ and $g^2 = \mathrm{d} \sigma^2 / \mathrm{d} t$, which is *variance-exploding* (**VE**): $\tilde{x} = x_0 + \sigma \varepsilon$ keeps the mean, and sampling starts from $\mathcal{N}(0, \sigma_{\max}^2 I)$. They are one process in two units, $\tilde{x} = x_t / \sqrt{\bar\alpha_t}$.
#
# :::{dropdown} Proof of the mean and the variance
# The equation is linear, so $x_t$ stays Gaussian. Its mean obeys $\mathrm{d} m = - \frac12 m\, \beta\, \mathrm{d} t$ and its variance $\mathrm{d} W = (1 - W)\, \beta\, \mathrm{d} t$, from $m = x_0$ and $W = 0$. $\square$
# :::
#
# **Four clocks.** Each paper has its clock, and each gives the others:
#
# $$
# \bar\alpha_t = e^r = \frac{1}{1 + \sigma^2} , \qquad u = \frac{\sigma}{1 + \sigma} .
# $$ (eq-clocks)
#
# | clock | from data to noise | coordinates | where you meet it |
# |---|---|---|---|
# | $t$ | $0$ to $T$, or to 1 | $x_t$, VP | DDPM, diffusers' `timesteps`, {cite:t}`song2021sde` |
# | $r = \log \bar\alpha$ | $0$ to $-\infty$ | $x_t$, VP | this chapter |
# | $\sigma = \mathrm{SNR}^{-1/2}$ | $0$ to $\infty$ | $\tilde{x} = x_t / \sqrt{\bar\alpha_t}$, VE | {cite:t}`song2019`, {cite:t}`karras2022` |
# | $u$ | $0$ to $1$ | $x_u = (1 - u)\, x + u\, \varepsilon = \tilde{x} / (1 + \sigma)$ | flow matching ($1 - u$ in {cite:t}`lipman2023`) |
#
# For formulas we use $r$, with $\lvert \mathrm{d} r \rvert = \beta\, \mathrm{d} t$: it leaves the forward SDE no parameter, $\mathrm{d} x = - \frac12 x\, \lvert \mathrm{d} r \rvert + \mathrm{d} w$, with $g = 1$. For equal *steps* another clock may be better ({numref}`fig-four-clocks`): some, $r$ among them, rush through the noise at which a point decides for a mode.
#
# **Checks.** For $\beta(t) = 0.2 + 1.2\, t$, mean and variance are followed through Euler steps from $x_0 = 1.5$ at $t = 0$ to 1, with 2000 and with 4000 steps; twice the second result minus the first is free of the error that is proportional to the step size. A drift of $-\beta x$ and half of the noise are rejected. The clocks are compared with the companion's schedule and its `line_time`; a $\sigma$ that is not squared is rejected.


# %% tags=["check", "nbval-check-output"]
def forward_moments(steps, pull=0.5, noise_var=1.0):
    """Mean and variance at t = 1 after Euler steps from the point 1.5."""
    m, W = 1.5, 0.0
    for k in range(steps):
        dr = (0.2 + 1.2 * k / steps) / steps  # beta(t) dt
        m, W = (1 - pull * dr) * m, (1 - pull * dr) ** 2 * W + noise_var * dr
    return torch.tensor([m, W]).double()


def limit(moments, **choices):
    return 2 * moments(4000, **choices) - moments(2000, **choices)


right = torch.tensor([1.5 * math.exp(-0.4), -math.expm1(-0.8)]).double()
wrong = {"all of x": limit(forward_moments, pull=1.0)}
wrong["half of the noise"] = limit(forward_moments, noise_var=0.5)
verify("eq-forward-sde", limit(forward_moments), right, exact.within(1e-6), rejects=wrong)

sigma = schedule.snr[1:] ** -0.5
clocks = torch.stack([schedule.alpha_bar[1:], line_time(schedule.log_alpha_bar)[1:]])
right = torch.stack([1 / (1 + sigma**2), sigma / (1 + sigma)])
wrong = {"sigma not squared": torch.stack([1 / (1 + sigma), right[1]])}
verify("eq-clocks", clocks, right, exact, rejects=wrong)

# %% tags=["figure"] mystnb={"image": {"alt": "Four panels of a shaded density that is one band at the left, noise, and parts into two bands towards the right, data. By t the bands part in the last third; by r in the last tenth; by u soon after the middle; by sigma only in the last few percent."}, "figure": {"caption": "Data with two modes becoming noise (read from right to left) by four clocks ($t$ with $\\beta(t) = 0.1 + 19.9\\, t$).", "name": "fig-four-clocks"}}
modes = torch.tensor([[-1.1], [0.9]]).double(), torch.tensor([[[0.02]], [[0.05]]]).double()
halves, heights = torch.tensor([0.35, 0.65]).double(), torch.linspace(-2.6, 2.6, 200).double()
two_modes = MixtureSameFamily(Categorical(halves), MultivariateNormal(*modes))


def shading(r):
    """The density of x_t at each level, over its maximum."""
    columns = [noisy_mixture(two_modes, (at / 2).exp(), -at.expm1()) for at in r]
    density = torch.stack([noisy.log_prob(heights[:, None]).exp() for noisy in columns], 1)
    return density / density.amax(0)


grid = torch.linspace(0.002, 0.998, 150).double()
clocks = {
    "$t$": (grid, -(0.1 * grid + 9.95 * grid**2)),
    "$r$": (-8 * grid, -8 * grid),
    "$u$": (grid, straight_line(grid)[1]),
    r"$\sigma$": (30 * grid, -((30 * grid) ** 2).log1p()),
}
fig, panels = plots.figure(4, height=2.1)
for panel, (name, (at, r)) in zip(panels, clocks.items(), strict=True):
    _ = panel.pcolormesh(at, heights, shading(r), cmap="Blues", vmax=1.6)
    _ = panel.set(xlim=(float(at[-1]), float(at[0])), xlabel=name, yticks=(-2, 0, 2))
fig

# %% [markdown]
# (sec-probability-flow)=
# ## The way back: an ODE and an SDE
#
# How can randomness be reversed? Not path by path, but the *density* can be. Noise of variance $g^2\, \mathrm{d} t$ blurs a density $q$ by the heat equation, $\partial_t q = \frac12 g^2 \Delta q$. Now use $\nabla q = q\, \nabla \log q$:
#
# $$
# \frac12 g^2\, \Delta q = \frac12 g^2\, \nabla \cdot (q\, \nabla \log q) = - \nabla \cdot \Big( q \cdot \big( {- \tfrac12} g^2\, \nabla \log q \big) \Big) .
# $$
#
# The right side is how a density changes if each point moves with the *velocity* $- \frac12 g^2\, \nabla \log q$: noise moves a density as a wind does that blows down the log-density.
#
# **Why an ODE has the same marginals.** Replace the noise by this wind. Each point then has the velocity $f - \frac12 g^2\, \nabla \log q$; nothing is random, yet the density is the same at each time. A motion without randomness can be run backwards. With $r$ rising from noise to data it is the {term}`probability-flow ODE` {cite:p}`song2021sde`,
#
# $$
# \frac{\mathrm{d} x}{\mathrm{d} r} = \frac12 \big( x + \nabla \log q_r(x) \big) ,
# $$ (def-probability-flow)
#
# where $q_r$ is the distribution of $x_t$ at $\log \bar\alpha_t = r$. The points do not all climb to the modes: they follow the score of each level only as far as $q_r$ itself narrows.
#
# :::{dropdown} In one equation
# That the density of the moving points is $q_r$ is the *continuity equation*,
#
# $$
# \frac{\partial \log q_r}{\partial r} = - \nabla \cdot v - v \cdot \nabla \log q_r , \qquad v = \frac12 \big( x + \nabla \log q_r(x) \big) .
# $$ (eq-continuity)
# :::
#
# **Why the SDE gets $g^2$ times the score.** Half of $g^2\, \nabla \log q$ is the wind, turned around. If noise is added on the way back, say $\eta\, g\, \mathrm{d} w$, it blurs once more, and the drift has to undo that, with another $\frac12 \eta^2 g^2\, \nabla \log q$. For $\eta = 1$ that makes $g^2$ times the score. In the clock $r$, for every $\eta \ge 0$,
#
# $$
# \mathrm{d} x = \Big( \frac12 x + \frac{1 + \eta^2}{2}\, \nabla \log q_r(x) \Big)\, \mathrm{d} r + \eta\, \mathrm{d} w
# $$ (eq-reverse-sde)
#
# leads from $q_r$ at a low $r$ to $q_r$ at all later ones. In papers it is $\mathrm{d} x = \big( f - \frac{1 + \eta^2}{2} g^2\, \nabla \log q_t \big)\, \mathrm{d} t + \eta\, g\, \mathrm{d} \bar{w}$, with $t$ running backwards. For $\eta = 1$ it is the *reverse-time SDE* of {cite:t}`anderson1982`. To first order its steps are those of the DDPM: mean $x + \frac12 \beta x + \beta \nabla \log q_t$, variance $\beta$.
#
# Why may $\eta$ be anything? What $\eta$ adds, the drift $\frac{\eta^2}{2} \nabla \log q_r$ and noise of variance $\eta^2\, \mathrm{d} r$, is Langevin dynamics {eq}`def-langevin` with the step size $h = \eta^2\, \mathrm{d} r$, which leaves $q_r$ as it is.
#
# **Checks.** For the mixture of three Gaussians all derivatives of {eq}`eq-continuity` are computed by automatic differentiation; a velocity with the whole score is rejected. For {eq}`eq-reverse-sde` and Gaussian data, the variance after each Euler step follows from the one before. It starts at $r = -10$ with the right variance and takes 2000 and 4000 steps to the data, for three $\eta$. The noise without its part of the score, that part without the noise, and $\eta$ in place of $\eta^2$ are rejected.


# %% tags=["check", "nbval-check-output"]
def variance_at_data(steps, of_score, noise_var):
    """Variance after Euler steps of dx = (x / 2 + of_score * score) dr + noise."""
    dr = 10 / steps
    r = torch.linspace(-10, 0, steps + 1, dtype=torch.double)[:, None]
    V = 1 + (lam - 1) * r.exp()
    W = V[0]
    for slope in (1 + dr * (0.5 - of_score / V[:-1])) ** 2:
        W = slope * W + noise_var * dr
    return W


def at_the_data(part_of, noise_of):
    """The variances without error of the step size, for three eta."""
    choices = [
        {"of_score": (1 + part_of(e)) / 2, "noise_var": noise_of(e)} for e in (0.0, 0.5, 1.0)
    ]
    return torch.stack([limit(variance_at_data, **choice) for choice in choices])


lam = torch.tensor([0.25, 4.0]).double()
squared, nothing = (lambda eta: eta**2), (lambda eta: 0.0)
wrong = {"noise alone": at_the_data(nothing, squared), "score alone": at_the_data(squared, nothing)}
wrong["eta not squared"] = at_the_data(abs, squared)
found, rule = at_the_data(squared, squared), exact.within(5e-4)
verify("eq-reverse-sde", found, lam.expand(3, 2), rule, rejects=wrong)

# %% tags=["check", "nbval-check-output"]
x = torch.randn(8, 2).double().requires_grad_()
r = torch.tensor(-0.8).double().requires_grad_()
log_q = noisy_mixture(mixture, (r / 2).exp(), -r.expm1()).log_prob(x)
left = torch.stack([torch.autograd.grad(v, r, retain_graph=True)[0] for v in log_q])
score_here = mixture_hat.score_at_level(x, r.detach())


def change_along(v):
    """Minus the divergence of v, minus v times the score."""
    parts = [torch.autograd.grad(v[:, i].sum(), x, retain_graph=True)[0] for i in (0, 1)]
    divergence = parts[0][:, 0] + parts[1][:, 1]
    return (-divergence - (v * score_here).sum(1)).detach()


right, whole = change_along((x + score_here) / 2), change_along(x / 2 + score_here)
verify("eq-continuity", left, right, exact.within(1e-8), rejects={"whole score": whole})

# %% tags=["figure"] mystnb={"image": {"alt": "Two panels with the same shaded density, one broad band at the left, noise, that parts into two narrow bands at the right, data. In the left panel six jagged lines that cross each other, in the right panel six smooth lines that do not."}, "figure": {"caption": "From noise ($u = 1$) to data (0), by the reverse SDE ($\\eta = 1$) and by the ODE.", "name": "fig-same-marginals"}}
_ = torch.manual_seed(3)
two_score = MixtureDenoiser(schedule, halves, *modes).score_at_level
u = torch.linspace(0.97, 0.01, 481).double()
r = straight_line(u)[1]
shade = shading(r[::4])
fig, panels = plots.figure(2, height=3.0)
for panel, (eta, name) in zip(panels, ((1.0, "SDE"), (0.0, "ODE")), strict=True):
    x = torch.linspace(-1.6, 1.6, 6).double()[:, None]
    film = [x]
    for now, dr in zip(r[:-1], r.diff(), strict=True):
        drift = x / 2 + (1 + eta**2) / 2 * two_score(x, now)
        x = x + drift * dr + eta * dr**0.5 * torch.randn_like(x)
        film.append(x)
    _ = panel.pcolormesh(u[::4], heights, shade, cmap="Blues", vmax=1.6)
    _ = panel.plot(u, torch.stack(film)[:, :, 0], color="#D55E00", linewidth=1)
    _ = panel.set(xlim=(0.97, 0.01), ylim=(-2.6, 2.6), xlabel=f"clock $u$, {name}", ylabel="$x$")
fig

# %% [markdown]
# The paths of the SDE are jagged and may cross, those of the ODE smooth, and never meet, since place and time alone decide the velocity; at each time both have the same distribution ({numref}`fig-same-marginals`).
#
# **A Gaussian, worked.** Let $x \sim \mathcal{N}(0, \lambda)$ in one dimension. Then $x_t$ has the variance $V_r = 1 + (\lambda - 1)\, e^r$ and the score $-x / V_r$, and the ODE reads $\mathrm{d} x / \mathrm{d} r = \frac12 (1 - 1 / V_r)\, x$. Since $\mathrm{d} V_r / \mathrm{d} r = V_r - 1$, this is $\mathrm{d} \log x = \frac12\, \mathrm{d} \log V_r$:
#
# $$
# x_r = x_0\, \sqrt{V_r / \lambda} , \qquad x_0 = \sqrt{\lambda}\; x_{-\infty} .
# $$ (eq-gaussian-flow)
#
# Every point keeps its number of standard deviations, so samples keep their order, and the way from noise to data multiplies $x$ by $\sqrt\lambda$. The SDE forgets its start instead (for $\eta = \lambda = 1$ it is $\mathrm{d} x = - \frac12 x\, \mathrm{d} r + \mathrm{d} w$), and so it can repair earlier errors.
#
# **DDIM is Euler's method.** Write the ODE in the VE coordinates $\tilde{x} = x_t / \sqrt{\bar\alpha_t}$ and the clock $\sigma$; by {eq}`eq-noise-is-score` and the chain rule it is $\mathrm{d} \tilde{x} = \varepsilon^*\, \mathrm{d} \sigma$. And a step of DDIM is
#
# $$
# \frac{x_{t-1}}{\sqrt{\bar\alpha_{t-1}}} = \frac{x_t}{\sqrt{\bar\alpha_t}} + ( \sigma_{t-1} - \sigma_t )\; \hat\varepsilon , \qquad \sigma_t = \mathrm{SNR}_t^{-1/2} .
# $$ (eq-ddim-euler)
#
# So it holds the predicted noise constant during a step. In $x_t$ and $t$ Euler's method also approximates $- \frac12 \beta x$, which division by $\sqrt{\bar\alpha_t}$ solves exactly.
#
# **Checks.** For {eq}`eq-gaussian-flow` the companion's solver of the ODE moves a point from the data to $r = -3$; a point that is left where it was and a factor without its root are rejected. For {eq}`eq-ddim-euler`, a step of `ddim_sample` in the left panel of {numref}`fig-two-rides` is compared with the formula; a step in the logarithm of $\sigma$, and the noise predicted at the end of the step, are rejected.

# %% tags=["check", "nbval-check-output"]
x_0, V = torch.tensor([[0.7]]).double(), 1 + (lam[1] - 1) * math.exp(-3)


def gaussian_score(x, r):
    return -x / (1 + (lam[1] - 1) * r.exp())


moved = probability_flow(gaussian_score, x_0, [0.0, -3.0], 1e-10, 1e-10)[-1]
wrong = {"at rest": x_0, "no root": x_0 * V / lam[1]}
verify("eq-gaussian-flow", moved, x_0 * (V / lam[1]) ** 0.5, exact.within(1e-7), rejects=wrong)

film, now = paths["no noise"], last_55
scaled = [x / now.alpha_bar[55 - i] ** 0.5 for i, x in enumerate(film)]
sigma = (now.noise_var / now.alpha_bar) ** 0.5


def noise_at(t):
    time = torch.full((5,), t)
    return noise_from_x_0(now, film[55 - t], time, uneven_hat(film[55 - t], time))


right = scaled[25] + (sigma[29] - sigma[30]) * noise_at(30)
wrong = {"in the logarithm": scaled[25] + (sigma[29].log() - sigma[30].log()) * noise_at(30)}
wrong["noise of the arrival"] = scaled[25] + (sigma[29] - sigma[30]) * noise_at(29)
verify("eq-ddim-euler", scaled[26], right, exact.within(1e-8), rejects=wrong)

# %% [markdown]
# :::{depth-start} with enough calls a corrector repairs the variance better than the predictor, the weights of the modes no better
# :::
# After finite steps of {eq}`eq-reverse-sde` the points follow $q_r$ only approximately. Langevin steps at the level of noise that was reached bring them closer. So the {term}`predictor-corrector method` {cite:p}`song2021sde` alternates: a step of the SDE *predicts*, a step of Langevin dynamics *corrects*.


# %%
def predict_and_correct(x, num, correct=False, eta=1.0):
    """Go from noise to the data in steps of equal length in log SNR; correct after each."""
    log_snr = torch.linspace(-8, -2 * math.log(0.03), num + 1).double()
    r = -torch.nn.functional.softplus(-log_snr)  # log(alpha_bar)
    for now, then in pairwise(r):
        dr = then - now
        drift = x / 2 + (1 + eta**2) / 2 * ring_score(x, now)
        x = x + drift * dr + eta * dr**0.5 * torch.randn_like(x)
        if correct:
            h = -then.expm1()  # 1 - alpha_bar
            x = x + h / 2 * ring_score(x, then) + h**0.5 * torch.randn_like(x)
    return (x - r[-1].expm1() * ring_score(x, r[-1])) / (r[-1] / 2).exp()  # Tweedie


# %% [markdown]
# Twenty thousand points by the exact score of the ring with unequal weights, with 20 steps without and with correction, and with 40 without, which take as many calls of the score as 20 with it. The variance is that around the nearest center, relative to that of a mode (by the median of the distances):

# %% tags=["numbers", "columns"]
noise, by_calls = torch.randn(20_000, 2).double(), {}
print(f"{'':18}in a wrong mode  outliers  variance")
for name, num, correct in (("20 steps", 20, 0), ("20, corrected", 20, 1), ("40 steps", 40, 0)):
    _ = torch.manual_seed(0)
    by_calls[name] = ring_report(predict_and_correct(noise, num, correct))
    print("{:14}  {:14.1%}  {:9.1%}  {:9.2f}".format(name, *by_calls[name]))
plain, corrected, twice = by_calls.values()
assert corrected[2] - 1 < 0.5 * (plain[2] - 1) and corrected[2] < twice[2]
assert twice[0] - 0.01 < corrected[0] < plain[0] + 0.01

# %% [markdown]
# With forty calls the corrector repairs the variance better than the predictor (with twenty worse), the fractions of the modes no better.
#
# :::{depth-end}
# :::

# %% [markdown]
# (sec-likelihood)=
# ## The likelihood, and the ELBO beside it
#
# The ODE is a map from noise to data that can be followed backwards: each image comes from exactly one noise image. Where a map spreads points out, their density falls, at the rate of the divergence of the velocity. So the log-density of $x$ is that of the noise where it arrives, plus the change of the log-volume on the way {cite:p}`song2021sde`:
#
# $$
# \log p(x) = \log \mathcal{N}(x_{r_1}; 0, I) + \int_0^{r_1} \nabla \cdot v\; \mathrm{d} r , \qquad r_1 \to - \infty .
# $$ (eq-flow-likelihood)
#
# For a network the divergence is the trace of its Jacobian $J$, which takes one backward pass for each pixel. *Hutchinson's estimator* takes one: for a random direction $\nu$ with mean zero and covariance $I$, such as independent signs $\pm 1$,
#
# $$
# \nabla \cdot v = \operatorname{tr} J = \mathbb{E}_\nu \big[ \nu^\top J\, \nu \big] ,
# $$ (eq-hutchinson)
#
# since $\mathbb{E}\, \nu_i \nu_j$ is 1 for $i = j$ and 0 otherwise. With one $\nu$ for the whole path the estimate of $\log p(x)$ is unbiased {cite:p}`grathwohl2019`, but for the errors of the solver and of a finite $r_1$, which no averaging removes. (In the film, colors are the modes at the end.)

# %% tags=["figure"]
_ = torch.manual_seed(0)
clock = -(torch.linspace(12**0.25, 0, 31).double() ** 4)  # slower near the data
flowing = probability_flow(ring_score, torch.randn(1500, 2), clock, 1e-4, 1e-4)
owner = (flowing[-1][:, None] - centers).norm(dim=2).argmin(1)


def flow_frame(k, points=flowing, labels=owner):
    return plots.scatter(points[k], labels, x_label="$x_1$", y_label="$x_2$", bounds=(-3, 3, -3, 3))


clock_labels = [f"{r:.2f}" for r in clock.tolist()]
Film(
    range(31),
    flow_frame,
    description="log of alpha-bar",
    alt="Points on their way from noise to a ring of eight modes, at stop {}",
    label=lambda k: clock_labels[k],
    start=18,
)

# %% [markdown]
# **Checks.** Twenty points on and near the ring are moved to $r_1 = -20$, and the result is compared with the density in closed form, with a tolerance of a thousandth of a nat per dimension. No integral, and the integral with the other sign, are rejected. Hutchinson's estimator is compared with the divergence by automatic differentiation, at one point; directions uniform on $[-1, 1]$, whose covariance is a third, are rejected.

# %% tags=["check", "nbval-check-output"]
_ = torch.manual_seed(0)
x = 1.2 * torch.randn(20, 2).double()
by_flow = ode_log_prob(ring_score, x, [0.0, -20.0], rtol=1e-4, atol=1e-4)
arrived = probability_flow(ring_score, x, [0.0, -20.0], 1e-4, 1e-4)[-1]
no_volume = Normal(0.0, 1.0).log_prob(arrived).sum(1)
wrong = {"no volume": no_volume, "other sign": 2 * no_volume - by_flow}
rule = exact.within(1e-3).on_scale(2.0)  # two dimensions
verify("eq-flow-likelihood", by_flow, uneven.log_prob(x), rule, rejects=wrong)

at = torch.tensor(-0.8).double()
J = torch.autograd.functional.jacobian(lambda y: (y + ring_score(y[None], at)[0]) / 2, x[0])
signs = torch.randint(2, (100_000, 2)).mul(2).sub(1).double()
estimates = ((signs @ J) * signs).sum(1)
wrong = {"uniform directions": J.trace() / 3}
verify("eq-hutchinson", estimates, J.trace(), monte_carlo, rejects=wrong)

# %% [markdown]
# **What has this likelihood to do with the ELBO?** One score network is *two* models. The flow's likelihood is computed; the chain with noise has another, of which we know only a bound, the ELBO. With an exact score the two likelihoods are equal.
#
# **Which weights make the score loss a bound?** During $\mathrm{d} r$ the true way back and the network's both have noise of variance $\mathrm{d} r$, and their means differ by $(\nabla \log q_r - s_\theta)\, \mathrm{d} r$. The KL divergence of two such Gaussians is the squared difference over twice the variance, $\frac12 \lVert \nabla \log q_r - s_\theta \rVert^2\, \mathrm{d} r$. That of whole paths, which both start in noise, is the sum, and that of their ends is at most as large:
#
# $$
# D_{\mathrm{KL}}( p_{\text{data}} \,\Vert\, p_\theta ) \;\le\; \frac12 \int_{-\infty}^{0} \mathbb{E}_{q_r} \big\lVert \nabla \log q_r(x) - s_\theta(x, r) \big\rVert^2\, \mathrm{d} r ,
# $$ (eq-score-bound)
#
# with equality if $s_\theta$ is the score of noisy data of *any* distribution {eq}`eq-score-integral`: its way back then reverses the noising exactly. So in the clock $r$ the bound is the score loss with the constant weight $\frac12$. By {eq}`eq-noise-is-score` and $\mathrm{d} r = (1 - \bar\alpha)\, \mathrm{d} \log \mathrm{SNR}$ this is $\frac12 \lVert \varepsilon - \varepsilon_\theta \rVert^2\, \mathrm{d} \log \mathrm{SNR}$, up to a constant {eq}`eq-denoising-score-matching`: the ELBO is the simple loss {eq}`def-simple-loss` with times that are uniform in $\log \mathrm{SNR}$ {cite:p}`kingma2021`. It collects most at little noise ({numref}`fig-bound-area`), in hardly visible detail; good images need more weight where the content is decided, which times uniform in $t$ give ({ref}`chapter 10 <sec-thrown-away>`).
#
# **Check.** Data with variance $\frac14$ and the score of variance 1.7: the KL divergence of the two Gaussians is compared with the integral, by quadrature. The integral without its half is rejected, and so is the weight $1 - \bar\alpha$, which belongs to uniform steps of $r$ in the simple loss.

# %% tags=["check", "nbval-check-output"]
r = torch.linspace(-40, 0, 400_001).double()
of_data, of_model = 1 + (0.25 - 1) * r.exp(), 1 + (1.7 - 1) * r.exp()
loss = of_data * (1 / of_data - 1 / of_model) ** 2  # E |difference of the scores|^2
right = torch.trapezoid(loss, r) / 2
of_weighted = torch.trapezoid(-r.expm1() * loss, r) / 2
left = 0.5 * (torch.tensor(0.25 / 1.7).double() - 1 - math.log(0.25 / 1.7))
wrong = {"no half": 2 * right, "simple loss": of_weighted}
verify("eq-score-bound", left, right, quadrature.within(1e-6), rejects=wrong)

# %% [markdown]
# How far apart are both for a *trained* network, here that of the $8 \times 8$ digits ({ref}`chapter 10 <sec-why-v>`)?
#
# :::{depth-start} sixty Heun steps and one random direction follow point and volume
# :::
# Heun's method takes the mean of the slopes at both ends of a step:

# %% tags=["serves"]
digits_ddpm = pretrained("ddpm-digits")
noise_schedule = digits_ddpm.schedule


def level(t):
    """log(alpha_bar) at a time t that need not be whole."""
    k, table = t.long().clamp(max=999), noise_schedule.log_alpha_bar
    return torch.lerp(table[k], table[k + 1], (t - k).double()).float()


def network_score(x, t):
    noise_hat = digits_ddpm.denoiser.network(x, t.expand(len(x)))
    return -noise_hat / (-level(t).expm1()).sqrt()


# %%
def slopes(x, t, sign):
    """The velocity dx/dr at a time t, and its divergence by Hutchinson's estimator."""
    x = x.detach().requires_grad_()
    v = (x + network_score(x, t)) / 2
    (row,) = torch.autograd.grad((v * sign).sum(), x)
    return v.detach(), (row * sign).flatten(1).sum(1)


def flow_log_prob(x, times):
    """log p(x) by the ODE, from the first time to the last."""
    sign, volume = torch.randint(2, x.shape) * 2.0 - 1, torch.zeros(len(x))
    for now, then in pairwise(times):
        dr, (v, rate) = level(then) - level(now), slopes(x, now, sign)
        v_end, rate_end = slopes(x + dr * v, then, sign)
        x, volume = x + dr * (v + v_end) / 2, volume + dr * (rate + rate_end) / 2
    return Normal(0.0, 1.0).log_prob(x).flatten(1).sum(1) + volume


# %% [markdown]
# Gray levels are discrete, and the flow has a density. So all three rows below take the last step of the chain: $\log p_\theta(x \mid x_1) + \log p(x_1) - \log q(x_1 \mid x)$ with $x_1$ from $q(x_1 \mid x)$, a lower bound on $\log p(x)$ on average. Only $\log p(x_1)$ differs: computed for the flow, bounded for the chains. Four times as many Heun steps change the third row by less than 0.01.
#
# :::{depth-end}
# :::

# %% tags=["numbers", "columns"]
_ = torch.manual_seed(0)
x = to_symmetric(data.load("digits", "test").images[:50])
mean, std = noise_schedule.alpha_bar[1].sqrt().float() * x, noise_schedule.noise_var[1].sqrt()
some = torch.cat([torch.arange(1, 20), torch.arange(20, 1001, 10)])
with torch.no_grad():
    x_1 = add_noise(noise_schedule, x, 1, torch.randn_like(x))
    last = digits_ddpm.reconstruction(digits_ddpm.denoise(x_1, 1)).log_prob(x)
    chain = elbo_terms(digits_ddpm, x).elbo
    errors = 64 * noise_errors(digits_ddpm, x, some).double()
prior = kl_divergence(digits_ddpm.posterior(x), digits_ddpm.prior(len(x)))
integral = -torch.trapezoid(errors, noise_schedule.log_snr[some], dim=0) / 2
of_x_1 = Normal(mean, std.float()).log_prob(x_1).flatten(1).sum(1)
nats = {"chain of 1000 steps: ELBO": -chain.double()}
nats["infinitely many steps: ELBO"] = prior + integral - last
nats["flow: likelihood"] = of_x_1 - flow_log_prob(x_1, torch.logspace(0, 3, 61)) - last
print(f"{'50 test digits':30}bits per pixel  standard error")
for name, each in nats.items():
    bits, se = bits_per_dim(each.mean(), 64), bits_per_dim(each.std() / len(x) ** 0.5, 64)
    print(f"{name:28}  {bits:14.2f}  {se:14.2f}")
of_chain, of_limit, of_flow = nats.values()
for better, worse in ((of_limit, of_chain), (of_flow, of_limit)):
    assert (worse - better).mean() > 2 * (worse - better).std() / len(x) ** 0.5

# %% tags=["figure"] mystnb={"image": {"alt": "A curve over the logarithm of the signal-to-noise ratio: near zero at the left, where all is noise, rising to its largest value at the right end, with the area below it shaded."}, "figure": {"caption": "The bound as an area: half the squared error of the predicted noise, in nats for each unit of $\\log \\mathrm{SNR}$.", "name": "fig-bound-area"}}
_, (axes,) = plots.figure(height=2.4)
_ = axes.fill_between(noise_schedule.log_snr[some], errors.mean(1) / 2, alpha=0.2)
curve = {"": (noise_schedule.log_snr[some], errors.mean(1) / 2)}
plots.curves(curve, x_label="log SNR (noise at the left)", y_label="nats per unit", axes=axes)

# %% [markdown]
# The flow has the fewest bits here; digit by digit, both differences are above two standard errors. The first comes from the chain's finite steps and variances; a likely cause of the second is the inexact score, whose errors the bound sums along the whole path.
#
# *Sources: E09.*

# %% [markdown]
# (sec-flow-matching)=
# ## Flow matching: the same network in other clothes
#
# **Flow matching** {cite:p}`lipman2023`, with straight lines also rectified flow {cite:p}`liu2023` or a stochastic interpolant {cite:p}`albergo2023`, needs neither betas nor a score. Straight lines join data and noise, $x_u = (1 - u)\, x + u\, \varepsilon$, and a network learns the velocity $\varepsilon - x$. Why does that work, although lines from many $x$ cross at one point? Regression finds the mean, and the mean of the velocities at a point moves the density: what flows is density times mean velocity. It is
#
# $$
# \mathbb{E}[\varepsilon - x \mid x_u] = \frac{x_u - \mathbb{E}[x \mid x_u]}{u} ,
# $$ (eq-flow-velocity)
#
# since $\varepsilon = (x_u - (1 - u)\, x) / u$. So a denoiser, or a score, determines it. Nor is the path new: $x_u = c\, x_t$ with $c = \sqrt{(1 - u)^2 + u^2}$, and the straight line is a noise schedule {eq}`eq-clocks`. A point of the probability flow, multiplied by $c$, moves with exactly this velocity:
#
# $$
# \frac{\mathrm{d}}{\mathrm{d} u} \big( c\; x_{r(u)} \big) = \mathbb{E}[\varepsilon - x \mid x_u] \qquad \text{at} \quad x_u = c\; x_{r(u)} .
# $$ (eq-flow-matching)
#
# The paths are curved all the same: the velocity is a mean over all pairs whose line passes here, and on the way their weights change. Noise, image, the $v$ of {ref}`chapter 10 <sec-why-v>`, score and velocity are five parametrizations of one function; the methods differ in clock and weights.
#
# :::{dropdown} Proof
# Put $\sigma = u / (1 - u)$, so that $c\, x_r = (1 - u)\, \tilde{x}$ with $\tilde{x} = x_r / \sqrt{\bar\alpha}$ and $\mathrm{d} \tilde{x} = \varepsilon^*\, \mathrm{d} \sigma$. Then the derivative is $- \tilde{x} + (1 - u)\, \varepsilon^* / (1 - u)^2 = - \tilde{x} + \varepsilon^* / (1 - u)$, and with $\tilde{x} = \hat{x} + \sigma \varepsilon^*$ this is $\varepsilon^* - \hat{x}$. $\square$
# :::
#
# **Checks.** If $v$ is the conditional mean of $\varepsilon - x$, then $\varepsilon - x - v$ times *any* function of $x_u$ has the mean zero. Seven functions are taken: 1, the two coordinates, their sines, and the two components of $v$. A velocity divided by $1 - u$ in place of $u$, and one that is turned a little, are rejected. The left side of {eq}`eq-flow-matching` is a difference quotient of the flow that the solver finds; a flow that is not rescaled is rejected.

# %% tags=["check", "nbval-check-output"]
_ = torch.manual_seed(0)
x, u = mixture.sample((100_000,)), torch.tensor(0.4).double()
noise = torch.randn_like(x)
x_u = (1 - u) * x + u * noise


def mixture_velocity(x_u, u):
    """The exact velocity at x_u, all at one time."""
    c, r = straight_line(u)
    x_hat = (x_u / c + -r.expm1() * mixture_hat.score_at_level(x_u / c, r)) / (r / 2).exp()
    return flow_velocity(x_u, u.expand(len(x_u)), x_hat)


velocity = mixture_velocity(x_u, u)
tests = torch.cat([torch.ones(len(x), 1), x_u, (2 * x_u).sin(), velocity], 1)


def products(v):
    """What v leaves of the velocity of each line, times the seven functions, by component."""
    return ((noise - x - v)[:, :, None] * tests[:, None]).flatten(1)


turned = velocity + 0.3 * velocity.flip(1) * torch.tensor([1.0, -1.0])
others = {"divided by 1 - u": velocity * u / (1 - u), "turned": turned}
wrong = {name: products(v).mean(0) for name, v in others.items()}
verify("eq-flow-velocity", products(velocity), torch.zeros(14).double(), monte_carlo, rejects=wrong)

# %% tags=["check", "nbval-check-output"]
du = 1e-4
c, r = straight_line(torch.stack([u - du, u, u + du]))
path = probability_flow(mixture_hat.score_at_level, places[0], r, rtol=1e-11, atol=1e-11)
x_u = c[:, None, None] * path
left, right = (x_u[2] - x_u[0]) / (2 * du), mixture_velocity(x_u[1], u)
wrong = {"not rescaled": (path[2] - path[0]) / (2 * du)}
verify("eq-flow-matching", left, right, autograd.within(1e-5), rejects=wrong)

u = line_time(last_55.log_alpha_bar)
c, _ = straight_line(u)


def ring_velocity(x_u, at):
    """The exact velocity of the ring at a time of the schedule."""
    t = (u - at[0]).abs().argmin()
    return flow_velocity(x_u, at, uneven_hat(x_u / c[t], t.expand(len(x_u))))


by_euler = torch.stack(list(flow_sample(ring_velocity, c[-1] * starts, u.flip(0))))
by_ddim, c = torch.stack(paths["no noise"]), c.flip(0).view(-1, 1, 1)
wrong = {"not rescaled": by_ddim, "scale of the time before": c.roll(1, 0) * by_ddim}
verify("eq-flow-euler", by_euler, c * by_ddim, exact.within(1e-8), rejects=wrong)

# %% [markdown]
# The whole training, and its samples by Euler steps from $u = 1$ to 0 ({numref}`fig-flow-matching`):

# %%
_ = torch.manual_seed(0)
velocity_net = TimeMlp(2, (64, 64), 32)
optimizer = torch.optim.Adam(velocity_net.parameters(), lr=5e-3, fused=True)
for step in range(1500):
    optimizer.param_groups[0]["lr"] = 5e-3 * (1 - 0.98 * step / 1500)
    x, u = uneven.sample((500,)).float(), torch.rand(500)
    noise = torch.randn_like(x)
    x_u = torch.lerp(x, noise, u[:, None])
    v = velocity_net(x_u, 10 * u)  # 10 u, as times below 1 look alike to its sinusoids
    loss = (v - (noise - x)).square().sum(1).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

# %% tags=["figure"] mystnb={"image": {"alt": "A ring of clusters of points, dense at the right and at the bottom, thin and smeared at the left."}, "figure": {"caption": "Flow matching on the ring, a hundred Euler steps.", "name": "fig-flow-matching"}}
x_u = torch.randn(1500, 2)
with torch.no_grad():
    for k in range(100, 0, -1):
        x_u = x_u - 0.01 * velocity_net(x_u, torch.full((1500,), 0.1 * k))
assert ring_report(x_u)[0] < 0.15
_, (axes,) = plots.figure(height=2.9)
plots.scatter(x_u, x_label="$x_1$", y_label="$x_2$", bounds=box, axes=axes)

# %% [markdown]
# Is the sampler new? Insert {eq}`eq-flow-velocity` in an Euler step from $u$ to $u'$:
#
# $$
# x_u + (u' - u)\, v = (1 - u')\, \hat{x} + u'\, \hat\varepsilon , \qquad \hat\varepsilon = \frac{x_u - (1 - u)\, \hat{x}}{u} .
# $$ (eq-flow-euler)
#
# That is a step of DDIM in other coordinates. Only the times differ: equal steps of $t$ there, of $u$ here.
#
# **Check.** The path of `flow_sample` is compared with that of `ddim_sample` in the left panel of {numref}`fig-two-rides`, times $c$. A path that is not rescaled, and one with the scale of the time before, are rejected.
#
# :::{depth-start} with five calls the velocity halves the distance, if its times are its own
# :::
# What is learned, and at which times it is used, are two questions: each network can be used at the times of the other. `flow-digits` is the network of `ddpm-digits`, trained for the velocity in as many steps, at the same rates, on the same $8 \times 8$ digits. A record holds the distance of 1000 drawn digits from the real ones: the Fréchet distance {eq}`def-frechet`, less its bias, in the 64 features of a small classifier. Each network was trained three times; the errors count both the images and the trainings. For comparison, all real digits are split into two sets at random, ten times.

# %% tags=["figure"] mystnb={"image": {"alt": "Five falling lines over 5, 10, 20 and 50 calls, and a level line near one for real digits. At five calls the line of Heun's method is highest and that of the velocity at equal steps in u lowest, at half of the other three. From 20 calls on all lie within the band of real digits."}, "figure": {"caption": "Distance of drawn digits from real ones, by calls of the network, with bands of two standard errors.", "name": "fig-spacings"}}
found, _ = load_record("flow-digits-spacing")
calls, real, shown, bands = (5, 10, 20, 50), found["real"][0, :, 0], {}, {}
for name in (
    "ddpm, even in t",
    "ddpm, even in u",
    "flow, even in t",
    "flow, even in u",
    "flow, Heun",
):
    value, error = found[name][0].unbind(-1)  # of each training, by calls
    se = (error.square().mean(0) + value.var(0) / len(value)).sqrt()
    shown[name], bands[name] = (
        (calls, value.mean(0)),
        (value.mean(0) - 2 * se, value.mean(0) + 2 * se),
    )
shown["real digits"] = calls, real.mean().expand(4)
bands["real digits"] = tuple((real.mean() + k * real.std()).expand(4) for k in (-2, 2))
fig, (axes,) = plots.figure(height=3.0)
_ = plots.curves(shown, bands=bands, x_label="calls", y_label="distance", log_x=True, axes=axes)
axes.minorticks_off()
_ = axes.set_xticks(calls, calls)
fig

# %% [markdown]
# From 20 calls on, all lines of {numref}`fig-spacings` are as close to real digits as real digits are to each other. At five calls the velocity at equal steps in $u$ has half the distance of the network for the noise. At equal steps in $t$ it is no better; and the network for the noise gains nothing from equal steps in $u$, where its three trainings end at very different distances. Heun's method is far behind at five calls (it uses four of them) and no better than Euler's later.
#
# :::{depth-end}
# :::
#
# *Sources: E09.*

# %% [markdown]
# (sec-one-step)=
# ## One step
#
# Why does a flow need many calls? An Euler step pretends that the velocity does not change. A single step from pure noise fails completely: at $u = 1$ the best estimate of the image is the mean of all data, wherever one starts. Regression from noise to image in random pairs gives this mean, too. But the flow pairs each noise with one image, and a network can learn that. A *consistency model* {cite:p}`song2023` learns the end of the path: at two neighboring points of a path its outputs are trained to be equal. A constant would do that, so at the smallest noise it is built to return its input, which ties all other outputs to the data.
#
# A step of length $s$ needs the {term}`average velocity` on the way from $u$ down to $u - s$,
#
# $$
# a(x_u, u, s) = \frac{1}{s} \int_{u - s}^{u} v(x_w, w) \, \mathrm{d} w = \frac{x_u - x_{u - s}}{s} ,
# $$ (def-average-velocity)
#
# where $x_w$ follows the flow through $x_u$. With it a step of any length is exact, and one call with $u = s = 1$ leads from noise to data. But its integral would take a flow for every example. **MeanFlow** {cite:p}`geng2025` avoids that: multiply by $s$ and differentiate by $u$ along the flow, with a fixed end $u - s$. The left side gives $a + s\, \mathrm{d} a / \mathrm{d} u$, the right side the integrand at its upper end. So
#
# $$
# a = v - s\, \frac{\mathrm{d} a}{\mathrm{d} u} , \qquad \frac{\mathrm{d} a}{\mathrm{d} u} = \frac{\partial a}{\partial x_u}\, v + \frac{\partial a}{\partial u} + \frac{\partial a}{\partial s} ,
# $$ (eq-mean-flow)
#
# (The last term is there because $s$ grows with $u$ if the end is fixed.) In the loss the network is the $a$ on the left; the right side, with the network's own derivative (one Jacobian-vector product), is held constant as the target. It is linear in the unknown $v$, so $\varepsilon - x$, whose mean is $v$, can stand in its place, as in flow matching, the case $s = 0$, which most examples of a batch get:

# %%
show(mean_flow_loss, docstring=False)

# %% [markdown]
# **Checks.** For Gaussian data all of it is known: the flow keeps the number of standard deviations {eq}`eq-gaussian-flow`, $(x_u - m_u) / \tau_u$, where $m_u$ and $\tau_u$ are the moments of $x_u$, and this gives $x_{u - s}$. The checks reject the other sign of the derivative, a derivative in which the step stays instead of its end, and two short steps (a third and two thirds of the long one) that both begin at $x_u$.

# %% tags=["check", "nbval-check-output"]
mean, std = 0.7, 0.3


def moments(u):
    return (1 - u) * mean, ((1 - u) ** 2 * std**2 + u**2).sqrt()


def gaussian_average(x_u, u, step):
    """The average velocity for data from N(0.7, 0.3^2)."""
    (m, tau), (m_end, tau_end) = moments(u), moments(u - step)
    return (x_u - m_end - tau_end / tau * (x_u - m)) / step


u, x_u = torch.linspace(0.3, 1, 50).double(), torch.linspace(-2, 2, 50).double()
step, (m, tau) = 0.8 * u, moments(u)
v = -mean + (u - (1 - u) * std**2) / tau**2 * (x_u - m)  # E[noise - x | x_u]
a, rate = along_flow(gaussian_average, x_u, u, step, v)
step_stays = along_flow(lambda x, u, _: gaussian_average(x, u, step), x_u, u, step, v)[1]
wrong = {"other sign": v + step * rate, "the step stays": v - step * step_stays}
verify("eq-mean-flow", a, v - step * rate, autograd, rejects=wrong)
short, rest = step / 3, 2 * step / 3
first = short * gaussian_average(x_u, u, short)
both = first + rest * gaussian_average(x_u - first, u - short, rest)
wrong = {"both from the start": first + rest * gaussian_average(x_u, u - short, rest)}
verify("eq-shortcut", step * gaussian_average(x_u, u, step), both, exact, rejects=wrong)

# %% tags=["serves"]
average = pretrained("mean-flow-toy2d")
even_hat = MixtureDenoiser(s, torch.full((8,), 1 / 8).double(), centers, covs)


def exact_velocity(x_u, at):
    """The velocity of the ring; at u = 1 all is noise, and the estimate is the mean."""
    c, r = straight_line(at[0].double().clamp(max=1 - 1e-9))
    score = even_hat.score_at_level(x_u.double() / c, r)
    x_hat = (x_u.double() / c + -r.expm1() * score) / (r / 2).exp()
    return flow_velocity(x_u.double(), at.double(), x_hat).to(x_u)


_ = torch.manual_seed(0)
x_1, one_step = torch.randn(2000, 2), {}
for num in (1, 2, 4, 8, 20):
    u = torch.linspace(1, 0, num + 1)
    *_, one_step["velocity", num] = flow_sample(exact_velocity, x_1, u)
    *_, one_step["average", num] = mean_flow_sample(average, x_1, u)

# %% tags=["figure"] mystnb={"image": {"alt": "Six panels of points. Above, by the exact velocity: with one call all points are in one place in the middle, with two they fill a disk, with four a blurred ring of eight denser places. Below, by the average velocity: already with one call a closed line through the eight places, with points outside it; with two calls fewer of these, with four denser places and thinner threads."}, "figure": {"caption": "Eight equal modes by one, two and four calls. Above: Euler steps with the exact velocity. Below: a learned average velocity.", "name": "fig-one-step"}}
fig, panels = plots.figure(3, rows=2, height=2.4)
names = [(kind, num) for kind in ("velocity", "average") for num in (1, 2, 4)]
for panel, name in zip(panels, names, strict=True):
    _ = panel.scatter(*one_step[name].T, 2, color=COLORS[0], alpha=0.25, linewidths=0)
    _ = panel.set_aspect("equal")
    _ = panel.set(xlim=box[:2], ylim=box[2:], xlabel="{}, {}".format(*name))
fig

# %% [markdown]
# In {numref}`fig-one-step` one Euler step with the *exact* velocity puts all points in one place. One call of the average velocity finds the ring, but for about one point in seven. These lie on threads between the modes, where the exact step pulls close neighbors far apart: likely a border too steep to learn.
#
# :::{depth-start} twenty calls leave half of the outliers; consistency and shortcut models learn parts of the same function
# :::
# Count the points that are more than three standard deviations from every mode:


# %% tags=["numbers", "columns"]
def off_modes(x):
    """Fraction of points farther than three standard deviations from every mode."""
    return (torch.cdist(x.double(), centers).amin(1) > 3 * 0.125).double().mean().item()


off = {name: off_modes(x) for name, x in one_step.items()}
print("calls                  " + "".join(f"{num:9}" for num in (1, 2, 4, 8, 20)))
for kind, words in (("velocity", "Euler, exact velocity"), ("average", "average velocity")):
    print(f"{words:23}" + "".join(f"{off[kind, num]:9.1%}" for num in (1, 2, 4, 8, 20)))
print(f"{'real points':23}" + 5 * f"{off_modes(even.sample((2000,))):9.1%}")
assert one_step["velocity", 1].std(0).max() < 1e-3
assert off["average", 1] < off["velocity", 4]

# %% [markdown]
# Twenty calls of the same network still leave half of them; those are its errors, not the single step's.
#
# **Digits in one step.** At $8 \times 8$ pixels the Fréchet distance from real ones, less its bias, is with one call of the average velocity 1.6 ± 0.2 and with two 0.6 ± 0.1; with the velocity 236 ± 8 for one call, 2.5 ± 0.4 for eight and 0.8 ± 0.2 for twenty ({ref}`experiment <exp-one-step>`). So two calls do what took twenty, after longer training.
#
# A **consistency model** {cite:p}`song2023` learns the steps that end in data, $s = u$: everywhere on a path it points to the same $x_0$. A **shortcut model** {cite:p}`frans2025` learns that a long step is two short ones in a row:
#
# $$
# (s + s')\, a(x_u, u, s + s') = s\, a(x_u, u, s) + s'\, a(x_{u - s}, u - s, s') .
# $$ (eq-shortcut)
#
# On the ring this was one training of MeanFlow. Its time embedding has slow waves only: with fast ones {cite:t}`lu2025` found such trainings unstable, since the derivative by $u$ is a part of the target.
#
# :::{depth-end}
# :::
#
# *Sources: F06.*

# %% [markdown]
# (sec-design-choices)=
# ## What remains to be chosen
#
# {cite:t}`karras2022` (EDM) separated the choices in a diffusion model: what the network predicts, the noise in training, the levels and the solver of the sampler, the noise added on the way. Why should a network predict neither noise nor image? In $\hat{x} = \tilde{x} - \sigma \hat\varepsilon$ an error of the predicted noise is multiplied by $\sigma$, bad at high noise. A predicted image has the network's full error even at low noise, where $\tilde{x}$ is nearly the image. So let it predict a mixture, with weights that depend on $\sigma$; this is {term}`preconditioning`:
#
# $$
# \hat{x}(\tilde{x}, \sigma) = c_{\mathrm{skip}}\, \tilde{x} + c_{\mathrm{out}}\, F\big( c_{\mathrm{in}}\, \tilde{x},\; \log \sigma \big) .
# $$ (def-preconditioned)
#
# For data with mean 0 and variance $\sigma_{\mathrm{d}}^2$ in each dimension, let input and target of $F$ have variance 1 at every $\sigma$, and $c_{\mathrm{out}}$, which multiplies each error of $F$, be smallest. Then
#
# $$
# c_{\mathrm{in}} = \frac{1}{\sqrt{\sigma_{\mathrm{d}}^2 + \sigma^2}} , \qquad c_{\mathrm{skip}} = \frac{\sigma_{\mathrm{d}}^2}{\sigma_{\mathrm{d}}^2 + \sigma^2} , \qquad c_{\mathrm{out}} = \frac{\sigma\, \sigma_{\mathrm{d}}}{\sqrt{\sigma_{\mathrm{d}}^2 + \sigma^2}} :
# $$ (eq-preconditioning)
#
# $c_{\mathrm{skip}}\, \tilde{x}$ is the best linear estimate, and $F$ learns what is left. A network that predicts $v$ is a preconditioned one, with $F = -v$ and $\sigma_{\mathrm{d}} = 1$. In our experiment a preconditioned network is more than ten times closer at the highest noise than one that predicts the noise (with equal losses three to seven times).
#
# :::{depth-start} preconditioning gains more than its linear part, and Heun's method gains with enough calls
# :::
# | choice | in the DDPM of chapters 10 and 11 | in {cite:t}`karras2022` (EDM) |
# |---|---|---|
# | network | predicts $\varepsilon$, or $v$ {eq}`eq-preconditioned-v` | preconditioned {eq}`eq-preconditioning`, $\sigma_{\mathrm{d}} = 0.5$ for images on $[-1, 1]$ |
# | noise in training | $t$ uniform, or more often where a digit is decided or finished | $\log \sigma$ Gaussian, mean $-1.2$, standard deviation 1.2 |
# | levels of the sampler | `schedule.evenly(S)` | {eq}`def-rho-levels` with $\rho = 7$, from 80 to 0.002 |
# | solver | DDIM, which is Euler {eq}`eq-ddim-euler`, or DPM-Solver++ | Heun |
# | noise added on the way | $\eta$ {eq}`eq-reverse-sde` | "churn": add noise, then step further down |
#
# *Proof of {eq}`eq-preconditioning`.* The target of $F$ is $(x - c_{\mathrm{skip}}\, \tilde{x}) / c_{\mathrm{out}}$. Its variance is 1 if $c_{\mathrm{out}}^2 = (1 - c_{\mathrm{skip}})^2 \sigma_{\mathrm{d}}^2 + c_{\mathrm{skip}}^2 \sigma^2$. This is smallest where $x - c_{\mathrm{skip}}\, \tilde{x}$ is uncorrelated with $\tilde{x}$, at $c_{\mathrm{skip}} = \sigma_{\mathrm{d}}^2 / (\sigma_{\mathrm{d}}^2 + \sigma^2)$, and has the value $\sigma^2 \sigma_{\mathrm{d}}^2 / (\sigma_{\mathrm{d}}^2 + \sigma^2)$ there. $\square$
#
# For $\sigma_{\mathrm{d}} = 1$, since $1 + \sigma^2 = 1 / \bar\alpha_t$, the input $c_{\mathrm{in}}\, \tilde{x}$ is $x_t$, and ({ref}`chapter 10 <sec-why-v>`)
#
# $$
# \hat{x} = \bar\alpha_t\, \tilde{x} + \sqrt{1 - \bar\alpha_t}\; F = \sqrt{\bar\alpha_t}\; x_t - \sqrt{1 - \bar\alpha_t}\; v , \qquad F = - v .
# $$ (eq-preconditioned-v)
#
# **Checks.** Data with the two values $\pm \sigma_{\mathrm{d}}$ are drawn, at three levels of noise. The squares of the input and of the target must have the mean 1. The target times the input must have the mean 0, or another $c_{\mathrm{skip}}$ would allow a smaller $c_{\mathrm{out}}$. The weights of a network that predicts the noise ($c_{\mathrm{skip}} = 1$, $c_{\mathrm{out}} = \sigma$), and those for $\sigma_{\mathrm{d}} = 1$, are rejected. For {eq}`eq-preconditioned-v` the estimate is compared with the companion's formula for $v$; $F = v$ and $c_{\mathrm{out}} = \sigma$ are rejected.

# %% tags=["check", "nbval-check-output"]
_ = torch.manual_seed(0)
sigma, of_data = torch.tensor([0.3, 1.0, 3.0]).double(), 0.5
x = of_data * torch.randint(2, (200_000, 3)).mul(2).sub(1).double()
x_noisy = x + sigma * torch.randn_like(x)


def preconditioning(sigma, of_data):
    """c_skip, c_out and c_in."""
    size = (of_data**2 + sigma**2) ** 0.5
    return of_data**2 / size**2, sigma * of_data / size, 1 / size


def demands(c_skip, c_out, c_in):
    """Square of the input, square of the target, and their product, for each sample."""
    given, target = c_in * x_noisy, (x - c_skip * x_noisy) / c_out
    return torch.cat([given**2, target**2, given * target], 1)


c_skip, c_out, c_in = preconditioning(sigma, of_data)
right = torch.tensor([1.0, 1, 1, 1, 1, 1, 0, 0, 0]).double()
wrong = {"noise": demands(1.0, sigma, c_in), "variance 1": demands(*preconditioning(sigma, 1.0))}
wrong = {name: values.mean(0) for name, values in wrong.items()}
verify("eq-preconditioning", demands(c_skip, c_out, c_in), right, monte_carlo, rejects=wrong)

# %% tags=["check", "nbval-check-output"]
v = torch.randn(5, 8, 2).double()
by_v = [x_0_from_v(schedule, x, int(t), each) for t, x, each in zip(times, places, v, strict=True)]
sigma = ((1 - schedule.alpha_bar[times]) / schedule.alpha_bar[times]).sqrt().view(5, 1, 1)
c_skip, c_out, c_in = preconditioning(sigma, 1.0)
skipped, rule = c_skip * places / c_in, exact.within(1e-8)
wrong = {"F = v": skipped + c_out * v, "c_out = sigma": skipped - sigma * v}
verify("eq-preconditioned-v", torch.stack(by_v), skipped - c_out * v, rule, rejects=wrong)

# %% [markdown]
# **What preconditioning gains.** Two equal perceptrons learn the score of the ring with unequal weights for 20 levels up to $\sigma = 20$, from the same data. The first predicts the noise, $s_\theta = -F / \sigma$; the second is preconditioned and trained with the squared error of $F$. An error of $F$ is multiplied by $c_{\mathrm{out}}$, which is $\sigma = 20$ at the highest level for the first, and less than 1 for the second.
#
# Over three trainings of each ({ref}`experiment <exp-preconditioning>`), the root mean squared error at $\sigma = 20$ is 1.04 ± 0.08 standard deviations of the data for the first and 0.064 ± 0.003 for the second, where an answer with a random data point has about 1; at $\sigma = \frac13$ it is 0.054 ± 0.002 and 0.052 ± 0.001. The losses, too, weigh high noise differently: with losses exchanged, the errors at 20 are 0.44 ± 0.01 and 0.29 ± 0.01. The linear part is no explanation, for it is off by 0.54: the mean of these data is not 0.
#
# **Which levels, which solver?** {cite:t}`karras2022` spread the $S$ levels evenly in $\sigma^{1 / \rho}$ ($\rho = 1$ is even in $\sigma$, $\rho \to \infty$ in its logarithm),
#
# $$
# \sigma_i = \Big( \sigma_1^{1/\rho} + \frac{i - 1}{S - 1} \big( \sigma_S^{1/\rho} - \sigma_1^{1/\rho} \big) \Big)^{\rho} , \qquad i = 1, \dots, S .
# $$ (def-rho-levels)
#
# Heun's method calls the network twice a step. {numref}`fig-solvers` starts 1000 points of the ring at $\sigma_1 = 50$.


# %% tags=["figure"] mystnb={"image": {"alt": "Three falling curves of the error over the number of calls, on logarithmic axes. Two parallel lines for Euler's method, the one of rho 7 lower. The curve of Heun's method starts above both and ends far below."}, "figure": {"caption": "Median distance from the end of the exact flow, by calls of the (exact) denoiser; method and $\\rho$.", "name": "fig-solvers"}}
def noise_in(x_noisy, sigma):
    """The exact prediction of the noise in x + sigma noise, for the ring with unequal weights."""
    scale = (1 + sigma**2) ** -0.5
    return -sigma * scale * ring_score(scale * x_noisy, 2 * scale.log())


def solve(x, num, rho, heun=False):
    """Follow the ODE through num levels from sigma 50 to 0.03, and to 0."""
    levels = torch.linspace(50 ** (1 / rho), 0.03 ** (1 / rho), num).double() ** rho
    for sigma, then in zip(levels, [*levels[1:], torch.zeros(()).double()], strict=True):
        step, first = then - sigma, noise_in(x, sigma)
        if heun and then > 0:
            first = (first + noise_in(x + step * first, then)) / 2
        x = x + step * first
    return x


_ = torch.manual_seed(0)
x_T, scale = torch.randn(1000, 2).double(), 2501**0.5
ends = probability_flow(ring_score, x_T, [-math.log(2501), -1e-9], 1e-6, 1e-6)[-1]
calls, off_by = (11, 21, 41, 81), {}
for name, rho, heun in (("Euler, 3", 3, False), ("Euler, 7", 7, False), ("Heun, 7", 7, True)):
    reached = [solve(scale * x_T, (n + 1) // 2 if heun else n, rho, heun) for n in calls]
    off_by[name] = calls, [(x - ends).norm(dim=1).median().item() for x in reached]
fig = plots.curves(off_by, x_label="calls", y_label="median distance", log_x=True, log_y=True)
fig.axes[0].minorticks_off()
_ = fig.axes[0].set_xticks(calls, calls)
fig

# %% [markdown]
# In {numref}`fig-solvers` twice the calls halve the error of Euler's method. That of Heun's method is larger at first; from 21 to 41 calls it falls to less than a quarter. At 81 calls most of what is left is the error of the last step, from $\sigma = 0.03$ to 0, which is an Euler step for all three. (DPM-Solver++ {eq}`eq-second-order` takes the second slope from the step before, and needs no second call.)
#
# :::{depth-end}
# :::

# %% [markdown]
# (sec-score-wrong)=
# ## What goes wrong
#
# **The score without its factor.** If $-\varepsilon_\theta$ takes the place of the score, each step along it is too short by the factor $\sqrt{1 - \bar\alpha_t}$ (0.01 at the first of the thousand times), and Langevin dynamics samples $q(x_t)$ to the power of that factor: for Gaussian data at $t = 100$, with three times the variance.
#
# **An ODE from the wrong noise.** The ODE carries an error at its start to the end; the SDE mostly forgets it. With the exact denoiser of the unequal ring, from noise of standard deviation 1 and 1.2:

# %% tags=["numbers", "columns"]
t, h = 100, 0.05
factor, V = schedule.noise_var[t] ** 0.5, schedule.alpha_bar[t] * 0.25 + schedule.noise_var[t]
_ = torch.manual_seed(0)
*_, x = langevin_sample(lambda x: -factor * x / V, V**0.5 * torch.randn(2000, 1).double(), h, 200)
assert 2.7 * V < x.var() < 3.6 * V  # of the score without its factor

_ = torch.manual_seed(0)
noise, more = torch.randn(4000, 2).double(), {}
print("in a wrong mode      from std 1  from std 1.2")
for name, sampler in {"ODE, 100 steps": ddim_sample, "SDE, 100 steps": ddpm_sample}.items():
    wrong = [ring_report(list(sampler(uneven_hat, s, std * noise))[-1])[0] for std in (1.0, 1.2)]
    print(f"{name:17}  {wrong[0]:12.1%}  {wrong[1]:12.1%}")
    more[name] = wrong[1] - wrong[0]
assert more["ODE, 100 steps"] > 0.02 > more["SDE, 100 steps"]

# %% [markdown]
# :::{dropdown} If you come from the lectures
# Some lectures set the predicted noise equal to minus the score, without the factor $\sqrt{1 - \bar\alpha_t}$ (E11 of the {doc}`errata </book/errata>`). In {cite:t}`song2019` the step size of annealed Langevin dynamics is $\alpha_i$, its base $\epsilon$ and the number of steps $T$, letters which mean other things in this book.
# :::

# %% [markdown]
# (sec-score-exercises)=
# ## Exercises
#
# Replace the three dots by your answer and run the cell.

# %% [markdown]
# ```{exercise-start} Two ways to add noise
# :label: ex-two-noises
# ```
# `score(x, sigma)` is the score of the data with noise of standard deviation `sigma` added. Use it to write the score of $x_t$ in a diffusion, where $\bar\alpha_t$ is `alpha_bar`.


# %% tags=["answer", "nbval-check-output"]
def diffusion_score(score, x_t, alpha_bar):
    return ...


exercises.check_diffusion_score(diffusion_score)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-two-noises
# :label: ex-two-noises-solution
# :class: dropdown
# ```
# $x_t / \sqrt{\bar\alpha_t} = x + \sigma \varepsilon$ with $\sigma^2 = (1 - \bar\alpha_t) / \bar\alpha_t$. By the chain rule the gradient with respect to $x_t$ is that with respect to $x_t / \sqrt{\bar\alpha_t}$, divided by $\sqrt{\bar\alpha_t}$.


# %% tags=["nbval-check-output"]
def diffusion_score(score, x_t, alpha_bar):
    sigma = ((1 - alpha_bar) / alpha_bar) ** 0.5
    return score(x_t / alpha_bar**0.5, sigma) / alpha_bar**0.5


exercises.check_diffusion_score(diffusion_score)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} A step small enough
# :label: ex-small-step
# ```
# The finest detail of some data is Gaussian with standard deviation 0.1. Langevin dynamics should make its variance too large by at most one percent. What is the largest step size $h$?

# %% tags=["answer", "nbval-check-output"]
answer = ...
exercises.check_small_step(answer)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-small-step
# :label: ex-small-step-solution
# :class: dropdown
# ```
# By {eq}`eq-langevin-bias`, $1 / (1 - h / 4 s^2) = 1.01$.

# %% tags=["nbval-check-output"]
exercises.check_small_step(4 * 0.1**2 * (1 - 1 / 1.01))

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} The drift on the way back
# :label: ex-reverse-drift
# ```
# A particle is at `x`, where the score is `score`. It moves towards the data by {eq}`eq-reverse-sde`, with the parameter `eta`. Write its drift, per unit of $r = \log \bar\alpha$.


# %% tags=["answer", "nbval-check-output"]
def reverse_drift(x, score, eta):
    return ...


exercises.check_reverse_drift(reverse_drift)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-reverse-drift
# :label: ex-reverse-drift-solution
# :class: dropdown
# ```
# It is the first part of {eq}`eq-reverse-sde`. The check has Gaussian data, for which the variance must be right at all times.


# %% tags=["nbval-check-output"]
def reverse_drift(x, score, eta):
    return x / 2 + (1 + eta**2) / 2 * score


exercises.check_reverse_drift(reverse_drift)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} A velocity from a score
# :label: ex-velocity
# ```
# On the straight lines $x_u = (1 - u)\, x + u\, \varepsilon$, let `score` be the gradient of the log-density of $x_u$ at `x_u`. Write the velocity $\mathbb{E}[\varepsilon - x \mid x_u]$.


# %% tags=["answer", "nbval-check-output"]
def velocity_from_score(x_u, u, score):
    return ...


exercises.check_velocity_from_score(velocity_from_score)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-velocity
# :label: ex-velocity-solution
# :class: dropdown
# ```
# As in {eq}`eq-noise-is-score` the noise is $-u$ times the score. It gives $\hat{x} = (x_u + u^2 \nabla \log q) / (1 - u)$, and then {eq}`eq-flow-velocity`.


# %% tags=["nbval-check-output"]
def velocity_from_score(x_u, u, score):
    return -(x_u + u * score) / (1 - u)


exercises.check_velocity_from_score(velocity_from_score)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} A flow network in a sampler of diffusion
# :label: ex-flow-network
# ```
# `velocity(x_u, u)` is a network that was trained by flow matching. A sampler of chapter 11 wants the predicted noise at `x_t`, where the signal has the share `alpha_bar` of the variance. Write it: which $u$ belongs to $\bar\alpha_t$, and what is the network given?


# %% tags=["answer", "nbval-check-output"]
def noise_from_velocity(velocity, x_t, alpha_bar):
    return ...


exercises.check_noise_from_velocity(noise_from_velocity)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-flow-network
# :label: ex-flow-network-solution
# :class: dropdown
# ```
# From $\sqrt{\bar\alpha_t} = (1 - u) / c$ and $\sqrt{1 - \bar\alpha_t} = u / c$ the sum of the two roots is $1 / c$. The network is given $x_u = c\, x_t$. With the velocity $\varepsilon - x$ the straight line is $x_u = \varepsilon - (1 - u)\, (\varepsilon - x)$, so the noise is $x_u$ plus $1 - u$ times the velocity.


# %% tags=["nbval-check-output"]
def noise_from_velocity(velocity, x_t, alpha_bar):
    c = 1 / (alpha_bar**0.5 + (1 - alpha_bar) ** 0.5)
    u = c * (1 - alpha_bar) ** 0.5
    return c * x_t + (1 - u) * velocity(c * x_t, u)


exercises.check_noise_from_velocity(noise_from_velocity)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} A preconditioned network
# :label: ex-preconditioned
# ```
# `F` is a network of one argument. Make the estimate of the image at `x_noisy`, data plus noise of standard deviation `sigma`; the data have the standard deviation `of_data`.


# %% tags=["answer", "nbval-check-output"]
def preconditioned_estimate(F, x_noisy, sigma, of_data):
    return ...


exercises.check_preconditioned_estimate(preconditioned_estimate)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-preconditioned
# :label: ex-preconditioned-solution
# :class: dropdown
# ```
# Insert {eq}`eq-preconditioning` into {eq}`def-preconditioned`. A network that answers 0 gives the best linear estimate.


# %% tags=["nbval-check-output"]
def preconditioned_estimate(F, x_noisy, sigma, of_data):
    size = (of_data**2 + sigma**2) ** 0.5
    return (of_data / size) ** 2 * x_noisy + sigma * of_data / size * F(x_noisy / size)


exercises.check_preconditioned_estimate(preconditioned_estimate)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# (sec-score-summary)=
# ## Summary
#
# - The score needs no normalizing constant, and regression on the noise learns it {eq}`eq-denoising-score-matching`.
# - With little noise a score is local; noise at many levels joins the modes.
# - Noise moves a density as a velocity of $- \frac12 g^2$ times the score does. Turned around, it is an ODE with the same marginals; with noise added, the reverse SDE {eq}`eq-reverse-sde`. DDIM is Euler's method for the ODE {eq}`eq-ddim-euler`.
# - The ODE's likelihood is computed {eq}`eq-flow-likelihood`; the SDE has an ELBO: the loss of the noise, uniform in $\log \mathrm{SNR}$ {eq}`eq-score-bound`.
# - Flow matching is the same in other coordinates {eq}`eq-flow-matching`. One-step models learn the average velocity {eq}`eq-mean-flow`.
