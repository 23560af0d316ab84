"""Intersection over union at the best threshold: how well any single cut through the map outlines what the caption
names, from 0 to 1. The threshold is chosen for each example, so the number is an upper bound.
"""

from dataclasses import dataclass

import torch
from typing_extensions import override

from nibt.metrics.base import Metric, MetricInput, PixelMap, PixelMask, on_masks
from nibt.types import PerExample


@dataclass(frozen=True)
class IntersectionOverUnion(Metric):
    better = "higher"
    sides = ("image",)

    @override
    def __call__(self, trial: MetricInput) -> PerExample:
        return on_masks(trial, _best)


def _best(scores: PixelMap, mask: PixelMask) -> float:
    values, order = scores.flatten().sort(descending=True, stable=True)
    hits = mask.flatten()[order].cumsum(0)
    union = torch.arange(1, len(values) + 1, device="cpu") + mask.sum() - hits
    last_of_ties = torch.cat([values[1:] != values[:-1], torch.tensor([True], device="cpu")])
    return float((hits.float() / union)[last_of_ties].max())


PLUGIN = IntersectionOverUnion
