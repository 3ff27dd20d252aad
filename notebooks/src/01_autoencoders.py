# %% [markdown]
# # Autoencoders
#
# Can a network learn, without labels, to describe a digit of 784 pixels by 16 numbers? And if it can, do we get new digits by choosing 16 numbers at random? This chapter answers the first question with yes, and the second with "not by itself". The rest of the book grows out of the second answer.

# %% tags=["setup", "hide-input"]
# The set-up cell: `make sync` writes it.

# %% tags=["unseen"]
from copy import deepcopy
from functools import partial

import torch
from matplotlib.patheffects import withStroke

from companion import autoencoder, data, metrics
from companion.experiments import record_of
from companion.interpolation import path_length_ratio
from companion.networks.mlp import mlp
from companion.page import plots
from companion.page.live import watch
from companion.page.show import show
from companion.page.sliders import Slider
from companion.page.verify import autograd, exact, monte_carlo, quadrature, verify
from companion.runtime import pick
from companion.training import fit, minimize
from companion.zoo import pretrained
from companion.zoo.yourself import cost, train_it, use

_ = torch.manual_seed(0)

# %% tags=["serves"]
train, test = data.load("mnist", "train"), data.load("mnist", "test")
model = pretrained("ae-mnist")

# %% tags=["figure"] mystnb={"image": {"alt": "Three rows of ten images: handwritten digits, almost identical reconstructions, and gray blots decoded from random codes."}, "figure": {"caption": "Compression works, generation fails. Test digits, their reconstructions from 16 numbers, and images decoded from 16 random numbers.", "name": "fig-opening"}}
with torch.no_grad():
    rows = {
        "test digits": test.images[:10],
        "from 16 numbers": model(test.images[:10]),
        "random codes": model.decode(torch.randn(10, 16)),
    }
plots.image_rows(rows)

# %% [markdown]
# The first row of {numref}`fig-opening` shows digits that the network never saw in training, and the second row what it reconstructs from 16 numbers for each. For the third row the 16 numbers are random.
#
# We first compare this compression with two classical methods, see what the 16 numbers are good for, and make them robust, which leads to the idea behind diffusion models. Then we ask why random numbers do not give digits, and what a better model must provide.
#
# The data are the handwritten digits of MNIST, 60,000 images for training and 10,000 for testing {cite:p}`lecun1998`.

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
# The letters $\phi$ and $\theta$ stand for all the weights of the two networks. The space of the codes is the {term}`latent space`. We want $\hat{x}$ to be close to $x$ on average over the data distribution $p_\mathrm{data}$. So we minimize
#
# $$
# \mathcal{L}(\theta, \phi) = \mathbb{E}_{x \sim p_\mathrm{data}} \, \lVert x - f_\theta(g_\phi(x)) \rVert^2 .
# $$ (def-reconstruction-loss)
#
# Here $\lVert \cdot \rVert$ is the Euclidean norm, the root of the sum of squares, and $\mathbb{E}$ is the expectation, in practice a mean over the training set. No labels are needed: the input is its own target.

# %% tags=["figure"] mystnb={"image": {"alt": "A drawing from left to right: an image of a digit, a blue wedge that narrows, the encoder, a small green box, the code z, an orange wedge that widens, the decoder, and the reconstructed digit."}, "figure": {"caption": "An autoencoder. The image has 784 components, and all that the decoder receives of it are the 16 of the code $z$.", "name": "fig-autoencoder"}}
fig, (axes,) = plots.figure(height=2.1)
_ = axes.set(xlim=(0, 7), ylim=(0, 2.1)), axes.axis("off")
wedges = {
    "encoder $g_\\phi$": ("#0072B2", [(1.6, 0.1), (1.6, 2.0), (3.0, 1.35), (3.0, 0.75)]),
    "code $z$": ("#009E73", [(3.1, 0.75), (3.1, 1.35), (3.9, 1.35), (3.9, 0.75)]),
    "decoder $f_\\theta$": ("#D55E00", [(4.0, 0.75), (4.0, 1.35), (5.4, 2.0), (5.4, 0.1)]),
}
for name, (color, corners) in wedges.items():
    _ = axes.fill(*zip(*corners, strict=True), color=color, alpha=0.25)
    middle = sum(x for x, _ in corners) / 4
    _ = axes.text(middle, 1.05, name, ha="center", va="center")
for left, digit in ((0.1, test.images[0]), (5.6, model(test.images[:1]).detach()[0])):
    tile = axes.inset_axes((left, 0.4, 1.3, 1.3), transform=axes.transData)
    _ = tile.imshow(digit[0], cmap="gray"), tile.axis("off")
fig

# %% [markdown]
# {numref}`fig-autoencoder` shows the whole model. In code it is a class that holds two networks, and a loss of one line.

# %% tags=["shown", "nbval-check-output"]
show(autoencoder.Autoencoder)
show(autoencoder.reconstruction_loss)

# %% [markdown]
# **Why the square?** An "L2 distance" may be squared or not. It matters which, as the simplest decoder shows, which ignores its code and always returns the same point $c$. For the squared norm and a random $x$ of finite variance, the best $c$ is the mean, because
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
# Every numbered equation of this book that makes a claim is evaluated in two independent ways, and its cell fails if the results differ. The check also fails if it cannot tell a plausible *wrong* formula from the truth.
#
# **Check.** Both sides are computed on a thousand digits, for a random $c$. The distance that is not squared is rejected.

# %% tags=["check", "nbval-check-output"]
x = test.images[:1000].flatten(1).double()
mean, c = x.mean(0), torch.rand(784, dtype=torch.double)

left = (x - c).square().sum(1).mean()
variance, distance = (x - mean).square().sum(1).mean(), (mean - c).norm()
verify(
    "eq-mean-minimizes",
    left,
    variance + distance**2,
    rejects={"distance not squared": variance + distance},
)

# %% [markdown]
# For the norm without the square the best constant is another point. If $x$ is a number, it is the *median*, as three zeros, a one and a six show.

# %% tags=["numbers", "nbval-check-output"]
numbers, answers = torch.tensor([0.0, 0.0, 0.0, 1.0, 6.0]), torch.linspace(0, 3, 301)
errors = (numbers - answers[:, None]).abs()
absolute, squared = errors.mean(1), errors.square().mean(1)
print(f"least absolute error at {answers[absolute.argmin()]:.2f}", end=", ")
print(f"the median is {numbers.median():.2f}")
print(f"least squared error at {answers[squared.argmin()]:.2f}", end=", ")
print(f"the mean is {numbers.mean():.2f}")

# %% [markdown]
# By {eq}`eq-mean-minimizes` the best reconstruction is the mean of all images that share a code. If a code leaves open whether a stroke is in one place or two pixels to the right, this mean is the average of the two images, and blurred. In terms of probability, a squared error is the negative log-density of a Gaussian with fixed variance, up to a factor and an added constant.
#
# **What you can say now.** An autoencoder is an encoder and a decoder, trained together to reconstruct. With the squared error the best reconstruction is a mean, and a mean of different images is blurred.
#
# *Sources: A01.*

# %% [markdown]
# (sec-dct)=
# ## A code without learning: the cosine transform
#
# Before we train anything, let us see what a fixed code can do. JPEG describes a block of pixels by cosines of growing frequency and spends most of its bits on the low frequencies {cite:p}`ahmed1974,wallace1992`. For a signal of $n$ samples the orthonormal {term}`discrete cosine transform` is the matrix
#
# $$
# C_{k m} = \sqrt{\frac{2 - \delta_{k0}}{n}} \, \cos\!\Big( \frac{\pi (2m + 1) k}{2 n} \Big), \qquad k, m = 0, \dots, n - 1,
# $$ (def-dct)
#
# where $\delta_{k0}$ is 1 for $k = 0$ and 0 otherwise. A square image $x$ of $n \times n$ pixels is transformed along its columns and its rows, $Z = C x C^\top$. So the coefficient $Z_{jk}$ is the inner product of $x$ with one fixed pattern, the $j$-th cosine downward times the $k$-th cosine across. The rows of $C$ are orthonormal,
#
# $$
# C C^\top = I .
# $$ (eq-dct-orthonormal)
#
# Therefore the inverse is the transpose, $x = C^\top Z C$, and the *energy* is preserved, the sum of all squared entries. This is Parseval's identity,
#
# $$
# \lVert C x C^\top \rVert^2 = \lVert x \rVert^2 .
# $$ (eq-parseval)
#
# :::{dropdown} Proof
# Multiply $\sum_{m=0}^{n-1} \cos \frac{\pi (2m+1) r}{2n}$ by $2 \sin \frac{\pi r}{2n}$. By $2 \cos a \sin b = \sin(a + b) - \sin(a - b)$ the sum telescopes to $\sin(\pi r) = 0$. So it is zero for every whole number $r$ that is no multiple of $2n$; for $r = 0$ it is $n$.
# The inner product of the rows $k$ and $l$ holds products of cosines, and $2 \cos a \cos b = \cos(a - b) + \cos(a + b)$ turns them into two such sums, with $r = k - l$ and $r = k + l$. For $k \ne l$ both vanish. For $k = l > 0$ the first gives $n$, times $\frac12 \cdot \frac2n$, and for $k = l = 0$ both give $n$, times $\frac12 \cdot \frac1n$: the result is 1.
# For Parseval, $\lVert C x C^\top \rVert^2 = \operatorname{tr}(C x C^\top C x^\top C^\top) = \operatorname{tr}(x x^\top) = \lVert x \rVert^2$, as $C^\top C = I$ too. $\square$
# :::
#
# **Checks.** Both equations are computed for $28 \times 28$ pixels. The formula that forgets the $\delta_{k0}$ is rejected.

# %% tags=["held", "nbval-check-output"]
n = 28
k, m = torch.arange(n)[:, None], torch.arange(n, dtype=torch.double)
C = torch.sqrt((2 - (k == 0).double()) / n) * torch.cos(torch.pi * (2 * m + 1) * k / (2 * n))
same = torch.allclose(C, autoencoder.dct_matrix(n), rtol=0, atol=1e-12)
print("the same matrix as the package's:", same)

# %% tags=["check", "nbval-check-output"]
wrong = torch.where(k == 0, 2**0.5 * C, C)
images = test.images[:100].double()


def energy(x):
    return x.square().sum((1, 2, 3))


name, I = "one factor for all rows", torch.eye(n, dtype=torch.double)
verify("eq-dct-orthonormal", C @ C.T, I, rejects={name: wrong @ wrong.T})
verify(
    "eq-parseval",
    energy(C @ images @ C.T),
    energy(images),
    rejects={name: energy(wrong @ images @ wrong.T)},
)

# %% [markdown]
# To compress, the encoder computes only the coefficients of the $K \times K$ lowest frequencies, and the decoder adds up their cosines. The coefficients of $x - \hat{x}$ are the dropped ones, so by {eq}`eq-parseval` the error is their energy,
#
# $$
# \lVert x - \hat{x} \rVert^2 = \sum_{(j, k) \,\text{dropped}} Z_{jk}^2 .
# $$ (eq-dct-error)

# %% tags=["check", "nbval-check-output"]
K = 6
kept, dropped = torch.zeros_like(images), C @ images @ C.T
kept[..., :K, :K] = dropped[..., :K, :K]
dropped[..., :K, :K] = 0
verify(
    "eq-dct-error",
    energy(images - autoencoder.DctAutoencoder(28, K)(images)),
    energy(dropped),
    rejects={"energy kept": energy(kept)},
)

# %% [markdown]
# The slider sets how many cosines per side are kept. With 4, which is 16 coefficients, these digits are smudges. With 8, which is 64, they are legible. With all 28 nothing is lost.


# %% tags=["figure"]
def dct_rows(keep):
    dct = autoencoder.DctAutoencoder(28, keep)
    return plots.image_rows(
        {"original": test.images[:8], "from cosines": dct(test.images[:8]).clamp(0, 1)}
    )


Slider(
    [2, 4, 6, 8, 10, 12, 14, 20, 28],
    dct_rows,
    description="cosines kept per side",
    label="{:d}",
    alt="Eight digits above their reconstructions from {0:d} by {0:d} cosines",
    start=1,
)

# %% [markdown]
# **What you can say now.** A fixed transform is an autoencoder too, one whose weights are chosen by hand. It keeps the low frequencies, whatever the images show.
#
# *Sources: D02.*

# %% [markdown]
# (sec-pca)=
# ## The linear autoencoder is principal component analysis
#
# What do we gain by learning the weights from the data? Let encoder and decoder be affine, that is, linear up to an added constant. Then the best pair is known. Write $\bar{x}$ for the mean of the training data $x_1, \dots, x_N$, and
#
# $$
# S = \frac{1}{N} \sum_{i=1}^{N} (x_i - \bar{x})(x_i - \bar{x})^\top = \sum_{j=1}^{D} \lambda_j\, u_j u_j^\top,
# \qquad \lambda_1 \ge \dots \ge \lambda_D \ge 0,
# $$ (def-covariance)
#
# for their covariance with its eigenvalues $\lambda_j$ and orthonormal eigenvectors $u_j$. The least error is the sum of the smallest eigenvalues {cite:p}`bourlard1988,baldi1989`.
#
# :::{prf:theorem} Linear autoencoders
# :label: thm-pca
# Let $\mathcal{L}$ be the mean over the training data. Among all affine encoders and decoders with a code of dimension $d \le D$, the least squared error {eq}`def-reconstruction-loss` is
#
# $$
# \min_{\theta, \phi} \mathcal{L} = \sum_{j > d} \lambda_j .
# $$ (eq-pca-loss)
#
# It is reached by $g(x) = U^\top (x - \bar{x})$ and $f(z) = U z + \bar{x}$ with $U = (u_1, \dots, u_d)$, the {term}`principal component analysis` of the data.
# :::
#
# :::{dropdown} Proof
# Fix the decoder. Its outputs lie in an affine subspace of dimension at most $d$, which we may enlarge to dimension $d$. Let it consist of the points $c + Q z$, where $Q$ is a $D \times d$ matrix with orthonormal columns. The best reconstruction of $x$ in it is the orthogonal projection, with the error $\lVert (I - Q Q^\top)(x - c) \rVert^2$.
# By {eq}`eq-mean-minimizes`, applied to $(I - Q Q^\top) x$, the mean of this is least for $c = \bar{x}$, whatever $Q$. There it is
#
# $$
# \frac1N \sum_i \lVert (I - Q Q^\top)(x_i - \bar{x}) \rVert^2 = \operatorname{tr} S - \operatorname{tr}(Q^\top S Q),
# $$
#
# and the second term is $\sum_j \lambda_j a_j$ with $a_j = \lVert Q^\top u_j \rVert^2$. These weights lie in $[0, 1]$ and add up to $\operatorname{tr}(Q Q^\top) = d$. The sum is largest if the
# weights sit on the $d$ largest eigenvalues, which $Q = U$ achieves. What remains is $\sum_{j > d} \lambda_j$, and $g$ and $f$ of the theorem compute this projection. $\square$
# :::
#
# The proof does not use that the *encoder* is affine. So whatever networks gain over PCA on the training data must come from a decoder that is *not* affine.
#
# **Check.** The left side runs 10,000 digits through encoder and decoder; the right side needs only the eigenvalues. The check rejects the eigenvalues of data that are not centered, and a sum with one eigenvalue too many.

# %% tags=["check", "nbval-check-output"]
x = train.images[:10_000].flatten(1).double()
eigenvalues = torch.linalg.eigvalsh(torch.cov(x.T, correction=0)).flip(0)
not_centered = torch.linalg.eigvalsh(x.T @ x / len(x))

pca = autoencoder.pca_autoencoder(x, latent_dim=16)
loss = autoencoder.reconstruction_loss(pca, x).mean()
verify(
    "eq-pca-loss",
    loss,
    eigenvalues[16:].sum(),
    rejects={"not centered": not_centered[:-16].sum(), "one too many": eigenvalues[15:].sum()},
)

# %% [markdown]
# PCA *attains* this value. To see that nothing is lower, we search from random weights with `minimize`. It is L-BFGS, a quasi-Newton method for losses that are computed on all data at once, and finds a local minimum near its start. Here that is the value of the theorem, to eight digits. This is no accident: {cite:t}`baldi1989` prove, for an invertible covariance with distinct eigenvalues, that every local minimum of the error is a global one.
#
# **Check.** The digits are shrunk to 4 × 4 pixels to keep the search short. A value with one eigenvalue too many is rejected.

# %% tags=["check", "nbval-check-output"]
small = torch.nn.functional.avg_pool2d(train.images[:300], 7).flatten(1).double()
small = (small - small.mean()) / small.std()
linear = autoencoder.linear_autoencoder(16, 2).double()
found = minimize(
    lambda: autoencoder.reconstruction_loss(linear, small).mean(),
    linear.parameters(),
    max_steps=800,
)

rising = torch.linalg.eigvalsh(torch.cov(small.T, correction=0))
wrong, rule = {"one eigenvalue too many": rising[:-1].sum()}, exact.within(1e-8)
verify("eq-pca-loss", found, rising[:-2].sum(), rule, rejects=wrong)

# %% [markdown]
# Did the search also find the *weights* of PCA? The loss does not determine them. If $W$ and $V$ are the weight matrices of encoder and decoder (leave out the constants), then for every invertible $d \times d$ matrix $R$
#
# $$
# (V R^{-1})(R\, W)\, x = V W x .
# $$ (eq-rotation)
#
# So the codes may be rotated, stretched and sheared without any change in the reconstructions. Only the subspace is determined, provided that $\lambda_d > \lambda_{d+1}$. Indeed the search found the projection of PCA, with other weights.
#
# **Check.** The weights are those that the search found, $R$ is random; $R$ in place of $R^{-1}$ is rejected.

# %% tags=["check", "nbval-check-output"]
W, V = linear.encoder.weight.detach(), linear.decoder.weight.detach()
R = torch.randn(2, 2, dtype=torch.double)
left, right = (V @ R.inverse()) @ (R @ W) @ small.T, V @ W @ small.T
wrong = {"R not inverted": (V @ R) @ (R @ W) @ small.T}
verify("eq-rotation", left, right, exact.within(1e-9), rejects=wrong)

U = autoencoder.pca_autoencoder(small, 2).decoder.weight.detach()
print("same projection:", torch.allclose(V @ W, U @ U.T, atol=1e-3))
print("with other weights:", not torch.allclose(V, U, atol=0.1))

# %% [markdown]
# Chapter 5 solves a probabilistic version of this model.
#
# **What you can say now.** With affine maps an autoencoder is PCA: the least error is the sum of the dropped eigenvalues. The code is determined only up to an invertible map, so a single coordinate of it has no meaning of its own.
#
# *Sources: A01, B05.*

# %% [markdown]
# (sec-experiment)=
# ## Real digits, sixteen numbers
#
# How much does a nonlinear autoencoder gain? Early autoencoders had one hidden layer of sigmoid units {cite:p}`rumelhart1986`. Deep, fully connected networks followed, at first pretrained layer by layer {cite:p}`hinton2006`, and then convolutional ones {cite:p}`masci2011`. We use one deep fully connected network and one convolutional network:
#
# - **Fully connected**: two layers each way, $784 \to 256 \to 16 \to 256 \to 784$, with rectified units $\max(0, \cdot)$ between them.
# - **Convolutional**: four strided convolutions down to $2 \times 2$, a linear layer to the same 16 numbers, and four transposed convolutions back up.

# %% tags=["nbval-check-output"]
show(autoencoder.mlp_autoencoder)
show(autoencoder.conv_autoencoder)
conv = pretrained("conv-ae-mnist")
for name, network in {"fully connected": model, "convolutional": conv}.items():
    print(f"{name}: {sum(p.numel() for p in network.parameters()):,} weights")

# %% [markdown]
# Training takes a loss, batches of data and an optimizer. The generator `fit` yields the loss of each step, and the caller decides what to do with it. Here it trains a new network, on this page for one epoch, a pass through all training images, and for ten at full scale ({doc}`/book/running`).

# %%
fresh = autoencoder.mlp_autoencoder(latent_dim=16)
batches = data.Batches(train.images, batch_size=128, num_epochs=pick(small=1, full=10))
optimizer = torch.optim.Adam(fresh.parameters(), lr=1e-3, fused=True)
loss = autoencoder.reconstruction_loss
losses = [step.loss for step in fit(fresh, loss, batches, optimizer, progress="train")]

# %% [markdown]
# In {numref}`fig-training`, look for the step at which the network passes PCA, fitted to the same 60,000 images, and so, by {prf:ref}`thm-pca`, every affine autoencoder.

# %% tags=["figure"] mystnb={"image": {"alt": "The training loss falls steeply in the first twenty steps, then slowly. After about 300 steps it crosses the dashed level of PCA and goes on falling."}, "figure": {"caption": "The loss of each training step. The dashed line is the least error that any affine autoencoder with 16 numbers can reach on the training data.", "name": "fig-training"}}
pca = autoencoder.pca_autoencoder(train.images.flatten(1), 16)
with torch.no_grad():
    least = loss(pca, train.images.flatten(1)).mean().item()
plots.curves(
    {"network, 16 numbers": losses, "best affine autoencoder": ([1, len(losses)], [least, least])},
    x_label="training step",
    y_label="squared error per image",
    log_y=True,
)

# %% [markdown]
# All models of this book are trained by this one loop:

# %% tags=["shown", "nbval-check-output"]
show(fit, docstring=False)

# %% [markdown]
# The weights that come with the book were trained for ten epochs. We compare four methods that describe an image by 16 numbers, on the 10,000 test images. The error is summed over the 784 pixels; after the sign +- stands one standard error over the test images, here and in all tables. It does not say how much the result of a second training would differ.

# %% tags=["numbers"]
with torch.no_grad():
    error = {
        "16 lowest frequencies": loss(autoencoder.DctAutoencoder(28, 4), test.images),
        "16 principal components": loss(pca, test.images.flatten(1)),
        "convolutional": loss(conv, test.images),
        "fully connected": loss(model, test.images),
    }
for name, values in error.items():
    print(f"{name:24s} {values.mean():6.2f} +- {values.std() / len(values) ** 0.5:.2f}")

# %% [markdown]
# On the test images some affine code could be better than this PCA, which was fitted to the training images. The eigenvalues of the *test* images give a bound for all of them.

# %% tags=["held", "nbval-check-output", "mnist"]
means = [values.mean().item() for values in error.values()]
S_test = torch.cov(test.images.flatten(1).T.double(), correction=0)
bound = torch.linalg.eigvalsh(S_test)[:-16].sum()
print("learning a linear code beats fixed cosines:", means[1] < means[0])
print("both networks beat every affine code:", max(means[2:]) < bound.item())

# %% [markdown]
# How many numbers do the two linear codes need to reach the error of the fully connected network?

# %% tags=["numbers"]
full = autoencoder.pca_autoencoder(train.images.flatten(1), 784)
with torch.no_grad():
    coefficients = full.encode(test.images.flatten(1)).square().mean(0)
    dct_errors = [loss(autoencoder.DctAutoencoder(28, K), test.images).mean() for K in range(1, 29)]

# Without the first d coefficients, for d = 1, 2, ...
pca_errors = coefficients.sum() - coefficients.cumsum(0)
num_components = 1 + int((pca_errors > means[3]).sum())
num_cosines = (1 + int((torch.stack(dct_errors) > means[3]).sum())) ** 2
print(f"the network: 16, PCA: {num_components}, cosines: {num_cosines}")

# %% tags=["held", "nbval-check-output", "mnist"]
print("PCA needs at least three times as many numbers:", num_components >= 48)
print("cosines need at least eight times as many:", num_cosines >= 128)

# %% [markdown]
# How does the error depend on the dimension of the code? PCA gives the whole curve at once. The networks were trained three times each, for one epoch and for ten ({ref}`experiment <exp-code-dimension>`).

# %% tags=["figure"] mystnb={"image": {"alt": "The error of PCA falls with the number of components, from about 48 to 7 between one and 64. The line of the networks of ten epochs lies far below it at all dimensions. That of one epoch starts below it and crosses it between 16 and 32."}, "figure": {"caption": "Test error against the dimension of the code. Means of three trainings; their standard errors are too small to be seen. After ten epochs the networks are ahead at all five dimensions.", "name": "fig-dimensions"}}
trained, lines = record_of("code-dimension"), {"PCA": (torch.arange(1, 65), pca_errors[:64])}
dimensions = [2, 8, 16, 32, 64]
for words, epochs in {"network, one epoch": 1, "network, ten epochs": 10}.items():
    names = [f"{num} dimensions, {epochs} epochs" for num in dimensions]
    lines[words] = dimensions, [trained.value(name, "error").mean for name in names]
plots.curves(
    lines,
    x_label="dimension of the code",
    y_label="squared error per image",
    log_x=True,
    log_y=True,
)

# %% [markdown]
# In {numref}`fig-dimensions` after ten epochs they have 33.9 ± 0.1 with 2 dimensions, 8.81 ± 0.01 with 16 and 3.17 ± 0.02 with 64, where PCA has 43.6, 21.06 and 7.09 ({ref}`experiment <exp-code-dimension>`). After one epoch the curves seem to cross. At 32 they have 14.5 ± 0.0 then, against 13.2 of PCA. But an affine network, of which PCA is the best possible, has 19.4 ± 0.3 after one epoch ({ref}`experiment <exp-code-dimension>`). So the crossing shows how short the training is, not what networks can do; at four times the learning rate it is gone. (The size of a file also depends on the number of bits for each dimension.)
#
# Must the code have fewer dimensions than the data? Without such a {term}`bottleneck` the network could copy its input: for $d = D$ the identity makes the loss {eq}`def-reconstruction-loss` zero. But a bottleneck is not the only way to prevent this: {ref}`a later section <sec-variants>` has losses for which copying is a bad solution.
#
# **What you can say now.** On these digits, at 16 dimensions, a small network has less than half the error of PCA, and PCA needs at least three times as many components to catch up.
#
# *Sources: A01, A02, B05, A07.*

# %% [markdown]
# (sec-train-autoencoder)=
# ## Train it yourself
#
# `train_it` trains the fully connected network anew by the recipe of the shipped one, on your GPU if there is one, and shows its loss and eight reconstructed digits. At small scale it takes only the first steps, at most 20 seconds on two cores, with the recipe's learning rates compressed into them. For the whole training write `train_it("ae-mnist", "full")`.

# %%
print(cost("ae-mnist"))

# %%
mine = watch(train_it("ae-mnist"))

# %% tags=["held", "nbval-check-output"]
first, last = torch.tensor(mine.losses).unfold(0, 20, 20)[[0, -1]].mean(1)
print("the loss fell by more than a tenth:", bool(last < 0.9 * first))

# %% [markdown]
# Set `MINE` to True to use your weights in the rest of the chapter. After a short training, expect worse images, and failing checks of claims about the fully trained network.

# %% tags=["nbval-check-output"]
MINE = False  # True: from here on the chapter uses your weights
if MINE:
    use("ae-mnist", mine.model)
    model = pretrained("ae-mnist")
print("weights of ae-mnist:", "yours" if MINE else "the shipped ones")

# %% [markdown]
# (sec-uses)=
# ## What the codes are good for
#
# We try two common uses of autoencoders.
#
# **Learning with few labels.** Train the autoencoder on all images, drop the decoder, and let a small classifier work on the codes. This should help where images are many and labels few. We fit logistic regression on standardized inputs to the codes of the network, to the pixels and, as controls, to 16 principal components and to the codes of an untrained network. The network and PCA have seen all 60,000 images, without labels.

# %% tags=["serves"]
features = {
    "network": model.encode,
    "PCA": lambda x: pca.encode(x.flatten(1)),
    "pixels": torch.nn.Flatten(),
    "untrained network": autoencoder.mlp_autoencoder(latent_dim=16).encode,
}
num_labeled = 12 * 30 + 3 * (100 + 300 + 1000)  # separate sets
chosen = torch.randperm(len(train.images))[:num_labeled]
with torch.no_grad():
    inputs = {name: (f(train.images[chosen]), f(test.images)) for name, f in features.items()}


def accuracies(name, num_labels):
    """Test accuracies of classifiers that learn from separate labeled sets."""
    a, b = inputs[name]
    first = {30: 0, 100: 360, 300: 660, 1000: 1560}[num_labels]
    sets = [slice(first + i * num_labels, first + (i + 1) * num_labels) for i in range(12)]
    sets = sets if num_labels == 30 else sets[:3]
    labels = train.labels[chosen]
    return torch.tensor([metrics.linear_probe(a[s], labels[s], b, test.labels).value for s in sets])


# %% [markdown]
# Since the result depends on which images are labeled, thirty labels are tried with twelve random sets and larger numbers with three; no image is in two sets.

# %% tags=["figure"] mystnb={"image": {"alt": "Test accuracy against the number of labels for four inputs. At 30 labels the codes of the trained network are ahead of components and pixels. The pixels catch up at 1,000 labels, the components stay behind, and the untrained network is worst."}, "figure": {"caption": "A linear classifier on 16 learned numbers, on 16 principal components, on 784 pixels, and on 16 numbers of an untrained network. Lines: mean over the sets of labels; bands: from the worst to the best.", "name": "fig-labels"}}
sizes = [30, 100, 300, 1000]
accuracy = {name: [accuracies(name, num_labels) for num_labels in sizes] for name in inputs}
plots.curves(
    {name: (sizes, [v.mean() for v in values]) for name, values in accuracy.items()},
    bands={n: ([v.min() for v in s], [v.max() for v in s]) for n, s in accuracy.items()},
    x_label="labeled training images",
    y_label="test accuracy",
    log_x=True,
)

# %% [markdown]
# With thirty labels, about three per class, the codes of this network are ahead in the mean in {numref}`fig-labels`, though single sets overlap. With a thousand labels the pixels have caught up. Neither the principal components nor the untrained network do as well.
#
# Most of this lead depends on how the inputs are scaled. With thirty labels, three other networks, trained for one epoch, give 53.2 ± 0.7 percent right with the codes, 49.0 ± 0.9 with the components and 49.1 ± 0.8 with the pixels. If all inputs are divided by one number, instead of each by its own standard deviation, they give 54.2 ± 0.7, 53.5 ± 0.5 and 53.5 ± 1.0. Longer training helps: after four epochs the codes give 54.7 ± 1.0 and 55.4 ± 0.8 ({ref}`experiment <exp-few-labels>`).

# %% tags=["held", "nbval-check-output", "mnist"]
codes, _, pixels, _ = accuracy.values()
for name, values in accuracy.items():
    if values is not codes:
        gain = codes[0] - values[0]  # the same twelve sets for both
        clear = gain.mean() > 3 * gain.std() / len(gain) ** 0.5
        print(f"30 labels: codes better than {name}, by 3 standard errors: {bool(clear)}")
smaller = (codes[-1] - pixels[-1]).mean() < (codes[0] - pixels[0]).mean()
print("the gain over pixels is smaller with 1,000 labels:", bool(smaller))

# %% [markdown]
# One can also *fine-tune*: put a new linear layer on the encoder and train both for the task, here with 1,000 labels. We start from the plain encoder, from one trained to undo noise ({ref}`a later section <sec-denoising>`) and, as a control, from random weights, with the same labels, batches and number of steps.


# %% tags=["serves"]
def classification_loss(network, x, y):
    return torch.nn.functional.cross_entropy(network(x), y, reduction="none")


def fine_tuned_accuracy(encoder, part):
    """Test accuracy after training on one of the separate sets of 1,000 labels."""
    torch.manual_seed(part)
    network = torch.nn.Sequential(encoder, torch.nn.Linear(16, 10))
    few = slice(1000 * part, 1000 * (part + 1))
    labeled = train.images[few], train.labels[few]
    batches = data.Batches(*labeled, batch_size=200, num_epochs=30)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3, fused=True)
    for _ in fit(network, classification_loss, batches, optimizer):
        pass
    with torch.no_grad():
        hits = network(test.images).argmax(1) == test.labels
    return metrics.proportion(hits).value


# Each start is tried on three separate sets of labels, the columns of the table.

# %% tags=["numbers"]
files = {"random weights": None, "plain": "ae-mnist", "denoising": "dae-mnist"}
tuned = {name: [] for name in files}
for name, file in files.items():
    for part in range(3):
        if file is None:
            start = autoencoder.mlp_autoencoder(latent_dim=16)
        else:
            start = pretrained(file).requires_grad_()
        tuned[name].append(fine_tuned_accuracy(start.encoder, part))
    print(f"{name:15s}", *(f"{value:.3f}" for value in tuned[name]))

# %% [markdown]
# The encoder of the denoiser is the best start on each of three sets of labels, the columns; the plain one helps less. Each was trained once, so this compares two networks, not two methods.

# %% tags=["held", "nbval-check-output", "mnist"]
columns = list(zip(*tuned.values(), strict=True))
print("denoising is best on every set:", all(max(c) == c[2] for c in columns))
means = [sum(values) / 3 for values in tuned.values()]
print("plain is better than random in the mean:", means[1] > means[0])

# %% [markdown]
# **Finding anomalies.** A network that has learned to reconstruct digits should do badly on everything else, so its error can serve as an anomaly score. To test this we leave one class out of the training and ask whether its images have larger errors. The measure is the {term}`AUROC`,
#
# $$
# \operatorname{AUROC} = \Pr(\text{error of an anomalous image} > \text{error of a normal one}),
# $$ (def-auroc)
#
# where ties count one half. It is 1 for a perfect score and ½ for a useless one {cite:p}`fawcett2006`. We leave out the zeros, then the ones, and train one network for one epoch over 30,000 other images each time. Two other scores serve as controls: the sum of the squared gray levels of an image, which needs no network, and the *relative* error, the error divided by this sum.


# %%
def train_new(network, loss, images, num_epochs=1, batch_size=128, lr=1e-3):
    """Train a network as above, without recording the loss."""
    batches = data.Batches(images, batch_size=batch_size, num_epochs=num_epochs)
    optimizer = torch.optim.Adam(network.parameters(), lr=lr, fused=True)
    for _ in fit(network, loss, batches, optimizer):
        pass
    return network.requires_grad_(False)


# %%
def detection(hidden):
    """Train without one class; AUROC of the error, of the squared grays, and of their ratio."""
    torch.manual_seed(0)
    network = autoencoder.mlp_autoencoder(latent_dim=16)
    train_new(network, loss, train.images[train.labels != hidden][:30_000])
    error, grays = loss(network, test.images), test.images.square().sum((1, 2, 3))
    strange = test.labels == hidden
    scores = {"error": error, "squared grays": grays, "relative error": error / grays}
    return {name: metrics.auroc(s[~strange], s[strange]) for name, s in scores.items()}


auroc = {hidden: detection(hidden) for hidden in (0, 1)}
for hidden, row in auroc.items():
    words = ", ".join(f"{name} {value:.2f}" for name, value in row.items())
    print(f"without {hidden}: AUROC of the {words}")

# %% tags=["held", "nbval-check-output", "mnist"]
print("a hidden 0 is found by the error, AUROC above 0.8:", auroc[0]["error"] > 0.8)
print("a hidden 1 is not, AUROC below 0.5:", auroc[1]["error"] < 0.5)
print(
    "squared grays go the same two ways:",
    auroc[0]["squared grays"] > 0.5 > auroc[1]["squared grays"],
)
print("the relative error finds both:", min(row["relative error"] for row in auroc.values()) > 0.6)

# %% [markdown]
# The zeros stand out, as hoped. The ones do the opposite: although the network has never seen a 1, a 1 mostly has a *smaller* error than a random other digit. The squared gray levels alone, without any network, rank the two classes in the same way. Relative to them, the error finds the ones as well, and the zeros less well than before. With five trainings of each, the AUROC of the error is 0.89 ± 0.00 for hidden zeros and 0.38 ± 0.02 for hidden ones, that of the relative error 0.68 ± 0.01 and 0.78 ± 0.01 ({ref}`experiment <exp-anomalies>`). The extreme case is an image that is black everywhere.

# %% tags=["held", "nbval-check-output", "mnist"]
with torch.no_grad():
    errors = loss(model, test.images)
    blank = loss(model, torch.zeros(1, 1, 28, 28))
print("a blank image has a smaller error than 95 % of the test digits:", end=" ")
print(bool(blank < errors.quantile(0.05)))

# %% [markdown]
# So a small error does not mean a digit. One can also ask how *probable* an image is; {ref}`the last section <sec-no-sampling>` comes to that.
#
# **What you can say now.** A linear classifier with thirty labels did better on learned codes than on pixels, with a thousand it did not, and most of the lead was a matter of scale. The reconstruction error found one of two hidden classes; divided by the squared gray levels it found both.
#
# *Sources: A02, B06.*

# %% [markdown]
# (sec-variants)=
# ## Three ways to make the codes robust
#
# Nothing in {eq}`def-reconstruction-loss` makes similar images get similar codes, or a code between two codes decode to something sensible. Three variants of the loss add such a condition. Behind them is the idea that the data form a curved surface, a {term}`manifold`: images lie on it or close to it, small disturbances lead off it, and a good autoencoder leads back. {numref}`fig-circle` will show this for a curve in the plane. (A fourth, the *sparse* autoencoder, penalizes the activations of a wide code; it now serves to look inside large language models {cite:p}`cunningham2023`.)
#
# (sec-denoising)=
# ### Denoising
#
# The first variant disturbs the input and asks for the clean image. {cite:t}`vincent2008` hid pixels, {cite:t}`vincent2010` added Gaussian noise, and a modern form hides most of the image {cite:p}`he2022`. With Gaussian noise the loss is
#
# $$
# \mathcal{L}_\text{DAE} = \mathbb{E}_{x} \, \mathbb{E}_{\varepsilon \sim \mathcal{N}(0, \sigma^2 I)} \lVert x - f(g(x + \varepsilon)) \rVert^2 .
# $$ (def-denoising-loss)
#
# The noise $\varepsilon$ is independent of $x$. Copying the input is no longer a good solution, even without a bottleneck: it has the loss $\sigma^2 D$. What is the best solution? In the linear case there is a formula. For centered data with covariance $S$, the loss of one linear map $A$ (a $D \times D$ matrix, so without a bottleneck) is
#
# $$
# \mathbb{E} \lVert x - A(x + \varepsilon) \rVert^2 = \operatorname{tr}\big( (I - A)\, S\, (I - A)^\top \big) + \sigma^2 \operatorname{tr}(A A^\top),
# $$ (eq-linear-dae)
#
# and its only minimizer shrinks each principal direction by its own factor,
#
# $$
# A^\star = S (S + \sigma^2 I)^{-1} = \sum_j \frac{\lambda_j}{\lambda_j + \sigma^2}\, u_j u_j^\top .
# $$ (eq-linear-dae-optimum)
#
# :::{dropdown} Proof
# $x - A(x + \varepsilon) = (I - A) x - A \varepsilon$, and the two parts are independent with mean zero. Their mean squared norms are the two traces. The gradient of {eq}`eq-linear-dae` in $A$ is
# $-2 (I - A) S + 2 \sigma^2 A$. It vanishes exactly for $A (S + \sigma^2 I) = S$, and $S + \sigma^2 I$ has an inverse as $\sigma > 0$. The loss is convex in $A$, so this is the minimum. For the last form, put $S = \sum_j \lambda_j u_j u_j^\top$. $\square$
# :::
#
# %% tags=["check", "nbval-check-output"]
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

# %% [markdown]
# **Check.** For the second claim, an optimizer searches for the best map with the loss alone. Both forms of the solution are compared with what it finds; a $\sigma$ that is not squared is rejected.

# %% tags=["check", "nbval-check-output"]
found = torch.zeros(D, D, dtype=torch.double, requires_grad=True)
_ = minimize(lambda: linear_dae_loss(found), [found])
best, wrong = (S @ (S + variance * I).inverse() for variance in (sigma**2, sigma))
lambdas, u = torch.linalg.eigh(S)
shrunk = u @ torch.diag(lambdas / (lambdas + sigma**2)) @ u.T

rule, misprint = exact.within(1e-6), {"sigma not squared": wrong}
verify("eq-linear-dae-optimum", found, best, rule, rejects=misprint)
verify("eq-linear-dae-optimum", found, shrunk, rule, rejects=misprint)

# %% [markdown]
# So the best linear map leaves directions of large variance almost unchanged, and shrinks those of small variance, where most of the input is noise. {numref}`fig-denoised` shows it on digits, with the covariance of the training images, beside a network trained with {eq}`def-denoising-loss`.

# %% tags=["figure", "mnist"] mystnb={"image": {"alt": "Four rows of ten digits: clean; under strong noise, hardly readable; smooth and gray on a mottled ground; sharp white strokes on black."}, "figure": {"caption": "Test digits, the same with noise of $\\sigma = 0.5$, the best linear map {eq}`eq-linear-dae-optimum` and a trained network, both of which see only the second row. The linear map removes most of the noise and blurs the strokes; the network restores sharp ones.", "name": "fig-denoised"}}
ten, generator = test.images[:10], torch.Generator().manual_seed(0)
disturbed = ten + 0.5 * torch.randn(ten.shape, generator=generator, device="cpu").to(ten)
all_digits = train.images.flatten(1)
center, covariance = all_digits.mean(0), torch.cov(all_digits.T)
best_map = torch.linalg.solve(covariance + 0.5**2 * torch.eye(784), covariance)
smooth = center + (disturbed.flatten(1) - center) @ best_map
with torch.no_grad():
    cleaned = pretrained("dae-mnist")(disturbed)
seen = {"digit": ten, "with noise": disturbed, "linear map": smooth.view_as(ten)}
seen["network"] = cleaned
plots.image_rows({name: rows.clamp(0, 1) for name, rows in seen.items()})  # gray levels end there

# %% [markdown]
# The general case is the most important result of this chapter. Let $\tilde{x} = x + \varepsilon$ be the noisy observation and $p_\sigma$ its density.
#
# :::{prf:theorem} The best denoiser and the gradient of the log-density
# :label: thm-score
# Let $\sigma > 0$ and $\mathbb{E} \lVert x \rVert^2 < \infty$. Among *all* functions $r$ in the place of $f \circ g$, the posterior mean $r(\tilde{x}) = \mathbb{E}[x \mid \tilde{x}]$ has the least denoising loss {eq}`def-denoising-loss`, and
#
# $$
# \mathbb{E}[x \mid \tilde{x}] - \tilde{x} = \sigma^2 \, \nabla_{\tilde{x}} \log p_\sigma(\tilde{x}) .
# $$ (eq-score)
# :::
#
# :::{dropdown} Proof
# For each $\tilde{x}$, apply {eq}`eq-mean-minimizes` to the distribution of $x$ given $\tilde{x}$: the conditional mean is the best answer. For the second part, write $\mathcal{N}(\tilde{x};\, x, \sigma^2 I)$ for the Gaussian density of $\tilde{x}$ given $x$. Then
# $p_\sigma(\tilde{x}) = \mathbb{E}_x\, \mathcal{N}(\tilde{x};\, x, \sigma^2 I)$, a smooth and positive function, even if $x$ itself has no density. The Gaussian density has bounded derivatives, so we may differentiate under the expectation. Its gradient in $\tilde{x}$ is $\mathcal{N} \cdot (x - \tilde{x}) / \sigma^2$, hence
#
# $$
# \nabla p_\sigma(\tilde{x}) = \frac{1}{\sigma^2}\, \mathbb{E}_x \big[ (x - \tilde{x})\, \mathcal{N}(\tilde{x};\, x, \sigma^2 I) \big]
# = \frac{p_\sigma(\tilde{x})}{\sigma^2} \big( \mathbb{E}[x \mid \tilde{x}] - \tilde{x} \big),
# $$
#
# the last step by Bayes' rule. Divide by $p_\sigma(\tilde{x})$. $\square$
# :::
#
# The gradient of a log-density is called its {term}`score`. So the arrow from a noisy point to its best reconstruction points to where noisy data are more likely, although training never computes a density.
# Equation {eq}`eq-score` is known as Tweedie's formula {cite:p}`efron2011`; its role for autoencoders was found by {cite:t}`vincent2011` and {cite:t}`alain2014`. How near a network comes to this best $r$ depends on its architecture and its training.
#
# We illustrate the theorem on a manifold that can be drawn, the unit circle in the plane with the uniform distribution. Here the best denoiser has a closed form, for $\tilde{x} \ne 0$,
#
# $$
# \mathbb{E}[x \mid \tilde{x}] = \frac{I_1(\rho)}{I_0(\rho)} \, \frac{\tilde{x}}{\lVert \tilde{x} \rVert}, \qquad \rho = \frac{\lVert \tilde{x} \rVert}{\sigma^2},
# $$ (eq-circle-denoiser)
#
# with the modified Bessel functions $I_0$ and $I_1$ (the proof has their integrals).
#
# :::{dropdown} Proof
# Let $\alpha$ be the angle between $x$ and $\tilde{x}$. Then $\lVert x - \tilde{x} \rVert^2 = 1 + \lVert \tilde{x} \rVert^2 - 2 \lVert \tilde{x} \rVert \cos \alpha$, so the posterior density of $\alpha$, proportional to $\exp(-\lVert x - \tilde{x} \rVert^2 / 2\sigma^2)$, is proportional to $\exp(\rho \cos \alpha)$. By symmetry the posterior mean points along $\tilde{x}$, and its length is
# $\int_0^{2\pi} \cos \alpha \, e^{\rho \cos \alpha} \mathrm{d}\alpha \,/ \int_0^{2\pi} e^{\rho \cos \alpha} \mathrm{d}\alpha$, which are $2\pi I_1(\rho)$ and $2\pi I_0(\rho)$. $\square$
# :::
#
# **Check.** The posterior mean is computed by an integral over the circle. The score comes from the density in closed form, $p_\sigma(\tilde{x}) \propto e^{-\lVert \tilde{x} \rVert^2 / 2\sigma^2} I_0(\rho)$, by automatic differentiation. A $\sigma$ that is not squared is rejected, and the other sign.

# %% tags=["serves"]
sigma = 0.3
angle = torch.arange(720, dtype=torch.double) * (2 * torch.pi / 720)
circle = torch.stack([angle.cos(), angle.sin()], 1)
x_tilde = (1.5 * torch.randn(50, 2, dtype=torch.double)).requires_grad_()

# For periodic functions, equal steps integrate to machine precision.
log_weight = -torch.cdist(x_tilde.detach(), circle).square() / (2 * sigma**2)
posterior_mean = log_weight.softmax(1) @ circle

# %% tags=["check", "nbval-check-output"]
rho = x_tilde.norm(dim=1) / sigma**2
log_density = torch.special.i0e(rho).log() + rho - x_tilde.square().sum(1) / (2 * sigma**2)
(score,) = torch.autograd.grad(log_density.sum(), x_tilde)
residual, wrong = (posterior_mean - x_tilde).detach(), {"sigma not squared": sigma * score}
wrong["other sign"] = -(sigma**2) * score
verify("eq-score", residual, sigma**2 * score, quadrature, rejects=wrong)


# %% tags=["serves"]
def circle_denoiser(x_tilde):
    radius = x_tilde.norm(dim=1, keepdim=True)
    rho = radius / sigma**2
    return torch.special.i1e(rho) / torch.special.i0e(rho) * x_tilde / radius


# %% [markdown]
# **Checks.** The closed form is compared with the integral, and then with the definition: among 400,000 pairs of clean and noisy points, the mean length of $x$ along the direction of $\tilde{x}$ must be what the formula says. Both times the check rejects the answer that comes to mind first, the nearest point of the circle.

# %% tags=["check", "nbval-check-output"]
nearest = {"nearest point": x_tilde / x_tilde.norm(dim=1, keepdim=True)}
closed_form = circle_denoiser(x_tilde)
verify("eq-circle-denoiser", posterior_mean, closed_form, quadrature, rejects=nearest)

clean = circle[torch.randint(720, (400_000,))]
noisy = clean + sigma * torch.randn(400_000, 2, dtype=torch.double)
direction = noisy / noisy.norm(dim=1, keepdim=True)
along = (clean * direction).sum(1)
radial = circle_denoiser(noisy).norm(dim=1)
by_radius = torch.stack([along - radial, (along - radial) * noisy.norm(dim=1)], 1)
nearest = {"nearest point": torch.stack([(1 - radial).mean(), (1 - radial).mean()])}
verify("eq-circle-denoiser", by_radius, torch.zeros(2), monte_carlo, rejects=nearest)

# %% [markdown]
# Now we train a network that is given none of these formulas, only points of the circle with noise to remove. It has no bottleneck: its hidden layers have 64 units.

# %%
points = circle.float()[torch.randint(720, (40_000,))]
denoiser = mlp([2, 64, 64, 2], activation=torch.nn.SiLU)
batches = data.Batches(points, batch_size=256, num_epochs=pick(small=10, full=40))
optimizer = torch.optim.Adam(denoiser.parameters(), lr=1e-2, fused=True)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(batches))
undo_noise = partial(autoencoder.denoising_reconstruction_loss, noise_std=sigma)
for _ in fit(denoiser, undo_noise, batches, optimizer):
    schedule.step()


# %% [markdown]
# In {numref}`fig-circle`, compare the arrows of the trained network with the shading, the density of the noisy data, which was not used in training.


# %% tags=["figure"] mystnb={"image": {"alt": "Arrows in the plane point from inside and from outside to a ring where the density is high. They are longest far outside and vanish at the center and on a dashed circle slightly inside the ring."}, "figure": {"caption": "The noisy manifold. The data lie on a circle, noise leads off it, and the trained denoiser leads back, up to a shrinkage: the best denoiser leaves the dashed circle fixed, of radius 0.95. The arrows show the direction from a point to its reconstruction, the shading the exact density of the noisy data. The arrows point to higher density, as the score does.", "name": "fig-circle"}}
def log_p_sigma(x):
    log_weight = -torch.cdist(x.double(), circle).square() / (2 * sigma**2)
    return log_weight.logsumexp(1) - torch.tensor(720 * 2 * torch.pi * sigma**2).log()


radius = torch.tensor(1.0, dtype=torch.double)
for _ in range(200):  # the radius that the best denoiser does not change
    radius = circle_denoiser(torch.stack([radius, 0 * radius])[None])[0, 0]
fig = plots.vector_field(
    lambda x: (denoiser(x.float()) - x).detach(), (-1.8, 1.8, -1.8, 1.8), log_prob=log_p_sigma
)
_ = fig.axes[0].plot(*(radius * circle).T, "--", color="#D55E00", linewidth=1.5)
fig

# %% [markdown]
# How far is the network from the best denoiser {eq}`eq-circle-denoiser`? We compare the mean squared error of its arrows with the mean squared length of the best ones.

# %% tags=["numbers", "nbval-check-output"]
noisy = points[:20_000] + sigma * torch.randn(20_000, 2)
with torch.no_grad():
    best = circle_denoiser(noisy)
    excess = (denoiser(noisy) - best).square().sum(1).mean()
    arrows = (best - noisy).square().sum(1).mean()
print("error of the arrows below 2 % of their size:", bool(excess < 0.02 * arrows))
print(f"radius that the best denoiser keeps: {radius:.3f}")

# %% [markdown]
# Go a small part of the way along these arrows, add a little fresh noise, and repeat for smaller and smaller noise levels: that is the idea of a diffusion model. It is built from denoising autoencoders.
#
# Can *codes* without a bottleneck be useful too, as {cite:t}`vincent2010` report? We give an autoencoder a single hidden layer of 1,024 units, more than there are pixels, and train it on 5,000 images, with and without noise, two networks each. Two more are left *untrained*: would any 1,024 numbers do? A linear classifier then learns from 300 labels, as {ref}`above <sec-uses>`.


# %%
def wide_autoencoder():
    encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 1024), torch.nn.ReLU())
    decoder = torch.nn.Sequential(torch.nn.Linear(1024, 784), torch.nn.Unflatten(1, (1, 28, 28)))
    return autoencoder.Autoencoder(encoder, decoder)


# %% tags=["numbers"]
wide = {"untrained": None, "plain": loss}
wide["denoising"] = autoencoder.denoising_reconstruction_loss
for name, training_loss in wide.items():
    wide[name] = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        network = wide_autoencoder().requires_grad_(False)
        if training_loss is not None:
            network.requires_grad_()
            network = train_new(network, training_loss, train.images[:5_000], batch_size=64)
        inputs[name] = network.encode(train.images[chosen]), network.encode(test.images)
        wide[name].append(accuracies(name, 300))
    print(f"{name:10s}", *(f"{values.mean():.3f}" for values in wide[name]))
print(f"{'pixels':10s} {pixels[2].mean():.3f}")

# %% tags=["nbval-check-output", "mnist"]
means = {name: torch.stack(values).mean(1) for name, values in wide.items()}
for other in ("untrained", "plain"):
    better = bool((means["denoising"] > means[other]).all())
    print(f"denoising is better than {other} in the mean, in both trainings: {better}")
print("plain is better than untrained, in both:", bool((means["plain"] > means["untrained"]).all()))
print("untrained is better than pixels:", bool((means["untrained"] > pixels[2].mean()).all()))

# %% [markdown]
# A wide code can be useful, but learning to copy does not make it so: random weights of that width give 84.1 ± 0.1 percent right, a plain training 83.5 ± 0.1, and after sixteen epochs 80.8 ± 0.2, less than the pixels themselves with 81.7 ± 0.1. With noise on the input copying is no solution, and at this learning rate the code gets better with training: denoising gives 85.4 ± 0.1, and 87.5 ± 0.1 after sixteen epochs ({ref}`experiment <exp-wide-code>`). One epoch of it at a quarter or at four times the rate gives less than random weights.
#
# ### Contracting
#
# The second variant penalizes codes that change much when the input changes a little, by the squared Frobenius norm of the {term}`Jacobian` of the encoder, the $d \times D$ matrix of its derivatives {cite:p}`rifai2011`:
#
# $$
# \mathcal{L}_\text{CAE} = \mathbb{E}_x \Big[ \lVert x - f(g(x)) \rVert^2 + \lambda \Big\lVert \frac{\partial g(x)}{\partial x} \Big\rVert_F^2 \Big] .
# $$ (def-contractive-loss)
#
# The number $\lambda > 0$ (without an index; it is no eigenvalue) weighs the penalty. The derivative is in the input $x$, not in the weights. The penalty alone does not prevent copying: with $d = D$, $g(x) = \epsilon x$ and $f(z) = z / \epsilon$ the reconstruction is perfect and the penalty $\lambda \epsilon^2 D$ as small as one likes. {cite:t}`rifai2011` exclude this by using the encoder's weights, transposed, in the decoder ("tied" weights). For one layer $g(x) = \tanh(W x)$ with rows $w_i$ of $W$,
#
# $$
# \Big\lVert \frac{\partial g}{\partial x} \Big\rVert_F^2 = \sum_{i} (1 - g_i(x)^2)^2 \, \lVert w_i \rVert^2 .
# $$ (eq-tanh-jacobian)
#
# :::{dropdown} Proof
# $\partial g_i / \partial x_j = (1 - g_i^2)\, W_{ij}$. Square it and sum over $j$, then over $i$. $\square$
# :::
#
# %% tags=["check", "nbval-check-output"]
_ = torch.manual_seed(1)
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
# For a deep encoder there is no such formula, and the exact norm takes one backward pass per coordinate of the code. An unbiased random estimate takes only one. For a random vector $v$ with mean zero and covariance $I$, and any matrix $J$,
#
# $$
# \mathbb{E}_v \lVert v^\top J \rVert^2 = \lVert J \rVert_F^2 ,
# $$ (eq-random-projection)
#
# because $\mathbb{E}\, v^\top J J^\top v = \operatorname{tr}(J J^\top\, \mathbb{E}\, v v^\top)$ and $\mathbb{E}\, v v^\top = I$.

# %% tags=["check", "nbval-check-output"]
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
# Denoising and contracting are related: noise at the input of a *linear* map $A$ adds a penalty on its Jacobian, $A$ itself,
#
# $$
# \mathbb{E}_\varepsilon \lVert x - A (x + \varepsilon) \rVert^2 = \lVert x - A x \rVert^2 + \sigma^2 \lVert A \rVert_F^2 .
# $$ (eq-noise-is-penalty)
#
# The two parts of $(x - Ax) - A \varepsilon$ are orthogonal in the mean, as in {eq}`eq-linear-dae`.

# %% tags=["check", "nbval-check-output"]
A, x = torch.randn(4, 4, dtype=torch.double), torch.randn(4, dtype=torch.double)
sigma = 0.7
noisy = x + sigma * torch.randn(200_000, 4, dtype=torch.double)
clean, penalty = (x - A @ x).square().sum(), sigma**2 * A.square().sum()
samples, wrong = (x - noisy @ A.T).square().sum(1), {"no penalty": clean}
verify("eq-noise-is-penalty", samples, clean + penalty, monte_carlo, rejects=wrong)

# %% [markdown]
# For a smooth map that is not linear, a second term of the same order appears {cite:p}`bishop1995`. Write $r = f \circ g$ for encoder and decoder together and $\Delta r = \sum_j \partial^2 r / \partial x_j^2$ for its Laplacian, a vector. If $r$ and its derivatives up to the fourth order are bounded,
#
# $$
# \begin{aligned}
# &\lim_{\sigma \to 0} \frac{\mathbb{E}_\varepsilon \lVert x - r(x + \varepsilon) \rVert^2 - \lVert x - r(x) \rVert^2}{\sigma^2} \\
# &\qquad = \Big\lVert \frac{\partial r(x)}{\partial x} \Big\rVert_F^2 - \big( x - r(x) \big)^\top \Delta r(x) .
# \end{aligned}
# $$ (eq-noise-smooth)
#
# :::{dropdown} Proof
# Let $h(y) = \lVert x - r(y) \rVert^2$ with $x$ held fixed. Expand $h(x + \varepsilon)$ to the fourth order. The odd terms have mean zero, and the second-order term has mean $\frac{\sigma^2}{2} \Delta h(x)$, so the left side is $\frac12 \Delta h(x)$. Differentiating $h$ twice gives $\frac12 \Delta h = \lVert \partial r / \partial y \rVert_F^2 - (x - r)^\top \Delta r$. $\square$
# :::
#
# Where the reconstruction is exact, $x = r(x)$, the penalty on the Jacobian is all that remains. There, in the limit of little noise, denoising is contracting, but it penalizes the Jacobian of $r$, and {eq}`def-contractive-loss` only that of the encoder.
#
# **Check.** Every noise vector is used with both signs, so that the odd terms cancel exactly. The Jacobian alone is rejected.


# %% tags=["check", "nbval-check-output"]
def r(y):
    return torch.tanh(y @ W[:, :4].T) @ A[:, :3].T


noise = torch.randn(200_000, 4, dtype=torch.double)
sigma = 0.01
error_up, error_down = ((x - r(x + sign * sigma * noise)).square().sum(1) for sign in (1, -1))
samples = (error_up + error_down - 2 * (x - r(x)).square().sum()) / (2 * sigma**2)

jacobian_only = torch.func.jacrev(r)(x).square().sum()
second = torch.func.jacrev(torch.func.jacrev(r))(x)
laplacian = second.diagonal(dim1=1, dim2=2).sum(1)
limit, wrong = jacobian_only - (x - r(x)) @ laplacian, {"Jacobian only": jacobian_only}
verify("eq-noise-smooth", samples, limit, monte_carlo, rejects=wrong)

# %% [markdown]
# ### Adversarially robust
#
# The third variant disturbs the input not at random but in the worst way within a ball of radius $R$, as {cite:t}`madry2018` do for classifiers:
#
# $$
# \mathcal{L}_\text{robust} = \mathbb{E}_x \max_{\lVert \delta \rVert \le R} \lVert x - f(g(x + \delta)) \rVert^2 .
# $$ (def-robust-loss)
#
# The inner maximum is sought by an *attack*, a few steps of gradient ascent, each followed by a projection to the ball's surface. The error that it finds is a lower bound of the maximum. In one case the maximum is known. At $x = 0$, let a linear map $A$ with largest singular value $s_{\max}$ stand for $f \circ g$. By the definition of $s_{\max}$,
#
# $$
# \max_{\lVert \delta \rVert \le R} \lVert A \delta \rVert^2 = R^2 \, s_{\max}(A)^2 .
# $$ (eq-robust-linear)
#
# **Check.** This value is compared with what the attack finds in many steps. The Frobenius norm in place of the spectral norm is rejected.

# %% tags=["check", "nbval-check-output"]
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
# We compare four networks of one architecture, trained for ten epochs each, that differ only in the loss: plain, denoising with $\sigma = 0.5$, contracting with $\lambda = 0.1$, and robust with $R = 2$ and three steps of attack. The first three columns are errors: on clean test images, on noisy ones with the same $\sigma$, and after an attack of ten steps with the same $R$. The last two columns say how strongly the code reacts to the input: the squared norm of the Jacobian, and the same divided by the total variance of the codes. Look for the smallest number in each column.

# %% tags=["serves"]
names = {
    "plain": "ae-mnist",
    "denoising": "dae-mnist",
    "contracting": "cae-mnist",
    "robust": "robust-ae-mnist",
}
variants = {name: pretrained(file) for name, file in names.items()}

# %% tags=["numbers", "columns"]
x = test.images[:1000]
noisy = x + 0.5 * torch.randn_like(x)


def measure(model):
    attacked = x + autoencoder.worst_perturbation(model, x, radius=2.0, num_steps=10)
    inputs = {"clean": x, "noisy": noisy, "attacked": attacked}
    with torch.no_grad():
        row = {c: autoencoder.squared_error(model(y), x) for c, y in inputs.items()}
        variance = model.encode(x).var(0).sum()
    row["Jacobian"] = autoencoder.jacobian_norm(model, x[:200])
    row["relative"] = row["Jacobian"] / variance
    return row


table = {name: measure(model) for name, model in variants.items()}
print(f"{'trained as':12s}" + "".join(f"{column:>10s}" for column in table["plain"]))
for name, row in table.items():
    print(f"{name:12s}" + "".join(f"{v.mean():10.2f}" for v in row.values()))

# %% [markdown]
# We compare the networks image by image. "Clearly less" means less in the mean by more than five standard errors of the difference.


# %% tags=["held", "nbval-check-output", "mnist"]
def clearly_less(column, first, second):
    gain = table[second][column] - table[first][column]
    return bool(gain.mean() > 5 * gain.std() / len(gain) ** 0.5)


winners = {"noisy": "denoising", "attacked": "robust", "Jacobian": "contracting"}
for column, best in {"clean": "plain", **winners}.items():
    others = [name for name in table if name != best]
    won = all(clearly_less(column, best, other) for other in others)
    print(f"column {column}: {best} is clearly less than all others: {won}")
for name in ("denoising", "robust"):
    won = clearly_less("relative", name, "contracting")
    print(f"column relative: {name} is clearly less than contracting: {won}")

# %% [markdown]
# Each of these networks is best at what it was trained for, and the three variants have larger errors on clean images. In the first row, compare noise and attack: the noise has a length of about $0.5 \sqrt{784} = 14$ and the attack one of 2, and yet the attack raises the error of the plain network more.
#
# Would other trainings give the same order? We train each network twice more, briefly, from other random weights.

# %% tags=["serves"]
training_losses = {
    "plain": loss,
    "denoising": autoencoder.denoising_reconstruction_loss,
    "contracting": autoencoder.contractive_loss,
    "robust": autoencoder.robust_loss,
}


def train_variants(seed):
    networks, images = {}, train.images[:12_800]
    for name, training_loss in training_losses.items():
        torch.manual_seed(seed)
        network = autoencoder.mlp_autoencoder(latent_dim=16)
        networks[name] = train_new(network, training_loss, images, batch_size=64, lr=2e-3)
    return networks


# %% tags=["numbers"]
retrained = [train_variants(seed) for seed in (1, 2)]
tables = []
for networks in retrained:
    rows = {name: measure(network) for name, network in networks.items()}
    tables.append({n: {c: v.mean().item() for c, v in row.items()} for n, row in rows.items()})
    for name, row in tables[-1].items():
        print(f"{name:12s}" + "".join(f"{value:10.2f}" for value in row.values()))


# %% tags=["held", "nbval-check-output", "mnist"]
def always_less(column, first, *others):
    return all(t[first][column] < t[other][column] for t in tables for other in others)


for column, best in {"attacked": "robust", "Jacobian": "contracting"}.items():
    others = [name for name in training_losses if name != best]
    print(f"column {column}: {best} is least, twice:", always_less(column, best, *others))
for name in ("denoising", "contracting", "robust"):
    less = [always_less(column, name, "plain") for column in ("noisy", "attacked", "Jacobian")]
    print(f"{name} is less than plain in all three columns, twice:", all(less))
less = always_less("noisy", "contracting", "denoising")
print("column noisy: contracting is less than denoising, twice:", less)

# %% [markdown]
# In the columns of the attack and of the Jacobian the same networks are best after these short trainings. But on noisy images the contracting network is now ahead of the denoising one, and on clean images about as good as the plain one. So the first places in the columns of noise and of clean images are of the longer runs only.
#
# More than ten steps of attack raise the error of these two networks by little:

# %% tags=["numbers"]
for name in ("plain", "robust"):
    found = []
    for steps in (10, 100):
        torch.manual_seed(0)
        delta = autoencoder.worst_perturbation(variants[name], x[:200], radius=2.0, num_steps=steps)
        with torch.no_grad():
            found += [autoencoder.squared_error(variants[name](x[:200] + delta), x[:200]).mean()]
    print(f"{name:7s} error {found[0]:6.2f} after 10 steps, {found[1]:6.2f} after 100")

# %% [markdown]
# The last column of the tables is unexpected. Relative to the variance of its codes, the contracting network is *not* the least sensitive. Its penalty can be lowered without any gain, by the scaling with $\epsilon$ above: all codes become small, and larger weights of the decoder undo it. We do this to the plain network: divide the last layer of the encoder by ten, and multiply the first weights of the decoder by ten.

# %% tags=["numbers", "nbval-check-output"]
cheat = deepcopy(variants["plain"])
with torch.no_grad():
    for parameter in cheat.encoder[-1][-1].parameters():
        parameter /= 10
    cheat.decoder[0][0].weight *= 10
    change = (cheat(x) - variants["plain"](x)).abs().max()
penalty = autoencoder.jacobian_norm(cheat, x[:200]).mean()
print("same reconstructions:", bool(change < 1e-3))
print(f"penalty divided by {table['plain']['Jacobian'].mean() / penalty:.0f}")

# %% [markdown]
# The penalty is a hundred times smaller, and the reconstructions are the same. Tied weights prevent this, since small weights in the encoder are then small weights in the decoder. Denoising and robust training do not have this problem, because their loss is measured after the decoder.
#
# **What you can say now.** The best denoiser gives the score of the noisy data. In all three runs the network of the worst-case loss has the smallest error under attack. The contracting penalty alone can be lowered by scaling.
#
# *Sources: A03, A04, A05, A06.*

# %% [markdown]
# (sec-interpolation)=
# ## Interpolation: from a 3 to an 8
#
# If the latent space is smooth, the points between two codes should decode to images between two images. To test this, we decode eleven points of the straight line between the codes of a 3 and of an 8, with each of the four networks.

# %%
start, end = (int((test.labels == digit).nonzero()[0]) for digit in (3, 8))


def line(model, steps, start=start, end=end):
    """The decoded points of the straight line between the codes of two test images."""
    with torch.no_grad():
        z = model.encode(test.images[[start, end]])
        return model.decode(torch.lerp(z[:1], z[1:], torch.linspace(0, 1, steps)[:, None]))


# %% tags=["figure"] mystnb={"image": {"alt": "Four rows of eleven images that change in small steps from a 3 to a slanted 8. In the middle each row shows a figure that is a bit of both, and blurred."}, "figure": {"caption": "Straight lines in four latent spaces, from a 3 to an 8. The images in the middle are blurred mixtures.", "name": "fig-walk"}}
plots.image_rows({name: line(model, 11) for name, model in variants.items()})

# %% [markdown]
# All rows of {numref}`fig-walk` change gradually. The slider goes along the same lines in smaller steps.

# %% tags=["figure"]
lines = {name: line(model, 21) for name, model in variants.items()}


def images_on_the_way(i):
    now = torch.stack([images[i] for images in lines.values()])
    return plots.image_grid(now, columns=4, titles=list(lines), tile=1.5)


Slider(
    range(21),
    images_on_the_way,
    description="share of the way",
    label=lambda i: f"{i / 20:.2f}",
    alt=lambda i: f"What the four networks decode {i / 20:.0%} of the way to the 8",
    start=10,
)

# %% [markdown]
# Which interpolation is the most direct? Add up the distances from each decoded image $\hat{x}_0, \dots, \hat{x}_n$ along the line to the next, and divide by the distance between the two ends,
#
# $$
# \text{path ratio} = \frac{\sum_{i=1}^{n} \lVert \hat{x}_i - \hat{x}_{i-1} \rVert}{\lVert \hat{x}_n - \hat{x}_0 \rVert} .
# $$ (def-path-ratio)
#
# By the triangle inequality the ratio is at least 1; a large one means a detour. We average over a hundred pairs of a 3 and an 8.

# %% tags=["numbers"]
shuffled = torch.randperm(len(test.labels))
threes, eights = (shuffled[test.labels[shuffled] == d][:100].tolist() for d in (3, 8))
pairs = list(zip(threes, eights, strict=True))


def path_ratios(model):
    return torch.tensor([path_length_ratio(line(model, 33, a, b)) for a, b in pairs])


ratios = {name: path_ratios(model) for name, model in variants.items()}
for name, values in ratios.items():
    print(f"{name:12s} {values.mean():.3f} +- {values.std() / len(values) ** 0.5:.3f}")

# %% [markdown]
# Again we compare pair by pair. The control is a cross-fade, the weighted mean of the two images, without a network.

# %% tags=["numbers", "nbval-check-output", "mnist"]
again = [{name: path_ratios(net).mean() for name, net in nets.items()} for nets in retrained]
for name in ("denoising", "contracting", "robust"):
    gain = ratios["plain"] - ratios[name]
    clear = gain.mean() > 5 * gain.std() / len(gain) ** 0.5
    print(f"{name} is more direct, by more than 5 standard errors: {bool(clear)}")
    print(f"and in both short trainings: {all(r[name] < r['plain'] for r in again)}")
share = torch.linspace(0, 1, 33)[:, None, None, None]
fade = torch.lerp(test.images[[start]], test.images[[end]], share)
print(f"path ratio of a cross-fade: {path_length_ratio(fade):.2f}")

# %% [markdown]
# In all three trainings the variants have smaller ratios than the plain network, and in this sense their latent spaces are smoother. But a small ratio is no sign of quality: the cross-fade has the smallest possible one, and its middle shows two digits on top of each other.
#
# **What you can say now.** In our networks straight lines between codes decode to gradual changes. The path ratio says how direct they are, not how good the images are.
#
# *Sources: A06, A07.*

# %% [markdown]
# (sec-no-sampling)=
# ## Why a decoder alone does not generate
#
# Why does the decoder make no digits of random numbers, as in the third row of {numref}`fig-opening`? It was only trained on codes of real images. So the random numbers should have the distribution of these codes, and nothing in the loss says what it is. In {numref}`fig-codes`, compare the extent of the codes with that of the standard Gaussian $\mathcal{N}(0, I)$.

# %%
with torch.no_grad():
    order = torch.randperm(len(test.images))  # the order of the test set matters, see below
    codes, digits = model.encode(test.images)[order], test.labels[order]
directions = torch.linalg.eigh(torch.cov(codes.T)).eigenvectors[:, -2:].flip(1)
normal = torch.randn(2000, 16)

# %% tags=["figure"] mystnb={"image": {"alt": "Left, a wide and uneven cloud of codes in ten colors, one for each digit, with digits written at the means of their codes; 0 and 7 lie far apart, 7 and 1 close together. Right, the same cloud in one color with a small ball of standard Gaussian samples that covers only a part of it."}, "figure": {"caption": "Codes of test digits along their two main directions. Left: colored by digit, with digits written at the means of their codes. Right: beside samples from $\\mathcal{N}(0, I)$, which cover only a small part of them.", "name": "fig-codes"}}
flat, names = codes[:2000] @ directions, ["codes"] * 2000 + ["standard Gaussian"] * 2000
fig, (left, right) = plots.figure(columns=2, height=3.6)
words = {"x_label": "first main direction", "y_label": "second main direction"}
_ = plots.scatter(flat, digits[:2000], **words, axes=left)
left.get_legend().remove()
rim = [withStroke(linewidth=3, foreground="white")]
for digit in range(10):
    place = flat[digits[:2000] == digit].mean(0).tolist()
    _ = left.text(*place, digit, weight="bold", ha="center", va="center", path_effects=rim)
_ = plots.scatter(torch.cat([flat, normal @ directions]), names, **words, axes=right)
right.get_legend().set(loc="upper center", bbox_to_anchor=(0.5, 1.12))
fig

# %% [markdown]
# The two clouds differ clearly. Can we sample from a distribution that is closer to that of the codes? We split the codes at random into three sets: one to fit distributions to, one as the reference of all comparisons, one as a control. There are four candidates: the standard Gaussian, a Gaussian with the mean and covariance of real codes, a *mixture* of 40 Gaussians, fitted by the EM algorithm of chapter 3, and the control.


# %%
def fit_mixture(z, num=40, rounds=30):
    """A Gaussian mixture with full covariances, by EM from random starting points."""
    weight, mean = torch.full((num,), 1 / num), z[torch.randperm(len(z))[:num]]
    cov = 0.3 * torch.cov(z.T).repeat(num, 1, 1)
    for _ in range(rounds):
        normals = torch.distributions.MultivariateNormal(mean, cov)
        q = (normals.log_prob(z[:, None]) + weight.log()).softmax(1)
        weight, mean = q.mean(0), q.T @ z / q.sum(0)[:, None]
        residual = z[:, None] - mean
        cov = torch.einsum("nk,nki,nkj->kij", q, residual, residual) / q.sum(0)[:, None, None]
        cov += 0.1 * torch.eye(z.shape[1])  # no component may collapse
    parts = torch.distributions.MultivariateNormal(mean, cov)
    weights = torch.distributions.Categorical(weight)
    return torch.distributions.MixtureSameFamily(weights, parts)


# %%
part = min(1500, len(codes) // 4)
fitting, reference, control = codes.split([len(codes) - 2 * part, part, part])
fitted = torch.distributions.MultivariateNormal(fitting.mean(0), torch.cov(fitting.T))
candidates = {
    "standard Gaussian": normal[:part],
    "fitted Gaussian": fitted.sample((part,)),
    "fitted mixture": fit_mixture(fitting).sample((part,)),
    "other real codes": control,
}

# %% tags=["figure"] mystnb={"image": {"alt": "Four rows of decoded images: gray blots from the standard Gaussian, distorted half-digits from the fitted Gaussian, mostly readable digits from the mixture, clean digits from real codes."}, "figure": {"caption": "Decoded samples of four distributions of codes. Most samples of both Gaussians are no digits; most of the mixture are.", "name": "fig-samples"}}
with torch.no_grad():
    rows = {name.replace(" ", "\n", 1): model.decode(z[:12]) for name, z in candidates.items()}
plots.image_rows(rows)

# %% [markdown]
# In {numref}`fig-samples` the fitted Gaussian does better than the standard one, and the mixture better than both. To measure this we need a distance that can be estimated from samples, and a test with a known probability of a false alarm. The {term}`energy distance` of two distributions {cite:p}`szekely2013`,
#
# $$
# \mathcal{E} = 2\, \mathbb{E}\lVert X - Y \rVert - \mathbb{E}\lVert X - X' \rVert - \mathbb{E}\lVert Y - Y' \rVert ,
# $$ (def-energy-distance)
#
# with $X, X'$ from one and $Y, Y'$ from the other, all independent and with finite means, is zero if the distributions are equal and positive if they are not. In one dimension this follows from a formula with the distribution functions $F$ of $X$ and $G$ of $Y$,
#
# $$
# \mathcal{E} = 2 \int_{-\infty}^{\infty} \big( F(t) - G(t) \big)^2 \, \mathrm{d}t .
# $$ (eq-energy-cdf)
#
# :::{dropdown} Proof
# A point $t$ lies between $X$ and $Y$ if $X \le t < Y$ or $Y \le t < X$, and $|X - Y|$ is the length of all these $t$. In the mean, $\mathbb{E}|X - Y| = \int \big( F (1 - G) + G (1 - F) \big) \mathrm{d}t$. In the same way, $\mathbb{E}|X - X'| = 2 \int F (1 - F)\, \mathrm{d}t$ and $\mathbb{E}|Y - Y'| = 2 \int G (1 - G)\, \mathrm{d}t$. Subtract; what remains under the integral is $2 (F - G)^2$. $\square$
# :::
#
# **Check.** For $\mathcal{N}(0, 1)$ and $\mathcal{N}(1, 4)$ the differences in {eq}`def-energy-distance` are Gaussian too, and for a Gaussian $U$ the mean of $|U|$ has a closed form. The integral without the factor 2 is rejected, and the absolute value in place of the square.


# %% tags=["serves"]
def mean_distance(shift, variance):
    """E|U| for a Gaussian U of the given mean and variance."""
    a = torch.tensor(shift / (2 * variance) ** 0.5, dtype=torch.double)
    return (2 * variance / torch.pi) ** 0.5 * (-(a**2)).exp() + shift * torch.erf(a)


# %% tags=["check", "nbval-check-output"]
t = torch.linspace(-30, 30, 200_001, dtype=torch.double)
F, G = torch.special.ndtr(t), torch.special.ndtr((t - 1.0) / 2.0)  # N(0, 1) and N(1, 4)
across, within = mean_distance(1.0, 5.0), mean_distance(0.0, 2.0)
left = 2 * across - within - mean_distance(0.0, 8.0)
integral = torch.trapezoid((F - G) ** 2, t)
wrong = {"no factor 2": integral, "absolute value": 2 * torch.trapezoid((F - G).abs(), t)}
verify("eq-energy-cdf", left, 2 * integral, quadrature, rejects=wrong)

# %% [markdown]
# How large must a measured distance be to count as a difference? We mix the two samples and divide them at random into two parts, 200 times. The share of divisions with at least the measured distance (counting the measured one itself) is the p-value; it is at least $1/201$. If the distributions are equal, it is below 1 % in at most 1 % of such tests, *provided that the samples are exchangeable*. The first and the last test digits of MNIST are not, since the two halves of the test set come from different groups of writers {cite:p}`lecun1998`, and the test finds a difference:

# %% tags=["held", "nbval-check-output", "mnist"]
with torch.no_grad():
    early, late = model.encode(test.images[:800]), model.encode(test.images[-800:])
p_value = metrics.energy_test(early, late).p_value
print("the first 800 and the last 800 test digits differ at 1 %:", p_value < 0.01)

# %% [markdown]
# So the codes above are in random order. How far from the reference is each candidate?

# %%
tests = {name: metrics.energy_test(z, reference) for name, z in candidates.items()}
for name, (distance, p_value, _) in tests.items():
    print(f"{name:18s} energy distance {distance:6.3f}, p = {p_value:.3f}")

# %% tags=["nbval-check-output", "mnist"]
for name in ("standard Gaussian", "fitted Gaussian", "other real codes"):
    print(f"{name}: {'rejected' if tests[name].p_value < 0.01 else 'not rejected'} at 1 %")
one, many, real = list(tests)[1:]
print("the mixture is nearer than the Gaussian:", tests[many].statistic < tests[one].statistic)

# %% [markdown]
# Both Gaussians are rejected in this run, and the other real codes are not. Do the *images* show it? Two classifiers that also know "no digit" ({ref}`chapter 10 <sec-ddpm-samples>` explains them) looked at 1,500 decoded samples of three trainings ({ref}`experiment <exp-code-model>`). In excess over real digits they do not recognize 97.8 ± 0.1 % of the images of a standard Gaussian, 80.2 ± 0.3 % of the fitted one, 18.3 ± 1.1 % of the mixture of 40 and 14.0 ± 0.4 % of one of 160; of real codes it is 1.8 ± 0.2 %. So a plain autoencoder *can* generate, with the help of a second model, fitted to its codes {cite:p}`ghosh2020`. Chapter 13 puts a diffusion model in the place of the mixture, which is called latent diffusion.
#
# There are four limits, and each leads to a later chapter.
#
# - **No distribution of the codes.** Instead of fitting a second model, one can choose the distribution first and *train the encoder towards it*. That is the variational autoencoder. It needs a measure of how two distributions differ, the Kullback-Leibler divergence of the next chapter.
# - **A probability that nobody trained for.** Up to constants, the squared error is minus the log-density of a Gaussian. So a distribution of codes, the decoder and Gaussian noise together *are* a model with a density $p(x)$. It is an integral that cannot be computed, but chapter 3 bounds it from below. On gray test digits the bound on $\log p(x)$ is 578.8 ± 0.5 nats with the mixture, 573.6 ± 0.7 with the fitted Gaussian and 433.2 ± 2.5 with the standard one ({ref}`experiment <exp-code-model>`). But nothing in the training looked at this number. The variational autoencoder maximizes it.
# - **A probability is no verdict.** In this model the blank image of {ref}`the anomaly test <sec-uses>` has a bound of 976 ± 5 nats, far above that of a digit ({ref}`experiment <exp-code-model>`). Other models with a density rate anomalies as likely, too {cite:p}`nalisnick2019`.
# - **Only one step.** One step of a denoiser from strong noise leads to a blurred mean. Many small steps along the score {eq}`eq-score`, with noise added in between, lead to samples. That is diffusion.
#
# **What you can say now.** Our decoder makes digits of codes that are distributed like those of digits, and almost none of standard Gaussian ones. A mixture fitted to the codes afterwards comes between. With the noise of the squared error, decoder and fitted model even define a density $p(x)$, which chapter 3 bounds and chapter 6 maximizes.
#
# *Sources: A08, C01.*

# %% [markdown]
# (sec-ae-exercises)=
# ## Exercises
#
# Replace the three dots by your answer and run the cell. The check says *correct*, or gives a hint. Solutions are folded below each exercise and executed like the rest of the book.

# %% tags=["unseen", "nbval-check-output"]
from companion.page.exercises import autoencoders as exercises

# %% [markdown]
# ```{exercise-start} Kept energy
# :label: ex-kept-energy
# ```
# Write a function that takes images of shape (batch, 1, side, side) and returns, for each, the share of its energy that lies in the `keep` × `keep` lowest frequencies.


# %% tags=["answer", "nbval-check-output"]
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
# The data are the five numbers 0, 0, 1, 7 and 2. Which constant has the least mean *squared* error, and which has the least mean *absolute* error? Give both, in this order.

# %% tags=["answer", "nbval-check-output"]
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
# Let $U$ have orthonormal columns. Express the mean squared error of $x \mapsto U U^\top x$ on centered data by $U$ and the covariance $S$ alone, without the data.


# %% tags=["answer", "nbval-check-output"]
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


# %% tags=["answer", "nbval-check-output"]
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
# The noisy value has the distribution $\mathcal{N}(m, \lambda + \sigma^2)$, whose score is $-(\tilde{x} - m) / (\lambda + \sigma^2)$.


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


# %% tags=["answer", "nbval-check-output"]
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
# ```{exercise-start} An anomaly with a small error
# :label: ex-happy-anomaly
# ```
# Find an image that is far from every test digit, and yet the network reconstructs it better than 95 % of them. Try the mean of a thousand digits, too: does it pass?

# %% tags=["answer", "nbval-check-output"]
image = ...
exercises.check_happy_anomaly(image, model, test.images)

# %% [markdown]
# ```{exercise-end}
# ```
#
# ```{solution-start} ex-happy-anomaly
# :label: ex-happy-anomaly-solution
# :class: dropdown
# ```
# The blank image passes. The mean digit does not: its error is above the limit.

# %% tags=["nbval-check-output"]
blank, mean_digit = torch.zeros(1, 1, 28, 28), test.images[:1000].mean(0, keepdim=True)
exercises.check_happy_anomaly(blank, model, test.images)
with torch.no_grad():
    limit = loss(model, test.images).quantile(0.05)
    print("the mean digit passes:", bool(loss(model, mean_digit) < limit))

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# (sec-ae-summary)=
# ## Summary
#
# - An autoencoder learns to compress by learning to reconstruct. With affine maps it is principal component analysis {eq}`eq-pca-loss`; on digits, after ten epochs, networks do better with the same number of dimensions, from 2 to 64.
# - With thirty labels our codes helped a linear classifier a little more than well-scaled pixels or principal components. A large error can point to an anomaly, but a small one does not rule it out.
# - In all three runs of each, denoising, contracting and worst-case training made our networks less sensitive and the paths between codes more direct; denoising and worst-case training had a larger error on clean images in all three, contracting in two. The best denoiser gives more than it was trained for: the difference between its output and its input is the score of the noisy data, times the variance of the noise {eq}`eq-score`.
# - The decoder alone does not generate, since nothing fixes the distribution of the codes. A mixture fitted afterwards helps, but the training knew nothing of the probability that both assign to an image. The next chapters train for it: first the KL divergence between distributions, then a bound on $\log p(x)$.
#
# **What needs care.** The contracting penalty is a derivative in the input; the check of {eq}`eq-tanh-jacobian` rejects one in the weights (entry E4 of the {doc}`errata </book/errata>`). Autoencoders do
# have a probabilistic reading: a squared error is a Gaussian log-density, and the denoising one has {prf:ref}`thm-score`. Features need no lower dimension than the data, as the wide denoising autoencoder shows. And one must say whether the error is squared {eq}`eq-mean-minimizes`.
#
# **To read next.** {cite:t}`vincent2011` for the link from denoising to scores, {cite:t}`alain2014` for what regularized autoencoders learn about the density, {cite:t}`bengio2013` for a survey of learned representations, {cite:t}`hinton2006` for the paper that made deep autoencoders work.
