"""The cells of a map in the pixels of its image, and images in which they are exchanged for those of another one."""

import numpy as np
from PIL import Image

from nibt.data.ground_truth import PixelMask, covered_share
from nibt.data.images import ImageInput, Region

_COVERED = 0.05  # a cell shows an object if it covers more than this share of it


def with_cells(image: ImageInput, donor: ImageInput, region: Region, is_exchanged: np.ndarray) -> ImageInput:
    """Return an image that has cells of another one, which is resized to its size.

    Args:
        image: The image, which stays as it is.
        donor: The image whose cells are taken.
        region: The part of the image that the cells cover.
        is_exchanged: Whether each cell is exchanged, rows x columns.
    """
    pixels = np.array(image.pil_image)
    of_donor = np.array(donor.pil_image.resize(image.size, Image.Resampling.BICUBIC))
    for row, column in np.argwhere(is_exchanged).tolist():
        place = cell_pixels(region, is_exchanged.shape, row, column)
        pixels[place] = of_donor[place]

    return ImageInput(Image.fromarray(pixels), f"{image.source}, changed")


def cells_with(mask: PixelMask, shape: tuple[int, ...]) -> np.ndarray:
    """Return whether each cell of a grid shows an object, of which this is the mask."""
    return covered_share(mask, shape).numpy() > _COVERED


def cell_pixels(region: Region, shape: tuple[int, ...], row: int, column: int) -> tuple[slice, slice]:
    """Return the pixels of a cell of a map."""
    tops = [max(0, round(region.top + region.height * line / shape[0])) for line in (row, row + 1)]
    lefts = [max(0, round(region.left + region.width * line / shape[1])) for line in (column, column + 1)]
    return slice(*tops), slice(*lefts)
