"""Tests of ``nibt.engine.replace``."""

import logging
from collections import Counter
from typing import Any

import pytest

import nibt
from nibt.engine.replace import MOST_CAPTIONS, explain_replacement, read_replacements
from nibt.errors import BadInput, BadOption
from nibt.models.base import Model
from nibt.preprocessing.captions import NOUNS
from tests import tiny, tiny_vision_language
from tests.suites import few

IMAGE, CAPTION, KNOWN = tiny.image(seed=3), "a photo of a cat and a dog", ["bird", "cars", "mat"]
KINDS = few(("clip", "siglip", "coca", "mt5", "colpali", "qwen2_vl"), ("clip", "colpali"))


def _model(kind: str) -> nibt.Model:
    return tiny_vision_language.model(kind) if kind in tiny_vision_language.KINDS else tiny.model(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_changes_are_those_of_both_captions(kind: str) -> None:
    """For any family, late interaction and embedders of generators too: rows are what ``rank`` and ``explain`` say."""
    model = _model(kind)
    rows = nibt.replace_words(model, IMAGE, CAPTION, KNOWN)
    assert [(row.word, row.caption) for row in sorted(rows, key=lambda row: row.caption)] == sorted(
        [("cat", f"a photo of a {noun} and a dog") for noun in KNOWN]
        + [("dog", f"a photo of a cat and a {noun}") for noun in KNOWN],
        key=lambda item: item[1],
    )
    cosines = {
        each.label: each.similarity for each in nibt.rank(model, IMAGE, [CAPTION, *(row.caption for row in rows)])
    }
    for row in rows:
        assert row.similarity == pytest.approx(cosines[row.caption], abs=1e-5)
        assert row.change == pytest.approx(cosines[row.caption] - cosines[CAPTION], abs=1e-5)
        alone = nibt.replace_words(model, IMAGE, CAPTION, {row.word: [row.replacement]})
        assert [each.similarity for each in alone] == pytest.approx([row.similarity], abs=1e-5), (
            "batch mates change nothing"
        )
    assert rows[0].similarity == pytest.approx(nibt.explain(model, IMAGE, rows[0].caption, "ones").similarity, abs=1e-5)
    for word in ("cat", "dog"):
        ordered = [row.similarity for row in rows if row.word == word]
        assert ordered == sorted(ordered, reverse=True)


def test_explanation_is_against_the_largest_change_and_has_the_ranking() -> None:
    model = tiny.model("clip")
    rows = nibt.replace_words(model, IMAGE, CAPTION, KNOWN)
    answer = explain_replacement(model, IMAGE, CAPTION, KNOWN, method="ones")
    largest = max(rows, key=lambda row: abs(row.change))
    assert (answer.caption, answer.against.source) == (CAPTION, largest.caption)
    assert answer.target["value"] == pytest.approx(-largest.change, abs=1e-5)
    assert {each.label for each in answer.ranking} == {CAPTION, *(row.caption for row in rows)}
    assert nibt.Explanation.from_json(answer.to_json()).ranking == answer.ranking


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("a cat", {"no cat", "not a cat", "two cats", "three cats"}),
        (
            "A man riding the horse",
            {
                *("No man riding the horse", "Not a man riding the horse", "Two men riding the horse"),
                *("Three men riding the horse", "A man riding no horse", "A man riding not the horse"),
                *("A man riding two horses", "A man riding three horses"),
            },
        ),
        ("two dogs", {"no dogs", "not two dogs", "two dogs", "three dogs"}),
        (
            "man with a red hat",
            {
                *(
                    "no man with a red hat",
                    "not man with a red hat",
                    "two men with a red hat",
                    "three men with a red hat",
                ),
                *("man with no red hat", "man with not a red hat", "man with two red hats", "man with three red hats"),
                "man without a red hat",
            },
        ),
        ("sleeping", set()),
    ],
)
def test_negations_and_counts_read_as_english(caption: str, expected: set[str]) -> None:
    counted = {
        caption[:first] + (text[0].upper() + text[1:] if caption[first].isupper() else text) + caption[last:]
        for (first, last), texts in read_replacements(caption, None)
        for text in texts
        if len(texts) < 10
    }
    assert counted == expected


def test_default_list_has_every_noun_that_the_caption_lacks() -> None:
    listed = {span: texts for span, texts in read_replacements("a cat and two dogs", None) if len(texts) > 10}
    assert [*listed] == [(2, 5), (14, 18)]
    assert listed[2, 5] == [noun for noun in NOUNS if noun not in ("cat", "dog")]
    assert listed[14, 18][:3] == ["people", "men", "women"], "a plural is replaced by plurals"
    assert read_replacements("a cat and two dogs", {"cat": None}) == [((2, 5), listed[2, 5])]


@pytest.mark.parametrize(
    ("caption", "candidates", "expected"),
    [
        ("a cat", ["owl"], ["an owl"]),
        ("An owl, an owl", {"OWL": ["cat"]}, ["A cat, an owl", "An owl, a cat"]),
        ("Cat", "dog", ["Dog"]),
        (
            "A cat on the mat",
            {"cat": ["a dog", "the dog"], "mat": "a table"},
            ["A dog on the mat", "The dog on the mat", "A cat on a table"],
        ),
        (
            "a cat on a mat",
            {"on": "under", "a": ["the"]},
            ["a cat under a mat", "the cat on a mat", "a cat on the mat"],
        ),
        ("two cars", {"two cars": ["a bird", "no cars"]}, ["a bird", "no cars"]),
        ("a cat", ["dog", "dog", "cat"], ["a dog"]),
        ("猫 cat", {"猫": "dog"}, ["dog cat"]),
    ],
)
def test_captions_have_one_word_replaced(scenes: Model, caption: str, candidates: Any, expected: list[str]) -> None:
    """Also those of one word, words that occur twice, phrases, and candidates that occur twice or change nothing."""
    rows = nibt.replace_words(scenes, IMAGE, caption, candidates)
    assert sorted(row.caption for row in rows) == sorted(expected)


def test_words_without_tokens_of_their_own_are_left_out_and_named(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "nibt"):
        rows = nibt.replace_words(tiny.model("clip"), IMAGE, "a cat", ["dog", "Dog", "Cat", "nurse"])
    assert [row.caption for row in rows] == ["a dog"]
    assert "does not know 'nurse': these replacements are left out" in caplog.text
    assert "'dog'" not in caplog.text.lower()


def test_signs_that_the_tokenizer_leaves_out_are_no_replacements() -> None:
    rows = nibt.replace_words("lite", IMAGE, "a cat", ["dog", "\U0001f436"])
    assert [row.caption for row in rows] == ["a dog"]


@pytest.mark.slow
@pytest.mark.parametrize("most", few([1, 3], [1]))
def test_each_word_has_as_many_of_both_ends(most: int) -> None:
    rows = nibt.replace_words("scenes", "sample:scene", "a cat", most=most)
    counts = Counter(row.word for row in rows)
    assert counts == {"a cat": min(2 * most, 4), "cat": 2 * most}
    of_noun = [row for row in rows if row.word == "cat"]
    everything = nibt.replace_words("scenes", "sample:scene", "a cat", most=1000)
    every = [row for row in everything if row.word == "cat"]
    assert [row.caption for row in of_noun] == [row.caption for row in (*every[:most], *every[-most:])]


def test_replacements_may_be_captions() -> None:
    texts = nibt.replace_words("scenes", "sample:scene", "a cat", ["dog", "owl"])
    for candidates in ([nibt.Caption("dog"), "owl"], {"cat": [nibt.Caption("dog"), nibt.Caption("owl")]}):
        assert nibt.replace_words("scenes", "sample:scene", nibt.Caption("a cat"), candidates) == texts
    (one, *_) = nibt.replace_words("scenes", "sample:scene", "a cat", nibt.Caption("dog"))
    assert one.caption == "a dog"


@pytest.mark.parametrize(
    ("caption", "candidates", "text"),
    [
        ("a cat", [], "there are no candidates"),
        ("a cat", {}, "there are no candidates"),
        ("a cat", {"cat": []}, "there are no candidates"),
        ("a cat", {"dog": ["owl"]}, "'dog' is not in the caption, which has the words 'a', 'cat'"),
        ("a cat", {"": ["owl"]}, "'' is not in the caption"),
        ("a cat", {3: ["owl"]}, "the word to replace must be a string"),
        ("a cat", ["dog", " "], "the replacement is blank"),
        ("a cat", [3], "the replacement must be a string"),
        ("a cat", 3, "the replacement must be a string"),
        ("a cat", {"dog", "owl"}, r"the replacement must be a string \(got set\)"),
        ("a cat", {"cat": 3}, "the replacement must be a string"),
        ("a cat", ["cat"], "no replacement is left"),
        ("a cat", ["nurse"], "no replacement is left"),
        ("this and that", ["dog"], "no content word to replace"),
        ("this and that", None, "no content word to replace"),
        ("a cat", [f"dog {number}" for number in range(100_000)], f"at most {MOST_CAPTIONS:,} changed captions"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_replacements_that_cannot_be_read_are_refused(caption: str, candidates: Any, text: str) -> None:
    with pytest.raises(BadInput, match=text):
        nibt.replace_words(tiny.model("clip"), IMAGE, caption, candidates)


def test_options_are_checked_and_progress_is_reported() -> None:
    model, seen = tiny.model("clip"), []
    with pytest.raises(BadOption, match="most must be between 1"):
        nibt.replace_words(model, IMAGE, "a cat", KNOWN, 0)
    nibt.replace_words(model, IMAGE, "a cat", KNOWN, on_progress=seen.append)
    assert [(each.done, each.total) for each in seen] == [(4, 4)]
