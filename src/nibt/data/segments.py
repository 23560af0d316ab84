"""Segments of an image as units: superpixels, or the masks of a file."""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from nibt.data.images import open_image
from nibt.data.masks import decoded
from nibt.errors import BadInput
from nibt.io import load_json, open_bytes

Labels = Int[np.ndarray, "height width"]


def superpixels(pixels: Float[np.ndarray, "height width channel"], count: int) -> Labels:
    """Return the superpixels of an image (SLICO, Achanta et al., TPAMI 2012), numbered from 0."""
    segmentation = import_module("skimage.segmentation")
    low, high = pixels.min((0, 1)), pixels.max((0, 1))
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
        with open_bytes(path) as stream:
            return np.lib.format.read_array(stream, allow_pickle=False)
    with open_image(path, str(path)) as opened:
        return np.array(opened.convert("RGB") if opened.mode in ("RGBA", "CMYK") else opened)


def _of_masks(content: Any, size: tuple[int, int], name: str) -> Labels:
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
