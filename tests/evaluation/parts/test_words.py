"""Tests of ``nibt.evaluation.parts.words``, by public calls."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

import nibt
from nibt.data.pair import Pair
from nibt.datasets.scenes import Scenes
from nibt.errors import BadInput, BadOption
from nibt.evaluation.parts.word_effects import with_words
from nibt.results.word_parts import WordParts
from tests import tiny
from tests.helpers import noise_pairs

PAIRS = list(Scenes(count=16, fewest=2, most=3, named="one"))


@pytest.fixture(scope="module")
def parts() -> WordParts:
    return nibt.word_parts("scenes", PAIRS, count=3)


def test_parts_divide_the_score(parts: WordParts) -> None:
    assert sum(part.share for part in parts.parts) == pytest.approx(1)
    assert 0.6 <= parts.kept <= 1
    for part in parts.parts:
        assert 0 < part.captions <= len(PAIRS)
        assert sum(row.share for row in part.words) <= 1 + 1e-9
        assert part.on_names in (0, 1), "with known names, a part is of names or of other words"


def test_scenes_reads_the_nouns_and_has_no_shortcut(parts: WordParts) -> None:
    assert not parts.shortcuts
    names = {obj.name for pair in PAIRS for obj in pair.objects}
    of_names = [part for part in parts.parts if part.on_names]
    assert sum(part.share for part in of_names) > 0.8
    assert {row.word for part in of_names for row in part.words} <= names
    largest = max(of_names, key=lambda part: part.share)
    assert largest.needed is not None
    assert largest.needed.value > 0.5
    assert largest.needed.beyond_random > 0


def test_examples_show_what_is_exchanged(parts: WordParts) -> None:
    for part in parts.parts:
        for example in part.examples:
            assert example.caption == PAIRS[example.pair].caption
            assert example.exchanged != example.caption
            marked = [example.caption[first:last].lower() for first, last in example.spans]
            assert set(marked) & {row.word for row in part.words} or len(part.words) == 8


def test_the_effect_is_that_of_the_model_itself() -> None:
    """The cosines of the changed captions, by another public call, give the effect that is stated."""
    (part,) = nibt.word_parts("scenes", PAIRS[:8], count=1).parts
    assert part.needed is not None
    assert part.needed.count == len(part.examples)
    model = nibt.load_model("scenes")
    lost = []
    for example in part.examples:
        captions = [example.caption, example.exchanged, example.other]
        ranked = nibt.rank(model, PAIRS[example.pair].image, list(dict.fromkeys(captions)))
        cosines = {row.label: row.similarity for row in ranked}
        plain, exchanged, other = (cosines[caption] for caption in captions)
        lost.append((plain - exchanged, plain - other))

    of_part, of_all = np.sum(lost, 0)
    assert part.needed.value == pytest.approx(of_part / of_all, abs=1e-4)


@pytest.mark.slow
def test_the_same_call_gives_the_same_result(parts: WordParts) -> None:
    assert replace(nibt.word_parts("scenes", PAIRS, count=3), seconds=parts.seconds) == parts


def test_parts_are_saved_and_loaded(parts: WordParts, tmp_path: Path) -> None:
    parts.save(tmp_path / "parts.json")
    assert WordParts.load(tmp_path / "parts.json") == parts
    schema = Path(__file__).parents[3] / "docs" / "schemas" / "word_parts.json"
    jsonschema.validate(parts.to_json(), json.loads(schema.read_text()))


def test_the_page_marks_the_words_and_loads_nothing(parts: WordParts, tmp_path: Path) -> None:
    parts.save(tmp_path / "parts.html")
    text = (tmp_path / "parts.html").read_text()
    assert text.startswith("<!doctype html>")
    assert "src=" not in text
    assert "http" not in text.replace("http-equiv", "")
    assert text.count("<mark>") == sum(len(example.spans) for part in parts.parts for example in part.examples)


@pytest.mark.slow
def test_captions_without_known_names_have_no_verdict() -> None:
    plain = [replace(pair, objects=()) for pair in PAIRS[:10]]
    result = nibt.word_parts("scenes", plain, count=2)
    assert {part.verdict for part in result.parts} == {"no verdict"}
    assert {part.on_names for part in result.parts} == {None}
    assert any("in 10 of 10 captions, the words that name objects are not known" in note for note in result.notes)


@pytest.mark.slow
def test_stored_scores_give_the_same_parts() -> None:
    model = nibt.load_model("scenes")
    pairs = PAIRS[:10]
    explanations = nibt.explain(model, [pair.image for pair in pairs], [pair.caption for pair in pairs], "nib:fast")
    stored = nibt.word_parts(model, pairs, count=2, explanations=explanations)
    computed = nibt.word_parts(model, pairs, count=2)
    shares = [[part.share for part in result.parts] for result in (stored, computed)]
    assert shares[0] == pytest.approx(shares[1], abs=1e-5)


def test_towers_of_other_classes_have_parts_of_words() -> None:
    result = nibt.word_parts(tiny.model("siglip"), noise_pairs(8), count=2)
    assert result.parts
    assert all(part.words for part in result.parts)


WORDS = [(0, 1), (2, 7), (8, 10), (11, 12), (13, 16)]  # of "a photo of a cat"
OTHERS = [(0, 4), (5, 7), (8, 9), (10, 13)]  # of "this is a dog"


@pytest.mark.parametrize(
    ("chosen", "other_chosen", "expected"),
    [
        pytest.param("11100", "1100", "this is a cat", id="one run"),
        pytest.param("11100", "0000", "a cat", id="a run that the other lacks"),
        pytest.param("10010", "1010", "this photo of a cat", id="two runs"),
        pytest.param("00001", "1001", "a photo of a this dog", id="more runs than there are"),
        pytest.param("00000", "1100", "this is a photo of a cat", id="a new run at the beginning"),
        pytest.param("00000", "0001", "a photo of a cat dog", id="a new run at the end"),
    ],
)
def test_words_are_exchanged_by_runs(chosen: str, other_chosen: str, expected: str) -> None:
    masks = [np.array([mark == "1" for mark in marks]) for marks in (chosen, other_chosen)]
    assert with_words("a photo of a cat", WORDS, masks[0], "this is a dog", OTHERS, masks[1]) == expected


def test_a_word_that_the_tokenizer_spells_differently_is_not_exchanged() -> None:
    spans = [(0, 1), None, (8, 10), (11, 12), (13, 16)]
    chosen = np.array([True] * 5)
    other = np.zeros(4, bool)
    assert with_words("a photo of a cat", spans, chosen, "this is a dog", OTHERS, other) == "photo"


# Bad input


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        pytest.param(
            lambda: PAIRS[:1],
            r"word_parts needs at least two different images \(got 1 pair\): words of captions are exchanged",
            id="one",
        ),
        pytest.param(
            lambda: [replace(pair, caption="a cat", objects=()) for pair in PAIRS[:4]],
            "two different labels or captions .got only 'a cat'.: an exchange of words of captions with a pair",
            id="one caption",
        ),
    ],
)
def test_bad_input_is_an_error(pairs: Callable[[], list[Pair]], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        nibt.word_parts("scenes", pairs())


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": 13}, "layer must be between 0 and 12"),
        ({"count": 0}, "count must be between 1 and 100"),
        ({"seed": -1}, "seed must be"),
    ],
)
def test_bad_options_are_errors(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadOption, match=message):
        nibt.word_parts("scenes", PAIRS[:4], **options)
