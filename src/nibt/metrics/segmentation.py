"""Metrics of a map as a segmentation; the numbers of most are computed from the pixels of all images."""

from abc import ABC
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nibt.metrics._labels import ObjectMetric, object_share
from nibt.metrics.base import MetricInput, PixelMap, PixelMask, ShareMetric, known_mean, on_masks, ratio
from nibt.options import Range
from nibt.types import PerExample


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


@dataclass(frozen=True)
class PixelAccuracy(TwoClasses, name="pixel_accuracy"):
    r"""Pixel accuracy of the thresholded map: the share of pixels on the right side of the threshold.

    Negative scores become 0, and the map is resized bilinearly to the pixels and scaled to [0, 1] over them. Pixels
    above its mean, or above a fixed ``threshold``, are on the object. The number of a data set is that of all its
    pixels,

    $$\frac{\sum_i \text{correct}_i}{\sum_i \text{pixels}_i}$$

    and not the mean over images.

    Use it when:
        You compare with publications that evaluate maps as segmentations, such as Chefer et al. or LeGrad.

    Avoid it when:
        Objects are small: a map without any pixel above the threshold has the share of the background.

    Source:
        Chefer et al., CVPR 2021, imagenet_seg_eval.py; Bousselham et al., ICCV 2025 (LeGrad)
    """

    def weighted(self, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
        both, above, below, neither = (weights @ rows).T
        return ratio(both + neither, both + above + below + neither)


@dataclass(frozen=True)
class MeanIoU(TwoClasses, name="mean_iou"):
    r"""Mean intersection over union of the object and the background, from the thresholded map.

    The map is thresholded as for ``pixel_accuracy``. The number of a data set is computed from the pixels of all
    images,

    $$\frac{1}{2} \sum_{c} \frac{\sum_i \text{intersection}_{ic}}{\sum_i \text{union}_{ic}}$$

    and not the mean over images. A class without a pixel in both is left out.

    Use it when:
        You compare with publications that evaluate maps as segmentations, such as Chefer et al. or LeGrad.

    Avoid it when:
        You want to know how well a map ranks the pixels: use ``average_precision``, which has no threshold.

    Source:
        Chefer et al., CVPR 2021, imagenet_seg_eval.py; Bousselham et al., ICCV 2025 (LeGrad)
    """

    def weighted(self, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
        both, above, below, neither = (weights @ rows).T
        wrong = above + below
        return known_mean(ratio(np.stack([both, neither], -1), np.stack([both + wrong, neither + wrong], -1)))


@dataclass(frozen=True)
class PointIoU(ObjectMetric, name="point_iou"):
    r"""Intersection over union at labeled points (p-mIoU), with the map as a segmentation.

    Negative scores of the map become 0, it is resized bilinearly, and it is scaled to [0, 1] over the pixels. A labeled
    point is positive where the map is above the ``threshold``. The number of a data set is the mean over labels $c$ of

    $$\frac{\sum_i \text{TP}_{ic}}{\sum_i (\text{TP}_{ic} + \text{FP}_{ic} + \text{FN}_{ic})}$$

    Use it when:
        The annotations are points, as those of Open Images, and you compare with LeGrad.

    Avoid it when:
        There are masks: use ``mean_iou``.

    Source:
        Benenson and Ferrari, arXiv 2210.14142 (points of Open Images); Bousselham et al., ICCV 2025 (LeGrad)

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


@dataclass(frozen=True)
class IntersectionOverUnion(ShareMetric, name="intersection_over_union"):
    """Intersection over union of the thresholded map and the named objects, at the best or a fixed threshold.

    The best threshold is chosen for each example, so the value is an
    upper bound. With a fixed ``threshold``, the scores are first scaled to [0, 1]
    over the units, a flat map to 0, and pixels above it are on the object.

    Use it when:
        You compare with publications that report it, often with ``threshold=0.5``.

    Avoid it when:
        You need a segmentation: the best threshold uses the ground truth, and a fixed one depends on the largest score.

    Source:
        a common measure

    Args:
        threshold: The threshold, from 0 to below 1; None means the best of each example.

    """

    threshold: Annotated[float, Range(0, 1, below=True)] | None = None

    def __call__(self, metric_input: MetricInput) -> PerExample:
        if self.threshold is None:
            return on_masks(metric_input, _best)
        threshold, attribution = self.threshold, metric_input.attribution
        scaled = replace(metric_input, attribution=replace(attribution, scores=attribution.normalized()))
        return on_masks(scaled, lambda scores, mask: _overlap(scores > threshold, mask))


def _overlap(above: PixelMask, mask: PixelMask) -> float:
    union = (above | mask).sum()
    return int((above & mask).sum()) / int(union) if union else torch.nan


def _best(scores: PixelMap, mask: PixelMask) -> float:
    values, order = scores.flatten().sort(descending=True, stable=True)
    hits = mask.flatten()[order].cumsum(0)
    union = torch.arange(1, len(values) + 1, device="cpu") + mask.sum() - hits
    last_of_ties = torch.cat([values[1:] != values[:-1], torch.tensor([True], device="cpu")])
    return float((hits.float() / union)[last_of_ties].max())
