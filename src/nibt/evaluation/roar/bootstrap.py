"""Loss increases with their intervals, and the agreement between the rankings of methods.

All intervals are percentiles of a two-stage bootstrap: repeats are resampled, and in each repeat the validation pairs
are. All methods and trainables use the same resamples, so that differences are paired.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np

from nibt.evaluation import CONTROLS
from nibt.evaluation.roar.settings import TRAINABLES
from nibt.evaluation.statistics import RESAMPLES, Numbers, scipy_stats
from nibt.results.roar import Agreement, LossIncrease


class Bootstrap:
    """The relative increases of the loss, and those of all resamples."""

    def __init__(self, losses: Mapping[tuple[str, str, str], np.ndarray], seed: int) -> None:
        """Resample losses by trainable, method and removal, (repeat, pair); the method of untouched data is ""."""
        repeats, pairs = next(iter(losses.values())).shape
        draws = np.random.default_rng(seed)
        self.repeat_draws = draws.integers(0, repeats, (RESAMPLES, repeats))
        self.pair_draws = draws.integers(0, pairs, (RESAMPLES, repeats, pairs))
        self.losses = losses
        drawn = {key: value[self.repeat_draws[..., None], self.pair_draws].mean(-1) for key, value in losses.items()}
        self.keys = [key for key in losses if key[1]]
        self.each = {key: losses[key].mean(1) / losses[key[0], "", ""].mean(1) - 1 for key in self.keys}
        self.drawn = {key: (drawn[key] / drawn[key[0], "", ""] - 1).mean(1) for key in self.keys}

    def loss_increases(self) -> list[LossIncrease]:
        """Return the increase of each trainable, method and removal, and its difference from a random map."""
        increases = []
        for trainable, method, side in self.keys:
            key = (trainable, method, side)
            random = (trainable, "random", side)
            increase = LossIncrease(
                method,
                trainable,
                side,
                float(self.each[key].mean()),
                *_ends(self.drawn[key]),
                float(self.each[key].mean() - self.each[random].mean()),
                *_ends(self.drawn[key] - self.drawn[random]),
                float(self.losses[trainable, "", ""].mean()),
                float(self.losses[key].mean()),
                len(self.losses[key]),
                method in CONTROLS,
            )
            increases.append(increase)

        return increases

    def agreements(self) -> list[Agreement]:
        """Return Kendall's tau between trainables and between repeats, for at least three methods."""
        result: list[Agreement] = []
        for side in dict.fromkeys(key[2] for key in self.keys):
            trainables = [
                trainable
                for trainable in TRAINABLES
                if any(key[0] == trainable and key[2] == side for key in self.keys)
            ]
            for controls in (True, False):
                for trainable in trainables:
                    result += self._of_repeats(trainable, side, controls)
                for first, second in combinations(trainables, 2):
                    result += self._of_trainables(first, second, side, controls)

        return result

    def _methods(self, trainables: Sequence[str], side: str, controls: bool) -> list[str]:
        methods = dict.fromkeys(key[1] for key in self.keys if controls or key[1] not in CONTROLS)
        return [name for name in methods if all((trainable, name, side) in self.each for trainable in trainables)]

    def _of_trainables(self, first: str, second: str, side: str, controls: bool) -> list[Agreement]:
        methods = self._methods((first, second), side, controls)
        if len(methods) < 3:
            return []

        pair = (first, second)
        means = [[self.each[trainable, name, side].mean() for name in methods] for trainable in pair]
        draws = [np.stack([self.drawn[trainable, name, side] for name in methods], 1) for trainable in pair]
        return _agreement(
            first, second, side=side, controls=controls, count=len(methods), tau=_tau(*means), taus=taus_of(*draws)
        )

    def _of_repeats(self, trainable: str, side: str, controls: bool) -> list[Agreement]:
        """Return the mean tau over pairs of repeats, with percentiles over these pairs as its interval."""
        methods = self._methods((trainable,), side, controls)
        table = np.stack([self.each[trainable, name, side] for name in methods], 1) if methods else np.empty((0, 0))
        if len(methods) < 3 or len(table) < 2:
            return []

        taus = np.array([_tau(*two) for two in combinations(table, 2)])
        return _agreement(
            trainable, trainable, side=side, controls=controls, count=len(methods), tau=float(taus.mean()), taus=taus
        )


def _agreement(
    first: str, second: str, side: str, controls: bool, count: int, tau: float, taus: np.ndarray
) -> list[Agreement]:
    """Return the agreement in a list, which is empty if tau is not defined."""
    finite = taus[np.isfinite(taus)]
    if not math.isfinite(tau) or not len(finite):
        return []
    return [Agreement(first, second, side, controls, count, tau, *_ends(finite))]


def _ends(drawn: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(low), float(high)


def _tau(first: Numbers, second: Numbers) -> float:
    """Return Kendall's tau-b (scipy). It is NaN if all values are equal."""
    return float(scipy_stats().kendalltau(first, second).statistic)


def taus_of(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return tau-b of many rankings, each (resample, method). This is faster than scipy, which takes minutes."""
    first, second = np.triu_indices(values.shape[1], 1)
    signs = [np.sign(table[:, first] - table[:, second]) for table in (values, others)]
    untied = [(sign != 0).sum(1) for sign in signs]
    with np.errstate(invalid="ignore"):
        return (signs[0] * signs[1]).sum(1) / np.sqrt(untied[0] * untied[1])
