"""Masks in images whose pixels hold the number of a class or of an object."""

from abc import abstractmethod
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nibt.datasets._local import LocalDataset
from nibt.datasets.base import ObjectAnnotation
from nibt.errors import BadInput
from nibt.image_files import open_image
from nibt.io import short_digest


class LabelMask(NamedTuple):
    """The pixels of a label image with one number.

    Attributes:
        path: The label image, relative to the folder of the data set, so that equal data sets have equal records.
        number: The number.

    """

    path: str
    number: int


class LabelImages(LocalDataset):
    """Base class of data sets whose objects are outlined in label images.

    Attributes:
        largest: The largest number that a pixel may have.

    """

    @property
    @abstractmethod
    def largest(self) -> int: ...

    def mask(self, annotation: ObjectAnnotation, size: tuple[int, int], where: str) -> np.ndarray | None:
        if annotation.outline is None:
            return None
        path = self.root / annotation.outline.path
        try:
            numbers = _read_numbers(path, path.stat().st_mtime_ns)
        except (OSError, ValueError) as error:
            raise BadInput(f"{path} is missing or damaged ({error}): use the published file") from error
        if numbers.shape != size[::-1]:
            expected, got = (" x ".join(map(str, sides)) for sides in (size, numbers.shape[::-1]))
            raise BadInput(f"{where}: {path} must have the size of the image, {expected} (got {got})")
        if numbers.max() > self.largest:
            raise BadInput(f"{where}: {path} must have the numbers 0 to {self.largest} (got {numbers.max()})")
        return numbers == annotation.outline.number

    def content(self, item: int) -> str:
        """Return a text that identifies the content of a pair, with the label images, which annotations only name."""
        outlines = (annotation.outline for annotation in self.entries[item].annotations)
        paths = dict.fromkeys(self.root / outline.path for outline in outlines if outline is not None)
        digests = (short_digest(path) if path.is_file() else "" for path in paths)
        return f"{super().content(item)} {' '.join(digests)}"


@lru_cache(maxsize=1)
def _read_numbers(path: Path, modified: int) -> np.ndarray:
    """Read the numbers of the pixels, with 0 for ignored ones. They are kept for the other objects of an image."""
    with open_image(path, str(path)) as image:
        if image.mode not in ("P", "L", "RGB", "RGBA"):
            raise BadInput(f"expected 8 bits per channel, got the mode {image.mode}")
        pixels = np.array(image).astype(int)
    if pixels.ndim == 2:
        return np.where(pixels == 255, 0, pixels)
    numbers = pixels[..., 0] + 256 * pixels[..., 1]
    return np.where(numbers == 1000, 0, numbers)
