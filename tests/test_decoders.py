"""Tests of companion.decoders: against enumeration of all gray levels."""

import pytest
import torch
from bad_input import refused
from torch.distributions import Normal

from companion.ddpm import Ddpm, elbo_step
from companion.decoders import GrayLevels, HistogramDecoder, gray_level_frequencies
from companion.denoisers import NoisePredictor
from companion.schedule import linear_schedule

F64 = torch.double
FREQUENCY = torch.tensor([0.7, 0.05, 0.05, 0.2], dtype=F64)
VALUES = torch.linspace(-1, 1, 4, dtype=F64)


def test_frequencies_count_pixels_and_leave_no_level_impossible() -> None:
    x = torch.tensor([[-1.0, -1.0, 1.0], [1 / 3, -1.0, 1.0]])
    expected = torch.tensor([4, 1, 2, 3], dtype=F64) / 10
    assert torch.allclose(gray_level_frequencies(x, levels=4), expected)
    with pytest.raises(ValueError, match=r"x must lie on the 4 gray levels from -1\.0 to 1\.0"):
        gray_level_frequencies(x + 0.1, levels=4)


def test_gray_levels_have_the_probabilities_they_were_given() -> None:
    logits = torch.randn(3, 2, 4, dtype=F64)
    p = GrayLevels(logits)
    assert p.batch_shape == (3,) and p.event_shape == (2,)
    pairs = torch.cartesian_prod(VALUES, VALUES)  # every image of two pixels
    every = p.log_prob(pairs[:, None].expand(16, 3, 2))
    assert torch.allclose(every.exp().sum(0), torch.ones(3, dtype=F64))
    mean = torch.einsum("kb,ki->bi", every.exp(), pairs)
    assert torch.allclose(p.mean, mean)
    draws = p.sample((20_000,))
    assert draws.shape == (20_000, 3, 2)
    assert (draws.mean(0) - mean).abs().max() < 5 / 20_000**0.5  # a pixel's deviation is below 1
    with pytest.raises(ValueError, match="x must lie on the 4 gray levels"):
        p.log_prob(torch.full((3, 2), 0.9, dtype=F64))


def test_the_decoder_is_bayes_rule() -> None:
    schedule = linear_schedule(10, 0.05, 0.3)
    decoder = HistogramDecoder(schedule, FREQUENCY)
    x_1 = torch.linspace(-2, 2, 7, dtype=F64)[:, None]
    signal, std = schedule.alpha_bar[1].sqrt(), schedule.noise_var[1].sqrt()
    joint = FREQUENCY.log() + Normal(signal * VALUES, std).log_prob(x_1)
    expected = joint - joint.logsumexp(1, keepdim=True)
    found = torch.stack([decoder(x_1).log_prob(v.expand(7, 1)) for v in VALUES], 1)
    assert torch.allclose(found, expected)
    # The schedule is what weights hold of it; the frequencies are counted anew.
    assert not [name for name in decoder.state_dict() if not name.startswith("schedule.")]


def test_the_decoder_keeps_double_precision() -> None:
    schedule, frequency = linear_schedule(10, 1e-4, 0.3), FREQUENCY.new_tensor([1, 2, 3, 4, 6]) / 16
    values, x_1 = torch.linspace(-1, 1, 5, dtype=F64), torch.linspace(-1.2, 1.2, 7, dtype=F64)
    signal, std = schedule.alpha_bar[1].sqrt(), schedule.noise_var[1].sqrt()
    joint = frequency.log() + Normal(signal * values, std).log_prob(x_1[:, None])
    decoder = HistogramDecoder(schedule, frequency)
    assert torch.equal(decoder.log_frequency, frequency.log())
    found = torch.stack([decoder(x_1[:, None]).log_prob(v.expand(7, 1)) for v in values], 1)
    expected = joint - joint.logsumexp(1, keepdim=True)
    # Exponents reach 2e4, of which rounding takes some 1e-12.
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


def test_no_other_prior_of_the_pixels_decodes_them_better() -> None:
    """The expected cost is the conditional entropy, which integration over x_1 gives."""
    schedule = linear_schedule(10, 0.2, 0.3)
    signal, std = schedule.alpha_bar[1].sqrt(), schedule.noise_var[1].sqrt()
    grid = torch.linspace(-4, 4, 4001, dtype=F64)
    joint = FREQUENCY.log() + Normal(signal * VALUES, std).log_prob(grid[:, None])

    def cost(prior: torch.Tensor) -> float:
        p = HistogramDecoder(schedule, prior)(grid[:, None])
        logs = torch.stack([p.log_prob(v.expand(4001, 1)) for v in VALUES], 1)
        return torch.trapezoid(-(joint.exp() * logs).sum(1), grid).item()

    entropy = torch.trapezoid(
        -(joint.exp() * (joint - joint.logsumexp(1, keepdim=True))).sum(1), grid
    ).item()
    assert cost(FREQUENCY) == pytest.approx(entropy, rel=1e-9)
    assert cost(torch.full((4,), 0.25, dtype=F64)) > entropy + 0.05


def test_a_model_uses_its_decoder_in_the_last_step_alone() -> None:
    schedule = linear_schedule(10, 0.05, 0.3)
    denoiser = NoisePredictor(torch.nn.Bilinear(3, 1, 3), schedule)
    denoiser.network.forward = lambda x_t, t: 0.1 * x_t  # type: ignore[method-assign]
    decoder = HistogramDecoder(schedule, FREQUENCY)
    plain = Ddpm(denoiser, schedule, (3,), schedule.beta)
    model = Ddpm(denoiser, schedule, (3,), schedule.beta, decoder=decoder)
    x = VALUES[torch.randint(4, (6, 3))].float()
    noise, t = torch.randn(6, 3), torch.tensor([1, 1, 1, 2, 5, 10])
    ours, theirs = elbo_step(model, x, t, noise), elbo_step(plain, x, t, noise)
    assert torch.equal(ours[3:], theirs[3:])
    x_1 = plain.marginal(1, x).mean + schedule.noise_var[1].sqrt().float() * noise
    assert torch.allclose(ours[:3], model.likelihood(x_1).log_prob(x)[:3], atol=1e-4)
    assert torch.equal(model.likelihood(x_1).log_prob(x), decoder(x_1).log_prob(x))


test_bad_input = refused("decoders")
