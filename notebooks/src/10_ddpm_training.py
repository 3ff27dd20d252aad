# %% [markdown]
# # Training a DDPM
#
# A network that can tell the noise from the digit in a noisy image can also draw digits: it starts from pure noise and removes a little of it, a thousand times. Ten of these twenty digits were written by people; the other ten were drawn by the network of this chapter.

# %% tags=["setup", "hide-input"]
# The set-up cell: `make sync` writes it.

# %% tags=["unseen"]
import torch

from companion import data
from companion.page import plots
from companion.page.live import watch
from companion.zoo.weights import load_record
from companion.zoo.yourself import cost, train_it, use

train, test = data.load("mnist", "train"), data.load("mnist", "test")
record, _ = load_record("ddpm-mnist-joint-samples")

# %% tags=["figure", "mnist"] mystnb={"image": {"alt": "Two rows of ten gray digits, ten from people and ten from the network, in random order."}, "figure": {"caption": "Ten digits from the test set and ten samples, in random order.", "name": "fig-which-are-real"}}
order = torch.randperm(20, generator=torch.Generator().manual_seed(5), device="cpu")
both = torch.cat([test.images[20:30], record["samples"][:10] / 255])
plots.image_grid(both[order])

# %% [markdown]
# Which ones are real? The answer to {numref}`fig-which-are-real` comes {ref}`later <sec-ddpm-samples>`, together with two classifiers that know an eleventh class, *no digit*. Their weights come with the book, and so does a *record* of measurements that take long. We begin with the algorithm that trained it, on points in the plane.

# %% [markdown]
# (sec-algorithm-1)=
# ## Algorithm 1
#
# The last chapter ended with a bound that can be trained: a weighted sum of squared errors of the predicted noise {eq}`eq-five-weights`, which a single random step estimates without bias {eq}`eq-single-step`. {cite:t}`ho2020` leave out the weights. What remains is the {term}`simple loss`:
#
# $$
# L_{\text{simple}}(\theta) = \mathbb{E}_{x, t, \varepsilon} \big\lVert \varepsilon - \varepsilon_\theta\big( \sqrt{\bar\alpha_t}\, x + \sqrt{1 - \bar\alpha_t}\, \varepsilon,\; t \big) \big\rVert^2, \qquad t \text{ uniform on } 1, \dots, T .
# $$ (def-simple-loss)
#
# :::{prf:algorithm} Training
# :label: alg-ddpm-training
# Repeat until the loss stops falling:
#
# 1. Take an example $x$ from the data.
# 2. Draw a time $t$ uniformly from $1, \dots, T$.
# 3. Draw noise $\varepsilon \sim \mathcal{N}(0, I)$.
# 4. Make $x_t = \sqrt{\bar\alpha_t}\, x + \sqrt{1 - \bar\alpha_t}\, \varepsilon$.
# 5. Let the network estimate the noise, $\varepsilon_\theta(x_t, t)$.
# 6. Take a gradient step on $\lVert \varepsilon - \varepsilon_\theta(x_t, t) \rVert^2$.
# :::
#
# Here it runs on 20,000 points from a mixture of eight Gaussians on a ring, with a hundred steps of noise and a small perceptron of $x_t$ and $t$. The numbers in the comments are the steps of the algorithm.

# %% tags=["unseen"]
from copy import deepcopy

from companion.data import Batches, toy_density
from companion.samplers import ancestral_sample
from companion.training import exponential_average, fit
from companion.zoo import pretrained
from companion.zoo.architectures import toy_ddpm

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

# %% tags=["figure"] mystnb={"image": {"alt": "Four panels. First, the loss of each batch falls from two to about 0.45 within a hundred steps and then jitters. Second, the data: eight round clusters on a ring. Third, samples after 600 steps: a ring without clear clusters. Fourth, samples after 6000 steps: the eight clusters, with few points between them."}, "figure": {"caption": "Algorithm 1 on points in the plane: the loss of each of 600 batches (left), the data, samples of the trained model, and samples of the shipped one, which had ten times as many steps. Only after the longer training are the clusters separate.", "name": "fig-toy-training"}}
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
# The samples of {numref}`fig-toy-training` come from the reverse process of {ref}`chapter 9 <sec-true-reverse>`, which plays no part in the training. After 600 steps this network has found the ring; the shipped one, after ten times as many, has separate modes. Algorithm 1 never runs a whole chain: it is a regression, and its examples are made as they are needed.
#
# In the companion `fit` runs the loop, and `denoising_loss` is the loss: the squared error of $\hat{x}$ times a `weight`. With the signal-to-noise ratio as the weight it is the squared error of the noise {eq}`eq-five-errors`, the simple loss.

# %% tags=["unseen"]
import math
from functools import partial
from itertools import pairwise

from torch import nn
from torch.distributions import Categorical, Normal, kl_divergence
from torch.nn import functional as F

from companion.ddpm import Ddpm, denoising_loss, elbo_step, image_ddpm, noise_errors
from companion.page.show import show
from companion.page.verify import at_most, exact, monte_carlo, variance, verify
from companion.schedule import add_noise, linear_schedule, noise_from_x_0

# %% tags=["shown", "nbval-check-output"]
show(denoising_loss, docstring=False)

# %% tags=["held", "nbval-check-output"]
x = points[:500]
_ = torch.manual_seed(1)
t, noise = torch.randint(1, 101, (500,)), torch.randn(500, 2)
kept = alpha_bar[t, None]
x_t = kept**0.5 * x + (1 - kept) ** 0.5 * noise
by_hand = (noise - network(x_t, t)).square().sum(1)
_ = torch.manual_seed(1)
by_companion = denoising_loss(toy, x, weight=toy.schedule.snr)
print("the same loss:", torch.allclose(by_hand, by_companion, rtol=1e-3))

# %% [markdown]
# **How low can the loss get?** Not to zero: $x_t$ does not determine its noise. The best prediction is the conditional mean, $\varepsilon^*(x_t, t) = \mathbb{E}[\varepsilon \mid x_t]$. At each $t$ the error of any network splits into two parts,
#
# $$
# \mathbb{E} \lVert \varepsilon - \varepsilon_\theta \rVert^2 = \underbrace{\mathbb{E} \lVert \varepsilon - \varepsilon^* \rVert^2}_{\text{the floor}} + \underbrace{\mathbb{E} \lVert \varepsilon^* - \varepsilon_\theta \rVert^2}_{\text{the excess}} .
# $$ (eq-excess-error)
#
# :::{dropdown} Proof
# The cross term is $2\, \mathbb{E}\, (\varepsilon - \varepsilon^*) \cdot (\varepsilon^* - \varepsilon_\theta)$. Take the expectation given $x_t$ first: the second factor is then fixed, and the first has mean zero. $\square$
# :::
#
# For Gaussian data with variance $\lambda$ in one dimension the floor has a closed form. Averaged over $t$, it is
#
# $$
# \min L_{\text{simple}} = \frac{1}{T} \sum_{t=1}^{T} \frac{\bar\alpha_t\, \lambda}{\bar\alpha_t\, \lambda + 1 - \bar\alpha_t} .
# $$ (eq-simple-optimum)
#
# For $\lambda = 1$ it is the mean of $\bar\alpha_t$.

# %% tags=["unseen"]
from companion.denoisers import MixtureDenoiser, VPredictor, gaussian_denoiser

schedule = linear_schedule(1000)

# %% [markdown]
# **Check.** Steps 1 to 5 are run with the exact denoiser, for two variances. The check rejects the loss of the constant answer $\varepsilon_\theta = 0$ and, for $\lambda = \frac14$, the formula without its denominator.

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
    print(f"variance {lam:4}: the least loss is {least:.5f}")

# %% [markdown]
# For the mixture of eight Gaussians $\varepsilon^*$ has a closed form as well, so the loss of the network above can be split into floor and excess.

# %%
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

# %%
print(f"floor {least:.3f}, loss after training {least + excess_of_last[-1]:.3f}")

# %% tags=["held", "nbval-check-output"]
close = bool(excess_of_last[-1] < 0.25 * least)
print("the excess falls below a quarter of the floor:", close)

# %% [markdown]
# So the loss of this network consists mostly of its floor.
#
# **Check.** The three terms of {eq}`eq-excess-error` are computed for a prediction that is wrong on purpose, $0.5\, \varepsilon^* + 0.2$. The check rejects the formula without the excess.

# %% tags=["check", "nbval-check-output"]
total, floor, excess = (
    (a - b).square().sum(1).double()
    for a, b in ((noise, 0.5 * best + 0.2), (noise, best), (best, 0.5 * best + 0.2))
)
zero = torch.zeros(()).double()
nothing = {"no excess": excess.mean()}
verify("eq-excess-error", total - floor - excess, zero, monte_carlo, rejects=nothing)

# %% [markdown]
# **What you can say now.** A DDPM is trained by regression: make a noisy example at a random time and predict its noise. The loss has a floor above zero, and training can reduce only the excess over that floor.
#
# *Sources: B25, B26.*

# %% [markdown]
# (sec-ema)=
# ## The average of the weights
#
# With a constant learning rate each batch keeps moving the weights. {cite:t}`ho2020` sample with an {term}`exponential moving average` of the weights instead. With $\theta_n$ the weights after step $n$ and a decay $d$ such as 0.999,
#
# $$
# \bar\theta_n = d\, \bar\theta_{n-1} + (1 - d)\, \theta_n, \qquad \bar\theta_1 = \theta_1 .
# $$ (def-ema)
#
# This is a weighted mean of all weights so far,
#
# $$
# \bar\theta_n = d^{\,n-1}\, \theta_1 + (1 - d) \sum_{k=2}^{n} d^{\,n-k}\, \theta_k .
# $$ (eq-ema-sum)
#
# Its memory is about $1 / (1 - d)$ steps: weights that old count $1 / e$ as much as the newest. If the weights were independent draws with variance 1, the variance of their average would tend to
#
# $$
# \operatorname{Var} \bar\theta_n \;\longrightarrow\; (1 - d)^2 \sum_{k=0}^{\infty} d^{\,2k} = \frac{1 - d}{1 + d} .
# $$ (eq-ema-noise)
#
# **Check.** Three hundred random weights are averaged by the companion. The check rejects a sum whose first weight counts like the others.

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

# %% [markdown]
# **Check.** The recursion {eq}`def-ema` is simulated with $d = 0.9$. The check rejects variances of $1 - d$ and of $(1 - d) / 2$.

# %% tags=["check", "nbval-check-output"]
d, mean = 0.9, torch.randn(400_000).double()
for _ in range(80):
    mean = d * mean + (1 - d) * torch.randn(400_000).double()
limit = torch.tensor((1 - d) / (1 + d)).double()
wrong = {"1 - d": limit * (1 + d), "half of it": limit * (1 + d) / 2}
verify("eq-ema-noise", mean, limit, variance, rejects=wrong)

# %% [markdown]
# The training above kept an average with $d = 0.99$. Did it behave like this?

# %% tags=["figure"] mystnb={"image": {"alt": "Two curves of the excess over the training step on a logarithmic axis. The average starts far above the weights, crosses them after some 250 to 300 steps and then stays below, and is smooth where the weights jitter."}, "figure": {"caption": "The excess over the floor, for the weights and for their average, at a constant learning rate. The average starts behind, then overtakes and fluctuates less.", "name": "fig-ema"}}
plots.curves(
    {"weights": (steps, excess_of_last), "their average": (steps, excess_of_average)},
    x_label="step",
    y_label="excess squared error of the noise",
    log_y=True,
)

# %% [markdown]
# In {numref}`fig-ema` the average is behind at first: it still contains the poor weights of the beginning {eq}`eq-ema-sum`. Later it is ahead, at the cost of a second copy of the weights. The training must be several times as long as the memory, and it is the average that must be saved, measured and sampled from.
#
# Five trainings agree ({ref}`experiment <exp-weight-average>`): in the last third of the steps the excess of the average is 26 ± 1 % below that of the weights; at a quarter of the rate it is 4.5 ± 0.3 %, at four times the rate 32 ± 1 %, with four times the steps 40 ± 4 %. The changes of the excess from one measurement to the next have a standard deviation of 0.150 ± 0.012 of its mean, those of the average 0.007 ± 0.001. A learning rate that falls to zero nearly reaches it in 600 steps: its last weights have an excess of 0.0317 ± 0.0002, and the last average at the constant rate 0.0312 ± 0.0001. In 2,400 steps the average at the constant rate is ahead, with 0.010 ± 0.002 against 0.019 ± 0.003.

# %% tags=["held", "nbval-check-output"]
end = steps > 400
pair = (excess_of_last[end], excess_of_average[end])
jitter = [curve.diff().std() / curve.mean() for curve in pair]
print("at first the average is worse:", bool(excess_of_average[0] > excess_of_last[0]))
print("after step 400 it is better:", bool((excess_of_average < excess_of_last)[end].all()))
print("and it fluctuates less than half as much:", bool(jitter[1] < 0.5 * jitter[0]))

# %% [markdown]
# **What you can say now.** On the ring an exponential moving average of the weights removes most of the fluctuation that a constant learning rate leaves, and lowers the excess.

# %% [markdown]
# (sec-train-ddpm)=
# ## Train it yourself
#
# For images, only the network changes. The next two sections use a small DDPM of digits with $8 \times 8$ pixels, which predicts the noise, as in Algorithm 1. You can train one here by the recipe of the shipped one: at small scale only its first steps, at most 20 seconds on two cores; `train_it("ddpm-digits", "full")` takes all of them.

# %%
print(cost("ddpm-digits"))

# %%
mine = watch(train_it("ddpm-digits"))

# %% [markdown]
# A network that always answers zero has a loss of about 64, one for each pixel. Yours should be far below.

# %% tags=["held", "nbval-check-output"]
last = torch.tensor(mine.losses[-20:]).mean()
print("the loss is below a third of that of a zero answer:", bool(last < 64 / 3))

# %% [markdown]
# The next two sections use the shipped weights. Set `MINE = True` if they should use yours; after a short training, some claims about trained models will not hold.

# %% tags=["nbval-check-output"]
MINE = False  # True: from here on the chapter uses your weights
if MINE:
    use("ddpm-digits", mine.model)
print("weights of ddpm-digits:", "yours" if MINE else "the shipped ones")

# %% [markdown]
# (sec-thrown-away)=
# ## What the simple loss throws away
#
# The simple loss is the bound without its weights. What else was dropped?
#
# For a `Ddpm` with $D$ dimensions and fixed variances, minus the bound is a sum of four parts, by {eq}`eq-three-terms`, {eq}`eq-step-cost` and {eq}`eq-five-weights`:
#
# $$
# \begin{aligned}
# - \mathrm{ELBO}(x) = {} & \underbrace{D_{\mathrm{KL}}\big( q(x_T \mid x) \,\Vert\, p(x_T) \big)}_{\text{prior matching}} + \underbrace{\frac{D}{2} \sum_{t=2}^{T} \Big( \frac{\tilde\beta_t}{\sigma_t^2} - 1 - \log \frac{\tilde\beta_t}{\sigma_t^2} \Big)}_{\text{variances}} \\
# & + \underbrace{\sum_{t=2}^{T} \omega_\varepsilon(t)\, \mathbb{E} \lVert e_\varepsilon(t) \rVert^2}_{\text{errors}} \; \underbrace{- \, \mathbb{E} \log p_\theta(x \mid x_1)}_{\text{reconstruction}} ,
# \end{aligned}
# $$ (eq-bound-from-errors)
#
# with $e_\varepsilon(t) = \varepsilon - \varepsilon_\theta(x_t, t)$. (The paper calls the first part $L_T$, the last $L_0$, and the two in the middle $L_1 + \dots + L_{T-1}$.)
#
# | of the bound | the simple loss has |
# |---|---|
# | the errors, weighted by $\omega_\varepsilon(t)$ | the same errors with equal weights |
# | the reconstruction, log-probabilities of gray levels | a squared error at $t = 1$ |
# | the variances: what $\sigma_t^2$ costs | nothing, so it cannot choose them |
# | the prior matching | nothing; no network can change it |

# %% tags=["serves"]
from companion.variances import bound_weights, linear_noise_error, optimal_reverse_var

small_train, small_test = data.load("digits", "train"), data.load("digits", "test")
small_x, small_y = (data.to_symmetric(part.images) for part in (small_train, small_test))


# %% tags=["serves"]
def variances_cost(reverse_var, schedule=schedule):
    """What the variances cost, in nats for each dimension, at each time; 0 at t < 2."""
    ratio = schedule.posterior_var[2:] / reverse_var[2:]
    return F.pad(0.5 * (ratio - 1 - ratio.log()), (2, 0))


# %% [markdown]
# **Check.** For one $8 \times 8$ digit at all thousand times, the left side adds up the terms of `elbo_step`, which computes KL divergences, and the right side uses errors and weights. The check rejects equal weights, and a bound without the cost of the variances.

# %% tags=["check", "nbval-check-output"]
_ = torch.manual_seed(0)
small, fine = pretrained("ddpm-digits"), pretrained("ddpm-digits").double()
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

# %% [markdown]
# **The weights of the noise.** On the linear schedule of {cite:t}`ho2020` the weights $\omega_\varepsilon(t)$ fall from $t = 2$ to a minimum near $t = 349$, by a factor of 120 if $\sigma_t^2 = \tilde\beta_t$ and of 55 if $\sigma_t^2 = \beta_t$. Which share of the sum of all weights belongs to the first times?

# %% tags=["numbers", "nbval-check-output"]
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
# So the simple loss gives little weight to the smallest $t$, where the last faint noise is removed, and more to the larger ones, where the content of the image is decided. {cite:t}`ho2020` found that this gives better samples and a slightly worse bound. Where the weights, divided by those of the bound, only rise with the noise, such a loss is an average of bounds for images to which noise was added {cite:p}`kingma2023`; those of the simple loss rise at first and fall again at the noisiest times.
#
# In code, the losses differ by one tensor, the weight of the squared error of $\hat{x}$, here relative to its value at $t = 1000$:

# %% tags=["numbers", "nbval-check-output"]
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
# A perfect network predicts $\varepsilon^*$ whatever the weights are. A real one must serve all times with the same parameters, and the weights say what an error at each time counts.
#
# **What an error costs.** Let $\mathrm{MSE}_t$ be the mean squared error of a network's predicted noise, summed over dimensions, and $\mathrm{MMSE}_t$ that of $\varepsilon^*$, the minimum. With a Gaussian likelihood at $t = 1$,
#
# $$
# \mathbb{E}\, \mathrm{ELBO}_\theta = \mathbb{E}\, \mathrm{ELBO}_* - \sum_{t=1}^{T} \omega_\varepsilon(t)\, \big( \mathrm{MSE}_t - \mathrm{MMSE}_t \big) ,
# $$ (eq-deficit)
#
# where $\mathrm{ELBO}_*$ is the bound of $\varepsilon^*$ with the same variances. This holds for any data and any network: the other parts of {eq}`eq-bound-from-errors` are the same for both, and a Gaussian likelihood with variance $\sigma_1^2$ is a squared error with the weight $\omega_\varepsilon(1)$. (With a likelihood of gray levels it holds for the terms from $t = 2$ on.)
#
# Both sides can be computed for a denoiser of the ring, whose $\varepsilon^*$ is known:

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


# %% tags=["serves"]
def timid(x_t, t):
    """A denoiser that removes only 80 percent of the noise it sees."""
    noise = noise_from_x_0(toy.schedule, x_t, t, exact_hat(x_t, t))
    return x_0_from_noise(toy.schedule, x_t, t, 0.8 * noise)


# %% [markdown]
# **Check.** A denoiser that is wrong on purpose removes only 80 percent of the noise. The left side is a difference of two bounds, by `elbo_step`. On the right $\mathrm{MSE}_t - \mathrm{MMSE}_t$ is the excess, computed from two predictions alone. The check rejects the excess without its weights.

# %% tags=["check", "nbval-check-output"]
_ = torch.manual_seed(0)
lost, weighted, plain = both_sides(timid)
wrong = {"without weights": weighted.mean() - plain.mean()}
verify("eq-deficit", lost - weighted, zero, monte_carlo, rejects=wrong)

# %% [markdown]
# The shipped network of the ring, trained for longer than ours, loses little:

# %%
_ = torch.manual_seed(0)
lost, weighted, plain = both_sides(shipped.denoiser)
n = len(y) ** 0.5
print(f"the network loses {lost.mean():.3f} +- {lost.std() / n:.3f} nats")
print(f"by the formula    {weighted.mean():.3f} +- {weighted.std() / n:.3f} nats")

# %% [markdown]
# **Why not train on the bound?** {cite:t}`nichol2021` found its gradient noisier: a batch that happens to contain small times, whose weights are large, has a much larger gradient than one without them. For the network of the ring after twenty steps we measure the variance of the gradient divided by its squared mean: for the simple loss, for the weighted loss with uniform times, and for times drawn *in proportion to the weights*, so that no weight is needed in the loss ({ref}`ex-better-times` of the last chapter).


# %%
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


# %% tags=["numbers"]
_ = torch.manual_seed(0)
_, net, _ = saved[0]  # the network after twenty steps
noises = {
    "simple loss, uniform times": gradient_noise(net, False, False),
    "weighted loss, uniform times": gradient_noise(net, False, True),
    "weighted loss, times drawn by the weights": gradient_noise(net, True, False),
}
for name, ratio in noises.items():
    print(f"{name:42} noise over signal {ratio:.2f}")

# %% tags=["held", "nbval-check-output"]
simple, weighted_loss, drawn_times = noises.values()
print("weights make the gradient noisier, by half at least:", weighted_loss > 1.5 * simple)
print("drawing by the weights helps:", weighted_loss > 1.2 * drawn_times)

# %% [markdown]
# A batch twice as large halves this ratio. So, for this network at this moment, the weighted loss needs larger batches, and drawing the times by their weights removes part of the disadvantage.
#
# Both losses can be trained on the ring. Here is minus the bound, in nats, of the shipped network and of one that was trained with the weights of the bound, from the same random numbers:

# %% tags=["numbers"]
from companion.elbo import elbo_terms

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

# %% tags=["held", "nbval-check-output"]
better = gain.mean() > 3 * gain.std() / 5000**0.5
print("trained on the bound, it reaches a better bound:", bool(better))

# %% [markdown]
# With one training each, the gain is small but significant.
#
# **What you can say now.** The simple loss keeps the errors of the bound with other weights. With the variances fixed, what a network loses in nats is its weighted excess.

# %% [markdown]
# (sec-why-v)=
# ## What the network should estimate
#
# Algorithm 1 predicts the noise. Is that the best choice? The image $x_0$, the noise and $v = \sqrt{\bar\alpha_t}\, \varepsilon - \sqrt{1 - \bar\alpha_t}\, x$ determine each other once $x_t$ is known, so a network may estimate any of them. {numref}`fig-same-error` gives each of the three outputs the same error, random numbers with standard deviation 0.3, and shows which image the output implies by {eq}`eq-five-errors`:

# %% tags=["figure"] mystnb={"image": {"alt": "Four rows of the digit seven at five times from 10 to 900. First row, the noisy image. Second row, from an estimate of x zero: equally grainy at all times, also at time 10 where the noisy image is nearly clean. Third row, from the noise: clean at time 10, pure noise from time 600 on. Fourth row, from v: clean at time 10 and never worse than the second row."}, "figure": {"caption": "The image that the network's output implies if it has the same error at all times, on the linear schedule. Only an estimate of $v$ gives acceptable images at both ends.", "name": "fig-same-error"}}
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
# With such errors a network that estimates $x_0$ is bad at low noise: it must reproduce an image that it is given nearly clean, and each error is visible. A network that estimates the noise is bad at high noise: its input is nearly the noise itself, and for the implied image each error is divided by $\sqrt{\mathrm{SNR}_t}$, which is small. Only $v$ {cite:p}`salimans2022` is good at both ends: it is nearly the noise where the image is clean, and nearly minus the image where $x_t$ is nearly noise. {numref}`fig-amplified` shows the factors.

# %% tags=["figure"] mystnb={"image": {"alt": "Two panels over time on a logarithmic axis. Left, the error of the image: constant for x zero, growing from 0.01 to above 100 for the noise, growing from 0.01 to 1 for v. Right, the error of the noise: falling from 100 to below 0.01 for x zero, constant for the noise, falling from 1 to below 0.01 for v."}, "figure": {"caption": "What an error of size 1 in the network's output becomes: in the image (left) and in the noise (right).", "name": "fig-amplified"}}
kept, every = schedule.alpha_bar[1:], torch.arange(1, 1001)
root_snr = (kept / (1 - kept)) ** 0.5
of_image = {"$x_0$": kept**0, "noise": 1 / root_snr, "$v$": (1 - kept) ** 0.5}
fig, (left, right) = plots.figure(2, height=2.8)
for axes, factor, name in ((left, 1.0, "image"), (right, root_snr, "noise")):
    lines = {key: (every, factor * line) for key, line in of_image.items()}
    _ = plots.curves(
        lines, x_label="time $t$", y_label=f"error of the {name}", log_y=True, axes=axes
    )
fig

# %% [markdown]
# Does a trained network make such errors? A good yardstick is the best *linear* estimate of the noise, which follows from the mean and covariance of the data. If the covariance has the eigenvalues $\lambda_1, \dots, \lambda_D$, its squared error per dimension is, as in {eq}`eq-simple-optimum`,
#
# $$
# \mathrm{lin}_t = \frac1D \sum_{j=1}^{D} \frac{\bar\alpha_t\, \lambda_j}{\bar\alpha_t\, \lambda_j + 1 - \bar\alpha_t} .
# $$ (eq-linear-bound)
#
# **Check.** The linear map is fitted by least squares to the second moments of forty digits. The check rejects the formula with all eigenvalues replaced by their mean.

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

# %% [markdown]
# The network of the small digits estimates the noise. Here is its error per pixel on test digits beside the yardstick:

# %% tags=["numbers", "columns"]
_ = torch.manual_seed(0)
values = torch.linalg.eigvalsh(torch.cov(small_x.flatten(1).T.double())).clamp(min=0)
yardstick = linear_noise_error(schedule, values).mean(1)
chosen = [10, 100, 300, 500, 700, 850, 1000]
found = noise_errors(small, small_y, chosen).mean(1)
print("   t      error     linear   quotient")
for t, error in zip(chosen, found, strict=True):
    print(f"{t:4} {error:10.2e} {yardstick[t]:10.2e} {error / yardstick[t]:10.2f}")

# %% [markdown]
# Up to $t = 300$ the network is better than any linear estimate. At $t = 1000$ it is much worse, although its output should be almost a copy of its input. There even an *untrained* network that estimates $v$, and whose output is still zero, is better.

# %% tags=["held", "nbval-check-output"]
from companion.networks.unet import UNet

_ = torch.manual_seed(0)
untrained = image_ddpm(UNet((1, 8, 8), 16, (1, 2), blocks=1), levels=17)  # estimates v
at_the_end = noise_errors(untrained, small_y, [1000]).mean()
print("better than linear at t = 100:", bool(found[1] < yardstick[100]))
print("at least ten times worse at t = 1000:", bool(found[-1] > 10 * yardstick[1000]))
print("no training beats training at t = 1000:", bool(at_the_end < found[-1]))

# %% [markdown]
# What changes in the loss if the network estimates $v$? By {eq}`eq-five-errors`, the squared error of $v$ is
#
# $$
# \lVert e_v \rVert^2 = \frac{\lVert e_\varepsilon \rVert^2}{\bar\alpha_t} .
# $$ (eq-v-loss)
#
# At small $t$ the two losses are nearly equal; at large $t$ the loss in $v$ is nearly the squared error of the image.
#
# **Check.** The two losses are computed for one batch with the same times and the same noise. The check rejects a division by $1 - \bar\alpha_t$.

# %% tags=["check", "nbval-check-output"]
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
# How many nats of the bound do the large errors at large $t$ cost?

# %% tags=["numbers"]
late = torch.arange(720, 1001, 20)
_ = torch.manual_seed(0)
too_much = noise_errors(small, small_y, late).mean(1) - yardstick[late]
price = 64 * 20 * (bound_weights(schedule, small.reverse_var).noise[late] * too_much).sum()
print(f"more error than a linear estimate, from t = 710 on: {price:.2f} nats")
error_of_image = found[-1] / schedule.snr[1000] / values.mean()
print(f"the estimated image at t = 1000 is off by {error_of_image:.0f} variances of the data")

# %% [markdown]
# Hardly any: the errors of the noise are small there. Yet the $\hat{x}$ that they imply is useless. The network of MNIST in the next section estimates $v$ in steps 5 and 6.
#
# **What you can say now.** If the errors of the output are equal, an estimate of $v$ gives acceptable images at both ends of time; those of $x_0$ and of the noise do not. The best linear estimate is a yardstick that a network should beat at every $t$.

# %% [markdown]
# (sec-ddpm-samples)=
# ## Samples
#
# The network whose digits opened the chapter was trained on the 60,000 digits of MNIST by Algorithm 1, with four changes from {cite:t}`ho2020`. It estimates $v$. Its schedule is the cosine schedule of a {ref}`later section <sec-two-schedules>`. The times are not uniform: those at which next to nothing of the image can be seen are drawn less often, and the smallest ones more often. For half of the digits the network was given their class, for {ref}`chapter 13 <sec-classifier-free>`; in this chapter it gets none. Its {doc}`card </book/models>` says what the training took:

# %% tags=["unseen"]
from companion.zoo.weights import read_card

model, card = pretrained("ddpm-mnist-joint"), read_card("ddpm-mnist-joint")

# %% tags=["mnist"]
print(f"{card.minutes:.0f} minutes on {card.device}: {card.command}")
print(f"{card.num_parameters:,} parameters")

# %% [markdown]
# To sample, start from noise and take the reverse steps {eq}`def-reverse-step`, here only at every twentieth time ({ref}`the next chapter <sec-ddim>` studies what that loses).

# %% tags=["figure"] mystnb={"image": {"alt": "Two rows of eight gray digits on black, most of them readable, drawn in fifty steps."}, "figure": {"caption": "Sixteen samples, drawn live in fifty steps.", "name": "fig-ddpm-live"}}
_ = torch.manual_seed(0)
every_20th = model.schedule.strided(range(20, 1001, 20))
narrow = every_20th.posterior_var
quick = Ddpm(model.denoiser, every_20th, (1, 28, 28), narrow, decoder_var=narrow[2])
*_, drawn = ancestral_sample(quick, 16)
plots.image_grid(data.to_unit(drawn), columns=8)

# %% [markdown]
# The record holds samples that took all thousand steps. Here are the first forty, not selected:

# %% tags=["figure", "mnist"] mystnb={"image": {"alt": "Four rows of ten gray digits on black, most of them readable as digits."}, "figure": {"caption": "Forty samples with all thousand steps, not selected. Most are digits, some are broken.", "name": "fig-ddpm-samples"}}
samples = record["samples"].float() / 255
plots.image_grid(samples[:40])

# %% [markdown]
# This is the answer to {numref}`fig-which-are-real`, with an R for each real digit:

# %% tags=["nbval-check-output", "mnist"]
letters = ["R" if place < 10 else "-" for place in order.tolist()]
print(" ".join(letters[:10]))
print(" ".join(letters[10:]))

# %% [markdown]
# **How good are the samples?** Three measures compare them with real digits and with images drawn from the VAE of chapter 6.
#
# 1. *Not recognized*: the share of images not recognized as a digit. Two classifiers of different architecture have an eleventh class, *no digit*. They were trained on real digits and on spoiled ones: pieces of one pasted into another, strokes erased, mirrored or warped. Neither has seen a sample of any model. Digits and spoiled digits were shifted, blurred, changed in contrast and made black and white in the same way, so that sharpness does not tell them apart: a judge that reads sharpness would rank models by their edges. We print the mean of both in excess over real digits, of which they miss about one in sixty, and state a difference only where both judges see it.
# 2. *Sure*: the confidence of a second classifier, with the ten classes only, is the probability of the likeliest class.
# 3. *Distance*: how far are the samples from the training digits in the space of the 64 features of the second classifier? This is measured by the squared {term}`Fréchet distance` of two Gaussians with the means $m$ and covariances $C$ of the features,
#
# $$
# \mathrm{FD} = \lVert m_1 - m_2 \rVert^2 + \operatorname{tr}\big( C_1 + C_2 - 2\, (C_1^{1/2} C_2\, C_1^{1/2})^{1/2} \big) .
# $$ (def-frechet)
#
# With features of another network this is the FID of the papers {cite:p}`heusel2017`. The distance of a small sample of $N$ images is biased upwards, by an amount in proportion to $1/N$. The **jackknife** removes most of this bias: leave out each tenth of the sample in turn, see how much the distance grows, and extrapolate. The ten distances give a standard error as well.

# %% tags=["shown"]
from companion.metrics import jackknife
from companion.zoo.yardstick import (
    digit_features,
    feature_distance,
    real_digit_distance,
    unrecognized,
)

show(jackknife)

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
print(f"all test digits: {baseline.value:.2f} +- {baseline.standard_error:.2f}")
assert sure["diffusion"].mean() > 0.9 or test.name != "mnist"

# %% tags=["held", "nbval-check-output", "mnist"]
print("mean confidence above 0.9:", bool(sure["diffusion"].mean() > 0.9))
print("closer to real digits than the VAE:", far["diffusion"].value < far["VAE"].value)
for fewer, more in (("real digits", "diffusion"), ("diffusion", "uniform"), ("uniform", "VAE")):
    clear = not_recognized[fewer].below(not_recognized[more])
    print(f"{fewer} are recognized more often than {more}, say both judges: {clear}")

# %% [markdown]
# The first row is the best that can be expected. "Uniform" is nearly the same network, but with uniform times, on the linear schedule, and for 16 epochs instead of 24. Each of the two was trained once, so the table does not say which of the three differences matters. The VAE was trained on binary images and shows the means of its decoder. Both judges rank the models in the order of the table. Neither the judges nor the confidence notice whether the samples *differ* from each other. The distance does, but its standard errors are large. A count of the classes is a simpler test of variety:

# %% tags=["figure"] mystnb={"image": {"alt": "Ten bars for the digits 0 to 9, each near a tenth, with whiskers."}, "figure": {"caption": "The classes of the samples according to the classifier, with binomial standard errors: about a tenth each.", "name": "fig-class-counts"}}
answers = classifier.head(features["diffusion"]).argmax(1)
share = torch.bincount(answers, minlength=10).double() / len(answers)
error_bars = (share * (1 - share) / len(answers)).sqrt()
plots.bars(
    {str(digit): 100 * share[digit] for digit in range(10)},
    errors={str(digit): 100 * error_bars[digit] for digit in range(10)},
    value_label="percent of the samples",
)

# %% [markdown]
# All ten classes occur in {numref}`fig-class-counts`. A chi-square statistic compares the shares with those of the training digits.

# %%
target = torch.bincount(train.labels, minlength=10).double() / len(train.labels)
chi2 = (len(answers) * (share - target) ** 2 / target).sum()
tail = torch.special.gammaincc(torch.tensor(4.5).double(), chi2 / 2)
print(f"chi-square, 9 degrees of freedom: {chi2:.1f}")
print(f"a faithful model would exceed that with probability {tail:.1e}")

# %% tags=["held", "nbval-check-output", "mnist"]
print("no class has less than 3 percent:", bool(share.min() > 0.03))

# %% [markdown]
# A small probability would mean that the model prefers some digits.
#
# **When do samples follow the data distribution?** The KL divergence of the model from the data is at most the gap of the bound, which is a sum of three losses:
#
# $$
# D_{\mathrm{KL}}(p_{\text{data}} \,\Vert\, p_\theta) \;\le\; \underbrace{\text{prior and steps}}_{\text{exact denoiser, best } \sigma_t^2} + \underbrace{\text{variances}}_{\text{not the best } \sigma_t^2} + \underbrace{\sum_t \omega_\varepsilon(t)\, (\mathrm{MSE}_t - \mathrm{MMSE}_t)}_{\text{network}} .
# $$ (eq-decoder-limit)
#
# The left side goes to zero if $x_T$ is noise and the steps are small, if the variances are right, *and* if the network is exact at all times that have weight.
#
# We compute both sides for Gaussian data in one dimension, and a denoiser that estimates $1 + \delta$ times the noise it should.


# %% tags=["serves"]
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


# %% [markdown]
# **Check.** The KL divergence of the samples comes from their exact variance, for three numbers of steps and three values of $\delta$. The check rejects a right side without the network's part.

# %% tags=["check", "columns", "nbval-check-output"]
cases = [(T, delta) for T in (30, 100, 1000) for delta in (0.0, 0.05, 0.2)]
found = [off_by(T, delta) for T, delta in cases]
kls, steps_part, network_part = (torch.stack(column) for column in zip(*found, strict=True))
no_network = {"without the network": steps_part}
verify("eq-decoder-limit", kls, steps_part + network_part, at_most(0), rejects=no_network)
print("   T  delta   KL of the samples   steps, variances   network")
for (T, delta), (kl, a, b) in zip(cases, found, strict=True):
    print(f"{T:4} {delta:6} {kl:18.5f} {a:18.5f} {b:11.5f}")

# %% [markdown]
# With the exact denoiser both sides go to zero as the number of steps grows; with a network that is off by five percent they stop at a floor. The KL divergence of the samples is far smaller than the gap, which is that of whole chains {eq}`eq-kl-chain`.
#
# **In color.** Nothing in the code is special to gray images; three channels are enough:

# %% tags=["nbval-check-output"]
from companion.networks.unet import mnist_unet

_ = torch.manual_seed(0)
color = image_ddpm(mnist_unet((3, 32, 32)))
colors = 2 * torch.rand(4, 3, 32, 32) - 1
losses = denoising_loss(color, colors, color.schedule.snr)
print("one loss for each image:", tuple(losses.shape))

# %% [markdown]
# {ref}`Chapter 11 <sec-color-samples>` draws houses in color and measures them. For CIFAR-10, {cite:t}`ho2020` trained 35.7 million parameters for 800,000 steps.
#
# **What you can say now.** The model draws digits of all classes; how many of them are digits, two classifiers say that know broken ones. Samples follow the data distribution if noise, variances and network are all right.
#
# *Sources: A36, B28.*

# %% [markdown]
# (sec-unet)=
# ## The network
#
# So far the network was a black box that maps $x_t$ and $t$ to an output of the shape of $x_t$. It must
#
# 1. **keep the detail**, because noise is removed pixel by pixel;
# 2. **use the whole image**, because under much noise the value of a pixel must be inferred from which digit it is;
# 3. **have the time as an input**, because the same spot can be noise at one time and part of the digit at another.
#
# The {term}`U-Net` {cite:p}`ronneberger2015`, which {cite:t}`ho2020` chose, meets the first two by going down and up again ({numref}`fig-unet`).


# %% tags=["serves"]
def part(axes, place, text, edge="#777777"):
    box = {"boxstyle": "round,pad=0.4", "facecolor": "white", "edgecolor": edge}
    axes.text(*place, text, ha="center", va="center", fontsize=9, bbox=box)


def arrow(axes, start, end, color="#777777", style="-", bend=0.0):
    look = {"arrowstyle": "->", "color": color, "linestyle": style, "shrinkA": 18, "shrinkB": 18}
    axes.annotate("", end, start, arrowprops=look | {"connectionstyle": f"arc3,rad={bend}"})


# %% tags=["figure"] mystnb={"image": {"alt": "A diagram in the shape of a U. From the noisy image at the top left, arrows go down through a block at each of three scales, 32 maps of 28 x 28, 64 of 14 x 14 and 128 of 7 x 7, through the middle of two blocks with attention between them, and up again through a block at each scale to the answer. Dashed arrows lead from each block on the left to the block of the same scale on the right. The time goes to every block."}, "figure": {"caption": "The U-Net of the digits. Gray: the stream of feature maps. Dashed: skip connections, from each block on the way down to the block of the same scale on the way up. Every block has the time as an input.", "name": "fig-unet"}}
fig, (axes,) = plots.figure(height=3.1)
down, up = [(1, 2), (1.9, 1), (2.8, 0)], [(6.2, 0), (7.1, 1), (8, 2)]
path = [(0, 2), *down, (4.5, 0), *up, (9, 2)]
names = ["$x_t$", *3 * ["block"], "block, attention,\nblock", *3 * ["block"], "answer"]
for start, end in pairwise(path):
    arrow(axes, start, end)
for start, end, bend in zip(down, reversed(up), (0, 0, -0.45), strict=True):
    arrow(axes, start, end, "#0072b2", "--", bend)
for place, name in zip(path, names, strict=True):
    part(axes, place, name)
for y, text in ((2, "32 maps\n28 x 28"), (1, "64 maps\n14 x 14"), (0, "128 maps\n7 x 7")):
    axes.text(-1.0, y, text, ha="center", va="center", fontsize=9)
part(axes, (4.5, 1.5), "time $t$: a vector $e$, to every block", "#d55e00")
axes.set(xlim=(-1.6, 9.6), ylim=(-0.5, 2.4))
axes.axis("off")
fig

# %% [markdown]
# **The residual block.** A stream $h$ of feature maps runs through the network, and each block adds its output to it. The block normalizes its input and applies two convolutions of $3 \times 3$ pixels. In between the time enters, as the vector `e`.

# %% tags=["shown", "nbval-check-output"]
from companion.networks.unet import AdaptiveNorm, Block, ShiftedNorm

show(Block.forward, docstring=False)

# %% [markdown]
# The weights of the second convolution start at zero, so an untrained block changes neither the stream nor the gradient that passes through it.
#
# **Self-attention** connects each pixel with all others {cite:p}`vaswani2017`. From the features $h_i$ of each pixel it makes three vectors of $c$ components, a *query* $q_i$, a *key* $k_i$ and a *value* $v_i$, and adds to pixel $i$ a linear map of
#
# $$
# \sum_j a_{ij}\, v_j, \qquad a_{ij} = \frac{e^{q_i \cdot k_j / \sqrt{c}}}{\sum_l e^{q_i \cdot k_l / \sqrt{c}}} ,
# $$ (def-self-attention)
#
# the mean of all values, weighted by how well key $j$ fits query $i$. There are as many weights as pairs of pixels, so it is placed where the feature maps are small.
#
# **Down and up.** A convolution of stride 2 halves the side of the feature maps. On the way up, a convolution reduces the number of maps, and then each pixel is repeated in both directions. This is the whole network:

# %% tags=["shown", "nbval-check-output"]
show(UNet.forward, docstring=False)

# %% [markdown]
# Most of the parameters are at the coarsest scale. (What the parts leave of the total belongs to the {ref}`time <sec-time-embedding>`.)

# %% tags=["numbers", "columns", "nbval-check-output"]
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
# **How far does it see?** The set of input pixels that can change an output pixel is its {term}`receptive field`. Each convolution of $3 \times 3$ adds one pixel on each side, so $n$ of them in a row cover a square of width
#
# $$
# 2 n + 1 .
# $$ (eq-reach)
#
# We *measure* the field, for networks with random weights, as the pixels at which the gradient of one output pixel is not zero.


# %%
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


# %% [markdown]
# A network of one scale with $b$ blocks on the way down has $4 b + 6$ convolutions in a row: one at the entrance, two in each of its $2 b + 2$ blocks, one at the exit.
#
# **Check.** The field is measured for $b = 1, 2, 3$. The check rejects the width for one convolution fewer, with the one at the entrance forgotten.

# %% tags=["check", "nbval-check-output"]
depths = torch.tensor([1, 2, 3])
n = 4 * depths + 6
width = torch.stack([(influence((1,), b) > 0).any(0).sum() for b in depths.tolist()])
verify("eq-reach", width, 2 * n + 1, rejects={"without one": 2 * n - 1})

# %% tags=["numbers", "nbval-check-output"]
fields = {
    "one scale": influence((1,)),
    "two scales": influence((1, 1)),
    "three scales": influence((1, 1, 1)),
    "one, attention": influence((1,), attention=True),
    "one, normalized": influence((1,), norms=True),
}
for name, field in fields.items():
    print(f"{name:16} {int((field > 0).sum()):5} of 4096 pixels")

# %% tags=["figure"] mystnb={"image": {"alt": "Five square panels. One scale: a small bright square on black. Two scales: a square of four fifths of the width. Three scales: the whole panel is bright, most in the middle. Attention and normalized: a small bright square, and gray everywhere else."}, "figure": {"caption": "Which input pixels change the output pixel in the middle, and how much. The gray level is the logarithm of the gradient: black for none, white for the largest.", "name": "fig-receptive-fields"}}
powers = [(field / field.max()).clamp(min=1e-8).log10() for field in fields.values()]
plots.image_grid(torch.stack(powers) / 8 + 1, titles=list(fields), tile=1.3)

# %% [markdown]
# {numref}`fig-receptive-fields` shows three ways to use the whole image: coarser scales, attention, and normalization, which divides by the standard deviation of *all* pixels and so gives each of them a small influence everywhere.
#
# How far does the *trained* network look? We average the squared gradient of $\hat{x}$ at the middle pixel over fifty digits.


# %%
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
for t, share in zip(chosen, own, strict=True):
    print(f"t = {t:3}: {share:6.1%} of the squared gradient at the pixel itself")

# %% tags=["held", "nbval-check-output", "mnist"]
falling = bool((own[:3].diff() < 0).all())
print("from t = 10 to 600, less and less weight for the pixel itself:", falling)

# %% tags=["figure"] mystnb={"image": {"alt": "Four square panels on black. At the first time a single bright dot; then a dot with a faint halo; then a larger halo; at the last time a bright spot in a gray cloud that fills a good part of the panel."}, "figure": {"caption": "Where the trained network looks to estimate the middle pixel, at four times: the root of the mean squared derivative, white at its largest.", "name": "fig-looks-around"}}
bright = (looks / looks.amax((1, 2), keepdim=True)).sqrt()
plots.image_grid(bright, titles=[f"t = {t}" for t in chosen], tile=1.3)

# %% [markdown]
# With little noise, the noisy pixel itself is the best evidence of its value ({numref}`fig-looks-around`); with more noise the others count as well. So what the network has to do depends on the time.
#
# **What you can say now.** A U-Net has skip connections at every scale, and it reaches the whole image by coarser scales, attention, and its normalizations.
#
# *Sources: B31.*

# %% [markdown]
# (sec-time-embedding)=
# ## The time as an input
#
# As a single number, 7 and 8 out of 1000 would be nearly the same input. So the time is embedded as a vector of sines and cosines {cite:p}`vaswani2017`, with $m$ frequencies $\nu_0 > \dots > \nu_{m-1}$ that fall geometrically from 1 to $10^{-4}$:
#
# $$
# \mathrm{emb}(t) = \big( \sin \nu_0 t, \dots, \sin \nu_{m-1} t,\; \cos \nu_0 t, \dots, \cos \nu_{m-1} t \big) .
# $$ (def-sinusoidal)
#
# The high frequencies distinguish neighboring times, the low ones distinguish small times from large ones. The distance between two embeddings depends on the difference of their times alone:
#
# $$
# \lVert \mathrm{emb}(s) - \mathrm{emb}(t) \rVert^2 = 4 \sum_{k=0}^{m-1} \sin^2 \frac{\nu_k (s - t)}{2} .
# $$ (eq-embedding-distance)
#
# :::{dropdown} Proof
# Sine and cosine of one frequency are a point on the unit circle, at the angle $\nu_k t$. Two points at an angle of $a$ from each other are $2 \sin (a / 2)$ apart. $\square$
# :::
#
# *Random {term}`Fourier features`* {cite:p}`tancik2020,song2021sde` draw the frequencies from a Gaussian once, before the training.
#
# **Check.** The distances of all pairs of a thousand times are computed from the embedding of the companion. The check rejects the formula with angles that are not halved.

# %% tags=["check", "nbval-check-output"]
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
# In {numref}`fig-embedding-distance` the sinusoidal embedding separates neighboring times at once; the random features need some ten steps to be equally far apart.
#
# A small perceptron turns $\mathrm{emb}(t)$ into the vector `e`, which goes to all blocks. {cite:t}`ho2020` *add* a linear map of `e` to the feature maps, one number for each map. {cite:t}`dhariwal2021` let it *scale and shift* the normalized maps, which is called adaptive normalization.

# %% tags=["shown", "nbval-check-output"]
show(ShiftedNorm.forward, AdaptiveNorm.forward, docstring=False)

# %% [markdown]
# **Which is better?** Two embeddings and two ways to use them make four networks. Each is trained on the small digits for 80 steps with two seeds, to estimate $v$ on the {ref}`cosine schedule <sec-two-schedules>`, and measured by the squared error of $\hat{x}$ per pixel, averaged over eight signal-to-noise ratios from $e^4$ to $e^{-3}$.

# %% tags=["serves"]
from companion.schedule import cosine_schedule

log_snrs = torch.arange(4.0, -4, -1)


def trial(schedule, seed, num_steps=80, **kinds):
    """Error of x_hat per pixel at eight noise levels, after a short training."""
    _ = torch.manual_seed(seed)
    net = UNet((1, 8, 8), 16, (1, 2), blocks=1, **kinds)
    tried = image_ddpm(net, schedule, VPredictor, levels=17)
    batches = Batches(small_x, batch_size=32, num_epochs=2, seed=seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3, fused=True)
    v_loss = partial(denoising_loss, weight=1 / schedule.noise_var)
    for step in fit(tried, v_loss, batches, optimizer):
        if step.number == num_steps:
            break
    t = (schedule.log_snr[1:, None] - log_snrs).abs().argmin(0) + 1
    _ = torch.manual_seed(0)
    return noise_errors(tried.eval(), small_y, t).mean(1) / schedule.snr[t]


# %% tags=["serves"]
random_waves = {"embedding": partial(FourierEmbedding, std=16 / 1000)}
adaptive = {"conditioning": AdaptiveNorm}
networks = {
    "sinusoidal, added": {},
    "sinusoidal, adaptive": adaptive,
    "Fourier, added": random_waves,
    "Fourier, adaptive": random_waves | adaptive,
}
cosine = cosine_schedule(1000)
trials = {
    name: torch.stack([trial(cosine, seed, **kinds) for seed in (0, 1)])
    for name, kinds in networks.items()
}

# %% tags=["numbers"]
print("error of x_hat per pixel, mean over the noise levels: seed 0, seed 1")
for name, errors in trials.items():
    print(f"{name:22} {errors[0].mean():.4f} {errors[1].mean():.4f}")
scores = torch.stack([errors.mean(1) for errors in trials.values()])  # network, seed
print(f"answering with the mean image: {small_y.var(0).mean():.4f}")

# %% tags=["held", "nbval-check-output"]
print("all four learn:", bool(scores.max() < 0.75 * small_y.var(0).mean()))
print("best and worst are within 30 percent:", bool(scores.max() < 1.3 * scores.min()))

# %% [markdown]
# The rows differ little more than the seeds do, so a training as short as this cannot show which is best in the end. The networks of this chapter use the first row.
#
# **What you can say now.** The time enters as a vector of sines and cosines. Each block adds a linear map of it to its feature maps, or scales and shifts them by it.
#
# *Sources: B32.*

# %% [markdown]
# (sec-digits-by-time)=
# ## Digits, time by time
#
# At which times is the network of MNIST good? The record has its squared error of the noise at each of the thousand times, on the first 500 test digits. One yardstick is the linear estimate {eq}`eq-linear-bound` with the covariance of the training digits. Another takes the mean image for $\hat{x}$ at all times. Its squared error of the noise is
#
# $$
# \frac1D\, \mathbb{E} \lVert \varepsilon - \hat\varepsilon \rVert^2 = \mathrm{SNR}_t\, \frac1D \sum_{j=1}^{D} \lambda_j .
# $$ (eq-know-nothing)
#
# **Check.** The error is measured on the small digits at three times. The check rejects the formula without the signal-to-noise ratio.

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

# %% tags=["serves"]
error, error_se = record["noise_error"], record["noise_error_se"]
centered = (2 * train.images - 1).flatten(1)
centered = centered - centered.mean(0)
cov = (centered.T @ centered).double() / len(centered)
values, vectors = torch.linalg.eigh(cov)
values = values.clamp(min=0)  # rounding goes below 0
linear = linear_noise_error(model.schedule, values).mean(1)
mean_image = model.schedule.snr * values.mean()

# %% tags=["figure"] mystnb={"image": {"alt": "Three falling curves over time on logarithmic axes. The network's error lies below that of the best linear estimate over most of the range, by the most in the first third; towards the end all three curves run together and fall steeply."}, "figure": {"caption": "Squared error of the estimated noise, per pixel, at each of the thousand times: the network is far below the linear estimate until the image is lost in the noise.", "name": "fig-error-by-time"}}
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
# In {numref}`fig-error-by-time` this network is far below every linear estimate until the image is lost in the noise. Towards $t = 1000$, where the best estimate is nearly the mean image, all three curves meet.
#
# At how many times is the network better? To count them, the yardstick must refer to the same 500 digits, whose variances are not those of the training digits. Let $y_j$ be the coordinate of $x$, minus the mean, along eigenvector $j$, and $V_t = \bar\alpha_t \lambda_j + 1 - \bar\alpha_t$. The linear estimate of the noise is $\sqrt{1 - \bar\alpha_t} / V_t$ times the coordinate of $x_t$, and its squared error, averaged over the noise, is
#
# $$
# \Big( \frac{\bar\alpha_t\, \lambda_j}{V_t} \Big)^2 + \frac{\bar\alpha_t\, (1 - \bar\alpha_t)\, y_j^2}{V_t^2} .
# $$ (eq-linear-on-others)
#
# For $y_j^2 = \lambda_j$ this is the term of {eq}`eq-linear-bound` again.
#
# **Check.** The exact denoiser for $\lambda = \frac14$ is applied to noisy versions of $x = 1$. The check rejects the error on data of its own variance.


# %% tags=["check", "nbval-check-output"]
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
yardsticks = {
    "training digits": linear[1:],
    "the same 500": linear_on_others(model.schedule, y2, values).mean(1)[1:],
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
# By either yardstick the network is better at nearly all times, and never far behind. What is that worth in nats? By {eq}`eq-deficit` the bounds of any two estimates differ by the weighted difference of their squared errors:

# %%
w = 784 * bound_weights(model.schedule, model.reverse_var).noise[2:]
won = w * (yardsticks["the same 500"][1:] - error[2:])
print(f"won by the network at t = 2 to 1000: {won.sum():.0f} nats for a digit")
print(f"lost where it is above the linear estimate: {-won.clamp(max=0).sum():.2f} nats")

# %% [markdown]
# **What you can say now.** The error by time shows where a network beats every linear map, and the weights say in nats what that is worth.
#
# *Sources: B26.*

# %% [markdown]
# (sec-bits-of-digits)=
# ## Bits per dimension
#
# Papers report the bound in bits per dimension. For that, the last step must give a probability to each of 256 gray levels, the mass of a Gaussian on its interval; the two outermost intervals reach to infinity {cite:p}`ho2020`:
#
# $$
# p_\theta(x \mid x_1) = \prod_{j=1}^{D} \int_{\delta_-(x_j)}^{\delta_+(x_j)} \mathcal{N}\big( u;\, \hat{x}_j,\, \sigma_1^2 \big)\, \mathrm{d}u , \qquad \delta_\pm(x_j) = x_j \pm \tfrac{1}{255} \text{ inside} .
# $$ (def-gray-levels)
#
# Minus the bound divided by $D \log 2$ is in bits per pixel; storing the raw image takes eight. With the recorded errors and {eq}`eq-bound-from-errors` we can compare several choices of the variances and of the last step:
#
# - "beta", "beta-tilde" and "optimal" are the variances $\beta_t$, $\tilde\beta_t$, and the {ref}`optimal ones <sec-exact-gap>`, made from the measured errors. All three use $\tilde\beta_2$ for $\sigma_1^2$, as the code of {cite:t}`ho2020` does.
# - "And at 1" uses the optimal variance at $t = 1$ as well, the mean squared error of the image.
# - "Histogram" has another last step. The decoders above ignore that some gray levels are more common than others, although the noise of $x_1$, about one gray level, leaves only a few neighboring levels to choose from. Let $c(g)$ be the frequency of level $g$ among the pixels of the training set. Then Bayes' rule decodes each pixel by itself, without a network; with equal frequencies this is the decoder of {cite:t}`kingma2021`:
#
# $$
# p(x_j \mid x_{1,j}) = \frac{c(x_j)\, \mathcal{N}\big( x_{1,j};\, \sqrt{\bar\alpha_1}\, x_j,\, 1 - \bar\alpha_1 \big)}{\sum_g c(g)\, \mathcal{N}\big( x_{1,j};\, \sqrt{\bar\alpha_1}\, g,\, 1 - \bar\alpha_1 \big)} .
# $$ (def-histogram-decoder)

# %% tags=["shown"]
from companion.decoders import HistogramDecoder, gray_level_frequencies
from companion.metrics import bits_per_dim
from companion.refinement import in_finer_steps

show(HistogramDecoder.forward)

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


# %% tags=["serves"]
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
print(f"{'standard error below':21}" + "".join(f"{v:12.4f}" for v in errors.values()))

# %% tags=["held", "nbval-check-output", "mnist"]
best_of_three = bits["optimal"] < min(bits["beta"], bits["beta-tilde"])
print("the optimal variances are the best of the first three:", best_of_three)
last = {name: account["reconstruction"] for name, (account, _) in accounts.items()}
print(
    "the histogram saves 40 percent of the last step:",
    bool(last["histogram"] < 0.6 * last["optimal"]),
)
print("and a tenth of the bound:", bits["histogram"] < 0.9 * bits["optimal"])

# %% [markdown]
# The optimal variances are better than the first two, as they must be on the digits from which they were computed. (The standard errors of all times are added, which overestimates that of the sum.)
#
# **The last step is a decoder, and it can use the frequencies of the gray levels.** No network was trained for the last column.
#
# What helps is how common black is ({ref}`experiment <exp-gray-levels>`). On five times 500 test digits, Bayes' rule for each pixel takes 591.2 ± 0.9 nats with equal frequencies, 174.4 ± 1.2 if black alone has its own, and 164.7 ± 1.0 with all; the Gaussian about the network's estimate takes 311.5 ± 1.1 nats with the usual variance and 284.0 ± 2.0 with the measured one.
#
# How good can such a decoder be? If the pixels were drawn from $c$, its cost would be the entropy that is left in a pixel when $x_{1,j}$ is known,
#
# $$
# \mathbb{E}\big[ -\log p(x_j \mid x_{1,j}) \big] = H(c) + \tfrac12 \log\big( 2 \pi e\, (1 - \bar\alpha_1) \big) - h(x_{1,j}) ,
# $$ (eq-histogram-price)
#
# by $H(x \mid x_1) = H(x) + h(x_1 \mid x) - h(x_1)$, where $h$ is the entropy of a density. No decoder that sees $x_{1,j}$ alone can cost less.
#
# **Check.** Both sides are integrated numerically over $x_1$, for a histogram similar to that of the digits. The check rejects the same decoder with equal frequencies.

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

# %% [markdown]
# **$\beta_t$ or $\tilde\beta_t$?** For the wide Gaussian data of {ref}`the last chapter <sec-exact-gap>`, $\sigma_t^2 = \beta_t$ cost almost nothing and $\tilde\beta_t$ half of Euler's constant, 0.2886 nats for each dimension. Black pixels are the opposite case: the network predicts them almost surely, so $\tilde\beta_t$ is right and $\beta_t$ too large, at a cost that no number of steps removes. On the linear schedule, rescaled as in the last chapter, this cost tends to
#
# $$
# \lim_{T \to \infty} \frac12 \sum_{t=2}^{T} \Big( \frac{\tilde\beta_t}{\beta_t} - 1 - \log \frac{\tilde\beta_t}{\beta_t} \Big) = \frac{1 - \gamma_{\mathrm{E}}}{2} = 0.2113\ldots
# $$ (eq-known-data)
#
# nats for each dimension. Near the data $\tilde\beta_t / \beta_t$ is nearly $(t - 1) / t$. So the terms of the sum are $\log \frac{t}{t - 1} - \frac1t$, and from $t = 2$ on they add up to $1 - \gamma_{\mathrm{E}}$. In the table above, this is the cost of $\beta_t$ in the row of the variances, while $\tilde\beta_t$ has larger weights in the row of the errors.
#
# **Check.** The sum is computed for a million steps. The check rejects the cost of the last chapter, half of Euler's constant.

# %% tags=["check", "nbval-check-output"]
finest = linear_schedule(1_000_000, 1e-7, 2e-5)
euler = -torch.digamma(torch.ones(()).double())
cost_of_beta = variances_cost(finest.beta, finest).sum()
rule = exact.within(5e-3)
same = {"as for wide data": euler / 2}
verify("eq-known-data", cost_of_beta, (1 - euler) / 2, rule, rejects=same)
for name, s in {"linear": schedule, "cosine": cosine}.items():
    at_1000 = variances_cost(s.beta, s).sum()
    print(f"{name}, T = 1000: {at_1000:.4f} nats per dimension, or", end=" ")
    print(f"{bits_per_dim(at_1000, 1):.4f} bits")

# %% [markdown]
# Which times cost how much? {numref}`fig-nats-by-time` shows the parts of the bound, with the thousand times in groups.


# %% tags=["serves"]
def step_costs(reverse_var):
    """KL divergence of each step in nats, by time; 0 at t < 2."""
    w = 784 * bound_weights(model.schedule, reverse_var, decoder_var).noise
    costs = w * error + 784 * variances_cost(reverse_var, model.schedule)
    return torch.cat([costs[:1] * 0, costs[:1] * 0, costs[2:]])


costs = step_costs(choices["optimal"])
account, _ = accounts["histogram"]
edges = [1000, 300, 100, 30, 10, 3, 1]
groups = {"prior matching": account["prior matching"]}
for high, low in pairwise(edges):
    groups[f"t = {low + 1} to {high}"] = costs[low + 1 : high + 1].sum()
groups["reconstruction"] = account["reconstruction"]

# %% tags=["figure"] mystnb={"image": {"alt": "Eight horizontal bars. Nothing for the prior, little for the steps from 301 to 1000, more further down, and the longest bar for the reconstruction."}, "figure": {"caption": "The nats of a digit by groups of times, from pure noise down to the image: most are needed close to the data.", "name": "fig-nats-by-time"}}
plots.bars(groups, value_label="nats for a digit", horizontal=True)

# %% [markdown]
# The costs are concentrated close to the data, although the groups there have fewer times.
#
# Some of the recorded errors, measured again with other noise:

# %%
at_times = [1, 2, 5, 20, 100]
_ = torch.manual_seed(7)
again = noise_errors(model, gray, at_times).mean(1)
for t, live in zip(at_times, again, strict=True):
    print(f"t = {t:3}: record {error[t]:.4f}, live {live:.4f}")

# %% tags=["held", "nbval-check-output", "mnist"]
print(
    "live and recorded errors agree within 5 percent:",
    bool((again / error[at_times] - 1).abs().max() < 0.05),
)

# %% [markdown]
# On MNIST with 256 levels, normalizing flows are reported at about 1.0 bits per dimension {cite:p}`grathwohl2019`, and autoregressive networks at 0.62 to 0.64 {cite:p}`katharopoulos2020`.

# %% tags=["numbers"]
ours = bits["histogram"]
first_ten = bits_per_dim(costs[2:11].sum() + account["reconstruction"], 784)
print(f"ours: {ours:.3f}, of which t = 1 to 10 take {first_ten:.3f}")
for name, theirs in {"flows": 1.0, "autoregressive networks": 0.63}.items():
    print(f"{name}: {theirs}, which is {ours - theirs:.2f} below ours")
black = (gray == -1).double().mean()
nats = -Normal(0.0, 1.0).cdf(1 / 255 / decoder_var.sqrt()).log()
print(f"{black:.0%} of the pixels are black; the Gaussian pays {nats:.2f} nats for each,")
print(f"{bits_per_dim(black * nats, 1):.2f} bits per dimension, even if x_hat is right")

# %% [markdown]
# Most of the distance between the Gaussian decoder and the flows was due to the choice of the likelihood, not to the network. What else is it due to? One answer costs no training. By {ref}`the last chapter <sec-exact-gap>` long steps cost nats, and the first steps are long: from $t = 1$ to 2 the noise doubles. The embedding of the time takes any number, so the network can be asked at times in between, and take four steps for each one of its training.

# %% tags=["shown", "nbval-check-output"]
show(in_finer_steps, docstring=False)

# %% [markdown]
# The record has both bounds for all 10,000 test digits:

# %% tags=["nbval-check-output"]
of_all, _ = load_record("ddpm-mnist-joint-bits")
for name, values in {"1,000 steps": of_all["whole"], "3,997 steps": of_all["finer"]}.items():
    print(f"{name}: all digits {values.mean():.3f} +- {values.std() / 100:.3f}", end=", ")
    print(f"first 500 {values[:500].mean():.3f} +- {values[:500].std() / 500**0.5:.3f}")
saved = of_all["whole"] - of_all["finer"]
print(f"saved by finer steps: {saved.mean():.3f} +- {saved.std() / 100:.3f} bits per dimension")

# %% tags=["held", "nbval-check-output"]
print("finer steps save more than 0.03 bits:", bool(saved.mean() - 3 * saved.std() / 100 > 0.03))

# %% [markdown]
# So a part of what remained was the length of the steps. Trained on the bound itself, with a learned schedule, diffusion models reached the best likelihoods of their time on photographs {cite:p}`kingma2021`.
#
# **What you can say now.** Bits per dimension are the sum of four parts. A last step that uses the frequencies of the gray levels saves a part of them, here without any training.

# %% [markdown]
# (sec-rate-by-time)=
# ## Rate and distortion
#
# What does one get for the bits? Think of the chain as a transmission: a receiver gets $x_T, x_{T-1}, \dots$, one after the other. The KL divergence of each step is the number of nats that an ideal code needs for it. After the step that gives $x_t$, the nats so far are the *rate*. The root-mean-square error of the receiver's best image $\hat{x}(x_t, t)$ is the *distortion*:
#
# $$
# \begin{aligned}
# R_t & = D_{\mathrm{KL}}\big( q(x_T \mid x) \,\Vert\, p(x_T) \big) + \sum_{s=t+1}^{T} \mathbb{E}\, D_{\mathrm{KL}}\big( q(x_{s-1} \mid x_s, x) \,\Vert\, p_\theta(x_{s-1} \mid x_s) \big) , \\
# \Delta_t & = \sqrt{ \frac1D\, \mathbb{E} \lVert x - \hat{x}_\theta(x_t, t) \rVert^2 } .
# \end{aligned}
# $$ (def-rate-by-time)
#
# Both follow from the errors in the record: the rate by the weights, and $\Delta_t$ by $\lVert e_x \rVert^2 = \lVert e_\varepsilon \rVert^2 / \mathrm{SNR}_t$. A distortion of $2 / 255$ is one gray level. (The reconstruction is not part of the rate; it removes the remaining distortion.)

# %% tags=["numbers"]
top_price = accounts["beta"][0]["prior matching"]
same_noise = int((model.schedule.snr >= schedule.snr[100]).sum()) - 1
rates = {}
print(f"share in the last {same_noise} steps:   of the rate   of the whole bound")
for name in ("beta", "beta-tilde", "optimal"):
    costs, end = step_costs(choices[name]), accounts[name][0]["reconstruction"]
    falling = costs.flip(0).cumsum(0).flip(0)  # from t up to T
    rates[name] = bits_per_dim(top_price + F.pad(falling[2:], (0, 1)), 784)
    of_rate = costs[: same_noise + 1].sum() / costs.sum()
    of_bound = (costs[: same_noise + 1].sum() + end) / totals[name]
    print(f"{name:10} {of_rate:33.1%} {of_bound:20.1%}")
    assert (of_rate > 0.8 and of_bound > 0.9) or test.name != "mnist"
distortion = 127.5 * (error[1:] / model.schedule.snr[1:]).sqrt()

# %% tags=["figure"] mystnb={"image": {"alt": "Three panels. Left, the distortion falls over the steps done, slowly at first and then steadily to nearly zero. In the middle, the rate stays near zero over most steps and shoots up at the end. Right, the distortion over the rate: a very steep fall at small rates, then a long flat tail."}, "figure": {"caption": "The distortion of what the receiver gets, and the rate it costs, with the optimal variances. Nearly all of the distortion is removed at small rates.", "name": "fig-rate-by-time"}}
fig, (left, middle, right) = plots.figure(3, height=2.6)
done, rate = 1000 - every, rates["optimal"]
steps_done, in_levels = "steps done", "distortion (gray levels)"
in_bits = "rate (bits per dimension)"
_ = plots.curves({"": (done, distortion)}, x_label=steps_done, y_label=in_levels, axes=left)
_ = plots.curves({"": (done, rate)}, x_label=steps_done, y_label=in_bits, axes=middle)
_ = plots.curves({"": (rate, distortion)}, x_label=in_bits, y_label=in_levels, axes=right)
fig

# %% [markdown]
# {cite:t}`ho2020` found the shape of {numref}`fig-rate-by-time` on photographs. There, 1.66 of 1.78 bits, 93 percent of the rate, were spent in the last hundred of a thousand steps of the linear schedule. At the same levels of noise, digits spend more than eight tenths of the rate, and with the reconstruction more than nine tenths of the bound. The earlier steps decide, for very few bits, which digit it is and how it is written; the last ones refine what is hard to see.
#
# The slider shows what the receiver of $x_t$ would draw: above $x_t$, below $\hat{x}$.

# %% tags=["figure"]
from companion.page.sliders import Slider


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
# At 1000 all ten estimates are close to the mean of the digits. At 850 they have a shape, and some are of the wrong class. At 600 everything is decided except the edges.
#
# **What you can say now.** Most bits are spent on what can hardly be seen; what the image shows is decided earlier, for few bits.
#
# *Sources: E05.*

# %% [markdown]
# (sec-two-schedules)=
# ## Two schedules
#
# The networks of the ring and of the small digits use a *linear* schedule: $\beta_t$ increases linearly with $t$. {cite:t}`nichol2021` found that it destroys small images too early. Their *cosine* schedule, which the MNIST network uses, lets $\bar\alpha_t$ fall like a squared cosine, with a small offset $s = 0.008$:
#
# $$
# \bar\alpha_t = \frac{f(t)}{f(0)}, \qquad f(t) = \cos^2 \Big( \frac{t / T + s}{1 + s} \cdot \frac{\pi}{2} \Big) ,
# $$ (def-cosine-schedule)
#
# with no $\beta_t$ above 0.999.

# %% tags=["figure"] mystnb={"image": {"alt": "Two rows of the digit seven at ten times from 0 to 900. With the linear schedule it is hard to read from time 400 on and gone at 600; with the cosine schedule it can be read until 600 and is gone at 900."}, "figure": {"caption": "The same digit and the same noise at the same times, on two schedules. The linear one destroys the digit earlier.", "name": "fig-schedules-dissolve"}}
two = {"linear": schedule, "cosine": cosine}
times = torch.arange(1, 1000, 100)
_ = torch.manual_seed(0)
sevens, noise = seven[:1].expand(10, 1, 28, 28), torch.randn(1, 1, 28, 28).double()
rows = {name: add_noise(s, sevens, times, noise.expand(10, 1, 28, 28)) for name, s in two.items()}
rows = {name: data.to_unit(row.clamp(-1, 1)) for name, row in rows.items()}
plots.image_rows(rows, titles=[f"{t}" for t in times.tolist()], tile=0.6)

# %% [markdown]
# Both end in noise ({numref}`fig-schedules-dissolve`), but they spend different numbers of steps at each noise level. Where is there something to learn? Take the share of the digits' variance that the best linear estimate leaves unexplained: where it is near 0 or near 1, there is little.

# %%
open_share = {
    name: linear_noise_error(s, values).mean(1)[1:] / s.snr[1:] / values.mean()
    for name, s in two.items()
}


def nats_between(s, high=20, low=0.01):
    """Sum of the linear estimate's terms between two signal-to-noise ratios."""
    t = ((s.snr[1:] < high) & (s.snr[1:] > low)).nonzero()[:, 0] + 1
    left_open = linear_noise_error(s, values)[t].mean(1) / s.snr[t]
    return (0.5 * (s.snr[t - 1] - s.snr[t]) * left_open).sum().item(), len(t)


# %% tags=["numbers", "columns"]
between = {name: nats_between(s) for name, s in two.items()}
print("share of the times, by the unexplained share of the variance:")
print(f"{'< 5 %':>46} {'between':>8} {'> 95 %':>7}")
for name, share in open_share.items():
    low, high = (share < 0.05).double().mean(), (share > 0.95).double().mean()
    print(f"{name:39} {low:6.0%} {1 - low - high:8.0%} {high:7.0%}")
for name, (nats, count) in between.items():
    print(f"{name}: {count} steps from SNR 20 to 0.01, {nats:.4f} nats per pixel")

# %% tags=["figure"] mystnb={"image": {"alt": "Two panels over time. Left, the share of the image's variance: the linear schedule falls faster and is near zero from t = 700 on, the cosine reaches zero only at the end. Right, the share of the digits' variance that a linear estimate leaves unexplained: the linear schedule's curve rises earlier and is flat at the end."}, "figure": {"caption": "Left: the share of the image's variance that is left in $x_t$. Right: the share of the digits' variance that the best linear estimate from $x_t$ leaves unexplained. The linear schedule has a long flat part at the end.", "name": "fig-two-schedules"}}
fig, (left, right) = plots.figure(2, height=3.0)
_ = plots.curves(
    {name: (every, s.alpha_bar[1:]) for name, s in two.items()},
    x_label="time $t$",
    y_label=r"share of the image, $\bar\alpha_t$",
    axes=left,
)
_ = plots.curves(
    {name: (every, share) for name, share in open_share.items()},
    x_label="time $t$",
    y_label="unexplained share of the variance",
    axes=right,
)
fig

# %% [markdown]
# The linear schedule spends a good part of the thousand steps where next to nothing can be learned any more; the cosine schedule spends more of them in between ({numref}`fig-two-schedules`). For the bound that hardly matters. With $\sigma_t^2 = \tilde\beta_t$ and many steps, the sum of all denoising terms depends only on the two ends {eq}`eq-snr-limit`, and between the same two signal-to-noise ratios both schedules cost nearly the same.

# %% tags=["held", "nbval-check-output", "mnist"]
gain = [((share > 0.05) & (share < 0.95)).sum().item() for share in open_share.values()]
print("the cosine schedule has more times with something to learn:", gain[1] > gain[0])
costs_of = [nats for nats, _ in between.values()]
print("the bound differs by less than 2 percent:", abs(costs_of[0] / costs_of[1] - 1) < 0.02)

# %% [markdown]
# For the training it matters: uniform times on another schedule are other signal-to-noise ratios, so a schedule is also a choice of weights. We train the first network of the trial {ref}`above <sec-time-embedding>` again, on the linear schedule instead of the cosine one, with the same 80 steps and two seeds, and measure it at the same signal-to-noise ratios.

# %% tags=["numbers", "columns"]
by_schedule = {
    "linear": torch.stack([trial(schedule, seed) for seed in (0, 1)]),
    "cosine": trials["sinusoidal, added"],
}
print("log SNR        " + "".join(f"{level:8.0f}" for level in log_snrs))
for name, errors in by_schedule.items():
    for seed, row in enumerate(errors):
        print(f"{name}, seed {seed} " + "".join(f"{e:8.4f}" for e in row))
quotient = by_schedule["cosine"].mean(0) / by_schedule["linear"].mean(0)
print("cosine / linear" + "".join(f"{q:8.2f}" for q in quotient))

# %% tags=["held", "nbval-check-output"]
print(
    "at SNR 1 and above, the error is smaller with the cosine schedule:",
    bool((quotient[:5] < 1).all()),
)

# %% [markdown]
# After 80 steps the errors of this trial are smaller with the cosine schedule wherever the image can be seen.
#
# The noise levels make this difference ({ref}`experiment <exp-schedules>`, four trainings of each). At signal-to-noise ratios of 1 and above the error is 0.091 ± 0.003 with the linear schedule and 0.078 ± 0.001 with the cosine one. If the times of the linear schedule are drawn so that the noise levels are those of the cosine one, it is 0.078 ± 0.001, and the other way around 0.092 ± 0.003. After four times the steps the difference is smaller, 0.0670 ± 0.0005 and 0.0625 ± 0.0004, and at four times the learning rate there is hardly any, 0.1435 ± 0.0002 and 0.1428 ± 0.0003.
#
# **What you can say now.** A schedule decides at which noise levels the training spends its time; in short trainings of a small network this was all that it changed. The bound of a perfect denoiser hardly depends on it.

# %% [markdown]
# (sec-ddpm-wrong)=
# ## From symptom to cause
#
# Algorithm 1 runs without an error message even if its input is wrong. When a model disappoints, begin with this table:
#
# | symptom | possible cause | test |
# |---|---|---|
# | the loss stays far above zero | none: it is the floor {eq}`eq-excess-error` | compare with the best linear estimate, at each $t$ {eq}`eq-linear-bound` |
# | the loss is lower than expected | pixels on $[0, 1]$, or another schedule | compare at the same scaling and schedule only; see below |
# | specks all over the samples | the time does not reach the network, or, hardly visible, is off by one | errors at $t = 1$ to $5$; see below |
# | gray or tinted samples, a useless $\hat{x}$ at $t$ near $T$ | the network estimates the noise, or $\bar\alpha_T$ is not small | $\hat{x}$ at $T$ should be the mean image ({ref}`sec-why-v`) |
# | samples worse than the errors promise | sampled from the weights and not from their average | {ref}`sec-ema` |
# | broken strokes, wrong shapes | too short a training; too few draws of the times when shapes are decided | error by time ({ref}`sec-digits-by-time`), another schedule ({ref}`sec-two-schedules`) |
# | good samples, many bits | the last step, or the variances | the bound by parts ({ref}`sec-bits-of-digits`) |
# | some classes are rare | a bias at large $t$, which costs few nats | count the classes ({ref}`sec-ddpm-samples`) |
# | the loss jumps when training on the bound | large weights at the first times | draw the times by the weights ({ref}`sec-thrown-away`) |
#
# **Pixels on $[0, 1]$.** The schedule is made for data on $[-1, 1]$; on $[0, 1]$ the variance is a quarter of that. The linear yardstick gives the loss to be expected on either scale:

# %%
for name, factor in {"[-1, 1]": 1.0, "[0, 1]": 0.25}.items():
    reached = linear_noise_error(model.schedule, factor * values).mean(1)[1:].mean()
    print(f"pixels on {name:8} least simple loss of a linear estimate: {reached:.4f}")

# %% [markdown]
# The wrong scale makes the loss *smaller*: relative to the image there is more noise, which is then easier to predict. The bound reveals the mistake: its last step needs pixels on the 256 gray levels, and `elbo_step` refuses others (on a GPU it returns NaN instead of an error). So do the errors of a network that was trained on the right scale.

# %% tags=["held", "nbval-check-output"]
scaled, ones = gray[:5] / 2 + 0.5, torch.ones(5).long()
try:
    refused = bool(elbo_step(model, scaled, ones, torch.randn(5, 1, 28, 28)).isnan().all())
except ValueError:
    refused = True
print("pixels on [0, 1] are refused:", refused)

# %% tags=["held", "nbval-check-output", "mnist"]
_ = torch.manual_seed(0)
right_scale = noise_errors(model, gray[:50], [30, 100, 300]).mean(1)
wrong_scale = noise_errors(model, gray[:50] / 2 + 0.5, [30, 100, 300]).mean(1)
print("at least five times the error:", bool((wrong_scale > 5 * right_scale).all()))

# %% [markdown]
# **The wrong time.** Some programs count times from 0 and some from 1, and a wrapper may forget to pass $t$ on. We give the network $t - 1$ in place of $t$, and then always 500.


# %% tags=["columns"]
def given(change):
    """The model, with another time as its network's input."""
    denoiser = VPredictor(lambda x, t: model.denoiser.network(x, change(t)), model.schedule)
    return Ddpm(denoiser, model.schedule, (1, 28, 28), model.reverse_var)


inputs = {"t": lambda t: t, "t - 1": lambda t: t - 1, "always 500": lambda t: 0 * t + 500}
at_times = [2, 5, 20, 100, 400, 700]
print("given       " + "".join(f"  t = {t:4}" for t in at_times))
by_input = {}
for name, change in inputs.items():
    _ = torch.manual_seed(0)
    by_input[name] = noise_errors(given(change), gray[:20], at_times).mean(1)
    print(f"{name:12}" + "".join(f"{e:10.4f}" for e in by_input[name]))

# %% tags=["held", "nbval-check-output", "mnist"]
right_time, one_off, always_500 = by_input.values()
print("one off, at t = 2: worse:", bool(one_off[0] > right_time[0]))
print("one off, at t = 400: by less than a percent:", bool(one_off[4] < 1.01 * right_time[4]))
print("always 500, at t = 100: three times the error:", bool(always_500[3] > 3 * right_time[3]))

# %% [markdown]
# A time that is off by one makes hardly any difference, except at the very first times, where the noise grows fastest in proportion: only a test there finds it. A time that is missing altogether shows in the samples:

# %% tags=["figure"] mystnb={"image": {"alt": "Two rows of eight digits. Above clean ones; below digits too, but strewn with gray and white pixels."}, "figure": {"caption": "Drawn in 25 steps from the same noise: with the right time, and with a network that always gets 500 as its time. The second row has specks that the network did not remove.", "name": "fig-wrong-time"}}
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
# The second row of {numref}`fig-wrong-time` has strokes and even digits, often not those of the first row. The faint noise of the last steps is not removed.
#
# **What you can say now.** The loss alone tells little. The errors by time, the bound by parts, and a classifier that knows bad samples show what is wrong.

# %% [markdown]
# (sec-ddpm-exercises)=
# ## Exercises
#
# Replace the three dots by your answer and run the cell.

# %% tags=["unseen", "nbval-check-output"]
from companion.page.exercises import ddpm_training as exercises

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
# - Algorithm 1 is a regression: add random noise to the data and predict it {eq}`def-simple-loss`. The loss has a floor above zero {eq}`eq-simple-optimum`, and training reduces only the excess over it {eq}`eq-excess-error`.
# - The simple loss drops the weights, the cost of the variances, the likelihood of the gray levels, and the prior's term {eq}`eq-bound-from-errors`. What a network with fixed variances loses in the bound is its weighted excess {eq}`eq-deficit`.
# - The squared error of $v$ is that of the noise divided by $\bar\alpha_t$ {eq}`eq-v-loss`; with equal errors, $v$ gives acceptable images at both ends of the schedule.
# - Mean and covariance of the data give yardsticks for every $t$ {eq}`eq-linear-bound`, {eq}`eq-know-nothing`.
# - Samples follow the data distribution if $x_T$ is noise, the variances are right, and the network is exact at all times that have weight {eq}`eq-decoder-limit`.
# - On the digits, a last step that uses the histogram of gray levels saves at least a tenth of the bits {eq}`eq-histogram-price`. For pixels that the network can predict, $\sigma_t^2 = \beta_t$ is too large, at a cost that no number of steps removes {eq}`eq-known-data`.
#
# **Three things that need care.** Algorithm 1 leaves out the weights of the bound from which it is derived. The bound {eq}`eq-decoder-limit` on the distance of the samples from the data has three parts, and all must vanish. Nine tenths of the rate in the last tenth of the steps were measured by {cite:t}`ho2020` on photographs with the linear schedule.
#
# **To read next.** {cite:t}`ho2020`, with its appendices; {cite:t}`nichol2021` on schedules, learned variances and noisy gradients; {cite:t}`salimans2022` on $v$; {cite:t}`karras2022` on what else can be chosen; {cite:t}`bao2022` on the variances.
