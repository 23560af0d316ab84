"""The base classes of metrics of a map as a segmentation into the named objects and the background."""

from abc import ABC
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import torch
from jaxtyping import Float
from torch import Tensor

from nibt.metrics._labels import LabelMetric
from nibt.metrics.base import MetricInput, PixelMap, PooledMetric, ShareMetric
from nibt.options import Range
from nibt.results.attribution import min_max, to_pixels

Cells = Float[Tensor, "row column"]


@dataclass(frozen=True)
class ObjectMetric(ShareMetric, LabelMetric, PooledMetric, ABC):
    """Base class of metrics of a map as a segmentation into the named objects and the background.

    Args:
        centered: Whether the map is that for the label of the pair, minus the mean of the maps for all labels, as in
            LeGrad. It needs a map per label.

    """

    centered: bool = field(default=False, kw_only=True)

    def maps_of_objects(self, metric_input: MetricInput) -> Iterator[Cells | None]:
        """Yield the map of each pair, or None if it is centered and the pair has no label."""
        if not self.centered:
            yield from metric_input.attribution.grid
            return
        maps = self.map_of_each(metric_input, self.labels(metric_input), against=False)
        mean = maps.mean(0)
        for item, truth in enumerate(metric_input.truths):
            yield None if truth.label is None else maps[truth.label, item] - mean[item]


@dataclass(frozen=True)
class TwoClasses(ObjectMetric, ABC):
    """Base class of metrics of the pixels of the named objects and of the background.

    Args:
        threshold: Pixels above it are on the object, from 0 to below 1; None means the mean of the map.

    """

    threshold: Annotated[float, Range(0, 1, below=True)] | None = None

    def rows(self, metric_input: MetricInput) -> Float[Tensor, "batch 4"]:
        """Return the numbers of true positive, false positive, false negative and true negative pixels."""
        rows = torch.full((len(metric_input.truths), 4), torch.nan, dtype=torch.float64, device="cpu")
        pairs = zip(metric_input.truths, self.maps_of_objects(metric_input), strict=True)
        for item, (truth, grid) in enumerate(pairs):
            if truth.mask is not None and grid is not None:
                pixels = object_share(grid, truth.mask.shape)
                above, mask = pixels > (pixels.mean() if self.threshold is None else self.threshold), truth.mask
                rows[item] = torch.stack(
                    [(above & mask).sum(), (above & ~mask).sum(), (~above & mask).sum(), (~above & ~mask).sum()]
                )
        return rows


def object_share(grid: Cells, shape: Sequence[int]) -> PixelMap:
    """Return the positive scores of a map at the pixels, rescaled to [0, 1] over them; a flat map becomes 0."""
    return scaled(to_pixels(grid.float().clamp_min(0), *shape).cpu())


def scaled(pixels: PixelMap) -> PixelMap:
    """Return scores, rescaled to [0, 1] over the pixels; a flat map becomes 0."""
    return min_max(pixels.flatten(), torch.ones(pixels.numel(), dtype=torch.bool, device="cpu")).reshape(pixels.shape)
