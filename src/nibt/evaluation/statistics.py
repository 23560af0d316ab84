"""Means with bootstrap intervals (Efron, 1979), and tests of differences between methods."""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from nibt.errors import import_optional

Better: TypeAlias = Literal["higher", "lower", "neither"]
RESAMPLES = 2000
"""The number of bootstrap resamples."""


class Interval(NamedTuple):
    """A statistic with its bootstrap 95 % interval. All fields are NaN if there are no values.

    Attributes:
        mean: The statistic, most often a mean.
        low: The lower end of the interval.
        high: The upper end.

    """

    mean: float
    low: float
    high: float

    @property
    def is_known(self) -> bool:
        """Whether there are values."""
        return not math.isnan(self.mean)


NOTHING = Interval(math.nan, math.nan, math.nan)


def interval(values: Any, seed: int = 0) -> Interval:
    """Return the mean of the values and its percentile bootstrap 95 % interval.

    Args:
        values: The values. NaN is left out.
        seed: The seed of the resamples.

    >>> interval([1.0, 1.0, float("nan")])
    Interval(mean=1.0, low=1.0, high=1.0)

    """
    values = np.asarray(values, float)
    values = values[~np.isnan(values)]
    if not len(values):
        return NOTHING
    if np.ptp(values) == 0:
        return Interval(float(values[0]), float(values[0]), float(values[0]))
    return resampled([values], lambda *samples, axis=-1: samples[0].mean(axis), seed)


def resampled(samples: Sequence[Any], statistic: Callable[..., Any], seed: int = 0) -> Interval:
    """Return a statistic of independent samples and its percentile bootstrap 95 % interval.

    Args:
        samples: The samples, which are resampled independently (``scipy.stats.bootstrap``).
        statistic: The statistic, called with the samples and ``axis``.
        seed: The seed of the resamples.

    """
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
                rng=np.random.default_rng(seed),
            )
            .bootstrap_distribution
        )
    method = "linear" if np.isfinite(distribution).all() else "nearest"
    low, high = np.percentile(distribution, (2.5, 97.5), method=method)
    return Interval(float(statistic(*samples)), float(low), float(high))


def paired_test(values: Any, others: Any) -> float:
    """Return the two-sided p value of Wilcoxon's signed-rank test (``scipy.stats.wilcoxon``).

    It is 1 if all differences are 0, and NaN if no pair has both values. Zeros are ranked and then left out (Pratt,
    1959), so that many pairs without a difference, as in metrics of hits, do not hide the others. With zeros or ties, p
    is the normal approximation, since scipy's exact computation takes seconds.
    """
    difference = np.asarray(values, float) - np.asarray(others, float)
    difference = difference[~np.isnan(difference)]
    if not len(difference):
        return math.nan
    if not np.any(difference):
        return 1.0
    tied = len({0.0, *np.abs(difference)}) <= len(difference)
    return float(scipy_stats().wilcoxon(difference, zero_method="pratt", method="approx" if tied else "auto").pvalue)


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


def win_rate(values: Any, others: Any, better: Better) -> float:
    """Return the share of pairs on which the first method is better; a tie is half a win.

    It is NaN if there are no pairs, or if no direction of the metric is better.

    Args:
        values: The values of the first method, one per pair; NaN is left out.
        others: The values of the second method.
        better: Which values are better.

    >>> win_rate([1.0, 2.0, 3.0, 4.0], [0.0, 2.0, 5.0, 1.0], "higher")
    0.625

    """
    difference = np.asarray(values, float) - np.asarray(others, float)
    difference = difference[~np.isnan(difference)]
    if better == "neither" or not len(difference):
        return math.nan
    is_better = difference > 0 if better == "higher" else difference < 0
    return float(is_better.mean() + (difference == 0).mean() / 2)


def scipy_stats() -> Any:
    """Return ``scipy.stats``.

    Raises:
        Unsupported: scipy is not installed.

    """
    return import_optional("scipy.stats", "intervals, ranks and tests need scipy", "metrics")
