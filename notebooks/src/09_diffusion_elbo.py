# %% [markdown]
# # The diffusion ELBO
#
# A drop of ink in water spreads until its shape is gone. A diffusion model does the same to an image: it adds noise in many small steps until nothing is left. To add noise takes no knowledge of images; to undo it does. How can a network learn that, and what has it to do with likelihood?

# %% tags=["setup", "hide-input"]
# The set-up cell: `make sync` writes it.

# %% tags=["unseen"]
import itertools
import math

import numpy as np
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, Normal
from torch.distributions.kl import kl_divergence
from torch.func import grad
from torch.nn import functional as F
from torchvision.utils import make_grid

from companion import data
from companion import schedule as translate
from companion.ddpm import Ddpm, elbo_step
from companion.denoisers import MixtureDenoiser, gaussian_denoiser
from companion.elbo import elbo_terms, sample_log_weights
from companion.masked import MASK, MaskedDiffusion, masked_sample
from companion.page import plots
from companion.page.exercises import diffusion_elbo as exercises
from companion.page.sliders import Film, Slider
from companion.page.verify import at_most, exact, monte_carlo, quadrature, variance, verify
from companion.schedule import Schedule, add_noise, linear_schedule
from companion.variances import bound_weights, linear_noise_error, optimal_reverse_var
from companion.zoo import pretrained
from companion.zoo.weights import read_card

# %% tags=["figure"]
digits = data.to_symmetric(data.load("mnist", "test").images[:10])  # on [-1, 1]
schedule = linear_schedule(1000)


def dissolved(t, schedule=schedule):
    seed = torch.Generator().manual_seed(0)
    noise = torch.randn(digits.shape, generator=seed, dtype=digits.dtype)
    x_t = add_noise(schedule, digits, t, noise) if t else digits
    return make_grid(data.to_unit(x_t), nrow=10, pad_value=1)[0]


Film(
    range(0, 1001, 20),
    dissolved,
    description="steps of noise",
    alt="Ten digits after {} steps of noise",
    label="{}",
    start=10,
)

# %% [markdown]
# :::{admonition} The idea
# A diffusion model is a VAE with many levels of latents, whose encoder has nothing to learn: it adds noise. If the image is known, a formula says how to undo a step of noise. A network must undo it without knowing the image, and is trained to agree with the formula. The disagreement, a KL divergence at each step (at the last, minus the log-likelihood of the image), is all that is left to train of the ELBO.
# :::

# %% [markdown]
# (sec-three-restrictions)=
# ## A hierarchical VAE with nothing to learn on the way up
#
# A hierarchical VAE {eq}`def-hierarchy` draws its top latent first, and its decoder comes closer to the image level by level. The more levels, the less each step has to do. But its encoder {eq}`def-bottom-up` is learned too, and may learn to leave levels empty. A diffusion model {cite:p}`sohldickstein2015,ho2020` is a hierarchical VAE with three restrictions {cite:p}`luo2022`:
#
# 1. **All latents have the size of the data.** Only then can a latent be the image with a little noise, and a step so small that it is easy to undo. We write $x_t$ for $z_t$, and $x_0$ for $x$ where that helps.
# 2. **The encoder is not learned.** Each of its steps is a fixed linear map plus Gaussian noise:
#
# $$
# q(x_t \mid x_{t-1}) = \mathcal{N}\big( \sqrt{\alpha_t}\, x_{t-1},\; (1 - \alpha_t)\, I \big), \qquad 0 < \alpha_t < 1 .
# $$ (def-forward-step)
#
# 3. **The last latent is noise.** The $\alpha_t$ are chosen such that $q(x_T \mid x)$ is nearly $p(x_T) = \mathcal{N}(0, I)$, from which generation starts.
#
# The noise of step $t$ has the variance $\beta_t = 1 - \alpha_t$; the list of the $\beta_t$ is the {term}`noise schedule`.

# %% tags=["figure"] mystnb={"image": {"alt": "Five images of one digit in a row, from clean to pure noise. Above, arrows to the right, labeled q adds noise, fixed. Below, arrows to the left, labeled p theta removes it, learned."}, "figure": {"caption": "Five of 1001 images.", "name": "fig-diffusion-chain"}}
times = (0, 100, 200, 400, 1000)
fig, panels = plots.figure(5, height=2.0)
for axes, t in zip(panels, times, strict=True):
    seed = torch.Generator().manual_seed(0)
    noise = torch.randn(digits.shape, generator=seed, dtype=digits.dtype)
    x_t = add_noise(schedule, digits, t, noise) if t else digits
    _ = axes.imshow(data.to_unit(x_t)[0, 0].clamp(0, 1), cmap="gray", vmin=0, vmax=1)
    _ = axes.set(xticks=[], yticks=[], xlabel=f"$x_{{{t}}}$\n", title=" ")
    axes.grid(visible=False)
arrows = [
    ("$q$ adds noise: fixed", (0.95, 0.94), (0.2, 0.94), "#0072b2"),
    (r"$p_\theta$ removes noise: learned", (0.08, 0.05), (0.52, 0.05), "#d55e00"),
]
for text, head, tail, color in arrows:
    look = {"color": color, "va": "center", "annotation_clip": False}
    look["arrowprops"] = {"arrowstyle": "->", "color": color, "linewidth": 1.8}
    note = axes.annotate(text, head, tail, "figure fraction", "figure fraction", **look)
    note.set_in_layout(False)
fig

# %% [markdown]
# **Why fix the encoder?** What each level knows about the image is then decided in advance, so no level can collapse. No gradient has to pass through an encoder's samples, and everything that the bound asks of $q$ is a formula. The price: there is no small code by which to compare or change images, and to draw an image takes one call of the network for each step.
#
# **Why Gaussian steps?** Sums of independent Gaussians are Gaussian, so many steps are one. A product of Gaussian densities is Gaussian, up to a factor, so a step can be turned around. And their KL divergences are formulas.
#
# **Why the factor $\sqrt{\alpha_t}$?** It keeps the scale: if a component of $x$ has variance 1, so has that of every $x_t$, since $\alpha_t + (1 - \alpha_t) = 1$. With noise alone the mean would stay $x$ and the variance would grow: no number of steps would end at $\mathcal{N}(0, I)$, and a network's inputs would have no common scale.
#
# The fixed encoder is called the {term}`forward process`. What remains to be learned is the decoder of each level, the {term}`reverse process` $p_\theta(x_{t-1} \mid x_t)$. In practice one network serves all steps, with the time $t$ as an input.

# %% tags=["numbers", "nbval-check-output"]
model = Ddpm(lambda x_t, t: 0 * x_t, schedule, (1, 28, 28), schedule.beta)
sizes = {model.marginal(t, digits).event_shape.numel() for t in range(1, 1001)}
print("1. components of a digit:", digits[0].numel(), "and of its 1000 latents:", *sizes)
print("2. parameters to learn in q:", sum(p.numel() for p in schedule.parameters()))
left = schedule.alpha_bar[-1]
print(f"3. share of the image's variance that reaches the top: {left:.2e}")

# %% [markdown]
# *Sources: A34, B20.*

# %% [markdown]
# (sec-forward-in-one-stroke)=
# ## Any number of steps in one draw
#
# Training needs $x_t$ at every $t$, without simulating up to a thousand steps. Look at two of them, with independent standard Gaussian noises $\varepsilon_t$:
#
# $$
# \begin{aligned}
# x_t & = \sqrt{\alpha_t}\, x_{t-1} + \sqrt{\beta_t}\, \varepsilon_t \\
# & = \sqrt{\alpha_t \alpha_{t-1}}\; x_{t-2} + \big( \sqrt{\alpha_t \beta_{t-1}}\; \varepsilon_{t-1} + \sqrt{\beta_t}\, \varepsilon_t \big) .
# \end{aligned}
# $$
#
# The bracket is a sum of independent Gaussians, so it is Gaussian, and the variances add: $\alpha_t (1 - \alpha_{t-1}) + 1 - \alpha_t = 1 - \alpha_t \alpha_{t-1}$. Two steps are one step, with the product $\alpha_t \alpha_{t-1}$ in the place of $\alpha_t$. So with $\bar\alpha_t = \alpha_1 \cdots \alpha_t$, for all $s < t$,
#
# $$
# q(x_t \mid x_s) = \mathcal{N}\Big( \sqrt{\bar\alpha_t / \bar\alpha_s}\; x_s,\; \big( 1 - \bar\alpha_t / \bar\alpha_s \big)\, I \Big) ,
# $$ (eq-two-times)
#
# and with $s = 0$, since $\bar\alpha_0 = 1$,
#
# $$
# q(x_t \mid x) = \mathcal{N}\big( \sqrt{\bar\alpha_t}\; x,\; (1 - \bar\alpha_t)\, I \big) .
# $$ (eq-forward-marginal)
#
# So $x_t = \sqrt{\bar\alpha_t}\, x + \sqrt{1 - \bar\alpha_t}\, \varepsilon$ takes one draw of noise for any $t$, which makes training cheap. {numref}`fig-forward-process` shows data from a mixture of two Gaussians on a line, our first example.
#
# **Check.** The steps are multiplied one by one, from $s = 100$ to $t = 700$ and from the data to four times. The coefficients from $s = 0$ are rejected, and so is a mean with $\bar\alpha_t$ in place of its square root. Then a hundred thousand paths of four steps from one $x$ are simulated; noise variances that are just added up, $0.1 + 0.2 + 0.3 + 0.4$, are rejected.


# %% tags=["check", "nbval-check-output"]
def step_by_step(s, t):
    """Scale and variance of x_t given x_s, one step after the other."""
    scale, var = torch.ones(()).double(), torch.zeros(()).double()
    for step in range(s + 1, t + 1):
        alpha = schedule.alpha[step]
        scale, var = alpha**0.5 * scale, alpha * var + schedule.beta[step]
    return torch.stack([scale, var])


torch.set_default_dtype(torch.double)
one_stroke = torch.stack([*schedule.forward_coefficients(100, 700)])
wrong = {"from 0": torch.stack([*schedule.forward_coefficients(0, 700)])}
verify("eq-two-times", step_by_step(100, 700), one_stroke, rejects=wrong)
times = (1, 10, 100, 1000)
steps = torch.stack([step_by_step(0, t) for t in times])
strokes = torch.stack([torch.stack([*schedule.forward_coefficients(0, t)]) for t in times])
no_root = torch.stack([strokes[:, 0] ** 2, strokes[:, 1]], 1)
verify("eq-forward-marginal", steps, strokes, rejects={"no root": no_root})
_ = torch.manual_seed(0)
short = Schedule.from_betas(torch.tensor([0.1, 0.2, 0.3, 0.4]))
x_t = torch.full((100_000,), 1.5)
for t in range(1, 5):
    x_t = short.alpha[t] ** 0.5 * x_t + short.beta[t] ** 0.5 * torch.randn(100_000)
kept = torch.tensor(0.9 * 0.8 * 0.7 * 0.6)
wrong = {"variances added": torch.stack([1.5 * kept**0.5, torch.tensor(1.0)])}
right = torch.stack([1.5 * kept**0.5, 1 - kept])
both = torch.stack([x_t, (x_t - 1.5 * kept**0.5) ** 2], 1)
verify("eq-forward-marginal", both, right, monte_carlo, rejects=wrong)

# %% tags=["figure"] mystnb={"image": {"alt": "A heat map of the density over time. Two dark bands on the left merge into one broad band around zero on the right. Eight jagged paths start in the bands, wander, and mix."}, "figure": {"caption": "The marginal density $q(x_t)$ of data with two modes over a hundred steps, and eight paths.", "name": "fig-forward-process"}}
weights = torch.tensor([0.5, 0.5])
centers, widths = torch.tensor([-1.0, 1.2]), torch.tensor([0.4, 0.6])


def mixture_at(schedule, t):
    """q(x_t), for data with two modes."""
    signal, var = schedule.forward_coefficients(0, t)
    std = (signal**2 * widths**2 + var).sqrt()
    return MixtureSameFamily(Categorical(weights), Normal(signal * centers, std))


def rescaled(T):
    """The linear schedule for T steps: betas 1000 / T times as large, below 1."""
    return Schedule.from_betas((torch.linspace(1e-4, 0.02, T) * 1000 / T).clamp(max=0.999))


process, x_axis = rescaled(100), torch.linspace(-2.8, 2.8, 201)
density = [mixture_at(process, t).log_prob(x_axis).exp() for t in range(101)]
_ = torch.manual_seed(3)
paths = [mixture_at(process, 0).sample((8,))]
for t in range(1, 101):
    step = process.beta[t] ** 0.5 * torch.randn(8)
    paths.append(process.alpha[t] ** 0.5 * paths[-1] + step)
fig, (axes,) = plots.figure(height=3.0)
heat = torch.stack(density, 1).clamp(max=0.5).numpy()
_ = axes.imshow(heat, origin="lower", aspect="auto", extent=(0, 100, -2.8, 2.8), cmap="Blues")
_ = axes.plot(torch.stack(paths).numpy(), color="#333333", linewidth=0.7)
_ = axes.set(xlabel="time $t$", ylabel="$x_t$", xlim=(0, 100), ylim=(-2.8, 2.8))
axes.grid(visible=False)
fig

# %% [markdown]
# **Is the end noise?** Not quite: a trace of the image is left in $x_T$, and generation starts without it. In the bound this costs a KL divergence. By {eq}`eq-kl-standard`, for $D$ dimensions,
#
# $$
# D_{\mathrm{KL}}\big( q(x_T \mid x) \,\Vert\, p(x_T) \big) = \frac12 \Big( \bar\alpha_T \lVert x \rVert^2 - D \bar\alpha_T - D \log (1 - \bar\alpha_T) \Big) .
# $$ (eq-prior-matching)
#
# For small $\bar\alpha_T$ it is about $\bar\alpha_T \lVert x \rVert^2 / 2$. And $\bar\alpha_T$ goes to zero if and only if the sum of all $\beta_t$ is infinite. {cite:t}`ho2020` let the betas grow linearly from 0.0001 to 0.02, for 1000 steps. For 100 steps they must be ten times as large (nats: means over the ten digits above):
#
# **Check.** The formula is compared with the KL divergence between the companion's distributions for four steps, where the approximation $\bar\alpha_T \lVert x \rVert^2 / 2$ is poor, so it is rejected. For {eq}`eq-never-noise` up to a hundred thousand factors are multiplied; a share that vanishes like $1 / \sqrt{T}$ is rejected.

# %% tags=["check", "nbval-check-output"]
x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
toy = Ddpm(lambda x_t, t: x_t, short, (3,), short.beta)
left = kl_divergence(toy.posterior(x), toy.prior(5))
square = kept * x.square().sum(1)
right = 0.5 * (square - 3 * kept - 3 * torch.log1p(-kept))
verify("eq-prior-matching", left, right, rejects={"only the mean": 0.5 * square})

T = torch.tensor([1, 10, 1000, 100_000])
betas = 1 / (torch.arange(1, 100_001) + 1.0) ** 2
lasting = Schedule.from_betas(betas).alpha_bar[T]
wrong = {"it vanishes": 1 / T**0.5}
verify("eq-never-noise", lasting, (T + 2) / (2 * (T + 1.0)), rejects=wrong)


# %% tags=["numbers", "columns"]
def prior_cost(schedule):
    model = Ddpm(lambda x_t, t: x_t, schedule, (1, 28, 28), schedule.beta)
    costs = kl_divergence(model.posterior(digits.double()), model.prior(len(digits)))
    return costs.mean().item()


three = {
    "1000 steps": linear_schedule(1000),
    "100 steps, the same betas": linear_schedule(100),
    "100 steps, betas ten times as large": rescaled(100),
}
print(f"{'linear schedule':35s}  {'share left at the top':>21s}  {'nats':>8s}")
for name, s in three.items():
    print(f"{name:35s}  {s.alpha_bar[-1]:21.1e}  {prior_cost(s):8.4f}")

# %% [markdown]
# ::::{dropdown} Proof, and a schedule that never ends in noise
# :::{prf:theorem} When the end is noise
# :label: thm-forward-limit
# Let $0 < \beta_t < 1$. As $t \to \infty$, the distribution $q(x_t \mid x)$ converges to $\mathcal{N}(0, I)$ for every $x$ if and only if $\sum_t \beta_t = \infty$.
# :::
#
# *Proof.* By {eq}`eq-forward-marginal`, $q(x_t \mid x)$ converges to $\mathcal{N}(0, I)$ for every $x$ if and only if $\bar\alpha_t = \prod_s (1 - \beta_s) \to 0$. Since $\log (1 - \beta) \le -\beta$, a divergent sum makes $\log \bar\alpha_t \to -\infty$. If the sum converges, then $\beta_s \le \frac12$ from some $s$ on, where $\log (1 - \beta) \ge -2 \beta$, so $\log \bar\alpha_t$ stays bounded. $\square$
#
# For example, $\beta_t = 1 / (t + 1)^2$ adds noise at every step, but half of the image's variance survives all of them:
#
# $$
# \bar\alpha_T = \prod_{t=1}^{T} \Big( 1 - \frac{1}{(t + 1)^2} \Big) = \frac{T + 2}{2\, (T + 1)} \;\longrightarrow\; \frac12 .
# $$ (eq-never-noise)
#
# Each factor is $t (t + 2) / (t + 1)^2$, and neighbors cancel.
# ::::
#
# *Sources: A35, B21, C12.*

# %% [markdown]
# (sec-elbo-chain)=
# ## The bound, line by line
#
# The probability of an image adds up all paths $x_T, \dots, x_1$ that can end in it: the integral of {doc}`chapter 3 <03_elbo>`, over a thousand latents. As there, take the mean logarithm of the importance weight $w$, here of a whole path:
#
# $$
# w = \frac{p_\theta(x, x_1, \dots, x_T)}{q(x_1, \dots, x_T \mid x)}, \qquad \mathrm{ELBO}(x) = \mathbb{E}_q \log w \le \log p_\theta(x) .
# $$ (eq-path-weight)
#
# By {eq}`eq-reversal` it is the bound {eq}`eq-chain-elbo` of a hierarchical VAE. Deriving it again shows which terms can be computed, and why.
#
# **1. Write both distributions as products.** Both are Markov chains, so each factor joins neighbors only:
#
# $$
# \log w = \log \frac{p(x_T) \prod_{t=1}^{T} p_\theta(x_{t-1} \mid x_t)}{\prod_{t=1}^{T} q(x_t \mid x_{t-1})} .
# $$ (eq-line-product)
#
# The model goes down and $q$ goes up: the factor of $x_t$ in $q$ is given the latent below, that in the model the latent above. A KL divergence compares two distributions of one variable under one condition, so below the top no two of these factors make one.
#
# **2. Turn each step of $q$ around,** by Bayes' rule. Without a condition on $x$ this needs $q(x_{t-1})$ and $q(x_t)$, mixtures over all data, which are unknown. *With the condition everything in it is a Gaussian that we know.* And the condition is free: given $x_{t-1}$, the noise of a step does not depend on $x$. For $t \ge 2$ (at $t = 1$ there is nothing to turn, since $x_0$ *is* $x$),
#
# $$
# q(x_t \mid x_{t-1}) = q(x_t \mid x_{t-1}, x) = \frac{q(x_{t-1} \mid x_t, x)\, q(x_t \mid x)}{q(x_{t-1} \mid x)} .
# $$ (eq-turned-step)
#
# Insert this in all steps but the first:
#
# $$
# \log w = \log \frac{p(x_T)\, p_\theta(x \mid x_1)}{q(x_1 \mid x)} + \sum_{t=2}^{T} \log \frac{p_\theta(x_{t-1} \mid x_t)\; q(x_{t-1} \mid x)}{q(x_{t-1} \mid x_t, x)\; q(x_t \mid x)} .
# $$ (eq-line-turned)
#
# **3. Let neighbors cancel.** Each marginal $q(x_t \mid x)$ stands once in a denominator and, for $t < T$, once in a numerator ({numref}`fig-telescope`):
#
# $$
# \log w = \log p_\theta(x \mid x_1) + \log \frac{p(x_T)}{q(x_T \mid x)} + \sum_{t=2}^{T} \log \frac{p_\theta(x_{t-1} \mid x_t)}{q(x_{t-1} \mid x_t, x)} .
# $$ (eq-line-telescoped)

# %% tags=["figure"] mystnb={"image": {"alt": "Four fractions in a row, for T = 4. The marginal of x 1 in the denominator of the first fraction and in the numerator of the second have one color and are struck out by one line; likewise that of x 2 in the second and third, and that of x 3 in the third and fourth. The marginal of x 4 is left in the last denominator."}, "figure": {"caption": "The four factors of $w$ for $T = 4$: only the last marginal remains.", "name": "fig-telescope"}}
fig, (axes,) = plots.figure(height=1.7)
axes.set(xlim=(0, 4), ylim=(0, 1))
axes.set_axis_off()
for k, color in enumerate(["#0072b2", "#d55e00", "#009e73", "black"]):
    above = f"p(x_{k} | x_{k + 1})" if k else r"p(x | x_1)\; p(x_4)"
    _ = axes.text(k + (0.7 if k else 0.5), 0.72, f"${above}$", ha="center")
    _ = axes.text(k + 0.72, 0.18, f"$q(x_{k + 1} | x)$", ha="center", color=color)
    _ = axes.plot([k + 0.06, k + 0.96], [0.5, 0.5], color="#555555", linewidth=1)
    if k:
        _ = axes.text(k + 0.24, 0.72, f"$q(x_{k} | x)$", ha="center", color=before)
        _ = axes.text(k + 0.28, 0.18, f"$q(x_{k} | x_{k + 1}, x)$", ha="center")
        _ = axes.plot([k - 0.4, k + 0.36], [0.14, 0.86], color=before, linewidth=2.5, alpha=0.5)
    before = color
fig

# %% [markdown]
# So far no mean has been taken: these lines hold for *every* path, and for any model. So code can be checked on a drawn path.
#
# **4. Take the mean.** Each term depends on one or two variables; the others integrate to one.
#
# $$
# \begin{aligned}
# \mathrm{ELBO}(x) = {} & \mathbb{E}_{q(x_1 \mid x)} \log p_\theta(x \mid x_1) + \mathbb{E}_{q(x_T \mid x)} \log \frac{p(x_T)}{q(x_T \mid x)} \\
# & + \sum_{t=2}^{T} \mathbb{E}_{q(x_{t-1}, x_t \mid x)} \log \frac{p_\theta(x_{t-1} \mid x_t)}{q(x_{t-1} \mid x_t, x)} .
# \end{aligned}
# $$ (eq-line-means)
#
# **5. Find the KL divergences.** The second term is minus a KL divergence. In the sum, take the mean over $x_{t-1}$ for a given $x_t$ first: now both distributions are of $x_{t-1}$.
#
# $$
# \begin{aligned}
# \mathrm{ELBO}(x) = {} & \underbrace{\mathbb{E}_{q(x_1 \mid x)} \log p_\theta(x \mid x_1)}_{\text{reconstruction}, \; -L_0} \;-\; \underbrace{D_{\mathrm{KL}}\big( q(x_T \mid x) \,\Vert\, p(x_T) \big)}_{\text{prior matching}, \; L_T} \\
# & - \sum_{t=2}^{T} \underbrace{\mathbb{E}_{q(x_t \mid x)}\, D_{\mathrm{KL}}\big( q(x_{t-1} \mid x_t, x) \,\Vert\, p_\theta(x_{t-1} \mid x_t) \big)}_{\text{denoising matching}, \; L_{t-1}} .
# \end{aligned}
# $$ (eq-three-terms)
#
# - $L_0$ punishes a poor estimate of the image from $x_1$.
# - $L_T$ punishes a schedule that leaves a trace of the image at the top. It has no parameters.
# - $L_{t-1}$, the term of step $t$, punishes a step unlike the one we would take if we knew the image. Averaged over many images it cannot reach zero: even the best model pays for what the step reveals about the image. (These nats are among those of $-\log p(x)$; they do not make the bound loose.)
#
# That is what turning the steps has gained. The means of {eq}`eq-line-product` have the same sum and could be sampled, but each from two latents. Here $L_{t-1}$ needs one, $x_t$: a formula gives the mean over $x_{t-1}$, without the noise of a draw. The sum must be at most $\log p_\theta(x)$, a formula for a linear Gaussian model. Here is one on a line, wrong on purpose, with four steps and $x = 1.3$ (in nats):
#
# **Check.** The chain's denoiser, $\hat{x} = 0.6\, x_t + 0.1$ at all times, is wrong on purpose, since identities must hold for every $p_\theta$. One side treats a path as a whole, without its steps: a path of the model is one Gaussian vector of five components, a path of $q$ one of four. Matrix algebra gives their means and covariances, and with them $\log w$ and its expectation: that of a quadratic function is its value at the mean plus a trace.
# The bound must be $\log p_\theta(x)$ minus the KL divergence of $q$ from the model's posterior; the other direction is rejected. The products must give the weight of the path at six arbitrary paths; a learned top, $q(x_T \mid x)$ in place of $p(x_T)$, is rejected. The next three lines are compared at the same six paths. Two plausible slips are rejected: to forget the quotient of the marginals, and to cancel $q(x_T \mid x)$ with the others.

# %% tags=["serves"]
T, x_value = 4, 1.3
schedule = Schedule.from_betas(torch.tensor([0.1, 0.25, 0.45, 0.7]))
model = Ddpm(lambda x_t, t: 0.6 * x_t + 0.1, schedule, (1,), schedule.beta)
_ = torch.manual_seed(0)
path = torch.randn(T + 1, 6, 1)  # path[t] is x_t, for six paths
path[0] = x_value
x = path[0]


def log_p(t):
    """log p(x_{t-1} | x_t) along the paths."""
    p = model.inner_prior(t - 1, path[t]) if t > 1 else model.likelihood(path[1])
    return p.log_prob(path[t - 1])


def log_q(t):
    """log q(x_t | x_{t-1}) along the paths."""
    scale, var = schedule.forward_coefficients(t - 1, t)
    return Normal(scale * path[t - 1], var**0.5).log_prob(path[t])[:, 0]


def joint(start, slopes, offsets, variances):
    """The Gaussian of a chain v_i = slope_i v_{i-1} + offset_i + noise_i."""
    A = torch.linalg.inv(torch.eye(len(slopes)) - torch.diag(slopes[1:], -1))
    means = offsets.clone()
    means[0] = means[0] + slopes[0] * start
    return MultivariateNormal(A @ means, A @ torch.diag(variances) @ A.T)


# %% tags=["serves"]
q_joint = joint(x_value, schedule.alpha[1:] ** 0.5, torch.zeros(T), schedule.beta[1:])
zero, one = torch.zeros(1, 1), torch.ones(1, 1)
ts = range(T, 0, -1)
offsets = [model.reverse_step(torch.tensor([t]), zero, 0 * zero + 0.1) for t in ts]
slopes = [model.reverse_step(torch.tensor([t]), one, 0.6 * one) for t in ts]
p_joint = joint(  # from x_T down to x_0
    0.0,
    torch.tensor([0.0] + [step.mean.item() for step in slopes]),
    torch.tensor([0.0] + [step.mean.item() for step in offsets]),
    torch.cat([torch.ones(1), schedule.beta[1:].flip(0)]),
)
P = p_joint.precision_matrix.flip(0, 1)[1:, 1:]
at_mean = torch.cat([torch.tensor([x_value]), q_joint.mean])
elbo = p_joint.log_prob(at_mean.flip(0)) - 0.5 * (P @ q_joint.covariance_matrix).trace()
elbo = elbo + q_joint.entropy()
log_evidence = Normal(p_joint.mean[-1], p_joint.variance[-1] ** 0.5).log_prob(torch.tensor(x_value))
S = p_joint.covariance_matrix.flip(0, 1)  # x_0 first
gain = S[1:, 0] / S[0, 0]
p_posterior = MultivariateNormal(
    p_joint.mean.flip(0)[1:] + gain * (x_value - p_joint.mean[-1]),
    S[1:, 1:] - gain[:, None] * S[0, 1:],
)

# %% tags=["check", "nbval-check-output"]
right = log_evidence - kl_divergence(q_joint, p_posterior)
wrong = {"the other KL": log_evidence - kl_divergence(p_posterior, q_joint)}
verify("eq-path-weight", elbo, right, rejects=wrong)
verify("eq-path-weight", elbo, log_evidence, at_most(0.0))

points = path[:, :, 0].T
log_w = p_joint.log_prob(points.flip(1)) - q_joint.log_prob(points[:, 1:])
log_prior = model.prior(6).log_prob(path[T])
below = sum(log_q(t) for t in range(1, T + 1))
products = log_prior + sum(log_p(t) for t in range(1, T + 1))
top = Normal(q_joint.mean[-1], q_joint.variance[-1] ** 0.5)
learned = products - below + top.log_prob(path[T])[:, 0] - log_prior
verify("eq-line-product", log_w, products - below, rejects={"E13": learned})
marginal = [None] + [model.marginal(t, x).log_prob(path[t]) for t in range(1, T + 1)]
turned = range(2, T + 1)  # the steps that are turned around
back = torch.stack([model.inner_posterior(t - 1, path[t], x).log_prob(path[t - 1]) for t in turned])
moves = torch.stack([marginal[t] - marginal[t - 1] for t in turned])
ratios = (torch.stack([log_p(t) for t in turned]) - back).sum(0)
ends = log_prior + log_p(1) - marginal[1]
telescoped = log_p(1) + log_prior - marginal[T] + ratios

up = torch.stack([log_q(t) for t in turned])
verify("eq-turned-step", up, back + moves, rejects={"without marginals": back})
wrong = {"without marginals": ends + ratios}
verify("eq-line-turned", log_w, ends + ratios - moves.sum(0), rejects=wrong)
lost = {"q of the top lost": telescoped + marginal[T]}
verify("eq-line-telescoped", log_w, telescoped, rejects=lost)

# %% [markdown]
# **Check.** The line with expectations is compared term by term. In a quadratic function, standard Gaussian noise may be replaced by the two values $1$ and $-1$ without changing the expectation, so four pairs $(\varepsilon_t, \varepsilon_{t-1})$ give each expectation exactly, and two points suffice where only $x_t$ is random. A sum without the top, and one without the term of $t = 1$, are rejected. `elbo_terms` estimates the same number from 200,000 copies of one $x$.


# %% tags=["serves"]
def exact_terms(model, x):
    """The mean of each step's term over the noise: t = 1, ..., T."""
    T = model.num_latents
    t = torch.arange(1, T + 1).repeat_interleave(2)
    noise = torch.tensor([1.0, -1.0]).repeat(T)[:, None]
    return elbo_step(model, x.expand(2 * T, 1), t, noise).view(T, 2).mean(1)


x, a, b = torch.tensor([[x_value, 1, 1], [x_value, 1, -1]]).repeat(2, 1).T[..., None]
a = a * torch.tensor([[1.0], [1.0], [-1.0], [-1.0]])
means = []
for t in range(1, T + 1):
    x_t = add_noise(schedule, x, t, a)
    if t == 1:
        log_ratio = model.likelihood(x_t).log_prob(x)
    else:
        q_back = model.inner_posterior(t - 1, x_t, x)
        before = q_back.mean + q_back.stddev * b
        log_ratio = model.inner_prior(t - 1, x_t).log_prob(before)
        log_ratio = log_ratio - q_back.log_prob(before)
    means.append(log_ratio.mean())
top_mean = (model.prior(4).log_prob(x_t) - model.posterior(x).log_prob(x_t)).mean()

# %% tags=["check", "nbval-check-output"]
wrong = {"without the top": sum(means), "without t = 1": sum(means[1:]) + top_mean}
verify("eq-line-means", elbo, sum(means) + top_mean, rejects=wrong)
terms = exact_terms(model, x[:1])
prior_matching = kl_divergence(model.posterior(x[:1]), model.prior(1))[0]
right = terms.sum() - prior_matching
wrong = {"without the prior": terms.sum(), "without t = 1": right - terms[0]}
verify("eq-three-terms", elbo, right, rejects=wrong)
_ = torch.manual_seed(0)
many = torch.full((200_000, 1), x_value)
drawn = elbo_terms(model, many)
verify("eq-three-terms", drawn.elbo, right, monte_carlo, rejects=wrong)

print(f"reconstruction   {terms[0]:8.4f}")
print(f"prior matching   {-prior_matching:8.4f}")
for t in range(2, T + 1):
    print(f"step {t} to {t - 1}      {terms[t - 1]:8.4f}")
print(f"ELBO             {right:8.4f}")
print(f"log p(x)         {log_evidence:8.4f}")

# %% [markdown]
# `elbo_terms`, which served the VAE and the ladder, estimates the same bound from samples.
#
# *Sources: B19, B22.*

# %% [markdown]
# (sec-denoising-posterior)=
# ## The reverse step if the image is known
#
# By {eq}`eq-turned-step`, $q(x_{t-1} \mid x_t, x)$ is a product of two Gaussian densities, divided by a third in which $x_{t-1}$ does not occur. The components are independent, so take one dimension; what does not contain $x_{t-1}$ goes into the constants. Complete the square:
#
# $$
# \begin{aligned}
# \log q(x_{t-1} \mid x_t, x) & = -\frac{(x_t - \sqrt{\alpha_t}\, x_{t-1})^2}{2 \beta_t} - \frac{(x_{t-1} - \sqrt{\bar\alpha_{t-1}}\, x)^2}{2 (1 - \bar\alpha_{t-1})} + c \\
# & = -\frac{1}{2} \big( A\, x_{t-1}^2 - 2 B\, x_{t-1} \big) + c' \\
# & = -\frac{A}{2} \Big( x_{t-1} - \frac{B}{A} \Big)^2 + c'' , \\
# A = \frac{\alpha_t}{\beta_t} + {} & \frac{1}{1 - \bar\alpha_{t-1}}, \qquad B = \frac{\sqrt{\alpha_t}}{\beta_t}\, x_t + \frac{\sqrt{\bar\alpha_{t-1}}}{1 - \bar\alpha_{t-1}}\, x .
# \end{aligned}
# $$ (eq-complete-square)
#
# That is the logarithm of a Gaussian with the mean $B / A$ and the precision (one over the variance) $A$. Its two fractions have a simple sum, because $\beta_t + \alpha_t = 1$ and $\alpha_t \bar\alpha_{t-1} = \bar\alpha_t$:
#
# $$
# A = \frac{1}{1 - \bar\alpha_{t-1}} + \frac{\alpha_t}{\beta_t} = \frac{\beta_t + \alpha_t - \bar\alpha_t}{(1 - \bar\alpha_{t-1})\, \beta_t} = \frac{1 - \bar\alpha_t}{(1 - \bar\alpha_{t-1})\, \beta_t} .
# $$ (eq-precisions-add)
#
# So
#
# $$
# q(x_{t-1} \mid x_t, x) = \mathcal{N}\big( \tilde\mu_t(x_t, x),\; \tilde\beta_t\, I \big)
# $$ (def-denoising-posterior)
#
# with $\tilde\mu_t = B / A$ and $\tilde\beta_t = 1 / A$,
#
# $$
# \begin{aligned}
# \tilde\mu_t(x_t, x) & = \frac{\sqrt{\bar\alpha_{t-1}}\, \beta_t}{1 - \bar\alpha_t}\; x + \frac{\sqrt{\alpha_t}\, (1 - \bar\alpha_{t-1})}{1 - \bar\alpha_t}\; x_t, \\
# \tilde\beta_t & = \frac{1 - \bar\alpha_{t-1}}{1 - \bar\alpha_t}\; \beta_t .
# \end{aligned}
# $$ (eq-denoising-posterior)

# %% tags=["figure"] mystnb={"image": {"alt": "Three bell curves over x t minus one. The first, centered near 1.1, comes from the image. The second, broader and centered near minus 0.5, comes from x t. Their normalized product lies between them and is the narrowest."}, "figure": {"caption": "The reverse step with a known image, at $t = 3$ of four.", "name": "fig-posterior-product"}}
t, x_0, now = 3, torch.tensor(1.3), torch.tensor(-0.4)
line = torch.linspace(-3, 3, 301)
before, step = schedule.forward_coefficients(0, t - 1), schedule.forward_coefficients(t - 1, t)
of_x_0, of_x_t, var = schedule.reverse_coefficients(t)
factors = {
    "from the image $x$": Normal(before.scale * x_0, before.var**0.5),
    "from $x_t$": Normal(now / step.scale, (step.var / step.scale**2) ** 0.5),
    "product of both": Normal(of_x_0 * x_0 + of_x_t * now, var**0.5),
}
curves = {name: (line, factor.log_prob(line).exp()) for name, factor in factors.items()}
_, (axes,) = plots.figure(height=2.7)
plots.curves(curves, x_label="$x_{t-1}$", y_label="density", axes=axes)

# %% [markdown]
# In {numref}`fig-posterior-product` the mean is a compromise between the $x_{t-1}$ that the image predicts and the one that $x_t$ suggests, weighted by their precisions, as in a ladder {eq}`def-ladder-posterior`. The variance depends on the schedule alone, and its precision is the sum of both, $1 / \tilde\beta_t = \alpha_t / \beta_t + 1 / (1 - \bar\alpha_{t-1})$. So $\tilde\beta_t$ is smaller than the variance given the image alone, $1 - \bar\alpha_{t-1}$, and than that given $x_t$ alone, for data of variance 1 $\beta_t$: $1 / \beta_t = \alpha_t / \beta_t + 1$. At $t = 1$ the variance is zero, and a KL divergence would be infinite; so there the bound has a reconstruction term instead.
#
# **Check.** Bayes' rule is evaluated on a line at $t = 500$ of a thousand steps, less its value at one point; a $B$ that forgets the image is rejected. The exponential in between, $e^{-(x_{t-1}^2 - 2 \tilde\mu_t x_{t-1}) / 2 \tilde\beta_t}$, is proportional to the density and not equal to it, which is rejected too. Then the joint Gaussian of the pair is conditioned by linear regression, without the formula, at five times. Exchanged weights are rejected, and so is the variance $\beta_t$ of the forward step, and the precision $1 / \beta_t$ for the likelihood of $x_t$.

# %% tags=["serves"]
long = linear_schedule(1000)


def regressed(t):
    """Weights of x and x_t, and the variance, by regression of x_{t-1} on x_t."""
    before, now = (long.forward_coefficients(0, time) for time in (t - 1, t))
    step = long.forward_coefficients(t - 1, t)
    slope = step.scale * before.var / now.var
    rest = before.var - slope * step.scale * before.var
    return torch.stack([before.scale - slope * now.scale, slope, rest])


t, x_0, now = 500, torch.tensor(0.8), torch.tensor(-0.4)
line = torch.linspace(-2, 2, 9)
step = long.forward_coefficients(t - 1, t)
before, after = (long.forward_coefficients(0, time) for time in (t - 1, t))
quotient = Normal(step.scale * line, step.var**0.5).log_prob(now)
quotient = quotient + Normal(before.scale * x_0, before.var**0.5).log_prob(line)
quotient = quotient - Normal(after.scale * x_0, after.var**0.5).log_prob(now)
of_x_0, of_x_t, var = long.reverse_coefficients(t)
mu = of_x_0 * x_0 + of_x_t * now
log_density = Normal(mu, var**0.5).log_prob(line)
dropped = -(line**2 - 2 * mu * line) / (2 * var)

# %% tags=["check", "nbval-check-output"]
A = long.alpha[t] / long.beta[t] + 1 / long.noise_var[t - 1]
of_now = long.alpha[t] ** 0.5 / long.beta[t] * now
B = of_now + long.alpha_bar[t - 1] ** 0.5 / long.noise_var[t - 1] * x_0
square, no_image = (-A / 2 * (line - b / A) ** 2 for b in (B, of_now))
rises = {"image forgotten": no_image[1:] - no_image[0]}
verify("eq-complete-square", quotient[1:] - quotient[0], square[1:] - square[0], rejects=rises)
verify("eq-denoising-posterior", quotient, log_density, rejects={"E12": dropped})
times = torch.tensor([2, 10, 100, 500, 1000])
left = torch.stack([regressed(t) for t in times], 1)
right = torch.stack([*long.reverse_coefficients(times)])
forward = torch.stack([right[0], right[1], long.beta[times]])
wrong = {"weights exchanged": right[[1, 0, 2]], "variance of the step up": forward}
verify("eq-denoising-posterior", left, right, rejects=wrong)
of_x, alpha, beta = 1 / long.noise_var[times - 1], long.alpha[times], long.beta[times]
wrong = {"not shrunk": of_x + 1 / beta}
verify("eq-precisions-add", 1 / left[2], of_x + alpha / beta, rejects=wrong)

# %% [markdown]
# *Sources: B23, C13.*

# %% [markdown]
# (sec-true-reverse)=
# ## The reverse step if the image is unknown
#
# When the model generates, there is no image to condition on. With $q(x)$ for the data distribution and $q(x_t)$ for that of $x_t$, the true step from $x_t$ is a mixture of the known ones, over all images from which $x_t$ may have come:
#
# $$
# q(x_{t-1} \mid x_t) = \frac{q(x_t \mid x_{t-1})\, q(x_{t-1})}{q(x_t)} = \int q(x_{t-1} \mid x_t, x)\; q(x \mid x_t)\, \mathrm{d}x .
# $$ (eq-true-step)
#
# Nobody knows $q(x \mid x_t)$. But $\tilde\mu_t$ is linear in $x$, so in each dimension the mixture's mean and variance need only those of the image:
#
# $$
# \begin{aligned}
# \mathbb{E}[x_{t-1} \mid x_t] & = \tilde\mu_t\big( x_t, \mathbb{E}[x \mid x_t] \big), \\
# \mathrm{Var}[x_{t-1} \mid x_t] & = \tilde\beta_t + c_t^2\, \mathrm{Var}[x \mid x_t], \qquad c_t = \frac{\sqrt{\bar\alpha_{t-1}}\, \beta_t}{1 - \bar\alpha_t} .
# \end{aligned}
# $$ (eq-true-moments)
#
# *The mean of the step needs the posterior mean of the image, and nothing else*, and that is what regression with a squared error finds. So a network, the {term}`denoiser`, estimates the image, $\hat{x}_\theta(x_t, t)$ (the best or *exact* denoiser is $\mathbb{E}[x \mid x_t]$), and the model steps as if the estimate were the image:
#
# $$
# p_\theta(x_{t-1} \mid x_t) = \mathcal{N}\big( \tilde\mu_t(x_t, \hat{x}_\theta(x_t, t)),\; \sigma_t^2\, I \big) .
# $$ (def-reverse-step)
#
# At much noise the estimate is a blurred average of many images, and that is no fault: a step goes only a small part of the way toward it and adds noise, and the next estimate is made from a less noisy $x_t$. The variance is a choice, for {ref}`later <sec-exact-gap>`. At $t = 1$ the mean is the estimate itself, so {eq}`def-reverse-step` is also the likelihood $p_\theta(x \mid x_1)$; since $\tilde\beta_1 = 0$, its $\sigma_1^2$ must be chosen separately.
#
# **Why may the model's step be a Gaussian,** if the true one is a mixture? The slider cuts the forward process into more and more steps. It draws one true step back, at the first $t$ with $\bar\alpha_t < 0.3$, and the Gaussian of the same mean and variance.
#
# **Check.** Both sides of {eq}`eq-true-step`, Bayes' rule and the integral over $x$, are compared at eight points for $t = 3$ of the chain of four steps. The Gaussian match is rejected. Mean and variance of the step are taken from its density, and $\mathbb{E}[x \mid x_t]$ from the companion's exact denoiser. The variance without its second part is rejected.


# %% tags=["serves"]
def log_step_back(schedule, t, x_t, line):
    """log q(x_{t-1} | x_t) on a line, by Bayes' rule."""
    scale, var = schedule.forward_coefficients(t - 1, t)
    log_up = Normal(scale * line, var**0.5).log_prob(x_t)
    log_before = mixture_at(schedule, t - 1).log_prob(line)
    return log_up + log_before - mixture_at(schedule, t).log_prob(x_t)


def moments(density, line):
    """Mean and variance of a density on a line."""
    mean = torch.trapezoid(line * density, line)
    return mean, torch.trapezoid((line - mean) ** 2 * density, line)


def mixture_denoiser(schedule):
    covs = widths[:, None, None] ** 2
    return MixtureDenoiser(schedule, weights, centers[:, None], covs)


# %% tags=["check", "nbval-check-output"]
t, x_t = 3, torch.tensor(0.3)
line, x_line = torch.linspace(-1, 1.8, 8), torch.linspace(-6, 6, 24_001)
signal, noise_var = schedule.forward_coefficients(0, t)
prior_x = mixture_at(schedule, 0).log_prob(x_line)
given = (prior_x + Normal(signal * x_line, noise_var**0.5).log_prob(x_t)).exp()
given = given / torch.trapezoid(given, x_line)  # q(x | x_t)
c, of_x_t, var = schedule.reverse_coefficients(t)
steps = Normal(c * x_line + of_x_t * x_t, var**0.5).log_prob(line[:, None]).exp()
x_mean, x_var = moments(given, x_line)
matched = Normal(c * x_mean + of_x_t * x_t, (var + c**2 * x_var) ** 0.5)
left = log_step_back(schedule, t, x_t, line).exp()
right = torch.trapezoid(steps * given, x_line)
gaussian = {"E14": matched.log_prob(line).exp()}
verify("eq-true-step", left, right, quadrature, rejects=gaussian)

x_hat = mixture_denoiser(schedule)(x_t.view(1, 1), torch.tensor([t]))[0, 0]
step_moments = moments(log_step_back(schedule, t, x_t, x_line).exp(), x_line)
right = torch.stack([c * x_hat + of_x_t * x_t, var + c**2 * x_var])
only = {"known image": torch.stack([right[0], var])}
verify("eq-true-moments", torch.stack(step_moments), right, quadrature, rejects=only)


# %% tags=["figure"]
def draw_step(T):
    """The true step back at one x_t, its two parts, and its Gaussian match."""
    schedule, x_t, wide = rescaled(T), torch.tensor(0.3), torch.linspace(-6, 6, 6001)
    t = int((schedule.alpha_bar < 0.3).nonzero()[0])
    mean, var = moments(log_step_back(schedule, t, x_t, wide).exp(), wide)
    line = mean + var**0.5 * torch.linspace(-3.5, 3.5, 201)
    true = log_step_back(schedule, t, x_t, line).exp()
    before = mixture_at(schedule, t - 1)
    share = before.component_distribution.log_prob(line[:, None]) + weights.log()
    share = (share - before.log_prob(line)[:, None]).exp() * true[:, None]
    curves = {"true step": (line, true)}
    curves["Gaussian match"] = (line, Normal(mean, var**0.5).log_prob(line).exp())
    curves |= {f"from mode {k + 1}": (line, share[:, k]) for k in (0, 1)}
    return plots.curves(curves, x_label="$x_{t-1}$", y_label="density")


Slider(
    [5, 8, 10, 20, 50, 200],
    draw_step,
    description="number of steps",
    alt="The true step back, its parts from both modes, and its Gaussian match, T = {}",
    label="{}",
)

# %% [markdown]
# With five steps the true step has two modes, because $x_t$ may have come from either mode of the data; the best Gaussian puts probability between them. With fifty it looks Gaussian. The first form of {eq}`eq-true-step` says why: the true step is $q(x_t \mid x_{t-1})$, a Gaussian about $\sqrt{\beta_t}$ wide, times the smooth density $q(x_{t-1})$. In a step that is short beside the details of $q(x_{t-1})$, $\log q(x_{t-1})$ is nearly a straight line over that width, and a Gaussian times the exponential of a straight line is a Gaussian, shifted. That is what many small steps are good for: the model's Gaussians can be right.
#
# :::{depth-start} the distance from a Gaussian vanishes faster than the step, if the density is smooth
# :::
# {numref}`fig-nearly-gaussian` measures the distance by the *total variation*, the largest difference between the probabilities that two distributions give to any event. It is a mean over $x_t$, at the time $t \ge 2$ where that is largest.


# %% tags=["figure"] mystnb={"image": {"alt": "A curve over the number of steps on logarithmic axes. It falls from almost 0.3 at four steps to less than 0.0001 at a thousand, faster than a straight line of slope minus one, which is drawn beside it."}, "figure": {"caption": "How far the true reverse step is from a Gaussian, at the worst time of a chain of $T$ steps.", "name": "fig-nearly-gaussian"}}
def farthest(T):
    """Largest mean total variation between a true step and its Gaussian match."""
    schedule, worst, unit = rescaled(T), 0.0, torch.linspace(-9, 9, 1201)
    x_t = torch.linspace(-4, 4, 81)[:, None]
    for t in sorted({*range(2, min(T, 12) + 1), *np.geomspace(2, T, 25).astype(int)}):
        c, of_x_t, var = schedule.reverse_coefficients(t)
        center = c * mixture_denoiser(schedule)(x_t, torch.full((81,), t)) + of_x_t * x_t
        line = center + 1.5 * (var + c**2 * widths.max() ** 2) ** 0.5 * unit
        true = log_step_back(schedule, t, x_t, line).exp()
        mean = torch.trapezoid(line * true, line)[:, None]
        step_var = torch.trapezoid((line - mean) ** 2 * true, line)[:, None]
        match = Normal(mean, step_var**0.5).log_prob(line).exp()
        apart = 0.5 * torch.trapezoid((true - match).abs(), line)
        here = mixture_at(schedule, t).log_prob(x_t[:, 0]).exp()
        worst = max(worst, (here * apart).sum() / here.sum())
    return float(worst)


chain_lengths = (4, 10, 30, 100, 300, 1000)
farthest_of = [farthest(T) for T in chain_lengths]
_, (axes,) = plots.figure(height=2.7)
lines = {"largest distance": (chain_lengths, farthest_of)}
lines["$1 / T$"] = (chain_lengths, [1 / T for T in chain_lengths])
labels = {"x_label": "number of steps $T$", "y_label": "total variation distance"}
plots.curves(lines, **labels, log_x=True, log_y=True, axes=axes)

# %% [markdown]
# On these data the distance from a Gaussian falls faster than $1/T$, so even summed over all $T$ steps it vanishes: $T$ times this largest distance, which the sum cannot exceed, falls too (for $T$ = 4, 10, 30, 100, 300 and 1000):

# %% tags=["numbers", "nbval-check-output"]
print(f"four steps {farthest_of[0]:.3f}, a thousand {farthest_of[-1]:.1e}")
sums = [T * distance for T, distance in zip(chain_lengths, farthest_of, strict=True)]
print("T times the distance:", "  ".join(f"{total:.3f}" for total in sums))

# %% [markdown]
# Why is it so? In one dimension, write a step as $x_t = \sqrt{\alpha_t}\, x_{t-1} + \sqrt{\beta_t}\, \epsilon$ with new noise $\epsilon$. Then
#
# $$
# \mathbb{E}[\epsilon \mid x_t] = - \sqrt{\beta_t}\; \frac{\mathrm{d} \log q(x_t)}{\mathrm{d} x_t} .
# $$ (eq-noise-score)
#
# The best estimate of the noise is the {term}`score` of $q(x_t)$ times a factor that depends on the noise level (Tweedie's formula {cite:p}`efron2011`). The proof uses only that the noise is Gaussian, so the same holds for a direct draw from $x$ to $x_t$, with $\bar\alpha_t$ and $1 - \bar\alpha_t$ in place of $\alpha_t$ and $\beta_t$. Without the factor the error is large where the noise is small. The next derivatives of $\log q$ show how far the step is from a Gaussian.
#
# :::{prf:theorem} The third cumulant of the step back
# :label: thm-third-cumulant
# Let $k(x_t)$ be the third cumulant of $x_{t-1}$ given $x_t$, $\mathbb{E} \big[ (x_{t-1} - \mathbb{E}[x_{t-1} \mid x_t])^3 \mid x_t \big]$. Then
#
# $$
# k(x_t) = \Big( \frac{\beta_t}{\sqrt{\alpha_t}} \Big)^{3}\; \frac{\mathrm{d}^3 \log q(x_t)}{\mathrm{d} x_t^3} .
# $$ (eq-third-cumulant)
# :::
#
# *Proof of both.* With $\eta = \sqrt{\alpha_t}\, x_t / \beta_t$, the density of $x_{t-1}$ given $x_t$ is proportional to $q(x_{t-1})\, e^{- \alpha_t x_{t-1}^2 / 2 \beta_t}\, e^{\eta x_{t-1}}$. The logarithm of its normalizer as a function of $\eta$ is $A(\eta) = \log q(x_t) + x_t^2 / 2 \beta_t$, up to a constant, and the derivatives of $A$ are the cumulants of $x_{t-1}$ given $x_t$. Since $\mathrm{d} x_t / \mathrm{d} \eta = \beta_t / \sqrt{\alpha_t}$, the first one is $\mathbb{E}[x_{t-1} \mid x_t] = (\beta_t / \sqrt{\alpha_t}) (\log q)' + x_t / \sqrt{\alpha_t}$, and $\epsilon = (x_t - \sqrt{\alpha_t}\, x_{t-1}) / \sqrt{\beta_t}$ gives {eq}`eq-noise-score`. In the third derivative the quadratic term is gone. $\square$
#
# The third cumulant of a Gaussian is zero, so the true step is *not* Gaussian unless $\log q$ is quadratic. It *becomes* Gaussian for small $\beta_t$ if $q(x_{t-1})$ is smooth and positive. Then the derivatives of $\log q(x_t)$ stay bounded, so by the same proof the cumulant of order $n \ge 3$ is of order $\beta_t^n$, while the $n$-th power of the standard deviation is of order $\beta_t^{n/2}$.
#
# Smoothness is needed. Let $x_{t-1}$ be uniform between 0 and 1, and look at the edge, $x_t = 0$. As the noise gets smaller, the step back tends to half a Gaussian, with the skewness 0.9953, and not to a Gaussian.
#
# **Check.** Moments, computed as sums over a line, are compared with derivatives of $\log q(x_t)$ by automatic differentiation, for a large step and for a small one. The score without its factor is rejected, a third cumulant of zero, and the square of the factor in place of its third power.


# %% tags=["check", "nbval-check-output"]
def step_and_score(schedule, t, x_t):
    """Mean noise and third cumulant of a step by sums; score and third derivative of log q(x_t)."""
    scale, var = schedule.forward_coefficients(t - 1, t)
    log_q = mixture_at(schedule, t).log_prob
    density = log_step_back(schedule, t, x_t, x_line).exp()
    mean, _ = moments(density, x_line)
    cubes = torch.trapezoid((x_line - mean) ** 3 * density, x_line)
    noise = (x_t - scale * mean) / var.sqrt()
    return torch.stack([noise, cubes, grad(log_q)(x_t), grad(grad(grad(log_q)))(x_t)])


for chain, t in ((schedule, 3), (rescaled(100), 20)):
    found = [step_and_score(chain, t, torch.tensor(x_t)) for x_t in (-1.0, 0.3, 0.9)]
    noise, cubes, score, third = torch.stack(found, 1)
    right = -chain.beta[t].sqrt() * score
    verify("eq-noise-score", noise, right, quadrature, rejects={"E11": -score})
    factor = chain.beta[t] / chain.alpha[t].sqrt()
    wrong = {"E14": 0 * third, "squared factor": factor**2 * third}
    verify("eq-third-cumulant", cubes, factor**3 * third, quadrature, rejects=wrong)

inside = torch.linspace(0, 1, 20_001)
for beta in (0.5, 0.1, 0.01, 0.001):
    density = (-(1 - beta) * inside**2 / (2 * beta)).exp()
    density = density / torch.trapezoid(density, inside)
    mean, var = moments(density, inside)
    cubes = torch.trapezoid((inside - mean) ** 3 * density, inside)
    print(f"uniform data, at the edge: beta {beta:<5g}  skewness {cubes / var**1.5:.4f}")

# %% [markdown]
# :::{depth-end}
# :::
#
# *Sources: B25, C13.*

# %% [markdown]
# (sec-five-languages)=
# ## The loss: estimate the image, the noise or v
#
# Both distributions of a denoising term are Gaussian now. By {eq}`eq-kl-gaussians`, with $\mu_\theta$ for the model's mean,
#
# $$
# \begin{aligned}
# & D_{\mathrm{KL}}\big( q(x_{t-1} \mid x_t, x) \,\Vert\, p_\theta(x_{t-1} \mid x_t) \big) \\
# & \qquad = \frac{\lVert \tilde\mu_t - \mu_\theta \rVert^2}{2 \sigma_t^2} + \frac{D}{2} \Big( \frac{\tilde\beta_t}{\sigma_t^2} - 1 - \log \frac{\tilde\beta_t}{\sigma_t^2} \Big) .
# \end{aligned}
# $$ (eq-step-cost)
#
# If $\sigma_t^2$ is fixed, the second part has nothing to learn. In the first, both means contain the same $x_t$ with the same factor, which cancels: $\tilde\mu_t - \mu_\theta = c_t\, (x - \hat{x}_\theta)$. *What is left to train of the ELBO is a squared error of the image, at each noise level, with the weight $c_t^2 / 2 \sigma_t^2$.* The Gaussian reconstruction is the case $t = 1$, with $c_1 = 1$.
#
# Must the network put out the image? It sees $x_t = \sqrt{\bar\alpha_t}\, x + \sqrt{1 - \bar\alpha_t}\, \varepsilon$, so an estimate of the noise is one of the image, $(x_t - \sqrt{1 - \bar\alpha_t}\, \hat\varepsilon) / \sqrt{\bar\alpha_t}$, and so is one of any quantity that determines $x$ once $x_t$ is given:
#
# | the network estimates | which is |
# |---|---|
# | the mean | $\tilde\mu_t$ |
# | the image | $x$ |
# | the noise | $\varepsilon = (x_t - \sqrt{\bar\alpha_t}\, x) / \sqrt{1 - \bar\alpha_t}$ |
# | $v$ {cite:p}`salimans2022` | $v = \sqrt{\bar\alpha_t}\, \varepsilon - \sqrt{1 - \bar\alpha_t}\, x$ |
# | the {term}`score` (gradient of the logarithm) of $q(x_t \mid x)$ | $s = -\varepsilon / \sqrt{1 - \bar\alpha_t}$; its mean given $x_t$ is the score of $q(x_t)$ {eq}`eq-noise-score` |
#
# Write $e_x = x - \hat{x}$ for the error of the image, and so on for the others. Since $x_t$ is known, $\sqrt{\bar\alpha_t}\, e_x = - \sqrt{1 - \bar\alpha_t}\, e_\varepsilon$, and with the {term}`signal-to-noise ratio` $\mathrm{SNR}_t = \bar\alpha_t / (1 - \bar\alpha_t)$
#
# $$
# \begin{aligned}
# \lVert e_\mu \rVert^2 & = c_t^2\, \lVert e_x \rVert^2, \\
# \lVert e_x \rVert^2 & = \frac{\lVert e_\varepsilon \rVert^2}{\mathrm{SNR}_t} = (1 - \bar\alpha_t)\, \lVert e_v \rVert^2 = \frac{1 - \bar\alpha_t}{\mathrm{SNR}_t}\, \lVert e_s \rVert^2 .
# \end{aligned}
# $$ (eq-five-errors)
#
# **Why $v$?** With much noise the noise is nearly $x_t$ itself, and the image is what the network does not know; with little noise it is the other way around. To convert an estimate of what is nearly known divides its error by a small number. At either end $v$ is nearly the unknown one of the two, up to its sign.
#
# :::{depth-start} v is the other coordinate in turned axes, and its error is never enlarged
# :::
# $(x_t, v)$ is the point $(x, \varepsilon)$ in turned axes ({numref}`fig-v-rotation`). The network sees one coordinate; $v$ is the other, and the derivative of $x_t$ by the angle, hence "velocity".

# %% tags=["figure"] mystnb={"image": {"alt": "Three panels with the axes x and epsilon and the same point. A pair of axes, x t and v, is turned against them, by a small angle on the left, by 45 degrees in the middle and by nearly 90 degrees on the right. Thick lines run along both turned axes from the origin to the feet of the perpendiculars from the point."}, "figure": {"caption": "One pixel $x$ and its noise $\\varepsilon$ as a point in the plane, at three noise levels. The network sees $x_t$ and is asked for $v$.", "name": "fig-v-rotation"}}
point = np.array([0.8, 0.55])
names = {"#0072b2": "$x_t$", "#d55e00": "$v$"}
fig, panels = plots.figure(3, height=2.7)
for axes, kept in zip(panels, (0.95, 0.5, 0.05), strict=True):
    cos, sin = kept**0.5, (1 - kept) ** 0.5
    for (color, name), way in zip(names.items(), ([cos, sin], [-sin, cos]), strict=True):
        way = np.array(way)
        foot = (point @ way) * way
        _ = axes.plot(*np.stack([-1.2 * way, 1.2 * way], 1), color=color, linewidth=0.8)
        _ = axes.plot(*np.stack([0 * way, foot], 1), color=color, linewidth=4)
        _ = axes.plot(*np.stack([foot, point], 1), "--", color="#777777", linewidth=0.8)
        _ = axes.text(*(1.36 * way), name, color=color, ha="center", va="center")
    _ = axes.plot(*point, "o", color="black")
    _ = axes.set(xlim=(-1.5, 1.5), ylim=(-1.5, 1.5), aspect="equal", xticks=[0], yticks=[0])
    _ = axes.set(xlabel="$x$", title=rf"$\bar\alpha_t$ = {kept:g}")
_ = panels[0].set_ylabel(r"$\varepsilon$")
fig

# %% [markdown]
# With much noise $x_t$ hardly depends on the image, whose best estimate is then near the mean of the data. And no error is enlarged: of a squared error of $v$ the share $1 - \bar\alpha_t$ falls on the image and $\bar\alpha_t$ on the noise, while one of the predicted noise is divided by $\mathrm{SNR}_t$ to give that of the image, and with much noise this ratio is tiny.
#
# :::{depth-end}
# :::
#
# In the bound each squared error has its own weight:
#
# $$
# \begin{aligned}
# \omega_\mu & = \frac{1}{2 \sigma_t^2}, & \omega_x & = \frac{c_t^2}{2 \sigma_t^2}, & \omega_\varepsilon & = \frac{\omega_x}{\mathrm{SNR}_t} = \frac{\beta_t^2}{2 \sigma_t^2\, \alpha_t\, (1 - \bar\alpha_t)}, \\
# & & \omega_v & = (1 - \bar\alpha_t)\, \omega_x, & \omega_s & = (1 - \bar\alpha_t)\, \omega_\varepsilon .
# \end{aligned}
# $$ (eq-five-weights)
#
# **Check.** A random error is added to $x$ and translated by the companion's functions. Equal errors are rejected, and a $c_t$ that is not squared. The whole cost of a step {eq}`eq-step-cost` is compared with the KL divergence from `elbo_step`, with the erroneous estimate of $x$ as the denoiser and $\sigma_t^2 = \beta_t$. The first part alone is rejected. Then each of the companion's weights is multiplied by its squared error: all five products must equal the extra cost of the erroneous estimate over the right one. The weight of the noise without $\alpha_t$ is rejected.

# %% tags=["check", "nbval-check-output"]
_ = torch.manual_seed(0)
x, noise = torch.randn(6, 3), torch.randn(6, 3)
x_hat = x + 0.3 * torch.randn(6, 3)
t = torch.tensor([2, 10, 100, 300, 600, 1000])
x_t = add_noise(long, x, t, noise)


def error(language):
    return (language(long, x_t, t, x) - language(long, x_t, t, x_hat)).square().sum(1)


e_x = (x - x_hat).square().sum(1)
e_mu, e_noise = error(translate.mean_from_x_0), error(translate.noise_from_x_0)
e_v, e_s = error(translate.v_from_x_0), error(translate.score_from_x_0)
snr, noise_var = long.snr[t], long.noise_var[t]
left = torch.stack([e_noise / snr, noise_var * e_v, noise_var / snr * e_s])
same = torch.stack([e_noise, e_v, e_s])
verify("eq-five-errors", left, torch.stack([e_x] * 3), rejects={"all equal": same})
c = long.alpha_bar[t - 1] ** 0.5 * long.beta[t] / noise_var
verify("eq-five-errors", e_mu, c**2 * e_x, rejects={"no square": c * e_x})

# %% tags=["check", "nbval-check-output"]
distorted = Ddpm(lambda x_t, t: x_hat, long, (3,), long.beta)
ratio = long.reverse_coefficients(t).var / long.beta[t]
first = e_mu / (2 * long.beta[t])
right = first + 1.5 * (ratio - 1 - ratio.log())
cost = -elbo_step(distorted, x, t, noise)
verify("eq-step-cost", cost, right, rejects={"only the means": first})

perfect_hat = Ddpm(lambda x_t, t: x, long, (3,), long.beta)
extra = cost + elbo_step(perfect_hat, x, t, noise)
w = bound_weights(long, long.beta)
by_name = {"mean": e_mu, "x_0": e_x, "noise": e_noise, "v": e_v, "score": e_s}
priced = torch.stack([getattr(w, name)[t] * e for name, e in by_name.items()])
lost = {"alpha lost": extra.expand(5, 6) * long.alpha[t]}
verify("eq-five-weights", priced, extra.expand(5, 6), rejects=lost)
formula = long.beta[t] / (2 * long.alpha[t] * noise_var)
lost = {"alpha lost": formula * long.alpha[t]}
verify("eq-five-weights", w.noise[t], formula, rejects=lost)

# %% tags=["figure"] mystnb={"image": {"alt": "Four curves over time on logarithmic axes. The weight of the image falls by more than nine powers of ten; that of v falls by six; that of the noise falls by two powers of ten at first and is nearly flat afterwards; that of the score rises by nearly two."}, "figure": {"caption": "What a squared error costs in the bound, for 1000 steps and $\\sigma_t^2 = \\tilde\\beta_t$.", "name": "fig-five-weights"}}
tilde = torch.cat([long.beta[:2], long.posterior_var[2:]])
w = bound_weights(long, tilde)
shown = {"image": w.x_0, "v": w.v, "noise": w.noise, "score": w.score}
_, (axes,) = plots.figure(height=2.7)
plots.curves(
    {name: (torch.arange(2, 1001), weight[2:]) for name, weight in shown.items()},
    x_label="time $t$",
    y_label="weight (nats per squared error)",
    log_x=True,
    log_y=True,
    axes=axes,
)

# %% [markdown]
# **Why predict the noise, and why drop the weights?** The noise has variance 1 at all times, and after the first hundred steps the flattest weight in {numref}`fig-five-weights`: there it varies by a factor of two, that of the image by 200,000 (from $t = 2$ by 120 and by several billion). {cite:t}`ho2020` leave the weight out: the plain squared error $\lVert \varepsilon - \hat\varepsilon_\theta(x_t, t) \rVert^2$ is the {term}`simple loss` {eq}`def-simple-loss`. At a *single* $t$ a weight changes nothing: the best estimate is the conditional mean. It matters because all $t$ share one network. Without it the lowest noise counts less, and the network can attend to the harder tasks at more noise; {cite:t}`ho2020` drew better samples so. The price: the loss bounds no likelihood any more. {ref}`Chapter 10 <sec-thrown-away>` has both sides of it.
#
# **One random time is enough.** The bound is a *sum* over $t$, and each term needs one $x_t$. So draw one $t$, and multiply its term by $T$: $\ell_t(x, \varepsilon)$ is minus the KL divergence of step $t$ at this $x_t$, or $\log p_\theta(x \mid x_1)$ for $t = 1$.
#
# $$
# \mathrm{ELBO}(x) = \mathbb{E}_{t, \varepsilon} \big[ T\, \ell_t(x, \varepsilon) \big] - D_{\mathrm{KL}}\big( q(x_T \mid x) \,\Vert\, p(x_T) \big), \qquad t \text{ uniform on } 1, \dots, T .
# $$ (eq-single-step)
#
# One call in place of a thousand (`clamp` guards a KL divergence that $t = 1$ does not use):


# %%
def one_random_step(model, x):
    """The bound of each x, estimated without bias from one random time."""
    T = model.num_latents
    t = torch.randint(1, T + 1, (len(x),))
    x_t = add_noise(model.schedule, x, t, torch.randn_like(x))
    x_hat = model.denoise(x_t, t)  # the only call of the network

    q = model.true_step(t.clamp(min=2), x_t, x)  # the image is known
    p = model.reverse_step(t.clamp(min=2), x_t, x_hat)  # it is not
    term = torch.where(t == 1, model.reconstruction(x_hat).log_prob(x), -kl_divergence(q, p))
    return T * term - kl_divergence(model.posterior(x), model.prior(len(x)))


# %% [markdown]
# A stochastic gradient needs no more than an unbiased estimate. Use all steps to *report* a bound.
#
# **What does the schedule do?** With $\sigma_t^2 = \tilde\beta_t$ the weight of the image is half of the drop in the signal-to-noise ratio, $\omega_x = \frac12 (\mathrm{SNR}_{t-1} - \mathrm{SNR}_t)$ {eq}`eq-snr-difference`. The weights add up to $\frac12 (\mathrm{SNR}_1 - \mathrm{SNR}_T)$, whatever lies between: the schedule only says how this range is cut into steps. Each step takes its error at its noisier end, where it is larger, so for an exact denoiser finer cuts raise the bound, up to a limit that is the same for all schedules with the same ends (box). A trained network's own errors stay. What the schedule still influences is the noise of an estimate from one time {cite:p}`kingma2021`, which is small if the terms are alike.
#
# **Check.** For the chain of four steps with the wrong denoiser, whose bound is known exactly, the mean of many single-step estimates is compared with it. A forgotten $T$ and a forgotten prior are rejected.

# %% tags=["check", "nbval-check-output"]
_ = torch.manual_seed(0)
single = one_random_step(model, torch.full((400_000, 1), x_value))
terms = exact_terms(model, torch.tensor([[x_value]]))
bound = terms.sum() - prior_matching
wrong = {"without T": terms.mean() - prior_matching, "without prior": terms.sum()}
verify("eq-single-step", single, bound, monte_carlo, rejects=wrong)

# %% [markdown]
# :::{depth-start} only the signal-to-noise ratio counts, and in the limit the schedule drops out
# :::
# For $\sigma_t^2 = \tilde\beta_t$ the second part of {eq}`eq-step-cost` is zero, and the weight of the image becomes a difference {cite:p}`kingma2021`:
#
# $$
# \omega_x = \frac{c_t^2}{2 \tilde\beta_t} = \frac12 \big( \mathrm{SNR}_{t-1} - \mathrm{SNR}_t \big) .
# $$ (eq-snr-difference)
#
# *Proof.* $c_t^2 / \tilde\beta_t = \bar\alpha_{t-1} \beta_t / \big( (1 - \bar\alpha_t) (1 - \bar\alpha_{t-1}) \big)$. And $\mathrm{SNR}_{t-1} - \mathrm{SNR}_t$, brought to that denominator, has the numerator $\bar\alpha_{t-1} (1 - \bar\alpha_t) - \bar\alpha_t (1 - \bar\alpha_{t-1}) = \bar\alpha_{t-1} - \bar\alpha_t = \bar\alpha_{t-1} \beta_t$. $\square$ So all denoising terms together are
#
# $$
# S_T = \frac12 \sum_{t=2}^{T} (\mathrm{SNR}_{t-1} - \mathrm{SNR}_t)\; \mathbb{E} \lVert x - \hat{x}_\theta(x_t, t) \rVert^2 .
# $$ (eq-snr-sum)
#
# The sum is the area of a row of bars over the signal-to-noise ratio $\gamma$, each as wide as a step, and as high as the error at its noisier end. With more and more steps between two fixed ends it becomes an integral, $\frac12 \int \mathbb{E} \lVert x - \hat{x} \rVert^2\, \mathrm{d}\gamma$.
#
# The schedule has dropped out: two schedules with the same ends have the same limit, for the same errors as a function of $\gamma$ {cite:p}`kingma2021`. For the best denoiser, $\mathbb{E}[x \mid x_t]$, the limit is an amount of information. Let $\mathrm{I}(\gamma)$ be the {term}`mutual information` between $x$ and $\sqrt{\gamma}\, x + \varepsilon$. Then {cite:p}`guo2005`
#
# $$
# \mathrm{I}(\gamma_1) - \mathrm{I}(\gamma_0) = \frac12 \int_{\gamma_0}^{\gamma_1} \mathbb{E} \big\lVert x - \mathbb{E}[x \mid \sqrt{\gamma}\, x + \varepsilon] \big\rVert^2\, \mathrm{d}\gamma .
# $$ (eq-immse)
#
# So with the best denoiser, the denoising terms add up in the limit to the information about the image that the noise destroys between the two ends. For Gaussian data of variance $\lambda$ the best error is $\lambda / (1 + \gamma \lambda)$, the integral is elementary, and the limit of the sum is
#
# $$
# S_T = \frac12 \sum_{t=2}^{T} (\mathrm{SNR}_{t-1} - \mathrm{SNR}_t)\, \frac{\lambda}{1 + \lambda\, \mathrm{SNR}_t} \;\longrightarrow\; \frac12 \log \frac{1 + \lambda\, \mathrm{SNR}_1}{1 + \lambda\, \mathrm{SNR}_T} .
# $$ (eq-snr-limit)
#
# This error falls with $\gamma$, so each bar rises above the curve: *cutting a step in two always lowers the sum*. With the range from $\gamma = 1000$ to 0.0001 cut into equal steps of $\log \gamma$, for $\lambda = \frac14$, the excess falls like $1/T$ from a hundred steps on. Below that stand the ratios of the largest to the smallest weight of {numref}`fig-five-weights`, for both variances.
#
# **Check.** The companion's weights for the variances $\tilde\beta_t$ are compared with the differences; those that belong to the variances $\beta_t$ are rejected. The sum is computed as a sum of KL divergences, for the four steps with the wrong denoiser, and from its mean squared error; an error taken at the less noisy end of each step is rejected. For {eq}`eq-immse` and data with two modes, entropies of $x_t$ by quadrature give the left side; the error of the exact denoiser, integrated over $\log \gamma$ from $\gamma = 0.01$ to 100, gives the right side, and the integral without its factor one half is rejected. The sum for a million steps is compared with the limit; that for $T = 1000$ is rejected.


# %% tags=["check", "nbval-check-output"]
def snr_sum(T, lam=0.25):
    snr = torch.logspace(3, -4, T)
    return 0.5 * ((snr[:-1] - snr[1:]) * lam / (1 + lam * snr[1:])).sum()


differences = (long.snr[1:-1] - long.snr[2:]) / 2
other = {"variances beta": bound_weights(long, long.beta).x_0[2:]}
verify("eq-snr-difference", w.x_0[2:], differences, rejects=other)
sharp = torch.cat([schedule.beta[:2], schedule.posterior_var[2:]])
sharp_model = Ddpm(lambda x_t, t: 0.6 * x_t + 0.1, schedule, (1,), sharp)
kl_sum = -exact_terms(sharp_model, torch.tensor([[x_value]]))[1:].sum()
signal = schedule.alpha_bar[1:] ** 0.5
mean_error = x_value - 0.6 * signal * x_value - 0.1
errors = mean_error**2 + 0.36 * schedule.noise_var[1:]  # at t = 1, ..., 4
drops = schedule.snr[1:-1] - schedule.snr[2:]
wrong = {"error at t - 1": 0.5 * (drops * errors[:-1]).sum()}
verify("eq-snr-sum", kl_sum, 0.5 * (drops * errors[1:]).sum(), rejects=wrong)
limit = torch.tensor(0.5 * math.log((1 + 250) / (1 + 0.25e-4)))
rule, coarse = exact.within(1e-5), {"T = 1000": snr_sum(1000)}
verify("eq-snr-limit", snr_sum(1_000_000), limit, rule, rejects=coarse)
for T in (10, 100, 1000, 10_000):
    excess = snr_sum(T) - limit
    print(f"T = {T:6d}: {excess:9.5f} nats above the limit, times T: {T * excess:6.2f}")
for kind, reverse_var in {"beta-tilde": tilde, "beta": long.beta}.items():
    print("variances", kind)
    for name in ("x_0", "v", "noise", "score"):
        weight = getattr(bound_weights(long, reverse_var), name)
        whole, late = (part.max() / part.min() for part in (weight[2:], weight[101:]))
        print(f"  {name:6s} from t = 2: {whole:8.3g}   from t = 101: {late:8.3g}")

# %% tags=["check", "nbval-check-output"]
nodes, node_weights = map(torch.from_numpy, np.polynomial.legendre.leggauss(60))
log_gamma = math.log(100) * nodes  # from log 0.01 to log 100
ends = torch.tensor([math.log(100), -math.log(100)])
log_snr = torch.cat([ends[:1], log_gamma.flip(0), ends[1:]])
fine = Schedule(F.pad(F.logsigmoid(log_snr), (1, 0)))
hat, line = mixture_denoiser(fine), torch.linspace(-9, 9, 6001)
errors, entropies = [], []
for t in range(1, fine.num_steps + 1):
    log_density = mixture_at(fine, t).log_prob(line)
    density = log_density.exp()
    entropies.append(-torch.trapezoid(density * log_density, line))
    x_hat = hat(line[:, None], torch.full((len(line),), t))[:, 0]
    known = torch.trapezoid(density * x_hat**2, line)
    errors.append((weights * (centers**2 + widths**2)).sum() - known)
noise_entropy = 0.5 * (2 * math.pi * math.e * fine.noise_var[1:]).log()
information = torch.stack(entropies) - noise_entropy
left = information[0] - information[-1]
inner = torch.stack(errors)[1:-1].flip(0) * log_gamma.exp()
right = 0.5 * math.log(100) * (node_weights * inner).sum()
verify("eq-immse", left, right, quadrature, rejects={"no half": 2 * right})

# %% [markdown]
# :::{depth-end}
# :::
#
# *Sources: B24.*

# %% [markdown]
# (sec-exact-gap)=
# ## How tight is the bound?
#
# Where does the bound lose, and which $\sigma_t^2$ loses least? Compare it with the best that any model can reach on average, $\mathbb{E} \log q(x)$, and not with this model's $\log p_\theta(x)$: that gap says only how well $q$ fits the model's own posterior. The gap $\mathbb{E} \log q(x) - \mathbb{E}\, \mathrm{ELBO}(x)$ is the KL divergence of $q$ from $p_\theta$ as joint distributions of data and latents. Split it from the top down {eq}`eq-kl-chain`: first the marginal $q(x_T)$ against the prior, then each *true* reverse step against the model's. So with the best denoiser three things can go wrong: the end is not noise, a true step is no Gaussian, or its variance is not $\sigma_t^2$.
#
# For Gaussian data, $x \sim \mathcal{N}(\mu, \lambda)$ in one dimension, all variables are jointly Gaussian. So the exact denoiser is linear in $x_t$, every term of {eq}`eq-three-terms` is a formula, and the second cannot happen: the true step is linear regression of $x_{t-1}$ on $x_t$, Gaussian whatever its size. With $V_t = \bar\alpha_t \lambda + 1 - \bar\alpha_t$ for the variance of $x_t$, that of the step is
#
# $$
# \mathrm{Var}[x_{t-1} \mid x_t] = \beta_t\, \frac{V_{t-1}}{V_t} .
# $$ (eq-optimal-variance)
#
# For $\lambda = 1$ it is $\beta_t$, and for $\lambda = 0$, where the image is known in advance, $\tilde\beta_t$. (They are the extreme choices of {cite:t}`ho2020`.) With the exact denoiser each wrong variance costs its own KL divergence,
#
# $$
# \begin{aligned}
# \mathbb{E} \log q(x) - \mathbb{E}\, \mathrm{ELBO}(x) = {} & \frac12 \big( V_T - 1 - \log V_T + \bar\alpha_T \mu^2 \big) \\
# & + \sum_{t=1}^{T} \frac12 \big( r_t - 1 - \log r_t \big), \qquad r_t = \frac{\beta_t\, V_{t-1}}{\sigma_t^2\, V_t} .
# \end{aligned}
# $$ (eq-gaussian-gap)
#
# **Check.** The variance is compared with the companion's `optimal_reverse_var`, and then with samples, by least squares of $x_{t-1}$ on $x_t$. Both comparisons reject the two extreme choices, and the second also the inverted quotient. The gap is compared for three choices of the variances (with the optimal $\sigma_1^2$ in all of them) and three data distributions, on seven steps, so few that every term matters. The left side is the bound by `elbo_step`: it is quadratic in $x$ and in the noise, so two points of each give its expectation exactly. A gap with the prior's term only is rejected, and a prior's term without $\mu$.


# %% tags=["check", "nbval-check-output"]
def v_of(schedule, lam):
    return schedule.alpha_bar * lam + schedule.noise_var


lam, mean = 0.25, 0.7
solved = rescaled(100)
v = v_of(solved, lam)
noise_error = linear_noise_error(solved, torch.tensor([lam]))[:, 0]
best = optimal_reverse_var(solved, noise_error)[2:]
right = solved.beta[2:] * v[1:-1] / v[2:]
wrong = {"beta": solved.beta[2:], "beta-tilde": solved.posterior_var[2:]}
verify("eq-optimal-variance", best, right, rejects=wrong)

_ = torch.manual_seed(0)
seven = rescaled(20).strided(range(1, 8))  # seven steps; alpha_bar_7 is 0.27
draws = [mean + lam**0.5 * torch.randn(200_000)]
for t in range(1, 5):
    noise = seven.beta[t] ** 0.5 * torch.randn(200_000)
    draws.append(seven.alpha[t] ** 0.5 * draws[-1] + noise)
before, now = (x_t - x_t.mean() for x_t in draws[-2:])
residuals = before - (before @ now) / (now @ now) * now
v, beta = v_of(seven, lam), seven.beta[4]
wrong = {"beta": beta, "beta-tilde": seven.posterior_var[4]}
wrong["upside down"] = beta * v[4] / v[3]
verify("eq-optimal-variance", residuals, beta * v[3] / v[4], variance, rejects=wrong)


# %% tags=["check", "nbval-check-output"]
def three_variances(schedule, lam):
    """Optimal, beta, beta-tilde; with the same sigma_1."""
    v = v_of(schedule, lam)
    best = F.pad(schedule.beta[1:] * v[:-1] / v[1:], (1, 0))
    found = {"optimal": best, "beta": schedule.beta, "beta-tilde": schedule.posterior_var}
    return {name: torch.cat([best[:2], u[2:]]) for name, u in found.items()}


def gap_formula(schedule, lam, reverse_var, mean=0.0):
    v = v_of(schedule, lam)
    r = schedule.beta[1:] * v[:-1] / (v[1:] * reverse_var[1:])
    top = 0.5 * (v[-1] - 1 - v[-1].log() + schedule.alpha_bar[-1] * mean**2)
    return top + 0.5 * (r - 1 - r.log()).sum()


def gap_of_bound(schedule, lam, reverse_var, mean=0.0):
    hat = gaussian_denoiser(schedule, torch.tensor([mean]), torch.tensor([[lam]]))
    model = Ddpm(hat, schedule, (1,), reverse_var)
    x = mean + lam**0.5 * torch.tensor([[1.0], [-1.0]])
    bound = torch.stack([exact_terms(model, point[None]).sum() for point in x]).mean()
    bound = bound - kl_divergence(model.posterior(x), model.prior(2)).mean()
    return -Normal(mean, lam**0.5).entropy() - bound


gaps = []  # the bound, the formula, without the mean, the top only
for lam, mean in [(0.25, 0.7), (4.0, -1.0), (1.0, 0.0)]:
    choices = three_variances(seven, lam)
    for u in choices.values():
        both = gap_of_bound(seven, lam, u, mean), gap_formula(seven, lam, u, mean)
        top_only = gap_formula(seven, lam, choices["optimal"], mean)
        gaps.append(torch.stack([*both, gap_formula(seven, lam, u), top_only]))
left, right, no_mean, top_only = torch.stack(gaps, 1)
verify("eq-gaussian-gap", left, right, rejects={"the top only": top_only, "no mean": no_mean})

# %% tags=["figure"] mystnb={"image": {"alt": "Two curves over the number of steps on logarithmic axes. The gap for beta falls along a straight line by a factor of ten per decade. The gap for beta-tilde falls at first, and then flattens out at a horizontal line near 0.29."}, "figure": {"caption": "The gap for Gaussian data, $\\lambda = \\frac{1}{4}$, with the exact denoiser and the optimal $\\sigma_1^2$.", "name": "fig-gap"}}
many = sorted({int(T) for T in np.geomspace(10, 100_000, 25)})
found = [three_variances(rescaled(T), 0.25) for T in many]
lines = {
    name: [gap_formula(rescaled(T), 0.25, u[name]).item() for T, u in zip(many, found, strict=True)]
    for name in ("beta", "beta-tilde")
}
euler = -torch.digamma(torch.ones(())).item()  # Euler's constant
symbols = {"beta": r"$\beta_t$", "beta-tilde": r"$\tilde\beta_t$"}
both = {rf"$\sigma_t^2 =$ {symbols[k]}": (many, line) for k, line in lines.items()}
limit_line = {r"$\gamma_{\mathrm{E}} / 2$": (many, [euler / 2] * len(many))}
_, (axes,) = plots.figure(height=2.7)
plots.curves(
    both | limit_line,
    x_label="number of steps $T$",
    y_label="gap (nats per dimension)",
    log_x=True,
    log_y=True,
    axes=axes,
)

# %% [markdown]
# In {numref}`fig-gap` more steps close the gap for $\beta_t$, and not for $\tilde\beta_t$. The optimal variances lose only the prior's term, at *any* number of steps. Why does $\tilde\beta_t$ lose 0.29 nats per dimension in the limit of this schedule? It is the variance for a known image. But next to the data the noise in $x_t$ is of the size of the step, both small beside the width of the data: on that scale $x_t$ does not say where the image is, and the true variance is nearly $\beta_t$, while $\tilde\beta_t$ is about $\frac12 \beta_t$ at $t = 2$, $\frac23 \beta_t$ at $t = 3$, and so on, however fine the schedule. (Here $\mathrm{SNR}_1$ grows with $T$; between fixed ends $\tilde\beta_t / \beta_t$ tends to 1, and this loss vanishes.)
#
# On other data the true variance depends on $x_t$ and on the direction, so even the best $\sigma_t^2$ lose something, less with more steps.
#
# :::{depth-start} Gaussian data test any diffusion code, and the variances of a known image lose half of Euler's constant
# :::
# For standard Gaussian data the exact denoiser is $\hat{x} = \sqrt{\bar\alpha_t}\, x_t$, the variances $\beta_t$ are optimal and the prior is exact. So at every $T$ the gap is zero, and by {eq}`eq-chain-exact` every path from one $x$ must give the same number, $\log q(x)$. A wrong factor anywhere makes $\log w$ vary. Test with $\log w$ and not with the three terms of {eq}`eq-three-terms`: their KL divergences are means over $x_{t-1}$ for one $x_t$, so they still vary with $x_t$, also for the perfect model, and no longer cancel along the path as the logarithms do. (That the wrong model's $\log w$ varies less than its three terms has the same reason.)

# %% tags=["numbers", "nbval-check-output"]
_ = torch.manual_seed(0)
many = torch.full((200_000, 1), x_value)
hat = gaussian_denoiser(schedule, torch.zeros(1), torch.eye(1))
perfect = Ddpm(hat, schedule, (1,), schedule.beta)
for name, m in {"wrong on purpose": model, "perfect": perfect}.items():
    path_std = sample_log_weights(m, many, 1)[0].std()
    terms_std = elbo_terms(m, many).elbo.std()
    print(f"{name:17s} log w varies by {path_std:.1f} nats, the three terms by {terms_std:.1f}")

# %% [markdown]
# The loss of $\tilde\beta_t$ is the same for every $\lambda > 0$. For the linear schedule, with $\sigma_t^2 = \tilde\beta_t$, the optimal $\sigma_1^2$ and $\lambda$ fixed,
#
# $$
# \lim_{T \to \infty} \text{gap} = \frac12 \sum_{n=1}^{\infty} \Big( \frac1n - \log \Big( 1 + \frac1n \Big) \Big) = \frac{\gamma_{\mathrm{E}}}{2} = 0.2886\ldots
# $$ (eq-euler-gap)
#
# nats per dimension, where $\gamma_{\mathrm{E}}$ is Euler's constant. Next to the data the betas of a fine schedule are nearly equal, so $1 - \bar\alpha_t$ is nearly $t \beta_1$ and $\tilde\beta_t$ nearly $\beta_t (t - 1) / t$, while the true variance is nearly $\beta_t$. Hence $r_t = t / (t - 1)$, however small the betas are, and with $n = t - 1$ the terms of {eq}`eq-gaussian-gap` are those of the sum. Betas that grow from zero lose more, and with $\mathrm{SNR}_1$ held fixed nothing is lost in the limit {eq}`eq-snr-limit`. The argument needs $\lambda$ to be larger than the noise of the first steps. Where the data hardly vary, $\tilde\beta_t$ is nearly right, and $\beta_t$ is too large.
#
# The KL divergence of the data distribution from the model is at most the gap. So for Gaussian data and the exact denoiser, the decoder's distribution converges to that of the data wherever the gap goes to zero (apart from the prior's term): with the optimal variances, and with $\beta_t$ as $T$ grows. For $\tilde\beta_t$ the bound alone does not decide it.
#
# **Check.** The limit is compared with a million steps of the linear schedule, and with the series. Three numbers of similar size are rejected: $(1 - \gamma_{\mathrm{E}}) / 2$, the first term of the series, and the gap at a thousand steps.

# %% tags=["check", "nbval-check-output"]
finest, lam = rescaled(1_000_000), 0.25
at_million = gap_formula(finest, lam, three_variances(finest, lam)["beta-tilde"])
n = torch.arange(1, 1_000_001.0)
series = 0.5 * (1 / n - torch.log1p(1 / n))
half = torch.tensor(euler / 2)
near = {"its complement": (1 - 2 * half) / 2, "first term": series[0]}
coarse = gap_formula(rescaled(1000), lam, three_variances(rescaled(1000), lam)["beta-tilde"])
rule = exact.within(5e-3)
verify("eq-euler-gap", at_million, half, rule, rejects=near | {"T = 1000": coarse})
verify("eq-euler-gap", series.sum(), half, exact.within(1e-5), rejects=near)
growing = Schedule(-10 * torch.linspace(0, 1, 100_001) ** 2)  # beta_t grows like t
more = gap_formula(growing, lam, three_variances(growing, lam)["beta-tilde"])
print(f"betas that start from zero, 100,000 steps: beta-tilde {more:.3f}")
for lam, T in itertools.product((0.25,), (10, 100, 1000, 10_000, 100_000)):
    values = [gap_formula(rescaled(T), lam, u) for u in three_variances(rescaled(T), lam).values()]
    print(
        f"T = {T:6d}: optimal below 1e-8: {bool(values[0] < 1e-8)}, beta {values[1]:.4g}, beta-tilde {values[2]:.4g}"
    )
for lam in (1.0, 0.01, 0.0001):
    values = [
        gap_formula(rescaled(1000), lam, u) for u in three_variances(rescaled(1000), lam).values()
    ]
    print(f"lambda {lam:<6g}, T = 1000: beta {values[1]:.3f}, beta-tilde {values[2]:.3f}")

# %% [markdown]
# :::{depth-end}
# :::
#
# :::{depth-start} on a ring most nats are next to the data, and a trained denoiser loses little more
# :::
# The data of {numref}`fig-ring-levels` are eight Gaussians on a ring, whose exact denoiser is known, a mixture of linear ones. Of a hundred levels, the top ones are almost pure noise, those below 40 settle which of the eight modes it is, and the last ones the exact place.


# %% tags=["figure"] mystnb={"image": {"alt": "Left, the density: eight round modes on a ring. Right, a hundred bars: almost nothing at the levels of the right half, rising steeply towards level 1 on the left."}, "figure": {"caption": "Data on a ring, and the KL divergence at each of a hundred levels.", "name": "fig-ring-levels"}}
angle = torch.arange(8) * math.pi / 4
ring = 1.25 * torch.stack([angle.cos(), angle.sin()], 1)
cov = 0.125**2 * torch.eye(2).expand(8, 2, 2)
ring_data = MixtureSameFamily(Categorical(torch.ones(8)), MultivariateNormal(ring, cov))


def ring_denoiser(schedule):
    return MixtureDenoiser(schedule, torch.full((8,), 1 / 8), ring, cov)


levels = rescaled(100)
_ = torch.manual_seed(0)
x = ring_data.sample((4000,))
tilde = torch.cat([levels.beta[:2], levels.posterior_var[2:]])
ring_models = {
    "beta": Ddpm(ring_denoiser(levels), levels, (2,), levels.beta),
    "beta-tilde": Ddpm(ring_denoiser(levels), levels, (2,), tilde),
}
ring_terms = elbo_terms(ring_models["beta"], x)
fig, panels = plots.figure(2, height=2.7)
_ = plots.density2d(ring_data.log_prob, (-2, 2, -2, 2), axes=panels[0])
plots.kl_per_level(ring_terms, axes=panels[1])

# %% [markdown]
# What the bound loses on the ring, against the known density of the data. `optimal_reverse_var` computes the optimal variances from the error of the predicted noise, also for images {cite:p}`bao2022`. The order is that of Gaussian data; the optimal variances still lose a tenth of a nat with a hundred steps, because the true variance depends on $x_t$ and on the direction, and the true steps are mixtures, and less with three hundred.


# %% tags=["numbers"]
def optimal_model(schedule, num=1000):
    """The ring's model with the optimal variances, from the error on the first x."""
    T, hat = schedule.num_steps, ring_denoiser(schedule)
    t = torch.arange(1, T + 1).repeat_interleave(num)
    data_again, noise = x[:num].repeat(T, 1), torch.randn(T * num, 2)
    x_t = add_noise(schedule, data_again, t, noise)
    off = noise - translate.noise_from_x_0(schedule, x_t, t, hat(x_t, t))
    error = F.pad(off.square().mean(1).view(T, num).mean(1), (1, 0))
    return Ddpm(hat, schedule, (2,), optimal_reverse_var(schedule, error))


def gap(model):
    """log q(x) less the log-weight of a path, for each x; its mean is the gap."""
    return ring_data.log_prob(x) - sample_log_weights(model, x, 1)[0]


_ = torch.manual_seed(0)
ring_models["optimal"] = optimal_model(levels)
lost = {name: gap(m) for name, m in ring_models.items()}
for T in (30, 300):
    lost[f"optimal, T = {T}"] = gap(optimal_model(rescaled(T), 300))
mean = {name: values.mean() for name, values in lost.items()}
error = {name: values.std() / len(x) ** 0.5 for name, values in lost.items()}
for name in lost:
    print(f"{name:16s} loses {mean[name]:.3f} +- {error[name]:.3f} nats")

# %% [markdown]
# The next chapter trains a denoiser for this ring. It takes the place of the exact one in the first model, on the same points. The same cell says how many modes are still possible at a level (the exponential of the mean entropy over the modes, which is 8 if all are equally likely), and what one random step costs in precision.

# %% tags=["numbers"]
_ = torch.manual_seed(0)
for t in (60, 40, 20, 5):
    signal, var = levels.forward_coefficients(0, t)
    x_t = add_noise(levels, x, t, torch.randn_like(x))
    squares = (x_t[:, None] - signal * ring).square().sum(2)
    mode = Categorical(logits=-squares / (2 * (0.125**2 * signal**2 + var)))
    print(f"level {t:2d}: {mode.entropy().mean().exp():.1f} modes possible")
torch.set_default_dtype(torch.float)
trained = pretrained("ddpm-toy2d")
same = torch.allclose(trained.schedule.log_alpha_bar, levels.log_alpha_bar)
torch.set_default_dtype(torch.double)
points = x.float()
_ = torch.manual_seed(0)
learned = ring_data.log_prob(x) - sample_log_weights(trained, points, 1)[0]
more = learned - lost["beta"]
print(f"the learned denoiser loses {learned.mean():.3f} nats, and so", end=" ")
print(f"{more.mean():.3f} +- {more.std() / len(x) ** 0.5:.3f} more than the exact one")
_ = torch.manual_seed(1)
single, whole = one_random_step(ring_models["beta"], x), ring_terms.elbo
print(f"standard deviation, whole chain: {whole.std():6.2f} nats, 100 calls")
print(f"standard deviation, one step:    {single.std():6.2f} nats, 1 call")
ratio = (single.var() / whole.var()).item()
print(f"one-step estimates needed for the same precision: {ratio:.0f}")

# %% [markdown]
# Per call of the denoiser, the whole chain is the better estimate of the *bound*. But training needs its *gradient*. A hundred calls can go to the hundred steps of one path, or to one step for each of a hundred $x$. We compare the variances of the two gradients, summed over all parameters of the learned denoiser, from sixty repetitions of each: for training this network, one step for each of many $x$ makes better use of the calls.


# %% tags=["held", "nbval-check-output"]
def gradient(bound):
    parts = torch.autograd.grad(bound, list(trained.requires_grad_().parameters()))
    return torch.cat([part.flatten() for part in parts])


def one_path(x):
    """All hundred terms along one path of one x."""
    s = trained.schedule
    steps = (s.beta[1:] / s.alpha_bar[1:]).sqrt()[:, None] * torch.randn(100, 2)
    noise = (s.snr[1:, None].sqrt() * steps.cumsum(0)).float()
    return elbo_step(trained.requires_grad_(), x.expand(100, 2), torch.arange(1, 101), noise).sum()


difference = single - whole
apart = difference.mean().abs() / difference.std() * len(x) ** 0.5
print("one step has the same mean, within 5 standard errors:", bool(apart < 5))
print("the same schedule:", same)
print("the learned denoiser loses less than 0.1 nats more:", bool(more.mean() < 0.1))
sure = {name: (mean[name] - 5 * e, mean[name] + 5 * e) for name, e in error.items()}
in_order = sure["optimal"][1] < 0.25 and sure["beta"][1] < 0.35 and sure["beta-tilde"][0] > 1.5
print("optimal below 0.25 nats, beta below 0.35, beta-tilde above 1.5:", bool(in_order))
steps_help = sure["optimal, T = 300"][1] < mean["optimal"]
steps_help = steps_help and sure["optimal, T = 30"][0] > sure["optimal"][1]
print("more steps lose less:", bool(steps_help))
torch.set_default_dtype(torch.float)
_ = torch.manual_seed(0)
paths = [gradient(one_path(points[i : i + 1])) for i in range(60)]
batches = points[:4000].view(40, 100, 2)
singles = [gradient(one_random_step(trained, batches[i % 40]).mean()) for i in range(60)]
of_path, of_single = (torch.stack(g).var(0).sum() for g in (paths, singles))
torch.set_default_dtype(torch.double)
print("100 x with one step each, less than half the variance:", bool(of_single < of_path / 2))

# %% [markdown]
# **One, five and a thousand levels** have the same chart. The models of three chapters are the VAE of chapter 6, the ladder of chapter 8, and `ddpm-digits`, a diffusion model on small gray digits that chapter 10 trains. Its thousand levels are shown at forty times.

# %% tags=["figure"] mystnb={"image": {"alt": "Three panels side by side. Left, one bar for the VAE. In the middle five bars for the ladder, the lowest level the tallest. Right, a curve over a thousand levels on logarithmic axes, falling from about twenty nats at level 1 to a tiny fraction of a nat at the last."}, "figure": {"caption": "One latent, five, and a thousand: the KL divergence at each level, on digits. The third has gray images of another size: compare the shapes.", "name": "fig-three-models"}}
torch.set_default_dtype(torch.float)
_ = torch.manual_seed(0)
binary = data.binarize(data.load("mnist", "test").images[:500])
chains = [elbo_terms(pretrained(name), binary) for name in ("vae-mnist", "hvae-mnist")]
diffusion = pretrained("ddpm-digits")
gray = data.to_symmetric(data.load("digits", "test").images[:12])
times = torch.from_numpy(np.geomspace(2, 1000, 40).astype(int))
t = times.repeat_interleave(12)
with torch.no_grad():
    again = gray.repeat(40, 1, 1, 1)
    per_step = -elbo_step(diffusion, again, t, torch.randn_like(again)).view(40, 12)
torch.set_default_dtype(torch.double)
fig, panels = plots.figure(3, height=2.6)
_ = plots.kl_per_level(chains[0], axes=panels[0])
_ = plots.kl_per_level(chains[1], axes=panels[1])
plots.curves(
    {"": (times - 1, per_step.mean(1))},
    x_label="time $t$ of the latent $x_t$",
    y_label="KL (nats)",
    log_x=True,
    log_y=True,
    axes=panels[2],
)

# %% [markdown]
# From left to right in {numref}`fig-three-models` the total is divided among more levels, and most of a thousand levels contribute a tiny share. A sample takes one call of the network for each step, where the VAE takes one call in all.
#
# :::{depth-end}
# :::
#
# *Sources: E03.*

# %% [markdown]
# (sec-masked-diffusion)=
# ## The same bound with symbols
#
# A black-and-white pixel or a letter is a symbol, and a letter plus a little noise is no letter. But the bound never asked for Gaussians, only for a fixed way to lose $x$ in steps that can be turned around if $x$ is known. With symbols, *hide* them: by time $t$ each pixel with probability $t / T$, independently of the others.
#
# $$
# q(z_t \mid x) = \prod_i q(z_{t,i} \mid x_i), \qquad z_{t,i} = \begin{cases} x_i & \text{with probability } 1 - t/T , \\ \text{?} & \text{with probability } t/T . \end{cases}
# $$ (def-masking)
#
# A hidden pixel, written ?, stays hidden: {term}`masked diffusion`, or diffusion with an absorbing state {cite:p}`austin2021`. At $t = T$ all are hidden, and prior matching costs nothing.
#
# **The step down.** Each of the steps $1, \dots, t$ hides the same share of all pixels. So if a pixel is hidden at time $t$, then with probability $1/t$ it was the last step that hid it:
#
# $$
# \text{hidden} \;\to\; \begin{cases} \text{visible} & \text{with probability } 1/t , \\ \text{hidden} & \text{with probability } 1 - 1/t . \end{cases}
# $$ (def-masked-step)
#
# If the image is known, the visible value is $x_i$. The model draws it from $p_\theta(x_i \mid z_t)$, its network's prediction from the visible pixels. To generate, it starts with all pixels hidden ({numref}`fig-masked-steps`). Pixels uncovered in one step do not see each other, so few steps leave dots.

# %% tags=["figure"] mystnb={"image": {"alt": "Four rows of eight drawings. In 2 steps: clouds of white dots in the outline of a digit. In 10 steps: digits with gaps and loose dots. In 50 and in 250 steps: mostly connected strokes, some of which are no digit."}, "figure": {"caption": "Drawings of masked diffusion, by the number of steps.", "name": "fig-masked-steps"}}
masked = pretrained("masked-mnist").float()
_ = torch.manual_seed(0)
drawings = {f"{n} steps": list(masked_sample(masked, 8, n))[-1] for n in (2, 10, 50, 250)}
plots.image_rows(drawings)

# %% [markdown]
# The known step and the model's differ in this value alone, so a hidden pixel costs $-\log p_\theta(x_i \mid z_t)$ in a share $1/t$ of the cases:
#
# $$
# D_{\mathrm{KL}}\big( q(z_{t-1} \mid z_t, x) \,\Vert\, p_\theta(z_{t-1} \mid z_t) \big) = -\frac{1}{t} \sum_{i\, \text{hidden}} \log p_\theta(x_i \mid z_t) .
# $$ (eq-masked-step)
#
# The reconstruction has the same form, and the bound is a weighted sum of cross-entropies:
#
# $$
# \mathrm{ELBO}(x) = \sum_{t=1}^{T} \mathbb{E}_{q(z_t \mid x)} \Big[ \frac{1}{t} \sum_{i\, \text{hidden}} \log p_\theta(x_i \mid z_t) \Big] .
# $$ (eq-masked-elbo)
#
# This is the loss of a masked language model, which fills in blanks, with a weight {cite:p}`sahoo2024,shi2024`. Why this weight? A share $t/T$ of all pixels is hidden, and $1/t$ makes up for their number.
#
# With a U-Net as its network, masked diffusion has fewer nats than the VAE and the ladder of five levels on the black-and-white digits of chapters 6 and 8, one trained network each (box); but fewer nats are not always better drawings.
#
# **Check.** With three pixels and four steps, all 27 images of symbols can be enumerated. The network has random weights: identities hold for every $p_\theta$. First the KL divergence of each step from each image, then the bound, whose expectation is a sum over all images and which `elbo_terms` estimates. A bound without the weight is rejected, and the bound must stay below $\log p_\theta(x)$, the sum over all paths. The limit is checked with the predictions of one time, all six orders of three pixels, and 100,000 steps. A single order is rejected, and so are pixels that do not see each other.


# %% [markdown]
# :::{depth-start} masked diffusion predicts pixels in random order, and has fewer nats than the ladder
# :::
# Why is filling in blanks a likelihood? For $T \to \infty$ the pixels are uncovered one by one, in a random order $\sigma$, and for each order the product of the predictions is an autoregressive model. If the predictions do not depend on the time, the bound becomes the mean of its logarithm over the orders {cite:p}`uria2014,hoogeboom2022autoregressive`:
#
# $$
# \lim_{T \to \infty} \mathrm{ELBO}(x) = \mathbb{E}_\sigma \sum_k \log p_\theta\big( x_{\sigma_k} \mid x_{\sigma_1}, \dots, x_{\sigma_{k-1}} \big) .
# $$ (eq-any-order)
#
# The bound {eq}`eq-masked-elbo` from one random time (`guess` returns log-probabilities of black, ? and white; `MASK` is the ?):


# %%
def one_random_mask(model, x):
    """The bound of each x, estimated without bias from one random time."""
    T = model.num_latents
    t = torch.randint(1, T + 1, (len(x),))
    hidden = torch.rand_like(x) < t[:, None] / T
    black, _, white = model.guess(torch.where(hidden, MASK, x), t).unbind(-1)

    log_p = torch.where(x == 1, white, black)  # of the right value
    return T / t * (hidden * log_p).sum(1)


# %% tags=["serves"]
class Guess(torch.nn.Module):
    """Log-odds of three pixels, from those that are visible and the time."""

    def __init__(self):
        super().__init__()
        self.mix, self.clock = torch.nn.Linear(3, 3), torch.nn.Embedding(5, 3)

    def forward(self, z, t):
        return 2 * torch.tanh(self.mix(z)) + self.clock(t)


_ = torch.manual_seed(0)
chain = MaskedDiffusion(Guess(), (3,), num_steps=4).requires_grad_(False)
images = torch.cartesian_prod(*[torch.tensor([0, MASK, 1])] * 3)
pattern = torch.tensor([[1.0, 0.0, 1.0]])
copies = pattern.expand(27, 3)
costs, guesses, weights = [], [], []
for t in range(1, 5):
    hidden = (images == MASK).double()
    log_guess = chain.guess(images, t).gather(-1, (2 * copies).long()[..., None])[..., 0]
    guesses.append((hidden * log_guess).sum(1))
    weights.append(chain.marginal(t, copies).log_prob(images).exp())
    if t > 1:
        costs.append(kl_divergence(*chain.inner(t - 1, images, copies)))

# %% tags=["check", "nbval-check-output"]
fits = torch.stack(weights[1:]) > 0  # images that x can become
times = torch.arange(1, 5)[:, None]
formula = -torch.stack(guesses) / times
kl_steps = torch.stack(costs)[fits]
verify("eq-masked-step", kl_steps, formula[1:][fits], rejects={"all": (times * formula)[1:][fits]})
_ = torch.manual_seed(0)
many = pattern.expand(200_000, 3)
bound = -(torch.stack(weights) * formula).sum()
wrong = {"without 1/t": -(torch.stack(weights) * times * formula).sum()}
verify("eq-masked-elbo", elbo_terms(chain, many).elbo, bound, monte_carlo, rejects=wrong)
verify("eq-masked-elbo", one_random_mask(chain, many), bound, monte_carlo, rejects=wrong)
state = (images == MASK).all(1).double()
for t in range(3, 0, -1):
    moves = [chain.inner_prior(t, z.expand(27, 3)).log_prob(images).exp() for z in images]
    state = state @ torch.stack(moves)
last = chain.likelihood(images).log_prob(copies).exp()
verify("eq-masked-elbo", bound, (state * last).sum().log(), at_most(0.0))


# %% tags=["check", "nbval-check-output"]
def log_by_order(order):
    """The log-probability of the pattern if its pixels are uncovered in this order."""
    z, total = torch.full((1, 3), MASK), 0.0
    for i in order:
        total = total + chain.guess(z, 1)[0, i, int(2 * pattern[0, i])]
        z[0, i] = pattern[0, i]
    return total


num_hidden = (images == MASK).sum(1)
could_be = ((images == MASK) | (images == pattern)).all(1)
clock = torch.arange(1, 100_001)[:, None] / 100_000
seen = clock**num_hidden * (1 - clock) ** (3 - num_hidden)  # q(z_t | x), where x can become z_t
bound = (seen[:, could_be] / clock * guesses[0][could_be]).sum() / 100_000
by_order = torch.stack([log_by_order(order) for order in itertools.permutations(range(3))])
wrong = {"one order": by_order[0], "blind": guesses[0][(images == MASK).all(1)][0]}
verify("eq-any-order", bound, by_order.mean(), quadrature.within(1e-4), rejects=wrong)

# %% [markdown]
# With a U-Net as the network and $T = 1000$, on the black-and-white digits of chapters 6 and 8, minus $\log p(x)$:

# %% tags=["numbers", "columns", "nbval-check-output"]
kinds = {
    "vae-mnist": "VAE",
    "iwae-mnist": "VAE, trained with importance weights",
    "hvae-mnist": "ladder of five levels",
    "conv-hvae-mnist": "convolutional ladder",
    "iw-conv-hvae-mnist": "the same, importance weights at last",
    "masked-mnist": "masked diffusion (its bound)",
}
print(f"{'model':37s}  {'nats':>13s}  {'parameters':>10s}")
for name, kind in kinds.items():
    card = read_card(name)
    nats = f"{card.metric_value:.2f} +- {card.metric_se:.2f}"
    print(f"{kind:37s}  {nats:>13s}  {card.num_parameters:10,}")

# %% [markdown]
# All but the last are importance-weighted estimates, closer to $\log p_\theta(x)$ than a plain bound, so the comparison favors them. Even so masked diffusion has fewer nats than the VAE and the ladder of five levels. The convolutional ladder after ten more epochs with importance weights has the fewest. (Its first number is from 2,000 digits only. Each row is one training of one network.)
#
# **Do fewer nats mean better drawings?** 23.4 ± 1.2 % of the VAE's drawings are not recognized, 21.8 ± 1.3 % with importance weights, 5.5 ± 0.1 % of those of five levels, 21.0 ± 0.5 % of the convolutional ladder's, and 13.3 ± 1.1 % of masked diffusion's in 250 steps, in excess over real digits ({ref}`experiment <exp-drawings>`). So nats do not rank drawings: the convolutional ladder has fewer than that of five, and nearly four times its share. A model can have a high likelihood and poor samples, or the other way around {cite:p}`theis2016`.
#
# :::{depth-end}
# :::
#
# *Sources: F05.*

# %% [markdown]
# :::{dropdown} If you come from the lectures
# Some lectures and notes on this subject give the distribution of the top latent an index $\theta$ (E13), exchange $\propto$ and $=$ in the derivation of the posterior (E12), call the *model's* step Gaussian if the increments are small, where it is the true one that becomes so (E14), call the posterior intractable by joint normality, which is what makes it tractable (E15), or lose the factor between noise and score (E11). The {doc}`errata page </book/errata>` has the formulas behind the numbers; the checks of this chapter reject the wrong ones.
#
# Time counts from the data here: noise grows with $t$. Many papers on hierarchical VAEs count in the direction of generation; their level $s$ is our level $T + 1 - s$. Some slides center a step at $x_{t-1}$; it is centered at $\sqrt{\alpha_t}\, x_{t-1}$. And to turn the KL divergence into the weighted error of $x$ takes four assumptions that are easily left out: the variance of $p_\theta$ is fixed, and equal to that of $q$; its mean has the form of $\tilde\mu_t$; an expectation over $x_t$ stands in front; and $t \ge 2$, since $\tilde\beta_1 = 0$.
# :::

# %% [markdown]
# (sec-diffusion-exercises)=
# ## Exercises
#
# Replace the three dots by your answer and run the cell.

# %% [markdown]
# ```{exercise-start} How many steps
# :label: ex-how-many-steps
# ```
# All betas are 0.02. After how many steps is less than one percent of the image's variance left?

# %% tags=["answer", "nbval-check-output"]
answer = ...
exercises.check_how_many_steps(answer)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-how-many-steps
# :label: ex-how-many-steps-solution
# :class: dropdown
# ```
# $0.98^t < 0.01$ for $t > \log 0.01 / \log 0.98 = 227.9\ldots$, so $t = 228$.

# %% tags=["nbval-check-output"]
exercises.check_how_many_steps(math.ceil(math.log(0.01) / math.log(0.98)))

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} From one time to another
# :label: ex-from-time-to-time
# ```
# `kept_s` and `kept_t` are $\bar\alpha_s$ and $\bar\alpha_t$, with $s < t$. For a given image $x$, what is the covariance of $x_s$ and $x_t$ (in one dimension)?


# %% tags=["answer", "nbval-check-output"]
def covariance(kept_s, kept_t):
    return ...


exercises.check_covariance(covariance)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-from-time-to-time
# :label: ex-from-time-to-time-solution
# :class: dropdown
# ```
# By {eq}`eq-two-times` $x_t$ is $\sqrt{\bar\alpha_t / \bar\alpha_s}\, x_s$ plus new noise that is independent of $x_s$. So the covariance is this factor times the variance of $x_s$.


# %% tags=["nbval-check-output"]
def covariance(kept_s, kept_t):
    return (kept_t / kept_s) ** 0.5 * (1 - kept_s)


exercises.check_covariance(covariance)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} From v to noise
# :label: ex-v-to-noise
# ```
# A network estimates $v = \sqrt{\bar\alpha_t}\, \varepsilon - \sqrt{1 - \bar\alpha_t}\, x$. Write the predicted noise as a function of $x_t$, $v$ and `kept`, which is $\bar\alpha_t$.


# %% tags=["answer", "nbval-check-output"]
def noise_from_v(x_t, v, kept):
    return ...


exercises.check_noise_from_v(noise_from_v)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-v-to-noise
# :label: ex-v-to-noise-solution
# :class: dropdown
# ```
# A rotation of the plane takes $(x, \varepsilon)$ to $(x_t, v)$. The inverse of a rotation is its transpose.


# %% tags=["nbval-check-output"]
def noise_from_v(x_t, v, kept):
    return (1 - kept) ** 0.5 * x_t + kept**0.5 * v


exercises.check_noise_from_v(noise_from_v)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} The denoising term from scratch
# :label: ex-denoising-term
# ```
# For one example, the squared error of the estimated image, summed over its components, is `error`. Write the KL divergence of step $t$ if $\sigma_t^2 = \tilde\beta_t$ and `before` and `now` are $\bar\alpha_{t-1}$ and $\bar\alpha_t$.


# %% tags=["answer", "nbval-check-output"]
def denoising_term(error, before, now):
    return ...


exercises.check_denoising_term(denoising_term)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-denoising-term
# :label: ex-denoising-term-solution
# :class: dropdown
# ```
# The variances agree, so only the means cost. By {eq}`eq-snr-difference` the weight is half of a difference of signal-to-noise ratios. The number of dimensions does not appear.


# %% tags=["nbval-check-output"]
def denoising_term(error, before, now):
    return 0.5 * (before / (1 - before) - now / (1 - now)) * error


exercises.check_denoising_term(denoising_term)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} One big step
# :label: ex-one-big-step
# ```
# A diffusion with $T = 1$ and $\bar\alpha_1 = a$ is a VAE. The data are $\mathcal{N}(0, \lambda)$, and the decoder is the exact one. How large is the gap $\mathbb{E} \log q(x) - \mathbb{E}\, \mathrm{ELBO}(x)$?


# %% tags=["answer", "nbval-check-output"]
def one_step_gap(a, lam):
    return ...


exercises.check_one_step_gap(one_step_gap)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-one-big-step
# :label: ex-one-big-step-solution
# :class: dropdown
# ```
# In {eq}`eq-gaussian-gap` only the top remains, with $V_1 = a \lambda + 1 - a$. The gap is zero for $\lambda = 1$: a VAE whose encoder learns nothing can be exact, if the data are noise.


# %% tags=["nbval-check-output"]
def one_step_gap(a, lam):
    v = a * lam + 1 - a
    return 0.5 * (v - 1 - math.log(v))


exercises.check_one_step_gap(one_step_gap)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} A better draw of the time
# :label: ex-better-times
# ```
# `terms` holds the terms $\ell_1, \dots, \ell_T$ of one $x$, taken as constants, and `p` the probabilities with which a time is drawn. By what must $\ell_t$ be divided so that the estimate of their sum stays unbiased? Give the variance of the resulting estimate.


# %% tags=["answer", "nbval-check-output"]
def estimate_variance(terms, p):
    return ...


exercises.check_estimate_variance(estimate_variance)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-better-times
# :label: ex-better-times-solution
# :class: dropdown
# ```
# By $p_t$, since $\sum_t p_t\, \ell_t / p_t$ is the sum. The variance is the mean square less the squared mean. If all terms have one sign, it is zero for $p_t$ proportional to $\lvert \ell_t \rvert$, and the uniform choice of {eq}`eq-single-step` is the case $p_t = 1/T$.


# %% tags=["nbval-check-output"]
def estimate_variance(terms, p):
    return (terms**2 / p).sum() - terms.sum() ** 2


exercises.check_estimate_variance(estimate_variance)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# (sec-diffusion-summary)=
# ## Summary
#
# - A diffusion model is a hierarchical VAE with latents of the data's size, a fixed encoder, and noise at the top. One draw reaches any $x_t$ {eq}`eq-forward-marginal`.
# - Bayes' rule with $x$ as a condition splits the bound into reconstruction, prior matching and a KL divergence for each step {eq}`eq-three-terms`.
# - The reverse step is Gaussian if the image is known {eq}`eq-denoising-posterior`; if not, a mixture of those, nearly Gaussian for small steps.
# - The loss is a weighted squared error of the image, the noise or $v$ {eq}`eq-five-weights`; one random time estimates it {eq}`eq-single-step`.
# - The same bound serves symbols, as cross-entropies of hidden pixels {eq}`eq-masked-elbo`.
#
# To go on: {cite:t}`luo2022`, {cite:t}`kingma2021`.
