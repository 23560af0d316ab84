"""Intersection over union of the thresholded map and the named objects, at the best threshold.

The raw scores become pixels bilinearly: a pixel has their mean over one unit
around it. The threshold is chosen for each example, so the value is an upper
bound.

Answers:
    How well would the map outline the named object, if the threshold were known?

Range:
    0 to 1

Forward passes:
    none

Use it when:
    You compare with publications that report it.

Avoid it when:
    You need a segmentation: the threshold uses the ground truth.

Source:
    a common measure
"""

from dataclasses import dataclass

import torch
from typing_extensions import override

from nibt.metrics.base import Metric, MetricInput, PixelMap, PixelMask, on_masks
from nibt.types import PerExample


@dataclass(frozen=True)
class IntersectionOverUnion(Metric):
    """Intersection over union at the best threshold of each example."""

    better = "higher"
    sides = ("image",)

    @override
    def __call__(self, metric_input: MetricInput) -> PerExample:
        return on_masks(metric_input, _best)


def _best(scores: PixelMap, mask: PixelMask) -> float:
    values, order = scores.flatten().sort(descending=True, stable=True)
    hits = mask.flatten()[order].cumsum(0)
    union = torch.arange(1, len(values) + 1, device="cpu") + mask.sum() - hits
    last_of_ties = torch.cat([values[1:] != values[:-1], torch.tensor([True], device="cpu")])
    return float((hits.float() / union)[last_of_ties].max())


PLUGIN = IntersectionOverUnion
