# %% [markdown]
# # Diffusion priors
#
# A sampler that draws any digit is a toy. One wants *this*: a seven; the lower half of a digit whose upper half is known; a sharp picture for a blurred one. It looks as if each wish needed a model of its own. It does not. Below, one network and one set of eight clouds of noise serve three wishes. A fourth row comes from sixteen numbers for each picture, and from a network that needs far less than a hundredth of the work.

# %% tags=["setup", "hide-input"]
# The set-up cell: tools/notebooks.py writes it.

# %%
from functools import partial

import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal, Normal
from torch.nn import functional as F

from companion import data
from companion.data import to_symmetric, to_unit
from companion.denoisers import MixtureDenoiser, gaussian_denoiser
from companion.guidance import guided, posterior_denoiser
from companion.page import plots
from companion.page.show import show
from companion.page.verify import exact, monte_carlo, quadrature, variance, verify
from companion.samplers import ddim_sample, ddpm_sample, dpm_solver_sample
from companion.schedule import add_noise, linear_schedule
from companion.zoo import pretrained
from companion.zoo.architectures import codes, digit_encoder
from companion.zoo.weights import load_record

# %% [markdown]
# Three networks are used: a diffusion model of digits that can be told the class, one of the codes of a VAE, and a classifier as the judge.

# %%
_ = torch.manual_seed(0)
train, test = data.load("mnist", "train"), data.load("mnist", "test")
model, latent = pretrained("ddpm-mnist-classes"), pretrained("ldm-mnist")
judge = pretrained("classifier-mnist")
vae, denoiser, schedule = digit_encoder(), model.denoiser, linear_schedule(1000)


def end(film):
    """The last of what a sampler yields."""
    *_, x = film
    return x


# %% [markdown]
# The upper half in the third row is that of a digit of the test set. Look at what the sampler makes of it below.

# %% mystnb={"image": {"alt": "Four rows of eight digits. First row: different digits. Second row: eight sevens. Third row: eight completions of one digit, all with the same upper half. Fourth row: different digits, a little smoother."}, "figure": {"caption": "Four wishes. The first three rows start from the same eight clouds of noise.", "name": "fig-four-wishes"}}
clouds, given = torch.randn(8, 1, 28, 28), to_symmetric(test.images[[9]])
upper = (torch.arange(784) < 392).view(1, 28, 28)
cov = torch.cov(to_symmetric(train.images[:10_000]).flatten(1).T)
rows_of_I = torch.eye(784)[upper.flatten()]
y = (given.flatten(1) @ rows_of_I.T).expand(8, -1)
wishes = {
    "anything": denoiser,
    "a seven": guided(denoiser, torch.full((8,), 7), 3.0),
    "this upper half": posterior_denoiser(denoiser, schedule, rows_of_I, y, 0.02, cov),
}
drawn = {name: end(ddpm_sample(hat, schedule.evenly(20), clouds)) for name, hat in wishes.items()}
z = end(ddpm_sample(latent.denoiser, schedule.evenly(50), torch.randn(8, 16)))
rows = {name: to_unit(x) for name, x in drawn.items()}
plots.image_rows(rows | {"16 numbers": vae.likelihood(z).mean})

# %% [markdown]
# In {numref}`fig-four-wishes` the sampler is the same for the first three rows, and so is every weight of the network. What changes is the *denoiser* that the sampler is given: a function of $x_t$ and $t$, made from the network's answers. That is the one idea of this chapter:
#
# > What is conditioned is the denoiser. Give a sampler of {ref}`the last chapter <sec-sampling-summary>` the mean of $x$ given $x_t$ *and the condition*, and it draws from $p(x \mid \text{condition})$, as nearly as it draws from $p(x)$ without one.
#
# The second row is an exception, and a famous one: there the condition is *exaggerated*, and {ref}`what is sampled then <sec-no-known-law>` is a question of its own.

# %% [markdown]
# (sec-bayes-score)=
# ## Bayes for the denoiser
#
# Let $y$ be what is known about the picture: its class, some of its pixels, a blurred copy. Given $x$, it has nothing to do with the noise of the diffusion. What a sampler needs is $\mathbb{E}[x \mid x_t, y]$ in place of $\mathbb{E}[x \mid x_t]$. By Bayes' rule, $q(x_t \mid y) \propto q(x_t)\, q(y \mid x_t)$. In the gradient of the logarithm, by $x_t$, the factor that does not depend on $x_t$ drops out:
#
# $$
# \nabla \log q(x_t \mid y) = \nabla \log q(x_t) + \nabla \log q(y \mid x_t) .
# $$ (def-bayes-score)
#
# The score is the denoiser in another language {eq}`eq-tweedie`. So, with $\hat{x}(x_t) = \mathbb{E}[x \mid x_t]$, and for every law of the data and of $y$,
#
# $$
# \mathbb{E}[x \mid x_t, y] = \hat{x}(x_t) + \frac{1 - \bar\alpha_t}{\sqrt{\bar\alpha_t}}\; \nabla \log q(y \mid x_t) .
# $$ (eq-conditional-denoiser)
#
# :::{dropdown} Proof
# Tweedie's formula {eq}`eq-tweedie` holds for the data law $p(x \mid y)$ as for any other, because given $x$ the noise is the same. Subtract the formula for $p(x)$; by {eq}`def-bayes-score` the difference of the scores is $\nabla \log q(y \mid x_t)$. $\square$
# :::
#
# The prior and the condition have come apart into two terms. The first is a network that was trained without any thought of $y$. The second asks a question about noisy pictures: *how likely is $y$, seen from $x_t$?*
#
# The ring of eight humps has an exact answer to all of it. Let $y$ be the quarter of the ring that a point comes from, two humps each. On the left of the check is the denoiser of one quarter alone; on the right that of the whole ring, with the gradient of the class probability by automatic differentiation. Two wrong forms are rejected: the factor $\sqrt{1 - \bar\alpha_t}$, which belongs to the noise and not to the picture, and a classifier that was made for clean points.


# %% tags=["nbval-check-output"]
from companion.score import exact_score, noisy_mixture

s = linear_schedule(100, 1e-3, 0.2)
angle = torch.arange(8).double() * torch.pi / 4
means = 1.25 * torch.stack([angle.cos(), angle.sin()], 1)
covs = (0.125**2 * torch.eye(2).double()).expand(8, 2, 2)
law = MixtureSameFamily(Categorical(torch.ones(8).double()), MultivariateNormal(means, covs))
ring_hat = MixtureDenoiser(s, torch.full((8,), 1 / 8).double(), means, covs)
quarter_hat = MixtureDenoiser(s, torch.full((2,), 0.5).double(), means[:2], covs[:2])


def log_quarter(x_t, t):
    """log q(y | x_t) of the first quarter; t = 0 is the classifier of clean points."""
    noisy = noisy_mixture(law, s.alpha_bar[t] ** 0.5, s.noise_var[t])
    log_share = noisy.component_distribution.log_prob(x_t[:, None]).log_softmax(1)
    return log_share[:, :2].logsumexp(1)


# %% tags=["nbval-check-output"]
_ = torch.manual_seed(0)
for t in (20, 50, 100):
    x_t, time = torch.randn(50, 2).double(), torch.full((50,), t)
    told, untold = quarter_hat(x_t, time), ring_hat(x_t, time)
    pull = exact_score(lambda x, t=t: log_quarter(x, t), x_t)
    clean = exact_score(lambda x: log_quarter(x, 0), x_t)
    var, factor = s.noise_var[t], s.noise_var[t] / s.alpha_bar[t] ** 0.5
    wrong = {"factor of the noise": untold + var**0.5 * pull}
    wrong["classifier of clean points"] = untold + factor * clean
    right = untold + factor * pull
    verify("eq-conditional-denoiser", told, right, exact.within(1e-8), rejects=wrong)

# %% [markdown]
# **Classifier guidance** uses {eq}`eq-conditional-denoiser` as it stands {cite:p}`dhariwal2021`: train a classifier on *noisy* pictures of all times, and add the gradient of its log-probability to the answers of a diffusion model, which need not have heard of classes. (They also multiply the gradient by a number above 1. What that does, we shall see {ref}`below <sec-no-known-law>`.) The next cell does so with the exact classifier of the ring. The third panel has a shortcut: the classifier of clean points, asked about noisy ones. Can you see what is wrong with it?


# %% mystnb={"image": {"alt": "Three panels of points. First, no condition: eight round humps on a ring. Second, exact classifier: only two neighboring humps, at the right and the upper right. Third, classifier of clean points: nearly the same two humps."}, "figure": {"caption": "The same denoiser: alone, with the gradient of the exact classifier of noisy points, and with that of the classifier of clean ones.", "name": "fig-classifier-guidance"}}
def with_gradient(log_prob):
    """The ring's denoiser, guided by the gradient of log_prob(x, t)."""

    def x_hat(x_t, t):
        factor = s.noise_var[t[0]] / s.alpha_bar[t[0]] ** 0.5
        pull = exact_score(lambda x: log_prob(x, t[0]), x_t)
        return ring_hat(x_t, t) + factor * pull

    return x_hat


_ = torch.manual_seed(0)
x_T = torch.randn(1500, 2).double()
ways = {"no condition": ring_hat, "exact": with_gradient(log_quarter)}
ways["clean"] = with_gradient(lambda x, t: log_quarter(x, 0))
ended = {name: end(ddpm_sample(hat, s, x_T)) for name, hat in ways.items()}
fig, panels = plots.figure(3, height=2.7)
for panel, (name, points) in zip(panels, ended.items(), strict=True):
    names = {"x_label": f"$x_1$, {name}", "y_label": "$x_2$"}
    box = (-3, 3, -3, 3)
    _ = plots.scatter(points.clamp(-3, 3), **names, bounds=box, axes=panel)
fig

# %% [markdown]
# In {numref}`fig-classifier-guidance` the last two panels look alike. So measure. Which share of the points is in one of the two humps, within four standard deviations? How far is the middle of the points that are nearest to a center from that center? And how wide are the humps, relative to those of the data? (Of a round normal law in the plane, half of the points are within 1.18 standard deviations.)

# %% tags=["nbval-check-output"]
inside, shift, width = {}, {}, {}
for name, points in ended.items():
    apart = (points[:, None] - means).norm(dim=2)
    width[name] = apart.min(1).values.median() / (1.1774 * 0.125)
    inside[name] = (apart[:, :2] < 4 * 0.125).any(1).double().mean()
    middles = torch.stack([points[apart.argmin(1) == k].mean(0) for k in (0, 1)])
    shift[name] = (middles - means[:2]).norm(dim=1).max()
alone = abs(inside["no condition"] - 0.25)
print("no condition: a quarter, within 5 percentage points:", bool(alone < 0.05))
print("exact classifier: more than 97 percent:", bool(inside["exact"] > 0.97))
print("  off by less than 0.02:", bool(shift["exact"] < 0.02))
print("classifier of clean points: more than 97, too:", bool(inside["clean"] > 0.97))
print("  but off by more than 0.03:", bool(shift["clean"] > 0.03))
both = max(width["no condition"], width["exact"])
print("humps narrower than the data's, with and without:", bool(both < 0.97))

# %% [markdown]
# With the exact classifier the points are where they belong. Their humps come out somewhat narrow, but so do those without a condition: that is the sampler's doing ({ref}`chapter 11 <sec-variance-recursion>`). With the shortcut they are pushed away from the rest of the ring, by about a third of a standard deviation, and no eye notices. This is why classifiers for guidance are trained on noisy pictures.

# %% [markdown]
# (sec-classifier-free)=
# ## Guidance without a classifier
#
# A second network for the classifier is a nuisance. Read {eq}`eq-conditional-denoiser` from right to left: the gradient of the class probability *is* the difference of two denoisers, up to a factor. So let one network learn both {cite:p}`ho2022`.
#
# :::{prf:algorithm} Training with and without the label
# :label: alg-classifier-free
# Repeat until done:
#
# 1. Draw a picture $x$ with its label $y$, a time $t$ and noise.
# 2. With probability 0.1, replace the label by an eleventh one that means *not told*.
# 3. Take a step of gradient descent on the usual loss {eq}`def-simple-loss`, or on that of $v$.
# :::
#
# In code these are a few lines, around the loss of chapter 10:

# %% tags=["nbval-check-output"]
from companion.guidance import classifier_free_loss

show(classifier_free_loss, docstring=False)

# %% [markdown]
# The labels reach the network as the time does: a vector for each is learned, and added to that of the time. Write $\hat{x}(x_t, y)$ for what it answers when told, and $\hat{x}(x_t)$ when not told. The *guided* denoiser is
#
# $$
# \hat{x}_\kappa(x_t, y) = \hat{x}(x_t) + \kappa\, \big( \hat{x}(x_t, y) - \hat{x}(x_t) \big) ,
# $$ (def-guided)
#
# with the *guidance scale* $\kappa$. At 0 the label is ignored. At 1 it is {eq}`eq-conditional-denoiser`, the denoiser of the class. Above 1 the difference is exaggerated. With perfect denoisers its score is
#
# $$
# \nabla \log q(x_t) + \kappa\, \nabla \log q(y \mid x_t) .
# $$ (eq-guided-score)
#
# (Insert {eq}`eq-conditional-denoiser` into {eq}`def-guided`, and translate by {eq}`eq-tweedie`.) The classifier is implicit: its gradient is known, and nobody trained it. (That is so for perfect denoisers. Two that were *learned* differ by a field of vectors that need not be the gradient of anything {cite:p}`ho2022`.) The cell compares the score of the guided denoiser on the ring, for $\kappa = 3$, with automatic differentiation. Rejected is the reading of 3 as what is *added* to the denoiser of the class.

# %% tags=["nbval-check-output"]
from companion.schedule import score_from_x_0

_ = torch.manual_seed(0)
x_t, time = torch.randn(50, 2).double(), torch.full((50,), 50)
told, untold = quarter_hat(x_t, time), ring_hat(x_t, time)
left = score_from_x_0(s, x_t, 50, untold + 3 * (told - untold))
noisy = noisy_mixture(law, s.alpha_bar[50] ** 0.5, s.noise_var[50])
free = exact_score(noisy.log_prob, x_t)
pull = exact_score(lambda x: log_quarter(x, 50), x_t)
wrong = {"class and three more": free + 4 * pull}
rule = exact.within(1e-8)
verify("eq-guided-score", left, free + 3 * pull, rule, rejects=wrong)

# %% [markdown]
# **In any language.** Networks estimate the noise, or $v$, or the score. Do these have to be turned into pictures first? No. For $e$ any of them,
#
# $$
# e_\kappa = e + \kappa\, (e_y - e) = \kappa\, e_y + (1 - \kappa)\, e ,
# $$ (eq-guided-languages)
#
# since each is an affine function of $\hat{x}$, whose coefficients depend on $x_t$ and $t$ only, and the weights $\kappa$ and $1 - \kappa$ add up to 1. {cite:t}`ho2022` write it for the noise, as $(1 + w)\, \varepsilon_y - w\, \varepsilon$. So their strength $w$ is $\kappa - 1$. Many programs count as we do, and some as they do; a "scale" that comes without a formula says nothing. The cell takes 3 in both conventions, and rejects that they are the same.

# %% tags=["nbval-check-output"]
from companion.schedule import noise_from_x_0, v_from_x_0

kappa, mixed = 3, untold + 3 * (told - untold)
for language in (noise_from_x_0, v_from_x_0, score_from_x_0):
    e_y, e, left = (language(s, x_t, 50, x_0) for x_0 in (told, untold, mixed))
    wrong = {"the paper's w = 3": (1 + 3) * e_y - 3 * e}
    right = kappa * e_y + (1 - kappa) * e
    verify("eq-guided-languages", left, right, exact.within(1e-8), rejects=wrong)

# %% [markdown]
# The companion's `guided` is {eq}`def-guided`, and nothing else. Each call is two of the network.

# %% tags=["nbval-check-output"]
show(guided, docstring=False)

# %% [markdown]
# (sec-no-known-law)=
# ### Above 1, from which law?
#
# At each time, {eq}`eq-guided-score` is the score of the law proportional to $q(x_t)\, q(y \mid x_t)^\kappa$. It is tempting to conclude that samples follow the *tilted* law $p_\kappa(x) \propto p(x)\, p(y \mid x)^\kappa$. But a sampler needs the score of a law to which noise was added, and tilting does not commute with adding noise. How much does it matter? Normal laws tell exactly. Let the data be $\mathcal{N}(0, 1)$, and those of the class $\mathcal{N}(m, \lambda_y)$ with $\lambda_y < 1$. The tilted law, proportional to $p(x)^{1 - \kappa}\, p(x \mid y)^\kappa$, is normal, with the variance
#
# $$
# \lambda_\kappa = \frac{1}{1 + \kappa\, (1 / \lambda_y - 1)} .
# $$ (eq-tilted-variance)
#
# The precisions, the inverses of the variances, are mixed. The sampler does something else.
#
# :::{prf:proposition} What guidance samples
# :label: prop-guided-variance
# Let $\lambda_y < 1$ and $\kappa \ge 1$. With exact denoisers, from pure noise, and in the limit of infinitely many small steps, DDIM and DDPM draw from normal laws with the variances
#
# $$
# W_{\mathrm{DDIM}} = \lambda_y^\kappa , \qquad W_{\mathrm{DDPM}} = \frac{\lambda_y - \lambda_y^{2 \kappa}}{(1 - \lambda_y)\, (2 \kappa - 1)} .
# $$ (eq-guided-variance)
# :::
#
# :::{dropdown} Proof
# Take the clock $r = \log \bar\alpha$ of {eq}`def-probability-flow`. The $x_t$ of the class have the variance $V = 1 - (1 - \lambda_y)\, \bar\alpha$, so $\mathrm{d} V / \mathrm{d} r = V - 1$, and those of all data have the variance 1. The guided score has the slope $- P$ with $P = \kappa / V + 1 - \kappa$. Along the flow, $\mathrm{d} \log W / \mathrm{d} r = 1 - P = \kappa\, (1 - 1 / V) = \kappa\, \mathrm{d} \log V / \mathrm{d} r$. Both start at 1 in pure noise, so $W = V^\kappa$, and at the data $V = \lambda_y$.
#
# The limit of DDPM moves with $\mathrm{d} x = (x / 2 + \text{score})\, \mathrm{d} r$ and noise of variance $\mathrm{d} r$. So $\mathrm{d} W / \mathrm{d} r = (1 - 2 P)\, W + 1$, where $1 - 2 P = 2 \kappa\, \mathrm{d} \log V / \mathrm{d} r - 1$. Hence $\mathrm{d} (W \bar\alpha V^{- 2 \kappa}) / \mathrm{d} r = \bar\alpha V^{- 2 \kappa}$, and at the data $W = \lambda_y^{2 \kappa} \int_0^1 \big( 1 - (1 - \lambda_y)\, \bar\alpha \big)^{- 2 \kappa}\, \mathrm{d} \bar\alpha$. $\square$
# :::
#
# At $\kappa = 1$ all three are $\lambda_y$. Above, *the two samplers disagree with each other*, and neither draws from the tilted law. {cite:t}`bradley2024` showed it with such examples. First the tilted variance, by summing over a grid. Rejected are the variances of the two samplers, and a mixture of the variances in place of the precisions.

# %% tags=["nbval-check-output"]
kappa, (m, lam_y) = 3, torch.tensor([1.0, 0.5]).double()
grid = torch.linspace(-12, 12, 4001, dtype=torch.double)
free, of_class = Normal(0.0, 1.0), Normal(m, lam_y**0.5)
p = ((1 - kappa) * free.log_prob(grid) + kappa * of_class.log_prob(grid)).softmax(0)
tilted_mean = (p * grid).sum()
tilted_var = (p * (grid - tilted_mean) ** 2).sum()
tilted = 1 / (1 + kappa * (1 / lam_y - 1))
flow = lam_y**kappa
chain = (lam_y - lam_y ** (2 * kappa)) / ((1 - lam_y) * (2 * kappa - 1))
wrong = {"DDIM": flow, "DDPM": chain, "variances mixed": 1 + kappa * (lam_y - 1)}
verify("eq-tilted-variance", tilted_var, tilted, quadrature, rejects=wrong)
print(f"tilted {tilted:.4f}, DDPM {chain:.4f}, DDIM {flow:.4f}")

# %% [markdown]
# Then the samplers, with all thousand steps. With DDIM, $x_0$ is a constant plus a multiple of $x_T$ here. So two starts give the factor, and its square is the variance; a thousand steps come within two percent of the limit. For DDPM, with $\sigma_t^2 = \beta_t$, it takes 20,000 samples. In both lines the tilted variance and that of the other sampler are rejected.


# %% tags=["nbval-check-output"]
def normal_hat(x_t, t, mean, var):
    """The exact denoiser of N(mean, var)."""
    kept = schedule.alpha_bar[t][:, None]
    gain = kept**0.5 * var / (kept * var + 1 - kept)
    return mean + gain * (x_t - kept**0.5 * mean)


def guided_hat(x_t, t, kappa=3):
    free, told = normal_hat(x_t, t, 0.0, 1.0), normal_hat(x_t, t, m, lam_y)
    return free + kappa * (told - free)


_ = torch.manual_seed(0)
low, high = end(ddim_sample(guided_hat, schedule, torch.tensor([[0.0], [1.0]]).double()))
W, wrong = (high - low)[0] ** 2, {"tilted": tilted, "DDPM": chain}
verify("eq-guided-variance", W, flow, exact.within(0.02), rejects=wrong)
x_T = torch.randn(20_000, 1).double()
x_0 = end(ddpm_sample(guided_hat, schedule, x_T, schedule.beta))[:, 0]
wrong = {"tilted": tilted, "DDIM": flow}
verify("eq-guided-variance", x_0, chain, variance, rejects=wrong)

# %% [markdown]
# The figure has the three variances for all scales up to 8.

# %% mystnb={"image": {"alt": "Three falling curves of variance over the guidance scale, from a common point at scale one. The tilted law falls slowest, DDPM next, and DDIM falls fastest, as a straight line on the logarithmic axis."}, "figure": {"caption": "Variance of the guided samples by the scale, for a class with variance 0.5 in data with variance 1.", "name": "fig-guided-variance"}}
scales = torch.linspace(1, 8, 50).double()
spread_of_chain = (0.5 - 0.5 ** (2 * scales)) / (0.5 * (2 * scales - 1))
plots.curves(
    {
        "tilted law": (scales, 1 / (1 + scales)),
        "DDPM": (scales, spread_of_chain),
        "DDIM": (scales, 0.5**scales),
    },
    x_label="guidance scale",
    y_label="variance",
    log_y=True,
)

# %% [markdown]
# In {numref}`fig-guided-variance` the samples of both are narrower than the tilted law, those of DDIM by far. It says what to expect, and what not to claim. Guidance makes samples more typical of their class and less different from each other. It is a knob, not Bayes' rule; above 1 the law that is sampled depends on the sampler. And all of it was computed for normal laws with exact denoisers. What it does to digits has to be measured.

# %% [markdown]
# (sec-guided-digits)=
# ## Guided digits
#
# Ten clouds of noise, one for each class, and three scales. Look down a column: what stays, and what changes?

# %% mystnb={"image": {"alt": "Three rows of ten digits, zero to nine in each. At scale one some are not the digit of their column; at scale three all are. At scale nine some strokes are much thicker, and gray specks appear in the background."}, "figure": {"caption": "One cloud for each class, at three guidance scales, in twelve steps.", "name": "fig-guidance-grid"}}
_ = torch.manual_seed(2)
ten, starts = torch.arange(10), torch.randn(10, 1, 28, 28)
grid_rows = {}
for kappa in (1.0, 3.0, 9.0):
    x = end(dpm_solver_sample(guided(denoiser, ten, kappa), schedule.evenly(12), starts))
    grid_rows[f"scale {kappa:.0f}"] = to_unit(x)
plots.image_rows(grid_rows, titles=[str(k) for k in range(10)], tile=0.7)

# %% [markdown]
# In {numref}`fig-guidance-grid` slant and place stay from row to row: the cloud decides them. With a larger scale the class becomes clearer, and then some strokes grow thick. A larger sample was drawn beforehand: 500 digits at each of eight scales, fifty of each class, in twenty steps of DDIM from the same noise. The *record* holds the first sixty pictures, and of all of them how much their pixels vary and what the classifier of chapter 10 sees. The slider moves through the scales; each column has one class.

# %%
from companion.page.sliders import Slider

record, _ = load_record("ddpm-mnist-classes-guidance")
scales, label = record["scale"].tolist(), record["label"]


def at_scale(i, samples=record["samples"]):
    """The first sixty digits at one of the scales."""
    return plots.image_grid(samples[i] / 255, columns=10, tile=0.6)


Slider(
    range(len(scales)),
    at_scale,
    description="guidance scale",
    alt=lambda i: f"Six rows of ten digits, one class in each column, scale {scales[i]}",
    label=lambda i: f"{scales[i]:g}",
    start=2,
)

# %% [markdown]
# At scale 0 the columns mean nothing: the label is not used. (The share of right digits is then a tenth but for chance; in the first row of the table chance has gone rather far, three standard errors.) At 1 most digits are what was asked for. Then they get firmer and more alike. Three numbers for each scale. *Right* is the share that the classifier takes for the class that was asked for, with its standard error. *Spread* is the variance of the pixels within a class, summed over the pixels and averaged over the classes, relative to that of test digits. *Distance* is the Fréchet distance {eq}`def-frechet` of the classifier's features to those of 3000 test digits, picked at random. For comparison, the last row has 500 other test digits.


# %%
from companion.metrics import frechet_distance, proportion


def features(pictures):
    return torch.cat([judge.features(part) for part in pictures.split(250)])


def spread(pictures, label):
    """Variance of the pixels within a class, summed, averaged over the classes."""
    parts = [pictures[label == k].flatten(1) for k in range(10)]
    return sum(part.var(0).sum() for part in parts).item() / 10


# %%
_ = torch.manual_seed(0)
order = torch.randperm(len(test.images))
real = test.images[order[:500]], test.labels[order[:500]]
reference = features(test.images[order[500:3500]])
unit, real_features = spread(*real), features(real[0])
print("scale   right            spread   distance")
right, spreads, far = [], [], []
for i, kappa in enumerate(scales):
    seen = record["features"][i].float()
    right += [proportion(judge.head(seen).argmax(1) == label)]
    spreads += [record["spread"][i].mean().item() / unit]
    far += [frechet_distance(seen, reference)]
    share, error = right[-1]
    print(f"{kappa:4.1f} {share:8.1%} +- {error:4.1%} {spreads[-1]:8.2f} {far[-1]:9.1f}")
of_real = proportion(judge.head(real_features).argmax(1) == real[1])
far_real = frechet_distance(real_features, reference)
print(f"real {of_real[0]:8.1%} +- {of_real[1]:4.1%} {1:8.2f} {far_real:9.1f}")
assert max(share for share, _ in right) > 0.98

# %% mystnb={"image": {"alt": "Three panels over the guidance scale. Left: the share of right digits rises steeply from a tenth to nearly one and stays there. Middle: the spread falls all the way. Right: the Frechet distance has a minimum at a small scale and rises beyond it, all of it above a dashed line for real digits."}, "figure": {"caption": "What the guidance scale buys, and what it costs; 500 digits each. Dashed: real digits.", "name": "fig-guidance-curves"}}
fig, panels = plots.figure(3, height=2.7)
axis, flat = torch.tensor(scales), torch.ones(len(scales))
curves = {
    "share of right digits": ([share for share, _ in right], of_real[0]),
    "spread": (spreads, 1.0),
    "Fréchet distance": (far, far_real),
}
for panel, (name, (values, of_reality)) in zip(panels, curves.items(), strict=True):
    lines = {"guided": (axis, values), "real": (axis, of_reality * flat)}
    _ = plots.curves(lines, x_label="guidance scale", y_label=name, axes=panel)
for panel in panels[1:]:
    panel.get_legend().remove()
fig

# %% [markdown]
# {numref}`fig-guidance-curves` has the trade that is known from photographs {cite:p}`dhariwal2021,ho2022`. Guidance makes the classifier sure. And from some scale on it leads away from the data: typical digits are not the same as real ones, which are various.
#
# Read the row of scale 1 once more. With perfect denoisers, and small steps, its digits would be draws from $p(x \mid y)$, and with many digits no other row could be closer to real ones. Here it has the smallest distance. Is it smaller than that at 1.5 by more than chance? The {ref}`jackknife <sec-digits-in-few-steps>` leaves out a tenth of the digits in turn, the same at both scales.


# %%
def without_a_tenth(i):
    """The distance at one of the scales, without each tenth of its digits in turn."""
    tenths = record["features"][i].float().chunk(10)  # each has five of every class
    rests = [torch.cat([*tenths[:k], *tenths[k + 1 :]]) for k in range(10)]
    return torch.tensor([frechet_distance(x, reference) for x in rests])


moved = without_a_tenth(3) - without_a_tenth(2)
off = (0.9 * (moved - moved.mean()).square().sum()).sqrt()
print(f"scale 1.5 is farther than scale 1 by {far[3] - far[2]:.1f} +- {off:.1f}")

# %% [markdown]
# So 500 digits do not decide between the two. On photographs {cite:t}`ho2022` found the smallest distance a little above 1: where the network errs, guidance may cover it up.
#
# And the row of scale 0? There the network is not told a class, as in one of ten examples of its training. It began as the network of chapter 10, which nobody tells anything, and {ref}`the same sampler <sec-digits-in-few-steps>` was used with that. The cell compares the two.

# %%
alone = load_record("ddpm-mnist-steps")[0]["ddim 20"].float()
far_alone = frechet_distance(alone, reference)
print(f"not told: {far[0]:.0f}; the network of chapter 10: {far_alone:.0f}")

# %% [markdown]
# So it has forgotten some of what it knew. A task that is practised in one example of ten may well suffer; a longer training or another share would tell, but we have one network. Guidance with a scale above 1 uses these answers too, with a negative weight.

# %% tags=["nbval-check-output", "mnist"]
chance = right[0].value
print("scale 0: a tenth, within 5 standard errors:", abs(chance - 0.1) < 5 * 0.0134)
print("at some scale more than 98 percent are right:", max(r.value for r in right) > 0.98)
print("the largest scale is twice as far as the best one:", far[-1] > 2 * min(far))
fall = spreads[-1] / spreads[2]
print("and its digits vary less than at scale 1, by a tenth or more:", fall < 0.9)

# %% [markdown]
# One warning on the judge. The classifier was trained on real digits, and says one of ten classes whatever it is shown. That it is sure of a picture does not mean that a person would be; and guidance pushes towards what a classifier, if only an implicit one, is sure of.
#
# *Sources: E06.*

# %% [markdown]
# (sec-inverse-problems)=
# ## Measurements
#
# Now let $y$ be a *measurement*: some linear function of the picture, with noise,
#
# $$
# y = A\, x + \sigma_y\, \xi , \qquad \xi \sim \mathcal{N}(0, I) .
# $$ (def-measurement)
#
# The rows of $A$ say what is measured. If they are rows of the identity, some pixels are seen: this is *in-painting*, the first application in the lecture. Means over blocks make *super-resolution* of it, and a blur makes *deblurring*. To find $x$ from $y$ is a *linear inverse problem*. Often there are fewer measurements than pixels. Or, as with a blur, there are as many, but fine detail is weaker in them than the noise. Either way many $x$ explain $y$ about equally well. A *prior* $p(x)$ decides among them, and Bayes' rule says how: $p(x \mid y) \propto p(x)\, p(y \mid x)$. That is the lecture's second application, "as a prior".
#
# **Normal data** first, where the answer is known. For $x \sim \mathcal{N}(\mu, S)$,
#
# $$
# \begin{aligned}
# \mathbb{E}[x \mid y] &= \mu + S A^\top \big( A S A^\top + \sigma_y^2 I \big)^{-1} (y - A \mu) , \\
# \mathrm{Cov}[x \mid y] &= S - S A^\top \big( A S A^\top + \sigma_y^2 I \big)^{-1} A S .
# \end{aligned}
# $$ (eq-normal-posterior)
#
# We want a *sampler* of this law that knows $p(x)$ only through a denoiser. By the section above all it takes is $\mathbb{E}[x \mid x_t, y]$.
#
# :::{prf:theorem} The denoiser that knows a measurement
# :label: thm-posterior-denoiser
# Let the law of $x$ given $x_t$ be normal, with the mean $\hat{x}(x_t)$ and the covariance $C_t$. Then
#
# $$
# \mathbb{E}[x \mid x_t, y] = \hat{x} + C_t A^\top \big( A C_t A^\top + \sigma_y^2 I \big)^{-1} (y - A \hat{x}) .
# $$ (eq-posterior-denoiser)
#
# For normal data that is so, with $C_t = \big( S^{-1} + \mathrm{SNR}_t\, I \big)^{-1}$.
# :::
#
# :::{dropdown} Proof
# Given $x_t$, the pair $(x, y)$ is normal: $\mathrm{Cov}(x, y) = C_t A^\top$ and $\mathrm{Cov}(y) = A C_t A^\top + \sigma_y^2 I$. The rest is the conditional mean of a normal pair. For normal data the precision of $x$ given $x_t$ is that of the prior plus that of the observation $x_t / \sqrt{\bar\alpha_t} = x + \text{noise of variance } 1 / \mathrm{SNR}_t$. $\square$
# :::
#
# The formula reads well. $y - A \hat{x}$ is the *surprise*: what was measured, less what was foreseen. $C_t$ says how much is still open, and along which directions pixels move together. Early on nearly all is open, and a few seen pixels move all others. Next to the data $C_t$ vanishes, and nothing moves any more.
#
# The check: on the left the companion's `posterior_denoiser`, on the right the exact denoiser of the normal law {eq}`eq-normal-posterior`, at four times. Two wrong forms are rejected. The first has the noise of $x_t$ alone for $C_t$, as if pixels knew nothing of each other. The second takes $\hat{x}$ for the truth, $C_t = 0$ inside the inverse; we shall meet it again.

# %% tags=["nbval-check-output"]
mu = torch.tensor([0.5, -0.3, 0.2]).double()
S = torch.tensor([[1.0, 0.6, 0.2], [0.6, 0.8, -0.1], [0.2, -0.1, 0.5]]).double()
A = torch.tensor([[1.0, 0.5, 0.0], [0.0, -1.0, 2.0]]).double()
sigma_y, y = 0.3, A @ torch.tensor([0.9, 0.1, -0.8]).double()
gain = S @ A.T @ torch.linalg.inv(A @ S @ A.T + sigma_y**2 * torch.eye(2).double())
post_mean, post_cov = mu + gain @ (y - A @ mu), S - gain @ A @ S
prior_hat = gaussian_denoiser(schedule, mu, S)
post_hat = gaussian_denoiser(schedule, post_mean, (post_cov + post_cov.T) / 2)
ours = posterior_denoiser(prior_hat, schedule, A, y.expand(20, 2), sigma_y, S)
_ = torch.manual_seed(0)
for t in (50, 300, 600, 1000):
    x_t, time = torch.randn(20, 3).double(), torch.full((20,), t)
    x_hat, snr = prior_hat(x_t, time), schedule.snr[t]
    C = torch.linalg.inv(torch.linalg.inv(S) + snr * torch.eye(3))
    alone = A.T @ torch.linalg.inv(A @ A.T / snr + sigma_y**2 * torch.eye(2)) / snr
    pulls = {"pixels alone": alone, "estimate as truth": C @ A.T / sigma_y**2}
    wrong = {name: x_hat + (y - x_hat @ A.T) @ pull.T for name, pull in pulls.items()}
    left, rule = ours(x_t, time), exact.within(1e-8)
    verify("eq-posterior-denoiser", left, post_hat(x_t, time), rule, rejects=wrong)

# %% [markdown]
# And the samples? The cell draws 4000 with DDIM and compares their means and covariances with {eq}`eq-normal-posterior`, computed with no diffusion at all. Rejected are the prior, and the posterior of a measurement without noise.

# %% tags=["nbval-check-output"]
_ = torch.manual_seed(0)
ours = posterior_denoiser(prior_hat, schedule, A, y.expand(4000, 2), sigma_y, S)
x = end(ddim_sample(ours, schedule, torch.randn(4000, 3).double()))
off = x - post_mean
left = torch.cat([x, (off[:, :, None] * off[:, None]).flatten(1)], 1)
right_side = torch.cat([post_mean, post_cov.flatten()])
bare = S @ A.T @ torch.linalg.inv(A @ S @ A.T)  # the gain for sigma_y = 0
no_noise = torch.cat([mu + bare @ (y - A @ mu), (S - bare @ A @ S).flatten()])
wrong = {"the prior": torch.cat([mu, S.flatten()]), "no noise": no_noise}
verify("eq-normal-posterior", left, right_side, monte_carlo, rejects=wrong)

# %% [markdown]
# **Other data.** For digits, the law of $x$ given $x_t$ is not normal, and its covariance depends on $x_t$. Then {eq}`eq-posterior-denoiser` is an approximation. We take the $C_t$ of normal data with the covariance of the digits: it knows that neighbors go together and that corners are black. The less noise is in $x_t$, the less the choice matters. {cite:t}`song2023pigdm` put a multiple of the identity inside the inverse, and the derivative of the network outside of it; {cite:t}`peng2024` estimate better covariances. What {eq}`eq-posterior-denoiser` does to the surprise is the same in all of them.
#
# **The estimate is not the truth.** A simpler way is to put the estimate where the picture should be, $q(y \mid x_t) \approx \mathcal{N}(y; A \hat{x}(x_t), \sigma_y^2 I)$, and to take the gradient through the network {cite:p}`chung2023`. For normal data the derivative of $\hat{x}$ by $x_t$ is $\sqrt{\bar\alpha_t}\, C_t / (1 - \bar\alpha_t)$, and {eq}`eq-conditional-denoiser` gives the second rejected form: $\hat{x} + C_t A^\top (y - A \hat{x}) / \sigma_y^2$. The true $q(y \mid x_t)$ is the mean of $p(y \mid x)$ over all $x$ that $x_t$ leaves open; this is $p(y \mid x)$ at their mean. That forgets how uncertain $\hat{x}$ is. With one number, measured with $\sigma_y = 0.1$, for data with variance 1:

# %% tags=["nbval-check-output"]
print("   t    share of the surprise that is believed: exact, estimate as truth")
for t in (1000, 600, 300, 100, 30, 10):
    open_var = 1 / (1 + schedule.snr[t])
    print(f"{t:4} {open_var / (open_var + 0.01):12.3f} {open_var / 0.01:12.2f}")

# %% [markdown]
# A share above 1 goes past the target, and one above 2 ends farther away than it began. What does DDIM make of it? The right answer is a mean of 0.990 and a variance of 0.0099.


# %% tags=["nbval-check-output"]
def as_truth(x_t, t, measured=1.0, noise=0.1):
    """x_hat for one number of data N(0, 1), with the estimate taken for the truth."""
    x_hat = normal_hat(x_t, t, 0.0, 1.0)
    open_var = 1 / (1 + schedule.snr[t][:, None])
    return x_hat + open_var / noise**2 * (measured - x_hat)


_ = torch.manual_seed(0)
x_T, one = torch.randn(2000, 1).double(), torch.ones(1, 1).double()
x = end(ddim_sample(as_truth, schedule.evenly(20), x_T))
print("estimate as truth, 20 steps: all beyond 1000:", bool(x.abs().min() > 1000))
x = end(ddim_sample(as_truth, schedule, x_T))
print("1000 steps: within 0.05 of the mean:", bool((x.mean() - 0.990).abs() < 0.05))
print("  variance below a thousandth of the right one:", bool(x.var() < 0.0099e-3))
free_hat = partial(normal_hat, mean=0.0, var=1.0)
knows = posterior_denoiser(free_hat, schedule, one, one.expand(2000, 1), 0.1, one)
x = end(ddim_sample(knows, schedule, x_T))
print("the theorem, 1000 steps: mean right:", bool((x.mean() - 0.990).abs() < 0.01))
print("  variance within 15 percent:", bool((x.var() / 0.0099 - 1).abs() < 0.15))

# %% [markdown]
# With twenty long steps it flies off. With a thousand short ones it arrives, all samples at one point, as if the measurement had left no doubt. {cite:t}`chung2023` do not use the gradient with its own size: they divide it by the length of the surprise, and multiply by a step size that is chosen for each task. In their experiments on photographs that works well. The balance of prior and measurement is then set by hand.

# %% [markdown]
# (sec-inpainting)=
# ### In-painting by replacement
#
# For pixels that are seen there is an older idea, and a simpler one {cite:p}`song2021sde`. Sample as usual. After each step, throw away what the sampler has made of the seen pixels, and put there what it should be: the true pixels with the right amount of noise. It needs no $C_t$. But does it draw from $p(x \mid y)$?
#
# Two numbers with correlation 0.8 and variance 1 tell. The first is seen: it is 1.5. The second then has the mean 1.2 and the variance 0.36. The cell replaces, with the exact denoiser, in a hundred steps. {cite:t}`lugmayr2022` propose to take each step several times, with new noise in between, so that the two parts can settle; this is the column of repeats.

# %%
from companion.samplers import inpaint_sample

_ = torch.manual_seed(0)
pair_cov = torch.tensor([[1.0, 0.8], [0.8, 1.0]]).double()
pair_hat = gaussian_denoiser(schedule, torch.zeros(2).double(), pair_cov)
seen_first = torch.tensor([True, False])
first, n = torch.tensor([[1.0, 0.0]]).double(), 2000
truth, noise = 1.5 * first.expand(n, 2), torch.randn(n, 2).double()
print("steps  repeats   mean   variance   (wanted: 1.2 and 0.36)")
moments = {}
for steps, repeats in ((100, 1), (1000, 1), (100, 2), (100, 5), (100, 20)):
    film = inpaint_sample(pair_hat, schedule.evenly(steps), noise, truth, seen_first, repeats)
    second = end(film)[:, 1]
    mean, var = moments[steps, repeats] = second.mean().item(), second.var().item()
    print(f"{steps:5} {repeats:8} {mean:6.2f} {var:10.2f}")
exact_one = posterior_denoiser(pair_hat, schedule, first, truth[:, :1], 0.01, pair_cov)
second = end(ddim_sample(exact_one, schedule.evenly(100), noise))[:, 1]
print(f"{100:5}  theorem {second.mean():6.2f} {second.var():10.2f}")

# %% tags=["nbval-check-output"]
print(
    "one repeat: mean too small by a quarter or more:",
    max(moments[100, 1][0], moments[1000, 1][0]) < 0.9,
)
print("twenty: mean within 0.1:", abs(moments[100, 20][0] - 1.2) < 0.1)
print("but a variance that is too small:", moments[100, 20][1] < 0.33)
print("by the theorem: mean within 0.06:", bool((second.mean() - 1.2).abs() < 0.06))
print("and variance within 0.06:", bool((second.var() - 0.36).abs() < 0.06))

# %% [markdown]
# Replacement gets it wrong with a perfect denoiser, and ten times as many steps do not repair it. When the sampler moves the second number, it sees the first one *noisy*: as it is at time $t$, not as it will be. The theorem lets it know the first one as it is, from the beginning. Repeats help the mean, for as many times the price. The variance falls too low: each step down has the narrow variance $\tilde\beta_t$ and loses a little ({ref}`chapter 11 <sec-variance-recursion>`), and repeats multiply the loss. (Try a thousand steps with twenty repeats: the variance is then nearly right. It takes twenty thousand calls of the denoiser, where the theorem takes a hundred.)
#
# **Digits.** One digit of the test set; its upper half is seen. The first completions are by the theorem, the others by replacement. (The seen pixels have no noise here. The theorem is told 0.02 all the same: some pixels never vary, and without any noise the matrix of {eq}`eq-posterior-denoiser` has no inverse.) One thing replacement is good at: the seen pixels are in the result exactly, bit for bit.

# %% mystnb={"image": {"alt": "Four rows of eight pictures. First row: the upper half of one digit, gray below. Then three rows of completed digits with that upper half and different lower halves. By the theorem, all are nines; by replacement, some are no digits, since the halves do not fit."}, "figure": {"caption": "One upper half, and completions: by the theorem, and by replacement with one and four repeats.", "name": "fig-completions"}}
_ = torch.manual_seed(0)
seen_only = torch.where(upper, given, torch.zeros(())).expand(8, -1, -1, -1)
known, clouds = given.expand(8, -1, -1, -1), torch.randn(8, 1, 28, 28)
y_half = known.flatten(1) @ rows_of_I.T
half_hat = posterior_denoiser(denoiser, schedule, rows_of_I, y_half, 0.02, cov)
filled = {"theorem": end(ddpm_sample(half_hat, schedule.evenly(25), clouds))}
for repeats in (1, 4):
    film = inpaint_sample(denoiser, schedule.evenly(25), clouds, known, upper, repeats)
    filled[f"replaced, {repeats}"] = end(film)
rows = {"seen": to_unit(seen_only)} | {k: to_unit(x) for k, x in filled.items()}
plots.image_rows(rows, tile=0.8)

# %% [markdown]
# In {numref}`fig-completions` all rows have the upper half. Is it really the same, pixel by pixel?

# %% tags=["nbval-check-output"]
for name in ("replaced, 1", "replaced, 4"):
    same = torch.equal(filled[name][:, upper], known[:, upper])
    print(f"{name}: seen pixels exactly:", same)

# %% tags=["nbval-check-output", "mnist"]
off = (filled["theorem"] - known)[:, upper].square().mean().sqrt()
print("theorem: seen pixels within the 0.02 that it was told:", bool(off < 0.02))

# %% [markdown]
# Replacement copies the seen pixels, and so it must be exact. The theorem was told of a noise of 0.02, and stays within that. More important is the lower half. It shows the point of a *sampler*. The answer to "what is below?" is not one picture. Where the upper half leaves a doubt, completions differ; where it does not, they agree. The mean of all answers would be a blur. How much is left open can be seen pixel by pixel:

# %% mystnb={"image": {"alt": "Three pictures. The mean of eight completions: sharp above, blurred below. Their standard deviation: nearly black above, bright below where the strokes of the completions differ. One completion: a sharp digit."}, "figure": {"caption": "Mean and standard deviation of the eight completions by the theorem, and one of them.", "name": "fig-completion-spread"}}
completions = to_unit(filled["theorem"])
spread_below = completions.std(0)
spread_below = spread_below / spread_below.max().clamp(min=1e-6)
three_views = torch.stack([completions.mean(0), spread_below, completions[0]])
plots.image_grid(three_views, titles=["mean", "deviation", "one of them"], tile=1.3)

# %% [markdown]
# The deviation in {numref}`fig-completion-spread` is a map of doubt, if a rough one. Nobody had to train it: eight draws make it.

# %% tags=["nbval-check-output", "mnist"]
left_open = completions.var(0)
above, below = left_open[upper].sum(), left_open[~upper].sum()
print("doubt above is below a hundredth of that below:", bool(above < 0.01 * below))

# %% [markdown]
# (sec-restoration)=
# ### Few pixels, coarse pixels, blur
#
# Three other measurements, by the same function and with the same network. Only the matrix $A$ changes. For any linear function of pictures it is had by feeding it the 784 unit pictures.


# %%
def matrix_of(function):
    """The matrix of a linear function of pictures: its values at the unit pictures."""
    return function(torch.eye(784).view(784, 1, 28, 28)).flatten(1).T


_ = torch.manual_seed(0)
some = torch.randperm(784)[:157]
bell = Normal(0.0, 1.7).log_prob(torch.arange(-4.0, 5)).exp()
kernel = (bell[:, None] * bell / bell.sum() ** 2)[None, None]
measures = {
    "1 in 5": torch.eye(784)[some],
    "7 x 7": matrix_of(lambda x: F.avg_pool2d(x, 4)),
    "blurred": matrix_of(lambda x: F.conv2d(x, kernel, padding=4)),
}
originals, sigma_y = to_symmetric(test.images[20:26]), 0.05
mean_digit = 2 * train.images[:10_000].flatten(1).mean(0) - 1

# %% [markdown]
# Each measurement has noise of standard deviation 0.05. Beside the diffusion prior stands a *normal* one: $\mathbb{E}[x \mid y]$ from {eq}`eq-normal-posterior` with the mean and the covariance of the digits, which is the best linear guess. The samples are drawn with fresh noise: it lets the chain forget errors {eq}`eq-push`, and {eq}`eq-posterior-denoiser` makes some. Look for what the normal prior cannot know.

# %% mystnb={"image": {"alt": "Ten rows of six pictures. The true digits on top. Then three times three rows: the measurement, a blurred reconstruction by the normal prior, and a sharp one by the diffusion prior, for scattered pixels, a coarse grid, and a blur. Most of the sharp ones are digits; for the coarse grid some are broken."}, "figure": {"caption": "Three measurements of six digits, and what two priors make of them.", "name": "fig-restored"}}
shown, measured, restored, linear = {"truth": to_unit(originals)}, {}, {}, {}
for name, A in measures.items():
    y = originals.flatten(1) @ A.T
    measured[name] = y = y + sigma_y * torch.randn_like(y)
    spread_of_y = A @ cov @ A.T + sigma_y**2 * torch.eye(len(A))
    weight = torch.linalg.solve(spread_of_y.double(), (A @ cov).double()).float()
    linear[name] = (mean_digit + (y - mean_digit @ A.T) @ weight).view_as(originals)
    hat = posterior_denoiser(denoiser, schedule, A, y, sigma_y, cov)
    restored[name] = end(ddpm_sample(hat, schedule.evenly(25), torch.randn(6, 1, 28, 28)))
views = {"7 x 7": F.interpolate(measured["7 x 7"].view(6, 1, 7, 7), scale_factor=4)}
views["blurred"] = measured["blurred"].view(6, 1, 28, 28)
views["1 in 5"] = torch.zeros(6, 784).index_copy(1, some, measured["1 in 5"])
for name in measures:
    shown[name] = to_unit(views[name].view(6, 1, 28, 28))
    shown[f"{name}, normal"] = to_unit(linear[name])
    shown[f"{name}, diffusion"] = to_unit(restored[name])
plots.image_rows(shown, tile=0.55)

# %% [markdown]
# In {numref}`fig-restored` the normal prior knows which pixels go together. It does not know that digits are made of strokes, nor that pixels are mostly black or white. Do the restored digits agree with what was measured? The truth and a fair draw from $p(x \mid y)$ have the same law given $y$. So the *residual* $y - A x$ of a fair draw has the law of the noise, with the standard deviation 0.05. And how far is the truth?

# %%
print("                residual   error of x: normal, diffusion  (mean square, on [0, 1])")
residual, errors = {}, {}
for name, A in measures.items():
    gap = measured[name] - restored[name].flatten(1) @ A.T
    residual[name] = gap.square().mean().sqrt().item()
    errors[name] = [
        (to_unit(x[name]) - to_unit(originals)).square().mean().item() for x in (linear, restored)
    ]
    print(f"{name:14} {residual[name]:8.3f} {errors[name][0]:16.4f} {errors[name][1]:10.4f}")
    assert residual[name] < 0.1 or test.name != "mnist"

# %% tags=["nbval-check-output", "mnist"]
print("residuals below twice the noise:", max(residual.values()) < 0.1)
print("and above half of it:", min(residual.values()) > 0.025)
blur, fifth = errors["blurred"], errors["1 in 5"]
print("blur: a draw is closer than the normal prior:", blur[1] < blur[0])
print("1 in 5: closer than twice its error:", fifth[1] < 2 * fifth[0])

# %% [markdown]
# To read the last two columns, mind what they compare. (*1 in 5* are 157 single pixels.) The normal prior gives its best guess, the diffusion prior a *draw*. A fair draw from $p(x \mid y)$ has **twice** the mean squared error of the posterior mean: one half because the truth varies around that mean, the other because the draw does. So fair draws with less than twice the error of the normal guess show a prior that knows more. Are ours fair? Their residuals are roughly of the right size; that is necessary, and not enough. The blur needs no such care: where even a single draw is closer than the best linear guess, more is known than means and covariances. On the coarse grid it is a close race, and not every draw in {numref}`fig-restored` is a digit: there the most is left open, and the most depends on the approximation of $C_t$. (Six digits are few; another six may change the order.) And where the measurement leaves a doubt, a sharp picture is an invention, however convincing. It is one of many, and whoever uses it has to be told so.
#
# *Sources: B03, E07.*

# %% [markdown]
# (sec-latent-diffusion)=
# ## Diffusion in a latent space
#
# The network of this chapter visits each pixel at each step. Most of what it does there is detail that a decoder could add. So let a VAE make codes of pictures, and a diffusion model learn the law of the codes. To sample: draw a code, decode it once. This is *latent diffusion* {cite:p}`rombach2022,vahdat2021`. For this book it closes the circle, since it joins the first model with the last.
#
# **The bound.** The VAE has $q(z \mid x)$ and $p(x \mid z)$ as in chapter 3. Only its prior is new: $p(z)$ is now the law that a diffusion model draws, with noisy codes $\tilde{z}_1, \dots, \tilde{z}_T$ above $z$. All together it is one more chain of latents, $x \leftarrow z \leftarrow \tilde{z}_1 \leftarrow \dots \leftarrow \tilde{z}_T$. Nobody knows $\log p(z)$, but the diffusion has a bound for it, call it $\mathrm{ELBO}_{\mathrm{d}}(z)$. Put it in the place of $\log p(z)$:
#
# $$
# \log p(x) \;\ge\; \mathbb{E}_{q(z \mid x)} \big[ \log p(x \mid z) - \log q(z \mid x) + \mathrm{ELBO}_{\mathrm{d}}(z) \big] ,
# $$ (eq-latent-bound)
#
# with equality if $q(z \mid x)$ is the posterior and the bound of the diffusion is tight.
#
# :::{dropdown} Proof
# $\log p(x) \ge \mathbb{E}_q [\log p(x \mid z) - \log q(z \mid x) + \log p(z)]$ is the bound of chapter 3, with equality for $q(z \mid x) = p(z \mid x)$. And $\log p(z) \ge \mathrm{ELBO}_{\mathrm{d}}(z)$ is that of chapter 9. $\square$
# :::
#
# If all is normal, the right side can be tight: let $z \sim \mathcal{N}(0, 0.05)$ and $x \mid z \sim \mathcal{N}(z, 0.02)$, take the true posterior for $q$, and for the diffusion the exact denoiser with the best variances {eq}`eq-optimal-variance`. Then the mean of the right side must be $\log p(x)$. The check takes the difference for 4000 pairs. Rejected are the prior $\mathcal{N}(0, 1)$ of a plain VAE, and a bound that forgets $\log q$.

# %% tags=["nbval-check-output"]
from companion.ddpm import Ddpm
from companion.elbo import elbo_terms

_ = torch.manual_seed(0)
lam, n = 0.05, 4000
V = s.alpha_bar * lam + s.noise_var
best = torch.cat([V[:1] * 0, s.beta[1:] * V[:-1] / V[1:]])
code_hat = gaussian_denoiser(s, torch.zeros(1).double(), torch.tensor([[lam]]).double())
code_model = Ddpm(code_hat, s, (1,), best).double()
x = 0.07**0.5 * torch.randn(n, 1).double()  # the variance is 0.05 + 0.02
q = Normal(lam / 0.07 * x, torch.tensor(lam * 0.02 / 0.07).double() ** 0.5)
z = q.sample()
log_lik, log_q = Normal(z, 0.02**0.5).log_prob(x)[:, 0], q.log_prob(z)[:, 0]
log_p = Normal(0.0, 0.07**0.5).log_prob(x)[:, 0]
left = log_lik - log_q + elbo_terms(code_model, z).elbo - log_p
plain = log_lik - log_q + Normal(0.0, 1.0).log_prob(z)[:, 0] - log_p
wrong = {"prior N(0, 1)": plain.mean(), "no log q": log_q.mean()}
verify("eq-latent-bound", left, torch.zeros(()).double(), monte_carlo, rejects=wrong)

# %% [markdown]
# **What does the new prior buy?** For a given VAE, the bound rises by the mean of $\mathrm{ELBO}_{\mathrm{d}}(z) - \log \mathcal{N}(z; 0, I)$ over the codes. Our VAE is that of chapter 7 with 16 latents. It was trained *with* the prior $\mathcal{N}(0, I)$, so its codes have been pushed there already. First their moments, then the gain.

# %%
from companion.ddpm import elbo_step

_ = torch.manual_seed(0)
z = codes(test.images[:2000])
low, high = z.mean(0).aminmax()
print(f"means of the codes between {low:.2f} and {high:.2f}", end=", ")
low, high = z.std(0).aminmax()
print(f"deviations between {low:.2f} and {high:.2f}")
posterior = vae.posterior(data.binarize(test.images[:2000]))
rate = torch.distributions.kl_divergence(posterior, vae.prior(len(z))).mean()
print(f"divergence of q(z | x) from N(0, I): {rate:.1f} nats a digit")

# %% [markdown]
# A trick makes the gain cheap to measure. For data $\mathcal{N}(0, I)$, and with $\sigma_t^2 = \beta_t$, the bound of a diffusion has no gap at any length: $\log \mathcal{N}(z; 0, I)$ is itself the bound of a chain with the exact denoiser of $\mathcal{N}(0, I)$. So compare the terms of the two chains one by one, with the same noise. All but the difference of the two denoisers cancels.

# %%
_ = torch.manual_seed(0)
normal_hat_16 = gaussian_denoiser(schedule, torch.zeros(16), torch.eye(16))
normal_prior = Ddpm(normal_hat_16, schedule, (16,), schedule.beta)
gains = torch.zeros(len(z))
for _ in range(40):
    t = torch.randperm(1000).repeat(2)[: len(z)] + 1  # each time equally often
    noise = torch.randn_like(z)
    learned, plain = (elbo_step(m, z, t, noise) for m in (latent, normal_prior))
    gains += 1000 * (learned - plain) / 40
gain, gain_error = gains.mean().item(), gains.std().item() / len(gains) ** 0.5
print(f"gain by the learned prior: {gain:.2f} +- {gain_error:.2f} nats")
assert gain > 5 * gain_error or test.name != "mnist"

# %% [markdown]
# The gain is small beside the divergence that it reduces. One might stop here: the prior was nearly right. Look at the samples first. The first two rows come from the same decoder. The codes of the first are draws of $\mathcal{N}(0, I)$, those of the second are drawn by the diffusion; the third row is pixel-space diffusion, the model of chapter 10.

# %% mystnb={"image": {"alt": "Three rows of ten digits. First row, codes from the normal prior: several smeared shapes that are no digits. Second row, codes from the diffusion: smooth digits, most of them clear. Third row, diffusion of pixels: digits with sharper edges, some of them malformed."}, "figure": {"caption": "Codes from $\\mathcal{N}(0, I)$, codes from a diffusion, and no codes at all.", "name": "fig-latent-samples"}}
_ = torch.manual_seed(0)
by_pixels, _ = load_record("ddpm-mnist-samples")
drawn_codes = end(ddpm_sample(latent.denoiser, schedule.evenly(100), torch.randn(500, 16)))
decoded = {
    "plain VAE": vae.likelihood(torch.randn(500, 16)).mean,
    "latent diffusion": vae.likelihood(drawn_codes).mean,
    "pixel diffusion": by_pixels["samples"][:500] / 255,
}
plots.image_rows({name: x[:10] for name, x in decoded.items()}, tile=0.7)

# %% [markdown]
# Now the Fréchet distances of 500 pictures of each kind to the 3000 test digits, together with two yardsticks: 500 real digits, and their *reconstructions* by the same decoder.

# %%
decoded["reconstructions"] = vae.likelihood(codes(real[0])).mean
decoded["real digits"] = real[0]
distance = {name: frechet_distance(features(x), reference) for name, x in decoded.items()}
for name, value in distance.items():
    print(f"{name:17} {value:7.1f}")
near = distance["latent diffusion"]
assert near < 0.5 * distance["plain VAE"] or test.name != "mnist"

# %% tags=["nbval-check-output", "mnist"]
print("the learned prior gains between 1 and 4 nats:", 1 < gain < 4)
print("which is less than a fifth of the divergence:", gain < 0.2 * rate.item())
print("yet the distance falls below a quarter:", near < 0.25 * distance["plain VAE"])
print("and below twice that of real digits:", near < 2 * distance["real digits"])

# %% [markdown]
# How can so few nats matter so much? A divergence in nats is a logarithm. Suppose the codes were draws of $\mathcal{N}(0, I)$ of which all outside of some region are discarded. If the region has the probability $p$, the divergence of the codes from $\mathcal{N}(0, I)$ is $- \log p$. Two nats would mean $p = 0.14$: six draws out of seven miss. Real codes have no such sharp border, and the decoder forgives a near miss; but {numref}`fig-latent-samples` is of this kind, several pictures in the first row are no digits. The likelihood hardly notices; the eye does.
#
# Read the other distances with care, too. With 500 pictures, differences of a few units mean nothing, and the judge has its own taste: this is no proof that latent diffusion is better than that of pixels. And no latent model can draw what its decoder cannot.
#
# **The cost.** How many multiplications does one call of each network take, for one picture?

# %%
from torch.utils.flop_counter import FlopCounterMode


def multiply_adds(network, *inputs):
    """Multiply-adds of one call, counted by torch."""
    with FlopCounterMode(display=False) as counter:
        _ = network(*inputs)
    return counter.get_total_flops() / 2


time = torch.tensor([500])
in_pixels = multiply_adds(denoiser, torch.randn(1, 1, 28, 28), time)
in_codes = multiply_adds(latent.denoiser, torch.randn(1, 16), time)
to_decode = multiply_adds(lambda z: vae.likelihood(z).mean, torch.randn(1, 16))
print(f"pixels: {in_pixels / 1e6:.1f} million a step")
print(f"codes: {in_codes / 1e6:.2f} million a step, {to_decode / 1e6:.1f} to decode once")
assert in_pixels > 100 * in_codes

# %% [markdown]
# A step among the codes costs less than a hundredth of one among the pixels. What is not in the count: the VAE had to be trained first.
#
# **At full size** two things are different {cite:p}`rombach2022`. The code is not a vector but a small picture, for instance with an eighth of the side, so that a U-Net can work on it. And the VAE is trained with hardly any weight on the divergence. It is then nearly an {term}`autoencoder`; its codes are *far* from $\mathcal{N}(0, I)$, nothing can be drawn without a learned prior, and the diffusion is no luxury but the generative model itself. {cite:t}`vahdat2021` go the other way and train both parts together, by a bound like {eq}`eq-latent-bound`.
#
# *Sources: E08.*

# %% [markdown]
# (sec-noise-editing)=
# ## Editing
#
# {ref}`Chapter 7 <sec-editing>` edited by moving codes. A diffusion model has as many codes as it has times: every $x_t$ is one. There are two ways to use them. *Add noise, and sample down again* {cite:p}`meng2022`, here with another label: what the noise has drowned is invented anew, what it has not is kept. Or *invert* with the digit's own label ({ref}`chapter 11 <sec-inversion>`), and sample down with another: nothing is random. Six digits, each with a target class:

# %% mystnb={"image": {"alt": "Five rows of six digits. The originals; then edits through noise at times 300, 500 and 700, which look less and less like the originals; and the edits by inversion, which stay close to them."}, "figure": {"caption": "Digits, and the same digits asked to be another class: through noise of three levels, and by inversion.", "name": "fig-editing"}}
from companion.samplers import ddim_invert

_ = torch.manual_seed(0)
source, own = to_symmetric(test.images[:6]), test.labels[:6]
target = torch.tensor([9, 3, 7, 6, 9, 7])
to_target, edits = guided(denoiser, target, 3.0), {}
for t in (300, 500, 700):
    x_t = add_noise(schedule, source, t, torch.randn_like(source))
    rest = schedule.strided(range(1, t + 1)).evenly(10)
    edits[f"t = {t}"] = end(dpm_solver_sample(to_target, rest, x_t))
inverted = ddim_invert(lambda x_t, t: denoiser(x_t, t, own), schedule.evenly(12), source)
edits["inverted"] = end(ddim_sample(to_target, schedule.evenly(12), end(inverted)))
rows = {"originals": to_unit(source)} | {name: to_unit(x) for name, x in edits.items()}
plots.image_rows(rows, titles=[f"to {k}" for k in target.tolist()], tile=0.75)

# %% [markdown]
# In {numref}`fig-editing` the level of noise is the knob. Little noise keeps the digit, and the class too. Much noise gives the class, and another digit. In between, slant and stroke may survive while the class changes. Inversion keeps a lot, and sometimes so much that the class stays as well. Two numbers for each row: the mean squared change of the pixels, and how many of the six the classifier takes for the target.

# %%
changes = {}
for name, x in edits.items():
    hit = (judge(to_unit(x)).argmax(1) == target).sum().item()
    changes[name] = (to_unit(x) - to_unit(source)).square().mean().item()
    print(f"{name:10} changed by {changes[name]:.3f}, {hit} of 6 as asked")
assert changes["t = 300"] < changes["t = 700"] or test.name != "mnist"

# %% tags=["nbval-check-output", "mnist"]
print("more noise, more change:", changes["t = 300"] < changes["t = 700"])
print("inversion: less change than t = 700:", changes["inverted"] < changes["t = 700"])

# %% [markdown]
# *Sources: B03.*

# %% [markdown]
# (sec-priors-wrong)=
# ## What goes wrong
#
# **Too much guidance.** At scale 15 the denoiser promises pictures that do not exist: pixels far outside of $[-1, 1]$, on which the network was never trained. A cheap repair is to clip what the guided denoiser answers, in every step; {cite:t}`saharia2022` found that simple clipping is not enough for large scales, and adapt the threshold to each picture.

# %% mystnb={"image": {"alt": "Three rows of eight digits of the classes zero to seven. At scale three: clean digits. At scale fifteen: some strokes are very thick, and there are specks in the background. At scale fifteen, clipped: the same shapes, the thickest strokes thinner, fewer specks."}, "figure": {"caption": "Scale 3, scale 15, and scale 15 with a denoiser whose answers are clipped.", "name": "fig-too-much"}}
_ = torch.manual_seed(3)
eight, clouds = torch.arange(8), torch.randn(8, 1, 28, 28)
strong = guided(denoiser, eight, 15.0)
too_much = {
    "scale 3": guided(denoiser, eight, 3.0),
    "scale 15": strong,
    "15, clipped": lambda x_t, t: strong(x_t, t).clamp(-1, 1),
}
ended = {n: end(ddim_sample(hat, schedule.evenly(12), clouds)) for n, hat in too_much.items()}
plots.image_rows({name: to_unit(x) for name, x in ended.items()}, tile=0.8)

# %% [markdown]
# In {numref}`fig-too-much` clipping makes the thickest strokes thinner; specks remain. Count the pixels that do not exist. (With clipping there can be none: the last step returns what the denoiser answers.)

# %%
outside = {}
for name, x in ended.items():
    outside[name] = (x.abs() > 1.1).double().mean().item()
    print(f"{name:12} {outside[name]:.1%} of the pixels outside of [-1.1, 1.1]")
assert outside["15, clipped"] == 0

# %% tags=["nbval-check-output"]
print("at 3 below one percent:", outside["scale 3"] < 0.01)
print("at 15 above five percent:", outside["scale 15"] > 0.05)

# %% [markdown]
# Clipping repairs the range. It is not made to bring back what strong guidance loses, the differences within a class.
#
# **A wrong noise level.** The measurement has noise of standard deviation 0.3, and the denoiser is told 0.03. Then it has to explain the noise as a part of the picture. Here the whole picture is measured, $A = I$, so the task is to remove the noise:

# %% mystnb={"image": {"alt": "Three rows of six digits. Measured: digits with visible noise. Told 0.3: clean digits. Told 0.03: the noise of the measurement is still there, but for the borders."}, "figure": {"caption": "Noisy digits, restored with the right noise level and with one ten times too small.", "name": "fig-wrong-noise"}}
_ = torch.manual_seed(0)
noisy = originals + 0.3 * torch.randn_like(originals)
cleaned = {}
for told_noise in (0.3, 0.03):
    whole = torch.eye(784), noisy.flatten(1), told_noise, cov
    hat = posterior_denoiser(denoiser, schedule, *whole)
    film = ddpm_sample(hat, schedule.evenly(15), torch.randn(6, 1, 28, 28))
    cleaned[f"told {told_noise}"] = end(film)
rows = {"measured": to_unit(noisy)} | {n: to_unit(x) for n, x in cleaned.items()}
plots.image_rows(rows, tile=0.75)

# %% [markdown]
# The residual tells, also when the truth of {numref}`fig-wrong-noise` is not known: it should have the size of the noise. If it is much smaller, noise was taken for picture. (It is not ten times smaller here. Pixels that are black in nearly all digits have next to no variance in `cov`, so what was measured there cannot be explained.)

# %%
size = {name: (x - noisy).square().mean().sqrt() for name, x in cleaned.items()}
missed = {n: (x - originals).square().mean().sqrt() for n, x in cleaned.items()}
for name in cleaned:
    print(f"{name:9} residual {size[name]:.2f}, off the truth by {missed[name]:.2f}")

# %% tags=["nbval-check-output", "mnist"]
print("told 0.3: residual between 0.24 and 0.36:", bool(0.24 < size["told 0.3"] < 0.36))
print("told 0.03: residual below 0.2:", bool(size["told 0.03"] < 0.2))
worse = missed["told 0.03"] > 1.5 * missed["told 0.3"]
print("and farther from the truth by half:", bool(worse))

# %% [markdown]
# **Too few repeats** in replacement is the third mistake; its numbers stand {ref}`above <sec-inpainting>`. All three have something in common: the sampler does what it is told, and no error is raised. Only a measurement tells: pixels out of range, a residual of the wrong size, the moments of a case that can be computed.

# %% [markdown]
# (sec-text-to-image)=
# ## From here to text-to-image
#
# The lecture that this book follows opens with a street sign, a zombie, and an animal half mouse and half octopus, drawn from a sentence each. It is where we end. How far is it from our digits? The chain, the bound, the loss, the samplers, guidance and the latent space are the same. What is added, with those who added it:
#
# - **The condition is a text.** A language model turns it into a list of vectors, and the U-Net looks at them by *cross-attention*: {eq}`def-self-attention` with queries from the picture, and keys and values from the text. Its training drops the text now and then, as ours drops the label. {cite:t}`saharia2022` found that a large frozen language model helps more than a larger U-Net; {cite:t}`ramesh2022` condition on an embedding that pictures and texts have in common.
# - **Size.** The pictures in the lecture are from {cite:t}`rombach2022`: latent diffusion with 1.45 billion parameters, trained on pictures with captions from the web. Ours has 1.9 million.
# - **The autoencoder** is trained with further losses, one that compares features of a network and an adversarial one, so that decoded pictures are sharp. Alternatively, a small picture is drawn first and enlarged by further diffusions {cite:p}`saharia2022`.
# - **The network.** Transformers have taken the place of the U-Net in many models {cite:p}`peebles2023`.
# - **Fewer steps.** A second network learns to do two steps of the first at once, again and again, down to four {cite:p}`salimans2022`; the two calls of guidance can be distilled into one in the same way {cite:p}`meng2023`; consistency models aim at a single step {cite:p}`song2023`.
#
# **As a prior for something else.** DreamFusion, also in the lecture, makes three-dimensional objects with a model of flat pictures {cite:p}`poole2023`. A renderer shows the object from a random side. The diffusion model says in which direction that view should move to look more like the text: noise is added, and the guided estimate of it is compared with the noise that was added. That is the gradient of the bound's terms by the picture, with the derivative of the network left out. The object is changed so that all its views follow. What is optimized is the object, and the diffusion model never changes. It is a prior at work, but one object is sought, and none is sampled. (Their guidance is strong: $w = 100$, counted as by {cite:t}`ho2022`.)
#
# **Not only pictures.** The chain asks for vectors and noise, nothing more. There are diffusion models of sound {cite:p}`kong2021`, of video {cite:p}`ho2022video`, and of molecules {cite:p}`hoogeboom2022`.
#
# **What this book did not show**: any of that at full size; how to choose data, and what they do to those who are in them; whether a model repeats its training pictures; and how to say which of two models is better, if not by a number that a network computes. The formulas were small enough to be checked. That was the choice.
#
# *Sources: B03.*

# %% [markdown]
# (sec-priors-exercises)=
# ## Exercises
#
# Replace the three dots by your answer and run the cell.

# %% tags=["nbval-check-output"]
from companion.page.exercises import diffusion_priors as exercises

# %% [markdown]
# ```{exercise-start} The classifier inside
# :label: ex-implicit-classifier
# ```
# A perfect network estimates the noise: `told` with the label, `untold` without. `kept` is $\bar\alpha_t$. Write $\nabla \log q(y \mid x_t)$.


# %% tags=["nbval-check-output"]
def classifier_gradient(told, untold, kept):
    return ...


exercises.check_classifier_gradient(classifier_gradient)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-implicit-classifier
# :label: ex-implicit-classifier-solution
# :class: dropdown
# ```
# The score is minus the noise over $\sqrt{1 - \bar\alpha_t}$ {eq}`eq-noise-is-score`, and the two scores differ by the gradient {eq}`def-bayes-score`.


# %% tags=["nbval-check-output"]
def classifier_gradient(told, untold, kept):
    return (untold - told) / (1 - kept) ** 0.5


exercises.check_classifier_gradient(classifier_gradient)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Not this one
# :label: ex-negative
# ```
# One wants a picture of class $y$ that does *not* look like class $n$. So let $n$ take the place of "not told": the guided score shall be that of $y$, plus $\kappa - 1$ times the difference of the scores of $y$ and of $n$. Write the denoiser from `x_y` and `x_n`, the estimates with the two labels.


# %% tags=["nbval-check-output"]
def not_this(x_y, x_n, kappa):
    return ...


exercises.check_not_this(not_this)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-negative
# :label: ex-negative-solution
# :class: dropdown
# ```
# Scores and estimates are affine in each other, so the same weights serve {eq}`eq-guided-languages`. Text-to-image programs call this a negative prompt.


# %% tags=["nbval-check-output"]
def not_this(x_y, x_n, kappa):
    return x_n + kappa * (x_y - x_n)


exercises.check_not_this(not_this)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} A tenth of the variance
# :label: ex-scale
# ```
# The data are $\mathcal{N}(0, 1)$, and those of a class are normal with the variance 0.5. At which scale does DDIM, with many steps, draw samples whose variance is a tenth of that of the class? Give three digits.

# %% tags=["nbval-check-output"]
answer = ...
exercises.check_scale(answer)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-scale
# :label: ex-scale-solution
# :class: dropdown
# ```
# By {eq}`eq-guided-variance`, $0.5^\kappa = 0.05$.

# %% tags=["nbval-check-output"]
import math

exercises.check_scale(math.log(0.05) / math.log(0.5))

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} One pixel tells the others
# :label: ex-one-pixel
# ```
# Given $x_t$, the pixels have the means `x_hat` (a vector) and the covariance matrix `C`. Pixel number `i` is then measured: the value is `y`, with noise of variance `var`. Write the new means of all pixels, without inverting a matrix.


# %% tags=["nbval-check-output"]
def after_one_pixel(x_hat, C, i, y, var):
    return ...


exercises.check_after_one_pixel(after_one_pixel)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-one-pixel
# :label: ex-one-pixel-solution
# :class: dropdown
# ```
# $A$ is one row of the identity. Then $C A^\top$ is a column of $C$, and the matrix to be inverted is a number {eq}`eq-posterior-denoiser`.


# %% tags=["nbval-check-output"]
def after_one_pixel(x_hat, C, i, y, var):
    return x_hat + C[:, i] * (y - x_hat[i]) / (C[i, i] + var)


exercises.check_after_one_pixel(after_one_pixel)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} The draws that miss
# :label: ex-holes
# ```
# The codes of some VAE are distributed as draws of $\mathcal{N}(0, I)$ of which all outside of a region are discarded. A learned prior that knows the region gains `nats` nats per code over $\mathcal{N}(0, I)$. Which share of the draws from $\mathcal{N}(0, I)$ misses the region?


# %% tags=["nbval-check-output"]
def share_that_misses(nats):
    return ...


exercises.check_share_that_misses(share_that_misses)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-holes
# :label: ex-holes-solution
# :class: dropdown
# ```
# Inside, the density of the codes is that of $\mathcal{N}(0, I)$ divided by the probability $p$ of the region. The gain is $- \log p$.


# %% tags=["nbval-check-output"]
def share_that_misses(nats):
    return 1 - math.exp(-nats)


exercises.check_share_that_misses(share_that_misses)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# (sec-priors-summary)=
# ## Summary
#
# - To condition a diffusion model, condition its denoiser: add the gradient of $\log q(y \mid x_t)$, with the factor of Tweedie's formula {eq}`eq-conditional-denoiser`. Every sampler works as before.
# - A network that is told the label nine times out of ten has a classifier inside {eq}`eq-guided-score`. Guidance exaggerates its gradient, in any language {eq}`eq-guided-languages`.
# - Above scale 1 the samples follow no law that one would have asked for. For normal data DDIM and DDPM draw from two different ones {eq}`eq-guided-variance`, and neither is the tilted law {eq}`eq-tilted-variance`. On digits the classifier gets what was asked for, and variety is the price.
# - For a linear measurement of normal data the denoiser is known in closed form {eq}`eq-posterior-denoiser`, and samples follow the posterior {eq}`eq-normal-posterior`. For other data it is an approximation, and residuals must be looked at. To take the estimate for the truth is overconfident. Replacement keeps seen pixels exactly, and gets the others wrong.
# - A VAE whose prior is a diffusion has one bound {eq}`eq-latent-bound`. A gain of few nats can decide over most samples.
#
# **What the sources say, and where they need care.** The slides show the applications as pictures, without formulas: in-painting, "as a prior", DreamFusion, text to image. There is nothing in them to correct, and much to ask. Which way of in-painting is meant matters, since the simplest one does not draw from the conditional law. And a sample guided at a scale above 1 is not a draw from $p(x \mid \text{text})$.
#
# **To read next.** {cite:t}`dhariwal2021` and {cite:t}`ho2022` on guidance, {cite:t}`bradley2024` on what it samples; {cite:t}`song2023pigdm`, {cite:t}`chung2023` and {cite:t}`lugmayr2022` on measurements; {cite:t}`rombach2022` and {cite:t}`vahdat2021` on latent spaces; {cite:t}`poole2023` on the prior at work.
#
# (sec-farewell)=
# ### One bound, all the way down
#
# This is the end of the book. Its one idea was the {term}`ELBO`: explain the data, and agree with $q$ at each step. Here is who $q$ and $p$ were.
#
# | chapter | $q$: from the data up | $p$: down to the data | what the bound said |
# |---|---|---|---|
# | 1 | an encoder, no law yet | a decoder, no law yet | nothing: a reconstruction error, and no way to sample |
# | 2, 3 | any law of the latent | any prior and likelihood | $\log p(x)$ less a divergence: explain, and stay near the prior |
# | 4 | a law that one must learn through | the same | how its gradient passes a sample |
# | 5 | normal | linear and normal | all of it by hand, with its flat and its dead directions |
# | 6, 7 | a network's normal law | a network's pixels | a rate and a distortion, in nats per digit; collapse where the rate is zero |
# | 8 | several levels, shared with the decoder | several levels | one divergence for each level |
# | 9 | noise, and nothing learned | a thousand steps back | a thousand small divergences of normal laws |
# | 10 | the same | the same, by one denoiser | a weighted regression on noise |
# | 11 | any family with the same marginals | any sampler with the same denoiser | nothing new: the same loss, and its noise is the score |
# | 12 | an encoder, then noise | steps back, then a decoder, both told what is known | the sum of both bounds |
#
# The last row contains the others. An encoder was where the book began; noise was what made the bound easy; and a condition turns a model of all pictures into an answer. Take the companion apart, change a sign, and see which check fails.
