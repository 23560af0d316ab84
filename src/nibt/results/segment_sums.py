"""Sums of the scores of a map on the segments of its image."""

import numpy as np
from jaxtyping import Float64

from nibt.data.images import Region
from nibt.errors import BadInput


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

    # each pixel has an equal share of the score of its cell; a cell without pixels gives nothing to any segment
    shares = grid.flatten() / np.maximum(np.bincount(cells[seen], minlength=grid.size), 1)
    return np.bincount(labels[seen], weights=shares[cells[seen]], minlength=int(labels.max()) + 1)


def _cells(start: float, length: float, size: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the cell of each pixel along an axis, and whether the pixel is outside of the region."""
    cells = np.floor((np.arange(size) + 0.5 - start) / length * count).astype(int)
    return cells.clip(0, count - 1), (cells < 0) | (cells >= count)
