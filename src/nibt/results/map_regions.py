"""Regions of a map above a threshold, as masks and as connected parts."""

from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float32

from nibt.options import Share, parsed

PixelScores: TypeAlias = Float32[np.ndarray, "height width"]
PixelMask: TypeAlias = Bool[np.ndarray, "height width"]
Ring: TypeAlias = tuple[tuple[int, int], ...]
"""The corners (x, y) of a closed line along the edges of pixels; the last corner is connected to the first one."""


@dataclass(frozen=True, eq=False)
class MapRegion:
    """A connected part of a map whose scores are above a threshold.

    Pixels are connected by their edges, not by their corners. All coordinates are pixels of the upright image; the
    pixel (x, y) covers the square from (x, y) to (x + 1, y + 1).

    Attributes:
        box: Left, top, width and height of the smallest box that contains the region.
        peak: The pixel (x, y) with the largest score.
        score: The signed score at the peak.
        area: The number of pixels.
        outlines: The outer outline, followed by the outlines of holes.
        mask: True for the pixels of the region: (height, width) of the image.
    """

    box: tuple[int, int, int, int]
    peak: tuple[int, int]
    score: float
    area: int
    outlines: tuple[Ring, ...] = field(repr=False)
    mask: PixelMask = field(repr=False)


def check_threshold(threshold: float) -> float:
    """Return a threshold, a share of the largest positive score, as a number."""
    return parsed("threshold", threshold, Share)


def threshold_mask(scores: PixelScores, largest: float, threshold: float) -> PixelMask:
    """Return where scores reach ``threshold`` times the largest score of the map; False if it is not positive.

    The scores of pixels may all be below the largest one, which is that of a cell: then the highest pixels reach it.
    """
    threshold = check_threshold(threshold)
    highest = float(np.fmax.reduce(scores, axis=None))  # pixels outside of the map are NaN
    return (scores >= min(threshold * largest, highest)) & (scores > 0) & (largest > 0)
