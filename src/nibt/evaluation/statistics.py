"""Means with intervals, and tests of differences between methods."""

import math
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

Better: TypeAlias = Literal["higher", "lower", "neither"]
RESAMPLES = 2000
"""The number of bootstrap resamples."""
_MOST_SUMS = 20_000_000


class Interval(NamedTuple):
    """A statistic with its 95 % interval; NaN without values, as are the ends with one."""

    mean: float
    low: float
    high: float

    @property
    def is_known(self) -> bool:
        return not math.isnan(self.mean)

    @property
    def has_ends(self) -> bool:
        """Whether there are enough values for an interval: one value has none."""
        return not math.isnan(self.low)


NOTHING = Interval(math.nan, math.nan, math.nan)


def interval(values: Any, bounds: tuple[float, float] = (0.0, 1.0)) -> Interval:
    """Return the mean of the values and its 95 % interval.

    Values that are all at one of two finite bounds, as those of hits, have Wilson's interval (1927), others Student's
    (1908). With few values, the percentiles of a bootstrap are too narrow: for ten hits with the probability 0.9, they
    contain it in 63 % of all samples. One value has no interval.

    >>> interval([0.5, 0.5, float("nan")])
    Interval(mean=0.5, low=0.5, high=0.5)
    >>> [round(number, 2) for number in interval([1.0] * 10)]
    [1.0, 0.72, 1.0]
    >>> [round(number) for number in interval([100.0] * 10, (0.0, 100.0))]
    [100, 72, 100]
    """
    values = np.asarray(values, float)
    values = values[~np.isnan(values)]
    count = len(values)
    if not count:
        return NOTHING
    mean = float(values.mean())
    if count == 1:
        return Interval(mean, math.nan, math.nan)
    least, scale = bounds[0], bounds[1] - bounds[0]
    if math.isfinite(scale) and np.isin(values, bounds).all():
        square, share = float(scipy_stats().norm.ppf(0.975)) ** 2 / count, (mean - least) / scale
        center, reach = share + square / 2, math.sqrt(square * (share * (1 - share) + square / 4))
        return Interval(mean, *(least + scale * (center + step) / (1 + square) for step in (-reach, reach)))
    reach = float(scipy_stats().t.ppf(0.975, count - 1)) * float(values.std(ddof=1)) / math.sqrt(count)
    return Interval(mean, mean - reach, mean + reach)


def within(mean: Interval, bounds: tuple[float, float]) -> Interval:
    """Return an interval that ends where values cannot be.

    >>> within(Interval(0.9, 0.7, 1.1), (0.0, 1.0))
    Interval(mean=0.9, low=0.7, high=1.0)
    """
    return Interval(mean.mean, *(float(np.clip(end, *bounds)) for end in (mean.low, mean.high)))


def resampled(samples: Sequence[Any], statistic: Callable[..., Any]) -> Interval:
    """Return a statistic of independent samples and its percentile bootstrap 95 % interval."""
    batch = max(1, 2_000_000 // max(map(len, samples)))
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore")  # a ratio is infinite in resamples whose denominator is 0
        distribution = (
            scipy_stats()
            .bootstrap(
                tuple(samples),
                statistic,
                n_resamples=RESAMPLES,
                method="percentile",
                batch=batch,
                vectorized=True,
                rng=np.random.default_rng(0),
            )
            .bootstrap_distribution
        )
    method = "linear" if np.isfinite(distribution).all() else "nearest"
    low, high = np.percentile(distribution, (2.5, 97.5), method=method)
    return Interval(float(statistic(*samples)), float(low), float(high))


def jackknife(
    rows: np.ndarray,
    statistic: Callable[[np.ndarray, np.ndarray], np.ndarray],
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Interval:
    """Return a statistic of rows (pair, value) and weights (data set, pair), and its 95 % interval.

    The interval is Student's with the standard error of the jackknife (Tukey, 1958), between finite bounds on the scale
    of Fisher's z, so that it ends within them. Percentiles of a bootstrap contain the value of a large data set too
    rarely, since ratios and rankings of few pairs are biased (``benchmarks/intervals.py``).
    """
    count = len(rows)
    if not count:
        return NOTHING
    value = float(statistic(rows, np.ones((1, count)))[0])
    if count == 1:
        return Interval(value, math.nan, math.nan)
    left_out = np.array_split(np.arange(count), 1 + count**2 // 4_000_000)
    values = np.concatenate([statistic(rows, (np.arange(count) != pairs[:, None]).astype(int)) for pairs in left_out])
    values = values[~np.isnan(values)]  # the other pairs may lack what the statistic needs, such as a label
    valued = len(values)
    if valued < 2 or math.isnan(value):
        return Interval(value, math.nan, math.nan)
    error = math.sqrt((valued - 1) * float(values.var()))
    reach = float(scipy_stats().t.ppf(0.975, valued - 1)) * error
    center, half = sum(bounds) / 2, (bounds[1] - bounds[0]) / 2
    if not math.isfinite(half):
        return Interval(value, value - reach, value + reach)
    place = (value - center) / half
    if abs(place) >= 1:  # as of hits
        return interval([bounds[place > 0]] * valued, bounds)
    reach /= half * (1 - place**2)
    low, high = (center + half * math.tanh(math.atanh(place) + step) for step in (-reach, reach))
    return Interval(value, low, high)


def paired_test(values: Any, others: Any) -> float:
    """Return the two-sided p value of Wilcoxon's signed-rank test (1945).

    It is 1 if all differences are 0, and NaN if no pair has both values. Zeros are ranked and then left out (Pratt,
    1959), so that many pairs without a difference, as in metrics of hits, do not hide the others. Up to some hundred
    pairs it is exact: the share of all assignments of signs whose sum of ranks is at least as far from its mean. For
    more, it is the normal approximation (``scipy.stats.wilcoxon``).
    """
    difference = _differences(values, others)
    if not len(difference):
        return math.nan
    if not np.any(difference):
        return 1.0
    doubled = np.rint(2 * scipy_stats().rankdata(np.abs(difference))).astype(int)[difference != 0]
    total = int(doubled.sum())
    if total * len(doubled) > _MOST_SUMS:
        return float(scipy_stats().wilcoxon(difference, zero_method="pratt", method="approx").pvalue)
    chance = np.zeros(total + 1)  # of each sum of the ranks of positive differences
    chance[0] = 1.0
    for rank in doubled:
        chance[rank:] = (chance[rank:] + chance[: total + 1 - rank]) / 2
        chance[:rank] /= 2
    positive = int(doubled[difference[difference != 0] > 0].sum())
    return min(1.0, 2 * float(chance[max(positive, total - positive) :].sum()))


def holm(values: Sequence[float]) -> list[float]:
    """Return p values with Holm's correction; NaN stays NaN and is not counted.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    order = sorted((index for index, p in enumerate(values) if not math.isnan(p)), key=values.__getitem__)
    running, corrected = 0.0, [math.nan] * len(values)
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(order) - rank) * values[index]))
        corrected[index] = running
    return corrected


def _differences(values: Any, others: Any) -> np.ndarray:
    difference = np.asarray(values, float) - np.asarray(others, float)
    return difference[~np.isnan(difference)]


def win_rate(values: Any, others: Any, better: Better) -> float:
    """Return the share of pairs on which the first method is better, a tie being half a win; NaN without a direction.

    >>> win_rate([1.0, 2.0, 3.0, 4.0], [0.0, 2.0, 5.0, 1.0], "higher")
    0.625
    """
    difference = _differences(values, others)
    if better == "neither" or not len(difference):
        return math.nan
    is_better = difference > 0 if better == "higher" else difference < 0
    return float(is_better.mean() + (difference == 0).mean() / 2)


def scipy_stats() -> Any:
    """Return ``scipy.stats``, which takes half a second to import."""
    return import_module("scipy.stats")
