r"""Mean intersection over union of the object and the background, from the thresholded map.

The map is thresholded as for ``pixel_accuracy``. The number of a data set is computed from the pixels of all images,

$$\frac{1}{2} \sum_{c} \frac{\sum_i \text{intersection}_{ic}}{\sum_i \text{union}_{ic}}$$

and not the mean over images. A class without a pixel in both is left out.

Range:
    0 to 1

Forward passes:
    none

Use it when:
    You compare with publications that evaluate maps as segmentations, such as Chefer et al. or LeGrad.

Avoid it when:
    You want to know how well a map ranks the pixels: use ``average_precision``, which has no threshold.

Source:
    Chefer et al., CVPR 2021, imagenet_seg_eval.py; Bousselham et al., ICCV 2025 (LeGrad)
"""

from dataclasses import dataclass

import numpy as np

from nibt.metrics._labels import TwoClasses
from nibt.metrics.base import known_mean, ratio


@dataclass(frozen=True)
class MeanIoU(TwoClasses):
    """The mean of the intersections over unions of the object and the background."""

    def weighted(self, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
        both, above, below, neither = (weights @ rows).T
        wrong = above + below
        return known_mean(ratio(np.stack([both, neither], -1), np.stack([both + wrong, neither + wrong], -1)))


PLUGIN = MeanIoU
