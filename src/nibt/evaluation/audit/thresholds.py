"""The thresholds of an audit. ``docs/reference/audit.md`` has the reasons."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from nibt.evaluation.statistics import Interval, interval, within
from nibt.results.audit import Check

LEAST_PAIRS = 8
"""The least number of pairs; with fewer, the intervals are too wide."""


@dataclass(frozen=True)
class Bound:
    """The thresholds of a check of a question, and the least and largest possible values, at which intervals end."""

    question: int
    better: Literal["higher", "lower"]
    passes: float
    fails: float
    about: str
    least: float = 0.0
    most: float = 1.0

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
        limit = self.fails if fails is None else fails
        ends, text = within(mean, (self.least, self.most)), about or self.about
        return Check(name, self.question, method, side, *ends, count, self.better, self.passes, limit, text)


def checks_of(bound: str, method: str, side: str, values: Any, name: str = "", about: str = "") -> list[Check]:
    """Return the check of the mean of values, if there are any but NaN."""
    mean = interval(values)
    check = BOUNDS[bound].check(name or bound, method, side, mean, known_count(values), about=about)
    return [check] if mean.is_known else []


def known_count(values: Any) -> int:
    """Return the number of values that are not NaN."""
    return int((~np.isnan(np.asarray(values, float))).sum())


BOUNDS = {
    "weights": Bound(1, "lower", 0.4, 0.7, "similarity to the map of a random tower", -1.0),
    "weights_ssim": Bound(1, "lower", 0.4, 0.7, "similarity to the map of a random tower (SSIM)", -1.0),
    "mismatch_image": Bound(2, "lower", 0.6, 0.9, "similarity to the map for another caption", -1.0),
    "nonsense": Bound(2, "lower", 0.6, 0.9, "similarity to the map for made-up words", -1.0),
    "mismatch_text": Bound(2, "lower", 0.6, 0.9, "similarity to the scores with another image", -1.0),
    "wording": Bound(3, "higher", 0.7, 0.4, "similarity to the maps for other wordings", -1.0),
    "seed": Bound(4, "lower", 0.05, 0.5, "dissimilarity of the maps of different seeds", most=2.0),
    "faithful": Bound(5, "higher", 0.05, 0.0, "improvement over a random map", -math.inf, math.inf),
    "top_region": Bound(5, "higher", 0.9, 0.5, "regions whose removal lowers the similarity less than the top region"),
    "special": Bound(6, "lower", 0.5, 0.9, "share of the score on special tokens"),
    "corners": Bound(
        6, "lower", 2.0, 4.0, "share of the score in the corners, relative to a uniform map", most=math.inf
    ),
    "auc": Bound(7, "higher", 0.8, 0.6, "right captions ranked above wrong captions (AUC)"),
    "recall": Bound(7, "higher", 0.5, 0.0, "right captions ranked first (R@1; fails at chance)"),
    "vocabulary": Bound(8, "higher", 0.9, 0.0, "share of 1,000 everyday nouns that the model knows"),
}
