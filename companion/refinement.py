"""A trained network of a DDPM in finer steps: more of them, at times between those of its training."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from companion import checks
from companion.ddpm import Ddpm
from companion.decoders import HistogramDecoder
from companion.denoisers import NoisePredictor
from companion.schedule import cosine_schedule


class _SlowClock(nn.Module):
    """A network that is asked at times t / factor, which are no longer whole."""

    def __init__(self, network: nn.Module, factor: int) -> None:
        super().__init__()
        self.network, self.factor = network, factor

    def forward(
        self, x_t: Float[Tensor, "batch *x_shape"], t: Int[Tensor, "batch"], *condition: Any
    ) -> Float[Tensor, "batch *x_shape"]:
        """What the network estimates."""
        return self.network(x_t, t.to(x_t) / self.factor, *condition)


def in_finer_steps(model: Ddpm, frequency: Float[Tensor, "levels"], factor: int = 4) -> Ddpm:
    """Return a DDPM with the same network that takes `factor` steps for each one of the model's, from T down to 1.

    What the bound loses by the length of its steps gets smaller, and so do the differences between the variances:
    the posterior variances are used. The last step, p(x|x_1), is that of `HistogramDecoder`.

    Args:
        model: on the cosine schedule, whose formula gives the noise between the times; its network is
            a `UNet`, or another one that takes times which are not whole.
        frequency: of each gray level, as `gray_level_frequencies` counts it.
        factor: how many steps for one.

    Raises:
        TypeError: if the model has a denoiser without a network.
        ValueError: if the model has another schedule, or `factor` is below 1.

    Source: Kingma et al. 2021, section 4.1, on more and more steps. Book: chapter 10.
    """
    checks.at_least(1, factor=factor)
    checks.instance(Ddpm, model=model)
    checks.floating(frequency=frequency)
    denoiser, T, schedule = model.denoiser, model.num_latents, model.schedule
    checks.instance(NoisePredictor, denoiser=denoiser)
    assert isinstance(denoiser, NoisePredictor)
    fine = cosine_schedule(factor * T).to(schedule.alpha_bar.device)
    # The last step of either schedule is capped.
    if not torch.allclose(fine.alpha_bar[::factor][:-1], schedule.alpha_bar[:-1], rtol=1e-6):
        raise ValueError("model must have the cosine schedule; another one was given")
    denoiser = type(denoiser)(_SlowClock(denoiser.network, factor), fine)
    steps = fine.strided(range(factor, factor * T + 1))
    decoder = HistogramDecoder(steps, frequency.to(fine.alpha_bar))
    shape, var = model.x_shape, steps.posterior_var
    return Ddpm(denoiser, steps, shape, var, float(var[2]), decoder=decoder)
