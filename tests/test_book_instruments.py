"""The table of instruments and what the build makes of it; the instruments themselves are tested in a browser."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from the_book import BOOK

from book import instrument_data
from bookkit.site import instruments

ROOT = Path(__file__).resolve().parents[1]
GOOD = {"module": "toy", "title": "A toy.", "hint": "Drag it."}


def checkout(folder: Path, table: str) -> Path:
    """A folder with one module, one file of weights, and the table."""
    (folder / instruments.MODULES).mkdir(parents=True)
    (folder / instruments.MODULES / "toy.js").write_text("export function mount() {}")
    (folder / instruments.WEIGHTS).mkdir(parents=True)
    (folder / instruments.WEIGHTS / "small.safetensors").write_bytes(b"tensors")
    (folder / "book" / "instruments.yml").write_text(table)
    return folder


def entry(**changes: str) -> str:
    lines = "".join(f"  {key}: {value}\n" for key, value in (GOOD | changes).items())
    return f"fig-a:\n{lines}"


def test_an_entry_gets_the_hashes_of_its_weights(tmp_path: Path) -> None:
    table = instruments.read_table(checkout(tmp_path, entry(files="[small]")))
    assert table["fig-a"]["hashes"] == {"small": hashlib.sha256(b"tensors").hexdigest()}
    assert table["fig-a"]["bytes"] == len(b"tensors")
    assert table["fig-a"]["start"] == "near"


def test_no_table_is_no_instrument(tmp_path: Path) -> None:
    assert instruments.read_table(checkout(tmp_path, "# none yet\n")) == {}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("fig-a:\n  module: toy\n  title: A toy.\n", "must have hint, module, title"),
        (entry(colour="red"), "it has colour, hint, module, title"),
        (entry(start="soon"), "start must be near or click; soon was given"),
        (entry(module="other"), "no module other.js"),
        (entry(files="[large]"), "has large.safetensors"),
    ],
)
def test_a_wrong_entry_is_refused(tmp_path: Path, table: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        instruments.read_table(checkout(tmp_path, table))


def test_a_label_that_no_figure_has_is_refused() -> None:
    instruments.check_labels(["fig-two-fits"], BOOK)
    with pytest.raises(ValueError, match="no numbered figure has the label fig-nowhere, sec-elbo"):
        instruments.check_labels(["fig-two-fits", "sec-elbo", "fig-nowhere"], BOOK)


def test_the_book_has_instruments_at_its_figures() -> None:
    table = instruments.read_table(ROOT)
    assert table
    instruments.check_labels(table, BOOK)


def test_a_page_refers_to_weights_by_the_hash_on_their_card() -> None:
    """What the browser checks is what the model card says."""
    for card in sorted((ROOT / instruments.WEIGHTS).glob("*.json"))[:5]:
        path = instruments.weights(ROOT, card.stem)
        assert instruments.digest(path) == json.loads(card.read_text("utf8"))["sha256"]


def test_the_answers_of_the_riddle_are_in_the_order_of_its_figure() -> None:
    """The chapter's own line makes the order of the stored answers."""
    source = (ROOT / "notebooks/src/10_ddpm_training.py").read_text("utf8")
    (line,) = (line for line in source.splitlines() if line.startswith("order = "))
    names: dict[str, object] = {"torch": torch}
    exec(line, names)
    order = names["order"]
    assert isinstance(order, torch.Tensor)
    assert (
        "both = torch.cat([test.images[20:30], " in source and "image_grid(both[order])" in source
    )
    drawn = torch.tensor([0] * 10 + [1] * 10, dtype=torch.uint8)
    stored = load_file(instruments.weights(ROOT, "which_are_real"))["drawn"]
    assert torch.equal(stored, drawn[order])
    assert torch.equal(stored, instrument_data.which_are_real()["drawn"])


def test_the_riddle_cuts_its_tiles_out_of_the_still() -> None:
    """The places in riddle.js are those of the squares in the stored figure, to a pixel."""
    script = (ROOT / instruments.MODULES / "riddle.js").read_text("utf8")
    (numbers,) = re.findall(r"const STILL = \{(.*?)\};", script)
    still = {
        name: float(part) / float(whole)
        for name, part, whole in re.findall(r"(\w+): ([\d.]+) / (\d+)", numbers)
    }
    notebook = nbformat.read(ROOT / "notebooks/10_ddpm_training.ipynb", 4)
    (cell,) = (c for c in notebook.cells if "fig-which-are-real" in str(c.metadata.get("mystnb")))
    data = base64.b64decode(cell.outputs[0].data["image/png"])
    with Image.open(io.BytesIO(data)) as image:
        paper = np.asarray(image.convert("L")) >= 250
    for axis, count, first, step, side in (
        (0, 10, "left", "right", "width"),
        (1, 2, "top", "down", "height"),
    ):
        size, line = paper.shape[1 - axis], np.concatenate([[True], paper.all(axis), [True]])
        starts, ends = (np.flatnonzero(np.diff(line.astype(int)) == sign) for sign in (-1, 1))
        places = size * (still[first] + still[step] * np.arange(count))
        assert starts == pytest.approx(places, abs=1)
        assert ends == pytest.approx(places + size * still[side], abs=1)
