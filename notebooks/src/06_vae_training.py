# %% [markdown]
# # Training a VAE
#
# The earlier chapters gave us a bound to maximize {eq}`eq-elbo-terms`, a gradient that passes through the sample {eq}`eq-path-gradient`, and toys on which both could be tested. Now neural networks replace the affine maps, and handwritten digits replace the toys.

# %% tags=["setup", "hide-input"]
# The set-up cell: `make sync` writes it.

# %% tags=["unseen"]
import math

import torch
from torch import nn
from torch.distributions import Bernoulli

from companion import data
from companion.data import Batches, binarize
from companion.distributions import DiscretizedNormal
from companion.elbo import elbo_loss, elbo_terms, sample_log_weights
from companion.metrics import active_units, log_likelihood
from companion.page import plots
from companion.page.live import watch
from companion.page.show import show
from companion.page.sliders import Slider
from companion.page.verify import at_most, exact, monte_carlo, verify
from companion.samplers import ancestral_sample
from companion.training import fit, minimize
from companion.vae import (
    GaussianLikelihood,
    Vae,
    gray_cross_entropy_loss,
    linear_vae,
    linear_vae_log_likelihood,
    mlp_vae,
)
from companion.zoo import pretrained
from companion.zoo.weights import load_record, read_card
from companion.zoo.yourself import cost, train_it, use

_ = torch.manual_seed(0)
train, test = data.load("mnist", "train"), data.load("mnist", "test")
vae, card = pretrained("vae-mnist"), read_card("vae-mnist")

# %% tags=["figure", "mnist"] mystnb={"image": {"alt": "Three rows of twelve digits in black, gray and white. The second row repeats the first a little smoothed; the third row shows other digits, most of them readable."}, "figure": {"caption": "Test digits, their reconstructions from a latent of 50 dimensions, and samples of the model: decoded draws from the prior.", "name": "fig-vae-opening"}}
digits = binarize(test.images[:12])
with torch.no_grad():
    reconstructed = vae.likelihood(vae.posterior(digits).mean).mean
*_, new = ancestral_sample(vae, 12)
plots.image_rows({"digit": digits, "reconstruction": reconstructed, "sample": new})

# %% [markdown]
# In {numref}`fig-vae-opening` this has worked. It can also go wrong in ways that no error message reports. The encoder may stop using its latents; a loss may be taken for a likelihood; a figure may show images that are smoother than samples of the model. This chapter builds and trains the model, measures its likelihood, and then takes up these problems one by one.

# %% [markdown]
# (sec-vae-ingredients)=
# ## Three ingredients
#
# What turns an autoencoder into a generative model? Compared with {ref}`chapter 1 <sec-encode-decode>`, three things are new.
#
# 1. **The decoder gets a random input.** Its latent is drawn from a distribution, so that a new sample gives a new image.
# 2. **The loss constrains that distribution.** It requires not only that $x$ is reconstructed, but also that each approximate posterior is close to the prior, from which we are going to sample.
# 3. **The sample is differentiable.** The encoder returns a mean and a variance, and the sample is a smooth function of both {eq}`def-encoder-draw`.

# %% tags=["figure"] mystnb={"image": {"alt": "A diagram from left to right: x enters the encoder, which gives mu and sigma; with the noise epsilon they make z; z enters the decoder, which gives p of x given z. Below, two loss terms: the KL term hangs on mu and sigma, the reconstruction term on the decoder's output and x."}, "figure": {"caption": "A variational autoencoder in training. Blue: networks. Orange: the two terms of the loss, where they act.", "name": "fig-vae-diagram"}}
fig, (axes,) = plots.figure(height=2.5)
_ = axes.set(xlim=(-0.5, 6.5), ylim=(-1.35, 1.35))
_ = axes.set_axis_off()
places = {"$x$": (0, 0), "encoder\n$\\phi$": (1.2, 0), "$\\mu, \\sigma$": (2.4, 0)}
places |= {"$z$": (3.6, 0), "decoder\n$\\theta$": (4.8, 0), "$p_\\theta(x|z)$": (6.1, 0)}
places |= {"noise $\\varepsilon$": (3.6, 1)}
terms = {"KL to the prior": (2.4, -1), "reconstruction $-\\log p_\\theta(x|z)$": (5.2, -1)}
colors = {"encoder\n$\\phi$": "#0072b2", "decoder\n$\\theta$": "#0072b2"}
for name, place in (places | terms).items():
    edge = "#d55e00" if name in terms else colors.get(name, "#777777")
    box = {"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": edge}
    _ = axes.text(*place, name, ha="center", va="center", bbox=box)
row = [place for place in places.values() if place[1] == 0]
edges = [(row[k], row[k + 1]) for k in range(5)] + [((3.6, 1), row[3])]
edges += [(row[2], (2.4, -1)), (row[5], (6.1, -1))]
for start, end in edges:
    shrink = 25 if start[1] == end[1] else 16
    arrow = {"arrowstyle": "-|>", "color": "#333333", "shrinkA": shrink, "shrinkB": shrink}
    _ = axes.annotate("", end, start, arrowprops=arrow)
fig

# %% [markdown]
# In code, {numref}`fig-vae-diagram` is one class with three methods, one for each distribution of {numref}`fig-one-bound`: the posterior, the prior and the likelihood. The two networks and the form of the likelihood are its arguments.

# %% tags=["shown", "nbval-check-output"]
show(Vae, docstring=False)

# %% [markdown]
# **Which likelihood?** The choice depends on the kind of data, and it decides what the reconstruction term measures.
#
# | data | distribution of a pixel given $z$ | the decoder returns |
# |---|---|---|
# | black and white | Bernoulli | logits |
# | real numbers | Gaussian with standard deviation $\sigma_{\text{dec}}$, fixed or learned | means |
# | 256 gray levels | the mass of a Gaussian on each level | means |
#
# Chapter 5 found the best $\sigma_{\text{dec}}$ of the second row, the root mean square residual {eq}`eq-learned-sigma`. The KL does not contain it. So for fixed networks the bound on a batch $x_1, \dots, x_N$ of images with $D$ pixels is largest at
#
# $$
# \sigma_{\text{dec}}^2 = \frac{1}{N D} \sum_{i=1}^N \mathbb{E}_{q_\phi(z \mid x_i)} \lVert x_i - f_\theta(z) \rVert^2 ,
# $$ (eq-decoder-variance)
#
# where $f_\theta(z)$ is the decoder's mean.
#
# **Check.** Such a model is trained for three epochs. After so short a training, its variance should lie between its initial value and the right side, which is computed with 10 latents per image; an optimizer of the variance alone should end at the right side. The check rejects the square summed over pixels instead of averaged, and the residual of the posterior's mean, which leaves out the expectation over $q_\phi$.


# %%
def gaussian_run(std, learned):
    _ = torch.manual_seed(0)
    model = mlp_vae(10, (128,), nn.ReLU, observation_model=GaussianLikelihood(std, learned))
    batches = Batches(train.images[:6000], batch_size=100, num_epochs=3)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, fused=True)
    _ = list(fit(model, elbo_loss, batches, optimizer))
    return model.double()


gaussian = gaussian_run(0.25, True)
x = train.images[:200].double()
with torch.no_grad():
    q = gaussian.posterior(x)
    decoded = gaussian.decoder(q.sample((10,)).flatten(0, 1)).unflatten(0, (10, 200))
    square = (x - decoded).square().mean()
    of_mean = (x - gaussian.decoder(q.mean)).square().mean()

# %% tags=["check", "nbval-check-output", "mnist"]
trained = (2 * gaussian.observation_model.log_std).exp().item()
print("trained variance between mean square and its start:", bool(square < trained < 0.25**2))
noise = gaussian.observation_model
_ = minimize(lambda: -noise(decoded).log_prob(x).mean(), [noise.log_std])
learned = (2 * noise.log_std).exp().detach()
wrong = {"sum over pixels": square * 784, "decoded from the mean": of_mean}
verify("eq-decoder-variance", learned, square, exact.within(1e-6), rejects=wrong)

# %% [markdown]
# Why do all pixels share one variance? Some pixels at the border have the same value in every training image. If each pixel had its own variance, theirs would go to zero and their density to infinity, so the likelihood would have no maximum. The same happens to a shared variance if the decoder can reproduce the training data exactly {cite:p}`dai2019`. {cite:t}`rybkin2021` study the learned shared variance.

# %% tags=["nbval-check-output", "mnist"]
constant = (train.images.amax(0) == train.images.amin(0)).sum()
print("pixels that never vary in the training images:", constant.item())

# %% [markdown]
# The third row avoids this problem, because gray levels are numbers $0, \frac{1}{255}, \dots, 1$ and the probability of a level is at most one. We compare both rows on the trained model with its best variance. At that variance the mean log-density is $- \frac{D}{2} ( \log 2 \pi \sigma_{\text{dec}}^2 + 1 )$. Here it is positive, which a density can be and a probability cannot. The log-mass of the levels is negative, and minus the log-mass is a code length.

# %% tags=["numbers", "mnist"]
with torch.no_grad():
    f_of_z, again = decoded.flatten(0, 1), x.repeat(10, 1, 1, 1)
    density = noise(f_of_z).log_prob(again).mean().item()
    levels = DiscretizedNormal(f_of_z, learned.sqrt(), low=0.0, high=1.0)
    mass = levels.log_prob(again).mean().item()
closed = -784 / 2 * (math.log(2 * math.pi * learned.item()) + 1)
print(f"log-density {density:.1f} nats, in closed form {closed:.1f}; log-mass {mass:.0f} nats")

# %% tags=["held", "nbval-check-output", "mnist"]
print("the log-density has its best value:", math.isclose(density, closed, rel_tol=1e-6))
print("it is positive, and the log-mass negative:", density > 0 > mass)

# %% [markdown]
# **What you can say now.** A VAE is an autoencoder with a random latent, a KL term and a likelihood. The best variance of a Gaussian decoder is the mean squared residual.
#
# *Sources: B08, C03, D17.*

# %% [markdown]
# (sec-six-steps)=
# ## One update in six steps
#
# The loss is minus the bound, averaged over a batch. For the encoder $q_\phi(z \mid x) = \mathcal{N}\big(\mu_\phi(x), \operatorname{diag} \sigma_\phi^2(x)\big)$ with $d$ latents and $M$ samples $z^{(m)} = \mu_\phi(x) + \sigma_\phi(x) \odot \varepsilon^{(m)}$, the bound is estimated by
#
# $$
# \frac1M \sum_{m=1}^M \log p_\theta\big( x \mid z^{(m)} \big) \;-\; \frac12 \sum_{j=1}^d \big( \mu_j^2 + \sigma_j^2 - 1 - \log \sigma_j^2 \big) .
# $$ (eq-vae-objective)
#
# The second sum is the KL from the prior {eq}`eq-kl-diagonal`, and it is *subtracted*. A theorem of the tutorial prints it with a plus (entry E6). The estimate is unbiased for every $M$.
#
# **Check.** The estimate is compared, on the trained network, with a second one that uses other samples and no closed form, the average of $\log p_\theta(x, z) - \log q_\phi(z \mid x)$: the difference of the two must have expectation zero. The check rejects the plus sign (entry E6) and the misprint E10 in the KL.

# %% tags=["serves"]
_ = torch.manual_seed(0)
one = binarize(test.images[:1])
with torch.no_grad():
    q = vae.posterior(one)
    z = q.sample((16_000,))[:, 0]
    log_p = vae.likelihood(z).log_prob(one).double()
    second = sample_log_weights(vae, one, 16_000)[:, 0].double()
    mean, variance = q.mean.double(), q.variance.double()
kl = 0.5 * (mean**2 + variance - 1 - variance.log()).sum()
kl_misprint = 0.5 * (mean**2 + variance**2 - 1 - 2 * variance.log()).sum()
estimates = {M: log_p.view(-1, M).mean(1) - kl for M in (1, 4, 16)}

# %% tags=["check", "nbval-check-output", "mnist"]
for M, estimate in estimates.items():
    difference = estimate - second.view(-1, M).mean(1)
    wrong = {"E6": 2 * kl, "E10": kl - kl_misprint}
    verify("eq-vae-objective", difference, torch.zeros(()).double(), monte_carlo, rejects=wrong)
ratios = [estimates[1].var() / estimates[M].var() / M for M in (4, 16)]
print("variance falls as 1 / M, within a fifth:", all(0.8 < r < 1.25 for r in ratios))

# %% [markdown]
# In training we take $M = 1$: {cite:t}`kingma2014` found one sample of each image enough with batches of 100.
#
# One update on a batch takes six steps. Below they are written out in plain torch up to the gradient, with the shapes.
#
# 1. Take a batch of images, and binarize it anew.
# 2. Encode: a mean and a standard deviation for each image and latent.
# 3. Draw noise, and make the latents from it.
# 4. Decode: a distribution of images for each latent.
# 5. Compute the loss: minus the log-likelihood of the batch, plus the KL.
# 6. Compute the gradient by backpropagation, and take a step.

# %% tags=["numbers", "nbval-check-output"]
_ = torch.manual_seed(0)
model = mlp_vae(latent_dim=20, hidden=(400,), activation=nn.ReLU)
x = binarize(train.images[:64])
_ = torch.manual_seed(1)
code = model.encoder(x)
mu, sigma = code[:, :20], (code[:, 20:] / 2).exp()
z = mu + sigma * torch.randn(64, 20)
p = Bernoulli(logits=model.decoder(z))
reconstruction = p.log_prob(x).flatten(1).sum(1)
kl = 0.5 * (mu**2 + sigma**2 - 1 - 2 * sigma.log()).sum(1)
loss = (kl - reconstruction).mean()
loss.backward()
shapes = {"x": x, "mu": mu, "sigma": sigma, "z": z, "p": p.probs, "terms": kl}
for name, value in shapes.items():
    print(f"{name:6} {tuple(value.shape)}")

# %% tags=["figure", "mnist"] mystnb={"image": {"alt": "Six panels: a black and white digit; fifty means with standard deviations, most near zero with standard deviation one; the sampled latents, scattered; the decoded gray digit; two bars, a tall reconstruction term and a shorter KL term; the gradient on the pixels in red and blue along the edges of the digit."}, "figure": {"caption": "The six steps on the trained model, for one digit. The gradient is that of the log-likelihood in the logits, the digit minus its reconstruction: blue where ink is missing, red where there is too much.", "name": "fig-six-steps"}}
fig, panels = plots.figure(3, rows=2, height=2.2)
with torch.no_grad():
    q, z = vae.posterior(one), vae.posterior(one).sample()
    decoded = vae.likelihood(z).mean
    terms = elbo_terms(vae, one)
_ = panels[0].imshow(one[0, 0], cmap="gray")
_ = panels[1].errorbar(range(50), q.mean[0], q.stddev[0], fmt=".", elinewidth=1, color="#0072b2")
_ = panels[2].plot(range(50), z[0], ".", color="#d55e00")
_ = panels[3].imshow(decoded[0, 0], cmap="gray")
heights = [-terms.log_likelihood.item(), terms.kl.item()]
_ = panels[4].bar(["- log p(x | z)", "KL"], heights, color="#0072b2")
_ = panels[5].imshow((one - decoded)[0, 0], cmap="RdBu", vmin=-1, vmax=1)
titles = (
    "1  x",
    "2  mean and s.d.",
    "3  sampled z",
    "4  p(x | z)",
    "5  loss (nats)",
    "6  gradient",
)
for number, (axes, title) in enumerate(zip(panels, titles, strict=True)):
    _ = axes.set_title(title)
    if number in (0, 3, 5):
        _ = axes.set_axis_off()
fig

# %% [markdown]
# In {numref}`fig-six-steps` most latents have mean 0 and standard deviation 1: they carry no information about this digit, and their KL is zero. In the book's package, `elbo_loss` does steps 2 to 5, and `fit` the rest. With the same noise they give the same loss, gradient and step as the code above.

# %% tags=["nbval-check-output"]
by_hand = [p.grad.clone() for p in model.parameters()]
_ = model.zero_grad()
_ = torch.manual_seed(1)
losses = elbo_loss(model, x)
losses.mean().backward()
print("same loss:", torch.allclose(losses.mean(), loss))
by_companion = [p.grad for p in model.parameters()]
pairs = zip(by_hand, by_companion, strict=True)
print("same gradient:", all(torch.allclose(a, b, atol=1e-6) for a, b in pairs))

before = [p.detach().clone() for p in model.parameters()]
_ = torch.manual_seed(1)
_ = next(fit(model, elbo_loss, [x], torch.optim.SGD(model.parameters(), lr=0.1)))
moved = zip(before, by_hand, model.parameters(), strict=True)
print("same step:", all(torch.allclose(old - 0.1 * g, new, atol=1e-6) for old, g, new in moved))

# %% [markdown]
# Gradient descent would use all 60,000 images for one step; *stochastic* gradient descent uses a batch. (One set of notes writes SGD for both, entry E19.) Its gradient is random for two reasons, the batch and the noise $\varepsilon$. Both add variance but no bias.
#
# **Watching a training.** The weights of {numref}`fig-vae-opening` come from 1000 epochs over all training digits with Adam, batches of 100, and a learning rate that falls from 0.001 to zero along a cosine; the {doc}`card </book/models>` has the rest. That training took more than an hour. Here we watch a short one, 60 epochs over 1,000 digits. It follows two practices. First, the encoder returns $\log \sigma^2$, which starts near zero with the usual initialization, so that $q_\phi$ starts near the prior and the first losses are finite. Second, the bound is also measured on digits that are not used in training.


# %%
def watched(num_digits, epochs):
    """Train; return after every third epoch bound, reconstruction and KL on train and test."""
    _ = torch.manual_seed(0)
    model, history = mlp_vae(20, (200,), nn.ReLU), []
    batches = Batches(train.images[:num_digits], batch_size=100, num_epochs=epochs)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, fused=True)
    sets = [binarize(split.images[:1000]) for split in (train, test)]
    for step in fit(model, elbo_loss, map(binarize, batches), optimizer):
        if step.number % (3 * batches.steps_per_epoch) == 0:
            with torch.no_grad():
                terms = [elbo_terms(model, x) for x in sets]
            history += [[(t.elbo.mean(), t.kl.sum(1).mean()) for t in terms]]
    return torch.tensor(history)


history = watched(1000, 60)

# %% tags=["figure"] mystnb={"image": {"alt": "Left: the bound against epochs; the line of the training digits rises throughout, that of the test digits falls behind by more than ten nats. Right: the KL of both rises from a few nats to more than twenty."}, "figure": {"caption": "A small training set. Left the bound, right the KL term. The gap between the lines on the left is overfitting.", "name": "fig-watched"}}
fig, (left, right) = plots.figure(2, height=2.9)
epochs = torch.arange(3, 61, 3)
names = ("training digits", "test digits")
_ = plots.curves(
    {name: (epochs, history[:, k, 0]) for k, name in enumerate(names)},
    x_label="epoch",
    y_label="bound (nats)",
    axes=left,
)
plots.curves(
    {name: (epochs, history[:, k, 1]) for k, name in enumerate(names)},
    x_label="epoch",
    y_label="KL (nats)",
    axes=right,
)

# %% [markdown]
# In the left panel of {numref}`fig-watched`, one training, the two bounds separate after a few epochs, and their distance grows.

# %% tags=["held", "nbval-check-output", "mnist"]
best = history[:, 1, 0].max()
print("the training bound still rises at the end:", bool(history[-1, 0, 0] > history[-4, 0, 0]))
print("it ends more than 10 nats above the test bound:", bool(history[-1, 0, 0] > best + 10))

# %% [markdown]
# So this VAE overfits its 1,000 digits. Both the decoder and the encoder can overfit {cite:p}`cremer2018`.
#
# **What you can say now.** One update encodes, samples, decodes, adds two loss terms, and takes a gradient step. The bound and the KL should be watched on held-out data.
#
# *Sources: A23, A26, B13, B14, D11, D15, D18.*

# %% [markdown]
# (sec-train-vae)=
# ## Train it yourself
#
# The weights of {numref}`fig-vae-opening` come with the book. Here you can train new ones by the same recipe, on your GPU if there is one. At small scale it takes only the first steps, at most 20 seconds on two cores, with the recipe's learning rates compressed into them. At full scale it takes all of them: ask for it with `train_it("vae-mnist", "full")`.

# %%
print(cost("vae-mnist"))

# %%
mine = watch(train_it("vae-mnist"))

# %% tags=["held", "nbval-check-output"]
first, last = torch.tensor(mine.losses).unfold(0, 20, 20)[[0, -1]].mean(1)
print("the loss fell by more than a tenth:", bool(last < 0.9 * first))

# %% [markdown]
# While it runs, a figure shows the loss of each step and eight samples of the model, which look alike in the early steps. If you set `MINE` to `True`, the rest of the chapter uses your weights instead of the shipped ones. With weights from a short training, expect worse images, and failures of checks that make claims about the fully trained model.

# %% tags=["nbval-check-output"]
MINE = False  # True: from here on the chapter uses your weights
if MINE:
    use("vae-mnist", mine.model)
    vae = pretrained("vae-mnist")
print("weights of vae-mnist:", "yours" if MINE else "the shipped ones")

# %% [markdown]
# (sec-gray-levels)=
# ## A loss that is not a likelihood
#
# Before we measure likelihoods, a warning: a loss that looks like minus a bound need not be one. PyTorch's [own example of a VAE](https://github.com/pytorch/examples/tree/main/vae), fully connected, with 784 inputs, 400 hidden units and 20 latents, trains on *gray* digits with the cross-entropy of the pixels, as if a gray level were a probability. Here the loss is called `gray_cross_entropy_loss`, and we measure it on weights that were trained for ten epochs.

# %% tags=["mnist"]
gray_vae = pretrained("gray-vae-mnist")
with torch.no_grad():
    gray = gray_cross_entropy_loss(gray_vae, test.images)
print(f"gray-level loss {gray.mean():.2f} +- {gray.std() / 100:.2f}")
assert abs(gray.mean() - 105.6) < 0.5 or len(test.images) < 10_000

# %% [markdown]
# Why is this not a likelihood? The Bernoulli distribution gives probability to 0 and 1 only, not to a gray level of 0.3. The expression $r^x (1 - r)^{1 - x}$ can be *evaluated* at $x = 0.3$, but as a density on $[0, 1]$ it does not integrate to one. For $0 < r < 1$ and $r \ne \frac12$,
#
# $$
# \int_0^1 r^x (1 - r)^{1 - x}\, \mathrm{d}x = \frac{1 - 2 r}{\log (1 - r) - \log r} \le \frac12 ,
# $$ (eq-gray-integral)
#
# and at $r = \frac12$ it is $\frac12$. (Divided by its integral it becomes a density, the continuous Bernoulli distribution.)
#
# :::{dropdown} Proof
# The integrand is $(1 - r)\, e^{x \log (r / (1 - r))}$. Its integral is $(1 - r)\, \big( \frac{r}{1 - r} - 1 \big) / \log \frac{r}{1 - r}$. It is convex in $x$, so it lies below its chord from $1 - r$ to $r$, whose integral is $\frac12$. $\square$
# :::
#
# **Check.** The integral is computed numerically. The check rejects one half, the integral of the chord, and 1, the integral of a density.

# %% tags=["check", "nbval-check-output"]
r = torch.tensor([0.1, 0.3, 0.8], dtype=torch.double)
level = torch.linspace(0, 1, 20_001, dtype=torch.double)[:, None]
integral = torch.trapezoid(r**level * (1 - r) ** (1 - level), level, dim=0)
right = (1 - 2 * r) / ((1 - r).log() - r.log())
wrong = {"the chord": torch.full((3,), 0.5), "a density": torch.ones(3)}
verify("eq-gray-integral", integral, right, exact.within(1e-6), rejects=wrong)

# %% [markdown]
# The loss also has a floor above zero. Even a decoder that returns the image itself has a loss, the entropy of coins whose probabilities are the gray levels:

# %% tags=["nbval-check-output", "mnist"]
pixels = test.images.flatten(1)
floor = -(torch.xlogy(pixels, pixels) + torch.xlogy(1 - pixels, 1 - pixels)).sum(1).mean()
print(f"the loss of a perfect copy: {floor:.1f}, of {gray.mean():.1f}")


# %% [markdown]
# So of this model's loss a large part is the floor. What does the loss measure? It is linear in $x$, and so it is the expectation of minus the bound on a *binarized* digit $b$, for an encoder that has seen the gray one:
#
# $$
# \mathbb{E}_{b \mid x} \log p_\theta(b \mid z) = \sum_j \big( x_j \log r_j + (1 - x_j) \log (1 - r_j) \big) ,
# $$ (eq-gray-mean)
#
# where $b_j$ is 1 with probability $x_j$, and $r_j$ is the decoder's probability of a 1. This bound is valid but loose, since the encoder does not see the $b$ that it should explain. So the number above cannot be compared with the test likelihoods of the next section.

# %% tags=["check", "nbval-check-output"]
_ = torch.manual_seed(0)
x, r = torch.rand(50).double(), torch.rand(50).double()
log_p = Bernoulli(r).log_prob(torch.bernoulli(x.expand(20_000, 50))).sum(1)
gray_value = (x * r.log() + (1 - x) * (1 - r).log()).sum()
rounded = {"rounded pixels": Bernoulli(r).log_prob(x.round()).sum()}
verify("eq-gray-mean", log_p, gray_value, monte_carlo, rejects=rounded)

# %% [markdown]
# **What you can say now.** A network can be trained with a cross-entropy of gray levels, but the loss is not a likelihood of gray images. Likelihoods can be compared only for the same kind of data.
#
# *Sources: B12.*

# %% [markdown]
# (sec-test-likelihood)=
# ## Measuring a test likelihood
#
# A likelihood needs a statement of what the data are. Here a pixel is 1 with its gray level as probability, drawn anew each time an image is used: *dynamic binarization* {cite:p}`salakhutdinov2008,burda2016`. Then $p_\theta(x)$ is the probability of a black-and-white image, and $- \log p_\theta(x)$ in nats can be compared between all models of such images.
#
# We cannot compute $\log p_\theta(x)$, but we can bound it. The {term}`importance-weighted bound` {eq}`def-k-sample-bound` with many samples is tighter than the ELBO; the remaining gap depends on the encoder {eq}`eq-k-sample-gap`. With the exact posterior as encoder all weights are equal, and even one sample is exact:
#
# $$
# q_\phi = p_\theta(z \mid x) \quad \Longrightarrow \quad \log \frac{p_\theta(x, z)}{q_\phi(z \mid x)} = \log p_\theta(x) \;\text{ for every sample } z .
# $$ (eq-weights-constant)
#
# **Check.** The model is a linear VAE whose $W$ has orthogonal columns, so that its posterior belongs to the encoder's family {eq}`eq-rotation-gap`. The check rejects an untrained encoder, and one whose variances are a tenth too large.

# %% tags=["check", "nbval-check-output"]
torch.set_default_dtype(torch.double)
toy, x = linear_vae(3, 2), torch.randn(5, 3)
with torch.no_grad():
    W, s2 = toy.decoder.weight, 1.0
    W[:, 1] -= W[:, 0] * (W[:, 0] @ W[:, 1]) / W[:, 0].square().sum()  # orthogonal columns
    other = sample_log_weights(toy, x, 4)
    M = (W.T @ W).diagonal() + s2
    _ = toy.encoder.mean.weight.copy_(W.T / M[:, None])
    _ = toy.encoder.mean.bias.copy_(-W.T @ toy.decoder.bias / M)
    _ = toy.encoder.log_var.copy_((s2 / M).log())
    weights = sample_log_weights(toy, x, 4)
    _ = toy.encoder.log_var.add_(math.log(1.1))
    wide = sample_log_weights(toy, x, 4)
    evidence = linear_vae_log_likelihood(toy, x).expand(4, 5)
wrong = {"an untrained encoder": other, "variances a tenth too large": wide}
verify("eq-weights-constant", weights, evidence, rejects=wrong)
torch.set_default_dtype(torch.float)

# %% [markdown]
# For the digits the encoder is not the posterior, so the number of samples matters. We take 5,000 samples for each of fifty test digits, and form the bound with $K$ of them.

# %%
_ = torch.manual_seed(0)
fifty = binarize(test.images[:50])
with torch.no_grad():
    parts = [sample_log_weights(vae, fifty, 500) for _ in range(10)]
log_w = torch.cat(parts).double()
sizes = [1, 5, 20, 100, 500, 1000, 5000]
curve = {K: (log_w.view(-1, K, 50).logsumexp(1) - math.log(K)).mean(0) for K in sizes}

# %% tags=["figure"] mystnb={"image": {"alt": "The bound against the number of samples, on a logarithmic axis: it rises steeply at first, more and more slowly after a hundred samples, and has not quite stopped at 5000."}, "figure": {"caption": "The bound with K samples, averaged over fifty test digits. It rises steeply up to about twenty samples, and at 5,000 it has not quite stopped.", "name": "fig-k-curve"}}
plots.curves(
    {"K-sample bound": (sizes, [curve[K].mean() for K in sizes])},
    x_label="number of samples K",
    y_label="nats",
    log_x=True,
)

# %% [markdown]
# The curve of {numref}`fig-k-curve` is computed from nested blocks of the same samples, so it cannot fall {eq}`eq-k-sample-order`. How far is it from $\log p_\theta(x)$? We look at two numbers: the gain from the last tenfold increase of $K$, and the *effective* number of samples, $(\sum_k w_k)^2 / \sum_k w_k^2$, which is $K$ if all weights are equal and 1 if one weight dominates.

# %% tags=["numbers"]
last, whole = curve[5000] - curve[500], curve[5000] - curve[1]
effective = (2 * log_w.logsumexp(0) - (2 * log_w).logsumexp(0)).exp()
print(f"bound {curve[1].mean():.2f}, with 5000 samples {curve[5000].mean():.2f} nats")
print(f"difference {whole.mean():.2f} +- {whole.std() / 50**0.5:.2f}")
print(f"from 500 to 5000 samples {last.mean():.2f} +- {last.std() / 50**0.5:.2f}")
print(f"effective number of samples, median of fifty digits: {effective.median():.0f}")

# %% tags=["held", "nbval-check-output", "mnist"]
print("less than a nat from 500 to 5000 samples:", bool(last.mean() < 1))
print("more than two nats from one to 5000:", bool(whole.mean() > 2))

# %% [markdown]
# An effective number so far below 5,000 means that a small part of the samples of such a digit has most of the weight. {numref}`fig-few-weights` orders the samples of each digit by their weights and adds these up.

# %% tags=["figure"] mystnb={"image": {"alt": "Share of the total weight against the number of samples on a logarithmic axis. The line of the median digit rises from about a tenth at one sample to more than nine tenths at a thousand; a wide band around it shows that digits differ. A dashed line for equal weights stays near zero for the first few hundred samples."}, "figure": {"caption": "How much of the total weight the largest weights have: the median digit, and the band of eight digits in ten. If the encoder were the posterior, all weights would be equal, and the line would be the dashed one.", "name": "fig-few-weights"}}
heaviest = log_w.softmax(0).sort(0, descending=True).values.cumsum(0)
low, median, high = torch.quantile(heaviest, torch.tensor([0.1, 0.5, 0.9]).double(), 1)
counts = torch.arange(1, 5001)
plots.curves(
    {"samples of the encoder": (counts, median), "equal weights": (counts, counts / 5000)},
    x_label="number of samples, the heaviest first",
    y_label="share of the total weight",
    log_x=True,
    bands={"samples of the encoder": (low, high)},
)

# %% [markdown]
# Fifty digits are too few for a precise result, because digits differ by tens of nats. The card of the weights holds the measurement on all 10,000 test digits. For comparison, {cite:t}`burda2016` report 86.76 nats for this network with this protocol and 5,000 samples, after 3,280 epochs.

# %% tags=["numbers", "nbval-check-output", "mnist"]
print(card.metric)
assert card.metric_value < 90
print(
    f"{card.metric_value:.2f} +- {card.metric_se:.2f} after {card.minutes:.0f} minutes: {card.command}"
)

# %% [markdown]
# The standard error is over digits, and does not include the bias: the estimate is a lower bound on average, and a small effective number of samples says that it is not tight. {ref}`sec-amortization-gap` measures the bias of this network with better samples: about half a nat on fifty digits, more than twice the standard error above.
#
# **Training with many samples.** Minus the bound with $K$ samples can also serve as the loss. A VAE trained with it is called an *importance-weighted autoencoder* (IWAE) {cite:p}`burda2016`. We take one whose training started from the weights above and went on for 24 epochs with $K = 50$, on the same data, with the same networks. We estimate $\log p_\theta(x)$ under both models for the same two hundred digits, and compare digit by digit.

# %% tags=["numbers"]
iwae, iwae_card = pretrained("iwae-mnist"), read_card("iwae-mnist")
_ = torch.manual_seed(0)
x = binarize(test.images[:200])
gain = log_likelihood(iwae, x, 500) - log_likelihood(vae, x, 500)
with torch.no_grad():
    bounds = [elbo_terms(model, x).elbo for model in (vae, iwae)]
loss = bounds[0] - bounds[1]
print(f"log p(x): {gain.mean():+.2f} +- {gain.std() / 200**0.5:.2f} nats")
print(f"bound:    {-loss.mean():+.2f} +- {loss.std() / 200**0.5:.2f} nats")
print(f"10,000 digits, L_5000: {iwae_card.metric_value:.2f}, not {card.metric_value:.2f}")

# %% tags=["numbers"]
units = [active_units(model, binarize(test.images)) for model in (vae, iwae)]
print(f"active units: {units[1].num_active}, not {units[0].num_active}")
both = units[0].is_active
with torch.no_grad():
    widths = [m.posterior(x).stddev[:, both].mean() for m in (vae, iwae)]
print(f"mean standard deviation over the VAE's active units: {widths[0]:.2f}, {widths[1]:.2f}")

# %% tags=["held", "nbval-check-output", "mnist"]
assert "L_5000" in card.metric and "L_5000" in iwae_card.metric
print("higher estimates, by 5 standard errors:", bool(gain.mean() > 5 * gain.std() / 200**0.5))
print("with a worse bound:", bool(loss.mean() > 0))
print("a wider posterior in the same units:", bool(widths[1] > 1.1 * widths[0]))
print("and more active units:", units[1].num_active > units[0].num_active)

# %% [markdown]
# In this pair of models the estimate of $\log p_\theta(x)$ has risen, while the bound has fallen. How can that be? With one sample the loss averages the logarithms of the weights, and a $z$ that explains the image badly counts in full. With fifty samples the loss takes the logarithm of their average, to which a bad sample contributes almost nothing. So a posterior that is too wide lowers this bound less {eq}`eq-k-sample-order`. The posterior of our second model is wider than that of the first, and more of its latents are active; {cite:t}`burda2016` found more active units, too. A drawback is a noisier gradient of the encoder: for large $K$ its signal-to-noise ratio goes to zero {cite:p}`rainforth2018`.
#
# Two questions remain. The two estimates use different encoders, so their biases differ; {ref}`sec-amortization-gap` repeats the comparison with optimized proposals. And the second model had 24 more epochs. As a control, another training started from the same weights and ran for as many epochs with $K = 1$. The bound with 500 samples was recorded for each of the 10,000 test digits, so the three models can be compared digit by digit.

# %% tags=["numbers", "nbval-check-output", "mnist"]
minus_log_p = {
    name: load_record(f"{name}-mnist-values")[0]["values"].double()
    for name in ("vae", "iwae1", "iwae")
}
gains = {name: minus_log_p["vae"] - minus_log_p[name] for name in ("iwae1", "iwae")}
for K, each in zip((1, 50), gains.values(), strict=True):
    print(f"24 more epochs, K = {K:2}: {each.mean():+.2f} +- {each.std() / 100:.2f} nats")

# %% tags=["held", "nbval-check-output"]
by_epochs, by_both = (each.mean() for each in gains.values())
print("the epochs alone gain nothing:", bool(by_epochs <= 0))
print("with 50 samples, ten standard errors:", bool(by_both > gains["iwae"].std() / 10))

# %% [markdown]
# So in this one training more epochs alone gain nothing. How much of the gain is the logarithm's, and how much comes from gradients with less noise, one training of each does not tell: in table 1 of {cite:t}`burda2016` fifty samples take the plain bound from 86.76 to 86.35 nats, and the importance-weighted one to 84.78. Ours stays behind that last figure.
#
# When you compare such numbers, ask four questions. Is the binarization dynamic or fixed? How many samples were used, from which proposal? Was the model chosen by its test result? And how large is the standard error, which differs from that of a paired difference?
#
# Papers also report the number of {term}`active units <active unit>`, the latents whose posterior mean varies with the image. {cite:t}`burda2016` find 19 of the 50 for this network. Ours, trained for less than a third of their epochs, has fewer, and its likelihood is lower too. So we do not reproduce that number.

# %%
print(active_units(vae, binarize(test.images)).num_active, "of 50 units are active")

# %% [markdown]
# **What you can say now.** A test likelihood comes with its binarization, number of samples, proposal and standard error. A model with a higher likelihood can have a worse bound.
#
# *Sources: E01.*

# %% [markdown]
# (sec-collapse)=
# ## Posterior collapse, and when it needs a remedy
#
# In {term}`posterior collapse` the approximate posterior equals the prior for every $x$, and the decoder ignores $z$. It can have three different causes.
#
# 1. *The optimum.* A decoder that can model the data without $z$ gains nothing from information in $z$ {cite:p}`chen2017`, as in {eq}`eq-whole-family` of the last chapter.
# 2. *The path of the training.* At first the decoder has not yet learned to use $z$, and it is easier for the encoder to match the prior {cite:p}`bowman2016,sonderby2016`.
# 3. *The scale.* If the likelihood has too large a variance, the reconstruction term is too weak {eq}`eq-mean-of-squares` {cite:p}`lucas2019`.
#
# Two remedies are common. With *free bits* {cite:p}`kingma2016`, the first few nats of KL do not count in the loss. With *warm-up*, the weight $\beta$ of the KL rises from 0 to 1, so that the decoder learns to reconstruct first. Collapse is often measured by the number of active units. We report the bound and the KL too, because a unit can be active with hardly any information in it.
#
# **Collapse as an optimum.** Let the decoder be autoregressive: each pixel is Bernoulli given $z$ *and the pixels before it*. If some $\theta$ makes this decoder equal to the data distribution without any $z$, then
#
# $$
# \mathbb{E}_{x}\, \mathrm{ELBO}(x) \;\le\; - H(x) , \quad \text{with equality for that } \theta \text{ and } q_\phi(z \mid x) = p(z) .
# $$ (eq-strong-decoder)
#
# :::{dropdown} Proof
# $\mathbb{E}_x\, \mathrm{ELBO} \le \mathbb{E}_x \log p_\theta(x) = - H(x) - D_{\mathrm{KL}}(p_{\text{data}} \,\Vert\, p_\theta) \le - H(x)$. With $p_\theta(x \mid z) = p_{\text{data}}(x)$ and $q_\phi = p(z)$ the bound is $\log p_{\text{data}}(x)$ for every $x$. $\square$
# :::
#
# For an experiment we need data that a simple autoregressive decoder models exactly. Take binary sequences of length 16 in which each entry repeats the last one with probability 0.8: here *linear* autoregressive logits suffice. The entropy of the sequences is $\log 2 + 15\, h(0.2)$ nats, where $h(p)$ is the entropy of a coin with probability $p$. A result on collapse needs several trainings, since they can end differently. So we train five networks side by side, each with its own initial weights, data and noise. The next cells define their layers, the autoregressive decoder, and the training with a remedy.


# %%
class Linears(nn.Module):
    """Five linear layers, one for each network; each is applied to its fifth of the batch."""

    def __init__(self, num_in, num_out):
        super().__init__()
        layers = [nn.Linear(num_in, num_out) for _ in range(5)]
        self.weight = nn.Parameter(torch.stack([layer.weight.detach().T for layer in layers]))
        self.bias = nn.Parameter(torch.stack([layer.bias.detach()[None] for layer in layers]))

    def forward(self, x):
        return torch.baddbmm(self.bias, x.unflatten(0, (5, -1)), self.weight).flatten(0, 1)


class Sequence:
    """Bernoulli entries: logits from the latent, plus linear terms of earlier entries."""

    def __init__(self, logits, weight):
        self.logits, self.weight = logits, weight

    def log_prob(self, x):
        x = x.flatten(1)
        earlier = (x.unflatten(0, (5, -1)) @ self.weight).flatten(0, 1)
        return Bernoulli(logits=self.logits + earlier).log_prob(x).sum(1)


class Autoregressive(nn.Module):
    """An observation model whose weight on earlier entries is learned; strength 0 switches it off."""

    def __init__(self, dim, strength=1.0):
        super().__init__()
        self.weight, self.strength = nn.Parameter(torch.zeros(5, dim, dim)), strength

    def forward(self, logits):
        return Sequence(logits, self.strength * self.weight.triu(1))


# %%
def sequence_vae(dim, hidden, latents, strength=1.0):
    encoder = nn.Sequential(
        nn.Flatten(), Linears(dim, hidden), nn.ReLU(), Linears(hidden, 2 * latents)
    )
    decoder = nn.Sequential(Linears(latents, hidden), nn.ReLU(), Linears(hidden, dim))
    return Vae(encoder, decoder, Autoregressive(dim, strength), latents)


def of_each(values):
    """Mean over the examples of each of the five networks."""
    return values.unflatten(0, (5, -1)).mean(1)


def train_with(model, batch, held_out, steps, free_nats=0.0, warm_up=False, lr=0.02):
    """Train with free bits, with warm-up, or with neither; bounds and KLs at twelve times."""
    optimizer = torch.optim.Adam(model.parameters(), lr=lr, fused=True)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [steps // 2, 3 * steps // 4], 0.2)
    history, share = [], 0.0  # of the training that is done

    def loss(model, x):
        terms = elbo_terms(model, x)
        kl = terms.kl.sum(1).unflatten(0, (5, -1))
        low = kl.mean(1, keepdim=True) < free_nats  # the KL of this network has no gradient
        kl = torch.where(low, free_nats, kl).flatten()
        return (min(1.0, 4 * share) if warm_up else 1.0) * kl - terms.log_likelihood

    for step in fit(model, loss, (batch() for _ in range(steps)), optimizer):
        schedule.step()
        share = step.number / steps
        if step.number % (steps // 12) == 0:
            with torch.no_grad():
                terms = elbo_terms(model, held_out)
            history += [torch.stack([of_each(terms.elbo), of_each(terms.kl.sum(1))])]
    return torch.stack(history)


# %%
def sequences(num):
    flips = torch.rand(num, 16) < 0.2
    flips[:, 0] = torch.rand(num) < 0.5
    return (flips.cumsum(1) % 2).float()


entropy = math.log(2) - 15 * (0.2 * math.log(0.2) + 0.8 * math.log(0.8))
chains = {}
for name, free_nats in (("no remedy", 0.0), ("free bits", 1.0)):
    _ = torch.manual_seed(0)
    model, held_out = sequence_vae(16, 32, 2), sequences(5 * 20_000)
    chains[name] = train_with(model, lambda: sequences(5 * 200), held_out, 600, free_nats)[-1]
print(f"minus the entropy {-entropy:.2f}")
for name, ends in chains.items():
    print(f"{name:10} bound / KL:", ", ".join(f"{x:.2f} / {y:.2f}" for x, y in ends.T))

# %% tags=["check", "nbval-check-output"]
bounds, kls = chains["no remedy"]
best = torch.full((5,), -entropy)
coins = {"independent fair coins": torch.full((5,), -16 * math.log(2))}
verify("eq-strong-decoder", bounds, best, at_most(0.1), rejects=coins)
free_bounds, free_kls = chains["free bits"]
every = torch.cat([bounds, free_bounds])
print("all ten runs within 0.1 nats of the optimum:", bool((best[0] - every).max() < 0.1))
print("with free bits the KL is larger:", bool(free_kls.min() > kls.max()))

# %% [markdown]
# All ten networks come close to the optimum. Without a remedy their latents carry less than a nat, with free bits more than one. The bound does not reward information in these latents {eq}`eq-strong-decoder`, and a collapsed latent would lose nothing. So here free bits only make the model store information that its decoder does not need. On such data a remedy is worthwhile only if the latent is needed for something else.
#
# **Collapse on the path.** For digits we do not know the optimum. Then a collapsed latent can be the best that the model can do, or the training has lost it. Which of the two it is, the bounds tell: if another training of the same model ends with a better bound, the latent was lost. We reduce the digits to 9 by 9 pixels, so that a training takes seconds, and give the autoregressive decoder a large learning rate, 0.02, without a remedy, with three free nats, and with a warm-up over the first quarter of the steps. The fourth training has no remedy, but a quarter of the learning rate. (All rates are divided by five after half of the steps, and once more after three quarters.)


# %%
shrink = nn.AvgPool2d(3)
small = shrink(train.images)
_ = torch.manual_seed(0)
held_out = binarize(shrink(test.images[:2000])).repeat(5, 1, 1, 1)


def digit_runs(**remedy):
    """Bounds and KLs of five trainings, on test digits, and their numbers of active units."""
    _ = torch.manual_seed(0)
    model = sequence_vae(81, 50, 4)
    history = train_with(model, digit_batch, held_out, 1800, **remedy)
    means = model.posterior(held_out).mean.unflatten(0, (5, -1))
    return history, (means.var(1) > 0.01).sum(1)


def digit_batch():
    return binarize(small[torch.randint(len(small), (5 * 100,))])


settings = {
    "no remedy": {},
    "free bits": {"free_nats": 3.0},
    "warm-up": {"warm_up": True},
    "a quarter of the rate": {"lr": 0.005},
}
on_digits = {name: digit_runs(**setting) for name, setting in settings.items()}

# %%
for name, (history, units) in on_digits.items():
    texts = [f"{bound:.2f} / {kl:.2f}" for bound, kl in history[-1].T]
    print(f"{name:21} bound / KL: {'  '.join(texts)}  active units {units.tolist()}")

# %% tags=["figure"] mystnb={"image": {"alt": "Above: the bound on test digits against training steps for four settings. Without a remedy it ends lowest. Below: the KL. Free bits and warm-up end near three nats, a quarter of the rate near one, no remedy near zero with a band up to about 0.7."}, "figure": {"caption": "Mean and range of five networks for each setting, 1800 steps. At the large rate three of five networks lose all latents without a remedy; with a quarter of the rate none does.", "name": "fig-collapse"}}
fig, panels = plots.figure(rows=2, height=2.5)
steps = torch.arange(150, 1801, 150)
for axes, k, label in zip(
    panels, (0, 1), ("bound on test digits (nats)", "KL (nats)"), strict=True
):
    five = {name: history[:, k] for name, (history, _) in on_digits.items()}
    _ = plots.curves(
        {name: (steps, values.mean(1)) for name, values in five.items()},
        bands={name: (values.amin(1), values.amax(1)) for name, values in five.items()},
        x_label="training step",
        y_label=label,
        axes=axes,
    )
_ = panels[1].get_legend().remove()
fig

# %% [markdown]
# In {numref}`fig-collapse` latents are lost early without a remedy, and do not come back: where the decoder ignores $z$, the gradient of the encoder is that of the KL alone, and keeps it at the prior. We compare the ends:

# %% tags=["nbval-check-output", "mnist"]
bound, kl = ({n: history[-1, k] for n, (history, _) in on_digits.items()} for k in (0, 1))
print("no remedy: a network has lost all its latents:", bool(kl["no remedy"].min() < 0.05))
for name in ("free bits", "warm-up", "a quarter of the rate"):
    more = bool(kl[name].mean() > 0.3 + kl["no remedy"].mean())
    better = bool(bound[name].mean() > bound["no remedy"].mean())
    print(f"{name}: more KL {more}, and a better bound {better}")

# %% [markdown]
# Is it the remedies, the steps or the rate? We trained with four times the steps, at three learning rates, three networks each ({ref}`experiment <exp-collapse>`). More steps do not bring the latents back: at the large rate the KL is 0.33 ± 0.33 nats. With a quarter of the rate it is 2.22 ± 0.07 nats without any remedy, and the bound, −20.37 ± 0.03, is that of warm-up at either rate, −20.36 ± 0.01 and −20.35 ± 0.03. A model without a latent reaches −20.69 ± 0.01, so the latents are worth having. What kills them here is the learning rate, and a remedy protects from it; at a rate that suits the model, none is needed.
#
# The two remedies differ in kind. Warm-up changes the *path* of the training: at its end the loss is minus the bound again. Free bits change the *loss*, which is then no longer minus the bound.
#
# **A wrong scale.** The third cause can be computed. A squared error averaged over pixels implies a decoder with a very large variance {eq}`eq-mean-of-squares`. We compare it with a learned variance, in one training of each.

# %% tags=["numbers", "nbval-check-output"]
digits = test.images[:1000].double()
for std, learned in (((784 / 2) ** 0.5, False), (0.25, True)):
    run = gaussian_run(std, learned) if not learned else gaussian
    units = active_units(run, digits).num_active
    name = "learned variance" if learned else "mean of squares, variance D / 2"
    print(f"{name}: {'all' if units == 10 else units} of ten units active")

# %% [markdown]
# **What you can say now.** Collapse can come from the optimum, the path of the training, or a wrong scale. Before a remedy, try a smaller learning rate; judge both by bound and KL together.
#
# *Sources: A27, C10.*

# %% [markdown]
# (sec-rate-distortion)=
# ## Rate and distortion
#
# The bound fixes one balance of reconstruction and KL. What do other balances give? Weight the KL with $\beta$ as in a {term}`beta-VAE` {cite:p}`higgins2017`, train for several $\beta$, and measure two numbers: the rate, which is the KL, and the distortion, which is the expectation of $- \log p_\theta(x \mid z)$. The plane of these two, with its lines of constant bound, is due to {cite:t}`alemi2018`.

# %%
betas = [0.1, 0.3, 1.0, 3.0, 10.0, 30.0]
seen = binarize(train.images[:1000])


def beta_run(beta, seed):
    _ = torch.manual_seed(seed)
    model = mlp_vae(10, (128,), nn.ReLU)
    batches = Batches(train.images[:6000], batch_size=100, num_epochs=4, seed=seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, fused=True)

    def loss(model, x):
        return elbo_loss(model, binarize(x), beta)

    _ = list(fit(model, loss, batches, optimizer))
    return model


beta_models = [[beta_run(beta, seed) for beta in betas] for seed in range(2)]


# %%
def balance(models, x):
    """Rates and distortions of the models, in nats."""
    with torch.no_grad():
        terms = [elbo_terms(model, x) for model in models]
    return torch.tensor([[t.kl.sum(1).mean(), -t.log_likelihood.mean()] for t in terms]).T


balances = [balance(models, seen) for models in beta_models]

# %% tags=["figure"] mystnb={"image": {"alt": "Distortion against rate: two falling convex curves of six points each, which nearly coincide. From the right, with a small weight, to the left, with a large one, the distortion rises from about 120 to about 200."}, "figure": {"caption": "Six weights of the KL, from small (right) to large (left), each trained with two seeds and measured on training digits. On each straight line the bound is constant.", "name": "fig-rate-distortion"}}
fig, (axes,) = plots.figure()
_ = plots.curves(
    {f"seed {seed}": tuple(pair) for seed, pair in enumerate(balances)},
    x_label="rate (nats)",
    y_label="distortion (nats)",
    axes=axes,
)
for pair, marker in zip(balances, "os", strict=True):
    _ = axes.plot(*pair, marker, color="#333333", markersize=4)
for total in (140, 160, 180, 200):
    _ = axes.plot([0, 45], [total, total - 45], color="#b8b8b8", linewidth=0.8)
fig

# %% [markdown]
# Along each thin line of {numref}`fig-rate-distortion` rate and distortion add up to the same number, minus the bound. Training with weight 1 maximizes the bound on the *training* digits. So on these digits, which the figure shows, the sum should be least at weight 1, provided that the trainings have converged. On test digits this need not hold. The slider shows reconstructions (first row) and samples (second row) for each weight.


# %% tags=["serves"]
def look(number):
    _ = torch.manual_seed(0)
    model = beta_models[0][number]
    with torch.no_grad():
        again = model.likelihood(model.posterior(seen[:10]).mean).mean
    *_, new = ancestral_sample(model, 10)
    return plots.image_rows({"reconstruction": again, "sample": new})


# %% tags=["figure"]
looks = [
    "clear reconstructions, samples full of gray smoke",
    "clear reconstructions, samples with some smoke",
    "clear reconstructions, samples most of which can be read",
    "blurred reconstructions and samples, all clean",
    "every image a blur, with hints of digits",
    "every image the same gray average",
]
Slider(
    range(6),
    look,
    description="weight of the KL",
    label=lambda number: f"{betas[number]:g}",
    alt=lambda number: f"Weight {betas[number]:g}: {looks[number]}",
    start=2,
)

# %% tags=["numbers"]
unseen = binarize(test.images[:1000])
print("minus the bound for the weights", betas)
for seed, (models, pair) in enumerate(zip(beta_models, balances, strict=True)):
    for name, sums in (("training", pair.sum(0)), ("test", balance(models, unseen).sum(0))):
        print(f"seed {seed}, {name:8} digits", [round(s, 1) for s in sums.tolist()])

# %% tags=["held", "nbval-check-output", "mnist"]
for seed, (rate, distortion) in enumerate(balances):
    ordered = bool((rate.diff() < 0).all() and (distortion.diff() > 0).all())
    print(f"seed {seed}, a larger weight has less rate and more distortion:", ordered)
    best = betas[(rate + distortion).argmin()]
    print(f"seed {seed}, the bound on training digits is best at weight 1:", best == 1)

# %% [markdown]
# Four epochs on 6,000 digits are short. The order does not depend on that: with learning rates over a factor of sixteen, with four times the steps, and with all digits, three seeds each, a larger weight has less rate and more distortion, and weight 1 the best bound, on training and on test digits ({ref}`experiment <exp-rate-distortion>`). With 960 steps the rate falls from 39.1 ± 0.2 nats at weight 0.1 to 16.2 ± 0.1 at weight 1 and 0.015 ± 0.003 at weight 30. There the decoder returns nearly the same image for every latent: the variance of the decoded images, summed over pixels, is 0.3 ± 0.0 then, instead of 23.7 ± 0.4. With a small weight the latents of the data are not distributed like the prior: their energy distance from it is 1.25 ± 0.05 at weight 0.1, 0.12 ± 0.00 at weight 1. But the best bound does not mean the best samples. Two classifiers that also know "no digit" ({ref}`chapter 10 <sec-ddpm-samples>` explains them) do not recognize, in excess over real digits, 89.5 ± 0.4 % of the samples of weight 0.1, 79.8 ± 1.2 % of weight 1 and 67.7 ± 1.6 % of weight 3.
#
# **What you can say now.** The weight of the KL moves a model along a curve of rate and distortion. Weight 1 trains the bound itself, and in all our trainings it gave the best bound. Of these short trainings the samples that were recognized most often came from a larger weight.
#
# *Sources: C09.*

# %% [markdown]
# (sec-amortization-gap)=
# ## The two gaps of the encoder
#
# Why is the bound $\mathrm{ELBO}(x; q_\phi)$ of a trained VAE below $\log p_\theta(x)$? There are two reasons. The encoder's family $\mathcal{Q}$ contains only Gaussians with independent coordinates; the distance that remains with the best of them is the {term}`approximation gap`. And the encoder is *one* network for all images, which does not find the best member of $\mathcal{Q}$ for each; the loss from this is the {term}`amortization gap` {cite:p}`cremer2018`.
#
# $$
# \begin{aligned}
# \log p_\theta(x) - \mathrm{ELBO}(x; q_\phi) = {} & \underbrace{\log p_\theta(x) - \max_{q \in \mathcal{Q}} \mathrm{ELBO}(x; q)}_{\text{approximation gap}} \\
# & + \underbrace{\max_{q \in \mathcal{Q}} \mathrm{ELBO}(x; q) - \mathrm{ELBO}(x; q_\phi)}_{\text{amortization gap}}
# \end{aligned}
# $$ (def-two-gaps)
#
# To measure the amortization gap, we maximize the bound for each of the fifty digits separately over the mean and variance of a Gaussian $q^*$, starting from the encoder's output. The optimized $q^*$ is also a better proposal. We estimate $\log p_\theta(x)$ with 1,250 samples from each of $q_\phi$ and $q^*$, weighted by $p_\theta(x, z)$ over the *mixture* $\frac12 q_\phi + \frac12 q^*$. This estimate is again a lower bound on average, which the larger of two separate estimates would not be.


# %%
class PerImage(nn.Module):
    """An encoder of free parameters: it returns them whatever its input is."""

    def __init__(self, q):
        super().__init__()
        self.code = nn.Parameter(torch.cat([q.mean, q.variance.log()], 1))

    def forward(self, x):
        return self.code


def optimized(model, x, steps=200):
    """The same decoder with an approximate posterior for each image."""
    free = Vae(PerImage(model.posterior(x)), model.decoder, model.observation_model, 50)
    for lr in (0.03, 0.003):
        optimizer = torch.optim.Adam(free.encoder.parameters(), lr=lr, fused=True)
        _ = list(fit(free, elbo_loss, [x] * steps, optimizer))
    return free


# %% tags=["serves"]
def bound_of(model, x):
    """The bound, averaged over 300 samples for each image."""
    with torch.no_grad():
        return torch.stack([elbo_terms(model, x).elbo for _ in range(300)]).mean(0)


def mixture_log_p(model, free, x, rounds=5, num=250):
    """log p(x) by importance sampling from the mixture of both approximate posteriors."""
    parts = []
    with torch.no_grad():
        qs = model.posterior(x), free.posterior(x)
        for _ in range(rounds):
            z = torch.cat([q.sample((num,)) for q in qs])
            log_q = torch.logaddexp(*(q.log_prob(z) for q in qs)) - math.log(2)
            log_p = model.prior(1).log_prob(z)
            likelihood = model.likelihood(z.flatten(0, 1))
            log_p = log_p + likelihood.log_prob(x.repeat(2 * num, 1, 1, 1)).unflatten(
                0, log_q.shape
            )
            parts += [log_p - log_q]
    return torch.cat(parts).double().logsumexp(0) - math.log(2 * num * rounds)


# %% tags=["numbers"]
def show_gap(name, gap):
    print(f"{name} {gap.mean():.2f} +- {gap.std() / len(gap) ** 0.5:.2f} nats")


_ = torch.manual_seed(0)
free = optimized(vae, fifty)
log_p = mixture_log_p(vae, free, fifty)
best = bound_of(free, fifty)
gaps = {"approximation": log_p - best, "amortization": best - bound_of(vae, fifty)}
for name, gap in gaps.items():
    show_gap(f"{name} gap", gap)
show_gap("estimate of log p(x) above that of the encoder alone", log_p - curve[5000])
more = bound_of(optimized(vae, fifty, 400), fifty) - best
show_gap("gain from twice as many steps", more)

# %% tags=["held", "nbval-check-output", "mnist"]
gap = gaps["amortization"]
raised = (gap > 0).double().mean()
print("the bound rises for more than nine digits in ten:", bool(raised > 0.9))
print("by more than a nat on average:", bool(gap.mean() > 1))
print("twice the steps raise it by less than a tenth of this:", bool(more.mean() < gap.mean() / 10))
print("the best stays below log p(x) on average:", bool(gaps["approximation"].mean() > 0))
print(
    "the encoder's own samples gave too low a log p(x):", bool((log_p - curve[5000]).mean() > 0.2)
)

# %% [markdown]
# Both gaps are differences on the same digits, so their standard errors are small, although the digits themselves differ by tens of nats. The standard errors do not include two biases. An optimization that stops early makes the amortization gap too small, but twice as many steps hardly raise the bound. And too few samples for $\log p_\theta(x)$ make the approximation gap too small. On test digits the amortization gap can also contain overfitting of the encoder; then it is smaller on *training* digits. Below are fifty of them.
#
# Three times 300 digits of each decide it: this network has gaps of 2.54 ± 0.08 nats on test digits and 1.81 ± 0.03 on training digits, after two epochs the same architecture has 2.26 ± 0.08 and 2.17 ± 0.06 ({ref}`experiment <exp-amortization>`). So the encoder overfits, and a quarter of its gap on test digits is that.

# %% tags=["numbers"]
known = binarize(train.images[:50])
before = bound_of(vae, known)
show_gap("amortization gap, training digits", bound_of(optimized(vae, known), known) - before)

# %% [markdown]
# **IWAE and VAE once more.** Mixtures of proposals also give a fairer comparison of the importance-weighted autoencoder with the VAE, since each model now has an optimized proposal. We use the same fifty digits.

# %% tags=["numbers"]
log_p_iwae = mixture_log_p(iwae, optimized(iwae, fifty), fifty)
show_gap("IWAE above VAE, log p(x)", log_p_iwae - log_p)

# %% tags=["held", "nbval-check-output", "mnist"]
gap = log_p_iwae - log_p
print("a better model, by 3 standard errors:", bool(gap.mean() > 3 * gap.std() / 50**0.5))

# %% [markdown]
# In this model the amortization gap is the larger of the two gaps. The optimization for each image removes it. The approximation gap can be reduced by a richer family, such as a full covariance, or a normalizing flow on top of the encoder's Gaussian {cite:p}`rezende2015,kingma2016`.
#
# **What you can say now.** The gap of the bound has two parts, one due to the family of $q$ and one due to amortization. An estimate of $\log p_\theta(x)$ is only as good as its proposal.
#
# *Sources: A22, A28.*

# %% [markdown]
# (sec-vae-generation)=
# ## Sampling images
#
# To generate images we need only the prior and the decoder: draw $z$ from the prior, decode it, and draw the pixels from the resulting distribution. (One set of notes says that the *encoder* generates, entry E16.) Figures such as {numref}`fig-vae-opening` leave out the last draw and show the decoder's mean, which is smoother than a sample. By how much? The law of total variance splits the variance of pixel $j$:
#
# $$
# \operatorname{Var}(x_j) = \operatorname{Var}_{z}\big( \mathbb{E}[x_j \mid z] \big) + \mathbb{E}_{z} \operatorname{Var}(x_j \mid z) .
# $$ (eq-total-variance)
#
# The decoder's means have only the first term. The second is missing.

# %% tags=["figure"] mystnb={"image": {"alt": "Two rows of twelve digits. The upper row shows smooth gray means, the lower row samples of the same distributions, with ragged edges and lone white pixels."}, "figure": {"caption": "Twelve latents, decoded. Above, the mean of the pixels; below, a sample of them, which is what the model generates.", "name": "fig-mean-and-draw"}}
_ = torch.manual_seed(3)
with torch.no_grad():
    p = vae.likelihood(vae.prior(12).sample())
plots.image_rows({"mean": p.mean, "sample": p.sample()})

# %% [markdown]
# The two rows of {numref}`fig-mean-and-draw` differ only by the last draw. For binary pixels the sum of the two terms has a second expression: a pixel that is 1 with probability $\bar p_j$ has variance $\bar p_j (1 - \bar p_j)$.
#
# **Check.** The squared deviations of 20,000 sampled images are compared with the two terms, computed from another 20,000 latents. The check rejects either term alone.

# %% tags=["check", "nbval-check-output", "mnist"]
_ = torch.manual_seed(0)
with torch.no_grad():
    x = vae.likelihood(vae.prior(20_000).sample()).sample().flatten(1).double()
    means = vae.likelihood(vae.prior(20_000).sample()).mean.flatten(1).double()
shown, hidden = means.var(0).sum(), (means * (1 - means)).sum(1).mean()
squares = (x - x.mean(0)).square().sum(1)
wrong = {"means alone": shown, "hidden alone": hidden}
verify("eq-total-variance", squares, shown + hidden, monte_carlo, rejects=wrong)
average = means.mean(0)
known = (average * (1 - average)).sum()
print("the two add up to that of coins:", torch.allclose(shown + hidden, known, rtol=1e-3))

# %%
print(f"the means hide {100 * hidden / (shown + hidden):.0f} percent of the variance")

# %% [markdown]
# {cite:t}`kingma2019` name two more reasons why images of a VAE can look blurred, which we do not test. Maximum likelihood penalizes a model heavily for giving a data point too little probability, and only mildly for giving probability to images that are not data ({ref}`chapter 2 <sec-maximum-likelihood>`). And if the posterior family is too small, different images share a region of latents, where the decoder's best output is their average.
#
# **Repeated encoding and decoding.** Does it improve a sample to encode and decode it again? The advice is to do it once or twice, since with more rounds the images deteriorate. We try up to a hundred rounds.


# %%
def rounds_of(z, num):
    """Means of the decoder after 0, 1, ..., num rounds of encoding and decoding."""
    with torch.no_grad():
        film = [vae.likelihood(z).mean]
        for _ in range(num):
            film.append(vae.likelihood(vae.posterior(film[-1]).mean).mean)
    return film


_ = torch.manual_seed(3)
film = rounds_of(vae.prior(300).sample(), 100)

# %% tags=["figure"] mystnb={"image": {"alt": "Six rows of twelve digits after 0, 1, 2, 10, 30 and 100 rounds. The first rows are nearly alike; in the later ones many have become another digit or a blot."}, "figure": {"caption": "Samples after up to a hundred rounds of encoding and decoding. The first rows are nearly alike. Further down, digits turn into other digits, and one into a blot.", "name": "fig-mush"}}
plots.image_rows({f"{k} rounds": film[k][:12] for k in (0, 1, 2, 10, 30, 100)})

# %% [markdown]
# The first rows of {numref}`fig-mush` can hardly be distinguished by eye. In the last rows some digits have become another digit, and some a sharp shape that is no digit. So we measure four quantities on 300 samples and compare them with round 0: the uncertainty of the pixels, $\sum_j p_j (1 - p_j)$; the confidence of a classifier; the distance to the nearest of 10,000 training digits; and the share of images that have a *twin*, another of the 300 images at a distance below one.


# %% tags=["serves"]
classifier, nearest = pretrained("classifier-mnist"), train.images[:10_000].flatten(1)


def uncertainty(images):
    return (images * (1 - images)).flatten(1).sum(1)


def confidence(images):
    with torch.no_grad():
        return classifier(images).softmax(1).amax(1)


def distance(images):
    return torch.cdist(images.flatten(1), nearest).amin(1)


def twins(images):
    distances = torch.cdist(images.flatten(1), images.flatten(1))
    return (distances.fill_diagonal_(math.inf).min(1).values < 1).float()


# %% tags=["numbers"]
print("change against round 0, with its standard error")
print("rounds   uncertainty    confidence       distance        twins")
for k in (1, 2, 10, 100):
    changes = [f(film[k]) - f(film[0]) for f in (uncertainty, confidence, distance)]
    texts = [f"{c.mean():+.3f} +- {c.std() / 300**0.5:.3f}" for c in changes]
    print(f"{k:4}   " + "  ".join(texts) + f"  {100 * twins(film[k]).mean():.0f} percent")

# %% tags=["held", "nbval-check-output", "mnist"]
sharper = {k: (uncertainty(film[k]) - uncertainty(film[0])).mean() for k in (2, 10)}
closer = {k: (distance(film[k]) - distance(film[0])).mean() for k in (2, 10)}
print(
    "after 2 rounds sharper, and closer to training digits:", bool(sharper[2] < 0 and closer[2] < 0)
)
print("after 10 rounds more so:", bool(sharper[10] < sharper[2] and closer[10] < closer[2]))
print("more twins after a hundred:", bool(twins(film[100]).mean() > twins(film[0]).mean() + 0.02))

# %% [markdown]
# By these measures the images get sharper and closer to training digits, after ten rounds more so than after two. Neither says whether they get *better*: a blot can be sharp, and a plain digit is close to many. So we asked the two classifiers of {ref}`sec-rate-distortion`.
#
# A few rounds help, and ten help more than two ({ref}`experiment <exp-rounds>`). The classifiers do not recognize, in excess over real digits, 26.7 ± 0.2 % of 1,000 samples at first, 13.6 ± 0.5 % after two rounds, 8.9 ± 0.6 % after ten and 9.1 ± 0.3 % after a hundred. The Fréchet distance from the training digits, which also sees what is missing, is 95 ± 2, 62 ± 3, 45 ± 2 and 46 ± 4. It is not the sharpness: for the first images, made as sharp as after ten rounds, the share is 26.8 ± 0.2 %. Two other networks of similar likelihood behave in the same way; after short trainings the two measures disagree about more than two rounds. What the rounds do not keep is the image: after ten, 30 ± 1 % show another digit than at first; after a hundred it is 48 ± 1 %, and 26 ± 2 % have a twin.
#
# In these rounds the encoder, trained on black-and-white images, gets gray means. If we sample from both distributions instead of taking means, the images stay different:


# %%
def sampled_rounds_of(z, num):
    """Means of the decoder after `num` rounds of sampling an image and a latent."""
    with torch.no_grad():
        for _ in range(num):
            z = vae.posterior(vae.likelihood(z).sample()).sample()
        return vae.likelihood(z).mean


_ = torch.manual_seed(3)
chain = sampled_rounds_of(vae.prior(300).sample(), 100)
print(f"100 rounds of samples: twins {100 * twins(chain).mean():.0f} percent")

# %% tags=["held", "nbval-check-output", "mnist"]
print("fewer twins with samples:", bool(twins(chain).mean() < twins(film[100]).mean() / 4))

# %% [markdown]
# With the exact posterior as encoder, such a round would be a step of Gibbs sampling, which does not change the distribution of the model's samples. With our encoder it does change: after ten rounds of sampling the classifiers do not recognize 15.3 ± 0.4 % ({ref}`experiment <exp-rounds>`). So for the model's own samples our encoder is not the posterior.
#
# **What you can say now.** A decoder's mean is not a sample. A few rounds of encoding and decoding make more of our model's samples recognizable, and change what they show; after a hundred many are alike.
#
# *Sources: B15, C11, D19.*

# %% [markdown]
# (sec-vae-exercises)=
# ## Exercises
#
# Replace the three dots by your answer and run the cell.

# %% tags=["unseen", "nbval-check-output"]
from companion.page.exercises import vae_training as exercises

# %% [markdown]
# ```{exercise-start} The loss of a collapsed model
# :label: ex-collapsed-loss
# ```
# A collapsed Bernoulli model ignores its latent and returns the same distribution for every image. Write its best mean loss in nats as a function of the mean image, a tensor `mean` of pixel means between 0 and 1. Every trained model must beat it.


# %% tags=["answer", "nbval-check-output"]
def collapsed_loss(mean):
    return ...


exercises.check_collapsed_loss(collapsed_loss)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-collapsed-loss
# :label: ex-collapsed-loss-solution
# :class: dropdown
# ```
# The best probability of a pixel is its mean, and the mean loss is the entropy of that coin.


# %% tags=["nbval-check-output"]
def collapsed_loss(mean):
    return -(torch.xlogy(mean, mean) + torch.xlogy(1 - mean, 1 - mean)).sum()


exercises.check_collapsed_loss(collapsed_loss)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} A schedule for the weight
# :label: ex-warm-up
# ```
# Write the warm-up weight as a function of the step, the number of warm-up steps, and the final weight: zero at step 0, linear, constant from the end of the warm-up on.


# %% tags=["answer", "nbval-check-output"]
def weight(step, warm_up_steps, final):
    return ...


exercises.check_weight(weight)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-warm-up
# :label: ex-warm-up-solution
# :class: dropdown
# ```
# The ramp is linear in the step, and `min` stops it at the final weight.


# %% tags=["nbval-check-output"]
def weight(step, warm_up_steps, final):
    return final * min(1.0, step / warm_up_steps)


exercises.check_weight(weight)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} From log-weights to a bound
# :label: ex-k-bound
# ```
# `log_w` has the shape (K, batch). Write the $K$-sample bound for each example so that it is also correct for log-weights of $-2000$.


# %% tags=["answer", "nbval-check-output"]
def k_bound(log_w):
    return ...


exercises.check_k_bound(k_bound)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-k-bound
# :label: ex-k-bound-solution
# :class: dropdown
# ```
# In floating point $e^{-2000}$ is zero. `logsumexp` subtracts the largest log-weight first.


# %% tags=["nbval-check-output"]
def k_bound(log_w):
    return log_w.logsumexp(0) - math.log(len(log_w))


exercises.check_k_bound(k_bound)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Nats and bits
# :label: ex-bits-per-pixel
# ```
# A model of black-and-white digits with 784 pixels needs 86.8 nats for an image. How many bits per pixel is that?

# %% tags=["answer", "nbval-check-output"]
answer = ...
exercises.check_bits(answer)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-bits-per-pixel
# :label: ex-bits-per-pixel-solution
# :class: dropdown
# ```
# One bit is $\log 2$ nats. An image of fair coins would need one bit per pixel.

# %% tags=["nbval-check-output"]
exercises.check_bits(86.8 / 784 / math.log(2))

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Which latents are active
# :label: ex-count-active
# ```
# Count the active units, given the posterior means of many images, a tensor of shape (num, latents), and the threshold.


# %% tags=["answer", "nbval-check-output"]
def count_active(means, threshold):
    return ...


exercises.check_count_active(count_active)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-count-active
# :label: ex-count-active-solution
# :class: dropdown
# ```
# Compute the variance over images, latent by latent. A mean that is large but constant carries no information.


# %% tags=["nbval-check-output"]
def count_active(means, threshold):
    return (means.var(0) > threshold).sum()


exercises.check_count_active(count_active)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} The variance of a sample
# :label: ex-draw-spread
# ```
# An image is sampled from a Bernoulli decoder whose mean image, given $z$, is `mean`. What is the expected squared distance between a sample and the mean, summed over pixels? Write it as a function of `mean`.


# %% tags=["answer", "nbval-check-output"]
def draw_spread(mean):
    return ...


exercises.check_draw_spread(draw_spread)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-draw-spread
# :label: ex-draw-spread-solution
# :class: dropdown
# ```
# The variance of a coin is $p (1 - p)$: the *uncertainty* of the last section.


# %% tags=["nbval-check-output"]
def draw_spread(mean):
    return (mean * (1 - mean)).sum()


exercises.check_draw_spread(draw_spread)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# (sec-vae-summary)=
# ## Summary
#
# - A variational autoencoder adds three things to an autoencoder: a random input of the decoder, a loss on its distribution, and a sample that gradients can pass through. An update has six steps {eq}`eq-vae-objective`.
# - A cross-entropy of gray levels is not a likelihood {eq}`eq-gray-integral`. A test likelihood needs a stated binarization, many samples, a stated proposal, and a standard error.
# - Collapse can come from the optimum {eq}`eq-strong-decoder`, the path of the training, or a wrong scale. On the path a large learning rate is a cause, and warm-up or a smaller rate a remedy; a learned variance mends the scale. Bound and KL together show the effect.
# - The weight of the KL moves a model along a curve of rate and distortion; weight one trains the bound.
# - The encoder is not the best approximate posterior for each image; the difference is the amortization gap {eq}`def-two-gaps`.
# - The decoder's mean is not a sample {eq}`eq-total-variance`. Ten rounds of encoding and decoding by means make more samples of our model recognizable than two; after a hundred many are alike.
#
# **What the sources say, and where they need care.** The tutorial's training theorem has the KL with a plus sign (E6). A lecture has a network with 784 inputs and 20 latents and a Gaussian decoder; PyTorch's example of such a network uses a loss that is not a likelihood of gray digits. The notes say that the encoder generates (E16) and use one name for two methods (E19); see the {doc}`errata page </book/errata>`. Of their advice to re-encode at most twice, the first part holds for our networks; ten rounds are better still.
#
# **To read next.** {cite:t}`kingma2019`, an introduction by the inventors; {cite:t}`burda2016` on the bound with many samples; {cite:t}`cremer2018` on the two gaps; {cite:t}`alemi2018` on rate and distortion; {cite:t}`bowman2016` and {cite:t}`sonderby2016` on warm-up.
