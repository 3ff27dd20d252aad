"""A trained model by its name, and draws from it."""

import io
import math
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from tyro.conf import Positional

from companion import checks, runtime
from companion.zoo import weights
from companion.zoo.checkpoints import Journal, Setting
from companion.zoo.drawing import SAMPLERS, Wish, drawing
from companion.zoo.processes import Processes
from companion.zoo.recipes import recipe

__all__ = ["SAMPLERS", "pretrained", "sample", "use"]

_YOURS: dict[str, nn.Module] = {}


def use(name: str, model: nn.Module | None) -> None:
    """Let `pretrained(name)` give this model in place of the shipped one; with None, the shipped one again.

    Raises:
        TypeError: if the model is no module.
        ValueError: if no recipe has this name, the model is built differently, or a weight is not finite.
    """
    expected = recipe(name).model()
    if model is None:
        _YOURS.pop(name, None)
        return
    checks.instance(nn.Module, model=model)
    weights.check_architecture("the weights of this model", model.state_dict(), expected)
    weights.check_finite("the weights of this model", model.state_dict(), model)
    _YOURS[name] = model


def pretrained(
    name: str, folder: Path | str | None = None, device: torch.device | str | None = None
) -> nn.Module:
    """A model of the book with its trained weights, ready to be used and not to be trained.

    It takes a second at most. The model is in evaluation mode, its parameters without gradients,
    and on torch's default device if none is given. To train on, call `.requires_grad_()`; to measure it, see
    `evaluate`. Weights that are not shipped are looked for in `folder`. After `use(name, model)` it
    is a copy of that model.

    Raises:
        ValueError: if no recipe or no weights have this name, or the weights are damaged.
    """
    device = checks.device(device)
    model = recipe(name).model().requires_grad_(False).eval()
    if folder is None and name in _YOURS:
        model.load_state_dict(_YOURS[name].state_dict())
    else:
        weights.load_weights(name, model, folder)
    return model.to(device)


def sample(
    name: str,
    num: int = 16,
    steps: int | None = None,
    sampler: str | None = None,
    seed: int = 0,
    folder: Path | str | None = None,
    out: Path | str | None = None,
    resume: bool = False,
    text: Positional[str | None] = None,
    scale: float | None = None,
    guide: str | None = None,
) -> Float[Tensor, "num *x_shape"]:
    """Draw from a trained model.

    A VAE or a ladder takes a second. A diffusion model of digits takes a fifth of a second per step on a
    CPU, for 16 of them; other libraries call `steps` num_inference_steps. Launched as several
    processes, each draws its share: the images of one process, up to rounding.

    Args:
        name: of the weights, such as "vae-mnist" or "ddpm-mnist-long".
        num: how many examples to draw.
        steps: evenly spaced times of a diffusion model or a flow; 50 if not given, and 1 for a flow that
            learned the average velocity.
        sampler: of a diffusion model: "ddim" (if not given), "dpm-solver", or the original sampler
            with variance "beta-tilde" or "beta" in each step.
        seed: of torch's random numbers.
        folder: where the weights are, if they are not shipped.
        out: a PNG file to write the images to, side by side.
        resume: continue a drawing with `out` that was stopped and saved beside it.
        text: what the images are to show, for a model of sentences; without it, they show anything.
        scale: of the guidance by the text or the guide, 2 if not given; other libraries call it guidance_scale.
        guide: a weaker diffusion model of the same images, which guides one without a text (chapter 13): with
            "guide-mnist", twenty steps of "ddpm-mnist-long" draw digits as good as all thousand without.

    Returns:
        Examples as the data set has them: images on [0, 1], or points.

    Raises:
        ValueError: if there are no such weights, the model generates nothing, `steps`, `sampler`, `text`, `scale` or
            `guide` is given for a model without them, a word of the text is unknown, the guide draws something else,
            `out` is given for points, or what is beside `out` does not fit `resume`.
        OSError: if `out` cannot be written, which is tried first, or another of several processes is lost.
    """
    checks.whole(1, 1_000_000, num=num)
    checks.seed(seed)
    processes = Processes()
    out = None if out is None else _picture(out)
    model, chosen = pretrained(name, folder, runtime.device()), recipe(name)
    if out is not None and len(chosen.data.x_shape) == 1:
        raise ValueError(f"out takes images; {name!r} draws points")
    settings: dict[str, Setting] = {"name": name, "sha256": weights.read_card(name, folder).sha256}
    settings |= {"num": num, "steps": steps, "sampler": sampler, "seed": seed}
    settings |= {"text": text, "scale": scale, "guide": guide}
    path = None if out is None else out.with_suffix(".run")
    journal = Journal(path, settings, processes, resume)
    weaker = None if guide is None else pretrained(guide, None, runtime.device())
    wish = Wish(name, num, steps, sampler, text=text, scale=scale, guide=weaker)
    torch.manual_seed(seed)
    x = chosen.restore(drawing(model, wish)(journal, name))
    if out is not None and processes.rank == 0:
        # Here, for it takes as long to import as torch itself.
        from torchvision.utils import save_image

        beside = io.BytesIO()
        save_image(x, beside, nrow=math.ceil(num**0.5), format="png")
        weights.write_files({out: beside.getvalue()})
    journal.close()
    return x


def _picture(given: Path | str) -> Path:
    """A file that can be written."""
    out = weights.path_of(out=given)
    if out.suffix != ".png":
        raise ValueError(f"out must be a file that ends in .png; {out} was given")
    weights.writable_folder(out.parent)
    try:
        if out.is_dir() or (out.is_symlink() and not out.exists()):
            raise ValueError(f"out must be a file; {out} is a folder, or a link to nothing")
    except OSError as error:
        raise OSError(f"out must be a file that can be written; {error.strerror}") from None
    return out
