"""The pixels of an image, prepared with the model's processor or from the whole image."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from nibt.data.images import ImageInput
from nibt.preprocessing.resize import Resize
from nibt.torch_modes import float32_numbers


@dataclass(frozen=True)
class Preparation:
    """A way to resize images, and the functions of the model's processor.

    ``normalize`` only scales and normalizes an image of the final size. ``uncropped`` is the processor without its
    crop; None if it does not crop, or cannot do without. The blank value is 0, which normalization makes of the mean
    color, or gray for processors that do not normalize.
    """

    resize: Resize
    process: Callable[[Image.Image], Float[Tensor, "channel height width"]]
    normalize: Callable[[Image.Image], Float[Tensor, "channel height width"]]
    resample: Image.Resampling = Image.Resampling.BICUBIC
    uncropped: Callable[[Image.Image], Float[Tensor, "channel height width"]] | None = None
    blank: float = 0.0

    @float32_numbers()
    def pixels(self, image: ImageInput) -> Float[Tensor, "channel height width"]:
        """Compute the pixels of the tower's input."""
        if self.resize.way == "whole":
            return self.normalize(image.pil_image.resize(self.resize.size(image.size), self.resample))
        strip, reduced = self.resize.strip_box(image.size), self.resize.reduced_size(image.size)
        if reduced:
            return self.process(image.pil_image.resize(reduced, self.resample))
        return self.process(image.pil_image.crop(strip) if strip else image.pil_image)

    def notes(self, image: ImageInput) -> tuple[str, ...]:
        """Return the warnings about how an image was read and resized."""
        if not self.resize.cropped(image.size):
            return image.notes
        return (*image.notes, "the model sees only the center of the image: the rest was cropped")


@dataclass(frozen=True, eq=False)
class Surroundings:
    """An image with what the model's crop leaves out, which is computed when it is first needed, and kept."""

    preparation: Preparation
    image: ImageInput

    @cached_property
    @float32_numbers()
    def uncropped_pixels(self) -> Float[Tensor, "channel height width"] | None:
        """The pixels of the image without the crop; None if nothing is cropped."""
        preparation, resize = self.preparation, self.preparation.resize
        if preparation.uncropped is None or not resize.cropped(self.image.size, 0.0):
            return None
        strip = resize.strip_box(self.image.size, max(resize.size(self.image.size)))
        return preparation.uncropped(self.image.pil_image.crop(strip) if strip else self.image.pil_image)

    def pixels(self, margin: int) -> Float[Tensor, "channel height width"] | None:
        """Return the pixels of the tower's input with a margin on all sides; None if nothing is cropped.

        Where the image ends, the margin is blank.
        """
        if self.uncropped_pixels is None:
            return None
        preparation = self.preparation
        crop = preparation.resize.size(self.image.size)
        beyond = []
        for side, seen in zip((self.uncropped_pixels.shape[-1], self.uncropped_pixels.shape[-2]), crop, strict=True):
            start = (side - seen) // 2 - margin
            beyond += [-start, start + seen + 2 * margin - side]
        return F.pad(self.uncropped_pixels, beyond, value=preparation.blank)  # a negative number crops
