"""Relevance rank accuracy: the share of the K highest pixels on the named objects, where K is the size of the objects.

Equal scores share the last places. A random map gets the share of
the image that the objects cover.

Range:
    0 to 1

Forward passes:
    none

Use it when:
    You want precision and recall in one number, without a threshold.

Avoid it when:
    You compare data sets: chance is the share of the image that the object covers. Only the order of the pixels counts;
    for amounts use ``energy``.

Source:
    Arras et al., Information Fusion 81, 2022 (CLEVR-XAI)
"""

from dataclasses import dataclass

from nibt.metrics._pixels import share_inside
from nibt.metrics.base import MaskMetric, PixelMap, PixelMask


@dataclass(frozen=True)
class RelevanceRank(MaskMetric):
    """The share of the K highest pixels on the named objects, where K is the size of the objects."""

    def number(self, scores: PixelMap, mask: PixelMask) -> float:
        return share_inside(scores, mask, int(mask.sum()))


PLUGIN = RelevanceRank
