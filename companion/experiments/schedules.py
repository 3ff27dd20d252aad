"""Chapter 10: is a network better trained on the cosine schedule because of the noise levels that it sees?"""

from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor

from companion.data import Batches, load, to_symmetric
from companion.ddpm import denoising_loss, image_ddpm, noise_errors
from companion.denoisers import VPredictor
from companion.experiments.base import Condition, Experiment
from companion.networks.unet import UNet
from companion.schedule import Schedule, cosine_schedule, linear_schedule
from companion.training import fit

SCHEDULES: dict[str, Callable[[int], Schedule]] = {
    "linear": linear_schedule,
    "cosine": cosine_schedule,
}
LOG_SNRS = torch.arange(4.0, -4, -1)
"""Noise levels at which the networks are compared."""


@cache
def digits() -> tuple[Tensor, Tensor]:
    """Training and test digits of 8 x 8 pixels."""
    train, test = (load("digits", split).images for split in ("train", "test"))
    return to_symmetric(train), to_symmetric(test)


def at_levels(schedule: Schedule, log_snr: Tensor) -> Tensor:
    """The times at which the schedule is next to these log signal-to-noise ratios."""
    times: Tensor = (schedule.log_snr[1:, None] - log_snr).abs().argmin(0) + 1
    return times


def time_weights(schedule: Schedule, levels: Schedule) -> Tensor:
    """How often each time is drawn, so that the noise levels are those of uniform times on `levels`."""
    if schedule is levels:
        return torch.ones(schedule.num_steps + 1)
    times = at_levels(schedule, levels.log_snr[1:])
    counts = torch.bincount(times, minlength=schedule.num_steps + 1)
    return counts.float() + 1e-6


def train(
    on: str, levels: str, rate: float, steps: int, spread: bool, seed: int
) -> dict[str, float]:
    """Error of the estimated image per pixel, mean over the levels at and above SNR 1, and below."""
    torch.manual_seed(seed)
    schedules = {name: make(1000) for name, make in SCHEDULES.items()}
    schedule, (x, y) = schedules[on], digits()
    net = UNet((1, 8, 8), 16, (1, 2), blocks=1)
    model = image_ddpm(net, schedule, VPredictor, levels=17)
    often = time_weights(schedule, schedules[levels])
    p = often[1:].double() / often[1:].sum().double()
    weight = 1 / schedule.noise_var  # the error of v, at times that are drawn so often
    weight[1:] = weight[1:] * schedule.num_steps * p
    loss = partial(denoising_loss, weight=weight, time_weights=often)
    if not spread:
        loss = partial(denoising_loss, weight=1 / schedule.noise_var)
    optimizer = torch.optim.Adam(net.parameters(), lr=rate, fused=True)
    batches = Batches(x, batch_size=32, num_epochs=1 + 32 * steps // len(x), seed=seed)
    for step in fit(model, loss, batches, optimizer):
        if step.number == steps:
            break
    t = at_levels(schedule, LOG_SNRS)
    torch.manual_seed(0)
    errors = noise_errors(model.eval(), y, t).mean(1) / schedule.snr[t]
    return {
        "error": errors.mean().item(),
        "above": errors[LOG_SNRS >= 0].mean().item(),
        "below": errors[LOG_SNRS < 0].mean().item(),
    }


SETTINGS = {
    "": (3e-3, 80, True),
    ", rate 0.00075": (7.5e-4, 80, True),
    ", rate 0.012": (1.2e-2, 80, True),
    ", 320 steps": (3e-3, 320, True),
    ", independent times": (3e-3, 80, False),
}
CONDITIONS: dict[str, Condition] = {  # type: ignore[assignment]  # mypy sees partials only
    f"{on}{name}": partial(train, on, on, *setting)
    for name, setting in SETTINGS.items()
    for on in SCHEDULES
} | {
    f"{on}, levels of {levels}{name}": partial(train, on, levels, *SETTINGS[name])
    for name in ("", ", 320 steps")
    for on, levels in (("linear", "cosine"), ("cosine", "linear"))
}
EXPERIMENTS = {"schedules": Experiment(CONDITIONS, seeds=4)}
