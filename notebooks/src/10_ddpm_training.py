# %% [markdown]
# # Training a DDPM
#
# The last chapter had an exact denoiser for all its data, because it knew where the data came from. Nobody knows that of handwritten digits. So a network has to learn it: shown a digit that was dissolved in noise, it must say what was noise and what was digit. That is all the training there is, and it fits into six lines.
#
# Below are twenty digits. Ten are from the test set of MNIST. The other ten were never written by anybody: the network of this chapter made them, out of noise, in a thousand steps. Which ones? The answer comes {ref}`later <sec-ddpm-samples>`, together with a judge that does not get tired.

# %% tags=["setup", "hide-input"]
# The set-up cell: tools/notebooks.py writes it.

# %%
import math

import torch
from torch import nn
from torch.distributions import Categorical, Normal, kl_divergence
from torch.nn import functional as F

from companion import data
from companion.ddpm import Ddpm, denoising_loss, elbo_step, noise_errors
from companion.elbo import elbo_terms
from companion.page import plots
from companion.page.show import show
from companion.page.verify import at_most, exact, monte_carlo, verify
from companion.samplers import ancestral_sample
from companion.schedule import add_noise, linear_schedule, noise_from_x_0
from companion.training import fit
from companion.zoo import pretrained
from companion.zoo.architectures import toy_ddpm
from companion.zoo.weights import load_record, read_card

_ = torch.manual_seed(0)
train, test = data.load("mnist", "train"), data.load("mnist", "test")
model, card = pretrained("ddpm-mnist"), read_card("ddpm-mnist")
record, _ = load_record("ddpm-mnist-samples")

# %% tags=["mnist"] mystnb={"image": {"alt": "Two rows of ten gray digits, real and invented ones mixed."}, "figure": {"caption": "Ten digits from the test set and ten inventions, in random order.", "name": "fig-which-are-real"}}
order = torch.randperm(20, generator=torch.Generator().manual_seed(5))
both = torch.cat([test.images[20:30], record["samples"][:10] / 255])
plots.image_grid(both[order])

# %% [markdown]
# The ten inventions in {numref}`fig-which-are-real` come from a model whose trained weights are loaded, with a *record*: samples, and measurements that take longer than a reader wants to wait. What is quick is done live in this chapter, on digits of $8 \times 8$ pixels and on points in the plane.

# %% [markdown]
# (sec-unet)=
# ## The network
#
# What must the network be able to do? It is given $x_t$ and $t$, and answers with numbers of the same shape as $x_t$. Three demands follow.
#
# 1. **Keep the detail.** Noise is removed pixel by pixel, so the answer needs the finest scale.
# 2. **See the whole.** Under much noise no pixel can be told by its neighbors. Whether there is ink depends on which digit it is.
# 3. **Know the time.** How much of a dark spot is noise depends on how much noise there is.
#
# The {term}`U-Net` {cite:p}`ronneberger2015` meets the first two by going down and up again: on the way down the feature maps get smaller and more numerous, on the way up larger again, and each block on the way up also sees what its mirror image made on the way down. {cite:t}`ho2020` chose it, and many have followed them. One of the lectures names its parts: *residual blocks* and *self-attention*.
#
# **The residual block.** A stream $h$ of feature maps runs through the network, and each block adds to it. The branch is normalized, passes two convolutions of $3 \times 3$ pixels, and hears of the time in between, as a vector `e`.

# %% tags=["nbval-check-output"]
from companion.networks.unet import Block, UNet, mnist_unet

show(Block.forward, docstring=False)

# %% [markdown]
# The second convolution starts at zero. So an untrained block changes nothing, the gradient passes it untouched, and each block decides later what it has to add.
#
# **Self-attention.** A convolution looks at neighbors. Attention looks everywhere {cite:p}`vaswani2017`. From the features $h_i$ of each pixel it makes three vectors of $c$ numbers, a *query* $q_i$, a *key* $k_i$ and a *value* $v_i$, and adds to pixel $i$ a linear map of
#
# $$
# \sum_j a_{ij}\, v_j, \qquad a_{ij} = \frac{e^{q_i \cdot k_j / \sqrt{c}}}{\sum_l e^{q_i \cdot k_l / \sqrt{c}}} ,
# $$ (def-self-attention)
#
# the mean of all values, weighted by how well the key of $j$ fits the query of $i$. There are as many weights as pairs of pixels, so it is placed where the feature maps are small: here once, in the middle.
#
# **Down and up.** A convolution of stride 2 halves the side. On the way up pixels are doubled. This is all of it:

# %% tags=["nbval-check-output"]
show(UNet.forward, docstring=False)

# %% [markdown]
# The cell sends one picture through the network that was trained on MNIST, and notes the shape of the stream behind each part, and how many numbers the part has to learn.

# %% tags=["nbval-check-output"]
stages = "enter down.0.0 shrink.0 down.1.0 shrink.1 down.2.0 middle.0 middle.1"
stages = f"{stages} up.0.0 grow.0 up.1.0 grow.1 up.2.0 exit".split()
net, shapes = mnist_unet(), {}


def note(name):
    def hook(module, inputs, output):
        shapes[name] = " x ".join(map(str, output.shape[1:]))

    return hook


for name in stages:
    _ = net.get_submodule(name).register_forward_hook(note(name))
answer = net(torch.randn(1, 1, 28, 28), torch.tensor([500]))
print("part       channels x height x width  parameters")
for name in stages:
    num = sum(p.numel() for p in net.get_submodule(name).parameters())
    print(f"{name:10} {shapes[name]:>25} {num:11,}")
print(f"all {sum(p.numel() for p in net.parameters()):44,}")
print("the untrained answer is zero:", bool((answer == 0).all()))

# %% [markdown]
# Most of the parameters sit at the coarsest scale, where a convolution has the fewest pixels to visit. (What the rows lack to the total belongs to the perceptron of the {ref}`time <sec-time-embedding>`.)
#
# **How far does it see?** The set of input pixels that can change an output pixel is its {term}`receptive field`. Each convolution of $3 \times 3$ adds one pixel on each side. So $n$ of them in a row, with no change of scale, see a square of width
#
# $$
# 2 n + 1 .
# $$ (eq-reach)
#
# To *measure* the field, take the gradient of one output pixel with respect to the input, and look where it is not zero. The cell does so for networks with random weights on $64 \times 64$ pixels. It can leave out attention and the normalizations.


# %%
def influence(multipliers, attention=False, norms=False):
    """How much each input pixel moves the middle pixel of the output."""
    _ = torch.manual_seed(0)
    net = UNet((1, 64, 64), 8, multipliers, blocks=1).double()
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


# %% [markdown]
# A network of one scale has ten convolutions in a row: one to enter, two in each of its four blocks, one to leave. The field without the one that enters is rejected.

# %% tags=["nbval-check-output"]
fields = {
    "one scale": influence((1,)),
    "two scales": influence((1, 1)),
    "three scales": influence((1, 1, 1)),
    "one, attention": influence((1,), attention=True),
    "one, normalized": influence((1,), norms=True),
}
width = (fields["one scale"] > 0).any(0).sum()
verify("eq-reach", width, torch.tensor(21), rejects={"without one": torch.tensor(19)})
for name, field in fields.items():
    print(f"{name:16} {int((field > 0).sum()):5} of 4096 pixels")

# %% mystnb={"image": {"alt": "Five square panels. One scale: a small bright square on black. Two scales: a square of four fifths of the width. Three scales: the whole panel is bright, most in the middle. Attention and normalized: a small bright square, and gray everywhere else."}, "figure": {"caption": "Which input pixels move the pixel in the middle, and how much: from black, not at all, in powers of ten to white.", "name": "fig-receptive-fields"}}
powers = [(field / field.max()).clamp(min=1e-8).log10() for field in fields.values()]
plots.image_grid(torch.stack(powers) / 8 + 1, titles=list(fields), tile=1.3)

# %% [markdown]
# {numref}`fig-receptive-fields` shows two ways to see the whole: coarser scales, and attention. The last panel shows a third, which is easily overlooked. A normalization divides by the spread of *all* pixels, so each of them has a small say everywhere.
#
# A window that is open need not be used. How far does the trained network look? The next cell takes the gradient of its estimate $\hat{x}$, at the middle pixel, in the pixels of $x_t$. Its square, averaged over fifty digits, says which pixels count.


# %%
def looks_at(t, digits):
    """Mean square of the derivative of x_hat's middle pixel in each pixel of x_t."""
    _ = torch.manual_seed(0)
    x_t = add_noise(model.schedule, digits, t, torch.randn_like(digits))
    middle = model.denoise(x_t.requires_grad_(), t)[:, 0, 14, 14].sum()
    (gradient,) = torch.autograd.grad(middle, x_t)
    return gradient[:, 0].square().mean(0)


chosen = [10, 200, 450, 700]
digits = data.to_symmetric(test.images[:50])
looks = torch.stack([looks_at(t, digits) for t in chosen])
own = looks[:, 14, 14] / looks.sum((1, 2))
for t, share in zip(chosen, own, strict=True):
    print(f"t = {t:3}: {share:6.1%} of the squared gradient at the pixel itself")

# %% tags=["nbval-check-output", "mnist"]
falling = bool((own[:3].diff() < 0).all())
print("from t = 10 to 450, less and less weight for the pixel itself:", falling)

# %% mystnb={"image": {"alt": "Four square panels on black. At time 10 a single bright dot; at 200 a dot with a faint halo; at 450 a larger halo; at 700 a bright spot in a gray cloud that fills a good part of the panel."}, "figure": {"caption": "Where the trained network looks to estimate the middle pixel, at four times: the root of the mean squared derivative, white at its largest.", "name": "fig-looks-around"}}
bright = (looks / looks.amax((1, 2), keepdim=True)).sqrt()
plots.image_grid(bright, titles=[f"t = {t}" for t in chosen], tile=1.3)

# %% [markdown]
# With little noise a pixel is its own best witness ({numref}`fig-looks-around`). With more noise it is worth little, and others are heard. One network does both, so it must know the time.
#
# *Sources: B31.*

# %% [markdown]
# (sec-time-embedding)=
# ## Telling the network the time
#
# The time is a single number between 1 and 1000. As such, 7 and 8 would be nearly the same input. So it is turned into a vector of waves {cite:p}`vaswani2017`: with $m$ frequencies $\nu_0 > \dots > \nu_{m-1}$, which fall geometrically from 1 to $10^{-4}$,
#
# $$
# \mathrm{emb}(t) = \big( \sin \nu_0 t, \dots, \sin \nu_{m-1} t,\; \cos \nu_0 t, \dots, \cos \nu_{m-1} t \big) .
# $$ (def-sinusoidal)
#
# The fast waves tell neighbors apart, the slow ones the early from the late. How well? The distance of two times depends on their difference alone:
#
# $$
# \lVert \mathrm{emb}(s) - \mathrm{emb}(t) \rVert^2 = 4 \sum_{k=0}^{m-1} \sin^2 \frac{\nu_k (s - t)}{2} .
# $$ (eq-embedding-distance)
#
# :::{dropdown} Proof
# Sine and cosine of one frequency are a point on the unit circle, at the angle $\nu_k t$. Two points at an angle of $a$ from each other are $2 \sin (a / 2)$ apart. $\square$
# :::
#
# *Random {term}`Fourier features`* {cite:p}`tancik2020,song2021sde` are the same with frequencies that are drawn from a normal distribution once, and then kept. They suit a time that is a real number. The cell compares the formula with the distances of all pairs, and rejects it with angles that are not halved; then it looks for the closest pair.

# %% tags=["nbval-check-output"]
from companion.networks.embeddings import FourierEmbedding, SinusoidalEmbedding

e = SinusoidalEmbedding(32).double()
times = torch.arange(1, 1001)
waves = e(times)
lag = (times[:, None] - times).double()
angles = e.frequencies[:, None, None] * lag
right = (4 * (angles / 2).sin().square().sum(0)).sqrt()
wrong = {"not halved": (4 * angles.sin().square().sum(0)).sqrt()}
apart = (waves[:, None] - waves).norm(dim=2)
verify("eq-embedding-distance", apart, right, exact.within(1e-8), rejects=wrong)
closest = right[0, 1:].min()
print(f"the closest pair of 1000 times: {closest:.3f} apart")
print(f"it is {right[0, 1:].argmin() + 1} apart in time")
print(f"length of each vector: {waves[0].norm():.3f}")

# %% mystnb={"image": {"alt": "Two curves of distance over the difference of two times. The sinusoidal one rises quickly to about three and goes on slowly with small waves; the random one starts lower, overtakes it after some ten steps, and stays between five and seven."}, "figure": {"caption": "Distance of two embeddings, of 32 numbers each, by the difference of the times.", "name": "fig-embedding-distance"}}
_ = torch.manual_seed(0)
fourier = FourierEmbedding(32, 16 / 1000).double()
half = (fourier.frequencies[:, None] * lag[0] / 2).sin().square().sum(0)
lags = -lag[0, 1:121]
plots.curves(
    {
        "sinusoidal": (lags, right[0, 1:121]),
        "random Fourier features": (lags, (4 * half).sqrt()[1:121]),
    },
    x_label="difference of the times (steps)",
    y_label="distance",
)

# %% [markdown]
# In {numref}`fig-embedding-distance` the waves part neighbors at once, and never bring two times close again. The random ones need some ten steps to part two times as well. A small perceptron turns $\mathrm{emb}(t)$ into the vector `e` that all blocks hear.
#
# **How a block hears it.** {cite:t}`ho2020` *add* a linear map of `e` to the feature maps, one number for each map. {cite:t}`dhariwal2021` let it *scale and shift* the normalized maps, which is called adaptive normalization.

# %% tags=["nbval-check-output"]
from companion.networks.unet import AdaptiveNorm, ShiftedNorm

show(ShiftedNorm.forward, AdaptiveNorm.forward, docstring=False)

# %% [markdown]
# **Which is better?** Two embeddings and two ways to hear them make four networks. Each is trained on digits of $8 \times 8$ pixels for thirty steps, with three seeds. What is measured is the squared error of the noise on test digits, per pixel, at the same times and with the same noise for all. {ref}`The next section <sec-algorithm-1>` says what the loss is.


# %%
from functools import partial

from companion.data import Batches
from companion.ddpm import image_ddpm
from companion.denoisers import NoisePredictor, VPredictor

small_train, small_test = data.load("digits", "train"), data.load("digits", "test")
small_x, small_y = (data.to_symmetric(part.images) for part in (small_train, small_test))


def trial(embedding, conditioning, seed, steps=30):
    """Error of the noise per pixel, after a short training."""
    _ = torch.manual_seed(seed)
    kinds = {"embedding": embedding, "conditioning": conditioning}
    net = UNet((1, 8, 8), 16, (1, 2), blocks=1, **kinds)
    tried = image_ddpm(net, predictor=NoisePredictor, levels=17)
    batches = Batches(small_x, batch_size=32, num_epochs=2, seed=seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=4e-3)
    loss = partial(denoising_loss, weight=tried.schedule.snr)
    for step in fit(tried, loss, batches, optimizer):
        if step.number == steps:
            break
    _ = torch.manual_seed(0)
    with torch.no_grad():
        return loss(tried.eval(), small_y).mean().item() / 64


# %%
embeddings = {
    "sinusoidal": SinusoidalEmbedding,
    "Fourier": partial(FourierEmbedding, std=16 / 1000),
}
hearings = {"added": ShiftedNorm, "adaptive": AdaptiveNorm}
trials = {
    f"{name}, {how}": torch.tensor([trial(kind, hears, seed) for seed in range(3)])
    for name, kind in embeddings.items()
    for how, hears in hearings.items()
}

# %%
print("error of the noise per pixel, mean of three seeds and their spread")
for name, errors in trials.items():
    print(f"{name:22} {errors.mean():.4f} +- {errors.std():.4f}")
means = torch.stack([errors.mean() for errors in trials.values()])
spread = torch.stack([errors.var() for errors in trials.values()]).mean().sqrt()
print(f"largest difference of two rows: {means.max() - means.min():.4f}")
print(f"spread of the seeds within a row: {spread:.4f}")

# %% tags=["nbval-check-output"]
print("all four learn, the error falls below 0.3:", bool(means.max() < 0.3))
print("best and worst are within 30 percent:", bool(means.max() < 1.3 * means.min()))

# %% [markdown]
# All four learn, and the rows differ by no more than the seeds do. Three seeds cannot tell the four apart with certainty, nor can so short a training say who wins in the end. What it does say: none of the choices makes or breaks a small network. (An answer of zero has the error 1.) A table of this kind with one seed per row would have shown a winner, too, and it would have been luck. The networks of this chapter use the first row.
#
# *Sources: B32.*

# %% [markdown]
# (sec-algorithm-1)=
# ## Algorithm 1
#
# The bound is a weighted sum of squared errors of the noise {eq}`eq-five-weights`, and one random step estimates it {eq}`eq-single-step`. {cite:t}`ho2020` leave out the weights. What remains is the {term}`simple loss`:
#
# $$
# L_{\text{simple}}(\theta) = \mathbb{E}_{x, t, \varepsilon} \big\lVert \varepsilon - \varepsilon_\theta\big( \sqrt{\bar\alpha_t}\, x + \sqrt{1 - \bar\alpha_t}\, \varepsilon,\; t \big) \big\rVert^2, \qquad t \text{ uniform on } 1, \dots, T .
# $$ (def-simple-loss)
#
# :::{prf:algorithm} Training
# :label: alg-ddpm-training
# Repeat until the loss falls no more:
#
# 1. Take an example $x$ from the data.
# 2. Draw a time $t$ from $1, \dots, T$, all alike.
# 3. Draw noise $\varepsilon \sim \mathcal{N}(0, I)$.
# 4. Make $x_t = \sqrt{\bar\alpha_t}\, x + \sqrt{1 - \bar\alpha_t}\, \varepsilon$.
# 5. Let the network say $\varepsilon_\theta(x_t, t)$.
# 6. Take a gradient step on $\lVert \varepsilon - \varepsilon_\theta(x_t, t) \rVert^2$.
# :::
#
# There is no chain in it, no sampling from the model, no second network: it is a regression with an unlimited supply of examples. Of the forward process nothing is left but its jump, in step 4. And the way back, whose steps are normal if they are small ({ref}`chapter 9 <sec-true-reverse>`), is not walked before somebody wants a picture. Steps 2 to 5 and the error of step 6 by hand, on 64 digits of $8 \times 8$ pixels and with a small trained network, beside the companion's loss for the same random numbers:

# %% tags=["nbval-check-output"]
small = pretrained("ddpm-digits")
x = small_x[:64]
_ = torch.manual_seed(1)
t = torch.randint(1, 1001, (64,))
noise = torch.randn_like(x)
kept = small.schedule.alpha_bar[t].float().view(64, 1, 1, 1)
x_t = kept**0.5 * x + (1 - kept) ** 0.5 * noise
noise_hat = small.denoiser.network(x_t, t)
by_hand = (noise - noise_hat).square().flatten(1).sum(1)
_ = torch.manual_seed(1)
by_companion = denoising_loss(small, x, weight=small.schedule.snr)
print("the same loss:", torch.allclose(by_hand, by_companion, rtol=1e-3))

# %% [markdown]
# The loop around it is `fit`, which has trained everything since chapter 1. The companion compares pictures, not noises: by {eq}`eq-five-errors` an error of the noise is one of $\hat{x}$ times the signal-to-noise ratio, which is the `weight` here.

# %% tags=["nbval-check-output"]
show(denoising_loss, docstring=False)

# %% [markdown]
# **How low can it get?** Not to zero, since $x_t$ does not tell what its noise was. Let $\varepsilon^*(x_t, t) = \mathbb{E}[\varepsilon \mid x_t]$ be the best answer. At each $t$,
#
# $$
# \mathbb{E} \lVert \varepsilon - \varepsilon_\theta \rVert^2 = \underbrace{\mathbb{E} \lVert \varepsilon - \varepsilon^* \rVert^2}_{\text{not in our power}} + \underbrace{\mathbb{E} \lVert \varepsilon^* - \varepsilon_\theta \rVert^2}_{\text{the excess}} .
# $$ (eq-excess-error)
#
# :::{dropdown} Proof
# The cross term is $2\, \mathbb{E}\, (\varepsilon - \varepsilon^*) \cdot (\varepsilon^* - \varepsilon_\theta)$. Take the mean given $x_t$ first: the second factor is fixed, and the first has mean zero. $\square$
# :::
#
# So a loss curve that flattens out far above zero may belong to a perfect network, and its height says nothing by itself. For normal data with variance $\lambda$ in one dimension the least loss has a closed form, the mean over $t$ of the first term:
#
# $$
# \min L_{\text{simple}} = \frac{1}{T} \sum_{t=1}^{T} \frac{\bar\alpha_t\, \lambda}{\bar\alpha_t\, \lambda + 1 - \bar\alpha_t} .
# $$ (eq-simple-optimum)
#
# For $\lambda = 1$ this is just the mean of $\bar\alpha_t$. The cell runs Algorithm 1 on 400,000 examples with the exact denoiser, for two variances. The error of an answer that never looks, $\varepsilon_\theta = 0$, is rejected, and so is a forgotten denominator.

# %% tags=["nbval-check-output"]
from companion.denoisers import gaussian_denoiser

_ = torch.manual_seed(0)
schedule = linear_schedule(1000)
kept = schedule.alpha_bar[1:]
for lam in (1.0, 0.25):
    hat = gaussian_denoiser(schedule, torch.zeros(1), torch.tensor([[lam]]))
    normal = Ddpm(hat, schedule, (1,), schedule.beta)
    losses = denoising_loss(normal, lam**0.5 * torch.randn(400_000, 1), schedule.snr)
    least = (kept * lam / (kept * lam + 1 - kept)).mean()
    wrong = {"never looks": torch.ones(()).double()}
    if lam < 1:
        wrong["no denominator"] = (kept * lam).mean()
    verify("eq-simple-optimum", losses, least, monte_carlo, rejects=wrong)
    print(f"variance {lam:4}: the least loss is {least:.5f}")

# %% [markdown]
# **Live, on points in the plane.** Eight humps on a ring, as in the last chapter, a hundred steps, and a perceptron that is told the time. The exact $\varepsilon^*$ of such a mixture is known, so the excess of {eq}`eq-excess-error` can be watched while the network learns. The optimizer is Adam with a constant rate. Beside the weights themselves, their running average is watched; {ref}`later <sec-ema>` we come back to it.

# %%
from companion.data import toy_density
from companion.denoisers import MixtureDenoiser

law = toy_density("mixture")
shapes = law.component_distribution
halved = shapes.mean / 2, torch.diag_embed(shapes.variance) / 4
_ = torch.manual_seed(0)
toy = toy_ddpm()
exact_hat = MixtureDenoiser(toy.schedule, law.mixture_distribution.probs, *halved)
points = law.sample((20_000,)) / 2
seen, t, noise = points[:4000], torch.randint(1, 101, (4000,)), torch.randn(4000, 2)
x_t = add_noise(toy.schedule, seen, t, noise)


def noise_by(denoiser):
    with torch.no_grad():
        return noise_from_x_0(toy.schedule, x_t, t, denoiser(x_t, t))


best = noise_by(exact_hat)
least = (noise - best).square().sum(1).mean().item()

# %% [markdown]
# Here is the training, a `for` loop around `fit`:

# %%
from companion.training import exponential_average

average = exponential_average(toy, decay=0.99)
optimizer = torch.optim.Adam(toy.parameters(), lr=2e-3)
batches = Batches(points, batch_size=500, num_epochs=15)
history, batch_losses = [], []
simple_loss = partial(denoising_loss, weight=toy.schedule.snr)
for step in fit(toy, simple_loss, batches, optimizer, ema=average):
    batch_losses += [step.loss]
    if step.number % 20 == 0:
        pair = (toy.denoiser, average.module.denoiser)
        excess = [(noise_by(d) - best).square().sum(1).mean().item() for d in pair]
        history += [(step.number, *excess)]
steps, of_weights, of_average = map(torch.tensor, zip(*history, strict=True))
print(f"least loss {least:.3f}, after training {least + of_weights[-1]:.3f}")

# %% tags=["nbval-check-output"]
close = bool(of_weights[-1] < 0.25 * least)
print("the excess falls below a quarter of the least loss:", close)

# %% mystnb={"image": {"alt": "The loss of each batch falls from two to about 0.45 within a hundred steps and then jitters. The loss of the network on fixed points runs through its middle and approaches a horizontal line from above."}, "figure": {"caption": "Algorithm 1 on points in the plane. The horizontal line is the loss of the exact denoiser.", "name": "fig-toy-training"}}
plots.curves(
    {
        "each batch": batch_losses,
        "network, fixed points": (steps, least + of_weights),
        "exact denoiser": ([1, len(batch_losses)], [least, least]),
    },
    x_label="step",
    y_label="squared error of the noise",
    log_y=True,
)

# %% [markdown]
# In {numref}`fig-toy-training` the batches jitter much more than the network still improves. Most of that is not in our power: it is the noise of the noise. The decomposition itself is checked with an answer that is wrong on purpose, $0.5\, \varepsilon^* + 0.2$. Each example contributes the difference of both sides, which has the mean zero; that there is no excess is rejected.

# %% tags=["nbval-check-output"]
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
# (sec-thrown-away)=
# ## What the simple loss throws away
#
# Put the bound back together. For a `Ddpm` with $D$ dimensions and fixed variances, minus the bound is a sum of four parts, by {eq}`eq-three-terms`, {eq}`eq-step-cost` and {eq}`eq-five-weights`:
#
# $$
# \begin{aligned}
# - \mathrm{ELBO}(x) = {} & \underbrace{D_{\mathrm{KL}}\big( q(x_T \mid x) \,\Vert\, p(x_T) \big)}_{\text{prior matching}} + \underbrace{\frac{D}{2} \sum_{t=2}^{T} \Big( \frac{\tilde\beta_t}{\sigma_t^2} - 1 - \log \frac{\tilde\beta_t}{\sigma_t^2} \Big)}_{\text{variances}} \\
# & + \underbrace{\sum_{t=2}^{T} \omega_\varepsilon(t)\, \mathbb{E} \lVert e_\varepsilon(t) \rVert^2}_{\text{errors}} \; \underbrace{- \, \mathbb{E} \log p_\theta(x \mid x_1)}_{\text{reconstruction}} ,
# \end{aligned}
# $$ (eq-bound-from-errors)
#
# with $e_\varepsilon(t) = \varepsilon - \varepsilon_\theta(x_t, t)$. (In the paper's numbering the first part is $L_T$, the last $L_0$, and the two in the middle are $L_1 + \dots + L_{T-1}$.) Beside it, the simple loss keeps:
#
# | of the bound | the simple loss has |
# |---|---|
# | the errors, weighted by $\omega_\varepsilon(t)$ | the same errors, all weighted alike |
# | the reconstruction, log-probabilities of gray levels | a squared error at $t = 1$, weighted like the others |
# | the variances: what $\sigma_t^2$ costs | nothing, so it cannot choose them |
# | the prior matching | nothing; no network can change it |
#
# The cell checks {eq}`eq-bound-from-errors` for one digit and one draw of the noise at each of the thousand times: on the left `elbo_step`, which computes divergences, on the right errors and weights. Rejected are the simple loss's idea, all weights equal to their mean, and a bound without the cost of the variances.

# %%
from companion.variances import bound_weights


def variances_cost(reverse_var, schedule=schedule):
    """What the variances cost, in nats for each dimension, at each time; 0 at t < 2."""
    ratio = schedule.posterior_var[2:] / reverse_var[2:]
    return F.pad(0.5 * (ratio - 1 - ratio.log()), (2, 0))


# %% tags=["nbval-check-output"]
_ = torch.manual_seed(0)
fine = pretrained("ddpm-digits").double()
every, x = torch.arange(1, 1001), small_y[:1].double()
many, noise = x.expand(1000, 1, 8, 8), torch.randn(1000, 1, 8, 8).double()
prior = kl_divergence(fine.posterior(x), fine.prior(1))[0]
left = prior - elbo_step(fine, many, every, noise).sum()
x_t = add_noise(schedule, many, every, noise)
x_hat = fine.denoise(x_t, every)
off = (noise - noise_from_x_0(schedule, x_t, every, x_hat)).square().flatten(1).sum(1)
weight = bound_weights(schedule, fine.reverse_var).noise[1:]
variances = 64 * variances_cost(fine.reverse_var).sum()
reconstruction = -fine.reconstruction(x_hat[:1]).log_prob(x)[0]
rest = prior + variances + reconstruction
right = rest + (weight * off)[1:].sum()
alike = {"all weights alike": rest + weight[1:].mean() * off[1:].sum()}
alike["no variances"] = right - variances
verify("eq-bound-from-errors", left, right, exact.within(1e-6), rejects=alike)

# %% [markdown]
# **The weights.** The last chapter found that they fall by a factor of 120 from $t = 2$ on if $\sigma_t^2 = \tilde\beta_t$, and by one of 55 if $\sigma_t^2 = \beta_t$, to a minimum near $t = 349$. The largest weights belong to the first times. What share of the weight do they have?

# %% tags=["nbval-check-output"]
choices = {"beta": schedule.beta, "beta-tilde": schedule.posterior_var}
decoder_var = schedule.posterior_var[2]
print("share of the weight at t = 2 to 10, to 100:")
for name, reverse_var in choices.items():
    w = bound_weights(schedule, reverse_var, decoder_var).noise[2:]
    early, later = w[:9].sum() / w.sum(), w[:99].sum() / w.sum()
    print(f"bound, variance {name:10} {early:6.1%} {later:6.1%}")
print(f"simple loss               {9 / 999:6.1%} {99 / 999:6.1%}")
for name, reverse_var in choices.items():
    w = bound_weights(schedule, reverse_var, decoder_var).noise[2:]
    print(f"largest over least weight, {name}: {w.max() / w.min():.0f}")

# %% [markdown]
# So the simple loss looks away from the smallest $t$, where the last faint noise is taken from a picture that is already there, and looks at the larger ones, where it is decided what the picture shall be. {cite:t}`ho2020` found that this gives better pictures and a slightly worse bound.
#
# In code, the losses in use are three tensors. The table has their weights of an error of the picture at five times, each relative to that at $t = 1000$:

# %% tags=["nbval-check-output"]
weights = {
    "simple loss": schedule.snr,
    "error of v": 1 / schedule.noise_var,
    "bound, beta": bound_weights(schedule, schedule.beta, decoder_var).x_0,
}
at = torch.tensor([2, 10, 100, 400, 1000])
print("t           " + "".join(f"{t:12}" for t in at.tolist()))
for name, weight in weights.items():
    print(f"{name:12}" + "".join(f"{w:12.4g}" for w in weight[at] / weight[1000]))
losses = [denoising_loss(small, small_x[:8], weight) for weight in weights.values()]
print("each is a loss:", all(bool(loss.isfinite().all()) for loss in losses))

# %% [markdown]
# Does it change what the network learns? If the network could choose its answer at each time freely, it would not: by {eq}`eq-excess-error` the best answer is $\varepsilon^*$ at each $t$, whatever the weights. But one network serves all times, and where it cannot be perfect the weights decide where the errors go.
#
# **What an error costs.** By {eq}`eq-excess-error` only the excess counts. For a network with the mean squared errors $\mathrm{MSE}_t$ (summed over dimensions), $\mathrm{MMSE}_t$ for those of the exact denoiser $\varepsilon^*$, and a normal likelihood at $t = 1$,
#
# $$
# \mathbb{E}\, \mathrm{ELBO}_\theta = \mathbb{E}\, \mathrm{ELBO}_* - \sum_{t=1}^{T} \omega_\varepsilon(t)\, \big( \mathrm{MSE}_t - \mathrm{MMSE}_t \big) ,
# $$ (eq-deficit)
#
# where $\mathrm{ELBO}_*$ is the bound of $\varepsilon^*$ with the same variances. The formula is exact, for any data and any network. For normal data {eq}`eq-gaussian-gap` adds what the end of the chain and the variances lose, and the account is complete. The proof is short: the other parts of {eq}`eq-bound-from-errors` are the same for both, and a normal likelihood with variance $\sigma_1^2$ is a squared error with the weight $\omega_\varepsilon(1)$. For gray levels, whose likelihood is not normal, $t = 1$ is left as it is.
#
# The check needs data whose $\varepsilon^*$ is known: the humps in the plane. The left side is a difference of two bounds, by `elbo_step`. On the right $\mathrm{MSE}_t - \mathrm{MMSE}_t$ is computed as the excess $\mathbb{E} \lVert \varepsilon^* - \varepsilon_\theta \rVert^2$, from two answers alone. Each of 1500 points contributes the difference of both sides, summed over all times.

# %%
from companion.schedule import x_0_from_noise

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


# %%
def timid(x_t, t):
    """A denoiser that takes away only 80 percent of the noise it sees."""
    noise = noise_from_x_0(toy.schedule, x_t, t, exact_hat(x_t, t))
    return x_0_from_noise(toy.schedule, x_t, t, 0.8 * noise)


# %% [markdown]
# First a denoiser that is wrong on purpose. The plain excess, without the weights, is rejected.

# %% tags=["nbval-check-output"]
_ = torch.manual_seed(0)
lost, weighted, plain = both_sides(timid)
wrong = {"without weights": weighted.mean() - plain.mean()}
verify("eq-deficit", lost - weighted, zero, monte_carlo, rejects=wrong)

# %% [markdown]
# And the shipped network of the plane, which was trained for longer than the one above:

# %%
_ = torch.manual_seed(0)
shipped = pretrained("ddpm-toy2d")
lost, weighted, plain = both_sides(shipped.denoiser)
n = len(y) ** 0.5
print(f"the network loses {lost.mean():.3f} +- {lost.std() / n:.3f} nats")
print(f"by the formula    {weighted.mean():.3f} +- {weighted.std() / n:.3f} nats")

# %% [markdown]
# **Why not train on the bound?** Then each step would know its price. But the gradient gets noisier: with the weights on, a batch in which $t = 1$ happens to be drawn often shouts louder than one without it. The cell takes a network of the plane early in its training, after twenty steps, and measures over forty batches the mean square of the gradient's noise, divided by the square of its mean. It does so for the simple loss, for the weighted one with uniform times, and for the weighted one with times that are drawn *by the weights*. Such draws put the weights into the choice of $t$ and leave the loss plain ({ref}`ex-better-times` of the last chapter).


# %%
def gradient_noise(net, by_weights, weighted, batch=500, num=40):
    """Mean squared noise of a batch's gradient over the square of its mean."""
    law_of_t = w[1:].float() if by_weights else torch.ones(100)
    gradients = []
    for _ in range(num):
        t = torch.multinomial(law_of_t, batch, replacement=True) + 1
        noise = torch.randn(batch, 2)
        x_t = add_noise(toy.schedule, law.sample((batch,)) / 2, t, noise)
        errors = (noise - net(x_t, t)).square().sum(1)
        loss = (errors * (w[t] if weighted else 1)).mean()
        parts = torch.autograd.grad(loss, list(net.parameters()))
        gradients += [torch.cat([g.flatten() for g in parts])]
    noise = torch.stack(gradients).var(0).sum()
    mean = torch.stack(gradients).mean(0)
    return (noise / (mean.square().sum() - noise / num)).item()


# %%
_ = torch.manual_seed(0)
young = toy_ddpm()
optimizer = torch.optim.Adam(young.parameters(), lr=2e-3)
_ = list(fit(young, simple_loss, points[:10_000].split(500), optimizer))
net = young.denoiser.network
noises = {
    "simple loss, uniform times": gradient_noise(net, False, False),
    "weighted loss, uniform times": gradient_noise(net, False, True),
    "weighted loss, times drawn by the weights": gradient_noise(net, True, False),
}
for name, ratio in noises.items():
    print(f"{name:42} noise over signal {ratio:.2f}")

# %% tags=["nbval-check-output"]
quiet, loud, drawn = noises.values()
print("weights make the gradient noisier, by half at least:", loud > 1.5 * quiet)
print("drawing by the weights helps:", loud > 1.2 * drawn)

# %% [markdown]
# At a ratio of 1 a batch has as much noise as signal, and a batch twice as large halves it. So the weighted loss wants larger batches for gradients of the same quality. To draw the times that count cures a part of it. {cite:t}`nichol2021` saw the same on photographs: the bound itself was so noisy a loss that they drew the times by the size of their terms.

# %% [markdown]
# For points in the plane the batch is large enough, so there it was done: the shipped network of the plane, and a second one, trained in the same way from the same random numbers, only with the third weight in place of the first. Both are measured on the same 5000 test points with the same noise, in nats.

# %%
by_bound = pretrained("ddpm-toy2d-bound")
_ = torch.manual_seed(1)
fresh, found = law.sample((5000,)) / 2, {}
for name, net in {"simple loss": shipped, "the bound": by_bound}.items():
    _ = torch.manual_seed(2)
    found[name] = -elbo_terms(net, fresh).elbo.double()
    nats = found[name].mean(), found[name].std() / 5000**0.5
    print(f"trained on {name:11}: minus the bound {nats[0]:.4f} +- {nats[1]:.4f}")
gain = found["simple loss"] - found["the bound"]
print(f"won, point by point: {gain.mean():.4f} +- {gain.std() / 5000**0.5:.4f}")

# %% tags=["nbval-check-output"]
better = gain.mean() > 3 * gain.std() / 5000**0.5
print("trained on the bound, it reaches a better bound:", bool(better))

# %% [markdown]
# The gain is real for these two networks, and small: a hundredth of a nat. (One training each; another seed may give another gain.)

# %% [markdown]
# (sec-why-v)=
# ## Why the network of the digits estimates v
#
# At $t$ near $T$, $x_t$ *is* nearly the noise. A network that estimates the noise must then copy its input, and do so with great precision: by {eq}`eq-five-errors` even an estimate that knows nothing of the picture has an error of the noise of the size of $\mathrm{SNR}_t$. {cite:t}`salimans2022` let the network estimate $v = \sqrt{\bar\alpha_t}\, \varepsilon - \sqrt{1 - \bar\alpha_t}\, x$ instead.
#
# How good should an estimate be? There is a yardstick that needs no network. The best *linear* estimate follows from the covariance of the data, with eigenvalues $\lambda_1, \dots, \lambda_D$. By the same calculation as in {eq}`eq-simple-optimum`, its squared error per dimension is
#
# $$
# \mathrm{lin}_t = \frac1D \sum_{j=1}^{D} \frac{\bar\alpha_t\, \lambda_j}{\bar\alpha_t\, \lambda_j + 1 - \bar\alpha_t} .
# $$ (eq-linear-bound)
#
# A network that deserves its name must be below it. The check fits a straight map from $x_t$ to the noise by least squares, to the exact second moments of forty digits in noise. The error with eigenvalues that are all replaced by their mean is rejected.

# %% tags=["nbval-check-output"]
from companion.variances import linear_noise_error

few = small_x[:40].flatten(1).double()
cov = torch.cov(few.T, correction=0)
t = torch.tensor([10, 100, 500])
scale, var = (k[:, None, None] for k in schedule.forward_coefficients(0, t))
cov_t = scale**2 * cov + var * torch.eye(64).double()
slope = torch.linalg.solve(cov_t, var.sqrt() * torch.eye(64).double())
left = (1 - var.sqrt() * slope.diagonal(dim1=1, dim2=2)[:, None]).mean((1, 2))
values = torch.linalg.eigvalsh(cov).clamp(min=0)
right = linear_noise_error(schedule, values)[t].mean(1)
wrong = {"one mean eigenvalue": linear_noise_error(schedule, values.mean()[None])[t, 0]}
verify("eq-linear-bound", left, right, exact.within(1e-8), rejects=wrong)

# %% [markdown]
# Now the trained network of the small digits, which estimates the noise. The table has its error per pixel on test digits, the yardstick, and the quotient of both.

# %%
_ = torch.manual_seed(0)
values = torch.linalg.eigvalsh(torch.cov(small_x.flatten(1).T.double())).clamp(min=0)
yardstick = linear_noise_error(schedule, values).mean(1)
chosen = [10, 100, 300, 500, 700, 850, 1000]
found = noise_errors(small, small_y, chosen).mean(1)
print("   t      error     linear   quotient")
for t, error in zip(chosen, found, strict=True):
    print(f"{t:4} {error:10.2e} {yardstick[t]:10.2e} {error / yardstick[t]:10.2f}")

# %% [markdown]
# Up to $t = 300$ the network is better than any linear estimate. At the end of time it is much worse than a straight line. It is not stupid there, only imprecise: it copies its input with an error of some percent, and the yardstick asks for one of some thousandths. An *untrained* network of $v$, which answers zero, does better:

# %% tags=["nbval-check-output"]
_ = torch.manual_seed(0)
net = UNet((1, 8, 8), 16, (1, 2), blocks=1)
fresh = image_ddpm(net, predictor=VPredictor, levels=17)
untrained = noise_errors(fresh, small_y, [1000]).mean()
print("better than linear at t = 100:", bool(found[1] < yardstick[100]))
print("at least ten times worse at t = 1000:", bool(found[-1] > 10 * yardstick[1000]))
print("no training beats training at t = 1000:", bool(untrained < found[-1]))

# %% [markdown]
# The reason is in {eq}`eq-five-errors`. An error in $v$ is
#
# $$
# \lVert e_v \rVert^2 = \frac{\lVert e_\varepsilon \rVert^2}{\bar\alpha_t} ,
# $$ (eq-v-loss)
#
# so the same mistake of the network costs $\bar\alpha_t$ times as much noise, which at the end is next to nothing. Read as a loss, that of $v$ is that of the noise with the weights $1 / \bar\alpha_t$: the same at small $t$, and one of the picture at large $t$. The cell draws the same random numbers for both losses, on the network of the small digits in double precision.

# %% tags=["nbval-check-output"]
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
# For normal data of variance 1, the least loss of $v$ is 1 at every time: no end of time is easier than the other. So the network of the digits is trained by Algorithm 1, with $v$ in the place of $\varepsilon$ in steps 5 and 6.
#
# Does the bad end matter to the bound? The weights $\omega_\varepsilon$ say what it costs:

# %%
late = torch.arange(720, 1001, 20)
_ = torch.manual_seed(0)
too_much = noise_errors(small, small_y, late).mean(1) - yardstick[late]
price = 64 * 20 * (bound_weights(schedule, small.reverse_var).noise[late] * too_much).sum()
print(f"more error than a linear estimate, from t = 710 on: {price:.2f} nats")
off = found[-1] / schedule.snr[1000] / values.mean()
print(f"the estimated picture at t = 1000 is off by {off:.0f} variances of the data")

# %% [markdown]
# Hardly. The weights are not small there, but the errors are. Yet the network's idea of the *picture* is useless at large $t$, as it is the copying error divided by $\sqrt{\mathrm{SNR}_t}$. Whoever wants to look at $\hat{x}$ early on, as we do {ref}`below <sec-rate-by-time>`, needs $v$.

# %% [markdown]
# (sec-digits-by-time)=
# ## Digits, time by time
#
# The network of the digits has the shape that was printed at the beginning, and was trained on the 60,000 digits of MNIST by Algorithm 1 in $v$, with the linear schedule of 1000 steps. This is on its {doc}`card </book/models>`:

# %% tags=["mnist"]
print(f"{card.minutes:.0f} minutes on {card.device}: {card.command}")
print(f"{card.metric}: {card.metric_value:.3f} +- {card.metric_se:.3f}")
print(f"{card.num_parameters:,} parameters")

# %% [markdown]
# A mean over all times hides where a network is good. The record has the squared error of the noise at each of the thousand times, measured on test digits. Beside it, two yardsticks. The first is {eq}`eq-linear-bound` with the covariance of the training digits. The second is the error of whoever always answers with the mean picture: with $\hat{x}$ fixed,
#
# $$
# \frac1D\, \mathbb{E} \lVert \varepsilon - \hat\varepsilon \rVert^2 = \mathrm{SNR}_t\, \frac1D \sum_{j=1}^{D} \lambda_j .
# $$ (eq-know-nothing)
#
# The cell checks that on the small digits and rejects it without the signal-to-noise ratio.

# %% tags=["nbval-check-output"]
_ = torch.manual_seed(0)
mean_digit = small_x.double().mean(0)
nobody = Ddpm(lambda x_t, t: 0 * x_t + mean_digit, schedule, (1, 8, 8), schedule.beta)
small_cov = torch.cov(small_x.flatten(1).T.double(), correction=0)
spread = small_cov.trace() / 64
at_times = [5, 200, 1000]
left = noise_errors(nobody, small_x.double(), at_times).mean(1)
right = schedule.snr[at_times] * spread
wrong = {"without SNR": spread.expand(3)}
verify("eq-know-nothing", left, right, rejects=wrong)

# %% [markdown]
# Now the digits of MNIST. The covariance is that of the 60,000 training digits.

# %%
error, error_se = record["noise_error"], record["noise_error_se"]
centered = (2 * train.images - 1).flatten(1)
centered = centered - centered.mean(0)
cov = (centered.T @ centered).double() / len(centered)
values, vectors = torch.linalg.eigh(cov)
values = values.clamp(min=0)  # rounding goes below 0
linear = linear_noise_error(schedule, values).mean(1)
nothing = schedule.snr * values.mean()
every = torch.arange(1, 1001)

# %% mystnb={"image": {"alt": "Three falling curves over time on logarithmic axes. The network's error lies below that of the best linear estimate over most of the range, by the most between t = 20 and t = 300; from about t = 600 on all three curves run together and fall steeply."}, "figure": {"caption": "Squared error of the estimated noise, per pixel, at each of the thousand times.", "name": "fig-error-by-time"}}
shown = {"network": error, "best linear estimate": linear}
plots.curves(
    {name: (every, curve[1:]) for name, curve in shown.items()}
    | {"mean picture": (every[100:], nothing[101:])},
    x_label="time $t$",
    y_label="squared error of the noise, per pixel",
    log_x=True,
    log_y=True,
)

# %% [markdown]
# In {numref}`fig-error-by-time` the network is far below every linear estimate where there is something to see. Towards the end all three curves meet. There $x_t$ tells next to nothing about the digit, the best answer is nearly the mean picture, and there is nothing to win. All that is left to a network there is to lose: it must say the mean picture, and exactly.
#
# To count the times at which the network is below, one more thing has to be known. The yardstick speaks about training digits, and the errors belong to the first 200 test digits. Where all estimates are the mean picture, their quotient just says how far *these* digits are from it. So the cell below computes what the linear estimate, with the mean and the covariance of the training digits, makes of the same 200. Along eigenvector $j$, let $y_j$ be the coordinate of $x$ less the mean, and $V_t = \bar\alpha_t \lambda_j + 1 - \bar\alpha_t$. There the estimate of the noise is $\sqrt{1 - \bar\alpha_t} / V_t$ times the coordinate of $x_t$, and its squared error, averaged over the noise, is
#
# $$
# \Big( \frac{\bar\alpha_t\, \lambda_j}{V_t} \Big)^2 + \frac{\bar\alpha_t\, (1 - \bar\alpha_t)\, y_j^2}{V_t^2} .
# $$ (eq-linear-on-others)
#
# For $y_j^2 = \lambda_j$ this is the term of {eq}`eq-linear-bound` again. The check is in one dimension: the exact denoiser for $\lambda = \frac14$ is asked about $x = 1$. The error on data of its own variance is rejected.


# %% tags=["nbval-check-output"]
def linear_on_others(y2, values):
    """Squared error of the linear estimate along each eigenvector, by time."""
    kept, lost = schedule.alpha_bar[1:, None], schedule.noise_var[1:, None]
    total = kept * values + lost
    return F.pad(((kept * values) ** 2 + kept * lost * y2) / total**2, (0, 0, 1, 0))


_ = torch.manual_seed(0)
one, quarter = torch.ones(50_000, 1).double(), torch.tensor([0.25]).double()
hat = gaussian_denoiser(schedule, 0 * quarter, quarter[:, None])
asked = noise_errors(Ddpm(hat, schedule, (1,), schedule.beta), one, [100, 300]).T
right = linear_on_others(one[0], quarter)[[100, 300], 0]
usual = {"on its own data": linear_noise_error(schedule, quarter)[[100, 300], 0]}
verify("eq-linear-on-others", asked, right, monte_carlo, rejects=usual)

# %% [markdown]
# Both counts, and the best and the worst time:

# %%
first = 2 * (test.images[:200] - train.images.mean(0)).flatten(1).double()
y2 = (first @ vectors).square().mean(0)
yardsticks = {
    "training digits": linear[1:],
    "the same 200": linear_on_others(y2, values).mean(1)[1:],
}
print(f"these digits have {y2.sum() / values.sum():.3f} of the training variance")
for name, stick in yardsticks.items():
    quotient = error[1:] / stick
    low, high = quotient.argmin(), quotient.argmax()
    above = error[1:] - 2 * error_se[1:] > stick
    print(f"\nlinear estimate on {name}: below it at {(quotient < 1).sum()} times,")
    print(f"above it by more than 2 standard errors at {above.sum()}; the quotient is")
    print(f"{quotient[low]:.2f} at t = {low + 1}, {quotient[high]:.3f} at t = {high + 1}")
    if test.name == "mnist" and name == "training digits":
        assert above.sum() <= 100

# %% [markdown]
# A quotient a little above 1 at large $t$ is no scandal: it is a small part of an error that is itself tiny. How much is won in all, in nats? By {eq}`eq-deficit`, with the linear estimate in the place of the exact one:

# %%
w = 784 * bound_weights(schedule, model.reverse_var).noise[2:]
won = w * (yardsticks["the same 200"][1:] - error[2:])
print(f"won by the network at t = 2 to 1000: {won.sum():.0f} nats for a digit")
print(f"lost where it is above the linear estimate: {-won.clamp(max=0).sum():.2f} nats")

# %% [markdown]
# *Sources: B26.*

# %% [markdown]
# (sec-ema)=
# ## The average of the weights
#
# The weights that are shipped are not the last ones of the training. They are an {term}`exponential moving average`. After each step $n$ with weights $\theta_n$, and with a decay $d$ such as 0.999,
#
# $$
# \bar\theta_n = d\, \bar\theta_{n-1} + (1 - d)\, \theta_n, \qquad \bar\theta_1 = \theta_1 .
# $$ (def-ema)
#
# Written out, this is a weighted mean of all weights so far,
#
# $$
# \bar\theta_n = d^{\,n-1}\, \theta_1 + (1 - d) \sum_{k=2}^{n} d^{\,n-k}\, \theta_k .
# $$ (eq-ema-sum)
#
# What is older than $m$ steps has the weight $d^m$. For $m = 1 / (1 - d)$ that is about $1 / e$, so the average reaches back some $1 / (1 - d)$ steps: a thousand for 0.999. Why average at all? With a constant rate of learning the weights do not come to rest. They jitter around the optimum, pushed by the noise of the gradient, and the average of a jitter is closer to the middle. If the weights were independent draws with variance 1, the variance of their average would tend to
#
# $$
# (1 - d)^2 \sum_{k=0}^{\infty} d^{\,2k} = \frac{1 - d}{1 + d} .
# $$ (eq-ema-noise)
#
# The cells let the companion average 300 random weights, and compare; rejected are an average whose first weight counts like the others, and a variance of $1 - d$.

# %% tags=["nbval-check-output"]
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
left = running.module.weight[0, 0]
verify("eq-ema-sum", left, (shares * thetas).sum(), rejects={"first alike": like_others})
limit, slow = torch.tensor([(1 - d) / (1 + d), 1 - d]).double()
long = (1 - d) ** 2 * (d ** torch.arange(20_000.0).double()).square().sum()
verify("eq-ema-noise", long, limit, exact.within(1e-6), rejects={"1 - d": slow})

# %% [markdown]
# And live. During the training {ref}`above <sec-algorithm-1>` an average with $d = 0.99$ was taken along. Here are the excesses of both, on the same points with the same noise.

# %% mystnb={"image": {"alt": "Two curves of the excess over the training step on a logarithmic axis. The average starts far above the weights, crosses them after some 250 to 300 steps and then stays below, and is smooth where the weights jitter."}, "figure": {"caption": "What is left to learn, for the weights and for their average. The rate of learning is constant.", "name": "fig-ema"}}
plots.curves(
    {"weights": (steps, of_weights), "their average": (steps, of_average)},
    x_label="step",
    y_label="excess squared error of the noise",
    log_y=True,
)

# %% [markdown]
# In {numref}`fig-ema` the average is far behind at first, since it remembers bad weights. Then it overtakes, and is better from then on, for free: it is only read, never trained. A rate of learning that falls to zero lets the weights come to rest and does part of the same work. Two warnings. An average with a long memory is worse than the weights until the training is several times as long as the memory. And it is the average that must be saved, measured and sampled from; whoever samples from the weights wonders about the quality.

# %% tags=["nbval-check-output"]
end = steps > 400
pair = (of_weights[end], of_average[end])
jitter = [curve.diff().std() / curve.mean() for curve in pair]
print("at first the average is worse:", bool(of_average[0] > of_weights[0]))
print("after step 400 it is better:", bool((of_average < of_weights)[end].all()))
print("and less than half as restless:", bool(jitter[1] < 0.5 * jitter[0]))

# %% [markdown]
# (sec-bits-of-digits)=
# ## Bits per dimension
#
# Now the bound itself. The data are gray levels, 256 of them, so the last step must give a probability to each: the mass of a normal distribution on the level's interval, with the two outermost intervals reaching to infinity {cite:p}`ho2020`,
#
# $$
# p_\theta(x \mid x_1) = \prod_{j=1}^{D} \int_{\delta_-(x_j)}^{\delta_+(x_j)} \mathcal{N}\big( u;\, \hat{x}_j,\, \sigma_1^2 \big)\, \mathrm{d}u , \qquad \delta_\pm(x_j) = x_j \pm \tfrac{1}{255} \text{ inside} .
# $$ (def-gray-levels)
#
# The unit is that of a compressor. Minus the bound is divided by $D \log 2$, which gives bits for each pixel; eight would be the raw picture. {eq}`eq-bound-from-errors` says what has to be added up, and the record has the errors of all times. Live, only $\hat{x}$ at $t = 1$ is needed.
#
# Three choices of the variances $\sigma_t^2$, $t \ge 2$, are compared: $\beta_t$, $\tilde\beta_t$, and the {ref}`optimal ones <sec-exact-gap>`, made from the measured errors. All take $\tilde\beta_2$ for $\sigma_1^2$, as the code of {cite:t}`ho2020` does. A fourth column takes the optimal ones *and at 1* the same rule, by which $\sigma_1^2$ is the mean squared error of the picture at $t = 1$.
#
# All four have a decoder that has never seen a gray level: a normal density, cut into 256 pieces. But $x_1$ is almost the picture. Its noise is about as wide as one gray level, and the only question left is which of a few neighboring levels it was. The fifth column asks how *common* each of them is. Let $c(g)$ be the share of level $g$ among the pixels of the training set. Bayes' rule, for each pixel by itself, is a decoder without a network:
#
# $$
# p(x_j \mid x_{1,j}) = \frac{c(x_j)\, \mathcal{N}\big( x_{1,j};\, \sqrt{\bar\alpha_1}\, x_j,\, 1 - \bar\alpha_1 \big)}{\sum_g c(g)\, \mathcal{N}\big( x_{1,j};\, \sqrt{\bar\alpha_1}\, g,\, 1 - \bar\alpha_1 \big)} .
# $$ (def-histogram-decoder)

# %%
from companion.ddpm import single_step_elbo
from companion.decoders import HistogramDecoder, gray_level_frequencies
from companion.metrics import bits_per_dim
from companion.variances import optimal_reverse_var

gray = 2 * (255 * test.images[:300]).round() / 255 - 1
_ = torch.manual_seed(0)
with torch.no_grad():
    x_1 = add_noise(schedule, gray, 1, torch.randn_like(gray))
    x_hat = model.denoise(x_1, 1)
choices["optimal"] = optimal_reverse_var(schedule, error)


def with_variances(reverse_var, decoder_var=decoder_var, decoder=None):
    """The model of the digits with other variances, or another decoder."""
    args = reverse_var, decoder_var, model.observation_model, decoder
    return Ddpm(model.denoiser, schedule, (1, 28, 28), *args)


# %%
show(HistogramDecoder.forward)


# %%
def parts_of(judge):
    """The four parts of minus the bound, in nats, and a standard error."""
    w = 784 * bound_weights(schedule, judge.reverse_var).noise[2:]
    decoded = judge.decoder(x_1) if judge.decoder else judge.reconstruction(x_hat)
    last = -decoded.log_prob(gray)
    prior = kl_divergence(judge.posterior(gray), judge.prior(len(gray))).mean()
    parts = {
        "prior matching": prior,
        "variances": 784 * variances_cost(judge.reverse_var).sum(),
        "errors": (w * error[2:]).sum(),
        "reconstruction": last.mean(),
    }
    return parts, (w * error_se[2:]).sum() + last.std() / len(gray) ** 0.5


# %% [markdown]
# The whole account of the bound in one table:

# %%
judges = {name: with_variances(reverse_var) for name, reverse_var in choices.items()}
judges["and at 1"] = with_variances(choices["optimal"], None)
frequency = gray_level_frequencies(2 * (255 * train.images).round() / 255 - 1)
histogram = HistogramDecoder(schedule, frequency)
judges["histogram"] = with_variances(choices["optimal"], decoder=histogram)
accounts = {name: parts_of(judge) for name, judge in judges.items()}
print("nats for a digit     " + "".join(f"{name:>12}" for name in accounts))
for part in ("prior matching", "variances", "errors", "reconstruction"):
    row = [account[part] for account, _ in accounts.values()]
    print(f"{part:21}" + "".join(f"{nats:12.4f}" for nats in row))
totals = {name: sum(account.values()) for name, (account, _) in accounts.items()}
print(f"{'minus the bound':21}" + "".join(f"{v:12.4f}" for v in totals.values()))
bits = {name: bits_per_dim(total, 784).item() for name, total in totals.items()}
print(f"{'bits per dimension':21}" + "".join(f"{v:12.4f}" for v in bits.values()))
spreads = {name: bits_per_dim(se, 784) for name, (_, se) in accounts.items()}
print(f"{'standard error below':21}" + "".join(f"{v:12.4f}" for v in spreads.values()))

# %% tags=["nbval-check-output", "mnist"]
best_of_three = bits["optimal"] < min(bits["beta"], bits["beta-tilde"])
print("the optimal variances are the best of the first three:", best_of_three)
last = {name: account["reconstruction"] for name, (account, _) in accounts.items()}
print("the histogram halves the last step:", bool(last["histogram"] < last["optimal"] / 2))
print("and takes 0.3 bits off the bound:", bits["optimal"] - bits["histogram"] > 0.3)

# %% [markdown]
# The errors at different times come from the same digits, so their standard errors are simply added; the true one is smaller.
#
# The optimal variances win over the first two, as they must. (They were made from the errors on these same digits; but a thousand numbers are hard to fit to two hundred digits by chance.) The rule fails at $t = 1$ if the fourth column is worse than the third: it is made for the density of a normal distribution, and the mass on a gray level is another thing.
#
# The last column is far below the others, and nothing was trained for it. Four pixels in five are black, and the histogram knows that. How good can such a decoder be? If the pixels were drawn from $c$, its price would be the entropy of a pixel that is left when $x_1$ is known,
#
# $$
# \mathbb{E}\big[ -\log p(x_j \mid x_{1,j}) \big] = H(c) + \tfrac12 \log\big( 2 \pi e\, (1 - \bar\alpha_1) \big) - h(x_{1,j}) ,
# $$ (eq-histogram-price)
#
# by $H(x \mid x_1) = H(x) + h(x_1 \mid x) - h(x_1)$, where $h$ is the entropy of a density. No decoder that sees $x_{1,j}$ alone can pay less. The cell integrates the left side, with the decoder, and the right side, with the density of $x_1$, over $x_1$. It rejects the same decoder with all 256 levels equally common.

# %% tags=["nbval-check-output"]
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
equal = {"all levels equally common": price(torch.full((256,), 1 / 256).double())}
verify("eq-histogram-price", price(coarse), right_side, exact.within(1e-6), rejects=equal)

# %% [markdown]
#
# Of $\beta_t$ and $\tilde\beta_t$, which is better? {ref}`The last chapter <sec-exact-gap>` had wide normal data, where $\beta_t$ was nearly free and $\tilde\beta_t$ cost half of Euler's constant, 0.2886 nats for each dimension. A digit has the opposite kind of dimension as well: pixels that are plain black, which a network knows. For data that are known, $\tilde\beta_t$ is right and $\beta_t$ is too wide, and that has a price which no number of steps takes away. For the linear schedule, rescaled as in the last chapter,
#
# $$
# \lim_{T \to \infty} \frac12 \sum_{t=2}^{T} \Big( \frac{\tilde\beta_t}{\beta_t} - 1 - \log \frac{\tilde\beta_t}{\beta_t} \Big) = \frac{1 - \gamma_{\mathrm{E}}}{2} = 0.2113\ldots
# $$ (eq-known-data)
#
# nats for each dimension. The reason is that of {eq}`eq-euler-gap`: near the data the betas are nearly equal, and $\tilde\beta_t / \beta_t$ is nearly $(t - 1) / t$. So the terms of the sum are $\log \frac{t}{t - 1} - \frac1t$, and from $t = 2$ on they add up to $1 - \gamma_{\mathrm{E}}$. This is the second row of the table, in the column of $\beta_t$: what one pays there even if nothing is left to guess. The column of $\tilde\beta_t$ pays in the third row instead, where the weights of the errors are larger. The cell computes the sum for a million steps, and rejects that the price is that of the last chapter.

# %% tags=["nbval-check-output"]
finest = linear_schedule(1_000_000, 1e-7, 2e-5)
euler = -torch.digamma(torch.ones(()).double())
left = variances_cost(finest.beta, finest).sum()
rule = exact.within(5e-3)
same = {"as for wide data": euler / 2}
verify("eq-known-data", left, (1 - euler) / 2, rule, rejects=same)
at_1000 = variances_cost(schedule.beta).sum()
print(f"at T = 1000: {at_1000:.4f} nats per dimension")
print(f"that is {bits_per_dim(at_1000, 1):.4f} bits")

# %% [markdown]
# Which part of the time costs how much? This is the chart of the VAE and the ladder again ({numref}`fig-three-models`), with the thousand levels taken together in groups, for the optimal variances and the histogram. The last bar is the reconstruction.

# %%
from itertools import pairwise


def step_costs(reverse_var):
    """Divergence of each step in nats, by time; 0 at t < 2."""
    w = 784 * bound_weights(schedule, reverse_var, decoder_var).noise
    costs = w * error + 784 * variances_cost(reverse_var)
    return torch.cat([costs[:1] * 0, costs[:1] * 0, costs[2:]])


costs = step_costs(choices["optimal"])
account, _ = accounts["histogram"]
edges = [1000, 300, 100, 30, 10, 3, 1]
groups = {"prior matching": account["prior matching"]}
for high, low in pairwise(edges):
    groups[f"t = {low + 1} to {high}"] = costs[low + 1 : high + 1].sum()
groups["reconstruction"] = account["reconstruction"]

# %% mystnb={"image": {"alt": "Eight horizontal bars. Nothing for the prior, little for the steps from 301 to 1000, more for each group further down, and the longest bars for the first few steps and the reconstruction."}, "figure": {"caption": "Where the nats of a digit go, from the top of the chain to the picture.", "name": "fig-nats-by-time"}}
plots.bars(groups, value_label="nats for a digit", horizontal=True)

# %% [markdown]
# As on the ring of the last chapter, {numref}`fig-nats-by-time` grows towards the data: the last few steps and the reconstruction cost most.
#
# The table leans on the record. To be sure, here is the companion's own estimate of the bound from random steps {eq}`eq-single-step`, *live* and on other random numbers: eight steps for each of eighty test digits, mostly at small $t$, with the optimal variances and the histogram. And what do others reach? On MNIST with 256 levels, normalizing flows are reported at about 1.0 bits per dimension {cite:p}`grathwohl2019`, and autoregressive networks, which say one pixel after the other, at 0.62 to 0.64 {cite:p}`katharopoulos2020`. The cell says how far we are from them, and how many of our bits are spent in the first ten times.

# %%
_ = torch.manual_seed(1)
judge = judges["histogram"]
often = 1 / torch.arange(1001).clamp(min=1)
with torch.no_grad():
    guesses = [single_step_elbo(judge, gray[:80], often) for _ in range(8)]
live = bits_per_dim(-torch.stack(guesses).mean(0), 784)
live_se = live.std() / len(live) ** 0.5
print(f"live, 8 steps for each of 80 digits: {live.mean():.3f} +- {live_se:.3f}")
ours, early = bits["histogram"], costs[2:11].sum() + account["reconstruction"]
print(f"in the table: {ours:.3f}, of which t = 1 to 10 take", end=" ")
print(f"{bits_per_dim(early, 784):.3f}")
for name, others in {"flows": 1.0, "autoregressive networks": 0.63}.items():
    print(f"{name}: {others}, which is {ours - others:.2f} below ours")

# %% tags=["nbval-check-output", "mnist"]
apart, allowed = abs(live.mean() - ours), 4 * live_se.hypot(spreads["histogram"])
print("live and recorded bits agree:", bool(apart < allowed))

# %% [markdown]
# What a decoder that knows no gray levels costs can be computed for the black pixels. Suppose that $\hat{x}$ is exactly black there, so that $\sigma_1$ alone is to blame.

# %% tags=["nbval-check-output", "mnist"]
black = (gray == -1).double().mean()
nats = -Normal(0.0, 1.0).cdf(1 / 255 / decoder_var.sqrt()).log()
print(f"{black:.0%} of the pixels are black, at {nats:.2f} nats each:")
print(f"{bits_per_dim(black * nats, 1):.2f} bits per dimension")

# %% [markdown]
# The first edition of this chapter stopped at the third column. It blamed the network, and one choice of a likelihood had done it. What is left between us and the flows has three reasons. Ours is a bound, from a small network. Its loss does not ask for bits: it gives the first ten times one percent of its attention, and they still cost most of them. And one variance for all pixels is too large for most of them, also in the steps just above the last.
#
# With the weights put back, with a learned schedule and more training, diffusion models have reached the best likelihoods of their time on photographs {cite:p}`kingma2021`.

# %% [markdown]
# (sec-rate-by-time)=
# ## Rate and distortion
#
# Read the chain as a telephone call once more. A sender has a digit. The receiver hears $x_T, x_{T-1}, \dots$, one after the other. The divergence of each step is the number of nats that this step needs, if both use the best code. After the step that gives $x_t$, the nats so far are the *rate*, and the receiver's best picture $\hat{x}(x_t, t)$ is off by the *distortion*:
#
# $$
# \begin{aligned}
# R_t & = D_{\mathrm{KL}}\big( q(x_T \mid x) \,\Vert\, p(x_T) \big) + \sum_{s=t+1}^{T} \mathbb{E}\, D_{\mathrm{KL}}\big( q(x_{s-1} \mid x_s, x) \,\Vert\, p_\theta(x_{s-1} \mid x_s) \big) , \\
# \Delta_t & = \sqrt{ \frac1D\, \mathbb{E} \lVert x - \hat{x}_\theta(x_t, t) \rVert^2 } .
# \end{aligned}
# $$ (def-rate-by-time)
#
# Both follow from the errors in the record: the rate by the weights, and $\Delta_t$ by $\lVert e_x \rVert^2 = \lVert e_\varepsilon \rVert^2 / \mathrm{SNR}_t$. With 256 levels from $-1$ to $1$, a distortion of $2 / 255$ is one gray level. (The last nats, the reconstruction, are not part of the rate; they remove what distortion is left.)

# %%
top_price = accounts["beta"][0]["prior matching"]
rates = {}
print("share in the last 100 steps:   of the rate   of the whole bound")
for name in ("beta", "beta-tilde", "optimal"):
    costs, end = step_costs(choices[name]), accounts[name][0]["reconstruction"]
    falling = costs.flip(0).cumsum(0).flip(0)  # from t up to T
    rates[name] = bits_per_dim(top_price + F.pad(falling[2:], (0, 1)), 784)
    of_rate = costs[:101].sum() / costs.sum()
    of_bound = (costs[:101].sum() + end) / totals[name]
    print(f"{name:10} {of_rate:33.1%} {of_bound:20.1%}")
    assert (of_rate > 0.8 and of_bound > 0.9) or test.name != "mnist"
distortion = 127.5 * (error[1:] / schedule.snr[1:]).sqrt()

# %% mystnb={"image": {"alt": "Three panels. Left, the distortion falls over the steps done, slowly at first and then steadily to nearly zero. In the middle, the rate stays near zero over most steps and shoots up at the end. Right, the distortion over the rate: a very steep fall at small rates, then a long flat tail."}, "figure": {"caption": "What the receiver gets, and what it costs, with the optimal variances.", "name": "fig-rate-by-time"}}
fig, (left, middle, right) = plots.figure(3, height=2.6)
done, rate = 1000 - every, rates["optimal"]
steps_done, in_levels = "steps done", "distortion (gray levels)"
in_bits = "rate (bits per dimension)"
_ = plots.curves({"": (done, distortion)}, x_label=steps_done, y_label=in_levels, axes=left)
_ = plots.curves({"": (done, rate)}, x_label=steps_done, y_label=in_bits, axes=middle)
_ = plots.curves({"": (rate, distortion)}, x_label=in_bits, y_label=in_levels, axes=right)
fig

# %% [markdown]
# {numref}`fig-rate-by-time` has the shape that {cite:t}`ho2020` found on photographs. There, 1.66 of 1.78 bits were spent in the last hundred of a thousand steps, 93 percent of the rate. Of the rate of digits the share is smaller, but above eight tenths; with the reconstruction, which is part of the bill, it is more than nine tenths. The first nine hundred steps decide, for very few bits, which digit it is and how it is written. The last hundred spend the rest on what is hard to see. That is why a loss that looks away from the last steps still draws good pictures.
#
# See it happen: the slider shows what the receiver of $x_t$ would draw. Above is $x_t$, below $\hat{x}$.


# %%
from companion.page.sliders import Slider


def received(t):
    _ = torch.manual_seed(0)
    x_t = add_noise(model.schedule, gray[:10], t, torch.randn_like(gray[:10]))
    with torch.no_grad():
        x_hat = model.denoise(x_t, t)
    rows = {"heard": x_t, "guessed": x_hat}
    return plots.image_rows({name: data.to_unit(row) for name, row in rows.items()}, tile=0.6)


Slider(
    [1000, 800, 600, 500, 400, 300, 200, 100, 20],
    received,
    description="time of what was heard",
    alt="Ten digits at time {}, and what the network guesses from them",
    label="{}",
    start=4,
)

# %% [markdown]
# At 1000 all guesses are one gray cloud, the mean of the digits. At 600 they have a shape, and some are wrong ones. At 300 all is decided but the edges.
#
# *Sources: E05.*

# %% [markdown]
# (sec-two-schedules)=
# ## Two schedules
#
# How much of the picture should be left at which time? The *linear* schedule lets $\beta_t$ grow evenly. {cite:t}`nichol2021` found that it destroys small pictures too early, and let $\bar\alpha_t$ fall like a squared cosine instead: with a small offset $s = 0.008$,
#
# $$
# \bar\alpha_t = \frac{f(t)}{f(0)}, \qquad f(t) = \cos^2 \Big( \frac{t / T + s}{1 + s} \cdot \frac{\pi}{2} \Big) ,
# $$ (def-cosine-schedule)
#
# with no $\beta_t$ above 0.999. Both end in noise. What differs is where the time is spent. The yardstick says what there is to learn at each time: the linear estimate leaves a share of the variance of the digits open, from none near $t = 0$ to all of it near $T$.

# %%
from companion.schedule import cosine_schedule

two = {"linear": linear_schedule(1000), "cosine": cosine_schedule(1000)}
open_share = {
    name: linear_noise_error(s, values).mean(1)[1:] / s.snr[1:] / values.mean()
    for name, s in two.items()
}


def nats_between(s, high=20, low=0.01):
    """Sum of the linear estimate's terms between two signal-to-noise ratios."""
    t = ((s.snr[1:] < high) & (s.snr[1:] > low)).nonzero()[:, 0] + 1
    left_open = linear_noise_error(s, values)[t].mean(1) / s.snr[t]
    return (0.5 * (s.snr[t - 1] - s.snr[t]) * left_open).sum().item(), len(t)


# %%
between = {name: nats_between(s) for name, s in two.items()}
print("share of the times; left open of the variance:")
print(f"{'< 5 %':>46} {'between':>8} {'> 95 %':>7}")
for name, share in open_share.items():
    low, high = (share < 0.05).double().mean(), (share > 0.95).double().mean()
    print(f"{name:39} {low:6.0%} {1 - low - high:8.0%} {high:7.0%}")
for name, (nats, count) in between.items():
    print(f"{name}: {count} steps from SNR 20 to 0.01, {nats:.4f} nats per pixel")

# %% mystnb={"image": {"alt": "Two panels over time. Left, the share of the picture's variance: the linear schedule falls faster and is near zero from t = 700 on, the cosine reaches zero only at the end. Right, the share of the digits' variance that a linear estimate leaves open: the linear schedule's curve rises earlier and is flat at the end."}, "figure": {"caption": "Left: what is left of the picture. Right: how much of the digits' variance the best linear estimate leaves open.", "name": "fig-two-schedules"}}
fig, (left, right) = plots.figure(2, height=3.0)
_ = plots.curves(
    {name: (every, s.alpha_bar[1:]) for name, s in two.items()},
    x_label="time $t$",
    y_label=r"share of the picture, $\bar\alpha_t$",
    axes=left,
)
_ = plots.curves(
    {name: (every, share) for name, share in open_share.items()},
    x_label="time $t$",
    y_label="share of the variance left open",
    axes=right,
)
fig

# %% [markdown]
# With the linear schedule a good part of the thousand steps is spent where next to nothing can be told any more ({numref}`fig-two-schedules`). The cosine spends them in between. To the simple loss that is a difference: uniform times are other signal-to-noise ratios, so its hidden weights are others. To the bound it is hardly one. With $\sigma_t^2 = \tilde\beta_t$ all denoising terms together depend, for many steps, on the two ends only {eq}`eq-snr-limit`. That is what the last two lines say: between the same two ratios both schedules pay nearly the same, in different numbers of steps.

# %% tags=["nbval-check-output", "mnist"]
gain = [((share > 0.05) & (share < 0.95)).sum().item() for share in open_share.values()]
print("the cosine has more times with something to decide:", gain[1] > gain[0])
costs_of = [nats for nats, _ in between.values()]
print("the bound differs by less than 2 percent:", abs(costs_of[0] / costs_of[1] - 1) < 0.02)

# %% [markdown]
# (sec-ddpm-samples)=
# ## Samples
#
# To draw, start from noise and take the model's steps down {eq}`def-reverse-step`. All thousand cost a thousand calls of the network. Fifty, at every twentieth time, are a quick look; the next chapter says what they lose.

# %% mystnb={"image": {"alt": "Two rows of eight gray digits on black, most of them readable, drawn in fifty steps."}, "figure": {"caption": "Sixteen digits, drawn live in fifty steps.", "name": "fig-ddpm-live"}}
_ = torch.manual_seed(0)
every_20th = schedule.strided(range(20, 1001, 20))
narrow = every_20th.posterior_var
quick = Ddpm(model.denoiser, every_20th, (1, 28, 28), narrow, decoder_var=narrow[2])
*_, drawn = ancestral_sample(quick, 16)
plots.image_grid(data.to_unit(drawn), columns=8)

# %% [markdown]
# The record holds samples of all thousand steps. Forty of them:

# %% tags=["mnist"] mystnb={"image": {"alt": "Four rows of ten gray digits on black, most of them readable as digits."}, "figure": {"caption": "Samples of the model, with all thousand steps, as they came.", "name": "fig-ddpm-samples"}}
samples = record["samples"].float() / 255
plots.image_grid(samples[:40])

# %% [markdown]
# And the riddle of {numref}`fig-which-are-real`: an R for a real digit.

# %% tags=["nbval-check-output", "mnist"]
letters = ["R" if place < 10 else "-" for place in order.tolist()]
print(" ".join(letters[:10]))
print(" ".join(letters[10:]))

# %% [markdown]
# **A judge.** Eyes get tired and forgive. Two networks look at the samples, at an equal number of real digits, and at as many means drawn from the VAE of chapter 6.
#
# The first is a classifier of digits with an eleventh class, *no digit*. It was trained on real digits and on spoiled ones: pieces of one pasted into another, strokes erased, mirrored or warped. It has never seen a sample of any model. Which share does it *refuse*?
#
# The second knows ten classes. How sure is it? And how far is the cloud of its 64 features from that of the training digits? The latter is measured by the {term}`Fréchet distance`, a squared one: that of two normal distributions with the means $m$ and covariances $C$ of the two clouds,
#
# $$
# \mathrm{FD} = \lVert m_1 - m_2 \rVert^2 + \operatorname{tr}\big( C_1 + C_2 - 2\, (C_1^{1/2} C_2\, C_1^{1/2})^{1/2} \big) .
# $$ (def-frechet)
#
# With features of another network this is the FID of the papers {cite:p}`heusel2017`. A small sample seems farther away than it is, by an amount in proportion to $1/N$. The **jackknife** takes that off: leave out each tenth of the sample in turn, see how much the distance grows, and extrapolate to infinitely many. The ten distances give a standard error as well. The zero of this yardstick is what is left for real digits on which no network was trained: the last line of the table.

# %%
from companion.metrics import jackknife
from companion.zoo.yardstick import (
    digit_features,
    feature_distance,
    real_digit_distance,
    refused,
)

show(jackknife)

# %%
classifier, vae = pretrained("classifier-mnist"), pretrained("vae-mnist")
_ = torch.manual_seed(0)
*_, by_vae = ancestral_sample(vae, len(samples))
real = test.images[torch.randperm(len(test.images))[: len(samples)]]
shown = {"real digits": real, "diffusion": samples, "VAE": by_vae}
features = {name: digit_features(x) for name, x in shown.items()}
sure = {name: classifier.head(f).softmax(1).amax(1) for name, f in features.items()}
far = {name: feature_distance(f) for name, f in features.items()}
not_one = {name: refused(x) for name, x in shown.items()}

# %%
print(f"{len(samples)} pictures of each kind")
print("              sure: mean   above 0.99           refused          distance")
for name, p in sure.items():
    high, (share, error), distance = (p > 0.99).double().mean(), not_one[name], far[name]
    print(f"{name:14}{p.mean():10.3f}{high:13.1%}{share:11.1%} +- {error:.1%}", end="")
    print(f"{distance.value:11.1f} +- {distance.standard_error:.1f}")
baseline = real_digit_distance()
print(f"all test digits: {baseline.value:.2f} +- {baseline.standard_error:.2f}")
assert sure["diffusion"].mean() > 0.9 or test.name != "mnist"

# %% tags=["nbval-check-output", "mnist"]
print("mean confidence above 0.9:", bool(sure["diffusion"].mean() > 0.9))
print("closer to real digits than the VAE:", far["diffusion"].value < far["VAE"].value)
share, error = not_one["diffusion"]
print("refused: one in seven, within two errors:", abs(share - 1 / 7) < 2 * error)

# %% [markdown]
# Read the rows of the table from both ends: the first is the best that is possible, and the last is a model that was trained for black and white and shows its means. The confidence flatters the diffusion: a classifier that knows only ten digits is sure of a broken one, too. The judge that has seen broken ones refuses one sample in seven. Neither sees whether the samples are *different* digits; the distance looks at that, and so does a count of the classes. With 500 pictures its errors are too large to tell the diffusion from real digits, which the share refused does.

# %% mystnb={"image": {"alt": "Ten bars for the digits 0 to 9, each near a tenth, with whiskers."}, "figure": {"caption": "What the classifier takes the samples for, with binomial standard errors.", "name": "fig-class-counts"}}
guess = classifier.head(features["diffusion"]).argmax(1)
share = torch.bincount(guess, minlength=10).double() / len(guess)
error_bars = (share * (1 - share) / len(guess)).sqrt()
plots.bars(
    {str(digit): 100 * share[digit] for digit in range(10)},
    errors={str(digit): 100 * error_bars[digit] for digit in range(10)},
    value_label="percent of the samples",
)

# %% [markdown]
# {numref}`fig-class-counts` shows that the model draws all classes. A chi-square number compares the shares with those of the training digits.

# %%
target = torch.bincount(train.labels, minlength=10).double() / len(train.labels)
chi2 = (len(guess) * (share - target) ** 2 / target).sum()
tail = torch.special.gammaincc(torch.tensor(4.5).double(), chi2 / 2)
print(f"chi-square, 9 degrees of freedom: {chi2:.1f}")
print(f"a faithful model would exceed that with probability {tail:.1e}")

# %% tags=["nbval-check-output", "mnist"]
print("no class has less than 3 percent:", bool(share.min() > 0.03))

# %% [markdown]
# A small probability would mean that the model prefers some digits. That can happen easily: which class it will be is decided at large $t$, where few nats are at stake, and the loss hardly notices a bias.
#
# **When do samples follow the data?** A lecture says that the limiting distribution of the trained decoder is the distribution of the data. This is a statement with conditions, and the account is now complete. The divergence of the data from the model is at most the gap of the bound, and that gap is the sum of three losses:
#
# $$
# D_{\mathrm{KL}}(p_{\text{data}} \,\Vert\, p_\theta) \;\le\; \underbrace{\text{prior and steps}}_{\text{exact denoiser, best } \sigma_t^2} + \underbrace{\text{variances}}_{\text{not the best } \sigma_t^2} + \underbrace{\sum_t \omega_\varepsilon(t)\, (\mathrm{MSE}_t - \mathrm{MMSE}_t)}_{\text{network}} .
# $$ (eq-decoder-limit)
#
# The left side goes to zero if all three on the right do: if $x_T$ is noise and the steps are small, if the variances are right, *and* if the network is exact at all times that have weight. More steps alone do not repair a wrong network.
#
# For normal data in one dimension both sides are known, for a denoiser that estimates $1 + \delta$ times the noise it should. Its distribution of samples is normal, with a variance that follows step by step. The cell checks the inequality for three lengths and three $\delta$. A right side without the network's part is rejected: the samples are further from the data than that.


# %%
def off_by(T, delta, lam=0.25):
    """Divergence of the data from the model, and the two parts of the gap, in nats."""
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
    law = kl_divergence(Normal(0.0, lam**0.5), Normal(0.0, drawn**0.5))
    return law, steps, network


# %% [markdown]
# The table has nats; $T$ is the number of steps, with $\sigma_t^2 = \beta_t$.

# %% tags=["nbval-check-output"]
cases = [(T, delta) for T in (30, 100, 1000) for delta in (0.0, 0.05, 0.2)]
found = [off_by(T, delta) for T, delta in cases]
laws, steps_part, network_part = (torch.stack(column) for column in zip(*found, strict=True))
no_network = {"without the network": steps_part}
verify("eq-decoder-limit", laws, steps_part + network_part, at_most(0), rejects=no_network)
print("   T  delta   divergence of the law   steps, variances   network")
for (T, delta), (law_part, a, b) in zip(cases, found, strict=True):
    print(f"{T:4} {delta:6} {law_part:20.5f} {a:18.5f} {b:11.5f}")

# %% [markdown]
# With the exact denoiser everything goes to zero with the number of steps. With a network that is off by five percent it stops at a floor, and more steps do not help. That floor of the distribution is lower than the network's part of the gap: the bound charges each step for its error, and the distribution of the pictures forgets a good part of the early ones.
#
# **In color.** Nothing in the code is about gray pictures. With three channels and $32 \times 32$ pixels it runs as it is:

# %% tags=["nbval-check-output"]
_ = torch.manual_seed(0)
color = image_ddpm(mnist_unet((3, 32, 32)))
colors = 2 * torch.rand(4, 3, 32, 32) - 1
losses = denoising_loss(color, colors, color.schedule.snr)
print("one loss for each picture:", tuple(losses.shape))

# %% [markdown]
# {cite:t}`ho2020` trained a network of 35.7 million parameters for 800,000 steps on the photographs of CIFAR-10. That is a matter of a GPU and of many hours, and not of a notebook.
#
# *Sources: A36, B28.*

# %% [markdown]
# (sec-ddpm-wrong)=
# ## What goes wrong
#
# Nothing in Algorithm 1 complains if it is fed the wrong things. Two mistakes are made again and again.
#
# **Pixels on $[0, 1]$.** The schedule is made for data on $[-1, 1]$. On $[0, 1]$ their variance is a quarter, so at each time there is a quarter of the signal. Does the loss get worse? The yardstick says what the best linear estimate would reach:

# %%
for name, factor in {"[-1, 1]": 1.0, "[0, 1]": 0.25}.items():
    reached = linear_noise_error(schedule, factor * values).mean(1)[1:].mean()
    print(f"pixels on {name:8} least simple loss of a linear estimate: {reached:.4f}")

# %% [markdown]
# It gets *better*. A picture that is drowned in more noise makes the noise easier to see. This is the most treacherous kind of mistake: the number on the screen improves. Losses can be compared only at the same scaling and the same schedule. The bound notices at once, since its last step knows where the gray levels are; and a network that was trained on the right scale notices as well.

# %% tags=["nbval-check-output"]
scaled, ones = gray[:5] / 2 + 0.5, torch.ones(5).long()
try:
    _ = elbo_step(model, scaled, ones, torch.randn(5, 1, 28, 28))
except ValueError as complaint:
    print(complaint)

# %% tags=["nbval-check-output", "mnist"]
_ = torch.manual_seed(0)
right_scale = noise_errors(model, gray[:50], [30, 100, 300]).mean(1)
wrong_scale = noise_errors(model, gray[:50] / 2 + 0.5, [30, 100, 300]).mean(1)
print("at least five times the error:", bool((wrong_scale > 5 * right_scale).all()))

# %% [markdown]
# **The wrong time.** Some code counts from 0 and some from 1, and a wrapper may drop $t$ altogether. The next cell tells the network $t - 1$, and then always 500, at several times. What it answers is read with the right $t$.


# %%
def told(change):
    """The model, with its network told another time."""
    denoiser = VPredictor(lambda x, t: model.denoiser.network(x, change(t)), schedule)
    return Ddpm(denoiser, schedule, (1, 28, 28), model.reverse_var)


tellings = {"t": lambda t: t, "t - 1": lambda t: t - 1, "always 500": lambda t: 0 * t + 500}
at_times = [2, 5, 20, 100, 400, 700]
print("told        " + "".join(f"  t = {t:4}" for t in at_times))
by_telling = {}
for name, change in tellings.items():
    _ = torch.manual_seed(0)
    by_telling[name] = noise_errors(told(change), gray[:20], at_times).mean(1)
    print(f"{name:12}" + "".join(f"{e:10.4f}" for e in by_telling[name]))

# %% tags=["nbval-check-output", "mnist"]
right_time, one_off, never = by_telling.values()
print("one off, at t = 2: worse:", bool(one_off[0] > right_time[0]))
print("one off, at t = 400: by less than a percent:", bool(one_off[4] < 1.01 * right_time[4]))
print("never told, at t = 100: three times the error:", bool(never[3] > 3 * right_time[3]))

# %% [markdown]
# One step off is hardly to be seen, but at the very first times: from $t = 1$ to 2 the variance of the noise more than doubles, and there the bound has its largest weights. Such a mistake can live in a code for years; only a test at the first times finds it. A time that is not told at all is another matter. The samples show it:

# %% mystnb={"image": {"alt": "Two rows of eight digits. Above clean ones; below digits too, but strewn with gray and white pixels."}, "figure": {"caption": "Drawn in 25 steps from the same noise: with the right time, and with a network that is always told 500.", "name": "fig-wrong-time"}}
every_40th = schedule.strided(range(40, 1001, 40))
narrow = every_40th.posterior_var
rows = {}
for name, change in (("right time", tellings["t"]), ("always 500", tellings["always 500"])):
    _ = torch.manual_seed(2)
    teller = Ddpm(told(change).denoiser, every_40th, (1, 28, 28), narrow, narrow[2])
    *_, drawn = ancestral_sample(teller, 8)
    rows[name] = data.to_unit(drawn)
plots.image_rows(rows)

# %% [markdown]
# The second row of {numref}`fig-wrong-time` was drawn by the same weights, from the same noise; only the time was missing. The shapes are there, as they are decided at times near 500. The fine noise of the last steps is not taken away: the network believes that it sees $x_{500}$, in which such noise is too faint to matter.

# %% [markdown]
# (sec-ddpm-exercises)=
# ## Exercises
#
# Replace the three dots by your answer and run the cell.

# %% tags=["nbval-check-output"]
from companion.page.exercises import ddpm_training as exercises

# %% [markdown]
# ```{exercise-start} How far a stack sees
# :label: ex-how-far
# ```
# A stack has `n` convolutions of $3 \times 3$ at full size, then one of $3 \times 3$ with stride 2, then `m` of $3 \times 3$ at half the size. How wide is the square of input pixels that can change one number at the end?


# %% tags=["nbval-check-output"]
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
# Each convolution before and including the one of stride 2 adds a pixel on each side. Behind it neighbors are two pixels apart, so each adds two.


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


# %% tags=["nbval-check-output"]
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
# ```{exercise-start} A loss for the picture
# :label: ex-loss-of-picture
# ```
# Somebody trains a network of $\hat{x}$ with the plain squared error $\lVert x - \hat{x} \rVert^2$, all times alike. As a loss of the noise, what is its weight at a time with $\bar\alpha_t$ equal to `kept`?


# %% tags=["nbval-check-output"]
def weight_of_noise(kept):
    return ...


exercises.check_weight_of_noise(weight_of_noise)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-loss-of-picture
# :label: ex-loss-of-picture-solution
# :class: dropdown
# ```
# By {eq}`eq-five-errors` the weight is one over the signal-to-noise ratio. It is tiny at small $t$, so such a network cares little about fine detail.


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

# %% tags=["nbval-check-output"]
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
# A model gives a *density* of pictures on $[-1, 1]$ with `D` pixels, and the bound on its logarithm is `elbo`, in nats. Its gray levels are $2 / 255$ apart. How many bits per dimension does the model need, if the density is nearly constant over a level?


# %% tags=["nbval-check-output"]
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
# A network answers $(1 + \delta)\, \varepsilon^*$ at all times. The data are one-dimensional and normal with variance `lam`. `kept` holds $\bar\alpha_1, \dots, \bar\alpha_T$ and `weights` the $\omega_\varepsilon(t)$. How many nats does the bound lose?


# %% tags=["nbval-check-output"]
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
# - A U-Net keeps the detail and sees the whole, by coarser scales, by attention, and by its normalizations. It is told the time in waves, which lie far apart for all pairs of times {eq}`eq-embedding-distance`.
# - Algorithm 1 is a regression on noise of one's own making {eq}`def-simple-loss`. Its least value is not zero; for normal data it is {eq}`eq-simple-optimum`. What the network can change is the excess {eq}`eq-excess-error`.
# - The simple loss drops the weights, the cost of the variances, the likelihood of the gray levels, and the prior's term {eq}`eq-bound-from-errors`. What a network loses in the bound is its weighted excess {eq}`eq-deficit`.
# - An error in $v$ is one in the noise over $\bar\alpha_t$ {eq}`eq-v-loss`. At the end of time, where noise must be copied, that is the better language.
# - Data give yardsticks for every $t$: the best linear estimate {eq}`eq-linear-bound` and the mean picture {eq}`eq-know-nothing`.
# - The average of the weights is better than the weights, for free, once the training is longer than its memory {eq}`eq-ema-sum`.
# - More than nine tenths of a digit's nats are spent in the last tenth of the steps. Known pixels make $\beta_t$ too wide, at a price that no number of steps takes away {eq}`eq-known-data`.
# - Samples follow the data if the end is noise, the variances are right, and the network is exact at all times that have weight {eq}`eq-decoder-limit`.
#
# **What the sources say, and where they need care.** The slides give Algorithm 1 without saying where the weights of their own derivation went. They name residual blocks and self-attention, sinusoidal and random features, addition and adaptive normalization; in our small trial no choice among the last two pairs stood out. "The limiting distribution of the trained decoder is that of the data" is true under three conditions. The share of nine tenths of the rate in the last tenth of the steps was measured on photographs; it depends on the data and on the network.
#
# **To read next.** {cite:t}`ho2020`, with its appendices; {cite:t}`nichol2021` on schedules, learned variances and noisy gradients; {cite:t}`salimans2022` on $v$; {cite:t}`ronneberger2015` and {cite:t}`vaswani2017` for the parts of the network; {cite:t}`bao2022` on the variances.
