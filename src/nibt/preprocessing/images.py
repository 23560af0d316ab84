"""From a picture to pixels: by the model's own image processor, or whole at another size."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from PIL import Image
from torch import Tensor

from nibt.data.images import ImageInput, Region
from nibt.preprocessing.fit import Fit
from nibt.torch_modes import float32_numbers


@dataclass(frozen=True)
class Preparation:
    """A way to fit pictures and the two functions of the model's processor that do it.

    ``own`` is the whole processor, resize and crop included; ``normalise`` only scales and normalises an image
    that has its size already.
    """

    fit: Fit
    own: Callable[[Image.Image], Float[Tensor, "channel height width"]]
    normalise: Callable[[Image.Image], Float[Tensor, "channel height width"]]
    resample: Image.Resampling = Image.Resampling.BICUBIC

    @float32_numbers()
    def pixels(self, picture: ImageInput) -> Float[Tensor, "channel height width"]:
        """What the tower is given."""
        if self.fit.way == "whole":
            return self.normalise(picture.image.resize(self.fit.size(picture.size), self.resample))
        middle, shrunk = self.fit.trimmed(picture.size), self.fit.shrunk(picture.size)
        if shrunk:
            return self.own(picture.image.resize(shrunk, self.resample))
        return self.own(picture.image.crop(middle) if middle else picture.image)

    def region(self, picture: ImageInput) -> Region:
        return self.fit.region(picture.size)

    def notes(self, picture: ImageInput) -> tuple[str, ...]:
        """What the reader of a map ought to know of how the picture was fitted."""
        if not self.fit.cropped(picture.size):
            return picture.notes
        return (*picture.notes, "the model sees only the middle of the picture: the rest was cropped")
