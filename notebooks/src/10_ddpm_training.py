# %% [markdown]
# # Training a DDPM
#
# A network that can tell the noise from the digit in a noisy image can also draw digits: it starts from pure noise and removes a little of it, a thousand times. Of these twenty digits ten were written by people, the others drawn by the network of this chapter. How does a network learn a thousand steps at once?

# %% tags=["setup", "hide-input"]
# The set-up cell: `make sync` writes it.

# %% tags=["unseen"]
import math
from copy import deepcopy
from itertools import pairwise

import torch
from torch import nn
from torch.distributions import Categorical, Normal, kl_divergence
from torch.nn import functional as F

from companion import data
from companion.page import plots
from companion.page.exercises import ddpm_training as exercises
from companion.page.live import watch
from companion.page.show import show
from companion.page.sliders import Slider
from companion.page.verify import at_most, exact, monte_carlo, variance, verify
from companion.zoo import pretrained
from companion.zoo.weights import load_record, read_card
from companion.zoo.yourself import cost, train_it

train, test = data.load("mnist", "train"), data.load("mnist", "test")
record, _ = load_record("ddpm-mnist-long-samples")

# %% tags=["figure", "mnist"] mystnb={"image": {"alt": "Two rows of ten gray digits, ten from people and ten from the network, in random order."}, "figure": {"caption": "Ten digits from the test set and ten samples, in random order.", "name": "fig-which-are-real"}}
order = torch.randperm(20, generator=torch.Generator().manual_seed(5), device="cpu")
both = torch.cat([test.images[20:30], record["samples"][:10] / 255])
plots.image_grid(both[order])

# %% [markdown]
# :::{admonition} The idea
# Training a diffusion model is regression. Make an example noisy at a random time, let the network say what was added, and lower the squared error. The bound says what an error at each time costs in nats; with equal weights the pictures are better and the bound worse.
# :::

# %% [markdown]
# (sec-algorithm-1)=
# ## Algorithm 1: a regression
#
# Why does one random step teach a chain of a thousand? The bound is a sum of squared errors of the predicted noise, one for each time {eq}`eq-five-weights`; $T$ times a single term at a random time estimates it without bias {eq}`eq-single-step`, and the noisy image of any time is made in one step. {cite:t}`ho2020` leave out the weights ({ref}`why <sec-thrown-away>`). What remains is the {term}`simple loss`:
#
# $$
# L_{\text{simple}}(\theta) = \mathbb{E}_{x, t, \varepsilon} \big\lVert \varepsilon - \varepsilon_\theta\big( \sqrt{\bar\alpha_t}\, x + \sqrt{1 - \bar\alpha_t}\, \varepsilon,\; t \big) \big\rVert^2, \qquad t \text{ uniform on } 1, \dots, T .
# $$ (def-simple-loss)
#
# :::{prf:algorithm} Training
# :label: alg-ddpm-training
# Repeat until samples stop getting better:
#
# 1. Take an example $x$ from the data.
# 2. Draw a time $t$ uniformly from $1, \dots, T$.
# 3. Draw noise $\varepsilon \sim \mathcal{N}(0, I)$.
# 4. Make $x_t = \sqrt{\bar\alpha_t}\, x + \sqrt{1 - \bar\alpha_t}\, \varepsilon$.
# 5. Let the network estimate the noise, $\varepsilon_\theta(x_t, t)$.
# 6. Take a gradient step on $\lVert \varepsilon - \varepsilon_\theta(x_t, t) \rVert^2$.
# :::
#
# One network serves all times, with $t$ as an input: neighboring times pose nearly the same task, and each of a thousand networks would see a thousandth of the examples. Here it is on points from eight Gaussians on a ring, where the best possible network is known, with a hundred steps and a small perceptron.

# %% tags=["unseen"]
from companion.data import Batches, toy_density
from companion.ddpm import Ddpm, denoising_loss, elbo_step, image_ddpm, noise_errors
from companion.decoders import HistogramDecoder, gray_level_frequencies
from companion.denoisers import MixtureDenoiser, VPredictor, gaussian_denoiser
from companion.elbo import elbo_terms
from companion.metrics import bits_per_dim, jackknife
from companion.networks.embeddings import FourierEmbedding, SinusoidalEmbedding
from companion.networks.unet import Block, UNet
from companion.refinement import in_finer_steps
from companion.samplers import ancestral_sample
from companion.schedule import (
    add_noise,
    cosine_schedule,
    linear_schedule,
    noise_from_x_0,
    x_0_from_noise,
)
from companion.training import exponential_average
from companion.variances import bound_weights, linear_noise_error, optimal_reverse_var
from companion.zoo.architectures import toy_ddpm
from companion.zoo.yardstick import (
    digit_features,
    feature_distance,
    real_digit_distance,
    unrecognized,
)

schedule = linear_schedule(1000)

# %%
_ = torch.manual_seed(0)
ring = toy_density("mixture")
points = ring.sample((20_000,)) / 2  # about variance 1
toy = toy_ddpm()
network, alpha_bar = toy.denoiser.network, toy.schedule.alpha_bar.float()
average = exponential_average(network, decay=0.99)
optimizer = torch.optim.Adam(network.parameters(), lr=2e-3, fused=True)
batch_losses, saved = [], []

# %%
for x in Batches(points, batch_size=500, num_epochs=15):  # 1
    t = torch.randint(1, 101, (len(x),))  # 2
    noise = torch.randn_like(x)  # 3
    kept = alpha_bar[t, None]
    x_t = kept**0.5 * x + (1 - kept) ** 0.5 * noise  # 4
    loss = (noise - network(x_t, t)).square().sum(1).mean()  # 5
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()  # 6
    average.update_parameters(network)  # for later
    batch_losses.append(loss.item())
    if len(batch_losses) % 20 == 0:
        saved.append((len(batch_losses), deepcopy(network), deepcopy(average.module)))

# %% tags=["figure"] mystnb={"image": {"alt": "Four panels. First, the loss of each batch falls from two to about 0.45 within a hundred steps and then jitters. Second, the data: eight round clusters on a ring. Third, samples after 600 steps: a ring without clear clusters. Fourth, samples after 6000 steps: the eight clusters, with few points between them."}, "figure": {"caption": "The loss of 600 batches, the data, and samples of two models.", "name": "fig-toy-training"}}
_ = torch.manual_seed(0)
shipped = pretrained("ddpm-toy2d")
shown = {"data": points[:1000]}
for name, trained in {"after 600 steps": toy, "after 6000": shipped}.items():
    *_, shown[name] = ancestral_sample(trained, 1000)
fig, (loss_axes, *panels) = plots.figure(4, height=2.4)
loss_axes.get_gridspec().set_width_ratios([1.5, 1, 1, 1])
_ = plots.curves({"": batch_losses}, x_label="step", y_label="loss", axes=loss_axes)
_ = loss_axes.set_ylim(bottom=0)
for axes, (name, dots) in zip(panels, shown.items(), strict=True):
    _ = axes.scatter(*dots.T, s=1, color="#0072B2")
    _ = axes.set(xlim=(-2, 2), ylim=(-2, 2), xticks=(), yticks=(), aspect="equal", title=name)
fig

# %% [markdown]
# After 600 steps this network has found the ring; the shipped one, after ten times as many, has separate modes. Yet the loss hardly falls after the first hundred steps ({numref}`fig-toy-training`). Why?
#
# It cannot fall to zero: $x_t$ does not determine its noise. The best prediction is the conditional mean, $\varepsilon^*(x_t, t) = \mathbb{E}[\varepsilon \mid x_t]$, and the error of any network splits into two parts,
#
# $$
# \mathbb{E} \lVert \varepsilon - \varepsilon_\theta \rVert^2 = \underbrace{\mathbb{E} \lVert \varepsilon - \varepsilon^* \rVert^2}_{\text{the floor}} + \underbrace{\mathbb{E} \lVert \varepsilon^* - \varepsilon_\theta \rVert^2}_{\text{the excess}} ,
# $$ (eq-excess-error)
#
# because the cross term vanishes: given $x_t$, $\varepsilon^* - \varepsilon_\theta$ is fixed, and $\varepsilon - \varepsilon^*$ has mean zero. The floor is near zero at large $t$, where $x_t$ is nearly the noise, and highest at small $t$, where faint noise hides in the detail of the data. It is the variance of $\varepsilon$ given $x_t$. For one-dimensional Gaussian data with mean 0 and variance $\lambda$, $\varepsilon^* = \sqrt{1 - \bar\alpha_t}\, x_t / (\bar\alpha_t \lambda + 1 - \bar\alpha_t)$, and averaged over $t$ the floor is
#
# $$
# \min L_{\text{simple}} = \frac{1}{T} \sum_{t=1}^{T} \frac{\bar\alpha_t\, \lambda}{\bar\alpha_t\, \lambda + 1 - \bar\alpha_t} .
# $$ (eq-simple-optimum)
#
# **Check.** Steps 1 to 5 are run with the exact denoiser, for two variances. In the companion steps 2 to 5 are `denoising_loss`, the squared error of $\hat{x}$ times a `weight` for each $t$; with the signal-to-noise ratio as the weight it is the squared error of the noise {eq}`eq-five-errors`. The check rejects the loss of the constant answer $\varepsilon_\theta = 0$ and, for $\lambda = \frac14$, the formula without its denominator.

# %% [markdown]
# For the ring $\varepsilon^*$ has a closed form, too, so its loss can be split:

# %% tags=["numbers", "nbval-check-output"]
modes = ring.component_distribution
halved = modes.mean / 2, torch.diag_embed(modes.variance) / 4
exact_hat = MixtureDenoiser(toy.schedule, ring.mixture_distribution.probs, *halved)
_ = torch.manual_seed(0)
t, noise = torch.randint(1, 101, (4000,)), torch.randn(4000, 2)
x_t = add_noise(toy.schedule, points[:4000], t, noise)
best = noise_from_x_0(toy.schedule, x_t, t, exact_hat(x_t, t))


def excess_of(network):
    with torch.no_grad():
        return (best - network(x_t, t)).square().sum(1).mean().item()


least = (noise - best).square().sum(1).mean().item()
rows = [(number, *map(excess_of, pair)) for number, *pair in saved]
steps, excess_of_last, excess_of_average = map(torch.tensor, zip(*rows, strict=True))
print(f"floor {least:.3f}, loss after 600 steps {least + excess_of_last[-1]:.3f}")
assert excess_of_last[-1] < 0.25 * least

# %% [markdown]
# The loss consists mostly of its floor, and what is left to learn, such as the valleys between the modes, is a small part of it. So do not watch the loss, but samples, and errors at fixed times beside a baseline.
#
# **Check.** The three terms of {eq}`eq-excess-error` are computed for a prediction that is wrong on purpose, $0.5\, \varepsilon^* + 0.2$. The check rejects the formula without the excess.

# %% tags=["check", "nbval-check-output"]
_ = torch.manual_seed(0)
kept = schedule.alpha_bar[1:]
for lam in (1.0, 0.25):
    hat = gaussian_denoiser(schedule, torch.zeros(1), torch.tensor([[lam]]))
    gaussian = Ddpm(hat, schedule, (1,), schedule.beta)
    losses = denoising_loss(gaussian, lam**0.5 * torch.randn(400_000, 1), schedule.snr)
    least = (kept * lam / (kept * lam + 1 - kept)).mean()
    wrong = {"always zero": torch.ones(()).double()}
    if lam < 1:
        wrong["no denominator"] = (kept * lam).mean()
    verify("eq-simple-optimum", losses, least, monte_carlo, rejects=wrong)

total, floor, excess = (
    (a - b).square().sum(1).double()
    for a, b in ((noise, 0.5 * best + 0.2), (noise, best), (best, 0.5 * best + 0.2))
)
zero = torch.zeros(()).double()
nothing = {"no excess": excess.mean()}
verify("eq-excess-error", total - floor - excess, zero, monte_carlo, rejects=nothing)

# %% [markdown]
# *Sources: B25, B26.*

# %% [markdown]
# (sec-unet)=
# ## The network
#
# What must a network for noisy images do?
#
# 1. **Keep the detail**: noise is removed pixel by pixel.
# 2. **Use the whole image**: under much noise a pixel must be inferred from which digit it is.
# 3. **Know the time**: the same spot is noise at one time and part of the digit at another.
#
# The {term}`U-Net` {cite:p}`ronneberger2015` meets the first two by going down and up again ({numref}`fig-unet`). Convolutions of stride 2 make coarser scales, at which a convolution of $3 \times 3$ reaches further; *skip connections* hand the detail of each scale to the way up, past the narrow middle. A *residual block*, two convolutions with the time between them, adds its output to the stream of feature maps.


# %% tags=["figure"] mystnb={"image": {"alt": "A diagram in the shape of a U. From the noisy image at the top left, arrows go down through a block at each of three scales, 32 maps of 28 x 28, 64 of 14 x 14 and 128 of 7 x 7, through the middle of two blocks with attention between them, and up again through a block at each scale to the answer. Dashed arrows lead from each block on the left to the block of the same scale on the right. The time goes to every block."}, "figure": {"caption": "The U-Net. Gray: the stream of feature maps. Dashed: skip connections.", "name": "fig-unet"}}
def part(axes, place, text, edge="#777777"):
    box = {"boxstyle": "round,pad=0.4", "facecolor": "white", "edgecolor": edge}
    axes.text(*place, text, ha="center", va="center", fontsize=9, bbox=box)


def arrow(axes, start, end, color="#777777", style="-", bend=0.0, room=18):
    look = {"arrowstyle": "->", "color": color, "linestyle": style, "shrinkA": 16, "shrinkB": room}
    axes.annotate("", end, start, arrowprops=look | {"connectionstyle": f"arc3,rad={bend}"})


fig, (axes,) = plots.figure(height=3.1)
down, up = [(1, 2), (1.9, 1), (2.8, 0)], [(6.2, 0), (7.1, 1), (8, 2)]
path = [(-0.1, 2), *down, (4.5, 0), *up, (9.3, 2)]
names = ["$x_t$", *3 * ["block"], "block, attention,\nblock", *3 * ["block"], "answer"]
for start, end in pairwise(path):
    arrow(axes, start, end, room={(4.5, 0): 44, (9.3, 2): 25}.get(end, 18))
for start, end, bend in zip(down, reversed(up), (0, 0, -0.45), strict=True):
    arrow(axes, start, end, "#0072b2", "--", bend)
for place, name in zip(path, names, strict=True):
    part(axes, place, name)
for y, text in ((2, "32 maps\n28 x 28"), (1, "64 maps\n14 x 14"), (0, "128 maps\n7 x 7")):
    axes.text(-1.2, y, text, ha="center", va="center", fontsize=9)
part(axes, (4.5, 1.5), "time $t$: a vector $e$, to every block", "#d55e00")
axes.set(xlim=(-1.8, 9.9), ylim=(-0.5, 2.4))
axes.axis("off")
fig

# %% [markdown]
# **Self-attention** {cite:p}`vaswani2017` makes, by linear maps, of the features of each pixel a *query* $q_i$, a *key* $k_i$ and a *value* $v_i$, of $c$ components each, and adds to pixel $i$ a linear map of
#
# $$
# \sum_j a_{ij}\, v_j, \qquad a_{ij} = \frac{e^{q_i \cdot k_j / \sqrt{c}}}{\sum_l e^{q_i \cdot k_l / \sqrt{c}}} ,
# $$ (def-self-attention)
#
# the mean of all values, weighted by how well key $j$ fits query $i$. There is one weight for each pair of pixels, $49^2$ for maps of $7 \times 7$ and $784^2$ for $28 \times 28$; hence its place at the coarsest scale. The trained network does use the whole image:

# %% tags=["figure"] mystnb={"image": {"alt": "Four square panels on black. At the first time a single bright dot; then a dot with a faint halo; then a larger halo; at the last time a bright spot in a gray cloud that fills a good part of the panel."}, "figure": {"caption": "Where the trained network looks to estimate the middle pixel (brightness: root of the mean squared derivative; percent: the pixel's own part).", "name": "fig-looks-around"}}
model, card = pretrained("ddpm-mnist-long"), read_card("ddpm-mnist-long")


def looks_at(t, digits):
    """Mean square of the derivative of x_hat's middle pixel in each pixel of x_t."""
    _ = torch.manual_seed(0)
    x_t = add_noise(model.schedule, digits, t, torch.randn_like(digits))
    middle = model.denoise(x_t.requires_grad_(), t)[:, 0, 14, 14].sum()
    (gradient,) = torch.autograd.grad(middle, x_t)
    return gradient[:, 0].square().mean(0)


chosen = [10, 300, 600, 850]
digits = data.to_symmetric(test.images[:50])
looks = torch.stack([looks_at(t, digits) for t in chosen])
own = looks[:, 14, 14] / looks.sum((1, 2))
assert bool((own[:3].diff() < 0).all()) or test.name != "mnist"
bright = (looks / looks.amax((1, 2), keepdim=True)).sqrt()
titles = [f"t = {t}: {share:.0%}" for t, share in zip(chosen, own, strict=True)]
plots.image_grid(bright, titles=titles, tile=1.3)

# %% [markdown]

#
# *Sources: B31.*

# %% [markdown]
# (sec-time-embedding)=
# ### The time as an input
#
# As a single number, 7 and 8 out of 1000 would be nearly the same input, although at the first times the noise changes much from step to step. So the time is embedded as sines and cosines {cite:p}`vaswani2017`, with $m$ frequencies $\nu_0 > \dots > \nu_{m-1}$ that fall geometrically from 1 to $10^{-4}$:
#
# $$
# \mathrm{emb}(t) = \big( \sin \nu_0 t, \dots, \sin \nu_{m-1} t,\; \cos \nu_0 t, \dots, \cos \nu_{m-1} t \big) .
# $$ (def-sinusoidal)
#
# The high frequencies distinguish neighboring times, the low ones small times from large ones. A small perceptron turns the embedding into a vector $e$ for all blocks. {cite:t}`ho2020` *add* a linear map of $e$ to the feature maps, a number for each; {cite:t}`dhariwal2021` let it *scale and shift* them, which is called adaptive normalization. Why in every block? Each must do something else at each noise level, and a signal from the input alone would have to survive all layers.
#
# :::{depth-start} three ways to see the whole image, and distances of embedded times
# :::
# The set of input pixels that can change an output pixel is its {term}`receptive field`. Each convolution of $3 \times 3$ adds one pixel on each side, so $n$ of them in a row cover a square of width
#
# $$
# 2 n + 1 .
# $$ (eq-reach)
#
# We *measure* the field, for networks with random weights, as the pixels at which the gradient of one output pixel is not zero. A network of one scale with $b$ blocks on the way down has $4 b + 6$ convolutions in a row: one at the entrance, two in each of its $2 b + 2$ blocks, one at the exit.
#
# **Check.** The field is measured for $b = 1, 2, 3$. The check rejects the width for one convolution fewer, with the one at the entrance forgotten.


# %% tags=["check", "nbval-check-output"]
def influence(multipliers, blocks=1, attention=False, norms=False):
    """How much each input pixel moves the middle pixel of the output."""
    _ = torch.manual_seed(0)
    net = UNet((1, 64, 64), 8, multipliers, blocks).double()
    for part in list(net.modules()):
        if isinstance(part, nn.Conv2d | nn.Linear):
            _ = nn.init.normal_(part.weight, std=part.weight[0].numel() ** -0.5)
        for name, child in list(part.named_children()):
            if isinstance(child, nn.GroupNorm) and not norms:
                setattr(part, name, nn.Identity())
    if not attention:
        net.middle[0].attend = nn.Identity()
    x = torch.randn(1, 1, 64, 64).double().requires_grad_()
    net(x, torch.tensor([500]))[0, 0, 32, 32].backward()
    return x.grad[0, 0].abs()


depths = torch.tensor([1, 2, 3])
n = 4 * depths + 6
width = torch.stack([(influence((1,), b) > 0).any(0).sum() for b in depths.tolist()])
verify("eq-reach", width, 2 * n + 1, rejects={"without one": 2 * n - 1})

# %% tags=["figure"] mystnb={"image": {"alt": "Five square panels. One scale: a small bright square on black. Two scales: a square of four fifths of the width. Three scales: the whole panel is bright, most in the middle. Attention and normalized: a small bright square, and gray everywhere else."}, "figure": {"caption": "Which input pixels change the output pixel in the middle, and how much. The gray level is the logarithm of the gradient: black for none, white for the largest.", "name": "fig-receptive-fields"}}
fields = {
    "one scale": influence((1,)),
    "two scales": influence((1, 1)),
    "three scales": influence((1, 1, 1)),
    "one, attention": influence((1,), attention=True),
    "one, normalized": influence((1,), norms=True),
}
powers = [(field / field.max()).clamp(min=1e-8).log10() for field in fields.values()]
plots.image_grid(torch.stack(powers) / 8 + 1, titles=list(fields), tile=1.3)

# %% [markdown]
# {numref}`fig-receptive-fields` shows three ways to use the whole image: coarser scales, attention, and normalization, which divides by the standard deviation of *all* pixels and so gives each of them a small influence everywhere. A block, in which the time enters as the vector `e` between the two convolutions, and the whole network:

# %% tags=["shown", "nbval-check-output"]
show(Block.forward, docstring=False)

# %% tags=["shown", "nbval-check-output"]
show(UNet.forward, docstring=False)

# %% [markdown]
# **The distance of two times.** Sine and cosine of one frequency are a point on the unit circle at the angle $\nu_k t$, so the distance of two embedded times depends on their difference alone ({numref}`fig-embedding-distance`):
#
# $$
# \lVert \mathrm{emb}(s) - \mathrm{emb}(t) \rVert^2 = 4 \sum_{k=0}^{m-1} \sin^2 \frac{\nu_k (s - t)}{2} .
# $$ (eq-embedding-distance)
#
# **Check.** The distances of all pairs of a thousand times are computed from the embedding of the companion. The check rejects the formula with angles that are not halved.

# %% tags=["check", "nbval-check-output"]
e = SinusoidalEmbedding(32).double()
times = torch.arange(1, 1001)
waves = e(times)
lag = (times[:, None] - times).double()
angles = e.frequencies[:, None, None] * lag
right = (4 * (angles / 2).sin().square().sum(0)).sqrt()
wrong = {"not halved": (4 * angles.sin().square().sum(0)).sqrt()}
apart = (waves[:, None] - waves).norm(dim=2)
verify("eq-embedding-distance", apart, right, exact.within(1e-8), rejects=wrong)

# %% tags=["figure"] mystnb={"image": {"alt": "Two curves of distance over the difference of two times. The sinusoidal one rises quickly to about three and goes on slowly with small waves; the random one starts lower, overtakes it after some ten steps, and stays between five and seven."}, "figure": {"caption": "Distance of two embeddings of 32 dimensions, by the difference of the times. The sinusoidal embedding separates neighboring times more.", "name": "fig-embedding-distance"}}
_ = torch.manual_seed(0)
fourier = FourierEmbedding(32, 16 / 1000).double()
fourier_distance = 2 * (fourier.frequencies[:, None] * lag[0] / 2).sin().norm(dim=0)
lags = -lag[0, 1:121]
plots.curves(
    {
        "sinusoidal": (lags, right[0, 1:121]),
        "random Fourier features": (lags, fourier_distance[1:121]),
    },
    x_label="difference of the times (steps)",
    y_label="distance",
)

# %% [markdown]
# :::{depth-end}
# :::
#
# *Sources: B32.*

# %% [markdown]
# (sec-why-v)=
# ## What the network should estimate
#
# Why predict the noise and not the image, which is what we want? The image $x_0$, the noise and $v = \sqrt{\bar\alpha_t}\, \varepsilon - \sqrt{1 - \bar\alpha_t}\, x$ determine each other once $x_t$ is known, so the best estimate is the same in each form. (The image is $(x_t - \sqrt{1 - \bar\alpha_t}\, \varepsilon) / \sqrt{\bar\alpha_t}$, or $\sqrt{\bar\alpha_t}\, x_t - \sqrt{1 - \bar\alpha_t}\, v$.) But a trained network makes errors. {numref}`fig-same-error` shows which image its output implies by {eq}`eq-five-errors`, if its errors are of the same size at all times:

# %% tags=["figure"] mystnb={"image": {"alt": "Four rows of the digit seven at five times from 10 to 900. First row, the noisy image. Second row, from an estimate of x zero: equally grainy at all times, also at time 10 where the noisy image is nearly clean. Third row, from the noise: clean at time 10, pure noise from time 600 on. Fourth row, from v: clean at time 10 and never worse than the second row."}, "figure": {"caption": "The image that an output with the same error at all times implies, on the linear schedule.", "name": "fig-same-error"}}
times = [10, 100, 300, 600, 900]
_ = torch.manual_seed(0)
seven = data.to_symmetric(test.images[:1]).double().expand(5, 1, 28, 28)
noise, output_error = torch.randn(2, 1, 1, 28, 28).double()
kept = schedule.alpha_bar[times].view(5, 1, 1, 1)
factors = {"$x_0$": kept**0, "noise": ((1 - kept) / kept) ** 0.5, "$v$": (1 - kept) ** 0.5}
rows = {"$x_t$": add_noise(schedule, seven, torch.tensor(times), noise.expand(5, 1, 28, 28))}
rows |= {f"from {name}": seven + 0.3 * factor * output_error for name, factor in factors.items()}
rows = {name: data.to_unit(row.clamp(-1, 1)) for name, row in rows.items()}
plots.image_rows(rows, titles=[f"$t$ = {t}" for t in times], tile=0.8)

# %% [markdown]
# A network that estimates $x_0$ is bad at low noise: it must reproduce an image that it is given nearly clean, and in the implied noise its error is multiplied by $\sqrt{\mathrm{SNR}_t}$. A network that estimates the noise is bad at high noise: its input is nearly the noise itself, and in the implied image each error is divided by $\sqrt{\mathrm{SNR}_t}$, which is small. Of these only $v$ {cite:p}`salimans2022` is good at both ends: it is nearly the noise where the image is clean, and nearly minus the image where $x_t$ is nearly noise. The image has $\sqrt{1 - \bar\alpha_t}$ times the error of the output and the noise $\sqrt{\bar\alpha_t}$ times, never more than that.
#
# Does a trained network make such errors? For images the floor is unknown, but not the error of the best *linear* estimate of the noise. If the covariance of the data has the eigenvalues $\lambda_1, \dots, \lambda_D$, this squared error is, per dimension and as in {eq}`eq-simple-optimum`,
#
# $$
# \mathrm{lin}_t = \frac1D \sum_{j=1}^{D} \frac{\bar\alpha_t\, \lambda_j}{\bar\alpha_t\, \lambda_j + 1 - \bar\alpha_t} .
# $$ (eq-linear-bound)
#
# A network could compute it; where it is worse, it has seen few such times, or the output is hard to make. Here is one for $8 \times 8$ digits that estimates the noise:

# %% tags=["numbers", "columns"]
small_train, small_test = data.load("digits", "train"), data.load("digits", "test")
small_x, small_y = (data.to_symmetric(part.images) for part in (small_train, small_test))
small, fine = pretrained("ddpm-digits"), pretrained("ddpm-digits").double()
_ = torch.manual_seed(0)
values = torch.linalg.eigvalsh(torch.cov(small_x.flatten(1).T.double())).clamp(min=0)
baseline = linear_noise_error(schedule, values).mean(1)
chosen = [10, 100, 300, 500, 700, 850, 1000]
found = noise_errors(small, small_y, chosen).mean(1)
print("   t      error     linear   quotient")
for t, error in zip(chosen, found, strict=True):
    print(f"{t:4} {error:10.2e} {baseline[t]:10.2e} {error / baseline[t]:10.2f}")
assert found[1] < baseline[100] and found[-1] > 10 * baseline[1000]

# %% [markdown]
# Up to $t = 300$ the network is better than any linear estimate. At $t = 1000$ it is much worse, although its output should be almost a copy of its input. In nats this costs hardly anything (box below), yet the $\hat{x}$ that it implies is useless. Predicting the noise works all the same, because the first reverse steps take only a small part of $\hat{x}$, and where the image is decided the noise is estimated well. By {eq}`eq-five-errors` the squared error of $v$ is
#
# $$
# \lVert e_v \rVert^2 = \frac{\lVert e_\varepsilon \rVert^2}{\bar\alpha_t} :
# $$ (eq-v-loss)
#
# nearly the same loss at small $t$, and at large $t$ nearly the squared error of the image.

# %% [markdown]
# (sec-thrown-away)=
# ## What the simple loss throws away
#
# Where has the bound gone? For $D$ dimensions and fixed variances, minus the bound is a sum of four parts, by {eq}`eq-three-terms`, {eq}`eq-step-cost` and {eq}`eq-five-weights`:
#
# $$
# \begin{aligned}
# - \mathrm{ELBO}(x) = {} & \underbrace{D_{\mathrm{KL}}\big( q(x_T \mid x) \,\Vert\, p(x_T) \big)}_{\text{prior matching}} + \underbrace{\frac{D}{2} \sum_{t=2}^{T} \Big( \frac{\tilde\beta_t}{\sigma_t^2} - 1 - \log \frac{\tilde\beta_t}{\sigma_t^2} \Big)}_{\text{variances}} \\
# & + \underbrace{\sum_{t=2}^{T} \omega_\varepsilon(t)\, \mathbb{E} \lVert e_\varepsilon(t) \rVert^2}_{\text{errors}} \; \underbrace{- \, \mathbb{E} \log p_\theta(x \mid x_1)}_{\text{reconstruction}} ,
# \end{aligned}
# $$ (eq-bound-from-errors)
#
# with $e_\varepsilon(t) = \varepsilon - \varepsilon_\theta(x_t, t)$ and the weights of the last chapter, $\omega_\varepsilon(t) = \frac{\beta_t^2}{2 \sigma_t^2\, \alpha_t (1 - \bar\alpha_t)}$. The simple loss has the errors with equal weights, a squared error at $t = 1$, and no variances. So to learn variances, which help in few steps, a little of the bound joins the loss, its noisy gradient kept from the mean; {cite:t}`nichol2021` let the network mix $\log \tilde\beta_t$ (right if the image is known) and $\log \beta_t$ (if the data are noise).
#
# **Check.** For one $8 \times 8$ digit at all thousand times, the left side adds up the terms of `elbo_step`, which computes KL divergences, and the right side uses errors and weights. The check rejects equal weights, and a bound without the cost of the variances.


# %% tags=["check", "nbval-check-output"]
def variances_cost(reverse_var, schedule=schedule):
    """What the variances cost, in nats for each dimension, at each time; 0 at t < 2."""
    ratio = schedule.posterior_var[2:] / reverse_var[2:]
    return F.pad(0.5 * (ratio - 1 - ratio.log()), (2, 0))


_ = torch.manual_seed(0)
every, x = torch.arange(1, 1001), small_y[:1].double()
many, noise = x.expand(1000, 1, 8, 8), torch.randn(1000, 1, 8, 8).double()
prior = kl_divergence(fine.posterior(x), fine.prior(1))[0]
by_steps = prior - elbo_step(fine, many, every, noise).sum()
x_t = add_noise(schedule, many, every, noise)
x_hat = fine.denoise(x_t, every)
error = (noise - noise_from_x_0(schedule, x_t, every, x_hat)).square().flatten(1).sum(1)
weight = bound_weights(schedule, fine.reverse_var).noise[1:]
variances = 64 * variances_cost(fine.reverse_var).sum()
reconstruction = -fine.reconstruction(x_hat[:1]).log_prob(x)[0]
rest = prior + variances + reconstruction
by_errors = rest + (weight * error)[1:].sum()
wrong = {"equal weights": rest + weight[1:].mean() * error[1:].sum()}
wrong["no variances"] = by_errors - variances
verify("eq-bound-from-errors", by_steps, by_errors, exact.within(1e-6), rejects=wrong)

# %% tags=["figure"] mystnb={"image": {"alt": "Three curves over time on logarithmic axes. The weight of the bound falls from above ten to a minimum in the middle and rises a little. The simple loss is flat. The loss in v is flat until the middle and then rises steeply."}, "figure": {"caption": "What a squared error of the noise counts at each time, over its mean (linear schedule). Percentages: $2 \\le t \\le 10$.", "name": "fig-weights"}}
every, decoder_var = torch.arange(1, 1001), schedule.posterior_var[2]
weights = {
    "bound": bound_weights(schedule, schedule.posterior_var, decoder_var).noise[2:],
    "simple loss": torch.ones(999).double(),
    "loss of v": 1 / schedule.alpha_bar[2:],
}
shares = {name: (w[:9].sum() / w.sum()).item() for name, w in weights.items()}
plots.curves(
    {f"{name} ({shares[name]:.1%})": (every[1:], w / w.mean()) for name, w in weights.items()},
    x_label="time $t$",
    y_label="weight of an error",
    log_x=True,
    log_y=True,
)

# %% [markdown]
# Why does the simple loss give better pictures and a worse bound, as {cite:t}`ho2020` found? The bound puts its weight on the smallest $t$ ({numref}`fig-weights`), where the last faint noise is removed: most of the nats are for detail that nobody sees. The simple loss moves that weight to the larger $t$, where the content of the image is decided. A perfect network predicts $\varepsilon^*$ whatever the weights are; a real one must serve all times with the same parameters.
#
# **What an error costs.** Let $\mathrm{MSE}_t = \mathbb{E} \lVert e_\varepsilon(t) \rVert^2$ for a network, and $\mathrm{MMSE}_t$ for $\varepsilon^*$, the minimum. With a Gaussian likelihood the reconstruction is one more squared error, that of $t = 1$, and
#
# $$
# \mathbb{E}\, \mathrm{ELBO}_\theta = \mathbb{E}\, \mathrm{ELBO}_* - \sum_{t=1}^{T} \omega_\varepsilon(t)\, \big( \mathrm{MSE}_t - \mathrm{MMSE}_t \big) ,
# $$ (eq-deficit)
#
# where $\mathrm{ELBO}_*$ is the bound of $\varepsilon^*$ with the same variances: all else in {eq}`eq-bound-from-errors` is the same. So what a network loses in nats is its weighted excess.
#
# **Check.** A denoiser that is wrong on purpose removes only 80 percent of the noise. The left side is a difference of two bounds, by `elbo_step`. On the right $\mathrm{MSE}_t - \mathrm{MMSE}_t$ is the excess, computed from two predictions alone. The check rejects the excess without its weights.

# %% tags=["check", "nbval-check-output"]
perfect = Ddpm(exact_hat, toy.schedule, (2,), toy.schedule.beta)
w = bound_weights(toy.schedule, toy.schedule.beta).noise
y = points[-1500:]


def both_sides(denoiser):
    """Nats that a denoiser loses, its weighted excess, and its plain excess."""
    other = Ddpm(denoiser, toy.schedule, (2,), toy.schedule.beta)
    lost, weighted, plain = torch.zeros(3, len(y)).double()
    for time in range(1, 101):
        t, noise = torch.full((len(y),), time), torch.randn(len(y), 2)
        lost += elbo_step(perfect, y, t, noise) - elbo_step(other, y, t, noise)
        x_t = add_noise(toy.schedule, y, t, noise)
        best, answer = (
            noise_from_x_0(toy.schedule, x_t, t, hat(x_t, t)) for hat in (exact_hat, denoiser)
        )
        excess = (best - answer).square().sum(1)
        weighted, plain = weighted + w[time] * excess, plain + excess
    return lost, weighted, plain


def timid(x_t, t):
    """A denoiser that removes only 80 percent of the noise it sees."""
    noise = noise_from_x_0(toy.schedule, x_t, t, exact_hat(x_t, t))
    return x_0_from_noise(toy.schedule, x_t, t, 0.8 * noise)


_ = torch.manual_seed(0)
lost, weighted, plain = both_sides(timid)
wrong = {"without weights": weighted.mean() - plain.mean()}
verify("eq-deficit", lost - weighted, zero, monte_carlo, rejects=wrong)

# %% [markdown]
# **Why not train on the bound?** {cite:t}`nichol2021` found its gradient noisier: a batch that happens to contain small times, whose weights are large, has a much larger gradient than one without. Times drawn with probabilities $p_t$ multiply the weight of each by $T p_t$; dividing by that keeps the objective, and changes the variance only. Times *in proportion to the weights*, which then cancel ({ref}`ex-better-times`), can remove a part of the noise (box).
#
# :::{depth-start} errors at the noisiest times cost few nats, and the gradient of the bound is noisier
# :::
# (The estimate of $v$ was introduced for samplers of few steps, where each single $\hat{x}$ counts. The *preconditioning* of {cite:t}`karras2022` comes to the same mixture.)
#
# **Names.** In {eq}`eq-bound-from-errors` the first part is also called $L_T$, the last $L_0$, and the two in the middle $L_1 + \dots + L_{T-1}$.
#
# **The errors of the small network.** The network of the $8 \times 8$ digits estimates the noise worse than a linear map does at the noisiest times. (An *untrained* network that estimates $v$ answers zero; the noise that this implies is nearly $x_t$, and better.) What does this cost?

# %% tags=["numbers"]
late = torch.arange(720, 1001, 20)
_ = torch.manual_seed(0)
too_much = noise_errors(small, small_y, late).mean(1) - baseline[late]
price = 64 * 20 * (bound_weights(schedule, small.reverse_var).noise[late] * too_much).sum()
print(f"more error than a linear estimate, from t = 710 on: {price:.2f} nats")
error_of_image = found[-1] / schedule.snr[1000] / values.mean()
print(
    f"the estimated image at t = 1000 has {error_of_image:.0f} times the data's variance as its squared error"
)
_ = torch.manual_seed(0)
untrained = image_ddpm(UNet((1, 8, 8), 16, (1, 2), blocks=1), levels=17)  # estimates v
at_the_end = noise_errors(untrained, small_y, [1000]).mean()
assert at_the_end < found[-1]  # no training beats training at t = 1000

# %% [markdown]
# In nats hardly anything.
#
# **Checks.** The linear map is fitted by least squares to the second moments of forty digits; the formula with all eigenvalues replaced by their mean is rejected. The losses of the noise and of $v$ are computed for one batch with the same times and the same noise; a division by $1 - \bar\alpha_t$ is rejected.

# %% tags=["check", "nbval-check-output"]
few = small_x[:40].flatten(1).double()
cov = torch.cov(few.T, correction=0)
t = torch.tensor([10, 100, 500])
scale, var = (k[:, None, None] for k in schedule.forward_coefficients(0, t))
cov_t = scale**2 * cov + var * torch.eye(64).double()
slope = torch.linalg.solve(cov_t, var.sqrt() * torch.eye(64).double())
by_fit = (1 - var.sqrt() * slope.diagonal(dim1=1, dim2=2)[:, None]).mean((1, 2))
values = torch.linalg.eigvalsh(cov).clamp(min=0)
by_values = linear_noise_error(schedule, values)[t].mean(1)
wrong = {"one mean eigenvalue": linear_noise_error(schedule, values.mean()[None])[t, 0]}
verify("eq-linear-bound", by_fit, by_values, exact.within(1e-8), rejects=wrong)

x = small_y[:32].double()
_ = torch.manual_seed(0)
of_noise = denoising_loss(fine, x, schedule.snr)
_ = torch.manual_seed(0)
of_v = denoising_loss(fine, x, 1 / schedule.noise_var)
_ = torch.manual_seed(0)
kept = schedule.alpha_bar[torch.randint(1, 1001, (32,))]
wrong = {"over 1 - alpha-bar": of_noise / (1 - kept)}
verify("eq-v-loss", of_v, of_noise / kept, exact.within(1e-8), rejects=wrong)

# %% [markdown]
# **Losses that are bounds.** Trained on the bound itself, diffusion models reached the best likelihoods of their time on photographs {cite:p}`kingma2021`. Divide the weights of a loss by those of the bound. If the quotient only rises with the noise, it is a sum of steps, and the loss an average of bounds: each step counts the errors from its level on {cite:p}`kingma2023`. That of the simple loss falls again at the noisiest times.
#
# **The ring.** For its shipped network the weighted excess is small; a network trained with the weights of the bound gains a little (one training each, ± standard error over points):

# %% tags=["numbers"]
_ = torch.manual_seed(0)
lost, weighted, plain = both_sides(shipped.denoiser)
n = len(y) ** 0.5
print(f"trained on the simple loss, it loses {lost.mean():.3f} +- {lost.std() / n:.3f} nats")
print(f"by the weighted excess          {weighted.mean():.3f} +- {weighted.std() / n:.3f} nats")
by_bound = pretrained("ddpm-toy2d-bound")
_ = torch.manual_seed(1)
fresh, found = ring.sample((5000,)) / 2, {}
for name, net in {"simple loss": shipped, "the bound": by_bound}.items():
    _ = torch.manual_seed(2)
    found[name] = -elbo_terms(net, fresh).elbo.double()
    nats = found[name].mean(), found[name].std() / 5000**0.5
    print(f"trained on {name:11}: minus the bound {nats[0]:.4f} +- {nats[1]:.4f}")
gain = found["simple loss"] - found["the bound"]
print(f"gain, point by point: {gain.mean():.4f} +- {gain.std() / 5000**0.5:.4f}")
assert gain.mean() > 3 * gain.std() / 5000**0.5

# %% [markdown]
# **The gradient.** For the network of the ring after twenty steps, here is the variance of the gradient over its squared mean, also for times drawn in proportion to the weights:


# %% tags=["numbers"]
def gradient_noise(net, by_weights, weighted, batch=500, num=40):
    """Variance of a batch's gradient, summed, over the square of its mean."""
    p_t = w[1:].float() if by_weights else torch.ones(100)
    gradients = []
    for _ in range(num):
        t = torch.multinomial(p_t, batch, replacement=True) + 1
        noise = torch.randn(batch, 2)
        x_t = add_noise(toy.schedule, ring.sample((batch,)) / 2, t, noise)
        errors = (noise - net(x_t, t)).square().sum(1)
        loss = (errors * (w[t] if weighted else 1)).mean()
        parts = torch.autograd.grad(loss, list(net.parameters()))
        gradients += [torch.cat([g.flatten() for g in parts])]
    noise = torch.stack(gradients).var(0).sum()
    mean = torch.stack(gradients).mean(0)
    return (noise / (mean.square().sum() - noise / num)).item()


_ = torch.manual_seed(0)
_, net, _ = saved[0]  # the network after twenty steps
noises = {
    "simple loss, uniform times": gradient_noise(net, False, False),
    "weighted loss, uniform times": gradient_noise(net, False, True),
    "weighted loss, times drawn by the weights": gradient_noise(net, True, False),
}
for name, ratio in noises.items():
    print(f"{name:42} noise over signal {ratio:.2f}")
simple, weighted_loss, drawn_times = noises.values()
assert weighted_loss > 1.5 * simple and weighted_loss > 1.2 * drawn_times

# %% [markdown]
# :::{depth-end}
# :::

# %% [markdown]
# (sec-two-schedules)=
# ## Two schedules, and the average of the weights
#
# With uniform times the schedule decides how often each noise level is seen. On the *linear* schedule $\beta_t$ increases linearly with $t$, so that $\log \bar\alpha_t$ falls like $-t^2$ and nothing is left long before $T$. {cite:t}`nichol2021` found that it destroys small images too early. On their *cosine* schedule, which our network uses, $\bar\alpha_t$ falls like a squared cosine, with a small offset $s = 0.008$ and no $\beta_t$ above 0.999:
#
# $$
# \bar\alpha_t = \frac{f(t)}{f(0)}, \qquad f(t) = \cos^2 \Big( \frac{t / T + s}{1 + s} \cdot \frac{\pi}{2} \Big) ,
# $$ (def-cosine-schedule)

# %% tags=["figure"] mystnb={"image": {"alt": "Two rows of the digit seven at ten times from 1 to 901. With the linear schedule it is hard to read from time 400 on and gone at 600; with the cosine schedule it can be read until 600 and is gone at 900."}, "figure": {"caption": "The same digit and the same noise at the same times, on two schedules.", "name": "fig-schedules-dissolve"}}
cosine = cosine_schedule(1000)
two = {"linear": schedule, "cosine": cosine}
times = torch.arange(1, 1000, 100)
_ = torch.manual_seed(0)
sevens, noise = seven[:1].expand(10, 1, 28, 28), torch.randn(1, 1, 28, 28).double()
rows = {name: add_noise(s, sevens, times, noise.expand(10, 1, 28, 28)) for name, s in two.items()}
rows = {name: data.to_unit(row.clamp(-1, 1)) for name, row in rows.items()}
plots.image_rows(rows, titles=[f"{t}" for t in times.tolist()], tile=0.6)

# %% [markdown]
# Where is there something to learn? Where the best linear estimate leaves neither all nor nothing of the variance unexplained:

# %% tags=["figure"] mystnb={"image": {"alt": "Two panels over time. Left, the fraction of the image's variance: the linear schedule falls faster and is near zero from t = 700 on, the cosine reaches zero only at the end. Right, the fraction of the digits' variance that a linear estimate leaves unexplained: the linear schedule's curve rises earlier and is flat at the end."}, "figure": {"caption": "Left: the fraction of the image's variance in $x_t$. Right: the fraction that the best linear estimate leaves unexplained. In brackets, how many times lie above 0.95.", "name": "fig-two-schedules"}}
centered = (2 * train.images - 1).flatten(1)
centered = centered - centered.mean(0)
cov = (centered.T @ centered).double() / len(centered)
values, vectors = torch.linalg.eigh(cov)
values = values.clamp(min=0)  # rounding goes below 0
open_share = {
    name: linear_noise_error(s, values).mean(1)[1:] / s.snr[1:] / values.mean()
    for name, s in two.items()
}
lost = {name: (share > 0.95).double().mean().item() for name, share in open_share.items()}
assert lost["cosine"] < lost["linear"] or test.name != "mnist"
fig, (left, right) = plots.figure(2, height=3.0)
_ = plots.curves(
    {name: (every, s.alpha_bar[1:]) for name, s in two.items()},
    x_label="time $t$",
    y_label=r"share of the image, $\bar\alpha_t$",
    axes=left,
)
_ = plots.curves(
    {f"{n} ({lost[n]:.0%})": (every, share) for n, share in open_share.items()},
    x_label="time $t$",
    y_label="unexplained share of the variance",
    axes=right,
)
fig

# %% [markdown]
# On the linear schedule it leaves nearly all unexplained in a good part of the thousand steps ({numref}`fig-two-schedules`). For the bound of a perfect denoiser that hardly matters: with many steps it depends only on the two ends {eq}`eq-snr-limit`. For a training it does: in short trainings of a small network the linear one is as good as the cosine if its times are drawn for the same noise levels (box). At a higher resolution neighboring pixels say nearly the same, and their mean shows through the noise, so a schedule must be shifted towards more noise; and it should end in pure noise, where samples start (box).
#
# **The average of the weights.** With a constant learning rate each batch keeps moving the weights. So {cite:t}`ho2020` sample with an {term}`exponential moving average` of them; the gradient steps go on from the weights themselves. With $\theta_n$ the weights after step $n$ and a decay $d$ such as 0.999,
#
# $$
# \bar\theta_n = d\, \bar\theta_{n-1} + (1 - d)\, \theta_n, \qquad \bar\theta_1 = \theta_1 .
# $$ (def-ema)
#
# If the weights jitter around a point that moves slowly, their mean is nearer to it than the last of them. The training above kept such an average, with $d = 0.99$:

# %% tags=["figure"] mystnb={"image": {"alt": "Two curves of the excess over the training step on a logarithmic axis. The average starts far above the weights, crosses them after some 250 to 300 steps and then stays below, and is smooth where the weights jitter."}, "figure": {"caption": "The excess over the floor, at a constant learning rate.", "name": "fig-ema"}}
plots.curves(
    {"weights": (steps, excess_of_last), "their average": (steps, excess_of_average)},
    x_label="step",
    y_label="excess squared error of the noise",
    log_y=True,
)

# %% [markdown]
# It is behind at first ({numref}`fig-ema`), since it still contains the poor weights of the beginning. Its memory is about $1 / (1 - d)$ steps, and the training must be several times as long.
#
# :::{depth-start} the noise levels matter, and the average has a quarter less excess; train it yourself
# :::
# **Schedules.** In short trainings of a small network the noise levels make all the difference ({ref}`experiment <exp-schedules>`, four trainings of each). At signal-to-noise ratios of 1 and above the squared error of the image, per pixel, is 0.091 ± 0.003 with the linear schedule and 0.078 ± 0.001 with the cosine one. If the times of the linear schedule are drawn so that the noise levels are those of the cosine one, it is 0.078 ± 0.001, and the other way around 0.092 ± 0.003. After four times the steps the difference is smaller, 0.0670 ± 0.0005 and 0.0625 ± 0.0004, and at four times the learning rate there is hardly any, 0.1435 ± 0.0002 and 0.1428 ± 0.0003.
#
# At a higher *resolution* neighboring pixels say nearly the same, so the same noise hides less of the picture: the schedule must be shifted towards more noise {cite:p}`hoogeboom2023`. And it should *end* in noise: if the mean brightness is still legible at $T$, a network learns to read it, but samples start from noise that says nothing, and their brightness is always the mean. So rescale the schedule to $\bar\alpha_T = 0$, and estimate $v$, since at $T$ the noise is given {cite:p}`lin2024`.
#
# **The average.** Five trainings agree ({ref}`experiment <exp-weight-average>`): in the last third of the steps the excess of the average is 26 ± 1 % below that of the weights; at a quarter of the rate it is 4.5 ± 0.3 %, at four times the rate 32 ± 1 %, with four times the steps 40 ± 4 %. The changes of the excess from one measurement to the next have a standard deviation of 0.150 ± 0.012 of its mean, those of the average 0.007 ± 0.001. A learning rate that falls to zero nearly reaches it in 600 steps: its last weights have an excess of 0.0317 ± 0.0002, and the last average at the constant rate 0.0312 ± 0.0001. In 2,400 steps the average is ahead (both rates begin alike), with 0.010 ± 0.002 against 0.019 ± 0.003.
#
# It is a weighted mean of all weights so far,
#
# $$
# \bar\theta_n = d^{\,n-1}\, \theta_1 + (1 - d) \sum_{k=2}^{n} d^{\,n-k}\, \theta_k .
# $$ (eq-ema-sum)
#
# Weights that are $1 / (1 - d)$ steps old count $1 / e$ as much as the newest. If the weights were independent draws with variance 1, the variance of their average would tend to
#
# $$
# \operatorname{Var} \bar\theta_n \;\longrightarrow\; (1 - d)^2 \sum_{k=0}^{\infty} d^{\,2k} = \frac{1 - d}{1 + d} .
# $$ (eq-ema-noise)
#
# **Checks.** Three hundred random weights are averaged by the companion; a sum whose first weight counts like the others is rejected. The recursion {eq}`def-ema` is simulated with $d = 0.9$; variances of $1 - d$ and of $(1 - d) / 2$ are rejected.

# %% tags=["check", "nbval-check-output"]
_ = torch.manual_seed(0)
d, thetas = 0.99, torch.randn(300).double()
single = nn.Linear(1, 1, bias=False).double()
running = exponential_average(single, d)
for theta in thetas:
    _ = single.weight.data.fill_(theta)
    running.update_parameters(single)
shares = (1 - d) * d ** torch.arange(299, -1, -1.0).double()
like_others = (shares * thetas).sum()
shares[0] = d**299
averaged = running.module.weight[0, 0]
verify("eq-ema-sum", averaged, (shares * thetas).sum(), rejects={"first alike": like_others})

d, mean = 0.9, torch.randn(400_000).double()
for _ in range(80):
    mean = d * mean + (1 - d) * torch.randn(400_000).double()
limit = torch.tensor((1 - d) / (1 + d)).double()
wrong = {"1 - d": limit * (1 + d), "half of it": limit * (1 + d) / 2}
verify("eq-ema-noise", mean, limit, variance, rejects=wrong)

# %% [markdown]
# **Train it yourself.** Here are the first steps of the DDPM of digits with $8 \times 8$ pixels, at most 20 seconds on two cores; `train_it("ddpm-digits", "full")` takes all of them. A network that always answers zero has a loss of about 64, one for each pixel.

# %%
print(cost("ddpm-digits"))
mine = watch(train_it("ddpm-digits"))
assert torch.tensor(mine.losses[-20:]).mean() < 64 / 3

# %% [markdown]
# :::{depth-end}
# :::

# %% [markdown]
# (sec-ddpm-samples)=
# ## Samples
#
# Our network was trained on the 60,000 digits of MNIST by Algorithm 1, but estimates $v$, on the cosine schedule. Times at which next to nothing of the image can be seen are drawn less often and so count less, those at which the digit is decided {cite:p}`karras2022` and those next to the data more (box). And for half of the digits it was given their class, for {ref}`chapter 13 <sec-classifier-free>`; here it gets none.

# %% tags=["figure", "mnist"] mystnb={"image": {"alt": "Four rows of ten gray digits on black, most of them readable as digits."}, "figure": {"caption": "Forty samples with all thousand steps, not selected.", "name": "fig-ddpm-samples"}}
samples = record["samples"].float() / 255
plots.image_grid(samples[:40])

# %% [markdown]
# :::{depth-start} which digits of the first figure are real
# :::
# R marks them:

# %% tags=["numbers", "nbval-check-output", "mnist"]
letters = ["R" if place < 10 else "-" for place in order.tolist()]
print(" ".join(letters[:10]))
print(" ".join(letters[10:]))

# %% [markdown]
# :::{depth-end}
# :::
#
# **How good are the samples?** Three measures compare them with real digits and decoder means of chapter 6's VAE.
#
# 1. *Not recognized*: the fraction of images that two classifiers with an eleventh class, *no digit*, do not recognize, in excess over all test digits. They were trained on real digits and on corrupted ones (cut, pasted, mirrored, warped), never on samples of a model; both kinds were blurred and shifted alike, so that sharpness does not distinguish them. We print the mean of both, and state a difference only where both see it.
# 2. *Sure*: the probability of the likeliest class, by a classifier of the ten classes.
# 3. *Distance*: the squared {term}`Fréchet distance` from the training digits, between two Gaussians with the means $m$ and covariances $C$ of the 64 features of that classifier,
#
# $$
# \mathrm{FD} = \lVert m_1 - m_2 \rVert^2 + \operatorname{tr}\big( C_1 + C_2 - 2\, (C_1^{1/2} C_2\, C_1^{1/2})^{1/2} \big) .
# $$ (def-frechet)
#
# With another network's features it is the FID {cite:p}`heusel2017`.

# %% tags=["serves"]
classifier, vae = pretrained("classifier-mnist"), pretrained("vae-mnist")
_ = torch.manual_seed(0)
*_, by_vae = ancestral_sample(vae, len(samples))
real = test.images[torch.randperm(len(test.images))[: len(samples)]]
uniform, _ = load_record("ddpm-mnist-samples")
by_uniform = uniform["samples"].float() / 255  # linear schedule, uniform times
shown = {"real digits": real, "diffusion": samples, "uniform": by_uniform, "VAE": by_vae}
features = {name: digit_features(x) for name, x in shown.items()}
sure = {name: classifier.head(f).softmax(1).amax(1) for name, f in features.items()}
far = {name: feature_distance(f) for name, f in features.items()}
not_recognized = {name: unrecognized(x) for name, x in shown.items()}

# %% tags=["numbers", "columns"]
print("             images   sure: mean   above 0.99    not recognized          distance")
for name, p in sure.items():
    high, (share, error, _), distance = (p > 0.99).double().mean(), not_recognized[name], far[name]
    print(f"{name:12}{len(p):7}{p.mean():10.3f}{high:13.1%}{share:11.1%} +- {error:.1%}", end="")
    print(f"{distance.value:11.1f} +- {distance.standard_error:.1f}")
baseline = real_digit_distance()
print(f"distance of all test digits: {baseline.value:.2f} +- {baseline.standard_error:.2f}")
assert sure["diffusion"].mean() > 0.9 or test.name != "mnist"
order_of = ("real digits", "diffusion", "uniform", "VAE")
ranks = [not_recognized[a].below(not_recognized[b]) for a, b in pairwise(order_of)]
assert (all(ranks) and far["diffusion"].value < far["VAE"].value) or test.name != "mnist"

# %% [markdown]
# "Uniform" is nearly the same network, but with uniform times, on the linear schedule, without classes, for 16 epochs instead of 51; the table does not say which matters. Only the distance notices whether samples *differ*.
#
# **Time by time.** The network is far below every linear estimate until the image is lost in the noise:

# %% tags=["figure"] mystnb={"image": {"alt": "Three falling curves over time on logarithmic axes. The network's error lies below that of the best linear estimate over most of the range, by the most in the first third; towards the end all three curves run together and fall steeply."}, "figure": {"caption": "Squared error of the estimated noise, per pixel, on 500 test digits.", "name": "fig-error-by-time"}}
error, error_se = record["noise_error"], record["noise_error_se"]
linear = linear_noise_error(model.schedule, values).mean(1)
mean_image = model.schedule.snr * values.mean()
shown = {"network": error, "best linear estimate": linear}
plots.curves(
    {name: (every, curve[1:]) for name, curve in shown.items()}
    | {"mean image": (every[100:], mean_image[101:])},
    x_label="time $t$",
    y_label="squared error of the noise, per pixel",
    log_x=True,
    log_y=True,
)

# %% [markdown]
# Had it memorized its training digits, it would be better on them than on test digits; at four times it is not, within the errors (box).

# %% [markdown]
# :::{depth-start} the network beats the linear estimate at nearly all times, and is no better on training digits
# :::
# **The times of the training.** In the last 27 of 51 epochs half of the times lie around a signal-to-noise ratio of 0.1, where the digit is decided, and a third are among the first hundred, weighted as in the bound {cite:p}`kingma2023`.
#
# The distance of a small sample of $N$ images is biased upwards, by an amount in proportion to $1/N$. **The jackknife** removes most of this bias: leave out each tenth of the sample in turn, see how much the distance grows, and extrapolate. The ten distances give a standard error as well.

# %% tags=["shown"]
show(jackknife)

# %% [markdown]
# **When do samples follow the data distribution?** The KL divergence of the model from the data is at most the gap of the bound, which is a sum of three losses:
#
# $$
# D_{\mathrm{KL}}(p_{\text{data}} \,\Vert\, p_\theta) \;\le\; \underbrace{\text{prior and steps}}_{\text{exact denoiser, best } \sigma_t^2} + \underbrace{\text{variances}}_{\text{not the best } \sigma_t^2} + \underbrace{\sum_t \omega_\varepsilon(t)\, (\mathrm{MSE}_t - \mathrm{MMSE}_t)}_{\text{network}} .
# $$ (eq-decoder-limit)
#
# The left side goes to zero if $x_T$ is noise and the steps are small, if the variances are right, *and* if the network is exact at all times that have weight. We compute both sides for Gaussian data in one dimension, and a denoiser that estimates $1 + \delta$ times the noise it should.
#
# **Check.** The KL divergence of the samples comes from their exact variance, for three numbers of steps and three values of $\delta$. The check rejects a right side without the network's part.


# %% tags=["check", "columns", "nbval-check-output"]
def off_by(T, delta, lam=0.25):
    """KL of the model from the data, and the two parts of the gap, in nats."""
    s = linear_schedule(T, 0.1 / T, 20 / T)
    v = s.alpha_bar * lam + s.noise_var
    t, best = s.steps, F.pad(s.beta[1:] * v[:-1] / v[1:], (1, 0))
    used = torch.cat([best[:2], s.beta[2:]])  # the right sigma_1, and beta_t
    slope = (1 + delta) * s.noise_var[1:] / v[1:]  # of sqrt(1 - alpha_bar) noise in x_t
    q = s.reverse_coefficients(t)
    step = q.of_x_0 * (1 - slope) / s.alpha_bar[1:].sqrt() + q.of_x_t
    drawn = torch.ones(()).double()
    for time in range(T, 0, -1):
        drawn = step[time - 1] ** 2 * drawn + used[time]
    ratio = best[1:] / used[1:]
    steps = 0.5 * (v[-1] - 1 - v[-1].log() + (ratio - 1 - ratio.log()).sum())
    excess = delta**2 * s.noise_var / v
    network = (bound_weights(s, used).noise * excess).sum()
    kl = kl_divergence(Normal(0.0, lam**0.5), Normal(0.0, drawn**0.5))
    return kl, steps, network


cases = [(T, delta) for T in (30, 100, 1000) for delta in (0.0, 0.05, 0.2)]
found = [off_by(T, delta) for T, delta in cases]
kls, steps_part, network_part = (torch.stack(column) for column in zip(*found, strict=True))
no_network = {"without the network": steps_part}
verify("eq-decoder-limit", kls, steps_part + network_part, at_most(0), rejects=no_network)
print("   T  delta   KL of the samples   steps, variances   network")
for (T, delta), (kl, a, b) in zip(cases, found, strict=True):
    print(f"{T:4} {delta:6} {kl:18.5f} {a:18.5f} {b:11.5f}")

# %% [markdown]
# With the exact denoiser both sides go to zero as the number of steps grows; with a network that is off by five percent neither does. The KL divergence of the samples is far smaller than the gap, which is that of whole chains {eq}`eq-kl-chain`.

# %% [markdown]
# **Two baselines.** One more baseline takes the mean image for $\hat{x}$ at all times. Its squared error of the noise is
#
# $$
# \frac1D\, \mathbb{E} \lVert \varepsilon - \hat\varepsilon \rVert^2 = \mathrm{SNR}_t\, \frac1D \sum_{j=1}^{D} \lambda_j .
# $$ (eq-know-nothing)
#
# To count the times, the baseline must refer to the same 500 digits, whose variances are not those of the training digits. Let $y_j$ be the coordinate of $x$, minus the mean, along eigenvector $j$, and $V_t = \bar\alpha_t \lambda_j + 1 - \bar\alpha_t$. The linear estimate of the noise is $\sqrt{1 - \bar\alpha_t} / V_t$ times the coordinate of $x_t$, and its squared error, averaged over the noise, is
#
# $$
# \Big( \frac{\bar\alpha_t\, \lambda_j}{V_t} \Big)^2 + \frac{\bar\alpha_t\, (1 - \bar\alpha_t)\, y_j^2}{V_t^2} .
# $$ (eq-linear-on-others)
#
# For $y_j^2 = \lambda_j$ this is the term of {eq}`eq-linear-bound` again.
#
# **Checks.** The error of the mean image is measured on the small digits at three times; the formula without the signal-to-noise ratio is rejected. The exact denoiser for $\lambda = \frac14$ is applied to noisy versions of $x = 1$; the error on data of its own variance is rejected.

# %% tags=["check", "nbval-check-output"]
_ = torch.manual_seed(0)
mean_digit = small_x.double().mean(0)
constant = Ddpm(lambda x_t, t: 0 * x_t + mean_digit, schedule, (1, 8, 8), schedule.beta)
small_cov = torch.cov(small_x.flatten(1).T.double(), correction=0)
mean_variance = small_cov.trace() / 64
at_times = [5, 200, 1000]
measured = noise_errors(constant, small_x.double(), at_times).mean(1)
by_formula = schedule.snr[at_times] * mean_variance
wrong = {"without SNR": mean_variance.expand(3)}
verify("eq-know-nothing", measured, by_formula, rejects=wrong)


def linear_on_others(schedule, y2, values):
    """Squared error of the linear estimate along each eigenvector, by time."""
    kept, lost = schedule.alpha_bar[1:, None], schedule.noise_var[1:, None]
    total = kept * values + lost
    return F.pad(((kept * values) ** 2 + kept * lost * y2) / total**2, (0, 0, 1, 0))


_ = torch.manual_seed(0)
one, quarter = torch.ones(50_000, 1).double(), torch.tensor([0.25]).double()
hat = gaussian_denoiser(schedule, 0 * quarter, quarter[:, None])
measured = noise_errors(Ddpm(hat, schedule, (1,), schedule.beta), one, [100, 300]).T
right = linear_on_others(schedule, one[0], quarter)[[100, 300], 0]
usual = {"on its own data": linear_noise_error(schedule, quarter)[[100, 300], 0]}
verify("eq-linear-on-others", measured, right, monte_carlo, rejects=usual)

# %% tags=["numbers"]
first = 2 * (test.images[:500] - train.images.mean(0)).flatten(1).double()
y2 = (first @ vectors).square().mean(0)
baselines = {
    "training digits": linear[1:],
    "the same 500": linear_on_others(model.schedule, y2, values).mean(1)[1:],
}
print(f"these digits have {y2.sum() / values.sum():.3f} of the training variance")
for name, baseline in baselines.items():
    quotient = error[1:] / baseline
    low, high = quotient.argmin(), quotient.argmax()
    above = error[1:] - 2 * error_se[1:] > baseline
    print(f"\nlinear estimate on {name}: below it at {(quotient < 1).sum()} times,")
    print(f"above it by more than 2 standard errors at {above.sum()}; the quotient is")
    print(f"{quotient[low]:.2f} at t = {low + 1}, {quotient[high]:.3f} at t = {high + 1}")
    if test.name == "mnist" and name == "training digits":
        assert above.sum() <= 100

w = 784 * bound_weights(model.schedule, model.reverse_var).noise[2:]
won = w * (baselines["the same 500"][1:] - error[2:])
print(f"won by the network at t = 2 to 1000: {won.sum():.0f} nats for a digit")
print(f"lost where it is above the linear estimate: {-won.clamp(max=0).sum():.2f} nats")

_ = torch.manual_seed(0)
for t in (100, 400, 700, 850):
    at_t = [noise_errors(model, 2 * part.images[:120] - 1, [t]) for part in (train, test)]
    means = [errors.mean(1).item() for errors in at_t]
    spread = max(errors.std() / 120**0.5 for errors in at_t)
    print(f"t = {t}: {means[0]:.4f} on training digits, {means[1]:.4f} on test digits", end="")
    print(f", +- {spread:.4f}")

# %% [markdown]
# By either baseline the network is better at nearly all times, and never far behind. (Faint noise is alike on all images, and pure noise shows none, so an average over times could hide that training digits were memorized.) By {eq}`eq-deficit` the bounds of two estimates differ by the weighted difference of their squared errors.
#
# :::{depth-end}
# :::
#
# *Sources: A36, B26, B28.*

# %% [markdown]
# (sec-bits-of-digits)=
# ## Bits per dimension
#
# Papers give minus the bound divided by $D \log 2$, the length of a lossless code in bits per pixel; the raw image takes eight. For that the last step must give a probability, not a density, whose value depends on the unit of the pixels. So each of the 256 gray levels, $2 / 255$ apart on $[-1, 1]$, gets the mass of a Gaussian on its interval; the outermost two reach to infinity {cite:p}`ho2020`:
#
# $$
# p_\theta(x \mid x_1) = \prod_{j=1}^{D} \int_{\delta_-(x_j)}^{\delta_+(x_j)} \mathcal{N}\big( u;\, \hat{x}_j,\, \sigma_1^2 \big)\, \mathrm{d}u , \qquad \delta_\pm(x_j) = x_j \pm \tfrac{1}{255} \text{ inside} .
# $$ (def-gray-levels)
#
# The other parts of {eq}`eq-bound-from-errors` follow from the errors of {numref}`fig-error-by-time`, so variances and last steps can be compared without a new training. "Optimal" are the best {ref}`variances for these errors <sec-exact-gap>` {cite:p}`bao2022`; "and at 1" uses them in the last step, too. "Histogram" decodes each pixel by Bayes' rule from the frequency of each gray level in the training set (box).

# %% tags=["serves"]
gray = 2 * (255 * test.images[:500]).round() / 255 - 1
_ = torch.manual_seed(0)
with torch.no_grad():
    x_1 = add_noise(model.schedule, gray, 1, torch.randn_like(gray))
    x_hat = model.denoise(x_1, 1)
beta, beta_tilde = model.schedule.beta, model.schedule.posterior_var
choices = {"beta": beta, "beta-tilde": beta_tilde}
choices["optimal"] = optimal_reverse_var(model.schedule, error)
decoder_var = beta_tilde[2]


def with_variances(reverse_var, decoder_var=decoder_var, decoder=None):
    """The model of the digits with other variances, or another decoder."""
    args = reverse_var, decoder_var, model.observation_model, decoder
    return Ddpm(model.denoiser, model.schedule, (1, 28, 28), *args)


def parts_of(candidate):
    """The four parts of minus the bound, in nats, and a standard error."""
    w = 784 * bound_weights(model.schedule, candidate.reverse_var).noise[2:]
    decoded = candidate.decoder(x_1) if candidate.decoder else candidate.reconstruction(x_hat)
    last = -decoded.log_prob(gray)
    prior = kl_divergence(candidate.posterior(gray), candidate.prior(len(gray))).mean()
    parts = {
        "prior matching": prior,
        "variances": 784 * variances_cost(candidate.reverse_var, model.schedule).sum(),
        "errors": (w * error[2:]).sum(),
        "reconstruction": last.mean(),
    }
    return parts, (w * error_se[2:]).sum() + last.std() / len(gray) ** 0.5


# %% tags=["numbers", "columns"]
candidates = {name: with_variances(reverse_var) for name, reverse_var in choices.items()}
candidates["and at 1"] = with_variances(choices["optimal"], None)
frequency = gray_level_frequencies(2 * (255 * train.images).round() / 255 - 1)
histogram = HistogramDecoder(model.schedule, frequency)
candidates["histogram"] = with_variances(choices["optimal"], decoder=histogram)
accounts = {name: parts_of(candidate) for name, candidate in candidates.items()}
print("nats for a digit     " + "".join(f"{name:>12}" for name in accounts))
for part in ("prior matching", "variances", "errors", "reconstruction"):
    row = [account[part] for account, _ in accounts.values()]
    print(f"{part:21}" + "".join(f"{nats:12.4f}" for nats in row))
totals = {name: sum(account.values()) for name, (account, _) in accounts.items()}
print(f"{'minus the bound':21}" + "".join(f"{v:12.4f}" for v in totals.values()))
bits = {name: bits_per_dim(total, 784).item() for name, total in totals.items()}
print(f"{'bits per dimension':21}" + "".join(f"{v:12.4f}" for v in bits.values()))
errors = {name: bits_per_dim(se, 784) for name, (_, se) in accounts.items()}
print(f"{'standard error':21}" + "".join(f"{v:12.4f}" for v in errors.values()))
last = {name: account["reconstruction"] for name, (account, _) in accounts.items()}
if test.name == "mnist":
    assert bits["optimal"] < min(bits["beta"], bits["beta-tilde"])
    assert last["histogram"] < 0.6 * last["optimal"] and bits["histogram"] < 0.9 * bits["optimal"]

# %% [markdown]
# The optimal variances beat the first two, as they must on the digits from which they were computed; $\beta_t$ is far too large. The histogram saves nearly half of the last step, since black is common and nearly certain. And long steps cost nats: in 16 finer steps for each of the thousand the network saves 0.07 bits per pixel more (box).
#
# :::{depth-start} no decoder that sees a pixel's value alone beats the histogram, and finer steps save a little more
# :::
# **The histogram.** Let $c(g)$ be the frequency of the gray level $g$ in the training set (with equal frequencies this is the decoder of {cite:t}`kingma2021`). By Bayes' rule,
#
# $$
# p(x_j \mid x_{1,j}) = \frac{c(x_j)\, \mathcal{N}\big( x_{1,j};\, \sqrt{\bar\alpha_1}\, x_j,\, 1 - \bar\alpha_1 \big)}{\sum_g c(g)\, \mathcal{N}\big( x_{1,j};\, \sqrt{\bar\alpha_1}\, g,\, 1 - \bar\alpha_1 \big)} .
# $$ (def-histogram-decoder)
#
# What helps is to know that black is common and nearly certain ({ref}`experiment <exp-gray-levels>`). On five times 500 test digits, Bayes' rule for each pixel takes 591.2 ± 0.9 nats with equal frequencies, 174.4 ± 1.2 if black alone has its own, and 164.7 ± 1.0 with all; the Gaussian about the network's estimate takes 299.8 ± 1.2 nats with the usual variance and 270.1 ± 2.2 with the measured one. Is it the frequencies, then, and not the network? With a variance that depends on the estimate, far smaller where it is black, the network takes 174.9 ± 6.9 nats: as few as with the frequency of black.
#
# How good can such a decoder be? If the pixels were drawn from $c$, its cost would be the entropy that is left in a pixel when $x_{1,j}$ is known,
#
# $$
# \mathbb{E}\big[ -\log p(x_j \mid x_{1,j}) \big] = H(c) + \tfrac12 \log\big( 2 \pi e\, (1 - \bar\alpha_1) \big) - h(x_{1,j}) ,
# $$ (eq-histogram-price)
#
# by $H(x \mid x_1) = H(x) + h(x_1 \mid x) - h(x_1)$, where $h$ is the entropy of a density. No decoder that sees $x_{1,j}$ alone, and not its place, can cost less.

# %% [markdown]
# **$\beta_t$ or $\tilde\beta_t$?** For the wide Gaussian data of {ref}`the last chapter <sec-exact-gap>`, $\sigma_t^2 = \beta_t$ cost almost nothing and $\tilde\beta_t$ half of Euler's constant, 0.2886 nats for each dimension. Black pixels are the opposite case: the network predicts them almost surely, so $\tilde\beta_t$ is right and $\beta_t$ too large, at a cost that no number of steps removes. On the linear schedule, rescaled as in the last chapter, this cost tends to
#
# $$
# \lim_{T \to \infty} \frac12 \sum_{t=2}^{T} \Big( \frac{\tilde\beta_t}{\beta_t} - 1 - \log \frac{\tilde\beta_t}{\beta_t} \Big) = \frac{1 - \gamma_{\mathrm{E}}}{2} = 0.2113\ldots
# $$ (eq-known-data)
#
# nats for each dimension. Near the data $\tilde\beta_t / \beta_t$ is nearly $(t - 1) / t$. So the terms of the sum are $\log \frac{t}{t - 1} - \frac1t$, and from $t = 2$ on they add up to $1 - \gamma_{\mathrm{E}}$. In the table above, a thousand steps, $\beta_t$ costs 0.30 in the row of the variances, while $\tilde\beta_t$ has larger weights in the row of the errors.
#
# **Checks.** Both sides of {eq}`eq-histogram-price` are integrated numerically over $x_1$, for a histogram similar to that of the digits; the same decoder with equal frequencies is rejected. The sum is computed for a million steps; the cost of the last chapter, half of Euler's constant, is rejected.

# %% tags=["check", "nbval-check-output"]
var = schedule.noise_var[1]
shades = torch.linspace(-1, 1, 256).double()
coarse = torch.tensor([0.7] + [0.1 / 254] * 254 + [0.2]).double()  # a histogram like ours
grid = torch.arange(-1.08, 1.08, 2e-4).double()
density_of = Normal(schedule.alpha_bar[1].sqrt() * shades, var.sqrt()).log_prob(grid[:, None])
log_joint = coarse.log() + density_of
log_x_1 = log_joint.logsumexp(1)


def price(c):
    """Mean of -log p(x_j | x_1j) over pixels from `coarse`, by integration over x_1."""
    log_p = HistogramDecoder(schedule, c)(grid[:, None]).pixels.logits[:, 0]
    return torch.trapezoid(-(log_joint.exp() * log_p).sum(1), grid)


entropy_left = torch.trapezoid(-log_x_1.exp() * log_x_1, grid)
right_side = Categorical(coarse).entropy() + Normal(0.0, var.sqrt()).entropy() - entropy_left
equal = {"equal frequencies": price(torch.full((256,), 1 / 256).double())}
verify("eq-histogram-price", price(coarse), right_side, exact.within(1e-6), rejects=equal)

finest = linear_schedule(1_000_000, 1e-7, 2e-5)
euler = -torch.digamma(torch.ones(()).double())
cost_of_beta = variances_cost(finest.beta, finest).sum()
rule = exact.within(5e-3)
same = {"as for wide data": euler / 2}
verify("eq-known-data", cost_of_beta, (1 - euler) / 2, rule, rejects=same)

# %% [markdown]
# **Finer steps.** Long steps cost nats ({ref}`chapter 9 <sec-exact-gap>`), and the first steps are long: from $t = 1$ to 2 the noise doubles. The embedding takes any number, so the network can be asked at times in between, in 16 steps for each one of its training. With $\tilde\beta_t$ and the histogram, on all 10,000 test digits and on the 500 of the table:

# %% tags=["numbers", "nbval-check-output"]
of_all, _ = load_record("ddpm-mnist-long-bits")
finer = in_finer_steps(model, frequency, factor=16)
for num, each in {1000: of_all["whole"], finer.num_latents: of_all["finer"]}.items():
    print(f"{num:,} steps: all digits {each.mean():.3f} +- {each.std() / 100:.3f}", end=", ")
    print(f"first 500 {each[:500].mean():.3f} +- {each[:500].std() / 500**0.5:.3f}")
saved = of_all["whole"] - of_all["finer"]
print(f"saved by finer steps: {saved.mean():.3f} +- {saved.std() / 100:.3f} bits per dimension")
assert saved.mean() - 3 * saved.std() / 100 > 0.03

# %% [markdown]
# :::{depth-end}
# :::
#
# Normalizing flows are reported at about 1.0 bits {cite:p}`grathwohl2019`, autoregressive networks at 0.62 to 0.64 {cite:p}`katharopoulos2020`.

# %% [markdown]
# (sec-rate-by-time)=
# ### Where the bits are spent
#
# Think of the chain as a transmission: a receiver gets $x_T, x_{T-1}, \dots$, and an ideal code needs the KL divergence of each step, in nats. Those up to $x_t$ are the *rate*; the root-mean-square error of the receiver's best image $\hat{x}(x_t, t)$ is the *distortion*:
#
# $$
# \begin{aligned}
# R_t & = D_{\mathrm{KL}}\big( q(x_T \mid x) \,\Vert\, p(x_T) \big) + \sum_{s=t+1}^{T} \mathbb{E}\, D_{\mathrm{KL}}\big( q(x_{s-1} \mid x_s, x) \,\Vert\, p_\theta(x_{s-1} \mid x_s) \big) , \\
# \Delta_t & = \sqrt{ \frac1D\, \mathbb{E} \lVert x - \hat{x}(x_t, t) \rVert^2 } .
# \end{aligned}
# $$ (def-rate-by-time)


# %% tags=["figure"] mystnb={"image": {"alt": "Three panels. Left, the distortion falls over the steps done, slowly at first and then steadily to nearly zero. In the middle, the rate stays near zero over most steps and shoots up at the end. Right, the distortion over the rate: a very steep fall at small rates, then a long flat tail."}, "figure": {"caption": "The distortion of what the receiver gets, and the rate, with the optimal variances.", "name": "fig-rate-by-time"}}
def step_costs(reverse_var):
    """KL divergence of each step in nats, by time; 0 at t < 2."""
    w = 784 * bound_weights(model.schedule, reverse_var, decoder_var).noise
    costs = w * error + 784 * variances_cost(reverse_var, model.schedule)
    return torch.cat([costs[:1] * 0, costs[:1] * 0, costs[2:]])


top_price = accounts["beta"][0]["prior matching"]
same_noise = int((model.schedule.snr >= schedule.snr[100]).sum()) - 1
rates = {}
for name in ("beta", "beta-tilde", "optimal"):
    costs = step_costs(choices[name])
    falling = costs.flip(0).cumsum(0).flip(0)  # from t up to T
    rates[name] = bits_per_dim(top_price + F.pad(falling[2:], (0, 1)), 784)
    of_rate = costs[: same_noise + 1].sum() / costs.sum()
    assert of_rate > 0.8 or test.name != "mnist"
distortion = 127.5 * (error[1:] / model.schedule.snr[1:]).sqrt()
fig, (left, middle, right) = plots.figure(3, height=2.6)
done, rate = 1000 - every, rates["optimal"]
steps_done, in_levels = "steps done", "distortion (gray levels)"
in_bits = "rate (bits per dimension)"
_ = plots.curves({"": (done, distortion)}, x_label=steps_done, y_label=in_levels, axes=left)
_ = plots.curves({"": (done, rate)}, x_label=steps_done, y_label=in_bits, axes=middle)
_ = plots.curves({"": (rate, distortion)}, x_label=in_bits, y_label=in_levels, axes=right)
fig

# %% [markdown]
# Nearly all of the distortion is removed at small rates ({numref}`fig-rate-by-time`). {cite:t}`ho2020` found this shape on photographs, with 93 percent of the rate in the last hundred of a thousand steps. The steps before decide, for very few bits, which digit it is and how it is written; the last ones describe fine detail, of which there is much and which cannot be predicted. The slider shows what the receiver of $x_t$ would draw:


# %% tags=["figure"]
def received(t):
    _ = torch.manual_seed(0)
    x_t = add_noise(model.schedule, gray[:10], t, torch.randn_like(gray[:10]))
    with torch.no_grad():
        x_hat = model.denoise(x_t, t)
    rows = {"received": x_t, "estimate": x_hat}
    return plots.image_rows({name: data.to_unit(row) for name, row in rows.items()}, tile=0.6)


Slider(
    [1000, 950, 900, 850, 800, 700, 600, 400, 100],
    received,
    description="time of what was received",
    alt="Ten digits at time {}, and the network's estimates from them",
    label="{}",
    start=4,
)

# %% [markdown]
# *Sources: E05.*

# %% [markdown]
# (sec-ddpm-wrong)=
# ## What goes wrong: from symptom to cause
#
# Algorithm 1 runs even if its input is wrong. Of a wrong time the loss hardly tells.
#
# | symptom | possible cause | test |
# |---|---|---|
# | the loss stays far above zero | none: it is the floor {eq}`eq-excess-error` | compare with the best linear estimate, at each $t$ {eq}`eq-linear-bound` |
# | the loss is lower than expected | another schedule, or pixels on $[0, 1]$: a quarter of the SNR, in effect another schedule, with a lower floor | compare at the same scaling and schedule only |
# | samples stay noise | pixels on $0, \dots, 255$: 16,000 times the SNR; on linear schedules training never sees the noise of the start | look at $x_t$ in the middle |
# | specks all over the samples ({numref}`fig-wrong-time`) | the time does not reach the network, or is shuffled, so it reads the level off the image | other times, at the same noise, must be worse |
# | hardly any | in training the time is off by one, so the sampler asks wrongly | errors at $t = 1$ to $5$ |
# | samples of the wrong brightness, a useless $\hat{x}$ at $t$ near $T$ | the network estimates the noise, or $\bar\alpha_T$ is not small | $\hat{x}$ at $T$ should be the mean image |
# | broken strokes, wrong shapes | too short a training; too few draws of the times when shapes are decided | error by time ({numref}`fig-error-by-time`) |


# %% tags=["figure"] mystnb={"image": {"alt": "Two rows of eight digits. Above clean ones; below digits too, but strewn with gray pixels."}, "figure": {"caption": "Drawn in 25 steps from the same noise: with the right time, and always with 500.", "name": "fig-wrong-time"}}
def given(change):
    """The model, with another time as its network's input."""
    denoiser = VPredictor(lambda x, t: model.denoiser.network(x, change(t)), model.schedule)
    return Ddpm(denoiser, model.schedule, (1, 28, 28), model.reverse_var)


inputs = {"t": lambda t: t, "t - 1": lambda t: t - 1, "always 500": lambda t: 0 * t + 500}
every_40th = model.schedule.strided(range(40, 1001, 40))
narrow = every_40th.posterior_var
rows = {}
for name, change in (("right time", inputs["t"]), ("always 500", inputs["always 500"])):
    _ = torch.manual_seed(2)
    wrapped = Ddpm(given(change).denoiser, every_40th, (1, 28, 28), narrow, narrow[2])
    *_, drawn = ancestral_sample(wrapped, 8)
    rows[name] = data.to_unit(drawn)
plots.image_rows(rows)

# %% [markdown]
# :::{depth-start} pixels on the wrong scale lower the loss, and a time that is off by one hardly shows
# :::
# **Pixels on $[0, 1]$.** The schedule is made for data on $[-1, 1]$; on $[0, 1]$ the variance is a quarter of that, so noise is stronger relative to the image, and easier to predict. The linear baseline gives the loss expected on either scale. The bound reveals the mistake: its last step needs pixels on the 256 gray levels, and `elbo_step` refuses others (on a GPU it returns NaN instead of an error). So do the errors of a network that was trained on the right scale.

# %% [markdown]
# **The wrong time.** Some programs count times from 0 and some from 1, and a wrapper may forget to pass $t$ on. We give the network $t - 1$ in place of $t$, and then always 500. A time that is off by one makes hardly any difference, except at the very first times, where the noise grows fastest in proportion: only a test there finds it.

# %% tags=["numbers", "columns"]
for name, factor in {"[-1, 1]": 1.0, "[0, 1]": 0.25}.items():
    reached = linear_noise_error(model.schedule, factor * values).mean(1)[1:].mean()
    print(f"pixels on {name:8} least simple loss of a linear estimate: {reached:.4f}")
scaled, ones = gray[:5] / 2 + 0.5, torch.ones(5).long()
try:
    refused = bool(elbo_step(model, scaled, ones, torch.randn(5, 1, 28, 28)).isnan().all())
except ValueError:
    refused = True
assert refused
_ = torch.manual_seed(0)
right_scale = noise_errors(model, gray[:50], [30, 100, 300]).mean(1)
wrong_scale = noise_errors(model, gray[:50] / 2 + 0.5, [30, 100, 300]).mean(1)
assert (wrong_scale > 5 * right_scale).all() or test.name != "mnist"

at_times = [2, 5, 20, 100, 400, 700]
print("given       " + "".join(f"  t = {t:4}" for t in at_times))
by_input = {}
for name, change in inputs.items():
    _ = torch.manual_seed(0)
    by_input[name] = noise_errors(given(change), gray[:20], at_times).mean(1)
    print(f"{name:12}" + "".join(f"{e:10.4f}" for e in by_input[name]))
right_time, one_off, always_500 = by_input.values()
if test.name == "mnist":
    assert one_off[0] > right_time[0] and one_off[4] < 1.01 * right_time[4]
    assert always_500[3] > 3 * right_time[3]

# %% [markdown]
# :::{depth-end}
# :::

# %% [markdown]
# (sec-ddpm-exercises)=
# ## Exercises
#
# Replace the three dots by your answer and run the cell.

# %% [markdown]
# ```{exercise-start} How far a stack sees
# :label: ex-how-far
# ```
# A stack has `n` convolutions of $3 \times 3$ at full size, then one of $3 \times 3$ with stride 2, then `m` of $3 \times 3$ at half the size. How wide is the square of input pixels that can change one number at the end?


# %% tags=["answer", "nbval-check-output"]
def width_seen(n, m):
    return ...


exercises.check_width_seen(width_seen)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-how-far
# :label: ex-how-far-solution
# :class: dropdown
# ```
# Each convolution up to and including the one of stride 2 adds one pixel on each side. After it, neighbors are two input pixels apart, so each convolution adds two pixels on each side.


# %% tags=["nbval-check-output"]
def width_seen(n, m):
    return 2 * (n + 1 + 2 * m) + 1


exercises.check_width_seen(width_seen)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Algorithm 1 in one line
# :label: ex-one-line
# ```
# `network(x_t, kept)` estimates the noise. Write the squared error of one training step for a batch `x` of points, shape (batch, D), its noise, and `kept`, the $\bar\alpha_t$ of each example, shape (batch, 1). Return one number per example, summed over dimensions.


# %% tags=["answer", "nbval-check-output"]
def training_loss(network, x, noise, kept):
    return ...


exercises.check_training_loss(training_loss)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-one-line
# :label: ex-one-line-solution
# :class: dropdown
# ```
# Steps 4, 5 and 6 of {prf:ref}`alg-ddpm-training`.


# %% tags=["nbval-check-output"]
def training_loss(network, x, noise, kept):
    x_t = kept**0.5 * x + (1 - kept) ** 0.5 * noise
    return (noise - network(x_t, kept)).square().sum(1)


exercises.check_training_loss(training_loss)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} A loss for the image
# :label: ex-loss-of-image
# ```
# Somebody trains a network of $\hat{x}$ with the plain squared error $\lVert x - \hat{x} \rVert^2$ and uniform times. As a loss of the noise, what is its weight at a time with $\bar\alpha_t$ equal to `kept`?


# %% tags=["answer", "nbval-check-output"]
def weight_of_noise(kept):
    return ...


exercises.check_weight_of_noise(weight_of_noise)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-loss-of-image
# :label: ex-loss-of-image-solution
# :class: dropdown
# ```
# By {eq}`eq-five-errors` the weight is one over the signal-to-noise ratio. It is tiny at small $t$.


# %% tags=["nbval-check-output"]
def weight_of_noise(kept):
    return (1 - kept) / kept


exercises.check_weight_of_noise(weight_of_noise)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} How soon an average forgets
# :label: ex-forget
# ```
# An average of weights has the decay 0.9999. After how many steps has the first weight less than one percent of the whole? Give the smallest number $m$ with $d^m < 0.01$.

# %% tags=["answer", "nbval-check-output"]
answer = ...
exercises.check_forget(answer)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-forget
# :label: ex-forget-solution
# :class: dropdown
# ```
# $\log 0.01 / \log 0.9999 = 46049.4\ldots$, about $4.6 / (1 - d)$. A training of 20,000 steps would still remember its beginning.

# %% tags=["nbval-check-output"]
exercises.check_forget(math.ceil(math.log(0.01) / math.log(0.9999)))

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Bits from a density
# :label: ex-bits-from-density
# ```
# A model gives a *density* of images on $[-1, 1]$ with `D` pixels, and the bound on its logarithm is `elbo`, in nats. Its gray levels are $2 / 255$ apart. How many bits per dimension does the model need, if the density is nearly constant over a level?


# %% tags=["answer", "nbval-check-output"]
def bits(elbo, D):
    return ...


exercises.check_bits_from_density(bits)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-bits-from-density
# :label: ex-bits-from-density-solution
# :class: dropdown
# ```
# The probability of a level is the density times its width, in each of the $D$ dimensions. Forgetting the width makes a model look better by 6.99 bits.


# %% tags=["nbval-check-output"]
def bits(elbo, D):
    return -elbo / (D * math.log(2)) + math.log2(255 / 2)


exercises.check_bits_from_density(bits)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} The price of a mistake
# :label: ex-price
# ```
# A network answers $(1 + \delta)\, \varepsilon^*$ at all times. The data are one-dimensional and Gaussian with variance `lam`. `kept` holds $\bar\alpha_1, \dots, \bar\alpha_T$ and `weights` the $\omega_\varepsilon(t)$. How many nats does the bound lose?


# %% tags=["answer", "nbval-check-output"]
def price(delta, lam, kept, weights):
    return ...


exercises.check_price(price)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-price
# :label: ex-price-solution
# :class: dropdown
# ```
# By {eq}`eq-deficit` the excess counts, $\delta^2\, \mathbb{E} (\varepsilon^*)^2$. What is explained and what is not add up to the variance 1 of the noise, so $\mathbb{E} (\varepsilon^*)^2 = 1 - \mathrm{MMSE}_t = (1 - \bar\alpha_t) / V_t$.


# %% tags=["nbval-check-output"]
def price(delta, lam, kept, weights):
    return (weights * delta**2 * (1 - kept) / (kept * lam + 1 - kept)).sum()


exercises.check_price(price)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# (sec-ddpm-summary)=
# ## Summary
#
# - Algorithm 1 is a regression: add random noise to the data and predict it {eq}`def-simple-loss`. The loss has a floor above zero {eq}`eq-simple-optimum`; training reduces only the excess over it {eq}`eq-excess-error`.
# - The simple loss drops the weights of the bound, and with them the emphasis on what nobody sees {eq}`eq-bound-from-errors`. What a network loses in nats is its weighted excess {eq}`eq-deficit`.
# - With equal errors, an estimate of $v$ gives acceptable images at all times {eq}`eq-v-loss`.
# - The schedule decides how often each noise level is seen, and one samples from the average of the weights.
