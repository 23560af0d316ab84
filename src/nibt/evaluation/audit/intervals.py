"""Means over pairs with their bootstrap intervals (Efron, 1979; percentiles)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

_RESAMPLES = 2000


@dataclass(frozen=True)
class Interval:
    """A mean, the ends of its 95 % interval, and of how many pairs it is."""

    mean: float
    low: float
    high: float
    count: int


def interval(values: Sequence[float] | np.ndarray, seed: int) -> Interval | None:
    """The mean over pairs; NaN means not measured and is left out. None where nothing was measured."""
    known = np.asarray(values, np.float64)
    known = known[np.isfinite(known)]
    if not len(known):
        return None
    draws = np.random.default_rng(seed).integers(0, len(known), (_RESAMPLES, len(known)))
    low, high = np.quantile(known[draws].mean(1), (0.025, 0.975))
    return Interval(float(known.mean()), float(low), float(high), len(known))
