"""Tests of ``nibt.report.request``."""

from dataclasses import replace

import pytest

import nibt
from nibt.report.colors import Appearance
from nibt.report.ranked import ranked_subjects
from nibt.report.request import legend, question, runs, target_line
from nibt.report.view import names_of
from nibt.results.explanation import Explanation, Ranked
from nibt.results.notes import NOISE, Note, note_fields
from tests import tiny
from tests.answers import PEAK, WHOLE, answer, with_errors

CONTRASTS = {
    "softmax": (
        {"against": [tiny.CAPTIONS[0], "a bus", tiny.CAPTIONS[2]]},
        "\u201ctwo cars\u201d more or less probable among 4 captions?",
        "against the captions \u201ca photo of a cat and a dog\u201d, \u201ca bus\u201d, ",
    ),
    "difference": ({"against_images": tiny.image(seed=4)}, "Why does noise 0 match", "other image: cosine"),
    "centered": ({"against": ["cat", "a dog", "cars", "a mat"]}, "more than the average caption?", "and 1 more"),
    "ensemble": ({}, "Where does the similarity", "the mean of 5 wordings; text side: cosine"),
    "logit": ({}, "Where does the similarity", "image side: logit"),
    "cosine": ({}, "Where does the similarity", "target cosine"),
}


@pytest.mark.parametrize("target", CONTRASTS)
def test_target_line_names_the_contrasts_of_every_target(target: str) -> None:
    options, sentence, line = CONTRASTS[target]
    answer = nibt.explain(tiny.model("clip"), tiny.image(), "two cars", "center", target, **options)
    assert sentence in question(answer)
    assert line in target_line(answer)


def compared(name: str, value: float, **options: object) -> Explanation:
    side = {"name": name, "value": value}
    target = {**side, "options": options, "image": side, "text": side}
    return replace(answer(PEAK, (90, 90), WHOLE), target=target)  # pyright: ignore


@pytest.mark.parametrize(
    ("name", "value", "options", "expected"),
    [
        ("difference", 0.023, {"against": ["a dog"]}, "Why “a red cat” rather than “a dog”?"),
        ("difference", -0.023, {"against": ["a dog"]}, "Why does “a red cat” match worse than “a dog”?"),
        ("softmax", 0.9, {"against": ["a dog", "a car"]}, "Why “a red cat” among 3 captions?"),
        ("softmax", 0.2, {"against": ["a dog", "a car"]}, "What makes “a red cat” more or less probable among"),
        ("centered", -0.1, {"against": ["a dog"]}, "Why “a red cat” less than the average caption?"),
        ("difference", -0.1, {"against_images": ["x/dog.png"]}, "match “a red cat” worse than dog.png?"),
    ],
)
def test_no_question_states_the_opposite_of_the_number(
    name: str, value: float, options: dict[str, list[str]], expected: str
) -> None:
    assert expected in question(compared(name, value, **options))


def test_the_question_of_a_difference_that_is_noise_does_not_name_a_winner() -> None:
    result = compared("difference", 1e-5, against=["a dog"])
    noise = replace(result, **note_fields([Note(NOISE, "noise", "image")]))
    assert question(noise) == "Does “a red cat” or “a dog” match better?"


def test_a_ranking_marks_what_is_explained_and_names_files() -> None:
    ranked = (Ranked("a dog", 0.3, 0.9, 1), Ranked("a red cat", 0.2, 0.1, 0), Ranked("a car", 0.1, 0.0, 2))
    result = replace(compared("difference", -0.1, against=["a dog"]), ranking=ranked)
    assert sorted(ranked_subjects(result)) == [0, 1]
    assert names_of(["photos/1/cat.png", "photos/2/cat.png"]) == ["1/cat.png", "2/cat.png"]


def test_legend_of_a_table_has_directions_with_any_method() -> None:
    table = nibt.regions(tiny.model("clip"), tiny.image(), "a red cat", method="gae")
    assert isinstance(table, nibt.Regions)
    assert legend(table) == (
        "Red raises the method's score of a part, blue lowers it. The outline is at half of the largest score of all "
        "words."
    )


def test_runs_carry_the_scores_of_words() -> None:
    actual = list(runs(answer(PEAK, (90, 90), WHOLE)))
    assert [run.text for run in actual] == ["a", "red", "cat"]
    assert [run.share for run in actual] == pytest.approx([-0.5, 0.25, 1])
    assert next(runs(answer(PEAK, (90, 90), WHOLE), Appearance(positive_only=True))).share == 0


def test_words_that_may_be_zero_are_pale() -> None:
    explanation = with_errors(answer(PEAK, (90, 90), WHOLE), [[0.0] * 3] * 3, [1.0, 0.2, 0.2])
    first, second, third = runs(explanation.text)
    assert (first.score, first.share, first.error) == (-1.0, -0.125, 1.0)
    assert (second.share, third.share) == (0.25, 1.0)
    assert first.background != next(runs(answer(PEAK, (90, 90), WHOLE).text)).background
