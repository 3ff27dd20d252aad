"""Masked diffusion: every distribution by enumeration of three pixels, and the bound through the same function."""

import itertools
import math

import pytest
import torch
from bad_input import refused
from torch import Tensor, nn
from torch.distributions import kl_divergence

from companion.elbo import elbo_terms, sample_log_weights
from companion.masked import (
    MASK,
    MaskedDiffusion,
    Symbols,
    masked_loss,
    masked_sample,
    masked_step_elbo,
)

T = 4
STATES = torch.tensor(list(itertools.product([0, MASK, 1], repeat=3)), dtype=torch.double)
IMAGES = torch.tensor(list(itertools.product([0, 1], repeat=3)), dtype=torch.double)


class Guess(nn.Module):
    """Log-odds of three pixels from what is visible and the time."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.mix = nn.Linear(3, 3, dtype=torch.double)
        self.clock = nn.Embedding(T + 1, 3, dtype=torch.double)

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        return 2 * torch.tanh(self.mix(z)) + self.clock(t)


@pytest.fixture
def model() -> MaskedDiffusion:
    return MaskedDiffusion(Guess(), (3,), T).double().requires_grad_(False)


def same(z: Tensor) -> Tensor:
    """The image, once for each state."""
    return z.expand(len(STATES), 3)


def mass(p: Symbols) -> Tensor:
    """Probability of each of the 27 states under each row of p."""
    rows = [Symbols(row.expand(len(STATES), 3, 3)).log_prob(STATES).exp() for row in p.log_probs]
    return torch.stack(rows)


def uncover(model: MaskedDiffusion, z: Tensor, t: int, x: Tensor | None = None) -> Tensor:
    """By hand and pixel by pixel: the distribution of z_{t-1} over all states, given z_t, under q with x, else p."""
    logits = model.network(2 * z[None] - 1, torch.tensor([t]))[0]
    white = torch.sigmoid(logits) if x is None else x
    out = torch.ones(len(STATES), dtype=torch.double)
    for i in range(3):
        if z[i] != MASK:
            table = {0.0: float(z[i] == 0), MASK: 0.0, 1.0: float(z[i] == 1)}
        else:
            table = {0.0: float(1 - white[i]) / t, MASK: 1 - 1 / t, 1.0: float(white[i]) / t}
        out = out * torch.tensor([table[v] for v in STATES[:, i].tolist()], dtype=torch.double)
    return out


@pytest.mark.parametrize("t", [2, 3, 4])
def test_steps_are_those_made_by_hand(model: MaskedDiffusion, t: int) -> None:
    x = IMAGES[5]
    q, p = model.inner(t - 1, STATES, same(x))
    for i, z in enumerate(STATES):
        if ((z == MASK) | (z == x)).all():
            torch.testing.assert_close(mass(q)[i], uncover(model, z, t, x))
        torch.testing.assert_close(mass(p)[i], uncover(model, z, t))


def test_the_last_step_uncovers_all(model: MaskedDiffusion) -> None:
    p = mass(model.likelihood(STATES))
    for i, z in enumerate(STATES):
        torch.testing.assert_close(p[i], uncover(model, z, 1))


def test_marginals_are_the_steps_from_the_top(model: MaskedDiffusion) -> None:
    x = IMAGES[6]
    at_t = mass(model.posterior(x[None]))[0]
    torch.testing.assert_close(at_t, (STATES == MASK).all(1).double())
    for t in range(T, 1, -1):
        steps = torch.stack([uncover(model, z, t, x) for z in STATES])
        at_t = at_t @ steps
        torch.testing.assert_close(at_t, mass(model.marginal(t - 1, x[None]))[0])
    torch.testing.assert_close(mass(model.marginal(0, x[None]))[0], (x == STATES).all(1).double())


def test_kl_is_the_sum_over_all_states(model: MaskedDiffusion) -> None:
    x, t = IMAGES[2], 3
    possible = ((STATES == MASK) | (x == STATES)).all(1)
    q, p = model.inner(t - 1, STATES, same(x))
    ratio = (mass(q) / mass(p)).log().where(mass(q) > 0, 0)
    torch.testing.assert_close(kl_divergence(q, p)[possible], (mass(q) * ratio).sum(1)[possible])
    impossible = kl_divergence(model.prior(1), Symbols(model.marginal(0, x[None]).log_probs))
    assert impossible.item() == math.inf


def exact_bound(model: MaskedDiffusion, x: Tensor) -> float:
    """Sum over all times and states."""
    total = 0.0
    for t in range(1, T + 1):
        weight = mass(model.marginal(t, x[None]))[0]
        for w, z in zip(weight, STATES, strict=True):
            logits = model.network(2 * z[None] - 1, torch.tensor([t]))[0]
            log_p = torch.where(x == 1, logits, -logits).sigmoid().log()
            total += float(w * log_p[z == MASK].sum() / t)
    return total


def test_all_estimates_have_the_bound_as_mean(model: MaskedDiffusion) -> None:
    torch.manual_seed(0)
    x, num = IMAGES[5], 40_000
    bound, many = exact_bound(model, x), x.expand(num, 3)
    every = sum(masked_step_elbo(model, many, torch.full((num,), t)) for t in range(1, T + 1))
    weights = sample_log_weights(model, x[None], num)[:, 0]
    for drawn in (elbo_terms(model, many).elbo, -masked_loss(model, many), every, weights):
        error = drawn.std() / num**0.5
        assert abs(drawn.mean() - bound) < 4 * error and error < 0.02
    # The weights average to the probability of x, which is the sum over all paths.
    state = (STATES == MASK).all(1).double()
    for t in range(T, 0, -1):
        state = state @ torch.stack([uncover(model, z, t) for z in STATES])
    p_x = state[(x == STATES).all(1)].item()
    assert abs(weights.exp().mean() - p_x) < 4 * weights.exp().std() / num**0.5
    assert bound < math.log(p_x)


def test_prior_matching_costs_nothing(model: MaskedDiffusion) -> None:
    assert elbo_terms(model, IMAGES).kl[:, -1].tolist() == [0.0] * 8


def test_samples_follow_the_model(model: MaskedDiffusion) -> None:
    torch.manual_seed(0)
    num = 40_000
    seen = list(masked_sample(model, num, T))
    assert len(seen) == T + 1 and bool((seen[0] == MASK).all()) and not (seen[-1] == MASK).any()
    state = (STATES == MASK).all(1).double()
    for t in range(T, 0, -1):
        state = state @ torch.stack([uncover(model, z, t) for z in STATES])
    for image in IMAGES:
        p = state[(image == STATES).all(1)].item()
        share = (seen[-1] == image).all(1).double().mean().item()
        assert abs(share - p) < 4 * (p * (1 - p) / num) ** 0.5
    for z, below in itertools.pairwise(seen):
        assert bool((below == z)[z != MASK].all())


def test_steps_of_sampling_are_of_equal_length_but_for_rounding(model: MaskedDiffusion) -> None:
    asked: list[int] = []

    def guess(z: Tensor, t: Tensor | int) -> Tensor:
        asked.append(int(t))
        return MaskedDiffusion.guess(model, z, t)

    model.guess = guess  # type: ignore[method-assign]
    torch.manual_seed(0)
    film = list(masked_sample(model, 40_000, 3))
    assert asked == [4, 3, 1]  # 4, 8/3 and 4/3
    for z, share in zip(film, (1, 3 / 4, 1 / 4, 0), strict=True):
        assert abs((z == MASK).double().mean() - share) < 0.01


def test_one_step_draws_pixels_independently(model: MaskedDiffusion) -> None:
    torch.manual_seed(0)
    *_, x = masked_sample(model, 40_000, 1)
    white = model.guess(torch.full((1, 3), MASK, dtype=torch.double), T)[0, :, 2].exp()
    assert bool(((x.mean(0) - white).abs() < 4 * (white * (1 - white) / 40_000) ** 0.5).all())
    assert bool((torch.corrcoef(x.T) - torch.eye(3)).abs().max() < 4 / 200)


def test_draws_and_probabilities_of_symbols_agree() -> None:
    p = torch.tensor([[0.2, 0.5, 0.3], [0.0, 1.0, 0.0]]).double()
    symbols = Symbols(p.log()[None])
    drawn = symbols.rsample([20_000])
    assert drawn.shape == (20_000, 1, 2) and not drawn.requires_grad
    for value, expected in zip((0, MASK, 1), p[0], strict=True):
        share = (drawn[:, 0, 0] == value).double().mean()
        assert abs(share - expected) < 4 * (expected * (1 - expected) / 20_000) ** 0.5
    assert bool((drawn[:, 0, 1] == MASK).all())
    # Neither rounding nor chance draws what is impossible: single precision, twenty million draws.
    third = torch.tensor([1 / 3, 2 / 3, 0]).log().expand(1, 1_000_000, 3)
    assert not any(bool((Symbols(third).rsample() == 1).any()) for _ in range(20))
    torch.testing.assert_close(symbols.mean, torch.tensor([[0.55, 0.5]]).double())
    expected = torch.tensor([0.3]).double().log()
    torch.testing.assert_close(symbols.log_prob(torch.tensor([[1.0, MASK]]).double()), expected)


def test_gradients_are_finite_where_the_network_is_sure() -> None:
    network = Guess()
    model = MaskedDiffusion(network, (3,), T).double()
    with torch.no_grad():
        network.clock.weight.fill_(200.0)
    for loss in (masked_loss(model, IMAGES), -elbo_terms(model, IMAGES).elbo):
        model.zero_grad()
        loss.mean().backward()
        gradient = network.clock.weight.grad
        assert gradient is not None and bool(gradient.isfinite().all())


test_bad_input = refused("masked")
