"""Masked diffusion: a chain of latents with symbols in place of numbers, whose inference model hides pixels.

At time t each pixel of x is hidden with probability t / T, independently, and stays hidden later: at t = T nothing is
left. A network guesses the hidden pixels from the visible ones, and a step of generation uncovers a few of them. A
latent is an image of three symbols: 0, 1, and `MASK` for a pixel that is hidden. The bound is that of every chain of
latents, `companion.elbo.elbo_terms`.
"""

import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.distributions import Distribution, constraints, register_kl
from torch.nn import functional as F

from companion import checks
from companion.elbo import LatentChain
from companion.schedule import Batch, Times, per_example

MASK = 0.5
"""The value of a pixel that is hidden: neither black nor white. Book: chapter 9."""

_SYMBOLS = (0.0, MASK, 1.0)


class Symbols(Distribution):
    """Independent pixels, each of them 0, 1 or `MASK`.

    Args:
        log_probs: of the three values 0, `MASK` and 1, along the last dimension; it may be minus infinity.

    Raises:
        ValueError: if the probabilities do not add up to 1 (on a GPU, which would wait to know, draws are NaN if there
            are none); from `log_prob`, if a value is none of the three.

    Book: chapter 9.
    """

    arg_constraints: dict[str, constraints.Constraint] = {}  # noqa: RUF012 -- torch's own attribute

    def __init__(self, log_probs: Float[Tensor, "batch *event 3"]) -> None:
        checks.floating(log_probs=log_probs)
        checks.shape(("batch", *log_probs.shape[1:-1], 3), log_probs=log_probs)
        total = log_probs.detach().exp().sum(-1)
        if checks.reads_at_once(total) and not bool((total - 1).abs().max() < 1e-2):
            low, high = total.aminmax()
            raise ValueError(
                f"log_probs must be of probabilities that add up to 1; {low:.4g} to {high:.4g} was given"
            )
        self.log_probs = log_probs
        batch, *event = log_probs.shape[:-1]
        super().__init__(torch.Size([batch]), torch.Size(event), validate_args=False)

    @property
    def mean(self) -> Float[Tensor, "batch *event"]:
        """The mean of each pixel's value; that of a hidden one is 1/2."""
        return self.log_probs.exp() @ _like(self.log_probs, _SYMBOLS)

    def rsample(
        self, sample_shape: torch.Size | list[int] | tuple[int, ...] = ()
    ) -> Float[Tensor, "..."]:
        """Draw an image; it has no gradient, and needs none where q has no parameters."""
        p = self.log_probs.detach().exp().expand(*sample_shape, *self.log_probs.shape)
        # The first of three clocks to ring: a symbol of probability zero is never drawn, as it might be by rounding
        # if one number were compared with sums of probabilities.
        u = torch.rand(p.shape, device=p.device, dtype=p.dtype)
        clocks = -torch.log1p(-u).clamp(max=-torch.finfo(p.dtype).tiny)  # above 0, also for u = 0
        drawn = (p / clocks).argmax(-1).to(p) / 2
        return drawn.where(p.sum(-1) > 0, math.nan)

    def log_prob(
        self, value: Float[Tensor, "*sample_batch_event"]
    ) -> Float[Tensor, "*sample_batch"]:
        """Log-probability in nats, summed over pixels."""
        known = _are_symbols(value=value)
        checks.event((*self.batch_shape, *self.event_shape), value=value)
        index = (2 * value).where(known, 0).long().unsqueeze(-1)
        chosen = self.log_probs.expand(*index.shape[:-1], 3).gather(-1, index).squeeze(-1)
        return chosen.where(known, math.nan).flatten(-len(self.event_shape)).sum(-1)


@register_kl(Symbols, Symbols)
def _kl_symbols(q: Symbols, p: Symbols) -> Tensor:
    drawn = q.log_probs > -math.inf
    # Where q is zero, its logarithm would make a gradient NaN.
    log_ratio = q.log_probs.where(drawn, 0) - p.log_probs.where(drawn, 0)
    return (q.log_probs.exp() * log_ratio).flatten(1).sum(1)


class MaskedDiffusion(LatentChain):
    """Latents z_1, ..., z_T, images of which ever more pixels are hidden; p uncovers them with a network's help.

    q(z_t|x) hides each pixel with probability t / T. Given z_{t+1}, a hidden pixel is uncovered at t with probability
    1 / (t + 1): under q it then has its value in x, and under p it is white with the probability that the network
    gives it. What is visible stays. The last step, p(x|z_1), uncovers all that is left.

    Args:
        network: maps 2 z - 1, in which a hidden pixel is 0, and the time to log-odds of white, such as
            `networks.unet.mnist_unet()`.
        x_shape: shape of one example, of 0 and 1.
        num_steps: T.

    Raises:
        TypeError: if `network` is no module.
        ValueError: if a size or `num_steps` is below 1; from methods, if x or what the network gives has another
            shape, or t is outside its range.

    Source: absorbing state: Austin et al. 2021, appendix A.2; the bound with the network's guess of x: Sahoo et al.
        2024, section 3.2, and Shi et al. 2024, section 2. Book: chapter 9.
    """

    x_shape: tuple[int, ...]

    def __init__(
        self,
        network: nn.Module,
        x_shape: tuple[int, ...],
        num_steps: int = 1000,
    ) -> None:
        checks.function(network=network)
        checks.at_least(1, num_steps=num_steps)
        super().__init__(x_shape, num_steps, x_shape)
        self.network = network

    def prior(self, num: int) -> Symbols:
        """p(z_T): every pixel is hidden."""
        checks.at_least(1, num=num)
        hidden = _like(self.origin, (-math.inf, 0.0, -math.inf))
        return Symbols(hidden.expand(num, *self.x_shape, 3))

    def marginal(self, t: Times, x: Batch) -> Symbols:
        """q(z_t | x), for t = 0..T."""
        checks.shape(("batch", *self.x_shape), x=x)
        return self._uncovered(1 - self._times(t, x, 0) / self.num_latents, _known(x=x))

    def posterior(self, x: Batch) -> Symbols:
        """q(z_T | x): every pixel is hidden."""
        return self.prior(len(x))

    def inner_posterior(self, t: Times, z_above: Batch, x: Batch) -> Symbols:
        """q(z_t | z_{t+1}, x)."""
        checks.shape(("batch", *self.x_shape), z_above=z_above)
        checks.shape(tuple(z_above.shape), x=x)
        above = self._times(t, z_above, 1, below=1) + 1
        return self._uncovered(1 / above, _known(x=x), z_above)

    def inner_prior(self, t: Times, z_above: Batch) -> Symbols:
        """p(z_t | z_{t+1})."""
        checks.shape(("batch", *self.x_shape), z_above=z_above)
        above = self._times(t, z_above, 1, below=1) + 1
        return self._uncovered(1 / above, self.guess(z_above, above), z_above)

    def likelihood(self, z_1: Batch) -> Symbols:
        """p(x | z_1): all that is hidden is uncovered."""
        checks.shape(("batch", *self.x_shape), z_1=z_1)
        t = self._times(1, z_1, 1)
        return self._uncovered(torch.ones_like(t, dtype=z_1.dtype), self.guess(z_1, t), z_1)

    def guess(self, z: Batch, t: Times) -> Float[Tensor, "batch *x_shape 3"]:
        """Log-probabilities of black, hidden (minus infinity) and white, by the network."""
        checks.shape(("batch", *self.x_shape), z=z)
        _are_symbols(z=z)
        logits = self.network(2 * z - 1, self._times(t, z, 1))
        checks.shape((len(z), *self.x_shape), **{"network(2 * z - 1, t)": logits})
        logits = logits.to(self.origin)
        never = torch.full_like(logits, -math.inf)
        return torch.stack([F.logsigmoid(-logits), never, F.logsigmoid(logits)], dim=-1)

    def _uncovered(
        self, share: Float[Tensor, "batch"], log_x: Tensor, z: Tensor | None = None
    ) -> Symbols:
        """Every hidden pixel of z, by default all, is uncovered with this probability and then drawn from log_x."""
        uncover = per_example(share, log_x)
        stay = torch.log1p(-uncover).expand(*log_x.shape[:-1], 1)
        black, _, white = (uncover.log() + log_x).split(1, dim=-1)
        drawn = torch.cat([black, stay, white], dim=-1)
        if z is None:
            return Symbols(drawn)
        return Symbols(drawn.where(z.unsqueeze(-1) == MASK, _known(z=z)))

    def _times(self, t: Times, x: Tensor, low: int, below: int = 0) -> Int[Tensor, "batch"]:
        """One time for each example, from `low` to T - `below`."""
        high = self.num_latents - below
        if not isinstance(t, Tensor):
            checks.whole(low, high, t=t)
            return torch.full((len(x),), t, device=x.device)
        checks.shape((len(x),) if t.dim() else (), t=t)
        checks.integers(t=t)
        checks.within(low, high, t=t)
        return t.to(x.device).expand(len(x))


def _like(x: Tensor, values: tuple[float, ...]) -> Tensor:
    """Numbers in the precision of x, where x is."""
    return torch.tensor(values, dtype=x.dtype, device="cpu").to(x.device)


def _known(**one: Tensor) -> Float[Tensor, "batch *x_shape 3"]:
    """Log-probabilities of an image whose pixels are known: 0 for the value, else minus infinity."""
    ((_, image),) = one.items()
    _are_symbols(**one)
    values = _like(image, _SYMBOLS)
    return torch.zeros_like(values).where(image.unsqueeze(-1) == values, -math.inf)


def _are_symbols(**one: Tensor) -> Tensor:
    """Which pixels hold a symbol; where it can be seen without waiting, one that holds none is refused by name."""
    ((name, image),) = one.items()
    checks.floating(**one)
    known = (image == 0) | (image == MASK) | (image == 1)
    if checks.reads_at_once(image) and not bool(known.all()):
        low, high = image.aminmax()
        raise ValueError(
            f"{name} must hold 0, {MASK} and 1 alone; {low:.4g} to {high:.4g} was given"
        )
    return known


def masked_step_elbo(
    model: MaskedDiffusion, x: Batch, t: Int[Tensor, "batch"]
) -> Float[Tensor, "batch"]:
    """The term of the bound that belongs to step t, at one draw of z_t, in nats.

    It is log p(x_i | z_t) summed over the hidden pixels, over t: each of them is uncovered in this step with
    probability 1 / t. The sum over t = 1..T has the bound as its mean.

    Raises:
        TypeError: if x has integers, or another precision than the model.
        ValueError: if x has another shape than the model's data, or a value that is neither 0 nor 1, or t is outside
            1..T.

    Source: Sahoo et al. 2024, section 3.3. Book: chapter 9.
    """
    checks.data(model, x, MaskedDiffusion)
    checks.shape((len(x),), t=t)
    if checks.reads_at_once(x) and not bool(((x == 0) | (x == 1)).all()):
        low, high = x.aminmax()
        raise ValueError(f"x must be 0 or 1; {low:.4g} to {high:.4g} was given")
    z_t = model.marginal(t, x).rsample()
    log_black, _, log_white = model.guess(z_t, t).unbind(-1)
    log_p = log_white.where(x == 1, log_black)
    return log_p.where(z_t == MASK, 0).flatten(1).sum(1) / t


def masked_loss(model: MaskedDiffusion, x: Batch) -> Float[Tensor, "batch"]:
    """Minus the bound in nats, estimated from one random time per example and one call of the network.

    The times of a batch are spread evenly over 1..T, and not independent.

    Raises:
        TypeError: as `masked_step_elbo`.
        ValueError: as `masked_step_elbo`.

    Source: Sahoo et al. 2024, section 3.3. Book: chapter 9.
    """
    checks.data(model, x, MaskedDiffusion)
    T = model.num_latents
    share = (torch.rand((), device=x.device) + torch.arange(len(x), device=x.device) / len(x)) % 1
    t = (share * T).long().clamp(max=T - 1) + 1
    return -T * masked_step_elbo(model, x, t)


def masked_sample(
    model: MaskedDiffusion, num: int, num_steps: int
) -> Iterator[Float[Tensor, "num *x_shape"]]:
    """Draw images in `num_steps` steps of equal length, and yield the image after each; the first is hidden entirely.

    A step draws the pixels which it uncovers independently, given those that were visible before it: so fewer steps
    than pixels are faster and less exact.

    Raises:
        ValueError: if `num` is below 1, or `num_steps` is outside 1..T.

    Source: Sahoo et al. 2024, section 3.2. Book: chapter 9.
    """
    checks.instance(MaskedDiffusion, model=model)
    checks.at_least(1, num=num)
    checks.whole(1, model.num_latents, num_steps=num_steps)
    return _uncover(model, num, int(num_steps))


@torch.no_grad()
def _uncover(model: MaskedDiffusion, num: int, num_steps: int) -> Iterator[Tensor]:
    T = model.num_latents
    z = model.prior(num).rsample()
    yield z
    times = [round(T * i / num_steps) for i in range(num_steps, -1, -1)]
    for t, s in pairwise(times):
        share = z.new_full((num,), (t - s) / t)
        z = model._uncovered(share, model.guess(z, t), z).rsample()
        yield z
