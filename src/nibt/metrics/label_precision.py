"""Mean average precision of multi-label recognition (mAP): the images with a label come before the images without it.

The score of an image for a label is the largest score of its map for that label or, with ``score="image"``, the target
of the whole image, which does not depend on the method. The number of a data set is the mean over labels of the average
precision over all images; labels that no image has, or all images have, are left out. That of a single pair ranks the
labels of the image.

Forward passes:
    none, but one map per image and label, and those of the labels, once

Use it when:
    You compare with CLIP Surgery, or ask whether maps tell which objects are in the image.

Avoid it when:
    You ask where the objects are: the metric does not look at places.

Source:
    Li et al., Pattern Recognition 2025, arXiv 2304.05653 (CLIP Surgery); scikit-learn, ``average_precision_score``
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nibt.metrics._labels import LabelMetric
from nibt.metrics._ranks import ranking
from nibt.metrics.base import MetricInput, PooledMetric, ShareMetric, known_mean, ratio
from nibt.options import OneOf


@dataclass(frozen=True)
class LabelPrecision(ShareMetric, LabelMetric, PooledMetric):
    """The mean over labels of the average precision of the images that have them.

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
            value = ranking("average_precision_score", has[0] > 0, scores[0])
            return np.full(len(weights), value)
        return known_mean(np.stack([_precision(*label, weights) for label in zip(scores.T, has.T, strict=True)], -1))


def _precision(scores: np.ndarray, has: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the average precision for each row of weights; NaN where all images have the label, or none has it."""
    order = np.argsort(-scores, kind="stable")
    last_of_ties = np.append(np.diff(scores[order]) != 0, True)
    ranked = weights[:, order]
    hits, images = (np.cumsum(counts, 1)[:, last_of_ties] for counts in (ranked * has[order], ranked))
    steps = np.diff(hits, axis=1, prepend=0)
    value = (steps * np.nan_to_num(ratio(hits, images))).sum(1)
    return np.where(hits[:, -1] < images[:, -1], ratio(value, hits[:, -1]), np.nan)
