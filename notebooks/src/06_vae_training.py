# %% [markdown]
# # Training a VAE
#
# Everything is in place: a bound to climb {eq}`eq-elbo-terms`, a gradient that finds its way through the draw {eq}`eq-path-gradient`, and toys on which both proved right. Now the real thing: networks in place of straight lines, and handwritten digits.
#
# It will work. It will also go wrong, in ways that no error message reports: a latent that dies, a number that is called a likelihood and is none, a picture that looks better than what the model says. This chapter trains, breaks, repairs and measures.

# %% tags=["setup", "hide-input"]
# The set-up cell: tools/notebooks.py writes it.

# %%
import math
import statistics

import torch
from torch import nn
from torch.distributions import Bernoulli, Normal, kl_divergence

from companion import data
from companion.data import Batches, binarize
from companion.elbo import elbo_loss, elbo_terms, sample_log_weights
from companion.metrics import active_units, log_likelihood
from companion.page import plots
from companion.page.show import show
from companion.page.sliders import Slider
from companion.page.verify import exact, monte_carlo, verify
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

_ = torch.manual_seed(0)
train, test = data.load("mnist", "train"), data.load("mnist", "test")
vae, card = pretrained("vae-mnist"), read_card("vae-mnist")

# %% [markdown]
# The model that the last line loads has been trained for a long time on a CPU; its {doc}`card </book/models>` says how. First row: test digits, in black and white. Second: the same digits after they went through a latent of 50 numbers, decoded from the mean of the encoder's guess. Third: pictures that nobody wrote, decoded from draws of the prior.

# %% tags=["mnist"] mystnb={"image": {"alt": "Three rows of twelve digits in black, gray and white. The second row repeats the first a little smoothed; the third row shows other digits, most of them readable."}, "figure": {"caption": "Digits, their reconstructions, and inventions.", "name": "fig-vae-opening"}}
digits = binarize(test.images[:12])
with torch.no_grad():
    reconstructed = vae.likelihood(vae.posterior(digits).mean).mean
*_, invented = ancestral_sample(vae, 12)
plots.image_rows({"digit": digits, "reconstruction": reconstructed, "invention": invented})

# %% [markdown]
# (sec-vae-ingredients)=
# ## Three ingredients
#
# What turns an autoencoder into a generator? Compare with {ref}`chapter 1 <sec-encode-decode>`. Three things are new.
#
# 1. **The decoder gets a random input.** Its latent is a draw from a law, so that a new draw makes a new picture.
# 2. **The loss looks at that law.** It asks not only that $x$ comes back, but also that the latents of the data follow the prior, from which we are going to draw.
# 3. **The randomness is parameterized for gradients.** The encoder returns a mean and a variance, and the draw is a smooth function of both {eq}`def-encoder-draw`.
#
# In code this is one class with three methods, one for each law of {numref}`fig-one-bound`: the posterior, the prior, the likelihood. The networks and the likelihood are handed to it.

# %% tags=["nbval-check-output"]
show(Vae, docstring=False)

# %% [markdown]
# **Which likelihood?** It decides what kind of data the model is about, and what the reconstruction term measures.
#
# | data | law of a pixel given $z$ | the decoder returns |
# |---|---|---|
# | black and white | Bernoulli | log-odds |
# | real numbers | normal with standard deviation $\sigma_{\text{dec}}$, fixed or learned | means |
# | 256 gray levels | the mass of a normal law on each level | means |
#
# For the second row {eq}`eq-learned-sigma` of the last chapter says where a learned $\sigma_{\text{dec}}$ will end: at the root mean square residual. With all networks at rest, and the divergence free of it, the bound on a batch $x_1, \dots, x_N$ of pictures with $D$ pixels is largest at
#
# $$
# \sigma_{\text{dec}}^2 = \frac{1}{N D} \sum_{i=1}^N \mathbb{E}_{q_\phi(z \mid x_i)} \lVert x_i - f_\theta(z) \rVert^2 ,
# $$ (eq-decoder-variance)
#
# where $f_\theta(z)$ is the decoder's mean. The cell checks it on an untrained network with fixed draws; what is rejected is the square summed over pixels instead of averaged.

# %% tags=["nbval-check-output"]
_ = torch.manual_seed(0)
torch.set_default_dtype(torch.double)
x = torch.rand(20, 1, 28, 28)
gaussian = mlp_vae(5, (32,), observation_model=GaussianLikelihood(0.5, learned=True))
with torch.no_grad():
    f = gaussian.decoder(gaussian.posterior(x).sample())
square = (x - f).square().flatten(1).sum(1)
_ = minimize(
    lambda: -gaussian.observation_model(f).log_prob(x).mean(), [gaussian.observation_model.log_std]
)
learned = (2 * gaussian.observation_model.log_std).exp().detach()
summed = {"sum over pixels": square.mean()}
verify("eq-decoder-variance", learned, square.mean() / 784, exact.within(1e-6), rejects=summed)
torch.set_default_dtype(torch.float)

# %% [markdown]
# *Sources: B08, C03, D17.*

# %% [markdown]
# (sec-six-steps)=
# ## One update in six steps
#
# The loss is minus the bound, averaged over a batch. Written out for the encoder $q_\phi(z \mid x) = \mathcal{N}\big(\mu_\phi(x), \operatorname{diag} \sigma_\phi^2(x)\big)$ with $d$ latents and $M$ draws $z^{(m)} = \mu_\phi(x) + \sigma_\phi(x) \odot \varepsilon^{(m)}$, the bound is estimated by
#
# $$
# \frac1M \sum_{m=1}^M \log p_\theta\big( x \mid z^{(m)} \big) \;-\; \frac12 \sum_{j=1}^d \big( \mu_j^2 + \sigma_j^2 - 1 - \log \sigma_j^2 \big) .
# $$ (eq-vae-objective)
#
# The second sum is the divergence from the prior {eq}`eq-kl-diagonal`, and it is *subtracted*. A theorem of the tutorial prints it with a plus; the draws below reject that, on a network, as they did on the toy of the last chapter (entry E6). They estimate $\mathbb{E}_q [\log p(z) - \log q(z \mid x)]$, the part of the bound that the closed form replaces.

# %% tags=["nbval-check-output", "mnist"]
_ = torch.manual_seed(0)
one = binarize(test.images[:1])
with torch.no_grad():
    q = vae.posterior(one)
    z = q.sample((100_000,))
    samples = (vae.prior(1).log_prob(z) - q.log_prob(z))[:, 0].double()
    mean, variance = q.mean.double(), q.variance.double()
closed = 0.5 * (mean**2 + variance - 1 - variance.log()).sum()
squared = 0.5 * (mean**2 + variance**2 - 1 - 2 * variance.log()).sum()
wrong = {"E6": closed, "E10": -squared}
verify("eq-vae-objective", samples, -closed, monte_carlo, rejects=wrong)

# %% [markdown]
# One update on a batch, step by step. Read the printed shapes beside the list.
#
# 1. Take a batch of pictures, and binarize it anew.
# 2. Encode: a mean and a standard deviation for each picture and latent.
# 3. Draw noise, and make the latents from it.
# 4. Decode: a law of pictures for each latent.
# 5. Compute the loss: minus the log-likelihood of the batch, plus the divergence.
# 6. Send the gradient back through all of it, and take a step.

# %% tags=["nbval-check-output"]
_ = torch.manual_seed(0)
model = mlp_vae(latent_dim=20, hidden=(400,), activation=nn.ReLU)
x = binarize(torch.rand(64, 1, 28, 28))
_ = torch.manual_seed(1)
code = model.encoder(x)
mu, sigma = code[:, :20], (code[:, 20:] / 2).exp()
z = mu + sigma * torch.randn(64, 20)
p = Bernoulli(logits=model.decoder(z))
reconstruction = p.log_prob(x).flatten(1).sum(1)
divergence = 0.5 * (mu**2 + sigma**2 - 1 - 2 * sigma.log()).sum(1)
loss = (divergence - reconstruction).mean()
loss.backward()
shapes = {"x": x, "mu": mu, "sigma": sigma, "z": z, "p": p.probs, "terms": divergence}
for name, value in shapes.items():
    print(f"{name:6} {tuple(value.shape)}")

# %% [markdown]
# The picture shows the six steps on the trained model, for one digit: what goes in, mean and spread of its 50 latents, what comes out, and where the gradient says that ink is missing or too much.

# %% tags=["mnist"] mystnb={"image": {"alt": "Four panels: a black and white digit; fifty mean values with bars for their spread, most of them near zero with spread one; the decoded gray digit; the gradient on the pixels in red and blue along the edges of the digit."}, "figure": {"caption": "One update, seen from inside. The gradient is that of the log-likelihood in the log-odds, the digit less its reconstruction: blue where ink is missing, red where there is too much.", "name": "fig-six-steps"}}
fig, (first, second, third, fourth) = plots.figure(4, height=2.0)
with torch.no_grad():
    q = vae.posterior(one)
    decoded = vae.likelihood(q.sample()).mean
_ = first.imshow(one[0, 0], cmap="gray")
_ = second.errorbar(range(50), q.mean[0], q.stddev[0], fmt=".", elinewidth=1)
_ = second.set_xlabel("latent")
_ = third.imshow(decoded[0, 0], cmap="gray")
_ = fourth.imshow((one - decoded)[0, 0], cmap="RdBu", vmin=-1, vmax=1)
for axes in (first, third, fourth):
    _ = axes.set_axis_off()
for axes, title in zip(
    (first, second, third, fourth), ("x", "q(z | x)", "p(x | z)", "gradient"), strict=True
):
    _ = axes.set_title(title)
fig

# %% [markdown]
# In {numref}`fig-six-steps` most latents have mean 0 and spread 1: they say nothing about this digit, and cost nothing. The companion does steps 2 to 5 in `elbo_loss`. With the same draws it gives the same loss and the same gradient, and one step of `fit` moves the weights where a hand-made step moves them.

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
# Gradient descent would use all 60,000 pictures for one step; *stochastic* gradient descent uses a batch. (One set of notes writes SGD for both, entry E19.) Two things are random then, the batch and the draw, and both only add noise to a gradient that is right on average.
#
# *Sources: A23, A26, B13, B14, D11, D15, D18.*

# %% [markdown]
# (sec-gray-levels)=
# ## A famous number that is no likelihood
#
# A lecture draws a fully connected network with 784 inputs and 20 latents. The best-known code for it, an example program of PyTorch, puts 400 units between them and trains on *gray* digits with the cross-entropy of the pixels, as if a gray level were a probability. Its logs show a loss of about 105.6 on the test digits after ten epochs. The companion keeps this loss under its own name, so that it cannot be mistaken for the bound. These weights were trained for ten epochs.

# %% tags=["mnist"]
gray_vae = pretrained("gray-vae-mnist")
with torch.no_grad():
    gray = gray_cross_entropy_loss(gray_vae, test.images)
print(f"gray-level loss {gray.mean():.2f} +- {gray.std() / 100:.2f}")
assert abs(gray.mean() - 105.6) < 0.5 or len(test.images) < 10_000

# %% [markdown]
# Why is it no likelihood? The Bernoulli law gives probability to 0 and 1 only. A gray level of 0.3 is neither. The expression $r^x (1 - r)^{1 - x}$ can be *evaluated* at $x = 0.3$, but as a density on $[0, 1]$ it does not integrate to one. For $0 < r < 1$ and $r \ne \frac12$,
#
# $$
# \int_0^1 r^x (1 - r)^{1 - x}\, \mathrm{d}x = \frac{1 - 2 r}{\log (1 - r) - \log r} \le \frac12 ,
# $$ (eq-gray-integral)
#
# and at $r = \frac12$ it is $\frac12$. (Divided by its integral it is a density, called the continuous Bernoulli law.)
#
# :::{dropdown} Proof
# The integrand is $(1 - r)\, e^{x \log (r / (1 - r))}$. Its integral is $(1 - r)\, \big( \frac{r}{1 - r} - 1 \big) / \log \frac{r}{1 - r}$. It is convex in $x$, so it lies below its chord from $1 - r$ to $r$, whose integral is $\frac12$. $\square$
# :::
#
# And even a decoder that returns the picture itself would not get zero: its loss is the entropy of the gray levels read as coins. The cell checks the integral, and prints that floor.

# %% tags=["nbval-check-output"]
r = torch.tensor([0.1, 0.3, 0.8], dtype=torch.double)
level = torch.linspace(0, 1, 20_001, dtype=torch.double)[:, None]
integral = torch.trapezoid(r**level * (1 - r) ** (1 - level), level, dim=0)
right = (1 - 2 * r) / ((1 - r).log() - r.log())
ones = {"a density": torch.ones(3).double()}
verify("eq-gray-integral", integral, right, exact.within(1e-6), rejects=ones)

# %% tags=["mnist"]
pixels = test.images.flatten(1)
floor = -(torch.xlogy(pixels, pixels) + torch.xlogy(1 - pixels, 1 - pixels)).sum(1).mean()
print(f"the loss of a perfect copy: {floor:.1f}, of {gray.mean():.1f}")

# %% [markdown]
# A good part of the famous number is that floor. So the loss is no likelihood of gray digits. It is something else. It is linear in $x$, so it is the mean of minus the bound on a *binarized* digit, for an encoder that saw the gray one:
#
# $$
# \mathbb{E}_{b \mid x} \log p_\theta(b \mid z) = \sum_j \big( x_j \log r_j + (1 - x_j) \log (1 - r_j) \big) ,
# $$ (eq-gray-mean)
#
# where $b_j$ is 1 with probability $x_j$, and $r_j$ is the decoder's probability of a 1. That bound is valid and loose; do not set 105 beside the 86.8 of the next section.

# %% tags=["nbval-check-output"]
_ = torch.manual_seed(0)
x, r = torch.rand(50).double(), torch.rand(50).double()
log_p = Bernoulli(r).log_prob(torch.bernoulli(x.expand(20_000, 50))).sum(1)
gray_value = (x * r.log() + (1 - x) * (1 - r).log()).sum()
rounded = {"rounded pixels": Bernoulli(r).log_prob(x.round()).sum()}
verify("eq-gray-mean", log_p, gray_value, monte_carlo, rejects=rounded)

# %% [markdown]
# *Sources: B12.*

# %% [markdown]
# (sec-test-likelihood)=
# ## A test likelihood, honestly
#
# To get a number that means something, say first what the data are. Here a pixel is 1 with its gray level as probability, drawn anew each time a picture is used: *dynamic binarization* {cite:p}`salakhutdinov2008,burda2016`. Then $p_\theta(x)$ is the probability of a black-and-white picture, and $- \log p_\theta(x)$ is a number of nats, comparable between all models of such pictures.
#
# The bound is a pessimistic estimate of it. The {term}`importance-weighted bound` {eq}`def-k-sample-bound` with many draws is much less pessimistic; how much is left depends on the encoder {eq}`eq-k-sample-gap`. With the exact posterior as encoder all weights are equal, and even one draw is exact:
#
# $$
# q_\phi = p_\theta(z \mid x) \quad \Longrightarrow \quad \log \frac{p_\theta(x, z)}{q_\phi(z \mid x)} = \log p_\theta(x) \;\text{ for every draw } z .
# $$ (eq-weights-constant)
#
# The cell makes such a model: a linear one, with orthogonal columns, so that its posterior has independent coordinates and belongs to the encoder's family.

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
    evidence = linear_vae_log_likelihood(toy, x).expand(4, 5)
untrained = {"an untrained encoder": other}
verify("eq-weights-constant", weights, evidence, rejects=untrained)
torch.set_default_dtype(torch.float)

# %% [markdown]
# For the digits the encoder is not the posterior, so the number of draws matters. The cell takes 5,000 draws for each of fifty test digits, and forms the bound with $K$ of them.

# %%
_ = torch.manual_seed(0)
fifty = binarize(test.images[:50])
with torch.no_grad():
    parts = [sample_log_weights(vae, fifty, 500) for _ in range(10)]
log_w = torch.cat(parts).double()
sizes = [1, 5, 20, 100, 500, 1000, 5000]
curve = {K: (log_w.view(-1, K, 50).logsumexp(1) - math.log(K)).mean(0) for K in sizes}

# %% mystnb={"image": {"alt": "The bound against the number of draws, on a logarithmic axis: it rises steeply at first, more and more slowly after a hundred draws, and has not quite stopped at 5000."}, "figure": {"caption": "The bound with K draws, for fifty test digits.", "name": "fig-k-curve"}}
plots.curves(
    {"K-sample bound": (sizes, [curve[K].mean() for K in sizes])},
    x_label="number of draws K",
    y_label="nats",
    log_x=True,
)

# %% [markdown]
# On nested blocks of the same draws the curve of {numref}`fig-k-curve` cannot fall {eq}`eq-k-sample-order`. What has to be measured is how much is left. Two numbers tell: what the last tenfold increase of $K$ brings, and the *effective* number of draws, $(\sum_k w_k)^2 / \sum_k w_k^2$, which is $K$ for equal weights and 1 if one weight carries everything.

# %%
last, whole = curve[5000] - curve[500], curve[5000] - curve[1]
effective = (2 * log_w.logsumexp(0) - (2 * log_w).logsumexp(0)).exp()
print(f"bound {curve[1].mean():.2f}, with 5000 draws {curve[5000].mean():.2f} nats")
print(f"difference {whole.mean():.2f} +- {whole.std() / 50**0.5:.2f}")
print(f"from 500 to 5000 draws {last.mean():.2f} +- {last.std() / 50**0.5:.2f}")
print(f"effective number of draws, median of fifty digits: {effective.median():.0f}")

# %% tags=["nbval-check-output", "mnist"]
print("less than a nat from 500 to 5000 draws:", bool(last.mean() < 1))
print("more than two nats from one to 5000:", bool(whole.mean() > 2))

# %% [markdown]
# Fifty digits are too few for a result: digits differ by tens of nats among each other. The card of the weights holds the measurement on all 10,000 test digits, and the literature has its own {cite:p}`burda2016`: for this network, with this protocol and 5,000 draws, 86.76 nats after 3,280 epochs.

# %% tags=["mnist"]
print(card.metric)
assert card.metric_value < 90
print(
    f"{card.metric_value:.2f} +- {card.metric_se:.2f} after {card.minutes:.0f} minutes: {card.command}"
)

# %% [markdown]
# **Training with many draws.** What measures a model can also train it: minus the bound with $K$ draws is a loss, and a VAE trained with it is called an *importance-weighted autoencoder* {cite:p}`burda2016`. The next weights went on from those above for 24 epochs with $K = 50$, on the same data, with the same networks. For each of the same two hundred digits the cell estimates $\log p_\theta(x)$ under both models, and compares digit by digit.

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
assert "L_5000" in card.metric and "L_5000" in iwae_card.metric
print(f"10,000 digits, L_5000: {iwae_card.metric_value:.2f}, not {card.metric_value:.2f}")
units = [active_units(model, binarize(test.images)) for model in (vae, iwae)]
print(f"active units: {units[1].num_active}, not {units[0].num_active}")

# %% tags=["nbval-check-output", "mnist"]
print("a better model, by 5 standard errors:", bool(gain.mean() > 5 * gain.std() / 200**0.5))
print("with a worse bound:", bool(loss.mean() > 0))
print("and more active units:", units[1].num_active > units[0].num_active)

# %% [markdown]
# The model has become better, and its bound worse. With one draw the encoder must avoid every $z$ that explains the picture badly, since each costs a whole $\log$; among fifty draws a bad one is merely outvoted. So the guess can be wider, and the model uses more of its latents. The bound is a bound for every $q$; which model wins under it depends on the $q$ one allows.

# %% [markdown]
# When you compare such numbers, ask four questions. Which binarization? A fixed one makes the same model about two nats worse. How many draws? One draw costs three to five nats for such a network. Was the model chosen by its test result? And how large is the standard error, which is *not* the one of a paired difference?
#
# Another figure that papers report is the number of active units, latents that vary with the picture at all; for this network 19 or 20 of the 50 {cite:p}`burda2016`. The next section is about them.

# %%
print(active_units(vae, binarize(test.images)).num_active, "of 50 units are active")

# %% [markdown]
# *Sources: E01.*

# %% [markdown]
# (sec-collapse)=
# ## Posterior collapse: run it, see it, treat it
#
# Deep networks are hard to train at first, and the prior is easy to please. If the decoder has not yet learned to use $z$, information in $z$ costs divergence and buys little. The encoder learns to send every $x$ to the prior, and the decoder gets no $z$ worth listening to. This is {term}`posterior collapse`. At worst the bound is stuck at the value of a model that paints the average picture.
#
# We measure it by the number of {term}`active units <active unit>`: latents whose posterior mean varies over the data, with variance above 0.01. The patient is a network of five layers each way, trained on 6,000 digits for six epochs. Three treatments: nothing; *free bits* {cite:p}`kingma2016`, where the first eight nats of divergence cost nothing (one allowance for all latents together; the paper splits it into groups); and *warm-up* {cite:p}`bowman2016,sonderby2016`, where the weight $\beta$ of the divergence rises from 0 to 1 during the first five epochs, so that reconstruction comes first.


# %%
seen = binarize(test.images[:1000])


def treat(free_nats, warm_up, seed):
    """Train, and return the model with its active units after each epoch."""
    _ = torch.manual_seed(seed)
    model, share, history = mlp_vae(20, 5 * (128,), nn.ReLU), 0.0, []
    batches = Batches(train.images[:6000], batch_size=100, num_epochs=6, seed=seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

    def loss(model, x):
        beta = min(1.0, 6 / 5 * share) if warm_up else 1.0
        return elbo_loss(model, binarize(x), beta, free_nats)

    for step in fit(model, loss, batches, optimizer):
        share = step.number / len(batches)
        if step.number % batches.steps_per_epoch == 0:
            history += [active_units(model, seen).num_active]
    return model, history


# %%
settings = {"nothing": (0.0, False), "free bits": (8.0, False), "warm-up": (0.0, True)}
patients = {
    name: [treat(*setting, seed) for seed in range(3)] for name, setting in settings.items()
}
for name, runs in patients.items():
    print(f"{name:9} active units after each epoch, first run: {runs[0][1]}")


def divergences(model):
    """Mean divergence of each latent from the prior, in nats."""
    with torch.no_grad():
        q = model.posterior(seen).base_dist
    return kl_divergence(q, Normal(0.0, 1.0)).mean(0)


# %% mystnb={"image": {"alt": "Active units against epochs for three treatments. With nothing and with warm-up the lines rise above ten and then fall to about one; with free bits the line stays near fifteen."}, "figure": {"caption": "Active units, mean of three runs each.", "name": "fig-collapse"}}
histories = {
    name: torch.tensor([history for _, history in runs]).float().mean(0)
    for name, runs in patients.items()
}
epochs = torch.arange(1, 7)
plots.curves(
    {name: (epochs, values) for name, values in histories.items()},
    x_label="epoch",
    y_label="active units, of 20",
)

# %% [markdown]
# In {numref}`fig-collapse` most latents move a little after two epochs. Then, untreated, most of them fall still. Free bits keep them moving. Warm-up, which is recommended everywhere, saves none here. A count of units is not the whole truth, so look at the bound and at the divergence of the largest latents too.

# %%
for name, runs in patients.items():
    with torch.no_grad():
        bounds = [elbo_terms(model, seen).elbo.mean().item() for model, _ in runs]
    largest = divergences(runs[0][0]).sort(descending=True).values[:4].tolist()
    texts = ", ".join(f"{value:.2f}" for value in largest)
    print(f"{name:9} bound {statistics.mean(bounds):.1f}, largest divergences {texts}")
final = {name: [history[-1] for _, history in runs] for name, runs in patients.items()}
spread = sum(statistics.variance(final[name]) for name in ("nothing", "free bits"))
gain = statistics.mean(final["free bits"]) - statistics.mean(final["nothing"])
print(f"free bits: {gain:.1f} more units, standard error {(spread / 3) ** 0.5:.1f}")

# %% [markdown]
# Untreated, nearly all of the divergence sits in one or two latents. With free bits others spend something too. But the bounds differ little after so short a training: a unit that moves need not be worth much yet. Report all three numbers.

# %% tags=["nbval-check-output", "mnist"]
least, most = min(final["free bits"]), max(final["nothing"])
print("each run with free bits has more units than any without:", least > most)
spent = {n: [divergences(m).sum().item() for m, _ in runs] for n, runs in patients.items()}
more = min(spent["free bits"]) > 1.5 * max(spent["nothing"])
print("and spends half as much again on them:", more)

# %% [markdown]
# So mind what a treatment does. Warm-up changes the *path*, not the destination: at its end the loss is the bound again, and a latent that is not worth its price yet dies after all. Its friends report gains in long trainings, where the decoder has time to learn what a latent is good for before the price rises. Free bits change the *loss*: what they train is not the bound any more. And the last chapter has shown that collapse can even be a global maximum {eq}`eq-whole-family`.
#
# Sometimes the cause is trivial, and so is the cure. A squared error that is averaged over pixels is a decoder with an enormous variance, and drowns the reconstruction {eq}`eq-mean-of-squares`. Learn the variance instead.


# %% tags=["nbval-check-output"]
def gaussian_run(std, learned):
    _ = torch.manual_seed(0)
    model = mlp_vae(10, (128,), nn.ReLU, observation_model=GaussianLikelihood(std, learned))
    batches = Batches(train.images[:6000], batch_size=100, num_epochs=3)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    _ = list(fit(model, elbo_loss, batches, optimizer))
    return active_units(model, test.images[:1000]).num_active


print("mean of squares, variance D / 2:", gaussian_run((784 / 2) ** 0.5, False), "active units")
print("learned variance: all ten active:", gaussian_run(0.5, True) == 10)

# %% [markdown]
# *Sources: A27, C10.*

# %% [markdown]
# (sec-rate-distortion)=
# ## The balance
#
# Between a dead latent and an overloaded one lies a whole curve. Weigh the divergence with $\beta$ as in a {term}`beta-VAE` {cite:p}`higgins2017`, train for several $\beta$, and note two numbers: the rate, which is the divergence, and the distortion, minus the log-likelihood. If the divergence dominates, the decoder paints the blurry average. If the reconstruction dominates, the latents of the data leave the prior, and draws from the prior decode to nothing known.

# %%
betas = [0.1, 0.3, 1.0, 3.0, 10.0, 30.0]


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

# %% mystnb={"image": {"alt": "Distortion against rate: a falling convex curve of six points. From the right, with a small weight, to the left, with a large one, the distortion rises from about 120 to about 200."}, "figure": {"caption": "Six trainings, from a divergence that is almost free (right) to one that is dear (left). On each straight line the bound is constant.", "name": "fig-rate-distortion"}}
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
# Along each thin line of {numref}`fig-rate-distortion` rate and distortion add up to the same number, minus the bound. The sum is least for $\beta = 1$ among our six, as it must be after enough training: weight one *is* the bound. Move the slider to see what the two ends look like: the first row holds reconstructions, the second inventions.


# %%
def look(number):
    _ = torch.manual_seed(0)
    model = beta_models[number]
    with torch.no_grad():
        again = model.likelihood(model.posterior(seen[:10]).mean).mean
    *_, new = ancestral_sample(model, 10)
    return plots.image_rows({"reconstruction": again, "invention": new})


# %%
looks = [
    "clear reconstructions, inventions full of gray smoke",
    "clear reconstructions, inventions with some smoke",
    "clear reconstructions, inventions most of which can be read",
    "blurred reconstructions and inventions, all clean",
    "every picture a blur, with hints of digits",
    "every picture the same gray average",
]
Slider(
    range(6),
    look,
    description="weight of the divergence",
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
# *Sources: C09.*

# %% [markdown]
# (sec-amortization-gap)=
# ## What the encoder leaves on the table
#
# Two things separate the bound $\mathrm{ELBO}(x; q_\phi)$ from $\log p_\theta(x)$. The encoder's family $\mathcal{Q}$ holds only normal laws with independent coordinates; the best of them leaves the {term}`approximation gap`. And the encoder is *one* network for all pictures; it does not find the best member for each. That is the {term}`amortization gap` {cite:p}`cremer2018`.
#
# $$
# \begin{aligned}
# \log p_\theta(x) - \mathrm{ELBO}(x; q_\phi) = {} & \underbrace{\log p_\theta(x) - \max_{q \in \mathcal{Q}} \mathrm{ELBO}(x; q)}_{\text{approximation gap}} \\
# & + \underbrace{\max_{q \in \mathcal{Q}} \mathrm{ELBO}(x; q) - \mathrm{ELBO}(x; q_\phi)}_{\text{amortization gap}}
# \end{aligned}
# $$ (def-two-gaps)
#
# To measure the second, forget the encoder and climb the bound for each of the fifty digits on its own, starting from the encoder's answer.


# %%
class Guess(nn.Module):
    """An encoder of free numbers: it returns them whatever it is given."""

    def __init__(self, q):
        super().__init__()
        self.code = nn.Parameter(torch.cat([q.mean, q.variance.log()], 1))

    def forward(self, x):
        return self.code


def bound_of(model):
    """The bound of the fifty digits, mean of 300 draws each."""
    with torch.no_grad():
        return torch.stack([elbo_terms(model, fifty).elbo for _ in range(300)]).mean(0)


# %%
free = Vae(Guess(vae.posterior(fifty)), vae.decoder, vae.observation_model, 50)
for lr, steps in ((0.03, 300), (0.003, 300)):
    optimizer = torch.optim.Adam(free.encoder.parameters(), lr=lr)
    _ = list(fit(free, elbo_loss, [fifty] * steps, optimizer))
with torch.no_grad():
    parts = [sample_log_weights(free, fifty, 500) for _ in range(10)]
better = torch.cat(parts).double().logsumexp(0) - math.log(5000)
log_p = torch.maximum(curve[5000], better)
amortized, optimized = bound_of(vae), bound_of(free)
gaps = {"approximation": log_p - optimized, "amortization": optimized - amortized}
for name, gap in gaps.items():
    print(f"{name} gap {gap.mean():.2f} +- {gap.std() / 50**0.5:.2f} nats")
print(f"better draws raised log p(x) by {(log_p - curve[5000]).mean():.2f} nats")

# %% [markdown]
# The optimized guess also makes better draws for the importance weights, so $\log p_\theta(x)$ was estimated again with them. Both gaps are differences on the same digits, so their standard errors are small, though the digits themselves differ by tens of nats. But both are estimates: a climb that stops early makes the amortization gap too small, and a $\log p_\theta(x)$ from too few draws makes the approximation gap too small. The standard errors know of neither.

# %% tags=["nbval-check-output", "mnist"]
gap = gaps["amortization"]
error = gap.std() / 50**0.5
print("the encoder is not the best guess:", bool(gap.mean() > 4 * error))
print("the best stays below log p(x) on average:", bool(gaps["approximation"].mean() > 0))

# %% [markdown]
# *Sources: A22, A28.*

# %% [markdown]
# (sec-vae-generation)=
# ## Inventing pictures
#
# To generate we need the decoder alone: draw $z$ from the prior, decode, and, if the model is taken at its word, draw the pixels too. (One set of notes says that the *encoder* generates, entry E16.) Almost every picture in print leaves the last draw out and shows the decoder's mean. The mean is smoother than a draw. How much? Variances add up:
#
# $$
# \operatorname{Var}(x_j) = \operatorname{Var}_{z}\big( \mathbb{E}[x_j \mid z] \big) + \mathbb{E}_{z} \operatorname{Var}(x_j \mid z) ,
# $$ (eq-total-variance)
#
# the first term is what the means show, the second what they hide.

# %% mystnb={"image": {"alt": "Two rows of twelve invented digits. The upper row shows smooth gray means, the lower row draws of the same laws, with ragged edges and lone white pixels."}, "figure": {"caption": "Twelve latents, decoded. Above the mean of the pixels, below a draw of them: what the model really says.", "name": "fig-mean-and-draw"}}
_ = torch.manual_seed(3)
with torch.no_grad():
    law = vae.likelihood(vae.prior(12).sample())
plots.image_rows({"mean": law.mean, "draw": law.sample()})

# %% [markdown]
# The two rows of {numref}`fig-mean-and-draw` differ only by the last draw. The check adds up the variances of all pixels of 20,000 inventions.

# %% tags=["nbval-check-output", "mnist"]
_ = torch.manual_seed(0)
with torch.no_grad():
    law = vae.likelihood(vae.prior(20_000).sample())
    means = law.mean.flatten(1).double()
shown, hidden = means.var(0).sum(), (means * (1 - means)).sum(1).mean()
squares = (law.sample().flatten(1).double() - means.mean(0)).square().sum(1)
alone = {"means alone": shown}
verify("eq-total-variance", squares, shown + hidden, monte_carlo, rejects=alone)

# %%
print(f"the means hide {100 * hidden / (shown + hidden):.0f} percent of the variance")

# %% [markdown]
# **Encode, decode, and again.** A trick from the lecture notes: an invention that looks a little off can be sent through the encoder and the decoder once or twice, which moves it towards the data. Do it more often, the notes say, and the pictures turn to mush. Let us see.


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

# %% mystnb={"image": {"alt": "Six rows of twelve digits after 0, 1, 2, 10, 30 and 100 rounds. The first rounds sharpen the digits; in the later ones many have become another digit or a blot."}, "figure": {"caption": "Inventions after up to a hundred rounds of encoding and decoding.", "name": "fig-mush"}}
plots.image_rows({f"{k} rounds": film[k][:12] for k in (0, 1, 2, 10, 30, 100)})

# %% [markdown]
# {numref}`fig-mush` holds a surprise. In the first rounds the notes are right: strokes get firmer, doubtful pixels decide. But our pictures do not turn to gray mush then. They drift: some become another digit, some a firm shape that is no digit at all, and different pictures become *the same* picture. Two numbers show it. The first is the doubt of the pixels, $\sum_j p_j (1 - p_j)$, averaged over pictures. The second is the share of the 300 pictures that have a twin, another picture at a distance below one.


# %%
def doubt(pictures):
    return (pictures * (1 - pictures)).flatten(1).sum(1).mean().item()


def twins(pictures):
    distances = torch.cdist(pictures.flatten(1), pictures.flatten(1))
    return (distances.fill_diagonal_(math.inf).min(1).values < 1).float().mean().item()


for k in (0, 1, 2, 10, 100):
    print(f"{k:3} rounds: doubt {doubt(film[k]):.1f}, twins {100 * twins(film[k]):.0f} percent")

# %% tags=["nbval-check-output", "mnist"]
print("less doubt after two rounds:", doubt(film[2]) < doubt(film[0]))
print("more twins after a hundred:", twins(film[100]) > twins(film[0]) + 0.02)

# %% [markdown]
# Encoding and decoding is a map from pictures to pictures, and repeating it brings different pictures to the same few. (The encoder has also never seen gray means in its training, only black and white.) The notes' advice stands: once or twice, not more. Draw from both laws instead of taking means, and something else happens:


# %%
def drawn_rounds_of(z, num):
    """Means of the decoder after `num` rounds of drawing a picture and a latent."""
    with torch.no_grad():
        for _ in range(num):
            z = vae.posterior(vae.likelihood(z).sample()).sample()
        return vae.likelihood(z).mean


_ = torch.manual_seed(3)
chain = drawn_rounds_of(vae.prior(300).sample(), 100)
print(f"100 rounds of draws: doubt {doubt(chain):.1f}, twins {100 * twins(chain):.0f} percent")

# %% tags=["nbval-check-output", "mnist"]
print("fewer twins with draws:", twins(chain) < twins(film[100]) / 4)

# %% [markdown]
# With the exact posterior, a round of draws would be a step of Gibbs sampling, which leaves the law of the model as it is. The noise keeps the pictures apart.
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
# A collapsed Bernoulli model ignores its latent and returns one and the same law for every picture. Write its best mean loss in nats as a function of the mean picture, a tensor `mean` of pixel means between 0 and 1. Every trained model must beat it.


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
# A model of black-and-white digits with 784 pixels needs 86.8 nats for a picture. How many bits per pixel is that?

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
# One bit is $\log 2$ nats. An incompressible picture would need one bit per pixel.

# %% tags=["nbval-check-output"]
exercises.check_bits(86.8 / 784 / math.log(2))

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} Which latents are alive
# :label: ex-count-active
# ```
# Count the active units, given the posterior means of many pictures, a tensor of shape (num, latents), and the threshold.


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
# The variance over pictures, latent by latent. A mean that is large but constant carries nothing.


# %% tags=["nbval-check-output"]
def count_active(means, threshold):
    return (means.var(0) > threshold).sum()


exercises.check_count_active(count_active)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} The spread of a draw
# :label: ex-draw-spread
# ```
# An invention is drawn from a Bernoulli decoder whose mean picture, given $z$, is `mean`. What is the expected squared distance between a draw and the mean, summed over pixels? Write it as a function of `mean`.


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
# The variance of a coin is $p (1 - p)$: the *doubt* of the last section.


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
# - A variational autoencoder gives the decoder a random input, a loss on its law, and a draw that gradients can pass. Six steps make an update {eq}`eq-vae-objective`.
# - A cross-entropy of gray levels trains well and is no likelihood {eq}`eq-gray-integral`. A test likelihood needs a stated binarization, many draws, and a standard error.
# - Collapse is measured, not felt: active units, divergence for each latent. Free bits change the loss, warm-up the path, a learned variance the dial.
# - The weight of the divergence moves a model along a curve of rate and distortion; the sum of both is least at weight one, which is the bound.
# - The encoder is not the best guess for each picture; the difference is the amortization gap {eq}`def-two-gaps`.
# - The decoder's mean is not a draw {eq}`eq-total-variance`. Repeated encoding and decoding sharpens first, and then makes different pictures the same.
#
# **What the sources say, and where they need care.** The tutorial's training theorem has the divergence with a plus sign (E6). The lecture's network with 784 inputs and 20 latents has a normal decoder; the code that made it known uses a loss that is no likelihood of gray digits. The notes say that the encoder generates (E16) and give one name to two methods (E19); their advice to re-encode once or twice is sound. All of the misprints are on the {doc}`errata page </book/errata>`.
#
# **To read next.** {cite:t}`kingma2019`, an introduction by the inventors; {cite:t}`burda2016` on the bound with many draws; {cite:t}`cremer2018` on the two gaps; {cite:t}`bowman2016` and {cite:t}`sonderby2016` on warm-up.
