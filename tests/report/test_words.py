"""Tests of ``nibt.report.words``."""

import pytest

from nibt.report.colors import Appearance
from nibt.report.words import runs
from tests.answers import PEAK, WHOLE, answer


def test_runs_carry_the_scores_of_words() -> None:
    actual = list(runs(answer(PEAK, (90, 90), WHOLE)))
    assert [run.text for run in actual] == ["a", "red", "cat"]
    assert [run.share for run in actual] == pytest.approx([-0.5, 0.25, 1])
    assert next(runs(answer(PEAK, (90, 90), WHOLE), Appearance(positive_only=True))).share == 0
