# %% [markdown]
# # Latent space
#
# A trained decoder turns every point of its latent space into an image, so the space can be drawn as a map. Does a place on the map mean anything? Is there a direction for *thicker*, for *turned to the left*, for *wrong*?

# %% tags=["setup", "hide-input"]
# The set-up cell: tools/notebooks.py writes it.

# %%
import math

import torch
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from companion import data
from companion.data import SCENE_FACTORS, binarize, render_scenes, scenes
from companion.elbo import elbo_terms
from companion.interpolation import spherical_interpolation
from companion.metrics import (
    auroc,
    energy_test,
    log_likelihood,
    mutual_information,
    mutual_information_gap,
)

# %%
from companion.page import plots
from companion.page.live import watch
from companion.page.show import show
from companion.page.sliders import Editor, Slider
from companion.page.verify import autograd, exact, monte_carlo, quadrature, verify
from companion.zoo import pretrained
from companion.zoo.yardstick import refused
from companion.zoo.yourself import cost, train_it, use

# %%
_ = torch.manual_seed(0)
test = data.load("mnist", "test")
plane, digits_vae = pretrained("vae2d-mnist"), pretrained("conv-vae-mnist")
deep = pretrained("vae-mnist")

# %% tags=["mnist"] mystnb={"image": {"alt": "A square of seventeen by seventeen decoded digits. Regions of ones, sevens, nines, sixes, zeros, threes and others lie side by side and pass into each other through in-between shapes."}, "figure": {"caption": "The latent plane of a VAE with two latents, decoded. Neighbors are alike, and each image stands for the same share of the prior.", "name": "fig-plane-map"}}
side = 17
levels = Normal(0.0, 1.0).icdf((torch.arange(side) + 0.5) / side)
across, up = torch.meshgrid(levels, levels.flip(0), indexing="xy")
grid = torch.stack([across.flatten(), up.flatten()], 1)
map_images = plane.likelihood(grid).mean
plots.image_grid(map_images, columns=side, tile=0.4)

# %% [markdown]
# {numref}`fig-plane-map` is such a map. This chapter interpolates, edits and measures on three networks of the last chapter's kind, with 2, 16 and 50 latents; their {doc}`cards </book/models>` tell how each was trained. It also tests three popular beliefs, and all three fail for these models: that draws closer to the origin look better, that the axes of a latent space mean something by themselves, and that an image with a high likelihood must be a normal one.

# %% [markdown]
# (sec-latent-plane)=
# ## A map of the plane
#
# Each image of {numref}`fig-plane-map` is decoded from one point of the plane. The points are not evenly spaced. Their coordinates are quantiles of the Gaussian, so that each of the 17 times 17 images stands for a region of equal probability under the prior: what takes more space on the map is sampled more often.
#
# The map has no empty region: nearly every point decodes to something like a digit, and blurs are few. The {ref}`autoencoders of chapter 1 <sec-no-sampling>` did not have that. Now the other way: where does the encoder put real digits? Each dot below is the mean of $q_\phi(z \mid x)$ for one test digit, in the coordinates of the map.

# %%
x = binarize(test.images)
q = plane.posterior(x)
of_map = Normal(0.0, 1.0).cdf(q.mean[:2000]) * side - 0.5  # in tiles, from the lower left

# %% tags=["mnist"] mystnb={"image": {"alt": "The map, faded, with two thousand dots in ten colors over it. Each class covers the region of its own decoded digits. Zeros and ones form clouds of their own; fours and nines, and threes, fives and eights overlap. Between some clouds there are gaps, over in-between shapes."}, "figure": {"caption": "Two thousand test digits on the map, by their class. No label was used in training. The gaps lie over the shapes between two digits.", "name": "fig-plane-digits"}}
fig, (axes,) = plots.figure(height=5.6, width=6.4)
tiles = map_images[:, 0].view(side, side, 28, 28).transpose(1, 2).reshape(28 * side, 28 * side)
edge = (-0.5, side - 0.5, -0.5, side - 0.5)
labels = test.labels[:2000]
words = {"x_label": "first latent", "y_label": "second latent", "legend": "digit"}
_ = plots.scatter(of_map, labels, **words, bounds=edge, axes=axes)
_ = axes.imshow(1 - 0.35 * tiles, extent=edge, cmap="gray", vmin=0, vmax=1, zorder=0)
_ = axes.set(xticks=[], yticks=[])
fig

# %% [markdown]
# Up to the small variance of each $q_\phi(z \mid x)$, the dots together are the {term}`aggregate posterior` $q(z) = \mathbb{E}_{x}\, q_\phi(z \mid x)$. For samples to look like data it should be close to the prior {eq}`eq-surgery`. Its mean and covariance follow from those of the single posteriors, by the law of total variance:
#
# $$
# \operatorname{Cov}_{q(z)}[z] = \mathbb{E}_{x} \operatorname{diag} \sigma_\phi^2(x) + \operatorname{Cov}_{x} \big[ \mu_\phi(x) \big] .
# $$ (eq-aggregate-covariance)
#
# The check draws from $q(z)$ for the network with 16 latents: a random digit, then a $z$. It compares the variances and the covariance of two latents: the one with the largest posterior variance, and its most correlated partner. It rejects the sum without the posterior variances, and the belief that diagonal posteriors make a diagonal $q(z)$.

# %%
_ = torch.manual_seed(0)
q = digits_vae.posterior(x)
mean, variance = q.mean.double(), q.variance.double()
of_means = torch.cov(mean.T, correction=0)
j = int(variance.mean(0).argmax())
k = int(of_means[j].abs().argsort()[-2])
which, noise = torch.randint(len(x), (2_000_000,)), torch.randn(2_000_000, 2).double()
pair = mean[:, [j, k]][which] + variance[:, [j, k]].sqrt()[which] * noise
centered = pair - mean.mean(0)[[j, k]]
products = torch.stack([*(centered**2).T, centered.prod(1)], 1)

# %% tags=["nbval-check-output", "mnist"]
alone = torch.stack([of_means[j, j], of_means[k, k], of_means[j, k]])
whole = alone + torch.stack([*variance.mean(0)[[j, k]], torch.tensor(0.0)])
wrong = {"means alone": alone, "diagonal": whole * torch.tensor([1.0, 1.0, 0.0])}
verify("eq-aggregate-covariance", products, whole, monte_carlo, rejects=wrong)

# %% [markdown]
# If $q(z)$ were the prior, both parts would add up to one in each latent. The cell prints the smallest and the largest sum, and the share of the means. The last line asks a sharper question, with the two-sample test of {ref}`chapter 1 <sec-no-sampling>`: can 2000 draws of $q(z)$ be told from 2000 draws of the prior? (With its 200 relabelings the smallest $p$ that the test can give is 1 in 201.)

# %%
total = variance.mean(0) + mean.var(0)
share = mean.var(0) / total
print(f"variance of a latent: {total.min():.2f} to {total.max():.2f}")
print(f"share of the means: {share.min():.2f} to {share.max():.2f}")
_ = torch.manual_seed(0)
z = q.sample()[torch.randperm(len(x))[:2000]]
found = energy_test(z, torch.randn(2000, 16))
print(f"energy distance {found.statistic:.4f}, p = {found.p_value:.3f}")

# %% tags=["nbval-check-output", "mnist"]
print("variances within 15 percent of one:", bool((total - 1).abs().max() < 0.15))
print("still, the distributions differ (p < 0.01):", found.p_value < 0.01)

# %% [markdown]
# Mean and variance fit well, the distribution itself does not quite. In the plane one can see how it may differ: {numref}`fig-plane-digits` has gaps between the classes, and the map shows shapes between two digits there. The prior knows nothing of the gaps. This is one reason why samples of a VAE look worse than its reconstructions.
#
# **What you can say now.** The prior covers the plane without holes, but the aggregate posterior has gaps, and samples from the gaps look like no digit.

# %% [markdown]
# (sec-train-plane)=
# ## Train it yourself
#
# The network of {numref}`fig-plane-map` comes with the book. The next cells train a new one by the same recipe, on your GPU if there is one. At small scale it takes only the first steps, at most 20 seconds on two cores, with the recipe's learning rates compressed into them. At full scale it takes all of them: ask for it with `train_it("vae2d-mnist", "full")`.

# %%
print(cost("vae2d-mnist"))

# %%
mine = watch(train_it("vae2d-mnist"))

# %% tags=["nbval-check-output"]
first, last = torch.tensor(mine.losses).unfold(0, 20, 20)[[0, -1]].mean(1)
print("the loss fell by more than a tenth:", bool(last < 0.9 * first))

# %% [markdown]
# While it runs, a figure shows the loss of each step and eight draws of the model. Whose weights does the rest of the chapter use? One switch decides. With yours from a short training, expect worse images, and checks of claims about trained models that fail: they were written for the whole recipe.

# %% tags=["nbval-check-output"]
MINE = False  # True: from here on the chapter uses your weights
if MINE:
    use("vae2d-mnist", mine.model)
    plane = pretrained("vae2d-mnist")
print("weights of vae2d-mnist:", "yours" if MINE else "the shipped ones")

# %% [markdown]
# (sec-latent-walks)=
# ## Interpolation between images
#
# Chapter 1 {ref}`interpolated from a 3 to an 8 <sec-interpolation>` in a straight line. With four corners one can interpolate over a square. For corner codes $z_{00}, z_{01}, z_{10}, z_{11}$ and shares $a, b \in [0, 1]$ of the way across and down, *bilinear interpolation* takes
#
# $$
# z(a, b) = (1 - b) \big( (1 - a)\, z_{00} + a\, z_{01} \big) + b \big( (1 - a)\, z_{10} + a\, z_{11} \big) .
# $$ (def-bilinear)
#
# Move the two sliders: the image is decoded from $z(a, b)$, and the corners are a 2, a 7, a 6 and a 0 of the test set, each encoded by the network with 16 latents.

# %% tags=["mnist"]
corners = [int((test.labels == k).nonzero()[3]) for k in (2, 7, 6, 0)]
z_00, z_01, z_10, z_11 = digits_vae.posterior(x[corners]).mean
stops = [round(i / 8, 3) for i in range(9)]


def blend(a, b):
    return (1 - b) * ((1 - a) * z_00 + a * z_01) + b * ((1 - a) * z_10 + a * z_11)


def blended(a, b):
    return digits_vae.likelihood(blend(a, b)[None]).mean[0, 0]


Editor(
    {"across": stops, "down": stops},
    blended,
    alt="A digit decoded {} of the way across and {} of the way down",
)

# %% [markdown]
# The same square at a glance, beside what a cross-fade of the pixels does with the same corners.

# %% tags=["mnist"] mystnb={"image": {"alt": "Two squares of seven by seven images with the corners 2, 7, 6 and 0. On the left every image is one stroke figure that changes its shape step by step. On the right the inner images are gray figures on top of each other."}, "figure": {"caption": "Bilinear interpolation between four digits: of the codes (left) and of the pixels (right).", "name": "fig-bilinear"}}
steps = [i / 6 for i in range(7)]
walked = torch.stack([blended(a, b) for b in steps for a in steps])
p_00, p_01, p_10, p_11 = x[corners, 0]
faded = torch.stack(
    [
        (1 - b) * ((1 - a) * p_00 + a * p_01) + b * ((1 - a) * p_10 + a * p_11)
        for b in steps
        for a in steps
    ]
)
fig, (left, right) = plots.figure(2, height=3.4)
_ = plots.image_grid(walked, columns=7, axes=left)
plots.image_grid(faded, columns=7, axes=right)

# %% [markdown]
# In {numref}`fig-bilinear` the codes give one figure at each point, and the pixels give several at once. But which points does a line pass? Halfway between two draws of the prior the straight line is closer to the origin than most draws ever are. For independent $z_0, z_1 \sim \mathcal{N}(0, I_d)$,
#
# $$
# \mathbb{E}\, \big\lVert (1 - t)\, z_0 + t\, z_1 \big\rVert^2 = d\, \big( 1 - 2 t + 2 t^2 \big) ,
# $$ (eq-chord-length)
#
# at the middle half of what it is at the ends. In many dimensions lengths hardly vary (chapter 3 met this as the empty mode {eq}`eq-mode`), so the middle of a line is a rare place. The last lines of the cell tell how rare: the share of draws that are as short.

# %% tags=["nbval-check-output"]
_ = torch.manual_seed(0)
d = 16
z_0, z_1 = torch.randn(2, 100_000, d).double()
t = torch.tensor([0.1, 0.3, 0.5]).double()
lengths = torch.stack([((1 - s) * z_0 + s * z_1).square().sum(1) for s in t], 1)
expected = d * (1 - 2 * t + 2 * t**2)
constant = {"constant length": torch.full((3,), d).double()}
verify("eq-chord-length", lengths, expected, monte_carlo, rejects=constant)
short = {dim: torch.randn(100_000, dim).square().sum(1) < dim / 2 for dim in (16, 50)}
print("16 dimensions, about 5 percent:", 0.04 < short[16].float().mean().item() < 0.06)
print("50 dimensions, about 1 in 1000:", short[50].float().mean().item() < 0.002)

# %% [markdown]
# The remedy is to interpolate on a sphere. With the angle $\omega$ between $z_0$ and $z_1$, *spherical interpolation* {cite:p}`shoemake1985,white2016` takes
#
# $$
# \operatorname{slerp}(z_0, z_1; t) = \frac{\sin\big( (1 - t)\, \omega \big)}{\sin \omega}\, z_0 + \frac{\sin (t\, \omega)}{\sin \omega}\, z_1 .
# $$ (def-slerp)
#
# For two points of equal length, $0 < \omega < \pi$ and $0 \le t \le 1$, it keeps the length and turns at a constant speed. With $\angle$ for the angle between two vectors,
#
# $$
# \begin{aligned}
# \lVert z_0 \rVert = \lVert z_1 \rVert \;\Longrightarrow\;{} & \lVert \operatorname{slerp}(z_0, z_1; t) \rVert = \lVert z_0 \rVert \\
# & \text{and } \angle \big( z_0, \operatorname{slerp}(z_0, z_1; t) \big) = t\, \omega .
# \end{aligned}
# $$ (eq-slerp)

# %% tags=["nbval-check-output"]
show(spherical_interpolation, docstring=False)


# %%
def length_and_angle(path, start):
    cosine = torch.cosine_similarity(path, start, dim=-1)
    return torch.stack([path.norm(dim=-1), cosine.clamp(-1, 1).acos()])


z_0, z_1 = z_0[:50], z_1[:50]
z_1 = z_1 * z_0.norm(dim=1, keepdim=True) / z_1.norm(dim=1, keepdim=True)
on_sphere = spherical_interpolation(z_0, z_1, t)
straight = torch.stack([(1 - s) * z_0 + s * z_1 for s in t])

# %% tags=["nbval-check-output"]
omega = torch.cosine_similarity(z_0, z_1, dim=1).acos()
promised = torch.stack([z_0.norm(dim=1).expand(3, 50), t[:, None] * omega])
line = {"straight line": length_and_angle(straight, z_0)}
verify("eq-slerp", length_and_angle(on_sphere, z_0), promised, exact, rejects=line)

# %% [markdown]
# Two independent draws are nearly at right angles in many dimensions. For a right angle the formula says $\cos \alpha\; z_0 + \sin \alpha\; z_1$ with $\alpha = t \pi / 2$, and that formula, for *any* two independent draws, does more than keep a length. Each point of the arc is again a draw of the prior:
#
# $$
# z_0, z_1 \sim \mathcal{N}(0, I) \text{ independent} \;\Longrightarrow\; \cos \alpha\; z_0 + \sin \alpha\; z_1 \sim \mathcal{N}(0, I) .
# $$ (eq-arc-law)
#
# A sum of independent Gaussians is Gaussian, and the variances add up to $\cos^2 \alpha + \sin^2 \alpha = 1$. The check compares the covariance, by exact algebra: the map from $(z_0, z_1)$ is a matrix $A$, and $A A^\top$ must be the identity. (The two paths differ a little: slerp gives its two ends weights that depend on their angle, and the arc does not. The square of {eq}`def-bilinear` is made of straight lines.)

# %% tags=["nbval-check-output"]
eye = torch.eye(4).double()
angles = torch.tensor([0.3, 0.8, 1.2]).double()
A = torch.stack([torch.cat([a.cos() * eye, a.sin() * eye], 1) for a in angles])
chords = torch.stack([torch.cat([(1 - s) * eye, s * eye], 1) for s in t])
line = {"straight line": chords @ chords.mT}
verify("eq-arc-law", A @ A.mT, eye.expand(3, 4, 4), exact, rejects=line)

# %% [markdown]
# Does the sphere make better images? To measure it we take the middles of 5000 random pairs of encoded test digits, and judge the decoded images in two ways. The first is a network that has learned to *refuse* broken figures of strokes; {ref}`chapter 10 <sec-ddpm-samples>` trains and uses it. It is strict and has seen real digits only, so it refuses half of the reconstructions too: compare its shares with those of the ends. The second is the bound of the network with 50 latents on a black-and-white draw. It is a code length, which favors plain images, and {ref}`the last section <sec-anomalies>` shows that it is no measure of quality. Pairs of one class and pairs of two classes are counted apart.

# %%
_ = torch.manual_seed(0)
codes = digits_vae.posterior(x).sample()
first, second = torch.randperm(len(x) // 2 * 2).chunk(2)
a, b = codes[first], codes[second]
same = test.labels[first] == test.labels[second]
middles = {
    "one end": a,
    "other end": b,
    "line": (a + b) / 2,
    "arc": spherical_interpolation(a, b, torch.tensor([0.5]))[0],
}
bounds = {
    name: elbo_terms(deep, digits_vae.likelihood(z).sample()).elbo for name, z in middles.items()
}
groups = {"same class": same.nonzero()[:, 0][:500], "two classes": (~same).nonzero()[:, 0][:1000]}
refusals = {
    (text, name): refused(digits_vae.likelihood(z[chosen]).mean)
    for text, chosen in groups.items()
    for name, z in middles.items()
}

# %%
for text, chosen in {"same class": same, "two classes": ~same}.items():
    ends = (bounds["one end"] + bounds["other end"])[chosen] / 2
    print(f"{text}: bound at the ends {ends.mean():.1f} nats", end="")
    for name in ("line", "arc"):
        loss = ends - bounds[name][chosen]
        print(f", {name} {-loss.mean():+.1f} +- {loss.std() / len(loss) ** 0.5:.1f}", end="")
    shares = ", ".join(f"{name} {refusals[text, name][0]:.0%}" for name in middles)
    print(f"\n{'':12}refused: {shares}")

# %% tags=["nbval-check-output", "mnist"]
share = {key: value for key, (value, _) in refusals.items()}
ends = {text: max(share[text, "one end"], share[text, "other end"]) for text in groups}
for name in ("line", "arc"):
    worse = share["two classes", name] > ends["two classes"] + 0.2
    print(f"{name}: refused more often than the ends between classes: {worse}")
print("within a class the line is not:", share["same class", "line"] < ends["same class"] + 0.05)
print("arc refused less often:", share["two classes", "arc"] < share["two classes", "line"])
gain = (bounds["arc"] - bounds["line"])[~same]
error = gain.std() / len(gain) ** 0.5
print("and its bound is higher, by 4 standard errors:", bool(gain.mean() > 4 * error))

# %% [markdown]
# Both measures agree: the damage is not done by the line, but on the way from one class to another, and there the arc is a little better. Within a class the middle is no worse than the ends. (The bound even prefers it, because it is a plainer digit than both.) The next figure shows an extreme case: of the first hundred pairs, the one for which the line comes closest to the origin.

# %% tags=["mnist"] mystnb={"image": {"alt": "Two rows of eleven images with the same first and the same last digit. In the middle the two rows pass through different figures."}, "figure": {"caption": "From one encoded digit to another: in a straight line, and on the sphere. The most extreme of a hundred pairs.", "name": "fig-two-ways"}}
far = int((a + b)[:100].norm(dim=1).argmin())
ends = a[far : far + 1], b[far : far + 1]
shares = torch.linspace(0, 1, 11)
straight = torch.lerp(*ends, shares[:, None])
round_way = spherical_interpolation(*ends, shares)[:, 0]
plots.image_rows(
    {
        "straight": digits_vae.likelihood(straight).mean,
        "sphere": digits_vae.likelihood(round_way).mean,
    }
)

# %% [markdown]
# The two paths of {numref}`fig-two-ways` lead through different figures. The sphere is the better habit, and no cure: where the data have a gap, every path crosses it. (The network with 50 latents uses 15 of them, so even there a line is not as lonely as 50 dimensions suggest.)
#
# **What you can say now.** A straight line between two codes passes through a region that the prior hardly visits; a spherical one does not. Neither avoids the gaps between classes.
#
# *Sources: A29.*

# %% [markdown]
# (sec-temperature)=
# ## Temperature
#
# Samplers of many models have a parameter called {term}`temperature`. It replaces the prior by a sharpened one, $p(z)^{1 / \tau^2}$, normalized. For the Gaussian prior this only scales the draws:
#
# $$
# \frac{p(z)^{1 / \tau^2}}{\int p(z')^{1 / \tau^2}\, \mathrm{d} z'} = \mathcal{N}\big( z;\, 0, \tau^2 I \big) .
# $$ (eq-temperature)
#
# (Some texts call the exponent $1 / T$; then $T = \tau^2$.) The check integrates numerically, for two temperatures, and rejects $\tau$ in the place of the variance.

# %% tags=["nbval-check-output"]
z = torch.linspace(-30, 30, 60_001, dtype=torch.double)
tau = torch.tensor([[0.5], [1.7]]).double()
power = (Normal(0.0, 1.0).log_prob(z) / tau**2).exp()
density = power / torch.trapezoid(power, z)[:, None]
cooled = Normal(0.0, tau).log_prob(z).exp()
wrong = {"variance tau": Normal(0.0, tau.sqrt()).log_prob(z).exp()}
verify("eq-temperature", density, cooled, quadrature, rejects=wrong)

# %% [markdown]
# It is often said that a low temperature trades variety for quality. Move the slider, and judge the quality: the same ten draws, scaled.

# %% tags=["mnist"]
_ = torch.manual_seed(1)
ten_codes = digits_vae.prior(10).sample()


def at_temperature(tau):
    return plots.image_grid(digits_vae.likelihood(tau * ten_codes).mean, columns=10)


Slider(
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4],
    at_temperature,
    description="temperature",
    alt="Ten digits decoded from draws scaled by {}",
    start=5,
)

# %% [markdown]
# At zero all images are the one that the origin decodes to. The figure has two numbers for each temperature: the *variety*, the variance of the pixels over 2000 samples, and the *doubt* of chapter 6, $\sum_j p_j (1 - p_j)$, which is small for firm black and white strokes.

# %% tags=["mnist"] mystnb={"image": {"alt": "Two curves over the temperature from 0 to 1.5. Variety rises from zero and flattens out near 45. Doubt falls slowly from about 25 to 20."}, "figure": {"caption": "What temperature does to a VAE of digits: less of it costs variety, and does not buy firmer strokes.", "name": "fig-temperature"}}
_ = torch.manual_seed(0)
z = digits_vae.prior(2000).sample()
taus = torch.linspace(0, 1.5, 16)
images = [digits_vae.likelihood(tau * z).mean.flatten(1) for tau in taus]
variety = torch.stack([p.var(0).sum() for p in images])
doubt = torch.stack([(p * (1 - p)).sum(1).mean() for p in images])
plots.curves(
    {"variety": (taus, variety), "doubt": (taus, doubt)},
    x_label="temperature",
    y_label="summed over pixels",
)

# %% [markdown]
# Variety in {numref}`fig-temperature` falls to zero with the temperature, as it must. The doubt does not fall with it. But firm strokes may be firmly wrong. So the cell asks both judges again: which share of 500 samples at each temperature is refused, and the bound on 2000 draws.

# %%
judged, not_one = {}, {}
for tau in (0.0, 0.6, 1.0, 1.4):
    bound = elbo_terms(deep, digits_vae.likelihood(tau * z).sample()).elbo
    not_one[tau], error = refused(digits_vae.likelihood(tau * z[:500]).mean)
    judged[tau] = bound.mean().item()
    print(f"temperature {tau}: refused {not_one[tau]:4.0%} +- {error:.0%},", end=" ")
    print(f"bound {judged[tau]:.1f} +- {bound.std() / 2000**0.5:.1f} nats")

# %% tags=["nbval-check-output", "mnist"]
print("variety grows with temperature:", bool((variety.diff() > 0)[:10].all()))
print("doubt at one is below that at zero:", bool(doubt[10] < doubt[0]))
print("the origin is refused:", not_one[0.0] == 1)
print("cold samples are not refused less often:", not_one[0.6] > not_one[1.0] - 0.02)
print("their bound gains less than four nats:", judged[0.6] - judged[1.0] < 4)

# %% [markdown]
# For this model a low temperature costs variety and gains nothing that either measure can see. A low temperature means *closer to the origin*, and whether that is good depends on the model. Here the origin decodes to a figure that the judge refuses. (In deep hierarchical VAEs, with a temperature for each level, samples are often shown at less than one; the {ref}`summary <sec-latent-summary>` names where.)
#
# **What you can say now.** Temperature scales the draws of the prior. It always costs variety; it improves samples only if the center of the latent space decodes well.

# %% [markdown]
# (sec-known-causes)=
# ## Images whose causes are known
#
# What does a latent *mean*? With digits one can only look. So the companion renders images whose causes are known: a house on a plain, 32 by 32 pixels in color. Five factors make an image: the *azimuth* by which the house is turned, the *elevation* of the camera, the direction of the *light*, the *size*, the *hue* of the house. They are independent and uniform. Azimuth and light are what the lecture's example of a face varies.

# %% mystnb={"image": {"alt": "Five rows of nine small images of a house with a shadow. From left to right it turns, is seen from higher up, its shadow moves, it grows, its color goes from red over green to blue."}, "figure": {"caption": "Five causes, one row each; in a row one of them goes through its range, and the others stay in the middle.", "name": "fig-causes"}}
low, high = torch.tensor(list(SCENE_FACTORS.values())).T
rows = {}
for k, name in enumerate(SCENE_FACTORS):
    factors = ((low + high) / 2).repeat(9, 1)
    factors[:, k] = torch.linspace(float(low[k]), float(high[k]), 9)
    rows[name] = render_scenes(factors)
plots.image_rows(rows, tile=0.6)

# %% [markdown]
# Two VAEs were trained on 20,000 such images, with eight latents each and a Gaussian likelihood with $\sigma_{\text{dec}} = 0.1$. They have the same architecture, the same data, the same number of steps, and at the end the same loss, minus the bound. Only the path there differs. One, called *plain*, minimized it from the start. For the other, *relaxed*, the KL divergence had a weight $\beta$ that started at 100 and fell to 1 during the first 70 percent of the steps. A VAE with a weight is called a {term}`beta-VAE` {cite:p}`higgins2017`; {cite:t}`burgess2018` let the allowed KL divergence grow during training, which is the same idea seen from the other side.

# %%
house = scenes(5_000, seed=2)
models = {"plain": pretrained("vae-scenes"), "relaxed": pretrained("beta-vae-scenes")}
found = {name: elbo_terms(model, house.images) for name, model in models.items()}
for name, model in models.items():
    mean = model.likelihood(model.posterior(house.images).mean).mean
    error = (mean - house.images).square().flatten(1).sum(1).mean()
    rate, bound = found[name].kl.sum(1).mean(), found[name].elbo.mean()
    print(f"{name:8} rate {rate:.1f}, squared error {error:.2f}, bound {bound:.0f}")
lost = found["plain"].elbo - found["relaxed"].elbo
error = lost.std() / 5000**0.5
print(f"the relaxed one has {lost.mean():.1f} +- {error:.1f} nats less,", end=" ")
print(f"{lost.mean() / house.images[0].numel():.3f} per pixel value")

# %% [markdown]
# The plain network has the better bound, by some 80 nats for 3072 pixel values. (A percentage would mean nothing: the bound is a log-density, and its zero depends on the unit of the pixels, as {eq}`eq-flattened` will show.) Perhaps because it spent all its steps on the bound, and the other one only the last third, it reconstructs more exactly, and pays for that with a higher rate. So far nothing speaks for the detour.
#
# Below are new images, their reconstructions, and samples: color images that nobody rendered, decoded from draws of the prior. (Data of this kind are easy. For photographs of 32 by 32 pixels the companion has a recipe, `python -m companion train vae-cifar10`, which needs a GPU. No such weights are shipped with this edition, so this chapter claims nothing about photographs, or faces.)

# %% mystnb={"image": {"alt": "Three rows of ten small houses. The reconstructions have the right place, turn and color, but softer edges, and the second face of the roof is often lost. The sampled houses are mostly plausible, with shadow and shading."}, "figure": {"caption": "Rendered, reconstructed and sampled houses; the relaxed VAE.", "name": "fig-houses"}}
_ = torch.manual_seed(2)
vae = models["relaxed"]
q = vae.posterior(house.images[:10])
plots.image_rows(
    {
        "rendered": house.images[:10],
        "reconstructed": vae.likelihood(q.mean).mean.clamp(0, 1),
        "sampled": vae.likelihood(vae.prior(10).sample()).mean.clamp(0, 1),
    },
    tile=0.62,
)

# %% [markdown]
# The samples of {numref}`fig-houses` are not as good as the reconstructions, and {eq}`eq-aggregate-covariance` tells part of the reason: after the detour the variances of $q(z)$ are no longer all near one.

# %% tags=["nbval-check-output"]
q = vae.posterior(house.images)
total = q.mean.var(0) + q.variance.mean(0)
print(f"variance of a latent under q(z): {total.min():.2f} to {total.max():.2f}")

# %% [markdown]
# **What you can say now.** With rendered images the true factors are known, so what a latent means becomes a measurable question.
#
# *Sources: B16.*

# %% [markdown]
# (sec-disentanglement)=
# ## What does a latent know?
#
# What the detour bought shows when we ask what the latents mean, or how well they are *{term}`disentangled <disentanglement>`*. First by correlation: draw $z$ from $q_\phi(z \mid x)$ for 5000 new houses, and correlate each latent with each cause. A latent that encodes azimuth, and only azimuth, has one dark field in its row of {numref}`fig-correlations`, and the cause has one in its column.


# %%
def correlations(z, v):
    z, v = ((a - a.mean(0)) / a.std(0) for a in (z, v))
    return z.T @ v / (len(z) - 1)


def both_maps(tables, value_label):
    """A map of latents and causes for each of the two networks."""
    _, panels = plots.figure(2, height=3.2)
    for axes, (name, table) in zip(panels, tables.items(), strict=True):
        shown = plots.heatmap(
            table,
            x_label=f"cause ({name} VAE)",
            y_label="latent",
            value_label=value_label,
            x_ticks=["azi", "ele", "light", "size", "hue"],
            axes=axes,
        )
    return shown


_ = torch.manual_seed(0)
draws = {name: model.posterior(house.images).sample() for name, model in models.items()}
tables = {name: correlations(z, house.factors) for name, z in draws.items()}

# %% mystnb={"image": {"alt": "Two matrices with eight rows, the latents, and five columns, the causes. On the left each cause has one strong field and several medium ones. On the right each of azimuth, light, size and hue has one almost full field, and the rest of its column is pale."}, "figure": {"caption": "Correlation of latents and causes: the plain VAE (left), the relaxed one (right).", "name": "fig-correlations"}}
both_maps(tables, "correlation")

# %% [markdown]
# These numbers are behind {numref}`fig-correlations`: for each cause the latent with the largest correlation, and its size without the sign.

# %%
for name, table in tables.items():
    best = table.abs().max(0)
    found = zip(house.names, best.values.tolist(), best.indices.tolist(), strict=True)
    print(name, *(f"{cause} {value:.2f} (z{j})" for cause, value, j in found), sep=", ")

# %% tags=["nbval-check-output"]
azimuth = {name: table[:, 0].abs().sort(descending=True).values for name, table in tables.items()}
print("one latent explains azimuth, correlation above 0.9:", bool(azimuth["relaxed"][0] > 0.9))
print("no other correlation above 0.3:", bool(azimuth["relaxed"][1] < 0.3))
print("the same for the plain VAE:", bool(azimuth["plain"][0] > 0.9))

# %% [markdown]
# Correlation sees linear relations only. The {term}`mutual information` sees every kind of dependence. It is the KL divergence of the joint distribution from the product of its marginals,
#
# $$
# \mathrm{I}(z; v) = D_{\mathrm{KL}} \big( p(z, v) \,\Vert\, p(z)\, p(v) \big) .
# $$ (def-mutual-information)
#
# It is zero for independent variables only. For two jointly Gaussian variables with correlation $\rho$ it says how many nats a correlation is worth:
#
# $$
# \mathrm{I}(z; v) = - \tfrac12 \log \big( 1 - \rho^2 \big) .
# $$ (eq-normal-information)

# %% tags=["nbval-check-output"]
rho = torch.tensor([0.3, 0.9, 0.99]).double()
one = torch.ones(3).double()
joint = torch.stack([one, rho, rho, one], 1).unflatten(1, (2, 2))
zero = torch.zeros(3, 2).double()
product = MultivariateNormal(zero, torch.eye(2).double().expand(3, 2, 2))
information = kl_divergence(MultivariateNormal(zero, joint), product)
formula = -0.5 * (1 - rho**2).log()
wrong = {"without the half": 2 * formula, "without the square": -0.5 * (1 - rho).log()}
verify("eq-normal-information", information, formula, exact, rejects=wrong)

# %% [markdown]
# The companion estimates it by sorting both variables into twenty equally filled bins. Draws matter here, and not means: bins know only ranks, so the tiny movements of an inactive latent's mean would count like the large ones of an active latent. With 5000 houses chance alone gives $19^2 / (2 \cdot 5000) = 0.036$ nats, of the $\log 20 \approx 3$ that a bin can tell.

# %% mystnb={"image": {"alt": "Two matrices of eight latents and five causes. On the left, the plain VAE, nearly every column has several medium fields. On the right, the relaxed VAE, light, size and hue have one bright field each; azimuth has a bright one in the row of its latent and a second in row zero; elevation has three dim ones."}, "figure": {"caption": "Mutual information of latents and causes, as a share of what a cause has: plain (left), relaxed (right).", "name": "fig-information"}}
tells = {name: mutual_information(z, house.factors) for name, z in draws.items()}
both_maps({k: t / math.log(20) for k, t in tells.items()}, "share of log 20")

# %% [markdown]
# {numref}`fig-information` shows what correlation missed. In the relaxed network a second latent knows something about azimuth: how *far* the house is turned, and not which way. It goes with the square of the angle.

# %%
ranked = tells["relaxed"][:, 0].argsort(descending=True)
second = int(ranked[1])
angle, latent = house.factors[:, 0], draws["relaxed"][:, second]
for name, cause in {"azimuth": angle, "its square": angle**2}.items():
    rho = torch.corrcoef(torch.stack([latent, cause]))[0, 1]
    print(f"z{second} and {name}: correlation {rho:+.2f}")

# %% [markdown]
# The {term}`mutual information gap` {cite:p}`chen2018` makes one number of a column. It asks for each cause $v_k$ how far the best latent is ahead of the second best, as a share of the entropy of the cause:
#
# $$
# \mathrm{MIG}_k = \frac{1}{H(v_k)} \Big( \mathrm{I}(z_{j_1}; v_k) - \mathrm{I}(z_{j_2}; v_k) \Big) ,
# $$ (def-mig)
#
# where $z_{j_1}$ and $z_{j_2}$ are the latents with the most and the second most information about $v_k$. With twenty equally filled bins, $H(v_k) = \log 20$. (Papers estimate the information in different ways, so compare numbers within one table only.)

# %% mystnb={"image": {"alt": "Two panels of five bars, for azimuth, elevation, light, size and hue. The bars of the relaxed VAE are higher than those of the plain one for all causes but elevation, where both are small."}, "figure": {"caption": "Mutual information gap of each cause.", "name": "fig-mig"}}
gaps = {name: mutual_information_gap(t, math.log(20)) for name, t in tells.items()}
fig, panels = plots.figure(2, height=2.4)
for axes, (name, gap) in zip(panels, gaps.items(), strict=True):
    values = dict(zip(house.names, gap.tolist(), strict=True))
    _ = axes.set_ylim(0, 0.8)
    shown = plots.bars(values, value_label=f"gap ({name} VAE)", axes=axes)
shown

# %% [markdown]
# In {numref}`fig-mig` the relaxed network is ahead for every cause but the elevation, of which several of its latents know a little. Light, size and hue have a latent of their own; azimuth has one and a half.

# %%
for name, gap in gaps.items():
    print(f"{name}: mean gap {gap.mean():.2f}")

# %% tags=["nbval-check-output"]
ahead = gaps["relaxed"].mean() / gaps["plain"].mean()
print("the relaxed VAE is better, by more than half:", bool(ahead > 1.5))
print("but not for elevation:", bool(gaps["relaxed"][1] < gaps["plain"][1]))

# %% [markdown]
# The loss at the end is the same, so why might the path matter? We have not traced it, and part of the order may come from a smaller code: the rate of the relaxed network is lower. But one difference is easy to see, and the {ref}`section after next <sec-no-axes>` explains why it counts: the standard deviations of the posteriors.

# %% tags=["nbval-check-output"]
for name, model in models.items():
    stds = model.posterior(house.images).variance.mean(0).sqrt()
    print(f"{name:8} standard deviations", *(f"{value:.2f}" for value in stds))

# %% [markdown]
# A large weight makes the posterior of some latents wide and leaves others narrow, as the water level of {ref}`chapter 5 <sec-sigma-dec>` does {eq}`eq-beta-level`; without it all are about equally narrow.
#
# These are two trainings, one of each kind. Between seeds of one recipe the mutual information gap varies considerably {cite:p}`locatello2019`, so this comparison shows what happened here and not what the recipe does on average. The {doc}`cards </book/models>` hold the commands and the seeds, so that you can try others.
#
# **What you can say now.** Disentanglement is measured against known factors, by correlation or mutual information. In this one comparison the relaxed training is ahead.
#
# *Sources: B18.*

# %% [markdown]
# (sec-editing)=
# ## An editor
#
# Now the recipe of the lecture: *encode* an image, *draw* its latent, *change* some of its dimensions, *decode*, and *draw* a new image. (We show its mean instead; the draw would only add noise of $\sigma_{\text{dec}} = 0.1$.) We take from the table the latents that know most about azimuth, light and hue, and put a slider on each. The sign is taken from the table too, so that to the right means more.

# %% tags=["nbval-check-output"]
vae, table = models["relaxed"], tables["relaxed"]
every_knob = table.abs().argmax(0).tolist()  # for each cause its latent
every_sign = [float(table[j, k].sign()) for k, j in enumerate(every_knob)]
knobs, signs = ([each[k] for k in (0, 2, 4)] for each in (every_knob, every_sign))
_ = torch.manual_seed(0)
start = vae.posterior(house.images[:1]).sample()


def edited(*values):
    z = start.clone()
    for j, sign, value in zip(knobs, signs, values, strict=True):
        z[0, j] = sign * value
    return vae.likelihood(z).mean[0].clamp(0, 1).permute(1, 2, 0)


print("five different latents:", len(set(every_knob)) == 5)

# %%
stops = [-1.8, -1.2, -0.6, 0.0, 0.6, 1.2, 1.8]
Editor(
    {"azimuth latent": stops, "light latent": stops, "hue latent": stops},
    edited,
    alt="A house, decoded with azimuth latent {}, light latent {} and hue latent {}",
)

# %% [markdown]
# The next figure shows each latent on its own: in a row one of them goes from $-1.8$ to $1.8$, the others stay. Rows in which nothing happens belong to latents that carry little information.

# %% mystnb={"image": {"alt": "Eight rows of seven houses. In one row the house turns, in others its light, its size or its color changes; two rows change little."}, "figure": {"caption": "One latent at a time, eight latents from top to bottom.", "name": "fig-traversal"}}
stops = torch.linspace(-1.8, 1.8, 7)
rows = {}
for j in range(8):
    z = start.repeat(7, 1)
    z[:, j] = stops
    rows[f"z{j}"] = vae.likelihood(z).mean.clamp(0, 1)
plots.image_rows(rows, tile=0.6)

# %% [markdown]
# {numref}`fig-traversal` is what papers show. Does the editor do what its labels say? Encoding the edited image would answer in terms of the same latents. A fairer test knows nothing of latents: for each edited image, find the rendered house among the 5000 that is nearest in pixels, and read its true causes. The cell does so for all five causes, also for the two that have no slider.


# %%
def nearest_causes(images):
    distances = torch.cdist(images.flatten(1), house.images.flatten(1))
    return house.factors[distances.argmin(1)]


_ = torch.manual_seed(0)
z, clean = vae.posterior(house.images[:300]).sample(), {}
for cause, (knob, sign) in enumerate(zip(every_knob, every_sign, strict=True)):
    z_low, z_high = z.clone(), z.clone()
    z_low[:, knob], z_high[:, knob] = -sign, sign
    found = [nearest_causes(vae.likelihood(c).mean) for c in (z_low, z_high)]
    moved = (found[1] - found[0]).mean(0) / (high - low)
    texts = (f"{name} {m:+.2f}" for name, m in zip(house.names, moved.tolist(), strict=True))
    print(f"{house.names[cause]:9} latent from -1 to 1 moves:", ", ".join(texts))
    others = moved.abs().sum() - moved[cause].abs()
    clean[house.names[cause]] = bool(moved[cause] > 0.3 and others < moved[cause] / 2)

# %% tags=["nbval-check-output"]
for name in ("azimuth", "light", "hue"):
    print(f"the {name} latent moves its own cause, and little else: {clean[name]}")

# %% [markdown]
# The numbers are shares of each cause's range. Each of the three sliders moves its own cause by about half of the range, and the others hardly. Size would make a fourth good slider. Elevation fails: its best latent moves it by less than a fifth of its range, as its small gap in {numref}`fig-mig` suggests.
#
# **What you can say now.** Editing means changing one latent and decoding. Whether it changes one cause only has to be tested outside the model.
#
# *Sources: B17.*

# %% [markdown]
# (sec-no-axes)=
# ## The prior knows no axes
#
# One reads that the *diagonal prior* makes the dimensions of $z$ independent, and so disentangles. Draws of the prior are independent. Encodings are as independent as $q(z)$ is, and that is measured, not assumed. And meaning does not follow. For $p(z) = \mathcal{N}(z; 0, I)$ and any rotation $R$, that is $R R^\top = I$, the prior is the same in all directions, and a decoder that rotates its input back makes the same model:
#
# $$
# p(R z) = p(z), \qquad \tilde{p}_\theta(x \mid z) = p_\theta(x \mid R^\top z) \;\Longrightarrow\; \tilde{p}_\theta(x, R z) = p_\theta(x, z) .
# $$ (eq-rotated-model)
#
# The two models give every image the same probability, and no amount of data tells them apart. (For other priors with independent coordinates other maps do the same {cite:p}`locatello2019`.) The first check is about the prior alone, in double precision: it rejects a prior of which one variance is 1.05 instead of 1, and a shear of determinant 1 instead of the rotation. The second is about the whole model, with the trained decoder in single precision; it rejects a decoder that is not rotated, and one that is rotated the wrong way.

# %%
_ = torch.manual_seed(0)
R = torch.linalg.qr(torch.randn(8, 8).double()).Q
x = house.images[:200]
z = vae.posterior(x).sample()
nearly = torch.ones(8).double()
nearly[0] = 1.05
shear = torch.eye(8).double()
shear[0, 1] = 0.05


def log_prior(z, variances=1.0):
    return Normal(0.0, torch.as_tensor(variances).double() ** 0.5).log_prob(z).sum(1)


def log_joint(z, back):
    """log p(x | back z) + log p(z), in nats."""
    log_p = vae.likelihood(z @ back.T).log_prob(x)
    return (log_p + vae.prior(len(z)).log_prob(z)).double()


# %% tags=["nbval-check-output"]
exact_z = z.double()
wrong = {"one variance 1.05": log_prior(exact_z @ R.T, nearly)}
wrong["a shear"] = log_prior(exact_z @ shear.T)
verify("eq-rotated-model", log_prior(exact_z @ R.T), log_prior(exact_z), rejects=wrong)
R, original = R.float(), log_joint(z, torch.eye(8))
turned = {"not rotated": log_joint(z @ R.T, torch.eye(8))}
turned["rotated the wrong way"] = log_joint(z @ R.T, R)
rule = exact.within(1e-4)
verify("eq-rotated-model", log_joint(z @ R.T, R.T), original, rule, rejects=turned)

# %% [markdown]
# Yet the trained network *has* axes, as {numref}`fig-correlations` shows. Something must fix them. It is the other diagonal: that of $q_\phi(z \mid x)$ {cite:p}`rolinek2019`. A posterior whose latents have different variances is a narrow ellipse. Along the axes a diagonal Gaussian fits it; rotated, it does not, and the bound pays. On a Gaussian posterior with precision matrix $P$ a diagonal Gaussian loses, as {eq}`eq-rotation-gap` says of the linear case,
#
# $$
# \begin{aligned}
# & \min_{\Lambda \text{ diagonal}} D_{\mathrm{KL}} \big( \mathcal{N}(m, \Lambda) \,\Vert\, \mathcal{N}(m, P^{-1}) \big) \\
# & \qquad = \tfrac12 \Big( \sum_j \log P_{jj} - \log \det P \Big) ,
# \end{aligned}
# $$ (eq-rotation-price)
#
# reached at $\Lambda_{jj} = 1 / P_{jj}$. The check compares it with torch's KL divergence at that $\Lambda$, for the posterior of one house after a rotation, and rejects the value at the marginal variances $(P^{-1})_{jj}$, the plausible other choice. In the log-variances $s_j$ the KL divergence is $\frac12 \sum_j (P_{jj} e^{s_j} - s_j)$ and a constant, which is convex, so a gradient of zero proves that no diagonal is better.

# %%
variances = vae.posterior(x[:1]).variance[0].double()
R = torch.linalg.qr(R.double()).Q
P = R @ torch.diag(1 / variances) @ R.T
P = (P + P.T) / 2
rotated = MultivariateNormal(torch.zeros(8).double(), precision_matrix=P)


def kl_of(log_variance):
    diagonal = torch.diag(log_variance.exp())
    return kl_divergence(MultivariateNormal(torch.zeros(8).double(), diagonal), rotated)


best = (-P.diagonal().log()).requires_grad_()
(gradient,) = torch.autograd.grad(kl_of(best), best)

# %% tags=["nbval-check-output"]
print("no diagonal is better:", bool(gradient.abs().max() < 1e-9))
price = 0.5 * (P.diagonal().log().sum() - torch.logdet(P))
wrong = {"marginals": kl_of(P.inverse().diagonal().log())}
verify("eq-rotation-price", kl_of(best.detach()), price, exact, rejects=wrong)

# %% [markdown]
# How much is it for the house model? Rotate the plane of two latents by an angle, rotate the decoder back, and give the encoder the best diagonal answer. The bound is measured anew on 2000 houses, and beside it stands the formula. We do it for two pairs: azimuth and light, and azimuth and the latent with the largest posterior variance.


# %%
def rotation(angle, j, k):
    R = torch.eye(8)
    R[j, j], R[k, k] = math.cos(angle), math.cos(angle)
    R[j, k], R[k, j] = -math.sin(angle), math.sin(angle)
    return R


def turned_bound(R, x, vae=vae):
    """The bound with the decoder turned, and the price that the formula expects."""
    q = vae.posterior(x)
    P = torch.einsum("jk,nk,lk->njl", R, 1 / q.variance, R)
    fit = Normal(q.mean @ R.T, P.diagonal(dim1=1, dim2=2).rsqrt())
    kl = kl_divergence(fit, Normal(0.0, 1.0)).sum(1)
    price = 0.5 * (P.diagonal(dim1=1, dim2=2).log().sum(1) + q.variance.log().sum(1))
    return vae.likelihood(fit.sample() @ R).log_prob(x) - kl, price.mean()


# %%
x, degrees = house.images[:2000], torch.linspace(0, 90, 10)
stds = vae.posterior(x).variance.mean(0).sqrt()
pairs = {"light": tuple(knobs[:2]), "widest": (knobs[0], int(stds.argmax()))}
lost, errors, formula = {}, {}, {}
for name, (j, k) in pairs.items():
    bounds, prices = [], []
    for degree in degrees:
        _ = torch.manual_seed(0)
        bound, price = turned_bound(rotation(math.radians(degree), j, k), x)
        bounds.append(bound)
        prices.append(price)
    losses = bounds[0] - torch.stack(bounds)
    lost[name], formula[name] = losses.mean(1), torch.stack(prices)
    errors[name] = losses.std(1) / len(x) ** 0.5

# %% mystnb={"image": {"alt": "Two panels over an angle from 0 to 90 degrees. Left: nats lost. For azimuth with light the curve stays near zero; for azimuth with the widest latent it is an arch that peaks near 45 degrees, and crosses of the formula lie on both curves. Right: the correlation of the turned latent with azimuth falls from above 0.9 to 0, that with light rises from 0 to above 0.9."}, "figure": {"caption": "Left: what the bound pays for turning the azimuth latent into the light latent or into the widest one (lines: measured; crosses: the formula). Right: what the first latent means while azimuth and light are turned into each other.", "name": "fig-rotation-price"}}
fig, (left, right) = plots.figure(2, height=2.6)
lines = {f"with {name}": (degrees, values) for name, values in lost.items()}
_ = plots.curves(lines, x_label="angle (degrees)", y_label="nats lost", axes=left)
for values in formula.values():
    _ = left.plot(degrees, values, "k+")
rotated = [draws["relaxed"] @ rotation(math.radians(d), *knobs[:2]).T for d in degrees]
means_now = torch.stack([correlations(z, house.factors)[knobs[0]] for z in rotated])
lines = {"azimuth": (degrees, means_now[:, 0].abs()), "light": (degrees, means_now[:, 2].abs())}
plots.curves(lines, x_label="angle (degrees)", y_label="correlation", axes=right)

# %% [markdown]
# Look at both panels of {numref}`fig-rotation-price` together. Azimuth and light have nearly the same posterior variance. Rotating them into each other is free, and yet it takes the meaning out of both. A latent of another variance cannot be rotated in without paying. And a random rotation of all eight latents, for both networks?

# %%
_ = torch.manual_seed(0)
R = torch.linalg.qr(torch.randn(8, 8)).Q
paid, turned_gap = {}, {}
for name, model in models.items():
    upright, bound = (turned_bound(turn, x, model)[0] for turn in (torch.eye(8), R))
    price = turned_bound(R, x, model)[1]
    paid[name] = upright - bound
    error = paid[name].std() / len(x) ** 0.5
    print(
        f"{name:7}: {paid[name].mean():.1f} +- {error:.1f} nats lost, formula {price:.1f};", end=" "
    )
    information = mutual_information(draws[name] @ R.T, house.factors)
    turned_gap[name] = mutual_information_gap(information, math.log(20)).mean()
    print(f"mean gap {gaps[name].mean():.2f} before, {turned_gap[name]:.2f} after")

# %% tags=["nbval-check-output"]
sure = 10 * paid["relaxed"].std() / len(x) ** 0.5
print("it costs the relaxed one nats, by 10 errors:", bool(paid["relaxed"].mean() > sure))
less = paid["plain"].mean() < paid["relaxed"].mean() / 2
print("the plain one less than half as many:", bool(less))
cheap = (lost["light"] + 3 * errors["light"]).max()
costly = (lost["widest"] - 3 * errors["widest"]).max()
print("azimuth into light: less than half a nat:", bool(cheap < 0.5))
print("azimuth into the widest: more than one:", bool(costly > 1))
fallen = turned_gap["relaxed"] < gaps["relaxed"].mean() / 3
print("the gap of the relaxed one falls below a third:", bool(fallen))

# %% [markdown]
# So the axes of a VAE are fixed by the *differences* between the posterior variances of its latents. For two latents of equal variance the bound does not fix them at all, so whatever decides there, it is not the loss. The plain network, whose variances are all about equal, pays less for the same rotation. No criterion that looks at $p_\theta(x)$ alone can tell one choice of axes from another.
#
# **What you can say now.** The prior is rotation-invariant and gives the axes no meaning. The diagonal posterior fixes them, and only where its variances differ.

# %% [markdown]
# (sec-attributes)=
# ## Arithmetic with attributes
#
# Digits come without causes. But a property that can be computed, or labeled, has a *direction* all the same. Take a yes-or-no attribute $y$, and the difference of the mean codes of those that have it and those that have not:
#
# $$
# \mathbb{E}[z \mid y = 1] - \mathbb{E}[z \mid y = 0] = \frac{\operatorname{Cov}(z, y)}{\pi (1 - \pi)}, \qquad \pi = P(y = 1) .
# $$ (eq-attribute)
#
# The right side is the slope of a linear regression of $z$ on $y$: the {term}`attribute vector` points where $z$ and $y$ vary together, and it sees nothing else. Here $y$ says that a digit leans more to the right than the median digit. How much it leans is read off the pixels: the slope of the line that fits its ink column by row.


# %%
def slant(images):
    """Shift to the right per pixel upwards, by least squares over the ink."""
    ink = images.flatten(1) / images.flatten(1).sum(1, keepdim=True)
    row, column = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")
    row, column = row.flatten(), column.flatten()
    down = row - (ink @ row)[:, None]
    right = column - (ink @ column)[:, None]
    return -(ink * down * right).sum(1) / (ink * down**2).sum(1)


x = binarize(test.images)
z = digits_vae.posterior(x).mean.double()
leans = slant(test.images)
y = (leans > leans.quantile(0.7)).double()

# %% [markdown]
# The identity is arithmetic, so the check is one of arithmetic too, on the seven tenths and three tenths of a cut that is not in the middle: the difference of two means against a least-squares solver. It rejects the covariance over $\pi$ alone, and the mean of the codes with the attribute.

# %% tags=["nbval-check-output"]
pi = y.mean()
difference = z[y == 1].mean(0) - z[y == 0].mean(0)
design = torch.stack([torch.ones_like(y), y], 1)
fitted = torch.linalg.lstsq(design, z).solution[1]
wrong = {"over pi alone": difference * (1 - pi), "not less the others": z[y == 1].mean(0)}
verify("eq-attribute", difference, fitted, rejects=wrong)
covariance = ((z - z.mean(0)) * (y - pi)[:, None]).mean(0)
verify("eq-attribute", difference, covariance / (pi * (1 - pi)), rejects=wrong)

# %% [markdown]
# Now the vector for the median cut. Add multiples of it to the codes of other digits, and decode.

# %% tags=["mnist"] mystnb={"image": {"alt": "Five rows of seven digits. In each row a digit leans more to the right from column to column. At the ends the 5 has become something like a 9, and the 8 a loop."}, "figure": {"caption": "Five digits, less and more of the vector for slant. In the middle, the untouched reconstruction.", "name": "fig-slant"}}
upper = leans > leans.median()
vector = (z[upper].mean(0) - z[~upper].mean(0)).float()
chosen = [int((test.labels == k).nonzero()[0]) for k in (1, 4, 5, 7, 8)]
amounts = [-2.0, -1.3, -0.7, 0.0, 0.7, 1.3, 2.0]
rows = {
    str(test.labels[i].item()): digits_vae.likelihood(
        z[i].float() + torch.tensor(amounts)[:, None] * vector
    ).mean
    for i in chosen
}
plots.image_rows(rows, titles=[f"{a:+.1f}" for a in amounts], tile=0.7)

# %% [markdown]
# The rows of {numref}`fig-slant` lean as they should, with damage at the ends. Measured on a thousand digits, and class by class, beside the range of real digits:

# %%
codes, classes = z[:1000].float(), test.labels[:1000]
shifted = [slant(digits_vae.likelihood(codes + a * vector).mean) for a in amounts]
slopes = torch.stack([values.mean() for values in shifted])
real = leans.quantile(torch.tensor([0.025, 0.975]))
print(f"95 percent of the real digits lean by {real[0]:+.2f} to {real[1]:+.2f}")
for amount, values in list(zip(amounts, shifted, strict=True))[::3]:
    print(f"{amount:+.1f} vectors: mean slant {values.mean():+.2f} +- {values.std():.2f}")
steps = shifted[-1] - shifted[0]
by_class = torch.stack([steps[classes == k].mean() for k in classes.unique()])
print(f"from end to end, by class: {by_class.min():.2f} to {by_class.max():.2f}")

# %%
largest = int(vector.abs().argmax())
axis = torch.zeros(16)
axis[largest] = vector.norm() * vector[largest].sign()
alone = [slant(digits_vae.likelihood(codes + a * axis).mean).mean() for a in (-2, 2)]
print(f"along one latent only: {alone[1] - alone[0]:.2f}, not {steps.mean():.2f}")

# %% tags=["nbval-check-output", "mnist"]
print("more vector, more slant:", bool((slopes.diff() > 0).all()))
print("in every class:", bool((by_class > 0).all()))
print("the best single latent does less:", bool(alone[1] - alone[0] < steps.mean()))

# %% [markdown]
# From end to end the vector spans more than the range of real digits. It works on digits of every class, though it was made from means. It is not an axis, though one latent does most of it. And mind what a difference of means contains: if zeros lean more often than sixes, a part of the vector points from sixes to zeros.
#
# **What you can say now.** An attribute vector is a difference of mean codes, that is, a regression slope. It inherits every correlation of the data.

# %% [markdown]
# (sec-anomalies)=
# ## A likelihood is no measure of normality
#
# In {ref}`chapter 1 <sec-uses>` an anomaly was what an autoencoder reconstructs badly. A VAE offers a seemingly better score: an image with a low $\log p_\theta(x)$ is an anomaly. We try it, with the estimate $L_{50}$ of chapter 6, on images that are no digits.

# %% tags=["mnist"] mystnb={"image": {"alt": "Six rows of eight images: digits, digits with shuffled pixels, digits mirrored top to bottom, digits without their upper half, empty black images, and single vertical bars of different widths and places."}, "figure": {"caption": "Digits, and five kinds of images that are none.", "name": "fig-strange"}}
_ = torch.manual_seed(0)
x = binarize(test.images[:400])
bars = torch.zeros(200, 1, 28, 28)
for bar, left, width in zip(
    bars, torch.randint(11, 16, (200,)), torch.randint(1, 4, (200,)), strict=True
):
    bar[:, 4:24, left : left + width] = 1
strange = {
    "shuffled": x[:200].flatten(1)[:, torch.randperm(784)].view(200, 1, 28, 28),
    "mirrored": x[:200].flip(2),
    "lower half": x[:200] * (torch.arange(28)[:, None] >= 14),
    "empty": torch.zeros(200, 1, 28, 28),
    "a bar": bars,
}
plots.image_rows({"digits": x[:8]} | {k: v[:8] for k, v in strange.items()}, tile=0.6)

# %% [markdown]
# Each row of {numref}`fig-strange` gets its mean estimate, and the {term}`AUROC`: the probability that an anomaly gets the higher anomaly score. One half is chance. (The empty images are all the same, so theirs says where one image lies among the digits.)

# %%
_ = torch.manual_seed(0)
normal = log_likelihood(deep, x, 50)
scores = {name: log_likelihood(deep, images, 50) for name, images in strange.items()}
print(f"{'digits':12} log p {normal.mean():8.1f} nats, standard deviation {normal.std():.0f}")
for name, score in scores.items():
    print(f"{name:12} log p {score.mean():8.1f} nats, AUROC {auroc(-normal, -score):.2f}")

# %% tags=["nbval-check-output", "mnist"]
areas = {name: auroc(-normal, -score) for name, score in scores.items()}
print("shuffled digits are found:", areas["shuffled"] > 0.99)
print("the empty image scores better than most digits:", areas["empty"] < 0.1)
print("so do the bars:", areas["a bar"] < 0.4)

# %% [markdown]
# Shuffled digits are found without fail. But the empty image is *more* likely than nearly every digit, and a bar than most, so the score is worse than chance. Nothing is broken. An empty image takes few nats, since there is so little to say about it; a real digit, with all its accidents, takes many. For photographs {cite:t}`nalisnick2019` found the same: a model of one data set gave higher likelihoods to another, smoother one.
#
# One objection remains. The encoder was trained on digits, so for other images $L_{50}$ may lie far below $\log p_\theta(x)$ (the amortization gap of chapter 6), and a mirrored digit would look stranger than the model thinks. The cell fits $q$ anew to each of 100 digits and 100 mirrored digits, by gradient steps on the bound, and scores them again.


# %%
def refined(x, steps=80):
    """L_50 after fitting mean and log-scale of q to each x, from the encoder's."""
    q = deep.posterior(x)
    mean, log_std = q.mean.clone().requires_grad_(), q.stddev.log().requires_grad_()
    optimizer = torch.optim.Adam([mean, log_std], lr=0.03)

    def log_weight(num):
        fitted = Normal(mean, log_std.exp())
        z = fitted.rsample((num,))
        log_p = deep.likelihood(z.flatten(0, 1)).log_prob(x.repeat(num, 1, 1, 1))
        prior = Normal(0.0, 1.0).log_prob(z)
        return log_p.view(num, -1) + (prior - fitted.log_prob(z)).sum(2)

    for _ in range(steps):
        optimizer.zero_grad()
        (-log_weight(4).mean(0).sum()).backward()
        optimizer.step()
    with torch.no_grad():
        return log_weight(50).logsumexp(0) - math.log(50)


# %%
_ = torch.manual_seed(0)
digits_again, mirrored_again = refined(x[:100]), refined(strange["mirrored"][:100])
for name, before, after in (
    ("digits", normal[:100], digits_again),
    ("mirrored", scores["mirrored"][:100], mirrored_again),
):
    print(f"{name:9} L_50 {before.mean():7.1f} nats, with q refitted {after.mean():7.1f}")
before = auroc(-normal[:100], -scores["mirrored"][:100])
after = auroc(-digits_again, -mirrored_again)
print(f"AUROC of mirrored digits {before:.2f}, with q refitted {after:.2f}")

# %% tags=["nbval-check-output", "mnist"]
gained = (mirrored_again - scores["mirrored"][:100]).mean()
print("mirrored digits gain more than digits:", bool(gained > (digits_again - normal[:100]).mean()))
print("and are still found with less than 0.9:", after < 0.9)

# %% [markdown]
# So a part of their low score was the encoder's and not the model's. The ranking hardly changes: the model itself finds mirrored digits only a little less likely than digits.
#
# **A typical point is not a likely one.** The plainest example is the Gaussian itself. For $z \sim \mathcal{N}(0, I_d)$ the surprise $- \log p(z)$ has
#
# $$
# \begin{gathered}
# \mathbb{E} \big[ - \log p(z) \big] = \tfrac{d}{2} \log (2 \pi e), \qquad \operatorname{Var} \big[ - \log p(z) \big] = \tfrac{d}{2} , \\
# \mathbb{E} \big[ - \log p(z) \big] - \min_z \big( - \log p(z) \big) = \tfrac{d}{2} ,
# \end{gathered}
# $$ (eq-typical-surprise)
#
# so the mode lies $\sqrt{d / 2}$ standard deviations away from what is typical, on the side of the high likelihoods.

# %% tags=["nbval-check-output"]
_ = torch.manual_seed(0)
d = 50
z = torch.randn(100_000, d).double()
surprise = 0.5 * z.square().sum(1) + 0.5 * d * math.log(2 * math.pi)
mean = 0.5 * d * math.log(2 * math.pi * math.e)
least = 0.5 * d * math.log(2 * math.pi)
samples = torch.stack([surprise, (surprise - mean) ** 2, surprise - least], 1)
right = torch.tensor([mean, d / 2, d / 2]).double()
wrong = {"variance d": torch.tensor([mean, d, d / 2]).double()}
verify("eq-typical-surprise", samples, right, monte_carlo, rejects=wrong)

# %% [markdown]
# **A density depends on the units** {cite:p}`lelan2021`. In one dimension, map a continuous $x$ by its own distribution function $F$. The new variable $y = F(x)$ carries the same information, and all its points are equally likely:
#
# $$
# p_Y(y) = \frac{p_X(x)}{F'(x)} = 1 \qquad \text{at } y = F(x) .
# $$ (eq-flattened)
#
# A score that a change of units can make constant does not measure anomaly. (In more dimensions the map takes, for each coordinate, its distribution function given those before it. Probabilities of black-and-white images, as here, do not have this second trouble; densities of photographs do.)

# %% tags=["nbval-check-output"]
density = Normal(torch.tensor(1.0).double(), 2.0)
point = torch.linspace(-4, 6, 11).double().requires_grad_()
(slope,) = torch.autograd.grad(density.cdf(point).sum(), point)
flat = (density.log_prob(point).exp() / slope).detach()
times = {"times the slope": (density.log_prob(point).exp() * slope).detach()}
verify("eq-flattened", flat, torch.ones(11).double(), autograd, rejects=times)

# %% [markdown]
# The first fact suggests a repair, a test of *typicality* {cite:p}`nalisnick2019b`: call an image an anomaly if its likelihood is *far from the usual one*, on either side. The last line asks whether real ones pay for it: their AUROC against the other digits.

# %%
usual = normal.mean()
for name, score in scores.items():
    area = auroc((normal - usual).abs(), (score - usual).abs())
    print(f"{name:12} AUROC {area:.2f}")
far, ones = (normal - usual).abs(), test.labels[:400] == 1
print(f"{'real ones':12} AUROC {auroc(far[~ones], far[ones]):.2f}")

# %% tags=["nbval-check-output", "mnist"]
both = {k: auroc(far, (score - usual).abs()) for k, score in scores.items()}
print("the empty image is found now:", both["empty"] > 0.9)
print("bars better than before:", both["a bar"] > areas["a bar"] + 0.2)
print("and real ones are flagged:", auroc(far[~ones], far[ones]) > 0.8)
print("mirrored digits still are not found:", both["mirrored"] < 0.9)

# %% [markdown]
# That catches the empty image and more of the bars, and it flags the real 1 as well, which is as easy to encode. Mirrored digits mostly pass as before, since the likelihoods of digits differ by tens of nats among each other. One number for each image cannot know what we would call an anomaly. Take a likelihood for what it is, a code length, and decide with examples of what you want to find.
#
# **What you can say now.** A likelihood is a code length: simple images get high values, whether or not they belong to the data.

# %% [markdown]
# (sec-latent-exercises)=
# ## Exercises
#
# Replace the three dots by your answer and run the cell.

# %% tags=["nbval-check-output"]
from companion.page.exercises import latent_space as exercises

# %% [markdown]
# ```{exercise-start} How short the way gets
# :label: ex-chord-minimum
# ```
# Two independent draws of $\mathcal{N}(0, I_d)$ are joined by a straight line. At the share $t$ of the way, by what factor is the root mean square length smaller than at the ends? Write it as a function of `t`.


# %% tags=["nbval-check-output"]
def shrinking(t):
    return ...


exercises.check_shrinking(shrinking)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-chord-minimum
# :label: ex-chord-minimum-solution
# :class: dropdown
# ```
# The root of {eq}`eq-chord-length` over $d$. At the middle it is $\sqrt{1/2}$, in every dimension.


# %% tags=["nbval-check-output"]
def shrinking(t):
    return ((1 - t) ** 2 + t**2) ** 0.5


exercises.check_shrinking(shrinking)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} An arc through the prior
# :label: ex-arc
# ```
# Write a walk from `z_0` to `z_1`, two draws of the prior, such that its point at every share `t` from 0 to 1 is again a draw of the prior. It must end in `z_1` exactly.


# %% tags=["nbval-check-output"]
def arc(z_0, z_1, t):
    return ...


exercises.check_arc(arc)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-arc
# :label: ex-arc-solution
# :class: dropdown
# ```
# The squares of the two factors must add up to one {eq}`eq-arc-law`.


# %% tags=["nbval-check-output"]
def arc(z_0, z_1, t):
    return math.cos(t * math.pi / 2) * z_0 + math.sin(t * math.pi / 2) * z_1


exercises.check_arc(arc)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Nats from a correlation
# :label: ex-information
# ```
# A latent and a cause are jointly Gaussian with correlation 0.95. How much information, in nats, does the latent have about the cause? And which correlation is worth exactly one nat? Give a pair.

# %% tags=["nbval-check-output"]
answer = ...
exercises.check_information(answer)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-information
# :label: ex-information-solution
# :class: dropdown
# ```
# From {eq}`eq-normal-information`, and solved for $\rho$: $\rho = \sqrt{1 - e^{-2 I}}$.

# %% tags=["nbval-check-output"]
answer = -0.5 * math.log(1 - 0.95**2), math.sqrt(1 - math.exp(-2))
exercises.check_information(answer)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} The gap by hand
# :label: ex-gap
# ```
# Write the mutual information gap of each cause, a tensor with one number for each, given a table of mutual information with a row for each latent, and the entropy of the causes.


# %% tags=["nbval-check-output"]
def gap(information, entropy):
    return ...


exercises.check_gap(gap)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-gap
# :label: ex-gap-solution
# :class: dropdown
# ```
# Sort each column; the rows are latents.


# %% tags=["nbval-check-output"]
def gap(information, entropy):
    ordered = information.sort(0, descending=True).values
    return (ordered[0] - ordered[1]) / entropy


exercises.check_gap(gap)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} What a rotation costs
# :label: ex-turn
# ```
# A posterior with two latents has the variances `a` and `b`, without correlation. Rotate it by the angle `angle`, and fit the best diagonal Gaussian. How many nats are lost?


# %% tags=["nbval-check-output"]
def turn_price(a, b, angle):
    return ...


exercises.check_turn_price(turn_price)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-turn
# :label: ex-turn-solution
# :class: dropdown
# ```
# The diagonal of the rotated precision matrix is $c^2 / a + s^2 / b$ and $s^2 / a + c^2 / b$, with $c$ and $s$ the cosine and the sine; its determinant stays $1 / (a b)$. For $a = b$ the price is zero at every angle.


# %% tags=["nbval-check-output"]
def turn_price(a, b, angle):
    c, s = math.cos(angle) ** 2, math.sin(angle) ** 2
    return 0.5 * math.log((c / a + s / b) * (s / a + c / b) * a * b)


exercises.check_turn_price(turn_price)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} How far out is the middle
# :label: ex-middle
# ```
# The origin of a $d$-dimensional Gaussian prior is its most likely point. How many standard deviations of the surprise is it away from the mean surprise? Write it as a function of `d`.


# %% tags=["nbval-check-output"]
def deviations(d):
    return ...


exercises.check_deviations(deviations)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-middle
# :label: ex-middle-solution
# :class: dropdown
# ```
# The difference of {eq}`eq-typical-surprise` over the root of the variance.


# %% tags=["nbval-check-output"]
def deviations(d):
    return (d / 2) ** 0.5


exercises.check_deviations(deviations)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# (sec-latent-summary)=
# ## Summary
#
# - A decoder makes a map of its latent space ({numref}`fig-plane-map`). The distribution of encoded data comes close to the prior and does not reach it {eq}`eq-aggregate-covariance`.
# - Straight lines leave the shell where draws of the prior live {eq}`eq-chord-length`; arcs on the sphere stay {eq}`eq-slerp`. Within a class neither hurts; between classes both do, the sphere a little less.
# - A low temperature is a scaled prior {eq}`eq-temperature`. For our VAE it costs variety and gains nothing that a judge of strokes or a code length can see.
# - What a latent means can be measured where the causes are known: correlation, mutual information and its gap {eq}`def-mig`. In one training of each kind, a weight that falls slowly gave light, size and hue a latent of their own and azimuth nearly so. It cost 82 nats of the bound, and it also lowered the rate.
# - The prior cannot fix axes {eq}`eq-rotated-model`; the diagonal posterior does, where the variances of the latents differ {eq}`eq-rotation-price`.
# - A difference of means is a direction for an attribute {eq}`eq-attribute`.
# - A likelihood is a code length. High does not mean normal.
#
# **What the sources say, and where they need care.** The lectures show a bilinear square of digits, the editing of images by single latents, and latents for pose and light; all of that is here, measured. One of them says that the diagonal prior makes the dimensions independent and disentangles; draws of the prior are independent, but the prior is the same in all directions, and what fixes the axes is the diagonal posterior. Another lists finding anomalies among the uses of an autoencoder; with the likelihood as the score, an empty image passes for a digit.
#
# **To read next.** {cite:t}`higgins2017` and {cite:t}`burgess2018` on the weight of the KL divergence; {cite:t}`chen2018` on the gap; {cite:t}`locatello2019` on why unsupervised disentangling needs luck or assumptions; {cite:t}`rolinek2019` on what fixes the axes; {cite:t}`vahdat2020` and {cite:t}`child2021` on temperature in deep hierarchies; {cite:t}`nalisnick2019` and {cite:t}`lelan2021` on likelihoods of anomalies.
