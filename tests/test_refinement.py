"""A network in finer steps: the same data, a better bound, and no other schedule."""

import pytest
import torch
from bad_input import refused
from networks import Network
from torch import nn
from torch.nn import functional as F

from companion.ddpm import Ddpm
from companion.decoders import HistogramDecoder, gray_level_frequencies
from companion.denoisers import VPredictor, x_0_from_v
from companion.elbo import elbo_terms
from companion.refinement import _SlowClock, in_finer_steps
from companion.schedule import Schedule, cosine_schedule

LEVELS = torch.linspace(-1, 1, 17)
EXAMPLES = LEVELS[torch.arange(64 * 16).view(64, 1, 4, 4) * 7 % 17]


class GaussianNetwork(nn.Module):
    """The v of the best denoiser of data with mean zero and variance `var`, on the cosine schedule of 50 steps."""

    def __init__(self, var: float) -> None:
        super().__init__()
        self.var, self.weight = var, nn.Parameter(torch.zeros(()))
        self.asked: list[float] = []

    def forward(self, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        self.asked += t.tolist()
        turn = (t.double() / 50 + 0.008) / 1.008 * torch.pi / 2
        start = torch.tensor(0.008 / 1.008 * torch.pi / 2).double().cos().square()
        kept = (turn.cos().square() / start).view(-1, 1, 1, 1).to(x_t)
        x_hat = kept.sqrt() * self.var / (kept * self.var + 1 - kept) * x_t
        return (kept.sqrt() * x_t - x_hat) / (1 - kept).clamp(min=1e-6).sqrt()


def small_ddpm(network: nn.Module, schedule: Schedule) -> Ddpm:
    return Ddpm(VPredictor(network, schedule), schedule, (1, 4, 4), schedule.beta)


def test_finer_steps_ask_between_the_times_and_lose_less() -> None:
    x = EXAMPLES
    model = small_ddpm(GaussianNetwork(float(x.var())), cosine_schedule(50))
    frequency = gray_level_frequencies(x, 17)
    bounds = []
    for factor in (1, 2, 4):
        fine = in_finer_steps(model, frequency, factor)
        assert fine.num_latents == 49 * factor + 1
        torch.manual_seed(0)
        with torch.no_grad():
            bounds.append(-float(elbo_terms(fine, x).elbo.mean()))
    assert bounds[0] > bounds[1] > bounds[2]
    assert bounds[1] - bounds[2] < bounds[0] - bounds[1]
    asked = torch.tensor(model.denoiser.network.asked)
    assert asked.min() >= 1 and asked.max() == 50 and bool((asked % 1 == 0.25).any())


def test_at_the_times_of_the_training_the_estimate_is_the_same() -> None:
    x = EXAMPLES[:8]
    model = small_ddpm(GaussianNetwork(0.3), cosine_schedule(50))
    fine = in_finer_steps(model, gray_level_frequencies(EXAMPLES, 17))
    t = torch.arange(1, 9)
    expected = model.denoiser(x, t)
    assert torch.allclose(fine.denoiser(x, 4 * t), expected, atol=1e-5)
    assert fine.denoiser.to_x_0 is x_0_from_v
    assert isinstance(fine.denoiser.network, _SlowClock)


def test_variances_and_decoder_are_those_of_the_finer_schedule() -> None:
    model = small_ddpm(GaussianNetwork(0.3), cosine_schedule(50))
    frequency = gray_level_frequencies(EXAMPLES, 17)
    fine = in_finer_steps(model, frequency, 4)
    whole = cosine_schedule(200)
    steps = Schedule(F.pad(whole.log_alpha_bar[4:], (1, 0)))  # the first is as long as before
    torch.testing.assert_close(fine.schedule.log_alpha_bar, steps.log_alpha_bar)
    assert fine.schedule.times.tolist() == [0, *range(4, 201)]
    expected = steps.posterior_var
    expected[1] = expected[2]
    torch.testing.assert_close(fine.reverse_var[1:], expected[1:])
    decoder = HistogramDecoder(steps, frequency)
    torch.testing.assert_close(fine.likelihood(EXAMPLES).mean, decoder(EXAMPLES).mean)


def test_frequencies_are_no_counts() -> None:
    model = small_ddpm(GaussianNetwork(0.3), cosine_schedule(50))
    with pytest.raises(TypeError, match="frequency must be floating-point"):
        in_finer_steps(model, torch.ones(17, dtype=torch.long))


def test_a_condition_reaches_the_network() -> None:
    network, x, label = Network(lambda x, *_: x), torch.randn(2, 1, 4, 4), torch.tensor([1, 0])
    _SlowClock(network, 4)(x, torch.tensor([4, 6]), label)
    ((given, t, condition),) = network.given
    assert given is x and condition is label and t.tolist() == [1.0, 1.5]


test_bad_input = refused("refinement")
