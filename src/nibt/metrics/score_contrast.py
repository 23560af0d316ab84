"""Score contrast (mSC): the mean score on the named objects minus the mean score on the rest of the image.

The map is resized bilinearly to the pixels and scaled to [0, 1] over them. A map that is higher on the background is
below 0, the "opposite visualization" of CLIP's own similarity map.

Range:
    -1 to 1

Use it when:
    You ask whether a map prefers the object to the background, without a threshold.

Avoid it when:
    You compare methods whose maps differ in their distribution: a map with few high pixels has a small contrast.

Source:
    Li et al., Pattern Recognition 2025, arXiv 2304.05653 (CLIP Surgery)
"""

from dataclasses import dataclass

import torch

from nibt.metrics._labels import scaled
from nibt.metrics.base import MaskMetric, Metric, PixelMap, PixelMask


@dataclass(frozen=True)
class ScoreContrast(MaskMetric):
    """The mean scaled score on the named objects minus that on the rest of the image."""

    bounds = Metric.bounds

    def number(self, scores: PixelMap, mask: PixelMask) -> float:
        if mask.all() or not mask.any():
            return torch.nan
        share = scaled(scores)
        return float(share[mask].mean() - share[~mask].mean())
