"""Numbers that several metrics are computed from."""

import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from nibt.data.ground_truth import PixelMask
from nibt.metrics.base import MetricInput, PixelMap, on_masks
from nibt.results.pixels import to_pixels
from nibt.types import PerExample


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Return a ratio of sums; NaN where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full(denominator.shape, np.nan), where=denominator > 0)


def known_mean(values: np.ndarray) -> np.ndarray:
    """Return the means over the last dimension without NaN; NaN if there is nothing else."""
    is_known = ~np.isnan(values)
    return ratio(np.where(is_known, values, 0).sum(-1), is_known.sum(-1))


def on_masks_or_points(
    metric_input: MetricInput,
    on_mask: Callable[[PixelMap, PixelMask], float],
    on_points: Callable[[Float[Tensor, " point"], Bool[Tensor, " point"]], float],
) -> PerExample:
    """Apply ``on_mask`` as ``on_masks`` does, or, where there is no mask, ``on_points`` to the map at labeled points.

    Args:
        metric_input: The input of the metric.
        on_mask: A function of the map and the mask.
        on_points: A function of the scores at the labeled points, and of whether each point is on a named object. It is
            called if there are points of both kinds.
    """
    values = on_masks(metric_input, on_mask)
    for item, truth in enumerate(metric_input.truths):
        inside = torch.tensor([point.inside for point in truth.points], dtype=torch.bool)
        if truth.mask is None and inside.any() and not inside.all():
            pixels = to_pixels(metric_input.attribution[item].grid, *truth.extent).cpu()
            rows, columns = ([int(point[axis]) for point in truth.points] for axis in (1, 0))
            values[item] = on_points(pixels[rows, columns], inside)

    return values


def rank_correlation(first: Float[Tensor, " entry"], second: Float[Tensor, " entry"]) -> float:
    """Return Spearman's correlation, where equal entries have their mean rank; NaN if either tensor is constant."""
    ranks = _centered_ranks(first)
    other_ranks = _centered_ranks(second)
    lengths = float(ranks.norm() * other_ranks.norm())
    return float(ranks @ other_ranks) / lengths if lengths else torch.nan


def _centered_ranks(values: Float[Tensor, " entry"]) -> Float[Tensor, " entry"]:
    """Return ranks minus their mean."""
    _, inverse, counts = values.double().unique(return_inverse=True, return_counts=True)
    ranks = (counts.cumsum(0) - (counts.double() - 1) / 2)[inverse]
    return ranks - ranks.mean()


def average_precision(truth: np.ndarray, scores: np.ndarray) -> float:
    """Return the average precision of a ranking; NaN if the labels are all true or all false.

    It is the mean, over the true entries, of the precision among all entries with at least as high a score.
    """
    if truth.all() or not truth.any():
        return math.nan

    order = np.argsort(-scores, kind="stable")
    counts = truth[order].cumsum()  # of true entries so far
    ranked = scores[order]
    ends = np.flatnonzero(np.append(ranked[1:] != ranked[:-1], True))  # of each run of equal scores
    precisions = counts[ends] / (ends + 1)
    gains = np.diff(counts[ends], prepend=0)
    return float((gains * precisions).sum() / counts[-1])


def area_under_roc(truth: np.ndarray, scores: np.ndarray) -> float:
    """Return the probability that a true entry has a higher score than a false one; NaN without one of both.

    Equal scores count one half.
    """
    if truth.all() or not truth.any():
        return math.nan

    ranks = _centered_ranks(torch.from_numpy(scores)).numpy()
    return float(0.5 + (ranks[truth].mean() - ranks[~truth].mean()) / len(truth))
