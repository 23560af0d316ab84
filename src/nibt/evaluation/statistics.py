"""Means with their intervals, and what a difference between two methods is worth."""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

from nibt.errors import Unsupported

Better: TypeAlias = Literal["higher", "lower", "neither"]
Interval: TypeAlias = tuple[float, float, float]
"""A number and the two ends of its bootstrap 95 % interval."""
RESAMPLES = 2000
NOTHING: Interval = (math.nan, math.nan, math.nan)


def interval(values: Any) -> Interval:
    """The mean of what was measured, NaN left out, and its percentile bootstrap 95 % interval, with a fixed seed.

    >>> interval([1.0, 1.0, float("nan")])
    (1.0, 1.0, 1.0)

    """
    values = np.asarray(values, float)
    values = values[~np.isnan(values)]
    if not len(values):
        return NOTHING
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0]), float(values[0])
    return resampled([values], lambda *samples, axis=-1: samples[0].mean(axis))


def resampled(samples: Sequence[Any], statistic: Callable[..., Any]) -> Interval:
    """A statistic of independent samples and its percentile bootstrap 95 % interval (``scipy.stats.bootstrap``)."""
    batch = max(1, 2_000_000 // max(map(len, samples)))
    with warnings.catch_warnings(), np.errstate(invalid="ignore"):
        warnings.simplefilter("ignore")  # a share of what is 0 in some resamples is infinite there
        found = (
            _stats()
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
    way = "linear" if np.isfinite(found).all() else "nearest"
    low, high = np.percentile(found, (2.5, 97.5), method=way)
    return float(statistic(*samples)), float(low), float(high)


def paired_test(values: Any, others: Any) -> float:
    """The two-sided p of Wilcoxon's signed-rank test of paired numbers; 1 where they are all equal, NaN where no pair
    has both. Zeros are split between the ranks; with zeros or ties p is the normal approximation, since scipy's way to
    the exact one takes seconds.
    """
    difference = np.asarray(values, float) - np.asarray(others, float)
    difference = difference[~np.isnan(difference)]
    if not len(difference):
        return math.nan
    if not np.any(difference):
        return 1.0
    tied = len({0.0, *np.abs(difference)}) <= len(difference)
    return float(_stats().wilcoxon(difference, zero_method="zsplit", method="approx" if tied else "auto").pvalue)


def holm(values: Sequence[float]) -> list[float]:
    """Holm's correction of several p values; NaN stays NaN and counts for nothing.

    >>> [round(p, 3) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]

    """
    order = sorted((place for place, p in enumerate(values) if not math.isnan(p)), key=values.__getitem__)
    running, corrected = 0.0, [math.nan] * len(values)
    for rank, place in enumerate(order):
        running = max(running, min(1.0, (len(order) - rank) * values[place]))
        corrected[place] = running
    return corrected


def wins(values: Any, others: Any, better: Better) -> float:
    """The share of pairs on which the first is better; a tie is half a win. NaN where neither way is better.

    >>> wins([1.0, 2.0, 3.0, 4.0], [0.0, 2.0, 5.0, 1.0], "higher")
    0.625

    """
    difference = np.asarray(values, float) - np.asarray(others, float)
    difference = difference[~np.isnan(difference)]
    if better == "neither" or not len(difference):
        return math.nan
    won = difference > 0 if better == "higher" else difference < 0
    return float(won.mean() + (difference == 0).mean() / 2)


def _stats() -> Any:
    try:
        from scipy import stats
    except ImportError as error:
        raise Unsupported("the tests and intervals of a report need scipy: pip install 'nibt[bench]'") from error
    return stats
