"""Sentences that say what a landscape shows: a small grammar with synonyms, omissions and a free order of the parts."""

import difflib
import itertools
import re
import string
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from companion import checks
from companion.data.landscapes import ATTRIBUTES, COLORS, check_attributes

MAX_WORDS = 24
"""The longest sentence that the grammar makes."""

# What is chosen for a sentence beside what it leaves out.
_CHOICES = (
    *("noun", "size", "color", "turn", "behind", "its noun", "its color", "trees", "sun", "time"),
    *("house first", "trees first", "sun first", "time first"),
)

DRAWS = len(ATTRIBUTES) + len(_CHOICES)
"""Random numbers that decide the words and the order of one sentence."""

_NOUNS = ("house", "cottage", "home")
_SHADES = (
    ("red", "crimson"),
    ("yellow", "golden"),
    ("green", "emerald"),
    ("blue", "azure"),
    ("purple", "violet"),
    ("white", "snowy"),
)
_SIZES = (("small", "little", "tiny"), ("large", "big", "huge"))
_TURNS = (
    ("turned to the left", "facing left", "looking left"),
    ("seen from the front", "facing us", "facing the viewer"),
    ("turned to the right", "facing right", "looking right"),
)
_ALONE = ("standing alone", "with nothing behind", "alone")
_BEHIND = ("with a {} {} behind", "before a {} {}", "and a {} {} behind")
_TREES = (
    ("no trees", "without trees", "no firs"),
    ("one tree", "a tree", "a fir"),
    ("two trees", "two firs"),
    ("three trees", "three firs"),
)
_SIDES = ("the sun on the {}", "sunlight from the {}", "light from the {}")
_HEIGHTS = ("a {} sun", "the sun {}", "{} sunlight")
_BOTH = ("the sun {} on the {}", "a {} sun on the {}", "{} sunlight from the {}")
_TIMES = (("by day", "in daylight", "during the day"), ("at dusk", "at sunset", "in the evening"))


def captions(
    attributes: Int[Tensor, "num 8"], draws: Float[Tensor, "num draws"], omit: float = 0.0
) -> list[str]:
    """Say what each landscape shows.

    Args:
        attributes: indices of their values, in the order of `ATTRIBUTES`.
        draws: uniform on [0, 1); the first eight decide what is left out, the others words and their order.
        omit: the probability with which each attribute is left out, which then means that any value will do.

    Raises:
        TypeError: if the attributes are no integers, or the draws no floating-point numbers.
        ValueError: if a shape is wrong, an attribute has no such value, or a number is not in [0, 1].

    Book: chapter 14.
    """
    check_attributes(attributes)
    checks.shape((len(attributes), DRAWS), draws=draws)
    checks.floating(draws=draws)
    checks.within(0, 1, draws=draws)
    checks.in_range(0, 1, omit=omit)
    rows = zip(attributes.tolist(), draws.tolist(), strict=True)
    return [_caption(values, numbers, omit) for values, numbers in rows]


def tokens(texts: Sequence[str]) -> Int[Tensor, "num 24"]:
    """Numbers of the words in `VOCABULARY`, and 0 after the last one; commas, stops and capitals do not count.

    A sentence need not follow the grammar, as long as it has known words alone.

    Raises:
        TypeError: if one is no text.
        ValueError: if there are none, one has no words or more than `MAX_WORDS`, or a word is unknown.

    Book: chapter 14.
    """
    if isinstance(texts, str) or not isinstance(texts, Sequence):  # a str is one, of letters
        raise TypeError(f"texts must be a list of texts; a {type(texts).__name__} was given")
    checks.at_least(1, **{"number of texts": len(texts)})
    rows = torch.zeros(len(texts), MAX_WORDS, dtype=torch.long)
    for row, text in zip(rows, texts, strict=True):
        checks.instance(str, text=text)
        words = _split(text)
        if not 1 <= len(words) <= MAX_WORDS:
            raise ValueError(f"text must have 1 to {MAX_WORDS} words; {len(words)} were given")
        for word in words:
            if word not in _INDEX:
                near = difflib.get_close_matches(word, VOCABULARY, 1)
                known = f"such as {near[0]!r}" if near else f"such as {', '.join(COLORS)}"
                raise ValueError(
                    f"text must have words of the {len(VOCABULARY)} in the vocabulary, {known}; "
                    f"{word!r} is none"
                )
        row[: len(words)] = torch.tensor([_INDEX[word] for word in words])
    return rows


def _split(text: str) -> list[str]:
    return text.lower().translate(str.maketrans("", "", string.punctuation)).split()


def _caption(values: Sequence[int], draws: Sequence[float], omit: float) -> str:
    """One sentence."""
    pairs = zip(ATTRIBUTES, values, draws, strict=False)
    told = {name: value for name, value, draw in pairs if draw >= omit}
    draw = dict(zip(_CHOICES, draws[len(ATTRIBUTES) :], strict=True))

    def say(name: str, words: Sequence[Sequence[str]]) -> str:
        return _one(words[told[name]], draw[name]) if name in told else ""

    noun = _one(_NOUNS, draw["noun"])
    house = " ".join(filter(None, ["a", say("size", _SIZES), say("color", _SHADES), noun]))
    parts = {
        "house first": " ".join(filter(None, [house, say("turn", _TURNS), _neighbor(told, draw)])),
        "trees first": say("trees", _TREES),
        "sun first": _sun(told, draw["sun"]),
        "time first": say("time", _TIMES),
    }
    order = sorted(parts, key=lambda part: draw[part])
    text = ", ".join(parts[part] for part in order if parts[part])
    return re.sub(r"\ba (?=[ae])", "an ", text)


def _one(words: Sequence[str], draw: float) -> str:
    return words[min(int(draw * len(words)), len(words) - 1)]


def _neighbor(told: dict[str, int], draw: dict[str, float]) -> str:
    """The second house, or that there is none."""
    if "behind" not in told:
        return ""
    if told["behind"] == 0:
        return _one(_ALONE, draw["behind"])
    color = _one(_SHADES[told["behind"] - 1], draw["its color"])
    return _one(_BEHIND, draw["behind"]).format(color, _one(_NOUNS, draw["its noun"]))


def _sun(told: dict[str, int], draw: float) -> str:
    """Side and height of the sun, or one of the two."""
    side, height = (
        ATTRIBUTES[name][told[name]] if name in told else "" for name in ("side", "height")
    )
    if side and height:
        return _one(_BOTH, draw).format(height, side)
    return _one(_SIDES if side else _HEIGHTS, draw).format(side + height) if side + height else ""


def _vocabulary() -> tuple[str, ...]:
    """All words of the grammar, in alphabetical order."""
    words = [*_NOUNS, *_ALONE, *_BEHIND, *_SIDES, *_HEIGHTS, *_BOTH, *ATTRIBUTES["side"]]
    words += [*ATTRIBUTES["height"], "a", "an"]
    words += itertools.chain(*_SHADES, *_SIZES, *_TURNS, *_TREES, *_TIMES)
    return tuple(sorted(set(_split(" ".join(words)))))


VOCABULARY = _vocabulary()
"""All words that a sentence can have; the first has the number 1."""

_INDEX = {word: number for number, word in enumerate(VOCABULARY, start=1)}
