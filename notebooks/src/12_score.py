# %% [markdown]
# # The score
#
# A network that was trained to remove noise also knows in which direction noisy data become more likely. That direction is the *score*, the gradient of the log-density of the noisy data. Below, five particles follow it from the noise to the data, twice from the same places: on the left without any noise on the way, on the right with noise injected at each step.

# %% tags=["setup", "hide-input"]
# The set-up cell: `make sync` writes it.

# %% tags=["unseen"]
import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from companion import data
from companion.denoisers import MixtureDenoiser
from companion.page import plots
from companion.page.plots.style import COLORS
from companion.samplers import ddim_sample, ddpm_sample
from companion.schedule import linear_schedule

# %% tags=["serves"]
shapes = data.toy_density("mixture").component_distribution
centers, covs = shapes.mean.double() / 2, torch.diag_embed(shapes.variance).double() / 4
lopsided = torch.tensor([8.0, 4, 2, 1, 1, 2, 4, 8]).double() / 30
s = linear_schedule(100, 1e-3, 0.2)
uneven_hat = MixtureDenoiser(s, lopsided, centers, covs)  # exact, and so is its score
ring_score = uneven_hat.score_at_level

# %% tags=["serves"]
_ = torch.manual_seed(2)
starts = torch.tensor([[-1.6, 1.2], [1.2, 1.7], [-0.6, -1.7], [1.7, -1.2], [0, 0.1]]).double()
last_55 = s.strided(range(1, 56))
rides = {"no noise": list(ddim_sample(uneven_hat, last_55, starts))}
rides["fresh noise"] = list(ddpm_sample(uneven_hat, last_55, starts))

# %% tags=["figure"] mystnb={"image": {"alt": "Two panels with the same eight modes on a ring, the right ones dark and the left ones pale, and the same arrows that point to the ring. On the left five smooth paths lead from five points to modes nearby. On the right five jagged paths from the same points, some of which end in other modes."}, "figure": {"caption": "Five particles on their way from noise (circles) to data (dots). Shaded: the density of the data, a ring of eight modes with unequal weights. Arrows: the score of the data with some noise.", "name": "fig-two-rides"}}
uneven = MixtureSameFamily(Categorical(lopsided), Independent(Normal(centers, 0.125), 1))
fig, panels = plots.figure(2, height=3.7)
for panel, (name, film) in zip(panels, rides.items(), strict=True):
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
# In {numref}`fig-two-rides` the particles end at different places on the left and on the right. Yet both ways are correct: with the exact score and small steps, particles that start with the distribution of the noisy data end with the distribution of the data, on the left and on the right {eq}`eq-reverse-sde`. (On the web you can try both in {numref}`fig-noise-or-not`, also with these weights.) We first read the networks of the last chapters as scores. Then we learn a score without any chain of latents, and sample with nothing else. At the end the samplers of chapter 11 turn out to be discrete steps of two differential equations, one of which also gives an exact likelihood.

# %% [markdown]
# (sec-score-view)=
# ## The noise is the score
#
# In the last chapters a network predicted the noise. {ref}`Chapter 1 <sec-denoising>` found that a denoiser also gives the gradient of the log-density of noisy data, their {term}`score` {eq}`eq-score`. For the best prediction of the noise, $\varepsilon^*(x_t, t) = \mathbb{E}[\varepsilon \mid x_t]$, this says in the notation of diffusion, and for any data,
#
# $$
# \varepsilon^*(x_t, t) = - \sqrt{1 - \bar\alpha_t}\;\, \nabla \log q(x_t) ,
# $$ (eq-noise-is-score)
#
# where the gradient is with respect to $x_t$. The predicted noise and $x_t$ together give the estimated image, so the same fact can be written for the image ({term}`Tweedie's formula`):
#
# $$
# \mathbb{E}[x \mid x_t] = \frac{x_t + (1 - \bar\alpha_t)\, \nabla \log q(x_t)}{\sqrt{\bar\alpha_t}} .
# $$ (eq-tweedie)
#
# :::{dropdown} Proof
# $q(x_t) = \int q(x)\, \mathcal{N}(x_t; \sqrt{\bar\alpha_t}\, x, (1 - \bar\alpha_t) I)\, \mathrm{d}x$. The gradient of the Gaussian density is itself times $- (x_t - \sqrt{\bar\alpha_t}\, x) / (1 - \bar\alpha_t) = - \varepsilon / \sqrt{1 - \bar\alpha_t}$. So $\nabla q(x_t)$ is $q(x_t)$ times the mean of that, given $x_t$. Divide by $q(x_t)$. $\square$
# :::
#
# The factor is easily lost (E11 of the {doc}`errata </book/errata>`), as we saw in one dimension at {eq}`eq-noise-score`. At $t = 1$ of the thousand steps the factor is 0.01, so without it the score is wrong by a factor of a hundred.
#
# **Check.** $\varepsilon^*$ of a mixture is computed by Bayes' rule, and the score by automatic differentiation of its log-density, at eight points for each of five times. The check rejects the score without its factor (E11) and, in Tweedie's formula, the root in place of $1 - \bar\alpha_t$.

# %% tags=["unseen"]
import math
from functools import partial
from itertools import pairwise

from torch.distributions import MultivariateNormal

from companion.data import Batches, to_symmetric, to_unit
from companion.ddpm import Ddpm, denoising_loss
from companion.denoisers import NoisePredictor
from companion.flows import (
    Flow,
    flow_matching_loss,
    flow_sample,
    flow_velocity,
    line_time,
    ode_log_prob,
    probability_flow,
    straight_line,
)
from companion.mean_flows import along_flow, mean_flow_loss, mean_flow_sample
from companion.networks.mlp import TimeMlp
from companion.page.exercises import score as exercises
from companion.page.live import watch
from companion.page.show import show
from companion.page.sliders import Film, Slider
from companion.page.verify import autograd, exact, monte_carlo, verify
from companion.schedule import cosine_schedule, mean_from_x_0, noise_from_x_0, x_0_from_v

# %% tags=["unseen"]
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
from companion.zoo.comparisons import spaced_samplers
from companion.zoo.weights import load_record
from companion.zoo.yardstick import unrecognized
from companion.zoo.yourself import cost, train_it, use

# %% tags=["serves"]
_ = torch.manual_seed(0)
schedule = linear_schedule(1000)  # in double precision
weights = torch.tensor([0.5, 0.3, 0.2]).double()
means = torch.tensor([[1.0, 0.5], [-1.0, 0.0], [0.3, -1.0]]).double()
factors = torch.tensor([[[0.4, 0], [0.2, 0.3]], [[0.3, 0], [0, 0.5]], [[0.2, 0], [-0.2, 0.3]]])
three_covs = (factors @ factors.mT).double()
mixture = MixtureSameFamily(Categorical(weights), MultivariateNormal(means, three_covs))
mixture_hat = MixtureDenoiser(schedule, weights, means, three_covs)
times = torch.tensor([1, 30, 200, 500, 1000])
places = torch.randn(5, 8, 2).double()

# %% tags=["serves"]
best, scores, hats = [], [], []
for t, x_t in zip(times, places, strict=True):
    alpha_bar, var = schedule.alpha_bar[t], schedule.noise_var[t]
    hats += [mixture_hat(x_t, t.expand(8))]
    best += [noise_from_x_0(schedule, x_t, t, hats[-1])]
    scores += [exact_score(noisy_mixture(mixture, alpha_bar**0.5, var).log_prob, x_t)]
best, scores, hats = map(torch.stack, (best, scores, hats))
var = schedule.noise_var[times].view(5, 1, 1)

# %% tags=["check", "nbval-check-output"]
rule = exact.within(1e-12)
verify("eq-noise-is-score", best, -(var**0.5) * scores, rule, rejects={"E11": -scores})
root = (1 - var) ** 0.5
wrong = {"a root too many": (places + var**0.5 * scores) / root}
rule = exact.within(1e-10)
verify("eq-tweedie", hats, (places + var * scores) / root, rule, rejects=wrong)

# %% [markdown]
# Where is the score in the samplers? Replace $\varepsilon_\theta$ by the score. Line 4 of {prf:ref}`alg-ddpm-sampling` becomes
#
# $$
# x_{t-1} = \frac{1}{\sqrt{\alpha_t}} \big( x_t + \beta_t\, \nabla \log q(x_t) \big) + \sigma_t\, \xi .
# $$ (eq-line-four-score)
#
# The step goes in the direction in which noisy data become more likely, and adds noise.
#
# **Check.** The mean of this step is compared with the posterior mean {eq}`eq-denoising-posterior` at the denoiser of the mixture, at the same points. The check rejects a step of half the length, and the score of E11.

# %% tags=["serves"]
steps = zip(times, places, hats, strict=True)
means_down = torch.stack([mean_from_x_0(schedule, x_t, t, x_hat) for t, x_t, x_hat in steps])
alpha, beta = (values[times].view(5, 1, 1) for values in (schedule.alpha, schedule.beta))


def uphill(share):
    return (places + share * beta * scores) / alpha**0.5


# %% tags=["check", "nbval-check-output"]
wrong = {"half": uphill(0.5), "E11": uphill(var**-0.5)}
verify("eq-line-four-score", means_down, uphill(1.0), exact.within(1e-10), rejects=wrong)

# %% [markdown]
# **What you can say now.** Predicted noise, denoised image and score are three forms of one function. The factor between noise and score is $-\sqrt{1 - \bar\alpha_t}$.
#
# *Sources: B29.*

# %% [markdown]
# (sec-train-score)=
# ## Train it yourself
#
# So a network that is trained to predict noise learns a score. You can train one here, for points on the ring of eight equal modes, by the recipe of the network of the plane ({ref}`chapter 10 <sec-algorithm-1>`). At small scale the training takes only the first steps, at most 20 seconds on two cores; `train_it("ddpm-toy2d", "full")` takes all 6000, a minute or two on a CPU.

# %%
print(cost("ddpm-toy2d"))

# %%
mine = watch(train_it("ddpm-toy2d"))

# %% tags=["held", "nbval-check-output"]
first, last = torch.tensor(mine.losses).unfold(0, 20, 20)[[0, -1]].mean(1)
print("the loss fell by more than half:", bool(last < 0.5 * first))

# %% [markdown]
# The next section uses the shipped weights. Set `MINE = True` if it should use yours.

# %% tags=["nbval-check-output"]
MINE = False  # True: the next section uses your weights
if MINE:
    use("ddpm-toy2d", mine.model)
toy = pretrained("ddpm-toy2d")
print("weights of ddpm-toy2d:", "yours" if MINE else "the shipped ones")

# %% [markdown]
# (sec-learned-score)=
# ## The score of a trained network
#
# Such a network is a *score model*, although no density occurred in its training. {numref}`fig-score-field` draws the score of the network of the plane at three times, over the density of the noisy data. (The arrows are scaled in each panel; in truth they get shorter with more noise.)

# %% tags=["serves"]
learned = score_from_denoiser(toy.denoiser, s)
component = Independent(Normal(centers, 0.125), 1)
even = MixtureSameFamily(Categorical(torch.ones(8).double() / 8), component)

# %% tags=["figure"] mystnb={"image": {"alt": "Three panels of arrows over a density. At the earliest time the arrows point to the nearest of eight small dark modes; at the next to a broad ring; at the last all point to the center of one round cloud."}, "figure": {"caption": "The score of the trained network of the plane, at three of its hundred times. With little noise it points to the nearest mode, with much noise to the center.", "name": "fig-score-field"}}
fig, panels = plots.figure(3, height=2.9)
for t, panel in zip((3, 12, 30), panels, strict=True):
    noisy = noisy_mixture(even, s.alpha_bar[t] ** 0.5, s.noise_var[t])
    _ = plots.vector_field(
        lambda x, t=t: learned(x.float(), torch.full((len(x),), t)),
        (-1.7, 1.7, -1.7, 1.7),
        log_prob=lambda x, noisy=noisy: noisy.log_prob(x.double()),
        num=9,
        x_label=f"$x_1$ at $t = {t}$",
        axes=panel,
    )
fig

# %% [markdown]
# The arrows are like those of the denoising autoencoder in {ref}`chapter 1 <sec-denoising>`. Here the true score is known, so the error of the learned one can be measured:

# %% tags=["numbers"]
print("   t   error of the learned score, relative to its size")
for t in (3, 12, 30):
    noisy = noisy_mixture(even, s.alpha_bar[t] ** 0.5, s.noise_var[t])
    x_t = noisy.sample((2000,)).double()
    true = exact_score(noisy.log_prob, x_t)
    off = learned(x_t.float(), torch.full((2000,), t)).double() - true
    relative = (off.square().mean() / true.square().mean()).sqrt()
    print(f"{t:4} {relative:12.3f}")
    assert relative < 0.4

# %% [markdown]
# The relative error of this network is largest at the earliest time.
#
# **What you can say now.** A denoiser that was trained on data is a score model.

# %% [markdown]
# (sec-score-matching)=
# ## Learning a score
#
# A score can also be learned directly, without a chain of latents. From here on the noise is added to the data themselves, $\tilde{x} = x + \sigma \varepsilon$, and not to $\sqrt{\bar\alpha_t}\, x$; {ref}`ex-two-noises` translates. Write $p_\sigma$ for the distribution of $\tilde{x}$. We want its score, but have only data. For each noisy point we do know the score of the noise that was added, $\nabla \log \mathcal{N}(\tilde{x}; x, \sigma^2 I) = -\varepsilon / \sigma$, and regression on that is enough. By {cite:t}`vincent2011`, for every model $s_\theta$,
#
# $$
# \mathbb{E} \Big\lVert s_\theta(\tilde{x}) + \frac{\varepsilon}{\sigma} \Big\rVert^2 = \mathbb{E} \big\lVert s_\theta(\tilde{x}) - \nabla \log p_\sigma(\tilde{x}) \big\rVert^2 + \text{a constant} , \qquad \tilde{x} = x + \sigma \varepsilon .
# $$ (eq-denoising-score-matching)
#
# This is {eq}`eq-excess-error` for scores. The constant is the mean squared error of the best model: the part of the noise that $\tilde{x}$ does not determine. So *denoising score matching*, regression on $-\varepsilon / \sigma$, fits the score of the noisy data, although this score never occurs in the loss.
#
# **Check.** The losses of two wrong models are subtracted, so that the constant drops out, and the difference is compared on both sides. The check rejects a difference of zero, and one of half the size.

# %% tags=["serves"]
_ = torch.manual_seed(0)
sigma, x = 0.4, uneven.sample((100_000,))
noise = torch.randn_like(x)
true = exact_score(noisy_mixture(uneven, 1.0, sigma**2).log_prob, x + sigma * noise)


def both_sides(s_theta):
    return (s_theta + noise / sigma).square().sum(1), (s_theta - true).square().sum(1)


(left, direct), (left_2, direct_2) = both_sides(0.3 * true), both_sides(true + 0.5)
differences = left - left_2 - (direct - direct_2)

# %% tags=["check", "nbval-check-output"]
gap, zero = (direct_2 - direct).mean(), torch.zeros(()).double()
wrong = {"no difference": gap, "half": gap / 2}
verify("eq-denoising-score-matching", differences, zero, monte_carlo, rejects=wrong)

# %% [markdown]
# Now we train a model on the ring with unequal weights of {numref}`fig-two-rides`. Sampling will need the score at high and at low noise, so one small perceptron learns ten levels, from $\sigma_1 = 3$ to $\sigma_L = 0.05$. Its inputs are $\tilde{x}$ and $\log \sigma$. Each point gets a random level, and its loss is the left side of {eq}`eq-denoising-score-matching` times $\sigma^2 / 2$, so that all levels count alike.


# %%
def train_score(model, loss, epochs):
    """Fit a model of the scores of the lopsided ring, with a falling learning rate."""
    batches = Batches(uneven.sample((20_000,)).float(), batch_size=500, num_epochs=epochs)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3, fused=True)
    for step in fit(model, loss, batches, optimizer):
        optimizer.param_groups[0]["lr"] = 5e-3 * (1 - 0.98 * step.number / (40 * epochs))
    return step


_ = torch.manual_seed(0)
levels = geometric_noise_levels(3.0, 0.05, 10)
score_model = NoiseConditionalScore(TimeMlp(2, (64, 64), 32), levels)
step = train_score(score_model, denoising_score_matching_loss, 15)
print(f"{step.number} steps, loss of the last batch {step.loss:.3f}")

# %% [markdown]
# **What you can say now.** Denoising score matching learns the score of noisy data by regression on the noise, at all levels of noise with one network.

# %% [markdown]
# (sec-langevin)=
# ## Sampling with a score alone
#
# How does one sample with a score? **Langevin dynamics** takes a small step along the score of a density $p$ and adds noise, again and again. With a step size $h$,
#
# $$
# x \;\leftarrow\; x + \frac{h}{2}\, \nabla \log p(x) + \sqrt{h}\; \xi , \qquad \xi \sim \mathcal{N}(0, I) .
# $$ (def-langevin)
#
# After many small steps $x$ has nearly the distribution $p$, from any start. For a finite $h$ there is an error that no number of steps removes. If $p$ is Gaussian with standard deviation $s$, the variance settles at
#
# $$
# \frac{s^2}{1 - h / (4 s^2)} ,
# $$ (eq-langevin-bias)
#
# which is more than $s^2$. For $h \ge 4 s^2$ the variance never settles.
#
# :::{dropdown} Proof
# A step is $x \leftarrow (1 - h / 2 s^2)\, x + \sqrt{h}\, \xi$. The variance $W$ settles where $W = (1 - h / 2 s^2)^2\, W + h$, so $W \big( h / s^2 - h^2 / 4 s^4 \big) = h$. For $h \ge 4 s^2$ the slope is $-1$ or below, and the variance grows forever. $\square$
# :::
#
# **Check.** 200,000 points start with this variance, and three steps must leave it as it is. The check rejects the variance $s^2$, and a bias of half the size.

# %% tags=["serves"]
_ = torch.manual_seed(0)
s2, h = torch.tensor(0.5).double(), 0.4
settled = s2 / (1 - h / (4 * s2))
x = settled**0.5 * torch.randn(200_000).double()
*_, x = langevin_sample(lambda x: -x / s2, x, h, 3)

# %% tags=["check", "nbval-check-output"]
wrong = {"no bias": s2, "half of it": s2 / (1 - h / (8 * s2))}
verify("eq-langevin-bias", x**2, settled, monte_carlo, rejects=wrong)
for h in (0.4, 0.04, 0.004):
    print(f"h = {h:5}: {1 / (1 - h / (4 * s2)) - 1:.2%} too much variance")

# %% [markdown]
# There is a second problem. Between separate modes with little noise the density is next to zero, so a chain of small steps hardly ever gets from one to another; and there the score of components of one width points to the nearest mode, whatever its weight. Then the modes can get wrong shares, as the ring with *unequal* weights will show.
#
# {cite:t}`song2019` propose a fix. Add so much noise to the data that all modes merge into one; in it the chain moves freely. Then lower the noise level by level, and let the chain settle at each: *annealed* Langevin dynamics.
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
# (In the paper the step size is $\alpha_i$, its base $\epsilon$ and the number of steps $T$.)
#
# We sample 1500 points in three ways, with the same number of steps: annealed with the score that was just learned, annealed with the exact one, and at the last level alone with the exact one.


# %%
@torch.no_grad()
def exact_at_sigma(x, sigma):
    """The score of the lopsided ring with noise sigma, the same for all points."""
    noisy = noisy_mixture(uneven, 1.0, sigma[0].double() ** 2)
    return exact_score(noisy.log_prob, x.double()).float()


_ = torch.manual_seed(1)
walkers, ended = 3 * torch.randn(1500, 2), {}
for name, score_at in {"annealed, learned": score_model, "annealed, exact": exact_at_sigma}.items():
    *_, ended[name] = annealed_langevin_sample(score_at, walkers, levels, 1e-3, 30)
finest = noisy_mixture(uneven, 1.0, 0.05**2)
*_, ended["last level, exact"] = langevin_sample(
    partial(exact_score, finest.log_prob), walkers.double(), 1e-3, 300
)

# %% tags=["figure"] mystnb={"image": {"alt": "Three panels. Left, annealed with the learned score: a ring of eight clusters, dense at the right, thin and smeared at the left. Middle, annealed with the exact score: the same, with sharp clusters. Right, last level only: eight round clusters, about equally dense."}, "figure": {"caption": "Annealed Langevin dynamics with a learned and with the exact score, and Langevin dynamics at the last level with the exact score, which makes all modes about equally heavy.", "name": "fig-langevin"}}
box = (-2, 2, -2, 2)
fig, panels = plots.figure(3, height=2.7)
for panel, (name, points) in zip(panels, ended.items(), strict=True):
    _ = plots.scatter(points, x_label=f"$x_1$, {name}", y_label="$x_2$", bounds=box, axes=panel)
fig

# %% [markdown]
# All panels of {numref}`fig-langevin` have points in all eight modes. Three numbers say how good the samples are: the share of points in a wrong mode (half the sum of the absolute errors of the shares); the share of outliers, farther than four standard deviations from every center; and the variance around the nearest center, relative to that of a mode (by the median of the distances).


# %%
def ring_report(points, noise_var=0.0):
    """Share in a wrong mode, share of outliers, relative variance by the median."""
    points, mode_var = points.double(), 0.125**2 + noise_var
    distance, nearest = (points[:, None] - centers).square().sum(2).min(1)
    share = torch.bincount(nearest, minlength=8) / len(points)
    wrong = 0.5 * (share - lopsided).abs().sum().item()
    outliers = (distance > 16 * mode_var).double().mean().item()
    return wrong, outliers, (distance.median() / (2 * math.log(2) * mode_var)).item()


reports = {name: ring_report(points, 0.05**2) for name, points in ended.items()}
for name, (wrong, outliers, width) in reports.items():
    print(f"{name:18} wrong {wrong:6.1%}, outliers {outliers:5.1%}, variance {width:4.2f}")

# %% tags=["held", "nbval-check-output"]
(by_learned, by_exact, by_last) = reports.values()
print("annealed: less than 15 percent in the wrong mode:", max(by_learned[0], by_exact[0]) < 0.15)
print("last level only: more than 25 percent:", by_last[0] > 0.25)
print("outliers: fewer with the exact score:", by_exact[1] < by_learned[1])

# %% [markdown]
# At the last level alone the shares of the modes are wrong in this run, although the score is exact; annealed they are nearly right. The first two panels differ in nothing but the score, and the exact one leaves hardly any outliers: the smeared clusters come from the errors of this small network. All samplers of this book begin with so much noise that there is only one mode.
#
# **What you can say now.** A score that is known at all levels of noise is enough for sampling. At the lowest level alone, even the exact score of the ring gave its modes wrong shares.

# %% [markdown]
# (sec-score-of-digits)=
# ## Digits by Langevin dynamics
#
# Does this work for images? The network of chapter 11 estimates a digit at every level of noise, so it gives a score of digits at every level. Noise of standard deviation $\sigma$ belongs to the time at which $\bar\alpha_t = 1 / (1 + \sigma^2)$, and Tweedie's formula turns $\hat{x}$ into the score. (`noise_conditional_score` does the same in the companion.) We take 60 levels from $\sigma_1 = 20$, about the distance between two digits, to $\sigma_L = 0.05$, a fortieth of the range of the pixels.
#
# First, how good is this score at each level? The table has the squared error of the predicted noise $-\sigma s_\theta$ per pixel, for 100 test digits. Its last column is the error of the best *linear* estimate, which needs no network: the mean of $\lambda_j / (\lambda_j + \sigma^2)$ over the eigenvalues $\lambda_j$ of the covariance of the training digits {eq}`eq-linear-bound`.

# %%
train, test = data.load("mnist", "train"), data.load("mnist", "test")
digit_denoiser, digit_schedule = pretrained("ddpm-mnist-joint").denoiser, cosine_schedule(1000)
sigmas = geometric_noise_levels(20.0, 0.05, 60).float()


def time_of(sigma):
    """The time whose noise is nearest to sigma, on the scale of its logarithm."""
    return (digit_schedule.log_snr[1:] + 2 * sigma.log()).abs().argmin() + 1


@torch.no_grad()
def digit_score(x, sigma):
    """The score of digits with noise sigma, the same for all."""
    t = time_of(sigma[0])
    x_hat = digit_denoiser(digit_schedule.alpha_bar[t].float() ** 0.5 * x, t.expand(len(x)))
    return (x_hat - x) / sigma[0] ** 2


# %% tags=["numbers", "columns"]
_ = torch.manual_seed(0)
x = to_symmetric(test.images[:100])
noise = torch.randn_like(x)
cov = torch.cov(to_symmetric(train.images[:10_000]).flatten(1).T.double())
eigenvalues = torch.linalg.eigvalsh(cov).clamp(min=0)
print("sigma      network       linear")
for sigma in (20.0, 8.0, 3.0, 1.0, 0.3):
    noise_hat = -sigma * digit_score(x + sigma * noise, torch.full((100,), sigma))
    error = (noise_hat - noise).square().mean().item()
    linear = (eigenvalues / (eigenvalues + sigma**2)).mean().item()
    print(f"{sigma:5.1f} {error:12.5f} {linear:12.5f}")

# %% [markdown]
# At $\sigma$ of 20 and 8 the linear estimate is about as good as this network. From $\sigma = 3$ down the network is better, and the more so the less noise there is.
#
# Now we sample in four ways. In the first row, 16 chains start in noise of standard deviation $\sigma_1$ and take three Langevin steps at each level. At the end noise of the last level is left; one more use of Tweedie's formula removes it, $x + \sigma_L^2\, s_\theta(x)$. In the second row the same network takes the steps of Algorithm 2 ({prf:ref}`alg-ddpm-sampling`) through the same 60 levels, one call at each. In the third row eight chains take 180 steps of Langevin dynamics, all at the last level and with its small step size; they start in noise of standard deviation 1. In the fourth row the same chains follow the *exact* score of that level, for 10,000 training digits as the data: Tweedie's formula with their exact posterior mean.

# %%
atoms = to_symmetric(train.images[:10_000]).flatten(1)


def finest_exact_score(x):
    """The score of the training digits with the noise of the last level."""
    squared = torch.cdist(x.flatten(1), atoms).square()
    weight = (-squared / (2 * 0.05**2)).softmax(1)  # p(digit | x)
    return ((weight @ atoms).view_as(x) - x) / 0.05**2


size = 0.5 * 0.05**2
_ = torch.manual_seed(1)
walkers = torch.randn(16, 1, 28, 28)
film_of_score = list(annealed_langevin_sample(digit_score, 20 * walkers, sigmas, size, 3))
last_sigma = sigmas[-1:].expand(16)
by_score = {"Langevin": film_of_score[-1] + 0.05**2 * digit_score(film_of_score[-1], last_sigma)}
of_levels = torch.stack([time_of(sigma) for sigma in sigmas.flip(0)]).unique()
*_, by_score["Algorithm 2"] = ddpm_sample(
    digit_denoiser, digit_schedule.strided(of_levels), walkers
)
finest_score = partial(digit_score, sigma=last_sigma[:8])
scores = {"last level": finest_score, "exact": finest_exact_score}
for name, of_last in scores.items():
    *_, x = langevin_sample(of_last, walkers[:8], size, 3 * len(sigmas))
    by_score[name] = x + 0.05**2 * of_last(x)

# %% tags=["figure"] mystnb={"image": {"alt": "Four rows of eight images. First and second row: digits, most of them clear. Third row: black and white everywhere, short thick strokes without any order. Fourth row: clear digits."}, "figure": {"caption": "One learned score of digits: annealed Langevin dynamics in 180 calls, Algorithm 2 at the same levels in 60, and Langevin dynamics at the last level only: the network makes strokes but no digits, the exact score of the training digits makes digits.", "name": "fig-langevin-digits"}}
plots.image_rows({name: to_unit(x[:8]) for name, x in by_score.items()}, tile=0.8)

# %% [markdown]
# How many images of {numref}`fig-langevin-digits` are not digits? The two judges of {ref}`chapter 10 <sec-ddpm-samples>` decide; the table also has the share of white pixels.

# %% tags=["numbers"]
views = {name: to_unit(x) for name, x in by_score.items()}
views["real digits"] = test.images[::10]  # from all of them: the first half is neater
white = {name: (x > 0.5).double().mean().item() for name, x in views.items()}
not_recognized = {name: unrecognized(x) for name, x in views.items()}
for name, (share, error, _) in not_recognized.items():
    print(f"{name:11} not recognized: {share:4.0%} +- {error:3.0%}, white: {white[name]:3.0%}")
apart = 2 * (test.images[:100] - test.images[100:200]).flatten(1).norm(dim=1).mean()
print(f"two digits are {apart:.0f} apart, on average")

# %% tags=["held", "nbval-check-output", "mnist"]
for name in ("Langevin", "Algorithm 2"):
    print(
        f"{name}: much less white than the last level alone:",
        white[name] < 0.75 * white["last level"],
    )
fewer = not_recognized["Langevin"].below(not_recognized["last level"])
print("more are digits with all levels, say both judges:", fewer)
print("last level: hardly any is:", not_recognized["last level"].value > 0.85)
print("with the exact score most are:", not_recognized["exact"].value < 0.3)

# %% [markdown]
# At the finest level alone the network makes strokes and no digits, and the exact score copies: 100 % of the chains of the exact score end at the training digit that is nearest to their start. Over three seeds, and with 20,000 training digits for the exact score ({ref}`experiment <exp-finest-level>`), 98.3 % of the images of the network are not recognized, in excess over real digits, and −1.7 % of those of the exact score; four times the steps, or steps of a quarter or four times the size, change none of this. Yet the network has learned the level: started at test digits with the noise of that level, −1.7 % of the images of the same network are not recognized. Started at the same digits with noise of standard deviation 1, which the label denies, 95.1 ± 1.8 % are not, and through all levels in as many calls from pure noise 4.5 ± 1.8 %.
#
# So the network's score is good where $x$ has the noise that the label says, as in annealing; and an exact score at the finest level alone chooses by nearness to the start and not by the shares of the data. (On {ref}`the ring <sec-langevin>` the shares were wrong, too.)
#
# The slider goes through the levels of the first row. The images are divided by $\sqrt{1 + \sigma^2}$, so that their pixels stay in one range, as in a diffusion.


# %% tags=["figure"]
def at_level(i):
    """The samples after the three steps at level i, made as large as x_t."""
    x, sigma = film_of_score[3 * i][:8], sigmas[max(i - 1, 0)]
    return plots.image_grid(to_unit(x / (1 + sigma**2).sqrt()), columns=8, tile=0.8)


Slider(
    [0, 15, 25, 30, 35, 40, 45, 50, 60],
    at_level,
    description="levels done",
    label="{}",
    alt="Eight noisy images after {} of the 60 levels of noise",
    start=4,
)

# %% [markdown]
# **What you can say now.** A denoiser for all levels of noise gives a score at all levels, and annealed Langevin dynamics draws digits with it. At the finest level alone, from stronger noise than the label says, this network draws strokes, and the exact score the nearest training digit.
#
# *Sources: B30.*

# %% [markdown]
# (sec-continuous-time)=
# ## Noise in continuous time
#
# What remains of the diffusion if its steps become infinitely many and infinitely small? We take $r = \log \bar\alpha$ as the clock, so that the schedule drops out: $r$ is 0 for the data and falls with the noise. While $r$ falls by $\lvert \mathrm{d} r \rvert$, $x$ shrinks a little and noise of variance $\lvert \mathrm{d} r \rvert$ is added. With a Wiener process $w$, whose increments are this noise, that is the *forward* {term}`SDE`
#
# $$
# \mathrm{d} x = - \frac12 x\, \lvert \mathrm{d} r \rvert + \mathrm{d} w , \qquad \text{so that} \quad x_r \sim \mathcal{N}\big( e^{r / 2} x_0,\; (1 - e^{r})\, I \big) ,
# $$ (eq-forward-sde)
#
# which is $q(x_t \mid x)$ at $\log \bar\alpha_t = r$.
#
# :::{dropdown} Proof
# The equation is linear, so $x_r$ stays Gaussian. Its mean obeys $\mathrm{d} m = - \frac12 m\, \lvert \mathrm{d} r \rvert$ and its variance $\mathrm{d} W = (1 - W)\, \lvert \mathrm{d} r \rvert$, from $m = x_0$ and $W = 0$. $\square$
# :::
#
# **Check.** Mean and variance are followed through Euler steps, from $x_0 = 1.5$ to $r = -0.8$, with 2000 and with 4000 steps. Twice the second result minus the first is free of the error that is proportional to the step size. The check rejects a drift of $-x$ in place of $-\frac12 x$, and half of the noise.


# %% tags=["serves"]
def forward_moments(steps, pull=0.5, noise_var=1.0):
    """Mean and variance at r = -0.8 after Euler steps from the point 1.5."""
    m, W, step = 1.5, 0.0, 0.8 / steps
    for _ in range(steps):
        m, W = (1 - pull * step) * m, (1 - pull * step) ** 2 * W + noise_var * step
    return torch.tensor([m, W]).double()


def limit(moments, **choices):
    return 2 * moments(4000, **choices) - moments(2000, **choices)


right = torch.tensor([1.5 * math.exp(-0.4), -math.expm1(-0.8)]).double()
wrong = {"all of x": limit(forward_moments, pull=1.0)}
wrong["half of the noise"] = limit(forward_moments, noise_var=0.5)

# %% tags=["check", "nbval-check-output"]
verify("eq-forward-sde", limit(forward_moments), right, exact.within(1e-6), rejects=wrong)

# %% [markdown]
# **Back to the data.** Can this be reversed? Let $r$ rise, from noise to the data, and write $q_r$ for the distribution of $x_t$ at $\log \bar\alpha_t = r$. For every $\eta \ge 0$, points that begin with the distribution $q_r$ at some low $r$ and move by
#
# $$
# \mathrm{d} x = \Big( \frac12 x + \frac{1 + \eta^2}{2}\, \nabla \log q_r(x) \Big)\, \mathrm{d} r + \eta\, \mathrm{d} w
# $$ (eq-reverse-sde)
#
# have the distribution $q_r$ at all later $r$, up to the data. For $\eta = 1$ this is the *reverse-time diffusion* of {cite:t}`anderson1982`, on which {cite:t}`song2021sde` built score-based models; its discrete steps are those of the DDPM. For $\eta = 0$ nothing is random. As in DDIM, $\eta$ says how much of the noise is fresh. The two panels of {numref}`fig-two-rides` are $\eta = 0$ and $\eta = 1$.
#
# :::{dropdown} Proof
# A density $p$ that moves with drift $f$ and noise of variance $\eta^2 \mathrm{d} r$ obeys the Fokker-Planck equation $\partial_r p = - \nabla \cdot (p f) + \frac{\eta^2}{2} \Delta p$. For {eq}`eq-forward-sde`, whose clock falls, it reads $- \partial_r q = \frac12 \nabla \cdot (q x) + \frac12 \Delta q$. Insert the drift of {eq}`eq-reverse-sde` at $p = q$: since $q\, \nabla \log q = \nabla q$, it gives $\partial_r q = - \frac12 \nabla \cdot (q x) - \frac{1 + \eta^2}{2} \Delta q + \frac{\eta^2}{2} \Delta q$, which is the same. $\square$
# :::
#
# Why can $\eta$ be anything? Compared with $\eta = 0$ there are an additional drift $\frac{\eta^2}{2} \nabla \log q_r$ and noise of variance $\eta^2 \mathrm{d} r$. Together these are Langevin dynamics {eq}`def-langevin` with the step size $h = \eta^2 \mathrm{d} r$, which leaves $q_r$ as it is. So any amount of it may be mixed in.
#
# **Check.** For Gaussian data the equation is linear, and the variance after each Euler step follows from the one before. It starts at $r = -10$ with the right variance and takes 2000 and 4000 steps to the data; the limit is compared with the variance of the data, for three $\eta$. The check rejects the noise without its share of the score, that share without the noise, and a share of $\eta$ in place of $\eta^2$.

# %% tags=["serves"]
lam = torch.tensor([0.25, 4.0]).double()


def variance_at_data(steps, of_score, noise_var):
    """Variance after Euler steps of dx = (x / 2 + of_score * score) dr + noise."""
    dr = 10 / steps
    r = torch.linspace(-10, 0, steps + 1, dtype=torch.double)[:, None]
    V = 1 + (lam - 1) * r.exp()
    W = V[0]
    for slope in (1 + dr * (0.5 - of_score / V[:-1])) ** 2:
        W = slope * W + noise_var * dr
    return W


# %% tags=["serves"]
def at_the_data(share_of, noise_of):
    """The variances without error of the step size, for three eta."""
    return torch.stack(
        [
            limit(variance_at_data, of_score=(1 + share_of(eta)) / 2, noise_var=noise_of(eta))
            for eta in (0.0, 0.5, 1.0)
        ]
    )


def squared(eta):
    return eta**2


def zero(eta):
    return 0.0


# %% tags=["check", "nbval-check-output"]
wrong = {"noise alone": at_the_data(zero, squared), "score alone": at_the_data(squared, zero)}
wrong["eta not squared"] = at_the_data(abs, squared)
found, rule = at_the_data(squared, squared), exact.within(5e-4)
verify("eq-reverse-sde", found, lam.expand(3, 2), rule, rejects=wrong)

# %% [markdown]
# **Predictor and corrector** ({term}`predictor-corrector method`, {cite:t}`song2021sde`). After finite steps of {eq}`eq-reverse-sde` the points follow $q_r$ only approximately. Langevin steps at the level of noise that was reached bring them closer to $q_r$. So the method alternates: a step of the SDE *predicts*, a step of Langevin dynamics *corrects*.


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
# Four thousand points are drawn with the exact score of the ring with unequal weights and measured as above: with 20 steps without and with correction, and with 40 without, which take as many calls of the score as 20 with it.

# %% tags=["numbers"]
walkers, drawn, by_calls = torch.randn(4000, 2).double(), {}, {}
for name, num, correct in (
    ("20 steps", 20, False),
    ("20, corrected", 20, True),
    ("40 steps", 40, False),
):
    _ = torch.manual_seed(0)
    drawn[name] = predict_and_correct(walkers, num, correct)
    by_calls[name] = wrong, outliers, width = ring_report(drawn[name])
    print(f"{name:14} wrong {wrong:5.1%}, outliers {outliers:5.1%}, variance {width:4.2f}")

# %% tags=["figure"] mystnb={"image": {"alt": "Three panels with eight clusters of points on a ring, dense at the right. With twenty steps the clusters are wide and fuzzy, with twenty corrected steps small and round, with forty steps in between."}, "figure": {"caption": "The ring with unequal weights by the reverse SDE in few steps. The corrector makes the clusters round and narrow.", "name": "fig-corrector"}}
fig, panels = plots.figure(3, height=2.7)
for panel, (name, points) in zip(panels, drawn.items(), strict=True):
    _ = plots.scatter(
        points[:2000], x_label=f"$x_1$, {name}", y_label="$x_2$", bounds=box, axes=panel
    )
fig

# %% [markdown]
# In {numref}`fig-corrector` the corrected clusters are round. The numbers above say more about this run:

# %% tags=["held", "nbval-check-output"]
plain, corrected, twice = by_calls.values()
print("corrected: the variance is nearer to 1:", corrected[2] - 1 < 0.5 * (plain[2] - 1))
print("corrected: fewer points in the wrong mode:", corrected[0] < plain[0])
print("the variance is nearer to 1 than with 40 steps of the predictor:", corrected[2] < twice[2])
print("but no fewer points in the wrong mode than with these 40:", corrected[0] > twice[0] - 0.01)

# %% [markdown]
# So here the corrector repairs the variance better than as many calls of the predictor, and the shares of the modes no better.
#
# **What you can say now.** Adding noise is an SDE; the score reverses it, with any amount $\eta$ of injected noise. A Langevin step corrects a step of the SDE.

# %% [markdown]
# (sec-probability-flow)=
# ## The flow and its likelihood
#
# The case $\eta = 0$ has a section of its own, because an equation without noise is a map from the noise to the data. It is an ordinary differential equation, the {term}`probability-flow ODE` {cite:p}`song2021sde`:
#
# $$
# \frac{\mathrm{d} x}{\mathrm{d} r} = \frac12 \big( x + \nabla \log q_r(x) \big) .
# $$ (def-probability-flow)
#
# **DDIM follows it.** Divide $x_t$ by its scale $\sqrt{\bar\alpha_t}$, and measure noise by $\sigma_r = \sqrt{(1 - \bar\alpha) / \bar\alpha} = \mathrm{SNR}^{-1/2}$, the noise per unit of image. In these coordinates a step of DDIM is a straight line,
#
# $$
# \frac{x_{t-1}}{\sqrt{\bar\alpha_{t-1}}} = \frac{x_t}{\sqrt{\bar\alpha_t}} + \big( \mathrm{SNR}_{t-1}^{-1/2} - \mathrm{SNR}_t^{-1/2} \big)\; \hat\varepsilon ,
# $$ (eq-ddim-euler)
#
# which is a step of Euler's method for $\mathrm{d}(x / \sqrt{\bar\alpha}) = \varepsilon^*\, \mathrm{d} \sigma_r$. By {eq}`eq-noise-is-score` and the chain rule this equation is {eq}`def-probability-flow`.
#
# **Check.** A step of `ddim_sample` in the left panel of {numref}`fig-two-rides` is compared with the formula. The check rejects a step in the logarithm of $\sigma_r$, and one with the noise that is predicted at the end of the step.

# %% tags=["serves"]
film, now = rides["no noise"], last_55
scaled = [x / now.alpha_bar[55 - i] ** 0.5 for i, x in enumerate(film)]
sigma = (now.noise_var / now.alpha_bar) ** 0.5


def noise_at(t):
    time = torch.full((5,), t)
    return noise_from_x_0(now, film[55 - t], time, uneven_hat(film[55 - t], time))


right = scaled[25] + (sigma[29] - sigma[30]) * noise_at(30)
in_logs = scaled[25] + (sigma[29].log() - sigma[30].log()) * noise_at(30)
backwards = scaled[25] + (sigma[29] - sigma[30]) * noise_at(29)

# %% tags=["check", "nbval-check-output"]
wrong = {"in the logarithm": in_logs, "noise of the arrival": backwards}
verify("eq-ddim-euler", scaled[26], right, exact.within(1e-8), rejects=wrong)

# %% [markdown]
# **The distributions agree.** Why does the ODE have the right distribution at each $r$? The density of points that move with velocity $f$ obeys the continuity equation: along the path of a point, the log-density changes by minus the divergence of $f$. So $q_r$ is the distribution of the moving points if
#
# $$
# \frac{\partial \log q_r}{\partial r} = - \nabla \cdot f - f \cdot \nabla \log q_r , \qquad f = \frac12 \big( x + \nabla \log q_r(x) \big) .
# $$ (eq-continuity)
#
# This is the case $\eta = 0$ of the proof of {eq}`eq-reverse-sde`, divided by $q$.
#
# **Check.** All derivatives are computed by automatic differentiation, for the mixture of three Gaussians. The check rejects the velocity with the whole score and half of $x$.

# %% tags=["serves"]
x = torch.randn(8, 2).double().requires_grad_()
r = torch.tensor(-0.8).double().requires_grad_()
log_q = noisy_mixture(mixture, (r / 2).exp(), -r.expm1()).log_prob(x)
left = torch.stack([torch.autograd.grad(v, r, retain_graph=True)[0] for v in log_q])
score = mixture_hat.score_at_level(x, r.detach())


def change_along(f):
    """Minus the divergence of f, minus f times the score."""
    parts = [torch.autograd.grad(f[:, i].sum(), x, retain_graph=True)[0] for i in (0, 1)]
    divergence = parts[0][:, 0] + parts[1][:, 1]
    return (-divergence - (f * score).sum(1)).detach()


right, whole = change_along((x + score) / 2), change_along(x / 2 + score)

# %% tags=["check", "nbval-check-output"]
rule = exact.within(1e-8)
verify("eq-continuity", left, right, rule, rejects={"whole score": whole})

# %% [markdown]
# **An exact likelihood.** A map changes volumes, and the divergence of the velocity says by how much. So the flow gives what no sampler with noise gives: the density of each $x$. Its logarithm is the log-density of the noise at the place where $x$ arrives, plus the integral of the divergence on the way,
#
# $$
# \log p(x) = \log \mathcal{N}(x_{r_1}; 0, I) + \int_0^{r_1} \nabla \cdot f\; \mathrm{d} r , \qquad r_1 \to - \infty .
# $$ (eq-flow-likelihood)
#
# **Check.** Twenty points on and near the ring with unequal weights are moved to $r_1 = -20$, and the result is compared with the density in closed form, with a tolerance of a thousandth of a nat per dimension. The check rejects the answer without the integral, and the integral with the other sign.

# %% tags=["serves"]
_ = torch.manual_seed(0)
x = 1.2 * torch.randn(20, 2).double()
by_flow = ode_log_prob(ring_score, x, [0.0, -20.0], rtol=1e-4, atol=1e-4)
arrived = probability_flow(ring_score, x, [0.0, -20.0], 1e-4, 1e-4)[-1]
no_volume = Normal(0.0, 1.0).log_prob(arrived).sum(1)

# %% tags=["check", "nbval-check-output"]
wrong = {"no volume": no_volume, "other sign": 2 * no_volume - by_flow}
rule = exact.within(1e-3).on_scale(2.0)  # two dimensions
verify("eq-flow-likelihood", by_flow, uneven.log_prob(x), rule, rejects=wrong)

# %% [markdown]
# With a learned score this is the exact likelihood of the model that the flow samples. It is not the likelihood that the ELBO bounds, since that belongs to the chain with noise.
#
# The film moves 1500 points from noise to the ring. Their color is the mode in which they end. The flow is a map, so each start has one end, and the starts that end in a mode have its weight as their probability: the colors form sectors, larger ones for heavier modes.


# %% tags=["figure"]
_ = torch.manual_seed(0)
clock = -(torch.linspace(12**0.25, 0, 51).double() ** 4)  # slower near the data
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
# **What you can say now.** DDIM is Euler's method for an ODE that has the marginals of the diffusion and an exact likelihood.
#
# *Sources: E09.*

# %% [markdown]
# (sec-flow-matching)=
# ## Flow matching
#
# **Flow matching** {cite:p}`lipman2023`, with straight lines also known as rectified flow {cite:p}`liu2023` and as a stochastic interpolant {cite:p}`albergo2023`, trains a network for a velocity. Neither a list of betas nor a score appears. We will see that it is the same flow in other coordinates, and that the straight line is a noise schedule, too. Let points move on straight lines from data to noise, $x_u = (1 - u)\, x + u\, \varepsilon$ with $u$ from 0 to 1. Each has the velocity $\varepsilon - x$. The points that pass through $x_u$ have the mean velocity
#
# $$
# \mathbb{E}[\varepsilon - x \mid x_u] = \frac{x_u - \mathbb{E}[x \mid x_u]}{u} .
# $$ (eq-flow-velocity)
#
# So a denoiser determines this velocity, too. And $x_u$ is an $x_t$ with another scale: $x_u = c\, x_t$ in distribution, with $c = \sqrt{(1 - u)^2 + u^2}$ and $\bar\alpha_t = (1 - u)^2 / c^2$. Take a point of the probability flow and multiply it by $c$; it moves with exactly this velocity:
#
# $$
# \frac{\mathrm{d}}{\mathrm{d} u} \big( c\; x_{r(u)} \big) = \mathbb{E}[\varepsilon - x \mid x_u] \qquad \text{at} \quad x_u = c\; x_{r(u)} .
# $$ (eq-flow-matching)
#
# :::{dropdown} Proof
# For the first, $\varepsilon = (x_u - (1 - u)\, x) / u$, so $\varepsilon - x = (x_u - x) / u$. For the second, put $\sigma = u / (1 - u)$, so that $c\, x_r = (1 - u)\, y$ with $y = x_r / \sqrt{\bar\alpha}$ and $\mathrm{d} y = \varepsilon^*\, \mathrm{d} \sigma$. Then the derivative is $- y + (1 - u)\, \varepsilon^* / (1 - u)^2 = - y + \varepsilon^* / (1 - u)$, and with $y = \hat{x} + \sigma \varepsilon^*$ this is $\varepsilon^* - \hat{x}$. $\square$
# :::
#
# **Check.** The first equation is compared with a simulation. If $v$ is the conditional mean of $\varepsilon - x$, then $\varepsilon - x - v$ times *any* function of $x_u$ has the mean zero. Seven functions are taken: 1, the two coordinates, their sines, and the two components of $v$. The check rejects a velocity divided by $1 - u$ in place of $u$, and one that is turned a little.

# %% tags=["serves"]
_ = torch.manual_seed(0)
x, u = mixture.sample((100_000,)), torch.tensor(0.4).double()
noise = torch.randn_like(x)
x_u = (1 - u) * x + u * noise
c, r = straight_line(u)
x_hat = (x_u / c + -r.expm1() * mixture_hat.score_at_level(x_u / c, r)) / (r / 2).exp()
velocity = flow_velocity(x_u, u.expand(len(x)), x_hat)
tests = torch.cat([torch.ones(len(x), 1), x_u, (2 * x_u).sin(), velocity], 1)


def products(v):
    """What v leaves of the velocity of each line, times the seven functions, by component."""
    left_over = noise - x - v
    return (left_over[:, :, None] * tests[:, None]).flatten(1)


turned = velocity + 0.3 * velocity.flip(1) * torch.tensor([1.0, -1.0])

# %% tags=["check", "nbval-check-output"]
others = {"divided by 1 - u": velocity * u / (1 - u), "turned": turned}
wrong = {name: products(v).mean(0) for name, v in others.items()}
verify("eq-flow-velocity", products(velocity), torch.zeros(14).double(), monte_carlo, rejects=wrong)

# %% [markdown]
# **Check.** The left side of {eq}`eq-flow-matching` is computed as a difference quotient of the flow that the solver finds. The check rejects a flow that is not rescaled by $c$.

# %% tags=["serves"]
u, du = torch.tensor(0.4).double(), 1e-4
c, r = straight_line(torch.stack([u - du, u, u + du]))
tight = {"rtol": 1e-11, "atol": 1e-11}
path = probability_flow(mixture_hat.score_at_level, places[0], r, **tight)
x_u = c[:, None, None] * path
left = (x_u[2] - x_u[0]) / (2 * du)
x_t, score = path[1], mixture_hat.score_at_level(path[1], r[1])
x_hat = (x_t + -r[1].expm1() * score) / (r[1] / 2).exp()
right = flow_velocity(x_u[1], u.expand(8), x_hat)

# %% tags=["check", "nbval-check-output"]
wrong = {"not rescaled": (path[2] - path[0]) / (2 * du)}
verify("eq-flow-matching", left, right, autograd.within(1e-5), rejects=wrong)

# %% [markdown]
# So noise, image, $v$, score and velocity are five parametrizations of one function ({ref}`ex-velocity` turns a score into a velocity, {ref}`ex-flow-network` a velocity into the predicted noise). The methods differ in the time variable, and in the weight that the loss gives to each error. To train a network for the velocity, regress $\varepsilon - x$ on $x_u$ and $u$; to sample, follow the velocity from $u = 1$ to $u = 0$ by Euler steps.

# %%
_ = torch.manual_seed(0)
velocity_net = TimeMlp(2, (64, 64), 32)
optimizer = torch.optim.Adam(velocity_net.parameters(), lr=5e-3, fused=True)
for step in range(1500):
    optimizer.param_groups[0]["lr"] = 5e-3 * (1 - 0.98 * step / 1500)
    x, u = uneven.sample((500,)).float(), torch.rand(500)
    noise = torch.randn_like(x)
    x_u = torch.lerp(x, noise, u[:, None])
    loss = (velocity_net(x_u, 10 * u) - (noise - x)).square().sum(1).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

# %% tags=["serves"]
x_u = torch.randn(1500, 2)
with torch.no_grad():
    for k in range(100, 0, -1):
        x_u = x_u - 0.01 * velocity_net(x_u, torch.full((1500,), 0.1 * k))

# %% tags=["figure"] mystnb={"image": {"alt": "A ring of clusters of points, dense at the right and at the bottom, thin and smeared at the left."}, "figure": {"caption": "1500 points by flow matching on the ring with unequal weights: a small network trained in seconds, a hundred Euler steps. Heavy modes are sharp, light ones smeared.", "name": "fig-flow-matching"}}
plots.scatter(x_u, x_label="$x_1$", y_label="$x_2$", bounds=box)

# %% [markdown]
# In this run the weights of the modes in {numref}`fig-flow-matching` are about right, without a score and without noise on the way. Modes with few data are smeared, as with the small score model.

# %% tags=["held", "nbval-check-output"]
print("flow matching: less than 15 percent in the wrong mode:", ring_report(x_u)[0] < 0.15)

# %% [markdown]
# **What you can say now.** Flow matching is the probability flow on straight lines, and its network can be trained for the velocity in one loop.
#
# *Sources: E09.*

# %% [markdown]
# (sec-noise-or-velocity)=
# ## Noise or velocity?
#
# Should a network be trained for the noise or for the velocity? The velocity comes with its own sampler, so we first ask how it differs from DDIM. Take a step of Euler's method from $u$ to $u'$, and insert {eq}`eq-flow-velocity`:
#
# $$
# x_u + (u' - u)\, v = (1 - u')\, \hat{x} + u'\, \hat\varepsilon , \qquad \hat\varepsilon = \frac{x_u - (1 - u)\, \hat{x}}{u} .
# $$ (eq-flow-euler)
#
# The step puts the estimated image and the predicted noise together again, with less of the noise. That is a step of DDIM in other coordinates. So the sampler is the same, and only its times differ: DDIM takes equal steps of $t$, flow matching takes equal steps of $u$.
#
# **Check.** The path of `flow_sample` is compared with that of `ddim_sample` in the left panel of {numref}`fig-two-rides`, times $c$. The check rejects a path that is not rescaled, and one with the scale of the time before.

# %% tags=["serves"]
u = line_time(last_55.log_alpha_bar)
c, _ = straight_line(u)


def ring_velocity(x_u, at):
    """The exact velocity of the lopsided ring at a time of the schedule."""
    t = (u - at[0]).abs().argmin()
    return flow_velocity(x_u, at, uneven_hat(x_u / c[t], t.expand(len(x_u))))


by_euler = torch.stack(list(flow_sample(ring_velocity, c[-1] * starts, u.flip(0))))
by_ddim, c = torch.stack(rides["no noise"]), c.flip(0).view(-1, 1, 1)

# %% tags=["check", "nbval-check-output"]
wrong = {"not rescaled": by_ddim, "scale of the time before": c.roll(1, 0) * by_ddim}
verify("eq-flow-euler", by_euler, c * by_ddim, exact.within(1e-8), rejects=wrong)

# %% [markdown]
# So what is learned, and at which times it is used, are two questions: each network can be used at the times of the other. First the ring, with three small networks for the noise and three for the velocity. The two of a pair share architecture, first weights, data and number of steps.


# %%
def noise_loss(model, x):
    return denoising_loss(model, x, model.schedule.snr)


pairs = []
for seed in range(3):
    _ = torch.manual_seed(seed)
    of_noise = NoisePredictor(TimeMlp(2, (64, 64), 32), schedule)
    of_noise = Ddpm(of_noise, schedule, (2,), schedule.beta)
    _ = train_score(of_noise, noise_loss, 12)
    _ = torch.manual_seed(seed)
    of_velocity = Flow(TimeMlp(2, (64, 64), 32), (2,))
    _ = train_score(of_velocity, flow_matching_loss, 12)
    pairs += [(of_noise, of_velocity)]

# %% tags=["numbers", "columns"]
calls, noise, missed = (5, 10, 20, 50), torch.randn(2000, 2), {}
for ddpm, flow in pairs:
    for num in calls:
        for name, sampler in spaced_samplers(ddpm, flow, num).items():
            *_, x = sampler(noise)
            missed.setdefault(name, []).append(ring_report(x)[1])
missed = {name: torch.tensor(each).view(3, 4) for name, each in missed.items()}
print("outliers, mean and standard deviation of three trainings")
print("calls of the network ", "".join(f"{num:<14}" for num in calls))
for name, each in missed.items():
    row = (f"{m:4.0%} +- {d:3.0%}" for m, d in zip(each.mean(0), each.std(0), strict=True))
    print(f"{name:20}", "   ".join(row))

# %% [markdown]
# With five calls the velocity at its own times leaves the fewest outliers, on average of these three pairs. At equal steps in $t$ its network does no better than the one for the noise. For the network for the noise, the result of equal steps in $u$ differs much from one trained model to the next.

# %% tags=["held", "nbval-check-output"]
at_5 = {name: each[:, 0].mean() for name, each in missed.items()}
own = at_5["flow, even in u"]
print(
    "5 calls, velocity: equal steps in u halve the outliers:",
    bool(own < at_5["flow, even in t"] / 2),
)
print("and there are fewer than by noise at its own times:", bool(own < at_5["ddpm, even in t"]))

# %% [markdown]
# Now digits of $8 \times 8$ pixels. `ddpm-digits` is the network of chapter 10, trained for the noise. `flow-digits` is the same network, trained for the velocity in as many steps, at the same rates, on the same digits. {numref}`fig-noise-or-velocity` starts both from the same noise, each at its own times.

# %% tags=["serves"]
flow, ddpm = pretrained("flow-digits"), pretrained("ddpm-digits")
_ = torch.manual_seed(0)
noise, drawn = torch.randn(12, 1, 8, 8), {}
for num in calls:
    made = spaced_samplers(ddpm, flow, num)
    for label, name in (("noise", "ddpm, even in t"), ("velocity", "flow, even in u")):
        *_, x = made[name](noise)
        drawn[f"{label}, {num}"] = to_unit(x)

# %% tags=["figure"] mystnb={"image": {"alt": "Eight rows of twelve small digits, in pairs for 5, 10, 20 and 50 calls. In each column all rows show much the same digit. In the first row it is paler and more blurred than below."}, "figure": {"caption": "Digits from the same noise: by a network for the noise with DDIM, and by one for the velocity with Euler steps, with 5, 10, 20 and 50 calls of the network.", "name": "fig-noise-or-velocity"}}
plots.image_rows(drawn, tile=0.45)

# %% [markdown]
# A comparison needs more images. A record holds the distance of 1000 drawn digits from the real ones, for both networks at both sets of times: the Fréchet distance {eq}`def-frechet`, less its bias, in the 64 features of a small classifier of these digits. For comparison, all real digits are split into two sets at random, ten times.

# %% tags=["numbers", "columns"]
found, _ = load_record("flow-digits-spacing")
print(f"the classifier is right on {found['accuracy']:.1%} of the test digits")
real = found["real"][0, :, 0]
print(f"real digits from real ones: {real.mean():.2f}, standard deviation {real.std():.2f}")
print("trainings of each network:", found["flow, Heun"].shape[1])
print("calls of the network ", "".join(f"{num:<15}" for num in calls))
distances = {}
for name in missed:
    value, error = found[name][0].unbind(-1)  # of each training, by calls
    var = error.square().mean(0) + value.var(0) / len(value)  # the noise is the same for all
    distances[name] = value.mean(0), var.sqrt()
    row = (f"{m:5.1f} +- {e:3.1f}" for m, e in zip(*distances[name], strict=True))
    print(f"{name:20}", "   ".join(row))

# %% tags=["figure"] mystnb={"image": {"alt": "Five falling lines over 5, 10, 20 and 50 calls, and a level line near zero for real digits. At five calls the line of Heun's method is highest and that of the velocity at equal steps in u lowest, at half of the other three. From 20 calls on all lie within the band of real digits."}, "figure": {"caption": "Distance of drawn digits from real ones, by calls of the network, with bands of two standard errors; for real digits the band is two standard deviations of the ten splits.", "name": "fig-spacings"}}
shown = {name: (calls, value) for name, (value, _) in distances.items()}
bands = {name: (m - 2 * e, m + 2 * e) for name, (m, e) in distances.items()}
shown["real digits"] = calls, real.mean().expand(4)
bands["real digits"] = tuple((real.mean() + k * real.std()).expand(4) for k in (-2, 2))
fig, (axes,) = plots.figure(height=3.0)
_ = plots.curves(shown, bands=bands, x_label="calls", y_label="distance", log_x=True, axes=axes)
axes.minorticks_off()
_ = axes.set_xticks(calls, calls)
fig

# %% [markdown]
# From 20 calls on, all lines of {numref}`fig-spacings` are as close to real digits as real digits are to each other. At five calls the velocity at its own times is ahead, with half the distance of the network for the noise. Is it the training or the sampler? It takes both. At equal steps in $t$ the network for the velocity is no better than the one for the noise. At equal steps in $u$ the network for the noise gains nothing: there its three trainings end at very different distances, those of the velocity at nearly the same. Heun's method, which {ref}`the next section <sec-design-choices>` explains, is far behind at five calls (it uses four of them) and no better than Euler's later. (Each network was trained three times; the errors count both the images and the trainings.)

# %% tags=["held", "nbval-check-output"]
at = {name: dict(zip(calls, value, strict=True)) for name, (value, _) in distances.items()}
five = {name: found[name][0, :, 0, 0] for name in missed}  # calls of each training
best = five.pop("flow, even in u")
others = torch.cat([*five.values()])
print("5 calls: velocity at equal steps in u is closest:", bool(best.max() < others.min()))
by_u = five["ddpm, even in u"]
print("there the noise varies ten times more:", bool(by_u.std() > 10 * best.std()))
pixels = {name: found[name][1, :, 0, 0].mean() for name in missed}
print("in pixels, too:", min(pixels, key=pixels.get) == "flow, even in u")
print("20 and 50 calls: all within 1:", bool(max(max(e[20], e[50]) for e in at.values()) < 1))

# %% [markdown]
# **What you can say now.** Flow matching with Euler steps is DDIM at other times {eq}`eq-flow-euler`. In a comparison of the two, ask at which times each network was used.

# %% [markdown]
# (sec-one-step)=
# ## One step
#
# Why does a flow need many calls? A velocity holds at one time only, and a step of Euler's method pretends that it stays as it is until the next time. Could a network learn the whole step instead? What a step of length $s$ needs is the *average* velocity on the way from $u$ down to $u - s$,
#
# $$
# a(x_u, u, s) = \frac{1}{s} \int_{u - s}^{u} v(x_w, w) \, \mathrm{d} w = \frac{x_u - x_{u - s}}{s} ,
# $$ (def-average-velocity)
#
# where $x_w$ follows the flow through $x_u$. With it a step of any length is exact, $x_{u - s} = x_u - s\, a(x_u, u, s)$, and one call with $u = s = 1$ leads from noise to data. But to train a network on it, one would have to follow the flow for every example, and the flow is what we want to learn. {cite:t}`geng2025` found the way around (their name is **MeanFlow**). Multiply by $s$ and differentiate by $u$ along the flow, while the end $u - s$ stays where it is. On the left, the product rule gives $a + s\, \mathrm{d} a / \mathrm{d} u$. On the right, the derivative of an integral by its upper end is the integrand there. So
#
# $$
# a = v - s\, \frac{\mathrm{d} a}{\mathrm{d} u} , \qquad \frac{\mathrm{d} a}{\mathrm{d} u} = \frac{\partial a}{\partial x_u}\, v + \frac{\partial a}{\partial u} + \frac{\partial a}{\partial s} ,
# $$ (eq-mean-flow)
#
# and the integral is gone. The last term is there because the step grows with $u$ if its end stays. In the loss the network is the $a$ on the left; the right side, with the network's own derivative, is held constant as the target. The velocity $v$ is unknown, too, but the right side is linear in it. So $\varepsilon - x$ can stand in its place, whose mean given $x_u$ is $v$, just as in flow matching, which is the case $s = 0$. Both the network and its derivative come from one pass in forward mode.
#
# Two earlier methods learn parts of the same function. A **consistency model** {cite:p}`song2023` learns the steps that end in data, $s = u$: from everywhere on the path it points to the same $x_0 = x_u - u\, a(x_u, u, u)$. A **shortcut model** {cite:p}`frans2025` learns that a long step is two short ones in a row:
#
# $$
# (s + s')\, a(x_u, u, s + s') = s\, a(x_u, u, s) + s'\, a(x_{u - s}, u - s, s') .
# $$ (eq-shortcut)
#
# **Check.** For Gaussian data all of it is known: the flow of a Gaussian keeps the number of standard deviations, $(x_u - m_u) / \tau_u$, where $m_u$ and $\tau_u$ are the moments of $x_u$, and this gives $x_{u - s}$. The check rejects the other sign of the derivative, and a derivative in which the step stays instead of its end.

# %% tags=["serves"]
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

# %% tags=["check", "nbval-check-output"]
wrong = {"other sign": v + step * rate, "the step stays": v - step * step_stays}
verify("eq-mean-flow", a, v - step * rate, autograd, rejects=wrong)

# %% [markdown]
# **Check.** The two short steps are a third and two thirds of the long one. The check rejects a second step that begins at $x_u$, where the first one did.

# %% tags=["serves"]
short, rest = step / 3, 2 * step / 3
first = short * gaussian_average(x_u, u, short)
both = first + rest * gaussian_average(x_u - first, u - short, rest)
from_start = first + rest * gaussian_average(x_u, u - short, rest)

# %% tags=["check", "nbval-check-output"]
wrong = {"both from the start": from_start}
verify("eq-shortcut", step * gaussian_average(x_u, u, step), both, exact, rejects=wrong)

# %% [markdown]
# As code, with a batch in which most examples get no step and train the velocity, and the others carry it over to longer steps:

# %%
show(mean_flow_loss, docstring=False)

# %% [markdown]
# {numref}`fig-one-step` compares a network that was trained so with Euler's method, which is given the *exact* velocity of the same ring.

# %%
average = pretrained("mean-flow-toy2d")
equal = torch.full((8,), 1 / 8).double()
even = MixtureSameFamily(Categorical(equal), Independent(Normal(centers, 0.125), 1))
even_hat = MixtureDenoiser(linear_schedule(100, 1e-3, 0.2), equal, centers, covs)


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

# %% tags=["figure"] mystnb={"image": {"alt": "Six panels of points. Above, by the exact velocity: with one call all points are in one place in the middle, with two they fill a disk, with four a blurred ring of eight denser places. Below, by the average velocity: already with one call the eight places of the ring are dense, joined by thin threads of points; with two and four calls the threads are thinner."}, "figure": {"caption": "The ring by one, two and four calls. Above: Euler steps with the exact velocity. Below: steps with a learned average velocity.", "name": "fig-one-step"}}
fig, panels = plots.figure(3, rows=2, height=2.4)
names = [(kind, num) for kind in ("velocity", "average") for num in (1, 2, 4)]
for panel, name in zip(panels, names, strict=True):
    _ = plots.scatter(
        one_step[name], x_label="{}, {}".format(*name), y_label="", bounds=box, axes=panel
    )
fig

# %% [markdown]
# A single Euler step puts all points in one place, although its velocity is exact. At $u = 1$ the estimate of the image is the mean of all data, from everywhere, and $x_1 - v(x_1, 1)$ is that mean {eq}`eq-flow-velocity`. The average velocity finds the ring with one call. How well? Count the points that are farther than three standard deviations from every mode:


# %% tags=["columns"]
def off_modes(x):
    """Share of points farther than three standard deviations from every mode."""
    return (torch.cdist(x.double(), centers).amin(1) > 3 * 0.125).double().mean().item()


off = {name: off_modes(x) for name, x in one_step.items()}
print(f"real points: {off_modes(even.sample((2000,))):.1%}")
print("calls of the network      ", "".join(f"{num:<8}" for num in (1, 2, 4, 8, 20)))
for kind, words in (("velocity", "Euler, exact velocity"), ("average", "average velocity")):
    print(f"{words:24}", "".join(f"{off[kind, num]:7.1%} " for num in (1, 2, 4, 8, 20)))

# %% [markdown]
# What is off lies on threads between the modes. Where the flow parts noise for one mode from noise for the next, the exact step pulls close neighbors far apart, and a network has to learn that steep border. With twenty calls this network still leaves half of the share that it leaves with one, and Euler's method with the exact velocity a quarter of that; so a part is the network's error, and a part that of the single step. (One training. {cite:t}`lu2025` found such trainings unstable if the embedding of the time has fast waves, since the derivative by $u$ is a part of the target. Our network is given $10\, u$ and not $1000\, u$.)

# %% tags=["held", "nbval-check-output"]
gathered = one_step["velocity", 1].std(0).max() < 1e-3
print("one Euler step, exact velocity: all in one place:", bool(gathered))
print(
    "average velocity, one call: fewer off the modes than of Euler's with 4:",
    off["average", 1] < off["velocity", 4],
)

# %% [markdown]
# *Sources: F06.*

# %% [markdown]
# (sec-design-choices)=
# ## All choices at once
#
# {cite:t}`karras2022` separated the parts of a diffusion model into choices that can be made one by one. This section follows them, in the coordinates of {ref}`the section on learning a score <sec-score-matching>`: $\tilde{x} = x_t / \sqrt{\bar\alpha_t} = x + \sigma \varepsilon$ with $\sigma = \sqrt{(1 - \bar\alpha_t) / \bar\alpha_t}$. Three of them follow: what the network predicts, at which levels the sampler calls it, and how it steps from level to level.
#
# **The network.** Let a network $F$ predict neither the image nor the noise but a mixture of both, with weights that depend on $\sigma$. This is {term}`preconditioning`:
#
# $$
# \hat{x}(\tilde{x}, \sigma) = c_{\mathrm{skip}}\, \tilde{x} + c_{\mathrm{out}}\, F\big( c_{\mathrm{in}}\, \tilde{x},\; \log \sigma \big) .
# $$ (def-preconditioned)
#
# Two requirements of theirs fix the weights, for data with mean 0 and variance $\sigma_{\mathrm{d}}^2$ in each dimension. First, the input of $F$ and its target should have variance 1 at every $\sigma$. Second, $c_{\mathrm{out}}$, which multiplies each error of $F$, should be as small as possible. Then
#
# $$
# c_{\mathrm{in}} = \frac{1}{\sqrt{\sigma_{\mathrm{d}}^2 + \sigma^2}} , \qquad c_{\mathrm{skip}} = \frac{\sigma_{\mathrm{d}}^2}{\sigma_{\mathrm{d}}^2 + \sigma^2} , \qquad c_{\mathrm{out}} = \frac{\sigma\, \sigma_{\mathrm{d}}}{\sqrt{\sigma_{\mathrm{d}}^2 + \sigma^2}} .
# $$ (eq-preconditioning)
#
# :::{dropdown} Proof
# The target of $F$ is $(x - c_{\mathrm{skip}}\, \tilde{x}) / c_{\mathrm{out}}$. Its variance is 1 if $c_{\mathrm{out}}^2 = (1 - c_{\mathrm{skip}})^2 \sigma_{\mathrm{d}}^2 + c_{\mathrm{skip}}^2 \sigma^2$. This is least where $x - c_{\mathrm{skip}}\, \tilde{x}$ is uncorrelated with $\tilde{x}$, at $c_{\mathrm{skip}} = \sigma_{\mathrm{d}}^2 / (\sigma_{\mathrm{d}}^2 + \sigma^2)$, and has the value $\sigma^2 \sigma_{\mathrm{d}}^2 / (\sigma_{\mathrm{d}}^2 + \sigma^2)$ there. $\square$
# :::
#
# So $c_{\mathrm{skip}}\, \tilde{x}$ is the best linear estimate, and $F$ learns what is left.
#
# **Check.** Data with the two values $\pm \sigma_{\mathrm{d}}$ are drawn, at three levels of noise. The squares of the input and of the target must have the mean 1. The target times the input must have the mean 0, or another $c_{\mathrm{skip}}$ would allow a smaller $c_{\mathrm{out}}$. The check rejects the weights of a network that predicts the noise ($c_{\mathrm{skip}} = 1$, $c_{\mathrm{out}} = \sigma$), and those for $\sigma_{\mathrm{d}} = 1$.

# %%
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

# %% tags=["check", "nbval-check-output"]
wrong = {"noise": demands(1.0, sigma, c_in), "variance 1": demands(*preconditioning(sigma, 1.0))}
wrong = {name: values.mean(0) for name, values in wrong.items()}
verify("eq-preconditioning", demands(c_skip, c_out, c_in), right, monte_carlo, rejects=wrong)

# %% [markdown]
# With $\sigma_{\mathrm{d}} = 1$ we have met these weights before. Since $1 + \sigma^2 = 1 / \bar\alpha_t$, the input $c_{\mathrm{in}}\, \tilde{x}$ is $x_t$, and
#
# $$
# \hat{x} = \bar\alpha_t\, \tilde{x} + \sqrt{1 - \bar\alpha_t}\; F = \sqrt{\bar\alpha_t}\; x_t - \sqrt{1 - \bar\alpha_t}\; v , \qquad F = - v .
# $$ (eq-preconditioned-v)
#
# So a network that predicts $v$, as ours of the digits does ({ref}`chapter 10 <sec-why-v>`), is a preconditioned one.
#
# **Check.** The estimate is compared with the companion's formula for $v$, at five times. The check rejects $F = v$, and $c_{\mathrm{out}} = \sigma$.

# %% tags=["serves"]
v = torch.randn(5, 8, 2).double()
by_v = torch.stack(
    [x_0_from_v(schedule, x_t, int(t), each) for t, x_t, each in zip(times, places, v, strict=True)]
)
sigma = ((1 - schedule.alpha_bar[times]) / schedule.alpha_bar[times]).sqrt().view(5, 1, 1)
c_skip, c_out, c_in = preconditioning(sigma, 1.0)
skipped = c_skip * places / c_in

# %% tags=["check", "nbval-check-output"]
wrong = {"F = v": skipped + c_out * v, "c_out = sigma": skipped - sigma * v}
verify("eq-preconditioned-v", by_v, skipped - c_out * v, exact.within(1e-8), rejects=wrong)

# %% [markdown]
# How much does preconditioning gain? Two equal perceptrons learn the score of the ring with unequal weights for 20 levels up to $\sigma = 20$, from the same data. The first is the model of {ref}`above <sec-score-matching>`, $s_\theta = -F / \sigma$, whose network predicts the noise. The second is preconditioned and trained with the squared error of $F$.


# %%
class Preconditioned(NoiseConditionalScore):
    """The score of a denoiser by (def-preconditioned), for data of variance 1."""

    def forward(self, x, sigma):
        c_skip, c_out, c_in = preconditioning(sigma[:, None], 1.0)
        x_hat = c_skip * x + c_out * self.network(c_in * x, sigma.log())
        return (x_hat - x) / sigma[:, None] ** 2


# %%
def loss_of_F(model, x):
    """Half the squared error of F at a random level."""
    sigma = model.sigmas[torch.randint(len(model.sigmas), (len(x),))].to(x)
    noise, (_, c_out, _) = torch.randn_like(x), preconditioning(sigma[:, None], 1.0)
    x_noisy = x + sigma[:, None] * noise
    x_hat = x_noisy + sigma[:, None] ** 2 * model(x_noisy, sigma)
    return ((x_hat - x) / c_out).square().sum(1) / 2


wide_levels, networks = geometric_noise_levels(20.0, 0.05, 20), {}
for name, kind, loss in (
    ("noise", NoiseConditionalScore, denoising_score_matching_loss),
    ("preconditioned", Preconditioned, loss_of_F),
):
    _ = torch.manual_seed(0)
    networks[name] = kind(TimeMlp(2, (64, 64), 32), wide_levels)
    _ = train_score(networks[name], loss, 20)

# %% [markdown]
# The table compares the $\hat{x}$ of both with the exact posterior mean: the root of the mean squared error over 5000 points. For comparison, its last line has the distance of the data from their mean (again the root of the mean square).

# %% tags=["numbers", "columns"]
_ = torch.manual_seed(5)
x, x_hat_error = uneven.sample((5000,)), {name: [] for name in networks}
noise, probes = torch.randn_like(x), (20.0, 8.0, 3.0, 1.0, 0.3)
print("sigma" + "".join(f"{name:>16}" for name in networks))
for sigma in probes:
    x_noisy = x + sigma * noise
    true = exact_score(noisy_mixture(uneven, 1.0, sigma**2).log_prob, x_noisy)
    for name, s_theta in networks.items():
        with torch.no_grad():
            off = s_theta(x_noisy.float(), torch.full((5000,), sigma)) - true
        x_hat_error[name] += [sigma**2 * off.square().sum(1).mean().sqrt().item()]
    print(f"{sigma:5}" + "".join(f"{errors[-1]:16.3f}" for errors in x_hat_error.values()))
deviation = x.var(0).sum().sqrt().item()
print(f"the data: {deviation:.2f}")

# %% tags=["held", "nbval-check-output"]
of_noise, of_F = (torch.tensor(errors) for errors in x_hat_error.values())
print(
    "sigma = 20: the noise network errs by more than half the deviation of the data:",
    bool(of_noise[0] > deviation / 2),
)
print(
    "sigma of 8 and 20: preconditioned at least three times closer:",
    bool((of_F < of_noise / 3)[:2].all()),
)
print("sigma of 1 and 0.3: within a factor of two:", bool((of_F < 2 * of_noise)[3:].all()))

# %% [markdown]
# An error of $F$ is multiplied by $c_{\mathrm{out}}$ {eq}`def-preconditioned`, which is $\sigma = 20$ at the highest level for a network that predicts the noise, and less than 1 for the preconditioned one. {ref}`Chapter 10 <sec-why-v>` met the same factor at the end of time. At low noise the weights of the two agree {eq}`eq-preconditioning`. Over three trainings of each ({ref}`experiment <exp-preconditioning>`), the root mean squared error at $\sigma = 20$ is 1.04 ± 0.08 standard deviations of the data for the first and 0.064 ± 0.003 for the second, where an answer with a random data point has about 1; at a third it is 0.054 ± 0.002 and 0.052 ± 0.001. The losses, too, weigh high noise differently: with the losses exchanged, the errors at 20 are 0.44 ± 0.01 and 0.29 ± 0.01. The linear part is no explanation by itself, for it is off by 0.54: the mean of these data is not 0.
#
# **The levels of the sampler.** At which levels of noise should a sampler with $S$ calls use the network? {cite:t}`karras2022` spread them evenly in $\sigma^{1 / \rho}$,
#
# $$
# \sigma_i = \Big( \sigma_1^{1/\rho} + \frac{i - 1}{S - 1} \big( \sigma_S^{1/\rho} - \sigma_1^{1/\rho} \big) \Big)^{\rho} , \qquad i = 1, \dots, S .
# $$ (def-rho-levels)
#
# With $\rho = 1$ the levels are even in $\sigma$, with $\rho \to \infty$ in its logarithm; $\rho = 7$ is the choice of the paper. A last step goes from $\sigma_S$ to 0.
#
# **The solver.** An Euler step uses the noise that is predicted at its beginning. *Heun's method* also calls the network at the end of that step, and takes the step once more with the mean of both predictions. We start 1000 points at $\sigma_1 = 50$ and measure how far each method ends from the end of the exact ODE.


# %% tags=["serves"]
def noise_in(x_noisy, sigma):
    """The exact prediction of the noise in x + sigma noise, for the lopsided ring."""
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


# %% tags=["serves"]
_ = torch.manual_seed(0)
x_T, scale = torch.randn(1000, 2).double(), 2501**0.5
ends = probability_flow(ring_score, x_T, [-math.log(2501), -1e-9], 1e-6, 1e-6)[-1]
calls, off_by = (11, 21, 41, 81), {}
for name, rho, heun in (("Euler, 3", 3, False), ("Euler, 7", 7, False), ("Heun, 7", 7, True)):
    reached = [solve(scale * x_T, (n + 1) // 2 if heun else n, rho, heun) for n in calls]
    off_by[name] = [(x - ends).norm(dim=1).median().item() for x in reached]
before = math.log1p(0.03**2)  # the exact flow as far as 0.03, and the last step
x = math.exp(before / 2) * probability_flow(ring_score, x_T, [-math.log(2501), -before])[-1]
x = x - 0.03 * noise_in(x, torch.tensor(0.03).double())
last_step = (x - ends).norm(dim=1).median().item()

# %% tags=["figure"] mystnb={"image": {"alt": "Three falling curves of the error over the number of calls, on logarithmic axes. Two parallel lines for Euler's method, the one of rho 7 lower. The curve of Heun's method starts above both and ends far below."}, "figure": {"caption": "Median distance from the end of the exact flow, by calls of the (exact) denoiser; method and $\\rho$. With enough calls Heun's method is far ahead.", "name": "fig-solvers"}}
lines = {name: (calls, errors) for name, errors in off_by.items()}
plots.curves(lines, x_label="calls", y_label="median distance", log_x=True, log_y=True)

# %% [markdown]
# In {numref}`fig-solvers` twice the calls halve the error of Euler's method. That of Heun's method is larger at first, and from 21 to 41 calls it falls to less than a quarter. At 81 calls what is left of it is the error of the last step, from $\sigma = 0.03$ to 0, which is an Euler step for all three. DPM-Solver++ {eq}`eq-second-order` is of second order as well. It takes the second slope from the step before, so that it needs no second call.

# %% tags=["held", "nbval-check-output"]
euler_3, euler_7, heun_7 = (torch.tensor(errors) for errors in off_by.values())
print("rho = 7 is closer than rho = 3, at each length:", bool((euler_7 < euler_3).all()))
print("11 calls: Euler is closer than Heun:", bool(euler_7[0] < heun_7[0]))
print(
    "Euler, twice the calls: less than 0.6 of it:", bool((euler_7[1:] < 0.6 * euler_7[:-1]).all())
)
print("Heun, 41 calls: less than a quarter of 21 calls:", bool(heun_7[2] < heun_7[1] / 4))
print("41 calls: Heun is closer, at least twice:", bool(heun_7[2] < euler_7[2] / 2))
print("81 calls: its error is that of the last step:", bool(abs(heun_7[3] / last_step - 1) < 0.2))

# %% [markdown]
# **The table of choices.** The choices of {cite:t}`karras2022` beside those of this book:
#
# | choice | in the DDPM of chapters 10 and 11 | in {cite:t}`karras2022` |
# |---|---|---|
# | coordinates | $x_t$, of variance 1 | $\tilde{x} = x_t / \sqrt{\bar\alpha_t}$ and $\sigma$ |
# | denoiser | $\hat{x}_\theta(x_t, t)$ | $D(x; \sigma)$ |
# | network | predicts $\varepsilon$, or $v$ {eq}`eq-preconditioned-v` | preconditioned {eq}`eq-preconditioning`, $\sigma_{\mathrm{d}} = 0.5$ for images on $[-1, 1]$ |
# | noise in training | $t$ uniform; for the digits with classes, more often where a digit is decided or finished | $\log \sigma$ Gaussian, mean $-1.2$, standard deviation 1.2 |
# | weight of the loss | 1 for the error of $\varepsilon$ or $v$ | 1 for the error of $F$, so $1 / c_{\mathrm{out}}^2$ for that of $\hat{x}$ |
# | levels of the sampler | `schedule.evenly(S)` | {eq}`def-rho-levels` with $\rho = 7$, from 80 to 0.002 |
# | solver | DDIM, which is Euler {eq}`eq-ddim-euler`, or DPM-Solver++ | Heun |
# | fresh noise | $\eta$ {eq}`eq-reverse-sde` | "churn": add noise, then step further down |
#
# Each entry of one column can be combined with the other column: these are choices and not two theories.
#
# **What you can say now.** Preconditioning gives a network an input and a target of variance 1 at all noise levels, and predicting $v$ is a case of it. Levels, solver and fresh noise are chosen after training.

# %% [markdown]
# (sec-score-wrong)=
# ## What goes wrong
#
# **The score without its factor.** If $-\varepsilon_\theta$ takes the place of the score (E11), each step along it is too short by the factor $\sqrt{1 - \bar\alpha_t}$. Langevin dynamics at a level $t$ then samples $q(x_t)$ to the power of that factor. At $t = 100$ of the thousand the factor is 0.32, and for Gaussian data the variance comes out three times too large:

# %%
t, h = 100, 0.05
factor, V = schedule.noise_var[t] ** 0.5, schedule.alpha_bar[t] * 0.25 + schedule.noise_var[t]
_ = torch.manual_seed(0)
*_, x = langevin_sample(lambda x: -factor * x / V, V**0.5 * torch.randn(2000, 1).double(), h, 200)

# %% tags=["nbval-check-output"]
print("variance between 2.7 and 3.6 times the right one:", bool(2.7 * V < x.var() < 3.6 * V))
print(f"the factor: {factor:.2f}")

# %% [markdown]
# **One step size for all levels.** In {prf:ref}`alg-annealed-langevin` the step shrinks with $\sigma_i^2$. With one size for all levels, a step that works at $\sigma_1$ diverges at $\sigma_L$, where $h \ge 4 s^2$ {eq}`eq-langevin-bias`, and a step that works at $\sigma_L$ hardly moves a point at $\sigma_1$. For the levels of the ring, and a step of a tenth of $\sigma_i^2$:

# %% tags=["nbval-check-output"]
high, low = float(levels[0]), float(levels[-1])
print(f"step of the highest level at the lowest: h / 4 s^2 = {0.1 * high**2 / (4 * low**2):.0f}")
print(
    f"step of the lowest level at the highest: {math.log(2) * 2 * high**2 / (0.1 * low**2):.0f} steps to halve a distance"
)

# %% [markdown]
# **An ODE from the wrong noise.** The ODE is a map, so another distribution at its start gives another one at its end. How much of a wrong start is left in either sampler? Both are started from noise of standard deviation 1.2 in place of 1, with 4000 points and the exact denoiser, as {ref}`a push <sec-feedback>` was given to both:

# %% tags=["numbers"]
_ = torch.manual_seed(0)
fair, spoiled = torch.randn(4000, 2).double(), {}
for name, sampler in {"ODE": ddim_sample, "SDE": ddpm_sample}.items():
    spoiled[name] = []
    for start, x_T in {"right": fair, "wide": 1.2 * fair}.items():
        *_, x = sampler(uneven_hat, s, x_T)
        spoiled[name] += [ring_report(x)]
        wrong, outliers, width = spoiled[name][-1]
        print(f"{name}, {start:5} start: wrong {wrong:5.1%}, variance {width:4.2f}")

# %% tags=["held", "nbval-check-output"]
more = {name: after[0] - before[0] for name, (before, after) in spoiled.items()}
print("wide start, ODE: at least 2 percent more in the wrong mode:", more["ODE"] > 0.02)
print("wide start, SDE: fewer than 2 percent more:", more["SDE"] < 0.02)

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
# - The best prediction of the noise is the score times $- \sqrt{1 - \bar\alpha_t}$ {eq}`eq-noise-is-score`. Regression on noise learns the score {eq}`eq-denoising-score-matching`.
# - Langevin dynamics samples with a score alone, with an error of order $h$ {eq}`eq-langevin-bias`. At the lowest level of noise alone the start decides where a chain ends; annealing starts where there is one mode.
# - Noise is added by an SDE {eq}`eq-forward-sde` and removed by another, with any amount of injected noise {eq}`eq-reverse-sde`. Langevin steps correct the steps of the SDE.
# - Without injected noise the second one is an ODE, which DDIM follows by Euler's method {eq}`eq-ddim-euler`. It has the marginals of the diffusion {eq}`eq-continuity` and an exact likelihood {eq}`eq-flow-likelihood`; flow matching is the same in other coordinates {eq}`eq-flow-matching`.
# - Preconditioning fixes what the network has to predict {eq}`eq-preconditioning`; a network that predicts $v$ has it {eq}`eq-preconditioned-v`. Levels, solver and fresh noise of a sampler can be chosen after training.
#
# **What the sources say, and where they need care.** A score without its factor is E11 of the {doc}`errata </book/errata>`. The letters of {cite:t}`song2019` for annealed Langevin dynamics mean other things in this book.
#
# **To read next.** {cite:t}`song2019` on annealing; {cite:t}`song2021sde` on continuous time; {cite:t}`karras2022` on all choices together; {cite:t}`lipman2023` on flow matching.
