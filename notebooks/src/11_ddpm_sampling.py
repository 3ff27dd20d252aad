# %% [markdown]
# # Sampling
#
# The network of the last chapter estimates a clean digit from a noisy one. A *sampler* turns it into a generator: it starts from pure noise, calls the network again and again, and ends at the image of a digit. The estimates on the way can be used in many ways, which differ in quality, in speed, and in what else they make possible. This chapter derives the common ones and compares them. Here are four, all from the same eight noise images.

# %% tags=["setup", "hide-input"]
# The set-up cell: `make sync` writes it.

# %% tags=["unseen"]
import torch

from companion.data import to_unit
from companion.page import plots
from companion.samplers import ddim_sample, ddpm_sample
from companion.schedule import cosine_schedule
from companion.zoo import pretrained

# %% tags=["serves"]
denoiser, digit_schedule = pretrained("ddpm-mnist-joint").denoiser, cosine_schedule(1000)
_ = torch.manual_seed(0)
noise_images = torch.randn(16, 1, 28, 28)
start = noise_images[:8]

# %% [markdown]
# The first row is the network's estimate $\hat{x}$ from the noise alone, in one call. The other rows go down from $t = 1000$ in steps. The second takes fifty steps and adds no noise on the way; the third takes fifty and adds fresh noise after each; the fourth takes twenty steps of another kind, again without fresh noise.

# %% tags=["serves"]
fifty, twenty = digit_schedule.evenly(50), digit_schedule.evenly(20)
fresh_50 = list(ddpm_sample(denoiser, fifty, noise_images))
noiseless_50 = list(ddpm_sample(denoiser, fifty, start, torch.zeros(51)))
ddim_20 = list(ddim_sample(denoiser, twenty, start))
with torch.no_grad():
    at_once = denoiser(start, torch.full((8,), 1000))

# %% tags=["figure"] mystnb={"image": {"alt": "Four rows of eight images. First row: eight times the same gray blur. Second row: eight times nearly the same thin digit. Third row: eight different digits. Fourth row: eight different digits."}, "figure": {"caption": "One network and the same eight noise images, used in four ways. Without fresh noise the steps of the second row all end at one image, and those of the fourth do not.", "name": "fig-four-ways"}}
ways = {
    "at once": at_once,
    "no noise": noiseless_50[-1],
    "fresh noise": fresh_50[-1][:8],
    "20 steps": ddim_20[-1],
}
plots.image_rows({name: to_unit(x) for name, x in ways.items()})

# %% [markdown]
# The first row of {numref}`fig-four-ways` is a blur, and rightly so: the best estimate from pure noise is the mean of the data. The third row shows what diffusion models are known for. Why is the second row eight times the same image? {eq}`eq-noiseless` will answer that for Gaussian data, and {eq}`eq-ddim-step` will say what the fourth row does differently. (The network, `ddpm-mnist-joint`, is trained as in {doc}`chapter 10 </notebooks/10_ddpm_training>`, and half of the time it is given the class of the digit. In this chapter it is not given the class unless the text says so.)

# %% tags=["unseen"]
from functools import partial

from torchvision.utils import make_grid

from companion import data
from companion.data import SCENE_FACTORS, nearest_scenes, render_scenes, to_symmetric
from companion.denoisers import MixtureDenoiser, gaussian_denoiser
from companion.interpolation import spherical_interpolation
from companion.metrics import frechet_distance, jackknife, proportion, r_squared
from companion.page.exercises import ddpm_sampling as exercises
from companion.page.show import show
from companion.page.sliders import Film
from companion.page.verify import exact, monte_carlo, verify
from companion.samplers import (
    ancestral_sample,
    ddim_invert,
    ddim_posterior,
    dpm_solver_sample,
    reverse_sample,
)
from companion.schedule import (
    add_noise,
    linear_schedule,
    mean_from_x_0,
    noise_from_x_0,
    x_0_from_noise,
)
from companion.zoo.architectures import told
from companion.zoo.weights import load_record

# %% tags=["unseen"]
from companion.zoo.yardstick import (
    digit_features,
    excess_of_votes,
    feature_distance,
    real_digit_distance,
    reference,
    unrecognized,
)

# %% tags=["held", "nbval-check-output", "mnist"]
deviation = {name: x.var(0).sum().sqrt() for name, x in ways.items()}
alike = deviation["no noise"] < 0.3 * deviation["fresh noise"]
print("without noise, the eight are alike:", bool(alike))
print("at once, too:", bool(deviation["at once"] < 0.3 * deviation["fresh noise"]))
halfway, noisy = (x[25][:8].var(0).sum().sqrt() for x in (noiseless_50, fresh_50))
print("halfway without noise, they are nearly one point:", bool(halfway < 0.1 * noisy))
different = deviation["20 steps"] > 0.6 * deviation["fresh noise"]
print("in twenty steps of the other kind, they are not:", bool(different))

# %% [markdown]
# (sec-algorithm-2)=
# ## Algorithm 2
#
# The reverse steps of the model were defined in chapter 9 {eq}`def-reverse-step`: take the posterior of $x_{t-1}$ given $x_t$ and the image {eq}`eq-denoising-posterior`, and put the estimate $\hat{x}$ where it has the image. To sample, draw these steps one after the other. {cite:t}`ho2020` write the step with the predicted noise $\varepsilon_\theta$ in place of $\hat{x}$. As before, $\beta_t$ is the variance of the noise in step $t$, $\alpha_t = 1 - \beta_t$, and $\bar\alpha_t = \alpha_1 \cdots \alpha_t$.
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
# Line 4 is a draw from the step {eq}`def-reverse-step`. To see this, write its mean $\tilde\mu_t(x_t, \hat{x})$ with the noise: with $\hat{x} = (x_t - \sqrt{1 - \bar\alpha_t}\, \varepsilon_\theta) / \sqrt{\bar\alpha_t}$,
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
# $$ (eq-line-four-proof)
#
# $\square$
# :::
#
# **Check.** Both sides of {eq}`eq-line-four`, and of the chain of equations in the proof, are computed at all thousand times of the linear schedule. The check rejects the fraction without its root, the line without the division by $\sqrt{\alpha_t}$, and the second fraction of the proof with $\bar\alpha_t$ in place of $\bar\alpha_{t-1}$.

# %% tags=["serves"]
schedule = linear_schedule(1000)  # in double precision
_ = torch.manual_seed(0)
t = schedule.steps
x_t, noise_hat = torch.randn(2, 1000, 1).double()
x_hat = x_0_from_noise(schedule, x_t, t, noise_hat)
left = mean_from_x_0(schedule, x_t, t, x_hat)
alpha, beta = schedule.alpha[1:, None], schedule.beta[1:, None]
noise_var, noise_var_before = schedule.noise_var[1:, None], schedule.noise_var[:-1, None]
inner = x_t - beta / noise_var**0.5 * noise_hat
no_root = (x_t - beta / noise_var * noise_hat) / alpha**0.5
of_x_hat = schedule.alpha_bar[:-1, None] ** 0.5 * beta / noise_var
first_part = of_x_hat / schedule.alpha_bar[1:, None] ** 0.5
both_parts = first_part + alpha**0.5 * noise_var_before / noise_var

# %% tags=["check", "nbval-check-output"]
rule = exact.within(1e-8)
wrong = {"no root": no_root, "no division": inner}
verify("eq-line-four", left, inner / alpha**0.5, rule, rejects=wrong)
wrong = {"one time later": first_part + alpha**0.5}
verify("eq-line-four-proof", both_parts, alpha**-0.5, rule, rejects=wrong)

# %% [markdown]
# Here is the algorithm in five lines of code. We run it beside the companion's `ddpm_sample`, with the same random numbers and with the network of chapter 10 for points in the plane, which has a hundred steps.


# %%
toy = pretrained("ddpm-toy2d")
s = toy.schedule


def algorithm_2(network, x, sigma, times=range(100, 0, -1)):
    for t in times:
        xi = torch.randn_like(x) if t > times[-1] else 0
        mixed = s.beta[t] / s.noise_var[t] ** 0.5 * network(x, torch.full((len(x),), t))
        x = (x - mixed) / s.alpha[t] ** 0.5 + sigma[t] * xi
    return x


# %% tags=["held", "nbval-check-output"]
x_T = torch.randn(500, 2)
_ = torch.manual_seed(1)
by_hand = algorithm_2(toy.denoiser.network, x_T, s.posterior_var**0.5)
_ = torch.manual_seed(1)
*_, by_companion = ddpm_sample(toy.denoiser, s, x_T)
print("the same points:", torch.allclose(by_hand.float(), by_companion, atol=1e-3))

# %% [markdown]
# The companion's samplers are Python generators: they yield $x_T, \dots, x_0$ one after the other, and the last is the sample. All of them are `reverse_sample` with other coefficients. (In the library diffusers a sampler is a *scheduler*, and the number of steps is `num_inference_steps`. The tests of the package compare `ddpm_sample`, `ddim_sample` and `dpm_solver_sample` with diffusers' `DDPMScheduler`, `DDIMScheduler` and `DPMSolverMultistepScheduler`, with the same noise; no step differs by more than $10^{-5}$.)

# %% tags=["shown", "nbval-check-output"]
show(reverse_sample, docstring=False)

# %% [markdown]
# **Which $\sigma_t$?** Line 4 leaves it open. {ref}`Chapter 9 <sec-exact-gap>` compared three candidates by their bounds. If the image is known, the variance of the step is $\tilde\beta_t$, that of the posterior {eq}`eq-denoising-posterior`. If the data are standard Gaussian, it is $\beta_t$. For Gaussian data with a variance between 0 and 1 the best value lies between these two {eq}`eq-optimal-variance`; for other data it has to be learned. In a chain of a thousand small steps the two differ little, except next to the data:

# %% tags=["nbval-check-output"]
for t in (2, 3, 10, 100, 1000):
    ratio = (schedule.posterior_var[t] / schedule.beta[t]).sqrt()
    print(f"t = {t:4}: sqrt(beta-tilde) is {ratio:.4f} of sqrt(beta)")

# %% [markdown]
# If steps are skipped, the two variances differ by more, and {ref}`the choice matters <sec-variance-recursion>`.
#
# **What you can say now.** Algorithm 2 is the learned reverse chain, written with the noise; its $\sigma_t$ is a choice.
#
# *Sources: B27.*

# %% [markdown]
# (sec-why-noise)=
# ## Why noise must be injected
#
# Line 4 removes noise and then adds some. Why not only denoise, again and again? One might expect that each denoiser errs a little, and that the errors accumulate. We can test this with a denoiser that makes *no* errors: if the samples are still wrong, they are not needed for that.
#
# Let the data be Gaussian, $x \sim \mathcal{N}(0, \lambda)$, and write $V_t = \bar\alpha_t \lambda + 1 - \bar\alpha_t$ for the variance of $x_t$. The exact denoiser is linear, $\mathbb{E}[x \mid x_t] = \sqrt{\bar\alpha_t}\, \lambda\, x_t / V_t$. The mean of the reverse step is linear as well, and so are any number of such steps without noise:
#
# $$
# \mathbb{E}[x_{t-1} \mid x_t] = \sqrt{\alpha_t}\, \frac{V_{t-1}}{V_t}\; x_t , \qquad \text{all } T \text{ steps:} \quad x_0 = \frac{\sqrt{\bar\alpha_T}\, \lambda}{V_T}\; x_T = \mathbb{E}[x \mid x_T] .
# $$ (eq-noiseless)
#
# :::{dropdown} Proof
# $\mathbb{E}[x_{t-1} \mid x_t]$ is linear with the slope $\mathrm{Cov}(x_{t-1}, x_t) / V_t = \sqrt{\alpha_t}\, V_{t-1} / V_t$. In the product over $t$ all $V_t$ but the first and the last cancel, and $V_0 = \lambda$. $\square$
# :::
#
# So a thousand perfect steps end where a single call leads: at the best estimate from pure noise, which is nearly the mean of the data. For $\lambda = 1$ the variance of the samples is $\bar\alpha_T$ instead of 1. No error has accumulated. Each step takes a conditional mean; these means are linear, so the mean of a mean is again one.
#
# **Check.** `ddpm_sample` without noise is compared with {eq}`eq-noiseless`, for three variances of the data. The check rejects samples with the variance of the data, and $\bar\alpha_T$ in place of its root.


# %%
def normal_data(lam):
    """The exact denoiser of N(0, lam), or of one such Gaussian in each dimension."""
    lam = torch.atleast_1d(torch.as_tensor(lam).double())
    return gaussian_denoiser(schedule, torch.zeros(len(lam)).double(), torch.diag(lam))


lam = torch.tensor([0.0025, 0.25, 1.0]).double()
alpha_bar_T = schedule.alpha_bar[-1]
V_T = alpha_bar_T * lam + 1 - alpha_bar_T
x_T = torch.randn(5, 3).double()
*_, x_0 = ddpm_sample(normal_data(lam), schedule, x_T, torch.zeros(1001))

# %% tags=["check", "nbval-check-output"]
wrong = {"variance of the data": lam**0.5 * x_T, "no root": alpha_bar_T * lam / V_T * x_T}
verify("eq-noiseless", x_0, alpha_bar_T**0.5 * lam / V_T * x_T, rejects=wrong)
at_once = normal_data(lam)(x_T, torch.full((5,), 1000))
print("a thousand steps end where one does:", torch.allclose(x_0, at_once))
print(f"variance 1 of the data has become {alpha_bar_T:.1e}")

# %% [markdown]
# With fresh noise, the optimal $\sigma_t^2$ restores in each step the variance that the mean has lost. So the variance is right at every time, by {eq}`eq-true-moments` read as a recursion, down to $t = 1$, where the last step leaves its noise out. Its variance is $\mathrm{Var}[x_{t-1} \mid x_t]$, what the network cannot know from $x_t$.
#
# Digits are not Gaussian. With our network the chain without noise does end at a digit, but at the same one from all eight starts of {numref}`fig-four-ways`: halfway they have become nearly one point. The ring of eight modes in the plane is a case in between. We sample it with its exact denoiser in a hundred steps, without and with noise:

# %%
ring = data.toy_density("mixture")
shapes = ring.component_distribution
halved = shapes.mean / 2, torch.diag_embed(shapes.variance) / 4  # as it was trained
exact_hat = MixtureDenoiser(s, ring.mixture_distribution.probs, *halved)
x_T = torch.randn(2000, 2)
*_, noiseless = ddpm_sample(exact_hat, s, x_T, torch.zeros(101))
*_, drawn = ddpm_sample(exact_hat, s, x_T)

# %% tags=["figure"] mystnb={"image": {"alt": "Two panels. Left, without noise: eight thin arcs on a ring that is too small. Right, with noise: eight round clusters on a ring."}, "figure": {"caption": "Two thousand points sampled with the exact denoiser from the same starts. Without noise (left) the modes are too thin and too near to the center.", "name": "fig-noise-or-not"}}
fig, panels = plots.figure(2, height=3.4)
box = (-2, 2, -2, 2)
for panel, points, name in zip(panels, (noiseless, drawn), ("no", "fresh"), strict=True):
    _ = plots.scatter(
        points, x_label=f"$x_1$, {name} noise", y_label="$x_2$", bounds=box, axes=panel
    )
fig

# %% [markdown]
# In {numref}`fig-noise-or-not` all eight modes are reached even without noise, as the symmetry of the ring demands. But without noise the points lie nearer to the mean of the data in the middle, and along the radius the modes have less than half of their width.

# %% tags=["numbers", "nbval-check-output"]
radius = {"no noise": noiseless.norm(dim=1), "fresh noise": drawn.norm(dim=1)}
print("modes of the data at radius 1.25")
print(
    "with fresh noise, mean radius of the points at 1.2 to 1.3:",
    bool(1.2 < radius["fresh noise"].mean() < 1.3),
)
print("without, mean radius below 1.15:", bool(radius["no noise"].mean() < 1.15))
narrower = radius["no noise"].std() < 0.4 * radius["fresh noise"].std()
print("without, less than half as wide along the radius:", bool(narrower))

# %% [markdown]
# **What you can say now.** Denoising again and again without noise contracts, even with a perfect denoiser; Gaussian data end at the mean given $x_T$. Noise of the right variance restores theirs.
#
# *Sources: C02.*

# %% [markdown]
# (sec-ddim)=
# ## DDIM: carry the noise along
#
# Can one do without fresh noise and still keep the variance? Training leaves room for that. The loss {eq}`def-simple-loss` contains $q(x_t \mid x)$ for single times $t$, and no steps between them. So the same trained network serves *every* inference model with the same $q(x_t \mid x)$, whatever its steps are, and there are many such models {cite:p}`song2021ddim`. Choose numbers $0 \le s_t^2 \le 1 - \bar\alpha_{t-1}$ and let
#
# $$
# q_s(x_{t-1} \mid x_t, x) = \mathcal{N}\Big( \sqrt{\bar\alpha_{t-1}}\; x + \sqrt{1 - \bar\alpha_{t-1} - s_t^2}\;\; \frac{x_t - \sqrt{\bar\alpha_t}\, x}{\sqrt{1 - \bar\alpha_t}} ,\; s_t^2\, I \Big) .
# $$ (def-ddim-posterior)
#
# The fraction is the noise in $x_t$. So the step scales the image as $x_{t-1}$ requires, keeps a part of the noise, and renews the rest: $s_t^2$ is the variance of the fresh noise.
#
# :::{prf:theorem} One family, the same marginals
# :label: thm-ddim
# Let $x_T \sim q(x_T \mid x)$, and let the steps be {eq}`def-ddim-posterior`. Then for every choice of the $s_t$, and all $t$,
#
# $$
# x_t \mid x \;\sim\; \mathcal{N}\big( \sqrt{\bar\alpha_t}\, x,\; (1 - \bar\alpha_t)\, I \big) .
# $$ (eq-ddim-marginals)
# :::
#
# :::{dropdown} Proof
# By induction from $T$ down. If it holds at $t$, the fraction in {eq}`def-ddim-posterior` is $\mathcal{N}(0, I)$ given $x$. So $x_{t-1}$ has the mean $\sqrt{\bar\alpha_{t-1}}\, x$, and the variance is $(1 - \bar\alpha_{t-1} - s_t^2) + s_t^2$. $\square$
# :::
#
# The usual choice is $s_t^2 = \eta^2\, \tilde\beta_t$ with a parameter $\eta \ge 0$. With $\eta = 1$ the step is the posterior of the DDPM. With $\eta = 0$ no step is random; the sampler is then called {term}`DDIM`. The proof does not use that the times are neighbors. So steps may be skipped: take any sub-sequence of the times, with $\bar\alpha$ of the chosen times. In the companion, `schedule.strided(times)` makes such a schedule and `schedule.evenly(20)` one of twenty evenly spaced times. Such a schedule remembers which time the network has to be given.
#
# **Check.** 50,000 chains start from one $x$ and take four large steps; mean and variance at the lowest time are compared with {eq}`eq-ddim-marginals`, for three values of $\eta$. For $\eta > 0$ the check rejects fresh noise that is added while all of the old noise is kept; for $\eta = 0$, the mean of the DDPM without its noise.

# %% tags=["serves"]
_ = torch.manual_seed(0)
five = schedule.strided([100, 250, 400, 600, 1000])
x = torch.tensor(1.5).double()


def run_down(q):
    """Chains from one x, down to the lowest time of the schedule."""
    x_t = five.alpha_bar[-1] ** 0.5 * x + five.noise_var[-1] ** 0.5 * torch.randn(50_000).double()
    for t in range(5, 1, -1):
        fresh = q.var[t] ** 0.5 * torch.randn(50_000).double()
        x_t = q.of_x_0[t] * x + q.of_x_t[t] * x_t + fresh
    return x_t


# %% tags=["serves"]
right = torch.stack([five.alpha_bar[1] ** 0.5 * x, five.noise_var[1]])
no_noise = ddim_posterior(five, 1.0)
contracted = run_down(no_noise._replace(var=0 * no_noise.var))
rejected = {0.0: {"DDPM, no noise": torch.stack([contracted.mean(), contracted.var()])}}
moments = {}
for eta in (0.0, 0.5, 1.0):
    q = ddim_posterior(five, eta)
    x_t = run_down(q)
    moments[eta] = torch.stack([x_t, (x_t - right[0]) ** 2], 1)
    rejected.setdefault(eta, {"added on top": right + torch.stack([0 * x, q.var[2]])})

# %% tags=["check", "nbval-check-output"]
for eta, left in moments.items():
    verify("eq-ddim-marginals", left, right, monte_carlo, rejects=rejected[eta])

# %% [markdown]
# To sample, put $\hat{x}$ in place of $x$. With $\hat\varepsilon = (x_t - \sqrt{\bar\alpha_t}\, \hat{x}) / \sqrt{1 - \bar\alpha_t}$, the predicted noise, a step of DDIM mixes the same two parts, image and noise, with new weights:
#
# $$
# x_{t-1} = \sqrt{\bar\alpha_{t-1}}\; \hat{x} + \sqrt{1 - \bar\alpha_{t-1}}\; \hat\varepsilon .
# $$ (eq-ddim-step)
#
# Line 4 of {prf:ref}`alg-ddpm-sampling` without its noise has the same form, but less of $\hat\varepsilon$. Apart from the number of steps, this is the only difference between the second row of {numref}`fig-four-ways` and the fourth.
#
# **Check.** A step of `ddim_sample` is compared with {eq}`eq-ddim-step`. The check rejects the mean of the DDPM.

# %% tags=["serves"]
_ = torch.manual_seed(0)
film = list(ddim_sample(exact_hat, s, torch.randn(20, 2).double()))
t = torch.full((20,), 60)
before, after = film[100 - 60], film[100 - 59]
x_hat = exact_hat(before, t)
noise_hat = noise_from_x_0(s, before, t, x_hat)
mixed = s.alpha_bar[59] ** 0.5 * x_hat + s.noise_var[59] ** 0.5 * noise_hat

# %% tags=["check", "nbval-check-output"]
wrong = {"mean of the DDPM": mean_from_x_0(s, before, t, x_hat)}
verify("eq-ddim-step", after, mixed, exact.within(1e-8), rejects=wrong)

# %% [markdown]
# **What you can say now.** The loss fixes the marginals $q(x_t \mid x)$ only, so one network serves a family of samplers; DDIM is the one without fresh noise, and it may skip times.

# %% [markdown]
# (sec-variance-recursion)=
# ## What few steps lose
#
# How good is a sampler with few steps? For Gaussian data $x \sim \mathcal{N}(0, \lambda)$ and the exact denoiser this can be computed. All steps are linear, $x_{t-1} = a_t\, x_t + s_t\, \xi$, with a slope $a_t$ that follows from {eq}`def-ddim-posterior` and the linear denoiser. So the samples are Gaussian, and their variance $W_t$ obeys, from $W_T = 1$ on,
#
# $$
# W_{t-1} = a_t^2\; W_t + s_t^2 .
# $$ (eq-variance-recursion)
#
# The last step adds no noise, $s_1 = 0$. (The variance $\beta_t$ does not belong to the family {eq}`def-ddim-posterior`. It has the slope of $\eta = 1$, and $s_t^2 = \beta_t$.) The samples are right if $W_0 = \lambda$. The recursion gives $W_0$ at no cost, for any sampler and any number $S$ of steps. Here the slopes come from the definition, without the companion's samplers:


# %%
KINDS = {"DDIM": 0.0, "eta 0.5": 0.5, "beta-tilde": 1.0, "beta": 1.0}  # eta


def final_variance(sub, kind, lam, noise=None, on_top=False):
    """Variance of the samples, for Gaussian data of variance lam and their denoiser."""
    alpha_bar, W = sub.alpha_bar, torch.ones_like(lam)
    for t in range(sub.num_steps, 0, -1):
        now, before = alpha_bar[t], alpha_bar[t - 1]
        beta = 1 - now / before
        s2 = KINDS[kind] ** 2 * beta * (1 - before) / (1 - now)
        carried = 1 - before - (0 if on_top else s2)
        of_noise = carried.clamp(min=0) ** 0.5 / (1 - now) ** 0.5
        x_hat = now**0.5 * lam / (now * lam + 1 - now)  # over x_t
        a = before**0.5 * x_hat + of_noise * (1 - now**0.5 * x_hat)
        fresh = beta if kind == "beta" else s2
        W = a**2 * W + ((fresh if noise is None else noise[t]) if t > 1 else 0)
    return W


# %% [markdown]
# **Check.** The recursion is compared with the samplers: 40,000 samples of each, in twenty steps, for $\lambda = 0.25$. The check rejects the variance of the data, which twenty steps do not reach; for the samplers with fresh noise, noise that is added on top of all that is carried; and for DDIM, the steps of the DDPM without their noise.

# %% tags=["serves"]
_ = torch.manual_seed(0)
lam, sub = torch.tensor(0.25).double(), schedule.evenly(20)
x_T, hat = torch.randn(40_000, 1).double(), normal_data(0.25)
squares, recursion = {}, {kind: final_variance(sub, kind, lam) for kind in KINDS}
for kind, eta in KINDS.items():
    q = ddim_posterior(sub, eta)
    q = q._replace(var=sub.beta) if kind == "beta" else q
    *_, x_0 = reverse_sample(hat, sub, x_T, q)
    squares[kind] = x_0[:, 0] ** 2
rejected = {
    kind: {"added on top": final_variance(sub, kind, lam, on_top=True)}
    for kind in KINDS
    if KINDS[kind]
}
no_noise = final_variance(sub, "beta-tilde", lam, torch.zeros(21))
rejected["DDIM"] = {"DDPM, no noise": no_noise}

# %% tags=["check", "nbval-check-output"]
for kind, W in recursion.items():
    print(f"{kind:10} variance {W:.4f}")
    wrong = {"that of the data": lam} | rejected[kind]
    verify("eq-variance-recursion", squares[kind], W, monte_carlo, rejects=wrong)

# %% [markdown]
# DDIM and $\tilde\beta$ lose variance, and $\beta$ gains some. How much depends on the number of steps and on the data. Here is $W_0$ for fine detail, $\lambda = 0.0025$, a standard deviation of 0.05. The row "optimal" has the variances {eq}`eq-optimal-variance`, $\beta_t V_{t-1} / V_t$ with the betas of the large steps.

# %% tags=["numbers", "columns", "nbval-check-output"]
fine, lengths = torch.tensor(0.0025).double(), (10, 20, 50, 100, 1000)
subs = [schedule.evenly(S) for S in lengths]
table = {kind: [final_variance(sub, kind, fine) for sub in subs] for kind in KINDS}
table["optimal"] = []
for sub in subs:
    V = sub.alpha_bar * fine + sub.noise_var
    best = torch.cat([V[:1] * 0, sub.beta[1:] * V[:-1] / V[1:]])
    table["optimal"] += [final_variance(sub, "beta", fine, best)]
print("steps      " + "".join(f"{S:9}" for S in lengths))
for name, row in table.items():
    print(f"{name:10} " + "".join(f"{W:9.5f}" for W in row))
print(f"wanted     {fine:9.5f}")

# %% [markdown]
# In ten steps $\sigma_t^2 = \beta_t$ leaves noise with more than forty times the variance of the detail itself; with all thousand steps it is the best of the four. The optimal variances do equally well at any number of steps (only the noise of the last step is missing). They depend on the data, but a network can learn them {cite:p}`nichol2021`. For comparison, {cite:t}`song2021ddim` report these Fréchet distances (FID, lower is better) on CIFAR-10:
#
# | steps | 10 | 20 | 50 | 100 | 1000 |
# |---|---|---|---|---|---|
# | DDIM, $\eta = 0$ | 13.36 | 6.84 | 4.67 | 4.16 | 4.04 |
# | $\eta = 0.5$ | 16.66 | 8.35 | 5.25 | 4.46 | 4.29 |
# | $\eta = 1$, variance $\tilde\beta$ | 41.07 | 18.36 | 8.01 | 5.78 | 4.73 |
# | variance $\beta$ | 367.43 | 133.37 | 32.72 | 9.99 | 3.17 |
#
# The first table is about the variance of Gaussian data with an exact denoiser, the second about features of photographs with a learned one. Still the pattern is the same. Up to 100 steps the rows have the same order, and $\beta$ is a disaster in few steps and the best with all of them. For other $\lambda$ the order can change, as {numref}`fig-few-steps` shows for twenty steps.

# %% tags=["figure"] mystnb={"image": {"alt": "Four curves over the variance of the data on logarithmic axes. For large variances all are near one or a little below. Towards small variances three curves fall below one, that of beta-tilde lowest, and the one of beta rises far above one."}, "figure": {"caption": "Variance of the samples divided by that of the data, in twenty steps. At 1 the sampler is right; fine detail (left) is lost or drowned in noise.", "name": "fig-few-steps"}}
lams, sub = torch.logspace(-4, 1, 60).double(), schedule.evenly(20)
ratios = {kind: (lams, final_variance(sub, kind, lams) / lams) for kind in KINDS}
plots.curves(
    ratios, x_label="variance of the data", y_label="samples / data", log_x=True, log_y=True
)

# %% [markdown]
# In a Gaussian model of images, coarse structure has a large variance, and every sampler keeps most of it. Fine detail has a small variance. In twenty steps DDIM loses most of the detail, $\tilde\beta$ loses even more, and $\beta$ drowns it in noise.
#
# **With all $T$ steps** the errors fall nearly like $1 / T$ when the chain is made longer. For $\lambda = 0.25$ and the linear schedule, $T$ times the relative error of the variance should then be constant down each column:

# %% tags=["columns", "nbval-check-output"]
print("    T" + "".join(f"{kind:>12}" for kind in KINDS))
for T in (1000, 2000, 4000):
    finer = linear_schedule(T, 0.1 / T, 20 / T)
    errors = [T * (final_variance(finer, kind, lam) / lam - 1) for kind in KINDS]
    print(f"{T:5}" + "".join(f"{error:12.1f}" for error in errors))

# %% [markdown]
# Only the column of $\tilde\beta_t$ keeps growing, slowly. Each of its steps has too little variance, by $\beta_t - \tilde\beta_t = \bar\alpha_{t-1}\, \beta_t^2 / (1 - \bar\alpha_t)$. Next to the data, where the betas are nearly equal, this is nearly $\beta_1 / t$, and such terms add up to a logarithm. The variance $\beta_t$ comes closest at full length, as in the published table; for such data the bound prefers it as well {eq}`eq-euler-gap`.
#
# **Better steps.** The step {eq}`eq-ddim-step` treats $\hat{x}$ as constant, but $\hat{x}$ changes while $x_t$ moves down. The last two estimates predict the change. Let $h_t = \log \mathrm{SNR}_{t-1} - \log \mathrm{SNR}_t$ be the length of the step, and extrapolate $\hat{x}$ linearly to the middle of the step:
#
# $$
# \bar{x} = \hat{x}(x_t) + \frac{h_t}{2\, h_{t+1}} \big( \hat{x}(x_t) - \hat{x}(x_{t+1}) \big) , \qquad x_{t-1} = \sqrt{\bar\alpha_{t-1}}\; \bar{x} + \sqrt{1 - \bar\alpha_{t-1}}\; \frac{x_t - \sqrt{\bar\alpha_t}\, \bar{x}}{\sqrt{1 - \bar\alpha_t}} .
# $$ (eq-second-order)
#
# This is DPM-Solver++ of second order {cite:p}`lu2022`. It needs no more calls of the network than DDIM, and its error falls with the square of the step length.
#
# **Check.** The steps of `dpm_solver_sample` on the ring are compared with {eq}`eq-second-order`. The check rejects the step of DDIM, and an extrapolation to the end of the step.

# %% tags=["serves"]
_ = torch.manual_seed(0)
half = s.strided(range(5, 101, 5))
film = list(dpm_solver_sample(exact_hat, half, torch.randn(20, 2).double()))
t, h = 12, -half.log_snr.diff()  # h[t - 1] is the length of the step from t
earlier, now = (exact_hat(film[20 - k], half.times[k].expand(20)) for k in (t + 1, t))


def step_with(share):
    x_bar = now + share * h[t - 1] / h[t] * (now - earlier)
    noise_hat = noise_from_x_0(half, film[20 - t], t, x_bar)
    return half.alpha_bar[t - 1] ** 0.5 * x_bar + half.noise_var[t - 1] ** 0.5 * noise_hat


# %% tags=["check", "nbval-check-output"]
wrong = {"DDIM": step_with(0.0), "to the end": step_with(1.0)}
verify("eq-second-order", film[20 - t + 1], step_with(0.5), exact.within(1e-8), rejects=wrong)

# %% [markdown]
# How fast do the errors of both fall? For Gaussian data the exact path is known: with infinitely many steps of DDIM a sample keeps its rank among all samples, so $x_t$ stays proportional to $\sqrt{V_t}$ ({ref}`the next chapter <sec-probability-flow>` proves it). We go from $t = 1000$ to $t = 20$, in steps of equal length in the log signal-to-noise ratio, and measure the error of both samplers.

# %% tags=["numbers", "columns"]
lam, ratio_at = torch.tensor(0.25).double(), schedule.log_snr
print("relative error       DDIM   second order")
first_order, second_order = [], []
for S in (8, 10, 20, 40, 80):
    goals = torch.linspace(ratio_at[20], ratio_at[1000], S + 1)
    times = torch.searchsorted(-ratio_at[1:].contiguous(), -goals).clamp(max=999) + 1
    sub = schedule.strided(times.unique())
    V = sub.alpha_bar * lam + sub.noise_var
    for sampler, off in ((ddim_sample, first_order), (dpm_solver_sample, second_order)):
        *_, near, _ = sampler(hat, sub, torch.ones(1, 1).double())
        off += [near.item() / (V[1] / V[-1]) ** 0.5 - 1]
    print(f"{sub.num_steps - 1:3} steps {first_order[-1]:+16.5f} {second_order[-1]:+12.5f}")

# %% tags=["held", "nbval-check-output"]
orders = [
    (torch.stack(off)[2:-1] / torch.stack(off)[3:]).log2() for off in (first_order, second_order)
]
print("DDIM, from 20 steps on: order between 0.8 and 1.2:", bool((orders[0] - 1).abs().max() < 0.2))
print("second order: above 1.5:", bool(orders[1].min() > 1.5))
print("its sign changes from 8 to 10 steps:", bool(second_order[0] < 0 < second_order[1]))

# %% [markdown]
# From 20 steps on, twice as many steps halve the error of DDIM and divide that of the second order by three to four. With fewer steps an order says nothing yet: the error of the second order changes its sign between 8 and 10 steps, and near its zero, at 10 steps, it is smaller than at 20.

# %% [markdown]
# **What you can say now.** For Gaussian data a recursion says how much fine detail few steps lose or drown in noise. With all steps $\beta_t$ is the best of the four; with few, DDIM loses the least detail.
#
# *Sources: E04.*

# %% [markdown]
# (sec-digits-in-few-steps)=
# ## Digits in few steps
#
# Does the recursion predict what happens to digits? We look at a few, and then measure with many. {numref}`fig-ten-steps` has eight digits by each sampler, in ten steps from the same noise images.

# %% tags=["figure"] mystnb={"image": {"alt": "Four rows of eight digits in ten steps. DDIM and second order: much the same digits in both rows. Beta-tilde: clean digits. Beta: digits covered with gray and white pixels."}, "figure": {"caption": "Ten steps of each of four samplers, from the same noise images. With the variance $\\beta_t$ visible noise remains.", "name": "fig-ten-steps"}}
kinds = {
    "DDIM": ddim_sample,
    "2nd order": dpm_solver_sample,
    "beta-tilde": ddpm_sample,
    "beta": lambda hat, sub, x: ddpm_sample(hat, sub, x, sub.beta),
}
drawn = {
    name: [*kind(denoiser, digit_schedule.evenly(10), start)][-1] for name, kind in kinds.items()
}
plots.image_rows({name: to_unit(x) for name, x in drawn.items()}, tile=0.8)

# %% [markdown]
# The first two rows show much the same digits: without noise on the way the start decides. The last row has noise left, as the recursion predicts for Gaussian data.
#
# A measurement needs more digits than a reader wants to wait for, so they were drawn beforehand by the network of this chapter. Each of the four samplers drew 1000 digits in 10, 20, 50 and 100 steps, all from the same noise images. The record holds the 64 features that the classifier of the last chapter computes from each. The measure is the Fréchet distance of the features from those of the training digits {eq}`def-frechet`, with the bias removed and a standard error, both by the {ref}`jackknife <sec-ddpm-samples>`. Three more are for comparison: samples with all thousand steps of the model; samples by DDIM in 20 steps from the same network when it is given the class of each digit ({doc}`chapter 13 </notebooks/13_diffusion_priors>`); and real digits that no network was trained on.

# %%
seen = {
    name: features.float() for name, features in load_record("ddpm-mnist-joint-steps")[0].items()
}
seen["all"] = digit_features(load_record("ddpm-mnist-joint-samples")[0]["samples"] / 255)
of_class = load_record("ddpm-mnist-joint-guidance")[0]
seen["with class"] = of_class["features"][of_class["scale"].tolist().index(1.0)].float()
far = {name: feature_distance(features) for name, features in seen.items()}
far["real"] = real_digit_distance()

# %% tags=["numbers"]
in_record = ("ddim", "dpm-solver", "beta-tilde", "beta")
names = dict(zip(kinds, in_record, strict=True))
lengths = (10, 20, 50, 100)
of_kind = {name: [far[f"{kind} {S}"] for S in lengths] for name, kind in names.items()}
rest = {"all": "all 1000, variance beta", "with class": "20 of DDIM, with class", "real": "real"}
for name, words in rest.items():
    print(f"{words:24}{far[name].value:6.1f} +- {far[name].standard_error:.1f}")
assert far["all"].value < far["ddim 10"].value

# %% tags=["figure"] mystnb={"image": {"alt": "Four falling curves of Fréchet distance with bands over the number of steps, on logarithmic axes, and two level lines below. The curve of beta starts far above all others. The curves of DDIM and second order flatten early. That of beta-tilde comes down nearly to the upper level line, which stands for all steps. The lower line, 20 steps of DDIM with the class, lies below all curves."}, "figure": {"caption": "Fréchet distance of 1000 digits from the training digits, by number of steps, with bands of two standard errors. Lower is better; the variance $\\beta_t$ is bad in few steps.", "name": "fig-steps-distance"}}
lines = {name: (lengths, [d.value for d in row]) for name, row in of_kind.items()}
bands = {  # two standard errors; a logarithmic axis has no zero
    name: [[max(d.value + k * d.standard_error, 1) for d in row] for k in (-2, 2)]
    for name, row in of_kind.items()
}
lines["all steps"] = ([10, 100], [far["all"].value] * 2)
lines["DDIM 20, class"] = ([10, 100], [max(far["with class"].value, 0.5)] * 2)
fig, (axes,) = plots.figure(height=3.4)
names_of_axes = {"x_label": "steps", "y_label": "Fréchet distance"}
_ = plots.curves(lines, bands=bands, **names_of_axes, log_x=True, log_y=True, axes=axes)
axes.minorticks_off()
_ = axes.set_xticks(lengths, lengths)
fig

# %% [markdown]
# Which differences in {numref}`fig-steps-distance` are larger than their errors? The samples of one length started from the same noise images, so their distances are correlated, and what counts is the standard error of the *difference*. The jackknife gives it if it leaves out the same digits on both sides. We say "closer" where the difference is larger than two such errors.


# %%
to_real = partial(frechet_distance, y=reference())


def closer(a, b):
    """Whether a is closer than b, by two errors of the difference; mean over pairs."""
    pairs = torch.stack([torch.stack([seen[x] for x in names], 1) for names in (a, b)], 1)

    def gap(part):  # of shape (num, 2, pairs, 64)
        far_of = [[to_real(x) for x in side.unbind(1)] for side in part.unbind(1)]
        return (sum(far_of[1]) - sum(far_of[0])) / len(a)

    value, error = jackknife(gap, pairs)
    return value > 2 * error


def at(kind, *lengths):
    return [f"{kind} {S}" for S in lengths]


# %% tags=["numbers", "nbval-check-output", "mnist"]
for S in (10, 20):
    two = ("ddim", "dpm-solver")
    wide = all(closer(at(kind, S), at("beta", S)) for kind in two)
    print(f"{S} steps: DDIM and second order closer than beta: {wide}")
narrow = closer(at("beta-tilde", 20, 50, 100), at("ddim", 20, 50, 100))
print("20, 50, 100 steps together: beta-tilde closer than DDIM:", narrow)
print("all steps closer than 50 of beta-tilde:", closer(["all"], at("beta-tilde", 50)))
print("all steps closer than 20 of DDIM:", closer(["all"], at("ddim", 20)))
print("DDIM gains from 10 to 20 steps:", closer(at("ddim", 20), at("ddim", 10)))
second = any(closer(at("dpm-solver", S), at("ddim", S)) for S in (10, 20, 50, 100))
print("second order closer than DDIM, at some length:", second)
print("20 of DDIM: closer with the class:", closer(["with class"], at("ddim", 20)))

# %% [markdown]
# In ten and twenty steps the variance $\beta_t$ is far behind, as computed and as published. DDIM in 20 steps is worse than the full chain. In the published table DDIM is ahead of $\tilde\beta$ at every length. With this network it is not from 20 steps on, and the second order gains nothing that 1000 digits can show. (That is for even times; {ref}`the next section <sec-which-sampler>` changes them.)
#
# Is the sampler at fault, or the network? The same 20 steps of DDIM, with the same network when it is given the class, come close to the distance of real digits. So the number of steps that a sampler needs depends on what the network is given, too. (The weights are those of one training.)

# %% [markdown]
# **The film.** Play it, or move the slider, to see the fifty steps that drew sixteen digits. On the left is $x_t$, on the right the estimate $\hat{x}(x_t, t)$ at that moment.


# %%
film_16, film_times = torch.stack(fresh_50), fifty.times.tolist()[::-1]


def film_frame(step, film=film_16, at=tuple(film_times)):
    """x_t and the estimate of the image, side by side; at the end both are x_0."""
    x_t, time = film[step], at[step]
    with torch.no_grad():
        x_hat = denoiser(x_t, torch.full((16,), time)) if time else x_t
    left, right = (make_grid(to_unit(x), nrow=4, pad_value=1)[0] for x in (x_t, x_hat))
    return torch.cat([left, torch.ones(len(left), 8), right], 1)


# %% tags=["figure"]
Film(
    range(51),
    film_frame,
    description="steps done",
    alt="Sixteen noisy digits after {} of 50 steps, and the estimates beside them",
    label="{}",
    start=20,
)

# %% [markdown]
# The estimates of these sixteen are blurs at first and then change between several digits. Which digit it will be is decided long before the noise is gone.
#
# *Sources: A36, E04.*

# %% [markdown]
# (sec-which-sampler)=
# ## Which sampler?
#
# Which sampler should one take? The distance compares distributions, so it hardly notices a few images that are not digits. The two judges of chapter 10 notice them, because they look at each image on its own ({ref}`not recognized <sec-ddpm-samples>`). The record holds what they say of 500 images by each of three samplers in ten steps, all from the same noise images. The ten times are chosen in two ways. `evenly` spreads them from 1 to $T$, as above. `trailing` takes equal steps that end at the data, here $t = 100, 200, \dots, 1000$ {cite:p}`lin2024`. A fourth row is drawn by DDIM in 20 steps from the same network when it is given the class.

# %%
rows = {**names, "DDIM, 20 steps, class": "class"}
del rows["beta"]
votes, _ = load_record("ddpm-mnist-joint-times")
share = {
    (row, times): excess_of_votes(votes[f"{name} {times}"].double())
    for row, name in rows.items()
    for times in ("even", "trailing")
}
every_step = unrecognized(load_record("ddpm-mnist-joint-samples")[0]["samples"] / 255)

# %% tags=["columns"]
print("not recognized          even times         trailing times")
for row in rows:
    even, trailing = share[row, "even"], share[row, "trailing"]
    print(f"{row:22}{even.value:7.1%} +- {even.standard_error:.1%}", end="")
    print(f"{trailing.value:14.1%} +- {trailing.standard_error:.1%}")
print(f"{'all 1000 steps':22}{every_step.value:7.1%} +- {every_step.standard_error:.1%}")

# %% tags=["nbval-check-output", "mnist"]
h = -digit_schedule.evenly(10).log_snr.diff()
print(f"even times, last extrapolation: by {h[1] / (2 * h[2]):.1f} times the last change")


def fewer(a, b):
    """Whether both judges recognize more of a than of b, drawn from the same noise, by two errors."""
    gap = votes[b].double() - votes[a].double()
    return bool((gap.mean(1) > 2 * gap.std(1) / gap.shape[1] ** 0.5).all())


print("2nd order: better at trailing times:", fewer("dpm-solver trailing", "dpm-solver even"))
print("DDIM: better at trailing times:", fewer("ddim trailing", "ddim even"))
for a, b in (("dpm-solver", "ddim"), ("beta-tilde", "ddim"), ("beta-tilde", "dpm-solver")):
    print(f"trailing times: {a} better than {b}: {fewer(f'{a} trailing', f'{b} trailing')}")
print("20 steps of DDIM: better with the class than 10 without:", fewer("class even", "ddim even"))

# %% [markdown]
# In ten steps the times matter to the second order. The even times end with a step from $t = 112$ to $t = 1$, which is much longer in the log signal-to-noise ratio than the step before it; there {eq}`eq-second-order` adds more than twice the last change of the estimate. The trailing times avoid this step: from $t = 100$ the sampler goes to the estimate itself. With them the second order is ahead of DDIM. For DDIM, which does not extrapolate, the times make no difference. Both are behind the sampler with fresh noise. All this is for one network and 500 images; the differences count because the rows start from the same noise.
#
# **In twenty steps** fresh noise and the class help, and twice the steps do not replace them ({ref}`experiment <exp-samplers>`, three times 200 images of this network). At trailing times and without a class 17.4 ± 1.3 % of the images of DDIM are not recognized, 17.2 ± 1.3 % of the second order and 12.0 ± 0.7 % of $\tilde\beta_t$; with the class given, 11.4 ± 0.6 %, 11.2 ± 1.0 % and 3.9 ± 0.4 %. (With the class each judge alone sees the lead of $\tilde\beta_t$ by more than two errors, without it one of them.) In 40 steps without a class they are 17.3 ± 1.6 % of DDIM, 13.2 ± 0.6 % of $\tilde\beta_t$. The trailing times help the second order with a class, from 13.3 ± 1.0 % at even times; the other rows change by less than half a percentage point.
#
# **Draw the class first.** Nobody needs to ask for a class: since $p(x) = \sum_y p(y)\, p(x \mid y)$, draw $y$ with the frequencies of the training set, and then the image with this class ({ref}`experiment <exp-samplers>`). The calls are as many as before, and not recognized are 10.5 ± 2.3 % of DDIM and 9.8 ± 1.8 % of the second order, 6.9 ± 2.3 and 7.4 ± 1.8 percentage points fewer than from the same noise without a class. The Fréchet distance falls by 7.0 ± 2.1 and 1.5 ± 1.1.
#
# So the choice depends on what you want, here for digits and this network. (For images of a given class or text {cite:t}`lu2022` report DPM-Solver++ ahead of DDIM in few steps.)
#
# | you want | take |
# |---|---|
# | images in ten or twenty calls | fresh noise with $\tilde\beta_t$, and the class if the network takes one |
# | images of no given class, by DDIM or DPM-Solver++ | draw the class first |
# | few calls of DPM-Solver++ {eq}`eq-second-order` | `trailing` times |
# | no class, and time does not matter | all steps, with $\beta_t$ |
# | a map: the same image from the same noise, {ref}`codes of images <sec-inversion>`, paths between images | DDIM, $\eta = 0$ |
# | a likelihood | {ref}`the ODE of the next chapter <sec-probability-flow>` |
# | few steps with $\beta_t$ | nothing: the noise stays |
#
# **What you can say now.** In few steps this network draws the best digits with fresh noise of variance $\tilde\beta_t$ and with the class. A sampler without fresh noise is a map from noise to images.

# %% [markdown]
# (sec-inversion)=
# ## Inversion
#
# A sampler without noise is a map: each $x_T$ has one $x_0$. Can it be run backwards, from a digit to its noise? That would give each digit a code. A step {eq}`eq-ddim-step` is easily solved for $x_t$ if the network's estimate *at* $x_t$ is known. It is not, so `ddim_invert` takes the estimate at $x_{t-1}$ instead, which is nearly the same if the step is small. The error of going up and down again should then fall with the number of steps. For Gaussian data, where all is linear, it is the same relative error for every $x_0$:

# %% tags=["nbval-check-output"]
print("steps   relative error of x_0, times the steps")
for S in (10, 20, 50, 100, 200, 500):
    *_, x_T = ddim_invert(hat, schedule.evenly(S), torch.ones(1, 1).double())
    *_, back = ddim_sample(hat, schedule.evenly(S), x_T)
    print(f"{S:5} {back.item() - 1:15.4f} {S * (back.item() - 1):12.2f}")

# %% [markdown]
# The last column converges, so the error falls like $1 / S$. On CIFAR-10, {cite:t}`song2021ddim` report mean squared errors of 0.014, 0.0065, 0.0023, 0.0009, 0.0004 and 0.0001 for the same numbers of steps (pixels on $[0, 1]$). Now we invert six test digits, in three numbers of steps:

# %% tags=["figure"] mystnb={"image": {"alt": "Four rows of six digits: the originals, and the same after inversion and sampling in five, ten and thirty steps. All rows show the same digits."}, "figure": {"caption": "Six test digits, and what comes back after inversion and sampling in 5, 10 and 30 steps.", "name": "fig-inversion"}}
test = data.load("mnist", "test")
x = to_symmetric(test.images[:6])
rows, back_errors = {"digits": to_unit(x)}, []
for S in (5, 10, 30):
    *_, x_T = ddim_invert(denoiser, digit_schedule.evenly(S), x)
    *_, back = ddim_sample(denoiser, digit_schedule.evenly(S), x_T)
    rows[f"{S} steps"] = to_unit(back)
    back_errors += [(to_unit(back) - to_unit(x)).square().mean().item()]
plots.image_rows(rows, tile=0.8)

# %% [markdown]
# In {numref}`fig-inversion` five steps return the digit a little dimmer. From ten steps on the eye hardly sees a difference, but the mean squared error still falls:

# %%
print("mean squared error on [0, 1]:", [f"{e:.5f}" for e in back_errors])
assert (back_errors[2] < back_errors[0] and back_errors[2] < 0.01) or (test.name != "mnist")

# %% tags=["held", "nbval-check-output", "mnist"]
print("thirty steps are better than five:", back_errors[2] < back_errors[0])

# %% [markdown]
# **Between two digits.** Each digit now has a code among the noise images, and one can interpolate between codes as in {ref}`chapter 7 <sec-latent-walks>`, along a great circle {eq}`eq-slerp`. For comparison, the second row fades from one digit to the other pixel by pixel.

# %% tags=["figure"] mystnb={"image": {"alt": "Two rows of seven images from one digit to another. Above, most images in between are strokes of a digit. Below, one digit fades out while the other fades in."}, "figure": {"caption": "From one digit to another through the noise (thirty steps of DDIM) and through the pixels. Above, most images in between are strokes; below, two digits overlap.", "name": "fig-noise-walk"}}
share = torch.linspace(0, 1, 7)
ends = x_T[:1], x_T[1:2]
codes_between = spherical_interpolation(*ends, share)[:, 0]
*_, between = ddim_sample(denoiser, digit_schedule.evenly(30), codes_between)
fade = torch.lerp(x[:1], x[1:2], share.view(7, 1, 1, 1))
plots.image_rows({"noise": to_unit(between), "pixels": to_unit(fade)}, tile=0.8)

# %% [markdown]
# If the network and the map were exact, codes of real digits would be draws from $\mathcal{N}(0, I)$. Those of the six digits are not: they are narrower, most of all in the corners, which are black in nearly all digits.

# %%
print(f"mean of the codes {x_T.mean():.2f}, standard deviation {x_T.std():.2f}")
corner = torch.cat([x_T[:, 0, :3, :3].flatten(), x_T[:, 0, -3:, -3:].flatten()])
print(f"in two corners: mean {corner.mean():.2f}, standard deviation {corner.std():.2f}")

# %% tags=["held", "nbval-check-output", "mnist"]
print("narrower than noise, below 0.9:", bool(x_T.std() < 0.9))
print("in the corners below that:", bool(corner.std() < x_T.std()))

# %% [markdown]
# **What you can say now.** DDIM is an invertible map, for Gaussian data up to an error of order $1 / S$. The codes that it found for six digits are narrower than noise.

# %% [markdown]
# (sec-feedback)=
# ## Denoising is feedback
#
# Is denoising a form of feedback control, and does the added noise make it robust? We test this with a push: at time $t$ on the way down, add $\delta$ to $x_t$, and go on with the same random numbers as without it. How much of $\delta$ is left at the end?
#
# For Gaussian data the answer is exact, because the noise cancels in the difference of the two paths and only the slopes multiply. The slopes of the DDPM are those of {eq}`eq-noiseless`, whatever $\sigma_t$ is. So
#
# $$
# \frac{\text{change of } x_0}{\delta} = \frac{\sqrt{\bar\alpha_t}\, \lambda}{V_t} = \varrho_t \sqrt{\frac{\lambda}{V_t}} , \qquad \varrho_t = \sqrt{\frac{\bar\alpha_t\, \lambda}{V_t}} ,
# $$ (eq-push)
#
# where $\varrho_t$ is the correlation of $x_t$ and $x$. DDIM with many small steps leaves $\sqrt{\lambda / V_t}$, since each point keeps its rank. The extra factor $\varrho_t < 1$ is the gain of the samplers with fresh noise. It does not come from the noise itself, for the formula has no $\sigma_t$. It comes from the steps: a sampler that is going to add noise must contract more before it does, and this contraction also reduces a push.
#
# **Check.** Chains are pushed without noise and with the variance $\beta_t$. The check rejects the factor of DDIM.

# %% tags=["serves"]
lam, t_push = torch.tensor([0.0025, 0.25, 4.0]).double(), 400
rest = schedule.strided(range(1, t_push + 1))
here = torch.randn(1, 3).double()
ends = {}
for push in (0.0, 1.0):
    for name, noise_of in {"none": 0 * rest.beta, "beta": rest.beta}.items():
        _ = torch.manual_seed(3)
        *_, ends[name, push] = ddpm_sample(normal_data(lam), rest, here + push, noise_of)
    *_, ends["DDIM", push] = ddim_sample(normal_data(lam), rest, here + push)
change = {n: (ends[n, 1.0] - ends[n, 0.0])[0] for n in ("none", "beta", "DDIM")}
V = rest.alpha_bar[-1] * lam + rest.noise_var[-1]
right, of_ddim = rest.alpha_bar[-1] ** 0.5 * lam / V, (lam / V) ** 0.5

# %% tags=["check", "columns", "nbval-check-output"]
for name in ("none", "beta"):
    verify("eq-push", change[name], right, exact.within(1e-9), rejects={"DDIM's": of_ddim})
print("variance of the data, what is left of a push at t = 400:")
print("           DDPM    DDIM    sqrt(variance / V)")
for values in zip(lam, right, change["DDIM"], of_ddim, strict=True):
    print("{:6.4f} {:8.4f} {:7.4f} {:11.4f}".format(*values))

# %% tags=["figure"] mystnb={"image": {"alt": "Four curves of the push over the steps since. Of fine detail both fall to near zero, that of the DDPM sooner. Of coarse structure both end above one, that of DDIM higher."}, "figure": {"caption": "What is left of a push at $t = 400$, step by step, for fine detail (variance 0.0025) and coarse structure (variance 4).", "name": "fig-return"}}
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
# In {numref}`fig-return` next to nothing is left of a push in a direction in which the data have little variance. Where the data vary much, the push stays; here it even grows.
#
# Do digits show the same? At $t = 700$, where the cosine schedule of this network has about as much noise as the linear one at 400, we lay a gray bar over each of 16 noisy digits and take the rest of the way with fresh noise and by DDIM.


# %%
_ = torch.manual_seed(0)
digits = to_symmetric(test.images[10:26])
x_t = add_noise(digit_schedule, digits, 700, torch.randn_like(digits))
pushed = x_t.clone()
pushed[:, :, 17:20] += 1.0
rest = digit_schedule.strided(range(28, 701, 28))


def finish(sampler, x):
    _ = torch.manual_seed(4)
    *_, x_0 = sampler(denoiser, rest, x)
    return x_0


ends = {"no push": finish(ddpm_sample, x_t), "no push, DDIM": finish(ddim_sample, x_t)}
ends |= {"fresh noise": finish(ddpm_sample, pushed)}
ends |= {"DDIM": finish(ddim_sample, pushed)}
with torch.no_grad():
    ends["at once"] = denoiser(pushed, torch.full((16,), 700))

# %% tags=["figure"] mystnb={"image": {"alt": "Five rows of six digits. First the noisy digits with a faint horizontal bar. Then the digits without a push. With the push and fresh noise the bar is partly bent into strokes; with DDIM it is a straight white bar; with the network called only once it is a blurred one."}, "figure": {"caption": "Six digits, pushed at $t = 700$ by a bar. First row: the noisy images with the bar. Fresh noise bends a part of the bar into strokes; DDIM keeps most of it.", "name": "fig-push"}}
rows = {"pushed": to_unit(pushed[:6] / 1.5)}
rows |= {name: to_unit(x[:6]) for name, x in ends.items() if name != "no push, DDIM"}
plots.image_rows(rows, tile=0.7)

# %% [markdown]
# How much of the bar in {numref}`fig-push` is left? For each of the 16 digits we take those pixels of the bar that are black without the push, so that all brightness there comes from the bar. (A white pixel counts 1.)

# %% tags=["numbers"]
bar = torch.zeros(16, 1, 28, 28, dtype=torch.bool)
bar[:, :, 17:20] = True
left_of_bar = {}
for name, calm in {"fresh noise": "no push", "DDIM": "no push, DDIM"}.items():
    black = bar & (ends[calm] < -0.9)
    bright = torch.where(black, ends[name] - ends[calm], 0.0).flatten(1).sum(1)
    left_of_bar[name] = bright / black.flatten(1).sum(1) / 2
    print(f"{name:12} brightness where the bar met black: {left_of_bar[name].mean():.2f}")
less = left_of_bar["DDIM"] - left_of_bar["fresh noise"]
print(f"difference, digit by digit: {less.mean():.2f} +- {less.std() / 16**0.5:.2f}")

# %% tags=["held", "nbval-check-output", "mnist"]
print(
    "fresh noise leaves less of the bar, by two errors:",
    bool(less.mean() > 2 * less.std() / 16**0.5),
)

# %% [markdown]
# With DDIM more of the bar stays on these 16 digits than with fresh noise. The last row of {numref}`fig-push` is the estimate at the moment of the push, which includes the bar.
#
# **What you can say now.** For Gaussian data the steps of a sampler with fresh noise reduce a push more than those of DDIM, by the factor $\varrho_t$. In this sense denoising is feedback.
#
# *Sources: C14.*

# %% [markdown]
# (sec-what-must-hold)=
# ## When samples follow the data
#
# When do samples have the distribution of the data? {ref}`The last chapter <sec-ddpm-samples>` found three conditions for a chain with noise: the chain ends at noise, the variances are right, and the network is exact where it counts {eq}`eq-decoder-limit`. Sampling adds a fourth: enough steps for the sampler. On the ring we can tell errors of few steps from errors of the network, because the exact denoiser is known. We draw 3000 points with the exact denoiser and with the trained network, in 100, 20 and 5 steps, and measure three things: the variance around the nearest center, relative to that of the components and estimated from the median of the distances; the share of outliers, farther than four standard deviations from every center; and how far the shares of the modes are from equal, as the share of points in a wrong mode. (With 3000 points, chance alone puts about 2 percent in a wrong mode.)


# %%
def ring_report(x):
    """Relative variance by the median, share of outliers, share in the wrong mode."""
    distance, nearest = (x[:, None] - halved[0]).square().sum(2).min(1)
    off = distance / (2 * 0.125**2)
    width = off.median() / torch.tensor(2.0).log()
    shares = torch.bincount(nearest, minlength=8) / len(x)
    wrong_mode = 0.5 * (shares - 1 / 8).abs().sum()
    return width.item(), (off > 8).double().mean().item(), wrong_mode.item()


# %% tags=["numbers"]
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
            width, outlying, wrong_mode = report[S, how, who]
            cells += [f"{who}: {width:5.2f}, outliers {outlying:5.1%}, wrong {wrong_mode:.1%}"]
        print("   ".join(cells))

# %% [markdown]
# With all steps, only DDIM with the network has outliers. How far out do they lie, and where did they start?

# %% tags=["numbers"]
for how in ("beta-tilde", "DDIM"):
    radius = points_of[100, how, "network"].norm(dim=1)
    print(f"{how:10} farthest point at radius {radius.max():.1f}", end="")
    print(f", beyond radius 2: {(radius > 2).sum()} of 3000")
far_out = ring_starts[radius > 2].norm(dim=1).min()
print(f"those of DDIM started at radius {far_out:.1f} or more, ", end="")
print(f"where noise is with probability {(-(far_out**2) / 2).exp():.1%}")

# %% tags=["held", "nbval-check-output"]
for who in two:
    widths = [report[100, how, who][0] for how in ("beta-tilde", "DDIM")]
    fair = min(widths) > 0.6 and max(widths) < 1.4
    print(f"{who}, all steps: variance within 40 percent: {fair}")
print("exact, five steps: above 5 times:", report[5, "DDIM", "exact"][0] > 5)
of_network = {how: points_of[100, how, "network"] for how in ("beta-tilde", "DDIM")}
reach = {how: x.norm(dim=1).max() for how, x in of_network.items()}
print("network, DDIM: some points beyond radius 2:", bool(reach["DDIM"] > 2))
print("network, fresh noise: none:", bool(reach["beta-tilde"] < 2))
worst = max(values[2] for values in report.values())
print("in the wrong mode, at most 8 percent:", worst < 0.08)

# %% [markdown]
# Five steps spoil the detail, even with an exact denoiser: about half of the points are outliers. With all steps, both samplers come out a little narrow, as {ref}`computed above <sec-variance-recursion>` for Gaussian data, with this network as with the exact denoiser. But from the network DDIM puts some points far outside the ring, and from the exact denoiser none. They started where noise is rarely found. With fresh noise, none of the 3000 points is there.
#
# With all steps the shares of the modes are right up to chance, which the symmetry of the ring makes easy. The {ref}`ring with unequal weights <sec-langevin>` of the next chapter is a harder test.
#
# **What you can say now.** Samples follow the data if the chain ends at noise, the variances are right, the steps suffice and the network is exact wherever the chain goes. From one trained network, a few points of DDIM ended far from the data, and none with fresh noise.
#
# *Sources: A36.*

# %% [markdown]
# (sec-color-samples)=
# ## Color that is measured
#
# Is a drawn digit a possible one? Only another network can say. The houses of {ref}`chapter 7 <sec-known-causes>` allow an exact answer: a renderer makes each image from five causes, so a sample can be compared with the *nearest render*. The network `ddpm-scenes` is the U-Net for $3 \times 32 \times 32$ values. It is given the causes as five numbers from $-1$ to 1. In a tenth of the training examples they are dropped, so the network also works without them. Loss and samplers stay as they are. The companion ships 200 samples of each kind, drawn in 25 steps.

# %%
low, high = torch.tensor(list(SCENE_FACTORS.values())).T
houses, _ = load_record("ddpm-scenes-scenes")
ways = ["conditional", "fresh noise", "guided", "unconditional", "VAE"]

# %% tags=["figure"] mystnb={"image": {"alt": "Six rows of ten small colored houses. The first four rows show the same ten houses, alike in color, position and shadow. The fifth row shows other houses, and the last, of the VAE, mostly pale spots of color."}, "figure": {"caption": "Houses asked for by their causes, as the renderer makes them, and as DDIM, the sampler with fresh noise, and DDIM with guidance scale 2 draw them. Below: samples without causes, and samples of the VAE of chapter 7.", "name": "fig-drawn-houses"}}
rows = {"asked for": render_scenes(houses["asked"][:10])}
plots.image_rows(rows | {way: houses[way][:10] / 255 for way in ways}, tile=0.65)

# %% [markdown]
# In {numref}`fig-drawn-houses` the conditional samples look like what was asked for. How close are they? `nearest_scenes` searches for the causes whose render has the least squared distance from an image. It starts from the nearest of 4,096 renders and descends by the method of Levenberg and {cite:t}`marquardt1963`. To test the search, it is given test scenes, rounded to 256 levels like the samples. It must find the causes that they were rendered from.

# %% tags=["numbers"]
off = ((houses["real: causes"] - houses["asked"]).abs() / (high - low)).amax(1)
rounding, limit = (
    houses[f"real: {kind}"].quantile(0.99) for kind in ("distance", "training distance")
)
print(f"cause with the largest error, of {len(off)} test scenes:")
print(f"half of them within {off.median():.2%} of its range, 98 of 100", end="")
print(f" within {off.quantile(0.98):.2%}, all within {off.max():.1%}")
print(f"squared distance from the nearest render, 99 of 100: at most {rounding:.3f}")
print(f"from the nearest training scene, 99 of 100: at most {limit:.1f}")

# %% tags=["held", "nbval-check-output"]
print("98 of 100 within one percent:", bool(off.quantile(0.98) < 0.01))

# %% [markdown]
# The search rarely ends beside the best render, and its error is otherwise far below what we want to measure. The last two numbers serve as limits. The *strict* one is what rounding to 256 levels leaves. The *tolerant* one is the distance at which a test scene practically always has a neighbor among the 60,000 training scenes. Let us call a sample an *impossible house* if every render is farther from it than that. Distances are squared and summed over all 3,072 values.

# %% tags=["numbers", "columns"]
impossible, medians = {}, {}
print("                median distance   within strict limit   impossible houses")
for way in ("real", *ways):
    d = houses[f"{way}: distance"]
    share = impossible[way] = proportion(d > limit)
    medians[way], strict = d.median(), (d <= rounding).double().mean()
    print(f"{way:13} {medians[way]:17.3f} {strict:21.0%} {share.value:14.1%}", end="")
    print(f" ({share.low:.1%} to {share.high:.1%})")

# %% [markdown]
# Are the causes right, too? With $v$ the cause that was asked for, and $\hat{v}$ that of the nearest render, we compute $R^2 = 1 - \sum (v - \hat{v})^2 / \sum (v - \bar{v})^2$.

# %% tags=["numbers"]
r2 = {}
for way in ways[:3]:
    pairs = zip(houses["asked"].T, houses[f"{way}: causes"].T, strict=True)
    r2[way] = dict(zip(SCENE_FACTORS, (r_squared(*pair) for pair in pairs), strict=True))
    print(f"{way}: R^2 of")
    for name, (value, error) in r2[way].items():
        print(f"    {name:10} {value:.5f} +- {error:.5f}")

# %% tags=["held", "nbval-check-output"]
least = min(found.value for of_way in r2.values() for found in of_way.values())
print("R^2 of every cause above 0.95:", least > 0.95)
given = max(impossible[way].value for way in ways[:3])
print("given causes, at most 2 percent impossible:", given <= 0.02)
print("of the VAE, at least 20 percent:", impossible["VAE"].value > 0.2)
farther = medians["VAE"] > 3 * medians["unconditional"]
print("VAE three times as far as diffusion without causes:", bool(farther))
least = min(houses[f"{way}: distance"].min() for way in ways)
print("no sample is a render up to rounding:", bool(least > rounding))

# %% [markdown]
# Given the causes, a sample is nearly a render. Its squared distance of 0.8 is an error of 0.016 in each value, four of the 256 levels. The causes are right, too; the elevation of the camera has the lowest $R^2$. Fresh noise and guidance make little difference here: the causes decide the whole image, so nothing is left to be sampled. (Guidance is the subject of {doc}`/notebooks/13_diffusion_priors`.) Without causes the network has to choose them, and the samples are about twice as far from all renders. (The last column has Wilson's 95 percent intervals {cite:p}`wilson1927`: where none of 200 is impossible, the probability may still be near 2 percent.) The VAE is the plain one of chapter 7, a smaller network with fewer training scenes, and most of its samples are no houses. Is the *relaxed* VAE of that chapter better?

# %%
_ = torch.manual_seed(0)
*_, relaxed = ancestral_sample(pretrained("beta-vae-scenes"), 24)
_, d = nearest_scenes(relaxed.clamp(0, 1))
print(f"24 samples of the relaxed VAE: median distance {d.median():.1f}")

# %% tags=["held", "nbval-check-output"]
between = medians["unconditional"] < d.median() < medians["VAE"]
print("between diffusion without causes and the plain VAE:", bool(between))

# %% [markdown]
# This one is better, and still several times farther from a render than the diffusion model.
#
# Does the network copy its training scenes? If it did, its samples would be closer to them than test scenes are.

# %%
copied = {}
for way in ("real", "unconditional"):
    d = houses[f"{way}: training distance"]
    copied[way] = d.median()
    print(f"{way}: distance from the nearest training scene, median {copied[way]:.1f}")

# %% tags=["held", "nbval-check-output"]
print("samples are no closer:", bool(copied["unconditional"] > 0.9 * copied["real"]))

# %% [markdown]
# In the median they are not: they are as far from the training set as new scenes are.
#
# What goes wrong in a sample? {numref}`fig-farthest-houses` has the four unconditional samples that are farthest from any render, and the four such samples of the VAE.

# %% tags=["figure"] mystnb={"image": {"alt": "Three rows of eight images. Samples: four houses of the diffusion model, the first with a rounded roof, then four of the VAE, dark spots on a mottled ground. Their nearest renders: eight sharp houses. The absolute differences: thin bright edges, and a faint color within some houses; for the VAE bright everywhere."}, "figure": {"caption": "The samples that are farthest from any render: four of the diffusion model without causes, then four of the VAE. Below each its nearest render, and three times the absolute difference.", "name": "fig-farthest-houses"}}
worst = {}
for way in ("unconditional", "VAE"):
    drawn = houses[way] / 255
    at = houses[f"{way}: distance"][: len(drawn)].topk(4).indices
    worst[way] = drawn[at], render_scenes(houses[f"{way}: causes"][at])
drawn, nearest = map(torch.cat, zip(*worst.values(), strict=True))
missed = (3 * (drawn - nearest).abs()).clamp(max=1)
plots.image_rows({"sample": drawn, "nearest": nearest, "difference": missed}, tile=0.75)

# %% [markdown]
# The first house has a rounded roof, which no render has. The other three have the right shape. Their differences lie along edges, and within walls whose color is slightly off the color wheel. The samples of the VAE are not houses. Where do the conditional samples err? We compare the error at edges, where a pixel of the nearest render differs from a neighbor by more than a tenth, with the whole error.

# %% tags=["numbers"]
drawn = houses["conditional"] / 255
nearest = render_scenes(houses["conditional: causes"][: len(drawn)])
reach = torch.nn.functional.max_pool2d(torch.cat([nearest, -nearest], 1), 3, 1, 1)
at_edges = (reach[:, :3] + reach[:, 3:]).amax(1) > 0.1  # a pixel and its neighbors differ
missed = (drawn - nearest).square().sum(1)
share, area = missed[at_edges].sum() / missed.sum(), at_edges.double().mean()
print(f"at edges: {share:.0%} of the squared error, on {area:.0%} of the pixels")

# %% tags=["held", "nbval-check-output"]
print("more than 80 percent, on less than 40 percent:", bool(share > 0.8 and area < 0.4))

# %% [markdown]
# So nearly all of the error is at edges. Even here, where the causes are given, no sample is exactly an image of the renderer.

# %% [markdown]
# **One cause moves.** The film asks for three houses, each from one noise image, and turns them from one end of the azimuth's range to the other. All other causes, and the noise, stay. Above is what was asked for, below what DDIM draws in 15 steps.

# %%
color, _ = pretrained("ddpm-scenes"), torch.manual_seed(0)
three = houses["asked"][:3].repeat(51, 1, 1)
three[:, :, 0] = torch.linspace(float(low[0]), float(high[0]), 51)[:, None]
causes = three.flatten(0, 1)


def as_asked(x_t, t):
    """The network's estimate, given the causes."""
    return color.denoiser(x_t, t, told(causes))


x_T = torch.randn(3, 3, 32, 32).repeat(51, 1, 1, 1)
*_, turning = ddim_sample(as_asked, color.schedule.evenly(15), x_T)
both = torch.stack([render_scenes(causes), to_unit(turning)]).unflatten(1, (51, 3))


# %% tags=["figure"]
def turning_frame(i):
    """Three renders above, three samples below."""
    return make_grid(both[:, i].flatten(0, 1), nrow=3, pad_value=1).permute(1, 2, 0)


Film(
    range(51),
    turning_frame,
    description="azimuth",
    alt="Three houses turned {} of 50 steps, rendered above and drawn below",
    label="{}",
    start=20,
)

# %% tags=["held", "nbval-check-output"]
found, _ = nearest_scenes(to_unit(turning[::15]))
right = r_squared(causes[::15, 0], found[:, 0]).value > 0.95
print("the drawn houses turn as asked, R^2 above 0.95:", right)

# %% [markdown]
# Photographs need a network that was trained on a GPU, and time: {cite:t}`song2021ddim` count about 20 hours for 50,000 images of this size with all thousand steps, on one graphics card (a 2080 Ti). Fifty steps take a twentieth of that.
#
# **What you can say now.** Where a renderer knows the data, samples can be measured. Those of this network have the right causes if these are given, and err at edges; without causes they are about twice as far from a render.
#
# *Sources: B28.*

# %% [markdown]
# (sec-sampling-wrong)=
# ## What goes wrong
#
# **The steps are skipped, but the betas stay.** If only every fifth time is used, the step needs the $\beta_t$ of the larger step, $1 - \bar\alpha_t / \bar\alpha_{t-5}$. With the original $\beta_t$, a quarter to a third of it, each step removes too little noise. **The steps are renumbered, and the network is given the new number.** It is then given 1 to 20 instead of 5 to 100, and it assumes much less noise than there is. Neither mistake raises an error. We make both on the ring, in twenty steps.


# %%
def given_the_count(x, t):
    """The exact denoiser, given 1 to 20 in place of 5, 10, ..., 100."""
    return exact_hat(x, torch.div(t, 5, rounding_mode="floor"))


def exact_noise(x, t):
    return noise_from_x_0(s, x, t, exact_hat(x, t))


_ = torch.manual_seed(0)
fifth, x_T = s.strided(range(5, 101, 5)), torch.randn(1500, 2)
*_, as_it_should = ddpm_sample(exact_hat, fifth, x_T)
old_betas = algorithm_2(exact_noise, x_T, s.posterior_var**0.5, range(100, 0, -5))
*_, miscounted = ddpm_sample(given_the_count, fifth, x_T)
spoiled = {"right": as_it_should, "old betas": old_betas, "given the count": miscounted}
taken = s.beta[fifth.times[1:]] / fifth.beta[1:]
print(f"old betas over the right ones: {taken.min():.2f} to {taken.max():.2f}")

# %% tags=["figure"] mystnb={"image": {"alt": "Three panels of points. First, as it should be: eight clusters on a ring, with a few points between them. Second, old betas: a broad noisy ring in which the clusters merge. Third, given the count: an even broader one."}, "figure": {"caption": "Twenty steps with the exact denoiser: right, with the betas of the small steps, and with the wrong time given to the denoiser. Both mistakes blur the modes.", "name": "fig-mistakes"}}
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
# In {numref}`fig-mistakes` both mistakes leave a recognizable ring whose modes drown in noise.

# %% tags=["nbval-check-output"]
for name, points in spoiled.items():
    off = (points[:, None] - halved[0]).square().sum(2).min(1).values.mean() / 2
    far_off = off > 2 * 0.125**2
    print(f"{name:15} more than twice the variance: {bool(far_off)}")

# %% [markdown]
# **Noise in the last step.** Line 3 of the algorithm sets $\xi = 0$ at $t = 1$. Without this line, and with $\sigma_t^2 = \beta_t$, each pixel keeps noise with the standard deviation $\sqrt{\beta}$ of the last step taken. (With $\tilde\beta_t$ there is no harm, since it is 0 in the last step.) If the last step starts at $t = 1$, that is a hundredth and cannot be seen. If it starts at $t = 100$, it can be:

# %% tags=["nbval-check-output"]
for sub in (schedule, schedule.evenly(10), schedule.strided(range(100, 1001, 100))):
    print(f"{sub.num_steps:4} steps, the last from t = {sub.times[1]:3}", end=": ")
    print(f"standard deviation {sub.beta[1] ** 0.5:.3f}")

# %% [markdown]
# (sec-sampling-exercises)=
# ## Exercises
#
# Replace the three dots by your answer and run the cell.

# %% [markdown]
# ```{exercise-start} One step of DDIM
# :label: ex-ddim-step
# ```
# `noise` is the predicted noise in `x_t`. `alpha_bar` is $\bar\alpha$ now, `alpha_bar_next` that of the next time. Write the step.


# %% tags=["answer", "nbval-check-output"]
def ddim_step(x_t, noise, alpha_bar, alpha_bar_next):
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
# Solve for the image, and mix with the new weights {eq}`eq-ddim-step`.


# %% tags=["nbval-check-output"]
def ddim_step(x_t, noise, alpha_bar, alpha_bar_next):
    x_hat = (x_t - (1 - alpha_bar) ** 0.5 * noise) / alpha_bar**0.5
    return alpha_bar_next**0.5 * x_hat + (1 - alpha_bar_next) ** 0.5 * noise


exercises.check_ddim_step(ddim_step)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} How much is renewed
# :label: ex-renewed
# ```
# A sampler skips from a time with $\bar\alpha$ equal to `alpha_bar` down to one with `alpha_bar_next`. Its parameter is `eta`. What is the standard deviation of the fresh noise?


# %% tags=["answer", "nbval-check-output"]
def fresh_noise(eta, alpha_bar, alpha_bar_next):
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
def fresh_noise(eta, alpha_bar, alpha_bar_next):
    beta = 1 - alpha_bar / alpha_bar_next
    return eta * (beta * (1 - alpha_bar_next) / (1 - alpha_bar)) ** 0.5


exercises.check_fresh_noise(fresh_noise)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} After a push
# :label: ex-push
# ```
# The data are Gaussian with variance `lam`. A chain of DDPM steps is pushed by $\delta$ where $\bar\alpha$ is `alpha_bar`. DDIM is pushed in the same way, with steps so small that they do not count. Divide the change of $x_0$ in the DDPM by that in DDIM: what is the ratio?


# %% tags=["answer", "nbval-check-output"]
def smaller_by(lam, alpha_bar):
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
# The ratio is the correlation $\varrho_t$ of $x_t$ and $x$ {eq}`eq-push`. After a push close to the data both samplers keep the same part of it; after one in nearly pure noise the DDPM forgets it completely, and DDIM does not.


# %% tags=["nbval-check-output"]
def smaller_by(lam, alpha_bar):
    return (alpha_bar * lam / (alpha_bar * lam + 1 - alpha_bar)) ** 0.5


exercises.check_smaller_by(smaller_by)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Even steps in the angle
# :label: ex-even-angle
# ```
# The data are $\mathcal{N}(0, 1)$. DDIM takes $S$ steps from $\bar\alpha_T = 0$ to the data, so that the angle $\arccos \sqrt{\bar\alpha_t}$ falls by the same amount in each. What is the variance of the samples?


# %% tags=["answer", "nbval-check-output"]
def variance_of_samples(S):
    return ...


exercises.check_variance_of_samples(variance_of_samples)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-even-angle
# :label: ex-even-angle-solution
# :class: dropdown
# ```
# The exact denoiser is $\sqrt{\bar\alpha_t}\, x_t$, and with $\varphi_t = \arccos \sqrt{\bar\alpha_t}$ the slope of {eq}`eq-ddim-step` is $\cos \varphi_{t-1} \cos \varphi_t + \sin \varphi_{t-1} \sin \varphi_t$, the cosine of the difference. The variance lacks about $\pi^2 / 4 S$. (The cosine schedule is nearly even in this angle.)


# %% tags=["nbval-check-output"]
def variance_of_samples(S):
    return torch.tensor(torch.pi / 2 / S).cos() ** (2 * S)


exercises.check_variance_of_samples(variance_of_samples)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} To the middle of the step
# :label: ex-second-order
# ```
# A solver of second order is at a log signal-to-noise ratio `now`, came from `before`, and goes to `after`. Its estimates of the image were `x_hat_before` and are `x_hat_now`. Which estimate does it take for the step?


# %% tags=["answer", "nbval-check-output"]
def extrapolated(x_hat_before, x_hat_now, before, now, after):
    return ...


exercises.check_extrapolated(extrapolated)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-second-order
# :label: ex-second-order-solution
# :class: dropdown
# ```
# This is the first part of {eq}`eq-second-order`. An estimate that is linear in the log signal-to-noise ratio is continued exactly.


# %% tags=["nbval-check-output"]
def extrapolated(x_hat_before, x_hat_now, before, now, after):
    return x_hat_now + (after - now) / (2 * (now - before)) * (x_hat_now - x_hat_before)


exercises.check_extrapolated(extrapolated)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# (sec-sampling-summary)=
# ## Summary
#
# - Algorithm 2 is the learned reverse chain: its line 4 is the posterior with an estimate of the image {eq}`eq-line-four`, and its $\sigma_t$ is a choice.
# - Denoising without noise contracts, even with a perfect denoiser: for Gaussian data all steps together give the single estimate from pure noise {eq}`eq-noiseless`.
# - Training fixes $q(x_t \mid x)$ and nothing else, so one network serves a family of samplers {eq}`eq-ddim-marginals`. With $\eta = 0$ the noise is carried along {eq}`eq-ddim-step`, and steps can be skipped.
# - For Gaussian data the variance of the samples is a recursion {eq}`eq-variance-recursion`. Few steps lose fine detail, or drown it in noise if the variance is $\beta_t$. In few steps our network draws the best digits with the variance $\tilde\beta_t$ and with the class ({ref}`sec-which-sampler`).
# - A sampler without fresh noise is a map that can be inverted. One with fresh noise reduces a push by a further factor, the correlation $\varrho_t$ {eq}`eq-push`.
# - The error of DDIM falls with the length of the step, that of DPM-Solver++ with its square {eq}`eq-second-order`.
# - Samples follow the data if the chain ends at noise, the variances are right, the steps suffice, and the network is exact wherever the chain goes.
#
# **Two explanations that need care.** Repeated denoising without noise fails with a perfect denoiser as well, so accumulated errors are not needed to explain it. The robustness of the samplers with noise, in the sense of {eq}`eq-push`, comes from their steps: the noise itself cancels.
#
# **To read next.** {cite:t}`song2021ddim` and {cite:t}`lu2022` on few steps; {cite:t}`nichol2021` on learned variances. {doc}`/notebooks/12_score` has the continuous-time view of all of this.
