"""Tests of ``nibt.report.request``."""

import pytest

import nibt
from nibt.report.colors import Appearance
from nibt.report.request import legend, question, runs, target_line
from tests import tiny
from tests.answers import PEAK, WHOLE, answer

CONTRASTS = {
    "softmax": (
        {"against": list(tiny.CAPTIONS[:3])},
        "Why \u201ctwo cars\u201d among 4 captions?",
        "against the captions \u201ca photo of a cat and a dog\u201d, \u201ctwo cars\u201d, ",
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


def test_legend_of_a_table_has_directions_with_any_method() -> None:
    table = nibt.regions(tiny.model("clip"), tiny.image(), "a red cat", method="gae")
    assert isinstance(table, nibt.Regions)
    assert legend(table) == "Red raises the method's score of a part, blue lowers it."


def test_runs_carry_the_scores_of_words() -> None:
    actual = list(runs(answer(PEAK, (90, 90), WHOLE)))
    assert [run.text for run in actual] == ["a", "red", "cat"]
    assert [run.share for run in actual] == pytest.approx([-0.5, 0.25, 1])
    assert next(runs(answer(PEAK, (90, 90), WHOLE), Appearance(positive_only=True))).share == 0
