# %% [markdown]
# # Latent space
#
# A trained decoder turns every point of its latent space into a picture. So the space can be drawn as a map, crossed on foot, and searched. Does a place on the map mean anything? Is there a direction for *thicker*, for *turned to the left*, for *wrong*?
#
# Sometimes. This chapter walks, edits and measures. It also shows three popular beliefs failing: that draws closer to the origin look better, that the axes of a latent space mean something by themselves, and that a picture with a high likelihood must be a normal one.

# %% tags=["setup", "hide-input"]
# The set-up cell: tools/notebooks.py writes it.

# %%
import math

import torch
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from companion import data, plots
from companion.checkpoints import load_weights
from companion.data import SCENE_FACTORS, binarize, render_scenes, scenes
from companion.elbo import elbo_terms
from companion.interactive import Editor, Slider
from companion.metrics import (
    auroc,
    energy_test,
    log_likelihood,
    mutual_information,
    mutual_information_gap,
)
from companion.samplers import spherical_interpolation
from companion.source import show
from companion.vae import GaussianLikelihood, conv_vae, mlp_vae
from companion.verify import autograd, exact, monte_carlo, quadrature, verify

_ = torch.manual_seed(0)
test = data.load("mnist", "test")
plane, digits_vae, deep = mlp_vae(latent_dim=2), conv_vae(), mlp_vae()
for name, model in {
    "vae2d-mnist": plane,
    "conv-vae-mnist": digits_vae,
    "vae-mnist": deep,
}.items():
    _ = load_weights(name, model.requires_grad_(False))

# %% [markdown]
# The cell loads three networks of the last chapter's kind, with 2, 16 and 50 latents; their {doc}`cards </book/models>` tell how each was trained. The one with two latents comes first: its whole space fits on a page.

# %% [markdown]
# (sec-latent-plane)=
# ## A map of the plane
#
# Each picture below is decoded from one point of the plane. The points are not evenly spaced. Their coordinates are quantiles of the normal law, so that each of the 17 times 17 pictures stands for a region of equal probability under the prior: what you see more of, the model invents more often.

# %% tags=["mnist"] mystnb={"image": {"alt": "A square of seventeen by seventeen decoded digits. Regions of ones, sevens, nines, sixes, zeros, threes and others lie side by side and pass into each other through in-between shapes."}, "figure": {"caption": "The latent plane, decoded. Neighbors are alike, and each picture stands for the same share of the prior.", "name": "fig-plane-map"}}
side = 17
levels = Normal(0.0, 1.0).icdf((torch.arange(side) + 0.5) / side)
across, up = torch.meshgrid(levels, levels.flip(0), indexing="xy")
grid = torch.stack([across.flatten(), up.flatten()], 1)
plots.image_grid(plane.likelihood(grid).mean, columns=side, tile=0.4)

# %% [markdown]
# {numref}`fig-plane-map` has no empty region: every point decodes to some digit-like shape. That is what the {ref}`autoencoders of chapter 1 <sec-no-sampling>` did not have. Now the other way: where does the encoder put real digits? Each dot is the mean of $q_\phi(z \mid x)$ for one test digit.

# %% tags=["mnist"] mystnb={"image": {"alt": "Two thousand dots in the plane in ten colors. Zeros, ones and sixes form clouds of their own; fours and nines, and threes, fives and eights overlap near the middle. Together the dots fill a disk."}, "figure": {"caption": "Two thousand test digits in the plane, by their class. No label was used in training.", "name": "fig-plane-digits"}}
x = binarize(test.images)
q = plane.posterior(x)
plots.scatter(
    q.mean[:2000],
    test.labels[:2000],
    x_label="first latent",
    y_label="second latent",
)

# %% [markdown]
# The dots together are (up to the small spread of each $q_\phi(z \mid x)$) the {term}`aggregate posterior` $q(z) = \mathbb{E}_{x}\, q_\phi(z \mid x)$. For inventions to look like data it should be close to the prior {eq}`eq-surgery`. Its mean and covariance follow from those of the single guesses, by the law of total variance:
#
# $$
# \operatorname{Cov}_{q(z)}[z] = \mathbb{E}_{x} \operatorname{diag} \sigma_\phi^2(x) + \operatorname{Cov}_{x} \big[ \mu_\phi(x) \big] .
# $$ (eq-aggregate-covariance)
#
# The check draws from $q(z)$ for the network with 16 latents: a random digit, then a $z$. Both parts are needed; the spread of the means alone is rejected.

# %% tags=["nbval-check-output"]
_ = torch.manual_seed(0)
q = digits_vae.posterior(x)
mean, variance = q.mean.double(), q.variance.double()
which = torch.randint(len(x), (200_000,))
z = mean[which] + variance[which].sqrt() * torch.randn(200_000, 16).double()
squares = (z - mean.mean(0)).square().sum(1)
of_means = mean.var(0, correction=0).sum()
verify(
    "eq-aggregate-covariance",
    squares,
    variance.mean(0).sum() + of_means,
    monte_carlo,
    rejects={"means alone": of_means},
)

# %% [markdown]
# If $q(z)$ were the prior, both parts would add up to one in each latent. Printed are the smallest and the largest sum, and the part that the means have. The last line asks a sharper question, with the two-sample test of {ref}`chapter 1 <sec-no-sampling>`: can 2000 draws of $q(z)$ be told from 2000 draws of the prior?

# %%
total = variance.mean(0) + mean.var(0)
share = mean.var(0) / total
print(f"variance of a latent: {total.min():.2f} to {total.max():.2f}")
print(f"share of the means: {share.min():.2f} to {share.max():.2f}")
_ = torch.manual_seed(0)
found = energy_test(z[:2000].float(), torch.randn(2000, 16))
print(f"energy distance {found.statistic:.4f}, p = {found.p_value:.3f}")

# %% tags=["nbval-check-output", "mnist"]
print("variances within 15 percent of one:", bool((total - 1).abs().max() < 0.15))
print("still, the laws differ (p < 0.01):", found.p_value < 0.01)

# %% [markdown]
# Mean and variance fit well, the law itself does not quite: ten classes leave seams. A draw of the prior that falls on a seam decodes to a figure between two digits, like those in {numref}`fig-plane-map`. This is one reason why inventions of a VAE look worse than its reconstructions.

# %% [markdown]
# (sec-latent-walks)=
# ## Walks between pictures
#
# Chapter 1 {ref}`walked from a 3 to an 8 <sec-interpolation>` in a straight line. With four corners one can walk over a square. For corner codes $z_{00}, z_{01}, z_{10}, z_{11}$ and shares $a, b \in [0, 1]$ of the way across and down, *bilinear interpolation* takes
#
# $$
# z(a, b) = (1 - b) \big( (1 - a)\, z_{00} + a\, z_{01} \big) + b \big( (1 - a)\, z_{10} + a\, z_{11} \big) .
# $$ (def-bilinear)
#
# Move the two sliders: the picture is decoded from $z(a, b)$, and the corners are a 2, a 7, a 6 and a 0 of the test set, each encoded by the network with 16 latents.

# %% tags=["mnist"]
corners = [int((test.labels == k).nonzero()[3]) for k in (2, 7, 6, 0)]
z_00, z_01, z_10, z_11 = digits_vae.posterior(x[corners]).mean
stops = [round(i / 8, 3) for i in range(9)]


def blend(a, b):
    return (1 - b) * ((1 - a) * z_00 + a * z_01) + b * ((1 - a) * z_10 + a * z_11)


def blended(a, b):
    return digits_vae.likelihood(blend(a, b)[None]).mean[0, 0]


Editor.over(
    {"across": stops, "down": stops},
    blended,
    alt="A digit decoded {} of the way across and {} of the way down",
)

# %% [markdown]
# The same square at a glance, beside what a cross-fade of the pixels does with the same corners.

# %% tags=["mnist"] mystnb={"image": {"alt": "Two squares of seven by seven pictures with the corners 2, 7, 6 and 0. On the left every picture is one stroke figure that changes its shape step by step. On the right the inner pictures are gray figures on top of each other."}, "figure": {"caption": "Bilinear interpolation between four digits: of the codes (left) and of the pixels (right).", "name": "fig-bilinear"}}
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
# In {numref}`fig-bilinear` the codes give one figure at each point, and the pixels give several at once. But where do we walk? Halfway between two draws of the prior the straight line has come closer to the origin than draws ever are. For independent $z_0, z_1 \sim \mathcal{N}(0, I_d)$,
#
# $$
# \mathbb{E}\, \big\lVert (1 - t)\, z_0 + t\, z_1 \big\rVert^2 = d\, \big( 1 - 2 t + 2 t^2 \big) ,
# $$ (eq-chord-length)
#
# at the middle half of what it is at the ends. In many dimensions lengths hardly vary (chapter 3 met this as the empty mode {eq}`eq-mode`), so the middle of the line is a place the decoder has hardly been trained on.

# %% tags=["nbval-check-output"]
_ = torch.manual_seed(0)
d = 16
z_0, z_1 = torch.randn(2, 100_000, d).double()
t = torch.tensor([0.1, 0.3, 0.5]).double()
lengths = torch.stack([((1 - s) * z_0 + s * z_1).square().sum(1) for s in t], 1)
law = d * (1 - 2 * t + 2 * t**2)
constant = {"constant length": torch.full((3,), d).double()}
verify("eq-chord-length", lengths, law, monte_carlo, rejects=constant)

# %% [markdown]
# The remedy is to walk on a sphere. With the angle $\omega$ between $z_0$ and $z_1$, *spherical interpolation* {cite:p}`shoemake1985,white2016` takes
#
# $$
# \operatorname{slerp}(z_0, z_1; t) = \frac{\sin\big( (1 - t)\, \omega \big)}{\sin \omega}\, z_0 + \frac{\sin (t\, \omega)}{\sin \omega}\, z_1 .
# $$ (def-slerp)
#
# For two points of equal length it keeps the length and turns at a constant speed. With $\angle$ for the angle between two vectors,
#
# $$
# \lVert z_0 \rVert = \lVert z_1 \rVert \;\Longrightarrow\; \lVert \operatorname{slerp}(z_0, z_1; t) \rVert = \lVert z_0 \rVert \;\text{ and }\; \angle \big( z_0, \operatorname{slerp}(z_0, z_1; t) \big) = t\, \omega .
# $$ (eq-slerp)

# %% tags=["nbval-check-output"]
show(spherical_interpolation, docstring=False)


# %% tags=["nbval-check-output"]
def length_and_angle(path, start):
    cosine = torch.cosine_similarity(path, start, dim=-1)
    return torch.stack([path.norm(dim=-1), cosine.clamp(-1, 1).acos()])


z_0, z_1 = z_0[:50], z_1[:50]
z_1 = z_1 * z_0.norm(dim=1, keepdim=True) / z_1.norm(dim=1, keepdim=True)
on_sphere = spherical_interpolation(z_0, z_1, t)
omega = torch.cosine_similarity(z_0, z_1, dim=1).acos()
promised = torch.stack([z_0.norm(dim=1).expand(3, 50), t[:, None] * omega])
straight = torch.stack([(1 - s) * z_0 + s * z_1 for s in t])
verify(
    "eq-slerp",
    length_and_angle(on_sphere, z_0),
    promised,
    exact,
    rejects={"straight line": length_and_angle(straight, z_0)},
)

# %% [markdown]
# Two independent draws are nearly at right angles in many dimensions. For a right angle the formula says $\cos \alpha\; z_0 + \sin \alpha\; z_1$ with $\alpha = t \pi / 2$, and there it does more than keep a length. For independent draws of the prior, each point of that arc is again a draw of the prior:
#
# $$
# z_0, z_1 \sim \mathcal{N}(0, I) \text{ independent} \;\Longrightarrow\; \cos \alpha\; z_0 + \sin \alpha\; z_1 \sim \mathcal{N}(0, I) .
# $$ (eq-arc-law)
#
# A sum of independent normal vectors is normal, and the variances add up to $\cos^2 \alpha + \sin^2 \alpha = 1$. The check compares the covariance, by exact algebra: the map from $(z_0, z_1)$ is a matrix $A$, and $A A^\top$ must be the identity.

# %% tags=["nbval-check-output"]
eye = torch.eye(4).double()
angles = torch.tensor([0.3, 0.8, 1.2]).double()
A = torch.stack([torch.cat([a.cos() * eye, a.sin() * eye], 1) for a in angles])
chords = torch.stack([torch.cat([(1 - s) * eye, s * eye], 1) for s in t])
line = {"straight line": chords @ chords.mT}
verify("eq-arc-law", A @ A.mT, eye.expand(3, 4, 4), exact, rejects=line)

# %% [markdown]
# Does the sphere make better pictures? To measure it we take the middles of 5000 pairs of encoded test digits, draw a black-and-white picture from each, and let the model judge it by its bound. (The model is the judge of its own pictures here, so this measures how well they fit what it has learned, and no more.)


# %%
def bound_of_draws(z):
    """The bound of one black-and-white picture drawn at each z."""
    return elbo_terms(digits_vae, digits_vae.likelihood(z).sample()).elbo


_ = torch.manual_seed(0)
codes = digits_vae.posterior(x).sample()
a, b = codes[:5000], codes[5000:]
half = torch.tensor([0.5])
middles = {
    "ends": a,
    "middle of the line": (a + b) / 2,
    "middle of the arc": spherical_interpolation(a, b, half)[0],
}
bounds = {name: bound_of_draws(z) for name, z in middles.items()}
for name, bound in bounds.items():
    length = middles[name].norm(dim=1).mean()
    print(f"{name:19} length {length:.2f}, bound {bound.mean():7.2f} nats")
gain = bounds["middle of the arc"] - bounds["middle of the line"]
print(f"the arc gains {gain.mean():.2f} +- {gain.std() / len(gain) ** 0.5:.2f} nats")

# %% tags=["nbval-check-output", "mnist"]
error = gain.std() / len(gain) ** 0.5
print("arc above line by 5 standard errors:", bool(gain.mean() > 5 * error))
loss = bounds["ends"].mean() - bounds["middle of the arc"].mean()
print("but more than twice that is still missing:", bool(loss > 2 * gain.mean()))

# %% [markdown]
# A gain of a few nats in the mean is not easily seen. The picture shows the pair, of the first hundred, for which the line comes closest to the origin.

# %% tags=["mnist"] mystnb={"image": {"alt": "Two rows of eleven digits with the same first and the same last picture. The upper row passes from a 4 through something like a 9 to a 7, the lower row through other figures."}, "figure": {"caption": "From one encoded digit to another: in a straight line, and on the sphere.", "name": "fig-two-ways"}}
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
# The two ways of {numref}`fig-two-ways` lead through different figures. The arc helps, and it is no cure. Both middles lie below the ends, because the data are ten classes with seams between them, and both ways cross a seam. With 16 latents the effect is a few nats; in more dimensions lengths vary less, and the middle of a line is emptier still.
#
# *Sources: A29.*

# %% [markdown]
# (sec-temperature)=
# ## Temperature
#
# Samplers of many models have a dial called {term}`temperature`. It replaces the prior by a sharpened one, $p(z)^{1 / \tau^2}$ made into a density again. For the normal prior this only scales the draws:
#
# $$
# \frac{p(z)^{1 / \tau^2}}{\int p(z')^{1 / \tau^2}\, \mathrm{d} z'} = \mathcal{N}\big( z \mid 0, \tau^2 I \big) .
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
draws = digits_vae.prior(10).sample()


def at_temperature(tau):
    return plots.image_grid(digits_vae.likelihood(tau * draws).mean, columns=10)


Slider.over(
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4],
    at_temperature,
    description="temperature",
    alt="Ten digits decoded from draws scaled by {}",
    start=5,
)

# %% [markdown]
# At zero all pictures are one and the same, the one that the origin decodes to. Two numbers for each temperature: the *variety*, the variance of the pixels over 2000 inventions, and the *doubt* of chapter 6, $\sum_j p_j (1 - p_j)$, which is small for firm black and white strokes.

# %% tags=["mnist"] mystnb={"image": {"alt": "Two curves over the temperature from 0 to 1.5. Variety rises from zero and flattens out near 45. Doubt falls slowly from about 25 to 20."}, "figure": {"caption": "What temperature does to a VAE of digits: less of it costs variety, and does not even buy firmer strokes.", "name": "fig-temperature"}}
_ = torch.manual_seed(0)
z = digits_vae.prior(2000).sample()
taus = torch.linspace(0, 1.5, 16)
pictures = [digits_vae.likelihood(tau * z).mean.flatten(1) for tau in taus]
variety = torch.stack([p.var(0).sum() for p in pictures])
doubt = torch.stack([(p * (1 - p)).sum(1).mean() for p in pictures])
plots.curves(
    {"variety": (taus, variety), "doubt": (taus, doubt)},
    x_label="temperature",
    y_label="summed over pixels",
)

# %% [markdown]
# Variety in {numref}`fig-temperature` falls to zero with the temperature, as it must. The doubt does not fall with it:

# %% tags=["nbval-check-output", "mnist"]
print("variety grows with temperature:", bool((variety.diff() > 0)[:10].all()))
print("doubt is largest at zero:", bool(doubt.argmax() < 3))

# %% [markdown]
# So for this model the saying is wrong. The origin is the most probable point of the prior, but hardly a draw comes near it, and the data have little business there: it is where the classes meet. Low temperature means *closer to the average*, and whether the average is good depends on the model. (In deep hierarchical VAEs, with a temperature for each level, it often is; the {ref}`last section <sec-latent-summary>` names who found it.)

# %% [markdown]
# (sec-known-causes)=
# ## Pictures whose causes are known
#
# What does a latent *mean*? With digits one can only look. So the companion draws pictures whose causes are known: a house on a plain, 32 by 32 pixels in color. Five numbers make a picture: the *azimuth* by which the house is turned, the *elevation* of the camera, the direction of the *light*, the *size*, the *hue* of the walls. They are independent and uniform. The first two are what the lecture's example of a face varies: the pose, and where the light comes from.

# %% mystnb={"image": {"alt": "Five rows of nine small pictures of a house with a shadow. From left to right it turns, is seen from higher up, its shadow moves, it grows, its color goes from red over green to blue."}, "figure": {"caption": "Five causes, one row each; in a row one of them goes through its range, and the others stay in the middle.", "name": "fig-causes"}}
low, high = torch.tensor(list(SCENE_FACTORS.values())).T
rows = {}
for k, name in enumerate(SCENE_FACTORS):
    factors = ((low + high) / 2).repeat(9, 1)
    factors[:, k] = torch.linspace(float(low[k]), float(high[k]), 9)
    rows[name] = render_scenes(factors)
plots.image_rows(rows, tile=0.6)

# %% [markdown]
# Two VAEs were trained on 20,000 such pictures, with eight latents each and a normal likelihood with $\sigma_{\text{dec}} = 0.1$. They have the same architecture, the same data, the same number of steps, and at the end the same loss, minus the bound. Only the way there differs. One minimized it from the start. For the other the divergence had a weight $\beta$ that started at 100 and fell to 1 during the first 70 percent of the steps. A VAE with a weight is called a {term}`beta-VAE` {cite:p}`higgins2017`; letting the pressure go slowly is an idea of {cite:t}`burgess2018`.

# %%
house = scenes(5_000, seed=2)


def scene_vae(name):
    likelihood = GaussianLikelihood(0.1)
    model = conv_vae(8, image_shape=(3, 32, 32), likelihood=likelihood)
    _ = load_weights(name, model.requires_grad_(False))
    return model


models = {"plain": scene_vae("vae-scenes"), "relaxed": scene_vae("beta-vae-scenes")}
for name, model in models.items():
    terms = elbo_terms(model, house.images[:2000])
    mean = model.likelihood(model.posterior(house.images[:2000]).mean).mean
    error = (mean - house.images[:2000]).square().flatten(1).sum(1).mean()
    rate, bound = terms.kl.sum(1).mean(), terms.elbo.mean()
    print(
        f"{name:8} rate {rate:.1f}, squared error {error:.2f}, bound {bound:.0f} nats"
    )

# %% [markdown]
# The plain one has the better bound: it spent all its steps on it, and the other one only the last third. It reconstructs a little better, and pays for it with a higher rate. So far nothing speaks for the detour.
#
# Below are new pictures, their reconstructions, and inventions: color pictures that nobody rendered, decoded from draws of the prior. (Data of this kind are easy. For photographs of 32 by 32 pixels the companion has a recipe, `python -m companion train vae-cifar10`, which wants a GPU. No such weights are shipped with this edition, so this chapter claims nothing about them.)

# %% mystnb={"image": {"alt": "Three rows of ten small houses: rendered ones, reconstructions that look almost the same but softer, and invented houses, most of them plausible with shadow and shading."}, "figure": {"caption": "Rendered, reconstructed and invented houses; the relaxed VAE.", "name": "fig-houses"}}
_ = torch.manual_seed(2)
vae = models["relaxed"]
q = vae.posterior(house.images[:10])
plots.image_rows(
    {
        "rendered": house.images[:10],
        "reconstructed": vae.likelihood(q.mean).mean.clamp(0, 1),
        "invented": vae.likelihood(vae.prior(10).sample()).mean.clamp(0, 1),
    },
    tile=0.62,
)

# %% [markdown]
# *Sources: B16.*

# %% [markdown]
# (sec-disentanglement)=
# ## What does a latent know?
#
# What the detour bought shows when we ask what the latents mean. First by correlation: draw $z$ from $q_\phi(z \mid x)$ for 5000 new houses, and correlate each latent with each cause. A latent that tells azimuth, and only azimuth, has one dark field in its row of {numref}`fig-correlations`, and the cause has one in its column.


# %% mystnb={"image": {"alt": "Two matrices with eight rows, the latents, and five columns, the causes. On the left each cause has one strong field and several medium ones. On the right each of azimuth, light, size and hue has one almost full field, and the rest of its column is pale."}, "figure": {"caption": "Correlation of latents and causes: the plain VAE (left), the relaxed one (right).", "name": "fig-correlations"}}
def correlations(z, v):
    z, v = ((a - a.mean(0)) / a.std(0) for a in (z, v))
    return z.T @ v / (len(z) - 1)


_ = torch.manual_seed(0)
draws = {name: model.posterior(house.images).sample() for name, model in models.items()}
tables = {name: correlations(z, house.factors) for name, z in draws.items()}
fig, panels = plots.figure(2, height=3.2)
for axes, (name, table) in zip(panels, tables.items(), strict=True):
    shown = plots.heatmap(
        table,
        x_label=f"cause ({name} VAE)",
        y_label="latent",
        value_label="correlation",
        x_ticks=["azi", "ele", "light", "size", "hue"],
        axes=axes,
    )
shown

# %% [markdown]
# Behind {numref}`fig-correlations` are these numbers: for each cause the latent with the largest correlation, and its size without the sign.

# %%
for name, table in tables.items():
    best = table.abs().max(0)
    found = zip(house.names, best.values.tolist(), best.indices.tolist(), strict=True)
    print(name, *(f"{cause} {value:.2f} (z{j})" for cause, value, j in found), sep=", ")

# %% tags=["nbval-check-output"]
azimuth = {
    name: table[:, 0].abs().sort(descending=True).values
    for name, table in tables.items()
}
print(
    "one latent explains azimuth, correlation above 0.9:",
    bool(azimuth["relaxed"][0] > 0.9),
)
print("no other above 0.3:", bool(azimuth["relaxed"][1] < 0.3))
print("the same for the plain VAE:", bool(azimuth["plain"][0] > 0.9))

# %% [markdown]
# Correlation sees straight lines only. A measure that sees every kind of dependence is the {term}`mutual information`, the divergence of the joint law from the product of its margins,
#
# $$
# I(z; v) = D_{\mathrm{KL}} \big( p(z, v) \,\Vert\, p(z)\, p(v) \big) .
# $$ (def-mutual-information)
#
# It is zero for independent variables only. For two normal variables with correlation $\rho$ it says how many nats a correlation is worth:
#
# $$
# I(z; v) = - \tfrac12 \log \big( 1 - \rho^2 \big) .
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
# The companion estimates it by sorting both variables into twenty equally filled bins. Draws matter here, and not means: bins know only ranks, so the tiny movements of an inactive latent's mean would count like the large ones of an active latent. The {term}`mutual information gap` {cite:p}`chen2018` then asks of each cause $v_k$ how far the best latent is ahead of the second best, as a share of the entropy of the cause:
#
# $$
# \mathrm{MIG}_k = \frac{1}{H(v_k)} \Big( I(z_{j_1}; v_k) - I(z_{j_2}; v_k) \Big) ,
# $$ (def-mig)
#
# where $z_{j_1}$ and $z_{j_2}$ are the latents that tell the most and the second most about $v_k$. With twenty equally filled bins, $H(v_k) = \log 20$.

# %% mystnb={"image": {"alt": "Two panels of five bars, for azimuth, elevation, light, size and hue. The bars of the relaxed VAE are higher than those of the plain one for all causes but elevation, where both are small."}, "figure": {"caption": "Mutual information gap of each cause.", "name": "fig-mig"}}
gaps = {}
fig, panels = plots.figure(2, height=2.4)
for axes, (name, z) in zip(panels, draws.items(), strict=True):
    information = mutual_information(z, house.factors)
    gaps[name] = mutual_information_gap(information, math.log(20))
    values = dict(zip(house.names, gaps[name].tolist(), strict=True))
    _ = axes.set_ylim(0, 0.8)
    shown = plots.bars(values, value_label=f"gap ({name} VAE)", axes=axes)
shown

# %% [markdown]
# In {numref}`fig-mig` the relaxed network is ahead for every cause but the elevation, which two of its latents share. On average:

# %%
for name, gap in gaps.items():
    print(f"{name}: mean gap {gap.mean():.2f}")

# %% tags=["nbval-check-output"]
ahead = gaps["relaxed"].mean() / gaps["plain"].mean()
print("the relaxed VAE is better, by more than half:", bool(ahead > 1.5))
print("elevation is its weakest cause:", int(gaps["relaxed"].argmin()) == 1)

# %% [markdown]
# Why does the path matter, if the loss at its end is the same? {ref}`Chapter 5 <sec-sigma-dec>` has the answer in closed form. At a large weight only those directions of the data survive whose variance exceeds $\beta \sigma^2$ {eq}`eq-beta-level`. As $\beta$ falls the causes come in one at a time, the strongest first, and each finds a free latent of its own. Without the pressure all come at once, and mix.
#
# This is one run of each, and no law. The {doc}`cards </book/models>` hold the commands and the seeds, so that you can try others.
#
# *Sources: B18.*

# %% [markdown]
# (sec-editing)=
# ## An editor
#
# Now the recipe of the lecture: *encode* a picture, *draw* its latent, *change* some of its dimensions, *decode*. We ask the table which latents tell azimuth, light and hue, and put a slider on each. The sign is taken from the table too, so that to the right means more.

# %%
vae, table = models["relaxed"], tables["relaxed"]
knobs = [int(table[:, k].abs().argmax()) for k in (0, 2, 4)]
signs = [float(table[j, k].sign()) for j, k in zip(knobs, (0, 2, 4), strict=True)]
_ = torch.manual_seed(0)
start = vae.posterior(house.images[:1]).sample()


def edited(*values):
    z = start.clone()
    for j, sign, value in zip(knobs, signs, values, strict=True):
        z[0, j] = sign * value
    return vae.likelihood(z).mean[0].clamp(0, 1).permute(1, 2, 0)


print("three different latents:", len(set(knobs)) == 3)

# %%
stops = [-1.8, -1.2, -0.6, 0.0, 0.6, 1.2, 1.8]
Editor.over(
    {"azimuth latent": stops, "light latent": stops, "hue latent": stops},
    edited,
    alt="A house, decoded with azimuth latent {}, light latent {} and hue latent {}",
)

# %% [markdown]
# Does the editor do what its labels say? Encode what it shows, and the latents answer, but they would answer that anyway. A fairer judge knows nothing of latents: for each edited picture, find the rendered house among the 5000 that is nearest in pixels, and read its true causes.


# %%
def nearest_causes(pictures):
    distances = torch.cdist(pictures.flatten(1), house.images.flatten(1))
    return house.factors[distances.argmin(1)]


_ = torch.manual_seed(0)
z = vae.posterior(house.images[:300]).sample()
for knob, sign, cause in zip(knobs, signs, (0, 2, 4), strict=True):
    z_low, z_high = z.clone(), z.clone()
    z_low[:, knob], z_high[:, knob] = -sign, sign
    found = [nearest_causes(vae.likelihood(c).mean) for c in (z_low, z_high)]
    moved = (found[1] - found[0]).mean(0) / (high - low)
    texts = (
        f"{name} {m:+.2f}" for name, m in zip(house.names, moved.tolist(), strict=True)
    )
    print(f"{house.names[cause]} latent from -1 to 1 moves:", ", ".join(texts))

# %% [markdown]
# The numbers are shares of each cause's range. A clean knob moves its own cause by half of the range or so, and the others by little: a uniform cause between its ends, spread over a normal latent, has two thirds of its range between $-1$ and $1$.
#
# *Sources: B17.*

# %% [markdown]
# (sec-no-axes)=
# ## The prior knows no axes
#
# One reads that a *diagonal prior* makes latents meaningful. It cannot. For any rotation $R$, that is $R R^\top = I$, the prior looks the same from all sides, and a decoder that turns its input back makes the same model:
#
# $$
# p(R z) = p(z), \qquad \tilde{p}_\theta(x \mid z) = p_\theta(x \mid R^\top z) \;\Longrightarrow\; \tilde{p}_\theta(x, R z) = p_\theta(x, z) .
# $$ (eq-rotated-model)
#
# The two models give every picture the same probability, and no amount of data tells them apart. The check uses the trained house model and a random rotation; a stretch that keeps volumes (determinant one) is rejected.

# %% tags=["nbval-check-output"]
_ = torch.manual_seed(0)
R = torch.linalg.qr(torch.randn(8, 8)).Q
stretch = torch.diag(torch.tensor([2.0, 0.5, 1, 1, 1, 1, 1, 1]))
x = house.images[:200]
z = vae.posterior(x).sample()


def log_joint(z, back):
    """log p(x | back z) + log p(z), in nats."""
    log_p = vae.likelihood(z @ back.T).log_prob(x)
    return log_p + vae.prior(len(z)).log_prob(z)


original = log_joint(z, torch.eye(8)).double()
turned = log_joint(z @ R.T, R.T).double()
stretched = log_joint(z @ stretch, stretch.inverse()).double()
verify(
    "eq-rotated-model",
    turned,
    original,
    exact.within(1e-4),
    rejects={"a stretch": stretched},
)

# %% [markdown]
# Yet the trained network *has* axes, as {numref}`fig-correlations` shows. Something must pin them. It is the other diagonal: that of $q_\phi(z \mid x)$ {cite:p}`rolinek2019`. A posterior whose latents have different spreads is a narrow ellipse. Along the axes a diagonal normal law fits it; turned, it does not, and the bound pays. What a diagonal law loses on a normal posterior with precision matrix $P$ is, as {eq}`eq-rotation-gap` says of the linear case,
#
# $$
# \min_{D \text{ diagonal}} D_{\mathrm{KL}} \big( \mathcal{N}(m, D) \,\Vert\, \mathcal{N}(m, P^{-1}) \big) = \tfrac12 \Big( \sum_j \log P_{jj} - \log \det P \Big) ,
# $$ (eq-rotation-price)
#
# reached at $D_{jj} = 1 / P_{jj}$. The cell compares it with the divergence of torch at that $D$, for the posterior of one house after a rotation, and rejects the value at the margins' variances $(P^{-1})_{jj}$, the plausible other choice. That no diagonal is better is checked by the gradient, which is zero.

# %% tags=["nbval-check-output"]
spread = vae.posterior(x[:1]).variance[0].double()
R = R.double()
R = torch.linalg.qr(R).Q
P = R @ torch.diag(1 / spread) @ R.T
P = (P + P.T) / 2
turned = MultivariateNormal(torch.zeros(8).double(), precision_matrix=P)


def divergence(log_variance):
    D = torch.diag(log_variance.exp())
    return kl_divergence(MultivariateNormal(torch.zeros(8).double(), D), turned)


best = (-P.diagonal().log()).requires_grad_()
(gradient,) = torch.autograd.grad(divergence(best), best)
print("no diagonal nearby is better:", bool(gradient.abs().max() < 1e-9))
price = 0.5 * (P.diagonal().log().sum() - torch.logdet(P))
margins = divergence(P.inverse().diagonal().log())
wrong = {"margins": margins}
verify("eq-rotation-price", divergence(best.detach()), price, exact, rejects=wrong)

# %% [markdown]
# How much is it for the house model? Turn the plane of two latents by an angle, turn the decoder back, and give the encoder the best diagonal answer. The bound is measured anew on 2000 houses, and beside it stands the formula. We do it for two pairs: azimuth and light, and azimuth and the latent with the widest spread.


# %%
def rotation(angle, j, k):
    R = torch.eye(8)
    R[j, j], R[k, k] = math.cos(angle), math.cos(angle)
    R[j, k], R[k, j] = -math.sin(angle), math.sin(angle)
    return R


def turned_bound(R, x):
    """The bound with the decoder turned, and the price that the formula expects."""
    q = vae.posterior(x)
    P = torch.einsum("jk,nk,lk->njl", R, 1 / q.variance, R)
    fit = Normal(q.mean @ R.T, P.diagonal(dim1=1, dim2=2).rsqrt())
    kl = kl_divergence(fit, Normal(0.0, 1.0)).sum(1)
    price = 0.5 * (P.diagonal(dim1=1, dim2=2).log().sum(1) + q.variance.log().sum(1))
    bound = vae.likelihood(fit.sample() @ R).log_prob(x) - kl
    return bound.mean(), price.mean()


# %%
x, degrees = house.images[:2000], torch.linspace(0, 90, 10)
spreads = vae.posterior(x).variance.mean(0).sqrt()
widest = int(spreads.argmax())
pairs = {"light": (knobs[0], knobs[1]), "the widest": (knobs[0], widest)}
prices = {}
for name, (j, k) in pairs.items():
    turns = [rotation(math.radians(degree), j, k) for degree in degrees]
    found = [(torch.manual_seed(0), turned_bound(R, x))[1] for R in turns]
    prices[name] = torch.tensor(found).T
print(f"spreads: azimuth {spreads[knobs[0]]:.2f}, light {spreads[knobs[1]]:.2f}")
print(f"         widest {spreads[widest]:.2f}")

# %% mystnb={"image": {"alt": "Two panels over an angle from 0 to 90 degrees. Left: nats lost. For azimuth and light the curve stays near zero; for azimuth and the widest latent it is an arch that peaks near 45 degrees, and crosses of the formula lie on both curves. Right: the correlation of the turned latent with azimuth falls from above 0.9 to 0, that with light rises from 0 to above 0.9."}, "figure": {"caption": "Left: what the bound pays for a turn of azimuth into another latent (lines: measured; crosses: the formula). Right: what the first latent means while azimuth and light are turned into each other.", "name": "fig-rotation-price"}}
fig, (left, right) = plots.figure(2, height=2.6)
lines = {name: (degrees, bound[0] - bound) for name, (bound, _) in prices.items()}
_ = plots.curves(lines, x_label="angle (degrees)", y_label="nats lost", axes=left)
for _, price in prices.values():
    _ = left.plot(degrees, price, "k+")
turned = [draws["relaxed"] @ rotation(math.radians(d), *knobs[:2]).T for d in degrees]
meaning = torch.stack([correlations(z, house.factors)[knobs[0]] for z in turned])
lines = {
    "azimuth": (degrees, meaning[:, 0].abs()),
    "light": (degrees, meaning[:, 2].abs()),
}
plots.curves(lines, x_label="angle (degrees)", y_label="correlation", axes=right)

# %% [markdown]
# Look at both panels of {numref}`fig-rotation-price` together. Azimuth and light have nearly the same spread. Turning them into each other is free, and yet it takes the meaning out of both. A latent of another spread cannot be turned in without paying. And a random rotation of all eight:

# %%
_ = torch.manual_seed(0)
R = torch.linalg.qr(torch.randn(8, 8)).Q
bound, price = turned_bound(R, x)
lost = prices["light"][0, 0] - bound
print(f"random rotation of all latents: {lost:.2f} nats lost, formula {price:.2f}")
information = mutual_information(draws["relaxed"] @ R.T, house.factors)
gap = mutual_information_gap(information, math.log(20)).mean()
print(f"mean gap {gaps['relaxed'].mean():.2f} before, {gap:.2f} after")

# %% tags=["nbval-check-output"]
print("a random rotation costs nats:", bool(price > 1))
cheap, dear = (prices[name][1].max() for name in ("light", "the widest"))
print("azimuth into light for less than 0.1 nats:", bool(cheap < 0.1))
print("azimuth into the widest for ten times that:", bool(dear > 10 * cheap))
print("the gap falls below a third:", bool(gap < gaps["relaxed"].mean() / 3))

# %% [markdown]
# So the axes of a VAE are pinned by the *differences* between the spreads of its latents, and for two latents of equal spread they are not pinned at all: there the path of the training decides. Without further assumptions no loss can do better {cite:p}`locatello2019`. That is how the plain VAE could end up with mixed latents.

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
# So it is a regression in disguise: the {term}`attribute vector` points where $z$ and $y$ vary together, and it sees nothing else. Here $y$ says that a digit leans more to the right than the median digit. How much it leans is read off the pixels: the slope of the line that fits its ink column by row.


# %%
def slant(pictures):
    """Shift to the right per pixel upwards, by least squares over the ink."""
    ink = pictures.flatten(1) / pictures.flatten(1).sum(1, keepdim=True)
    row, column = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")
    row, column = row.flatten(), column.flatten()
    down = row - (ink @ row)[:, None]
    right = column - (ink @ column)[:, None]
    return -(ink * down * right).sum(1) / (ink * down**2).sum(1)


# %% tags=["nbval-check-output"]
x = binarize(test.images)
z = digits_vae.posterior(x).mean.double()
leans = slant(test.images)
y = (leans > leans.median()).double()
pi = y.mean()
vector = z[y == 1].mean(0) - z[y == 0].mean(0)
covariance = ((z - z.mean(0)) * (y - pi)[:, None]).mean(0)
plain = {"covariance": covariance}
verify("eq-attribute", vector, covariance / (pi * (1 - pi)), exact, rejects=plain)

# %% [markdown]
# Add multiples of the vector to the codes of other digits, and decode.

# %% tags=["mnist"] mystnb={"image": {"alt": "Five rows of seven digits. In each row the same digit leans to the left in the first column, stands upright in the middle and leans to the right in the last."}, "figure": {"caption": "Five digits, less and more of the vector for slant. In the middle, the untouched reconstruction.", "name": "fig-slant"}}
vector = vector.float()
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
# The rows of {numref}`fig-slant` lean as they should, with some damage at the ends. Measured on a thousand digits:

# %%
codes = z[:1000].float()
for amount in amounts[::3]:
    moved = slant(digits_vae.likelihood(codes + amount * vector).mean)
    print(f"{amount:+.1f} vectors: mean slant {moved.mean():+.2f} +- {moved.std():.2f}")

# %% tags=["nbval-check-output", "mnist"]
slopes = torch.stack(
    [slant(digits_vae.likelihood(codes + a * vector).mean).mean() for a in amounts]
)
print("more vector, more slant:", bool((slopes.diff() > 0).all()))
used = (vector.abs() / vector.norm()).sort(descending=True).values
print("one latent does not do it alone:", bool(used[0] < 0.9))

# %% [markdown]
# The vector works on digits of every class, though it was made from means. And it is not an axis: several latents take part. Whether an attribute has an axis of its own, and whether it has a direction, are two questions, and the second is the more useful one.

# %% [markdown]
# (sec-anomalies)=
# ## A likelihood is no measure of normality
#
# In {ref}`chapter 1 <sec-uses>` an anomaly was what an autoencoder reconstructs badly. A VAE offers a seemingly better score: a picture with a low $\log p_\theta(x)$ is a strange one. Let us try, with the estimate $L_{50}$ of chapter 6, on pictures that are no digits.

# %% tags=["mnist"] mystnb={"image": {"alt": "Six rows of eight pictures: digits, digits with shuffled pixels, digits upside down, upper halves missing, empty black pictures, and single thin vertical bars."}, "figure": {"caption": "Digits, and five kinds of pictures that are none.", "name": "fig-strange"}}
_ = torch.manual_seed(0)
x = binarize(test.images[:400])
bars = torch.zeros(200, 1, 28, 28)
bars[:, :, 4:24, 13:15] = 1
strange = {
    "shuffled": x[:200].flatten(1)[:, torch.randperm(784)].view(200, 1, 28, 28),
    "upside down": x[:200].flip(2),
    "lower half": x[:200] * (torch.arange(28)[:, None] >= 14),
    "empty": torch.zeros(200, 1, 28, 28),
    "a bar": bars,
}
plots.image_rows({"digits": x[:8]} | {k: v[:8] for k, v in strange.items()}, tile=0.6)

# %% [markdown]
# Each row of {numref}`fig-strange` gets its mean estimate, and the {term}`AUROC`: the probability that a strange picture gets the stranger score. One half is guessing.

# %%
_ = torch.manual_seed(0)
normal = log_likelihood(deep, x, 50)
scores = {
    name: log_likelihood(deep, pictures, 50) for name, pictures in strange.items()
}
print(f"{'digits':12} log p {normal.mean():8.1f} nats")
for name, score in scores.items():
    print(
        f"{name:12} log p {score.mean():8.1f} nats, AUROC {auroc(-normal, -score):.2f}"
    )

# %% tags=["nbval-check-output", "mnist"]
print("shuffled digits are found:", auroc(-normal, -scores["shuffled"]) > 0.99)
for name in ("empty", "a bar"):
    worse = auroc(-normal, -scores[name]) < 0.1
    print(f"{name}: looks more normal than nearly all digits: {worse}")

# %% [markdown]
# Shuffled digits are found without fail. But the empty picture and the bar are *more* likely than nearly every digit, so the score is worse than guessing. Nothing is broken. A bar, close to a 1, takes 20-odd nats, since there is so little to say about it, and a real digit, with all its accidents, takes 80. For photographs {cite:t}`nalisnick2019` found the same: a model of one data set gave higher likelihoods to another, smoother one.
#
# Two facts are behind it. **A typical point is not a likely one.** For $z \sim \mathcal{N}(0, I_d)$ the surprise $S = - \log p(z)$ has
#
# $$
# \mathbb{E}\, S = \tfrac{d}{2} \log (2 \pi e), \qquad \operatorname{Var} S = \tfrac{d}{2} , \qquad \mathbb{E}\, S - \min S = \tfrac{d}{2} ,
# $$ (eq-typical-surprise)
#
# so the mode lies $\sqrt{d / 2}$ standard deviations away from what is typical, on the side of the high likelihoods.

# %% tags=["nbval-check-output"]
_ = torch.manual_seed(0)
d = 50
z = torch.randn(100_000, d).double()
S = 0.5 * z.square().sum(1) + 0.5 * d * math.log(2 * math.pi)
mean = 0.5 * d * math.log(2 * math.pi * math.e)
least = 0.5 * d * math.log(2 * math.pi)
samples = torch.stack([S, (S - mean) ** 2, S - least], 1)
right = torch.tensor([mean, d / 2, d / 2]).double()
wrong = {"variance d": torch.tensor([mean, d, d / 2]).double()}
verify("eq-typical-surprise", samples, right, monte_carlo, rejects=wrong)

# %% [markdown]
# **A density depends on the units.** Of a continuous law, map every coordinate by its own distribution function $F$. The new variable $y = F(x)$ carries the same information, and all its points are equally likely:
#
# $$
# p_Y(y) = \frac{p_X(x)}{F'(x)} = 1 \qquad \text{at } y = F(x) .
# $$ (eq-flattened)
#
# A score that a change of units can make constant does not measure strangeness. (Probabilities of black-and-white pictures, as here, do not have this second trouble; densities of photographs do.)

# %% tags=["nbval-check-output"]
law = Normal(torch.tensor(1.0).double(), 2.0)
point = torch.linspace(-4, 6, 11).double().requires_grad_()
(slope,) = torch.autograd.grad(law.cdf(point).sum(), point)
flat = (law.log_prob(point).exp() / slope).detach()
times = {"times the slope": (law.log_prob(point).exp() * slope).detach()}
verify("eq-flattened", flat, torch.ones(11).double(), autograd, rejects=times)

# %% [markdown]
# The first fact suggests a repair: call a picture strange if its likelihood is *far from the usual one*, on either side.

# %%
usual = normal.mean()
for name, score in scores.items():
    area = auroc((normal - usual).abs(), (score - usual).abs())
    print(f"{name:12} AUROC {area:.2f}")

# %% tags=["nbval-check-output", "mnist"]
areas = {k: auroc((normal - usual).abs(), (s - usual).abs()) for k, s in scores.items()}
print("empty and bar are found now:", areas["empty"] > 0.9 and areas["a bar"] > 0.9)
print("upside down still is not:", areas["upside down"] < 0.9)

# %% [markdown]
# That catches the empty picture and the bar, and it also accuses every plain 1, which is as easy to say. Digits upside down pass about as well as before: some *are* digits upside down. One number for each picture cannot know what we would call strange. Take a likelihood for what it is, a code length, and decide with examples of what you want to find.

# %% [markdown]
# (sec-latent-exercises)=
# ## Exercises
#
# Replace the three dots by your answer and run the cell.

# %% tags=["nbval-check-output"]
from companion.exercises import latent_space as exercises

# %% [markdown]
# ```{exercise-start} The shortest length on the way
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
# A latent and a cause are jointly normal with correlation 0.95. How many nats does the latent tell about the cause? And which correlation is worth exactly one nat? Give a pair.

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
# Write the mutual information gap of each cause, given a table of mutual information with a row for each latent, and the entropy of the causes.


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
# ```{exercise-start} What a turn costs
# :label: ex-turn
# ```
# A posterior with two latents has the variances `a` and `b`, without correlation. Turn it by the angle `angle`, and fit the best diagonal normal law. How many nats are lost?


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
# The diagonal of the turned precision matrix is $c^2 / a + s^2 / b$ and $s^2 / a + c^2 / b$, with $c$ and $s$ the cosine and the sine; its determinant stays $1 / (a b)$. For $a = b$ the price is zero at every angle.


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
# The origin of a $d$-dimensional normal prior is its most likely point. How many standard deviations of the surprise is it away from the mean surprise? Write it as a function of `d`.


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
# - A decoder makes a map of its latent space {numref}`fig-plane-map`. The law of encoded data comes close to the prior and does not reach it; inventions fall on the seams.
# - Straight walks leave the shell where draws live {eq}`eq-chord-length`; walks on the sphere stay {eq}`eq-slerp`. It helps by a few nats.
# - A low temperature is a scaled prior {eq}`eq-temperature`. For our VAE it costs variety and does not make firmer pictures.
# - What a latent means can be measured where the causes are known: correlation, mutual information and its gap {eq}`def-mig`. The path of the training decides: a weight that falls slowly gave four of five causes a latent of their own, and left the bound a little lower.
# - The prior cannot pin axes {eq}`eq-rotated-model`; the diagonal posterior does, where the spreads of the latents differ {eq}`eq-rotation-price`.
# - A difference of means is a direction for an attribute {eq}`eq-attribute`.
# - A likelihood is a code length. High does not mean normal.
#
# **What the sources say, and where they need care.** The lectures show a bilinear square of digits, the editing of pictures by single latents, and latents for pose and light; all of that is here, measured. One of them credits the disentangling to the diagonal prior; the prior is the same from all sides, and what pins the axes is the diagonal posterior. Another lists finding anomalies among the uses of an autoencoder; with the likelihood as the score, an empty picture passes for a digit.
#
# **To read next.** {cite:t}`higgins2017` and {cite:t}`burgess2018` on the weight of the divergence; {cite:t}`chen2018` on the gap; {cite:t}`locatello2019` on why unsupervised disentangling needs luck or assumptions; {cite:t}`rolinek2019` on what pins the axes; {cite:t}`vahdat2020` and {cite:t}`child2021` on temperature in deep hierarchies; {cite:t}`nalisnick2019` on likelihoods of strange data.
