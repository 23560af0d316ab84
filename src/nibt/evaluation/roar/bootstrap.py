"""From the losses to the numbers of the table, their intervals, and how far two forms rank the methods alike.

All intervals are percentiles of one bootstrap in two stages: the repeats are drawn with replacement, and in each of
them its validating pairs are. All methods and forms are resampled alike, so their differences are paired.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from nibt.errors import Unsupported
from nibt.evaluation import CONTROLS
from nibt.evaluation.roar.settings import FORMS
from nibt.results.roar import Agreement, LossIncrease

RESAMPLES = 2000
Losses = Mapping[tuple[str, str, str], np.ndarray]
"""By form, method and what is hidden: the losses of repeats x validating pairs. The untouched have the method ""."""


class Bootstrap:
    """Each relative change of the loss, and the same of every resample."""

    def __init__(self, losses: Losses, seed: int) -> None:
        repeats, pairs = next(iter(losses.values())).shape
        draws = np.random.default_rng(seed)
        self.of_repeats = draws.integers(0, repeats, (RESAMPLES, repeats))
        self.of_pairs = draws.integers(0, pairs, (RESAMPLES, repeats, pairs))
        self.losses = losses
        drawn = {key: self._drawn(value) for key, value in losses.items()}
        self.keys = [key for key in losses if key[1]]
        self.each = {key: losses[key].mean(1) / losses[key[0], "", ""].mean(1) - 1 for key in self.keys}
        self.drawn = {key: (drawn[key] / drawn[key[0], "", ""] - 1).mean(1) for key in self.keys}

    def _drawn(self, values: np.ndarray) -> np.ndarray:
        return values[self.of_repeats[..., None], self.of_pairs].mean(-1)

    def gains(self) -> list[LossIncrease]:
        """A number for each method, form and what is hidden, and its lead over a random map."""
        return [self._gain(*key) for key in self.keys]

    def _gain(self, form: str, method: str, hidden: str) -> LossIncrease:
        key, random = (form, method, hidden), (form, "random", hidden)
        untouched, corrupted = self.losses[form, "", ""], self.losses[key]
        lead = float(self.each[key].mean() - self.each[random].mean())
        return LossIncrease(
            method,
            form,
            hidden,
            float(self.each[key].mean()),
            *_ends(self.drawn[key]),
            lead,
            *_ends(self.drawn[key] - self.drawn[random]),
            float(untouched.mean()),
            float(corrupted.mean()),
            len(corrupted),
            method in CONTROLS,
        )

    def agreements(self) -> list[Agreement]:
        """Kendall's tau of each two forms, and of each form with itself in other repeats; with the controls among the
        ranked and, of three methods or more, without them.
        """
        found: list[Agreement] = []
        for hidden in dict.fromkeys(key[2] for key in self.keys):
            forms = [form for form in FORMS if any(key[0] == form and key[2] == hidden for key in self.keys)]
            for controls in (True, False):
                for form in forms:
                    found += self._of_repeats(form, hidden, controls)
                for one, other in combinations(forms, 2):
                    found += self._of_forms(one, other, hidden, controls)
        return found

    def _methods(self, forms: Sequence[str], hidden: str, controls: bool) -> list[str]:
        """The methods that all of these forms have."""
        methods = dict.fromkeys(key[1] for key in self.keys if controls or key[1] not in CONTROLS)
        return [one for one in methods if all((form, one, hidden) in self.each for form in forms)]

    def _of_forms(self, one: str, other: str, hidden: str, controls: bool) -> list[Agreement]:
        methods = self._methods((one, other), hidden, controls)
        if len(methods) < 3:
            return []
        first, second = ([self.each[form, name, hidden].mean() for name in methods] for form in (one, other))
        draws = [np.stack([self.drawn[form, name, hidden] for name in methods], 1) for form in (one, other)]
        taus = taus_of(*draws)
        return _agreement(one, other, hidden, controls, len(methods), _tau(first, second), taus)

    def _of_repeats(self, form: str, hidden: str, controls: bool) -> list[Agreement]:
        """The mean over each two repeats; its interval is over these."""
        methods = self._methods((form,), hidden, controls)
        table = np.stack([self.each[form, name, hidden] for name in methods], 1) if methods else np.empty((0, 0))
        if len(methods) < 3 or len(table) < 2:
            return []
        taus = np.array([_tau(*two) for two in combinations(table, 2)])
        return _agreement(form, form, hidden, controls, len(methods), float(taus.mean()), taus)


def _agreement(
    one: str, other: str, hidden: str, controls: bool, count: int, tau: float, taus: np.ndarray
) -> list[Agreement]:
    """None where the tau cannot be told."""
    known = taus[np.isfinite(taus)]
    if not math.isfinite(tau) or not len(known):
        return []
    return [Agreement(one, other, hidden, controls, count, tau, *_ends(known))]


def _ends(drawn: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(drawn, (2.5, 97.5))
    return float(low), float(high)


def _tau(one: Any, other: Any) -> float:
    """Kendall's tau-b (scipy); NaN where all are equal."""
    return float(stats().kendalltau(one, other).statistic)


def taus_of(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The same of many rankings at once, resamples x methods, for which scipy's would take minutes."""
    first, second = np.triu_indices(one.shape[1], 1)
    signs = [np.sign(values[:, first] - values[:, second]) for values in (one, other)]
    untied = [(sign != 0).sum(1) for sign in signs]
    with np.errstate(invalid="ignore"):
        return (signs[0] * signs[1]).sum(1) / np.sqrt(untied[0] * untied[1])


def stats() -> Any:
    """scipy's.

    Raises:
        Unsupported: scipy is not installed.

    """
    try:
        from scipy import stats
    except ImportError as error:
        raise Unsupported("the ranks of nibt roar need scipy: pip install 'nibt[metrics]'") from error
    return stats
