# %% [markdown]
# # Latent space
#
# A trained decoder turns every point of its latent space into an image, so the space can be drawn as a map. Do positions and directions on this map have a meaning? Is there a direction that makes a digit lean, or a house turn?

# %% tags=["setup", "hide-input"]
# The set-up cell: `make sync` writes it.

# %% tags=["unseen"]
import torch
from torch.distributions import Normal

from companion import data
from companion.page import plots
from companion.zoo import pretrained

# %% tags=["serves"]
_ = torch.manual_seed(0)
test = data.load("mnist", "test")
plane, digits_vae = pretrained("vae2d-mnist"), pretrained("conv-vae-mnist")
deep = pretrained("vae-mnist")

# %% tags=["figure", "mnist"] mystnb={"image": {"alt": "A square of seventeen by seventeen decoded digits. Regions of ones, sevens, nines, sixes, zeros, threes and others lie side by side and pass into each other through in-between shapes."}, "figure": {"caption": "The latent plane of a VAE with two latents, decoded. Neighbors are alike, and each image stands for the same share of the prior.", "name": "fig-plane-map"}}
side = 17
levels = Normal(0.0, 1.0).icdf((torch.arange(side) + 0.5) / side)
across, up = torch.meshgrid(levels, levels.flip(0), indexing="xy")
grid = torch.stack([across.flatten(), up.flatten()], 1)
map_images = plane.likelihood(grid).mean
plots.image_grid(map_images, columns=side, tile=0.4)

# %% [markdown]
# {numref}`fig-plane-map` is such a map. In this chapter we interpolate between images, edit them, and measure what the latents mean, on three VAEs of digits with 2, 16 and 50 latents and two of rendered houses; their {doc}`cards </book/models>` say how each was trained. We also test four popular beliefs. Two hold for some networks and fail for others: that draws closer to the origin show more digits, and that images halfway along an arc are better than halfway along a line. Two fail: that the prior gives the axes of a latent space a meaning, and that an image with a high likelihood must be a normal one.

# %% [markdown]
# (sec-latent-plane)=
# ## A map of the plane
#
# Each image of {numref}`fig-plane-map` is decoded from one point of the plane. To see how often a shape is sampled, we place the points at quantiles of the Gaussian instead of even distances. Then each of the 17 times 17 images stands for a region of equal probability under the prior, and a shape that takes more space on the map is sampled more often.
#
# On this map most points decode to something like a digit. Now we go the other way: where does the encoder put real digits? In {numref}`fig-plane-digits` each dot is the mean of $q_\phi(z \mid x)$ for one test digit, in the coordinates of the map.

# %% tags=["unseen"]
import math

from torch.distributions import MultivariateNormal, kl_divergence

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
from companion.page.live import watch
from companion.page.show import show
from companion.page.sliders import Editor, Slider
from companion.page.verify import autograd, exact, monte_carlo, quadrature, verify
from companion.zoo.yardstick import unrecognized
from companion.zoo.yourself import cost, train_it, use

# %% tags=["serves"]
x = binarize(test.images)
q = plane.posterior(x)
of_map = Normal(0.0, 1.0).cdf(q.mean[:2000]) * side - 0.5  # in tiles, from the lower left

# %% tags=["figure", "mnist"] mystnb={"image": {"alt": "The map, faded, with two thousand dots in ten colors over it, and the number of each class at the mean of its dots. Each class covers the region of its own decoded digits. Zeros and ones form clouds of their own; fours and nines, and threes, fives and eights overlap. Between some clouds there are gaps, over in-between shapes."}, "figure": {"caption": "Two thousand test digits on the map; each class has its number at the mean of its dots. No label was used in training. The gaps lie over the shapes between two digits.", "name": "fig-plane-digits"}}
fig, (axes,) = plots.figure(height=5.6, width=6.4)
tiles = map_images[:, 0].view(side, side, 28, 28).transpose(1, 2).reshape(28 * side, 28 * side)
edge = (-0.5, side - 0.5, -0.5, side - 0.5)
labels = test.labels[:2000]
words = {"x_label": "first latent", "y_label": "second latent", "legend": "digit"}
_ = plots.scatter(of_map, labels, **words, bounds=edge, axes=axes)
_ = axes.imshow(1 - 0.35 * tiles, extent=edge, cmap="gray", vmin=0, vmax=1, zorder=0)
_ = axes.set(xticks=[], yticks=[])
box = {"boxstyle": "circle,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}
for k in range(10):
    at = of_map[labels == k].mean(0).tolist()
    _ = axes.text(*at, str(k), ha="center", va="center", fontsize=13, weight="bold", bbox=box)
fig

# %% [markdown]
# Apart from the small variance of each $q_\phi(z \mid x)$, the dots show the {term}`aggregate posterior` $q(z) = \mathbb{E}_{x}\, q_\phi(z \mid x)$. For samples to look like data, $q(z)$ should be close to the prior {eq}`eq-surgery`. How close is it? Its covariance follows from the law of total variance:
#
# $$
# \operatorname{Cov}_{q(z)}[z] = \mathbb{E}_{x} \operatorname{diag} \sigma_\phi^2(x) + \operatorname{Cov}_{x} \big[ \mu_\phi(x) \big] .
# $$ (eq-aggregate-covariance)
#
# Note that diagonal posteriors do not imply a diagonal covariance of $q(z)$.
#
# **Check.** Draws from $q(z)$ for the network with 16 latents, first a random digit and then a $z$, give the variances and the covariance of two latents: the one with the largest posterior variance and the one most correlated with it, so that both terms matter. The sum without the posterior variances is rejected, and a diagonal covariance.

# %% tags=["serves"]
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

# %% tags=["check", "nbval-check-output", "mnist"]
alone = torch.stack([of_means[j, j], of_means[k, k], of_means[j, k]])
whole = alone + torch.stack([*variance.mean(0)[[j, k]], torch.tensor(0.0)])
wrong = {"means alone": alone, "diagonal": whole * torch.tensor([1.0, 1.0, 0.0])}
verify("eq-aggregate-covariance", products, whole, monte_carlo, rejects=wrong)

# %% [markdown]
# If $q(z)$ were the prior, the two terms would add up to one in each latent. We compute the smallest and the largest sum, and the share of the second term, the variance of the means. Equal variances do not make equal distributions, so we also apply the two-sample test of {ref}`chapter 1 <sec-no-sampling>` to 2000 draws of $q(z)$ and 2000 draws of the prior. (It uses 200 permutations, so its smallest possible $p$ is 1 in 201.)

# %% tags=["numbers"]
total = variance.mean(0) + mean.var(0)
share = mean.var(0) / total
print(f"variance of a latent: {total.min():.2f} to {total.max():.2f}")
print(f"share of the means: {share.min():.2f} to {share.max():.2f}")
_ = torch.manual_seed(0)
z = q.sample()[torch.randperm(len(x))[:2000]]
found = energy_test(z, torch.randn(2000, 16))
print(f"energy distance {found.statistic:.4f}, p = {found.p_value:.3f}")

# %% tags=["held", "nbval-check-output", "mnist"]
print("variances within 15 percent of one:", bool((total - 1).abs().max() < 0.15))
print("still, the distributions differ (p < 0.01):", found.p_value < 0.01)

# %% [markdown]
# The variances fit well, but the distributions differ. The plane shows one way in which they can: {numref}`fig-plane-digits` has gaps between the classes, where the map shows shapes between two digits. The prior does not avoid the gaps.
#
# **What you can say now.** The aggregate posterior of this VAE has nearly the variances of the prior but is not equal to it; on the plane it has gaps between the classes, from which the prior still samples.

# %% [markdown]
# (sec-train-plane)=
# ## Train it yourself
#
# The network of {numref}`fig-plane-map` comes with the book. Here a new one is trained by the same recipe, on your GPU if there is one. At small scale it takes only the first steps, at most 20 seconds on two cores, with the recipe's learning rates compressed into them. At full scale it takes all of them: ask for it with `train_it("vae2d-mnist", "full")`.

# %%
print(cost("vae2d-mnist"))

# %%
mine = watch(train_it("vae2d-mnist"))

# %% tags=["held", "nbval-check-output"]
first, last = torch.tensor(mine.losses).unfold(0, 20, 20)[[0, -1]].mean(1)
print("the loss fell by more than a tenth:", bool(last < 0.9 * first))

# %% [markdown]
# While it runs, a figure shows the loss of each step and eight samples of the model. The rest of the chapter can use either the shipped weights or, with `MINE = True`, yours. With weights from a short training, expect worse images, and failures of checks that make claims about the fully trained model.

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
# What lies between two images? Chapter 1 {ref}`interpolated from a 3 to an 8 <sec-interpolation>` in a straight line between their codes. With four images we can interpolate over a square. For corner codes $z_{00}, z_{01}, z_{10}, z_{11}$ and fractions $a, b \in [0, 1]$ of the way across and down, *bilinear interpolation* takes
#
# $$
# z(a, b) = (1 - b) \big( (1 - a)\, z_{00} + a\, z_{01} \big) + b \big( (1 - a)\, z_{10} + a\, z_{11} \big) .
# $$ (def-bilinear)
#
# The two sliders set $a$ and $b$, and the image is decoded from $z(a, b)$. The corners are a 2, a 7, a 6 and a 0 of the test set, encoded by the network with 16 latents.

# %% tags=["figure", "mnist"]
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
# {numref}`fig-bilinear` shows the whole square, and beside it the same interpolation of the pixels.

# %% tags=["figure", "mnist"] mystnb={"image": {"alt": "Two squares of seven by seven images with the corners 2, 7, 6 and 0. On the left every image is one stroke figure that changes its shape step by step. On the right the inner images are gray figures on top of each other."}, "figure": {"caption": "Bilinear interpolation between four digits: of the codes (left) and of the pixels (right).", "name": "fig-bilinear"}}
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
# Here interpolated codes give a single figure at each point; interpolated pixels give several figures on top of each other. But is a straight line the right path? In many dimensions, the point halfway between two draws of the prior is closer to the origin than almost all draws. For independent $z_0, z_1 \sim \mathcal{N}(0, I_d)$,
#
# $$
# \mathbb{E}\, \big\lVert (1 - t)\, z_0 + t\, z_1 \big\rVert^2 = d\, \big( 1 - 2 t + 2 t^2 \big) ,
# $$ (eq-chord-length)
#
# which in the middle is half of its value at the ends. In many dimensions the lengths of draws hardly vary {eq}`eq-mode`, so few draws are as short as the middle of such a line.
#
# **Check.** Draws in 16 dimensions are compared with the formula at three values of $t$; a constant length is rejected. The share of draws that are as short as the middle is estimated in 16 and in 50 dimensions.

# %% tags=["check", "nbval-check-output"]
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
# Interpolation on a sphere keeps the length. With the angle $\omega$ between $z_0$ and $z_1$, *spherical interpolation* {cite:p}`shoemake1985,white2016` takes
#
# $$
# \operatorname{slerp}(z_0, z_1; t) = \frac{\sin\big( (1 - t)\, \omega \big)}{\sin \omega}\, z_0 + \frac{\sin (t\, \omega)}{\sin \omega}\, z_1 .
# $$ (def-slerp)
#
# For two points of equal length, $0 < \omega < \pi$ and $0 \le t \le 1$, it moves on the sphere at a constant speed. With $\angle$ for the angle between two vectors,
#
# $$
# \begin{aligned}
# \lVert z_0 \rVert = \lVert z_1 \rVert \;\Longrightarrow\;{} & \lVert \operatorname{slerp}(z_0, z_1; t) \rVert = \lVert z_0 \rVert \\
# & \text{and } \angle \big( z_0, \operatorname{slerp}(z_0, z_1; t) \big) = t\, \omega .
# \end{aligned}
# $$ (eq-slerp)

# %% tags=["shown", "nbval-check-output"]
show(spherical_interpolation, docstring=False)


# %% tags=["serves"]
def length_and_angle(path, start):
    cosine = torch.cosine_similarity(path, start, dim=-1)
    return torch.stack([path.norm(dim=-1), cosine.clamp(-1, 1).acos()])


z_0, z_1 = z_0[:50], z_1[:50]
z_1 = z_1 * z_0.norm(dim=1, keepdim=True) / z_1.norm(dim=1, keepdim=True)
on_sphere = spherical_interpolation(z_0, z_1, t)
straight = torch.stack([(1 - s) * z_0 + s * z_1 for s in t])

# %% tags=["check", "nbval-check-output"]
omega = torch.cosine_similarity(z_0, z_1, dim=1).acos()
promised = torch.stack([z_0.norm(dim=1).expand(3, 50), t[:, None] * omega])
line = {"straight line": length_and_angle(straight, z_0)}
verify("eq-slerp", length_and_angle(on_sphere, z_0), promised, exact, rejects=line)

# %% [markdown]
# In many dimensions two independent draws are nearly orthogonal. For a right angle the formula becomes $\cos \alpha\; z_0 + \sin \alpha\; z_1$ with $\alpha = t \pi / 2$. If we use this simpler formula for *any* two independent draws, each point of the arc is again a draw of the prior:
#
# $$
# z_0, z_1 \sim \mathcal{N}(0, I) \text{ independent} \;\Longrightarrow\; \cos \alpha\; z_0 + \sin \alpha\; z_1 \sim \mathcal{N}(0, I) .
# $$ (eq-arc-gaussian)
#
# The reason is that a sum of independent Gaussians is Gaussian, and the variances add up to $\cos^2 \alpha + \sin^2 \alpha = 1$. (Slerp differs a little from this arc, since its weights depend on the angle between the ends.)
#
# **Check.** The map from $(z_0, z_1)$ is written as a matrix $A$, and the covariance $A A^\top$ is compared with the identity. The straight line is rejected.

# %% tags=["check", "nbval-check-output"]
eye = torch.eye(4).double()
angles = torch.tensor([0.3, 0.8, 1.2]).double()
A = torch.stack([torch.cat([a.cos() * eye, a.sin() * eye], 1) for a in angles])
chords = torch.stack([torch.cat([(1 - s) * eye, s * eye], 1) for s in t])
line = {"straight line": chords @ chords.mT}
verify("eq-arc-gaussian", A @ A.mT, eye.expand(3, 4, 4), exact, rejects=line)

# %% [markdown]
# Does spherical interpolation make better images? We decode the midpoints of 5000 random pairs of encoded test digits, and measure two things. The first is the share of images *not recognized as a digit* by two classifiers that were trained on digits and on broken ones ({ref}`chapter 10 <sec-ddpm-samples>`). The few real digits that they do not recognize either are subtracted, so a share can be slightly negative. The second is the bound of the network with 50 latents on a black-and-white sample. The bound favors plain images and is no measure of quality by itself, as {ref}`the last section <sec-anomalies>` shows. We separate pairs of one class from pairs of two classes.

# %% tags=["serves"]
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
groups = {"same class": same.nonzero()[:, 0][:500], "two classes": (~same).nonzero()[:, 0][:2000]}
share = {
    (text, name): unrecognized(digits_vae.likelihood(z[chosen]).mean)
    for text, chosen in groups.items()
    for name, z in middles.items()
}

# %% tags=["numbers"]
for text, chosen in {"same class": same, "two classes": ~same}.items():
    ends = (bounds["one end"] + bounds["other end"])[chosen] / 2
    print(f"{text}: bound at the ends {ends.mean():.1f} nats", end="")
    for name in ("line", "arc"):
        loss = ends - bounds[name][chosen]
        print(f", {name} {-loss.mean():+.1f} +- {loss.std() / len(loss) ** 0.5:.1f}", end="")
    each = (f"{name} {share[text, name].value:.1%}" for name in middles)
    error = max(share[text, name].standard_error for name in middles)
    print(f"\n{'':12}not recognized: {', '.join(each)}; +- {error:.1%}")

# %% tags=["numbers", "nbval-check-output", "mnist"]
for name in ("line", "arc"):
    worse = all(
        share["two classes", end].below(share["two classes", name]) for end in list(middles)[:2]
    )
    print(f"{name}: between classes less often recognized than the ends: {worse}")
line, arc = (share["two classes", name] for name in ("line", "arc"))
print("line and arc differ in that, by two errors:", line.below(arc) or arc.below(line))
gain = (bounds["arc"] - bounds["line"])[~same]
error = gain.std() / len(gain) ** 0.5
print("and has a higher bound, by 4 standard errors:", bool(gain.mean() > 4 * error))

# %% [markdown]
# With this network a fifth of the midpoints between two classes shows no digit, on the line as on the arc; within a class the midpoints are as good as the ends. By {eq}`def-slerp` the midpoint of the arc is that of the line times $1 / \cos (\omega / 2)$, so the two differ in their length only.
#
# Which length is better depends on the network ({ref}`experiment <exp-midpoints>`). Over three seeds 20.1 ± 0.2 % of the midpoints on the line and 21.6 ± 0.7 % of those on the arc are not recognized with this one. The difference, line less arc, is −6.9 ± 1.6 points with the network of 50 latents, and 9.7 ± 0.8 with the same network after eight epochs of training: there the arc is ahead, by both judges. The bound under another VAE is higher on the arc by 1.8 ± 0.2 nats with the first, and that on the line by 0.7 ± 0.2 and 3.0 ± 1.0 nats with the two others. Between draws of the prior, where the midpoint of the arc is again such a draw {eq}`eq-arc-gaussian`, this network has 19.3 ± 0.7 % on the line and 23.0 ± 0.8 % on the arc without a digit. {numref}`fig-two-ways` shows an extreme case: of the first hundred pairs, the one whose line comes closest to the origin.

# %% tags=["figure", "mnist"] mystnb={"image": {"alt": "Two rows of eleven images with the same first and the same last digit. In the middle the two rows pass through different figures."}, "figure": {"caption": "From one encoded digit to another: in a straight line, and on the sphere. The most extreme of a hundred pairs.", "name": "fig-two-ways"}}
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
# Here the two paths lead through different figures. The arc keeps the length; whether its images are better has to be tried with the network at hand.
#
# **What you can say now.** The middle of a straight line between two codes has a length that draws of the prior rarely have; a spherical path does not. That decides nothing about the images: of three networks one had more digits halfway along the line, one along the arc, and in the third the two hardly differed.
#
# *Sources: A29.*

# %% [markdown]
# (sec-temperature)=
# ## Temperature
#
# Samplers of many models have a parameter called {term}`temperature`. A low temperature $\tau < 1$ concentrates the prior around its mode by raising it to the power $1 / \tau^2$ and normalizing. For the Gaussian prior this only scales the draws:
#
# $$
# \frac{p(z)^{1 / \tau^2}}{\int p(z')^{1 / \tau^2}\, \mathrm{d} z'} = \mathcal{N}\big( z;\, 0, \tau^2 I \big) .
# $$ (eq-temperature)
#
# (Some texts call the exponent $1 / T$; then $T = \tau^2$.)
#
# **Check.** The tempered density is integrated numerically for two temperatures. A variance of $\tau$ is rejected.

# %% tags=["check", "nbval-check-output"]
z = torch.linspace(-30, 30, 60_001, dtype=torch.double)
tau = torch.tensor([[0.5], [1.7]]).double()
power = (Normal(0.0, 1.0).log_prob(z) / tau**2).exp()
density = power / torch.trapezoid(power, z)[:, None]
cooled = Normal(0.0, tau).log_prob(z).exp()
wrong = {"variance tau": Normal(0.0, tau.sqrt()).log_prob(z).exp()}
verify("eq-temperature", density, cooled, quadrature, rejects=wrong)

# %% [markdown]
# In deep hierarchical VAEs samples are often shown at temperatures below one {cite:p}`vahdat2020,child2021`. Does a low temperature trade variety for quality in a VAE of digits? The slider scales the same ten draws.

# %% tags=["figure", "mnist"]
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
# At temperature zero all images are equal to the decoded origin. To measure the effect, {numref}`fig-temperature` shows two quantities: the *variety*, which is the variance of the pixels over 2000 samples, and the *uncertainty* of chapter 6, $\sum_j p_j (1 - p_j)$, which is small for sharp black and white strokes.

# %% tags=["figure", "mnist"] mystnb={"image": {"alt": "Two curves over the temperature from 0 to 1.5. Variety rises from zero and flattens out near 45. Uncertainty falls slowly from about 25 to 20."}, "figure": {"caption": "A VAE of digits at different temperatures. At a lower temperature the variety is smaller, and the strokes are not sharper.", "name": "fig-temperature"}}
_ = torch.manual_seed(0)
z = digits_vae.prior(2000).sample()
taus = torch.linspace(0, 1.5, 16)
images = [digits_vae.likelihood(tau * z).mean.flatten(1) for tau in taus]
variety = torch.stack([p.var(0).sum() for p in images])
uncertainty = torch.stack([(p * (1 - p)).sum(1).mean() for p in images])
plots.curves(
    {"variety": (taus, variety), "uncertainty": (taus, uncertainty)},
    x_label="temperature",
    y_label="summed over pixels",
)

# %% [markdown]
# The variety falls to zero with the temperature, as it must, but the uncertainty does not fall: the strokes get no sharper. Do the images get better in another way? We apply the two measures of the last section to the 2000 samples.

# %% tags=["numbers"]
bound_at, share_at = {}, {}
for tau in (0.0, 0.6, 1.0, 1.4):
    bound = elbo_terms(deep, digits_vae.likelihood(tau * z).sample()).elbo
    share_at[tau] = unrecognized(digits_vae.likelihood(tau * z).mean)
    bound_at[tau] = bound.mean().item()
    print(f"temperature {tau}: not recognized {share_at[tau].value:4.0%}", end=" ")
    print(f"+- {share_at[tau].standard_error:.0%}", end=", ")
    print(f"bound {bound_at[tau]:.1f} +- {bound.std() / 2000**0.5:.1f} nats")

# %% tags=["held", "nbval-check-output", "mnist"]
print("variety grows with temperature:", bool((variety.diff() > 0)[:10].all()))
print("uncertainty at one is below that at zero:", bool(uncertainty[10] < uncertainty[0]))
print("the origin is recognized:", share_at[0.0].value <= 0)
rising = [share_at[a].below(share_at[b]) for a, b in ((0.0, 0.6), (0.6, 1.0), (1.0, 1.4))]
print("fewer are recognized at each higher temperature:", all(rising))
print("their bound gains less than four nats:", bound_at[0.6] - bound_at[1.0] < 4)

# %% [markdown]
# So of this network the saying is true: the lower the temperature, the fewer images show no digit, and the fewer different images there are. The origin decodes to a clean digit.
#
# It is not true of every VAE ({ref}`experiment <exp-temperature>`). At temperatures of 1, 0.8 and 0.6, 26.4 ± 1.0, 21.6 ± 0.5 and 18.3 ± 0.4 % of the draws of this network are not recognized, and 27.6 ± 1.4, 20.8 ± 0.7 and 18.4 ± 0.1 % of those of the network with 50 latents. The number of classes, as the exponential of their entropy, falls from 9.7 ± 0.1 to 6.3 ± 0.1 and from 9.8 ± 0.0 to 6.1 ± 0.1. But if the pixels are drawn, a temperature of 0.6 changes the share by −3.8 ± 1.2 and −0.3 ± 0.7 points only. And after eight epochs of training, with three seeds, it is the other way round: 47.4 ± 0.7 % at 1 and 63.4 ± 0.5 % at 0.6 are not recognized, and of the origins 98.3 ± 0.0 %. In these VAEs a low temperature showed more digits where the origin decodes to one.
#
# **What you can say now.** Temperature scales the draws of the prior. A low one takes away variety. In return, the means of two fully trained VAEs showed more digits; those of briefly trained ones showed fewer.

# %% [markdown]
# (sec-known-causes)=
# ## Images whose causes are known
#
# What does a latent *mean*? For digits we have no ground truth to compare with. So the companion renders color images of a house on a plain, 32 by 32 pixels, from five known factors, which we call *causes*: the *azimuth* by which the house is turned, the *elevation* of the camera, the direction of the *light*, the *size* and the *hue* of the house. They are independent and uniform. Azimuth and light correspond to the pose and the light of the lecture's example of a face.

# %% tags=["figure"] mystnb={"image": {"alt": "Five rows of nine small images of a house with a shadow. From left to right it turns, is seen from higher up, its shadow moves, it grows, its color goes from red over green to blue."}, "figure": {"caption": "Five causes, one row each; in a row one of them goes through its range, and the others stay in the middle.", "name": "fig-causes"}}
low, high = torch.tensor(list(SCENE_FACTORS.values())).T
rows = {}
for k, name in enumerate(SCENE_FACTORS):
    factors = ((low + high) / 2).repeat(9, 1)
    factors[:, k] = torch.linspace(float(low[k]), float(high[k]), 9)
    rows[name] = render_scenes(factors)
plots.image_rows(rows, tile=0.6)

# %% [markdown]
# Two VAEs were trained on 20,000 such images, with eight latents each and a Gaussian likelihood with $\sigma_{\text{dec}} = 0.1$. They have the same architecture, data, number of steps and seed, and in the last steps the same loss, minus the bound. They differ in the weight $\beta$ of the KL divergence, as in a {term}`beta-VAE` {cite:p}`higgins2017`. For the *plain* one $\beta = 1$ throughout. For the *relaxed* one $\beta$ starts at 100 and falls to 1 during the first 70 percent of the steps. {cite:t}`burgess2018` use a similar schedule: they let the allowed KL divergence grow during training.

# %% tags=["numbers"]
house = scenes(5_000, seed=2)
models = {"plain": pretrained("vae-scenes"), "relaxed": pretrained("beta-vae-scenes")}
bound_of = {name: elbo_terms(model, house.images) for name, model in models.items()}
for name, model in models.items():
    mean = model.likelihood(model.posterior(house.images).mean).mean
    error = (mean - house.images).square().flatten(1).sum(1).mean()
    rate, bound = bound_of[name].kl.sum(1).mean(), bound_of[name].elbo.mean()
    print(f"{name:8} rate {rate:.1f}, squared error {error:.2f}, bound {bound:.0f}")
lost = bound_of["plain"].elbo - bound_of["relaxed"].elbo
error = lost.std() / 5000**0.5
print(f"the relaxed one has {lost.mean():.1f} +- {error:.1f} nats less,", end=" ")
print(f"{lost.mean() / house.images[0].numel():.3f} per pixel value")

# %% [markdown]
# Of these two the plain network has the better bound, the smaller error and the higher rate. (The difference of the bounds is given in nats and not in percent, because the bound is a log-density, whose zero depends on the unit of the pixels {eq}`eq-flattened`.)
#
# {numref}`fig-houses` shows new images, their reconstructions, and samples decoded from the prior. (For photographs of 32 by 32 pixels the companion has a recipe, `python -m companion train vae-cifar10`, which needs a GPU. No such weights are shipped with this edition, so this chapter claims nothing about photographs or faces.)

# %% tags=["figure"] mystnb={"image": {"alt": "Three rows of ten small houses. The reconstructions have the right place, turn and color, but softer edges, and the second face of the roof is often lost. The sampled houses are mostly plausible, with shadow and shading."}, "figure": {"caption": "Rendered, reconstructed and sampled houses; the relaxed VAE.", "name": "fig-houses"}}
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
# For the relaxed network the variances of $q(z)$ {eq}`eq-aggregate-covariance` are not all near one, so draws of the prior are not distributed as codes of houses:

# %% tags=["nbval-check-output"]
q = vae.posterior(house.images)
total = q.mean.var(0) + q.variance.mean(0)
print(f"variance of a latent under q(z): {total.min():.2f} to {total.max():.2f}")

# %% [markdown]
# **What you can say now.** For rendered images the causes are known, so the meaning of a latent can be measured.
#
# *Sources: B16.*

# %% [markdown]
# (sec-disentanglement)=
# ## Measuring what a latent means
#
# The schedule of the relaxed network is meant to improve the *{term}`disentanglement`* of its latents: each should encode one cause. We measure this in two ways, by correlation and by mutual information. For the correlation, draw $z$ from $q_\phi(z \mid x)$ for 5000 new houses, and correlate each latent with each cause. If one latent encodes azimuth and nothing else, and no other latent encodes azimuth, then in {numref}`fig-correlations` the row of this latent and the column of azimuth have a single strong field, where they meet.


# %%
def correlations(z, v):
    z, v = ((a - a.mean(0)) / a.std(0) for a in (z, v))
    return z.T @ v / (len(z) - 1)


_ = torch.manual_seed(0)
draws = {name: model.posterior(house.images).sample() for name, model in models.items()}
tables = {name: correlations(z, house.factors) for name, z in draws.items()}


# %% tags=["serves"]
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


# %% tags=["figure"] mystnb={"image": {"alt": "Two matrices with eight rows, the latents, and five columns, the causes. On the left each cause has one strong field and several medium ones. On the right each of azimuth, light, size and hue has one almost full field, and the rest of its column is pale."}, "figure": {"caption": "Correlation of latents and causes: the plain VAE (left), the relaxed one (right).", "name": "fig-correlations"}}
both_maps(tables, "correlation")

# %% [markdown]
# The strongest field of each column, that is, the latent with the largest absolute correlation, is:

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
# Correlation measures linear relations only. The {term}`mutual information` measures every kind of dependence. It is the KL divergence of the joint distribution from the product of its marginals,
#
# $$
# \mathrm{I}(z; v) = D_{\mathrm{KL}} \big( p(z, v) \,\Vert\, p(z)\, p(v) \big) .
# $$ (def-mutual-information)
#
# It is zero for independent variables only. For two jointly Gaussian variables with correlation $\rho$ it is
#
# $$
# \mathrm{I}(z; v) = - \tfrac12 \log \big( 1 - \rho^2 \big) .
# $$ (eq-normal-information)

# %% tags=["check", "nbval-check-output"]
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
# The companion estimates it by sorting both variables into twenty equally filled bins, so the largest possible value is $\log 20 \approx 3$ nats. For independent variables and 5000 houses the estimate has the expectation $19^2 / (2 \cdot 5000) = 0.036$ nats, up to higher orders. We use draws of $z$ and not posterior means. Bins depend on ranks only, so the tiny changes in the mean of an inactive latent would count as much as the large ones of an active latent.

# %% tags=["figure"] mystnb={"image": {"alt": "Two matrices of eight latents and five causes. On the left, the plain VAE, nearly every column has several medium fields. On the right, the relaxed VAE, light, size and hue have one bright field each; azimuth has a bright one in the row of its latent and a second in row zero; elevation has three dim ones."}, "figure": {"caption": "Mutual information of latents and causes, as a share of the entropy of a cause: plain (left), relaxed (right).", "name": "fig-information"}}
mutual = {name: mutual_information(z, house.factors) for name, z in draws.items()}
both_maps({name: table / math.log(20) for name, table in mutual.items()}, "share of log 20")

# %% [markdown]
# {numref}`fig-information` shows a dependence that the correlation missed. In the relaxed network a second latent has information about azimuth: it is correlated with the square of the angle, that is, with how *far* the house is turned, and much less with the direction.

# %%
ranked = mutual["relaxed"][:, 0].argsort(descending=True)
second = int(ranked[1])
angle, latent = house.factors[:, 0], draws["relaxed"][:, second]
for name, cause in {"azimuth": angle, "its square": angle**2}.items():
    rho = torch.corrcoef(torch.stack([latent, cause]))[0, 1]
    print(f"z{second} and {name}: correlation {rho:+.2f}")

# %% [markdown]
# The {term}`mutual information gap` {cite:p}`chen2018` summarizes a column of this table in one number. For each cause $v_k$ it is the difference between the best and the second-best latent, as a share of the entropy of the cause:
#
# $$
# \mathrm{MIG}_k = \frac{1}{H(v_k)} \Big( \mathrm{I}(z_{j_1}; v_k) - \mathrm{I}(z_{j_2}; v_k) \Big) ,
# $$ (def-mig)
#
# where $z_{j_1}$ and $z_{j_2}$ are the latents with the most and the second most information about $v_k$. With twenty equally filled bins, $H(v_k) = \log 20$. (Papers estimate the information in different ways, so gaps can be compared only within one study.)

# %% tags=["figure"] mystnb={"image": {"alt": "Two panels of five bars, for azimuth, elevation, light, size and hue. The bars of the relaxed VAE are higher than those of the plain one for all causes but elevation, where both are small."}, "figure": {"caption": "Mutual information gap of each cause.", "name": "fig-mig"}}
gaps = {name: mutual_information_gap(t, math.log(20)) for name, t in mutual.items()}
fig, panels = plots.figure(2, height=2.4)
for axes, (name, gap) in zip(panels, gaps.items(), strict=True):
    values = dict(zip(house.names, gap.tolist(), strict=True))
    _ = axes.set_ylim(0, 0.8)
    shown = plots.bars(values, value_label=f"gap ({name} VAE)", axes=axes)
shown

# %% [markdown]
# In {numref}`fig-mig` the relaxed network has the larger gap for every cause but the elevation, about which several of its latents have a little information. Light, size and hue have one latent each; azimuth has one and the second that we found.

# %%
for name, gap in gaps.items():
    print(f"{name}: mean gap {gap.mean():.2f}")

# %% tags=["held", "nbval-check-output"]
ahead = gaps["relaxed"].mean() / gaps["plain"].mean()
print("the mean gap of the relaxed VAE is more than half larger:", bool(ahead > 1.5))
larger = (gaps["relaxed"] > gaps["plain"]).tolist()
print("larger for every cause but elevation:", larger == [True, False, True, True, True])

# %% [markdown]
# In the last steps both networks were trained on the same loss. How do they differ? The relaxed network has the lower rate. Another difference is in the standard deviations of the posteriors, and {ref}`sec-no-axes` explains why they matter:

# %% tags=["nbval-check-output"]
for name, model in models.items():
    stds = model.posterior(house.images).variance.mean(0).sqrt()
    print(f"{name:8} standard deviations", *(f"{value:.2f}" for value in stds))

# %% [markdown]
# In the relaxed network some posteriors are wide and others narrow, as with a large $\beta$ in the linear case of {ref}`chapter 5 <sec-sigma-dec>` {eq}`eq-beta-level`. In the plain network all are about equally narrow.
#
# Is this the work of the schedule, or of one training? Both networks were trained a second time by the same recipes, from another seed and with matrix products in bfloat16:

# %% tags=["numbers"]
seconds = {"plain": pretrained("vae-scenes-2"), "relaxed": pretrained("beta-vae-scenes-2")}
_ = torch.manual_seed(0)
second_gaps, second_bound_of = {}, {}
for name, model in seconds.items():
    q = model.posterior(house.images)
    second_gaps[name] = mutual_information_gap(
        mutual_information(q.sample(), house.factors), math.log(20)
    )
    second_bound_of[name] = elbo_terms(model, house.images)
    stds = q.variance.mean(0).sqrt()
    print(f"{name:8} mean gap {second_gaps[name].mean():.2f}", end=", standard deviations ")
    print(*(f"{value:.2f}" for value in stds))

# %% tags=["held", "nbval-check-output"]
pairs = {"first": gaps, "second": second_gaps}
means = {pair: {name: gap.mean() for name, gap in both.items()} for pair, both in pairs.items()}
ahead = [bool(both["relaxed"] > both["plain"]) for both in means.values()]
print("the relaxed network has the larger mean gap in both pairs:", all(ahead))
relaxed, plain = ([both[name] for both in means.values()] for name in ("relaxed", "plain"))
print(
    "the two relaxed ones differ by more than a factor of three:", bool(relaxed[0] > 3 * relaxed[1])
)
print("the second relaxed one is behind the first plain one:", bool(relaxed[1] < plain[0]))
for pair, terms in {"first": bound_of, "second": second_bound_of}.items():
    rates = {name: one.kl.sum(1).mean() for name, one in terms.items()}
    bounds = {name: one.elbo.mean() for name, one in terms.items()}
    print(f"{pair} pair, relaxed: lower rate:", bool(rates["relaxed"] < rates["plain"]))
    print(f"{pair} pair, relaxed: worse bound:", bool(bounds["relaxed"] < bounds["plain"]))

# %% [markdown]
# In both pairs the relaxed network has the lower rate, the worse bound and the larger gap. But the same recipe gave a far smaller gap in its second training, where the standard deviations stayed nearly alike. The two trainings of a recipe differ in their seed and in the rounding, so these pairs cannot tell the two apart.
#
# Smaller VAEs can ({ref}`experiment <exp-disentanglement>`): perceptrons, trained for 6,000 steps on 5,000 houses of 16 × 16 pixels. Over three seeds they have a mean gap of 0.07 ± 0.01 with the constant weight and of 0.25 ± 0.02 with the falling one; with products in bfloat16 and the same seeds it is 0.07 ± 0.01 and 0.23 ± 0.07. So in these trainings the falling weight raises the gap on average, in either precision. Yet the rounding alone, with the same seed, changed the gap of a relaxed network by −0.19 to 0.10, as another seed may: one pair can show a large difference or hardly any. The falling weight lowers the rate by 8.9 ± 0.3 nats and the bound by 61 ± 31 nats. After a quarter of the steps there is no such gain: 0.05 ± 0.03 with the falling weight and 0.05 ± 0.02 with the constant one.
#
# {cite:t}`locatello2019`, over thousands of trainings on other data, found that such scores vary as much between seeds as between methods. The rest of the chapter studies the first relaxed network, in which the causes are separated best.
#
# **What you can say now.** Disentanglement is measured against known causes, by correlation or mutual information. The falling weight gave the larger gap on average, in smaller VAEs over three seeds and two precisions; yet single trainings by one recipe can differ by as much as the two kinds.
#
# *Sources: B18.*

# %% [markdown]
# (sec-editing)=
# ## Editing an image by its latents
#
# If a latent encodes one cause, an image can be edited by changing that latent. The steps: *encode* an image, *draw* its latent, *change* some of its dimensions, *decode*, and *draw* a new image. (We show the mean instead, since the last draw would only add noise of $\sigma_{\text{dec}} = 0.1$.) For each of the five causes we take the latent with the largest correlation and give it a slider: azimuth, light and hue in the first image, elevation and size in the second. The sign comes from the correlation too, so that moving a slider to the right should increase its cause.

# %% tags=["nbval-check-output"]
vae, table = models["relaxed"], tables["relaxed"]
latent_of = table.abs().argmax(0).tolist()  # for each cause its latent
sign_of = [float(table[j, k].sign()) for k, j in enumerate(latent_of)]
_ = torch.manual_seed(0)
start = vae.posterior(house.images[:1]).sample()


def editor(*causes):
    """The start, with the latent of each of these causes (0 to 4) set by a slider."""

    def edited(*values):
        z = start.clone()
        for k, value in zip(causes, values, strict=True):
            z[0, latent_of[k]] = sign_of[k] * value
        return vae.likelihood(z).mean[0].clamp(0, 1).permute(1, 2, 0)

    names = [house.names[k] for k in causes]
    stops = [-1.8, -1.2, -0.6, 0.0, 0.6, 1.2, 1.8]
    alt = "A house, decoded with " + ", ".join(f"{name} latent {{}}" for name in names)
    return Editor({f"{name} latent": stops for name in names}, edited, alt=alt)


print("five different latents:", len(set(latent_of)) == 5)

# %% tags=["figure"]
editor(0, 2, 4)

# %% tags=["figure"]
editor(1, 3)

# %% [markdown]
# In these images the size follows its slider, and the camera hardly rises with the slider of elevation. {numref}`fig-traversal` shows each latent on its own: in each row one latent goes from $-1.8$ to $1.8$, while the others stay. In the rows where nothing changes, the latent carries little information.

# %% tags=["figure"] mystnb={"image": {"alt": "Eight rows of seven houses. In one row the house turns, in others its light, its size or its color changes; two rows change little."}, "figure": {"caption": "One latent at a time, eight latents from top to bottom.", "name": "fig-traversal"}}
stops = torch.linspace(-1.8, 1.8, 7)
rows = {}
for j in range(8):
    z = start.repeat(7, 1)
    z[:, j] = stops
    rows[f"z{j}"] = vae.likelihood(z).mean.clamp(0, 1)
plots.image_rows(rows, tile=0.6)

# %% [markdown]
# Such figures are common in papers, but do the sliders do what their labels say? Encoding the edited image again would use the same latents, so it is no independent test. Instead, for each edited image we find the nearest of the 5000 rendered houses, by the distance of their pixels, and read off its true causes. We do this for all five sliders.


# %%
def nearest_causes(images):
    distances = torch.cdist(images.flatten(1), house.images.flatten(1))
    return house.factors[distances.argmin(1)]


_ = torch.manual_seed(0)
z, clean = vae.posterior(house.images[:300]).sample(), {}
for cause, (latent, sign) in enumerate(zip(latent_of, sign_of, strict=True)):
    z_low, z_high = z.clone(), z.clone()
    z_low[:, latent], z_high[:, latent] = -sign, sign
    found = [nearest_causes(vae.likelihood(c).mean) for c in (z_low, z_high)]
    moved = (found[1] - found[0]).mean(0) / (high - low)
    texts = (f"{name} {m:+.2f}" for name, m in zip(house.names, moved.tolist(), strict=True))
    print(f"{house.names[cause]:9} latent from -1 to 1 moves:", ", ".join(texts))
    others = moved.abs().sum() - moved[cause].abs()
    clean[house.names[cause]] = bool(moved[cause] > 0.3 and others < moved[cause] / 2)

# %% tags=["held", "nbval-check-output"]
for name in ("azimuth", "light", "size", "hue"):
    print(f"the {name} latent moves its own cause, and little else: {clean[name]}")
print("the latent of elevation does not:", not clean["elevation"])

# %% [markdown]
# The numbers are shares of each cause's range, means over 300 houses. In this network the sliders of azimuth, light, size and hue move their own cause by about half of its range, and the others hardly. The slider of elevation fails: it moves the elevation by less than a fifth of its range. Elevation also has the smallest gap of this network in {numref}`fig-mig`.
#
# **What you can say now.** Editing means changing one latent and decoding. Whether it changes one cause only has to be tested independently of the model.
#
# *Sources: B17.*

# %% [markdown]
# (sec-no-axes)=
# ## What fixes the axes of the latent space
#
# Why should a single latent have a meaning at all? A common answer is that the *diagonal prior* makes the dimensions of $z$ independent, and therefore disentangles them. This section shows that the prior cannot do this, and what does. For $p(z) = \mathcal{N}(z; 0, I)$ and any rotation $R$, that is $R R^\top = I$, the prior is the same in all directions. So a decoder that first rotates its input back makes the same model:
#
# $$
# p(R z) = p(z), \qquad \tilde{p}_\theta(x \mid z) = p_\theta(x \mid R^\top z) \;\Longrightarrow\; \tilde{p}_\theta(x, R z) = p_\theta(x, z) .
# $$ (eq-rotated-model)
#
# The two models give every image the same probability, so no amount of data can distinguish them. (For other priors with independent coordinates other maps do the same {cite:p}`locatello2019`.)
#
# **Checks.** The first compares the density of the prior before and after the rotation; a variance of 1.05 in one direction is rejected, and a shear instead of the rotation. The second compares the whole model with the trained decoder; a decoder that is not rotated is rejected, and one that is rotated the wrong way.

# %% tags=["serves"]
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


# %% tags=["check", "nbval-check-output"]
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
# Yet in the relaxed network single latents do have a meaning, as {numref}`fig-correlations` shows. The only part of the bound that can prefer these axes is the diagonal covariance of $q_\phi(z \mid x)$ {cite:p}`rolinek2019`. If the true posterior has different variances along the axes, its contours are ellipses. A diagonal Gaussian fits them along the axes, but not after a rotation, and then the bound is lower. For a Gaussian posterior with precision matrix $P$ the least loss of a diagonal Gaussian is, as in the linear case {eq}`eq-rotation-gap`,
#
# $$
# \begin{aligned}
# & \min_{\Lambda \text{ diagonal}} D_{\mathrm{KL}} \big( \mathcal{N}(m, \Lambda) \,\Vert\, \mathcal{N}(m, P^{-1}) \big) \\
# & \qquad = \tfrac12 \Big( \sum_j \log P_{jj} - \log \det P \Big) ,
# \end{aligned}
# $$ (eq-rotation-price)
#
# reached at $\Lambda_{jj} = 1 / P_{jj}$. As a function of the log-variances $s_j$ the KL divergence is $\frac12 \sum_j (P_{jj} e^{s_j} - s_j)$ plus a constant, which is convex and has gradient zero there, so no other diagonal is better.
#
# **Check.** torch's KL divergence is computed at this $\Lambda$, for the posterior of one house after a rotation, and the gradient there is zero. The value at the marginal variances $(P^{-1})_{jj}$ is rejected.

# %% tags=["serves"]
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

# %% tags=["check", "nbval-check-output"]
print("no diagonal is better:", bool(gradient.abs().max() < 1e-9))
price = 0.5 * (P.diagonal().log().sum() - torch.logdet(P))
wrong = {"marginals": kl_of(P.inverse().diagonal().log())}
verify("eq-rotation-price", kl_of(best.detach()), price, exact, rejects=wrong)

# %% [markdown]
# How large is this loss for the house model? We rotate two latents into each other, rotate the decoder back, and give the encoder the best diagonal covariance. Then we measure the bound again on 2000 houses and compare the loss with the formula. We do this for two pairs of latents: azimuth and light, and azimuth and the latent with the largest posterior variance.


# %%
def rotation(angle, j, k):
    R = torch.eye(8)
    R[j, j], R[k, k] = math.cos(angle), math.cos(angle)
    R[j, k], R[k, j] = -math.sin(angle), math.sin(angle)
    return R


def turned_bound(R, x, vae=vae):
    """The bound with the decoder rotated, and the loss that the formula predicts."""
    q = vae.posterior(x)
    P = torch.einsum("jk,nk,lk->njl", R, 1 / q.variance, R)
    fit = Normal(q.mean @ R.T, P.diagonal(dim1=1, dim2=2).rsqrt())
    kl = kl_divergence(fit, Normal(0.0, 1.0)).sum(1)
    price = 0.5 * (P.diagonal(dim1=1, dim2=2).log().sum(1) + q.variance.log().sum(1))
    return vae.likelihood(fit.sample() @ R).log_prob(x) - kl, price.mean()


# %% tags=["serves"]
x, degrees = house.images[:2000], torch.linspace(0, 90, 10)
stds = vae.posterior(x).variance.mean(0).sqrt()
of_azimuth, of_light = latent_of[0], latent_of[2]
pairs = {"light": (of_azimuth, of_light), "widest": (of_azimuth, int(stds.argmax()))}
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

# %% tags=["figure"] mystnb={"image": {"alt": "Two panels over an angle from 0 to 90 degrees. Left: nats lost. For azimuth with light the curve stays near zero; for azimuth with the widest latent it is an arch that peaks near 45 degrees, and crosses of the formula lie on both curves. Right: the correlation of the turned latent with azimuth falls from above 0.9 to 0, that with light rises from 0 to above 0.9."}, "figure": {"caption": "Left: the loss of the bound when the azimuth latent is rotated into the light latent or into the widest one (lines: measured; crosses: the formula). Right: correlation of the first latent with azimuth and light while the two are rotated into each other.", "name": "fig-rotation-price"}}
fig, (left, right) = plots.figure(2, height=2.6)
lines = {f"with {name}": (degrees, values) for name, values in lost.items()}
_ = plots.curves(lines, x_label="angle (degrees)", y_label="nats lost", axes=left)
for values in formula.values():
    _ = left.plot(degrees, values, "k+")
rotated = [draws["relaxed"] @ rotation(math.radians(d), *pairs["light"]).T for d in degrees]
means_now = torch.stack([correlations(z, house.factors)[of_azimuth] for z in rotated])
lines = {"azimuth": (degrees, means_now[:, 0].abs()), "light": (degrees, means_now[:, 2].abs())}
plots.curves(lines, x_label="angle (degrees)", y_label="correlation", axes=right)

# %% [markdown]
# {numref}`fig-rotation-price` shows two different cases. Azimuth and light have nearly the same posterior variance. Rotating them into each other costs almost nothing (left), although it mixes the two causes (right). Rotating azimuth into the latent with the largest variance costs more than a nat, as the formula says. Next we apply one random rotation of all eight latents to both networks.

# %% tags=["numbers"]
_ = torch.manual_seed(0)
R = torch.linalg.qr(torch.randn(8, 8)).Q
lost_nats, turned_gap = {}, {}
for name, model in models.items():
    upright, bound = (turned_bound(turn, x, model)[0] for turn in (torch.eye(8), R))
    price = turned_bound(R, x, model)[1]
    lost_nats[name] = upright - bound
    mean, error = lost_nats[name].mean(), lost_nats[name].std() / len(x) ** 0.5
    print(f"{name:7}: {mean:.1f} +- {error:.1f} nats lost, formula {price:.1f};", end=" ")
    information = mutual_information(draws[name] @ R.T, house.factors)
    turned_gap[name] = mutual_information_gap(information, math.log(20)).mean()
    print(f"mean gap {gaps[name].mean():.2f} before, {turned_gap[name]:.2f} after")

# %% tags=["held", "nbval-check-output"]
sure = 10 * lost_nats["relaxed"].std() / len(x) ** 0.5
print("relaxed: a loss, by 10 standard errors:", bool(lost_nats["relaxed"].mean() > sure))
less = lost_nats["plain"].mean() < lost_nats["relaxed"].mean() / 2
print("plain: less than half of that:", bool(less))
cheap = (lost["light"] + 3 * errors["light"]).max()
costly = (lost["widest"] - 3 * errors["widest"]).max()
print("azimuth into light: less than half a nat:", bool(cheap < 0.5))
print("azimuth into the widest: more than one:", bool(costly > 1))
fallen = turned_gap["relaxed"] < gaps["relaxed"].mean() / 3
print("the gap of the relaxed network falls below a third:", bool(fallen))

# %% [markdown]
# (The refitted Gaussian is the one nearest to the rotated $q$, not to the true posterior, so the curve is an upper bound on what a rotation costs.) For a diagonal $q$, the bound fixes the axes only through the *differences* between the posterior variances of its latents. For two latents of equal variance it prefers no axes. The plain network, whose variances are all about equal, loses less by the same rotation; the formula gives both losses. And no criterion that depends on $p_\theta(x)$ alone can distinguish one choice of axes from another.
#
# **What you can say now.** The prior is rotation-invariant, so it gives the axes no meaning. The diagonal approximate posterior fixes them, but only where its variances differ.

# %% [markdown]
# (sec-attributes)=
# ## Arithmetic with attributes
#
# For digits the causes are not known. But a property that can be computed from the image, or labeled, still has a *direction* in the latent space. Take a binary attribute $y$, and the difference between the mean codes of the images with and without it:
#
# $$
# \mathbb{E}[z \mid y = 1] - \mathbb{E}[z \mid y = 0] = \frac{\operatorname{Cov}(z, y)}{\pi (1 - \pi)}, \qquad \pi = P(y = 1) .
# $$ (eq-attribute)
#
# The right side is the slope of a linear regression of $z$ on $y$. So this {term}`attribute vector` contains everything that varies together with $y$ in the data, and nothing else. Our attribute is the slant of a digit, measured from its pixels: the slope of the regression line of column on row, weighted by the ink.


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
# **Check.** The difference of the means is compared with a least-squares solver and with the covariance. Here $y = 1$ for the three tenths of the digits that lean most to the right, because at $\pi = \frac12$ several wrong formulas would agree with the right one. The covariance over $\pi$ alone is rejected, and the mean of the codes with the attribute.

# %% tags=["check", "nbval-check-output"]
pi = y.mean()
difference = z[y == 1].mean(0) - z[y == 0].mean(0)
design = torch.stack([torch.ones_like(y), y], 1)
fitted = torch.linalg.lstsq(design, z).solution[1]
wrong = {"over pi alone": difference * (1 - pi), "not less the others": z[y == 1].mean(0)}
verify("eq-attribute", difference, fitted, rejects=wrong)
covariance = ((z - z.mean(0)) * (y - pi)[:, None]).mean(0)
verify("eq-attribute", difference, covariance / (pi * (1 - pi)), rejects=wrong)

# %% [markdown]
# To edit digits, we take the vector between the halves below and above the median slant, add multiples of it to the codes of digits, and decode.

# %% tags=["figure", "mnist"] mystnb={"image": {"alt": "Five rows of seven digits. In each row a digit leans more to the right from column to column. At the ends the 5 has become something like a 9, and the 8 a loop."}, "figure": {"caption": "Five digits with multiples of the slant vector added to their codes. The middle column is the reconstruction.", "name": "fig-slant"}}
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
# The digits of {numref}`fig-slant` lean as intended, but at the ends some lose their shape. We measure the slant on a thousand digits, also class by class, and compare it with the range of real digits. For comparison, we also move along one latent only: that of the vector's largest component, by the length of the whole vector.

# %% tags=["numbers"]
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

# %% tags=["held", "nbval-check-output", "mnist"]
print("more vector, more slant:", bool((slopes.diff() > 0).all()))
print("in every class:", bool((by_class > 0).all()))
print("the best single latent does less:", bool(alone[1] - alone[0] < steps.mean()))

# %% [markdown]
# In this network the mean slant changes from one end to the other by more than the range of 95 percent of the real digits, and it grows in every class. The vector is not a single axis, although one latent alone, moved as far, changes the slant by most of that. Like every regression slope it contains the correlations of the data: if zeros lean more often than sixes, a part of the vector points from sixes to zeros.
#
# **What you can say now.** An attribute vector is a difference of mean codes, that is, a regression slope. It contains every correlation of the attribute in the data.

# %% [markdown]
# (sec-anomalies)=
# ## A likelihood is no measure of normality
#
# In {ref}`chapter 1 <sec-uses>` an anomaly was what an autoencoder reconstructs badly. A VAE seems to offer a better score: call an image with a low $\log p_\theta(x)$ an anomaly. We try this with the importance-weighted bound with 50 samples, $L_{50}$, as the estimate of $\log p_\theta(x)$, on images that are no digits.

# %% tags=["figure", "mnist"] mystnb={"image": {"alt": "Six rows of eight images: digits, digits with shuffled pixels, digits mirrored top to bottom, digits without their upper half, empty black images, and single vertical bars of different widths and places."}, "figure": {"caption": "Digits, and five kinds of images that are none.", "name": "fig-strange"}}
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
# For each row of {numref}`fig-strange` we compute the mean estimate and the {term}`AUROC`, the probability that an anomaly has a lower estimate than a digit. One half is chance. (The empty images are all the same, so their AUROC gives the rank of one image among the digits.)

# %%
_ = torch.manual_seed(0)
normal = log_likelihood(deep, x, 50)
scores = {name: log_likelihood(deep, images, 50) for name, images in strange.items()}
print(f"{'digits':12} log p {normal.mean():8.1f} nats, standard deviation {normal.std():.0f}")
for name, score in scores.items():
    print(f"{name:12} log p {score.mean():8.1f} nats, AUROC {auroc(-normal, -score):.2f}")

# %% tags=["held", "nbval-check-output", "mnist"]
areas = {name: auroc(-normal, -score) for name, score in scores.items()}
print("shuffled digits are found:", areas["shuffled"] > 0.99)
print("the empty image scores better than most digits:", areas["empty"] < 0.1)
print("so do the bars:", areas["a bar"] < 0.4)

# %% [markdown]
# Shuffled digits are found almost without error. But the empty image is *more* likely than nearly every digit, and a bar than most, so for them the score of this network is worse than chance. Minus the log-likelihood is a code length: the empty image and the bars have a shorter code than most digits. For photographs {cite:t}`nalisnick2019` found the same: a model of one data set gave higher likelihoods to another, smoother one.
#
# One objection has to be tested. The encoder was trained on digits, so for other images $L_{50}$ may lie far below $\log p_\theta(x)$ ({ref}`sec-amortization-gap`), and mirrored digits may have a low score because of the encoder, not the model. So we fit $q$ to each of 100 digits and 100 mirrored digits by gradient steps on the bound, and compute the scores again.


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


# %% tags=["numbers"]
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

# %% tags=["held", "nbval-check-output", "mnist"]
gained = (mirrored_again - scores["mirrored"][:100]).mean()
print("mirrored digits gain more than digits:", bool(gained > (digits_again - normal[:100]).mean()))
print("and are still found with less than 0.9:", after < 0.9)

# %% [markdown]
# So a part of the low score of mirrored digits came from the encoder. But in these hundred the ranking hardly changes.
#
# **A typical point is not the most likely one.** Why can an unusual image have a high likelihood? The simplest example is the Gaussian. For $z \sim \mathcal{N}(0, I_d)$ the surprise $- \log p(z)$ has
#
# $$
# \begin{gathered}
# \mathbb{E} \big[ - \log p(z) \big] = \tfrac{d}{2} \log (2 \pi e), \qquad \operatorname{Var} \big[ - \log p(z) \big] = \tfrac{d}{2} , \\
# \mathbb{E} \big[ - \log p(z) \big] - \min_z \big( - \log p(z) \big) = \tfrac{d}{2} ,
# \end{gathered}
# $$ (eq-typical-surprise)
#
# so the surprise at the mode lies $\sqrt{d / 2}$ standard deviations below its mean. In high dimensions the most likely point is very unlike a typical draw.

# %% tags=["check", "nbval-check-output"]
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
# **A density depends on the coordinates** {cite:p}`lelan2021`. In one dimension, transform a continuous $x$ by its own distribution function $F$. The new variable $y = F(x)$ carries the same information, but its density is constant:
#
# $$
# p_Y(y) = \frac{p_X(x)}{F'(x)} = 1 \qquad \text{at } y = F(x) .
# $$ (eq-flattened)
#
# A score that a change of coordinates can make constant does not measure anomaly. (In more dimensions the map takes, for each coordinate, its distribution function given those before it. The probabilities of black-and-white images, as here, do not have this problem; densities of photographs do.)

# %% tags=["check", "nbval-check-output"]
density = Normal(torch.tensor(1.0).double(), 2.0)
point = torch.linspace(-4, 6, 11).double().requires_grad_()
(slope,) = torch.autograd.grad(density.cdf(point).sum(), point)
flat = (density.log_prob(point).exp() / slope).detach()
times = {"times the slope": (density.log_prob(point).exp() * slope).detach()}
verify("eq-flattened", flat, torch.ones(11).double(), autograd, rejects=times)

# %% [markdown]
# The first of these facts suggests a test of *typicality* {cite:p}`nalisnick2019b`: call an image an anomaly if its log-likelihood is *far from the mean* of the digits, on either side. Does this test wrongly flag simple digits? For that we compute the AUROC of real images of a 1 against the other digits.

# %%
usual = normal.mean()
for name, score in scores.items():
    area = auroc((normal - usual).abs(), (score - usual).abs())
    print(f"{name:12} AUROC {area:.2f}")
far, ones = (normal - usual).abs(), test.labels[:400] == 1
print(f"{'real ones':12} AUROC {auroc(far[~ones], far[ones]):.2f}")

# %% tags=["held", "nbval-check-output", "mnist"]
both = {k: auroc(far, (score - usual).abs()) for k, score in scores.items()}
print("the empty image is found now:", both["empty"] > 0.9)
print("bars better than before:", both["a bar"] > areas["a bar"] + 0.2)
print("and real ones are flagged:", auroc(far[~ones], far[ones]) > 0.8)
print("mirrored digits are still found with less than 0.9:", both["mirrored"] < 0.9)

# %% [markdown]
# With this network the test finds the empty image and more of the bars, but it also flags the digit 1. Mirrored digits are found hardly better than before. A likelihood is a code length; what counts as an anomaly depends on the application, and needs examples of what should be found.
#
# **What you can say now.** A likelihood is a code length: an image can have a high one without belonging to the data, as the empty image has here.

# %% [markdown]
# (sec-latent-exercises)=
# ## Exercises
#
# Replace the three dots by your answer and run the cell.

# %% tags=["unseen", "nbval-check-output"]
from companion.page.exercises import latent_space as exercises

# %% [markdown]
# ```{exercise-start} Length along a straight line
# :label: ex-chord-minimum
# ```
# Two independent draws of $\mathcal{N}(0, I_d)$ are joined by a straight line. At the fraction $t$ of the way, what is the root mean square length, as a multiple of its value at the ends? Write it as a function of `t`.


# %% tags=["answer", "nbval-check-output"]
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
# It is the root of {eq}`eq-chord-length` over $d$. In the middle it is $\sqrt{1/2}$, in every dimension.


# %% tags=["nbval-check-output"]
def shrinking(t):
    return ((1 - t) ** 2 + t**2) ** 0.5


exercises.check_shrinking(shrinking)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} An arc of draws from the prior
# :label: ex-arc
# ```
# Write a path from `z_0` to `z_1`, two independent draws of the prior, whose point at every `t` from 0 to 1 is again a draw of the prior. It must start in `z_0` and end in `z_1`.


# %% tags=["answer", "nbval-check-output"]
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
# The squares of the two factors must add up to one {eq}`eq-arc-gaussian`.


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
# A latent and a cause are jointly Gaussian with correlation 0.95. How large is their mutual information in nats? And which correlation has a mutual information of exactly one nat? Give a pair.

# %% tags=["answer", "nbval-check-output"]
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
# The first number is {eq}`eq-normal-information`. Solved for the correlation it gives $\rho = \sqrt{1 - e^{-2 I}}$.

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


# %% tags=["answer", "nbval-check-output"]
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


# %% tags=["answer", "nbval-check-output"]
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
# The diagonal of the rotated precision matrix is $c^2 / a + s^2 / b$ and $s^2 / a + c^2 / b$, with $c$ and $s$ the cosine and the sine; its determinant stays $1 / (a b)$. For $a = b$ the loss is zero at every angle.


# %% tags=["nbval-check-output"]
def turn_price(a, b, angle):
    c, s = math.cos(angle) ** 2, math.sin(angle) ** 2
    return 0.5 * math.log((c / a + s / b) * (s / a + c / b) * a * b)


exercises.check_turn_price(turn_price)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} The surprise at the origin
# :label: ex-middle
# ```
# The origin is the most likely point of a $d$-dimensional standard Gaussian. By how many standard deviations of the surprise is the surprise at the origin below its mean? Write it as a function of `d`.


# %% tags=["answer", "nbval-check-output"]
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
# - A decoder makes a map of its latent space ({numref}`fig-plane-map`). The aggregate posterior has nearly the variances of the prior {eq}`eq-aggregate-covariance` but is not equal to it.
# - Straight lines between draws of the prior pass through points that are shorter than almost all draws {eq}`eq-chord-length`; arcs on the sphere keep the length {eq}`eq-slerp`. Which midpoints show more digits depends on the network.
# - A temperature scales the draws of the prior {eq}`eq-temperature`. A low one takes away variety; whether it shows more digits depends on the network.
# - What a latent means can be measured where the causes are known: by correlation, mutual information and its gap {eq}`def-mig`. In two trainings of each kind, and over three seeds of smaller networks, those whose $\beta$ fell slowly had the larger gap, the lower rate and the worse bound.
# - The prior cannot fix the axes of the latent space {eq}`eq-rotated-model`; the diagonal posterior does, where the variances of the latents differ {eq}`eq-rotation-price`.
# - A difference of mean codes is a direction for an attribute {eq}`eq-attribute`.
# - A likelihood is a code length, and a high likelihood does not make an image normal.
#
# **What the sources say, and where they need care.** The lectures show a bilinear square of digits, the editing of images by single latents, and latents for pose and light; all of these are measured here. One lecture says that the diagonal prior makes the dimensions independent and therefore disentangles them. Draws of the prior are independent, but the prior is the same in all directions; what fixes the axes is the diagonal posterior. Another lists anomaly detection among the uses of an autoencoder; with the likelihood as the score, an empty image passes for a digit.
#
# **To read next.** {cite:t}`higgins2017` and {cite:t}`burgess2018` on the weight of the KL divergence; {cite:t}`chen2018` on the gap; {cite:t}`locatello2019` on why unsupervised disentangling needs luck or assumptions; {cite:t}`rolinek2019` on what fixes the axes; {cite:t}`vahdat2020` and {cite:t}`child2021` on temperature in deep hierarchies; {cite:t}`nalisnick2019` and {cite:t}`lelan2021` on likelihoods of anomalies.
