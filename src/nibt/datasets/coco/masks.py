"""COCO's masks: polygons, and runs in columns (run-length encoding, RLE), as (height, width) arrays of booleans."""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np

from nibt.errors import BadInput, Unsupported


def decoded(outline: Any, size: tuple[int, int], where: str) -> np.ndarray:
    """The mask of an annotation on an image of that width and height.

    Raises:
        BadInput: It is no list of polygons and no RLE, or of another size.
        Unsupported: Its runs are compressed, and pycocotools is not installed.

    """
    width, height = size
    if isinstance(outline, dict):
        return _runs(outline, (height, width), where)
    mask = np.zeros((height, width), bool)
    for polygon in outline:
        points = np.asarray(polygon, float)
        if points.ndim != 1 or len(points) < 6 or len(points) % 2 or not np.isfinite(points).all():
            raise BadInput(f"{where}: a polygon is a list of x and y of three points or more (got {polygon})")
        mask |= inside(points.reshape(-1, 2), (height, width))
    return mask


def inside(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """True on the pixels whose centres lie in a polygon: points (point, 2) of x and y, pixel i running from i to i + 1.

    Pillow's drawing would paint the outline, too, half a pixel more on every side: a quarter more of a square of 8
    pixels. So for each row the edges that cross its middle are found, and a pixel is inside where an odd number of them
    lies to its left. That is COCO's own decoder to within the pixels on the outline.
    """
    height, width = shape
    (left, top), (right, bottom) = points.T[:, :, None], np.roll(points, -1, 0).T[:, :, None]
    middles = np.arange(height) + 0.5
    crossing = (top <= middles) != (bottom <= middles)  # edge, row; a flat edge crosses nothing
    rise = np.where(bottom == top, 1, bottom - top)
    across = left + (middles - top) * (right - left) / rise
    edge, row = np.nonzero(crossing)
    column = np.clip(np.ceil(across[edge, row] - 0.5), 0, width).astype(int)  # the first pixel right of the edge
    crossed = np.zeros((height, width + 1), int)
    np.add.at(crossed, (row, column), 1)
    return crossed[:, :width].cumsum(1) % 2 == 1


def _runs(outline: dict[str, Any], shape: tuple[int, int], where: str) -> np.ndarray:
    if list(outline["size"]) != list(shape):
        raise BadInput(
            f"{where}: the mask is of an image of {outline['size']} (height, width), and it has {list(shape)}"
        )
    if isinstance(outline["counts"], str | bytes):
        return _compressed(outline, where)
    counts: Sequence[int] = outline["counts"]
    if min(counts, default=-1) < 0 or sum(counts) != shape[0] * shape[1]:
        raise BadInput(
            f"{where}: the runs of a mask must add up to its {shape[0] * shape[1]} pixels (got {sum(counts)})"
        )
    values = np.arange(len(counts)) % 2 == 1  # the first run is of what is outside
    return np.repeat(values, counts).reshape(shape, order="F")


def _compressed(outline: dict[str, Any], where: str) -> np.ndarray:
    try:
        tool = import_module("pycocotools.mask")
    except ImportError as error:
        raise Unsupported(
            f"{where}: the runs of this mask are compressed, which needs pycocotools: pip install "
            "'nibt[data]', or leave objects out (objects=False)"
        ) from error
    counts = outline["counts"]
    encoded = {**outline, "counts": counts.encode() if isinstance(counts, str) else counts}
    return tool.decode(encoded).astype(bool)
