"""Tests of ``nibt.evaluation.statistics``."""

from itertools import product

import numpy as np
import pytest
from scipy import stats

from nibt.evaluation.statistics import holm, interval, paired_test


def test_statistics_equal_scipy() -> None:
    values, others = np.random.default_rng(3).normal(size=(2, 40))
    theirs = stats.t.interval(0.95, 39, values.mean(), stats.sem(values))
    assert interval([*values, np.nan]) == pytest.approx((values.mean(), *theirs))
    hits = [1.0] * 7 + [0.0] * 3
    theirs = stats.binomtest(7, 10).proportion_ci(0.95, "wilson")
    assert interval(hits) == pytest.approx((0.7, theirs.low, theirs.high))
    assert paired_test(values, others) == pytest.approx(stats.wilcoxon(values, others, method="exact").pvalue)
    assert paired_test(values, values) == 1
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.2, float("nan"), 0.03])[::2] == pytest.approx([0.2, 0.06])


def by_enumeration(difference: np.ndarray) -> float:
    """Return the p value as the share of all assignments of signs, with Pratt's ranks."""
    ranks = stats.rankdata(np.abs(difference))[difference != 0]
    signs = np.array(list(product((0, 1), repeat=len(ranks))))
    sums, own = signs @ ranks, ranks[difference[difference != 0] > 0].sum()
    middle = ranks.sum() / 2
    return float((np.abs(sums - middle) >= abs(own - middle) - 1e-9).mean())


@pytest.mark.parametrize(
    "difference",
    [
        [0.0] * 20 + [1.0] * 4,  # the normal approximation has 0.046 for 0.125
        [1.0, -1.0, 2.0, 3.0, 0.0, 0.0],
        [0.1, 0.1, -0.1, 0.4, 0.5, -0.6, 0.7, 0.7, 0.9, 1.0],
        [1.0],
    ],
)
def test_paired_test_is_exact_with_zeros_and_ties(difference: list[float]) -> None:
    expected = by_enumeration(np.array(difference))
    assert paired_test(difference, np.zeros(len(difference))) == pytest.approx(expected)
    assert paired_test(np.zeros(len(difference)), difference) == pytest.approx(expected)


def coverage(draws: np.ndarray, mean: float) -> float:
    """Return the share of samples whose interval contains the mean."""
    ends = [interval(sample) for sample in draws]
    return float(np.mean([end.low <= mean <= end.high for end in ends]))


@pytest.mark.parametrize("count", [5, 10, 20])
def test_intervals_of_few_values_contain_the_mean_as_often_as_they_say(count: int) -> None:
    """To 3 standard errors of 500 samples; the percentiles of a bootstrap are at 0.63 for ten hits of 0.9."""
    draws = np.random.default_rng(0)
    for chance in (0.5, 0.9):
        assert coverage((draws.random((500, count)) < chance).astype(float), chance) > 0.92 - 0.03
    assert coverage(draws.normal(size=(500, count)), 0.0) == pytest.approx(0.95, abs=0.03)
    assert coverage(draws.beta(2, 5, (500, count)), 2 / 7) > 0.92 - 0.03


def test_paired_test_finds_few_losses_without_gains() -> None:
    """Eleven hits less of a thousand, and none more: close to a sign test, for which p is 2 / 2**11."""
    hits = np.ones(1000)
    fewer = np.where(np.arange(1000) < 11, 0.0, hits)
    assert paired_test(fewer, hits) == pytest.approx(2 / 2**11, rel=0.2)
    balanced = np.where(np.arange(1000) < 11, 0.0, hits), np.where(np.arange(1000) >= 989, 0.0, hits)
    assert paired_test(*balanced) == pytest.approx(1)


def test_interval_is_that_of_hits_only_if_all_values_are_at_finite_bounds() -> None:
    shares, percent = interval([0.0, 1.0, 1.0]), interval([0.0, 100.0, 100.0], (0.0, 100.0))
    assert percent == pytest.approx(tuple(100 * number for number in shares))
    assert interval([-1.0, 1.0, 1.0], (-1.0, 1.0)) == pytest.approx(tuple(2 * number - 1 for number in shares))
    for bounds in ((0.0, np.inf), (-np.inf, np.inf), (-1.0, 1.0)):
        assert interval([0.0] * 6, bounds) == (0.0, 0.0, 0.0), bounds


def test_interval_ignores_missing_values() -> None:
    assert interval([0.5, 0.5, float("nan"), 0.5]) == (0.5, 0.5, 0.5)
    assert not interval([float("nan")]).is_known
    one = interval([0.5, float("nan")])
    assert one.mean == 0.5
    assert np.isnan([one.low, one.high]).all()
