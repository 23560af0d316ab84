"""Noun pointing: the share of nouns whose map peaks on their own object.

The map of a noun is the sum of the rows of its words, resized bilinearly to the pixels. Equal maxima are replaced by
their mean position. The tolerance is that of ``pointing_game``.

Range:
    0 to 1

Forward passes:
    none

Use it when:
    The images have several objects, all named, so that a map of all of them fails.

Avoid it when:
    Only the sizes of the entries matter to you.

Source:
    Zhang et al., IJCV 2018, for each noun
"""

from dataclasses import dataclass

from nibt.metrics._pixels import hit
from nibt.metrics.base import Noun, NounMetric, PixelMap
from nibt.options import ClosedShare


@dataclass(frozen=True)
class NounPointing(NounMetric):
    """The share of nouns whose map peaks on their own object.

    Args:
        tolerance: The largest distance of a hit from the mask, as a share of the longer side.

    """

    tolerance: ClosedShare = 15 / 640

    def number(self, pixels: PixelMap, noun: Noun) -> float:
        return hit(pixels, noun.mask, self.tolerance)


PLUGIN = NounPointing
