"""The connected parts of a mask, with their boxes, peaks and outlines."""

import numpy as np

from nibt.results.map_regions import MapRegion, PixelMask, PixelScores, Ring


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
        # the topmost corner, and of these the leftmost: the outer outline has it, so it comes before those of holes
        point = min(directions, key=lambda corner: corner[::-1])
        ring = []
        direction = (1, 0)
        while point in directions:  # edges that were passed are removed, so a ring ends where it began
            turns = directions[point]

            # at a corner that two pixels share, the right turn stays on the pixel, as pixels are connected by edges
            new = min(turns, key=lambda turn: turn != (-direction[1], direction[0]))
            turns.remove(new)
            if not turns:
                del directions[point]

            # between two corners, the line goes on without a point
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
