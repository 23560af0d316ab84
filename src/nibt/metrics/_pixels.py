"""What several metrics of maps compute at the pixels of a mask."""

from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nibt.metrics.base import PixelMap, PixelMask


def hit(scores: Float[Tensor, "height width"], mask: Bool[Tensor, "height width"], tolerance: float) -> float:
    """Return whether the maximum of a map is on a mask, 1 or 0; NaN for an empty mask."""
    peak = torch.nonzero(scores == scores.max()).double().mean(0)
    inside = torch.nonzero(mask)
    if not len(inside):
        return torch.nan
    distances = (inside - peak).abs()
    reach = tolerance * max(mask.shape)
    if reach < 1:  # the peak must lie on a pixel of the mask
        return float(distances.amax(1).min() <= 0.5)
    return float(distances.square().sum(1).min().sqrt() <= reach)


def share_inside(scores: PixelMap, mask: PixelMask, count: int) -> float:
    """Return the share of the ``count`` pixels with the highest scores that lie in a mask; NaN for an empty mask."""
    if not mask.any():
        return torch.nan
    values, inside = scores.flatten(), mask.flatten()
    last = values.topk(count).values[-1]
    above, equal = values > last, values == last
    # pixels with the score of the last one compete for the remaining places; each counts by its chance of a place
    places = count - int(above.sum())
    hits = float(inside[above].sum()) + places * float(inside[equal].double().mean())
    return hits / count


def ranking(name: Literal["average_precision_score", "roc_auc_score"], truth: np.ndarray, scores: np.ndarray) -> float:
    """Compute a ranking metric of scikit-learn; NaN if the labels are all true or all false."""
    from sklearn import metrics

    return float("nan") if truth.all() or not truth.any() else float(getattr(metrics, name)(truth, scores))
