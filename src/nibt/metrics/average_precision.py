"""Average precision of the map as a ranking of the pixels, from 0 to 1.

The positives are the pixels of the objects that the caption names.
A random map gets their share of the image.
Where an object has labeled points instead of a mask, the points are ranked.
With ``both_classes``, each pixel is ranked twice, as object by the map $m$, whose positive scores are scaled to
[0, 1], and as background by $1 - m$, as in the programs of Chefer et al. A random map then gets about 0.5.

Range:
    0 to 1

Forward passes:
    none

Use it when:
    You compare the whole order of the pixels.

Avoid it when:
    You compare data sets: chance is the share of the image that the object covers. Grids limit it: on ``scenes`` a
    perfect map has 0.87.

Source:
    scikit-learn, ``average_precision_score``
"""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nibt.metrics._labels import scaled
from nibt.metrics._pixels import ranking
from nibt.metrics.base import MetricInput, PixelMap, PixelMask, ShareMetric, on_masks, on_masks_or_points
from nibt.types import PerExample

_DIGITS = 5  # of scaled scores; smaller differences are rounding errors, which would order plateaus of equal scores


@dataclass(frozen=True)
class AveragePrecision(ShareMetric):
    """Average precision of the map as a ranking of the pixels.

    Args:
        both_classes: Whether pixels are also ranked as background.

    """

    both_classes: bool = False

    def __call__(self, metric_input: MetricInput) -> PerExample:
        if self.both_classes:
            attribution = metric_input.attribution
            positive = replace(attribution, scores=attribution.scores.float().clamp_min(0))
            return on_masks(replace(metric_input, attribution=positive), _precision_of_both)
        return on_masks_or_points(metric_input, _precision, _precision)


def _precision(scores: Float[Tensor, "..."], mask: Bool[Tensor, "..."]) -> float:
    return ranking("average_precision_score", mask.flatten().numpy(), scores.flatten().numpy())


def _precision_of_both(scores: PixelMap, mask: PixelMask) -> float:
    share = scaled(scores).double().round(decimals=_DIGITS)
    return _precision(torch.stack([(1 - share).round(decimals=_DIGITS), share]), torch.stack([~mask, mask]))


PLUGIN = AveragePrecision
