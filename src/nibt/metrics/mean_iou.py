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

from nibt.metrics._two_classes import TwoClasses


@dataclass(frozen=True)
class MeanIoU(TwoClasses):
    """The mean of the intersections over unions of the object and the background."""

    def pooled(self, rows: np.ndarray) -> float:
        both, above, below, neither = rows.sum(0)
        unions = np.array([both + above + below, neither + above + below])
        return float(np.mean(np.array([both, neither])[unions > 0] / unions[unions > 0]))


PLUGIN = MeanIoU
