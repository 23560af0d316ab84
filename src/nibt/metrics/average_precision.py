"""Average precision of the map as a ranking of the pixels, from 0 to 1.

The positives are the pixels of the objects that the caption names. scikit-learn computes the value. A random map gets
the share of the positives.
"""

from dataclasses import dataclass

from typing_extensions import override

from nibt.metrics._ranking import ranking
from nibt.metrics.base import Metric, MetricInput, PixelMap, PixelMask, on_masks
from nibt.types import PerExample


@dataclass(frozen=True)
class AveragePrecision(Metric):
    """Average precision of the map as a ranking of the pixels."""

    better = "higher"
    sides = ("image",)

    @override
    def __call__(self, metric_input: MetricInput) -> PerExample:
        return on_masks(metric_input, _precision)


def _precision(scores: PixelMap, mask: PixelMask) -> float:
    return ranking("average_precision_score", mask.flatten().numpy(), scores.flatten().numpy())


PLUGIN = AveragePrecision
