"""Every threshold of an audit, in one place. Why each is where it is, with the numbers behind it: ``docs/audit.md``."""

from dataclasses import dataclass
from typing import Literal

from nibt.evaluation.audit.intervals import Interval
from nibt.results.audit import Check

LEAST_PAIRS = 8
"""Below this many pairs the intervals mean nothing."""


@dataclass(frozen=True)
class Bound:
    """What a number is held against. ``fails`` may be set by the data (chance)."""

    question: int
    better: Literal["higher", "lower"]
    passes: float
    fails: float
    about: str

    def check(
        self, name: str, method: str, side: str, found: Interval, fails: float | None = None, about: str = ""
    ) -> Check:
        """The verdict line of a number."""
        return Check(
            name,
            self.question,
            method,
            side,
            found.mean,
            found.low,
            found.high,
            found.count,
            self.better,
            self.passes,
            self.fails if fails is None else fails,
            about or self.about,
        )


BOUNDS = {
    "weights": Bound(1, "lower", 0.4, 0.7, "likeness to the map of a random tower"),
    "weights_ssim": Bound(1, "lower", 0.4, 0.7, "the same by SSIM"),
    "mismatch_image": Bound(2, "lower", 0.6, 0.9, "likeness to the map of another caption"),
    "nonsense": Bound(2, "lower", 0.6, 0.9, "likeness to the map of made-up words"),
    "mismatch_text": Bound(2, "lower", 0.6, 0.9, "likeness to the map of another image"),
    "wording": Bound(3, "higher", 0.7, 0.4, "likeness to the maps of other wordings"),
    "seed": Bound(4, "lower", 0.05, 0.5, "spread over seeds"),
    "faithful": Bound(5, "higher", 0.05, 0.0, "better than a random map by"),
    "special": Bound(6, "lower", 0.5, 0.9, "share of the score on special tokens"),
    "corners": Bound(6, "lower", 2.0, 4.0, "corners, in shares of an even map"),
    "auc": Bound(7, "higher", 0.8, 0.6, "right caption above a wrong one (AUC)"),
    "recall": Bound(7, "higher", 0.5, 0.0, "right caption first (R@1; fails at chance)"),
}
