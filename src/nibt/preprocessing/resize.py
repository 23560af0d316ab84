"""Where on the upright original the pixels lie that a model sees.

Models resize and crop before they look. A map is only true on the original if both are undone, so each way of
fitting an image is a pure function of its size, and gives the region that was seen.
"""

from dataclasses import dataclass
from typing import Literal

from nibt.data.images import Region

Way = Literal["shortest", "longest", "squash", "whole"]


@dataclass(frozen=True)
class Resize:
    """How a model fits an image into ``height`` x ``width`` pixels.

    * shortest: the shorter side is resized to ``edge``, or without one as small as covers all pixels, then the
      middle is cut out (CLIP)
    * longest: the longer side fits, the rest is padded
    * squash: both sides are resized, the aspect is lost (SigLIP)
    * whole: nothing is cut and the aspect is kept; sides are multiples of ``multiple``, the area is about that
      of ``height`` x ``width`` (for towers that take any size)
    """

    way: Way
    height: int
    width: int
    edge: int = 0
    multiple: int = 1

    def size(self, image: tuple[int, int]) -> tuple[int, int]:
        """Width and height of what the tower is given for an image of that width and height."""
        return self._whole(image) if self.way == "whole" else (self.width, self.height)

    def _whole(self, image: tuple[int, int]) -> tuple[int, int]:
        # a ribbon of an image would shrink to nothing on its short side: past 8 to 1 the aspect gives way
        aspect = min(8.0, max(1 / 8, image[0] / image[1]))
        area = self.height * self.width
        sides = (area * aspect) ** 0.5, (area / aspect) ** 0.5
        width, height = (max(1, round(side / self.multiple)) * self.multiple for side in sides)
        return width, height

    def region(self, image: tuple[int, int]) -> Region:
        """The part of the original that the tower sees."""
        width, height = image
        if self.way in ("squash", "whole"):
            return Region(0.0, 0.0, float(width), float(height))
        scale = self._scale(image)
        seen_width, seen_height = self.width / scale, self.height / scale
        return Region((width - seen_width) / 2, (height - seen_height) / 2, seen_width, seen_height)

    def _scale(self, image: tuple[int, int]) -> float:
        """How many pixels of the model's one of the image becomes, where the aspect is kept."""
        if self.way == "shortest" and self.edge:
            return self.edge / min(image)
        across, down = self.width / image[0], self.height / image[1]
        return max(across, down) if self.way == "shortest" else min(across, down)

    def cropped(self, image: tuple[int, int]) -> bool:
        """Whether a visible part of the image is cut off (more than a hundredth of it)."""
        part = self.region(image)
        return part.width < 0.99 * image[0] or part.height < 0.99 * image[1]

    def trimmed(self, image: tuple[int, int]) -> tuple[int, int, int, int] | None:
        """The middle of a ribbon, as (left, top, right, bottom), or None where the whole may be resized.

        Resizing the short side of a 20,000 x 10 image would make an image of 448,000 x 224 pixels, to cut
        out its middle. A margin is kept so that the resampling near the edge sees its neighbours.
        """
        width, height = image
        if self.way != "shortest" or max(width, height) <= 8 * min(width, height):
            return None
        part = self.region(image)
        margin = 4 / self._scale(image) + 4
        least = min(image)  # the shorter side stays the shorter one, and as long as it is
        keep_width = min(width, max(least, 2 * round((part.width / 2) + margin) + width % 2))
        keep_height = min(height, max(least, 2 * round((part.height / 2) + margin) + height % 2))
        left, top = (width - keep_width) // 2, (height - keep_height) // 2
        return left, top, left + keep_width, top + keep_height

    def shrunk(self, image: tuple[int, int]) -> tuple[int, int] | None:
        """The size to resize a ribbon to beforehand, if its short side would shrink to nothing; else None."""
        if self.way != "longest":
            return None
        sides = [side * self._scale(image) for side in image]
        return (max(1, round(sides[0])), max(1, round(sides[1]))) if min(sides) < 1 else None
