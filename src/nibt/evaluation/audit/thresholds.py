"""All thresholds of an audit. The reasons and the measurements behind them are in ``docs/audit.md``."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from nibt.evaluation.statistics import Interval
from nibt.results.audit import Check

LEAST_PAIRS = 8
"""With fewer pairs the intervals are too wide to mean anything."""


@dataclass(frozen=True)
class Bound:
    """The thresholds of a check: its question, which direction is better, and where it passes or fails."""

    question: int
    better: Literal["higher", "lower"]
    passes: float
    fails: float
    about: str

    def check(
        self,
        name: str,
        method: str,
        side: str,
        mean: Interval,
        count: int,
        *,
        fails: float | None = None,
        about: str = "",
    ) -> Check:
        """Return the check of a mean over ``count`` pairs.

        ``fails`` replaces the threshold where it depends on the data, as chance does; ``about`` replaces the text.
        """
        limit = self.fails if fails is None else fails
        return Check(
            name, self.question, method, side, *mean, count, self.better, self.passes, limit, about or self.about
        )


def known_count(values: Any) -> int:
    """Return how many values are not NaN, that is, were measured."""
    return int((~np.isnan(np.asarray(values, float))).sum())


BOUNDS = {
    "weights": Bound(1, "lower", 0.4, 0.7, "similarity to the map of a random tower"),
    "weights_ssim": Bound(1, "lower", 0.4, 0.7, "the same by SSIM"),
    "mismatch_image": Bound(2, "lower", 0.6, 0.9, "similarity to the map of another caption"),
    "nonsense": Bound(2, "lower", 0.6, 0.9, "similarity to the map of made-up words"),
    "mismatch_text": Bound(2, "lower", 0.6, 0.9, "similarity to the map of another image"),
    "wording": Bound(3, "higher", 0.7, 0.4, "similarity to the maps of other wordings"),
    "seed": Bound(4, "lower", 0.05, 0.5, "spread over seeds"),
    "faithful": Bound(5, "higher", 0.05, 0.0, "better than a random map by"),
    "special": Bound(6, "lower", 0.5, 0.9, "share of the score on special tokens"),
    "corners": Bound(6, "lower", 2.0, 4.0, "share of the corners, relative to a uniform map"),
    "auc": Bound(7, "higher", 0.8, 0.6, "right caption above a wrong one (AUC)"),
    "recall": Bound(7, "higher", 0.5, 0.0, "right caption first (R@1; fails at chance)"),
}
