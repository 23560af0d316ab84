"""Regions of a map: its connected parts above a threshold, with their boxes, peaks, outlines and masks."""

from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from jaxtyping import Bool, Float32, Float64

from nibt.data.images import Region
from nibt.errors import BadInput
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


def map_regions(scores: PixelScores, mask: PixelMask) -> list[MapRegion]:
    """Return the connected parts of a mask, those with the largest scores first."""
    from scipy.ndimage import label

    labels, count = label(mask)  # pyright: ignore[reportGeneralTypeIssues]
    regions: list[MapRegion] = []
    for number in range(1, count + 1):
        connected: PixelMask = labels == number
        rows = np.flatnonzero(connected.any(1)).tolist()
        columns = np.flatnonzero(connected.any(0)).tolist()
        box = columns[0], rows[0], columns[-1] + 1 - columns[0], rows[-1] + 1 - rows[0]
        y, x = map(int, np.unravel_index(np.where(connected, scores, -np.inf).argmax(), connected.shape))
        regions.append(
            MapRegion(
                box,
                (x, y),
                score=float(scores[y, x]),
                area=int(connected.sum()),
                outlines=outlines(connected),
                mask=connected,
            )
        )

    return sorted(regions, key=lambda region: -region.score)


def outlines(mask: PixelMask) -> tuple[Ring, ...]:
    """Return the lines around the pixels of a mask, along the edges of pixels.

    Outer outlines are clockwise on a screen, where y points down, and those of holes are counterclockwise. The outer
    outline of a connected mask comes first.

    Examples:
        >>> outlines(np.array([[False, True, True], [False, True, True]]))
        (((1, 0), (3, 0), (3, 2), (1, 2)),)
    """
    directions = _edges(np.pad(mask, 1))
    rings = []
    while directions:
        start = min(directions, key=lambda point: point[::-1])
        ring = []
        point = start
        direction = (1, 0)
        while point in directions:
            turns = directions[point]
            # at a corner that two pixels share, the right turn stays on the pixel, as pixels are connected by edges
            new = min(turns, key=lambda turn: turn != (-direction[1], direction[0]))
            turns.remove(new)
            if not turns:
                del directions[point]
            if new != direction or not ring:
                ring.append(point)
            point = (point[0] + new[0], point[1] + new[1])
            direction = new

        rings.append(tuple(ring))

    return tuple(rings)


def _edges(padded: PixelMask) -> dict[tuple[int, int], list[tuple[int, int]]]:
    """Return the edges of a padded mask that separate it from the rest: by corner, the directions in which they go."""
    inside = padded[1:-1, 1:-1]
    sides = (  # the direction of an edge, its first corner from the top left of the pixel, and the pixel across
        ((1, 0), (0, 0), padded[:-2, 1:-1]),
        ((0, 1), (1, 0), padded[1:-1, 2:]),
        ((-1, 0), (1, 1), padded[2:, 1:-1]),
        ((0, -1), (0, 1), padded[1:-1, :-2]),
    )
    directions: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for direction, (right, down), across in sides:
        for y, x in np.argwhere(inside & ~across).tolist():
            directions.setdefault((x + right, y + down), []).append(direction)

    return directions


def segment_sums(
    grid: Float64[np.ndarray, "row column"], region: Region, size: tuple[int, int], labels: object
) -> Float64[np.ndarray, " segment"]:
    """Return the sum of the scores of a grid on each segment of an image."""
    width, height = size
    labels = np.asarray(labels)
    if labels.shape != (height, width) or labels.dtype.kind not in "iu" or labels.min() < 0:
        raise BadInput(
            f"labels must be whole numbers with the size of the image, {height} x {width} (height x width), from 0 "
            f"(got {' x '.join(map(str, labels.shape)) or 'one value'} of {labels.dtype})"
        )
    if labels.max() >= labels.size:
        raise BadInput(
            f"labels must be below the number of pixels, {labels.size} (got {labels.max()}): number the segments "
            "from 0, as numpy.unique with return_inverse does"
        )

    down, outside_down = _cells(region.top, region.height, height, grid.shape[0])
    across, outside_across = _cells(region.left, region.width, width, grid.shape[1])
    cells = down[:, None] * grid.shape[1] + across[None]
    seen = ~(outside_down[:, None] | outside_across[None])
    shares = grid.flatten() / np.maximum(np.bincount(cells[seen], minlength=grid.size), 1)
    return np.bincount(labels[seen], weights=shares[cells[seen]], minlength=int(labels.max()) + 1)


def _cells(start: float, length: float, size: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the cell of each pixel along an axis, and whether the pixel is outside of the region."""
    cells = np.floor((np.arange(size) + 0.5 - start) / length * count).astype(int)
    return cells.clip(0, count - 1), (cells < 0) | (cells >= count)
