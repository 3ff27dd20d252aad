# %% [markdown]
# # Sampling, and the score
#
# The network of the last chapter can do one thing: shown a digit in noise, it says what the digit may have been. How does one get from there to a digit that nobody wrote? Below, the same network starts four times from the same eight clouds of noise. What differs is what we do with its answers.

# %% tags=["setup", "hide-input"]
# The set-up cell: tools/notebooks.py writes it.

# %%
from functools import partial

import torch
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from companion import data
from companion.data import to_symmetric, to_unit
from companion.denoisers import MixtureDenoiser, gaussian_denoiser
from companion.page import plots
from companion.page.show import show
from companion.page.verify import exact, monte_carlo, verify
from companion.samplers import ddim_posterior, ddim_sample, ddpm_sample
from companion.schedule import add_noise, linear_schedule, noise_from_x_0
from companion.zoo import pretrained
from companion.zoo.weights import load_record, read_card

_ = torch.manual_seed(0)
test = data.load("mnist", "test")
model = pretrained("ddpm-mnist")
schedule = linear_schedule(1000)  # in double precision


# %% [markdown]
# The first row is the network's estimate $\hat{x}$ at once, from the noise alone. The other rows come down from $t = 1000$ in steps: in fifty without any noise on the way, in fifty with fresh noise after each, and in twenty of another kind, again without noise.

# %% mystnb={"image": {"alt": "Four rows of eight pictures. First row: eight times the same gray cloud. Second row: eight times nearly the same thin digit. Third row: eight different digits. Fourth row: eight different digits."}, "figure": {"caption": "One network, the same eight starts, four ways down.", "name": "fig-four-ways"}}
denoiser, clouds = model.denoiser, torch.randn(24, 1, 28, 28)
start = clouds[:8]
fresh_50 = list(ddpm_sample(denoiser, schedule.evenly(50), clouds))
carried_20 = list(ddim_sample(denoiser, schedule.evenly(20), clouds))
noiseless_50 = list(ddpm_sample(denoiser, schedule.evenly(50), start, torch.zeros(51)))
with torch.no_grad():
    at_once = denoiser(start, torch.full((8,), 1000))
ways = {
    "at once": at_once,
    "no noise": noiseless_50[-1],
    "fresh noise": fresh_50[-1][:8],
    "20 steps": carried_20[-1][:8],
}
plots.image_rows({name: to_unit(x) for name, x in ways.items()})

# %% [markdown]
# In {numref}`fig-four-ways` the first row is a blur, and that is right: who sees nothing but noise should answer with the mean. The third row is what a diffusion model is famous for. But why is the second row eight times one picture? And what does the fourth row do that the second does not? If the data are normal, the answers fit into one multiplication {eq}`eq-noiseless`.

# %% tags=["nbval-check-output", "mnist"]
spread = {name: x.var(0).sum().sqrt() for name, x in ways.items()}
alike = spread["no noise"] < 0.3 * spread["fresh noise"]
print("without noise, the eight are alike:", bool(alike))
print("at once, too:", bool(spread["at once"] < 0.3 * spread["fresh noise"]))
halfway, noisy = (x[25][:8].var(0).sum().sqrt() for x in (noiseless_50, fresh_50))
print("halfway without noise, they are nearly one point:", bool(halfway < 0.1 * noisy))
different = spread["20 steps"] > 0.6 * spread["fresh noise"]
print("in twenty steps of the other kind, they are not:", bool(different))

# %% [markdown]
# (sec-algorithm-2)=
# ## Algorithm 2
#
# The steps down of the model are known since {eq}`def-reverse-step`: put the guess $\hat{x}$ where the posterior {eq}`eq-denoising-posterior` wants the picture, and draw. {cite:t}`ho2020` write it with the noise in place of the picture.
#
# :::{prf:algorithm} Sampling
# :label: alg-ddpm-sampling
# 1. Draw $x_T \sim \mathcal{N}(0, I)$.
# 2. For $t = T, T - 1, \dots, 1$:
# 3. draw $\xi \sim \mathcal{N}(0, I)$ if $t > 1$, else set $\xi = 0$;
# 4. set $x_{t-1} = \frac{1}{\sqrt{\alpha_t}} \Big( x_t - \frac{1 - \alpha_t}{\sqrt{1 - \bar\alpha_t}}\, \varepsilon_\theta(x_t, t) \Big) + \sigma_t\, \xi$.
# 5. Return $x_0$.
# :::
#
# Line 4 is the step {eq}`def-reverse-step`, because the two ways to write its mean agree. With $\hat{x} = (x_t - \sqrt{1 - \bar\alpha_t}\, \varepsilon_\theta) / \sqrt{\bar\alpha_t}$,
#
# $$
# \tilde\mu_t(x_t, \hat{x}) = \frac{1}{\sqrt{\alpha_t}} \Big( x_t - \frac{\beta_t}{\sqrt{1 - \bar\alpha_t}}\, \varepsilon_\theta \Big) .
# $$ (eq-line-four)
#
# :::{dropdown} Proof
# Insert $\hat{x}$ in {eq}`eq-denoising-posterior`. The factor of $\varepsilon_\theta$ is $- \sqrt{\bar\alpha_{t-1}}\, \beta_t / \big( (1 - \bar\alpha_t) \sqrt{\bar\alpha_t} \big) \cdot \sqrt{1 - \bar\alpha_t} = - \beta_t / \big( \sqrt{\alpha_t} \sqrt{1 - \bar\alpha_t} \big)$. That of $x_t$ is
#
# $$
# \frac{\sqrt{\bar\alpha_{t-1}}\, \beta_t}{(1 - \bar\alpha_t) \sqrt{\bar\alpha_t}} + \frac{\sqrt{\alpha_t}\, (1 - \bar\alpha_{t-1})}{1 - \bar\alpha_t} = \frac{\beta_t + \alpha_t - \bar\alpha_t}{(1 - \bar\alpha_t) \sqrt{\alpha_t}} = \frac{1}{\sqrt{\alpha_t}} .
# $$ (def-line-four-proof)
#
# $\square$
# :::
#
# The cell compares the two means at all thousand times. It rejects the fraction without its root, and the line without the division by $\sqrt{\alpha_t}$.

# %% tags=["nbval-check-output"]
from companion.schedule import mean_from_x_0, x_0_from_noise

_ = torch.manual_seed(0)
t = schedule.steps
x_t, noise_hat = torch.randn(2, 1000, 1).double()
x_hat = x_0_from_noise(schedule, x_t, t, noise_hat)
left = mean_from_x_0(schedule, x_t, t, x_hat)
alpha, beta = schedule.alpha[1:, None], schedule.beta[1:, None]
noise_var = schedule.noise_var[1:, None]
inner = x_t - beta / noise_var**0.5 * noise_hat
no_root = (x_t - beta / noise_var * noise_hat) / alpha**0.5
wrong = {"no root": no_root, "no division": inner}
right = inner / alpha**0.5
verify("eq-line-four", left, right, exact.within(1e-8), rejects=wrong)

# %% [markdown]
# Now the algorithm as it stands, five lines of code, beside the companion's `ddpm_sample`. The network is that of the points in the plane, with its hundred steps; both get the same random numbers.

# %% tags=["nbval-check-output"]
toy = pretrained("ddpm-toy2d")
s = toy.schedule


def algorithm_2(network, x, sigma, times=range(100, 0, -1)):
    for t in times:
        xi = torch.randn_like(x) if t > times[-1] else 0
        mixed = s.beta[t] / s.noise_var[t] ** 0.5 * network(x, torch.full((len(x),), t))
        x = (x - mixed) / s.alpha[t] ** 0.5 + sigma[t] * xi
    return x


x_T = torch.randn(500, 2)
_ = torch.manual_seed(1)
by_hand = algorithm_2(toy.denoiser.network, x_T, s.posterior_var**0.5)
_ = torch.manual_seed(1)
*_, by_companion = ddpm_sample(toy.denoiser, s, x_T)
print("the same points:", torch.allclose(by_hand.float(), by_companion, atol=1e-3))

# %% [markdown]
# The companion's samplers are generators. They yield $x_T, \dots, x_0$, so the last one is the sample and the others are the film. All it takes is this:

# %% tags=["nbval-check-output"]
from companion.samplers import reverse_sample

show(reverse_sample, docstring=False)

# %% [markdown]
# **Which $\sigma_t$?** The slides use it in line 4 and do not say what it is. There are three candidates, and {ref}`chapter 9 <sec-exact-gap>` has compared their bounds. If all is known of the picture, the variance of the step is $\tilde\beta_t$. If the data are standard normal, it is $\beta_t$. For normal data with a variance between 0 and 1 the best one lies between them {eq}`eq-optimal-variance`; for other data it must be learned. In a chain of a thousand small steps the first two differ by little, except next to the data:

# %% tags=["nbval-check-output"]
for t in (2, 3, 10, 100, 1000):
    ratio = (schedule.posterior_var[t] / schedule.beta[t]).sqrt()
    print(f"t = {t:4}: sqrt(beta-tilde) is {ratio:.4f} of sqrt(beta)")

# %% [markdown]
# If steps are skipped, they differ by more, and over a longer stretch. What the choice does to the samples then, we compute {ref}`below <sec-variance-recursion>`.
#
# *Sources: B27.*

# %% [markdown]
# (sec-why-noise)=
# ## Why noise must be injected
#
# Line 4 takes noise away and then adds some. That looks wasteful. One set of notes tells of the obvious attempt without it: denoise, and denoise the result, and go on. It says that the samples get very blurry, since each denoiser errs a little and the errors accumulate. Let us give the idea its best chance and take a denoiser that makes *no* errors.
#
# Let the data be normal, $x \sim \mathcal{N}(0, \lambda)$, and write $V_t = \bar\alpha_t \lambda + 1 - \bar\alpha_t$ for the variance of $x_t$. The exact denoiser is linear, $\mathbb{E}[x \mid x_t] = \sqrt{\bar\alpha_t}\, \lambda\, x_t / V_t$. The mean of the step down is linear as well, and so is any number of them without noise:
#
# $$
# \mathbb{E}[x_{t-1} \mid x_t] = \sqrt{\alpha_t}\, \frac{V_{t-1}}{V_t}\; x_t , \qquad \text{all } T \text{ steps:} \quad x_0 = \frac{\sqrt{\bar\alpha_T}\, \lambda}{V_T}\; x_T = \mathbb{E}[x \mid x_T] .
# $$ (eq-noiseless)
#
# :::{dropdown} Proof
# $\mathbb{E}[x_{t-1} \mid x_t]$ is linear with the slope $\mathrm{Cov}(x_{t-1}, x_t) / V_t = \sqrt{\alpha_t}\, V_{t-1} / V_t$. In the product over $t$ all $V_t$ but the first and the last cancel, and $V_0 = \lambda$. $\square$
# :::
#
# A thousand perfect steps end where a single one would have led: at the best guess from pure noise, which is hardly more than the mean of the data. For $\lambda = 1$ the variance of the samples is $\bar\alpha_T$ instead of 1. Nothing has accumulated; each step did the right thing, and means of means are means.
#
# The cell follows `ddpm_sample` without noise, for three variances of the data. Rejected is what one would like to have, samples that are as wide as the data.


# %% tags=["nbval-check-output"]
def normal_data(lam):
    """The exact denoiser of N(0, lam), or of one such law in each dimension."""
    lam = torch.atleast_1d(torch.as_tensor(lam).double())
    return gaussian_denoiser(schedule, torch.zeros(len(lam)).double(), torch.diag(lam))


lam = torch.tensor([0.0025, 0.25, 1.0]).double()
kept = schedule.alpha_bar[-1]
V_T = kept * lam + 1 - kept
x_T = torch.randn(5, 3).double()
*_, x_0 = ddpm_sample(normal_data(lam), schedule, x_T, torch.zeros(1001))
wrong = {"as wide as the data": lam**0.5 * x_T}
verify("eq-noiseless", x_0, kept**0.5 * lam / V_T * x_T, rejects=wrong)
at_once = normal_data(lam)(x_T, torch.full((5,), 1000))
print("a thousand steps end where one does:", torch.allclose(x_0, at_once))
print(f"variance 1 of the data has become {kept:.1e}")

# %% [markdown]
# With noise, $\sigma_t^2$ of the best kind puts back in each step what the mean has lost, and the variance stays right from time to time (this is {eq}`eq-true-moments`, read as a recursion), down to $t = 1$; the last step of the algorithm leaves its noise out. So the noise is no blemish of the sampler. It stands for all that the network cannot know.
#
# Digits are not normal, and there the chain without noise does not end at the mean: the second row of {numref}`fig-four-ways` is no blur. It has chosen. But it chooses the same each time, since at first each step pulls all clouds to the one mean of all digits, and what comes later starts from nearly one point, as the cell below that figure says. The humps in the plane show the in-between, with their exact denoiser and a hundred steps:

# %% mystnb={"image": {"alt": "Two panels. Left, without noise: eight thin arcs on a ring that is too small. Right, with noise: eight round clouds on a ring."}, "figure": {"caption": "Two thousand points sampled with the exact denoiser, from the same starts.", "name": "fig-noise-or-not"}}
ring = data.toy_density("mixture")
shapes = ring.component_distribution
halved = shapes.mean / 2, torch.diag_embed(shapes.variance) / 4  # as it was trained
exact_hat = MixtureDenoiser(s, ring.mixture_distribution.probs, *halved)
x_T = torch.randn(2000, 2)
*_, stuck = ddpm_sample(exact_hat, s, x_T, torch.zeros(101))
*_, drawn = ddpm_sample(exact_hat, s, x_T)
fig, panels = plots.figure(2, height=3.4)
box = (-2, 2, -2, 2)
for panel, points, name in zip(panels, (stuck, drawn), ("no", "fresh"), strict=True):
    _ = plots.scatter(
        points, x_label=f"$x_1$, {name} noise", y_label="$x_2$", bounds=box, axes=panel
    )
fig

# %% [markdown]
# In {numref}`fig-noise-or-not` the choice of a hump survives, thanks to the symmetry of the ring: the mean of all data lies in the middle, and whoever starts on the left of it stays there. But the humps have been pulled towards that mean, and along the radius nearly nothing is left of their width.

# %% tags=["nbval-check-output"]
radius = {"no noise": stuck.norm(dim=1), "fresh noise": drawn.norm(dim=1)}
print("humps of the data at radius 1.25")
print("with noise, at 1.2 to 1.3:", bool(1.2 < radius["fresh noise"].mean() < 1.3))
print("without, below 1.15:", bool(radius["no noise"].mean() < 1.15))
narrower = radius["no noise"].std() < 0.4 * radius["fresh noise"].std()
print("and less than half as wide along the radius:", bool(narrower))

# %% [markdown]
# *Sources: C02.*

# %% [markdown]
# (sec-ddim)=
# ## Another way down: carry the noise along
#
# The training never looked at the steps. Its loss {eq}`def-simple-loss` contains $q(x_t \mid x)$ for single $t$, and that is all. So the same network serves *every* inference model with the same $q(x_t \mid x)$, and there are many {cite:p}`song2021ddim`. Pick numbers $0 \le s_t^2 \le 1 - \bar\alpha_{t-1}$ and let
#
# $$
# q_s(x_{t-1} \mid x_t, x) = \mathcal{N}\Big( \sqrt{\bar\alpha_{t-1}}\; x + \sqrt{1 - \bar\alpha_{t-1} - s_t^2}\;\; \frac{x_t - \sqrt{\bar\alpha_t}\, x}{\sqrt{1 - \bar\alpha_t}} ,\; s_t^2\, I \Big) .
# $$ (def-ddim-posterior)
#
# The fraction is the noise in $x_t$. The step puts the picture into $x_{t-1}$ as it should be there, takes part of the noise along, and renews the rest.
#
# :::{prf:theorem} One family, the same marginals
# :label: thm-ddim
# Let $x_T \sim q(x_T \mid x)$, and let the steps {eq}`def-ddim-posterior` lead down. Then for every choice of the $s_t$, and all $t$,
#
# $$
# x_t \mid x \;\sim\; \mathcal{N}\big( \sqrt{\bar\alpha_t}\, x,\; (1 - \bar\alpha_t)\, I \big) .
# $$ (eq-ddim-marginals)
# :::
#
# :::{dropdown} Proof
# Down by induction. If it holds at $t$, the fraction in {eq}`def-ddim-posterior` is $\mathcal{N}(0, I)$ given $x$. So $x_{t-1}$ has the mean $\sqrt{\bar\alpha_{t-1}}\, x$, and the variance is $(1 - \bar\alpha_{t-1} - s_t^2) + s_t^2$. $\square$
# :::
#
# The usual parameter is $s_t^2 = \eta^2\, \tilde\beta_t$. With $\eta = 1$ this is the posterior of the DDPM. With $\eta = 0$ no step is random; the sampler is then called {term}`DDIM`. Nothing in the proof asks the times to be neighbors. So any sub-sequence of the times may be taken, with $\bar\alpha$ of the chosen times. This is what `schedule.strided(times)` makes, and `schedule.evenly(20)` for twenty times that are evenly spread: a schedule of its own, which remembers what the network has to be told.
#
# The cell starts 50,000 chains from one $x$ and takes four large steps down, for three $\eta$. It compares mean and variance at the lowest of the times. Rejected, where there is fresh noise, is to add it on top of the old.

# %% tags=["nbval-check-output"]
_ = torch.manual_seed(0)
five = schedule.strided([100, 250, 400, 600, 1000])
x = torch.tensor(1.5).double()
right = torch.stack([five.alpha_bar[1] ** 0.5 * x, five.noise_var[1]])
for eta in (0.0, 0.5, 1.0):
    q = ddim_posterior(five, eta)
    x_t = five.alpha_bar[-1] ** 0.5 * x
    x_t = x_t + five.noise_var[-1] ** 0.5 * torch.randn(50_000).double()
    for t in range(5, 1, -1):
        fresh = q.var[t] ** 0.5 * torch.randn(50_000).double()
        x_t = q.of_x_0[t] * x + q.of_x_t[t] * x_t + fresh
    wrong = {"on top": right + torch.stack([0 * x, q.var[2]])} if eta else {}
    left = torch.stack([x_t, (x_t - right[0]) ** 2], 1)
    verify("eq-ddim-marginals", left, right, monte_carlo, rejects=wrong)

# %% [markdown]
# To sample, put $\hat{x}$ where $x$ is. With $\hat\varepsilon = (x_t - \sqrt{\bar\alpha_t}\, \hat{x}) / \sqrt{1 - \bar\alpha_t}$, the noise which the network believes to see, a step of DDIM mixes the same two ingredients anew:
#
# $$
# x_{t-1} = \sqrt{\bar\alpha_{t-1}}\; \hat{x} + \sqrt{1 - \bar\alpha_{t-1}}\; \hat\varepsilon .
# $$ (eq-ddim-step)
#
# Compare it with line 4 without noise: that one mixes too little $\hat\varepsilon$, because fresh noise was to come. Apart from the number of steps, this is all the difference between the second row of {numref}`fig-four-ways` and the fourth. In the cell the film of `ddim_sample` has to follow {eq}`eq-ddim-step`; the mean of the DDPM is rejected.

# %% tags=["nbval-check-output"]
_ = torch.manual_seed(0)
film = list(ddim_sample(exact_hat, s, torch.randn(20, 2).double()))
t = torch.full((20,), 60)
before, after = film[100 - 60], film[100 - 59]
x_hat = exact_hat(before, t)
noise_hat = noise_from_x_0(s, before, t, x_hat)
mixed = s.alpha_bar[59] ** 0.5 * x_hat + s.noise_var[59] ** 0.5 * noise_hat
wrong = {"mean of the DDPM": mean_from_x_0(s, before, t, x_hat)}
verify("eq-ddim-step", after, mixed, exact.within(1e-8), rejects=wrong)

# %% [markdown]
# (sec-variance-recursion)=
# ## What few steps lose
#
# For normal data everything can be computed. All steps are linear, $x_{t-1} = a_t\, x_t + s_t\, \xi$, with the slope $a_t$ that {eq}`def-ddim-posterior` and the linear denoiser give. So the samples are normal, and their variance $W_t$ follows from $W_T = 1$ by
#
# $$
# W_{t-1} = a_t^2\; W_t + s_t^2 .
# $$ (eq-variance-recursion)
#
# The last step adds no noise, $s_1 = 0$. (The wide variance is no member of the family {eq}`def-ddim-posterior`: it has the slope of $\eta = 1$, and $s_t^2 = \beta_t$.) The aim is $W_0 = \lambda$. The recursion costs nothing, for any sampler and any number $S$ of steps.


# %%
def samplers(sub):
    """The laws of the steps of four samplers on a schedule, by name."""
    ddpm = ddim_posterior(sub, 1.0)
    return {
        "DDIM": ddim_posterior(sub, 0.0),
        "eta 0.5": ddim_posterior(sub, 0.5),
        "beta-tilde": ddpm,
        "beta": ddpm._replace(var=sub.beta),
    }


def final_variance(sub, q, lam):
    """Variance of the samples, for normal data of variance lam and their denoiser."""
    kept, W = sub.alpha_bar, torch.ones_like(lam)
    for t in range(sub.num_steps, 0, -1):
        of_x_t = kept[t] ** 0.5 * lam / (kept[t] * lam + 1 - kept[t])  # x_hat / x_t
        W = (q.of_x_0[t] * of_x_t + q.of_x_t[t]) ** 2 * W + (q.var[t] if t > 1 else 0)
    return W


# %% [markdown]
# Against it, the samplers at work: 40,000 samples each, in twenty steps, for $\lambda = 0.25$. Rejected is the variance of the data, which twenty steps do not reach.

# %% tags=["nbval-check-output"]
_ = torch.manual_seed(0)
lam, sub = torch.tensor(0.25).double(), schedule.evenly(20)
x_T, hat = torch.randn(40_000, 1).double(), normal_data(0.25)
for name, q in samplers(sub).items():
    *_, x_0 = reverse_sample(hat, sub, x_T, q)
    W = final_variance(sub, q, lam)
    print(f"{name:10} variance {W:.4f}")
    wrong = {"that of the data": lam}
    verify("eq-variance-recursion", x_0[:, 0] ** 2, W, monte_carlo, rejects=wrong)

# %% [markdown]
# DDIM and the narrow variance lose, the wide one gains. How much, depends on the number of steps and on the data. Here is fine detail, $\lambda = 0.0025$, a standard deviation of a twentieth. The table is that of $W_0$.

# %% tags=["nbval-check-output"]
fine, lengths = torch.tensor(0.0025).double(), (10, 20, 50, 100, 1000)
subs = [schedule.evenly(S) for S in lengths]
table = {
    name: [final_variance(sub, samplers(sub)[name], fine).item() for sub in subs]
    for name in samplers(schedule)
}
table["optimal"] = []
for sub in subs:
    V = sub.alpha_bar * fine + sub.noise_var
    best = torch.cat([V[:1] * 0, sub.beta[1:] * V[:-1] / V[1:]])
    q = ddim_posterior(sub, 1.0)._replace(var=best)
    table["optimal"] += [final_variance(sub, q, fine).item()]
print("steps      " + "".join(f"{S:9}" for S in lengths))
for name, row in table.items():
    print(f"{name:10} " + "".join(f"{W:9.5f}" for W in row))
print(f"wanted     {fine:9.5f}")

# %% [markdown]
# In ten steps the wide variance leaves noise behind that has more than forty times the variance of the detail itself; with all steps it is the best of the four. The row below them has the optimal variances {eq}`eq-optimal-variance`, $\beta_t V_{t-1} / V_t$ with the betas of the large steps. It is the same at any number of steps, and what it lacks is the noise that the last step leaves out. Nobody knows this variance before the data are known; a network can learn it {cite:p}`nichol2021`. Somebody has measured the same samplers on photographs. {cite:t}`song2021ddim` report these Fréchet distances (FID, lower is better) on CIFAR-10:
#
# | steps | 10 | 20 | 50 | 100 | 1000 |
# |---|---|---|---|---|---|
# | DDIM, $\eta = 0$ | 13.36 | 6.84 | 4.67 | 4.16 | 4.04 |
# | $\eta = 0.5$ | 16.66 | 8.35 | 5.25 | 4.46 | 4.29 |
# | $\eta = 1$, variance $\tilde\beta$ | 41.07 | 18.36 | 8.01 | 5.78 | 4.73 |
# | variance $\beta$ | 367.43 | 133.37 | 32.72 | 9.99 | 3.17 |
#
# What can be compared? Not the numbers: one is a variance of a normal law with an exact denoiser, the other a distance of features of photographs with a learned one. But the *order* of the rows, in each column. The cell ranks our table by the error of the variance, $| W_0 - \lambda |$, and theirs as it is, pair by pair. To see what hangs on the measure, it ranks a second time by the Fréchet distance of the two normal laws, $(\sqrt{W_0} - \sqrt{\lambda})^2$, which is their measure in one dimension.

# %% tags=["nbval-check-output"]
from itertools import combinations

published = {
    "DDIM": [13.36, 6.84, 4.67, 4.16, 4.04],
    "eta 0.5": [16.66, 8.35, 5.25, 4.46, 4.29],
    "beta-tilde": [41.07, 18.36, 8.01, 5.78, 4.73],
    "beta": [367.43, 133.37, 32.72, 9.99, 3.17],
}
measures = {
    "error of the variance": lambda W: abs(W - 0.0025),
    "Frechet distance": lambda W: (W**0.5 - 0.05) ** 2,
}
for measure, error in measures.items():
    same = {S: 0 for S in lengths}
    for a, b in combinations(published, 2):
        for k, S in enumerate(lengths):
            ours = error(table[a][k]) < error(table[b][k])
            same[S] += ours == (published[a][k] < published[b][k])
    print(f"{measure}: pairs in the same order, of 6:", list(same.values()))

# %% [markdown]
# By the error of the variance all pairs have the published order, for this $\lambda$. By the other measure one pair at 100 steps does not. And with another $\lambda$ the order can change, as the next figure shows: it has the ratio $W_0 / \lambda$ for twenty steps. So the agreement says that the effect is there and large, and not that it is all there is.

# %% mystnb={"image": {"alt": "Four curves over the variance of the data on logarithmic axes. For large variances all are near one or a little below. Towards small variances three curves fall below one, that of the narrow variance lowest, and the one of the wide variance rises far above one."}, "figure": {"caption": "Variance of the samples over that of the data, by the latter; twenty steps.", "name": "fig-few-steps"}}
lams, sub = torch.logspace(-4, 1, 60).double(), schedule.evenly(20)
ratios = {name: (lams, final_variance(sub, q, lams) / lams) for name, q in samplers(sub).items()}
plots.curves(
    ratios, x_label="variance of the data", y_label="samples / data", log_x=True, log_y=True
)

# %% [markdown]
# {numref}`fig-few-steps` says what to expect of pictures. Their coarse structure has a large variance. There every sampler keeps most of it, though seldom all. Their fine detail has a small variance. In twenty steps DDIM loses most of that, the narrow noise loses even more, and the wide noise drowns it.
#
# **With all steps** the errors fall nearly like $1 / T$. For $\lambda = 0.25$ and the linear schedule, $T$ times the relative error of the variance:

# %% tags=["nbval-check-output"]
for T in (1000, 2000, 4000):
    finer = linear_schedule(T, 0.1 / T, 20 / T)
    rows = samplers(finer).items()
    errors = {name: T * (final_variance(finer, q, lam) / lam - 1) for name, q in rows}
    print(f"T = {T}  " + "  ".join(f"{n} {e:5.1f}" for n, e in errors.items()))

# %% [markdown]
# The column of $\tilde\beta_t$ creeps. That variance lacks $\beta_t - \tilde\beta_t = \bar\alpha_{t-1}\, \beta_t^2 / (1 - \bar\alpha_t)$, and next to the data, where the betas are nearly equal, this is nearly $\beta_1 / t$. Such terms add up to a logarithm. The wide variance is closest at full length, as in the published table. (For normal data of this kind the bound prefers it as well, {eq}`eq-euler-gap`; but the bound judges paths, and samples are their ends.)

# %% [markdown]
# **Better steps.** The step {eq}`eq-ddim-step` holds $\hat{x}$ fixed on its way. But $\hat{x}$ changes while $x_t$ comes down, and the change can be foreseen from the last two answers. Extrapolate $\hat{x}$ to the middle of the step, along the log signal-to-noise ratio, and take the step of DDIM with that. This is DPM-Solver++ of second order {cite:p}`lu2022`: no more calls of the network, and an error that falls with the square of the length of the steps. On normal data the exact way is known: the sample keeps its rank among all samples, so $x_t$ stays proportional to $\sqrt{V_t}$ ({ref}`below <sec-continuous-time>` we see why). The cell goes down from 1000 to $t = 20$, in steps of equal length in the log signal-to-noise ratio.

# %% tags=["nbval-check-output"]
from companion.samplers import dpm_solver_sample

lam, ratio_at = torch.tensor(0.25).double(), schedule.log_snr
print("relative error       DDIM   second order")
for S in (10, 20, 40, 80):
    goals = torch.linspace(ratio_at[20], ratio_at[1000], S + 1)
    times = torch.searchsorted(-ratio_at[1:].contiguous(), -goals).clamp(max=999) + 1
    sub = schedule.strided(times.unique())
    V = sub.alpha_bar * lam + sub.noise_var
    off = []
    for sampler in (ddim_sample, dpm_solver_sample):
        *_, near, _ = sampler(hat, sub, torch.ones(1, 1).double())
        off += [abs(near.item() / (V[1] / V[-1]) ** 0.5 - 1)]
    print(f"{sub.num_steps - 1:3} steps {off[0]:16.5f} {off[1]:12.5f}")

# %% [markdown]
# Twice the steps: half the error for DDIM, and from twenty steps on less than a third of it for the second order.
#
# *Sources: E04.*

# %% [markdown]
# (sec-digits-in-few-steps)=
# ## Digits in few steps
#
# And real digits? First eight of each kind to look at, in ten steps from the same clouds of noise:

# %% mystnb={"image": {"alt": "Four rows of eight digits in ten steps. DDIM and second order: much the same digits in both rows. Narrow noise: clean digits. Wide noise: digits strewn with gray and white pixels."}, "figure": {"caption": "Ten steps each, four samplers, the same starts.", "name": "fig-ten-steps"}}
kinds = {
    "DDIM": ddim_sample,
    "2nd order": dpm_solver_sample,
    "beta-tilde": ddpm_sample,
    "beta": lambda hat, sub, x: ddpm_sample(hat, sub, x, sub.beta),
}
drawn = {name: [*kind(denoiser, schedule.evenly(10), start)][-1] for name, kind in kinds.items()}
plots.image_rows({name: to_unit(x) for name, x in drawn.items()}, tile=0.8)

# %% [markdown]
# The first two rows of {numref}`fig-ten-steps` show the same digits: without noise on the way the start decides, and two samplers that follow the same way meet at its end. The third row, with the narrow variance $\tilde\beta_t$, has other pictures. In the last row, with the wide variance $\beta_t$, there is the noise that the recursion has foretold.
#
# To say which sampler is better, eight pictures are too few. So 500 digits were drawn by each of the four in 10, 20, 50 and 100 steps, all from the same 500 clouds, and a record keeps what the classifier of the last chapter sees in them, its 64 features. The judge is the Fréchet distance {eq}`def-frechet` to 5000 test digits. Two more numbers belong to it. One is the distance of 500 digits that were drawn with all thousand steps of the model. The other is what a perfect sampler could hope for, that of 500 *real* digits; it is measured ten times, for each tenth of the 5000 against the other nine.

# %% tags=["mnist"]
from companion.metrics import frechet_distance

classifier = pretrained("classifier-mnist")
seen, card = load_record("ddpm-mnist-steps")
seen = {name: features.float() for name, features in seen.items()}
whole, _ = load_record("ddpm-mnist-samples")
seen["all"] = classifier.features(whole["samples"] / 255)
_ = torch.manual_seed(0)
order = torch.randperm(len(test.images))[:5000]
tenths = [classifier.features(part) for part in test.images[order].chunk(10)]
print(card.command)


def without_one(parts):
    """All parts but one, together, for each in turn."""
    return [torch.cat([*parts[:k], *parts[k + 1 :]]) for k in range(len(parts))]


pairs = zip(tenths, without_one(tenths), strict=True)
real = torch.tensor([frechet_distance(x, rest) for x, rest in pairs])
print(f"real digits: {real.mean():.1f}, from {real.min():.1f} to {real.max():.1f}")

# %% [markdown]
# The ten numbers for real digits show it: 500 pictures leave the distance uncertain. The error of each entry of the table is estimated by the **jackknife**: leave out each tenth of the pictures in turn, and see how the distance moves. If the ten distances have squared deviations from their mean that add up to $D$, the error is $\sqrt{0.9\, D}$.


# %%
def distances(name):
    """Fréchet distances to the test digits: of all, and without each tenth in turn."""
    views = [seen[name], *without_one(seen[name].chunk(10))]
    return torch.tensor([frechet_distance(x, torch.cat(tenths)) for x in views])


def with_error(values):
    """The first value, and its error by the jackknife, from the ten others."""
    moved = values[1:] - values[1:].mean()
    return values[0].item(), (0.9 * moved.square().sum()).sqrt().item()


all_views = {name: distances(name) for name in seen}
far = {name: with_error(values) for name, values in all_views.items()}
in_record = ("ddim", "dpm-solver", "beta-tilde", "beta")
print("steps" + "".join(f"{name:>15}" for name in kinds))
for S in (10, 20, 50, 100):
    row = [far[f"{kind} {S}"] for kind in in_record]
    print(f"{S:5}" + "".join(f"{value:8.1f} +- {err:3.1f}" for value, err in row))
print(f"all thousand, variance beta: {far['all'][0]:.1f} +- {far['all'][1]:.1f}")
ratio = far["ddim 20"][0] / far["all"][0]
print(f"20 steps of DDIM are {ratio:.2f} times as far as all thousand")
assert far["all"][0] < far["ddim 10"][0] or test.name != "mnist"

# %% mystnb={"image": {"alt": "Four falling curves of Frechet distance over the number of steps, on logarithmic axes, and two level lines below. The curve of the wide variance starts far above all others. The curves of DDIM and second order flatten early. That of the narrow variance comes down to the upper level line, which stands for all steps. At 100 steps the wide one is between it and the two flat ones."}, "figure": {"caption": "Fréchet distance of 500 digits by number of steps.", "name": "fig-steps-distance"}}
lines = {
    name: ([10, 20, 50, 100], [far[f"{kind} {S}"][0] for S in (10, 20, 50, 100)])
    for name, kind in zip(kinds, in_record, strict=True)
}
lines["all steps"] = ([10, 100], [far["all"][0]] * 2)
lines["real digits"] = ([10, 100], [real.mean().item()] * 2)
plots.curves(lines, x_label="steps", y_label="Fréchet distance", log_x=True, log_y=True)

# %% [markdown]
# What of {numref}`fig-steps-distance` is larger than its errors? All samplers began with the same clouds, and so the entries of the table err together, in part. What counts is the error of a *difference*: the same tenth is left out on both sides. The cell asks for two such errors where it says "closer".


# %% tags=["nbval-check-output", "mnist"]
def closer(a, b):
    """Whether a is closer than b, by two errors of the difference; mean over pairs."""
    gaps = [all_views[off] - all_views[near] for near, off in zip(a, b, strict=True)]
    gap, error = with_error(sum(gaps) / len(gaps))
    return gap > 2 * error


def at(kind, *lengths):
    return [f"{kind} {S}" for S in lengths]


for S in (10, 20, 50):
    two = ("ddim", "dpm-solver")
    wide = all(closer(at(kind, S), at("beta", S)) for kind in two)
    print(f"{S} steps: DDIM and second order closer than the wide variance: {wide}")
narrow = closer(at("beta-tilde", 20, 50, 100), at("ddim", 20, 50, 100))
print("20, 50, 100 steps together: narrow variance closer than DDIM:", narrow)
print("all steps closer than 50 with it:", closer(["all"], at("beta-tilde", 50)))
print("all steps closer than 20 of DDIM:", closer(["all"], at("ddim", 20)))
print("DDIM gains from 10 to 20 steps:", closer(at("ddim", 20), at("ddim", 10)))
second = any(closer(at("dpm-solver", S), at("ddim", S)) for S in (10, 20, 50, 100))
print("second order closer than DDIM, at some length:", second)

# %% [markdown]
# The wide variance is a disaster in few steps, as computed and as published. In 100 steps it has caught up, for all that 500 digits can tell. DDIM in 20 steps is still behind the full chain, and so it is in the published table, with 6.84 against 3.17; from there on more steps do not help it much here. What is not as published is the narrow noise. There DDIM leads at every length. Here the two are level in ten steps, and then the narrow noise overtakes: in 50 steps it cannot be told from all thousand. And the second order is not seen to gain anything on DDIM.
#
# A likely reason is the network. Ours is small, and its errors are a part of each entry. On the way without noise more of an error is carried to the end; a sampler that adds fresh noise forgets it sooner. {ref}`The section on feedback <sec-feedback>` says by how much, for normal data. A solver of higher order follows the way more exactly, and if the way itself is a little off, that may gain nothing. With an exact denoiser, in the table of the recursion, the order is the published one up to 100 steps. This is no proof: the data and the judge differ as well, and no other network was tried. But if it is the reason, how many steps a sampler needs is a matter of the sampler *and* of the network.
#
# **The film.** The slider moves through the fifty steps of sixteen digits. On the left is $x_t$, on the right what the network believes at that moment, $\hat{x}(x_t, t)$.


# %%
from companion.page.sliders import Slider

film_16 = torch.stack([x[:16] for x in fresh_50])
film_times = [*schedule.evenly(50).times.tolist()[::-1]]
stops = [0, 10, 20, 25, 30, 35, 40, 45, 50]


def film_frame(step, film=film_16, at=tuple(film_times)):
    """x_t and the estimate of the picture, side by side; at the end both are x_0."""
    x_t, time = film[step], at[step]
    with torch.no_grad():
        x_hat = denoiser(x_t, torch.full((16,), time)) if time else x_t
    fig, (left, right) = plots.figure(2, height=3.3)
    _ = plots.image_grid(to_unit(x_t), columns=4, axes=left)
    _ = plots.image_grid(to_unit(x_hat), columns=4, axes=right)
    return fig


# %%
Slider(
    stops,
    film_frame,
    description="steps done",
    alt="Sixteen noisy digits after {} of 50 steps, and the estimates beside them",
    label="{}",
    start=4,
)

# %% [markdown]
# The estimates run ahead. They are clouds at first, then candidates that change, and they are decided long before the noise is gone.
#
# *Sources: A36, E04.*

# %% [markdown]
# (sec-inversion)=
# ## There and back
#
# A sampler without noise is a map: each $x_T$ has one $x_0$. Can it be run backwards, from a digit to its noise? A step {eq}`eq-ddim-step` is easily solved for $x_t$, if only the network's answer *at* $x_t$ were known. Take the answer at $x_{t-1}$ instead; for small steps it is nearly the same. `ddim_invert` does so. The error of going up and down again should then fall with the number of steps. For normal data, where all is linear, it is a number:

# %% tags=["nbval-check-output"]
from companion.samplers import ddim_invert

print("steps   relative error of x_0, times the steps")
for S in (10, 20, 50, 100, 200, 500):
    *_, x_T = ddim_invert(hat, schedule.evenly(S), torch.ones(1, 1).double())
    *_, back = ddim_sample(hat, schedule.evenly(S), x_T)
    print(f"{S:5} {back.item() - 1:15.4f} {S * (back.item() - 1):12.2f}")

# %% [markdown]
# The last column settles: the error falls like $1 / S$. On CIFAR-10, {cite:t}`song2021ddim` report mean squared errors of 0.014, 0.0065, 0.0023, 0.0009, 0.0004 and 0.0001 for the same numbers of steps (pixels on $[0, 1]$). Now six digits of the test set, in three lengths:

# %% mystnb={"image": {"alt": "Four rows of six digits: the originals, and the same after inversion and sampling in five, ten and thirty steps. All rows show the same digits."}, "figure": {"caption": "Digits, and what comes back from their noise.", "name": "fig-inversion"}}
x = to_symmetric(test.images[:6])
rows, back_errors = {"digits": to_unit(x)}, []
for S in (5, 10, 30):
    *_, x_T = ddim_invert(denoiser, schedule.evenly(S), x)
    *_, back = ddim_sample(denoiser, schedule.evenly(S), x_T)
    rows[f"{S} steps"] = to_unit(back)
    back_errors += [(to_unit(back) - to_unit(x)).square().mean().item()]
plots.image_rows(rows, tile=0.8)

# %% [markdown]
# In {numref}`fig-inversion` every length gives back the digit. Five steps return it a little dimmer; from ten on the eye hardly sees a difference. The numbers do:

# %%
print("mean squared error on [0, 1]:", [f"{e:.5f}" for e in back_errors])
assert (back_errors[2] < back_errors[0] and back_errors[2] < 0.01) or (test.name != "mnist")

# %% tags=["nbval-check-output", "mnist"]
print("thirty steps are better than five:", back_errors[2] < back_errors[0])

# %% [markdown]
# **Between two digits.** So each digit has an address in the noise, and one can walk from address to address, as between the codes of {ref}`chapter 7 <sec-latent-walks>`. Draws of noise in many dimensions have nearly one length, so the walk follows a great circle {eq}`eq-slerp`. Below it is the plain cross-fade of the pixels.

# %% mystnb={"image": {"alt": "Two rows of seven pictures from one digit to another. Above, most pictures in between are strokes of a digit. Below, one digit fades out while the other fades in."}, "figure": {"caption": "From a digit to another, in thirty steps: through the noise, and through the pixels.", "name": "fig-noise-walk"}}
from companion.interpolation import spherical_interpolation

share = torch.linspace(0, 1, 7)
ends = x_T[:1], x_T[1:2]
*_, walk = ddim_sample(denoiser, schedule.evenly(30), spherical_interpolation(*ends, share)[:, 0])
fade = torch.lerp(x[:1], x[1:2], share.view(7, 1, 1, 1))
plots.image_rows({"noise": to_unit(walk), "pixels": to_unit(fade)}, tile=0.8)

# %% [markdown]
# Is such an address really noise? It should look like a draw of $\mathcal{N}(0, I)$. For digits it does not. The pixels in the corners are black in nearly all examples. The map has to make noise of them by stretching a spread of zero, and in thirty steps it does not come far.

# %%
print(f"mean of the addresses {x_T.mean():.2f}, standard deviation {x_T.std():.2f}")
corner = torch.cat([x_T[:, 0, :3, :3].flatten(), x_T[:, 0, -3:, -3:].flatten()])
print(f"in two corners: mean {corner.mean():.2f}, deviation {corner.std():.2f}")

# %% tags=["nbval-check-output", "mnist"]
print("narrower than noise, below 0.9:", bool(x_T.std() < 0.9))
print("in the corners below that:", bool(corner.std() < x_T.std()))

# %% [markdown]
# (sec-feedback)=
# ## Denoising is feedback
#
# One set of notes says that denoising is a form of feedback control, and that the added noise gives robustness. Take it at its word, and give the sampler a push. At time $t$ on the way down, add $\delta$ to $x_t$. Then go on as if nothing had happened, with the same random numbers as without the push. How much of $\delta$ is left at the end?
#
# For normal data the noise cancels in the difference of the two ways, and the slopes multiply. With the steps of the DDPM, whatever $\sigma_t$, they are those of {eq}`eq-noiseless`, and so
#
# $$
# \frac{\text{change of } x_0}{\delta} = \frac{\sqrt{\bar\alpha_t}\, \lambda}{V_t} = \varrho_t \sqrt{\frac{\lambda}{V_t}} , \qquad \varrho_t = \sqrt{\frac{\bar\alpha_t\, \lambda}{V_t}} ,
# $$ (eq-push)
#
# where $\varrho_t$ is the correlation of $x_t$ and $x$. DDIM with many small steps leaves $\sqrt{\lambda / V_t}$, since it keeps the rank. The extra factor $\varrho_t < 1$ is what fresh noise buys. It is not the noise itself that pulls back; without it the steps of the DDPM would forget just as fast, and forget the picture, too. But a sampler that will add noise must take more away before, and takes away with it what has nothing to do with the data. The cell pushes with no noise and with the wide variance, and rejects the factor of DDIM.

# %% tags=["nbval-check-output"]
lam, t_push = torch.tensor([0.0025, 0.25, 4.0]).double(), 400
rest = schedule.strided(range(1, t_push + 1))
here = torch.randn(1, 3).double()
ends = {}
for push in (0.0, 1.0):
    for name, noise_of in {"none": 0 * rest.beta, "wide": rest.beta}.items():
        _ = torch.manual_seed(3)
        *_, ends[name, push] = ddpm_sample(normal_data(lam), rest, here + push, noise_of)
    *_, ends["DDIM", push] = ddim_sample(normal_data(lam), rest, here + push)
change = {n: (ends[n, 1.0] - ends[n, 0.0])[0] for n in ("none", "wide", "DDIM")}
kept, V = rest.alpha_bar[-1], rest.alpha_bar[-1] * lam + rest.noise_var[-1]
right, wrong = kept**0.5 * lam / V, {"DDIM's": (lam / V) ** 0.5}
for name in ("none", "wide"):
    verify("eq-push", change[name], right, exact.within(1e-9), rejects=wrong)
print("variance of the data, what is left of a push at t = 400:")
print("           DDPM    DDIM    sqrt(variance / V)")
rows = zip(lam, right, change["DDIM"], (lam / V) ** 0.5, strict=True)
for values in rows:
    print("{:6.4f} {:8.4f} {:7.4f} {:11.4f}".format(*values))

# %% [markdown]
# The next figure follows the push on its way down, for two of the three variances: 0.0025, fine detail, and 4, coarse structure.

# %% mystnb={"image": {"alt": "Four curves of the push over the steps since. Of fine detail both fall to near zero, that of the DDPM sooner. Of coarse structure both end above one, that of DDIM higher."}, "figure": {"caption": "What is left of a push at $t = 400$, step by step.", "name": "fig-return"}}
lines = {}
for name, sampler in {"DDPM": ddpm_sample, "DDIM": ddim_sample}.items():
    films = []
    for push in (0.0, 1.0):
        _ = torch.manual_seed(3)
        films += [torch.stack([*sampler(normal_data(lam), rest, here + push)])[:, 0]]
    for k in (0, 2):
        way = (films[1] - films[0])[:, k]
        detail = "coarse" if k else "fine"
        lines[f"{name}, {detail}"] = (torch.arange(401), way)
plots.curves(lines, x_label="steps since the push", y_label="left of the push")

# %% [markdown]
# In {numref}`fig-return`, where the data have little variance, next to nothing is left of a push in the end. Where they have much, the push stays in: there the data allow it. A good controller does the same: it acts where the data leave no freedom, and lets the rest be.
#
# The next cell pushes digits. At $t = 400$ a gray bar is laid over each of six $x_t$, and the rest of the way is taken with fresh noise and by DDIM.

# %% mystnb={"image": {"alt": "Five rows of six digits. First the noisy digits with a faint horizontal bar. Then the digits without a push. With the push and fresh noise the bar is partly bent into strokes; with DDIM it is a straight white bar; with the network asked only once it is a blurred one."}, "figure": {"caption": "Pushed at $t = 400$. First row: where the push was made; the others: where it led.", "name": "fig-push"}}
_ = torch.manual_seed(0)
digits = to_symmetric(test.images[10:16])
x_t = add_noise(schedule, digits, 400, torch.randn_like(digits))
pushed = x_t.clone()
pushed[:, :, 17:20] += 1.0
rest = schedule.strided(range(16, 401, 16))


def finish(sampler, x):
    _ = torch.manual_seed(4)
    *_, x_0 = sampler(denoiser, rest, x)
    return x_0


ends = {"no push": finish(ddpm_sample, x_t), "no push, DDIM": finish(ddim_sample, x_t)}
ends |= {"fresh noise": finish(ddpm_sample, pushed)}
ends |= {"DDIM": finish(ddim_sample, pushed)}
with torch.no_grad():
    ends["at once"] = denoiser(pushed, torch.full((6,), 400))
rows = {"pushed": to_unit(pushed / 1.5)}
rows |= {name: to_unit(x) for name, x in ends.items() if name != "no push, DDIM"}
plots.image_rows(rows, tile=0.7)

# %% [markdown]
# How much of the bar in {numref}`fig-push` is left? The cell looks at pixels of the bar that are black without the push, so that all the light there is the bar's. (A white pixel is 1.)

# %%
bar = torch.zeros(6, 1, 28, 28, dtype=torch.bool)
bar[:, :, 17:20] = True
left_of_bar = {}
for name, calm in {"fresh noise": "no push", "DDIM": "no push, DDIM"}.items():
    black = bar & (ends[calm] < -0.9)  # where the bar is all there is
    left_of_bar[name] = (ends[name] - ends[calm])[black].mean() / 2
    print(f"{name:12} brightness where the bar met black: {left_of_bar[name]:.2f}")

# %% tags=["nbval-check-output", "mnist"]
print("fresh noise leaves less of the bar:", bool(left_of_bar["fresh noise"] < left_of_bar["DDIM"]))

# %% [markdown]
# The network has never seen such a bar. With DDIM most of it stays in the pictures of {numref}`fig-push`, as a bar. With fresh noise a good part is pulled back; what can be a stroke is made one, and then the push has changed the digit. The last row is the network's answer at once, at the moment of the push: it believes the bar, and it is the steps with fresh noise that correct a part of it.
#
# *Sources: C14.*

# %% [markdown]
# (sec-score-view)=
# ## The noise is the score
#
# So far the network said what is noise. {ref}`Chapter 1 <sec-denoising>` found that a denoiser knows more: the gradient of the log-density of noisy data, their {term}`score` {eq}`eq-score`. In the language of diffusion, and for any data: with $\varepsilon^*(x_t, t) = \mathbb{E}[\varepsilon \mid x_t]$,
#
# $$
# \varepsilon^*(x_t, t) = - \sqrt{1 - \bar\alpha_t}\;\, \nabla \log q(x_t) .
# $$ (eq-noise-is-score)
#
# The gradient is by $x_t$. Since $\hat{x}$ is fixed by $x_t$ and $\varepsilon$, it says as well ({term}`Tweedie's formula`)
#
# $$
# \mathbb{E}[x \mid x_t] = \frac{x_t + (1 - \bar\alpha_t)\, \nabla \log q(x_t)}{\sqrt{\bar\alpha_t}} .
# $$ (eq-tweedie)
#
# :::{dropdown} Proof
# $q(x_t) = \int q(x)\, \mathcal{N}(x_t; \sqrt{\bar\alpha_t}\, x, (1 - \bar\alpha_t) I)\, \mathrm{d}x$. The gradient of the normal density is itself times $- (x_t - \sqrt{\bar\alpha_t}\, x) / (1 - \bar\alpha_t) = - \varepsilon / \sqrt{1 - \bar\alpha_t}$. So $\nabla q(x_t)$ is $q(x_t)$ times the mean of that, given $x_t$. Divide by $q(x_t)$. $\square$
# :::
#
# The slides have the first formula without its factor (entry E11), as we saw in one dimension at {eq}`eq-noise-score`. At $t = 1$ of the thousand steps the factor is 0.01: who forgets it is wrong a hundredfold there. The cell computes $\varepsilon^*$ of a mixture by Bayes' rule, and the score by automatic differentiation of its log-density, at points of five times, to twelve digits. The form of the slides is rejected.

# %%
from torch.distributions import MultivariateNormal

from companion.score import exact_score, noisy_mixture

_ = torch.manual_seed(0)
weights = torch.tensor([0.5, 0.3, 0.2]).double()
means = torch.tensor([[1.0, 0.5], [-1.0, 0.0], [0.3, -1.0]]).double()
factors = torch.tensor([[[0.4, 0], [0.2, 0.3]], [[0.3, 0], [0, 0.5]], [[0.2, 0], [-0.2, 0.3]]])
covs = (factors @ factors.mT).double()
law = MixtureSameFamily(Categorical(weights), MultivariateNormal(means, covs))
law_hat = MixtureDenoiser(schedule, weights, means, covs)
times = torch.tensor([1, 30, 200, 500, 1000])
places = torch.randn(5, 8, 2).double()

# %% tags=["nbval-check-output"]
best, scores, hats = [], [], []
for t, x_t in zip(times, places, strict=True):
    kept, var = schedule.alpha_bar[t], schedule.noise_var[t]
    hats += [law_hat(x_t, t.expand(8))]
    best += [noise_from_x_0(schedule, x_t, t, hats[-1])]
    scores += [exact_score(noisy_mixture(law, kept**0.5, var).log_prob, x_t)]
best, scores, hats = map(torch.stack, (best, scores, hats))
var = schedule.noise_var[times].view(5, 1, 1)
wrong = {"E11": -scores}
rule = exact.within(1e-12)
verify("eq-noise-is-score", best, -(var**0.5) * scores, rule, rejects=wrong)

# %% [markdown]
# The same for Tweedie's formula; with the root in place of $1 - \bar\alpha_t$ it is rejected.

# %% tags=["nbval-check-output"]
root = (1 - var) ** 0.5
no_square = {"a root too many": (places + var**0.5 * scores) / root}
by_score = (places + var * scores) / root
verify("eq-tweedie", hats, by_score, exact.within(1e-10), rejects=no_square)

# %% [markdown]
# So the network that was trained to see noise is a *score model*, and nobody told it a density. The next figure draws its score for the humps in the plane, at three times, over the density of the noisy data. (Arrows are scaled in each panel; they get shorter with more noise.)

# %% mystnb={"image": {"alt": "Three panels of arrows over a density. At the earliest time the arrows point to the nearest of eight small dark humps; at the next to a broad ring; at the last all point to the center of one round cloud."}, "figure": {"caption": "The score that the trained network of the plane has learned, at three of its hundred times.", "name": "fig-score-field"}}
from companion.score import score_from_denoiser

half_ring = MixtureSameFamily(
    ring.mixture_distribution, Independent(Normal(shapes.mean / 2, 0.125), 1)
)
learned = score_from_denoiser(toy.denoiser, s)
fig, panels = plots.figure(3, height=2.7)
for t, panel in zip((3, 12, 30), panels, strict=True):
    noisy = noisy_mixture(half_ring, s.alpha_bar[t].float() ** 0.5, s.noise_var[t])
    _ = plots.vector_field(
        lambda x, t=t: learned(x.float(), torch.full((len(x),), t)),
        (-2, 2, -2, 2),
        log_prob=lambda x, noisy=noisy: noisy.log_prob(x.double()),
        num=13,
        x_label=f"$x_1$ at $t = {t}$",
        axes=panel,
    )
fig

# %% [markdown]
# {numref}`fig-score-field` shows arrows like those of the denoising autoencoder in {ref}`chapter 1 <sec-denoising>`, at three levels of noise. How close is it to the truth, which is known here?

# %%
print("   t   error of the learned score, relative to its size")
for t in (3, 12, 30):
    noisy = noisy_mixture(half_ring, s.alpha_bar[t] ** 0.5, s.noise_var[t])
    x_t = noisy.sample((2000,)).double()
    true = exact_score(noisy.log_prob, x_t)
    off = learned(x_t.float(), torch.full((2000,), t)).double() - true
    relative = (off.square().mean() / true.square().mean()).sqrt()
    print(f"{t:4} {relative:12.3f}")
    assert relative < 0.4

# %% [markdown]
# The error is largest next to the data, where the score changes most from place to place.
#
# With the score, line 4 of the algorithm reads
#
# $$
# x_{t-1} = \frac{1}{\sqrt{\alpha_t}} \big( x_t + \beta_t\, \nabla \log q(x_t) \big) + \sigma_t\, \xi :
# $$ (def-line-four-score)
#
# go uphill where noisy data are more likely, and add noise. Such walks are older than diffusion models. They have a name.
#
# *Sources: B29.*

# %% [markdown]
# (sec-langevin)=
# ## Sampling with a score alone
#
# **Langevin dynamics** is a walk: a step uphill along the score of a density $p$, and noise. With a step size $h$,
#
# $$
# x \;\leftarrow\; x + \frac{h}{2}\, \nabla \log p(x) + \sqrt{h}\; \xi , \qquad \xi \sim \mathcal{N}(0, I) .
# $$ (def-langevin)
#
# (With $\sigma_t^2 = \beta_t = h$, line 4 {eq}`def-line-four-score` goes uphill twice as far. Half of that is this walk. The other half, with the factor $1 / \sqrt{\alpha_t}$, takes back one step of noise; {ref}`below <sec-continuous-time>` it stands alone {eq}`def-probability-flow`.)
#
# For small $h$ and after many steps $x$ nearly follows $p$, from wherever it started. For a finite $h$ there is an error that no number of steps removes. If $p$ is normal with standard deviation $s$, the variance settles at
#
# $$
# \frac{s^2}{1 - h / (4 s^2)} ,
# $$ (eq-langevin-bias)
#
# too much, and for $h \ge 4 s^2$ it never settles.
#
# :::{dropdown} Proof
# A step is $x \leftarrow (1 - h / 2 s^2)\, x + \sqrt{h}\, \xi$. The variance $W$ settles where $W = (1 - h / 2 s^2)^2\, W + h$, so $W \big( h / s^2 - h^2 / 4 s^4 \big) = h$. For $h \ge 4 s^2$ the slope is $-1$ or below, and the variance grows forever. $\square$
# :::
#
# In the cell 200,000 walkers start as wide as this and must stay so. The variance $s^2$ is rejected, and so is a bias of half the size.

# %% tags=["nbval-check-output"]
from companion.score import langevin_sample

_ = torch.manual_seed(0)
s2, h = torch.tensor(0.5).double(), 0.4
settled = s2 / (1 - h / (4 * s2))
x = settled**0.5 * torch.randn(200_000).double()
*_, x = langevin_sample(lambda x: -x / s2, x, h, 3)
wrong = {"no bias": s2, "half of it": s2 / (1 - h / (8 * s2))}
verify("eq-langevin-bias", x**2, settled, monte_carlo, rejects=wrong)
for h in (0.4, 0.04, 0.004):
    print(f"h = {h:5}: {1 / (1 - h / (4 * s2)) - 1:.2%} too wide")

# %% [markdown]
# A second trouble is worse. Where there are separate humps, walkers hardly ever get from one to another; and far from all data the score points to the nearest hump, whatever its weight. The test is a ring of humps with *unequal* weights.
#
# {cite:t}`song2019` found the remedy, and the slides show their algorithm. Add noise to the data, $x + \sigma \varepsilon$, so much that all humps melt into one. There walkers move freely. Then lower the noise step by step, and let them settle in each level: *annealed* Langevin dynamics.
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
# (The slides call the step size $\alpha_i$, its base $\epsilon$ and the number of steps $T$. None of them is what these letters mean elsewhere. And noise is added here to $x$ itself, not to $\sqrt{\bar\alpha_t}\, x$; {ref}`ex-two-noises` translates.)
#
# **Where does the score come from?** From regression on noise, once more. The target is the score of the noise alone, $-\varepsilon / \sigma$, which is known in training. By {cite:t}`vincent2011`, for every model $s_\theta$, and with $p_\sigma$ for the law of $\tilde{x}$,
#
# $$
# \mathbb{E} \Big\lVert s_\theta(\tilde{x}) + \frac{\varepsilon}{\sigma} \Big\rVert^2 = \mathbb{E} \big\lVert s_\theta(\tilde{x}) - \nabla \log p_\sigma(\tilde{x}) \big\rVert^2 + \text{a constant} , \qquad \tilde{x} = x + \sigma \varepsilon .
# $$ (eq-denoising-score-matching)
#
# This is {eq}`eq-excess-error` in another language: the constant is what $\tilde{x}$ does not tell about its noise. So *denoising score matching* fits the score of the noisy data, although that never occurs in the loss.
#
# The cell takes two models that are wrong in two ways and compares the difference of their losses on both sides; the constant drops out. Rejected is that there is no difference.

# %% tags=["nbval-check-output"]
lopsided = torch.tensor([8.0, 4, 2, 1, 1, 2, 4, 8]) / 30
hump = Independent(Normal(shapes.mean / 2, 0.125), 1)
uneven = MixtureSameFamily(Categorical(lopsided), hump)
_ = torch.manual_seed(0)
sigma, x = 0.4, uneven.sample((100_000,)).double()
noise = torch.randn_like(x)
true = exact_score(noisy_mixture(uneven, 1.0, sigma**2).log_prob, x + sigma * noise)


def both_sides(s):
    return (s + noise / sigma).square().sum(1), (s - true).square().sum(1)


(left, direct), (left_2, direct_2) = both_sides(0.3 * true), both_sides(true + 0.5)
zero = torch.zeros(()).double()
wrong = {"no difference": (direct_2 - direct).mean()}
differences = left - left_2 - (direct - direct_2)
rule = monte_carlo
verify("eq-denoising-score-matching", differences, zero, rule, rejects=wrong)

# %% [markdown]
# Now a model is trained, live: one small perceptron for ten levels of noise, from $\sigma_1 = 3$ to $\sigma_L = 0.05$. It is told $\log \sigma$, and its loss is $\sigma^2 / 2$ times the left side of {eq}`eq-denoising-score-matching`, at a random level for each point.

# %%
from companion.data import Batches
from companion.networks.mlp import TimeMlp
from companion.score import (
    NoiseConditionalScore,
    denoising_score_matching_loss,
    geometric_noise_levels,
)
from companion.training import fit

_ = torch.manual_seed(0)
levels = geometric_noise_levels(3.0, 0.05, 10)
score_model = NoiseConditionalScore(TimeMlp(2, (64, 64), 32), levels)
batches = Batches(uneven.sample((20_000,)), batch_size=500, num_epochs=15)
optimizer = torch.optim.Adam(score_model.parameters(), lr=5e-3)
for step in fit(score_model, denoising_score_matching_loss, batches, optimizer):
    optimizer.param_groups[0]["lr"] = 5e-3 * (1 - 0.98 * step.number / 600)
print(f"{step.number} steps, loss of the last batch {step.loss:.3f}")

# %% [markdown]
# And it is sampled, 1500 walkers, once with annealing and once with the last level alone, with the same number of steps. To be fair, plain Langevin dynamics gets the *exact* score.

# %%
from companion.score import annealed_langevin_sample

_ = torch.manual_seed(1)
walkers = 3 * torch.randn(1500, 2)
*_, annealed = annealed_langevin_sample(score_model, walkers, levels, 1e-3, 30)
finest = noisy_mixture(uneven, 1.0, 0.05**2)
*_, plain = langevin_sample(partial(exact_score, finest.log_prob), walkers, 1e-3, 300)


def shares(points):
    """Share of the points that are nearest to each of the eight centers."""
    nearest = (points[:, None] - halved[0]).norm(dim=2).argmin(1)
    return torch.bincount(nearest, minlength=8).double() / len(points)


found = {"annealed, learned": shares(annealed), "plain, exact": shares(plain)}

# %% mystnb={"image": {"alt": "Two panels. Left, annealed: a ring of eight clouds, dense at the right, thin and smeared at the left. Right, plain: eight round clouds, about equally dense."}, "figure": {"caption": "Annealed Langevin dynamics with a learned score, and plain Langevin dynamics with the exact one.", "name": "fig-langevin"}}
fig, panels = plots.figure(2, height=3.4)
pairs = {"annealed": annealed, "plain": plain}
for panel, (name, points) in zip(panels, pairs.items(), strict=True):
    _ = plots.scatter(points, x_label=f"$x_1$, {name}", y_label="$x_2$", bounds=box, axes=panel)
fig

# %% [markdown]
# In both panels of {numref}`fig-langevin` there are points in all eight humps. The weights differ:

# %%
print("shares in percent " + " ".join(f"{100 * w:4.0f}" for w in lopsided))
wrong_share = {}
for name, share_of in found.items():
    wrong_share[name] = 0.5 * (share_of - lopsided).abs().sum()
    print(f"{name:18}" + " ".join(f"{100 * w:4.0f}" for w in share_of), end="")
    print(f"   wrong: {wrong_share[name]:.1%}")

# %% tags=["nbval-check-output"]
by_annealing, by_walking = wrong_share.values()
print("annealed: less than 15 percent in the wrong hump:", bool(by_annealing < 0.15))
print("plain: more than 25 percent:", bool(by_walking > 0.25))

# %% [markdown]
# The plain walkers fell into the hump next to them and stayed; the score there is exact, and it does not help. The annealed ones found their share while all humps were one. (What is smeared in their panel is due to the score: the small network has learned it in seconds.) This is the lesson of the chapter's other samplers, too: they begin with so much noise that there is only one hump.

# %% [markdown]
# **On digits.** `score-mnist` is a U-Net that was trained by {eq}`eq-denoising-score-matching` on noisy digits, for 60 levels from $\sigma_1 = 20$ to $\sigma_L = 0.05$, which nobody sees. (Two digits, taken at random, are about 20 apart; a cell below measures it.) It has never heard of a schedule. A second score comes for nothing: the network of chapter 10 knows one, too, after translation. Noise of size $\sigma$ is that of the time at which $\bar\alpha_t = 1 / (1 + \sigma^2)$, and Tweedie's formula turns $\hat{x}$ into the score.


# %%
digit_model, card = pretrained("score-mnist"), read_card("score-mnist")
sigmas = digit_model.sigmas.float()


@torch.no_grad()
def ddpm_score(x, sigma):
    """The score of digits with noise sigma, the same for all, from that network."""
    kept = 1 / (1 + sigma[0] ** 2)
    t = (schedule.log_alpha_bar - kept.log()).abs().argmin().clamp(min=1)
    x_hat = model.denoiser(kept**0.5 * x, t.expand(len(x)))
    return (x_hat - x) / sigma[0] ** 2


# %% [markdown]
# Eight walkers start in noise as wide as $\sigma_1$ and take three steps at each level. What is left at the end is noise of the last level; one more call of Tweedie's formula removes it, $x + \sigma_L^2\, s_\theta(x)$. In the third row eight walkers take as many steps with the first network's score, all of them at the last level and with its small step size; they start in noise of standard deviation 1.

# %% mystnb={"image": {"alt": "Three rows of eight pictures. First row: some digits, and some figures of broken strokes. Second row: digits, most of them clear. Third row: black and white everywhere, short thick strokes without any order."}, "figure": {"caption": "Langevin dynamics with learned scores of digits: annealed, with two networks, and at the last level only.", "name": "fig-langevin-digits"}}
last_level, size = sigmas[-1:].expand(8), 0.5 * 0.05**2
_ = torch.manual_seed(1)
walkers = torch.randn(8, 1, 28, 28)
scores = {"score-mnist": digit_model, "ddpm-mnist": ddpm_score}
films_of_score, by_score = {}, {}
for name, s_theta in scores.items():
    walk = annealed_langevin_sample(s_theta, 20 * walkers, sigmas, size, 3)
    films_of_score[name] = walk = list(walk)
    by_score[name] = walk[-1] + 0.05**2 * s_theta(walk[-1], last_level)
finest_score = partial(digit_model, sigma=last_level)
*_, x = langevin_sample(finest_score, walkers, size, 3 * len(sigmas))
by_score["last level"] = x + 0.05**2 * finest_score(x)
plots.image_rows({name: to_unit(x) for name, x in by_score.items()}, tile=0.8)

# %% [markdown]
# In the first row of {numref}`fig-langevin-digits` about half are digits; the rest have strokes that do not meet. In the second nearly all are digits. That network has half as many numbers again to learn with, and was trained for longer. And it was trained for the same thing: a loss of $v$ or of the noise *is* denoising score matching, up to the weights of the levels.
#
# The third row teaches the most. These walkers have found strokes, about as thick as those of digits, and no digits. The score at the finest level repairs what is wrong within a few pixels. Which strokes belong together is decided at high noise, where these walkers have never been. Two numbers: how sure the classifier is, and how much of the picture is white.

# %%
views = {name: to_unit(x) for name, x in by_score.items()}
views["real digits"] = test.images[:1000]
ink = {name: (x > 0.5).double().mean().item() for name, x in views.items()}
for name, x in views.items():
    sure = classifier(x).softmax(1).amax(1).mean()
    print(f"{name:11} mean confidence {sure:.2f}, white {ink[name]:.0%}")
print(f"score-mnist was trained for {card.minutes:.0f} minutes on {card.device}")
more = sum(p.numel() for p in model.parameters()) / card.num_parameters
print(f"numbers to learn, ddpm-mnist over score-mnist: {more:.2f}")
apart = 2 * (test.images[:100] - test.images[100:200]).flatten(1).norm(dim=1).mean()
print(f"two digits are {apart:.0f} apart, on average")

# %% tags=["nbval-check-output"]
for name in scores:
    print(f"{name}: much less white:", ink[name] < 0.75 * ink["last level"])

# %% [markdown]
# The classifier is no help here. It has seen nothing but digits, and it is about as sure of the third row as of the first. A confidence can be trusted only where something like the data is shown.

# %% [markdown]
# The slider goes through the levels of the second row. The pictures are divided by $\sqrt{1 + \sigma^2}$, so that they look as in a diffusion ({ref}`ex-two-noises` goes the other way).


# %%
def at_level(i):
    """The walkers after the three steps at level i, made as large as x_t."""
    x, sigma = films_of_score["ddpm-mnist"][3 * i], sigmas[max(i - 1, 0)]
    return plots.image_grid(to_unit(x / (1 + sigma**2).sqrt()), columns=8, tile=0.8)


Slider(
    [0, 15, 25, 30, 35, 40, 45, 50, 60],
    at_level,
    description="levels done",
    label="{}",
    alt="Eight noisy pictures after {} of the 60 levels of noise",
    start=4,
)

# %% [markdown]
# *Sources: B30.*

# %% [markdown]
# (sec-continuous-time)=
# ## Continuous time
#
# DDIM is a map, and with more and more steps it settles to a limit: the flow of a differential equation. Take $r = \log \bar\alpha$ as the clock, 0 for the data and falling towards noise, so that the schedule drops out. Write $q_r$ for the law of $x_t$ at $\log \bar\alpha_t = r$. The {term}`probability-flow ODE` {cite:p}`song2021sde` is
#
# $$
# \frac{\mathrm{d} x}{\mathrm{d} r} = \frac12 \big( x + \nabla \log q_r(x) \big) .
# $$ (def-probability-flow)
#
# Two things must be shown: that DDIM follows it, and that points which move along it have the law $q_r$ at all times.
#
# **DDIM follows it.** Divide by the scale, and measure noise by $\sigma_r = \sqrt{(1 - \bar\alpha) / \bar\alpha} = \mathrm{SNR}^{-1/2}$, the noise per unit of picture. In these coordinates a step of DDIM is a straight one,
#
# $$
# \frac{x_{t-1}}{\sqrt{\bar\alpha_{t-1}}} = \frac{x_t}{\sqrt{\bar\alpha_t}} + \big( \mathrm{SNR}_{t-1}^{-1/2} - \mathrm{SNR}_t^{-1/2} \big)\; \hat\varepsilon ,
# $$ (eq-ddim-euler)
#
# that is, a step of Euler's method for $\mathrm{d}(x / \sqrt{\bar\alpha}) = \varepsilon^*\, \mathrm{d} \sigma_r$. By {eq}`eq-noise-is-score` and the chain rule this is {eq}`def-probability-flow`. The cell checks the step on the film above; a step in the logarithm of the noise is rejected.

# %% tags=["nbval-check-output"]
scaled = [x / s.alpha_bar[100 - i] ** 0.5 for i, x in enumerate(film)]
sigma = (s.noise_var / s.alpha_bar) ** 0.5
t = torch.full((20,), 60)
noise_hat = noise_from_x_0(s, film[40], t, exact_hat(film[40], t))
right = scaled[40] + (sigma[59] - sigma[60]) * noise_hat
in_logs = scaled[40] + (sigma[59].log() - sigma[60].log()) * noise_hat
wrong = {"in the logarithm": in_logs}
verify("eq-ddim-euler", scaled[41], right, exact.within(1e-8), rejects=wrong)

# %% [markdown]
# **The laws agree.** The density of points that move with velocity $f$ obeys the continuity equation: along the way of a point, the log-density changes by minus the divergence of $f$. So $q_r$ is the law of the moving points if
#
# $$
# \frac{\partial \log q_r}{\partial r} = - \nabla \cdot f - f \cdot \nabla \log q_r , \qquad f = \frac12 \big( x + \nabla \log q_r(x) \big) .
# $$ (eq-continuity)
#
# :::{dropdown} Proof
# With rising $r$ noise is taken away: the law of $x / \sqrt{\bar\alpha}$ is that of the data plus $\sigma_r \varepsilon$, and obeys the heat equation. Written for $q_r$ that is $\partial_r q = - \frac12 \nabla \cdot (x\, q) - \frac12 \Delta q$. Since $\Delta q = \nabla \cdot (q\, \nabla \log q)$, the right side is $- \nabla \cdot (q f)$. Divide by $q$. $\square$
# :::
#
# The cell computes all derivatives by automatic differentiation, for the mixture of three normals. The velocity with the whole score and half of $x$ is rejected. (It would be that of a walk backwards in time *with* noise.)

# %% tags=["nbval-check-output"]
x = torch.randn(8, 2).double().requires_grad_()
r = torch.tensor(-0.8).double().requires_grad_()
log_q = noisy_mixture(law, (r / 2).exp(), -r.expm1()).log_prob(x)
left = torch.stack([torch.autograd.grad(v, r, retain_graph=True)[0] for v in log_q])
score = law_hat.score_at_level(x, r.detach())


def change_along(f):
    """Minus the divergence of f, minus f times the score."""
    parts = [torch.autograd.grad(f[:, i].sum(), x, retain_graph=True)[0] for i in (0, 1)]
    divergence = parts[0][:, 0] + parts[1][:, 1]
    return (-divergence - (f * score).sum(1)).detach()


right, whole = change_along((x + score) / 2), change_along(x / 2 + score)
rule = exact.within(1e-8)
verify("eq-continuity", left, right, rule, rejects={"whole score": whole})

# %% [markdown]
# See it flow. The slider moves 1500 points from noise to the lopsided ring. Their color is the hump where they end; the colors are there from the start, in sectors, because the flow is a map. Heavy humps own more of the noise.

# %%
from companion.flows import probability_flow

_ = torch.manual_seed(0)
uneven_hat = MixtureDenoiser(s, lopsided.double(), *(part.double() for part in halved))
clock = torch.tensor([-12.0, -1.5, -0.8, -0.4, -0.2, -0.1, -0.04, 0]).double()
flowing = probability_flow(uneven_hat.score_at_level, torch.randn(1500, 2), clock, 1e-4, 1e-4)
owner = (flowing[-1][:, None] - halved[0]).norm(dim=2).argmin(1)


def flow_frame(k, points=flowing, labels=owner):
    return plots.scatter(points[k], labels, x_label="$x_1$", y_label="$x_2$", bounds=(-3, 3, -3, 3))


clock_labels = [f"{r:.2f}" for r in clock.tolist()]
Slider(
    range(8),
    flow_frame,
    description="log of the share of picture",
    alt="Points on their way from noise to a ring of eight humps, at stop {}",
    label=lambda k: clock_labels[k],
    start=3,
)

# %% [markdown]
# **An exact likelihood.** A map has a change of volume. So the flow gives what no sampler with noise gives: the density of each $x$, as that of the noise where it arrives, plus the integral of the divergence on the way,
#
# $$
# \log p(x) = \log \mathcal{N}(x_{r_1}; 0, I) + \int_0^{r_1} \nabla \cdot f\; \mathrm{d} r , \qquad r_1 \to - \infty .
# $$ (eq-flow-likelihood)
#
# The cell takes twenty points of the ring and beside it, flows them to $r_1 = -20$, and compares with the density in closed form. The tolerance is a thousandth of a nat per dimension. Without the integral the answer is rejected.

# %% tags=["nbval-check-output"]
from companion.flows import ode_log_prob

_ = torch.manual_seed(0)
x, ring_score = 1.2 * torch.randn(20, 2).double(), uneven_hat.score_at_level
by_flow = ode_log_prob(ring_score, x, [0.0, -20.0], rtol=1e-4, atol=1e-4)
arrived = probability_flow(ring_score, x, [0.0, -20.0], 1e-4, 1e-4)[-1]
no_volume = {"no volume": Normal(0.0, 1.0).log_prob(arrived).sum(1)}
rule = exact.within(1e-3).on_scale(2.0)  # two dimensions
verify("eq-flow-likelihood", by_flow, uneven.log_prob(x), rule, rejects=no_volume)

# %% [markdown]
# With a learned score it is the exact likelihood of *another* model than that of the bound: the one whose samples the flow draws.
#
# **Flow matching** {cite:p}`lipman2023` is the same picture drawn in other coordinates. Let points move on straight lines from data to noise, $x_u = (1 - u)\, x + u\, \varepsilon$, and ask for the mean velocity of those that pass through a place:
#
# $$
# \mathbb{E}[\varepsilon - x \mid x_u] = \frac{x_u - \mathbb{E}[x \mid x_u]}{u} .
# $$ (eq-flow-velocity)
#
# It is fixed by the same denoiser. And $x_u$ is an $x_t$ with another scale, $x_u = c\, x_t$ in law, with $c = \sqrt{(1 - u)^2 + u^2}$ and $\bar\alpha_t = (1 - u)^2 / c^2$. A point of the probability flow, times $c$, moves with exactly this velocity:
#
# $$
# \frac{\mathrm{d}}{\mathrm{d} u} \big( c\; x_{r(u)} \big) = \mathbb{E}[\varepsilon - x \mid x_u] \qquad \text{at} \quad x_u = c\; x_{r(u)} .
# $$ (eq-flow-matching)
#
# :::{dropdown} Proof
# For the first, $\varepsilon = (x_u - (1 - u)\, x) / u$, so $\varepsilon - x = (x_u - x) / u$. For the second, put $\sigma = u / (1 - u)$, so that $c\, x_r = (1 - u)\, y$ with $y = x_r / \sqrt{\bar\alpha}$ and $\mathrm{d} y = \varepsilon^*\, \mathrm{d} \sigma$. Then the derivative is $- y + (1 - u)\, \varepsilon^* / (1 - u)^2 = - y + \varepsilon^* / (1 - u)$, and with $y = \hat{x} + \sigma \varepsilon^*$ this is $\varepsilon^* - \hat{x}$. $\square$
# :::
#
# First {eq}`eq-flow-velocity`, by simulation. If it holds, $\varepsilon - x$ differs from the right side by something that has the mean zero whatever it is multiplied by, as long as that depends on $x_u$ alone. The cell multiplies by the right side itself. Rejected is a velocity divided by $1 - u$.

# %% tags=["nbval-check-output"]
from companion.flows import flow_velocity, straight_line

_ = torch.manual_seed(0)
x, u = law.sample((100_000,)), torch.tensor(0.4).double()
noise = torch.randn_like(x)
x_u = (1 - u) * x + u * noise
c, r = straight_line(u)
x_hat = (x_u / c + -r.expm1() * law_hat.score_at_level(x_u / c, r)) / (r / 2).exp()
velocity = flow_velocity(x_u, u.expand(len(x)), x_hat)
left = ((noise - x - velocity) * velocity).sum(1)
other = (noise - x - velocity * u / (1 - u)) * velocity * u / (1 - u)
wrong = {"divided by 1 - u": other.sum(1).mean()}
verify("eq-flow-velocity", left, zero, monte_carlo, rejects=wrong)

# %% [markdown]
# Then {eq}`eq-flow-matching`. The left side is a difference quotient of the flow that the solver finds. A flow that is not rescaled by $c$ is rejected.

# %% tags=["nbval-check-output"]
from companion.page.verify import autograd

u, du = torch.tensor(0.4).double(), 1e-4
c, r = straight_line(torch.stack([u - du, u, u + du]))
tight = {"rtol": 1e-11, "atol": 1e-11}
path = probability_flow(law_hat.score_at_level, places[0], r, **tight)
x_u = c[:, None, None] * path
left = (x_u[2] - x_u[0]) / (2 * du)
x_t, score = path[1], law_hat.score_at_level(path[1], r[1])
x_hat = (x_t + -r[1].expm1() * score) / (r[1] / 2).exp()
right = flow_velocity(x_u[1], u.expand(8), x_hat)
wrong = {"not rescaled": (path[2] - path[0]) / (2 * du)}
rule = autograd.within(1e-5)
verify("eq-flow-matching", left, right, rule, rejects=wrong)

# %% [markdown]
# So nothing has to be learned anew for it: noise, picture, $v$, score and this velocity are five readings of one network ({ref}`ex-velocity` turns a score into a velocity). What differs is the clock, and which error the loss weighs how much.
#
# *Sources: E09.*

# %% [markdown]
# (sec-what-must-hold)=
# ## When samples follow the data
#
# {ref}`The last chapter <sec-ddpm-samples>` found three conditions for a chain with noise: the end is noise, the variances are right, and the network is exact where it counts {eq}`eq-decoder-limit`. Sampling has added a fourth: enough steps for the sampler. Which of them hurts? On the ring two can be told apart, the steps and the network. The cell draws 3000 points with the exact denoiser and with the trained network, in 100, 20 and 5 steps. It measures three things. How wide do the humps come out? This is the variance around the nearest center, relative to that of the data, estimated from the median of the distances: a few far points cannot rule it as they would a mean. How many points stray, farther than four standard deviations from every center? And how many are in the wrong hump? (The ring that was trained on has equal weights. Of 3000 points, chance alone puts about 2 percent in the wrong hump.)


# %%
def ring_report(x):
    """Relative variance by the median, share of stray points, share in the wrong hump."""
    off = (x[:, None] - halved[0]).square().sum(2).min(1).values / (2 * 0.125**2)
    width = off.median() / torch.tensor(2.0).log()
    wrong_hump = 0.5 * (shares(x) - 1 / 8).abs().sum()
    return width.item(), (off > 8).double().mean().item(), wrong_hump.item()


_ = torch.manual_seed(5)
ring_starts = torch.randn(3000, 2)
report, points_of, two = {}, {}, {"exact": exact_hat, "network": toy.denoiser}
for S in (100, 20, 5):
    sub = s.evenly(S)
    for how in ("beta-tilde", "DDIM"):
        cells = [f"{S:3} steps, {how:10}"]
        for who, d in two.items():
            _ = torch.manual_seed(6)
            *_, points_of[S, how, who] = kinds[how](d, sub, ring_starts)
            report[S, how, who] = ring_report(points_of[S, how, who])
            width, stray, wrong_hump = report[S, how, who]
            cells += [f"{who}: {width:5.2f}, stray {stray:5.1%}, wrong {wrong_hump:.1%}"]
        print("   ".join(cells))

# %% [markdown]
# How far out do the stray points of the network lie, and where did they start?

# %%
for how in ("beta-tilde", "DDIM"):
    radius = points_of[100, how, "network"].norm(dim=1)
    print(f"{how:10} farthest point at radius {radius.max():.1f}", end="")
    print(f", beyond radius 2: {(radius > 2).sum()} of 3000")
far_out = ring_starts[radius > 2].norm(dim=1).min()
print(f"those of DDIM started at radius {far_out:.1f} or more, ", end="")
print(f"where noise is with probability {(-(far_out**2) / 2).exp():.1%}")

# %% tags=["nbval-check-output"]
for who in two:
    widths = [report[100, how, who][0] for how in ("beta-tilde", "DDIM")]
    fair = min(widths) > 0.6 and max(widths) < 1.4
    print(f"{who}, all steps: width within 40 percent: {fair}")
print("exact, five steps: above 5 times:", report[5, "DDIM", "exact"][0] > 5)
of_network = {how: points_of[100, how, "network"] for how in ("beta-tilde", "DDIM")}
reach = {how: x.norm(dim=1).max() for how, x in of_network.items()}
print("network, DDIM: some points beyond radius 2:", bool(reach["DDIM"] > 2))
print("network, fresh noise: none:", bool(reach["beta-tilde"] < 2))
worst = max(values[2] for values in report.values())
print("in the wrong hump, at most 8 percent:", worst < 0.08)

# %% [markdown]
# Five steps spoil the detail, even with an exact denoiser: the points lie between the humps, and about half of them are strays. With all steps, both samplers come out a little narrow, as {ref}`computed above <sec-variance-recursion>`, and most points of the network are as good as those of the exact denoiser. The difference is in a few. DDIM throws some points far out of the ring. They started where noise is rarely found, so the network has hardly been trained there, and all steps together do not repair what it does. With fresh noise no point is lost: the chain comes away from such a place, and forgets it {eq}`eq-push`.
#
# The shares of the humps come out right in all rows. That says little: the noise has no direction, the humps have equal weights, and a sampler would have to break this symmetry to be wrong. The {ref}`ring with unequal weights <sec-langevin>` is the harder test.
#
# **In color.** The samplers do not know what a picture is. Here they draw colored noise of $32 \times 32$ pixels with a network that was never trained:

# %% tags=["nbval-check-output"]
from companion.ddpm import image_ddpm
from companion.networks.unet import mnist_unet

color = image_ddpm(mnist_unet((3, 32, 32))).requires_grad_(False)
*_, drawn_color = ddim_sample(color.denoiser, schedule.evenly(2), torch.randn(2, 3, 32, 32))
print("pictures, channels, height, width:", tuple(drawn_color.shape))

# %% [markdown]
# To draw photographs the network must be trained, which is a matter of a GPU. And it must be sampled: {cite:t}`song2021ddim` count about 20 hours for 50,000 pictures of this size with all thousand steps, on one graphics card (a 2080 Ti). Fifty steps take a twentieth of that.
#
# *Sources: A36, B28.*

# %% [markdown]
# (sec-sampling-wrong)=
# ## What goes wrong
#
# **The steps are skipped, but the betas stay.** Who takes every fifth time must take the $\beta_t$ of the larger steps, $1 - \bar\alpha_t / \bar\alpha_{t-5}$, from the products. With the original $\beta_t$ each step removes a quarter to a third of what it should. **The steps are counted anew, and the network is told the count.** Then it believes to see much less noise. Both mistakes run without complaint. The cell makes them on the ring, in twenty steps.


# %% tags=["nbval-check-output"]
def told_the_count(x, t):
    """The exact denoiser, told 1 to 20 in place of 5, 10, ..., 100."""
    return exact_hat(x, torch.div(t, 5, rounding_mode="floor"))


def exact_noise(x, t):
    return noise_from_x_0(s, x, t, exact_hat(x, t))


_ = torch.manual_seed(0)
fifth, x_T = s.strided(range(5, 101, 5)), torch.randn(1500, 2)
*_, as_it_should = ddpm_sample(exact_hat, fifth, x_T)
old_betas = algorithm_2(exact_noise, x_T, s.posterior_var**0.5, range(100, 0, -5))
*_, miscounted = ddpm_sample(told_the_count, fifth, x_T)
spoiled = {"right": as_it_should, "old betas": old_betas, "told the count": miscounted}
taken = s.beta[fifth.times[1:]] / fifth.beta[1:]
print(f"old betas over the right ones: {taken.min():.2f} to {taken.max():.2f}")

# %% mystnb={"image": {"alt": "Three panels of points. First, as it should be: eight humps on a ring, with a few points between them. Second, old betas: a broad noisy ring in which the humps run together. Third, told the count: an even broader one."}, "figure": {"caption": "Twenty steps with the exact denoiser: as it should be, and with two mistakes.", "name": "fig-mistakes"}}
fig, panels = plots.figure(3, height=2.7)
for panel, (name, points) in zip(panels, spoiled.items(), strict=True):
    _ = plots.scatter(
        points.clamp(-3, 3),
        x_label=f"$x_1$, {name}",
        y_label="$x_2$",
        bounds=(-3, 3, -3, 3),
        axes=panel,
    )
fig

# %% [markdown]
# In {numref}`fig-mistakes` both leave a ring that can be recognized, with humps that drown in noise. With pictures one would blame the network.

# %% tags=["nbval-check-output"]
for name, points in spoiled.items():
    off = (points[:, None] - halved[0]).square().sum(2).min(1).values.mean() / 2
    far_off = off > 2 * 0.125**2
    print(f"{name:15} more than twice as wide: {bool(far_off)}")

# %% [markdown]
# **Noise in the last step.** Line 3 of the algorithm sets $\xi = 0$ at $t = 1$. If it is forgotten, and the variance is the wide one, each pixel keeps noise of the standard deviation $\sqrt{\beta_1}$, with the $\beta_1$ of the last step that is taken. (The narrow one forgives it, since $\tilde\beta_1 = 0$.) From $t = 1$ that is a hundredth and cannot be seen. If the steps begin at $t = 100$, it can:

# %% tags=["nbval-check-output"]
for sub in (schedule, schedule.evenly(10), schedule.strided(range(100, 1001, 100))):
    print(f"{sub.num_steps:4} steps, the last from t = {sub.times[1]:3}", end=": ")
    print(f"standard deviation {sub.beta[1] ** 0.5:.3f}")

# %% [markdown]
# **The score without its factor.** Who takes $-\varepsilon_\theta$ for the score, as the slides have it (E11), climbs too slowly by the factor $\sqrt{1 - \bar\alpha_t}$. Langevin dynamics at a level $t$ then samples $q(x_t)$ to the power of that factor. At $t = 100$ of the thousand the factor is 0.32, and for normal data the variance comes out three times too large:

# %% tags=["nbval-check-output"]
_ = torch.manual_seed(0)
t, h = torch.full((2000,), 100), 0.05
V = schedule.alpha_bar[100] * 0.25 + schedule.noise_var[100]


def misread(x):
    return -noise_from_x_0(schedule, x, t, normal_data(0.25)(x, t))


*_, x = langevin_sample(misread, V**0.5 * torch.randn(2000, 1).double(), h, 200)
threefold = 2.7 * V < x.var() < 3.6 * V
print("variance between 2.7 and 3.6 times the right one:", bool(threefold))
print(f"the factor: {schedule.noise_var[100] ** 0.5:.2f}")

# %% [markdown]
# (sec-sampling-exercises)=
# ## Exercises
#
# Replace the three dots by your answer and run the cell.

# %% tags=["nbval-check-output"]
from companion.page.exercises import ddpm_sampling as exercises

# %% [markdown]
# ```{exercise-start} One step of DDIM
# :label: ex-ddim-step
# ```
# `noise` is the estimate of the noise in `x_t`. `kept` is $\bar\alpha$ now, `kept_next` that of the time to go to. Write the step.


# %% tags=["nbval-check-output"]
def ddim_step(x_t, noise, kept, kept_next):
    return ...


exercises.check_ddim_step(ddim_step)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-ddim-step
# :label: ex-ddim-step-solution
# :class: dropdown
# ```
# Solve for the picture, and mix anew {eq}`eq-ddim-step`.


# %% tags=["nbval-check-output"]
def ddim_step(x_t, noise, kept, kept_next):
    x_hat = (x_t - (1 - kept) ** 0.5 * noise) / kept**0.5
    return kept_next**0.5 * x_hat + (1 - kept_next) ** 0.5 * noise


exercises.check_ddim_step(ddim_step)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} How much is renewed
# :label: ex-renewed
# ```
# A sampler skips from a time with $\bar\alpha$ equal to `kept` down to one with `kept_next`. Its parameter is `eta`. What is the standard deviation of the fresh noise?


# %% tags=["nbval-check-output"]
def fresh_noise(eta, kept, kept_next):
    return ...


exercises.check_fresh_noise(fresh_noise)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-renewed
# :label: ex-renewed-solution
# :class: dropdown
# ```
# The $\beta$ of the large step is $1 - \bar\alpha_t / \bar\alpha_s$, and $\tilde\beta$ follows from {eq}`eq-denoising-posterior`.


# %% tags=["nbval-check-output"]
def fresh_noise(eta, kept, kept_next):
    beta = 1 - kept / kept_next
    return eta * (beta * (1 - kept_next) / (1 - kept)) ** 0.5


exercises.check_fresh_noise(fresh_noise)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} After a push
# :label: ex-push
# ```
# The data are normal with variance `lam`. A chain of DDPM steps is pushed by $\delta$ where $\bar\alpha$ is `kept`. DDIM is pushed in the same way, with steps so small that they do not count. Divide the change of $x_0$ in the DDPM by that in DDIM: what is the ratio?


# %% tags=["nbval-check-output"]
def smaller_by(lam, kept):
    return ...


exercises.check_smaller_by(smaller_by)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-push
# :label: ex-push-solution
# :class: dropdown
# ```
# By the correlation $\varrho_t$ of $x_t$ and $x$, see {eq}`eq-push`. After a push close to the data both samplers leave the same; after one in nearly pure noise the DDPM forgets everything, and DDIM does not.


# %% tags=["nbval-check-output"]
def smaller_by(lam, kept):
    return (kept * lam / (kept * lam + 1 - kept)) ** 0.5


exercises.check_smaller_by(smaller_by)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Two ways to add noise
# :label: ex-two-noises
# ```
# `score(x, sigma)` is the score of the data with noise of standard deviation `sigma` added. Use it to write the score of $x_t$ in a diffusion, where $\bar\alpha_t$ is `kept`.


# %% tags=["nbval-check-output"]
def diffusion_score(score, x_t, kept):
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
# $x_t / \sqrt{\bar\alpha_t} = x + \sigma \varepsilon$ with $\sigma^2 = (1 - \bar\alpha_t) / \bar\alpha_t$. The gradient by $x_t$ is that by $x_t / \sqrt{\bar\alpha_t}$, over $\sqrt{\bar\alpha_t}$.


# %% tags=["nbval-check-output"]
def diffusion_score(score, x_t, kept):
    sigma = ((1 - kept) / kept) ** 0.5
    return score(x_t / kept**0.5, sigma) / kept**0.5


exercises.check_diffusion_score(diffusion_score)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} A step small enough
# :label: ex-small-step
# ```
# The finest detail of some data is normal with standard deviation 0.1. Its variance in Langevin dynamics shall be too large by at most one percent. What is the largest step size $h$?

# %% tags=["nbval-check-output"]
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
# ```{exercise-start} A velocity from a score
# :label: ex-velocity
# ```
# On the straight lines $x_u = (1 - u)\, x + u\, \varepsilon$, let `score` be the gradient of the log-density of $x_u$ at `x_u`. Write the velocity $\mathbb{E}[\varepsilon - x \mid x_u]$.


# %% tags=["nbval-check-output"]
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
# (sec-sampling-summary)=
# ## Summary
#
# - Algorithm 2 is the model's own chain: its line 4 is the posterior with a guess for the picture {eq}`eq-line-four`. The slides leave its $\sigma_t$ open.
# - Denoising without noise contracts, also with a perfect denoiser: for normal data all steps together are the single guess from pure noise {eq}`eq-noiseless`.
# - Training fixes $q(x_t \mid x)$ and nothing else. So a whole family of samplers belongs to one network {eq}`eq-ddim-marginals`. With $\eta = 0$ the noise is carried along {eq}`eq-ddim-step`, and steps can be skipped.
# - For normal data the variance of the samples is a recursion {eq}`eq-variance-recursion`. Few steps lose fine detail, or drown it in noise if the variance is $\beta_t$.
# - Without noise the sampler is a map that can be inverted. With noise it is a controller that forgets a push faster {eq}`eq-push`.
# - The best guess of the noise is the score, times $- \sqrt{1 - \bar\alpha_t}$ {eq}`eq-noise-is-score`. Regression on noise learns it {eq}`eq-denoising-score-matching`, and annealed Langevin dynamics samples with it.
# - The limit of DDIM is a differential equation with the marginals of the diffusion {eq}`eq-continuity`, an exact likelihood {eq}`eq-flow-likelihood`, and another name in other coordinates {eq}`eq-flow-matching`.
#
# **What the sources say, and where they need care.** The slides' Algorithm 2 is right once $\sigma_t$ is chosen; their score lacks a factor (E11). Their annealed Langevin dynamics is right, with letters that mean other things elsewhere, and with an error of order $h$ that they do not mention. The notes say that repeated denoising fails since errors accumulate; it fails with a perfect denoiser as well, and on our digits the result is less a blur than one picture for all starts. They also say that the added noise gives robustness. It does, in the sense of {eq}`eq-push`.
#
# **To read next.** {cite:t}`song2021ddim` and {cite:t}`lu2022` on few steps; {cite:t}`song2019` on annealing; {cite:t}`song2021sde` on continuous time; {cite:t}`lipman2023` on flow matching.
