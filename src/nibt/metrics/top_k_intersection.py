"""Top-k intersection: the share of the highest pixels, a fixed share of the image, on the named objects.

Equal scores share the last places.

Range:
    0 to 1

Forward passes:
    none

Use it when:
    One peak, as in ``pointing_game``, is too little, and objects differ in size.

Avoid it when:
    Objects are smaller than ``share`` of the image: then no map reaches 1.

Source:
    Theiner et al., WACV 2022; its implementation in Quantus, with a share in place of 1,000 pixels
"""

from dataclasses import dataclass

import torch

from nibt.metrics._top_pixels import share_inside
from nibt.metrics.base import Metric, MetricInput, PixelMap, PixelMask, on_masks
from nibt.options import Share
from nibt.types import PerExample


@dataclass(frozen=True)
class TopKIntersection(Metric):
    """The share of the highest pixels on the named objects.

    Args:
        share: The number of pixels, as a share of the visible image; 1,000 of 224 x 224 are 0.02.

    """

    better = "higher"
    bounds = (0.0, 1.0)
    sides = ("image",)
    share: Share = 0.02

    def __call__(self, metric_input: MetricInput) -> PerExample:
        return on_masks(metric_input, self._intersection)

    def _intersection(self, scores: PixelMap, mask: PixelMask) -> float:
        return share_inside(scores, mask, max(1, round(self.share * scores.numel()))) if mask.any() else torch.nan


PLUGIN = TopKIntersection
