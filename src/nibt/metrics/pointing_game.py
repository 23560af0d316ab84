"""The pointing game: whether the maximum of a map lies on an object."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nibt.metrics.base import MetricInput, Noun, NounMetric, PixelMap, ShareMetric, on_masks_or_points
from nibt.options import ClosedShare
from nibt.types import PerExample


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


@dataclass(frozen=True)
class PointingGame(ShareMetric, name="pointing_game"):
    """Pointing game: whether the maximum of the map lies on a named object, 1 or 0.

    Several equal maxima are replaced by their mean position. The tolerance, 15 of 640 pixels, is the published one.

    With labeled points instead of a mask, the value is whether the labeled point with the highest score is on the
    object, without a tolerance. Of several equal maxima, it is the share of those on the object.

    Range:
        0 or 1; with labeled points and equal maxima, 0 to 1

    Use it when:
        You want a number that is easy to read and to compare with publications.

    Avoid it when:
        You need more than one pixel of the map. The tolerance helps coarse grids, and the control ``center`` does well
        on photographs.

    Source:
        Zhang et al., IJCV 2018

    Args:
        tolerance: The largest distance of a hit from the mask, as a share of the longer side.
    """

    tolerance: ClosedShare = 15 / 640

    def __call__(self, metric_input: MetricInput) -> PerExample:
        return on_masks_or_points(
            metric_input,
            lambda scores, mask: hit(scores, mask, self.tolerance),
            lambda scores, inside: float(inside[scores == scores.max()].double().mean()),
        )


@dataclass(frozen=True)
class NounPointing(NounMetric, name="noun_pointing"):
    """Noun pointing: the share of nouns whose map peaks on their own object.

    The map of a noun is the sum of the rows of its words, resized bilinearly to the pixels. Equal maxima are replaced
    by their mean position. The tolerance is that of ``pointing_game``.

    Use it when:
        The images have several objects, all named, so that a map of all of them fails.

    Avoid it when:
        Only the sizes of the entries matter to you.

    Source:
        Zhang et al., IJCV 2018, for each noun

    Args:
        tolerance: The largest distance of a hit from the mask, as a share of the longer side.
    """

    tolerance: ClosedShare = 15 / 640

    def number(self, pixels: PixelMap, noun: Noun) -> float:
        return hit(pixels, noun.mask, self.tolerance)
