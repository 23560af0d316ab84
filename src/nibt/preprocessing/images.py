"""The pixels of an image, prepared with the model's processor or from the whole image."""

from collections.abc import Callable
from dataclasses import dataclass

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

    """

    resize: Resize
    process: Callable[[Image.Image], Float[Tensor, "channel height width"]]
    normalize: Callable[[Image.Image], Float[Tensor, "channel height width"]]
    resample: Image.Resampling = Image.Resampling.BICUBIC

    @float32_numbers()
    def pixels(self, image: ImageInput) -> Float[Tensor, "channel height width"]:
        """Compute the pixels of the tower's input."""
        if self.resize.way == "whole":
            return self.normalize(image.pil_image.resize(self.resize.size(image.size), self.resample))
        strip, reduced = self.resize.strip_box(image.size), self.resize.reduced_size(image.size)
        if reduced:
            return self.process(image.pil_image.resize(reduced, self.resample))
        return self.process(image.pil_image.crop(strip) if strip else image.pil_image)

    def region(self, image: ImageInput) -> Region:
        """Return the part of the original that the tower sees."""
        return self.resize.region(image.size)

    def notes(self, image: ImageInput) -> tuple[str, ...]:
        """Return the warnings about how an image was read and resized."""
        if not self.resize.cropped(image.size):
            return image.notes
        return (*image.notes, "the model sees only the center of the image: the rest was cropped")
