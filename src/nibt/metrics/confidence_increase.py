"""Confidence increase (Chattopadhay et al., 2018): whether the score rises when only what the map keeps is shown, 100
or 0 for each example, so that a mean is a percentage. What is shown: as in the confidence drop.
"""

from dataclasses import dataclass

from typing_extensions import override

from nibt.metrics._confidence import Confidence
from nibt.metrics.base import MetricInput
from nibt.types import PerExample


@dataclass(frozen=True)
class ConfidenceIncrease(Confidence):
    better = "higher"

    @override
    def __call__(self, trial: MetricInput) -> PerExample:
        score, kept = self.scores(trial)
        return 100 * (kept > score).float().cpu()


PLUGIN = ConfidenceIncrease
