"""Bad input to the zoo, the command line, the helpers of pages and the smaller networks: one sentence each."""

import contextlib
import hashlib
import importlib
import io
import json
import math
import os
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bad_input import (
    IMAGES,
    INF,
    NAN,
    POSITIVE,
    Printed,
    Row,
    X,
    between,
    by_line,
    doors,
    one_sentence,
    sub,
    whole,
)
from PIL import Image
from tiny_recipes import RECIPE, RECIPES, card, no_data, recipes, tiny, tiny_vae
from torch import nn

from companion import bits_back, data, experiments, masked, runtime, samplers, vae, zoo
from companion.__main__ import main
from companion.data import toys
from companion.ddpm import image_ddpm
from companion.distributions import GaussianLikelihood
from companion.experiments import ledger
from companion.networks import conv, embeddings, residual
from companion.networks.classifier import AttributeReader
from companion.networks.unet import UNet
from companion.page import exercises, frames, live, plots, sliders, verify
from companion.zoo import (
    architectures,
    checkpoints,
    comparisons,
    logs,
    losses,
    measures,
    obedience,
    records,
    weights,
    yardstick,
    yourself,
)

pretrained = importlib.import_module("companion.zoo.pretrained")
DIGITS = torch.zeros(20, 1, 28, 28)
DDPM, XC = image_ddpm(UNet((1, 4, 4), 4, (1,), 1)), torch.zeros(2, 1, 4, 4)
READ = AttributeReader([2, 3]).eval()

__all__ = ["no_data", "recipes"]


def cli(*arguments: object) -> None:
    """Run `python -m companion` in this process; a refusal is raised."""
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(said):
        status = main([str(each) for each in arguments])
    if status == 1:
        raise Printed(said.getvalue().removeprefix("error: ").removesuffix("\n"))


def _folder(path: Path) -> Path:
    """An empty folder at this place."""
    path.mkdir(parents=True, exist_ok=True)
    return path


def _write_run(path: Path, content: bytes) -> None:
    """A file whose checksum is right, whatever is in it."""
    (_folder(path.parent) / path.name).write_bytes(hashlib.sha256(content).digest() + content)


def spoiled() -> nn.Module:
    """A model with a NaN."""
    model = tiny()
    next(model.parameters()).data.view(-1)[0] = NAN
    return model


def in_environment(**variables: str) -> None:
    """Measure weights with these variables."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        zoo.evaluate("tiny")


def slider(**changes) -> sliders.Slider:
    good = dict(values=[0, 1], render=lambda v: np.full((8, 6), 0.5 * v), description="d", alt="{}")
    return sliders.Slider(**good | changes)


# fmt: off
CASES = [
    *doors(whole(1), lambda num_in: conv.conv_decoder(num_in)),
    *doors(whole(4), lambda dim: embeddings.SinusoidalEmbedding(dim), lambda dim: embeddings.FourierEmbedding(dim)),
    *doors(between(1, INF), lambda max_wavelength: embeddings.SinusoidalEmbedding(8, max_wavelength)),
    *doors(POSITIVE, lambda std: embeddings.FourierEmbedding(8, std)),
    (lambda: conv.conv_encoder(2, 28), "image_shape must hold at least 3 positive integers; 28 was given"),
    (lambda: embeddings.SinusoidalEmbedding(7), "dim must be even and at least 4; 7 was given"),
    (lambda: zoo.train(None), "name must be one of ae-mnist, .*; None was given"),
    (lambda f: zoo.train("tiny", f / "out", epochs=2.5), "epochs must be an integer, at least 1; 2.5 was given"),
    (lambda f: zoo.train("tiny", f / "out", save_every="60"), "save_every must be a number; '60' was given"),
    (lambda: zoo.train("tiny", 5), "out must be a path; 5 was given"),
    (lambda f: zoo.train("tiny", f / "good" / "tiny.json"), "out must be a folder that can be written; .*tiny.json is none"),
    (lambda f: zoo.train("tiny", f / "run", resume=True), "path must be an undamaged file that save_run wrote"),
    *((lambda f, use=use: use("tiny", folder=f / "none"), "folder must be a folder of weights; .*none is none")
      for use in (zoo.evaluate, zoo.pretrained, zoo.sample, partial(weights.load_weights, model=tiny()))),
    *((lambda f, use=use: use("tiny", folder=f / "good" / "tiny.json"), "folder must be a folder of weights; .* is none")
      for use in (zoo.evaluate, zoo.pretrained, zoo.sample, partial(weights.load_weights, model=tiny()))),
    *((lambda f, use=use: use("tiny", folder=5), "folder must be a path; 5 was given")
      for use in (zoo.evaluate, zoo.pretrained, zoo.sample, partial(weights.load_weights, model=tiny()))),
    *((lambda f, use=use, bad=bad: use("tiny", folder=f / bad), says)
      for use in (zoo.evaluate, zoo.pretrained, partial(weights.load_weights, model=tiny()))
      for bad, says in (
        ("empty", r"name must be one of the weights \[\]; 'tiny' was given"),
        ("truncated", "the weights 'tiny' must have the checksum of their card"),
        ("altered", "the weights 'tiny' must have the checksum of their card"),
        ("pickle", "the weights 'tiny' must be a safetensors file; .* is none"),
        ("missing", "the weights 'tiny' have a card, but their file .* is missing"),
        ("folder", "the weights 'tiny' have a card, but their file .* is missing"),
        ("other", "the weights 'tiny' do not fit the model: Autoencoder needs"),
        ("nan", "the weights 'tiny' must hold finite floating-point numbers"),
        ("text", "the card of the weights 'tiny' must be JSON with the fields of Card"),
        ("binary", "the card of the weights 'tiny' must be JSON with the fields of Card"),
        ("deep", "the card of the weights 'tiny' must be JSON with the fields of Card"),
        ("number", "the card of the weights 'tiny' must be JSON with the fields of Card"),
        ("null", "the card of the weights 'tiny' must be JSON with .*; sha256 must be of type str, .*; None was"),
        ("renamed", "the card of the weights 'tiny' must be JSON with .*; its name is 'tuny'"),
      )),
    (lambda f: weights.load_weights("tiny", None, f / "good"), "model must be a module of torch; None was given"),
    (lambda f: weights.load_weights("../good/tiny", tiny(), f / "good"), r"name must be one of the weights \['tiny'\]"),
    (lambda f: zoo.pretrained("tiny", f / "good", "gpu"), "device must be one that torch knows, such as cpu or cuda, and .*; 'gpu'"),
    (lambda f: zoo.evaluate("tiny", samples=2.5, folder=f / "good"), "samples must be an integer, at least 1; 2.5 was"),
    (lambda f: zoo.evaluate("tiny", folder=f / "good", out=f / "good" / "tiny.json"), "out must be a folder that can be"),
    (lambda: zoo.sample("ddpm-digits", 2.5), "num must be an integer, at least 1; 2.5 was given"),
    (lambda: zoo.sample("ddpm-digits", seed=2**65), r"seed must be below 2\^64; "),
    (lambda: zoo.sample("ddpm-digits", steps=1001), r"steps must lie in \[2, 1000\]; 1001 was given"),
    (lambda: zoo.sample("ddpm-digits", steps=2.5), "steps must be an integer, at least 2; 2.5 was given"),
    (lambda: zoo.sample("ddpm-digits", steps=1), "steps must be at least 2; 1 was given"),
    (lambda: zoo.sample("ddpm-digits", num=10**12), r"num must lie in \[1, 1e\+06\]; 1000000000000 was given"),
    (lambda f: zoo.sample("ddpm-digits", out=_folder(f / "a.png")), "out must be a file; .*a.png is a folder"),
    (lambda f: records.record("flow-digits", "spacing", folder=_folder(f / "no"), out=f / "out"), "folder must hold a"),
    (lambda f: records.record("ddpm-digits", num=2.5, out=f / "out"), "num must be an integer, at least 2; 2.5 was"),
    (lambda f: checkpoints.load_run(f / "good"), "path must be a file that save_run wrote; .*good is a folder"),
    (lambda f: checkpoints.load_run(f / "good" / "tiny.json"), "path must be an undamaged file that save_run wrote"),
    (lambda f: cli("train", "tiny", "--out", f / "out", "--save-every", "-1"), "save_every must not be negative"),
    (lambda f: cli("train", "tiny", "--out", f / "good"), ".* holds weights of tiny; delete them, or choose another --out"),
    (lambda f: cli("train", "tiny", "--out", f / "run", "--resume"), "path must be an undamaged file that save_run wrote"),
    (lambda: cli("train", "tiny", "--out", "/proc/x"), "out must be a folder that can be written; /proc/x is none"),
    *((lambda f, bad=bad: cli("evaluate", "tiny", "--folder", f / bad), says) for bad, says in (
        ("none", "folder must be a folder of weights"),
        ("truncated", "the weights 'tiny' must have the checksum of their card"),
        ("pickle", "the weights 'tiny' must be a safetensors file"),
        ("deep", "the card of the weights 'tiny' must be JSON"),
        ("number", "the card of the weights 'tiny' must be JSON"),
        ("null", "the card of the weights 'tiny' must be JSON"),
    )),
    (lambda: cli("sample", "vae-mnist", "--num", 0), "num must be at least 1; 0 was given"),
    (lambda: cli("sample", "vae-mnist", "--seed", 2**65), r"seed must be below 2\^64; "),
    (lambda: cli("sample", "vae-mnist", "--sampler", "ode"), "steps and sampler belong to a diffusion model"),
    (lambda: cli("sample", "vae-mnist", "--out", "/proc/x/y.png"), "out must be a folder that can be written; /proc/x is"),
    (lambda f: cli("record", "ddpm-digits", "--num", 0, "--out", f / "out"), "num must be at least 2; 0 was given"),
    (lambda: verify.verify(None, 1.0, 1.0), "label must be the label of an equation, .*; None was given"),
    (lambda: verify.verify("eq-a", [], []), "left is empty"),
    (lambda: verify.verify("eq-a", 1.0, None), "right must be a tensor, a number or a sequence; NoneType was given"),
    (lambda: verify.verify("eq-a", NAN, 1.0), "eq-a: left holds a value that is not finite: nan"),
    (lambda: verify.verify("eq-a", X.double() + 1, X[0].double() + 1), "left and right must have the same shape"),
    (lambda: verify.verify("eq-a", X, X), "the rule exact with tolerance 1e-10 needs float64"),
    (lambda: verify.verify("eq-a", 1.0, 1.0, rejects=[2.0]), r"rejects must be a Mapping; \[2.0\] was given"),
    (lambda: verify.verify("eq-a", 1.0, 1.0, rejects={"E1": "2"}), r"rejects\['E1'\] must be a tensor, a number or"),
    (lambda: verify.exact.within(1.0), "rtol must be above 0 and below 0.1; 1.0 was given"),
    (lambda: verify.exact.within("1e-3"), "rtol must be a number; '1e-3' was given"),
    (lambda: verify.at_most("1"), "slack must be a number; '1' was given"),
    (lambda: exercises.expect_close(None, 2 / 3, "Divide."), "the answer should be a real number .*, not NoneType."),
    (lambda: slider(values=5), "axes must hold values for each of d; 5 was given"),
    (lambda: slider(alt="{} {}"), "alt must fit its values, 0; '{} {}' was given"),
    (lambda: slider(label="{:q}"), "label must fit its values, 0; '{:q}' was given"),
    (lambda: slider(start=0.5), r"start must hold an index per axis, below 2 d; \[0.5\] was given"),
    (lambda: slider(start="0"), r"start must hold an index per axis, below 2 d; \['0'\] was given"),
    (lambda: slider(render=lambda v: None), "a frame must be a figure, a PIL image, or pixels"),
    (lambda: slider(render=lambda v: np.zeros((0, 6))), r"a frame must be .* of shape \(0, 6\) was given"),
    (lambda: slider(render=lambda v: Image.new("L", (8, 6 + v))), r"frames must all have one size; \(8, 6\) and \(8, 7\)"),
    *((lambda use=use: use(["tiny"]), r"name must be one of .*; \['tiny'\] was given") for use in (
        zoo.train, zoo.evaluate, zoo.sample, zoo.pretrained, records.record, yourself.cost, ledger.run)),
    *((lambda f, bad=bad: weights.load_weights("tiny", tiny(), f / bad), says) for bad, says in (
        ("card-nan", "the card of the weights 'tiny' must be JSON with .*; metric_value must be .* finite; nan was"),
        ("card-inf", "the card of the weights 'tiny' must be JSON with .*; minutes must be .* finite; inf was"),
        ("card-bool", "the card of the weights 'tiny' must be JSON with .*; seed must be of type int, .*; True was"),
        ("fifo", "the weights 'tiny' have a card, but their file .* is missing"),
    )),
    (lambda f: zoo.pretrained("buffer", f / "buffer"), "the weights 'buffer' must hold finite floating-point numbers; 'frequencies'"),
    *((lambda f, bad=bad: weights.save_weights(tiny(), replace(card("tiny"), **bad), f / "out"), says) for bad, says in (
        ({"metric_value": NAN}, "metric_value must be of type float, a number also finite; nan was given"),
        ({"metric_se": INF}, r"metric_se must be of type float \| None, a number also finite; inf was given"),
        ({"metric_value": X[0, 0]}, r"metric_value must be of type float, .*; tensor\(0.\) was given"),
        ({"seed": "3"}, "seed must be of type int, a number also finite; '3' was given"),
        ({"name": None}, "name must be of type str"),
        *(({"name": name}, "name must be a plain file name; ") for name in ("..", ".", "", "a\0b", "a/b", "a\\b", "a\n")),
        ({"name": "a" * 300}, "could not write .*: File name too long"),
    )),
    *((lambda f, bad=bad: weights.save_weights(tiny(), card("tiny"), f / "good" / bad), "could not write .*") for bad in (
        "tiny.json", "tiny.json/below")),
    (lambda: weights.save_weights(None, card("tiny")), "model must be a module of torch; None was given"),
    (lambda: weights.save_weights(tiny(), None), "card must be a Card; None was given"),
    *((lambda f, bad=bad: weights.save_tensors(bad, card("t"), f / "out"), says) for bad, says in (
        ([X], r"tensors must be a Mapping; a list was given"), ({"a": [1.0]}, r"a must be a tensor; \[1.0\] was given"),
        ({5: X}, "key must be a str; 5 was given"), ({"a": X.to_sparse()}, "a must be a dense tensor of real numbers; a sparse"),
        *(({key: X.to(to)}, f"tensors must hold values, by other names than __metadata__; '{key}' was") for key, to in (("__metadata__", "cpu"), ("a", "meta"))),
    )),
    *((lambda f, use=use, bad=bad: use(bad), f"path must be a path; {re.escape(repr(bad))} was given")
      for use in (checkpoints.load_run, checkpoints.save_run) for bad in (None, 5, "a\0b")),
    *((lambda f, bad=bad: checkpoints.load_run(f / "runs" / bad), "path must be an undamaged file that save_run wrote; .* is none")
      for bad in ("list", "empty", "tensor", "text", "parts", "random", "settings")),
    *((lambda f, bad=bad: checkpoints.save_run(f / "out" / "a.run", **bad), "the parts of a run must have states of tensors, .*; the parts model were")
      for bad in ({"model": 5}, {"settings": {"f": lambda: 0}, "model": tiny()})),
    (lambda f: zoo.train("tiny", f / "log", epochs=1), "out must be a folder to write files to; .*tiny.jsonl is a folder"),
    *((lambda f, out=out: zoo.sample("ddpm-digits", out=out), f"out must be a path; {re.escape(repr(out))} was given")
      for out in (5, b"a.png", "a\0.png")),
    (lambda f: zoo.sample("ddpm-digits", out=f / ("a" * 300 + ".png")), "out must be a file that can be written; File name too long"),
    (lambda: zoo.sample("flow-digits", steps=10**12), r"steps must lie in \[1, 1e\+06\]; 1000000000000 was given"),
    *((lambda f, kind=kind: records.record("ddpm-digits", kind, out=f / "out"), f"kind must be one of samples, .*; {re.escape(repr(kind))} was")
      for kind in ("nope", None, ["steps"])),
    *((lambda f, bad=bad: records.record("flow-digits", "spacing", folder=f / bad, out=f / "out"), "folder must hold a folder for each")
      for bad in ("none", "good/tiny.json")),
    (lambda f: records.record("flow-digits", "spacing", folder=5, out=f / "out"), "folder must be a path; 5 was given"),
    (lambda: pretrained.use("tiny", 5), "model must be a module of torch; 5 was given"),
    (lambda: pretrained.use("tiny", spoiled()), "the weights of this model must hold finite floating-point numbers; 'encoder"),
    *((lambda bad=bad: in_environment(WORLD_SIZE=bad), rf"WORLD_SIZE must hold an integer from 0 to 2\^63; {bad[:60]!r} was given")
      for bad in ("abc", "-1", "1.5", "9" * 5000)),
    (lambda: ledger.run("collapse", out="/proc/x"), "out must be a folder that can be written; /proc/x is none"),
    (lambda f: ledger.run("collapse", resume=True, out=f / "out"), "resume needs an unfinished record; there is no .*collapse.json"),
    *((lambda f, bad=bad: experiments.record_of(bad, f / "records"), f"the record {bad}.json is (damaged|not one of)")
      for bad in ("nan", "word", "list", "seed", "deep")),
    *((lambda images=images, f=f: f(images), says) for f in (yardstick.digit_distance, yardstick.unrecognized) for images, says in (
        (IMAGES, r"images must have shape \(num, 1, 28, 28\); \(4, 1, 8, 8\) was given"),
        (None, "images must be a tensor; None was given"),
        (DIGITS.double(), "images must have the precision of the model, torch.float32; torch.float64 was given"),
        (2 * DIGITS - 1, r"images must lie in \[0, 1\]; -1 to -1 was given"),
        (sub(NAN, DIGITS), r"images must lie in \[0, 1\]; nan to nan was given"),
    )),
    *((lambda label=label, f=f: f(nn.Flatten(), DIGITS, label), says) for f in (measures.cross_entropy, measures.misclassified)
      for label, says in ((X[0].long(), r"label must have shape \(20,\); \(2,\) was given"), (DIGITS[:, 0, 0, 0], "label must hold integers, int64 or int32"))),
    (lambda: measures.cross_entropy(nn.Flatten(), DIGITS, 784 + 0 * DIGITS[:, 0, 0, 0].long()), r"label must lie in \[0, 783\]; 784 to 784 was given"),
    *((lambda f=f: f(nn.Flatten(), DIGITS, X[:1, 0].long()), r"label must have shape \(20,\); \(1,\)") for f in (
        measures.cross_entropy_with_rejects, measures.taken_for_no_digit)),
    (lambda: measures.squared_error_of_means(vae.Vae(nn.Linear(2, 2), nn.Linear(1, 1), GaussianLikelihood(), 1, (2,)), X),
     r"the mean of p\(x\|z\) must have shape \(5, 2\); \(5, 1\) was given"),
    *((lambda bad=bad, model=model: measures.reading_loss(model, torch.zeros(2, 3, 32, 32), bad), says)
      for model, bad, says in (
        (READ, X[:1].long(), r"attributes must have shape \(2, 2\); \(1, 2\)"), (READ, X[:2].long() - 100, r"attributes\[:, 0\] must lie in \[0, 1\]; -100 to -100"),
        (READ, X[:2].long() + 2, r"attributes\[:, 0\] must lie in \[0, 1\]; 2 to 2"), (READ, X[:2], "attributes must hold integers"),
        (None, X[:2].long(), "model must be a AttributeReader; None was given"))),
    *((lambda f=f, num=num: f(num), "num must be ") for num in (0, -1, 2.5) for f in (
        lambda num: measures.bits_of_elbo(DDPM, XC, num=num), lambda num: measures.negative_masked_elbo(masked.MaskedDiffusion(Row(), (2,), 4), X, num))),
    *((lambda f=f: f(None), "model must be a (Ddpm|MaskedDiffusion|Vae|function); None was given") for f in (
        lambda model: measures.bits_of_elbo(model, X), lambda model: measures.negative_masked_elbo(model, X), lambda model: measures.squared_error_of_means(model, X),
        lambda model: measures.squared_error_of_drawings(model, X, X), lambda model: measures.cross_entropy(model, DIGITS, None),
        lambda model: measures.misclassified(model, DIGITS, None), lambda model: measures.taken_for_no_digit(model, DIGITS, None),
        lambda model: losses.simple_loss(model, X), lambda model: losses.v_loss(model, X), lambda model: losses.bound_loss(model, X),
        lambda model: losses.joint_loss(model, X, None), lambda model: losses.scene_loss(model, X, X), lambda model: losses.three_parts_loss(model, X, None))),
    (lambda: measures.cross_entropy(nn.Flatten(0), DIGITS, None), r"model\(x\) must have shape \(20, classes\); \(15680,\) was given"),
    *((lambda bad=bad: yardstick.excess_of_votes(*bad), says) for bad, says in (
        ((DIGITS[:1, 0, 0],), r"votes must have shape \(2, num\); \(1, 28\) was given"), (([0.5],), r"votes must be a tensor; \[0.5\] was given"),
        ((DIGITS[:2, 0, 0], DIGITS[:1, 0, 0]), r"baseline must have shape \(2, num_real\); \(1, 28\) was given"))),
    (lambda: architectures.landscape_codes([1]), r"x must be a tensor; \[1\] was given"),
    (lambda: obedience.obeyed(DDPM, [[1]]), r"attributes must be a tensor; \[\[1\]\] was given"),
    (lambda: comparisons.levels_of(2 + DIGITS), r"x must lie in \[0, 1\]; 2 to 2 was given"),
    (lambda: weights.write_files({}), "num_files must be at least 1; 0 was given"),
    (lambda: samplers.in_chunks(lambda x: iter(()), 4, X), "sampler must yield tensors; it yielded none"),
    (lambda: yardstick.feature_distance(None), "features must be a tensor; None was given"),
    (lambda: checkpoints.remove_run(None), "path must be a path; None was given"),
    (lambda f: checkpoints.load_run(f / "x", 5), "settings must be a Mapping; 5 was given"),
    (lambda: runtime.to_device(None), "model must be a module of torch; None was given"),
    (lambda: runtime.progress_bar(5, "x"), "steps must be a Iterable; 5 was given"),
    *((lambda bad=bad: architectures.told(bad), f"factors must {says}") for bad, says in (
        (X[:, :1], r"have shape \(num, 5\); \(5, 1\)"), (X.long(), "be floating-point"), (None, "be a tensor; None"))),
    *((lambda bad=bad: residual.Residual(bad)(X), r"branch\(x\) must have shape \(5, 2\); .* was given") for bad in (nn.Linear(2, 1), Row())),
    *((lambda file=file: bits_back.decompress(tiny_vae(), file, 1), "file must be a bytes; .* was given") for file in (None, "a", [1])),
    *((lambda f=f: f(nn.Linear(2, 2)), "model must be a LatentChain; a Linear was given") for f in (
        lambda model: bits_back.compress(model, X), lambda model: bits_back.decompress(model, b"a", 1))),
    *((lambda f=f, x=x: f(tiny_vae(), x), f"x must {says}")
      for f in (lambda model, x: bits_back.encode(bits_back.Message(), model, x[0] if isinstance(x, torch.Tensor) else x), bits_back.compress)
      for x, says in ((0.7 * IMAGES, "be 0 or 1 everywhere"), (-IMAGES, "be 0 or 1 everywhere"), (sub(NAN, IMAGES), "be (0 or 1|finite)"),
                      (IMAGES.byte(), "be floating-point"), (None, "be a tensor"))),
    *((lambda f=f: f(image_ddpm(UNet((1, 4, 4), 4, (1,), 1))), "model must have one latent; num_latents is 1000") for f in (
        lambda model: bits_back.decode(bits_back.Message(9), model), lambda model: bits_back.decompress(model, b"a", 1))),
    (lambda: bits_back.decompress(vae.linear_vae(2, 1), b"abc", 9), r"p\(x\|z\) must be a Bernoulli; Normal"),
    *((lambda v=v: bits_back.Message(v), f"state must {says}") for v, says in ((-1, "be at least 0"), (1.5, "be a int"), (None, "be a int"))),
    *((lambda seed=seed: bits_back.compress(tiny_vae(), IMAGES, seed), "seed must be an integer, at least 0; .* was given")
      for seed in (1.5, "0", None, True)),
    (lambda: verify.verify("eq-a", 10**400, 10**400), "left must be a tensor, a number or a sequence; int was given"),
    (lambda: plots.curves({}, x_label="x", y_label="y"), "number of lines must be at least 1; 0 was given"),
    (lambda: plots.curves(None, x_label="x", y_label="y"), "lines must be a Mapping; None was given"),
    *((lambda bands=bands: plots.curves({"a": [1.0, 2.0, 3.0]}, bands={"a": bands}, x_label="x", y_label="y"), r"bands\['a'\] must ")
      for bands in (3.0, ([1.0], [2.0]), ([1.0, 2.0, 3.0], [1.0, 2.0]))),
    *((lambda marks=marks: plots.curves({"a": [1.0]}, marks=marks, x_label="x", y_label="y"), says) for marks, says in (
        ([1.0], r"marks must be a Mapping; \[1.0\] was given"), ({"m": None}, r"marks\['m'\] must be a number; None was given"))),
    *((lambda axes=axes: plots.curves({"a": [1.0]}, axes=axes, x_label="x", y_label="y"), "axes must be a Axes; ") for axes in plots.figure()),
    *((lambda f=f: f([1.0]), r"\w+ must be a Mapping; \[1.0\] was given") for f in (
        plots.image_rows, lambda given: plots.histogram(given, x_label="x"), lambda given: plots.bars(given, value_label="y"))),
    (lambda: plots.histogram({}, x_label="x"), "number of samples must be at least 1; 0 was given"),
    *doors(whole(1), lambda bins: plots.histogram({"a": [1.0, 2.0]}, x_label="x", bins=bins)),
    *doors(POSITIVE, lambda tile: plots.image_grid(IMAGES, tile=tile), lambda height: plots.figure(height=height), lambda width: plots.figure(width=width)),
    (lambda: plots.bars({"a": None}, value_label="y"), "values must be finite; 1 of 1 values are not"),
    (lambda: plots.bars({"a": 1.0}, value_label="y", errors={"a": -1.0}), r"errors must lie in \[0, inf\]; -1 to -1 was given"),
    (lambda: plots.kl_per_level(X), "terms must be a ElboTerms; a Tensor was given"),
    *((lambda bounds=bounds: plots.scatter(X, bounds=bounds, x_label="x", y_label="y"), "bounds must be ") for bounds in ((1, 0, 0, 1), (0, 1), (0, NAN, 0, 1))),
    (lambda: plots.density2d(lambda x: -INF * x[:, 0].square(), (1, 2, 1, 2)), "log_prob must be finite somewhere within bounds"),
    (lambda: plots.density2d(None, (0, 1, 0, 1)), "log_prob must be a function; None was given"),
    (lambda: plots.image_grid(IMAGES, titles="abcd"), "titles must name all 4 images; one text, 'abcd', was given"),
    (lambda: verify.verify("eq-a", 1.0, 1.0, rejects={3: 2.0}), "a name in rejects must be a str; 3 was given"),
    (lambda: data.load("digits", fallback="no"), "fallback must be a bool; 'no' was given"),
    *((lambda bad=bad: frames.image_of(np.zeros((4, 4)), bad), "smallest must be ") for bad in (0, 1.5, "8", None)),
    (lambda: plots.image_grid(IMAGES.to(torch.complex64)), "images must hold numbers, a row as many as the others"),
    *((lambda bad=bad: plots.image_rows({"a": bad}), "a must hold numbers, a row as many as the others") for bad in (["x"], [[1, 2], [3]])),
    (lambda: live.watch(5), "training must be a Iterable; 5 was given"),
    (lambda: sliders.Editor(None, len, alt="{}"), "axes must be a Mapping; None was given"),
    (lambda: slider(render=None), "render must be a function; None was given"),
    (lambda: slider(alt=5), "alt must be a function; 5 was given"),
    (lambda: slider(alt=lambda value: None), "what alt returns must be a str; None was given"),
    (lambda: sliders.Editor({"a": [1, 2]}, len, alt="{}", start=1), "start must be a Sequence; 1 was given"),
    (lambda: slider(description=5), "the name of an axis must be a str; 5 was given"),
    (lambda: slider(label="{0.nothing}"), "label must fit its values, 0; '{0.nothing}' was given"),
    (lambda: slider(start=True), r"start must hold an index per axis, below 2 d; \[True\] was given"),
]
# fmt: on


@pytest.fixture
def waves(recipes: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipe whose model has a buffer."""
    made = replace(RECIPE, model=lambda: embeddings.FourierEmbedding(4))
    monkeypatch.setitem(RECIPES, "buffer", made)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of folders with an autoencoder's weights: good ones, and damaged in every way."""
    root = tmp_path_factory.mktemp("files")
    weights.save_weights(tiny(), card("tiny"), root / "good")
    blob = (root / "good" / "tiny.safetensors").read_bytes()
    text = (root / "good" / "tiny.json").read_bytes()
    fields = json.loads(text)
    pickled = b"\x80\x04\x95" + bytes(99)  # how a pickle begins
    of_pickle = fields | {"sha256": weights.hashlib.sha256(pickled).hexdigest()}
    damaged = {
        "truncated": (blob[:-1], text),
        "altered": (blob[:-1] + bytes([blob[-1] ^ 1]), text),
        "pickle": (pickled, json.dumps(of_pickle).encode()),
        "missing": (None, text),
        "text": (blob, b"no JSON"),
        "binary": (blob, b"\xff\xfe\x00"),
        "deep": (blob, b"[" * 100_000),
        "number": (blob, b"5"),
        "null": (blob, json.dumps(fields | {"sha256": None}).encode()),
        "card-nan": (blob, json.dumps(fields | {"metric_value": NAN}).encode()),
        "card-inf": (blob, text.replace(b'"minutes": 0.5', b'"minutes": 1e999')),
        "card-bool": (blob, json.dumps(fields | {"seed": True}).encode()),
        "fifo": (None, text),
        "renamed": (blob, json.dumps(fields | {"name": "tuny"}).encode()),
    }
    for name, (content, description) in damaged.items():
        (root / name).mkdir()
        (root / name / "tiny.json").write_bytes(description)
        if content is not None:
            (root / name / "tiny.safetensors").write_bytes(content)
    (root / "empty").mkdir()
    (root / "folder" / "tiny.safetensors").mkdir(parents=True)
    (root / "folder" / "tiny.json").write_bytes(text)
    weights.save_weights(nn.Linear(2, 2), card("tiny"), root / "other")
    weights.save_weights(tiny(), card("tiny"), root / "nan")
    tensors = weights.safetensors.torch.load(blob)
    first = next(iter(tensors))
    tensors[first].view(-1)[0] = NAN
    blob = weights.safetensors.torch.save(tensors)
    (root / "nan" / "tiny.safetensors").write_bytes(blob)
    own = fields | {"sha256": weights.hashlib.sha256(blob).hexdigest()}
    (root / "nan" / "tiny.json").write_text(json.dumps(own))
    os.mkfifo(root / "fifo" / "tiny.safetensors")
    (root / "good" / "dangling.json").symlink_to(root / "nowhere")
    (root / "log" / "tiny.jsonl").mkdir(parents=True)
    (root / "run").mkdir()
    (root / "run" / "tiny.run").write_bytes(b"half a run")
    waves = {"frequencies": torch.tensor([NAN, 1.0])}
    weights.safetensors.torch.save_file(waves, _folder(root / "buffer") / "buffer.safetensors")
    blob = (root / "buffer" / "buffer.safetensors").read_bytes()
    own = fields | {"name": "buffer", "sha256": weights.hashlib.sha256(blob).hexdigest()}
    (root / "buffer" / "buffer.json").write_text(json.dumps(own))
    whole: dict[str, Any] = {"settings": {}, "parts": {}, **checkpoints.random_state()}
    states = {"list": [1], "empty": {}, "tensor": X, "parts": whole | {"parts": 5}}
    states |= {"random": whole | {"cpu": X}, "settings": whole | {"settings": []}}
    for name, state in states.items():
        torch.save(state, content := io.BytesIO())
        _write_run(root / "runs" / name, content.getvalue())
    _write_run(root / "runs" / "text", b"text")
    run = {"condition": "a", "seed": 0, "seconds": 1.0, "measures": {"m": 1.0}}
    changes = {"nan": {"measures": {"m": NAN}}, "word": {"measures": {"m": "1"}}}
    changes |= {"list": {"measures": ["m"]}, "seed": {"seed": "x"}}
    for name, change in changes.items():
        record = {"experiment": name, "code": "", "provenance": {}, "runs": [run | change]}
        (_folder(root / "records") / f"{name}.json").write_text(json.dumps(record))
    (root / "records" / "deep.json").write_text("[" * 100_000)
    return root


@pytest.mark.timeout(120)  # only a hang reaches it
@by_line(CASES)
def test_bad_input_gets_one_sentence(cases, files, no_data, waves) -> None:
    for call, says in cases:
        code = getattr(call, "__code__", None)
        takes_files = code is not None and code.co_argcount > len(call.__defaults__ or ())
        one_sentence(partial(call, files) if takes_files else call, says)


def test_integers_of_numpy_are_integers(unchecked: None) -> None:
    four = np.int64(4)
    film = samplers.in_chunks(lambda x: iter([x]), four, X)
    assert film.equal(X)
    assert vae.conv_vae(2, four).latent_dim == 2
    assert data.scenes(1, four).factors.equal(data.scenes(1, 4).factors)
    model, x = vae.mlp_vae(1, (2,), image_shape=(1, 2, 2)), torch.ones(1, 1, 2, 2)
    assert bits_back.compress(model, x, four, 64 * four) == bits_back.compress(model, x, 4, 256)


def test_the_precision_of_what_goes_with_images_does_not_matter() -> None:
    x, moves = torch.rand(4, 1, 8, 8), torch.rand(4, 2)
    assert data.shifted(x, moves.double()).equal(data.shifted(x, moves))
    assert data.blurred(x, moves[:, 0].double()).equal(data.blurred(x, moves[:, 0]))


def test_radii_keep_their_digits() -> None:
    far = toys.Rings((1.1, 2.2)).log_prob(torch.tensor([[1.1, 0.0]], dtype=torch.double))
    near = toys.Rings((1.1,)).log_prob(torch.tensor([[1.1, 0.0]], dtype=torch.double))
    # The other circle is 7 standard deviations away.
    assert far.item() == pytest.approx(near.item() - math.log(2), abs=1e-9)
    variance = 0.15**2
    exact = math.log(torch.special.i0e(torch.tensor(1.1**2 / variance, dtype=torch.double)))
    assert near.item() == pytest.approx(exact - math.log(2 * math.pi * variance), abs=1e-12)


def test_no_boolean_and_no_word_of_the_environment_is_an_integer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for text, number in (("", 7), ("0", 0), ("12", 12)):
        monkeypatch.setenv("SOME_COUNT", text)
        assert runtime.integer_in("SOME_COUNT", 7) == number
    monkeypatch.delenv("SOME_COUNT")
    assert runtime.integer_in("SOME_COUNT", 7) == 7


def test_a_log_that_is_none_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "tiny.jsonl"
    path.write_bytes(b'{"step": 1}\n\xff\xfe{\n' + b"[" * 100_000 + b'\n{"step": 9}\n')
    logs.MetricsLog(path, 3)
    assert path.read_bytes() == b'{"step": 1}\n'
    assert list(tmp_path.iterdir()) == [path]
