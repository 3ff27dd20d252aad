# %% [markdown]
# # Training a VAE
#
# Everything is in place: a bound to maximize {eq}`eq-elbo-terms`, a gradient that finds its way through the sample {eq}`eq-path-gradient`, and toys on which both proved right. Now networks take the place of straight lines, and handwritten digits the place of toys.

# %% tags=["setup", "hide-input"]
# The set-up cell: tools/notebooks.py writes it.

# %%
import math

import torch
from torch import nn
from torch.distributions import Bernoulli

from companion import data
from companion.data import Batches, binarize
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
from companion.zoo.weights import read_card
from companion.zoo.yourself import cost, train_it, use

_ = torch.manual_seed(0)
train, test = data.load("mnist", "train"), data.load("mnist", "test")
vae, card = pretrained("vae-mnist"), read_card("vae-mnist")

# %% tags=["mnist"] mystnb={"image": {"alt": "Three rows of twelve digits in black, gray and white. The second row repeats the first a little smoothed; the third row shows other digits, most of them readable."}, "figure": {"caption": "Test digits, their reconstructions from a latent of 50 dimensions, and samples of the model: decoded draws from the prior.", "name": "fig-vae-opening"}}
digits = binarize(test.images[:12])
with torch.no_grad():
    reconstructed = vae.likelihood(vae.posterior(digits).mean).mean
*_, new = ancestral_sample(vae, 12)
plots.image_rows({"digit": digits, "reconstruction": reconstructed, "sample": new})

# %% [markdown]
# {numref}`fig-vae-opening` shows that it works. It can also go wrong, in ways that no error message reports: a latent that dies, a number that is called a likelihood and is none, an image that looks better than what the model says. This chapter trains, breaks, repairs and measures.

# %% [markdown]
# (sec-vae-ingredients)=
# ## Three ingredients
#
# What turns an autoencoder into a generator? Three things are new, compared with {ref}`chapter 1 <sec-encode-decode>`.
#
# 1. **The decoder gets a random input.** Its latent is drawn from a distribution, so that a new draw makes a new image.
# 2. **The loss looks at that distribution.** It requires not only that $x$ comes back, but also that the latents of the data follow the prior, from which we are going to sample.
# 3. **The randomness is parameterized for gradients.** The encoder returns a mean and a variance, and the sample is a smooth function of both {eq}`def-encoder-draw`.

# %% mystnb={"image": {"alt": "A diagram from left to right: x enters the encoder, which gives mu and sigma; with the noise epsilon they make z; z enters the decoder, which gives p of x given z. Below, two loss terms: the KL term hangs on mu and sigma, the reconstruction term on the decoder's output and x."}, "figure": {"caption": "A variational autoencoder in training. Blue: networks. Orange: the two terms of the loss, where they act.", "name": "fig-vae-diagram"}}
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
# {numref}`fig-vae-diagram` is the machine. In code it is one class with three methods, one for each distribution of {numref}`fig-one-bound`: the posterior, the prior, the likelihood. The networks and the likelihood are its arguments.

# %% tags=["nbval-check-output"]
show(Vae, docstring=False)

# %% [markdown]
# **Which likelihood?** It decides what kind of data the model is about, and what the reconstruction term measures.
#
# | data | distribution of a pixel given $z$ | the decoder returns |
# |---|---|---|
# | black and white | Bernoulli | logits |
# | real numbers | Gaussian with standard deviation $\sigma_{\text{dec}}$, fixed or learned | means |
# | 256 gray levels | the mass of a Gaussian on each level | means |
#
# For the second row {eq}`eq-learned-sigma` of the last chapter says where a learned $\sigma_{\text{dec}}$ will end: at the root mean square residual. With all networks at rest, and the KL free of it, the bound on a batch $x_1, \dots, x_N$ of images with $D$ pixels is largest at
#
# $$
# \sigma_{\text{dec}}^2 = \frac{1}{N D} \sum_{i=1}^N \mathbb{E}_{q_\phi(z \mid x_i)} \lVert x_i - f_\theta(z) \rVert^2 ,
# $$ (eq-decoder-variance)
#
# where $f_\theta(z)$ is the decoder's mean. We train such a model for three epochs. Its learned variance is then on its way from its start to the right side, which is computed with 10 latents per image, and an optimizer of the variance alone should end exactly there. Rejected are the square summed over pixels instead of averaged, and the residual of the posterior's mean, which leaves out the expectation over $q_\phi$.


# %%
def gaussian_run(std, learned):
    _ = torch.manual_seed(0)
    model = mlp_vae(10, (128,), nn.ReLU, observation_model=GaussianLikelihood(std, learned))
    batches = Batches(train.images[:6000], batch_size=100, num_epochs=3)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    _ = list(fit(model, elbo_loss, batches, optimizer))
    return model.double()


gaussian = gaussian_run(0.25, True)
x = train.images[:200].double()
with torch.no_grad():
    q = gaussian.posterior(x)
    decoded = gaussian.decoder(q.sample((10,)).flatten(0, 1)).unflatten(0, (10, 200))
    square = (x - decoded).square().mean()
    of_mean = (x - gaussian.decoder(q.mean)).square().mean()

# %% tags=["nbval-check-output", "mnist"]
trained = (2 * gaussian.observation_model.log_std).exp().item()
print("trained variance between mean square and its start:", bool(square < trained < 0.25**2))
dial = gaussian.observation_model
_ = minimize(lambda: -dial(decoded).log_prob(x).mean(), [dial.log_std])
learned = (2 * dial.log_std).exp().detach()
wrong = {"sum over pixels": square * 784, "decoded from the mean": of_mean}
verify("eq-decoder-variance", learned, square, exact.within(1e-6), rejects=wrong)

# %% [markdown]
# Why one variance for all pixels, and not one each? Some pixels at the border have the same value in every training image. A variance of their own would go to zero and their density to infinity: the likelihood has no maximum. The same happens to one shared variance if the decoder can reproduce the training data exactly {cite:p}`dai2019`. {cite:t}`rybkin2021` study the learned shared variance.

# %% tags=["nbval-check-output", "mnist"]
constant = (train.images.amax(0) == train.images.amin(0)).sum()
print("pixels that never vary in the training images:", constant.item())

# %% [markdown]
# **What you can say now.** A VAE is an autoencoder with a random latent, a KL term and a likelihood. A learned Gaussian variance ends at the mean squared residual.
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
# The second sum is the KL from the prior {eq}`eq-kl-diagonal`, and it is *subtracted*. A theorem of the tutorial prints it with a plus (entry E6). The estimate is unbiased for every $M$. The check, on the trained network, subtracts from it a second estimate of the bound with other samples and no closed form, the average of $\log p_\theta(x, z) - \log q_\phi(z \mid x)$. The difference must have expectation zero.

# %%
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

# %% tags=["nbval-check-output", "mnist"]
for M, estimate in estimates.items():
    difference = estimate - second.view(-1, M).mean(1)
    wrong = {"E6": 2 * kl, "E10": kl - kl_misprint}
    verify("eq-vae-objective", difference, torch.zeros(()).double(), monte_carlo, rejects=wrong)
ratios = [estimates[1].var() / estimates[M].var() / M for M in (4, 16)]
print("variance falls as 1 / M, within a fifth:", all(0.8 < r < 1.25 for r in ratios))

# %% [markdown]
# In training $M = 1$ is usual: with a batch of 100 images, more images are a better use of the time than more samples of each {cite:p}`kingma2014`.
#
# One update on a batch, step by step. Read the printed shapes beside the list.
#
# 1. Take a batch of images, and binarize it anew.
# 2. Encode: a mean and a standard deviation for each image and latent.
# 3. Draw noise, and make the latents from it.
# 4. Decode: a distribution of images for each latent.
# 5. Compute the loss: minus the log-likelihood of the batch, plus the KL.
# 6. Send the gradient back through all of it, and take a step.

# %% tags=["nbval-check-output"]
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

# %% tags=["mnist"] mystnb={"image": {"alt": "Six panels: a black and white digit; fifty means with standard deviations, most near zero with standard deviation one; the sampled latents, scattered; the decoded gray digit; two bars, a tall reconstruction term and a shorter KL term; the gradient on the pixels in red and blue along the edges of the digit."}, "figure": {"caption": "The six steps on the trained model, for one digit. The gradient is that of the log-likelihood in the logits, the digit minus its reconstruction: blue where ink is missing, red where there is too much.", "name": "fig-six-steps"}}
fig, panels = plots.figure(3, rows=2, height=2.2)
with torch.no_grad():
    q, z = vae.posterior(one), vae.posterior(one).sample()
    decoded = vae.likelihood(z).mean
    terms = elbo_terms(vae, one)
_ = panels[0].imshow(one[0, 0], cmap="gray")
_ = panels[1].errorbar(range(50), q.mean[0], q.stddev[0], fmt=".", elinewidth=1)
_ = panels[2].plot(range(50), z[0], ".", color="#d55e00")
_ = panels[3].imshow(decoded[0, 0], cmap="gray")
_ = panels[4].bar(["- log p(x | z)", "KL"], [-terms.log_likelihood.item(), terms.kl.item()])
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
# In {numref}`fig-six-steps` most latents have mean 0 and standard deviation 1: they say nothing about this digit, and cost nothing. `elbo_loss` does steps 2 to 5. With the same noise it gives the same loss and the same gradient, and one step of `fit` moves the weights where a hand-made step moves them.

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
# Gradient descent would use all 60,000 images for one step; *stochastic* gradient descent uses a batch. (One set of notes writes SGD for both, entry E19.) Two things are random then, the batch and the noise, and both only add variance to a gradient that is right on average.
#
# **A training, watched.** The weights of {numref}`fig-vae-opening` come from 1000 epochs over all training digits with Adam, batches of 100, and a learning rate that falls from 0.001 to zero along a cosine; the {doc}`card </book/models>` has the rest. Their training took more than an hour. Here is a short one to watch: 2,000 digits, 60 epochs. Two habits matter. The encoder returns $\log \sigma^2$, which starts near zero with the usual initialization, so that $q_\phi$ starts near the prior and the first losses are finite. And the bound is measured on digits that the training never sees.


# %%
def watched(num_digits, epochs):
    """Train; return after every third epoch bound, reconstruction and KL on train and test."""
    _ = torch.manual_seed(0)
    model, history = mlp_vae(20, (200,), nn.ReLU), []
    batches = Batches(train.images[:num_digits], batch_size=100, num_epochs=epochs)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    sets = [binarize(split.images[:1000]) for split in (train, test)]
    for step in fit(model, elbo_loss, map(binarize, batches), optimizer):
        if step.number % (3 * batches.steps_per_epoch) == 0:
            with torch.no_grad():
                terms = [elbo_terms(model, x) for x in sets]
            history += [[(t.elbo.mean(), t.kl.sum(1).mean()) for t in terms]]
    return torch.tensor(history)


history = watched(2000, 60)

# %% mystnb={"image": {"alt": "Left: the bound against epochs; the line of the training digits rises throughout, that of the test digits falls behind by more than ten nats. Right: the KL of both rises from a few nats towards thirty."}, "figure": {"caption": "A small training set. Left the bound, right the KL term. The gap between the lines on the left is overfitting.", "name": "fig-watched"}}
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
# In {numref}`fig-watched` the lines on the left part after a few epochs, and the distance grows.

# %% tags=["nbval-check-output", "mnist"]
best = history[:, 1, 0].max()
print("the training bound still rises at the end:", bool(history[-1, 0, 0] > history[-4, 0, 0]))
print("it ends more than 10 nats above the test bound:", bool(history[-1, 0, 0] > best + 10))

# %% [markdown]
# A VAE overfits like any model with many weights, here with few digits after few epochs. The remedies are the usual ones, above all more data; both the decoder and the encoder can overfit {cite:p}`cremer2018`.
#
# **What you can say now.** One update is: encode, sample, decode, two loss terms, one gradient. Watch bound, reconstruction and KL on held-out data.
#
# *Sources: A23, A26, B13, B14, D11, D15, D18.*

# %% [markdown]
# (sec-train-vae)=
# ## Train it yourself
#
# The weights of {numref}`fig-vae-opening` come with the book. The next cells train a new one by the same recipe, on your GPU if there is one. At small scale it takes only the first steps, at most 20 seconds on two cores, with the recipe's learning rates compressed into them. At full scale it takes all of them: ask for it with `train_it("vae-mnist", "full")`.

# %%
print(cost("vae-mnist"))

# %%
mine = watch(train_it("vae-mnist"))

# %% tags=["nbval-check-output"]
first, last = torch.tensor(mine.losses).unfold(0, 20, 20)[[0, -1]].mean(1)
print("the loss fell by more than a tenth:", bool(last < 0.9 * first))

# %% [markdown]
# While it runs, a figure shows the loss of each step and eight draws of the model, which the early steps make alike. Whose weights does the rest of the chapter use? One switch decides. With yours from a short training, expect worse images, and checks of claims about trained models that fail: they were written for the whole recipe.

# %% tags=["nbval-check-output"]
MINE = False  # True: from here on the chapter uses your weights
if MINE:
    use("vae-mnist", mine.model)
    vae = pretrained("vae-mnist")
print("weights of vae-mnist:", "yours" if MINE else "the shipped ones")

# %% [markdown]
# (sec-gray-levels)=
# ## A famous number that is no likelihood
#
# A lecture draws a fully connected network with 784 inputs and 20 latents. The best-known code for it, the VAE among the example programs of PyTorch, puts 400 units between them and trains on *gray* digits with the cross-entropy of the pixels, as if a gray level were a probability. Its test loss ends near 105. The companion keeps this loss under its own name, so that it cannot be mistaken for the bound. These weights were trained for ten epochs.

# %% tags=["mnist"]
gray_vae = pretrained("gray-vae-mnist")
with torch.no_grad():
    gray = gray_cross_entropy_loss(gray_vae, test.images)
print(f"gray-level loss {gray.mean():.2f} +- {gray.std() / 100:.2f}")
assert abs(gray.mean() - 105.6) < 0.5 or len(test.images) < 10_000

# %% [markdown]
# Why is it no likelihood? The Bernoulli distribution gives probability to 0 and 1 only. A gray level of 0.3 is neither. The expression $r^x (1 - r)^{1 - x}$ can be *evaluated* at $x = 0.3$, but as a density on $[0, 1]$ it does not integrate to one. For $0 < r < 1$ and $r \ne \frac12$,
#
# $$
# \int_0^1 r^x (1 - r)^{1 - x}\, \mathrm{d}x = \frac{1 - 2 r}{\log (1 - r) - \log r} \le \frac12 ,
# $$ (eq-gray-integral)
#
# and at $r = \frac12$ it is $\frac12$. (Divided by its integral it is a density, called the continuous Bernoulli distribution.)
#
# :::{dropdown} Proof
# The integrand is $(1 - r)\, e^{x \log (r / (1 - r))}$. Its integral is $(1 - r)\, \big( \frac{r}{1 - r} - 1 \big) / \log \frac{r}{1 - r}$. It is convex in $x$, so it lies below its chord from $1 - r$ to $r$, whose integral is $\frac12$. $\square$
# :::
#
# And even a decoder that returns the image itself would not get zero: its loss is the entropy of the gray levels read as coins. The check of the integral rejects one half, the integral of the chord, and the printed floor is that entropy.

# %% tags=["nbval-check-output"]
r = torch.tensor([0.1, 0.3, 0.8], dtype=torch.double)
level = torch.linspace(0, 1, 20_001, dtype=torch.double)[:, None]
integral = torch.trapezoid(r**level * (1 - r) ** (1 - level), level, dim=0)
right = (1 - 2 * r) / ((1 - r).log() - r.log())
wrong = {"the chord": torch.full((3,), 0.5), "a density": torch.ones(3)}
verify("eq-gray-integral", integral, right, exact.within(1e-6), rejects=wrong)

# %% tags=["nbval-check-output", "mnist"]
pixels = test.images.flatten(1)
floor = -(torch.xlogy(pixels, pixels) + torch.xlogy(1 - pixels, 1 - pixels)).sum(1).mean()
print(f"the loss of a perfect copy: {floor:.1f}, of {gray.mean():.1f}")


# %% [markdown]
# A good part of the famous number is that floor. So the loss is no likelihood of gray digits. It is something else: it is linear in $x$, so it is the expectation of minus the bound on a *binarized* digit, for an encoder that saw the gray one:
#
# $$
# \mathbb{E}_{b \mid x} \log p_\theta(b \mid z) = \sum_j \big( x_j \log r_j + (1 - x_j) \log (1 - r_j) \big) ,
# $$ (eq-gray-mean)
#
# where $b_j$ is 1 with probability $x_j$, and $r_j$ is the decoder's probability of a 1. That bound is valid and loose; do not compare 105 with the test likelihoods of the next section.

# %% tags=["nbval-check-output"]
_ = torch.manual_seed(0)
x, r = torch.rand(50).double(), torch.rand(50).double()
log_p = Bernoulli(r).log_prob(torch.bernoulli(x.expand(20_000, 50))).sum(1)
gray_value = (x * r.log() + (1 - x) * (1 - r).log()).sum()
rounded = {"rounded pixels": Bernoulli(r).log_prob(x.round()).sum()}
verify("eq-gray-mean", log_p, gray_value, monte_carlo, rejects=rounded)

# %% [markdown]
# **What you can say now.** A cross-entropy of gray levels trains well and is no likelihood of gray images. Compare likelihoods only for the same kind of data.
#
# *Sources: B12.*

# %% [markdown]
# (sec-test-likelihood)=
# ## A test likelihood, honestly
#
# To get a number that means something, say first what the data are. Here a pixel is 1 with its gray level as probability, drawn anew each time an image is used: *dynamic binarization* {cite:p}`salakhutdinov2008,burda2016`. Then $p_\theta(x)$ is the probability of a black-and-white image, and $- \log p_\theta(x)$ is a number of nats, comparable between all models of such images.
#
# The bound is a pessimistic estimate of it. The {term}`importance-weighted bound` {eq}`def-k-sample-bound` with many samples is much less pessimistic; how much is left depends on the encoder {eq}`eq-k-sample-gap`. With the exact posterior as encoder all weights are equal, and even one sample is exact:
#
# $$
# q_\phi = p_\theta(z \mid x) \quad \Longrightarrow \quad \log \frac{p_\theta(x, z)}{q_\phi(z \mid x)} = \log p_\theta(x) \;\text{ for every sample } z .
# $$ (eq-weights-constant)
#
# The test case is a linear model with orthogonal columns, so that its posterior has independent coordinates and belongs to the encoder's family. Rejected are an untrained encoder, and one whose variances are a tenth too large.

# %% tags=["nbval-check-output"]
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

# %% mystnb={"image": {"alt": "The bound against the number of samples, on a logarithmic axis: it rises steeply at first, more and more slowly after a hundred samples, and has not quite stopped at 5000."}, "figure": {"caption": "The bound with K samples, for fifty test digits.", "name": "fig-k-curve"}}
plots.curves(
    {"K-sample bound": (sizes, [curve[K].mean() for K in sizes])},
    x_label="number of samples K",
    y_label="nats",
    log_x=True,
)

# %% [markdown]
# On nested blocks of the same samples the curve of {numref}`fig-k-curve` cannot fall {eq}`eq-k-sample-order`. How much is left? Two numbers tell: what the last tenfold increase of $K$ brings, and the *effective* number of samples, $(\sum_k w_k)^2 / \sum_k w_k^2$, which is $K$ for equal weights and 1 if one weight carries everything.

# %%
last, whole = curve[5000] - curve[500], curve[5000] - curve[1]
effective = (2 * log_w.logsumexp(0) - (2 * log_w).logsumexp(0)).exp()
print(f"bound {curve[1].mean():.2f}, with 5000 samples {curve[5000].mean():.2f} nats")
print(f"difference {whole.mean():.2f} +- {whole.std() / 50**0.5:.2f}")
print(f"from 500 to 5000 samples {last.mean():.2f} +- {last.std() / 50**0.5:.2f}")
print(f"effective number of samples, median of fifty digits: {effective.median():.0f}")

# %% tags=["nbval-check-output", "mnist"]
print("less than a nat from 500 to 5000 samples:", bool(last.mean() < 1))
print("more than two nats from one to 5000:", bool(whole.mean() > 2))

# %% [markdown]
# Fifty digits are too few for a result: digits differ by tens of nats among each other. The card of the weights holds the measurement on all 10,000 test digits. {cite:t}`burda2016` report 86.76 nats for this network with this protocol and 5,000 samples, after 3,280 epochs.

# %% tags=["nbval-check-output", "mnist"]
print(card.metric)
assert card.metric_value < 90
print(
    f"{card.metric_value:.2f} +- {card.metric_se:.2f} after {card.minutes:.0f} minutes: {card.command}"
)

# %% [markdown]
# The standard error is that over digits. It does not contain the bias: the estimate is a bound, and the effective number of samples says that it is not tight. {ref}`sec-amortization-gap` measures the bias with better samples: about half a nat, more than twice the standard error.
#
# **Training with many samples.** Minus the bound with $K$ samples is a loss too, and a VAE trained with it is called an *importance-weighted autoencoder* {cite:p}`burda2016`. The next weights went on from those above for 24 epochs with $K = 50$, on the same data, with the same networks. For each of the same two hundred digits we estimate $\log p_\theta(x)$ under both models, and compare digit by digit.

# %%
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

# %%
units = [active_units(model, binarize(test.images)) for model in (vae, iwae)]
print(f"active units: {units[1].num_active}, not {units[0].num_active}")
both = units[0].is_active
with torch.no_grad():
    widths = [m.posterior(x).stddev[:, both].mean() for m in (vae, iwae)]
print(f"mean standard deviation over the VAE's active units: {widths[0]:.2f}, {widths[1]:.2f}")

# %% tags=["nbval-check-output", "mnist"]
assert "L_5000" in card.metric and "L_5000" in iwae_card.metric
print("higher estimates, by 5 standard errors:", bool(gain.mean() > 5 * gain.std() / 200**0.5))
print("with a worse bound:", bool(loss.mean() > 0))
print("a wider posterior in the same units:", bool(widths[1] > 1.1 * widths[0]))
print("and more active units:", units[1].num_active > units[0].num_active)

# %% [markdown]
# The estimate of $\log p_\theta(x)$ has risen, and the bound has fallen. With one sample the encoder must avoid every $z$ that explains the image badly, since each costs a whole $\log$; among fifty samples a bad one is merely outvoted. So the approximate posterior becomes wider, and the model uses more of its latents. (The encoder pays for it: for large $K$ its gradient drowns in noise {cite:p}`rainforth2018`.)
#
# Two cautions. The two estimates use different encoders, so their biases differ; {ref}`sec-amortization-gap` repeats the comparison with samples that favor neither. And there is no control here: the second model also had 24 more epochs. {cite:t}`burda2016` compare trainings of equal length in their table 2, and come to the same conclusion.
#
# When you compare such numbers, ask four questions. Which binarization, dynamic or fixed once and for all? How many samples, from which proposal? Was the model chosen by its test result? And how large is the standard error, which is *not* the one of a paired difference?
#
# Papers also report the number of active units, latents that vary with the image at all. {cite:t}`burda2016` find 19 of the 50 for this network. Ours has fewer: it was trained for less than a third of their epochs, and its likelihood is lower too. We do not reproduce that number.

# %%
print(active_units(vae, binarize(test.images)).num_active, "of 50 units are active")

# %% [markdown]
# **What you can say now.** A test likelihood comes with its binarization, number of samples, proposal and standard error. A better model can have a worse bound.
#
# *Sources: E01.*

# %% [markdown]
# (sec-collapse)=
# ## Posterior collapse: see it, and ask whether to treat it
#
# In {term}`posterior collapse` the approximate posterior equals the prior for every $x$, and the decoder ignores $z$. Three causes have to be told apart.
#
# 1. *The optimum.* A decoder that can model the data without $z$ has no use for it {cite:p}`chen2017`. Information in $z$ then gains nothing that the decoder could not have without it. The last chapter met the same effect in {eq}`eq-whole-family`.
# 2. *The path.* Early in training the decoder has not yet learned to use $z$, while the prior is easy to match {cite:p}`bowman2016,sonderby2016`.
# 3. *The scale.* A likelihood with too large a variance drowns the reconstruction {eq}`eq-mean-of-squares` {cite:p}`lucas2019`.
#
# Two treatments are common. *Free bits* {cite:p}`kingma2016` charge nothing for the first few nats of KL. *Warm-up* lets the weight $\beta$ of the KL rise from 0 to 1, so that reconstruction comes first. A count of {term}`active units <active unit>` is the usual symptom; we report the bound and the KL too, because a unit can move and be worth nothing.
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
# Binary sequences of length 16, where each entry repeats the last one with probability 0.8, are such data for a decoder with *linear* autoregressive logits. Their entropy is $\log 2 + 15\, h(0.2)$ nats, with the entropy $h$ of a coin.


# %%
class Sequence:
    """Bernoulli entries: logits from the latent, plus linear terms of earlier entries."""

    def __init__(self, logits, weight):
        self.logits, self.weight = logits, weight

    def log_prob(self, x):
        logits = self.logits + x.flatten(1) @ self.weight.T
        return Bernoulli(logits=logits).log_prob(x.flatten(1)).sum(1)


class Autoregressive(nn.Module):
    """An observation model whose weight on earlier entries is learned; strength 0 switches it off."""

    def __init__(self, dim, strength=1.0):
        super().__init__()
        self.weight, self.strength = nn.Parameter(torch.zeros(dim, dim)), strength

    def forward(self, logits):
        return Sequence(logits, self.strength * self.weight.tril(-1))


# %%
def sequence_vae(dim, hidden, latents, strength=1.0):
    encoder = nn.Sequential(
        nn.Flatten(), nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, 2 * latents)
    )
    decoder = nn.Sequential(nn.Linear(latents, hidden), nn.ReLU(), nn.Linear(hidden, dim))
    return Vae(encoder, decoder, Autoregressive(dim, strength), latents)


def treated(model, batches, free_nats=0.0, warm_up=False, lr=3e-3):
    """Train with one of the treatments."""
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    share, num = 0.0, len(batches)

    def loss(model, x):
        return elbo_loss(model, x, min(1.0, 2 * share) if warm_up else 1.0, free_nats)

    for step in fit(model, loss, (binarize(x) for x in batches), optimizer):
        share = step.number / num
    return model


def bound_and_kl(model, x):
    with torch.no_grad():
        terms = elbo_terms(model, x)
    return terms.elbo.mean().item(), terms.kl.sum(1).mean().item()


# %%
def sequences(num):
    flips = torch.rand(num, 16) < 0.2
    flips[:, 0] = torch.rand(num) < 0.5
    return (flips.cumsum(1) % 2).float()


entropy = math.log(2) - 15 * (0.2 * math.log(0.2) + 0.8 * math.log(0.8))
chains = {"nothing": [], "free bits": []}
for seed in range(3):
    for name, runs in chains.items():
        _ = torch.manual_seed(seed)
        batches = [sequences(200) for _ in range(600)]
        free_nats = 1.0 if name == "free bits" else 0.0
        model = treated(sequence_vae(16, 32, 2), batches, free_nats, lr=0.02)
        runs += [bound_and_kl(model, sequences(20_000))]
print(f"minus the entropy {-entropy:.2f}")
for name, runs in chains.items():
    print(f"{name:10} bound / KL:", ", ".join(f"{x:.2f} / {y:.2f}" for x, y in runs))

# %% tags=["nbval-check-output"]
bounds, kls = torch.tensor(chains["nothing"]).T
best = torch.full((3,), -entropy)
coins = {"independent fair coins": torch.full((3,), -16 * math.log(2))}
verify("eq-strong-decoder", bounds, best, at_most(0.1), rejects=coins)
treated_bounds, treated_kl = torch.tensor(chains["free bits"]).T
every = torch.cat([bounds, treated_bounds])
print("all six runs within 0.1 nats of the optimum:", bool((best[0] - every).max() < 0.1))
print("with free bits the KL is larger:", bool(treated_kl.min() > kls.max()))

# %% [markdown]
# All six runs come close to the optimum, whether the latent carries half a nat or one. The bound neither requires information in this latent nor rewards it. A collapsed latent would lose nothing; free bits make the model send what nobody needs. Treat a collapse only if you need the latent for something else.
#
# **On digits.** The same decoder on digits, shrunk to 14 by 14 pixels so that eight trainings fit on this page: a weak decoder (pixels independent given $z$), and the strong one with each treatment, two runs each, 10,000 training images.


# %%
shrink = nn.AvgPool2d(2)
few, held_out = shrink(train.images[:10_000]), binarize(shrink(test.images[:2000]))


def patient(seed, strength=1.0, **treatment):
    """Bound, KL and active units of one training, on test digits."""
    _ = torch.manual_seed(seed)
    model = sequence_vae(196, 100, 8, strength)
    batches = Batches(few, batch_size=200, num_epochs=16, seed=seed)
    _ = treated(model, batches, **treatment)
    return (*bound_and_kl(model, held_out), active_units(model, held_out).num_active)


settings = {
    "weak": {"strength": 0.0},
    "strong": {},
    "free bits": {"free_nats": 6.0},
    "warm-up": {"warm_up": True},
}
patients = {name: [patient(seed, **s) for seed in range(2)] for name, s in settings.items()}

# %%
for name, runs in patients.items():
    texts = [f"{bound:.1f} / {kl:.1f} / {units}" for bound, kl, units in runs]
    print(f"{name:10} bound / KL / active units of 8:  " + "   ".join(texts))

# %% mystnb={"image": {"alt": "Four groups of dots in a plane of KL and bound. The weak decoder lies lowest, with a KL near 7. The strong decoder lies about a nat higher with a KL near 4; free bits and warm-up lie at the same height, further right."}, "figure": {"caption": "Two runs for each setting. The strong decoder has the better bound and uses its latent less; the treatments change the KL, and hardly the bound.", "name": "fig-collapse"}}
fig, (axes,) = plots.figure(height=3.2)
for (name, runs), marker in zip(patients.items(), "os^D", strict=True):
    bounds, kls, _ = zip(*runs, strict=True)
    _ = axes.plot(kls, bounds, marker, label=name, markersize=8)
_ = axes.set(xlabel="KL (nats)", ylabel="bound on test digits (nats)")
_ = axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4)
fig

# %% [markdown]
# {numref}`fig-collapse` in words:

# %% tags=["nbval-check-output", "mnist"]
runs = {name: torch.tensor(values) for name, values in patients.items()}
bound, kl = ({name: v[:, k] for name, v in runs.items()} for k in (0, 1))
print("the strong decoder has the better bound:", bool(bound["strong"].min() > bound["weak"].max()))
print("and the smaller KL:", bool(kl["strong"].max() < kl["weak"].min()))
for name in ("free bits", "warm-up"):
    more = bool(kl[name].min() > kl["strong"].max())
    change = (bound[name].mean() - bound["strong"].mean()).abs()
    print(f"{name}: more KL {more}, bound changed by less than half a nat {bool(change < 0.5)}")

# %% [markdown]
# Three observations. The strong decoder is the better model *and* uses its latent less: part of what $z$ said is now said by the pixels before. Both treatments keep more information in the latent at about the same bound, here even a slightly better one, so the optimum is nearly flat in this direction, and a treatment chooses a point on it. And the number of active units hardly tells the settings apart. Two runs of a small model are no general result; longer trainings and deeper networks may differ.
#
# Mind what a treatment does. Warm-up changes the *path*: at its end the loss is the bound again. Free bits change the *loss*: what they train is not the bound.
#
# **The scale.** Sometimes the cause is trivial, and so is the cure. A squared error that is averaged over pixels is a decoder with an enormous variance, and drowns the reconstruction {eq}`eq-mean-of-squares`. Learn the variance instead.

# %% tags=["nbval-check-output"]
digits = test.images[:1000].double()
for std, learned in (((784 / 2) ** 0.5, False), (0.25, True)):
    run = gaussian_run(std, learned) if not learned else gaussian
    units = active_units(run, digits).num_active
    name = "learned variance" if learned else "mean of squares, variance D / 2"
    print(f"{name}: {'all' if units == 10 else units} of ten units active")

# %% [markdown]
# **What you can say now.** Collapse can be the optimum, a bad path, or a wrong scale. Report bound and KL before and after a treatment.
#
# *Sources: A27, C10.*

# %% [markdown]
# (sec-rate-distortion)=
# ## The balance
#
# Between an unused latent and an overloaded one lies a whole curve. Weigh the KL with $\beta$ as in a {term}`beta-VAE` {cite:p}`higgins2017`, train for several $\beta$, and note two numbers: the rate, which is the KL, and the distortion, minus the log-likelihood. This plane, with its lines of constant bound, is due to {cite:t}`alemi2018`. If the KL dominates, the decoder paints the blurry average. If the reconstruction dominates, the latents of the data leave the prior, and samples from the prior decode to nothing known.

# %%
betas = [0.1, 0.3, 1.0, 3.0, 10.0, 30.0]
seen = binarize(train.images[:1000])


def beta_run(beta):
    _ = torch.manual_seed(0)
    model = mlp_vae(10, (128,), nn.ReLU)
    batches = Batches(train.images[:6000], batch_size=100, num_epochs=4)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

    def loss(model, x):
        return elbo_loss(model, binarize(x), beta)

    _ = list(fit(model, loss, batches, optimizer))
    return model


beta_models = [beta_run(beta) for beta in betas]
with torch.no_grad():
    terms = [elbo_terms(m, seen) for m in beta_models]
rates = [t.kl.sum(1).mean().item() for t in terms]
distortions = [-t.log_likelihood.mean().item() for t in terms]

# %% mystnb={"image": {"alt": "Distortion against rate: a falling convex curve of six points. From the right, with a small weight, to the left, with a large one, the distortion rises from about 120 to about 200."}, "figure": {"caption": "Six trainings, from a small weight of the KL (right) to a large one (left), measured on training digits. On each straight line the bound is constant.", "name": "fig-rate-distortion"}}
fig, (axes,) = plots.figure()
_ = plots.curves(
    {"trained models": (rates, distortions)},
    x_label="rate (nats)",
    y_label="distortion (nats)",
    axes=axes,
)
_ = axes.plot(rates, distortions, "o", color="#0072b2")
for total in (140, 160, 180, 200):
    _ = axes.plot([0, 45], [total, total - 45], color="#b8b8b8", linewidth=0.8)
fig

# %% [markdown]
# Along each thin line of {numref}`fig-rate-distortion` rate and distortion add up to the same number, minus the bound. Training with weight 1 maximizes the bound, so on the *training* digits, which are the ones in the figure, the sum should be least there, if the trainings have converged. On test digits a larger weight can do better, because it overfits less. Move the slider to see what the two ends look like: the first row holds reconstructions, the second samples.


# %%
def look(number):
    _ = torch.manual_seed(0)
    model = beta_models[number]
    with torch.no_grad():
        again = model.likelihood(model.posterior(seen[:10]).mean).mean
    *_, new = ancestral_sample(model, 10)
    return plots.image_rows({"reconstruction": again, "sample": new})


# %%
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

# %% tags=["nbval-check-output", "mnist"]
ordered = sorted(rates, reverse=True) == rates and sorted(distortions) == distortions
print("a larger weight: less rate, more distortion:", ordered)
totals = [a + b for a, b in zip(rates, distortions, strict=True)]
print("the bound is best at weight:", betas[totals.index(min(totals))])

# %% [markdown]
# **What you can say now.** The weight of the KL moves a model along a curve of rate and distortion. Weight 1 is the bound, and it is best for the data it was trained on.
#
# *Sources: C09.*

# %% [markdown]
# (sec-amortization-gap)=
# ## What the encoder leaves on the table
#
# Two things separate the bound $\mathrm{ELBO}(x; q_\phi)$ from $\log p_\theta(x)$. The encoder's family $\mathcal{Q}$ holds only Gaussians with independent coordinates; the best of them leaves the {term}`approximation gap`. And the encoder is *one* network for all images; it does not find the best member for each. That is the {term}`amortization gap` {cite:p}`cremer2018`.
#
# $$
# \begin{aligned}
# \log p_\theta(x) - \mathrm{ELBO}(x; q_\phi) = {} & \underbrace{\log p_\theta(x) - \max_{q \in \mathcal{Q}} \mathrm{ELBO}(x; q)}_{\text{approximation gap}} \\
# & + \underbrace{\max_{q \in \mathcal{Q}} \mathrm{ELBO}(x; q) - \mathrm{ELBO}(x; q_\phi)}_{\text{amortization gap}}
# \end{aligned}
# $$ (def-two-gaps)
#
# To measure the second, forget the encoder and maximize the bound for each of the fifty digits on its own, starting from the encoder's answer. The result $q^*$ also makes better importance weights. To favor neither, $\log p_\theta(x)$ is estimated with 1,250 samples from each of $q_\phi$ and $q^*$, weighted by $p_\theta(x, z)$ over the *mixture* $\frac12 q_\phi + \frac12 q^*$. This is again a lower bound on average; the larger of two separate estimates would not be.


# %%
class PerImage(nn.Module):
    """An encoder of free parameters: it returns them whatever its input is."""

    def __init__(self, q):
        super().__init__()
        self.code = nn.Parameter(torch.cat([q.mean, q.variance.log()], 1))

    def forward(self, x):
        return self.code


def optimized(model, x):
    """The same decoder with an approximate posterior for each image."""
    free = Vae(PerImage(model.posterior(x)), model.decoder, model.observation_model, 50)
    for lr, steps in ((0.03, 200), (0.003, 200)):
        optimizer = torch.optim.Adam(free.encoder.parameters(), lr=lr)
        _ = list(fit(free, elbo_loss, [x] * steps, optimizer))
    return free


# %%
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


# %%
def show_gap(name, gap):
    print(f"{name} {gap.mean():.2f} +- {gap.std() / len(gap) ** 0.5:.2f} nats")


free = optimized(vae, fifty)
log_p = mixture_log_p(vae, free, fifty)
best = bound_of(free, fifty)
gaps = {"approximation": log_p - best, "amortization": best - bound_of(vae, fifty)}
for name, gap in gaps.items():
    show_gap(f"{name} gap", gap)
show_gap("estimate of log p(x) above that of the encoder alone", log_p - curve[5000])

# %% tags=["nbval-check-output", "mnist"]
gap = gaps["amortization"]
error = gap.std() / 50**0.5
print("the encoder is not the best q, by 5 standard errors:", bool(gap.mean() > 5 * error))
print("the best stays below log p(x) on average:", bool(gaps["approximation"].mean() > 0))
print(
    "the encoder's own samples gave too low a log p(x):", bool((log_p - curve[5000]).mean() > 0.2)
)

# %% [markdown]
# Both gaps are differences on the same digits, so their standard errors are small, though the digits themselves differ by tens of nats. But both are estimates: an optimization that stops early makes the amortization gap too small, and a $\log p_\theta(x)$ from too few samples makes the approximation gap too small. The standard errors know of neither. On test digits the amortization gap also contains what the encoder has overfitted; on fifty *training* digits it should be smaller:

# %%
known = binarize(train.images[:50])
before = bound_of(vae, known)
show_gap("amortization gap, training digits", bound_of(optimized(vae, known), known) - before)

# %% [markdown]
# **The debt of the last comparison.** With such a mixture for each of them, the importance-weighted autoencoder is compared with the VAE on the same fifty digits.

# %%
log_p_iwae = mixture_log_p(iwae, optimized(iwae, fifty), fifty)
show_gap("IWAE above VAE, log p(x)", log_p_iwae - log_p)

# %% tags=["nbval-check-output", "mnist"]
gap = log_p_iwae - log_p
print("a better model, by 3 standard errors:", bool(gap.mean() > 3 * gap.std() / 50**0.5))

# %% [markdown]
# The amortization gap is the larger one here: a better encoder, or a few steps of optimization for each image, would close it. The approximation gap needs a richer family: a full covariance, or a normalizing flow on top of the encoder's Gaussian {cite:p}`rezende2015,kingma2016`.
#
# **What you can say now.** The bound loses to the family and to amortization. An estimate of $\log p$ is only as good as its proposal.
#
# *Sources: A22, A28.*

# %% [markdown]
# (sec-vae-generation)=
# ## Sampling images
#
# To generate we need the decoder alone: draw $z$ from the prior, decode, and, if the model is taken at its word, draw the pixels too. (One set of notes says that the *encoder* generates, entry E16.) Almost every figure in print leaves the last draw out and shows the decoder's mean. The mean is smoother than a sample. How much? Variances add up:
#
# $$
# \operatorname{Var}(x_j) = \operatorname{Var}_{z}\big( \mathbb{E}[x_j \mid z] \big) + \mathbb{E}_{z} \operatorname{Var}(x_j \mid z) .
# $$ (eq-total-variance)
#
# The first term is what the means show, the second what they hide.

# %% mystnb={"image": {"alt": "Two rows of twelve digits. The upper row shows smooth gray means, the lower row samples of the same distributions, with ragged edges and lone white pixels."}, "figure": {"caption": "Twelve latents, decoded. Above the mean of the pixels, below a sample of them: what the model really says.", "name": "fig-mean-and-draw"}}
_ = torch.manual_seed(3)
with torch.no_grad():
    p = vae.likelihood(vae.prior(12).sample())
plots.image_rows({"mean": p.mean, "sample": p.sample()})

# %% [markdown]
# The two rows of {numref}`fig-mean-and-draw` differ only by the last draw. The sum is known another way: a pixel that is 1 with probability $\bar p_j$ has variance $\bar p_j (1 - \bar p_j)$. The check compares the squared deviations of 20,000 sampled images with the two terms from another 20,000 latents; it rejects either term alone.

# %% tags=["nbval-check-output", "mnist"]
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
# Why are VAE images blurred, beyond the missing last draw? Maximum likelihood punishes a model hard for giving a data point too little probability, and mildly for giving probability to what is no data ({ref}`chapter 2 <sec-maximum-likelihood>`). Where the posterior family is too small, different images share a region of latents, and the decoder's best answer there is their average {cite:p}`kingma2019`.
#
# **Encode, decode, and again.** A trick from the lecture notes: a sample that looks a little off can be sent through the encoder and the decoder once or twice, which moves it towards the data. Do it more often, the notes say, and the images turn to mush. We try up to a hundred rounds.


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

# %% mystnb={"image": {"alt": "Six rows of twelve digits after 0, 1, 2, 10, 30 and 100 rounds. The first rows are nearly alike; in the later ones many have become another digit or a blot."}, "figure": {"caption": "Samples after up to a hundred rounds of encoding and decoding.", "name": "fig-mush"}}
plots.image_rows({f"{k} rounds": film[k][:12] for k in (0, 1, 2, 10, 30, 100)})

# %% [markdown]
# By eye the first rows of {numref}`fig-mush` can hardly be told apart, and the last ones are no gray mush: some digits have become another digit, some a firm shape that is no digit. So measure, for all 300 and paired with round 0: the uncertainty of the pixels, $\sum_j p_j (1 - p_j)$; the confidence of a classifier; the distance to the nearest of 10,000 training digits; and the share of images that have a twin, another image at a distance below one.


# %%
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


# %%
print("change against round 0, with its standard error")
print("rounds   uncertainty    confidence       distance        twins")
for k in (1, 2, 10, 100):
    changes = [f(film[k]) - f(film[0]) for f in (uncertainty, confidence, distance)]
    texts = [f"{c.mean():+.3f} +- {c.std() / 300**0.5:.3f}" for c in changes]
    print(f"{k:4}   " + "  ".join(texts) + f"  {100 * twins(film[k]).mean():.0f} percent")

# %% tags=["nbval-check-output", "mnist"]
sharper = {k: (uncertainty(film[k]) - uncertainty(film[0])).mean() for k in (2, 10)}
closer = {k: (distance(film[k]) - distance(film[0])).mean() for k in (2, 10)}
print(
    "after 2 rounds sharper, and closer to training digits:", bool(sharper[2] < 0 and closer[2] < 0)
)
print("after 10 rounds more so:", bool(sharper[10] < sharper[2] and closer[10] < closer[2]))
print("more twins after a hundred:", bool(twins(film[100]).mean() > twins(film[0]).mean() + 0.02))

# %% [markdown]
# On these measures a few rounds help a little, ten help more than two, and the price is diversity: after a hundred rounds more samples have a twin. The notes' "once or twice, not more" is not what our model shows. (The encoder has also never seen gray means in its training, only black and white.) Sample from both distributions instead of taking means, and the samples stay apart:


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

# %% tags=["nbval-check-output", "mnist"]
print("fewer twins with samples:", bool(twins(chain).mean() < twins(film[100]).mean() / 4))

# %% [markdown]
# With the exact posterior, a round of sampling would be a step of Gibbs sampling, which leaves the distribution of the model invariant. The noise keeps the images apart.
#
# **What you can say now.** A decoder's mean is not a sample. Re-encoding by means sharpens images and costs diversity.
#
# *Sources: B15, C11, D19.*

# %% [markdown]
# (sec-vae-exercises)=
# ## Exercises
#
# Replace the three dots by your answer and run the cell.

# %% tags=["nbval-check-output"]
from companion.page.exercises import vae_training as exercises

# %% [markdown]
# ```{exercise-start} The loss of knowing nothing
# :label: ex-collapsed-loss
# ```
# A collapsed Bernoulli model ignores its latent and returns the same distribution for every image. Write its best mean loss in nats as a function of the mean image, a tensor `mean` of pixel means between 0 and 1. Every trained model must beat it.


# %% tags=["nbval-check-output"]
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


# %% tags=["nbval-check-output"]
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
# A ramp that is cut off.


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
# `log_w` has the shape (K, batch). Write the $K$-sample bound for each example, in a way that survives log-weights of $-2000$.


# %% tags=["nbval-check-output"]
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
# $e^{-2000}$ is zero in a computer. `logsumexp` takes the largest weight out first.


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

# %% tags=["nbval-check-output"]
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
# One bit is $\log 2$ nats. An incompressible image would need one bit per pixel.

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


# %% tags=["nbval-check-output"]
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
# The variance over images, latent by latent. A mean that is large but constant carries nothing.


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


# %% tags=["nbval-check-output"]
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
# - A variational autoencoder gives the decoder a random input, a loss on its distribution, and a sample that gradients can pass. Six steps make an update {eq}`eq-vae-objective`.
# - A cross-entropy of gray levels trains well and is no likelihood {eq}`eq-gray-integral`. A test likelihood needs a stated binarization, many samples, a stated proposal, and a standard error.
# - Collapse can be the optimum {eq}`eq-strong-decoder`, a bad path, or a wrong scale. Measure it by bound and KL. Free bits change the loss, warm-up the path, a learned variance the scale.
# - The weight of the KL moves a model along a curve of rate and distortion; weight one is the bound.
# - The encoder is not the best approximate posterior for each image; the difference is the amortization gap {eq}`def-two-gaps`.
# - The decoder's mean is not a sample {eq}`eq-total-variance`. Repeated encoding and decoding sharpens, and costs diversity.
#
# **What the sources say, and where they need care.** The tutorial's training theorem has the KL with a plus sign (E6). The lecture's network with 784 inputs and 20 latents has a Gaussian decoder; the code that made it known uses a loss that is no likelihood of gray digits. The notes say that the encoder generates (E16) and give one name to two methods (E19); their advice to re-encode at most twice is not borne out here. All of the misprints are on the {doc}`errata page </book/errata>`.
#
# **To read next.** {cite:t}`kingma2019`, an introduction by the inventors; {cite:t}`burda2016` on the bound with many samples; {cite:t}`cremer2018` on the two gaps; {cite:t}`alemi2018` on rate and distortion; {cite:t}`bowman2016` and {cite:t}`sonderby2016` on warm-up.
