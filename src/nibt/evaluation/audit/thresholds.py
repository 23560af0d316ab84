"""The thresholds of an audit. ``docs/reference/audit.md`` has the reasons."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from nibt.evaluation.statistics import Interval
from nibt.results.audit import Check

LEAST_PAIRS = 8
"""The least number of pairs; with fewer, the intervals are too wide."""


@dataclass(frozen=True)
class Bound:
    """The thresholds of a check.

    Attributes:
        question: The number of the page's question that the check belongs to, from 1.
        better: Which values are better.
        passes: The threshold from which a value passes.
        fails: The threshold from which a value fails.
        about: A description of the check.

    """

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
        """Build the check of a mean."""
        limit = self.fails if fails is None else fails
        return Check(
            name, self.question, method, side, *mean, count, self.better, self.passes, limit, about or self.about
        )


def known_count(values: Any) -> int:
    """Return the number of values that are not NaN."""
    return int((~np.isnan(np.asarray(values, float))).sum())


BOUNDS = {
    "weights": Bound(1, "lower", 0.4, 0.7, "similarity to the map of a random tower"),
    "weights_ssim": Bound(1, "lower", 0.4, 0.7, "similarity to the map of a random tower (SSIM)"),
    "mismatch_image": Bound(2, "lower", 0.6, 0.9, "similarity to the map for another caption"),
    "nonsense": Bound(2, "lower", 0.6, 0.9, "similarity to the map for made-up words"),
    "mismatch_text": Bound(2, "lower", 0.6, 0.9, "similarity to the scores with another image"),
    "wording": Bound(3, "higher", 0.7, 0.4, "similarity to the maps for other wordings"),
    "seed": Bound(4, "lower", 0.05, 0.5, "dissimilarity of the maps of different seeds"),
    "faithful": Bound(5, "higher", 0.05, 0.0, "improvement over a random map"),
    "top_region": Bound(5, "higher", 0.9, 0.5, "regions whose removal lowers the similarity less than the top region"),
    "special": Bound(6, "lower", 0.5, 0.9, "share of the score on special tokens"),
    "corners": Bound(6, "lower", 2.0, 4.0, "share of the score in the corners, relative to a uniform map"),
    "auc": Bound(7, "higher", 0.8, 0.6, "right captions ranked above wrong captions (AUC)"),
    "recall": Bound(7, "higher", 0.5, 0.0, "right captions ranked first (R@1; fails at chance)"),
    "vocabulary": Bound(8, "higher", 0.9, 0.0, "share of 1,000 everyday nouns that the model knows"),
}
