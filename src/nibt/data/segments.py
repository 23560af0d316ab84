"""Segments of an image as units, superpixels or the masks of a file, and the decoding of COCO's masks."""

from collections.abc import Sequence
from importlib import import_module
from operator import index
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from nibt.data.images import open_image
from nibt.errors import BadInput, Unsupported, install
from nibt.io import check_regular, load_json
from nibt.records import JsonObject


def decoded(outline: JsonObject | list, size: tuple[int, int], where: str) -> np.ndarray:
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


Labels = Int[np.ndarray, "height width"]


def superpixels(pixels: Float[np.ndarray, "height width channel"], count: int) -> Labels:
    """Return the superpixels of an image (SLICO, Achanta et al., TPAMI 2012), numbered from 0."""
    segmentation = import_module("skimage.segmentation")
    low = pixels.min((0, 1))
    high = pixels.max((0, 1))
    scaled = (pixels - low) / np.where(high > low, high - low, 1)
    labels = segmentation.slic(scaled, n_segments=count, slic_zero=True, sigma=1, channel_axis=-1, start_label=0)
    return numbered(labels)


def read_segments(path: str | Path, size: tuple[int, int]) -> Labels:
    """Read the segments of an image from a file."""
    name = str(path)
    try:
        content = _content(Path(path))
    except (OSError, ValueError, EOFError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise BadInput(f"{name!r} cannot be read as segments ({reason}): give a label image, .npy or .json") from error

    labels = content if isinstance(content, np.ndarray) else _of_masks(content, size, name)
    if labels.ndim == 3 and labels.dtype.kind in "iub":  # a color for each segment
        flat = labels.reshape(-1, labels.shape[2])
        labels = np.unique(flat, axis=0, return_inverse=True)[1].reshape(labels.shape[:2])

    if labels.ndim != 2 or labels.dtype.kind not in "iub" or labels.shape != (size[1], size[0]):
        raise BadInput(
            f"{name!r}: segments must be whole numbers with the size of the image, {size[1]} x {size[0]} (height x "
            f"width; got {' x '.join(map(str, labels.shape)) or 'one number'} of {labels.dtype})"
        )
    return numbered(labels)


def _content(path: Path) -> Any:
    """Return the array of a label image or of an .npy file, or what a JSON file has."""
    suffix = path.suffix.lower()
    if suffix == ".json":
        return load_json(path)
    if suffix == ".npy":
        check_regular(path)
        return np.lib.format.open_memmap(path, mode="r")  # an array that is larger than its file is an error

    with open_image(path, str(path)) as opened:
        return np.array(opened.convert("RGB") if opened.mode in ("RGBA", "CMYK") else opened)


def _of_masks(content: object, size: tuple[int, int], name: str) -> Labels:
    """Return the labels of a list of masks; 0 is outside of all."""
    if not isinstance(content, list) or not content:
        raise BadInput(f"{name!r} must have a list of masks (got {content!r:.60})")

    labels = np.zeros((size[1], size[0]), int)
    for place, entry in enumerate(content):
        outline = entry.get("segmentation", entry) if isinstance(entry, dict) else entry
        if not isinstance(outline, dict | list) or (
            isinstance(outline, dict) and not {"size", "counts"} <= set(outline)
        ):
            raise BadInput(
                f"{name!r}: mask {place} must be an RLE with size and counts, or polygons (got {outline!r:.60})"
            )
        labels[decoded(outline, size, f"{name!r}, mask {place}")] = place + 1

    return labels


def numbered(labels: np.ndarray) -> Labels:
    """Return labels with the numbers from 0, in the order of their values."""
    return np.unique(labels, return_inverse=True)[1].reshape(labels.shape)
