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

from nibt.metrics._pixels import share_inside
from nibt.metrics.base import MaskMetric, PixelMap, PixelMask
from nibt.options import Share


@dataclass(frozen=True)
class TopKIntersection(MaskMetric):
    """The share of the highest pixels on the named objects.

    Args:
        share: The number of pixels, as a share of the visible image; 1,000 of 224 x 224 are 0.02.

    """

    share: Share = 0.02

    def number(self, scores: PixelMap, mask: PixelMask) -> float:
        return share_inside(scores, mask, max(1, round(self.share * scores.numel())))


PLUGIN = TopKIntersection
