# %% [markdown]
# # Diffusion priors
#
# A model that draws just any digit is of little use. One wants a seven, or a digit whose upper half is known, or the sharp image behind a blurred one. None of these needs a model of its own. Below, the first three rows come from the same weights and noise images; the fourth is drawn in a space of 16 latent dimensions.

# %% tags=["setup", "hide-input"]
# The set-up cell: `make sync` writes it.

# %% tags=["unseen"]
import math
from functools import partial
from itertools import pairwise

import torch
from torch.distributions import (
    Categorical,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    kl_divergence,
)
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from companion import data
from companion.data import to_symmetric, to_unit
from companion.ddpm import Ddpm, elbo_step
from companion.denoisers import MixtureDenoiser, gaussian_denoiser
from companion.elbo import elbo_terms
from companion.experiments import record_of
from companion.guidance import guided, posterior_denoiser
from companion.metrics import proportion
from companion.page import plots
from companion.page.exercises import diffusion_priors as exercises
from companion.page.verify import exact, monte_carlo, quadrature, variance, verify

# %% tags=["unseen"]
from companion.samplers import (
    ddim_invert,
    ddim_posterior,
    ddim_sample,
    ddpm_sample,
    dpm_solver_sample,
    inpaint_sample,
)
from companion.schedule import (
    add_noise,
    linear_schedule,
    noise_from_x_0,
    score_from_x_0,
    v_from_x_0,
)
from companion.score import exact_score, noisy_mixture
from companion.zoo import pretrained
from companion.zoo.architectures import codes, digit_encoder
from companion.zoo.weights import load_record
from companion.zoo.yardstick import (
    digit_distance,
    digit_features,
    feature_distance,
    real_digit_distance,
    unrecognized,
)

# %% tags=["serves"]
_ = torch.manual_seed(0)
train, test = data.load("mnist", "train"), data.load("mnist", "test")
digit_model, latent = pretrained("ddpm-mnist-long"), pretrained("ldm-mnist")
denoiser, digit_schedule = digit_model.denoiser, digit_model.schedule
classifier, vae = pretrained("classifier-mnist"), digit_encoder()
schedule, on_mnist = linear_schedule(1000), test.name == "mnist"


def end(film):
    """The last of what a sampler yields."""
    *_, x = film
    return x


noise_images, given = torch.randn(8, 1, 28, 28), to_symmetric(test.images[[9]])
upper = (torch.arange(784) < 392).view(1, 28, 28)
cov = torch.cov(to_symmetric(train.images[:10_000]).flatten(1).T)
rows_of_I = torch.eye(784)[upper.flatten()]
y_half = (given.flatten(1) @ rows_of_I.T).expand(8, -1)
half_hat = posterior_denoiser(denoiser, digit_schedule, rows_of_I, y_half, 0.02, cov)
requests = {
    "anything": denoiser,
    "a seven": guided(denoiser, torch.full((8,), 7), 3.0),
    "this upper half": half_hat,
}
twenty, hundred = digit_schedule.evenly(20), latent.schedule.evenly(100)

# %% tags=["figure"] mystnb={"image": {"alt": "Four rows of eight digits. First row: different digits, some of them broken. Second row: eight sevens. Third row: eight completions of one digit, all with the same upper half. Fourth row: different digits, a little smoother."}, "figure": {"caption": "Four requests. In the first three rows network and starts are the same.", "name": "fig-four-wishes"}}
rows = {name: end(ddpm_sample(hat, twenty, noise_images)) for name, hat in requests.items()}
z = end(ddpm_sample(latent.denoiser, hundred, torch.randn(8, 16)))
rows = {name: to_unit(x) for name, x in rows.items()}
plots.image_rows(rows | {"16 latents": vae.likelihood(z).mean})

# %% [markdown]
# :::{admonition} The idea
# To condition a diffusion model, condition its denoiser. Give a sampler of {ref}`chapter 11 <sec-sampling-summary>` the mean of the clean image, given the noisy one *and the condition*, and in the limit of small steps it draws from $p(x \mid \text{condition})$. That mean is the unconditional estimate plus a gradient, which needs an integral over all clean images. Methods differ in how they avoid it.
# :::

# %% [markdown]
# (sec-bayes-score)=
# ## Bayes' rule for the denoiser
#
# Why call a diffusion model a *prior*? It knows $p(x)$, what images look like, before anything is asked. A request adds $y$, what is known about the image: its class, some pixels, a blurred copy. A *likelihood* $p(y \mid x)$ says how well an image fits, and Bayes' rule joins the two, $p(x \mid y) \propto p(x)\, p(y \mid x)$. Only the likelihood changes with the request.
#
# Samplers use nothing but the denoiser $\hat{x}(x_t) = \mathbb{E}[x \mid x_t]$; with a condition they need $\mathbb{E}[x \mid x_t, y]$. Bayes' rule holds for noisy images too: $q(x_t \mid y) = q(x_t)\, q(y \mid x_t) / p(y)$. The normalizer $p(y)$, an integral over all images, does not depend on $x_t$, so the gradient of the logarithm loses it:
#
# $$
# \nabla \log q(x_t \mid y) = \nabla \log q(x_t) + \nabla \log q(y \mid x_t) .
# $$ (eq-bayes-score)
#
# So a condition enters as the gradient of a log-likelihood {cite:p}`sohldickstein2015,song2021sde`. Given $x$, let $y$ be independent of the noise of the diffusion. Then Tweedie's formula {eq}`eq-tweedie` turns both scores into denoisers:
#
# $$
# \mathbb{E}[x \mid x_t, y] = \hat{x}(x_t) + \frac{1 - \bar\alpha_t}{\sqrt{\bar\alpha_t}}\; \nabla \log q(y \mid x_t) .
# $$ (eq-conditional-denoiser)
#
# The first term, the prior, is a network trained without $y$. The second asks about noisy images: *how likely is $y$, given $x_t$?* {numref}`fig-guidance-vectors` shows both on a ring of eight Gaussians; $y$ names the components on the right and upper right.
#
# **Check.** Both equations are computed at fifty points and three times. The left sides use the two components alone, in closed form; the right sides use all eight, and the gradient of the log-probability of the class by automatic differentiation. The check rejects a classifier that was made for clean points and, for the denoiser, the factor $\sqrt{1 - \bar\alpha_t}$, which belongs to the noise.

# %% tags=["unseen"]
s = linear_schedule(100, 1e-3, 0.2)
angle = torch.arange(8).double() * torch.pi / 4
means, width = 1.25 * torch.stack([angle.cos(), angle.sin()], 1), 0.125
covs = (width**2 * torch.eye(2).double()).expand(8, 2, 2)
ring = MixtureSameFamily(Categorical(torch.ones(8).double()), MultivariateNormal(means, covs))
ring_hat = MixtureDenoiser(s, torch.full((8,), 1 / 8).double(), means, covs)
quarter_hat = MixtureDenoiser(s, torch.full((2,), 0.5).double(), means[:2], covs[:2])


def log_quarter(x_t, t):
    """log q(y | x_t) for the first two components; t = 0 is the classifier of clean points."""
    noisy = noisy_mixture(ring, s.alpha_bar[t] ** 0.5, s.noise_var[t])
    log_share = noisy.component_distribution.log_prob(x_t[:, None]).log_softmax(1)
    return log_share[:, :2].logsumexp(1)


# %% tags=["check", "nbval-check-output"]
_ = torch.manual_seed(0)
score_of_quarter, scores, hats, sums = [], [], [], []
for t in (20, 50, 100):
    x_t, time = torch.randn(50, 2).double(), torch.full((50,), t)
    var, factor = s.noise_var[t], s.noise_var[t] / s.alpha_bar[t] ** 0.5
    noisy = noisy_mixture(ring, s.alpha_bar[t] ** 0.5, var)
    free, term = exact_score(noisy.log_prob, x_t), exact_score(partial(log_quarter, t=t), x_t)
    of_clean = exact_score(partial(log_quarter, t=0), x_t)
    score_of_quarter += [quarter_hat.score_at_level(x_t, s.alpha_bar[t].log())]
    scores += [torch.stack([free + term, free + of_clean, free])]
    hats += [quarter_hat(x_t, time)]
    added = torch.stack([factor * term, factor * of_clean, var**0.5 * term])
    sums += [ring_hat(x_t, time) + added]
left, by_bayes, hats, sums = map(torch.stack, (score_of_quarter, scores, hats, sums))
rule = exact.within(1e-8)
wrong = {"classifier of clean points": by_bayes[:, 1], "no condition": by_bayes[:, 2]}
verify("eq-bayes-score", left, by_bayes[:, 0], rule, rejects=wrong)
wrong = {"classifier of clean points": sums[:, 1], "factor of the noise": sums[:, 2]}
verify("eq-conditional-denoiser", hats, sums[:, 0], rule, rejects=wrong)

# %% tags=["figure"] mystnb={"image": {"alt": "Three panels of arrows over the density of a noisy ring. First, the score of all data: arrows point to the ring. Second, the gradient of the log-probability of the class: arrows point to the upper right, and vanish there. Third, their sum: arrows point to the two components at the right and upper right."}, "figure": {"caption": "At $t = 10$: the score of all data, the gradient of $\log q(y \mid x_t)$, largest where the class is unlikely, and their sum, the score of the class.", "name": "fig-guidance-vectors"}}
noisy = noisy_mixture(ring, s.alpha_bar[10] ** 0.5, s.noise_var[10])
fields = {
    "prior": lambda x: exact_score(noisy.log_prob, x.double()),
    "condition": lambda x: exact_score(partial(log_quarter, t=10), x.double()),
}
fields["sum"] = lambda x: fields["prior"](x) + fields["condition"](x)
fig, panels = plots.figure(3, height=2.5)
box = (-1.8, 1.8, -1.8, 1.8)
for (name, field), panel in zip(fields.items(), panels, strict=True):
    density = {"log_prob": lambda x: noisy.log_prob(x.double()), "num": 11}
    _ = plots.vector_field(field, box, **density, x_label=f"$x_1$, {name}", axes=panel)
fig

# %% [markdown]
# (sec-likelihood-integral)=
# ## The integral that nobody can do
#
# The condition is about the clean image. All clean images that can have become $x_t$ count, each by its probability (with $q(y \mid x, x_t) = p(y \mid x)$, as assumed):
#
# $$
# q(y \mid x_t) = \int p(y \mid x)\, q(x \mid x_t)\, \mathrm{d} x = \mathbb{E}\big[ p(y \mid x) \,\big|\, x_t \big] .
# $$ (eq-likelihood-integral)
#
# The likelihood $p(y \mid x)$ is often a formula. But one draw from $q(x \mid x_t)$, the clean images behind a noisy one, is a run of the sampler from $x_t$ down, and the integral needs many, and their gradient, at every step. The denoiser gives only their mean, $\hat{x}(x_t)$ ({numref}`fig-likelihood-integral`).
#
# **Check.** At three times and ten noisy points of the ring whose class is uncertain, the mean of the clean classifier over 20,000 draws from $q(x \mid x_t)$ is compared with the class probability at the noisy point. The check rejects the clean classifier applied to the estimate $\hat{x}(x_t)$, and to $x_t$ itself.


# %% tags=["unseen"]
def draws_given(x_t, t, num):
    """Draws from q(x | x_t) for the ring: a component, and then a point of it."""
    signal, var = s.alpha_bar[t] ** 0.5, s.noise_var[t]
    total = signal**2 * width**2 + var
    k = Categorical(logits=Normal(signal * means, total**0.5).log_prob(x_t).sum(1)).sample((num,))
    mean = means[k] + signal * width**2 / total * (x_t - signal * means[k])
    return mean + (width**2 * var / total) ** 0.5 * torch.randn(num, 2).double()


# %% tags=["check", "nbval-check-output"]
_ = torch.manual_seed(0)
samples, right, at_estimate, at_x_t = [], [], [], []
for t in (60, 40, 20):
    x_t = add_noise(s, ring.sample((500,)), t, torch.randn(500, 2).double())
    p = log_quarter(x_t, t).exp()
    x_t = x_t[(p > 0.1) & (p < 0.9)][:10]  # where it is not known beforehand
    samples += [log_quarter(draws_given(x, t, 20_000), 0).exp() for x in x_t]
    right += [log_quarter(x_t, t).exp()]
    at_estimate += [log_quarter(ring_hat(x_t, torch.full((10,), t)), 0).exp()]
    at_x_t += [log_quarter(x_t, 0).exp()]
wrong = {"of the estimate": torch.cat(at_estimate), "of the noisy point": torch.cat(at_x_t)}
means_of = torch.stack(samples, 1)
verify("eq-likelihood-integral", means_of, torch.cat(right), monte_carlo, rejects=wrong)

# %% tags=["figure"] mystnb={"image": {"alt": "Three panels. At t = 60 the draws of the clean point lie in all eight clusters of the ring and the estimate lies in the empty middle. At t = 20 most lie in two neighboring clusters, and the estimate between these. At t = 8 nearly all lie in one cluster, and so does the estimate."}, "figure": {"caption": "Clean points behind a noisy one (blue), and their mean $\\hat{x}(x_t)$ (cross). Below: the probability of the class by the integral, and that at the cross.", "name": "fig-likelihood-integral"}}
_ = torch.manual_seed(0)
start, noise = means[1:2], torch.tensor([[-0.6, 0.4]]).double()
fig, panels = plots.figure(3, height=2.6)
for t, panel in zip((60, 20, 8), panels, strict=True):
    x_t = s.alpha_bar[t] ** 0.5 * start + s.noise_var[t] ** 0.5 * noise
    estimate = ring_hat(x_t, torch.tensor([t]))
    p, q = log_quarter(x_t, t).exp().item(), log_quarter(estimate, 0).exp().item()
    names = {"x_label": f"$t = {t}$\nintegral {p:.2f}, cross {q:.2f}", "y_label": ""}
    bounds = (-1.8, 1.8, -1.8, 1.8)
    _ = plots.scatter(draws_given(x_t, t, 300), **names, bounds=bounds, axes=panel)
    _ = panel.plot(*estimate[0].tolist(), "x", color="#d55e00", markersize=11, markeredgewidth=3)
fig

# %% [markdown]
# At high noise the estimate lies in the hole of the ring, where there are no data, and what a classifier says of it means little. At little noise the point and the integral agree. Every method puts something in the integral's place:
#
# | method | in place of the integral | weakness |
# |---|---|---|
# | classifier guidance {cite:p}`dhariwal2021` | a classifier of *noisy* images learns $q(y \mid x_t)$ | needs a network for each kind of $y$ |
# | classifier-free guidance {cite:p}`ho2022` | a denoiser learns $\mathbb{E}[x \mid x_t, y]$ | needs pairs of $x$ and $y$ |
# | DPS {cite:p}`chung2023`, universal guidance {cite:p}`bansal2023` | one point: $p(y \mid \hat{x}(x_t))$ | too sure while $x_t$ is noisy; hand-set steps |
# | ΠGDM {cite:p}`song2023pigdm`, posterior covariance {cite:p}`peng2024` | a Gaussian around $\hat{x}(x_t)$ | several modes of $q(x \mid x_t)$ |
# | replacement {cite:p}`song2021sde`, RePaint {cite:p}`lugmayr2022` | known pixels are overwritten, with noise | known and drawn pixels do not fit, or many calls |
# | plug-and-play {cite:p}`venkatakrishnan2013,graikos2022` | a search for one image: steps that fit $y$ alternate with denoising steps, the prior | no distribution |
#
# The first two train on noisy images with $y$; the others need only $p(y \mid x)$, and weighted particles can correct the third and fourth {cite:p}`wu2023`. The third row in code:


# %%
def guided_by(log_likelihood, prior, schedule, most=math.inf):
    """DPS: add the gradient of log p(y | x_hat(x_t)), with a factor of at most `most`."""

    def hat(x_t, t):
        factor = schedule.noise_var[t[0]] / schedule.alpha_bar[t[0]] ** 0.5
        gradient = exact_score(lambda x: log_likelihood(prior(x, t)), x_t)
        return prior(x_t, t) + factor.clamp(max=most).to(x_t) * gradient

    return hat


# %% tags=["figure"] mystnb={"image": {"alt": "Three rows of eight images. First row, classifier applied to the noisy image: digits of several classes, some broken. Second and third row: nearly all are sevens."}, "figure": {"caption": "Asked for sevens: by a classifier that is shown the noisy image, or the estimate, and by labels.", "name": "fig-clean-classifier"}}
_ = torch.manual_seed(0)
starts = torch.randn(8, 1, 28, 28)


def log_seven(image):
    """The classifier's log-probability of a seven."""
    return classifier((image + 1) / 2).log_softmax(1)[:, 7]


def of_noisy(x_t, t):
    """As `guided_by`, but the classifier is shown x_t as it is."""
    factor = digit_schedule.noise_var[t[0]] / digit_schedule.alpha_bar[t[0]] ** 0.5
    return denoiser(x_t, t) + factor.clamp(max=6).to(x_t) * exact_score(log_seven, x_t)


ways = {
    "of x_t": of_noisy,
    "of the estimate": guided_by(log_seven, denoiser, digit_schedule, most=6),
    "with labels": guided(denoiser, torch.full((8,), 7), 1.0),
}
asked = {name: to_unit(end(ddpm_sample(hat, twenty, starts))) for name, hat in ways.items()}
plots.image_rows(asked, tile=0.75)

# %% [markdown]
# The gradient goes through the denoiser, a backward pass at each step; for a {ref}`measurement <sec-inverse-problems>` it is that of $- \lVert y - A \hat{x}(x_t) \rVert^2 / (2 \sigma_y^2)$.
#
# This classifier was trained without noise. Shown $x_t$ as it is, it makes few sevens, likely because it answers to small changes of a noisy image that draw no seven; shown the estimate, it makes most images sevens, as the labels do ({numref}`fig-clean-classifier`). The factor needs a bound, here 6: near pure noise it grows without limit, just where a point estimate is worst.
#
# :::{depth-start} three seeds: what the classifier is shown decides, and the bound is needed
# :::
# Over three seeds of 48 starts, by two judges (classifiers with an eleventh class, "no digit"; {ref}`chapter 10 <sec-ddpm-samples>`) and with the bounded factor, 20.5 ± 1.9 % of the images are sevens if the classifier is shown the noisy image, 79.2 ± 1.8 % if it is shown the estimate, 94.4 ± 0.3 % by the labels and 8.3 ± 1.2 % without a condition ({ref}`experiment <exp-clean-classifier>`). At scale 10 the first three are 50.7 ± 1.9 %, 96.9 ± 1.6 % and 99.3 ± 0.7 %. Without the bound neither the noisy image nor the estimate gives digits: 98.3 % and 98.3 % of the images are not recognized, in excess over real ones. The gradient through the denoiser costs time at each step; with it 2.8 ± 1.8 % of the images are not recognized, and 21.2 ± 2.6 % with that by the estimate alone.
#
# :::{depth-end}
# :::

# %% [markdown]
# (sec-classifier-free)=
# ## Classifier-free guidance
#
# By {eq}`eq-conditional-denoiser` the gradient of $\log q(y \mid x_t)$ *is* the difference of two denoisers, up to a factor. So train one network that serves as both {cite:p}`ho2022`:
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
# (In our network a label adds a learned vector to that of the time, and half of the labels were dropped, for it is used without them, too. The companion has `classifier_free_loss`.) With $\hat{x}(x_t, y)$ for the estimate with the label, the *guided* denoiser is
#
# $$
# \hat{x}_\kappa(x_t, y) = \hat{x}(x_t) + \kappa\, \big( \hat{x}(x_t, y) - \hat{x}(x_t) \big) .
# $$ (def-guided)
#
# The *guidance scale* $\kappa$ is diffusers' `guidance_scale`; {cite:t}`ho2022` count $w = \kappa - 1$. At 0 the label is ignored; at 1 this is the denoiser of the class. With exact denoisers its score is, by {eq}`eq-conditional-denoiser`,
#
# $$
# \nabla \log q(x_t) + \kappa\, \nabla \log q(y \mid x_t) .
# $$ (eq-guided-score)
#
# So the network contains a classifier's gradient. Predictions of the noise, of $v$ or of the score, $e$ without the label and $e_y$ with it, are affine in $\hat{x}$, and so are mixed alike:
#
# $$
# e_\kappa = e + \kappa\, (e_y - e) = \kappa\, e_y + (1 - \kappa)\, e .
# $$ (eq-guided-languages)
#
# **Check.** The score of the guided denoiser for $\kappa = 3$ is compared with automatic differentiation of the two densities; a scale that counts what is *added* to the denoiser of the class is rejected, and so is the score of the class alone. Then mixed predictions of the noise, of $v$ and of the score are compared with those that belong to the guided estimate of the image; a strength of $w = 3$ in the other convention is rejected.

# %% tags=["check", "nbval-check-output"]
_ = torch.manual_seed(0)
x_t, time = torch.randn(50, 2).double(), torch.full((50,), 50)
conditional, any_class = quarter_hat(x_t, time), ring_hat(x_t, time)
mixed = any_class + 3 * (conditional - any_class)
noisy = noisy_mixture(ring, s.alpha_bar[50] ** 0.5, s.noise_var[50])
free, term = exact_score(noisy.log_prob, x_t), exact_score(partial(log_quarter, t=50), x_t)
wrong = {"class and three more": free + 4 * term, "class alone": free + term}
left = score_from_x_0(s, x_t, 50, mixed)
verify("eq-guided-score", left, free + 3 * term, exact.within(1e-8), rejects=wrong)
direct, by_weights, by_w = [], [], []
for language in (noise_from_x_0, v_from_x_0, score_from_x_0):
    e_y, e, e_kappa = (language(s, x_t, 50, x_0) for x_0 in (conditional, any_class, mixed))
    direct += [e_kappa]
    by_weights += [3 * e_y + (1 - 3) * e]
    by_w += [(1 + 3) * e_y - 3 * e]
wrong = {"the paper's w = 3": torch.stack(by_w)}
direct, by_weights = torch.stack(direct), torch.stack(by_weights)
verify("eq-guided-languages", direct, by_weights, exact.within(1e-8), rejects=wrong)

# %% [markdown]
# **Why above 1?** With exact denoisers, scale 1 is Bayes' rule. But a network, trained to leave no example out, covers too much {cite:p}`karras2024`: some draws lie between the classes. At each time, {eq}`eq-guided-score` is the score of
#
# $$
# q(x_t)\, q(y \mid x_t)^\kappa \;\propto\; q(x_t \mid y)\, q(y \mid x_t)^{\kappa - 1} :
# $$
#
# images of the class, weighted by how surely they are of it. What might be something else loses weight: guidance sharpens.

# %% [markdown]
# (sec-above-scale-one)=
# ### What is sampled above scale 1?
#
# Not the *tilted* distribution $p_\kappa(x) \propto p(x)\, p(y \mid x)^\kappa$. A sampler needs the score of a distribution to which noise was added, and to tilt and then add noise is not to add noise and then tilt. For Gaussians and exact denoisers everything can be computed ({numref}`fig-guided-variance`).
#
# Above 1 *DDIM and DDPM disagree with each other*, and neither draws from the tilted distribution {cite:p}`bradley2024`. So guidance is no longer Bayes' rule: what it samples, something narrower and more typical of its class, depends on the sampler.


# %% tags=["figure"] mystnb={"image": {"alt": "Three falling curves of variance over the guidance scale, from a common point at scale one. That of the tilted distribution falls slowest, DDPM next, and DDIM falls fastest, as a straight line on the logarithmic axis."}, "figure": {"caption": "Variance of guided samples, for a class with variance 0.5 in data with variance 1.", "name": "fig-guided-variance"}}
def three_variances(kappa, lam_y):
    """Of the tilted distribution, of DDIM and of DDPM."""
    chain = (lam_y - lam_y ** (2 * kappa)) / ((1 - lam_y) * (2 * kappa - 1))
    return 1 / (1 + kappa * (1 / lam_y - 1)), lam_y**kappa, chain


scales = torch.linspace(1, 8, 50).double()
names = ("tilted distribution", "DDIM", "DDPM")
of_scale = zip(names, three_variances(scales, 0.5 + 0 * scales), strict=True)
lines = {name: (scales, values) for name, values in of_scale}
fig, (axes,) = plots.figure(height=2.4)
plots.curves(lines, x_label="guidance scale", y_label="variance", log_y=True, axes=axes)

# %% [markdown]
# :::{depth-start} the flow multiplies variances by a power, the chain integrates them
# :::
# Let the data be $\mathcal{N}(0, 1)$, and those of the class $\mathcal{N}(m, \lambda_y)$ with $\lambda_y < 1$. In $p(x)^{1 - \kappa}\, p(x \mid y)^\kappa$ precisions are mixed, so the tilted distribution has the variance
#
# $$
# \lambda_\kappa = \frac{1}{1 + \kappa\, (1 / \lambda_y - 1)} .
# $$ (eq-tilted-variance)
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
# *Proof of the proposition.* Take the clock $r = \log \bar\alpha$ of {eq}`def-probability-flow`. The $x_t$ of the class have the variance $V = 1 - (1 - \lambda_y)\, \bar\alpha$, so $\mathrm{d} V / \mathrm{d} r = V - 1$, and those of all data have the variance 1. The guided score has the slope $- P$ with $P = \kappa / V + 1 - \kappa$. Along the flow, $\mathrm{d} \log W / \mathrm{d} r = 1 - P = \kappa\, (1 - 1 / V) = \kappa\, \mathrm{d} \log V / \mathrm{d} r$. Both start at 1 in pure noise, so $W = V^\kappa$, and at the data $V = \lambda_y$.
#
# The limit of DDPM is the reverse-time diffusion {eq}`eq-reverse-sde` with $\eta = 1$: it moves with $\mathrm{d} x = (x / 2 + \text{score})\, \mathrm{d} r$ and noise of variance $\mathrm{d} r$. So $\mathrm{d} W / \mathrm{d} r = (1 - 2 P)\, W + 1$, where $1 - 2 P = 2 \kappa\, \mathrm{d} \log V / \mathrm{d} r - 1$. Hence $\mathrm{d} (W \bar\alpha V^{- 2 \kappa}) / \mathrm{d} r = \bar\alpha V^{- 2 \kappa}$, and at the data $W = \lambda_y^{2 \kappa} \int_0^1 \big( 1 - (1 - \lambda_y)\, \bar\alpha \big)^{- 2 \kappa}\, \mathrm{d} \bar\alpha$. $\square$
#
# **Check.** The tilted variance is computed by a sum over a grid; the variances of the two samplers are rejected, and a mixture of variances in place of precisions. For the samplers, the guided denoiser is affine in $x_t$ here, so each step multiplies the deviation from the mean by a number and adds noise. The variance is followed through chains of 1000 and 2000 steps, for three pairs of $\kappa$ and $\lambda_y$; the error falls like $1 / T$, so twice the second result minus the first has nearly none of it. The tilted variance is rejected, and so are the formulas of the two samplers exchanged. Last, the companion's samplers in a thousand steps: DDIM maps noise to samples by an affine function, whose squared slope is the variance; for DDPM with $\sigma_t^2 = \beta_t$ 20,000 samples are drawn.


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


def normal_hat(x_t, t, mean, var):
    """The exact denoiser of N(mean, var)."""
    alpha_bar = schedule.alpha_bar[t][:, None]
    gain = alpha_bar**0.5 * var / (alpha_bar * var + 1 - alpha_bar)
    return mean + gain * (x_t - alpha_bar**0.5 * mean)


def guided_hat(x_t, t):
    free, of_class = normal_hat(x_t, t, 0.0, 1.0), normal_hat(x_t, t, 1.0, 0.5)
    return free + 3 * (of_class - free)


# %% tags=["check", "nbval-check-output"]
kappa, (m, lam_y) = 3, torch.tensor([1.0, 0.5]).double()
grid = torch.linspace(-12, 12, 4001, dtype=torch.double)
logs = [Normal(mean, std).log_prob(grid) for mean, std in ((0.0, 1.0), (m, lam_y**0.5))]
p = ((1 - kappa) * logs[0] + kappa * logs[1]).softmax(0)
tilted_var = (p * (grid - (p * grid).sum()) ** 2).sum()
tilted, flow, chain = three_variances(kappa, lam_y)
wrong = {"DDIM": flow, "DDPM": chain, "variances mixed": 1 + kappa * (lam_y - 1)}
verify("eq-tilted-variance", tilted_var, tilted, quadrature, rejects=wrong)
pairs = [(3, lam_y), (1.5, torch.tensor(0.2).double()), (5, torch.tensor(0.8).double())]
limits = [
    [2 * variance_after(2000, d, *pair) - variance_after(1000, d, *pair) for d in (True, False)]
    for pair in pairs
]
formulas = torch.stack([torch.stack(three_variances(*pair)) for pair in pairs])
wrong = {"tilted": formulas[:, [0, 0]], "exchanged": formulas[:, [2, 1]]}
rule = exact.within(2e-3)
verify("eq-guided-variance", torch.tensor(limits), formulas[:, 1:], rule, rejects=wrong)
_ = torch.manual_seed(0)
low, high = end(ddim_sample(guided_hat, schedule, torch.tensor([[0.0], [1.0]]).double()))
wrong = {"tilted": tilted, "DDPM": chain}
verify("eq-guided-variance", (high - low)[0] ** 2, flow, exact.within(0.02), rejects=wrong)
x_0 = end(ddpm_sample(guided_hat, schedule, torch.randn(20_000, 1).double(), schedule.beta))
wrong = {"tilted": tilted, "DDIM": flow}
verify("eq-guided-variance", x_0[:, 0], chain, variance, rejects=wrong)

# %% [markdown]
# :::{depth-end}
# :::

# %% [markdown]
# (sec-guided-digits)=
# ## Guided digits
#
# A larger scale makes the class clearer:

# %% tags=["figure"] mystnb={"image": {"alt": "Three rows of ten digits, zero to nine in each. At scale one the digit in the column of the three is a nine, and two others are hard to read; at scale three all are the digit of their column. At scale nine some strokes are thicker."}, "figure": {"caption": "One noise image for each class, at three scales. At the largest, strokes become too thick.", "name": "fig-guidance-grid"}}
_ = torch.manual_seed(2)
ten, starts, twelve = torch.arange(10), torch.randn(10, 1, 28, 28), digit_schedule.evenly(12)
grid_rows = {}
for kappa in (1.0, 3.0, 9.0):
    x = end(dpm_solver_sample(guided(denoiser, ten, kappa), twelve, starts))
    grid_rows[f"scale {kappa:.0f}"] = to_unit(x)
plots.image_rows(grid_rows, titles=[str(k) for k in range(10)], tile=0.7)

# %% [markdown]
# {numref}`fig-guidance-curves` has 1000 digits at each scale: how many a classifier finds right, their variance within a class, and the Fréchet distance {eq}`def-frechet`.

# %% tags=["figure"] mystnb={"image": {"alt": "Three panels over the guidance scale. Left: the fraction of right digits rises steeply from a tenth to nearly one and stays there. Middle: the variance falls all the way. Right: the Fréchet distance peaks at scale one half, nearly reaches the dashed line of real digits at one, and rises beyond it."}, "figure": {"caption": "What guidance gains (left) and costs (middle, right), a trade-off known from photographs {cite:p}`dhariwal2021,ho2022`. Dashed: real digits.", "name": "fig-guidance-curves"}}
record, _ = load_record("ddpm-mnist-long-guidance")
axis, label = record["scale"], record["label"]
parts = [test.images[test.labels == k].flatten(1) for k in range(10)]
unit = sum(part.var(0).sum() for part in parts).item() / 10
features = [seen.float() for seen in record["features"]]
right = [proportion(classifier.head(seen).argmax(1) == label).value for seen in features]
variances = [each.mean().item() / unit for each in record["spread"]]
far = [feature_distance(seen).value for seen in features]
real = (classifier.head(digit_features(test.images)).argmax(1) == test.labels).double().mean()
fig, panels = plots.figure(3, height=2.5)
curves = {
    "fraction of right digits": (right, real.item()),
    "variance within a class": (variances, 1.0),
    "Fréchet distance": (far, real_digit_distance().value),
}
for panel, (name, (values, of_real)) in zip(panels, curves.items(), strict=True):
    lines = {"guided": (axis, values), "real": (axis, of_real + 0 * axis)}
    _ = plots.curves(lines, x_label="guidance scale", y_label=name, axes=panel)
for panel in panels[1:]:
    panel.get_legend().remove()
assert not on_mnist or (abs(right[0] - 0.1) < 0.05 and max(right) > 0.98)
assert not on_mnist or (far[-1] > min(far) + 10 and variances[-1] < 0.9 * variances[2])
fig

# %% [markdown]
# {numref}`fig-guidance-difference` shows the difference that guidance exaggerates.

# %% tags=["figure"] mystnb={"image": {"alt": "Two panels over the time t. Left: the size of the difference of the two estimates, near zero up to t = 500, then rising steeply to its largest value near t = 900 and above. Right: the part of the difference that all digits of a class have in common, near zero up to t = 700, then rising steeply to nearly one."}, "figure": {"caption": "The difference of the estimates with and without the label: its root mean square, and the fraction of its square common to five digits of a class.", "name": "fig-guidance-difference"}}
_ = torch.manual_seed(0)
each = [(test.labels == k).nonzero()[:5, 0] for k in range(10)]
fifty, of_class = to_symmetric(test.images[torch.cat(each)]), ten.repeat_interleave(5)
times, size, common = (100, 300, 500, 600, 700, 800, 850, 900, 950, 999), [], []
for t in times:
    x_t, time = add_noise(digit_schedule, fifty, t, torch.randn_like(fifty)), torch.full((50,), t)
    with torch.no_grad():
        apart = denoiser(x_t, time, of_class) - denoiser(x_t, time)
    apart = apart.flatten(1).unflatten(0, (10, 5))
    whole, mean = apart.square().sum(2).mean(1), apart.mean(1).square().sum(1)
    size += [(whole.mean() / 784).sqrt().item()]
    common += [((5 * mean - whole).sum() / 4 / whole.sum()).item()]  # unbiased for five digits
fig, panels = plots.figure(2, height=2.4)
parts = {"size of the difference": size, "fraction in common": common}
for panel, (name, values) in zip(panels, parts.items(), strict=True):
    lines = {name: (torch.tensor(times), torch.tensor(values))}
    _ = plots.curves(lines, x_label="time $t$", y_label=name, axes=panel)
assert not on_mnist or (common[-2] > 0.5 and common[3] < 0.1 and size[1] < 0.1 * size[7])
fig

# %% [markdown]
# **Why an interval?** *Early*, $x_t$ says next to nothing. The two estimates are about the mean image of the class and that of all digits. So guidance moves all digits of a class in one direction; they lose variety, likely as they leave the noisy digits. *In the middle* the difference depends on $x_t$: here the class is decided, and guidance sorts. *Late* $x_t$ shows its class, the two estimates agree, and nothing is left to exaggerate. So {cite:t}`kynkaanniemi2024` guide only within an interval of noise levels.
#
# **Why autoguidance?** The estimate without a label does not know the class, and it is worse. {cite:t}`karras2024` use only the latter: they guide by a *weaker network with the same label*. Both networks put probability in the same wrong places, the weaker one more. The difference points from there to the data, and exaggerates nothing about the class: images should get better without losing variety. That fails if the two err in unrelated ways, or equally.


# %%
def extrapolate(strong, weak, scale, low=0, high=1000):
    """Guidance at the times low < t <= high, by a network without its label or by a weaker one."""

    def x_hat(x_t, t):
        better = strong(x_t, t)
        if not low < t[0] <= high:
            return better
        worse = weak(x_t, t)
        return worse + scale * (better - worse)

    return x_hat


# %% tags=["figure"] mystnb={"image": {"alt": "Lines of the percentage of digits that are not recognized, over the growth of the Fréchet distance. All begin at about eight percent and no growth. Guidance at all times falls to zero and runs far to the right. Guidance in the middle falls more steeply and stays far to the left. The line of the weaker network falls as low as both and runs as far as guidance at all times."}, "figure": {"caption": "What guidance gains (down; not recognized by two classifiers, in excess over real digits) and costs (to the right). Middle: $400 < t \\le 900$. Numbers are scales.", "name": "fig-guidance-interval"}}
of_guidance, plain = record_of("guidance"), "no guidance"
ways = {
    "at all times": [f"scale {k}" for k in (2, 3, 5)],
    "in the middle": [f"scale {k}, middle" for k in (2, 3, 5)],
    "autoguidance": [f"weaker network, {k}" for k in (1.5, 2, 3)],
    "early": ["scale 3, early"],
    "late": ["scale 3, late"],
}
fig, (axes,) = plots.figure(height=3.0)
lines = {}
for way, names in ways.items():
    moved = [0.0] + [of_guidance.difference(name, plain, "distance").mean for name in names]
    missed = [of_guidance.value(name, "unrecognized").mean for name in [plain, *names]]
    lines[way] = moved, missed
labels = {"x_label": "growth of the Fréchet distance", "y_label": "not recognized, %"}
_ = plots.curves(lines, **labels, axes=axes)
_ = axes.set_ylim(-3, 9.5)
places = {"in the middle": (-9, -11), "autoguidance": (3, -11), "late": (-10, -3)}
for line, (way, names) in zip(axes.get_lines(), ways.items(), strict=True):
    line.set_marker("o")
    for x, y, name in zip(line.get_xdata()[1:], line.get_ydata()[1:], names, strict=True):
        scale = name.split()[-1] if "weaker" in name else name.split()[1].strip(",")
        place = places.get(way, (3, 4))
        _ = axes.annotate(scale, (x, y), place, textcoords="offset points", fontsize=8)
fig

# %% [markdown]
# Guidance in the middle alone brings nearly all of the gain, for well under half of the increase of the Fréchet distance ({numref}`fig-guidance-interval`); early guidance costs more distance, and variety; late guidance does nothing. A weaker network does as well as the interval at a small scale; at larger ones it drives digits far away. But it needs no label: *without* a class, in the middle at scale 2, it takes twenty steps of DDIM from 17 to 2 % not recognized, below all 1000 steps, and *nearer* to real digits (box).
#
# :::{depth-start} three seeds: the middle of the chain brings the gain, and a weaker partner is as good as an interval
# :::
# In this network, 8.4 ± 0.4 % of the digits are not recognized, in excess over real ones; guidance at scale 3 leaves −0.7 ± 0.3 %, and the distance grows by 25.5 ± 1.7 ({ref}`experiment <exp-guidance>`). Late, for $t \le 400$, it does nothing: 8.1 ± 0.1 % and −0.3 ± 0.1. Early, for $t > 900$, it leaves 1.4 ± 0.3 %, adds 14.0 ± 1.0 to the distance, and takes 4.2 ± 0.2 of the 38.4 of variance within a class. In the middle it leaves −0.2 ± 0.3 % for 9.8 ± 1.1, and at scale 2 0.8 ± 0.3 % for 4.1 ± 1.1.
#
# The weaker network has a quarter of the parameters and two epochs. At scale 2 it leaves −1.5 ± 0.1 % for 24.7 ± 1.1, at scale 1.5 0.0 ± 0.2 % for 10.8 ± 1.0; the network without the label at all times and scale 2, 0.5 ± 0.3 % for 11.8 ± 1.0 ({ref}`experiment <exp-guidance>`). Each condition has three seeds of noise and 300 digits; each network was trained once.
#
# **Without a class** ({ref}`experiment <exp-weaker-network>`): in twenty steps of DDIM, 17.3 ± 1.6 % of the digits without a class are not recognized, at a distance of 9.6 ± 3.5; guided by the weaker network in the middle, at scale 2, 2.1 ± 0.9 %, at a distance of 1.8 ± 2.7. From other noise, all 1000 steps leave 5.9 ± 0.4 %, at 2.2 ± 1.8. The interval matters: at scale 2, at all times it leaves 1.2 ± 0.4 % at 10.7 ± 4.5, early alone 15.9 ± 2.2 % at 13.3 ± 3.9, late alone 12.8 ± 1.7 % at 5.9 ± 2.9. By guidance in the middle the variance of the images rises, from 47.1 ± 0.3 to 51.9 ± 0.4, where all steps have 52.6 ± 0.4.
#
# :::{depth-end}
# :::
#
# *Sources: E06, F07.*

# %% [markdown]
# (sec-inverse-problems)=
# ## Measurements
#
# Now let $y$ be a *measurement*, linear in the image, with noise:
#
# $$
# y = A\, x + \sigma_y\, \xi , \qquad \xi \sim \mathcal{N}(0, I) .
# $$ (def-measurement)
#
# The rows of $A$ are single pixels (*in-painting*), means over blocks (*super-resolution*), or a blur (*deblurring*). In such a *linear inverse problem* many $x$ explain $y$, and a prior says which are images. For one repeatable answer take their mean: it has the smallest squared error, and is a blur. A search also gives one image, near a mode and so rather smooth, without its uncertainty. Draws look real, with larger errors, and differ in what $y$ leaves open: take several to see that.
#
# For Gaussians the denoiser is a formula:
#
# :::{prf:theorem} The denoiser given a measurement
# :label: thm-posterior-denoiser
# Let $x$ given $x_t$ be Gaussian, with the mean $\hat{x}(x_t)$ and the covariance $C_t$. Then
#
# $$
# \mathbb{E}[x \mid x_t, y] = \hat{x} + C_t A^\top \big( A C_t A^\top + \sigma_y^2 I \big)^{-1} (y - A \hat{x}) .
# $$ (eq-posterior-denoiser)
#
# For Gaussian data of covariance $S$ that is so, with $C_t = \big( S^{-1} + \mathrm{SNR}_t\, I \big)^{-1}$.
# :::
#
# :::{dropdown} Proof, and the posterior of Gaussian data
# Given $x_t$, the pair $(x, y)$ is Gaussian: $\mathrm{Cov}(x, y) = C_t A^\top$ and $\mathrm{Cov}(y) = A C_t A^\top + \sigma_y^2 I$. The rest is the conditional mean of a Gaussian pair. For Gaussian data the precision of $x$ given $x_t$ is that of the prior plus that of the observation $x_t / \sqrt{\bar\alpha_t} = x + \text{noise of variance } 1 / \mathrm{SNR}_t$. $\square$
#
# (The $C_t$ in front is, up to a factor, the derivative of the denoiser, through which DPS takes its gradient.) Without $x_t$ the same steps give the posterior itself, for $x \sim \mathcal{N}(\mu, S)$:
#
# $$
# \begin{aligned}
# \mathbb{E}[x \mid y] &= \mu + S A^\top \big( A S A^\top + \sigma_y^2 I \big)^{-1} (y - A \mu) , \\
# \mathrm{Cov}[x \mid y] &= S - S A^\top \big( A S A^\top + \sigma_y^2 I \big)^{-1} A S .
# \end{aligned}
# $$ (eq-normal-posterior)
# :::
#
# The measurement minus its prediction, $y - A \hat{x}$, corrects all pixels that vary with the measured ones. We call this *posterior-mean guidance*; for digits, $C_t$ is that of Gaussian data with their covariance. DPS is the same with $C_t = 0$ inside the inverse: it forgets that the estimate is uncertain. (The other $C_t$ comes from its gradient through the denoiser, whose derivative is $C_t \sqrt{\bar\alpha_t} / (1 - \bar\alpha_t)$.) Given $x_t$, $y$ has the covariance $A C_t A^\top + \sigma_y^2 I$; DPS divides by $\sigma_y^2$ alone. So it goes too far, most at high noise; near the data $C_t$ vanishes, and the two agree.
#
# **Check.** The companion's `posterior_denoiser` is compared with the exact denoiser of the posterior {eq}`eq-normal-posterior`, at four times. Two other choices are rejected: the noise of $x_t$ alone for $C_t$, as if pixels were independent, and $C_t = 0$ inside the inverse. Then 4000 samples are drawn with DDIM, and their means and covariances are compared with {eq}`eq-normal-posterior`. The prior is rejected, and the posterior of a measurement without noise.

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

# %% tags=["check", "nbval-check-output"]
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
wrong = {name: torch.stack(values) for name, values in others.items()}
rule = exact.within(1e-8)
verify("eq-posterior-denoiser", torch.stack(left), torch.stack(right_side), rule, rejects=wrong)

with_y = posterior_denoiser(prior_hat, schedule, A, y.expand(4000, 2), sigma_y, S)
x = end(ddim_sample(with_y, schedule, torch.randn(4000, 3).double()))
off = x - post_mean
left = torch.cat([x, (off[:, :, None] * off[:, None]).flatten(1)], 1)
right_side = torch.cat([post_mean, post_cov.flatten()])
bare = S @ A.T @ torch.linalg.inv(A @ S @ A.T)  # the gain for sigma_y = 0
no_noise = torch.cat([mu + bare @ (y - A @ mu), (S - bare @ A @ S).flatten()])
wrong = {"the prior": torch.cat([mu, S.flatten()]), "no noise": no_noise}
verify("eq-normal-posterior", left, right_side, monte_carlo, rejects=wrong)

# %% [markdown]
# And if $q(x \mid x_t)$ has several modes? On the ring, of radius 1.25, the first coordinate is measured to be 0.9, with noise of standard deviation 0.1. Two components explain this well; a third, at the very right, hardly.

# %% tags=["serves"]
_ = torch.manual_seed(0)
A, y, sigma_y = torch.tensor([[1.0, 0.0]]).double(), torch.tensor([0.9]).double(), 0.1
gain = width**2 / (width**2 + sigma_y**2)
weights = Normal(means[:, 0], (width**2 + sigma_y**2) ** 0.5).log_prob(y).softmax(0)
given_y = means + gain * (y - means @ A.T) @ A
thinner = covs - gain * width**2 * A.T @ A
likely = weights > 1e-9
ring_cov = (width**2 + 1.25**2 / 2) * torch.eye(2).double()


def of_estimate(x_hat):
    return Normal(x_hat[:, 0], sigma_y).log_prob(y)


def draw_given_y(sub):
    """Samples of four methods, with the times of this schedule, from the same noise."""
    x_T, known = torch.randn(1000, 2).double(), y.expand(1000, 1) @ A
    hats = {
        "exact": MixtureDenoiser(
            s, weights[likely] / weights[likely].sum(), given_y[likely], thinner[likely]
        ),
        "DPS": guided_by(of_estimate, ring_hat, s),
        "posterior mean": posterior_denoiser(ring_hat, s, A, y.expand(1000, 1), 0.1, ring_cov),
    }
    drawn = {name: end(ddpm_sample(hat, sub, x_T)) for name, hat in hats.items()}
    film = inpaint_sample(ring_hat, sub, x_T, known, torch.tensor([True, False]))
    return drawn | {"replacement": end(film)}


ways, hurried = draw_given_y(s), draw_given_y(s.evenly(20))

# %% tags=["figure"] mystnb={"image": {"alt": "Four panels of points beside a faint ring. Exact: two clusters at the upper and lower right, and a few points at the very right. DPS: the same two clusters, narrower, and fewer points at the very right. Posterior mean: three clusters; replacement: three pieces of one vertical line; the middle one too full in both."}, "figure": {"caption": "The ring (gray), measured at $x_1 = 0.9$, by four methods in a hundred steps. Below: the percentage nearest to the component at the very right.", "name": "fig-ring-measured"}}
fig, panels = plots.figure(4, height=2.3)
at_right, gone = {}, {}
for (name, x), panel in zip(ways.items(), panels, strict=True):
    near = [(each[:, None] - means).norm(dim=2).min(1) for each in (x, hurried[name])]
    at_right[name] = (near[0].indices == 0).double().mean().item()
    gone[name] = (near[1].values > 4 * width).double().mean().item()
    names = {"x_label": f"{name}\n{at_right[name]:.0%}", "y_label": ""}
    _ = plots.scatter(x, **names, bounds=(-1.8, 1.8, -1.8, 1.8), axes=panel)
    _ = panel.plot(*means.T.tolist(), "o", color="#bbbbbb", markersize=9, zorder=0)
along = {name: x[x[:, 1] > 0.5][:, 0].std() for name, x in ways.items()}
assert along["DPS"] < 0.9 * along["exact"]
assert min(at_right["posterior mean"], at_right["replacement"]) > 2 * at_right["exact"]
assert gone["DPS"] > 0.05 > 5 * max(gone["exact"], gone["posterior mean"])
fig

# %% [markdown]
# The other three fail ({numref}`fig-ring-measured`). DPS is too sure, its clusters narrow. Posterior-mean guidance takes one Gaussian for several modes, with the covariance of Gaussian data, and fills the wrong one between. So does replacement ({ref}`next <sec-inpainting>`), with $y$ exact.

# %% [markdown]
# (sec-inpainting)=
# ### In-painting by replacement
#
# An older idea needs no gradient {cite:p}`song2021sde`: after each step, replace the observed pixels by the true ones, with the right amount of noise. That is wrong even with an exact denoiser, which sees the observed pixels *with noise*, where $\mathbb{E}[x \mid x_t, y]$ uses the clean ones. While noise hides them, the unobserved pixels settle their large shapes without them. *RePaint* {cite:p}`lugmayr2022` takes each step several times, with new noise in between. So the unobserved can follow, at many times the calls ({numref}`fig-completions`).
#
# :::{depth-start} replacement is wrong for two Gaussian numbers, and twenty repeats mend the mean only
# :::
# Take two numbers of variance 1 and correlation 0.8, the first observed as 1.5, and the exact denoiser. The second then has the mean 1.2 and the variance 0.36. (Posterior-mean guidance is given a small $\sigma_y$ where there is no noise, 0.01 here and 0.02 for the digits below: some pixels never vary, and without it the matrix of {eq}`eq-posterior-denoiser` has no inverse.)

# %% tags=["numbers", "columns"]
_ = torch.manual_seed(0)
pair_cov = torch.tensor([[1.0, 0.8], [0.8, 1.0]]).double()
pair_hat = gaussian_denoiser(schedule, torch.zeros(2).double(), pair_cov)
observed, n = torch.tensor([True, False]), 2000
truth, noise = torch.tensor([[1.5, 0.0]]).double().expand(n, 2), torch.randn(n, 2).double()
print("method                calls    mean  variance")
print("right values                   1.20      0.36")
moments = {}
for steps, repeats in ((100, 1), (1000, 1), (100, 20)):
    film = inpaint_sample(pair_hat, schedule.evenly(steps), noise, truth, observed, repeats)
    second = end(film)[:, 1]
    mean, var = moments[steps, repeats] = second.mean().item(), second.var().item()
    name = "replaced" if repeats == 1 else f"RePaint, {repeats} times"
    print(f"{name:20}  {steps * repeats:5}  {mean:6.2f}  {var:8.2f}")
first = torch.tensor([[1.0, 0.0]]).double()
by_mean = posterior_denoiser(pair_hat, schedule, first, truth[:, :1], 0.01, pair_cov)
second = end(ddim_sample(by_mean, schedule.evenly(100), noise))[:, 1]
print(f"{'posterior mean':20}  {100:5}  {second.mean():6.2f}  {second.var():8.2f}")
assert max(moments[100, 1][0], moments[1000, 1][0]) < 0.9
assert abs(moments[100, 20][0] - 1.2) < 0.1 and moments[100, 20][1] < 0.33
assert abs(second.mean() - 1.2) < 0.06 and abs(second.var() - 0.36) < 0.06

# %% [markdown]
# :::{depth-end}
# :::

# %% tags=["figure"] mystnb={"image": {"alt": "Four rows of eight images. First row: the upper half of one digit, gray below. Then three rows of completed digits with that upper half and different lower halves. By posterior-mean guidance most are nines, and two are odd; by replacement with each step taken once two are not digits, since the halves do not fit; taken four times nearly all are nines."}, "figure": {"caption": "One upper half, and completions, which show what it leaves open. By replacement, some halves do not fit if each step is taken once; taken four times, nearly all do.", "name": "fig-completions"}}
_ = torch.manual_seed(0)
known, starts = given.expand(8, -1, -1, -1), torch.randn(8, 1, 28, 28)
times_25 = digit_schedule.evenly(25)
filled = {"posterior mean": end(ddpm_sample(half_hat, times_25, starts))}
for repeats in (1, 4):
    film = inpaint_sample(denoiser, times_25, starts, known, upper, repeats)
    filled[f"RePaint, {repeats}"] = end(film)
rows = {"observed": to_unit(torch.where(upper, known, torch.zeros(())))}
plots.image_rows(rows | {k: to_unit(x) for k, x in filled.items()}, tile=0.75)

# %% [markdown]
# *Sources: B03.*

# %% [markdown]
# (sec-restoration)=
# ### Is it a better prior?
#
# A Gaussian prior knows which pixels vary together, but not that digits are made of strokes. The mean of eight draws of the diffusion has a smaller squared error than the Gaussian's answer, the best linear estimate, for scattered pixels, a coarse grid and a blur, if $C_t$ has covariances. But where a measurement leaves a doubt, sharp detail is one of many answers, however convincing it looks. If the truth is no digit, digits may still fit a coarse $y$, and all draws can err alike: check that $y$ is typical of measured draws of the prior.
#
# :::{depth-start} the diffusion prior has a third to two thirds of the error of the best linear estimate
# :::
# {numref}`fig-restored` measures one pixel in five, and the means of 4 × 4 blocks, with noise of standard deviation 0.05. The *Gaussian* prior has the mean and covariance of the digits, and {eq}`eq-normal-posterior` gives its answer.

# %% tags=["figure"] mystnb={"image": {"alt": "Seven rows of eight images. The true digits on top. Then twice three rows: the measurement, a blurred reconstruction by the Gaussian prior, and a sharp one by the diffusion prior, for scattered pixels and for a coarse grid. Most of the sharp ones are digits; for the scattered pixels two are broken, for the coarse grid one."}, "figure": {"caption": "Two measurements, and what two priors make of them: the Gaussian prior blurs, the diffusion prior strokes, not always the right ones.", "name": "fig-restored"}}
_ = torch.manual_seed(0)
some, sigma_y = torch.randperm(784)[:157], 0.05
units = torch.eye(784)
measures = {"1 in 5": units[some]}
measures["7 x 7"] = F.avg_pool2d(units.view(784, 1, 28, 28), 4).flatten(1).T
originals, mean_digit = to_symmetric(test.images[20:28]), 2 * train.images[:10_000].mean(0) - 1
mean_digit, shown = mean_digit.flatten(), {"truth": to_unit(originals)}
views = {
    "1 in 5": lambda y: torch.zeros(8, 784).index_copy(1, some, y).view(8, 1, 28, 28),
    "7 x 7": lambda y: F.interpolate(y.view(8, 1, 7, 7), scale_factor=4),
}
residual = {}
for name, A in measures.items():
    y = originals.flatten(1) @ A.T
    y = y + sigma_y * torch.randn_like(y)
    cov_of_y = A @ cov @ A.T + sigma_y**2 * torch.eye(len(A))
    weight = torch.linalg.solve(cov_of_y.double(), (A @ cov).double()).float()
    linear = (mean_digit + (y - mean_digit @ A.T) @ weight).view_as(originals)
    hat = posterior_denoiser(denoiser, digit_schedule, A, y, sigma_y, cov)
    restored = end(ddpm_sample(hat, times_25, torch.randn_like(originals)))
    residual[name] = (y - restored.flatten(1) @ A.T).square().mean().sqrt().item()
    rows = {name: views[name](y), "Gaussian": linear, "diffusion": restored}
    shown |= {key if key == name else f"{name}, {key}": to_unit(x) for key, x in rows.items()}
assert not on_mnist or 0.025 < min(residual.values()) <= max(residual.values()) < 0.1
plots.image_rows(shown, tile=0.6)

# %% [markdown]
# Averaged over eight draws, and over three seeds of digits and noise ({ref}`experiment <exp-restoration>`), the diffusion has 0.59 ± 0.01 of the error of the Gaussian prior for one pixel in five, 0.61 ± 0.01 for the coarse grid and 0.34 ± 0.02 for the blur; a single draw has 1.12 ± 0.02, 1.23 ± 0.03 and 0.63 ± 0.01. Means of ever more draws would tend to 0.52, 0.52 and 0.30, with $C_t$ isotropic to 1.85, 0.78 and 0.32. The *residual* $y - A x$ of draws from $p(x \mid y)$ has the size of the noise; four times the steps move that of one pixel in five from 0.041 to 0.048, nearly that of the truth, and that of the coarse grid from 0.071 to 0.074, farther off.
#
# (A single exact draw has *twice* the error of the posterior mean: one half because the truth varies around that mean, the other because the draw does.)
#
# :::{depth-end}
# :::
#
# *Sources: B03, E07.*

# %% [markdown]
# (sec-latent-diffusion)=
# ## Latent diffusion
#
# Most bits of an image are detail that nobody sees ({ref}`chapter 10 <sec-thrown-away>`), yet every step computes every pixel. *Latent diffusion* {cite:p}`rombach2022,vahdat2021` divides the work: a *first stage*, a VAE, is trained to encode the images, and then a diffusion model learns the distribution of the codes. To sample, draw a code and decode it. For our digits a step takes less than a hundredth of the arithmetic:


# %% tags=["numbers"]
def multiply_adds(network, *inputs):
    """Multiply-adds of one call, counted by torch."""
    with FlopCounterMode(display=False) as counter:
        _ = network(*inputs)
    return counter.get_total_flops() / 2


time = torch.tensor([500])
in_pixels = multiply_adds(denoiser, torch.randn(1, 1, 28, 28), time)
in_codes = multiply_adds(latent.denoiser, torch.randn(1, 16), time)
to_decode = multiply_adds(lambda z: vae.likelihood(z).mean, torch.randn(1, 16))
print(f"pixels: {in_pixels / 1e6:.1f} million multiply-adds a step")
print(f"16 codes: {in_codes / 1e6:.2f} million a step, {to_decode / 1e6:.1f} to decode once")
assert in_pixels > 100 * in_codes

# %% [markdown]
# **The bound.** With noisy codes $\tilde{z}_t$ above the VAE's $z$ there is one chain of latents, $x \leftarrow z \leftarrow \tilde{z}_1 \leftarrow \dots \leftarrow \tilde{z}_T$. The bound of the diffusion, $\mathrm{ELBO}_{\mathrm{d}}(z) \le \log p(z)$, takes the place of $\log p(z)$, which is not known:
#
# $$
# \begin{aligned}
# \log p(x) = {} & \mathbb{E}_{q(z \mid x)} \big[ \log p(x \mid z) - \log q(z \mid x) + \mathrm{ELBO}_{\mathrm{d}}(z) \big] \\
# & + D_{\mathrm{KL}}\big( q(z \mid x) \,\Vert\, p(z \mid x) \big) + \mathbb{E}_{q(z \mid x)} \big[ \log p(z) - \mathrm{ELBO}_{\mathrm{d}}(z) \big] .
# \end{aligned}
# $$ (eq-latent-bound)
#
# Neither term of the second line is negative, so the first is a lower bound: an ELBO whose prior term is another ELBO.
#
# **What is the KL of the first stage for?** No longer for sampling: the diffusion replaces $\mathcal{N}(0, I)$. It keeps codes together and noisy, so that neighbors decode alike and small errors of the diffusion do no harm. Too much of it discards detail. {cite:t}`rombach2022` give it hardly any weight: their first stage is nearly an {term}`autoencoder`, its code a small image, *far* from $\mathcal{N}(0, I)$.
#
# **Why are latents rescaled?** With so little KL nothing sets their scale. But a schedule is made for variance 1: codes of standard deviation $s$ shift every $\log \mathrm{SNR}$ by $2 \log s$. Small codes drown in noise for most of the chain. Large ones stay nearly clean for hundreds of steps, which teach nothing, and the largest are still visible in $x_T$, where sampling starts from pure noise. So codes are divided by their standard deviation (diffusers' `scaling_factor`).
#
# :::{depth-start} the gap is that of the VAE plus that of the diffusion; codes of another scale waste the steps
# :::
# *Proof.* The gap of the bound of chapter 3 is $D_{\mathrm{KL}}(q(z \mid x) \,\Vert\, p(z \mid x))$. Add and subtract $\mathrm{ELBO}_{\mathrm{d}}(z)$, which is at most $\log p(z)$ by chapter 9. $\square$ So a learned prior raises the bound by the mean of $\mathrm{ELBO}_{\mathrm{d}}(z) - \log \mathcal{N}(z; 0, I)$ over the codes. {cite:t}`vahdat2021` train both parts together, by a bound like {eq}`eq-latent-bound`.
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

# %% tags=["check", "nbval-check-output"]
log_p = Normal(0.0, 0.07**0.5).log_prob(x)[:, 0]
deficits, kl, reverse, plain = [], [], [], []
for q in choices.values():
    z = q.sample()
    rest = Normal(z, 0.02**0.5).log_prob(x)[:, 0] - q.log_prob(z)[:, 0]
    deficits += [log_p - rest - elbo_terms(code_model, z).elbo]
    plain += [(log_p - rest - Normal(0.0, 1.0).log_prob(z)[:, 0]).mean()]
    kl += [kl_divergence(q, posterior)[:, 0]]
    reverse += [kl_divergence(posterior, q).mean()]
left, kl = torch.stack(deficits, 1), torch.stack(kl, 1)
wrong = {"no gap": 0 * kl.mean(0), "prior N(0, 1)": torch.stack(plain)}
wrong["the KL reversed"] = torch.stack(reverse)
less_noisy = left - kl + kl.mean(0)  # both vary with x
verify("eq-latent-bound", less_noisy, kl.mean(0), monte_carlo, rejects=wrong)

# %% [markdown]
# *Scales.* For codes of four standard deviations, call a Gaussian code known at the steps where more than 99 percent of its variance is explained, and lost where less than 1 is:

# %% tags=["numbers", "columns", "nbval-check-output"]
print("standard deviation  known  deciding  lost")
for std in (0.2, 1.0, 5.0, 20.0):
    explained = (std**2 * schedule.snr / (std**2 * schedule.snr + 1))[1:]
    known, lost = (explained > 0.99).sum().item(), (explained < 0.01).sum().item()
    print(f"{std:18}  {known:5}  {1000 - known - lost:8}  {lost:4}")

# %% [markdown]
# :::{depth-end}
# :::
#
# Our VAE, that of chapter 7 with the whole KL, needs no rescaling. By how much can a learned prior raise the bound?

# %% tags=["numbers"]
_ = torch.manual_seed(0)
z = codes(test.images[:2000])
q = vae.posterior(data.binarize(test.images[:2000]))
rate = kl_divergence(q, vae.prior(len(z))).mean()
(low, high), (left, right_side) = z.mean(0).aminmax(), z.std(0).aminmax()
print(f"means of the codes between {low:.2f} and {high:.2f}", end=", ")
print(f"standard deviations between {left:.2f} and {right_side:.2f}")
print(f"KL divergence of q(z | x) from N(0, I): {rate:.1f} nats a digit")
# The bound of a chain with the exact denoiser of N(0, I) has no gap: terms are compared with the same noise.
normal_prior = Ddpm(
    gaussian_denoiser(schedule, torch.zeros(16), torch.eye(16)), schedule, (16,), schedule.beta
)
gains = torch.zeros(len(z))
for _ in range(40):
    t = torch.randperm(1000).repeat(2)[: len(z)] + 1  # each time equally often
    noise = torch.randn_like(z)
    learned, plain = (elbo_step(m, z, t, noise) for m in (latent, normal_prior))
    gains += 1000 * (learned - plain) / 40
gain, gain_error = gains.mean().item(), gains.std().item() / len(gains) ** 0.5
print(f"gain by the learned prior: {gain:.2f} +- {gain_error:.2f} nats")
assert not on_mnist or (1 < gain < 4 and 5 * gain_error < gain < 0.2 * rate)

# %% tags=["serves"]
_ = torch.manual_seed(0)
by_pixels, _ = load_record("ddpm-mnist-long-samples")
drawn_codes = end(ddpm_sample(latent.denoiser, hundred, torch.randn(2000, 16)))
decoded = {
    "plain VAE": vae.likelihood(torch.randn(2000, 16)).mean,
    "latent diffusion": vae.likelihood(drawn_codes).mean,
    "pixel diffusion": by_pixels["samples"] / 255,
}

# %% tags=["figure"] mystnb={"image": {"alt": "Three rows of ten digits. First row, codes from the standard Gaussian: several smeared shapes that are not digits. Second row, codes from the diffusion: smooth digits, most of them clear. Third row, diffusion of pixels: digits with sharper edges, some of them malformed."}, "figure": {"caption": "Decoded draws from $\\mathcal{N}(0, I)$ and of the latent diffusion, and a diffusion of pixels.", "name": "fig-latent-samples"}}
plots.image_rows({name: x[:10] for name, x in decoded.items()}, tile=0.7)

# %% [markdown]
# For comparison, *reconstructions* of test digits:

# %% tags=["numbers", "columns"]
some_digits = test.images[torch.randperm(len(test.images))[:2000]]
decoded["reconstructions"] = vae.likelihood(codes(some_digits)).mean
distance = {name: digit_distance(x) for name, x in decoded.items()}
not_recognized = {}
print("                      Fréchet distance    not recognized")
for name, (value, error) in distance.items():
    share, its_error, _ = not_recognized[name] = unrecognized(decoded[name][:1000])
    print(f"{name:20}  {value:8.1f} +- {error:.1f}    {share:8.1%} +- {its_error:.1%}")
near, order = distance["latent diffusion"], ("latent diffusion", "pixel diffusion", "plain VAE")
assert not on_mnist or near.value + 2 * near.standard_error < 0.2 * distance["plain VAE"].value
for fewer, more in pairwise(order):
    assert not on_mnist or not_recognized[fewer].below(not_recognized[more])

# %% [markdown]
# A quarter of the draws from $\mathcal{N}(0, I)$ decode to no digit, and of those of the latent diffusion hardly any. How can two nats do that? If the codes were $\mathcal{N}(0, I)$ restricted to a region of probability $p$, the gain would be $- \log p$. Two nats would mean $p = 0.14$: six draws out of seven fall outside, though many could still decode to digits.
#
# *Sources: E08.*

# %% [markdown]
# (sec-noise-editing)=
# ## Editing and score distillation
#
# To change an image, **SDEdit** {cite:p}`meng2022` adds noise up to a time $t$, and samples down, for us with another label: what the noise has hidden is drawn anew, and $t$ sets how much, from hardly anything to everything ({numref}`fig-editing`). At little noise a sketch keeps its flat colors and hard edges, which the denoiser takes for signal. If the noise of one pixel exceeds the norm of the difference between the sketch and an image of the same large shapes, the two can hardly be told apart, and the way down draws an image. **DDIM inversion** ({ref}`chapter 11 <sec-inversion>`) samples up with the digit's own label, and down with another.

# %% tags=["figure"] mystnb={"image": {"alt": "Four rows of eight digits. The originals; then edits through noise at times 550 and 950, the first of which are nearly the originals and the second of which show the new class; and the edits by inversion, most of which show the new class."}, "figure": {"caption": "Test digits, edited to the next class. More noise gives the class more surely and keeps less of the original.", "name": "fig-editing"}}
_ = torch.manual_seed(0)
source, own = to_symmetric(test.images[:8]), test.labels[:8]
target = (own + 1) % 10
to_target, edits = guided(denoiser, target, 3.0), {"originals": source}
for t in (550, 950):
    x_t = add_noise(digit_schedule, source, t, torch.randn_like(source))
    rest = digit_schedule.strided(range(1, t + 1)).evenly(10)
    edits[f"t = {t}"] = end(dpm_solver_sample(to_target, rest, x_t))
inverted = ddim_invert(lambda x_t, t: denoiser(x_t, t, own), twelve, source)
edits["inverted"] = end(ddim_sample(to_target, twelve, end(inverted)))
titles = [f"to {k}" for k in target.tolist()]
plots.image_rows({name: to_unit(x) for name, x in edits.items()}, titles=titles, tile=0.75)

# %% [markdown]
# **Score distillation** does not sample at all. DreamFusion {cite:p}`poole2023` makes a three-dimensional object with a model of images: a renderer shows the object $\theta$ from a random side, $x = g(\theta)$, and $\theta$ changes until its views are probable. It minimizes the KL divergence of the noisy view from the model's noisy images, as a weighted mean over times. The gradient is
#
# $$
# \nabla_x\, D_{\mathrm{KL}}\big( q(x_t \mid x) \,\Vert\, p(x_t \mid y) \big) = \sqrt{\frac{\bar\alpha_t}{1 - \bar\alpha_t}}\;\, \mathbb{E}_\varepsilon\big[ \hat\varepsilon(x_t, y) - \varepsilon \big] .
# $$ (eq-score-distillation)
#
# So render, add noise, predict it, and pass the difference to the renderer. The network is fixed and draws nothing; it says in which direction a view becomes more probable, and only $\theta$ is trained. The gradient of $\log p$ at $x_t$ is the score, the network's output: its derivative is not needed, which saves a backward pass.
#
# :::{dropdown} Proof
# The entropy of $q(x_t \mid x)$ does not depend on $x$. What remains is $- \mathbb{E}_\varepsilon \log p(x_t \mid y)$ with $x_t = \sqrt{\bar\alpha_t}\, x + \sqrt{1 - \bar\alpha_t}\, \varepsilon$. Its gradient is $- \sqrt{\bar\alpha_t}$ times the mean score, and the score is $- \hat\varepsilon / \sqrt{1 - \bar\alpha_t}$ {eq}`eq-noise-is-score`. Subtracting $\varepsilon$, whose mean is zero, only makes the estimate less noisy. $\square$
# :::
#
# **Check.** For data of two Gaussians on a line and three times, the KL divergence is computed by a sum over a grid and differentiated automatically; the right side is a sum over a grid of noises. The gradient of the loss that trains the network, with the network's derivative in it, is rejected, and so is the gradient of the reverse-order KL.

# %% tags=["check", "nbval-check-output"]
centers = torch.tensor([[-1.0], [1.2]]).double()
line_hat = MixtureDenoiser(
    s, torch.tensor([0.3, 0.7]).double(), centers, 0.09 * torch.ones(2, 1, 1).double()
)
nodes = torch.linspace(-9, 9, 6001, dtype=torch.double)
bell = Normal(0.0, 1.0).log_prob(nodes).softmax(0)
left, right_side, of_loss, other_order = [], [], [], []
for t in (10, 30, 60):
    signal, std = s.alpha_bar[t] ** 0.5, s.noise_var[t] ** 0.5
    at = Normal(signal * centers[:, 0], (signal**2 * 0.09 + std**2) ** 0.5)
    log_p = MixtureSameFamily(Categorical(torch.tensor([0.3, 0.7]).double()), at).log_prob
    x = torch.tensor(0.4).double().requires_grad_()
    x_t = signal * x + std * nodes
    log_q = Normal(signal * x, std).log_prob(nodes)
    predicted = (x_t - signal * line_hat(x_t[:, None], torch.full((6001,), t))[:, 0]) / std
    values = (
        -(bell * log_p(x_t)).sum(),
        (bell * (predicted - nodes) ** 2).sum() / 2,
        -(log_p(nodes).softmax(0) * log_q).sum(),
    )
    grads = [torch.autograd.grad(value, x, retain_graph=True)[0] for value in values]
    for kept, grad in zip((left, of_loss, other_order), grads, strict=True):
        kept.append(grad)
    right_side.append((signal / std * (bell * (predicted - nodes)).sum()).detach())
left, right_side, of_loss, other_order = map(torch.stack, (left, right_side, of_loss, other_order))
wrong = {"derivative of the network": of_loss, "the other order": other_order}
verify("eq-score-distillation", left, right_side, quadrature, rejects=wrong)

# %% [markdown]
# **Why does it seek modes?** This KL divergence takes the mean under $q$, the order that {ref}`selects a mode <sec-two-directions>`. The noise fixes the entropy of $q$, so only $\log p$ counts, and nothing rewards variety: each object goes where its noisy views are most probable, as points do on the ring ({numref}`fig-score-distillation`).


# %%
def distill(x, low, high, steps=1000):
    """Move points by score distillation, with times from low to high."""
    for i in range(steps):
        t = torch.randint(low, high + 1, (1,)).expand(len(x))
        signal, std = s.alpha_bar[t[0]] ** 0.5, s.noise_var[t[0]] ** 0.5
        noise = torch.randn_like(x)
        x_t = signal * x + std * noise
        predicted = (x_t - signal * ring_hat(x_t, t)) / std
        x = x - 0.05 * (1 - i / steps) * (predicted - noise)
    return x


# %% tags=["figure"] mystnb={"image": {"alt": "Three panels. Samples: eight round clusters on a ring. Distilled at little noise: eight dots, at the centers of the clusters. Distilled at much noise: a single dot in the empty middle of the ring."}, "figure": {"caption": "Samples of the ring, and points distilled with little noise ($t \\le 10$) and with much ($20 \\le t \\le 60$).", "name": "fig-score-distillation"}}
_ = torch.manual_seed(0)
starts = 0.5 * torch.randn(300, 2).double()
panels_of = {
    "samples": end(ddpm_sample(ring_hat, s, torch.randn(300, 2).double())),
    "distilled, little noise": distill(starts, 1, 10),
    "distilled, much noise": distill(starts, 20, 60),
}
fig, panels = plots.figure(3, height=2.5)
for (name, points), panel in zip(panels_of.items(), panels, strict=True):
    names = {"x_label": name, "y_label": ""}
    _ = plots.scatter(points, **names, bounds=(-1.8, 1.8, -1.8, 1.8), axes=panel)
little, much = list(panels_of.values())[1:]
nearest = (little[:, None] - means).norm(dim=2).min(1).values
assert (nearest < width / 2).double().mean() > 0.9 and much.norm(dim=1).max() < 0.3
fig

# %% [markdown]
# They end where the mean noisy log-density is largest: with little noise at the centers of the clusters, with much in the empty middle. DreamFusion mixes all times, and guides with $w = 100$. Its objects are smooth, saturated and alike. Likely causes are the large scale, and that a mode lacks the random detail that every draw has.
#
# *Sources: B03.*

# %% [markdown]
# (sec-priors-wrong)=
# ## What goes wrong
#
# **Too much guidance.** Extrapolated estimates leave the range of images ({numref}`fig-too-much`). Clipping (with a bound for each image, *dynamic thresholding* {cite:p}`saharia2022`) repairs the range, and the thickness of the strokes in part; guidance in the middle alone leaves most strokes thin.

# %% tags=["figure"] mystnb={"image": {"alt": "Four rows of eight digits of the classes zero to seven. At scale three: clean digits. At scale fifteen: thicker strokes, one digit nearly filled. At scale fifteen, clipped: strokes in between. At scale fifteen in the middle of the chain: most strokes as thin as at scale three."}, "figure": {"caption": "Scale 3, scale 15, and scale 15 with estimates clipped at every step, or for $400 < t \\le 900$ alone.", "name": "fig-too-much"}}
_ = torch.manual_seed(3)
eight, starts = torch.arange(8), torch.randn(8, 1, 28, 28)
strong = guided(denoiser, eight, 15.0)
too_much = {
    "scale 3": guided(denoiser, eight, 3.0),
    "scale 15": strong,
    "15, clipped": lambda x_t, t: strong(x_t, t).clamp(-1, 1),
    "15, middle": extrapolate(lambda x_t, t: denoiser(x_t, t, eight), denoiser, 15, 400, 900),
}
ended = {n: end(ddim_sample(hat, twelve, starts)) for n, hat in too_much.items()}
outside = {name: (x.abs() > 1.1).double().mean().item() for name, x in ended.items()}
assert not on_mnist or (outside["scale 3"] < 0.01 and outside["scale 15"] > 0.05)
plots.image_rows({name: to_unit(x) for name, x in ended.items()}, tile=0.75)

# %% [markdown]
# **Silent mistakes.** A scale in the other convention: $w = 3$ is $\kappa = 4$. A $\sigma_y$ that is too small, which keeps the noise as detail: the residual $y - A x$ is smaller than the noise. Latents that are not scaled back. Right residuals, taken for the right posterior: they test only what $y$ determines, not the variety of the rest. Try a method where the answer is known, or measure a draw of the prior, which must look like the method's draws.

# %% [markdown]
# (sec-text-to-image)=
# ## From here to text-to-image
#
# A condition can be a sentence, too. Then a language model turns it into vectors, the denoiser reads them, and what this chapter says of labels holds: training {cite:p}`ramesh2022,saharia2022` drops the sentence now and then, and {eq}`def-guided` guides by it, mostly in a latent space {cite:p}`rombach2022`. {doc}`The next chapter <14_text_to_image>` takes such a model apart.
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
# - To condition a diffusion model, condition its denoiser {eq}`eq-conditional-denoiser`. The gradient is an integral over clean images {eq}`eq-likelihood-integral`, which methods learn or approximate.
# - Classifier-free guidance exaggerates a difference of denoisers {eq}`def-guided`. Above scale 1 it samples no tilted distribution.
# - A linear measurement enters in closed form {eq}`eq-posterior-denoiser`, exact for Gaussian data. DPS is too sure; replacement needs many repeats.
# - A VAE with a diffusion as prior has one bound {eq}`eq-latent-bound`.
# - Score distillation seeks modes {eq}`eq-score-distillation`.
#
# :::{dropdown} If you come from the lectures
# Lectures often show in-painting and text-to-image as if both drew from the conditional distribution. Replacement does not, even with an exact denoiser, and a sample guided at a scale above 1 is not a draw from $p(x \mid \text{text})$.
# :::
