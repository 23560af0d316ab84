"""Whether the mean score on the named objects exceeds that on every other object, 1 or 0.

A map that is the same for all captions of a scene fails this test, since
the captions name different objects.

Range:
    0 or 1

Use it when:
    You want to find maps that show all that is there, whatever the caption says.

Avoid it when:
    The images have a single object.

Source:
    nibt
"""

from dataclasses import dataclass

import torch

from nibt.data.ground_truth import GroundTruth
from nibt.metrics.base import MetricInput, ShareMetric
from nibt.results.attribution import to_pixels
from nibt.types import PerExample


@dataclass(frozen=True)
class OwnObject(ShareMetric):
    """Whether the mean score on the named objects exceeds that on every other object."""

    def __call__(self, metric_input: MetricInput) -> PerExample:
        results = [self._prefers_named(metric_input, item, truth) for item, truth in enumerate(metric_input.truths)]
        return torch.tensor(results, dtype=torch.float32)

    def _prefers_named(self, metric_input: MetricInput, item: int, truth: GroundTruth) -> float:
        others = [mask for mask in truth.others if mask.any()]
        if truth.mask is None or not truth.mask.any() or not others:
            return torch.nan
        pixels = to_pixels(metric_input.attribution[item].grid, *truth.mask.shape).cpu()
        on_named = pixels[truth.mask].mean()
        return float(all(on_named > pixels[mask].mean() for mask in others))
