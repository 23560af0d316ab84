"""The region of an image that a model sees after it resizes and crops.

Maps are drawn on the original, so resizing and cropping must be inverted. Each way of resizing is a pure function of
the image size, and returns the visible region.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from nibt.data.images import Region

Way = Literal["shortest", "longest", "corner", "squash", "whole"]


@dataclass(frozen=True)
class Resize:
    """How a model resizes an image to ``height`` x ``width`` pixels.

    Attributes:
        way: One of five ways. ``shortest`` resizes the shorter side to ``edge``, or as little as fills all pixels, and
            crops the center (CLIP). ``longest`` fits the longer side and pads the rest, evenly. ``corner`` pads at the
            right and below (OWLv2). ``squash`` resizes both sides without keeping the aspect ratio (SigLIP), to
            ``edge`` if that is not 0, and crops the center (ALIGN). ``whole`` keeps the whole image and its aspect
            ratio, with sides that are multiples of ``multiple`` and about the area of ``height`` x ``width``; it is for
            towers that take any size.
        edge: The size of the shorter side, or of both, before cropping; 0 for the smallest that fills all pixels.
        multiple: The number of which the sides of whole images are multiples.

    """

    way: Way
    height: int
    width: int
    edge: int = 0
    multiple: int = 1

    def size(self, image: tuple[int, int]) -> tuple[int, int]:
        """Return the width and the height of the tower's input for an image of that width and height."""
        if self.way != "whole":
            return self.width, self.height
        # the aspect ratio is limited to 8, since the short side of a longer strip would vanish
        aspect = min(8.0, max(1 / 8, image[0] / image[1]))
        area = self.height * self.width
        sides = (area * aspect) ** 0.5, (area / aspect) ** 0.5
        width, height = (max(1, round(side / self.multiple)) * self.multiple for side in sides)
        return width, height

    def region(self, image: tuple[int, int]) -> Region:
        """Return the part of the original that the tower sees."""
        width, height = image
        if self.way == "squash" and self.edge:
            across, down = width * self.width / self.edge, height * self.height / self.edge
            return Region((width - across) / 2, (height - down) / 2, across, down)
        if self.way in ("squash", "whole"):
            return Region(0.0, 0.0, float(width), float(height))
        scale = self._scale(image)
        visible_width, visible_height = self.width / scale, self.height / scale
        if self.way == "corner":
            return Region(0.0, 0.0, visible_width, visible_height)
        return Region((width - visible_width) / 2, (height - visible_height) / 2, visible_width, visible_height)

    def _scale(self, image: tuple[int, int]) -> float:
        """Return the number of input pixels per image pixel, for ways that keep the aspect ratio."""
        if self.way == "shortest" and self.edge:
            return self.edge / min(image)
        across, down = self.width / image[0], self.height / image[1]
        return max(across, down) if self.way == "shortest" else min(across, down)

    def cropped(self, image: tuple[int, int], share: float = 0.01) -> bool:
        """Return whether more than a share of the image is cropped along either axis."""
        visible = self.region(image)
        return visible.width < (1 - share) * image[0] or visible.height < (1 - share) * image[1]

    def strip_box(self, image: tuple[int, int], beyond: int = 0) -> tuple[int, int, int, int] | None:
        """Return the center of a long strip as (left, top, right, bottom); None if the whole image can be resized.

        Resizing a 20,000 x 10 image would create an image of 448,000 x 224 pixels, of which only the center is used.
        A margin is kept, so that resampling near the edge has its neighbors.
        """
        width, height = image
        if self.way != "shortest" or max(width, height) <= 8 * min(width, height):
            return None
        visible = self.region(image)
        margin = (4 + beyond) / self._scale(image) + 4
        least = min(image)  # the shorter side stays the shorter one and keeps its length
        keep_width = min(width, max(least, 2 * round((visible.width / 2) + margin) + width % 2))
        keep_height = min(height, max(least, 2 * round((visible.height / 2) + margin) + height % 2))
        left, top = (width - keep_width) // 2, (height - keep_height) // 2
        return left, top, left + keep_width, top + keep_height

    def reduced_size(self, image: tuple[int, int]) -> tuple[int, int] | None:
        """Return the size to which a strip is resized first if its short side would vanish; else None."""
        if self.way != "longest":
            return None
        sides = [side * self._scale(image) for side in image]
        return (max(1, round(sides[0])), max(1, round(sides[1]))) if min(sides) < 1 else None


def height_and_width(size: Any) -> tuple[int, int]:
    """Return the height and the width of a size that is one number or two."""
    height, width = size if isinstance(size, Sequence) else (size, size)
    return int(height), int(width)
