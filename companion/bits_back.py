"""Bits-back coding: what the bound says in nats, as the length of a file (Townsend et al. 2019).

A message is a stack of symbols in one whole number. Whoever knows the probabilities of a symbol can push it, and the
number gets -log2 p bits longer; or pop one, and it gets shorter: the bits that are there draw the symbol with these
probabilities. An example takes three moves: pop a latent by q(z|x), push x by p(x|z), push the latent by p(z). On
average the message grows by minus the ELBO.
"""

import random
from bisect import bisect_right
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Normal
from torch.special import ndtr, ndtri

from companion import checks
from companion.elbo import LatentChain

PRECISION = 24  # every probability is a whole number of 2^-24, and at least one
LEVELS = 10  # a latent has 2^10 values, all of the same prior probability


class Message:
    """A stack of symbols in one whole number: an asymmetric numeral system (Duda 2009).

    The values of a symbol share 2^24 slots: value i has those from starts[i] up to starts[i + 1], and as many as it is
    probable. `push` and `pop` are inverse to each other.

    Args:
        state: the number; an empty message is 0.

    Raises:
        ValueError: if `state` is negative.

    Book: chapter 3.
    """

    def __init__(self, state: int = 0) -> None:
        checks.instance(int, state=state)
        if state < 0:
            raise ValueError(f"state must be at least 0; {state} was given")
        self.state = state

    def push(self, starts: Sequence[int], value: int) -> None:
        """Put a value on the stack: log2(2^24 / its slots) bits more.

        Raises:
            ValueError: if the symbol has no such value, or the value has no slots.
        """
        checks.instance(Sequence, starts=starts)
        checks.instance(int, value=value)
        if not (0 <= value < len(starts) - 1 and starts[value] < starts[value + 1]):
            raise ValueError(
                f"value must be one of {len(starts) - 1} that have slots; {value} was given"
            )
        above, slot = divmod(self.state, starts[value + 1] - starts[value])
        self.state = (above << PRECISION) + starts[value] + slot

    def pop(self, starts: Sequence[int]) -> int:
        """Take the value at the top: as many bits less.

        Raises:
            ValueError: if no value of `starts` holds the slot at the top.
        """
        checks.instance(Sequence, starts=starts)
        above, slot = divmod(self.state, 1 << PRECISION)
        value = bisect_right(starts, slot) - 1
        if not 0 <= value < len(starts) - 1:
            raise ValueError(
                f"starts must begin at 0 and end at 2^24; none of it holds slot {slot}"
            )
        self.state = above * (starts[value + 1] - starts[value]) + slot - starts[value]
        return value

    def __len__(self) -> int:
        """Bits."""
        return self.state.bit_length()


def encode(message: Message, model: LatentChain, x: Float[Tensor, "*x_shape"]) -> None:
    """Push one example of zeros and ones: bits for x and z, less those that choosing z takes off the message.

    Args:
        message: it is changed. If it has fewer bits than a latent takes, the latent is no random one, and costs more.
        model: with one latent, a Gaussian q, and Bernoulli distributed data.
        x: one example.

    Source: Townsend et al. 2019, section 2.3. Book: chapter 3, (eq-bits-back).
    """
    _check(message, model, x)
    z = _pop(message, _gaussian(model, x))
    _push(message, _bernoulli(model, z), x.flatten().long())
    _push(message, _uniform(len(z)), z)


def decode(message: Message, model: LatentChain) -> Float[Tensor, "*x_shape"]:
    """Pop one example, and give back the bits that chose its latent: `encode` backwards.

    Book: chapter 3, (eq-bits-back).
    """
    _check(message, model)
    z = _pop(message, _uniform(model.origin.numel()))
    x = _pop(message, _bernoulli(model, z)).to(model.origin)
    if model.x_shape is not None:
        x = x.view(model.x_shape)
    _push(message, _gaussian(model, x), z)
    return x


def compress(
    model: LatentChain, x: Float[Tensor, "batch *x_shape"], seed: int = 0, num_bits: int = 2048
) -> bytes:
    """All examples as one file, which begins as a message of random bits; `decompress` reads it.

    Args:
        model: see `encode`.
        x: a batch of data that are 0 or 1.
        seed: of the random bits.
        num_bits: how many there are; the first latents are chosen by them.

    Raises:
        ValueError: if the model has more than one latent, or x another value than 0 and 1.

    Book: chapter 3.
    """
    checks.data(model, x, LatentChain)
    message = _beginning(seed, num_bits)
    for one in x:
        encode(message, model, one)
    return message.state.to_bytes((len(message) + 7) // 8, "big")


def decompress(
    model: LatentChain, file: bytes, num: int, seed: int = 0, num_bits: int = 2048
) -> Float[Tensor, "num *x_shape"]:
    """The examples of a file of `compress`, of which there are `num`, in their order.

    Args:
        model: see `encode`.
        file: what `compress` gave.
        num: of examples.
        seed: that of `compress`. Its random bits have to be left over, so that a damaged file does not pass.
        num_bits: as many as there.

    Raises:
        ValueError: if `num` is below 1, or the file is not one of this model, number, seed and `num_bits`.

    Book: chapter 3.
    """
    checks.instance(LatentChain, model=model)
    checks.instance(bytes, file=file)
    checks.at_least(1, num=num)
    beginning, message = _beginning(seed, num_bits), Message(int.from_bytes(file, "big"))
    x = torch.stack([decode(message, model) for _ in range(num)][::-1])
    if message.state != beginning.state:
        raise ValueError(
            f"file must hold {num} examples, coded by this model, seed and num_bits; another was given"
        )
    return x


def _beginning(seed: int, num_bits: int) -> Message:
    """Random bits, below a one."""
    checks.at_least(1, num_bits=num_bits)
    num_bits, seed = int(num_bits), checks.seed(seed)
    return Message((1 << num_bits) + random.Random(seed).getrandbits(num_bits))


# ------------------------------------------------------------------------------------------------ in slots


def _check(message: Message, model: LatentChain, *x: Tensor) -> None:
    checks.instance(Message, message=message)
    checks.instance(LatentChain, model=model)
    if model.num_latents != 1:
        raise ValueError(f"model must have one latent; num_latents is {model.num_latents}")
    for one in x:
        checks.floating(x=one)
        if not ((one == 0) | (one == 1)).all():
            raise ValueError("x must be 0 or 1 everywhere; another value was given")


Slots = Int[
    Tensor, "symbols values"
]  # where the interval of each value begins; the last ends at 2^24


def _push(message: Message, starts: Slots, values: Int[Tensor, "symbols"]) -> None:
    """Push one value for each row."""
    for row, value in zip(starts.tolist(), values.tolist(), strict=True):
        message.push(row, value)


def _pop(message: Message, starts: Slots) -> Int[Tensor, "symbols"]:
    """Pop one value for each row, the last row first."""
    return torch.tensor([message.pop(row) for row in reversed(starts.tolist())][::-1])


def _slots(cumulative: Float[Tensor, "symbols values"]) -> Slots:
    """Probabilities that add up from 0 to 1 as slots; every value gets one at least."""
    num = cumulative.shape[1] - 1
    least = torch.arange(num + 1)
    return (cumulative.double() * ((1 << PRECISION) - num)).floor().long() + least


def _each(of_all: Distribution) -> Distribution:
    """The distribution of each dimension."""
    return getattr(of_all, "base_dist", of_all)


def _uniform(num: int) -> Slots:
    """p(z): every dimension has 2^10 values that the prior makes equally probable."""
    return (torch.arange((1 << LEVELS) + 1) << (PRECISION - LEVELS)).expand(num, -1)


def _gaussian(model: LatentChain, x: Float[Tensor, "*x_shape"]) -> Slots:
    """q(z | x): what the encoder's Gaussian gives to each of these values."""
    with torch.no_grad():
        q = model.posterior(*model.encode(x[None]))
    checks.instance(Normal, **{"q(z|x)": _each(q)})
    edges = ndtri(torch.linspace(0, 1, (1 << LEVELS) + 1, dtype=torch.double))
    mean, std = (part.flatten().double()[:, None] for part in (q.mean, q.stddev))
    return _slots(ndtr((edges - mean) / std))


def _bernoulli(model: LatentChain, z: Int[Tensor, "latents"]) -> Slots:
    """p(x | z) of the latent in the middle of its values' intervals."""
    middle = ndtri((z.double() + 0.5) / (1 << LEVELS)).to(model.origin)
    with torch.no_grad():
        p = model.likelihood(middle.view(1, *model.origin.shape))
    checks.instance(Bernoulli, **{"p(x|z)": _each(p)})
    one = p.mean.flatten().double()
    return _slots(torch.stack([torch.zeros_like(one), 1 - one, torch.ones_like(one)], 1))
