"""The tiles of a slide, and which of them are blank."""

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from PIL import Image

from nibt.errors import BadOption
from nibt.slides.reading import Slide

COLORLESS = 15
"""The largest difference between the channels of a blank pixel, of 255."""
BRIGHT = 200
"""A blank pixel has no channel below this number, or none above ``DARK``."""
DARK = 15
_MOST_TILES = 4_000_000
_OVERVIEW = 2048
"""The side of the overview of a slide, in pixels, unless its tiles have fewer or need more."""
_LEAST = 4
"""The fewest pixels of a tile along each side of the overview."""
_BLOCK = 1024
"""The largest side of a part of the overview that is read at once."""


@dataclass(frozen=True)
class Tiling:
    """Squares that cover a slide, row by row from its top left corner; the last ones extend past its edges.

    Attributes:
        size: Width and height of the slide, in pixels at full resolution.
        tile: The side of a tile, in pixels of what the model is given.
        downsample: How many pixels at full resolution one of these pixels has along each side, at least 1.
    """

    size: tuple[int, int]
    tile: int
    downsample: float

    def __post_init__(self) -> None:
        if self.rows * self.columns > _MOST_TILES:
            raise BadOption(
                f"a slide must have at most {_MOST_TILES:,} tiles (got {self.rows:,} x {self.columns:,}): choose a "
                "larger tile, or a lower magnification"
            )

    @property
    def extent(self) -> float:
        """The side of a tile in pixels at full resolution."""
        return self.tile * self.downsample

    @property
    def rows(self) -> int:
        """The number of rows of tiles."""
        return max(1, math.ceil(round(self.size[1] / self.extent, 6)))

    @property
    def columns(self) -> int:
        """The number of columns of tiles."""
        return max(1, math.ceil(round(self.size[0] / self.extent, 6)))

    def corner(self, row: int, column: int) -> tuple[int, int]:
        """Return left and top of a tile, in pixels at full resolution."""
        return round(column * self.extent), round(row * self.extent)

    def read(self, slide: Slide, row: int, column: int) -> Image.Image:
        """Return the image of a tile, a square; what is outside of the slide is white."""
        extent = max(1, round(self.extent))
        return slide.read(self.corner(row, column), (extent, extent), (self.tile, self.tile))


def overview(slide: Slide, tiling: Tiling) -> Image.Image:
    """Return a small image of all tiles, with a whole number of pixels per tile, read part by part."""
    side = min(tiling.tile, max(_LEAST, _OVERVIEW // max(tiling.rows, tiling.columns)))
    together = max(1, _BLOCK // side)
    small = Image.new("RGB", (side * tiling.columns, side * tiling.rows), "white")
    for row in range(0, tiling.rows, together):
        for column in range(0, tiling.columns, together):
            down = min(together, tiling.rows - row)
            across = min(together, tiling.columns - column)
            extent = max(1, round(across * tiling.extent)), max(1, round(down * tiling.extent))
            part = slide.read(tiling.corner(row, column), extent, (across * side, down * side))
            small.paste(part, (column * side, row * side))
    return small


def content_shares(small: Image.Image, tiling: Tiling) -> Float[np.ndarray, "tile_row tile_column"]:
    """Return the share of each tile's pixels in the overview that are not blank.

    A pixel is blank if it has no color (``COLORLESS``) and is bright, as glass is (``BRIGHT``), or black, as parts are
    that a scanner left out (``DARK``).
    """
    channels = np.asarray(small, np.uint8)
    most = channels.max(-1)
    least = channels.min(-1)
    blank = (most - least <= COLORLESS) & ((least >= BRIGHT) | (most <= DARK))
    side = small.width // tiling.columns
    tiles = blank.reshape(tiling.rows, side, tiling.columns, side)
    return 1 - tiles.mean((1, 3))
