"""Metrics of maps as segmentations, of the named objects or by the labels of a data set.

The numbers of most are computed from the pixels of all images.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nibt.datasets._files import lines
from nibt.errors import BadInput
from nibt.metrics._labels import LabelMetric, ObjectMetric, TwoClasses, _best, _overlap, _precision, object_share
from nibt.metrics._numbers import average_precision, known_mean, ratio
from nibt.metrics.base import MetricInput, PooledMetric, ShareMetric, on_masks
from nibt.options import ClosedShare, OneOf, Positive, Range
from nibt.results.pixels import to_pixels
from nibt.types import PerExample


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
        for item, (truth, grid) in enumerate(self.maps_of_objects(metric_input)):
            if truth.points and grid is not None:
                pixels = object_share(grid, truth.extent)
                columns, lines = ([int(point[axis]) for point in truth.points] for axis in (0, 1))
                above = pixels[lines, columns] > self.threshold
                inside = torch.tensor([point.inside for point in truth.points], dtype=torch.bool, device="cpu")
                label = -1 if truth.label is None else truth.label
                rows[item] = torch.tensor([label, int((above & inside).sum()), int((above | inside).sum())])

        return rows

    def weighted(self, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
        labels = rows[:, 0]
        points = rows[:, 1:]
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
        threshold = self.threshold
        attribution = metric_input.attribution
        scaled = replace(metric_input, attribution=replace(attribution, scores=attribution.normalized()))
        return on_masks(scaled, lambda scores, mask: _overlap(scores > threshold, mask))


_BACKGROUND = "background"


@dataclass(frozen=True)
class LabelIoU(ShareMetric, LabelMetric, PooledMetric, name="label_iou"):
    r"""Mean intersection over union of a segmentation by labels: each pixel gets the label whose map is highest there.

    The maps of the image for the names of all labels are resized bilinearly to the pixels of the label map. A pixel
    gets the label of the name $c$ with the highest score $s_c$, or the label "background" where

    $$\max_c \, \text{softmax}_c(\lambda s_c) < \text{background}$$

    with the ``logit_scale`` $\lambda$. A label has one name, itself, and "background" none. A file may give others: it
    has a line for each label, with names separated by commas, as the files of SCLIP and NACLIP.

    Pixels that the annotators ignored do not count. The number of a data set is the mean over labels of intersection
    over union, from one confusion matrix of all images; labels that neither occur nor are predicted are left out.

    Forward passes:
        none, but one map per image and label, and those of the labels, once

    Use it when:
        You compare with open-vocabulary segmentation (``maskclip``, ``sclip``, ``clearclip``, ``naclip``).

    Avoid it when:
        The scores of a method differ in scale between labels: a label with large scores wins everywhere. ``background``
        is for cosines: scores that are small beside ``logit_scale`` make everything background.

    Source:
        Zhou et al., ECCV 2022 (MaskCLIP); Wang et al., ECCV 2024 (SCLIP); Hajimiri et al., WACV 2025 (NACLIP)

    Args:
        names: A file with the names of the labels; None means the labels themselves.
        background: Pixels whose largest softmax over names is below it are background.
        logit_scale: The factor of the scores in the softmax.
        against: Whether the map of a name explains it in comparison with all other names, as in CLIP Surgery.
    """

    only_by_name = True
    names: str | None = None
    background: ClosedShare = 0.0
    logit_scale: Positive = 40.0
    against: bool = False

    def rows(self, metric_input: MetricInput) -> Float[Tensor, "batch count"]:
        """Return the pixels of each label in the intersection and, after all labels, in the union."""
        labels = self.labels(metric_input)
        count = len(labels)
        rows = torch.full((len(metric_input.truths), max(1, 2 * count)), torch.nan, dtype=torch.float64, device="cpu")
        truths = {
            item: truth.label_map for item, truth in enumerate(metric_input.truths) if truth.label_map is not None
        }
        if not truths:
            return rows

        named = self._names(labels)
        maps = self.map_of_each(metric_input, tuple(name for name, _ in named), self.against)
        of_name = torch.tensor([label for _, label in named], device="cpu")
        for item, truth in truths.items():
            scores = to_pixels(maps[:, item], *truth.shape)
            predicted = of_name[scores.argmax(0)]
            if _BACKGROUND in labels:
                unsure = (self.logit_scale * scores).softmax(0).amax(0) < self.background
                predicted[unsure] = labels.index(_BACKGROUND)

            labeled = truth >= 0
            confusion = torch.bincount(truth[labeled] * count + predicted[labeled], minlength=count**2).reshape(
                count, count
            )
            both = confusion.diagonal()
            rows[item] = torch.cat([both, confusion.sum(0) + confusion.sum(1) - both])

        return rows

    def _names(self, labels: tuple[str, ...]) -> list[tuple[str, int]]:
        """Return the names of all labels, with the positions of their labels."""
        if self.names is None:
            return [(label, position) for position, label in enumerate(labels) if label != _BACKGROUND]

        of_labels = [line for line, _ in lines(Path(self.names))]
        if len(of_labels) != len(labels):
            raise BadInput(f"{self.names} must have a line for each of {len(labels)} labels (got {len(of_labels)})")

        named = [(name.strip(), position) for position, line in enumerate(of_labels) for name in line.split(",")]
        if not all(name for name, _ in named):
            raise BadInput(f"{self.names} must have names between its commas (got a line with an empty name)")
        return named

    def weighted(self, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
        both, union = np.split(weights @ rows, 2, axis=-1)
        return known_mean(ratio(both, union))


@dataclass(frozen=True)
class LabelPrecision(ShareMetric, LabelMetric, PooledMetric, name="label_precision"):
    """Mean average precision of multi-label recognition (mAP): the images with a label come before those without it.

    The score of an image for a label is the largest score of its map for that label or, with ``score="image"``, the
    target of the whole image, which does not depend on the method. The number of a data set is the mean over labels of
    the average precision over all images; labels that no image has, or all images have, are left out. That of a single
    pair ranks the labels of the image.

    Forward passes:
        none, but one map per image and label, and those of the labels, once

    Use it when:
        You compare with CLIP Surgery, or want to know whether maps show which objects are in the image.

    Avoid it when:
        You want to know where the objects are: the metric ignores places. With few images it is too high: 0.69 for 10
        images, if thousands have 0.58 (``benchmarks/intervals.py``).

    Source:
        Li et al., Pattern Recognition 2025, arXiv 2304.05653 (CLIP Surgery); scikit-learn, ``average_precision_score``

    Args:
        score: The score of an image for a label: the ``highest`` of its map, or that of the ``image``.
        against: Whether the map of a label explains it in comparison with all other labels, as in CLIP Surgery.
    """

    only_by_name = True
    score: Annotated[str, OneOf(("highest", "image"))] = "highest"
    against: bool = False

    def rows(self, metric_input: MetricInput) -> Float[Tensor, "batch count"]:
        """Return the score of each label and, after all labels, whether the image has it."""
        labels = self.labels(metric_input)
        rows = torch.full(
            (len(metric_input.truths), 2 * max(1, len(labels))), torch.nan, dtype=torch.float64, device="cpu"
        )
        if not labels:
            return rows

        if self.score == "image":
            scores = self.similarities(metric_input, metric_input.side.trace.embedding)
        else:
            scores = self.map_of_each(metric_input, labels, self.against).amax((-2, -1)).T

        for item, truth in enumerate(metric_input.truths):
            if truth.present:
                has = torch.zeros(len(labels), dtype=torch.float64, device="cpu")
                has[list(truth.present)] = 1
                rows[item] = torch.cat([scores[item].double(), has])

        return rows

    def weighted(self, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
        scores, has = np.split(rows, 2, axis=1)
        if len(rows) == 1:
            value = average_precision(has[0] > 0, scores[0])
            return np.full(len(weights), value)
        return known_mean(np.stack([_precision(*label, weights) for label in zip(scores.T, has.T, strict=True)], -1))
