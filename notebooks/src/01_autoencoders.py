# %% [markdown]
# # Autoencoders
#
# A photograph of a digit has 784 gray levels. Most settings of these 784 numbers look like nothing at all, so the pictures
# that *are* digits must fill only a tiny part of the space. Can a network find that part by itself, without labels?
# And if it can, do we get a machine that *draws* new digits for free?
#
# The first answer is yes, and most of this chapter is about how good that yes is. The second answer is no. The way in
# which it fails tells us exactly what is missing, and the rest of the book supplies it.

# %% tags=["setup", "hide-input"]
# The set-up cell: tools/notebooks.py writes it.

# %%
from functools import partial

import torch

from companion import autoencoder, data, metrics, plots
from companion.checkpoints import load_weights
from companion.interactive import Slider
from companion.runtime import pick
from companion.source import show
from companion.training import fit, minimize
from companion.verify import autograd, exact, monte_carlo, quadrature, verify

_ = torch.manual_seed(0)

# %% [markdown]
# The next cell loads handwritten digits as two tensors, 60,000 pictures to learn from and 10,000 to test on
# {cite:p}`lecun1998`. It also loads a network that was trained on the first set for ten epochs, as
# {ref}`the experiment below <sec-experiment>` explains.

# %%
train, test = data.load("mnist", "train"), data.load("mnist", "test")
model = autoencoder.mlp_autoencoder(latent_dim=16)
_ = load_weights("ae-mnist", model)

# %% [markdown]
# Look at the three rows. The first holds test pictures the network has never seen. The second is what it makes of them after
# squeezing each through 16 numbers. For the third row we made up the 16 numbers ourselves, with random draws.

# %% mystnb={"image": {"alt": "Three rows of ten pictures: handwritten digits, almost identical reconstructions, and gray blots decoded from random codes."}, "figure": {"caption": "Compression works, creation fails. Test digits, their reconstructions from 16 numbers, and pictures decoded from 16 random numbers.", "name": "fig-opening"}}
with torch.no_grad():
    rows = {
        "test digits": test.images[:10],
        "from 16 numbers": model(test.images[:10]),
        "from random codes": model.decode(torch.randn(10, 16)),
    }
plots.image_rows(rows)

# %% [markdown]
# The second row of {numref}`fig-opening` is the good news and the third row the bad news. This chapter explains both.

# %% [markdown]
# (sec-encode-decode)=
# ## Encode, decode, compare
#
# An {term}`autoencoder` is a pair of functions. The {term}`encoder` $g_\phi$ maps a data point $x \in \mathbb{R}^D$ to a {term}`code`
# $z \in \mathbb{R}^d$, usually with $d$ much smaller than $D$. The {term}`decoder` $f_\theta$ maps a code back to a point of the data space, the
# {term}`reconstruction`:
#
# $$
# z = g_\phi(x), \qquad \hat{x} = f_\theta(z).
# $$ (def-autoencoder)
#
# The letters $\phi$ and $\theta$ stand for all the weights of the two networks. The space of the codes is the {term}`latent space`. We want
# $\hat{x}$ to be close to $x$ on average over the law $p_\mathrm{data}$ of the data, so we minimize
#
# $$
# \mathcal{L}(\theta, \phi) = \mathbb{E}_{x \sim p_\mathrm{data}} \, \lVert x - f_\theta(g_\phi(x)) \rVert^2 .
# $$ (def-reconstruction-loss)
#
# In practice the expectation is a mean over the training set. Nobody had to label anything: the input is its own target. That is all there is to
# an autoencoder, and in code it is hardly longer.

# %% tags=["nbval-check-output"]
show(autoencoder.Autoencoder)
show(autoencoder.reconstruction_loss)

# %% [markdown]
# **Why the square?** Lectures often write the error as a plain norm, $\lVert x - \hat{x} \rVert$, and train with its square. The two are not the same
# problem. For the squared norm, the best constant guess for a random $x$ is its mean, because for every constant $c$
#
# $$
# \mathbb{E} \lVert x - c \rVert^2 = \mathbb{E} \lVert x - \mathbb{E}x \rVert^2 + \lVert \mathbb{E}x - c \rVert^2 .
# $$ (eq-mean-minimizes)
#
# :::{dropdown} Proof
# Write $x - c = (x - \mathbb{E}x) + (\mathbb{E}x - c)$ and expand the square. The cross term is
# $2\,\mathbb{E}[x - \mathbb{E}x]^\top (\mathbb{E}x - c)$, and its first factor is zero. $\square$
# :::
#
# The cell below computes both sides on a thousand digits for a random $c$. This is the book's way: every numbered equation that claims something is
# evaluated in two independent ways, and a cell fails if they differ. The call also names a plausible *wrong* formula and makes sure that the check
# would notice it.

# %% tags=["nbval-check-output"]
x = test.images[:1000].flatten(1).double()
mean, c = x.mean(0), torch.rand(784, dtype=torch.double)

left = (x - c).square().sum(1).mean()
spread, distance = (x - mean).square().sum(1).mean(), (mean - c).norm()
verify(
    "eq-mean-minimizes",
    left,
    spread + distance**2,
    rejects={"distance not squared": spread + distance},
)

# %% [markdown]
# The plain norm is minimized elsewhere, at the *median* when $x$ is a number. Three zeros, a one and a six make the difference visible.

# %% tags=["nbval-check-output"]
numbers, guesses = torch.tensor([0.0, 0.0, 0.0, 1.0, 6.0]), torch.linspace(0, 3, 301)
errors = (numbers - guesses[:, None]).abs()
absolute, squared = errors.mean(1), errors.square().mean(1)
print(f"least absolute error at {guesses[absolute.argmin()]:.2f}", end=", ")
print(f"the median is {numbers.median():.2f}")
print(f"least squared error at {guesses[squared.argmin()]:.2f}", end=", ")
print(f"the mean is {numbers.mean():.2f}")

# %% [markdown]
# The mean is where blur comes from. If a code leaves open whether a stroke is here or two pixels to the right, the squared error asks for the average of both.
# Keep this in mind for later chapters: a squared error is the negative log-density of a Gaussian, up to constants, and a network trained with it
# predicts a mean.
#
# *Sources: A01.*

# %% [markdown]
# (sec-dct)=
# ## A code without learning: the cosine transform
#
# Codes are older than networks. JPEG describes a block of pixels by cosines of growing frequency and spends its bits on the slow ones
# {cite:p}`ahmed1974,wallace1992`. For a signal of $n$ samples the orthonormal {term}`discrete cosine transform` is the matrix
#
# $$
# C_{k m} = \sqrt{\frac{2 - \delta_{k0}}{n}} \, \cos\!\Big( \frac{\pi (2m + 1) k}{2 n} \Big), \qquad k, m = 0, \dots, n - 1,
# $$ (def-dct)
#
# where $\delta_{k0}$ is 1 for $k = 0$ and 0 otherwise. A square picture $x$ is transformed along its columns and its rows, $Z = C x C^\top$. The rows of $C$ are orthonormal, so the way back is the transpose, and
# energy is preserved:
#
# $$
# C C^\top = I,
# $$ (eq-dct-orthonormal)
#
# $$
# \lVert C x C^\top \rVert^2 = \lVert x \rVert^2 .
# $$ (eq-parseval)
#
# Here $\lVert \cdot \rVert$ is the Frobenius norm, the root of the sum of all squared entries. The second equation is Parseval's identity. We write the
# definition out in a cell and compare it with the package's.

# %% tags=["nbval-check-output"]
n = 28
k, m = torch.arange(n)[:, None], torch.arange(n, dtype=torch.double)
C = torch.sqrt((2 - (k == 0).double()) / n) * torch.cos(
    torch.pi * (2 * m + 1) * k / (2 * n)
)
assert torch.allclose(C, autoencoder.dct_matrix(n), rtol=0, atol=1e-12)

pictures = test.images[:100].double()
verify("eq-dct-orthonormal", C @ C.T, torch.eye(n, dtype=torch.double))
verify(
    "eq-parseval",
    (C @ pictures @ C.T).square().sum((1, 2, 3)),
    pictures.square().sum((1, 2, 3)),
)

# %% [markdown]
# To compress, keep the coefficients of the $K \times K$ slowest cosines and set the others to zero. The encoder reads these coefficients off, the decoder adds
# up the cosines again. The error needs no new computation: it is the energy of what was dropped,
#
# $$
# \lVert x - \hat{x} \rVert^2 = \sum_{(j, k) \,\text{dropped}} Z_{jk}^2 .
# $$ (eq-dct-error)
#
# :::{dropdown} Proof
# Let $P Z$ be $Z$ with the dropped entries set to zero. Then $x = C^\top Z C$ and $\hat{x} = C^\top (P Z)\, C$, so
# $x - \hat{x} = C^\top (Z - P Z)\, C$, and {eq}`eq-parseval` says that this has the norm of $Z - PZ$. $\square$
# :::

# %% tags=["nbval-check-output"]
keep = 6
Z = C @ pictures @ C.T
dropped = Z.square()
dropped[..., :keep, :keep] = 0
reconstruction = autoencoder.DctAutoencoder(28, keep)(pictures)
verify(
    "eq-dct-error",
    (pictures - reconstruction).square().sum((1, 2, 3)),
    dropped.sum((1, 2, 3)),
)

# %% [markdown]
# Move the slider to spend more numbers on the same eight digits. With four numbers one sees a smudge, and near a hundred one begins to read.


# %%
def dct_rows(keep):
    dct = autoencoder.DctAutoencoder(28, keep)
    return plots.image_rows(
        {"original": test.images[:8], "from cosines": dct(test.images[:8]).clamp(0, 1)}
    )


Slider.over(
    [2, 4, 6, 8, 10, 12, 14, 20, 28],
    dct_rows,
    description="cosines kept per side",
    label="{:d}",
    alt="Eight digits above their reconstructions from {0:d} by {0:d} cosines",
    start=1,
)

# %% [markdown]
# This encoder knows nothing about digits. It would treat faces or noise in the same way. The coefficient vector is a latent representation all the same, and the pair
# of transform and inverse is an autoencoder whose weights were chosen by hand. What do we gain by learning them?
#
# *Sources: D02.*

# %% [markdown]
# (sec-pca)=
# ## The linear autoencoder is principal component analysis
#
# Let both maps be affine. Write $\bar{x}$ for the mean of the training data $x_1, \dots, x_N$, and
#
# $$
# S = \frac{1}{N} \sum_{i=1}^{N} (x_i - \bar{x})(x_i - \bar{x})^\top = \sum_{j=1}^{D} \lambda_j\, u_j u_j^\top,
# \qquad \lambda_1 \ge \dots \ge \lambda_D \ge 0,
# $$ (def-covariance)
#
# for their covariance with its eigenvalues $\lambda_j$ and orthonormal eigenvectors $u_j$. The problem then has an answer in closed form
# {cite:p}`bourlard1988,baldi1989`.
#
# :::{prf:theorem} Linear autoencoders
# :label: thm-pca
# Among all affine encoders and decoders with a $d$-dimensional code, the least mean squared reconstruction error is
#
# $$
# \min_{\theta, \phi} \mathcal{L} = \sum_{j > d} \lambda_j .
# $$ (eq-pca-loss)
#
# It is reached by $g(x) = U^\top (x - \bar{x})$ and $f(z) = U z + \bar{x}$ with $U = (u_1, \dots, u_d)$, the {term}`principal component analysis` of the data.
# :::
#
# :::{dropdown} Proof
# Fix the decoder. Its outputs lie in an affine subspace of dimension at most $d$, and the best reconstruction of $x$ in it is the orthogonal projection. So we look for
# the best subspace. By {eq}`eq-mean-minimizes` it should pass through $\bar{x}$. Let $V$ be a $D \times d$ matrix with orthonormal columns that span its directions. The error is
#
# $$
# \frac1N \sum_i \lVert (I - V V^\top)(x_i - \bar{x}) \rVert^2 = \operatorname{tr} S - \operatorname{tr}(V^\top S V),
# $$
#
# and the second term is $\sum_j \lambda_j a_j$ with $a_j = \lVert V^\top u_j \rVert^2$. These weights lie in $[0, 1]$ and add up to $d$. The sum is largest if the
# weights sit on the $d$ largest eigenvalues, which $V = U$ achieves. What remains is $\sum_{j > d} \lambda_j$. $\square$
# :::
#
# We check the theorem on the data it is about. The left side runs pictures through encoder and decoder; the right side never touches a picture, only eigenvalues.

# %% tags=["nbval-check-output"]
x = train.images[:10_000].flatten(1).double()
eigenvalues = torch.linalg.eigvalsh(torch.cov(x.T, correction=0)).flip(0)

pca = autoencoder.pca_autoencoder(x, latent_dim=16)
loss = autoencoder.reconstruction_loss(pca, x).mean()
verify(
    "eq-pca-loss",
    loss,
    eigenvalues[16:].sum(),
    rejects={"eigenvalues kept": eigenvalues[:16].sum()},
)

# %% [markdown]
# That PCA *attains* the value does not show that nothing is lower. So we also let an optimizer search. It knows nothing of eigenvectors: it starts from random weights and
# follows the gradient of the error, on digits shrunk to 4 × 4 pixels to keep it quick. It ends at the same value, to eight digits.

# %% tags=["nbval-check-output"]
small = torch.nn.functional.avg_pool2d(train.images[:300], 7).flatten(1).double()
small = (small - small.mean()) / small.std()
linear = autoencoder.linear_autoencoder(16, 2).double()
found = minimize(
    lambda: autoencoder.reconstruction_loss(linear, small).mean(),
    linear.parameters(),
    max_steps=800,
)

expected = torch.linalg.eigvalsh(torch.cov(small.T, correction=0))[:-2].sum()
verify("eq-pca-loss", found, expected, exact.within(1e-8))

# %% [markdown]
# Did it find the same *weights*? No, and it could not have. If $W$ and $V$ are the weight matrices of encoder and decoder (leave out the offsets), then for every invertible $d \times d$ matrix $R$
#
# $$
# (V R^{-1})(R\, W)\, x = V W x .
# $$ (eq-rotation)
#
# The codes may be rotated, stretched and sheared at will. Only the subspace is determined, which we check by comparing the two projections on it.

# %% tags=["nbval-check-output"]
W, V = linear.encoder.weight.detach(), linear.decoder.weight.detach()
R = torch.randn(2, 2, dtype=torch.double)
verify(
    "eq-rotation",
    (V @ R.inverse()) @ (R @ W) @ small.T,
    V @ W @ small.T,
    exact.within(1e-9),
)

U = autoencoder.pca_autoencoder(small, 2).decoder.weight.detach()
print(
    "same subspace:",
    torch.allclose(V @ W, U @ U.T, atol=1e-3),
    "| same weights:",
    torch.allclose(V, U, atol=0.1),
)

# %% [markdown]
# Two lessons stay with us. A linear autoencoder is nothing new: whatever networks add must come from being *non*-linear. And a reconstruction loss alone
# does not say what a single coordinate of the code means. In chapter 5, on Gaussian toy examples, a probabilistic version of this very model returns as the first VAE that can be solved by hand.
#
# *Sources: A01, B05.*

# %% [markdown]
# (sec-experiment)=
# ## Real digits, sixteen numbers
#
# Early autoencoders were one linear layer, then one layer with a sigmoid, later deep stacks that had to be pretrained layer by layer
# {cite:p}`hinton2006`, and today convolutional networks with rectified or smooth activations. Here are two of these generations:
#
# - **Fully connected**: two layers each way, $784 \to 256 \to 16 \to 256 \to 784$. This is the setting of the lecture we follow: two-layer networks, a
#   16-dimensional latent space, ten epochs.
# - **Convolutional**: four strided convolutions down to $2 \times 2$, a linear layer to the same 16 numbers, and four transposed convolutions back up.

# %% tags=["nbval-check-output"]
show(autoencoder.mlp_autoencoder)
show(autoencoder.conv_autoencoder)
conv = autoencoder.conv_autoencoder(latent_dim=16)
for name, network in {"fully connected": model, "convolutional": conv}.items():
    print(f"{name}: {sum(p.numel() for p in network.parameters()):,} weights")

# %% [markdown]
# Training takes no more than a loss, batches and an optimizer. `fit` is the loop that every model of this book uses. It is a generator: it yields the loss of each step, and the caller decides what to do with it.

# %% tags=["nbval-check-output"]
show(fit, docstring=False)

# %% [markdown]
# Here it trains a new network, for one epoch on this page and for ten at full scale ({doc}`/book/running` explains the two scales). The networks of this chapter are so small that it takes seconds on a processor, and no GPU is used.

# %%
fresh = autoencoder.mlp_autoencoder(latent_dim=16)
batches = data.Batches(train.images, batch_size=128, num_epochs=pick(small=1, full=10))
optimizer = torch.optim.Adam(fresh.parameters(), lr=1e-3, fused=True)
loss = autoencoder.reconstruction_loss
losses = [step.loss for step in fit(fresh, loss, batches, optimizer, progress="train")]

# %% mystnb={"image": {"alt": "The training loss falls steeply in the first hundred steps, crosses the level of PCA, and goes on falling slowly."}, "figure": {"caption": "One epoch of training. The dashed line is the least error that any linear autoencoder with 16 numbers can reach on the training data.", "name": "fig-training"}}
least = eigenvalues[16:].sum().item()
plots.curves(
    {
        "network, 16 numbers": losses,
        "best linear autoencoder": ([1, len(losses)], [least, least]),
    },
    x_label="training step",
    y_label="squared error per picture",
    log_y=True,
)

# %% [markdown]
# After ten epochs the order is clear. All four methods describe a test picture by 16 numbers and are compared on 10,000 pictures none of them has seen. The
# error is summed over the 784 pixels.

# %%
pca = autoencoder.pca_autoencoder(train.images.flatten(1), 16)
_ = load_weights("conv-ae-mnist", conv)
with torch.no_grad():
    error = {
        "16 slowest cosines": loss(autoencoder.DctAutoencoder(28, 4), test.images),
        "16 principal components": loss(pca, test.images.flatten(1)),
        "convolutional": loss(conv, test.images),
        "fully connected": loss(model, test.images),
    }
for name, values in error.items():
    print(f"{name:24s} {values.mean():6.2f} +- {values.std() / len(values) ** 0.5:.2f}")

# %% tags=["nbval-check-output", "mnist"]
means = [values.mean().item() for values in error.values()]
print("learning a linear code beats fixed cosines:", means[1] < means[0])
print("both networks beat every linear code:", max(means[2:]) < means[1])

# %% [markdown]
# Bending the map buys a lot at the same number of dimensions. One caution: it is often said that the code *must* have fewer dimensions than the data, or the network could copy its input. For
# the plain loss {eq}`def-reconstruction-loss` that is right. The variants in {ref}`the next section but one <sec-variants>` learn useful codes without a bottleneck, because they make copying fail.
#
# *Sources: A01, B05, A07.*

# %% [markdown]
# (sec-uses)=
# ## What the codes are good for
#
# **Learning with few labels.** Train the autoencoder on all pictures, throw away the decoder, and let a small classifier work on the codes. The more costly labels are, the more this should help. The cell
# fits the same linear classifier (logistic regression) on the raw pixels and on the codes, for a growing number of labeled pictures. The bands are two standard errors of the test accuracy.

# %%
sizes = [30, 100, 300, 1000]
with torch.no_grad():
    inputs = {
        name: (f(train.images[:1000]), f(test.images))
        for name, f in [("codes", model.encode), ("pixels", torch.nn.Flatten())]
    }
probes = {
    name: [metrics.linear_probe(a[:n], train.labels[:n], b, test.labels) for n in sizes]
    for name, (a, b) in inputs.items()
}

# %% mystnb={"image": {"alt": "Test accuracy against the number of labels: the curve of the codes lies above that of the pixels, by about ten points at 30 labels, and the two approach each other at 1,000."}, "figure": {"caption": "A linear classifier on 16 learned numbers against the same classifier on 784 pixels.", "name": "fig-labels"}}
plots.curves(
    {
        f"on {name}": (sizes, [p.value for p in values])
        for name, values in probes.items()
    },
    bands={
        f"on {name}": [
            [p.value + s * p.standard_error for p in values] for s in (-2, 2)
        ]
        for name, values in probes.items()
    },
    x_label="labeled training pictures",
    y_label="test accuracy",
    log_x=True,
)

# %% [markdown]
# With thirty labels, three per class, the codes are far ahead in {numref}`fig-labels`. With a thousand the pixels have nearly caught up.

# %% tags=["nbval-check-output", "mnist"]
gains = [
    a.value - b.value for a, b in zip(probes["codes"], probes["pixels"], strict=True)
]
noise = [
    (a.standard_error**2 + b.standard_error**2) ** 0.5
    for a, b in zip(probes["codes"], probes["pixels"], strict=True)
]
print(
    "codes win with 30 labels by more than 5 standard errors:", gains[0] > 5 * noise[0]
)
print("the gain shrinks as labels grow:", gains[-1] < gains[0])

# %% [markdown]
# One can go further and *fine-tune*: put a new linear layer on the encoder and train both for the task, with 1,000 labels. The control is the same network from random weights, with the same labels, batches and number of steps. There are two candidates:
# the encoder we know, and one trained to undo noise, which {ref}`a later section <sec-denoising>` introduces.


# %%
def classification_loss(network, x, y):
    return torch.nn.functional.cross_entropy(network(x), y, reduction="none")


def fine_tuned_hits(encoder):
    torch.manual_seed(1)
    network = torch.nn.Sequential(encoder, torch.nn.Linear(16, 10))
    labeled = train.images[:1000], train.labels[:1000]
    batches = data.Batches(*labeled, batch_size=64, num_epochs=15)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
    for _ in fit(network, classification_loss, batches, optimizer):
        pass
    with torch.no_grad():
        return network(test.images).argmax(1) == test.labels


# %% [markdown]
# Which start gives the best classifier?

# %%
names = ("random weights", "plain", "denoising")
starts = {name: autoencoder.mlp_autoencoder(latent_dim=16) for name in names}
_ = load_weights("ae-mnist", starts["plain"])
_ = load_weights("dae-mnist", starts["denoising"])
hits = {name: fine_tuned_hits(start.encoder) for name, start in starts.items()}
for name, values in hits.items():
    accuracy = metrics.proportion(values)
    print(f"{name:15s} {accuracy.value:.3f} +- {accuracy.standard_error:.3f}")

# %% [markdown]
# The networks saw the same labels and are tested on the same pictures, so we compare them picture by picture. The denoiser's encoder is a better start than random weights. The plain one is hardly better, if at all: an autoencoder may pack
# its 16 numbers in whatever way its own decoder understands, and nothing forces the packing to suit another task.

# %% tags=["nbval-check-output", "mnist"]
difference = hits["denoising"].double() - hits["random weights"].double()
standard_error = difference.std() / len(difference) ** 0.5
print(
    "denoising pretraining helps, by more than 3 standard errors:",
    bool(difference.mean() > 3 * standard_error),
)

# %% [markdown]
# **Finding what does not belong.** A network that has learned to reconstruct digits should fail on everything else, so the error can serve as an alarm. To test this we hide one class during training and ask whether its
# pictures stand out afterwards. The measure is the {term}`AUROC`,
#
# $$
# \operatorname{AUROC} = \Pr(\text{error of a strange picture} > \text{error of a normal one}),
# $$ (def-auroc)
#
# which is 1 for a perfect alarm and ½ for a useless one. First the zeros are hidden, then the ones.


# %%
def detection(hidden):
    """Train without one class; AUROC of the error for telling that class apart."""
    torch.manual_seed(0)
    blind = autoencoder.mlp_autoencoder(latent_dim=16)
    batches = data.Batches(train.images[train.labels != hidden], batch_size=128)
    optimizer = torch.optim.Adam(blind.parameters(), fused=True)
    for _ in fit(blind, loss, batches, optimizer):
        pass
    with torch.no_grad():
        errors = loss(blind, test.images)
    return metrics.auroc(errors[test.labels != hidden], errors[test.labels == hidden])


auroc = {hidden: detection(hidden) for hidden in (0, 1)}
for hidden, value in auroc.items():
    print(f"without {hidden} in training: AUROC {value:.2f}")

# %% tags=["nbval-check-output", "mnist"]
print("a hidden 0 is found:", auroc[0] > 0.8)
print("a hidden 1 looks more normal than the other digits:", auroc[1] < 0.5)

# %% [markdown]
# The zeros stand out. The ones do the opposite: a network that has never seen a 1 reconstructs a straight stroke *better* than an average digit, because a stroke is a part of the others and has few bright pixels. The error
# measures how hard a picture is as much as how strange it is. The extreme case is a picture with nothing in it.

# %% tags=["nbval-check-output", "mnist"]
with torch.no_grad():
    errors = loss(model, test.images)
    blank = autoencoder.reconstruction_loss(model, torch.zeros(1, 1, 28, 28))
print(
    "a blank picture has a smaller error than 95 % of the test digits:",
    bool(blank < errors.quantile(0.05)),
)

# %% [markdown]
# A blank page is among the least suspicious pictures of all, although it is no digit. To do better we would need to know how *probable* a picture is. The autoencoder has no answer to this question, and it will come up again.
#
# *Sources: A02, B06.*

# %% [markdown]
# (sec-variants)=
# ## Three ways to make the codes robust
#
# Nothing in {eq}`def-reconstruction-loss` asks that similar pictures get similar codes, or that a code between two codes decodes to something sensible. Three variants ask for it. All of them use a picture of the data as a curved surface, a
# {term}`manifold`: pictures are on it, small disturbances lead off it, and a good autoencoder leads back.
#
# (sec-denoising)=
# ### Denoising
#
# Disturb the input, but demand the clean picture {cite:p}`vincent2008`:
#
# $$
# \mathcal{L}_\text{DAE} = \mathbb{E}_{x} \, \mathbb{E}_{\varepsilon \sim \mathcal{N}(0, \sigma^2 I)} \lVert x - f(g(x + \varepsilon)) \rVert^2 .
# $$ (def-denoising-loss)
#
# Copying the input is no longer a solution, even without a bottleneck. What is? In the linear case we can say exactly. For centered data with covariance $S$, the loss of one linear map $A$ is
#
# $$
# \mathbb{E} \lVert x - A(x + \varepsilon) \rVert^2 = \operatorname{tr}\big( (I - A)\, S\, (I - A)^\top \big) + \sigma^2 \operatorname{tr}(A A^\top),
# $$ (eq-linear-dae)
#
# and the best map shrinks each principal direction by its own factor,
#
# $$
# A^\star = S (S + \sigma^2 I)^{-1} = \sum_j \frac{\lambda_j}{\lambda_j + \sigma^2}\, u_j u_j^\top .
# $$ (eq-linear-dae-optimum)
#
# :::{dropdown} Proof
# $x - A(x + \varepsilon) = (I - A) x - A \varepsilon$, and the two parts are independent with mean zero. Their mean squared norms are the two traces. The gradient of {eq}`eq-linear-dae` in $A$ is
# $-2 (I - A) S + 2 \sigma^2 A$. It vanishes exactly for $A (S + \sigma^2 I) = S$. The loss is convex in $A$, so this is the minimum. $\square$
# :::
#
# The first claim is checked by drawing noise. For the second, an optimizer that knows only the loss goes looking for the best map.

# %% tags=["nbval-check-output"]
D, sigma = 4, 0.7
root = torch.randn(D, D, dtype=torch.double)
S, A = root @ root.T, torch.randn(D, D, dtype=torch.double)
I = torch.eye(D, dtype=torch.double)


def linear_dae_loss(A):
    return ((I - A) @ S @ (I - A).T).trace() + sigma**2 * (A @ A.T).trace()


x = torch.randn(200_000, D, dtype=torch.double) @ root.T
noise = sigma * torch.randn(200_000, D, dtype=torch.double)
samples = (x - (x + noise) @ A.T).square().sum(1)
forgotten = {"noise forgotten": linear_dae_loss(A) - sigma**2 * A.square().sum()}
verify("eq-linear-dae", samples, linear_dae_loss(A), monte_carlo, rejects=forgotten)

# %% tags=["nbval-check-output"]
found = torch.zeros(D, D, dtype=torch.double, requires_grad=True)
_ = minimize(lambda: linear_dae_loss(found), [found])
best, wrong = (S @ (S + variance * I).inverse() for variance in (sigma**2, sigma))

rule, misprint = exact.within(1e-6), {"sigma not squared": wrong}
verify("eq-linear-dae-optimum", found, best, rule, rejects=misprint)

# %% [markdown]
# Directions in which the data vary much pass, directions of small variance are taken to be noise. The general case is the deepest result of this chapter. Let $\tilde{x} = x + \varepsilon$ be the noisy observation and $p_\sigma$ its density.
#
# :::{prf:theorem} A denoiser knows the score
# :label: thm-score
# The function $r$ with the least denoising loss {eq}`def-denoising-loss` is the posterior mean $r(\tilde{x}) = \mathbb{E}[x \mid \tilde{x}]$, and
#
# $$
# \mathbb{E}[x \mid \tilde{x}] - \tilde{x} = \sigma^2 \, \nabla_{\tilde{x}} \log p_\sigma(\tilde{x}) .
# $$ (eq-score)
# :::
#
# :::{dropdown} Proof
# For each value of $\tilde{x}$, {eq}`eq-mean-minimizes` under the law of $x$ given $\tilde{x}$ says that the conditional mean is the best guess. For the second part, write
# $p_\sigma(\tilde{x}) = \int p(x)\, \mathcal{N}(\tilde{x};\, x, \sigma^2 I)\, \mathrm{d}x$ and differentiate under the integral. The gradient of the normal density is $\mathcal{N} \cdot (x - \tilde{x}) / \sigma^2$, so
#
# $$
# \nabla p_\sigma(\tilde{x}) = \frac{1}{\sigma^2} \int (x - \tilde{x})\, p(x)\, \mathcal{N}(\tilde{x};\, x, \sigma^2 I)\, \mathrm{d}x
# = \frac{p_\sigma(\tilde{x})}{\sigma^2} \big( \mathbb{E}[x \mid \tilde{x}] - \tilde{x} \big).
# $$
#
# Divide by $p_\sigma(\tilde{x})$. $\square$
# :::
#
# The gradient of a log-density is called its {term}`score`. So the arrow from a noisy point to its reconstruction points uphill, to where data are more likely, although no density was ever computed
# {cite:p}`vincent2011,alain2014`. We check it on a manifold that can be drawn: points spread evenly on a circle of radius 1 in the plane. Conditioning gives the denoiser in closed form,
#
# $$
# \mathbb{E}[x \mid \tilde{x}] = \frac{I_1(\rho)}{I_0(\rho)} \, \frac{\tilde{x}}{\lVert \tilde{x} \rVert}, \qquad \rho = \frac{\lVert \tilde{x} \rVert}{\sigma^2},
# $$ (eq-circle-denoiser)
#
# with the modified Bessel functions $I_0$ and $I_1$.
#
# :::{dropdown} Proof
# The posterior density of the angle $\alpha$ between $x$ and $\tilde{x}$ is proportional to $\exp(-\lVert x - \tilde{x} \rVert^2 / 2\sigma^2)$, hence to $\exp(\rho \cos \alpha)$. By symmetry the posterior mean points along $\tilde{x}$, and its length is
# $\int_0^{2\pi} \cos \alpha \, e^{\rho \cos \alpha} \mathrm{d}\alpha \,/ \int_0^{2\pi} e^{\rho \cos \alpha} \mathrm{d}\alpha$, which are $2\pi I_1(\rho)$ and $2\pi I_0(\rho)$. $\square$
# :::
#
# The cell integrates over the circle numerically, once for the posterior mean and once for $\log p_\sigma$, which it differentiates automatically.

# %% tags=["nbval-check-output"]
sigma = 0.3
angle = torch.arange(720, dtype=torch.double) * (2 * torch.pi / 720)
circle = torch.stack([angle.cos(), angle.sin()], 1)
x_tilde = (1.5 * torch.randn(50, 2, dtype=torch.double)).requires_grad_()

# For periodic functions, equal steps integrate to machine precision.
log_weight = -torch.cdist(x_tilde, circle).square() / (2 * sigma**2)
posterior_mean = log_weight.softmax(1) @ circle
(score,) = torch.autograd.grad(log_weight.logsumexp(1).sum(), x_tilde)

residual, wrong = posterior_mean - x_tilde, {"sigma not squared": sigma * score}
verify("eq-score", residual, sigma**2 * score, quadrature, rejects=wrong)

# %% [markdown]
# The same posterior mean, by the closed form:


# %% tags=["nbval-check-output"]
def circle_denoiser(x_tilde):
    radius = x_tilde.norm(dim=1, keepdim=True)
    rho = radius / sigma**2
    return torch.special.i1e(rho) / torch.special.i0e(rho) * x_tilde / radius


verify("eq-circle-denoiser", circle_denoiser(x_tilde), posterior_mean, quadrature)

# %% [markdown]
# Now a network that is told none of this. It sees points of the circle, disturbed by noise, and is asked to undo the noise. It has no bottleneck at all: two numbers go in, 64 in the middle, two come out.

# %%
from companion.networks import mlp

points = circle.float()[torch.randint(720, (40_000,))]
denoiser = mlp([2, 64, 64, 2], activation=torch.nn.SiLU)
batches = data.Batches(points, batch_size=256, num_epochs=pick(small=10, full=40))
optimizer = torch.optim.Adam(denoiser.parameters(), lr=1e-2, fused=True)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(batches))
for _ in fit(
    denoiser, partial(autoencoder.denoising_loss, noise_std=sigma), batches, optimizer
):
    schedule.step()


# %% mystnb={"image": {"alt": "Arrows in the plane point from everywhere to a ring where the density is high, from inside and from outside, and are shortest on it."}, "figure": {"caption": "What the trained denoiser does to a point: the arrows lead to its reconstruction. The shading is the exact density of the noisy data. The network never saw it, yet its arrows point uphill: they are the score, times the variance of the noise.", "name": "fig-circle"}}
def log_p_sigma(x):
    log_weight = -torch.cdist(x.double(), circle).square() / (2 * sigma**2)
    return log_weight.logsumexp(1) - torch.tensor(720 * 2 * torch.pi * sigma**2).log()


plots.vector_field(
    lambda x: (denoiser(x.float()) - x).detach(),
    (-1.8, 1.8, -1.8, 1.8),
    log_prob=log_p_sigma,
)

# %% [markdown]
# The arrows look right. Since {eq}`eq-circle-denoiser` is the best possible denoiser, we can also measure how far the network is from it, on average over noisy points.

# %% tags=["nbval-check-output"]
noisy = points[:20_000] + sigma * torch.randn(20_000, 2)
with torch.no_grad():
    excess = (denoiser(noisy) - circle_denoiser(noisy)).square().sum(1).mean()
print("mean squared distance from the best denoiser below 0.002:", bool(excess < 2e-3))

# %% [markdown]
# Remember {numref}`fig-circle`. Take noise levels from very large to very small and follow the arrows of each, and you have the idea of a diffusion model. It is a denoising autoencoder that grew up.
#
# ### Contracting
#
# The second variant asks directly for codes that change little when the input changes a little. It penalizes the {term}`Jacobian` of the encoder, the $d \times D$ matrix of its derivatives, in the squared Frobenius norm {cite:p}`rifai2011`:
#
# $$
# \mathcal{L}_\text{CAE} = \mathbb{E}_x \Big[ \lVert x - f(g(x)) \rVert^2 + \lambda \Big\lVert \frac{\partial g(x)}{\partial x} \Big\rVert_F^2 \Big] .
# $$ (def-contractive-loss)
#
# The derivative is in the input $x$. One of our sources prints a gradient in the weights $\phi$ instead, which is another quantity altogether. For one layer $g(x) = \tanh(W x)$ with rows $w_i$ of $W$,
#
# $$
# \Big\lVert \frac{\partial g}{\partial x} \Big\rVert_F^2 = \sum_{i} (1 - g_i(x)^2)^2 \, \lVert w_i \rVert^2 .
# $$ (eq-tanh-jacobian)
#
# :::{dropdown} Proof
# $\partial g_i / \partial x_j = (1 - g_i^2)\, W_{ij}$. Square it and sum over $j$, then over $i$. $\square$
# :::

# %% tags=["nbval-check-output"]
W = torch.randn(3, 5, dtype=torch.double)
x = torch.randn(5, dtype=torch.double)
g = torch.tanh(W @ x)

jacobian = torch.autograd.functional.jacobian(lambda x: torch.tanh(W @ x), x)
in_weights = torch.autograd.functional.jacobian(lambda W: torch.tanh(W @ x), W)
closed_form = ((1 - g**2) ** 2 * W.square().sum(1)).sum()
verify(
    "eq-tanh-jacobian",
    jacobian.square().sum(),
    closed_form,
    autograd,
    rejects={"E4": in_weights.square().sum()},
)

# %% [markdown]
# For a deep encoder there is no such formula, and the exact norm takes one backward pass per coordinate of the code. There is a cheaper way that is right on average. For a random vector $v$ with covariance $I$ and any matrix $J$,
#
# $$
# \mathbb{E}_v \lVert v^\top J \rVert^2 = \lVert J \rVert_F^2 ,
# $$ (eq-random-projection)
#
# because $\mathbb{E}\, v^\top J J^\top v = \operatorname{tr}(J J^\top\, \mathbb{E}\, v v^\top)$. One backward pass suffices, and the noise averages out over the batch.

# %% tags=["nbval-check-output"]
v = torch.randn(200_000, 3, dtype=torch.double)
norm = jacobian.square().sum()
verify(
    "eq-random-projection",
    (v @ jacobian).square().sum(1),
    norm,
    monte_carlo,
    rejects={"norm not squared": norm.sqrt()},
)
show(autoencoder.contractive_loss)

# %% [markdown]
# Denoising and contracting are relatives. Add noise to the input of a *linear* map $A$ and the loss grows by a penalty on its Jacobian, which is $A$ itself:
#
# $$
# \mathbb{E}_\varepsilon \lVert x - A (x + \varepsilon) \rVert^2 = \lVert x - A x \rVert^2 + \sigma^2 \lVert A \rVert_F^2 .
# $$ (eq-noise-is-penalty)
#
# For smooth maps and little noise this holds to first order in $\sigma^2$, with one difference: noise penalizes the whole round trip $f \circ g$, and {eq}`def-contractive-loss` only the way in.

# %% tags=["nbval-check-output"]
A, x, sigma = (
    torch.randn(4, 4, dtype=torch.double),
    torch.randn(4, dtype=torch.double),
    0.7,
)
noisy = x + sigma * torch.randn(200_000, 4, dtype=torch.double)
clean, penalty = (x - A @ x).square().sum(), sigma**2 * A.square().sum()
samples = (x - noisy @ A.T).square().sum(1)
verify(
    "eq-noise-is-penalty",
    samples,
    clean + penalty,
    monte_carlo,
    rejects={"no penalty": clean},
)

# %% [markdown]
# ### Adversarially robust
#
# The third variant does not disturb at random but in the worst way within a ball {cite:p}`madry2018`:
#
# $$
# \mathcal{L}_\text{robust} = \mathbb{E}_x \max_{\lVert \delta \rVert \le r} \lVert x - f(g(x + \delta)) \rVert^2 .
# $$ (def-robust-loss)
#
# The inner maximum is found by a few steps of gradient *ascent*, each followed by a projection to the ball's surface. Where the answer is known, we can see how well this works: for a linear map $A$ with largest singular value $s_{\max}$, at $x = 0$,
#
# $$
# \max_{\lVert \delta \rVert \le r} \lVert A \delta \rVert^2 = r^2 \, s_{\max}(A)^2 .
# $$ (eq-robust-linear)

# %% tags=["nbval-check-output"]
linear = torch.nn.Linear(6, 6, bias=False, dtype=torch.double)
zero = torch.zeros(1, 6, dtype=torch.double)
delta = autoencoder.worst_perturbation(linear, zero, radius=0.5, num_steps=2000)
found = linear(delta).square().sum()

s = torch.linalg.svdvals(linear.weight.detach())
verify(
    "eq-robust-linear",
    found,
    0.25 * s[0] ** 2,
    exact.within(1e-6),
    rejects={"Frobenius norm": 0.25 * s.square().sum()},
)
show(autoencoder.worst_perturbation)

# %% [markdown]
# ### Side by side on digits
#
# Four networks of one shape, trained for ten epochs each, that differ only in the loss. We measure the error on clean test pictures, on noisy ones, and on pictures that an attacker changed. The last two columns say how strongly the code reacts to the
# input: the squared norm of the Jacobian, and the same divided by the variance of the codes.

# %%
names = {
    "plain": "ae-mnist",
    "denoising": "dae-mnist",
    "contracting": "cae-mnist",
    "robust": "robust-ae-mnist",
}
variants = {name: autoencoder.mlp_autoencoder(latent_dim=16) for name in names}
_ = [load_weights(file, variants[name]) for name, file in names.items()]

# %% [markdown]
# The next cell measures. Look down each column for its smallest number.

# %%
x = test.images[:1000]
noisy = x + 0.5 * torch.randn_like(x)


def measure(model):
    attacked = x + autoencoder.worst_perturbation(model, x, radius=2.0, num_steps=10)
    with torch.no_grad():
        decoded = [model(inputs) for inputs in (x, noisy, attacked)]
        variance = model.encode(x).var(0).sum().item()
    errors = [autoencoder.squared_error(x_hat, x).mean().item() for x_hat in decoded]
    jacobian = autoencoder.jacobian_norm(model, x[:200]).mean().item()
    return dict(zip(columns, [*errors, jacobian, jacobian / variance], strict=True))


columns = ["clean", "noisy", "attacked", "Jacobian", "relative"]
table = {name: measure(model) for name, model in variants.items()}

# %%
print(f"{'trained as':12s}" + "".join(f"{column:>10s}" for column in columns))
for name, row in table.items():
    print(f"{name:12s}" + "".join(f"{value:10.2f}" for value in row.values()))

# %% tags=["nbval-check-output", "mnist"]
ranked = {c: sorted(table, key=lambda name: table[name][c]) for c in columns}
for column in ("noisy", "attacked", "Jacobian"):
    print(f"lowest in the column {column}: {ranked[column][0]}")
print(f"highest in the column relative: {ranked['relative'][-1]}")

# %% [markdown]
# Each variant is best at what it was trained for, at the price of a somewhat larger error on clean pictures. The last column holds a surprise: relative to the size of its codes, the contracting network is *not* the least sensitive. Its penalty has a loophole. An encoder can
# make its Jacobian small by making all codes small, and the decoder undoes that by larger weights. The original paper closes the loophole by using one weight matrix for both ways. Noise and attacks leave no such way out, since they are judged at the end of the round trip.
#
# *Sources: A03, A04, A05, A06.*

# %% [markdown]
# (sec-interpolation)=
# ## Walking from a 3 to an 8
#
# If the latent space is smooth, the points between two codes should decode to pictures between two pictures. Take the code of a 3, the code of an 8, and go from one to the other in a straight line. This is the experiment of the lecture, with its settings: two-layer
# networks, 16 latent dimensions, ten epochs. The lecture compares two variants; we add the other two.

# %%
start, end = (int((test.labels == digit).nonzero()[0]) for digit in (3, 8))


def walk(model, steps, start=start, end=end):
    with torch.no_grad():
        z = model.encode(test.images[[start, end]])
        return model.decode(
            torch.lerp(z[:1], z[1:], torch.linspace(0, 1, steps)[:, None])
        )


# %% mystnb={"image": {"alt": "Four rows of eleven pictures that change in small steps from an upright 3 to a slanted 8. In the middle each row shows a figure that is a bit of both, and blurred."}, "figure": {"caption": "Straight lines in four latent spaces, from a 3 to an 8.", "name": "fig-walk"}}
plots.image_rows({name: walk(model, 11) for name, model in variants.items()})

# %% [markdown]
# All rows of {numref}`fig-walk` get there by small steps, and none breaks down on the way. Here are the same walks, one step at a time:

# %%
walks = {name: walk(model, 21) for name, model in variants.items()}


def pictures_on_the_way(i):
    now = torch.stack([steps[i] for steps in walks.values()])
    return plots.image_grid(now, columns=4, titles=list(walks), tile=1.5)


Slider.over(
    range(21),
    pictures_on_the_way,
    description="share of the way",
    label=lambda i: f"{i / 20:.2f}",
    alt=lambda i: f"What the four networks decode {i / 20:.0%} of the way to the 8",
    start=10,
)

# %% [markdown]
# Which walk is the smoothest? Eyes are easily persuaded, so here is a number. Follow the decoded pictures along the way and add up how far each is from the one before. Divide by the distance between the two ends,
#
# $$
# \text{path ratio} = \frac{\sum_{i} \lVert \hat{x}_{i+1} - \hat{x}_i \rVert}{\lVert \hat{x}_\text{end} - \hat{x}_\text{start} \rVert} \ \ge\ 1 .
# $$ (def-path-ratio)
#
# A ratio of 1 is a direct way; a large one means that the pictures wander off and come back. We average over the first hundred threes and eights of the test set.

# %%
threes, eights = ((test.labels == d).nonzero()[:100, 0].tolist() for d in (3, 8))
pairs = list(zip(threes, eights, strict=False))


def path_ratios(model):
    walks = [walk(model, 33, a, b) for a, b in pairs]
    return torch.tensor([metrics.path_length_ratio(pictures) for pictures in walks])


ratios = {name: path_ratios(model) for name, model in variants.items()}
for name, values in ratios.items():
    print(f"{name:12s} {values.mean():.3f} +- {values.std() / len(values) ** 0.5:.3f}")

# %% tags=["nbval-check-output", "mnist"]
for name in ("denoising", "contracting", "robust"):
    gain = ratios["plain"] - ratios[name]
    clear = gain.mean() > 5 * gain.std() / len(gain) ** 0.5
    print(f"{name} walks more directly, by more than 5 standard errors: {bool(clear)}")

# %% [markdown]
# All three variants take a straighter way than the plain network, as they were meant to. Smoother does not mean better in every respect, though: the most direct network is also the one with the largest error on clean pictures.
#
# *Sources: A06, A07.*

# %% [markdown]
# (sec-no-sampling)=
# ## Why it cannot create
#
# Here is the tempting recipe. Train an autoencoder, forget the encoder, feed the decoder random numbers. The third row of {numref}`fig-opening` shows what comes out. The trouble is simple to say: *from which law should we draw the numbers?* The decoder was only ever
# asked to do well on codes of real pictures, and nobody told these codes how to be distributed.
#
# The next figure shows the codes of 2,000 test digits, seen along their two main directions, on the left with the digit they stand for, on the right beside as many draws from the standard normal law $\mathcal{N}(0, I)$.

# %% mystnb={"image": {"alt": "Left, a wide and uneven cloud of codes in ten colors, with clusters and gaps. Right, the same cloud in one color with a small ball of standard normal draws that covers only a part of it."}, "figure": {"caption": "Codes of test digits along their two main directions: by digit, and beside draws from $\\mathcal{N}(0, I)$.", "name": "fig-codes"}}
with torch.no_grad():
    codes = model.encode(test.images)
directions = torch.linalg.eigh(torch.cov(codes.T)).eigenvectors[:, -2:].flip(1)
normal = torch.randn(2000, 16)

flat = codes[:2000] @ directions
fig, (left, right) = plots.figure(columns=2, height=2.7)
words = {"x_label": "first main direction", "y_label": "second main direction"}
_ = plots.scatter(flat, test.labels[:2000], **words, axes=left)
both, sources = (
    torch.cat([flat, normal @ directions]),
    ["codes"] * len(flat) + ["N(0, I)"] * len(normal),
)
plots.scatter(both, sources, **words, axes=right)

# %% [markdown]
# The two clouds have little in common. To say so with a known risk of error we use a two-sample test. The {term}`energy distance` of two laws {cite:p}`szekely2013`,
#
# $$
# \mathcal{E} = 2\, \mathbb{E}\lVert X - Y \rVert - \mathbb{E}\lVert X - X' \rVert - \mathbb{E}\lVert Y - Y' \rVert ,
# $$ (def-energy-distance)
#
# with $X, X'$ drawn from one and $Y, Y'$ from the other, is zero if the laws are equal and positive if they are not. On the line one can see why: with distribution functions $F$ and $G$,
#
# $$
# \mathcal{E} = 2 \int_{-\infty}^{\infty} \big( F(t) - G(t) \big)^2 \, \mathrm{d}t .
# $$ (eq-energy-cdf)
#
# We check this for two normal laws, where the left side is known from the folded normal law.


# %% tags=["nbval-check-output"]
def mean_distance(shift, variance):
    """E|U| for a normal U of the given mean and variance."""
    s, shift = torch.tensor(variance).double().sqrt(), torch.tensor(shift).double()
    return s * (2 / torch.pi) ** 0.5 * (
        -(shift**2) / (2 * s**2)
    ).exp() + shift * torch.erf(shift / (2**0.5 * s))


t = torch.linspace(-30, 30, 200_001, dtype=torch.double)
F, G = torch.special.ndtr(t), torch.special.ndtr((t - 1.0) / 2.0)  # N(0, 1) and N(1, 4)
energy = 2 * mean_distance(1.0, 5.0) - mean_distance(0.0, 2.0) - mean_distance(0.0, 8.0)
integral = torch.trapezoid((F - G) ** 2, t)
verify(
    "eq-energy-cdf", energy, 2 * integral, quadrature, rejects={"no factor 2": integral}
)

# %% [markdown]
# To judge a measured value we mix the two samples, deal them out again at random 200 times, and count how often chance does as well. We try three laws for the code: the standard normal, a normal with the mean and covariance of the real codes, and, as a control, a second set of
# real codes.

# %%
fitted = torch.distributions.MultivariateNormal(codes.mean(0), torch.cov(codes.T))
candidates = {
    "standard normal": normal[:800],
    "fitted normal": fitted.sample((800,)),
    "other real codes": codes[800:1600],
}
tests = {
    name: metrics.energy_test(sample, codes[:800])
    for name, sample in candidates.items()
}
for name, (distance, p_value, _) in tests.items():
    print(f"{name:17s} energy distance {distance:7.3f}   p = {p_value:.3f}")

# %% tags=["nbval-check-output", "mnist"]
for name, (_, p_value, _) in tests.items():
    print(f"{name}: {'rejected' if p_value < 0.01 else 'not rejected'} at 1 %")
distances = [result.statistic for result in tests.values()]
print("the fitted normal is nearer than the standard one:", distances[1] < distances[0])

# %% [markdown]
# And this is what the decoder makes of them:

# %% mystnb={"image": {"alt": "Three rows of decoded pictures: gray blots from the standard normal, distorted half-digits from the fitted normal, clean digits from real codes."}, "figure": {"caption": "What the decoder makes of codes from three laws.", "name": "fig-samples"}}
with torch.no_grad():
    rows = {name: model.decode(sample[:12]) for name, sample in candidates.items()}
plots.image_rows(rows)

# %% [markdown]
# A normal law that fits the mean and the covariance does better in {numref}`fig-samples`, and it still fails. It puts codes into the gaps between the clusters, where the decoder was never trained. The gaps can be measured: how far is a code from the nearest code of a real picture?

# %% tags=["nbval-check-output", "mnist"]
real = codes[1600:]
gap = {name: torch.cdist(z, real).min(1).values for name, z in candidates.items()}
fitted_gap, real_gap = gap["fitted normal"], gap["other real codes"]
print("farther from real codes than real codes are, in the mean:", end=" ")
error = (fitted_gap.var() / len(fitted_gap) + real_gap.var() / len(real_gap)).sqrt()
print(bool(fitted_gap.mean() - real_gap.mean() > 5 * error), "(by 5 standard errors)")

# %% [markdown]
# We could fit a richer law to the codes. That works to some degree, but it is a repair after the fact: the codes were not made to be sampled. There are three limits, and each one names a chapter to come.
#
# - **No law for the codes.** The cure is to decide on the law first and to *train the encoder towards it*. That is the variational autoencoder. To measure "towards" we need a distance between laws: the Kullback-Leibler divergence.
# - **No probability.** The blank picture of {ref}`the anomaly test <sec-uses>` shows that an error is no likelihood. The cure is a bound on $\log p(x)$, the ELBO.
# - **Only one step.** Theorem {prf:ref}`thm-score` says that a denoiser holds the score of the noisy data. One step leads to a blurred mean. Many small steps, with noise put back in between, lead to samples. That is diffusion.
#
# *Sources: A08, C01.*

# %% [markdown]
# (sec-ae-exercises)=
# ## Exercises
#
# Replace the three dots by your answer and run the cell. The check says *correct*, or gives a hint. Solutions are folded below each exercise, and they are executed like the rest of the book.

# %% tags=["nbval-check-output"]
from companion.exercises import autoencoders as exercises

# %% [markdown]
# ```{exercise-start} Kept energy
# :label: ex-kept-energy
# ```
# Write a function that takes pictures of shape (batch, 1, side, side) and returns, for each, the share of its energy that lies in the `keep` × `keep` slowest cosines.


# %% tags=["nbval-check-output"]
def kept_energy(x, keep):
    return ...


exercises.check_kept_energy(kept_energy)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-kept-energy
# :label: ex-kept-energy-solution
# :class: dropdown
# ```
# By {eq}`eq-parseval` the energy can be summed before or after the transform.


# %% tags=["nbval-check-output"]
def kept_energy(x, keep):
    C = autoencoder.dct_matrix(x.shape[-1]).to(x)
    energy = (C @ x @ C.T).square()
    return energy[..., :keep, :keep].sum((1, 2, 3)) / energy.sum((1, 2, 3))


exercises.check_kept_energy(kept_energy)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} Two best constants
# :label: ex-best-constant
# ```
# The data are 0, 0, 1, 7, 2. Which constant has the least mean *squared* error, and which has the least mean *absolute* error? Give both, in this order.

# %% tags=["nbval-check-output"]
answer = ...
exercises.check_best_constant(answer)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-best-constant
# :label: ex-best-constant-solution
# :class: dropdown
# ```
# The squared error is least at the mean, $10 / 5 = 2$. The absolute error is least at the median: sorted, the data are 0, 0, 1, 2, 7.

# %% tags=["nbval-check-output"]
numbers = torch.tensor([0.0, 0.0, 1.0, 7.0, 2.0])
exercises.check_best_constant(torch.stack([numbers.mean(), numbers.median()]))

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} The error of a projection
# :label: ex-projection
# ```
# Let $U$ have orthonormal columns. Express the mean squared error of $x \mapsto U U^\top x$ on centered data by the covariance $S$ alone, and write it as a function of $S$ and $U$.


# %% tags=["nbval-check-output"]
def projection_loss(S, U):
    return ...


exercises.check_projection_loss(projection_loss)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-projection
# :label: ex-projection-solution
# :class: dropdown
# ```
# The matrix $I - U U^\top$ is a projection, so its square is itself, and $\mathbb{E} \lVert (I - U U^\top) x \rVert^2 = \operatorname{tr}((I - U U^\top) S) = \operatorname{tr} S - \operatorname{tr}(U^\top S U)$.


# %% tags=["nbval-check-output"]
def projection_loss(S, U):
    return S.trace() - (U.T @ S @ U).trace()


exercises.check_projection_loss(projection_loss)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} Denoising a Gaussian
# :label: ex-gaussian-denoiser
# ```
# The data are $x \sim \mathcal{N}(m, \lambda)$ on the line, and we see $\tilde{x} = x + \varepsilon$ with noise of variance $\sigma^2$. Use {eq}`eq-score` to write the best denoiser, as a function of $\tilde{x}$, $m$, $\lambda$ and $\sigma^2$.


# %% tags=["nbval-check-output"]
def denoise(x_tilde, mean, var, noise_var):
    return ...


exercises.check_gaussian_denoiser(denoise)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-gaussian-denoiser
# :label: ex-gaussian-denoiser-solution
# :class: dropdown
# ```
# The noisy value has the law $\mathcal{N}(m, \lambda + \sigma^2)$, whose score is $-(\tilde{x} - m) / (\lambda + \sigma^2)$.


# %% tags=["nbval-check-output"]
def denoise(x_tilde, mean, var, noise_var):
    score = -(x_tilde - mean) / (var + noise_var)
    return x_tilde + noise_var * score


exercises.check_gaussian_denoiser(denoise)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} The penalty of a sigmoid layer
# :label: ex-sigmoid-jacobian
# ```
# Derive the counterpart of {eq}`eq-tanh-jacobian` for $g(x) = \operatorname{sigmoid}(W x)$, and compute it for a batch of inputs without automatic differentiation.


# %% tags=["nbval-check-output"]
def penalty(W, x):
    return ...


exercises.check_sigmoid_jacobian(penalty)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-sigmoid-jacobian
# :label: ex-sigmoid-jacobian-solution
# :class: dropdown
# ```
# The derivative of the sigmoid is $g (1 - g)$, so the penalty is $\sum_i g_i^2 (1 - g_i)^2 \lVert w_i \rVert^2$. It also vanishes where the units saturate.


# %% tags=["nbval-check-output"]
def penalty(W, x):
    g = torch.sigmoid(x @ W.T)
    return ((g * (1 - g)) ** 2 * W.square().sum(1)).sum(1)


exercises.check_sigmoid_jacobian(penalty)

# %% [markdown]
# ```{solution-end}
# ```
#
# ```{exercise-start} A happy anomaly
# :label: ex-happy-anomaly
# ```
# Find a picture that is far from every test digit, and yet the network reconstructs it better than 95 % of them. Do not use the blank one: that would be too easy. Or do.

# %% tags=["nbval-check-output"]
picture = ...
exercises.check_happy_anomaly(picture, model, test.images)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-happy-anomaly
# :label: ex-happy-anomaly-solution
# :class: dropdown
# ```
# The mean of a thousand digits is a soft cloud. It is no digit, it lies in the middle of all of them, and squared errors love means. The blank picture passes too.

# %% tags=["nbval-check-output"]
exercises.check_happy_anomaly(torch.zeros(1, 1, 28, 28), model, test.images)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# (sec-ae-summary)=
# ## Summary
#
# - An autoencoder compresses by learning to reconstruct. With linear maps it is principal component analysis {eq}`eq-pca-loss`; with networks it does better with the same number of dimensions.
# - Its codes help when labels are rare, and its error can raise an alarm, but a small error is no certificate.
# - Denoising, contracting and worst-case training make codes smoother. A denoiser holds more than it was asked for: its residual is the score of the noisy data {eq}`eq-score`.
# - Its decoder does not generate, since nothing fixes the law of the codes, and it assigns no probability to a picture.
#
# **What the sources say, and where they need care.** The lecture slides print the contracting penalty with a gradient in the weights; it is one in the input, and the check of {eq}`eq-tanh-jacobian` rejects the printed form (entry E4 of the {doc}`errata </book/errata>`). They say
# that autoencoders have no probabilistic reading; that is true of the plain one, and {prf:ref}`thm-score` is the exception for the denoising one. The second lecture says that features need to be of lower dimension than the data; the denoiser of {numref}`fig-circle` has none, and works.
#
# **To read next.** {cite:t}`vincent2011` for the link from denoising to scores, {cite:t}`alain2014` for what regularized autoencoders learn about the density, {cite:t}`hinton2006` for the paper that made deep autoencoders work.
