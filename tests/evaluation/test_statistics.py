"""Tests of ``nibt.evaluation.statistics``."""

import numpy as np
import pytest
from scipy import stats

from nibt.evaluation.statistics import holm, interval, paired_test


def test_statistics_equal_scipy() -> None:
    values, others = np.random.default_rng(3).normal(size=(2, 40))
    theirs = stats.bootstrap(
        (values,), np.mean, n_resamples=2000, method="percentile", rng=np.random.default_rng(0)
    ).confidence_interval
    assert interval([*values, np.nan]) == pytest.approx((values.mean(), theirs.low, theirs.high))
    assert paired_test(values, others) == pytest.approx(stats.wilcoxon(values, others, zero_method="pratt").pvalue)
    few, others_few = np.round(values[:9], 1), np.round(others[:9], 1)
    few[3] = others_few[3]
    exact = stats.wilcoxon(few, others_few, zero_method="pratt").pvalue  # all assignments of signs
    assert paired_test(few, others_few) == pytest.approx(exact, abs=0.05)
    assert paired_test(values, values) == 1
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.2, float("nan"), 0.03])[::2] == pytest.approx([0.2, 0.06])


def test_paired_test_finds_few_losses_without_gains() -> None:
    """Eleven hits less of a thousand, and none more: close to a sign test, for which p is 2 / 2**11."""
    hits = np.ones(1000)
    fewer = np.where(np.arange(1000) < 11, 0.0, hits)
    assert paired_test(fewer, hits) == pytest.approx(2 / 2**11, rel=0.2)
    balanced = np.where(np.arange(1000) < 11, 0.0, hits), np.where(np.arange(1000) >= 989, 0.0, hits)
    assert paired_test(*balanced) == pytest.approx(1)


def test_interval_ignores_missing_values() -> None:
    assert interval([1.0, 1.0, float("nan"), 1.0]) == (1.0, 1.0, 1.0)
    assert not interval([float("nan")]).is_known


def test_interval_takes_a_seed() -> None:
    values = np.random.default_rng(3).normal(size=40)
    assert interval(values, 1) == interval(values, 1)
    assert interval(values, 1) != interval(values, 2)
    assert interval(values, 1).mean == interval(values, 2).mean
