"""The pointing game (Zhang et al., 2018): does the highest place of the map lie on what the caption names?

1 or 0 for each example. Of several equal highest places their mean counts. The tolerance is a share of the longer
side: 15 pixels of 640 as published.
"""

from dataclasses import dataclass

import torch
from typing_extensions import override

from nibt.metrics.base import Metric, MetricInput, PixelMap, PixelMask, on_masks
from nibt.types import PerExample


@dataclass(frozen=True)
class PointingGame(Metric):
    """``tolerance``: how far from the mask a hit may be, as a share of the longer side."""

    better = "higher"
    sides = ("image",)
    tolerance: float = 15 / 640

    @override
    def __call__(self, trial: MetricInput) -> PerExample:
        return on_masks(trial, self._hit)

    def _hit(self, scores: PixelMap, mask: PixelMask) -> float:
        place = torch.nonzero(scores == scores.max()).double().mean(0)
        inside = torch.nonzero(mask)
        if not len(inside):
            return torch.nan
        away = (inside - place).abs()
        reach = self.tolerance * max(mask.shape)
        if reach < 1:  # the place must lie on a pixel of the mask itself
            return float(away.amax(1).min() <= 0.5)
        return float(away.square().sum(1).min().sqrt() <= reach)


PLUGIN = PointingGame
