r"""Intersection over union at labeled points (p-mIoU), with the map as a segmentation.

Negative scores of the map become 0, it is resized bilinearly, and it is scaled to [0, 1] over the pixels. A labeled
point is positive where the map is above the ``threshold``. The number of a data set is the mean over labels $c$ of

$$\frac{\sum_i \text{TP}_{ic}}{\sum_i (\text{TP}_{ic} + \text{FP}_{ic} + \text{FN}_{ic})}$$

Range:
    0 to 1

Forward passes:
    none

Use it when:
    The annotations are points, as those of Open Images, and you compare with LeGrad.

Avoid it when:
    There are masks: use ``mean_iou``.

Source:
    Benenson and Ferrari, arXiv 2210.14142 (points of Open Images); Bousselham et al., ICCV 2025 (LeGrad)
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nibt.metrics._labels import ObjectMetric, object_share
from nibt.metrics.base import MetricInput, known_mean, ratio
from nibt.options import Range


@dataclass(frozen=True)
class PointIoU(ObjectMetric):
    """Intersection over union at labeled points, averaged over labels.

    Args:
        threshold: Points above it are on the object, from 0 to below 1.

    """

    threshold: Annotated[float, Range(0, 1, below=True)] = 0.5

    def rows(self, metric_input: MetricInput) -> Float[Tensor, "batch 3"]:
        """Return the label, and its points in the intersection and in the union."""
        rows = torch.full((len(metric_input.truths), 3), torch.nan, dtype=torch.float64, device="cpu")
        pairs = zip(metric_input.truths, self.maps_of_objects(metric_input), strict=True)
        for item, (truth, grid) in enumerate(pairs):
            if truth.points and grid is not None:
                pixels = object_share(grid, truth.extent)
                columns, lines = ([int(point[axis]) for point in truth.points] for axis in (0, 1))
                above = pixels[lines, columns] > self.threshold
                inside = torch.tensor([point.inside for point in truth.points], dtype=torch.bool, device="cpu")
                label = -1 if truth.label is None else truth.label
                rows[item] = torch.tensor([label, int((above & inside).sum()), int((above | inside).sum())])
        return rows

    def weighted(self, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
        labels, points = rows[:, 0], rows[:, 1:]
        sums = np.stack([weights[:, labels == label] @ points[labels == label] for label in np.unique(labels)], 1)
        return known_mean(ratio(sums[..., 0], sums[..., 1]))


PLUGIN = PointIoU
