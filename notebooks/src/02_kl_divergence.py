# %% [markdown]
# # KL divergence
#
# A model almost never matches its data exactly, so training decides which mistakes it makes. Take data with two modes and a model that is a single Gaussian. The Gaussian can be wide and cover both modes, but then much of what it generates falls between them, where there are hardly any data. Or it can describe one mode well and never generate the other. Which of the two does training choose?

# %% tags=["setup", "hide-input"]
# The set-up cell: `make sync` writes it.

# %% tags=["unseen"]
import math

import torch
from torch.autograd.functional import hessian, jacobian
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


# %% tags=["figure"] mystnb={"image": {"alt": "A density with two modes at minus 3 and 3. One Gaussian is wide and covers both modes; the other is narrow and sits on the right mode."}, "figure": {"caption": "Data with two modes, $p$, and its two best approximations by a single Gaussian $q$. The wide one minimizes the KL divergence from $p$ to $q$, written $D(p \\Vert q)$, the narrow one that from $q$ to $p$.", "name": "fig-two-fits"}}
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
        "smallest D(p || q)": (x, Normal(0.0, 10**0.5).log_prob(x).exp()),
        "smallest D(q || p)": (x, Normal(*opening).log_prob(x).exp()),
    },
    x_label="x",
    y_label="probability density",
)

# %% [markdown]
# :::{admonition} The idea
# To fit a model is to make a {term}`KL divergence` small, the mean log-ratio of two distributions. If the mean is taken over the data, the model has to cover them all; if it is taken over the model's own samples, the model may leave some of them out.
# :::
#
# So both Gaussians of {numref}`fig-two-fits` are best, in different orders.

# %% [markdown]
# (sec-kl-definition)=
# ## What a wrong distribution costs
#
# For one sample $x$ the ratio $p(x) / q(x)$ says how many times as probable it is under $p$ as under $q$. For independent samples these ratios multiply, so their logarithms add up. The samples come from $p$, so we take the mean under $p$: this is the Kullback-Leibler divergence from $p$ to $q$ {cite:p}`kullback1951`, on a finite set
#
# $$
# D_{\mathrm{KL}}(p \,\Vert\, q) = \mathbb{E}_p \log \frac{p(x)}{q(x)} = \sum_x p(x) \log \frac{p(x)}{q(x)} ,
# $$ (def-kl)
#
# and with densities
#
# $$
# D_{\mathrm{KL}}(p \,\Vert\, q) = \int p(x) \log \frac{p(x)}{q(x)} \, \mathrm{d}x .
# $$ (def-kl-density)
#
# The logarithm is natural and the unit is the {term}`nat`, $1 / \log 2 \approx 1.44$ bits. Where $p(x) = 0$ the term counts as zero, because $t \log t \to 0$ for $t \to 0$: such an $x$ never occurs. Where $q(x) = 0 < p(x)$ the whole sum is infinite: a single such sample refutes $q$.


# %% tags=["nbval-check-output"]
def kl(p, q):
    """Sum of p log(p / q) with 0 log 0 = 0, along the last dimension."""
    happens = p > 0
    log_ratio = (p.where(happens, 1) / q.where(happens, 1)).log()
    return (p * log_ratio).sum(-1)


two_points, three_points = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.3, 0.3, 0.4])
print(f"p has a zero that q has not: {kl(two_points, three_points):.4f} nats")
print(f"q has a zero that p has not: {kl(three_points, two_points):.4f} nats")

# %% [markdown]
# The same number is an extra length. (A *code* here writes letters as bits.) Up to rounding, the best code for $q$ gives the letter $x$ a word of $-\log q(x)$ nats: a word of $k$ bits uses up the fraction $2^{-k}$ of all words, and these fractions add up to one at most. On data from $p$ its mean length is the *cross-entropy* $H(p, q) = -\mathbb{E}_p \log q$, while the best code for $p$ has the *entropy* $H(p) = -\mathbb{E}_p \log p$. The KL divergence is the extra length caused by the wrong code:
#
# $$
# D_{\mathrm{KL}}(p \,\Vert\, q) = H(p, q) - H(p) .
# $$ (eq-kl-waste)
#
# For example, we write `abbbbccd` with the code made for its frequencies, and with another:
#
# **Check.** The bits of both texts are counted, and the difference per letter is compared with the KL divergence. The other order of the arguments and a result in bits are rejected.

# %% tags=["nbval-check-output", "check"]
text = "abbbbccd"
code_p = {"a": "110", "b": "0", "c": "10", "d": "111"}  # frequencies 1/8, 1/2, 1/4, 1/8
code_q = {"a": "0", "b": "10", "c": "110", "d": "111"}  # frequencies 1/2, 1/4, 1/8, 1/8
bits_p, bits_q = (len("".join(code[letter] for letter in text)) for code in (code_p, code_q))
waste = (bits_q - bits_p) / len(text) * math.log(2)
p, q = torch.tensor([[1, 4, 2, 1], [4, 2, 1, 1]]) / 8.0
wrong = {"other order": kl(q, p), "bits": waste / math.log(2)}
verify("eq-kl-waste", kl(p, q), waste, rejects=wrong)
by_torch = kl_divergence(Categorical(p), Categorical(q))
print("torch agrees:", torch.isclose(by_torch, kl(p, q)).item())
print(
    f"{bits_p} bits with the right code, {bits_q} with the wrong one: {waste:.3f} nats per letter"
)

# %% [markdown]
# *Sources: A09.*

# %% [markdown]
# (sec-kl-nonnegative)=
# ## The KL divergence is never negative
#
# Some samples are more probable under the wrong $q$ than under $p$, and their log-ratios are negative. Why is the mean not? Because $q$ has the same total mass as $p$: where it is larger it gains, elsewhere it must be smaller, and the logarithm, which is concave, punishes the lack more than it rewards the excess. This is {term}`Jensen's inequality`: for any positive random $y$ with finite mean
#
# $$
# \mathbb{E} \log y \le \log \mathbb{E}\, y ,
# $$ (eq-jensen)
#
# with equality if and only if $y$ is constant. It holds because the logarithm lies below its tangent at the mean $m$ of $y$: in $\log y \le \log m + (y - m) / m$ the last term has mean zero. For two values of $y$ the mean of $\log y$ lies on the chord between them. The slider changes their probabilities; the gap is the difference of the two sides.


# %% tags=["figure"]
def jensen(weight):
    fig, (axes,) = plots.figure(height=2.9)
    y = torch.linspace(0.1, 4.2, 200)
    ends = torch.tensor([0.3, 4.0])
    mean = (1 - weight) * ends[0] + weight * ends[1]
    below = (1 - weight) * ends[0].log() + weight * ends[1].log()
    lines = {
        "log y": (y, y.log()),
        "chord": (ends, ends.log()),
        "gap": (mean.repeat(2), torch.stack([below, mean.log()])),
        "tangent": (y, mean.log() + (y - mean) / mean),
    }
    _ = plots.curves(lines, x_label="y", y_label="log y (nats)", axes=axes)
    _ = axes.plot([mean, mean], [below, mean.log()], "o", color="#009e73")
    axes.set_ylim(-2.5, 2.0)
    return fig


Slider(
    torch.linspace(0, 1, 11),
    jensen,
    description="weight of the right point",
    label="{:.1f}",
    alt="The logarithm, a chord below it, the tangent above it and the gap at the mean, weight {:.1f}",
    start=5,
)

# %% [markdown]
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
# Take $y = q(x) / p(x)$ with $x$ from $p$. If $q$ is zero somewhere on the support of $p$, there is nothing to prove; otherwise
#
# $$
# - D_{\mathrm{KL}}(p \,\Vert\, q) = \mathbb{E}_p \log \frac{q(x)}{p(x)} \le \log \sum_{x:\, p(x) > 0} p(x) \frac{q(x)}{p(x)} = \log \sum_{x:\, p(x) > 0} q(x) \le \log 1 = 0 .
# $$
#
# Equality in the first step needs a constant ratio $q / p$ on the support of $p$, equality in the last step all mass of $q$ there; together they mean $p = q$. With densities the sums become integrals. $\square$
#
# :::{depth-start} mass of q outside the support of p makes it strictly positive
# :::
# The proof does not end with $\log \sum_x q(x) = \log 1 = 0$: the sum runs only over the support of $p$, so the last step is an inequality too. Jensen's inequality proves more than the theorem,
#
# $$
# D_{\mathrm{KL}}(p \,\Vert\, q) \ge - \log q(\operatorname{supp} p) ,
# $$ (eq-kl-support)
#
# with equality whenever $p$ is $q$ conditioned on a set, for then the ratio is constant on the support of $p$. The pair `two_points`, `three_points` is of this kind: the second puts 0.4 on the point where the first has nothing, and divides the rest as the first does.
#
# :::{depth-end}
# :::
#
# **Checks.** Gibbs' inequality is tested on ten thousand random pairs of distributions on five points, half of them nearly equal, so that a bound of $10^{-7}$ is rejected; Jensen's on random positive numbers, where the harmonic mean in place of the mean is rejected.

# %% tags=["nbval-check-output", "check"]
p, q = Dirichlet(torch.ones(5)).sample((2, 10_000))
q[5000:] = p[5000:] * (1 + 1e-4 * torch.randn(5000, 5))
q = q / q.sum(-1, keepdim=True)
zero = torch.zeros(10_000)
verify("eq-kl-nonnegative", -kl(p, q), zero, at_most(1e-15), rejects={"at least 1e-7": zero - 1e-7})

y = torch.rand(10_000, 6) + 0.01
harmonic = {"harmonic mean": -(1 / y).mean(1).log()}
verify("eq-jensen", y.log().mean(1), y.mean(1).log(), at_most(1e-15), rejects=harmonic)

p = torch.nn.functional.pad(Dirichlet(torch.ones(3)).sample((10_000,)), (0, 2))
bound = -q[:, :3].sum(1).log()  # no mass of p on the last two of five points
verify("eq-kl-support", bound, kl(p, q), at_most(1e-12))
given = torch.nn.functional.pad(q[:, :3] / q[:, :3].sum(1, keepdim=True), (0, 2))
outside = {"mass outside": q[:, 3:].sum(1)}
verify("eq-kl-support", kl(given, q), bound, rejects=outside)
smallest = -three_points[:2].sum().log()
print("attained by the pair above:", torch.isclose(kl(two_points, three_points), smallest).item())

# %% [markdown]
# *Sources: A10, A11.*

# %% [markdown]
# (sec-maximum-likelihood)=
# ## Maximum likelihood minimizes the KL divergence
#
# A model $p_\theta$ is trained on data from a distribution $p_{\text{data}}$ that nobody can write down. How can we minimize a mean of $\log (p_{\text{data}} / p_\theta)$ if we cannot evaluate its numerator? Split the log-ratio, and the numerator leaves the problem:
#
# $$
# \mathbb{E}_{p_{\text{data}}} \log p_\theta(x) = - H(p_{\text{data}}) - D_{\mathrm{KL}}(p_{\text{data}} \,\Vert\, p_\theta) .
# $$ (eq-likelihood-kl)
#
# The left side, the mean log-likelihood, needs only samples, in practice the training set, and the entropy does not depend on $\theta$. So *maximizing the likelihood is minimizing the KL divergence* from the data to the model.

# %% tags=["figure"] mystnb={"image": {"alt": "Two nearly equal U-shaped curves over the standard deviation, with a minimum at 3.16, above a horizontal line at 2.11 nats."}, "figure": {"caption": "The loss of a Gaussian $\\mathcal{N}(0, s^2)$ on data with two modes at $\\pm 3$, for 300 samples and in expectation. The distance to the floor, the entropy of the data, is the KL divergence.", "name": "fig-likelihood"}}
data = 3.0 * (2 * torch.randint(2, (300,)) - 1) + torch.randn(300)
std = torch.linspace(1.6, 8, 100)
log_p = log_two_modes(grid, 3.0)
floor = -integrate(log_p.exp() * log_p)
expected = std.log() + 0.5 * math.log(2 * math.pi) + 10 / (2 * std**2)
plots.curves(
    {
        "300 samples": (std, -Normal(0.0, std).log_prob(data[:, None]).mean(0)),
        "expectation": (std, expected),
        "entropy of the data": (std, floor.repeat(100)),
    },
    x_label="standard deviation s of the model",
    y_label="loss (nats)",
    marks={"3.16": 10**0.5},
)

# %% [markdown]
# In {numref}`fig-likelihood` the loss, minus the mean log-likelihood, is smallest at $s = \sqrt{10}$, so it is the *wide* Gaussian of the opening figure that maximum likelihood chooses.
#
# **Check.** For two Gaussians the mean log-likelihood is an integral, and entropy and KL divergence come from torch. A plus sign and the other order are rejected.

# %% tags=["nbval-check-output", "check"]
p_data, model = Normal(0.3, 0.7), Normal(-0.2, 1.4)
likelihood = integrate(p_data.log_prob(grid).exp() * model.log_prob(grid))
closed = -p_data.entropy() - kl_divergence(p_data, model)
wrong = {
    "plus sign": -p_data.entropy() + kl_divergence(p_data, model),
    "other order": -p_data.entropy() - kl_divergence(model, p_data),
}
verify("eq-likelihood-kl", likelihood, closed, quadrature, rejects=wrong)
loss = -integrate(log_p.exp() * Normal(0.0, 10**0.5).log_prob(grid))
print(f"loss {loss:.2f} nats, floor {floor:.2f} nats, KL divergence {loss - floor:.2f} nats")
print(f"ten samples: a factor of {(10 * (loss - floor)).exp():.0f}")

# %% [markdown]
# What does a KL divergence of 0.46 nats mean? The log-ratios of independent samples add up, so ten samples are typically $e^{4.6} \approx 100$ times as probable under the data's distribution as under the best Gaussian. Likewise $n$ values typical of $q$ are less probable under $p$ by the factor $e^{-n D(q \Vert p)}$, about the probability that samples from $p$ look like samples from $q$. A fair coin $p$ looks like $q$, one with two heads, with the probability $2^{-n}$, as $D(q \Vert p) = \log 2$; the other way around it is infinite, since two heads never show tails.
#
# Two consequences: the loss has a floor, the entropy, which for images nobody knows: only a difference of two losses is also one of two KL divergences. And a model that gave some of the data the probability zero would have an infinite loss, so maximum likelihood covers the data. On a test set one such point hides what the model does elsewhere. Added noise prevents such zeros.
#
# :::{depth-start} the KL divergence is the rate at which samples cease to look like another distribution
# :::
# How probable is it that $n$ samples from $p$ look as if they came from $q$? It is $e^{-n D(q \Vert p)}$, up to a factor whose logarithm is small compared with $n$ {cite:p}`cover2006`. Note the order: the distribution from which the samples come stands second.
#
# The extreme case is exact. If a fair coin is tossed and looks like a coin with two heads, all $n$ tosses were heads:
#
# $$
# \begin{aligned}
# \Pr(n \text{ heads}) &= 2^{-n} = e^{- n D_{\mathrm{KL}}(q \Vert p)} , \\
# q &= (1, 0), \; p = (\tfrac12, \tfrac12) .
# \end{aligned}
# $$ (eq-all-heads)
#
# Such an outcome is possible, but improbable. Now exchange the roles: a coin with two heads never shows as many tails as heads, and the KL divergence is infinite.
#
# For a coin with the probability $b$ of heads, and a fraction $a$ of heads, both strictly between 0 and 1,
#
# $$
# \begin{aligned}
# \Pr(\text{fraction } a) &\approx \frac{e^{-n D(a, b)}}{\sqrt{2 \pi n\, a (1 - a)}} , \\
# D(a, b) &= a \log \frac{a}{b} + (1 - a) \log \frac{1 - a}{1 - b} .
# \end{aligned}
# $$ (eq-large-deviation)
#
# Here $D(a, b)$ is the KL divergence from the coin with heads probability $a$ to the one with $b$, and $\approx$ means that the ratio of both sides tends to 1 as $n$ grows. The probability is $\binom{n}{n a} b^{n a} (1 - b)^{n (1 - a)}$. Insert Stirling's formula $k! \approx \sqrt{2 \pi k}\, (k / e)^k$ for $n$, $n a$ and $n (1 - a)$. The powers of $n$ and $e$ cancel, those of $a$ and $b$ leave $e^{-n D(a, b)}$, and the three square roots leave the factor in front. It slows the approach of $-\frac1n \log \Pr$ to $D(a, b)$: the distance is about $\frac{1}{2n} \log(2 \pi n\, a (1 - a))$.
#
# **Check.** The exact binomial probability is compared, first for twenty heads of a fair coin, then for 70 % heads in ten thousand tosses of a fair and of a biased coin. The wrong order of the arguments is rejected, and a formula without the square root.

# %% tags=["nbval-check-output", "check"]
fair, two_heads, n = torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.0]), 20
tosses = torch.distributions.Binomial(n, torch.tensor(0.5))
log_probability = tosses.log_prob(torch.tensor(20.0))
exponents = -n * kl(two_heads, fair), -n * kl(fair, two_heads)
verify("eq-all-heads", log_probability, exponents[0], rejects={"E18": exponents[1]})

a, n = 0.7, 10_000
looks = torch.tensor([a, 1 - a])
for b in (0.5, 0.6):
    coin = torch.tensor([b, 1 - b])
    log_probability = torch.distributions.Binomial(n, coin[0]).log_prob(torch.tensor(a * n))
    root = 0.5 * math.log(2 * math.pi * n * a * (1 - a))
    exponent, other = -n * kl(looks, coin), -n * kl(coin, looks)
    wrong = {"no square root": exponent, "other order": other - root}
    rule = exact.within(1e-6)
    verify("eq-large-deviation", log_probability, exponent - root, rule, rejects=wrong)

# %% [markdown]
# *Sources: C07.*
#
# :::{depth-end}
# :::

# %% [markdown]
# (sec-two-directions)=
# ## Forward and reverse KL: two orders, two answers
#
# Why does the order matter so much? Because it says where the mean is taken. Let $p$ be the target and $q$ the Gaussian that we fit. The {term}`forward KL`, $D(p \Vert q)$, takes the mean under $p$. It is large where $p$ has mass and $q$ has little; where $p$ has none, the integrand is zero, however much of $q$ lies there. The {term}`reverse KL`, $D(q \Vert p)$, takes the mean under $q$. It is large where $q$ has mass and $p$ has little; a mode of $p$ that $q$ leaves out has no integrand at all.
#
# Move $q$ away from $p$ and compare the integrands.


# %% tags=["figure"]
def integrands(m):
    fig, (left, right) = plots.figure(columns=2, height=2.9)
    x = grid[(grid > -4) & (grid < 6)]
    log_p, log_q = Normal(0.0, 1.0).log_prob(x), Normal(m, 0.5).log_prob(x)
    densities = {"p": (x, log_p.exp()), "q": (x, log_q.exp())}
    terms = {
        "forward, p log p/q": (x, log_p.exp() * (log_p - log_q)),
        "reverse, q log q/p": (x, log_q.exp() * (log_q - log_p)),
    }
    _ = plots.curves(densities, x_label="x", y_label="density", axes=left)
    _ = plots.curves(terms, x_label="x", y_label="integrand (nats per unit of x)", axes=right)
    right.set_ylim(-1, 8)
    return fig


Slider(
    torch.linspace(0, 2.5, 11),
    integrands,
    description="mean of q",
    label="{:.2f}",
    alt="Two Gaussian densities and the integrands of both KL divergences, q at mean {:.2f}",
    start=4,
)

# %% [markdown]
# **The forward fit covers.** Only $-\mathbb{E}_p \log q$ depends on $q$, and the log-density of a Gaussian is quadratic in $x$. So the fit sees nothing of $p$ but its mean and variance.
#
# :::{prf:theorem} Forward KL matches moments
# :label: thm-moments
# Let $p$ have a density, finite variance and finite entropy. Among all Gaussians, $D_{\mathrm{KL}}(p \Vert \mathcal{N}(m, s^2))$ is smallest for the mean and variance of $p$,
#
# $$
# m^\star = \mathbb{E}_p\, x, \qquad s^{\star 2} = \operatorname{Var}_p x .
# $$ (eq-forward-moments)
# :::
#
# :::{dropdown} Proof
# $-\mathbb{E}_p \log q = \log s + \mathbb{E}_p (x - m)^2 / 2 s^2 + \text{const}$. By {eq}`eq-mean-minimizes` the second term is smallest at $m = \mathbb{E}_p x$, where it is $\operatorname{Var}_p x / 2 s^2$. The derivative in $s$, $1 / s - \operatorname{Var}_p x / s^3$, is negative before $s^2 = \operatorname{Var}_p x$ and positive after it. $\square$
# :::
#
# **The reverse fit may choose.** In this order the best Gaussian of a mixture has no closed form, so we search over mean and standard deviation; the search finds a *local* minimum near its start.


# %% tags=["serves"]
def forward(log_p, log_q):
    return integrate(log_p.exp() * (log_p - log_q))


def reverse(log_p, log_q):
    q = log_q.exp()  # add the mass of q off the grid: else a q that left it would have KL zero
    return integrate(q * (log_q - log_p)) - integrate(q) + 1


def fit_normal(divergence, log_p, m):
    """Mean and standard deviation of the best Gaussian, searched from N(m, 1), and its value."""
    mean, log_std = torch.tensor(m, requires_grad=True), torch.tensor(0.0, requires_grad=True)

    def value():
        return divergence(log_p, Normal(mean, log_std.exp()).log_prob(grid))

    smallest = minimize(value, [mean, log_std], max_steps=60)
    return mean.item(), log_std.exp().item(), smallest.item()


# %% [markdown]
# Why would anyone take this order? Because it needs other things. The forward KL needs samples from $p$ and no density: these are our data. The reverse KL needs samples from $q$ and the density of $p$ up to a factor, which only adds a constant. A posterior, the distribution of causes given data, is such a $p$: by Bayes' rule known up to a factor, the probability of the data, and hard to sample from. So variational inference minimizes the reverse KL, as does the E-step of the EM algorithm (chapter 3), whose M-step fits the model by the forward KL. In this book maximum likelihood and a step of a diffusion model (chapter 9) are forward, the gap of the ELBO (chapter 3) and the KL term of a VAE (chapter 6) reverse.
#
# :::{dropdown} The order says which mistake to expect
# | what is made small | order | what to expect |
# |---|---|---|
# | negative log-likelihood | forward, from the data to the model | the model covers all data, and some of what lies between |
# | gap of the ELBO (chapter 3) | reverse, from the approximate posterior to the true one | it may miss modes and be too narrow |
# | KL term of a VAE (chapter 6) | reverse, from the encoder to the prior | codes stay where the prior has mass, but may leave parts of it empty; there the decoder has seen no codes |
# | a step of a diffusion model (chapter 9) | forward, from a Gaussian known for each clean image to the model's | the model's mean averages over all clean images that fit the noisy one {eq}`eq-forward-moments` |
# :::
#
# The reverse fit is called {term}`mode-seeking`. Does it always choose a mode? We search twice, from the middle and from a mode.
#
# **Check.** A search for the forward fit of a skewed mixture finds its mean and variance; those of the reverse fit are rejected.

# %% tags=["nbval-check-output", "check"]
skewed = torch.stack([Normal(-1.0, 0.5).log_prob(grid), Normal(2.0, 1.0).log_prob(grid)])
log_p = (skewed + torch.tensor([0.3, 0.7]).log()[:, None]).logsumexp(0)
mean = 0.3 * -1.0 + 0.7 * 2.0
variance = 0.3 * (0.25 + 1.0) + 0.7 * (1.0 + 4.0) - mean**2
m, s, _ = fit_normal(forward, log_p, 0.0)
reverse_m, reverse_s, _ = fit_normal(reverse, log_p, 0.0)
wrong = {"reverse fit": [reverse_m, reverse_s**2]}
verify("eq-forward-moments", [m, s**2], [mean, variance], exact.within(1e-6), rejects=wrong)

# %% tags=["figure"] mystnb={"image": {"alt": "A curve rises with the distance of the modes from zero to nearly two nats. From 4.9 on a second curve runs just below the line log 2; the first curve crosses it at 5.6."}, "figure": {"caption": "The reverse KL of the best Gaussian in the middle and of the best Gaussian at one of two equal modes, over the distance of the modes.", "name": "fig-mode-choice"}}
half = torch.cat([torch.linspace(0.25, 2.25, 9), torch.linspace(2.45, 4.0, 8)])
middle, at_mode = (
    torch.tensor([fit_normal(reverse, log_two_modes(grid, c), start)[2] for c, start in pairs])
    for pairs in ([(c, 0.0) for c in half.tolist()], [(c, c) for c in half[9:].tolist()])
)
plots.curves(
    {
        "q in the middle": (2 * half, middle),
        "q at one mode": (2 * half[9:], at_mode),
        "log 2": (2 * half, torch.full((17,), math.log(2))),
    },
    x_label="distance of the modes (standard deviations)",
    y_label="reverse KL (nats)",
    marks={"5.6": 5.6},
)

# %% [markdown]
# Up to a distance of 5.6 standard deviations the best reverse fit covers both modes ({numref}`fig-mode-choice`). Beyond, it chooses one.

# %% [markdown]
# Why? Leaving out half of an equal mixture costs at most $\log 2 = 0.69$ nats, however far away that half is: where $q$, the other half, has mass, it is at most twice as dense as $p$. A Gaussian over both modes has mass in the valley between them, where $\log p$ falls with the square of the distance, and its reverse KL has no bound. So the reverse fit chooses a mode as soon as the valley costs more.
#
# :::{depth-start} to leave out a mode costs log 2 in reverse, a quarter of the squared distance forward
# :::
# The distance at which the two searches of {numref}`fig-mode-choice` become equal:

# %% tags=["nbval-check-output", "numbers"]
low, high = 2.4, 3.2
for _ in range(12):  # halve the interval in which the two searches become equal
    c = (low + high) / 2
    log_p = log_two_modes(grid, c)
    middle, at_mode = (fit_normal(reverse, log_p, m)[2] for m in (0.0, c))
    low, high = (low, c) if at_mode < middle else (c, high)
print(f"the best reverse fit leaves the middle when the modes are {2 * c:.2f} apart")

# %% [markdown]
# Let the modes be at $\pm c$ with unit variance, and $q = \mathcal{N}(c, 1)$ the right one. Then
#
# $$
# D_{\mathrm{KL}}(q \,\Vert\, p) = \log 2 - \mathbb{E}_{x \sim \mathcal{N}(c, 1)} \log\big(1 + e^{-2 c x}\big) ,
# $$ (eq-one-mode)
#
# which is less than $\log 2$ and tends to it as the modes move apart. The forward KL of the same $q$ grows like $c^2$. The two add up to exactly $c^2$:
#
# $$
# D_{\mathrm{KL}}(p \,\Vert\, q) = c^2 - D_{\mathrm{KL}}(q \,\Vert\, p) .
# $$ (eq-one-mode-forward)
#
# *Proof.* $p(x) = \frac12 q(x) (1 + \mathcal{N}(x; -c, 1) / \mathcal{N}(x; c, 1))$, and the ratio of the two densities is $e^{-2 c x}$. Insert this into $\mathbb{E}_q \log (q / p)$, and write $\eta$ for $\mathbb{E}_q \log(1 + e^{-2 c x})$. Since $\log(1 + u) \le \sqrt{u}$, $\eta$ is at most $\mathbb{E}_q\, e^{-c x} = e^{-c^2 / 2}$.
# In the forward direction $\log (p / q) = \log(1 + e^{-2 c x}) - \log 2$. Under the right component the mean of the first term is $\eta$. Under the left one write it as $-2 c x + \log(1 + e^{2 c x})$, whose mean is $2 c^2 + \eta$ by symmetry. Half of each gives $D(p \Vert q) = c^2 + \eta - \log 2$. $\square$
#
# At the threshold $c = 2.8$ the best fit jumps, but minima of both kinds exist on either side, so an optimizer may stay at the wrong one. Near the modes they exist from $c \approx 2.41$ on; in the middle there still is one at $c = 3$, where both eigenvalues of the second derivatives are positive.
#
# **Check.** Both formulas are compared with integrals at $c = 1$ and $c = 3$; a $q$ without any overlap, and the limit, are rejected. Then come the claims on local minima.

# %% tags=["nbval-check-output", "check"]
for c in (1.0, 3.0):
    log_p, log_q = log_two_modes(grid, c), Normal(c, 1.0).log_prob(grid)
    shared = integrate(log_q.exp() * torch.nn.functional.softplus(-2 * c * grid))
    choosing, covering = reverse(log_p, log_q), forward(log_p, log_q)
    expected, wrong = math.log(2) - shared, {"no overlap": math.log(2)}
    verify("eq-one-mode", choosing, expected, quadrature, rejects=wrong)
    expected, wrong = c**2 - choosing, {"limit": c**2 - math.log(2)}
    verify("eq-one-mode-forward", covering, expected, quadrature, rejects=wrong)


def reverse_at(v):
    return reverse(log_two_modes(grid, 3.0), Normal(v[0], v[1].exp()).log_prob(grid))


leaves, stays = (fit_normal(reverse, log_two_modes(grid, c), c)[0] for c in (2.40, 2.42))
print("a search from the mode ends in the middle at 2.40:", abs(leaves) < 1)
print("a search from the mode stays there at 2.42:", stays > 1)
m, s, _ = fit_normal(reverse, log_p, 0.0)
curvatures = torch.linalg.eigvalsh(hessian(reverse_at, torch.tensor([m, math.log(s)])))
print("at 3 the middle is a minimum:", abs(m) < 1e-6 and bool((curvatures > 0).all()))
best = torch.tensor(fit_normal(reverse, log_p, 3.0)[:2])
print("the opening figure shows the best fit:", torch.allclose(best, torch.tensor(opening)))

# %% [markdown]
# *Sources: A12, A13, C06.*
#
# :::{depth-end}
# :::

# %% [markdown]
# (sec-kl-gaussians)=
# ## Between Gaussians
#
# Most KL divergences in this book are between Gaussians, and those need neither a grid nor samples: the log-ratio is quadratic in $x$, so its mean needs only means and covariances. In one dimension, with $p = \mathcal{N}(m_p, s_p^2)$ and $q = \mathcal{N}(m_q, s_q^2)$, the log-ratio is $\log (s_q / s_p) - (x - m_p)^2 / 2 s_p^2 + (x - m_q)^2 / 2 s_q^2$. Under $p$ the mean of the second term is $-\frac12$, and $\mathbb{E}_p (x - m_q)^2 = s_p^2 + (m_p - m_q)^2$. Hence
#
# $$
# D_{\mathrm{KL}}(p \,\Vert\, q) = \log \frac{s_q}{s_p} + \frac{s_p^2 + (m_p - m_q)^2}{2 s_q^2} - \frac12 .
# $$ (eq-kl-normals)
#
# In $d$ dimensions, with $p = \mathcal{N}(\mu_p, \Sigma_p)$, $q = \mathcal{N}(\mu_q, \Sigma_q)$ and invertible covariances, the same steps give
#
# $$
# \begin{aligned}
# D_{\mathrm{KL}}(p \,\Vert\, q) = \frac12 \Big( &\operatorname{tr}(\Sigma_q^{-1} \Sigma_p) + (\mu_p - \mu_q)^\top \Sigma_q^{-1} (\mu_p - \mu_q) \\
# &- d + \log \frac{\det \Sigma_q}{\det \Sigma_p} \Big) ,
# \end{aligned}
# $$ (eq-kl-gaussians)
#
# as $\mathbb{E}_p\, (x - a)^\top M (x - a) = \operatorname{tr}(M \Sigma_p) + (\mu_p - a)^\top M (\mu_p - a)$. Two special cases are used from chapter 3 on. When $q$ is the standard Gaussian,
#
# $$
# \begin{aligned}
# D_{\mathrm{KL}}\big(&\mathcal{N}(\mu, \Sigma) \,\Vert\, \mathcal{N}(0, I)\big) \\
# &= \frac12 \big( \operatorname{tr} \Sigma + \lVert \mu \rVert^2 - d - \log \det \Sigma \big) ,
# \end{aligned}
# $$ (eq-kl-standard)
#
# and when $\Sigma$ is also diagonal, with variances $\sigma_j^2$, the coordinates are independent, so their log-ratios add up,
#
# $$
# \begin{aligned}
# D_{\mathrm{KL}}\big(&\mathcal{N}(\mu, \operatorname{diag} \sigma^2) \,\Vert\, \mathcal{N}(0, I)\big) \\
# &= \frac12 \sum_{j} \big( \sigma_j^2 + \mu_j^2 - 1 - \log \sigma_j^2 \big) .
# \end{aligned}
# $$ (eq-kl-diagonal)
#
# The term $\frac12 \mu_j^2$ is for a mean off the origin, $\frac12 (\sigma_j^2 - 1 - \log \sigma_j^2)$ for a width other than 1. A small error of the width is more expensive than one of the mean: a factor of $e^\delta$ costs about $\delta^2$ nats in either direction, a shift by $\delta$ only $\delta^2 / 2$. Large shifts and widths cost half their square; a small width only $\log (1 / \sigma_j)$, but without bound: no encoder can afford $\sigma_j = 0$, a code without noise.
#
# To check such a formula, compare it with mean log-ratios of samples, at variances that differ and are not 1, lest exchanged arguments or a missing square go unnoticed: at $\mathcal{N}(1, \frac14)$ the last formula gives 0.818 nats, with the variance squared by mistake 1.418. For $p = q$ it must be zero.
#
# **Checks.** In one dimension the formula is compared with an integral; the other order and a mean that is not squared are rejected. In three dimensions the log-ratio is averaged over samples, and torch's value is compared as well; a formula that forgets the means is rejected. The two special cases are compared with torch: the first without its log-determinant is rejected, and so is the second with squared variances.


# %% tags=["nbval-check-output", "check"]
def kl_normals(m_p, s_p, m_q, s_q):
    return math.log(s_q / s_p) + (s_p**2 + (m_p - m_q) ** 2) / (2 * s_q**2) - 0.5


p, q = Normal(0.0, 1.0), Normal(0.5, 2.0)
integral = forward(p.log_prob(grid), q.log_prob(grid))
closed, swapped = kl_normals(0.0, 1.0, 0.5, 2.0), kl_normals(0.5, 2.0, 0.0, 1.0)
wrong = {"other order": swapped, "mean not squared": closed + (0.5 - 0.5**2) / 8}
verify("eq-kl-normals", integral, closed, quadrature, rejects=wrong)

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

# %% tags=["nbval-check-output", "check"]
standard = MultivariateNormal(torch.zeros(d), torch.eye(d))
closed = 0.5 * (cov_p.trace() + mean_p @ mean_p - d - cov_p.logdet())
forgotten = {"log det forgotten": closed + 0.5 * cov_p.logdet()}
verify("eq-kl-standard", kl_divergence(p, standard), closed, rejects=forgotten)

mean, variance = torch.tensor([[0.3, -0.7]]), torch.tensor([[0.5, 2.0]])
by_torch = kl_divergence(diagonal_normal(mean, variance.sqrt()), diagonal_normal(0 * mean, 1.0))
closed, printed = (0.5 * (v + mean**2 - 1 - v.log()).sum(1) for v in (variance, variance**2))
verify("eq-kl-diagonal", by_torch, closed, rejects={"E10": printed})

# %% [markdown]
# ### Close by: the Fisher information
#
# Is the KL divergence a distance? Its orders differ, and it breaks the triangle inequality: between two Gaussians of variance 1 whose means differ by 2 it is 2 nats, by way of the Gaussian halfway only $\frac12 + \frac12$. It behaves like the *square* of a length, for which two half steps are cheaper than one. For small changes $\delta$ of the parameters of a smooth density with fixed support it is one to leading order: at $\delta = 0$ the KL divergence has its minimum, zero, so its first term is quadratic,
#
# $$
# \begin{aligned}
# D_{\mathrm{KL}}(p_\theta \,\Vert\, p_{\theta + \delta}) &= \tfrac12\, \delta^\top F(\theta)\, \delta + O(\lVert \delta \rVert^3) , \\
# F(\theta) &= \mathbb{E}_{p_\theta} \big[ \nabla_\theta \log p_\theta(x)\, \nabla_\theta \log p_\theta(x)^\top \big] .
# \end{aligned}
# $$ (eq-kl-fisher)
#
# The other order has the same quadratic term. The matrix $F$ is the *Fisher information* {cite:p}`cover2006`: how strongly the log-density reacts to the parameters is how well samples tell neighboring parameters apart.
#
# **Check.** For a skewed mixture with a mean and a log-scale as parameters, the second derivatives of both KL divergences are compared with $F$. A form without the half is rejected, and the mean of the gradients' squares alone. Then come the three Gaussians in a row.


# %% tags=["nbval-check-output", "check"]
def log_family(theta):
    """A skewed mixture, moved by theta[0] and stretched by exp(theta[1]), on the grid."""
    x = (grid - theta[0]) * (-theta[1]).exp()
    parts = torch.stack([Normal(-1.0, 0.5).log_prob(x), Normal(2.0, 1.0).log_prob(x)])
    return (parts + torch.tensor([0.3, 0.7]).log()[:, None]).logsumexp(0) - theta[1]


theta = torch.tensor([0.4, 0.2])
log_p, scores = log_family(theta), jacobian(log_family, theta)
fisher = integrate(
    (log_p.exp()[:, None, None] * scores[:, :, None] * scores[:, None]).permute(1, 2, 0)
)
second = [hessian(lambda t: forward(log_p, log_family(t)), theta)]
second += [hessian(lambda t: reverse(log_p, log_family(t)), theta)]
wrong = {"no half": [2 * fisher, 2 * fisher], "diagonal": [fisher.diag().diag()] * 2}
verify("eq-kl-fisher", second, [fisher, fisher], quadrature, rejects=wrong)
direct, steps = kl_normals(0, 1, 2, 1), kl_normals(0, 1, 1, 1) + kl_normals(1, 1, 2, 1)
print("2 nats at once, 1 nat in two steps:", abs(direct - 2) < 1e-12 and abs(steps - 1) < 1e-12)

# %% tags=["figure"] mystnb={"image": {"alt": "Three curves that agree around zero: the quadratic form lies between the KL divergences of both orders, which part from it at about plus and minus 0.3."}, "figure": {"caption": "The KL divergence between $\\mathcal{N}(0, 1)$ and a Gaussian whose standard deviation is larger by the factor $e^\\delta$, in both orders, and the quadratic form $\\delta^2$ of {eq}`eq-kl-fisher`, as here $F = 2$.", "name": "fig-local-form"}}
steps = torch.linspace(-1, 1, 101)
orders = [[kl_normals(0, 1, 0, math.exp(t)), kl_normals(0, math.exp(t), 0, 1)] for t in steps]
there, back = torch.tensor(orders).mT
plots.curves(
    {"D(p || q)": (steps, there), "D(q || p)": (steps, back), "quadratic": (steps, steps**2)},
    x_label="change of the log of the standard deviation",
    y_label="KL divergence (nats)",
)

# %% [markdown]
# A standard deviation that is wrong by a tenth makes about 0.01 nats in either order ({numref}`fig-local-form`). The order matters where a model is far off:

# %% tags=["nbval-check-output", "numbers"]
for factor in (1.1, 2.0):
    there, back = kl_normals(0, 1, 0, factor), kl_normals(0, factor, 0, 1)
    form = math.log(factor) ** 2
    print(
        f"factor {factor}: D(p || q) {there:.4f}, D(q || p) {back:.4f}, quadratic {form:.4f} nats"
    )

# %% [markdown]
#
# *Sources: A10, A23, B14, C08, D16.*
#
# (sec-factorized)=
# ### A factorized Gaussian comes out too narrow
#
# A variational autoencoder (VAE, chapter 6) approximates the posterior of the code given an image, in general correlated, by a Gaussian $q$ with *diagonal* covariance.
#
# :::{prf:theorem} The best factorized Gaussian
# :label: thm-factorized
# Let $p = \mathcal{N}(\mu, \Sigma)$ with invertible $\Sigma$. Among all $q = \mathcal{N}(m, \operatorname{diag} v)$ both orders choose $m = \mu$. The forward KL is smallest for the *marginal* variances,
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
# By {eq}`eq-kl-gaussians`, what depends on $v$ is $\frac12 \sum_j (\Sigma_{jj} / v_j + \log v_j)$ in the forward order, and $\frac12 \sum_j \big( (\Sigma^{-1})_{jj} v_j - \log v_j \big)$ in the reverse order; setting the derivatives to zero gives both answers. In both orders the only term with the means is a quadratic form, which is zero for $m = \mu$. The density of $x_j$ with all others held fixed is proportional to $\exp(-\frac12 (\Sigma^{-1})_{jj} (x_j - a)^2)$ for some $a$, so $1 / (\Sigma^{-1})_{jj}$ is the conditional variance. By the law of total variance it is at most the marginal one. $\square$
# :::
#
# **Check.** A search over means and variances, for a Gaussian in three dimensions, finds both answers. The conditional variances are rejected in the forward order, and the marginal ones in the reverse.

# %% tags=["nbval-check-output", "check"]
cov = torch.tensor([[1.0, 0.9, 0.3], [0.9, 1.0, 0.2], [0.3, 0.2, 0.5]])
p = MultivariateNormal(torch.tensor([1.0, 0.0, -1.0]), cov)


def fit_factorized(divergence):
    """The variances of the best factorized Gaussian."""
    mean, log_v = (torch.zeros(3, requires_grad=True) for _ in range(2))
    _ = minimize(lambda: divergence(MultivariateNormal(mean, log_v.exp().diag())), [mean, log_v])
    return log_v.detach().exp()


marginal, conditional = cov.diagonal(), 1 / cov.inverse().diagonal()
found = fit_factorized(lambda q: kl_divergence(p, q))
wrong = {"conditional variances": conditional}
verify("eq-factorized-forward", found, marginal, exact.within(1e-6), rejects=wrong)
found = fit_factorized(lambda q: kl_divergence(q, p))
explained = cov[0, 1:] @ cov[1:, 1:].inverse() @ cov[1:, 0]  # by the two other coordinates
left = torch.isclose(conditional[0], cov[0, 0] - explained)
print("the first conditional variance is what the others do not explain:", left.item())
wrong = {"marginal variances": marginal}
verify("eq-factorized-reverse", found, conditional, exact.within(1e-6), rejects=wrong)


# %% tags=["serves"]
def ellipse(mean, variances, correlation=0.0):
    """Points of the plane two standard deviations from the mean."""
    angle = torch.linspace(0, 2 * math.pi, 200)
    (s_1, s_2), rest = variances.sqrt(), (1 - correlation**2) ** 0.5
    second = correlation * angle.cos() + rest * angle.sin()
    return mean[0] + 2 * s_1 * angle.cos(), mean[1] + 2 * s_2 * second


axis = torch.linspace(-9, 9, 181)
plane = torch.cartesian_prod(axis, axis)
mode = torch.tensor([2.2, 2.2])
pair = [diagonal_normal(m.expand(len(plane), 2), 1.0).log_prob(plane) for m in (mode, -mode)]
log_p = torch.stack(pair).logsumexp(0) - math.log(2)
mean, log_v = torch.tensor([2.0, 1.0], requires_grad=True), torch.zeros(2, requires_grad=True)


def reverse_in_the_plane():
    log_q = (Normal(mean, (log_v / 2).exp()).log_prob(plane)).sum(1)
    return (log_q.exp() * (log_q - log_p)).sum() * 0.1**2


_ = minimize(reverse_in_the_plane, [mean, log_v])
chosen = mean.detach(), log_v.detach().exp()

# %% tags=["figure"] mystnb={"image": {"alt": "Left: a narrow tilted ellipse, a large circle as wide as it, and a small circle across its middle. Right: two circles, a large circle around the origin, and a circle that coincides with the upper right one."}, "figure": {"caption": "Ellipses at two standard deviations. Left: a Gaussian with correlation 0.9 and its best factorized approximations. Right: a mixture of two Gaussians and its best factorized approximations; the reverse one lies on one component.", "name": "fig-factorized"}}
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
# In the plane, with unit variances and correlation $\rho$, the two variances are $1$ and $1 - \rho^2$. For $\rho = 0.9$ the reverse fit has less than half of the true standard deviation ({numref}`fig-factorized`): a wider $q$ would put mass beside the narrow ridge of $p$, where the reverse KL is large. So variational approximations tend to come out too narrow {cite:p}`mackay2003,bishop2006,blei2017`.

# %% [markdown]
# (sec-kl-maps)=
# ## Two variables: the chain rule
#
# A diffusion model has a thousand latents. How does the KL divergence of two such chains become a sum, one term for each step? The log-ratio of two joint distributions is a sum, $\log \frac{p(x, y)}{q(x, y)} = \log \frac{p(y)}{q(y)} + \log \frac{p(x \mid y)}{q(x \mid y)}$. Its mean under $p(x, y)$ is the *chain rule* of the KL divergence:
#
# $$
# \begin{aligned}
# D_{\mathrm{KL}}\big(p(x, y) \Vert q(x, y)\big) &= D_{\mathrm{KL}}\big(p(y) \Vert q(y)\big) \\
# &\quad + \mathbb{E}_{p(y)} D_{\mathrm{KL}}\big(p(x \mid y) \Vert q(x \mid y)\big) .
# \end{aligned}
# $$ (eq-kl-chain)
#
# Apply one map $\tau$ to samples from $p$ and from $q$, and write $\tau_\# p$ for the distribution of $\tau(x)$.
#
# :::{prf:theorem} Data processing
# :label: thm-data-processing
# For every map $\tau$,
#
# $$
# D_{\mathrm{KL}}(\tau_\# p \,\Vert\, \tau_\# q) \le D_{\mathrm{KL}}(p \,\Vert\, q) ,
# $$ (eq-data-processing)
#
# with equality for one-to-one maps.
# :::
#
# Indeed, for $y = \tau(x)$ the pair $(x, y)$ tells no more than $x$: the left side of {eq}`eq-kl-chain` is $D(p \Vert q)$. The first term on its right is $D(\tau_\# p \Vert \tau_\# q)$, and by {prf:ref}`thm-gibbs` the rest is not negative; if $\tau$ is one-to-one, $y$ fixes $x$, and it is zero. $\square$
#
# This is the {term}`data processing inequality`: processing can only lose evidence on which of two distributions a sample came from. A smooth one-to-one map loses none: it divides both densities by the same factor, the size of its Jacobian determinant, which cancels in the ratio. So the KL divergence does not depend on the units of $x$; the entropy of a density does. For two Gaussians the exponential keeps all; the absolute value loses the sign, and with it almost a third:
#
# **Checks.** For a pair of correlated Gaussians all three terms of the chain rule are known in closed form; the marginals alone are rejected, and the conditional term with $y$ at its mean. Two Gaussians are sent through the exponential and through the absolute value, and the integrals are compared.


# %% tags=["nbval-check-output", "check"]
def condition(joint):
    """Slope, offset and variance of x given y, for a Gaussian pair (x, y)."""
    (v_x, cov), (_, v_y) = joint.covariance_matrix
    slope = cov / v_y
    return slope, joint.mean[0] - slope * joint.mean[1], v_x - slope * cov


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

# %% tags=["nbval-check-output", "check"]
p, q = Normal(0.3, 0.7), Normal(-0.2, 1.4)
before = kl_divergence(p, q)
t = torch.linspace(-12, 12, 200_001).exp()
log_p, log_q = (normal.log_prob(t.log()) - t.log() for normal in (p, q))  # log-normal
after_exp = torch.trapezoid(log_p.exp() * (log_p - log_q), t)
entropy_after = -torch.trapezoid(log_p.exp() * log_p, t)
u = torch.linspace(0, 8, 8_001)
folded_p, folded_q = (f.log_prob(u).exp() + f.log_prob(-u).exp() for f in (p, q))
after_abs = torch.trapezoid(folded_p * (folded_p / folded_q).log(), u)
rule, other = quadrature.within(1e-7), {"absolute value": after_abs}
verify("eq-data-processing", after_exp, before, rule, rejects=other)
verify("eq-data-processing", after_abs, before, at_most(0.0), rejects={"halved": before / 2})
print("the entropy changes under exp:", abs(entropy_after - p.entropy()).item() > 0.1)
print(f"before {before:.4f}, after exp {after_exp:.4f}, after abs {after_abs:.4f} nats")

# %% [markdown]
# :::{depth-start} a map keeps the KL divergence if it keeps what tells p from q
# :::
# If the right side of {eq}`eq-data-processing` is finite, equality holds if and only if $p$ and $q$ have the same conditional distribution of $x$ given $\tau(x)$, for almost every value of $\tau(x)$ under $p$: then the rest in the proof is zero. It does not need a one-to-one map. Toss a coin three times. The *number* of heads does not contain the order, and yet it loses nothing that could tell two coins apart, since given the number every order is equally likely for both. Such a map is called *sufficient* in statistics. The first toss alone is not sufficient. Chapter 9 uses the same criterion for a chain of noisy images.
#
# The *entropy* of a density is not invariant even under one-to-one maps: stretching the axis changes it, although nothing is lost, because the factor remains in it.
#
# A *random* map draws $y$ from a distribution that depends on $x$, the same one for $p$ and for $q$. By the chain rule the pair $(x, y)$ then has the same KL divergence as $x$ alone. Since $y$ is a function of the pair, {prf:ref}`thm-data-processing` holds for random maps too.
#
# **Check.** The number of heads keeps the KL divergence of two coins, and the first toss, which does not, is rejected. The random map keeps each of five points with probability 0.95 and otherwise moves it to a random place. In a thousand cases the KL divergence never rises, and in some it falls by less than a quarter.

# %% tags=["nbval-check-output", "check"]
sequences = torch.cartesian_prod(*[torch.arange(2)] * 3)
heads = sequences.sum(1)
p, q = (a**heads * (1 - a) ** (3 - heads) for a in (0.3, 0.6))  # probability of each sequence
counts = torch.nn.functional.one_hot(heads).double()
first = torch.nn.functional.one_hot(sequences[:, 0]).double()
only_first = {"first toss": kl(p @ first, q @ first)}
verify("eq-data-processing", kl(p @ counts, q @ counts), kl(p, q), rejects=only_first)

p, q = Dirichlet(torch.ones(5)).sample((2, 1_000))
channel = 0.95 * torch.eye(5) + 0.05 * Dirichlet(torch.ones(5)).sample((5,))  # y given x
pair_p, pair_q = ((joint[..., None] * channel).flatten(1) for joint in (p, q))
print("the pair of x and y has the KL of x:", torch.allclose(kl(pair_p, pair_q), kl(p, q)))
before, after = kl(p, q), kl(p @ channel, q @ channel)
lower = {"three quarters": 0.75 * before}
verify("eq-data-processing", after, before, at_most(1e-12), rejects=lower)

# %% [markdown]
# *Sources: A10.*
#
# :::{depth-end}
# :::

# %% [markdown]
# (sec-other-distances)=
# ## Noise, and de Bruijn's identity
#
# Images fill a thin part of the space of pixel values, and a model may at first fill another. What does the KL divergence say about distributions that do not overlap? That of two points at distance $\delta > 0$ is infinite *whatever* $\delta$ is, so a model that is fitted by it gets no gradient that says where to move {cite:p}`arjovsky2017`. The *total variation*, the largest difference of the probabilities of one event, is 1 then, and the *Jensen-Shannon divergence* {cite:p}`lin1991`, the mean KL divergence of both from their average, $\log 2$: finite, and just as blind. The *Wasserstein distance* $W_1$, the smallest mean distance by which mass must be moved, says $\delta$; but to compute it is itself an optimization.
#
# Noise makes the two overlap. With Gaussian noise of standard deviation $\sigma$ on both points,
#
# $$
# D_{\mathrm{KL}} = \frac{\delta^2}{2 \sigma^2} , \qquad \operatorname{TV} = \operatorname{erf}\Big( \frac{\delta}{2 \sqrt{2}\, \sigma} \Big) .
# $$ (eq-noisy-points)
#
# The first is {eq}`eq-kl-normals` for equal variances; for the second, the densities cross halfway, so the event is a half-line. Now both depend on $\delta$, and the gradient points in the right direction ({numref}`fig-noisy-points`). Why then the KL divergence? Because it is the mean of a log-ratio: the unknown density of the data drops out {eq}`eq-likelihood-kl`, for Gaussians it has a closed form, and over a chain of steps it is a sum.
#
# **Check.** Both are compared with integrals; forms in which the variance is not doubled are rejected.

# %% tags=["nbval-check-output", "check"]
delta, sigma = 1.0, 0.8
log_p, log_q = Normal(0.0, sigma).log_prob(grid), Normal(delta, sigma).log_prob(grid)
total_variation = 0.5 * integrate((log_p.exp() - log_q.exp()).abs())
closed = [delta**2 / (2 * sigma**2), math.erf(delta / (2 * 2**0.5 * sigma))]
wrong = {"variance not doubled": [2 * closed[0], math.erf(delta / (2 * sigma))]}
sides = [forward(log_p, log_q), total_variation], closed
verify("eq-noisy-points", *sides, quadrature.within(1e-5), rejects=wrong)

# %% tags=["figure"] mystnb={"image": {"alt": "Four curves over the noise level on logarithmic axes. The KL divergence falls steeply from 200; total variation and Jensen-Shannon divergence are flat and then fall; the Wasserstein distance is constant at 1."}, "figure": {"caption": "Two points at distance 1, after Gaussian noise is added to both.", "name": "fig-noisy-points"}}
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
# Noise cannot raise the KL divergence: the pair of sample and independent noise has the same one {eq}`eq-kl-chain`, and their sum is a map. How fast does it fall? Add noise of variance $\tau$ to both: $p_\tau$ is the density of $x + \sqrt{\tau}\, \varepsilon$ for $x \sim p$, and $q_\tau$ that for $x \sim q$, with finite variances. Then
#
# $$
# \frac{\mathrm{d}}{\mathrm{d} \tau}\, D_{\mathrm{KL}}(p_\tau \,\Vert\, q_\tau) = - \tfrac12\, \mathbb{E}_{p_\tau} \big\Vert \nabla \log p_\tau(x) - \nabla \log q_\tau(x) \big\Vert^2 .
# $$ (eq-de-bruijn)
#
# This is a form of *de Bruijn's identity* {cite:p}`lyu2009`. The expectation, the {term}`Fisher divergence`, compares the slopes of the log-densities, the {term}`scores <score>`. The reason is that noise spreads a density by the heat equation, $\partial_\tau p_\tau = \frac12 \Delta p_\tau$: probability flows down the slope of $\log p_\tau$. Where $p_\tau$ and $q_\tau$ have the same slope, both flow alike, and no difference is lost.
#
# With much noise both are nearly the same wide Gaussian, and nothing of the KL divergence is left, so it is the sum of what is lost on the way:
#
# $$
# D_{\mathrm{KL}}(p \,\Vert\, q) = \tfrac12 \int_0^\infty \mathbb{E}_{p_\tau} \big\Vert \nabla \log p_\tau(x) - \nabla \log q_\tau(x) \big\Vert^2 \, \mathrm{d} \tau .
# $$ (eq-score-integral)
#
# In words: *to know a distribution it is enough to know its score at all levels of noise, and the difference of two scores, squared and added up over the noise, is a KL divergence.* The score of noisy data says which noise to remove (chapter 1): so a diffusion model learns a distribution by estimating noise (chapters 9 and 12).
#
# :::{dropdown} Proof of de Bruijn's identity
# In one dimension; in more, sum over the components. With $r = \log (p / q)$, the derivative of $\int p\, r$ is $\int \partial_\tau p \; r + \int \partial_\tau p - \int \frac{p}{q}\, \partial_\tau q$. The second term is zero, since $p$ keeps its mass. Insert the heat equation and integrate the others by parts: $\frac12 \int p''\, r = -\frac12 \int p'\, r'$, and $-\frac12 \int \frac{p}{q}\, q'' = \frac12 \int \big( \frac{p}{q} \big)'\, q'$, where $\big( \frac{p}{q} \big)' = \frac{p}{q}\, r'$. The sum is $-\frac12 \int p\, r' \big( \frac{p'}{p} - \frac{q'}{q} \big) = -\frac12 \int p\, (r')^2$. $\square$
# :::
#
# For example, of the 0.74 nats from $\mathcal{N}(0, 0.3)$ to $\mathcal{N}(1, 1.5)$ the first unit of noise variance takes 0.45.
#
# **Check.** For two Gaussians both sides have a closed form. For a Gaussian and a mixture of two, the left side is a difference quotient and the right side an integral. The roles of $p$ and $q$ cannot be exchanged on the right: an expectation under $q_\tau$ is rejected, and so is the identity without its half. Last, the integral over the noise, from $10^{-6}$ to $10^6$, is compared with the KL divergence of the two Gaussians.


# %% tags=["nbval-check-output", "check"]
def noisy(tau):
    """Log-densities of a mixture and of a Gaussian, with noise of variance tau."""
    modes = [Normal(m, (0.5 + tau) ** 0.5).log_prob(grid) for m in (-2.0, 2.0)]
    return torch.logaddexp(*modes) - math.log(2), Normal(0.5, (2 + tau) ** 0.5).log_prob(grid)


tau, h = torch.tensor(0.4, requires_grad=True), 1e-3
gaussians = Normal(0.0, (0.3 + tau) ** 0.5), Normal(1.0, (1.5 + tau) ** 0.5)
(left,) = torch.autograd.grad(kl_divergence(*gaussians), tau)
a, b = 0.3 + tau.item(), 1.5 + tau.item()  # score difference (1/b - 1/a) x - 1/b
right = -0.5 * ((1 / b - 1 / a) ** 2 * a + 1 / b**2)
verify("eq-de-bruijn", left, right, exact, rejects={"no half": 2 * right})
left = (forward(*noisy(0.4 + h)) - forward(*noisy(0.4 - h))) / (2 * h)
log_p, log_q = noisy(0.4)
slope_p, slope_q = (torch.gradient(log, spacing=(grid,))[0] for log in (log_p, log_q))
right, other = (-0.5 * integrate(log.exp() * (slope_p - slope_q) ** 2) for log in (log_p, log_q))
wrong = {"no half": 2 * right, "under q": other}
verify("eq-de-bruijn", left, right, quadrature.within(1e-4), rejects=wrong)

# %% tags=["nbval-check-output", "check"]
taus = torch.logspace(-6, 6, 4001)
a, b = 0.3 + taus, 1.5 + taus
rate = 0.5 * ((1 / b - 1 / a) ** 2 * a + 1 / b**2)
whole = kl_divergence(Normal(0.0, 0.3**0.5), Normal(1.0, 1.5**0.5))
lost = torch.trapezoid(rate[taus < 1], taus[taus < 1])
sides = torch.trapezoid(rate, taus), whole
verify("eq-score-integral", *sides, quadrature.within(1e-4), rejects={"up to 1": lost})
assert (round(whole.item(), 2), round(lost.item(), 2)) == (0.74, 0.45)

# %% [markdown]
# :::{depth-start} a small KL divergence forces a small total variation
# :::
# For the two Gaussians above and large $\tau$ the part of the variances falls like $1 / \tau^2$, that of the means like $1 / \tau$: noise hides the small difference of the variances first.
#
# The total variation is a distance and never larger than 1,
#
# $$
# \operatorname{TV}(p, q) = \max_A |p(A) - q(A)| = \frac12 \sum_x |p(x) - q(x)| .
# $$ (def-total-variation)
#
# By *Pinsker's inequality* {cite:p}`cover2006` it is small if the KL divergence is:
#
# $$
# D_{\mathrm{KL}}(p \,\Vert\, q) \ge 2 \operatorname{TV}(p, q)^2 .
# $$ (eq-pinsker)
#
# The converse does not hold: one rare event that is impossible under $q$ makes the KL divergence infinite. The factor 2 is the best possible.
#
# *Proof.* Let $A$ be the event that attains the maximum, and write $a = p(A)$, $b = q(A)$. By {prf:ref}`thm-data-processing`, for the map that only says whether $A$ happened, $D(p \Vert q) \ge D(a, b)$, the KL divergence of two coins. Let $f(b) = D(a, b) - 2 (a - b)^2$. Then $f(a) = 0$, and $f'(b) = (b - a) \big( \frac{1}{b (1 - b)} - 4 \big)$. The bracket is not negative, since $b (1 - b) \le \frac14$. So $f$ falls until $b = a$ and rises after it, and is nowhere negative. $\square$
#
# **Check.** Random pairs of coins are used, half of them nearly fair and nearly equal; on these a factor of 2.1 is rejected.

# %% tags=["nbval-check-output", "check"]
coins = torch.rand(2, 10_000)
coins[:, 5000:] = 0.5 + 0.02 * (coins[:, 5000:] - 0.5)
p, q = torch.stack([coins, 1 - coins], -1)
total_variation = 0.5 * (p - q).abs().sum(-1)
wrong = {"factor 2.1": kl(p, q) * 2 / 2.1}
verify("eq-pinsker", 2 * total_variation**2, kl(p, q), at_most(1e-15), rejects=wrong)

# %% [markdown]
# *Sources: F03.*
#
# :::{depth-end}
# :::

# %% [markdown]
# (sec-kl-estimation)=
# ## Estimating it from samples: the value and the gradient
#
# Often there is no formula, but $q$ can be sampled and both densities can be evaluated, as in the ELBO and in the reinforcement learning of language models. Write $r = p(x) / q(x)$ for a sample $x \sim q$. By definition the mean of $k_1 = -\log r$ is $D(q \Vert p)$; that of $N$ samples is off by about the standard deviation of one over $\sqrt N$. The samples have both signs, though the KL divergence has not. Add $r - 1$, which has mean zero because $\mathbb{E}_q\, r = \int p = 1$:
#
# $$
# \mathbb{E}_q \big[ (r - 1) - \log r \big] = D_{\mathrm{KL}}(q \,\Vert\, p) ,
# $$ (eq-nonnegative-estimator)
#
# if $p$ has no mass outside the support of $q$. {cite:t}`schulman2020` calls this estimator $k_3$. None of its samples is negative, since $\log r \le r - 1$. Where the distributions are close, $r - 1$ cancels most of $-\log r$ and the variance is usually smaller; where they are far apart, $r$ itself varies ever more: for Gaussians of unit variance that of $k_3$ is smaller below a shift of the mean of 1.12, and that of $k_1$ above ({numref}`fig-estimators`, left).
#
# :::{depth-start} which estimator is better depends on the pair; both can mislead
# :::
# For $q = \mathcal{N}(0, 1)$ and $p = \mathcal{N}(\delta, 1)$ the variances of one sample are
#
# $$
# \begin{aligned}
# \operatorname{Var}_q(-\log r) &= \delta^2 , \\
# \operatorname{Var}_q(r - 1 - \log r) &= e^{\delta^2} - 1 - \delta^2 .
# \end{aligned}
# $$ (eq-estimator-variances)
#
# *Proof.* $\log r = \delta x - \delta^2 / 2$ has variance $\delta^2$. Next, $\mathbb{E}_q\, r^2 = e^{\delta^2}$, so $r$ has variance $e^{\delta^2} - 1$. The covariance of $r$ and $\log r$ is $\delta\, \mathbb{E}_q[r x] = \delta\, \mathbb{E}_p\, x = \delta^2$. Hence $r - \log r$ has variance $e^{\delta^2} - 1 + \delta^2 - 2 \delta^2$. $\square$
#
# The second is about $\delta^4 / 2$ for small $\delta$, and the two are equal where $e^{\delta^2} = 1 + 2 \delta^2$. This is no general rule: two distributions can be very close and $\mathbb{E}_q\, r^2$ still be infinite. An example is a mixture $p$ of 99 % $q$ and 1 % $\mathcal{N}(0, 4)$, where $r$ grows like $e^{3 x^2 / 8}$ and $q\, r^2$ like $e^{x^2 / 4}$. So estimate both variances before you choose, with care for heavy tails.
#
# A computed KL divergence can also be negative, for three reasons. With few samples the error of $k_1$ can exceed a small KL divergence. With samples from $p$ instead of $q$, by mistake, the mean of $k_1$ is $-D(p \Vert q)$. And if the density $p$ is too large by a constant factor $C$, the result is too small by $\log C$.
#
# :::{depth-end}
# :::
#
# **Checks.** Samples are compared with torch, and the variances with integrals. A plus sign is rejected, and variances for small shifts only or for independent terms. Then come the claims on negative values, and on the support for the pair `two_points`, `three_points`.

# %% tags=["serves"]
estimators = {  # of D(q || p), as functions of log r = log p(x) - log q(x) for x from q
    "k1": lambda log_r: -log_r,
    "k3": lambda log_r: log_r.expm1() - log_r,
    "k2": lambda log_r: log_r**2 / 2,
}

# %% tags=["nbval-check-output", "check"]
q, near_q = Normal(0.0, 1.0), Normal(0.1, 1.0)
x = q.sample((400_000,))
log_r = near_q.log_prob(x) - q.log_prob(x)
k1, k3 = estimators["k1"](log_r), estimators["k3"](log_r)
truth = kl_divergence(q, near_q)
wrong = {"plus log r": -truth, "twice": 2 * truth}
verify("eq-nonnegative-estimator", k3, truth, monte_carlo, rejects=wrong)
print("k3 has no negative sample:", bool((k3 >= 0).all()))
few = k1.reshape(-1, 100).mean(1)
share = (few < 0).double().mean()
print("of the means of 100 samples of k1, more than a fifth are negative:", share.item() > 0.2)
r = three_points[:2] / two_points[:2]
mean = (two_points[:2] * (r - 1 - r.log())).sum()
missing = kl(two_points, three_points) - mean
print("without the support of p, k3 is too small by its mass:", abs(missing - 0.4).item() < 1e-12)


def variances_at(delta):
    return [delta**2, math.expm1(delta**2) - delta**2]


log_q, log_p = q.log_prob(grid), Normal(1.5, 1.0).log_prob(grid)
values = [estimators[name](log_p - log_q) for name in ("k1", "k3")]
centered = [v - integrate(log_q.exp() * v) for v in values]
variances = [integrate(log_q.exp() * v**2) for v in centered]
wrong = {
    "small delta only": [1.5**2, 1.5**4 / 2],
    "independent terms": [1.5**2, math.expm1(1.5**2) + 1.5**2],
}
verify("eq-estimator-variances", variances, variances_at(1.5), quadrature, rejects=wrong)
equal = variances_at(1.12)[1] < 1.12**2 and variances_at(1.13)[1] > 1.13**2
print("the variances are equal between 1.12 and 1.13:", equal)

# %% [markdown]
# **As a loss they are judged anew.** Now train $q_\theta$. The obvious loop draws samples, averages $k_3$ and calls `backward`. The number that it prints is an unbiased estimate of $D(q_\theta \Vert p)$, but it makes something else small: the samples depend on $\theta$ too, and `backward` takes them as constants. With $s = \nabla_\theta \log q_\theta(x)$ and $k_2 = \frac12 (\log r)^2$, the gradients for a fixed $x$ are $\nabla k_1 = s$, $\nabla k_2 = -s \log r$ and $\nabla k_3 = (1 - r)\, s$. Since $\mathbb{E}_{q_\theta} s = 0$ and $\mathbb{E}_{q_\theta}[r s] = \mathbb{E}_p\, s$, their means are
#
# $$
# \begin{aligned}
# \mathbb{E}_{q_\theta} \nabla_\theta k_1 &= 0 , \\
# \mathbb{E}_{q_\theta} \nabla_\theta k_2 &= \nabla_\theta D_{\mathrm{KL}}(q_\theta \,\Vert\, p) , \\
# \mathbb{E}_{q_\theta} \nabla_\theta k_3 &= \nabla_\theta D_{\mathrm{KL}}(p \,\Vert\, q_\theta) .
# \end{aligned}
# $$ (eq-estimator-gradients)
#
# As a loss, $k_1$ gives noise and $k_3$ the gradient of the KL divergence *in the other order*. Only $k_2$, biased as an estimate of the value, has the right gradient {cite:p}`tang2025`:
#
# **Check.** For a Gaussian $q_\theta$ and the two modes of the opening figure the means are integrals, and the gradients on the right come from autograd. That each loss has the gradient of $D(q_\theta \Vert p)$ is rejected.


# %%
def train(estimator, steps=1000):
    """The mean and the standard deviation of q during training, from N(3, 1)."""
    mean, log_std = torch.tensor(3.0, requires_grad=True), torch.tensor(0.0, requires_grad=True)
    optimizer, path = torch.optim.Adam([mean, log_std], lr=0.05), []
    for _ in range(steps):
        q = Normal(mean, log_std.exp())
        x = q.sample((300,))  # no gradient passes through a sample
        log_r = log_two_modes(x, 3.0) - q.log_prob(x)
        estimator(log_r).mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        path.append([mean.item(), log_std.exp().item()])
    return torch.tensor(path)


paths = {name: train(estimator) for name, estimator in estimators.items()}


# %% tags=["nbval-check-output", "check"]
theta, log_p = torch.tensor([1.0, 0.3], requires_grad=True), log_two_modes(grid, 3.0)


def gradient(objective):
    log_q = Normal(theta[0], theta[1].exp()).log_prob(grid)
    return torch.autograd.grad(objective(log_q), theta)[0]


def with_fixed_samples(estimator):
    return gradient(lambda log_q: integrate(log_q.detach().exp() * estimator(log_p - log_q)))


found = [with_fixed_samples(estimators[name]) for name in ("k1", "k2", "k3")]
in_order = gradient(lambda log_q: reverse(log_p, log_q))
other_order = gradient(lambda log_q: forward(log_p, log_q))
closed = [torch.zeros(2), in_order, other_order]
verify("eq-estimator-gradients", found, closed, quadrature, rejects={"one for all": [in_order] * 3})

# %% tags=["figure"] mystnb={"image": {"alt": "Left: two rising curves on logarithmic axes that cross at 1.12. Right: three paths in the plane of mean and standard deviation from one start; k2 stays at the reverse fit, k3 travels to the forward fit, k1 wanders off the top."}, "figure": {"caption": "Left: the variance of one sample, for Gaussians of unit variance. Right: a Gaussian $q$ trained with each estimator as the loss, from the right component of $p$; circles mark the fits of {numref}`fig-two-fits`.", "name": "fig-estimators"}}
panels, (left, right) = plots.figure(columns=2, height=3.4)
shifts = torch.linspace(0.05, 2.5, 100)
by_kind = torch.tensor([variances_at(shift.item()) for shift in shifts]).mT
_ = plots.curves(
    {"k1": (shifts, by_kind[0]), "k3": (shifts, by_kind[1])},
    x_label="shift of the mean",
    y_label="variance (nats squared)",
    log_x=True,
    log_y=True,
    marks={"1.12": 1.12},
    axes=left,
)
right.set(xlim=(-1.5, 5), ylim=(0, 4.5))
for (x, y), name in (((0, 10**0.5), "forward fit"), (opening, "reverse fit")):
    _ = right.plot(x, y, "o", color="black", markersize=7, markerfacecolor="none")
    _ = right.annotate(name, (x, y), (0, 9), textcoords="offset points", fontsize=9)
plots.curves(
    {name: tuple(path.mT) for name, path in paths.items()},
    x_label="mean of q",
    y_label="standard deviation of q",
    axes=right,
)

# %% [markdown]
# The training starts almost at the reverse fit, and $k_2$ keeps it there:

# %% tags=["numbers"]
log_p = log_two_modes(grid, 3.0)
ends = {f"{name} ends": paths[name][-100:].mean(0) for name in ("k2", "k3")}
for words, (mean, std) in {"all start": (3.0, 1.0), **ends}.items():
    value = reverse(log_p, Normal(mean, std).log_prob(grid))
    print(f"{words:10s} mean {mean:5.2f}, standard deviation {std:.2f}, D(q || p) {value:.2f} nats")

# %% [markdown]
# With $k_3$ as its loss the Gaussian leaves the mode and goes to the *forward* fit, and the KL divergence that the loss estimates rises. The fix is to let the gradient know of the samples: pass it through them where $x$ is a smooth function of noise and parameters, or else multiply $-\log r$, taken as a constant, by $s$, as for the words of a language model (both in chapter 4).

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
# - The KL divergence is the mean log-ratio under its first argument, and zero only for equal distributions {eq}`eq-kl-nonnegative`.
# - Maximizing the likelihood minimizes the forward KL {eq}`eq-likelihood-kl`, and its fit covers the data. The reverse fit chooses one of two equal modes once they are far apart, and a factorized one is too narrow {eq}`eq-factorized-reverse`.
# - Between Gaussians it is a formula {eq}`eq-kl-gaussians`, close by half a squared length {eq}`eq-kl-fisher`, for chains a sum {eq}`eq-kl-chain`.
# - Without overlap it is infinite. Noise makes it finite, and it falls at half the squared distance of the scores {eq}`eq-de-bruijn`.
# - The gradient of an unbiased estimator need not be unbiased {eq}`eq-estimator-gradients`.
#
# To go on: {cite:t}`cover2006` and {cite:t}`blei2017`.
#
# :::{dropdown} If you come from the lectures
# The proof of Gibbs' inequality ends with an inequality {eq}`eq-kl-support`, not with $\log 1$. The KL divergence is invariant under a change of variables only if the map is one-to-one, or at least sufficient. The two orders can give the same value, as for Gaussians of equal variance. It is zero for equal distributions only, not for similar ones, and it is no distance. In the formula for a diagonal Gaussian the variances are not squared (E10 of the {doc}`errata </book/errata>`), and of the two coins it is the fair one that may show heads only (E18). Several notations and both orders are in use; the {doc}`notation page </book/notation>` fixes one.
# :::
