"""Decoding of COCO's masks, which are polygons or run-length encoded (RLE), to boolean arrays (height, width)."""

from collections.abc import Sequence
from importlib import import_module
from operator import index
from typing import Any

import numpy as np

from nibt.errors import BadInput, Unsupported, install
from nibt.records import JsonObject


def decoded(outline: Any, size: tuple[int, int], where: str) -> np.ndarray:
    """Decode the mask of an object."""
    width, height = size
    if isinstance(outline, dict):
        return _runs(outline, (height, width), where)
    mask = np.zeros((height, width), bool)
    for polygon in outline:
        try:
            points = np.asarray(polygon, float)
        except (TypeError, ValueError):
            points = np.zeros(0)
        if points.ndim != 1 or len(points) < 6 or len(points) % 2 or not np.isfinite(points).all():
            raise BadInput(f"{where}: a polygon must have x and y of at least three points (got {polygon})")
        mask |= inside(points.reshape(-1, 2), (height, width))
    return mask


def inside(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return a mask of the pixels whose centers are inside a polygon.

    Pillow's drawing would also fill the outline, which adds half a pixel on every side. Here, a pixel is inside if an
    odd number of edges crosses its row to the left of its center. The result equals that of COCO's decoder, except for
    pixels on the outline.
    """
    height, width = shape
    (left, top), (right, bottom) = points.T[:, :, None], np.roll(points, -1, 0).T[:, :, None]
    middles = np.arange(height) + 0.5
    crossing = (top <= middles) != (bottom <= middles)  # (edge, row); horizontal edges do not cross
    rise = np.where(bottom == top, 1, bottom - top)
    across = left + (middles - top) * (right - left) / rise
    edge, row = np.nonzero(crossing)
    column = np.clip(np.ceil(across[edge, row] - 0.5), 0, width).astype(int)  # the first pixel right of the edge
    crossed = np.zeros((height, width + 1), int)
    np.add.at(crossed, (row, column), 1)
    return crossed[:, :width].cumsum(1) % 2 == 1


def _runs(outline: JsonObject, shape: tuple[int, int], where: str) -> np.ndarray:
    size = outline["size"]
    if not isinstance(size, Sequence | np.ndarray) or list(size) != list(shape):
        raise BadInput(f"{where}: the mask must have the size of the image, {list(shape)} (height, width; got {size})")
    if isinstance(outline["counts"], str | bytes):
        return _compressed(outline, where)
    try:
        counts = [index(length) for length in outline["counts"]]
    except TypeError as error:
        raise BadInput(f"{where}: the runs of a mask must be whole numbers (got {outline['counts']!r:.60})") from error
    if min(counts, default=-1) < 0 or sum(counts) != shape[0] * shape[1]:
        raise BadInput(f"{where}: the runs of a mask must sum to its {shape[0] * shape[1]} pixels (got {sum(counts)})")
    values = np.arange(len(counts)) % 2 == 1  # the first run is outside of the mask
    return np.repeat(values, counts).reshape(shape, order="F")


def _compressed(outline: JsonObject, where: str) -> np.ndarray:
    try:
        tool = import_module("pycocotools.mask")
    except ImportError as error:
        raise Unsupported(
            f"{where}: a compressed mask needs pycocotools: {install('data')}, or leave objects out (objects=False)"
        ) from error
    counts = outline["counts"]
    encoded = {**outline, "counts": counts.encode() if isinstance(counts, str) else counts}
    try:
        return tool.decode(encoded).astype(bool)
    except ValueError as error:
        raise BadInput(f"{where}: the compressed runs of the mask cannot be decoded ({error})") from error
