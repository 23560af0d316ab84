"""From an image to pixels: by the model's own image processor, or whole at another size."""

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
    """A way to fit images and the two functions of the model's processor that do it.

    ``own`` is the whole processor, resize and crop included; ``normalise`` only scales and normalises an image
    that has its size already.
    """

    resize: Resize
    own: Callable[[Image.Image], Float[Tensor, "channel height width"]]
    normalise: Callable[[Image.Image], Float[Tensor, "channel height width"]]
    resample: Image.Resampling = Image.Resampling.BICUBIC

    @float32_numbers()
    def pixels(self, image: ImageInput) -> Float[Tensor, "channel height width"]:
        """What the tower is given."""
        if self.resize.way == "whole":
            return self.normalise(image.pil_image.resize(self.resize.size(image.size), self.resample))
        middle, shrunk = self.resize.trimmed(image.size), self.resize.shrunk(image.size)
        if shrunk:
            return self.own(image.pil_image.resize(shrunk, self.resample))
        return self.own(image.pil_image.crop(middle) if middle else image.pil_image)

    def region(self, image: ImageInput) -> Region:
        return self.resize.region(image.size)

    def notes(self, image: ImageInput) -> tuple[str, ...]:
        """What the reader of a map ought to know of how the image was fitted."""
        if not self.resize.cropped(image.size):
            return image.notes
        return (*image.notes, "the model sees only the middle of the image: the rest was cropped")
