"""Tests of the command line: what it prints, what it refuses, and with which status it ends."""

import re
import shlex
import sys
import tomllib
from dataclasses import replace
from functools import wraps
from pathlib import Path

import pytest
import torch
from children import Child
from tiny_recipes import RECIPE, card, no_data, recipes, tiny

import companion.__main__ as module
from companion import __version__
from companion.__main__ import main
from companion.data.images import _SOURCES
from companion.zoo import weights
from companion.zoo.recipes import RECIPES
from companion.zoo.weights import card_names, read_card, save_weights

__all__ = ["no_data", "recipes"]


def test_train_and_evaluate_print_what_the_card_says(tmp_path, capsys):
    out = str(tmp_path)
    assert main(["train", "tiny", "--epochs", "1", "--out", out, "--save-every", "0"]) == 0
    line = f"{read_card('tiny', tmp_path)}\n"
    assert capsys.readouterr().out.endswith(line)
    assert main(["evaluate", "tiny", "--folder", out]) == 0
    assert capsys.readouterr().out == line


def test_sample_writes_images(tmp_path, capsys):
    sheet = tmp_path / "sheet.png"
    assert main(["sample", "vae-mnist", "--num", "3", "--out", str(sheet)]) == 0
    assert capsys.readouterr().out == "drew 3 examples of shape (1, 28, 28)\n"
    assert sheet.read_bytes().startswith(b"\x89PNG")


def test_a_sentence_becomes_an_image_of_the_name_of_the_model(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    few = replace(RECIPES["text-scenes"], restore=lambda z: z[:, :3].sigmoid())
    monkeypatch.setitem(RECIPES, "text-scenes", few)
    save_weights(few.model(), card("text-scenes"), tmp_path / "runs")
    model, options = ["sample", "text-scenes"], ["--folder", "runs", "--steps", "2"]
    assert main([*model, "a small red house at dusk", *options]) == 0
    assert capsys.readouterr().out == "drew 16 examples of shape (3, 8, 8)\n"
    assert (tmp_path / "text-scenes.png").read_bytes().startswith(b"\x89PNG")
    for text, sentence in (
        ("a small red castle", ".* such as 'white'.*; 'castle' is none|.*'castle' is none"),
        ("", "text must have 1 to 24 words; 0 were given"),
        (25 * "a ", "text must have 1 to 24 words; 25 were given"),
    ):
        assert main([*model, text, *options]) == 1
        out, err = capsys.readouterr()
        assert out == "" and re.fullmatch(f"error: ({sentence})\n", err), err
    assert main(["sample", "vae-mnist", "a house"]) == 1
    assert "text belongs to a model of sentences; 'vae-mnist' is none" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train", "nonsense"], "name must be one of ae-mnist, .*; 'nonsense' was given"),
        (["train", "tiny", "--epochs", "0"], "epochs must be at least 1; 0 was given"),
        (["train", "tiny", "--epochs", "9" * 20], r"epochs must be below 2\^64; 9+ was given"),
        (["train", "tiny", "--save-every", "nan"], "save_every must not be negative.*"),
        (["train", "tiny", "--resume"], "resume needs an unfinished training; .*"),
        (["train", "tiny", "--out", "{file}"], "out must be a folder that can be written; .*"),
        (["evaluate", "tiny", "--folder", "{file}"], "folder must be a folder of weights; .*"),
        (["evaluate", "tiny", "--folder", "{out}/none"], "folder must be a folder of weights; .*"),
        (["evaluate", "ddpm-toy2d", "--samples", "5"], "samples belong to .* minus the bound .*"),
        (["sample", "ae-mnist"], "name must be a model that generates; .*"),
        (["record", "ae-mnist", "--out", "{out}"], "kind 'samples' needs a diffusion model .*"),
        (["data", "--download", "imagenet"], "name must be one of mnist, .*"),
        (["train", "ae-mnist", "--out", "{out}/new"], "no copy of mnist in .*"),
    ],
)
def test_bad_input_gets_one_sentence_and_status_1(no_data, tmp_path, capsys, arguments, sentence):
    (tmp_path / "file").touch()
    (tmp_path / "out").mkdir()
    places = {"file": tmp_path / "file", "out": tmp_path / "out"}
    given = [each.format(**places) for each in arguments]
    if "--out" not in given and given[0] == "train":
        given += ["--out", str(places["out"])]
    assert main(given) == 1
    out, err = capsys.readouterr()
    assert out == "" and re.fullmatch(f"error: {sentence}\n", err)
    assert not (tmp_path / "out" / "new").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["train"],
        ["train", "tiny", "--epochs", "1.5"],
        ["train", "tiny", "--save-every", "often"],
        ["record", "ddpm-mnist", "--kind", "nonsense"],
    ],
)
def test_arguments_of_another_type_get_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert "Error" in out + err or "Missing" in out + err or "nvalid" in out + err


def test_control_c_ends_with_one_line_and_the_status_of_a_signal(tmp_path, monkeypatch, capsys):
    def interrupt(model, x):
        raise KeyboardInterrupt

    monkeypatch.setitem(RECIPES, "stopped", replace(RECIPE, loss=interrupt))
    assert main(["train", "stopped", "--out", str(tmp_path)]) == 130
    line = "stopped; what was saved goes on with --resume\n"
    assert capsys.readouterr().err == line


def test_data_lists_every_set_and_where_it_was_looked_for(no_data, tmp_path, capsys):
    assert main(["data"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["mnist", "fashion_mnist", "cifar10", "digits"]
    assert f"{tmp_path / 'data'} (it lacks everything, being no folder)" in lines[0]
    assert main(["data", "--download", "mnist"]) == 1
    assert "no copy of mnist" in capsys.readouterr().err
    assert main(["data", "--download", "digits"]) == 0


def report(capsys):
    lines = capsys.readouterr().out.splitlines()
    return dict(re.split(r":\s+", line, maxsplit=1) for line in lines)


def test_doctor_describes_the_installation(no_data, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("COMPANION_SCALE", "full")
    monkeypatch.setattr(weights, "WEIGHTS", tmp_path)
    save_weights(tiny(), card("tiny"), tmp_path)
    assert main(["doctor"]) == 0
    found = report(capsys)
    assert found["companion"].startswith(__version__)
    assert found["python"].startswith(".".join(map(str, sys.version_info[:3])))
    assert torch.__version__.startswith(found["torch"])
    assert found["scale"] == "full"
    assert found["device"].endswith(f"{torch.get_num_threads()} threads")
    assert found["bfloat16"] in ("yes", "no")
    assert "no copy" in found["data mnist"]
    assert found["weights tiny"] == "verified, made by 0123abc"


def test_doctor_says_what_is_wrong_and_goes_on(no_data, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("COMPANION_SCALE", "huge")
    monkeypatch.setattr(weights, "WEIGHTS", tmp_path)
    save_weights(tiny(), card("tiny"), tmp_path)
    blob = bytearray((tmp_path / "tiny.safetensors").read_bytes())
    blob[-1] ^= 1
    (tmp_path / "tiny.safetensors").write_bytes(blob)
    folder = tmp_path / "data" / _SOURCES["mnist"].folder
    folder.mkdir(parents=True)
    for file in _SOURCES["mnist"].files:
        (folder / file).write_bytes(b"not mnist")
    assert main(["doctor"]) == 1
    found = report(capsys)
    assert found["scale"].startswith("REFUSED: COMPANION_SCALE must be 'small' or 'full'; 'huge'")
    assert found["weights tiny"].startswith("REFUSED: the weights 'tiny' must have the checksum")
    assert "truncated or altered" in found["data mnist"]


def test_recipes_lists_what_can_be_trained(capsys):
    assert main(["recipes"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[1:]]
    assert [row[0] for row in rows] == list(RECIPES)
    size = sum(parameter.numel() for parameter in tiny().parameters())
    assert ["tiny", "digits", f"{size:,}", "3", "64", "0.01"] in rows


ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *ROOT.glob("book/*.md"), *ROOT.glob("notebooks/src/*.py")]
COMMAND = re.compile(r"(?:-m|,) `?companion ([a-z]+)((?: [^`\n]*)?)")


def commands():
    """The commands on the pages, but for those with a name to put in."""
    for page in PAGES:
        for verb, rest in COMMAND.findall(page.read_text("utf8")):
            words = shlex.split(rest, comments=True)
            if "NAME" not in words and "{{" not in words:
                yield verb, *words


def test_commands_on_the_pages_name_what_there_is(monkeypatch, capsys):
    """Each is taken by the command line, and names a recipe to train, or weights that are shipped."""
    given = []
    for verb in ("train", "evaluate", "sample", "record", "data", "doctor", "recipes"):
        known = RECIPES if verb == "train" else card_names()

        @wraps(getattr(module, verb))
        def keep(*arguments, verb=verb, known=known, **options):
            name = [*arguments, options.get("name")][0]
            assert verb in ("data", "doctor", "recipes") or name in known, name
            given.append(verb)
            return True

        monkeypatch.setattr(module, verb, keep)
    found = dict.fromkeys(commands())
    assert [words for words in found if main(words) != 0] == []
    assert len(given) == len(found) >= 8 and {*given} >= {"train", "sample", "record", "evaluate"}


def test_the_installed_command_is_this_one():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["project"]
    assert project["scripts"] == {"companion": f"{main.__module__}:{main.__qualname__}"}


def test_runs_as_a_module():
    script = """import runpy, sys
del sys.modules["companion.__main__"]  # which the fork has
runpy.run_module("companion", run_name="__main__", alter_sys=True)
"""
    code, said, err = Child(script, "--help").wait()
    assert (code, err) == (0, "")
    for name in ("data", "doctor", "recipes", "train", "evaluate", "sample", "record"):
        assert name in said
