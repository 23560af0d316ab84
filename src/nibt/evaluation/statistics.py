"""Means with intervals, and tests of differences between methods."""

import math
from collections.abc import Callable, Collection, Sequence
from importlib import import_module
from typing import Any, Literal, NamedTuple, SupportsFloat, TypeAlias

import numpy as np

from nibt.torch_modes import without_warnings

Better: TypeAlias = Literal["higher", "lower", "neither"]
RESAMPLES = 2000
"""The number of bootstrap resamples."""
_DIRICHLET_DRAWS = 10_000
_WIDENING = 10
_FARTHEST = 10
"""The ranges of the values by which an end of their mean is away at most: Student's of two values is at 6.4."""
_FEW = 3
"""The most values whose interval is Student's in place of its bootstrap."""
_ROUNDING = 1e-12  # errors up to this, relative to the value, are rounding errors of equal values
_MOST_WEIGHTS = 10_000_000  # of all draws
_MOST_SUMS = 20_000_000


class Interval(NamedTuple):
    """A statistic with its 95 % interval.

    It is NaN without values, as are the ends with one. An end is infinite if the values do not bound it.
    """

    mean: float
    low: float
    high: float

    @property
    def has_ends(self) -> bool:
        """Whether both ends are known: one value has none, and almost equal values without a bound lack some."""
        return math.isfinite(self.low) and math.isfinite(self.high)


NOTHING = Interval(math.nan, math.nan, math.nan)

Numbers: TypeAlias = Collection[SupportsFloat]
"""Numbers in an array, a column of a table or a list; NaN is a value that is not known."""


def interval(values: Numbers, bounds: tuple[float, float] | None = None) -> Interval:
    """Return the mean of the values and its 95 % interval, by the rule that covers values of pairs.

    Hits, which are all at one of two bounds, have the exact interval of Clopper and Pearson (1934). Other values
    between two bounds have Gaffke's interval, and values that have no bound on a side the bootstrap of Student's t.
    ``benchmarks/coverage.py`` measures how often these intervals, and Student's, contain the mean. One value has no
    interval, and neither have equal values without a bound. An end that is far beyond few skewed values is infinite.

    Args:
        values: The values; NaN are left out.
        bounds: The least and the largest possible value; None means 0 and 1 for values that are all 0 or 1, and no
            bounds for others.

    >>> [round(number, 2) for number in interval([1.0] * 10)]
    [1.0, 0.69, 1.0]
    >>> [round(number) for number in interval([100.0] * 10, (0.0, 100.0))]
    [100, 69, 100]
    """
    values = _known(values)
    if len(values) < 2:
        return _without_ends(values)

    if bounds is None:
        bounds = (0.0, 1.0) if np.isin(values, (0.0, 1.0)).all() else (-math.inf, math.inf)
    if not np.isfinite(bounds).all():
        if len(values) <= _FEW:  # of which many resamples are as often the same value
            return within(student(values), bounds)
        return _without_far_ends(values, bootstrap_t(len(values), weighted_mean(values), bounds))

    if np.isin(values, bounds).all():
        return _clopper_pearson(values, bounds)
    return gaffke(values, bounds)


def _without_far_ends(values: np.ndarray, mean: Interval) -> Interval:
    """Return the interval of a mean whose ends are infinite where they are too far away to say anything.

    Of few values with one that is much larger, many resamples lack it, and their errors say nothing of it.
    """
    farthest = _FARTHEST * float(np.ptp(values))
    low = mean.low if mean.mean - mean.low <= farthest else -math.inf
    high = mean.high if mean.high - mean.mean <= farthest else math.inf
    return Interval(mean.mean, low, high)


def weighted_mean(values: np.ndarray) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return a function of weights (sample, value) that returns the mean of each sample, and its standard error."""

    def statistic(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        count = weights.sum(1)
        means = weights @ values / count
        squares = (weights * (values - means[:, None]) ** 2).sum(1)
        return means, np.sqrt(squares / (count - 1) / count)

    return statistic


def ratio(
    weights: np.ndarray,
    numerators: np.ndarray,
    denominators: np.ndarray,
    numerator_slopes: np.ndarray,
    denominator_slopes: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ratio of each sample, and its standard error by the infinitesimal jackknife (Jaeckel, 1972).

    Args:
        weights: The weight of each value in each sample, (sample, value).
        numerators: The numerator of each sample, (sample).
        denominators: The denominators, likewise; a ratio by less than 1e-12 is NaN, without an error.
        numerator_slopes: The derivative of a numerator by the weight of each value, (value) or (sample, value).
        denominator_slopes: The derivatives of the denominators, likewise.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = np.where(denominators > 1e-12, numerators / denominators, math.nan)
        slopes = (numerator_slopes - ratios[:, None] * denominator_slopes) / denominators[:, None]

    count = weights.sum(1)
    errors = np.sqrt((weights * slopes**2).sum(1) * count / (count - 1))
    return ratios, np.nan_to_num(errors)


def student(values: Numbers) -> Interval:
    """Return the mean of the values and Student's 95 % interval; equal values have none."""
    values = _known(values)
    if len(values) < 2 or not np.ptp(values):
        return _without_ends(values)

    mean = float(values.mean())
    error = float(values.std(ddof=1)) / math.sqrt(len(values))
    reach = float(scipy_stats().t.ppf(0.975, len(values) - 1)) * error
    return Interval(mean, mean - reach, mean + reach)


def gaffke(values: Numbers, bounds: tuple[float, float]) -> Interval:
    """Return the mean of bounded values and the 95 % interval of Gaffke (2005).

    Student's interval of few skewed values contains their mean too rarely, since the sample often lacks the rare large
    values. Here, one more value is assumed, which is as large (for the other end, as small) as a value can be. An end
    is a percentile of the mean of all of them with random weights, uniform on the simplex. For hits, it is the exact
    interval of Clopper and Pearson. In general, its level is a conjecture (Learned-Miller and Thomas, 2019).
    ``benchmarks/coverage.py`` measures it on values of pairs.

    Args:
        values: The values; NaN are left out.
        bounds: The least and the largest possible value. The end beyond which there is no bound is Student's.

    >>> [round(number, 2) for number in gaffke([0.0] * 24, (0.0, 1.0))]
    [0.0, 0.0, 0.15]
    """
    values = _known(values)
    if len(values) < 2:
        return _without_ends(values)

    low, high = student(values)[1:]
    draws = np.random.default_rng(0)
    total = min(_DIRICHLET_DRAWS, max(1000, _MOST_WEIGHTS // len(values)))  # many values have narrow intervals
    batch = max(1, 2_000_000 // len(values))
    means: dict[float, list[np.ndarray]] = {bound: [] for bound in bounds if math.isfinite(bound)}

    for first in range(0, total, batch):
        shape = min(batch, total - first), len(values) + 1
        weights = draws.standard_exponential(shape)
        weights /= weights.sum(axis=1, keepdims=True)
        of_values = weights[:, :-1] @ values
        for bound, of_batches in means.items():
            of_batches.append(of_values + weights[:, -1] * bound)

    least, most = bounds
    if least in means:
        low = float(np.quantile(np.concatenate(means[least]), 0.025))
    if most in means:
        high = float(np.quantile(np.concatenate(means[most]), 0.975))
    return Interval(float(values.mean()), low, high)


def _known(values: Numbers) -> np.ndarray:
    """Return the values that are not NaN."""
    values = np.asarray(values, float)
    return values[~np.isnan(values)]


def _without_ends(values: np.ndarray) -> Interval:
    """Return the mean of values that have no interval."""
    return Interval(float(values.mean()), math.nan, math.nan) if len(values) else NOTHING


def _clopper_pearson(values: np.ndarray, bounds: tuple[float, float]) -> Interval:
    least, most = bounds
    hits = int((values == most).sum())
    shares = scipy_stats().binomtest(hits, len(values)).proportion_ci(0.95, "exact")
    low, high = (least + (most - least) * float(share) for share in shares)
    return Interval(float(values.mean()), low, high)


def least_share(hits: int, count: int, level: float = 0.05) -> float:
    """Return the lower bound of a share by Clopper and Pearson (1934), which is too high in a share ``level`` of cases.

    >>> round(least_share(59, 59), 3), least_share(0, 10)
    (0.95, 0.0)
    """
    test = scipy_stats().binomtest(hits, count, alternative="greater")
    return float(test.proportion_ci(1 - level, "exact").low)


def within(mean: Interval, bounds: tuple[float, float]) -> Interval:
    """Return an interval that ends where values cannot be.

    >>> within(Interval(0.9, 0.7, 1.1), (0.0, 1.0))
    Interval(mean=0.9, low=0.7, high=1.0)
    """
    low, high = (float(np.clip(end, *bounds)) for end in (mean.low, mean.high))
    return Interval(mean.mean, low, high)


def resampled(samples: Sequence[Numbers], statistic: Callable[..., Any]) -> Interval:
    """Return a statistic of independent samples and its percentile bootstrap 95 % interval."""
    batch = max(1, 2_000_000 // max(map(len, samples)))
    # a ratio is infinite in resamples whose denominator is 0
    with without_warnings(), np.errstate(invalid="ignore"):
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
    if error <= _ROUNDING * max(1.0, abs(value)):  # no pair changes the value: nothing is known of pairs that would
        return gaffke([value] * valued, bounds)

    reach = float(scipy_stats().t.ppf(0.975, valued - 1)) * error
    center = sum(bounds) / 2
    half = (bounds[1] - bounds[0]) / 2
    if not math.isfinite(half):
        return Interval(value, value - reach, value + reach)

    place = (value - center) / half
    if abs(place) >= 1:
        return gaffke([value] * valued, bounds)

    reach /= half * (1 - place**2)
    low, high = (center + half * math.tanh(math.atanh(place) + step) for step in (-reach, reach))
    return Interval(value, low, high)


def widened(reach: float, count: int) -> float:
    """Return how far an end of an interval is away from the value: 10 in n pairs more, for values that are skewed.

    A sample of few pairs often lacks the rare ones that matter most, and neither its variance nor its resamples show
    that. The 10 was chosen by simulation (``benchmarks/coverage.py``), as the least number that contains the value of
    all populations in 0.93 of samples from 12 pairs on.

    >>> [round(widened(1.0, count), 2) for count in (12, 24, 200)]
    [1.83, 1.42, 1.05]
    """
    return reach * (1 + _WIDENING / count)


def bootstrap_t(
    count: int, statistic: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], bounds: tuple[float, float]
) -> Interval:
    """Return a statistic of pairs, and its 95 % interval by the bootstrap of Student's t (Efron, 1982).

    The ends are farther away by 10 in n pairs, see :func:`widened`. Resamples of equal values have no error, so they
    say nothing of how far the statistic may be: if they are more than 2.5 % on one side, as where almost all values are
    0, the pairs do not bound the statistic there, and the end is the bound, or infinite.

    Args:
        count: The number of pairs.
        statistic: A function of weights (sample, pair) that returns the statistic of each sample, and its error.
        bounds: The least and the largest possible value.
    """
    value, error = (float(number[0]) for number in statistic(np.ones((1, count))))
    weights = np.random.default_rng(0).multinomial(count, np.full(count, 1 / count), RESAMPLES).astype(float)
    values, errors = statistic(weights)
    has_error = errors > 0
    if not error > _ROUNDING * max(1.0, abs(value)) or has_error.sum() < RESAMPLES / 2:
        return gaffke([value] * count, bounds)

    ratios = (values[has_error] - value) / errors[has_error]
    method = "linear"
    of_equal = values[~has_error & np.isfinite(values)] - value
    if len(of_equal):
        ratios = np.concatenate([ratios, np.where(of_equal == 0, 0.0, np.copysign(math.inf, of_equal))])
        method = "nearest"  # there is nothing between a number and infinity

    low, high = value - widened(error, count) * np.quantile(ratios, [0.975, 0.025], method=method)
    return within(Interval(value, float(low), float(high)), bounds)


def ratio_of_means(parts: Numbers, wholes: Numbers, bounds: tuple[float, float]) -> Interval:
    """Return the mean of some values as a share of the mean of others, and its 95 % interval (Fieller, 1954).

    A share is in the interval if Student's test does not reject that the mean of ``parts - share * wholes`` is 0, where
    the critical value is :func:`widened`. So the skewness of a share does not matter, which few pairs with small wholes
    cause. If the mean of the wholes may be 0, the ends are the bounds.

    Args:
        parts: The values, (pair).
        wholes: The values of which they are a share, (pair).
        bounds: The least and the largest possible share.

    >>> parts, wholes = [1.0, 2.0, 2.0, 3.0] * 6, [4.1, 7.9, 8.0, 12.2] * 6
    >>> [round(number, 3) for number in ratio_of_means(parts, wholes, (0.0, 1.0))]
    [0.248, 0.246, 0.251]
    """
    parts = np.asarray(parts, float)
    wholes = np.asarray(wholes, float)
    count = len(parts)
    if count < 2 or not wholes.mean():
        return NOTHING

    share = float(parts.mean() / wholes.mean())
    rests = parts - share * wholes
    if rests.std() <= _ROUNDING * max(1.0, float(np.abs(wholes).max())):  # all pairs have this share
        return gaffke([share] * count, bounds)

    # the ends are the shares at which t ** 2 is that of the level: the roots of a quadratic polynomial
    critical = widened(float(scipy_stats().t.ppf(0.975, count - 1)), count)
    square = critical**2 / count
    (of_parts, of_both), (_, of_wholes) = np.cov(parts, wholes)
    leading = wholes.mean() ** 2 - square * of_wholes
    if leading <= 0:
        return Interval(share, *bounds)

    middle = (parts.mean() * wholes.mean() - square * of_both) / leading
    constant = (parts.mean() ** 2 - square * of_parts) / leading
    reach = math.sqrt(max(0.0, middle**2 - constant))
    return within(Interval(share, float(middle - reach), float(middle + reach)), bounds)


def paired_test(values: Numbers, others: Numbers) -> float:
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
    running = 0.0
    corrected = [math.nan] * len(values)
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(order) - rank) * values[index]))
        corrected[index] = running

    return corrected


def _differences(values: Numbers, others: Numbers) -> np.ndarray:
    difference = np.asarray(values, float) - np.asarray(others, float)
    return difference[~np.isnan(difference)]


def win_rate(values: Numbers, others: Numbers, better: Better) -> float:
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
