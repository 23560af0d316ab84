"""Average precision of the map as a ranking of the pixels, with those of what the caption names as the positives
(scikit-learn's). From 0 to 1; a random map has the share of the positives.
"""

from dataclasses import dataclass

from typing_extensions import override

from nibt.metrics._ranking import ranking
from nibt.metrics.base import Metric, MetricInput, PixelMap, PixelMask, on_masks
from nibt.types import PerExample


@dataclass(frozen=True)
class AveragePrecision(Metric):
    better = "higher"
    sides = ("image",)

    @override
    def __call__(self, trial: MetricInput) -> PerExample:
        return on_masks(trial, _precision)


def _precision(scores: PixelMap, mask: PixelMask) -> float:
    return ranking("average_precision_score", mask.flatten().numpy(), scores.flatten().numpy())


PLUGIN = AveragePrecision
