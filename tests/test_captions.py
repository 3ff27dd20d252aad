"""Tests of the sentences: what they say is found again by an independent reading of the words."""

import pytest
import torch
from bad_input import refused

from companion.data import ATTRIBUTES, DRAWS, MAX_WORDS, VOCABULARY, captions, landscapes, tokens

SYNONYMS = {
    "color": ("red crimson", "yellow golden", "green emerald", "blue azure", "purple violet"),
    "size": ("small little tiny", "large big huge"),
    "time": ("day daylight", "dusk sunset evening"),
    "height": ("low", "high"),
}
SHADES = {word: k for k, words in enumerate(SYNONYMS["color"]) for word in words.split()}
SHADES |= {"white": 5, "snowy": 5}


def examples(num=400):
    generator = torch.Generator().manual_seed(0)
    columns = [torch.randint(len(v), (num, 1), generator=generator) for v in ATTRIBUTES.values()]
    return torch.cat(columns, 1), torch.rand(num, DRAWS, generator=generator)


def reading(text):
    """The attributes that a sentence tells, by its words and by what stands beside them."""
    words, found = text.replace(",", " ,").split(), {}
    for name in ("size", "time", "height"):
        for k, synonyms in enumerate(SYNONYMS[name]):
            if set(words) & set(synonyms.split()):
                found[name] = k
    for i, word in enumerate(words):
        after = " ".join(words[i + 1 : i + 3])
        if word in SHADES:
            second = {"with", "and", "before"} & set(words[max(0, i - 2) : i])
            found["behind" if second else "color"] = SHADES[word]
            found |= {"behind": SHADES[word] + 1} if second else {}
        elif word in ("facing", "turned", "looking", "seen"):
            clue = " ".join(words[i + 1 : i + 4])
            found["turn"] = 0 if "left" in clue else 2 if "right" in clue else 1
        elif word in ("alone", "nothing"):
            found["behind"] = 0
        elif word in ("on", "from") and ("left" in after or "right" in after):
            found["side"] = int("right" in after)
        elif word in ("tree", "trees", "fir", "firs"):
            count = {"no": 0, "without": 0, "a": 1, "one": 1, "two": 2, "three": 3}
            found["trees"] = count[words[i - 1]]
    return found


def test_a_whole_sentence_tells_all_that_there_is():
    attributes, draws = examples()
    texts = captions(attributes, draws)
    for row, text in zip(attributes.tolist(), texts):
        assert reading(text) == dict(zip(ATTRIBUTES, row)), text
    assert len(set(texts)) == len(texts)


def test_what_is_left_out_is_not_told_and_all_else_is():
    attributes, draws = examples()
    told = draws[:, :8] >= 0.3
    texts = captions(attributes, draws, 0.3)
    for row, kept, text in zip(attributes.tolist(), told.tolist(), texts):
        whole = zip(ATTRIBUTES, row, kept)
        assert reading(text) == {name: value for name, value, keep in whole if keep}, text
    assert not any(reading(text) for text in captions(attributes, 0 * draws, 1.0))
    assert captions(attributes[:1], 0 * draws[:1], 1.0) == ["a house"]


def test_sentences_differ_in_their_words_and_order():
    attributes, draws = examples()
    texts = captions(attributes[:1].expand(400, -1), draws)
    starts = {text.split()[0] for text in texts}
    assert len(set(texts)) > 390 and len(starts) >= 5
    assert set(" ".join(captions(*examples(1000), 0.3)).replace(",", "").split()) == set(VOCABULARY)


def test_words_are_numbered_and_a_sentence_is_filled_up_with_zeros():
    attributes, draws = examples()
    texts = captions(attributes, draws, 0.2)
    numbers = tokens(texts)
    assert numbers.shape == (400, MAX_WORDS) and numbers.dtype == torch.long
    assert tuple(sorted(VOCABULARY)) == VOCABULARY and len(VOCABULARY) < 100
    for row, text in zip(numbers.tolist(), texts):
        words = text.replace(",", "").split()
        assert [VOCABULARY[k - 1] for k in row[: len(words)]] == words
        assert not any(row[len(words) :])
    assert max(len(text.split()) for text in captions(*examples(1000))) == MAX_WORDS
    shouted, said = tokens(["A small RED house, at dusk.", "a small red house at dusk"])
    assert torch.equal(shouted, said)


def test_a_word_that_is_unknown_is_named_and_a_known_one_offered():
    with pytest.raises(ValueError, match="'rde' is none") as refusal:
        tokens(["a small rde house"])
    assert "such as 'red'" in str(refusal.value)
    attributes = landscapes(1).attributes
    assert tokens(captions(attributes, torch.zeros(1, DRAWS))).count_nonzero() > 10


test_bad_input = refused("captions")
