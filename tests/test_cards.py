"""The shipped weights are what their cards say, and the code around them computes what it did when they were made.

Each is measured again twice. On a few examples that every machine has, the value of each one is compared with a
reference, `fixtures/cards.json`: no noise hides a mistake there. On a slice of its test data the mean is compared with
the card, by the slice's own standard error. Records are compared with their cards, and some of what they hold is made
again. After a training or a changed recipe: `.venv/bin/python tests/test_cards.py NAME` writes the reference anew.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_recipes import digits_once
from torch import Tensor, nn
from torch.nn import functional as F

from companion import distributions, ladders, metrics
from companion.data import landscapes, load, nearest_scenes, scenes, to_unit, toy_density
from companion.ddpm import Ddpm, elbo_step, noise_errors
from companion.elbo import LatentChain, elbo_terms
from companion.guidance import guided
from companion.masked import MaskedDiffusion
from companion.networks import residual
from companion.samplers import ddim_sample, ddpm_sample, dpm_solver_sample, in_chunks
from companion.zoo import architectures, measures, pretrained
from companion.zoo.pretrained import SAMPLERS
from companion.zoo.recipes import RECIPES, Recipe
from companion.zoo.runs import measurement
from companion.zoo.sources import DIGITS, MNIST, Source
from companion.zoo.weights import RecordCard, card_names, load_record, read_card

REFERENCES = Path(__file__).parent / "fixtures" / "cards.json"
FAR = 4.0  # standard errors; the draws are fixed, so that a test passes always or never
NUM = 4  # examples of a reference

# How many test examples are measured, by what one of them costs; the others are 200.
SLICES = {
    **dict.fromkeys(("vae-mnist", "iwae-mnist", "iwae-mnist-long"), 10),  # 5,000 draws of each
    **{"hvae-mnist": 12, "conv-hvae-mnist": 16, "iw-conv-hvae-mnist": 4},
    **dict.fromkeys(
        ("classifier-mnist", "judge-mnist", "residual-judge-mnist", "reader-landscapes"), 2000
    ),  # mistakes are rare
    **dict.fromkeys(("ddpm-mnist-long", "ddpm-scenes"), 24),
    **{"text-scenes": 100},
    **{"ddpm-digits": 100, "ddpm-toy2d": 60, "ddpm-toy2d-bound": 60, "ldm-mnist": 8},
}

pytestmark = pytest.mark.usefixtures("unchecked", "on_the_cpu")


@pytest.fixture
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """References are those of a CPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("companion.data.images._digits", digits_once)


def test_chapter_10_names_the_digits_of_its_record() -> None:
    _, card = record("ddpm-mnist-long-samples")
    num = card.command.rsplit("--examples ", 1)[1]
    source = Path(__file__).parents[1] / "notebooks" / "src" / "10_ddpm_training.py"
    text = source.read_text("utf8")
    said = re.findall(r"first (\d+) test digits|same (\d+) digits|test\.images\[:(\d{3})\]", text)
    assert len(said) >= 3 and {"".join(each) for each in said} == {num}


def few(recipe: Recipe, num: int) -> tuple[Tensor, ...]:
    """Examples that need no download, in the shape of the recipe's data, prepared, with labels where it wants them."""
    digits = load("digits", "test")
    x, label = digits.images[:num], digits.labels[:num]
    if recipe.data == MNIST:
        x = F.pad(F.interpolate(x, size=24, mode="bilinear"), [2, 2, 2, 2])
        x = (x * 255).round() / 255
    elif recipe.data.name == "landscapes":
        x, label = landscapes(num, 1, recipe.data.held_out, pixels=recipe.data.pixels)
    elif recipe.data.x_shape == (3, 32, 32):
        images, label, _ = scenes(num, 1)
        x = (images * 255).round() / 255
    elif recipe.data != DIGITS:
        x = toy_density(recipe.data.name).sample([num])
    x = recipe.prepare(x)
    return (x, label) if recipe.labels else (x,)


def as_measured(recipe: Recipe, text: str) -> Recipe:
    """The recipe with as many draws in its measure as the card says."""
    if found := re.search(r"L_(\d+)$", text):
        recipe = replace(recipe, metric=replace(recipe.metric, num_samples=int(found[1])))
    assert str(recipe.metric) == text
    return recipe


def reference(name: str) -> dict[str, Any]:
    """What the recipe of this name says, and what loss, measure and bound are on a few examples with fixed draws."""
    recipe, is_shipped = RECIPES[name], name in card_names()
    torch.manual_seed(recipe.seed)
    model = pretrained(name) if is_shipped else recipe.model().eval()
    few(recipe, NUM)  # what is loaded at the first call draws numbers, too
    torch.manual_seed(1)
    examples = few(recipe, NUM)
    settings = ("epochs", "batch_size", "lr", "ema", "start", "seed", "num_test", "labels")
    found: dict[str, Any] = {key: getattr(recipe, key) for key in settings}
    found["data"] = recipe.data.name
    found["rates"] = [recipe.schedule(share) for share in (0.0, 0.25, 1.0)]
    found["options"] = [recipe.options(share) for share in (0.0, 0.25, 1.0)]
    found["measure"] = str(recipe.metric)
    with torch.no_grad() if name not in NEED_GRADIENTS else torch.enable_grad():
        torch.manual_seed(2)
        found["loss"] = recipe.loss(model, *examples, **recipe.options(0.25)).tolist()
    with torch.no_grad():
        torch.manual_seed(3)
        found["values"] = recipe.metric(model, *examples).tolist()
        torch.manual_seed(4)
        if isinstance(model, Ddpm):
            x, T = examples[0], model.num_latents
            steps = [
                elbo_step(model, x, torch.full((NUM,), t), torch.randn_like(x))
                for t in (1, 2, T // 2)
            ]
            found["bound"] = torch.cat(steps).tolist()
        elif isinstance(model, LatentChain):
            if isinstance(model, MaskedDiffusion):  # a thousand steps take as many calls
                model = MaskedDiffusion(model.network, (1, 28, 28), num_steps=20)
            x = examples[0].round() if recipe.data == MNIST else examples[0]  # black and white
            terms = elbo_terms(model, x)
            found["bound"] = [*terms.log_likelihood.tolist(), *terms.kl.sum(1).tolist()]
    return found


NEED_GRADIENTS = {"cae-mnist", "robust-ae-mnist"}


@pytest.mark.parametrize("name", RECIPES)
def test_on_a_few_examples_every_number_is_that_of_the_reference(name: str) -> None:
    known = json.loads(REFERENCES.read_text("utf8"))
    assert name in known, f"without a reference: .venv/bin/python tests/test_cards.py {name}"
    expected, found = known[name], json.loads(json.dumps(reference(name)))
    for key in ("loss", "values", "bound"):
        if key in expected:
            # float32 in another order of summation; a mistake is larger
            assert found.pop(key) == pytest.approx(expected.pop(key), rel=2e-3, abs=2e-3), key
    assert found == expected


@cache
def mnist_is_here() -> bool:
    return load("mnist", "test").name == "mnist"


@cache
def examples_of(data: Source, labels: bool) -> tuple[Tensor, ...]:
    """The test examples of a data set, read once for all recipes; none of them draws its own."""
    return replace(RECIPES["vae-mnist"], data=data, labels=labels).examples("test")


def slice_of(recipe: Recipe, num: int) -> tuple[tuple[Tensor, ...], int]:
    """The first test examples, prepared with fixed draws, and how many of them the card speaks of."""
    if recipe.data == MNIST and not mnist_is_here():
        pytest.skip("the cards of weights for MNIST are compared only where MNIST is")
    x, *labels = examples_of(recipe.data, recipe.labels)
    torch.manual_seed(recipe.seed)
    return (recipe.prepare(x[:num]), *(label[:num] for label in labels)), recipe.num_test or len(x)


@pytest.mark.parametrize("name", card_names())
def test_a_slice_of_the_test_data_agrees_with_the_card(name: str) -> None:
    card = read_card(name)
    recipe = as_measured(RECIPES[name], card.metric)
    examples, size = slice_of(recipe, SLICES.get(name, 200))
    with torch.no_grad():
        values = recipe.metric(pretrained(name), *examples).double()
    found = measurement(card.metric, values)
    assert found["metric_se"] == pytest.approx(values.std().item() / math.sqrt(len(values)))
    assert abs(found["metric_value"] - card.metric_value) < FAR * found["metric_se"]
    # What one example scatters by, from all of them and from these; of ten it is known to a quarter.
    scatter = values.std().item() / (card.metric_se * math.sqrt(size))
    assert 0.4 < scatter < 2.5
    assert card.data == recipe.data.name and card.seed == recipe.seed


# ------------------------------------------------------------------------------------------------------- records


@cache
def record(name: str) -> tuple[dict[str, Tensor], RecordCard]:
    """The tensors of a record, in double precision where they are floating-point, and its card."""
    tensors, card = load_record(name)
    return {k: t.double() if t.is_floating_point() else t for k, t in tensors.items()}, card


def the_judge() -> nn.Module:
    """The classifier whose features are in the records, in double precision as they are."""
    return pretrained("classifier-mnist").double()


def values_of(name: str) -> Tensor:
    """What the card of a record averages, from its tensors."""
    tensors, card = record(name)
    kind = name.removeprefix(f"{card.model}-")
    if kind == "values":
        return tensors["values"]
    if kind == "steps":
        heads = [the_judge().head(features).softmax(1).amax(1) for features in tensors.values()]
        return torch.stack(heads).mean(0)
    if kind == "bits":
        return tensors["finer"].double()
    if kind == "times":
        return torch.stack([*tensors.values()]).double().mean((0, 1))
    if kind == "spacing":
        kept = [distance for name, distance in tensors.items() if "," in name]
        return torch.cat([distance[0, ..., 0].flatten() for distance in kept])
    if kind == "guidance":
        hits = the_judge().head(tensors["features"]).argmax(2) == tensors["label"]
        return hits.double().mean(0)
    if kind == "sentences":
        scale = tensors["scale"].tolist().index(2.0)
        return tensors["held out"][scale].double().mean(-1).flatten()
    if kind == "scenes":
        return tensors["conditional: distance"]
    return tensors["noise_error"][1:]  # the means over examples, whose own values are not kept


KEPT = [name for name in card_names(RecordCard) if not name.endswith("-reference")]


@pytest.mark.parametrize("name", KEPT)
def test_what_a_record_holds_gives_its_card(name: str) -> None:
    _, card = record(name)
    with torch.no_grad():
        found = measurement(card.metric, values_of(name))
    # Features are kept in half precision, which can turn one decision in a thousand.
    half = 0.0 if name.endswith("-values") else 1e-3
    assert found["metric_value"] == pytest.approx(card.metric_value, rel=1e-6, abs=half)
    if not name.endswith("-samples"):
        assert found["metric_se"] == pytest.approx(card.metric_se, rel=1e-6, abs=half / 10)


def test_the_reference_of_digits_is_one() -> None:
    tensors, card = record("classifier-mnist-reference")
    cov = tensors["root"].T @ tensors["root"]
    assert cov.shape == (64, 64) and 0.1 < cov.diagonal().mean() < 100
    real, standard_error = tensors["real"].tolist()
    assert card.metric_se is not None and 0 < standard_error < card.metric_se
    assert abs(real - card.metric_value) < FAR * card.metric_se


@pytest.mark.parametrize("model", [n for n in card_names() if f"{n}-values" in KEPT])
def test_a_slice_of_the_values_is_measured_again(model: str) -> None:
    tensors, card = record(f"{model}-values")
    recipe = as_measured(RECIPES[card.model], card.metric)
    x = slice_of(recipe, 0) and examples_of(recipe.data, recipe.labels)[0]
    torch.manual_seed(recipe.seed)  # and the whole test set is drawn, as it was
    x = recipe.prepare(x)[: SLICES[card.model]]
    with torch.no_grad():
        off = recipe.metric(pretrained(card.model), x) - tensors["values"][: len(x)]
    # The same images, other draws: what the images differ by is not in the way.
    assert abs(off.mean()) < FAR * off.std() / math.sqrt(len(x))
    assert off.std() < 0.2 * tensors["values"].std()


def test_samplers_go_by_their_own_names() -> None:
    model = pretrained("ddpm-digits")
    assert isinstance(model, Ddpm)
    schedule, x_T = model.schedule.evenly(4), torch.randn(2, 1, 8, 8)
    films = {
        "ddim": lambda: ddim_sample(model.denoiser, schedule, x_T),
        "dpm-solver": lambda: dpm_solver_sample(model.denoiser, schedule, x_T),
        "beta-tilde": lambda: ddpm_sample(model.denoiser, schedule, x_T),
        "beta": lambda: ddpm_sample(model.denoiser, schedule, x_T, schedule.beta),
    }
    ends = {}
    for name, film in films.items():
        for draw in (film, lambda name=name: SAMPLERS[name](model.denoiser, schedule, x_T)):
            torch.manual_seed(1)
            ends.setdefault(name, []).append(list(draw())[-1])
    assert list(SAMPLERS) == list(films) and all(torch.equal(*pair) for pair in ends.values())
    for one, other in itertools.combinations(ends.values(), 2):
        assert not torch.allclose(one[0], other[0], atol=0.01)


def test_what_deterministic_samplers_drew_is_drawn_again() -> None:
    tensors, card = record("ddpm-mnist-long-steps")
    model, judge = pretrained(card.model), pretrained("classifier-mnist")
    assert isinstance(model, Ddpm)
    torch.manual_seed(card.seed)
    x_T = torch.randn(1000, 1, 28, 28)[:3]
    schedule = model.schedule.evenly(10)
    for kind in ("ddim", "dpm-solver"):
        with torch.no_grad():
            images = to_unit(list(SAMPLERS[kind](model.denoiser, schedule, x_T))[-1])
            features = judge.features(images).double()
        same, other = (
            (features - tensors[f"{name} 10"][:3]).norm() / features.norm()
            for name in (kind, "dpm-solver" if kind == "ddim" else "ddim")
        )
        assert same < 0.01 < 0.05 < other


def test_what_guidance_drew_is_drawn_again() -> None:
    tensors, card = record("ddpm-mnist-long-guidance")
    model, judge = pretrained(card.model), the_judge()
    assert isinstance(model, Ddpm)
    torch.manual_seed(card.seed)
    x_T, label = torch.randn(1000, 1, 28, 28)[:2], torch.arange(2)
    assert tensors["label"][:20].tolist() == 2 * list(range(10))
    index = tensors["scale"].tolist().index(3.0)
    denoiser = guided(model.denoiser, label, 3.0)
    schedule = model.schedule.evenly(20)
    x = to_unit(in_chunks(lambda x_T: ddim_sample(denoiser, schedule, x_T), 100, x_T))
    assert (255 * x - tensors["samples"][index, :2].double()).abs().mean() < 1
    # The images that are kept are those whose features are kept.
    shown = tensors["samples"][index, :20].double() / 255
    with torch.no_grad():
        off = judge.features(shown) - tensors["features"][index, :20]
    assert off.norm() < 0.01 * tensors["features"][index, :20].norm()


def test_what_was_drawn_of_scenes_is_drawn_and_found_again() -> None:
    tensors, card = record("ddpm-scenes-scenes")
    model, num = pretrained(card.model), len(tensors["asked"])
    assert isinstance(model, Ddpm)
    asked = scenes(num, 1).factors[:2]
    torch.testing.assert_close(asked.double(), tensors["asked"][:2])
    torch.manual_seed(card.seed)
    x_T, causes = torch.randn(num, 3, 32, 32)[:2], architectures.told(asked)
    for way, scale in (("conditional", 1.0), ("guided", 2.0)):
        denoiser, kept = guided(model.denoiser, causes, scale), tensors[way]
        film = ddim_sample(denoiser, model.schedule.evenly(25), x_T)
        assert (255 * to_unit(list(film)[-1]) - kept[:2].double()).abs().mean() < 1
        found, distance = nearest_scenes(kept[:2] / 255)
        assert (distance - tensors[f"{way}: distance"][:2]).abs().max() < 0.05
        off = architectures.told(found.double()) - architectures.told(tensors[f"{way}: causes"][:2])
        assert off.abs().max() < 0.02


def test_errors_of_the_noise_are_measured_again() -> None:
    tensors, card = record("ddpm-mnist-long-samples")
    model, times = pretrained(card.model), [30, 200, 500]
    assert isinstance(model, Ddpm)
    (x, *_), _ = slice_of(RECIPES[card.model], 16)
    with torch.no_grad():
        errors = noise_errors(model, x, times).double()
    off = errors.mean(1) - tensors["noise_error"][times]
    assert (off.abs() < FAR * errors.std(1) / 4).all()
    assert (errors.std(1) / tensors["noise_error_se"][times] / 500**0.5 - 1).abs().max() < 0.7
    assert 0.05 < tensors["samples"].float().mean() / 255 < 0.25  # digits are an eighth ink


# ------------------------------------------------------------------------------- mistakes that no test saw before


def loses_the_scale_of_its_branches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ladders, "Residual", lambda branch, scale: residual.Residual(branch))


def doubles_the_deviation_of_its_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    image_ddpm, forward = architectures.image_ddpm, distributions.GaussianLikelihood.forward

    def doubled(*args: Any, **options: Any) -> Ddpm:
        model = image_ddpm(*args, **options)
        model.reverse_var[1] *= 4
        return model

    def wider(self: Any, mean: Tensor) -> Any:
        with monkeypatch.context() as patch:
            patch.setitem(self._buffers, "log_std", self.log_std + math.log(2))
            return forward(self, mean)

    monkeypatch.setattr(architectures, "image_ddpm", doubled)
    monkeypatch.setattr(distributions.GaussianLikelihood, "forward", wider)


def draws_eleven_times(monkeypatch: pytest.MonkeyPatch) -> None:
    many = metrics.log_likelihood
    monkeypatch.setattr(measures, "log_likelihood", lambda model, x, num: many(model, x, 11))


def averages_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECIPES, "ddpm-digits", replace(RECIPES["ddpm-digits"], ema=None))


@pytest.mark.parametrize(
    ("plant", "name"),
    [
        (loses_the_scale_of_its_branches, "conv-hvae-mnist"),
        (doubles_the_deviation_of_its_decoder, "ddpm-mnist-long"),
        (doubles_the_deviation_of_its_decoder, "vae-scenes"),
        (draws_eleven_times, "vae2d-mnist"),
        (averages_nothing, "ddpm-digits"),
    ],
)
def test_a_planted_mistake_is_not_the_reference(
    plant: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        test_on_a_few_examples_every_number_is_that_of_the_reference(name)


def test_a_deviation_is_no_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def deviation(metric: str, values: Tensor) -> dict[str, Any]:
        return {"metric_value": values.mean().item(), "metric_se": values.std().item()}

    monkeypatch.setitem(globals(), "measurement", deviation)
    with pytest.raises(AssertionError):
        test_a_slice_of_the_test_data_agrees_with_the_card("vae-scenes")
    with pytest.raises(AssertionError):
        test_what_a_record_holds_gives_its_card("hvae1-mnist-values")


@pytest.mark.parametrize(("name", "taken"), [("beta", "beta-tilde"), ("ddim", "dpm-solver")])
def test_a_sampler_under_another_s_name_is_found(
    name: str, taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SAMPLERS, name, SAMPLERS[taken])
    with pytest.raises(AssertionError):
        test_samplers_go_by_their_own_names()


def test_a_card_with_a_deviation_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    true = read_card("vae-scenes")
    assert true.metric_se is not None
    wrong = replace(true, metric_se=true.metric_se * 2000**0.5)
    monkeypatch.setitem(globals(), "read_card", lambda name: wrong)
    with pytest.raises(AssertionError):
        test_a_slice_of_the_test_data_agrees_with_the_card("vae-scenes")


if __name__ == "__main__":
    known = json.loads(REFERENCES.read_text("utf8")) if REFERENCES.exists() else {}
    for each in sys.argv[1:] or RECIPES:
        known[each] = reference(each)
    kept = {key: known[key] for key in RECIPES}
    REFERENCES.write_text(json.dumps(kept, indent=1) + "\n", "utf8")
