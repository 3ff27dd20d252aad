# %% [markdown]
# # KL divergence
#
# A distribution $p$ has two modes, and we want to approximate it by a single Gaussian $q$. Should $q$ be wide and cover both modes, although much of its mass then lies where $p$ has little? Or should it describe one mode well and leave out the other?

# %% tags=["setup", "hide-input"]
# The set-up cell: `make sync` writes it.

# %% tags=["unseen"]
import math

import torch
from torch.distributions import Categorical, Dirichlet, MultivariateNormal, Normal, kl_divergence

from companion.distributions import diagonal_normal
from companion.page import plots
from companion.page.sliders import Slider
from companion.page.verify import at_most, exact, monte_carlo, quadrature, verify
from companion.training import minimize

_ = torch.manual_seed(0)
torch.set_default_dtype(torch.double)

# %% tags=["serves"]
grid = torch.linspace(-30, 30, 12_001)


def integrate(values):
    return torch.trapezoid(values, grid)


def log_two_modes(x, c):
    """Log-density of an equal mixture of N(-c, 1) and N(c, 1)."""
    both = torch.stack([Normal(-c, 1.0).log_prob(x), Normal(c, 1.0).log_prob(x)])
    return both.logsumexp(0) - math.log(2)


# %% tags=["figure"] mystnb={"image": {"alt": "A density with two modes at minus 3 and 3. One Gaussian is wide and covers both modes; the other is narrow and sits on the right mode."}, "figure": {"caption": "A distribution $p$ with two modes and its two best approximations by a single Gaussian $q$. The wide one minimizes the KL divergence from $p$ to $q$, the narrow one that from $q$ to $p$.", "name": "fig-two-fits"}}
mean, log_std = torch.tensor(3.0, requires_grad=True), torch.tensor(0.0, requires_grad=True)


def reverse_kl():
    log_q = Normal(mean, log_std.exp()).log_prob(grid)
    return integrate(log_q.exp() * (log_q - log_two_modes(grid, 3.0)))


_ = minimize(reverse_kl, [mean, log_std])
opening = mean.item(), log_std.exp().item()
near = grid.abs() < 9
x = grid[near]
plots.curves(
    {
        "p, two modes": (x, log_two_modes(x, 3.0).exp()),
        "least D(p || q)": (x, Normal(0.0, 10**0.5).log_prob(x).exp()),
        "least D(q || p)": (x, Normal(*opening).log_prob(x).exp()),
    },
    x_label="x",
    y_label="probability density",
)

# %% [markdown]
# Both Gaussians of {numref}`fig-two-fits` are best: they minimize the same quantity, with its two arguments in different order. This chapter is about that quantity, the {term}`KL divergence`: what it measures, why it is never negative, why the order of its arguments matters so much, and how to compute it. The ELBO of the next chapter differs from a log-likelihood by a KL divergence, and contains another.
#
# One-dimensional integrals are computed as sums over a fine grid, which are exact to many digits for smooth curves that vanish at both ends. {ref}`A section below <sec-two-directions>` explains how the two Gaussians are found.

# %% [markdown]
# (sec-kl-definition)=
# ## Definition
#
# Let $p$ and $q$ be probability distributions on the same finite set. The Kullback-Leibler divergence from $p$ to $q$ {cite:p}`kullback1951` is the mean, under $p$, of the log-ratio of the two:
#
# $$
# D_{\mathrm{KL}}(p \,\Vert\, q) = \sum_x p(x) \log \frac{p(x)}{q(x)} .
# $$ (def-kl)
#
# In running text we also write $D(p \Vert q)$. The logarithm is natural, so the unit is the {term}`nat`; one nat is $1 / \log 2 \approx 1.44$ bits. Where $p(x) = 0$ the term counts as zero, because $t \log t \to 0$ for $t \to 0$. Where $q(x) = 0$ but $p(x) > 0$ the term, and with
# it the whole sum, is $+\infty$: under $p$ something happens that is impossible under $q$. For distributions with densities the sum becomes an integral,
#
# $$
# D_{\mathrm{KL}}(p \,\Vert\, q) = \int p(x) \log \frac{p(x)}{q(x)} \, \mathrm{d}x .
# $$ (def-kl-density)
#
# The integral can be $+\infty$ even where no density is zero: for a Cauchy distribution $p$ and a Gaussian $q$, $-\log q$ grows like $x^2$, and the mean of $x^2$ under $p$ is infinite. On finite sets the definition is one function:


# %%
def kl(p, q):
    """Sum of p log(p / q) with 0 log 0 = 0, along the last dimension."""
    happens = p > 0
    log_ratio = (p.where(happens, 1) / q.where(happens, 1)).log()
    return (p * log_ratio).sum(-1)


# %% [markdown]
# The infinite value appears when the *second* argument has a zero that the first has not:

# %% tags=["nbval-check-output"]
two_points, three_points = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.3, 0.3, 0.4])
print(f"p has a zero that q has not: {kl(two_points, three_points):.4f} nats")
print(f"q has a zero that p has not: {kl(three_points, two_points):.4f} nats")

# %% [markdown]
# The KL divergence is a cost in coding. (A *code* is here a way to write letters as bits, not the code of an autoencoder.) Up to rounding, a code that is optimal for $q$ uses $-\log q(x)$ nats for $x$. On data from $p$ its mean length is the *cross-entropy* $H(p, q) = -\sum p \log q$, while the best code for $p$ has the mean length $H(p) = -\sum p \log p$, the entropy. The KL divergence is the
# difference, the extra length caused by the wrong code:
#
# $$
# D_{\mathrm{KL}}(p \,\Vert\, q) = H(p, q) - H(p) .
# $$ (eq-kl-waste)
#
# If all probabilities are powers of one half, nothing is rounded, and the extra length can be counted in bits. We write a text of eight letters twice, with the code made for its own frequencies $p$, and with a code made for other frequencies $q$. In each code no code word is the beginning of another, so the bits can be decoded.

# %% tags=["nbval-check-output"]
text = "abbbbccd"
code_p = {"a": "110", "b": "0", "c": "10", "d": "111"}  # frequencies 1/8, 1/2, 1/4, 1/8
code_q = {"a": "0", "b": "10", "c": "110", "d": "111"}  # frequencies 1/2, 1/4, 1/8, 1/8
bits_p, bits_q = (len("".join(code[letter] for letter in text)) for code in (code_p, code_q))
waste = (bits_q - bits_p) / len(text) * math.log(2)
print(f"{bits_p} bits with the right code, {bits_q} with the wrong one")

# %% tags=["check", "nbval-check-output"]
p, q = torch.tensor([[1, 4, 2, 1], [4, 2, 1, 1]]) / 8.0
verify(
    "eq-kl-waste", kl(p, q), waste, rejects={"other order": kl(q, p), "bits": waste / math.log(2)}
)
by_torch = kl_divergence(Categorical(p), Categorical(q))
print("torch agrees:", torch.isclose(by_torch, kl(p, q)).item())

# %% [markdown]
# **What you can say now.** The KL divergence is the extra length, in nats per symbol, of a code made for the wrong distribution. It is infinite as soon as $q$ rules out something that $p$ produces.
#
# *Sources: A09.*

# %% [markdown]
# (sec-kl-nonnegative)=
# ## The KL divergence is never negative
#
# The extra length caused by a wrong code should not be negative. Indeed it never is.
#
# :::{prf:theorem} Gibbs' inequality
# :label: thm-gibbs
# For all distributions $p$ and $q$
#
# $$
# D_{\mathrm{KL}}(p \,\Vert\, q) \ge 0 ,
# $$ (eq-kl-nonnegative)
#
# with equality if and only if $p = q$.
# :::
#
# Why should a mean of log-ratios have a sign? The reason is {term}`Jensen's inequality`. For the concave logarithm and any positive random $y$ with finite mean it says
#
# $$
# \mathbb{E} \log y \le \log \mathbb{E}\, y ,
# $$ (eq-jensen)
#
# with equality if and only if $y$ is constant. It holds because the graph of the logarithm lies below each of its tangents.
#
# :::{dropdown} Proof of Jensen's inequality
# Let $m$ be the mean of $y$. The graph lies below its tangent at $m$: $\log y \le \log m + (y - m) / m$, with equality only at $y = m$. Take the mean of both sides; that of $y - m$ is zero. (At $m = 1$ the tangent says $\log y \le y - 1$.) $\square$
# :::
#
# :::{dropdown} Proof of the theorem
# If $q(x) = 0$ somewhere on the support of $p$, the KL divergence is infinite and there is nothing to prove. Otherwise apply {eq}`eq-jensen` to $y(x) = q(x) / p(x)$ under $p$, summing over the support of $p$, the set of all $x$ with $p(x) > 0$:
#
# $$
# - D_{\mathrm{KL}}(p \,\Vert\, q) = \mathbb{E}_p \log \frac{q(x)}{p(x)} \le \log \sum_{x:\, p(x) > 0} p(x) \frac{q(x)}{p(x)} = \log \sum_{x:\, p(x) > 0} q(x) \le \log 1 = 0 .
# $$
#
# Equality in the first step needs $q / p$ constant on the support of $p$, and equality in the last step needs all mass of $q$ on that support. Then the constant is 1. For densities replace the sums by integrals; $p = q$ then means that the two distributions are equal. $\square$
# :::
#
# For a $y$ with only two values, Jensen's inequality can be drawn.


# %% tags=["serves"]
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
# Move the slider to change the probabilities of the two values. The mean of the two values of $\log y$ lies on the chord, and the chord lies below the tangent at the mean of $y$. The vertical gap between chord and curve is the difference of the two sides of {eq}`eq-jensen`; it vanishes when one value has probability 1.

# %% tags=["figure"]
Slider(
    torch.linspace(0, 1, 11),
    jensen,
    description="weight of the right point",
    label="{:.1f}",
    alt="The logarithm, a chord below it, the tangent above it and the gap at the mean, weight {:.1f}",
    start=5,
)

# %% [markdown]
# **Checks.** The first takes ten thousand random pairs of distributions on five points, half of them nearly equal, so that any bound above zero is rejected. The second tests Jensen's inequality on random positive numbers; the harmonic mean in place of the mean is rejected.

# %% tags=["check", "nbval-check-output"]
p, q = Dirichlet(torch.ones(5)).sample((2, 10_000))
q[5000:] = p[5000:] * (1 + 1e-4 * torch.randn(5000, 5))
q = q / q.sum(-1, keepdim=True)
zero = torch.zeros(10_000)
verify("eq-kl-nonnegative", -kl(p, q), zero, at_most(1e-15), rejects={"at least 1e-7": zero - 1e-7})

y = torch.rand(10_000, 6) + 0.01
harmonic = {"harmonic mean": -(1 / y).mean(1).log()}
verify("eq-jensen", y.log().mean(1), y.mean(1).log(), at_most(1e-15), rejects=harmonic)

# %% [markdown]
# Equality is reached only at $q = p$. For one of the $p$, a search for $q$ that starts from the uniform distribution and minimizes the KL divergence ends there.

# %% tags=["held", "nbval-check-output"]
logits = torch.zeros(5, requires_grad=True)
least = minimize(lambda: kl(p[0], logits.softmax(0)), [logits])
found = logits.detach().softmax(0)
print("the least KL divergence is zero:", abs(least.item()) < 1e-12)
print("found at q = p:", torch.allclose(found, p[0], rtol=0, atol=1e-6))

# %% [markdown]
# **A fine point.** The proof does not end with $\log \sum_x q(x) = \log 1 = 0$. The sum runs only over the support of $p$, so the last step is an inequality too. Jensen's inequality proves more than the theorem:
#
# $$
# D_{\mathrm{KL}}(p \,\Vert\, q) \ge - \log q(\operatorname{supp} p) ,
# $$ (eq-kl-support)
#
# with equality whenever $p$ is $q$ conditioned on a set, for then the ratio is constant on the support of $p$. The pair `two_points`, `three_points` is of this kind: the second puts 0.4 on the point where the first has nothing, and divides the rest as the first does.

# %% tags=["check", "nbval-check-output"]
p = Dirichlet(torch.ones(3)).sample((10_000,))
p = torch.nn.functional.pad(p, (0, 2))  # no mass on the last two of five points
bound = -q[:, :3].sum(1).log()
verify("eq-kl-support", bound, kl(p, q), at_most(1e-12))
given = torch.nn.functional.pad(q[:, :3] / q[:, :3].sum(1, keepdim=True), (0, 2))
outside = {"mass outside": q[:, 3:].sum(1)}
verify("eq-kl-support", kl(given, q), bound, rejects=outside)
least = -three_points[:2].sum().log()
print(f"attained by the pair above: {kl(two_points, three_points):.4f} = {least:.4f}")

# %% [markdown]
# **What you can say now.** Up to rounding, no code is shorter in the mean than the one made for the right distribution. This follows from Jensen's inequality {eq}`eq-jensen`.
#
# *Sources: A10, A11.*

# %% [markdown]
# (sec-kl-gaussians)=
# ## Between Gaussians
#
# The models of this book are built from Gaussians, and between Gaussians the KL divergence has a closed form. We begin in one dimension. With $p = \mathcal{N}(m_p, s_p^2)$ and $q = \mathcal{N}(m_q, s_q^2)$,
#
# $$
# D_{\mathrm{KL}}(p \,\Vert\, q) = \log \frac{s_q}{s_p} + \frac{s_p^2 + (m_p - m_q)^2}{2 s_q^2} - \frac12 .
# $$ (eq-kl-normals)
#
# :::{dropdown} Proof
# $\log p - \log q = \log (s_q / s_p) - (x - m_p)^2 / 2 s_p^2 + (x - m_q)^2 / 2 s_q^2$. Take the mean under $p$: the second term gives $-\frac12$, and $\mathbb{E}_p (x - m_q)^2 = s_p^2 + (m_p - m_q)^2$. $\square$
# :::


# %%
def kl_normals(m_p, s_p, m_q, s_q):
    return math.log(s_q / s_p) + (s_p**2 + (m_p - m_q) ** 2) / (2 * s_q**2) - 0.5


# %% tags=["check", "nbval-check-output"]
p, q = Normal(0.0, 1.0), Normal(0.5, 2.0)
integral = integrate(p.log_prob(grid).exp() * (p.log_prob(grid) - q.log_prob(grid)))
closed, swapped = kl_normals(0.0, 1.0, 0.5, 2.0), kl_normals(0.5, 2.0, 0.0, 1.0)
wrong = {"other order": swapped, "mean not squared": closed + (0.5 - 0.5**2) / 8}
verify("eq-kl-normals", integral, closed, quadrature, rejects=wrong)

# %% [markdown]
# **Not a distance.** The KL divergence is not symmetric in general, though it can be: for two Gaussians of equal variance both orders give the same value. It does not obey the triangle inequality either: for three Gaussians in a row it is 2 nats from the first to the last, and only 1 for the two short steps together.

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
# \begin{aligned}
# D_{\mathrm{KL}}(p \,\Vert\, q) = \frac12 \Big( &\operatorname{tr}(\Sigma_q^{-1} \Sigma_p) + (\mu_p - \mu_q)^\top \Sigma_q^{-1} (\mu_p - \mu_q) \\
# &- d + \log \frac{\det \Sigma_q}{\det \Sigma_p} \Big) .
# \end{aligned}
# $$ (eq-kl-gaussians)
#
# :::{dropdown} Proof
# The log-ratio is $\frac12 \log \frac{\det \Sigma_q}{\det \Sigma_p} - \frac12 (x - \mu_p)^\top \Sigma_p^{-1} (x - \mu_p) + \frac12 (x - \mu_q)^\top \Sigma_q^{-1} (x - \mu_q)$. Under $p$, the mean of $(x - a)^\top M (x - a)$ is
# $\operatorname{tr}(M \Sigma_p) + (\mu_p - a)^\top M (\mu_p - a)$. The first quadratic form gives $\operatorname{tr} I = d$, the second gives the first two terms of the claim. $\square$
# :::
#
# **Check.** The log-ratio is averaged over samples from $p$, and torch's value is compared as well. A formula that forgets the means is rejected.

# %% tags=["check", "nbval-check-output"]
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
# Two special cases follow; both are used from chapter 3 on. When $q$ is the standard Gaussian,
#
# $$
# \begin{aligned}
# D_{\mathrm{KL}}\big(&\mathcal{N}(\mu, \Sigma) \,\Vert\, \mathcal{N}(0, I)\big) \\
# &= \frac12 \big( \operatorname{tr} \Sigma + \lVert \mu \rVert^2 - d - \log \det \Sigma \big) ,
# \end{aligned}
# $$ (eq-kl-standard)
#
# and when $\Sigma$ is also diagonal, with variances $\sigma_j^2$, the sum runs over single coordinates,
#
# $$
# \begin{aligned}
# D_{\mathrm{KL}}\big(&\mathcal{N}(\mu, \operatorname{diag} \sigma^2) \,\Vert\, \mathcal{N}(0, I)\big) \\
# &= \frac12 \sum_{j} \big( \sigma_j^2 + \mu_j^2 - 1 - \log \sigma_j^2 \big) .
# \end{aligned}
# $$ (eq-kl-diagonal)
#
# A slip in the last formula is the *square* of the variance in place of the variance (entry E10 of the {doc}`errata </book/errata>`).
#
# **Check.** Both formulas are compared with torch. The slip E10 is rejected, and the first formula without its log-determinant.

# %% tags=["check", "nbval-check-output"]
standard = MultivariateNormal(torch.zeros(d), torch.eye(d))
closed = 0.5 * (cov_p.trace() + mean_p @ mean_p - d - cov_p.logdet())
forgotten = {"log det forgotten": closed + 0.5 * cov_p.logdet()}
verify("eq-kl-standard", kl_divergence(p, standard), closed, rejects=forgotten)

mean, variance = torch.tensor([[0.3, -0.7]]), torch.tensor([[0.5, 2.0]])
by_torch = kl_divergence(diagonal_normal(mean, variance.sqrt()), diagonal_normal(0 * mean, 1.0))
closed, printed = (0.5 * (v + mean**2 - 1 - v.log()).sum(1) for v in (variance, variance**2))
verify("eq-kl-diagonal", by_torch, closed, rejects={"E10": printed})

# %% [markdown]
# In the companion package the KL divergence is always torch's `kl_divergence`, applied to distributions. The formulas are written out only where a chapter derives or checks something.
#
# **What you can say now.** Between Gaussians the KL divergence has a closed form. From a diagonal Gaussian to the standard one it is a sum over coordinates. It is not a distance: it is not symmetric and does not obey the triangle inequality.
#
# *Sources: A10, A23, B14, C08, D16.*

# %% [markdown]
# (sec-kl-maps)=
# ## What maps do to the KL divergence
#
# Apply one map $\tau$ to samples from $p$ and from $q$, for example to compress them. What happens to the KL divergence? Write $\tau_\# p$ for the distribution of $\tau(x)$ when $x \sim p$.
#
# :::{prf:theorem} Data processing
# :label: thm-data-processing
# For every map $\tau$,
#
# $$
# D_{\mathrm{KL}}(\tau_\# p \,\Vert\, \tau_\# q) \le D_{\mathrm{KL}}(p \,\Vert\, q) .
# $$ (eq-data-processing)
#
# If the right side is finite, equality holds if and only if $p$ and $q$ have the same conditional distribution of $x$ given $\tau(x)$, for almost every value of $\tau(x)$ under $p$. A one-to-one map is an example.
# :::
#
# :::{dropdown} Proof for finite sets
# Group the sum {eq}`def-kl` by the values $y = \tau(x)$. Within a group, let $p(y)$ and $q(y)$ be the total masses. Groups with $p(y) = 0$ add nothing; if $q(y) = 0 < p(y)$, both sides are infinite. Otherwise the conditional distributions $p(x \mid y) = p(x) / p(y)$ and $q(x \mid y)$ give
# $\log \frac{p(x)}{q(x)} = \log \frac{p(y)}{q(y)} + \log \frac{p(x \mid y)}{q(x \mid y)}$, hence $D(p \Vert q) = D(\tau_\# p \Vert \tau_\# q) + \sum_y p(y)\, D(p(\cdot \mid y) \Vert q(\cdot \mid y))$. By {prf:ref}`thm-gibbs` the last sum is not negative, and it is zero exactly when the two conditional distributions agree wherever $p(y) > 0$, for instance when each
# group has one element. On other spaces the conditional distributions given $y$ take the place of the groups. $\square$
# :::
#
# This is the {term}`data processing inequality`. Processing can only lose information about which of the two distributions a sample came from; a one-to-one map loses none. The exponential, for example, turns Gaussians into log-normal distributions with the same KL divergence. The absolute value loses the sign, and the KL divergence falls.

# %% tags=["numbers", "nbval-check-output"]
p, q = Normal(0.3, 0.7), Normal(-0.2, 1.4)
before = kl_divergence(p, q)

t = torch.linspace(-12, 12, 200_001).exp()
log_p, log_q = (normal.log_prob(t.log()) - t.log() for normal in (p, q))  # log-normal
after_exp = torch.trapezoid(log_p.exp() * (log_p - log_q), t)

u = torch.linspace(0, 8, 8_001)
folded_p, folded_q = (f.log_prob(u).exp() + f.log_prob(-u).exp() for f in (p, q))
after_abs = torch.trapezoid(folded_p * (folded_p / folded_q).log(), u)
print(f"before {before:.4f}, after exp {after_exp:.4f}, after abs {after_abs:.4f}")

# %% tags=["check", "nbval-check-output"]
rule, other = quadrature.within(1e-7), {"absolute value": after_abs}
verify("eq-data-processing", after_exp, before, rule, rejects=other)
verify("eq-data-processing", after_abs, before, at_most(0.0), rejects={"halved": before / 2})

# %% [markdown]
# Equality does not need a one-to-one map. Toss a coin three times. The *number* of heads does not contain the order, and yet it loses nothing that could tell two coins apart, since given the number every order is equally likely for both. Such a map is called *sufficient* in statistics. The first toss alone is not sufficient. Chapter 9 uses the same criterion for a chain of noisy images.

# %% tags=["check", "nbval-check-output"]
sequences = torch.cartesian_prod(*[torch.arange(2)] * 3)
heads = sequences.sum(1)
p, q = (a**heads * (1 - a) ** (3 - heads) for a in (0.3, 0.6))  # probability of each sequence
counts = torch.nn.functional.one_hot(heads).double()
first = torch.nn.functional.one_hot(sequences[:, 0]).double()
only_first = {"first toss": kl(p @ first, q @ first)}
verify("eq-data-processing", kl(p @ counts, q @ counts), kl(p, q), rejects=only_first)

# %% [markdown]
# The *entropy* of a density is not invariant in this way: stretching the axis changes it, although nothing is lost. A smooth one-to-one map divides both densities by the same factor, the size of its derivative. The factor cancels in the ratio of the KL divergence, and remains in the entropy.

# %% tags=["nbval-check-output"]
entropy_after = -torch.trapezoid(log_p.exp() * log_p, t)
print(f"entropy before {Normal(0.3, 0.7).entropy():.4f}, after exp {entropy_after:.4f}")

# %% [markdown]
# The identity inside the proof is useful in itself. For two joint distributions of $x$ and $y$, the *chain rule* of the KL divergence reads
#
# $$
# \begin{aligned}
# D_{\mathrm{KL}}\big(p(x, y) \Vert q(x, y)\big) &= D_{\mathrm{KL}}\big(p(y) \Vert q(y)\big) \\
# &\quad + \mathbb{E}_{p(y)} D_{\mathrm{KL}}\big(p(x \mid y) \Vert q(x \mid y)\big) .
# \end{aligned}
# $$ (eq-kl-chain)
#
# To obtain it, take the map $(x, y) \mapsto y$; with densities the sums become integrals. In later chapters the chain rule splits the bound of a hierarchical VAE into one term per level, and the bound of a diffusion model into one term per step.
#
# **Check.** For a pair of correlated Gaussians all three terms are known in closed form, and they are compared. The marginals alone are rejected, and the conditional term with $y$ at its mean.


# %% tags=["serves"]
def condition(joint):
    """Slope, offset and variance of x given y, for a Gaussian pair (x, y)."""
    (v_x, cov), (_, v_y) = joint.covariance_matrix
    slope = cov / v_y
    return slope, joint.mean[0] - slope * joint.mean[1], v_x - slope * cov


# %% tags=["check", "nbval-check-output"]
cov_p, cov_q = torch.tensor([[[1.0, 0.6], [0.6, 2.0]], [[1.5, -0.3], [-0.3, 1.0]]])
joint_p = MultivariateNormal(torch.tensor([0.2, -0.4]), cov_p)
joint_q = MultivariateNormal(torch.zeros(2), cov_q)
y_p = Normal(joint_p.mean[1], cov_p[1, 1].sqrt())
y_q = Normal(joint_q.mean[1], cov_q[1, 1].sqrt())
(a_p, b_p, v_p), (a_q, b_q, v_q) = condition(joint_p), condition(joint_q)
m, v = y_p.mean, y_p.variance  # E (difference of conditional means)^2 under p(y)
square = ((a_p - a_q) * m + b_p - b_q) ** 2 + (a_p - a_q) ** 2 * v
inner = 0.5 * ((v_q / v_p).log() + (v_p + square) / v_q - 1)
at_mean = inner - 0.5 * (a_p - a_q) ** 2 * v / v_q  # y replaced by its mean
total, outer = kl_divergence(joint_p, joint_q), kl_divergence(y_p, y_q)
wrong = {"marginals only": outer, "y at its mean": outer + at_mean}
verify("eq-kl-chain", total, outer + inner, rejects=wrong)

# %% [markdown]
# A *random* map draws $y$ from a distribution that depends on $x$, the same one for $p$ and for $q$. By the chain rule the pair $(x, y)$ then has the same KL divergence as $x$ alone. Since $y$ is a function of the pair, {prf:ref}`thm-data-processing` holds for random maps too.
#
# **Check.** The example keeps each of five points with probability 0.95 and otherwise moves it to a random place. In a thousand cases the KL divergence never rises, and in some it falls by less than a quarter.

# %% tags=["check", "nbval-check-output"]
p, q = Dirichlet(torch.ones(5)).sample((2, 1_000))
channel = 0.95 * torch.eye(5) + 0.05 * Dirichlet(torch.ones(5)).sample((5,))  # y given x
pair_p, pair_q = ((joint[..., None] * channel).flatten(1) for joint in (p, q))
print("the pair keeps it:", torch.allclose(kl(pair_p, pair_q), kl(p, q)))
before, after = kl(p, q), kl(p @ channel, q @ channel)
lower = {"three quarters": 0.75 * before}
verify("eq-data-processing", after, before, at_most(1e-12), rejects=lower)

# %% [markdown]
# **What you can say now.** No processing of the data, random or not, can increase the KL divergence, and a sufficient one keeps it. The chain rule splits the KL divergence of a pair into that of one variable and a conditional rest.
#
# *Sources: A10.*

# %% [markdown]
# (sec-two-directions)=
# ## Two directions, two answers
#
# We return to {numref}`fig-two-fits`. Which Gaussian $q = \mathcal{N}(m, s^2)$ is closest to a distribution $p$? The *forward* problem minimizes $D(p \Vert q)$, the {term}`forward KL`, and the *reverse* problem $D(q \Vert p)$, the {term}`reverse KL`. First, where is each of the two large?


# %% tags=["serves"]
def integrands(m):
    fig, (left, right) = plots.figure(columns=2, height=2.9)
    x = grid[(grid > -4) & (grid < 9)]
    log_p, log_q = Normal(0.0, 1.0).log_prob(x), Normal(m, 0.5).log_prob(x)
    densities = {"p": (x, log_p.exp()), "q": (x, log_q.exp())}
    forward = log_p.exp() * (log_p - log_q)
    terms = {"p log p/q": (x, forward), "q log q/p": (x, log_q.exp() * (log_q - log_p))}
    _ = plots.curves(densities, x_label="x", y_label="density", axes=left)
    _ = plots.curves(terms, x_label="x", y_label="integrand (nats per unit of x)", axes=right)
    right.set_ylim(-1, 8)
    return fig


# %% [markdown]
# Move $q$ away from $p$ and watch the two integrands. The forward one becomes very large where $p$ has mass and $q$ has little. The reverse one is small there, because it is weighted with $q$; it is large where $q$ has mass and $p$ has little. (The curves leave the plot at 8.)

# %% tags=["figure"]
Slider(
    torch.linspace(0, 5, 11),
    integrands,
    description="mean of q",
    label="{:.1f}",
    alt="Two Gaussian densities and the integrands of both KL divergences, q at mean {:.1f}",
    start=4,
)

# %% [markdown]
# **The forward fit covers all of $p$.** The forward problem has an answer in closed form, for every density $p$ with finite variance and entropy.
#
# :::{prf:theorem} Forward KL matches moments
# :label: thm-moments
# Let $p$ have a density, finite variance and finite entropy. Among all Gaussians, $D_{\mathrm{KL}}(p \Vert \mathcal{N}(m, s^2))$ is least for the mean and variance of $p$,
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
# **The reverse fit may choose a mode.** The reverse problem has no such formula, so we search. Both KL divergences are integrals over the grid, and the optimizer `minimize` changes the mean and the log of the standard deviation. As in chapter 1, it finds a *local* minimum near its start.
#
# In high dimension there is no grid, and then the two problems need different things. The reverse problem needs samples from $q$ and the density of $p$; a constant factor of the density may be unknown, since it only adds a constant to the KL divergence. The forward problem needs samples from $p$, but no density of it.


# %%
def forward(log_p, log_q):
    return integrate(log_p.exp() * (log_p - log_q))


def reverse(log_p, log_q):
    q = log_q.exp()  # the last two terms cancel, unless q leaves the grid
    return integrate(q * (log_q - log_p)) - integrate(q) + 1


# %%
def fit_normal(divergence, log_p, m, s=1.0):
    """The Gaussian of least KL divergence, searched from mean m, and its value."""
    mean, log_std = (torch.tensor(v, requires_grad=True) for v in (m, math.log(s)))
    value = minimize(
        lambda: divergence(log_p, Normal(mean, log_std.exp()).log_prob(grid)),
        [mean, log_std],
        max_steps=60,
    )
    return mean.item(), log_std.exp().item(), value.item()


# %% tags=["check", "nbval-check-output"]
skewed = torch.stack([Normal(-1.0, 0.5).log_prob(grid), Normal(2.0, 1.0).log_prob(grid)])
log_p = (skewed + torch.tensor([0.3, 0.7]).log()[:, None]).logsumexp(0)
mean = 0.3 * -1.0 + 0.7 * 2.0
variance = 0.3 * (0.25 + 1.0) + 0.7 * (1.0 + 4.0) - mean**2
m, s, _ = fit_normal(forward, log_p, 0.0)
reverse_m, reverse_s, _ = fit_normal(reverse, log_p, 0.0)
wrong = {"reverse fit": [reverse_m, reverse_s**2]}
verify("eq-forward-moments", [m, s**2], [mean, variance], exact.within(1e-6), rejects=wrong)

# %% [markdown]
# The reverse fit is often called {term}`mode-seeking`: it chooses one mode and drops the other. Does it always? Two modes at $\pm c$ with unit variance give the answer.


# %%
def best_reverse(c):
    """The better of two searches, from the middle and from the right mode."""
    log_p = log_two_modes(grid, c)
    return min((fit_normal(reverse, log_p, m) for m in (0.0, c)), key=lambda fit: fit[2])


# %% tags=["serves"]
def both_fits(c):
    fig, (axes,) = plots.figure()
    x, (m, s, _) = grid[near], best_reverse(c)
    lines = {
        "p": (x, log_two_modes(x, c).exp()),
        "forward fit": (x, Normal(0.0, (1 + c**2) ** 0.5).log_prob(x).exp()),
        "reverse fit": (x, Normal(m, s).log_prob(x).exp()),
    }
    _ = plots.curves(lines, x_label="x", y_label="probability density", axes=axes)
    axes.set_ylim(0, 0.45)
    return fig


# %% [markdown]
# Move the modes apart. From which distance on does the reverse fit describe only one of them?

# %% tags=["figure"]
centers = [0.5, 1.0, 1.5, 2.0, 2.4, 2.7, 2.9, 3.2, 3.6, 4.0]
Slider(
    centers,
    both_fits,
    description="distance of the modes from zero",
    label="{:.1f}",
    alt="Two modes at plus and minus {:.1f} with the forward and the reverse fit",
    start=3,
)

# %% [markdown]
# For these densities the reverse fit chooses a mode only when the modes are far apart. At $c = 2$, when they are clearly visible, it still covers both. To find the threshold, we compare the value of the search from the middle with that of the search from a mode. Halving an interval twelve times locates the $c$ at which the two are equal.

# %% tags=["numbers", "nbval-check-output"]
low, high = 2.4, 3.2
for _ in range(12):
    c = (low + high) / 2
    log_p = log_two_modes(grid, c)
    middle, at_mode = (fit_normal(reverse, log_p, m)[2] for m in (0.0, c))
    low, high = (low, c) if at_mode < middle else (c, high)
print(f"the best reverse fit leaves the middle at c = {c:.2f},")
print(f"when the modes are {2 * c:.1f} standard deviations apart")

# %% tags=["nbval-check-output"]
for start in (0.0, 2.8):
    m, s, value = fit_normal(reverse, log_two_modes(grid, 2.8), start)
    print(f"c = 2.8, from {start:.1f}: N({abs(m):.3f}, {s:.3f}^2), {value:.5f} nats")

# %% [markdown]
# At the threshold the best fit jumps. But local minima of both kinds exist on either side of it, so an optimizer may stay at the wrong one. Below the threshold, minima near the modes exist from $c \approx 2.41$ on, although the middle is better. Above it, the wide fit in the middle does not disappear: at $c = 3$ it is still a local minimum, since both eigenvalues of the second derivatives are positive there.

# %% tags=["numbers", "nbval-check-output"]
stays = [fit_normal(reverse, log_two_modes(grid, c), c)[0] > 1 for c in (2.40, 2.42)]
print("a search from the mode stays there: at 2.40", stays[0], "and at 2.42", stays[1])
centered_m, centered_s, centered = fit_normal(reverse, log_two_modes(grid, 3.0), 0.0)


def reverse_at(v):
    return reverse(log_two_modes(grid, 3.0), Normal(v[0], v[1].exp()).log_prob(grid))


found = torch.tensor([centered_m, math.log(centered_s)])
curvatures = torch.linalg.eigvalsh(torch.autograd.functional.hessian(reverse_at, found))
print(f"at c = 3, in the middle: N(0, {centered_s:.2f}^2), {centered:.3f} nats,", end=" ")
print(f"at a mode {best_reverse(3.0)[2]:.3f}")
print("the middle is a local minimum:", abs(centered_m) < 1e-6 and bool((curvatures > 0).all()))

# %% tags=["held", "nbval-check-output"]
again = torch.tensor(best_reverse(3.0)[:2])
print("the opening figure shows the best fit:", torch.allclose(again, torch.tensor(opening)))
print("at c = 2 it covers both:", abs(best_reverse(2.0)[0]) < 1e-3)
print("no search left the grid:", all(best_reverse(c)[1] < 5 for c in centers))

# %% [markdown]
# How large is the KL divergence when $q$ describes only one mode? Let $q$ be the right component, $\mathcal{N}(c, 1)$. Then
#
# $$
# D_{\mathrm{KL}}(q \,\Vert\, p) = \log 2 - \mathbb{E}_{x \sim \mathcal{N}(c, 1)} \log\big(1 + e^{-2 c x}\big) ,
# $$ (eq-one-mode)
#
# which tends to $\log 2$ as the modes move apart. The mean that is subtracted is positive, so leaving out half of an equal mixture never costs more than one bit. The forward KL of the same $q$ grows like $c^2$. In fact the two add up to exactly $c^2$:
#
# $$
# D_{\mathrm{KL}}(p \,\Vert\, q) = c^2 - D_{\mathrm{KL}}(q \,\Vert\, p) .
# $$ (eq-one-mode-forward)
#
# :::{dropdown} Proof
# $p(x) = \frac12 q(x) (1 + \mathcal{N}(x; -c, 1) / \mathcal{N}(x; c, 1))$, and the ratio of the two densities is $e^{-2 c x}$. Insert this into $\mathbb{E}_q \log (q / p)$. Call the mean that is subtracted $\eta$. Since $\log(1 + u) \le \sqrt{u}$, it is at most $\mathbb{E}\, e^{-c x} = e^{-c^2 / 2}$, which tends to 0.
#
# In the forward direction $\log (p / q) = \log(1 + e^{-2 c x}) - \log 2$. Under the right component the mean of the first term is $\eta$. Under the left component write it as $-2 c x + \log(1 + e^{2 c x})$, whose mean is $2 c^2 + \eta$ by symmetry. Half of each gives $D(p \Vert q) = c^2 + \eta - \log 2$. $\square$
# :::

# %% tags=["check", "nbval-check-output"]
for c in (1.0, 3.0):
    log_p, log_q = log_two_modes(grid, c), Normal(c, 1.0).log_prob(grid)
    shared = integrate(log_q.exp() * torch.nn.functional.softplus(-2 * c * grid))
    choosing, covering = reverse(log_p, log_q), forward(log_p, log_q)
    expected, wrong = math.log(2) - shared, {"no overlap": math.log(2)}
    verify("eq-one-mode", choosing, expected, quadrature, rejects=wrong)
    expected, wrong = c**2 - choosing, {"limit": c**2 - math.log(2)}
    verify("eq-one-mode-forward", covering, expected, quadrature, rejects=wrong)
    print(f"c = {c:.0f}: reverse {choosing:.4f} nats, forward {covering:.4f} nats")

# %% [markdown]
# **What you can say now.** The forward fit matches mean and variance and covers all of $p$. Of two equal modes with unit variance, the best reverse fit leaves out one only when they are more than about 5.6 standard deviations apart, but a local search may end at another minimum.
#
# *Sources: A12, A13, C06.*

# %% [markdown]
# (sec-factorized)=
# ## Two dimensions: the approximation that is too narrow
#
# In later chapters $q$ is a Gaussian with a *diagonal* covariance, a *factorized* approximation of a distribution whose coordinates are correlated. Even when there is only one mode, the order of the arguments matters: it decides whether $q$ is too wide or too narrow.

# %% [markdown]
# :::{prf:theorem} The best factorized Gaussian
# :label: thm-factorized
# Let $p = \mathcal{N}(\mu, \Sigma)$ with invertible $\Sigma$. Among all $q = \mathcal{N}(m, \operatorname{diag} v)$ both directions choose $m = \mu$. The forward KL is least for the *marginal* variances,
#
# $$
# v_j = \Sigma_{jj} ,
# $$ (eq-factorized-forward)
#
# and the reverse KL for the *conditional* variances, those of one coordinate when all others are known,
#
# $$
# v_j = \frac{1}{(\Sigma^{-1})_{jj}} \;\le\; \Sigma_{jj} .
# $$ (eq-factorized-reverse)
# :::
#
# :::{dropdown} Proof
# Use {eq}`eq-kl-gaussians`. In both directions the only term with the means is a quadratic form, which is zero for $m = \mu$. Forward, what depends on $v$ is $\frac12 \sum_j (\Sigma_{jj} / v_j + \log v_j)$, least for $v_j = \Sigma_{jj}$. Reverse, it is $\frac12 \sum_j \big( (\Sigma^{-1})_{jj} v_j - \log v_j \big)$, least for $v_j = 1 / (\Sigma^{-1})_{jj}$. The density of $x_j$ with all others held fixed is proportional to $\exp(-\frac12 (\Sigma^{-1})_{jj} (x_j - a)^2)$ for some $a$, so this is the conditional variance. By the law of total variance it is at most the marginal one. $\square$
# :::
#
# In the plane, with unit variances and correlation $\rho$, the two answers are $1$ and $1 - \rho^2$. For $\rho = 0.9$ the reverse fit has less than half of the true standard deviation.
#
# **Check.** A search over means and variances, for a Gaussian in three dimensions, finds both answers. The conditional variances are rejected in the forward direction, and the marginal ones in the reverse.

# %% tags=["serves"]
cov = torch.tensor([[1.0, 0.9, 0.3], [0.9, 1.0, 0.2], [0.3, 0.2, 0.5]])
p = MultivariateNormal(torch.tensor([1.0, 0.0, -1.0]), cov)


def fit_factorized(divergence):
    """The variances of the best factorized Gaussian."""
    mean, log_v = (torch.zeros(3, requires_grad=True) for _ in range(2))
    _ = minimize(lambda: divergence(MultivariateNormal(mean, log_v.exp().diag())), [mean, log_v])
    return log_v.detach().exp()


# %% tags=["check", "nbval-check-output"]
marginal, conditional = cov.diagonal(), 1 / cov.inverse().diagonal()
found = fit_factorized(lambda q: kl_divergence(p, q))
wrong = {"conditional variances": conditional}
verify("eq-factorized-forward", found, marginal, exact.within(1e-6), rejects=wrong)
found = fit_factorized(lambda q: kl_divergence(q, p))
explained = cov[0, 1:] @ cov[1:, 1:].inverse() @ cov[1:, 0]  # by the two other coordinates
print("the first is what they leave:", torch.isclose(conditional[0], cov[0, 0] - explained).item())
wrong = {"marginal variances": marginal}
verify("eq-factorized-reverse", found, conditional, exact.within(1e-6), rejects=wrong)

# %% [markdown]
# {numref}`fig-factorized` shows both directions for $\rho = 0.9$, and beside it a mixture of two Gaussians in the plane, where the reverse fit chooses one mode as it did on the line.


# %% tags=["serves"]
def ellipse(mean, variances, correlation=0.0):
    """Points of the plane two standard deviations from the mean."""
    angle = torch.linspace(0, 2 * math.pi, 200)
    (s_1, s_2), rest = variances.sqrt(), (1 - correlation**2) ** 0.5
    second = correlation * angle.cos() + rest * angle.sin()
    return mean[0] + 2 * s_1 * angle.cos(), mean[1] + 2 * s_2 * second


# %% tags=["serves"]
axis = torch.linspace(-9, 9, 181)
plane = torch.cartesian_prod(axis, axis)
mode = torch.tensor([2.2, 2.2])
log_components = [
    diagonal_normal(m.expand(len(plane), 2), 1.0).log_prob(plane) for m in (mode, -mode)
]
log_p = torch.stack(log_components).logsumexp(0) - math.log(2)
mean, log_v = torch.tensor([2.0, 1.0], requires_grad=True), torch.zeros(2, requires_grad=True)


def reverse_in_the_plane():
    log_q = (Normal(mean, (log_v / 2).exp()).log_prob(plane)).sum(1)
    return (log_q.exp() * (log_q - log_p)).sum() * 0.1**2


_ = minimize(reverse_in_the_plane, [mean, log_v])
chosen = mean.detach(), log_v.detach().exp()

# %% tags=["figure"] mystnb={"image": {"alt": "Left: a narrow tilted ellipse, a large circle that contains it and a small circle inside it. Right: two circles, a large circle around the origin, and a circle that coincides with the upper right one."}, "figure": {"caption": "Ellipses at two standard deviations. Left: a Gaussian with correlation 0.9 and its best factorized approximations. Right: a mixture of two Gaussians and its best factorized approximations; the reverse one lies on one component.", "name": "fig-factorized"}}
panels, (left, right) = plots.figure(columns=2, height=3.6)
center, unit = torch.zeros(2), torch.ones(2)
lines = {
    "p": ellipse(center, unit, 0.9),
    "forward": ellipse(center, unit),
    "reverse": ellipse(center, unit * (1 - 0.9**2)),
}
_ = plots.curves(lines, x_label="$x_1$", y_label="$x_2$", axes=left)
lines = {
    "p": ellipse(mode, unit),
    "forward": ellipse(center, 1 + mode**2),
    "reverse": ellipse(*chosen),
}
_ = right.plot(*ellipse(-mode, unit), color="#0072B2", linewidth=1.8)
_ = [axes.set_aspect("equal", adjustable="datalim") for axes in (left, right)]
plots.curves(lines, x_label="$x_1$", y_label="$x_2$", axes=right)

# %% [markdown]
# Variational approximations minimize the reverse KL, and MacKay, Bishop and Blei et al. warn that their $q$ comes out too narrow {cite:p}`mackay2003,bishop2006,blei2017`. In chapter 5 the encoder of a VAE is such a $q$ and the posterior such a $p$.
#
# **What you can say now.** The reverse fit does not only choose among modes. The best factorized fit of a Gaussian also underestimates variances: it has the conditional ones, which are smaller than the marginal ones when the coordinates are correlated.

# %% [markdown]
# (sec-coins)=
# ## The probability of an unlikely sample: coins
#
# The KL divergence is also a rate at which probabilities fall. A coin with distribution $P$ is tossed $n$ times. How likely is it that the share of heads is exactly that of another coin $Q$ (for $n$ where this is a whole number of heads)? The probability is $e^{-n D(Q \Vert P)}$, up to a factor whose logarithm is small compared with $n$ {cite:p}`cover2006`. Note the order: the coin that is really tossed stands second.
#
# The extreme case is exact. If $P$ is fair and the share of heads is that of a coin with two heads, all $n$ tosses were heads:
#
# $$
# \begin{aligned}
# \Pr(n \text{ heads}) &= 2^{-n} = e^{- n D_{\mathrm{KL}}(Q \Vert P)} , \\
# Q &= (1, 0), \; P = (\tfrac12, \tfrac12) .
# \end{aligned}
# $$ (eq-all-heads)
#
# This outcome is possible, but unlikely. Now exchange the roles: a coin with two heads is tossed and shows as many tails as heads. The KL divergence is infinite, and the outcome is impossible. (Entry E18 of the {doc}`errata </book/errata>` has the two cases exchanged.)

# %% tags=["check", "nbval-check-output"]
fair, two_heads, n = torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.0]), 20
tosses = torch.distributions.Binomial(n, torch.tensor(0.5))
log_probability = tosses.log_prob(torch.tensor(20.0))
exponents = -n * kl(two_heads, fair), -n * kl(fair, two_heads)
verify("eq-all-heads", log_probability, exponents[0], rejects={"E18": exponents[1]})

# %% [markdown]
# For a share $a$ of heads strictly between 0 and 1, the exact probability is binomial, and Stirling's formula gives the factor in front. Let $b$ be the probability of heads of the coin $P$, also strictly between 0 and 1. Then
#
# $$
# \begin{aligned}
# \Pr(\text{share } a) &\approx \frac{e^{-n D(a, b)}}{\sqrt{2 \pi n\, a (1 - a)}} , \\
# D(a, b) &= a \log \frac{a}{b} + (1 - a) \log \frac{1 - a}{1 - b} .
# \end{aligned}
# $$ (eq-large-deviation)
#
# Here $D(a, b)$ is the KL divergence from the coin $Q$ with heads probability $a$ to $P$. In the exponent per toss the square root does not count in the limit: $-\frac1n \log \Pr \to D(a, b)$. The sign $\approx$ means that the ratio of both sides tends to 1 as $n$ grows.
#
# :::{dropdown} Proof
# The probability is $\binom{n}{n a} b^{n a} (1 - b)^{n (1 - a)}$. Stirling's formula says $k! \approx \sqrt{2 \pi k}\, (k / e)^k$ in the same sense. Insert it three times, for $n$, $n a$ and $n (1 - a)$. The powers of $n$ and $e$ cancel. What is left of the powers is $\big( (a / b)^a ((1 - a) / (1 - b))^{1 - a} \big)^{-n} = e^{-n D(a, b)}$, and the three square roots leave $1 / \sqrt{2 \pi n\, a (1 - a)}$. $\square$
# :::
#
# **Check.** The exact probability is compared for the fair coin and for a biased one. The wrong order of the arguments is rejected, and a formula without the square root.

# %% tags=["check", "nbval-check-output"]
a, n = 0.7, 10_000
Q = torch.tensor([a, 1 - a])
for b in (0.5, 0.6):
    P = torch.tensor([b, 1 - b])
    log_probability = torch.distributions.Binomial(n, P[0]).log_prob(torch.tensor(a * n))
    root = 0.5 * math.log(2 * math.pi * n * a * (1 - a))
    wrong = {"no square root": -n * kl(Q, P), "other order": -n * kl(P, Q) - root}
    rule = exact.within(1e-6)
    verify("eq-large-deviation", log_probability, -n * kl(Q, P) - root, rule, rejects=wrong)

# %% tags=["figure"] mystnb={"image": {"alt": "Minus one over n times the log-probability falls towards the horizontal line of the KL divergence as the number of tosses grows from ten to ten thousand."}, "figure": {"caption": "Seventy per cent heads in $n$ tosses of a fair coin. The exponent per toss approaches the KL divergence like $\\log n / 2n$.", "name": "fig-coins"}}
tosses = torch.tensor([10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000])
binomial = torch.distributions.Binomial(tosses.double(), torch.tensor(0.5))
per_toss = -binomial.log_prob(a * tosses) / tosses
plots.curves(
    {
        "-log probability / n": (tosses, per_toss),
        "KL divergence": (tosses, kl(Q, fair).repeat(len(tosses))),
    },
    x_label="number of tosses n",
    y_label="nats per toss",
    log_x=True,
)

# %% [markdown]
# In {numref}`fig-coins` the exponent per toss approaches the KL divergence slowly: by {eq}`eq-large-deviation` the square root adds $\frac{1}{2n} \log(2 \pi n\, a (1 - a))$ to it.
#
# **What you can say now.** The KL divergence $D(Q \Vert P)$ is the rate at which it becomes improbable that samples from $P$ look like $Q$.
#
# *Sources: C07.*

# %% [markdown]
# (sec-other-distances)=
# ## Other distances, and what noise changes
#
# For some pairs of distributions the KL divergence is of little use. This section compares it with three other measures. The *total variation* is the largest difference of the probabilities of one event,
#
# $$
# \operatorname{TV}(p, q) = \max_A |p(A) - q(A)| = \frac12 \sum_x |p(x) - q(x)| .
# $$ (def-total-variation)
#
# It is a distance and never larger than 1. A small KL divergence makes it small too, by *Pinsker's inequality* {cite:p}`cover2006`:
#
# $$
# D_{\mathrm{KL}}(p \,\Vert\, q) \ge 2 \operatorname{TV}(p, q)^2 .
# $$ (eq-pinsker)
#
# :::{dropdown} Proof
# Let $A$ be the event that attains the maximum, and write $a = p(A)$, $b = q(A)$. By {prf:ref}`thm-data-processing`, for the map that only says whether $A$ happened, $D(p \Vert q) \ge D(a, b)$, the KL divergence of two coins. Let $f(b) = D(a, b) - 2 (a - b)^2$. Then $f(a) = 0$, and $f'(b) = (b - a) \big( \frac{1}{b (1 - b)} - 4 \big)$. The bracket is not negative, since $b (1 - b) \le \frac14$. So $f$ falls until $b = a$ and rises after it, and is nowhere negative. $\square$
# :::
#
# The factor 2 is the best possible.
#
# **Check.** Random pairs of coins are used, half of them nearly fair and nearly equal; on these a factor of 2.1 is rejected.

# %% tags=["check", "nbval-check-output"]
coins = torch.rand(2, 10_000)
coins[:, 5000:] = 0.5 + 0.02 * (coins[:, 5000:] - 0.5)
p, q = torch.stack([coins, 1 - coins], -1)
total_variation = 0.5 * (p - q).abs().sum(-1)
wrong = {"factor 2.1": kl(p, q) * 2 / 2.1}
verify("eq-pinsker", 2 * total_variation**2, kl(p, q), at_most(1e-15), rejects=wrong)

# %% [markdown]
# The *Jensen-Shannon divergence* {cite:p}`lin1991` is the mean KL divergence of $p$ and of $q$ from their average $\frac12 (p + q)$; it is symmetric and at most $\log 2$. The *Wasserstein distance* $W_1$ is the least mean distance by which mass must be moved to turn $p$ into $q$.
#
# The four differ most where distributions do not overlap. For two point masses at distance $\delta > 0$ the KL divergence is infinite, the total variation 1 and the Jensen-Shannon divergence $\log 2$, *whatever* $\delta$ is. Only the Wasserstein distance, $\delta$, says how far apart they are {cite:p}`arjovsky2017`. So a model that is fitted to such a target by KL gets no gradient that says in which direction to move. Adding noise changes this. With Gaussian noise of standard deviation $\sigma$ on both points,
#
# $$
# D_{\mathrm{KL}} = \frac{\delta^2}{2 \sigma^2} , \qquad \operatorname{TV} = \operatorname{erf}\Big( \frac{\delta}{2 \sqrt{2}\, \sigma} \Big) .
# $$ (eq-noisy-points)
#
# :::{dropdown} Proof
# The first is {eq}`eq-kl-normals` for equal variances. For the second, the densities cross halfway, so the maximizing event is a half-line, whose probabilities are $\Phi(\delta / 2 \sigma)$ and $\Phi(-\delta / 2 \sigma)$, with $\Phi$ the distribution function of $\mathcal{N}(0, 1)$. $\square$
# :::

# %% tags=["check", "nbval-check-output"]
delta, sigma = 1.0, 0.8
log_p, log_q = Normal(0.0, sigma).log_prob(grid), Normal(delta, sigma).log_prob(grid)
total_variation = 0.5 * integrate((log_p.exp() - log_q.exp()).abs())
closed = [delta**2 / (2 * sigma**2), math.erf(delta / (2 * 2**0.5 * sigma))]
wrong = {"variance not doubled": [2 * closed[0], math.erf(delta / (2 * sigma))]}
sides = [forward(log_p, log_q), total_variation], closed
verify("eq-noisy-points", *sides, quadrature.within(1e-5), rejects=wrong)

# %% tags=["figure"] mystnb={"image": {"alt": "Four curves over the noise level on logarithmic axes. The KL divergence falls steeply from 200; total variation and Jensen-Shannon divergence are flat and then fall; the Wasserstein distance is constant at 1."}, "figure": {"caption": "Two points at distance 1, after Gaussian noise is added to both. Without noise the KL divergence is infinite and two other measures are saturated.", "name": "fig-noisy-points"}}
noise = torch.logspace(-1.3, 0.6, 60)
z = torch.linspace(-1, 1, 8_001)[:, None] * (0.5 + 12 * noise) + 0.5  # one grid per level
log_p, log_q = Normal(0.0, noise).log_prob(z), Normal(1.0, noise).log_prob(z)
log_mean = torch.logaddexp(log_p, log_q) - math.log(2)
js = torch.trapezoid(log_p.exp() * (log_p - log_mean), z, dim=0)  # by symmetry one half is enough
plots.curves(
    {
        "KL": (noise, 1 / (2 * noise**2)),
        "total variation": (noise, torch.erf(1 / (8**0.5 * noise))),
        "Jensen-Shannon": (noise, js),
        "Wasserstein": (noise, torch.ones(60)),
    },
    x_label="standard deviation of the noise",
    y_label="difference of the two distributions",
    log_x=True,
    log_y=True,
)

# %% [markdown]
# With noise the KL divergence of the two points is finite, and by {eq}`eq-noisy-points` its gradient points in the right direction. More noise is a random map, so by the data processing inequality the KL divergence cannot rise with it; in {numref}`fig-noisy-points` every curve but the constant one falls.

# %% [markdown]
# How fast does it fall? Add noise of variance $\tau$ to both: $p_\tau$ is the density of $x + \sqrt{\tau}\, \varepsilon$ for $x \sim p$, and $q_\tau$ that for $x \sim q$. Then
#
# $$
# \frac{\mathrm{d}}{\mathrm{d} \tau}\, D_{\mathrm{KL}}(p_\tau \,\Vert\, q_\tau) = - \tfrac12\, \mathbb{E}_{p_\tau} \big\Vert \nabla \log p_\tau(x) - \nabla \log q_\tau(x) \big\Vert^2 .
# $$ (eq-de-bruijn)
#
# This is a form of *de Bruijn's identity* {cite:p}`lyu2009`. The expectation on the right is the {term}`Fisher divergence`. It compares the slopes of the log-densities, $\nabla \log p(x)$, which are called {term}`scores <score>`. With much noise nothing of the divergence is left, so it is the sum of what is lost on the way:
#
# $$
# D_{\mathrm{KL}}(p \,\Vert\, q) = \tfrac12 \int_0^\infty \mathbb{E}_{p_\tau} \big\Vert \nabla \log p_\tau(x) - \nabla \log q_\tau(x) \big\Vert^2 \, \mathrm{d} \tau .
# $$ (eq-score-integral)
#
# In words: *to know a distribution it is enough to know its score at all levels of noise, and an error of the score, squared and added up, is a KL divergence.* That is how a diffusion model can learn a distribution by estimating noise, in chapters 9 and 12.
#
# :::{dropdown} Proof
# In one dimension; in more, sum over the components. Noise spreads a density by the heat equation, $\partial_\tau p = \frac12 p''$. With $r = \log (p / q)$, the derivative of $\int p\, r$ is $\int \partial_\tau p \; r + \int \partial_\tau p - \int \frac{p}{q}\, \partial_\tau q$. The second term is zero, since $p$ keeps its mass. Integrate the others by parts: $\frac12 \int p''\, r = -\frac12 \int p'\, r'$, and $-\frac12 \int \frac{p}{q}\, q'' = \frac12 \int \big( \frac{p}{q} \big)'\, q'$, where $\big( \frac{p}{q} \big)' = \frac{p}{q}\, r'$. The sum is $-\frac12 \int p\, r' \big( \frac{p'}{p} - \frac{q'}{q} \big) = -\frac12 \int p\, (r')^2$. $\square$
# :::
#
# **Check.** For two Gaussians both sides have a closed form. For a Gaussian and a mixture of two, the left side is a difference quotient of divergences and the right side an integral. The roles of $p$ and $q$ cannot be exchanged on the right: an expectation under $q_\tau$ is rejected, and so is the identity without its half. Last, the integral over the noise, from $10^{-6}$ to $10^6$, is compared with the KL divergence of the two Gaussians.


# %% tags=["serves"]
def noisy(tau):
    """Log-densities of a mixture and of a Gaussian, with noise of variance tau."""
    spread = (0.5 + tau) ** 0.5
    modes = [Normal(m, spread).log_prob(grid) for m in (-2.0, 2.0)]
    return torch.logaddexp(*modes) - math.log(2), Normal(0.5, (2 + tau) ** 0.5).log_prob(grid)


def slope(log_p):
    return torch.gradient(log_p, spacing=(grid,))[0]


# %% tags=["check", "nbval-check-output"]
tau, h = torch.tensor(0.4, requires_grad=True), 1e-3
gaussians = Normal(0.0, (0.3 + tau) ** 0.5), Normal(1.0, (1.5 + tau) ** 0.5)
(left,) = torch.autograd.grad(kl_divergence(*gaussians), tau)
a, b = 0.3 + tau.item(), 1.5 + tau.item()  # score difference (1/b - 1/a) x - 1/b
right = -0.5 * ((1 / b - 1 / a) ** 2 * a + 1 / b**2)
verify("eq-de-bruijn", left, right, exact, rejects={"no half": 2 * right})
left = (forward(*noisy(0.4 + h)) - forward(*noisy(0.4 - h))) / (2 * h)
log_p, log_q = noisy(0.4)
gap = (slope(log_p) - slope(log_q)) ** 2
right = -0.5 * integrate(log_p.exp() * gap)
wrong = {"no half": 2 * right, "under q": -0.5 * integrate(log_q.exp() * gap)}
verify("eq-de-bruijn", left, right, quadrature.within(1e-4), rejects=wrong)
taus = torch.logspace(-6, 6, 4001)
a, b = 0.3 + taus, 1.5 + taus
half = 0.5 * ((1 / b - 1 / a) ** 2 * a + 1 / b**2)
whole = kl_divergence(Normal(0.0, 0.3**0.5), Normal(1.0, 1.5**0.5))
wrong = {"up to 1": torch.trapezoid(half[taus < 1], taus[taus < 1])}
verify(
    "eq-score-integral", torch.trapezoid(half, taus), whole, quadrature.within(1e-4), rejects=wrong
)

# %% [markdown]
# **What you can say now.** A small KL divergence forces a small total variation, but not the other way around. For distributions that do not overlap the KL divergence is infinite at any distance, and noise makes it finite. With more noise it falls at a rate that is half the mean squared distance of the scores.
#
# *Sources: F03.*

# %% [markdown]
# (sec-maximum-likelihood)=
# ## Fitting a model is minimizing a KL divergence
#
# Why does the KL divergence appear in the training of models? Let $p_\theta$ be a model of the data, whose distribution is $p_{\text{data}}$. The mean log-likelihood is
#
# $$
# \mathbb{E}_{p_{\text{data}}} \log p_\theta(x) = - H(p_{\text{data}}) - D_{\mathrm{KL}}(p_{\text{data}} \,\Vert\, p_\theta) .
# $$ (eq-likelihood-kl)
#
# The entropy of the data does not depend on $\theta$. So maximizing the likelihood *is* minimizing the forward KL (in practice with a mean over the training set for $\mathbb{E}_{p_{\text{data}}}$). A model with a finite loss covers the data: if it gave any of them probability zero, the loss would be infinite. Even a perfect model reaches only $-H(p_{\text{data}})$, and a difference of two log-likelihoods is a difference of two KL divergences.

# %% tags=["check", "nbval-check-output"]
p_data, model = Normal(0.3, 0.7), Normal(-0.2, 1.4)
likelihood = integrate(p_data.log_prob(grid).exp() * model.log_prob(grid))
closed = -p_data.entropy() - kl_divergence(p_data, model)
wrong = {
    "plus sign": -p_data.entropy() + kl_divergence(p_data, model),
    "other order": -p_data.entropy() - kl_divergence(model, p_data),
}
verify("eq-likelihood-kl", likelihood, closed, quadrature, rejects=wrong)

# %% [markdown]
# **What you can say now.** Maximum likelihood minimizes the forward KL from the data to the model, which is infinite unless the model covers the data.

# %% [markdown]
# (sec-kl-estimation)=
# ## Estimating the KL divergence from samples
#
# Often the integral has no closed form, but both densities can be evaluated and $p$ can be sampled. Write $r = q(x) / p(x)$ for a sample $x \sim p$. The plain estimator averages $-\log r$. There is a second one,
#
# $$
# \mathbb{E}_p \big[ (r - 1) - \log r \big] = D_{\mathrm{KL}}(p \,\Vert\, q) ,
# $$ (eq-nonnegative-estimator)
#
# which is also unbiased, because $\mathbb{E}_p\, r = \int q = 1$, provided $q$ has no mass outside the support of $p$; otherwise the estimate is too small by that mass. Each of its samples is non-negative, since $\log r \le r - 1$. {cite:t}`schulman2020` calls the two estimators k1 and k3; code for the reinforcement learning of language models uses these names (`kl_estimator` of TRL).


# %%
def two_estimators(p, q, n=400_000):
    x = p.sample((n,))
    log_r = q.log_prob(x) - p.log_prob(x)
    return -log_r, log_r.expm1() - log_r


# %% tags=["check", "nbval-check-output"]
p, near_p, far = Normal(0.0, 1.0), Normal(0.1, 1.0), Normal(1.5, 1.0)
plain, tilted = two_estimators(p, near_p)
truth = kl_divergence(p, near_p)
wrong = {"plus log r": -truth, "twice": 2 * truth}
verify("eq-nonnegative-estimator", tilted, truth, monte_carlo, rejects=wrong)
print("plain never negative:", bool((plain >= 0).all()))
print("the other never negative:", bool((tilted >= 0).all()))

# %% [markdown]
# The condition on the support matters. For the pair `two_points`, `three_points` the mean of the second estimator is too small by 0.4, the mass that $q$ has outside the support of $p$.

# %% tags=["nbval-check-output"]
r = three_points[:2] / two_points[:2]
mean = (two_points[:2] * (r - 1 - r.log())).sum()
print(f"mean of the estimator {mean:.4f}, truth {kl(two_points, three_points):.4f} nats")

# %% [markdown]
# **Negative values.** A KL divergence is never negative, but a computed one can be. Here are three reasons. With few samples, the error of the plain estimate can be larger than a small KL divergence. With samples from $q$ instead of $p$, by mistake, the same average is $-D(q \Vert p)$. And if the density $q$ is too large by a constant factor $C > 1$, the result is too small by $\log C$; here the factor $1 / \sqrt{2 \pi}$ is forgotten.

# %% tags=["numbers", "nbval-check-output"]
with torch.random.fork_rng():  # the samples of later cells stay as they are
    x, x_q = p.sample((1000, 100)), far.sample((1000, 100))
few = (p.log_prob(x) - near_p.log_prob(x)).mean(1)
of_q = (p.log_prob(x_q) - far.log_prob(x_q)).mean()
too_large = (p.log_prob(x) + (x - 0.1) ** 2 / 2).mean()
print(
    "of estimates from 100 samples, more than a fifth are negative:",
    bool((few < 0).double().mean() > 0.2),
)
print(f"samples from q: {of_q:.1f} nats; truth {kl_divergence(p, far):.1f} nats")
print(f"q without its factor: {too_large:.1f} nats; truth {truth:.3f} nats")

# %% [markdown]
# Which of the two estimators is better? The one with the smaller variance. Near $r = 1$, $-\log r$ is of first order in $r - 1$, and $r - 1 - \log r$ of second order. So one expects the second estimator to be better where the distributions are close. For $p = \mathcal{N}(0, 1)$ and $q = \mathcal{N}(\delta, 1)$ the variances of one sample are
#
# $$
# \begin{aligned}
# \operatorname{Var}_p(-\log r) &= \delta^2 , \\
# \operatorname{Var}_p(r - 1 - \log r) &= e^{\delta^2} - 1 - \delta^2 .
# \end{aligned}
# $$ (eq-estimator-variances)
#
# :::{dropdown} Proof
# $\log r = \delta x - \delta^2 / 2$ has variance $\delta^2$. Next, $\mathbb{E}_p\, r^2 = e^{\delta^2}$, so $r$ has variance $e^{\delta^2} - 1$. The covariance of $r$ and $\log r$ is $\delta\, \mathbb{E}_p[r x] = \delta\, \mathbb{E}_q\, x = \delta^2$. Hence $r - \log r$ has variance $e^{\delta^2} - 1 + \delta^2 - 2 \delta^2$. $\square$
# :::
#
# The second variance is about $\delta^4 / 2$ for small $\delta$. The two are equal where $e^{\delta^2} = 1 + 2 \delta^2$, at $\delta \approx 1.12$.


# %%
def exact_variances(delta):
    return [delta**2, math.expm1(delta**2) - delta**2]


# %% tags=["check", "nbval-check-output"]
delta = 1.5
log_p, log_q = p.log_prob(grid), far.log_prob(grid)
samples = log_p - log_q, (log_q - log_p).expm1() - (log_q - log_p)
centered = [v - integrate(log_p.exp() * v) for v in samples]
variances = [integrate(log_p.exp() * v**2) for v in centered]
wrong = {
    "small delta only": [delta**2, delta**4 / 2],
    "independent terms": [delta**2, math.expm1(delta**2) + delta**2],
}
verify("eq-estimator-variances", variances, exact_variances(delta), quadrature, rejects=wrong)
print("at 1.12 the second is better:", exact_variances(1.12)[1] < 1.12**2)
print("at 1.13 the first is better:", exact_variances(1.13)[1] > 1.13**2)

# %% [markdown]
# The table shows the standard deviation of one sample in units of the KL divergence, from the formula and from samples. In the last row the two differ most.

# %% tags=["numbers"]
for name, q, delta in ("near", near_p, 0.1), ("far", far, 1.5):
    divergence, drawn = kl_divergence(p, q), two_estimators(p, q)
    for kind, sample, var in zip(
        ("plain", "non-negative"), drawn, exact_variances(delta), strict=True
    ):
        print(f"{name:5s}{kind:13s} exact {var**0.5 / divergence:7.4f}", end="")
        print(f"   from samples {sample.std() / divergence:7.4f}")

# %% tags=["figure"] mystnb={"image": {"alt": "Two rising lines on logarithmic axes. The variance of the non-negative estimator starts far below that of the plain one, crosses it at 1.12 and shoots up."}, "figure": {"caption": "The variance of one sample of both estimators, for two Gaussians of variance 1 whose means differ by the shift. Below a shift of 1.12 the non-negative one is better.", "name": "fig-estimators"}}
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
# For these Gaussians, {numref}`fig-estimators` says when to use which: the non-negative one below a shift of 1.12, the plain one above. This is no general rule: two distributions can be very close and still have an infinite $\mathbb{E}_p\, r^2$. An example is a mixture $q$ of 99 % $p = \mathcal{N}(0, 1)$ and 1 % $\mathcal{N}(0, 4)$:

# %% tags=["numbers", "nbval-check-output"]
log_p = p.log_prob(grid)
parts = torch.stack([log_p + math.log(0.99), Normal(0.0, 2.0).log_prob(grid) + math.log(0.01)])
log_q = parts.logsumexp(0)
plain_variance = integrate(log_p.exp() * (log_p - log_q) ** 2) - forward(log_p, log_q) ** 2
print(f"KL {forward(log_p, log_q):.1e} nats, variance of the plain estimator {plain_variance:.1e}")
for edge in (10, 15, 20):
    inside = (2 * log_q - log_p).exp().where(grid.abs() <= edge, 0)
    print(f"mean of r^2, integrated to {edge}: {integrate(inside):.1e}")

# %% [markdown]
# The integral of $r^2$ grows without bound: the second variance is infinite, although the KL divergence is tiny and the plain variance small.
#
# **What you can say now.** Two unbiased estimators of one KL divergence can differ in variance by orders of magnitude in either direction. Estimate both variances before you choose, with care for heavy tails.

# %% [markdown]
# (sec-kl-directions)=
# ## Which direction does what in this book
#
# The KL divergence returns in most chapters. Its direction says which mistakes to expect.
#
# | where | KL divergence | direction, and what follows |
# |---|---|---|
# | training by likelihood | from data distribution to model | forward: the model covers the data |
# | gap of the bound, chapter 3 | from encoder to true posterior | reverse: the encoder may miss modes of the posterior, and underestimate its variances |
# | regularizer of a VAE, chapter 6 | from encoder to prior | reverse in $z$: codes stay where the prior has mass |
# | levels of a hierarchical VAE, chapter 8 | from a level's encoder to its prior | reverse in the encoder; both distributions are learned; one term per level, by {eq}`eq-kl-chain` |
# | steps of a diffusion model, chapter 9 | from the step back *given the data* $x$ to the model's step | forward: the first distribution is fixed, the model is fitted; one Gaussian formula {eq}`eq-kl-gaussians` per step |

# %% [markdown]
# (sec-kl-exercises)=
# ## Exercises
#
# Replace the three dots by your answer and run the cell. Numbers are in nats.

# %% tags=["unseen", "nbval-check-output"]
from companion.page.exercises import kl_divergence as exercises

# %% [markdown]
# ```{exercise-start} Two coins
# :label: ex-bernoulli
# ```
# Write the KL divergence $D(a, b)$ of two coins with heads probabilities $a$ and $b$. It must be right for $a = 0$ and $a = 1$ too. `a` and `b` are tensors.


# %% tags=["answer", "nbval-check-output"]
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
# Find three coins, given as a list of their heads probabilities, such that the KL divergence from the first to the third is larger than the one from the first to the second plus the one from the second to the third.

# %% tags=["answer", "nbval-check-output"]
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
# For coins with heads probabilities $a$, $b$, $c$ the direct way minus the two steps is $(a - b) \big( \log \frac{b}{1 - b} - \log \frac{c}{1 - c} \big)$, positive when $b$ lies strictly between $a$ and $c$. The three Gaussians above suggest it too: small steps cost little, because the KL divergence grows like the square of a small change.

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
# The exponential distribution with rate $a$ has the density $a e^{-a x}$ for $x > 0$. What is the KL divergence from it to the one with rate $b$? `a` and `b` are numbers.


# %% tags=["answer", "nbval-check-output"]
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
# A matrix holds the joint distribution of two variables. Compute the KL divergence from it to the product of its marginals. This number is called the mutual information of the two. The matrix is a tensor and may hold zeros.


# %% tags=["answer", "nbval-check-output"]
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
# ```{exercise-start} Fifty samples
# :label: ex-repeated-draws
# ```
# The KL divergence from one distribution to another is 0.03 nats. What is the KL divergence between fifty independent samples of the first and fifty of the second?

# %% tags=["answer", "nbval-check-output"]
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
# By the chain rule {eq}`eq-kl-chain` the KL divergences of independent parts add up.

# %% tags=["nbval-check-output"]
exercises.check_repeated_draws(50 * 0.03)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} The best round Gaussian
# :label: ex-best-isotropic
# ```
# Let $p = \mathcal{N}(0, \Sigma)$ in $d$ dimensions and $q = \mathcal{N}(0, v I)$, with one variance $v$ for all directions. Which $v$ makes the reverse KL $D(q \Vert p)$ least? `cov` is $\Sigma$, as a tensor; return the variance.


# %% tags=["answer", "nbval-check-output"]
def variance(cov):
    return ...


exercises.check_best_isotropic(variance)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-best-isotropic
# :label: ex-best-isotropic-solution
# :class: dropdown
# ```
# By {eq}`eq-kl-gaussians` the part that depends on $v$ is $\frac12 ( v \operatorname{tr} \Sigma^{-1} - d \log v )$, least for $v = d / \operatorname{tr} \Sigma^{-1}$. This is the harmonic mean of the eigenvalues of $\Sigma$, and the smallest eigenvalues dominate it. The forward KL would choose their arithmetic mean, $\operatorname{tr} \Sigma / d$.


# %% tags=["nbval-check-output"]
def variance(cov):
    return len(cov) / cov.inverse().trace()


exercises.check_best_isotropic(variance)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# (sec-kl-summary)=
# ## Summary
#
# - The KL divergence is the mean log-ratio under its first argument: the extra length, in nats, of a code made for the wrong distribution. It is zero only for equal distributions {eq}`eq-kl-nonnegative`.
# - It is no distance: the order of the arguments matters, and there is no triangle inequality. Sufficient maps keep it, other maps lower it {eq}`eq-data-processing`.
# - The forward fit covers $p$ and matches its moments {eq}`eq-forward-moments`. The reverse fit of two equal modes chooses one once they are far enough apart, and a factorized one of correlated coordinates underestimates variances {eq}`eq-factorized-reverse`.
# - Between Gaussians it is a formula {eq}`eq-kl-gaussians`; elsewhere it is estimated from samples, and the estimator matters.
# - Between distributions that do not overlap it is infinite; noise makes it finite {eq}`eq-noisy-points`, and its rate of change with noise is half the squared distance of the scores {eq}`eq-de-bruijn`.
#
# **What needs care.** Several notations and both orders are in use; the {doc}`notation page </book/notation>` fixes one. The proof of Gibbs' inequality ends with an inequality {eq}`eq-kl-support`. The two orders can give the same value. The KL divergence is invariant under a change of variables only if the map is one-to-one, or at least sufficient. It is zero for equal distributions only, not for similar ones, and no distance. The diagonal formula has variances that
# are not squared (E10 of the {doc}`errata </book/errata>`), and of the two coins it is the fair one that may show heads only (E18).
#
# **To read next.** {cite:t}`cover2006` for entropy, the KL divergence and large deviations; {cite:t}`kullback1951` for where it began; {cite:t}`mackay2003` and {cite:t}`bishop2006` for the two directions in pictures; {cite:t}`blei2017` for what statisticians make of the reverse one.
