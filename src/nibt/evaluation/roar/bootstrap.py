"""From losses to loss increases, their intervals, and how far two trainables rank the methods alike.

All intervals are percentiles of one bootstrap in two stages: the repeats are drawn with replacement, and in each of
them its validating pairs are. All methods and trainables are resampled alike, so their
differences are paired.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from nibt.evaluation import CONTROLS
from nibt.evaluation.roar.settings import TRAINABLES
from nibt.evaluation.statistics import RESAMPLES, scipy_stats
from nibt.results.roar import Agreement, LossIncrease

Losses = Mapping[tuple[str, str, str], np.ndarray]
"""By trainable, method and removal: the losses, repeats x validating pairs. Untouched data have the method ""."""


class Bootstrap:
    """Each relative increase of the loss, and that of every resample."""

    def __init__(self, losses: Losses, seed: int) -> None:
        repeats, pairs = next(iter(losses.values())).shape
        draws = np.random.default_rng(seed)
        self.repeat_draws = draws.integers(0, repeats, (RESAMPLES, repeats))
        self.pair_draws = draws.integers(0, pairs, (RESAMPLES, repeats, pairs))
        self.losses = losses
        drawn = {key: self._drawn(value) for key, value in losses.items()}
        self.keys = [key for key in losses if key[1]]
        self.each = {key: losses[key].mean(1) / losses[key[0], "", ""].mean(1) - 1 for key in self.keys}
        self.drawn = {key: (drawn[key] / drawn[key[0], "", ""] - 1).mean(1) for key in self.keys}

    def _drawn(self, values: np.ndarray) -> np.ndarray:
        return values[self.repeat_draws[..., None], self.pair_draws].mean(-1)

    def loss_increases(self) -> list[LossIncrease]:
        """Return the increase of each trainable, method and removal, and its difference to a random map."""
        return [self._increase(*key) for key in self.keys]

    def _increase(self, trainable: str, method: str, removed: str) -> LossIncrease:
        key, random = (trainable, method, removed), (trainable, "random", removed)
        untouched, corrupted = self.losses[trainable, "", ""], self.losses[key]
        vs_random = float(self.each[key].mean() - self.each[random].mean())
        return LossIncrease(
            method,
            trainable,
            removed,
            float(self.each[key].mean()),
            *_ends(self.drawn[key]),
            vs_random,
            *_ends(self.drawn[key] - self.drawn[random]),
            float(untouched.mean()),
            float(corrupted.mean()),
            len(corrupted),
            method in CONTROLS,
        )

    def agreements(self) -> list[Agreement]:
        """Return Kendall's tau of each two trainables, and of each trainable with itself in other repeats.

        With the controls among the ranked methods and, for three methods or more, without them.
        """
        result: list[Agreement] = []
        for removed in dict.fromkeys(key[2] for key in self.keys):
            trainables = [
                trainable
                for trainable in TRAINABLES
                if any(key[0] == trainable and key[2] == removed for key in self.keys)
            ]
            for controls in (True, False):
                for trainable in trainables:
                    result += self._of_repeats(trainable, removed, controls)
                for one, other in combinations(trainables, 2):
                    result += self._of_trainables(one, other, removed, controls)
        return result

    def _methods(self, trainables: Sequence[str], removed: str, controls: bool) -> list[str]:
        """The methods that all of these trainables have."""
        methods = dict.fromkeys(key[1] for key in self.keys if controls or key[1] not in CONTROLS)
        return [one for one in methods if all((trainable, one, removed) in self.each for trainable in trainables)]

    def _of_trainables(self, one: str, other: str, removed: str, controls: bool) -> list[Agreement]:
        methods = self._methods((one, other), removed, controls)
        if len(methods) < 3:
            return []
        first, second = ([self.each[trainable, name, removed].mean() for name in methods] for trainable in (one, other))
        draws = [np.stack([self.drawn[trainable, name, removed] for name in methods], 1) for trainable in (one, other)]
        taus = taus_of(*draws)
        return _agreement(one, other, removed, controls, len(methods), _tau(first, second), taus)

    def _of_repeats(self, trainable: str, removed: str, controls: bool) -> list[Agreement]:
        """The mean over each two repeats; its interval is over these."""
        methods = self._methods((trainable,), removed, controls)
        table = np.stack([self.each[trainable, name, removed] for name in methods], 1) if methods else np.empty((0, 0))
        if len(methods) < 3 or len(table) < 2:
            return []
        taus = np.array([_tau(*two) for two in combinations(table, 2)])
        return _agreement(trainable, trainable, removed, controls, len(methods), float(taus.mean()), taus)


def _agreement(
    one: str, other: str, removed: str, controls: bool, count: int, tau: float, taus: np.ndarray
) -> list[Agreement]:
    """The agreement; empty if tau is not defined."""
    known = taus[np.isfinite(taus)]
    if not math.isfinite(tau) or not len(known):
        return []
    return [Agreement(one, other, removed, controls, count, tau, *_ends(known))]


def _ends(drawn: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(low), float(high)


def _tau(one: Any, other: Any) -> float:
    """Kendall's tau-b (scipy); NaN if all are equal."""
    return float(scipy_stats().kendalltau(one, other).statistic)


def taus_of(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return tau-b of many rankings at once, resamples x methods, for which scipy would take minutes."""
    first, second = np.triu_indices(one.shape[1], 1)
    signs = [np.sign(values[:, first] - values[:, second]) for values in (one, other)]
    untied = [(sign != 0).sum(1) for sign in signs]
    with np.errstate(invalid="ignore"):
        return (signs[0] * signs[1]).sum(1) / np.sqrt(untied[0] * untied[1])
