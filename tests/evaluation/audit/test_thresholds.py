"""Tests of ``nibt.evaluation.audit.checks``."""

import math
from typing import Any

import numpy as np
import pytest

from nibt.evaluation.audit.checks import BOUNDS, CheckValues
from nibt.results.check import FEWEST_PAIRS, Check

pytest.importorskip("scipy", reason="a check has an interval")

SKEWED = [name for name, bound in BOUNDS.items() if bound.interval == "gaffke" and math.isfinite(bound.least)]


def check(name: str, values: Any, **changes: Any) -> Check | None:
    return CheckValues(name, "nib", "image", np.asarray(values, float), **changes).check()


def test_thresholds_are_ordered() -> None:
    for name, bound in BOUNDS.items():
        if name == "noun_places":  # of one map: a sum that is not positive fails
            continue
        assert (bound.passes > bound.fails) if bound.better == "higher" else (bound.passes < bound.fails), name


@pytest.mark.parametrize("name", SKEWED)
def test_equal_values_pass_from_the_least_number_of_pairs_on(name: str) -> None:
    """Up to the error of the draws of Gaffke's interval: one pair more passes, one less does not."""
    bound = BOUNDS[name]
    least = bound.least_pairs(bound.least, bound.most)
    better = bound.passes + (1e-9 if bound.better == "higher" else -1e-9)  # the mean of equal values is rounded
    passing = check(name, [better] * (least + 1))
    assert passing is not None
    assert passing.verdict == "pass"
    few = check(name, [bound.passes] * (least - 1))
    assert few is not None
    assert few.verdict == "no verdict"
    if least > FEWEST_PAIRS:
        end = few.high if bound.better == "lower" else few.low
        assert abs(end - bound.fails) < 0.02 or (end > bound.fails) == (bound.better == "lower")


def test_equal_values_have_an_interval_with_a_width() -> None:
    for name, bound in BOUNDS.items():
        value = (bound.passes + bound.fails) / 2
        equal = check(name, [value] * 30)
        if math.isfinite(bound.least) or math.isfinite(bound.most):
            assert equal is not None
            assert equal.low < value or equal.high > value, name
        else:
            assert equal is None, name


def test_intervals_end_where_values_cannot_be() -> None:
    """Student's interval of a few similarities near 1 reaches beyond 1."""
    similar = check("mismatch_text", [1.0, 1.0, 0.9, 1.0])
    assert similar is not None
    assert similar.high == 1.0


def test_one_value_is_no_check() -> None:
    assert check("wording", [0.3, np.nan]) is None
    assert check("words", [np.nan, np.nan]) is None


def test_a_check_of_rare_large_values_does_not_pass_at_its_failing_threshold() -> None:
    """Half of the pairs have all of the score on other words: Student's interval passes in 1 of 20 samples."""
    draws = np.random.default_rng(0)
    passes = 0
    for _ in range(400):
        one = check("words", draws.random(24) < BOUNDS["words"].fails)
        passes += one is not None and one.verdict == "pass"
    assert passes / 400 <= 0.025 + 3 * math.sqrt(0.025 / 400)
