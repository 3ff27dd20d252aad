"""What a caller can get wrong, by module, and how the sentence begins that names the argument.

A case is a call and a regular expression. The error has to be raised by a line of the package, not by one of torch.
`test_bad_input = refused("score")` makes the cases of a module tests of the file where it stands, one for each line.
"""

import itertools
import math
import re
import traceback
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch
from jaxtyping import config as jaxtyping_config
from tiny_recipes import tiny, tiny_vae
from torch import distributions as D
from torch import nn

import companion
from companion import (
    autoencoder,
    bits_back,
    checks,
    data,
    ddpm,
    decoders,
    denoisers,
    distributions,
    elbo,
    flows,
    guidance,
    hierarchical_vae,
    interpolation,
    ladders,
    linear_chain,
    masked,
    mean_flows,
    metrics,
    refinement,
    samplers,
    schedule,
    score,
    training,
    vae,
    variances,
)
from companion.data import Batches, toys
from companion.data.rejects import is_spoiled
from companion.networks import classifier, mlp, residual, transformer, unet

Case: TypeAlias = tuple[Callable[[], object], str]
ACCEPTED, TORCH, OURS = "accepted", "in the words of torch or Python", "ours"


class Printed(ValueError):
    """What the command line printed instead of a traceback."""


def outcome(call: Callable[[], object]) -> tuple[str, str]:
    """How a call was answered, and in which words."""
    jaxtyping_config.update("jaxtyping_disable", True)  # the tests' own check is not the package's
    try:
        call()
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        raised = Path(companion.__file__).parent in Path(last.filename).parents
        ours = (raised and str(last.line).startswith("raise ")) or isinstance(error, Printed)
        kinds = (ValueError, TypeError, OSError, FloatingPointError, AssertionError)
        documented = ours and isinstance(error, kinds) and "\n" not in str(error)
        return OURS if documented else TORCH, f"{type(error).__name__}: {error}"
    finally:
        jaxtyping_config.update("jaxtyping_disable", False)
    return ACCEPTED, ""


def one_sentence(call: Callable[[], object], says: str) -> None:
    """A call is answered by one sentence of the package, which begins so."""
    answer, text = outcome(call)
    assert answer == OURS, f"{answer}: {text}"
    assert (sentence := text.partition(": ")[2]) and re.match(says, sentence), sentence


def line_of(call: Any) -> str:
    """Where a case stands, for the name of its test."""
    while isinstance(call, partial):
        call = call.func
    return f"line{call.__code__.co_firstlineno}" if hasattr(call, "__code__") else "call"


def by_line(cases: Iterable[Case]) -> pytest.MarkDecorator:
    """One test for all the cases that stand in one line."""
    lines: dict[str, list[Case]] = {}
    for call, says in cases:
        lines.setdefault(line_of(call), []).append((call, says))
    return pytest.mark.parametrize("cases", lines.values(), ids=lines)


def refused(module: str) -> Callable[..., None]:
    """The test that the cases of a module are refused."""

    @pytest.mark.timeout(120)  # only a hang reaches it
    @by_line(CASES[module])
    def test(cases: list[Case]) -> None:
        for call, says in cases:
            one_sentence(call, says)

    return test


# ------------------------------------------------------------------------------------- what the cases are made of

NAN, INF = math.nan, math.inf


class Row(nn.Module):
    """A network that gives one row, whatever it sees."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros(1, 2)


class Narrow(nn.Module):
    """A network of one number for each example."""

    def forward(self, x: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
        return x[:, :1]


S, S3 = schedule.linear_schedule(20, 0.01, 0.2), schedule.linear_schedule(3)
X, X_3 = torch.zeros(5, 2), torch.zeros(5, 3)  # batches of points
T5, LABEL = torch.ones(5).long(), torch.tensor([0, 1, 2, 0, 1])
IMAGES = (torch.arange(256).view(4, 1, 8, 8) % 3 == 0).float()  # black and white
XC = torch.zeros(5, 1, 4, 4)
NET = mlp.TimeMlp(2, (8,))
PREDICTOR = denoisers.NoisePredictor(NET, S)
TOY = ddpm.Ddpm(PREDICTOR, S, (2,), S.beta)
LINEAR = vae.linear_vae(2, 1)
GRAY, PLAIN = tiny_vae(), tiny()
LADDER = ladders.mlp_ladder((3, 2), (8, 8), image_shape=(1, 8, 8)).eval()
SCORES = score.NoiseConditionalScore(NET, [2.0, 1.0])
CLASSES, FACTORED = (
    ddpm.Ddpm(denoisers.NoisePredictor(network, S), S, (1, 4, 4), S.beta)
    for network in (
        unet.UNet((1, 4, 4), 4, (1,), 1, num_classes=3),
        unet.UNet((1, 4, 4), 4, (1,), 1, num_factors=2),
    )
)
UNET = unet.UNet((1, 4, 4), 4, (1,), 1)
VELOCITY = flows.Flow(NET, (2,))
MIXTURE = denoisers.gaussian_denoiser(S, torch.zeros(2), torch.eye(2))
FLOW = MIXTURE.score_at_level
A, Y, EYE = torch.eye(3)[:2], torch.zeros(5, 2), torch.eye(3)
SCENE = torch.zeros(1, 3, 32, 32)
MASK = torch.tensor([True, False])
CHAIN = linear_chain.LinearChain(torch.tensor([0.9, 0.5]), torch.tensor([0.3, 0.4]))
NARROW = Narrow()
HIDING = masked.MaskedDiffusion(NET, (2,), 4)
RUN = torch.optim.SGD(PLAIN.parameters(), 0.1)


def same(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """A denoiser without a network."""
    return x_t


def sub(value: float, x: torch.Tensor = X) -> torch.Tensor:
    """The tensor with this as its first number."""
    return x.flatten().index_fill(0, torch.tensor([0]), value).view_as(x)


def toy(reverse_var=S3.beta, denoiser=same, **options) -> ddpm.Ddpm:
    return ddpm.Ddpm(denoiser, S3, (2,), reverse_var, **options)


def measured(**changes) -> denoisers.Denoiser:
    given = dict(denoiser=same, schedule=S, A=A, y=Y, noise_std=0.1, cov=EYE)
    return guidance.posterior_denoiser(**given | changes)


def fit(batches=(IMAGES,), loss=autoencoder.reconstruction_loss, **options) -> training.Step:
    return next(training.fit(PLAIN, loss, batches, RUN, **options))


def ladder_of(code: int, *prior: int) -> hierarchical_vae.HierarchicalVae:
    """Two levels of 3 dimensions whose networks give these shapes."""

    class Zeros(nn.Module):
        def __init__(self, *shape):
            super().__init__()
            self.shape = shape

        def forward(self, x):
            return torch.zeros(len(x), *self.shape)

    bottom_up, evidence = [nn.Identity(), nn.Identity()], [Zeros(code), Zeros(6)]
    model = hierarchical_vae.HierarchicalVae
    return model(
        bottom_up, evidence, [Zeros(*prior)], nn.Identity(), distributions.bernoulli, [(3,), (3,)]
    )


SNR = S.snr


def wrong(x: torch.Tensor) -> list[tuple[object, str]]:
    """What is no batch of the model's data, and what is said of it."""
    return [
        (x[..., :-1], r"x must have shape \(batch, .*\); \(.*\) was given$"),
        (x[:0], r"x must have shape \(batch, .*\); \(0, .*\) was given$"),
        (x[0], "x must have shape"),
        ((255 * x).byte(), "x must be floating-point; torch.uint8 was given$"),
        (x.long(), "x must be floating-point; torch.int64 was given$"),
        (x > 0, "x must be floating-point; torch.bool was given$"),
        (x.double(), "x must have the precision of the model, torch.float32; torch.float64 was"),
        (sub(NAN, x), "x must be finite; an infinite value or a NaN was given$"),
        (sub(INF, x), "x must be finite; an infinite value or a NaN was given$"),
        (None, "x must be a tensor; None was given$"),
        (x.numpy(), "x must be a tensor; a ndarray was given$"),
    ]


# ------------------------------------------------------------------------------------- numbers that are refused


def whole(least: int, *, optional: bool = False) -> list[tuple[object, str]]:
    """What is no integer from `least` on, and what is said of it; None may stand for a default."""
    of_integers = [(v, f"be at least {least}; {v} was") for v in (least - 1, -10)]
    others = [least + 0.5, float(least), NAN, True, str(least), *([] if optional else [None])]
    return of_integers + [(v, f"be an integer, at least {least}; {v!r} was") for v in others]


def numbers(says: str, *values: float, optional: bool = False) -> list[tuple[object, str]]:
    """These numbers, and what is no number."""
    others = [["1"], "1", True, 1j, *([] if optional else [None])]
    return [(v, f"{says}; {v} was") for v in values] + [
        (v, f"be a number; {v!r} was") for v in others
    ]


POSITIVE = numbers("be positive and finite", 0.0, -1, NAN, INF)
NOT_NEGATIVE = numbers("not be negative, and be finite", -0.5, NAN, INF, -INF)


def between(low: float, high: float) -> list[tuple[object, str]]:
    return numbers(f"be above {low:g} and below {high:g}", low, high, NAN)


def within(low: float, high: float) -> list[tuple[object, str]]:
    return numbers(f"lie in [{low:g}, {high:g}]", low - 0.1, high + 0.1, NAN)


def doors(kind: list[tuple[object, str]], *calls: Callable[[object], object]) -> list[Case]:
    """Every call with every wrong value; what an error must call it is the name of the call's argument."""
    return [
        (partial(call, value), f"{call.__code__.co_varnames[0]} must {re.escape(says)}")
        for call in calls
        for value, says in kind
    ]


def of_data(x: torch.Tensor, *losses: Callable[..., object]) -> list[Case]:
    """Every function of a model and data, with what is no batch of the model's data."""
    return [(partial(loss, x=bad), says) for loss in losses for bad, says in wrong(x)]


MAPS = torch.zeros(2, 4, 8, 8)
READER = transformer.TextTransformer(num_words=9, max_words=6, width=16, word_width=16, blocks=1)

# What takes a model of one kind, and what takes a function: a module without `forward` is none.
A_MODEL: list[Callable[[Any], object]] = [
    lambda model: elbo.elbo_terms(model, X),
    lambda model: elbo.sample_log_weights(model, X, 2),
    lambda model: metrics.log_likelihood(model, X, 2),
    lambda model: autoencoder.contractive_loss(model, X),
    lambda model: ddpm.denoising_loss(model, X, S.snr),
    lambda model: ddpm.single_step_elbo(model, X),
    lambda model: guidance.classifier_free_loss(model, X, LABEL, S.snr),
    lambda model: masked.masked_step_elbo(model, X, T5),
    lambda model: refinement.in_finer_steps(model, X[0]),
    lambda model: bits_back.decode(bits_back.Message(), model),
]
A_FUNCTION: list[Callable[[Any], object]] = [
    lambda f: flows.Flow(f, (2,)),
    lambda f: mean_flows.MeanFlow(f, (2,)),
    lambda f: masked.MaskedDiffusion(f, (2,), 4),
    lambda f: score.NoiseConditionalScore(f, [2.0, 1.0]),
    lambda f: denoisers.NoisePredictor(f, S),
    lambda f: guidance.extrapolated(same, f, 2.0),
    lambda f: flows.flow_sample(f, X, [1, 0]),
    lambda f: score.langevin_sample(f, X, 0.1, 1),
    lambda f: autoencoder.Autoencoder(PLAIN, f),
    lambda f: mlp.normalized_mlp([2, 2], f),
    lambda f: mlp.normalized_mlp([2, 2], activation=f),
    lambda f: unet.UNet(embedding=f),
    lambda f: ladders.mlp_ladder((3, 2), (8, 8), combine=f),
    lambda f: training.fit(PLAIN, f, [IMAGES], RUN).__next__(),
]

# fmt: off
CASES: dict[str, list[Case]] = {
"checks": [
    *doors(whole(1), lambda num: checks.at_least(1, num=num), lambda b: checks.at_least(1, a=1, b=b)),
    *doors(POSITIVE, lambda std: checks.positive(std=std)),
    *doors(NOT_NEGATIVE, lambda beta: checks.not_negative(beta=beta)),
    *doors(within(0, 1), lambda eta: checks.in_range(0, 1, eta=eta)),
    *doors(between(0, 1), lambda share: checks.between(0, 1, share=share)),
    *((lambda f=f, x=x: f(x=x), f"x must {says} was given$") for f, x, says in (
        (partial(checks.sizes, 2), [3], r"hold at least 2 positive integers; \[3\]"),
        (partial(checks.sizes, 1), (3, 0), r"hold at least 1 positive integers; \[3, 0\]"),
        (partial(checks.sizes, 1), (3, 2.0), r"hold at least 1 positive integers; \[3, 2.0\]"),
        (partial(checks.sizes, 1), 3, "hold at least 1 positive integers; 3"),
        (partial(checks.shape, ("batch", 3)), X, r"have shape \(batch, 3\); \(5, 2\)"),
        (partial(checks.shape, ("batch", 2)), X[:0], r"have shape \(batch, 2\); \(0, 2\)"),
        (partial(checks.shape, ("num",)), X[0, 0], r"have shape \(num,\); \(\)"),
        (partial(checks.shape, ("num",)), [1], r"be a tensor; \[1\]"),
        (partial(checks.like, X), X[:1], r"have shape \(5, 2\); \(1, 2\)"),
        (partial(checks.like, X), X.double(), "have the dtype torch.float32; torch.float64"),
        (checks.floating, X.byte(), "be floating-point; torch.uint8"),
        (checks.floating, X.to(torch.complex64), "be a dense tensor of real numbers; a complex one"),
        (checks.floating, X.to_sparse(), "be a dense tensor of real numbers; a sparse one"),
        (checks.floating, torch.nested.nested_tensor([X[0]]), "be a dense tensor of real numbers; a nested one"),
        *((checks.integers, T5.to(d), f"hold integers, int64 or int32; {d}")
          for d in (torch.uint8, torch.int8, torch.int16, torch.bool, torch.float32)),
        *((checks.finite, sub(v), "be finite; an infinite value or a NaN") for v in (INF, -INF, NAN)),
        (partial(checks.within, 0, 1), sub(-0.25), r"lie in \[0, 1\]; -0.25 to 0"),
        (partial(checks.within, 0, 1), sub(1.25), r"lie in \[0, 1\]; 0 to 1.25"),
        (partial(checks.within, 0, 1), sub(NAN), r"lie in \[0, 1\]; nan to nan"),
        (partial(checks.precision, NET), X.double(), "have the precision of the model, torch.float32; torch.float64"),
        (partial(checks.precision, NET), X.to("meta"), "lie on the device of the model, cpu; meta"),
        (checks.numbers, "1", "hold numbers; '1'"),
        (checks.function, 3, "be a function; 3"),
        (partial(checks.instance, nn.Module), 3, "be a module of torch; 3"),
        *((partial(checks.one_of, ("a", "b")), v, f"be one of a, b; {v!r}") for v in ("c", "ab", "", 3)),
    )),
    *doors([*whole(0), (9, "lie in [0, 8]; 9 was")], lambda t: checks.whole(0, 8, t=t)),
    *doors(numbers("be below 2^64", 2**64)[:1], lambda seed: checks.seed(seed), lambda num: checks.at_least(1, num=num)),
    *((lambda d=d: checks.device(d), f"device must be one that torch knows, .* this machine has; {d!r} was given") for d in ("gpu", 1.5)),
    *((lambda v=v: checks.at_least(1, num=v), f"num must be an integer, at least 1; {says} was given$") for v, says in (
        (torch.ones(1).long(), "a Tensor"), (torch.tensor(True), "a Tensor"), (torch.tensor(3.0), "a Tensor"), (np.array(3), r"array\(3\)"), (np.bool_(True), "np.True_"))),
    *((lambda v=v: checks.positive(std=v), "std must be a number; .* was given$") for v in (
        10**400, b"1", np.array(1.0), np.array([1.0]), torch.ones(1), torch.tensor(True), np.bool_(True))),
    (lambda: checks.numbers(x=[10**400]), "x must hold numbers; a list was given"),
    *((lambda d=d: checks.precise(x=X.to(d)), f"x must be floating-point, of 32 or 64 bits; {d} was given")
      for d in (torch.float16, torch.bfloat16, torch.long)),
    (lambda: checks.examples(2, x=X[0]), r"x must have shape \(batch, ...\); \(2,\) was given"),
    *((lambda call=call, kind=kind: call(kind), r"model must be a \w+; an? \w+ was given")
      for call in A_MODEL for kind in (nn.Linear(2, 2), PREDICTOR, VELOCITY)),
    *((lambda call=call, kind=kind: call(kind), r"\w+(\(\))? must be a function(, such as that of the model| or a class)?; (None|a \w+) was given")
      for call in A_FUNCTION for kind in (None, TOY, nn.ModuleList())),
    (lambda: checks.like(X, x=X.to("meta")), "x must lie on cpu; meta was given"),
    (lambda: checks.event((2,), x=X[0, 0]), r"x must have shape \(2,\); \(\) was given"),
    (lambda: checks.examples(1, x=X[:0]), r"x must have shape \(batch, 2\); \(0, 2\) was given"),
    (lambda: checks.sizes(1, x_shape=b"\x02"), r"x_shape must hold at least 1 positive integers; b'\\x02' was given"),
    (lambda: checks.numbers(u=MASK), "u must hold numbers; a Tensor was given"),
],
"elbo": [
    *of_data(
        IMAGES,
        partial(elbo.elbo_terms, GRAY),
        partial(elbo.elbo_loss, GRAY),
        partial(elbo.sample_log_weights, GRAY, num_samples=2),
        partial(elbo.importance_weighted_loss, GRAY, num_samples=2),
    ),
    *doors(
        whole(1),
        lambda num_samples: elbo.importance_weighted_loss(GRAY, IMAGES, num_samples),
        lambda num_samples: elbo.sample_log_weights(GRAY, IMAGES, num_samples),
        lambda num_latents: type("Chain", (elbo.LatentChain,), dict(likelihood=same, posterior=same))((2,), num_latents),
        lambda num: GRAY.prior(num),
    ),
    *doors(
        NOT_NEGATIVE,
        lambda beta: elbo.elbo_loss(GRAY, IMAGES, beta=beta),
        lambda free_nats: elbo.elbo_loss(GRAY, IMAGES, free_nats=free_nats),
    ),
    (lambda: elbo.elbo_loss(GRAY, IMAGES / 2), "value must be 0 or 1; 0 to 0.5 was given"),
    (lambda: elbo.elbo_loss(GRAY, 255 * IMAGES), "value must be 0 or 1; 0 to 255 was given"),
    (lambda: elbo.elbo_loss(GRAY, IMAGES.flatten(1)), r"x must have shape \(batch, 1, 8, 8\); \(4, 64\)"),
    (lambda: type("Chain", (elbo.LatentChain,), dict(likelihood=same, posterior=same))((2,), 0), "num_latents must be at"),
    (lambda: elbo.elbo_terms(LINEAR, X.to("meta")), "x must lie on the device of the model, cpu; meta was given"),
    (lambda: elbo.elbo_loss(None, IMAGES), "model must be a LatentChain; None was given"),
    (lambda: elbo.sample_log_weights(nn.Linear(2, 2), X, 2), "model must be a LatentChain; a Linear was given"),
    (lambda: elbo.elbo_loss(nn.Linear(2, 2), X), "model must be a LatentChain; a Linear was given"),
    *((lambda f=f: f(type("Chain", (elbo.LatentChain,), dict(likelihood=same, posterior=same))), r"(latent|x)_shape must hold at least [01] positive integers")
      for f in (lambda kind: kind("ab"), lambda kind: kind((2.5,)), lambda kind: kind((-1,)), lambda kind: kind(None), lambda kind: kind((2,), 1, "ab"),
                lambda kind: kind((2,), 1, 5))),
],
"distributions": [
    *doors(
        POSITIVE,
        lambda std: distributions.diagonal_normal(X, std),
        lambda std: distributions.DiscretizedNormal(X, std),
    ),
    *doors(whole(2), lambda levels: distributions.DiscretizedNormal(X, 1.0, levels=levels)),
    *doors(
        between(-INF, INF),
        lambda high: distributions.DiscretizedNormal(X, 1.0, high=high),
        lambda low: distributions.DiscretizedNormal(X, 1.0, low=low),
    ),
    (lambda: distributions.diagonal_normal(X.long(), 1.0), "mean must be floating-point; torch.int64 was given"),
    (lambda: distributions.diagonal_normal(sub(NAN), 1.0), "mean must be finite"),
    (lambda: distributions.diagonal_normal(torch.tensor(0.0), 1.0), "mean must have a batch dimension first"),
    (lambda: distributions.diagonal_normal(X, sub(-1.0, X + 1)), "std must be positive and finite; -1 to 1 was given"),
    (lambda: distributions.diagonal_normal(X, sub(INF, X + 1)), "std must be positive and finite; 1 to inf was"),
    (lambda: distributions.diagonal_normal(X, torch.ones(3)), r"std must broadcast to mean's shape \(5, 2\); shape \(3,\)"),
    (lambda: distributions.bernoulli(torch.tensor(0.0)), "logits must have a batch dimension first"),
    (lambda: distributions.bernoulli(X.long()), "logits must be floating-point; torch.int64 was given"),
    (lambda: distributions.bernoulli(sub(NAN)), "logits must be finite"),
    (lambda: distributions.bernoulli(X).log_prob(sub(0.5)), "value must be 0 or 1; 0 to 0.5 was given"),
    (lambda: distributions.bernoulli(X).log_prob(sub(NAN)), "value must be 0 or 1; nan to nan was given"),
    (lambda: distributions.DiscretizedNormal(X, 1.0, 1.0, -1.0), "high must be above low; low=1.0 and high=-1.0 were"),
    *((lambda v=v: distributions.DiscretizedNormal(X, 1.0).log_prob(sub(v)), "value must lie on the 256 gray levels")
      for v in (1.1 / 255, 257 / 255, -257 / 255, NAN)),
    (lambda: distributions.DiscretizedNormal(X, 1.0).log_prob(X[:, :1]), r"value must have shape \(5, 2\)"),
    (lambda: distributions.DiscretizedNormal(X, 1.0).log_prob(None), "value must be a tensor; None was given"),
    *((lambda f=f, m=m, p=p: f(distributions.diagonal_normal(X, 1.0), m, p), says)
      for f in (distributions.normal_product, distributions.log_normalizer, distributions.evidence_alone)
      for m, p, says in (
        (X[:1], X, r"mean must have shape \(5, 2\); \(1, 2\) was given"),
        (X, X[:1], r"log_precision must have shape \(5, 2\); \(1, 2\) was given"),
        (X.byte(), X, "mean must have the dtype torch.float32; torch.uint8 was given"),
      )),
    (lambda: distributions.diagonal_normal(X, X.to(torch.complex64) + 1), "std must be a dense tensor of real numbers; a complex"),
    *((lambda f=f: f(5, X, X), "p must be a Normal; 5 was given") for f in (distributions.normal_product, distributions.log_normalizer)),
    (lambda: distributions.normal_product(distributions.bernoulli(X), X, X), "p must be a Normal; _Pixels"),
    *((lambda d=d: d.log_prob(X[:, :1]), r"value must have shape \(5, 2\); \(5, 1\) was given")
      for d in (distributions.diagonal_normal(X, 1.0), distributions.bernoulli(X))),
    *((lambda z=z, c=c: distributions.Carried(z, c), says) for z, c, says in (
        (None, X, "base_dist must be a Distribution; None was given"),
        (distributions.bernoulli(X), X[:4], r"carry must have shape \(5, 2\); \(4, 2\) was given"),
        (distributions.bernoulli(X), X[0], r"carry must have shape \(5,\); \(2,\) was given"),
        (distributions.bernoulli(X), X.long(), "carry must be floating-point; torch.int64 was given"),
    )),
    (lambda: distributions.log_normalizer(distributions.diagonal_normal(X, 1.0), sub(NAN), X), "mean must be finite"),
    (lambda: distributions.GaussianLikelihood(learned="no"), "learned must be a bool; 'no' was given"),
    (lambda: distributions.Carried(D.Normal(X[:, 0], 1.0), X), "the event shape of base_dist must hold at least 1 positive integers"),
    *((lambda v=v: distributions.Carried(distributions.diagonal_normal(X, 1.0), X).log_prob(v), rf"value must {says}") for v, says in (
        (X[:, :1], r"have shape \(5, 4\); \(5, 1\)"), (None, "be a tensor; None"))),
],
"vae": [
    *of_data(IMAGES, partial(vae.gray_cross_entropy_loss, GRAY)),
    *of_data(X, partial(vae.linear_vae_log_likelihood, LINEAR)),
    *doors(
        whole(1),
        lambda latent_dim: vae.Vae(PLAIN, PLAIN, distributions.bernoulli, latent_dim),
        lambda latent_dim: vae.mlp_vae(latent_dim),
        lambda latent_dim: vae.linear_vae(4, latent_dim),
        lambda dim: vae.linear_vae(dim, 1),
    ),
    *doors(
        POSITIVE,
        lambda std: distributions.GaussianLikelihood(std),
        lambda std: distributions.DiscretizedGaussianLikelihood(std),
    ),
    (lambda: vae.mlp_vae(2, (0,)), r"hidden must hold at least 0 positive integers; \[0\] was given"),
    (lambda: vae.mlp_vae(2, image_shape=28), "image_shape must hold at least 3 positive integers; 28 was given"),
    (lambda: vae.conv_vae(2, image_shape=(1, 27, 27)), r"image_shape must be \(channels, 28, 28\) or"),
    (lambda: vae.conv_vae(2, image_shape=(28, 28)), "image_shape must hold at least 3 positive integers"),
    (lambda: vae.Vae(nn.Linear(3, 5), PLAIN, same, 2).posterior(torch.zeros(7, 3)),
     r"encoder\(x\) must have shape \(7, 4\); \(7, 5\) was given"),
    (lambda: vae.linear_vae_log_likelihood(GRAY, IMAGES), "model must have a decoder nn.Linear and a GaussianLikelihood"),
    (lambda: vae.gray_cross_entropy_loss(GRAY, 2 * IMAGES - 1), r"x must lie in \[0, 1\]; -1 to 1 was given"),
    (lambda: GRAY.posterior(X), r"x must have shape \(batch, 1, 8, 8\); \(5, 2\) was given"),
    (lambda: GRAY.posterior(IMAGES.byte()), "x must be floating-point; torch.uint8 was given"),
    *((lambda z=z: GRAY.likelihood(z), says) for z, says in [
        (X[:, :1], r"z must have shape \(batch, 2\); \(5, 1\) was given"),
        (X[0], r"z must have shape \(batch, 2\); \(2,\) was given"),
        (X[:0], r"z must have shape \(batch, 2\); \(0, 2\) was given"),
        (X.long(), "z must be floating-point; torch.int64 was given"),
        (X.double(), "z must have the precision of the model, torch.float32; torch.float64 was given"),
        (None, "z must be a tensor; None was given"),
    ]),
    *((lambda model=model, num=num: model.prior(num), says) for model in (GRAY, LADDER, TOY) for num, says in [
        (-1, "num must be at least 1; -1 was given"),
        (0, "num must be at least 1; 0 was given"),
        (2.5, "num must be an integer, at least 1; 2.5 was given"),
        ("3", "num must be an integer, at least 1; '3' was given"),
    ]),
    (lambda: vae.gray_cross_entropy_loss(LADDER, IMAGES), "model must be a Vae; a HierarchicalVae was given"),
    (lambda: vae.linear_vae_log_likelihood(PLAIN, X), "model must be a Vae; an Autoencoder was given"),
    *((lambda f=f: f(5), r"(observation_model|mean) must be a function; 5 was given") for f in (
        lambda p: vae.mlp_vae(2, observation_model=p), lambda p: vae.conv_vae(2, observation_model=p), lambda p: vae.ConstantVariance(p, 2))),
    (lambda: vae.ConstantVariance(NARROW, -1), "latent_dim must be at least 1; -1 was given"),
    (lambda: vae.ConstantVariance(NARROW, 2)(X), r"mean\(x\) must have shape \(5, 2\); \(5, 1\) was given"),
    *((lambda shape=shape: vae.Vae(PLAIN, PLAIN, distributions.bernoulli, 2, shape), "x_shape must hold at least 1 positive integers") for shape in (5, (1, 0))),
    *((lambda f=f: vae.gray_cross_entropy_loss(vae.Vae(nn.Linear(2, 2), f, distributions.bernoulli, 1, (2,)), X), r"decoder\(z\) must have shape \(5, 2\)")
      for f in (nn.Linear(1, 1), Row())),
],
"hierarchical_vae": [
    (lambda: hierarchical_vae.HierarchicalVae([PLAIN], [PLAIN], [], PLAIN, same, [(2,), (2,)]),
     r"bottom_up, evidence and priors must hold 2, 2 and 1 networks .*; \(1, 1, 0\) were given"),
    (lambda: hierarchical_vae.HierarchicalVae([], [], [], PLAIN, same, []),
     r"bottom_up, evidence and priors must hold .* latent_shapes, at least one; \(0, 0, 0\) were given"),
    (lambda: ladder_of(5, 6).inner(1, X_3, X, X), r"evidence\[0\]\(features\) must have shape \(5, 6\); \(5, 5\) was given"),
    (lambda: ladder_of(6, 5).inner_prior(1, X_3), r"priors\[0\] must give shape \(batch, 6 or more\), .* it gave \(5, 5\)"),
    (lambda: ladder_of(6, 6, 2).inner_prior(1, X_3), r"priors\[0\] must give shape \(batch, 6 or more\), .*\(5, 6, 2\)"),
    *((lambda t=t: ladder_of(6, 6).inner_prior(t, X), rf"t must (lie in \[1, 1\]|be at least 1); {t} was given") for t in (0, 2, -1)),
    (lambda: ladder_of(6, 6).inner_prior("1", X), "t must be an integer, at least 1; '1' was given"),
    (lambda: ladder_of(6, 6).posterior(X), r"features must be the 2 tensors of encode\(x\); 1 were given"),
    (lambda: elbo.elbo_loss(ladders.mlp_ladder((3,), (8,), image_shape=(1, 8, 8)), IMAGES[:1]),
     "x must hold at least 2 examples for a model with batch normalization in training mode; 1 was given"),
    *((lambda z=z: LADDER.inner_prior(1, z), says) for z, says in (
        (None, "z_above must be a tensor; None was given"),
        (X.long(), "z_above must be floating-point; torch.int64 was given"),
        (X.double(), "z_above must have the precision of the model, torch.float32; torch.float64 was given"),
        (X[:, :1], r"z_above must have shape \(batch, 2 or more\); \(5, 1\) was given"),
        (X[0], r"z_above must have shape \(batch, 2 or more\); \(2,\) was given"),
        (X[:0], r"z_above must have shape \(batch, 2 or more\); \(0, 2\) was given"),
    )),
    (lambda: LADDER.inner_prior(1.0, X), "t must be an integer, at least 1; 1.0 was given"),
    (lambda: LADDER.inner(1, X, *LADDER.encode(IMAGES)), r"features must have shape \(5, 8\); \(4, 8\) was given"),
    (lambda: LADDER.inner(1, X, None, None), "features must be a tensor; None was given"),
    *((lambda given=given: hierarchical_vae.HierarchicalVae(*given), says) for given, says in (
        ((None, None, None, PLAIN, same, [(2,)]), "bottom_up must be a Iterable; None"), (([PLAIN], [PLAIN], [], PLAIN, same, 5), "latent_shapes must be a Iterable; 5"),
        (([same], [PLAIN], [], PLAIN, same, [(2,)]), r"bottom_up\[0\] must be a module"), (([PLAIN], ["a"], [], PLAIN, same, [(2,)]), r"evidence\[0\] must be a module"))),
    *((lambda x=x: LADDER.encode(x), f"x must {says}") for x, says in (
        (X, r"have shape \(batch, 1, 8, 8\); \(5, 2\)"), (None, "be a tensor; None"), (IMAGES.byte(), "be floating-point; torch.uint8"))),
],
"ladders": [
    *of_data(IMAGES, partial(elbo.elbo_loss, LADDER)),
    *doors(
        whole(1),
        lambda latent_dim: ladders.conv_ladder(latent_dim=latent_dim),
        lambda latent_channels: ladders.conv_ladder(latent_channels=latent_channels),
        lambda num: LADDER.prior(num),
    ),
    (lambda: LADDER.likelihood(X), r"z_1 must have shape \(batch, 3 or more\); \(5, 2\) was given"),
    (lambda: LADDER.likelihood(torch.zeros(5, 3, 1)), r"z_1 must have shape \(batch, 3 or more\); \(5, 3, 1\) was"),
    (lambda: LADDER.likelihood(torch.zeros(5, 3).long()), "z_1 must be floating-point; torch.int64 was given"),
    (lambda: ladders.mlp_ladder((4, 2), (8,)), "latent_dims and hidden must hold one number for each level"),
    (lambda: ladders.mlp_ladder((4, 0), (8, 8)), r"latent_dims must hold at least 1 positive integers; \[4, 0\]"),
    (lambda: ladders.mlp_ladder((4, 2), (8, 0)), r"hidden must hold at least 1 positive integers; \[8, 0\]"),
    (lambda: ladders.mlp_ladder((4,), (8,), image_shape=(1, 8, "8")), "image_shape must hold at least 3"),
    (lambda: ladders.conv_ladder(levels=()), r"levels must hold at least 1 positive integers; \[\] was given"),
    (lambda: ladders.conv_ladder(channels=(8,)), r"channels must hold 2 numbers, .* at least 2; \[8\] was given"),
    (lambda: ladders.conv_ladder(channels=(8, 1)), r"channels must hold 2 numbers, .* at least 2; \[8, 1\] was given"),
    (lambda: ladders.conv_ladder(channels=(8, 1.5)), "channels must hold at least 1 positive integers"),
    *((lambda shape=shape: ladders.conv_ladder(image_shape=shape), "image_shape must have sides that 4 divides")
      for shape in ((1, 28, 30), (1, 30, 28))),
    (lambda: ladders.mlp_ladder((4,), (8, 8)), "latent_dims and hidden must hold one number for each level"),
    (lambda: ladders.TopDown(NARROW, 5, NARROW), "block must be a function; 5 was given"),
    *((lambda num=num: ladders.Merge(num, 2), "num_latents must be ") for num in (0, -1, "a")),
    (lambda: ladders.mlp_ladder((3,), (8,), activation=lambda: 5), r"activation\(\) must be a module of torch; 5 was given"),
],
"bits_back": [
    (lambda: bits_back.compress(GRAY, IMAGES / 2), "x must be 0 or 1 everywhere"),
    (lambda: bits_back.compress(GRAY, IMAGES, num_bits=0), "num_bits must be at least 1"),
    (lambda: bits_back.decompress(GRAY, b"", 0), "num must be at least 1"),
    (lambda: bits_back.Message(-1), "state must be at least 0"),
    (lambda: bits_back.compress(LADDER, IMAGES), "model must have one latent; num_latents is 2"),
    *((lambda value=value: bits_back.Message().push([0, 1 << 24, 1 << 24], value), "value must be one of 2 that have slots")
      for value in (-1, 1, 2)),
    *((lambda bad=bad: bits_back.Message().push([0, 1 << 24], bad), "value must be a int; .* was given") for bad in ("a", 0.5, None)),
    *((lambda f=f: f(None), "starts must be a Sequence; None was given") for f in (lambda starts: bits_back.Message().push(starts, 0), bits_back.Message().pop)),
    *((lambda bad=bad: bits_back.Message((1 << 30) + (1 << 23)).pop(bad), r"starts must begin at 0 and end at 2\^24; none of it holds slot 8388608")
      for bad in ([], [0, 1 << 20], [1 << 23, 1 << 24][1:])),
    (lambda: bits_back.Message(3).pop([5, 1 << 24]), r"starts must begin at 0 and end at 2\^24; none of it holds slot 3"),
    (lambda: bits_back.encode(bits_back.Message(1 << 99), linear_chain.LinearChain(X[0, :1], X[0, :1] + 1), X[0, :1]), r"p\(x\|z\) must be a Bernoulli; Normal"),
    (lambda: bits_back.encode(bits_back.Message(1 << 99), masked.MaskedDiffusion(NET, (2,), 1), X[0]), r"q\(z\|x\) must be a Normal; .*Symbols"),
    *((lambda change=change: bits_back.decompress(GRAY, **change(dict(file=bits_back.compress(GRAY, IMAGES), num=4))), r"file must hold \d examples, coded by this model")
      for change in (lambda given: given | {"file": b""}, lambda given: given | {"file": given["file"][:-7]}, lambda given: given | {"file": given["file"] + b"0"},
                     lambda given: given | {"num": 2}, lambda given: given | {"num": 9}, lambda given: given | {"seed": 1}, lambda given: given | {"num_bits": 9})),
],
"linear_chain": [
    (lambda: linear_chain.LinearChain(X[0, :0], X[0, :0]), r"a must have shape \(num_latents,\)"),
    (lambda: linear_chain.LinearChain(X[0], X[0, :1]), r"s must have shape \(2,\); \(1,\) was given"),
    (lambda: linear_chain.LinearChain(X[0], X[0].double()), "s must have the dtype torch.float32"),
    (lambda: linear_chain.LinearChain(X[0], X[0] + 1, EYE[:2]), r"C must have shape \(3, 3\); \(2, 3\) was given"),
    *((lambda s=s: linear_chain.LinearChain(X[0], s + X[0]), "s must be positive and finite") for s in (-1, 0, INF)),
    *((lambda C=C: linear_chain.LinearChain(X[0], X[0] + 1, C), "C must be a covariance")
      for C in (-EYE, torch.tensor([[1.0, 2, 0], [0, 1, 0], [0, 0, 1]]), torch.tensor([[1.0, 2, 0], [2, 1, 0], [0, 0, 1]]))),
    (lambda: CHAIN.inner_prior(2, X[:, :1]), r"t must lie in \[0, 1\]; 2 was given"),
    (lambda: CHAIN.inner_posterior(2, X[:, :1], X[:, :1]), r"t must lie in \[1, 1\]; 2 was given"),
    (lambda: linear_chain.linear_covariance(X[0], X[0]), r"B must have shape \(2, 2\); \(2,\) was given"),
    (lambda: linear_chain.linear_covariance(EYE.long(), T5[:3]), "noise_var must be floating-point"),
    (lambda: linear_chain.regress(EYE, 3, [0]), r"t must lie in \[0, 2\]; 3 was given"),
    *((lambda given=given: linear_chain.regress(EYE, 1, given), "given must hold indices from 0 to 2 without t=1")
      for given in ([1], [-1], [3])),
    (lambda: CHAIN.inner_posterior(0, X[:, :1], X[:, :1]), "t must be at least 1; 0 was given"),
    (lambda: CHAIN.inner_prior(-1, X[:, :1]), "t must be at least 0; -1 was given"),
    *((lambda call=call, x=x: call(x), f"{call.__code__.co_varnames[0]} must {says} was given")
      for call in (lambda z_above: CHAIN.inner_prior(0, z_above), lambda z_above: CHAIN.inner_posterior(1, z_above, X[:, :1]),
                   lambda x: CHAIN.inner_posterior(1, X[:, :1], x), lambda x: CHAIN.posterior(x))
      for x, says in ((X, r"have shape \(batch, 1\); \(5, 2\)"), (X[:, :1].long(), "be floating-point; torch.int64"), (None, "be a tensor; None"))),
    (lambda: CHAIN.inner_posterior(1, X[:, :1], X[:1, :1]), r"x must have shape \(5, 1\); \(1, 1\) was given"),
    (lambda: linear_chain.linear_covariance(0 * EYE, -EYE[0]), r"noise_var must lie in \[0, inf\]; -1 to -0 was given"),
    *((lambda C=C: linear_chain.regress(C, 0, [1]), "C must be a covariance; one that is not") for C in (EYE.cumsum(0), -EYE, EYE / 0)),
    *((lambda C=C: linear_chain.regress(C, 0, [1]), "C must be ") for C in (EYE.long(), EYE.to(torch.complex64), None)),
    (lambda: linear_chain.regress(EYE, 1.5, [0]), "t must be an integer, at least 0; 1.5 was given"),
    *((lambda v=v: linear_chain.regress(EYE, 1, v), "given must hold ") for v in ([0, 0], ["0"], None)),
    (lambda: linear_chain.linear_covariance(NAN * EYE, EYE[0]), "B must be finite"),
    (lambda: linear_chain.linear_covariance(0 * EYE, EYE[0] + INF), "noise_var must be finite"),
    (lambda: linear_chain.linear_covariance(EYE, EYE[0]), "B must leave I - B invertible"),
    (lambda: linear_chain.linear_covariance(0 * EYE.half(), EYE[0].half()), "noise_var must be floating-point, of 32 or 64 bits; torch.float16"),
    (lambda: linear_chain.LinearChain(EYE[0].half(), EYE[0].half()), "a must be floating-point, of 32 or 64 bits; torch.float16"),
    (lambda: linear_chain.LinearChain(X[0] + NAN, X[0] + 1), "a must be finite"),
    *((lambda bad=bad: linear_chain.regress(EYE, 1, bad), rf"given must {says}") for bad, says in (
        (0, r"have shape \(1,\); \(\) was"), ([[0]], r"have shape \(1,\); \(1, 1\) was"), (MASK[:1], "hold numbers; a Tensor"))),
    (lambda: linear_chain.regress(0 * EYE + 1, 0, [1, 2]), "C must not be singular for the variables given"),
],
"autoencoder": [
    *of_data(
        IMAGES,
        partial(autoencoder.reconstruction_loss, PLAIN),
        partial(autoencoder.denoising_reconstruction_loss, PLAIN),
        partial(autoencoder.contractive_loss, PLAIN),
        partial(autoencoder.robust_loss, PLAIN),
        partial(autoencoder.worst_perturbation, PLAIN, radius=1.0),
        partial(autoencoder.jacobian_norm, PLAIN),
    ),
    *doors(
        NOT_NEGATIVE,
        lambda noise_std: autoencoder.denoising_reconstruction_loss(PLAIN, IMAGES, noise_std),
        lambda weight: autoencoder.contractive_loss(PLAIN, IMAGES, weight),
    ),
    *doors(
        POSITIVE,
        lambda radius: autoencoder.robust_loss(PLAIN, IMAGES, radius),
        lambda radius: autoencoder.worst_perturbation(PLAIN, IMAGES, radius),
    ),
    *doors(
        whole(0),
        lambda num_steps: autoencoder.robust_loss(PLAIN, IMAGES, num_steps=num_steps),
        lambda num_steps: autoencoder.worst_perturbation(PLAIN, IMAGES, 1.0, num_steps),
    ),
    *doors(
        whole(1),
        lambda dim: autoencoder.linear_autoencoder(dim, 2),
        lambda latent_dim: autoencoder.linear_autoencoder(4, latent_dim),
        lambda latent_dim: autoencoder.conv_autoencoder(latent_dim=latent_dim),
        lambda channels: autoencoder.conv_autoencoder(channels=channels),
        lambda latent_dim: autoencoder.pca_autoencoder(X, latent_dim),
        lambda num: autoencoder.dct_matrix(num),
        lambda keep: autoencoder.DctAutoencoder(8, keep),
        lambda side: autoencoder.DctAutoencoder(side, 2),
    ),
    (lambda: autoencoder.squared_error(X[:, :1], X), r"x_hat must have shape \(5, 2\); \(5, 1\) was given"),
    (lambda: autoencoder.squared_error(X[0], X[0]), r"x must have shape \(batch, ...\); \(2,\) was given"),
    (lambda: autoencoder.squared_error(X.byte(), X.byte()), "x must be floating-point; torch.uint8 was given"),
    (lambda: autoencoder.squared_error(None, X), "x_hat must be a tensor; None was given"),
    (lambda: autoencoder.mlp_autoencoder(0), "latent_dim must be at least 1; 0 was given"),
    (lambda: autoencoder.conv_autoencoder(image_shape=(1, 30, 30)), r"image_shape must be .*\(1, 30, 30\) was given"),
    (lambda: autoencoder.conv_autoencoder(image_shape=(0, 28, 28)), "image_shape must hold at least 3 positive"),
    (lambda: autoencoder.pca_autoencoder(X[0], 1), r"x must have shape \(num, dim\); \(2,\) was given"),
    (lambda: autoencoder.pca_autoencoder(X.long(), 1), "x must be floating-point, of 32 or 64 bits; torch.int64 was given"),
    (lambda: autoencoder.pca_autoencoder(sub(NAN), 1), "x must be finite"),
    (lambda: autoencoder.pca_autoencoder(X, 3), r"latent_dim must lie in \[1, 2\]; 3 was given"),
    (lambda: autoencoder.DctAutoencoder(8, 9), r"keep must lie in \[1, 8\]; 9 was given"),
    (lambda: autoencoder.DctAutoencoder(8, 2)(IMAGES[..., :7]), r"x must have shape \(batch, 1, 8, 8\); \(4, 1, 8, 7\)"),
    (lambda: autoencoder.DctAutoencoder(8, 2)(IMAGES.byte()), "x must be floating-point; torch.uint8 was given"),
    (lambda: autoencoder.jacobian_norm(GRAY, IMAGES), "model must be a Autoencoder; a Vae was given"),
    (lambda: autoencoder.pca_autoencoder(X.half(), 1), "x must be floating-point, of 32 or 64 bits; torch.float16 was"),
    *((lambda shape=shape: autoencoder.Autoencoder(PLAIN, PLAIN, shape), "x_shape must hold at least 1 positive integers") for shape in (5, (1, 0))),
    *((lambda x=x: PLAIN.encode(x), f"x must {says}") for x, says in (
        (X, r"have shape \(batch, 1, 8, 8\); \(5, 2\)"), (None, "be a tensor; None"), (IMAGES.byte(), "be floating-point; torch.uint8"))),
    *((lambda z=z: PLAIN.decode(z), f"z must {says}") for z, says in ((None, "be a tensor; None"), (X.double(), "have the precision of the model"))),
    *((lambda z=z: autoencoder.DctAutoencoder(8, 2).decode(z), f"z must {says}") for z, says in (
        (X, r"have shape \(batch, 4\); \(5, 2\)"), (None, "be a tensor; None"), (X.long(), "be floating-point"))),
],
"mlp": [
    *doors(whole(1), lambda dim: mlp.TimeMlp(dim, (8,))),
    *doors(whole(4), lambda width: mlp.TimeMlp(2, (8,), width=width)),
    (lambda: mlp.mlp([3]), r"sizes must hold at least 2 positive integers; \[3\] was given"),
    (lambda: mlp.normalized_mlp([3, 0]), r"sizes must hold at least 2 positive integers; \[3, 0\] was given"),
    (lambda: mlp.TimeMlp(2, ()), "hidden must hold at least 1 positive integers"),
    (lambda: mlp.TimeMlp(2, (8,), width=6), "width must be a multiple of 4; 6 was given"),
    (lambda: NET(X, T5[:2]), r"t must have shape \(5,\); \(2,\) was given"),
    (lambda: NET(X[:, :1], T5), r"x_t must have shape \(batch, 2\); \(5, 1\) was given"),
    (lambda: NET(X.double(), T5), "x_t must have the precision of the model, torch.float32; torch.float64 was given"),
    (lambda: NET(X.long(), T5), "x_t must be floating-point; torch.int64 was given"),
    (lambda: NET(X, 3), "t must be a tensor; 3 was given"),
    (lambda: mlp.TimeMlp(2, (8,), num_factors=1)(X, T5), "factors must be given to a network with num_factors"),
    (lambda: NET(X, T5, X[:, :1]), "factors must be given to a network with num_factors, and to no other; .* has None"),
    (lambda: mlp.TimeMlp(2, (8,), num_factors=1)(X, T5, X), r"factors must have shape \(5, 1\); \(5, 2\) was given"),
    (lambda: mlp.TimeMlp(2, (8,), num_factors=1)(X, T5, X[:, :1].double()), "factors must have the precision of the model"),
    (lambda: mlp.mlp([2, 2], lambda: 5), r"activation\(\) must be a module of torch; 5 was given"),
    *((lambda f=f: f(nn.SiLU()), r"\w+ must be a function or a class; a SiLU was given") for f in (
        lambda made: mlp.mlp([2, 2], made), lambda made: mlp.normalized_mlp([2, 2], made), lambda made: mlp.normalized_mlp([2, 2], activation=made),
        lambda made: unet.Block(8, 0, 4, made), lambda made: unet.UNet(embedding=made), lambda made: unet.UNet(conditioning=made))),
    (lambda: NET(X, T5 > 0), "t must hold numbers; a Tensor was given"),
    (lambda: residual.Residual(None), "branch must be a module of torch; None was given"),
    *doors(between(-INF, INF), lambda scale: residual.Residual(nn.Identity(), scale)),
    *doors(whole(1), lambda num_in: residual.bottleneck(num_in, 2, 4), lambda num_mid: residual.bottleneck(4, num_mid, 4),
           lambda num_out: residual.bottleneck(4, 2, num_out)),
    (lambda: mlp.normalized_mlp([2, 2], lambda n: 5), r"norm\(size\) must be a module of torch; 5 was given"),
    *((lambda bad=bad: residual.start_at_zero(bad), says) for bad, says in (
        (None, "network must be a Sequential; None"), (NARROW, "network must be a Sequential; a Narrow"), (nn.Sequential(), "layers must be at least 1; 0"))),
],
"transformer": [
    *doors(whole(1), lambda width: transformer.VectorAttention(width), lambda heads: transformer.VectorAttention(8, heads),
           lambda blocks: transformer.TextTransformer(blocks=blocks), lambda patch: transformer.TextTransformer(patch=patch),
           lambda max_words: transformer.TextTransformer(max_words=max_words)),
    (lambda: transformer.VectorAttention(8, 3), "heads must divide width, 8; 3 was given"),
    (lambda: transformer.TextTransformer(patch=3), r"patch must divide the sides, \(8, 8\); 3 was given"),
    *((lambda f=f, bad=bad: f(bad), "width must be an integer, at least 1") for bad in (None, "8") for f in (
        transformer.WordBlock, lambda width: transformer.PatchBlock(width, 8))),
    *((lambda x=x, t=t, label=label: READER(x, t, label), says) for x, t, label, says in (
        (torch.zeros(2, 4, 8, 4), torch.ones(2), None, r"x_t must have shape \(batch, 4, 8, 8\); \(2, 4, 8, 4\) was given"),
        (MAPS.double(), torch.ones(2), None, "x_t must have the precision of the model, torch.float32; torch.float64 was given"),
        (MAPS, torch.ones(3), None, r"t must have shape \(2,\); \(3,\) was given"),
        (MAPS, torch.ones(2), torch.ones(2, 5).long(), r"label must have shape \(batch, 6\); \(2, 5\) was given"),
        (MAPS, torch.ones(2), torch.ones(2, 6), "label must hold integers"),
        (MAPS, torch.ones(2), torch.full((2, 6), 10), r"label must lie in \[0, 9\]; 10 to 10 was given"),
        (MAPS, torch.ones(2), torch.ones(1, 6).long(), r"label must have shape \(2, 6\); \(1, 6\) was given"),
    )),
    (lambda: transformer.TextTransformer((4, 8, 8, 8)), r"image_shape must be \(channels, height, width\), .*; \(4, 8, 8, 8\) and 160 were given"),
    (lambda: transformer.TextTransformer(width=6, heads=2), r".* width a multiple of 4; \(4, 8, 8\) and 6 were given"),
],
"unet": [
    *doors(whole(4), lambda channels: unet.UNet(channels=channels)),
    *doors(
        whole(1),
        lambda blocks: unet.UNet(blocks=blocks),
        lambda heads: unet.Attention(8, heads=heads),
    ),
    *doors(whole(1, optional=True), lambda num_classes: unet.UNet(num_classes=num_classes)),
    (lambda: unet.UNet((1, 30, 30)), r"image_shape must be .* with sides that 4 divides, .*; \(1, 30, 30\) was given"),
    (lambda: unet.UNet((1, 28, 14)), r"image_shape must be .* sides that 4 divides, .*; \(1, 28, 14\) was given"),
    (lambda: unet.UNet((1, 7, 7), multipliers=(1, 2)), "image_shape must be .* sides that 2 divides"),
    (lambda: unet.UNet((28, 28)), r"image_shape must hold at least 3 positive integers; \[28, 28\] was given"),
    (lambda: unet.UNet(channels=30), "channels must be a multiple of 4; 30 was given"),
    (lambda: unet.UNet(multipliers=()), r"multipliers must hold at least 1 positive integers; \[\] was given"),
    (lambda: unet.UNet(attention_sides=(7, 8)), r"attention_sides must be among .*, \[28, 14, 7\]; \[7, 8\] was given"),
    (lambda: unet.Attention(8, heads=3), "heads must divide num_channels, 8; 3 was given"),
    (lambda: UNET(XC[..., :3], T5), r"x_t must have shape \(batch, 1, 4, 4\); \(5, 1, 4, 3\) was given"),
    (lambda: UNET(XC, T5[:3]), r"t must have shape \(5,\); \(3,\) was given"),
    (lambda: UNET(XC.byte(), T5), "x_t must be floating-point; torch.uint8 was given"),
    (lambda: UNET(XC.double(), T5), "x_t must have the precision of the model"),
    (lambda: UNET(XC, T5, LABEL), "label must be left out of a network without num_classes; one was given"),
    *((lambda label=label: CLASSES.denoiser.network(XC, T5, label), says) for label, says in [
        (LABEL[:1], r"label must have shape \(5,\); \(1,\) was given"),
        (torch.tensor(1), r"label must have shape \(5,\); \(\) was given"),
        (LABEL + 2, r"label must lie in \[0, 3\]; 2 to 4 was given"),
        (LABEL - 1, r"label must lie in \[0, 3\]; -1 to 1 was given"),
        (LABEL.float(), "label must hold integers, int64 or int32; torch.float32 was given"),
        (LABEL > 0, "label must hold integers, int64 or int32; torch.bool was given"),
        (LABEL.byte(), "label must hold integers, int64 or int32; torch.uint8 was given"),
    ]),
    (lambda: FACTORED.denoiser.network(XC, T5, torch.zeros(5, 3)), r"factors must have shape \(5, 2\); \(5, 3\) was given"),
    (lambda: unet.UNet((1, 4, 4), num_classes=3, num_factors=2), "num_classes or num_factors must be left out"),
    *doors(whole(4), lambda num_channels: unet.group_norm(num_channels)),
    *((lambda v=v: unet.UNet(attention_sides=v), "attention_sides must hold at least 0 positive integers") for v in (5, None, [[8]])),
    (lambda: unet.UNet((1, 4, 4), 4, (1,), embedding=lambda d: 5), r"embedding\(channels\) must be a module of torch; 5 was given"),
    (lambda: unet.UNet((1, 4, 4), 4, (1,), conditioning=lambda a, b: 5), r"conditioning\(.*\) must be a module of torch; 5 was given"),
    (lambda: unet.Block(8, -1, 4), "num_skip must be at least 0; -1 was given"),
    (lambda: unet.Block(8, 0, 4, None), "conditioning must be a function or a class; None was given"),
    (lambda: unet.ShiftedNorm(8, -1), "num_embedding must be at least 1; -1 was given"),
    (lambda: unet.AdaptiveNorm(8, None), "num_embedding must be an integer, at least 1; None was given"),
    *((lambda f=f, bad=bad: f(bad), f"num_\\w+ must be an integer, at least 1; {bad!r} was given") for bad in (None, "8") for f in (
        unet.Attention, lambda num: unet.conv(num, 3), lambda num: unet.shrink(num, 3), lambda num: unet.grow(num, 3))),
],
"classifier": [
    (lambda: classifier.DigitClassifier()(IMAGES), r"x must have shape \(batch, 1, 28, 28\); \(4, 1, 8, 8\) was given"),
    *doors(whole(1), lambda num_features: classifier.DigitClassifier(num_features)),
    *doors(whole(1), lambda num_blocks: classifier.ResidualDigitClassifier(num_blocks=num_blocks)),
    (lambda: classifier.AttributeReader([]), "sizes must hold at least 1 positive integers"),
    (lambda: classifier.AttributeReader([2], widths=(4, 4)), "widths must hold at least 3 positive integers"),
    (lambda: classifier.AttributeReader([2])(IMAGES), r"x must have shape \(batch, 3, 32, 32\); \(4, 1, 8, 8\) was given"),
    (lambda: classifier.DigitClassifier(widths=(16, 32)), "widths must hold at least 3 positive integers"),
    (lambda: classifier.DigitClassifier(widths=(4,) * 4), r"number of widths must lie in \[3, 3\]; 4 was given"),
],
"interpolation": [
    (lambda: interpolation.spherical_interpolation(X + 1, X[:, :1], X[0]), r"end must have shape \(5, 2\); \(5, 1\) was"),
    (lambda: interpolation.spherical_interpolation(X + 1, X + 2, X[0]), "start and end .* different, .* from 1 to 1"),
    (lambda: interpolation.spherical_interpolation(X + 1, -X - 1, X[0]), "start and end .* opposite .* -1 to -1"),
    (lambda: interpolation.spherical_interpolation(X, X + 1, X[0]), "start and end must point in different"),
    *((lambda a=a, b=b: interpolation.spherical_interpolation(a, b, X[0]), "start and end must point in different")
      for a, b in itertools.permutations([EYE[:, :2], 1 - EYE[:, :2]])),  # one of three is zero
    (lambda: interpolation.spherical_interpolation(X + 1, None, X[0]), "end must be a tensor; None was given"),
    (lambda: interpolation.spherical_interpolation(sub(NAN), X + 1, X[0]), "start must be finite"),
    (lambda: interpolation.spherical_interpolation(X.long(), X.long(), X[0]), "start must be floating-point; torch.int64 was"),
    (lambda: interpolation.spherical_interpolation(X + 1, X.double(), X[0]), "end must have the dtype torch.float32"),
    (lambda: interpolation.spherical_interpolation(X + 1, -X, 0.5), "share must be a tensor; 0.5 was given"),
    (lambda: interpolation.path_length_ratio(sub(NAN)), "points must be finite"),
    (lambda: interpolation.path_length_ratio(X[0]), r"points must have shape \(steps, ...\); \(2,\) was given"),
    (lambda: interpolation.path_length_ratio(X[:1]), "points must be at least two, with different first and last"),
    (lambda: interpolation.path_length_ratio(X), "points must be at least two, with different first and last"),
    (lambda: interpolation.path_length_ratio([0, 1]), r"points must be a tensor; \[0, 1\] was given"),
    *((lambda v=v: interpolation.spherical_interpolation(X + EYE[0, :2], X + EYE[1, :2], torch.tensor([v])), f"share must {says}")
      for v, says in ((NAN, "be finite"), (INF, "be finite"), (True, "hold numbers"))),
],
"schedule": [
    *doors(
        whole(1),
        lambda T: schedule.linear_schedule(T),
        lambda T: schedule.cosine_schedule(T),
        lambda t: S.reverse_coefficients(t),
        lambda num: S.trailing(num),
    ),
    *doors(
        between(0, 1),
        lambda beta_1: schedule.linear_schedule(10, beta_1),
        lambda beta_T: schedule.linear_schedule(10, 1e-2, beta_T),
        lambda max_beta: schedule.cosine_schedule(10, max_beta=max_beta),
    ),
    *doors(NOT_NEGATIVE, lambda s: schedule.cosine_schedule(10, s=s)),
    *doors(
        whole(0),
        lambda s: S.forward_coefficients(s, 4),
        lambda t: S.forward_coefficients(0, t),
        lambda t: schedule.add_noise(S, X, t, X),
    ),
    *doors(whole(2), lambda num: S.evenly(num)),
    (lambda: schedule.Schedule.from_betas([0.1]), r"betas must be a tensor; \[0.1\] was given"),
    (lambda: schedule.Schedule.from_betas(X), r"betas must have shape \(num_steps,\); \(5, 2\) was given"),
    (lambda: schedule.Schedule.from_betas(torch.tensor([0.1, 1.5])), "betas must be above 0 and below 1; 0.1 to 1.5 was"),
    (lambda: schedule.Schedule.from_betas(torch.tensor([0, 1])), "betas must be above 0 and below 1; 0 to 1 was given"),
    (lambda: schedule.Schedule.from_betas(torch.tensor([NAN])), "betas must be above 0 and below 1; nan to nan was"),
    (lambda: schedule.Schedule(torch.tensor([-0.1, -0.2])), "log_alpha_bar must start at 0, fall, .*2 entries, -0.2 to -0.1"),
    (lambda: schedule.Schedule(torch.tensor([0.0, -1.0, -1.0])), "log_alpha_bar must start at 0, fall"),
    (lambda: schedule.Schedule(torch.tensor([0.0])), "log_alpha_bar .* two entries at least; 1 entries, 0, were given"),
    (lambda: schedule.Schedule(X), r"log_alpha_bar must have shape \(times,\)"),
    (lambda: schedule.Schedule(torch.tensor([0.0, -INF])), "log_alpha_bar must be finite"),
    (lambda: schedule.Schedule(torch.tensor([0, -1])), "log_alpha_bar must be floating-point; torch.int64 was given"),
    (lambda: schedule.Schedule(torch.tensor([0.0, -1.0]), torch.arange(3)), r"times must have shape \(2,\); \(3,\) was"),
    (lambda: schedule.Schedule(torch.tensor([0.0, -1.0]), torch.ones(2)), "times must hold integers, int64 or int32; torch.float32 was"),
    (lambda: S.reverse_coefficients(21), r"t must lie in \[1, 20\]; 21 was given"),
    (lambda: S.forward_coefficients(5, 4), "s must not be after t; s=5 and t=4 were given"),
    (lambda: S.forward_coefficients(0, torch.ones(2)), "t must hold integers, int64 or int32; torch.float32 was given"),
    (lambda: S.reverse_coefficients(T5.byte()), "t must hold integers, int64 or int32; torch.uint8 was given"),
    *((lambda convert=convert: convert(S, X, T5, X[:1]), r"\w+ must have shape \(5, 2\); \(1, 2\) was given") for convert in (
        schedule.x_0_from_noise, schedule.noise_from_x_0, schedule.x_0_from_v, schedule.v_from_x_0,
        schedule.score_from_x_0, schedule.mean_from_x_0,
    )),
    (lambda: schedule.x_0_from_v(S, X, T5[:1], X), r"t must have shape \(5,\); \(1,\) was given"),
    (lambda: schedule.add_noise(S, X, T5.byte(), X), "t must hold integers, int64 or int32; torch.uint8 was given"),
    (lambda: S.strided([]), r"times must have shape \(num_steps,\); \(0,\) was given"),
    (lambda: S.strided([3, 3]), r"times must rise; \[3, 3\] was given"),
    (lambda: S.strided([0, 3]), r"times must lie in \[1, 20\]; 0 to 3 was given"),
    (lambda: S.strided([1.5, 3.2]), "times must hold integers, int64 or int32; torch.float64 was given"),
    (lambda: S.strided(["1"]), r"times must hold numbers; \['1'\] was given"),
    (lambda: S.evenly(21), r"num must lie in \[2, 20\]; 21 was given"),
    (lambda: S.trailing(21), r"num must lie in \[1, 20\]; 21 was given"),
    (lambda: schedule.add_noise(S, X, 21, X), r"t must lie in \[0, 20\]; 21 was given"),
    (lambda: schedule.add_noise(S, X, T5[:2], X), r"t must have shape \(5,\); \(2,\) was given"),
    (lambda: schedule.add_noise(S, X.long(), 3, X), "x_0 must be floating-point; torch.int64 was given"),
    (lambda: schedule.add_noise(S, X, 3, X[:1]), r"noise must have shape \(5, 2\); \(1, 2\) was given"),
    (lambda: schedule.add_noise(S, X, 3, X.double()), "noise must have the dtype torch.float32; torch.float64 was given"),
    (lambda: schedule.add_noise(S, X, 3, None), "noise must be a tensor; None was given"),
    *((lambda f=f: f(S, X.long(), 3, X), "x must be floating-point; torch.int64 was given") for f in (
        schedule.x_0_from_noise, schedule.noise_from_x_0, schedule.x_0_from_v, schedule.v_from_x_0,
        schedule.score_from_x_0, schedule.mean_from_x_0)),
    *((lambda f=f: f(S, X, -1, X), "t must be at least") for f in (
        schedule.x_0_from_noise, schedule.noise_from_x_0, schedule.x_0_from_v, schedule.v_from_x_0,
        schedule.score_from_x_0, schedule.mean_from_x_0)),
    *((lambda f=f, t=t: f(S, X, t, X), says) for f in (
        schedule.x_0_from_noise, schedule.noise_from_x_0, schedule.x_0_from_v, schedule.v_from_x_0,
        schedule.score_from_x_0, schedule.mean_from_x_0, schedule.add_noise) for t, says in [
        (-T5, r"t must lie in \[[01], 20\]; -1 to -1 was given"),
        (21 * T5, r"t must lie in \[[01], 20\]; 21 to 21 was given"),
        (21, r"t must lie in \[[01], 20\]; 21 was given"),
        (T5.float(), "t must hold integers, int64 or int32; torch.float32 was given"),
        (T5 > 0, "t must hold integers, int64 or int32; torch.bool was given"),
    ]),
    *((lambda f=f, t=t: f(S, X, t, X), "t must (lie in|be at least) .*1.*; 0 ") for f in (
        schedule.noise_from_x_0, schedule.v_from_x_0, schedule.score_from_x_0, schedule.mean_from_x_0)
      for t in (0, 0 * T5)),
    *((lambda call=call, given=given: call(given), f"schedule must be a Schedule; {given} was given") for call in (
        lambda s: schedule.add_noise(s, X, 3, X),
        lambda s: schedule.x_0_from_noise(s, X, 3, X),
        lambda s: schedule.v_from_x_0(s, X, T5, X),
        lambda s: schedule.mean_from_x_0(s, X, 3, X),
        lambda s: denoisers.NoisePredictor(NET, s),
        lambda s: denoisers.VPredictor(NET, s),
        lambda s: denoisers.gaussian_denoiser(s, X[0], EYE[:2, :2]),
        lambda s: ddpm.Ddpm(same, s, (2,), S.beta),
        lambda s: decoders.HistogramDecoder(s, torch.ones(4) / 4),
        lambda s: variances.bound_weights(s, S.beta),
        lambda s: variances.linear_noise_error(s, X[0]),
        lambda s: variances.optimal_reverse_var(s, S.beta),
        lambda s: samplers.ddpm_sample(same, s, X),
        lambda s: samplers.ddim_sample(same, s, X),
        lambda s: samplers.dpm_solver_sample(same, s, X),
        lambda s: samplers.ddim_invert(same, s, X),
        lambda s: samplers.inpaint_sample(same, s, X, X, X > 0),
        lambda s: samplers.reverse_sample(same, s, X, S.reverse_coefficients(S.steps)),
        lambda s: score.score_from_denoiser(same, s),
        lambda s: measured(schedule=s),
    ) for given in (None, 5)),
    (lambda: S.forward_coefficients(T5[:1], T5), r"s must have shape \(5,\); \(1,\) was given"),
    (lambda: schedule.mean_from_x_0(S, X, T5[:1], X), r"t must have shape \(5,\); \(1,\) was given"),
    (lambda: schedule.score_from_x_0(S, X, T5, X > 0), "x_0 must be floating-point; torch.bool was given"),
    (lambda: schedule.Schedule(torch.tensor([0.0, -1.0]), torch.tensor([0, -1])), r"times must lie in \[0, inf\]; -1 to 0 was given"),
    *((lambda v=v: schedule.Schedule(S3.log_alpha_bar, torch.tensor(v)), r"times must rise; \[0, .*\] was given")
      for v in ([0, 5, 3, 9], [0, 1, 1, 2])),
    *((lambda v=v, x=x: schedule.per_example(v, x), rf"values must have shape \({says}\); \(5, 3\) was given")
      for v, x, says in ((X_3, X, "5, 2"), (X_3, X[:, 0], "5,"), (X_3, X[0, 0], ""))),
    *((lambda f=f: f(S, X[0, 0], torch.tensor([3]), X[0, 0]), r"t must have shape \(\); \(1,\) was given") for f in (
        schedule.add_noise, schedule.x_0_from_v, schedule.mean_from_x_0)),
    (lambda: S3.strided(MASK), "times must hold numbers; a Tensor was given"),
],
"denoisers": [
    (lambda: MIXTURE(X, T5 - 9), r"t must lie in \[1, "),
    (lambda: MIXTURE(X.long(), T5), "x_t must be floating-point; torch.int64 was given"),
    (lambda: denoisers.denoised(lambda x, t: None, X, T5), "the denoiser's estimate must be a tensor; None was given"),
    (lambda: denoisers.denoised(lambda x, t: x[:, :1], X, T5), r"the denoiser's estimate must have shape \(5, 2\)"),
    (lambda: denoisers.NoisePredictor(None, S), "network must be a function; None was given"),
    (lambda: denoisers.MixtureDenoiser(S, X[0, :1] + 1, X[:1], EYE[None]), r"covs must have shape \(1, 2, 2\); \(1, 3, 3\)"),
    (lambda: denoisers.MixtureDenoiser(S, X[0, :1] + 1, X[:2], EYE[None]), r"weights must have shape \(2,\)"),
    (lambda: denoisers.MixtureDenoiser(S, X[0, :1] + 0.5, X[:1], EYE[None, :2, :2]), "weights must be positive and add"),
    (lambda: denoisers.MixtureDenoiser(S, X[0, :1] + NAN, X[:1], EYE[None, :2, :2]), "weights must be positive and add"),
    (lambda: denoisers.MixtureDenoiser(S, X[0, :1] + 1, X[0], EYE[None]), r"means must have shape \(batch, ...\)"),
    (lambda: denoisers.MixtureDenoiser(S, X[0, :1] + 1, sub(NAN)[:1], EYE[None, :2, :2]), "means must be finite"),
    (lambda: denoisers.gaussian_denoiser(S, X[0], EYE[:2, :2].long()), "covs must be floating-point; torch.int64 was given"),
    (lambda: denoisers.gaussian_denoiser(S, X[0], EYE.cumsum(0)[:2, :2]), "covs must be symmetric; entries differ by up to 1"),
    (lambda: denoisers.gaussian_denoiser(S, X[0], NAN * EYE[:2, :2]), "covs must be symmetric; entries differ by up to nan"),
    (lambda: denoisers.gaussian_denoiser(S, X[0], -EYE[:2, :2]), "covs must be positive semi-definite; .* is -1"),
    (lambda: denoisers.spectrum(X), r"cov must have shape \(5, 5\); \(5, 2\) was given"),
    (lambda: MIXTURE(X[:, :1], T5), r"x_t must have shape \(5, 2\); \(5, 1\) was given"),
    (lambda: MIXTURE(X, T5[:1]), r"t must have shape \(5,\); \(1,\) was given"),
    (lambda: MIXTURE.score_at_level(X > 0, S.beta[0]), "x must be floating-point; torch.bool was given"),
    (lambda: MIXTURE.score_at_level(X, S.beta), r"log_alpha_bar must have shape \(\); \(21,\) was given"),
    (lambda: denoisers.spectrum(EYE.long()), "cov must be floating-point, of 32 or 64 bits; torch.int64 was given"),
    (lambda: denoisers.spectrum(EYE[0]), r"cov must have shape \(dim, dim\); \(3,\) was given"),
    (lambda: MIXTURE.score_at_level(X[0], torch.tensor(-1.0)), r"x must have shape \(batch, ...\); \(2,\) was given"),
    (lambda: MIXTURE.score_at_level(X, torch.tensor(1.0)), r"log_alpha_bar must lie in \[-inf, 0\]; 1 to 1 was given"),
    (lambda: denoisers.spectrum(EYE.half()), "cov must be floating-point, of 32 or 64 bits; torch.float16 was given"),
    (lambda: denoisers.gaussian_denoiser(S, X[0].half(), EYE[:2, :2]), "means must be floating-point, of 32 or 64 bits"),
    (lambda: denoisers.gaussian_denoiser(S, X[0], 0 * EYE[:2, :2]).score_at_level(X, X[0, 0]), "log_alpha_bar must be below 0 for a singular covariance"),
    *((lambda f=f, x=x: denoisers.denoised(f, x, T5), says) for f, x, says in (
        (same, X.long(), "x_t must be floating-point"), (same, None, "x_t must be a tensor; None"), (lambda x, t: x > 0, X, "the denoiser's estimate must be floating-point"))),
    *((lambda cov=cov: denoisers.spectrum(cov), "entries of cov must be at least 1; 0 was given") for cov in (EYE[:0, :0], EYE[None][:0])),
],
"decoders": [
    *doors(whole(2), lambda levels: decoders.gray_level_frequencies(X, levels=levels)),
    *doors(
        between(-INF, INF),
        lambda low: decoders.gray_level_frequencies(X, low=low),
        lambda high: decoders.GrayLevels(X, high=high),
    ),
    (lambda: decoders.HistogramDecoder(S, EYE / 9), r"frequency must have shape \(levels,\); \(3, 3\) was given"),
    (lambda: decoders.HistogramDecoder(S, EYE[0, :1]), "levels must be at least 2; 1 was given"),
    (lambda: decoders.HistogramDecoder(S, EYE[0]), "frequency must be positive and add up to 1; 0 at least, 1 in all"),
    (lambda: decoders.gray_level_frequencies(X[:0]), r"x must have shape \(batch, 2\); \(0, 2\) was given"),
    (lambda: decoders.gray_level_frequencies(X.byte()), "x must be floating-point; torch.uint8 was given"),
    (lambda: decoders.gray_level_frequencies(X, low=1.0, high=-1.0), "high must be above low; low=1.0 and high=-1.0 were"),
    (lambda: decoders.GrayLevels(X, 1.0, 1.0), "high must be above low; low=1.0 and high=1.0 were given"),
    (lambda: decoders.GrayLevels(X).log_prob(X[:1, 0]), r"value must have shape \(5,\); \(1,\) was given"),
    *((lambda p=p: decoders.HistogramDecoder(S, torch.tensor(p)), f"frequency must be positive and add up to 1; {says}")
      for p, says in (([0.5, 0.6], "0.5 at least, 1.1"), ([0.0, 1.0], "0 at least"), ([0.5, NAN], "nan at least"))),
    *((lambda v=v: decoders.GrayLevels(v + X_3), "logits must be finite, but for levels at minus infinity") for v in (NAN, INF, -INF)),
    *((lambda v=v: decoders.GrayLevels(v), f"levels must be at least 2; {v.shape[-1]} was given") for v in (X[:, :1], X[:, :0])),
    *((lambda v=v: decoders.HistogramDecoder(S, torch.ones(4) / 4)(v), f"x_1 must be {says}")
      for v, says in ((sub(NAN), "finite"), (sub(INF), "finite"), (None, "a tensor; None"), (X.long(), "floating-point"))),
],
"ddpm": [
    *((lambda steps=steps: ddpm.Ddpm(PREDICTOR, steps, (2,), steps.beta), says) for steps, says in (
        (S3, "schedule must have the noise of the denoiser's own at its times; another was given"),
        (schedule.linear_schedule(30), r"schedule.times must lie in \[0, 20\]; 0 to 30 was given"),
    )),
    *of_data(
        X,
        partial(elbo.elbo_loss, TOY),
        partial(ddpm.single_step_elbo, TOY),
        partial(ddpm.denoising_loss, TOY, weight=SNR),
        partial(ddpm.noise_errors, TOY, times=[1]),
        partial(ddpm.elbo_step, TOY, t=T5, noise=X),
    ),
    *doors(
        whole(1),
        lambda t: toy().denoise(X, t),
        lambda num: TOY.prior(num),
    ),
    *doors(whole(0), lambda t: toy().marginal(t, X)),
    *doors(whole(2), lambda levels: ddpm.image_ddpm(UNET, levels=levels)),
    (lambda: ddpm.image_ddpm(UNET, 5), "schedule must be a Schedule; 5 was given"),
    (lambda: toy(torch.ones(3)), r"reverse_var must have shape \(4,\) or \(4, 2\); \(3,\) was given"),
    (lambda: toy([0.1] * 4), r"reverse_var must be a tensor; \[0.1, 0.1, 0.1, 0.1\] was given"),
    (lambda: toy(S3.posterior_var), "reverse_var must be positive and finite from entry 1 on; 0 was given at t = 1"),
    (lambda: toy(sub(NAN, torch.ones(4)).flip(0)), "reverse_var must be positive and finite .* nan was given at t = 3"),
    (lambda: toy(sub(INF, torch.ones(4)).flip(0)), "reverse_var must be positive and finite .* inf was given at t = 3"),
    (lambda: toy(decoder_var=0.0), "decoder_var must be positive and finite .* t = 1"),
    *((lambda v=v: toy(decoder_var=v), f"decoder_var must hold numbers; {v!r} was given") for v in ("1", True)),
    (lambda: toy(decoder_var=torch.ones(3)), r"decoder_var must have shape \(\); \(3,\) was given"),
    (lambda: toy(denoiser=None), "denoiser must be a function; None was given"),
    (lambda: toy(denoiser=TOY), "denoiser must be a function, such as that of the model; a Ddpm was given"),
    (lambda: toy(observation_model=None), "observation_model must be a function; None was given"),
    (lambda: ddpm.Ddpm(same, S3, 2, S3.beta), "x_shape must hold at least 1 positive integers; 2 was given"),
    (lambda: ddpm.Ddpm(same, None, (2,), S3.beta), "schedule must be a Schedule; None was given"),
    (lambda: toy().posterior(X[:, :1]), r"x must have shape \(batch, 2\); \(5, 1\) was given"),
    (lambda: toy().posterior(X.long()), "x must be floating-point; torch.int64 was given"),
    (lambda: toy().posterior(sub(NAN)), "mean must be finite"),
    (lambda: toy().marginal(4, X), r"t must lie in \[0, 3\]; 4 was given"),
    (lambda: toy().marginal(1, X.long()), "x must be floating-point; torch.int64 was given"),
    (lambda: toy().inner_prior(3, X), r"t must lie in \[1, 2\]; 3 was given"),
    (lambda: toy().denoise(X, 4), r"t must lie in \[1, 3\]; 4 was given"),
    (lambda: toy().denoise(X, X[:, 0]), "t must hold integers, int64 or int32; torch.float32 was given"),
    (lambda: toy().denoise(X, T5[:3]), r"t must have shape \(5,\); \(3,\) was given"),
    (lambda: toy(denoiser=lambda x, t: x[:, :1]).denoise(X, 1), r"the denoiser's estimate must have shape \(5, 2\); \(5, 1\)"),
    (lambda: toy(denoiser=lambda x, t: None).denoise(X, 1), "the denoiser's estimate must be a tensor; None was given"),
    (lambda: ddpm.elbo_step(TOY, X, 0 * T5, X), r"t must lie in \[1, 20\]; 0 to 0 was given"),
    (lambda: ddpm.elbo_step(TOY, X, [1] * 5, X), r"t must be a tensor; \[1, 1, 1, 1, 1\] was given"),
    (lambda: ddpm.elbo_step(TOY, X, T5[:2], X), r"t must have shape \(5,\); \(2,\) was given"),
    (lambda: ddpm.elbo_step(TOY, X, T5, X[:1]), r"noise must have shape \(5, 2\); \(1, 2\) was given"),
    (lambda: ddpm.denoising_loss(TOY, X, SNR[1:]), r"weight must have shape \(21,\); \(20,\) was given"),
    *((lambda v=v: ddpm.denoising_loss(TOY, X, SNR.nan_to_num(v) + v), r"weight must lie in \[0, inf\]") for v in (-1e9, NAN)),
    *((lambda f=f, t=t: f(t), "t must ") for f in (lambda t: toy().inner_prior(t, X), lambda t: HIDING.inner_prior(t, X))
      for t in (None, "1", [1], True, T5 > 0, T5.byte(), 0)),
    (lambda: toy(decoder=3), "decoder must be a function; 3 was given"),
    (lambda: ddpm.denoising_loss(TOY, X, 1.0), "weight must be a tensor; 1.0 was given"),
    (lambda: ddpm.denoising_loss(TOY, X, SNR, time_weights=SNR[1:]), r"time_weights must have shape \(21,\)"),
    (lambda: ddpm.denoising_loss(CLASSES, XC, SNR, LABEL[:2]), r"label must have shape \(5,\); \(2,\) was given"),
    (lambda: ddpm.single_step_elbo(TOY, X, SNR[1:]), r"time_weights must have shape \(21,\); \(20,\) was given"),
    (lambda: ddpm.single_step_elbo(TOY, X, [1.0] * 21), "time_weights must be a tensor"),
    (lambda: ddpm.single_step_elbo(TOY, X, sub(0.0, torch.ones(21)).flip(0)), "time_weights must be positive .*; 0 was given"),
    (lambda: ddpm.single_step_elbo(TOY, X, torch.ones(21) / 0), "time_weights must be finite"),
    (lambda: ddpm.noise_errors(TOY, X, [0, 1]), r"times must lie in \[1, 20\]; 0 to 1 was given"),
    (lambda: ddpm.noise_errors(TOY, X, []), r"times must have shape \(times,\); \(0,\) was given"),
    (lambda: ddpm.noise_errors(TOY, X, [1.5]), "times must hold integers, int64 or int32; torch.float64 was given"),
    (lambda: ddpm.noise_errors(TOY, X, "1"), "times must hold numbers; '1' was given"),
    (lambda: elbo.elbo_terms(ddpm.image_ddpm(UNET, S), XC + 0.3), "value must lie on the 256 gray levels"),
    (lambda: ddpm.image_ddpm(UNET, schedule.linear_schedule(1)), "number of steps of the schedule must be at least 2; 1"),
    (lambda: ddpm.image_ddpm(NET), "network must be a UNet; a TimeMlp was given"),
    (lambda: ddpm.image_ddpm(UNET, predictor="v"), "predictor must be a function; 'v' was given"),
    *((lambda t=t: toy().inner_posterior(t, X, X), f"t must {says}") for t, says in (
        (0, "be at least 1; 0 was given"), (T5 > 0, "hold integers, int64 or int32; torch.bool was given"))),
    *((lambda f=f: f(CHAIN, X[:, :1]), "model must be a Ddpm; a LinearChain was given") for f in (
        partial(ddpm.elbo_step, t=T5, noise=X), partial(ddpm.noise_errors, times=[1]))),
    *((lambda f=f: f(None), "z_above must be a tensor; None was given") for f in (
        partial(TOY.inner_prior, 1), lambda z: TOY.inner_posterior(1, z, X), partial(TOY.inner_prior, T5))),
    *((lambda x=x: TOY.reconstruction(x), says) for x, says in (
        ([0.0], r"x_hat must be a tensor; \[0.0\] was given"), (X[:, :1], r"x_hat must have shape \(batch, 2\); \(5, 1\) was given"))),
    (lambda: toy(decoder=decoders.HistogramDecoder(S, torch.ones(4) / 4)), "decoder must have the noise of the schedule at t = 1"),
    (lambda: ddpm.denoising_loss(TOY, X, S.snr.index_fill(0, T5[:1], INF)), "weight must be finite"),
],
"variances": [
    (lambda: variances.bound_weights(S3, S3.posterior_var), "reverse_var must be positive"),
    (lambda: variances.bound_weights(S3, S3.posterior_var, 0.0), "decoder_var must be positive"),
    (lambda: variances.bound_weights(S3, None), "reverse_var must be a tensor; None was given"),
    (lambda: variances.linear_noise_error(S3, torch.tensor([1.0, -1.0])), r"eigenvalues must lie in \[0, inf\]; -1 to 1"),
    (lambda: variances.linear_noise_error(S3, torch.tensor([INF])), "eigenvalues must be finite"),
    (lambda: variances.linear_noise_error(S3, torch.tensor([1, 2])), "eigenvalues must be floating-point"),
    (lambda: variances.optimal_reverse_var(S3, torch.ones(3)), r"noise_error must have shape \(4,\); \(3,\) was given"),
    (lambda: variances.optimal_reverse_var(S3, -torch.ones(4)), r"noise_error must lie in \[0, inf\]; -1 to -1 was"),
    (lambda: variances.optimal_reverse_var(S3, 0.5), "noise_error must be a tensor; 0.5 was given"),
    (lambda: variances.linear_noise_error(S, X + 1), r"eigenvalues must have shape \(dim,\); \(5, 2\) was given"),
    (lambda: variances.optimal_reverse_var(S3, S3.beta + INF), "noise_error must be finite"),
    (lambda: toy(decoder_var=torch.tensor(True)), "decoder_var must hold numbers; a Tensor was given"),
],
"samplers": [
    *((lambda f=f: f(same, None, X), "schedule must be a Schedule; None was given") for f in (
        samplers.ddpm_sample, samplers.ddim_sample, samplers.dpm_solver_sample, samplers.ddim_invert,
        lambda hat, s, x: samplers.reverse_sample(hat, s, x, samplers.ddim_posterior(S, 0)),
        lambda hat, s, x: samplers.inpaint_sample(hat, s, x, x, MASK))),
    *doors(
        whole(1),
        lambda num: samplers.ancestral_sample(TOY, num),
        lambda repeats: samplers.inpaint_sample(same, S3, X, X, MASK, repeats),
        lambda chunk: samplers.in_chunks(partial(samplers.ddim_sample, same, S3), chunk, X),
    ),
    *doors(
        within(0, 1),
        lambda eta: samplers.ddim_sample(same, S3, X, eta),
        lambda eta: samplers.ddim_posterior(S3, eta),
    ),
    (lambda: list(samplers.reverse_sample(lambda x, t: x, S, X, schedule.linear_schedule(7).reverse_coefficients(T5))), r"q.of_x_0 must have shape"),
    (lambda: samplers.ancestral_sample(PLAIN, 2), "model must be a LatentChain; an Autoencoder was given"),
    *((lambda f=f, x=x: f(PREDICTOR, S, x), f"{name} {says}")
      for f, name in ((samplers.ddpm_sample, "x_T"), (samplers.ddim_sample, "x_T"),
                      (samplers.dpm_solver_sample, "x_T"), (samplers.ddim_invert, "x_0"))
      for x, says in (
        (X.long(), "must be floating-point; torch.int64 was given"),
        (X.double(), "must have the precision of the model, torch.float32; torch.float64 was given"),
        (X[:0], r"must have shape \(batch, 2\); \(0, 2\) was given"),
        (X[0, 0], r"must have shape \(batch, ...\); \(\) was given"),
        (sub(NAN), "must be finite"),
        (sub(INF), "must be finite"),
        (None, "must be a tensor; None was given"),
      )),
    (lambda: samplers.reverse_sample(PREDICTOR, S, sub(NAN), samplers.ddim_posterior(S, 0)), "x_T must be finite"),
    (lambda: samplers.ddim_sample(TOY, S, X), "denoiser must be a function, such as that of the model; a Ddpm was given"),
    (lambda: samplers.ddim_sample(None, S, X), "denoiser must be a function; None was given"),
    (lambda: list(samplers.ddim_sample(PREDICTOR, S, X[:, :1])), r"x_t must have shape \(batch, 2\); \(5, 1\) was given"),
    (lambda: list(samplers.ddim_sample(lambda x, t: x[:1], S, X)), "the denoiser's estimate must have shape"),
    (lambda: list(samplers.ddim_invert(lambda x, t: x[:1], S, X)), "the denoiser's estimate must have shape"),
    *((lambda bad=bad: samplers.ddpm_sample(same, S3, X, S3.beta.index_fill(0, torch.tensor(2), bad)), says)
      for bad, says in ((INF, "reverse_var must be finite"), (NAN, "reverse_var must be finite"), (-1.0, "reverse_var must"))),
    (lambda: list(samplers.dpm_solver_sample(lambda x, t: x[:1], S, X)), "the denoiser's estimate must have shape"),
    (lambda: list(samplers.ddpm_sample(lambda x, t: None, S, X)), "the denoiser's estimate must be a tensor; None was"),
    (lambda: samplers.ddpm_sample(same, S3, X, torch.ones(3)), r"reverse_var must have shape \(4,\) or \(4, 2\); \(3,\)"),
    (lambda: samplers.ddpm_sample(same, S3, X, torch.tensor([0, 0, 1.0, -1])), r"reverse_var must lie in \[0, inf\]; -1 to 1"),
    *((lambda v=v: samplers.ddpm_sample(same, S3, X, torch.tensor(v)), "reverse_var must be finite")
      for v in ([0, 0, 1, NAN], [0, 0, NAN, 1])),
    (lambda: samplers.ddpm_sample(same, S3, X, torch.ones(4).long()), "reverse_var must be floating-point"),
    (lambda: samplers.inpaint_sample(same, S3, X.long(), X, MASK), "x_T must be floating-point"),
    (lambda: samplers.inpaint_sample(same, S3, sub(NAN), X, MASK), "x_T must be finite"),
    (lambda: samplers.inpaint_sample(same, S3, X, X[:2], MASK), r"x must have shape \(5, 2\); \(2, 2\) was given"),
    (lambda: samplers.inpaint_sample(same, S3, X, X.byte(), MASK), "x must have the dtype torch.float32; torch.uint8 was"),
    (lambda: samplers.inpaint_sample(same, S3, X, sub(NAN), MASK), "x must be finite"),
    (lambda: samplers.inpaint_sample(same, S3, X, X, MASK.float()), r"observed must be boolean, of shape \(5, 2\) or \(2,\)"),
    (lambda: samplers.inpaint_sample(same, S3, X, X, MASK[:1]), r"observed must be boolean, .* of shape \(1,\) was given"),
    (lambda: samplers.inpaint_sample(same, S3, X, X, None), "observed must be a tensor; None was given"),
    (lambda: samplers.in_chunks(partial(samplers.ddim_sample, same, S3), 2, X, X[:1]), r"inputs must .* \[5, 1\] were given"),
    (lambda: samplers.in_chunks(partial(samplers.ddim_sample, same, S3), 2), r"inputs must .* lengths \[\] were given"),
    (lambda: samplers.in_chunks(partial(samplers.ddim_sample, same, S3), 2, X[:0]), "inputs must have shape"),
    (lambda: samplers.in_chunks(partial(samplers.ddim_sample, same, S3), 2, [1, 2]), r"inputs must be a tensor; \[1, 2\]"),
    (lambda: samplers.ddim_sample(PREDICTOR, S3, X), "schedule must have the noise of the denoiser's own at its times"),
    (lambda: samplers.ddim_sample(PREDICTOR, schedule.linear_schedule(30), X), r"schedule.times must lie in \[0, 20\]; 0 to 30"),
    (lambda: samplers.dpm_solver_sample(same, S, [1.0]), r"x_T must be a tensor; \[1.0\] was given"),
    (lambda: samplers.ddim_invert(same, S, [1.0]), r"x_0 must be a tensor; \[1.0\] was given"),
    (lambda: samplers.in_chunks(partial(samplers.ddim_sample, same, S3), 2, X[0, 0]), "inputs must have shape"),
    *((lambda given=given: samplers.reverse_sample(same, S, X, samplers.ddim_posterior(S, 0.5)._replace(**given)), says)
      for given, says in (
        (dict(of_x_t=NAN * S.beta), "q.of_x_t must be finite"),
        (dict(of_x_0=X), r"q.of_x_0 must have shape \(21,\); \(5, 2\) was given"),
        (dict(var=-S.beta), r"q.var must lie in \[0, inf\]; -0.2 to "),
      )),
    (lambda: samplers.in_chunks(None, 2, X), "sampler must be a function; None was given"),
    (lambda: samplers.reverse_sample(same, S3, X, schedule.ReverseCoefficients(S3.beta, S3.beta, S3.beta[:, None].expand(4, 3))),
     r"q.var must have shape \(4, 2\); \(4, 3\) was given"),
],
"score": [
    *((lambda f=f: f(PREDICTOR, S3), "schedule must have the noise of the denoiser's own at its times; another") for f in (
        score.score_from_denoiser, score.noise_conditional_score)),
    (lambda: score.NoiseConditionalScore(NARROW, [2.0, 1.0])(X, torch.ones(5)), r"the network's output must have shape \(5, 2\); \(5, 1\)"),
    *doors(
        POSITIVE,
        lambda sigma_1: score.geometric_noise_levels(sigma_1, 0.1, 5),
        lambda sigma_L: score.geometric_noise_levels(1.0, sigma_L, 5),
        lambda step_size: score.langevin_sample(torch.neg, X, step_size, 3),
        lambda step_size: score.annealed_langevin_sample(SCORES, X, [2.0, 1.0], step_size, 3),
    ),
    *doors(whole(2), lambda num: score.geometric_noise_levels(1.0, 0.1, num)),
    *doors(NOT_NEGATIVE, lambda noise_var: score.noisy_mixture(data.toy_density("mixture"), 1.0, noise_var)),
    *doors(
        whole(1),
        lambda num_steps: score.langevin_sample(torch.neg, X, 0.1, num_steps),
        lambda num_steps: score.annealed_langevin_sample(SCORES, X, [2.0, 1.0], 0.1, num_steps),
    ),
    (lambda: list(score.langevin_sample(lambda x: x[:1], X, 0.1, 2)), r"the score must have shape \(5, 2\); \(1, 2\) was"),
    (lambda: score.NoiseConditionalScore(NET, [1.0, 2.0]), r"sigmas must be positive and falling; \[1.0, 2.0\] was given"),
    *((lambda v=v: score.noise_levels(v), "sigmas must be positive and falling") for v in ([1.0, 0.0], [1.0, 1.0])),
    (lambda: score.NoiseConditionalScore(NET, [INF, 1.0]), "sigmas must be finite"),
    (lambda: score.NoiseConditionalScore(NET, []), r"sigmas must have shape \(levels,\); \(0,\) was given"),
    (lambda: score.NoiseConditionalScore(NET, None), "sigmas must hold numbers; None was given"),
    (lambda: score.NoiseConditionalScore(None, [1.0]), "network must be a function; None was given"),
    (lambda: SCORES(X, -torch.ones(5)), "sigma must be positive and finite; -1 to -1 was given"),
    (lambda: SCORES(X, torch.zeros(5)), "sigma must be positive and finite; 0 to 0 was given"),
    (lambda: SCORES(X, X[:, 0] + INF), "sigma must be positive and finite; inf to inf was given"),
    (lambda: SCORES(X, torch.ones(3)), r"sigma must have shape \(5,\); \(3,\) was given"),
    (lambda: SCORES(X, 1.0), "sigma must be a tensor; 1.0 was given"),
    (lambda: score.geometric_noise_levels(1.0, 1.0, 5), "sigma_1 must be above sigma_L; 1.0 and 1.0 were given"),
    *((lambda x=x: score.denoising_score_matching_loss(SCORES, x), says) for x, says in wrong(X)[1:]),
    (lambda: score.exact_score(lambda x: x.sum(), X.long()), "x must be floating-point; torch.int64 was given"),
    (lambda: score.noisy_mixture(data.toy_density("mixture"), NAN, 1.0), "scale must lie in"),
    (lambda: score.noisy_mixture(D.MixtureSameFamily(D.Categorical(X[0] + 1), D.Independent(D.Laplace(EYE[:2], 1.0), 1)), 1.0, 1.0),
     "components of data must be a Normal; a Laplace was given|components of data must be a Normal; Laplace"),
    (lambda: score.noisy_mixture(data.toy_density("rings"), 1.0, 1.0), "data must be a MixtureSameFamily; Rings"),
    (lambda: score.score_from_denoiser(PREDICTOR, S)(X, 0 * T5), r"t must lie in \[1, 20\]; 0 to 0 was given"),
    (lambda: score.score_from_denoiser(PREDICTOR, S)(X, T5[:3]), r"t must have shape \(5,\); \(3,\) was given"),
    *((lambda x=x, t=t: score.score_from_denoiser(same, S)(x, t), says) for x, t, says in (
        (X[0, 0], T5, r"x_t must have shape \(batch, ...\); \(\) was given"),
        (X, torch.tensor(3), r"t must have shape \(5,\); \(\) was given"),
        (X, 21 * T5, r"t must lie in \[1, 20\]; 21 to 21 was given"),
    )),
    (lambda: score.score_from_denoiser(lambda x, t: None, S)(X, T5), "the denoiser's estimate must be a tensor"),
    (lambda: score.langevin_sample(torch.neg, X.long(), 0.1, 3), "x must be floating-point"),
    (lambda: score.langevin_sample(torch.neg, sub(NAN), 0.1, 3), "x must be finite"),
    (lambda: score.langevin_sample(torch.neg, X[:0], 0.1, 3), r"x must have shape \(batch, 2\); \(0, 2\) was given"),
    (lambda: score.langevin_sample(None, X, 0.1, 3), "score must be a function; None was given"),
    *((lambda x=x: score.annealed_langevin_sample(SCORES, x, [2.0, 1.0], 0.1, 3), says)
      for x, says in wrong(X)[1:] if x is None or len(x) != 2),
    (lambda: score.annealed_langevin_sample(3, X, [2.0, 1.0], 0.1, 3), "score_at_sigma must be a function; 3 was given"),
    (lambda: score.annealed_langevin_sample(SCORES, X, [1.0, 2.0], 0.1, 3), r"sigmas must be positive and falling"),
    (lambda: score.annealed_langevin_sample(SCORES, X, [], 0.1, 3), "sigmas must have shape"),
    (lambda: score.denoising_score_matching_loss(NET, X), "model must be a NoiseConditionalScore; a TimeMlp was given"),
    (lambda: score.exact_score(lambda x: x, X), r"log_prob\(x\) must have shape \(5,\); \(5, 2\) was given"),
    (lambda: score.exact_score(3, X), "log_prob must be a function; 3 was given"),
    (lambda: SCORES(X[0, 0], X[:, 0]), "x must have shape"),
    (lambda: score.score_from_denoiser(same, S)(None, T5), "x_t must be a tensor; None was given"),
    (lambda: score.noise_conditional_score(same, None), "schedule must be a Schedule; None was given"),
    *((lambda f=f: score.exact_score(f, X), "log_prob must be differentiable; it was cut off from x") for f in (
        lambda x: torch.zeros(5), lambda x: torch.zeros(5, requires_grad=True), lambda x: x.detach().sum(1), lambda x: (x > 0).sum(1))),
    *((lambda s=s: score.noisy_mixture(data.toy_density("mixture"), s, 0.0), r"scale\^2 \+ noise_var must be positive and finite") for s in (0.0, 1e200)),
    (lambda: score.geometric_noise_levels(1.0, 1 - 1e-16, 5), "sigma_1 must be above sigma_L; 1.0 and 0.9999999999999999 were given"),
],
"flows": [
    (lambda: flows.Flow(NARROW, (2,))(X, torch.ones(5)), r"the network's output must have shape \(5, 2\); \(5, 1\) was given"),
    (lambda: flows.flow_sample(VELOCITY, X, torch.tensor([0, 1, 0], dtype=torch.uint8)), "u must hold at least two levels, all falling"),
    (lambda: flows.ode_log_prob(lambda x, s: -x.detach(), X, [0.0, -1.0]), "score_at_level must be differentiable; it was cut off from x"),
    *((lambda v=v: flows.ode_log_prob(FLOW, X, [0.0, -1.0], v), f"end{says} must ") for v, says in (
        (3, ""), (D.Normal(X[0], 1.0), r".log_prob\(x\)"), (distributions.diagonal_normal(X.expand(2, 5, 2), 1.0), r".log_prob\(x\)"))),
    (lambda: flows.flow_sample(VELOCITY, X, [1, 0], "no"), "heun must be a bool; 'no' was given"),
    *doors(
        POSITIVE,
        lambda rtol: flows.probability_flow(FLOW, X, [0.0, -1.0], rtol=rtol),
        lambda atol: flows.probability_flow(FLOW, X, [0.0, -1.0], atol=atol),
        lambda rtol: flows.ode_log_prob(FLOW, X, [0.0, -1.0], rtol=rtol),
    ),
    *((lambda f=f: f(None, X, [0.0, -1.0]), "score_at_level must be a function; None was given")
      for f in (flows.probability_flow, flows.ode_log_prob)),
    *((lambda f=f, levels=levels: f(FLOW, X, levels), says)
      for f in (flows.probability_flow, flows.ode_log_prob)
      for levels, says in (
        ([0.0], r"log_alpha_bar must hold at least two levels, all falling or all rising; \[0.0\] was given"),
        ([0.0, -1.0, -1.0], "log_alpha_bar must .* all falling or all rising"),
        ([0.0, -2.0, -1.0], "log_alpha_bar must .* all falling or all rising"),
        ([0.0, 1.0], r"log_alpha_bar must lie in \[-inf, 0\]; 0 to 1 was given"),
        ([0.0, NAN], r"log_alpha_bar must lie in \[-inf, 0\]; nan to nan was given"),
        ([0.0, -INF], "log_alpha_bar must be finite"),
        ([], r"log_alpha_bar must have shape \(levels,\); \(0,\) was given"),
        (["0", "1"], "log_alpha_bar must hold numbers"),
        (None, "log_alpha_bar must hold numbers; None was given"),
      )),
    *((lambda f=f, x=x: f(FLOW, x, [0.0, -1.0]), says)
      for f in (flows.probability_flow, flows.ode_log_prob)
      for x, says in (
        (sub(NAN), "x must be finite"),
        (sub(INF), "x must be finite"),
        (X.long(), "x must be floating-point; torch.int64 was given"),
        (X[:0], r"x must have shape \(batch, 2\); \(0, 2\) was given"),
        (X[0], r"x must have shape \(batch, ...\); \(2,\) was given"),
        (None, "x must be a tensor; None was given"),
      )),
    (lambda: flows.probability_flow(lambda x, s: NAN * x, X + 1, [0.0, -1.0]), "the score must be finite; at log_alpha_bar 0"),
    (lambda: flows.ode_log_prob(lambda x, s: NAN * x, X, [0.0, -1.0]), "the score must be finite; at log_alpha_bar 0"),
    (lambda: flows.probability_flow(lambda x, s: -50 * x**2, X + 1, [0.0, -1.0]), "the flow must be smooth from 0 to -1"),
    (lambda: flows.probability_flow(None, X, [0.0, -1.0]), "score_at_level must be a function; None was given"),
    (lambda: flows.probability_flow(lambda x, s: x[:1], X, [0.0, -1.0]), r"the score must have shape \(5, 2\); \(1, 2\) was"),
    (lambda: flows.ode_log_prob(FLOW, X, [0.0, -1.0], probes=torch.ones(5, 2)), r"probes must have shape \(probes, 5, 2\)"),
    (lambda: flows.flow_velocity(X, torch.linspace(0, 1, 5), X), "u must be above 0 and at most 1; 0 to 1 was given"),
    (lambda: flows.flow_velocity(X, NAN * X[:, 0], X), "u must be above 0 and at most 1; nan to nan was given"),
    (lambda: flows.flow_velocity(X, torch.ones(3), X), r"u must have shape \(5,\); \(3,\) was given"),
    (lambda: flows.flow_velocity(X, 0.5, X), "u must be a tensor; 0.5 was given"),
    (lambda: flows.flow_velocity(X, torch.ones(5), X[:1]), r"x_hat must have shape \(5, 2\); \(1, 2\) was given"),
    (lambda: flows.flow_velocity(X.long(), torch.ones(5), X), "x_u must be floating-point; torch.int64 was given"),
    (lambda: flows.straight_line(torch.tensor([0.1, 1.0])), r"u must lie in \[0, 1\); 0.1 to 1 was given"),
    (lambda: flows.straight_line(torch.tensor([-0.1])), r"u must lie in \[0, 1\); -0.1 to -0.1 was given"),
    (lambda: flows.straight_line(0.5), "u must be a tensor; 0.5 was given"),
    (lambda: flows.line_time(torch.tensor([0.1])), r"log_alpha_bar must lie in \[-inf, 0\]; 0.1"),
    (lambda: flows.Flow(3, (2,)), "network must be a function; 3 was given"),
    (lambda: flows.Flow(torch.nn.Identity(), ()), r"x_shape must hold at least 1 positive integers; \[\]"),
    (lambda: VELOCITY(X[:, :1], X[:, 0]), r"x_u must have shape \(batch, 2\); \(5, 1\) was given"),
    (lambda: VELOCITY(X, X[:3, 0]), r"u must have shape \(5,\); \(3,\) was given"),
    (lambda: flows.flow_matching_loss(VELOCITY, X.long()), "x must be floating-point; torch.int64 was given"),
    (lambda: flows.flow_matching_loss(3, X), "velocity must be a function; 3 was given"),
    (lambda: flows.flow_matching_loss(lambda x, u: x[:1], X), r"the velocity must have shape \(5, 2\)"),
    (lambda: flows.flow_sample(VELOCITY, X, [1.0, 0.5, 0.7]), "u must hold at least two levels, all falling or all"),
    (lambda: flows.flow_sample(3, X, [1.0, 0.0]), "velocity must be a function; 3 was given"),
    (lambda: flows.flow_sample(VELOCITY, X, [1.0]), "u must hold at least two levels"),
    (lambda: flows.flow_sample(VELOCITY, X, [1.2, 0.0]), r"u must lie in \[0, 1\]"),
    (lambda: flows.flow_sample(VELOCITY, NAN * X, [1.0, 0.0]), "x_1 must be finite"),
    (lambda: flows.flow_sample(VELOCITY, X.long(), [1.0, 0.0]), "x_1 must be floating-point; torch.int64 was given"),
    (lambda: list(flows.flow_sample(lambda x, u: x[:1], X, [1.0, 0.0])), r"the velocity must have shape \(5, 2\)"),
    (lambda: flows.ode_log_prob(FLOW, X, [0.0, -1.0], probes=X[None].byte()), "probes must be floating-point; torch.uint8"),
    (lambda: VELOCITY(X, T5), "u must be floating-point; torch.int64 was given"),
    (lambda: flows.flow_velocity(X, T5 > 0, X), "u must be floating-point; torch.bool was given"),
    (lambda: flows.flow_velocity(X[0, 0], X[:1, 0], X[0, 0]), r"u must have shape \(\); \(1,\) was given"),
],
"mean_flows": [
    (lambda: mean_flows.MeanFlow(NARROW, (2,))(X, X[:, 0], X[:, 0]), r"the network's output must have shape \(5, 2\); \(5, 1\) was given"),
    *doors(within(0, 1), lambda instant: mean_flows.mean_flow_loss(lambda x_u, u, step: x_u, X, instant)),
    *((lambda u=u: mean_flows.mean_flow_sample(lambda *given: given[0], X, u), says) for u, says in (
        ([1.2, 0.0], r"u must lie in \[0, 1\]; 0 to 1.2 was given"),
        ([0.0, 1.0], r"u must hold at least two falling times; \[0.0, 1.0\] was given"),
        ([1.0], "u must hold at least two falling times"),
        ([1.0, 0.5, 0.5], r"u must hold at least two falling times; \[1.0, 0.5, 0.5\] was given"),
        ([NAN, 0.0], r"u must lie in \[0, 1\]; nan to nan was given"),
        (None, "u must hold numbers; None was given"),
      )),
    *((lambda given=given: mean_flows.along_flow(**dict(average=FLOW, x_u=X, u=X[:, 0], step=X[:, 0], v=X) | given), says)
      for given, says in (
        (dict(u=X[:1, 0]), r"u must have shape \(5,\); \(1,\) was given"),
        (dict(step=T5), "step must have the dtype torch.float32; torch.int64 was given"),
        (dict(v=X[:1]), r"v must have shape \(5, 2\); \(1, 2\) was given"),
        (dict(average=None), "average must be a function; None was given"),
      )),
    (lambda: mean_flows.mean_flow_loss(lambda x_u, u, step: x_u[:, :1], X), r"the average velocity must have shape \(5, 2\)"),
    *((lambda given=given: mean_flows.MeanFlow(mlp.TimeMlp(2, (8,), num_factors=1), (2,))(*given), says) for given, says in (
        ((X, X[:, 0], X[:3, 0]), r"step must have shape \(5,\); \(3,\) was given"),
        ((X, X[:3, 0], X[:, 0]), r"u must have shape \(5,\); \(3,\) was given"),
        ((X[:, :1], X[:, 0], X[:, 0]), r"x_u must have shape \(batch, 2\); \(5, 1\) was given"),
    )),
    *((lambda u=u, step=step: mean_flows.MeanFlow(mlp.TimeMlp(2, (8,), num_factors=1), (2,))(X, u, step), f"{name} must have the precision")
      for name, u, step in (("u", X[:, 0].double(), X[:, 0]), ("step", X[:, 0], X[:, 0].double()))),
    (lambda: mean_flows.mean_flow_loss(lambda *inputs: None, X), "the average velocity must be a tensor; None was given"),
],
"guidance": [
    *((lambda hat=hat: samplers.ddim_sample(hat(), S3, XC), "schedule must have the noise of the denoiser's own at its times") for hat in (
        lambda: guidance.guided(CLASSES.denoiser, LABEL, 2.0), lambda: guidance.extrapolated(CLASSES.denoiser, same, 2.0))),
    (lambda: guidance.extrapolated(same, lambda x, t: x[:1], 2.0)(X, T5), r"the denoiser's estimate must have shape \(5, 2\); \(1, 2\) was"),
    *((lambda x=x, t=t: measured()(x, t), says) for x, t, says in (
        (X_3.long(), T5, "x_t must be floating-point; torch.int64 was given"),
        (X_3, -T5, r"t must lie in \[1, 20\]; -1 to -1 was given"),
        (X_3, T5[:3], r"t must have shape \(5,\); \(3,\) was given"),
    )),
    *((lambda label=label: guidance.guided(denoisers.VPredictor(READER, S), label, 2.0), says) for label, says in (
        (torch.ones(2, 5).long(), r"label must have shape \(batch, 6\); \(2, 5\) was given"),
        (torch.ones(6).long(), r"label must have shape \(batch, 6\); \(6,\) was given"),
        (torch.full((2, 6), 10), r"label must lie in \[0, 9\]; 10 to 10 was given"),
    )),
    *of_data(XC, partial(guidance.classifier_free_loss, CLASSES, label=LABEL, weight=SNR)),
    *doors(within(0, 1), lambda drop: guidance.classifier_free_loss(CLASSES, XC, LABEL, SNR, drop)),
    *doors(between(-1e6, 1e6), lambda scale: guidance.guided(CLASSES.denoiser, LABEL, scale)),
    *doors(POSITIVE, lambda noise_std: measured(noise_std=noise_std)),
    *((lambda drop=drop: guidance.classifier_free_loss(CLASSES, XC, LABEL, SNR, drop), says) for drop, says in (
        (1.5, r"drop must lie in \[0, 1\]; 1.5 was given"),
        (-0.1, r"drop must lie in \[0, 1\]; -0.1 was given"),
        (NAN, r"drop must lie in \[0, 1\]; nan was given"),
        ("0.1", "drop must be a number; '0.1' was given"),
    )),
    *((lambda f=f, label=label: f(label), says)
      for f in (lambda label: guidance.classifier_free_loss(CLASSES, XC, label, SNR),
                lambda label: guidance.guided(CLASSES.denoiser, label, 2.0))
      for label, says in (
        (LABEL + 1, r"label must lie in \[0, 2\]; 1 to 3 was given"),
        (LABEL - 1, r"label must lie in \[0, 2\]; -1 to 1 was given"),
        (LABEL.float(), "label must hold integers, int64 or int32; torch.float32 was given"),
        (LABEL[:0], r"label must have shape \(batch,\); \(0,\) was given"),
        (LABEL[:, None], r"label must have shape \(batch,\); \(5, 1\) was given"),
        (None, "label must be a tensor; None was given"),
        ([0, 1], r"label must be a tensor; \[0, 1\] was given"),
      )),
    *((lambda f=f, label=label: f(label), says)
      for f in (lambda label: guidance.classifier_free_loss(FACTORED, XC, label, SNR),
                lambda label: guidance.guided(FACTORED.denoiser, label, 2.0))
      for label, says in (
        (torch.zeros(5, 3), r"label must have shape \(batch, 2\); \(5, 3\) was given"),
        (torch.zeros(5), r"label must have shape \(batch, 2\); \(5,\) was given"),
        (torch.zeros(5, 2).long(), "label must be floating-point; torch.int64 was given"),
        (torch.full((5, 2), INF), "label must be finite"),
        (None, "label must be a tensor; None was given"),
      )),
    (lambda: guidance.classifier_free_loss(FACTORED, XC, torch.zeros(1, 2), SNR), r"label must have shape \(5, 2\); \(1, 2\) was given"),
    (lambda: guidance.classifier_free_loss(TOY, X, LABEL, SNR), "denoiser must hold a network with num_classes"),
    (lambda: guidance.guided(PREDICTOR, LABEL, 2.0), "denoiser must hold a network with num_classes or num_factors; .* given has none"),
    (lambda: guidance.guided(same, LABEL, 2.0), "denoiser must hold a network with num_classes"),
    (lambda: guidance.guided(CLASSES.denoiser, LABEL[:2], 2.0)(XC, T5), r"label must have shape \(5,\); \(2,\) was given"),
    (lambda: measured(y=Y[:, :1]), r"y must have shape \(batch, 2\); \(5, 1\) was given"),
    (lambda: measured(y=sub(NAN)), "y must be finite"),
    (lambda: measured(y=None), "y must be a tensor; None was given"),
    (lambda: measured(A=A[0]), r"A must have shape \(measurements, dim\); \(3,\) was given"),
    (lambda: measured(A=sub(INF, A)), "A must be finite"),
    (lambda: measured(cov=EYE[:2]), r"cov must have shape \(3, 3\); \(2, 3\) was given"),
    (lambda: measured(cov=EYE.cumsum(0)), "cov must be symmetric; entries differ by up to 1"),
    (lambda: measured(cov=-EYE), "cov must be positive semi-definite; the smallest eigenvalue is -1"),
    (lambda: measured(denoiser=None), "denoiser must be a function; None was given"),
    (lambda: measured()(torch.zeros(4, 3), T5[:4]), "y must hold one row for each of the 4 examples; it has 5"),
    (lambda: measured()(torch.zeros(5, 3), T5.cumsum(0)), r"t must be the same for all examples; \[1, 2, 3, 4, 5\] was"),
    (lambda: measured()(X, T5), r"x_t must have shape \(5, 3\); \(5, 2\) was given"),
    *((lambda v=v: guidance.extrapolated(same, same, 2.0, v), r"interval must rise, from 0 or more|interval\[[01]\] must lie in") for v in ((5, 5), (-1, 4), (9, 3), (0, NAN))),
    *((lambda v=v: guidance.extrapolated(same, same, 2.0, v), r"interval\[[01]\] must be a number; ") for v in (
        None, 3, ("0", "9"), (0, 1j), (0, 1, 2), X.to_sparse())),
    (lambda: samplers.ddim_sample(measured(), S3, X_3), "schedule must have the noise of the denoiser's own at its times"),
    *((lambda t=t: guidance.extrapolated(same, same, 2.0)(X, t), says) for t, says in (
        (3, "t must be a tensor; 3"), (None, "t must be a tensor; None"), (T5[:3], r"t must have shape \(5,\); \(3,\) was"))),
    (lambda: measured()(None, T5), "x_t must be a tensor; None was given"),
    *((lambda weak=weak: guidance.extrapolated(PREDICTOR, weak, 2.0), "weak must have the noise of strong; it has another schedule")
      for weak in (denoisers.NoisePredictor(NET, s) for s in (S3, schedule.cosine_schedule(20)))),
],
"masked": [
    *((lambda x_shape=x_shape: masked.MaskedDiffusion(NET, x_shape), "x_shape must hold at least 1") for x_shape in ((), (0,), (2.5,))),
    (lambda: HIDING.marginal(1, X.long()), "x must be floating-point; torch.int64 was given"),
    *of_data(X, partial(masked.masked_loss, HIDING), partial(masked.masked_step_elbo, HIDING, t=T5)),
    *doors(
        whole(1),
        lambda num_steps: list(masked.masked_sample(HIDING, 2, num_steps)),
        lambda num: list(masked.masked_sample(HIDING, num, 2)),
    ),
    *doors(whole(0), lambda t: HIDING.marginal(t, X)),
    *((lambda f=f: f(TOY, X), "model must be a MaskedDiffusion; a Ddpm was given") for f in (
        masked.masked_loss, lambda model, x: list(masked.masked_sample(model, 2, 2)))),
    (lambda: HIDING.inner_posterior(1, X, X[:1]), r"x must have shape \(5, 2\); \(1, 2\) was given"),
    (lambda: masked.Symbols(X), r"log_probs must have shape \(batch, 3\); \(5, 2\) was given"),
    (lambda: masked.masked_step_elbo(HIDING, X, T5.byte()), "t must hold integers, int64 or int32; torch.uint8 was given"),
    *((lambda f=f: f(X + 1 / 3), f"{says}; 0.3333 to 0.3333 was given") for f, says in (
        (lambda x: masked.masked_loss(HIDING, x), "x must be 0 or 1"),
        (HIDING.likelihood, "z must hold 0, 0.5 and 1 alone"),
        (lambda z: HIDING.inner_prior(1, z), "z must hold 0, 0.5 and 1 alone"),
        (lambda x: HIDING.marginal(1, x), "x must hold 0, 0.5 and 1 alone"),
        (HIDING.prior(5).log_prob, "value must hold 0, 0.5 and 1 alone"),
    )),
    (lambda: masked.masked_step_elbo(HIDING, X, 0 * T5), r"t must lie in \[1, 4\]; 0 to 0 was given"),
    (lambda: HIDING.inner_prior(4, X), r"t must lie in \[1, 3\]; 4 was given"),
    (lambda: HIDING.marginal(1, X[:, :1]), r"x must have shape \(batch, 2\); \(5, 1\) was given"),
    *((lambda v=v: masked.masked_sample(*v), says) for v, says in (  # at the call, before anything is drawn
        ((HIDING, 2, 5), r"num_steps must lie in \[1, 4\]; 5 was given"), ((HIDING, 0, 2), "num must be at least 1; 0 was given"),
        ((NET, 2, 2), "model must be a MaskedDiffusion; a TimeMlp was given"))),
    (lambda: HIDING.inner_posterior(T5 > 0, X, X), "t must hold integers, int64 or int32; torch.bool was given"),
    (lambda: HIDING.guess(X - 3, 1), "z must hold 0, 0.5 and 1 alone; -3 to -3 was given"),
    (lambda: masked.MaskedDiffusion(NET, (2,), 0), "num_steps must be at least 1; 0 was given"),
    *((lambda v=v: masked.Symbols(v + torch.zeros(5, 2, 3)), f"log_probs must be of probabilities that add up to 1; {says} was given")
      for v, says in ((0, "3 to 3"), (NAN, "nan to nan"), (-INF, "0 to 0"))),
    (lambda: list(masked.masked_sample(masked.MaskedDiffusion(lambda z, t: z * NAN, (2,), 4), 3, 4)), "log_probs must be of probabilities that add up to 1; nan to nan"),
    (lambda: masked.MaskedDiffusion(lambda z, t: None, (2,), 4).guess(X, 1), r"network\(2 \* z - 1, t\) must be a tensor; None was given"),
    *((lambda v=v: HIDING.prior(5).log_prob(v), r"value must have shape \(5, 2\)") for v in (X[:1], X[:, :1], X[:3], X[0])),
],
"refinement": [
    *doors(whole(1), lambda factor: refinement.in_finer_steps(TOY, torch.ones(17) / 17, factor)),
    (lambda: refinement.in_finer_steps(TOY, torch.ones(17) / 17), "model must have the cosine schedule; another one was"),
    (lambda: refinement.in_finer_steps(toy(), torch.ones(17) / 17), "denoiser must be a NoisePredictor; <function same"),
],
"training": [
    *doors(
        numbers("be positive and finite", 0.0, -1, NAN, INF, optional=True),
        lambda max_grad_norm: fit(max_grad_norm=max_grad_norm),
    ),
    *doors(NOT_NEGATIVE, lambda decay: training.exponential_average(PLAIN, decay)),
    *doors(whole(1), lambda max_steps: training.minimize(lambda: PLAIN, [X], max_steps=max_steps)),
    (lambda: fit([IMAGES[:0]]), r"x must have shape \(batch, 1, 8, 8\); \(0, 1, 8, 8\) was given"),
    (lambda: fit([IMAGES[:0]], lambda model, x: x.sum((1, 2, 3))), "batches must hold at least one example each"),
    (lambda: fit(loss=lambda model, x: 1.5), r"loss must return one value .* shape \(4,\); it returned 1.5"),
    (lambda: fit(loss=lambda model, x: None), r"loss must return one value .* it returned None"),
    (lambda: fit(loss=lambda model, x: model(x).sum((1, 2, 3))[:1]), r"loss must return one value .* it returned shape \(1,\)"),
    (lambda: fit(loss=lambda model, x: model(x).mean()), r"loss must return one value .* it returned shape \(\)"),
    (lambda: fit(loss=lambda model, x: model(x)), r"loss must return one value .* it returned shape \(4, 1, 8, 8\)"),
    (lambda: fit(loss=lambda model, x: x.sum((1, 2, 3))), "loss must depend on the model's parameters"),
    (lambda: fit(loss=lambda model, x: NAN * model(x).sum((1, 2, 3))), "the mean loss must be finite; at step 1 it is nan"),
    (lambda: fit([IMAGES.byte()]), "x must be floating-point; torch.uint8 was given"),
    (lambda: next(training.fit(tiny(), same, [IMAGES], RUN)), "optimizer must hold parameters of the model; it holds none"),
    *((lambda v=v: next(training.fit(PLAIN, same, [IMAGES], v)), "optimizer must be a Optimizer; ") for v in (None, 0.1)),
    (lambda: next(training.fit(None, same, [IMAGES], RUN)), "model must be a module of torch; None was given"),
    (lambda: training.exponential_average(PLAIN, 1.0), "decay must be below 1; 1.0 was given"),
    (lambda: training.minimize(lambda: X, [X]), r"function must return a single number, .* it returned shape \(5, 2\)"),
    (lambda: training.minimize(lambda: None, [X]), "function must return a single number, .* it returned None"),
    (lambda: training.minimize(lambda: X.sum(), [X]), "function must depend on the parameters"),
    (lambda: training.minimize(lambda: X.sum(), []), "parameters must hold at least one tensor"),
    (lambda: training.minimize(None, [X]), "function must be a function; None was given"),
    (lambda: training.minimize(lambda: X.sum(), "ab"), r"parameters\[0\] must be a tensor; 'a' was given"),
    (lambda: training.exponential_average(None), "model must be a module of torch; None was given"),
    (lambda: fit(5), "batches must be a Iterable; 5 was given"),
    *((lambda ema=ema: fit(ema=ema), "ema must be a AveragedModel; ") for ema in (5, PLAIN)),
    *((lambda ema=ema: fit(ema=training.exponential_average(ema)), "ema must be an average of the model; it has other parameters")
      for ema in (nn.Linear(3, 3), nn.Identity())),
    *((lambda batch=batch: fit([batch]), r"batches must hold tensors, or tuples or lists of them; a \w+ was given") for batch in (None, 3, (), {"x": X})),
    (lambda: training.minimize(lambda: p.log().sum(), [p := nn.Parameter(-torch.ones(2))]), "the minimized value must be finite; it is nan"),
    *((lambda given=given: training.minimize(lambda: X.sum(), given), "parameters must hold .*; one that was computed was given")
      for given in ([torch.ones(2, requires_grad=True) * 2], torch.ones(2, requires_grad=True))),
],
"metrics": [
    *of_data(IMAGES, partial(metrics.log_likelihood, GRAY, num_samples=2), partial(metrics.active_units, GRAY)),
    *doors(
        whole(1),
        lambda num_samples: metrics.log_likelihood(GRAY, IMAGES, num_samples),
        lambda chunk: metrics.log_likelihood(GRAY, IMAGES, 1, chunk),
        lambda num_permutations: metrics.energy_test(X, X, num_permutations),
        lambda num_dims: metrics.bits_per_dim(X, num_dims),
    ),
    *doors(NOT_NEGATIVE, lambda threshold: metrics.active_units(GRAY, IMAGES, threshold)),
    *doors(
        whole(2),
        lambda num_bins: metrics.mutual_information(X, X, num_bins),
        lambda num_blocks: metrics.jackknife(float, X, num_blocks),
    ),
    *doors(POSITIVE, lambda entropy: metrics.mutual_information_gap(X, entropy)),
    (lambda: metrics.mutual_information(None, X), "codes must be a tensor; None was given"),
    (lambda: metrics.mutual_information_gap(sub(NAN), 1.0), "information must be finite"),
    (lambda: metrics.proportion([True]), r"hits must be a tensor; \[True\] was given"),
    (lambda: metrics.linear_probe(X, LABEL + 0.5, X, LABEL), "labels must hold integers, int64 or int32; torch.float32 was given"),
    (lambda: metrics.auroc(X[:, 0], sub(NAN)[:, 0]), "anomalous must be finite"),
    (lambda: metrics.auroc(0.5, X[:, 0]), "normal must be a tensor; 0.5 was given"),
    *((lambda f=f, x=x: f(*x), says) for f in (metrics.energy_test, metrics.frechet_distance) for x, says in (
        ((X, sub(INF)), "y must be finite"),
        ((X, X[:1]), "num_y must be at least 2; 1 was given"),
        ((X, None), "y must be a tensor; None was given"),
    )),
    (lambda: metrics.normal_fit(X[0]), r"x must have shape \(num, dim\); \(2,\) was given"),
    (lambda: metrics.normal_fit(X[:1]), "num must be at least 2; 1 was given"),
    (lambda: metrics.bits_per_dim(None, 784), "nats must be a tensor; None was given"),
    (lambda: metrics.frechet_distance(X.to(torch.complex64), X), "x must be a dense tensor of real numbers; a complex one"),
    *((lambda f=f, given=given: f(*given), says) for f, given, says in (
        (metrics.r_squared, (torch.ones(20), X.flatten().repeat(2)), "target must vary; all values are 1"),
        (metrics.r_squared, (X[:, 0], X[:, 0]), "num must be at least 10; 5 was given"),
        (metrics.r_squared, (X, X), r"target must have shape \(num,\); \(5, 2\) was given"),
        (metrics.proportion, (MASK[:0],), r"hits must have shape \(num,\); \(0,\) was given"),
        (metrics.proportion, (X[0],), "hits must hold booleans; torch.float32 was given"),
        (metrics.auroc, (sub(INF)[:, 0], X[0]), "normal must be finite"),
        (metrics.auroc, (X, X), r"normal must have shape \(num,\); \(5, 2\) was given"),
        (metrics.auroc, (X[0], X), r"anomalous must have shape \(num_anomalous,\); \(5, 2\) was given"),
        (metrics.linear_probe, (X, LABEL, X[:, :1], LABEL), r"test_codes must have shape \(num_test, 2\); \(5, 1\) was"),
        (metrics.linear_probe, (X[0], LABEL, X, LABEL), r"codes must have shape \(num, dim\); \(2,\) was given"),
        (metrics.linear_probe, (X, LABEL[:2], X, LABEL), r"labels must have shape \(5,\); \(2,\) was given"),
        (metrics.linear_probe, (X, LABEL, X, LABEL[:2]), r"test_labels must have shape \(5,\); \(2,\) was given"),
        (metrics.linear_probe, (sub(NAN), LABEL, X, LABEL), "codes must be finite"),
        (metrics.linear_probe, (X, T5, X, LABEL), "num_classes must be at least 2; 1 was given"),
        (metrics.active_units, (GRAY, IMAGES[:1]), "num_examples must be at least 2; 1 was given"),
        (metrics.mutual_information, (X[0], X), r"codes must have shape \(num, latent_dim\); \(2,\) was given"),
        (metrics.mutual_information, (X, X[:4]), r"factors must have shape \(5, num_factors\); \(4, 2\) was given"),
        (metrics.mutual_information, (X, sub(NAN)), "factors must be finite"),
        (metrics.mutual_information, (X, X), r"num_bins must lie in \[2, 5\]; 20 was given"),
        (metrics.mutual_information_gap, (X[:1], 1.0), "latent_dim must be at least 2; 1 was given"),
        (metrics.jackknife, (float, X, 6), r"num_blocks must lie in \[2, 5\]; 6 was given"),
        (metrics.frechet_distance, (X, metrics.normal_fit(torch.zeros(5, 3))), r"mean of y must have shape \(2,\); \(3,\)"),
    )),
    *((lambda f=f, x=x: f(*x), says) for f in (metrics.energy_test, metrics.frechet_distance) for x, says in (
        ((X[0], X), r"x must have shape \(num, dim\); \(2,\) was given"),
        ((X, X[:, :1]), r"y must have shape \(num_y, 2\); \(5, 1\) was given"),
        ((X[:1], X), "num must be at least 2; 1 was given"),
        ((sub(NAN), X), "x must be finite"),
    )),
    (lambda: metrics.active_units(nn.Linear(2, 2), X), "model must be a LatentChain; a Linear was given"),
    *((lambda mean=mean, root=root: metrics.frechet_distance(X, metrics.NormalFit(mean.double(), root)), f"{says}")
      for mean, root, says in (
        (X[0] + NAN, EYE[:2, :2].double(), "mean of y must be finite"), (X[0], EYE[:2, :2].double() + INF, "root of y must be finite"),
        (X[0], X[0, 0].double(), r"root of y must have shape \(rows, 2\); \(\) was"), (X[0], None, "root of y must be a tensor; None was"))),
],
"data": [
    (lambda: data.load(None), "name must be one of mnist, fashion_mnist, cifar10, digits; None was given"),
    (lambda: data.load("digits", device="gpu"), "device must be one that torch knows, such as cpu or cuda, and .*; 'gpu' was"),
    (lambda: data.find("imagenet"), "name must be one of mnist"),
    (lambda: data.binarize(2 * X - 1), r"x must lie in \[0, 1\]; -1 to -1 was given"),
    (lambda: data.binarize(0.5), "x must be a tensor; 0.5 was given"),
    (lambda: data.to_symmetric(X + 255), r"x must lie in \[0, 1\]; 255 to 255 was given"),
    *((lambda f=f, x=x: f(x), says) for f in (data.to_symmetric, data.to_unit) for x, says in (
        (X.byte(), "x must be floating-point; torch.uint8 was given"), (None, "x must be a tensor; None was given"))),
    (lambda: Batches(X, batch_size=2).load_state_dict({}), "state must have the keys"),
    (lambda: data.scenes(1, seed=2**65), r"seed must be below 2\^64; 36893488147419103232 was given"),
    (lambda: data.scenes(1, device="gpu"), "device must be one that torch knows, such as cpu or cuda, and .*; 'gpu' was given"),
    (lambda: Batches(X, batch_size=2).load_state_dict(dict(step=1.5, seed=0, batch_size=2, num_examples=5)),
     "the step of state must be an integer, at least 0; 1.5 was given"),
    (lambda: data.load("digits", "valid"), "split must be one of train, test; 'valid' was given"),
    (lambda: data.binarize(X.byte()), "x must be floating-point; torch.uint8 was given"),
    *((lambda given=given: Batches(*given, batch_size=2), says) for given, says in (
        ((), "tensors must hold at least one tensor; none was given"),
        ((X, X[:4]), r"tensors must have equal first dimensions; shapes \(5, 2\), \(4, 2\) were given"),
        ((torch.tensor(1.0),), r"tensors must have equal first dimensions; shapes \(\) were given"),
        ((X[:0],), "tensors must hold at least one example; the first dimension is 0"),
        (([1, 2],), "tensors must hold torch tensors only; list was given"),
        ((X, X.to("meta")), "tensors must lie on one device; cpu, meta were given"),
    )),
    *doors(
        whole(1),
        lambda batch_size: Batches(X, batch_size=batch_size),
        lambda num_epochs: Batches(X, batch_size=2, num_epochs=num_epochs),
    ),
    *doors(whole(0), lambda seed: Batches(X, batch_size=2, seed=seed)),
    *((lambda state=state: Batches(X, batch_size=2).load_state_dict(state), "state must ") for state in (None, [], "step", {1: 2, "step": 3})),
],
"scenes": [
    *doors(whole(1), lambda num: data.scenes(num)),
    *doors(whole(1), lambda num_starts: data.nearest_scenes(SCENE, num_starts), lambda rounds: data.nearest_scenes(SCENE, 1, rounds)),
    (lambda: data.nearest_scenes(IMAGES), r"images must have shape \(num, 3, 32, 32\); \(4, 1, 8, 8\) was given"),
    (lambda: data.nearest_scenes(sub(NAN, SCENE)), r"images must lie in \[0, 1\]; nan to nan was given"),
    (lambda: data.nearest_scenes(SCENE + 255), r"images must lie in \[0, 1\]; 255 to 255 was given"),
    (lambda: data.nearest_scenes(SCENE, 5000, 1), r"num_starts must lie in \[1, 4096\]; 5000 was given"),
    *((lambda given=given: data.render_scenes(torch.tensor([given])), says) for given, says in (
        ([0.0, 0.5, 0, 1], r"factors must have shape \(num, 5\); \(1, 4\) was given"),
        ([1, 1, 1, 1, 1], "factors must be floating-point; torch.int64 was given"),
        ([0.0, 0.5, 0, 1, NAN], "factors must be finite"),
        ([0.0, 1.6, 0, 1, 0], "elevation must lie between 0 and pi/2, both excluded; 1.6 to 1.6 was given"),
        ([0.0, 0.0, 0, 1, 0], "elevation must lie between 0 and pi/2, both excluded; 0 to 0 was given"),
        ([0.0, 0.5, 0, 0, 0], "size must be positive; 0 was given"),
    )),
],
"toys": [
    (lambda: data.toy_density("moons"), "name must be one of rings, mixture, pinwheel, checkerboard; 'moons' was given"),
    (lambda: toys.Rings(()), "num_radii must be at least 1; 0 was given"),
    (lambda: toys.Rings((1.0, 0.0)), r"radii\[1\] must be positive and finite; 0.0 was given"),
    *doors(POSITIVE, lambda noise: toys.Rings(noise=noise)),
    *((lambda name=name, x=x: data.toy_density(name).log_prob(x), says) for name in ("rings", "checkerboard") for x, says in (
        (EYE, r"value must have shape \(3, 2\); \(3, 3\) was given"),
        (X.long(), "value must be floating-point; torch.int64 was given"),
        (sub(NAN), "value must be finite"),
    )),
    (lambda: data.toy_density(["rings"]), r"name must be one of rings, .*; \['rings'\] was given"),
    (lambda: toys.Rings(None), "radii must be a Sequence; None was given"),
    *((lambda rate=rate: toys.Swirl(rate), "rate must be ") for rate in (NAN, "a")),
    *((lambda x=x: toys.Swirl(1.0)(x), says) for x, says in (
        (EYE, r"value must have shape \(3, 2\); \(3, 3\) was given"), (X.long(), "value must be floating-point; torch.int64 was given"))),
],
"rejects": [
    (lambda: data.rejects(IMAGES[:1]), "num_images must be at least 2; 1 was given"),
    (lambda: data.rejects(IMAGES + 0.5), r"x must lie in \[0, 1\]; 0.5 to 1.5 was given"),
    (lambda: data.rejects(IMAGES[:, 0]), r"x must have shape \(batch, channels, height, width\); \(4, 8, 8\) was"),
    *((lambda d=d: data.rejects(IMAGES.to(d)), f"x must be floating-point, of 32 or 64 bits; {d} was given")
      for d in (torch.float16, torch.uint8, torch.bool)),
    *((lambda a=a, b=b: is_spoiled(a, b), rf"spoiled must have shape \({says}\)") for a, b, says in (
        (IMAGES[:1], IMAGES, "4, 1, 8, 8"), (IMAGES, IMAGES[:, :, :1], "4, 1, 1, 8"))),
    *((lambda a=a: is_spoiled(a, a), says) for a, says in (
        (IMAGES.byte(), "x must be floating-point; torch.uint8 was given"), (X[0], r"x must have shape \(batch, ...\); \(2,\) was given"))),
],
"landscapes": [
    *doors(whole(1), lambda num: data.landscapes(num)),
    *doors(whole(1), lambda pixels: data.landscapes(1, pixels=pixels)),
    (lambda: data.landscapes(1, seed=-1), r"seed must be at least 0; -1 was given"),
    (lambda: data.landscapes(1, held_out="all"), "held_out must be True, False or None; 'all' was given"),
    *((lambda v=v: data.landscapes(1, held_out=v), "held_out must be True, False or None") for v in (1, T5, [False])),
    (lambda: data.landscapes(1, device="gpu"), "device must be one that torch knows"),
    *((lambda f=f, given=given: f(given), says)
      for f in (lambda given: data.render_landscapes(given, torch.zeros(1, 25)), data.is_held_out)
      for given, says in (
        (torch.zeros(1, 7).long(), r"attributes must have shape \(num, 8\); \(1, 7\) was given"),
        (torch.zeros(1, 8), "attributes must hold integers"),
        (torch.full((1, 8), 5), r"attributes, size must lie in \[0, 1\]; 5 to 5 was given"),
    )),
    *((lambda jitter=jitter: data.render_landscapes(torch.zeros(1, 8).long(), jitter), says) for jitter, says in (
        (torch.zeros(1, 24), r"jitter must have shape \(1, 25\); \(1, 24\) was given"),
        (torch.zeros(1, 25).long(), "jitter must be floating-point"),
        (torch.full((1, 25), 2.0), r"jitter must lie in \[-1, 1\]; 2 to 2 was given"),
    )),
],
"captions": [
    *((lambda a=a, d=d: data.captions(a, d), says) for a, d, says in (
        (torch.zeros(1, 7).long(), torch.zeros(1, 22), r"attributes must have shape \(num, 8\); \(1, 7\) was given"),
        (torch.zeros(1, 8), torch.zeros(1, 22), "attributes must hold integers"),
        (torch.full((1, 8), 5), torch.zeros(1, 22), r"attributes, size must lie in \[0, 1\]; 5 to 5 was given"),
        (torch.zeros(1, 8).long(), torch.zeros(2, 22), r"draws must have shape \(1, 22\); \(2, 22\) was given"),
        (torch.zeros(1, 8).long(), torch.zeros(1, 22).long(), "draws must be floating-point"),
        (torch.zeros(1, 8).long(), torch.full((1, 22), 1.5), r"draws must lie in \[0, 1\]; 1.5 to 1.5 was given"),
    )),
    (lambda: data.captions(torch.zeros(1, 8).long(), torch.zeros(1, 22), 2), r"omit must lie in \[0, 1\]; 2 was given"),
    *((lambda text=text: data.tokens(text), says) for text, says in (
        ([], "number of texts must be at least 1; 0 was given"),
        ([""], "text must have 1 to 24 words; 0 were given"),
        ([" , . "], "text must have 1 to 24 words; 0 were given"),
        (25 * "a ", "texts must be a list of texts; a str was given"),
        *((v, r"texts must be a list of texts; a \w+ was given") for v in (None, 3, {"a red house"}, iter(["a"]))),
        ([25 * "a "], "text must have 1 to 24 words; 25 were given"),
        (["a bleu house"], "text must have words of the .* in the vocabulary, such as 'blue'; 'bleu' is none"),
        (["a house, 42"], "text must have words of the .* such as red, yellow, .*; '42' is none"),
        ([3], "text must be a str; 3 was given"),
    )),
],
"treatments": [
    *((lambda f=f, x=x: f(x), says)
      for f in (lambda x: data.shifted(x, X[:4]), lambda x: data.blurred(x, X[:4, 0]), data.treated,
                lambda x: data.with_contrast(x, X[:4, 0], X[:4, 0]))
      for x, says in ((IMAGES.byte(), "x must be floating-point, of 32 or 64 bits; torch.uint8"), (sub(NAN, IMAGES), "x must be finite"))),
    *((lambda f=f: f(255 * IMAGES), r"x must lie in \[0, 1\]; 0 to 255 was given")
      for f in (data.treated, lambda x: data.with_contrast(x, X[:4, 0], X[:4, 0]))),
    (lambda: data.shifted(IMAGES, X[:2]), r"pixels must have shape \(4, 2\); \(2, 2\) was given"),
    (lambda: data.shifted(IMAGES, sub(NAN)[:4]), "pixels must be finite"),
    *((lambda v=v: data.blurred(IMAGES, v + X[:4, 0]), says) for v, says in (
        (-1, r"width must lie in \[0, inf\]; -1 to -1 was given"), (INF, "width must be finite"))),
    (lambda: data.with_contrast(IMAGES, X[:4, 0], X[0]), r"gray must have shape \(4,\); \(2,\) was given"),
    (lambda: data.with_contrast(IMAGES, sub(NAN)[:4, 0], X[:4, 0]), "factor must be finite"),
    (lambda: data.with_contrast(IMAGES, X[:4, 0] - 1, X[:4, 0]), r"factor must lie in \[0, inf\]; -1 to -1 was given"),
    (lambda: data.with_contrast(IMAGES, X[:4, 0], X[:4, 0] + 9), r"gray must lie in \[0, 1\]; 9 to 9 was given"),
],
}
# fmt: on
