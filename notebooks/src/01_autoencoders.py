# %% [markdown]
# # Autoencoders
#
# A network is shown images of digits and trained to give back what it was given. The task is empty until there is an obstacle: the image has to pass through 16 numbers, or arrives covered with noise. What does the network then have to learn about digits, and can it draw new ones?

# %% tags=["setup", "hide-input"]
# The set-up cell: `make sync` writes it.

# %% tags=["unseen"]
import math
from copy import deepcopy
from functools import partial

import torch
from matplotlib.patheffects import withStroke

from companion import autoencoder, data, metrics
from companion.experiments import record_of
from companion.experiments.code_model import Density, fit_mixture
from companion.interpolation import path_length_ratio
from companion.networks.mlp import mlp
from companion.page import plots
from companion.page.exercises import autoencoders as exercises
from companion.page.live import watch
from companion.page.show import show
from companion.page.sliders import Slider
from companion.page.verify import autograd, exact, monte_carlo, quadrature, verify
from companion.runtime import pick
from companion.training import fit, minimize
from companion.zoo import pretrained
from companion.zoo.yardstick import unrecognized
from companion.zoo.yourself import cost, train_it, use

_ = torch.manual_seed(0)

# %% tags=["figure"] mystnb={"image": {"alt": "Three rows of ten images: handwritten digits, almost identical reconstructions, and gray blots decoded from random codes."}, "figure": {"caption": "Compression works, generation fails. Test digits, their reconstructions from 16 numbers, and what 16 random numbers decode to.", "name": "fig-opening"}}
train, test = data.load("mnist", "train"), data.load("mnist", "test")
model = pretrained("ae-mnist")
with torch.no_grad():
    rows = {
        "test digits": test.images[:10],
        "from 16 numbers": model(test.images[:10]),
        "random codes": model.decode(torch.randn(10, 16)),
    }
plots.image_rows(rows)

# %% [markdown]
# :::{admonition} The idea
# A network learns something only where it cannot copy. If the code is too small for a copy, it has to find out in what digits differ. If noise covers the input, it has to find out where digits are: the arrow from a noisy image to its best reconstruction points to where noisy images are more likely. Up to a factor it is the gradient of their log-density, the *score*, on which diffusion models rest.
# :::
#
# Nothing says which codes belong to digits. The data are MNIST, 60,000 training and 10,000 test images {cite:p}`lecun1998`.

# %% [markdown]
# (sec-encode-decode)=
# ## Encode, decode, compare
#
# An {term}`autoencoder` is a pair of functions. The {term}`encoder` $g_\phi$ maps a data point $x \in \mathbb{R}^D$ to a {term}`code` $z \in \mathbb{R}^d$, usually with $d$ much smaller than $D$. The {term}`decoder` $f_\theta$ maps a code back, to the {term}`reconstruction`:
#
# $$
# z = g_\phi(x), \qquad \hat{x} = f_\theta(z).
# $$ (def-autoencoder)
#
# Here $\phi$ and $\theta$ are the weights of the two networks, and the space of the codes is the {term}`latent space`. So that $\hat{x}$ is close to $x$ on average over the data distribution, we minimize
#
# $$
# \mathcal{L}(\theta, \phi) = \mathbb{E}_{x \sim p_\mathrm{data}} \, \lVert x - f_\theta(g_\phi(x)) \rVert^2 ,
# $$ (def-reconstruction-loss)
#
# the *reconstruction error*, in practice averaged over the training set. No labels are needed: the input is its own target. With $d = D$ the identity would have no error and teach nothing; a code that is too small for it is a {term}`bottleneck`.

# %% tags=["figure"] mystnb={"image": {"alt": "A drawing from left to right: an image of a digit, a blue wedge that narrows, the encoder, a small green box, the code z, an orange wedge that widens, the decoder, and the reconstructed digit."}, "figure": {"caption": "An autoencoder. Of the 784 pixels the decoder sees only the code $z$.", "name": "fig-autoencoder"}}
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
# **Why the square?** It decides what a decoder answers when it is not sure. Suppose that it always answers the same point $c$. Expand the square of $x - c = (x - \mathbb{E}x) + (\mathbb{E}x - c)$: the cross term has mean zero, as $x - \mathbb{E}x$ has. So, for a random $x$ of finite variance,
#
# $$
# \mathbb{E} \lVert x - c \rVert^2 = \mathbb{E} \lVert x - \mathbb{E}x \rVert^2 + \lVert \mathbb{E}x - c \rVert^2 ,
# $$ (eq-mean-minimizes)
#
# and the best $c$ is the mean. (Without the square it is another point; for numbers, the median.) By the same equation the best reconstruction is the mean of all images that share a code, or whose codes a smooth decoder cannot tell apart. If the code leaves open whether a stroke is here or two pixels to the right, this mean shows both, blurred. The blur is the price of the square; in return, a denoiser that gives the mean will tell the score, and the square becomes a log-density ({ref}`below <sec-ae-likelihood>`).
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
# *Sources: A01.*

# %% [markdown]
# (sec-dct)=
# (sec-pca)=
# ## The best that linear codes can do
#
# The {term}`discrete cosine transform` of JPEG {cite:p}`ahmed1974,wallace1992` has nothing to learn: its encoder takes the inner products of an image with orthonormal cosines and keeps those of low frequency; its decoder adds up the cosines, weighted by them. All 784 of these numbers give the image back; if some are dropped, the squared error is the sum of their squares.


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
# :::{depth-start} the error of the cosine code is the energy of what it drops
# :::
# For a signal of $n$ samples the orthonormal transform is the matrix
#
# $$
# C_{k m} = \sqrt{\frac{2 - \delta_{k0}}{n}} \, \cos\!\Big( \frac{\pi (2m + 1) k}{2 n} \Big), \qquad k, m = 0, \dots, n - 1,
# $$ (def-dct)
#
# where $\delta_{k0}$ is 1 for $k = 0$ and 0 otherwise. A square image $x$ is transformed along its columns and its rows, $Z = C x C^\top$. The rows of $C$ are orthonormal,
#
# $$
# C C^\top = I ,
# $$ (eq-dct-orthonormal)
#
# so the inverse is the transpose, $x = C^\top Z C$, and the *energy*, the sum of all squared entries, is preserved (Parseval's identity),
#
# $$
# \lVert C x C^\top \rVert^2 = \lVert x \rVert^2 .
# $$ (eq-parseval)
#
# The coefficients of $x - \hat{x}$ are the dropped ones, so the error is their energy,
#
# $$
# \lVert x - \hat{x} \rVert^2 = \sum_{(j, k) \,\text{dropped}} Z_{jk}^2 .
# $$ (eq-dct-error)
#
# *Proof.* Multiply $\sum_{m=0}^{n-1} \cos \frac{\pi (2m+1) r}{2n}$ by $2 \sin \frac{\pi r}{2n}$. By $2 \cos a \sin b = \sin(a + b) - \sin(a - b)$ the sum telescopes to $\sin(\pi r) = 0$. So it is zero for every whole number $r$ that is no multiple of $2n$; for $r = 0$ it is $n$.
# The inner product of the rows $k$ and $l$ holds products of cosines, and $2 \cos a \cos b = \cos(a - b) + \cos(a + b)$ turns them into two such sums, with $r = k - l$ and $r = k + l$. For $k \ne l$ both vanish. For $k = l > 0$ the first gives $n$, times $\frac12 \cdot \frac2n$, and for $k = l = 0$ both give $n$, times $\frac12 \cdot \frac1n$: the result is 1.
# For Parseval, $\lVert C x C^\top \rVert^2 = \operatorname{tr}(C x C^\top C x^\top C^\top) = \operatorname{tr}(x x^\top) = \lVert x \rVert^2$, as $C^\top C = I$ too. $\square$
#
# **Checks.** All three are computed for $28 \times 28$ pixels. Rejected are the formula that forgets the $\delta_{k0}$, and the energy that is kept in place of the dropped one.

# %% tags=["check", "nbval-check-output"]
k, m = torch.arange(28)[:, None], torch.arange(28, dtype=torch.double)
C = torch.sqrt((2 - (k == 0).double()) / 28) * torch.cos(torch.pi * (2 * m + 1) * k / 56)
wrong, images = torch.where(k == 0, 2**0.5 * C, C), test.images[:100].double()


def energy(x):
    return x.square().sum((1, 2, 3))


name, I = "one factor for all rows", torch.eye(28, dtype=torch.double)
verify("eq-dct-orthonormal", C @ C.T, I, rejects={name: wrong @ wrong.T})
coefficients, mistaken = C @ images @ C.T, energy(wrong @ images @ wrong.T)
verify("eq-parseval", energy(coefficients), energy(images), rejects={name: mistaken})

kept = torch.zeros_like(images)
kept[..., :6, :6] = coefficients[..., :6, :6]
error = energy(images - autoencoder.DctAutoencoder(28, 6)(images))
wrong = {"energy kept": energy(kept)}
verify("eq-dct-error", error, energy(coefficients - kept), rejects=wrong)
same = torch.allclose(C, autoencoder.dct_matrix(28), rtol=0, atol=1e-12)
print("the same matrix as the package's:", same)

# %% [markdown]
# :::{depth-end}
# :::
#
# What is gained by fitting the code to the data? Let encoder and decoder be affine (linear plus a constant). Write $\bar{x}$ for the mean of the training data $x_1, \dots, x_N$, and
#
# $$
# S = \frac{1}{N} \sum_{i=1}^{N} (x_i - \bar{x})(x_i - \bar{x})^\top = \sum_{j=1}^{D} \lambda_j\, u_j u_j^\top,
# \qquad \lambda_1 \ge \dots \ge \lambda_D \ge 0,
# $$ (def-covariance)
#
# for their covariance with its eigenvalues $\lambda_j$ and orthonormal eigenvectors $u_j$. The best pair is known {cite:p}`bourlard1988,baldi1989`.
#
# :::{prf:theorem} Linear autoencoders
# :label: thm-pca
# Let $\mathcal{L}$ be the mean over the training data. Among all affine encoders and decoders with a code of dimension $d \le D$, the smallest squared error {eq}`def-reconstruction-loss` is
#
# $$
# \min_{\theta, \phi} \mathcal{L} = \sum_{j > d} \lambda_j .
# $$ (eq-pca-loss)
#
# It is reached by $g(x) = U^\top (x - \bar{x})$ and $f(z) = U z + \bar{x}$ with $U = (u_1, \dots, u_d)$, the {term}`principal component analysis` of the data.
# :::
#
# All answers of the decoder lie in a flat subspace of $d$ dimensions, and the best one is the orthogonal projection of $x$. So the error is the variance *outside* the subspace, smallest if it holds the $d$ directions in which the data vary most. That is most of the gain over cosines, which take off no mean: with 16 numbers the test error falls from 47.8 to 21.1.
#
# :::{dropdown} Proof
# Fix the decoder. Its outputs lie in an affine subspace of dimension at most $d$, which we may enlarge to dimension $d$. Let it consist of the points $c + Q z$, where $Q$ is a $D \times d$ matrix with orthonormal columns. The best reconstruction of $x$ in it is the orthogonal projection, with the error $\lVert (I - Q Q^\top)(x - c) \rVert^2$.
# By {eq}`eq-mean-minimizes`, applied to $(I - Q Q^\top) x$, the mean of this is smallest for $c = \bar{x}$, whatever $Q$. There it is
#
# $$
# \frac1N \sum_i \lVert (I - Q Q^\top)(x_i - \bar{x}) \rVert^2 = \operatorname{tr} S - \operatorname{tr}(Q^\top S Q),
# $$
#
# and the second term is $\sum_j \lambda_j a_j$ with $a_j = \lVert Q^\top u_j \rVert^2$. These weights lie in $[0, 1]$ and add up to $\operatorname{tr}(Q Q^\top) = d$. The sum is largest if the
# weights sit on the $d$ largest eigenvalues, which $Q = U$ achieves. What remains is $\sum_{j > d} \lambda_j$, and $g$ and $f$ of the theorem compute this projection. $\square$
# :::
#
# It holds for any *encoder*: what networks gain over PCA on the training data takes a decoder that is not affine.
#
# Training can reach it: every local minimum is a global one {cite:p}`baldi1989`. But the *weights* are not unique. For the matrices $W$ and $V$ of encoder and decoder and every invertible $d \times d$ matrix $R$
#
# $$
# (V R^{-1})(R\, W)\, x = V W x .
# $$ (eq-rotation)
#
# The codes may be rotated, stretched and sheared, and the reconstructions stay. So a single coordinate has no meaning of its own. Unique, if $\lambda_d > \lambda_{d+1}$ and $S$ is invertible, is the projection $VW$ onto the first $d$ eigenvectors.
#
# **Check.** That every local minimum is a global one holds for an invertible covariance with distinct eigenvalues. For {eq}`eq-pca-loss` the left side runs 10,000 digits through encoder and decoder; the right side needs only the eigenvalues. Rejected are the eigenvalues of data that are not centered, and a sum with one eigenvalue too many. That nothing is lower, a search from random weights by `minimize` (L-BFGS, a quasi-Newton method) confirms on digits of 4 × 4 pixels. It finds the projection of PCA ($\lambda_d > \lambda_{d+1}$ here), with other weights; they are those of {eq}`eq-rotation`, where $R$ in place of $R^{-1}$ is rejected.

# %% tags=["check", "nbval-check-output"]
x = train.images[:10_000].flatten(1).double()
eigenvalues = torch.linalg.eigvalsh(torch.cov(x.T, correction=0)).flip(0)
not_centered = torch.linalg.eigvalsh(x.T @ x / len(x))
pca = autoencoder.pca_autoencoder(x, latent_dim=16)
wrong = {"not centered": not_centered[:-16].sum(), "one too many": eigenvalues[15:].sum()}
by_pca = autoencoder.reconstruction_loss(pca, x).mean()
verify("eq-pca-loss", by_pca, eigenvalues[16:].sum(), rejects=wrong)

small = torch.nn.functional.avg_pool2d(train.images[:300], 7).flatten(1).double()
small = (small - small.mean()) / small.std()
linear = autoencoder.linear_autoencoder(16, 2).double()
W, V = linear.encoder.weight, linear.decoder.weight
found = minimize(
    lambda: autoencoder.reconstruction_loss(linear, small).mean(),
    linear.parameters(),
    max_steps=800,
)
rising = torch.linalg.eigvalsh(torch.cov(small.T, correction=0))
wrong, rule = {"one eigenvalue too many": rising[:-1].sum()}, exact.within(1e-8)
verify("eq-pca-loss", found, rising[:-2].sum(), rule, rejects=wrong)

R = torch.randn(2, 2, dtype=torch.double)
wrong = {"R not inverted": (V @ R) @ (R @ W) @ small.T}
left, right = (V @ R.inverse()) @ (R @ W) @ small.T, V @ W @ small.T
verify("eq-rotation", left, right, exact.within(1e-9), rejects=wrong)
U = autoencoder.pca_autoencoder(small, 2).decoder.weight
print("same projection:", torch.allclose(V @ W, U @ U.T, atol=1e-3))
print("with other weights:", not torch.allclose(V, U, atol=0.1))

# %% [markdown]
# *Sources: A01, B05, D02.*

# %% [markdown]
# (sec-experiment)=
# ## Real digits in sixteen dimensions
#
# What does a decoder gain if it need not be affine? Shift a stroke across an image. One number describes the shift, but in pixel space the images lie on a curve: pixels light up and go dark again. A flat subspace needs more dimensions to hold a curve; a network can bend.
#
# We use a fully connected network of two layers each way, and one of four convolutions. The loop trains the first for one epoch, a pass through all images ({doc}`at full scale </book/running>` for ten); `fit` is this loop with precautions.

# %%
fresh = autoencoder.mlp_autoencoder(latent_dim=16)
batches = data.Batches(train.images, batch_size=128, num_epochs=pick(small=1, full=10))
optimizer = torch.optim.Adam(fresh.parameters(), lr=1e-3, fused=True)
loss, losses = autoencoder.reconstruction_loss, []
for x in batches:
    mean_loss = loss(fresh, x).mean()
    optimizer.zero_grad()
    mean_loss.backward()
    optimizer.step()
    losses.append(mean_loss.item())

# %% tags=["figure"] mystnb={"image": {"alt": "The training loss falls steeply in the first twenty steps, then slowly. After about 300 steps it crosses the dashed level of PCA and goes on falling."}, "figure": {"caption": "The loss of each training step. Dashed: the smallest error of any affine autoencoder with 16 dimensions ({prf:ref}`thm-pca`).", "name": "fig-training"}}
pca = autoencoder.pca_autoencoder(train.images.flatten(1), 16)
with torch.no_grad():
    least = loss(pca, train.images.flatten(1)).mean().item()
plots.curves(
    {
        "network, 16 dimensions": losses,
        "best affine autoencoder": ([1, len(losses)], [least, least]),
    },
    x_label="training step",
    y_label="squared error per image",
    log_y=True,
)

# %% [markdown]
# In {numref}`fig-training` the network passes every affine autoencoder. Four codes of 16 dimensions on the 10,000 test images, with the networks trained for ten epochs and the error summed over the pixels (+- one standard error over images, not runs):

# %% tags=["numbers"]
conv = pretrained("conv-ae-mnist")
full = autoencoder.pca_autoencoder(train.images.flatten(1), 784)
with torch.no_grad():
    flat = test.images.flatten(1)
    error = {
        "16 lowest frequencies": loss(autoencoder.DctAutoencoder(28, 4), test.images),
        "16 principal components": loss(pca, flat),
        "convolutional": loss(conv, test.images),
        "fully connected": loss(model, test.images),
    }
    energies = full.encode(flat).square().mean(0)
    dct_errors = [loss(autoencoder.DctAutoencoder(28, K), test.images).mean() for K in range(1, 29)]
for name, values in error.items():
    print(f"{name:24s} {values.mean():6.2f} +- {values.std() / len(values) ** 0.5:.2f}")

pca_errors = energies.sum() - energies.cumsum(0)  # without the first d, for d = 1, 2, ...
means = [values.mean().item() for values in error.values()]
num_components = 1 + int((pca_errors > means[3]).sum())
num_cosines = (1 + int((torch.stack(dct_errors) > means[3]).sum())) ** 2
print(f"as good as the fully connected one: PCA with {num_components}, {num_cosines} cosines")

# %% [markdown]
# :::{depth-start} the networks are ahead of PCA at each of five dimensions
# :::
# Early autoencoders had one hidden layer {cite:p}`rumelhart1986`; deep {cite:p}`hinton2006` and convolutional ones {cite:p}`masci2011` followed.
#
# PCA gives the error at all dimensions at once. The networks were trained three times each, for one epoch and for ten.

# %% tags=["figure"] mystnb={"image": {"alt": "The error of PCA falls with the number of components, from about 48 to 7 between one and 64. The line of the networks of ten epochs lies far below it at all dimensions. That of one epoch starts below it and crosses it between 16 and 32."}, "figure": {"caption": "Test error against the dimension of the code. Means of three runs; their standard errors are too small to be seen. After ten epochs the networks are ahead at all five dimensions.", "name": "fig-dimensions"}}
trained, lines = record_of("code-dimension"), {"PCA": (torch.arange(1, 65), pca_errors[:64])}
dimensions = [2, 8, 16, 32, 64]
for words, epochs in {"network, one epoch": 1, "network, ten epochs": 10}.items():
    names = [f"{num} dimensions, {epochs} epochs" for num in dimensions]
    lines[words] = dimensions, [trained.value(name, "error").mean for name in names]
fig = plots.curves(
    lines,
    x_label="dimension of the code",
    y_label="squared error per image",
    log_x=True,
    log_y=True,
)
fig.axes[0].minorticks_off()
_ = fig.axes[0].set_xticks([1, *dimensions], [1, *dimensions])
_ = fig.axes[0].set_yticks(ticks := [3, 5, 10, 20, 50], ticks)
fig

# %% [markdown]
# In {numref}`fig-dimensions` the networks stay ahead: after ten epochs they have 33.9 ± 0.1 with 2 dimensions, 8.81 ± 0.01 with 16 and 3.17 ± 0.02 with 64, where PCA has 43.6, 21.06 and 7.09 ({ref}`experiment <exp-code-dimension>`). After one epoch the curves seem to cross. At 32 they have 14.5 ± 0.0 then, against 13.2 of PCA. But an affine network, of which PCA is the best possible, has 19.4 ± 0.3 after one epoch ({ref}`experiment <exp-code-dimension>`). So the crossing shows that one epoch at this rate is not enough.
#
# :::{depth-end}
# :::
#
# (sec-train-autoencoder)=
# ### Train it yourself
#
# `train_it` takes the first steps of the shipped network's recipe, at most 20 seconds on two cores; `train_it("ae-mnist", "full")` takes them all.

# %%
print(cost("ae-mnist"))
mine = watch(train_it("ae-mnist"))

# %% tags=["nbval-check-output"]
first, last = torch.tensor(mine.losses).unfold(0, 20, 20)[[0, -1]].mean(1)
print("the loss fell by more than a tenth:", bool(last < 0.9 * first))
MINE = False  # True: from here on the chapter uses your weights
if MINE:
    use("ae-mnist", mine.model)
    model = pretrained("ae-mnist")
print("weights of ae-mnist:", "yours" if MINE else "the shipped ones")

# %% [markdown]
# *Sources: A01, A02, B05.*

# %% [markdown]
# (sec-uses)=
# ## Why compression gives features
#
# Why should a code, learned without labels, know a 3 from an 8? Given a code $z$, the best answer is the mean of the images that share it, $\mathbb{E}[x \mid z]$. Apply {eq}`eq-mean-minimizes` to these images, with $c = \mathbb{E}x$, and average over the codes:
#
# $$
# \underbrace{\mathbb{E} \lVert x - \mathbb{E} x \rVert^2}_{\text{of the data}} = \underbrace{\mathbb{E} \lVert \mathbb{E}[x \mid z] - \mathbb{E} x \rVert^2}_{\text{between codes, kept}} + \underbrace{\mathbb{E} \lVert x - \mathbb{E}[x \mid z] \rVert^2}_{\text{within a code, the error}} .
# $$ (eq-kept-dropped)
#
# The data fix the left side. (Codes that the decoder cannot tell apart count as one.) So a small error means a large variance *between* codes, that of the mean images: the encoder has to separate images that differ much, and may merge those that differ little. What moves many pixels at once, such as the class, the slant or the thickness of the strokes, is worth a dimension: it is a feature.
#
# **Check.** The code of a digit is its class. The variance of the class means plus the variance around them is compared with the variance of all test digits; class means halved are rejected.


# %% tags=["check", "nbval-check-output"]
def between_classes(x, labels=test.labels):
    """Variance of the class means, and of all of x, both summed over its dimensions."""
    x = x.flatten(1).double()
    classes = torch.nn.functional.one_hot(labels, 10).to(x)
    weight = classes.mean(0)
    centers = classes.T @ x / classes.sum(0)[:, None]
    between = (weight * (centers - x.mean(0)).square().sum(1)).sum()
    return between, (x - x.mean(0)).square().sum(1).mean(), centers


between, total, centers = between_classes(test.images)
each = centers[test.labels]
within = (test.images.flatten(1) - each).square().sum(1).mean()
halved = (test.images.flatten(1) - each / 2).square().sum(1).mean()
verify("eq-kept-dropped", total, between + within, rejects={"half the means": between + halved})

# %% tags=["figure"] mystnb={"image": {"alt": "Three rows of ten images: digits; their reconstructions, smoother; and the differences on a gray ground, thin bright and dark outlines of the strokes."}, "figure": {"caption": "What a code of 16 dimensions keeps and what it drops: test digits, their reconstructions, and the differences (gray is zero).", "name": "fig-dropped"}}
with torch.no_grad():
    ten = test.images[:10]
    rows = {"digit": ten, "kept": model(ten), "dropped": (ten - model(ten) + 1) / 2}
plots.image_rows(rows)

# %% [markdown]
# In {numref}`fig-dropped` the code drops edges and specks. Does it drop what tells the classes apart? Of the variance of the pixels a fifth lies between the ten classes; of what the network drops, hardly anything (box below). So the code keeps how the classes differ on average, and PCA's does, too.
#
# Do such features help where labels are rare (*unsupervised pretraining*)? Train on all images, then drop the decoder, which only had to make the encoder keep what differs. With few labels this can help; with many a classifier misses what the code dropped.

# %% tags=["figure"] mystnb={"image": {"alt": "Test accuracy against the number of labels for four inputs. At 30 labels the codes of the trained network are ahead of components and pixels. The pixels catch up at 1,000 labels, the components stay behind, and the untrained network is worst."}, "figure": {"caption": "A linear classifier on four kinds of input. Lines: mean over separate sets of labels; bands: worst to best.", "name": "fig-labels"}}
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
# {numref}`fig-labels` compares the codes with PCA, pixels and an untrained network, for a *linear* classifier of standardized inputs, which adds little. With thirty labels the codes are ahead of all three (the bands show chance); with a thousand the pixels have caught up; random weights are worst.
#
# Another use is to report as an *anomaly* what is reconstructed badly, assuming that a network trained on normal images only cannot draw others. But the error says how easily the decoder draws an image, not how often such images occur: a black image has no strokes to miss, and a smaller error than almost every digit.
#
# :::{depth-start} with few labels a code helps a little; its error misses a hidden class
# :::
# **What lies between the classes.** Here are the variances, summed over the dimensions, and how much of them lies between the ten classes (a code has another unit than pixels):

# %% tags=["numbers", "columns"]
with torch.no_grad():
    by_net, by_pca = model(test.images), pca(test.images.flatten(1)).view_as(test.images)
    parts = {
        "pixels": test.images,
        "dropped by 16 components": test.images - by_pca,
        "dropped by the network": test.images - by_net,
        "code of the network": model.encode(test.images),
    }
print(f"{'':24s}  {'variance':>8s}  {'between classes':>15s}")
for name, values in parts.items():
    between, total, _ = between_classes(values)
    print(f"{name:24s}  {total:8.2f}  {100 * between / total:13.1f} %")

# %% [markdown]
# **Few labels.** {numref}`fig-labels` has twelve sets of 30 labels and three of each larger size. Most of the lead depends on the classifier. With thirty labels, three other networks, trained for one epoch, give 53.2 ± 0.7 percent right with the codes, 49.0 ± 0.9 with the components and 49.1 ± 0.8 with the pixels. With all inputs divided by one number, and the penalty best on the test digits, they give 54.2 ± 0.7, 53.5 ± 0.5 and 53.5 ± 1.0. By the nearest neighbor the components lead. Longer training helps: after four epochs the codes give 54.7 ± 1.0 and 55.4 ± 0.8 ({ref}`experiment <exp-few-labels>`).
#
# **Fine-tuning.** Put a new linear layer on the encoder and train both for the task, here with 1,000 labels. We start from the plain encoder, from one trained to undo noise and, as a control, from random weights, with the same labels, batches and number of steps, on three separate sets of labels (the columns). The encoder of the denoiser is the best start on each of three sets; the plain one helps less.
#
# Is that the method, or one network of each? With five networks of each kind, each with other labels, it gives 90.9 ± 0.3 % right, the plain one 90.1 ± 0.4 and random weights 88.8 ± 0.3; the gains over random weights are 2.1 ± 0.3 and 1.3 ± 0.2 points ({ref}`experiment <exp-fine-tuning>`). But a start that is better in the end can be slower: at a quarter of the learning rate, 86.4 ± 0.7, 83.2 ± 1.0 and 87.5 ± 0.2 % are right, and random weights lead. There four times as many epochs bring it back: 90.9 ± 0.3, 90.2 ± 0.4 and 88.6 ± 0.2.


# %% tags=["numbers"]
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

# %% tags=["held", "nbval-check-output", "mnist"]
columns = list(zip(*tuned.values(), strict=True))
print("denoising is best on every set:", all(max(c) == c[2] for c in columns))
means = [sum(values) / 3 for values in tuned.values()]
print("plain is better than random in the mean:", means[1] > means[0])
codes, _, pixels, _ = accuracy.values()
for name, values in accuracy.items():
    if values is not codes:
        gain = codes[0] - values[0]  # the same twelve sets for both
        clear = gain.mean() > 3 * gain.std() / len(gain) ** 0.5
        print(f"30 labels: codes better than {name}, by 3 standard errors: {bool(clear)}")
smaller = (codes[-1] - pixels[-1]).mean() < (codes[0] - pixels[0]).mean()
print("the gain over pixels is smaller with 1,000 labels:", bool(smaller))

# %% [markdown]
# **Finding anomalies.** A network that has learned to reconstruct digits should do badly on everything else. To test this we leave one class out of the training and ask whether its images have larger errors. The measure is the {term}`AUROC`,
#
# $$
# \operatorname{AUROC} = \Pr(\text{error of an anomalous image} > \text{error of a normal one}),
# $$ (def-auroc)
#
# where ties count one half; it is 1 for a perfect score and ½ for a useless one {cite:p}`fawcett2006`. We leave out the zeros, then the ones. Two other scores are controls: the sum of the squared gray levels, which needs no network, and the *relative* error, the error divided by this sum.


# %% tags=["held", "nbval-check-output", "mnist"]
def train_new(network, loss, images, batch_size=128, lr=1e-3):
    """Train a network as above for one epoch, without recording the loss."""
    batches = data.Batches(images, batch_size=batch_size, num_epochs=1)
    optimizer = torch.optim.Adam(network.parameters(), lr=lr, fused=True)
    for _ in fit(network, loss, batches, optimizer):
        pass
    return network.requires_grad_(False)


def detection(hidden):
    """Train without one class; AUROC of the error, of the squared grays, and of their ratio."""
    torch.manual_seed(0)
    network = autoencoder.mlp_autoencoder(latent_dim=16)
    train_new(network, loss, train.images[train.labels != hidden][:30_000])
    error, grays = loss(network, test.images), test.images.square().sum((1, 2, 3))
    strange = test.labels == hidden
    return [metrics.auroc(s[~strange], s[strange]) for s in (error, grays, error / grays)]


of_zeros, of_ones = detection(0), detection(1)
print("a hidden 0 is found by the error, AUROC above 0.8:", of_zeros[0] > 0.8)
print("a hidden 1 is not, AUROC below 0.5:", of_ones[0] < 0.5)
print("squared grays go the same two ways:", of_zeros[1] > 0.5 > of_ones[1])
print("the relative error finds both:", min(of_zeros[2], of_ones[2]) > 0.6)
with torch.no_grad():
    errors, blank = loss(model, test.images), loss(model, torch.zeros(1, 1, 28, 28))
low = bool(blank < errors.quantile(0.05))
print("a blank image has a smaller error than 95 % of the test digits:", low)

# %% [markdown]
# The zeros stand out. The ones do the opposite: although the network has never seen a 1, a 1 has a *smaller* error than a random other digit more often than not (at a quarter of the learning rate, in half of the cases). The squared gray levels alone, without any network, rank the two classes in the same way. With five runs of each, the AUROC of the error is 0.89 ± 0.00 for hidden zeros and 0.38 ± 0.02 for hidden ones, that of the relative error 0.68 ± 0.01 and 0.78 ± 0.01 ({ref}`experiment <exp-anomalies>`). Is that due to hiding them? For networks that have seen all digits it is 0.52 ± 0.01 for zeros and 0.04 ± 0.00 for ones, and of the relative error 0.35 ± 0.00 and 0.25 ± 0.00. So what was not seen is reconstructed worse, but where it ranks then depends on where it began: ones are easy to draw.
#
# :::{depth-end}
# :::
#
# *Sources: A02, B06.*

# %% [markdown]
# (sec-denoising)=
# ## Denoising, and the score
#
# A bottleneck is not the only way to prevent a copy. The second obstacle disturbs the input and asks for the clean image. {cite:t}`vincent2008` hid pixels, as masked autoencoders do {cite:p}`he2022`; {cite:t}`vincent2010` added Gaussian noise. Then the loss of the *denoising autoencoder* is
#
# $$
# \mathcal{L}_\text{DAE} = \mathbb{E}_{x} \, \mathbb{E}_{\varepsilon \sim \mathcal{N}(0, \sigma^2 I)} \lVert x - f(g(x + \varepsilon)) \rVert^2 .
# $$ (def-denoising-loss)
#
# A copy keeps the noise and has the loss $\sigma^2 D$. To do better, a network has to know what clean images look like. Think of them as a curved surface, a {term}`manifold`: noise leads off it, and a good denoiser leads back.

# %% tags=["figure", "mnist"] mystnb={"image": {"alt": "Four rows of ten digits: clean; under strong noise, hardly readable; smooth and gray on a mottled ground; sharp white strokes on black."}, "figure": {"caption": "Test digits, the same with noise of $\\sigma = 0.5$, and what the best linear map {eq}`eq-linear-dae-optimum` and a trained network make of the second row.", "name": "fig-denoised"}}
ten, generator = test.images[:10], torch.Generator().manual_seed(0)
disturbed = ten + 0.5 * torch.randn(ten.shape, generator=generator, device="cpu").to(ten)
all_digits = train.images.flatten(1)
center, covariance = all_digits.mean(0), torch.cov(all_digits.T)
best_map = torch.linalg.solve(covariance + 0.5**2 * torch.eye(784), covariance)
smooth = center + (disturbed.flatten(1) - center) @ best_map
dae = pretrained("dae-mnist")
with torch.no_grad():
    cleaned = dae(disturbed)
seen = {"digit": ten, "with noise": disturbed, "linear map": smooth.view_as(ten)}
seen["network"] = cleaned
plots.image_rows({name: rows.clamp(0, 1) for name, rows in seen.items()})  # gray levels end there

# %% [markdown]
# In {numref}`fig-denoised` the linear map removes most of the noise and blurs the strokes; the network restores sharp ones. The best linear map, for Gaussian data the best of all, knows only the covariance $S$. For centered data it is
#
# $$
# A^\star = S (S + \sigma^2 I)^{-1} = \sum_j \frac{\lambda_j}{\lambda_j + \sigma^2}\, u_j u_j^\top .
# $$ (eq-linear-dae-optimum)
#
# The factor is the part of the observed variance $\lambda_j + \sigma^2$ that is data. Every direction is shrunk; one with $\lambda_j \ll \sigma^2$ is erased together with its noise. Edges lie in such directions: hence the blur.
#
# :::{depth-start} a wide code is useful even untrained; learning to copy spoils it, removing noise can improve it
# :::
# For one linear map $A$ and centered data with covariance $S$ the loss is
#
# $$
# \mathbb{E} \lVert x - A(x + \varepsilon) \rVert^2 = \operatorname{tr}\big( (I - A)\, S\, (I - A)^\top \big) + \sigma^2 \operatorname{tr}(A A^\top),
# $$ (eq-linear-dae)
#
# and its minimizer is {eq}`eq-linear-dae-optimum`.
#
# :::{dropdown} Proof
# $x - A(x + \varepsilon) = (I - A) x - A \varepsilon$, and the two parts are independent with mean zero. Their mean squared norms are the two traces. The gradient of {eq}`eq-linear-dae` in $A$ is
# $-2 (I - A) S + 2 \sigma^2 A$. It vanishes exactly for $A (S + \sigma^2 I) = S$, and $S + \sigma^2 I$ has an inverse as $\sigma > 0$. The loss is convex in $A$, so this is the minimum. For the last form, put $S = \sum_j \lambda_j u_j u_j^\top$. $\square$
# :::
#
# **Check.** The loss of a random map is compared with samples; noise forgotten is rejected. For the second claim, an optimizer searches for the best map with the loss alone, and both forms of the solution are compared with what it finds; a $\sigma$ that is not squared is rejected.

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

found = torch.zeros(D, D, dtype=torch.double, requires_grad=True)
_ = minimize(lambda: linear_dae_loss(found), [found])
best, wrong = (S @ (S + variance * I).inverse() for variance in (sigma**2, sigma))
lambdas, u = torch.linalg.eigh(S)
shrunk = u @ torch.diag(lambdas / (lambdas + sigma**2)) @ u.T
rule, misprint = exact.within(1e-6), {"sigma not squared": wrong}
verify("eq-linear-dae-optimum", found, best, rule, rejects=misprint)
verify("eq-linear-dae-optimum", found, shrunk, rule, rejects=misprint)

# %% [markdown]
# Can *codes* without a bottleneck be useful too, as {cite:t}`vincent2010` report? An autoencoder with a single hidden layer of 1,024 units, more than there are pixels, is trained on 5,000 images, with and without noise; another is left *untrained*. A linear classifier then learns from 300 labels.
#
# A wide code can be useful, but learning to copy does not make it so: random weights of that width give 84.1 ± 0.1 percent right, a plain training 83.5 ± 0.1, and after sixteen epochs 80.8 ± 0.2, less than the pixels themselves with 81.7 ± 0.1. With noise on the input copying is no solution, and at this learning rate the code gets better with training: denoising gives 85.4 ± 0.1, and 87.5 ± 0.1 after sixteen epochs ({ref}`experiment <exp-wide-code>`). One epoch of it at a quarter or at four times the rate gives less than random weights.
#
# :::{depth-end}
# :::
#
# ### The best denoiser points uphill
#
# What does a perfect denoiser know? Let $\tilde{x} = x + \varepsilon$ be the noisy observation and $p_\sigma$ its density.
#
# :::{prf:theorem} The best denoiser and the gradient of the log-density
# :label: thm-score
# Let $\sigma > 0$ and $\mathbb{E} \lVert x \rVert^2 < \infty$. Among *all* functions $r$ in the place of $f \circ g$, the *posterior mean* $r(\tilde{x}) = \mathbb{E}[x \mid \tilde{x}]$ has the smallest denoising loss {eq}`def-denoising-loss`, and
#
# $$
# \mathbb{E}[x \mid \tilde{x}] - \tilde{x} = \sigma^2 \, \nabla_{\tilde{x}} \log p_\sigma(\tilde{x}) .
# $$ (eq-score)
# :::
#
# The gradient of a log-density is its {term}`score`. So the arrow to the best reconstruction points to where noisy data are more likely. Why? Their density is a mixture, with one Gaussian around each clean point $x$, $p_\sigma(\tilde{x}) = \mathbb{E}_x\, \mathcal{N}(\tilde{x};\, x, \sigma^2 I)$. The gradient of a Gaussian is itself times $(x - \tilde{x}) / \sigma^2$: each clean point pulls $\tilde{x}$ towards itself, the more strongly, the more probable it is given $\tilde{x}$. All pulls together lead to the mean of the clean points, with these probabilities as weights.
#
# :::{dropdown} Proof
# For each $\tilde{x}$, {eq}`eq-mean-minimizes` for the distribution of $x$ given $\tilde{x}$ says that the best answer is the mean. The Gaussian has bounded derivatives, so we may differentiate inside the expectation:
#
# $$
# \begin{aligned}
# \nabla p_\sigma(\tilde{x}) &= \frac{1}{\sigma^2}\, \mathbb{E}_x \big[ (x - \tilde{x})\, \mathcal{N}(\tilde{x};\, x, \sigma^2 I) \big] \\
# &= \frac{p_\sigma(\tilde{x})}{\sigma^2} \big( \mathbb{E}[x \mid \tilde{x}] - \tilde{x} \big) ,
# \end{aligned}
# $$
#
# the last step by Bayes' rule. Divide by $p_\sigma(\tilde{x})$. $\square$
# :::
#
# A density must integrate to one, and for images nobody can compute the integral. The score does without: the logarithm makes the constant factor a summand, whose gradient is zero. And by {eq}`eq-score`, {term}`Tweedie's formula` {cite:p}`efron2011`, a squared error on pairs of clean and noisy images learns it (*denoising score matching*), but of the *noisy* data, and only as well as the network denoises {cite:p}`vincent2011,alain2014`.
#
# For finitely many clean points the best denoiser is two lines:


# %%
def best_denoiser(x_tilde, points, sigma):
    log_weight = -torch.cdist(x_tilde, points).square() / (2 * sigma**2)
    return log_weight.softmax(1) @ points  # the posterior mean


# %% tags=["figure"] mystnb={"image": {"alt": "Three panels with the same points, an arc and a small cluster below it, under arrows and blue shading. At little noise the arrows point to the arc or the cluster; at medium noise the shading is a crescent and two spots; at much noise there is one round mode, and all arrows point to its middle, where there are no points."}, "figure": {"caption": "Points (orange), and the arrows from $\\tilde{x}$ to the best denoiser's answer at three noise levels, scaled in each panel. Shaded: the density of the noisy data.", "name": "fig-arrows"}}
turn = math.pi * torch.rand(70).double() ** 0.8
arc = torch.stack([turn.cos(), turn.sin() - 0.3], 1)
cluster = 0.08 * torch.randn(30, 2).double() + torch.tensor([0.1, -0.8])
points = torch.cat([arc, cluster])
fig, panels = plots.figure(3, height=2.3)
for panel, sigma in zip(panels, (0.12, 0.35, 0.9), strict=True):
    _ = plots.vector_field(
        lambda x, s=sigma: best_denoiser(x.double(), points, s) - x,
        (-1.8, 1.8, -1.8, 1.8),
        log_prob=lambda x, s=sigma: (
            (-torch.cdist(x.double(), points).square() / (2 * s**2)).logsumexp(1) - 2 * math.log(s)
        ),
        num=10,
        x_label=f"$x_1$, $\\sigma$ = {sigma}",
        axes=panel,
    )
    _ = panel.plot(*points.T.cpu(), ".", color="#D55E00", markersize=3)
fig

# %% [markdown]
# In {numref}`fig-arrows` little noise makes an arrow lead to the nearest points; with much noise all arrows lead to one middle. A point that only follows them ends at a mode, a peak, of the *noisy* density, for large $\sigma$ far from data: strong noise shows the way from afar, little noise where data are.
#
# Does a network find these arrows? For data uniform on the unit circle the best denoiser is known.
#
# :::{dropdown} Its formula, with the proof
# For $\tilde{x} \ne 0$ it is
#
# $$
# \mathbb{E}[x \mid \tilde{x}] = \frac{I_1(\rho)}{I_0(\rho)} \, \frac{\tilde{x}}{\lVert \tilde{x} \rVert}, \qquad \rho = \frac{\lVert \tilde{x} \rVert}{\sigma^2},
# $$ (eq-circle-denoiser)
#
# with the modified Bessel functions $I_0$ and $I_1$, whose quotient is below 1 and tends to 1 for large $\rho$: the mean of an arc lies inside the circle.
#
# *Proof.* Let $\alpha$ be the angle between $x$ and $\tilde{x}$. Then $\lVert x - \tilde{x} \rVert^2 = 1 + \lVert \tilde{x} \rVert^2 - 2 \lVert \tilde{x} \rVert \cos \alpha$, so the posterior density of $\alpha$, proportional to $\exp(-\lVert x - \tilde{x} \rVert^2 / 2\sigma^2)$, is proportional to $\exp(\rho \cos \alpha)$. By symmetry the posterior mean points along $\tilde{x}$, and its length is
# $\int_0^{2\pi} \cos \alpha \, e^{\rho \cos \alpha} \mathrm{d}\alpha \,/ \int_0^{2\pi} e^{\rho \cos \alpha} \mathrm{d}\alpha$, which are $2\pi I_1(\rho)$ and $2\pi I_0(\rho)$. $\square$
# :::
#
# **Check.** The posterior mean is an integral over the circle. For {eq}`eq-score` it is compared with the score of the closed form $p_\sigma(\tilde{x}) \propto e^{-\lVert \tilde{x} \rVert^2 / 2\sigma^2} I_0(\rho)$, by automatic differentiation; a $\sigma$ that is not squared is rejected, and the other sign. For {eq}`eq-circle-denoiser` it is compared with the formula, and the formula with 400,000 pairs of clean and noisy points; the nearest point of the circle is rejected.

# %% tags=["check", "nbval-check-output"]
sigma = 0.3
angle = torch.arange(720, dtype=torch.double) * (2 * torch.pi / 720)
circle = torch.stack([angle.cos(), angle.sin()], 1)


def circle_denoiser(x_tilde):
    radius = x_tilde.norm(dim=1, keepdim=True)
    rho = radius / sigma**2
    return torch.special.i1e(rho) / torch.special.i0e(rho) * x_tilde / radius


x_tilde = (1.5 * torch.randn(50, 2, dtype=torch.double)).requires_grad_()
posterior_mean = best_denoiser(x_tilde.detach(), circle, sigma)  # equal steps, a periodic function
rho = x_tilde.norm(dim=1) / sigma**2
log_density = torch.special.i0e(rho).log() + rho - x_tilde.square().sum(1) / (2 * sigma**2)
(score,) = torch.autograd.grad(log_density.sum(), x_tilde)
residual, scaled = (posterior_mean - x_tilde).detach(), sigma**2 * score
wrong = {"sigma not squared": sigma * score, "other sign": -scaled}
verify("eq-score", residual, scaled, quadrature, rejects=wrong)

nearest = {"nearest point": x_tilde / x_tilde.norm(dim=1, keepdim=True)}
closed_form = circle_denoiser(x_tilde)
verify("eq-circle-denoiser", posterior_mean, closed_form, quadrature, rejects=nearest)

clean = circle[torch.randint(720, (400_000,))]
noisy = clean + sigma * torch.randn(400_000, 2, dtype=torch.double)
direction = noisy / noisy.norm(dim=1, keepdim=True)
along, radial = (clean * direction).sum(1), circle_denoiser(noisy).norm(dim=1)
by_radius = torch.stack([along - radial, (along - radial) * noisy.norm(dim=1)], 1)
nearest = {"nearest point": torch.stack([(1 - radial).mean(), (1 - radial).mean()])}
verify("eq-circle-denoiser", by_radius, torch.zeros(2), monte_carlo, rejects=nearest)
kept = circle[:1]
for _ in range(200):
    kept = circle_denoiser(kept)
print("radius that the best denoiser keeps, 0.951:", abs(kept.norm() - 0.951).item() < 5e-4)

# %% [markdown]
# A network without a bottleneck, trained to remove noise with $\sigma = 0.3$, comes close ({numref}`fig-circle`), though the training used no density:

# %% tags=["nbval-check-output", "numbers"]
circle_points = circle.float()[torch.randint(720, (40_000,))]
denoiser = mlp([2, 64, 64, 2], activation=torch.nn.SiLU)
batches = data.Batches(circle_points, batch_size=256, num_epochs=pick(small=10, full=40))
optimizer = torch.optim.Adam(denoiser.parameters(), lr=1e-2, fused=True)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(batches))
undo_noise = partial(autoencoder.denoising_reconstruction_loss, noise_std=sigma)
for _ in fit(denoiser, undo_noise, batches, optimizer):
    schedule.step()

noisy = circle_points[:20_000] + sigma * torch.randn(20_000, 2)
with torch.no_grad():
    best = circle_denoiser(noisy)
    excess = (denoiser(noisy) - best).square().sum(1).mean()
    arrows = (best - noisy).square().sum(1).mean()
print("squared error of the arrows below 2 % of their square:", bool(excess < 0.02 * arrows))


# %% tags=["figure"] mystnb={"image": {"alt": "Arrows in the plane point from inside and from outside to a ring where the density is high. They are longest far outside and vanish at the center and on a dashed circle along the ring's crest."}, "figure": {"caption": "The noisy manifold, a circle. The trained denoiser leads back to it, up to a shrinkage: the mean of an arc lies inside the circle, and the best one leaves the dashed circle of radius 0.95 fixed. Shaded: the density of the noisy data.", "name": "fig-circle"}}
def log_p_sigma(x):
    log_weight = -torch.cdist(x.double(), circle).square() / (2 * sigma**2)
    return log_weight.logsumexp(1) - torch.tensor(720 * 2 * torch.pi * sigma**2).log()


fig = plots.vector_field(
    lambda x: (denoiser(x.float()) - x).detach(), (-1.8, 1.8, -1.8, 1.8), log_prob=log_p_sigma
)
_ = fig.axes[0].plot(*(kept.norm() * circle).T.cpu(), "--", color="#D55E00", linewidth=1.5)
fig

# %% [markdown]
# ### Digits from arrows
#
# Can such arrows *draw*? Alone they end at a mode. So go a fraction $\eta$ of the way, add noise, and repeat:
#
# $$
# \tilde{x} \leftarrow \tilde{x} + \eta \big( r(\tilde{x}) - \tilde{x} \big) + \sqrt{2 \eta}\; \sigma\, \xi, \qquad \xi \sim \mathcal{N}(0, I) .
# $$ (def-noisy-steps)
#
# By {eq}`eq-score` this is a step of $\eta \sigma^2$ along the score, with just as much noise as leaves $p_\sigma$ unchanged for small $\eta$: {term}`Langevin dynamics` ({ref}`chapter 12 <sec-langevin>`). We start the denoiser of {numref}`fig-denoised` from noise, and denoise again at the end, as $p_\sigma$ is noisy.


# %% tags=["mnist"]
def follow(denoise, x, num_steps, eta=0.1, sigma=0.5):
    for _ in range(num_steps):
        x = x + eta * (denoise(x) - x) + (2 * eta) ** 0.5 * sigma * torch.randn_like(x)
    return x


with torch.no_grad():
    start = 0.5 * torch.randn(300, 1, 28, 28)
    for name, network in {"denoiser": dae, "plain network": model}.items():
        lost = unrecognized(dae(follow(network, start, num_steps=200)))
        found, error = 100 * (1 - lost.value), 100 * lost.standard_error
        print(f"arrows of the {name}: {found:.0f} +- {error:.0f} % of 300 images are digits")


# %% tags=["figure", "mnist"] mystnb={"image": {"alt": "Five rows of ten images. At the start faint gray strokes; after twenty steps brighter fragments; after a hundred and two hundred steps most images show white digits, some broken."}, "figure": {"caption": "The denoised image $r(\\tilde{x})$ on the way from noise, after so many steps {eq}`def-noisy-steps`, with one denoiser at one noise level.", "name": "fig-follow"}}
with torch.no_grad():
    walk, rows, done = start[:10], {}, 0
    for num in (0, 20, 50, 100, 200):
        walk, done = follow(dae, walk, num - done), num
        rows[f"{num} steps"] = dae(walk)
plots.image_rows(rows)

# %% [markdown]
# By two classifiers ({ref}`chapter 10 <sec-ddpm-samples>`), a network never asked to draw makes digits out of noise in 64.8 ± 0.9 % of the cases ({ref}`experiment <exp-arrows>`). Along a plain network's arrows, denoised alike, they are rarer, 38.1 ± 2.0 %; the robust one below, trained on attacks without noise, comes close, with 58.5 ± 1.2 %. Many noise levels make a *diffusion model*.
#
# *Sources: A03, A06.*

# %% [markdown]
# (sec-variants)=
# ## Two more obstacles: a penalty and an attack
#
# The *contractive autoencoder* penalizes the {term}`Jacobian` of the encoder, the $d \times D$ matrix of its derivatives, by the sum of its squared entries (the squared Frobenius norm) {cite:p}`rifai2011`,
#
# $$
# \mathcal{L}_\text{CAE} = \mathbb{E}_x \Big[ \lVert x - f(g(x)) \rVert^2 + \lambda \Big\lVert \frac{\partial g(x)}{\partial x} \Big\rVert_F^2 \Big] ,
# $$ (def-contractive-loss)
#
# where $\lambda > 0$ is a weight. The derivative is in the input, not in the weights, because the code should react little to changes of the *image*. Alone, the penalty is smallest, zero, if all images share a code. So the terms compete: reconstruction needs the directions along the manifold, in which images differ; the penalty shuts those across.
#
# The *adversarially robust* autoencoder disturbs the input in the worst way within a ball of radius $R$, as for classifiers {cite:p}`madry2018`,
#
# $$
# \mathcal{L}_\text{robust} = \mathbb{E}_x \max_{\lVert \delta \rVert \le R} \lVert x - f(g(x + \delta)) \rVert^2 .
# $$ (def-robust-loss)
#
# An *attack*, a few steps of projected gradient ascent, finds a lower bound of the maximum, in training too.
#
# We trained one architecture in four ways: plain, denoising ($\sigma = 0.5$), contracting ($\lambda = 0.1$) and robust ($R = 2$). Each of these networks is best at its own loss; the last three pay with a larger error on clean images. But relative to the variance of its codes, the contracting network is *not* the least sensitive of the four: its penalty falls without any gain if all codes become small and the decoder undoes it, $g(x) = a x$, $f(z) = z / a$ with a small $a$. Noise and attack have no such loophole, because their loss is measured after the decoder.
#
# Little noise acts like a penalty where the reconstruction is good: to first order it changes the reconstruction by $J \varepsilon$, with the Jacobian $J$ of $f \circ g$, and the mean of $\lVert J \varepsilon \rVert^2$ is $\sigma^2 \lVert J \rVert_F^2$. So noise penalizes the Jacobian of the whole reconstruction, {eq}`def-contractive-loss` that of the encoder alone.
#
# Why are the latent spaces of all three called smoother? Nearby images get nearer codes than in the plain network, relative to the variance of the codes; and with noise or attack all codes of disturbed copies of an image, which lie around its own, must decode to it: small steps of the code off the manifold change little. That images between two codes change without a jump proves nothing: with a continuous decoder they always do. What can be measured is the length of the decoded path relative to the distance of its ends, 1 without detours: on average over a hundred pairs of a 3 and an 8, it is smaller for all three.
#
# :::{depth-start} little noise is a penalty on a Jacobian; robust codes have direct paths
# :::
# The four networks, after ten epochs, in numbers: the errors on 1,000 test images, clean, noisy and attacked, the squared norm of the Jacobian of the encoder, and the same *relative* to the total variance of the codes.

# %% tags=["numbers", "columns"]
names = {
    "plain": "ae-mnist",
    "denoising": "dae-mnist",
    "contracting": "cae-mnist",
    "robust": "robust-ae-mnist",
}
variants = {name: pretrained(file) for name, file in names.items()}

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
# For one layer $g(x) = \tanh(W x)$ with rows $w_i$ of $W$ the penalty of {eq}`def-contractive-loss` is a formula,
#
# $$
# \Big\lVert \frac{\partial g}{\partial x} \Big\rVert_F^2 = \sum_{i} (1 - g_i(x)^2)^2 \, \lVert w_i \rVert^2 ,
# $$ (eq-tanh-jacobian)
#
# because $\partial g_i / \partial x_j = (1 - g_i^2)\, W_{ij}$. For a deep encoder the exact norm takes one backward pass per coordinate of the code, an unbiased estimate only one: for a random vector $v$ with mean zero and covariance $I$, and any matrix $J$,
#
# $$
# \mathbb{E}_v \lVert v^\top J \rVert^2 = \lVert J \rVert_F^2 ,
# $$ (eq-random-projection)
#
# because $\mathbb{E}\, v^\top J J^\top v = \operatorname{tr}(J J^\top\, \mathbb{E}\, v v^\top)$ and $\mathbb{E}\, v v^\top = I$. Noise at the input of a *linear* map $A$ adds a penalty on its Jacobian, $A$ itself,
#
# $$
# \mathbb{E}_\varepsilon \lVert x - A (x + \varepsilon) \rVert^2 = \lVert x - A x \rVert^2 + \sigma^2 \lVert A \rVert_F^2 ,
# $$ (eq-noise-is-penalty)
#
# as the two parts of $(x - Ax) - A \varepsilon$ are orthogonal in the mean. For a smooth map that is not linear, a second term of the same order appears {cite:p}`bishop1995`. Write $r = f \circ g$ and $\Delta r = \sum_j \partial^2 r / \partial x_j^2$ for its Laplacian, a vector. If $r$ and its derivatives up to the fourth order are bounded,
#
# $$
# \begin{aligned}
# &\lim_{\sigma \to 0} \frac{\mathbb{E}_\varepsilon \lVert x - r(x + \varepsilon) \rVert^2 - \lVert x - r(x) \rVert^2}{\sigma^2} \\
# &\qquad = \Big\lVert \frac{\partial r(x)}{\partial x} \Big\rVert_F^2 - \big( x - r(x) \big)^\top \Delta r(x) .
# \end{aligned}
# $$ (eq-noise-smooth)
#
# *Proof.* Let $h(y) = \lVert x - r(y) \rVert^2$ with $x$ held fixed. Expand $h(x + \varepsilon)$ to the fourth order. The odd terms have mean zero, and the second-order term has mean $\frac{\sigma^2}{2} \Delta h(x)$, so the left side is $\frac12 \Delta h(x)$. Differentiating $h$ twice gives $\frac12 \Delta h = \lVert \partial r / \partial y \rVert_F^2 - (x - r)^\top \Delta r$. $\square$ Where the reconstruction is exact, $x = r(x)$, the penalty on the Jacobian is all that remains. There, in the limit of little noise, denoising is contracting, but it penalizes the Jacobian of $r$, and {eq}`def-contractive-loss` only that of the encoder. (A fourth variant, the *sparse* autoencoder, penalizes the activations of a wide code; it now serves to look inside large language models {cite:p}`cunningham2023`.)
#
# For the attack the maximum is known in one case. At $x = 0$, let a linear map $A$ with largest singular value $s_{\max}$ stand for $f \circ g$. By the definition of $s_{\max}$,
#
# $$
# \max_{\lVert \delta \rVert \le R} \lVert A \delta \rVert^2 = R^2 \, s_{\max}(A)^2 .
# $$ (eq-robust-linear)
#
# **Check.** Jacobians come from automatic differentiation; the derivative in the weights is rejected, and a norm that is not squared. For the limit every noise vector is used with both signs, so that the odd terms cancel exactly; the Jacobian alone is rejected. The worst case is compared with what the attack finds in many steps; the Frobenius norm in place of the spectral norm is rejected.

# %% tags=["check", "nbval-check-output"]
_ = torch.manual_seed(1)
W = torch.randn(3, 5, dtype=torch.double)
x_one = torch.randn(5, dtype=torch.double)
g = torch.tanh(W @ x_one)
jacobian = torch.autograd.functional.jacobian(lambda x: torch.tanh(W @ x), x_one)
in_weights = torch.autograd.functional.jacobian(lambda W: torch.tanh(W @ x_one), W)
closed_form = ((1 - g**2) ** 2 * W.square().sum(1)).sum()
norm, wrong = jacobian.square().sum(), {"E4": in_weights.square().sum()}
verify("eq-tanh-jacobian", norm, closed_form, autograd, rejects=wrong)
v = torch.randn(200_000, 3, dtype=torch.double)
samples, wrong = (v @ jacobian).square().sum(1), {"norm not squared": norm.sqrt()}
verify("eq-random-projection", samples, norm, monte_carlo, rejects=wrong)
show(autoencoder.contractive_loss)

# %% tags=["check", "nbval-check-output"]
A, x_one = torch.randn(4, 4, dtype=torch.double), torch.randn(4, dtype=torch.double)
around = x_one + 0.7 * torch.randn(200_000, 4, dtype=torch.double)
clean, penalty = (x_one - A @ x_one).square().sum(), 0.7**2 * A.square().sum()
samples, wrong = (x_one - around @ A.T).square().sum(1), {"no penalty": clean}
verify("eq-noise-is-penalty", samples, clean + penalty, monte_carlo, rejects=wrong)


def r(y):
    return torch.tanh(y @ W[:, :4].T) @ A[:, :3].T


noise = 0.01 * torch.randn(200_000, 4, dtype=torch.double)
error_up, error_down = ((x_one - r(x_one + sign * noise)).square().sum(1) for sign in (1, -1))
samples = (error_up + error_down - 2 * (x_one - r(x_one)).square().sum()) / (2 * 0.01**2)
jacobian_only = torch.func.jacrev(r)(x_one).square().sum()
second = torch.func.jacrev(torch.func.jacrev(r))(x_one)
laplacian = second.diagonal(dim1=1, dim2=2).sum(1)
limit, wrong = jacobian_only - (x_one - r(x_one)) @ laplacian, {"Jacobian only": jacobian_only}
verify("eq-noise-smooth", samples, limit, monte_carlo, rejects=wrong)

linear = torch.nn.Linear(6, 6, bias=False, dtype=torch.double)
zero = torch.zeros(1, 6, dtype=torch.double)
delta = autoencoder.worst_perturbation(linear, zero, radius=0.5, num_steps=2000)
s = torch.linalg.svdvals(linear.weight.detach())
found, wrong = linear(delta).square().sum(), {"Frobenius norm": 0.25 * s.square().sum()}
verify("eq-robust-linear", found, 0.25 * s[0] ** 2, exact.within(1e-6), rejects=wrong)
show(autoencoder.worst_perturbation)

# %% [markdown]
# {cite:t}`rifai2011` exclude the loophole of the penalty by using the encoder's weights, transposed, in the decoder ("tied" weights).
#
# In the table above an attack of length 2 raises the error of the plain network more than noise of length $0.5 \sqrt{784} = 14$. Now image by image; "clearly less" means less in the mean by more than five standard errors of the difference. And the loophole, on the plain network: divide the last layer of its encoder by ten, and multiply the first weights of the decoder by ten. The penalty is a hundred times smaller, and the reconstructions are the same.


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

cheat = deepcopy(variants["plain"])
with torch.no_grad():
    for parameter in cheat.encoder[-1][-1].parameters():
        parameter /= 10
    cheat.decoder[0][0].weight *= 10
    change = (cheat(x) - variants["plain"](x)).abs().max()
penalty = autoencoder.jacobian_norm(cheat, x[:200]).mean()
smaller = table["plain"]["Jacobian"].mean() / penalty
print("same reconstructions:", bool(change < 1e-3))
print("penalty divided by 100:", abs(smaller.item() - 100) < 0.1)

# %% [markdown]
# Would other runs give the same order? We train each network twice more, briefly, from other random weights.


# %% tags=["held", "nbval-check-output", "mnist"]
def train_variants(seed):
    networks, images = {}, train.images[:12_800]
    for name, training_loss in training_losses.items():
        torch.manual_seed(seed)
        network = autoencoder.mlp_autoencoder(latent_dim=16)
        networks[name] = train_new(network, training_loss, images, batch_size=64, lr=2e-3)
    return networks


def always_less(column, first, *others):
    return all(t[first][column] < t[other][column] for t in tables for other in others)


kinds = ("denoising_reconstruction", "contractive", "robust")
losses = [loss, *(getattr(autoencoder, f"{kind}_loss") for kind in kinds)]
training_losses = dict(zip(names, losses, strict=True))
retrained = [train_variants(seed) for seed in (1, 2)]
tables = [
    {name: {c: v.mean() for c, v in measure(net).items()} for name, net in nets.items()}
    for nets in retrained
]
for column, best in {"attacked": "robust", "Jacobian": "contracting"}.items():
    others = [name for name in names if name != best]
    print(f"column {column}: {best} is least, twice:", always_less(column, best, *others))
for name in ("denoising", "contracting", "robust"):
    less = [always_less(column, name, "plain") for column in ("noisy", "attacked", "Jacobian")]
    print(f"{name} is less than plain in all three columns, twice:", all(less))

# %% [markdown]
# In the columns of the attack and of the Jacobian the same networks are best after these short runs.
#
# (sec-interpolation)=
# If the latent space is smooth, the points between two codes should decode to images between two images. {numref}`fig-walk` decodes eleven points of the straight line between the codes of a 3 and of an 8; chapter 7 does so for a model with a prior.

# %% tags=["figure"] mystnb={"image": {"alt": "Four rows of eleven images that change in small steps from a 3 to a slanted 8. In the middle each row shows a figure that is a bit of both, and blurred."}, "figure": {"caption": "Straight lines in four latent spaces, from a 3 to an 8. The images in the middle are blurred mixtures.", "name": "fig-walk"}}
start, end = (int((test.labels == digit).nonzero()[0]) for digit in (3, 8))


def line(model, steps, start=start, end=end):
    """The decoded points of the straight line between the codes of two test images."""
    with torch.no_grad():
        z = model.encode(test.images[[start, end]])
        return model.decode(torch.lerp(z[:1], z[1:], torch.linspace(0, 1, steps)[:, None]))


plots.image_rows({name: line(model, 11) for name, model in variants.items()})

# %% [markdown]
# Which line is the most direct? Add up the distances from each decoded image $\hat{x}_0, \dots, \hat{x}_n$ to the next, and divide by the distance between the two ends,
#
# $$
# \text{path ratio} = \frac{\sum_{i=1}^{n} \lVert \hat{x}_i - \hat{x}_{i-1} \rVert}{\lVert \hat{x}_n - \hat{x}_0 \rVert} .
# $$ (def-path-ratio)
#
# By the triangle inequality it is at least 1; a large one means a detour. We average over a hundred pairs of a 3 and an 8.


# %% tags=["held", "nbval-check-output", "mnist"]
def path_ratios(model):
    return torch.tensor([path_length_ratio(line(model, 33, a, b)) for a, b in pairs])


shuffled = torch.randperm(len(test.labels))
threes, eights = (shuffled[test.labels[shuffled] == d][:100].tolist() for d in (3, 8))
pairs = list(zip(threes, eights, strict=True))
ratios = {name: path_ratios(model) for name, model in variants.items()}
again = [{name: path_ratios(net).mean() for name, net in nets.items()} for nets in retrained]
for name in ("denoising", "contracting", "robust"):
    gain = ratios["plain"] - ratios[name]
    clear = gain.mean() > 5 * gain.std() / len(gain) ** 0.5
    print(f"{name} is more direct, by more than 5 standard errors: {bool(clear)}")
    print(f"{name} is more direct in both short runs: {all(r[name] < r['plain'] for r in again)}")
share = torch.linspace(0, 1, 33)[:, None, None, None]
fade = torch.lerp(test.images[[start]], test.images[[end]], share)
print("a cross-fade has the smallest ratio, 1:", abs(path_length_ratio(fade) - 1) < 1e-3)

# %% [markdown]
# In all three runs the variants have smaller ratios than the plain network, and in this sense their latent spaces are smoother. But a small ratio is no sign of quality: the cross-fade, the weighted mean of the two images without a network, has the smallest possible one, and its middle shows two digits on top of each other.
#
# :::{depth-end}
# :::
#
# *Sources: A04, A05, A06, A07.*

# %% [markdown]
# (sec-no-sampling)=
# ## Why a decoder alone does not generate
#
# Why do random codes $z \sim \mathcal{N}(0, I)$ give no digits ({numref}`fig-opening`)? The decoder was trained on codes of real images only, and nothing in the loss says how these are distributed. So a smaller error, measured at such codes only, promises no better samples.

# %% tags=["figure"] mystnb={"image": {"alt": "Left, a wide and uneven cloud of codes in ten colors, one for each digit, with digits written at the means of their codes; 0 and 7 lie far apart, 7 and 1 close together. Right, the same cloud in one color with a small ball of standard Gaussian samples that covers only a part of it."}, "figure": {"caption": "Codes of test digits along their two main directions, by digit (left), and beside samples from $\\mathcal{N}(0, I)$ (right).", "name": "fig-codes"}}
with torch.no_grad():
    order = torch.randperm(len(test.images))  # the halves of the test set have different writers
    codes, digits = model.encode(test.images)[order], test.labels[order]
    train_codes = model.encode(train.images)
directions = torch.linalg.eigh(torch.cov(codes.T)).eigenvectors[:, -2:].flip(1)
normal = torch.randn(2000, 16)

flat, names = codes[:2000] @ directions, ["codes"] * 2000 + ["standard Gaussian"] * 2000
fig, (left, right) = plots.figure(columns=2, height=3.6)
words = {"x_label": "first main direction", "y_label": "second main direction"}
_ = plots.scatter(flat, digits[:2000], **words, axes=left)
left.get_legend().remove()
rim = [withStroke(linewidth=3, foreground="white")]
for digit in range(10):
    place = flat[digits[:2000] == digit].median(0).values.tolist()
    _ = left.text(*place, digit, weight="bold", ha="center", va="center", path_effects=rim)
_ = plots.scatter(torch.cat([flat, normal @ directions]), names, **words, axes=right)
right.get_legend().set(loc="upper center", bbox_to_anchor=(0.5, 1.12))
fig

# %% [markdown]
# In {numref}`fig-codes` the codes of a digit gather, in overlapping *clusters*; random codes seem to lie among them. But a plane hides *gaps* between them, and volume: in 16 dimensions a ball with a quarter of the radius has only $4^{-16}$ of the volume, in 64 only $4^{-64}$.
#
# So fit a distribution to the codes. A Gaussian with their mean and covariance has the right place and size, but one mode, and fills the gaps. A *mixture*, the weighted sum of 40 Gaussians, fitted by the EM algorithm of chapter 3, can leave them out. A *two-sample test* compares their samples with codes of test digits by a number, the energy distance: twice the mean distance between both samples, less the mean distances within each. If both are mixed and divided at random, is the distance ever as large? For both Gaussians never in 200 divisions, so their samples differ from codes; for other real codes, the control, it is. The mixture is nearer than the fitted Gaussian.

# %% tags=["serves"]
part = min(1500, len(codes) // 4)
fitting, reference, control = codes.split([len(codes) - 2 * part, part, part])
mixture = fit_mixture(fitting, num=40)
fitted = torch.distributions.MultivariateNormal(fitting.mean(0), torch.cov(fitting.T))
candidates = {
    "standard Gaussian": normal[:part],
    "fitted Gaussian": fitted.sample((part,)),
    "fitted mixture": mixture.sample((part,)),
    "other real codes": control,
}

# %% tags=["figure"] mystnb={"image": {"alt": "Four rows of decoded images: gray blots from the standard Gaussian, distorted half-digits from the fitted Gaussian, mostly readable digits from the mixture, clean digits from real codes."}, "figure": {"caption": "Decoded samples of four distributions of codes. Most samples of both Gaussians are no digits; most of the mixture are.", "name": "fig-samples"}}
with torch.no_grad():
    rows = {name.replace(" ", "\n", 1): model.decode(z[:12]) for name, z in candidates.items()}
plots.image_rows(rows)

# %% [markdown]
# Why do both Gaussians fail in {numref}`fig-samples`? The codes spread much wider than the standard Gaussian, whose samples lie near zero. There the encoder puts faint images (at half the brightness, half as long; box), but no training image is faint. The samples of the fitted Gaussian lie where codes are rare, in gaps: there the density of codes, by the mixture, is about a millionth of that at real codes.
#
# Two classifiers recognize hardly any image of the standard Gaussian, one in five of the fitted one, and four in five of the mixture ({ref}`experiment <exp-code-model>`). So a plain autoencoder *can* generate, with a second model, fitted to its codes {cite:p}`ghosh2020`.
#
# :::{depth-start} a two-sample test rejects both Gaussians
# :::
# The table has the mean log-density under the mixture, in nats, and the mean squared distance of two decoded images. The log-density at the samples of the fitted Gaussian is 14 nats lower than at real codes, but their images differ as digits do; those of the standard Gaussian hardly differ.

# %% tags=["numbers", "columns"]
print(f"{'codes':20s}{'log-density':>16s}  {'distance of images':>18s}")
with torch.no_grad():
    for name, z in candidates.items():
        log_p, images = mixture.log_prob(z), model.decode(z).flatten(1)
        mean = f"{log_p.mean():.2f} +- {log_p.std() / len(z) ** 0.5:.2f}"
        print(f"{name:20s}{mean:>16s}  {torch.pdist(images).square().mean():18.1f}")
radius = normal.norm(dim=1).max()
inside = int((train_codes.norm(dim=1) < radius).sum())
print(f"All 2,000 random codes lie within {radius:.1f} of zero, and of 60,000 real ones {inside}.")
with torch.no_grad():
    long = [model.encode(light * test.images).norm(dim=1).mean().item() for light in (1, 0.5)]
print("Mean length of a digit's code: {:.1f}, at half the brightness {:.1f}.".format(*long))

# %% [markdown]
# The two classifiers miss about one real digit in sixty. Beyond this rate, of 1,500 decoded samples of each of three networks ({ref}`experiment <exp-code-model>`) they do not recognize 97.8 ± 0.1 % of the images of a standard Gaussian, 80.2 ± 0.3 % of the fitted one, 18.3 ± 1.1 % of the mixture of 40 and 14.0 ± 0.4 % of one of 160; of real codes it is 1.8 ± 0.2 %.
#
# How large must a distance between samples be to count as a difference? The {term}`energy distance` of two distributions {cite:p}`szekely2013`,
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
# *Proof.* A point $t$ lies between $X$ and $Y$ if $X \le t < Y$ or $Y \le t < X$, and $|X - Y|$ is the length of all these $t$. In the mean, $\mathbb{E}|X - Y| = \int \big( F (1 - G) + G (1 - F) \big) \mathrm{d}t$. In the same way, $\mathbb{E}|X - X'| = 2 \int F (1 - F)\, \mathrm{d}t$ and $\mathbb{E}|Y - Y'| = 2 \int G (1 - G)\, \mathrm{d}t$. Subtract; what remains under the integral is $2 (F - G)^2$. $\square$
#
# Mix the two samples and divide them at random into two parts, 200 times. The fraction of divisions with at least the measured distance (counting the measured one itself) is the p-value; it is at least $1/201$. If the distributions are equal, it is below 1 % in at most 1 % of such tests, *provided that the samples are exchangeable*. The first and the last test digits of MNIST are not, since the two halves of the test set come from different groups of writers {cite:p}`lecun1998`, and the test finds a difference. So the codes above are in random order.
#
# **Check.** For $\mathcal{N}(0, 1)$ and $\mathcal{N}(1, 4)$ the differences in {eq}`def-energy-distance` are Gaussian too, and for a Gaussian $U$ the mean of $|U|$ has a closed form. The integral without the factor 2 is rejected, and the absolute value in place of the square.


# %% tags=["check", "nbval-check-output"]
def mean_distance(shift, variance):
    """E|U| for a Gaussian U of the given mean and variance."""
    a = torch.tensor(shift / (2 * variance) ** 0.5, dtype=torch.double)
    return (2 * variance / torch.pi) ** 0.5 * (-(a**2)).exp() + shift * torch.erf(a)


t = torch.linspace(-30, 30, 200_001, dtype=torch.double)
F, G = torch.special.ndtr(t), torch.special.ndtr((t - 1.0) / 2.0)  # N(0, 1) and N(1, 4)
across, within = mean_distance(1.0, 5.0), mean_distance(0.0, 2.0)
left = 2 * across - within - mean_distance(0.0, 8.0)
integral = torch.trapezoid((F - G) ** 2, t)
wrong = {"no factor 2": integral, "absolute value": 2 * torch.trapezoid((F - G).abs(), t)}
verify("eq-energy-cdf", left, 2 * integral, quadrature, rejects=wrong)

# %% tags=["held", "nbval-check-output", "mnist"]
tests = {name: metrics.energy_test(z, reference) for name, z in candidates.items()}
for name in ("standard Gaussian", "fitted Gaussian"):
    print(f"{name} rejected, p = 1/201:", abs(tests[name].p_value - 1 / 201) < 1e-9)
print("other real codes not rejected at 1 %:", tests["other real codes"].p_value >= 0.01)
one, many, real = list(tests)[1:]
print("the mixture is nearer than the Gaussian:", tests[many].statistic < tests[one].statistic)
with torch.no_grad():
    early, late = model.encode(test.images[:800]), model.encode(test.images[-800:])
p_value = metrics.energy_test(early, late).p_value
print("the first 800 and the last 800 test digits differ at 1 %:", p_value < 0.01)

# %% [markdown]
# :::{depth-end}
# :::
#
# *Sources: A08, C01.*

# %% [markdown]
# (sec-ae-likelihood)=
# ## Decoder, noise and mixture: a likelihood
#
# To train decoder and distribution of codes together, we need one number for how well they fit an image. The squared error is a part of it: up to a factor and a constant it is the negative log-density of Gaussian noise around the reconstruction. So draw a code from $p(z)$, decode it, add noise of variance $s^2$: this model has as its density the mean over all codes,
#
# $$
# p(x) = \int p(z)\; \mathcal{N}\big(x;\, f(z), s^2 I\big)\, \mathrm{d}z ,
# $$ (def-decoder-density)
#
# the *likelihood*. A plain autoencoder, trained without $p(z)$ and $s$, has none: its third limit, after the unknown distribution of its codes and their gaps. Can a mean over random codes from the mixture estimate it?

# %% tags=["serves"]
near = Density(model, mixture)  # noise, and codes around g(x), both fitted to training digits
near.fit(train.images[:2000], steps=200)
s = near.log_noise.exp().item()


def log_likelihood(x, z):
    """log N(x; f(z), s^2 I) for all pairs of an image and a code."""
    squared = torch.cdist(x.flatten(1), model.decode(z).flatten(1)).square()
    return -squared / (2 * s**2) - 784 / 2 * math.log(2 * math.pi * s**2)


# %% tags=["figure", "mnist"] mystnb={"image": {"alt": "Nats against the number of random codes on a logarithmic axis. A curve rises from far below zero and, after thirty thousand codes, is still hundreds of nats below a dashed line."}, "figure": {"caption": "The mean log-likelihood of fifty test digits: estimated by random codes, and what codes near $g(x)$ guarantee, a lower bound.", "name": "fig-by-chance"}}
with torch.no_grad():
    x = test.images[order[-50:]]  # the mixture has not seen them
    log_p = torch.cat([log_likelihood(x, mixture.sample((2000,))) for _ in range(15)], 1)
    counts = [10, 30, 100, 300, 1000, 3000, 10_000, 30_000]
    by_chance = [(log_p[:, :num].logsumexp(1) - math.log(num)).mean() for num in counts]
    likelihood, rate = (terms.mean() for terms in near.terms(x))
ends, bound = [counts[0], counts[-1]], torch.stack([likelihood - rate] * 2)
plots.curves(
    {"random codes": (counts, torch.stack(by_chance)), "codes near g(x)": (ends, bound)},
    x_label="number of random codes",
    y_label="nats per image",
    log_x=True,
)

# %% [markdown]
# In {numref}`fig-by-chance` thirty thousand random codes miss by hundreds of {term}`nats <nat>`, the unit of natural logarithms. Nearly the whole integral {eq}`def-decoder-density` comes from the few codes that could have produced *this* image; the encoder knows where they are. From codes near $g(x)$ chapter 3 makes a lower bound on $\log p(x)$: the {term}`ELBO`.
#
# A high density is no verdict, though: in this model the bound of a black image is far above that of a digit, and other models with a density rate anomalies as likely, too {cite:p}`nalisnick2019`.
#
# :::{dropdown} The bounds in nats
# On gray test digits the bound on $\log p(x)$ is 578.8 ± 0.5 nats with the mixture, 573.6 ± 0.7 with the fitted Gaussian and 433.2 ± 2.5 with the standard one ({ref}`experiment <exp-code-model>`). (A density may be above one in each pixel.)
#
# Why only five nats from the mixture to the Gaussian, which fails so often? The likelihood looks only at real images: a model that wastes 80 % of its samples and is right otherwise still gives the real images a fifth of the density, 1.6 nats less. The other nats: its good samples, too, are distributed unlike the codes.
#
# A black image has a bound of 976 ± 5 nats ({ref}`experiment <exp-code-model>`).
# :::
#
# To train for the likelihood we need the KL divergence (chapter 2) and the bound (chapter 3). An encoder trained *towards* $p(z)$ by this bound makes a variational autoencoder (chapter 6); for many noise levels the bound becomes a sum of denoising losses, the diffusion model (chapter 9).
#
# :::{dropdown} If you come from the lectures
# The contracting penalty is a derivative in the input; the check of {eq}`eq-tanh-jacobian` rejects one in the weights (E4 of the {doc}`errata </book/errata>`). Autoencoders do have a probabilistic reading: a squared error is a Gaussian log-density, and the denoising one has {prf:ref}`thm-score`. Features need no lower dimension than the data, as a wide denoising autoencoder shows. And one must say whether the error is squared {eq}`eq-mean-minimizes`.
# :::

# %% [markdown]
# (sec-ae-exercises)=
# ## Exercises
#
# Replace the three dots by your answer and run the cell. The check says *correct*, or gives a hint. Solutions are folded below each exercise and executed like the rest of the book.

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
# - The best affine autoencoder is PCA {eq}`eq-pca-loss`; on digits our networks do better at the same dimension.
# - A code with a small error keeps what digits differ in {eq}`eq-kept-dropped`.
# - The best denoiser gives the score of the noisy data {eq}`eq-score`. Steps along it, with noise, draw digits.
# - The decoder alone does not generate: nothing fixes the distribution of the codes. With a mixture and noise it has a likelihood {eq}`def-decoder-density`.
#
# To go on: {cite:t}`alain2014` and {cite:t}`bengio2013`.
