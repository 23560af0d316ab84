"""Maps over the original photograph; parts outside the model's view are striped, and 0 in map files."""

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from PIL import Image, ImageFilter
from torch import Tensor

from nibt.data.images import Region
from nibt.report.colors import DEFAULT, INK, OUTLINED, PAPER, Appearance, faded, on_paper, strength, tint
from nibt.results.attribution import ImageAttribution
from nibt.results.explanation import Explanation
from nibt.results.map_regions import threshold_mask
from nibt.results.pixels import over_image, placed

STRIPES = (215, 235)  # gray values outside of the model's view
STRIPED = 0.75  # their opacity
SPECK = 0.35  # the blur that removes small parts of outlined masks, in units of the map
SOFT = 1.2  # the blur of outlines, in pixels
# half the widths of an outline's line and of its edge, as shares of the blurred mask
WHITE = 0.27
DARK = 0.45
_FINE = 8  # how many pixels a cell of a part has along each side
FINER = 2  # how many pixels of a mask a pixel has along each side


@dataclass(frozen=True)
class GridMap:
    """A map on the region of an image that it covers.

    Attributes:
        grid: The scores.
        region: The part of the image that they cover.
        size: The width and height of the image.
        error: The errors of the scores, if they are estimates.
        part: The cells of a part that decides, which is outlined instead of high scores.
    """

    grid: Float[Tensor, "row column"]
    region: Region
    size: tuple[int, int]
    error: Float[Tensor, "row column"] | None = None
    part: Bool[Tensor, "row column"] | None = None


Mapped: TypeAlias = Explanation | ImageAttribution | GridMap


def score_map(mapped: Mapped, size: tuple[int, int] | None = None) -> np.ndarray:
    """Return signed scores (height, width) over a copy of the image of that size, 0 outside the model's view."""
    return over_image(mapped.grid, mapped.region, mapped.size, size)


def overlay(mapped: Mapped, image: Image.Image, look: Appearance = DEFAULT, most: float | None = None) -> Image.Image:
    """Draw the map over a copy of the image of any size, with the outline of its high scores or of what decides."""
    scores = score_map(_drawn(mapped), image.size)
    shared = most is not None
    most = float(mapped.grid.abs().max()) if most is None else most
    share = strength(scores.clip(0) if look.positive_only else scores, most)
    drawn = image
    if look.style != "outline":
        gray = np.asarray(image.convert("L"))
        colored = on_paper(share, look.palette) if look.style == "heatmap" else tint(gray, share, look.palette)
        drawn = Image.fromarray(colored)

    if look.outlined:
        across = mapped.region.width / mapped.grid.shape[1] * image.width / mapped.size[0]
        part = _part(mapped)
        if part is None:
            # colors end at the largest absolute score, and an outline refers to the largest positive one
            highest = most if shared else float(mapped.grid.max())
            drawn = outlined(drawn, strength(scores, highest), across)
        else:  # whose edges are those of cells, also of single ones
            fine = F.interpolate(part[None, None].float(), scale_factor=_FINE)[0, 0]
            drawn = outlined(drawn, score_map(GridMap(fine, mapped.region, mapped.size), image.size), across / _FINE)

    return _unseen(mapped, drawn)


def _part(mapped: Mapped) -> Bool[Tensor, "row column"] | None:
    """Return the cells of a part that decides, if there is one."""
    if isinstance(mapped, Explanation):
        return None if mapped.decisive is None else mapped.decisive.cells
    return mapped.part if isinstance(mapped, GridMap) else None


def _drawn(mapped: Mapped) -> Mapped:
    """Return a map as it is drawn: pale where scores cannot be told from 0."""
    error = mapped.image.error if isinstance(mapped, Explanation) else mapped.error
    if error is None:
        return mapped
    grid = torch.from_numpy(faded(mapped.grid.numpy(), error.numpy()))
    return GridMap(grid, mapped.region, mapped.size)


def outlined(image: Image.Image, share: np.ndarray, unit: float) -> Image.Image:
    """Draw a white line with a dark edge where a map passes ``OUTLINED``."""
    size = FINER * image.width, FINER * image.height
    fine_share = Image.fromarray(share.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    inside = np.asarray(fine_share) >= OUTLINED

    # the blur of a mask is below one half on parts that are much smaller than the blur
    large = _blurred(inside, SPECK * unit * FINER) >= 0.5
    if not large.any():
        return image

    # a blurred edge rises evenly through one half, so values near it are a line of even width
    distance = np.abs(_blurred(large, SOFT * FINER) - 0.5)
    for width, color in ((DARK, INK), (WHITE, PAPER)):
        line = Image.fromarray((distance < width).astype(np.uint8) * 255).resize(image.size, Image.Resampling.BOX)
        image = Image.composite(Image.new("RGB", image.size, color), image, line)

    return image


def _blurred(mask: np.ndarray, radius: float) -> np.ndarray:
    blurred = Image.fromarray(mask.astype(np.uint8) * 255).filter(ImageFilter.GaussianBlur(radius))
    return np.asarray(blurred, np.float32) / 255


def _unseen(mapped: Mapped, image: Image.Image) -> Image.Image:
    """Draw stripes outside the model's view."""
    left, top, right, bottom = placed(mapped.region, mapped.size, image.size)
    if left <= 0 and top <= 0 and right >= image.width and bottom >= image.height:
        return image

    row, column = np.indices((image.height, image.width))
    stripes = np.where((row + column) // 6 % 2, *reversed(STRIPES)).astype(np.uint8)
    hidden = Image.blend(image.convert("L").filter(ImageFilter.GaussianBlur(2)), Image.fromarray(stripes), STRIPED)
    hidden = hidden.convert("RGB")
    box = max(0, left), max(0, top), min(image.width, right), min(image.height, bottom)
    hidden.paste(image.crop(box), box[:2])
    return hidden


def map_image(mapped: Mapped, positive_only: bool = False) -> Image.Image:
    """Draw the map alone in gray: 128 is zero, 255 the largest absolute score; with ``positive_only`` 0 is zero."""
    share = strength(score_map(mapped), float(mapped.grid.abs().max()))
    gray = share.clip(0) * 255 if positive_only else 128 + share * 127
    return Image.fromarray(np.round(gray).astype(np.uint8))


def mask_image(mapped: Mapped, threshold: float = 0.5) -> Image.Image:
    """Draw white where the score is at least ``threshold`` of the largest positive score, and black elsewhere."""
    mask = threshold_mask(score_map(mapped), float(mapped.grid.max()), threshold)
    return Image.fromarray(np.where(mask, 255, 0).astype(np.uint8))
