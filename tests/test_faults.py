"""What can happen to a training: a kill, a full disk, damaged files. Nothing is lost, and one sentence says why."""

import errno
import hashlib
import json
import os
import pickle
import re
from collections import Counter
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from children import Child
from tiny_recipes import RECIPE, card, noisy_loss, recipes

from companion.__main__ import main
from companion.zoo import evaluate, pretrained, train, weights
from companion.zoo.recipes import RECIPES
from companion.zoo.weights import read_card

__all__ = ["recipes"]

pytestmark = pytest.mark.usefixtures("unchecked")

# COMPANION_KILLS=100 takes a few minutes.
KILLS = int(os.environ.get("COMPANION_KILLS", "5"))

# Each life is a process of its own. It ends by a signal at a random event, or with the weights: an event is a step, or
# one of the three moments at which the file of the run is half written.
LIVES = """
import json, os, random, shutil, signal, sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path[:0] = [sys.argv[1]]
import torch
torch.set_num_threads(1)
torch.cuda.is_available = lambda: False
from companion.__main__ import main
from tiny_recipes import RECIPE, RECIPES, noisy_loss

def live(folder, signal_number, last):
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    events = 0
    def counted(function):
        def call(*arguments):
            nonlocal events
            events += 1
            if events == last:
                os.kill(os.getpid(), signal_number)
            return function(*arguments)
        return call
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1), os.dup2(null, 2)
    os.fsync, os.replace = counted(os.fsync), counted(os.replace)
    RECIPES["tiny"] = replace(RECIPE, loss=counted(noisy_loss))
    resume = ["--resume"] if (folder / "tiny.run").exists() else []
    os._exit(main(["train", "tiny", "--out", str(folder), "--save-every", "0", *resume]))

folder, kills, draw = Path(sys.argv[2]), int(sys.argv[3]), random.Random(int(sys.argv[4]))
digest = lambda: json.loads((folder / "tiny.json").read_bytes())["sha256"]
assert live(folder, None, None) == 0
whole = digest()
shutil.rmtree(folder)
ends, kept = [], []
while len(ends) < kills or folder.exists():
    number = draw.choice([signal.SIGKILL, signal.SIGTERM])
    status = live(folder, number, draw.randint(1, 4 * 69) if len(ends) < kills else None)
    if status == 0:
        kept.append(digest() == whole and sorted(os.listdir(folder)) == ["tiny.json", "tiny.jsonl", "tiny.safetensors"])
        shutil.rmtree(folder)
    else:
        ends.append(status)
print(json.dumps({"ends": ends, "kept": kept}))
"""


@cache
def whole_training() -> str:
    """The hash of the weights of a training to which nothing happens."""
    with TemporaryDirectory() as folder:
        return train("tiny", folder).sha256


def test_a_training_killed_at_random_gives_the_weights_of_one_that_was_not(tmp_path):
    code, out, err = Child(LIVES, os.path.dirname(__file__), tmp_path / "out", KILLS, 1).wait()
    assert code == 0, err
    said = json.loads(out)
    ends = Counter(said["ends"])
    # SIGKILL; SIGTERM, after which the step is finished and saved; SIGTERM before a training listens to it.
    assert set(ends) <= {-9, 130, -15} and ends[-9] and ends[130] and ends.total() == KILLS
    assert said["kept"] and all(said["kept"])
    print(
        f"{KILLS} kills, {dict(ends)}, in {len(said['kept'])} trainings; the weights are the same"
    )


# The first, one in the middle, that of the measurement, and that of the weights.
@pytest.mark.parametrize(
    ("saving", "code"),
    [(1, errno.ENOSPC), (30, errno.EROFS), (70, errno.ENOSPC), (71, errno.EROFS)],
)
def test_a_training_that_cannot_be_saved_keeps_what_was(
    tmp_path, monkeypatch, capsys, code, saving
):
    whole = whole_training()
    real, calls = os.fsync, []

    def full(descriptor):
        calls.append(1)
        if len(calls) > 2 * (saving - 1):  # each saving flushes the file and its folder
            raise OSError(code, os.strerror(code))
        real(descriptor)

    command = ["train", "tiny", "--out", str(tmp_path / "out"), "--save-every", "0"]
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        capsys.readouterr()
        assert main(command) == 1
    words = rf"error: could not write \S+tiny(-test)?\.\w+: {os.strerror(code)}\n"
    assert re.fullmatch(words, capsys.readouterr().err)
    left = {path.name for path in (tmp_path / "out").iterdir()}
    kept = {"tiny.run": 1, "tiny.jsonl": 1, "tiny-test.run": 70}
    assert left == {name for name, first in kept.items() if saving > first}
    assert main([*command, *["--resume"] * (saving > 1)]) == 0
    assert read_card("tiny", tmp_path / "out").sha256 == whole


def test_a_damaged_run_is_refused_and_stays_where_it_is(tmp_path, monkeypatch, capsys):
    def stops(model, x):
        raise KeyboardInterrupt

    monkeypatch.setitem(RECIPES, "tiny", replace(RECIPE, loss=stops))
    run = tmp_path / "tiny.run"
    for damaged in (b"", b"\0" * 100, os.urandom(1000)):
        run.write_bytes(damaged)
        assert main(["train", "tiny", "--out", str(tmp_path), "--resume"]) == 1
        sentence = "error: path must be an undamaged file that save_run wrote; the checksum of .*"
        assert re.fullmatch(sentence + "\n", capsys.readouterr().err)
        assert run.read_bytes() == damaged and list(tmp_path.iterdir()) == [run]


class Harmful:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_by_the_name_of_weights_is_never_opened(tmp_path, monkeypatch):
    trace = tmp_path / "executed"
    content = pickle.dumps(Harmful(trace))
    fitting = replace(card("tiny"), sha256=hashlib.sha256(content).hexdigest(), num_parameters=1)
    (tmp_path / "tiny.safetensors").write_bytes(content)
    (tmp_path / "tiny.json").write_text(json.dumps(asdict(fitting)))
    monkeypatch.setattr(weights, "WEIGHTS", tmp_path)
    monkeypatch.setitem(RECIPES, "more", replace(RECIPE, start="tiny"))
    for use in (pretrained, evaluate, lambda name: train("more", tmp_path / "out")):
        with pytest.raises(ValueError, match="^the weights 'tiny' must be a safetensors file; "):
            use("tiny")
    assert not trace.exists()
    pickle.loads(content)
    assert trace.exists()  # it would have been seen


def test_a_second_training_in_the_folder_is_refused_and_the_first_goes_on(
    tmp_path, monkeypatch, capsys
):
    whole = whole_training()
    command = ["train", "tiny", "--out", str(tmp_path / "out")]
    said = []

    def loss(model, x):
        if not said:  # from another process, for a lock knows its own
            script = (
                "import sys; sys.path[:0] = sys.argv[1:2]\n"
                "from tiny_recipes import RECIPE, RECIPES\n"
                "from companion.__main__ import main\n"
                "RECIPES['tiny'] = RECIPE\n"
                "sys.exit(main(sys.argv[2:]))"
            )
            said.append(Child(script, os.path.dirname(__file__), *command).wait())
        return noisy_loss(model, x)

    monkeypatch.setitem(RECIPES, "tiny", replace(RECIPE, loss=loss))
    assert train("tiny", tmp_path / "out").sha256 == whole
    words = f"another training of this name writes to {tmp_path / 'out'}; choose another --out"
    assert said == [(1, "", f"error: {words}\n")]
