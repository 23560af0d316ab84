"""Confidence increase (Chattopadhay et al., 2018): whether the score rises when only what the map keeps is shown, 100
or 0 for each example, so that a mean is a percentage. What is shown: as in the confidence drop.
"""

from dataclasses import dataclass

from nibt.masking import masker
from nibt.metrics.base import Metric, Trial
from nibt.types import PerExample


@dataclass(frozen=True)
class ConfidenceIncrease(Metric):
    better = "higher"

    def __call__(self, trial: Trial) -> PerExample:
        kept = masker(trial.side, trial.attribution.units, smooth=True)(trial.attribution.normalised())
        return 100 * (kept > trial.side.value()).float().cpu()


PART = ConfidenceIncrease
