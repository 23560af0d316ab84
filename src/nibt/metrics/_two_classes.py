"""The base class of metrics of a map as a segmentation into the named objects and the background."""

from abc import ABC
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from nibt.metrics._labels import LabelMetric
from nibt.metrics.base import MetricInput, PixelMap, PooledMetric
from nibt.options import Range
from nibt.results.attribution import to_pixels


@dataclass(frozen=True)
class TwoClasses(LabelMetric, PooledMetric, ABC):
    """Base class of metrics of a map as a segmentation into the named objects and the background.

    Args:
        threshold: Pixels above it are on the object, from 0 to below 1; None means the mean of the map.
        centered: Whether the map is that for the label of the pair, minus the mean of the maps for all labels, as in
            LeGrad. It needs a map per label.

    """

    better = "higher"
    bounds = (0.0, 1.0)
    sides = ("image",)
    threshold: Annotated[float, Range(0, 1, below=True)] | None = None
    centered: bool = False

    def rows(self, metric_input: MetricInput) -> Float[Tensor, "batch 4"]:
        """Return the numbers of true positive, false positive, false negative and true negative pixels."""
        rows = torch.full((len(metric_input.truths), 4), torch.nan, dtype=torch.float64, device="cpu")
        grids = self.centered_maps(metric_input) if self.centered else metric_input.attribution.grid
        for item, truth in enumerate(metric_input.truths):
            if truth.mask is not None and not (self.centered and truth.label is None):
                pixels = object_share(grids[item], truth.mask.shape)
                above, mask = pixels > (pixels.mean() if self.threshold is None else self.threshold), truth.mask
                rows[item] = torch.stack(
                    [(above & mask).sum(), (above & ~mask).sum(), (~above & mask).sum(), (~above & ~mask).sum()]
                )
        return rows


def object_share(grid: Float[Tensor, "row column"], shape: Sequence[int]) -> PixelMap:
    """Return the positive scores of a map at the pixels, rescaled to [0, 1] over them; a flat map becomes 0."""
    pixels = to_pixels(grid.float().clamp_min(0), *shape).cpu()
    low, high = pixels.min(), pixels.max()
    return torch.zeros_like(pixels) if high == low else (pixels - low) / (high - low)
