"""Pictures of a part: the images in which it has the largest shares, and some at random."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from nibt.data.images import Region
from nibt.data.pair import Pair
from nibt.evaluation.cells import cell_pixels
from nibt.report.image.layout import uri
from nibt.results.parts import Crop

_LARGEST = 8
_RANDOM = 4
_SIDE = 128  # of a picture, in pixels
_PALE = 0.75  # the share of white beside the part
_MARGIN = 0.5  # around the box of a crop, in cells


def gallery(
    pairs: Sequence[Pair],
    grids: Mapping[int, np.ndarray],
    shares: Mapping[int, float],
    regions: Sequence[Region],
    draws: np.random.Generator,
) -> tuple[Crop, ...]:
    """Return pictures of a part.

    Args:
        pairs: The pairs.
        grids: For each image that has the part, by the position of its pair, whether each cell belongs to it.
        shares: The share of the positive score of these images on the part.
        regions: The part of each image that the grid covers.
        draws: Draws the images at random.
    """
    by_share = sorted(shares, key=lambda item: (-shares[item], item))
    largest = by_share[:_LARGEST]
    others = by_share[_LARGEST:]
    drawn = sorted(draws.permutation(others)[:_RANDOM].tolist())
    return tuple(
        _crop(item, pairs[item], grids[item], shares[item], regions[item], item in drawn) for item in [*largest, *drawn]
    )


def _crop(item: int, pair: Pair, grid: np.ndarray, share: float, region: Region, is_random: bool) -> Crop:
    image = pair.image.pil_image
    box = _box(_largest_group(grid), region, image.size)
    return Crop(
        pair=item,
        source=pair.image.source,
        caption=pair.caption,
        box=box,
        share=share,
        is_random=is_random,
        crop=uri(_enlarged(image, box, region, grid.shape), "JPEG", quality=88),
        image=uri(_paled(image, grid, region), "JPEG", quality=88),
    )


def _largest_group(grid: np.ndarray) -> np.ndarray:
    """Return the largest group of cells that touch each other, at corners, too."""
    labelled: Any = ndimage.label(grid, np.ones((3, 3)))
    groups = labelled[0]
    sizes = np.bincount(groups.ravel())
    return groups == 1 + int(sizes[1:].argmax())


def _box(group: np.ndarray, region: Region, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return left, top, width and height of cells in pixels of the image."""
    rows, columns = np.nonzero(group)
    first = cell_pixels(region, group.shape, int(rows.min()), int(columns.min()))
    last = cell_pixels(region, group.shape, int(rows.max()), int(columns.max()))
    left = min(first[1].start, size[0] - 1)
    top = min(first[0].start, size[1] - 1)
    right = min(last[1].stop, size[0])
    bottom = min(last[0].stop, size[1])
    return left, top, max(1, right - left), max(1, bottom - top)


def _enlarged(
    image: Image.Image, box: tuple[int, int, int, int], region: Region, shape: tuple[int, ...]
) -> Image.Image:
    """Return a box of an image with a margin, enlarged."""
    left, top, width, height = box
    across = _MARGIN * region.width / shape[1]
    down = _MARGIN * region.height / shape[0]
    place = (
        max(0, round(left - across)),
        max(0, round(top - down)),
        min(image.width, round(left + width + across)),
        min(image.height, round(top + height + down)),
    )
    return _fitted(image.crop(place))


def _paled(image: Image.Image, grid: np.ndarray, region: Region) -> Image.Image:
    """Return an image that is pale beside some cells."""
    pixels = np.array(image)
    pale = (pixels * (1 - _PALE) + 255 * _PALE).astype(np.uint8)
    for row, column in np.argwhere(grid).tolist():
        place = cell_pixels(region, grid.shape, row, column)
        pale[place] = pixels[place]
    return _fitted(Image.fromarray(pale))


def _fitted(image: Image.Image) -> Image.Image:
    """Return an image whose longer side has the size of pictures."""
    scale = _SIDE / max(image.size)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.LANCZOS)
