"""Average precision of the map as a ranking of the pixels, from 0 to 1.

The positives are the pixels of the objects that the caption names.
A random map gets their share of the image.
Where an object has labeled points instead of a mask, the points are ranked.

Range:
    0 to 1

Forward passes:
    none

Use it when:
    You compare the whole order of the pixels.

Avoid it when:
    You compare data sets: chance is the share of the image that the object covers. Grids limit it: on ``scenes`` a
    perfect map has 0.87.

Source:
    scikit-learn, ``average_precision_score``
"""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from nibt.metrics._ranking import ranking
from nibt.metrics.base import Metric, MetricInput, PixelMap, PixelMask, on_masks_or_points
from nibt.types import PerExample


@dataclass(frozen=True)
class AveragePrecision(Metric):
    """Average precision of the map as a ranking of the pixels."""

    better = "higher"
    sides = ("image",)

    def __call__(self, metric_input: MetricInput) -> PerExample:
        return on_masks_or_points(metric_input, _precision, _precision)


def _precision(scores: PixelMap | Float[Tensor, " point"], mask: PixelMask | Bool[Tensor, " point"]) -> float:
    return ranking("average_precision_score", mask.flatten().numpy(), scores.flatten().numpy())


PLUGIN = AveragePrecision
