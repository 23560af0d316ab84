r"""Pixel accuracy of the thresholded map: the share of pixels that are on the side of the threshold where they belong.

Negative scores become 0, and the map is resized bilinearly to the pixels and scaled to [0, 1] over them. Pixels above
its mean, or above a fixed ``threshold``, are on the object. The number of a data set is that of all its pixels,

$$\frac{\sum_i \text{correct}_i}{\sum_i \text{pixels}_i}$$

and not the mean over images.

Range:
    0 to 1

Forward passes:
    none

Use it when:
    You compare with publications that evaluate maps as segmentations, such as Chefer et al. or LeGrad.

Avoid it when:
    Objects are small: a map without any pixel above the threshold has the share of the background.

Source:
    Chefer et al., CVPR 2021, imagenet_seg_eval.py; Bousselham et al., ICCV 2025 (LeGrad)
"""

from dataclasses import dataclass

import numpy as np

from nibt.metrics._labels import TwoClasses
from nibt.metrics.base import ratio


@dataclass(frozen=True)
class PixelAccuracy(TwoClasses):
    """The share of correct pixels of the thresholded map."""

    def weighted(self, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
        both, above, below, neither = (weights @ rows).T
        return ratio(both + neither, both + above + below + neither)


PLUGIN = PixelAccuracy
