"""What a sampler adds to the evaluations of its network.

All contestants evaluate the U-Net `small_unet` as often, on as many images of 28 x 28 pixels. "network alone" does
nothing else, and "denoiser alone" turns v into an estimate of the image. The last contestants have a denoiser that
costs nothing: their ratio is what the loop adds, free of the noise of two long measurements.
An epoch is 1,000 images of 20 steps each; the loss is the mean square of the last result, to see that work was done.
"""

from collections.abc import Callable, Iterator
from functools import cache, partial

import rounds
import torch
from torch import Tensor, nn

from companion.denoisers import VPredictor
from companion.networks.unet import small_unet
from companion.samplers import ddim_sample, ddpm_sample, dpm_solver_sample
from companion.schedule import linear_schedule

BATCH_SIZE, NUM_STEPS, NUM_IMAGES = 16, 20, 1000
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
WHOLE = linear_schedule(1000).to(DEVICE)
SCHEDULE = WHOLE.strided(range(50, 1001, 50))


@cache
def denoiser() -> VPredictor:
    """One network for all contestants."""
    torch.manual_seed(0)
    return VPredictor(small_unet(), WHOLE).to(DEVICE)


def alone(module: nn.Module, x_T: Tensor) -> Iterator[Tensor]:
    """The same evaluations of the network or of the denoiser, in a bare loop."""
    with torch.no_grad():
        for t in SCHEDULE.times[1:].flip(0):
            x = module(x_T, t.expand(len(x_T)))
    yield x


def nothing(x_t: Tensor, t: Tensor) -> Tensor:
    """A denoiser that costs nothing, so that the loop is left."""
    return x_t


def draw(film: Callable[[Tensor], Iterator[Tensor]], clock: rounds.Clock) -> tuple[float, float]:
    """Seconds that an epoch would take at the speed of one batch, and the size of the result."""
    x_T = torch.randn(BATCH_SIZE, 1, 28, 28, device=DEVICE)
    start = clock()
    *_, x = film(x_T)
    size = x.square().mean().item()  # it waits for the device
    return (clock() - start) * NUM_IMAGES / BATCH_SIZE, size


def main() -> None:
    """Run the rounds and print the medians."""
    films = {
        "network alone": partial(alone, denoiser().network),
        "denoiser alone": partial(alone, denoiser()),
        "ddim_sample": partial(ddim_sample, denoiser(), SCHEDULE),
        "ddpm_sample": partial(ddpm_sample, denoiser(), SCHEDULE),
        "dpm_solver_sample": partial(dpm_solver_sample, denoiser(), SCHEDULE),
        "loop of ddim_sample": partial(ddim_sample, nothing, SCHEDULE),
        "loop of ddpm_sample": partial(ddpm_sample, nothing, SCHEDULE),
        "loop of dpm_solver_sample": partial(dpm_solver_sample, nothing, SCHEDULE),
    }
    contestants = {name: partial(draw, film) for name, film in films.items()}
    for contestant in contestants.values():
        contestant(lambda: 0.0)  # first uses are not what is measured
    rounds.run(contestants, NUM_IMAGES, __doc__)


if __name__ == "__main__":
    main()
