"""Pointing game: whether the maximum of the map lies on a named object, 1 or 0.

Several equal maxima are replaced by their mean position. The tolerance, 15 of 640 pixels, is the published one.

With labeled points instead of a mask, the value is whether the labeled point with the highest score is on the object,
without a tolerance. Of several equal maxima, it is the share of those on the object.

Range:
    0 or 1; with labeled points and equal maxima, 0 to 1

Forward passes:
    none

Use it when:
    You want a number that is easy to read and to compare with publications.

Avoid it when:
    You need more than one pixel of the map. The tolerance helps coarse grids, and the control ``center`` does well on
    photographs.

Source:
    Zhang et al., IJCV 2018
"""

from dataclasses import dataclass

from nibt.metrics._pixels import hit
from nibt.metrics.base import MetricInput, ShareMetric, on_masks_or_points
from nibt.options import ClosedShare
from nibt.types import PerExample


@dataclass(frozen=True)
class PointingGame(ShareMetric):
    """Whether the maximum of the map lies on a named object.

    Args:
        tolerance: The largest distance of a hit from the mask, as a share of the longer side.

    """

    tolerance: ClosedShare = 15 / 640

    def __call__(self, metric_input: MetricInput) -> PerExample:
        return on_masks_or_points(
            metric_input,
            lambda scores, mask: hit(scores, mask, self.tolerance),
            lambda scores, inside: float(inside[scores == scores.max()].double().mean()),
        )


PLUGIN = PointingGame
