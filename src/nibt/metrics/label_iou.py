r"""Mean intersection over union of a segmentation by labels: each pixel gets the label whose map is highest there.

The maps of the image for the names of all labels are resized bilinearly to the pixels of the label map. A pixel gets
the label of the name $c$ with the highest score $s_c$, or the label "background" where

$$\max_c \, \text{softmax}_c(\lambda s_c) < \text{background}$$

with the ``logit_scale`` $\lambda$. A label has one name, itself, and "background" none. A file may give others: it has
a line for each label, with names separated by commas, as the files of SCLIP and NACLIP.

Pixels that the annotators ignored do not count. The number of a data set is the mean over labels of intersection over
union, from one confusion matrix of all images; labels that neither occur nor are predicted are left out.

Forward passes:
    none, but one map per image and label, and those of the labels, once

Use it when:
    You compare with open-vocabulary segmentation (``maskclip``, ``sclip``, ``clearclip``, ``naclip``).

Avoid it when:
    The scores of a method differ in scale between labels: a label with large scores wins everywhere. ``background`` is
    for cosines: scores that are small beside ``logit_scale`` make everything background.

Source:
    Zhou et al., ECCV 2022 (MaskCLIP); Wang et al., ECCV 2024 (SCLIP); Hajimiri et al., WACV 2025 (NACLIP)
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from nibt.datasets._files import lines
from nibt.errors import BadInput
from nibt.metrics._labels import LabelMetric
from nibt.metrics.base import MetricInput, PooledMetric, ShareMetric, known_mean, ratio
from nibt.options import ClosedShare, Positive
from nibt.results.attribution import to_pixels

_BACKGROUND = "background"


@dataclass(frozen=True)
class LabelIoU(ShareMetric, LabelMetric, PooledMetric):
    """The mean over labels of the intersection over union of a segmentation by labels.

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
