"""Intersection over union of the thresholded map and the named objects, at the best or a fixed threshold.

The best threshold is chosen for each example, so the value is an
upper bound. With a fixed ``threshold``, the scores are first scaled to [0, 1]
over the units, a flat map to 0, and pixels above it are on the object.

Use it when:
    You compare with publications that report it, often with ``threshold=0.5``.

Avoid it when:
    You need a segmentation: the best threshold uses the ground truth, and a fixed one depends on the largest score.

Source:
    a common measure
"""

from dataclasses import dataclass, replace
from typing import Annotated

import torch

from nibt.metrics.base import MetricInput, PixelMap, PixelMask, ShareMetric, on_masks
from nibt.options import Range
from nibt.types import PerExample


@dataclass(frozen=True)
class IntersectionOverUnion(ShareMetric):
    """Intersection over union at the best threshold of each example, or at a fixed one.

    Args:
        threshold: The threshold, from 0 to below 1; None means the best of each example.
    """

    threshold: Annotated[float, Range(0, 1, below=True)] | None = None

    def __call__(self, metric_input: MetricInput) -> PerExample:
        if self.threshold is None:
            return on_masks(metric_input, _best)
        threshold, attribution = self.threshold, metric_input.attribution
        scaled = replace(metric_input, attribution=replace(attribution, scores=attribution.normalized()))
        return on_masks(scaled, lambda scores, mask: _overlap(scores > threshold, mask))


def _overlap(above: PixelMask, mask: PixelMask) -> float:
    union = (above | mask).sum()
    return int((above & mask).sum()) / int(union) if union else torch.nan


def _best(scores: PixelMap, mask: PixelMask) -> float:
    values, order = scores.flatten().sort(descending=True, stable=True)
    hits = mask.flatten()[order].cumsum(0)
    union = torch.arange(1, len(values) + 1, device="cpu") + mask.sum() - hits
    last_of_ties = torch.cat([values[1:] != values[:-1], torch.tensor([True], device="cpu")])
    return float((hits.float() / union)[last_of_ties].max())
