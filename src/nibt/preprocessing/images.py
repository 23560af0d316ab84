"""The pixels of an image, prepared with the model's processor or from the whole image."""

from collections.abc import Callable
from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from nibt.data.images import ImageInput, Region
from nibt.preprocessing.resize import Resize
from nibt.torch_modes import float32_numbers


@dataclass(frozen=True)
class Preparation:
    """A way to resize images, and the functions of the model's processor.

    Attributes:
        resize: How images are resized.
        process: The whole processor, with resizing and cropping.
        normalize: Only the scaling and normalization of an image that has its final size.
        resample: The resampling filter.
        uncropped: The processor without its crop; None if it does not crop, or cannot do without.

    """

    resize: Resize
    process: Callable[[Image.Image], Float[Tensor, "channel height width"]]
    normalize: Callable[[Image.Image], Float[Tensor, "channel height width"]]
    resample: Image.Resampling = Image.Resampling.BICUBIC
    uncropped: Callable[[Image.Image], Float[Tensor, "channel height width"]] | None = None

    @float32_numbers()
    def pixels(self, image: ImageInput) -> Float[Tensor, "channel height width"]:
        """Compute the pixels of the tower's input."""
        if self.resize.way == "whole":
            return self.normalize(image.pil_image.resize(self.resize.size(image.size), self.resample))
        strip, reduced = self.resize.strip_box(image.size), self.resize.reduced_size(image.size)
        if reduced:
            return self.process(image.pil_image.resize(reduced, self.resample))
        return self.process(image.pil_image.crop(strip) if strip else image.pil_image)

    @float32_numbers()
    def surroundings(self, image: ImageInput, margin: int) -> Float[Tensor, "channel height width"]:
        """Compute the pixels of the tower's input with a margin on all sides.

        Where the model crops the image, the margin shows what was cropped. Elsewhere it has the mean color, which is 0.
        """
        width, height = self.resize.size(image.size)
        if self.uncropped is None or not self.resize.crops(image.size):
            return F.pad(self.pixels(image), (margin,) * 4)
        strip = self.resize.strip_box(image.size, margin)
        whole = self.uncropped(image.pil_image.crop(strip) if strip else image.pil_image)
        left, top = ((own - crop) // 2 - margin for own, crop in ((whole.shape[-1], width), (whole.shape[-2], height)))
        beyond = -left, left + width + 2 * margin - whole.shape[-1], -top, top + height + 2 * margin - whole.shape[-2]
        return F.pad(whole, beyond)  # negative padding crops

    def region(self, image: ImageInput) -> Region:
        """Return the part of the original that the tower sees."""
        return self.resize.region(image.size)

    def notes(self, image: ImageInput) -> tuple[str, ...]:
        """Return the warnings about how an image was read and resized."""
        if not self.resize.cropped(image.size):
            return image.notes
        return (*image.notes, "the model sees only the center of the image: the rest was cropped")
