# %% [markdown]
# # The diffusion ELBO
#
# Let a drop of ink fall into a glass of water. After a minute the water is an even gray, and nothing in it tells what the drop looked like. Now run the film backwards. The way out of order was easy: it took no knowledge at all, only many small pushes at random. All the knowledge is in the way back.
#
# A diffusion model takes a picture, lets it dissolve in noise, and learns the way back. It looks like a new idea, and it is the hierarchical VAE of the last chapter with its encoder nailed down. The bound, the code that computes it and the chart that shows it stay the same. This chapter derives every line of that bound, and computes every term of it for data where the truth is known. The networks come in the next one.

# %% tags=["setup", "hide-input"]
# The set-up cell: tools/notebooks.py writes it.

# %%
import math

import numpy as np
import torch
from torch.distributions import (
    Categorical,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    kl_divergence,
)
from torch.nn import functional as F

from companion import data
from companion.ddpm import Ddpm, elbo_step, single_step_elbo
from companion.denoisers import MixtureDenoiser, gaussian_denoiser
from companion.elbo import elbo_terms, sample_log_weights
from companion.page import plots
from companion.page.show import show
from companion.page.sliders import Slider
from companion.page.verify import exact, monte_carlo, quadrature, verify
from companion.schedule import Schedule, add_noise, linear_schedule
from companion.variances import bound_weights

digits = data.to_symmetric(data.load("mnist", "test").images[:10])  # on [-1, 1]
schedule = linear_schedule(1000)

# %% [markdown]
# Move the slider to let ten digits dissolve. Their pixels are scaled to the interval from $-1$ to $1$. Each picture has its own noise, and keeps it while you move: what changes is the share of picture and noise.


# %%
def dissolved(t, schedule=schedule):
    seed = torch.Generator().manual_seed(0)
    noise = torch.randn(digits.shape, generator=seed, dtype=digits.dtype)
    x_t = add_noise(schedule, digits, t, noise) if t else digits
    return plots.image_grid(data.to_unit(x_t), tile=0.66)


Slider(
    [0, 20, 50, 100, 200, 300, 400, 600, 1000],
    dissolved,
    description="steps of noise",
    alt="Ten digits after {} steps of noise",
    label="{}",
    start=4,
)

# %% [markdown]
# At 200 steps every digit can still be read. At 400 we guess. At 1000 there is nothing left to guess from. How do we know that it is nothing? And what does it take to come back?

# %% [markdown]
# (sec-three-restrictions)=
# ## Three restrictions
#
# Take the chain of latents {eq}`def-hierarchy`, with a climbing guess {eq}`def-bottom-up`, and restrict it three times. This is how one of the lectures introduces diffusion.
#
# 1. **All latents have the size of the data.** We write $x_t$ for $z_t$, and $x_0$ for $x$ where that helps.
# 2. **The encoder is not learned.** Each of its steps is a fixed linear map and Gaussian noise:
#
# $$
# q(x_t \mid x_{t-1}) = \mathcal{N}\big( \sqrt{\alpha_t}\, x_{t-1},\; (1 - \alpha_t)\, I \big), \qquad 0 < \alpha_t < 1 .
# $$ (def-forward-step)
#
# 3. **The last latent is noise.** The $\alpha_t$ are chosen such that $q(x_T \mid x)$ is, nearly, $p(x_T) = \mathcal{N}(0, I)$.
#
# The noise added in step $t$ has the variance $\beta_t = 1 - \alpha_t$, and the list of them is the {term}`noise schedule`. The lecture says that a step is centered around the previous latent; it is centered around $\sqrt{\alpha_t}$ times that. The shrinking is what keeps the variance from growing: if $x$ has variance 1, so has every $x_t$.
#
# What is left to learn is the way down, $p_\theta(x_{t-1} \mid x_t)$. The other lecture calls the model *homogeneous*, and adds a fourth point: one network serves all steps, and is told the time $t$. In the companion the class is called `Ddpm`, after the *denoising diffusion probabilistic models* of {cite:t}`ho2020`. It is a `LatentChain` like the VAE and the ladder, and needs five short methods. Two make $q$. Three make $p$, and two of these are shown; the third, the likelihood, is a step down as well, from $x_1$ to $x$. What `reverse_step` does comes with {eq}`def-reverse-step`.

# %% tags=["nbval-check-output"]
show(Ddpm.posterior, Ddpm.inner_posterior, Ddpm.true_step, docstring=False)

# %% tags=["nbval-check-output"]
show(Ddpm.prior, Ddpm.inner_prior, Ddpm.reverse_step, docstring=False)

# %% [markdown]
# Now the restrictions in numbers. A model is built on ten digits, with a denoiser that knows nothing and always answers 0: the restrictions do not ask for more. (The last argument holds the variances of the steps down, here $\beta_t$.) The cell asks for the shapes of all latents, for the parameters of the encoder, and for the share of the picture that reaches the top.

# %% tags=["nbval-check-output"]
model = Ddpm(lambda x_t, t: 0 * x_t, schedule, (1, 28, 28), schedule.beta)
sizes = {model.marginal(t, digits).event_shape for t in range(1, 1001)}
print("1. all latents have the size of a digit:", sizes == {digits.shape[1:]})
print("2. numbers to learn in q:", sum(p.numel() for p in schedule.parameters()))
left = schedule.alpha_bar[-1]
print(f"3. share of the picture's variance that reaches the top: {left:.2e}")

# %% [markdown]
# The two fields have their own words for the same things.
#
# | a hierarchical VAE has | a diffusion model has |
# |---|---|
# | latents $z_1, \dots, z_T$, of any sizes | noisy pictures $x_1, \dots, x_T$, all of one size |
# | a bottom-up encoder $q_\phi(z_t \mid z_{t-1})$, learned | the {term}`forward process` $q(x_t \mid x_{t-1})$, fixed |
# | the same encoder, read top-down, $q_\phi(z_{t-1} \mid z_t, x)$ | the posterior $q(x_{t-1} \mid x_t, x)$, known |
# | a decoder for each level, $p_\theta(z_{t-1} \mid z_t)$ | the {term}`reverse process` $p_\theta(x_{t-1} \mid x_t)$, one network for all $t$ |
# | a divergence for each level | a denoising term for each step |
#
# **Which way does time run?** In a diffusion, noise comes with rising $t$, and $x_0$ is the data. Hierarchical VAEs are often counted in the direction of generation, where $z_1$ is drawn first. This book and its sources count from the data in both, so $z_t$ *is* $x_t$. If you read a text that counts the other way, its level $s$ is our level $T + 1 - s$: its prior belongs to $z_1$, and what it calls $q(z_s \mid z_{s-1}, x)$ is our $q(x_t \mid x_{t+1}, x)$, one step *down*.
#
# *Sources: A34, B20.*

# %% [markdown]
# (sec-forward-in-one-stroke)=
# ## Any number of steps in one stroke
#
# To reach $x_t$ we need not climb. Normal noise added to normal noise is normal noise. With $\bar\alpha_t = \alpha_1 \cdots \alpha_t$, and for all $s < t$,
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
# :::{dropdown} Proof
# By induction; for $t = s$ nothing has happened yet. Let $k = \bar\alpha_{t-1} / \bar\alpha_s$, and suppose that $x_{t-1}$ given $x_s$ has the mean $\sqrt{k}\, x_s$ and the variance $1 - k$. One more step {eq}`def-forward-step` makes of it the mean $\sqrt{\alpha_t k}\, x_s$ and the variance $\alpha_t (1 - k) + 1 - \alpha_t = 1 - \alpha_t k$, and $\alpha_t k = \bar\alpha_t / \bar\alpha_s$. $\square$
# :::
#
# This is what makes training cheap: there are a thousand levels, and any of them is reached with one draw. {eq}`eq-forward-marginal` is also the formula behind the slider, $x_t = \sqrt{\bar\alpha_t}\, x + \sqrt{1 - \bar\alpha_t}\, \varepsilon$.
#
# The cell climbs step by step, from $s = 100$ to $t = 700$, with the mean and the variance of each step, and compares with one stroke. Rejected is one stroke from the data, as if $s$ were 0.

# %% tags=["nbval-check-output"]
torch.set_default_dtype(torch.double)


def climb(s, t):
    """Scale and variance of x_t given x_s, one step after the other."""
    scale, var = torch.ones(()), torch.zeros(())
    for step in range(s + 1, t + 1):
        alpha = schedule.alpha[step]
        scale, var = alpha**0.5 * scale, alpha * var + schedule.beta[step]
    return torch.stack([scale, var])


one_stroke = torch.stack([*schedule.forward_coefficients(100, 700)])
wrong = {"from 0": torch.stack([*schedule.forward_coefficients(0, 700)])}
verify("eq-two-times", climb(100, 700), one_stroke, rejects=wrong)

# %% [markdown]
# From the data, to four times. A mean with $\bar\alpha_t$ in place of its root is rejected.

# %% tags=["nbval-check-output"]
times = (1, 10, 100, 1000)
steps = torch.stack([climb(0, t) for t in times])
strokes = torch.stack([torch.stack([*schedule.forward_coefficients(0, t)]) for t in times])
not_squared = torch.stack([strokes[:, 0] ** 2, strokes[:, 1]], 1)
verify("eq-forward-marginal", steps, strokes, rejects={"no root": not_squared})

# %% [markdown]
# And by simulation, on four steps so that something is left to be seen: a hundred thousand climbs from one $x$. Noise variances that are just added up, $0.1 + 0.2 + 0.3 + 0.4$, are rejected.

# %% tags=["nbval-check-output"]
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

# %% [markdown]
# **The limit.** One lecture says that the limit of the encoder is noise. That depends on the schedule.
#
# :::{prf:theorem} When the end is noise
# :label: thm-forward-limit
# Let $0 < \beta_t < 1$. As $t \to \infty$, the law $q(x_t \mid x)$ converges to $\mathcal{N}(0, I)$ for every $x$ if and only if $\sum_t \beta_t = \infty$.
# :::
#
# :::{dropdown} Proof
# By {eq}`eq-forward-marginal` the law converges to $\mathcal{N}(0, I)$ for every $x$ if and only if $\bar\alpha_t = \prod_s (1 - \beta_s) \to 0$. Since $\log (1 - \beta) \le -\beta$, a divergent sum makes $\log \bar\alpha_t \to -\infty$. If the sum converges, then $\beta_s \le \frac12$ from some $s$ on, where $\log (1 - \beta) \ge -2 \beta$, so $\log \bar\alpha_t$ stays bounded. $\square$
# :::
#
# A schedule that adds noise forever, and yet never gets there, is $\beta_t = 1 / (t + 1)^2$:
#
# $$
# \bar\alpha_T = \prod_{t=1}^{T} \Big( 1 - \frac{1}{(t + 1)^2} \Big) = \frac{T + 2}{2\, (T + 1)} \;\longrightarrow\; \frac12 .
# $$ (eq-never-noise)
#
# Each factor is $t (t + 2) / (t + 1)^2$, and neighbors cancel. Half of the variance of the picture survives an infinite number of steps. A share that vanishes, like $1 / \sqrt{T}$, is rejected.

# %% tags=["nbval-check-output"]
T = torch.tensor([1, 10, 1000, 100_000])
betas = 1 / (torch.arange(1, 100_001) + 1.0) ** 2
lasting = Schedule.from_betas(betas).alpha_bar[T]
wrong = {"it vanishes": 1 / T**0.5}
verify("eq-never-noise", lasting, (T + 2) / (2 * (T + 1.0)), rejects=wrong)

# %% [markdown]
# For a finite $T$ the third restriction holds only nearly. What is missing has a price in nats, the divergence of the top from its prior. By {eq}`eq-kl-standard`, for $D$ dimensions,
#
# $$
# D_{\mathrm{KL}}\big( q(x_T \mid x) \,\Vert\, p(x_T) \big) = \frac12 \Big( \bar\alpha_T \lVert x \rVert^2 - D \bar\alpha_T - D \log (1 - \bar\alpha_T) \Big) .
# $$ (eq-prior-matching)
#
# For small $\bar\alpha_T$ the last two terms nearly cancel, and $\bar\alpha_T \lVert x \rVert^2 / 2$ remains. This term contains nothing that is learned. Rejected is this remainder alone; with so few steps it is no approximation.

# %% tags=["nbval-check-output"]
x = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
toy = Ddpm(lambda x_t, t: x_t, short, (3,), short.beta)
left = kl_divergence(toy.posterior(x), toy.prior(5))
square = kept * x.square().sum(1)
right = 0.5 * (square - 3 * kept - 3 * torch.log1p(-kept))
verify("eq-prior-matching", left, right, rejects={"only the mean": 0.5 * square})

# %% [markdown]
# What does it cost for real digits? The betas of {cite:t}`ho2020` grow evenly from 0.0001 to 0.02 and are made for 1000 steps. A plausible mistake is to use the same betas for 100 steps. They must be ten times as large. (No beta may reach 1: with twenty steps or fewer the last ones are cut off at 0.999.)


# %%
def rescaled(T):
    """The linear schedule for T steps: betas 1000 / T times as large, below 1."""
    return Schedule.from_betas((torch.linspace(1e-4, 0.02, T) * 1000 / T).clamp(max=0.999))


def top_price(schedule):
    model = Ddpm(lambda x_t, t: x_t, schedule, (1, 28, 28), schedule.beta)
    prices = kl_divergence(model.posterior(digits.double()), model.prior(len(digits)))
    return prices.mean().item()


# %% [markdown]
# Three schedules, what they leave of the picture's variance at the top, and what that costs:

# %% tags=["nbval-check-output"]
three = {
    "1000 steps": linear_schedule(1000),
    "100 steps, the same betas": linear_schedule(100),
    "100 steps, betas rescaled": rescaled(100),
}
prices = {name: top_price(s) for name, s in three.items()}
for name, s in three.items():
    print(f"{name:26s} share left at the top {s.alpha_bar[-1]:.1e}")
print("below 0.02 nats:", [name for name, price in prices.items() if price < 0.02])
print("above 50 nats:", [name for name, price in prices.items() if price > 50])

# %% [markdown]
# *Sources: A35, B21, C12.*

# %% [markdown]
# (sec-elbo-chain)=
# ## The bound, line by line
#
# By {eq}`eq-reversal` the climbing chain is a descending one, so the bound {eq}`eq-chain-elbo` applies and there is nothing to prove. But the lecture derives it anew, in eleven lines, and other texts do too. So let us walk through it. On the way we check each line on a chain of four steps, where *all* is known. And we see what each line is for.
#
# Start with the importance weight of a whole path $x_1, \dots, x_T$:
#
# $$
# w = \frac{p_\theta(x, x_1, \dots, x_T)}{q(x_1, \dots, x_T \mid x)}, \qquad \mathrm{ELBO}(x) = \mathbb{E}_q \log w \le \log p_\theta(x) .
# $$ (def-path-weight)
#
# **Write both laws as products.** The top's law is fixed, and is *not* learned. One line of the lecture has an index $\theta$ at $p(x_T)$ (entry E13), where all its other lines have none.
#
# $$
# \log w = \log \frac{p(x_T) \prod_{t=1}^{T} p_\theta(x_{t-1} \mid x_t)}{\prod_{t=1}^{T} q(x_t \mid x_{t-1})} .
# $$ (eq-line-product)
#
# **Turn each step of $q$ around.** The noise is added without a look at $x$, so $q(x_t \mid x_{t-1}) = q(x_t \mid x_{t-1}, x)$. That looks like a step back: why write down what does not matter? Because now Bayes' rule has all its parts in closed form. For $t \ge 2$ (at $t = 1$ there is nothing to turn, since $x_0$ *is* $x$),
#
# $$
# q(x_t \mid x_{t-1}) = q(x_t \mid x_{t-1}, x) = \frac{q(x_{t-1} \mid x_t, x)\, q(x_t \mid x)}{q(x_{t-1} \mid x)} .
# $$ (eq-turned-step)
#
# Without $x$ behind the bar Bayes' rule is just as true, but its parts are marginals over all data, which nobody knows.
#
# Insert it in all steps but the first:
#
# $$
# \log w = \log \frac{p(x_T)\, p_\theta(x \mid x_1)}{q(x_1 \mid x)} + \sum_{t=2}^{T} \log \frac{p_\theta(x_{t-1} \mid x_t)\; q(x_{t-1} \mid x)}{q(x_{t-1} \mid x_t, x)\; q(x_t \mid x)} .
# $$ (eq-line-turned)
#
# **Let neighbors cancel.** In the sum over $t$, the marginal of each $x_t$ is once above and once below, except for the last one; the first cancels with $q(x_1 \mid x)$:
#
# $$
# \log w = \log p_\theta(x \mid x_1) + \log \frac{p(x_T)}{q(x_T \mid x)} + \sum_{t=2}^{T} \log \frac{p_\theta(x_{t-1} \mid x_t)}{q(x_{t-1} \mid x_t, x)} .
# $$ (eq-line-telescoped)
#
# So far no mean was taken. All lines hold for *every* path, and that is how we check them: at arbitrary points.
#
# **Take the mean.** The first term depends on $x_1$ only and the second on $x_T$ only, so the other variables integrate to one. The logarithms in the sum depend on $x_{t-1}$ and $x_t$:
#
# $$
# \begin{aligned}
# \mathrm{ELBO}(x) = {} & \mathbb{E}_{q(x_1 \mid x)} \log p_\theta(x \mid x_1) + \mathbb{E}_{q(x_T \mid x)} \log \frac{p(x_T)}{q(x_T \mid x)} \\
# & + \sum_{t=2}^{T} \mathbb{E}_{q(x_{t-1}, x_t \mid x)} \log \frac{p_\theta(x_{t-1} \mid x_t)}{q(x_{t-1} \mid x_t, x)} .
# \end{aligned}
# $$ (eq-line-means)
#
# **Find the divergences.** The second mean is one, with its sign turned. In the sum, take the mean over $x_{t-1}$ given $x_t$ first:
#
# $$
# \begin{aligned}
# \mathrm{ELBO}(x) = {} & \underbrace{\mathbb{E}_{q(x_1 \mid x)} \log p_\theta(x \mid x_1)}_{\text{reconstruction}} \;-\; \underbrace{D_{\mathrm{KL}}\big( q(x_T \mid x) \,\Vert\, p(x_T) \big)}_{\text{prior matching}} \\
# & - \sum_{t=2}^{T} \underbrace{\mathbb{E}_{q(x_t \mid x)}\, D_{\mathrm{KL}}\big( q(x_{t-1} \mid x_t, x) \,\Vert\, p_\theta(x_{t-1} \mid x_t) \big)}_{\text{denoising matching}} .
# \end{aligned}
# $$ (eq-three-terms)
#
# The chain for the check has four steps and data of one dimension. Its denoiser is wrong on purpose, and the same at all times, $\hat{x} = 0.6\, x_t + 0.1$: identities must hold for every $p_\theta$, not only for a good one. A step down is normal, with a mean that `reverse_step` makes of this guess and $x_t$, and the variance $\beta_t$. Why this mean, we see in {ref}`the section after next <sec-true-reverse>`; the identities do not depend on it.

# %%
T, x_value = 4, 1.3
schedule = Schedule.from_betas(torch.tensor([0.1, 0.25, 0.45, 0.7]))
model = Ddpm(lambda x_t, t: 0.6 * x_t + 0.1, schedule, (1,), schedule.beta)
_ = torch.manual_seed(0)
path = torch.randn(T + 1, 6, 1)  # path[t] is x_t, for six paths
path[0] = x_value
x = path[0]


def down(t):
    """log p(x_{t-1} | x_t) along the paths."""
    law = model.inner_prior(t - 1, path[t]) if t > 1 else model.likelihood(path[1])
    return law.log_prob(path[t - 1])


def up(t):
    """log q(x_t | x_{t-1}) along the paths."""
    scale, var = schedule.forward_coefficients(t - 1, t)
    return Normal(scale * path[t - 1], var**0.5).log_prob(path[t])[:, 0]


# %% [markdown]
# For {eq}`eq-line-product` the left side must not know that there are steps. The model's path is one normal vector of five numbers, and so is $q$'s, of four. Their means and covariances come from matrix algebra as in the last chapter, and give the two densities at once.


# %%
def joint(t_from, slopes, offsets, variances):
    """Normal law of a chain v_i = slope_i v_{i-1} + offset_i + noise_i."""
    A = torch.linalg.inv(torch.eye(len(slopes)) - torch.diag(slopes[1:], -1))
    start = offsets.clone()
    start[0] = start[0] + slopes[0] * t_from
    return MultivariateNormal(A @ start, A @ torch.diag(variances) @ A.T)


q_joint = joint(x_value, schedule.alpha[1:] ** 0.5, torch.zeros(T), schedule.beta[1:])
zero, one = torch.zeros(1, 1), torch.ones(1, 1)
ts = range(T, 0, -1)
offsets = [model.reverse_step(torch.tensor([t]), zero, 0 * zero + 0.1) for t in ts]
slopes = [model.reverse_step(torch.tensor([t]), one, 0.6 * one) for t in ts]
p_joint = joint(  # from x_T down to x_0
    0.0,
    torch.tensor([0.0] + [law.mean.item() for law in slopes]),
    torch.tensor([0.0] + [law.mean.item() for law in offsets]),
    torch.cat([torch.ones(1), schedule.beta[1:].flip(0)]),
)

# %% [markdown]
# The misprint is rejected, read as a top that is learned: its best choice for this $x$ is $q(x_T \mid x)$. That would be another model.

# %% tags=["nbval-check-output"]
points = path[:, :, 0].T
log_w = p_joint.log_prob(points.flip(1)) - q_joint.log_prob(points[:, 1:])
below = sum(up(t) for t in range(1, T + 1))
products = model.prior(6).log_prob(path[T]) + sum(down(t) for t in range(1, T + 1))
top = (q_joint.mean[-1], q_joint.variance[-1] ** 0.5)
learned = products - below + Normal(*top).log_prob(path[T])[:, 0]
learned = learned - model.prior(6).log_prob(path[T])
verify("eq-line-product", log_w, products - below, rejects={"E13": learned})

# %% [markdown]
# Next, each step turned around. The plausible slip is to forget the quotient of the marginals.

# %% tags=["nbval-check-output"]
marginal = [None] + [model.marginal(t, x).log_prob(path[t]) for t in range(1, T + 1)]
back = [None, None] + [
    model.inner_posterior(t - 1, path[t], x).log_prob(path[t - 1]) for t in range(2, T + 1)
]
left = torch.stack([up(t) for t in range(2, T + 1)])
plain = torch.stack(back[2:])
right = plain + torch.stack([marginal[t] - marginal[t - 1] for t in range(2, T + 1)])
verify("eq-turned-step", left, right, rejects={"without marginals": plain})

# %% [markdown]
# With all steps turned, the log-weight is still that of the five numbers at once.

# %% tags=["nbval-check-output"]
ends = model.prior(6).log_prob(path[T]) + down(1) - marginal[1]
ratios = [down(t) - back[t] for t in range(2, T + 1)]
moves = [marginal[t - 1] - marginal[t] for t in range(2, T + 1)]
turned = ends + sum(ratios) + sum(moves)
wrong = {"without marginals": ends + sum(ratios)}
verify("eq-line-turned", log_w, turned, rejects=wrong)

# %% [markdown]
# Then the telescope. Here $q(x_T \mid x)$ could be lost with the marginals that cancel.

# %% tags=["nbval-check-output"]
matching = model.prior(6).log_prob(path[T]) - marginal[T]
telescoped = down(1) + matching + sum(ratios)
lost = {"q of the top lost": telescoped + marginal[T]}
verify("eq-line-telescoped", log_w, telescoped, rejects=lost)

# %% [markdown]
# Now the mean. On the left we take it before anything is split: the mean of a quadratic function under a normal law, from its value at the mean and a trace. On the right, each mean over one or two variables. In a quadratic function, standard normal noise may be replaced by the two values $1$ and $-1$, and the mean stays the same. So four pairs $(\varepsilon_t, \varepsilon_{t-1})$ give each mean exactly.

# %% tags=["nbval-check-output"]
P = p_joint.precision_matrix.flip(0, 1)[1:, 1:]
at_mean = torch.cat([torch.tensor([x_value]), q_joint.mean])
left = p_joint.log_prob(at_mean.flip(0)) - 0.5 * (P @ q_joint.covariance_matrix).trace()
left = left + q_joint.entropy()
x, a, b = torch.tensor([[x_value, 1, 1], [x_value, 1, -1]]).repeat(2, 1).T[..., None]
a = a * torch.tensor([[1.0], [1.0], [-1.0], [-1.0]])
means = []
for t in range(1, T + 1):
    x_t = add_noise(schedule, x, t, a)
    if t == 1:
        log_ratio = model.likelihood(x_t).log_prob(x)
    else:
        back_law = model.inner_posterior(t - 1, x_t, x)
        before = back_law.mean + back_law.stddev * b
        log_ratio = model.inner_prior(t - 1, x_t).log_prob(before)
        log_ratio = log_ratio - back_law.log_prob(before)
    means.append(log_ratio.mean())
top_mean = (model.prior(4).log_prob(x_t) - model.posterior(x).log_prob(x_t)).mean()
wrong = {"without the top": sum(means), "without t = 1": sum(means[1:]) + top_mean}
verify("eq-line-means", left, sum(means) + top_mean, rejects=wrong)

# %% [markdown]
# Last, the three terms. A divergence of normal laws is known, so the mean is over one $x_t$, and two points do. `elbo_step` computes the term of step $t$ at the $x_t$ which a given noise makes.


# %% tags=["nbval-check-output"]
def exact_terms(model, x):
    """The mean of each step's term over the noise: t = 1, ..., T."""
    T = model.num_latents
    t = torch.arange(1, T + 1).repeat_interleave(2)
    noise = torch.tensor([1.0, -1.0]).repeat(T)[:, None]
    return elbo_step(model, x.expand(2 * T, 1), t, noise).view(T, 2).mean(1)


terms = exact_terms(model, x[:1])
prior_matching = kl_divergence(model.posterior(x[:1]), model.prior(1))[0]
right = terms.sum() - prior_matching
wrong = {"without the prior": terms.sum(), "without t = 1": right - terms[0]}
verify("eq-three-terms", left, right, rejects=wrong)

# %% [markdown]
# And the same by the function that served the VAE and the ladder. Nothing was added to it for diffusion. (The cell uses 200,000 copies of one $x$; the numbers are nats.)

# %% tags=["nbval-check-output"]
_ = torch.manual_seed(0)
many = torch.full((200_000, 1), x_value)
drawn = elbo_terms(model, many)
verify("eq-three-terms", drawn.elbo, right, monte_carlo, rejects=wrong)
print(f"reconstruction   {terms[0]:8.4f}")
print(f"prior matching   {-prior_matching:8.4f}")
for t in range(2, T + 1):
    print(f"step {t} to {t - 1}      {terms[t - 1]:8.4f}")
print(f"ELBO             {right:8.4f}")
model_evidence = Normal(p_joint.mean[-1], p_joint.variance[-1] ** 0.5)
print(f"log p(x)         {model_evidence.log_prob(torch.tensor(x_value)):8.4f}")

# %% [markdown]
# **What is the algebra for?** One often reads: to lower the variance. Each divergence in {eq}`eq-three-terms` is a mean that was taken by formula and not by sampling, so the sum should vary less than $\log w$. For a *single* term that is true. For the sum it need not be: the noises of the steps that were taken out may have canceled each other. Two models show it. The first is the wrong one above. The second is perfect: standard normal data, the exact denoiser, and steps down with the variance $\beta_t$ (why this is perfect we see {ref}`below <sec-exact-gap>`).

# %% tags=["nbval-check-output"]
_ = torch.manual_seed(0)
hat = gaussian_denoiser(schedule, torch.zeros(1), torch.eye(1))
perfect = Ddpm(hat, schedule, (1,), schedule.beta)
for name, m in {"wrong on purpose": model, "perfect": perfect}.items():
    path_std = sample_log_weights(m, many, 1)[0].std()
    terms_std = elbo_terms(m, many).elbo.std()
    print(f"{name:17s} log w varies by {path_std:.1f}, the terms by {terms_std:.1f}")

# %% [markdown]
# Standard deviations, in nats. For the perfect model every path gives $\log p(x)$ to the last digit, as {eq}`eq-chain-exact` says, while the three terms still vary with the path. What the algebra does buy is that the terms come *apart*: each needs one $x_t$ only, and that comes in one stroke. We will use that in {ref}`sec-one-random-step`.
#
# *Sources: B19, B22.*

# %% [markdown]
# (sec-denoising-posterior)=
# ## The way back, if the picture is known
#
# The denoising terms compare $p_\theta(x_{t-1} \mid x_t)$ with $q(x_{t-1} \mid x_t, x)$: the step back of somebody who has seen the picture. Given $x$, the pair $(x_{t-1}, x_t)$ is jointly normal, so the step back is a normal law as well:
#
# $$
# q(x_{t-1} \mid x_t, x) = \mathcal{N}\big( \tilde\mu_t(x_t, x),\; \tilde\beta_t\, I \big)
# $$ (def-denoising-posterior)
#
# with
#
# $$
# \begin{aligned}
# \tilde\mu_t(x_t, x) & = \frac{\sqrt{\bar\alpha_{t-1}}\, \beta_t}{1 - \bar\alpha_t}\; x + \frac{\sqrt{\alpha_t}\, (1 - \bar\alpha_{t-1})}{1 - \bar\alpha_t}\; x_t, \\
# \tilde\beta_t & = \frac{1 - \bar\alpha_{t-1}}{1 - \bar\alpha_t}\; \beta_t .
# \end{aligned}
# $$ (eq-denoising-posterior)
#
# :::{dropdown} Proof
# Use {eq}`eq-normal-product`. What is expected of $x_{t-1}$, before $x_t$ is seen, is $\mathcal{N}(\sqrt{\bar\alpha_{t-1}}\, x, 1 - \bar\alpha_{t-1})$. The message of $x_t$ is $\mathcal{N}(x_t / \sqrt{\alpha_t}, \beta_t / \alpha_t)$. The precisions add up to
#
# $$
# \frac{1}{1 - \bar\alpha_{t-1}} + \frac{\alpha_t}{\beta_t} = \frac{\beta_t + \alpha_t - \bar\alpha_t}{(1 - \bar\alpha_{t-1})\, \beta_t} = \frac{1 - \bar\alpha_t}{(1 - \bar\alpha_{t-1})\, \beta_t} ,
# $$ (def-precisions-add)
#
# which is $1 / \tilde\beta_t$. The mean is $\tilde\beta_t$ times the sum of the two centers, each with its precision. $\square$
# :::
#
# So the step back is a product like the one in a ladder {eq}`def-ladder-posterior`, a compromise between where the picture says $x_{t-1}$ should be and where $x_t$ says it was. One set of notes calls this law intractable, "by joint normality" (entry E15), and then uses its mean and variance. It is tractable, by joint normality. What is hard is the step back *without* the picture.
#
# The cell conditions the joint normal law of the pair by linear regression, with no use of the formula. It rejects the two ways to confuse the coefficients.

# %% tags=["nbval-check-output"]
long = linear_schedule(1000)


def regressed(t):
    """Weights of x and x_t, and the variance, by regression of x_{t-1} on x_t."""
    before, now = (long.forward_coefficients(0, time) for time in (t - 1, t))
    step = long.forward_coefficients(t - 1, t)
    slope = step.scale * before.var / now.var
    rest = before.var - slope * step.scale * before.var
    return torch.stack([before.scale - slope * now.scale, slope, rest])


times = torch.tensor([2, 10, 100, 500, 1000])
left = torch.stack([regressed(t) for t in times], 1)
right = torch.stack([*long.reverse_coefficients(times)])
swapped = right[[1, 0, 2]]
forward = torch.stack([right[0], right[1], long.beta[times]])
wrong = {"weights exchanged": swapped, "variance of the step up": forward}
verify("eq-denoising-posterior", left, right, rejects=wrong)

# %% [markdown]
# The slides multiply out the exponents. Along the way they write $=$ where constants were dropped, and then $\propto$ where the normal density is complete again (entry E12): the two signs trade places. In between stands the exponential $e^{-(x_{t-1}^2 - 2 \tilde\mu_t x_{t-1}) / 2 \tilde\beta_t}$. The cell evaluates the quotient of the three densities, for $t = 500$, and rejects that exponential as being *equal* to it.

# %% tags=["nbval-check-output"]
t, x_0, now = 500, torch.tensor(0.8), torch.tensor(-0.4)
line = torch.linspace(-2, 2, 9)
step = long.forward_coefficients(t - 1, t)
before, after = (long.forward_coefficients(0, time) for time in (t - 1, t))
quotient = Normal(step.scale * line, step.var**0.5).log_prob(now)
quotient = quotient + Normal(before.scale * x_0, before.var**0.5).log_prob(line)
quotient = quotient - Normal(after.scale * x_0, after.var**0.5).log_prob(now)
of_x_0, of_x_t, var = long.reverse_coefficients(t)
mu = of_x_0 * x_0 + of_x_t * now
law = Normal(mu, var**0.5).log_prob(line)
dropped = -(line**2 - 2 * mu * line) / (2 * var)
verify("eq-denoising-posterior", quotient, law, rejects={"E12": dropped})
print("they differ by a constant only:", bool((law - dropped).std() < 1e-9))

# %% [markdown]
# At $t = 1$ the step leads to $x$ itself, and $\tilde\beta_1 = 0$. That is why the bound has a reconstruction term there, and no divergence: it would be infinite.
#
# The companion gives the two weights and the variance as `schedule.reverse_coefficients(t)`, with one trick. It never forms $1 - \bar\alpha_t$ by subtraction, but from $\log \bar\alpha_t$. With 1000 steps the difference is as small as 0.0001 at $t = 1$, and in single precision subtraction would lose about half of its seven digits.

# %% tags=["nbval-check-output"]
show(Schedule.reverse_coefficients, docstring=False)

# %% [markdown]
# *Sources: B23, C13.*

# %% [markdown]
# (sec-true-reverse)=
# ## The way back, if it is not
#
# Write $q(x_t)$ for the law of $x_t$ over all data; $q(x)$ is that of the data. Without the picture, the true step back is a mixture over all pictures that $x_t$ may have been:
#
# $$
# q(x_{t-1} \mid x_t) = \frac{q(x_t \mid x_{t-1})\, q(x_{t-1})}{q(x_t)} = \int q(x_{t-1} \mid x_t, x)\; q(x \mid x_t)\, \mathrm{d}x .
# $$ (eq-true-step)
#
# Its mean and variance follow at once. Since $\tilde\mu_t$ is linear in $x$, in each dimension
#
# $$
# \begin{aligned}
# \mathbb{E}[x_{t-1} \mid x_t] & = \tilde\mu_t\big( x_t, \mathbb{E}[x \mid x_t] \big), \\
# \mathrm{Var}[x_{t-1} \mid x_t] & = \tilde\beta_t + c_t^2\, \mathrm{Var}[x \mid x_t], \qquad c_t = \frac{\sqrt{\bar\alpha_{t-1}}\, \beta_t}{1 - \bar\alpha_t} .
# \end{aligned}
# $$ (eq-true-moments)
#
# Read it as the design of a model. *The mean of the step needs the best guess of the picture, and nothing else.* So let a network guess it, $\hat{x}_\theta(x_t, t)$, and put the guess where the picture was:
#
# $$
# p_\theta(x_{t-1} \mid x_t) = \mathcal{N}\big( \tilde\mu_t(x_t, \hat{x}_\theta(x_t, t)),\; \sigma_t^2\, I \big) .
# $$ (def-reverse-step)
#
# At $t = 1$ the mean is the guess itself, so {eq}`def-reverse-step` is also the likelihood $p_\theta(x \mid x_1)$. *The variance is more than $\tilde\beta_t$*, by what remains unknown of the picture. And the model's step is normal for a plain reason: we have chosen it so. The true one is a mixture, and in general not normal. One lecture says that $p_\theta(x_{t-1} \mid x_t)$ is Gaussian if the steps are small enough (entry E14). It is $q(x_{t-1} \mid x_t)$ that needs small steps, and then is *nearly* so; {ref}`chapter 5 <sec-one-noise-step>` gave the reason.
#
# The cells take data in one dimension with two humps. By Bayes' rule with densities, and by the mixture of the integral, the true step is computed at eight points; the normal law of the same mean and variance, which the misprint would have it be, is rejected.

# %%
weights = torch.tensor([0.5, 0.5])
centers, widths = torch.tensor([-1.0, 1.2]), torch.tensor([0.4, 0.6])


def humps_at(schedule, t):
    """q(x_t), for data with two humps."""
    signal, var = schedule.forward_coefficients(0, t)
    spread = (signal**2 * widths**2 + var).sqrt()
    return MixtureSameFamily(Categorical(weights), Normal(signal * centers, spread))


def humps_denoiser(schedule):
    covs = widths[:, None, None] ** 2
    return MixtureDenoiser(schedule, weights, centers[:, None], covs)


def log_step_back(schedule, t, x_t, line):
    """log q(x_{t-1} | x_t) on a line, by Bayes' rule."""
    scale, var = schedule.forward_coefficients(t - 1, t)
    log_up = Normal(scale * line, var**0.5).log_prob(x_t)
    log_before = humps_at(schedule, t - 1).log_prob(line)
    return log_up + log_before - humps_at(schedule, t).log_prob(x_t)


# %% [markdown]
# Now the comparison, at $t = 3$ of the chain of four steps.

# %% tags=["nbval-check-output"]
t, x_t = 3, torch.tensor(0.3)
line, x_line = torch.linspace(-1, 1.8, 8), torch.linspace(-6, 6, 24_001)
left = log_step_back(schedule, t, x_t, line).exp()
signal, noise_var = schedule.forward_coefficients(0, t)
prior_x = humps_at(schedule, 0).log_prob(x_line)
given = (prior_x + Normal(signal * x_line, noise_var**0.5).log_prob(x_t)).exp()
given = given / torch.trapezoid(given, x_line)  # q(x | x_t)
c, of_x_t, var = schedule.reverse_coefficients(t)
steps = Normal(c * x_line + of_x_t * x_t, var**0.5).log_prob(line[:, None]).exp()
right = torch.trapezoid(steps * given, x_line)
mean = torch.trapezoid(x_line * given, x_line)
spread = torch.trapezoid((x_line - mean) ** 2 * given, x_line)
matched = Normal(c * mean + of_x_t * x_t, (var + c**2 * spread) ** 0.5)
normal = {"E14": matched.log_prob(line).exp()}
verify("eq-true-step", left, right, quadrature, rejects=normal)

# %% [markdown]
# Mean and variance of the step, from its density on a line, against {eq}`eq-true-moments`. For the mean of $x$ the exact denoiser of the companion is asked. The variance without the second part is rejected.

# %% tags=["nbval-check-output"]
law = log_step_back(schedule, t, x_t, x_line).exp()
step_mean = torch.trapezoid(x_line * law, x_line)
step_var = torch.trapezoid((x_line - step_mean) ** 2 * law, x_line)
x_hat = humps_denoiser(schedule)(x_t.view(1, 1), torch.tensor([t]))[0, 0]
left = torch.stack([step_mean, step_var])
right = torch.stack([c * x_hat + of_x_t * x_t, var + c**2 * spread])
only = {"known picture": torch.stack([right[0], var])}
verify("eq-true-moments", left, right, quadrature, rejects=only)

# %% [markdown]
# How far from normal is the step, when the way to the noise is cut into $T$ steps? For each $t$ we compute the largest difference in probability that the two laws, the true one and its normal match, give to any event (their *total variation*), and average over $x_t$. The table has the largest value over $t \ge 2$; of long chains some thirty times are tried.


# %%
def farthest(T):
    """Largest mean total variation between a true step and its normal match."""
    schedule, worst = rescaled(T), 0.0
    hat, unit = humps_denoiser(schedule), torch.linspace(-9, 9, 1201)
    x_t = torch.linspace(-4, 4, 81)[:, None]
    times = sorted({*range(2, min(T, 12) + 1), *np.geomspace(2, T, 25).astype(int)})
    for t in times:
        c, of_x_t, var = schedule.reverse_coefficients(t)
        x_hat = hat(x_t, torch.full((81,), t))
        rough = c * x_hat + of_x_t * x_t + 0 * unit, (var + c**2 * widths.max() ** 2)
        line = rough[0] + 1.5 * rough[1] ** 0.5 * unit
        law = log_step_back(schedule, t, x_t, line).exp()
        mean = torch.trapezoid(line * law, line)[:, None]
        spread = torch.trapezoid((line - mean) ** 2 * law, line)[:, None]
        match = Normal(mean, spread**0.5).log_prob(line).exp()
        apart = 0.5 * torch.trapezoid((law - match).abs(), line)
        here = humps_at(schedule, t).log_prob(x_t[:, 0]).exp()
        worst = max(worst, (here * apart).sum() / here.sum())
    return float(worst)


# %% tags=["nbval-check-output"]
for T in (4, 10, 30, 100, 300, 1000):
    print(f"T = {T:4d}: off by up to {farthest(T):.5f}")

# %% [markdown]
# With four steps the true step back is anything but normal, even though its mean and variance are matched. With a thousand, it differs by less than one part in ten thousand. Do the errors of so many steps add up? Each falls faster than their number grows: with ten times the steps it is some thirty times smaller. This is why diffusion takes many small steps: each of them can be undone by a normal law.
#
# *Sources: B25, C13.*

# %% [markdown]
# (sec-five-languages)=
# ## One loss in five languages
#
# Both laws of a denoising term are normal, with one variance for all dimensions each. By {eq}`eq-kl-gaussians`,
#
# $$
# \begin{aligned}
# & D_{\mathrm{KL}}\big( q(x_{t-1} \mid x_t, x) \,\Vert\, p_\theta(x_{t-1} \mid x_t) \big) \\
# & \qquad = \frac{\lVert \tilde\mu_t - \mu_\theta \rVert^2}{2 \sigma_t^2} + \frac{D}{2} \Big( \frac{\tilde\beta_t}{\sigma_t^2} - 1 - \log \frac{\tilde\beta_t}{\sigma_t^2} \Big) .
# \end{aligned}
# $$ (eq-step-cost)
#
# The second part contains nothing that is learned, if $\sigma_t^2$ is fixed. The first is a squared error of the mean. But $\tilde\mu_t$ is a weighted sum of $x_t$, which the network sees, and $x$, which it must guess. So an error in the mean *is* an error in $x$, and in whatever else determines $x$ once $x_t$ is known:
#
# | the network estimates | which is | because |
# |---|---|---|
# | the mean | $\tilde\mu_t$ | it is what the bound asks for |
# | the data | $x$ | it is what we want |
# | the noise | $\varepsilon = (x_t - \sqrt{\bar\alpha_t}\, x) / \sqrt{1 - \bar\alpha_t}$ | it has variance 1 at all times |
# | $v$ | $v = \sqrt{\bar\alpha_t}\, \varepsilon - \sqrt{1 - \bar\alpha_t}\, x$ | it gives $x$ and $\varepsilon$ without a division {cite:p}`salimans2022` |
# | the score | $s = -\varepsilon / \sqrt{1 - \bar\alpha_t}$ | its mean given $x_t$ is $\nabla \log q(x_t)$, see {eq}`eq-noise-score` |
#
# Write $e_x = x - \hat{x}$, and so on for the others. Then
#
# $$
# \begin{aligned}
# \lVert e_\mu \rVert^2 & = c_t^2\, \lVert e_x \rVert^2, \\
# \lVert e_x \rVert^2 & = \frac{\lVert e_\varepsilon \rVert^2}{\mathrm{SNR}_t} = (1 - \bar\alpha_t)\, \lVert e_v \rVert^2 = \frac{1 - \bar\alpha_t}{\mathrm{SNR}_t}\, \lVert e_s \rVert^2 ,
# \end{aligned}
# $$ (eq-five-errors)
#
# with the {term}`signal-to-noise ratio` $\mathrm{SNR}_t = \bar\alpha_t / (1 - \bar\alpha_t)$ and $c_t$ of {eq}`eq-true-moments`.
#
# :::{dropdown} Proof
# $x_t = \sqrt{\bar\alpha_t}\, x + \sqrt{1 - \bar\alpha_t}\, \varepsilon$ is known, so $\sqrt{\bar\alpha_t}\, e_x = - \sqrt{1 - \bar\alpha_t}\, e_\varepsilon$. Insert that in $v$: $e_v = \sqrt{\bar\alpha_t}\, e_\varepsilon - \sqrt{1 - \bar\alpha_t}\, e_x = - e_x / \sqrt{1 - \bar\alpha_t}$. The score is $\varepsilon$ with a factor. $\square$
# :::
#
# The cell distorts $x$ at random, translates it by the companion's functions, and compares. Rejected are the errors taken for equal, and a $c_t$ that is not squared.

# %% tags=["nbval-check-output"]
from companion.schedule import mean_from_x_0, noise_from_x_0, score_from_x_0, v_from_x_0

_ = torch.manual_seed(0)
x, noise = torch.randn(6, 3), torch.randn(6, 3)
x_hat = x + 0.3 * torch.randn(6, 3)
t = torch.tensor([2, 10, 100, 300, 600, 1000])
x_t = add_noise(long, x, t, noise)


def error(translate):
    return (translate(long, x_t, t, x) - translate(long, x_t, t, x_hat)).square().sum(1)


q = long.reverse_coefficients(t)
e_x = (x - x_hat).square().sum(1)
e_mu, e_noise = error(mean_from_x_0), error(noise_from_x_0)
e_v, e_s = error(v_from_x_0), error(score_from_x_0)
snr, noise_var = long.snr[t], long.noise_var[t]
left = torch.stack([e_noise / snr, noise_var * e_v, noise_var / snr * e_s])
same = torch.stack([e_noise, e_v, e_s])
verify("eq-five-errors", left, torch.stack([e_x] * 3), rejects={"all equal": same})
c = long.alpha_bar[t - 1] ** 0.5 * long.beta[t] / noise_var
verify("eq-five-errors", e_mu, c**2 * e_x, rejects={"no square": c * e_x})

# %% [markdown]
# The whole cost of a step: the divergence by `elbo_step`, with this distorted guess as the denoiser, against {eq}`eq-step-cost`. The variances are $\sigma_t^2 = \beta_t$, and forgetting the second part is rejected.

# %% tags=["nbval-check-output"]
distorted = Ddpm(lambda x_t, t: x_hat, long, (3,), long.beta)
ratio = q.var / long.beta[t]
first = e_mu / (2 * long.beta[t])
right = first + 1.5 * (ratio - 1 - ratio.log())
cost = -elbo_step(distorted, x, t, noise)
verify("eq-step-cost", cost, right, rejects={"only the means": first})

# %% [markdown]
# So the same bound is a weighted sum of squared errors in each of the five languages. Only the weights differ:
#
# $$
# \begin{aligned}
# \omega_\mu & = \frac{1}{2 \sigma_t^2}, & \omega_x & = \frac{c_t^2}{2 \sigma_t^2}, & \omega_\varepsilon & = \frac{\omega_x}{\mathrm{SNR}_t} = \frac{\beta_t^2}{2 \sigma_t^2\, \alpha_t\, (1 - \bar\alpha_t)}, \\
# & & \omega_v & = (1 - \bar\alpha_t)\, \omega_x, & \omega_s & = (1 - \bar\alpha_t)\, \omega_\varepsilon .
# \end{aligned}
# $$ (eq-five-weights)
#
# The cell compares the weights of the companion, each times its own error, with the difference of two costs: that of the distorted guess, and that of the right one. It is the same number five times. The weight of the noise without $\alpha_t$, easily lost, is rejected.

# %% tags=["nbval-check-output"]
right_guess = Ddpm(lambda x_t, t: x, long, (3,), long.beta)
extra = cost + elbo_step(right_guess, x, t, noise)
w = bound_weights(long, long.beta)
by_name = {"mean": e_mu, "x_0": e_x, "noise": e_noise, "v": e_v, "score": e_s}
priced = torch.stack([getattr(w, name)[t] * e for name, e in by_name.items()])
lost = {"alpha lost": extra.expand(5, 6) * long.alpha[t]}
verify("eq-five-weights", priced, extra.expand(5, 6), rejects=lost)
formula = long.beta[t] / (2 * long.alpha[t] * noise_var)
lost = {"alpha lost": formula * long.alpha[t]}
verify("eq-five-weights", w.noise[t], formula, rejects=lost)

# %% [markdown]
# Drawn for $\sigma_t^2 = \tilde\beta_t$, from $t = 2$ on:

# %% mystnb={"image": {"alt": "Four curves over time on logarithmic axes. The weight of the data falls by more than nine powers of ten; that of v falls by six; that of the noise falls by two powers of ten at first and is nearly flat afterwards; that of the score rises by nearly two."}, "figure": {"caption": "What a squared error costs in the bound, for 1000 steps and $\\sigma_t^2 = \\tilde\\beta_t$: the weights of four estimates.", "name": "fig-five-weights"}}
tilde = torch.cat([long.beta[:2], long.posterior_var[2:]])
w = bound_weights(long, tilde)
shown = {"data": w.x_0, "v": w.v, "noise": w.noise, "score": w.score}
plots.curves(
    {name: (torch.arange(2, 1001), weight[2:]) for name, weight in shown.items()},
    x_label="time $t$",
    y_label="weight (nats per squared error)",
    log_x=True,
    log_y=True,
)

# %% [markdown]
# {numref}`fig-five-weights` explains a practical choice. An error of the data costs at $t = 2$ some thousand million times what it costs at the end, and an error of $v$ a million times. The weights of the noise fall by a factor of 120 at first, and after a hundred steps they stay within a factor of about two. (The weight of the mean, $1 / (2 \sigma_t^2)$, is not drawn.) {cite:t}`ho2020` simply leave the weights of the noise out, and train on the plain squared error of the noise. That is no bound any more, and the next chapter asks what it does.
#
# The largest weight over the smallest, from $t = 2$ on and from $t = 101$ on, for both choices of the variance:

# %% tags=["nbval-check-output"]
for variance, reverse_var in {"beta-tilde": tilde, "beta": long.beta}.items():
    print("variances", variance)
    for name in ("x_0", "v", "noise", "score"):
        weight = getattr(bound_weights(long, reverse_var), name)
        whole, late = (part.max() / part.min() for part in (weight[2:], weight[101:]))
        print(f"  {name:6s} from t = 2: {whole:8.3g}   from t = 101: {late:8.3g}")

# %% [markdown]
# The lecture turns the divergence into the weighted error of $x$ in two lines, under a minimum over $\theta$. Four things go without saying there. The variance of $p_\theta$ must be fixed, and the same as that of $q$. Its mean must have the form of $\tilde\mu_t$. A mean over $x_t$ belongs in front. And $t = 1$ is excluded, since $\tilde\beta_1 = 0$. For a *single* $t$ the weight is a constant and does not matter; in the sum over $t$ it does, because all steps share one network.
#
# *Sources: B24.*

# %% [markdown]
# (sec-snr)=
# ## Only the signal-to-noise ratio counts
#
# Take $\sigma_t^2 = \tilde\beta_t$. Then the second part of {eq}`eq-step-cost` is zero, and the weight of the data becomes a difference:
#
# $$
# \omega_x = \frac{c_t^2}{2 \tilde\beta_t} = \frac12 \big( \mathrm{SNR}_{t-1} - \mathrm{SNR}_t \big) .
# $$ (eq-snr-difference)
#
# :::{dropdown} Proof
# $c_t^2 / \tilde\beta_t = \bar\alpha_{t-1} \beta_t / \big( (1 - \bar\alpha_t) (1 - \bar\alpha_{t-1}) \big)$. And $\mathrm{SNR}_{t-1} - \mathrm{SNR}_t$, brought to that denominator, has the numerator $\bar\alpha_{t-1} (1 - \bar\alpha_t) - \bar\alpha_t (1 - \bar\alpha_{t-1}) = \bar\alpha_{t-1} - \bar\alpha_t = \bar\alpha_{t-1} \beta_t$. $\square$
# :::
#
# The cell compares. With the variances $\beta_t$ the weights are others, and are rejected.

# %% tags=["nbval-check-output"]
differences = (long.snr[1:-1] - long.snr[2:]) / 2
other = {"variances beta": bound_weights(long, long.beta).x_0[2:]}
verify("eq-snr-difference", w.x_0[2:], differences, rejects=other)

# %% [markdown]
# So all denoising terms together are
#
# $$
# S_T = \frac12 \sum_{t=2}^{T} (\mathrm{SNR}_{t-1} - \mathrm{SNR}_t)\; \mathbb{E} \lVert x - \hat{x}_\theta(x_t, t) \rVert^2 .
# $$ (def-snr-sum)
#
# This is the area of a row of bars, as wide as the steps of the signal-to-noise ratio $\gamma$, and as high as the error at their noisier end. With more and more steps between two fixed ends it becomes an integral, $\frac12 \int \mathbb{E} \lVert x - \hat{x} \rVert^2\, \mathrm{d}\gamma$.
#
# The schedule has gone! Two schedules with the same ends have the same limit, for the same errors as a function of $\gamma$ {cite:p}`kingma2021`. With the best denoiser the integral has a name. Let $\mathrm{I}(\gamma)$ be the {term}`mutual information` between $x$ and $\sqrt{\gamma}\, x + \varepsilon$. Then {cite:p}`guo2005`
#
# $$
# \mathrm{I}(\gamma_1) - \mathrm{I}(\gamma_0) = \frac12 \int_{\gamma_0}^{\gamma_1} \mathbb{E} \big\lVert x - \mathbb{E}[x \mid \sqrt{\gamma}\, x + \varepsilon] \big\rVert^2\, \mathrm{d}\gamma .
# $$ (eq-immse)
#
# So this is what the best denoiser pays in the limit: the nats that the picture gives away on its way into the noise. The cell checks it for the two humps, from $\gamma = 0.01$ to 100. On the left are entropies of $x_t$, by quadrature. On the right the error of the exact denoiser is integrated over $\log \gamma$, at sixty nodes. The factor one half, which belongs to nats and real numbers, is what may get lost.

# %% tags=["nbval-check-output"]
nodes, node_weights = map(torch.from_numpy, np.polynomial.legendre.leggauss(60))
log_gamma = math.log(100) * nodes  # from log 0.01 to log 100
ends = torch.tensor([math.log(100), -math.log(100)])
log_snr = torch.cat([ends[:1], log_gamma.flip(0), ends[1:]])
fine = Schedule(F.pad(F.logsigmoid(log_snr), (1, 0)))
hat, line = humps_denoiser(fine), torch.linspace(-9, 9, 6001)
errors, entropies = [], []
for t in range(1, fine.num_steps + 1):
    law = humps_at(fine, t)
    density = law.log_prob(line).exp()
    entropies.append(-torch.trapezoid(density * law.log_prob(line), line))
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
# For normal data of variance $\lambda$ the best error is $\lambda / (1 + \gamma \lambda)$, the integral is elementary, and the limit of the sum is
#
# $$
# S_T = \frac12 \sum_{t=2}^{T} (\mathrm{SNR}_{t-1} - \mathrm{SNR}_t)\, \frac{\lambda}{1 + \lambda\, \mathrm{SNR}_t} \;\longrightarrow\; \frac12 \log \frac{1 + \lambda\, \mathrm{SNR}_1}{1 + \lambda\, \mathrm{SNR}_T} .
# $$ (eq-snr-limit)
#
# The error falls with $\gamma$, so each bar rises above the curve: *cutting a step in two always lowers the sum*. How much less? The cell cuts the way from $\gamma = 1000$ to 0.0001 into equal steps of $\log \gamma$, for $\lambda = \frac14$. A sum with only a thousand times is rejected as the limit.


# %% tags=["nbval-check-output"]
def snr_sum(T, lam=0.25):
    snr = torch.logspace(3, -4, T)
    return 0.5 * ((snr[:-1] - snr[1:]) * lam / (1 + lam * snr[1:])).sum()


limit = torch.tensor(0.5 * math.log((1 + 250) / (1 + 0.25e-4)))
rule = exact.within(1e-5)
coarse = {"T = 1000": snr_sum(1000)}
verify("eq-snr-limit", snr_sum(1_000_000), limit, rule, rejects=coarse)
for T in (10, 100, 1000, 10_000):
    excess = snr_sum(T) - limit
    print(f"T = {T:6d}: {excess:9.5f} nats above the limit, times T: {T * excess:6.2f}")

# %% [markdown]
# From a hundred steps on the excess falls like $1/T$. Ten times the steps, a tenth of the excess. (At fixed ends, that is; what happens at the end next to the data is the subject of the next section.)
#
# *Sources: B24.*

# %% [markdown]
# (sec-exact-gap)=
# ## A diffusion model that can be solved
#
# For normal data everything has a closed form, and the exact gap between the bound and the likelihood can be computed. Take one dimension, $x \sim \mathcal{N}(\mu, \lambda)$; more dimensions are handled along the eigenvectors of the covariance. Let $V_t = \bar\alpha_t \lambda + 1 - \bar\alpha_t$ be the variance of $x_t$, with $V_0 = \lambda$. The true step back *is* now normal, of whatever size, and {eq}`eq-true-moments` gives its variance:
#
# $$
# \mathrm{Var}[x_{t-1} \mid x_t] = \beta_t\, \frac{V_{t-1}}{V_t} .
# $$ (eq-optimal-variance)
#
# For $\lambda = 1$ it is $\beta_t$, and for $\lambda = 0$, where the picture is known in advance, $\tilde\beta_t$. {cite:t}`ho2020` name these two as the extreme choices. For $\lambda$ between 0 and 1 the truth lies between them.
#
# The mean has no free choice: with the exact denoiser it is right. So only the variances can be wrong, and each costs its own divergence. With $q(x) = \mathcal{N}(\mu, \lambda)$, and means over the data,
#
# $$
# \begin{aligned}
# \mathbb{E} \log q(x) - \mathbb{E}\, \mathrm{ELBO}(x) = {} & \frac12 \big( V_T - 1 - \log V_T + \bar\alpha_T \mu^2 \big) \\
# & + \sum_{t=1}^{T} \frac12 \big( r_t - 1 - \log r_t \big), \qquad r_t = \frac{\beta_t\, V_{t-1}}{\sigma_t^2\, V_t} .
# \end{aligned}
# $$ (eq-gaussian-gap)
#
# :::{dropdown} Proof
# The gap is the divergence of the joint law of data and latents, under $q$ from under $p$. Split it from the top down {eq}`eq-kl-chain`: that of $q(x_T) = \mathcal{N}(\sqrt{\bar\alpha_T}\, \mu, V_T)$ from $\mathcal{N}(0, 1)$, and that of each true step back from the model's. They have the same mean and the variances $r_t \sigma_t^2$ and $\sigma_t^2$. For {eq}`eq-optimal-variance`, the step is linear regression of $x_{t-1}$ on $x_t = \sqrt{\alpha_t}\, x_{t-1} + \text{noise}$: the variance is $V_{t-1} - \alpha_t V_{t-1}^2 / V_t = V_{t-1} (V_t - \alpha_t V_{t-1}) / V_t$, and $V_t - \alpha_t V_{t-1} = \beta_t$. $\square$
# :::
#
# First the variance, from what is left unknown by the exact denoiser. The companion has this as `optimal_reverse_var`, which takes the mean squared error of the *noise*, and so can be used for pictures too {cite:p}`bao2022`. The two extremes are rejected.

# %% tags=["nbval-check-output"]
from companion.variances import linear_noise_error, optimal_reverse_var

lam, mean = 0.25, 0.7
long = rescaled(100)


def v_of(schedule, lam):
    return schedule.alpha_bar * lam + schedule.noise_var


v = v_of(long, lam)
noise_error = linear_noise_error(long, torch.tensor([lam]))[:, 0]
best = optimal_reverse_var(long, noise_error)[2:]
right = long.beta[2:] * v[1:-1] / v[2:]
wrong = {"beta": long.beta[2:], "beta-tilde": long.posterior_var[2:]}
verify("eq-optimal-variance", best, right, rejects=wrong)

# %% [markdown]
# Then the gap, for three choices of the variances. (The likelihood's variance $\sigma_1^2$ is the optimal one in all of them, so that only $t \ge 2$ is compared.) On the left the bound of the model, by `elbo_step`: it is quadratic in $x$ and in the noise, so two points of each give its mean without any error. Rejected are a gap that counts the prior's term only, and one whose prior's term forgets $\mu$.


# %%
def three_variances(schedule, lam):
    """Optimal, beta, beta-tilde; with the same sigma_1."""
    v = v_of(schedule, lam)
    best = F.pad(schedule.beta[1:] * v[:-1] / v[1:], (1, 0))
    beta = torch.cat([best[:2], schedule.beta[2:]])
    return {
        "optimal": best,
        "beta": beta,
        "beta-tilde": torch.cat([best[:2], schedule.posterior_var[2:]]),
    }


def gap_formula(schedule, lam, reverse_var, mean=0.0):
    v = v_of(schedule, lam)
    r = schedule.beta[1:] * v[:-1] / (v[1:] * reverse_var[1:])
    top = 0.5 * (v[-1] - 1 - v[-1].log() + schedule.alpha_bar[-1] * mean**2)
    return top + 0.5 * (r - 1 - r.log()).sum()


def gap_of_bound(schedule, lam, reverse_var, mean=0.0):
    center, spread = torch.tensor([mean]), torch.tensor([[lam]])
    hat = gaussian_denoiser(schedule, center, spread)
    model = Ddpm(hat, schedule, (1,), reverse_var)
    x = mean + lam**0.5 * torch.tensor([[1.0], [-1.0]])
    bound = torch.stack([exact_terms(model, point[None]).sum() for point in x]).mean()
    bound = bound - kl_divergence(model.posterior(x), model.prior(2)).mean()
    return -Normal(mean, lam**0.5).entropy() - bound


# %% [markdown]
# The schedule of the check has seven steps and an end that keeps a quarter of the data's variance. So no term is so small that nobody would miss it.

# %% tags=["nbval-check-output"]
cases = [(0.25, 0.7), (4.0, -1.0), (1.0, 0.0)]
short = rescaled(20).strided(range(1, 8))  # alpha_bar_7 is 0.27
left, right, top_only, no_mean = [], [], [], []
for lam, mean in cases:
    for reverse_var in three_variances(short, lam).values():
        left.append(gap_of_bound(short, lam, reverse_var, mean))
        right.append(gap_formula(short, lam, reverse_var, mean))
        no_mean.append(gap_formula(short, lam, reverse_var))
        best = three_variances(short, lam)["optimal"]
        top_only.append(gap_formula(short, lam, best, mean))
wrong = {"the top only": torch.stack(top_only), "no mean": torch.stack(no_mean)}
verify("eq-gaussian-gap", torch.stack(left), torch.stack(right), rejects=wrong)

# %% [markdown]
# Now let the number of steps grow. The way from data to noise stays nearly the same, cut finer. (Nats per dimension, $\lambda = \frac14$, $\mu = 0$; here the prior's term is negligible.)

# %% tags=["nbval-check-output"]
counts = [10, 100, 1000, 10_000, 100_000]
gaps = {
    T: [gap_formula(s, 0.25, u).item() for u in three_variances(s, 0.25).values()]
    for T, s in ((T, rescaled(T)) for T in counts)
}
print("     T    optimal       beta  beta-tilde")
for T, (best, beta, tilde) in gaps.items():
    tiny = f"{'< 1e-8':>10s}" if best < 1e-8 else f"{best:10.4g}"
    print(f"{T:6d} {tiny} {beta:10.4g} {tilde:11.4g}")

# %% [markdown]
# The same as a picture, with the two choices that lose something.

# %% mystnb={"image": {"alt": "Two curves over the number of steps on logarithmic axes. The gap for beta falls along a straight line by a factor of ten per decade. The gap for beta-tilde falls at first, and then flattens out at a horizontal line near 0.29."}, "figure": {"caption": "The gap between likelihood and bound for normal data, with the exact denoiser. The horizontal line is half of Euler's constant.", "name": "fig-gap"}}
many = sorted({int(T) for T in np.geomspace(10, 100_000, 25)})
found = [three_variances(rescaled(T), 0.25) for T in many]
lines = {
    name: [gap_formula(rescaled(T), 0.25, u[name]).item() for T, u in zip(many, found, strict=True)]
    for name in ("beta", "beta-tilde")
}
euler = -torch.digamma(torch.ones(())).item()
symbols = {"beta": r"$\beta_t$", "beta-tilde": r"$\tilde\beta_t$"}
both = {rf"$\sigma_t^2 =$ {symbols[k]}": (many, line) for k, line in lines.items()}
limit_line = {r"$\gamma_{\mathrm{E}} / 2$": (many, [euler / 2] * len(many))}
plots.curves(
    both | limit_line,
    x_label="number of steps $T$",
    y_label="gap (nats per dimension)",
    log_x=True,
    log_y=True,
)

# %% [markdown]
# {numref}`fig-gap` has a surprise. With the optimal variances nothing is lost but the prior's term, at *any* number of steps. With $\beta_t$ the loss goes away like $1/T$. With $\tilde\beta_t$ it does not go away. It tends to
#
# $$
# \lim_{T \to \infty} \text{gap} = \frac12 \sum_{n=1}^{\infty} \Big( \frac1n - \log \Big( 1 + \frac1n \Big) \Big) = \frac{\gamma_{\mathrm{E}}}{2} = 0.2886\ldots
# $$ (eq-euler-gap)
#
# nats per dimension, where $\gamma_{\mathrm{E}}$ is Euler's constant. "More steps close the gap" is true for a good variance, and false for this one.
#
# Where is it lost? In the first few steps, next to the data. The first betas of a fine schedule are nearly equal. So there $1 - \bar\alpha_t$ is nearly $t \beta_1$, so that $\tilde\beta_t = \beta_t (t - 1) / t$, while the truth is nearly $\beta_t$. Hence $r_t = t / (t - 1)$, however small all the betas are; with $n = t - 1$ the terms of {eq}`eq-gaussian-gap` are those of the sum. A finer grid has again a second step, and a third. The limit hangs on this start: betas that grow from zero lose more, and with $\mathrm{SNR}_1$ held fixed nothing is lost in the limit {eq}`eq-snr-limit`.
#
# The cell takes a million steps of the linear schedule, and rejects that nothing is left; then the series; and last a schedule whose betas start from zero.

# %% tags=["nbval-check-output"]
finest = rescaled(1_000_000)
tilde = gap_formula(finest, 0.25, three_variances(finest, 0.25)["beta-tilde"])
half = torch.tensor(euler / 2)
rule = exact.within(5e-3)
verify("eq-euler-gap", tilde, half, rule, rejects={"nothing is left": 0 * half})
n = torch.arange(1, 1_000_001.0)
series = 0.5 * (1 / n - torch.log1p(1 / n)).sum()
rule = exact.within(1e-5)
no_half = {"no half": 2 * half}
verify("eq-euler-gap", series, half, rule, rejects=no_half)
growing = Schedule(-10 * torch.linspace(0, 1, 100_001) ** 2)  # beta_t grows like t
more = gap_formula(growing, 0.25, three_variances(growing, 0.25)["beta-tilde"])
print("betas that start from zero lose more than 1 nat:", bool(more > 1))

# %% [markdown]
# The argument needs $\lambda$ to be larger than the noise of the first steps. Where the data hardly vary, it is the other way round: $\tilde\beta_t$ is nearly right, and $\beta_t$ is too large. Both gaps for a thousand steps:

# %% tags=["nbval-check-output"]
for lam in (1.0, 0.01, 0.0001):
    gaps = {
        name: gap_formula(rescaled(1000), lam, u).item()
        for name, u in three_variances(rescaled(1000), lam).items()
    }
    both = "  ".join(f"{name} {gaps[name]:.3f}" for name in ("beta", "beta-tilde"))
    print(f"lambda {lam:<6g}  {both}")

# %% [markdown]
# One lecture says that the limiting law of the trained decoder is that of the data. The divergence of the data from the model is at most the gap. So for normal data and the exact denoiser the lecture is right wherever the gap goes to zero (the prior's term aside): with the optimal variances, and with $\beta_t$ as $T$ grows. For $\tilde\beta_t$ the bound alone cannot tell.
#
# For standard normal data $\beta_t$ is optimal and the prior is exact, so the gap is zero at every $T$: the perfect model of {ref}`the section above <sec-elbo-chain>`. That makes a good test of any diffusion code: with $\lambda = 1$, every path from one $x$ must give the same number, $\log q(x)$.
#
# *Sources: E03.*

# %% [markdown]
# (sec-same-chart)=
# ## The same chart
#
# Back to what this book is about: one bound. The model has now 100 levels, two dimensions, and data that are no normal law: eight humps on a ring. The exact denoiser is known, a mixture of linear ones.

# %%
angle = torch.arange(8) * math.pi / 4
ring = 1.25 * torch.stack([angle.cos(), angle.sin()], 1)
cov = 0.125**2 * torch.eye(2)
data_law = MixtureSameFamily(
    Categorical(torch.ones(8)), MultivariateNormal(ring, cov.expand(8, 2, 2))
)
levels = rescaled(100)
exact_hat = MixtureDenoiser(levels, torch.full((8,), 1 / 8), ring, cov.expand(8, 2, 2))
_ = torch.manual_seed(0)
x = data_law.sample((4000,))
sharp = torch.cat([levels.beta[:1], levels.beta[1:2], levels.posterior_var[2:]])
ring_models = {
    "beta": Ddpm(exact_hat, levels, (2,), levels.beta),
    "beta-tilde": Ddpm(exact_hat, levels, (2,), sharp),
}
ring_terms = {name: elbo_terms(m, x) for name, m in ring_models.items()}

# %% [markdown]
# The density, and the chart of the first model:

# %% mystnb={"image": {"alt": "Left, the density: eight round humps on a ring. Right, a hundred bars: almost nothing at the levels of the right half, rising steeply towards level 1 on the left."}, "figure": {"caption": "Data on a ring, and what each of a hundred levels spends on them: the chart of the VAE and the ladder.", "name": "fig-eight-humps"}}
fig, panels = plots.figure(2, height=3.0)
_ = plots.density2d(data_law.log_prob, (-2, 2, -2, 2), axes=panels[0])
plots.kl_per_level(ring_terms["beta"], axes=panels[1])

# %% [markdown]
# In {numref}`fig-eight-humps` the bar of level $t$ is the step from $t + 1$ down to $t$, and it costs what the data give away there. The top levels are pure noise, and cost nothing. In between, it is decided which of the eight humps it shall be; next to the data, where exactly. The cell says how many humps are still in question at a level (the exponential of the entropy, 8 if all are alike):

# %%
_ = torch.manual_seed(0)
for t in (60, 40, 20, 5):
    signal, var = levels.forward_coefficients(0, t)
    x_t = add_noise(levels, x, t, torch.randn_like(x))
    squares = (x_t[:, None] - signal * ring).square().sum(2)
    hump = Categorical(logits=-squares / (2 * (0.125**2 * signal**2 + var)))
    print(f"level {t:2d}: {hump.entropy().mean().exp():.1f} humps in question")

# %% [markdown]
# Compare the ladder of chapter 8, whose top level had to be kept alive by tricks. Here a level is silent only where the noise has left nothing to say: nothing that is learned decides what it holds.
#
# And the gap? The density of the data is known, so we can say it. The log-weights of whole paths vary little here, as for the perfect model above, so they measure the gap better than the terms do. The third model has the optimal variances, made from the error of the denoiser on the data {cite:p}`bao2022`.

# %%
every = torch.arange(1, 101).repeat_interleave(len(x[:1000]))
data_again, noise = x[:1000].repeat(100, 1), torch.randn(100_000, 2)
x_t = add_noise(levels, data_again, every, noise)
off = noise - noise_from_x_0(levels, x_t, every, exact_hat(x_t, every))
noise_error = F.pad(off.square().mean(1).view(100, 1000).mean(1), (1, 0))
best = optimal_reverse_var(levels, noise_error)
ring_models["optimal"] = Ddpm(exact_hat, levels, (2,), best)

# %% [markdown]
# The mean gap of each model, as bounds that hold with five standard errors to spare, and as numbers.

# %% tags=["nbval-check-output"]
_ = torch.manual_seed(0)
lost = {
    name: data_law.log_prob(x) - sample_log_weights(m, x, 1)[0] for name, m in ring_models.items()
}
mean = {name: gap.mean() for name, gap in lost.items()}
error = {name: gap.std() / len(x) ** 0.5 for name, gap in lost.items()}
sure = {name: (mean[name] - 5 * e, mean[name] + 5 * e) for name, e in error.items()}
print("optimal below 0.25 nats:", bool(sure["optimal"][1] < 0.25))
print("beta below 0.35:", bool(sure["beta"][1] < 0.35))
print("beta-tilde above 1.5:", bool(sure["beta-tilde"][0] > 1.5))

# %%
for name in mean:
    print(f"{name:10s} loses {mean[name]:.3f} +- {error[name]:.3f} nats")

# %% [markdown]
# The order is that of normal data. But here even the optimal variances leave a tenth of a nat, as the true steps are no normal laws with one variance for all $x_t$ {eq}`eq-true-step`. With more steps they come closer to it, as the table in {ref}`the section on the true step <sec-true-reverse>` shows, and less is left.

# %% [markdown]
# So far the denoiser was exact. What if it had to be learned? The next chapter trains one. Its result for this ring is shipped with the companion, a small network that knows nothing of humps. It takes the place of the exact denoiser in the first model, and nothing else changes. The two are compared on the same points, by the log-weights of paths, as above.

# %%
from companion.zoo import pretrained

torch.set_default_dtype(torch.float)
trained = pretrained("ddpm-toy2d")
same = torch.allclose(trained.schedule.log_alpha_bar, levels.log_alpha_bar)
torch.set_default_dtype(torch.double)
points = x.float()
_ = torch.manual_seed(0)
learned = data_law.log_prob(x) - sample_log_weights(trained, points, 1)[0]
more = learned - lost["beta"]
print(f"the learned denoiser loses {learned.mean():.3f} nats, and so", end=" ")
print(f"{more.mean():.3f} +- {more.std() / len(x) ** 0.5:.3f} more than the exact one")

# %% tags=["nbval-check-output"]
print("the same schedule:", same)
print("loses less than 0.1 nats more:", bool(more.mean() < 0.1))

# %% [markdown]
# Three chapters, one function, one chart. The cell computes the bound of the VAE of chapter 6, of the ladder of chapter 8 and of the diffusion with the learned denoiser, by the same call.

# %% mystnb={"image": {"alt": "Three bar charts side by side. Left, one bar for the VAE. In the middle five bars for the ladder, the lowest level the tallest. Right, a hundred narrow bars for the diffusion, falling steeply from level 1."}, "figure": {"caption": "One latent, five, and a hundred: the divergence at each level, from one function. The first two describe digits, the third points on the ring.", "name": "fig-three-models"}}
from companion.data import binarize

torch.set_default_dtype(torch.float)
vae, ladder = pretrained("vae-mnist"), pretrained("hvae-mnist")
pictures = binarize(data.load("mnist", "test").images[:500])
fig, panels = plots.figure(3, height=2.5)
cases = [(vae, pictures), (ladder, pictures), (trained, points)]
for (chain, examples), axes in zip(cases, panels, strict=True):
    _ = plots.kl_per_level(elbo_terms(chain, examples), axes=axes)
torch.set_default_dtype(torch.double)
fig

# %% [markdown]
# From left to right in {numref}`fig-three-models`, the work is spread over more and more levels, each with a smaller share of it. What a level has to do is at last so little that a normal law can do it.

# %% [markdown]
# (sec-one-random-step)=
# ## One random step is enough
#
# `elbo_terms` calls the denoiser a hundred times to get one number. To train, that would be slow, and it is not needed: the bound is a *sum* of terms, each of which needs one $x_t$ only {eq}`eq-three-terms`, and that comes in one stroke {eq}`eq-forward-marginal`. So draw one $t$ at random, and multiply its term by $T$. With $\ell_t(x, \varepsilon)$ for the term of step $t$ at $x_t = \sqrt{\bar\alpha_t}\, x + \sqrt{1 - \bar\alpha_t}\, \varepsilon$,
#
# $$
# \mathrm{ELBO}(x) = \mathbb{E}_{t, \varepsilon} \big[ T\, \ell_t(x, \varepsilon) \big] - D_{\mathrm{KL}}\big( q(x_T \mid x) \,\Vert\, p(x_T) \big), \qquad t \text{ uniform on } 1, \dots, T .
# $$ (eq-single-step)
#
# A stochastic gradient needs no more than an unbiased estimate, and the batch does the averaging. This is the function. It can draw the times with any probabilities $p_t$, and then divides the term by $p_t$. Without `time_weights` all are $1/T$, and it is {eq}`eq-single-step`:

# %% tags=["nbval-check-output"]
show(single_step_elbo, docstring=False)

# %% [markdown]
# It is checked on the chain of four steps with the wrong denoiser, whose bound we know exactly. A forgotten $T$ is rejected, and so is a forgotten prior.

# %% tags=["nbval-check-output"]
_ = torch.manual_seed(0)
single = single_step_elbo(model, torch.full((400_000, 1), x_value))
terms = exact_terms(model, torch.tensor([[x_value]]))
bound = terms.sum() - prior_matching
no_factor = {"without T": terms.mean() - prior_matching, "without prior": terms.sum()}
verify("eq-single-step", single, bound, monte_carlo, rejects=no_factor)

# %% [markdown]
# On the ring there is no closed form, so the two estimates are compared with each other, on the same data.

# %% tags=["nbval-check-output"]
_ = torch.manual_seed(1)
ring_model, whole = ring_models["beta"], ring_terms["beta"].elbo
single = single_step_elbo(ring_model, x)
difference = single - whole
error = difference.std() / len(x) ** 0.5
print("same mean, within 5 standard errors:", bool(difference.mean().abs() < 5 * error))
print("one random step varies more:", bool(single.std() > 2 * whole.std()))

# %% [markdown]
# What does the one random step cost in precision? Its spread has two sources: the path, as before, and the choice of $t$. The second is large where the terms differ much from each other.

# %%
print(f"standard deviation, whole chain: {whole.std():6.2f} nats, 100 calls")
print(f"standard deviation, one step:    {single.std():6.2f} nats, 1 call")
ratio = (single.var() / whole.var()).item()
print(f"one-step estimates needed for the same precision: {ratio:.0f}")

# %% [markdown]
# Per call of the denoiser, then, the whole chain is the better estimate of the *bound*. But training needs its *gradient*. Move all estimates of the noise by a number $a$. For given draws the estimate of the bound is quadratic in $a$, so a difference gives its slope at $a = 0$ without any error.


# %%
from companion.schedule import x_0_from_noise


def moved(a):
    """The model of the ring, with all estimates of the noise moved by a."""

    def hat(x_t, t):
        noise_hat = noise_from_x_0(levels, x_t, t, exact_hat(x_t, t)) + a
        return x_0_from_noise(levels, x_t, t, noise_hat)

    return Ddpm(hat, levels, (2,), levels.beta)


def slope(estimate):
    """Derivative in a of an estimate of the bound, at a = 0, for each x."""
    values = []
    for a in (0.5, -0.5):
        _ = torch.manual_seed(0)  # both with the same draws
        values.append(estimate(moved(a)))
    return values[0] - values[1]


# %% [markdown]
# A hundred calls can go to the hundred steps of one $x$, or to one step of each of a hundred. Compare the variances of the two slopes:

# %% tags=["nbval-check-output"]
one_x = slope(lambda m: elbo_terms(m, x).elbo).var()
hundred_x = slope(lambda m: single_step_elbo(m, x)).var() / 100
print("100 x with one step each, a smaller variance:", bool(hundred_x < one_x / 2))

# %% [markdown]
# So for training, one step of each of many $x$ is the better use of the calls. To *report* a bound, use all steps.

# %% [markdown]
# (sec-diffusion-exercises)=
# ## Exercises
#
# Replace the three dots by your answer and run the cell.

# %% tags=["nbval-check-output"]
from companion.page.exercises import diffusion_elbo as exercises

# %% [markdown]
# ```{exercise-start} How many steps
# :label: ex-how-many-steps
# ```
# All betas are 0.02. After how many steps is less than one percent of the picture's variance left?

# %% tags=["nbval-check-output"]
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
# `kept_s` and `kept_t` are $\bar\alpha_s$ and $\bar\alpha_t$, with $s < t$. For a given picture $x$, what is the covariance of $x_s$ and $x_t$ (in one dimension)?


# %% tags=["nbval-check-output"]
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
# By {eq}`eq-two-times` $x_t$ is $\sqrt{\bar\alpha_t / \bar\alpha_s}\, x_s$ and new noise, which has nothing to do with $x_s$. So the covariance is this factor times the variance of $x_s$.


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
# A network estimates $v = \sqrt{\bar\alpha_t}\, \varepsilon - \sqrt{1 - \bar\alpha_t}\, x$. Write the noise it means, from $x_t$, $v$ and `kept`, which is $\bar\alpha_t$.


# %% tags=["nbval-check-output"]
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
# $(x, \varepsilon)$ is turned into $(x_t, v)$ by a rotation of the plane. To turn back, transpose it.


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
# For one example with `D` numbers, the squared error of the estimated picture is `error`. Write the divergence of step $t$, if $\sigma_t^2 = \tilde\beta_t$ and `before` and `now` are $\bar\alpha_{t-1}$ and $\bar\alpha_t$.


# %% tags=["nbval-check-output"]
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
# A diffusion with $T = 1$ and $\bar\alpha_1 = a$ is a VAE. The data are $\mathcal{N}(0, \lambda)$, and the decoder is the exact one. How large is the gap between likelihood and bound, on average over the data?


# %% tags=["nbval-check-output"]
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
# In {eq}`eq-gaussian-gap` only the top remains, with $V_1 = a \lambda + 1 - a$. It is nothing for $\lambda = 1$: a VAE whose encoder learns nothing can be exact, if the data are noise.


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
# `terms` holds the terms $\ell_1, \dots, \ell_T$ of one $x$, as if they did not vary, and `p` the probabilities with which a time is drawn. By what must $\ell_t$ be divided so that the estimate of their sum stays unbiased? Give the variance of the resulting estimate.


# %% tags=["nbval-check-output"]
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
# - A diffusion model is a hierarchical VAE with latents of the data's size, a fixed encoder, and noise at the top. `elbo_terms` and its chart did not change.
# - Any $x_t$ is reached in one stroke {eq}`eq-forward-marginal`. The end is noise if and only if the betas have an infinite sum; for a finite chain, {eq}`eq-prior-matching` is the price.
# - The bound has three kinds of terms {eq}`eq-three-terms`: reconstruction, prior matching, and a denoising term for each step. All lines of its derivation but the last two hold for every single path.
# - If the picture is known, the way back is normal {eq}`eq-denoising-posterior`. If not, it is a mixture {eq}`eq-true-step`, in general not normal, but nearly so for small steps.
# - The same loss can be written for the mean, the data, the noise, $v$ or the score, with the weights {eq}`eq-five-weights`. For $\sigma_t^2 = \tilde\beta_t$ the weight of the data is half a difference of signal-to-noise ratios, and in the limit the schedule drops out {eq}`eq-immse`.
# - For normal data and the exact denoiser only the variances can be wrong. The optimal ones close the gap at any $T$, $\beta_t$ leaves a part that falls like $1/T$, and on the linear schedule $\tilde\beta_t$ leaves 0.2886 nats per dimension in the limit {eq}`eq-euler-gap`.
# - One random step estimates the bound without bias {eq}`eq-single-step`. Use it to train, and all steps to report.
#
# **What the sources say, and where they need care.** The slides derive the bound correctly; one line has an index $\theta$ too many (E13), and in the derivation of the posterior $=$ and $\propto$ trade places (E12). What becomes Gaussian for small steps is the true step, and not the model's (E14). A set of notes says *intractable* where *tractable* is meant (E15). A step is centered around $\sqrt{\alpha_t}\, x_{t-1}$; the limit is noise only if the betas have an infinite sum; and the weighted loss needs the variance of $q$, a mean of the form of $\tilde\mu_t$, an average over $x_t$, and $t \ge 2$.
#
# **To read next.** {cite:t}`sohldickstein2015`, who had the idea and the bound; {cite:t}`ho2020`, who made it work; {cite:t}`kingma2021` on signal-to-noise ratios and the continuous limit; {cite:t}`bao2022` on the optimal variance.
