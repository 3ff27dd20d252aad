"""The ledger of experiments: records are not lost, entries have rivals, and a chapter says what the record holds."""

import json
import re
from functools import partial
from pathlib import Path

import pytest

from companion.experiments import (
    EXPERIMENTS,
    Entry,
    Experiment,
    Value,
    entries,
    ledger,
    record_of,
    run,
)
from companion.experiments.ledger import PLACEHOLDER, filled

ROOT = Path(__file__).parents[1]
NUMBER = re.compile(r"[−-]?\d+\.\d+|\d+ ?%|± ?\d+")


def paragraphs(name: str) -> list[str]:
    """The paragraphs of the chapter that link to an entry, without their hash signs."""
    (source,) = (ROOT / "notebooks" / "src").glob(f"{entries()[name].chapter:02}_*.py")
    lines = source.read_text("utf8").split("\n")
    return [line.removeprefix("# ") for line in lines if f"<exp-{name}>" in line]


def mistakes(name: str, texts: list[str]) -> list[str]:
    """Claims that do not stand in the text as the record has them, and numbers that no claim covers."""
    text, record = "\n".join(texts), record_of(name)
    claims = [filled(claim, record) for claim in entries()[name].claims]
    rest = text
    for claim in claims:
        rest = rest.replace(claim, "")
    return [claim for claim in claims if claim not in text] + NUMBER.findall(rest)


def toy(seed: int, better: float = 0.0) -> dict[str, float]:
    return {"score": seed + better}


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> Experiment:
    experiment = Experiment({"a": toy, "b": partial(toy, better=2.0)}, seeds=3)
    monkeypatch.setitem(EXPERIMENTS, "tiny", experiment)
    return experiment


def test_a_record_has_every_training_and_its_means(tiny: Experiment, tmp_path: Path) -> None:
    assert run("tiny", out=tmp_path) == "tiny.json: 6 trainings"
    record = record_of("tiny", tmp_path)
    assert record.code == tiny.code and not record.lacks(tiny)
    assert record.value("b", "score").values == (2.0, 3.0, 4.0)
    assert record.value("b", "score").mean == 3 and record.value("b", "score").high == 4
    assert record.value("a", "score").se == pytest.approx(3**-0.5)
    assert record.difference("b", "a", "score").se == 0
    assert Value((1.0,)).se != Value((1.0,)).se  # a NaN: one training says nothing of others
    text = "{b/score:.1f} of {a/score.low:.0f}, {a - b/score:.1f}"
    assert filled(text, record) == "3.0 of 0, −2.0"
    with pytest.raises(ValueError, match="has no 'other' of the condition 'a'"):
        filled("{a/other}", record)
    with pytest.raises(
        ValueError, match=r"^{a/score:q} must have a form for a number; q was given$"
    ):
        filled("{a/score:q}", record)


def test_a_record_is_not_lost(tiny: Experiment, tmp_path: Path) -> None:
    run("tiny", out=tmp_path)
    with pytest.raises(ValueError, match="tiny.json is complete; --replace begins it anew"):
        run("tiny", out=tmp_path)
    path = tmp_path / "tiny.json"
    whole = json.loads(path.read_text("utf8"))
    path.write_text(json.dumps(whole | {"runs": whole["runs"][:2]}))
    with pytest.raises(ValueError, match="tiny.json is unfinished; --resume goes on"):
        run("tiny", out=tmp_path)
    run("tiny", resume=True, out=tmp_path)
    again = json.loads(path.read_text("utf8"))
    assert again["runs"][:2] == whole["runs"][:2] and len(again["runs"]) == 6
    path.write_text(json.dumps(whole | {"code": "0" * 64}))
    with pytest.raises(ValueError, match="tiny.json was made by other code; --replace"):
        run("tiny", resume=True, out=tmp_path)
    assert run("tiny", replace=True, out=tmp_path) == "tiny.json: 6 trainings"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "the record tiny.json is damaged"),
        ("{}", "the record tiny.json is damaged"),
        ('{"experiment": "x", "code": "", "provenance": {}, "runs": []}', "is not one of the"),
    ],
)
def test_a_damaged_or_foreign_record_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "tiny.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        record_of("tiny", tmp_path)


def test_unknown_names_get_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="name must be one of .*; 'x' was given"):
        run("x")
    with pytest.raises(ValueError, match="'x' has no record"):
        record_of("x", tmp_path)


def test_an_entry_needs_rivals_and_says_what_changed() -> None:
    said = dict.fromkeys(("section", "compared", "equal", "refuted"), "")
    said |= {"question": "?", "chapter": 1}
    with pytest.raises(ValueError, match="an entry must name the rivals it tried"):
        Entry(**said, verdict="supported")
    with pytest.raises(ValueError, match="was must be given"):
        Entry(**said, verdict="changed", rivals=({"rival": "", "found": ""},))


def test_every_experiment_has_an_entry_and_a_whole_record_of_its_code() -> None:
    assert set(EXPERIMENTS) == set(entries()) == {p.stem for p in ledger.RECORDS.glob("*.json")}
    for name, experiment in EXPERIMENTS.items():
        record = record_of(name)
        assert record.code == experiment.code, f"{name}: the code changed; make the record anew"
        assert not record.lacks(experiment)
        assert experiment.seeds >= 3 or entries()[name].one_run


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_chapter_says_what_the_record_holds(name: str) -> None:
    entry, texts = entries()[name], paragraphs(name)
    assert texts and entry.claims and mistakes(name, texts) == []
    for rival in entry.rivals:
        found = filled(rival["found"], record_of(name))
        assert PLACEHOLDER.search(rival["found"]) and "{" not in found


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_number_that_is_changed_by_hand_is_found(name: str) -> None:
    for old, new in ((r"(\d\.\d)", r"\g<1>7"), (r"(\d)\.", r"\g<1>9."), (r"\.$", ", by 31 %.")):
        texts = [re.sub(old, new, text, count=1) for text in paragraphs(name)]
        assert texts != paragraphs(name) and mistakes(name, texts), old
