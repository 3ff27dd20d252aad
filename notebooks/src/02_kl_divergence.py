# %% [markdown]
# # KL divergence
#
# You have a law $p$ with two humps and may keep only one bell curve $q$ to stand for it. Which one? A curve so wide that it covers
# both humps, and puts much of its mass where nothing is? Or one that sits on a single hump and forgets the other?
#
# Both answers are right. They minimize the same quantity, with its two arguments in different order. This chapter is about that quantity, the
# {term}`KL divergence`: what it measures, why it is never negative, why the order matters so much, and how to compute it. The
# bound that carries this book is a log-likelihood minus divergences.

# %% tags=["setup", "hide-input"]
# The set-up cell: tools/notebooks.py writes it.

# %%
import math

import torch
from torch.distributions import Categorical, MultivariateNormal, Normal, kl_divergence

from companion.distributions import diagonal_normal
from companion.page import plots
from companion.page.sliders import Slider
from companion.page.verify import at_most, exact, monte_carlo, quadrature, verify
from companion.training import minimize

_ = torch.manual_seed(0)
torch.set_default_dtype(torch.double)

# %% [markdown]
# The whole chapter computes in double precision. One-dimensional integrals are sums over a fine grid, which is exact to many digits for smooth curves that vanish at both ends. Here are
# the two-hump law and the two bell curves; how such curves are found is the subject of {ref}`a section below <sec-two-directions>`.

# %%
grid = torch.linspace(-30, 30, 12_001)


def integrate(values):
    return torch.trapezoid(values, grid)


def log_two_humps(x, c):
    """Log-density of an equal mixture of N(-c, 1) and N(c, 1)."""
    both = torch.stack([Normal(-c, 1.0).log_prob(x), Normal(c, 1.0).log_prob(x)])
    return both.logsumexp(0) - math.log(2)


# %% mystnb={"image": {"alt": "A density with two humps at minus 3 and 3. One bell curve is wide and covers both humps; the other is narrow and sits on the right hump."}, "figure": {"caption": "One law, two best approximations by a single bell curve. Each is the best in its own order of arguments.", "name": "fig-two-fits"}}
near = grid.abs() < 9
x = grid[near]
wide, narrow = (Normal(0.0, 10**0.5).log_prob(x).exp(), Normal(2.984, 1.023).log_prob(x).exp())
plots.curves(
    {
        "p, two humps": (x, log_two_humps(x, 3.0).exp()),
        "least D(p || q)": (x, wide),
        "least D(q || p)": (x, narrow),
    },
    x_label="x",
    y_label="probability density",
)

# %% [markdown]
# (sec-kl-definition)=
# ## Definition
#
# Let $p$ and $q$ be probability laws on the same finite set. The Kullback-Leibler divergence of $p$ from $q$ {cite:p}`kullback1951` is the mean, under $p$, of the log-ratio of the two:
#
# $$
# D_{\mathrm{KL}}(p \,\Vert\, q) = \sum_x p(x) \log \frac{p(x)}{q(x)} .
# $$ (def-kl)
#
# In running text we also write $D(p \Vert q)$. The logarithm is natural, so the unit is the {term}`nat`; one nat is $1 / \log 2 \approx 1.44$ bits. Where $p(x) = 0$ the term counts as zero, because $t \log t \to 0$ for $t \to 0$. Where $q(x) = 0$ but $p(x) > 0$ the term, and with
# it the whole sum, is $+\infty$: $q$ calls something impossible that happens. For laws with densities the sum becomes an integral,
#
# $$
# D_{\mathrm{KL}}(p \,\Vert\, q) = \int p(x) \log \frac{p(x)}{q(x)} \, \mathrm{d}x .
# $$ (def-kl-density)
#
# It can be $+\infty$ even where no density is zero: for a Cauchy law $p$ and a normal law $q$, $-\log q$ grows like $x^2$, and the mean of $x^2$ under $p$ is infinite.
#
# Read it as a price. A code here is a way to write messages, not the code of an autoencoder. Up to rounding, one that is optimal for $q$ spends $-\log q(x)$ nats on $x$. Used on data from $p$ it spends the *cross-entropy* $H(p, q) = -\sum p \log q$, while the best code for $p$ spends the entropy $H(p) = -\sum p \log p$. The divergence is the
# waste:
#
# $$
# D_{\mathrm{KL}}(p \,\Vert\, q) = H(p, q) - H(p) .
# $$ (eq-kl-waste)
#
# The cell writes the definition down, with its conventions, and compares it with the waste and with torch.


# %% tags=["nbval-check-output"]
def kl(p, q):
    """Sum of p log(p / q) with 0 log 0 = 0, along the last dimension."""
    return (torch.xlogy(p, p) - torch.xlogy(p, q)).sum(-1)


p, q = torch.tensor([0.5, 0.25, 0.25]), torch.tensor([0.2, 0.2, 0.6])
cross_entropy = -(p * q.log()).sum()
waste = cross_entropy - Categorical(p).entropy()
verify("eq-kl-waste", kl(p, q), waste, rejects={"other order": kl(q, p)})
by_torch = kl_divergence(Categorical(p), Categorical(q))
print("torch agrees:", torch.isclose(by_torch, waste).item())

# %% [markdown]
# And the two special cases. Mind which argument has the zero.

# %% tags=["nbval-check-output"]
some, none = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.3, 0.3, 0.4])
print(f"p has a zero that q has not: {kl(some, none):.4f} nats")
print(f"q has a zero that p has not: {kl(none, some):.4f} nats")

# %% [markdown]
# *Sources: A09.*

# %% [markdown]
# (sec-kl-nonnegative)=
# ## It is never negative
#
# :::{prf:theorem} Gibbs' inequality
# :label: thm-gibbs
# For all laws $p$ and $q$
#
# $$
# D_{\mathrm{KL}}(p \,\Vert\, q) \ge 0 ,
# $$ (eq-kl-nonnegative)
#
# with equality if and only if $p = q$.
# :::
#
# The proof is one application of {term}`Jensen's inequality`. For the concave logarithm and any positive random $y$ with finite mean it says
#
# $$
# \mathbb{E} \log y \le \log \mathbb{E}\, y ,
# $$ (eq-jensen)
#
# with equality only if $y$ is constant. Geometry says why: the graph of the logarithm lies below each of its tangents.
#
# :::{dropdown} Proof of Jensen's inequality
# Let $m$ be the mean of $y$. The graph lies below its tangent at $m$: $\log y \le \log m + (y - m) / m$, with equality only at $y = m$. Take the mean of both sides; that of $y - m$ is zero. (At $m = 1$ the tangent says $\log y \le y - 1$.) $\square$
# :::
#
# :::{dropdown} Proof of the theorem
# If $q(x) = 0$ somewhere on the support of $p$, the divergence is infinite and there is nothing to prove. Otherwise apply {eq}`eq-jensen` to $y(x) = q(x) / p(x)$ under $p$, summing over the support of $p$, the set of all $x$ with $p(x) > 0$:
#
# $$
# - D_{\mathrm{KL}}(p \,\Vert\, q) = \mathbb{E}_p \log \frac{q(x)}{p(x)} \le \log \sum_{x:\, p(x) > 0} p(x) \frac{q(x)}{p(x)} = \log \sum_{x:\, p(x) > 0} q(x) \le \log 1 = 0 .
# $$
#
# Equality in the first step needs $q / p$ constant on the support of $p$, equality in the last step needs $q$ to live there too. Then the constant is 1. For densities replace the sums by integrals; $p = q$ then means that the two laws are equal. $\square$
# :::
#
# Two points on the curve are enough to see it:


# %%
def jensen(weight):
    fig, (axes,) = plots.figure()
    y = torch.linspace(0.1, 4.2, 200)
    ends = torch.tensor([0.3, 4.0])
    mean = (1 - weight) * ends[0] + weight * ends[1]
    below = (1 - weight) * ends[0].log() + weight * ends[1].log()
    _ = plots.curves(
        {
            "log y": (y, y.log()),
            "chord": (ends, ends.log()),
            "gap": (mean.repeat(2), torch.stack([below, mean.log()])),
            "tangent": (y, mean.log() + (y - mean) / mean),
        },
        x_label="y",
        y_label="log y (nats)",
        axes=axes,
    )
    _ = axes.plot([mean, mean], [below, mean.log()], "o", color="#009e73")
    axes.set_ylim(-2.5, 2.0)
    return fig


# %% [markdown]
# Move the slider to change the weight of the two points. The mean of the two points of the graph lies on the chord, which lies below the tangent at the mean of $y$. The vertical gap between chord and curve is what Jensen's inequality loses; it vanishes when one point has all the weight.

# %%
Slider(
    torch.linspace(0, 1, 11),
    jensen,
    description="weight of the right point",
    label="{:.1f}",
    alt="The logarithm, a chord below it, the tangent above it and the gap at the mean, weight {:.1f}",
    start=5,
)

# %% [markdown]
# An inequality is checked by trying to break it. The cell draws ten thousand pairs of random laws on five points, half of them nearly equal, and takes the smallest divergence. The last lines check Jensen's inequality on random positive numbers.

# %% tags=["nbval-check-output"]
p = torch.distributions.Dirichlet(torch.ones(5)).sample((10_000,))
q = torch.distributions.Dirichlet(torch.ones(5)).sample((10_000,))
q[5000:] = p[5000:] * (1 + 1e-4 * torch.randn(5000, 5))
q = q / q.sum(-1, keepdim=True)
zero = torch.zeros(10_000)
verify("eq-kl-nonnegative", -kl(p, q), zero, at_most(1e-15))
print("smallest of the nearly equal pairs is positive:", bool(kl(p, q)[5000:].min() > 0))

y = torch.rand(10_000, 6) + 0.01
verify("eq-jensen", y.log().mean(1), y.mean(1).log(), at_most(1e-15))

# %% [markdown]
# And equality: a search for the $q$ of least divergence from one of the laws $p$ ends at zero, and at $q = p$.

# %% tags=["nbval-check-output"]
logits = torch.zeros(5, requires_grad=True)
least = minimize(lambda: kl(p[0], logits.softmax(0)), [logits])
found = logits.detach().softmax(0)
print("the least divergence is zero:", abs(least.item()) < 1e-12)
print("found at q = p:", torch.allclose(found, p[0], rtol=0, atol=1e-6))

# %% [markdown]
# **A fine point.** One of our sources ends the proof with $\log \sum_x q(x) = \log 1 = 0$. The sum runs only over the support of $p$, so the last step is an inequality too. What Jensen really proves is stronger:
#
# $$
# D_{\mathrm{KL}}(p \,\Vert\, q) \ge - \log q(\operatorname{supp} p) ,
# $$ (eq-kl-support)
#
# attained whenever $p$ is $q$ conditioned on a set, for then the ratio is constant where $p$ lives. The pair from above is of this kind: $q$ puts 0.4 on the point where $p$ has nothing, and halves the rest as $p$ does.

# %% tags=["nbval-check-output"]
p = torch.distributions.Dirichlet(torch.ones(3)).sample((10_000,))
p = torch.nn.functional.pad(p, (0, 2))  # no mass on the last two of five points
bound = -q[:, :3].sum(1).log()
verify("eq-kl-support", bound, kl(p, q), at_most(1e-12))
given = torch.nn.functional.pad(q[:, :3] / q[:, :3].sum(1, keepdim=True), (0, 2))
outside = {"mass outside": q[:, 3:].sum(1)}
verify("eq-kl-support", kl(given, q), bound, rejects=outside)
print(f"attained by the pair above: {kl(some, none):.4f} = {-none[:2].sum().log():.4f}")

# %% [markdown]
# *Sources: A10, A11.*

# %% [markdown]
# (sec-kl-gaussians)=
# ## Between Gaussians
#
# For two normal laws on the line the integral can be done. With $p = \mathcal{N}(m_p, s_p^2)$ and $q = \mathcal{N}(m_q, s_q^2)$,
#
# $$
# D_{\mathrm{KL}}(p \,\Vert\, q) = \log \frac{s_q}{s_p} + \frac{s_p^2 + (m_p - m_q)^2}{2 s_q^2} - \frac12 .
# $$ (eq-kl-normals)
#
# :::{dropdown} Proof
# $\log p - \log q = \log (s_q / s_p) - (x - m_p)^2 / 2 s_p^2 + (x - m_q)^2 / 2 s_q^2$. Take the mean under $p$: the second term gives $-\frac12$, and $\mathbb{E}_p (x - m_q)^2 = s_p^2 + (m_p - m_q)^2$. $\square$
# :::
#
# The first look at asymmetry: the wrong order is rejected.


# %% tags=["nbval-check-output"]
def kl_normals(m_p, s_p, m_q, s_q):
    return math.log(s_q / s_p) + (s_p**2 + (m_p - m_q) ** 2) / (2 * s_q**2) - 0.5


p, q = Normal(0.0, 1.0), Normal(0.5, 2.0)
integral = integrate(p.log_prob(grid).exp() * (p.log_prob(grid) - q.log_prob(grid)))
closed, swapped = kl_normals(0.0, 1.0, 0.5, 2.0), kl_normals(0.5, 2.0, 0.0, 1.0)
verify("eq-kl-normals", integral, closed, quadrature, rejects={"other order": swapped})

# %% [markdown]
# **Not a distance.** The divergence is not symmetric in general, though it can be: two normal laws of equal variance are equally far from each other both ways. Nor does it obey the triangle inequality. Three laws in a row show it: the direct way costs 2 nats, and two short steps together only 1.

# %% tags=["nbval-check-output"]
for name, m, std in (("N(0, 4)", 0, 2), ("N(1, 1)", 1, 1)):
    there, back = kl_normals(0, 1, m, std), kl_normals(m, std, 0, 1)
    print(f"N(0, 1) to {name}: {there:.4f}, back: {back:.4f}")
direct, steps = kl_normals(0, 1, 2, 1), kl_normals(0, 1, 1, 1) + kl_normals(1, 1, 2, 1)
print(f"from N(0, 1) to N(2, 1): direct {direct:.1f}, by way of N(1, 1) {steps:.1f}")

# %% [markdown]
# In $d$ dimensions, with $p = \mathcal{N}(\mu_p, \Sigma_p)$ and $q = \mathcal{N}(\mu_q, \Sigma_q)$, both covariances invertible,
#
# $$
# D_{\mathrm{KL}}(p \,\Vert\, q) = \frac12 \Big( \operatorname{tr}(\Sigma_q^{-1} \Sigma_p) + (\mu_p - \mu_q)^\top \Sigma_q^{-1} (\mu_p - \mu_q) - d + \log \frac{\det \Sigma_q}{\det \Sigma_p} \Big) .
# $$ (eq-kl-gaussians)
#
# :::{dropdown} Proof
# The log-ratio is $\frac12 \log \frac{\det \Sigma_q}{\det \Sigma_p} - \frac12 (x - \mu_p)^\top \Sigma_p^{-1} (x - \mu_p) + \frac12 (x - \mu_q)^\top \Sigma_q^{-1} (x - \mu_q)$. Under $p$, the mean of $(x - a)^\top M (x - a)$ is
# $\operatorname{tr}(M \Sigma_p) + (\mu_p - a)^\top M (\mu_p - a)$. The first quadratic form gives $\operatorname{tr} I = d$, the second gives the first two terms of the claim. $\square$
# :::
#
# We check it by drawing from $p$ and averaging the log-ratio, and against torch. Forgetting the means is rejected.

# %% tags=["nbval-check-output"]
d = 3
roots = torch.randn(2, d, d)
cov_p, cov_q = roots @ roots.mT + 0.5 * torch.eye(d)
mean_p, mean_q = torch.randn(2, d)

trace = torch.linalg.solve(cov_q, cov_p).trace()
distance = (mean_p - mean_q) @ torch.linalg.solve(cov_q, mean_p - mean_q)
closed = 0.5 * (trace + distance - d + cov_q.logdet() - cov_p.logdet())

p, q = MultivariateNormal(mean_p, cov_p), MultivariateNormal(mean_q, cov_q)
x = p.sample((400_000,))
wrong = {"means forgotten": closed - 0.5 * distance}
verify("eq-kl-gaussians", p.log_prob(x) - q.log_prob(x), closed, monte_carlo, rejects=wrong)
verify("eq-kl-gaussians", kl_divergence(p, q), closed)

# %% [markdown]
# Two special cases follow, and both will be used every day from chapter 3 on. When $q$ is the standard normal law,
#
# $$
# D_{\mathrm{KL}}\big(\mathcal{N}(\mu, \Sigma) \,\Vert\, \mathcal{N}(0, I)\big) = \frac12 \big( \operatorname{tr} \Sigma + \lVert \mu \rVert^2 - d - \log \det \Sigma \big) ,
# $$ (eq-kl-standard)
#
# and when $\Sigma$ is diagonal with variances $\sigma_j^2$ besides, the sum runs over single coordinates,
#
# $$
# D_{\mathrm{KL}}\big(\mathcal{N}(\mu, \operatorname{diag} \sigma^2) \,\Vert\, \mathcal{N}(0, I)\big) = \frac12 \sum_{j} \big( \sigma_j^2 + \mu_j^2 - 1 - \log \sigma_j^2 \big) .
# $$ (eq-kl-diagonal)
#
# The last formula is printed in one of our sources with the *square* of the covariance in place of the variance. The check knows that form by its number in the {doc}`errata </book/errata>`, E10.

# %% tags=["nbval-check-output"]
standard = MultivariateNormal(torch.zeros(d), torch.eye(d))
closed = 0.5 * (cov_p.trace() + mean_p @ mean_p - d - cov_p.logdet())
forgotten = {"log det forgotten": closed + 0.5 * cov_p.logdet()}
verify("eq-kl-standard", kl_divergence(p, standard), closed, rejects=forgotten)

mean, variance = torch.tensor([[0.3, -0.7]]), torch.tensor([[0.5, 2.0]])
by_torch = kl_divergence(diagonal_normal(mean, variance.sqrt()), diagonal_normal(0 * mean, 1.0))
closed, printed = (0.5 * (v + mean**2 - 1 - v.log()).sum(1) for v in (variance, variance**2))
verify("eq-kl-diagonal", by_torch, closed, rejects={"E10": printed})

# %% [markdown]
# Nobody should type these formulas again. In the whole companion package the KL divergence is torch's `kl_divergence`, applied to distributions. The next chapter shows the function where it is used most, the estimate of the bound.
#
# *Sources: A10, A23, B14, C08, D16.*

# %% [markdown]
# (sec-kl-maps)=
# ## What maps do to it
#
# Apply one map $\tau$ to draws from $p$ and from $q$. What happens to the divergence between the two laws? Write $\tau_\# p$ for the law of $\tau(x)$ when $x$ has the law $p$.
#
# :::{prf:theorem} Data processing
# :label: thm-data-processing
# For every map $\tau$,
#
# $$
# D_{\mathrm{KL}}(\tau_\# p \,\Vert\, \tau_\# q) \le D_{\mathrm{KL}}(p \,\Vert\, q) ,
# $$ (eq-data-processing)
#
# with equality if $\tau$ is one-to-one.
# :::
#
# :::{dropdown} Proof for finite sets
# Group the sum {eq}`def-kl` by the values $y = \tau(x)$. Within a group, let $p(y)$ and $q(y)$ be the total masses. Groups with $p(y) = 0$ add nothing; if $q(y) = 0 < p(y)$, both sides are infinite. Otherwise the conditional laws $p(x \mid y) = p(x) / p(y)$ and $q(x \mid y)$ give
# $\log \frac{p(x)}{q(x)} = \log \frac{p(y)}{q(y)} + \log \frac{p(x \mid y)}{q(x \mid y)}$, hence $D(p \Vert q) = D(\tau_\# p \Vert \tau_\# q) + \sum_y p(y)\, D(p(\cdot \mid y) \Vert q(\cdot \mid y))$. The last sum is not negative by {prf:ref}`thm-gibbs`, and it is zero when each
# group has one element. On other spaces the conditional laws given $y$ take the place of the groups. $\square$
# :::
#
# This is the {term}`data processing inequality`. Processing can only lose what tells the laws apart; relabeling loses nothing. The exponential is one-to-one: it turns normal laws into log-normal ones, and the divergence stays. The absolute value is not: it forgets the sign.

# %% tags=["nbval-check-output"]
p, q = Normal(0.3, 0.7), Normal(-0.2, 1.4)
before = kl_divergence(p, q)

t = torch.linspace(-12, 12, 200_001).exp()
log_p, log_q = (law.log_prob(t.log()) - t.log() for law in (p, q))  # log-normal
after_exp = torch.trapezoid(log_p.exp() * (log_p - log_q), t)

u = torch.linspace(0, 8, 8_001)
folded_p, folded_q = (law.log_prob(u).exp() + law.log_prob(-u).exp() for law in (p, q))
after_abs = torch.trapezoid(folded_p * (folded_p / folded_q).log(), u)

rule, other = quadrature.within(1e-7), {"absolute value": after_abs}
verify("eq-data-processing", after_exp, before, rule, rejects=other)
verify("eq-data-processing", after_abs, before, at_most(0.0))
print(f"before {before:.4f}, after exp {after_exp:.4f}, after abs {after_abs:.4f}")

# %% [markdown]
# The *entropy* of a density has no such invariance: stretching the axis changes it, although nothing is lost. A smooth one-to-one map divides both densities by the same factor, the size of its derivative, and the factor cancels in the ratio. In the entropy it does not.

# %% tags=["nbval-check-output"]
entropy_after = -torch.trapezoid(log_p.exp() * log_p, t)
print(f"entropy before {p.entropy():.4f}, after exp {entropy_after:.4f}")

# %% [markdown]
# The identity inside the proof is worth a number of its own. For two joint laws of $x$ and $y$, the *chain rule* of the divergence reads
#
# $$
# D_{\mathrm{KL}}\big(p(x, y) \Vert q(x, y)\big) = D_{\mathrm{KL}}\big(p(y) \Vert q(y)\big) + \mathbb{E}_{p(y)} D_{\mathrm{KL}}\big(p(x \mid y) \Vert q(x \mid y)\big) .
# $$ (eq-kl-chain)
#
# It is the identity of the proof, for the map $(x, y) \mapsto y$; with densities the sums become integrals. This is the line that will split the bound of a deep model into one term per layer, and the bound of a diffusion model into one term per step. On a pair of correlated normal laws all three terms are known in closed form.

# %% tags=["nbval-check-output"]
cov_p, cov_q = torch.tensor([[[1.0, 0.6], [0.6, 2.0]], [[1.5, -0.3], [-0.3, 1.0]]])
joint_p = MultivariateNormal(torch.tensor([0.2, -0.4]), cov_p)
joint_q = MultivariateNormal(torch.zeros(2), cov_q)


def condition(joint):
    """Slope, offset and variance of x given y, for a normal pair (x, y)."""
    (v_x, cov), (_, v_y) = joint.covariance_matrix
    slope = cov / v_y
    return slope, joint.mean[0] - slope * joint.mean[1], v_x - slope * cov


# %% tags=["nbval-check-output"]
y_p = Normal(joint_p.mean[1], cov_p[1, 1].sqrt())
y_q = Normal(joint_q.mean[1], cov_q[1, 1].sqrt())
(a_p, b_p, v_p), (a_q, b_q, v_q) = condition(joint_p), condition(joint_q)
m, v = y_p.mean, y_p.variance  # E (difference of conditional means)^2 under p(y)
square = ((a_p - a_q) * m + b_p - b_q) ** 2 + (a_p - a_q) ** 2 * v
inner = 0.5 * ((v_q / v_p).log() + (v_p + square) / v_q - 1)
total, outer = kl_divergence(joint_p, joint_q), kl_divergence(y_p, y_q)
verify("eq-kl-chain", total, outer + inner, rejects={"marginals only": outer})

# %% [markdown]
# A *random* map draws $y$ from a law that depends on $x$, the same one for $p$ and for $q$. By the chain rule, with $x$ and $y$ exchanged, the pair $(x, y)$ then has the same divergence as $x$ alone. And $y$ is a plain function of the pair. So {prf:ref}`thm-data-processing` holds for random maps too. Here a random map sends five points to three.

# %% tags=["nbval-check-output"]
p, q = torch.distributions.Dirichlet(torch.ones(5)).sample((2, 1_000))
channel = torch.distributions.Dirichlet(torch.ones(3)).sample((5,))  # y given x
pair_p, pair_q = ((law[..., None] * channel).flatten(1) for law in (p, q))
print("the pair keeps it:", torch.allclose(kl(pair_p, pair_q), kl(p, q)))
verify("eq-data-processing", kl(p @ channel, q @ channel), kl(p, q), at_most(1e-12))

# %% [markdown]
# *Sources: A10.*

# %% [markdown]
# (sec-two-directions)=
# ## Two directions, two answers
#
# Back to the opening question and to {numref}`fig-two-fits`. We look for the bell curve $q = \mathcal{N}(m, s^2)$ that is closest to a law $p$. The *forward* problem minimizes $D(p \Vert q)$, the {term}`forward KL`, and the *reverse* problem $D(q \Vert p)$, the {term}`reverse KL`. Before solving them, look at what each of them adds up.


# %%
def integrands(m):
    fig, (left, right) = plots.figure(columns=2, height=2.9)
    x = grid[(grid > -4) & (grid < 9)]
    log_p, log_q = Normal(0.0, 1.0).log_prob(x), Normal(m, 0.5).log_prob(x)
    laws = {"p": (x, log_p.exp()), "q": (x, log_q.exp())}
    forward = log_p.exp() * (log_p - log_q)
    terms = {"p log p/q": (x, forward), "q log q/p": (x, log_q.exp() * (log_q - log_p))}
    _ = plots.curves(laws, x_label="x", y_label="density", axes=left)
    _ = plots.curves(terms, x_label="x", y_label="integrand (nats per unit of x)", axes=right)
    right.set_ylim(-1, 8)
    return fig


# %% [markdown]
# Move $q$ away from $p$ and watch the two integrands. The forward one explodes where $p$ has mass and $q$ has not. The reverse one is calm there, because it is weighted with $q$; it explodes where $q$ puts mass and $p$ does not. (The curves leave the picture at 8.)

# %%
Slider(
    torch.linspace(0, 5, 11),
    integrands,
    description="mean of q",
    label="{:.1f}",
    alt="Two normal densities and the integrands of both divergences, q at mean {:.1f}",
    start=4,
)

# %% [markdown]
# **Forward: it covers.** The forward problem has an answer in closed form, for every density $p$ with finite variance and entropy.
#
# :::{prf:theorem} Forward KL matches moments
# :label: thm-moments
# Let $p$ have a density, finite variance and finite entropy. Among all normal laws, $D_{\mathrm{KL}}(p \Vert \mathcal{N}(m, s^2))$ is least for the mean and variance of $p$,
#
# $$
# m^\star = \mathbb{E}_p\, x, \qquad s^{\star 2} = \operatorname{Var}_p x .
# $$ (eq-forward-moments)
# :::
#
# :::{dropdown} Proof
# Only $-\mathbb{E}_p \log q = \log s + \mathbb{E}_p (x - m)^2 / 2 s^2 + \text{const}$ depends on $q$. By {eq}`eq-mean-minimizes` the second term is least at $m = \mathbb{E}_p x$, where it is $\operatorname{Var}_p x / 2 s^2$. The derivative in $s$, $1 / s - \operatorname{Var}_p x / s^3$, is negative before $s^2 = \operatorname{Var}_p x$ and positive after it, so this is the minimum. $\square$
# :::
#
# **Reverse: it chooses.** The reverse problem has no such formula, so we search. Both divergences are integrals over the grid, and an optimizer gets the mean and the log of the standard deviation.
#
# Without a grid the two problems ask for different things; remember this for the rest of the book. The reverse problem needs draws from $q$ and the density of $p$, and that only up to a constant factor, which adds a constant. The forward problem needs draws from $p$, and no density of it.


# %%
def fit_normal(divergence, log_p, m, s=1.0):
    """The normal law of least divergence, searched from mean m, and its value."""
    mean, log_std = (torch.tensor(v, requires_grad=True) for v in (m, math.log(s)))
    value = minimize(
        lambda: divergence(log_p, Normal(mean, log_std.exp()).log_prob(grid)),
        [mean, log_std],
        max_steps=60,
    )
    return mean.item(), log_std.exp().item(), value.item()


def forward(log_p, log_q):
    return integrate(log_p.exp() * (log_p - log_q))


def reverse(log_p, log_q):
    q = log_q.exp()  # the last two terms cancel, unless q leaves the grid
    return integrate(q * (log_q - log_p)) - integrate(q) + 1


# %% tags=["nbval-check-output"]
skewed = torch.stack([Normal(-1.0, 0.5).log_prob(grid), Normal(2.0, 1.0).log_prob(grid)])
log_p = (skewed + torch.tensor([0.3, 0.7]).log()[:, None]).logsumexp(0)
mean = 0.3 * -1.0 + 0.7 * 2.0
variance = 0.3 * (0.25 + 1.0) + 0.7 * (1.0 + 4.0) - mean**2
m, s, _ = fit_normal(forward, log_p, 0.0)
reverse_m, reverse_s, _ = fit_normal(reverse, log_p, 0.0)
wrong = {"reverse fit": [reverse_m, reverse_s**2]}
verify("eq-forward-moments", [m, s**2], [mean, variance], exact.within(1e-6), rejects=wrong)

# %% [markdown]
# Is the reverse fit always {term}`mode-seeking`: does it choose one hump and drop the other? It is often said so. For two humps at $\pm c$ with unit variance let us see.


# %%
def best_reverse(c):
    """The better of two searches, from the middle and from the right hump."""
    log_p = log_two_humps(grid, c)
    return min((fit_normal(reverse, log_p, m) for m in (0.0, c)), key=lambda fit: fit[2])


def both_fits(c):
    fig, (axes,) = plots.figure()
    x, (m, s, _) = grid[near], best_reverse(c)
    lines = {
        "p": (x, log_two_humps(x, c).exp()),
        "forward fit": (x, Normal(0.0, (1 + c**2) ** 0.5).log_prob(x).exp()),
        "reverse fit": (x, Normal(m, s).log_prob(x).exp()),
    }
    _ = plots.curves(lines, x_label="x", y_label="probability density", axes=axes)
    axes.set_ylim(0, 0.45)
    return fig


# %% [markdown]
# Move the humps apart. When does the reverse fit let go of one of them?

# %%
centers = [0.5, 1.0, 1.5, 2.0, 2.4, 2.7, 2.9, 3.2, 3.6, 4.0]
Slider(
    centers,
    both_fits,
    description="distance of the humps from zero",
    label="{:.1f}",
    alt="Two humps at plus and minus {:.1f} with the forward and the reverse fit",
    start=3,
)

# %% [markdown]
# The reverse fit chooses a hump only when the humps are far apart. At $c = 2$, when they are clearly visible, it still covers both. Where is the threshold? We compare the search from the middle with the search from a hump, and halve an interval twelve times, keeping the half in which the order of the two values changes.

# %% tags=["nbval-check-output"]
low, high = 2.4, 3.2
for _ in range(12):
    c = (low + high) / 2
    log_p = log_two_humps(grid, c)
    middle, hump = (fit_normal(reverse, log_p, m)[2] for m in (0.0, c))
    low, high = (low, c) if hump < middle else (c, high)
print(f"the best reverse fit leaves the middle at c = {c:.2f},")
print(f"when the humps are {2 * c:.1f} standard deviations apart")
print("at c = 2 it covers both:", abs(best_reverse(2.0)[0]) < 1e-3)
print("no search left the grid:", all(best_reverse(c)[1] < 5 for c in centers))

# %% tags=["nbval-check-output"]
for start in (0.0, 2.8):
    m, s, value = fit_normal(reverse, log_two_humps(grid, 2.8), start)
    print(f"c = 2.8, from {start:.1f}: N({abs(m):.3f}, {s:.3f}^2), {value:.5f} nats")

# %% [markdown]
# From $c \approx 2.41$ on there is a local minimum near each hump, besides the one in the middle, and an optimizer finds the one near its start. At the threshold the values are equal, and the best fit jumps. The left hump is the mirror image of the right one, and as good.

# %% [markdown]
# And what does the choice cost? Put $q$ on the right hump, $q = \mathcal{N}(c, 1)$. Then
#
# $$
# D_{\mathrm{KL}}(q \,\Vert\, p) = \log 2 - \mathbb{E}_{x \sim \mathcal{N}(c, 1)} \log\big(1 + e^{-2 c x}\big) ,
# $$ (eq-one-hump)
#
# which tends to $\log 2$ as the humps move apart: forgetting half of an equal mixture never costs more than one bit, since the mean that is subtracted is positive. The forward divergence of the same $q$ grows like $c^2$. In fact both together are exactly $c^2$:
#
# $$
# D_{\mathrm{KL}}(p \,\Vert\, q) = c^2 - D_{\mathrm{KL}}(q \,\Vert\, p) .
# $$ (eq-one-hump-forward)
#
# :::{dropdown} Proof
# $p(x) = \frac12 q(x) (1 + \mathcal{N}(x; -c, 1) / \mathcal{N}(x; c, 1))$, and the ratio of the two densities is $e^{-2 c x}$. Insert this into $\mathbb{E}_q \log (q / p)$. Call the mean that is subtracted $\eta$. Since $\log(1 + u) \le \sqrt{u}$, it is at most $\mathbb{E}\, e^{-c x} = e^{-c^2 / 2}$, which tends to 0.
#
# In the forward direction $\log (p / q) = \log(1 + e^{-2 c x}) - \log 2$. On the right hump the mean of the first term is $\eta$. On the left hump write it as $-2 c x + \log(1 + e^{2 c x})$, whose mean is $2 c^2 + \eta$ by symmetry. Half of each gives $D(p \Vert q) = c^2 + \eta - \log 2$. $\square$
# :::

# %% tags=["nbval-check-output"]
for c in (1.0, 3.0):
    log_p, log_q = log_two_humps(grid, c), Normal(c, 1.0).log_prob(grid)
    shared = integrate(log_q.exp() * torch.nn.functional.softplus(-2 * c * grid))
    choosing, covering = reverse(log_p, log_q), forward(log_p, log_q)
    expected, wrong = math.log(2) - shared, {"no overlap": math.log(2)}
    verify("eq-one-hump", choosing, expected, quadrature, rejects=wrong)
    expected, wrong = c**2 - choosing, {"limit": c**2 - math.log(2)}
    verify("eq-one-hump-forward", covering, expected, quadrature, rejects=wrong)
    print(f"c = {c:.0f}: reverse {choosing:.4f} nats, forward {covering:.4f} nats")

# %% [markdown]
# *Sources: A12, A13, C06.*

# %% [markdown]
# (sec-coins)=
# ## What the number means: coins
#
# Toss a coin with law $P$, and do so $n$ times. How likely is it that the share of heads is exactly that of another coin $Q$ (for $n$ where this is a whole number of heads)? The answer gives the divergence a meaning without codes: the probability is $e^{-n D(Q \Vert P)}$, up to a factor that does not matter on the scale of exponents {cite:p}`cover2006`. Mind the order: the law that really acts stands second.
#
# The extreme case is exact. If $P$ is fair and the share of heads is that of a coin with two heads, all $n$ tosses were heads:
#
# $$
# \Pr(n \text{ heads}) = 2^{-n} = e^{- n D_{\mathrm{KL}}(Q \Vert P)}, \qquad Q = (1, 0), \; P = (\tfrac12, \tfrac12) .
# $$ (eq-all-heads)
#
# It may happen, but it is not likely. With the roles exchanged, a coin with two heads that shows as many tails as heads, the divergence is infinite: it is *not going to happen*. One of our sources tells the two cases the other way around (entry E18); the check takes its version as the wrong one.

# %% tags=["nbval-check-output"]
fair, two_heads, n = torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.0]), 20
tosses = torch.distributions.Binomial(n, torch.tensor(0.5))
log_probability = tosses.log_prob(torch.tensor(20.0))
exponents = -n * kl(two_heads, fair), -n * kl(fair, two_heads)
verify("eq-all-heads", log_probability, exponents[0], rejects={"E18": exponents[1]})

# %% [markdown]
# For a share $a$ of heads strictly between 0 and 1, the exact probability is binomial, and Stirling's formula gives the factor in front. For the fair coin,
#
# $$
# \Pr(\text{share } a) \approx \frac{e^{-n D(a)}}{\sqrt{2 \pi n\, a (1 - a)}} .
# $$ (eq-large-deviation)
#
# Here $D(a) = a \log 2a + (1 - a) \log 2 (1 - a)$ is the divergence of a coin with heads probability $a$ from the fair coin $P$. On the scale of exponents the square root vanishes: $-\frac1n \log \Pr \to D(a)$. The sign $\approx$ means that the ratio of both sides tends to 1 as $n$ grows.
#
# :::{dropdown} Proof
# The probability is $\binom{n}{n a} 2^{-n}$. Stirling's formula says $k! \approx \sqrt{2 \pi k}\, (k / e)^k$ in the same sense. Insert it three times, for $n$, $n a$ and $n (1 - a)$. The powers of $n$ and $e$ cancel. What is left of the powers is $\big( 2 a^a (1 - a)^{1 - a} \big)^{-n} = e^{-n D(a)}$, and the three square roots leave $1 / \sqrt{2 \pi n\, a (1 - a)}$. $\square$
# :::

# %% tags=["nbval-check-output"]
a, n = 0.7, 10_000
D = kl(torch.tensor([a, 1 - a]), fair)
binomial = torch.distributions.Binomial(n, torch.tensor(0.5))
log_probability = binomial.log_prob(torch.tensor(a * n))

stirling = -n * D - 0.5 * math.log(2 * math.pi * n * a * (1 - a))
wrong = {"no square root": -n * D}
verify("eq-large-deviation", log_probability, stirling, exact.within(1e-6), rejects=wrong)

# %% [markdown]
# {numref}`fig-coins` shows how slowly the exponent per toss settles.

# %% mystnb={"image": {"alt": "Minus one over n times the log-probability falls towards the horizontal line of the divergence as the number of tosses grows from ten to ten thousand."}, "figure": {"caption": "Seventy heads in a hundred tosses of a fair coin, and its relatives. The exponent per toss approaches the divergence like $\\log n / 2n$.", "name": "fig-coins"}}
tosses = torch.tensor([10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000])
law = torch.distributions.Binomial(tosses.double(), torch.tensor(0.5))
per_toss = -law.log_prob(a * tosses) / tosses
plots.curves(
    {"-log probability / n": (tosses, per_toss), "divergence": (tosses, D.repeat(len(tosses)))},
    x_label="number of tosses n",
    y_label="nats per toss",
    log_x=True,
)

# %% [markdown]
# *Sources: C07.*

# %% [markdown]
# (sec-maximum-likelihood)=
# ## Fitting a model is minimizing a divergence
#
# Let $p_\theta$ be a model of the data, whose law is $p_{\text{data}}$. The mean log-likelihood is
#
# $$
# \mathbb{E}_{p_{\text{data}}} \log p_\theta(x) = - H(p_{\text{data}}) - D_{\mathrm{KL}}(p_{\text{data}} \,\Vert\, p_\theta) .
# $$ (eq-likelihood-kl)
#
# In practice a mean over the training set stands in for $\mathbb{E}_{p_{\text{data}}}$. The entropy of the data does not depend on $\theta$. So maximizing the likelihood *is* minimizing the forward divergence, and a model trained by likelihood covers: it cannot afford to call any data impossible. Two consequences. Even a perfect model reaches only $-H(p_{\text{data}})$, and a difference of two log-likelihoods is a difference of two divergences.

# %% tags=["nbval-check-output"]
p_data, model = Normal(0.3, 0.7), Normal(-0.2, 1.4)
likelihood = integrate(p_data.log_prob(grid).exp() * model.log_prob(grid))
minus_entropy, divergence = -p_data.entropy(), kl_divergence(p_data, model)
verify(
    "eq-likelihood-kl",
    likelihood,
    minus_entropy - divergence,
    quadrature,
    rejects={"plus sign": minus_entropy + divergence},
)

# %% [markdown]
# (sec-kl-estimation)=
# ## Estimating it from draws
#
# Often there is no formula, but both densities can be evaluated and $p$ can be sampled. Write $r = q(x) / p(x)$ for a draw $x \sim p$. The plain estimator averages $-\log r$. There is a second one,
#
# $$
# \mathbb{E}_p \big[ (r - 1) - \log r \big] = D_{\mathrm{KL}}(p \,\Vert\, q) ,
# $$ (eq-nonnegative-estimator)
#
# which is also unbiased, because $\mathbb{E}_p\, r = \int q = 1$, provided $q$ has no mass outside the support of $p$; otherwise the estimate is too small by that mass. Each of its samples is non-negative, since $\log r \le r - 1$. Which one is better?


# %% tags=["nbval-check-output"]
def two_estimators(p, q, n=400_000):
    x = p.sample((n,))
    log_r = q.log_prob(x) - p.log_prob(x)
    return -log_r, log_r.expm1() - log_r


p, near_p, far = Normal(0.0, 1.0), Normal(0.1, 1.0), Normal(1.5, 1.0)
plain, tilted = two_estimators(p, near_p)
truth = kl_divergence(p, near_p)
wrong = {"plus log r": -truth}
verify("eq-nonnegative-estimator", tilted, truth, monte_carlo, rejects=wrong)
print("plain never negative:", bool((plain >= 0).all()))
print("the other never negative:", bool((tilted >= 0).all()))

r = none[:2] / some[:2]  # the laws of the first section: q has 0.4 outside the support
mean = (some[:2] * (r - 1 - r.log())).sum()
print(f"mass outside: mean {mean:.4f}, divergence {kl(some, none):.4f} nats")

# %% [markdown]
# The printed means show the warning at work: the second estimator misses the 0.4 that $q$ has outside.
#
# Now the spread. Near $r = 1$, $-\log r$ is of first order in $r - 1$, and $r - 1 - \log r$ of second order. So the second estimator should win where the laws are close, and lose where they are far apart, since $r$ itself has a heavy tail. For $p = \mathcal{N}(0, 1)$ and $q = \mathcal{N}(\delta, 1)$ the variances of one sample are
#
# $$
# \operatorname{Var}_p(-\log r) = \delta^2 , \qquad \operatorname{Var}_p(r - 1 - \log r) = e^{\delta^2} - 1 - \delta^2 .
# $$ (eq-estimator-variances)
#
# :::{dropdown} Proof
# $\log r = \delta x - \delta^2 / 2$ has variance $\delta^2$. Next, $\mathbb{E}_p\, r^2 = e^{\delta^2}$, so $r$ has variance $e^{\delta^2} - 1$. The covariance of $r$ and $\log r$ is $\delta\, \mathbb{E}_p[r x] = \delta\, \mathbb{E}_q\, x = \delta^2$. Hence $r - \log r$ has variance $e^{\delta^2} - 1 + \delta^2 - 2 \delta^2$. $\square$
# :::
#
# The second variance is about $\delta^4 / 2$ for small $\delta$. The two are equal where $e^{\delta^2} = 1 + 2 \delta^2$, at $\delta \approx 1.12$. And it can be worse: for a normal $q$ with the mean of $p$ and twice its variance, or more, $\mathbb{E}_p\, r^2$ is infinite, and so is the second variance.


# %% tags=["nbval-check-output"]
def exact_variances(delta):
    return [delta**2, math.expm1(delta**2) - delta**2]


delta = 1.5
log_p, log_q = p.log_prob(grid), far.log_prob(grid)
samples = log_p - log_q, (log_q - log_p).expm1() - (log_q - log_p)
centered = [v - integrate(log_p.exp() * v) for v in samples]
variances = [integrate(log_p.exp() * v**2) for v in centered]
wrong = {"small delta only": [delta**2, delta**4 / 2]}
closed = exact_variances(delta)
verify("eq-estimator-variances", variances, closed, quadrature, rejects=wrong)
print("at 1.12 the second is better:", exact_variances(1.12)[1] < 1.12**2)
print("at 1.13 the first is better:", exact_variances(1.13)[1] > 1.13**2)

# %% [markdown]
# The table shows the standard deviation of one sample in units of the divergence, from the formula and from draws. In the last entry the draws are the less reliable of the two: a heavy tail shows itself in few of them.

# %%
for name, q, delta in ("near", near_p, 0.1), ("far", far, 1.5):
    divergence, drawn = kl_divergence(p, q), two_estimators(p, q)
    for kind, sample, var in zip(
        ("plain", "non-negative"), drawn, exact_variances(delta), strict=True
    ):
        print(f"{name:5s}{kind:13s} exact {var**0.5 / divergence:7.4f}", end="")
        print(f"   from draws {sample.std() / divergence:7.4f}")

# %% mystnb={"image": {"alt": "Two rising lines on logarithmic axes. The variance of the non-negative estimator starts far below that of the plain one, crosses it at 1.12 and shoots up."}, "figure": {"caption": "The variance of one sample of both estimators, for two normal laws of variance 1. Their means differ by the shift.", "name": "fig-estimators"}}
shifts = torch.linspace(0.05, 2.5, 100)
by_kind = torch.tensor([exact_variances(shift.item()) for shift in shifts]).mT
plots.curves(
    {"plain": (shifts, by_kind[0]), "non-negative": (shifts, by_kind[1])},
    x_label="shift of the mean",
    y_label="variance of one sample (nats squared)",
    log_x=True,
    log_y=True,
    marks={"1.12": 1.12},
)

# %% [markdown]
# {numref}`fig-estimators` says when to use which: the non-negative one for laws that are nearly equal, the plain one otherwise.

# %% [markdown]
# (sec-kl-directions)=
# ## Which direction does what in this book
#
# | where | divergence | direction, and what follows |
# |---|---|---|
# | training by likelihood | data law from model | forward: the model covers the data |
# | gap of the bound, chapter 3 | encoder from true posterior | reverse: the encoder may miss modes of the posterior |
# | regularizer of a VAE, chapter 6 | encoder from prior | reverse in $z$: codes stay where the prior has mass |
# | levels of a hierarchical VAE, chapter 8 | level's encoder from level's prior | reverse in the encoder; both laws are learned; one term per level, by {eq}`eq-kl-chain` |
# | steps of a diffusion model, chapter 9 | step back, *given the data* $x$, from the model's step | forward: the first law is fixed, the model is fitted; one Gaussian formula {eq}`eq-kl-gaussians` per step |

# %% [markdown]
# (sec-kl-exercises)=
# ## Exercises
#
# Replace the three dots by your answer and run the cell. Numbers are in nats.

# %% tags=["nbval-check-output"]
from companion.page.exercises import kl_divergence as exercises

# %% [markdown]
# ```{exercise-start} Two coins
# :label: ex-bernoulli
# ```
# Write the divergence of two coins with heads probabilities $a$ and $b$. It must be right for $a = 0$ and $a = 1$ too. `a` and `b` are tensors.


# %% tags=["nbval-check-output"]
def kl_bernoulli(a, b):
    return ...


exercises.check_bernoulli(kl_bernoulli)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-bernoulli
# :label: ex-bernoulli-solution
# :class: dropdown
# ```
# One term for heads, one for tails.


# %% tags=["nbval-check-output"]
def kl_bernoulli(a, b):
    heads = torch.xlogy(a, a) - torch.xlogy(a, b)
    return heads + torch.xlogy(1 - a, 1 - a) - torch.xlogy(1 - a, 1 - b)


exercises.check_bernoulli(kl_bernoulli)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} No triangle inequality
# :label: ex-triangle
# ```
# Find three coins, given as a list of their heads probabilities, such that the divergence of the first from the third is larger than that of the first from the second plus that of the second from the third.

# %% tags=["nbval-check-output"]
answer = ...
exercises.check_triangle(answer)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-triangle
# :label: ex-triangle-solution
# :class: dropdown
# ```
# For coins with heads probabilities $a$, $b$, $c$ the direct way minus the two steps is $(a - b) \big( \log \frac{b}{1 - b} - \log \frac{c}{1 - c} \big)$, positive when $b$ lies strictly between $a$ and $c$. The three normal laws above suggest it too: small steps cost little, because the divergence grows like the square of a small change.

# %% tags=["nbval-check-output"]
a, b, c = coins = torch.tensor([0.1, 0.3, 0.6])
first, second, direct = kl_bernoulli(coins[[0, 1, 0]], coins[[1, 2, 2]])
formula = (a - b) * (b.logit() - c.logit())
print("the formula holds:", torch.isclose(direct - first - second, formula).item())
exercises.check_triangle([0.1, 0.3, 0.6])

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Waiting times
# :label: ex-exponential
# ```
# The exponential law with rate $a$ has the density $a e^{-a x}$ for $x > 0$. What is its divergence from the one with rate $b$? `a` and `b` are numbers.


# %% tags=["nbval-check-output"]
def kl_rates(a, b):
    return ...


exercises.check_exponential(kl_rates)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-exponential
# :label: ex-exponential-solution
# :class: dropdown
# ```
# The log-ratio is $\log (a / b) - (a - b) x$, and the mean of $x$ is $1 / a$.


# %% tags=["nbval-check-output"]
def kl_rates(a, b):
    return torch.tensor(math.log(a / b) + b / a - 1)


exercises.check_exponential(kl_rates)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Mutual information
# :label: ex-mutual-information
# ```
# A matrix holds the joint law of two variables. Compute the divergence of the joint law from the product of its marginals. This number is called the mutual information of the two. The matrix is a tensor and may hold zeros.


# %% tags=["nbval-check-output"]
def information(joint):
    return ...


exercises.check_mutual_information(information)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-mutual-information
# :label: ex-mutual-information-solution
# :class: dropdown
# ```
# The product of the marginals is an outer product; the rest is {eq}`def-kl`.


# %% tags=["nbval-check-output"]
def information(joint):
    product = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
    return kl(joint.flatten(), product.flatten())


exercises.check_mutual_information(information)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Fifty draws
# :label: ex-repeated-draws
# ```
# Two laws have a divergence of 0.03 nats. What is the divergence of fifty independent draws from the one, from fifty draws from the other?

# %% tags=["nbval-check-output"]
answer = ...
exercises.check_repeated_draws(answer)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-repeated-draws
# :label: ex-repeated-draws-solution
# :class: dropdown
# ```
# By the chain rule {eq}`eq-kl-chain` divergences of independent parts add up.

# %% tags=["nbval-check-output"]
exercises.check_repeated_draws(50 * 0.03)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} The best diagonal law
# :label: ex-best-diagonal
# ```
# Let $p = \mathcal{N}(0, \Sigma)$ and let $q$ be normal with mean zero and a *diagonal* covariance. Which variances make $D(q \Vert p)$ least? Encoders of later chapters have this form, and their target does not. `cov` is $\Sigma$, as a tensor; return the variances.


# %% tags=["nbval-check-output"]
def variances(cov):
    return ...


exercises.check_best_diagonal(variances)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-best-diagonal
# :label: ex-best-diagonal-solution
# :class: dropdown
# ```
# By {eq}`eq-kl-gaussians` the part that depends on $q$ is $\frac12 \sum_j \big( (\Sigma^{-1})_{jj}\, v_j - \log v_j \big)$, least for $v_j = 1 / (\Sigma^{-1})_{jj}$. That is the variance of one coordinate *given* the others, never larger than its variance.


# %% tags=["nbval-check-output"]
def variances(cov):
    return 1 / cov.inverse().diagonal()


exercises.check_best_diagonal(variances)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# (sec-kl-summary)=
# ## Summary
#
# - The divergence is the mean log-ratio under its first argument: the waste of a code made for the wrong law, in nats. It is zero only for equal laws {eq}`eq-kl-nonnegative`.
# - It is no distance: the order of the arguments matters, and there is no triangle inequality. One-to-one maps keep it, other maps can only lower it {eq}`eq-data-processing`.
# - The forward fit covers and matches moments {eq}`eq-forward-moments`; the reverse fit chooses, once the humps are far enough apart, and pays at most $\log 2$ for forgetting half of an equal mixture.
# - Between Gaussians it is a formula {eq}`eq-kl-gaussians`; elsewhere it is estimated from draws, and the estimator matters.
#
# **What the sources say, and where they need care.** All four sources use the divergence, in three notations and both orders; the {doc}`notation page </book/notation>` fixes one. The slides end the proof of Gibbs' inequality with an equality that is an inequality {eq}`eq-kl-support`, and say that the two orders are not equal, which is so in general but not always. They say that the divergence is invariant under a change of variables without adding that the change must be one-to-one. They
# show the reverse fit choosing a mode; the threshold says when it does. The second lecture prints the diagonal formula with squared variances, entry E10 of the {doc}`errata </book/errata>`. The notes exchange the two coins, entry E18, and call the divergence zero for similar laws, where it is zero for equal ones only. The tutorial calls it a distance, which it is not.
#
# **To read next.** {cite:t}`cover2006` for entropy, the divergence and large deviations; {cite:t}`kullback1951` for where it began.
