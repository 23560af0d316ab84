"""Whether the map is higher, in the mean, on the objects that the caption names than on each object that it does not
name, 1 or 0. A map that passes for every caption of a scene moves when the caption names another object.
"""

from dataclasses import dataclass

import torch
from typing_extensions import override

from nibt.data.ground_truth import GroundTruth
from nibt.metrics.base import Metric, MetricInput
from nibt.results.attribution import to_pixels
from nibt.types import PerExample


@dataclass(frozen=True)
class OwnObject(Metric):
    better = "higher"
    sides = ("image",)

    @override
    def __call__(self, trial: MetricInput) -> PerExample:
        favours = [self._favours(trial, item, truth) for item, truth in enumerate(trial.truths)]
        return torch.tensor(favours, dtype=torch.float32)

    def _favours(self, trial: MetricInput, item: int, truth: GroundTruth) -> float:
        others = [mask for mask in truth.others if mask.any()]
        if truth.mask is None or not truth.mask.any() or not others:
            return torch.nan
        pixels = to_pixels(trial.attribution[item].grid, *truth.mask.shape).cpu()
        own = pixels[truth.mask].mean()
        return float(all(own > pixels[mask].mean() for mask in others))


PLUGIN = OwnObject
