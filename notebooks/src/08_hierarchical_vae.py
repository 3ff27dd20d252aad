# %% [markdown]
# # Hierarchical VAEs
#
# To describe an image over the telephone, you would not start with the first pixel. You would say "a digit", then "a seven", then "slanted, with a bar", and leave the edges of the strokes for last. The VAEs of the last chapters say all of this at once, in one latent. What is gained by levels, each given the one above it, and how are they learned?

# %% tags=["setup", "hide-input"]
# The set-up cell: `make sync` writes it.

# %% tags=["unseen"]
import math
from itertools import pairwise

import torch
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from companion import data
from companion.data import binarize
from companion.distributions import diagonal_normal, evidence_alone, log_normalizer, normal_product
from companion.elbo import elbo_terms, sample_log_weights
from companion.experiments import record_of
from companion.hierarchical_vae import HierarchicalVae
from companion.linear_chain import LinearChain, linear_covariance, regress
from companion.metrics import active_units, log_likelihood
from companion.page import plots
from companion.page.exercises import hierarchical_vae as exercises
from companion.page.live import watch
from companion.page.show import show
from companion.page.sliders import Editor, Slider
from companion.page.verify import exact, monte_carlo, quadrature, verify
from companion.samplers import ancestral_sample
from companion.training import minimize
from companion.zoo import pretrained
from companion.zoo.weights import load_record, read_card
from companion.zoo.yardstick import no_digit_votes
from companion.zoo.yourself import cost, train_it, use

double = {"dtype": torch.double}

# %% tags=["serves"]
_ = torch.manual_seed(0)
test = data.load("mnist", "test")
vae, ladder, deep = (pretrained(f"{name}-mnist") for name in ("vae", "hvae", "conv-hvae"))


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


# %% tags=["figure", "mnist"] mystnb={"image": {"alt": "Six rows of ten images. The first row shows test digits. In the second every image is a plain digit, some of another class than the one above it; further down the images take on the class, the slant and at last the strokes of the first row."}, "figure": {"caption": "Ten digits, described by a model of five levels, with 64 latents next to the image, then 32, 16, 8 and 4. In the second row only the top level is inferred from the digit, and those below take their means; each further row infers one more.", "name": "fig-from-the-top"}}
digits = binarize(test.images[:10])
rows = {f"level{'s' * (k < 5)} 5{f' to {k}' * (k < 5)}": k for k in (5, 4, 3, 2, 1)}
described = {name: from_the_top(digits, k) for name, k in rows.items()}
plots.image_rows({"digit": digits} | described, tile=0.7)

# %% [markdown]
# :::{admonition} The idea
# Draw the latent of a VAE from a distribution that depends on a second latent above it, and that one from a third. Each step stays a simple Gaussian, and together they are not. The bound stays the same, with one KL divergence for each level. But the levels must know of each other in inference, too: where they are inferred independently, the top one can die.
# :::
#
# {numref}`fig-from-the-top` shows such a model.

# %% [markdown]
# (sec-hvae-gap)=
# ## Why one level is not enough
#
# A VAE with one latent can have two gaps, however large its networks are.
#
# 1. **Between the bound and the likelihood.** The approximate posterior $q_\phi(z \mid x)$ is a diagonal Gaussian, and the true posterior need not be one. The difference is the {term}`approximation gap` {eq}`def-two-gaps`.
# 2. **Between the model and the data.** The prior $\mathcal{N}(0, I)$ has nothing to learn. Where the {term}`aggregate posterior` of the codes of images differs from it, the mean bound is lower by the KL divergence between the two {eq}`eq-surgery`, and draws of the prior are not distributed as codes.
#
# A second latent above the first can narrow both. It turns the two Gaussians of $z_1$ into mixtures, with one component for each value of $z_2$:
#
# $$
# \begin{aligned}
# p_\theta(z_1) &= \int p_\theta(z_1 \mid z_2)\, p(z_2)\, \mathrm{d}z_2 , \\
# q_\phi(z_1 \mid x) &= \int q_\phi(z_1 \mid z_2, x)\, q_\phi(z_2 \mid x)\, \mathrm{d}z_2 .
# \end{aligned}
# $$ (def-two-marginals)
#
# Every factor under the integrals may stay a diagonal Gaussian, with a KL divergence in closed form, while the mixture need not be Gaussian, if $z_2$ does more than shift $z_1$ linearly. Nor is the joint $q_\phi$ diagonal: mean and scale of $z_1$ depend on the draw of $z_2$, which couples the levels, and the coordinates of $z_1$. In the smallest example $z_2 \sim \mathcal{N}(0, s^2)$ decides only the scale of $z_1 \mid z_2 \sim \mathcal{N}(0, e^{2 z_2})$. The *kurtosis* of $z_1$ is
#
# $$
# \frac{\mathbb{E}\, z_1^4}{(\mathbb{E}\, z_1^2)^2} = 3\, e^{4 s^2} ,
# $$ (eq-chain-kurtosis)
#
# while every Gaussian has 3 ({numref}`fig-two-steps`).
#
# :::{dropdown} Proof
# For given $z_2$ the moments are $e^{2 z_2}$ and $3\, e^{4 z_2}$, and $\mathbb{E}\, e^{k z_2} = e^{k^2 s^2 / 2}$, so the ratio is $3\, e^{8 s^2} / e^{4 s^2}$. $\square$
# :::
#
# **Check.** Both sides come from integrals over $z_2$ and then over $z_1$ on grids. The kurtosis of a Gaussian is rejected.

# %% tags=["check", "nbval-check-output"]
scale = torch.tensor(0.3, **double)
z_2 = torch.linspace(-3, 3, 601, **double)[:, None]
z_1 = torch.linspace(-80, 80, 8001, **double)
weight = Normal(0.0, scale).log_prob(z_2).exp()
density = torch.trapezoid(weight * Normal(0.0, z_2.exp()).log_prob(z_1).exp(), z_2, dim=0)
second, fourth = (torch.trapezoid(z_1**k * density, z_1) for k in (2, 4))
right = 3 * (4 * scale**2).exp()
gaussian = {"a Gaussian": torch.tensor(3.0, **double)}
verify("eq-chain-kurtosis", fourth / second**2, right, quadrature, rejects=gaussian)

# %% tags=["figure"] mystnb={"image": {"alt": "Two curves over the same axis: the mixture has a higher and narrower peak and heavier tails than the Gaussian of the same variance."}, "figure": {"caption": "Two Gaussian steps, the first of which scales the second, make no Gaussian.", "name": "fig-two-steps"}}
middle = z_1.abs() < 4
plain = Normal(0.0, second.sqrt()).log_prob(z_1).exp()
lines = {"two Gaussian steps": density, "one, of the same variance": plain}
axes = plots.figure(height=2.4)[1][0]
plots.curves(
    {name: (z_1[middle], curve[middle]) for name, curve in lines.items()},
    x_label="$z_1$",
    y_label="density",
    axes=axes,
)

# %% [markdown]
# How much do levels bring on digits? Three models of one, two and five levels were trained by one recipe, the first two also from a second seed. Their mean $-\log p(x)$ on the 10,000 test digits, estimated by $L_{100}$ {eq}`def-k-sample-bound`:

# %% tags=["numbers", "mnist"]
names = {1: "hvae1-mnist", 2: "hvae2-mnist", 5: "hvae-mnist"}
nats = {n: load_record(f"{name}-values")[0]["values"].double() for n, name in names.items()}
again = {n: load_record(f"{names[n]}-2-values")[0]["values"].double() for n in (1, 2)}
means = {n: [values.mean() for values in (nats[n], again.get(n, nats[n]))] for n in names}
for n, values in means.items():
    print(f"levels {n}:", " and ".join(dict.fromkeys(f"{value:.2f}" for value in values)), "nats")
gains = {(1, 2): nats[1] - nats[2], (2, 5): nats[2] - nats[5]}
for (few, more), gain in gains.items():
    error = gain.std() / len(gain) ** 0.5
    print(f"{more} levels instead of {few}: {gain.mean():.2f} ± {error:.2f} nats better")
    assert gain.mean() > 5 * error
assert gains[2, 5].mean() < 0.5 * gains[1, 2].mean()
assert max(abs(first - second) for first, second in means.values()) < 1 / 3

# %% [markdown]
# Here the second level gains about three nats, and three more about one; another seed changes a tenth of a nat. (The ± covers the digits only; the second seeds give 3.36.) Epochs are equal, sizes are not: each level brings latents and networks, which may explain part of the gain. Which gap has closed? The model of five levels is 5.4 nats better than the VAE of chapter 6, which had another recipe and fewer parameters, but its bound is, by these estimates, only about half a nat nearer to $\log p(x)$. So that gain is mostly a better model, not a tighter bound.
#
# :::{depth-start} the gain of five levels is in the model, not in a tighter bound
# :::
# The five levels and the VAE of chapter 6 were trained on the same digits, by two recipes, once each: the ladder has over four times as many parameters, batch normalization, warm-up and free bits. Their {doc}`cards </book/models>` have $-\log p(x)$ by many draws. The bound on all test digits, subtracted from $\log p(x)$, gives a lower bound on the first gap, because $L_K$ is itself a lower bound. (With other networks {cite:t}`burda2016` report 86.76 nats for one level and 85.33 for two.)
#
# The training of the ladder then went on for 130 epochs on $L_{10}$, and as a control for 130 epochs on the bound itself, $K = 1$. (An epoch with ten draws computes ten times as much.)

# %% tags=["numbers", "mnist"]
_ = torch.manual_seed(0)
cards = [read_card("vae-mnist"), read_card("hvae-mnist")]
every, first_gap = binarize(test.images).split(2000), []
for name, model, card in zip(("VAE", "five levels"), (vae, ladder), cards, strict=True):
    bound = torch.cat([elbo_terms(model, part).elbo for part in every]).mean()
    first_gap.append(-card.metric_value - bound.item())
    print(f"{name}: {card.metric}: {card.metric_value:.2f} ± {card.metric_se:.2f}")
    print(f"   from the bound to log p(x): at least {first_gap[-1]:.2f} nats")
later = {K: load_record(f"{name}-hvae-mnist-values")[1] for K, name in ((1, "iw1"), (10, "iw"))}
for K, card in later.items():
    print(f"after 130 more epochs, K = {K:2}: {card.metric_value:.2f} ± {card.metric_se:.2f}")
by_bound = later[1].metric_value - later[10].metric_value
assert 2 * (cards[1].metric_value - later[1].metric_value) < by_bound < 1.5

# %% tags=["held", "nbval-check-output", "mnist"]
gained = cards[0].metric_value - cards[1].metric_value
change = abs(first_gap[0] - first_gap[1])
print("the change of the first gap is less than a quarter of the gain:", change < gained / 4)
_ = torch.manual_seed(0)
x = binarize(test.images[:300])
gain = log_likelihood(ladder, x, 50) - log_likelihood(vae, x, 50)
error = gain.std() / len(gain) ** 0.5
print("on 300 digits, five levels are better by 5 errors:", bool(gain.mean() > 5 * error))

# %% [markdown]
# Most of what further epochs gain needs $L_{10}$ or its ten draws; as many on the bound change little. With ten draws the bound is not yet tight, so this does not separate what is left into model and bound.
#
# :::{depth-end}
# :::

# %% [markdown]
# (sec-hvae-chain)=
# ## Generation runs down; which way does inference run?
#
# Stack $T$ latents, $z_1$ next to the image and $z_T$ at the top. In generation each depends on the one above it:
#
# $$
# p_\theta(x, z_1, \dots, z_T) = p(z_T) \prod_{t=1}^{T-1} p_\theta(z_t \mid z_{t+1}) \; p_\theta(x \mid z_1) .
# $$ (def-hierarchy)
#
# This is a *Markovian* {term}`hierarchical VAE`. Its prior is now $p_\theta(z_{1:T})$, that is, every factor but the last, and only $p(z_T)$ in it is fixed. To sample, draw $z_T$ from $p(z_T)$, each $z_t$ given $z_{t+1}$, and then $x$; no encoder takes part. (Models in which each depends on all levels above it are more general.)
#
# Inference has two orders ({numref}`fig-who-sees-whom`):
#
# $$
# q_\phi(z_{1:T} \mid x) = q_\phi(z_1 \mid x) \prod_{t=2}^{T} q_\phi(z_t \mid z_{t-1}) \qquad \text{(bottom-up)},
# $$ (def-bottom-up)
#
# $$
# q_\phi(z_{1:T} \mid x) = q_\phi(z_T \mid x) \prod_{t=1}^{T-1} q_\phi(z_t \mid z_{t+1}, x) \qquad \text{(top-down)}.
# $$ (def-top-down)


# %% tags=["figure"] mystnb={"image": {"alt": "Four small graphs. Generation: blue arrows from z 3 down to z 2, z 1 and x. Bottom-up: orange arrows from x up to z 1, z 2, z 3. Top-down: orange arrows from x up through features d 1 to d 3, from each feature to its latent, and from each latent to the one below. Ladder: the same features, but the arrows between the latents are the blue ones of the model."}, "figure": {"caption": "Which variable depends on which. Blue: the model $p_\\theta$. Orange: inference; $d_t$ are features of the image, computed without drawing. In a ladder, explained below, messages are made of them, and inference uses the model's arrows.", "name": "fig-who-sees-whom"}}
def diagram(axes, title, ups=(), downs=(), sides=()):
    """Three latents above x; orange q, blue p."""
    features = {f"d{t}": (0.0, t) for t in (1, 2, 3)} if sides else {}
    at = {"x": (0.6, 0)} | {f"z{t}": (0.6 + 0.6 * bool(sides), t) for t in (1, 2, 3)} | features
    for pairs, color in ((ups, "#d55e00"), (downs, "#0072b2"), (sides, "#d55e00")):
        for start, end in pairs:
            arrow = {"arrowstyle": "->", "color": color, "shrinkA": 12, "shrinkB": 12}
            axes.annotate("", at[end], at[start], arrowprops=arrow)
    box = {"boxstyle": "circle,pad=0.25", "facecolor": "white", "edgecolor": "#777777"}
    for name, place in at.items():
        text = f"${name[0]}_{name[1]}$" if len(name) > 1 else "$x$"
        axes.text(*place, text, ha="center", va="center", fontsize=11, bbox=box)
    axes.set(xlim=(-0.5, 1.7), ylim=(-0.5, 3.5), title=title)
    axes.axis("off")


climb = [("x", "z1"), ("z1", "z2"), ("z2", "z3")]
descent = [("z3", "z2"), ("z2", "z1")]
look = [("x", "d1"), ("d1", "d2"), ("d2", "d3"), ("d1", "z1"), ("d2", "z2"), ("d3", "z3")]
fig, panels = plots.figure(4, height=2.6)
diagram(panels[0], "model", downs=[*descent, ("z1", "x")])
diagram(panels[1], "q bottom-up", ups=climb)
diagram(panels[2], "q top-down", ups=descent, sides=look)
diagram(panels[3], "q of a ladder", downs=descent, sides=look)
fig

# %% [markdown]
# Either order can hold the exact posterior. Bottom-up, the image is needed in the first step only,
#
# $$
# p(z_t \mid z_{t-1}, x) = p(z_t \mid z_{t-1}) \qquad \text{for } t \ge 2 ,
# $$ (eq-bottom-up-posterior)
#
# because $x$ depends on the latents through $z_1$ alone. (In the other order every step needs it, as $p(z_t \mid z_{t+1}, x) \propto p(z_t \mid z_{t+1})\, p(x \mid z_t)$.) And each bottom-up chain *is* a top-down one. Bayes' rule turns each step around,
#
# $$
# q(z_t \mid z_{t+1}, x) = \frac{q(z_{t+1} \mid z_t)\, q(z_t \mid x)}{q(z_{t+1} \mid x)} ,
# $$ (eq-reversal)
#
# and in the product {eq}`def-top-down` the marginals cancel, each with its neighbor, until {eq}`def-bottom-up` is left. The next chapter is built on this line.
#
# Why then does the order matter? The steps of $q$ are Gaussians made by networks, and three things speak for top-down.
#
# - *It has the order of the model.* On each level $q(z_t \mid z_{t+1}, x)$ and $p_\theta(z_t \mid z_{t+1})$ are distributions of the same variable, given the same one, so their KL divergence is a formula. Below the top, a bottom-up step $q(z_t \mid z_{t-1})$ has another condition than $p_\theta(z_t \mid z_{t+1})$: to turn it around takes the marginals $q(z_t \mid x)$ {eq}`eq-reversal`, which networks do not give. So its part of the bound is estimated by draws.
# - *Every level sees the image.* Bottom-up only $z_1$ does. An exact $q$ needs no more {eq}`eq-bottom-up-posterior`, but in training a level above sees a draw of $z_1$, at first mostly noise. And $q(z_1 \mid x)$ stays a single Gaussian, where top-down it is the mixture {eq}`def-two-marginals`.
# - *Every level knows what was drawn above it*, and adds only what is missing.
#
# These are reasons, not results: in the small runs {ref}`below <sec-dead-levels>` both orders reach nearly the same bound with warm-up.
#
# **Check.** In the linear chain $z_t = a_t\, z_{t+1} + s_t\, \varepsilon_t$, with $z_0 = x$ and standard Gaussian noise, all conditional distributions are linear regressions: the covariance $C$ of $(x, z_1, \dots, z_T)$ is that of $(I - B)^{-1}$ times the noises, where $B$ holds the slopes, and slopes and variances of $q$ and of the posteriors follow from it. The companion's `LinearChain` takes the slopes and standard deviations of the model and the covariance under $q$, or else the model's own, whose $q$ is the exact posterior. For the reversal, an arbitrary bottom-up chain, unrelated to the model, is evaluated at random latents in both orders; the product of the marginals $q(z_t \mid x)$ is rejected. For {eq}`eq-bottom-up-posterior`, $z_t$ is regressed on $z_{t-1}$ and $x$ under the model, and the slope on $x$ must vanish; the slopes of the other direction are rejected.

# %% tags=["serves"]
_ = torch.manual_seed(0)
T = 3
a = torch.tensor([0.8, 0.9, 0.7], **double)  # slope of z_t on z_{t+1}; z_0 is x
s = torch.tensor([0.5, 0.6, 0.8], **double)  # standard deviation of the same step
chain = LinearChain(a, s)  # its q is the exact posterior
C = chain.C
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
with_x = torch.stack([regress(C, t, [t - 1, 0])[0] for t in (2, 3)])
without = torch.stack([regress(C, t, [t - 1])[0] for t in (2, 3)])
expected = torch.cat([without, torch.zeros(2, 1, **double)], 1)
down = torch.stack([regress(C, t, [t + 1, 0])[0] for t in (1, 2)])
verify("eq-bottom-up-posterior", with_x, expected, rejects={"top-down": down})

# %% [markdown]
# *Sources: A30, B19.*

# %% [markdown]
# (sec-kl-levels)=
# ## One KL divergence for each level
#
# The bound of a chain is {eq}`eq-elbo-terms`, with all latents in the place of $z$. Its KL divergence is between two distributions of $T$ latents and has no formula. But both are products in the same order, so the logarithm of their quotient is a sum,
#
# $$
# \log \frac{q(z_{1:T} \mid x)}{p_\theta(z_{1:T})} = \log \frac{q(z_T \mid x)}{p(z_T)} + \sum_{t=1}^{T-1} \log \frac{q(z_t \mid z_{t+1}, x)}{p_\theta(z_t \mid z_{t+1})} .
# $$
#
# The mean under $q$, taken first over $z_t$ given $z_{t+1}$, turns each logarithm into a KL divergence (the chain rule {eq}`eq-kl-chain`):
#
# $$
# \begin{aligned}
# D_{\mathrm{KL}}\big( q(z_{1:T} \mid x) \,\Vert\, p_\theta(z_{1:T}) \big) = {} & D_{\mathrm{KL}}\big( q(z_T \mid x) \,\Vert\, p(z_T) \big) \\
# & + \sum_{t=1}^{T-1} \mathbb{E}_{q(z_{t+1} \mid x)}\, D_{\mathrm{KL}}\big( q(z_t \mid z_{t+1}, x) \,\Vert\, p_\theta(z_t \mid z_{t+1}) \big) .
# \end{aligned}
# $$ (eq-kl-levels)
#
# Each lower KL divergence depends on the random $z_{t+1}$ in its condition, hence the mean before it. The bound reads
#
# $$
# \begin{aligned}
# \mathrm{ELBO}(x) = {} & \mathbb{E}_q \log p_\theta(x \mid z_1) - D_{\mathrm{KL}}\big( q(z_T \mid x) \,\Vert\, p(z_T) \big) \\
# & - \sum_{t=1}^{T-1} \mathbb{E}_q\, D_{\mathrm{KL}}\big( q(z_t \mid z_{t+1}, x) \,\Vert\, p_\theta(z_t \mid z_{t+1}) \big) .
# \end{aligned}
# $$ (eq-chain-elbo)
#
# What does each term punish? The first, latents from which the image cannot be decoded. The second, a top level other than $p(z_T)$, from which samples start. And the KL divergence of level $t$ counts the nats that the image adds to what the model expects from $z_{t+1}$. Unlike the prior of a VAE, $p_\theta(z_t \mid z_{t+1})$ can learn to expect more.
#
# Given $z_{t+1}$, each KL divergence is between diagonal Gaussians and has a closed form {eq}`eq-kl-diagonal`. So an estimate takes one pass up, and one down with $T$ draws. (A log-ratio at the drawn $z_t$, in place of the KL divergence, is unbiased too, but can be negative; alone it varies more, the sum over levels need not.) The function, `elbo_terms`, is that of chapter 3.
#
# **Check.** In the linear chain both sides of {eq}`eq-kl-levels` have closed forms, here for the arbitrary $q$ from above. Rejected are the KL divergences between the marginals of each level, and the mean of $z_{t+1}$ in place of a draw. The bound is compared with draws from `elbo_terms`; its other side is $\log p(x)$ minus the KL divergence from the posterior {eq}`eq-elbo-gap`, and a bound that forgets the levels below the top is rejected.

# %% tags=["serves"]
x_one = torch.tensor([[1.7]], **double)
m = C_q[1:, 0] / C_q[0, 0] * x_one[0, 0]
S = C_q[1:, 1:] - torch.outer(C_q[1:, 0], C_q[1:, 0]) / C_q[0, 0]
q_all, q = MultivariateNormal(m, S), Normal(m, S.diagonal() ** 0.5)
whole = kl_divergence(q_all, MultivariateNormal(torch.zeros(T, **double), C[1:, 1:]))
levels, at_mean = [kl_divergence(q, Normal(0.0, 1.0))[-1]], []
for t in range(1, T):
    (on_x, slope), v = regress(C_q, t, [0, t + 1])
    shift = (slope - a[t]) * m[t] + on_x * x_one[0, 0]
    random = (slope - a[t]) ** 2 * S[t, t] / (2 * s[t] ** 2)
    at_mean.append(kl_divergence(Normal(shift, v**0.5), Normal(0.0, s[t])))
    levels.append(at_mean[-1] + random)
marginals = kl_divergence(q, Normal(0.0, C.diagonal()[1:] ** 0.5)).sum()
slopes = C[1:, 0] / C[0, 0]
posterior = MultivariateNormal(
    slopes * x_one[0, 0], C[1:, 1:] - torch.outer(slopes, slopes) * C[0, 0]
)
bound = Normal(0.0, C[0, 0] ** 0.5).log_prob(x_one[0, 0]) - kl_divergence(q_all, posterior)

# %% tags=["check", "nbval-check-output"]
wrong = {"marginals": marginals, "at the mean": levels[0] + sum(at_mean)}
verify("eq-kl-levels", whole, sum(levels), rejects=wrong)
_ = torch.manual_seed(0)
terms = elbo_terms(arbitrary, x_one.expand(200_000, 1))
top_only = {"top level only": bound + sum(levels[1:])}
verify("eq-chain-elbo", terms.elbo, bound, monte_carlo, rejects=top_only)
by_level = torch.stack(levels[1:] + levels[:1])
verify("eq-kl-levels", terms.kl[:, :2], by_level[:2], monte_carlo)

# %% [markdown]
# When is the bound tight? As for one latent, if $q$ is the exact posterior, and then every draw has the same importance weight (a test of code on a linear Gaussian chain, where both are formulas; for another $q$ the gap must be its KL divergence from the posterior):
#
# $$
# q = p_\theta(z_{1:T} \mid x) \;\Longrightarrow\; \log \frac{p_\theta(x, z_{1:T})}{q(z_{1:T} \mid x)} = \log p_\theta(x) \;\text{ for every draw } z_{1:T} .
# $$ (eq-chain-exact)
#
# **Check.** The joint density {eq}`def-hierarchy` and the bottom-up posterior {eq}`def-bottom-up` are evaluated at arbitrary latents; a weight without the prior of the top is rejected. Then the companion draws the latents top-down and returns this logarithm; here the arbitrary chain above is rejected.

# %% tags=["check", "nbval-check-output"]
log_p = Normal(0.0, C[0, 0] ** 0.5).log_prob(x[:, 0])
log_ratio = chain.prior(6).log_prob(z[T])
for t in range(T):
    slope, variance = regress(C, t + 1, [t])
    log_ratio = log_ratio + chain.inner_prior(t, z[t + 1]).log_prob(z[t])
    log_ratio = log_ratio - Normal(slope * z[t], variance**0.5).log_prob(z[t + 1])[:, 0]
wrong = {"without the top's prior": log_ratio - chain.prior(6).log_prob(z[T])}
verify("eq-chain-exact", log_ratio, log_p, rejects=wrong)
_ = torch.manual_seed(0)
weights, other = (sample_log_weights(model, x, 4) for model in (chain, arbitrary))
verify("eq-chain-exact", weights, log_p.expand(4, 6), rejects={"another q": other})

# %% tags=["figure", "mnist"] mystnb={"image": {"alt": "Five bars, one for each level. The first, next to the image, is the highest, the second about two thirds of it. The three upper ones are much lower, and none is zero."}, "figure": {"caption": "KL divergence at each level of the model of the first figure, mean over 2000 test digits: the nats that the image adds on each level.", "name": "fig-kl-per-level"}}
_ = torch.manual_seed(0)
x_test = binarize(test.images[:2000])
terms = elbo_terms(ladder, x_test)
plots.kl_per_level(terms, axes=plots.figure(height=2.4)[1][0])

# %% [markdown]
# After training look at {numref}`fig-kl-per-level` first: the bound, one number, does not show whether a level is used. One whose KL divergence is close to 0 is inactive, or *dead*, if $q$ was learned; here none is.

# %% tags=["numbers", "mnist"]
kl_levels = terms.kl.mean(0)
print("KL at levels 1 to 5:", ", ".join(f"{value:.2f}" for value in kl_levels), "nats")
print(f"above level 1: {kl_levels[1:].sum() / kl_levels.sum():.0%} of the nats")

# %% [markdown]
# *Sources: A32.*

# %% [markdown]
# (sec-normal-product)=
# ## A ladder: inference that starts from the model's prediction
#
# How should a network make $q(z_t \mid z_{t+1}, x)$? Without the image, the model itself predicts $p_\theta(z_t \mid z_{t+1})$, and Bayes' rule would multiply this prediction by the likelihood of $z_t$. So let $q$ be the prediction times an *approximate likelihood* $d_t$, a message from the image, and normalize:
#
# $$
# q(z_t \mid z_{t+1}, x) = \frac{p_\theta(z_t \mid z_{t+1})\, d_t(z_t; x)}{Z_t(z_{t+1}, x)} .
# $$ (def-ladder-posterior)
#
# This is a {term}`ladder VAE` {cite:p}`sonderby2016`. The way up computes features of the image for all levels, without drawing. Latents are drawn on the way down only, where $q$ uses the networks of $p_\theta$ and so depends on $\theta$, too. Inference need not learn again what the model knows, and a level pays KL divergence only for what its message adds: with an empty one, $q = p$.
#
# With Gaussians the product is a formula. Let $p = \mathcal{N}(\mu, s^2)$ and $d = \mathcal{N}(m, 1/\lambda)$ in one dimension; $\lambda$ is the *precision* of the message, one over its variance. In a product exponents add; both are quadratic in $z$ with the precisions as curvatures, so precisions add:
#
# $$
# \frac{1}{s_q^2} = \frac{1}{s^2} + \lambda, \qquad \mu_q = \mu + w\, (m - \mu), \qquad w = \lambda\, s_q^2 .
# $$ (eq-normal-product)
#
# The mean moves towards the message, by its share $w$ of the precision. The normalizer is large if the two agree, and the KL divergence of the level is the mean of $\log d$, less $\log Z$:
#
# $$
# \log Z = \log \mathcal{N}\Big( m;\; \mu,\; s^2 + \frac1\lambda \Big) ,
# $$ (eq-product-normalizer)
#
# $$
# D_{\mathrm{KL}}(q \,\Vert\, p) = \mathbb{E}_q \log d(z) - \log Z .
# $$ (eq-product-kl)
#
# :::{dropdown} Proof
# $\log p + \log d$ is a quadratic function of $z$ with the second derivative $- (1/s^2 + \lambda)$ and its maximum at $(\mu / s^2 + \lambda m) / (1/s^2 + \lambda)$, which is $\mu_q$. For the normalizer, read $p\, d$ as a model: $z \sim p$, and $m$ is seen through noise of variance $1/\lambda$. Then $Z = \int p(z)\, \mathcal{N}(m; z, 1/\lambda)\, \mathrm{d}z$ is the evidence of $m$ {eq}`eq-linear-evidence`. For the last line, $\log q - \log p = \log d - \log Z$. $\square$
# :::
#
# Make the message more precise: the product moves towards it, and is never wider than the narrower of the two.
#
# **Check.** The product is integrated numerically: its mean and variance, its normalizer, the KL divergence. Variances added in place of precisions are rejected, the two shares exchanged, the precision in place of the variance, and a lost $\log Z$.

# %% tags=["check", "nbval-check-output"]
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


# %% tags=["figure"]
def product_picture(precision):
    z = torch.linspace(-3, 4, 300)
    p = diagonal_normal(torch.zeros(1, 1), 1.0)
    message = torch.full((1, 1), 2.0), torch.full((1, 1), math.log(precision))
    q, d = normal_product(p, *message), evidence_alone(p, *message)
    three = {"prediction, p": p, "message, d": d, "product, q": q}
    lines = {name: (z, one.log_prob(z[:, None]).exp()) for name, one in three.items()}
    axes = plots.figure(height=2.4)[1][0]
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
# In the code `_predict` calls the network of level $t$, and `_update` multiplies by the message.

# %% tags=["shown", "nbval-check-output"]
show(HierarchicalVae.inner, normal_product, docstring=False)

# %% [markdown]
# Can such a product be the exact posterior? For the chain {eq}`def-hierarchy` it can, with $d_t(z_t; x) = p_\theta(x \mid z_t)$: the image speaks of the levels from $t$ upwards only through $z_t$. Diagonal Gaussian messages may still keep a gap.
#
# :::{depth-start} a ladder is exact if and only if the likelihood factorizes, and a skip connection loses 0.290 nats
# :::
# Let $z_{>t}$ be all levels above $z_t$.
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
# *Proof.* By Bayes' rule $p_\theta(z_t \mid z_{>t}, x) = p_\theta(z_t \mid z_{>t})\, p_\theta(x \mid z_t, z_{>t}) / p_\theta(x \mid z_{>t})$. Comparing with {eq}`def-ladder-posterior` gives {eq}`eq-message-factor` with $h_t = p_\theta(x \mid z_{>t}) / Z_t$, and the other way round. In a Markov chain $x$ depends on the levels from $t$ upwards through $z_t$ alone, so $d_t(z_t; x) = p_\theta(x \mid z_t)$. $\square$
#
# A *skip connection* lets $z_2$ act on $x$ directly. The smallest case has a weight $c$ for it:
#
# $$
# z_2 \sim \mathcal{N}(0, 1), \qquad z_1 \mid z_2 \sim \mathcal{N}(a z_2, s_1^2), \qquad x \mid z_1, z_2 \sim \mathcal{N}(z_1 + c z_2, s_0^2) .
# $$ (def-skip-chain)
#
# Let $P = 1/s_1^2 + 1/s_0^2$, the precision of the posterior $p(z_1 \mid z_2, x)$, and $V = \big( 1 + (a + c)^2 / (s_1^2 + s_0^2) \big)^{-1}$, the variance of $p(z_2 \mid x)$. The loss of the best ladder with Gaussian messages is the same for every $x$,
#
# $$
# \begin{aligned}
# & \log p(x) - \max_{d_1, d_2} \mathrm{ELBO}(x) \\
# & \quad = \min_{0 < r \le P s_1^2} \frac12 \Big[ r - 1 - \log r + \log \Big( 1 + \frac{V}{P} \Big( \frac{a (r - 1)}{s_1^2} + \frac{c}{s_0^2} \Big)^2 \Big) \Big] .
# \end{aligned}
# $$ (eq-ladder-price)
#
# For $c = 0$ take $r = 1$: nothing is lost,
#
# $$
# c = 0 \;\Longrightarrow\; \max_{d_1, d_2} \mathrm{ELBO}(x) = \log p(x) .
# $$ (eq-ladder-exact)
#
# *Proof.* Given $z_2$, the ladder's $z_1$ has some variance $v < s_1^2$, and by {eq}`eq-normal-product` the slope $a v / s_1^2$ on $z_2$. The posterior has the variance $1/P$ and the slope $(a / s_1^2 - c / s_0^2) / P$. With $r = v P$ the slopes differ by $\delta = \big( a (r - 1) / s_1^2 + c / s_0^2 \big) / P$. Offsets are free, so all means can be matched at one point, and the gap is
#
# $$
# \tfrac12 (r - 1 - \log r) + \tfrac12 P \delta^2 \tau^2 + \tfrac12 \big( \tau^2 / V - 1 - \log (\tau^2 / V) \big)
# $$ (eq-ladder-gap)
#
# with the variance $\tau^2$ of $q(z_2 \mid x)$. It is smallest at $1 / \tau^2 = 1 / V + P \delta^2$; insert that. $\square$
#
# With $a = 0.9$, $s_1^2 = 0.3$, $s_0^2 = 0.09$ and $c = 1$ the best ladder loses 0.290 nats, whatever the training. One more parameter, a factor of $z_2$ in the mean of the message, is enough to lose nothing: the message is then centered at $x - c z_2$.
#
# **Check.** For {eq}`eq-message-factor`, a finite example has three values for $z_1$, four for $z_2$, and tables of random probabilities for one fixed $x$. If the table $p(x \mid z_1, z_2)$ is a column times a row, the exact posterior must be the prior times the column, normalized; if conversely the posterior is a prior times an arbitrary message, all $2 \times 2$ determinants of the table must vanish. A table with one entry changed by a tenth is rejected.

# %% tags=["check", "nbval-check-output"]
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
wrong = {"one entry changed": normalized(prior * changed)}
verify("eq-message-factor", normalized(prior * d), normalized(prior * d * h), rejects=wrong)
table = any_posterior * of_x / prior  # p(x | z_1, z_2), by Bayes' rule
wrong = {"one entry changed": minors(changed)}
zero = torch.zeros(2, 3, **double)
verify("eq-message-factor", minors(table), zero, exact.on_scale(1.0), rejects=wrong)

# %% [markdown]
# **Checks.** The bound of the linear model with a skip has a closed form, and an optimizer maximizes it over the parameters of the two messages: a factor of $x$ for each mean, and a log-precision each. For $c = 0$ the maximum is compared with $\log p(x)$, and a $q$ with $z_1$ and $z_2$ independent given $x$ is rejected. The gap {eq}`eq-ladder-gap` is compared at log-precisions that are *not* the best ones; the formula without the wrong slope is rejected. The formula {eq}`eq-ladder-price` is minimized on a fine grid of $r$, for four values of $c$; the loss by independence is rejected.

# %% tags=["serves"]
a_1, v_1, v_0 = 0.9, 0.3, 0.09  # the variances of z_1 given z_2, and of x given both


def ladder_q(x, free):
    """q(z_2 | x), and slope, offset and variance of q(z_1 | z_2, x)."""
    top = diagonal_normal(torch.zeros_like(x), 1.0)
    q_2 = normal_product(top, free[0] * x, free[1].expand_as(x))
    w = torch.sigmoid(free[3] + math.log(v_1))  # share of the message in z_1
    return q_2, (1 - w) * a_1 + w * free[4], w * free[2] * x, (1 - w) * v_1


def ladder_bound(x, c, free):
    """The bound: all of it is Gaussian, so nothing needs to be drawn."""
    q_2, slope, offset, v = ladder_q(x, free)
    mean = (slope + c) * q_2.mean + offset
    var = (slope + c) ** 2 * q_2.variance + v
    reconstruction = Normal(mean, v_0**0.5).log_prob(x) - var / (2 * v_0)
    shift = (slope - a_1) * q_2.mean + offset
    square = shift**2 + (slope - a_1) ** 2 * q_2.variance
    kl_1 = 0.5 * (v / v_1 - 1 - (v / v_1).log() + square / v_1)
    kl_2 = kl_divergence(q_2.base_dist, Normal(0.0, 1.0))
    return (reconstruction - kl_1 - kl_2)[:, 0]


# %% tags=["serves"]
def best_ladder(x, c, use=(1, 1, 1, 1, 0), rest=(0, 0, 0, 0, 0)):
    """The parameters at the maximum: those in use are free, the others as in `rest`.

    The fifth is a factor of z_2 in the mean of the message to z_1.
    """
    use, rest = torch.tensor(use, **double), torch.tensor(rest, **double)
    free = torch.zeros(5, requires_grad=True, **double)
    _ = minimize(lambda: -ladder_bound(x, c, free * use + rest).mean(), [free])
    return (free * use + rest).detach()


def evidence_of(x, c):
    return Normal(torch.zeros_like(x), ((a_1 + c) ** 2 + v_1 + v_0) ** 0.5).log_prob(x)[:, 0]


def skip_precision(c):
    """Precision matrix of the posterior of (z_1, z_2)."""
    across = c / v_0 - a_1 / v_1
    rows = [[1 / v_1 + 1 / v_0, across], [across, 1 + a_1**2 / v_1 + c**2 / v_0]]
    return torch.tensor(rows, **double)


def lost_by_independence(c):
    P = skip_precision(c)
    return 0.5 * (P.diagonal().log().sum() - torch.logdet(P)).item()


# %% tags=["check", "nbval-check-output"]
x = torch.tensor([[-1.3], [0.4], [2.0]], **double)
best = ladder_bound(x, 0.0, best_ladder(x, 0.0))
wrong = {"independent": evidence_of(x, 0.0) - lost_by_independence(0.0)}
verify("eq-ladder-exact", best, evidence_of(x, 0.0), exact, rejects=wrong)

gaps, formulas, without = [], [], []
for c, logs in [(1.0, (0.5, 1.0)), (-0.5, (-1.0, 2.0)), (3.0, (2.0, 0.0))]:
    free = best_ladder(x, c, (1, 0, 1, 0, 0), (0, logs[0], 0, logs[1], 0))
    gaps.append(evidence_of(x, c) - ladder_bound(x, c, free))
    q_2, slope, _, v = ladder_q(x, free)
    P, V = 1 / v_1 + 1 / v_0, 1 / (1 + (a_1 + c) ** 2 / (v_1 + v_0))
    r, t2 = v * P, q_2.variance[:, 0]
    delta = slope - (a_1 / v_1 - c / v_0) / P
    both = 0.5 * (r - 1 - r.log() + t2 / V - 1 - (t2 / V).log())
    without.append(both)
    formulas.append(both + 0.5 * P * delta**2 * t2)
wrong = {"without the slope": torch.stack(without)}
rule = exact.within(1e-8)
verify("eq-ladder-gap", torch.stack(gaps), torch.stack(formulas), rule, rejects=wrong)


# %% tags=["check", "nbval-check-output"]
def ladder_price(c):
    P, V = 1 / v_1 + 1 / v_0, 1 / (1 + (a_1 + c) ** 2 / (v_1 + v_0))
    r = torch.linspace(0, P * v_1, 400_001, **double)[1:]
    twice = r - 1 - r.log() + torch.log1p(V / P * (a_1 * (r - 1) / v_1 + c / v_0) ** 2)
    return 0.5 * twice.min().item()


skips = [-2.0, -0.5, 1.0, 3.0]
found = [(evidence_of(x, c) - ladder_bound(x, c, best_ladder(x, c))).tolist() for c in skips]
formula = [[ladder_price(c)] * 3 for c in skips]
wrong = {"independence": [[lost_by_independence(c)] * 3 for c in skips]}
verify("eq-ladder-price", found, formula, rule, rejects=wrong)
at_one = found[2][0], lost_by_independence(1.0)
print("lost at c = 1: {:.3f} nats; by independence {:.3f}".format(*at_one))
for c in (1.0, 3.0):
    free = best_ladder(x, c, use=(1, 1, 1, 1, 1))
    lost = (evidence_of(x, c) - ladder_bound(x, c, free)).abs().max()
    near = torch.allclose(free[[2, 4]], torch.tensor([1.0, -c], **double), atol=1e-4)
    print(f"c = {c}: a message that sees z_2 loses nothing:", bool(lost < 1e-10))
    print(f"c = {c}: and is centered at x - c z_2:", near)

# %% [markdown]
# :::{depth-end}
# :::
#
# :::{depth-start} the ladder can be trained here, in twenty seconds or in full
# :::
# At small scale `train_it` takes the first steps only, with the recipe's learning rates compressed into them; `train_it("hvae-mnist", "full")` takes all. With `MINE = True` the rest of the chapter uses your weights. Expect worse images then, and failures of checks that make claims about the fully trained model.

# %%
print(cost("hvae-mnist"))
mine = watch(train_it("hvae-mnist"))
MINE = False  # True: from here on the chapter uses your weights
if MINE:
    use("hvae-mnist", mine.model)
    ladder = pretrained("hvae-mnist")
print("weights of hvae-mnist:", "yours" if MINE else "the shipped ones")
first, last = torch.tensor(mine.losses).unfold(0, 20, 20)[[0, -1]].mean(1)
print("the loss fell by more than a tenth:", bool(last < 0.9 * first))

# %% [markdown]
# :::{depth-end}
# :::
#
# *Sources: A31.*

# %% [markdown]
# (sec-dead-levels)=
# ## Explaining away, and why levels die
#
# What goes wrong in hierarchies is *posterior collapse*: after training, the top level is ignored {cite:p}`sonderby2016`. One cause is that the exact posterior couples the levels, and with a $q$ that cannot follow, the bound favors a model without it. If $z_2$ also acts on $x$ directly, by a *skip connection* past $z_1$, the two *compete*: given $x$, a larger $z_2$ leaves less for $z_1$ to explain. This is *explaining away*, the ridge on the right of {numref}`fig-skip`. A factorized $q(z_1 \mid x)\, q(z_2 \mid x)$ cannot follow it: its best variances are the conditional ones {eq}`eq-factorized-reverse`, so it is too narrow along the ridge, and loses 0.184 nats in this example. A $q(z_1 \mid z_2, x)$ that sees both can follow. A ladder whose message does not see $z_2$ loses even more, 0.290: tied to the prediction, its $z_1$ can only rise with $z_2$, where the posterior's falls.

# %% tags=["figure"] mystnb={"image": {"alt": "Two panels with the posterior of two latents as a dark tilted cloud. Left, without a skip, it rises to the right, an orange ellipse has exactly its shape, and a gray one is upright and smaller. Right, with a skip, the cloud falls to the right; the orange and the gray outline are nearly circles, too wide across the cloud and too short along it."}, "figure": {"caption": "The posterior of two latents for one image (blue), the best ladder (orange) and the best factorized q (gray, dashed), at two standard deviations. Left: $z_2$ acts on the image through $z_1$ only, and the ladder is exact. Right: both act on it, and explain each other away.", "name": "fig-skip"}}
one = torch.tensor([[1.0]], **double)
circle = torch.linspace(0, 2 * math.pi, 200, **double)
circle = 2 * torch.stack([circle.cos(), circle.sin()])
fig, panels = plots.figure(2, height=3.0)
for c, axes in zip((0.0, 1.0), panels, strict=True):
    P = skip_precision(c)
    mean = torch.linalg.solve(P, torch.tensor([1.0, c], **double) / v_0)
    true = MultivariateNormal(mean.float(), precision_matrix=P.float())
    m_1, m_2 = mean.tolist()
    box = (m_1 - 1.5, m_1 + 1.5, m_2 - 1.5, m_2 + 1.5)
    _ = plots.density2d(true.log_prob, box, x_label="$z_1$", y_label="$z_2$", axes=axes)
    q_2, slope, offset, v = ladder_q(one, best_ladder(one, c))
    t2 = q_2.variance.item()
    root = torch.tensor([[slope**2 * t2 + v, slope * t2], [slope * t2, t2]], **double)
    center = torch.stack([(slope * q_2.mean + offset)[0, 0], q_2.mean[0, 0]])
    _ = axes.plot(*(center[:, None] + torch.linalg.cholesky(root) @ circle), "#d55e00")
    alone = mean[:, None] + circle / P.diagonal().sqrt()[:, None]
    _ = axes.plot(*alone, "#777777", linestyle="--")
fig

# %% [markdown]
# The levels of a plain chain are coupled, too, as on the left. For training, split the KL divergence from the other end, $z_1$ first, with the mixture $p_\theta(z_1)$ of {eq}`def-two-marginals`, and $z_{>1}$ for all levels above:
#
# $$
# \begin{aligned}
# \mathrm{ELBO}(x) = {} & \mathbb{E}_q \log p_\theta(x \mid z_1) - D_{\mathrm{KL}}\big( q(z_1 \mid x) \,\Vert\, p_\theta(z_1) \big) \\
# & - \mathbb{E}_{q(z_1 \mid x)}\, D_{\mathrm{KL}}\big( q(z_{>1} \mid z_1, x) \,\Vert\, p_\theta(z_{>1} \mid z_1) \big) .
# \end{aligned}
# $$ (eq-level-above)
#
# The first line is the bound of a VAE with the latent $z_1$ and a learned prior for it: that is what levels above are *good for*. If they carry nothing, an ordinary VAE is left, and it may be a good one: whether levels are worthwhile is said by the bound on test data, compared with that of one level of as many latents, parameters and steps. The second line is what they *cost*. There is no $x$ in $p_\theta(z_{>1} \mid z_1)$: to infer the upper levels one must know $z_1$. A $q$ in which they depend on it can make this line zero. A $q$ with independent levels has to fit $p_\theta(z_{>1} \mid z_1)$ by one distribution for all draws of $z_1$, and cannot, unless the levels are independent in the model, too; then there is no gain, either. One chain can be solved (box): there the bound with independent levels is highest where $z_1$ does not depend on $z_2$ at all, so training by it switches the top level off. That shows the cost alone: in that chain a second level brings nothing.
#
# :::{depth-start} in a chain that can be solved, the best independent levels silence the top
# :::
# Take $x \mid z_1 \sim \mathcal{N}(z_1, s_0^2)$ and $z_1 \mid z_2 \sim \mathcal{N}(a z_2, 1 - a^2)$. Here $\log p(x)$ is the same for every slope $a$. With the correlation $\rho$ of $z_1$ and $z_2$ given $x$,
#
# $$
# \log p(x) - \max_{q(z_1 \mid x)\, q(z_2 \mid x)} \mathrm{ELBO}(x) = - \frac12 \log (1 - \rho^2) = \frac12 \log \frac{1 + s_0^2 / (1 - a^2)}{1 + s_0^2} .
# $$ (eq-independent-levels)
#
# So the bound is highest at $a = 0$ ({numref}`fig-independent-levels`).
#
# :::{dropdown} Proof
# For {eq}`eq-level-above` apply the chain rule {eq}`eq-kl-chain` with $z_1$ first. In the chain the posterior is Gaussian. Let $s_1^2 = 1 - a^2$; its precision matrix has the diagonal $1/s_1^2 + 1/s_0^2$ and $1/s_1^2$, and $-a/s_1^2$ beside it. The best factorized $q$ has its mean and the inverse of its diagonal as variances, so the KL divergence is half the log of the product of the diagonal over the determinant, $1 / (1 - \rho^2)$. The determinant is $(1 + 1/s_0^2) / s_1^2$. $\square$
# :::
#
# **Check.** For {eq}`eq-level-above`, both lines have closed forms for the arbitrary $q$ of the linear chain with three levels; the bound of one level alone is rejected, and the second line at the mean of $z_1$. For {eq}`eq-independent-levels` an optimizer maximizes the bound over the means and variances of both factors, for six pairs of slope and noise; the correlation of the *prior* in the place of $\rho$ is rejected.

# %% tags=["check", "nbval-check-output"]
to_above = S[1:, 0] / S[0, 0], C[2:, 1] / C[1, 1]  # slopes of the levels above on z_1
spread = [S[1:, 1:], C[2:, 2:]]
inner = [
    block - torch.outer(slope, slope) * v
    for block, slope, v in zip(spread, to_above, (S[0, 0], C[1, 1]), strict=True)
]
mean_1 = q_all.mean[0]
above = MultivariateNormal(q_all.mean[1:], inner[0])
at_mean = kl_divergence(above, MultivariateNormal(to_above[1] * mean_1, inner[1]))
difference = to_above[0] - to_above[1]
random = 0.5 * difference @ torch.linalg.solve(inner[1], difference) * S[0, 0]
likelihood = Normal(a[0] * mean_1, s[0]).log_prob(x_one[0, 0])
likelihood = likelihood - a[0] ** 2 * S[0, 0] / (2 * s[0] ** 2)
prior_kl = kl_divergence(Normal(mean_1, S[0, 0] ** 0.5), Normal(0.0, C[1, 1] ** 0.5))
first_line = likelihood - prior_kl
wrong = {"one level": first_line, "at the mean": first_line - at_mean}
verify("eq-level-above", bound, first_line - at_mean - random, rejects=wrong)


# %% tags=["check", "nbval-check-output"]
def independent_bound(free, x):
    """The bound with q(z_1 | x) q(z_2 | x): `free` has their means and log-variances."""
    (m_1, m_2), (v_1, v_2) = free[0], free[1].exp()
    likelihood = Normal(m_1, noise**0.5).log_prob(x) - v_1 / (2 * noise)
    step = Normal(a_2 * m_2, (1 - a_2**2) ** 0.5).log_prob(m_1)
    step = step - (v_1 + a_2**2 * v_2) / (2 * (1 - a_2**2))
    top = Normal(0.0, 1.0).log_prob(m_2) - v_2 / 2
    return likelihood + step + top + Normal(0.0, free[1].exp() ** 0.5).entropy().sum(0)


a_2, noise = torch.cartesian_prod(torch.tensor([0.3, 0.6, 0.9]), torch.tensor([0.25, 1.0])).T
a_2, noise = a_2.double(), noise.double()
free = torch.zeros(2, 2, 6, requires_grad=True, **double)
_ = minimize(lambda: -independent_bound(free, x_one[0, 0]).mean(), [free])
log_p = Normal(0.0, (1 + noise) ** 0.5).log_prob(x_one[0, 0])
lost = log_p - independent_bound(free, x_one[0, 0]).detach()
formula = 0.5 * ((1 + noise / (1 - a_2**2)) / (1 + noise)).log()
wrong = {"correlation of the prior": -0.5 * (1 - a_2**2).log()}
verify("eq-independent-levels", lost, formula, exact.within(1e-6), rejects=wrong)

# %% tags=["figure"] mystnb={"image": {"alt": "Four curves over the slope between the levels, from 0 to nearly 1. For a q that depends on the level above the curve is flat at zero. For independent levels the three curves start at zero and fall, the more noise the earlier, steeply near 1."}, "figure": {"caption": "The best bound in the chain, less $\\log p(x)$, against the slope $a$. With independent levels, for three variances of the noise, it is highest at zero, where the top level says nothing; with dependent ones every slope is equally good.", "name": "fig-independent-levels"}}
slope = torch.linspace(0, 0.98, 200)
lines = {"dependent": (slope, torch.zeros_like(slope))}
for v in (0.1, 0.3, 1.0):
    loss = 0.5 * ((1 + v / (1 - slope**2)) / (1 + v)).log()
    lines[f"$s_0^2 = {v:g}$"] = (slope, -loss)
axes = plots.figure(height=2.8)[1][0]
plots.curves(lines, x_label="slope $a$", y_label="nats", axes=axes)

# %% [markdown]
# :::{depth-end}
# :::
#
# How gain and cost of a level compete in networks was measured with three levels of 16, 8 and 4 latents, trained on all digits for six epochs, three times each, with four forms of $q$: independent levels; *sees above*, top-down without anything of $p_\theta$; bottom-up; and *shared*, a ladder.

# %% tags=["figure"] mystnb={"image": {"alt": "Twelve bars with whiskers in four groups of three. The group of independent levels has no length to speak of, but for half a nat with free bits. The three other groups reach about half a nat as they are, and more than one nat with warm-up and with free bits."}, "figure": {"caption": "KL divergence at the top level: mean of three trained models with its standard error. For the bottom-up form it is the KL divergence of $q(z_3 \\mid z_2)$ from $p(z_3)$.", "name": "fig-top-level"}}
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
# **Which levels die.** The top of the independent levels is dead, at three learning rates and after four times the steps, too. The other forms hold about half a nat there, the ladder less at the largest rate ({ref}`experiment <exp-levels>`): with normalization it was enough that levels of $q$ depend on each other, shared or not. And level 2 of the independent form is active, so there the gain outweighs the cost {eq}`eq-level-above`.
#
# **Why can a level die that the model could use?** $z_1$ alone can carry the whole image, so a level above it helps only by making $p_\theta(z_1 \mid z_2)$ a better prediction of $z_1$. This gain comes late, once the prediction has been learned; the KL divergence of $z_2$ counts from the first step. So its $q$ can settle at the prior first, and a dead level may not come back: where nothing below uses it, only the KL divergence has a gradient, and keeps it there. ({cite:t}`sonderby2016` found upper levels inactive in deeper bottom-up models.)
#
# **Warm-up** lets the weight of the KL divergences rise from 0 to 1, here during the first 30 percent of the steps {cite:p}`sonderby2016`, so that the levels below can learn to use $z_t$ before it is punished. It raises the bound of all forms, even of the first, whose top stays nearly dead, and most that of the ladder, which without it is the lowest of the four (why is open).
#
# **Free bits** {cite:p}`kingma2016`, here in the first half of the training, count a KL divergence below 1 as 1, so that nothing is gained by pushing it to zero. Free bits raise the KL of all four tops, and the bound by less than the seeds vary ({ref}`experiment <exp-levels>`).
#
# **Normalization.** Without batch normalization, which standardizes each feature over the batch, the ladder loses tens of nats of the bound, and its top is dead, with warm-up or without. The cause is not known from these runs.
#
# **An active top need not make a better model.** With warm-up the bounds of the four forms are about half a nat apart, although the first has next to nothing at the top.
#
# :::{dropdown} The four forms in numbers
# All numbers are means of three trained models with their standard errors, in the order independent, sees above, bottom-up, shared. As they are, the four forms have 0.00 ± 0.00, 0.46 ± 0.21, 0.64 ± 0.10 and 0.72 ± 0.17 nats at the top ({ref}`experiment <exp-levels>`). The first is inactive there, but level 2 of the same form holds 3.09 ± 0.06 nats.
#
# Warm-up raises the bound by 2.4 ± 0.4, 2.2 ± 0.4, 2.6 ± 0.6 and 6.4 ± 0.6 nats ({ref}`experiment <exp-levels>`). At the top there are then 0.09 ± 0.09, 1.51 ± 0.15, 1.60 ± 0.10 and 1.64 ± 0.02 nats. The bounds are then −101.5 ± 0.1, −101.3 ± 0.1, −101.4 ± 0.1 and −101.7 ± 0.3 nats.
#
# Without batch normalization the shared form loses 44.2 ± 4.5 nats of the bound, and 27.0 ± 3.6 with warm-up; at the top 0.00 ± 0.00 and 0.00 ± 0.00 nats ({ref}`experiment <exp-levels>`).
#
# In warm-up, at weights below 1, the objective may exceed $\log p(x)$ and is no bound; at 1 it is the ELBO. With free bits the objective is at most the ELBO, and later the ELBO. The mean over the batch is compared with 1, so a level may tell a lot about a few images and nothing about others; a floor for each image would charge those few in full.
# :::

# %% [markdown]
# (sec-levels-speak)=
# ## What each level determines
#
# Keep $z_t$ and draw the levels below anew. The variance of the image that is still *open* given $z_t$ grows from level to level, by the part that $z_t$ explains and $z_{t+1}$ does not (law of total variance):
#
# $$
# \mathbb{E} \operatorname{Var}(x_j \mid z_{t+1}) = \mathbb{E} \operatorname{Var}(x_j \mid z_t) + \mathbb{E} \operatorname{Var}\big( \mathbb{E}[x_j \mid z_t] \,\big|\, z_{t+1} \big) .
# $$ (eq-open-variance)
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
# In each row the levels from $t$ upwards are drawn once, those below for each image. Shown are means of $p_\theta(x \mid z_1)$, so at level 1 nothing is open.


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

# %% tags=["numbers"]
_ = torch.manual_seed(0)
*many, images = ancestral_sample(ladder, 300)
total, open_share = images.flatten(1).var(0).sum(), {}
for t in range(5, 0, -1):
    drawn = redraw(many[5 - t].repeat_interleave(10, 0), t).view(300, 10, -1)
    open_share[t] = (drawn.var(1).mean(0).sum() / total).item()
print("share of the pixel variance that is open, if all is kept down to level")
print(", ".join(f"{t}: {share:.0%}" for t, share in open_share.items()))

# %% [markdown]
# So the hierarchy is a *progressive code*, with a coarse description first.
#
# A {term}`temperature` below 1 lowers the standard deviation of one level when images are drawn. The model itself is temperature 1, so a lower one must be judged by two measures, quality and variety. At the lower levels strokes become plainer (twelve draws in the box), and in three ladders more digits were recognized, of nearly as many kinds. At the upper levels fewer kinds were left, and no more recognized ({ref}`experiment <exp-level-temperatures>`).
#
# :::{depth-start} the first nats lower the error most, and a low temperature of the lower levels gives more digits
# :::
# In {numref}`fig-progressive` the first nats lower the error of the reconstruction most. A diffusion model has such a curve too.

# %% tags=["figure", "mnist"] mystnb={"image": {"alt": "A falling curve of six points: the squared error of a reconstruction against the nats so far. It falls steeply for the first few nats of the upper levels and then more slowly to the last point."}, "figure": {"caption": "Squared error of a reconstruction against its nats, over 2,000 test digits. From left to right: no level inferred, level 5, levels 5 and 4, and so on. Inferred levels are drawn, the others at their mean.", "name": "fig-progressive"}}
_ = torch.manual_seed(0)
errors = [
    (from_the_top(x_test, k, draw=True) - x_test).square().flatten(1).sum(1).mean().item()
    for k in (6, 5, 4, 3, 2, 1)
]
so_far = [0.0, *kl_levels.flip(0).cumsum(0).tolist()]
fig, (axes,) = plots.figure(height=2.6)
lines = {"reconstructions": (so_far, errors)}
_ = plots.curves(lines, x_label="nats, from the top", y_label="squared error", axes=axes)
_ = axes.plot(so_far, errors, "o", color="#0072b2")
fig

# %% [markdown]
# Every level has a standard deviation of its own, $p_\theta(z_t \mid z_{t+1}) = \mathcal{N}(\mu_t, s_t^2)$, and may get its own temperature $\tau_t$: draw $z_t = \mu_t + \tau_t s_t \varepsilon$. The editor has one for the three upper levels and one for the two next to the image, with the same noise $\varepsilon$ at all positions.


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


def two_temperatures(upper, lower):
    images = tempered(noise, {t: upper if t > 2 else lower for t in range(1, 6)})
    return images[:, 0].view(2, 6, 28, 28).transpose(1, 2).reshape(56, 168)


_ = torch.manual_seed(4)
noise, stops = noise_for(12), [0.0, 0.4, 0.7, 1.0, 1.3]
Editor(
    {"upper levels": stops, "lower levels": stops},
    two_temperatures,
    alt="Twelve digits with temperature {} on levels 3 to 5 and {} on levels 1 and 2",
    start=(3, 3),
)

# %% [markdown]
# For these twelve draws, with the upper levels at 0 only a few kinds of digits are left, as ragged as before. With the lower levels at 0, the kinds of digits remain, with plainer strokes.
#
# Two judges of digits measured it in three ladders ({ref}`experiment <exp-level-temperatures>`). For five levels, over three seeds of the noise, 8.5 ± 0.4 % of its draws are not recognized as a digit, 0.8 ± 0.3 % with the lower levels at half the temperature, 12.0 ± 1.4 % with the upper ones and 1.1 ± 0.5 % with all; of the {ref}`convolutional ladder <sec-deep-ladders>` it is 26.1 ± 0.4, 14.6 ± 0.2, 28.5 ± 0.6 and 12.0 ± 0.9 %, and of a ladder of three levels, trained briefly with three seeds, 39.0 ± 2.6, 27.4 ± 2.4, 51.5 ± 3.8 and 44.1 ± 6.8 %. The number of classes, as the exponential of their entropy, falls from 9.8 ± 0.0 to 8.2 ± 0.0 with cooled upper levels and stays at 9.8 ± 0.0 with cooled lower ones.
#
# How many units of a level are active? To count those whose posterior mean varies over the data, as for one latent {cite:p}`burda2016`, misleads on the lower levels: the mean of $q(z_t \mid z_{t+1}, x)$ varies with $z_{t+1}$ even if the image adds nothing. Count those with a KL divergence.

# %% tags=["held", "nbval-check-output", "mnist"]
_ = torch.manual_seed(0)
one, other = noise_for(500), noise_for(500)
ones = dict.fromkeys(range(1, 6), 1.0)
changed = [tempered(one | {t: other[t]}, ones) - tempered(one, ones) for t in range(1, 6)]
moved = torch.stack([change.square().mean() for change in changed])
print("a new draw at the top changes the image most:", bool(moved[4] == moved.max()))
print("one at the bottom least, by more than a factor of 2:", bool(moved[0] < moved[1:].min() / 2))
shares = list(open_share.values())
print("each level closes some of the variance:", all(u > v for u, v in pairwise(shares)))
print("the top level alone leaves more than half open:", shares[0] > 0.5)
steps = zip(pairwise(errors), pairwise(so_far), strict=True)
falls = [(u - v) / (k - j) for (u, v), (j, k) in steps]
print("each level lowers the error:", min(falls) > 0)
print("a nat lowers it most at the top:", falls[0] == max(falls))
print("and least at level 1:", falls[-1] == min(falls))
print("no level has less than 0.5 nats:", bool((kl_levels > 0.5).all()))
print("level 1 has most, and no more than two thirds:", bool(kl_levels.argmax() == 0))
print("two thirds are more than it has:", bool(kl_levels[0] < kl_levels.sum() * 2 / 3))

# %% tags=["held", "nbval-check-output", "mnist"]
seen, varying, adding = ladder.encode(x_test), {}, {}
q, p = ladder.posterior(*seen), ladder.prior(len(x_test))
for t in range(5, 0, -1):
    varying[t] = q.mean.var(0) > 0.01
    adding[t] = kl_divergence(q.base_dist, p.base_dist).mean(0) > 0.01
    if t > 1:
        q, p = ladder.inner(t - 1, q.sample(), *seen)
same = active_units(ladder, x_test).num_active == int(varying[5].sum())
print("active units of the top level as in chapter 6:", same)
between = [torch.cat([kind[t] for t in (2, 3, 4)]).float().mean() for kind in (varying, adding)]
print("levels 2 to 4: nearly all units vary:", bool(between[0] > 0.9))
print("and fewer than half add anything:", bool(between[1] < 0.5))

# %% [markdown]
# :::{depth-end}
# :::
#
# *Sources: A33.*

# %% [markdown]
# (sec-deep-ladders)=
# ## Deep ladders: NVAE and VDVAE
#
# NVAE {cite:p}`vahdat2020` and VDVAE {cite:p}`child2021` have dozens of levels, for photographs. The latents are feature maps, many at each resolution, the coarse ones at the top.
#
# - **A path for each level.** In a chain, whatever an upper level knows reaches the image through the drawn $z_1$ only. Here a tensor runs down beside the latents and carries all that was drawn above, so each level acts on the image directly. Then levels can explain each other away, so the message sees the features of the image *and* this tensor.
# - **A correction instead of a product.** NVAE writes $q$ relative to the prediction $\mathcal{N}(\mu, s^2)$, as $\mathcal{N}(\mu + \Delta,\, s^2 f^2)$. A product, $\Delta = w (m - \mu)$ and $f^2 = 1 - w$, can only narrow the prediction; this form can also widen it. In both, a level without a correction adds nothing:
#
# $$
# D_{\mathrm{KL}}(q \,\Vert\, p) = \frac12 \Big( \frac{\Delta^2}{s^2} + f^2 - 1 - \log f^2 \Big) .
# $$ (eq-residual-kl)
#
# - **Stability.** The networks that make $\Delta$, $f$ and $s$ set no limit to {eq}`eq-residual-kl`, and over dozens of levels a small change at the top can become a large one below. NVAE therefore penalizes large weights, and VDVAE skips large updates (box).
#
# **Check.** The formula is compared with the KL divergence of the two Gaussians, for products and for free corrections, some of which widen. The factor $f$ in place of its square is rejected, and a shift that is not in units of $s$.

# %% tags=["check", "nbval-check-output"]
_ = torch.manual_seed(0)
mean, m, log_lam = torch.randn(3, 20, 1).double()
sd = torch.rand(20, 1).double() + 0.2
p = diagonal_normal(mean, sd)
q = normal_product(p, m, log_lam)
w = torch.sigmoid(log_lam + 2 * sd.log())
free_shift, free_factor = torch.randn(20, 1).double(), torch.rand(20, 1).double() + 0.5
relative = diagonal_normal(mean + free_shift, sd * free_factor)


def residual_kl(shift, square, unit=sd):
    return 0.5 * ((shift / unit) ** 2 + square - 1 - square.log())[:, 0]


both = torch.stack([kl_divergence(q, p), kl_divergence(relative, p)])
cases = [(w * (m - mean), 1 - w), (free_shift, free_factor**2)]
wrong = {
    "f in the place of its square": torch.stack([residual_kl(d, u**0.5) for d, u in cases]),
    "shift not in units of s": torch.stack([residual_kl(d, u, 1.0) for d, u in cases]),
}
right = torch.stack([residual_kl(d, u) for d, u in cases])
verify("eq-residual-kl", both, right, rejects=wrong)
print("some widen the prediction:", bool((free_factor > 1).any()))

# %% [markdown]
# On digits a small one of this kind, the companion's `conv_ladder`, has a better likelihood than the ladder of five levels with less than a fifth of its parameters, and all of its levels are active (box).
#
# :::{depth-start} enough levels contain autoregressive models, and a small convolutional ladder beats the five levels
# :::
# Child argues that deep hierarchies contain {term}`autoregressive models <autoregressive model>` as a special case: let each level be one pixel, drawn given those above, and let the decoder copy them. So with enough levels their likelihood can be reached, and fewer may do, where several pixels can share a level. The levels remain sequential, in training and in sampling.
#
# For stability NVAE penalizes the largest singular values of the weights, and uses batch normalization. VDVAE does without: it shrinks the initial contribution of its residual blocks with the depth, and skips updates with too large a gradient.
#
# The companion's `conv_ladder` has a vector at the top, two maps at a quarter of the image's side, and one at half of it. It was trained for 40 epochs, the ladder of five levels for 250. Their $-\log p(x)$ on 2,000 test digits, by $L_{100}$:

# %% tags=["numbers", "mnist"]
values = {"five levels": nats[5][:2000], "convolutional": None}
values["convolutional"] = load_record("conv-hvae-mnist-values")[0]["values"].double()
for name, card_name in (("five levels", "hvae-mnist"), ("convolutional", "conv-hvae-mnist")):
    error = values[name].std() / 2000**0.5
    size = f"{read_card(card_name).num_parameters:,} parameters"
    print(f"{name:13} {values[name].mean():.2f} ± {error:.2f} nats, {size}")
lead = values["five levels"] - values["convolutional"]
print(f"difference    {lead.mean():.2f} ± {lead.std() / 2000**0.5:.2f} nats")
card = read_card("iw-conv-hvae-mnist")
print(f"and 10 epochs later, on all digits: {card.metric_value:.2f} ± {card.metric_se:.2f} nats")
leads = torch.stack([nats[n][:2000] - values["convolutional"] for n in nats])
assert (leads.mean(1) > 5 * leads.std(1) / 2000**0.5).all()
assert read_card("conv-hvae-mnist").num_parameters < 0.2 * read_card("hvae-mnist").num_parameters
_ = torch.manual_seed(0)
deep_kl = elbo_terms(deep, binarize(test.images[:1000])).kl.mean(0)
print("KL at levels 1 to 4:", ", ".join(f"{value:.1f}" for value in deep_kl), "nats")

# %% [markdown]
# With less than a fifth of the parameters it is better, and all of its levels are active. (The fourth line is $L_{1000}$; the ten epochs, on a GPU, weighted five samples of each image, as in {ref}`chapter 6 <sec-test-likelihood>`.) But any level can die, not only the top.
#
# In smaller runs, three each on digits of $16 \times 16$ pixels, the ladder's maps need batch normalization (VDVAE's initialization was not tried) ({ref}`experiment <exp-conv-levels>`). After three epochs the three maps hold 0.16 ± 0.04, 3.7 ± 0.6 and 2.9 ± 0.7 nats with normalization, and 0.0, 0.0 and 0.0 without it. Could warm-up and free bits replace it? Not here: with both, and twice the steps, normalized maps are active and others are not: they hold 5.1 ± 0.4, 1.3 ± 0.2 and 1.1 ± 0.1 nats, against 0.0, 0.0 and 0.0; all information is then in the vector, 7.5 ± 0.1 nats, and the bound is 1.8 ± 0.2 nats lower.
#
# What do the maps determine ({numref}`fig-conv-samples`)? Below each of 500 vectors we draw all maps twice. How much of the variance of all these images lies within the pairs, that is, is made by the maps? And how often does a classifier read another digit in the second, over all pairs, and over those of two images that both judges recognize?


# %% tags=["numbers"]
def below_vector(z):
    """Means of images for vectors of the top level, all maps drawn anew."""
    for t in range(deep.num_latents - 1, 0, -1):
        z = deep.inner_prior(t, z).sample()
    return deep.likelihood(z).mean


_ = torch.manual_seed(0)
vectors = torch.randn(500, 8)
draws = torch.stack([below_vector(vectors) for _ in range(2)])
by_maps = ((draws[0] - draws[1]).square().mean() / 2 / draws.var(1).mean()).item()
of_digit = [pretrained("classifier-mnist")(images).argmax(1) for images in draws]
other_digit = (of_digit[0] != of_digit[1]).double().mean().item()
clear = torch.stack([no_digit_votes(images).sum(0) == 0 for images in draws]).all(0)
of_clear = (of_digit[0] != of_digit[1])[clear].double().mean().item()
print(f"variance that the maps make: {by_maps:.0%}, another digit: {other_digit:.0%}")
print(f"both images recognized by both judges: {clear.double().mean():.0%} of the pairs,", end=" ")
print(f"another digit in {of_clear:.0%} of them")

# %% tags=["held", "nbval-check-output", "mnist"]
print("every level of the convolutional ladder adds more than a nat:", bool((deep_kl > 1).all()))
print("its maps make less than half of the variance:", by_maps < 0.5)
print("but of two recognized digits more than one in twenty differ:", of_clear > 0.05)

# %% tags=["figure"] mystnb={"image": {"alt": "Three rows of ten digits. Down each column slant, weight and overall form stay the same. Most columns keep their digit; in a few it becomes another one, such as a 5 that becomes a 6."}, "figure": {"caption": "Samples of the convolutional ladder. The digits of a column share the vector at the top, those of a row share nothing. The vector sets slant, weight and overall form; the maps draw the strokes.", "name": "fig-conv-samples"}}
_ = torch.manual_seed(0)
vectors = torch.randn(10, 8)
plots.image_rows({f"draw {k}": below_vector(vectors) for k in (1, 2, 3)}, tile=0.7)

# %% [markdown]
# :::{depth-end}
# :::
#
# *Sources: A33.*

# %% [markdown]
# (sec-to-diffusion)=
# ## Fix the encoder: the door to diffusion
#
# A level dies when $q$ learns to say nothing there. A $q$ that is not learned at all cannot.
#
# Make all levels as large as the image. Let each step of $q$ shrink the image a little and add a little noise, $q(z_t \mid z_{t-1}) = \mathcal{N}(\sqrt{\alpha}\, z_{t-1}, 1 - \alpha)$, until nothing of it is left at the top. What each level holds is fixed by design. While a learned $q$ changes, so does what each step down should predict; here $z_t$ and $z_{t+1}$ are drawn without the model, so each can be trained by itself. In exchange $q$ can no longer adapt to the model. What is lost is the compact code: each level is as large as the image and holds it in noise. By {eq}`eq-reversal` this bottom-up chain is a top-down one, so the bound has one KL divergence for each level, and only the steps down, $p_\theta$, are left to learn. The levels are alike, so one network can serve all.
#
# In the linear chain all of it is known. Take data $x \sim \mathcal{N}(0, 4)$ and fifty steps of noise; the best steps of $p$ are then regressions of $z_t$ on $z_{t+1}$. In {numref}`fig-fifty-levels` the top levels, nearly pure noise, add next to nothing, and most of the nats are near the data.

# %% tags=["figure"] mystnb={"image": {"alt": "Fifty bars of KL divergence per level: tiny at the upper levels on the right, growing towards level 1 on the left. The last bar, at level 50, is small but taller than its neighbors."}, "figure": {"caption": "A hierarchy of fifty levels with a fixed encoder.", "name": "fig-fifty-levels"}}
num, alpha = 50, 0.9
noise_variance = torch.full((num + 1,), 1 - alpha, **double)
noise_variance[0] = 4.0  # of the data
C_noise = linear_covariance(
    torch.diag(torch.full((num,), alpha**0.5, **double), -1), noise_variance
)
down = [regress(C_noise, t, [t + 1]) for t in range(num)]
slopes, variances = (torch.stack(values) for values in zip(*down, strict=True))
fixed = LinearChain(slopes[:, 0], variances**0.5, C_noise)
_ = torch.manual_seed(0)
x_noise = 2 * torch.randn(2000, 1, **double)
gap = Normal(0.0, 2.0).log_prob(x_noise)[:, 0] - sample_log_weights(fixed, x_noise, 1)[0]
error = gap.std() / len(gap) ** 0.5
at_top = kl_divergence(Normal(0.0, C_noise[num, num] ** 0.5), Normal(0.0, 1.0))
assert gap.mean().abs() + 5 * error < 0.01 and (gap.mean() - at_top).abs() < 5 * error
plots.kl_per_level(elbo_terms(fixed, x_noise), axes=plots.figure(height=2.6)[1][0])

# %% [markdown]
# On average the bound is less than 0.01 nats below the log-density of the data; what is left is the KL divergence of $q(z_T)$, over all images, from the prior. For Gaussian data linear steps are enough; for images the step down needs a network. A hierarchical VAE whose encoder only adds noise is a {term}`diffusion model`.
#
# :::{dropdown} If you come from the lectures
# Some texts write the top-down $q$ {eq}`def-top-down`, others the bottom-up one {eq}`def-bottom-up`; {eq}`eq-reversal` connects them. The KL divergence over levels is sometimes written with a plain $p(z)$ on its left, but most of $p_\theta(z_{1:T})$ is learned. The rule "$q$ proportional to $p\, d$" needs a condition: {prf:ref}`thm-ladder-exact` states it, and 0.290 nats are lost without it in our example. Deep hierarchies for photographs are of the kind whose messages see the levels above.
# :::

# %% [markdown]
# (sec-hvae-exercises)=
# ## Exercises
#
# Replace the three dots by your answer and run the cell.

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
# In the chain with a skip {eq}`def-skip-chain`, the exact $p(z_1 \mid z_2, x)$ is the product of $p(z_1 \mid z_2)$ with a message that sees $z_2$. Write the mean and the precision of that message, as a pair. In the code `s0` is the variance $s_0^2$.


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
# - Levels make mixtures of simple steps {eq}`def-two-marginals`: a learned prior of $z_1$, and a richer posterior.
# - The bound has one KL divergence for each level {eq}`eq-chain-elbo`, if inference runs from the top down, like generation.
# - A ladder multiplies the model's prediction by a message from the image {eq}`eq-normal-product`; with skip connections the message must see the levels above.
# - A $q$ with independent levels pays for every coupling of the levels {eq}`eq-level-above`, and its top level died. Warm-up raised the bound; normalization kept our ladders alive.
# - With an encoder that only adds noise a hierarchy is a diffusion model.
#
# To go on: {cite:t}`sonderby2016`, {cite:t}`kingma2016`, {cite:t}`vahdat2020`, {cite:t}`child2021`.
