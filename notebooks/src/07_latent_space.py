# %% [markdown]
# # Latent space
#
# A variational autoencoder, trained long, draws a digit at most points of its latent space, also where no training image was encoded. A plain autoencoder does not ({ref}`chapter 1 <sec-no-sampling>`). What fills the space between the codes? Why are the images a little blurred? And does a direction in this space mean anything?

# %% tags=["setup", "hide-input"]
# The set-up cell: `make sync` writes it.

# %% tags=["serves"]
import math

import torch
from matplotlib.collections import EllipseCollection
from matplotlib.patches import Circle
from torch.distributions import Bernoulli, MultivariateNormal, Normal, kl_divergence
from torch.nn.functional import binary_cross_entropy_with_logits

from companion import data
from companion.data import SCENE_FACTORS, binarize, render_scenes, scenes
from companion.interpolation import spherical_interpolation
from companion.metrics import (
    auroc,
    energy_test,
    log_likelihood,
    mutual_information,
    mutual_information_gap,
)
from companion.networks.mlp import mlp
from companion.page import plots
from companion.page.exercises import latent_space as exercises
from companion.page.sliders import Editor, Slider
from companion.page.verify import autograd, exact, monte_carlo, quadrature, verify
from companion.training import minimize
from companion.zoo import pretrained
from companion.zoo.yardstick import unrecognized

_ = torch.manual_seed(0)
train, test = data.load("mnist", "train"), data.load("mnist", "test")
x = binarize(test.images)
plane, digits_vae, deep = (pretrained(f"{name}-mnist") for name in ("vae2d", "conv-vae", "vae"))
plain_ae = pretrained("conv-ae-mnist")

# %% tags=["figure", "mnist"] mystnb={"image": {"alt": "A square of seventeen by seventeen decoded digits. Regions of ones, sevens, nines, sixes, zeros, threes and others lie side by side and pass into each other through in-between shapes."}, "figure": {"caption": "The latent plane of a VAE with two latents, decoded at quantiles of the prior.", "name": "fig-plane-map"}}
side = 17
levels = Normal(0.0, 1.0).icdf((torch.arange(side) + 0.5) / side)
across, up = torch.meshgrid(levels, levels.flip(0), indexing="xy")
grid = torch.stack([across.flatten(), up.flatten()], 1)
map_images = plane.likelihood(grid).mean
plots.image_grid(map_images, columns=side, tile=0.36)

# %% [markdown]
# The map is decoded at the Gaussian's quantiles, $z = \Phi^{-1}(u)$ with equal steps of $u$ on each axis, so each tile has the same prior probability: what takes more of the map is sampled more often.
#
# :::{admonition} The idea
# The encoder of a VAE gives each image not a point but a small Gaussian, and the decoder has to draw the image from anywhere in it. The KL divergence pulls all these Gaussians to one place, so that they overlap. At each point the decoder draws the average of the images whose Gaussians cover it: neighbors look alike, and details are averaged away. None of this gives the axes a meaning. That depends on which Gaussians the encoder may use.
# :::
#
# Four popular beliefs are tested on the way: that arcs beat lines, draws near the origin are better, the prior gives the axes a meaning, and likely images are normal.

# %% [markdown]
# (sec-latent-plane)=
# ## What closes the holes
#
# A VAE adds two things to an autoencoder. *Noise*: the decoder gets the code plus Gaussian noise, whose standard deviation $\sigma$ the encoder chooses. And a *pull*, the KL divergence from the prior, in each latent $\frac12 (\mu^2 + \sigma^2 - 1) - \log \sigma$ {eq}`eq-kl-diagonal`, which rises as the mean $\mu$ leaves the origin or the noise vanishes. Four networks differ in these two:


# %% tags=["serves"]
def train_plane(noise, pull, steps=400):
    """The encoder of a small network with two latents: mean and log-variance."""
    _ = torch.manual_seed(0)
    encoder, decoder = mlp([784, 200, 4]), mlp([2, 200, 784])
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=3e-3)
    for _ in range(steps):
        batch = digits[torch.randint(len(digits), (100,))]
        mean, log_variance = encoder(batch).chunk(2, 1)
        std = (log_variance / 2).exp() if pull else torch.ones_like(mean)
        z = mean + std * torch.randn_like(mean) if noise else mean
        kl = kl_divergence(Normal(mean, std), Normal(0.0, 1.0)) if noise else mean**2 / 2
        error = binary_cross_entropy_with_logits(decoder(z), batch, reduction="sum")
        optimizer.zero_grad()
        ((error + pull * kl.sum()) / 100).backward()
        optimizer.step()
    return encoder


digits = binarize(train.images[:20_000]).flatten(1)

# %% tags=["figure", "mnist"] mystnb={"image": {"alt": "Four panels of colored dots, two above two. Neither: dots spread unevenly, far beyond a circle. Noise alone: dots with small discs, up to 25 units from the center of a tiny circle. Pull alone: dots without discs, mostly inside the circle. Both: dots inside and around the circle, whose discs overlap."}, "figure": {"caption": "Codes of 500 test digits, colored by class, with its number at its median. Discs: one standard deviation of the noise; circle: two of the prior.", "name": "fig-noise-and-pull"}}
from matplotlib.colors import ListedColormap
from matplotlib.patheffects import withStroke

from companion.page.plots.style import COLORS

kinds = {"neither": (0, 0), "noise alone": (1, 0), "pull alone": (0, 1), "both: a VAE": (1, 1)}
colors = ListedColormap(COLORS)
fig, panels = plots.figure(2, rows=2, height=2.6)
for axes, (name, (noise, pull)) in zip(panels, kinds.items(), strict=True):
    encoder = train_plane(noise, pull)
    mean, log_variance = encoder(x[:500].flatten(1)).detach().cpu().chunk(2, 1)
    std = noise * ((log_variance / 2).exp() if pull else torch.ones_like(mean))
    size = [*(2 * std).numpy().T, torch.zeros(500, device="cpu").numpy()]
    where = {"units": "xy", "offsets": mean.numpy(), "transOffset": axes.transData}
    discs = EllipseCollection(*size, **where, cmap=colors, alpha=0.2)
    discs.set_array(test.labels[:500].cpu().numpy())
    _ = axes.add_collection(discs)
    dots = {"c": test.labels[:500].cpu(), "cmap": colors, "s": 4, "linewidths": 0}
    _ = axes.scatter(*mean.T, **dots)
    for k in range(10):
        center = mean[test.labels[:500].cpu() == k].median(0).values
        _ = axes.text(
            *center.tolist(), str(k), path_effects=[withStroke(linewidth=2, foreground="w")]
        )
    _ = axes.add_patch(Circle((0, 0), 2, fill=False))
    _ = axes.set_aspect("equal", "datalim")
    _ = axes.set_title(name)
fig

# %% [markdown]
# - **Neither:** this is a plain autoencoder. The codes are points, and the loss says nothing about the space between.
# - **Noise alone**, of variance one (a learned one would vanish): the decoder must draw a digit from everywhere near its code. But the codes can escape: if all double, the same noise is half as large in comparison.
# - **The pull alone** brings the codes together, as points. If all are halved and the decoder's first weights doubled, the images stay and the penalty falls.
# - **Both** leave no way out: the pull fixes the scale on which the noise counts. Where the Gaussians overlap, the decoder must draw one image for all, so neighbors look alike.
#
# By how much do they overlap? Restricted to a region of probability $f$, the prior has the KL divergence $- \log f$ from itself. So a Gaussian with $K$ nats covers roughly the fraction $e^{-K}$ of the prior, and $20{,}000\, e^{-K}$ training digits meet at one place (first lines below, for the plane; the effective number is $1 / \sum_i w_i^2$ for weights $w_i \propto q_\phi(z \mid x_i)$ that add up to one).
#
# And do draws of the prior show digits? The table has the fraction that two classifiers with an extra class "no digit" ({ref}`chapter 10 <sec-ddpm-samples>`) do *not recognize*, less that of real digits (so it can be negative), for a VAE and an autoencoder of the same layers; ± is one standard error.

# %% tags=["numbers", "columns"]
clouds = plane.posterior(digits.view(-1, 1, 28, 28))
clouds = Normal(clouds.mean, clouds.stddev)
rate = kl_divergence(clouds, Normal(0.0, 1.0)).sum(1).mean()
places = torch.randn(300, 1, 2)
weights = clouds.log_prob(places).sum(2).softmax(1)
effective = 1 / weights.square().sum(1)
print(f"KL divergence {rate:.1f} nats, so a Gaussian fills 1/{rate.exp():,.0f} of the prior")
print(f"20,000 digits: {20_000 / rate.exp():.0f} at one place")
print(f"measured, effective number at draws of the prior: median {effective.median():.0f}")

with torch.no_grad():
    codes = {"VAE": digits_vae.posterior(x).mean, "autoencoder": plain_ae.encode(test.images)}
decoders = {"VAE": lambda z: digits_vae.likelihood(z).mean, "autoencoder": plain_ae.decode}
print("network      s.d. of codes  prior: not recognized  fitted: not recognized")
for name, z in codes.items():
    fitted = MultivariateNormal(z.mean(0), torch.cov(z.T))
    with torch.no_grad():
        drawn = [
            unrecognized(decoders[name](draw))
            for draw in (torch.randn(500, 16), fitted.sample((500,)))
        ]
    prior, fit = (f"{100 * u.value:.1f} ± {100 * u.standard_error:.1f} %" for u in drawn)
    scale = f"{z.std(0).min():.1f} to {z.std(0).max():.1f}"
    print(f"{name:11}  {scale:13}  {prior:>21}  {fit:>22}")

# %% [markdown]
# The VAE fails a quarter of the time, the autoencoder half of the time even if we draw from a Gaussian fitted to its codes. (One network each, with 16 latents; they also differ in likelihood and length of training.)
#
# Where does the VAE fail? The KL divergence compares each $q_\phi(z \mid x)$ with the prior, not their mean over the images, the {term}`aggregate posterior` $q(z) = \mathbb{E}_x\, q_\phi(z \mid x)$. And a decoder is continuous: between zeros and sixes it passes through shapes that are neither. No digit is encoded there, and the prior draws from there all the same. So on the plane holes remain between the classes. With 16 latents a two-sample test of draws of $q(z)$ and of the prior finds the difference (box).
#
# :::{depth-start} the holes lie between the classes; train the map yourself
# :::
# {numref}`fig-plane-digits` has the codes on the map.

# %% tags=["figure", "mnist"] mystnb={"image": {"alt": "The map, faded, with two thousand dots in ten colors over it, and the number of each class at the mean of its dots. Each class covers the region of its own decoded digits. Zeros and ones form clouds of their own; fours and nines, and threes, fives and eights overlap. Between some clouds there are gaps, over in-between shapes."}, "figure": {"caption": "Two thousand test digits on the map, with the number of each class at its mean. The gaps lie over the shapes between two digits.", "name": "fig-plane-digits"}}
of_map = Normal(0.0, 1.0).cdf(plane.posterior(x[:2000]).mean) * side - 0.5  # in tiles
fig, (axes,) = plots.figure(height=4.2, width=5.0)
tiles = map_images[:, 0].view(side, side, 28, 28).transpose(1, 2).reshape(28 * side, 28 * side)
edge = (-0.5, side - 0.5, -0.5, side - 0.5)
labels = test.labels[:2000]
words = {"x_label": "first latent", "y_label": "second latent", "legend": "digit"}
_ = plots.scatter(of_map, labels, **words, bounds=edge, axes=axes)
_ = axes.imshow(1 - 0.35 * tiles.cpu(), extent=edge, cmap="gray", vmin=0, vmax=1, zorder=0)
_ = axes.set(xticks=[], yticks=[])
box = {"boxstyle": "circle,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.85}
for k in range(10):
    at = of_map[labels == k].mean(0).tolist()
    _ = axes.text(*at, str(k), ha="center", va="center", fontsize=13, weight="bold", bbox=box)
fig

# %% [markdown]
# A mixture {cite:p}`ghosh2020` or a diffusion ({ref}`chapter 13 <sec-latent-diffusion>`) can fit the codes more closely than a Gaussian.
#
# The average KL divergence is the mutual information of image and code, which is wanted, plus the KL divergence of $q(z)$ from the prior, which should vanish {eq}`eq-surgery`. So the average KL divergence, 7.1 nats in the plane, bounds the information from above. (As an effective number of digits, $n$ equal weights give $n$.)
#
# The covariance of $q(z)$ follows from the law of total variance:
#
# $$
# \operatorname{Cov}_{q(z)}[z] = \mathbb{E}_{x} \operatorname{diag} \sigma_\phi^2(x) + \operatorname{Cov}_{x} \big[ \mu_\phi(x) \big] .
# $$ (eq-aggregate-covariance)
#
# If $q(z)$ were the prior, the sum would be the identity. In the VAE with 16 latents its diagonal is within 15 percent of one. But equal variances do not make equal distributions: the two-sample test with the energy distance ({ref}`chapter 1 <sec-no-sampling>`) finds a difference between 3,000 draws of $q(z)$ and of the prior. Nor do diagonal posteriors imply a diagonal covariance of $q(z)$.
#
# To estimate the information of a code about its image, average $\log q_\phi(z \mid x) - \log q(z)$ over draws from the encoder, with $q(z)$ as the mean of $q_\phi(z \mid x_i)$ over many images.
#
# **Check.** Draws from $q(z)$, first a random digit and then a $z$, give the variances and the covariance of two latents: the one with the largest posterior variance and the one most correlated with it. The sum without the posterior variances is rejected, and a diagonal covariance.

# %% tags=["check", "nbval-check-output", "mnist"]
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
alone = torch.stack([of_means[j, j], of_means[k, k], of_means[j, k]])
whole = alone + torch.stack([*variance.mean(0)[[j, k]], torch.tensor(0.0)])
wrong = {"means alone": alone, "diagonal": whole * torch.tensor([1.0, 1.0, 0.0])}
verify("eq-aggregate-covariance", products, whole, monte_carlo, rejects=wrong)
total = variance.mean(0) + mean.var(0)
print("variances within 15 percent of one:", bool((total - 1).abs().max() < 0.15))
_ = torch.manual_seed(0)
found = energy_test(q.sample()[torch.randperm(len(x))[:3000]], torch.randn(3000, 16))
print("still, the distributions differ (p < 0.01):", found.p_value < 0.01)

# %% [markdown]
# **The map can be trained here.** At small scale `train_it` takes the first steps only, with the recipe's learning rates compressed into them; `train_it("vae2d-mnist", "full")` takes all. With `MINE = True` the rest of the chapter uses your weights. Expect worse images then, and failures of checks that make claims about the fully trained model.

# %%
from companion.page.live import watch
from companion.zoo.yourself import cost, train_it, use

print(cost("vae2d-mnist"))
mine = watch(train_it("vae2d-mnist"))
MINE = False  # True: from here on the chapter uses your weights
if MINE:
    use("vae2d-mnist", mine.model)
    plane = pretrained("vae2d-mnist")
print("weights of vae2d-mnist:", "yours" if MINE else "the shipped ones")
first, last = torch.tensor(mine.losses).unfold(0, 20, 20)[[0, -1]].mean(1)
print("the loss fell by more than a tenth:", bool(last < 0.9 * first))

# %% [markdown]
# :::{depth-end}
# :::

# %% [markdown]
# (sec-mean-or-draw)=
# ## Why samples blur, and when to take a mean or a draw
#
# Which image should the decoder draw at a point $z$ that the Gaussians of many images cover? Its mean $\hat x(z)$ has to explain all $x_i$, each with the weight $q_\phi(z \mid x_i)$. As in {eq}`eq-mean-minimizes`, and under a Bernoulli likelihood too, the best answer is the weighted average
#
# $$
# \hat{x}(z) = \sum_i w_i(z)\, x_i , \qquad w_i(z) = \frac{q_\phi(z \mid x_i)}{\sum_k q_\phi(z \mid x_k)} .
# $$ (eq-decoder-average)
#
# **Check.** The Bernoulli reconstruction term at one $z$ is maximized numerically over the gray levels of all pixels that are not black or white throughout. The mean of all digits is rejected, and the image of the nearest Gaussian.

# %% tags=["check", "nbval-check-output", "mnist"]
_ = torch.manual_seed(3)
ten = torch.randn(10, 1, 2)
log_weight = clouds.log_prob(ten).sum(2)
weight = log_weight[0].double().softmax(0)
near = weight > 1e-12
at_z = (weight[near] / weight[near].sum())[:, None], digits[near].double()
average = (at_z[0] * at_z[1]).sum(0)
gray = (average > 0.01) & (average < 0.99)
logits = torch.zeros(int(gray.sum()), dtype=torch.double, requires_grad=True)
seen = at_z[1][:, gray]
_ = minimize(lambda: -(at_z[0] * Bernoulli(logits=logits).log_prob(seen)).sum(), [logits])
wrong = {"all digits alike": digits.double().mean(0)[gray], "the nearest": seen[at_z[0].argmax()]}
verify(
    "eq-decoder-average",
    logits.detach().sigmoid(),
    average[gray],
    exact.within(1e-4),
    rejects=wrong,
)

# %% tags=["figure", "mnist"] mystnb={"image": {"alt": "Four rows of ten digits. The decoded ones are smooth and slightly blurred; the averages below them have the same shapes, and the same gray rims; the nearest digits are sharp, often with another shape; the drawn ones are the decoded ones as scattered dots. In the eighth column the decoded shape lies between a three and a two, and the average is a single sharp digit."}, "figure": {"caption": "At ten draws of the prior: the decoder's image, the average over 20,000 training digits, the digit of largest weight, and a draw from $p_\\theta(x \\mid z)$.", "name": "fig-average"}}
_ = torch.manual_seed(0)
decoded = plane.likelihood(ten[:, 0])
averages = (log_weight.softmax(1) @ digits).clamp(0, 1).view(-1, 1, 28, 28)
nearest = digits[log_weight.argmax(1)].view(-1, 1, 28, 28)
rows = {"decoded": decoded.mean, "average": averages, "nearest": nearest, "drawn": decoded.sample()}
plots.image_rows(rows)

# %% [markdown]
# So the blur is what images with overlapping Gaussians do not have in common. (Over all 60,000 digits the average is nearer; in the eighth column one of the 20,000 outweighs the rest.) To keep two images apart costs nats of KL, and is worth it only if the reconstruction gains more. In the linear case a direction with less variance than the decoder's noise gets no latent {eq}`eq-water-filling`; in {numref}`fig-houses` the edges are soft.

# %% tags=["figure"] mystnb={"image": {"alt": "Three rows of ten small houses. The reconstructions have the right place, turn and color, but softer edges, and the second face of the roof is often lost. The sampled houses are mostly plausible, with shadow and shading."}, "figure": {"caption": "Houses, 32 by 32 pixels: rendered, reconstructed, and sampled by a VAE with eight latents and decoder noise of 0.1.", "name": "fig-houses"}}
house = scenes(5_000, seed=2)
models = {"plain": pretrained("vae-scenes"), "annealed": pretrained("beta-vae-scenes")}
vae = models["annealed"]
_ = torch.manual_seed(2)
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
# **The mean is not a sample.** A sample ends with a draw from $p_\theta(x \mid z)$. One usually leaves it out: given $z$ the pixels are independent, so it adds only grain (last row of {numref}`fig-average`). But means vary too little: the variance of the samples is that of the means *plus* the mean variance of the pixels.

# %% tags=["numbers", "columns"]
_ = torch.manual_seed(0)
print("variance of the pixels, summed  means  with drawn pixels")
for name, model in {"2 latents": plane, "16 latents": digits_vae}.items():
    p = model.likelihood(model.prior(2000).sample()).mean.flatten(1)
    means, noise = p.var(0).sum(), (p * (1 - p)).sum(1).mean()
    print(f"{name:30}  {means:5.1f}  {means + noise:17.1f}")
print(f"{'real digits':30}      -  {x.flatten(1).var(0).sum():17.1f}")
q = deep.posterior(x[:4000])
for name, z in {"means": q.mean, "draws": q.sample()}.items():
    nearest = torch.cdist(z[:1000], z[1000:]).argmin(1)
    same = test.labels[1000:4000][nearest] == test.labels[:1000]
    print(f"50 latents, {name}: nearest neighbor of the same class {same.double().mean():.0%}")

# %% [markdown]
# | what for | take | because |
# |---|---|---|
# | looking at samples | the mean of $p_\theta(x \mid z)$ | the draw adds independent noise |
# | comparing distributions | a draw of $x$ | means vary too little |
# | features, search, ends of an interpolation | the mean of $q_\phi(z \mid x)$ | unused latents add noise (last lines above) |
# | an edit | the mean of $q_\phi(z \mid x)$, or a draw | the mean is repeatable; draws show what the code leaves open |
# | training, bound, compressing, information | a draw of $z$ | the bound averages over $q$; a mean hides the uncertainty |
#
# *Sources: B16.*

# %% [markdown]
# (sec-latent-walks)=
# ## Interpolation between images
#
# If neighbors look alike, a path between two codes changes one image gradually into another, where a mixture of pixels shows both at once. For four corner codes $z_{00}, z_{01}, z_{10}, z_{11}$ and fractions $a, b$ of the way across and down (the sliders, with 16 latents), *bilinear interpolation* takes
#
# $$
# z(a, b) = (1 - b) \big( (1 - a)\, z_{00} + a\, z_{01} \big) + b \big( (1 - a)\, z_{10} + a\, z_{11} \big) .
# $$ (def-bilinear)

# %% tags=["figure", "mnist"]
corners = [int((test.labels == k).nonzero()[3]) for k in (2, 7, 6, 0)]
stops = [round(i / 8, 3) for i in range(9)]


def blend(four, a, b):
    return (1 - b) * ((1 - a) * four[0] + a * four[1]) + b * ((1 - a) * four[2] + a * four[3])


def blended(a, b):
    z = blend(digits_vae.posterior(x[corners]).mean, a, b)
    return digits_vae.likelihood(z[None]).mean[0, 0]


Editor(
    {"across": stops, "down": stops},
    blended,
    alt="A digit decoded {} of the way across and {} of the way down",
)

# %% tags=["figure", "mnist"] mystnb={"image": {"alt": "Two squares of seven by seven images with the corners 2, 7, 6 and 0. On the left every image is one stroke figure that changes its shape step by step. On the right the inner images are gray figures on top of each other."}, "figure": {"caption": "Bilinear interpolation of the codes (left) and of the pixels (right).", "name": "fig-bilinear"}}
steps = [i / 6 for i in range(7)]
walked = torch.stack([blended(a, b) for b in steps for a in steps])
faded = torch.stack([blend(x[corners, 0], a, b) for b in steps for a in steps])
fig, (left, right) = plots.figure(2, height=3.2)
_ = plots.image_grid(walked, columns=7, axes=left)
plots.image_grid(faded, columns=7, axes=right)

# %% [markdown]
# But is a straight line the right path? For independent draws $z_0, z_1 \sim \mathcal{N}(0, I_d)$,
#
# $$
# \mathbb{E}\, \big\lVert (1 - t)\, z_0 + t\, z_1 \big\rVert^2 = d\, \big( 1 - 2 t + 2 t^2 \big) ,
# $$ (eq-chord-length)
#
# so in the middle the *squared* length is half of its value at the ends: independent draws are nearly orthogonal, and the chord runs inside the sphere. Yet the squared length of a draw, a sum of $d$ terms, hardly varies: in 16 dimensions about five draws in a hundred are as short as the middle of a line, in 50 about one in a thousand. With the angle $\omega$ between the ends, *spherical interpolation* or *slerp* {cite:p}`shoemake1985,white2016` keeps the length, if both ends have the same one:
#
# $$
# \operatorname{slerp}(z_0, z_1; t) = \frac{\sin\big( (1 - t)\, \omega \big)}{\sin \omega}\, z_0 + \frac{\sin (t\, \omega)}{\sin \omega}\, z_1 .
# $$ (def-slerp)
#
# **Check.** For {eq}`eq-chord-length`, draws in 16 dimensions are compared with the formula at three values of $t$; a constant length is rejected.

# %% tags=["check", "nbval-check-output"]
_ = torch.manual_seed(0)
d, t = 16, torch.tensor([0.1, 0.3, 0.5]).double()
z_0, z_1 = torch.randn(2, 100_000, d).double()
lengths = torch.stack([((1 - s) * z_0 + s * z_1).square().sum(1) for s in t], 1)
expected = d * (1 - 2 * t + 2 * t**2)
constant = {"constant length": torch.full((3,), d).double()}
verify("eq-chord-length", lengths, expected, monte_carlo, rejects=constant)
short = {dim: torch.randn(100_000, dim).square().sum(1) < dim / 2 for dim in (16, 50)}
print("16 dimensions, about 5 percent:", 0.04 < short[16].float().mean().item() < 0.06)
print("50 dimensions, about 1 in 1000:", short[50].float().mean().item() < 0.002)

# %% tags=["figure", "mnist"] mystnb={"image": {"alt": "Two rows of eleven images with the same first and the same last digit. In the middle the two rows pass through different figures."}, "figure": {"caption": "From one encoded digit to another, in a straight line and on the sphere.", "name": "fig-two-ways"}}
_ = torch.manual_seed(0)
codes = digits_vae.posterior(x).sample()
first, second = torch.randperm(len(x) // 2 * 2).chunk(2)
far = int((codes[first] + codes[second])[:100].norm(dim=1).argmin())
ends = codes[first[far : far + 1]], codes[second[far : far + 1]]
shares = torch.linspace(0, 1, 11)
paths = {
    "straight": torch.lerp(*ends, shares[:, None]),
    "sphere": spherical_interpolation(*ends, shares)[:, 0],
}
plots.image_rows({name: digits_vae.likelihood(z).mean for name, z in paths.items()})

# %% [markdown]
# Is the arc better? We decode midpoints between digits of two classes:

# %% tags=["numbers", "columns"]
two = (test.labels[first] != test.labels[second]).nonzero()[:500, 0]
print("not recognized      the ends  middle of the line  middle of the arc")
for name in decoders:
    with torch.no_grad():
        z = digits_vae.posterior(x).mean if name == "VAE" else plain_ae.encode(test.images)
        a, b = z[first[two]], z[second[two]]
        middles = a, (a + b) / 2, spherical_interpolation(a, b, torch.tensor([0.5]))[0]
        found = [unrecognized(decoders[name](middle)) for middle in middles]
    ends, line, arc = (f"{100 * u.value:.1f} ± {100 * u.standard_error:.1f} %" for u in found)
    print(f"{name:14}  {ends:>12}  {line:>18}  {arc:>17}")

# %% [markdown]
# Halfway between two classes this VAE draws a digit more often than the autoencoder, and the arc is no better than the line. The two midpoints differ in length only, and which length suits the decoder changes with training ({ref}`experiment <exp-midpoints>`): one architecture was better on the arc after eight epochs, on the line after a thousand.
#
# **A smooth path proves nothing.** *Every* continuous decoder changes one image gradually into another. A test must be able to fail, such as the fraction of midpoints that show no digit.
#
# :::{depth-start} between draws of the prior each point of an arc is a draw of the prior
# :::
# The squared length of a draw is a sum of $d$ independent terms, with mean $d$ and standard deviation $\sqrt{2 d}$. For two points of equal length, $0 < \omega < \pi$ and $0 \le t \le 1$, slerp moves on the sphere at a constant speed. With $\angle$ for the angle between two vectors,
#
# $$
# \begin{aligned}
# \lVert z_0 \rVert = \lVert z_1 \rVert \;\Longrightarrow\;{} & \lVert \operatorname{slerp}(z_0, z_1; t) \rVert = \lVert z_0 \rVert \\
# & \text{and } \angle \big( z_0, \operatorname{slerp}(z_0, z_1; t) \big) = t\, \omega .
# \end{aligned}
# $$ (eq-slerp)
#
# In many dimensions two draws are nearly orthogonal. With the weights of the right angle, $\alpha = t \pi / 2$, each point of the arc between *any* two independent draws is again a draw of the prior,
#
# $$
# z_0, z_1 \sim \mathcal{N}(0, I) \text{ independent} \;\Longrightarrow\; \cos \alpha\; z_0 + \sin \alpha\; z_1 \sim \mathcal{N}(0, I) ,
# $$ (eq-arc-gaussian)
#
# because a sum of independent Gaussians is Gaussian and the variances add up to $\cos^2 \alpha + \sin^2 \alpha = 1$. (Slerp differs a little: its weights depend on the angle between the ends.)
#
# **Line or arc, in numbers** ({ref}`experiment <exp-midpoints>`). Over three seeds 20.1 ± 0.2 % of the midpoints on the line and 21.6 ± 0.7 % of those on the arc are not recognized with this VAE. The difference, line less arc, is −6.9 ± 1.6 points with the network of 50 latents, and 9.7 ± 0.8 with the same architecture after eight epochs of training: there the arc is ahead, by both judges.
#
# Two other measurements, for the networks of 16 and of 50 latents and the one of eight epochs: the bound under another VAE is higher on the arc by 1.8 ± 0.2 nats with the first, and that on the line by 0.7 ± 0.2 and 3.0 ± 1.0 nats with the two others. Between draws of the prior the first has 19.3 ± 0.7 % on the line and 23.0 ± 0.8 % on the arc without a digit ({ref}`experiment <exp-midpoints>`).
#
# **Check.** The shipped function `spherical_interpolation` is compared with {eq}`eq-slerp`; the straight line is rejected. For {eq}`eq-arc-gaussian` the map from $(z_0, z_1)$ is written as a matrix $A$, and the covariance $A A^\top$ compared with the identity; the straight line is rejected.


# %% tags=["check", "nbval-check-output"]
def length_and_angle(path, start):
    cosine = torch.cosine_similarity(path, start, dim=-1)
    return torch.stack([path.norm(dim=-1), cosine.clamp(-1, 1).acos()])


z_0, z_1 = z_0[:50], z_1[:50]
z_1 = z_1 * z_0.norm(dim=1, keepdim=True) / z_1.norm(dim=1, keepdim=True)
on_sphere = spherical_interpolation(z_0, z_1, t)
straight = torch.stack([(1 - s) * z_0 + s * z_1 for s in t])
omega = torch.cosine_similarity(z_0, z_1, dim=1).acos()
promised = torch.stack([z_0.norm(dim=1).expand(3, 50), t[:, None] * omega])
line = {"straight line": length_and_angle(straight, z_0)}
verify("eq-slerp", length_and_angle(on_sphere, z_0), promised, exact, rejects=line)

eye = torch.eye(4).double()
angles = torch.tensor([0.3, 0.8, 1.2]).double()
A = torch.stack([torch.cat([a.cos() * eye, a.sin() * eye], 1) for a in angles])
chords = torch.stack([torch.cat([(1 - s) * eye, s * eye], 1) for s in t])
line = {"straight line": chords @ chords.mT}
verify("eq-arc-gaussian", A @ A.mT, eye.expand(3, 4, 4), exact, rejects=line)

# %% [markdown]
# :::{depth-end}
# :::
#
# *Sources: A29.*

# %% [markdown]
# (sec-temperature)=
# ## Temperature
#
# Can one avoid the holes by drawing nearer to the origin? A low {term}`temperature` $\tau < 1$ raises the prior to the power $1 / \tau^2$ and normalizes it; deep hierarchical VAEs are often shown so {cite:p}`vahdat2020,child2021`. For the Gaussian prior this only scales the draws:
#
# $$
# \frac{p(z)^{1 / \tau^2}}{\int p(z')^{1 / \tau^2}\, \mathrm{d} z'} = \mathcal{N}\big( z;\, 0, \tau^2 I \big) .
# $$ (eq-temperature)

# %% tags=["check", "nbval-check-output"]
z = torch.linspace(-30, 30, 60_001, dtype=torch.double)
tau = torch.tensor([[0.5], [1.7]]).double()
power = (Normal(0.0, 1.0).log_prob(z) / tau**2).exp()
density = power / torch.trapezoid(power, z)[:, None]
cooled = Normal(0.0, tau).log_prob(z).exp()
wrong = {"variance tau": Normal(0.0, tau.sqrt()).log_prob(z).exp()}
verify("eq-temperature", density, cooled, quadrature, rejects=wrong)

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

# %% tags=["numbers", "columns"]
_ = torch.manual_seed(0)
z = digits_vae.prior(500).sample()
print("temperature  not recognized  variance of pixels")
for tau in (0.0, 0.6, 1.0, 1.4):
    images = digits_vae.likelihood(tau * z).mean
    share = unrecognized(images)
    shown = f"{100 * share.value:.1f} ± {100 * share.standard_error:.1f} %"
    print(f"{tau:<11}  {shown:>14}  {images.flatten(1).var(0).sum():18.0f}")

# %% [markdown]
# At zero all images are the decoded origin. The belief holds here: the lower the temperature, the fewer images show no digit, and the fewer different ones there are. With another network after only eight epochs it is the other way round ({ref}`experiment <exp-temperature>`). The hope is that the decoder is best where the prior is densest, at the origin. But in many dimensions hardly any code lies there, and a low temperature showed more digits only in the VAEs whose origin decodes to a digit.
#
# :::{dropdown} The temperatures in numbers
# (Some texts call the exponent $1 / T$; then $T = \tau^2$.)
#
# From the record ({ref}`experiment <exp-temperature>`). At temperatures of 1, 0.8 and 0.6, 26.4 ± 1.0, 21.6 ± 0.5 and 18.3 ± 0.4 % of the draws of this network are not recognized, and 27.6 ± 1.4, 20.8 ± 0.7 and 18.4 ± 0.1 % of those of the network with 50 latents. The number of classes, as the exponential of their entropy, falls from 9.7 ± 0.1 to 6.3 ± 0.1 and from 9.8 ± 0.0 to 6.1 ± 0.1. But if the pixels are drawn, a temperature of 0.6 changes the share by −3.8 ± 1.2 and −0.3 ± 0.7 points only. With that network after eight epochs it is the other way round: 47.4 ± 0.7 % at 1 and 63.4 ± 0.5 % at 0.6 are not recognized, nor is any origin; at four times the learning rate the difference is unclear.
# :::

# %% [markdown]
# (sec-known-causes)=
# ## Measuring what a latent means
#
# What does a single latent *mean*? The companion renders houses from five independent, uniform numbers, the *factors of variation*: *azimuth*, by which the house is turned, *elevation* of the camera, direction of the *light*, *size* and *hue*.

# %% tags=["figure"] mystnb={"image": {"alt": "Five rows of nine small images of a house with a shadow. From left to right it turns, is seen from higher up, its shadow moves, it grows, its color goes from red over green to blue."}, "figure": {"caption": "Five factors; in each row one goes through its range, and the others stay in the middle.", "name": "fig-causes"}}
low, high = torch.tensor(list(SCENE_FACTORS.values())).T
rows = {}
for k, name in enumerate(SCENE_FACTORS):
    factors = ((low + high) / 2).repeat(9, 1)
    factors[:, k] = torch.linspace(float(low[k]), float(high[k]), 9)
    rows[name] = render_scenes(factors)
plots.image_rows(rows, tile=0.5)

# %% [markdown]
# A latent for each factor would be *{term}`disentanglement`*: a single strong cell in its row and column of {numref}`fig-correlations`. Two VAEs with eight latents were trained on 20,000 houses. The *plain* one weighs the KL divergence with $\beta = 1$. For the *annealed* one $\beta$ falls from 100 to 1, as in a {term}`beta-VAE` {cite:p}`higgins2017` whose allowed KL divergence grows {cite:p}`burgess2018`: under a large $\beta$ few latents are worth their nats, and as it falls they are meant to come in one by one, each for one factor. Why one? Factors that change the image by different amounts are encoded with different precision, and a diagonal $q$ fits best if each has an axis to itself ({ref}`below <sec-no-axes>`). A constant $\beta > 1$ favors such axes, too, but costs detail to the end, like more decoder noise {eq}`eq-beta-level`.


# %% tags=["figure"] mystnb={"image": {"alt": "Two matrices with eight rows, the latents, and five columns, the factors. On the left each factor has one strong cell, size two, and some medium ones. On the right each of azimuth, light, size and hue has one almost full cell, and the rest of its column is pale."}, "figure": {"caption": "Correlation of latents and factors: the plain VAE (left), the annealed one (right).", "name": "fig-correlations"}}
def correlations(z, factors):
    z, factors = ((a - a.mean(0)) / a.std(0) for a in (z, factors))
    return z.T @ factors / (len(z) - 1)


_ = torch.manual_seed(0)
draws = {name: model.posterior(house.images).sample() for name, model in models.items()}
tables = {name: correlations(z, house.factors) for name, z in draws.items()}


short = ["azi", "ele", "light", "size", "hue"]


def both_maps(tables, value_label):
    """A map of latents and factors for each of the two networks, on one scale."""
    _, panels = plots.figure(2, height=3.2)
    most = max(table.abs().max().item() for table in tables.values())
    for axes, (name, table) in zip(panels, tables.items(), strict=True):
        words = {"x_label": f"factor ({name} VAE)", "y_label": "latent", "value_label": value_label}
        shown = plots.heatmap(table, **words, x_ticks=short, axes=axes)
        _ = axes.images[0].set_clim(-most if table.min() < 0 else 0, most)
    return shown


both_maps(tables, "correlation")

# %% [markdown]
# Correlation sees linear relations only, the {term}`mutual information` any kind:
#
# $$
# \mathrm{I}(z; v) = D_{\mathrm{KL}} \big( p(z, v) \,\Vert\, p(z)\, p(v) \big) .
# $$ (def-mutual-information)
#
# Estimated from $n$ examples in $20 \times 20$ bins, it is too large: by chance, bins are never filled in exact proportion, and each deviation counts as information. For independent variables that is about $19^2 / (2n)$ nats, 0.04 for our 5,000 houses; shuffled factors show it, and an entry of that size means nothing. And several latents may share a factor. So the {term}`mutual information gap` (MIG) {cite:p}`chen2018` takes, for each factor $v_k$, the difference between the two most informative latents $j_1$ and $j_2$, as a fraction of the binned entropy $H(v_k)$:
#
# $$
# \mathrm{MIG}_k = \frac{1}{H(v_k)} \Big( \mathrm{I}(z_{j_1}; v_k) - \mathrm{I}(z_{j_2}; v_k) \Big) .
# $$ (def-mig)
#
# It is one where a single latent says everything, and zero where two say the same or none says anything.
#
# In the annealed network the gap is larger for all factors but the elevation (box). Is that the work of the schedule, or of one run? With smaller VAEs the falling weight lowers the bound and on average raises the gap, but not yet after a quarter of the steps, and a single run may hardly show it ({ref}`experiment <exp-disentanglement>`). {cite:t}`locatello2019` found over thousands of runs that such scores vary as much between seeds as between methods.
#
# :::{depth-start} the falling weight raises the gap on average, in one run hardly
# :::
# {numref}`fig-mig` has the gap of each factor.

# %% tags=["figure"] mystnb={"image": {"alt": "Two panels of five bars, for azimuth, elevation, light, size and hue. The bars of the annealed VAE are higher than those of the plain one for all factors but elevation, where they are lower."}, "figure": {"caption": "Mutual information gap of each factor.", "name": "fig-mig"}}
mutual = {name: mutual_information(z, house.factors) for name, z in draws.items()}
gaps = {name: mutual_information_gap(table, math.log(20)) for name, table in mutual.items()}
fig, panels = plots.figure(2, height=2.2)
for axes, (name, gap) in zip(panels, gaps.items(), strict=True):
    values = dict(zip(short, gap.tolist(), strict=True))
    _ = axes.set_ylim(0, 0.8)
    shown = plots.bars(values, value_label=f"gap ({name} VAE)", axes=axes)
shown

# %% [markdown]
# **What should be punished?** The weight $\beta$ punishes the information, too. But the mismatch of $q(z)$ and prior splits once more {cite:p}`chen2018`: into the *total correlation* $D_{\mathrm{KL}}(q(z) \,\Vert\, \prod_j q(z_j))$, the dependence between latents, and the KL divergences of the single $q(z_j)$. To make latents independent, a weight on the total correlation is enough; but independence alone fixes no axes ({ref}`below <sec-no-axes>`).
#
# More runs decide ({ref}`experiment <exp-disentanglement>`), of smaller VAEs on smaller houses. Over three seeds they have a mean gap of 0.07 ± 0.01 with the constant weight and of 0.25 ± 0.02 with the falling one; with products in bfloat16 and the same seeds it is 0.07 ± 0.01 and 0.23 ± 0.07. The falling weight lowers the KL divergence by 8.9 ± 0.3 nats and the bound by 61 ± 31 nats. So it raises the gap on average, at a price, and a single run can show hardly any of it. (bfloat16 keeps eight significant bits of a number.)
#
# For two jointly Gaussian variables with correlation $\rho$ the mutual information is
#
# $$
# \mathrm{I}(z; v) = - \tfrac12 \log \big( 1 - \rho^2 \big) .
# $$ (eq-normal-information)
#
# The companion estimates it by sorting both variables into twenty equally filled bins, so the largest possible value is the entropy $\log 20 \approx 3$ nats. It takes draws of $z$, not means: bins depend on ranks only, so the tiny changes in the mean of an inactive latent would count as much as the large ones of an active latent. In {numref}`fig-information` a second latent of the annealed network has information about azimuth. It is correlated with the square of the angle: it says how *far* the house is turned, and hardly in which direction.
#
# The rounding alone, with the same seed, changed the gap of a smaller network with the falling weight by −0.19 to 0.10, as another seed may. After a quarter of the steps there is no gain yet: 0.05 ± 0.03 with the falling weight and 0.05 ± 0.02 with the constant one ({ref}`experiment <exp-disentanglement>`).

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
second = int(mutual["annealed"][:, 0].argsort(descending=True)[1])
angle, latent = house.factors[:, 0], draws["annealed"][:, second]
linear, square = (torch.corrcoef(torch.stack([latent, v]))[0, 1].abs() for v in (angle, angle**2))
print(
    "the second latent follows the square of the azimuth rather than it:", bool(square > 2 * linear)
)

# %% tags=["figure"] mystnb={"image": {"alt": "Two matrices of eight latents and five factors. On the left, the plain VAE, azimuth and size have several dim cells, the others one brighter cell. On the right, the annealed VAE, light, size and hue have one bright cell each; azimuth has a bright one in the row of its latent and a second in row zero; elevation has three dim ones."}, "figure": {"caption": "Mutual information of latents and factors, as a share of the entropy of a factor: plain (left), annealed (right).", "name": "fig-information"}}
both_maps({name: table / math.log(20) for name, table in mutual.items()}, "share of log 20")

# %% [markdown]
# :::{depth-end}
# :::
#
# *Sources: B18.*

# %% [markdown]
# (sec-editing)=
# ## Editing an image by its latents
#
# If a latent encodes one factor, an image can be edited: *encode* it, *draw* its latent, *set* a dimension to a new value, *decode*, and *draw* the new image (we show the mean). For each factor we take its *best latent* in the annealed network, the one with the largest correlation. An edit starts from the reconstruction: what the code does not hold, such as sharp edges, is lost before anything is changed. Of an image unlike the training data that may be most, since the decoder draws what it learned to draw: look at the reconstruction error and the KL divergence.

# %% tags=["figure"]
table = tables["annealed"]
latent_of = table.abs().argmax(0).tolist()  # for each factor its latent
sign_of = [float(table[j, k].sign()) for k, j in enumerate(latent_of)]
start = vae.posterior(house.images[:1]).sample()  # encode


def edited(*values):
    z = start.clone()
    for k, value in zip((0, 2, 4), values, strict=True):  # azimuth, light, hue
        z[0, latent_of[k]] = sign_of[k] * value
    return vae.likelihood(z).mean[0].clamp(0, 1).permute(1, 2, 0)  # decode


stops = [-1.8, -1.2, -0.6, 0.0, 0.6, 1.2, 1.8]
alt = "A house with azimuth latent {}, light {}, hue {}"
Editor({f"{name} latent": stops for name in ("azimuth", "light", "hue")}, edited, alt=alt)

# %% tags=["figure"] mystnb={"image": {"alt": "Eight rows of seven houses. In one row the house turns, in others its light, its size or its color changes; two rows change little."}, "figure": {"caption": "A *latent traversal*: in each row one latent goes from $-1.8$ to $1.8$.", "name": "fig-traversal"}}
ways = torch.linspace(-1.8, 1.8, 7)
rows = {}
for j in range(8):
    z = start.repeat(7, 1)
    z[:, j] = ways
    rows[f"z{j}"] = vae.likelihood(z).mean.clamp(0, 1)
plots.image_rows(rows, tile=0.45)

# %% [markdown]
# Over 93 % of the prior, some rows turn the house or change its light, size or color; two change little. This shows what the decoder does at one code, not that a latent is a factor of the data. So we read off the factors of the nearest of 5,000 rendered houses:


# %% tags=["numbers", "columns"]
def factors_of(images):
    distances = torch.cdist(images.flatten(1), house.images.flatten(1))
    return house.factors[distances.argmin(1)]


def change(model, z, step):
    """Mean change of the five factors from z - step to z + step, as a share of their ranges."""
    before, after = (factors_of(model.likelihood(z + s * step).mean) for s in (-1, 1))
    return (after - before).mean(0) / (high - low)


_ = torch.manual_seed(0)
z = vae.posterior(house.images[:300]).sample()
print("latent of  azimuth  elevation  light   size    hue")
widths = 7, 9, 5, 5, 5
for k, name in enumerate(house.names):
    z[:, latent_of[k]], kept = 0.0, z[:, latent_of[k]].clone()
    moved = change(vae, z, sign_of[k] * torch.eye(8)[latent_of[k]])
    z[:, latent_of[k]] = kept
    shown = (f"{value:+{width}.2f}" for value, width in zip(moved.tolist(), widths, strict=True))
    print(f"{name:9}  " + "  ".join(shown))

# %% [markdown]
# (Fractions of each factor's range, over 300 houses, for a latent from −1 to 1.) Azimuth, light, size and hue move by about half of their range with their own latent (0.68 if codes fill the prior), and hardly with the others. The latent of elevation, the factor with the smallest gap, fails. So editing by one latent works where a factor has a latent to itself; test that with something other than the model.
#
# *Sources: B17.*

# %% [markdown]
# (sec-no-axes)=
# ## What fixes the axes
#
# Why should a single latent have a meaning? A common answer is that the *diagonal prior* makes the dimensions of $z$ independent, and so disentangles them. It cannot: $p(z) = \mathcal{N}(z; 0, I)$ is the same in all directions. So for any rotation $R$, that is $R R^\top = I$, a decoder that first rotates its input back makes the same model:
#
# $$
# p(R z) = p(z), \qquad \tilde{p}_\theta(x \mid z) = p_\theta(x \mid R^\top z) \;\Longrightarrow\; \tilde{p}_\theta(x, R z) = p_\theta(x, z) .
# $$ (eq-rotated-model)
#
# Both give every image the same probability: no amount of data can distinguish them.
#
# **Checks.** The first compares the density of the prior before and after the rotation; a variance of 1.05 in one direction is rejected, and a shear instead of the rotation. The second compares the whole model with the trained decoder; a decoder that is not rotated is rejected, and one that is rotated the wrong way.


# %% tags=["check", "nbval-check-output"]
def log_prior(z, variances=1.0):
    return Normal(0.0, torch.as_tensor(variances).double() ** 0.5).log_prob(z).sum(1)


def log_joint(z, back):
    """log p(x | back z) + log p(z), in nats."""
    log_p = vae.likelihood(z @ back.T).log_prob(house.images[:200])
    return (log_p + vae.prior(len(z)).log_prob(z)).double()


_ = torch.manual_seed(0)
R = torch.linalg.qr(torch.randn(8, 8).double()).Q
z = vae.posterior(house.images[:200]).sample()
nearly, shear = torch.ones(8).double(), torch.eye(8).double()
nearly[0], shear[0, 1] = 1.05, 0.05
wrong = {"one variance 1.05": log_prior(z.double() @ R.T, nearly)}
wrong["a shear"] = log_prior(z.double() @ shear.T)
verify("eq-rotated-model", log_prior(z.double() @ R.T), log_prior(z.double()), rejects=wrong)
R, original = R.float(), log_joint(z, torch.eye(8))
turned = {"not rotated": log_joint(z @ R.T, torch.eye(8))}
turned["rotated the wrong way"] = log_joint(z @ R.T, R)
rule = exact.within(1e-4)
verify("eq-rotated-model", log_joint(z @ R.T, R.T), original, rule, rejects=turned)

# %% [markdown]
# Yet single latents do have a meaning in {numref}`fig-correlations`. The only part of the bound that can prefer these axes is the diagonal covariance of $q_\phi(z \mid x)$ {cite:p}`rolinek2019`. If the posterior's variances differ, its contours are ellipses, which a diagonal Gaussian fits along the axes, but not after a rotation. For a Gaussian posterior with precision matrix $P$ the best diagonal $q$ loses, as in the linear case {eq}`eq-rotation-gap`,
#
# $$
# \begin{aligned}
# & \min_{\Lambda \text{ diagonal}} D_{\mathrm{KL}} \big( \mathcal{N}(m, \Lambda) \,\Vert\, \mathcal{N}(m, P^{-1}) \big) \\
# & \qquad = \tfrac12 \Big( \sum_j \log P_{jj} - \log \det P \Big) ,
# \end{aligned}
# $$ (eq-rotation-price)
#
# reached at $\Lambda_{jj} = 1 / P_{jj}$. If all variances are equal, $P$ stays a multiple of the identity, and the loss is zero: a circle has no axes.
#
# **Check.** As a function of the log-variances $s_j$ the KL divergence is $\frac12 \sum_j (P_{jj} e^{s_j} - s_j)$ plus a constant, which is convex, so its minimum is where the gradient is zero. torch's KL divergence and its gradient are computed at this $\Lambda$, for the posterior of one house after a rotation. The value at the marginal variances $(P^{-1})_{jj}$ is rejected.

# %% tags=["check", "nbval-check-output"]
R = torch.linalg.qr(R.double()).Q
P = R @ torch.diag(1 / vae.posterior(house.images[:1]).variance[0].double()) @ R.T
P = (P + P.T) / 2
rotated = MultivariateNormal(torch.zeros(8).double(), precision_matrix=P)


def kl_of(log_variance):
    diagonal = torch.diag(log_variance.exp())
    return kl_divergence(MultivariateNormal(torch.zeros(8).double(), diagonal), rotated)


best = (-P.diagonal().log()).requires_grad_()
(gradient,) = torch.autograd.grad(kl_of(best), best)
print("no diagonal is better:", bool(gradient.abs().max() < 1e-9))
price = 0.5 * (P.diagonal().log().sum() - torch.logdet(P))
wrong = {"marginals": kl_of(P.inverse().diagonal().log())}
verify("eq-rotation-price", kl_of(best.detach()), price, exact, rejects=wrong)

# %% [markdown]
# We rotate two latents, rotate the decoder's input back, take the nearest diagonal $q$, and measure the bound:


# %% tags=["serves"]
def turned_bound(R, x, vae=vae):
    """The bound with the decoder rotated, and the loss that the formula predicts."""
    q = vae.posterior(x)
    P = torch.einsum("jk,nk,lk->njl", R, 1 / q.variance, R)
    fit = Normal(q.mean @ R.T, P.diagonal(dim1=1, dim2=2).rsqrt())
    kl = kl_divergence(fit, Normal(0.0, 1.0)).sum(1)
    price = 0.5 * (P.diagonal(dim1=1, dim2=2).log().sum(1) + q.variance.log().sum(1))
    return vae.likelihood(fit.sample() @ R).log_prob(x) - kl, price.mean()


# %% tags=["figure"] mystnb={"image": {"alt": "Two panels over an angle from 0 to 90 degrees. Left: nats lost. For azimuth with light the curve stays near zero; for azimuth with the widest latent it is an arch that peaks near 45 degrees, and crosses of the formula lie on both curves. Right: the correlation of the turned latent with azimuth falls from above 0.9 to 0, that with light rises from 0 to above 0.9."}, "figure": {"caption": "Left: nats lost when the azimuth latent is rotated into that of light or the widest one (lines: measured; crosses: the formula). Right: correlation of the first latent with both factors during the first rotation.", "name": "fig-rotation-price"}}
def rotation(degree, j, k):
    R, angle = torch.eye(8), math.radians(degree)
    R[j, j], R[k, k] = math.cos(angle), math.cos(angle)
    R[j, k], R[k, j] = -math.sin(angle), math.sin(angle)
    return R


seen, degrees = house.images[:2000], torch.linspace(0, 90, 10)
widest = int(vae.posterior(seen).variance.mean(0).argmax())
turns = {"light": (latent_of[0], latent_of[2]), "widest": (latent_of[0], widest)}
fig, (left, right) = plots.figure(2, height=2.6)
lost = {}
for name, (j, k) in turns.items():
    bounds, prices = [], []
    for degree in degrees.tolist():
        _ = torch.manual_seed(0)
        bound, price = turned_bound(rotation(degree, j, k), seen)
        bounds.append(bound)
        prices.append(price.cpu())
    lost[f"with {name}"] = (degrees, (bounds[0] - torch.stack(bounds)).mean(1))
    _ = left.plot(degrees.cpu(), prices, "k+")
_ = plots.curves(lost, x_label="angle (degrees)", y_label="nats lost", axes=left)
mixed = [draws["annealed"] @ rotation(degree, *turns["light"]).T for degree in degrees.tolist()]
now = torch.stack([correlations(z, house.factors)[latent_of[0]].abs() for z in mixed])
lines = {"azimuth": (degrees, now[:, 0]), "light": (degrees, now[:, 2])}
plots.curves(lines, x_label="angle (degrees)", y_label="correlation", axes=right)

# %% [markdown]
# The latents of azimuth and light have nearly the same posterior variance: to rotate them into each other costs almost nothing (left), although it mixes the two factors (right). Azimuth and the latent with the largest variance cost more than a nat, as the formula says. So the diagonal $q$ fixes the axes only through the *differences* between its variances. What kept azimuth and light apart is thus not the final bound; what did is open.
#
# :::{depth-start} a random rotation costs the annealed network more nats than the plain one
# :::
# The posterior variances of azimuth and light are within a factor of two for nine houses in ten. Now all eight latents are rotated at random:

# %% tags=["numbers", "columns"]
_ = torch.manual_seed(0)
R = torch.linalg.qr(torch.randn(8, 8)).Q
print("network   nats lost  formula  mean gap before  after")
for name, model in models.items():
    upright, turned = (turned_bound(turn, seen, model)[0] for turn in (torch.eye(8), R))
    price, loss = turned_bound(R, seen, model)[1], upright - turned
    information = mutual_information(draws[name] @ R.T, house.factors)
    after = mutual_information_gap(information, math.log(20)).mean()
    measured = f"{loss.mean():.1f} ± {loss.std() / len(seen) ** 0.5:.1f}"
    print(f"{name:8}  {measured:9}  {price:7.1f}  {gaps[name].mean():15.2f}  {after:5.2f}")

# %% [markdown]
# The plain network, whose variances are about equal, loses less, as the formula predicts. (This loss is an upper bound: an encoder trained anew might lose less.) The differences between the variances are large in the annealed network; in smaller ones they were large also where the gap stayed small ({ref}`experiment <exp-disentanglement>`).
#
# Why do azimuth and light lie on separate axes? Our guess, untested: under the falling weight one had its latent while the other was still near the prior; then their variances differed widely, and later nothing rotated them.
#
# :::{depth-end}
# :::
#
# Without assumptions, then, disentanglement cannot be learned {cite:p}`locatello2019`. A diagonal $q$ makes one: that the factors differ in the precision of their codes. Others are labels for a few images, or pairs that differ in one known factor.

# %% [markdown]
# (sec-dead-mixed)=
# ## A dead or a mixed latent, and what to do
#
# **Dead.** A latent whose $q_\phi(z_j \mid x)$ is the prior for every $x$ says nothing. Its average KL divergence shows it:

# %% tags=["numbers", "nbval-check-output", "mnist"]
_ = torch.manual_seed(0)
q = deep.posterior(x[:2000])
of_latent = kl_divergence(Normal(q.mean, q.stddev), Normal(0.0, 1.0)).mean(0)
dead, z = of_latent < 0.01, q.sample()
print(f"dead: {dead.sum()} of 50, KL together {of_latent[dead].sum():.4f} nats", end="; ")
print(f"weakest of the others {of_latent[~dead].min():.2f} nats")
weakest = of_latent == of_latent[~dead].min()
for name, chosen in {"all dead ones": dead, "the weakest other": weakest}.items():
    other = torch.where(chosen, torch.randn_like(z), z)
    moved = (deep.likelihood(other).mean - deep.likelihood(z).mean).square().flatten(1).sum(1)
    print(f"drawn again, {name}: squared change of the image {moved.mean():.2f}")

# %% [markdown]
# Of the 50 latents of chapter 6's network 35 are dead. They cost nothing, and the decoder ignores them. Leave them out where codes are compared. If the training lost something, chapter 6 has {ref}`remedies <sec-collapse>`. If what is left to say is worth less than its nats {eq}`eq-water-filling`, only another loss makes the code say more: $\beta < 1$, which for a Gaussian decoder is the same as less noise {eq}`eq-beta-level`.
#
# **Mixed.** In the plain network nearly every latent has to do with several factors. (If an edit changes two factors, they may also be correlated in the data. Images that differ in one factor alone tell: if several latents react, the code is mixed.) But a factor may be a *direction* between the axes. With labels for a few images, regress the codes on them. For one binary attribute $y$ this is the difference of two mean codes, the {term}`attribute vector`, added to a code in multiples:
#
# $$
# \mathbb{E}[z \mid y = 1] - \mathbb{E}[z \mid y = 0] = \frac{\operatorname{Cov}(z, y)}{\pi (1 - \pi)}, \qquad \pi = P(y = 1) .
# $$ (eq-attribute)
#
# The right side is a slope, so the vector contains everything that varies together with $y$ in the data: if the people with glasses are older, a part of it is age. Regressing on several labels at once separates them, here with a hundred labeled houses:
#
# **Check.** The attribute is the slant of a digit, the slope of a regression of column on row over the ink; $y = 1$ for the three tenths that lean most to the right. The difference of the means is compared with a least-squares solver and with the covariance. The covariance over $\pi$ alone is rejected, and the mean of the codes with the attribute.


# %% tags=["check", "nbval-check-output"]
def slant(images):
    """Shift to the right per pixel upwards, by least squares over the ink."""
    ink = images.flatten(1) / images.flatten(1).sum(1, keepdim=True)
    row, column = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")
    row, column = row.flatten(), column.flatten()
    down = row - (ink @ row)[:, None]
    right = column - (ink @ column)[:, None]
    return -(ink * down * right).sum(1) / (ink * down**2).sum(1)


z, leans = digits_vae.posterior(x).mean.double(), slant(test.images)
y = (leans > leans.quantile(0.7)).double()
pi = y.mean()
difference = z[y == 1].mean(0) - z[y == 0].mean(0)
design = torch.stack([torch.ones_like(y), y], 1)
fitted = torch.linalg.lstsq(design, z).solution[1]
wrong = {"over pi alone": difference * (1 - pi), "not less the others": z[y == 1].mean(0)}
verify("eq-attribute", difference, fitted, rejects=wrong)
covariance = ((z - z.mean(0)) * (y - pi)[:, None]).mean(0)
verify("eq-attribute", difference, covariance / (pi * (1 - pi)), rejects=wrong)

# %%
labeled = house.images[:100], (house.factors[:100] - low) / (high - low)
design = torch.cat([labeled[1], torch.ones(100, 1)], 1)
codes = models["plain"].posterior(labeled[0]).mean
directions = torch.linalg.lstsq(design, codes).solution[:5]  # a row for each factor

# %% tags=["figure"] mystnb={"image": {"alt": "Two rows of seven houses. In the upper row the house turns, and its color goes from blue to green and its light and size change. In the lower row it turns and stays turquoise, darker at the right."}, "figure": {"caption": "Azimuth in the plain network: along its best latent (above), and along its direction (below), equally far.", "name": "fig-mixed"}}
latents = tables["plain"].abs().argmax(0)
signs = tables["plain"][latents, torch.arange(5)].sign()
axes_of = torch.eye(8)[latents] * (signs * directions.norm(dim=1))[:, None]
z = models["plain"].posterior(house.images[:1]).mean
shares = torch.linspace(-0.5, 0.5, 7)[:, None]
ways = {"latent": axes_of[0], "direction": directions[0]}
rows = {k: models["plain"].likelihood(z + shares * way).mean.clamp(0, 1) for k, way in ways.items()}
plots.image_rows(rows, tile=0.7)

# %% [markdown]
# For the other factors (box), too, the direction moves its own at least as far as the latent does, and the others far less. So with a few labels a mixed latent is no obstacle to editing.
#
# :::{depth-start} directions move every factor of the houses, and lean digits of every class
# :::
# For each factor of the plain network, with the changes of the others added up:

# %% tags=["numbers", "columns"]
_ = torch.manual_seed(0)
z = models["plain"].posterior(house.images[1000:1300]).sample()
print("factor     latent: its own  the others  direction: its own  the others")
for k, name in enumerate(house.names):
    shown = []
    for way in (axes_of[k], directions[k]):
        moved = change(models["plain"], z, way / 2)
        shown += [f"{moved[k]:15.2f}", f"{moved.abs().sum() - moved[k].abs():10.2f}"]
    print(f"{name:9}  " + "  ".join(shown))

# %% [markdown]
# **Slant.** The vector between the halves of the test digits below and above the median slant, added to the codes of digits in multiples, leans them as in {numref}`fig-slant`; at the ends some lose their shape.

# %% tags=["figure", "mnist"] mystnb={"image": {"alt": "Five rows of seven digits. In each row a digit leans more to the right from column to column. At the left end the 5 has become something like a 9, and the 8 a loop."}, "figure": {"caption": "Five digits with multiples of the slant vector added to their codes. ", "name": "fig-slant"}}
z, upper = digits_vae.posterior(x).mean, leans > leans.median()
vector = z[upper].mean(0) - z[~upper].mean(0)
chosen = [int((test.labels == k).nonzero()[0]) for k in (1, 4, 5, 7, 8)]
amounts = [-2.0, -1.3, -0.7, 0.0, 0.7, 1.3, 2.0]
rows = {
    str(test.labels[i].item()): digits_vae.likelihood(
        z[i] + torch.tensor(amounts)[:, None] * vector
    ).mean
    for i in chosen
}
plots.image_rows(rows, titles=[f"{a:+.1f}" for a in amounts], tile=0.7)

# %% [markdown]
# From −2 to 2 vectors the mean slant of a thousand digits changes by more than the range of 95 percent of the real digits, and it grows in every class. One latent alone, that of the largest component, moved as far, changes it by less. Like every regression slope the vector contains the correlations of the data: if zeros lean more often than sixes, a part of it points from sixes to zeros.

# %% tags=["held", "nbval-check-output", "mnist"]
leaning = torch.stack([slant(digits_vae.likelihood(z[:1000] + a * vector).mean) for a in amounts])
steps = leaning[-1] - leaning[0]
real = leans.quantile(torch.tensor([0.025, 0.975]))
print("more than the range of real digits:", bool(steps.mean() > real[1] - real[0]))
by_class = torch.stack([steps[test.labels[:1000] == k].mean() for k in range(10)])
print("more vector, more slant:", bool((leaning.mean(1).diff() > 0).all()))
print("in every class:", bool((by_class > 0).all()))
largest = int(vector.abs().argmax())
axis = torch.zeros(16)
axis[largest] = vector.norm() * vector[largest].sign()
alone = [slant(digits_vae.likelihood(z[:1000] + a * axis).mean).mean() for a in (-2, 2)]
print("the best single latent does less:", bool(alone[1] - alone[0] < steps.mean()))

# %% [markdown]
# :::{depth-end}
# :::

# %% [markdown]
# (sec-anomalies)=
# ## What goes wrong: a likelihood is no measure of normality
#
# In {ref}`chapter 1 <sec-uses>` an anomaly was what an autoencoder reconstructs badly. Is a low $\log p_\theta(x)$ better? We estimate it, for the images of {numref}`fig-strange`, by the importance-weighted bound $L_{50}$ of 50 draws {eq}`def-k-sample-bound`, with the network of 50 latents.

# %% tags=["figure", "mnist"] mystnb={"image": {"alt": "Six rows of eight images: digits, digits with shuffled pixels, digits mirrored top to bottom, digits without their upper half, empty black images, and single vertical bars of different widths and places."}, "figure": {"caption": "Digits, and five kinds of images that are none.", "name": "fig-strange"}}
_ = torch.manual_seed(0)
some = x[:400]
bars = torch.zeros(200, 1, 28, 28)
for bar, left, width in zip(
    bars, torch.randint(11, 16, (200,)), torch.randint(1, 4, (200,)), strict=True
):
    bar[:, 4:24, left : left + width] = 1
strange = {
    "shuffled": some[:200].flatten(1)[:, torch.randperm(784)].view(200, 1, 28, 28),
    "mirrored": some[:200].flip(2),
    "lower half": some[:200] * (torch.arange(28)[:, None] >= 14),
    "empty": torch.zeros(200, 1, 28, 28),
    "a bar": bars,
}
plots.image_rows({"digits": some[:8]} | {k: v[:8] for k, v in strange.items()}, tile=0.5)

# %% [markdown]
# The {term}`AUROC` is the probability that an anomaly has a lower estimate than a digit; one half is chance.

# %% tags=["numbers", "columns"]
_ = torch.manual_seed(0)
normal = log_likelihood(deep, some, 50)
scores = {name: log_likelihood(deep, images, 50) for name, images in strange.items()}
print("images      log p (nats)  AUROC")
print(f"digits      {normal.mean():12.1f}      -")
for name, score in scores.items():
    print(f"{name:10}  {score.mean():12.1f}  {auroc(-normal, -score):5.2f}")

# %% [markdown]
# Shuffled digits are found, but the empty image is *more* likely than nearly every digit, and a bar than most: minus the log-likelihood is the length of a file ({ref}`chapter 3 <sec-bits-back>`), and an image with little in it has a short one. For photographs {cite:t}`nalisnick2019` found the same. An anomaly is what is more likely under *another distribution*, of which a model of digits knows nothing. So no score made of $p_\theta$ alone can find every kind.
#
# :::{depth-start} neither a better encoder nor a test of typicality repairs the score
# :::
# The encoder was trained on digits, so for mirrored ones $L_{50}$ may lie far below $\log p_\theta(x)$ ({ref}`chapter 6 <sec-amortization-gap>`). With $q$ fitted to each of a hundred images by gradient steps on the bound, mirrored digits gain more than digits do, and are still found with an AUROC below 0.9.
#
# **A typical point is not the most likely one.** For $z \sim \mathcal{N}(0, I_d)$ the surprise $- \log p(z)$ has
#
# $$
# \begin{gathered}
# \mathbb{E} \big[ - \log p(z) \big] = \tfrac{d}{2} \log (2 \pi e), \qquad \operatorname{Var} \big[ - \log p(z) \big] = \tfrac{d}{2} , \\
# \mathbb{E} \big[ - \log p(z) \big] - \min_z \big( - \log p(z) \big) = \tfrac{d}{2} ,
# \end{gathered}
# $$ (eq-typical-surprise)
#
# so the surprise at the mode lies $\sqrt{d / 2}$ standard deviations below its mean: in high dimensions the most likely point is very unlike a typical draw. This suggests a test of *typicality* {cite:p}`nalisnick2019b`: an anomaly is an image whose log-likelihood is far from the mean of the digits, on either side. With this network it finds the empty image and more of the bars, but it also flags real images of a 1.
#
# **A density depends on the coordinates** {cite:p}`lelan2021`. Transform a continuous $x$ by its own distribution function $F$. The new variable $y = F(x)$ carries the same information, but its density is constant:
#
# $$
# p_Y(y) = \frac{p_X(x)}{F'(x)} = 1 \qquad \text{at } y = F(x) .
# $$ (eq-flattened)
#
# A score that a change of coordinates can make constant does not measure anomaly. (In more dimensions the map takes, for each coordinate, its distribution function given those before it. Probabilities of black-and-white images do not have this problem; densities of photographs do.)

# %% tags=["check", "nbval-check-output"]
_ = torch.manual_seed(0)
d = 50
z = torch.randn(100_000, d).double()
surprise = 0.5 * z.square().sum(1) + 0.5 * d * math.log(2 * math.pi)
mean = 0.5 * d * math.log(2 * math.pi * math.e)
smallest = 0.5 * d * math.log(2 * math.pi)
samples = torch.stack([surprise, (surprise - mean) ** 2, surprise - smallest], 1)
right = torch.tensor([mean, d / 2, d / 2]).double()
wrong = {"variance d": torch.tensor([mean, d, d / 2]).double()}
verify("eq-typical-surprise", samples, right, monte_carlo, rejects=wrong)

density = Normal(torch.tensor(1.0).double(), 2.0)
point = torch.linspace(-4, 6, 11).double().requires_grad_()
(slope,) = torch.autograd.grad(density.cdf(point).sum(), point)
flat = (density.log_prob(point).exp() / slope).detach()
times = {"times the slope": (density.log_prob(point).exp() * slope).detach()}
verify("eq-flattened", flat, torch.ones(11).double(), autograd, rejects=times)


# %% tags=["held", "nbval-check-output", "mnist"]
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


_ = torch.manual_seed(0)
again, mirrored = refined(some[:100]), refined(strange["mirrored"][:100])
gained = (mirrored - scores["mirrored"][:100]).mean() - (again - normal[:100]).mean()
print("with q refitted, mirrored digits gain more than digits:", bool(gained > 0))
print("and are still found with less than 0.9:", auroc(-again, -mirrored) < 0.9)
far, ones = (normal - normal.mean()).abs(), test.labels[:400] == 1
both = {k: auroc(far, (score - normal.mean()).abs()) for k, score in scores.items()}
print("typicality: the empty image is found:", both["empty"] > 0.9)
better = both["a bar"] - auroc(-normal, -scores["a bar"])
print("bars better than before, by 0.2:", better > 0.2)
print("real ones are flagged:", auroc(far[~ones], far[ones]) > 0.8)

# %% [markdown]
# :::{depth-end}
# :::
#
# :::{dropdown} If you come from the lectures
# A common slide says that a diagonal prior makes the dimensions independent and so disentangles them. Draws of the prior are independent, but the prior is the same in all directions {eq}`eq-rotated-model`; what fixes the axes is the diagonal approximate posterior. Anomaly detection is often listed among the uses of an autoencoder; with the likelihood as the score, an empty image passes for a digit. For photographs the companion has a recipe, `python -m companion train vae-cifar10`, which needs a GPU; none was trained for this edition, so the chapter says nothing of photographs or faces.
# :::

# %% [markdown]
# (sec-latent-exercises)=
# ## Exercises
#
# Replace the three dots by your answer and run the cell.

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
# A latent and a factor are jointly Gaussian with correlation 0.95. How large is their mutual information in nats? And which correlation has a mutual information of exactly one nat? Give a pair.

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
# Write the mutual information gap of each factor, a tensor with one number for each, given a table of mutual information with a row for each latent, and the entropy of the factors.


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
# - Noise makes the decoder draw one image for a neighborhood, and the KL divergence keeps the neighborhoods together. Holes are left between the classes; the blur is an average {eq}`eq-decoder-average`.
# - Whether line or arc {eq}`def-slerp`, or a low temperature, gives more digits depends on the network.
# - The prior gives the axes no meaning {eq}`eq-rotated-model`; a diagonal $q$ does where its variances differ {eq}`eq-rotation-price`. Known factors measure it {eq}`def-mig`.
# - A dead latent costs nothing. A factor without a latent of its own has a direction {eq}`eq-attribute`.
# - A likely image need not be normal.
