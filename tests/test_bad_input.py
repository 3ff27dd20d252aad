"""Bad input to the zoo, the command line, the helpers of pages and the smaller networks: one sentence each."""

import contextlib
import io
import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from bad_input import (
    INF,
    NAN,
    POSITIVE,
    Printed,
    X,
    between,
    doors,
    line_of,
    one_sentence,
    whole,
)
from PIL import Image
from tiny_recipes import card, no_data, recipes, tiny
from torch import nn

from companion import zoo
from companion.__main__ import main
from companion.networks import conv, embeddings
from companion.page import exercises, sliders, verify
from companion.zoo import checkpoints, records, weights

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


def slider(**changes) -> sliders.Slider:
    good = dict(values=[0, 1], render=lambda v: np.full((8, 6), 0.5 * v), description="d", alt="{}")
    return sliders.Slider(**good | changes)


# fmt: off
CASES = [
    *doors(
        whole(1),
        lambda num_in: conv.conv_decoder(num_in),
    ),
    *doors(
        whole(4),
        lambda dim: embeddings.SinusoidalEmbedding(dim),
        lambda dim: embeddings.FourierEmbedding(dim),
    ),
    *doors(
        between(1, INF),
        lambda max_wavelength: embeddings.SinusoidalEmbedding(8, max_wavelength),
    ),
    *doors(
        POSITIVE,
        lambda std: embeddings.FourierEmbedding(8, std),
    ),
    (lambda: conv.conv_encoder(2, 28), "image_shape must hold at least 3 positive integers; 28 was given"),
    (lambda: embeddings.SinusoidalEmbedding(7), "dim must be even and at least 4; 7 was given"),
    (lambda: zoo.train(None), "name must be one of ae-mnist, .*; None was given"),
    (lambda f: zoo.train("tiny", f / "out", epochs=2.5), "epochs must be an integer, at least 1; 2.5 was given"),
    (lambda f: zoo.train("tiny", f / "out", save_every="60"), "save_every must be a number; '60' was given"),
    (lambda: zoo.train("tiny", 5), "folder must be a path; 5 was given"),
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
        ("null", "the card of the weights 'tiny' must be JSON with .*; sha256 is None"),
        ("renamed", "the card of the weights 'tiny' must be JSON with .*; its name is 'tuny'"),
      )),
    (lambda f: weights.load_weights("tiny", None, f / "good"), "model must be a module of torch; None was given"),
    (lambda f: weights.load_weights("../good/tiny", tiny(), f / "good"), r"name must be one of the weights \['tiny'\]"),
    (lambda f: zoo.pretrained("tiny", f / "good", "gpu"), "device must be one that torch knows, such as cpu or cuda, and .*; 'gpu'"),
    (lambda f: zoo.evaluate("tiny", samples=2.5, folder=f / "good"), "samples must be an integer, at least 1; 2.5 was"),
    (lambda f: zoo.evaluate("tiny", folder=f / "good", out=f / "good" / "tiny.json"), "out must be a folder that can be"),
    (lambda: zoo.sample("ddpm-digits", 2.5), "num must be an integer, at least 1; 2.5 was given"),
    (lambda: zoo.sample("ddpm-digits", seed=2**65), r"seed must lie in \[0, 1.84467e\+19\]"),
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
    (lambda: cli("sample", "vae-mnist", "--seed", 2**65), r"seed must lie in \[0, 1.84467e\+19\]"),
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

]
# fmt: on


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
    (root / "run").mkdir()
    (root / "run" / "tiny.run").write_bytes(b"half a run")
    return root


@pytest.mark.timeout(120)  # only a hang reaches it
@pytest.mark.parametrize(
    ("call", "says"), [pytest.param(*case, id=line_of(case[0])) for case in CASES]
)
def test_bad_input_gets_one_sentence(call, says, files, no_data) -> None:
    code = getattr(call, "__code__", None)
    takes_files = code is not None and code.co_argcount > len(call.__defaults__ or ())
    one_sentence(partial(call, files) if takes_files else call, says)
