"""Images whose pixels hold the number of a class or of an object."""

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
    """The pixels with a number in a label image, whose path is relative to the folder of the data set."""

    path: str
    number: int


class LabelFiles(LocalDataset):
    """Base class of data sets with label images."""

    @abstractmethod
    def numbers(self, pixels: np.ndarray, where: str) -> np.ndarray:
        """Return the number of each pixel, (height, width), from the pixels of a label image."""

    def read_numbers(self, path: str, size: tuple[int, int] | None, where: str) -> np.ndarray:
        """Read the number of each pixel, (height, width), from a label image, which must have the size of the image."""
        file = self.root / path
        try:
            pixels = _read_pixels(file, file.stat().st_mtime_ns)
        except (OSError, ValueError) as error:
            raise BadInput(f"{file} is missing or damaged ({error}): use the published file") from error
        if size is not None and pixels.shape[:2] != size[::-1]:
            expected, got = (" x ".join(map(str, sides)) for sides in (size, pixels.shape[1::-1]))
            raise BadInput(f"{where}: {file} must have the size of the image, {expected} (got {got})")
        return self.numbers(pixels, f"{where}: {file}")

    def mask(self, annotation: ObjectAnnotation, size: tuple[int, int], where: str) -> np.ndarray | None:
        if annotation.outline is None:
            return None
        return self.read_numbers(annotation.outline.path, size, where) == annotation.outline.number

    def content(self, item: int) -> str:
        """Return a text that identifies the content of a pair, with the label images, which annotations only name."""
        outlines = (annotation.outline for annotation in self.entries[item].annotations)
        paths = dict.fromkeys(self.root / outline.path for outline in outlines if outline is not None)
        digests = (short_digest(path) if path.is_file() else "" for path in paths)
        return f"{super().content(item)} {' '.join(digests)}"


class LabelImages(LabelFiles):
    """Base class of data sets whose objects are outlined in label images, with the numbers 0 to ``largest``."""

    @property
    def largest(self) -> int:
        return 254  # 255 marks pixels that are ignored

    def numbers(self, pixels: np.ndarray, where: str) -> np.ndarray:
        if pixels.ndim == 2:
            numbers, ignored = pixels, 255
        else:
            numbers, ignored = pixels[..., 0] + 256 * pixels[..., 1], 1000
        numbers = np.where(numbers == ignored, 0, numbers)
        if numbers.max() > self.largest:
            raise BadInput(f"{where} must have the numbers 0 to {self.largest} (got {numbers.max()})")
        return numbers


@lru_cache(maxsize=1)
def _read_pixels(path: Path, modified: int) -> np.ndarray:
    """Read the pixels of a label image. They are kept for the other objects of an image."""
    with open_image(path, str(path)) as image:
        packed = [
            rawmode for *_, rawmode in getattr(image, "tile", ()) if image.mode == "L" and rawmode in ("L;2", "L;4")
        ]
        if image.mode not in ("P", "L", "RGB", "RGBA") or packed:  # Pillow would stretch gray values of fewer bits
            raise BadInput(f"expected 8 bits per channel, got the mode {(packed or [image.mode])[0]}")
        return np.array(image).astype(int)
