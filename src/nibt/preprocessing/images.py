"""The pixels of an image, prepared with the model's processor or from the whole image."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from nibt.data.images import ImageInput, Region
from nibt.errors import BadInput
from nibt.torch_modes import float32_numbers

ImageProcessor: TypeAlias = Any
"""A processor of images of Transformers; its class decides what settings it has."""
Processor: TypeAlias = Any
"""A processor of images and texts, which has a processor of images, a tokenizer, and settings of its class."""

_MOST_PADDED = 8192  # a square of this side has 0.8 GB as float32


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

    way: Literal["shortest", "longest", "corner", "squash", "whole"]
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
            across = width * self.width / self.edge
            down = height * self.height / self.edge
            return Region((width - across) / 2, (height - down) / 2, across, down)
        if self.way in ("squash", "whole"):
            return Region(0.0, 0.0, float(width), float(height))

        scale = self._scale(image)
        visible_width = self.width / scale
        visible_height = self.height / scale
        if self.way == "corner":
            return Region(0.0, 0.0, visible_width, visible_height)
        return Region((width - visible_width) / 2, (height - visible_height) / 2, visible_width, visible_height)

    def _scale(self, image: tuple[int, int]) -> float:
        """Return the number of input pixels per image pixel, for ways that keep the aspect ratio."""
        if self.way == "shortest" and self.edge:
            return self.edge / min(image)
        across = self.width / image[0]
        down = self.height / image[1]
        return max(across, down) if self.way == "shortest" else min(across, down)

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
        left = (width - keep_width) // 2
        top = (height - keep_height) // 2
        return left, top, left + keep_width, top + keep_height

    def reduced_size(self, image: tuple[int, int]) -> tuple[int, int] | None:
        """Return the size to which a strip is resized first if its short side would vanish; else None."""
        width, height = (side * self._scale(image) if self.way == "longest" else 1.0 for side in image)
        return (max(1, round(width)), max(1, round(height))) if min(width, height) < 1 else None


def height_and_width(size: int | Sequence[int]) -> tuple[int, int]:
    """Return the height and the width of a size that is one number or two."""
    height, width = size if isinstance(size, Sequence) else (size, size)
    return int(height), int(width)


def crop_notes(image: ImageInput, region: Region) -> tuple[str, ...]:
    """Return the warnings about how an image was read, and about its crop to a region if that is visible."""
    width, height = image.pil_image.size
    if region.width >= 0.99 * width and region.height >= 0.99 * height:
        return image.notes
    return (*image.notes, "the model sees only the center of the image: the rest was cropped")


@dataclass(frozen=True)
class Preparation:
    """A way to resize images, and the functions of the model's processor.

    ``normalize`` only scales and normalizes an image of the final size. ``uncropped`` is the processor without its
    crop; None if it does not crop, or cannot do without. The blank value is 0, which normalization makes of the mean
    color, or gray for processors that do not normalize. ``domain`` is the note on images of other sizes than
    ``domain_size``, for models that know only images of one size.
    """

    resize: Resize
    process: Callable[[Image.Image], Float[Tensor, "channel height width"]]
    normalize: Callable[[Image.Image], Float[Tensor, "channel height width"]]
    resample: Image.Resampling = Image.Resampling.BICUBIC
    uncropped: Callable[[Image.Image], Float[Tensor, "channel height width"]] | None = None
    blank: float = 0.0
    domain: str = ""
    domain_size: tuple[int, int] = (0, 0)

    @float32_numbers()
    def seen(self, image: ImageInput) -> tuple[Float[Tensor, "channel height width"], Region, tuple[str, ...]]:
        """Compute the pixels of the tower's input, the part of the image that they show, and warnings."""
        picture = image.pil_image
        width, height = picture.size
        region = self.resize.region(picture.size)
        notes = crop_notes(image, region) if region.width < width or region.height < height else image.notes
        if self.domain and (width, height) != self.domain_size:
            notes = (*notes, self.domain)

        if self.resize.way == "whole":
            return self.normalize(picture.resize(self.resize.size(picture.size), self.resample)), region, notes
        if self.resize.way == "corner" and max(width, height) > _MOST_PADDED:
            raise BadInput(
                f"an image must have sides of at most {_MOST_PADDED:,} pixels for this model, whose processor pads it "
                f"to a square ({image.source!r:.300} has {width} x {height}): scale it down"
            )

        # processors resize all of an image before they crop it, which takes gigabytes for a long strip
        if max(width, height) > 8 * min(width, height):
            picture = self.resized_strip(picture)
        return self.process(picture), region, notes

    def resized_strip(self, image: Image.Image) -> Image.Image:
        """Return what the processor is given: of a long strip, a part or a smaller image of which it makes the same."""
        reduced = self.resize.reduced_size(image.size)
        if reduced is not None:
            return image.resize(reduced, self.resample)

        strip = self.resize.strip_box(image.size)
        return image if strip is None else image.crop(strip)


@dataclass(frozen=True, eq=False)
class Surroundings:
    """An image with what the model's crop leaves out, which is computed when it is first needed, and kept."""

    preparation: Preparation
    image: ImageInput

    @cached_property
    def uncropped_pixels(self) -> Float[Tensor, "channel height width"] | None:
        """The pixels of the image without the crop; None if nothing is cropped."""
        preparation = self.preparation
        resize = self.preparation.resize
        image = self.image.pil_image
        seen = resize.region(image.size)
        if preparation.uncropped is None or (seen.width >= image.width and seen.height >= image.height):
            return None

        strip = resize.strip_box(image.size, max(resize.size(image.size)))
        with float32_numbers():
            return preparation.uncropped(image.crop(strip) if strip else image)

    def pixels(self, margin: int) -> Float[Tensor, "channel height width"]:
        """Return the pixels of a cropped image in the tower's input with a margin on all sides, blank where it ends."""
        assert self.uncropped_pixels is not None
        preparation = self.preparation
        crop = preparation.resize.size(self.image.size)
        beyond = []
        for side, seen in zip((self.uncropped_pixels.shape[-1], self.uncropped_pixels.shape[-2]), crop, strict=True):
            start = (side - seen) // 2 - margin
            beyond += [-start, start + seen + 2 * margin - side]

        return F.pad(self.uncropped_pixels, beyond, value=preparation.blank)  # a negative number crops
