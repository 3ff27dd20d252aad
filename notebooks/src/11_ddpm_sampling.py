# %% [markdown]
# # Sampling
#
# The network of the last chapter looks at a noisy digit and estimates the clean one. A *sampler* makes it a generator: it starts from an image of pure noise, asks the network, goes a little of the way, asks again, and ends at a digit. Below, one network gets the same eight noise images and is used in four ways. Why is the second row eight times the same digit?

# %% tags=["setup", "hide-input"]
# The set-up cell: `make sync` writes it.

# %% tags=["unseen"]
import torch

from companion.data import to_unit
from companion.page import plots
from companion.samplers import ddim_sample, ddpm_sample
from companion.zoo import pretrained

NETWORK = "ddpm-mnist-long"

# %% tags=["figure"] mystnb={"image": {"alt": "Four rows of eight images. First row: eight times the same gray blur. Second row: eight times nearly the same digit. Third row: digits of several kinds. Fourth row: others, some hard to read."}, "figure": {"caption": "*At once*: the network's estimate from pure noise. *No noise*: fifty steps of Algorithm 2 with the noise left out. *Noise*: the same steps with it. *DDIM*: twenty steps of another kind.", "name": "fig-four-ways"}}
model = pretrained(NETWORK)
denoiser, digit_schedule = model.denoiser, model.schedule
_ = torch.manual_seed(0)
noise_images = torch.randn(16, 1, 28, 28)
start, fifty = noise_images[:8], digit_schedule.evenly(50)
noisy_50 = list(ddpm_sample(denoiser, fifty, noise_images))
noiseless_50 = list(ddpm_sample(denoiser, fifty, start, torch.zeros(51)))
*_, ddim_20 = ddim_sample(denoiser, digit_schedule.evenly(20), start)
with torch.no_grad():
    at_once = denoiser(start, torch.full((8,), 1000))
ways = {"at once": at_once, "no noise": noiseless_50[-1], "noise": noisy_50[-1][:8]}
ways["DDIM"] = ddim_20
deviation = {name: x.var(0).sum().sqrt() for name, x in ways.items()}
different = min(deviation["noise"], deviation["DDIM"] / 0.6)
assert max(deviation["at once"], deviation["no noise"]) < 0.3 * different
halfway, noisy = (x[25][:8].var(0).sum().sqrt() for x in (noiseless_50, noisy_50))
assert halfway < 0.1 * noisy
plots.image_rows({name: to_unit(x) for name, x in ways.items()})

# %% [markdown]
# :::{admonition} The idea
# A sampler goes from noise to an image in steps, because only a small step back is simple enough to be drawn. At each step the network estimates the clean image, and the sampler makes of it an image with a little less noise. The noise can be drawn anew or carried along: training leaves this open, so one network has many samplers. Few steps cost quality, and for Gaussian data a formula says how much.
# :::
#
# (The network is trained as in {doc}`chapter 10 </notebooks/10_ddpm_training>`. Half of the time, so that it works without one as well, it was also given the class $y$, as an embedding added to that of the time, with the same loss. Given the same $y$ in every call, a sampler draws from $p(x \mid y)$. Here the network gets no class unless the text says so.)

# %% tags=["unseen"]
import math

from torchvision.utils import make_grid

from companion import data
from companion.data import SCENE_FACTORS, render_scenes, to_symmetric
from companion.denoisers import MixtureDenoiser, gaussian_denoiser
from companion.experiments import record_of
from companion.interpolation import spherical_interpolation
from companion.metrics import proportion, r_squared
from companion.page.exercises import ddpm_sampling as exercises
from companion.page.sliders import Film
from companion.page.verify import exact, monte_carlo, verify
from companion.samplers import ddim_invert, ddim_posterior, dpm_solver_sample, reverse_sample
from companion.schedule import add_noise, linear_schedule, mean_from_x_0, noise_from_x_0
from companion.zoo.weights import load_record
from companion.zoo.yardstick import digit_features, excess_of_votes, feature_distance
from companion.zoo.yardstick import real_digit_distance as real_distance

schedule = linear_schedule(1000)  # in double precision

# %% [markdown]
# (sec-algorithm-2)=
# ## Algorithm 2: back in small steps
#
# **Why in steps?** From pure noise the best estimate is the mean of all digits, the blur of the first row. To draw an image at once, one would need the distribution of all images that the noise may have come from, which is as complicated as the data. A *small* step back is simple: over the width of the noise of one step, the log density of $x_{t-1}$ is nearly linear. So $q(x_{t-1} \mid x_t)$ is nearly Gaussian, and its mean needs only the mean of those images, which the network estimates ({ref}`chapter 9 <sec-true-reverse>`). A long step back could lead toward any of them, and a Gaussian around their mean is the wrong distribution.
#
# **Where does the mean of a step come from?** As before, $\beta_t$ is the variance of the noise in step $t$, $\alpha_t = 1 - \beta_t$, and $\bar\alpha_t = \alpha_1 \cdots \alpha_t$. Suppose that the image $x$ is known. Then two things say where $x_{t-1}$ is. As an image with noise it is near $\sqrt{\bar\alpha_{t-1}}\, x$, with variance $1 - \bar\alpha_{t-1}$. As the state before $x_t$ it is near $x_t / \sqrt{\alpha_t}$, with variance $\beta_t / \alpha_t$. Bayes' rule averages the two, each weighted by one over its variance:
#
# $$
# \tilde\mu_t(x_t, x) = \frac{w\, \sqrt{\bar\alpha_{t-1}}\; x + w'\, x_t / \sqrt{\alpha_t}}{w + w'} , \qquad w = \frac{1}{1 - \bar\alpha_{t-1}} , \quad w' = \frac{\alpha_t}{\beta_t} .
# $$ (eq-weighted-evidence)
#
# This is the posterior mean {eq}`eq-denoising-posterior`. The image is *not* known. But the mean is linear in $x$; averaged over the images that $x_t$ may come from it is $\tilde\mu_t(x_t, \mathbb{E}[x \mid x_t])$. So the network's estimate $\hat{x}$ takes the place of $x$ {eq}`def-reverse-step`. {cite:t}`ho2020` write the same mean with the predicted noise $\varepsilon_\theta$, where $\hat{x} = (x_t - \sqrt{1 - \bar\alpha_t}\, \varepsilon_\theta) / \sqrt{\bar\alpha_t}$:
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
# :::{prf:algorithm} Sampling
# :label: alg-ddpm-sampling
# 1. Draw $x_T \sim \mathcal{N}(0, I)$.
# 2. For $t = T, T - 1, \dots, 1$:
# 3. draw $\xi \sim \mathcal{N}(0, I)$ if $t > 1$, else set $\xi = 0$;
# 4. set $x_{t-1} = \frac{1}{\sqrt{\alpha_t}} \Big( x_t - \frac{1 - \alpha_t}{\sqrt{1 - \bar\alpha_t}}\, \varepsilon_\theta(x_t, t) \Big) + \sigma_t\, \xi$.
# 5. Return $x_0$.
# :::
#
# Line 4 takes away a part of the predicted noise, undoes the shrinking of the forward step, and adds noise. After the last step nothing could remove that noise again, so line 3 leaves it out. In code, for chapter 10's network for points in the plane, which has a hundred steps:
#
# **Check.** All three equations are computed at the thousand times of the linear schedule. The check rejects {eq}`eq-line-four` with a fraction without its root, without the division by $\sqrt{\alpha_t}$, and the proof's second fraction with $\bar\alpha_t$ in place of $\bar\alpha_{t-1}$; and {eq}`eq-weighted-evidence` with exchanged weights. Then the code below is run beside the companion's `ddpm_sample`, with the same random numbers.


# %%
toy = pretrained("ddpm-toy2d")
s = toy.schedule


def algorithm_2(network, x, sigma, times=range(100, 0, -1)):
    for t in times:
        xi = torch.randn_like(x) if t > times[-1] else 0
        mixed = s.beta[t] / s.noise_var[t] ** 0.5 * network(x, torch.full((len(x),), t))
        x = (x - mixed) / s.alpha[t] ** 0.5 + sigma[t] * xi
    return x


# %% tags=["check", "nbval-check-output"]
_ = torch.manual_seed(0)
t = schedule.steps
x_t, noise_hat = torch.randn(2, 1000, 1).double()
kept = schedule.alpha_bar[1:, None]
x_hat = (x_t - (1 - kept) ** 0.5 * noise_hat) / kept**0.5
left = mean_from_x_0(schedule, x_t, t, x_hat)
alpha, beta = schedule.alpha[1:, None], schedule.beta[1:, None]
now, before = schedule.noise_var[1:, None], schedule.noise_var[:-1, None]
w, v = beta, alpha * before  # both weights, times beta (1 - alpha_bar_{t-1})
pair = schedule.alpha_bar[:-1, None] ** 0.5 * x_hat, x_t / alpha**0.5
average, exchanged = ((a * pair[0] + b * pair[1]) / (w + v) for a, b in ((w, v), (v, w)))
verify("eq-weighted-evidence", left, average, exact.within(1e-8), rejects={"exchanged": exchanged})
inner = x_t - beta / now**0.5 * noise_hat
no_root = (x_t - beta / now * noise_hat) / alpha**0.5
wrong = {"no root": no_root, "no division": inner}
verify("eq-line-four", left, inner / alpha**0.5, exact.within(1e-8), rejects=wrong)
first = schedule.alpha_bar[:-1, None] ** 0.5 * beta / now / schedule.alpha_bar[1:, None] ** 0.5
both, wrong = first + alpha**0.5 * before / now, {"one time later": first + alpha**0.5}
verify("eq-line-four-proof", both, alpha**-0.5, exact.within(1e-8), rejects=wrong)
x_T = torch.randn(500, 2)
_ = torch.manual_seed(1)
ours = algorithm_2(toy.denoiser.network, x_T, s.posterior_var**0.5)
_ = torch.manual_seed(1)
*_, theirs = ddpm_sample(toy.denoiser, s, x_T)
assert torch.allclose(ours.float(), theirs, atol=1e-3)

# %% [markdown]
# **Which $\sigma_t$?** If the data were a single image, nothing about it would be unknown, and the variance would be $\tilde\beta_t = \beta_t\, (1 - \bar\alpha_{t-1}) / (1 - \bar\alpha_t)$. Other data need a wider step: for standard Gaussian data the variance is $\beta_t$, for Gaussian data of less variance something between {eq}`eq-optimal-variance`. In small steps the two are nearly equal except next to the data; when steps are skipped, {ref}`the choice matters <sec-variance-recursion>`.
#
# What happens on the way? Left $x_t$, right the estimate at that moment:

# %% tags=["figure"]
film_16, film_times = torch.stack(noisy_50), fifty.times.tolist()[::-1]
with torch.no_grad():
    pairs = zip(film_16, film_times, strict=True)
    estimates = [denoiser(x, torch.full((16,), time)) if time else x for x, time in pairs]
assert 157 < (schedule.snr[-1] ** -0.5) < 159  # what becomes of an error of the noise


def film_frame(step):
    """x_t and the estimate of the image, side by side; at the end both are x_0."""
    pair = (film_16[step], estimates[step])
    left, right = (make_grid(to_unit(x), nrow=4, pad_value=1)[0] for x in pair)
    return torch.cat([left, torch.ones(len(left), 8), right], 1)


Film(
    range(51),
    film_frame,
    description="steps done",
    alt="Sixteen noisy digits after {} of 50 steps, and the estimates beside them",
    label="{}",
    start=20,
)

# %% [markdown]
# The estimates are blurs at first, then change between several digits. Which it will be is settled long before the noise is gone.
#
# **Must anything be clipped?** Not $x_t$: its noise may exceed the range of pixels. But an exact estimate is a mean of images and lies in their range $[-1, 1]$; one outside is wrong, and clipping brings it closer to every possible image. Predicting the noise needs it most: an error of $\varepsilon_\theta$ becomes $\sqrt{(1 - \bar\alpha_t) / \bar\alpha_t}$ times as large in $\hat{x}$, 157 times at the top of the linear schedule. {cite:t}`ho2020` clip $\hat{x}$ before it enters the mean {eq}`eq-weighted-evidence`. Ours estimates $v$, where the factor is at most 1 {eq}`eq-five-errors`, without clipping. Latents have no such range: clipping cuts true values.
#
# *Sources: B27.*

# %% [markdown]
# (sec-why-noise)=
# ## Why noise is added
#
# Line 4 removes noise and then adds some. Why not only denoise? Is it that the network's errors would accumulate? Take a denoiser that makes *no* errors.
#
# Let the data be Gaussian, $x \sim \mathcal{N}(0, \lambda)$, and let $V_t = \bar\alpha_t \lambda + 1 - \bar\alpha_t$ be the variance of $x_t$. The exact denoiser is linear regression, $\mathbb{E}[x \mid x_t] = \sqrt{\bar\alpha_t}\, \lambda\, x_t / V_t$. The mean of a step is linear as well; its slope is the covariance of $x_{t-1}$ and $x_t$ over $V_t$. In the product of all slopes every $V_t$ but the first and the last cancels:
#
# $$
# \mathbb{E}[x_{t-1} \mid x_t] = \sqrt{\alpha_t}\, \frac{V_{t-1}}{V_t}\; x_t , \qquad \text{all } T \text{ steps:} \quad x_0 = \frac{\sqrt{\bar\alpha_T}\, \lambda}{V_T}\; x_T = \mathbb{E}[x \mid x_T] .
# $$ (eq-noiseless)
#
# A thousand perfect steps end where a single call leads: at the best estimate from pure noise. For $\lambda = 1$ every $V_t$ is 1, a step has the mean $\sqrt{\alpha_t}\, x_t$, and the samples have the variance $\bar\alpha_T = 0.00004$ instead of 1. Each step takes a conditional mean; these means are linear, so the mean of a mean is one, too.
#
# **What the noise repairs.** A mean has too little variance. What it lacks is $\mathrm{Var}[x_{t-1} \mid x_t]$, all that $x_t$ does not say about $x_{t-1}$ {eq}`eq-optimal-variance`. Because $V_t = \alpha_t V_{t-1} + \beta_t$, the two add up:
#
# $$
# \underbrace{\alpha_t\, \frac{V_{t-1}^2}{V_t}}_{\text{the mean}} + \underbrace{\beta_t\, \frac{V_{t-1}}{V_t}}_{\text{the noise}} = V_{t-1} .
# $$ (eq-variance-restored)
#
# The noise stands for what the network cannot know.
#
# **Check.** `ddpm_sample` without noise is compared with {eq}`eq-noiseless`, for three variances of the data; the check rejects samples with the variance of the data, and $\bar\alpha_T$ in place of its root. The slopes of {eq}`eq-variance-restored` are the companion's. It rejects noise of variance $\beta_t$, and none.


# %% tags=["check", "nbval-check-output"]
def normal_data(lam):
    """The exact denoiser of N(0, lam), or of one such Gaussian in each dimension."""
    lam = torch.atleast_1d(torch.as_tensor(lam).double())
    return gaussian_denoiser(schedule, torch.zeros(len(lam)).double(), torch.diag(lam))


def v_of(sub, lam):
    return sub.alpha_bar * lam + sub.noise_var


lam, kept = torch.tensor([0.0025, 0.25, 1.0]).double(), schedule.alpha_bar[-1]
V_T, x_T = kept * lam + 1 - kept, torch.randn(5, 3).double()
*_, x_0 = ddpm_sample(normal_data(lam), schedule, x_T, torch.zeros(1001))
wrong = {"variance of the data": lam**0.5 * x_T, "no root": kept * lam / V_T * x_T}
verify("eq-noiseless", x_0, kept**0.5 * lam / V_T * x_T, rejects=wrong)
assert torch.allclose(x_0, normal_data(lam)(x_T, torch.full((5,), 1000)))
V, q = v_of(schedule, 0.25), schedule.reverse_coefficients(schedule.steps)
slope = q.of_x_0 * schedule.alpha_bar[1:] ** 0.5 * 0.25 / V[1:] + q.of_x_t
mean, noise = slope**2 * V[1:], schedule.beta[1:] * V[:-1] / V[1:]
wrong = {"beta": mean + schedule.beta[1:], "no noise": mean}
verify("eq-variance-restored", V[:-1], mean + noise, rejects=wrong)

# %% [markdown]
# Digits are not Gaussian. In {numref}`fig-four-ways` the chain without noise does end at a digit, but at the same one from all eight starts: halfway they have become nearly one point. It is not the blur, likely because the estimate is not linear in $x_t$: when the common point leans toward one digit, the estimate follows and adds to the lead. On a ring of eight Gaussian modes the exact denoiser is not linear either:

# %% tags=["figure"] mystnb={"image": {"alt": "Two panels. Left, without noise: eight thin arcs on a ring that is too small. Right, with noise: eight round clusters on a ring."}, "figure": {"caption": "Two thousand points, by the exact denoiser in a hundred steps.", "name": "fig-noise-or-not"}}
ring = data.toy_density("mixture")
shapes = ring.component_distribution
halved = shapes.mean / 2, torch.diag_embed(shapes.variance) / 4  # as it was trained
exact_hat = MixtureDenoiser(s, ring.mixture_distribution.probs, *halved)
x_T = torch.randn(2000, 2)
*_, noiseless = ddpm_sample(exact_hat, s, x_T, torch.zeros(101))
*_, drawn = ddpm_sample(exact_hat, s, x_T)
radius = {"no": noiseless.norm(dim=1), "with": drawn.norm(dim=1)}
assert 1.2 < radius["with"].mean() < 1.3 and radius["no"].mean() < 1.15
assert radius["no"].std() < 0.4 * radius["with"].std()
fig, panels = plots.figure(2, height=3.0)
box = (-2, 2, -2, 2)
for panel, points, name in zip(panels, (noiseless, drawn), ("no", "with"), strict=True):
    words = {"x_label": f"$x_1$, {name} noise", "y_label": "$x_2$"}
    _ = plots.scatter(points, **words, bounds=box, axes=panel)
fig

# %% [markdown]
# Without noise all eight modes are reached, but too near to the center, and along the radius with less than half of their width.
#
# *Sources: C02.*

# %% [markdown]
# (sec-ddim)=
# ## DDIM: carry the noise along
#
# Can one do without added noise and still keep the variance? The loss {eq}`def-simple-loss` contains $q(x_t \mid x)$ for one time at a time, and no step from one time to another. So the same network serves *every* process with these $q(x_t \mid x)$, whatever its steps are {cite:p}`song2021ddim`. Choose numbers $0 \le s_t^2 \le 1 - \bar\alpha_{t-1}$ and let
#
# $$
# q_s(x_{t-1} \mid x_t, x) = \mathcal{N}\Big( \sqrt{\bar\alpha_{t-1}}\; x + \sqrt{1 - \bar\alpha_{t-1} - s_t^2}\;\; \frac{x_t - \sqrt{\bar\alpha_t}\, x}{\sqrt{1 - \bar\alpha_t}} ,\; s_t^2\, I \Big) .
# $$ (def-ddim-posterior)
#
# The fraction is the noise in $x_t$. The step scales the image as $x_{t-1}$ requires, keeps a part of the noise, and draws the rest anew.
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
# *Proof*, from $T$ down: if it holds at $t$, the fraction is $\mathcal{N}(0, I)$ given $x$. So $x_{t-1}$ has the mean $\sqrt{\bar\alpha_{t-1}}\, x$ and the variance $(1 - \bar\alpha_{t-1} - s_t^2) + s_t^2$. $\square$
#
# Usually $s_t^2 = \eta^2\, \tilde\beta_t$. With $\eta = 1$ the step is the posterior of the DDPM. With $\eta = 0$ nothing is drawn anew, and the sampler is called {term}`DDIM`: it takes $x_t$ apart into the estimate and the predicted noise $\hat\varepsilon = (x_t - \sqrt{\bar\alpha_t}\, \hat{x}) / \sqrt{1 - \bar\alpha_t}$ and mixes the two with new weights ({numref}`fig-step-apart`):
#
# $$
# x_{t-1} = \sqrt{\bar\alpha_{t-1}}\; \hat{x} + \sqrt{1 - \bar\alpha_{t-1}}\; \hat\varepsilon .
# $$ (eq-ddim-step)
#
# %% tags=["figure"] mystnb={"image": {"alt": "Two rows of six images: a noisy digit; its blurred estimate; the predicted noise; the result of DDIM, a less noisy digit; the mean of the DDPM, smoother; the DDPM's draw, as noisy as that of DDIM."}, "figure": {"caption": "One large step, from $t = 600$ to 300, taken apart.", "name": "fig-step-apart"}}
test = data.load("mnist", "test")
_ = torch.manual_seed(0)
x = to_symmetric(test.images[:2])
x_t, step = (
    add_noise(digit_schedule, x, 600, torch.randn_like(x)),
    digit_schedule.strided([300, 600]),
)
with torch.no_grad():
    x_hat = denoiser(x_t, torch.full((2,), 600))
noise_hat = noise_from_x_0(digit_schedule, x_t, 600, x_hat)
carried, renewed = ddim_posterior(step, 0.0), ddim_posterior(step, 1.0)
after, mean = (q.of_x_0[2] * x_hat + q.of_x_t[2] * x_t for q in (carried, renewed))
drawn = mean + renewed.var[2] ** 0.5 * torch.randn_like(x)
parts = {"$x_{600}$": x_t, "estimate": x_hat, "noise": noise_hat / 1.5}
parts |= {"DDIM": after, "DDPM mean": mean, "DDPM": drawn}
shown = torch.stack([to_unit(part.float() / 1.3) for part in parts.values()], 1).flatten(0, 1)
rows = {f"digit {test.labels[k]}": shown[6 * k :][:6] for k in (0, 1)}
plots.image_rows(rows, titles=list(parts), tile=1.0)

# %% [markdown]
# Line 4 of {prf:ref}`alg-ddpm-sampling` without its noise ("DDPM mean") has the same form, with less of $\hat\varepsilon$, so that its $x_{t - 1}$ holds less noise than the network, given $t - 1$, assumes. That, and the number of steps, is all the difference between the second row of {numref}`fig-four-ways` and the fourth.
#
# **Why may steps be skipped?** The proof does not use that the times are neighbors. Take any subsequence: a step from $t$ to an earlier $s$ needs only $\bar\alpha_t$ and $\bar\alpha_s$. Given the original times, the network is asked only at noise levels of its training; what is new is the length of the steps.
#
# **Check.** Of {eq}`eq-ddim-marginals`: 50,000 chains from one $x$ take four large steps; mean and variance at the lowest time are compared, for three values of $\eta$. For $\eta > 0$ the check rejects new noise on top of all the old; for $\eta = 0$, the mean of the DDPM without its noise. Of {eq}`eq-ddim-step`: a step of `ddim_sample` on the ring. The mean of the DDPM is rejected.

# %% tags=["serves"]
five = schedule.strided([100, 250, 400, 600, 1000])
x = torch.tensor(1.5).double()


def run_down(q):
    """Chains from one x, down to the lowest time of the schedule."""
    x_t = five.alpha_bar[-1] ** 0.5 * x + five.noise_var[-1] ** 0.5 * torch.randn(50_000).double()
    for t in range(5, 1, -1):
        new = q.var[t] ** 0.5 * torch.randn(50_000).double()
        x_t = q.of_x_0[t] * x + q.of_x_t[t] * x_t + new
    return x_t


# %% tags=["check", "nbval-check-output"]
_ = torch.manual_seed(0)
right, no_noise = (
    torch.stack([five.alpha_bar[1] ** 0.5 * x, five.noise_var[1]]),
    ddim_posterior(five, 1.0),
)
contracted = run_down(no_noise._replace(var=0 * no_noise.var))
for eta in (0.0, 0.5, 1.0):
    q = ddim_posterior(five, eta)
    x_t = run_down(q)
    wrong = {"added on top": right + torch.stack([0 * x, q.var[2]])}
    if not eta:
        wrong = {"DDPM, no noise": torch.stack([contracted.mean(), contracted.var()])}
    left = torch.stack([x_t, (x_t - right[0]) ** 2], 1)
    verify("eq-ddim-marginals", left, right, monte_carlo, rejects=wrong)

film = list(ddim_sample(exact_hat, s, torch.randn(20, 2).double()))
t, before, after = torch.full((20,), 60), film[100 - 60], film[100 - 59]
x_hat = exact_hat(before, t)
noise_hat = noise_from_x_0(s, before, t, x_hat)
mixed = s.alpha_bar[59] ** 0.5 * x_hat + s.noise_var[59] ** 0.5 * noise_hat
wrong = {"mean of the DDPM": mean_from_x_0(s, before, t, x_hat)}
verify("eq-ddim-step", after, mixed, exact.within(1e-8), rejects=wrong)

# %% [markdown]
# (sec-variance-recursion)=
# ## What few steps lose
#
# If the theorem holds for every subsequence of the times, why do fewer steps cost quality? Because it is about a known image, and a sampler has an estimate in its place. DDIM holds the estimate fixed during a step, although it would change on the way. The DDPM with $\tilde\beta_t$ acts as if the estimate *were* the image. For Gaussian data we can follow exactly what this does (in many dimensions, along each principal axis).
#
# All steps are linear, $x_{t-1} = a_t\, x_t + s_t\, \xi$. So the samples are Gaussian, and their variance $W_t$ obeys, from $W_T = 1$ on,
#
# $$
# W_{t-1} = a_t^2\; W_t + s_t^2 .
# $$ (eq-variance-recursion)
#
# It should be $V_t$. (This also tests a sampler's code: with the exact denoiser, the samples must have the variance $W_0$.) A single step that starts right, from $W_t = V_t$, misses $V_{t-1}$ by
#
# $$
# a_t^2\, V_t + s_t^2 - V_{t-1} = \frac{(\bar\alpha_{t-1} - \bar\alpha_t)^2}{V_t} \cdot
# \begin{cases}
# - \lambda \big/ \big( \sqrt{\bar\alpha_{t-1} (1 - \bar\alpha_t)} + \sqrt{\bar\alpha_t (1 - \bar\alpha_{t-1})} \big)^2 & \text{DDIM,} \\
# - \lambda \big/ \bar\alpha_{t-1} (1 - \bar\alpha_t) & \text{DDPM with } \tilde\beta_t , \\
# + (1 - \lambda) \big/ \bar\alpha_{t-1} & \text{DDPM with } \beta_t .
# \end{cases}
# $$ (eq-step-error)
#
# DDIM has the slope
#
# $$
# a_t = \sqrt{\frac{V_{t-1}}{V_t}}\; \cos(\varphi_t - \varphi_{t-1}) , \qquad \tan \varphi_t = \sqrt{\frac{1 - \bar\alpha_t}{\bar\alpha_t\, \lambda}} .
# $$ (eq-ddim-cosine)
#
# Without the cosine it would be right.
#
# :::{dropdown} Proof
# With the right variance $\beta_t V_{t-1} / V_t$ the slope of the DDPM would give $V_{t-1}$ {eq}`eq-variance-restored`; the last two rows of {eq}`eq-step-error` are $\tilde\beta_t$ and $\beta_t$ less this variance. For DDIM, let $u_t$ be the vector in the plane with the components $\sqrt{\bar\alpha_t\, \lambda}$ (image) and $\sqrt{1 - \bar\alpha_t}$ (noise). Its length is $\sqrt{V_t}$, and its angle $\varphi_t$. The exact estimates are $\hat{x} = \sqrt{\lambda}\, (u_t)_1\, x_t / V_t$ and $\hat\varepsilon = (u_t)_2\, x_t / V_t$, so the slope of {eq}`eq-ddim-step` is $u_{t-1} \cdot u_t / V_t$, which is {eq}`eq-ddim-cosine`. The step misses $V_{t-1} \sin^2(\varphi_t - \varphi_{t-1})$, the square of the cross product of $u_{t-1}$ and $u_t$ over $V_t$; that is the first row. $\square$
# :::
#
# So, but for the last step, each error is a square: twice as many steps, of half the length, make a quarter of the error each, and the whole falls nearly like one over their number. DDIM and $\tilde\beta_t$ lose variance, $\tilde\beta_t$ up to four times as much in a step, since it lacks the variance of what the image may be otherwise {eq}`eq-true-moments`. And $\beta_t$, right for $\lambda = 1$, adds variance below it. Its error does not shrink with $\lambda$, so it can be many times a fine detail itself.
#
# **Check.** The recursion is compared with 40,000 samples of each sampler in twenty steps, for $\lambda = 0.25$. It rejects the variance of the data; for the DDPM, new noise on top of all the old; for DDIM, the mean of the DDPM. The errors of a step and the slope of DDIM are compared with the companion's coefficients. Exchanged rows, and a slope without the cosine, are rejected.


# %% tags=["serves"]
KINDS = {"DDIM": 0.0, "beta-tilde": 1.0, "beta": 1.0}  # eta


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
        new = beta if kind == "beta" else s2
        W = a**2 * W + ((new if noise is None else noise[t]) if t > 1 else 0)
    return W


# %% tags=["check", "nbval-check-output"]
_ = torch.manual_seed(0)
lam, sub = torch.tensor(0.25).double(), schedule.evenly(20)
x_T, hat = torch.randn(40_000, 1).double(), normal_data(0.25)
no_noise = {"DDPM, no noise": final_variance(sub, "beta-tilde", lam, torch.zeros(21))}
for kind, eta in KINDS.items():
    q = ddim_posterior(sub, eta)
    q = q._replace(var=sub.beta) if kind == "beta" else q
    *_, x_0 = reverse_sample(hat, sub, x_T, q)
    on_top = {"added on top": final_variance(sub, kind, lam, on_top=True)}
    wrong = {"that of the data": lam} | (on_top if eta else no_noise)
    W = final_variance(sub, kind, lam)
    verify("eq-variance-recursion", x_0[:, 0] ** 2, W, monte_carlo, rejects=wrong)

# %% tags=["check", "nbval-check-output"]
V, kept, noise = v_of(sub, lam), sub.alpha_bar, sub.noise_var
factor, mixed = (kept[:-1] - kept[1:]) ** 2 / V[1:], (kept[:-1] * noise[1:]) ** 0.5
rows = [-lam / (mixed + (kept[1:] * noise[:-1]) ** 0.5) ** 2, -lam / mixed**2]
rows = factor * torch.stack([*rows, (1 - lam) / kept[:-1]])
missed, slopes = [], []
for kind, eta in KINDS.items():
    q = ddim_posterior(sub, eta)
    a = q.of_x_0[1:] * kept[1:] ** 0.5 * lam / V[1:] + q.of_x_t[1:]
    slopes += [a]
    missed += [a**2 * V[1:] + (sub.beta if kind == "beta" else q.var)[1:] - V[:-1]]
wrong = {"exchanged": rows[[1, 0, 2]]}
verify("eq-step-error", torch.stack(missed), rows, exact.within(1e-8), rejects=wrong)
angle = torch.atan2(noise**0.5, (kept * lam) ** 0.5)
full = (V[:-1] / V[1:]) ** 0.5
wrong = {"no cosine": full}
verify("eq-ddim-cosine", slopes[0], full * angle.diff().cos(), exact.within(1e-8), rejects=wrong)

# %% tags=["figure"] mystnb={"image": {"alt": "Four curves over the variance of the data on logarithmic axes. For large variances all are near one or a little below. Towards small variances two curves fall below one, that of beta-tilde lowest, and the one of beta rises far above one."}, "figure": {"caption": "Variance of the samples divided by that of the data, in twenty steps.", "name": "fig-few-steps"}}
lams = torch.logspace(-4, 1, 60).double()
ratios = {kind: (lams, final_variance(sub, kind, lams) / lams) for kind in KINDS}
fig, (axes,) = plots.figure(height=2.6)
names = {"x_label": "variance of the data", "y_label": "samples / data"}
plots.curves(ratios, **names, log_x=True, log_y=True, axes=axes)

# %% [markdown]
# In a Gaussian model of images, coarse structure has a large variance, and every sampler keeps most of it. Fine detail has a small one. In twenty steps DDIM loses most of it, $\tilde\beta_t$ even more, and $\beta_t$ drowns it in noise.
#
# **Why does $\beta_t$ fail in few steps only?** Later steps contract what it adds in excess; a thousand leave next to nothing of that. In twenty, on the linear schedule, the last noise, from $t = 54$ to 1, has the standard deviation 0.18. The one call that follows assumes 0.01, and leaves it.
#
# :::{depth-start} with all steps the variance beta is best, for Gaussian data and for photographs
# :::
# Here is the variance of the samples for fine detail, $\lambda = 0.0025$, by the number of steps. The row "optimal" has the variances {eq}`eq-optimal-variance`, $\beta_t V_{t-1} / V_t$ with the betas of the large steps.

# %% tags=["numbers", "columns", "nbval-check-output"]
fine, lengths = torch.tensor(0.0025).double(), (10, 20, 50, 100, 1000)
subs = [schedule.evenly(S) for S in lengths]
table = {kind: [final_variance(sub, kind, fine) for sub in subs] for kind in KINDS}
table["optimal"] = []
for sub in subs:
    V = v_of(sub, fine)
    best = torch.cat([V[:1] * 0, sub.beta[1:] * V[:-1] / V[1:]])
    table["optimal"] += [final_variance(sub, "beta", fine, best)]
print("steps      " + "".join(f"{S:9}" for S in lengths))
for name, row in table.items():
    print(f"{name:10} " + "".join(f"{W:9.5f}" for W in row))
print(f"wanted     {fine:9.5f}" + "".join(f"{fine:9.5f}" for _ in lengths[1:]))

# %% [markdown]
# In ten steps $\sigma_t^2 = \beta_t$ leaves noise with more than forty times the variance of the detail itself; with all thousand steps it is the best of the three. The optimal variances do equally well at any number of steps (only the noise of the last step is missing). They depend on the data, but a network can learn them {cite:p}`nichol2021`. {cite:t}`song2021ddim` report these Fréchet distances (FID, lower is better) on CIFAR-10:
#
# | steps | 10 | 20 | 50 | 100 | 1000 |
# |---|---|---|---|---|---|
# | DDIM, $\eta = 0$ | 13.36 | 6.84 | 4.67 | 4.16 | 4.04 |
# | $\eta = 1$, variance $\tilde\beta$ | 41.07 | 18.36 | 8.01 | 5.78 | 4.73 |
# | variance $\beta$ | 367.43 | 133.37 | 32.72 | 9.99 | 3.17 |
#
# The first table is about the variance of Gaussian data with an exact denoiser, the second about features of photographs with a learned one. Still the pattern is the same: up to 100 steps the rows have the same order, and $\beta$ is a disaster in few steps and the best with all of them. For such data the bound prefers $\beta_t$ as well {eq}`eq-euler-gap`.
#
# :::{depth-end}
# :::
#
# ### Which times?
#
# A step of DDIM loses little if the angle $\varphi_t$ turns little in it {eq}`eq-ddim-cosine`. All $S$ steps together turn nearly a right angle, and lose least, about $\pi^2 / 4 S$ of the variance, if each turns by the same angle (box).
#
# But the angle depends on $\lambda$. Coarse structure, $\lambda$ near 1, has $\bar\alpha_t = \cos^2$ of its angle, and the cosine schedule is nearly even in that; fine detail turns close to the data. So no times are best for everything. Two common choices: *even*, spread from 1 to $T$, and *trailing*, in equal steps that end at the data, as $t = 1000, 900, \dots, 100$ {cite:p}`lin2024`. Both begin at $T$: given an earlier time, the network would take noise for signal. And a long last step blurs fine detail.
#
# :::{depth-start} each step of DDIM falls short of a circle, and equal angles lose least
# :::
# By {eq}`eq-ddim-cosine`, all $S$ steps of DDIM together give the variance
#
# $$
# W_0 = \frac{\lambda}{V_T} \prod_t \cos^2(\varphi_t - \varphi_{t-1}) \;\le\; \frac{\lambda}{V_T} \cos^{2 S} \frac{\varphi_T}{S} \approx \lambda\, \Big( 1 - \frac{\pi^2}{4 S} \Big) .
# $$ (eq-ddim-gaussian)
#
# The angles of the steps add up to $\varphi_T$, nearly a right angle, and $\log \cos$ is concave. So the product is largest if all steps turn by the same angle.
#
# **Check.** The product is compared with the variance by the recursion, at twenty even times. The check rejects cosines that are not squared.

# %% tags=["check", "nbval-check-output"]
kept, S = schedule.alpha_bar[-1], 20
sub = schedule.evenly(S)
angle = torch.atan2(sub.noise_var**0.5, (sub.alpha_bar * lam) ** 0.5)
V_T = v_of(sub, lam)[-1]
product = lam / V_T * angle.diff().cos().prod() ** 2
W = final_variance(sub, "DDIM", lam)
wrong = {"cosine, not squared": lam / V_T * angle.diff().cos().prod()}
verify("eq-ddim-gaussian", W, product, exact.within(1e-8), rejects=wrong)
most = lam / V_T * (angle[-1] / S).cos() ** (2 * S)
assert most > W and (most / lam - 1 + math.pi**2 / 4 / S).abs() < 0.01

# %% tags=["figure"] mystnb={"image": {"alt": "Left: a quarter circle, and two broken lines inside it from the top to the horizontal axis; the one of three steps ends at two thirds of the radius, that of ten steps close to the circle. Right: three falling lines over the number of steps; the one of even angles is lowest, then even times for variance 0.25, then even times for variance 0.0025."}, "figure": {"caption": "DDIM on Gaussian data. Left, for $\\lambda = 1$: signal and noise in a sample, in three steps and in ten. The circle is right; each step drops a perpendicular onto the next ray, and so falls short. Right: the fraction of the variance that is lost, with times even in the angle, and even in $t$ on the linear schedule.", "name": "fig-ddim-angle"}}
fig, (left, right) = plots.figure(2, height=2.8)
arc = torch.linspace(0, math.pi / 2, 100)
_ = left.plot(arc.cos(), arc.sin(), color="#999999")
for S, color in ((3, "#d55e00"), (10, "#0072b2")):
    turn = torch.linspace(math.pi / 2, 0, S + 1)
    r = math.cos(math.pi / 2 / S) ** torch.arange(S + 1)
    _ = left.plot(r * turn.cos(), r * turn.sin(), "o-", color=color, markersize=3.5)
    for ray in turn[1:] if S == 3 else ():
        _ = left.plot([0, ray.cos()], [0, ray.sin()], color="#cccccc", linewidth=0.8, zorder=0)
_ = left.set(aspect="equal", xlabel="signal", ylabel="noise", xlim=(0, 1.05), ylim=(0, 1.05))
lengths = (5, 7, 10, 14, 20, 30, 50, 70, 100)
lines = {"even angle": [1 - math.cos(math.pi / 2 / S) ** (2 * S) for S in lengths]}
for lam_, name in ((lam, "even $t$,\n$\\lambda$ = 0.25"), (fine, "even $t$,\n$\\lambda$ = 0.0025")):
    rows = [final_variance(schedule.evenly(S), "DDIM", lam_) / lam_ for S in lengths]
    lines[name] = [1 - row.item() for row in rows]
for (name, line), color in zip(lines.items(), ("#0072b2", "#009e73", "#333333"), strict=True):
    _ = right.plot(lengths, line, color=color)
    _ = right.text(110, line[-1], name, color=color, va="center", fontsize=9)
_ = right.set(xscale="log", yscale="log", xlim=(5, 420), xlabel="steps", ylabel="variance lost")
right.minorticks_off()
_ = right.set_xticks((5, 10, 20, 50, 100), (5, 10, 20, 50, 100))
fig

# %% [markdown]
# On the left of {numref}`fig-ddim-angle` the angle can be seen. On the right, times even in $t$ lose more than equal angles, and most of all for fine detail.
#
# :::{depth-end}
# :::
#
# (sec-higher-order)=
# ### Better steps
#
# DDIM loses because it holds $\hat{x}$ fixed. The last two estimates tell how $\hat{x}$ changes. With $h_t = \log \mathrm{SNR}_{t-1} - \log \mathrm{SNR}_t$ for the length of a step, extrapolate linearly to its *middle*, where a linear function has its mean:
#
# $$
# \bar{x} = \hat{x}(x_t) + \frac{h_t}{2\, h_{t+1}} \big( \hat{x}(x_t) - \hat{x}(x_{t+1}) \big) , \qquad x_{t-1} = \sqrt{\bar\alpha_{t-1}}\; \bar{x} + \sqrt{1 - \bar\alpha_{t-1}}\; \frac{x_t - \sqrt{\bar\alpha_t}\, \bar{x}}{\sqrt{1 - \bar\alpha_t}} .
# $$ (eq-second-order)
#
# This is DPM-Solver++ of second order {cite:p}`lu2022`. It calls the network no more often than DDIM. What remains in each step is of third order in $h_t$ instead of second, so the whole error falls with the square of the step.
#
# **Check.** The steps of `dpm_solver_sample` on the ring are compared with {eq}`eq-second-order`. The check rejects the step of DDIM, and an extrapolation to the end of the step.

# %% tags=["check", "nbval-check-output"]
_ = torch.manual_seed(0)
half = s.strided(range(5, 101, 5))
film = list(dpm_solver_sample(exact_hat, half, torch.randn(20, 2).double()))
t, h = 12, -half.log_snr.diff()  # h[t - 1] is the length of the step from t
earlier, now = (exact_hat(film[20 - k], half.times[k].expand(20)) for k in (t + 1, t))


def step_with(part):
    x_bar = now + part * h[t - 1] / h[t] * (now - earlier)
    noise_hat = noise_from_x_0(half, film[20 - t], t, x_bar)
    return half.alpha_bar[t - 1] ** 0.5 * x_bar + half.noise_var[t - 1] ** 0.5 * noise_hat


wrong = {"DDIM": step_with(0.0), "to the end": step_with(1.0)}
verify("eq-second-order", film[20 - t + 1], step_with(0.5), exact.within(1e-8), rejects=wrong)

# %% tags=["figure"] mystnb={"image": {"alt": "Two falling lines over the number of steps on logarithmic axes: DDIM from 0.17 at ten steps to 0.02 at eighty; the second order from about 0.005 at ten and twenty steps to 0.0005 at eighty."}, "figure": {"caption": "Relative error of a sample of Gaussian data ($\\lambda = 0.25$) on the way from $t = 1000$ to 20, in steps of equal length in the log signal-to-noise ratio, against infinitely many steps.", "name": "fig-solver-order"}}
ratio_at, errors = schedule.log_snr, {"DDIM": [], "second order": []}
for S in (8, 10, 20, 40, 80):
    goals = torch.linspace(ratio_at[20], ratio_at[1000], S + 1)
    times = torch.searchsorted(-ratio_at[1:].contiguous(), -goals).clamp(max=999) + 1
    sub = schedule.strided(times.unique())
    V = v_of(sub, lam)
    for sampler, off in zip((ddim_sample, dpm_solver_sample), errors.values(), strict=True):
        *_, near, _ = sampler(hat, sub, torch.ones(1, 1).double())
        off += [near.item() / (V[1] / V[-1]) ** 0.5 - 1]
assert errors["second order"][0] < 0 < errors["second order"][1]  # the sign changes
lengths, lines = (10, 20, 40, 80), {k: torch.stack(e).abs()[1:] for k, e in errors.items()}
first, second = ((e[1:-1] / e[2:]).log2() for e in lines.values())
assert (first - 1).abs().max() < 0.2 and second.min() > 1.5
names = {"x_label": "steps", "y_label": "relative error"}
fig, (axes,) = plots.figure(height=2.4)
curves = {name: (lengths, line) for name, line in lines.items()}
_ = plots.curves(curves, **names, log_x=True, log_y=True, axes=axes)
axes.minorticks_off()
_ = axes.set_xticks(lengths, lengths)
fig

# %% [markdown]
# From 20 steps on, twice as many steps halve the error of DDIM and divide that of the second order by three to four.
#
# **When does a higher order not help?** When it extrapolates too far. Ten even times of our digits end with a step from $t = 112$ to 1, in which {eq}`eq-second-order` adds 2.5 times the last change of the estimate. Trailing times avoid this. Nor does it help where the network's own error is the larger one.

# %% [markdown]
# :::{depth-start} samples follow the data if four things hold, and on the ring each can be tested
# :::
# {ref}`The last chapter <sec-ddpm-samples>` found four conditions for a chain with noise: it ends at noise, its steps are small, the variances are right, and the network is exact where it counts {eq}`eq-decoder-limit`. On the ring, errors of few steps can be told from errors of the network, because the exact denoiser is known. The table has 3000 points of each: their variance around the nearest center, relative to that of the components and estimated from the median of the distances; and outliers, farther than four standard deviations from every center.

# %% tags=["numbers", "columns"]
_ = torch.manual_seed(5)
ring_starts, points_of = torch.randn(3000, 2), {}


def ring_report(x):
    """Relative variance by the median, and the fraction of outliers."""
    off = (x[:, None] - halved[0]).square().sum(2).min(1).values / (2 * 0.125**2)
    return f"{off.median() / math.log(2):15.2f}{(off > 8).double().mean():10.1%}"


h = -digit_schedule.evenly(10).log_snr.diff()
assert 2.4 < h[1] / (2 * h[2]) < 2.6  # the last extrapolation of ten even times
print(f"steps  {'sampler':<11}{'exact: variance':>17}  outliers  network: variance  outliers")
for S in (100, 20, 5):
    for how, sampler in {"beta-tilde": ddpm_sample, "DDIM": ddim_sample}.items():
        line = f"{S:5}  {how:<11}"
        for who, hat_ in {"exact": exact_hat, "network": toy.denoiser}.items():
            _ = torch.manual_seed(6)
            *_, points_of[S, how, who] = sampler(hat_, s.evenly(S), ring_starts)
            line += "  " + ring_report(points_of[S, how, who])
        print(line)
far_out = {how: points_of[100, how, "network"].norm(dim=1) > 2 for how in ("DDIM", "beta-tilde")}
assert far_out["DDIM"].any() and not far_out["beta-tilde"].any()
assert ring_starts[far_out["DDIM"]].norm(dim=1).min() > 3

# %% [markdown]
# Five steps spoil the detail, even with an exact denoiser: about half of the points are outliers. With all steps, both samplers come out a little narrow, as {eq}`eq-step-error` says for Gaussian data, with this network as with the exact denoiser. But from the network DDIM puts a few points far outside the ring, and from the exact denoiser none. They started more than three standard deviations out, where noise is rarely found. With added noise, none of the 3000 points is there. (This is one trained network.)
#
# :::{depth-end}
# :::
#
# *Sources: A36, E04.*

# %% [markdown]
# (sec-digits-in-few-steps)=
# ## Digits in few steps
#
# Does the formula foretell what happens to digits? Eight by each sampler:

# %% tags=["figure"] mystnb={"image": {"alt": "Four rows of eight digits in ten steps. DDIM and second order: much the same digits in both rows. Beta-tilde: other digits, two of them broken. Beta: digits on a ground of gray specks."}, "figure": {"caption": "Ten steps of each of four samplers, from the same noise images.", "name": "fig-ten-steps"}}
kinds = {
    "DDIM": ddim_sample,
    "2nd order": dpm_solver_sample,
    "beta-tilde": ddpm_sample,
    "beta": lambda hat, sub, x: ddpm_sample(hat, sub, x, sub.beta),
}
ten = digit_schedule.evenly(10)
drawn = {name: [*kind(denoiser, ten, start)][-1] for name, kind in kinds.items()}
plots.image_rows({name: to_unit(x) for name, x in drawn.items()}, tile=0.7)

# %% [markdown]
# The first two rows show much the same digits: without noise on the way the start decides.
#
# Measure 1000 digits by each sampler and number of steps, and their {ref}`Fréchet distance <sec-ddpm-samples>` from the training digits {eq}`def-frechet`, by means and covariances of features. (Few images scatter, which makes it larger, even for a perfect sampler; most of this bias is taken off. Compare equal numbers, and only differences well beyond the bands.)

# %% tags=["serves"]
seen = {name: x.float() for name, x in load_record(f"{NETWORK}-steps")[0].items()}
seen["all"] = digit_features(load_record(f"{NETWORK}-samples")[0]["samples"] / 255)
of_class = load_record(f"{NETWORK}-guidance")[0]
seen["class"] = of_class["features"][of_class["scale"].tolist().index(1.0)].float()
far = {name: feature_distance(features) for name, features in seen.items()}
far["real"] = real_distance()
assert far["class"].value < far["ddim 20"].value
for S in (10, 20):
    assert far[f"beta {S}"].value > 2 * far[f"ddim {S}"].value

# %% tags=["figure"] mystnb={"image": {"alt": "Four curves of Fréchet distance with bands over the number of steps, on logarithmic axes, and three level lines. The curve of beta starts far above all others and falls below DDIM. The curves of DDIM and second order flatten early, and that of beta-tilde comes down further, nearly to the line of all steps. The lines of real digits and of 20 steps of DDIM with the class lie below all curves."}, "figure": {"caption": "Fréchet distance of 1000 digits from the training digits (lower is better), with bands of two standard errors. Level: all thousand steps with $\\beta_t$, twenty of DDIM, each class equally often (which lowers it; drawn at 0.3), real digits.", "name": "fig-steps-distance"}}
in_record, lengths = ("ddim", "dpm-solver", "beta-tilde", "beta"), (10, 20, 50, 100)
names = dict(zip(kinds, in_record, strict=True))
of_kind = {name: [far[f"{kind} {S}"] for S in lengths] for name, kind in names.items()}
lines = {name: (lengths, [d.value for d in row]) for name, row in of_kind.items()}
bands = {  # two standard errors; a logarithmic axis has no zero
    name: [[max(d.value + k * d.standard_error, 1) for d in row] for k in (-2, 2)]
    for name, row in of_kind.items()
}
level = {"all steps": "all", "DDIM 20, class": "class", "real digits": "real"}
lines |= {name: ([10, 100], [max(far[key].value, 0.3)] * 2) for name, key in level.items()}
fig, (axes,) = plots.figure(height=2.9)
words = {"x_label": "steps", "y_label": "Fréchet distance"}
_ = plots.curves(lines, bands=bands, **words, log_x=True, log_y=True, axes=axes)
axes.minorticks_off()
_ = axes.set_xticks(lengths, lengths)
fig

# %% [markdown]
# In ten and twenty steps the variance $\beta_t$ is far behind. But from twenty steps on $\tilde\beta_t$ is ahead of DDIM, against the formula. That has an exact denoiser; a likely cause, not tested, is that $\tilde\beta_t$ forgets more of the errors of ours ({ref}`sec-feedback`). With the class given, even twenty steps of DDIM come close to real digits, perhaps because early estimates no longer average over several digits.
#
# *Sources: E04.*
#
# (sec-which-sampler)=
# ### Which sampler?
#
# The distance hardly notices a few images that are no digits. So count, in twenty steps, those that the two classifiers of {ref}`chapter 10 <sec-ddpm-samples>` do *not recognize* as a digit, in excess over real digits ({ref}`experiment <exp-samplers>`). The count misses a lack of variety, which the distance sees, so look at both. Neither sees copies of training images: for these, compare distances to the nearest training image with those of new real images (last box).

# %% tags=["figure"] mystnb={"image": {"alt": "Points with error bars: the percentage not recognized, for three samplers in three rows. With the class given all are lower than without, and those with the class drawn first lie near these. The lowest of all are those of beta-tilde with a class, given or drawn. The points of forty steps lie a little to the left of those of twenty."}, "figure": {"caption": "Images not recognized as a digit, in percent above real digits (trailing times; mean and standard error over three times 200 images).", "name": "fig-which-sampler"}}
measured = record_of("samplers")
conditions = {
    "no class": (
        "o",
        {kind: f"{kind}, trailing" for kind in ("DDIM", "second order", "beta-tilde")},
    ),
    "no class, 40 steps": ("x", {kind: f"{kind}, 40 steps" for kind in ("DDIM", "beta-tilde")}),
}
samplers = conditions["no class"][1]
conditions["class drawn first"] = "^", {kind: f"{kind}, class first" for kind in samplers}
given = {kind: f"{name}, class" for kind, name in samplers.items()}
conditions["class given"] = "s", given
fig, (axes,) = plots.figure(height=2.6)
colors = ("#999999", "#999999", "#0072b2", "#d55e00")
for k, (name, (mark, which)) in enumerate(conditions.items()):
    found = [measured.value(condition, "unrecognized") for condition in which.values()]
    y = [list(given).index(kind) + 0.15 * (k - 1.5) for kind in which]
    look = {"fmt": mark, "color": colors[k], "label": name, "capsize": 2}
    _ = axes.errorbar([v.mean for v in found], y, xerr=[v.se for v in found], **look)
_ = axes.set_yticks(range(3), ["DDIM", "second order", "beta-tilde"])
_ = axes.set(xlabel="not recognized (%)", xlim=(0, None), ylim=(2.5, -0.5))
_ = axes.legend(loc="lower center", bbox_to_anchor=(0.45, 1), ncols=4, fontsize=9)
best = measured.value("beta-tilde, trailing, class", "unrecognized").mean
others = [measured.value(given[k], "unrecognized").mean for k in ("DDIM", "second order")]
assert best < 0.5 * min(others)
fig

# %% [markdown]
# With this network $\tilde\beta_t$ helps, and so does the class. With both, less than half as many go unrecognized as with the class alone.
#
# **Where does noise help?** Not where the digit is decided: going back there with new noise (*Restart*, {cite:t}`xu2023restart`) does not help. Later, where strokes are drawn, it helps DDIM, in 40 calls as much as noise at every step ({ref}`experiment <exp-restart>`).
#
# **Draw the class first.** If no class is wanted, draw one, with the training frequencies, then the image with it: $p(x) = \sum_y p(y)\, p(x \mid y)$ ({ref}`experiment <exp-samplers>`). With added noise, $\tilde\beta_t$, 2.4 ± 0.7 % are not recognized, no more than the 3.7 ± 1.0 % of all 1000 steps with the class: by this count twenty steps suffice.
#
# For this network:
#
# | you want | take |
# |---|---|
# | images in about twenty calls | added noise with $\tilde\beta_t$, and the class if the network takes one |
# | images of no given class, by DDIM or DPM-Solver++ {eq}`eq-second-order` | draw the class first |
# | a network without classes | all steps (tried with $\beta_t$), or {ref}`guidance by a weaker network <sec-guided-digits>` |
# | {ref}`a map <sec-inversion>`: codes of images, paths between images | DDIM |

# %% [markdown]
# :::{depth-start} neither more steps nor other times replace the class: the numbers
# :::
# **In twenty steps** added noise and the class help, as counted by the judges, and twice the steps do not replace them ({ref}`experiment <exp-samplers>`, three times 200 images of this network). At trailing times and without a class 16.4 ± 2.4 % of the images of DDIM are not recognized, 13.4 ± 2.4 % of the second order and 10.6 ± 0.1 % of $\tilde\beta_t$; with the class given, 9.4 ± 1.0 %, 8.9 ± 1.3 % and 2.4 ± 0.3 %. In 40 steps without a class they are 13.8 ± 2.5 % of DDIM, 9.8 ± 0.2 % of $\tilde\beta_t$. The trailing times help the second order with a class, from 10.1 ± 1.5 % at even times. With the class drawn first, not recognized are 7.4 ± 1.0 % of DDIM and 7.3 ± 1.5 % of the second order, 9.0 ± 1.5 and 6.2 ± 1.0 percentage points fewer than from the same noise without a class. The Fréchet distance, of which only differences count at 200 images, falls by 7.4 ± 0.5 and 5.5 ± 0.7. (For images of a given class or text {cite:t}`lu2022` report DPM-Solver++ ahead of DDIM in few steps.)
#
# **Fresh noise here and there** ({ref}`experiment <exp-restart>`, three times 500 images). In 40 calls without a class 14.9 ± 1.5 % of the images of DDIM are not recognized, 8.9 ± 0.4 % with all noise fresh, 13.8 ± 0.6 % with fresh noise only where the digit is decided, for $700 < t \le 950$, and 11.9 ± 1.2 % only for $200 < t \le 450$. To go back four times to the start of a window, and down again by DDIM, leaves 17.1 ± 1.0 % in the first window and 8.2 ± 1.7 % in the second.
#
# **In ten steps** the times matter to the second order, and to $\tilde\beta_t$. The record has 500 images of each, from the same noise; the fourth row is drawn by DDIM in 20 steps with the class.

# %% tags=["numbers", "columns"]
votes, _ = load_record(f"{NETWORK}-times")
print("not recognized          even times         trailing times")
rows = {"DDIM": "ddim", "2nd order": "dpm-solver", "beta-tilde": "beta-tilde"}
for row, name in (rows | {"DDIM, 20 steps, class": "class"}).items():
    pair = [excess_of_votes(votes[f"{name} {times}"].double()) for times in ("even", "trailing")]
    even, trailing = (f"{v.value:7.1%} +- {v.standard_error:.1%}" for v in pair)
    print(f"{row:22}{even}{trailing:>24}")

# %% [markdown]
# :::{depth-end}
# :::

# %% [markdown]
# :::{depth-start} given five factors, samples are nearly renders and show what was asked for
# :::
# Whether a drawn digit is a possible one, only another network can say. The houses of {ref}`chapter 7 <sec-known-causes>` come from a renderer with five factors of variation, so a sample can be compared with its *nearest render*. The network `ddpm-scenes`, a U-Net for $3 \times 32 \times 32$ values, was given the factors in nine of ten training examples, so it works without them, too. In 25 steps:

# %% tags=["figure"] mystnb={"image": {"alt": "Rows of ten small colored houses. The first rows show the same ten houses, alike in color, position and shadow. The row without factors shows other houses; the last, by the small VAE, blurred houses and colored smears."}, "figure": {"caption": "Houses asked for by their factors, as rendered, and as drawn by DDIM and with added noise; samples without factors, and of a small VAE.", "name": "fig-drawn-houses"}}
houses, _ = load_record("ddpm-scenes-scenes")
ways = {
    "given, DDIM": "conditional",
    "given, noise": "fresh noise",
    "none given": "unconditional",
    "small VAE": "VAE",
}
rows = {name: houses[way][:10] / 255 for name, way in ways.items()}
plots.image_rows({"asked for": render_scenes(houses["asked"][:10])} | rows, tile=0.6)

# %% [markdown]
# The table has the median squared distance from the nearest render; how many are *unlike any render*, farther from it than 99 % of test scenes are from the nearest training scene (with the upper end of a 95 % interval, {cite:t}`wilson1927`); and the $R^2$ of each factor that was asked for with that of the nearest render.

# %% tags=["numbers", "columns"]
limit = houses["real: training distance"].quantile(0.99)
print(
    f"{'200 images':14}{'distance':>10}{'unlike any render':>20}"
    + "".join(f"{f:>11}" for f in SCENE_FACTORS)
)
for name, way in {"test scenes": "real", **ways}.items():
    d = houses[f"{way}: distance"]
    unlike = proportion(d > limit)
    found = houses[f"{way}: causes"]
    line = f"{name:14}{d.median():10.3f}{f'{unlike.value:.0%}, at most {unlike.high:.0%}':>20}"
    for k in range(5):
        of_factor = r_squared(houses["asked"][:, k], found[:, k]).value
        line += (
            f"{of_factor:11.4f}" if way in ("real", "conditional", "fresh noise") else f"{'-':>11}"
        )
    print(line)
medians = {
    way: houses[f"{way}: distance"].median() for way in ("conditional", "unconditional", "VAE")
}
assert medians["conditional"] < medians["unconditional"] < medians["VAE"]
copied = [houses[f"{way}: training distance"].median() for way in ("unconditional", "real")]
assert copied[0] > 0.9 * copied[1]

# %% [markdown]
# Given the factors, samples are nearly renders (0.8 is an error of four gray levels in each value) and show what was asked for. Without them the squared distance is about twice as large. As a rule they are no copies: in the median no closer to the training scenes than new scenes.
#
# **Are VAEs worse, then?** The small one is that of chapter 7, with fewer parameters, scenes and minutes. The squared distance from the nearest render is 0.741 ± 0.004 in the median for a VAE that has the same scenes, as many parameters and the same minutes, 33.2 ± 3.1 for the small one, and 1.71 ± 0.03 for the diffusion model without factors ({ref}`experiment <exp-houses>`): the VAE's houses are nearer to renders. Its reconstructions of test scenes are at 0.687 ± 0.028. But the diffusion model had no factors in a tenth of its training only; given them, it comes as near (table).
#
# :::{depth-end}
# :::
#
# *Sources: B28.*

# %% [markdown]
# (sec-inversion)=
# ## A map from noise to images
#
# A sampler without added noise is a map: each $x_T$ has one $x_0$. Run backward, it gives each digit a code among the noise images. To solve a step {eq}`eq-ddim-step` for $x_t$ one needs the estimate *at* $x_t$; `ddim_invert` takes that at $x_{t-1}$, nearly the same for small steps. So the more steps, the closer is what comes back:

# %% tags=["figure"] mystnb={"image": {"alt": "Three rows of six digits: the originals, and the same after inversion and sampling in five and in thirty steps. All rows show the same digits."}, "figure": {"caption": "Six test digits, and what comes back after inversion and sampling in 5 and in 30 steps.", "name": "fig-inversion"}}
x = to_symmetric(test.images[:6])
rows, back_errors = {"digits": to_unit(x)}, []
for S in (5, 10, 30):
    *_, x_T = ddim_invert(denoiser, digit_schedule.evenly(S), x)
    *_, back = ddim_sample(denoiser, digit_schedule.evenly(S), x_T)
    if S != 10:
        rows[f"{S} steps"] = to_unit(back)
    back_errors += [(to_unit(back) - to_unit(x)).square().mean().item()]
plots.image_rows(rows, tile=0.7)

# %% [markdown]
# The mean squared errors in 5, 10 and 30 steps, and the codes:

# %% tags=["numbers", "mnist"]
print("mean squared error on [0, 1]:", ", ".join(f"{e:.5f}" for e in back_errors))
print(f"the codes: mean {x_T.mean():.2f}, standard deviation {x_T.std():.2f}")
assert test.name != "mnist" or (back_errors[2] < back_errors[0] < 0.01 and x_T.std() < 0.9)

# %% [markdown]
# If the network and the map were exact, codes of real digits would be draws from $\mathcal{N}(0, I)$. Those of these six are far narrower; why, we have not tested.
#
# **Between two digits.** Codes can be interpolated, like the latents of {ref}`chapter 7 <sec-latent-walks>`. (With added noise this would not work: each step draws anew, so the start does not decide the image.) Noise images of 784 dimensions lie near a sphere of radius 28. The middle of the straight line between two of them is at 20, where noise images never are. Codes lie farther in, but a straight line would shorten them as well. So we follow a great circle {eq}`eq-slerp`:

# %% tags=["figure"] mystnb={"image": {"alt": "Two rows of seven images from one digit to another. Above, sevens, one broken stroke, and then twos. Below, one digit fades out while the other fades in."}, "figure": {"caption": "From one digit to another through the noise (thirty steps of DDIM) and through the pixels, where the two overlap.", "name": "fig-noise-walk"}}
part = torch.linspace(0, 1, 7)
codes_between = spherical_interpolation(x_T[:1], x_T[1:2], part)[:, 0]
*_, between = ddim_sample(denoiser, digit_schedule.evenly(30), codes_between)
fade = torch.lerp(x[:1], x[1:2], part.view(7, 1, 1, 1))
plots.image_rows({"noise": to_unit(between), "pixels": to_unit(fade)}, tile=0.8)

# %% [markdown]
# (sec-feedback)=
# ## Denoising is feedback
#
# Does added noise make sampling robust? Test it with a push: at time $t$ add $\delta$ to $x_t$, and go on with the same random numbers as without it. How much of $\delta$ is left at the end? For Gaussian data the noise cancels in the difference of the two paths, and the slopes of {eq}`eq-noiseless` multiply, whatever $\sigma_t$ is. So
#
# $$
# \frac{\text{change of } x_0}{\delta} = \frac{\sqrt{\bar\alpha_t}\, \lambda}{V_t} = \varrho_t \sqrt{\frac{\lambda}{V_t}} , \qquad \varrho_t = \sqrt{\frac{\bar\alpha_t\, \lambda}{V_t}} ,
# $$ (eq-push)
#
# where $\varrho_t$ is the correlation of $x_t$ and $x$. DDIM with many small steps leaves $\sqrt{\lambda / V_t}$, since the cosines of {eq}`eq-ddim-cosine` are then 1. The extra factor $\varrho_t < 1$ is the gain of the DDPM's steps. So it does, but not the noise itself, for the formula has no $\sigma_t$. To make room for the noise the mean contracts more than a step of DDIM, and shrinks the push with it. Without the noise the variance would be lost {eq}`eq-noiseless`. An error of the network is a push as well, and is forgotten alike. The price: with $\tilde\beta_t$ more variance is lost in a step {eq}`eq-step-error`, so an exact denoiser needs more steps than by DDIM; and there is no map.
#
# **Check.** Chains are pushed at $t = 400$ without noise and with the variance $\beta_t$, for three variances of the data. The check rejects the factor of DDIM.

# %% tags=["check", "nbval-check-output"]
lams, t_push = torch.tensor([0.0025, 0.25, 4.0]).double(), 400
rest = schedule.strided(range(1, t_push + 1))
here, ends = torch.randn(1, 3).double(), {}
for push in (0.0, 1.0):
    for name, noise_of in {"none": 0 * rest.beta, "beta": rest.beta}.items():
        _ = torch.manual_seed(3)
        *_, ends[name, push] = ddpm_sample(normal_data(lams), rest, here + push, noise_of)
    *_, ends["DDIM", push] = ddim_sample(normal_data(lams), rest, here + push)
change = {n: (ends[n, 1.0] - ends[n, 0.0])[0] for n in ("none", "beta", "DDIM")}
V = rest.alpha_bar[-1] * lams + rest.noise_var[-1]
right, of_ddim = rest.alpha_bar[-1] ** 0.5 * lams / V, (lams / V) ** 0.5
assert torch.allclose(change["DDIM"], of_ddim, rtol=0.05)
for name in ("none", "beta"):
    verify("eq-push", change[name], right, exact.within(1e-9), rejects={"DDIM's": of_ddim})

# %% [markdown]
# Digits show it as well: with added noise less is left of a gray bar laid over the noisy images than with DDIM (box). In this sense denoising is feedback.
#
# :::{depth-start} with added noise a bar across digits is partly bent into strokes
# :::
# We lay a gray bar over noisy images at $t = 700$ and go on with added noise and by DDIM.

# %% tags=["figure"] mystnb={"image": {"alt": "Four rows of six digits. First the noisy digits with a faint horizontal bar. Then the digits without a push. With the push and added noise the bar is partly bent into strokes; with DDIM it is a straight white bar."}, "figure": {"caption": "Six digits, pushed at $t = 700$ by a bar.", "name": "fig-push"}}
_ = torch.manual_seed(0)
digits = to_symmetric(test.images[10:26])
x_t = add_noise(digit_schedule, digits, 700, torch.randn_like(digits))
pushed = x_t.clone()
pushed[:, :, 17:20] += 1.0
rest, ends = digit_schedule.strided(range(28, 701, 28)), {}
for name, sampler in {"noise": ddpm_sample, "DDIM": ddim_sample}.items():
    for push, x in {"no push": x_t, "push": pushed}.items():
        _ = torch.manual_seed(4)
        *_, ends[name, push] = sampler(denoiser, rest, x)
rows = {"pushed": pushed / 1.5, "no push": ends["noise", "no push"]}
rows |= {"noise": ends["noise", "push"], "DDIM": ends["DDIM", "push"]}
plots.image_rows({name: to_unit(x[:6]) for name, x in rows.items()}, tile=0.7)

# %% [markdown]
# How bright is what is left of the bar, on 16 digits? (White is 1; only pixels that are black without the push count.)

# %% tags=["numbers", "mnist"]
bar = torch.zeros(16, 1, 28, 28, dtype=torch.bool)
bar[:, :, 17:20] = True
left_of_bar = {}
for name in ("noise", "DDIM"):
    calm, hit = ends[name, "no push"], ends[name, "push"]
    black = bar & (calm < -0.9)
    bright = torch.where(black, hit - calm, 0.0).flatten(1).sum(1)
    left_of_bar[name] = bright / black.flatten(1).sum(1) / 2
    print(f"{name:6} brightness where the bar met black: {left_of_bar[name].mean():.2f}")
less = left_of_bar["DDIM"] - left_of_bar["noise"]
print(f"difference, digit by digit: {less.mean():.2f} +- {less.std() / 16**0.5:.2f}")
assert less.mean() > 2 * less.std() / 16**0.5

# %% [markdown]
# :::{depth-end}
# :::
#
# *Sources: C14.*

# %% [markdown]
# (sec-sampling-wrong)=
# ## What goes wrong
#
# **The steps are skipped, but the betas stay.** A step over five times needs the larger $1 - \bar\alpha_t / \bar\alpha_{t-5}$. With the original $\beta_t$, a quarter to a third of it, each step removes too little noise. **The steps are renumbered, and the network is given the new number.** Given 1 to 20 instead of 5 to 100, it assumes much less noise than there is.


# %% tags=["figure"] mystnb={"image": {"alt": "Three panels of points. First, as it should be: eight clusters on a ring, with a few points between them. Second, old betas: a broad noisy ring in which the clusters merge. Third, given the count: an even broader one."}, "figure": {"caption": "Twenty steps on the ring with the exact denoiser: right, with the betas of the small steps, and with the wrong time.", "name": "fig-mistakes"}}
def given_the_count(x, t):
    """The exact denoiser, given 1 to 20 in place of 5, 10, ..., 100."""
    return exact_hat(x, torch.div(t, 5, rounding_mode="floor"))


def exact_noise(x, t):
    return noise_from_x_0(s, x, t, exact_hat(x, t))


_ = torch.manual_seed(0)
fifth, x_T = s.strided(range(5, 101, 5)), torch.randn(1500, 2)
*_, right = ddpm_sample(exact_hat, fifth, x_T)
old_betas = algorithm_2(exact_noise, x_T, s.posterior_var**0.5, range(100, 0, -5))
*_, miscounted = ddpm_sample(given_the_count, fifth, x_T)
taken = s.beta[fifth.times[1:]] / fifth.beta[1:]
assert taken.min() > 0.23 and taken.max() < 0.37
spoiled = {"right": right, "old betas": old_betas, "given the count": miscounted}
fig, panels = plots.figure(3, height=2.4)
for panel, (name, points) in zip(panels, spoiled.items(), strict=True):
    words = {"x_label": f"$x_1$, {name}", "y_label": "$x_2$"}
    _ = plots.scatter(points.clamp(-3, 3), **words, bounds=(-3, 3, -3, 3), axes=panel)
fig

# %% [markdown]
# **The schedule does not end at noise.** With $\bar\alpha_T = 0.005$ a training image at $T$ keeps 7 % of its contrast; its mean brightness can be read off, as averaging removes the noise. Sampling starts from noise of mean zero, taken for that of the image, so images come out of medium brightness {cite:p}`lin2024`.

# %% [markdown]
# :::{dropdown} If you come from the lectures
# Some notes say that repeated denoising without noise fails because the errors of the denoisers accumulate. It fails with exact denoisers as well {eq}`eq-noiseless`, so accumulated errors are not needed to explain it. Some say that the added noise is what gives robustness. In the sense of {eq}`eq-push` it is the contraction that comes with it; the noise itself cancels. And slides print Algorithm 2 with the noise $z$ (our $\xi$) and a $\sigma_t$ that they do not define: it is a choice, of which $\beta_t$ and $\tilde\beta_t$ are the common ones.
#
# In the library diffusers a sampler is a *scheduler*, its number of steps `num_inference_steps`, and clipping `clip_sample`. The tests of the companion compare `ddpm_sample`, `ddim_sample` and `dpm_solver_sample` with it step for step.
# :::

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
# A sampler skips from a time with $\bar\alpha$ equal to `alpha_bar` down to one with `alpha_bar_next`. Its parameter is `eta`. What is the standard deviation of the noise that it adds?


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
# - Algorithm 2 goes back in small steps; their mean is the posterior's with an estimate of the image {eq}`eq-line-four`.
# - Denoising alone contracts, even with a perfect denoiser {eq}`eq-noiseless`. Noise restores the variance that a mean lacks {eq}`eq-variance-restored`.
# - Training fixes $q(x_t \mid x)$ only, so one network serves a family of samplers {eq}`eq-ddim-marginals`. DDIM carries the noise along {eq}`eq-ddim-step`, and steps can be skipped.
# - Few steps lose fine detail, or drown it in noise {eq}`eq-step-error`. A second order lets the estimate change during a step {eq}`eq-second-order`.
# - In twenty steps our network draws the best digits with $\tilde\beta_t$ and the class ({ref}`sec-which-sampler`); DDIM is a map.
#
# To go on: {cite:t}`lu2022` on few steps; {doc}`/notebooks/12_score` for continuous time.
