"""The pointing game of one map."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


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
