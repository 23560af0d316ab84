"""Tests of ``nibt.evaluation.statistics``."""

import math
from itertools import product

import numpy as np
import pytest
from scipy import stats

from nibt.evaluation.statistics import (
    bootstrap_t,
    gaffke,
    holm,
    interval,
    jackknife,
    least_share,
    paired_test,
    ratio_of_means,
    student,
    weighted_mean,
)


def test_statistics_equal_scipy() -> None:
    values, others = np.random.default_rng(3).normal(size=(2, 40))
    theirs = stats.t.interval(0.95, 39, values.mean(), stats.sem(values))
    assert student([*values, np.nan]) == pytest.approx((values.mean(), *theirs))
    reach = (theirs[1] - theirs[0]) / 2 * (1 + 10 / 40)
    wider = values.mean(), values.mean() - reach, values.mean() + reach
    assert interval([*values, np.nan]) == pytest.approx(wider, abs=0.05)
    hits = [1.0] * 7 + [0.0] * 3
    theirs = stats.binomtest(7, 10).proportion_ci(0.95, "exact")
    assert interval(hits) == pytest.approx((0.7, theirs.low, theirs.high))
    assert paired_test(values, others) == pytest.approx(stats.wilcoxon(values, others, method="exact").pvalue)
    assert paired_test(values, values) == 1
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.2, float("nan"), 0.03])[::2] == pytest.approx([0.2, 0.06])


def test_an_end_far_beyond_few_skewed_values_is_infinite() -> None:
    skewed = [0.011, 0.012, 0.012, 0.013, 0.011, 0.012, 0.013, 5.0]
    mean, low, high = bootstrap_t(8, weighted_mean(np.array(skewed)), (-math.inf, math.inf))
    assert high > 10 * 5.0, "the resamples without the large value have tiny errors"
    assert interval(skewed) == (mean, pytest.approx(low), math.inf)
    assert not interval(skewed).has_ends
    assert interval([*np.linspace(0, 1, 8)]).has_ends


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


@pytest.mark.slow
@pytest.mark.parametrize("count", [5, 10, 20])
def test_intervals_of_few_values_contain_the_mean_as_often_as_they_say(count: int) -> None:
    """To 3 standard errors of 500 samples; the percentiles of a bootstrap are at 0.63 for ten hits of 0.9.

    The bootstrap of Student's t of five values is wider than Student's interval.
    """
    draws = np.random.default_rng(0)
    for chance in (0.5, 0.9):
        assert coverage((draws.random((500, count)) < chance).astype(float), chance) > 0.92 - 0.03
    assert coverage(draws.normal(size=(500, count)), 0.0) > 0.92 - 0.03
    assert coverage(draws.exponential(size=(500, count)), 1.0) > 0.9 - 0.03


def test_paired_test_finds_few_losses_without_gains() -> None:
    """Eleven hits less of a thousand, and none more: close to a sign test, for which p is 2 / 2**11."""
    hits = np.ones(1000)
    fewer = np.where(np.arange(1000) < 11, 0.0, hits)
    assert paired_test(fewer, hits) == pytest.approx(2 / 2**11, rel=0.2)
    balanced = np.where(np.arange(1000) < 11, 0.0, hits), np.where(np.arange(1000) >= 989, 0.0, hits)
    assert paired_test(*balanced) == pytest.approx(1)


def test_interval_is_that_of_hits_only_if_all_values_are_at_finite_bounds() -> None:
    shares, percent = interval([0.0, 1.0, 1.0], (0.0, 1.0)), interval([0.0, 100.0, 100.0], (0.0, 100.0))
    assert percent == pytest.approx(tuple(100 * number for number in shares))
    assert interval([-1.0, 1.0, 1.0], (-1.0, 1.0)) == pytest.approx(tuple(2 * number - 1 for number in shares))
    assert interval([0.0, 1.0, 1.0]) == shares
    for bounds in ((0.0, np.inf), (-np.inf, np.inf), (-1.0, 1.0)):
        low, high = interval([0.0] * 6, bounds)[1:]
        assert low < high or np.isnan([low, high]).any(), bounds


def test_interval_ignores_missing_values() -> None:
    assert interval([0.5, 0.7, float("nan"), 0.5]) == interval([0.5, 0.7, 0.5])
    assert math.isnan(interval([float("nan")]).mean)
    one = interval([0.5, float("nan")])
    assert one.mean == 0.5
    assert np.isnan([one.low, one.high]).all()


@pytest.mark.parametrize("hits", [0, 1, 12, 23, 24])
def test_gaffkes_interval_of_hits_is_that_of_clopper_and_pearson(hits: int) -> None:
    values = [1.0] * hits + [0.0] * (24 - hits)
    theirs = stats.binomtest(hits, 24).proportion_ci(0.95, "exact")
    assert gaffke(values, (0.0, 1.0)) == pytest.approx((hits / 24, theirs.low, theirs.high), abs=0.01)


def test_gaffkes_interval_is_mirrored_with_its_values() -> None:
    values = np.random.default_rng(0).beta(1, 5, 30)
    mean, low, high = gaffke(values, (0.0, 1.0))
    mirrored = gaffke(-values, (-1.0, 0.0))
    assert mirrored == pytest.approx((-mean, -high, -low), abs=0.01)
    scaled = gaffke(3 * values - 1, (-1.0, 2.0))
    assert scaled == pytest.approx((3 * mean - 1, 3 * low - 1, 3 * high - 1))


def test_an_end_without_a_bound_is_students() -> None:
    values = np.random.default_rng(0).normal(size=30)
    assert gaffke(values, (-np.inf, 9.0)).low == student(values).low
    assert gaffke(values, (-9.0, np.inf)).high == student(values).high
    assert gaffke(values, (-np.inf, 9.0)).high > student(values).high


@pytest.mark.parametrize("count", [12, 24])
def test_skewed_shares_are_covered(count: int) -> None:
    """A tenth of the pairs has a share of 1, the others none; Student's interval of 12 covers the mean in 0.71."""
    draws = (np.random.default_rng(0).random((400, count)) < 0.1) * 1.0
    ends = [gaffke(sample, (0.0, 1.0)) for sample in draws]
    assert np.mean([end.high >= 0.1 for end in ends]) >= 0.96


def test_equal_values_have_an_interval_only_with_bounds() -> None:
    assert gaffke([0.3] * 20, (0.0, 1.0)).low < 0.3 < gaffke([0.3] * 20, (0.0, 1.0)).high
    assert not student([0.3] * 20).has_ends
    for value in (0.1, 0.2, 0.3, 0.7, 1 / 3, -0.1):  # whose means are rounded
        assert not interval([value] * 24).has_ends, value
        assert not interval([abs(value)] * 24, (0.0, np.inf)).has_ends, value
    constant = jackknife(np.zeros((20, 1)), lambda rows, weights: np.full(len(weights), 0.3), (0.0, 1.0))
    assert constant.low < constant.mean < constant.high


def test_bootstrap_t_of_a_mean_is_close_to_student() -> None:
    values = np.random.default_rng(0).normal(size=800)

    assert bootstrap_t(800, weighted_mean(values), (-9.0, 9.0)) == pytest.approx(student(values), abs=0.01)


@pytest.mark.parametrize("count", [12, 24, 200])
def test_ends_of_a_ratio_are_where_students_t_is_critical_and_wider_with_few_pairs(count: int) -> None:
    draws = np.random.default_rng(count)
    wholes = 2 + draws.random(count)
    parts = wholes * draws.random(count)
    share, low, high = ratio_of_means(parts, wholes, (-1.0, 2.0))
    assert low < share < high
    critical = stats.t.ppf(0.975, count - 1) * (1 + 10 / count)
    for end in (low, high):
        assert abs(stats.ttest_1samp(parts - end * wholes, 0).statistic) == pytest.approx(critical)


def test_a_ratio_to_nothing_is_unknown_and_one_to_noise_has_no_ends() -> None:
    assert math.isnan(ratio_of_means([1.0, 2.0], [1.0, -1.0], (0.0, 1.0)).mean)
    assert math.isnan(ratio_of_means([1.0], [1.0], (0.0, 1.0)).mean)
    noise = np.random.default_rng(0).normal(0.01, 1, 24)
    assert ratio_of_means(noise / 2 + 0.1, noise, (-1.0, 2.0))[1:] == (-1.0, 2.0)


def test_equal_shares_have_gaffkes_interval() -> None:
    share = ratio_of_means([0.5] * 24, [1.0] * 24, (0.0, 1.0))
    assert share == gaffke([0.5] * 24, (0.0, 1.0))


@pytest.mark.parametrize(("hits", "count"), [(0, 10), (7, 10), (97, 100), (100, 100)])
def test_least_share_is_a_quantile_of_the_beta_distribution(hits: int, count: int) -> None:
    expected = 0.0 if not hits else stats.beta.ppf(0.05, hits, count - hits + 1)
    assert least_share(hits, count) == pytest.approx(expected, abs=1e-9)
    assert least_share(hits, count, 0.01) <= least_share(hits, count)


@pytest.mark.parametrize(("count", "share"), [(4, 0.25), (16, 0.1), (48, 0.05), (48, 0.3)])
def test_almost_equal_values_do_not_bound_their_mean(count: int, share: float) -> None:
    """Resamples of zeros alone have no error: once, they were left out, and an end was the mean itself."""
    draws = np.random.default_rng(0)
    missed = 0
    samples = [draws.exponential(size=count) * (draws.random(count) < share) for _ in range(200)]
    samples = [values for values in samples if values.any()]
    for values in samples:
        mean, low, high = interval(values, (0.0, math.inf))
        assert low <= mean < high
        missed += not low <= share <= high
    assert missed <= 0.07 * len(samples)


def test_an_end_is_infinite_only_where_many_resamples_are_equal() -> None:
    assert interval([0.0] * 9 + [5.0]).high == math.inf
    assert not interval([0.0] * 9 + [5.0]).has_ends
    assert interval([0.0] * 5 + [1.0, 2.0, 3.0, 4.0, 5.0]).has_ends
