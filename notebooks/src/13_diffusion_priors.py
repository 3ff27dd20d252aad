# %% [markdown]
# # Diffusion priors
#
# A model that draws just any digit is of little use. One wants a seven, or a digit whose upper half is known, or the sharp image behind a blurred one. None of these needs a model of its own: this chapter shows how one diffusion model serves them all, as a *prior*. Below, the first three rows come from the same weights and the same eight noise images. The fourth is drawn in a space of 16 latent dimensions, by a network that needs far less than a hundredth of the arithmetic.

# %% tags=["setup", "hide-input"]
# The set-up cell: `make sync` writes it.

# %% tags=["unseen"]
import torch

from companion import data
from companion.data import to_symmetric, to_unit
from companion.guidance import guided, posterior_denoiser
from companion.page import plots
from companion.samplers import ddpm_sample
from companion.schedule import linear_schedule
from companion.zoo import pretrained
from companion.zoo.architectures import digit_encoder

# %% [markdown]
# The network is that of chapter 10, which can be used with a class or without. The fourth row comes from a VAE and a diffusion model of its codes.

# %% tags=["serves"]
_ = torch.manual_seed(0)
train, test = data.load("mnist", "train"), data.load("mnist", "test")
digit_model, latent = pretrained("ddpm-mnist-joint"), pretrained("ldm-mnist")
denoiser = digit_model.denoiser
classifier, vae = pretrained("classifier-mnist"), digit_encoder()
schedule, digit_schedule = linear_schedule(1000), digit_model.schedule


def end(film):
    """The last of what a sampler yields."""
    *_, x = film
    return x


# %% [markdown]
# Each request has a denoiser of its own, built by functions that this chapter explains. The upper half in the third row is that of a test digit.

# %% tags=["serves"]
noise_images, given = torch.randn(8, 1, 28, 28), to_symmetric(test.images[[9]])
upper = (torch.arange(784) < 392).view(1, 28, 28)
cov = torch.cov(to_symmetric(train.images[:10_000]).flatten(1).T)
rows_of_I = torch.eye(784)[upper.flatten()]
y = (given.flatten(1) @ rows_of_I.T).expand(8, -1)
requests = {
    "anything": denoiser,
    "a seven": guided(denoiser, torch.full((8,), 7), 3.0),
    "this upper half": posterior_denoiser(denoiser, digit_schedule, rows_of_I, y, 0.02, cov),
}
twenty = digit_schedule.evenly(20)
drawn = {name: end(ddpm_sample(hat, twenty, noise_images)) for name, hat in requests.items()}
z = end(ddpm_sample(latent.denoiser, latent.schedule.evenly(50), torch.randn(8, 16)))

# %% tags=["figure"] mystnb={"image": {"alt": "Four rows of eight digits. First row: different digits. Second row: eight sevens. Third row: eight completions of one digit, all with the same upper half. Fourth row: different digits, a little smoother."}, "figure": {"caption": "Four requests. The first three rows have the same network and the same eight noise images and differ in the denoiser that is made of its outputs.", "name": "fig-four-wishes"}}
rows = {name: to_unit(x) for name, x in drawn.items()}
plots.image_rows(rows | {"16 latents": vae.likelihood(z).mean})

# %% [markdown]
# The first three rows of {numref}`fig-four-wishes` share the sampler and all weights of the network. What changes is the *denoiser* that the sampler is given, a function of $x_t$ and $t$ that is computed from the network's outputs. That is the one idea of this chapter:
#
# > To condition a diffusion model, condition its denoiser. Give a sampler of {ref}`chapter 11 <sec-sampling-summary>` the mean of $x$ given $x_t$ *and the condition*, and in the limit of small steps it draws from $p(x \mid \text{condition})$.
#
# (In the second row the condition has more weight than Bayes' rule gives it. What is sampled then is the question of {ref}`a later section <sec-above-scale-one>`.)

# %% [markdown]
# (sec-bayes-score)=
# ## Bayes' rule for the denoiser
#
# Let $y$ be what is known about the image: its class, some of its pixels, a blurred copy. Given $x$, it is independent of the noise of the diffusion. A conditional sampler needs $\mathbb{E}[x \mid x_t, y]$ in place of $\mathbb{E}[x \mid x_t]$. By Bayes' rule, $q(x_t \mid y) \propto q(x_t)\, q(y \mid x_t)$. The factor that does not depend on $x_t$ drops out of the gradient of the logarithm:
#
# $$
# \nabla \log q(x_t \mid y) = \nabla \log q(x_t) + \nabla \log q(y \mid x_t) .
# $$ (eq-bayes-score)
#
# This sum, and its use to condition a reverse chain, are in {cite:t}`sohldickstein2015` and, for scores, in {cite:t}`song2021sde`. Tweedie's formula {eq}`eq-tweedie` translates scores to denoisers. With $\hat{x}(x_t) = \mathbb{E}[x \mid x_t]$, and for every distribution of the data and of $y$,
#
# $$
# \mathbb{E}[x \mid x_t, y] = \hat{x}(x_t) + \frac{1 - \bar\alpha_t}{\sqrt{\bar\alpha_t}}\; \nabla \log q(y \mid x_t) .
# $$ (eq-conditional-denoiser)
#
# :::{dropdown} Proof
# Given $x$ the noise does not depend on $y$, so Tweedie's formula holds for the data distribution $p(x \mid y)$ as it does for $p(x)$. Subtract the two formulas; by {eq}`eq-bayes-score` the difference of the scores is $\nabla \log q(y \mid x_t)$. $\square$
# :::
#
# So prior and condition are two separate terms. The first is a network that was trained without $y$. The second is about noisy images: *how likely is $y$, given $x_t$?*
#
# On the ring of eight Gaussian components every term is known exactly, so that both equations can be compared with a direct computation. Let $y$ be the quarter of the ring that a point comes from, two neighboring components each.

# %% tags=["unseen"]
import math
from functools import partial
from itertools import pairwise

from torch.distributions import (
    Categorical,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    kl_divergence,
)
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from companion.ddpm import Ddpm, elbo_step
from companion.denoisers import MixtureDenoiser, gaussian_denoiser
from companion.elbo import elbo_terms
from companion.experiments import record_of
from companion.guidance import classifier_free_loss, extrapolated
from companion.metrics import frechet_distance, jackknife, proportion
from companion.page.exercises import diffusion_priors as exercises
from companion.page.live import watch
from companion.page.show import show
from companion.page.sliders import Slider
from companion.page.verify import exact, monte_carlo, quadrature, variance, verify
from companion.samplers import (
    ddim_invert,
    ddim_posterior,
    ddim_sample,
    dpm_solver_sample,
    inpaint_sample,
)

# %% tags=["unseen"]
from companion.schedule import add_noise, noise_from_x_0, score_from_x_0, v_from_x_0
from companion.score import exact_score, noisy_mixture
from companion.zoo.architectures import codes
from companion.zoo.weights import load_record
from companion.zoo.yardstick import (
    JUDGES,
    digit_distance,
    digit_features,
    feature_distance,
    real_digit_distance,
    reference,
    unrecognized,
)
from companion.zoo.yourself import cost, train_it, use

# %%
s = linear_schedule(100, 1e-3, 0.2)
angle = torch.arange(8).double() * torch.pi / 4
means = 1.25 * torch.stack([angle.cos(), angle.sin()], 1)
covs = (0.125**2 * torch.eye(2).double()).expand(8, 2, 2)
ring = MixtureSameFamily(Categorical(torch.ones(8).double()), MultivariateNormal(means, covs))
ring_hat = MixtureDenoiser(s, torch.full((8,), 1 / 8).double(), means, covs)
quarter_hat = MixtureDenoiser(s, torch.full((2,), 0.5).double(), means[:2], covs[:2])


def log_quarter(x_t, t):
    """log q(y | x_t) for the first quarter; t = 0 is the classifier of clean points."""
    noisy = noisy_mixture(ring, s.alpha_bar[t] ** 0.5, s.noise_var[t])
    log_share = noisy.component_distribution.log_prob(x_t[:, None]).log_softmax(1)
    return log_share[:, :2].logsumexp(1)


# %% [markdown]
# **Check.** Both equations are computed at fifty points and three times. The left sides use the two components of the quarter alone, in closed form; the right sides use all eight, and the gradient of the class probability by automatic differentiation. The check rejects a classifier that was made for clean points and, for the denoiser, the factor $\sqrt{1 - \bar\alpha_t}$, which belongs to the noise.

# %% tags=["serves"]
_ = torch.manual_seed(0)
score_of_quarter, scores, hats, right, clean, misplaced = [], [], [], [], [], []
for t in (20, 50, 100):
    x_t, time = torch.randn(50, 2).double(), torch.full((50,), t)
    var, factor = s.noise_var[t], s.noise_var[t] / s.alpha_bar[t] ** 0.5
    noisy = noisy_mixture(ring, s.alpha_bar[t] ** 0.5, var)
    free, pull = exact_score(noisy.log_prob, x_t), exact_score(partial(log_quarter, t=t), x_t)
    pull_0 = exact_score(partial(log_quarter, t=0), x_t)
    score_of_quarter += [quarter_hat.score_at_level(x_t, s.alpha_bar[t].log())]
    scores += [torch.stack([free + pull, free + pull_0, free])]
    hats += [quarter_hat(x_t, time)]
    right += [ring_hat(x_t, time) + factor * pull]
    clean += [ring_hat(x_t, time) + factor * pull_0]
    misplaced += [ring_hat(x_t, time) + var**0.5 * pull]
left, by_bayes = torch.stack(score_of_quarter), torch.stack(scores, 1)

# %% tags=["check", "nbval-check-output"]
rule = exact.within(1e-8)
wrong = {"classifier of clean points": by_bayes[1], "no condition": by_bayes[2]}
verify("eq-bayes-score", left, by_bayes[0], rule, rejects=wrong)
hats, right, clean, misplaced = map(torch.stack, (hats, right, clean, misplaced))
wrong = {"classifier of clean points": clean, "factor of the noise": misplaced}
verify("eq-conditional-denoiser", hats, right, rule, rejects=wrong)

# %% [markdown]
# **Classifier guidance** uses {eq}`eq-conditional-denoiser` as it stands {cite:p}`dhariwal2021`: train a classifier on *noisy* images of all times, and add the gradient of its log-probability to the output of an unconditional model. {numref}`fig-classifier-guidance` does so with the exact classifier of the ring and, for comparison, with a tempting shortcut: the classifier of clean points, applied to noisy ones.


# %%
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

# %% tags=["figure"] mystnb={"image": {"alt": "Three panels of points. First, no condition: eight round clusters on a ring. Second, exact classifier: only two neighboring clusters, at the right and the upper right. Third, classifier of clean points: nearly the same two clusters."}, "figure": {"caption": "The same denoiser: alone, with the gradient of the exact classifier of noisy points, and with that of the classifier of clean ones. The last two differ by less than the eye can see.", "name": "fig-classifier-guidance"}}
fig, panels = plots.figure(3, height=2.7)
for panel, (name, points) in zip(panels, ended.items(), strict=True):
    names = {"x_label": f"$x_1$, {name}", "y_label": "$x_2$"}
    box = (-2, 2, -2, 2)
    _ = plots.scatter(points.clamp(-2, 2), **names, bounds=box, axes=panel)
fig

# %% [markdown]
# The last two panels look alike, so we measure three numbers: the share of the points within four standard deviations of the two right centers; the distance from each of these centers to the mean of the points nearest to it; and the width of the clusters relative to the components. (Half of a round Gaussian in the plane lies within 1.18 standard deviations.)

# %% tags=["serves"]
inside, shift, width = {}, {}, {}
for name, points in ended.items():
    apart = (points[:, None] - means).norm(dim=2)
    width[name] = apart.min(1).values.median() / (1.1774 * 0.125)
    inside[name] = (apart[:, :2] < 4 * 0.125).any(1).double().mean()
    centers = torch.stack([points[apart.argmin(1) == k].mean(0) for k in (0, 1)])
    shift[name] = (centers - means[:2]).norm(dim=1).max()

# %% tags=["held", "nbval-check-output"]
alone = abs(inside["no condition"] - 0.25)
print("no condition: a quarter, within 5 percentage points:", bool(alone < 0.05))
print("exact classifier: more than 97 percent:", bool(inside["exact"] > 0.97))
print("exact classifier: both centers off by less than 0.02:", bool(shift["exact"] < 0.02))
print("classifier of clean points: more than 97 percent, too:", bool(inside["clean"] > 0.97))
print("classifier of clean points: a center off by more than 0.03:", bool(shift["clean"] > 0.03))
both = max(width["no condition"], width["exact"])
print("clusters narrower than the components, with and without a condition:", bool(both < 0.97))

# %% [markdown]
# With the exact classifier the points are where they belong. The clusters are somewhat narrow, as they are without a condition: in finite steps the sampler loses variance, as {ref}`chapter 11 <sec-variance-recursion>` derives for Gaussians. The shortcut moves the mean of a cluster by more than 0.03, a quarter of a standard deviation.
#
# So on the ring, with the exact classifier of clean points, the shortcut does little harm. A trained network is asked more: nearly pure noise says nothing about the class, so the gradient of $\log q(y \mid x_t)$ is close to zero there, but that of a classifier that never saw noise need not be. And {eq}`eq-conditional-denoiser` multiplies it by $(1 - \bar\alpha_t) / \sqrt{\bar\alpha_t}$, which grows without bound toward pure noise.
#
# Is a clean classifier useless then? It can be asked about something that *is* clean: the estimate $\hat{x}(x_t, t)$ instead of $x_t$. This replaces $q(y \mid x_t)$ by $p(y \mid \hat{x}(x_t, t))$, and the gradient goes back through the denoiser {cite:p}`chung2023,bansal2023`. {numref}`fig-clean-classifier` asks for sevens, with the digit model without a label and a classifier of clean digits: applied to $x_t$, with the factor as it is and with the factor held below 6, and applied to the estimate with the same factor.


# %%
def by_classifier(seen, most=6.0):
    """The denoiser without a label, and the gradient of a classifier of clean digits that sees seen(x_t, t)."""

    def hat(x_t, t):
        alpha_bar = digit_schedule.alpha_bar[t[0]].float()
        factor = ((1 - alpha_bar) / alpha_bar**0.5).clamp(max=most)
        sure = partial(log_seven, t=t, seen=seen)
        return denoiser(x_t, t) + factor * exact_score(sure, x_t)

    return hat


def log_seven(x_t, t, seen):
    """The classifier's log-probability of a seven."""
    return classifier((seen(x_t, t) + 1) / 2).log_softmax(1)[:, 7]


def itself(x_t, t):
    return x_t


starts_24 = torch.randn(24, 1, 28, 28)
ways = {
    "of x_t": by_classifier(itself, most=torch.inf),
    "of x_t, below 6": by_classifier(itself),
    "of the estimate": by_classifier(denoiser),
    "with labels": guided(denoiser, torch.full((24,), 7), 1.0),
}
asked = {name: to_unit(end(ddpm_sample(hat, twenty, starts_24))) for name, hat in ways.items()}

# %% tags=["figure"] mystnb={"image": {"alt": "Four rows of eight images. First row: noise, without a trace of a digit. Second row: digits of all classes, some broken. Third and fourth row: most are sevens."}, "figure": {"caption": "Asked for sevens: by the gradient of a classifier of clean digits, applied to the noisy image, to the same with a bounded factor, and to the estimate; and by a network that was trained with labels.", "name": "fig-clean-classifier"}}
plots.image_rows({name: x[:8] for name, x in asked.items()}, tile=0.8)

# %% [markdown]
# These are the first eight of 24. How many of the 24 are sevens? The classifier that gave the gradient is no witness, so we ask the two judges of {ref}`chapter 10 <sec-ddpm-samples>` as well.

# %%
judges = {"classifier": classifier} | {name: pretrained(name) for name in JUDGES}
sevens_of = {}
for name, x in asked.items():
    sevens_of[name] = {judge: int((net(x).argmax(1) == 7).sum()) for judge, net in judges.items()}
    print(f"{name:16}", ", ".join(f"{judge}: {num:2}" for judge, num in sevens_of[name].items()))

# %% tags=["held", "nbval-check-output", "mnist"]
at_top = torch.full((24,), 1000)
size = (ways["of x_t"](starts_24, at_top) - denoiser(starts_24, at_top)).square().mean().sqrt()
print("at t = 1000 the gradient adds more than the range of the pixels:", bool(size > 2))
least = {name: min(row.values()) for name, row in sevens_of.items()}
most = {name: max(row.values()) for name, row in sevens_of.items()}
print("applied to the noisy image: at most a third are sevens:", most["of x_t, below 6"] <= 8)
print(
    "applied to the estimate: at least half are, says every judge:", least["of the estimate"] >= 12
)

# %% [markdown]
# What the classifier is shown decides. Over three seeds of 48 starts, by two judges and with the bounded factor, 23.3 ± 1.5 % of the images are sevens if the classifier is shown the noisy image, 81.6 ± 0.9 % if it is shown the estimate, 91.3 ± 2.3 % by the labels and 8.3 ± 1.2 % without a condition ({ref}`experiment <exp-clean-classifier>`). At scale 10 the first three are 46.2 ± 2.3 %, 97.9 ± 1.2 % and 99.3 ± 0.7 %. Without the bound neither the noisy image nor the estimate gives digits: 98.3 % and 98.3 % of the images are not recognized, in excess over real ones. The gradient through the denoiser costs time at each step; with it 7.3 ± 0.7 % of the images are not recognized, and 29.2 ± 1.7 % with that by the estimate alone.
#
# **What you can say now.** A condition enters a diffusion model as one more term in the denoiser, with the gradient of $\log q(y \mid x_t)$. The exact one needs a classifier of *noisy* images; one of clean digits made far more sevens when it was shown the estimate than when it was shown $x_t$.

# %% [markdown]
# (sec-classifier-free)=
# ## Guidance without a classifier
#
# Can we do without a classifier of noisy images? By {eq}`eq-conditional-denoiser` the gradient of the class probability *is* the difference of two denoisers, up to a factor. So it is enough to train one network that serves as both {cite:p}`ho2022`.
#
# :::{prf:algorithm} Training with and without the label
# :label: alg-classifier-free
# Repeat until done:
#
# 1. Draw an image $x$ with its label $y$, a time $t$ and noise.
# 2. With probability 0.1, replace the label by an eleventh one that means *any class*.
# 3. Take a step of gradient descent on the usual loss {eq}`def-simple-loss`, or on that of $v$.
# :::
#
# In code these are a few lines around the loss of chapter 10:

# %% tags=["shown", "nbval-check-output"]
show(classifier_free_loss, docstring=False)

# %% [markdown]
# Inside the network, each label has a learned vector, which is added to that of the time. Write $\hat{x}(x_t, y)$ for the conditional output and $\hat{x}(x_t)$ for the unconditional one. The *guided* denoiser is
#
# $$
# \hat{x}_\kappa(x_t, y) = \hat{x}(x_t) + \kappa\, \big( \hat{x}(x_t, y) - \hat{x}(x_t) \big) ,
# $$ (def-guided)
#
# with the *guidance scale* $\kappa$. At 0 the label is ignored. At 1 it is {eq}`eq-conditional-denoiser`, the denoiser of the class. Above 1 the difference is exaggerated. With exact denoisers the score that belongs to $\hat{x}_\kappa$ is
#
# $$
# \nabla \log q(x_t) + \kappa\, \nabla \log q(y \mid x_t) .
# $$ (eq-guided-score)
#
# (Insert {eq}`eq-conditional-denoiser` into {eq}`def-guided` and translate by {eq}`eq-tweedie`.) So the network contains a classifier's gradient, although no classifier was trained. Two *learned* denoisers, however, differ by a vector field that need not be the gradient of anything {cite:p}`ho2022`. {numref}`fig-guidance-vectors` shows the two terms and their sum on the ring.

# %% tags=["figure"] mystnb={"image": {"alt": "Three panels of arrows over the density of a noisy ring. First, the score of all data: arrows point to the ring. Second, the gradient of the class probability: arrows point to the upper right. Third, the first plus three times the second: on the far side of the ring arrows cross it towards the upper right."}, "figure": {"caption": "Guidance as vectors, at $t = 10$: the score of all data, the gradient of the class probability, and the first plus three times the second. Arrows are scaled in each panel.", "name": "fig-guidance-vectors"}}
noisy = noisy_mixture(ring, s.alpha_bar[10] ** 0.5, s.noise_var[10])
fields = {
    "score": lambda x: exact_score(noisy.log_prob, x.double()),
    "class": lambda x: exact_score(partial(log_quarter, t=10), x.double()),
}
fields["guided"] = lambda x: fields["score"](x) + 3 * fields["class"](x)
fig, panels = plots.figure(3, height=2.7)
for (name, field), panel in zip(fields.items(), panels, strict=True):
    _ = plots.vector_field(
        field,
        (-1.8, 1.8, -1.8, 1.8),
        log_prob=lambda x: noisy.log_prob(x.double()),
        num=11,
        x_label=f"$x_1$, {name}",
        axes=panel,
    )
fig

# %% [markdown]
# The second field is largest where $x_t$ is unlikely to belong to the class, and vanishes inside the quarter.
#
# **Check.** The score of the guided denoiser for $\kappa = 3$ is compared with automatic differentiation of the two densities. The check rejects a scale that counts what is *added* to the denoiser of the class, and the score of the class alone.

# %% tags=["serves"]
_ = torch.manual_seed(0)
x_t, time = torch.randn(50, 2).double(), torch.full((50,), 50)
conditional, any_class = quarter_hat(x_t, time), ring_hat(x_t, time)
left = score_from_x_0(s, x_t, 50, any_class + 3 * (conditional - any_class))
noisy = noisy_mixture(ring, s.alpha_bar[50] ** 0.5, s.noise_var[50])
free = exact_score(noisy.log_prob, x_t)
pull = exact_score(partial(log_quarter, t=50), x_t)

# %% tags=["check", "nbval-check-output"]
wrong = {"class and three more": free + 4 * pull, "class alone": free + pull}
verify("eq-guided-score", left, free + 3 * pull, exact.within(1e-8), rejects=wrong)

# %% [markdown]
# **In other parametrizations.** A network may predict the noise, or $v$, or the score. Its outputs can be mixed directly. If $e$ is any of them without the label and $e_y$ with it,
#
# $$
# e_\kappa = e + \kappa\, (e_y - e) = \kappa\, e_y + (1 - \kappa)\, e ,
# $$ (eq-guided-languages)
#
# since each is an affine function of $\hat{x}$ whose coefficients depend on $x_t$ and $t$ only, and the weights $\kappa$ and $1 - \kappa$ add up to 1. {cite:t}`ho2022` write $(1 + w)\, \varepsilon_y - w\, \varepsilon$ for the noise, so their strength $w$ is $\kappa - 1$. The `guidance_scale` of the library diffusers is our $\kappa$; a "scale" that comes without a formula may be either.
#
# **Check.** Mixed predictions of the noise, of $v$ and of the score are compared with those that belong to the guided estimate of the image, for $\kappa = 3$. The check rejects a strength of $w = 3$ in the other convention.

# %% tags=["serves"]
kappa, mixed = 3, any_class + 3 * (conditional - any_class)
direct, by_weights, by_w = [], [], []
for language in (noise_from_x_0, v_from_x_0, score_from_x_0):
    e_y, e, e_kappa = (language(s, x_t, 50, x_0) for x_0 in (conditional, any_class, mixed))
    direct += [e_kappa]
    by_weights += [kappa * e_y + (1 - kappa) * e]
    by_w += [(1 + 3) * e_y - 3 * e]

# %% tags=["check", "nbval-check-output"]
wrong = {"the paper's w = 3": torch.stack(by_w)}
rule = exact.within(1e-8)
verify("eq-guided-languages", torch.stack(direct), torch.stack(by_weights), rule, rejects=wrong)

# %% [markdown]
# The companion's `guided` is {eq}`def-guided` and nothing else. Each of its calls takes two of the network.

# %% tags=["shown", "nbval-check-output"]
show(guided, extrapolated, docstring=False)

# %% [markdown]
# (sec-above-scale-one)=
# ### What is sampled above scale 1?
#
# At each time, {eq}`eq-guided-score` is the score of the distribution proportional to $q(x_t)\, q(y \mid x_t)^\kappa$. It is tempting to conclude that samples follow the *tilted* distribution $p_\kappa(x) \propto p(x)\, p(y \mid x)^\kappa$. But a sampler needs the score of a distribution to which noise was added, and tilting and then adding noise is not the same as adding noise and then tilting. Gaussians show how much that matters. Let the data be $\mathcal{N}(0, 1)$, and those of the class $\mathcal{N}(m, \lambda_y)$ with $\lambda_y < 1$. The tilted distribution, proportional to $p(x)^{1 - \kappa}\, p(x \mid y)^\kappa$, is Gaussian with the variance
#
# $$
# \lambda_\kappa = \frac{1}{1 + \kappa\, (1 / \lambda_y - 1)} ,
# $$ (eq-tilted-variance)
#
# because the precisions (the inverse variances) are mixed, with the weights $1 - \kappa$ and $\kappa$. The samplers give other variances.
#
# :::{prf:proposition} What guidance samples
# :label: prop-guided-variance
# Let $\lambda_y < 1$ and $\kappa \ge 1$. With exact denoisers, from pure noise, and in the limit of infinitely many small steps, DDIM and DDPM draw from Gaussians with the variances
#
# $$
# W_{\mathrm{DDIM}} = \lambda_y^\kappa , \qquad W_{\mathrm{DDPM}} = \frac{\lambda_y - \lambda_y^{2 \kappa}}{(1 - \lambda_y)\, (2 \kappa - 1)} .
# $$ (eq-guided-variance)
# :::
#
# :::{dropdown} Proof
# Take the clock $r = \log \bar\alpha$ of {eq}`def-probability-flow`. The $x_t$ of the class have the variance $V = 1 - (1 - \lambda_y)\, \bar\alpha$, so $\mathrm{d} V / \mathrm{d} r = V - 1$, and those of all data have the variance 1. The guided score has the slope $- P$ with $P = \kappa / V + 1 - \kappa$. Along the flow, $\mathrm{d} \log W / \mathrm{d} r = 1 - P = \kappa\, (1 - 1 / V) = \kappa\, \mathrm{d} \log V / \mathrm{d} r$. Both start at 1 in pure noise, so $W = V^\kappa$, and at the data $V = \lambda_y$.
#
# The limit of DDPM is the reverse-time diffusion {eq}`eq-reverse-sde` with $\eta = 1$: it moves with $\mathrm{d} x = (x / 2 + \text{score})\, \mathrm{d} r$ and noise of variance $\mathrm{d} r$. So $\mathrm{d} W / \mathrm{d} r = (1 - 2 P)\, W + 1$, where $1 - 2 P = 2 \kappa\, \mathrm{d} \log V / \mathrm{d} r - 1$. Hence $\mathrm{d} (W \bar\alpha V^{- 2 \kappa}) / \mathrm{d} r = \bar\alpha V^{- 2 \kappa}$, and at the data $W = \lambda_y^{2 \kappa} \int_0^1 \big( 1 - (1 - \lambda_y)\, \bar\alpha \big)^{- 2 \kappa}\, \mathrm{d} \bar\alpha$. $\square$
# :::
#
# At $\kappa = 1$ all three variances are $\lambda_y$. Above 1 *the two samplers disagree with each other*, and neither draws from the tilted distribution, as {cite:t}`bradley2024` showed with such examples.
#
# **Check.** The tilted variance is computed by a sum over a grid. The check rejects the variances of the two samplers, and a mixture of variances in place of precisions.

# %%
kappa, (m, lam_y) = 3, torch.tensor([1.0, 0.5]).double()
grid = torch.linspace(-12, 12, 4001, dtype=torch.double)
free, of_class = Normal(0.0, 1.0), Normal(m, lam_y**0.5)
p = ((1 - kappa) * free.log_prob(grid) + kappa * of_class.log_prob(grid)).softmax(0)
tilted_mean = (p * grid).sum()
tilted_var = (p * (grid - tilted_mean) ** 2).sum()


def three_variances(kappa, lam_y):
    """Of the tilted distribution, of DDIM and of DDPM."""
    chain = (lam_y - lam_y ** (2 * kappa)) / ((1 - lam_y) * (2 * kappa - 1))
    return 1 / (1 + kappa * (1 / lam_y - 1)), lam_y**kappa, chain


tilted, flow, chain = three_variances(kappa, lam_y)

# %% tags=["check", "nbval-check-output"]
wrong = {"DDIM": flow, "DDPM": chain, "variances mixed": 1 + kappa * (lam_y - 1)}
verify("eq-tilted-variance", tilted_var, tilted, quadrature, rejects=wrong)
print(f"tilted {tilted:.4f}, DDPM {chain:.4f}, DDIM {flow:.4f}")

# %% [markdown]
# For the samplers, note that the guided denoiser is affine in $x_t$ here, so each step multiplies the deviation from the mean by a number and adds noise.
#
# **Check.** The variance is followed through chains of 1000 and 2000 steps, for three pairs of $\kappa$ and $\lambda_y$. The error falls like $1 / T$, so twice the second result minus the first has nearly none of it. The check rejects the tilted variance, and the formulas of the two samplers exchanged.


# %% tags=["serves"]
def variance_after(T, ddim, kappa, lam_y):
    """Variance of what a sampler draws with the guided denoiser, in T steps."""
    fine = linear_schedule(T, 0.1 / T, 20 / T)
    q = ddim_posterior(fine, 0.0 if ddim else 1.0)
    var = q.var if ddim else fine.beta
    alpha_bar, noise_var = fine.alpha_bar, fine.noise_var
    free, of_class = (alpha_bar**0.5 * v / (alpha_bar * v + noise_var) for v in (1, lam_y))
    a = q.of_x_0 * (free + kappa * (of_class - free)) + q.of_x_t
    W = torch.ones(()).double()
    for t in range(T, 0, -1):
        W = a[t] ** 2 * W + (var[t] if t > 1 else 0)
    return W


# %% tags=["serves"]
pairs = [(3, lam_y), (1.5, torch.tensor(0.2).double()), (5, torch.tensor(0.8).double())]
limits = [
    [2 * variance_after(2000, d, *pair) - variance_after(1000, d, *pair) for d in (True, False)]
    for pair in pairs
]
formulas = torch.stack([torch.stack(three_variances(*pair)) for pair in pairs])

# %% tags=["check", "nbval-check-output"]
wrong = {"tilted": formulas[:, [0, 0]], "exchanged": formulas[:, [2, 1]]}
rule = exact.within(2e-3)
verify("eq-guided-variance", torch.tensor(limits), formulas[:, 1:], rule, rejects=wrong)

# %% [markdown]
# The companion's samplers agree.
#
# **Check.** DDIM maps noise to samples by an affine function here. Two starts, at 0 and at 1, give its slope, and the square of the slope is the variance. For DDPM with $\sigma_t^2 = \beta_t$ the variance is that of 20,000 samples. A thousand steps come within two percent of the limit. The check rejects the tilted variance and that of the other sampler.


# %%
def normal_hat(x_t, t, mean, var):
    """The exact denoiser of N(mean, var)."""
    alpha_bar = schedule.alpha_bar[t][:, None]
    gain = alpha_bar**0.5 * var / (alpha_bar * var + 1 - alpha_bar)
    return mean + gain * (x_t - alpha_bar**0.5 * mean)


def guided_hat(x_t, t, kappa=3):
    free, conditional = normal_hat(x_t, t, 0.0, 1.0), normal_hat(x_t, t, m, lam_y)
    return free + kappa * (conditional - free)


_ = torch.manual_seed(0)
low, high = end(ddim_sample(guided_hat, schedule, torch.tensor([[0.0], [1.0]]).double()))
x_T = torch.randn(20_000, 1).double()
x_0 = end(ddpm_sample(guided_hat, schedule, x_T, schedule.beta))[:, 0]

# %% tags=["check", "nbval-check-output"]
wrong = {"tilted": tilted, "DDPM": chain}
verify("eq-guided-variance", (high - low)[0] ** 2, flow, exact.within(0.02), rejects=wrong)
wrong = {"tilted": tilted, "DDIM": flow}
verify("eq-guided-variance", x_0, chain, variance, rejects=wrong)

# %% tags=["figure"] mystnb={"image": {"alt": "Three falling curves of variance over the guidance scale, from a common point at scale one. That of the tilted distribution falls slowest, DDPM next, and DDIM falls fastest, as a straight line on the logarithmic axis."}, "figure": {"caption": "Variance of the guided samples by the scale, for a class with variance 0.5 in data with variance 1. All agree at scale 1 and nowhere above.", "name": "fig-guided-variance"}}
scales = torch.linspace(1, 8, 50).double()
names = ("tilted distribution", "DDIM", "DDPM")
of_scale = zip(names, three_variances(scales, 0.5 + 0 * scales), strict=True)
plots.curves(
    {name: (scales, values) for name, values in of_scale},
    x_label="guidance scale",
    y_label="variance",
    log_y=True,
)

# %% [markdown]
# In {numref}`fig-guided-variance` both samplers draw narrower distributions than the tilted one, DDIM by far. Above scale 1, guidance is not Bayes' rule: samples become more typical of their class and less different from each other, to a degree that depends on the sampler. All of this holds for Gaussians with exact denoisers; for digits it has to be measured.
#
# **What you can say now.** A network that is trained with and without labels contains a classifier's gradient. Guidance multiplies it by $\kappa$, and for $\kappa > 1$ the samples in general follow neither $p(x \mid y)$ nor the tilted distribution.

# %% [markdown]
# (sec-train-guided)=
# ## Train it yourself
#
# The network of the digits, `ddpm-mnist-joint`, was trained by {prf:ref}`alg-classifier-free`, but with half of its labels replaced and not a tenth, so that it saw as many digits without a label as with one. You can train another here, on your GPU if there is one. At small scale the training takes only the first steps, at most 20 seconds on two cores, with the recipe's learning rates compressed into them; `train_it("ddpm-mnist-joint", "full")` takes all of them.

# %%
print(cost("ddpm-mnist-joint"))

# %%
mine = watch(train_it("ddpm-mnist-joint"))

# %% tags=["held", "nbval-check-output"]
first, last = torch.tensor(mine.losses).unfold(0, 4, 4)[[0, -1]].mean(1)
print("the loss fell by more than a tenth:", bool(last < 0.9 * first))

# %% [markdown]
# The rest of the chapter uses the shipped weights. Set `MINE = True` if it should use yours. Checks of claims about trained models were written for the whole recipe and may fail then.

# %% tags=["nbval-check-output"]
MINE = False  # True: from here on the chapter uses your weights
if MINE:
    use("ddpm-mnist-joint", mine.model)
    denoiser = pretrained("ddpm-mnist-joint").denoiser
print("network of the digits:", "yours" if MINE else "the shipped one")

# %% [markdown]
# (sec-guided-digits)=
# ## Guided digits
#
# What does the guidance scale do to digits? We first look at one noise image for each class, at three scales.

# %% tags=["figure"] mystnb={"image": {"alt": "Three rows of ten digits, zero to nine in each. At scale one some are not the digit of their column; at scale three all are. At scale nine some strokes are much thicker."}, "figure": {"caption": "One noise image for each class, at three guidance scales, in twelve steps. The class becomes clearer, and then strokes become too thick.", "name": "fig-guidance-grid"}}
_ = torch.manual_seed(2)
ten, starts = torch.arange(10), torch.randn(10, 1, 28, 28)
grid_rows = {}
for kappa in (1.0, 3.0, 9.0):
    x = end(dpm_solver_sample(guided(denoiser, ten, kappa), digit_schedule.evenly(12), starts))
    grid_rows[f"scale {kappa:.0f}"] = to_unit(x)
plots.image_rows(grid_rows, titles=[str(k) for k in range(10)], tile=0.7)

# %% [markdown]
# In {numref}`fig-guidance-grid` slant and position mostly stay from row to row; the noise image of a column is the same. A larger sample was drawn beforehand: 1000 digits at each of eight scales, a hundred of each class, in twenty steps of DDIM from the same noise. The *record* holds the first sixty images, and for all 1000 the features that the classifier computes and the variance of the pixels. The slider moves through the scales; each column has one class.

# %% tags=["figure"]
record, _ = load_record("ddpm-mnist-joint-guidance")
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
# At scale 0 the label is not used, so the columns mean nothing. At 1 most digits are what was asked for; above, they become clearer and more alike. Three numbers for each scale measure this. *Right* is the share that the classifier takes for the class that was asked for. *Variance* is that of the pixels within a class, summed over the pixels and averaged over the classes, relative to test digits. *Distance* is the Fréchet distance {eq}`def-frechet` of the features from those of the training digits, without its bias, as in {ref}`chapter 10 <sec-ddpm-samples>`. The last row has the 10,000 test digits.


# %%
def variance_within(images, label):
    """Variance of the pixels within a class, summed, averaged over the classes."""
    parts = [images[label == k].flatten(1) for k in range(10)]
    return sum(part.var(0).sum() for part in parts).item() / 10


# %% tags=["numbers", "columns"]
unit = variance_within(test.images, test.labels)
right, variances, far = [], [], []
print("scale   right            variance   distance")
for i, kappa in enumerate(scales):
    seen = record["features"][i].float()
    right += [proportion(classifier.head(seen).argmax(1) == label)]
    variances += [record["spread"][i].mean().item() / unit]
    far += [feature_distance(seen)]
    (share, error, *_), (value, off) = right[-1], far[-1]
    print(f"{kappa:4.1f} {share:8.1%} +- {error:4.1%} {variances[-1]:9.2f}", end="")
    print(f" {value:10.1f} +- {off:.1f}")
of_real = proportion(classifier.head(digit_features(test.images)).argmax(1) == test.labels)
far_real = real_digit_distance()
print(
    f"real {of_real[0]:8.1%} +- {of_real[1]:4.1%} {1:9.2f} {far_real[0]:10.1f} +- {far_real[1]:.1f}"
)
assert max(each.value for each in right) > 0.98

# %% tags=["figure"] mystnb={"image": {"alt": "Three panels over the guidance scale. Left: the share of right digits rises steeply from a tenth to nearly one and stays there. Middle: the variance falls all the way. Right: the Fréchet distance peaks at scale one half, nearly reaches the dashed line of real digits at one, and rises beyond it."}, "figure": {"caption": "What the guidance scale gains (left) and what it costs in variety (middle) and in distance from real digits (right); 1000 digits each. Dashed: real digits.", "name": "fig-guidance-curves"}}
fig, panels = plots.figure(3, height=2.7)
axis, flat = torch.tensor(scales), torch.ones(len(scales))
curves = {
    "share of right digits": ([each.value for each in right], of_real.value),
    "variance": (variances, 1.0),
    "Fréchet distance": ([value for value, _ in far], far_real.value),
}
for panel, (name, (values, of_reality)) in zip(panels, curves.items(), strict=True):
    lines = {"guided": (axis, values), "real": (axis, of_reality * flat)}
    _ = plots.curves(lines, x_label="guidance scale", y_label=name, axes=panel)
for panel in panels[1:]:
    panel.get_legend().remove()
fig

# %% [markdown]
# {numref}`fig-guidance-curves` shows the trade-off that is known from photographs {cite:p}`dhariwal2021,ho2022`. With more guidance more digits are of the right class. Beyond some scale the samples of this network move away from the data, and vary less than real digits. (At scale 0.5 they are farther than without a label. There the guided denoiser is the mean of two denoisers, with and without the label, and half of the digits are not what was asked for.)
#
# With exact denoisers and small steps, the digits at scale 1 would be draws from $p(x \mid y)$, and no other scale could be closer to real ones. Is the distance at 1 really smaller than that at 1.5? Both samples start from the same noise, so their errors are correlated, and the {ref}`jackknife <sec-ddpm-samples>` of the *difference* leaves out the same digits at both scales.


# %%
def difference(one, other):
    """How much farther the second sample is than the first; both started from the same noise."""
    both = torch.stack([one, other], 1)
    gaps = partial(frechet_distance, y=reference())
    return jackknife(lambda part: gaps(part[:, 1]) - gaps(part[:, 0]), both)


seen_at = {kappa: record["features"][i].float() for i, kappa in enumerate(scales)}
moved = difference(seen_at[1.0], seen_at[1.5])
print(f"scale 1.5 is farther than scale 1 by {moved.value:.1f} +- {moved.standard_error:.1f}")

# %% [markdown]
# The difference is less than two standard errors, so 1000 digits do not decide between the two. On photographs {cite:t}`ho2022` found the smallest distance a little above 1.
#
# The samples at scale 0 are those of DDIM in 20 steps in {numref}`fig-steps-distance`. No guidance enters them: how their distance depends on sampler and steps is the subject of {ref}`chapter 11 <sec-digits-in-few-steps>`.

# %% tags=["held", "nbval-check-output", "mnist"]
print("scale 0: a tenth, within 5 standard errors:", abs(right[0].value - 0.1) < 5 * 0.0095)
print("at some scale more than 98 percent are right:", max(r.value for r in right) > 0.98)
values = [value for value, _ in far]
print("the largest scale is farther than the best by ten units:", values[-1] > min(values) + 10)
fall = variances[-1] / variances[2]
print("and its digits vary less than at scale 1, by a tenth or more:", fall < 0.9)

# %% [markdown]
# Why does the distance rise, and does it have to? Without a label the network estimates the mean of all classes. Early, where nearly all is noise, the estimate with the label is near the mean image of the class. Guidance goes beyond it, in the same direction for every start, so that the digits of a class lose what tells them apart before anything else is decided. Late, the class is long decided, and both estimates agree. {cite:t}`kynkaanniemi2024` therefore guide only within an interval of noise levels. A second idea is not to exaggerate the class at all: **autoguidance** {cite:p}`karras2024` goes away from the estimate of a smaller network that has learned less and is given the same label. Both are arguments of the function above: `interval`, and a `weak` denoiser of one's own.

# %% tags=["figure"] mystnb={"image": {"alt": "Lines over the growth of the Fréchet distance, which ends at the share of digits that are not recognized. All begin at ten percent and no growth. Guidance at all times falls to zero and runs far to the right. Guidance in the middle falls as steeply and stays far to the left. The line of the weaker network falls as low as both and runs nearly as far as guidance at all times."}, "figure": {"caption": "What guidance gains (down) and what it costs (to the right), in digits drawn from the same noise in twenty steps: by the network without its label at all times (scales 2, 3, 5) and in the middle alone (2, 3, 5), and by a weaker network with the label (1.5, 2, 3).", "name": "fig-guidance-interval"}}
of_guidance, plain = record_of("guidance"), "no guidance"
ways = {
    "all times": [f"scale {k}" for k in (2, 3, 5)],
    "middle": [f"scale {k}, middle" for k in (2, 3, 5)],
    "weaker network": [f"weaker network, {k}" for k in (1.5, 2, 3)],
}
lines = {}
for way, names in ways.items():
    far = [0.0] + [of_guidance.difference(name, plain, "distance").mean for name in names]
    missed = [of_guidance.value(name, "unrecognized").mean for name in [plain, *names]]
    lines[way] = far, missed
fig, (axes,) = plots.figure(height=3.0)
_ = plots.curves(
    lines, x_label="growth of the Fréchet distance", y_label="not recognized, %", axes=axes
)
for line in axes.get_lines():
    line.set_marker("o")
fig

# %% [markdown]
# {numref}`fig-guidance-interval` is from an experiment of the ledger, with three seeds of noise and 300 digits each. In this network, 10.4 ± 0.6 % of the digits are not recognized, in excess over real ones; guidance at scale 3 leaves −0.8 ± 0.1 %, and the distance grows by 26.5 ± 2.0 ({ref}`experiment <exp-guidance>`). Late, for $t \le 400$, it does nothing: 10.2 ± 0.6 % and −0.4 ± 0.1. Early, for $t > 900$, it leaves 1.5 ± 0.6 %, adds 12.3 ± 1.1 to the distance, and takes 4.3 ± 0.1 of the 38.5 of variance within a class. In the middle it leaves 0.3 ± 0.3 % for 9.9 ± 1.9, and at scale 2 1.7 ± 0.3 % for 3.3 ± 1.6. So early and middle steps each bring most of the gain, and the middle ones bring it with less loss of distance and of variety. The late ones bring nothing.
#
# The weaker network has a quarter of the parameters and two epochs. At scale 2 it leaves −1.5 ± 0.2 % for 23.5 ± 1.4, at scale 1.5 −0.1 ± 0.4 % for 10.1 ± 1.6; the network without the label at all times and scale 2, 1.3 ± 0.4 % for 11.1 ± 1.2 ({ref}`experiment <exp-guidance>`). So it is not the errors of the unconditional output that drive the digits away: with a partner that knows the class they go as far. At the smaller of these scales that partner is level with the middle times at scale 3, and both are ahead of the network without the label at all times.
#
# **What you can say now.** The scale trades variety for agreement with the label; guidance in the middle of the chain alone trades less of it. Of the eight scales tried with this network, 1 and 1.5 are closest to real digits.
#
# *Sources: E06, F07.*

# %% [markdown]
# (sec-inverse-problems)=
# ## Measurements
#
# Now let $y$ be a *measurement*: a linear function of the image, with noise,
#
# $$
# y = A\, x + \sigma_y\, \xi , \qquad \xi \sim \mathcal{N}(0, I) .
# $$ (def-measurement)
#
# The rows of $A$ say what is measured. Rows of the identity observe single pixels: this is *in-painting*. Means over blocks make it *super-resolution*, and a blur makes it *deblurring*. To find $x$ from $y$ is a *linear inverse problem*. With fewer measurements than pixels, or with detail weaker than the noise, many $x$ explain $y$ about equally well. A *prior* $p(x)$ decides among them by Bayes' rule, $p(x \mid y) \propto p(x)\, p(y \mid x)$.
#
# **Gaussian data** come first, because for them the answer is known. For $x \sim \mathcal{N}(\mu, S)$,
#
# $$
# \begin{aligned}
# \mathbb{E}[x \mid y] &= \mu + S A^\top \big( A S A^\top + \sigma_y^2 I \big)^{-1} (y - A \mu) , \\
# \mathrm{Cov}[x \mid y] &= S - S A^\top \big( A S A^\top + \sigma_y^2 I \big)^{-1} A S .
# \end{aligned}
# $$ (eq-normal-posterior)
#
# We want to *sample* this posterior when $p(x)$ is given only by a denoiser. By the first section the sampler needs $\mathbb{E}[x \mid x_t, y]$.
#
# :::{prf:theorem} The denoiser given a measurement
# :label: thm-posterior-denoiser
# Let $x$ given $x_t$ be Gaussian, with the mean $\hat{x}(x_t)$ and the covariance $C_t$. Then
#
# $$
# \mathbb{E}[x \mid x_t, y] = \hat{x} + C_t A^\top \big( A C_t A^\top + \sigma_y^2 I \big)^{-1} (y - A \hat{x}) .
# $$ (eq-posterior-denoiser)
#
# For Gaussian data that is so, with $C_t = \big( S^{-1} + \mathrm{SNR}_t\, I \big)^{-1}$.
# :::
#
# :::{dropdown} Proof
# Given $x_t$, the pair $(x, y)$ is Gaussian: $\mathrm{Cov}(x, y) = C_t A^\top$ and $\mathrm{Cov}(y) = A C_t A^\top + \sigma_y^2 I$. The rest is the conditional mean of a Gaussian pair. For Gaussian data the precision of $x$ given $x_t$ is that of the prior plus that of the observation $x_t / \sqrt{\bar\alpha_t} = x + \text{noise of variance } 1 / \mathrm{SNR}_t$. $\square$
# :::
#
# This is the update of a Kalman filter. The difference $y - A \hat{x}$ is the *innovation*, the measurement minus its prediction. The covariance $C_t$ says how uncertain $\hat{x}$ still is, and which pixels vary together. At high noise, a few observed pixels change the estimates of all others. Next to the data $C_t$ vanishes, and so does the correction.
#
# **Check.** The companion's `posterior_denoiser` is compared with the exact denoiser of the posterior {eq}`eq-normal-posterior`, at four times. The check rejects two other choices. The first has the noise of $x_t$ alone for $C_t$, as if pixels were independent. The second treats $\hat{x}$ as if it were the true image, $C_t = 0$ inside the inverse.

# %% tags=["serves"]
mu = torch.tensor([0.5, -0.3, 0.2]).double()
S = torch.tensor([[1.0, 0.6, 0.2], [0.6, 0.8, -0.1], [0.2, -0.1, 0.5]]).double()
A = torch.tensor([[1.0, 0.5, 0.0], [0.0, -1.0, 2.0]]).double()
sigma_y, y = 0.3, A @ torch.tensor([0.9, 0.1, -0.8]).double()
gain = S @ A.T @ torch.linalg.inv(A @ S @ A.T + sigma_y**2 * torch.eye(2).double())
post_mean, post_cov = mu + gain @ (y - A @ mu), S - gain @ A @ S
prior_hat = gaussian_denoiser(schedule, mu, S)
post_hat = gaussian_denoiser(schedule, post_mean, (post_cov + post_cov.T) / 2)
with_y = posterior_denoiser(prior_hat, schedule, A, y.expand(20, 2), sigma_y, S)

# %% tags=["serves"]
_ = torch.manual_seed(0)
left, right_side, others = [], [], {"pixels alone": [], "estimate as truth": []}
for t in (50, 300, 600, 1000):
    x_t, time = torch.randn(20, 3).double(), torch.full((20,), t)
    x_hat, snr = prior_hat(x_t, time), schedule.snr[t]
    C = torch.linalg.inv(torch.linalg.inv(S) + snr * torch.eye(3))
    alone = A.T @ torch.linalg.inv(A @ A.T / snr + sigma_y**2 * torch.eye(2)) / snr
    for name, gain_t in zip(others, (alone, C @ A.T / sigma_y**2), strict=True):
        others[name] += [x_hat + (y - x_hat @ A.T) @ gain_t.T]
    left += [with_y(x_t, time)]
    right_side += [post_hat(x_t, time)]

# %% tags=["check", "nbval-check-output"]
wrong = {name: torch.stack(values) for name, values in others.items()}
rule = exact.within(1e-8)
verify("eq-posterior-denoiser", torch.stack(left), torch.stack(right_side), rule, rejects=wrong)

# %% [markdown]
# The samples follow the posterior, too.
#
# **Check.** 4000 samples are drawn with DDIM, and their means and covariances are compared with {eq}`eq-normal-posterior`. The check rejects the prior, and the posterior of a measurement without noise.

# %% tags=["serves"]
_ = torch.manual_seed(0)
with_y = posterior_denoiser(prior_hat, schedule, A, y.expand(4000, 2), sigma_y, S)
x = end(ddim_sample(with_y, schedule, torch.randn(4000, 3).double()))
off = x - post_mean
left = torch.cat([x, (off[:, :, None] * off[:, None]).flatten(1)], 1)
right_side = torch.cat([post_mean, post_cov.flatten()])
bare = S @ A.T @ torch.linalg.inv(A @ S @ A.T)  # the gain for sigma_y = 0
no_noise = torch.cat([mu + bare @ (y - A @ mu), (S - bare @ A @ S).flatten()])

# %% tags=["check", "nbval-check-output"]
wrong = {"the prior": torch.cat([mu, S.flatten()]), "no noise": no_noise}
verify("eq-normal-posterior", left, right_side, monte_carlo, rejects=wrong)

# %% [markdown]
# **Other data.** For digits, $x$ given $x_t$ is not Gaussian, its covariance depends on $x_t$, and {eq}`eq-posterior-denoiser` is an approximation. We take the $C_t$ of Gaussian data with the covariance of the digits. The less noise $x_t$ has, the less the choice matters, since $C_t$ vanishes with the noise. {cite:t}`song2023pigdm` put a multiple of the identity inside the inverse, and the derivative of the network outside of it; {cite:t}`peng2024` estimate better covariances.
#
# **The estimate is not the image.** A simpler approximation puts the estimate in the place of the image, $q(y \mid x_t) \approx \mathcal{N}(y; A \hat{x}(x_t), \sigma_y^2 I)$, and takes the gradient through the network {cite:p}`chung2023`. For Gaussian data the derivative of $\hat{x}$ by $x_t$ is $\sqrt{\bar\alpha_t}\, C_t / (1 - \bar\alpha_t)$, and {eq}`eq-conditional-denoiser` gives $\hat{x} + C_t A^\top (y - A \hat{x}) / \sigma_y^2$. That is {eq}`eq-posterior-denoiser` with $C_t = 0$ inside the inverse, which its check rejects: it ignores that $\hat{x}$ is uncertain. Let $x$ be a single number with variance 1, measured with $\sigma_y = 0.1$:

# %% tags=["nbval-check-output"]
print("   t    factor of the innovation: exact, estimate as truth")
for t in (1000, 600, 300, 100, 30, 10):
    open_var = 1 / (1 + schedule.snr[t])
    print(f"{t:4} {open_var / (open_var + 0.01):12.3f} {open_var / 0.01:12.2f}")

# %% [markdown]
# A factor above 1 goes past the target, and one above 2 ends farther away than it began. What does that do to the samples of DDIM? The right posterior has the mean 0.990 and the variance 0.0099.


# %%
def as_truth(x_t, t, measured=1.0, noise=0.1):
    """x_hat for one number of data N(0, 1), with the estimate taken for the truth."""
    x_hat = normal_hat(x_t, t, 0.0, 1.0)
    open_var = 1 / (1 + schedule.snr[t][:, None])
    return x_hat + open_var / noise**2 * (measured - x_hat)


_ = torch.manual_seed(0)
x_T, one = torch.randn(2000, 1).double(), torch.ones(1, 1).double()
few, many = (end(ddim_sample(as_truth, sub, x_T)) for sub in (schedule.evenly(20), schedule))
free_hat = partial(normal_hat, mean=0.0, var=1.0)
with_y = posterior_denoiser(free_hat, schedule, one, one.expand(2000, 1), 0.1, one)
x = end(ddim_sample(with_y, schedule, x_T))

# %% tags=["held", "nbval-check-output"]
print("estimate as truth, 20 steps: all beyond 1000:", bool(few.abs().min() > 1000))
print("estimate as truth, 1000 steps: mean within 0.05:", bool((many.mean() - 0.990).abs() < 0.05))
print("and a variance below a thousandth of the right one:", bool(many.var() < 0.0099e-3))
print("the theorem, 1000 steps: mean right:", bool((x.mean() - 0.990).abs() < 0.01))
print("and the variance within 15 percent:", bool((x.var() / 0.0099 - 1).abs() < 0.15))

# %% [markdown]
# Twenty long steps diverge. A thousand short ones bring all samples to one point, as if the measurement had left no uncertainty. {cite:t}`chung2023` rescale the gradient: they divide it by the length of the innovation and multiply by a step size that is chosen for each task. In their experiments on photographs that works well; the balance of prior and measurement is then set manually.

# %% [markdown]
# (sec-inpainting)=
# ### In-painting by replacement
#
# For observed pixels there is an older and simpler idea {cite:p}`song2021sde`. Sample as usual, but after each step replace the observed pixels by the true ones, with the right amount of noise. No $C_t$ is needed. Does it draw from $p(x \mid y)$?
#
# We test it on two Gaussian numbers with variance 1 and correlation 0.8. The first is observed to be 1.5. The second then has the mean 1.2 and the variance 0.36. We sample by replacement with the exact denoiser. {cite:t}`lugmayr2022` propose to take each step several times, with new noise in between, so that observed and other values can adapt to each other; these are the repeats.

# %% tags=["numbers"]
_ = torch.manual_seed(0)
pair_cov = torch.tensor([[1.0, 0.8], [0.8, 1.0]]).double()
pair_hat = gaussian_denoiser(schedule, torch.zeros(2).double(), pair_cov)
observed = torch.tensor([True, False])
first, n = torch.tensor([[1.0, 0.0]]).double(), 2000
truth, noise = 1.5 * first.expand(n, 2), torch.randn(n, 2).double()
print("steps  repeats   calls   mean   variance   (wanted: 1.2 and 0.36)")
moments = {}
for steps, repeats in ((100, 1), (1000, 1), (100, 5), (100, 20), (500, 20)):
    film = inpaint_sample(pair_hat, schedule.evenly(steps), noise, truth, observed, repeats)
    second = end(film)[:, 1]
    mean, var = moments[steps, repeats] = second.mean().item(), second.var().item()
    print(f"{steps:5} {repeats:8} {steps * repeats:7} {mean:6.2f} {var:10.2f}")
by_theorem = posterior_denoiser(pair_hat, schedule, first, truth[:, :1], 0.01, pair_cov)
second = end(ddim_sample(by_theorem, schedule.evenly(100), noise))[:, 1]
print(f"{100:5}  theorem {100:7} {second.mean():6.2f} {second.var():10.2f}")

# %% tags=["held", "nbval-check-output"]
worst = max(moments[100, 1][0], moments[1000, 1][0])
print("one repeat: mean too small by a quarter or more:", worst < 0.9)
print("100 steps, twenty repeats: mean within 0.1:", abs(moments[100, 20][0] - 1.2) < 0.1)
print("but a variance that is too small:", moments[100, 20][1] < 0.33)
print("500 steps: variance within 0.06:", abs(moments[500, 20][1] - 0.36) < 0.06)
print("by the theorem: mean within 0.06:", bool((second.mean() - 1.2).abs() < 0.06))
print("and variance within 0.06:", bool((second.var() - 0.36).abs() < 0.06))

# %% [markdown]
# Replacement is wrong even with an exact denoiser and a thousand steps. At time $t$ its denoiser is given the first number *with noise*, where the theorem uses the clean value. Repeats correct the mean and multiply the calls. In a hundred steps they leave a variance that is too low; five hundred steps with twenty repeats are nearly right, after ten thousand calls where the theorem takes a hundred.
#
# **Digits.** From here on the network gets no label. The upper half of one test digit is observed. The first row of completions uses the theorem, the others replacement. The observed pixels have no noise here. The theorem is given $\sigma_y = 0.02$ all the same: some pixels never vary, and without any noise the matrix of {eq}`eq-posterior-denoiser` has no inverse.

# %%
_ = torch.manual_seed(0)
observed_only = torch.where(upper, given, torch.zeros(())).expand(8, -1, -1, -1)
known, starts = given.expand(8, -1, -1, -1), torch.randn(8, 1, 28, 28)
y_half = known.flatten(1) @ rows_of_I.T
half_hat = posterior_denoiser(denoiser, digit_schedule, rows_of_I, y_half, 0.02, cov)
times_25 = digit_schedule.evenly(25)
filled = {"theorem": end(ddpm_sample(half_hat, times_25, starts))}
for repeats in (1, 4):
    film = inpaint_sample(denoiser, times_25, starts, known, upper, repeats)
    filled[f"replaced, {repeats}"] = end(film)

# %% tags=["figure"] mystnb={"image": {"alt": "Four rows of eight images. First row: the upper half of one digit, gray below. Then three rows of completed digits with that upper half and different lower halves. By the theorem most are nines; by replacement, some are not digits, since the halves do not fit."}, "figure": {"caption": "One upper half, and completions: by the theorem, and by replacement with one and four repeats. By replacement some halves do not fit.", "name": "fig-completions"}}
rows = {"observed": to_unit(observed_only)} | {k: to_unit(x) for k, x in filled.items()}
plots.image_rows(rows, tile=0.8)

# %% [markdown]
# All rows of {numref}`fig-completions` have the given upper half: replacement copies its pixels bit for bit, and the theorem keeps them within its noise.

# %% tags=["held", "nbval-check-output", "mnist"]
for name in ("replaced, 1", "replaced, 4"):
    same = torch.equal(filled[name][:, upper], known[:, upper])
    print(f"{name}: observed pixels exactly:", same)
off = (filled["theorem"] - known)[:, upper].square().mean().sqrt()
print("theorem: observed pixels within the 0.02 that it was given:", bool(off < 0.02))

# %% [markdown]
# The lower half shows why one wants *samples*. The upper half does not determine it, and the mean of all answers would be a blur. Samples show the uncertainty pixel by pixel:

# %% tags=["figure"] mystnb={"image": {"alt": "Three images. The mean of eight completions: sharp above, blurred below. Their standard deviation: nearly black above, bright below where the strokes of the completions differ. One completion: a sharp digit."}, "figure": {"caption": "Mean and standard deviation of the eight completions by the theorem, and one of them.", "name": "fig-completion-spread"}}
completions = to_unit(filled["theorem"])
deviation = completions.std(0)
deviation = deviation / deviation.max().clamp(min=1e-6)
three_views = torch.stack([completions.mean(0), deviation, completions[0]])
plots.image_grid(three_views, titles=["mean", "deviation", "one of them"], tile=1.3)

# %% [markdown]
# The standard deviation in {numref}`fig-completion-spread` is a rough map of the uncertainty about the lower half, made from eight samples without any further training.

# %% tags=["held", "nbval-check-output", "mnist"]
left_open = completions.var(0)
above, below = left_open[upper].sum(), left_open[~upper].sum()
print("variance above is below a hundredth of that below:", bool(above < 0.01 * below))

# %% [markdown]
# **In color.** Only another network can say whether a completed digit is a digit. A completed house can be measured: the factors of the nearest render ({ref}`chapter 11 <sec-color-samples>`) can be compared with the true ones. Of two houses the left half is observed, and each is completed four times. (The theorem would need the eigenvectors of a covariance of $3072 \times 3072$ entries, so only replacement is tried.)

# %%
_ = torch.manual_seed(0)
color, (images, causes, names) = pretrained("ddpm-scenes"), data.scenes(12, seed=1)
two = torch.tensor([8, 11]).repeat_interleave(4)
whole, starts = to_symmetric(images[two]), torch.randn(8, 3, 32, 32)
left_half = (torch.arange(32) < 16).expand(3, 32, 32)
houses, renders, distance = {}, {}, {}
for repeats in (1, 4):
    times = color.schedule.evenly(25)
    film = inpaint_sample(color.denoiser, times, starts, whole, left_half, repeats)
    name = f"replaced, {repeats}"
    houses[name] = to_unit(end(film))
    found, distance[name] = data.nearest_scenes(houses[name])
    renders[name] = data.render_scenes(found)

# %% tags=["figure"] mystnb={"image": {"alt": "Five rows of eight images: two houses, four times each. Observed: the left half of each, gray on the right. True: a yellow house with its shadow on the left, and a teal house. Completed with one repeat: the right halves hardly fit. With four repeats: whole houses; two of the teal ones have a wall that changes its brightness in the middle. Nearest renders: nearly the same as the row above."}, "figure": {"caption": "Two houses of which the left half is observed, with four completions each: by replacement with one and four repeats, and the nearest renders of the latter.", "name": "fig-completed-houses"}}
rows = {"observed": torch.where(left_half, images[two], 0.5), "true": images[two]}
plots.image_rows(rows | houses | {"nearest render": renders[name]}, tile=0.8)

# %% [markdown]
# With four repeats most halves of {numref}`fig-completed-houses` fit, and most completions are nearly renders. The factors of these renders say what half an image leaves open. By how much of its range is each factor off, as a root mean square over the four completions?

# %% tags=["numbers"]
for how, d in distance.items():
    print(f"{how}: squared distance from the nearest render, median {d.median():.1f}")
low, high = torch.tensor(list(data.SCENE_FACTORS.values())).T
off = ((found - causes[two]) / (high - low)).view(2, 4, 5).square().mean(1).sqrt()
for house, row in zip(("yellow", "teal"), off, strict=True):
    cells = (f"{name} {value:.1%}" for name, value in zip(names, row, strict=True))
    print(f"{house:6}", ", ".join(cells))

# %% tags=["held", "nbval-check-output"]
less = distance["replaced, 4"].median() < 0.6 * distance["replaced, 1"].median()
print("four repeats: much closer to a render:", bool(less))
print("every hue within 5 percent of its range:", bool(off[:, 4].max() < 0.05))
print("the light of the teal house is known least:", bool(off[1].argmax() == 2))

# %% [markdown]
# The left half of the yellow house shows its shadow and both walls, and its completions agree with the truth in all five factors. That of the teal house shows no shadow, and of the darker wall only a strip, which two of its four completions continue in a brighter color: their light is off.

# %% [markdown]
# (sec-restoration)=
# ### Few pixels, coarse pixels, blur
#
# Three other measurements use the same function and the same network. Only the matrix $A$ changes: its columns are what the measurement makes of the 784 images with a single bright pixel. Each of 24 test digits is measured with noise of standard deviation 0.05.


# %%
def matrix_of(function):
    """The matrix of a linear function of images: its values at the unit images."""
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
originals, sigma_y = to_symmetric(test.images[20:44]), 0.05
mean_digit = 2 * train.images[:10_000].flatten(1).mean(0) - 1

# %% [markdown]
# For comparison we take a *Gaussian* prior: $\mathbb{E}[x \mid y]$ from {eq}`eq-normal-posterior` with the mean and the covariance of the digits, which is the best linear estimate. The diffusion prior is sampled with injected noise, which is better here than DDIM, as the experiment below found. We draw four samples for each measurement.

# %%
measured, restored, average, linear = {}, {}, {}, {}
for name, A in measures.items():
    y = originals.flatten(1) @ A.T
    measured[name] = y = y + sigma_y * torch.randn_like(y)
    cov_of_y = A @ cov @ A.T + sigma_y**2 * torch.eye(len(A))
    weight = torch.linalg.solve(cov_of_y.double(), (A @ cov).double()).float()
    linear[name] = (mean_digit + (y - mean_digit @ A.T) @ weight).view_as(originals)
    hat = posterior_denoiser(denoiser, digit_schedule, A, y.repeat(4, 1), sigma_y, cov)
    film = ddpm_sample(hat, times_25, torch.randn_like(originals.repeat(4, 1, 1, 1)))
    draws = end(film).unflatten(0, (4, -1))
    restored[name], average[name] = draws, draws.mean(0)

# %% tags=["figure"] mystnb={"image": {"alt": "Ten rows of six images. The true digits on top. Then three times three rows: the measurement, a blurred reconstruction by the Gaussian prior, and a sharp one by the diffusion prior, for scattered pixels, a coarse grid, and a blur. Most of the sharp ones are digits; for the coarse grid some are broken."}, "figure": {"caption": "Three measurements of six of the digits, and what two priors make of them. The Gaussian prior gives blurs, the diffusion prior strokes, not always the right ones.", "name": "fig-restored"}}
shown, six = {"truth": to_unit(originals[:6])}, {k: y[:6] for k, y in measured.items()}
views = {"7 x 7": F.interpolate(six["7 x 7"].view(6, 1, 7, 7), scale_factor=4)}
views["blurred"] = six["blurred"].view(6, 1, 28, 28)
views["1 in 5"] = torch.zeros(6, 784).index_copy(1, some, six["1 in 5"])
for name in measures:
    shown[name] = to_unit(views[name].view(6, 1, 28, 28))
    shown[f"{name}, Gaussian"] = to_unit(linear[name][:6])
    shown[f"{name}, diffusion"] = to_unit(restored[name][0, :6])
plots.image_rows(shown, tile=0.55)

# %% [markdown]
# The Gaussian prior of {numref}`fig-restored` says which pixels vary together, but not that digits are made of strokes. How good are the restored digits? First, do they agree with the measurement? Given $y$, the truth and a draw from $p(x \mid y)$ have the same distribution, so the *residual* $y - A x$ of such a draw has that of the noise, with the standard deviation 0.05. Second, how far are they from the truth? The squared errors of the two priors are compared digit by digit.

# %% tags=["numbers"]
print("           residual  squared error: Gaussian, a draw, mean of 4    ratio     not recognized")
residual, ratio = {}, {}
for name, A in measures.items():
    missed = measured[name] - restored[name].flatten(2) @ A.T
    residual[name] = missed.square().mean().sqrt().item()
    g, one, mean = (
        (to_unit(x) - to_unit(originals)).square().flatten(1).mean(1)
        for x in (linear[name], restored[name][0], average[name])
    )
    ratio[name] = jackknife(
        lambda e: (e[:, 1].mean() / e[:, 0].mean()).item(), torch.stack([g, mean], 1)
    )
    no_digit = unrecognized(to_unit(restored[name]).flatten(0, 1))
    print(f"{name:9} {residual[name]:9.3f} {g.mean():22.4f} {one.mean():7.4f}", end="")
    print(
        f" {mean.mean():8.4f} {ratio[name].value:9.2f} +- {ratio[name].standard_error:.2f}", end=""
    )
    print(f" {no_digit.value:5.0%} +- {no_digit.standard_error:.0%}")
    assert residual[name] < 0.1 or test.name != "mnist"

# %% tags=["held", "nbval-check-output", "mnist"]
print("residuals below twice the noise:", max(residual.values()) < 0.1)
print("and above half of it:", min(residual.values()) > 0.025)
for name, (value, error) in ratio.items():
    print(f"{name}: mean of four closer than the Gaussian's, by two errors:", value + 2 * error < 1)

# %% [markdown]
# The squared error is smallest for the posterior mean, so like is compared with like only if the draws of the diffusion prior are averaged, too. (A single exact draw has *twice* the error of the posterior mean: one half because the truth varies around that mean, the other because the draw does. The mean of four has 5/4 of it.) By this measure the diffusion is the better prior for all three measurements, and for the blur even a single draw is closer to the truth than the best linear estimate. The coarse grid leaves most open: most draws that show no digit are among its. Residuals of the right size are necessary for exact samples, but not sufficient, and those of the first two rows are off. Where a measurement leaves a doubt, the sharp detail is one of many possible answers, however convincing it looks.
#
# Averaged over eight draws, and over three seeds of digits and noise ({ref}`experiment <exp-restoration>`), the diffusion has 0.60 ± 0.01 of the error of the Gaussian prior for one pixel in five, 0.61 ± 0.01 for the coarse grid and 0.34 ± 0.02 for the blur; a single draw has 1.13 ± 0.03, 1.24 ± 0.03 and 0.63 ± 0.01. Means of ever more draws would tend to 0.52, 0.52 and 0.30, and by DDIM to 0.64, 0.67 and 0.36. Four times the steps move the residual of one pixel in five from 0.040 to 0.048, nearly that of the truth, and that of the coarse grid from 0.071 to 0.074, farther off.
#
# **What you can say now.** A linear measurement enters by {eq}`eq-posterior-denoiser`, which is exact for Gaussian data and an approximation for digits. The residual can always be checked.
#
# *Sources: B03, E07.*

# %% [markdown]
# (sec-latent-diffusion)=
# ## Diffusion in a latent space
#
# The U-Net of this chapter computes with each pixel at each step. *Latent diffusion* {cite:p}`rombach2022,vahdat2021` divides the work: a VAE encodes the images, and a diffusion model learns the distribution of the codes. To sample, draw a code and decode it once. This joins the first model of this book with the last.
#
# **The bound.** The VAE has $q(z \mid x)$ and $p(x \mid z)$ as in chapter 3. Only its prior is new: $p(z)$ is now the distribution that a diffusion model draws, with noisy codes $\tilde{z}_1, \dots, \tilde{z}_T$ above $z$. Together they are one more chain of latents, $x \leftarrow z \leftarrow \tilde{z}_1 \leftarrow \dots \leftarrow \tilde{z}_T$. Since $\log p(z)$ is not known, the bound of the diffusion, $\mathrm{ELBO}_{\mathrm{d}}(z) \le \log p(z)$, takes its place:
#
# $$
# \begin{aligned}
# \log p(x) = {} & \mathbb{E}_{q(z \mid x)} \big[ \log p(x \mid z) - \log q(z \mid x) + \mathrm{ELBO}_{\mathrm{d}}(z) \big] \\
# & + \mathrm{KL}\big( q(z \mid x) \,\big\|\, p(z \mid x) \big) + \mathbb{E}_{q(z \mid x)} \big[ \log p(z) - \mathrm{ELBO}_{\mathrm{d}}(z) \big] .
# \end{aligned}
# $$ (eq-latent-bound)
#
# Neither term of the second line is negative, so the first line is a lower bound. It is tight if $q(z \mid x)$ is the posterior and the bound of the diffusion is tight.
#
# :::{dropdown} Proof
# The gap of the bound of chapter 3 is $\mathrm{KL}(q(z \mid x) \| p(z \mid x))$. Add and subtract $\mathrm{ELBO}_{\mathrm{d}}(z)$, which is at most $\log p(z)$ by chapter 9. $\square$
# :::
#
# **Check.** If all is Gaussian, every term is known. Let $z \sim \mathcal{N}(0, 0.05)$ and $x \mid z \sim \mathcal{N}(z, 0.02)$, and give the diffusion the exact denoiser and the best variances {eq}`eq-optimal-variance`, so that its bound is tight. For $q$ take the true posterior, one with the wrong mean, and one that is twice as wide. The mean of $\log p(x)$ minus the first line, over 25,000 pairs, is compared with the KL divergence in closed form. The check rejects no gap at all, the prior $\mathcal{N}(0, 1)$ in place of the diffusion, and the KL divergence in the other direction.

# %% tags=["serves"]
_ = torch.manual_seed(0)
lam, n = 0.05, 25_000
V = s.alpha_bar * lam + s.noise_var
best = torch.cat([V[:1] * 0, s.beta[1:] * V[:-1] / V[1:]])
code_hat = gaussian_denoiser(s, torch.zeros(1).double(), torch.tensor([[lam]]).double())
code_model = Ddpm(code_hat, s, (1,), best).double()
x = 0.07**0.5 * torch.randn(n, 1).double()  # the variance is 0.05 + 0.02
posterior = Normal(lam / 0.07 * x, torch.tensor(lam * 0.02 / 0.07).double() ** 0.5)
choices = {
    "the posterior": posterior,
    "wrong mean": Normal(x, posterior.scale),
    "twice as wide": Normal(posterior.mean, 2 * posterior.scale),
}

# %% tags=["serves"]
log_p = Normal(0.0, 0.07**0.5).log_prob(x)[:, 0]
deficits, kl, reverse, plain = [], [], [], []
for q in choices.values():
    z = q.sample()
    rest = Normal(z, 0.02**0.5).log_prob(x)[:, 0] - q.log_prob(z)[:, 0]
    deficits += [log_p - rest - elbo_terms(code_model, z).elbo]
    plain += [(log_p - rest - Normal(0.0, 1.0).log_prob(z)[:, 0]).mean()]
    kl += [kl_divergence(q, posterior)[:, 0]]
    reverse += [kl_divergence(posterior, q).mean()]

# %% tags=["check", "nbval-check-output"]
left, kl = torch.stack(deficits, 1), torch.stack(kl, 1)
wrong = {"no gap": 0 * kl.mean(0), "prior N(0, 1)": torch.stack(plain)}
wrong["the KL reversed"] = torch.stack(reverse)
less_noisy = left - kl + kl.mean(0)  # both vary with x
verify("eq-latent-bound", less_noisy, kl.mean(0), monte_carlo, rejects=wrong)

# %% [markdown]
# **What does the new prior gain?** For a given VAE, the bound rises by the mean of $\mathrm{ELBO}_{\mathrm{d}}(z) - \log \mathcal{N}(z; 0, I)$ over the codes. Our VAE is that of chapter 7 with 16 latents. It was trained *with* the prior $\mathcal{N}(0, I)$, and the moments of its codes are near those of that prior.

# %% tags=["numbers"]
_ = torch.manual_seed(0)
z = codes(test.images[:2000])
low, high = z.mean(0).aminmax()
print(f"means of the codes between {low:.2f} and {high:.2f}", end=", ")
low, high = z.std(0).aminmax()
print(f"standard deviations between {low:.2f} and {high:.2f}")
q = vae.posterior(data.binarize(test.images[:2000]))
rate = kl_divergence(q, vae.prior(len(z))).mean()
print(f"KL divergence of q(z | x) from N(0, I): {rate:.1f} nats a digit")

# %% [markdown]
# To measure the gain, we compare two chains. For data $\mathcal{N}(0, I)$, and with $\sigma_t^2 = \beta_t$, the bound of a diffusion has no gap at any length. So $\log \mathcal{N}(z; 0, I)$ is itself the bound of a chain, with the exact denoiser of $\mathcal{N}(0, I)$. We subtract the terms of the two chains one by one, with the same noise; all but the difference of the two denoisers cancels.

# %% tags=["numbers"]
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
# The gain is small beside the KL divergence that it reduces, as if the prior had been nearly right. The samples show that it was not. In the first two rows the decoder is the same; the codes of the first are draws from $\mathcal{N}(0, I)$, those of the second are drawn by the diffusion. The third row is a diffusion of pixels.

# %% tags=["serves"]
_ = torch.manual_seed(0)
by_pixels, _ = load_record("ddpm-mnist-joint-samples")
drawn_codes = end(ddpm_sample(latent.denoiser, latent.schedule.evenly(100), torch.randn(2000, 16)))
decoded = {
    "plain VAE": vae.likelihood(torch.randn(2000, 16)).mean,
    "latent diffusion": vae.likelihood(drawn_codes).mean,
    "pixel diffusion": by_pixels["samples"] / 255,
}

# %% tags=["figure"] mystnb={"image": {"alt": "Three rows of ten digits. First row, codes from the standard Gaussian: several smeared shapes that are not digits. Second row, codes from the diffusion: smooth digits, most of them clear. Third row, diffusion of pixels: digits with sharper edges, some of them malformed."}, "figure": {"caption": "Decoded draws from $\\mathcal{N}(0, I)$, decoded draws of the latent diffusion, and a diffusion of pixels. Several shapes of the first row are not digits.", "name": "fig-latent-samples"}}
plots.image_rows({name: x[:10] for name, x in decoded.items()}, tile=0.7)

# %% [markdown]
# How far are these draws from the training digits, and how many are not recognized as digits ({ref}`chapter 10 <sec-ddpm-samples>`)? For comparison: random test digits, and their *reconstructions* by the same decoder.

# %% tags=["numbers"]
some_digits = test.images[torch.randperm(len(test.images))[:2000]]
decoded["reconstructions"] = vae.likelihood(codes(some_digits)).mean
decoded["test digits"] = some_digits
distance = {name: digit_distance(x) for name, x in decoded.items()}
not_recognized = {}
print("                    number     distance    not recognized")
for name, (value, error) in distance.items():
    share, its_error, _ = not_recognized[name] = unrecognized(decoded[name][:1000])
    print(f"{name:18} {len(decoded[name]):7} {value:8.1f} +- {error:.1f}", end="")
    print(f"{share:10.1%} +- {its_error:.1%}")
near = distance["latent diffusion"]
assert near.value < 0.5 * distance["plain VAE"].value or test.name != "mnist"

# %% tags=["held", "nbval-check-output", "mnist"]
print("the learned prior gains between 1 and 4 nats:", 1 < gain < 4)
print("which is less than a fifth of the KL divergence:", gain < 0.2 * rate.item())
fall = near.value + 2 * near.standard_error
print("yet the distance falls to less than a fifth:", fall < 0.2 * distance["plain VAE"].value)
order = ("latent diffusion", "pixel diffusion", "plain VAE")
for fewer, more in pairwise(order):
    clear = not_recognized[fewer].below(not_recognized[more])
    print(f"{fewer}: fewer not recognized than of {more}, say both judges: {clear}")

# %% [markdown]
# How can so few nats matter so much? A KL divergence is a logarithm. Suppose the codes were draws from $\mathcal{N}(0, I)$ of which all outside some region are discarded. If the region has the probability $p$, the KL divergence of the codes from $\mathcal{N}(0, I)$ is $- \log p$. Two nats would mean $p = 0.14$: six draws out of seven would fall outside the region. Real codes have no such sharp border, since $q(z \mid x)$ is Gaussian. Still, several images in the first row of {numref}`fig-latent-samples` are not digits.
#
# Both measures say the same of this VAE: a quarter of the draws from $\mathcal{N}(0, I)$ decode to no digit, and of those of the latent diffusion hardly any, as of the reconstructions. They are even more often digits than those of our pixel diffusion. But no latent model can draw what its decoder cannot.
#
# **The cost.** How many multiplications does one call of each network take, for one image?


# %%
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
# A step in the latent space costs less than a hundredth of one among the pixels. (The VAE had to be trained first.)
#
# **At full size** two things are different {cite:p}`rombach2022`. The code is a small image, for instance with an eighth of the side, so that a U-Net can process it. And the VAE is trained with hardly any weight on the KL term: it is nearly an {term}`autoencoder`, and its codes are *far* from $\mathcal{N}(0, I)$. {cite:t}`vahdat2021` instead train both parts together, by a bound like {eq}`eq-latent-bound`.
#
# **What you can say now.** A diffusion model can be the prior of a VAE, and their bounds add up. For the VAE of this chapter, a prior that is better by two nats is the difference between a quarter of the samples that show no digit and hardly any.
#
# *Sources: E08.*

# %% [markdown]
# (sec-noise-editing)=
# ## Editing
#
# {ref}`Chapter 7 <sec-editing>` edited images by changing their codes. In a diffusion model every $x_t$ is a code, and there are two ways to use it. *Add noise, and sample down again* {cite:p}`meng2022`, here with another label: what the noise has hidden is drawn anew, the rest is kept. Or *invert* with the digit's own label ({ref}`chapter 11 <sec-inversion>`), and sample down with another: then nothing is random. Thirty test digits get the class after their own, and nines become zeros.

# %% tags=["serves"]
_ = torch.manual_seed(0)
source, own = to_symmetric(test.images[:30]), test.labels[:30]
target = (own + 1) % 10
to_target, edits = guided(denoiser, target, 3.0), {}
for t in (550, 800, 950):
    x_t = add_noise(digit_schedule, source, t, torch.randn_like(source))
    rest = digit_schedule.strided(range(1, t + 1)).evenly(10)
    edits[f"t = {t}"] = end(dpm_solver_sample(to_target, rest, x_t))
twelve = digit_schedule.evenly(12)
inverted = ddim_invert(lambda x_t, t: denoiser(x_t, t, own), twelve, source)
edits["inverted"] = end(ddim_sample(to_target, twelve, end(inverted)))

# %% tags=["figure"] mystnb={"image": {"alt": "Five rows of six digits. The originals; then edits through noise at times 550, 800 and 950, which look less and less like the originals; and the edits by inversion, which stay close to them."}, "figure": {"caption": "Six of the digits, edited to another class: through noise of three levels, and by inversion. More noise gives the class more surely and keeps less of the original.", "name": "fig-editing"}}
rows = {"originals": to_unit(source[:6])}
rows |= {name: to_unit(x[:6]) for name, x in edits.items()}
plots.image_rows(rows, titles=[f"to {k}" for k in target[:6].tolist()], tile=0.75)

# %% [markdown]
# In {numref}`fig-editing` the level of noise sets how much changes. Little noise keeps the digit and its class; much noise gives the class, and another digit. In between, slant and stroke may survive. Inversion keeps a lot, sometimes the old class as well. For each row we count how many of the thirty the classifier takes for the target, with Wilson's 95 percent interval in parentheses {cite:p}`wilson1927`, and measure the mean squared change of the pixels.

# %% tags=["numbers"]
changes, as_asked = {}, {}
for name, x in edits.items():
    as_asked[name] = proportion(classifier(to_unit(x)).argmax(1) == target)
    changes[name] = (to_unit(x) - to_unit(source)).square().mean().item()
    share, _, low, high = as_asked[name]
    print(
        f"{name:10} changed by {changes[name]:.3f}, {share:.0%} ({low:.0%} to {high:.0%}) as asked"
    )
assert changes["t = 550"] < changes["t = 950"] or test.name != "mnist"

# %% tags=["held", "nbval-check-output", "mnist"]
print("more noise, more change:", changes["t = 550"] < changes["t = 950"])
print("and more often the class:", as_asked["t = 550"].value < as_asked["t = 950"].value)
print("inversion: less change than t = 950:", changes["inverted"] < changes["t = 950"])

# %% [markdown]
# **What you can say now.** To edit, add noise up to some time and sample down with another condition; the time sets how much of the original survives.
#
# *Sources: B03.*

# %% [markdown]
# (sec-priors-wrong)=
# ## What goes wrong
#
# **Too much guidance.** At scale 15 samples have pixels far outside of $[-1, 1]$. A cheap repair clips the output of the guided denoiser in every step. {cite:t}`saharia2022` found that clipping is not enough for large scales, and adapt the threshold to each image.

# %% tags=["figure"] mystnb={"image": {"alt": "Three rows of eight digits of the classes zero to seven. At scale three: clean digits. At scale fifteen: the strokes are very thick. At scale fifteen, clipped: about as thick, and one digit has another shape."}, "figure": {"caption": "Scale 3, scale 15, and scale 15 with a denoiser whose output is clipped. Clipping does not make the strokes normal again.", "name": "fig-too-much"}}
_ = torch.manual_seed(3)
eight, starts = torch.arange(8), torch.randn(8, 1, 28, 28)
strong = guided(denoiser, eight, 15.0)
too_much = {
    "scale 3": guided(denoiser, eight, 3.0),
    "scale 15": strong,
    "15, clipped": lambda x_t, t: strong(x_t, t).clamp(-1, 1),
}
ended = {n: end(ddim_sample(hat, twelve, starts)) for n, hat in too_much.items()}
plots.image_rows({name: to_unit(x) for name, x in ended.items()}, tile=0.8)

# %% [markdown]
# How many pixels in {numref}`fig-too-much` are out of range? (With clipping there are none, since the last step returns the output of the denoiser.)

# %%
outside = {}
for name, x in ended.items():
    outside[name] = (x.abs() > 1.1).double().mean().item()
    print(f"{name:12} {outside[name]:.1%} of the pixels outside of [-1.1, 1.1]")
assert outside["15, clipped"] == 0

# %% tags=["held", "nbval-check-output", "mnist"]
print("scale 3: less than one percent of the pixels:", outside["scale 3"] < 0.01)
print("scale 15: more than five percent:", outside["scale 15"] > 0.05)

# %% [markdown]
# Clipping repairs the range, but not the thickness of the strokes.
#
# **A wrong noise level.** The measurement has noise of standard deviation 0.3, but the denoiser is given 0.03. Then it has to explain the noise as a part of the image. Here the whole image is measured, $A = I$, and the task is to remove the noise:

# %%
_ = torch.manual_seed(0)
clean_six = originals[:6]
noisy = clean_six + 0.3 * torch.randn_like(clean_six)
cleaned = {}
for assumed in (0.3, 0.03):
    whole = torch.eye(784), noisy.flatten(1), assumed, cov
    hat = posterior_denoiser(denoiser, digit_schedule, *whole)
    film = ddpm_sample(hat, digit_schedule.evenly(15), torch.randn(6, 1, 28, 28))
    cleaned[f"given {assumed}"] = end(film)

# %% tags=["figure"] mystnb={"image": {"alt": "Three rows of six digits. Measured: digits with visible noise. Given 0.3: clean digits. Given 0.03: the noise of the measurement is still there, but for the borders."}, "figure": {"caption": "Noisy digits, restored with the right noise level and with one ten times too small, which keeps the noise.", "name": "fig-wrong-noise"}}
rows = {"measured": to_unit(noisy)} | {n: to_unit(x) for n, x in cleaned.items()}
plots.image_rows(rows, tile=0.75)

# %% [markdown]
# The residual reveals the mistake even when the truth of {numref}`fig-wrong-noise` is not known: it should have the size of the noise. If it is much smaller, noise was taken for image. (It is not ten times smaller here: pixels that are black in nearly all digits have next to no variance in `cov`, and {eq}`eq-posterior-denoiser` corrects nothing where $C_t$ is zero.)

# %%
size = {name: (x - noisy).square().mean().sqrt() for name, x in cleaned.items()}
missed = {n: (x - clean_six).square().mean().sqrt() for n, x in cleaned.items()}
for name in cleaned:
    print(f"{name:10} residual {size[name]:.2f}, off the truth by {missed[name]:.2f}")

# %% tags=["held", "nbval-check-output", "mnist"]
print("given 0.3: residual between 0.24 and 0.36:", bool(0.24 < size["given 0.3"] < 0.36))
print("given 0.03: residual below 0.2:", bool(size["given 0.03"] < 0.2))
worse = missed["given 0.03"] > 1.5 * missed["given 0.3"]
print("and farther from the truth by half:", bool(worse))

# %% [markdown]
# **Too few repeats** in replacement are a third mistake, with numbers {ref}`above <sec-inpainting>`. None of the three raises an error. They show only in measurements: pixels out of range, a residual of the wrong size, moments that can be computed.

# %% [markdown]
# (sec-text-to-image)=
# ## From here to text-to-image
#
# The best known diffusion models draw a photograph or a painting from a sentence. How far is that from our digits? The chain, the bound, the loss, the samplers, guidance and the latent space are the same. These parts are added:
#
# - **The condition is a text.** A language model turns it into a list of vectors, which enters the U-Net by cross-attention (below). Training drops the text now and then, as ours drops the label. {cite:t}`saharia2022` found that a large frozen language model helps more than a larger U-Net; {cite:t}`ramesh2022` condition on an embedding that images and texts share.
# - **Size.** {cite:t}`rombach2022` draw from text by latent diffusion with 1.45 billion parameters, trained on captioned images from the web. Our network has 1.9 million.
# - **The autoencoder** is trained with further losses, so that decoded images are sharp. Alternatively, a small image is drawn first and enlarged by further diffusions {cite:p}`saharia2022`.
# - **The network.** Transformers have taken the place of the U-Net in many models {cite:p}`peebles2023`.
# - **Fewer steps.** A second network learns to do two steps of the first at once, and so on, down to four {cite:p}`salimans2022`. The two calls of guidance can be distilled into one in the same way {cite:p}`meng2023`. Consistency models aim at a single step {cite:p}`song2023`, average velocities at one of any length ({ref}`chapter 12 <sec-one-step>`).
#
# **Cross-attention** is {eq}`def-self-attention` between two lists. The queries $q_i$ are made from the places of a feature map, the keys $k_j$ and values $v_j$ from the vectors of the words. So each place receives a mean of the words' values, with weights of its own. There may be any number of words. Their order is lost in the sum, so a vector for the position is added to that of each word. With six places and three words:


# %%
def cross_attention(q, k, v):
    """For each query the mean of the values, weighted by how well their keys fit it."""
    return (q @ k.mT / k.shape[-1] ** 0.5).softmax(-1) @ v


_ = torch.manual_seed(0)
q, (k, v) = torch.randn(6, 8).double(), torch.randn(2, 3, 8).double()
to_places = cross_attention(q, k, v)
reordered = cross_attention(q, k[[2, 0, 1]], v[[2, 0, 1]])
one_word = cross_attention(q, k[:1], v[:1])

# %% tags=["held", "nbval-check-output"]
in_torch = F.scaled_dot_product_attention(q, k, v)
print("the same as in torch:", torch.allclose(to_places, in_torch))
print("another order of the words changes nothing:", torch.allclose(to_places, reordered))
print(
    "with a single word all places receive the same value:",
    torch.allclose(one_word, v[:1].expand(6, 8)),
)

# %% [markdown]
# For a few numbers as condition a vector added to that of the time is enough, as for our labels. The network `ddpm-scenes` is given the five causes of a color scene in this way ({ref}`chapter 11 <sec-color-samples>`).
#
# **As a prior for something else.** DreamFusion makes three-dimensional objects with a diffusion model of images {cite:p}`poole2023`. A renderer shows the object from a random side, noise is added to that view, and the guided prediction of the noise is compared with it. The difference says how the view should change to fit the text better: it is the gradient of the bound's terms by the image, with the derivative of the network left out. The object is optimized until all its views fit. The diffusion model is a prior here, but nothing is sampled. (Their guidance is strong: $w = 100$, counted as by {cite:t}`ho2022`.)
#
# **Not only images.** The chain needs only vectors and noise, so there are diffusion models of sound {cite:p}`kong2021`, of video {cite:p}`ho2022video`, and of molecules {cite:p}`hoogeboom2022`.
#
# **What this book did not show**: any of that at full size; how to choose data, and what they do to the people in them; whether a model repeats its training images; and how to tell which of two models is better other than by a number that a network computes. Small models were chosen so that every formula could be checked.
#
# **What you can say now.** A text-to-image model is the chain of this book with a text encoder, cross-attention, a latent space and guidance.
#
# *Sources: B03.*

# %% [markdown]
# (sec-priors-exercises)=
# ## Exercises
#
# Replace the three dots by your answer and run the cell.

# %% [markdown]
# ```{exercise-start} The classifier inside
# :label: ex-implicit-classifier
# ```
# A perfect network predicts the noise: `conditional` with the label, `unconditional` without. `alpha_bar` is $\bar\alpha_t$. Write $\nabla \log q(y \mid x_t)$.


# %% tags=["answer", "nbval-check-output"]
def classifier_gradient(conditional, unconditional, alpha_bar):
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
# The score is minus the noise over $\sqrt{1 - \bar\alpha_t}$ {eq}`eq-noise-is-score`, and the two scores differ by the gradient {eq}`eq-bayes-score`.


# %% tags=["nbval-check-output"]
def classifier_gradient(conditional, unconditional, alpha_bar):
    return (unconditional - conditional) / (1 - alpha_bar) ** 0.5


exercises.check_classifier_gradient(classifier_gradient)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Not this one
# :label: ex-negative
# ```
# We want an image of class $y$ that does *not* look like class $n$. So let $n$ take the place of "any class": the guided score shall be that of $y$, plus $\kappa - 1$ times the difference of the scores of $y$ and of $n$. Write the denoiser from `x_y` and `x_n`, the estimates with the two labels.


# %% tags=["answer", "nbval-check-output"]
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
# The data are $\mathcal{N}(0, 1)$, and those of a class are Gaussian with the variance 0.5. At which scale does DDIM, with many steps, draw samples whose variance is a tenth of that of the class? Give three digits.

# %% tags=["answer", "nbval-check-output"]
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
exercises.check_scale(math.log(0.05) / math.log(0.5))

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} One pixel tells the others
# :label: ex-one-pixel
# ```
# Given $x_t$, the pixels have the means `x_hat` (a vector) and the covariance matrix `C`. Pixel number `i` is then measured: the value is `y`, with noise of variance `var`. Write the new means of all pixels, without inverting a matrix.


# %% tags=["answer", "nbval-check-output"]
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
# The codes of some VAE are distributed as draws from $\mathcal{N}(0, I)$ of which all outside of a region are discarded. A learned prior that knows the region gains `nats` nats per code over $\mathcal{N}(0, I)$. Which share of the draws from $\mathcal{N}(0, I)$ misses the region?


# %% tags=["answer", "nbval-check-output"]
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
# - A network that gets the label for a part of the examples contains a classifier's gradient {eq}`eq-guided-score`. Guidance exaggerates it, in any parametrization {eq}`eq-guided-languages`.
# - Above scale 1 the samples do not follow $p(x \mid y)$. For Gaussian data DDIM and DDPM draw from two different distributions {eq}`eq-guided-variance`, and neither is the tilted one {eq}`eq-tilted-variance`.
# - For a linear measurement of Gaussian data the denoiser is known in closed form {eq}`eq-posterior-denoiser`, and samples follow the posterior {eq}`eq-normal-posterior`. For other data it is an approximation, and residuals must be checked. Treating the estimate as the image ignores its uncertainty. Replacement keeps observed pixels exactly; without many repeats the others do not follow the posterior, even with an exact denoiser.
# - A VAE whose prior is a diffusion has one bound {eq}`eq-latent-bound`. For our VAE, a prior better by two nats draws digits where $\mathcal{N}(0, I)$ often draws none.
#
# **What the sources say, and where they need care.** It matters which way of in-painting is meant, since the simplest one does not draw from the conditional distribution. And a sample guided at a scale above 1 is not a draw from $p(x \mid \text{text})$.
#
# **To read next.** {cite:t}`dhariwal2021` and {cite:t}`ho2022` on guidance, {cite:t}`bradley2024` on what it samples; {cite:t}`song2023pigdm`, {cite:t}`chung2023` and {cite:t}`lugmayr2022` on measurements; {cite:t}`rombach2022` and {cite:t}`vahdat2021` on latent spaces; {cite:t}`poole2023` on the prior at work.
#
# (sec-farewell)=
# ### One bound, all the way down
#
# This is the end of the book. Its one idea was the {term}`ELBO`: explain the data, and agree with $q$ at each step. Here is what $q$ and $p$ were.
#
# | chapter | $q$: from the data up | $p$: down to the data | what the bound said |
# |---|---|---|---|
# | 1 | an encoder, no distribution yet | a decoder, no distribution yet | nothing: a reconstruction error, and no way to sample |
# | 2, 3 | any distribution of the latent | any prior and likelihood | $\log p(x)$ less a KL divergence: explain, and stay near the prior |
# | 4 | a distribution that one must learn through | the same | how its gradient passes a sample |
# | 5 | Gaussian | linear and Gaussian | all of it by hand, with its flat and its dead directions |
# | 6, 7 | Gaussian, by a network | pixels, by a network | a rate and a distortion, in nats per digit; collapse where the rate is zero |
# | 8 | several levels, shared with the decoder | several levels | one KL divergence for each level |
# | 9 | noise, and nothing learned | a thousand steps back | a thousand small KL divergences of Gaussians |
# | 10 | the same | the same, by one denoiser | a weighted regression on noise |
# | 11, 12 | any process with the same marginals | any sampler with the same denoiser | nothing new: the same loss, and its noise is the score |
# | 13 | an encoder, then noise | steps back, then a decoder, both with the condition | the sum of both bounds |
#
# The last row contains the others: the book began with an encoder, noise made the bound easy, and a condition turns a model of all images into an answer to a question. Now take the companion apart, change a sign, and see which check fails.
