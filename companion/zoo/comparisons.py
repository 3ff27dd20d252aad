"""What is compared with a trained diffusion model: samplers, scales of guidance, times, the renderer of scenes."""

import itertools
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from companion import checks, runtime
from companion.data import Batches, Images, landscapes, load, nearest_scenes, scenes, to_unit
from companion.ddpm import Ddpm
from companion.flows import Flow, flow_sample, line_time
from companion.guidance import guided
from companion.metrics import Estimate, frechet_distance, jackknife, normal_fit
from companion.networks.classifier import DigitClassifier
from companion.networks.mlp import mlp
from companion.samplers import ddim_sample, ddpm_sample
from companion.schedule import Schedule
from companion.training import fit
from companion.vae import Vae
from companion.zoo import measures
from companion.zoo.architectures import decoded_landscapes, landscape_codes, landscape_reader, told
from companion.zoo.checkpoints import at_once
from companion.zoo.drawing import CHUNK, SAMPLERS, ancestral, in_parts
from companion.zoo.obedience import obeyed
from companion.zoo.yardstick import no_digit_votes

SPACINGS = {"even": Schedule.evenly, "trailing": Schedule.trailing}


class Record(NamedTuple):
    """What is kept: tensors by name, a value for each example, and what the mean of these is."""

    tensors: dict[str, Tensor]
    values: Float[Tensor, "num"]
    metric: str


@torch.no_grad()
def compare_steps(
    model: Ddpm,
    judge: DigitClassifier,
    num: int,
    num_steps: Sequence[int] = (10, 20, 50, 100),
    journal: Callable[..., Any] = at_once,
) -> Record:
    """Draw by every sampler in few steps from the same noise, and keep what the classifier sees.

    Named by sampler and number of steps, such as "ddim 20".
    """
    x_T = torch.randn(num, *model.x_shape).to(model.origin)
    tensors, sure = {}, []
    for steps, kind in itertools.product(num_steps, SAMPLERS):
        name, schedule = f"{kind} {steps}", model.schedule.evenly(steps)
        images = _images(journal, name, SAMPLERS[kind], model.denoiser, schedule, x_T)
        features = judge.features(images)
        tensors[name] = features.half()
        sure.append(judge.head(features).softmax(1).amax(1).double())
    metric = "confidence of the classifier in a digit, mean over all samplers and numbers of steps"
    return Record(tensors, torch.stack(sure).mean(0), metric)


@torch.no_grad()
def compare_times(model: Ddpm, num: int, journal: Callable[..., Any] = at_once) -> Record:
    """Draw in ten steps at even and at trailing times from the same noise, and keep what the judges say.

    Named by sampler and times, such as "ddim trailing"; "class even" and "class trailing" are drawn by
    twenty steps of DDIM with a class given. Of each way the record holds `no_digit_votes`.
    """
    network: Any = model.denoiser
    x_T = torch.randn(num, *model.x_shape).to(model.origin)
    label = (torch.arange(num) % 10).to(x_T.device)
    tensors = {}
    ways: dict[str, tuple[Any, ...]] = {
        kind: (SAMPLERS[kind], network, 10, x_T) for kind in ("beta-tilde", "ddim", "dpm-solver")
    }
    ways["class"] = ddim_sample, partial(guided, network, scale=1.0), 20, x_T, label
    for (kind, way), times in itertools.product(ways.items(), SPACINGS):
        name, (sampler, denoiser, steps, *inputs) = f"{kind} {times}", way
        schedule = SPACINGS[times](model.schedule, steps)
        images = _images(journal, name, sampler, denoiser, schedule, *inputs)
        tensors[name] = no_digit_votes(images).byte()
    metric = "share of the samples that a judge takes for no digit, mean over both and all ways"
    return Record(tensors, torch.stack([*tensors.values()]).double().mean((0, 1)), metric)


@torch.no_grad()
def compare_scales(
    model: Ddpm,
    judge: DigitClassifier,
    num: int,
    scales: Sequence[float] = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 9.0),
    journal: Callable[..., Any] = at_once,
) -> Record:
    """Draw every class at every guidance scale by 20 DDIM steps, and keep what the classifier sees.

    The noise is the same at each scale. Of the images the first 60 are kept, and of all of them
    the variance of the pixels within each class, summed over the pixels.

    Raises:
        ValueError: if `num` is below 20, two of each class, which a variance needs.
    """
    checks.at_least(20, num=num)
    network: Any = model.denoiser
    schedule = model.schedule.evenly(20)
    x_T = torch.randn(num, *model.x_shape).to(model.origin)
    label = (torch.arange(num) % 10).to(x_T.device)
    found: dict[str, list[Tensor]] = defaultdict(list)  # an entry for each scale
    for scale in scales:
        of_class = partial(guided, network, scale=scale)
        images = _images(journal, f"scale {scale}", ddim_sample, of_class, schedule, x_T, label)
        features = judge.features(images)
        parts = (images[label == k].flatten(1) for k in range(10))
        found["features"].append(features.half())
        found["samples"].append(levels_of(images[:60]))
        found["spread"].append(torch.stack([part.var(0).sum() for part in parts]))
        found["hits"].append((judge.head(features).argmax(1) == label).double())
    tensors = {name: torch.stack(each) for name, each in found.items()}
    hits = tensors.pop("hits").mean(0)
    tensors |= {"scale": torch.tensor(scales), "label": label}
    metric = (
        "share of the digits that the classifier takes for what was asked for, mean over all scales"
    )
    return Record(tensors, hits, metric)


@torch.no_grad()
def compare_with_renders(
    model: Ddpm,
    vae: Vae,
    train: Float[Tensor, "num_train 3 32 32"],
    num: int,
    num_shown: int = 10,
    journal: Callable[..., Any] = at_once,
) -> Record:
    """Draw scenes in several ways in 25 steps, and find the nearest scene of the renderer to each.

    Given the causes of test scenes: by DDIM ("conditional"), with "fresh noise", and by DDIM at guidance scale 2
    ("guided"). Without causes: with fresh noise ("unconditional"), and the samples of the "VAE". The test scenes
    themselves are "real". Of each way the record holds the causes that were found, the squared distance from the
    nearest scene, summed over the values in [0, 1], and the first `num_shown` images. Of "real" and "unconditional"
    it also has the squared distance from the nearest scene of the training set.
    """
    network: Any = model.denoiser
    schedule = model.schedule.evenly(25)
    real, asked, _ = scenes(num, 1, device=model.origin.device)
    x_T = torch.randn(num, *model.x_shape).to(model.origin)
    ways: dict[str, tuple[Any, Any]] = {
        "conditional": (ddim_sample, partial(measures.knowing, network)),
        "fresh noise": (ddpm_sample, partial(measures.knowing, network)),
        "guided": (ddim_sample, partial(guided, network, scale=2.0)),
    }
    drawn = {
        name: _images(journal, name, *way, schedule, x_T, told(asked)) for name, way in ways.items()
    }
    name = "unconditional"
    drawn[name] = _images(journal, name, ddpm_sample, network, schedule, x_T)
    means = in_parts(journal, partial(ancestral, vae), torch.arange(num), chunk=num)
    drawn["VAE"] = means.clamp(0, 1)  # a Gaussian's mean knows no bounds
    tensors, distances = {"asked": asked}, {}
    for name, images in {"real": real, **drawn}.items():
        levels = levels_of(images)
        x = levels / 255  # as the record has them
        parts = runtime.progress_bar(x.split(CHUNK), name)
        nearest = [
            journal(lambda part: torch.column_stack(nearest_scenes(part)), part) for part in parts
        ]
        found = torch.cat(nearest)
        causes, distances[name] = found[:, :-1], found[:, -1]
        tensors |= {f"{name}: causes": causes, f"{name}: distance": distances[name]}
        if name != "real":  # the renderer gives those
            tensors[name] = levels[:num_shown]
        if name in ("real", "unconditional"):
            parts = train.flatten(1).split(10_000)
            nearest = [torch.cdist(x.flatten(1), part).amin(1) for part in parts]
            tensors[f"{name}: training distance"] = torch.stack(nearest).amin(0).square()
    metric = (
        "squared distance of a scene drawn for given causes from the nearest scene of the "
        "renderer, summed over its values"
    )
    return Record(tensors, distances["conditional"].double(), metric)


@torch.no_grad()
def compare_sentences(
    model: Ddpm,
    num: int,
    scales: Sequence[float] = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0),
    num_seeds: int = 3,
    journal: Callable[..., Any] = at_once,
) -> Record:
    """Draw landscapes for sentences of seen and of held-out combinations, and keep which attributes the reader finds.

    "seen" and "held out" have shape (scales, seeds, num, 8), with 1 where an attribute is as asked for; the
    words and the noise are the same at every scale. The reader is wrong at times, and the first stage loses a little:
    "...: real" is what the reader says of renderings of the same attributes, of shape (seeds, num, 8), and
    "...: decoded" of these after the first stage.
    """
    found: dict[str, Tensor] = {"scale": torch.tensor(scales)}
    for kind, held_out in (("seen", False), ("held out", True)):
        each: dict[str | float, list[Tensor]] = defaultdict(list)
        for seed in range(num_seeds):
            x, asked = landscapes(num, 100 + seed, held_out, model.origin.device)
            for scale in runtime.progress_bar(scales, f"{kind} {seed}"):
                torch.manual_seed(seed)
                for part in asked.split(CHUNK):
                    each[scale].append(journal(partial(obeyed, model, scale=scale), part))
            for way, images in (("real", x), ("decoded", decoded_landscapes(landscape_codes(x)))):
                each[way].append(landscape_reader().read(images) == asked)
        ways = {way: torch.cat(parts).view(num_seeds, num, -1) for way, parts in each.items()}
        found[kind] = torch.stack([ways[scale] for scale in scales]).byte()
        found |= {f"{kind}: {way}": ways[way].byte() for way in ("real", "decoded")}
    right = found["held out"][list(scales).index(2.0)].double().mean(-1).flatten()
    metric = (
        "fraction of attributes that a landscape of a held-out combination has, at guidance scale 2"
    )
    return Record(found, right, metric)


def _images(
    journal: Callable[..., Any],
    name: str,
    sampler: Callable[..., Iterator[Tensor]],
    denoiser: Any,
    schedule: Schedule,
    x_T: Tensor,
    *label: Tensor,
) -> Tensor:
    """What a sampler draws, on [0, 1]; where there are labels, they make the denoiser."""

    def draw(x_T: Tensor, *label: Tensor) -> Iterator[Tensor]:
        return sampler(denoiser(*label) if label else denoiser, schedule, x_T, progress=name)

    with runtime.autocast():
        return to_unit(in_parts(journal, draw, x_T, *label))


@torch.no_grad()
def compare_spacings(
    pairs: Sequence[tuple[Ddpm, Flow]],
    num: int,
    num_steps: Sequence[int] = (5, 10, 20, 50),
    journal: Callable[..., Any] = at_once,
) -> Record:
    """Draw by DDPMs and flows, each at the times of both, and measure how far their digits are from real ones.

    A pair is of one training, on digits of 8 x 8 pixels. Equal steps in t, such as DDIM's, or in u; Euler's steps for
    both, which are those of DDIM, and Heun's for the flow, of which two calls of the network are one step. All begin at
    the same noise. Tensors are named by network and times, such as "flow, even in u", and hold the `frechet_distance`
    from the training digits, less its bias, and its standard error over the images: by view (features of a small
    classifier that is trained here, pixels), pair, number of calls, and the two. "real" has that of ten random splits
    of all real digits, "accuracy" what the classifier gets right of the test digits.
    """
    train, test = (load("digits", split, device=runtime.device()) for split in ("train", "test"))
    judge = small_judge(train)
    views: list[Callable[[Tensor], Tensor]] = [judge[:-1], nn.Flatten()]
    x, size = torch.cat([train.images, test.images]), len(train.images)
    orders = [torch.randperm(len(x)).to(x.device) for _ in range(10)]
    tensors = {
        "num_steps": torch.tensor(num_steps),
        "accuracy": (judge(test.images).argmax(1) == test.labels).double().mean(),
        "real": torch.tensor(
            [[feature_gap(view(x[o[size:]]), view(x[o[:size]])) for o in orders] for view in views]
        ),
    }
    noise = torch.randn(num, *train.images.shape[1:]).to(x.device)
    found: dict[str, list[Tensor]] = defaultdict(list)
    for (ddpm, flow), steps in itertools.product(pairs, num_steps):
        for name, sampler in spaced_samplers(ddpm, flow, steps).items():
            images = to_unit(in_parts(journal, sampler, noise))
            each = [feature_gap(view(images), view(train.images)) for view in views]
            found[name].append(torch.tensor(each))
    for name, gaps in found.items():
        tensors[name] = torch.stack(gaps).unflatten(0, (len(pairs), -1)).movedim(2, 0)
    values = torch.cat([tensors[name][0, ..., 0].flatten() for name in found])
    metric = f"distance of {num} drawn digits from real ones, in a classifier's features, mean over all settings"
    return Record(tensors, values, metric)


def spaced_samplers(
    ddpm: Ddpm, flow: Flow, steps: int
) -> dict[str, Callable[..., Iterator[Tensor]]]:
    """Samplers of both networks at times that are even in t or in u, by name; they are given the noise."""
    even_in_t, even_in_u = ddpm.schedule.trailing(steps), torch.linspace(1, 0, steps + 1)
    # The noise is at u = 1, and the last t a little before.
    u = line_time(even_in_t.log_alpha_bar).flip(0).index_fill(0, torch.tensor([0]), 1.0)
    u_of_t = line_time(ddpm.schedule.log_alpha_bar)
    t = (u_of_t - even_in_u[:-1, None]).abs().argmin(1).flip(0)
    heun = torch.linspace(1, 0, steps // 2 + 1)
    return {
        "ddpm, even in t": partial(ddim_sample, ddpm.denoiser, even_in_t),
        "ddpm, even in u": partial(ddim_sample, ddpm.denoiser, ddpm.schedule.strided(t)),
        "flow, even in t": partial(flow_sample, flow, u=u),
        "flow, even in u": partial(flow_sample, flow, u=even_in_u),
        "flow, Heun": partial(flow_sample, flow, u=heun, heun=True),
    }


def feature_gap(x: Tensor, y: Tensor) -> Estimate:
    """Fréchet distance of two sets of features, less its bias for a finite x."""
    return jackknife(partial(frechet_distance, y=normal_fit(y)), x)


@torch.enable_grad()
def small_judge(digits: Images) -> nn.Sequential:
    """A classifier of these digits, trained in seconds; all but its last layer give 64 features."""
    layers = mlp([digits.images[0].numel(), 128, 64, 10], nn.SiLU)
    judge = nn.Sequential(nn.Flatten(), *layers).to(digits.images)
    batches = Batches(digits.images, digits.labels, batch_size=64, num_epochs=60)
    steps = fit(judge, measures.cross_entropy, batches, torch.optim.Adam(judge.parameters(), 1e-3))
    deque(steps, maxlen=0)
    return judge.eval().requires_grad_(False)


def levels_of(x: Tensor) -> Tensor:
    """Images on [0, 1] in 256 levels."""
    checks.within(0, 1, x=x)
    return (255 * x).round().to(torch.uint8)
