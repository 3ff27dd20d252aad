# %% [markdown]
# # Hierarchical VAEs
#
# To describe an image over the telephone, you would not start with the first pixel. You would say "a digit", then "a seven", then "slanted, with a bar", and leave the pixels for last. A hierarchical VAE works in this order too: its top latent is drawn first, and each level below adds to what is already there.

# %% tags=["setup", "hide-input"]
# The set-up cell: `make sync` writes it.

# %% tags=["unseen"]
import torch

from companion import data
from companion.data import binarize
from companion.page import plots
from companion.zoo import pretrained
from companion.zoo.weights import read_card

# %% tags=["serves"]
_ = torch.manual_seed(0)
train, test = data.load("mnist", "train"), data.load("mnist", "test")
vae, ladder = pretrained("vae-mnist"), pretrained("hvae-mnist")
cards = [read_card("vae-mnist"), read_card("hvae-mnist")]


def from_the_top(x, lowest, draw=False):
    """The decoder's mean, if only the levels from `lowest` up have seen x."""
    chosen, seen, features = ladder.prior(len(x)), lowest <= 5, ladder.encode(x)
    if seen:
        chosen = ladder.posterior(*features)
    z = chosen.sample() if seen and draw else chosen.mean
    for t in range(4, 0, -1):
        seen = t >= lowest
        q, p = ladder.inner(t, z, *features)
        chosen = q if seen else p
        z = chosen.sample() if seen and draw else chosen.mean
    return ladder.likelihood(z).mean


# %% tags=["figure", "mnist"] mystnb={"image": {"alt": "Six rows of ten images. The first row shows test digits. In the second every image is a plain digit, some of another class than the one above it; further down the images take on the class, the slant and at last the strokes of the first row."}, "figure": {"caption": "Ten digits, inferred from the top down by a ladder of five levels. In each row one more level is inferred from the digit, and the image comes closer to it.", "name": "fig-from-the-top"}}
_ = torch.manual_seed(0)
digits = binarize(test.images[:10])
rows = {f"level{'s' * (k < 5)} 5{f' to {k}' * (k < 5)}": k for k in (5, 4, 3, 2, 1)}
described = {name: from_the_top(digits, k) for name, k in rows.items()}
plots.image_rows({"digit": digits} | described, tile=0.7)

# %% [markdown]
# The model of {numref}`fig-from-the-top`, a *ladder*, has five levels with 64, 32, 16, 8 and 4 latents, counted from the image upwards. In the second row only the top level is inferred from the digit, and each level below takes its mean given the one above. In each further row one more level is inferred from the digit, and the image comes closer to it.
#
# This chapter asks what more levels are good for. The upper ones can collapse to the prior; we find out, in small hierarchies of digits, when that happens and what keeps them active. No new loss is needed: the bound and the code of the last chapters stay as they are.

# %% [markdown]
# (sec-hvae-gap)=
# ## What one level leaves open
#
# Why should more levels help? A VAE with one latent has two gaps.
#
# 1. **Between the bound and the likelihood.** The approximate posterior $q_\phi(z \mid x)$ is a Gaussian with independent coordinates, and the true posterior need not be one. The difference is the {term}`approximation gap`, which chapter 6 measured {eq}`def-two-gaps`.
# 2. **Between the model and the data.** The prior $\mathcal{N}(0, I)$ has nothing to learn. If the {term}`aggregate posterior` differs from it, the mean bound is lower by the KL divergence between the two {eq}`eq-surgery`, and draws of the prior are not distributed as codes of images ({ref}`chapter 7 <sec-latent-plane>`).
#
# A second latent above the first can help with both. It turns the two Gaussians of $z_1$ into mixtures, one component for each value of $z_2$:
#
# $$
# p_\theta(z_1) = \int p_\theta(z_1 \mid z_2)\, p(z_2)\, \mathrm{d}z_2, \qquad q_\phi(z_1 \mid x) = \int q_\phi(z_1 \mid z_2, x)\, q_\phi(z_2 \mid x)\, \mathrm{d}z_2 .
# $$ (def-two-marginals)
#
# Each distribution under the integrals may stay a diagonal Gaussian, easy to sample and with a KL divergence in closed form, while the mixture need not be Gaussian any more. (It still is if $z_2$ only shifts $z_1$ linearly, as in the solvable chain below.) In the smallest example $z_2$ decides the scale of $z_1$: with $z_2 \sim \mathcal{N}(0, s^2)$ and $z_1 \mid z_2 \sim \mathcal{N}(0, e^{2 z_2})$, the *kurtosis* is
#
# $$
# \frac{\mathbb{E}\, z_1^4}{(\mathbb{E}\, z_1^2)^2} = 3\, e^{4 s^2} ,
# $$ (eq-chain-kurtosis)
#
# while it is 3 for a Gaussian of any variance. A large kurtosis means a narrow peak and heavy tails.
#
# :::{dropdown} Proof
# Given $z_2$ the moments are $e^{2 z_2}$ and $3\, e^{4 z_2}$. Since $\mathbb{E}\, e^{k z_2} = e^{k^2 s^2 / 2}$, the ratio is $3\, e^{8 s^2} / e^{4 s^2}$. $\square$
# :::
#
# **Check.** Both sides come from integrals over $z_2$ and then over $z_1$ on grids. The kurtosis of a Gaussian is rejected.

# %% tags=["unseen"]
import math
from itertools import pairwise

from torch.distributions import MultivariateNormal, Normal, kl_divergence
from torchvision.utils import make_grid

from companion.distributions import diagonal_normal, evidence_alone, log_normalizer, normal_product
from companion.elbo import elbo_terms, sample_log_weights
from companion.experiments import record_of
from companion.experiments.levels import SeesAbove
from companion.hierarchical_vae import HierarchicalVae
from companion.linear_chain import LinearChain, linear_covariance, regress
from companion.metrics import active_units, log_likelihood
from companion.page.live import watch
from companion.page.show import show
from companion.page.sliders import Editor, Film, Slider
from companion.page.verify import exact, monte_carlo, quadrature, verify
from companion.samplers import ancestral_sample
from companion.training import minimize
from companion.zoo.weights import load_record
from companion.zoo.yourself import cost, train_it, use

# %% tags=["serves"]
double = {"dtype": torch.double}
s = torch.tensor(0.3, **double)
z_2 = torch.linspace(-3, 3, 601, **double)[:, None]
z_1 = torch.linspace(-80, 80, 8001, **double)
weight = Normal(0.0, s).log_prob(z_2).exp()
density = torch.trapezoid(weight * Normal(0.0, z_2.exp()).log_prob(z_1).exp(), z_2, dim=0)
second, fourth = (torch.trapezoid(z_1**k * density, z_1) for k in (2, 4))

# %% tags=["check", "nbval-check-output"]
right = 3 * (4 * s**2).exp()
gaussian = {"a Gaussian": torch.tensor(3.0, **double)}
verify("eq-chain-kurtosis", fourth / second**2, right, quadrature, rejects=gaussian)

# %% tags=["figure"] mystnb={"image": {"alt": "Two curves over the same axis: the mixture has a higher and narrower peak and heavier tails than the Gaussian of the same variance."}, "figure": {"caption": "Two Gaussian steps, the first of which sets the scale of the second, do not make a Gaussian: the peak is higher and the tails are heavier.", "name": "fig-two-steps"}}
middle = z_1.abs() < 4
plain = Normal(0.0, second.sqrt()).log_prob(z_1).exp()
lines = {"two Gaussian steps": density, "one, of the same variance": plain}
plots.curves(
    {name: (z_1[middle], curve[middle]) for name, curve in lines.items()},
    x_label="$z_1$",
    y_label="density",
)

# %% [markdown]
# {numref}`fig-two-steps` has one dimension and one parameter; networks for the steps can make richer mixtures. Does the likelihood improve? With the protocol of chapter 6, {cite:t}`burda2016` report a test $-\log p(x)$ of 86.76 nats for one level of 50 latents and 85.33 for two, of 100 and 50. (The second model is also the larger one, and its encoder is bottom-up.)
#
# **What you can say now.** A second latent turns prior and posterior of the first into mixtures of Gaussians, which one level cannot have.

# %% [markdown]
# (sec-hvae-chain)=
# ## A chain of latents
#
# We now define the model with $T$ latents and two forms of its approximate posterior, and test them on a linear example where all is known. Stack the latents, $z_1$ next to the image and $z_T$ at the top. Generation runs down the chain, and each latent depends only on the one above it:
#
# $$
# p_\theta(x, z_1, \dots, z_T) = p(z_T) \prod_{t=1}^{T-1} p_\theta(z_t \mid z_{t+1}) \; p_\theta(x \mid z_1) .
# $$ (def-hierarchy)
#
# This is a *Markovian* {term}`hierarchical VAE`. In another form every step depends on *all* levels above, $p_\theta(z_t \mid z_{t+1}, \dots, z_T)$ and $p_\theta(x \mid z_1, \dots, z_T)$. The Markovian form is just as general: take $z_t$ together with everything above it as the new $z_t$.
#
# The approximate posterior can run in either direction:
#
# $$
# q_\phi(z_{1:T} \mid x) = q_\phi(z_1 \mid x) \prod_{t=2}^{T} q_\phi(z_t \mid z_{t-1}) \qquad \text{(bottom-up)},
# $$ (def-bottom-up)
#
# $$
# q_\phi(z_{1:T} \mid x) = q_\phi(z_T \mid x) \prod_{t=1}^{T-1} q_\phi(z_t \mid z_{t+1}, x) \qquad \text{(top-down)}.
# $$ (def-top-down)


# %% tags=["serves"]
def arrow(axes, start, end, color, style="-"):
    look = {"arrowstyle": "->", "color": color, "linestyle": style, "shrinkA": 12, "shrinkB": 12}
    axes.annotate("", end, start, arrowprops=look)


def node(axes, place, text):
    box = {"boxstyle": "circle,pad=0.25", "facecolor": "white", "edgecolor": "#777777"}
    axes.text(*place, text, ha="center", va="center", fontsize=11, bbox=box)


def diagram(axes, title, ups=(), downs=(), sides=()):
    """Three latents above x; orange q, blue p, dashed what both use."""
    features = {f"d{t}": (0.0, t) for t in (1, 2, 3)} if sides else {}
    at = {"x": (0.6, 0)} | {f"z{t}": (0.6 + 0.6 * bool(sides), t) for t in (1, 2, 3)} | features
    for pairs, color in ((ups, "#d55e00"), (downs, "#0072b2"), (sides, "#d55e00")):
        for start, end in pairs:
            arrow(axes, at[start], at[end], color)
    for name, place in at.items():
        node(axes, place, f"${name[0]}_{name[1]}$" if len(name) > 1 else "$x$")
    axes.set(xlim=(-0.5, 1.7), ylim=(-0.5, 3.5), title=title)
    axes.axis("off")


# %% tags=["figure"] mystnb={"image": {"alt": "Four small graphs. Generation: blue arrows from z 3 down to z 2, z 1 and x. Bottom-up: orange arrows from x up to z 1, z 2, z 3. Top-down: orange arrows from x up through features d 1 to d 3, from each feature to its latent, and from each latent to the one below. Ladder: the same features, but the arrows between the latents are the blue ones of the model."}, "figure": {"caption": "Which variable depends on which. Blue: the model $p_\\theta$. Orange: inference. In a ladder, explained below, inference uses the model's own arrows on the way down.", "name": "fig-who-sees-whom"}}
climb = [("x", "z1"), ("z1", "z2"), ("z2", "z3")]
descend = [("z3", "z2"), ("z2", "z1")]
look = [("x", "d1"), ("d1", "d2"), ("d2", "d3"), ("d1", "z1"), ("d2", "z2"), ("d3", "z3")]
fig, panels = plots.figure(4, height=2.6)
diagram(panels[0], "model", downs=[*descend, ("z1", "x")])
diagram(panels[1], "q bottom-up", ups=climb)
diagram(panels[2], "q top-down", ups=descend, sides=look)
diagram(panels[3], "q of a ladder", downs=descend, sides=look)
fig

# %% [markdown]
# {numref}`fig-who-sees-whom` draws both. Bottom-up, only the first step depends on the image; top-down, every step does. The two do not exclude each other, because each bottom-up chain *is* a top-down one. Bayes' rule turns each step around,
#
# $$
# q(z_t \mid z_{t+1}, x) = \frac{q(z_{t+1} \mid z_t)\, q(z_t \mid x)}{q(z_{t+1} \mid x)} ,
# $$ (eq-reversal)
#
# and in the product {eq}`def-top-down` the marginals cancel, each with its neighbor, until {eq}`def-bottom-up` is left. The next chapter is built on {eq}`eq-reversal`.
#
# Which form is better? The *true* posterior of {eq}`def-hierarchy` can be written in both. Top-down it looks like {eq}`def-top-down`, with $x$ in every step. Bottom-up, $x$ drops out after the first step:
#
# $$
# p(z_t \mid z_{t-1}, x) = p(z_t \mid z_{t-1}) \qquad \text{for } t \ge 2 ,
# $$ (eq-bottom-up-posterior)
#
# because $x$ depends on the latents through $z_1$ alone: once $z_{t-1}$ is known, $x$ says nothing more about $z_t$. So neither form excludes the true posterior. With Gaussian steps, $q$ misses it as soon as the steps of the true posterior are not Gaussian.
#
# **The solvable chain.** In one model all steps *are* Gaussian: the linear one, $z_t = a_t\, z_{t+1} + s_t\, \varepsilon_t$ with independent standard Gaussian noise $\varepsilon_t$, for $t = 0, \dots, T - 1$ and $z_0 = x$. The companion's `LinearChain` is this model, with latents of one dimension. The steps of its posteriors are conditional distributions of a Gaussian with mean zero, that is, linear regressions, whose slopes and variances follow from the covariance $C$ of $(x, z_1, \dots, z_T)$. If each variable is a linear function of others plus its own noise, $v = B v + \text{noise}$, then $v = (I - B)^{-1} \text{noise}$, which gives that covariance.

# %% tags=["shown", "nbval-check-output"]
show(linear_covariance, regress, docstring=False)

# %% [markdown]
# The chain takes the slopes and standard deviations of the model, and the covariance under $q$. Without one it takes the model's own, and $q$ is the exact posterior.

# %% tags=["shown", "nbval-check-output"]
show(LinearChain.inner_prior, LinearChain.inner_posterior, docstring=False)

# %% tags=["serves"]
T = 3
a = torch.tensor([0.8, 0.9, 0.7], **double)  # slope of z_t on z_{t+1}; z_0 is x
s = torch.tensor([0.5, 0.6, 0.8], **double)  # standard deviation of the same step

# %% [markdown]
# **Check.** For the reversal, an arbitrary bottom-up chain, unrelated to the model, is evaluated at random latents, once bottom-up and once top-down. The product of the marginals $q(z_t \mid x)$ is rejected.

# %% tags=["serves"]
_ = torch.manual_seed(0)
slopes_up = torch.tensor([0.9, 0.5, -0.4], **double)
noises = torch.tensor([1.0, 0.3, 0.8, 0.5], **double)
C_q = linear_covariance(torch.diag(slopes_up, -1), noises)
arbitrary = LinearChain(a, s, C_q)
x, z = torch.randn(6, 1, **double), torch.randn(T + 1, 6, 1, **double)
z[0] = x  # z[t] is z_t
steps = [Normal(slopes_up[t] * z[t], noises[t + 1] ** 0.5) for t in range(T)]
bottom_up = sum(step.log_prob(z[t + 1]) for t, step in enumerate(steps))[:, 0]
top_down = arbitrary.posterior(x).log_prob(z[T])
marginals = top_down.clone()
for t in range(T - 1, 0, -1):
    top_down = top_down + arbitrary.inner_posterior(t, z[t + 1], x).log_prob(z[t])
    slope, variance = regress(C_q, t, [0])
    marginals = marginals + Normal(slope * x, variance**0.5).log_prob(z[t])[:, 0]

# %% tags=["check", "nbval-check-output"]
verify("eq-reversal", bottom_up, top_down, rejects={"marginals": marginals})

# %% [markdown]
# **Check.** For the true posterior, $z_t$ is regressed on $z_{t-1}$ and $x$, for $t = 2$ and $3$, under the *model*: the slope on $x$ must vanish. The slopes of the other direction, on $z_{t+1}$ and $x$, are rejected.

# %% tags=["check", "nbval-check-output"]
chain = LinearChain(a, s)
C = chain.C
with_x = torch.stack([regress(C, t, [t - 1, 0])[0] for t in (2, 3)])
without = torch.stack([regress(C, t, [t - 1])[0] for t in (2, 3)])
expected = torch.cat([without, torch.zeros(2, 1, **double)], 1)
down = torch.stack([regress(C, t, [t + 1, 0])[0] for t in (1, 2)])
verify("eq-bottom-up-posterior", with_x, expected, rejects={"top-down": down})

# %% [markdown]
# Now let $q$ be the exact posterior. As for one latent {eq}`eq-weights-constant`, the importance weight is then the same for every draw:
#
# $$
# q = p_\theta(z_{1:T} \mid x) \;\Longrightarrow\; \log \frac{p_\theta(x, z_{1:T})}{q(z_{1:T} \mid x)} = \log p_\theta(x) \;\text{ for every draw } z_{1:T} .
# $$ (eq-chain-exact)
#
# **Checks.** The joint density {eq}`def-hierarchy` and the bottom-up posterior {eq}`def-bottom-up` are evaluated at arbitrary latents; a weight without the prior of the top is rejected. Then the companion draws the latents top-down and returns this logarithm; here the arbitrary chain above is rejected.

# %% tags=["check", "nbval-check-output"]
log_p = Normal(0.0, C[0, 0] ** 0.5).log_prob(x[:, 0])
log_ratio = chain.prior(6).log_prob(z[T])
for t in range(T):
    slope, variance = regress(C, t + 1, [t])
    log_ratio = log_ratio + chain.inner_prior(t, z[t + 1]).log_prob(z[t])
    log_ratio = log_ratio - Normal(slope * z[t], variance**0.5).log_prob(z[t + 1])[:, 0]
wrong = {"without the top's prior": log_ratio - chain.prior(6).log_prob(z[T])}
verify("eq-chain-exact", log_ratio, log_p, rejects=wrong)

# %% tags=["check", "nbval-check-output"]
_ = torch.manual_seed(0)
other = sample_log_weights(arbitrary, x, 4)
weights = sample_log_weights(chain, x, 4)
wrong = {"another q": other}
verify("eq-chain-exact", weights, log_p.expand(4, 6), rejects=wrong)

# %% [markdown]
# **What you can say now.** A hierarchical VAE is a Markov chain of latents. Inference can run bottom-up or top-down, and every bottom-up chain is also a top-down one.
#
# *Sources: A30, B19.*

# %% [markdown]
# (sec-kl-levels)=
# ## One KL divergence for each level
#
# The bound of a chain is {eq}`eq-elbo-terms` with all latents in the place of $z$. Its second term is the KL divergence of two distributions of $T$ latents, which has no closed form for networks. But the chain rule {eq}`eq-kl-chain` splits it into one divergence for each level, from the top down:
#
# $$
# \begin{aligned}
# D_{\mathrm{KL}}\big( q(z_{1:T} \mid x) \,\Vert\, p_\theta(z_{1:T}) \big) = {} & D_{\mathrm{KL}}\big( q(z_T \mid x) \,\Vert\, p(z_T) \big) \\
# & + \sum_{t=1}^{T-1} \mathbb{E}_{q(z_{t+1} \mid x)}\, D_{\mathrm{KL}}\big( q(z_t \mid z_{t+1}, x) \,\Vert\, p_\theta(z_t \mid z_{t+1}) \big) .
# \end{aligned}
# $$ (eq-kl-levels)
#
# :::{dropdown} Proof
# Write both distributions as products, {eq}`def-top-down` and the prior part of {eq}`def-hierarchy`. The logarithm of their quotient is a sum of $T$ logarithms. In the expectation over $q(z_{1:T} \mid x)$, take first the expectation over $z_t$ given $z_{t+1}$: it makes a KL divergence of the $t$-th logarithm. What is left is an expectation over $z_{t+1}$. $\square$
# :::
#
# (The left side has $p_\theta(z_{1:T})$ and not a fixed $p(z)$: in a hierarchy most of the prior is learned.) With {eq}`eq-kl-levels` the bound reads
#
# $$
# \begin{aligned}
# \mathrm{ELBO}(x) = {} & \mathbb{E}_q \log p_\theta(x \mid z_1) - D_{\mathrm{KL}}\big( q(z_T \mid x) \,\Vert\, p(z_T) \big) \\
# & - \sum_{t=1}^{T-1} \mathbb{E}_q\, D_{\mathrm{KL}}\big( q(z_t \mid z_{t+1}, x) \,\Vert\, p_\theta(z_t \mid z_{t+1}) \big) .
# \end{aligned}
# $$ (eq-chain-elbo)
#
# Each KL divergence is between two diagonal Gaussians and has a closed form {eq}`eq-kl-diagonal`. Only the outer expectations have to be estimated, by drawing one latent after the other from the top.
#
# **Check.** In the linear chain both sides of {eq}`eq-kl-levels` have closed forms, here for the arbitrary $q$ from above. Two plausible mistakes are rejected: to compare the marginals of each level, and to use the mean of $z_{t+1}$ in place of a draw.

# %% tags=["serves"]
x = torch.tensor([[1.7]], **double)
m = C_q[1:, 0] / C_q[0, 0] * x[0, 0]
S = C_q[1:, 1:] - torch.outer(C_q[1:, 0], C_q[1:, 0]) / C_q[0, 0]
whole = kl_divergence(
    MultivariateNormal(m, S), MultivariateNormal(torch.zeros(T, **double), C[1:, 1:])
)
q = Normal(m, S.diagonal() ** 0.5)
levels, at_mean = [kl_divergence(q, Normal(0.0, 1.0))[-1]], []
for t in range(1, T):
    (on_x, slope), v = regress(C_q, t, [0, t + 1])
    shift = (slope - a[t]) * m[t] + on_x * x[0, 0]
    random = (slope - a[t]) ** 2 * S[t, t] / (2 * s[t] ** 2)
    at_mean.append(kl_divergence(Normal(shift, v**0.5), Normal(0.0, s[t])))
    levels.append(at_mean[-1] + random)
marginals = kl_divergence(q, Normal(0.0, C.diagonal()[1:] ** 0.5)).sum()

# %% tags=["check", "nbval-check-output"]
wrong = {"marginals": marginals, "at the mean": levels[0] + sum(at_mean)}
verify("eq-kl-levels", whole, sum(levels), rejects=wrong)

# %% [markdown]
# The bound also equals the evidence minus the KL divergence from the posterior {eq}`eq-elbo-gap`. The companion's `elbo_terms` estimates {eq}`eq-chain-elbo` for any chain.
#
# **Check.** The evidence minus the KL divergence from the posterior is compared with draws from `elbo_terms`, and a bound that forgets the levels below the top is rejected.

# %% tags=["serves"]
_ = torch.manual_seed(0)
terms = elbo_terms(arbitrary, x.expand(200_000, 1))
slopes = C[1:, 0] / C[0, 0]
posterior = MultivariateNormal(slopes * x[0, 0], C[1:, 1:] - torch.outer(slopes, slopes) * C[0, 0])
log_p = Normal(0.0, C[0, 0] ** 0.5).log_prob(x[0, 0])
right = log_p - kl_divergence(MultivariateNormal(m, S), posterior)

# %% tags=["check", "nbval-check-output"]
top_only = {"top level only": right + sum(levels[1:])}
verify("eq-chain-elbo", terms.elbo, right, monte_carlo, rejects=top_only)
by_level = torch.stack(levels[1:] + levels[:1])
verify("eq-kl-levels", terms.kl[:, :2], by_level[:2], monte_carlo)

# %% [markdown]
# The code has not changed since chapter 3. For a VAE its loop is empty. With $T > 1$ it goes down the levels, and `inner` returns $q$ and $p$ of each.

# %% tags=["shown", "nbval-check-output"]
show(elbo_terms, docstring=False)

# %% [markdown]
# **What you can say now.** The bound of a hierarchy has one KL divergence for each level; sampling from the top down estimates it, and `elbo_terms` did not change.
#
# *Sources: A32.*

# %% [markdown]
# (sec-normal-product)=
# ## Inference that shares with generation
#
# How should a network model $q(z_t \mid z_{t+1}, x)$? Before the image is seen, the model predicts $p_\theta(z_t \mid z_{t+1})$, and the image can only correct this prediction. So let $q$ be the prediction times a *message* from the image, an approximate likelihood of $z_t$, and normalize:
#
# $$
# q(z_t \mid z_{t+1}, x) = \frac{p_\theta(z_t \mid z_{t+1})\, d_t(z_t; x)}{Z_t(z_{t+1}, x)} .
# $$ (def-ladder-posterior)
#
# This is a {term}`ladder VAE` {cite:p}`sonderby2016`. The messages come from a deterministic bottom-up network on $x$: its features on the $t$-th level give $d_t$. (Sønderby and coauthors call $d_t$ the approximate likelihood; in the code its parameters are called `evidence`.) The encoder now shares weights with the decoder: $q$ depends on $\theta$ too, and the gradient in $\theta$ runs through both.
#
# The product is a density if $Z_t$ is finite, as it always is with Gaussians. Let $p = \mathcal{N}(\mu, s^2)$ and $d = \mathcal{N}(m, 1/\lambda)$ in one dimension; $\lambda$ is the *precision* of the message, one over its variance. Then $p\, d / Z$ is Gaussian with
#
# $$
# \frac{1}{s_q^2} = \frac{1}{s^2} + \lambda, \qquad \mu_q = \mu + w\, (m - \mu), \qquad w = \lambda\, s_q^2 .
# $$ (eq-normal-product)
#
# Precisions add up. The mean moves from the prediction towards the message, by the message's share $w$ of the precision. A message with precision 0 changes nothing. The normalizer is
#
# $$
# \log Z = \log \mathcal{N}\Big( m;\; \mu,\; s^2 + \frac1\lambda \Big) .
# $$ (eq-product-normalizer)
#
# It is large if prediction and message agree. The KL divergence of the level is the mean log-message minus the log-normalizer:
#
# $$
# D_{\mathrm{KL}}(q \,\Vert\, p) = \mathbb{E}_q \log d(z) - \log Z .
# $$ (eq-product-kl)
#
# :::{dropdown} Proof
# $\log p + \log d$ is a quadratic function of $z$ with the second derivative $- (1/s^2 + \lambda)$ and its maximum at $(\mu / s^2 + \lambda m) / (1/s^2 + \lambda)$, which is $\mu_q$. For the normalizer, read $p\, d$ as a model: $z \sim p$, and $m$ is seen through noise of variance $1/\lambda$. Then $Z = \int p(z)\, \mathcal{N}(m; z, 1/\lambda)\, \mathrm{d}z$ is the evidence of $m$ {eq}`eq-linear-evidence`. For the last line, $\log q - \log p = \log d - \log Z$. $\square$
# :::
#
# Move the slider to make the message more precise. The product moves from the prediction towards the message, and is never wider than the narrower of the two.


# %% tags=["figure"]
def product_picture(precision):
    z = torch.linspace(-3, 4, 300)
    p = diagonal_normal(torch.zeros(1, 1), 1.0)
    message = torch.full((1, 1), 2.0), torch.full((1, 1), math.log(precision))
    q, d = normal_product(p, *message), evidence_alone(p, *message)
    three = {"prediction, p": p, "message, d": d, "product, q": q}
    lines = {name: (z, one.log_prob(z[:, None]).exp()) for name, one in three.items()}
    axes = plots.figure(height=2.6)[1][0]
    _ = axes.set_ylim(0, 1.3)
    return plots.curves(lines, x_label="$z_t$", y_label="density", axes=axes)


Slider(
    [0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.5, 4.0, 6.0, 9.0],
    product_picture,
    description="precision of the message",
    alt="Three bell curves: p at 0, d at 2 with precision {}, and q between them",
    start=4,
)

# %% [markdown]
# **Check.** The product is integrated numerically: its mean and variance, its normalizer, the KL divergence. Variances added in place of precisions are rejected, the two shares exchanged, the precision in place of the variance, and a lost $\log Z$.

# %% tags=["serves"]
z = torch.linspace(-8, 8, 160_001, **double)
mu, sd, m, lam = torch.tensor([0.3, 0.7, -1.1, 2.5], **double)
log_p, log_d = (Normal(mean, std).log_prob(z) for mean, std in [(mu, sd), (m, lam**-0.5)])
joint = (log_p + log_d).exp()
Z = torch.trapezoid(joint, z)
mean = torch.trapezoid(z * joint, z) / Z
variance = torch.trapezoid((z - mean) ** 2 * joint, z) / Z
mean_log_d = torch.trapezoid(joint / Z * log_d, z)
p = diagonal_normal(mu.view(1, 1), sd)
message = m.view(1, 1), lam.log().view(1, 1)
q, log_Z = normal_product(p, *message), log_normalizer(p, *message)[0]

# %% tags=["check", "nbval-check-output"]
total = sd**2 + 1 / lam
added = torch.stack([mu + (m - mu) * sd**2 / total, total])
swapped = torch.stack([mu + (m - mu) / (lam * total), q.variance[0, 0]])
wrong = {"variances added": added, "shares exchanged": swapped}
left, right = torch.stack([mean, variance]), torch.stack([q.mean, q.variance]).flatten()
verify("eq-normal-product", left, right, quadrature, rejects=wrong)
precision = {"precision": Normal(mu, (sd**2 + lam) ** 0.5).log_prob(m)}
verify("eq-product-normalizer", Z.log(), log_Z, quadrature, rejects=precision)
kl, lost = kl_divergence(q, p)[0], {"without log Z": mean_log_d}
verify("eq-product-kl", kl, mean_log_d - log_Z, quadrature, rejects=lost)

# %% [markdown]
# The companion computes the product without forming a precision, so that none can overflow: the share $w$ is a logistic function of $\log \lambda + \log s^2$.

# %% tags=["shown", "nbval-check-output"]
show(normal_product, docstring=False)

# %% [markdown]
# **What you can say now.** A ladder's posterior is the model's own prediction times a message from the image. Precisions add, and a level whose message is empty costs nothing.
#
# *Sources: A31.*

# %% [markdown]
# (sec-ladder-exact)=
# ## When the ladder can be right
#
# The product {eq}`def-ladder-posterior` is a special form. When does the exact posterior have it? Let $z_{>t}$ be all levels above $z_t$.
#
# :::{prf:theorem} What a ladder can represent
# :label: thm-ladder-exact
# The exact posterior is $p_\theta(z_t \mid z_{>t})$ times a message $d_t(z_t; x)$, up to normalization, if and only if, wherever $p_\theta(z_t, z_{>t}) > 0$,
#
# $$
# p_\theta(x \mid z_t, z_{>t}) = d_t(z_t; x)\, h_t(z_{>t}; x)
# $$ (eq-message-factor)
#
# for some function $h_t$. A Markov chain {eq}`def-hierarchy` has this property at every level, with $h_t = 1$.
# :::
#
# :::{dropdown} Proof
# By Bayes' rule $p_\theta(z_t \mid z_{>t}, x) = p_\theta(z_t \mid z_{>t})\, p_\theta(x \mid z_t, z_{>t}) / p_\theta(x \mid z_{>t})$. Comparing with {eq}`def-ladder-posterior` gives {eq}`eq-message-factor` with $h_t = p_\theta(x \mid z_{>t}) / Z_t$, and the other way round. In a Markov chain $x$ depends on the levels from $t$ upwards through $z_t$ alone, so $d_t(z_t; x) = p_\theta(x \mid z_t)$. $\square$
# :::
#
# **Check.** Both directions are confirmed by a finite example, with three values for $z_1$, four for $z_2$, and tables of random probabilities for one fixed $x$. If the table $p(x \mid z_1, z_2)$ is a column times a row, the exact posterior must be the prior times the column, normalized; if conversely the posterior is a prior times an arbitrary message, the table must have rank one, so all its $2 \times 2$ determinants vanish. A table with one entry changed by a tenth is rejected.

# %% tags=["serves"]
_ = torch.manual_seed(0)
prior = torch.rand(3, 4, **double)
prior = prior / prior.sum(0)  # p(z_1 | z_2), a column for each z_2
d, h = torch.rand(3, 1, **double), torch.rand(1, 4, **double)


def normalized(table):
    return table / table.sum(0)


def minors(table):
    """All determinants of two neighboring rows and columns."""
    return table[:-1, :-1] * table[1:, 1:] - table[:-1, 1:] * table[1:, :-1]


changed = d * h
changed[1, 2] *= 1.1
any_posterior = normalized(prior * torch.rand(3, 1, **double))
of_x = torch.rand(4, **double)  # p(x | z_2)

# %% tags=["check", "nbval-check-output"]
wrong = {"one entry changed": normalized(prior * changed)}
verify("eq-message-factor", normalized(prior * d), normalized(prior * d * h), rejects=wrong)
table = any_posterior * of_x / prior  # p(x | z_1, z_2), by Bayes' rule
wrong = {"one entry changed": minors(changed)}
zero = torch.zeros(2, 3, **double)
verify("eq-message-factor", minors(table), zero, exact.on_scale(1.0), rejects=wrong)

# %% [markdown]
# The theorem allows messages of any form. Those of the companion are diagonal Gaussians, and for a network $p_\theta(x \mid z_t)$ need not have this form, so the bound of a trained Markov ladder can keep a gap as well. In the linear chain this second restriction costs nothing.
#
# The message of level $t$ does not depend on the levels above. That loses nothing as long as the image depends on $z_1$ only. It does lose something as soon as a *skip connection* lets $z_2$ act on $x$ directly. The smallest case has a weight $c$ for the skip:
#
# $$
# z_2 \sim \mathcal{N}(0, 1), \qquad z_1 \mid z_2 \sim \mathcal{N}(a z_2, s_1^2), \qquad x \mid z_1, z_2 \sim \mathcal{N}(z_1 + c z_2, s_0^2) .
# $$ (def-skip-chain)
#
# The loss of the best ladder is the same for every $x$,
#
# $$
# \begin{aligned}
# & \log p(x) - \max_{d_1, d_2} \mathrm{ELBO}(x) \\
# & \quad = \min_{0 < r \le P s_1^2} \frac12 \Big[ r - 1 - \log r + \log \Big( 1 + \frac{V}{P} \Big( \frac{a (r - 1)}{s_1^2} + \frac{c}{s_0^2} \Big)^2 \Big) \Big] ,
# \end{aligned}
# $$ (eq-ladder-price)
#
# where the messages are Gaussian, $1 / P = (1/s_1^2 + 1/s_0^2)^{-1}$ is the variance of the posterior $p(z_1 \mid z_2, x)$, and $V = \big( 1 + (a + c)^2 / (s_1^2 + s_0^2) \big)^{-1}$ that of $p(z_2 \mid x)$. For $c = 0$ take $r = 1$: nothing is lost,
#
# $$
# c = 0 \;\Longrightarrow\; \max_{d_1, d_2} \mathrm{ELBO}(x) = \log p(x) .
# $$ (eq-ladder-exact)
#
# :::{dropdown} Proof
# Given $z_2$, the ladder's $z_1$ has some variance $v < s_1^2$, and by {eq}`eq-normal-product` the slope $a v / s_1^2$ on $z_2$. The posterior has the variance $1/P$ and the slope $(a / s_1^2 - c / s_0^2) / P$. With $r = v P$ the slopes differ by $\delta = \big( a (r - 1) / s_1^2 + c / s_0^2 \big) / P$. Offsets are free, so all means can be matched at one point, and the gap is
#
# $$
# \tfrac12 (r - 1 - \log r) + \tfrac12 P \delta^2 \tau^2 + \tfrac12 \big( \tau^2 / V - 1 - \log (\tau^2 / V) \big)
# $$ (eq-ladder-gap)
#
# with the variance $\tau^2$ of $q(z_2 \mid x)$. It is least at $1 / \tau^2 = 1 / V + P \delta^2$; insert that. $\square$
# :::
#
# **Check.** This and the next two checks use none of these formulas on their other side: the bound of the linear model has a closed form, and an optimizer in double precision maximizes it over the four parameters of the two messages: a factor of $x$ for each mean, and a log-precision each.

# %%
a, s1, s0 = 0.9, 0.3, 0.09  # s1 and s0 are variances


def ladder_q(x, free):
    """q(z_2 | x), and slope, offset and variance of q(z_1 | z_2, x)."""
    q_2 = normal_product(
        diagonal_normal(torch.zeros_like(x), 1.0), free[0] * x, free[1].expand_as(x)
    )
    w = torch.sigmoid(free[3] + math.log(s1))  # share of the message in z_1
    return q_2, (1 - w) * a + w * free[4], w * free[2] * x, (1 - w) * s1


def ladder_bound(x, c, free):
    """The bound: all of it is Gaussian, so nothing needs to be drawn."""
    q_2, slope, offset, v = ladder_q(x, free)
    mean = (slope + c) * q_2.mean + offset
    var = (slope + c) ** 2 * q_2.variance + v
    reconstruction = Normal(mean, s0**0.5).log_prob(x) - var / (2 * s0)
    shift = (slope - a) * q_2.mean + offset
    square = shift**2 + (slope - a) ** 2 * q_2.variance
    kl_1 = 0.5 * (v / s1 - 1 - (v / s1).log() + square / s1)
    kl_2 = kl_divergence(q_2.base_dist, Normal(0.0, 1.0))
    return (reconstruction - kl_1 - kl_2)[:, 0]


# %%
def best_ladder(x, c, use=(1, 1, 1, 1, 0), rest=(0, 0, 0, 0, 0)):
    """The parameters at the maximum: those in use are free, the others as in `rest`.

    The fifth is a factor of z_2 in the mean of the message to z_1.
    """
    use, rest = torch.tensor(use, **double), torch.tensor(rest, **double)
    free = torch.zeros(5, requires_grad=True, **double)
    _ = minimize(lambda: -ladder_bound(x, c, free * use + rest).mean(), [free])
    return (free * use + rest).detach()


def evidence_of(x, c):
    return Normal(torch.zeros_like(x), ((a + c) ** 2 + s1 + s0) ** 0.5).log_prob(x)[:, 0]


def independent_price(c):
    """What a q loses in which z_1 and z_2 are independent given x."""
    across = c / s0 - a / s1
    P = [[1 / s1 + 1 / s0, across], [across, 1 + a**2 / s1 + c**2 / s0]]
    P = torch.tensor(P, **double)
    return 0.5 * (P.diagonal().log().sum() - torch.logdet(P)).item()


x = torch.tensor([[-1.3], [0.4], [2.0]], **double)
best = ladder_bound(x, 0.0, best_ladder(x, 0.0))

# %% [markdown]
# **Check.** For the Markov chain, $c = 0$, the maximal bound is compared with the evidence. A $q$ with $z_1$ and $z_2$ independent given $x$ is rejected; its loss is {eq}`eq-rotation-price`, computed from the posterior's precision matrix: half the sum of the logs of its diagonal, minus half its log-determinant.

# %% tags=["check", "nbval-check-output"]
wrong = {"independent": evidence_of(x, 0.0) - independent_price(0.0)}
verify("eq-ladder-exact", best, evidence_of(x, 0.0), exact, rejects=wrong)

# %% [markdown]
# **Check.** The gap {eq}`eq-ladder-gap` is compared with the evidence less the best bound, at log-precisions that are *not* the best ones: only the two means are free. The formula without the cost of the wrong slope is rejected.

# %% tags=["serves"]
gaps, formulas, without = [], [], []
for c, logs in [(1.0, (0.5, 1.0)), (-0.5, (-1.0, 2.0)), (3.0, (2.0, 0.0))]:
    free = best_ladder(x, c, (1, 0, 1, 0, 0), (0, logs[0], 0, logs[1], 0))
    gaps.append(evidence_of(x, c) - ladder_bound(x, c, free))
    q_2, slope, _, v = ladder_q(x, free)
    P, V = 1 / s1 + 1 / s0, 1 / (1 + (a + c) ** 2 / (s1 + s0))
    r, t2 = v * P, q_2.variance[:, 0]
    delta = slope - (a / s1 - c / s0) / P
    both = 0.5 * (r - 1 - r.log() + t2 / V - 1 - (t2 / V).log())
    without.append(both)
    formulas.append(both + 0.5 * P * delta**2 * t2)

# %% tags=["check", "nbval-check-output"]
wrong = {"without the slope": torch.stack(without)}
rule = exact.within(1e-8)
verify("eq-ladder-gap", torch.stack(gaps), torch.stack(formulas), rule, rejects=wrong)

# %% [markdown]
# **Check.** For the best ladder with a skip, the formula {eq}`eq-ladder-price` is minimized on a fine grid of $r$ and compared with the optimizer's bound, for four values of $c$. The loss of a $q$ with independent latents is rejected.


# %% tags=["serves"]
def ladder_price(c):
    P, V = 1 / s1 + 1 / s0, 1 / (1 + (a + c) ** 2 / (s1 + s0))
    r = torch.linspace(0, P * s1, 400_001, **double)[1:]
    twice = r - 1 - r.log() + torch.log1p(V / P * (a * (r - 1) / s1 + c / s0) ** 2)
    return 0.5 * twice.min().item()


skips = [-2.0, -0.5, 1.0, 3.0]
found = [(evidence_of(x, c) - ladder_bound(x, c, best_ladder(x, c))).tolist() for c in skips]

# %% tags=["check", "nbval-check-output"]
formula = [[ladder_price(c)] * 3 for c in skips]
wrong = {"independence": [[independent_price(c)] * 3 for c in skips]}
verify("eq-ladder-price", found, formula, exact.within(1e-8), rejects=wrong)
at_one = found[2][0], independent_price(1.0)
print("lost at c = 1: {:.3f} nats; by independence {:.3f}".format(*at_one))

# %% [markdown]
# With $c = 1$ the best ladder with Gaussian messages loses 0.290 nats, whatever the training. Even a $q$ with independent latents loses less. {numref}`fig-skip` shows why.

# %% tags=["figure"] mystnb={"image": {"alt": "Two panels with the posterior of two latents as a dark tilted cloud. Left, without a skip, it rises to the right and an orange ellipse lies exactly on its outline. Right, with a skip, the cloud falls to the right, while the orange outline is nearly a circle, too short for the cloud and too wide across it."}, "figure": {"caption": "The posterior for x = 1 (blue), and the best ladder (orange, two standard deviations). Left, without a skip connection, they agree; right, with one, the ladder has the wrong shape.", "name": "fig-skip"}}
one = torch.tensor([[1.0]], **double)
circle = torch.linspace(0, 2 * math.pi, 200, **double)
circle = 2 * torch.stack([circle.cos(), circle.sin()])
fig, panels = plots.figure(2, height=3.0)
for c, axes in zip((0.0, 1.0), panels, strict=True):
    across = c / s0 - a / s1
    P = torch.tensor([[1 / s1 + 1 / s0, across], [across, 1 + a**2 / s1 + c**2 / s0]])
    mean = torch.linalg.solve(P, torch.tensor([1.0, c]) / s0)
    posterior = MultivariateNormal(mean, precision_matrix=P)
    m_1, m_2 = mean.tolist()
    box = (m_1 - 1.5, m_1 + 1.5, m_2 - 1.5, m_2 + 1.5)
    words = {"x_label": "$z_1$", "y_label": "$z_2$"}
    _ = plots.density2d(posterior.log_prob, box, **words, axes=axes)
    q_2, slope, offset, v = ladder_q(one, best_ladder(x, c))
    t2 = q_2.variance.item()
    S = torch.tensor([[slope**2 * t2 + v, slope * t2], [slope * t2, t2]], **double)
    center = torch.stack([(slope * q_2.mean + offset)[0, 0], q_2.mean[0, 0]])
    _ = axes.plot(*(center[:, None] + torch.linalg.cholesky(S) @ circle), "#d55e00")
fig

# %% [markdown]
# On the left, a larger $z_2$ predicts a larger $z_1$, and the ladder takes that from the model. On the right $z_1$ and $z_2$ *compete* to explain the same $x$: if one is larger, the other is likely to be smaller (*explaining away*). A ladder cannot represent that, because with any Gaussian message the slope of its $z_1$ on $z_2$ is $(1 - w)\, a$, between zero and $a$.
#
# The fix is to let the message depend on what is above, $d_t(z_t; x, z_{>t})$. One more parameter, a factor of $z_2$ in the mean of the message, is enough here.

# %% tags=["held", "nbval-check-output"]
for c in (1.0, 3.0):
    free = best_ladder(x, c, use=(1, 1, 1, 1, 1))
    lost = (evidence_of(x, c) - ladder_bound(x, c, free)).abs().max()
    near = torch.allclose(free[[2, 4]], torch.tensor([1.0, -c], **double), atol=1e-4)
    print(f"c = {c}: lost nothing: {bool(lost < 1e-10)}, message centered at x - c z_2: {near}")

# %% [markdown]
# So there are two kinds of ladders. In the Markov kind the message depends on $x$ alone, which is right for a Markov model. In the deep kind, where each level has its own path to the image, a tensor that runs down carries all levels above, and the message depends on it. The companion has both, `mlp_ladder` and `conv_ladder`.
#
# **What you can say now.** A ladder contains the exact posterior of a Markov chain, if its messages can have any form. With skip connections it loses some nats, unless its messages depend on the levels above.

# %% [markdown]
# (sec-ladder-code)=
# ## Nothing new in the loss
#
# What does a ladder need besides the code of a VAE? Only $q(z_t \mid z_{t+1}, x)$ and $p_\theta(z_t \mid z_{t+1})$, which two methods compute. `encode` runs once for each $x$ and computes the features of every level, upwards. `inner` goes down by one level. In it, `_predict` calls the network of level $t$, which gives $p_\theta(z_t \mid z_{t+1})$ and, in the deep kind, the tensor to carry down. `_update` computes the message from the features of level $t$ and multiplies by it: it calls `normal_product`, or `evidence_alone`, which returns the message and ignores the prediction. `_join` puts the carried tensor, if there is one, beside $z_t$.

# %% tags=["shown", "nbval-check-output"]
show(HierarchicalVae.encode, HierarchicalVae.inner, docstring=False)

# %% [markdown]
# The bound, the loss, the importance weights and the sampler are the functions of the chapters before, and they work for any number of levels.

# %% tags=["numbers", "nbval-check-output"]
_ = torch.manual_seed(0)
x = torch.bernoulli(torch.full((4, 1, 28, 28), 0.2))
for name, model in {"vae": vae, "ladder": ladder}.items():
    terms = elbo_terms(model, x)
    *film, image = ancestral_sample(model, 4)
    shapes = [tuple(z.shape[1:]) for z in film]
    print(f"{name:7} log-likelihood {tuple(terms.log_likelihood.shape)},", end=" ")
    print(f"KL {tuple(terms.kl.shape)}, sampled from the top: {shapes}")

# %% [markdown]
# **What you can say now.** A new model needs two methods; the bound, its estimate and the sampler are used unchanged.

# %% [markdown]
# (sec-train-ladder)=
# ## Train it yourself
#
# The ladder of {numref}`fig-from-the-top` comes with the book. Here a new one is trained by the same recipe, on your GPU if there is one. At small scale it takes only the first steps, at most 20 seconds on two cores, with the recipe's learning rates compressed into them. At full scale it takes all of them: ask for it with `train_it("hvae-mnist", "full")`.

# %%
print(cost("hvae-mnist"))

# %%
mine = watch(train_it("hvae-mnist"))

# %% tags=["held", "nbval-check-output"]
first, last = torch.tensor(mine.losses).unfold(0, 20, 20)[[0, -1]].mean(1)
print("the loss fell by more than a tenth:", bool(last < 0.9 * first))

# %% [markdown]
# While it runs, a figure shows the loss of each step and eight draws of the model. If you set `MINE` to `True`, the rest of the chapter uses your weights instead of the shipped ones. With weights from a short training, expect worse images, and failures of checks that make claims about the fully trained model.

# %% tags=["nbval-check-output"]
MINE = False  # True: from here on the chapter uses your weights
if MINE:
    use("hvae-mnist", mine.model)
    ladder = pretrained("hvae-mnist")
print("weights of hvae-mnist:", "yours" if MINE else "the shipped ones")

# %% [markdown]
# (sec-ladder-digits)=
# ## Five levels on digits
#
# Does the ladder describe digits better than the VAE of chapter 6, and why? Both were trained on the same digits, binarized in the same way. Their {doc}`cards </book/models>` report the test likelihood on all 10,000 test digits, estimated by $L_K$ with $K$ draws. (More draws can only raise the estimate, on average {eq}`eq-k-sample-order`.)

# %% tags=["mnist"]
for name, card in zip(("one level", "five levels"), cards, strict=True):
    value = f"{card.metric_value:.2f} +- {card.metric_se:.2f}"
    print(f"{name:11} {card.metric}: {value}")
    print(f"{'':11} parameters: {card.num_parameters:,}")
assert cards[1].metric_value < cards[0].metric_value - 1

# %% [markdown]
# The ladder also has over four times as many parameters, batch normalization, warm-up and free bits, and another learning rate. So this compares two recipes, with one training each, and not the number of levels alone.
#
# Most of each standard error comes from the digits, some of which are hard for every model. The differences on the *same* binarized digits vary much less, so 300 digits and 50 draws for each are enough.

# %% tags=["numbers"]
_ = torch.manual_seed(0)
x = binarize(test.images[:300])
one, five = (log_likelihood(model, x, 50) for model in (vae, ladder))
gain = five - one
for name, values in {"one level": one, "five levels": five, "gain": gain}.items():
    error = values.std() / len(values) ** 0.5
    print(f"{name:11} {values.mean():7.2f} +- {error:.2f} nats")

# %% [markdown]
# Which of the two gaps has closed? The first is the distance from the bound to the likelihood. To measure it, we compute the bound of both models on all test digits and compare it with the estimates of $\log p(x)$ on their cards.

# %% tags=["numbers"]
_ = torch.manual_seed(0)
every, first_gap = binarize(test.images).split(2000), {}
for name, model, card in zip(("one", "five"), (vae, ladder), cards, strict=True):
    bound = torch.cat([elbo_terms(model, part).elbo for part in every]).mean()
    first_gap[name] = -card.metric_value - bound.item()
    print(f"{name:5} from the bound to log p(x): at least {first_gap[name]:.2f} nats")
print(f"log p(x) gained: {cards[0].metric_value - cards[1].metric_value:.2f} nats")

# %% tags=["held", "nbval-check-output", "mnist"]
error = gain.std() / len(gain) ** 0.5
print("five levels are better by 5 standard errors:", bool(gain.mean() > 5 * error))
print("the paired error is less than half of one model's:", bool(error < one.std() / 300**0.5 / 2))
change = abs(first_gap["five"] - first_gap["one"])
gained = cards[0].metric_value - cards[1].metric_value
print("the change of the gap is less than a quarter of the gain:", change < gained / 4)

# %% [markdown]
# The bound of the ladder is only about half a nat closer to $\log p(x)$ than that of the VAE, a tenth of the gain. So most of the gain of this pair is in the second gap, between model and data; these numbers do not show that five levels have a much better posterior. ($L_K$ is itself a lower bound, so both distances are lower bounds on the first gap. The cards have 5000 draws for the VAE and 1000 for the ladder.)
#
# On which levels are the nats spent? The chart shows the KL divergences {eq}`eq-kl-levels`.

# %% tags=["figure", "mnist"] mystnb={"image": {"alt": "Five bars, one for each level. The first, next to the image, is the highest, the second about two thirds of it. The three upper ones are much lower, and none is zero."}, "figure": {"caption": "KL divergence at each level of the ladder, mean over 2000 test digits. All levels are active; the lowest spends most.", "name": "fig-kl-per-level"}}
_ = torch.manual_seed(0)
x = binarize(test.images[:2000])
terms = elbo_terms(ladder, x)
plots.kl_per_level(terms)

# %% [markdown]
# All five levels of {numref}`fig-kl-per-level` are active. In numbers:

# %%
levels = terms.kl.mean(0)
print("nats at levels 1 to 5:", ", ".join(f"{value:.2f}" for value in levels))
print(f"above level 1: {100 * levels[1:].sum() / levels.sum():.0f} percent")

# %% tags=["held", "nbval-check-output", "mnist"]
print("no level is inactive (more than 0.5 nats each):", bool((levels > 0.5).all()))
print("level 1 spends more than any other:", int(levels.argmax()) == 0)
print("but no more than two thirds of all:", bool(levels[0] < levels.sum() * 2 / 3))

# %% [markdown]
# **How many units are active?** For one latent, a unit counts as active if its posterior mean varies over the data {cite:p}`burda2016`. On the lower levels of a ladder this criterion misleads: by sharing, the mean of $q(z_t \mid z_{t+1}, x)$ varies with $z_{t+1}$ even if the message is empty. The KL divergence of a unit does not have this flaw, since it is zero for an empty message. We go down the levels as `elbo_terms` does, and count both the units that vary and those that cost something.


# %%
def descend(model, x):
    """Yield t, q and p for each level from the top, at draws of the level above."""
    seen = model.encode(x)
    q, p = model.posterior(*seen), model.prior(len(x))
    yield model.num_latents, q, p
    for t in range(model.num_latents - 1, 0, -1):
        z = q.sample()
        q, p = model.inner(t, z, *seen)
        yield t, q, p


varying, costing = {}, {}
for t, q, p in descend(ladder, x):
    varying[t] = q.mean.var(0) > 0.01
    costing[t] = kl_divergence(q.base_dist, p.base_dist).mean(0) > 0.01
    counts = f"{varying[t].sum():2} vary, {costing[t].sum():2} cost"
    print(f"level {t}: of {len(varying[t]):2} units {counts}")

# %% tags=["held", "nbval-check-output", "mnist"]
print("top level, as in chapter 6:", active_units(ladder, x).num_active == int(varying[5].sum()))
three = [torch.cat([kind[t] for t in (2, 3, 4)]).float().mean() for kind in (varying, costing)]
print("levels 2 to 4: nearly all units vary:", bool(three[0] > 0.9))
print("and fewer than half cost anything:", bool(three[1] < 0.5))

# %% [markdown]
# **What you can say now.** In one training of each, the five-level recipe gains about five nats over the one-level recipe, mostly by a better model and not by a tighter bound. On shared levels, count units by their KL divergence.
#
# *Sources: A32.*

# %% [markdown]
# (sec-how-many-levels)=
# ## How much does each level gain?
#
# To see what the *levels* do, two more ladders were trained by the recipe of the large one, with one level of 64 latents, or with two, of 64 and 32. (The networks shrink with the levels, so the large one has more parameters.) Their weights are not shipped, but a record of an estimate of $-\log p(x)$, by $L_{100}$, for each of the 10,000 test digits, binarized in the same way for all. `python -m companion train hvae2-mnist` trains the model of two levels again, and the command in the table measures it, given the folder of the weights.

# %% tags=["numbers", "mnist"]
names = {1: "hvae1-mnist", 2: "hvae2-mnist", 5: "hvae-mnist"}
nats = {}
for num_levels, name in names.items():
    record, card = load_record(f"{name}-values")
    nats[num_levels] = record["values"].double()
    value, error = nats[num_levels].mean(), nats[num_levels].std() / 100
    print(f"levels: {num_levels}   nats: {value:.2f} +- {error:.2f}")
    print(f"   {card.command}")

# %% [markdown]
# The differences, digit by digit:

# %%
steps = {(1, 2): nats[1] - nats[2], (2, 5): nats[2] - nats[5]}
for (few, more), gain in steps.items():
    print(f"{more} levels instead of {few}:", end=" ")
    print(f"{gain.mean():.2f} +- {gain.std() / len(gain) ** 0.5:.2f} nats better")

# %% tags=["held", "nbval-check-output"]
for (few, more), gain in steps.items():
    sure = bool(gain.mean() > 5 * gain.std() / len(gain) ** 0.5)
    print(f"{more} levels better than {few}, by 5 errors of the digits: {sure}")
share = steps[2, 5].mean() / steps[1, 2].mean()
print("three more add less than half of what the second did:", bool(share < 0.5))

# %% [markdown]
# The standard errors cover only the choice of the test digits. How much does such a training vary with its seed? The models of one level and of two were trained a second time, by the same recipe from another seed.

# %% tags=["mnist"]
second = {n: load_record(f"{names[n]}-2-values")[0]["values"].double() for n in (1, 2)}
for num_levels, again in second.items():
    shift = again - nats[num_levels]
    print(f"levels: {num_levels}   another seed: {again.mean():.2f} nats,", end=" ")
    print(f"{shift.mean():+.2f} +- {shift.std() / 100:.2f} against the first")

# %% tags=["nbval-check-output"]
means = {n: [values.mean() for values in (nats[n], second.get(n, nats[n]))] for n in names}
shifts = [abs(first - again) for first, again in means.values()]
print("another seed changes less than a third of a nat:", bool(max(shifts) < 1 / 3))
print("least gain of the second level, over the seeds:", end=" ")
print(f"{min(means[1]) - max(means[2]):.1f} nats")
print(f"of three more: {min(means[2]) - max(means[5]):.1f} nats")

# %% [markdown]
# A second seed changes a tenth of a nat or less, and the gains are larger than that: about three nats by the second level, and about one by the next three together, of which there is one training. (In the short trainings of the next section the seed matters more: without warm-up, the bound has a standard deviation of more than half a nat.) {cite:t}`burda2016` gained 1.4 nats by a second level, without warm-up and with other networks.
#
# **Is it the model or the bound that stops here?** The ladder was trained on the bound, which is the log-likelihood minus the KL divergence of $q$ from the posterior {eq}`eq-elbo-gap`, so a model with a lower likelihood can have the higher bound. As in {ref}`chapter 6 <sec-test-likelihood>`, the training went on from the shipped weights of the five levels for 24 epochs on the tighter bound $L_K$ {eq}`def-k-sample-bound`, here with $K = 10$, and as a control for 24 epochs on the bound itself, $K = 1$. There is again one training of each.

# %% tags=["mnist"]
tighter = {K: load_record(f"{name}-hvae-mnist-values")[0] for K, name in ((1, "iw1"), (10, "iw"))}
later = {K: nats[5] - record["values"].double() for K, record in tighter.items()}
for K, gain in later.items():
    print(f"24 more epochs, K = {K:2}: {gain.mean():+.3f} +- {gain.std() / 100:.3f} nats better")
print(f"nats after those with K = 10: {tighter[10]['values'].mean():.2f}")

# %% tags=["held", "nbval-check-output"]
by_bound = later[10] - later[1]
print("K = 10 better than K = 1, by 5 errors:", bool(by_bound.mean() > by_bound.std() / 20))
print("more epochs alone gain less than a tenth of a nat:", bool(later[1].mean() < 0.1))
print("a tighter bound gains less than a nat:", bool(by_bound.mean() < 1))

# %% [markdown]
# With $K = 10$ the same networks reach a likelihood that is about half a nat better; as many epochs on the bound itself change next to nothing. (With ten draws an epoch also computes ten times as much.) With ten draws the bound is not yet tight, so these trainings do not separate what is left into model and bound.
#
# **What you can say now.** By this recipe a second level gained about three nats, and three more about one, where a second seed changed a tenth of a nat. Further epochs on a tighter bound gained half a nat.
#
# *Sources: A30.*

# %% [markdown]
# (sec-dead-levels)=
# ## When upper levels collapse
#
# The training of a hierarchy can end in *posterior collapse*: the top level becomes inactive {cite:p}`sonderby2016`, which the bound, a single number, does not show. Which part of the recipe prevents it? We vary three: what $q$ depends on, the loss, and normalization. We change one at a time, in hierarchies of three levels with 16, 8 and 4 latents, trained on all digits for six epochs, three times each. The approximate posterior takes one of four forms:
#
# - **independent**: each level depends on $x$ alone, $q(z_1 \mid x)\, q(z_2 \mid x)\, q(z_3 \mid x)$;
# - **sees above**: top-down {eq}`def-top-down`, each level depends on $x$ and a draw of $z_{t+1}$, but takes nothing from $p_\theta$;
# - **bottom-up**: {eq}`def-bottom-up`, as was usual before ladders;
# - **shared**: the product {eq}`def-ladder-posterior`.
#
# Each is trained as it is, with **warm-up**, where the weight of the KL divergences rises from 0 to 1 during the first 30 percent of the steps {cite:p}`sonderby2016`, and with **free bits**, where the first nat on each level costs nothing {cite:p}`kingma2016`, here in the first half of the training only, so that its end is about the bound. The second form differs from a ladder in a single method, which gives posterior and prior of one level:

# %% tags=["shown", "nbval-check-output"]
show(SeesAbove)

# %% tags=["figure"] mystnb={"image": {"alt": "Twelve bars with whiskers in four groups of three. The group of independent levels has no height to speak of, but for half a nat with free bits. The three other groups stand at about half a nat as they are, and above one nat with warm-up and with free bits."}, "figure": {"caption": "KL divergence at the top level: mean of three trainings with its standard error over them. For the bottom-up form it is that of $q(z_3 \\mid z_2)$.", "name": "fig-top-level"}}
record = record_of("levels")
forms, ways = ("independent", "sees above", "bottom-up", "shared"), ("", ", warm-up", ", free bits")
top = {form + way: record.value(form + way, "top") for form in forms for way in ways}
plots.bars(
    {name: value.mean for name, value in top.items()},
    errors={name: value.se for name, value in top.items()},
    value_label="nats at the top level",
    horizontal=True,
)

# %% [markdown]
# **What $q$ depends on.** As they are, the four forms spend 0.00 ± 0.00, 0.46 ± 0.21, 0.64 ± 0.10 and 0.72 ± 0.17 nats at the top ({ref}`experiment <exp-levels>`). The first is inactive at three learning rates and after four times the steps, too. In the three others $q(z_t \mid z_{t+1}, x)$, or its counterpart from below, ties the levels together. So sharing is not needed for an active top: it is enough that $q$ of one level depends on the other.
#
# **Warm-up** raises the bound of all forms, by 2.4 ± 0.4, 2.2 ± 0.4, 2.6 ± 0.6 and 6.4 ± 0.6 nats ({ref}`experiment <exp-levels>`). At the top there are then 0.09 ± 0.09, 1.51 ± 0.15, 1.60 ± 0.10 and 1.64 ± 0.02 nats. The shared form gains most by it; without it, it has the lowest bound of the four.
#
# **Free bits** raise the KL divergence of the top, and the bound by less than the seeds vary ({ref}`experiment <exp-levels>`).
#
# **Does an active top make the better model?** Hardly, in hierarchies as small as these: with warm-up the bounds of the four forms are −101.5 ± 0.1, −101.3 ± 0.1, −101.4 ± 0.1 and −101.7 ± 0.3 nats, although the first has next to nothing at the top ({ref}`experiment <exp-levels>`).
#
# **Normalization.** Without it the shared form loses 44.2 ± 4.5 nats of the bound, and 27.0 ± 3.6 with warm-up; at the top 0.00 ± 0.00 and 0.00 ± 0.00 nats ({ref}`experiment <exp-levels>`). The KL divergence is smaller on the other levels, too.
#
# **What you can say now.** In these small hierarchies the top level collapses where the levels of $q$ are independent, and is active where they depend on each other; warm-up raises the bound. Look at the KL divergence of every level, and do not take an active level for a better model.

# %% [markdown]
# (sec-levels-speak)=
# ## What each level decides
#
# What does level $t$ leave to the levels below? Keep $z_t$ and draw the rest anew. The variance of the image that is still *open* given $z_t$ grows from level to level, by the part that $z_t$ explains and $z_{t+1}$ does not:
#
# $$
# \mathbb{E} \operatorname{Var}(x_j \mid z_{t+1}) = \mathbb{E} \operatorname{Var}(x_j \mid z_t) + \mathbb{E} \operatorname{Var}\big( \mathbb{E}[x_j \mid z_t] \,\big|\, z_{t+1} \big) .
# $$ (eq-open-variance)
#
# This is the law of total variance {eq}`eq-total-variance`, conditional on $z_{t+1}$, and it uses that the chain is Markov: given $z_t$, the image does not depend on $z_{t+1}$.
#
# **Check.** In the linear chain every term is a number. The sum without its second term is rejected.

# %% tags=["check", "nbval-check-output"]
with_above = torch.stack([regress(C, 0, [t + 1])[1] for t in (1, 2)])
given, between = [], []
for t in (1, 2):
    slope, variance = regress(C, 0, [t])
    given.append(variance)
    between.append(slope[0] ** 2 * regress(C, t, [t + 1])[1])
given, between = torch.stack(given), torch.stack(between)
wrong = {"without the means": given}
verify("eq-open-variance", with_above, given + between, exact, rejects=wrong)

# %% [markdown]
# Move the slider. In each row the levels from $t$ upwards are drawn once, and those below anew for each image. With level 5 alone kept, a row still varies between classes; kept down to level 1, all images of a row are the same.


# %% tags=["figure"]
def redraw(z, t):
    """Means of images for latents z of level t, all below drawn anew."""
    for below in range(t - 1, 0, -1):
        z = ladder.inner_prior(below, z).sample()
    return ladder.likelihood(z).mean


_ = torch.manual_seed(1)
*film, _ = ancestral_sample(ladder, 5)  # z_5, ..., z_1 of five descriptions


def kept(t):
    _ = torch.manual_seed(t)
    images = redraw(film[5 - t].repeat_interleave(10, 0), t)
    return plots.image_grid(images, columns=10, tile=0.6)


Slider(
    [5, 4, 3, 2, 1],
    kept,
    description="kept from the top down to level",
    label="{}",
    alt="Five rows of ten digits; levels 5 down to {} are the same within a row",
    start=2,
)

# %% [markdown]
# The share of the pixel variance that is left if level $t$ and all above are kept:

# %% tags=["numbers"]
_ = torch.manual_seed(0)
*many, images = ancestral_sample(ladder, 300)
whole, open_share = images.flatten(1).var(0).sum(), {}
for t in range(5, 0, -1):
    again = redraw(many[5 - t].repeat_interleave(10, 0), t).view(300, 10, -1)
    open_share[t] = (again.var(1).mean(0).sum() / whole).item()
    print(f"kept down to level {t}: {100 * open_share[t]:3.0f} percent is open")

# %% tags=["held", "nbval-check-output", "mnist"]
shares = list(open_share.values())
print("each level closes some of it:", all(u > v for u, v in pairwise(shares)))
print("the top level alone leaves more than half open:", shares[0] > 0.5)

# %% [markdown]
# **A temperature for each level.** In chapter 7 one {term}`temperature` scaled one latent. Here every level has a standard deviation of its own, $p_\theta(z_t \mid z_{t+1}) = \mathcal{N}(\mu_t, s_t^2)$, and may get its own $\tau_t$: draw $z_t = \mu_t + \tau_t s_t \varepsilon$. The editor has one for the three upper levels and one for the two next to the image, with the same noise $\varepsilon$ at all positions.


# %% tags=["figure"]
def tempered(noise, tau):
    """Means of images, made of given noise with a temperature for each level."""
    z = tau[5] * noise[5]
    for t in range(4, 0, -1):
        p = ladder.inner_prior(t, z)
        z = p.mean + tau[t] * p.stddev * noise[t]
    return ladder.likelihood(z).mean


def noise_for(num):
    return {t: torch.randn(num, *shape) for t, shape in enumerate(ladder.latent_shapes, 1)}


_ = torch.manual_seed(4)
noise = noise_for(12)


def two_temperatures(upper, lower):
    images = tempered(noise, {t: upper if t > 2 else lower for t in range(1, 6)})
    return images[:, 0].view(2, 6, 28, 28).transpose(1, 2).reshape(56, 168)


stops = [0.0, 0.4, 0.7, 1.0, 1.3]
Editor(
    {"upper levels": stops, "lower levels": stops},
    two_temperatures,
    alt="Twelve digits with temperature {} on levels 3 to 5 and {} on levels 1 and 2",
    start=(3, 3),
)

# %% [markdown]
# For these twelve draws, with the upper levels at 0 only a few kinds of digits are left, as ragged as before. With the lower levels at 0, twelve different digits remain, with plainer strokes.
#
# What does the noise of a single level do? In each row of the film below, one level's noise moves once around a circle, $\varepsilon_t \cos a + \tilde\varepsilon_t \sin a$ with two independent draws. It is standard Gaussian at every angle $a$, so every frame shows samples of the model. The noise of all other levels stays as it is.


# %% tags=["figure"]
_ = torch.manual_seed(8)
here, across = noise_for(8), noise_for(8)


def one_level_turned(angle):
    """Eight samples for each level from the top down, with that level's noise at the angle."""
    a, rows, tau = math.radians(angle), [], dict.fromkeys(range(1, 6), 1.0)
    for t in range(5, 0, -1):
        turned = math.cos(a) * here[t] + math.sin(a) * across[t]
        rows.append(tempered(here | {t: turned}, tau))
    return make_grid(torch.cat(rows), nrow=8, pad_value=1)[0]


Film(
    range(0, 360, 9),
    one_level_turned,
    description="angle of the noise",
    alt="Five rows of eight digits; in the rows from top to bottom the noise of level 5, 4, 3, 2, 1 is turned by {} degrees",
    label="{}",
    start=10,
)

# %% [markdown]
# In the first row of this film most digits turn into others. The levels between change the slant, the width and the shape of the strokes, and now and then the digit. In the last row hardly more than the edges of the strokes move.

# %% tags=["held", "nbval-check-output", "mnist"]
one, other = noise_for(500), noise_for(500)
ones = dict.fromkeys(range(1, 6), 1.0)
changed = [tempered(one | {t: other[t]}, ones) - tempered(one, ones) for t in range(1, 6)]
moved = torch.stack([change.square().mean() for change in changed])
print("a new draw at the top changes the image most:", bool(moved[4] == moved.max()))
print(
    "one at the bottom least, by more than a factor of two:", bool(moved[0] < moved[1:].min() / 2)
)

# %% [markdown]
# What do the temperatures do to the quality? We take black-and-white images, drawn from the tempered means, and compute their bound under another model, the VAE of chapter 6. (The bound is a code length and {ref}`no proof of quality <sec-anomalies>`; it favors plain images. So compare with what test digits get.) The sum of the variances of the pixels measures the variety. The four rows use the same noise.

# %% tags=["numbers"]
_ = torch.manual_seed(0)
noise_of_many, vae_bounds, variety = noise_for(2000), {}, {}
for name, (upper, lower) in {
    "as it is": (1.0, 1.0),
    "upper cooled": (0.5, 1.0),
    "lower cooled": (1.0, 0.5),
    "all cooled": (0.5, 0.5),
}.items():
    tau = {t: upper if t > 2 else lower for t in range(1, 6)}
    images = tempered(noise_of_many, tau)
    variety[name] = images.flatten(1).var(0).sum().item()
    vae_bounds[name] = elbo_terms(vae, torch.bernoulli(images)).elbo
    print(f"{name:12} variety {variety[name]:.1f}, bound {vae_bounds[name].mean():.1f}")
print(f"test digits: bound {elbo_terms(vae, x).elbo.mean():.1f}")


# %% tags=["nbval-check-output", "mnist"]
def in_errors(name):
    """How the bound of the VAE differs from that of the model as it is."""
    change = vae_bounds[name] - vae_bounds["as it is"]
    return change.mean() / (change.std() / len(change) ** 0.5)


left = {name: value / variety["as it is"] for name, value in variety.items()}
one_half = min(left["upper cooled"], left["lower cooled"])
print("cooling one half of the levels costs little variety:", one_half > 0.94)
print("cooling both costs more:", left["all cooled"] < one_half)
print("lower levels cooled: better by 5 errors:", bool(in_errors("lower cooled") > 5))
print("upper levels cooled: worse by 5 errors:", bool(in_errors("upper cooled") < -5))

# %% [markdown]
# For these draws the bound rises with the lower levels cooled, and falls with the upper ones cooled.
#
# Two judges of digits say the same of this ladder, and of two others ({ref}`experiment <exp-level-temperatures>`). Over three seeds of the noise 8.5 ± 0.4 % of its draws are not recognized as a digit, 0.8 ± 0.3 % with the lower levels at half the temperature, 12.0 ± 1.4 % with the upper ones and 1.1 ± 0.5 % with all; of the {ref}`convolutional ladder <sec-conv-ladder>` it is 26.1 ± 0.4, 14.6 ± 0.2, 28.5 ± 0.6 and 12.0 ± 0.9 %, and of a ladder of three levels, trained briefly with three seeds, 39.0 ± 2.6, 27.4 ± 2.4, 51.5 ± 3.8 and 44.1 ± 6.8 %. The number of classes, as the exponential of their entropy, falls from 9.8 ± 0.0 to 8.2 ± 0.0 with cooled upper levels and stays at 9.8 ± 0.0 with cooled lower ones. So in these ladders a low temperature of the lower levels gives more digits, of nearly as many kinds.
#
# A low temperature on either half costs only a few percent of the variety, although the editor shows few kinds of digits with the upper levels at 0. The variance of pixels is a coarse measure: it also counts the strokes.
#
# **From the top, in numbers.** {numref}`fig-from-the-top` showed reconstructions from the top $k$ levels. Each level that is inferred from the image costs nats and lowers the error, so the ladder is a progressive code, with a coarse description first. The nats {eq}`eq-kl-levels` are those of a *draw* from $q$, so the levels inferred from the image are drawn here, while the others stay at their mean. Over 2,000 test digits:

# %% tags=["figure", "mnist"] mystnb={"image": {"alt": "A falling curve of six points: the squared error of a reconstruction against the nats spent so far. It falls steeply for the first few nats of the upper levels and then more slowly to the last point."}, "figure": {"caption": "Squared error of a drawn reconstruction against the nats spent on it: the first nats lower the error most. From left to right: no level, level 5, levels 5 and 4, and so on down.", "name": "fig-progressive"}}
_ = torch.manual_seed(0)
errors = [
    (from_the_top(x, k, draw=True) - x).square().flatten(1).sum(1).mean().item()
    for k in (6, 5, 4, 3, 2, 1)
]
spent = [0.0, *levels.flip(0).cumsum(0).tolist()]
fig, (axes,) = plots.figure()
_ = plots.curves(
    {"descriptions": (spent, errors)},
    x_label="nats spent, from the top",
    y_label="squared error",
    axes=axes,
)
_ = axes.plot(spent, errors, "o", color="#0072b2")
fig

# %% [markdown]
# The curve of {numref}`fig-progressive` falls at every point. How steeply?

# %% tags=["held", "nbval-check-output", "mnist"]
print("each level lowers the error:", all(u > v for u, v in pairwise(errors)))
slopes = [
    (u - v) / (k - j) for (u, v), (j, k) in zip(pairwise(errors), pairwise(spent), strict=True)
]
print("a nat buys the most at the top level:", slopes[0] == max(slopes))
print("and the least at level 1:", slopes[-1] == min(slopes))

# %% [markdown]
# In this ladder the first nats lower the error most. A diffusion model has such a curve too, with a point for each of its many steps.
#
# **What you can say now.** In this ladder a new draw of the top level changes the image most, and one of the lowest level least. Each level has its own temperature and its own KL divergence.
#
# *Sources: A33.*

# %% [markdown]
# (sec-deep-ladders)=
# ## Many more levels
#
# How far does the idea reach? Two models made hierarchies deep enough for photographs. Both are the chain of this chapter, with latents that are feature maps, many at each resolution, the coarse ones at the top.
#
# - **NVAE** {cite:p}`vahdat2020` designs networks for such depth: residual cells with depthwise convolutions, batch normalization, and a penalty on the largest singular values of the weights, to keep the KL divergences bounded. Its authors' program trains for 21 hours on two V100 cards, on MNIST.
# - **VDVAE** {cite:p}`child2021` goes deeper with plainer parts: small residual blocks whose initial contribution shrinks with the depth of the network, no batch normalization, and no updates with too large a gradient. The paper argues that deep hierarchies contain autoregressive models as a special case, and may be much shorter. Its repository reports 2.87 bits per dimension for CIFAR-10 photographs, with 39 million parameters and less than a week on two such cards.
#
# In both, the message depends on the levels above, as the {ref}`skip connection <sec-ladder-exact>` requires. And NVAE writes $q$ *relative* to the prediction $\mathcal{N}(\mu, s^2)$, as a shift $\Delta$ and a factor $f$: $q = \mathcal{N}(\mu + \Delta,\, s^2 f^2)$. Then the KL divergence depends on the correction alone, with $\Delta$ measured in units of $s$:
#
# $$
# D_{\mathrm{KL}}(q \,\Vert\, p) = \frac12 \Big( \frac{\Delta^2}{s^2} + f^2 - 1 - \log f^2 \Big) .
# $$ (eq-residual-kl)
#
# The product {eq}`eq-normal-product` is a special case, $\Delta = w (m - \mu)$ and $f^2 = 1 - w$. It can only narrow the prediction; the relative form can also widen it. In both, a level without a correction costs nothing.
#
# **Check.** The formula is compared with the KL divergence of the two Gaussians. The factor $f$ in place of its square is rejected, and a shift that is not in units of $s$.

# %% tags=["check", "nbval-check-output"]
_ = torch.manual_seed(0)
mean, m, log_lam = torch.randn(3, 20, 1).double()
sd = torch.rand(20, 1).double() + 0.2
p = diagonal_normal(mean, sd)
q = normal_product(p, m, log_lam)
w = torch.sigmoid(log_lam + 2 * sd.log())
free_shift, free_factor = torch.randn(20, 1).double(), torch.rand(20, 1).double() + 0.5
relative = diagonal_normal(mean + free_shift, sd * free_factor)


def price(shift, square, unit=sd):
    return 0.5 * ((shift / unit) ** 2 + square - 1 - square.log())[:, 0]


both = torch.stack([kl_divergence(q, p), kl_divergence(relative, p)])
cases = [(w * (m - mean), 1 - w), (free_shift, free_factor**2)]
wrong = {
    "f in the place of its square": torch.stack([price(d, u**0.5) for d, u in cases]),
    "shift not in units of s": torch.stack([price(d, u, 1.0) for d, u in cases]),
}
right = torch.stack([price(d, u) for d, u in cases])
verify("eq-residual-kl", both, right, rejects=wrong)
print("some widen the prediction:", bool((free_factor > 1).any()))

# %% [markdown]
# **What you can say now.** Deep hierarchies parameterize $q$ as a correction of $p$, so that a level costs nothing until it is used.

# %% [markdown]
# (sec-conv-ladder)=
# ## A small one on digits
#
# The companion's `conv_ladder` is built like these, with four levels and about a hundredth of the parameters. At the top is a vector, below it are two maps at a quarter of the image's side, and one at half of it, next to the image. A tensor carries all that was decided above down beside the latents, and each message depends on it.

# %% tags=["nbval-check-output"]
deep, deep_card = pretrained("conv-hvae-mnist"), read_card("conv-hvae-mnist")
for t, shape in enumerate(deep.latent_shapes, 1):
    print(f"level {t}: {math.prod(shape):4} latents, shape {tuple(shape)}")
print(f"parameters: {deep_card.num_parameters:,}")
fewer = deep_card.num_parameters < 0.2 * cards[1].num_parameters
print("fewer than a fifth of those of the five levels:", fewer)

# %% [markdown]
# Its loss is `elbo_loss`, with free bits in the first half and a warm-up, as for the large ladder. It was trained for 40 epochs on one core of a CPU, the ladders above for 250. A convolution applies the same few weights at every position, so there is little to store and much to compute, also for importance weights: the record has the first 2,000 test digits only. On these digits, binarized as for the other records, and by the same $L_{100}$:

# %% tags=["numbers", "mnist"]
record, _ = load_record("conv-hvae-mnist-values")
deep_nats = record["values"].double()
print(f"conv ladder nats: {deep_nats.mean():.2f} +- {deep_nats.std() / 2000**0.5:.2f}")
lead = {n: nats[n][:2000] - deep_nats for n in nats}
for n, gain in lead.items():
    error = gain.std() / 2000**0.5
    value = f"{nats[n][:2000].mean():.2f}, minus conv ladder: {gain.mean():5.2f}"
    print(f"levels: {n}   nats: {value} +- {error:.2f}")
print(f"trained for {deep_card.minutes:.0f} minutes on {deep_card.device}")

# %% tags=["held", "nbval-check-output"]
sure = {n: (g.mean() / (g.std() / 2000**0.5)).item() for n, g in lead.items()}
print("better than one, two and five levels, by 5 errors:", min(sure.values()) > 5)
print("below 81 nats:", bool(deep_nats.mean() < 81))

# %% [markdown]
# With less than a fifth of the parameters of the five levels, and less than a fifth of their epochs, this training of the convolutional ladder ends below all of them. (There are two trainings each of the ladders with one and with two levels, and one of each of the others.) A [public program](https://github.com/addtt/ladder-vae-pytorch) with three convolutional levels reports 79.5 nats by $L_{100}$, on digits that were binarized once and for all, with about a million parameters for each level. Ours has fewer parameters. Does it use all of its levels?

# %% tags=["figure", "mnist"] mystnb={"image": {"alt": "Four bars, one for each level, all of them tall: about five nats at level 1, next to the image, growing to about ten at level 4, the vector."}, "figure": {"caption": "KL divergence at each level of the convolutional ladder, mean over 1000 test digits.", "name": "fig-kl-conv"}}
_ = torch.manual_seed(0)
deep_terms = elbo_terms(deep, binarize(test.images[:1000]))
plots.kl_per_level(deep_terms)

# %% [markdown]
# All four levels of {numref}`fig-kl-conv` are active. In numbers:

# %%
spent_deep = deep_terms.kl.mean(0)
for t, value in enumerate(spent_deep, 1):
    print(f"level {t}: {value:5.2f} nats")

# %% tags=["held", "nbval-check-output", "mnist"]
print("every level spends more than a nat:", bool((spent_deep > 1).all()))

# %% [markdown]
# In smaller trainings this takes batch normalization in the blocks of the ladder. We trained it with and without, on digits of $16 \times 16$ pixels, three times each ({ref}`experiment <exp-conv-levels>`). After three epochs the three maps hold 0.2 ± 0.0, 3.7 ± 0.6 and 2.9 ± 0.7 nats with normalization, and 0.0, 0.0 and 0.0 without it. Could warm-up and free bits replace it? With both, and twice the steps, they hold 5.1 ± 0.4, 1.3 ± 0.2 and 1.1 ± 0.1 nats, against 0.0, 0.0 and 0.0; all information is then in the vector, 7.5 ± 0.1 nats, and the bound is 1.8 ± 0.2 nats lower.
#
# Why the maps need it, these trainings do not say. The layers of `mlp_ladder` are normalized, too. NVAE also balances the KL divergences of its levels while it warms up {cite:p}`vahdat2020`.
#
# A level may spend nats and change nothing that can be seen. To see what the two middle maps do, we draw them twice, with the same vector and the same noise for the finest map.


# %%
def with_new_middle(vectors, noise):
    """Means of images: the two middle maps drawn anew, the finest from given noise."""
    above = vectors
    for t in (3, 2):
        above = deep.inner_prior(t, above).sample()
    finest = deep.inner_prior(1, above)
    return deep.likelihood(finest.mean + finest.stddev * noise).mean


_ = torch.manual_seed(0)
vectors, noise = torch.randn(200, 8), torch.randn(200, 4 + 32, 14, 14)  # 32 are carried
draws = torch.stack([with_new_middle(vectors, noise) for _ in range(2)])
by_middle = (draws[0] - draws[1]).square().mean() / 2 / draws.var(1).mean()
print(f"variance that the two maps make: {by_middle:.0%}")

# %% tags=["held", "nbval-check-output", "mnist"]
print("they make more than a tenth of the variance:", bool(by_middle > 0.1))

# %% [markdown]
# What does each part decide? Each column below has one draw of the vector; the rows draw all maps anew.

# %% tags=["figure"] mystnb={"image": {"alt": "Three rows of ten digits. Down each column slant, weight and overall form stay the same. Most columns keep their digit; in a few it becomes another one, such as a 5 that becomes a 6."}, "figure": {"caption": "Draws of the convolutional ladder. The digits of a column share the vector at the top, those of a row share nothing. The vector sets slant, weight and overall form; the maps draw the strokes, and may close a loop.", "name": "fig-conv-samples"}}
_ = torch.manual_seed(0)


def below_vector(z):
    """Means of images for vectors of the top level, all maps drawn anew."""
    for t in range(deep.num_latents - 1, 0, -1):
        z = deep.inner_prior(t, z).sample()
    return deep.likelihood(z).mean


vectors = torch.randn(10, 8)
plots.image_rows({f"draw {k}": below_vector(vectors) for k in (1, 2, 3)}, tile=0.7)

# %% [markdown]
# In {numref}`fig-conv-samples` the overall form stays the same down a column, and the strokes vary. To measure this, we make two draws below each of 500 vectors. Which part of the pixel variance comes from the maps, and how often does a classifier of digits, which chapter 10 will need too, see two different digits?

# %% tags=["numbers"]
classifier = pretrained("classifier-mnist")
_ = torch.manual_seed(0)
vectors = torch.randn(500, 8)
draws = torch.stack([below_vector(vectors) for _ in range(2)])
by_maps = (draws[0] - draws[1]).square().mean() / 2 / draws.var(1).mean()
of_digit = [classifier(images).argmax(1) for images in draws]
other = (of_digit[0] != of_digit[1]).double().mean()
print(f"variance that the maps make: {by_maps:.0%}, another digit: {other:.0%}")

# %% tags=["held", "nbval-check-output"]
print("the maps make less than half of the variance:", bool(by_maps < 0.5))
print("but they change more than a fifth of the digits:", bool(other > 0.2))

# %% [markdown]
# So in this ladder the vector determines most of the pixel variance, but not always which digit it is.
#
# **What you can say now.** A hierarchy can have an inactive level anywhere; the chart of KL divergences shows it, and the bound does not. In small trainings of the convolutional ladder the maps were active with normalized blocks only; warm-up and free bits did not replace them.
#
# *Sources: A33.*

# %% [markdown]
# (sec-to-diffusion)=
# ## Fix the encoder
#
# In this chapter $q$ and $p$ were learned at the same time, and levels collapsed. There is a way to rule that out: do not learn $q$ at all.
#
# Make all levels as large as the image. Let each step of $q$ shrink the image a little and add a little noise, $q(z_t \mid z_{t-1}) = \mathcal{N}(\sqrt{\alpha}\, z_{t-1}, 1 - \alpha)$, until nothing of the image is left at the top. No level can collapse, because nothing that is learned decides what it holds. By {eq}`eq-reversal` this bottom-up chain is a top-down one, so `elbo_terms` applies, and only $p_\theta$ is left to learn: the steps down.
#
# Our solvable chain can show this. Take data $x \sim \mathcal{N}(0, 4)$ and fifty steps of noise. The best steps of $p$ are regressions of $z_t$ on $z_{t+1}$. `LinearChain` and `regress` serve as before.

# %% tags=["serves"]
T, alpha = 50, 0.9
noise_variance = torch.full((T + 1,), 1 - alpha, **double)
noise_variance[0] = 4.0  # of the data
C = linear_covariance(torch.diag(torch.full((T,), alpha**0.5, **double), -1), noise_variance)
down = [regress(C, t, [t + 1]) for t in range(T)]
a = torch.stack([slope[0] for slope, _ in down])
s = torch.stack([variance**0.5 for _, variance in down])
chain = LinearChain(a, s, C)
_ = torch.manual_seed(0)
x = 2 * torch.randn(2000, 1, **double)
terms = elbo_terms(chain, x)

# %% tags=["figure"] mystnb={"image": {"alt": "Fifty bars of KL divergence per level: tiny at the upper levels on the right, growing towards level 1 on the left. The last bar, at level 50, is small but taller than its neighbors."}, "figure": {"caption": "A hierarchy of fifty levels with a fixed encoder: the KL divergence at each level grows towards the data.", "name": "fig-fifty-levels"}}
plots.kl_per_level(terms)

# %% [markdown]
# In {numref}`fig-fifty-levels` the top levels, which hold nearly pure noise, have a KL divergence of nearly zero; most of the nats are near the data. (The last bar stands out a little, because $q(z_T \mid x)$ still keeps a trace of $x$ and the prior does not.) How large is the gap? We compare importance weights, as in {eq}`eq-chain-exact`, with the log-density of the data distribution.

# %% tags=["held", "nbval-check-output"]
gap = Normal(0.0, 2.0).log_prob(x)[:, 0] - sample_log_weights(chain, x, 1)[0]
error = gap.std() / len(gap) ** 0.5
print("gap below 0.01 nats:", bool(gap.mean().abs() + 5 * error < 0.01))
at_top = kl_divergence(Normal(0.0, C[T, T] ** 0.5), Normal(0.0, 1.0))
print("as large as the KL of the top alone:", bool((gap.mean() - at_top).abs() < 5 * error))

# %% [markdown]
# The gap is almost zero. (What is left is the KL divergence of $q(z_T)$, the distribution of the top over all images, from the prior.) Here the data were Gaussian, so linear steps were enough. For images the step down needs a network, and the way up can be done in one draw. That is a {term}`diffusion model`, the subject of the next chapter.
#
# **What you can say now.** Fix the encoder to add noise, make all latents as large as the data, and a hierarchical VAE becomes a diffusion model.

# %% [markdown]
# (sec-hvae-exercises)=
# ## Exercises
#
# Replace the three dots by your answer and run the cell.

# %% tags=["unseen", "nbval-check-output"]
from companion.page.exercises import hierarchical_vae as exercises

# %% [markdown]
# ```{exercise-start} Prediction and message
# :label: ex-product
# ```
# The level above predicts $z_1 \sim \mathcal{N}(0, 1)$. The image's message is $\mathcal{N}(3, \frac12)$, that is, a variance of one half. Give mean and variance of the product.

# %% tags=["answer", "nbval-check-output"]
answer = ...
exercises.check_product(answer)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-product
# :label: ex-product-solution
# :class: dropdown
# ```
# The precisions 1 and 2 add up to 3. The message has two thirds of it {eq}`eq-normal-product`.

# %% tags=["nbval-check-output"]
exercises.check_product((3 * 2 / 3, 1 / 3))

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} How peaked
# :label: ex-peaked
# ```
# For which standard deviation $s$ of $z_2$ does $z_1$ in {eq}`eq-chain-kurtosis` have three times the kurtosis of a Gaussian?

# %% tags=["answer", "nbval-check-output"]
answer = ...
exercises.check_peaked(answer)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-peaked
# :label: ex-peaked-solution
# :class: dropdown
# ```
# Solve $e^{4 s^2} = 3$.

# %% tags=["nbval-check-output"]
exercises.check_peaked((math.log(3) / 4) ** 0.5)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Turn a step around
# :label: ex-turn-around
# ```
# A bottom-up chain has $q(z_1 \mid x) = \mathcal{N}(r x, 1 - r^2)$ and $q(z_2 \mid z_1) = \mathcal{N}(r z_1, 1 - r^2)$. Write mean and variance of $q(z_1 \mid z_2, x)$, as a pair. (The next chapter needs it.)


# %% tags=["answer", "nbval-check-output"]
def turned_around(r, x, z_2):
    return ...


exercises.check_turned_around(turned_around)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-turn-around
# :label: ex-turn-around-solution
# :class: dropdown
# ```
# By {eq}`eq-reversal` it is a product of two Gaussians in $z_1$: $\mathcal{N}(r x, 1 - r^2)$, and $q(z_2 \mid z_1)$ read as a function of $z_1$, which has its center at $z_2 / r$ and the precision $r^2 / (1 - r^2)$. Precisions add up to $(1 + r^2) / (1 - r^2)$.


# %% tags=["nbval-check-output"]
def turned_around(r, x, z_2):
    return r * (x + z_2) / (1 + r**2), (1 - r**2) / (1 + r**2)


exercises.check_turned_around(turned_around)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} The price of a level
# :label: ex-level-price
# ```
# On one level of a chain $q(z_1 \mid z_2, x) = \mathcal{N}(b z_2 + o, v)$ and $p(z_1 \mid z_2) = \mathcal{N}(a z_2, s^2)$. Under $q(z_2 \mid x)$, $z_2$ has mean `m` and variance `V`. Write the mean KL divergence that {eq}`eq-kl-levels` charges for the level; `s2` is $s^2$.


# %% tags=["answer", "nbval-check-output"]
def level_price(a, s2, b, o, v, m, V):
    return ...


exercises.check_level_price(level_price)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-level-price
# :label: ex-level-price-solution
# :class: dropdown
# ```
# The means differ by $(b - a) z_2 + o$, and the mean of its square is the square of its mean plus its variance.


# %% tags=["nbval-check-output"]
def level_price(a, s2, b, o, v, m, V):
    square = ((b - a) * m + o) ** 2 + (b - a) ** 2 * V
    return 0.5 * (v / s2 - 1 - math.log(v / s2) + square / s2)


exercises.check_level_price(level_price)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} What free bits charge
# :label: ex-charged
# ```
# `kl` has the shape (batch, levels). With free bits, each level is charged its mean over the batch, but never less than `free` nats. Write the total charge, a number.


# %% tags=["answer", "nbval-check-output"]
def charged(kl, free):
    return ...


exercises.check_charged(charged)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-charged
# :label: ex-charged-solution
# :class: dropdown
# ```
# First the mean, then the floor. A floor for each example would be another method.


# %% tags=["nbval-check-output"]
def charged(kl, free):
    return kl.mean(0).clamp(min=free).sum()


exercises.check_charged(charged)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Two temperatures
# :label: ex-two-dials
# ```
# In a chain with $z_2 \sim \mathcal{N}(0, 1)$ and $z_1 \mid z_2 \sim \mathcal{N}(a z_2, s^2)$, level 2 is drawn at temperature `tau_2` and level 1 at `tau_1`. What is the variance of $z_1$?


# %% tags=["answer", "nbval-check-output"]
def tempered_variance(a, s2, tau_1, tau_2):
    return ...


exercises.check_tempered_variance(tempered_variance)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-two-dials
# :label: ex-two-dials-solution
# :class: dropdown
# ```
# $z_1 = a \tau_2 \varepsilon_2 + \tau_1 s \varepsilon_1$, and variances add up. One temperature for all levels scales this toy as a whole; two change its character.


# %% tags=["nbval-check-output"]
def tempered_variance(a, s2, tau_1, tau_2):
    return (a * tau_2) ** 2 + tau_1**2 * s2


exercises.check_tempered_variance(tempered_variance)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Repair the ladder
# :label: ex-repair
# ```
# In the chain with a skip {eq}`def-skip-chain`, the exact $p(z_1 \mid z_2, x)$ is the product of $p(z_1 \mid z_2)$ with a message that sees $z_2$. Write the mean and the precision of that message, as a pair. As in the code above, `s0` is the variance $s_0^2$.


# %% tags=["answer", "nbval-check-output"]
def message(x, z_2, c, s0):
    return ...


exercises.check_message(message)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-repair
# :label: ex-repair-solution
# :class: dropdown
# ```
# $\mathcal{N}(x; z_1 + c z_2, s_0^2)$, read as a function of $z_1$, has its center at $x - c z_2$ and the variance $s_0^2$.


# %% tags=["nbval-check-output"]
def message(x, z_2, c, s0):
    return x - c * z_2, 1 / s0


exercises.check_message(message)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# (sec-hvae-summary)=
# ## Summary
#
# - A chain of Gaussian steps is a mixture, and not Gaussian if one step sets the scale of the next {eq}`eq-chain-kurtosis`. More levels give the lowest latent a learned prior, and a posterior that need not be Gaussian.
# - Inference may run bottom-up or top-down; a bottom-up chain is also a top-down one {eq}`eq-reversal`. With the exact posterior every draw gives $\log p(x)$ {eq}`eq-chain-exact`.
# - The bound has one KL divergence for each level {eq}`eq-chain-elbo`. `elbo_terms` did not change.
# - A ladder multiplies the model's prediction by a message from the image: precisions add up {eq}`eq-normal-product`. With messages of any form it contains the exact posterior of a Markov chain ({prf:ref}`thm-ladder-exact`), with Gaussian ones that of a linear chain {eq}`eq-ladder-exact`. With a skip connection it misses the posterior by a known gap {eq}`eq-ladder-price`, unless the message depends on the levels above.
# - In our small hierarchies the top collapsed where the levels of $q$ were independent. Levels of $q$ that depend on each other kept it active, by sharing or not, and with free bits it held half a nat without. Warm-up raised the bound of every form, normalization that of the shared one most; an active top by itself did not. In small trainings of the convolutional ladder the maps stayed inactive without batch normalization; in the shipped one, which has it, all levels are active ({numref}`fig-kl-conv`). On shared levels, count units by their KL divergence, not by whether they vary.
# - In the ladder of five levels, a new draw at the top changes the image most, and one at the bottom least. Each level has a temperature of its own; in three ladders a low one on the lower levels gave more digits of nearly as many kinds.
#
# **What the sources say, and where they need care.** One lecture has the top-down $q$, the other the bottom-up one; both are right, and {eq}`eq-reversal` connects them. The KL divergence over levels is printed with a plain $p(z)$ on the left, where most of $p_\theta(z)$ is learned. The rule "$q$ proportional to $p\, d$" is given without a condition; {prf:ref}`thm-ladder-exact` states it, and 0.290 nats are the price in our example. The lecture's picture of faces is of the deep kind, whose messages see the levels above.
#
# **To read next.** {cite:t}`sonderby2016`, the ladder; {cite:t}`kingma2016`, where inference and generation share a path of tensors; {cite:t}`vahdat2020` and {cite:t}`child2021`, deep hierarchies for photographs; {cite:t}`burda2016` on two levels and on inactive units.
