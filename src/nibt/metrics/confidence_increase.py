"""Confidence increase: whether the score rises when only what the map keeps is shown.

The value of an example is 100 or 0, so a mean is a percentage.

Range:
    0 or 100

Forward passes:
    1

Use it when:
    You compare with the tables of M2IB and NIB.

Avoid it when:
    As for ``confidence_drop``.

Source:
    Chattopadhay et al., WACV 2018 (Grad-CAM++)
"""

from dataclasses import dataclass

from nibt.metrics._confidence import Confidence
from nibt.metrics.base import MetricInput
from nibt.types import PerExample


@dataclass(frozen=True)
class ConfidenceIncrease(Confidence):
    """Whether the score rises when only what the map keeps is shown, 100 or 0."""

    better = "higher"

    def __call__(self, metric_input: MetricInput) -> PerExample:
        score, kept = self.scores(metric_input)
        return 100 * (kept > score).float().cpu()


PLUGIN = ConfidenceIncrease
