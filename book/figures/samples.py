"""Draw what the pages without code show of the models: run `python book/figures/samples.py` and commit the files.

For each model that generates, a sheet of samples, and for digits the share not recognized as one; for the landing page
a film of digits that form out of noise. All comes from the shipped weights, with seeds; it takes ten minutes on a core.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from companion.data import binarize, load
from companion.elbo import LatentChain
from companion.flows import Flow
from companion.mean_flows import MeanFlow
from companion.samplers import ddpm_sample
from companion.zoo import pretrained, sample
from companion.zoo.recipes import recipe
from companion.zoo.weights import card_names
from companion.zoo.yardstick import unrecognized

FOLDER = Path(__file__).parent / "samples"
FACTS = Path(__file__).parents[1] / "data" / "samples.json"
COLUMNS, SHOWN = 8, 16
# Samples that are judged, of a model that draws in one stroke and of one with many steps.
QUICK, SLOW = 500, 64
SLOW_MODELS = ("ddpm", "masked")
WEAK = "guide-mnist"  # made to be weak: it has no sheet, and guides the other model of digits
FILM, DIGITS, FRAMES = "ddpm-mnist-long", 5, 40
POINTS, PIXELS, REACH = 20_000, 112, 3.5  # of a model in the plane


def sheet(images: Tensor) -> Image.Image:
    """Images side by side, in rows."""
    x = (images.clamp(0, 1) * 255).round().byte().numpy()
    rows = [np.concatenate(list(x[i : i + COLUMNS]), -1) for i in range(0, SHOWN, COLUMNS)]
    whole = np.concatenate(rows, -2)
    return Image.fromarray(whole[0] if len(whole) == 1 else np.moveaxis(whole, 0, -1))


def cloud(points: Tensor) -> Image.Image:
    """How many of the points fall on each pixel, dark where many do."""
    side = np.linspace(-REACH, REACH, PIXELS + 1)
    counts = np.histogram2d(-points[:, 1].numpy(), points[:, 0].numpy(), (side, side))[0]
    return Image.fromarray((255 * (1 - counts / counts.max()) ** 2).round().astype(np.uint8))


def draw(name: str) -> dict[str, object]:
    """Writes the sheet of a model, and says how many are not recognized as digits."""
    data, facts = recipe(name).data.name, {}
    on_digits, in_plane = data == "mnist", data == "mixture"
    guided = name.startswith("ddpm") and on_digits
    num = SLOW if name.startswith(SLOW_MODELS) and not guided else QUICK
    way = {"steps": 20, "guide": WEAK} if guided else {}
    x = sample(name, POINTS if in_plane else num if on_digits else SHOWN, **way)
    image = cloud(x) if in_plane else sheet(x[:SHOWN].reshape(SHOWN, *x.shape[1:]))
    image.save(FOLDER / f"{name}.webp", lossless=True, method=6)
    if on_digits:
        of_symbols = bool(((x == 0) | (x == 1)).all())  # judged beside real digits of the same two
        real = binarize(load("mnist", "test").images) if of_symbols else None
        share, error, _ = unrecognized(x, real)
        facts = {"unrecognized": share, "unrecognized_se": error, "judged": num}
    if guided:
        facts["way"] = f"20 steps, guided by {WEAK}"
    return {"shown": SHOWN if not in_plane else POINTS, "size": image.size, **facts}


def film() -> dict[str, object]:
    """Writes digits on their way from noise; frames stand below each other, the last steps have most of them."""
    model = pretrained(FILM)
    torch.manual_seed(11)
    steps = len(model.schedule.steps)
    times = np.linspace(1, 0, FRAMES) ** 1.6 * steps
    wanted = set(times.round().astype(int).tolist())
    x_T = model.prior(DIGITS).sample()
    chain = ddpm_sample(model.denoiser, model.schedule, x_T, progress="film")
    kept = [(steps - i, x) for i, x in enumerate(chain)]
    frames = [x for t, x in kept if t in wanted]
    stack = torch.stack(frames)  # (frames, digits, 1, 28, 28)
    spread = (
        stack.flatten(1).std(1).clamp(min=1).reshape(-1, 1, 1, 1, 1)
    )  # noise is wider than the gray levels
    gray = ((stack / spread + 1) / 2).clamp(0, 1)
    rows = np.concatenate([np.concatenate(list(f[:, 0].numpy()), -1) for f in gray], -2)
    image = Image.fromarray((255 * (1 - rows)).round().astype(np.uint8))
    image.save(FOLDER / "film.webp", quality=30, method=6)
    return {"model": FILM, "digits": DIGITS, "times": [t for t, _ in kept if t in wanted]}


def main(names: list[str]) -> None:
    """Draws the models that are named, or all, and the film if nothing is."""
    FOLDER.mkdir(exist_ok=True)
    known = [n for n in card_names() if "-" in n and n != WEAK]
    facts = json.loads(FACTS.read_text("utf8")) if FACTS.exists() else {}
    for name in names or ["film", *known]:
        try:
            generates = name == "film" or isinstance(
                pretrained(name), LatentChain | Flow | MeanFlow
            )
        except ValueError:  # a record
            continue
        if generates:
            facts[name] = film() if name == "film" else draw(name)
            print(name, facts[name], flush=True)
            FACTS.write_text(json.dumps(dict(sorted(facts.items())), indent=1) + "\n", "utf8")


if __name__ == "__main__":
    main(sys.argv[1:])
