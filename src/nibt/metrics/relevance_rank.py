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

import torch

from nibt.metrics._top_pixels import share_inside
from nibt.metrics.base import Metric, MetricInput, PixelMap, PixelMask, on_masks
from nibt.types import PerExample


@dataclass(frozen=True)
class RelevanceRank(Metric):
    """The share of the K highest pixels on the named objects, where K is the size of the objects."""

    better = "higher"
    bounds = (0.0, 1.0)
    sides = ("image",)

    def __call__(self, metric_input: MetricInput) -> PerExample:
        return on_masks(metric_input, _accuracy)


def _accuracy(scores: PixelMap, mask: PixelMask) -> float:
    count = int(mask.sum())
    return share_inside(scores, mask, count) if count else torch.nan


PLUGIN = RelevanceRank
