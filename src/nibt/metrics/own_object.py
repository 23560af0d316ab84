"""Metrics that compare the scores on the named objects with those elsewhere."""

from dataclasses import dataclass

import torch

from nibt.data.ground_truth import GroundTruth
from nibt.metrics._labels import scaled
from nibt.metrics.base import MaskMetric, Metric, MetricInput, PixelMap, PixelMask, ShareMetric
from nibt.results.attribution import to_pixels
from nibt.types import PerExample


@dataclass(frozen=True)
class OwnObject(ShareMetric, name="own_object"):
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


@dataclass(frozen=True)
class ScoreContrast(MaskMetric, name="score_contrast"):
    """Score contrast (mSC): the mean score on the named objects minus the mean score on the rest of the image.

    The map is resized bilinearly to the pixels and scaled to [0, 1] over them. A map that is higher on the background
    is below 0, the "opposite visualization" of CLIP's own similarity map.

    Range:
        -1 to 1

    Use it when:
        You ask whether a map prefers the object to the background, without a threshold.

    Avoid it when:
        You compare methods whose maps differ in their distribution: a map with few high pixels has a small contrast.

    Source:
        Li et al., Pattern Recognition 2025, arXiv 2304.05653 (CLIP Surgery)

    """

    bounds = Metric.bounds

    def number(self, scores: PixelMap, mask: PixelMask) -> float:
        if mask.all() or not mask.any():
            return torch.nan
        share = scaled(scores)
        return float(share[mask].mean() - share[~mask].mean())
