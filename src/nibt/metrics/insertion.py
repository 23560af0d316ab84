"""Insertion (Petsiuk et al., 2018): put units in from the highest score down, and see how fast the score rises.

The number is the area under the score against the share of units put in: a faithful map has a large one.
"""

from dataclasses import dataclass

from nibt.metrics.base import Metric, Trial
from nibt.metrics.base_curve import area
from nibt.types import PerExample


@dataclass(frozen=True)
class Insertion(Metric):
    """``levels`` shares of the units, evenly from none to all, are put in, in turn."""

    better = "higher"
    levels: int = 10

    def __call__(self, trial: Trial) -> PerExample:
        return area(trial, self.levels, inserted=True)


PART = Insertion
