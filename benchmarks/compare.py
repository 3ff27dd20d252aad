"""All comparisons in one command: the companion beside the libraries that a reader would use instead.

    python benchmarks/compare.py --device cpu --rounds 5 --out book/data/benchmarks.json

What is installed of pythae, diffusers, denoising-diffusion-pytorch and smalldiffusion takes part; the rest is named as
missing. None is a dependency of this project: install them into an environment of their own, and run this file
there with the checkout on PYTHONPATH. Contestants run one after the other in every round, in turned order in every
second, and are compared with the first within each round. The file says on which machine, with which versions, when,
and how busy the machine was.
"""

import argparse
import dataclasses
import datetime
import importlib
import importlib.metadata
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import batches
import torch
from torch import Tensor, nn

from companion import data, runtime
from companion.data import Batches
from companion.networks.unet import small_unet
from companion.training import fit
from companion.vae import gray_cross_entropy_loss, mlp_vae

Work = Callable[[], int]
"""Something to time; it returns how many images it has taken."""


@dataclasses.dataclass
class Contestant:
    """A library's way to do the work of a table."""

    name: str
    make: Callable[[torch.device], Work]
    package: str | None = None  # what has to be installed


def wait(device: torch.device) -> None:
    """A GPU works on after a call; a time is only one when it is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()


# ------------------------------------------------------------------------------- an epoch of a VAE


def vae_images() -> Tensor:
    """All gray levels of the training digits."""
    return data.load("mnist", fallback=False).images


def companion_vae(device: torch.device, bare: bool = False) -> Work:
    """Model and loss of the package, in its own loop with its own batches, or in a bare loop over one tensor."""
    torch.manual_seed(0)
    model = mlp_vae(latent_dim=20, hidden=(400,), activation=nn.ReLU).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    images = vae_images().to(device)

    def loop() -> int:
        steps = fit(model, gray_cross_entropy_loss, Batches(images, batch_size=128), optimizer)
        for _ in steps:
            pass
        return len(images)

    def bare_loop() -> int:
        for x in batches.bare(images):
            loss = gray_cross_entropy_loss(model, x).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()
        return len(images)

    return bare_loop if bare else loop


def hand_written(source: str, reconstruction: str, fused: bool) -> Callable[..., Work]:
    """One of the loops of `batches.py`."""

    def make(device: torch.device) -> Work:
        images = vae_images().flatten(1)
        images = images if source == "loader" else images.to(device)
        feed, compare = getattr(batches, source), getattr(batches, reconstruction)
        torch.manual_seed(0)
        model = batches.Vae().to(device)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=fused)

        def work() -> int:
            for x in feed(images):
                x = x.to(device)
                logits, kl = model(x)
                loss = (compare(logits, x) + kl) / len(x)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                loss.item()
            return len(images)

        return work

    return make


def pythae_vae(device: torch.device) -> Work:
    """Pythae's trainer, with its own 784-400-20 example network given by the same widths."""
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE, VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    class Encoder(BaseEncoder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.hidden = nn.Linear(784, 400)
            self.mean, self.log_var = nn.Linear(400, 20), nn.Linear(400, 20)

        def forward(self, x: Tensor) -> Any:
            h = self.hidden(x.flatten(1)).relu()
            return ModelOutput(embedding=self.mean(h), log_covariance=self.log_var(h))

    class Decoder(BaseDecoder):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.Linear(20, 400), nn.ReLU(), nn.Linear(400, 784))

        def forward(self, z: Tensor) -> Any:
            x = self.layers(z).sigmoid().view(-1, 1, 28, 28)
            return ModelOutput(reconstruction=x)

    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=20, reconstruction_loss="bce")
    images = vae_images()

    def work() -> int:
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory() as folder:
            settings = BaseTrainerConfig(
                output_dir=folder,
                num_epochs=1,
                per_device_train_batch_size=128,
                learning_rate=1e-3,
                optimizer_cls="Adam",
                no_cuda=device.type == "cpu",
            )
            trainer = BaseTrainer(
                VAE(config, encoder=Encoder(), decoder=Decoder()),
                train_dataset=BaseDataset(images, torch.zeros(len(images))),
                training_config=settings,
            )
            trainer.train()
        return len(images)

    return work


# --------------------------------------------------------------------------- a step of a U-Net


def unet_step(build: Callable[[], nn.Module], fused: bool = True) -> Callable[..., Work]:
    """Predict the noise in 64 images of 28 x 28: forward, backward, Adam; two steps."""

    def make(device: torch.device) -> Work:
        torch.manual_seed(0)
        model = build().to(device)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=fused)
        x_t, noise = torch.randn(2, 64, 1, 28, 28, device=device)
        t = torch.randint(1, 1001, (64,), device=device)

        def work() -> int:
            for _ in range(2):
                estimate: Any = model(x_t, t)
                estimate = getattr(estimate, "sample", estimate)  # diffusers wraps its output
                loss = (estimate - noise).square().sum((1, 2, 3)).mean()
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                loss.item()
            return 2 * len(x_t)

        return work

    return make


def diffusers_unet() -> nn.Module:
    """1.06 million parameters, attention as in the companion."""
    import unet

    return unet.peer(32, 1)


def lucidrains_unet() -> nn.Module:
    """About a million parameters, as its users would shrink it."""
    from denoising_diffusion_pytorch import Unet

    return Unet(dim=32, dim_mults=(1, 2), channels=1)  # type: ignore[no-any-return]


def smalldiffusion_unet() -> nn.Module:
    """1.1 million parameters."""
    from smalldiffusion import Unet

    return Unet(28, 1, 1, ch=32, ch_mult=(1, 2, 2), num_res_blocks=1, attn_resolutions=(14,))


TABLES: dict[str, list[Contestant]] = {
    "an epoch of a VAE, 784-400-20, 60,000 digits, batch 128": [
        Contestant("companion", companion_vae),
        Contestant("its model and loss in a bare loop", partial(companion_vae, bare=True)),
        Contestant("bare loop over one tensor", hand_written("bare", "from_logits", True)),
        Contestant("pythae", pythae_vae, "pythae"),
        Contestant(
            "PyTorch example, its habits written anew",
            hand_written("loader", "from_probabilities", False),
        ),
    ],
    "a training step of a U-Net of a million parameters, 64 images of 28 x 28": [
        Contestant("companion", unet_step(small_unet)),
        Contestant("diffusers", unet_step(diffusers_unet), "diffusers"),
        Contestant(
            "denoising-diffusion-pytorch", unet_step(lucidrains_unet), "denoising-diffusion-pytorch"
        ),
        Contestant("smalldiffusion", unet_step(smalldiffusion_unet), "smalldiffusion"),
    ],
}


def installed(package: str | None) -> bool:
    """Whether a contestant can take part: it and all that it needs can be imported."""
    if package is None:
        return True
    try:
        importlib.metadata.version(package)
        importlib.import_module(package.replace("-", "_"))
    except ImportError as error:  # it, or something that it needs
        print(f"{package} does not take part: {error}")
        return False
    return True


def measure(
    contestants: list[Contestant], device: torch.device, rounds: int, clock: Callable[[], float]
) -> list[dict[str, Any]]:
    """Rows of a table: images per second, and the time over that of the first contestant in the same round."""
    works = {each.name: each.make(device) for each in contestants}
    for work in works.values():
        work()  # imports and first uses are not what is measured
    speed: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds):
        for name in list(works) if number % 2 == 0 else list(reversed(works)):
            wait(device)
            start = clock()
            images = works[name]()
            wait(device)
            speed[name].append(images / (clock() - start))
    first = next(iter(speed.values()))
    rows = []
    for name, found in speed.items():
        ratios = [a / b for a, b in zip(first, found, strict=True)]
        rows.append(
            {
                "name": name,
                "images_per_second": statistics.median(found),
                "time_over_first": statistics.median(ratios),
                "least": min(ratios),
                "most": max(ratios),
            }
        )
    return rows


def processor() -> str:
    """The name of the CPU, where the system tells it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines() if os.name == "posix" else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def main() -> None:
    """Run all tables and write the file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", default=str(runtime.device()))
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu: this process's own time"
    )
    parser.add_argument("--note", default="", help="conditions, such as other work beside")
    parser.add_argument("--table", type=int, help="only this table, counted from 0")
    parser.add_argument("--out", type=Path, default=Path("book/data/benchmarks.json"))
    given = parser.parse_args()
    if given.rounds < 2:
        parser.error(f"--rounds must be at least 2, for a range; {given.rounds} was given")
    device = torch.device(given.device)
    if device.type == "cuda" and given.clock == "cpu":
        parser.error("--clock cpu cannot time a GPU, which works beside the process")
    torch.set_num_threads(given.threads)
    clock = time.perf_counter if given.clock == "wall" else time.process_time
    before = os.getloadavg()[0]
    tables = []
    for number, (title, contestants) in enumerate(TABLES.items()):
        if given.table in (None, number):
            there = [each for each in contestants if installed(each.package)]
            missing = [each.name for each in contestants if each not in there]
            rows = measure(there, device, given.rounds, clock)
            tables.append({"title": title, "rows": rows, "missing": missing})
            for row in rows:
                print(json.dumps(row), flush=True)
    packages = ["torch", *(c.package for all_of in TABLES.values() for c in all_of if c.package)]
    versions = {
        package: importlib.metadata.version(package) for package in packages if installed(package)
    }
    found = {
        "machine": processor() if device.type == "cpu" else torch.cuda.get_device_name(),
        "device": given.device,
        "threads": given.threads,
        "clock": given.clock,
        "rounds": given.rounds,
        "load": [round(before, 1), round(os.getloadavg()[0], 1)],
        "note": given.note,
        "date": datetime.date.today().isoformat(),
        "commit": runtime.commit(),
        "versions": versions,
        "tables": tables,
    }
    given.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
